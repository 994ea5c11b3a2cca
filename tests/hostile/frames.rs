//! HTTP/2 by hand (RFC 9113), for what no decent client sends: any bytes in any order.
//!
//! ```text
//! frame: length 24 bits | type 8 | flags 8 | stream 32 | payload
//! ```

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RESET: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// A connection of a client that sends what it likes.
pub struct Attacker {
    stream: TcpStream,
    next: u32,
}

/// How the server took it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It ended the connection, in so many words (the error code of GOAWAY) or without.
    Closed(Option<u32>),
    /// Everything was sent and it answers still.
    Answers,
}

impl Attacker {
    /// Connects and says what every client says first.
    pub async fn connect(address: &str) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let mut attacker = Self { stream, next: 1 };
        attacker.send(SETTINGS, 0, 0, &[]).await.unwrap();
        attacker
    }

    pub async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(&frame(kind, flags, stream, payload)).await
    }

    /// The number of a new stream.
    pub fn stream(&mut self) -> u32 {
        self.next += 2;
        self.next - 2
    }

    /// Sends pieces until they are all sent or the server has had enough, and then asks whether it is still there.
    pub async fn flood(mut self, pieces: impl Iterator<Item = Vec<u8>>) -> Taken {
        let (mut reader, mut writer) = self.stream.split();
        let send = async {
            for piece in pieces {
                if writer.write_all(&piece).await.is_err() {
                    return;
                }
            }
            let _ = writer.write_all(&frame(PING, 0, 0, b"are you ")).await;
            // The answer, or the end, is what the other half waits for.
            std::future::pending::<()>().await;
        };
        let watch = async {
            let mut goodbye = None;
            loop {
                let mut head = [0; 9];
                if reader.read_exact(&mut head).await.is_err() {
                    return Taken::Closed(goodbye);
                }
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
                let mut payload = vec![0; length];
                if reader.read_exact(&mut payload).await.is_err() {
                    return Taken::Closed(goodbye);
                }
                match (head[3], head[4]) {
                    (GOAWAY, _) => goodbye = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap())),
                    (PING, 1) if payload == b"are you " => return Taken::Answers,
                    _ => {}
                }
            }
        };
        tokio::select! {
            () = send => Taken::Closed(None),
            taken = timeout(LIMIT, watch) => taken.expect("the server answers or closes the connection"),
        }
    }
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Headers as HPACK literals that enter no table (RFC 7541, 6.2.2).
pub fn literals(headers: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in headers {
        bytes.push(0);
        text(&mut bytes, name.as_bytes());
        text(&mut bytes, value);
    }
    bytes
}

/// A string without Huffman coding: its length in 7 bits and more, and its bytes (RFC 7541, 5).
fn text(bytes: &mut Vec<u8>, text: &[u8]) {
    let mut length = text.len();
    if length < 127 {
        bytes.push(length as u8);
    } else {
        bytes.push(127);
        length -= 127;
        while length >= 128 {
            bytes.push((length % 128 + 128) as u8);
            length /= 128;
        }
        bytes.push(length as u8);
    }
    bytes.extend(text);
}

/// The headers of a call.
pub fn call(path: &str) -> Vec<u8> {
    literals(&[
        (":method", b"POST"),
        (":scheme", b"http"),
        (":path", path.as_bytes()),
        (":authority", b"localhost"),
        ("content-type", b"application/grpc"),
        ("te", b"trailers"),
    ])
}
