//! N:M sparsity: of every `m` consecutive weights along the input axis of each output the `n` best stay (Mishra et al. 2021,
//! "Accelerating Sparse Deep Neural Networks"). The input axis is the second: of a convolution `[out, in, kh, kw]` a group
//! is `m` input channels at one place of the kernel, which is what hardware with 2:4 sparsity leaves out.

use super::rank::keep_best;

/// Of every `of` weights `keep` stay; `1 <= keep <= of`, `of >= 2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pattern {
    /// Weights of a group that stay.
    pub keep: u32,
    /// Weights of a group.
    pub of: u32,
}

impl Pattern {
    /// Why a weight of this shape is left alone, if it is: its inputs do not divide into groups.
    pub fn kept_because(&self, shape: &[usize]) -> Option<String> {
        let inputs = shape.get(1).copied().unwrap_or(0);
        let of = self.of as usize;
        (of == 0 || inputs % of != 0).then(|| format!("{inputs} inputs do not divide into groups of {of}"))
    }

    /// Which elements of a weight `[out, in, ...]` stay, whose scores these are. All do where the inputs do not divide.
    pub(super) fn keep(&self, shape: &[usize], scores: &[f64]) -> Vec<bool> {
        let mut keep = vec![true; scores.len()];
        if self.kept_because(shape).is_some() || scores.is_empty() {
            return keep;
        }
        let (group, behind) = (self.of as usize, shape[2..].iter().product::<usize>());
        let go = group - (self.keep as usize).min(group);
        // Groups of all outputs follow each other, for their number of inputs divides.
        for first in (0..scores.len()).step_by(group * behind) {
            for start in first..first + behind {
                let places = || (0..group).map(|i| start + i * behind);
                let own: Vec<f64> = places().map(|place| scores[place]).collect();
                let kept = keep_best(go, &[own]).concat();
                places().zip(kept).for_each(|(place, kept)| keep[place] = kept);
            }
        }
        keep
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_group_lies_along_the_input_channels_and_not_along_the_kernel() {
        // One output, four input channels, a kernel of two: channels 0 and 2 are large in the first place, 1 and 3 in the
        // second.
        let scores = [9.0, 1.0, 2.0, 8.0, 7.0, 0.0, 3.0, 6.0];
        let keep = Pattern { keep: 2, of: 4 }.keep(&[1, 4, 2], &scores);
        assert_eq!(keep, [true, false, false, true, true, false, false, true]);
    }

    #[test]
    fn a_weight_whose_inputs_do_not_divide_is_left_alone() {
        let pattern = Pattern { keep: 1, of: 4 };
        assert_eq!(pattern.keep(&[2, 3], &[1.0; 6]), [true; 6]);
        assert_eq!(pattern.kept_because(&[2, 3]).unwrap(), "3 inputs do not divide into groups of 4");
        assert_eq!(pattern.kept_because(&[2, 8, 3, 3]), None);
    }

    proptest! {
        /// Against the definition, element by element: one stays if fewer than `n` of its group are better or as good and
        /// later.
        #[test]
        fn as_many_of_each_group_stay_as_asked(
            out in 1usize..3, groups in 1usize..3, of in 2usize..5, behind in 1usize..4, n in 1usize..5, seed: u64,
        ) {
            let n = n.min(of);
            let shape = [out, groups * of, behind];
            let scores: Vec<f64> =
                (0..out * groups * of * behind).map(|i| ((i as u64).wrapping_mul(seed | 1) >> 7) as f64 % 7.0).collect();
            let keep = Pattern { keep: n as u32, of: of as u32 }.keep(&shape, &scores);
            let at = |o: usize, i: usize, k: usize| (o * groups * of + i) * behind + k;
            for o in 0..out {
                for i in 0..groups * of {
                    for k in 0..behind {
                        let own = scores[at(o, i, k)];
                        let better = (0..of).map(|j| i / of * of + j).filter(|j| {
                            let other = scores[at(o, *j, k)];
                            other > own || (other == own && *j > i)
                        });
                        prop_assert_eq!(keep[at(o, i, k)], better.count() < n);
                    }
                }
            }
        }
    }
}
