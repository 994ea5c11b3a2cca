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
        Some(PbAmount::Ratio(share)) => Amount::Ratio(checks.number(&at.field("ratio"), share, &BELOW_ONE)),
        Some(PbAmount::GlobalRatio(share)) => {
            Amount::GlobalRatio(checks.number(&at.field("global_ratio"), share, &BELOW_ONE))
        }
        None => {
            checks.refuse(at, "says not how much goes: one of ratio, global_ratio, mac_ratio, param_ratio is needed");
            Amount::Ratio(0.0)
        }
    };
    let whole = |checks: &mut Checks, field: &str, value: Option<u32>, usual: u32| {
        checks.whole(&at.field(field), value.unwrap_or(usual), 1, MAX_CHANNELS)
    };
    PruneChannelsStep {
        amount,
        importance: importance(pb.importance, at, checks),
        limits: Limits {
            layers: patterns(pb.layers, &at.field("layers"), checks),
            ignored: patterns(pb.ignored, &at.field("ignored"), checks),
            round_to: whole(checks, "round_to", pb.round_to, 8) as usize,
            min_keep: whole(checks, "min_keep", pb.min_keep, 1) as usize,
            max_ratio: checks.number(&at.field("max_ratio"), pb.max_ratio.unwrap_or(0.9), &BETWEEN),
        },
        measure: Batches {
            batches: batches(pb.batches, at, checks),
            batch_size: whole(checks, "batch_size", pb.batch_size, 64),
        },
        repair: repair(pb.repair, at, checks),
    }
}

fn importance(pb: i32, at: &Path, checks: &mut Checks) -> Importance {
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

fn repair(pb: i32, at: &Path, checks: &mut Checks) -> Option<Repair> {
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
