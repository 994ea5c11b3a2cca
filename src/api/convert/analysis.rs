//! What can be cut from a model, to messages.

use super::job::group_cut;
use crate::api::v1;
use crate::report::{Analysis, Figures, GroupSensitivity, Plan, Point};

/// The message of an analysis.
pub fn analysis(found: Analysis) -> v1::AnalyzeModelResponse {
    let Analysis { whole, samples, groups, plan, notes } = found;
    let plan = plan.map(|Plan { groups, figures }| v1::PruningPlan {
        groups: groups.into_iter().map(group_cut).collect(),
        figures: Some(self::figures(figures)),
    });
    let groups = groups.into_iter().map(sensitivity).collect();
    v1::AnalyzeModelResponse { whole: Some(figures(whole)), samples, groups, plan, notes }
}

fn figures(Figures { params, macs, bytes, accuracy, loss }: Figures) -> v1::NetworkFigures {
    v1::NetworkFigures { params, macs, bytes, accuracy, loss }
}

fn sensitivity(group: GroupSensitivity) -> v1::GroupSensitivity {
    let GroupSensitivity { name, layers, channels, kept_because, points } = group;
    let point =
        |Point { ratio, keep, figures }| v1::SensitivityPoint { ratio, keep, figures: Some(self::figures(figures)) };
    v1::GroupSensitivity { name, layers, channels, kept_because, points: points.into_iter().map(point).collect() }
}
