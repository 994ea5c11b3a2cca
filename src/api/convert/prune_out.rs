//! A pruning of weights to `niwaki.v1.PruneWeights`.

use super::train_out::train;
use crate::api::v1;
use crate::passes::prune::{Amount, Pattern, Scope, Threshold};
use crate::recipe::{Cubic, PruneSchedule, PruneWeightsStep};
use crate::train::calibrate::Batches;
use crate::train::criterion::Criterion;

pub(super) fn prune(step: &PruneWeightsStep) -> v1::PruneWeights {
    use v1::prune_weights::{Amount as PbAmount, Scope as PbScope};
    use v1::threshold::Kind;
    let threshold = |kind| PbAmount::Threshold(v1::Threshold { kind: Some(kind) });
    let scope = match step.scope {
        Scope::Global => PbScope::Global,
        Scope::Layer => PbScope::Layer,
        Scope::Output => PbScope::Output,
    };
    v1::PruneWeights {
        amount: Some(match step.amount {
            Amount::Sparsity(share) => PbAmount::Sparsity(share),
            Amount::SparsityOfRest(share) => PbAmount::SparsityOfRest(share),
            Amount::Threshold(Threshold::Absolute(value)) => threshold(Kind::Absolute(value)),
            Amount::Threshold(Threshold::Quality(value)) => threshold(Kind::Quality(value)),
            Amount::Pattern(Pattern { keep, of }) => PbAmount::Pattern(v1::Pattern { keep, of }),
        }),
        scope: scope as i32,
        ignored: step.ignored.clone(),
        schedule: Some(schedule(&step.schedule)),
        criterion: Some(criterion(step.criterion)),
    }
}

fn schedule(schedule: &PruneSchedule) -> v1::prune_weights::Schedule {
    use v1::prune_weights::Schedule;
    match schedule {
        PruneSchedule::OneShot => Schedule::OneShot(v1::OneShot {}),
        PruneSchedule::Cubic(Cubic { train, begin, end, every }) => Schedule::Cubic(v1::Cubic {
            train: Some(self::train(train)),
            begin: Some(*begin),
            end: Some(*end),
            every: Some(*every),
        }),
        PruneSchedule::Surgery { cubic: Cubic { train, begin, end, every }, settle, decay } => {
            Schedule::Surgery(v1::Surgery {
                train: Some(self::train(train)),
                begin: Some(*begin),
                end: Some(*end),
                settle: Some(*settle),
                every: Some(*every),
                decay: Some(*decay),
            })
        }
    }
}

fn criterion(criterion: Criterion) -> v1::prune_weights::Criterion {
    use v1::prune_weights::Criterion as PbCriterion;
    let of = |Batches { batches, batch_size }: Batches| (Some(batches), Some(batch_size));
    match criterion {
        Criterion::Magnitude => PbCriterion::Magnitude(v1::Magnitude {}),
        Criterion::Movement => PbCriterion::Movement(v1::Movement {}),
        Criterion::Taylor(how) => {
            let (batches, batch_size) = of(how);
            PbCriterion::Taylor(v1::Taylor { batches, batch_size })
        }
        Criterion::Snip(how) => {
            let (batches, batch_size) = of(how);
            PbCriterion::Snip(v1::Snip { batches, batch_size })
        }
        Criterion::Wanda(how) => {
            let (batches, batch_size) = of(how);
            PbCriterion::Wanda(v1::Wanda { batches, batch_size })
        }
        Criterion::Fisher(how) => {
            let (batches, batch_size) = of(how);
            PbCriterion::Fisher(v1::Fisher { batches, batch_size })
        }
    }
}
