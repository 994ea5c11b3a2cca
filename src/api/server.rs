//! The server: services, workers and the reaper over one data folder, from a listener to an orderly end.
//!
//! Whoever starts it owns the socket and says when to stop. To stop, the server says that it no longer serves, ends watch
//! streams and uploads with UNAVAILABLE (both can be taken up again), gives running jobs back, ends watches of its health,
//! and waits for the rest; not longer than `calls.stop_seconds`, because a client may keep a reflection stream open for ever.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use prost_types::FileDescriptorSet;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tonic::transport;
use tonic::transport::server::TcpIncoming;
use tonic_health::ServingStatus;

use super::Context;
use super::artifacts::Artifacts;
use super::auth::authenticate;
use super::datasets::Datasets;
use super::jobs::Jobs;
use super::json::POOL;
use super::limits::MAX_MESSAGE_BYTES;
use super::models::Models;
use super::server_info::ServerInfo;
use super::uploads::Uploads;
use super::v1::artifact_service_server::ArtifactServiceServer;
use super::v1::dataset_service_server::DatasetServiceServer;
use super::v1::job_service_server::JobServiceServer;
use super::v1::model_service_server::ModelServiceServer;
use super::v1::server_service_server::ServerServiceServer;
use super::v1::upload_service_server::UploadServiceServer;
use crate::error::{Classify, Kind};
use crate::jobs::queue::JobQueue;
use crate::jobs::reader::Reader;
use crate::jobs::reaper::reap;
use crate::jobs::supervise::supervise;
use crate::jobs::worker::Worker;
use crate::settings::Settings;
use crate::store::{Store, StoreError};

/// After a stop, so long the database may take to finish what it is at.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);
/// Bytes that may be on their way on one stream: at 30 ms of round trip the usual window of 1 MiB would allow 30 MB/s.
const STREAM_WINDOW: u32 = 8 << 20;
/// Bytes that may be on their way on one connection.
const CONNECTION_WINDOW: u32 = 16 << 20;
/// How often a silent connection is asked whether it is still there, and how long it may take to answer.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));
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
    /// The transport failed.
    #[error("transport: {0}")]
    Transport(#[from] tonic::transport::Error),
}

impl Classify for ServeError {
    fn kind(&self) -> Kind {
        match self {
            ServeError::Store(error) => error.kind(),
            ServeError::Reflection(_) | ServeError::Transport(_) => Kind::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            ServeError::Store(error) => error.reason(),
            ServeError::Reflection(_) | ServeError::Transport(_) => "INTERNAL",
        }
    }
}

/// A server that has its data folder, and may listen.
#[derive(Debug)]
pub struct Server {
    config: ServerConfig,
    store: Store,
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
        let store = Store::open(&config.settings.data).await?;
        Ok(Self { config, store })
    }

    /// Serves the API on `listener` until `shutdown` ends.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()>) -> Result<(), ServeError> {
        let Self { config, store } = self;
        let queue = JobQueue::new(store.database.clone(), config.settings.jobs.clone());
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        // Whatever ends this function, or drops it, stops the tasks.
        let _stop_at_the_end = stop.clone().drop_guard();
        for i in 0..config.settings.jobs.workers {
            let worker = Worker {
                name: format!("{}-{i}", std::process::id()),
                queue: queue.clone(),
                store: store.clone(),
                job_program: config.job_program.clone(),
            };
            let stop = stop.clone();
            tasks.spawn(supervise("worker", stop.clone(), RESTART_AFTER, move || worker.clone().run(stop.clone())));
        }
        let (reaped, reaper_stop) = (queue.clone(), stop.clone());
        tasks
            .spawn(supervise("reaper", stop.clone(), RESTART_AFTER, move || reap(reaped.clone(), reaper_stop.clone())));
        let settings = Arc::new(config.settings);
        let context = Context {
            settings: settings.clone(),
            reader: Reader::new(store.clone(), &config.job_program, settings.reader.clone()),
            store: store.clone(),
            queue,
            stop: stop.clone(),
            tasks: tasks.clone(),
        };

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
        let router = routes.into_axum_router().layer(axum::middleware::from_fn(authenticate));
        let router = transport::Server::builder()
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .http2_keepalive_interval(Some(KEEPALIVE.0))
            .http2_keepalive_timeout(Some(KEEPALIVE.1))
            .max_concurrent_streams(settings.calls.max_streams)
            .add_routes(Routes::from(router));
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let served = router.serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
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

/// What the health service knows: every service, and the server as a whole, for which the empty name stands.
fn health_names() -> impl Iterator<Item = String> {
    std::iter::once(String::new()).chain(POOL.services().map(|service| service.full_name().to_string()))
}
