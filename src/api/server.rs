//! The server: services, workers and the reaper over one data folder, from a listener to an orderly end.
//!
//! Whoever starts it owns the socket and says when to stop. To stop, the server says that it no longer serves, ends watch
//! streams and uploads with UNAVAILABLE (both can be taken up again), gives running jobs back, ends watches of its health,
//! and waits for the rest; not longer than `calls.stop_seconds`, because a client may keep a reflection stream open for ever.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::middleware::from_fn_with_state;
use axum::response::IntoResponse;
use prost_types::FileDescriptorSet;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;
use tonic::service::Routes;
use tonic::transport;
use tonic_health::ServingStatus;

use super::Context;
use super::artifacts::Artifacts;
use super::auth::{authenticate, is_grpc};
use super::calls::{Bounds, bound, record};
use super::connections::accept;
use super::datasets::Datasets;
use super::jobs::Jobs;
use super::json::POOL;
use super::keys::{Keys, KeysError};
use super::limits::MAX_MESSAGE_BYTES;
use super::models::Models;
use super::server_info::ServerInfo;
use super::tls::{self, TlsError};
use super::uploads::Uploads;
use super::v1::artifact_service_server::ArtifactServiceServer;
use super::v1::dataset_service_server::DatasetServiceServer;
use super::v1::job_service_server::JobServiceServer;
use super::v1::model_service_server::ModelServiceServer;
use super::v1::server_service_server::ServerServiceServer;
use super::v1::upload_service_server::UploadServiceServer;
use super::validation::Running;
use crate::error::{Classify, Kind};
use crate::jobs::collector::collect;
use crate::jobs::queue::JobQueue;
use crate::jobs::reader::Reader;
use crate::jobs::reaper::reap;
use crate::jobs::supervise::supervise;
use crate::jobs::worker::Worker;
use crate::settings::Settings;
use crate::store::{Store, StoreError, now_ms};
use crate::web::{self, Probes, metrics};

/// After a stop, so long the database may take to finish what it is at.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);
/// Uploads that are completed at once; each holds a part of 8 MiB and waits for the disk.
const MAX_COMPLETIONS: usize = 16;
/// Bytes that may be on their way on one stream: at 30 ms of round trip the usual window of 1 MiB would allow 30 MB/s.
const STREAM_WINDOW: u32 = 8 << 20;
/// Bytes that may be on their way on one connection.
const CONNECTION_WINDOW: u32 = 16 << 20;
/// How often a silent connection is asked whether it is still there, and how long it may take to answer.
pub(super) const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));
/// The longest list of headers, in bytes.
const MAX_HEADERS: u32 = 16 << 10;
/// Streams that a client has reset before they were looked at; one that resets more is sent away. A client that gives up
/// all calls of a full connection at once is no attack.
const MAX_PENDING_RESETS: usize = 256;
/// Streams of one connection that we reset because of a client's mistakes, before it is sent away.
const MAX_ERROR_RESETS: usize = 256;
/// How often old values are dropped from the figures.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);
/// How long a task that panicked rests before it begins again.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// How a server is set up.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Everything that can be set.
    pub settings: Settings,
    /// The program that is started for each job, as `PROGRAM job-child FOLDER`.
    pub job_program: PathBuf,
}

/// Why a server could not start or go on.
#[derive(Debug, Error)]
pub enum ServeError {
    /// Its data folder cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The API's descriptors do not register.
    #[error("reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// It would not be safe as it is set up.
    #[error(transparent)]
    Unsafe(#[from] Unsafe),
    /// The transport failed.
    #[error("transport: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// Why a server does not start as it is set up. Each of these would let somebody in, or look as if it did not.
#[derive(Debug, Error)]
pub enum Unsafe {
    /// Everybody could use it.
    #[error(
        "listen {listen}: other machines could reach this address and nobody would be asked for a key; \
         set auth.keys, or auth.allow_remote where everybody who reaches the server may use it"
    )]
    Open {
        /// The address.
        listen: SocketAddr,
    },
    /// The keys cannot be used.
    #[error("auth.keys: {0}")]
    Keys(#[from] KeysError),
    /// Connections cannot be encrypted.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The certificate or its key is none.
    #[error("tls.certificate, tls.key or tls.client_ca is not what it should be: {0}")]
    Pem(tonic::transport::Error),
}

impl Classify for ServeError {
    fn kind(&self) -> Kind {
        match self {
            ServeError::Store(error) => error.kind(),
            ServeError::Unsafe(_) => Kind::FailedPrecondition,
            ServeError::Reflection(_) | ServeError::Transport(_) => Kind::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            ServeError::Store(error) => error.reason(),
            ServeError::Unsafe(_) => "UNSAFE_SETTINGS",
            ServeError::Reflection(_) | ServeError::Transport(_) => "INTERNAL",
        }
    }
}

/// A server that has its data folder, and may listen.
#[derive(Debug)]
pub struct Server {
    config: ServerConfig,
    store: Store,
    keys: Option<Arc<Keys>>,
    transport: transport::Server,
}

/// Opens the data folder and serves the API on `listener` until `shutdown` ends.
pub async fn serve(
    listener: TcpListener,
    config: ServerConfig,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    Server::open(config).await?.serve(listener, shutdown).await
}

impl Server {
    /// Opens the data folder. Once this has gone well, an address may be announced.
    pub async fn open(config: ServerConfig) -> Result<Self, ServeError> {
        let (keys, transport) = secured(&config.settings)?;
        let store = Store::open(&config.settings.data).await?.limited(config.settings.uploads.clone());
        Ok(Self { config, store, keys, transport })
    }

    /// Serves the API on `listener` until `shutdown` ends.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()>) -> Result<(), ServeError> {
        let Self { config, store, keys, mut transport } = self;
        metrics::install();
        let queue = JobQueue::new(store.database.clone(), config.settings.jobs.clone());
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        // Whatever ends this function, or drops it, stops the tasks.
        let _stop_at_the_end = stop.clone().drop_guard();
        // The database is this server's alone: whoever had a job is gone.
        match queue.take_back_all(now_ms()).await {
            Ok(lost) => lost.iter().for_each(|job| tracing::warn!(job = job.key.id, state = %job.state, "taken back")),
            Err(error) => tracing::error!(%error, "jobs could not be taken back: their leases will run out"),
        }
        let reader = Reader::new(store.clone(), &config.job_program, config.settings.reader.clone());
        for i in 0..config.settings.jobs.workers {
            let worker = Worker {
                name: format!("{}-{i}", std::process::id()),
                queue: queue.clone(),
                store: store.clone(),
                reader: reader.clone(),
                settings: config.settings.jobs.clone(),
                job_program: config.job_program.clone(),
            };
            let stop = stop.clone();
            tasks.spawn(supervise("worker", stop.clone(), RESTART_AFTER, move || worker.clone().run(stop.clone())));
        }
        let (reaped, reaper_stop) = (queue.clone(), stop.clone());
        tasks
            .spawn(supervise("reaper", stop.clone(), RESTART_AFTER, move || reap(reaped.clone(), reaper_stop.clone())));
        let collector = (store.clone(), queue.clone(), config.settings.retention.clone(), stop.clone());
        tasks.spawn(supervise("collector", stop.clone(), RESTART_AFTER, move || {
            let (store, queue, retention, stop) = collector.clone();
            collect(store, queue, retention, stop)
        }));
        let figures_stop = stop.clone();
        tasks.spawn(async move {
            while timeout(UPKEEP_EVERY, figures_stop.cancelled()).await.is_err() {
                metrics::upkeep();
            }
        });
        let settings = Arc::new(config.settings);
        let context = Context {
            settings: settings.clone(),
            reader,
            checks: Running::new(settings.reader.processes),
            completions: Arc::new(Semaphore::new(MAX_COMPLETIONS)),
            store: store.clone(),
            queue,
            stop: stop.clone(),
            tasks: tasks.clone(),
        };
        context.take_up().await?;
        tasks.spawn(context.clone().take_up_again());

        let (health, health_service) = tonic_health::server::health_reporter();
        let serving = |status: ServingStatus| {
            let health = health.clone();
            async move {
                for name in health_names() {
                    health.set_service_status(name, status).await;
                }
            }
        };
        serving(ServingStatus::Serving).await;
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_file_descriptor_set(FileDescriptorSet {
                    file: POOL.file_descriptor_protos().cloned().collect(),
                })
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let limit = MAX_MESSAGE_BYTES;
        let routes = Routes::new(health_service)
            .add_service(reflection().build_v1()?)
            .add_service(reflection().build_v1alpha()?)
            .add_service(UploadServiceServer::new(Uploads(context.clone())).max_decoding_message_size(limit))
            .add_service(ModelServiceServer::new(Models(context.clone())).max_decoding_message_size(limit))
            .add_service(DatasetServiceServer::new(Datasets(context.clone())).max_decoding_message_size(limit))
            .add_service(JobServiceServer::new(Jobs(context.clone())).max_decoding_message_size(limit))
            .add_service(ArtifactServiceServer::new(Artifacts(context.clone())).max_decoding_message_size(limit))
            .add_service(ServerServiceServer::new(ServerInfo(context)).max_decoding_message_size(limit));
        let bounds = Bounds::new(&settings.calls, stop.clone());
        // The layer that is added last comes first.
        let router = routes
            .into_axum_router()
            .merge(web::router(Probes::new(store.clone(), stop.clone())))
            .fallback(unknown)
            .layer(from_fn_with_state(bounds.clone(), bound))
            .layer(from_fn_with_state(keys, authenticate))
            .layer(from_fn_with_state(bounds, record));
        let incoming = accept(listener, settings.calls.max_connections);
        let served = transport
            .add_routes(Routes::from(router))
            .serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
        tokio::pin!(served);
        tokio::select! {
            ended = &mut served => return Ok(ended?),
            () = shutdown => {}
        }

        tracing::info!("stopping");
        serving(ServingStatus::NotServing).await;
        stop.cancel();
        tasks.close();
        let rest = async {
            let tasks_and_watches = async {
                tasks.wait().await;
                // Whoever watches the health was told above that it has ended; without a status the watch ends.
                let mut health = health.clone();
                for name in health_names() {
                    health.clear_service_status(&name).await;
                }
            };
            tokio::join!(served, tasks_and_watches).0
        };
        let stop_limit = Duration::from_secs(settings.calls.stop_seconds.into());
        let ended = timeout(stop_limit, rest).await.unwrap_or_else(|_| {
            tracing::warn!("stopped with streams open");
            Ok(())
        });
        // What is still open now cannot change anything any more.
        if timeout(CLOSE_LIMIT, store.close()).await.is_err() {
            tracing::warn!("stopped with the database in use");
        }
        Ok(ended?)
    }
}

/// Checks that the server lets in only whom it should, and sets up the transport. Every limit that the transport leaves open
/// by itself is set here.
fn secured(settings: &Settings) -> Result<(Option<Arc<Keys>>, transport::Server), Unsafe> {
    let Settings { listen, auth, calls, .. } = settings;
    if !listen.ip().is_loopback() && auth.keys.is_none() && !auth.allow_remote {
        return Err(Unsafe::Open { listen: *listen });
    }
    let keys = auth.keys.as_deref().map(Keys::open).transpose()?.map(Arc::new);
    let mut transport = transport::Server::builder()
        // HTTP/1.1 is for probes and /metrics; gRPC comes by HTTP/2 only.
        .accept_http1(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .http2_max_header_list_size(MAX_HEADERS)
        .http2_max_pending_accept_reset_streams(Some(MAX_PENDING_RESETS))
        .http2_max_local_error_reset_streams(Some(MAX_ERROR_RESETS))
        .max_concurrent_streams(calls.max_streams)
        // At this age a connection is asked to go, and ends with its last stream. tonic's grace would cut uploads instead.
        .max_connection_age(Duration::from_secs(calls.connection_seconds.into()));
    if let Some(tls) = tls::server(&settings.tls)? {
        transport = transport.tls_config(tls).map_err(Unsafe::Pem)?;
    }
    Ok((keys, transport))
}

/// What is neither a method nor a page.
async fn unknown(request: axum::extract::Request) -> axum::response::Response {
    if is_grpc(request.headers()) {
        return Status::unimplemented("there is no such method").into_http();
    }
    (http::StatusCode::NOT_FOUND, "there is no such page\n").into_response()
}

/// What the health service knows: every service, and the server as a whole, for which the empty name stands.
fn health_names() -> impl Iterator<Item = String> {
    std::iter::once(String::new()).chain(POOL.services().map(|service| service.full_name().to_string()))
}
