//! What each kind of step does to the network.

use std::collections::BTreeSet;

use super::channels::largest_difference;
use super::checkpoint::{AtWork, Mark, Standing};
use super::error::RecipeError;
use super::run::{Course, Progress};
use super::{Cubic, InsertBatchNormStep, Network, PruneSchedule, PruneWeightsStep, StepKind, Student};
use crate::distill::Distill;
use crate::exec::{Mode, Session};
use crate::graph::{Graph, Param, glob, init, preset};
use crate::passes::fold::Fold;
use crate::passes::prune::{Amount, GradualPruning, PruneWeights};
use crate::passes::quantize::{Quantize, Widen};
use crate::passes::rewind::Rewind;
use crate::passes::{self, Pass};
use crate::report::{ParamPrecision, ParamSparsity, Rewrite, StepEffect, TrainDetail};
use crate::seed;
use crate::train::config::{ObjectiveConfig, Teacher, TrainConfig};
use crate::train::objective::{CrossEntropy, Objective};
use crate::train::{self, Pruning, TrainContext, TrainState, calibrate, metrics};

/// Validation samples on which outputs are compared before and after a step that keeps the function.
const COMPARED_SAMPLES: usize = 64;

impl Course<'_, '_> {
    /// Does a step and says what it did.
    pub(super) fn apply(&mut self, at: &mut Standing, kind: &StepKind) -> Result<StepEffect, RecipeError> {
        let graph = &mut at.graph;
        self.report(kind.name(), 0, 0);
        let mut effect = StepEffect { step: self.step, kind: kind.name().to_string(), ..StepEffect::default() };
        match kind {
            StepKind::Evaluate => {}
            StepKind::Train(config) => effect.train = Some(self.train(graph, "train", config, None)?),
            StepKind::PruneWeights(prune) => {
                effect.train = self.prune(graph, prune)?;
                effect.sparsity = sparsity(graph, prune);
            }
            StepKind::Quantize(quantize) => effect.quantize = Some(self.quantize(graph, quantize)?),
            StepKind::LowRank(pass) => {
                let cancelled = self.run.cancelled;
                let plan = pass.plan_unless(graph, &|| cancelled()).map_err(|source| self.failed(source))?;
                let plan = plan.ok_or(RecipeError::Cancelled)?;
                self.pass(graph, &plan)?;
                effect.low_rank = plan.layers;
            }
            StepKind::InsertBatchNorm(step) => effect.rewrite = Some(self.insert_batch_norm(graph, step)?),
            StepKind::InsertDropout(pass) => effect.rewrite = Some(self.rewrite(graph, pass)?),
            StepKind::Fold => effect.rewrite = Some(self.rewrite(graph, &Fold)?),
            StepKind::RecalibrateBatchNorm(how) => {
                let (seed, cancelled) = (self.seed("recalibrate"), self.run.cancelled);
                calibrate::recalibrate(graph, &self.splits.train, *how, seed, &|| cancelled())
                    .map_err(|source| RecipeError::of_training(self.step, source))?;
            }
            StepKind::Initialise(init) => self.initialise(graph, *init)?,
            // Its steps come one by one.
            StepKind::Repeat(_) => {}
            StepKind::Mark => at.mark = Some(Mark { graph: graph.clone(), trained: at.trained }),
            StepKind::Rewind => {
                let Mark { graph: to, .. } = at.mark.as_ref().expect("a rewind without a mark is invalid");
                self.pass(graph, &Rewind { to })?;
            }
            StepKind::PruneChannels(step) => effect.channels = Some(self.prune_channels(graph, step)?),
            StepKind::EvolveChannels(step) => {
                let (detail, evolved) = self.evolve_channels(graph, step)?;
                // The names of its files are taken from those of an earlier one.
                let earlier = at.steps.iter_mut().filter_map(|step| step.evolution.as_mut());
                earlier.flat_map(|detail| &mut detail.front).for_each(|member| member.file.clear());
                (at.evolved, effect.evolution) = (Some(evolved), Some(detail));
            }
            StepKind::Student(Student { network, init }) => {
                *graph = self.network(network);
                self.widen(graph)?;
                self.initialise(graph, *init)?;
            }
        }
        Ok(effect)
    }

    fn prune(&mut self, graph: &mut Graph, step: &PruneWeightsStep) -> Result<Option<TrainDetail>, RecipeError> {
        let (cubic, settle, decay) = match &step.schedule {
            PruneSchedule::OneShot => (None, None, 0.0),
            PruneSchedule::Cubic(cubic) => (Some(cubic), None, 0.0),
            PruneSchedule::Surgery { cubic, settle, decay } => (Some(cubic), Some(*settle), *decay),
        };
        let (scope, ignored) = (step.scope, step.ignored.clone());
        match (cubic, step.amount) {
            (Some(Cubic { train, begin, end, every }), Amount::Sparsity(sparsity)) => {
                let (begin, end, every) = (*begin, *end, *every);
                let gradual = GradualPruning { sparsity, scope, ignored, begin, end, every, settle };
                let pruning = Pruning { gradual, criterion: step.criterion, decay };
                self.train(graph, "prune-weights", train, Some(&pruning)).map(Some)
            }
            (_, amount) => {
                let (seed, cancelled) = (self.seed("criterion"), self.run.cancelled);
                let scores = step.criterion.scores(graph, &self.splits.train, seed, &|| cancelled());
                let scores = scores.map_err(|source| RecipeError::of_training(self.step, source))?;
                self.pass(graph, &PruneWeights { amount, scope, ignored, scores })?;
                Ok(None)
            }
        }
    }

    fn quantize(&mut self, graph: &mut Graph, quantize: &Quantize) -> Result<Vec<ParamPrecision>, RecipeError> {
        let plans = quantize.plans(graph).map_err(|source| self.failed(source))?;
        self.pass(graph, quantize)?;
        Ok(plans
            .into_iter()
            .map(|plan| ParamPrecision {
                name: plan.name,
                dtype: plan.dtype.name().to_string(),
                relative_error: plan.relative_error,
                flushed_to_zero: plan.flushed_to_zero,
                subnormal: plan.subnormal,
                kept_because: plan.kept_because.unwrap_or_default(),
            })
            .collect())
    }

    fn insert_batch_norm(&mut self, graph: &mut Graph, step: &InsertBatchNormStep) -> Result<Rewrite, RecipeError> {
        let values = step.insert.values(graph).map_err(|source| self.failed(source))?;
        let (seed, cancelled) = (self.seed("calibrate"), self.run.cancelled);
        let moments = calibrate::moments(graph, &values, &self.splits.train, step.calibrate, seed, &|| cancelled())
            .map_err(|source| RecipeError::of_training(self.step, source))?;
        let mut pass = step.insert.clone();
        pass.moments = moments;
        self.rewrite(graph, &pass)
    }

    /// A fresh network of the one that is named; its weights are still to be drawn.
    fn network(&self, network: &Network) -> Graph {
        match network {
            Network::Preset(name) => preset::build(name).expect("an unknown preset is invalid"),
            Network::Model(name) => self.given.extra[name].model.graph.clone(),
        }
    }

    fn initialise(&self, graph: &mut Graph, init: init::Init) -> Result<(), RecipeError> {
        let seed = self.seed("initialise");
        init::initialise(graph, init, seed).map_err(|source| self.failed(source.into()))
    }

    /// Brings a network to 32 bits; says whether there was anything to do.
    pub(super) fn widen(&self, graph: &mut Graph) -> Result<bool, RecipeError> {
        let changes = passes::apply(&Widen, graph).map_err(|source| self.failed(source))?;
        Ok(!changes.is_empty())
    }

    pub(super) fn pass(&self, graph: &mut Graph, pass: &dyn Pass) -> Result<(), RecipeError> {
        let changes = passes::apply(pass, graph).map_err(|source| self.failed(source))?;
        tracing::debug!(pass = pass.name(), changes = changes.len(), "applied");
        Ok(())
    }

    /// Applies a pass that keeps the network's function, and measures how well it does.
    fn rewrite(&self, graph: &mut Graph, pass: &dyn Pass) -> Result<Rewrite, RecipeError> {
        let names = |graph: &Graph| -> BTreeSet<String> { graph.nodes().iter().map(|n| n.name.clone()).collect() };
        let (names_before, before) = (names(graph), self.outputs(graph)?);
        self.pass(graph, pass)?;
        let (names_after, after) = (names(graph), self.outputs(graph)?);
        Ok(Rewrite {
            added: names_after.difference(&names_before).cloned().collect(),
            removed: names_before.difference(&names_after).cloned().collect(),
            output_difference: largest_difference(&before, &after),
        })
    }

    pub(super) fn outputs(&self, graph: &Graph) -> Result<Vec<f32>, RecipeError> {
        let mut session = Session::new(graph)?;
        let samples = self.splits.validation.len().min(COMPARED_SAMPLES).min(metrics::at_once(&session));
        let batch = self.splits.validation.batch(0..samples);
        let outputs = session.forward(&batch.inputs, samples, Mode::Eval, &[])?.outputs.concat();
        match outputs.iter().all(|v| v.is_finite()) {
            true => Ok(outputs),
            false => Err(RecipeError::NotFinite { step: self.step }),
        }
    }

    /// Trains the network, pruning on the way where `gradual` says so.
    pub(super) fn train(
        &mut self,
        graph: &mut Graph,
        phase: &str,
        config: &TrainConfig,
        pruning: Option<&Pruning>,
    ) -> Result<TrainDetail, RecipeError> {
        let mut objective = self.objective(&config.objective)?;
        let (step, step_count) = (self.step, self.steps.len() as u32);
        let seed = self.seed("train");
        let cancelled = self.run.cancelled;
        let tell = &mut *self.run.progress;
        let keeper = &mut self.keeper;
        let mut keep = |state: &dyn Fn() -> TrainState| {
            if let Some(keeper) = keeper {
                keeper.pause(Some(&|| AtWork::Train(state())));
            }
        };
        let mut cx = TrainContext {
            train: &self.splits.train,
            validation: &self.splits.validation,
            seed,
            cancelled: &|| cancelled(),
            progress: &mut |p| {
                tell(&Progress {
                    phase: phase.to_string(),
                    step,
                    step_count,
                    done: p.step,
                    total: p.total_steps,
                    loss: p.loss,
                    validation_accuracy: p.validation_accuracy,
                });
            },
            keep: Some(&mut keep),
            resume: match self.resume.take() {
                Some(AtWork::Train(state)) => Some(state),
                _ => None,
            },
            best: None,
        };
        let trained = train::fit(graph, config, pruning, objective.as_mut(), &mut cx);
        self.best = cx.best;
        trained.map_err(|source| RecipeError::of_training(step, source))
    }

    fn objective(&self, config: &ObjectiveConfig) -> Result<Box<dyn Objective>, RecipeError> {
        let (teacher, temperature, hard_weight) = match config {
            ObjectiveConfig::CrossEntropy { label_smoothing } => {
                return Ok(Box::new(CrossEntropy { label_smoothing: *label_smoothing }));
            }
            ObjectiveConfig::Distill { teacher, temperature, hard_weight } => (teacher, *temperature, *hard_weight),
        };
        let mut graph = match teacher {
            Teacher::Baseline => self.baseline.clone().expect("a start that is its own teacher is invalid"),
            Teacher::Model(name) => self.given.extra[name].model.graph.clone(),
        };
        // The teacher only looks: without batch normalisations of its own it is faster.
        self.pass(&mut graph, &Fold)?;
        Ok(Box::new(Distill::new(Session::new(&graph)?, temperature, hard_weight)))
    }

    /// What the randomness of the current step's `purpose` follows from.
    pub(super) fn seed(&self, purpose: &str) -> u64 {
        seed::derive(self.recipe.seed, &format!("{purpose}/{}", self.step))
    }

    pub(super) fn failed(&self, source: passes::PassError) -> RecipeError {
        RecipeError::Pass { step: self.step, source }
    }
}

fn sparsity(graph: &Graph, step: &PruneWeightsStep) -> Vec<ParamSparsity> {
    let ignored = glob::select(graph, &step.ignored).unwrap_or_default();
    let weights = graph.param_ids().filter(|id| graph.param(*id).is_weight());
    weights
        .map(|id| {
            let Param { name, data, .. } = graph.param(id);
            let values = data.elements() as u64;
            let kept_because = match step.amount {
                _ if ignored.contains(&id) => Some("it is ignored".to_string()),
                Amount::Pattern(pattern) => pattern.kept_because(data.shape()),
                _ => None,
            };
            ParamSparsity {
                name: name.clone(),
                values,
                zeros: values - data.nonzero() as u64,
                kept_because: kept_because.unwrap_or_default(),
            }
        })
        .collect()
}
