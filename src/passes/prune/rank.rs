//! Which weights go when a number of them is to go: those of least score, ranked together. Of equal ones the earlier goes
//! first, so that the result is defined.

use niwaki_kernels::prune::Cut;

/// Which numbers of `parts` stay when the `go` of least magnitude go; all of them where there are no more.
pub(super) fn keep_largest(go: usize, parts: &[&[f32]]) -> Vec<Vec<bool>> {
    Cut::after(go, parts).keep(parts)
}

/// Which places of `parts` stay when the `go` of least score go; all of them where there are no more. No score is NaN.
pub(super) fn keep_best(go: usize, parts: &[impl AsRef<[f64]>]) -> Vec<Vec<bool>> {
    let parts: Vec<&[f64]> = parts.iter().map(AsRef::as_ref).collect();
    let mut keep: Vec<Vec<bool>> = parts.iter().map(|part| vec![true; part.len()]).collect();
    let places = parts.iter().enumerate().flat_map(|(part, scores)| (0..scores.len()).map(move |at| (part, at)));
    let mut order: Vec<(usize, usize)> = places.collect();
    if go > 0 && go < order.len() {
        // As for numbers, -0 is 0.
        let score = |(part, at): (usize, usize)| parts[part][at] + 0.0;
        order.select_nth_unstable_by(go - 1, |a, b| score(*a).total_cmp(&score(*b)).then(a.cmp(b)));
    }
    for (part, at) in order.into_iter().take(go) {
        keep[part][at] = false;
    }
    keep
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn of_equal_scores_the_earlier_goes_first() {
        let kept = keep_best(3, &[vec![1.0, -2.0, 0.0], vec![-0.0, 5.0]]);
        assert_eq!(kept, [vec![true, false, false], vec![false, true]]);
        assert_eq!(keep_best(9, &[vec![1.0, 2.0]]), [[false, false]]);
        assert_eq!(keep_best(0, &[vec![1.0, 2.0]]), [[true, true]]);
    }

    proptest! {
        /// Against the definition: sort all, stably, and drop the first.
        #[test]
        fn the_lowest_go_as_by_sorting(
            parts in prop::collection::vec(prop::collection::vec(-3i8..3, 0..20), 0..4), share in 0f64..1.1,
        ) {
            let parts: Vec<Vec<f64>> = parts.iter().map(|p| p.iter().map(|v| f64::from(*v)).collect()).collect();
            let all = parts.concat();
            let go = (share * all.len() as f64) as usize;
            let mut order: Vec<usize> = (0..all.len()).collect();
            order.sort_by(|a, b| all[*a].partial_cmp(&all[*b]).unwrap());
            let mut expected = vec![true; all.len()];
            order.iter().take(go).for_each(|place| expected[*place] = false);
            prop_assert_eq!(keep_best(go, &parts).concat(), expected);
            // Of magnitudes, both ways are one.
            let magnitudes: Vec<Vec<f64>> = parts.iter().map(|p| p.iter().map(|v| v.abs()).collect()).collect();
            let values: Vec<Vec<f32>> = parts.iter().map(|p| p.iter().map(|v| *v as f32).collect()).collect();
            let values: Vec<&[f32]> = values.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(keep_best(go, &magnitudes), keep_largest(go, &values));
        }
    }
}
