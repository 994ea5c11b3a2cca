//! Connections as they come in: how many there are, and how long one may be silent.
//!
//! A connection over the limit is closed at once, so that its owner tries again elsewhere instead of waiting in a queue
//! that nobody sees. One that says nothing gives its place back: HTTP/2 connections are asked for a sign of life every
//! [`super::server::KEEPALIVE`], so whoever is there is heard of well within [`SILENCE`], TLS or not.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{Stream, stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::web::metrics::CONNECTIONS_REFUSED;

/// How long a connection may be silent.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// Until it has begun.
    begin: Duration,
    /// After that.
    silence: Duration,
}

/// [`SILENCE`], and less for what has not begun: whoever calls has something to say.
const PATIENCE: Patience = Patience { begin: Duration::from_secs(10), silence: SILENCE };
/// The bytes that every HTTP/2 connection begins with; a connection has begun when so many have come.
const PREFACE: usize = 24;
/// So long nothing may come on a connection.
const SILENCE: Duration = Duration::from_secs(60);
/// So long nothing is accepted after the machine had no file handle left.
const REST: Duration = Duration::from_millis(100);

/// A connection with its place among those that may be open.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    received: usize,
    patience: Patience,
    /// When it is closed unless something comes.
    end: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

/// The connections that come to `listener`, at most `max` of them open at once.
pub(super) fn accept(listener: TcpListener, max: u32) -> impl Stream<Item = io::Result<Connection>> {
    let places = Arc::new(Semaphore::new(max as usize));
    stream::unfold((listener, places), |(listener, places)| async move {
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Either it is about the one connection that is gone, or about handles, which come back.
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(REST).await;
                    continue;
                }
            };
            let Ok(place) = places.clone().try_acquire_owned() else {
                metrics::counter!(CONNECTIONS_REFUSED).increment(1);
                continue;
            };
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "a connection broke as it came");
                continue;
            }
            return Some((Ok(Connection::new(stream, PATIENCE, place)), (listener, places)));
        }
    })
}

impl Connection {
    fn new(stream: TcpStream, patience: Patience, place: OwnedSemaphorePermit) -> Self {
        Self { stream, received: 0, patience, end: Box::pin(sleep(patience.begin)), _place: place }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if read.is_pending() {
            return self.end.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()));
        }
        self.received = self.received.saturating_add(buf.filled().len() - before);
        if self.received >= PREFACE {
            let end = Instant::now() + self.patience.silence;
            self.end.as_mut().reset(end);
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::StreamExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_connection_over_the_limit_is_closed_and_a_place_that_is_free_again_is_given() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut accepted = pin!(accept(listener, 1));
        let _first = TcpStream::connect(address).await.unwrap();
        let held = accepted.next().await.unwrap().unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        let mut byte = [0];
        tokio::select! {
            read = second.read(&mut byte) => assert!(matches!(read, Ok(0) | Err(_))),
            _ = accepted.next() => panic!("there is no place"),
        }
        drop(held);
        let _third = TcpStream::connect(address).await.unwrap();
        accepted.next().await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_connection_that_does_not_begin_or_falls_silent_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (soon, never) = (Duration::from_millis(20), Duration::from_secs(3600));
        for (sent, begin, silence) in [(0, soon, never), (PREFACE - 1, soon, never), (PREFACE, soon * 20, soon)] {
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let place = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
            let stream = listener.accept().await.unwrap().0;
            client.write_all(&vec![0; sent]).await.unwrap();
            let mut server = Connection::new(stream, Patience { begin, silence }, place);
            server.read_exact(&mut vec![0; sent]).await.unwrap();
            assert_eq!(server.read(&mut [0]).await.unwrap_err().kind(), io::ErrorKind::TimedOut, "{sent}");
        }
    }
}
