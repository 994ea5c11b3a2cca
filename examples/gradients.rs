//! One pass forwards and backwards of each of five networks, written down for another judge: `.ci/oracles/gradients` lets
//! PyTorch do the same and compares.
//!
//! ```text
//! cargo run --example gradients -- FOLDER [SEED]
//!
//! FOLDER/<network>/model.safetensors    the network with fresh parameters
//! FOLDER/<network>/pass.safetensors     input, labels [n], output [n, classes], loss [1] in f64,
//!                                       gradient.<parameter>, after.<running statistic>
//! ```
//!
//! The passes are in [`Mode::Train`], so batch normalisations go by the batch and move their running statistics. It prints
//! which instructions computed (`NIWAKI_INSTRUCTIONS` chooses them), and of each network what executed it.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use niwaki::data::Batch;
use niwaki::exec::{Mode, Session};
use niwaki::format::{native, safetensors};
use niwaki::graph::init::{self, Init};
use niwaki::graph::preset;
use niwaki::seed;
use niwaki::tensor::{DType, TensorData};
use niwaki::train::objective::{CrossEntropy, Objective};
use rand::Rng;

/// What parameters, inputs and labels are drawn from. With this seed no input of a ReLU lies so close to zero that rounding
/// takes it to the other side: where one does, the gradients differ by more than rounding, and neither is wrong.
const SEED: u64 = 1;

/// A name, a built-in network and the samples of a batch.
const NETWORKS: [(&str, &str, usize); 5] = [
    ("mlp", "mlp:input=784,hidden=300-100,classes=10", 128),
    ("lenet5", "lenet5", 128),
    ("resnet20", "resnet-cifar-20:shortcut=conv", 17),
    ("lstm", "lstm:input=100x64,hidden=128,classes=10,padding=none", 32),
    ("transformer", "transformer:input=64x32,width=128,heads=4,layers=2,classes=10", 16),
];

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let folder = args.next().map(PathBuf::from).ok_or("which folder?")?;
    let seed = args.next().map_or(Ok(SEED), |seed| seed.parse())?;
    println!("instructions {}", niwaki_kernels::simd::Path::chosen().name());
    for (name, spec, samples) in NETWORKS {
        write_pass(&folder.join(name), name, spec, samples, seed)?;
    }
    Ok(())
}

fn write_pass(folder: &Path, name: &str, spec: &str, samples: usize, seed: u64) -> Result<(), Box<dyn Error>> {
    let mut graph = preset::build(spec)?;
    init::initialise(&mut graph, Init::He, seed)?;
    let mut rng = seed::stream(seed, &format!("gradients/{name}"));
    let shape: Vec<usize> = [&[samples], &graph.input_shape()[..]].concat();
    let inputs: Vec<f32> = (0..shape.iter().product()).map(|_| rng.random_range(-1.5..1.5)).collect();
    let labels: Vec<u32> = (0..samples).map(|_| rng.random_range(0..10)).collect();
    let batch = Batch { inputs, labels, mixed: None };

    let mut session = Session::new(&graph)?;
    println!("{name}: {}", session.executor());
    let activations = session.forward(&batch.inputs, samples, Mode::Train, &[])?;
    let loss = CrossEntropy::default().loss(&activations, &batch)?;
    session.backward(&loss.d_outputs, &loss.d_taps)?;

    let numbers = |shape: &[usize], values: &[f32]| TensorData::from_f32(shape.to_vec(), values);
    let label_bytes: Vec<u8> = batch.labels.iter().flat_map(|label| i64::from(*label).to_le_bytes()).collect();
    let mut tensors = BTreeMap::from([
        ("input".to_string(), numbers(&shape, &batch.inputs)?),
        ("labels".to_string(), TensorData::new(DType::I64, vec![samples], label_bytes)?),
        ("output".to_string(), numbers(&[samples, graph.output_shape()[0]], &activations.outputs[0])?),
        ("loss".to_string(), TensorData::new(DType::F64, vec![1], loss.value.to_le_bytes().to_vec())?),
    ]);
    for view in session.views() {
        let shape = graph.param(view.id).data.shape();
        // Those that are not trained are running statistics.
        let (kind, values) = match session.gradients().get(view.range.clone()) {
            Some(gradient) => ("gradient", gradient),
            None => ("after", &session.params()[view.range.clone()]),
        };
        tensors.insert(format!("{kind}.{}", view.name), numbers(shape, values)?);
    }

    let none = BTreeMap::new();
    fs::create_dir_all(folder)?;
    fs::write(folder.join("model.safetensors"), native::write(&graph, &none)?)?;
    fs::write(folder.join("pass.safetensors"), safetensors::write(&tensors, &none)?)?;
    Ok(())
}
