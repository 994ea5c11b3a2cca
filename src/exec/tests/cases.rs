//! A small example of every operator, for each of its options.

use std::fmt;

use proptest::prelude::*;

use super::numbers;
use crate::graph::op::*;
use crate::tensor::{DType, TensorData};

/// An input or a parameter of a case.
#[derive(Clone)]
pub(super) enum Arg {
    /// Learned numbers between two bounds.
    Numbers { shape: Vec<usize>, low: f32, high: f32 },
    /// Numbers with open axes.
    Open(&'static [&'static str]),
    /// What has no gradient.
    Plain(TensorData),
}

/// One operator with its inputs and parameters.
pub(super) struct Case {
    pub(super) op: Op,
    pub(super) inputs: Vec<Arg>,
    pub(super) params: Vec<Arg>,
    /// Whether the learned numbers have a gradient; where not, it must be zero.
    pub(super) has_gradient: bool,
}

impl Arg {
    pub(super) fn numbers(&self, seed: u64) -> TensorData {
        let Arg::Numbers { shape, low, high } = self else { panic!("no numbers") };
        let values = numbers(shape.iter().product(), 900 + seed);
        let values: Vec<f32> = values.into_iter().map(|v| low + (v + 1.0) / 2.0 * (high - low)).collect();
        TensorData::from_f32(shape.clone(), &values).unwrap()
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.op.name(), self.op.attributes())
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shape = |arg: &Arg| match arg {
            Arg::Numbers { shape, .. } => format!("{shape:?}"),
            Arg::Open(dims) => format!("{dims:?}"),
            Arg::Plain(data) => format!("{data:?}"),
        };
        let shapes = |args: &[Arg]| args.iter().map(shape).collect::<Vec<_>>().join(", ");
        write!(f, "{self} of {} with {}", shapes(&self.inputs), shapes(&self.params))
    }
}

impl Case {
    fn params(mut self, params: &[Arg]) -> Self {
        self.params = params.to_vec();
        self
    }

    fn flat(mut self) -> Self {
        self.has_gradient = false;
        self
    }
}

fn case(op: Op, inputs: &[Arg]) -> Case {
    Case { op, inputs: inputs.to_vec(), params: Vec::new(), has_gradient: true }
}

fn within(shape: &[usize], low: f32, high: f32) -> Arg {
    Arg::Numbers { shape: shape.to_vec(), low, high }
}

/// Numbers on both sides of zero.
fn x(shape: &[usize]) -> Arg {
    within(shape, -2.0, 2.0)
}

fn positive(shape: &[usize]) -> Arg {
    within(shape, 0.3, 2.0)
}

fn places(shape: &[usize], values: &[i64]) -> Arg {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    Arg::Plain(TensorData::new(DType::I64, shape.to_vec(), bytes).unwrap())
}

fn small_places(shape: &[usize], values: &[i32]) -> Arg {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    Arg::Plain(TensorData::new(DType::I32, shape.to_vec(), bytes).unwrap())
}

fn bytes(dtype: DType, shape: &[usize], values: &[u8]) -> Arg {
    Arg::Plain(TensorData::new(dtype, shape.to_vec(), values.to_vec()).unwrap())
}

fn truths(shape: &[usize], values: &[u8]) -> Arg {
    bytes(DType::Bool, shape, values)
}

pub(super) fn all() -> Vec<Case> {
    let families = [elementwise, reductions, shapes, moves, products, convolutions, pools, norms, recurrent, plain];
    families.iter().flat_map(|family| family()).collect()
}

fn elementwise() -> Vec<Case> {
    let mut cases: Vec<Case> = Activation::ALL.iter().map(|a| case(Op::Activation(*a), &[x(&[3, 7])])).collect();
    for unary in Unary::ALL {
        let op = Op::Unary(*unary);
        cases.push(match unary {
            Unary::Not => case(op, &[truths(&[3], &[0, 1, 0])]).flat(),
            Unary::Sqrt | Unary::Log | Unary::Reciprocal => case(op, &[positive(&[3, 7])]),
            Unary::IsNaN | Unary::Ceil | Unary::Floor | Unary::Round | Unary::Sign => case(op, &[x(&[3, 7])]).flat(),
            _ => case(op, &[x(&[3, 7])]),
        });
    }
    let shapes: [[&[usize]; 2]; 6] = [
        [&[2, 3], &[2, 3]],
        [&[2, 3], &[3]],
        [&[2, 3, 4], &[3, 1]],
        [&[], &[2, 3]],
        [&[2, 1, 3], &[4, 1]],
        [&[1], &[]],
    ];
    for binary in Binary::ALL {
        let op = Op::Binary(*binary);
        if matches!(binary, Binary::And | Binary::Or | Binary::Xor) {
            cases.push(case(op, &[truths(&[4], &[0, 0, 1, 1]), truths(&[1, 4], &[0, 1, 0, 1])]).flat());
            continue;
        }
        cases.push(case(op.clone(), &[places(&[4], &[7, -7, 6, 2]), places(&[4], &[2, 2, 3, 1])]).flat());
        for [a, b] in shapes {
            let both = match binary {
                Binary::Pow => [positive(a), x(b)],
                Binary::Div => [x(a), positive(b)],
                // So that no quotient is a whole number.
                Binary::Mod | Binary::Fmod => [within(a, -2.0, 2.0), within(b, 0.7, 1.9)],
                _ => [x(a), x(b)],
            };
            cases.push(case(op.clone(), &both));
        }
    }
    cases.push(case(Op::Binary(Binary::Pow), &[x(&[2, 3]), places(&[3], &[2, 3, 0])]));
    cases.push(case(Op::Binary(Binary::Pow), &[x(&[2, 3]), small_places(&[], &[2])]));
    for (min, max) in [(Some(-0.5), Some(0.5)), (None, Some(0.2)), (Some(-1.0), None), (None, None)] {
        cases.push(case(Op::Clip(Clip { min, max }), &[x(&[3, 7])]));
    }
    cases.push(case(Op::Where, &[truths(&[2, 3], &[1, 0, 0, 1, 1, 0]), x(&[2, 3]), x(&[3])]));
    cases.push(case(Op::Where, &[truths(&[3, 1], &[1, 0, 1]), x(&[]), x(&[2, 1, 4])]));
    cases.push(case(Op::Where, &[truths(&[2], &[1, 0]), places(&[2], &[1, 2]), places(&[], &[7])]).flat());
    for slope in [vec![], vec![1], vec![4], vec![3, 1], vec![2, 3, 4]] {
        cases.push(case(Op::PRelu, &[x(&[2, 3, 4])]).params(&[x(&slope)]));
    }
    for to in [DType::F32, DType::F64] {
        cases.push(case(Op::Cast(Cast { to }), &[x(&[2, 3])]));
        cases.push(case(Op::Cast(Cast { to }), &[places(&[2], &[-3, 1 << 20])]).flat());
    }
    cases.push(case(Op::Dropout(Dropout { rate: 0.0 }), &[x(&[2, 3])]));
    cases
}

fn reductions() -> Vec<Case> {
    let mut cases = Vec::new();
    let axes: [&[usize]; 7] = [&[], &[0], &[1], &[2], &[0, 2], &[1, 2], &[0, 1, 2]];
    for of in Reduction::ALL {
        for axes in axes {
            for keep in [false, true] {
                let op = Op::Reduce(Reduce { of: *of, axes: axes.to_vec(), keep });
                let logarithm = *of == Reduction::LogSum;
                cases.push(case(op, &[if logarithm { positive(&[2, 3, 4]) } else { x(&[2, 3, 4]) }]));
            }
        }
    }
    for axis in 0..3 {
        cases.push(case(Op::Softmax(Softmax { axis }), &[x(&[2, 3, 4])]));
        cases.push(case(Op::LogSoftmax(Softmax { axis }), &[x(&[2, 3, 4])]));
        for (exclusive, reverse) in [(false, false), (false, true), (true, false), (true, true)] {
            cases.push(case(Op::CumSum(CumSum { axis, exclusive, reverse }), &[x(&[2, 3, 4])]));
        }
    }
    cases
}

fn shapes() -> Vec<Case> {
    let dims = |dims: &[&str]| dims.iter().map(|dim| dim.parse().unwrap()).collect::<Vec<_>>();
    let open = Arg::Open(&["N", "S", "4"]);
    vec![
        case(Op::Reshape(Reshape { shape: dims(&["4", "6"]) }), &[x(&[2, 3, 4])]),
        case(Op::Reshape(Reshape { shape: dims(&["NS", "2", "2"]) }), std::slice::from_ref(&open)),
        case(Op::Flatten, &[x(&[2, 3, 4])]),
        case(Op::Transpose(Transpose { axes: vec![2, 0, 1] }), &[x(&[2, 3, 4])]),
        case(Op::Transpose(Transpose { axes: vec![0, 2, 1] }), std::slice::from_ref(&open)),
        case(Op::Expand(Expand { shape: dims(&["2", "3", "4"]) }), &[x(&[3, 1])]),
        case(Op::Expand(Expand { shape: dims(&["N", "S", "4"]) }), &[x(&[4])]),
        case(Op::Tile(Tile { repeats: dims(&["2", "1", "3"]) }), &[x(&[2, 3, 2])]),
        case(Op::Tile(Tile { repeats: dims(&["N", "S"]) }), &[x(&[1, 2])]),
        case(Op::Concat(Concat { axis: 1 }), &[x(&[2, 3, 2]), x(&[2, 1, 2]), x(&[2, 2, 2])]),
        case(Op::Concat(Concat { axis: 0 }), &[x(&[2, 3])]),
        case(Op::Concat(Concat { axis: 1 }), &[open.clone(), Arg::Open(&["N", "2", "4"])]),
        case(Op::Concat(Concat { axis: 0 }), &[places(&[2], &[1, 2]), places(&[1], &[3])]).flat(),
        case(Op::Split(Split { axis: 1, sizes: dims(&["1", "2", "3"]) }), &[x(&[2, 6, 2])]),
        case(Op::Split(Split { axis: 1, sizes: dims(&["1", "S-1"]) }), &[open]),
        case(Op::Split(Split { axis: 0, sizes: dims(&["1", "2"]) }), &[places(&[3], &[1, 2, 3])]).flat(),
    ]
}

fn moves() -> Vec<Case> {
    let mut cases = Vec::new();
    for channel_first in [false, true] {
        cases.push(case(Op::DepthToSpace(DepthToSpace { block: 2, channel_first }), &[x(&[2, 8, 1, 3])]));
        cases.push(case(Op::SpaceToDepth(SpaceToDepth { block: 2, channel_first }), &[x(&[2, 2, 2, 4])]));
    }
    for fill in [Fill::Value(0.0), Fill::Value(-1.5), Fill::Reflect, Fill::Edge, Fill::Wrap] {
        cases.push(case(Op::Pad(Pad { axis: 1, before: 2, after: 1, fill }), &[x(&[2, 3, 2])]));
        cases.push(case(Op::Pad(Pad { axis: 2, before: 0, after: 1, fill }), &[x(&[2, 3, 2])]));
    }
    let last = Slice { axis: 1, start: "S-1".parse().unwrap(), end: "S".parse().unwrap(), step: 1 };
    cases.push(case(Op::Slice(last), &[Arg::Open(&["N", "S", "2"])]));
    cases.push(case(Op::Slice(Slice::places(1, 1, 5, 2)), &[x(&[2, 6, 2])]));
    cases.push(case(Op::Slice(Slice::places(0, 0, 1, 1)), &[x(&[2, 3])]));
    cases.push(case(Op::Reverse(Reverse { axis: 1 }), &[x(&[2, 3, 2])]));
    for (upper, diagonal) in [(true, 0), (false, 0), (true, -1), (false, 1)] {
        cases.push(case(Op::Trilu(Trilu { upper, diagonal }), &[x(&[2, 3, 4])]));
    }
    cases.push(case(Op::Gather(Gather { axis: 1 }), &[x(&[2, 3, 2]), places(&[2, 2], &[0, -1, 2, 0])]));
    cases.push(case(Op::Gather(Gather { axis: 0 }), &[x(&[3, 2]), small_places(&[], &[1])]));
    cases.push(case(Op::Gather(Gather { axis: 0 }), &[places(&[3], &[5, 6, 7]), places(&[1], &[-1])]).flat());
    cases.push(case(Op::Select(Select { axis: 1, index: -2 }), &[x(&[2, 3, 2])]));
    let elements = places(&[2, 2], &[0, 2, 1, -3]);
    cases.push(case(Op::GatherElements(GatherElements { axis: 1 }), &[x(&[2, 3]), elements]));
    cases.push(case(Op::GatherNd(GatherNd { batch_axes: 0 }), &[x(&[2, 3, 2]), places(&[3, 2], &[0, 1, 1, 2, 0, 1])]));
    cases.push(case(Op::GatherNd(GatherNd { batch_axes: 1 }), &[x(&[2, 3, 2]), places(&[2, 1], &[1, -1])]));
    cases.push(case(Op::Embedding, &[places(&[2, 3], &[0, 3, 3, 1, 0, 3])]).params(&[x(&[4, 5])]));
    let nearest =
        [Place::HalfPixel, Place::HalfPixelSymmetric, Place::PytorchHalfPixel, Place::AlignCorners, Place::Asymmetric];
    for place in nearest {
        for rounding in [Rounding::HalfDown, Rounding::HalfUp, Rounding::Floor, Rounding::Ceil] {
            let shape = vec![1.into(), 2.into(), 6.into(), 2.into()];
            let resize = ResizeNearest { shape, scales: vec![1.0, 1.0, 2.0, 0.5], place, rounding };
            cases.push(case(Op::ResizeNearest(resize), &[x(&[1, 2, 3, 4])]));
        }
    }
    cases
}

fn products() -> Vec<Case> {
    let mut cases = Vec::new();
    let pairs: [[&[usize]; 2]; 10] = [
        [&[2, 3], &[3, 4]],
        [&[3], &[3]],
        [&[3], &[3, 2]],
        [&[2, 3], &[3]],
        [&[2, 2, 3], &[3, 4]],
        [&[2, 2, 3], &[2, 3, 4]],
        [&[2, 1, 2, 3], &[3, 3, 2]],
        [&[2, 3], &[4, 3, 2]],
        [&[2, 2, 3], &[3]],
        [&[3], &[2, 3, 2]],
    ];
    for [a, b] in pairs {
        cases.push(case(Op::MatMul, &[x(a), x(b)]));
    }
    for shape in [&[2, 3][..], &[3], &[2, 2, 3]] {
        cases.push(case(Op::Linear, &[x(shape)]).params(&[x(&[4, 3])]));
        cases.push(case(Op::Linear, &[x(shape)]).params(&[x(&[4, 3]), x(&[4])]));
    }
    cases.push(case(Op::Linear, &[Arg::Open(&["N", "S", "3"])]).params(&[x(&[2, 3]), x(&[2])]));
    for mean in [false, true] {
        cases.push(case(Op::BilinearPool(BilinearPool { mean }), &[x(&[2, 3, 2, 2]), x(&[2, 2, 2, 2])]));
    }
    cases
}

fn convolutions() -> Vec<Case> {
    let mut cases = Vec::new();
    let wide = Conv2d { stride: [2, 1], padding: [1, 0, 2, 1], dilation: [1, 2], groups: 1 };
    for (config, inner) in [(wide, 4), (Conv2d { groups: 2, ..wide }, 2), (Conv2d::default(), 4)] {
        let weight = x(&[2, inner, 2, 2]);
        cases.push(case(Op::Conv2d(config), &[x(&[2, 4, 4, 3])]).params(std::slice::from_ref(&weight)));
        cases.push(case(Op::Conv2d(config), &[x(&[2, 4, 4, 3])]).params(&[weight, x(&[2])]));
    }
    let wide = Conv1d { stride: 2, padding: [1, 0], dilation: 2, groups: 2 };
    for config in [wide, Conv1d { stride: 1, ..wide }] {
        cases.push(case(Op::Conv1d(config), &[x(&[2, 4, 6])]).params(&[x(&[2, 2, 2])]));
        cases.push(case(Op::Conv1d(config), &[x(&[2, 4, 6])]).params(&[x(&[2, 2, 2]), x(&[2])]));
    }
    cases.push(case(Op::Conv1d(Conv1d { stride: 1, ..wide }), &[Arg::Open(&["N", "4", "S"])]).params(&[x(&[2, 2, 2])]));
    let plain =
        ConvTranspose2d { stride: [1; 2], padding: [0; 4], dilation: [1; 2], groups: 1, output_padding: [0; 2] };
    let wide =
        ConvTranspose2d { stride: [2, 3], padding: [1, 0, 0, 1], dilation: [2, 1], groups: 2, output_padding: [1, 2] };
    // More output padding than the stride, which a dilation allows.
    let wider = ConvTranspose2d { stride: [1, 1], dilation: [3, 3], groups: 2, output_padding: [2, 1], ..plain };
    for config in [plain, wide, wider] {
        let weight = x(&[4, 3, 2, 2]);
        cases.push(case(Op::ConvTranspose2d(config), &[x(&[2, 4, 2, 3])]).params(std::slice::from_ref(&weight)));
        let bias = x(&[3 * config.groups]);
        cases.push(case(Op::ConvTranspose2d(config), &[x(&[2, 4, 2, 3])]).params(&[weight, bias]));
    }
    let config = ConvTranspose1d { stride: 2, padding: [1, 0], dilation: 2, groups: 2, output_padding: 1 };
    cases.push(case(Op::ConvTranspose1d(config), &[x(&[2, 4, 3])]).params(&[x(&[4, 1, 3])]));
    cases.push(case(Op::ConvTranspose1d(config), &[x(&[2, 4, 3])]).params(&[x(&[4, 1, 3]), x(&[2])]));
    cases
}

fn pools() -> Vec<Case> {
    let window = Window { kernel: [2, 3], stride: [2, 2], padding: [1, 1, 1, 2], dilation: [1, 1] };
    let line = Window1d { kernel: 3, stride: 2, padding: [1, 2], dilation: 1 };
    let mut cases = vec![
        case(Op::MaxPool2d(MaxPool2d { window }), &[x(&[2, 2, 3, 4])]),
        case(Op::MaxPool2d(MaxPool2d { window: Window { dilation: [2, 1], ..window } }), &[x(&[2, 2, 3, 4])]),
        case(Op::MaxPool1d(MaxPool1d { window: line }), &[x(&[2, 2, 5])]),
    ];
    for count_padding in [false, true] {
        for overhang in [[0, 0], [1, 1], [0, 2]] {
            cases.push(case(Op::AvgPool2d(AvgPool2d { window, count_padding, overhang }), &[x(&[2, 2, 3, 4])]));
            let config = AvgPool1d { window: line, count_padding, overhang: overhang[1] };
            cases.push(case(Op::AvgPool1d(config), &[x(&[2, 2, 5])]));
        }
    }
    for shape in [&[2, 3, 4][..], &[2, 3, 2, 3], &[2, 3, 1, 2, 2]] {
        cases.push(case(Op::GlobalAvgPool, &[x(shape)]));
        cases.push(case(Op::GlobalMaxPool, &[x(shape)]));
    }
    cases
}

fn norms() -> Vec<Case> {
    let (mut cases, epsilon) = (Vec::new(), 1e-3);
    for shape in [&[4, 3][..], &[2, 3, 4], &[2, 3, 2, 2], &[2, 3, 1, 2, 2]] {
        let params = [x(&[3]), x(&[3]), x(&[3]), positive(&[3])];
        cases.push(case(Op::BatchNorm(BatchNorm { epsilon, momentum: 0.1 }), &[x(shape)]).params(&params));
    }
    for (axis, own) in [(1, vec![3, 4]), (2, vec![4]), (1, vec![3, 1]), (1, vec![4]), (0, vec![2, 3, 4]), (1, vec![])] {
        let op = Op::LayerNorm(LayerNorm { axis, epsilon });
        cases.push(case(op.clone(), &[x(&[2, 3, 4])]).params(&[x(&own)]));
        cases.push(case(op, &[x(&[2, 3, 4])]).params(&[x(&own), x(&own)]));
        cases.push(case(Op::RmsNorm(RmsNorm { axis, epsilon }), &[x(&[2, 3, 4])]).params(&[x(&own)]));
    }
    let op = Op::LayerNorm(LayerNorm { axis: 2, epsilon });
    cases.push(case(op, &[Arg::Open(&["N", "S", "4"])]).params(&[x(&[4]), x(&[4])]));
    for shape in [&[3, 4, 2][..], &[3, 4, 2, 2], &[3, 4, 5]] {
        let params = [x(&[4]), x(&[4])];
        for groups in [1, 2] {
            cases.push(case(Op::GroupNorm(GroupNorm { groups, epsilon }), &[x(shape)]).params(&params));
        }
        cases.push(case(Op::InstanceNorm(InstanceNorm { epsilon }), &[x(shape)]).params(&params));
    }
    cases
}

fn recurrent() -> Vec<Case> {
    let mut cases = Vec::new();
    let (steps, n, inner, hidden) = (4, 3, 2, 3);
    for direction in [Direction::Forward, Direction::Reverse, Direction::Both] {
        for (lengths, state) in [(false, false), (true, false), (false, true), (true, true)] {
            let d = direction.count();
            let mut inputs = vec![x(&[steps, n, inner])];
            if lengths {
                inputs.push(small_places(&[n], &[2, 4, 1]));
            }
            let (lstm, gru) = (Lstm { hidden, direction, lengths, state }, |reset_after| {
                Op::Gru(Gru { hidden, direction, reset_after, lengths, state })
            });
            let weights = |gates: usize| {
                vec![x(&[d, gates * hidden, inner]), x(&[d, gates * hidden, hidden]), x(&[d, 2 * gates * hidden])]
            };
            let states = |count: usize| vec![x(&[d, n, hidden]); if state { count } else { 0 }];
            let own = [inputs.clone(), states(2)].concat();
            cases.push(case(Op::Lstm(lstm), &own).params(&weights(4)[..2]));
            cases.push(case(Op::Lstm(lstm), &own).params(&[weights(4), vec![x(&[d, 3 * hidden])]].concat()));
            for reset_after in [false, true] {
                let own = [inputs.clone(), states(1)].concat();
                cases.push(case(gru(reset_after), &own).params(&weights(3)[..2]));
                cases.push(case(gru(reset_after), &own).params(&weights(3)));
            }
        }
    }
    cases
}

/// What gives no floating point numbers, or has no gradient for other reasons.
fn plain() -> Vec<Case> {
    let mut cases = Vec::new();
    for compare in Compare::ALL {
        cases.push(case(Op::Compare(*compare), &[x(&[2, 3]), x(&[3])]).flat());
        cases.push(case(Op::Compare(*compare), &[places(&[3], &[1, 2, 3]), places(&[3], &[2, 2, 2])]).flat());
    }
    for (keep, smallest, last) in [(false, false, false), (true, true, true)] {
        cases.push(case(Op::ArgMax(ArgMax { axis: 1, keep, smallest, last }), &[x(&[2, 3, 4])]).flat());
    }
    cases.push(case(Op::Shape, &[Arg::Open(&["N", "S", "4"])]).flat());
    cases.push(case(Op::Range(Count { count: "S+2".parse().unwrap() }), &[]).flat());
    cases.push(case(Op::Cast(Cast { to: DType::I64 }), &[x(&[2, 3])]).flat());
    cases.push(case(Op::Constant(Constant { dtype: DType::F32 }), &[]).params(&[x(&[2, 3])]));
    cases.push(case(Op::Constant(Constant { dtype: DType::I64 }), &[]).params(&[places(&[2], &[4, 5])]).flat());
    let scale = Arg::Plain(TensorData::from_f32(vec![3], &[0.1, 0.2, 0.3]).unwrap());
    let zeros = bytes(DType::U8, &[3], &[128, 100, 0]);
    let quantize = Op::Quantize(Quantize { to: DType::U8, axis: 1 });
    cases.push(case(quantize, &[x(&[2, 3])]).params(&[scale.clone(), zeros.clone()]).flat());
    let codes = bytes(DType::U8, &[2, 3], &[0, 100, 255, 7, 8, 9]);
    cases.push(case(Op::Dequantize(Dequantize { axis: 1 }), &[codes]).params(&[scale, zeros]).flat());
    cases
}

/// Random ones of the operators whose sizes have the most to say.
pub(super) fn random() -> impl Strategy<Value = Case> {
    let sizes = prop::collection::vec(1usize..4, 4);
    let flags = prop::collection::vec(any::<bool>(), 8);
    (0usize..10, sizes, flags, prop::collection::vec(0usize..3, 8)).prop_map(|(which, sizes, flags, small)| {
        let shape = &sizes[..1 + small[0]];
        let some = |first: usize| -> Vec<usize> {
            shape.iter().zip(&flags[first..]).map(|(n, keep)| if *keep { *n } else { 1 }).collect()
        };
        let axis = small[1] % shape.len();
        match which {
            0 | 1 => {
                let functions = [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Max];
                let function = functions[(small[2] + 2 * which) % 5];
                let b = some(4)[small[3] % shape.len()..].to_vec();
                case(Op::Binary(function), &[x(&some(0)), positive(&b)])
            }
            2 | 3 => {
                let axes = (0..shape.len()).filter(|axis| flags[*axis]).collect();
                let of = Reduction::ALL[(small[2] * 3 + small[3]) % Reduction::ALL.len()];
                case(Op::Reduce(Reduce { of, axes, keep: flags[7] }), &[positive(shape)])
            }
            4 => case(Op::Softmax(Softmax { axis }), &[x(shape)]),
            5 => {
                let [m, k, n, b] = sizes[..] else { unreachable!() };
                let before = |keep: bool| if keep { b } else { 1 };
                case(Op::MatMul, &[x(&[before(flags[0]), m, k]), x(&[before(flags[1]), k, n][usize::from(flags[2])..])])
            }
            6 => {
                let mut axes: Vec<usize> = (0..shape.len()).collect();
                axes.rotate_left(small[2] % shape.len());
                axes.swap(0, axis);
                case(Op::Transpose(Transpose { axes }), &[x(shape)])
            }
            7 => {
                let parts: Vec<Arg> = (1..2 + small[2])
                    .map(|n| {
                        let mut shape = shape.to_vec();
                        shape[axis] = n;
                        x(&shape)
                    })
                    .collect();
                case(Op::Concat(Concat { axis }), &parts)
            }
            8 => {
                let padding = [small[0], small[1], small[2], small[3]];
                let config =
                    Conv2d { stride: [sizes[0], sizes[1]], padding, dilation: [sizes[2].min(2), 1], groups: 1 };
                let weight = x(&[2, 1, 1 + small[4], 1 + small[5]]);
                case(Op::Conv2d(config), &[x(&[2, 1, 5, 4])]).params(&[weight, x(&[2])])
            }
            _ => {
                let config = ConvTranspose2d {
                    stride: [sizes[0], sizes[1]],
                    padding: [small[0].min(1), 0, small[1].min(1), small[2].min(1)],
                    dilation: [sizes[2], sizes[3]],
                    groups: 1 + usize::from(flags[0]),
                    output_padding: [usize::from(flags[1] && sizes[0] > 1), usize::from(flags[2] && sizes[3] > 1)],
                };
                let weight = x(&[2, 2, 1 + small[4].max(1), 1 + small[5]]);
                let bias = x(&[2 * config.groups]);
                case(Op::ConvTranspose2d(config), &[x(&[2, 2, 2, 3])]).params(&[weight, bias])
            }
        }
    })
}
