//! Tasks that must not end: one that panics is told to the log and begins again. The panic itself, with its place, is
//! written by the process's panic hook.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use tokio_util::sync::CancellationToken;

/// Runs a task until it returns. After a panic it begins from the start, `rest` later, unless `shutdown` came meanwhile.
/// Whatever state a panic left is dropped with the future: `begin` makes a new one.
pub async fn supervise<F: Future<Output = ()>>(
    name: &'static str,
    shutdown: CancellationToken,
    rest: Duration,
    begin: impl Fn() -> F,
) {
    while AssertUnwindSafe(begin()).catch_unwind().await.is_err() {
        tracing::error!(task = name, "a task panicked and begins again");
        tokio::select! {
            () = tokio::time::sleep(rest) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_begins_again_and_one_that_returns_has_ended() {
        let begun = AtomicU32::new(0);
        let task = || async { assert!(begun.fetch_add(1, Ordering::Relaxed) >= 2, "it panics twice") };
        supervise("test", CancellationToken::new(), Duration::ZERO, task).await;
        assert_eq!(begun.into_inner(), 3);
    }

    #[tokio::test]
    async fn a_task_that_panics_while_the_server_stops_does_not_begin_again() {
        let shutdown = CancellationToken::new();
        shutdown.cancel();
        supervise("test", shutdown, Duration::MAX, || async { panic!("at the end") }).await;
    }
}
