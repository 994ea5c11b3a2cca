//! What the numbers of a genome mean: for each group that may be cut, which of its choices stays. The gene 0 is the fewest
//! channels that the limits allow, the greatest all.

use super::EvolveChannelsStep;
use crate::graph::Graph;
use crate::graph::dims::{Cut, Dims};
use crate::passes::PassError;
use crate::passes::prune::channels::importance::ChannelScores;
use crate::passes::prune::channels::plan::{self, Amount, Budget, Metric};
use crate::search::{Genome, SearchError, Space};

/// Of how many parts a genome is shrunk to some.
const PARTS: u64 = 1024;

/// The genes of a network.
pub(super) struct Genes<'g> {
    graph: &'g Graph,
    dims: &'g Dims,
    /// Of each group, the numbers of channels that may stay, ascending.
    choices: Vec<Vec<usize>>,
    /// The groups that have a gene: those with more than one choice.
    cuttable: Vec<usize>,
    /// What no genome may cost more than.
    most: Option<(Metric, f64)>,
}

impl<'g> Genes<'g> {
    /// Errors: what [`EvolveChannelsStep::check`] says.
    pub(super) fn new(graph: &'g Graph, dims: &'g Dims, step: &EvolveChannelsStep) -> Result<Self, PassError> {
        let choices = step.limits.choices(graph, dims)?;
        let cuttable = (0..choices.len()).filter(|group| choices[*group].len() > 1).collect();
        let mut genes = Self { graph, dims, choices, cuttable, most: None };
        if let Some(budget) = step.budget {
            plan::check(graph, dims, &Amount::Budget(budget), &step.limits)?;
            genes.most = Some((budget.metric, genes.whole(budget.metric) * budget.share));
        }
        Ok(genes)
    }

    /// The genomes that there are.
    pub(super) fn space(&self) -> Result<Space, SearchError> {
        let high: Genome = self.cuttable.iter().map(|group| (self.choices[*group].len() - 1) as u32).collect();
        Space::new(vec![0; high.len()], high)
    }

    /// How many channels of each group stay.
    pub(super) fn counts(&self, genome: &[u32]) -> Vec<usize> {
        let mut counts = self.dims.sizes();
        for (group, gene) in self.cuttable.iter().zip(genome) {
            counts[*group] = self.choices[*group][*gene as usize];
        }
        counts
    }

    /// The genome that leaves what a cut leaves.
    fn genome(&self, cut: &Cut) -> Genome {
        let gene = |group: &usize| {
            let count = cut.keep[*group].len();
            self.choices[*group].partition_point(|choice| *choice < count) as u32
        };
        self.cuttable.iter().map(gene).collect()
    }

    /// The least that may stay, whichever channels that are.
    pub(super) fn smallest(&self) -> Cut {
        let least = self.counts(&vec![0; self.cuttable.len()]);
        Cut { keep: least.into_iter().map(|count| (0..count).collect()).collect() }
    }

    /// What the network costs that a genome leaves.
    pub(super) fn cost(&self, metric: Metric, genome: &[u32]) -> f64 {
        metric.count(self.graph, self.dims, &self.choices, &self.counts(genome))
    }

    fn whole(&self, metric: Metric) -> f64 {
        let whole = self.dims.sizes();
        metric.count(self.graph, self.dims, &self.choices, &whole)
    }

    /// The genome within the budget: the greatest share of it that is, the same share of each gene.
    pub(super) fn shrink(&self, genome: Genome) -> Genome {
        let Some((metric, most)) = self.most else { return genome };
        let shrunk =
            |parts: u64| -> Genome { genome.iter().map(|gene| (u64::from(*gene) * parts / PARTS) as u32).collect() };
        // The least genome fits, for the budget was checked.
        let (mut fits, mut beyond) = (0, PARTS + 1);
        while beyond - fits > 1 {
            let middle = (fits + beyond) / 2;
            if self.cost(metric, &shrunk(middle)) <= most {
                fits = middle;
            } else {
                beyond = middle;
            }
        }
        shrunk(fits)
    }

    /// The plans by greedy steps for the budget, half of it, a quarter and so on: at most a third of a generation.
    pub(super) fn greedy(&self, scores: &ChannelScores, step: &EvolveChannelsStep) -> Result<Vec<Genome>, PassError> {
        let Budget { metric, mut share } = step.budget.unwrap_or(Budget { metric: step.cost, share: 1.0 });
        let least = self.cost(metric, &vec![0; self.cuttable.len()]) / self.whole(metric);
        let mut genomes = Vec::new();
        while share >= least && genomes.len() < step.population / 3 {
            let amount = Amount::Budget(Budget { metric, share });
            genomes.push(self.genome(&plan::plan(self.graph, self.dims, scores, &amount, &step.limits)?));
            share /= 2.0;
        }
        Ok(genomes)
    }
}
