//! A pruning of channels to `niwaki.v1.PruneChannels`.

use crate::api::v1;
use crate::passes::prune::channels::importance::Importance;
use crate::passes::prune::channels::plan::{Amount, Budget, Limits, Metric};
use crate::passes::prune::channels::repair::Repair;
use crate::recipe::PruneChannelsStep;

pub(super) fn prune_channels(step: &PruneChannelsStep) -> v1::PruneChannels {
    use v1::prune_channels::Amount as PbAmount;
    let Limits { layers, ignored, round_to, min_keep, max_ratio } = &step.limits;
    let amount = match step.amount {
        Amount::Ratio(share) => PbAmount::Ratio(share),
        Amount::Latency(share) => PbAmount::LatencyRatio(share),
        Amount::GlobalRatio(share) => PbAmount::GlobalRatio(share),
        Amount::Budget(Budget { metric: Metric::Channels, share }) => PbAmount::GlobalRatio(1.0 - share),
        Amount::Budget(Budget { metric: Metric::Macs, share }) => PbAmount::MacRatio(share),
        Amount::Budget(Budget { metric: Metric::Params, share }) => PbAmount::ParamRatio(share),
    };
    v1::PruneChannels {
        amount: Some(amount),
        importance: importance(step.importance) as i32,
        layers: layers.clone(),
        ignored: ignored.clone(),
        round_to: Some(*round_to as u32),
        min_keep: Some(*min_keep as u32),
        max_ratio: Some(*max_ratio),
        batches: Some(step.measure.batches),
        batch_size: Some(step.measure.batch_size),
        repair: repair(step.repair) as i32,
    }
}

pub(super) fn importance(importance: Importance) -> v1::prune_channels::Importance {
    use v1::prune_channels::Importance as Pb;
    match importance {
        Importance::L1 => Pb::L1,
        Importance::L2 => Pb::L2,
        Importance::BatchNormScale => Pb::BatchNormScale,
        Importance::Taylor => Pb::Taylor,
        Importance::Obd => Pb::Obd,
        Importance::ActivationEnergy => Pb::ActivationEnergy,
        Importance::Apoz => Pb::Apoz,
        Importance::Fpgm => Pb::Fpgm,
        Importance::Random => Pb::Random,
    }
}

pub(super) fn repair(repair: Option<Repair>) -> v1::prune_channels::Repair {
    use v1::prune_channels::Repair as Pb;
    match repair {
        None => Pb::None,
        Some(Repair::Compensate) => Pb::Compensate,
        Some(Repair::Reconstruct) => Pb::Reconstruct,
    }
}
