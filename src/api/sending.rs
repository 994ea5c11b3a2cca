//! Answers on their way out, each sent by a task of its own.
//!
//! The transport asks a body for more only when the client has room for it. Whatever a body watched over, a client that
//! opens no window would keep for ever: its place among the calls, its deadline, a key that was taken away. The task watches
//! instead. When it is time it lets go of everything, and says why as soon as somebody listens.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use futures::StreamExt;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use http_body_util::BodyStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::task::TaskTracker;
use tonic::Status;

use super::keys::Keys;
use super::places::Place;
use super::status::RequestError;
use crate::digest::Digest;

/// How often a stream's key is looked for in the file of keys.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The key that a call was let in with.
#[derive(Debug, Clone)]
pub(super) struct LetIn {
    pub keys: Arc<Keys>,
    pub key: Digest,
}

/// Until when an answer may be sent.
pub(super) struct Terms {
    /// When its caller's patience ends, and how long that was.
    pub deadline: Option<(Instant, Duration)>,
    /// So long the caller may leave no room for more.
    pub idle_seconds: u32,
    pub let_in: Option<LetIn>,
    /// Kept until the answer has been taken or given up.
    pub place: Option<Place>,
}

/// Waits until a key is no longer one; for ever where there is none.
pub(super) async fn taken_away(let_in: Option<LetIn>) {
    let Some(LetIn { keys, key }) = let_in else { return std::future::pending().await };
    while keys.opens(&key).is_some() {
        sleep(LOOK_EVERY).await;
    }
}

/// A body that has what `body` has, sent by one of `tasks`.
pub(super) fn send(tasks: &TaskTracker, body: Body, terms: Terms) -> Body {
    // An answer without a body must end with its headers: gRPC reads a status there only if nothing follows.
    if body.is_end_stream() {
        return body;
    }
    let (frames, receiver) = mpsc::channel(1);
    let (last, trailers) = oneshot::channel();
    tasks.spawn(async move {
        if let Some(error) = pass_on(body, &frames, terms).await {
            let mut trailers = Status::from(error).into_http::<()>().into_parts().0.headers;
            trailers.remove(http::header::CONTENT_TYPE);
            // An error says that nobody waits for it.
            let _ = last.send(trailers);
        }
    });
    Body::new(Sent { frames: receiver, trailers: Some(trailers) })
}

/// Waits for the moment after which a call has taken longer than it is allowed; for ever, if there is none.
pub(super) async fn too_late(deadline: Option<(Instant, Duration)>) -> RequestError {
    match deadline {
        Some((until, allowed)) => {
            sleep_until(until).await;
            RequestError::Deadline { allowed }
        }
        None => std::future::pending().await,
    }
}

/// Passes frames on to the end; an error is what ended that before.
async fn pass_on(
    body: Body,
    frames: &mpsc::Sender<Result<Frame<Bytes>, axum::Error>>,
    terms: Terms,
) -> Option<RequestError> {
    let Terms { deadline, idle_seconds, let_in, place: _place } = terms;
    let passing = async {
        let mut body = BodyStream::new(body);
        loop {
            let next = tokio::select! {
                next = body.next() => next?,
                () = frames.closed() => return None,
            };
            let is_error = next.is_err();
            match timeout(Duration::from_secs(idle_seconds.into()), frames.send(next)).await {
                Ok(Ok(())) if !is_error => {}
                Ok(_) => return None,
                Err(_) => return Some(RequestError::Idle { seconds: idle_seconds }),
            }
        }
    };
    tokio::select! {
        ended = passing => ended,
        error = too_late(deadline) => Some(error),
        () = taken_away(let_in) => Some(RequestError::KeyInvalid),
    }
}

/// What arrives of a body.
struct Sent {
    frames: mpsc::Receiver<Result<Frame<Bytes>, axum::Error>>,
    /// What the task says when it gives up.
    trailers: Option<oneshot::Receiver<HeaderMap>>,
}

impl HttpBody for Sent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Some(frame) = ready!(self.frames.poll_recv(cx)) {
            return Poll::Ready(Some(frame));
        }
        let Some(trailers) = &mut self.trailers else { return Poll::Ready(None) };
        // The task ends before or after it has let go of the frames, so this is waited for.
        let trailers = ready!(Pin::new(trailers).poll(cx)).ok();
        self.trailers = None;
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    fn terms(deadline: Option<Duration>, idle_seconds: u32) -> Terms {
        let deadline = deadline.map(|allowed| (Instant::now() + allowed, allowed));
        Terms { deadline, idle_seconds, let_in: None, place: None }
    }

    fn endless() -> Body {
        Body::from_stream(futures::stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(b"x"))))
    }

    #[tokio::test]
    async fn what_is_sent_arrives() {
        let tasks = TaskTracker::new();
        let body = send(&tasks, Body::from("hello"), terms(None, 60));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "hello");
        assert!(send(&tasks, Body::empty(), terms(None, 60)).is_end_stream());
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_let_go_of_and_told_when_it_listens() {
        for (terms, reason) in
            [(terms(None, 1), "STREAM_IDLE"), (terms(Some(Duration::from_millis(50)), 60), "DEADLINE")]
        {
            let tasks = TaskTracker::new();
            let mut body = send(&tasks, endless(), terms);
            tasks.close();
            tasks.wait().await;
            let mut last = None;
            while let Some(frame) = body.frame().await {
                last = frame.unwrap().into_trailers().ok().or(last);
            }
            let status = Status::from_header_map(&last.unwrap()).unwrap();
            assert_eq!(status.code(), tonic::Code::DeadlineExceeded, "{reason}: {status:?}");
        }
    }

    #[tokio::test]
    async fn a_client_that_goes_ends_the_task() {
        let tasks = TaskTracker::new();
        drop(send(&tasks, endless(), terms(None, 60)));
        tasks.close();
        tasks.wait().await;
    }
}
