//! The gRPC API: the only module that knows niwaki's protobuf. One file a service.
//!
//! A handler is four moves: read the names, convert and check, delegate, convert back. [`status`] turns every error into
//! a gRPC status, [`convert`] every message into what it means, [`names`] reads resource names, [`limits`] holds the
//! bounds, [`auth`] who calls with which of the [`keys`]. Every call comes through `connections` and `calls`, where the
//! bounds on what comes in at once are kept.

mod analyze;
mod artifacts;
pub mod auth;
mod calls;
mod codec;
mod connections;
pub mod convert;
mod datasets;
mod files;
mod filter;
mod jobs;
pub mod json;
pub mod keys;
pub mod limits;
mod models;
pub mod names;
mod paging;
mod places;
pub mod recipe;
pub mod secret;
mod sending;
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

/// The `.proto` files of the API, for whoever makes a client of their own.
pub const PROTO: [(&str, &str); 10] = [
    ("niwaki/v1/job.proto", include_str!("../../proto/niwaki/v1/job.proto")),
    ("niwaki/v1/model.proto", include_str!("../../proto/niwaki/v1/model.proto")),
    ("niwaki/v1/dataset.proto", include_str!("../../proto/niwaki/v1/dataset.proto")),
    ("niwaki/v1/upload.proto", include_str!("../../proto/niwaki/v1/upload.proto")),
    ("niwaki/v1/artifact.proto", include_str!("../../proto/niwaki/v1/artifact.proto")),
    ("niwaki/v1/recipe.proto", include_str!("../../proto/niwaki/v1/recipe.proto")),
    ("niwaki/v1/data.proto", include_str!("../../proto/niwaki/v1/data.proto")),
    ("niwaki/v1/train.proto", include_str!("../../proto/niwaki/v1/train.proto")),
    ("niwaki/v1/result.proto", include_str!("../../proto/niwaki/v1/result.proto")),
    ("niwaki/v1/server.proto", include_str!("../../proto/niwaki/v1/server.proto")),
];

use std::sync::Arc;

use tokio::sync::Semaphore;
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
    /// Whose turn it is to complete an upload: each holds megabytes of memory.
    completions: Arc<Semaphore>,
    /// Cancelled when the server stops: streams end.
    stop: CancellationToken,
    /// Tasks that go on when their caller has gone; the server waits for them.
    tasks: TaskTracker,
}
