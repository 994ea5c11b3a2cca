//! Why a verb did not do what was asked: exit code, machine-readable words, a sentence for people.

use std::error::Error;
use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::api::status::code;
use crate::error::{Classify, Violation};

/// The exit codes of everything that did not go well; `niwaki --help` explains them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Anything else.
    Failure = 1,
    /// Wrong usage or invalid input.
    Invalid = 2,
    /// The job failed or was cancelled.
    JobFailed = 3,
    /// Nobody knows who asks, or who asks may not.
    NotAllowed = 4,
    /// What was asked for does not exist.
    NotFound = 5,
    /// The server cannot be reached; safe to retry.
    Unavailable = 7,
    /// The settings cannot be used: the server has not started.
    Settings = 78,
    /// Ctrl-C.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// Why a verb did not do what was asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// gRPC's word for the kind of failure.
    pub code: &'static str,
    /// A stable word for machines.
    pub reason: String,
    /// What happened, for people.
    pub message: String,
    /// The bad fields, where there are any.
    pub violations: Vec<Violation>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure of the command line's own making.
    pub fn new(exit: Exit, reason: &str, message: impl Into<String>) -> Self {
        let code = match exit {
            Exit::Failure => Code::Internal,
            Exit::Invalid => Code::InvalidArgument,
            Exit::JobFailed => Code::Aborted,
            Exit::NotAllowed => Code::PermissionDenied,
            Exit::NotFound => Code::NotFound,
            Exit::Unavailable => Code::Unavailable,
            Exit::Settings => Code::FailedPrecondition,
            Exit::Interrupted => Code::Cancelled,
        };
        Self { exit, code: word(code), reason: reason.into(), message: message.into(), violations: vec![], hint: None }
    }

    /// A file that cannot be read or written.
    pub fn io(path: &Path, error: &std::io::Error) -> Self {
        let message = format!("{}: {error}", path.display());
        match error.kind() {
            std::io::ErrorKind::NotFound => Self::new(Exit::NotFound, "FILE_NOT_FOUND", message),
            std::io::ErrorKind::IsADirectory | std::io::ErrorKind::NotADirectory => {
                Self::new(Exit::Invalid, "FILE", message)
            }
            _ => Self::new(Exit::Failure, "FILE", message),
        }
    }

    /// What is wrong with a file that the caller gave, a limit that it exceeds as well: another try is no use.
    pub fn input(path: &Path, error: impl Classify) -> Self {
        let mut failure = Self::from(error).within(path.display());
        if failure.code == word(Code::ResourceExhausted) {
            failure.exit = Exit::Invalid;
        }
        failure
    }

    /// Ctrl-C, and what becomes of the work.
    pub fn interrupted(message: impl Into<String>) -> Self {
        Self::new(Exit::Interrupted, "INTERRUPTED", message)
    }

    /// The same failure with what it happened to in front of its message.
    pub fn within(mut self, what: impl Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// The same failure with what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The failure as `--json` prints it.
    pub fn to_json(&self) -> Value {
        let violations: Vec<Value> =
            self.violations.iter().map(|v| json!({"field": v.field, "description": v.description})).collect();
        json!({"error": {
            "code": self.code, "reason": self.reason, "message": self.message, "violations": violations,
        }})
    }
}

impl<E: Classify> From<E> for Failure {
    fn from(error: E) -> Self {
        let code = code(error.kind());
        Self {
            exit: exit(code),
            code: word(code),
            reason: error.reason().into(),
            message: error.to_string(),
            violations: error.violations(),
            hint: None,
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let code = if is_transport(&status) { Code::Unavailable } else { status.code() };
        let violations = status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
        let reason = status.get_details_error_info().map(|info| info.reason).filter(|reason| !reason.is_empty());
        Self {
            exit: exit(code),
            code: word(code),
            reason: reason.unwrap_or_else(|| word(code).into()),
            message: status.message().into(),
            violations: violations.into_iter().map(|v| Violation::new(v.field, v.description)).collect(),
            hint: is_transport(&status).then(|| {
                "is it still there? One with a certificate is called by https:// with --ca, and --cert if it asks for it".into()
            }),
        }
    }
}

/// Whether the connection broke, rather than the server answered. What a server sends has no source here; and where a
/// connection is not taken up again the client code says UNKNOWN without one, a word niwaki's server never uses.
fn is_transport(status: &Status) -> bool {
    status.source().is_some() || status.code() == Code::Unknown
}

fn exit(code: Code) -> Exit {
    match code {
        Code::InvalidArgument | Code::OutOfRange | Code::AlreadyExists => Exit::Invalid,
        Code::NotFound => Exit::NotFound,
        Code::Unauthenticated | Code::PermissionDenied => Exit::NotAllowed,
        Code::Unavailable | Code::DeadlineExceeded => Exit::Unavailable,
        Code::Cancelled => Exit::Interrupted,
        _ => Exit::Failure,
    }
}

/// gRPC's spelling of a code.
fn word(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn the_servers_details_reach_the_json_error() {
        let mut details = ErrorDetails::new();
        details.set_error_info("BAD_RECIPE", "niwaki", []);
        details.add_bad_request_violation("recipe.steps[0].train.epochs", "must be 1 to 10000, got 0");
        let status = Status::with_error_details(Code::InvalidArgument, "the recipe is invalid", details);
        let failure = Failure::from(status);
        assert_eq!(failure.exit, Exit::Invalid);
        assert_eq!(
            failure.to_json(),
            json!({"error": {
                "code": "INVALID_ARGUMENT",
                "reason": "BAD_RECIPE",
                "message": "the recipe is invalid",
                "violations": [{
                    "field": "recipe.steps[0].train.epochs",
                    "description": "must be 1 to 10000, got 0",
                }],
            }})
        );
    }

    #[test]
    fn a_file_beyond_a_limit_is_invalid_input() {
        let error = crate::format::FormatError::TensorCount;
        let failure = Failure::input(Path::new("big.safetensors"), error);
        assert_eq!((failure.exit, failure.code), (Exit::Invalid, "RESOURCE_EXHAUSTED"));
    }

    #[test]
    fn a_server_that_is_away_is_worth_a_retry() {
        assert_eq!(Failure::from(Status::unavailable("no")).exit, Exit::Unavailable);
        assert_eq!(Failure::from(Status::not_found("no")).exit, Exit::NotFound);
        let broken = Status::from_error(Box::new(std::io::Error::from(std::io::ErrorKind::ConnectionReset)));
        assert_eq!(Failure::from(broken).exit, Exit::Unavailable);
        assert_eq!(Failure::from(Status::unknown("Service was not ready: transport error")).exit, Exit::Unavailable);
        assert_eq!(Failure::from(Status::internal("a defect")).exit, Exit::Failure);
    }
}
