//! How a server is set up: every knob, its unit and its default, in one place.
//!
//! These are plain values. Where they come from (a file, the environment, flags) is the command line's business, which
//! also says which of them won (`niwaki config show --origin`). A file has the same names:
//!
//! ```
//! let settings: niwaki::settings::Settings = serde_json::from_str(r#"{"listen": "127.0.0.1:7700"}"#).unwrap();
//! assert_eq!(settings.jobs.max_losses, 3);
//! ```

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::Violation;

/// Processes, or threads of one, that a server may have of a kind.
const MAX_PROCESSES: u32 = 256;

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Address and port for gRPC and for HTTP.
    pub listen: SocketAddr,
    /// The folder for everything the server keeps.
    pub data: PathBuf,
    /// Who may call.
    pub auth: Auth,
    /// Whether connections are encrypted.
    pub tls: Tls,
    /// Uploads and what is kept of them.
    pub uploads: Uploads,
    /// The process that reads what was uploaded.
    pub reader: Reader,
    /// Jobs and the processes that run them.
    pub jobs: Jobs,
    /// How long things are kept.
    pub retention: Retention,
    /// Bounds on calls and connections.
    pub calls: Calls,
}

/// Who may call.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// The file of API keys, each stored as its digest, and closed to everybody but its owner and group. Without it nobody is asked, and everybody is `tenants/default`.
    pub keys: Option<PathBuf>,
    /// Allows an address that other machines can reach although nobody is asked for a key.
    pub allow_remote: bool,
}

/// Whether connections are encrypted: with a certificate they are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// The server's certificate chain, PEM.
    pub certificate: Option<PathBuf>,
    /// Its private key, PEM; the file must be closed to everybody but its owner and group.
    pub key: Option<PathBuf>,
    /// Certificates, PEM, of which one must have signed a client's: without it clients need none.
    pub client_ca: Option<PathBuf>,
}

/// Uploads and what is kept of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Uploads {
    /// An open upload that nothing was written to for so long is removed.
    pub expire_hours: u32,
    /// The largest file, in bytes.
    pub max_bytes: u64,
    /// Open uploads of one tenant.
    pub max_open: u32,
    /// Uploads of one tenant, open and complete.
    pub max_files: u32,
    /// Bytes of one tenant, declared by open uploads and stored in complete ones.
    pub max_tenant_bytes: u64,
    /// Models of one tenant.
    pub max_models: u32,
    /// Data sets of one tenant.
    pub max_datasets: u32,
}

/// The process that reads what was uploaded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reader {
    /// Memory that it may have, in bytes.
    pub memory_bytes: u64,
    /// Time that it may take, in seconds.
    pub seconds: u32,
    /// Processes at once.
    pub processes: u32,
}

/// Jobs and the processes that run them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Jobs {
    /// Jobs that run at once; 0: this server only takes them in.
    pub workers: u32,
    /// How long a worker may be silent before its job is given to another, in seconds.
    pub lease_seconds: u32,
    /// How much work a lost process costs at most, in seconds: a training is saved so often.
    pub checkpoint_seconds: u32,
    /// So often a job may lose its process without having got as far as another checkpoint; then it has failed.
    pub max_losses: u32,
    /// Memory that a job's process may have, in bytes.
    pub memory_bytes: u64,
    /// Threads that a job computes with; 0: the workers share the processors. Another number may change the last bits of
    /// what a job ends with.
    pub threads: u32,
    /// How long a job may run, in seconds, where it sets no limit itself; also the most it may set.
    pub max_seconds: u32,
    /// Jobs of one tenant that wait or run.
    pub max_queued: u32,
    /// Jobs of one tenant that run.
    pub max_running: u32,
}

/// How long things are kept. 0: for ever.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Jobs that have ended, with their artifacts.
    pub job_days: u32,
    /// Complete uploads that no model and no data set is made of.
    pub upload_days: u32,
    /// Models and data sets that were rejected.
    pub rejected_days: u32,
    /// Bytes that nobody names any more are removed after so long, in seconds.
    pub garbage_seconds: u32,
}

/// Bounds on calls and connections.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Calls {
    /// Calls that are worked on at once, and so many transfers of files beside them; more are refused with UNAVAILABLE and
    /// the time to try again. One tenant can have three quarters of them.
    pub max_in_flight: u32,
    /// Streams on one connection.
    pub max_streams: u32,
    /// Connections at once.
    pub max_connections: u32,
    /// Watches at once; one tenant can have three quarters of them.
    pub max_watches: u32,
    /// A call that answers once ends after so long, in seconds, or when its caller's deadline comes.
    pub seconds: u32,
    /// A stream of an upload on which nothing comes for so long is ended, in seconds.
    pub idle_seconds: u32,
    /// A connection is asked to go after so long, in seconds, so that clients spread over new servers.
    pub connection_seconds: u32,
    /// A server that stops has stopped after so long, in seconds.
    pub stop_seconds: u32,
}

impl Settings {
    /// What could not work, by the names of settings.
    pub fn violations(&self) -> Vec<Violation> {
        let Self { uploads, reader, jobs, calls, .. } = self;
        let at_least_1 = [
            ("uploads.expire_hours", u64::from(uploads.expire_hours)),
            ("uploads.max_bytes", uploads.max_bytes),
            ("uploads.max_open", uploads.max_open.into()),
            ("uploads.max_files", uploads.max_files.into()),
            ("uploads.max_tenant_bytes", uploads.max_tenant_bytes),
            ("uploads.max_models", uploads.max_models.into()),
            ("uploads.max_datasets", uploads.max_datasets.into()),
            ("reader.memory_bytes", reader.memory_bytes),
            ("reader.seconds", reader.seconds.into()),
            ("reader.processes", reader.processes.into()),
            ("jobs.lease_seconds", jobs.lease_seconds.into()),
            ("jobs.checkpoint_seconds", jobs.checkpoint_seconds.into()),
            ("jobs.max_losses", jobs.max_losses.into()),
            ("jobs.memory_bytes", jobs.memory_bytes),
            ("jobs.max_seconds", jobs.max_seconds.into()),
            ("jobs.max_queued", jobs.max_queued.into()),
            ("jobs.max_running", jobs.max_running.into()),
            ("calls.max_in_flight", calls.max_in_flight.into()),
            ("calls.max_streams", calls.max_streams.into()),
            ("calls.max_connections", calls.max_connections.into()),
            ("calls.max_watches", calls.max_watches.into()),
            ("calls.seconds", calls.seconds.into()),
            ("calls.idle_seconds", calls.idle_seconds.into()),
            ("calls.connection_seconds", calls.connection_seconds.into()),
            ("calls.stop_seconds", calls.stop_seconds.into()),
        ];
        let zeros = at_least_1.iter().filter(|(_, value)| *value == 0);
        let mut found: Vec<Violation> =
            zeros.map(|(name, _)| Violation::new(*name, "is 0, it must be at least 1")).collect();
        // What a machine has no use for is a typing error, and would cost its memory.
        let processes =
            [("jobs.workers", jobs.workers), ("jobs.threads", jobs.threads), ("reader.processes", reader.processes)];
        let many = processes.iter().filter(|(_, value)| *value > MAX_PROCESSES);
        found.extend(
            many.map(|(name, value)| Violation::new(*name, format!("is {value}, it must be at most {MAX_PROCESSES}"))),
        );
        found
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7700)),
            data: "niwaki-data".into(),
            auth: Auth::default(),
            tls: Tls::default(),
            uploads: Uploads::default(),
            reader: Reader::default(),
            jobs: Jobs::default(),
            retention: Retention::default(),
            calls: Calls::default(),
        }
    }
}

impl Default for Uploads {
    fn default() -> Self {
        Self {
            expire_hours: 24,
            max_bytes: 4 << 30,
            max_open: 20_000,
            max_files: 200_000,
            max_tenant_bytes: 1 << 40,
            max_models: 10_000,
            max_datasets: 1000,
        }
    }
}

impl Default for Reader {
    fn default() -> Self {
        Self { memory_bytes: 8 << 30, seconds: 300, processes: 2 }
    }
}

impl Default for Jobs {
    fn default() -> Self {
        Self {
            workers: 1,
            lease_seconds: 15,
            checkpoint_seconds: 10,
            max_losses: 3,
            memory_bytes: 16 << 30,
            threads: 0,
            max_seconds: 7 * 24 * 3600,
            max_queued: 10_000,
            max_running: 64,
        }
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self { job_days: 0, upload_days: 7, rejected_days: 1, garbage_seconds: 3600 }
    }
}

impl Default for Calls {
    fn default() -> Self {
        Self {
            max_in_flight: 256,
            max_streams: 256,
            max_connections: 1024,
            max_watches: 4096,
            seconds: 600,
            idle_seconds: 60,
            connection_seconds: 3600,
            stop_seconds: 9,
        }
    }
}
