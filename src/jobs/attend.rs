//! Follows a job's process from its start to its end: hears what it says, and tells it when it is to stop.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::account::Steps;
use super::job::{Directive, Failure, Outcome};
use super::protocol::Line;
use super::runner::Process;
use crate::recipe::run::Progress;

/// How long a process may take to stop when it is asked to.
pub(super) const STOP_GRACE: Duration = Duration::from_secs(2);
/// How long a process may take to save its work and stop.
const LEAVE_GRACE: Duration = Duration::from_secs(5);

/// How the process of a job ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum End {
    Done,
    Failed(Failure),
    Died(Failure),
    Cancelled,
    TimedOut,
    Released,
    Lost,
}

/// How a process came to its end.
pub(super) enum Ended {
    /// It was asked to stop, or killed, by us.
    Stopped(End),
    /// By itself, with this last line.
    Alone(Option<Line>, io::Result<ExitStatus>),
}

/// Follows a process to its end.
pub(super) async fn attend(
    process: &mut Process,
    progress: &watch::Sender<Option<Progress>>,
    announce: watch::Sender<()>,
    directive: &mut watch::Receiver<Directive>,
    shutdown: &CancellationToken,
) -> Ended {
    let mut last: Option<Line> = None;
    let mut steps = Steps::default();
    let mut stopping: Option<(End, Instant)> = None;
    loop {
        let deadline = stopping.as_ref().map_or_else(Instant::now, |(_, deadline)| *deadline);
        tokio::select! {
            line = process.next() => match line {
                Some(Ok(Line::Progress(now))) => {
                    steps.at(&now);
                    progress.send_replace(Some(now));
                }
                Some(Ok(Line::Checkpoint)) => { announce.send_replace(()); }
                Some(Ok(line)) => last = Some(line),
                // Who was asked to stop may be killed in the middle of a line.
                Some(Err(_)) if stopping.is_some() => break,
                Some(Err(problem)) => {
                    process.kill();
                    let failure = Failure::crashed(format!("the job's process wrote {problem}"));
                    stopping = Some((End::Died(failure), Instant::now()));
                }
                None => break,
            },
            told = directive.changed(), if stopping.is_none() => {
                // Without a heart there is no lease to keep.
                let directive = if told.is_err() { Directive::Lost } else { *directive.borrow() };
                match directive {
                    Directive::Continue => {}
                    Directive::Cancel => {
                        process.cancel().await;
                        stopping = Some((End::Cancelled, Instant::now() + STOP_GRACE));
                    }
                    Directive::TimeOut => {
                        process.cancel().await;
                        stopping = Some((End::TimedOut, Instant::now() + STOP_GRACE));
                    }
                    Directive::Lost => {
                        process.kill();
                        stopping = Some((End::Lost, Instant::now()));
                    }
                }
            }
            () = shutdown.cancelled(), if stopping.is_none() => {
                process.leave().await;
                stopping = Some((End::Released, Instant::now() + LEAVE_GRACE));
            }
            () = sleep_until(deadline), if stopping.is_some() => {
                process.kill();
                break;
            }
        }
    }
    // Its output has ended; a process that goes on all the same is ended too.
    let status = match timeout(STOP_GRACE, process.wait()).await {
        Ok(status) => status,
        Err(_) => {
            process.kill();
            process.wait().await
        }
    };
    match stopping {
        // It was faster than the request to leave.
        Some((End::Released, _)) if last == Some(Line::Done) => Ended::Alone(last, status),
        Some((end, _)) => Ended::Stopped(end),
        None => Ended::Alone(last, status),
    }
}

/// Waits until there is no use in going on, and says how the job ends that has no process yet; `None`: it is not ours.
pub(super) async fn called_off(
    directive: &mut watch::Receiver<Directive>,
    shutdown: &CancellationToken,
) -> Option<Outcome> {
    loop {
        tokio::select! {
            told = directive.changed() => match told.map(|()| *directive.borrow_and_update()) {
                Ok(Directive::Continue) => {}
                Ok(Directive::Cancel) => return Some(Outcome::Cancelled(Vec::new())),
                Ok(Directive::TimeOut) => return Some(Outcome::TimedOut(Vec::new())),
                Ok(Directive::Lost) | Err(_) => return None,
            },
            () = shutdown.cancelled() => return Some(Outcome::Released),
        }
    }
}
