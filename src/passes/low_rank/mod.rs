//! Low rank: replaces linear layers and convolutions by two thinner ones each.
//!
//! A layer's weight is read as a matrix and replaced by its best approximation of some rank `r`, the first
//! `r` terms of its singular value decomposition, as a product of two thinner matrices: two layers, named `fc1.0` and
//! `fc1.1`. Linear layers and 1x1 convolutions take the plain decomposition (Denton et al. 2014), other convolutions the
//! spatial one into columns and rows (Jaderberg et al. 2014).
//!
//! A layer is rewritten only where the two take fewer multiply-accumulate operations and fewer parameters than the one;
//! the report says of every other why it was left as it was. Left as they are, whatever they would gain: grouped
//! convolutions, layers that share their weight, and pruned ones, whose zeros would be lost.
//!
//! Activations play no part: the error is that of the weight, not of what the layer computes on data.

mod layer;
mod ranks;
#[cfg(test)]
mod tests;

use super::{Pass, PassError, select};
use crate::graph::cost::{of_graph, of_node};
use crate::graph::{Graph, GraphEdit, Node, Op};
use crate::report::LayerRank;
use crate::tensor::linalg::Svd;

use layer::{Factor, Layer};
use ranks::Choice;

/// Entries of a spectrum that a report holds, at most: a large layer has thousands.
const MAX_ENERGY: usize = 256;

/// Replaces linear layers and convolutions by two thinner ones each, by singular value decomposition.
#[derive(Debug, Clone, PartialEq)]
pub struct LowRank {
    /// The layers to look at, by name or glob of their nodes; empty: all linear layers and convolutions.
    pub layers: Vec<String>,
    /// Layers left alone, by name or glob of their nodes.
    pub ignored: Vec<String>,
    /// How thin.
    pub rank: Rank,
    /// Ranks other than [`Rank::Fixed`] are multiples of it; at least 1. For a layer whose full rank is less than twice
    /// that it is halved until two fit.
    pub round_to: u32,
}

/// How thin the two layers are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rank {
    /// This rank in every layer.
    Fixed(u32),
    /// In each layer the least rank that keeps this share of the squared singular values' sum, in `(0, 1]`, rounded up.
    Energy(f64),
    /// Ranks with which the network takes at most this share of the multiply-accumulate operations that it takes now, in
    /// `(0, 1)`, all its layers counted, and with which it loses close to the least: the sum over the layers of the share
    /// of the squared singular values' sum that each loses. A layer that stays as it is loses nothing.
    MacRatio(f64),
}

/// What a factorisation of one graph does, decided and computed: apply it to that graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Every layer that was looked at, in the graph's order.
    pub layers: Vec<LayerRank>,
    /// The pairs that come in, by the names of the nodes that go out.
    factors: Vec<(String, [Factor; 2])>,
}

impl LowRank {
    /// Decides and computes everything; the decompositions are what takes time.
    pub fn plan(&self, graph: &Graph) -> Result<Plan, PassError> {
        Ok(self.plan_unless(graph, &|| false)?.expect("nobody stops it"))
    }

    /// As [`LowRank::plan`]; `stopped` is asked before every decomposition, and once it is true there is no plan.
    pub fn plan_unless(&self, graph: &Graph, stopped: &dyn Fn() -> bool) -> Result<Option<Plan>, PassError> {
        self.check(graph)?;
        let (mut spectra, mut reports) = (Vec::new(), Vec::new());
        for LookedAt { place, node, layer } in self.looked_at(graph)? {
            if stopped() {
                return Ok(None);
            }
            match layer {
                Ok(layer) => spectra.push(Spectrum::of(graph, place, node, layer)?),
                Err(because) => reports.push((place, left_alone(graph, node, because.to_string()))),
            }
        }
        let mut factors = Vec::new();
        for (spectrum, decision) in spectra.iter().zip(self.decide(graph, &spectra)) {
            if let Ok(rank) = decision {
                factors.push((spectrum.node.name.clone(), spectrum.factors(graph, rank)?));
            }
            reports.push((spectrum.place, spectrum.report(graph, decision)));
        }
        reports.sort_by_key(|(place, _)| *place);
        Ok(Some(Plan { layers: reports.into_iter().map(|(_, report)| report).collect(), factors }))
    }

    /// What becomes of every layer that is looked at.
    pub fn plans(&self, graph: &Graph) -> Result<Vec<LayerRank>, PassError> {
        Ok(self.plan(graph)?.layers)
    }

    /// Whether the names fit and the budget can be met. It takes no time, for it does not look at the weights.
    pub fn check(&self, graph: &Graph) -> Result<(), PassError> {
        let looked_at = self.looked_at(graph)?;
        let Rank::MacRatio(asked) = self.rank else { return Ok(()) };
        let layers = looked_at.iter().filter_map(|looked_at| looked_at.layer.as_ref().ok());
        let saved = layers.filter_map(|layer| Some(layer.cost.macs - layer.cost_at(self.grid(layer).next()?).macs));
        let total = of_graph(graph).macs;
        let least = total.saturating_sub(saved.sum());
        if least > budget(asked, total) {
            let reachable = (least as f64 / total.max(1) as f64 * 1e4).ceil() / 1e4;
            return Err(PassError::OutOfReach { field: "mac_ratio", asked, reachable });
        }
        Ok(())
    }

    fn looked_at<'g>(&self, graph: &'g Graph) -> Result<Vec<LookedAt<'g>>, PassError> {
        let is_layer = |node: &Node| matches!(node.op, Op::Linear | Op::Conv2d(_));
        let what = "linear layer or convolution";
        let places = select::named_or_all(graph, "layers", &self.layers, what, is_layer)?;
        let ignored = select::named(graph, "ignored", &self.ignored, "node", |_| true)?;
        let shared = select::shared_params(graph);
        let look = |place: usize| {
            let node = &graph.nodes()[place];
            let is_ignored = ignored.binary_search(&place).is_ok();
            let layer = if is_ignored { Err("named in ignored") } else { Layer::of(graph, node, &shared) };
            LookedAt { place, node, layer }
        };
        Ok(places.into_iter().map(look).collect())
    }

    fn unit(&self, layer: &Layer) -> usize {
        ranks::unit(layer.full_rank(), self.round_to)
    }

    /// The ranks in question for a layer, in order: the multiples of the unit that make it cheaper.
    fn grid(&self, layer: &Layer) -> impl Iterator<Item = usize> {
        let unit = self.unit(layer);
        (1..).map(move |n| n * unit).take_while(|rank| layer.objection(*rank).is_none())
    }

    /// The rank of each layer, or why it stays as it is.
    fn decide(&self, graph: &Graph, spectra: &[Spectrum<'_>]) -> Vec<Result<usize, String>> {
        let cheaper = |layer: &Layer, rank: usize| layer.objection(rank).map_or(Ok(rank), Err);
        match self.rank {
            Rank::Fixed(rank) => spectra.iter().map(|s| cheaper(&s.layer, rank as usize)).collect(),
            Rank::Energy(share) => {
                let rounded = |s: &Spectrum<'_>| ranks::by_energy(&s.lost, share).next_multiple_of(self.unit(&s.layer));
                spectra.iter().map(|s| cheaper(&s.layer, rounded(s))).collect()
            }
            Rank::MacRatio(share) => self.decide_together(graph, spectra, share),
        }
    }

    fn decide_together(&self, graph: &Graph, spectra: &[Spectrum<'_>], share: f64) -> Vec<Result<usize, String>> {
        let grids: Vec<Vec<usize>> = spectra.iter().map(|s| self.grid(&s.layer).collect()).collect();
        let choices: Vec<Vec<Choice>> = spectra.iter().zip(&grids).map(|(s, grid)| s.choices(grid)).collect();
        let total = of_graph(graph).macs;
        let others = total.saturating_sub(spectra.iter().map(|s| s.layer.cost.macs).sum());
        let budget = budget(share, total).saturating_sub(others);
        let chosen = ranks::within_budget(&choices, budget).expect("the budget can be met: it was checked");
        let decide = |((s, grid), choice): ((&Spectrum<'_>, &Vec<usize>), usize)| {
            let as_it_is = || "the budget has room for it as it is".to_string();
            let kept_because = || s.layer.objection(self.unit(&s.layer)).unwrap_or_else(as_it_is);
            grid.get(choice).copied().ok_or_else(kept_because)
        };
        spectra.iter().zip(&grids).zip(chosen).map(decide).collect()
    }
}

impl Pass for LowRank {
    fn name(&self) -> &'static str {
        "low-rank"
    }

    fn apply(&self, edit: &mut GraphEdit<'_>) -> Result<(), PassError> {
        self.plan(edit.graph())?.apply(edit)
    }
}

impl Pass for Plan {
    fn name(&self) -> &'static str {
        "low-rank"
    }

    fn apply(&self, edit: &mut GraphEdit<'_>) -> Result<(), PassError> {
        self.factors.iter().try_for_each(|(name, factors)| layer::replace(edit, name, factors))
    }
}

/// A share of all multiply-accumulate operations.
fn budget(share: f64, total: u64) -> u64 {
    (share * total as f64).floor() as u64
}

/// A layer that is asked for, and as a matrix, or why it cannot be one.
struct LookedAt<'g> {
    /// The node's place in the graph.
    place: usize,
    node: &'g Node,
    layer: Result<Layer, &'static str>,
}

/// A layer with its decomposition.
struct Spectrum<'g> {
    place: usize,
    node: &'g Node,
    layer: Layer,
    svd: Svd,
    /// The share of the energy that each rank loses, from rank 0 on.
    lost: Vec<f64>,
}

impl<'g> Spectrum<'g> {
    fn of(graph: &Graph, place: usize, node: &'g Node, layer: Layer) -> Result<Self, PassError> {
        let weight = graph.param(node.params[0]);
        let svd = layer.matrix(weight)?.svd();
        let svd = svd.map_err(|source| PassError::Linalg { name: weight.name.clone(), source })?;
        let lost = ranks::lost(&svd.s);
        Ok(Self { place, node, layer, svd, lost })
    }

    fn factors(&self, graph: &Graph, rank: usize) -> Result<[Factor; 2], PassError> {
        let dtype = graph.param(self.node.params[0]).data.dtype();
        Ok(self.layer.factors(&self.svd, rank, dtype)?)
    }

    /// What may become of it: the ranks of the grid, and to stay as it is.
    fn choices(&self, grid: &[usize]) -> Vec<Choice> {
        let of_rank = |rank: &usize| Choice { macs: self.layer.cost_at(*rank).macs, lost: self.lost[*rank] };
        grid.iter().map(of_rank).chain([Choice { macs: self.layer.cost.macs, lost: 0.0 }]).collect()
    }

    fn report(&self, graph: &Graph, decision: Result<usize, String>) -> LayerRank {
        let kept = left_alone(graph, self.node, decision.as_ref().err().cloned().unwrap_or_default());
        let report = LayerRank {
            method: self.layer.method().to_string(),
            full_rank: self.layer.full_rank() as u64,
            energy: self.lost.iter().skip(1).take(MAX_ENERGY).map(|lost| 1.0 - lost).collect(),
            ..kept
        };
        let Ok(rank) = decision else { return report };
        let cost = self.layer.cost_at(rank);
        LayerRank {
            rank: rank as u64,
            macs_after: cost.macs,
            params_after: report.params_before - self.layer.cost.params + cost.params,
            relative_error: self.lost[rank].sqrt(),
            ..report
        }
    }
}

/// What the report says of a layer that stays as it is.
fn left_alone(graph: &Graph, node: &Node, kept_because: String) -> LayerRank {
    let cost = of_node(graph, node);
    LayerRank {
        name: node.name.clone(),
        macs_before: cost.macs,
        macs_after: cost.macs,
        params_before: cost.params,
        params_after: cost.params,
        kept_because,
        ..LayerRank::default()
    }
}
