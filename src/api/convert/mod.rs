//! Messages to what they mean, and back.
//!
//! Towards the engine everything is checked: each bad field is reported by its path, all at once. A conversion therefore
//! goes on after a bad field with whatever value is at hand; [`Checks::finish`] is the only way to the result.

pub mod analysis;
pub mod catalogue;
mod channels_in;
mod channels_out;
mod data_in;
mod data_out;
mod evolve_in;
mod evolve_out;
pub mod job;
mod prune_in;
mod prune_out;
mod recipe_in;
mod recipe_out;
mod source_in;
mod source_out;
mod step_in;
mod step_out;
mod train_in;
mod train_out;

use crate::error::Violation;

pub use recipe_in::recipe as recipe_from_pb;
pub use recipe_out::recipe as recipe_to_pb;
pub(super) use source_in::source as source_from_pb;
pub(super) use source_out::source as source_to_pb;

/// Where in a request a value stands: `job.recipe.steps[1].prune_weights.sparsity`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Path(String);

impl Path {
    /// A path from the request on, such as `job.recipe`; empty for a message that stands alone.
    pub fn root(name: &str) -> Self {
        Self(name.into())
    }

    /// The path of a field.
    pub fn field(&self, name: &str) -> Self {
        if self.0.is_empty() { Self(name.into()) } else { Self(format!("{}.{name}", self.0)) }
    }

    /// The path of an element.
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }
}

/// The numbers that a field takes, in words and as a test.
pub(super) struct Numbers(pub &'static str, pub fn(f64) -> bool);

/// Numbers of any size.
pub(super) const ANY: Numbers = Numbers("that is finite", |_| true);
/// Shares of a whole that leave something.
pub(super) const BELOW_ONE: Numbers = Numbers("from 0 up to but not including 1", |v| (0.0..1.0).contains(&v));
/// Shares that leave something on both sides.
pub(super) const BETWEEN: Numbers = Numbers("above 0 and below 1", |v| v > 0.0 && v < 1.0);
/// Shares.
pub(super) const SHARE: Numbers = Numbers("from 0 to 1", |v| (0.0..=1.0).contains(&v));
/// Numbers that are not negative.
pub(super) const NOT_NEGATIVE: Numbers = Numbers("0 or more", |v| v >= 0.0);
/// Shares of a whole that are not nothing.
pub(super) const FACTOR: Numbers = Numbers("above 0, at most 1", |v| v > 0.0 && v <= 1.0);
/// Numbers above nothing.
pub(super) const POSITIVE: Numbers = Numbers("above 0", |v| v > 0.0);

/// Characters of a label.
pub(super) const MAX_NAME: usize = 200;
/// Names or globs in one list.
const MAX_PATTERNS: usize = 256;

/// Checks a list of names or globs.
pub(super) fn patterns(pb: Vec<String>, at: &Path, checks: &mut Checks) -> Vec<String> {
    if pb.len() > MAX_PATTERNS {
        checks.refuse(at, format!("has {} patterns, at most {MAX_PATTERNS} are allowed", pb.len()));
        return Vec::new();
    }
    pb.into_iter().enumerate().map(|(i, pattern)| checks.name(&at.index(i), pattern)).collect()
}

/// Collects bad fields.
#[derive(Debug, Default)]
pub struct Checks {
    violations: Vec<Violation>,
}

impl Checks {
    /// Reports a bad field.
    pub fn refuse(&mut self, at: &Path, description: impl Into<String>) {
        self.violations.push(Violation::new(at.0.clone(), description));
    }

    /// Reports what another check has found.
    pub fn add(&mut self, found: Option<Violation>) {
        self.violations.extend(found);
    }

    /// The value, if all was well.
    pub fn finish<T>(self, value: T) -> Result<T, Vec<Violation>> {
        if self.violations.is_empty() { Ok(value) } else { Err(self.violations) }
    }

    /// Checks a number. Infinities and NaN are never allowed.
    pub(super) fn number(&mut self, at: &Path, value: f64, numbers: &Numbers) -> f64 {
        let Numbers(words, allowed) = numbers;
        if !value.is_finite() || !allowed(value) {
            self.refuse(at, format!("{value} is not allowed: a number {words} is"));
        }
        value
    }

    /// Checks a whole number.
    pub(super) fn whole(&mut self, at: &Path, value: u32, least: u32, most: u32) -> u32 {
        if !(least..=most).contains(&value) {
            self.refuse(at, format!("{value} is not allowed: a whole number from {least} to {most} is"));
        }
        value
    }

    /// Checks a text's length, and that it has no control characters but line ends.
    pub fn text(&mut self, at: &Path, value: String, most: usize) -> String {
        if value.chars().count() > most {
            self.refuse(at, format!("has {} characters, at most {most} are allowed", value.chars().count()));
        }
        if value.chars().any(|c| c.is_control() && c != '\n') {
            self.refuse(at, "has control characters");
        }
        value
    }

    /// Checks that a text is there.
    pub(super) fn name(&mut self, at: &Path, value: String) -> String {
        if value.is_empty() {
            self.refuse(at, "is missing");
        }
        self.text(at, value, 512)
    }
}
