//! Which classes are kept and what they become; written into a model's metadata, so that whoever gets the model knows what
//! its outputs stand for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{DataError, DataSpec};

/// The metadata key of the labels.
pub const METADATA_KEY: &str = "niwaki.labels";

/// What a data spec says about classes. Its JSON form is `{"classes":[..],"relabel":[..]}`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Labels {
    /// As [`DataSpec::classes`].
    pub classes: Vec<u32>,
    /// As [`DataSpec::relabel`].
    pub relabel: Vec<u32>,
}

/// What `spec` says about classes, as JSON; `None` where it says nothing.
pub fn to_json(spec: &DataSpec) -> Option<String> {
    if spec.classes.is_empty() && spec.relabel.is_empty() {
        return None;
    }
    let labels = Labels { classes: spec.classes.clone(), relabel: spec.relabel.clone() };
    Some(serde_json::to_string(&labels).expect("lists of numbers always have a JSON form"))
}

/// What a model's metadata say about the classes that it was trained on; nothing where they are silent. Whether that suits
/// a data set is asked when it is split.
pub fn of_model(metadata: &BTreeMap<String, String>) -> Result<Labels, DataError> {
    let Some(json) = metadata.get(METADATA_KEY) else { return Ok(Labels::default()) };
    serde_json::from_str(json).map_err(|e| DataError::Spec {
        field: METADATA_KEY.to_string(),
        problem: format!("in the model's metadata has not the form of labels: {e}"),
    })
}

/// The number of classes that `spec` leaves of so many.
pub fn classes(spec: &DataSpec, classes: u32) -> Result<u32, DataError> {
    Ok(Relabelling::of(spec, classes)?.map_or(classes, |found| found.classes))
}

/// Marks a class that is left out.
const LEFT_OUT: u32 = u32::MAX;

/// What each class of a data set becomes.
pub(super) struct Relabelling {
    /// The new label of each old one.
    pub table: Vec<u32>,
    /// The number of classes there are then.
    pub classes: u32,
}

impl Relabelling {
    /// What `spec` says about the classes of a data set that has so many; `None` where it says nothing.
    pub fn of(spec: &DataSpec, classes: u32) -> Result<Option<Self>, DataError> {
        let bad = |field: String, problem: String| Err(DataError::Spec { field, problem });
        if spec.classes.is_empty() && spec.relabel.is_empty() {
            return Ok(None);
        }
        let mut table: Vec<u32> = (0..classes).collect();
        let mut kept = classes;
        if !spec.classes.is_empty() {
            table.fill(LEFT_OUT);
            for (new, old) in spec.classes.iter().enumerate() {
                let field = format!("data.classes[{new}]");
                match table.get_mut(*old as usize) {
                    Some(place) if *place == LEFT_OUT => *place = new as u32,
                    Some(_) => return bad(field, format!("names class {old} a second time")),
                    None => return bad(field, format!("is {old}; the data set has classes 0 to {}", classes - 1)),
                }
            }
            kept = spec.classes.len() as u32;
        }
        if !spec.relabel.is_empty() {
            if spec.relabel.len() != kept as usize {
                let problem = format!("has {} labels; there are {kept} classes", spec.relabel.len());
                return bad("data.relabel".to_string(), problem);
            }
            for label in table.iter_mut().filter(|label| **label != LEFT_OUT) {
                *label = spec.relabel[*label as usize];
            }
            kept = spec.relabel.iter().max().map_or(0, |largest| largest.saturating_add(1));
            // A class that nothing becomes would be an output that is never right.
            if let Some(missing) = (0..kept).find(|label| !spec.relabel.contains(label)) {
                return bad("data.relabel".to_string(), format!("goes up to {}, but leaves out {missing}", kept - 1));
            }
        }
        Ok(Some(Self { table, classes: kept }))
    }

    /// Whether samples with this label are kept.
    pub fn keeps(&self, label: u32) -> bool {
        self.table.get(label as usize).is_some_and(|new| *new != LEFT_OUT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relabelling(classes: &[u32], relabel: &[u32], of: u32) -> Result<Option<Relabelling>, DataError> {
        Relabelling::of(&DataSpec { classes: classes.into(), relabel: relabel.into(), ..DataSpec::default() }, of)
    }

    /// What is left of classes 0 to 5, and the number of classes.
    fn seen(classes: &[u32], relabel: &[u32]) -> (Vec<(u32, u32)>, u32) {
        let found = relabelling(classes, relabel, 6).unwrap().unwrap();
        let kept = (0..6).filter(|label| found.keeps(*label));
        (kept.map(|label| (label, found.table[label as usize])).collect(), found.classes)
    }

    #[test]
    fn classes_are_kept_in_the_order_given_and_then_renamed() {
        assert_eq!(seen(&[5, 1], &[]), (vec![(1, 1), (5, 0)], 2));
        assert_eq!(seen(&[], &[0, 1, 0, 1, 0, 1]), (vec![(0, 0), (1, 1), (2, 0), (3, 1), (4, 0), (5, 1)], 2));
        assert_eq!(seen(&[5, 1, 2], &[1, 0, 0]), (vec![(1, 0), (2, 0), (5, 1)], 2));
        assert!(relabelling(&[], &[], 6).unwrap().is_none());
    }

    #[test]
    fn a_model_keeps_what_the_spec_says_and_other_json_is_refused() {
        let read = |json: &str| of_model(&BTreeMap::from([(METADATA_KEY.to_string(), json.to_string())]));
        let spec = DataSpec { classes: vec![5, 1], relabel: vec![1, 0], ..DataSpec::default() };
        let json = to_json(&spec).unwrap();
        assert_eq!(json, r#"{"classes":[5,1],"relabel":[1,0]}"#);
        assert_eq!(read(&json).unwrap(), Labels { classes: spec.classes, relabel: spec.relabel });
        assert_eq!(to_json(&DataSpec::default()), None);
        assert_eq!(of_model(&BTreeMap::new()).unwrap(), Labels::default());
        for json in [
            "",
            "[]",
            r#"{"classes":[1]}"#,
            r#"{"classes":[-1],"relabel":[]}"#,
            r#"{"classes":[],"relabel":[],"names":[]}"#,
            r#"{"classes":[],"relabel":[],"relabel":[]}"#,
        ] {
            let problem = read(json).unwrap_err().to_string();
            assert!(problem.starts_with("`niwaki.labels` in the model's metadata"), "{json}: {problem}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_named_by_its_field() {
        let problem = |classes: &[u32], relabel: &[u32]| {
            relabelling(classes, relabel, 6).err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(problem(&[1, 6], &[]), "`data.classes[1]` is 6; the data set has classes 0 to 5");
        assert_eq!(problem(&[1, 2, 1], &[]), "`data.classes[2]` names class 1 a second time");
        assert_eq!(problem(&[1, 2], &[0]), "`data.relabel` has 1 labels; there are 2 classes");
        assert_eq!(problem(&[1, 2], &[0, 2]), "`data.relabel` goes up to 2, but leaves out 1");
        assert_eq!(problem(&[1, 2], &[0, u32::MAX]), "`data.relabel` goes up to 4294967294, but leaves out 1");
    }
}
