//! `niwaki.v1.EvolveChannels` to what it means. The bounds and defaults are those of the comments in `recipe.proto`.

use super::channels_in::{importance, limits, measure, repair};
use super::{BELOW_ONE, BETWEEN, Checks, Path};
use crate::api::v1;
use crate::passes::prune::channels::plan::{Budget, Metric};
use crate::recipe::{Choose, EvolveChannelsStep};

/// Networks of a generation and generations, at most.
const MOST: u32 = 1000;
/// Samples to measure on, at most.
const MOST_SAMPLES: u32 = 1_000_000;

pub(super) fn evolve_channels(pb: v1::EvolveChannels, at: &Path, checks: &mut Checks) -> EvolveChannelsStep {
    use v1::evolve_channels::{Budget as PbBudget, Choose as PbChoose};
    let mut share =
        |metric: Metric, share| Budget { metric, share: checks.number(&at.field(metric.field()), share, &BETWEEN) };
    let budget = pb.budget.map(|budget| match budget {
        PbBudget::MacRatio(ratio) => share(Metric::Macs, ratio),
        PbBudget::ParamRatio(ratio) => share(Metric::Params, ratio),
    });
    let choose = match pb.choose {
        None => Choose::MaxDrop(0.01),
        Some(PbChoose::MaxDrop(drop)) => Choose::MaxDrop(checks.number(&at.field("max_drop"), drop, &BELOW_ONE)),
        Some(PbChoose::Knee(v1::Knee {})) => Choose::Knee,
        Some(PbChoose::MostAccurate(v1::MostAccurate {})) => Choose::MostAccurate,
    };
    let population = checks.whole(&at.field("population"), pb.population.unwrap_or(24), 4, MOST) as usize;
    let generations = checks.whole(&at.field("generations"), pb.generations.unwrap_or(12), 1, MOST);
    let samples = checks.whole(&at.field("samples"), pb.samples.unwrap_or(2048), 1, MOST_SAMPLES) as usize;
    EvolveChannelsStep {
        cost: cost(pb.cost, at, checks),
        budget,
        choose,
        population,
        generations,
        samples,
        importance: importance(pb.importance, at, checks),
        limits: limits((pb.layers, pb.ignored), (pb.round_to, pb.min_keep, pb.max_ratio), at, checks),
        measure: measure(pb.batches, pb.batch_size, at, checks),
        repair: repair(pb.repair, at, checks),
    }
}

fn cost(pb: i32, at: &Path, checks: &mut Checks) -> Metric {
    use v1::evolve_channels::Cost as Pb;
    match Pb::try_from(pb) {
        Ok(Pb::Unspecified | Pb::Macs) => Metric::Macs,
        Ok(Pb::Params) => Metric::Params,
        Err(_) => {
            checks.refuse(&at.field("cost"), format!("{pb} is no cost"));
            Metric::Macs
        }
    }
}
