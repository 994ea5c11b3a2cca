//! A search by evolution for how many channels of each group stay ([`crate::search::nsga2`]).
//!
//! ```text
//!   genome ── choices of each group ──▶ counts ── importance ──▶ cut ── slices out, least squares, statistics ──▶ network
//!                                                                                                                   │
//!   front ◀── NSGA-II ◀── [ wrong samples + loss / (1 + loss),  multiply-accumulate operations or parameters ] ◀────┘
//! ```
//!
//! The error is counted in samples, for what is chosen in the end is chosen by accuracy; the loss, brought below the worth of
//! one sample, puts those in an order that are wrong equally often. What is measured is the network that would go on: cut
//! and not masked, its layers fitted anew (He, Zhang and Sun 2017), its running statistics measured anew, without which the
//! order of networks with batch normalisations says little (Li et al. 2020, EagleEye). The samples are held out: those of
//! the selection split, or else of the validation split.
//!
//! The Gram matrices are those of the network before, measured once. Networks are cut on as many threads as there are and
//! measured one after the other, each on all threads: neither depends on the number of threads.

mod choose;
mod front;
mod genes;
#[cfg(test)]
mod tests;

use rand::seq::index;
use rayon::prelude::*;

use self::genes::Genes;
use super::channels::{groups, repair_name};
use super::checkpoint::{AtWork, Evolved};
use super::error::RecipeError;
use super::run::Course;
use crate::data::Subset;
use crate::exec::{self, Session};
use crate::format::native;
use crate::graph::dims::{Cut, Dims};
use crate::graph::{Graph, cost};
use crate::passes::prune::channels::PruneChannels;
use crate::passes::prune::channels::importance::{ChannelScores, Importance};
use crate::passes::prune::channels::plan::{self, Amount, Budget, Limits, Metric};
use crate::passes::prune::channels::repair::{CutAndRepair, Repair};
use crate::passes::prune::reconstruct::Gram;
use crate::passes::{self, PassError};
use crate::report::{EvolutionDetail, FrontMember};
use crate::search::SearchError;
use crate::search::nsga2::{Nsga2, Settings};
use crate::seed;
use crate::train::calibrate::Batches;
use crate::train::importance;
use crate::train::metrics::{self, Evaluation};

pub use choose::Choose;
pub(super) use front::remove;

/// Searches for how many channels, units and heads of each group stay.
#[derive(Debug, Clone, PartialEq)]
pub struct EvolveChannelsStep {
    /// What is to be small beside the error: operations or parameters.
    pub cost: Metric,
    /// What no network may be above; `None`: the network as it is.
    pub budget: Option<Budget>,
    /// Which member of the front goes on.
    pub choose: Choose,
    /// Networks of a generation.
    pub population: usize,
    /// Generations.
    pub generations: u32,
    /// Samples that networks are measured on, at most.
    pub samples: usize,
    /// What a channel matters.
    pub importance: Importance,
    /// Which layers may lose how much.
    pub limits: Limits,
    /// On how many training samples importance, repair and statistics are measured.
    pub measure: Batches,
    /// What is done to the weights that stay; `None`: nothing.
    pub repair: Option<Repair>,
}

impl EvolveChannelsStep {
    /// Whether it fits a network, whatever the weights.
    ///
    /// Errors: what [`Limits::choices`] says, and a budget that the limits do not reach.
    pub fn check(&self, graph: &Graph) -> Result<(), PassError> {
        let dims = Dims::of(graph);
        self.limits.choices(graph, &dims)?;
        importance::check(graph, &dims, self.importance)?;
        self.budget.map_or(Ok(()), |budget| plan::check(graph, &dims, &Amount::Budget(budget), &self.limits))
    }
}

/// What makes networks of cuts.
struct Cutter<'g> {
    graph: &'g Graph,
    dims: &'g Dims,
    /// What the layers read of whose input something may go.
    grams: Vec<Gram>,
    how: Option<Repair>,
}

impl Cutter<'_> {
    fn cut(&self, cut: &Cut) -> Result<Graph, PassError> {
        let (mut network, dims) = (self.graph.clone(), self.dims);
        match self.how {
            None => passes::apply(&PruneChannels { dims, cut }, &mut network)?,
            Some(how) => passes::apply(&CutAndRepair { dims, cut, grams: &self.grams, how }, &mut network)?,
        };
        Ok(network)
    }
}

impl Course<'_, '_> {
    /// Searches, and goes on with the member of the front that is chosen.
    pub(super) fn evolve_channels(
        &mut self,
        graph: &mut Graph,
        step: &EvolveChannelsStep,
    ) -> Result<(EvolutionDetail, Evolved), RecipeError> {
        let before = graph.clone();
        let dims = Dims::of(&before);
        let genes = Genes::new(&before, &dims, step).map_err(|source| self.failed(source))?;
        let scores = self.channel_scores(&before, &dims, step.importance, step.measure)?;
        let (cutter, unrepaired) = self.cutter(&before, &dims, &genes, step)?;
        let (split, held_out) = self.held_out(step.samples);
        let dense = self.measured(&before, &held_out)?;

        let search = self.evolve(&genes, &scores, &cutter, &held_out, step)?;
        let front = choose::front(&search).ok_or(RecipeError::NotFinite { step: self.step })?;
        let chosen = step.choose.of(&front, error_of(&dense), held_out.len());
        let (front, chosen) = choose::thinned(front, chosen);
        let mut cuts = Vec::new();
        let mut members = Vec::new();
        for (place, (genome, _)) in front.into_iter().enumerate() {
            let cut = plan::keep_best(&scores, &genes.counts(&genome));
            let network = self.finished(cutter.cut(&cut), step)?;
            members.push(self.member(&network, &cut, place, chosen, &held_out)?);
            if place == chosen {
                *graph = network;
            }
            cuts.push(cut);
        }
        let detail = EvolutionDetail {
            groups: groups(&before, &dims, &cuts[chosen]),
            importance: step.importance.name().to_string(),
            repair: repair_name(step.repair).to_string(),
            unrepaired,
            cost: if step.cost == Metric::Params { "params" } else { "macs" }.to_string(),
            split: split.to_string(),
            samples: held_out.len() as u64,
            accuracy: dense.accuracy,
            generations: search.generation(),
            evaluations: search.archive().len() as u64,
            front: members,
        };
        Ok((detail, Evolved { step: self.step, graph: before, cuts }))
    }

    /// Lets generations follow each other, on from where an earlier run was.
    fn evolve(
        &mut self,
        genes: &Genes<'_>,
        scores: &ChannelScores,
        cutter: &Cutter<'_>,
        held_out: &Subset,
        step: &EvolveChannelsStep,
    ) -> Result<Nsga2, RecipeError> {
        let number = self.step;
        let failed = |source: SearchError| RecipeError::Search { step: number, source };
        let space = genes.space().map_err(failed)?;
        let settings = Settings { space, population: step.population, objectives: 2, seed: self.seed("evolve") };
        let mut search = match self.resume.take() {
            Some(AtWork::Search(search)) if *search.settings() == settings => search,
            _ => {
                let initial = genes.greedy(scores, step).map_err(|source| self.failed(source))?;
                Nsga2::new(settings, initial).map_err(failed)?
            }
        };
        loop {
            self.report("evolve-channels", search.generation().into(), step.generations.into());
            self.pause(&|| AtWork::Search(search.clone()));
            if search.generation() >= step.generations {
                return Ok(search);
            }
            let asked = search.ask(&|genome| genes.shrink(genome)).map_err(failed)?.to_vec();
            if asked.is_empty() {
                return Ok(search);
            }
            let cuts: Vec<Cut> = asked.iter().map(|genome| plan::keep_best(scores, &genes.counts(genome))).collect();
            let errors = self.errors(cutter, &cuts, held_out, step)?;
            let told = asked.iter().zip(errors).map(|(genome, error)| vec![error, genes.cost(step.cost, genome)]);
            search.tell(told.collect()).map_err(failed)?;
        }
    }

    /// What cuts and repairs, and which layers cannot be repaired.
    fn cutter<'g>(
        &self,
        graph: &'g Graph,
        dims: &'g Dims,
        genes: &Genes<'_>,
        step: &EvolveChannelsStep,
    ) -> Result<(Cutter<'g>, Vec<String>), RecipeError> {
        let (grams, unrepaired) = match step.repair {
            None => Default::default(),
            Some(_) => self.grams(graph, dims, &genes.smallest(), step.measure)?,
        };
        Ok((Cutter { graph, dims, grams, how: step.repair }, unrepaired))
    }

    /// A network with its running statistics as they should be.
    fn finished(&self, network: Result<Graph, PassError>, step: &EvolveChannelsStep) -> Result<Graph, RecipeError> {
        let mut network = network.map_err(|source| self.failed(source))?;
        if step.repair.is_some() {
            self.recalibrate(&mut network, step.measure)?;
        }
        Ok(network)
    }

    /// How wrong the networks are that the cuts leave.
    fn errors(
        &self,
        cutter: &Cutter<'_>,
        cuts: &[Cut],
        held_out: &Subset,
        step: &EvolveChannelsStep,
    ) -> Result<Vec<f64>, RecipeError> {
        let mut errors = Vec::new();
        // No more networks at once than threads make: they may be large.
        for cuts in cuts.chunks(exec::threads()) {
            let networks: Vec<Result<Graph, PassError>> = cuts.par_iter().map(|cut| cutter.cut(cut)).collect();
            for network in networks {
                if (self.run.cancelled)() {
                    return Err(RecipeError::Cancelled);
                }
                errors.push(error_of(&self.measured(&self.finished(network, step)?, held_out)?));
            }
        }
        Ok(errors)
    }

    fn measured(&self, network: &Graph, held_out: &Subset) -> Result<Evaluation, RecipeError> {
        let cancelled = self.run.cancelled;
        let evaluation = metrics::evaluate(&mut Session::new(network)?, held_out, &|| cancelled());
        evaluation.map_err(|source| RecipeError::of_training(self.step, source))
    }

    /// The samples to measure on, and the split that they are of.
    fn held_out(&self, most: usize) -> (&'static str, Subset) {
        let has_selection = self.given.data.selection.is_some() || self.recipe.data.split.selection_fraction.is_some();
        let split = if has_selection { "selection" } else { "validation" };
        let all = &self.splits.selection;
        if all.len() <= most {
            return (split, all.clone());
        }
        let mut rng = seed::stream(self.seed("evolve"), "held-out");
        let mut places = index::sample(&mut rng, all.len(), most).into_vec();
        places.sort_unstable();
        (split, all.select(&places))
    }

    fn member(
        &self,
        network: &Graph,
        cut: &Cut,
        place: usize,
        chosen: usize,
        held_out: &Subset,
    ) -> Result<FrontMember, RecipeError> {
        let Evaluation { accuracy, loss, .. } = self.measured(network, held_out)?;
        let cost = cost::of_graph(network);
        Ok(FrontMember {
            file: front::file_name(place),
            bytes: native::write(network, &self.metadata())?.len() as u64,
            accuracy,
            loss,
            params: cost.params,
            macs: cost.macs,
            keep: cut.keep.iter().map(|keep| keep.len() as u64).collect(),
            chosen: place == chosen,
        })
    }
}

/// How many samples are wrong, and a fraction for the loss; no number where the loss is none.
fn error_of(found: &Evaluation) -> f64 {
    let wrong = found.correct.iter().filter(|correct| !**correct).count() as f64;
    match found.loss.is_finite() {
        // So large a loss would round to a whole sample.
        true => wrong + (found.loss / (1.0 + found.loss)).min(0.999),
        false => f64::NAN,
    }
}
