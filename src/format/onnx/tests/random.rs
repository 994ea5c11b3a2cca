//! Small models of all operators, with numbers that no exporter writes: each is refused in words, or becomes a graph that
//! holds together. Nothing overflows, and nothing takes long.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;

/// Operators that are read, with the inputs that they want (`x` any value, `f` a tensor, `i` whole numbers, `s` one
/// number) and their attributes.
const OPERATORS: &[(&str, &str, &str)] = &[
    ("Gemm", "xff", "transA transB alpha beta"),
    ("MatMul", "xf", ""),
    ("Einsum", "xx", "equation"),
    ("Conv", "xff", "kernel_shape strides pads dilations group auto_pad"),
    ("ConvTranspose", "xff", "kernel_shape strides pads dilations group auto_pad output_padding output_shape"),
    ("MaxPool", "x", "kernel_shape strides pads dilations auto_pad ceil_mode"),
    ("AveragePool", "x", "kernel_shape strides pads dilations auto_pad ceil_mode count_include_pad"),
    ("GlobalAveragePool", "x", ""),
    ("GlobalMaxPool", "x", ""),
    ("BatchNormalization", "xffff", "epsilon momentum training_mode"),
    ("LayerNormalization", "xff", "axis epsilon"),
    ("RMSNormalization", "xf", "axis epsilon"),
    ("GroupNormalization", "xff", "num_groups epsilon"),
    ("InstanceNormalization", "xff", "epsilon"),
    ("Relu", "x", ""),
    ("Elu", "x", "alpha"),
    ("Selu", "x", "alpha gamma"),
    ("LeakyRelu", "x", "alpha"),
    ("HardSigmoid", "x", "alpha beta"),
    ("Gelu", "x", "approximate"),
    ("PRelu", "xf", ""),
    ("Clip", "xss", "min max"),
    ("Neg", "x", ""),
    ("Reciprocal", "x", ""),
    ("Abs", "x", ""),
    ("Not", "x", ""),
    ("Add", "xf", "axis broadcast"),
    ("Sub", "xx", ""),
    ("Mul", "xf", ""),
    ("Div", "xf", ""),
    ("Pow", "xf", ""),
    ("Xor", "xx", ""),
    ("Mod", "xx", "fmod"),
    ("Equal", "xx", ""),
    ("Less", "xx", ""),
    ("Sum", "xxx", ""),
    ("Mean", "xxx", ""),
    ("Max", "xx", ""),
    ("Where", "xxx", ""),
    ("Cast", "x", "to"),
    ("CastLike", "xx", ""),
    ("Dropout", "x", "ratio"),
    ("Identity", "x", ""),
    ("ReduceSum", "xi", "axes keepdims noop_with_empty_axes"),
    ("ReduceMax", "xi", "axes keepdims noop_with_empty_axes"),
    ("ReduceMean", "x", "axes keepdims"),
    ("ReduceLogSumExp", "x", "axes keepdims"),
    ("ReduceProd", "x", "axes keepdims"),
    ("ArgMax", "x", "axis keepdims select_last_index"),
    ("CumSum", "xs", "exclusive reverse"),
    ("Softmax", "x", "axis"),
    ("LogSoftmax", "x", "axis"),
    ("Constant", "", "value_int value_ints value_float"),
    ("ConstantOfShape", "i", ""),
    ("Shape", "x", "start end"),
    ("Size", "x", ""),
    ("Range", "sss", ""),
    ("Reshape", "xi", "shape allowzero"),
    ("Flatten", "x", "axis"),
    ("Squeeze", "xi", "axes"),
    ("Unsqueeze", "xi", "axes"),
    ("Transpose", "x", "perm"),
    ("Expand", "xi", ""),
    ("Tile", "xi", ""),
    ("DepthToSpace", "x", "blocksize mode"),
    ("SpaceToDepth", "x", "blocksize"),
    ("Trilu", "xs", "upper"),
    ("Concat", "xxx", "axis"),
    ("Split", "xi", "axis split num_outputs"),
    ("SplitToSequence", "xi", "axis keepdims"),
    ("SequenceAt", "xs", ""),
    ("Slice", "xiiii", "starts ends axes"),
    ("Pad", "xis", "pads mode"),
    ("Gather", "xi", "axis"),
    ("GatherElements", "xi", "axis"),
    ("GatherND", "xi", "batch_dims"),
    ("Resize", "x f", "mode coordinate_transformation_mode nearest_mode keep_aspect_ratio_policy axes"),
    ("Upsample", "xf", "scales mode"),
    ("LSTM", "xfff iff", "hidden_size direction layout input_forget"),
    ("GRU", "xfff if", "hidden_size direction layout linear_before_reset"),
    ("QuantizeLinear", "xf", "axis output_dtype block_size"),
    ("DequantizeLinear", "xf", "axis block_size"),
    ("Custom", "xx", "axis"),
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
        if self.one_in(20) { self.of(&EXTREMES) } else { self.below(6) as i64 - 1 }
    }

    fn size(&mut self) -> i64 {
        if self.one_in(40) { self.of(&[1 << 31, 1 << 20, 4097]) } else { self.of(&[0, 1, 1, 2, 2, 2, 3, 4, 4, 4, 8]) }
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
        match self.below(100) {
            0 => attribute.r#type = AttributeType::Graph as i32,
            1 => attribute.r#type = AttributeType::Undefined as i32,
            2 => attribute.ref_attr_name = "outer".into(),
            _ => {}
        }
        attribute
    }

    /// A tensor of a few numbers.
    fn tensor(&mut self, name: &str, kind: char) -> TensorProto {
        let rank = match kind {
            'i' => 1,
            's' => 0,
            _ => self.of(&[0, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5]),
        };
        let shape: Vec<usize> = (0..rank).map(|_| self.of(&[0, 1, 1, 2, 2, 2, 4, 4, 4, 8])).collect();
        let count: usize = shape.iter().product();
        let dtype = match kind {
            _ if self.one_in(10) => self.of(&DType::ALL),
            'f' => DType::F32,
            _ => DType::I64,
        };
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
        let mut initializer = vec![self.tensor("c0", 'f'), self.tensor("c1", 'i')];
        names.extend(["c0", "c1"].map(String::from));
        let mut nodes = Vec::new();
        for place in 0..1 + self.below(3) {
            let (op, wanted, attributes) = self.of(OPERATORS);
            let mut node = NodeProto { op_type: op.into(), name: format!("n{place}"), ..Default::default() };
            let mut wanted = wanted.to_string();
            if self.one_in(6) {
                wanted = (0..self.below(7)).map(|_| self.of(&['x', 'f', 'i', 's', ' '])).collect();
            } else if !wanted.is_empty() {
                let most = wanted.len();
                wanted.truncate(if self.one_in(2) { most } else { 1 + self.below(most) });
            }
            for kind in wanted.chars() {
                let known = self.below(names.len());
                node.input.push(match kind {
                    ' ' => String::new(),
                    'x' => names[known].clone(),
                    kind => {
                        let name = format!("c{}", 2 + initializer.len());
                        initializer.push(self.tensor(&name, kind));
                        name
                    }
                });
            }
            node.output =
                (0..self.of(&[0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 3])).map(|i| format!("y{place}.{i}")).collect();
            for name in attributes.split(' ').filter(|name| !name.is_empty()) {
                let times = self.of(&[0, 0, 1, 0, 1]);
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
    println!("{read_ones} were read");
    assert!(read_ones > 300, "only {read_ones} were read, so that little was tried");
}

/// The same with some bytes of the file changed.
#[test]
fn n19_random_models_with_other_bytes_are_refused_or_hold_together() {
    let wished = std::env::var("NIWAKI_RANDOM_MODELS").ok().and_then(|n| n.parse::<u64>().ok());
    for seed in 0..wished.unwrap_or(2000) {
        let mut dice = Dice(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) | 1);
        dice.below(2);
        let mut file = dice.model().encode_to_vec();
        for _ in 0..1 + dice.below(4) {
            let place = dice.below(file.len());
            file[place] = {
                let any = dice.0 as u8;
                dice.of(&[0, 1, 2, 4, 0x7f, 0x80, 0xff, any])
            };
        }
        let shown = file.clone();
        if catch_unwind(AssertUnwindSafe(|| read_bytes(file))).is_err() {
            panic!("{seed}: {shown:?}");
        }
    }
}

#[test]
fn every_operator_that_is_read_is_tried() {
    let known = |name: &str| super::super::operators::is_known("", name);
    for (name, _, _) in OPERATORS {
        assert!(known(name) || *name == "Custom", "{name}");
    }
}
