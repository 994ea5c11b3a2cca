//! A step to `niwaki.v1.Step`.

use super::channels_out::prune_channels;
use super::evolve_out::evolve_channels;
use super::prune_out::prune;
use super::train_out::train;
use crate::api::v1;
use crate::graph::init::Init;
use crate::passes::insert_batch_norm::{InsertBatchNorm, Place};
use crate::passes::insert_dropout::InsertDropout;
use crate::passes::low_rank::{LowRank, Rank};
use crate::passes::quantize::{Format, Quantize, Values};
use crate::recipe::{InsertBatchNormStep, Network, Repeat, Step, StepKind, Student};
use crate::train::calibrate::Batches;

pub(super) fn step(step: &Step) -> v1::Step {
    use v1::step::Kind;
    let kind = match &step.kind {
        StepKind::Evaluate => Kind::Evaluate(v1::Evaluate {}),
        StepKind::PruneWeights(step) => Kind::PruneWeights(prune(step)),
        StepKind::Train(config) => Kind::Train(train(config)),
        StepKind::Quantize(step) => Kind::Quantize(quantize(step)),
        StepKind::LowRank(step) => Kind::LowRank(low_rank(step)),
        StepKind::InsertBatchNorm(step) => Kind::InsertBatchNorm(insert_batch_norm(step)),
        StepKind::InsertDropout(InsertDropout { after, rate }) => {
            Kind::InsertDropout(v1::InsertDropout { after: after.clone(), rate: Some(*rate) })
        }
        StepKind::Fold => Kind::Fold(v1::Fold {}),
        StepKind::RecalibrateBatchNorm(Batches { batches, batch_size }) => {
            let (batches, batch_size) = (Some(*batches), Some(*batch_size));
            Kind::RecalibrateBatchNorm(v1::RecalibrateBatchNorm { batches, batch_size })
        }
        StepKind::Initialise(init) => Kind::Initialise(self::init(init)),
        StepKind::Student(Student { network, init }) => {
            use v1::student::Network as PbNetwork;
            let network = match network {
                Network::Preset(name) => PbNetwork::Preset(name.clone()),
                Network::Model(name) => PbNetwork::Model(name.clone()),
            };
            Kind::Student(v1::Student { network: Some(network), init: Some(self::init(init)) })
        }
        StepKind::Repeat(Repeat { times, steps }) => {
            Kind::Repeat(v1::Repeat { times: *times, steps: steps.iter().map(self::step).collect() })
        }
        StepKind::Mark => Kind::Mark(v1::Mark {}),
        StepKind::Rewind => Kind::Rewind(v1::Rewind {}),
        StepKind::PruneChannels(step) => Kind::PruneChannels(prune_channels(step)),
        StepKind::EvolveChannels(step) => Kind::EvolveChannels(evolve_channels(step)),
    };
    v1::Step { name: step.name.clone(), kind: Some(kind) }
}

fn quantize(step: &Quantize) -> v1::Quantize {
    let format = match step.format {
        Format::F16 => v1::quantize::Format::F16,
        Format::Bf16 => v1::quantize::Format::Bf16,
    };
    let weights_only = step.activations == Values::F32;
    v1::Quantize { format: format as i32, keep_f32: step.keep_f32.clone(), weights_only }
}

fn low_rank(step: &LowRank) -> v1::LowRank {
    use v1::low_rank::Amount;
    let amount = match step.rank {
        Rank::Fixed(rank) => Amount::Rank(rank),
        Rank::Energy(share) => Amount::Energy(share),
        Rank::MacRatio(share) => Amount::MacRatio(share),
    };
    v1::LowRank {
        amount: Some(amount),
        layers: step.layers.clone(),
        ignored: step.ignored.clone(),
        round_to: (!matches!(step.rank, Rank::Fixed(_))).then_some(step.round_to),
    }
}

fn insert_batch_norm(step: &InsertBatchNormStep) -> v1::InsertBatchNorm {
    let InsertBatchNorm { place, activations, config, .. } = &step.insert;
    let place = match place {
        Place::Before => v1::insert_batch_norm::Place::Before,
        Place::After => v1::insert_batch_norm::Place::After,
    };
    v1::InsertBatchNorm {
        place: place as i32,
        activations: activations.clone(),
        epsilon: Some(config.epsilon),
        momentum: Some(config.momentum),
        batches: Some(step.calibrate.batches),
    }
}

pub(super) fn init(init: &Init) -> v1::Init {
    use v1::init::Kind;
    let kind = match init {
        Init::He => Kind::He(v1::He {}),
        Init::Glorot => Kind::Glorot(v1::Glorot {}),
        Init::Normal { std } => Kind::Normal(v1::NormalInit { std: *std }),
    };
    v1::Init { kind: Some(kind) }
}
