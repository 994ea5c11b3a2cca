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

/// The rounding of weights to `f32` is worth less than this; no operation is spent on it.
const NOISE: f64 = 1e-12;

/// For each layer the place of one of its choices (which are in order: dearer and never worse), so that all together take
/// at most `budget`; `None` if even the cheapest take more. What is minimised is the sum of the lost shares.
///
/// Every layer begins with its cheapest choice. Then, as long as any step up fits into what is left of the budget, the one
/// is taken that gains most for an operation. As long as all of them fit, this walks along the lower convex hull of each
/// layer's choices and is optimal; so in the end no more is lost, beyond the optimum, than the first step that did not
/// fit would have gained.
pub(super) fn within_budget(layers: &[Vec<Choice>], budget: u64) -> Option<Vec<usize>> {
    let cheapest: u64 = layers.iter().map(|choices| choices[0].macs).fold(0, u64::saturating_add);
    let mut left = budget.checked_sub(cheapest)?;
    let mut chosen = vec![0; layers.len()];
    let mut steps: Vec<Option<Step>> = layers.iter().map(|choices| Step::best(choices, 0, left)).collect();
    loop {
        for (l, step) in steps.iter_mut().enumerate() {
            if step.is_some_and(|step| step.macs > left) {
                *step = Step::best(&layers[l], chosen[l], left);
            }
        }
        let best = (0..).zip(&steps).filter_map(|(l, step)| step.map(|step| (l, step)));
        let Some((l, step)) = best.max_by(|(_, a), (_, b)| a.slope.total_cmp(&b.slope)) else { return Some(chosen) };
        left -= step.macs;
        chosen[l] = step.to;
        steps[l] = Step::best(&layers[l], step.to, left);
    }
}

/// From one choice of a layer to a dearer one.
#[derive(Debug, Clone, Copy)]
struct Step {
    to: usize,
    /// The operations that it takes.
    macs: u64,
    /// What it gains for each of them.
    slope: f64,
}

impl Step {
    /// The step from the choice `at` that fits into `left` and gains most for an operation.
    fn best(choices: &[Choice], at: usize, left: u64) -> Option<Self> {
        let now = choices[at];
        let steps = (at + 1..choices.len()).map(|to| {
            let macs = choices[to].macs - now.macs;
            (now.lost - choices[to].lost, Step { to, macs, slope: (now.lost - choices[to].lost) / macs.max(1) as f64 })
        });
        let worthwhile = steps.take_while(|(_, step)| step.macs <= left).filter(|(gain, _)| *gain > NOISE);
        // Of equal slopes the first, which is the cheapest.
        worthwhile.map(|(_, step)| step).reduce(|best, step| if step.slope > best.slope { step } else { best })
    }
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

    /// The largest gain between two neighbouring corners of the lower convex hull. By the definition: two choices are
    /// neighbours if none lies below the line through them.
    fn largest_step(choices: &[Choice]) -> f64 {
        let below = |a: &Choice, b: &Choice, c: &Choice| {
            let share = (c.macs as f64 - a.macs as f64) / (b.macs - a.macs) as f64;
            c.lost < a.lost + share * (b.lost - a.lost) - NOISE
        };
        let pairs = choices.iter().enumerate().flat_map(|(i, a)| choices[i + 1..].iter().map(move |b| (a, b)));
        let neighbours = pairs.filter(|(a, b)| !choices.iter().any(|c| below(a, b, c)));
        neighbours.map(|(a, b)| a.lost - b.lost).fold(0.0, f64::max)
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
            // What is lost beyond the optimum is at most the gain of one step along a hull.
            let largest_step = layers.iter().map(|choices| largest_step(choices)).fold(0.0, f64::max);
            prop_assert!(sum.lost <= optimum + largest_step + NOISE);
            // No layer alone can be better with what is left, and none has a cheaper choice that is as good.
            for (choices, c) in layers.iter().zip(&chosen) {
                let room = budget - sum.macs + choices[*c].macs;
                prop_assert!(choices.iter().all(|other| other.macs > room || other.lost >= choices[*c].lost - NOISE));
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
