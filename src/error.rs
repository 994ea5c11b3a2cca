//! The words every error is sorted by, so that one place (`api::status`) can turn any of them into a gRPC code.
//!
//! Each module has its own `thiserror` enum with names and numbers in its fields; it implements [`Classify`]. The kinds
//! are gRPC's words, but nothing here depends on tonic: the engine runs without a server.

use std::error::Error;
use std::fmt;

use serde::{Deserialize, Serialize};

/// What kind of failure an error is; the words and meanings of gRPC's status codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// The request is wrong in itself: a field, tensor or node is named.
    InvalidArgument,
    /// What was asked for does not exist (or belongs to another tenant).
    NotFound,
    /// A key was used before for something else.
    AlreadyExists,
    /// The request is right but the thing it acts on is in the wrong state.
    FailedPrecondition,
    /// Lost a race or broke off; the caller may read the state and go on.
    Aborted,
    /// A position beyond the end.
    OutOfRange,
    /// A limit or quota.
    ResourceExhausted,
    /// Try again later.
    Unavailable,
    /// It took longer than it may.
    DeadlineExceeded,
    /// Stored bytes are not what was written.
    DataLoss,
    /// The work was cancelled on request.
    Cancelled,
    /// Nobody knows who asks.
    Unauthenticated,
    /// Who asks may not.
    PermissionDenied,
    /// A defect of ours.
    Internal,
}

/// One bad field of a request, by its path (`steps[2].prune_weights.sparsity`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// The path of the field.
    pub field: String,
    /// What is wrong and what is allowed.
    pub description: String,
}

impl Violation {
    /// A violation of `field`.
    pub fn new(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self { field: field.into(), description: description.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A message that stands alone has no field.
        if self.field.is_empty() {
            f.write_str(&self.description)
        } else {
            write!(f, "{}: {}", self.field, self.description)
        }
    }
}

/// Several things in one line, as error messages list them.
pub fn list(things: &[impl fmt::Display]) -> String {
    things.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// An error that knows its kind.
pub trait Classify: Error {
    /// What kind of failure this is.
    fn kind(&self) -> Kind;

    /// A stable word for machines, such as `DIGEST_MISMATCH`.
    fn reason(&self) -> &'static str;

    /// Facts for machines, such as `committed_size`.
    fn metadata(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// The bad fields, where there are any.
    fn violations(&self) -> Vec<Violation> {
        Vec::new()
    }
}

/// Why a job failed, or why a model or a data set was rejected: an error that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of failure.
    pub kind: Kind,
    /// A stable word for machines.
    pub reason: String,
    /// What happened, for people.
    pub message: String,
    /// The bad fields, where that is what is wrong.
    #[serde(default)]
    pub violations: Vec<Violation>,
}

/// The longest message that is kept or sent, in bytes. What people send comes back in errors, whatever its length, and an
/// answer's headers have room for some thousand bytes, each of which may take three.
const MAX_MESSAGE: usize = 1000;
/// The most bytes of bad fields, with what is wrong with them.
const MAX_VIOLATIONS: usize = 3000;
/// The longest description of one.
const MAX_DESCRIPTION: usize = 400;

/// A text, or as much of it as has room in so many bytes.
pub fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most));
        text.push_str("...");
    }
    text
}

/// The first bad fields, and in the place of the others how many they are.
fn cut_violations(violations: Vec<Violation>) -> Vec<Violation> {
    let all = violations.len();
    let (mut kept, mut bytes) = (Vec::new(), 0);
    for Violation { field, description } in violations {
        let violation = Violation::new(cut(field, MAX_DESCRIPTION), cut(description, MAX_DESCRIPTION));
        bytes += violation.field.len() + violation.description.len();
        if bytes > MAX_VIOLATIONS {
            let more = format!("{} more", all - kept.len());
            kept.push(Violation::new("", more));
            break;
        }
        kept.push(violation);
    }
    kept
}

impl Failure {
    /// The failure that an error is, its words cut to a length that has room everywhere.
    pub fn of(error: &impl Classify) -> Self {
        Self {
            kind: error.kind(),
            reason: error.reason().into(),
            message: cut(error.to_string(), MAX_MESSAGE),
            violations: cut_violations(error.violations()),
        }
    }

    /// A failure that is no error of ours to convert.
    pub fn new(kind: Kind, reason: &str, message: impl Into<String>) -> Self {
        Self { kind, reason: reason.into(), message: cut(message.into(), MAX_MESSAGE), violations: Vec::new() }
    }

    /// The job's process did not keep to its part: it crashed, or what it left is not what it said.
    pub fn crashed(message: impl Into<String>) -> Self {
        Self::new(Kind::Aborted, "JOB_CRASHED", message)
    }
}
