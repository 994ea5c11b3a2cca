//! Which ranks: by energy layer by layer, or all layers together within a budget.
//!
//! The energy of a matrix is the sum of its squared singular values; rank `r` keeps the share of the first `r` of them and
//! loses the rest, and that is the squared error of the best approximation of that rank (Eckart and Young 1936).

/// Ranks that are a multiple of it: `round_to`, halved as often as it takes until the full rank holds at least two.
pub(super) fn unit(full_rank: usize, round_to: u32) -> usize {
    let mut unit = (round_to as usize).max(1);
    while unit > 1 && full_rank < 2 * unit {
        unit /= 2;
    }
    unit
}

/// The share of the energy that each rank loses, from rank 0 (all, unless there is none) to the full rank (nothing).
pub(super) fn lost(singular_values: &[f64]) -> Vec<f64> {
    // From the smallest on, so that small tails are exact.
    let mut tails = vec![0.0];
    for s in singular_values.iter().rev() {
        tails.push(tails[tails.len() - 1] + s * s);
    }
    tails.reverse();
    let total = tails[0];
    tails.iter().map(|tail| if total > 0.0 { tail / total } else { 0.0 }).collect()
}

/// The least rank of at least 1 that keeps `share` of the energy.
pub(super) fn by_energy(lost: &[f64], share: f64) -> usize {
    let full_rank = lost.len() - 1;
    (1..full_rank).find(|rank| 1.0 - lost[*rank] >= share).unwrap_or(full_rank)
}

/// One of the things that may become of a layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Choice {
    /// The multiply-accumulate operations that it takes.
    pub(super) macs: u64,
    /// The share of the layer's energy that it loses.
    pub(super) lost: f64,
}

/// For each layer the place of one of its choices (which are in order: dearer and never worse), so that all together take
/// at most `budget`; `None` if even the cheapest take more. What is minimised is the sum of the lost shares.
///
/// Every layer begins with its cheapest choice and goes up along the lower convex hull of its choices, always the layer
/// that gains most for an operation, until the budget is used up; that is optimal but for what the last step would have
/// gained. Then what is left of the budget goes to single layers, those first that it helps most.
pub(super) fn within_budget(layers: &[Vec<Choice>], budget: u64) -> Option<Vec<usize>> {
    let cheapest: u64 = layers.iter().map(|choices| choices[0].macs).fold(0, u64::saturating_add);
    let mut left = budget.checked_sub(cheapest)?;
    let mut chosen = vec![0; layers.len()];
    let mut steps: Vec<(usize, Step)> = layers
        .iter()
        .enumerate()
        .flat_map(|(l, choices)| hull(choices).into_iter().map(move |step| (l, step)))
        .collect();
    // Stable, so that the steps of one layer stay in their order.
    steps.sort_by(|(_, a), (_, b)| b.slope.total_cmp(&a.slope));
    for (l, step) in steps {
        let macs = layers[l][step.to].macs - layers[l][step.from].macs;
        if chosen[l] == step.from && macs <= left {
            chosen[l] = step.to;
            left -= macs;
        }
    }
    // The best choice that is left for a layer: the dearest that fits, or the cheapest that is as good.
    let best = |l: usize, at: usize, left: u64| -> usize {
        let fit = layers[l][at..].partition_point(|choice| choice.macs - layers[l][at].macs <= left);
        let fit = &layers[l][at..at + fit];
        at + fit.partition_point(|choice| choice.lost > fit[fit.len() - 1].lost)
    };
    let gain = |l: usize, at: usize, left: u64| layers[l][at].lost - layers[l][best(l, at, left)].lost;
    let mut order: Vec<(usize, f64)> = (0..layers.len()).map(|l| (l, gain(l, chosen[l], left))).collect();
    order.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    for (l, _) in order {
        let to = best(l, chosen[l], left);
        left -= layers[l][to].macs - layers[l][chosen[l]].macs;
        chosen[l] = to;
    }
    Some(chosen)
}

/// From one corner of a layer's hull to the next.
struct Step {
    from: usize,
    to: usize,
    /// What it gains for an operation.
    slope: f64,
}

/// The steps along the lower convex hull of a layer's choices, which become flatter and flatter; those that gain nothing
/// are left out.
fn hull(choices: &[Choice]) -> Vec<Step> {
    let slope = |from: usize, to: usize| {
        (choices[from].lost - choices[to].lost) / (choices[to].macs - choices[from].macs).max(1) as f64
    };
    let mut steps: Vec<Step> = Vec::new();
    for to in 1..choices.len() {
        let mut from = steps.last().map_or(0, |step| step.to);
        // A corner above the line to the new one is none.
        while let Some(step) = steps.pop_if(|step| slope(step.from, to) > step.slope) {
            from = step.from;
        }
        if choices[to].lost < choices[from].lost {
            steps.push(Step { from, to, slope: slope(from, to) });
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn choices(numbers: &[(u64, f64)]) -> Vec<Choice> {
        let (mut macs, mut lost) = (0, 1.0);
        let mut next = |(more, share): &(u64, f64)| {
            macs += more;
            lost *= share;
            Choice { macs, lost }
        };
        let mut choices: Vec<Choice> = numbers.iter().map(&mut next).collect();
        let kept = next(&(1, 0.0));
        choices.push(kept);
        choices
    }

    /// Up to three layers of up to five choices with any spectra.
    fn networks() -> impl Strategy<Value = Vec<Vec<Choice>>> {
        let layer = prop::collection::vec((1u64..20, 0f64..=1.0), 0..5);
        prop::collection::vec(layer.prop_map(|numbers| choices(&numbers)), 1..4)
    }

    fn total(layers: &[Vec<Choice>], chosen: &[usize]) -> Choice {
        let of = layers.iter().zip(chosen).map(|(choices, c)| choices[*c]);
        of.fold(Choice { macs: 0, lost: 0.0 }, |a, b| Choice { macs: a.macs + b.macs, lost: a.lost + b.lost })
    }

    /// Every combination.
    fn all(layers: &[Vec<Choice>]) -> Vec<Vec<usize>> {
        layers.iter().fold(vec![vec![]], |heads, choices| {
            let longer = |head: &Vec<usize>| (0..choices.len()).map(|c| [&head[..], &[c]].concat()).collect::<Vec<_>>();
            heads.iter().flat_map(longer).collect()
        })
    }

    proptest! {
        /// Against all combinations.
        #[test]
        fn the_budget_is_met_and_hardly_more_is_lost_than_must_be(layers in networks(), share in 0f64..1.1) {
            let most: u64 = layers.iter().map(|choices| choices[choices.len() - 1].macs).sum();
            let budget = (share * most as f64) as u64;
            let fitting: Vec<Choice> =
                all(&layers).iter().map(|c| total(&layers, c)).filter(|sum| sum.macs <= budget).collect();
            let Some(chosen) = within_budget(&layers, budget) else {
                prop_assert!(fitting.is_empty());
                return Ok(());
            };
            let sum = total(&layers, &chosen);
            prop_assert!(sum.macs <= budget);
            let optimum = fitting.iter().map(|sum| sum.lost).fold(f64::INFINITY, f64::min);
            let largest_step = layers.iter().flat_map(|choices| {
                hull(choices).into_iter().map(|step| choices[step.from].lost - choices[step.to].lost)
            });
            prop_assert!(sum.lost <= optimum + largest_step.fold(0.0, f64::max) + 1e-12);
            // No layer alone can be better with what is left, and none has a cheaper choice that is as good.
            for (choices, c) in layers.iter().zip(&chosen) {
                let room = budget - sum.macs + choices[*c].macs;
                prop_assert!(choices.iter().all(|other| other.macs > room || other.lost >= choices[*c].lost));
                prop_assert!(choices.iter().all(|other| other.macs >= choices[*c].macs || other.lost > choices[*c].lost));
            }
        }

        #[test]
        fn shares_that_are_lost_are_those_of_the_tail(values in prop::collection::vec(0f64..10.0, 1..8)) {
            let mut values = values;
            values.sort_by(|a, b| b.total_cmp(a));
            let lost = lost(&values);
            let total: f64 = values.iter().map(|s| s * s).sum();
            for rank in 0..=values.len() {
                let tail: f64 = values[rank..].iter().map(|s| s * s).sum();
                prop_assert!((lost[rank] * total - tail).abs() < 1e-9);
            }
            prop_assert_eq!(by_energy(&lost, 0.0), 1);
            prop_assert!(1.0 - lost[by_energy(&lost, 0.7)] >= 0.7);
        }
    }

    #[test]
    fn the_unit_is_halved_where_a_layer_is_small() {
        let units = [100, 16, 15, 7, 4, 3, 2, 1].map(|full_rank| unit(full_rank, 8));
        assert_eq!(units, [8, 8, 4, 2, 2, 1, 1, 1]);
        assert_eq!(unit(9, 1), 1);
    }

    #[test]
    fn what_has_a_low_rank_is_found_to_have_it() {
        assert_eq!(by_energy(&lost(&[3.0, 1.0, 0.0, 0.0]), 1.0), 2);
        assert_eq!(by_energy(&lost(&[0.0, 0.0]), 1.0), 1);
    }
}
