//! A recipe's steps one after the other, with each round of a repetition written out: what is checked, run and reported.
//! Between any two of them lies a checkpoint.

use super::{Recipe, Repeat, Step, StepKind};

/// A step as it is done.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Unrolled<'r> {
    pub(super) step: &'r Step,
    /// The path of its kind's field in `niwaki.v1.Recipe`, the same in every round.
    pub(super) path: String,
    /// The round of the repetition that it is in, counted from 1; 0 outside.
    pub(super) round: u32,
}

impl Recipe {
    /// The steps as they are done. A repetition inside a repetition is left out: it is invalid.
    pub(super) fn unrolled(&self) -> Vec<Unrolled<'_>> {
        let mut unrolled = Vec::new();
        for (i, step) in self.steps.iter().enumerate() {
            let path = path(&format!("steps[{i}]"), step);
            let StepKind::Repeat(Repeat { times, steps }) = &step.kind else {
                unrolled.push(Unrolled { step, path, round: 0 });
                continue;
            };
            let inner = || steps.iter().enumerate().filter(|(_, step)| !matches!(step.kind, StepKind::Repeat(_)));
            for round in 1..=*times {
                unrolled.extend(inner().map(|(i, step)| Unrolled {
                    step,
                    path: self::path(&format!("{path}.steps[{i}]"), step),
                    round,
                }));
            }
        }
        unrolled
    }

    /// How many steps are done, without counting them out.
    pub fn unrolled_len(&self) -> usize {
        let of_step = |step: &Step| match &step.kind {
            StepKind::Repeat(Repeat { times, steps }) => steps.len().saturating_mul(*times as usize),
            _ => 1,
        };
        self.steps.iter().map(of_step).fold(0, usize::saturating_add)
    }

    /// Every step that is written down and does something: those of a repetition once.
    pub(super) fn flat(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().flat_map(|step| match &step.kind {
            StepKind::Repeat(repeat) => repeat.steps.iter(),
            _ => std::slice::from_ref(step).iter(),
        })
    }
}

fn path(at: &str, step: &Step) -> String {
    format!("{at}.{}", step.kind.field())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::DataSpec;
    use crate::recipe::VERSION;

    #[test]
    fn rounds_are_written_out_and_paths_are_those_of_the_file() {
        let step = |kind| Step { name: String::new(), kind };
        let steps = vec![step(StepKind::Mark), step(StepKind::Rewind)];
        let repeat = StepKind::Repeat(Repeat { times: 2, steps });
        let recipe = Recipe {
            version: VERSION,
            name: String::new(),
            description: String::new(),
            seed: 1,
            data: DataSpec::default(),
            start: None,
            steps: vec![step(StepKind::Evaluate), step(repeat), step(StepKind::Fold)],
        };
        let unrolled = recipe.unrolled();
        let found: Vec<(&str, u32)> = unrolled.iter().map(|u| (u.path.as_str(), u.round)).collect();
        let (mark, rewind) = ("steps[1].repeat.steps[0].mark", "steps[1].repeat.steps[1].rewind");
        let expected = [("steps[0].evaluate", 0), (mark, 1), (rewind, 1), (mark, 2), (rewind, 2), ("steps[2].fold", 0)];
        assert_eq!(found, expected);
        assert_eq!((recipe.unrolled_len(), recipe.flat().count()), (6, 4));
    }
}
