//! Small models of all operators, with numbers that no exporter writes: each is refused in words, or becomes a graph that
//! holds together. Nothing overflows, and nothing takes long.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;

/// Every operator that is read, with its attributes: whole numbers, lists of them and texts.
const OPERATORS: &[(&str, &str)] = &[
    ("Gemm", "transA transB alpha beta"),
    ("MatMul", ""),
    ("Einsum", "equation"),
    ("Conv", "kernel_shape strides pads dilations group auto_pad"),
    ("ConvTranspose", "kernel_shape strides pads dilations group auto_pad output_padding output_shape"),
    ("MaxPool", "kernel_shape strides pads dilations auto_pad ceil_mode"),
    ("AveragePool", "kernel_shape strides pads dilations auto_pad ceil_mode count_include_pad"),
    ("GlobalAveragePool", ""),
    ("GlobalMaxPool", ""),
    ("BatchNormalization", "epsilon momentum training_mode"),
    ("LayerNormalization", "axis epsilon"),
    ("RMSNormalization", "axis epsilon"),
    ("GroupNormalization", "num_groups epsilon"),
    ("InstanceNormalization", "epsilon"),
    ("Relu", ""),
    ("Elu", "alpha"),
    ("Selu", "alpha gamma"),
    ("LeakyRelu", "alpha"),
    ("HardSigmoid", "alpha beta"),
    ("Gelu", "approximate"),
    ("PRelu", ""),
    ("Clip", "min max"),
    ("Neg", ""),
    ("Reciprocal", ""),
    ("Abs", ""),
    ("Not", ""),
    ("Add", "axis broadcast"),
    ("Sub", ""),
    ("Mul", ""),
    ("Div", ""),
    ("Pow", ""),
    ("Xor", ""),
    ("Mod", "fmod"),
    ("Equal", ""),
    ("Less", ""),
    ("Sum", ""),
    ("Mean", ""),
    ("Max", ""),
    ("Where", ""),
    ("Cast", "to"),
    ("CastLike", ""),
    ("Dropout", "ratio"),
    ("Identity", ""),
    ("ReduceSum", "axes keepdims noop_with_empty_axes"),
    ("ReduceMax", "axes keepdims noop_with_empty_axes"),
    ("ReduceMean", "axes keepdims"),
    ("ReduceLogSumExp", "axes keepdims"),
    ("ReduceProd", "axes keepdims"),
    ("ArgMax", "axis keepdims select_last_index"),
    ("CumSum", "exclusive reverse"),
    ("Softmax", "axis"),
    ("LogSoftmax", "axis"),
    ("Constant", "value_int value_ints value_float"),
    ("ConstantOfShape", ""),
    ("Shape", "start end"),
    ("Size", ""),
    ("Range", ""),
    ("Reshape", "shape allowzero"),
    ("Flatten", "axis"),
    ("Squeeze", "axes"),
    ("Unsqueeze", "axes"),
    ("Transpose", "perm"),
    ("Expand", ""),
    ("Tile", ""),
    ("DepthToSpace", "blocksize mode"),
    ("SpaceToDepth", "blocksize"),
    ("Trilu", "upper"),
    ("Concat", "axis"),
    ("Split", "axis split num_outputs"),
    ("SplitToSequence", "axis keepdims"),
    ("SequenceAt", ""),
    ("Slice", "starts ends axes"),
    ("Pad", "pads mode"),
    ("Gather", "axis"),
    ("GatherElements", "axis"),
    ("GatherND", "batch_dims"),
    ("Resize", "mode coordinate_transformation_mode nearest_mode keep_aspect_ratio_policy axes"),
    ("Upsample", "scales mode"),
    ("LSTM", "hidden_size direction layout input_forget"),
    ("GRU", "hidden_size direction layout linear_before_reset"),
    ("QuantizeLinear", "axis output_dtype block_size"),
    ("DequantizeLinear", "axis block_size"),
    ("Custom", "axis"),
];

const LISTS: [&str; 14] = [
    "kernel_shape",
    "strides",
    "pads",
    "dilations",
    "output_padding",
    "output_shape",
    "axes",
    "value_ints",
    "shape",
    "perm",
    "split",
    "starts",
    "ends",
    "scales",
];

const TEXTS: [(&str, &[&str]); 9] = [
    ("auto_pad", &["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER", "\u{1b}[2J"]),
    ("equation", &["ij,jk->ik", "bij,bkj->bik", "ij->j", "i,j->ij", "i->", "ii", "->", "bij,bjk", ","]),
    ("mode", &["DCR", "CRD", "constant", "reflect", "edge", "wrap", "nearest", "<b>"]),
    ("direction", &["forward", "reverse", "bidirectional"]),
    ("approximate", &["none", "tanh"]),
    ("coordinate_transformation_mode", &["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"]),
    ("nearest_mode", &["floor", "ceil", "round_prefer_ceil"]),
    ("keep_aspect_ratio_policy", &["stretch", "not_larger", "not_smaller"]),
    ("activations", &["Tanh"]),
];

const FLOATS: [&str; 9] = ["alpha", "beta", "gamma", "epsilon", "momentum", "min", "max", "ratio", "value_float"];

/// Numbers that break what adds and multiplies them.
const EXTREMES: [i64; 12] = [
    i64::MIN,
    i64::MIN + 1,
    i64::MAX,
    1 << 62,
    1 << 53,
    1 << 40,
    (1 << 31) + 1,
    1 << 31,
    -(1 << 31),
    1 << 20,
    1 << 16,
    1000,
];

/// Xorshift: the same numbers always.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n.max(1)
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    fn number(&mut self) -> i64 {
        if self.one_in(9) { self.of(&EXTREMES) } else { self.below(6) as i64 - 1 }
    }

    fn size(&mut self) -> i64 {
        if self.one_in(40) { self.of(&[1 << 31, 1 << 20, 4097]) } else { self.of(&[0, 1, 1, 2, 2, 3, 4, 4, 6, 8]) }
    }

    fn attribute(&mut self, name: &str) -> AttributeProto {
        let found = TEXTS.iter().find(|(of, _)| *of == name);
        let mut attribute = if let Some((_, all)) = found {
            text(name, self.of(all))
        } else if LISTS.contains(&name) {
            let n = self.below(7);
            ints(name, &(0..n).map(|_| self.number()).collect::<Vec<_>>())
        } else if FLOATS.contains(&name) {
            let f = self.of(&[0.0, 1.0, 0.5, -1.0, f32::NAN, f32::INFINITY, 1e-38, f32::MAX]);
            AttributeProto { f, ..super::attribute(name, AttributeType::Float) }
        } else {
            int(name, self.number())
        };
        match self.below(60) {
            0 => attribute.r#type = AttributeType::Graph as i32,
            1 => attribute.r#type = AttributeType::Undefined as i32,
            2 => attribute.ref_attr_name = "outer".into(),
            _ => {}
        }
        attribute
    }

    /// A tensor of a few numbers.
    fn tensor(&mut self, name: &str) -> TensorProto {
        let rank = self.of(&[0, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5]);
        let shape: Vec<usize> = (0..rank).map(|_| self.of(&[0, 1, 1, 2, 2, 3, 4, 8])).collect();
        let count: usize = shape.iter().product();
        let dtype = if self.one_in(2) { DType::I64 } else { self.of(&DType::ALL) };
        let numbers: Vec<f64> = (0..count).map(|_| self.number() as f64).collect();
        let data = crate::reference::Numbers::Real(numbers);
        named(name, &data.tensor(dtype, shape).unwrap())
    }

    fn model(&mut self) -> ModelProto {
        let inputs: Vec<String> = (0..1 + self.below(2)).map(|i| format!("x{i}")).collect();
        let input = inputs.iter().map(|name| {
            let dtype = if self.one_in(5) { self.of(&DType::ALL) } else { DType::F32 };
            let mut shape: Vec<i64> = (0..self.of(&[0, 1, 2, 2, 3, 3, 3, 4, 4, 5])).map(|_| self.size()).collect();
            if let Some(first) = shape.first_mut().filter(|_| !self.one_in(3)) {
                *first = self.of(&[-1, 1]);
            }
            value(name, dtype, &shape)
        });
        let input: Vec<ValueInfoProto> = input.collect();
        let mut names = inputs.clone();
        let initializer: Vec<TensorProto> = (0..5).map(|i| self.tensor(&format!("c{i}"))).collect();
        names.extend(initializer.iter().map(|tensor| tensor.name.clone()));
        let mut nodes = Vec::new();
        for place in 0..1 + self.below(3) {
            let (op, attributes) = self.of(OPERATORS);
            let mut node = NodeProto { op_type: op.into(), name: format!("n{place}"), ..Default::default() };
            for _ in 0..self.of(&[0, 1, 1, 2, 2, 2, 3, 3, 4, 5, 6]) {
                let known = self.below(names.len());
                node.input.push(if self.one_in(20) { String::new() } else { names[known].clone() });
            }
            node.output = (0..self.of(&[0, 1, 1, 1, 1, 1, 1, 1, 2, 3])).map(|i| format!("y{place}.{i}")).collect();
            for name in attributes.split(' ').filter(|name| !name.is_empty()) {
                let times = self.of(&[0, 0, 0, 1, 1, 1, 1, 1]);
                node.attribute.extend((0..times).map(|_| self.attribute(name)));
            }
            names.extend(node.output.iter().cloned());
            nodes.push(node);
        }
        let last = names.last().cloned().unwrap_or_default();
        let output = vec![ValueInfoProto { name: last, ..Default::default() }];
        let mut model = model(GraphProto { input, output, initializer, node: nodes, ..Default::default() });
        model.opset_import[0].version = self.of(&[6, 9, 11, 13, 17, 18, 20, 24]);
        model
    }
}

/// `NIWAKI_RANDOM_MODELS` says how many others are tried.
#[test]
fn n25_to_n30_random_models_are_refused_or_hold_together() {
    let wished = std::env::var("NIWAKI_RANDOM_MODELS").ok().and_then(|n| n.parse::<u64>().ok());
    let seeds = wished.map_or(0..4000, |n| 1_000_000..1_000_000 + n);
    let (mut read_ones, mut failed) = (0, Vec::new());
    for seed in seeds {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        dice.below(2);
        let model = dice.model();
        match catch_unwind(AssertUnwindSafe(|| read(&model))) {
            Ok(read) => read_ones += usize::from(read.is_ok()),
            Err(_) => failed.push(seed),
        }
        if let Some(seed) = failed.first() {
            let graph = model.graph.unwrap();
            panic!("{seed}: {:#?} {:#?}", graph.node, graph.input);
        }
    }
    assert!(read_ones > 300, "only {read_ones} were read, so that little was tried");
}

#[test]
fn every_operator_that_is_read_is_tried() {
    let known = |name: &str| super::super::operators::is_known("", name);
    for (name, _) in OPERATORS {
        assert!(known(name) || *name == "Custom", "{name}");
    }
}
