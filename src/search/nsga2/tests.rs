//! Tests of the search on problems whose fronts are known.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

fn settings(genes: usize, high: u32, population: usize, seed: u64) -> Settings {
    let space = Space::new(vec![0; genes], vec![high; genes]).unwrap();
    Settings { space, population, objectives: 2, seed }
}

/// One step; whether there was anything to do.
fn step(search: &mut Nsga2, repair: &dyn Fn(Genome) -> Genome, evaluate: &dyn Fn(&Genome) -> Vec<f64>) -> bool {
    let told: Vec<Vec<f64>> = search.ask(repair).unwrap().iter().map(evaluate).collect();
    let goes_on = !told.is_empty();
    search.tell(told).unwrap();
    goes_on
}

fn searched(settings: Settings, generations: u32, evaluate: &dyn Fn(&Genome) -> Vec<f64>) -> Nsga2 {
    let mut search = Nsga2::new(settings, vec![]).unwrap();
    while search.generation() < generations && step(&mut search, &|genome| genome, evaluate) {}
    search
}

fn covered(search: &Nsga2, reference: [f64; 2]) -> f64 {
    let points: Vec<[f64; 2]> = search.front().iter().map(|e| [e.objectives[0], e.objectives[1]]).collect();
    pareto::hypervolume(&points, reference)
}

/// ZDT1 (convex) and ZDT2 (concave) of Zitzler, Deb and Thiele 2000 with their variables cut into whole numbers.
fn zdt(genome: &Genome, high: u32, shape: fn(f64) -> f64) -> Vec<f64> {
    let x: Vec<f64> = genome.iter().map(|gene| f64::from(*gene) / f64::from(high)).collect();
    let g = 1.0 + 9.0 * x[1..].iter().sum::<f64>() / (x.len() - 1) as f64;
    vec![x[0], g * shape(x[0] / g)]
}

/// A knapsack of few things: to be light and yet worth much, with a thing in or out a gene.
fn knapsack(genome: &Genome) -> Vec<f64> {
    let things = [(12, 24), (2, 13), (1, 23), (4, 15), (1, 16), (7, 31), (9, 40), (3, 4), (5, 22), (6, 11)];
    let sum = |of: fn((i32, i32)) -> i32| -> f64 {
        genome.iter().zip(things).map(|(gene, thing)| f64::from(of(thing)) * f64::from(*gene)).sum()
    };
    vec![sum(|(weight, _)| weight), -sum(|(_, worth)| worth)]
}

#[test]
fn the_whole_front_of_a_knapsack_is_found() {
    let all: Vec<Genome> = (0..1 << 10).map(|bits: u32| (0..10).map(|gene| bits >> gene & 1).collect()).collect();
    let points: Vec<Vec<f64>> = all.iter().map(knapsack).collect();
    let of_front = |points: &[Vec<f64>]| -> Vec<Vec<f64>> {
        let mut front: Vec<Vec<f64>> = pareto::front(points).into_iter().map(|place| points[place].clone()).collect();
        front.sort_by(|a, b| a[0].total_cmp(&b[0]));
        front.dedup();
        front
    };
    let search = searched(settings(10, 1, 40, 1), 15, &knapsack);
    assert!(search.archive().len() < all.len() * 2 / 3, "{}", search.archive().len());
    let found: Vec<Vec<f64>> = search.archive().iter().map(|e| e.objectives.clone()).collect();
    assert_eq!(of_front(&found), of_front(&points));
}

#[test]
fn fronts_of_known_problems_are_covered() {
    let reference = [1.0, 6.0];
    for shape in [|r: f64| 1.0 - r.sqrt(), |r: f64| 1.0 - r * r] {
        let evaluate = |genome: &Genome| zdt(genome, 40, shape);
        // All variables but the first are 0 on the true front.
        let front: Vec<[f64; 2]> = (0..=40).map(|i| f64::from(i) / 40.0).map(|x| [x, shape(x)]).collect();
        let missing = |search: &Nsga2| 1.0 - covered(search, reference) / pareto::hypervolume(&front, reference);
        let search = searched(settings(12, 40, 40, 5), 60, &evaluate);
        assert!(missing(&search) < 0.001, "{}", missing(&search));
        // As many genomes that are only spread miss far more.
        let spread = searched(settings(12, 40, 40 * 60, 5), 1, &evaluate);
        assert!(missing(&spread) > 0.03, "{}", missing(&spread));
    }
}

#[test]
fn three_objectives_are_searched_as_well() {
    let evaluate = |genome: &Genome| [2, 9, 14].map(|best| f64::from(genome[0].abs_diff(best))).to_vec();
    let mut search = Nsga2::new(Settings { objectives: 3, ..settings(1, 1000, 20, 2) }, vec![]).unwrap();
    while search.generation() < 40 && step(&mut search, &|genome| genome, &evaluate) {}
    let front: Vec<u32> = search.front().iter().map(|e| e.genome[0]).collect();
    assert!(front.iter().copied().eq(2..=14), "{front:?}");
}

#[test]
fn a_small_space_is_searched_through_and_then_the_search_ends() {
    let evaluate = |genome: &Genome| vec![f64::from(genome[0]), -f64::from(genome[0])];
    let mut search = Nsga2::new(settings(1, 4, 32, 9), vec![]).unwrap();
    while step(&mut search, &|genome| genome, &evaluate) {}
    assert_eq!(search.archive().len(), 5);
    assert!(search.ask(&|genome| genome).unwrap().is_empty());
    let mut only = Nsga2::new(settings(3, 0, 2, 9), vec![]).unwrap();
    assert_eq!(only.ask(&|genome| genome).unwrap(), [[0; 3]]);
    only.tell(vec![vec![1.0, 2.0]]).unwrap();
    assert!(only.ask(&|genome| genome).unwrap().is_empty());
}

#[test]
fn the_first_generation_has_what_was_given_and_both_ends() {
    let given = vec![vec![3, 1, 4], vec![1, 5, 9], vec![3, 1, 4]];
    let mut search = Nsga2::new(settings(3, 10, 12, 4), given.clone()).unwrap();
    let asked = search.ask(&|genome| genome).unwrap();
    assert_eq!(asked.len(), 12);
    for genome in given.iter().chain(&[vec![0; 3], vec![10; 3]]) {
        assert!(asked.contains(genome), "{genome:?}");
    }
    // More than the population are all evaluated.
    let given: Vec<Genome> = (0..9).map(|i| vec![i; 3]).collect();
    let mut search = Nsga2::new(settings(3, 10, 4, 4), given.clone()).unwrap();
    assert_eq!(search.ask(&|genome| genome).unwrap(), given);
    search.tell(given.iter().map(knapsack).collect()).unwrap();
    assert_eq!(search.population().len(), 4);
}

#[test]
fn every_genome_is_within_the_budget_that_repairs_keep() {
    let within = |mut genome: Genome| {
        while genome.iter().sum::<u32>() > 20 {
            let largest = (0..genome.len()).max_by_key(|i| genome[*i]).unwrap();
            genome[largest] -= 1;
        }
        genome
    };
    let evaluate = |genome: &Genome| vec![-f64::from(genome[0]), -f64::from(genome[1])];
    let mut search = Nsga2::new(settings(4, 20, 16, 6), vec![vec![20; 4]]).unwrap();
    while search.generation() < 40 && step(&mut search, &within, &evaluate) {}
    assert!(search.archive().iter().all(|e| e.genome.iter().sum::<u32>() <= 20));
    let best = search.front().iter().map(|e| e.genome[0] + e.genome[1]).max().unwrap();
    assert!(best >= 19, "{best}");
}

#[test]
fn what_could_not_be_evaluated_is_worse_than_all_others() {
    let evaluate = |genome: &Genome| match genome[0] {
        0 => vec![f64::NAN, 0.0],
        1 => vec![0.0, f64::INFINITY],
        2 => vec![f64::NEG_INFINITY, 0.0],
        gene => vec![f64::from(gene), f64::from(gene)],
    };
    let search = searched(settings(1, 30, 8, 3), 30, &evaluate);
    let front: Vec<&Genome> = search.front().into_iter().map(|e| &e.genome).collect();
    assert_eq!(front, [&vec![3]]);
    assert_eq!(search.archive()[0].objectives, [f64::MAX; 2]);
    let text = serde_json::to_string(&search).unwrap();
    assert_eq!(serde_json::from_str::<Nsga2>(&text).unwrap(), search);
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let of = |population, objectives| Settings { population, objectives, ..settings(2, 5, 8, 0) };
    for (settings, field) in [(of(1, 2), "population"), (of(8, 1), "objectives")] {
        let error = Nsga2::new(settings, vec![]).unwrap_err();
        assert_eq!(error, SearchError::Config { field, problem: "must be at least 2" });
    }
    let outside = |genome: Genome| SearchError::Outside { genome, low: vec![0; 2], high: vec![5; 2] };
    assert_eq!(Nsga2::new(of(8, 2), vec![vec![6, 0]]).unwrap_err(), outside(vec![6, 0]));
    let mut search = Nsga2::new(of(8, 2), vec![]).unwrap();
    assert_eq!(search.ask(&|_| vec![1]).unwrap_err(), outside(vec![1]));
    search.ask(&|genome| genome).unwrap();
    let before = search.clone();
    let error = search.tell(vec![vec![0.0; 2]; 7]).unwrap_err();
    assert_eq!(error, SearchError::Objectives { what: "evaluations", expected: 8, actual: 7 });
    let error = search.tell(vec![vec![0.0; 3]; 8]).unwrap_err();
    assert_eq!(error, SearchError::Objectives { what: "objectives of a genome", expected: 2, actual: 3 });
    assert_eq!(search, before);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Written down and read again at any place, before or after it asks, the search goes on to the same end; no genome
    /// is evaluated twice, and nothing that was better than a survivor dies.
    #[test]
    fn a_search_that_is_broken_off_goes_on_as_if_it_were_not(
        genes in 1usize..6, high in 0u32..30, population in 2usize..12, seed: u64, stop in 0u32..6, asked: bool,
    ) {
        let evaluate = |genome: &Genome| zdt(&[genome.as_slice(), &[1]].concat(), high.max(1), |r| 1.0 - r * r);
        let settings = settings(genes, high, population, seed);
        let whole = searched(settings.clone(), 6, &evaluate);
        let mut search = searched(settings, stop, &evaluate);
        if asked {
            search.ask(&|genome| genome).unwrap();
        }
        let text = serde_json::to_string(&search).unwrap();
        let mut search: Nsga2 = serde_json::from_str(&text).unwrap();
        let mut seen: HashSet<Genome> = search.archive().iter().map(|e| e.genome.clone()).collect();
        while search.generation() < whole.generation() {
            let known = search.archive().len();
            let told: Vec<Vec<f64>> = search.ask(&|genome| genome).unwrap().iter().map(evaluate).collect();
            let asked = search.ask(&|genome| genome).unwrap().to_vec();
            prop_assert!(asked.into_iter().all(|genome| seen.insert(genome)));
            prop_assert_eq!(told.len(), seen.len() - known);
            search.tell(told).unwrap();
            let best = search.front().len().min(population);
            prop_assert!(pareto::front(search.population()).len() >= best);
        }
        prop_assert_eq!(search, whole);
    }
}
