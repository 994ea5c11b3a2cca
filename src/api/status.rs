//! Errors to gRPC statuses, in one place.
//!
//! Each status carries `google.rpc.ErrorInfo` with a stable reason in the domain `niwaki`, and `google.rpc.BadRequest` where
//! fields are bad. What went wrong inside is told to the log, not to the client.

use std::collections::HashMap;
use std::time::Duration;

use prost::Message;
use prost_types::Any;
use thiserror::Error;
use tokio::task::JoinError;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt, pb};

use crate::error::{Classify, Kind, Violation, cut, list};
use crate::jobs::JobError;
use crate::jobs::job::Failure;
use crate::store::StoreError;

/// The domain of the reasons.
const DOMAIN: &str = "niwaki";
/// When what is UNAVAILABLE is worth another try.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// What a client hears of a defect of ours.
const INTERNAL: &str = "an internal error; the server's log has the details";

/// What is wrong with a request itself.
#[derive(Debug, Error)]
pub enum RequestError {
    /// Bad fields.
    #[error("{}", list(violations))]
    Invalid {
        /// All of them.
        violations: Vec<Violation>,
    },
    /// It belongs to another tenant: the words of what does not exist.
    #[error("{what} '{id}' does not exist")]
    NotFound {
        /// `upload`, `model`, `dataset` or `job`.
        what: &'static str,
        /// What was asked for.
        id: String,
    },
    /// Nobody has asked who calls: a defect of ours.
    #[error("a request without a caller")]
    NoCaller,
    /// There is no such tenant, or the caller is another.
    #[error("tenant '{tenant}' does not exist")]
    NoSuchTenant {
        /// What was asked for.
        tenant: String,
    },
    /// Bytes that are no message of the API.
    #[error("the request cannot be decoded: {0}")]
    Undecodable(prost::DecodeError),
    /// What came is no message of gRPC at all.
    #[error("the request's body is no gRPC message: five bytes that say its length, and the message")]
    Unframed,
    /// A file that is larger than the server takes.
    #[error("a file of {bytes} bytes is larger than the limit of {limit}")]
    TooLarge {
        /// Its declared size.
        bytes: u64,
        /// The largest that is taken.
        limit: u64,
    },
    /// An upload that must be complete first.
    #[error("{field}: upload '{id}' is not complete")]
    NotComplete {
        /// The field that names it.
        field: String,
        /// The upload.
        id: String,
    },
    /// The task of a request panicked: a defect of ours that ends this request and nothing else.
    #[error("a request's task panicked: {error}")]
    Panicked {
        /// What is known of it.
        error: JoinError,
    },
    /// The server goes.
    #[error("the server is stopping; try again")]
    Stopping,
    /// The server has more to do than it takes.
    #[error("the server has its {limit} {what} at work, or one tenant its share of them; try again")]
    Busy {
        /// `calls`, `transfers` or `watches`.
        what: &'static str,
        /// How many it takes.
        limit: u32,
    },
    /// A call without a key.
    #[error("a key is needed: `authorization: Bearer nwk_...`")]
    KeyMissing,
    /// A key that opens nothing. Which of the three it is, is nobody's business who has no key.
    #[error("the key is unknown, revoked or expired")]
    KeyInvalid,
    /// A key that does not open this.
    #[error("a reader's key does not allow {method}")]
    Role {
        /// The method.
        method: String,
    },
    /// The time that the caller or the server allows a call is over.
    #[error("the call took longer than {allowed:?}, which is all that was allowed")]
    Deadline {
        /// How much was allowed.
        allowed: Duration,
    },
    /// A watch from a revision that there is not.
    #[error("after_revision is {after}, the job has come to {revision}")]
    Revision {
        /// What was asked for.
        after: u64,
        /// The job's.
        revision: u64,
    },
    /// A `grpc-timeout` that is none.
    #[error("grpc-timeout: 1 to 8 digits and one of H, M, S, m, u, n are expected")]
    TimeoutHeader,
    /// Nothing came on a stream.
    #[error("nothing came on the stream for {seconds} s; it may be taken up again")]
    Idle {
        /// For so long.
        seconds: u32,
    },
}

impl RequestError {
    /// One bad field.
    pub fn field(field: &str, description: impl Into<String>) -> Self {
        RequestError::Invalid { violations: vec![Violation::new(field, description)] }
    }
}

impl Classify for RequestError {
    fn kind(&self) -> Kind {
        match self {
            RequestError::Invalid { .. }
            | RequestError::Undecodable(_)
            | RequestError::Unframed
            | RequestError::TimeoutHeader => Kind::InvalidArgument,
            RequestError::NoSuchTenant { .. } | RequestError::NotFound { .. } => Kind::NotFound,
            RequestError::TooLarge { .. } => Kind::ResourceExhausted,
            RequestError::NotComplete { .. } => Kind::FailedPrecondition,
            RequestError::Panicked { .. } | RequestError::NoCaller => Kind::Internal,
            RequestError::Stopping | RequestError::Busy { .. } => Kind::Unavailable,
            RequestError::KeyMissing | RequestError::KeyInvalid => Kind::Unauthenticated,
            RequestError::Role { .. } => Kind::PermissionDenied,
            RequestError::Deadline { .. } | RequestError::Idle { .. } => Kind::DeadlineExceeded,
            RequestError::Revision { .. } => Kind::OutOfRange,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            RequestError::Invalid { .. } => "INVALID_FIELDS",
            RequestError::Undecodable(_) | RequestError::Unframed => "UNDECODABLE",
            RequestError::NoSuchTenant { .. } | RequestError::NotFound { .. } => "NOT_FOUND",
            RequestError::TooLarge { .. } => "TOO_LARGE",
            RequestError::NotComplete { .. } => "UPLOAD_INCOMPLETE",
            RequestError::Panicked { .. } | RequestError::NoCaller => "INTERNAL",
            RequestError::Stopping => "SERVER_STOPPING",
            RequestError::Busy { .. } => "SERVER_BUSY",
            RequestError::KeyMissing => "KEY_MISSING",
            RequestError::KeyInvalid => "KEY_INVALID",
            RequestError::Role { .. } => "ROLE",
            RequestError::Deadline { .. } => "DEADLINE_EXCEEDED",
            RequestError::TimeoutHeader => "TIMEOUT_HEADER",
            RequestError::Revision { .. } => "REVISION",
            RequestError::Idle { .. } => "STREAM_IDLE",
        }
    }

    fn violations(&self) -> Vec<Violation> {
        match self {
            RequestError::Invalid { violations } => violations.clone(),
            _ => Vec::new(),
        }
    }
}

/// The gRPC code of a kind of failure.
pub fn code(kind: Kind) -> Code {
    match kind {
        Kind::InvalidArgument => Code::InvalidArgument,
        Kind::NotFound => Code::NotFound,
        Kind::AlreadyExists => Code::AlreadyExists,
        Kind::FailedPrecondition => Code::FailedPrecondition,
        Kind::Aborted => Code::Aborted,
        Kind::OutOfRange => Code::OutOfRange,
        Kind::ResourceExhausted => Code::ResourceExhausted,
        Kind::Unavailable => Code::Unavailable,
        Kind::DataLoss => Code::DataLoss,
        Kind::Cancelled => Code::Cancelled,
        Kind::DeadlineExceeded => Code::DeadlineExceeded,
        Kind::Unauthenticated => Code::Unauthenticated,
        Kind::PermissionDenied => Code::PermissionDenied,
        Kind::Internal => Code::Internal,
    }
}

/// The longest value of an error's metadata, in bytes.
const MAX_METADATA: usize = 300;

/// The status of an error.
pub fn status(error: &impl Classify) -> Status {
    if error.kind() == Kind::Internal {
        tracing::error!(%error, "a request failed");
    }
    let metadata = error.metadata().into_iter().map(|(key, value)| (key.to_string(), cut(value, MAX_METADATA)));
    with_details(&Failure::of(error), metadata.collect())
}

/// The status of a failure, of which whoever made it has told the log: what a call hears whose files were refused.
pub fn refused(failure: &Failure) -> Status {
    with_details(failure, HashMap::new())
}

fn with_details(failure: &Failure, metadata: HashMap<String, String>) -> Status {
    if failure.kind == Kind::Internal {
        let details = ErrorDetails::with_error_info("INTERNAL", DOMAIN, HashMap::new());
        return Status::with_error_details(Code::Internal, INTERNAL, details);
    }
    let mut details = ErrorDetails::with_error_info(&failure.reason, DOMAIN, metadata);
    for Violation { field, description } in &failure.violations {
        details.add_bad_request_violation(field, description);
    }
    if failure.kind == Kind::Unavailable {
        details.set_retry_info(Some(RETRY_AFTER));
    }
    Status::with_error_details(code(failure.kind), &failure.message, details)
}

/// A job's failure as `Job.error`.
pub fn failure(failure: &Failure) -> pb::Status {
    let info = pb::ErrorInfo { reason: failure.reason.clone(), domain: DOMAIN.into(), metadata: HashMap::new() };
    let mut details = vec![any("google.rpc.ErrorInfo", &info)];
    if !failure.violations.is_empty() {
        let field_violations = failure
            .violations
            .iter()
            .map(|Violation { field, description }| pb::bad_request::FieldViolation {
                field: field.clone(),
                description: description.clone(),
                ..Default::default()
            })
            .collect();
        details.push(any("google.rpc.BadRequest", &pb::BadRequest { field_violations }));
    }
    pb::Status { code: code(failure.kind) as i32, message: failure.message.clone(), details }
}

fn any(name: &str, message: &impl Message) -> Any {
    Any { type_url: format!("type.googleapis.com/{name}"), value: message.encode_to_vec() }
}

impl From<RequestError> for Status {
    fn from(error: RequestError) -> Self {
        status(&error)
    }
}

impl From<StoreError> for Status {
    fn from(error: StoreError) -> Self {
        status(&error)
    }
}

impl From<JobError> for Status {
    fn from(error: JobError) -> Self {
        status(&error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_tried_again_says_when_whoever_found_it_out() {
        let kept = Failure::new(Kind::Unavailable, "READER_LOST", "the process was ended");
        for status in [Status::from(RequestError::Stopping), refused(&kept)] {
            assert_eq!(status.get_details_retry_info().and_then(|info| info.retry_delay), Some(RETRY_AFTER));
        }
        let final_one = Failure::new(Kind::InvalidArgument, "TRUNCATED", "it ends early");
        assert!(refused(&final_one).get_details_retry_info().is_none());
    }

    #[test]
    fn bad_fields_are_named_in_the_message_and_in_the_details() {
        let status = Status::from(RequestError::Invalid {
            violations: vec![Violation::new("a", "is 0"), Violation::new("b[1]", "is empty")],
        });
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "a: is 0; b[1]: is empty"));
        let fields = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!(fields.iter().map(|v| v.field.as_str()).collect::<Vec<_>>(), ["a", "b[1]"]);
        assert_eq!(status.get_details_error_info().unwrap().domain, "niwaki");
    }

    #[test]
    fn a_defect_of_ours_says_nothing_of_our_inside() {
        let status = Status::from(StoreError::Row { what: "secret column".into() });
        assert_eq!(status.code(), Code::Internal);
        assert!(!format!("{status:?}").contains("secret"));
    }
}
