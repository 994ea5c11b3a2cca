//! The gRPC API: the only module that knows protobuf. One file a service.
//!
//! A handler is four moves: read the names, convert and check, delegate, convert back. [`status`] turns every error into
//! a gRPC status, [`convert`] every message into what it means, [`names`] reads resource names, [`limits`] holds the
//! bounds, [`auth`] who calls with which of the [`keys`]. Every call comes through `connections` and `calls`, where the
//! bounds on what comes in at once are kept.

mod artifacts;
pub mod auth;
mod calls;
mod codec;
mod connections;
pub mod convert;
mod datasets;
mod files;
mod jobs;
pub mod json;
pub mod keys;
pub mod limits;
mod models;
pub mod names;
mod paging;
pub mod recipe;
pub mod secret;
pub mod server;
mod server_info;
pub mod status;
pub mod tls;
mod uploads;
mod validation;

/// The messages, clients and servers generated from `proto/niwaki/v1`.
#[allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::all)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/niwaki.v1.rs"));
}

/// The encoded `google.protobuf.FileDescriptorSet` of the API, for reflection and for the recipe's JSON form.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::jobs::queue::JobQueue;
use crate::jobs::reader::Reader;
use crate::settings::Settings;
use crate::store::Store;

/// What every service is given.
#[derive(Debug, Clone)]
struct Context {
    settings: Arc<Settings>,
    store: Store,
    queue: JobQueue,
    /// Reads what was uploaded, in processes of their own.
    reader: Reader,
    /// Models and data sets that are being read.
    checks: validation::Running,
    /// Cancelled when the server stops: streams end.
    stop: CancellationToken,
    /// Tasks that go on when their caller has gone; the server waits for them.
    tasks: TaskTracker,
}
