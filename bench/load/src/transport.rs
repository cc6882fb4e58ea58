//! What subscribers say to become one.

use std::fmt;

/// How changes come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Transport {
    /// A WebSocket whose URL names the watch.
    Websocket,
    /// Server-sent events.
    Sse,
    /// A stream of lines, each a chunk.
    Chunked,
    /// Requests that are held until something changes.
    Poll,
}

/// The key of every handshake: that of RFC 6455 section 1.3.
const WEBSOCKET_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// What it has to be answered with, by the same section.
pub const WEBSOCKET_ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

impl Transport {
    /// The request of a stream or WebSocket, or the first of a poller, which knows the state up to `since`, if that is given.
    pub fn request(self, authority: &str, key: &str, since: Option<u64>, fields: &str) -> Vec<u8> {
        let mut request = format!("GET /v1/watch?key={key}");
        if let (Self::Poll, Some(since)) = (self, since) {
            request.push_str(&format!("&since={since}"));
        }
        request.push_str(match self {
            Self::Poll => "&wait=60s",
            _ => "",
        });
        request.push_str(&format!(" HTTP/1.1\r\nHost: {authority}\r\n{fields}"));
        match self {
            Self::Websocket => request.push_str(&format!(
                "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {WEBSOCKET_KEY}\r\n"
            )),
            Self::Sse => request.push_str("Accept: text/event-stream\r\n"),
            Self::Chunked => request.push_str("Accept: application/x-ndjson\r\n"),
            Self::Poll => {}
        }
        request.push_str("\r\n");
        request.into_bytes()
    }

    /// The same, told from a request's head.
    pub fn of(head: &[u8]) -> Self {
        let has = |name: &[u8]| memchr::memmem::find(head, name).is_some();
        if has(b"Upgrade: websocket") {
            Self::Websocket
        } else if has(b"text/event-stream") {
            Self::Sse
        } else if has(b"x-ndjson") {
            Self::Chunked
        } else {
            Self::Poll
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Websocket => "websocket",
            Self::Sse => "sse",
            Self::Chunked => "chunked",
            Self::Poll => "poll",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_is_known_again() {
        for transport in [Transport::Websocket, Transport::Sse, Transport::Chunked, Transport::Poll] {
            assert_eq!(Transport::of(&transport.request("127.0.0.1", "k", Some(1), "")), transport);
        }
    }
}
