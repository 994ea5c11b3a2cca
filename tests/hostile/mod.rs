//! Hostile calls: what they are answered, and that the server and its other callers do not mind. docs/hostile-inputs.md
//! lists them by number; a test there with another name than here is a test that fails.
//!
//! Nothing may be answered with INTERNAL or UNKNOWN: these are for defects of ours. What an attack costs is bounded by
//! counting, never by a clock: `LIMIT` only says that something hangs.

use super::*;

mod calls;
mod frames;
mod inputs;
mod jobs;
mod machine;
mod process;
mod uploads;

use process::Service;

/// The refusal of a call, which must be one that the caller can act on.
fn refusal<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, String) {
    let error = answer.expect_err("a refusal");
    assert!(!matches!(error.code(), Code::Internal | Code::Unknown), "{error:?}");
    let reason = error.get_details_error_info().map(|info| info.reason).unwrap_or_default();
    (error.code(), reason)
}

/// Somebody else's calls are answered as if nothing were.
async fn neighbours_are_served(channel: &Channel) {
    let mut info = ServerServiceClient::new(channel.clone());
    timeout(LIMIT, info.get_server_info(v1::GetServerInfoRequest {})).await.expect("an answer").unwrap();
    let list = v1::ListJobsRequest { parent: PARENT.into(), ..Default::default() };
    timeout(LIMIT, JobServiceClient::new(channel.clone()).list_jobs(list)).await.expect("an answer").unwrap();
}
