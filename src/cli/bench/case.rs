//! A case: some work under a name.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use super::measure::Rule;
use crate::cli::failure::Failure;

/// Some work under a name.
#[derive(Clone)]
pub struct Case {
    /// The name, in lower case.
    pub name: String,
    /// How many things a step does, and what these are.
    pub items: Option<(f64, &'static str)>,
    /// For how long it is measured.
    pub rule: Rule,
    prepare: Prepare,
}

/// Makes the work ready: what is not measured.
type Prepare = Arc<dyn Fn() -> Result<Box<dyn Work>, Failure> + Send + Sync>;

/// Work that is made ready.
pub trait Work {
    /// Does it once.
    fn step(&mut self) -> Result<(), Failure>;

    /// What there is to say of it beside its time.
    fn remark(&self) -> Option<Remark> {
        None
    }
}

/// Something beside a time.
#[derive(Debug, Clone, PartialEq)]
pub struct Remark {
    /// What it is.
    pub what: &'static str,
    /// How much, or which.
    pub value: Value,
}

/// Work without remarks and mistakes.
impl<F: FnMut()> Work for F {
    fn step(&mut self) -> Result<(), Failure> {
        self();
        Ok(())
    }
}

impl Case {
    /// A case of work that is made ready by `prepare`. It is measured for a second, and nothing is counted.
    pub fn new<W: Work + 'static>(
        name: impl Into<String>,
        prepare: impl Fn() -> Result<W, Failure> + Send + Sync + 'static,
    ) -> Self {
        let prepare = Arc::new(move || prepare().map(|work| Box::new(work) as Box<dyn Work>));
        Self { name: name.into(), items: None, rule: Rule::SECOND, prepare }
    }

    /// The same case, whose steps do so many things each.
    pub fn of(self, items: usize, unit: &'static str) -> Self {
        Self { items: Some((items as f64, unit)), ..self }
    }

    /// The same case, measured by another rule.
    pub fn by(self, rule: Rule) -> Self {
        Self { rule, ..self }
    }

    /// Makes the work ready.
    pub fn prepare(&self) -> Result<Box<dyn Work>, Failure> {
        (self.prepare)()
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("name", &self.name).finish_non_exhaustive()
    }
}
