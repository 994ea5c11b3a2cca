//! What each step of a recipe did, as a table for people, and how its training went, as a line of blocks.

use super::output::{grouped, percent, table};
use crate::api::v1;
use crate::report::StepEffect;

/// One step, as the table shows it.
pub struct StepLine {
    name: String,
    accuracy: f64,
    params: u64,
    macs: u64,
    seconds: f64,
    /// The loss along the training.
    losses: Vec<f64>,
    /// What the step says of itself beside the figures.
    remark: String,
}

impl From<&StepEffect> for StepLine {
    fn from(step: &StepEffect) -> Self {
        Self {
            name: step.name.clone(),
            accuracy: step.after.validation_accuracy,
            params: step.after.params,
            macs: step.after.macs,
            seconds: step.seconds,
            losses: step.train.iter().flat_map(|train| &train.curve).map(|point| point.loss).collect(),
            remark: remark(
                step.low_rank.iter().map(|layer| layer.rank),
                (step.channels.iter().flat_map(|cut| &cut.groups))
                    .chain(step.evolution.iter().flat_map(|found| &found.groups))
                    .filter(|group| group.kept_because.is_empty())
                    .map(|group| (group.before, group.after)),
                step.evolution.as_ref().map(|found| (found.evaluations, found.front.len())),
                step.rewrite.as_ref().map(|rewrite| rewrite.output_difference),
            ),
        }
    }
}

impl From<&v1::StepEffect> for StepLine {
    fn from(step: &v1::StepEffect) -> Self {
        let after = step.after.unwrap_or_default();
        let losses = match &step.detail {
            Some(v1::step_effect::Detail::Train(train)) => train.curve.iter().map(|point| point.loss).collect(),
            _ => Vec::new(),
        };
        Self {
            name: step.name.clone(),
            accuracy: after.validation_accuracy,
            params: after.params,
            macs: after.macs,
            seconds: step.seconds,
            losses,
            remark: remark(
                step.low_rank.iter().map(|layer| layer.rank),
                (step.channels.iter().flat_map(|cut| &cut.groups))
                    .chain(step.evolution.iter().flat_map(|found| &found.groups))
                    .filter(|group| group.kept_because.is_empty())
                    .map(|group| (group.before, group.after)),
                step.evolution.as_ref().map(|found| (found.evaluations, found.front.len())),
                step.rewrite.as_ref().map(|rewrite| rewrite.output_difference),
            ),
        }
    }
}

/// What a step says of itself: of a factorisation how many of these layers have a rank now, of a pruning how many of the
/// channels are left that could go, of a search how many networks it tried and how many of them are on its front, of a
/// rewriting how well it kept the function.
fn remark(
    ranks: impl ExactSizeIterator<Item = u64>,
    channels: impl Iterator<Item = (u64, u64)>,
    searched: Option<(u64, usize)>,
    difference: Option<f64>,
) -> String {
    let layers = ranks.len();
    let rewritten = ranks.filter(|rank| *rank > 0).count();
    let (before, after) = channels.fold((0, 0), |(before, after), (b, a)| (before + b, after + a));
    if let Some((tried, front)) = searched {
        return format!("{after} of {before} channels stay; of {tried} networks {front} are on the front");
    }
    match difference {
        _ if before > 0 => format!("{after} of {before} channels stay"),
        _ if layers > 0 => format!("{rewritten} of {layers} layers rewritten"),
        Some(difference) => format!("outputs differ by {difference:.0e} of the largest"),
        None => String::new(),
    }
}

/// The steps one below the other; nothing where there are none.
pub fn steps<S: Into<StepLine>>(steps: impl IntoIterator<Item = S>) -> String {
    let rows: Vec<Vec<String>> = steps
        .into_iter()
        .map(Into::into)
        .map(|step| {
            let shown = if step.losses.is_empty() { step.remark } else { format!("loss {}", blocks(&step.losses)) };
            vec![
                step.name,
                percent(step.accuracy),
                grouped(step.params),
                grouped(step.macs),
                format!("{:.0} s", step.seconds),
                shown,
            ]
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    table(&["after step", "validation", "parameters", "MACs", "time", ""], &[""], rows) + "\n"
}

/// How many blocks a curve is drawn with.
const BLOCKS: usize = 24;

/// Numbers as a line of blocks, the largest of them full; each block is the mean of a stretch.
fn blocks(values: &[f64]) -> String {
    let stretch = values.len().div_ceil(BLOCKS).max(1);
    let means: Vec<f64> = values.chunks(stretch).map(|c| c.iter().sum::<f64>() / c.len() as f64).collect();
    let largest = means.iter().copied().fold(0.0, f64::max);
    let level = |mean: &f64| if largest > 0.0 { (mean.max(0.0) / largest * 7.0).round() as usize } else { 0 };
    means.iter().map(|mean| ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'][level(mean).min(7)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{CurvePoint, EvolutionDetail, FrontMember, GroupCut, LayerRank, Snapshot, TrainDetail};

    #[test]
    fn a_step_shows_what_it_cost_and_how_its_training_went() {
        let after = Snapshot { validation_accuracy: 0.98, params: 30_626, macs: 30_216, ..Snapshot::default() };
        let layers = vec![LayerRank { rank: 24, ..LayerRank::default() }, LayerRank::default()];
        let thin = StepEffect { name: "thinner".into(), after, low_rank: layers, ..StepEffect::default() };
        let curve = (0..100).map(|i| CurvePoint { loss: f64::from(100 - i), ..CurvePoint::default() }).collect();
        let train = Some(TrainDetail { curve, ..TrainDetail::default() });
        let tuned = StepEffect { name: "tuned".into(), after, seconds: 61.2, train, ..StepEffect::default() };
        let group =
            |before, after, why: &str| GroupCut { before, after, kept_because: why.into(), ..GroupCut::default() };
        let evolution = EvolutionDetail {
            groups: vec![group(20, 8, ""), group(10, 10, "it is an output of the network")],
            evaluations: 288,
            front: vec![FrontMember::default(); 9],
            ..EvolutionDetail::default()
        };
        let found = StepEffect { name: "found".into(), after, evolution: Some(evolution), ..StepEffect::default() };
        expect_test::expect![[r#"
            after step  validation  parameters    MACs  time
            thinner        98.00 %      30,626  30,216   0 s  1 of 2 layers rewritten
            tuned          98.00 %      30,626  30,216  61 s  loss ██▇▇▇▆▆▆▅▅▄▄▄▃▃▃▂▂▂▁
            found          98.00 %      30,626  30,216   0 s  8 of 20 channels stay; of 288 networks 9 are on the front

        "#]]
        .assert_eq(&steps([&thin, &tuned, &found]));
    }
}
