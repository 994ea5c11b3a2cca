//! How many channels of each group stay: the same share everywhere, a share of all, or as few as a budget asks for.
//!
//! Within a group the least important go first. Between groups a budget is met by steps: each takes from the group whose
//! next channels matter least for what they save, and what is saved is computed anew after each step, for a channel of one
//! layer costs what its neighbours have left.

use std::fmt;

use super::importance::ChannelScores;
use super::latency::Clock;
use crate::graph::dims::{Cut, Dims, Group};
use crate::graph::{Graph, glob};
use crate::passes::PassError;

/// How much goes.
#[derive(Debug, Clone, PartialEq)]
pub enum Amount {
    /// This share of each group, in `[0, 1)`.
    Ratio(f64),
    /// This share of all channels, in `[0, 1)`: the least important of the whole network.
    GlobalRatio(f64),
    /// As many as bring the network to a budget.
    Budget(Budget),
    /// As many as bring the time for one sample to this share of what it is, in `(0, 1)`, as measured on this machine: no two
    /// plans need be the same.
    Latency(f64),
}

impl Amount {
    /// What is counted, and the share of it that may be left; `None`: each group by itself.
    fn goal(&self) -> Option<(Metric, f64)> {
        match self {
            Amount::Ratio(_) | Amount::Latency(_) => None,
            Amount::GlobalRatio(ratio) => Some((Metric::Channels, 1.0 - ratio)),
            Amount::Budget(budget) => Some((budget.metric, budget.share)),
        }
    }
}

/// What the network may still cost, as a share of what it costs now, in `(0, 1)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    /// What is counted.
    pub metric: Metric,
    /// The share.
    pub share: f64,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Multiply-accumulate operations for one sample.
    Macs,
    /// Parameters, and so the bytes of the file.
    Params,
    /// Channels of the groups that may be cut.
    Channels,
}

impl Metric {
    /// Its name in sentences.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Macs => "multiply-accumulate operations",
            Metric::Params => "parameters",
            Metric::Channels => "channels",
        }
    }

    /// That no more than `reachable` can be had of what is left, where `asked` is wanted, in the words of the field.
    pub fn out_of_reach(self, asked: f64, reachable: f64, because: &str) -> String {
        let (field, name) = (self.field(), self.name());
        let rounded = |share: f64| (share * 1e6).round() / 1e6;
        match self {
            Metric::Channels => format!(
                "`{field}` {} cannot be met: at most {} of the {name} can go with {because}",
                rounded(1.0 - asked),
                ((1.0 - reachable) * 1e4).floor() / 1e4,
            ),
            _ => format!(
                "`{field}` {asked} cannot be met: {:.4} of the {name} is the least that can be had with {because}",
                (reachable * 1e4).ceil() / 1e4,
            ),
        }
    }

    /// The field of a step's amount that holds it.
    pub fn field(self) -> &'static str {
        match self {
            Metric::Macs => "mac_ratio",
            Metric::Params => "param_ratio",
            Metric::Channels => "global_ratio",
        }
    }

    /// How much there is of it when so many of each group's channels are left.
    pub(crate) fn count(self, graph: &Graph, dims: &Dims, choices: &[Vec<usize>], counts: &[usize]) -> f64 {
        match self {
            Metric::Macs => dims.cost(graph, counts).macs as f64,
            Metric::Params => dims.cost(graph, counts).params as f64,
            Metric::Channels => {
                let cuttable = counts.iter().zip(choices).filter(|(_, choices)| choices.len() > 1);
                cuttable.map(|(count, _)| *count as f64).sum()
            }
        }
    }
}

/// Which groups may lose how much.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// The layers whose outputs may be cut: names or globs of nodes; empty: all.
    pub layers: Vec<String>,
    /// Layers whose outputs are left alone: names or globs of nodes.
    pub ignored: Vec<String>,
    /// What stays of a group is a multiple of it, where the group has twice as many.
    pub round_to: usize,
    /// No group has fewer in the end.
    pub min_keep: usize,
    /// No group loses a larger share.
    pub max_ratio: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { layers: Vec::new(), ignored: Vec::new(), round_to: 8, min_keep: 1, max_ratio: 0.9 }
    }
}

/// What keeps more from going: `max_ratio 0.9, round_to 8`.
impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "max_ratio {}, round_to {}, min_keep {}", self.max_ratio, self.round_to, self.min_keep)?;
        for (field, patterns) in [("layers", &self.layers), ("ignored", &self.ignored)] {
            if !patterns.is_empty() {
                write!(f, ", {field} {patterns:?}")?;
            }
        }
        Ok(())
    }
}

impl Limits {
    /// For each group the numbers of channels that may stay, ascending; the last is all of them.
    ///
    /// Errors: a glob that fits no layer, layers whose outputs cannot be cut, which say why, and nothing that can be cut.
    pub fn choices(&self, graph: &Graph, dims: &Dims) -> Result<Vec<Vec<usize>>, PassError> {
        for (field, patterns) in [("layers", &self.layers), ("ignored", &self.ignored)] {
            if let Some(pattern) = patterns.iter().find(|pattern| layers(graph, pattern).is_empty()) {
                return Err(PassError::NoSuchNode { field, pattern: pattern.clone(), what: "layer" });
            }
        }
        for (pattern, place) in self.layers.iter().filter_map(|pattern| {
            let place = graph.nodes().iter().position(|node| node.name == *pattern)?;
            Some((pattern, place))
        }) {
            // A layer that is named outright, and not by a pattern among others, must be one that can be cut.
            let mut own = dims.groups().iter().filter(|group| group.layers.contains(&place)).peekable();
            if own.peek().is_some() && own.clone().all(|group| !group.is_exact()) {
                let why = own.find_map(|group| group.frozen.clone().or(group.inexact.clone()));
                let (node, why) = why.map_or((String::new(), ""), |why| (why.node, why.why));
                return Err(PassError::Frozen { layer: pattern.clone(), node, why });
            }
        }
        let choices = self.of_groups(graph, dims);
        if can_cut(&choices) {
            return Ok(choices);
        }
        let because = self.binding(|limits| f64::from(!can_cut(&limits.of_groups(graph, dims))));
        Err(PassError::NothingToCut { because })
    }

    fn of_groups(&self, graph: &Graph, dims: &Dims) -> Vec<Vec<usize>> {
        let select = |patterns: &[String]| patterns.iter().flat_map(|p| layers(graph, p)).collect::<Vec<usize>>();
        let (asked, ignored) = (select(&self.layers), select(&self.ignored));
        let chosen = |group: &Group| {
            let asked = self.layers.is_empty() || group.layers.iter().any(|layer| asked.contains(layer));
            group.is_exact() && asked && !group.layers.iter().any(|layer| ignored.contains(layer))
        };
        let of_group = |group: &Group| if chosen(group) { self.of_group(group.size) } else { vec![group.size] };
        dims.groups().iter().map(of_group).collect()
    }

    /// The limits without any one of which `reach`, the least that can be had, would be less; all of them where no single
    /// one decides.
    fn binding(&self, reach: impl Fn(&Limits) -> f64) -> String {
        let without = [
            (format!("`max_ratio` {}", self.max_ratio), Limits { max_ratio: 1.0, ..self.clone() }),
            (format!("`round_to` {}", self.round_to), Limits { round_to: 1, ..self.clone() }),
            (format!("`min_keep` {}", self.min_keep), Limits { min_keep: 1, ..self.clone() }),
            (format!("`layers` {:?}", self.layers), Limits { layers: Vec::new(), ..self.clone() }),
            (format!("`ignored` {:?}", self.ignored), Limits { ignored: Vec::new(), ..self.clone() }),
        ];
        let now = reach(self);
        let decide = without.into_iter().filter(|(_, limits)| reach(limits) < now).map(|(name, _)| name);
        let names = decide.collect::<Vec<String>>().join(" and ");
        if names.is_empty() { self.to_string() } else { names }
    }

    fn of_group(&self, size: usize) -> Vec<usize> {
        let step = if size >= 2 * self.round_to { self.round_to } else { (size / 4).max(1).min(self.round_to) };
        let cap = size - (self.max_ratio * size as f64).floor() as usize;
        let least = self.min_keep.max(cap).max(1);
        let mut choices: Vec<usize> =
            (1..).map(|n| n * step).take_while(|n| *n < size).filter(|n| *n >= least).collect();
        choices.push(size);
        choices
    }
}

/// The layers that a name or glob names, by their places among the nodes.
fn layers(graph: &Graph, pattern: &String) -> Vec<usize> {
    let nodes = glob::select_nodes(graph, std::slice::from_ref(pattern)).unwrap_or_default();
    nodes.into_iter().filter(|place| graph.nodes()[*place].op.is_layer()).collect()
}

fn can_cut(choices: &[Vec<usize>]) -> bool {
    choices.iter().any(|choices| choices.len() > 1)
}

/// The channels that stay.
///
/// Errors: what [`Limits::choices`] says; a budget that the limits do not reach.
pub fn plan(
    graph: &Graph,
    dims: &Dims,
    scores: &ChannelScores,
    amount: &Amount,
    limits: &Limits,
) -> Result<Cut, PassError> {
    let choices = limits.choices(graph, dims)?;
    let whole = dims.sizes();
    let within = |budget: Budget| -> Result<Vec<usize>, PassError> {
        check(graph, dims, amount, limits)?;
        let cost = |counts: &[usize]| budget.metric.count(graph, dims, &choices, counts);
        Ok(descend(scores, &choices, &cost, cost(&whole) * budget.share))
    };
    let counts = match amount {
        Amount::Ratio(ratio) => {
            let all = choices.iter().zip(&whole);
            all.map(|(choices, size)| nearest(choices, (1.0 - ratio) * *size as f64)).collect()
        }
        Amount::GlobalRatio(ratio) => within(Budget { metric: Metric::Channels, share: 1.0 - ratio })?,
        Amount::Budget(budget) => within(*budget)?,
        Amount::Latency(share) => by_latency(graph, dims, scores, &choices, *share, limits)?,
    };
    Ok(keep_best(scores, &counts))
}

/// How many channels of each group stay within a share of the time that one sample takes.
fn by_latency(
    graph: &Graph,
    dims: &Dims,
    scores: &ChannelScores,
    choices: &[Vec<usize>],
    share: f64,
    limits: &Limits,
) -> Result<Vec<usize>, PassError> {
    let clock = Clock::new(graph, dims);
    let whole = dims.sizes();
    let goal = clock.milliseconds(&whole) * share;
    let counts = descend(scores, choices, &|counts| clock.milliseconds(counts), goal);
    let reached = clock.milliseconds(&counts);
    clock.finish()?;
    if choices.iter().zip(&counts).all(|(choices, count)| choices[0] == *count) && reached > goal {
        let reachable = (reached / goal * share * 1e4).ceil() / 1e4;
        return Err(PassError::TimeOutOfReach { asked: share, reachable, because: limits.to_string() });
    }
    Ok(counts)
}

/// Whether a plan can be made, whatever the scores.
///
/// Errors: those of [`plan`].
pub fn check(graph: &Graph, dims: &Dims, amount: &Amount, limits: &Limits) -> Result<(), PassError> {
    let choices = limits.choices(graph, dims)?;
    let Some((metric, asked)) = amount.goal() else { return Ok(()) };
    let whole = metric.count(graph, dims, &choices, &dims.sizes());
    // What is counted are the channels that may be cut under the limits asked for, whatever else they might be.
    let reach = |limits: &Limits| {
        let least: Vec<usize> = limits.of_groups(graph, dims).iter().map(|choices| choices[0]).collect();
        metric.count(graph, dims, &choices, &least) / whole
    };
    let reachable = reach(limits);
    if reachable > asked {
        let because = limits.binding(reach);
        return Err(PassError::BudgetOutOfReach { metric, asked, reachable, because });
    }
    Ok(())
}

/// Of each group the most important channels; of equal ones the first.
pub fn keep_best(scores: &ChannelScores, counts: &[usize]) -> Cut {
    let best = |(scores, count): (&Vec<f64>, &usize)| {
        if scores.is_empty() {
            return (0..*count).collect();
        }
        let mut order = ranked(scores);
        order.truncate(*count);
        order.sort_unstable();
        order
    };
    Cut { keep: scores.iter().zip(counts).map(best).collect() }
}

/// The coordinates, the most important first.
fn ranked(scores: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    order
}

/// Takes step by step from the group whose next channels matter least for what they save, until the cost is at most
/// `goal` or nothing is left to take. The numbers that stay.
fn descend(scores: &ChannelScores, choices: &[Vec<usize>], cost: &dyn Fn(&[usize]) -> f64, goal: f64) -> Vec<usize> {
    // What is lost in all when only the first `n` of the order stay.
    let lost: Vec<Vec<f64>> = scores
        .iter()
        .map(|scores| {
            let mut sums = vec![0.0; scores.len() + 1];
            for (n, at) in ranked(scores).iter().enumerate().rev() {
                sums[n] = sums[n + 1] + scores[*at];
            }
            sums
        })
        .collect();
    let mut at: Vec<usize> = choices.iter().map(|choices| choices.len() - 1).collect();
    let mut counts: Vec<usize> = choices.iter().zip(&at).map(|(choices, at)| choices[*at]).collect();
    let mut now = cost(&counts);
    while now > goal {
        let mut best: Option<(f64, usize, f64)> = None;
        for group in (0..choices.len()).filter(|group| at[*group] > 0) {
            let before = counts[group];
            counts[group] = choices[group][at[group] - 1];
            let then = cost(&counts);
            let price = (lost[group][counts[group]] - lost[group][before]) / (now - then).max(f64::MIN_POSITIVE);
            counts[group] = before;
            if best.is_none_or(|(least, ..)| price < least) {
                best = Some((price, group, then));
            }
        }
        let Some((_, group, then)) = best else { break };
        at[group] -= 1;
        counts[group] = choices[group][at[group]];
        now = then;
    }
    counts
}

/// The choice nearest to a number; of two equally near the larger.
fn nearest(choices: &[usize], goal: f64) -> usize {
    let distance = |n: &&usize| (**n as f64 - goal).abs();
    choices.iter().rev().min_by(|a, b| distance(a).total_cmp(&distance(b))).copied().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::passes::prune::channels::importance::{Importance, by_weights};
    use crate::passes::prune::channels::networks::{networks, two_convolutions};

    fn planned(graph: &Graph, amount: Amount, limits: &Limits) -> Result<Vec<usize>, PassError> {
        let dims = Dims::of(graph);
        let scores = by_weights(graph, &dims, Importance::L2, 1)?.unwrap();
        Ok(Dims::counts(&plan(graph, &dims, &scores, &amount, limits)?))
    }

    fn limits(layers: &[&str], ignored: &[&str]) -> Limits {
        let own = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
        Limits { layers: own(layers), ignored: own(ignored), round_to: 1, ..Limits::default() }
    }

    #[test]
    fn a_ratio_takes_the_same_share_of_each_group_and_rounds_to_what_vectors_take() {
        let graph = two_convolutions();
        let free = limits(&[], &[]);
        // conv1 has 8 channels, conv2 6, and fc writes the output.
        assert_eq!(planned(&graph, Amount::Ratio(0.5), &free).unwrap(), [4, 3, 4]);
        assert_eq!(planned(&graph, Amount::Ratio(0.5), &limits(&[], &["conv1"])).unwrap(), [8, 3, 4]);
        assert_eq!(planned(&graph, Amount::Ratio(0.5), &limits(&["conv1"], &[])).unwrap(), [4, 6, 4]);
        assert_eq!(planned(&graph, Amount::Ratio(0.4), &Limits { round_to: 4, ..free.clone() }).unwrap(), [4, 4, 4]);
        assert_eq!(planned(&graph, Amount::Ratio(0.9), &Limits { min_keep: 3, ..free }).unwrap(), [3, 3, 4]);
    }

    #[test]
    fn what_cannot_be_cut_is_told_with_its_reason() {
        let graph = two_convolutions();
        let error = |amount, limits: &Limits| planned(&graph, amount, limits).unwrap_err().to_string();
        let half = || Amount::Ratio(0.5);
        assert_eq!(
            error(half(), &limits(&["fc"], &[])),
            "`layers`: the outputs of 'fc' cannot be cut, because of 'fc': it is an output of the network"
        );
        assert_eq!(error(half(), &limits(&[], &["dense*"])), "'dense*' in `ignored` fits no layer of the model");
        assert_eq!(error(half(), &limits(&["relu1"], &[])), "'relu1' in `layers` fits no layer of the model");
        let nothing = error(half(), &limits(&[], &["*"]));
        assert!(nothing.starts_with("there is nothing to cut"), "{nothing}");
        let none = Limits { max_ratio: 0.1, ..limits(&[], &[]) };
        assert!(
            error(half(), &none).starts_with("there is nothing to cut with `max_ratio` 0.1; "),
            "{}",
            error(half(), &none)
        );
        let tight = Limits { max_ratio: 0.5, ..limits(&[], &[]) };
        assert_eq!(
            error(Amount::GlobalRatio(0.7), &tight),
            "`global_ratio` 0.7 cannot be met: at most 0.5 of the channels can go with `max_ratio` 0.5"
        );
        let budget = Amount::Budget(Budget { metric: Metric::Macs, share: 0.1 });
        assert_eq!(
            error(budget, &tight),
            "`mac_ratio` 0.1 cannot be met: 0.3854 of the multiply-accumulate operations is the least that can be had with \
             `max_ratio` 0.5"
        );
    }

    #[test]
    fn a_time_is_met_by_choices_within_the_limits_or_told_to_be_out_of_reach() {
        let graph = two_convolutions();
        // Any network that is timed takes less than a thousand times what it takes, and more than a billionth.
        assert_eq!(planned(&graph, Amount::Latency(1e3), &limits(&[], &[])).unwrap(), [8, 6, 4]);
        let error = planned(&graph, Amount::Latency(1e-9), &limits(&[], &[])).unwrap_err();
        assert_eq!(error.field(), Some("latency_ratio"));
        assert!(matches!(error, PassError::TimeOutOfReach { reachable, .. } if reachable > 1e-9), "{error}");
    }

    #[test]
    fn channels_that_matter_least_go_first() {
        let scores = vec![vec![0.3, 0.1, 0.9, 0.1], vec![]];
        assert_eq!(keep_best(&scores, &[3, 2]).keep, [vec![0, 1, 2], vec![0, 1]]);
        assert_eq!(keep_best(&scores, &[1, 2]).keep, [vec![2], vec![0, 1]]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// A plan meets its budget, respects every limit, and takes no step that the budget did not ask for.
        #[test]
        fn a_budget_is_met_within_the_limits(graph in networks(), share in 0.3f64..1.0, round_to in 1usize..5, min_keep in 1usize..4) {
            let dims = Dims::of(&graph);
            let limits = Limits { round_to, min_keep, ..limits(&[], &[]) };
            let budget = Budget { metric: Metric::Params, share };
            let counts = match planned(&graph, Amount::Budget(budget), &limits) {
                Ok(counts) => counts,
                Err(PassError::BudgetOutOfReach { reachable, .. }) => {
                    prop_assert!(reachable > share);
                    return Ok(());
                }
                Err(PassError::NothingToCut { .. }) => return Ok(()),
                Err(other) => return Err(TestCaseError::fail(other.to_string())),
            };
            let whole = dims.sizes();
            let params = |counts: &[usize]| dims.cost(&graph, counts).params as f64;
            prop_assert!(params(&counts) <= share * params(&whole));
            for ((count, group), choices) in counts.iter().zip(dims.groups()).zip(limits.choices(&graph, &dims).unwrap()) {
                prop_assert!(choices.contains(count));
                prop_assert!(group.is_exact() || *count == group.size);
            }
            let cut = Cut { keep: counts.iter().map(|count| (0..*count).collect()).collect() };
            let mut smaller = graph.clone();
            let mut edit = smaller.edit();
            dims.cut(&mut edit, &cut).unwrap();
            edit.commit().unwrap();
            // What was reckoned is what the network costs.
            let cost = crate::graph::cost::of_graph(&smaller);
            let reckoned = dims.cost(&graph, &counts);
            prop_assert_eq!((reckoned.params, reckoned.macs), (cost.params, cost.macs));
        }
    }
}
