//! `niwaki.v1.PruneChannels` to what it means. The bounds and defaults are those of the comments in `recipe.proto`.

use super::step_in::batches;
use super::{BELOW_ONE, BETWEEN, Checks, Path, patterns};
use crate::api::v1;
use crate::passes::prune::channels::importance::Importance;
use crate::passes::prune::channels::plan::{Amount, Budget, Limits, Metric};
use crate::passes::prune::channels::repair::Repair;
use crate::recipe::PruneChannelsStep;
use crate::train::calibrate::Batches;

/// Channels of a layer, at most.
const MAX_CHANNELS: u32 = 65_536;

pub(super) fn prune_channels(pb: v1::PruneChannels, at: &Path, checks: &mut Checks) -> PruneChannelsStep {
    use v1::prune_channels::Amount as PbAmount;
    let mut budget = |metric, field, share| {
        Amount::Budget(Budget { metric, share: checks.number(&at.field(field), share, &BETWEEN) })
    };
    let amount = match pb.amount {
        Some(PbAmount::MacRatio(share)) => budget(Metric::Macs, "mac_ratio", share),
        Some(PbAmount::ParamRatio(share)) => budget(Metric::Params, "param_ratio", share),
        Some(PbAmount::LatencyRatio(share)) => {
            Amount::Latency(checks.number(&at.field("latency_ratio"), share, &BETWEEN))
        }
        Some(PbAmount::Ratio(share)) => Amount::Ratio(checks.number(&at.field("ratio"), share, &BELOW_ONE)),
        Some(PbAmount::GlobalRatio(share)) => {
            Amount::GlobalRatio(checks.number(&at.field("global_ratio"), share, &BELOW_ONE))
        }
        None => {
            checks.refuse(
                at,
                "says not how much goes: one of ratio, global_ratio, mac_ratio, param_ratio, latency_ratio is needed",
            );
            Amount::Ratio(0.0)
        }
    };
    PruneChannelsStep {
        amount,
        importance: importance(pb.importance, at, checks),
        limits: limits((pb.layers, pb.ignored), (pb.round_to, pb.min_keep, pb.max_ratio), at, checks),
        measure: measure(pb.batches, pb.batch_size, at, checks),
        repair: repair(pb.repair, at, checks),
    }
}

/// The layers that may be cut and those that are left alone; `round_to`, `min_keep` and `max_ratio`.
pub(super) fn limits(
    (layers, ignored): (Vec<String>, Vec<String>),
    (round_to, min_keep, max_ratio): (Option<u32>, Option<u32>, Option<f64>),
    at: &Path,
    checks: &mut Checks,
) -> Limits {
    Limits {
        layers: patterns(layers, &at.field("layers"), checks),
        ignored: patterns(ignored, &at.field("ignored"), checks),
        round_to: checks.whole(&at.field("round_to"), round_to.unwrap_or(8), 1, MAX_CHANNELS) as usize,
        min_keep: checks.whole(&at.field("min_keep"), min_keep.unwrap_or(1), 1, MAX_CHANNELS) as usize,
        max_ratio: checks.number(&at.field("max_ratio"), max_ratio.unwrap_or(0.9), &BETWEEN),
    }
}

/// On how many training samples to measure.
pub(super) fn measure(batches: Option<u32>, batch_size: Option<u32>, at: &Path, checks: &mut Checks) -> Batches {
    Batches {
        batches: self::batches(batches, at, checks),
        batch_size: checks.whole(&at.field("batch_size"), batch_size.unwrap_or(64), 1, 65_536),
    }
}

pub(super) fn importance(pb: i32, at: &Path, checks: &mut Checks) -> Importance {
    use v1::prune_channels::Importance as Pb;
    match Pb::try_from(pb) {
        Ok(Pb::Unspecified | Pb::Taylor) => Importance::Taylor,
        Ok(Pb::L1) => Importance::L1,
        Ok(Pb::L2) => Importance::L2,
        Ok(Pb::BatchNormScale) => Importance::BatchNormScale,
        Ok(Pb::Obd) => Importance::Obd,
        Ok(Pb::ActivationEnergy) => Importance::ActivationEnergy,
        Ok(Pb::Apoz) => Importance::Apoz,
        Ok(Pb::Fpgm) => Importance::Fpgm,
        Ok(Pb::Random) => Importance::Random,
        Err(_) => {
            checks.refuse(&at.field("importance"), format!("{pb} is no importance"));
            Importance::Taylor
        }
    }
}

pub(super) fn repair(pb: i32, at: &Path, checks: &mut Checks) -> Option<Repair> {
    use v1::prune_channels::Repair as Pb;
    match Pb::try_from(pb) {
        Ok(Pb::Unspecified | Pb::Reconstruct) => Some(Repair::Reconstruct),
        Ok(Pb::Compensate) => Some(Repair::Compensate),
        Ok(Pb::None) => None,
        Err(_) => {
            checks.refuse(&at.field("repair"), format!("{pb} is no repair"));
            None
        }
    }
}
