//! Conditions on what a list shows, as bound parameters of its statement. Columns are words of ours; values never become
//! part of the SQL.

use std::fmt::Write;

use sqlx::Any;
use sqlx::any::AnyArguments;
use sqlx::query::Query;

/// Conditions that must all hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter(pub Vec<Condition>);

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// The column, or an expression of columns.
    pub column: &'static str,
    /// How it is compared.
    pub operator: Operator,
    /// With what.
    pub value: Value,
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    Greater,
    /// `>=`
    AtLeast,
}

/// What a column is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A whole number.
    Number(i64),
}

impl Filter {
    /// The conditions as the rest of a WHERE clause; the first of their parameters is `$first`.
    pub(crate) fn sql(&self, first: usize) -> String {
        let mut sql = String::new();
        for (place, Condition { column, operator, .. }) in (first..).zip(&self.0) {
            let operator = match operator {
                Operator::Equal => "=",
                Operator::NotEqual => "<>",
                Operator::Less => "<",
                Operator::AtMost => "<=",
                Operator::Greater => ">",
                Operator::AtLeast => ">=",
            };
            let _ = write!(sql, " AND {column} {operator} ${place}");
        }
        sql
    }

    /// Binds the values, in the order of [`Filter::sql`].
    pub(crate) fn bind<'q>(&self, query: Query<'q, Any, AnyArguments>) -> Query<'q, Any, AnyArguments> {
        self.0.iter().fold(query, |query, condition| match &condition.value {
            Value::Text(text) => query.bind(text.clone()),
            Value::Number(number) => query.bind(*number),
        })
    }
}
