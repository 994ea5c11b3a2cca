//! `niwaki.v1.Step` to what it means. The bounds and defaults are those of the comments in `recipe.proto`.

use super::channels_in::prune_channels;
use super::evolve_in::evolve_channels;
use super::prune_in::prune;
use super::train_in::train;
use super::{BETWEEN, Checks, FACTOR, MAX_NAME, POSITIVE, Path, SHARE, patterns};
use crate::api::v1;
use crate::graph::init::Init;
use crate::graph::op::BatchNorm;
use crate::passes::insert_batch_norm::{InsertBatchNorm, Place};
use crate::passes::insert_dropout::InsertDropout;
use crate::passes::low_rank::{LowRank, Rank};
use crate::passes::quantize::{Format, Quantize, Values};
use crate::recipe::{self, InsertBatchNormStep, Network, Repeat, Step, StepKind, Student};
use crate::train::calibrate::Batches;

/// What a step can be, as its fields are called.
const KINDS: &str = "evaluate, prune_weights, train, quantize, low_rank, insert_batch_norm, insert_dropout, fold, \
                     recalibrate_batch_norm, initialise, student, repeat, mark, rewind, prune_channels, evolve_channels";
/// Samples a batch that statistics are measured on, where nothing is said.
const BATCH_SIZE: u32 = 128;

pub(super) fn step(pb: v1::Step, at: &Path, checks: &mut Checks) -> Option<Step> {
    use v1::step::Kind;
    let name = checks.text(&at.field("name"), pb.name, MAX_NAME);
    let kind = match pb.kind {
        None => {
            checks.refuse(at, format!("says not what to do: one of {KINDS} is needed"));
            return None;
        }
        Some(Kind::Evaluate(v1::Evaluate {})) => StepKind::Evaluate,
        Some(Kind::PruneWeights(pb)) => StepKind::PruneWeights(prune(pb, &at.field("prune_weights"), checks)),
        Some(Kind::Train(pb)) => StepKind::Train(train(pb, &at.field("train"), checks)),
        Some(Kind::Quantize(pb)) => StepKind::Quantize(quantize(pb, &at.field("quantize"), checks)),
        Some(Kind::LowRank(pb)) => StepKind::LowRank(low_rank(pb, &at.field("low_rank"), checks)),
        Some(Kind::InsertBatchNorm(pb)) => {
            StepKind::InsertBatchNorm(insert_batch_norm(pb, &at.field("insert_batch_norm"), checks))
        }
        Some(Kind::InsertDropout(pb)) => {
            StepKind::InsertDropout(insert_dropout(pb, &at.field("insert_dropout"), checks))
        }
        Some(Kind::Fold(v1::Fold {})) => StepKind::Fold,
        Some(Kind::RecalibrateBatchNorm(pb)) => {
            StepKind::RecalibrateBatchNorm(recalibrate(pb, &at.field("recalibrate_batch_norm"), checks))
        }
        Some(Kind::Initialise(pb)) => StepKind::Initialise(init(pb, &at.field("initialise"), checks)),
        Some(Kind::Student(pb)) => StepKind::Student(student(pb, &at.field("student"), checks)),
        Some(Kind::Repeat(pb)) => StepKind::Repeat(repeat(pb, &at.field("repeat"), checks)),
        Some(Kind::Mark(v1::Mark {})) => StepKind::Mark,
        Some(Kind::Rewind(v1::Rewind {})) => StepKind::Rewind,
        Some(Kind::PruneChannels(pb)) => {
            StepKind::PruneChannels(prune_channels(pb, &at.field("prune_channels"), checks))
        }
        Some(Kind::EvolveChannels(pb)) => {
            StepKind::EvolveChannels(evolve_channels(pb, &at.field("evolve_channels"), checks))
        }
    };
    Some(Step { name, kind })
}

/// Its steps, but for repetitions, which are refused.
fn repeat(pb: v1::Repeat, at: &Path, checks: &mut Checks) -> Repeat {
    let times = checks.whole(&at.field("times"), pb.times, 1, recipe::MAX_UNROLLED as u32);
    let at = at.field("steps");
    if pb.steps.is_empty() {
        checks.refuse(&at, "is empty: there is nothing to repeat");
    }
    if pb.steps.len() > recipe::MAX_STEPS {
        checks.refuse(&at, format!("has {} steps, at most {} are allowed", pb.steps.len(), recipe::MAX_STEPS));
    }
    let mut steps = Vec::new();
    for (i, pb) in pb.steps.into_iter().take(recipe::MAX_STEPS).enumerate() {
        let at = at.index(i);
        if matches!(pb.kind, Some(v1::step::Kind::Repeat(_))) {
            checks.refuse(&at.field("repeat"), "is inside of another one: repetitions are not nested");
        } else {
            steps.extend(step(pb, &at, checks));
        }
    }
    Repeat { times, steps }
}

fn quantize(pb: v1::Quantize, at: &Path, checks: &mut Checks) -> Quantize {
    use v1::quantize::Format as PbFormat;
    let format = match PbFormat::try_from(pb.format) {
        Ok(PbFormat::F16) => Format::F16,
        Ok(PbFormat::Bf16) => Format::Bf16,
        Ok(PbFormat::Unspecified) => {
            checks.refuse(&at.field("format"), "is missing");
            Format::F16
        }
        Err(_) => {
            checks.refuse(&at.field("format"), format!("{} is no format", pb.format));
            Format::F16
        }
    };
    let activations = if pb.weights_only { Values::F32 } else { Values::Rounded };
    Quantize { format, keep_f32: patterns(pb.keep_f32, &at.field("keep_f32"), checks), activations }
}

fn low_rank(pb: v1::LowRank, at: &Path, checks: &mut Checks) -> LowRank {
    use v1::low_rank::Amount;
    let rank = match pb.amount {
        Some(Amount::Rank(rank)) => Rank::Fixed(checks.whole(&at.field("rank"), rank, 1, u32::MAX)),
        Some(Amount::Energy(share)) => Rank::Energy(checks.number(&at.field("energy"), share, &FACTOR)),
        Some(Amount::MacRatio(share)) => Rank::MacRatio(checks.number(&at.field("mac_ratio"), share, &BETWEEN)),
        None => {
            checks.refuse(at, "says not how thin: one of rank, energy, mac_ratio is needed");
            Rank::Fixed(1)
        }
    };
    if let (Rank::Fixed(_), Some(_)) = (rank, pb.round_to) {
        checks.refuse(&at.field("round_to"), "does not go with rank, which says all");
    }
    LowRank {
        layers: patterns(pb.layers, &at.field("layers"), checks),
        ignored: patterns(pb.ignored, &at.field("ignored"), checks),
        rank,
        round_to: checks.whole(&at.field("round_to"), pb.round_to.unwrap_or(8), 1, 1 << 20),
    }
}

fn insert_batch_norm(pb: v1::InsertBatchNorm, at: &Path, checks: &mut Checks) -> InsertBatchNormStep {
    use v1::insert_batch_norm::Place as PbPlace;
    let place = match PbPlace::try_from(pb.place) {
        Ok(PbPlace::Unspecified | PbPlace::Before) => Place::Before,
        Ok(PbPlace::After) => Place::After,
        Err(_) => {
            checks.refuse(&at.field("place"), format!("{} is no place", pb.place));
            Place::Before
        }
    };
    let usual = BatchNorm::default();
    let config = BatchNorm {
        epsilon: checks.number(&at.field("epsilon"), pb.epsilon.unwrap_or(usual.epsilon), &POSITIVE),
        momentum: checks.number(&at.field("momentum"), pb.momentum.unwrap_or(usual.momentum), &SHARE),
    };
    let activations = patterns(pb.activations, &at.field("activations"), checks);
    InsertBatchNormStep {
        insert: InsertBatchNorm { place, activations, config, moments: Vec::new() },
        calibrate: Batches { batches: batches(pb.batches, at, checks), batch_size: BATCH_SIZE },
    }
}

fn insert_dropout(pb: v1::InsertDropout, at: &Path, checks: &mut Checks) -> InsertDropout {
    if pb.after.is_empty() {
        checks.refuse(&at.field("after"), "is empty: name the nodes");
    }
    InsertDropout {
        after: patterns(pb.after, &at.field("after"), checks),
        rate: checks.number(&at.field("rate"), pb.rate.unwrap_or(0.5), &BETWEEN),
    }
}

fn recalibrate(pb: v1::RecalibrateBatchNorm, at: &Path, checks: &mut Checks) -> Batches {
    measured(pb.batches, pb.batch_size, at, checks)
}

/// On how many samples to measure.
pub(super) fn measured(batches: Option<u32>, batch_size: Option<u32>, at: &Path, checks: &mut Checks) -> Batches {
    Batches {
        batches: self::batches(batches, at, checks),
        batch_size: checks.whole(&at.field("batch_size"), batch_size.unwrap_or(BATCH_SIZE), 1, 65_536),
    }
}

pub(super) fn batches(pb: Option<u32>, at: &Path, checks: &mut Checks) -> u32 {
    checks.whole(&at.field("batches"), pb.unwrap_or(32), 1, 10_000)
}

fn student(pb: v1::Student, at: &Path, checks: &mut Checks) -> Student {
    use v1::student::Network as PbNetwork;
    let network = match pb.network {
        Some(PbNetwork::Preset(name)) => Network::Preset(checks.name(&at.field("preset"), name)),
        Some(PbNetwork::Model(name)) => Network::Model(checks.name(&at.field("model"), name)),
        None => {
            checks.refuse(at, "names no network: one of preset, model is needed");
            Network::Preset(String::new())
        }
    };
    Student { network, init: init(pb.init.unwrap_or_default(), &at.field("init"), checks) }
}

pub(super) fn init(pb: v1::Init, at: &Path, checks: &mut Checks) -> Init {
    use v1::init::Kind;
    match pb.kind {
        None | Some(Kind::He(v1::He {})) => Init::He,
        Some(Kind::Glorot(v1::Glorot {})) => Init::Glorot,
        Some(Kind::Normal(pb)) => {
            Init::Normal { std: checks.number(&at.field("normal").field("std"), pb.std, &POSITIVE) }
        }
    }
}
