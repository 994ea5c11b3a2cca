//! What a list request asks for: `state = RUNNING AND create_time > "2026-01-31T00:00:00Z"`.
//!
//! A part of AIP-160: conditions joined by AND, each a field, an operator and a value, which may stand in double quotes.
//! There is no OR, no NOT and no pattern, so that a filter costs no more than it says. Values become parameters of the
//! statement, never a part of it.

use super::names::Collection;
use super::status::RequestError;
use crate::store::{Condition, Filter, Operator, Value};

/// The longest filter, in bytes.
const MAX_BYTES: usize = 1024;
/// The most conditions.
const MAX_CONDITIONS: usize = 10;

/// A field that a list can be filtered by.
pub(super) struct Field {
    pub name: &'static str,
    pub column: &'static str,
    pub values: Values,
}

/// What a field is compared with.
pub(super) enum Values {
    /// One of these words; the API's `STATE_` may stand before it. Compared with `=` and `!=` only.
    States(&'static [&'static str]),
    /// Any text, `=` and `!=`.
    Text,
    /// The name of a resource of this collection or its id, `=` and `!=`.
    Resource(Collection),
    /// A whole number.
    Number,
    /// A time as in RFC 3339.
    Time,
}

const CREATE_TIME: Field = Field { name: "create_time", column: "create_ms", values: Values::Time };
const ENTRY_STATES: Values = Values::States(&["VALIDATING", "READY", "REJECTED"]);

pub(super) const JOBS: &[Field] = &[
    Field {
        name: "state",
        column: "state",
        values: Values::States(&["QUEUED", "RUNNING", "CANCELLING", "SUCCEEDED", "FAILED", "CANCELLED"]),
    },
    Field { name: "model", column: "COALESCE(model, '')", values: Values::Resource(Collection::Models) },
    Field { name: "dataset", column: "dataset", values: Values::Resource(Collection::Datasets) },
    Field { name: "priority", column: "priority", values: Values::Number },
    CREATE_TIME,
];
pub(super) const ENTRIES: &[Field] = &[
    Field { name: "state", column: "state", values: ENTRY_STATES },
    Field { name: "display_name", column: "display_name", values: Values::Text },
    CREATE_TIME,
];
pub(super) const UPLOADS: &[Field] = &[
    Field { name: "state", column: "state", values: Values::States(&["OPEN", "COMPLETE"]) },
    Field { name: "file_name", column: "file_name", values: Values::Text },
    Field { name: "digest", column: "digest", values: Values::Text },
    CREATE_TIME,
];

/// Reads a filter; empty: everything.
pub(super) fn filter(text: &str, fields: &[Field]) -> Result<Filter, RequestError> {
    let refuse = |problem: String| RequestError::field("filter", problem);
    if text.len() > MAX_BYTES {
        return Err(refuse(format!("has {} bytes, at most {MAX_BYTES} are allowed", text.len())));
    }
    let mut words = words(text).map_err(refuse)?.into_iter().peekable();
    let mut conditions = Vec::new();
    while words.peek().is_some() {
        if conditions.len() == MAX_CONDITIONS {
            return Err(refuse(format!("has more than {MAX_CONDITIONS} conditions")));
        }
        if !conditions.is_empty() && words.next() != Some(Word::Plain("AND".into())) {
            return Err(refuse("has something else than AND between two conditions".into()));
        }
        let parts = (words.next(), words.next(), words.next());
        let (Some(Word::Plain(name)), Some(Word::Operator(operator)), Some(Word::Plain(value) | Word::Quoted(value))) =
            parts
        else {
            return Err(refuse("is not of the form `field operator value AND field operator value`".into()));
        };
        let names: Vec<&str> = fields.iter().map(|field| field.name).collect();
        let field = fields.iter().find(|field| field.name == name);
        let field = field.ok_or_else(|| refuse(format!("{name:?} is no field: {} are", names.join(", "))))?;
        conditions.push(field.condition(operator, value).map_err(refuse)?);
    }
    Ok(Filter(conditions))
}

impl Field {
    fn condition(&self, operator: Operator, value: String) -> Result<Condition, String> {
        let name = self.name;
        let ordered = matches!(self.values, Values::Number | Values::Time);
        if !ordered && !matches!(operator, Operator::Equal | Operator::NotEqual) {
            return Err(format!("compares {name} with something else than = and !="));
        }
        let value = match &self.values {
            Values::Text => Value::Text(value),
            Values::States(states) => {
                let state = value.strip_prefix("STATE_").unwrap_or(&value);
                if !states.contains(&state) {
                    return Err(format!("{value:?} is no state: {} are", states.join(", ")));
                }
                Value::Text(state.into())
            }
            // What follows the last slash of a name is its id; an id has none.
            Values::Resource(collection) => match value.rsplit_once('/') {
                Some((before, id)) if before.ends_with(collection.word()) => Value::Text(id.into()),
                Some(_) => return Err(format!("{value:?} is no name in {}", collection.word())),
                None => Value::Text(value),
            },
            Values::Number => Value::Number(value.parse().map_err(|_| format!("{value:?} is no whole number"))?),
            Values::Time => {
                let time: prost_types::Timestamp =
                    value.parse().map_err(|_| format!("{value:?} is no time such as \"2026-01-31T00:00:00Z\""))?;
                Value::Number(time.seconds.saturating_mul(1000).saturating_add(i64::from(time.nanos) / 1_000_000))
            }
        };
        Ok(Condition { column: self.column, operator, value })
    }
}

#[derive(Debug, PartialEq)]
enum Word {
    Plain(String),
    Quoted(String),
    Operator(Operator),
}

fn words(text: &str) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let operators = [
            ("!=", Operator::NotEqual),
            ("<=", Operator::AtMost),
            (">=", Operator::AtLeast),
            ("=", Operator::Equal),
            ("<", Operator::Less),
            (">", Operator::Greater),
        ];
        let length = if let Some((sign, operator)) = operators.into_iter().find(|(sign, _)| rest.starts_with(sign)) {
            words.push(Word::Operator(operator));
            sign.len()
        } else if first == '"' {
            let length = 1 + rest[1..].find('"').ok_or("has a quote without an end")?;
            words.push(Word::Quoted(rest[1..length].into()));
            length + 1
        } else {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '/' | '+');
            let length = rest.find(|c| !plain(c)).unwrap_or(rest.len());
            if length == 0 {
                return Err(format!("has a {first:?} that stands in no quotes"));
            }
            words.push(Word::Plain(rest[..length].into()));
            length
        };
        rest = rest[length..].trim_start();
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Classify;

    #[test]
    fn conditions_become_columns_and_parameters() {
        let text = r#"state=STATE_RUNNING AND create_time >= "1970-01-01T00:00:01.5Z" AND model != tenants/t/models/m"#;
        let condition = |column, operator, value| Condition { column, operator, value };
        let expected = Filter(vec![
            condition("state", Operator::Equal, Value::Text("RUNNING".into())),
            condition("create_ms", Operator::AtLeast, Value::Number(1500)),
            condition("COALESCE(model, '')", Operator::NotEqual, Value::Text("m".into())),
        ]);
        assert_eq!(filter(text, JOBS).unwrap(), expected);
        assert_eq!(filter("  ", JOBS).unwrap(), Filter::default());
        let quoted = filter(r#"display_name = "a AND state = READY'; DROP""#, ENTRIES).unwrap();
        assert_eq!(quoted.0[0].value, Value::Text("a AND state = READY'; DROP".into()));
    }

    #[test]
    fn what_is_no_filter_is_refused_with_what_is_allowed() {
        for (text, hint) in [
            ("stat = READY", "state, display_name, create_time are"),
            ("state = RUNNING", "VALIDATING, READY, REJECTED are"),
            ("state < READY", "= and !="),
            ("state = READY OR state = REJECTED", "AND"),
            ("state READY", "form"),
            ("display_name = \"open", "quote"),
            ("display_name = ' OR 1=1 --", "quotes"),
            ("create_time > yesterday", "2026-01-31T00:00:00Z"),
            ("state = READY AND", "form"),
        ] {
            let refused = filter(text, ENTRIES).unwrap_err();
            let violation = &refused.violations()[0];
            assert_eq!(violation.field, "filter");
            assert!(violation.description.contains(hint), "{text}: {}", violation.description);
        }
        assert!(filter(&["state = READY"; 11].join(" AND "), ENTRIES).is_err());
        assert!(filter(&format!("display_name = \"{}\"", "x".repeat(1100)), ENTRIES).is_err());
    }
}
