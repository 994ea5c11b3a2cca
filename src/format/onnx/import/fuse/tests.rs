//! What exporters write of an operator is read as that operator.

use expect_test::{Expect, expect};

use crate::format::onnx::{External, Given, Tensors, export, import};
use crate::graph::op::{Activation, Binary, Constant, Op, Reduce, Reduction, Reshape, Transpose, Unary};
use crate::graph::{Dim, Graph, GraphEdit, ValueId};
use crate::tensor::{DType, TensorData};

/// A graph in the making, whose nodes are numbered.
struct Sketch<'g>(GraphEdit<'g>);

impl Sketch<'_> {
    fn node(&mut self, op: Op, inputs: &[ValueId]) -> ValueId {
        let name = format!("n{}", self.0.graph().nodes().len());
        self.0.add_node(&name, op, inputs, &[]).unwrap()
    }

    fn number(&mut self, number: f32) -> ValueId {
        let name = format!("n{}", self.0.graph().nodes().len());
        let param = self.0.add_fixed_param(&name, TensorData::from_f32(vec![], &[number]).unwrap());
        self.0.add_node(&name, Op::Constant(Constant { dtype: DType::F32 }), &[], &[param]).unwrap()
    }

    fn weight(&mut self, size: usize) -> ValueId {
        let values: Vec<f32> = (0..size).map(|i| i as f32).collect();
        let param = self.0.add_param("weight", TensorData::from_f32(vec![size], &values).unwrap());
        self.0.add_node("weight", Op::Constant(Constant { dtype: DType::F32 }), &[], &[param]).unwrap()
    }

    fn two(&mut self, binary: Binary, a: ValueId, b: ValueId) -> ValueId {
        self.node(Op::Binary(binary), &[a, b])
    }
}

/// What is read of a graph that is written as it is.
fn check(draw: impl FnOnce(&mut Sketch<'_>, ValueId) -> ValueId, shape: &[usize], expected: Expect) {
    let mut graph = Graph::new("sketch");
    let mut sketch = Sketch(graph.edit());
    let x = sketch.0.add_input("x", shape);
    let out = draw(&mut sketch, x);
    let Sketch(mut edit) = sketch;
    edit.set_outputs(&[out]);
    edit.commit().unwrap();
    let file = export(&graph, &Tensors::Inside).unwrap();
    let read = import(file.into(), &mut External::default(), &Given::default()).unwrap();
    expected.assert_eq(&read.to_string());
}

fn to(shape: &[usize]) -> Op {
    let shape = std::iter::once(Dim::Batch).chain(shape.iter().map(|n| Dim::Fixed(*n)));
    Op::Reshape(Reshape { shape: shape.collect() })
}

#[test]
fn the_mean_square_by_powers_and_reciprocals() {
    check(
        |s, x| {
            let (two, epsilon, weight) = (s.number(2.0), s.number(1e-6), s.weight(4));
            let square = s.two(Binary::Pow, x, two);
            let mean = s.node(Op::Reduce(Reduce { of: Reduction::Mean, axes: vec![2], keep: true }), &[square]);
            let above = s.two(Binary::Add, mean, epsilon);
            let root = s.node(Op::Unary(Unary::Sqrt), &[above]);
            let inverse = s.node(Op::Unary(Unary::Reciprocal), &[root]);
            let normal = s.two(Binary::Mul, x, inverse);
            s.two(Binary::Mul, weight, normal)
        },
        &[3, 4],
        expect![[r#"
            x : [N, 3, 4]
            n9 : [N, 3, 4] = RmsNorm{axis 2, epsilon 1e-6}(x) [weight F32[4]]
            return n9
        "#]],
    );
}

#[test]
fn the_approximation_of_gelu_with_powers_or_factors() {
    check(
        |s, x| {
            let (three, cubic, outer) = (s.number(3.0), s.number(0.044715), s.number(0.797_884_6));
            let (one, half) = (s.number(1.0), s.number(0.5));
            let cube = s.two(Binary::Pow, x, three);
            let cube = s.two(Binary::Mul, cube, cubic);
            let sum = s.two(Binary::Add, x, cube);
            let scaled = s.two(Binary::Mul, sum, outer);
            let tanh = s.node(Op::Activation(Activation::Tanh), &[scaled]);
            let gate = s.two(Binary::Add, tanh, one);
            let halved = s.two(Binary::Mul, half, x);
            s.two(Binary::Mul, halved, gate)
        },
        &[4],
        expect![[r#"
            x : [N, 4]
            n12 : [N, 4] = GeluTanh(x)
            return n12
        "#]],
    );
    check(
        |s, x| {
            let (cubic, outer) = (s.number(0.044715), s.number(0.797_884_6));
            let (one, half) = (s.number(1.0), s.number(0.5));
            let square = s.two(Binary::Mul, x, x);
            let square = s.two(Binary::Mul, square, cubic);
            let sum = s.two(Binary::Add, one, square);
            let scaled = s.two(Binary::Mul, x, outer);
            let scaled = s.two(Binary::Mul, scaled, sum);
            let tanh = s.node(Op::Activation(Activation::Tanh), &[scaled]);
            let gate = s.two(Binary::Add, one, tanh);
            let halved = s.two(Binary::Mul, half, x);
            s.two(Binary::Mul, halved, gate)
        },
        &[4],
        expect![[r#"
            x : [N, 4]
            n12 : [N, 4] = GeluTanh(x)
            return n12
        "#]],
    );
}

#[test]
fn what_only_looks_alike_stays() {
    check(
        |s, x| {
            // The cube of something else.
            let (cubic, outer) = (s.number(0.044715), s.number(0.797_884_6));
            let (one, half) = (s.number(1.0), s.number(0.5));
            let square = s.two(Binary::Mul, x, x);
            let square = s.two(Binary::Mul, square, cubic);
            let sum = s.two(Binary::Add, x, square);
            let scaled = s.two(Binary::Mul, sum, outer);
            let tanh = s.node(Op::Activation(Activation::Tanh), &[scaled]);
            let gate = s.two(Binary::Add, one, tanh);
            let halved = s.two(Binary::Mul, half, x);
            s.two(Binary::Mul, halved, gate)
        },
        &[4],
        expect![[r#"
            x : [N, 4]
            n4 : [N, 4] = Mul(x, x)
            n0 : [] = Constant{dtype F32}() [n0 F32[]]
            n5 : [N, 4] = Mul(n4, n0)
            n6 : [N, 4] = Add(x, n5)
            n1 : [] = Constant{dtype F32}() [n1 F32[]]
            n7 : [N, 4] = Mul(n6, n1)
            n8 : [N, 4] = Tanh(n7)
            n2 : [] = Constant{dtype F32}() [n2 F32[]]
            n9 : [N, 4] = Add(n2, n8)
            n3 : [] = Constant{dtype F32}() [n3 F32[]]
            n10 : [N, 4] = Mul(n3, x)
            n11 : [N, 4] = Mul(n10, n9)
            return n11
        "#]],
    );
}

#[test]
fn moves_one_after_the_other() {
    let turn = |axes: &[usize]| Op::Transpose(Transpose { axes: axes.to_vec() });
    check(
        |s, x| {
            let heads = s.node(to(&[5, 2, 3]), &[x]);
            let heads = s.node(turn(&[0, 2, 1, 3]), &[heads]);
            let joined = Op::Reshape(Reshape { shape: vec!["2N".parse().unwrap(), 5.into(), 3.into()] });
            let joined = s.node(joined, &[heads]);
            let turned = s.node(turn(&[0, 2, 1]), &[joined]);
            s.node(to(&[2, 3, 5]), &[turned])
        },
        &[5, 6],
        expect![[r#"
            x : [N, 5, 6]
            n0 : [N, 5, 2, 3] = Reshape{shape [N, 5, 2, 3]}(x)
            n4 : [N, 2, 3, 5] = Transpose{axes [0, 2, 3, 1]}(n0)
            return n4
        "#]],
    );
    check(
        |s, x| {
            let y = s.node(to(&[2, 3, 5]), &[x]);
            let y = s.node(to(&[6, 5]), &[y]);
            let y = s.node(turn(&[0, 2, 1]), &[y]);
            let y = s.node(turn(&[0, 2, 1]), &[y]);
            s.node(Op::Activation(Activation::Relu), &[y])
        },
        &[5, 6],
        expect![[r#"
            x : [N, 5, 6]
            n1 : [N, 6, 5] = Reshape{shape [N, 6, 5]}(x)
            n4 : [N, 6, 5] = Relu(n1)
            return n4
        "#]],
    );
}
