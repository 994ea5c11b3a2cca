//! A search for channels to `niwaki.v1.EvolveChannels`, and what it found.

use super::channels_out::{importance, repair};
use super::job::group_cut;
use crate::api::v1;
use crate::passes::prune::channels::plan::{Limits, Metric};
use crate::recipe::{Choose, EvolveChannelsStep};
use crate::report::{EvolutionDetail, FrontMember};

pub(super) fn evolve_channels(step: &EvolveChannelsStep) -> v1::EvolveChannels {
    use v1::evolve_channels::{Budget, Choose as PbChoose, Cost};
    let Limits { layers, ignored, round_to, min_keep, max_ratio } = &step.limits;
    let budget = step.budget.map(|budget| match budget.metric {
        Metric::Params => Budget::ParamRatio(budget.share),
        Metric::Macs | Metric::Channels => Budget::MacRatio(budget.share),
    });
    let choose = match step.choose {
        Choose::MaxDrop(drop) => PbChoose::MaxDrop(drop),
        Choose::Knee => PbChoose::Knee(v1::Knee {}),
        Choose::MostAccurate => PbChoose::MostAccurate(v1::MostAccurate {}),
    };
    let cost = match step.cost {
        Metric::Params => Cost::Params,
        Metric::Macs | Metric::Channels => Cost::Macs,
    };
    v1::EvolveChannels {
        cost: cost as i32,
        budget,
        choose: Some(choose),
        population: Some(step.population as u32),
        generations: Some(step.generations),
        samples: Some(step.samples as u32),
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

pub(super) fn evolution(detail: EvolutionDetail) -> v1::EvolutionDetail {
    let member = |FrontMember { file, bytes, accuracy, loss, params, macs, keep, chosen }| v1::FrontMember {
        file,
        bytes,
        accuracy,
        loss,
        params,
        macs,
        keep,
        chosen,
    };
    v1::EvolutionDetail {
        groups: detail.groups.into_iter().map(group_cut).collect(),
        importance: detail.importance,
        repair: detail.repair,
        unrepaired: detail.unrepaired,
        cost: detail.cost,
        split: detail.split,
        samples: detail.samples,
        accuracy: detail.accuracy,
        generations: detail.generations,
        evaluations: detail.evaluations,
        front: detail.front.into_iter().map(member).collect(),
    }
}
