//! Searches on networks that are small enough to be searched in a moment.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use rand::Rng;

use super::genes::Genes;
use super::*;
use crate::data::{DataSpec, Dataset, Inputs, Part};
use crate::digest::Digest;
use crate::error::Classify;
use crate::format;
use crate::graph::builder::GraphBuilder;
use crate::graph::init::{self, Init};
use crate::graph::op::{Activation, Conv2d};
use crate::recipe::run::{MODEL_FILE, Run, run};
use crate::recipe::{Given, Recipe, Step, StepKind, Upload, VERSION};
use crate::report::Report;

/// Small noisy images: which third of the columns is brightest is the class.
fn images(samples: usize, seed: u64) -> Arc<Part> {
    let mut rng = seed::stream(seed, "images");
    let labels: Vec<u32> = (0..samples).map(|i| (i % 3) as u32).collect();
    let inputs = labels.iter().flat_map(|label| (0..36u32).map(move |pixel| (pixel % 6 / 2 == *label, pixel)));
    let inputs = inputs.map(|(bright, _)| f32::from(u8::from(bright)) + rng.random_range(-1.0..1.0f32)).collect();
    Arc::new(Part { sample_shape: vec![1, 6, 6], inputs: Inputs::F32(inputs), labels })
}

fn dataset() -> Dataset {
    Dataset {
        source: "safetensors",
        classes: 3,
        class_names: vec![],
        train: images(120, 1),
        validation: Some(images(60, 2)),
        selection: None,
        test: Some(images(30, 3)),
    }
}

fn network() -> Graph {
    let mut graph = GraphBuilder::new("net", &[1, 6, 6])
        .conv("conv", 8, 3, Conv2d::default())
        .batch_norm("bn")
        .activation("relu1", Activation::Relu)
        .flatten("flatten")
        .linear("fc1", 12)
        .activation("relu2", Activation::Relu)
        .linear("fc2", 3)
        .build()
        .unwrap();
    init::initialise(&mut graph, Init::He, 5).unwrap();
    graph
}

fn step() -> EvolveChannelsStep {
    EvolveChannelsStep {
        cost: Metric::Params,
        budget: None,
        choose: Choose::Knee,
        population: 6,
        generations: 3,
        samples: 40,
        importance: Importance::Taylor,
        limits: Limits { round_to: 1, ..Limits::default() },
        measure: Batches { batches: 2, batch_size: 32 },
        repair: Some(Repair::Reconstruct),
    }
}

fn recipe(steps: Vec<EvolveChannelsStep>) -> Recipe {
    let steps = steps.into_iter().map(|step| Step { name: String::new(), kind: StepKind::EvolveChannels(step) });
    let (name, description, data) = ("test".into(), String::new(), DataSpec::default());
    Recipe { version: VERSION, name, description, seed: 9, data, start: None, steps: steps.collect() }
}

fn searched(steps: Vec<EvolveChannelsStep>, data: &Dataset, out: &Path) -> Report {
    let model = format::open_model(native::write(&network(), &Default::default()).unwrap().into(), None).unwrap();
    let upload = Upload { bytes: 0, model };
    let given = Given { model: Some(&upload), extra: &BTreeMap::new(), data };
    run(&recipe(steps), &given, out, &mut Run::new(&|| false, &mut |_| ())).unwrap()
}

fn read(out: &Path, name: &str) -> Graph {
    format::open_model(Bytes::from(fs::read(out.join(name)).unwrap()), None).unwrap().graph
}

#[test]
fn a_front_is_found_shown_and_written_and_one_of_it_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("front-32.safetensors"), "left by an earlier run").unwrap();
    let report = searched(vec![step()], &dataset(), folder.path());
    assert!(!folder.path().join("front-32.safetensors").exists());
    let found = report.steps[0].evolution.as_ref().unwrap();
    let told = (found.cost.as_str(), found.split.as_str(), found.importance.as_str(), found.repair.as_str());
    assert_eq!(told, ("params", "validation", "taylor", "reconstruct"));
    assert_eq!((found.samples, found.generations, found.evaluations), (40, 3, 18));
    // Cheaper means less accurate, or as accurate with a larger loss.
    assert!(found.front.len() > 1, "{found:?}");
    for pair in found.front.windows(2) {
        assert!(pair[0].params < pair[1].params, "{pair:?}");
        let [a, b] = [0, 1].map(|i| (-pair[i].accuracy, pair[i].loss));
        assert!(a > b, "{pair:?}");
    }
    for (place, member) in found.front.iter().enumerate() {
        assert_eq!(member.file, format!("front-{:02}.safetensors", place + 1));
        let graph = read(folder.path(), &member.file);
        assert_eq!((member.params, member.macs), (cost::of_graph(&graph).params, cost::of_graph(&graph).macs));
        let sizes: Vec<u64> = Dims::of(&graph).groups().iter().map(|group| group.size as u64).collect();
        // A group of one channel is none any more.
        let kept: Vec<u64> = member.keep.iter().copied().filter(|keep| *keep > 1).collect();
        assert_eq!(sizes, kept);
        let file = report.files.iter().find(|file| file.name == member.file).unwrap();
        let bytes = fs::read(folder.path().join(&member.file)).unwrap();
        assert_eq!(
            (file.bytes, member.bytes, &file.digest),
            (bytes.len() as u64, file.bytes, &Digest::of(&bytes).to_string())
        );
    }
    let chosen: Vec<_> = found.front.iter().filter(|member| member.chosen).collect();
    let kept: Vec<u64> = found.groups.iter().map(|group| group.after).collect();
    assert_eq!((chosen.len(), &chosen[0].keep), (1, &kept));
    assert!(read(folder.path(), MODEL_FILE) == read(folder.path(), &chosen[0].file));
}

#[test]
fn the_result_is_the_same_for_any_number_of_threads_and_whatever_the_test_samples_are() {
    let bytes = |threads: usize, data: &Dataset| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let report = pool.install(|| searched(vec![step()], data, folder.path()));
        let names = report.files.iter().map(|file| file.name.clone());
        names.map(|name| (fs::read(folder.path().join(&name)).unwrap(), name)).collect::<Vec<_>>()
    };
    let expected = bytes(1, &dataset());
    for threads in [2, 5] {
        assert!(bytes(threads, &dataset()) == expected, "{threads} threads");
    }
    let mut other = dataset();
    other.test = Some(images(30, 77));
    assert!(bytes(2, &other) == expected);
}

#[test]
fn no_network_is_above_the_budget_and_the_limits_hold() {
    let budget = Some(Budget { metric: Metric::Params, share: 0.5 });
    let limits = Limits { ignored: vec!["fc1".into()], ..step().limits };
    let tight = EvolveChannelsStep { budget, limits, cost: Metric::Macs, choose: Choose::MostAccurate, ..step() };
    let folder = tempfile::tempdir().unwrap();
    let report = searched(vec![tight], &dataset(), folder.path());
    let found = report.steps[0].evolution.as_ref().unwrap();
    let most = cost::of_graph(&network()).params / 2;
    assert!(found.front.iter().all(|member| member.params <= most && member.keep[1] == 12), "{found:?}");
    assert!(found.front.last().unwrap().chosen && found.cost == "macs");
}

#[test]
fn a_later_search_takes_the_names_of_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let bare = EvolveChannelsStep { repair: None, importance: Importance::L2, ..step() };
    let report = searched(vec![step(), bare], &dataset(), folder.path());
    let fronts: Vec<_> = report.steps.iter().map(|step| &step.evolution.as_ref().unwrap().front).collect();
    assert!(fronts[0].iter().all(|member| member.file.is_empty()));
    let written = report.files.iter().filter(|file| file.name.starts_with("front")).map(|file| &file.name);
    assert!(written.eq(fronts[1].iter().map(|member| &member.file)));
}

#[test]
fn samples_of_the_selection_split_are_taken_where_there_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let data = Dataset { selection: Some(images(33, 4)), ..dataset() };
    let report = searched(vec![step()], &data, folder.path());
    let found = report.steps[0].evolution.as_ref().unwrap();
    assert_eq!((found.split.as_str(), found.samples), ("selection", 33));
}

#[test]
fn what_cannot_be_is_refused_by_its_field_before_anything_is_computed() {
    let refused = |step: EvolveChannelsStep| {
        let upload = Upload { bytes: 0, model: format::Model { graph: network(), metadata: BTreeMap::new() } };
        let data = dataset();
        let given = Given { model: Some(&upload), extra: &BTreeMap::new(), data: &data };
        recipe(vec![step]).validate(&given).into_iter().map(|v| (v.field, v.description)).collect::<Vec<_>>()
    };
    assert_eq!(refused(step()), []);
    let with = |limits: Limits| EvolveChannelsStep { limits, ..step() };
    let field = |step: EvolveChannelsStep| refused(step).remove(0).0;
    let nothing = with(Limits { ignored: vec!["*".into()], ..Limits::default() });
    assert_eq!(field(nothing.clone()), "steps[0].evolve_channels");
    assert!(refused(nothing)[0].1.contains("nothing to cut"));
    assert_eq!(
        field(with(Limits { layers: vec!["fc9".into()], ..Limits::default() })),
        "steps[0].evolve_channels.layers"
    );
    assert_eq!(
        field(with(Limits { layers: vec!["fc2".into()], ..Limits::default() })),
        "steps[0].evolve_channels.layers"
    );
    for (metric, name) in [(Metric::Macs, "mac_ratio"), (Metric::Params, "param_ratio")] {
        let tight = EvolveChannelsStep { budget: Some(Budget { metric, share: 0.001 }), ..step() };
        assert_eq!(field(tight), format!("steps[0].evolve_channels.{name}"));
    }
    let huge = EvolveChannelsStep { measure: Batches { batches: 1, batch_size: 1 << 30 }, ..step() };
    assert_eq!(field(huge), "steps[0].evolve_channels.batch_size");
}

#[test]
fn a_cancelled_search_ends_between_two_networks() {
    let upload = Upload { bytes: 0, model: format::Model { graph: network(), metadata: BTreeMap::new() } };
    let (data, folder) = (dataset(), tempfile::tempdir().unwrap());
    let given = Given { model: Some(&upload), extra: &BTreeMap::new(), data: &data };
    let at_work = std::sync::atomic::AtomicBool::new(false);
    let cancelled = || at_work.load(std::sync::atomic::Ordering::Relaxed);
    let mut generations = Vec::new();
    let mut progress = |p: &crate::recipe::run::Progress| {
        if p.phase == "evolve-channels" && p.total > 0 {
            generations.push((p.done, p.total));
            at_work.store(p.done == 1, std::sync::atomic::Ordering::Relaxed);
        }
    };
    let error =
        run(&recipe(vec![step()]), &given, folder.path(), &mut Run::new(&cancelled, &mut progress)).unwrap_err();
    assert_eq!(error.reason(), "CANCELLED");
    assert_eq!(generations, [(0, 3), (1, 3)]);
}

#[test]
fn a_loss_counts_less_than_a_sample_and_one_that_is_no_number_is_none() {
    let error = |loss| error_of(&Evaluation { correct: vec![true, false, false], accuracy: 1.0 / 3.0, loss });
    assert_eq!([error(0.0), error(1.0), error(1e300)], [2.0, 2.5, 2.999]);
    assert!(error(f64::NAN).is_nan() && error(f64::INFINITY).is_nan());
}

proptest! {
    #[test]
    fn a_genome_is_shrunk_into_the_budget_and_no_further(seed: u64, share in 0.15f64..0.9, by_macs: bool) {
        let metric = if by_macs { Metric::Macs } else { Metric::Params };
        let (graph, budget) = (network(), Some(Budget { metric, share }));
        let dims = Dims::of(&graph);
        let genes = Genes::new(&graph, &dims, &EvolveChannelsStep { budget, ..step() }).unwrap();
        let space = genes.space().unwrap();
        let mut rng = seed::stream(seed, "genome");
        let genome: Vec<u32> = space.high().iter().map(|high| rng.random_range(0..=*high)).collect();
        let most = genes.cost(metric, space.high()) * share;
        let shrunk = genes.shrink(genome.clone());
        prop_assert!(space.holds(&shrunk) && genes.cost(metric, &shrunk) <= most);
        prop_assert_eq!(genes.shrink(shrunk.clone()), shrunk.clone());
        prop_assert!(genes.cost(metric, &genome) > most || shrunk == genome);
    }

    #[test]
    fn greedy_plans_are_within_the_budget_and_each_halves_it(share in 0.3f64..1.0) {
        let (graph, metric) = (network(), Metric::Params);
        let dims = Dims::of(&graph);
        let step = EvolveChannelsStep { budget: Some(Budget { metric, share }), population: 12, ..step() };
        let genes = Genes::new(&graph, &dims, &step).unwrap();
        let scores = [(0..8).map(f64::from).collect(), (0..12).map(f64::from).collect(), vec![]];
        let plans = genes.greedy(&scores[..dims.groups().len()].to_vec(), &step).unwrap();
        let (space, whole) = (genes.space().unwrap(), genes.cost(metric, genes.space().unwrap().high()));
        prop_assert!((2..=4).contains(&plans.len()), "{:?}", plans);
        for (i, genome) in plans.iter().enumerate() {
            prop_assert!(space.holds(genome) && genes.cost(metric, genome) <= whole * share / f64::from(1 << i));
        }
    }
}
