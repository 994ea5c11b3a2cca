//! No field of a recipe is forgotten: the descriptor is walked, every field set, and the message taken through the file
//! form and the meaning and back.

use std::collections::BTreeSet;

use proptest::prelude::*;
use prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind as FieldKind, MessageDescriptor, ReflectMessage, Value,
};

use super::*;
use crate::api::DESCRIPTORS;
use crate::data::DataSpec;
use crate::passes::prune::Scope;
use crate::passes::prune::channels::plan::Metric;
use crate::recipe::{Choose, StepKind};

/// As many variants as make every choice of every `oneof` come up: inside of each of the 16 kinds of step there are more.
const VARIANTS: usize = 16 * 24;
/// Elements of a list: each is another variant.
const ELEMENTS: usize = 12;

fn recipe_descriptor() -> MessageDescriptor {
    DescriptorPool::decode(DESCRIPTORS).unwrap().get_message_by_name("niwaki.v1.Recipe").unwrap()
}

/// A message with every field set; where only one of several can be, `variant` says which.
fn fill(message: &MessageDescriptor, variant: usize, seen: &mut BTreeSet<String>) -> DynamicMessage {
    let mut filled = DynamicMessage::new(message.clone());
    for field in message.fields() {
        if let Some(oneof) = field.containing_oneof().filter(|oneof| !oneof.is_synthetic()) {
            let place = message.oneofs().position(|other| other == oneof).unwrap();
            let chosen = variant / (place + 1) % oneof.fields().len();
            if oneof.fields().nth(chosen) != Some(field.clone()) {
                continue;
            }
        }
        let excluded = match field.full_name() {
            "niwaki.v1.Train.epochs" => variant % 2 == 1,
            "niwaki.v1.Train.steps" => filled.has_field_by_name("epochs"),
            "niwaki.v1.LowRank.round_to" => filled.has_field_by_name("rank"),
            _ => false,
        };
        if excluded {
            continue;
        }
        seen.insert(field.full_name().to_string());
        // What a choice leaves of the variant decides inside.
        let variant = field.containing_oneof().map_or(variant, |oneof| variant / oneof.fields().len());
        let value = if field.is_list() {
            let element = |i: usize| {
                if field.full_name() == "niwaki.v1.Repeat.steps" {
                    value(&field, not_repeat(&field, variant + i), seen)
                } else if field.kind().as_message().is_some() {
                    value(&field, variant + i, seen)
                } else if field.full_name() == "niwaki.v1.DataSpec.classes" {
                    Value::U32(3 + i as u32)
                } else {
                    value(&field, variant, &mut BTreeSet::new())
                }
            };
            let length = match field.full_name() {
                "niwaki.v1.ImagesSource.size" | "niwaki.v1.CsvSource.shape" => 2,
                _ => ELEMENTS,
            };
            Value::List((0..length).map(element).collect())
        } else {
            value(&field, variant, seen)
        };
        filled.set_field(&field, value);
    }
    if message.full_name() == "niwaki.v1.PruneWeights" {
        make_fit(&mut filled);
    }
    filled
}

/// A variant of a step that is no repetition, for repetitions are not nested.
fn not_repeat(steps: &FieldDescriptor, variant: usize) -> usize {
    let FieldKind::Message(step) = steps.kind() else { panic!("steps are messages") };
    let kinds = step.oneofs().next().unwrap();
    let chosen = kinds.fields().nth(variant % kinds.fields().len()).unwrap();
    if chosen.name() == "repeat" { variant + 1 } else { variant }
}

/// Puts something simple in the place of a schedule or a criterion that does not go with the rest.
fn make_fit(prune: &mut DynamicMessage) {
    let has = |prune: &DynamicMessage, names: &[&str]| names.iter().any(|name| prune.has_field_by_name(name));
    if has(prune, &["cubic", "surgery"]) && !has(prune, &["sparsity"]) {
        set_empty(prune, "one_shot");
    }
    let alone = has(prune, &["threshold"])
        || (has(prune, &["one_shot"]) && has(prune, &["movement"]))
        || (has(prune, &["surgery"]) && has(prune, &["taylor", "snip", "wanda", "fisher"]));
    if alone {
        set_empty(prune, "magnitude");
    }
}

fn set_empty(message: &mut DynamicMessage, name: &str) {
    let field = message.descriptor().get_field_by_name(name).unwrap();
    message.set_field(&field, Value::Message(DynamicMessage::new(field.kind().as_message().unwrap().clone())));
}

/// A value that the field takes and that is not its default.
fn value(field: &FieldDescriptor, variant: usize, seen: &mut BTreeSet<String>) -> Value {
    match field.kind() {
        FieldKind::Message(message) => Value::Message(fill(&message, variant, seen)),
        FieldKind::Enum(_) => Value::EnumNumber(1),
        FieldKind::Bool => Value::Bool(true),
        FieldKind::String => Value::String(format!("some {}", field.name())),
        FieldKind::Uint32 if field.name() == "version" => Value::U32(1),
        FieldKind::Uint32 if field.name() == "population" => Value::U32(5),
        FieldKind::Uint32 => Value::U32(3),
        FieldKind::Uint64 if field.full_name() == "niwaki.v1.Train.steps" => Value::U64(3),
        FieldKind::Uint64 => Value::U64(u64::MAX),
        FieldKind::Double if field.name() == "begin" => Value::F64(0.125),
        FieldKind::Double if field.full_name() == "niwaki.v1.ClipValue.min" => Value::F64(-0.5),
        FieldKind::Double => Value::F64(0.3),
        other => panic!("{}: no value for a {other:?}", field.full_name()),
    }
}

fn all_fields(message: &MessageDescriptor, found: &mut BTreeSet<String>) {
    for field in message.fields() {
        if found.insert(field.full_name().to_string())
            && let FieldKind::Message(inner) = field.kind()
        {
            all_fields(&inner, found);
        }
    }
}

#[test]
fn every_field_survives_the_file_form_and_the_meaning() {
    let descriptor = recipe_descriptor();
    let mut seen = BTreeSet::new();
    for variant in 0..VARIANTS {
        let filled = fill(&descriptor, variant, &mut seen);
        let text = serde_json::to_string(&filled).unwrap();
        let expected = v1::Recipe::decode(filled.encode_to_vec().as_slice()).unwrap();
        assert_eq!(json::from_str::<v1::Recipe>("Recipe", &text).unwrap(), expected);
        let meaning = from_json(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(recipe_to_pb(&meaning), expected);
        assert_eq!(from_json(&to_json(&meaning)).unwrap(), meaning);
    }
    let mut all = BTreeSet::new();
    all_fields(&descriptor, &mut all);
    assert_eq!(all.difference(&seen).collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn what_is_left_out_has_the_defaults_that_the_comments_name() {
    use crate::train::config::{Length, OptimizerConfig, ScheduleConfig, TrainConfig};
    let recipe = from_json(r#"{"version": 1, "steps": [{"train": {"epochs": 2}}]}"#).unwrap();
    assert_eq!((recipe.seed, recipe.data), (0, DataSpec::default()));
    let expected = TrainConfig {
        length: Length::Epochs(2),
        batch_size: 128,
        optimizer: OptimizerConfig::Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.0 },
        learning_rate: 0.1,
        schedule: ScheduleConfig::Constant,
        warmup_steps: 0,
        clip: Default::default(),
        early_stop: None,
        ..TrainConfig::default()
    };
    assert_eq!(recipe.steps[0].kind, StepKind::Train(expected));
}

proptest! {
    /// The queue keeps recipes in their file form; what a job computes must be what was asked for, to the last bit.
    #[test]
    fn every_double_survives_the_file_form(rate in 1e-300f64..1e300, seed: u64) {
        let text = format!(r#"{{"version": 1, "seed": {seed}, "steps": [{{"train": {{"epochs": 1, "learning_rate": {rate:e}}}}}]}}"#);
        let recipe = from_json(&text).unwrap();
        let StepKind::Train(train) = &recipe.steps[0].kind else { panic!("no training") };
        prop_assert_eq!((train.learning_rate, recipe.seed), (rate, seed));
        prop_assert_eq!(from_json(&to_json(&recipe)).unwrap(), recipe);
    }
}

#[track_caller]
fn refused(text: &str) -> Vec<String> {
    from_json(text).unwrap_err().violations().into_iter().map(|violation| violation.field).collect()
}

#[test]
fn every_bad_field_is_named_by_its_path_in_one_answer() {
    let text = r#"{"version": 2, "name": "a\u0007",
        "data": {"transforms": [{"scale": {"factor": 0}}, {}, {"normalize": {"mean": [0], "std": [0]}}],
                 "source": {"idx": {"train_inputs": "x", "test_labels": "y"}},
                 "split": {"validation_fraction": 1, "test_fraction": 0}},
        "start": {},
        "steps": [{},
                  {"prune_weights": {"sparsity": 1, "scope": 7, "ignored": [""]}},
                  {"prune_weights": {"threshold": {}, "cubic": {"begin": 0.5, "every": 0}}},
                  {"train": {"epochs": 0, "batch_size": 0, "adamw": {"beta1": 1, "epsilon": 0, "weight_decay": -1},
                             "learning_rate": 0, "step": {"gamma": 2}, "clip": {"value": {"min": 2, "max": 1}, "norm": {}},
                             "early_stop": {"min_delta": -1}}},
                  {"train": {"epochs": 10001, "sgd": {"momentum": 1}, "cosine": {"floor": 1.5}}},
                  {"quantize": {}}]}"#;
    let expected = [
        "version",
        "name",
        "data.source.idx.train_labels",
        "data.source.idx.test_inputs",
        "data.transforms[0].scale.factor",
        "data.transforms[1]",
        "data.transforms[2].normalize.std[0]",
        "data.split.validation_fraction",
        "data.split.test_fraction",
        "start.train",
        "start.preset",
        "steps[0]",
        "steps[1].prune_weights.sparsity",
        "steps[1].prune_weights.scope",
        "steps[1].prune_weights.ignored[0]",
        "steps[2].prune_weights.threshold",
        "steps[2].prune_weights.cubic.train",
        "steps[2].prune_weights.cubic.end",
        "steps[2].prune_weights.cubic.every",
        "steps[2].prune_weights.cubic",
        "steps[3].train.adamw.beta1",
        "steps[3].train.adamw.epsilon",
        "steps[3].train.adamw.weight_decay",
        "steps[3].train.epochs",
        "steps[3].train.batch_size",
        "steps[3].train.learning_rate",
        "steps[3].train.step.every_epochs",
        "steps[3].train.step.gamma",
        "steps[3].train.clip.value.min",
        "steps[3].train.clip.norm.max",
        "steps[3].train.early_stop.patience",
        "steps[3].train.early_stop.min_delta",
        "steps[4].train.sgd.momentum",
        "steps[4].train.epochs",
        "steps[4].train.cosine.floor",
        "steps[5].quantize.format",
    ];
    assert_eq!(refused(text), expected);
}

#[test]
fn a_mixup_is_named_by_its_path() {
    for alpha in ["0", "101", "-1"] {
        let text =
            format!(r#"{{"version": 1, "steps": [{{"train": {{"epochs": 1, "mixup": {{"alpha": {alpha}}}}}}}]}}"#);
        assert_eq!(refused(&text), ["steps[0].train.mixup.alpha"]);
    }
}

#[test]
fn every_bad_field_of_a_pruning_is_named_by_its_path() {
    let of = |prune: &str| refused(&format!(r#"{{"version": 1, "steps": [{{"prune_weights": {prune}}}]}}"#));
    let at = |fields: &[&str]| fields.iter().map(|f| format!("steps[0].prune_weights{f}")).collect::<Vec<_>>();
    assert_eq!(of("{}"), at(&[""]));
    assert_eq!(of(r#"{"sparsity_of_rest": 1}"#), at(&[".sparsity_of_rest"]));
    assert_eq!(of(r#"{"pattern": {"keep": 5, "of": 4}}"#), at(&[".pattern.keep"]));
    assert_eq!(of(r#"{"pattern": {"keep": 1, "of": 1}}"#), at(&[".pattern.of"]));
    assert_eq!(of(r#"{"pattern": {}}"#), at(&[".pattern.of", ".pattern.keep"]));
    assert_eq!(of(r#"{"sparsity": 0.5, "movement": {}}"#), at(&[".movement"]));
    assert_eq!(
        of(r#"{"sparsity": 0.5, "snip": {"batches": 0, "batch_size": 70000}}"#),
        at(&[".snip.batches", ".snip.batch_size"])
    );
    assert_eq!(of(r#"{"threshold": {"absolute": 1}, "fisher": {}}"#), at(&[".fisher"]));
    let train = r#""train": {"epochs": 1}"#;
    assert_eq!(of(&format!(r#"{{"pattern": {{"keep": 2, "of": 4}}, "cubic": {{{train}}}}}"#)), at(&[".cubic"]));
    assert_eq!(of(&format!(r#"{{"sparsity_of_rest": 0.5, "surgery": {{{train}}}}}"#)), at(&[".surgery"]));
    assert_eq!(of(&format!(r#"{{"sparsity": 0.5, "wanda": {{}}, "surgery": {{{train}}}}}"#)), at(&[".wanda"]));
    let order = format!(r#"{{"sparsity": 0.5, "surgery": {{{train}, "begin": 0.6, "settle": 0.4, "every": 0}}}}"#);
    assert_eq!(of(&order), at(&[".surgery.end", ".surgery.every", ".surgery.settle"]));
    let bounds = r#"{"sparsity": 0.5, "surgery": {"settle": 1, "decay": 1}}"#;
    assert_eq!(of(bounds), at(&[".surgery.train", ".surgery.settle", ".surgery.decay"]));
    // The weights of an output are compared with each other, unless something else is asked for.
    let scope = |prune: &str| {
        let text = format!(r#"{{"version": 1, "steps": [{{"prune_weights": {prune}}}]}}"#);
        let StepKind::PruneWeights(step) = from_json(&text).unwrap().steps.remove(0).kind else { panic!("no pruning") };
        step.scope
    };
    assert_eq!(scope(r#"{"sparsity": 0.5, "wanda": {}}"#), Scope::Output);
    assert_eq!(scope(r#"{"sparsity": 0.5, "wanda": {}, "scope": "SCOPE_LAYER"}"#), Scope::Layer);
    assert_eq!(scope(r#"{"sparsity": 0.5}"#), Scope::Global);
}

#[test]
fn every_bad_field_of_a_search_is_named_by_its_path() {
    let of = |search: &str| refused(&format!(r#"{{"version": 1, "steps": [{{"evolve_channels": {search}}}]}}"#));
    let at = |fields: &[&str]| fields.iter().map(|f| format!("steps[0].evolve_channels.{f}")).collect::<Vec<_>>();
    assert_eq!(
        of(r#"{"population": 3, "generations": 0, "samples": 0}"#),
        at(&["population", "generations", "samples"])
    );
    assert_eq!(of(r#"{"population": 1001, "generations": 1001}"#), at(&["population", "generations"]));
    assert_eq!(of(r#"{"mac_ratio": 1, "max_drop": 1}"#), at(&["mac_ratio", "max_drop"]));
    assert_eq!(of(r#"{"param_ratio": 0, "max_drop": -0.1}"#), at(&["param_ratio", "max_drop"]));
    let rest = r#"{"cost": 7, "importance": 99, "layers": [""], "ignored": [""], "round_to": 0, "min_keep": 0,
                   "max_ratio": 1, "batches": 0, "batch_size": 0, "repair": 9}"#;
    let fields = ["cost", "importance", "layers[0]", "ignored[0]", "round_to", "min_keep", "max_ratio", "batches"];
    assert_eq!(of(rest), at(&[&fields[..], &["batch_size", "repair"]].concat()));
    let recipe = from_json(r#"{"version": 1, "steps": [{"evolve_channels": {}}]}"#).unwrap();
    let StepKind::EvolveChannels(step) = &recipe.steps[0].kind else { panic!("no search") };
    assert_eq!((step.population, step.generations, step.samples), (24, 12, 2048));
    assert_eq!((step.cost, step.budget, step.choose), (Metric::Macs, None, Choose::MaxDrop(0.01)));
}

#[test]
fn every_bad_field_of_a_repetition_is_named_by_its_path() {
    let of = |repeat: &str| refused(&format!(r#"{{"version": 1, "steps": [{{"repeat": {repeat}}}]}}"#));
    assert_eq!(of("{}"), ["steps[0].repeat.times", "steps[0].repeat.steps"]);
    let inside = r#"{"times": 2, "steps": [{"prune_weights": {"sparsity": 2}}, {}, {"repeat": {"times": 1}}]}"#;
    let steps = "steps[0].repeat.steps";
    let expected = [format!("{steps}[0].prune_weights.sparsity"), format!("{steps}[1]"), format!("{steps}[2].repeat")];
    assert_eq!(of(inside), expected);
    assert_eq!(of(r#"{"times": 513, "steps": [{"mark": {}}]}"#), ["steps[0].repeat.times", "steps"]);
    assert_eq!(of(r#"{"times": 257, "steps": [{"mark": {}}, {"rewind": {}}]}"#), ["steps"]);
    let many = vec![r#"{"mark": {}}"#; 65].join(",");
    assert_eq!(of(&format!(r#"{{"times": 1, "steps": [{many}]}}"#)), ["steps[0].repeat.steps"]);
}

#[test]
fn every_bad_field_of_the_data_is_named_by_its_path() {
    let of = |data: &str| refused(&format!(r#"{{"version": 1, "data": {data}, "steps": [{{"evaluate": {{}}}}]}}"#));
    let text = r#"{"augment": [{}, {"shift_crop": {}}, {"shift_crop": {"pixels": 129}}],
        "transforms": [{"binarise": {"threshold": "Infinity"}}],
        "split": {"validation_fraction": 0, "selection_fraction": 1, "train_samples": 0}}"#;
    let expected = [
        "data.augment[0]",
        "data.augment[1].shift_crop.pixels",
        "data.augment[2].shift_crop.pixels",
        "data.transforms[0].binarise.threshold",
        "data.split.validation_fraction",
        "data.split.selection_fraction",
        "data.split.train_samples",
    ];
    assert_eq!(of(text), expected);
    let source = |source: &str| of(&format!(r#"{{"source": {source}}}"#));
    assert_eq!(source("{}"), ["data.source"]);
    let idx =
        r#"{"idx": {"train_inputs": "a", "train_labels": "b", "validation_inputs": "c", "selection_labels": "d"}}"#;
    assert_eq!(source(idx), ["data.source.idx.validation_labels", "data.source.idx.selection_inputs"]);
    assert_eq!(
        source(r#"{"cifar": {"test": [""], "form": 9}}"#),
        ["data.source.cifar.train", "data.source.cifar.test[0]", "data.source.cifar.form"]
    );
    let npz = r#"{"npz": {"validation": {"inputs": "x"}, "layout": 9}}"#;
    assert_eq!(
        source(npz),
        ["data.source.npz.train.file", "data.source.npz.validation.file", "data.source.npz.layout"]
    );
    assert_eq!(
        source(r#"{"images": {"size": [0, 1025], "color": 9}}"#),
        ["data.source.images.size[0]", "data.source.images.size[1]", "data.source.images.color"]
    );
    assert_eq!(source(r#"{"images": {"size": [5]}}"#), ["data.source.images.size"]);
    let csv = r#"{"csv": {"header": "HEADER_ABSENT", "label_name": "a", "shape": [0]}}"#;
    assert_eq!(source(csv), ["data.source.csv.train", "data.source.csv.label_name", "data.source.csv.shape[0]"]);
    assert_eq!(source(r#"{"ts": {"test": "b"}}"#), ["data.source.ts.train"]);
}

#[test]
fn numbers_that_are_no_numbers_are_refused() {
    for number in ["\"NaN\"", "\"Infinity\"", "1e999", "-0.1", "1"] {
        let text = format!(r#"{{"version": 1, "steps": [{{"prune_weights": {{"sparsity": {number}}}}}]}}"#);
        assert!(from_json(&text).is_err(), "{number}");
    }
    for seed in ["-1", "1.5", "36893488147419103232", "true"] {
        let text = format!(r#"{{"version": 1, "seed": {seed}, "steps": [{{"evaluate": {{}}}}]}}"#);
        assert!(from_json(&text).is_err(), "{seed}");
    }
}

#[test]
fn unknown_steps_and_fields_and_what_follows_the_recipe_are_refused_by_name() {
    let error = |text: &str| from_json(text).unwrap_err().to_string();
    assert!(error(r#"{"version": 1, "steps": [{"prune_neurons": {}}]}"#).contains("prune_neurons"));
    assert!(error(r#"{"version": 1, "steps": [{"evaluate": {}, "train": {"epochs": 1}}]}"#).contains("kind"));
    assert!(error(r#"{"version": 1} {"version": 1}"#).contains("trailing"));
    assert!(error(r#"{"version": 1"#).contains("line 1"));
}

#[test]
fn more_steps_than_are_allowed_are_refused_in_one_line() {
    let steps = vec![r#"{"evaluate": {}}"#; 10_000].join(",");
    assert_eq!(refused(&format!(r#"{{"version": 1, "steps": [{steps}]}}"#)), ["steps"]);
    assert_eq!(refused(r#"{"version": 1}"#), ["steps"]);
}
