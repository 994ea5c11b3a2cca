//! New genomes: spread over the space, from two parents, and by small changes.
//!
//! ```text
//!   simulated binary crossover     c = (a + b -+ beta (b - a)) / 2,   beta = (2u)^(1/16)           u < 1/2
//!   (Deb and Agrawal 1995)                                            beta = (2 (1 - u))^(-1/16)   else
//! ```
//!
//! with `u` uniform in [0, 1) for each gene, rounded to whole numbers. The distribution index is 15, so that the root is
//! four square roots, which are the same bits on every machine.

use rand::Rng;
use rand::seq::SliceRandom;

use super::{Genome, Space};

/// The chance that two parents are mixed at all.
const CROSSOVER: f64 = 0.9;
/// A change moves a gene by up to so many units.
const STEP: u32 = 3;

/// `count` genomes with all genes at the same share of their way, from the least to the greatest genome.
pub(super) fn even(space: &Space, count: usize) -> impl Iterator<Item = Genome> + '_ {
    let last = count.saturating_sub(1).max(1) as f64;
    (0..count).map(move |i| space.at(std::iter::repeat(i as f64 / last)))
}

/// A Latin hypercube of `count` genomes (McKay, Beckman and Conover 1979): each gene's way is cut into `count` equal parts,
/// and each part has one genome in it.
pub(super) fn latin(space: &Space, count: usize, rng: &mut impl Rng) -> Vec<Genome> {
    let mut shares = vec![Vec::with_capacity(space.genes()); count];
    for _ in 0..space.genes() {
        let mut parts: Vec<usize> = (0..count).collect();
        parts.shuffle(rng);
        for (shares, part) in shares.iter_mut().zip(parts) {
            shares.push((part as f64 + rng.random::<f64>()) / count as f64);
        }
    }
    shares.into_iter().map(|shares| space.at(shares)).collect()
}

/// A genome each of whose genes may be anything.
pub(super) fn random(space: &Space, rng: &mut impl Rng) -> Genome {
    space.bounds().map(|[low, high]| rng.random_range(low..=high)).collect()
}

/// Two children of two parents. Each gene is mixed with chance one half, else handed down as it is.
pub(super) fn crossed(space: &Space, parents: [&[u32]; 2], rng: &mut impl Rng) -> [Genome; 2] {
    let mut children = parents.map(<[u32]>::to_vec);
    if !rng.random_bool(CROSSOVER) {
        return children;
    }
    for (gene, bounds) in space.bounds().enumerate() {
        if !rng.random_bool(0.5) {
            continue;
        }
        let [a, b] = parents.map(|parent| f64::from(parent[gene]));
        let (middle, half) = ((a + b) / 2.0, spread(rng.random()) * (b - a) / 2.0);
        // Which child is on which side is a matter of chance, too.
        let half = if rng.random() { half } else { -half };
        children[0][gene] = Space::nearest(bounds, middle - half);
        children[1][gene] = Space::nearest(bounds, middle + half);
    }
    children
}

/// How far apart two children are, as a multiple of their parents' distance.
fn spread(u: f64) -> f64 {
    let power = if u < 0.5 { 2.0 * u } else { 1.0 / (2.0 * (1.0 - u)) };
    power.sqrt().sqrt().sqrt().sqrt()
}

/// Moves genes up or down by a few units: one of them on average.
pub(super) fn mutate(space: &Space, genome: &mut [u32], rng: &mut impl Rng) {
    let chance = 1.0 / space.genes() as f64;
    for (gene, [low, high]) in genome.iter_mut().zip(space.bounds()) {
        if rng.random_bool(chance) {
            let step = rng.random_range(1..=STEP);
            *gene = if rng.random() { gene.saturating_add(step).min(high) } else { gene.saturating_sub(step).max(low) };
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::seed;

    fn spaces() -> impl Strategy<Value = Space> {
        let ends = prop_oneof![0u32..20, any::<u32>()];
        prop::collection::vec((ends.clone(), ends), 1..6).prop_map(|ends| {
            let (low, high) = ends.into_iter().map(|(a, b)| (a.min(b), a.max(b))).unzip();
            Space::new(low, high).unwrap()
        })
    }

    proptest! {
        #[test]
        fn everything_new_lies_in_the_space(space in spaces(), count in 1usize..20, seed: u64) {
            let mut rng = seed::stream(seed, "vary");
            let mut all: Vec<Genome> = even(&space, count).collect();
            all.extend(latin(&space, count, &mut rng));
            all.extend((0..count).map(|_| random(&space, &mut rng)));
            for pair in 1..all.len() {
                let children = crossed(&space, [&all[pair - 1], &all[pair]], &mut rng);
                for mut child in children {
                    prop_assert!(space.holds(&child), "{child:?}");
                    mutate(&space, &mut child, &mut rng);
                    prop_assert!(space.holds(&child), "{child:?}");
                }
            }
            prop_assert!(all.iter().all(|genome| space.holds(genome)));
        }

        /// Where there are as many values as genomes, each value comes once.
        #[test]
        fn a_latin_hypercube_has_one_genome_in_each_part(count in 1usize..30, genes in 1usize..4, seed: u64) {
            // Each part is some hundred units wide, so that rounding moves nothing far.
            let high = (count * 1000 - 1) as u32;
            let space = Space::new(vec![0; genes], vec![high; genes]).unwrap();
            let genomes = latin(&space, count, &mut seed::stream(seed, "latin"));
            for gene in 0..genes {
                let mut values: Vec<u32> = genomes.iter().map(|genome| genome[gene]).collect();
                values.sort_unstable();
                for (part, value) in values.into_iter().enumerate() {
                    let share = f64::from(value) / f64::from(high) * count as f64;
                    prop_assert!((part as f64 - 0.01..part as f64 + 1.01).contains(&share));
                }
            }
        }

        #[test]
        fn children_keep_the_sum_of_their_parents_where_no_bound_is_met(a in 400u32..600, b in 400u32..600, seed: u64) {
            let space = Space::new(vec![0; 4], vec![1000; 4]).unwrap();
            let (a, b) = (a & !1, b & !1);
            let children = crossed(&space, [&[a; 4], &[b; 4]], &mut seed::stream(seed, "cross"));
            for (c, d) in children[0].iter().zip(&children[1]) {
                // At the most extreme u that there is, the children are some ten times as far apart as their parents.
                prop_assume!(*c > 0 && *d > 0 && *c < 1000 && *d < 1000);
                prop_assert!((c + d).abs_diff(a + b) <= 1);
                prop_assert!(a != b || (*c, *d) == (a, a));
            }
        }
    }

    #[test]
    fn even_genomes_go_from_the_least_to_the_greatest() {
        let space = Space::new(vec![0, 10], vec![4, 30]).unwrap();
        assert_eq!(even(&space, 3).collect::<Vec<_>>(), [[0, 10], [2, 20], [4, 30]]);
        assert_eq!(even(&space, 1).collect::<Vec<_>>(), [[0, 10]]);
        assert_eq!(even(&space, 0).count(), 0);
    }

    #[test]
    fn children_are_as_far_apart_as_their_parents_in_the_middle() {
        assert_eq!((spread(0.0), spread(0.5)), (0.0, 1.0));
        assert!((spread(0.25) - 0.5f64.powf(1.0 / 16.0)).abs() < 1e-15);
        assert!((spread(0.75) - 2f64.powf(1.0 / 16.0)).abs() < 1e-15);
    }

    #[test]
    fn a_change_moves_about_one_gene_by_one_to_three_units() {
        let space = Space::new(vec![0; 50], vec![100; 50]).unwrap();
        let mut rng = seed::stream(3, "mutate");
        let mut moved = 0;
        for _ in 0..1000 {
            let mut genome = vec![50; 50];
            mutate(&space, &mut genome, &mut rng);
            assert!(genome.iter().all(|gene| gene.abs_diff(50) <= STEP));
            moved += genome.iter().filter(|gene| **gene != 50).count();
        }
        assert!((900..1100).contains(&moved), "{moved}");
    }
}
