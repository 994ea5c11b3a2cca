//! Training steps and inference of small networks, as a recipe does them.

use niwaki_kernels::prune::zero_smallest;
use serde_json::json;

use super::case::{Case, Remark, Work};
use super::defect;
use super::measure::Rule;
use super::numbers::{labels, normal};
use crate::cli::failure::Failure;
use crate::data::Batch;
use crate::exec::{Executor, Mode, Session};
use crate::graph::init::{self, Init};
use crate::graph::preset;
use crate::train::objective::{CrossEntropy, Objective};
use crate::train::optim::{Optimizer, Sgd};

/// A name, a built-in network and the samples of a batch.
const NETWORKS: [(&str, &str, usize); 5] = [
    ("mlp", "mlp:input=784,hidden=300-100,classes=10", 128),
    ("lenet5", "lenet5", 128),
    ("resnet20", "resnet-cifar-20:shortcut=conv", 128),
    ("lstm", "lstm:input=100x64,hidden=128,classes=10,padding=none", 64),
    ("transformer", "transformer:input=64x32,width=128,heads=4,layers=2,classes=10", 32),
];

/// `train_NAME`: a forward pass, the softmax cross entropy, a backward pass and a step of SGD with momentum 0.9. `infer_NAME`:
/// a forward pass for the outputs alone. `pruned90_NAME`: the same, with zero in the place of the nine tenths of all parameters
/// that are smallest; of the networks for images.
pub fn cases() -> Vec<Case> {
    let of_network = |(name, spec, samples): (&str, &'static str, usize)| {
        let train = Case::new(format!("train_{name}"), move || Trained::new(spec, samples)).by(Rule::TWO_SECONDS);
        let infer = Case::new(format!("infer_{name}"), move || Inferred::new(spec, samples));
        let pruned = Case::new(format!("pruned90_{name}"), move || Inferred::new(spec, samples).map(Inferred::pruned));
        let cases = [Some(train), Some(infer), (!["lstm", "transformer"].contains(&name)).then_some(pruned)];
        cases.into_iter().flatten().map(move |case| case.of(samples, "samples"))
    };
    NETWORKS.into_iter().flat_map(of_network).collect()
}

struct Trained {
    session: Session,
    batch: Batch,
    loss: CrossEntropy,
    optimizer: Sgd,
}

impl Trained {
    fn new(spec: &str, samples: usize) -> Result<Self, Failure> {
        let (session, inputs) = session(spec, samples)?;
        let batch = Batch { inputs, labels: labels(samples, 2), mixed: None };
        let optimizer = Sgd::new(0.9, false, 0.0, session.trained());
        Ok(Self { session, batch, loss: CrossEntropy::default(), optimizer })
    }
}

impl Work for Trained {
    fn step(&mut self) -> Result<(), Failure> {
        let Self { session, batch, .. } = self;
        let activations = session.forward(&batch.inputs, batch.labels.len(), Mode::Train, &[])?;
        let loss = self.loss.loss(&activations, batch)?;
        session.backward(&loss.d_outputs, &loss.d_taps)?;
        let (params, gradients) = session.buffers_mut();
        self.optimizer.step(0.01, params, gradients);
        Ok(())
    }

    fn remark(&self) -> Option<Remark> {
        executor(&self.session)
    }
}

struct Inferred {
    session: Session,
    inputs: Vec<f32>,
    samples: usize,
}

impl Inferred {
    fn new(spec: &str, samples: usize) -> Result<Self, Failure> {
        let (session, inputs) = session(spec, samples)?;
        Ok(Self { session, inputs, samples })
    }

    fn pruned(mut self) -> Self {
        let (params, _) = self.session.buffers_mut();
        let all = params.to_vec();
        zero_smallest(all.len() / 10 * 9, &[&all], &mut [params]);
        self
    }
}

impl Work for Inferred {
    fn step(&mut self) -> Result<(), Failure> {
        self.session.forward(&self.inputs, self.samples, Mode::Eval, &[])?;
        Ok(())
    }

    fn remark(&self) -> Option<Remark> {
        executor(&self.session)
    }
}

/// A network with fresh weights, and a batch for it.
fn session(spec: &str, samples: usize) -> Result<(Session, Vec<f32>), Failure> {
    let mut graph = preset::build(spec)?;
    init::initialise(&mut graph, Init::He, 1).map_err(defect)?;
    let sample: usize = graph.input_shape().iter().product();
    Ok((Session::new(&graph)?, normal(samples * sample, 1)))
}

/// What computed, where it was not the plan.
fn executor(session: &Session) -> Option<Remark> {
    match session.executor() {
        Executor::Plan => None,
        other => Some(Remark { what: "executor", value: json!(other.to_string()) }),
    }
}
