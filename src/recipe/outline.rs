//! A recipe's steps in outline: what each of them would find, with nothing computed.
//!
//! The network is carried from step to step with weights of no meaning. What a step makes of it is known exactly but for
//! one: the ranks of a factorisation depend on the weights. After one, a name counts as there if it may be there, and
//! whether it is shows when the recipe runs.

use super::validate::misfits;
use super::{EvolveChannelsStep, Given, Network, PruneChannelsStep, PruneWeightsStep, StepKind, Student};
use crate::error::{Classify, Violation};
use crate::graph::{Graph, Op, ParamId, cost, glob, preset};
use crate::passes::fold::Fold;
use crate::passes::low_rank::LowRank;
use crate::passes::prune::Amount;
use crate::passes::rewind::Rewind;
use crate::passes::{self, Pass, PassError};
use crate::tensor::DType;
use crate::train;
use crate::train::config::{ObjectiveConfig, Teacher, TrainConfig};
use crate::train::criterion::{self, Criterion};

/// Names longer than any parameter's are not kept.
const MAX_NAME: usize = 512;
/// Memory that a training step's activations and gradients may take.
const MAX_BATCH_BYTES: u64 = 8 << 30;

/// The network as far as the steps have brought it.
pub(super) struct Outline<'a> {
    graph: Graph,
    given: &'a Given<'a>,
    /// Classes that the labels have, as the recipe's data section makes them.
    classes: u32,
    /// Training samples.
    samples: usize,
    /// The outputs of the network that the steps start from; `None` until it is there.
    baseline_classes: Option<Vec<usize>>,
    /// Names that parameters and nodes have if a factorisation has changed them.
    possible: Vec<String>,
    /// Whether the weights have been stored in fewer bits.
    quantized: bool,
    /// Whether channels have been cut since the last mark.
    cut: bool,
    /// The network that was marked last, and how many names were possible then.
    mark: Option<(Graph, usize)>,
    violations: Vec<Violation>,
}

impl<'a> Outline<'a> {
    pub(super) fn new(graph: Graph, given: &'a Given<'a>, classes: u32, samples: usize) -> Self {
        let (possible, violations) = (Vec::new(), Vec::new());
        let (baseline_classes, quantized, cut, mark) = (None, false, false, None);
        Self { graph, given, classes, samples, baseline_classes, possible, quantized, cut, mark, violations }
    }

    pub(super) fn violations(self) -> Vec<Violation> {
        self.violations
    }

    /// The training of a preset, before the steps.
    pub(super) fn start(&mut self, train: &TrainConfig) {
        self.train(train, "start.train");
    }

    /// One step; `path` is that of its kind's field.
    pub(super) fn step(&mut self, kind: &StepKind, path: &str) {
        if self.baseline_classes.is_none() {
            self.baseline_classes = Some(self.graph.output_shape());
        }
        self.check_quantized(kind, path);
        match kind {
            StepKind::Evaluate => {}
            StepKind::Train(train) => self.train(train, path),
            StepKind::PruneWeights(prune) => self.prune(prune, path),
            StepKind::Quantize(quantize) => {
                self.params(&quantize.keep_f32, &format!("{path}.keep_f32"));
                self.quantized = true;
            }
            StepKind::LowRank(low_rank) => self.low_rank(low_rank, path),
            StepKind::InsertBatchNorm(step) => {
                self.check_memory(step.calibrate.batch_size, path);
                self.pass(&step.insert, path);
            }
            StepKind::InsertDropout(pass) => {
                // The factors of a layer are not in the outline.
                if self.nodes(&pass.after, &format!("{path}.after")) && self.possible.is_empty() {
                    self.pass(pass, path);
                }
            }
            StepKind::Fold => self.pass(&Fold, path),
            StepKind::RecalibrateBatchNorm(how) => {
                self.check_memory(how.batch_size, path);
                if how.batch_size == 1 {
                    self.refuse(
                        &format!("{path}.batch_size"),
                        "must be at least 2: there is no variance over one sample",
                    );
                }
                if !self.graph.nodes().iter().any(|node| matches!(node.op, Op::BatchNorm(_))) {
                    self.refuse(path, "the network has no batch normalisation at this point");
                }
            }
            StepKind::Initialise(_) => {}
            StepKind::Student(student) => self.student(student, path),
            // Its steps come one by one.
            StepKind::Repeat(_) => {}
            StepKind::Mark => {
                self.mark = Some((self.graph.clone(), self.possible.len()));
                self.cut = false;
            }
            StepKind::Rewind => self.rewind(path),
            StepKind::PruneChannels(step) => self.prune_channels(step, path),
            StepKind::EvolveChannels(step) => self.evolve_channels(step, path),
        }
    }

    fn rewind(&mut self, path: &str) {
        let changed = match &self.mark {
            None => return self.refuse(path, "there is nothing to go back to: no `mark` stands before it"),
            // A factorisation is not in the outline.
            Some((_, possible)) if *possible != self.possible.len() => Some("a factorisation may have".to_string()),
            Some(_) if self.cut => Some("channels have been cut".to_string()),
            Some((then, _)) => Rewind { to: then }.check(&self.graph).err().map(|error| error.to_string()),
        };
        if let Some(why) = changed {
            self.refuse(path, &format!("the network's parameters have changed since `mark`: {why}"));
        }
    }

    fn prune_channels(&mut self, step: &PruneChannelsStep, path: &str) {
        if step.importance.needs_data() || step.repair.is_some() {
            self.check_memory(step.measure.batch_size, path);
        }
        // Which layers a factorisation leaves, and what is left of a group, shows when the recipe runs.
        if self.possible.is_empty()
            && let Err(error) = step.check(&self.graph)
        {
            self.blame(&error, path);
        }
        self.cut = true;
    }

    fn evolve_channels(&mut self, step: &EvolveChannelsStep, path: &str) {
        if step.importance.needs_data() || step.repair.is_some() {
            self.check_memory(step.measure.batch_size, path);
        }
        if self.possible.is_empty()
            && let Err(error) = step.check(&self.graph)
        {
            self.blame(&error, path);
        }
        self.cut = true;
    }

    fn check_quantized(&mut self, kind: &StepKind, path: &str) {
        let rounded_away = match kind {
            StepKind::Train(_) | StepKind::Initialise(_) | StepKind::Rewind => true,
            StepKind::PruneChannels(_) | StepKind::EvolveChannels(_) => true,
            StepKind::PruneWeights(prune) => prune.schedule.train().is_some(),
            _ => false,
        };
        if self.quantized && rounded_away {
            self.refuse(
                path,
                "what is trained after `quantize` would be rounded away; move `quantize` behind this step",
            );
        }
    }

    fn train(&mut self, train: &TrainConfig, path: &str) {
        self.check_memory(train.batch_size, path);
        let mut config = train.clone();
        if !self.params(&train.frozen, &format!("{path}.frozen")) || !self.possible.is_empty() {
            // Which parameters there will be to freeze is not known here.
            config.frozen.clear();
        }
        if let Err(error) = train::check(&self.graph, &config, self.samples) {
            for violation in error.violations() {
                self.refuse(&format!("{path}.{}", violation.field), &violation.description);
            }
        }
        if let ObjectiveConfig::Distill { teacher, .. } = &train.objective {
            self.teacher(teacher, &format!("{path}.distill.teacher"));
        }
    }

    fn teacher(&mut self, teacher: &Teacher, path: &str) {
        let classes = match teacher {
            Teacher::Baseline => match self.baseline_classes.clone() {
                Some(classes) => classes,
                None => return self.refuse(path, "is missing: there is no other model yet that could teach"),
            },
            Teacher::Model(name) => {
                let Some(graph) = self.extra(name, path) else { return };
                for misfit in self.misfits(graph) {
                    self.refuse(path, &format!("the model '{name}' does not fit the data: {}", misfit.description));
                }
                graph.output_shape()
            }
        };
        let own = self.graph.output_shape();
        if classes != own {
            self.refuse(path, &format!("has outputs of shape {classes:?}, the network that learns from it {own:?}"));
        }
    }

    fn student(&mut self, student: &Student, path: &str) {
        let graph = match &student.network {
            Network::Preset(name) => match preset::build(name) {
                Ok(graph) => graph,
                Err(error) => return self.refuse(&format!("{path}.preset"), &error.to_string()),
            },
            Network::Model(name) => match self.extra(name, &format!("{path}.model")) {
                Some(graph) => graph.clone(),
                None => return,
            },
        };
        for misfit in self.misfits(&graph) {
            self.refuse(path, &format!("does not fit the data: {}", misfit.description));
        }
        self.graph = graph;
        self.possible.clear();
        self.quantized = false;
    }

    fn misfits(&self, graph: &Graph) -> Vec<Violation> {
        misfits(graph, &self.given.data.train.sample_shape, self.classes)
    }

    fn extra(&mut self, name: &str, path: &str) -> Option<&'a Graph> {
        if let Some(upload) = self.given.extra.get(name) {
            return Some(&upload.model.graph);
        }
        let names = self.given.extra.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let known = if names.is_empty() { "no other models are".to_string() } else { format!("there are: {names}") };
        self.refuse(path, &format!("no model is given under the name '{name}'; {known}"));
        None
    }

    fn prune(&mut self, prune: &PruneWeightsStep, path: &str) {
        self.params(&prune.ignored, &format!("{path}.ignored"));
        let ignored = glob::select(&self.graph, &prune.ignored).unwrap_or_default();
        let all = self.graph.param_ids().filter(|id| self.graph.param(*id).is_weight());
        let weights: Vec<ParamId> = all.filter(|id| !ignored.contains(id)).collect();
        if self.possible.is_empty() {
            if weights.is_empty() {
                self.refuse(&format!("{path}.ignored"), "leaves no weight to prune");
            }
            if let Amount::Pattern(pattern) = prune.amount
                && weights.iter().all(|id| pattern.kept_because(self.graph.param(*id).data.shape()).is_some())
                && !weights.is_empty()
            {
                let text = format!("no weight has inputs that divide into groups of {}", pattern.of);
                self.refuse(&format!("{path}.pattern.of"), &text);
            }
        }
        if let Some(how) = prune.criterion.batches() {
            self.check_memory(how.batch_size, &format!("{path}.{}", prune.criterion.field()));
        }
        if matches!(prune.criterion, Criterion::Wanda(_))
            && let Some(id) = criterion::unread(&self.graph).into_iter().find(|id| weights.contains(id))
        {
            let name = &self.graph.param(id).name;
            let text = format!("knows no input of '{name}', which no linear layer or convolution reads: ignore it");
            self.refuse(&format!("{path}.wanda"), &text);
        }
        self.mask(&prune.ignored);
        if let Some(train) = prune.schedule.train() {
            self.train(train, &format!("{path}.{}.train", prune.schedule.field()));
        }
    }

    /// Marks the weights that are pruned: a factorisation leaves them alone.
    fn mask(&mut self, ignored: &[String]) {
        let ignored = glob::select(&self.graph, ignored).unwrap_or_default();
        let mut edit = self.graph.edit();
        for id in edit.graph().param_ids() {
            let param = edit.graph().param(id);
            if param.is_weight() && !ignored.contains(&id) {
                let mask = vec![true; param.data.elements()];
                edit.set_mask(id, Some(mask.into()));
            }
        }
        // Masks of the right length break nothing.
        let _ = edit.commit();
    }

    fn low_rank(&mut self, low_rank: &LowRank, path: &str) {
        if self.possible.is_empty() {
            if let Err(error) = low_rank.check(&self.graph) {
                return self.blame(&error, path);
            }
        } else {
            self.nodes(&low_rank.layers, &format!("{path}.layers"));
            self.nodes(&low_rank.ignored, &format!("{path}.ignored"));
        }
        // The layers as they are, and those that a factorisation before may have made of them.
        let layers = self.graph.nodes().iter().filter(|node| matches!(node.op, Op::Linear | Op::Conv2d(_)));
        let layers = layers.map(|node| node.name.clone());
        let factors = self.possible.iter().filter(|name| name.ends_with(".0") || name.ends_with(".1")).cloned();
        for name in layers.chain(factors).collect::<Vec<_>>() {
            let names = ["0", "1", "0.weight", "1.weight", "1.bias"].map(|end| format!("{name}.{end}"));
            self.possible.extend(names.into_iter().filter(|name| name.len() <= MAX_NAME));
        }
    }

    /// Applies a pass that does the same whatever the weights are.
    fn pass(&mut self, pass: &dyn Pass, path: &str) {
        if let Err(error) = passes::apply(pass, &mut self.graph) {
            self.blame(&error, path);
        }
    }

    /// Reports what a pass says, by the field that it blames.
    fn blame(&mut self, error: &PassError, path: &str) {
        let field = error.field().map_or(path.to_string(), |field| format!("{path}.{field}"));
        self.refuse(&field, &error.to_string());
    }

    /// Whether every pattern fits a parameter.
    fn params(&mut self, patterns: &[String], path: &str) -> bool {
        let names: Vec<&str> = self.graph.params().iter().map(|p| p.name.as_str()).collect();
        let unfit = self.unfit(patterns, &names);
        if let Some(pattern) = &unfit {
            self.refuse(path, &format!("'{pattern}' fits no parameter of the model"));
        }
        unfit.is_none()
    }

    /// Whether every pattern fits a node.
    fn nodes(&mut self, patterns: &[String], path: &str) -> bool {
        let names: Vec<&str> = self.graph.nodes().iter().map(|n| n.name.as_str()).collect();
        let unfit = self.unfit(patterns, &names);
        if let Some(pattern) = &unfit {
            self.refuse(path, &format!("'{pattern}' fits no node of the model"));
        }
        unfit.is_none()
    }

    fn unfit(&self, patterns: &[String], names: &[&str]) -> Option<String> {
        let all = || names.iter().copied().chain(self.possible.iter().map(String::as_str));
        patterns.iter().find(|pattern| !all().any(|name| glob::matches(pattern, name))).cloned()
    }

    /// A batch's activations and their gradients must fit into memory, by a rough count.
    fn check_memory(&mut self, batch_size: u32, path: &str) {
        let activations = cost::activations(&self.graph).total;
        // A value and its gradient, and where values are rounded, the value before that.
        let copies = if self.graph.activations() == DType::F32 { 2 } else { 3 };
        let needed = activations.saturating_mul(copies * 4).saturating_mul(u64::from(batch_size));
        if needed > MAX_BATCH_BYTES {
            let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
            let text = format!(
                "{batch_size} samples at once would take about {:.1} GiB of activations, at most {:.0} are allowed",
                gib(needed),
                gib(MAX_BATCH_BYTES)
            );
            self.refuse(&format!("{path}.batch_size"), &text);
        }
    }

    /// Takes note of what is wrong: once, if it is in every round of a repetition.
    fn refuse(&mut self, path: &str, problem: &str) {
        let violation = Violation::new(path, problem);
        if !self.violations.contains(&violation) {
            self.violations.push(violation);
        }
    }
}
