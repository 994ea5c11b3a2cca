//! What is written is read back as the same graph: every operator, those among them that the written version of ONNX does
//! not have.

use crate::format::onnx::*;
use crate::graph::op::*;
use crate::graph::{Dim, Graph, Op, ValueType};
use crate::tensor::DType;

/// Runtimes refuse a file with two nodes of one name.
#[test]
fn every_node_that_is_written_has_a_name_of_its_own() {
    use crate::graph::builder::GraphBuilder;
    for activations in [DType::F32, DType::F16, DType::BF16] {
        // The output, which a cast follows, has the name of its node; another node is called as a part would be.
        let builder = GraphBuilder::new("named", &[4]).linear("y.1", 3).activation("gelu", Activation::Gelu);
        let mut graph = builder.op("y", Op::Softmax(Softmax { axis: 1 }), &[]).build().unwrap();
        let mut edit = graph.edit();
        edit.set_activations(activations);
        edit.commit().unwrap();
        let file = export(&graph, &Tensors::Inside).unwrap();
        let nodes = super::super::decode::decode(file.into()).unwrap().graph.unwrap().node;
        let names: std::collections::HashSet<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names.len(), nodes.len(), "{activations}: {nodes:?}");
    }
}

/// A graph of one node; parameters have numbers that differ.
fn single(op: Op, inputs: &[ValueType], params: &[&[usize]]) -> Graph {
    let mut graph = Graph::new("single");
    let mut edit = graph.edit();
    let inputs: Vec<_> =
        inputs.iter().zip(["x", "y", "z", "w"]).map(|(ty, n)| edit.add_input_of(n, ty.clone())).collect();
    let roles = op.roles().0;
    let params: Vec<_> = params
        .iter()
        .zip(roles)
        .map(|(shape, role)| {
            let name = format!("node.{role}");
            match *role {
                "zero_point" => edit.add_fixed_param(&name, TensorData::new(DType::I8, vec![], vec![3]).unwrap()),
                _ => {
                    let count = shape.iter().product::<usize>();
                    let values: Vec<f32> = (0..count).map(|i| 0.5 + (i % 7) as f32 / 8.0).collect();
                    let data = TensorData::from_f32(shape.to_vec(), &values).unwrap();
                    if *role == "scale" { edit.add_fixed_param(&name, data) } else { edit.add_param(&name, data) }
                }
            }
        })
        .collect();
    let types: Vec<&ValueType> = inputs.iter().map(|id| &edit.graph().value(*id).ty).collect();
    let shapes: Vec<&[usize]> = params.iter().map(|id| edit.graph().param(*id).data.shape()).collect();
    let count = op.infer(&types, &shapes).unwrap_or_else(|error| panic!("{op:?}: {error}")).len();
    let names: Vec<String> =
        if count == 1 { vec!["node".into()] } else { (0..count).map(|i| format!("node.{i}")).collect() };
    let outputs = edit.add_node_with_outputs("node", op, &inputs, &params, &names).unwrap();
    edit.set_outputs(&outputs);
    edit.commit().unwrap();
    graph
}

fn check(graph: &Graph) {
    let file = export(graph, &Tensors::Inside).unwrap_or_else(|error| panic!("{graph}: {error}"));
    let again = import(file.into(), &mut External::default(), &Given::default());
    let again = again.unwrap_or_else(|error| panic!("{graph}: {error}"));
    assert_eq!(again.to_string(), graph.to_string());
    let params = |graph: &Graph| -> Vec<_> {
        let mut all: Vec<_> = graph.params().iter().map(|p| (p.name.clone(), p.fixed, p.data.clone())).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    };
    assert!(params(&again) == params(graph), "parameters of {graph}");
}

/// Values of `F32` with a batch and these other axes.
fn batch(shape: &[usize]) -> ValueType {
    ValueType::new(DType::F32, std::iter::once(Dim::Batch).chain(shape.iter().map(|n| Dim::Fixed(*n))).collect())
}

fn of(dtype: DType, shape: &[usize]) -> ValueType {
    ValueType { dtype, ..batch(shape) }
}

/// Steps, a batch and features.
fn steps() -> ValueType {
    ValueType::new(DType::F32, vec![Dim::SEQUENCE, Dim::Batch, 3.into()])
}

#[test]
fn layers() {
    let planar = Conv2d { stride: [2, 1], padding: [1, 0, 2, 1], dilation: [1, 2], groups: 2 };
    let linear = Conv1d { stride: 2, padding: [1, 0], dilation: 1, groups: 2 };
    let spread =
        ConvTranspose2d { stride: [2, 2], padding: [1, 0, 0, 1], dilation: [1, 1], groups: 2, output_padding: [1, 0] };
    let image = || [batch(&[4, 6, 6])];
    check(&single(Op::Linear, &[batch(&[4])], &[&[3, 4], &[3]]));
    check(&single(Op::Linear, &[batch(&[5, 4])], &[&[3, 4], &[3]]));
    check(&single(Op::Linear, &[batch(&[5, 4])], &[&[3, 4]]));
    check(&single(Op::MatMul, &[batch(&[5, 4]), batch(&[4, 3])], &[]));
    check(&single(Op::Embedding, &[of(DType::I64, &[5])], &[&[7, 3]]));
    check(&single(Op::Conv2d(planar), &image(), &[&[6, 2, 3, 2], &[6]]));
    check(&single(Op::Conv1d(linear), &[batch(&[4, 9])], &[&[6, 2, 3], &[6]]));
    check(&single(Op::ConvTranspose2d(spread), &image(), &[&[4, 3, 3, 2], &[6]]));
    let config = ConvTranspose1d { stride: 2, padding: [1, 0], dilation: 2, groups: 1, output_padding: 1 };
    check(&single(Op::ConvTranspose1d(config), &[batch(&[4, 6])], &[&[4, 3, 3]]));
    let config = BatchNorm { epsilon: 1e-3, momentum: 0.3 };
    check(&single(Op::BatchNorm(config), &image(), &[&[4], &[4], &[4], &[4]]));
    check(&single(Op::LayerNorm(LayerNorm { axis: 2, epsilon: 1e-6 }), &[batch(&[5, 4])], &[&[4], &[4]]));
    check(&single(Op::LayerNorm(LayerNorm { axis: 1, epsilon: 1e-6 }), &[batch(&[5, 4])], &[&[5, 4]]));
    check(&single(Op::RmsNorm(RmsNorm { axis: 2, epsilon: 1e-6 }), &[batch(&[5, 4])], &[&[4]]));
    check(&single(Op::RmsNorm(RmsNorm { axis: 1, epsilon: 1e-6 }), &[batch(&[5, 4])], &[&[5, 4]]));
    check(&single(Op::GroupNorm(GroupNorm { groups: 2, epsilon: 1e-3 }), &image(), &[&[4], &[4]]));
    check(&single(Op::GroupNorm(GroupNorm { groups: 4, epsilon: 1e-3 }), &[batch(&[4, 6])], &[&[4], &[4]]));
    check(&single(Op::InstanceNorm(InstanceNorm { epsilon: 1e-3 }), &image(), &[&[4], &[4]]));
    check(&single(Op::PRelu, &image(), &[&[4, 1, 1]]));
}

#[test]
fn recurrent_layers() {
    let state = || batch(&[]);
    for direction in [Direction::Forward, Direction::Reverse, Direction::Both] {
        let d = direction.count();
        let lstm = Lstm { hidden: 2, direction, lengths: false, state: false };
        let params: [&[usize]; 4] = [&[d, 8, 3], &[d, 8, 2], &[d, 16], &[d, 6]];
        for count in 2..=4 {
            check(&single(Op::Lstm(lstm), &[steps()], &params[..count]));
        }
        let first = ValueType::new(DType::F32, vec![d.into(), Dim::Batch, 2.into()]);
        let given = [steps(), ValueType { dtype: DType::I64, ..state() }, first.clone(), first.clone()];
        check(&single(Op::Lstm(Lstm { lengths: true, state: true, ..lstm }), &given, &params[..3]));
        let params: [&[usize]; 3] = [&[d, 6, 3], &[d, 6, 2], &[d, 12]];
        for reset_after in [true, false] {
            let gru = Gru { hidden: 2, direction, reset_after, lengths: false, state: false };
            check(&single(Op::Gru(gru), &[steps()], &params));
            let given = [steps(), ValueType { dtype: DType::I32, ..state() }, first.clone()];
            check(&single(Op::Gru(Gru { lengths: true, state: true, ..gru }), &given, &params));
        }
    }
}

#[test]
fn pools() {
    let window = Window { kernel: [3, 2], stride: [2, 1], padding: [1, 0, 1, 1], dilation: [1, 1] };
    let line = Window1d { kernel: 3, stride: 2, padding: [1, 0], dilation: 1 };
    let (image, sequence) = (|| [batch(&[4, 6, 7])], || [batch(&[4, 7])]);
    check(&single(Op::MaxPool2d(MaxPool2d { window: Window { dilation: [2, 1], ..window } }), &image(), &[]));
    check(&single(Op::MaxPool1d(MaxPool1d { window: line }), &sequence(), &[]));
    for count_padding in [true, false] {
        check(&single(Op::AvgPool2d(AvgPool2d { window, count_padding, overhang: [0, 0] }), &image(), &[]));
        check(&single(Op::AvgPool1d(AvgPool1d { window: line, count_padding, overhang: 0 }), &sequence(), &[]));
    }
    let hanging = Window { kernel: [3, 3], stride: [2, 2], padding: [0, 0, 1, 0], dilation: [1, 1] };
    let config = AvgPool2d { window: hanging, count_padding: true, overhang: [1, 0] };
    check(&single(Op::AvgPool2d(config), &image(), &[]));
    check(&single(Op::GlobalAvgPool, &image(), &[]));
    check(&single(Op::GlobalMaxPool, &sequence(), &[]));
    for mean in [true, false] {
        let op = Op::BilinearPool(BilinearPool { mean });
        check(&single(op, &[batch(&[4, 6, 7]), batch(&[3, 6, 7])], &[]));
    }
}

#[test]
fn elements() {
    let two = |dtype: DType| [of(dtype, &[3]), of(dtype, &[2, 3])];
    for activation in Activation::ALL {
        check(&single(Op::Activation(activation), &[batch(&[3])], &[]));
    }
    check(&single(Op::Activation(Activation::Swish(Alpha { alpha: 1.702 })), &[batch(&[3])], &[]));
    for unary in Unary::ALL {
        let dtype = if *unary == Unary::Not { DType::Bool } else { DType::F32 };
        check(&single(Op::Unary(*unary), &[of(dtype, &[3])], &[]));
    }
    for binary in Binary::ALL {
        let is_logical = matches!(binary, Binary::And | Binary::Or | Binary::Xor);
        for dtype in if is_logical { [DType::Bool; 2] } else { [DType::F32, DType::I64] } {
            let [a, b] = two(dtype);
            check(&single(Op::Binary(*binary), &[of(dtype, &[2, 3]), b], &[]));
            check(&single(Op::Binary(*binary), &[a.clone(), a], &[]));
        }
    }
    for compare in Compare::ALL {
        let [a, _] = two(DType::F32);
        check(&single(Op::Compare(*compare), &[a.clone(), a], &[]));
    }
    let x = || batch(&[3]);
    for (min, max) in [(Some(-1.5), Some(0.1)), (None, Some(0.25)), (Some(0.0), None)] {
        check(&single(Op::Clip(Clip { min, max }), &[x()], &[]));
    }
    check(&single(Op::Where, &[of(DType::Bool, &[3]), x(), x()], &[]));
    for to in [DType::I64, DType::F64, DType::Bool, DType::F16] {
        check(&single(Op::Cast(Cast { to }), &[x()], &[]));
    }
    check(&single(Op::Dropout(Dropout { rate: 0.1 }), &[x()], &[]));
    check(&single(Op::Quantize(Quantize { to: DType::I8, axis: 1 }), &[batch(&[4])], &[&[4]]));
    check(&single(Op::Quantize(Quantize { to: DType::U8, axis: 0 }), &[batch(&[4])], &[&[]]));
    check(&single(Op::Quantize(Quantize { to: DType::I8, axis: 0 }), &[batch(&[4])], &[&[], &[]]));
    check(&single(Op::Dequantize(Dequantize { axis: 1 }), &[of(DType::I8, &[4])], &[&[4]]));
    check(&single(Op::Dequantize(Dequantize { axis: 0 }), &[of(DType::I8, &[4])], &[&[], &[]]));
}

#[test]
fn whole_axes() {
    let x = || [batch(&[3, 4])];
    for of in Reduction::ALL {
        for (axes, keep) in [(vec![1], true), (vec![1, 2], false), (vec![2], false)] {
            check(&single(Op::Reduce(Reduce { of: *of, axes, keep }), &x(), &[]));
        }
    }
    for (keep, smallest, last) in [(true, false, false), (false, true, true)] {
        check(&single(Op::ArgMax(ArgMax { axis: 1, keep, smallest, last }), &x(), &[]));
    }
    check(&single(Op::CumSum(CumSum { axis: 1, exclusive: true, reverse: false }), &x(), &[]));
    check(&single(Op::Softmax(Softmax { axis: 1 }), &x(), &[]));
    check(&single(Op::LogSoftmax(Softmax { axis: 2 }), &x(), &[]));
}

#[test]
fn moves() {
    let x = || [batch(&[4, 6])];
    let image = || [batch(&[8, 4, 6])];
    let fixed = |all: &[usize]| all.iter().map(|n| Dim::Fixed(*n)).collect::<Vec<_>>();
    check(&single(Op::Reshape(Reshape { shape: vec![Dim::Batch, 2.into(), 12.into()] }), &x(), &[]));
    check(&single(Op::Reshape(Reshape { shape: vec!["4N".parse().unwrap(), 6.into()] }), &x(), &[]));
    check(&single(Op::Flatten, &x(), &[]));
    check(&single(Op::Transpose(Transpose { axes: vec![2, 0, 1] }), &x(), &[]));
    let shape = vec![3.into(), Dim::Batch, 4.into(), 6.into()];
    check(&single(Op::Expand(Expand { shape }), &[batch(&[1, 6])], &[]));
    check(&single(Op::Tile(Tile { repeats: fixed(&[1, 2, 3]) }), &x(), &[]));
    for channel_first in [true, false] {
        check(&single(Op::DepthToSpace(DepthToSpace { block: 2, channel_first }), &image(), &[]));
        check(&single(Op::SpaceToDepth(SpaceToDepth { block: 2, channel_first }), &image(), &[]));
    }
    for fill in [Fill::Value(0.0), Fill::Value(-1.5), Fill::Reflect, Fill::Edge, Fill::Wrap] {
        for (before, after) in [(1, 2), (0, 3), (2, 0)] {
            check(&single(Op::Pad(Pad { axis: 2, before, after, fill }), &x(), &[]));
        }
    }
    check(&single(Op::Slice(Slice::places(2, 1, 6, 2)), &x(), &[]));
    check(&single(Op::Reverse(Reverse { axis: 1 }), &x(), &[]));
    check(&single(Op::Concat(Concat { axis: 1 }), &[batch(&[4, 6]), batch(&[2, 6])], &[]));
    check(&single(Op::Split(Split { axis: 2, sizes: fixed(&[1, 2, 3]) }), &x(), &[]));
    check(&single(Op::Trilu(Trilu { upper: false, diagonal: -1 }), &x(), &[]));
    let places = |shape: &[usize]| ValueType::new(DType::I64, fixed(shape));
    check(&single(Op::Gather(Gather { axis: 1 }), &[batch(&[4, 6]), places(&[2, 3])], &[]));
    check(&single(Op::Select(Select { axis: 1, index: -2 }), &x(), &[]));
    check(&single(Op::GatherElements(GatherElements { axis: 1 }), &[batch(&[4]), of(DType::I64, &[2])], &[]));
    check(&single(Op::GatherNd(GatherNd { batch_axes: 1 }), &[batch(&[4, 6]), of(DType::I64, &[2, 1])], &[]));
    for (place, rounding) in [
        (Place::HalfPixel, Rounding::HalfDown),
        (Place::PytorchHalfPixel, Rounding::HalfUp),
        (Place::AlignCorners, Rounding::Ceil),
        (Place::Asymmetric, Rounding::Floor),
    ] {
        let shape = vec![Dim::Batch, 8.into(), 8.into(), 3.into()];
        let op = ResizeNearest { shape, scales: vec![1.0, 1.0, 2.0, 0.5], place, rounding };
        check(&single(Op::ResizeNearest(op), &image(), &[]));
    }
}

/// Parameters that are values: learned, and part of the structure.
#[test]
fn constants() {
    let mut graph = Graph::new("constants");
    let mut edit = graph.edit();
    let x = edit.add_input("x", &[2]);
    let learned = edit.add_param("token", TensorData::from_f32(vec![2], &[1.0, 2.0]).unwrap());
    let fixed = edit.add_fixed_param("table", TensorData::from_f32(vec![2], &[3.0, 4.0]).unwrap());
    let constant = || Op::Constant(Constant { dtype: DType::F32 });
    let token = edit.add_node("token", constant(), &[], &[learned]).unwrap();
    let sum = edit.add_node("sum", Op::ADD, &[x, token], &[]).unwrap();
    let table = edit.add_node("table", constant(), &[], &[fixed]).unwrap();
    let out = edit.add_node("out", Op::ADD, &[sum, table], &[]).unwrap();
    edit.set_outputs(&[out]);
    edit.commit().unwrap();
    check(&graph);
}
