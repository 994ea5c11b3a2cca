//! `niwaki.v1.PruneWeights` to what it means. The bounds and defaults are those of the comments in `recipe.proto`.

use super::step_in::measured;
use super::train_in::train;
use super::{BELOW_ONE, Checks, NOT_NEGATIVE, Path, SHARE, patterns};
use crate::api::v1;
use crate::passes::prune::{Amount, Pattern, Scope, Threshold};
use crate::recipe::{Cubic, PruneSchedule, PruneWeightsStep};
use crate::train::criterion::Criterion;

/// Weights of a group, at most.
const MAX_GROUP: u32 = 65_536;

pub(super) fn prune(pb: v1::PruneWeights, at: &Path, checks: &mut Checks) -> PruneWeightsStep {
    use v1::prune_weights::{Schedule, Scope as PbScope};
    let amount = amount(pb.amount, at, checks);
    let criterion = criterion(pb.criterion, at, checks);
    let scope = match PbScope::try_from(pb.scope) {
        Ok(PbScope::Unspecified) if matches!(criterion, Criterion::Wanda(_)) => Scope::Output,
        Ok(PbScope::Unspecified | PbScope::Global) => Scope::Global,
        Ok(PbScope::Layer) => Scope::Layer,
        Ok(PbScope::Output) => Scope::Output,
        Err(_) => {
            checks.refuse(&at.field("scope"), format!("{} is no scope", pb.scope));
            Scope::Global
        }
    };
    let schedule = match pb.schedule {
        None | Some(Schedule::OneShot(v1::OneShot {})) => PruneSchedule::OneShot,
        Some(Schedule::Cubic(pb)) => PruneSchedule::Cubic(cubic(pb, &at.field("cubic"), checks)),
        Some(Schedule::Surgery(pb)) => surgery(pb, &at.field("surgery"), checks),
    };
    check_together(amount, criterion, &schedule, at, checks);
    PruneWeightsStep { amount, scope, criterion, ignored: patterns(pb.ignored, &at.field("ignored"), checks), schedule }
}

/// What does not go with what.
fn check_together(amount: Amount, criterion: Criterion, schedule: &PruneSchedule, at: &Path, checks: &mut Checks) {
    let trains = schedule.train().is_some();
    if trains && !matches!(amount, Amount::Sparsity(_)) {
        checks.refuse(&at.field(schedule.field()), "goes with sparsity alone, which it raises little by little");
    }
    if matches!(amount, Amount::Threshold(_)) && criterion != Criterion::Magnitude {
        checks.refuse(&at.field(criterion.field()), "does not go with a threshold, which is one of magnitudes");
    }
    if criterion == Criterion::Movement && !trains {
        checks.refuse(&at.field("movement"), "needs a training that moves the weights: cubic or surgery");
    }
    if matches!(schedule, PruneSchedule::Surgery { .. }) && criterion.batches().is_some() {
        let text = "does not go with surgery, which decides by magnitude or movement";
        checks.refuse(&at.field(criterion.field()), text);
    }
}

fn amount(pb: Option<v1::prune_weights::Amount>, at: &Path, checks: &mut Checks) -> Amount {
    use v1::prune_weights::Amount as PbAmount;
    match pb {
        Some(PbAmount::Sparsity(share)) => Amount::Sparsity(checks.number(&at.field("sparsity"), share, &BELOW_ONE)),
        Some(PbAmount::SparsityOfRest(share)) => {
            Amount::SparsityOfRest(checks.number(&at.field("sparsity_of_rest"), share, &BELOW_ONE))
        }
        Some(PbAmount::Threshold(pb)) => Amount::Threshold(threshold(pb, &at.field("threshold"), checks)),
        Some(PbAmount::Pattern(v1::Pattern { keep, of })) => {
            let at = at.field("pattern");
            let of = checks.whole(&at.field("of"), of, 2, MAX_GROUP);
            let keep = checks.whole(&at.field("keep"), keep, 1, of.max(1));
            Amount::Pattern(Pattern { keep, of })
        }
        None => {
            let kinds = "sparsity, sparsity_of_rest, threshold, pattern";
            checks.refuse(at, format!("says not how many weights go: one of {kinds} is needed"));
            Amount::Sparsity(0.0)
        }
    }
}

fn threshold(pb: v1::Threshold, at: &Path, checks: &mut Checks) -> Threshold {
    use v1::threshold::Kind;
    match pb.kind {
        Some(Kind::Absolute(value)) => Threshold::Absolute(checks.number(&at.field("absolute"), value, &NOT_NEGATIVE)),
        Some(Kind::Quality(value)) => Threshold::Quality(checks.number(&at.field("quality"), value, &NOT_NEGATIVE)),
        None => {
            checks.refuse(at, "has no value: one of absolute, quality is needed");
            Threshold::Absolute(0.0)
        }
    }
}

fn criterion(pb: Option<v1::prune_weights::Criterion>, at: &Path, checks: &mut Checks) -> Criterion {
    use v1::prune_weights::Criterion as PbCriterion;
    let mut measured = |field, batches, batch_size| measured(batches, batch_size, &at.field(field), checks);
    match pb {
        None | Some(PbCriterion::Magnitude(v1::Magnitude {})) => Criterion::Magnitude,
        Some(PbCriterion::Taylor(pb)) => Criterion::Taylor(measured("taylor", pb.batches, pb.batch_size)),
        Some(PbCriterion::Snip(pb)) => Criterion::Snip(measured("snip", pb.batches, pb.batch_size)),
        Some(PbCriterion::Wanda(pb)) => Criterion::Wanda(measured("wanda", pb.batches, pb.batch_size)),
        Some(PbCriterion::Fisher(pb)) => Criterion::Fisher(measured("fisher", pb.batches, pb.batch_size)),
        Some(PbCriterion::Movement(v1::Movement {})) => Criterion::Movement,
    }
}

fn cubic(pb: v1::Cubic, at: &Path, checks: &mut Checks) -> Cubic {
    if pb.train.is_none() {
        checks.refuse(&at.field("train"), "is missing");
    }
    let train = pb.train.unwrap_or(v1::Train { epochs: 1, ..Default::default() });
    let begin = checks.number(&at.field("begin"), pb.begin.unwrap_or(0.0), &SHARE);
    let end = checks.number(&at.field("end"), pb.end.unwrap_or(0.5), &SHARE);
    if begin >= end {
        checks.refuse(&at.field("end"), format!("{end} is not above begin, {begin}"));
    }
    let every = checks.whole(&at.field("every"), pb.every.unwrap_or(100), 1, u32::MAX);
    Cubic { train: self::train(train, &at.field("train"), checks), begin, end, every }
}

fn surgery(pb: v1::Surgery, at: &Path, checks: &mut Checks) -> PruneSchedule {
    let v1::Surgery { train, begin, end, settle, every, decay } = pb;
    let cubic = cubic(v1::Cubic { train, begin, end, every }, at, checks);
    let settle = checks.number(&at.field("settle"), settle.unwrap_or(0.75), &BELOW_ONE);
    if settle < cubic.end {
        checks.refuse(&at.field("settle"), format!("{settle} is below end, {}", cubic.end));
    }
    let decay = checks.number(&at.field("decay"), decay.unwrap_or(0.01), &BELOW_ONE);
    PruneSchedule::Surgery { cubic, settle, decay }
}
