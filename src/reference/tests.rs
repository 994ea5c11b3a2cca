//! Whatever an operator accepts, it evaluates: random operators of all kinds on random inputs.

use std::collections::BTreeSet;

use proptest::prelude::*;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::testing::tensor;
use super::*;
use crate::graph::op::*;
use crate::seed;

struct Draw(ChaCha8Rng);

impl Draw {
    fn below(&mut self, end: usize) -> usize {
        self.0.random_range(0..end)
    }

    fn flag(&mut self) -> bool {
        self.0.random()
    }

    fn of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }

    fn shape(&mut self, rank: usize) -> Vec<usize> {
        // A size of 0 is rare.
        (0..rank).map(|_| self.of(&[1, 1, 2, 2, 3, 4, 0])).collect()
    }

    fn dims(&mut self, sizes: &[usize]) -> Vec<Dim> {
        sizes.iter().map(|n| if *n == 2 && self.flag() { Dim::Batch } else { Dim::Fixed(*n) }).collect()
    }

    fn pair(&mut self, from: usize, to: usize) -> [usize; 2] {
        [0; 2].map(|_| from + self.below(to - from))
    }

    fn dtype(&mut self) -> DType {
        if self.flag() { DType::F32 } else { self.of(&DType::ALL) }
    }

    fn tensor(&mut self, dtype: DType, shape: &[usize]) -> TensorData {
        let number = |draw: &mut Self| match draw.below(20) {
            0 => draw.of(&[f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e30]),
            _ => draw.0.random_range(-3..4) as f64 / 2.0,
        };
        let values: Vec<f64> = (0..shape.iter().product()).map(|_| number(self)).collect();
        tensor(dtype, shape, &values)
    }

    /// A shape that is broadcast to another, or one that is not.
    fn partner(&mut self, shape: &[usize]) -> Vec<usize> {
        let start = if shape.is_empty() { 0 } else { self.below(shape.len() + 1) };
        shape[start..].iter().map(|n| if self.below(4) == 0 { 1 } else { *n }).collect()
    }

    fn window(&mut self) -> Window {
        let [a, b] = self.pair(0, 2);
        let [c, d] = self.pair(0, 2);
        Window { kernel: self.pair(1, 3), stride: self.pair(1, 3), padding: [a, b, c, d], dilation: self.pair(1, 3) }
    }

    fn window1d(&mut self) -> Window1d {
        let Window { kernel, stride, dilation, .. } = self.window();
        Window1d { kernel: kernel[0], stride: stride[0], padding: self.pair(0, 2), dilation: dilation[0] }
    }
}

/// An operator with the formats and shapes of inputs that it may accept, and the shapes of its parameters.
type Case = (Op, Vec<(DType, Vec<usize>)>, Vec<Vec<usize>>);

fn case(draw: &mut Draw) -> Case {
    let rank = draw.below(5);
    let (dtype, x, axis) = (draw.dtype(), draw.shape(rank), draw.below(4));
    let (keep, flag, places) = (draw.flag(), draw.flag(), draw.of(&[DType::I32, DType::I64]));
    let plain = |op: Op| (op, vec![(dtype, x.clone())], vec![]);
    let [c, ..] = draw.pair(1, 4);
    let channels = x.get(1).copied().unwrap_or(1);
    let affine = |count: usize| vec![vec![channels]; count];
    match draw.below(40) {
        0 => {
            let inner = x.last().copied().unwrap_or(1);
            (Op::Linear, vec![(dtype, x)], if keep { vec![vec![c, inner]] } else { vec![vec![c, inner], vec![c]] })
        }
        1 => {
            let b = match x.last() {
                Some(k) if keep => vec![*k],
                Some(k) => [x[..x.len().saturating_sub(2)].to_vec(), vec![*k, c]].concat(),
                None => vec![],
            };
            (Op::MatMul, vec![(dtype, x), (dtype, b)], vec![])
        }
        2 => {
            let x = draw.shape(4);
            let z = vec![x[0], c, x[2], x[3]];
            (Op::BilinearPool(BilinearPool { mean: keep }), vec![(dtype, x), (dtype, z)], vec![])
        }
        3 => (Op::Embedding, vec![(places, x)], vec![vec![4, c]]),
        4 => {
            let [groups, out] = draw.pair(1, 3);
            let [h, w] = draw.pair(1, 5);
            let Window { kernel, stride, padding, dilation } = draw.window();
            let x = vec![draw.below(3), c * groups, h, w];
            if keep {
                let weight = vec![out * groups, c, kernel[0], kernel[1]];
                let op = Op::Conv2d(Conv2d { stride, padding, dilation, groups });
                return (op, vec![(dtype, x)], vec![weight, vec![out * groups]]);
            }
            let op = ConvTranspose2d { stride, padding, dilation, groups, output_padding: draw.pair(0, 2) };
            let weight = vec![c * groups, out, kernel[0], kernel[1]];
            (Op::ConvTranspose2d(op), vec![(dtype, x)], vec![weight])
        }
        5 => {
            let [groups, out] = draw.pair(1, 3);
            let Window1d { kernel, stride, padding, dilation } = draw.window1d();
            let x = vec![draw.below(3), c * groups, 1 + draw.below(5)];
            if keep {
                let op = Op::Conv1d(Conv1d { stride, padding, dilation, groups });
                return (op, vec![(dtype, x)], vec![vec![out * groups, c, kernel]]);
            }
            let op = ConvTranspose1d { stride, padding, dilation, groups, output_padding: draw.below(2) };
            (Op::ConvTranspose1d(op), vec![(dtype, x)], vec![vec![c * groups, out, kernel], vec![out * groups]])
        }
        6 => {
            let (x, window) = (draw.shape(4), draw.window());
            let overhang = draw.pair(0, 2);
            let op = match keep {
                true => Op::MaxPool2d(MaxPool2d { window }),
                false => Op::AvgPool2d(AvgPool2d { window, count_padding: flag, overhang }),
            };
            (op, vec![(dtype, x)], vec![])
        }
        7 => {
            let (x, window, overhang) = (draw.shape(3), draw.window1d(), draw.below(2));
            let op = match keep {
                true => Op::MaxPool1d(MaxPool1d { window }),
                false => Op::AvgPool1d(AvgPool1d { window, count_padding: flag, overhang }),
            };
            (op, vec![(dtype, x)], vec![])
        }
        8 => plain(if keep { Op::GlobalAvgPool } else { Op::GlobalMaxPool }),
        9 => (Op::BatchNorm(BatchNorm::default()), vec![(dtype, x)], affine(4)),
        10 => {
            let weight = draw.partner(&x[axis.min(x.len())..]);
            (Op::LayerNorm(LayerNorm { axis, epsilon: 1e-5 }), vec![(dtype, x)], vec![weight])
        }
        11 => {
            let weight = draw.partner(&x[axis.min(x.len())..]);
            (Op::RmsNorm(RmsNorm { axis, epsilon: 1e-5 }), vec![(dtype, x)], vec![weight])
        }
        12 => (Op::GroupNorm(GroupNorm { groups: c, epsilon: 1e-5 }), vec![(dtype, x)], affine(2)),
        13 => (Op::InstanceNorm(InstanceNorm { epsilon: 1e-5 }), vec![(dtype, x)], affine(2)),
        14 => plain(Op::Activation(draw.of(&Activation::ALL))),
        15 => {
            let slope = draw.partner(&x);
            (Op::PRelu, vec![(dtype, x)], vec![slope])
        }
        16 => plain(Op::Unary(draw.of(Unary::ALL))),
        17 | 18 => {
            let (b, other) = (draw.partner(&x), if keep { dtype } else { draw.dtype() });
            (Op::Binary(draw.of(Binary::ALL)), vec![(dtype, x), (other, b)], vec![])
        }
        19 => {
            let b = draw.partner(&x);
            (Op::Compare(draw.of(Compare::ALL)), vec![(dtype, b), (dtype, x)], vec![])
        }
        20 => plain(Op::Clip(Clip { min: keep.then_some(-0.5), max: flag.then_some(1.0) })),
        21 => {
            let (condition, b) = (draw.partner(&x), draw.partner(&x));
            (Op::Where, vec![(DType::Bool, condition), (dtype, x), (dtype, b)], vec![])
        }
        22 => plain(Op::Cast(Cast { to: draw.of(&DType::ALL) })),
        23 | 24 => {
            let axes = (0..x.len()).filter(|_| draw.flag()).collect();
            plain(Op::Reduce(Reduce { of: draw.of(Reduction::ALL), axes, keep }))
        }
        25 => plain(Op::ArgMax(ArgMax { axis, keep, smallest: flag, last: draw.flag() })),
        26 => plain(Op::CumSum(CumSum { axis, exclusive: keep, reverse: flag })),
        27 => plain(if keep { Op::Softmax(Softmax { axis }) } else { Op::LogSoftmax(Softmax { axis }) }),
        28 => {
            let shape = if keep { x.iter().rev().copied().collect() } else { vec![x.iter().product()] };
            plain(if flag { Op::Reshape(Reshape { shape: draw.dims(&shape) }) } else { Op::Flatten })
        }
        29 => {
            let mut axes: Vec<usize> = (0..x.len()).collect();
            axes.rotate_left(draw.below(x.len() + 1));
            plain(if keep { Op::Transpose(Transpose { axes }) } else { Op::Reverse(Reverse { axis }) })
        }
        30 => {
            let small = draw.partner(&x);
            (Op::Expand(Expand { shape: draw.dims(&x) }), vec![(dtype, small)], vec![])
        }
        31 => {
            let repeats = draw.shape(x.len());
            plain(Op::Tile(Tile { repeats: draw.dims(&repeats) }))
        }
        32 => {
            let block = 1 + draw.below(2);
            let [h, w] = draw.pair(0, 3);
            let x = vec![draw.below(3), c * block * block, h * block, w * block];
            let op = match keep {
                true => Op::DepthToSpace(DepthToSpace { block, channel_first: flag }),
                false => Op::SpaceToDepth(SpaceToDepth { block, channel_first: flag }),
            };
            (op, vec![(dtype, x)], vec![])
        }
        33 => {
            let fill = draw.of(&[Fill::Value(1.5), Fill::Value(f64::NAN), Fill::Reflect, Fill::Edge, Fill::Wrap]);
            let [before, after] = draw.pair(0, 6);
            plain(Op::Pad(Pad { axis, before, after, fill }))
        }
        34 => {
            let (start, end) = (draw.below(3), draw.below(5));
            let end = if end == 2 { Dim::Batch } else { Dim::Fixed(end) };
            plain(Op::Slice(Slice { axis, start: start.into(), end, step: draw.below(3) }))
        }
        35 => {
            let size = x.get(axis).copied().unwrap_or(0);
            let first = draw.below(size + 1);
            match keep {
                true => plain(Op::Split(Split { axis, sizes: vec![first.into(), (size - first).into()] })),
                false => (Op::Concat(Concat { axis }), vec![(dtype, x.clone()), (dtype, x)], vec![]),
            }
        }
        36 => match keep {
            true => plain(Op::Trilu(Trilu { upper: flag, diagonal: draw.of(&[0, -1, 1, i64::MAX, i64::MIN]) })),
            false => plain(Op::Select(Select { axis, index: draw.of(&[0, 1, -1, -2]) })),
        },
        37 => {
            let indices = if keep { draw.partner(&x) } else { draw.shape(2) };
            let op = match draw.below(3) {
                0 => Op::Gather(Gather { axis }),
                1 => {
                    return (
                        Op::GatherElements(GatherElements { axis }),
                        vec![(dtype, x.clone()), (places, x)],
                        vec![],
                    );
                }
                _ => Op::GatherNd(GatherNd { batch_axes: draw.below(2) }),
            };
            (op, vec![(dtype, x), (places, indices)], vec![])
        }
        38 => match draw.below(6) {
            4 => plain(Op::Dropout(Dropout { rate: 0.5 })),
            0 => {
                let shape: Vec<usize> = x.iter().map(|n| n * 2).collect();
                let (place, rounding) = (
                    draw.of(&[
                        Place::HalfPixel,
                        Place::HalfPixelSymmetric,
                        Place::PytorchHalfPixel,
                        Place::AlignCorners,
                    ]),
                    draw.of(&[Rounding::HalfDown, Rounding::HalfUp, Rounding::Floor, Rounding::Ceil]),
                );
                let scales = vec![2.0; x.len()];
                plain(Op::ResizeNearest(ResizeNearest { shape: draw.dims(&shape), scales, place, rounding }))
            }
            1 => (Op::Constant(Constant { dtype }), vec![], vec![x]),
            2 => plain(Op::Shape),
            3 => (Op::Range(Count { count: Dim::SEQUENCE }), vec![], vec![]),
            _ => {
                let scale = if keep { vec![] } else { vec![x.get(axis).copied().unwrap_or(1)] };
                let params = vec![scale.clone(), scale];
                match flag {
                    true => (Op::Quantize(Quantize { to: DType::I8, axis }), vec![(dtype, x)], params),
                    false => (Op::Dequantize(Dequantize { axis }), vec![(dtype, x)], params),
                }
            }
        },
        _ => {
            let direction = draw.of(&[Direction::Forward, Direction::Reverse, Direction::Both]);
            let ([steps, n], [features, hidden]) = (draw.pair(0, 3), draw.pair(1, 3));
            let d = direction.count();
            let state = vec![d, n, hidden];
            let mut inputs = vec![(dtype, vec![steps, n, features])];
            inputs.extend(keep.then(|| (places, vec![n])));
            if draw.flag() {
                let rows = 4 * hidden;
                let params =
                    vec![vec![d, rows, features], vec![d, rows, hidden], vec![d, 2 * rows], vec![d, 3 * hidden]];
                inputs.extend(vec![(dtype, state); if flag { 2 } else { 0 }]);
                return (Op::Lstm(Lstm { hidden, direction, lengths: keep, state: flag }), inputs, params);
            }
            let rows = 3 * hidden;
            let params = vec![vec![d, rows, features], vec![d, rows, hidden]];
            inputs.extend(flag.then_some((dtype, state)));
            let reset_after = draw.flag();
            (Op::Gru(Gru { hidden, direction, reset_after, lengths: keep, state: flag }), inputs, params)
        }
    }
}

/// Evaluates a random case; gives the operator's name where it was accepted.
fn check(number: u64) -> Option<&'static str> {
    let mut draw = Draw(seed::stream(number, "reference cases"));
    let (op, inputs, params) = case(&mut draw);
    let exact = draw.below(4) == 0;
    let sized = |dtype: DType| if exact && dtype.is_float() { DType::F64 } else { dtype };
    let inputs: Vec<TensorData> = inputs.iter().map(|(dtype, shape)| draw.tensor(sized(*dtype), shape)).collect();
    let params: Vec<TensorData> = params.iter().map(|shape| draw.tensor(DType::F32, shape)).collect();
    let (inputs, params): (Vec<&TensorData>, Vec<&TensorData>) = (inputs.iter().collect(), params.iter().collect());
    let sizes = Sizes { batch: 2, sequence: 3 };
    let context = Context { sizes, train: draw.flag(), exact };
    let fixed = |x: &&TensorData| {
        let shape = x.shape().iter().map(|size| Dim::Fixed(*size)).collect();
        ValueType::new(x.dtype(), shape)
    };
    let types: Vec<ValueType> = inputs.iter().map(fixed).collect();
    let shapes: Vec<&[usize]> = params.iter().map(|x| x.shape()).collect();
    let inferred = op.sized(sizes).and_then(|op| op.infer(&types.iter().collect::<Vec<_>>(), &shapes));
    let evaluated = eval(&op, &inputs, &params, &context);
    let Ok(inferred) = inferred else {
        assert!(evaluated.is_err(), "{op:?} {types:?} is evaluated and not accepted");
        return None;
    };
    let expected = |ty: &ValueType| ValueType { dtype: context.float(ty.dtype), ..ty.clone() };
    match evaluated {
        Ok(outputs) => {
            let outputs: Vec<ValueType> = outputs.iter().collect::<Vec<_>>().iter().map(fixed).collect();
            assert_eq!(outputs, inferred.iter().map(expected).collect::<Vec<_>>(), "{op:?} {types:?}");
            Some(op.name())
        }
        // These depend on the numbers.
        Err(ReferenceError::Input { .. } | ReferenceError::Op(OpError::Config { field: "place", .. })) => None,
        Err(ReferenceError::Op(OpError::Input { op: "GatherElements", .. })) => None,
        Err(error) => panic!("{op:?} {types:?} {shapes:?}: {error}"),
    }
}

proptest! {
    #[test]
    fn what_is_accepted_is_evaluated(number: u64) {
        check(number);
    }
}

/// That the test above speaks of all of them.
#[test]
fn every_operator_is_evaluated_somewhere() {
    let seen: BTreeSet<&str> = (0..20_000).filter_map(check).collect();
    let (functions, others) = (functions(), seen.difference(&functions()).copied().collect::<Vec<&str>>());
    assert!(functions.is_subset(&seen), "{:?}", functions.difference(&seen));
    // All others by hand: the operators without `Custom`, which never runs, and one of them under two names.
    assert_eq!(others.len(), 54, "{others:?}");
}

fn functions() -> BTreeSet<&'static str> {
    let unary = Unary::ALL.iter().map(|f| f.name()).chain(Binary::ALL.iter().map(|f| f.name()));
    let others = Compare::ALL.iter().map(|f| f.name()).chain(Reduction::ALL.iter().map(|f| f.op_name()));
    unary.chain(others).chain(Activation::ALL.iter().map(|f| f.name())).collect()
}

#[test]
fn what_is_unknown_does_not_run() {
    let op = Op::Custom(Custom { domain: "ai.example".into(), name: "Magic".into(), outputs: vec![] });
    let context = Context::eval(Sizes::of_batch(1));
    assert_eq!(eval(&op, &[], &[], &context).unwrap_err().to_string(), "Magic is no operator that runs");
}

#[test]
fn too_large_results_are_refused_before_they_are_made() {
    let (context, x) = (Context::eval(Sizes::of_batch(1 << 32)), tensor(DType::F32, &[1], &[1.0]));
    for op in [
        Op::Range(Count { count: Dim::Batch }),
        Op::Expand(Expand { shape: vec![Dim::Batch] }),
        Op::Pad(Pad { axis: 0, before: 1 << 39, after: 0, fill: Fill::Edge }),
    ] {
        let inputs: &[&TensorData] = if matches!(op, Op::Range(_)) { &[] } else { &[&x] };
        assert!(matches!(eval(&op, inputs, &[], &context), Err(ReferenceError::Tensor(TensorError::TooLarge { .. }))));
    }
    let (column, row) =
        (tensor(DType::U8, &[1 << 15, 1], &[0.0; 1 << 15]), tensor(DType::U8, &[1 << 15], &[0.0; 1 << 15]));
    assert!(eval(&Op::ADD, &[&column, &row], &[], &context).is_err());
}
