//! Tests of Gram matrices against layers that do nothing but write down what they read, and of layers refitted with them.

use std::sync::Arc;

use proptest::prelude::*;
use rand::Rng;

use super::*;
use crate::data::{Affine, Inputs, Part};
use crate::graph::Op;
use crate::graph::builder::GraphBuilder;
use crate::graph::init;
use crate::graph::op::{Activation, Conv1d, Conv2d};
use crate::passes::prune::reconstruct;
use crate::seed;
use crate::tensor::TensorData;

fn samples(n: usize, shape: &[usize], seed: u64) -> Subset {
    let mut rng = seed::stream(seed, "samples");
    let size = n * shape.iter().product::<usize>();
    let values = (0..size).map(|_| rng.random_range(-0.5..1.0)).collect();
    let part = Part { sample_shape: shape.to_vec(), inputs: Inputs::F32(values), labels: vec![0; n] };
    Subset::new(Arc::new(part), (0..n as u32).collect(), Affine { channels: vec![(1.0, 0.0); shape[0]] })
}

/// A network of one layer.
#[derive(Debug)]
struct OneLayer {
    graph: Graph,
    shape: Vec<usize>,
    columns: usize,
    has_bias: bool,
}

impl OneLayer {
    fn new(op: Op, shape: Vec<usize>, weight: Vec<usize>, has_bias: bool) -> Self {
        let mut graph = Graph::new("net");
        let mut edit = graph.edit();
        let input = edit.add_input("input", &shape);
        let (out, columns) = (weight[0], weight[1..].iter().product());
        let mut params = vec![edit.add_param("layer.weight", TensorData::zeros(weight).unwrap())];
        if has_bias {
            params.push(edit.add_param("layer.bias", TensorData::zeros(vec![out]).unwrap()));
        }
        let output = edit.add_node("layer", op, &[input], &params).unwrap();
        edit.set_outputs(&[output]);
        edit.commit().unwrap();
        Self { graph, shape, columns, has_bias }
    }

    /// The layer with one output a column, which is that column.
    fn columns_as_outputs(op: Op, shape: Vec<usize>, weight: &[usize], has_bias: bool) -> Self {
        let columns: usize = weight.iter().product();
        let mut layer = Self::new(op, shape, [&[columns], weight].concat(), has_bias);
        let identity: Vec<f32> =
            (0..columns * columns).map(|i| f32::from(u8::from(i / columns == i % columns))).collect();
        let mut edit = layer.graph.edit();
        let id = edit.graph().param_id("layer.weight").unwrap();
        edit.set_param(id, TensorData::from_f32([&[columns], weight].concat(), &identity).unwrap());
        edit.commit().unwrap();
        layer
    }

    /// The Gram matrix by what the network computes.
    fn expected(&self, train: &Subset) -> Vec<Vec<f64>> {
        let mut session = Session::new(&self.graph).unwrap();
        let batch = train.batch(0..train.len());
        let output = session.forward(&batch.inputs, train.len(), Mode::Eval, &[]).unwrap().outputs.concat();
        let k = self.columns;
        // Channels come before places, but for linear layers, which have them last.
        let places = output.len() / train.len() / k;
        let at = |patch: usize, column: usize| match self.graph.nodes()[0].op {
            _ if column == k => 1.0,
            Op::Linear => f64::from(output[patch * k + column]),
            _ => f64::from(output[(patch / places * k + column) * places + patch % places]),
        };
        let (patches, order) = (train.len() * places, k + usize::from(self.has_bias));
        let mean = |i, j| (0..patches).map(|patch| at(patch, i) * at(patch, j)).sum::<f64>() / patches as f64;
        (0..order).map(|i| (0..order).map(|j| mean(i, j)).collect()).collect()
    }
}

fn layers() -> impl Strategy<Value = OneLayer> {
    let image = (
        1usize..4,
        [1usize..4, 1usize..4],
        [1usize..4, 1usize..4],
        [1usize..3, 1usize..3],
        [0usize..3, 0usize..3, 0usize..3, 0usize..3],
    );
    let extra = [0usize..3, 0usize..3];
    (0u8..3, image, extra, any::<bool>()).prop_map(|(kind, image, extra, has_bias)| {
        let (channels, kernel, stride, dilation, mut padding) = image;
        (0..4).for_each(|side| padding[side] = padding[side].min(kernel[side % 2] - 1));
        // At most 7 x 7 pixels, and so fewer places than are drawn.
        let size = [0, 1].map(|axis| dilation[axis] * (kernel[axis] - 1) + 1 + extra[axis]);
        let new = OneLayer::columns_as_outputs;
        match kind {
            0 => new(Op::Linear, vec![extra[0] + 1, size[1]], &[size[1]], has_bias),
            1 => {
                let op =
                    Conv1d { stride: stride[1], padding: [padding[1], padding[3]], dilation: dilation[1], groups: 1 };
                new(Op::Conv1d(op), vec![channels, size[1]], &[channels, kernel[1]], has_bias)
            }
            _ => {
                let op = Conv2d { stride, padding, dilation, groups: 1 };
                new(Op::Conv2d(op), vec![channels, size[0], size[1]], &[channels, kernel[0], kernel[1]], has_bias)
            }
        }
    })
}

proptest! {
    #[test]
    fn gram_matrices_are_those_of_what_the_layer_reads(layer in layers(), batches in 1u32..4, seed: u64) {
        let train = samples(3 * batches as usize, &layer.shape, seed);
        let how = Batches { batches, batch_size: 3 };
        let found = grams(&layer.graph, &[0], &train, how, seed, &|| false).unwrap().remove(0).unwrap();
        let expected = layer.expected(&train);
        prop_assert_eq!((found.columns, found.moments.rows()), (layer.columns, expected.len()));
        prop_assert_eq!(&found.node, "layer");
        for (i, row) in expected.iter().enumerate() {
            for (j, expected) in row.iter().enumerate() {
                prop_assert!((found.moments.at(i, j) - expected).abs() < 1e-5, "{i} {j}");
            }
        }
    }
}

/// Two convolutions and a linear layer.
fn network(seed: u64) -> Graph {
    let config = Conv2d { padding: [1; 4], ..Conv2d::default() };
    let mut graph = GraphBuilder::new("net", &[2, 10, 10])
        .conv("conv1", 6, 3, config)
        .activation("relu1", Activation::Relu)
        .conv("conv2", 5, 3, Conv2d { stride: [2, 1], ..config })
        .activation("relu2", Activation::Relu)
        .flatten("flatten")
        .linear("fc", 4)
        .build()
        .unwrap();
    init::initialise(&mut graph, init::Init::He, seed).unwrap();
    graph
}

const HOW: Batches = Batches { batches: 4, batch_size: 16 };

#[test]
fn a_refitted_layer_stays_nearer_to_what_it_was_also_on_other_samples() {
    let graph = network(3);
    let gram = grams(&graph, &[2], &samples(64, &[2, 10, 10], 1), HOW, 5, &|| false).unwrap().remove(0).unwrap();
    let numbers = |name: &str| graph.param(graph.param_id(name).unwrap()).data.to_f32().unwrap();
    let (weight, bias) = (numbers("conv2.weight"), numbers("conv2.bias"));
    // Two of six channels go, with their nine columns.
    let kept: Vec<usize> = (0..54).filter(|column| ![1, 4].contains(&(column / 9))).collect();
    let plain = reconstruct::compensate(&weight, Some(&bias), &[0.0; 54], &kept).unwrap();
    let means = reconstruct::compensate(&weight, Some(&bias), &gram.means().unwrap(), &kept).unwrap();
    let fitted = reconstruct::refit(&weight, Some(&bias), &gram, &kept).unwrap();

    let other = samples(40, &[2, 10, 10], 2).batch(0..40);
    let output = |graph: &Graph| {
        let tap = graph.nodes()[2].output();
        Session::new(graph).unwrap().forward(&other.inputs, 40, Mode::Eval, &[tap]).unwrap().taps.concat()
    };
    let dense = output(&graph);
    let error = |(kept_weight, bias): reconstruct::Weights| -> f64 {
        // With zeros where nothing is left.
        let mut weight = vec![0.0; 5 * 54];
        for (row, kept_row) in weight.chunks_mut(54).zip(kept_weight.chunks(kept.len())) {
            kept.iter().zip(kept_row).for_each(|(column, w)| row[*column] = *w);
        }
        let mut cut = graph.clone();
        let mut edit = cut.edit();
        for (name, shape, values) in
            [("conv2.weight", vec![5, 6, 3, 3], weight), ("conv2.bias", vec![5], bias.unwrap())]
        {
            let id = edit.graph().param_id(name).unwrap();
            edit.set_param(id, TensorData::from_f32(shape, &values).unwrap());
        }
        edit.commit().unwrap();
        output(&cut).iter().zip(&dense).map(|(a, b)| f64::from(a - b).powi(2)).sum()
    };
    let [plain, means, fitted] = [plain, means, fitted].map(error);
    assert!(means < 0.8 * plain && fitted < 0.8 * means, "{plain} {means} {fitted}");
}

#[test]
fn several_layers_are_measured_at_once_and_the_bits_follow_from_the_seed_alone() {
    let (graph, train) = (network(3), samples(64, &[2, 10, 10], 1));
    let with = |threads: usize, nodes: &[usize], seed| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let found = pool.install(|| grams(&graph, nodes, &train, HOW, seed, &|| false)).unwrap();
        found.into_iter().map(Result::unwrap).collect::<Vec<Gram>>()
    };
    let found = with(1, &[0, 2, 5], 7);
    assert_eq!(found.iter().map(|gram| gram.columns).collect::<Vec<_>>(), [18, 54, 5 * 5 * 10]);
    assert!(found == with(3, &[0, 2, 5], 7));
    // A layer's matrix does not depend on which others are measured; of its 100 places, other seeds draw others.
    assert!(found[0] == with(2, &[5, 0], 7)[1]);
    assert!(found[0] != with(2, &[0], 8)[0]);
}

#[test]
fn a_drawing_of_places_has_about_the_mean_of_all() {
    let layer = OneLayer::columns_as_outputs(Op::Conv2d(Conv2d::default()), vec![1, 20, 20], &[1, 2, 2], true);
    let train = samples(64, &layer.shape, 2);
    let found = grams(&layer.graph, &[0], &train, HOW, 1, &|| false).unwrap().remove(0).unwrap();
    for (i, row) in layer.expected(&train).iter().enumerate() {
        for (j, expected) in row.iter().enumerate() {
            // 4096 patches of numbers whose variance is below 1/5.
            assert!((found.moments.at(i, j) - expected).abs() < 0.03);
        }
    }
    assert_eq!(found.moments.at(4, 4), 1.0);
}

#[test]
fn what_has_no_gram_matrix_says_why() {
    let grouped = Conv2d { groups: 2, ..Conv2d::default() };
    let graph = GraphBuilder::new("net", &[4, 40, 40])
        .conv("grouped", 4, 1, grouped)
        .activation("relu", Activation::Relu)
        .flatten("flatten")
        .linear("wide", 1)
        .linear("fc", 2)
        .build()
        .unwrap();
    let train = samples(2, &[4, 40, 40], 1);
    let found = grams(&graph, &[0, 1, 3, 4], &train, HOW, 1, &|| false).unwrap();
    let texts: Vec<String> = found.iter().filter_map(|gram| gram.as_ref().err().map(ToString::to_string)).collect();
    let expected = [
        "node 'grouped' (Conv2d) is neither a linear layer nor a convolution of one group",
        "node 'relu' (Relu) is neither a linear layer nor a convolution of one group",
        "node 'wide' reads 6400 numbers for each output, a Gram matrix is made of up to 4608",
    ];
    assert_eq!(texts, expected);
    assert_eq!(found[3].as_ref().unwrap().columns, 1);
}

#[test]
fn what_is_not_finite_is_named_and_a_wish_to_stop_is_heard() {
    let (graph, train) = (network(3), samples(64, &[2, 10, 10], 1));
    assert!(matches!(grams(&graph, &[0], &train, HOW, 1, &|| true), Err(TrainError::Cancelled)));
    let part = Part { sample_shape: vec![2, 10, 10], inputs: Inputs::F32(vec![f32::NAN; 200]), labels: vec![0] };
    let bad = Subset::new(Arc::new(part), vec![0], Affine { channels: vec![(1.0, 0.0); 2] });
    let error = grams(&graph, &[0], &bad, HOW, 1, &|| false).unwrap_err();
    assert!(matches!(&error, TrainError::NotFinite { name } if name == "input"), "{error}");
}
