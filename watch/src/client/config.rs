//! What a watching client can be told.

use std::sync::Arc;
use std::time::Duration;

use keepwatch_protocol::{http1, websocket};

use super::event::Transport;
use crate::key::Key;

/// The habits, times and limits of watching clients. One is shared by many.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The transports that may be used, what is liked best first. One that is refused is put aside, and the next one is used;
    /// the last one is never put aside. Without any it is short polls. Default: WebSocket, server-sent events, long
    /// polls, short polls.
    pub transports: Vec<Transport>,
    /// For how long a transport that was refused is not tried again. Default: 5 minutes.
    pub aside: Duration,
    /// How often in a row a transport may be cut off before its first event until that counts as a refusal. Default: 3.
    pub strikes: u8,
    /// From the answer to a short poll to the next one. Default: 5 s.
    pub poll_interval: Duration,
    /// How long a long poll asks to be held. The server may hold it for less. Default: 30 s.
    pub wait: Duration,
    /// The items on one page of a list that are asked for, at least 1. Default: 1,000.
    pub page_items: usize,
    /// Fields that are sent with every request, such as `Authorization`. Default: none.
    pub fields: Vec<(String, String)>,
    /// How long the server may take.
    pub timeouts: WatchTimeouts,
    /// How long the client waits before it tries again.
    pub backoff: Backoff,
    /// How much it holds.
    pub limits: ClientLimits,
    /// What the HTTP machine is told. By default it has no time limits but that of a head: those of
    /// [`timeouts`](Self::timeouts) stand in their place.
    pub http: Arc<http1::client::ClientConfig>,
    /// What the WebSocket machine is told. By default a message has at most [`ClientLimits::message_bytes`].
    pub websocket: Arc<websocket::Config>,
}

/// How long the server may take. What passes is given up, and tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchTimeouts {
    /// From [`WatchClient::connecting`](super::WatchClient::connecting) to the connection. Default: 10 s.
    pub connect: Duration,
    /// From a request to the next byte of its answer, and between any two bytes of one that has an end. For a long poll it
    /// begins when the hold that was asked for is over. Default: 20 s.
    pub answer: Duration,
    /// Between two bytes of a stream, or of a WebSocket. Has to be longer than the server's heartbeat (25 s). Default: 60 s.
    pub silence: Duration,
}

/// How long the client waits before it tries again: after the n-th failure in a row a time drawn evenly from zero to
/// `first * 2^(n-1)`, but no more than `most`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The longest wait after the first failure. Default: 500 ms.
    pub first: Duration,
    /// The longest wait that is ever drawn. Default: 30 s.
    pub most: Duration,
    /// The longest wait that a server can ask for, with `Retry-After` or the `retry` of an event. It comes on top of the
    /// one that is drawn, as others are told the same. Default: 5 minutes.
    pub asked: Duration,
    /// How long a stream has to last until its end is a first failure again. Default: 10 s.
    pub lasting: Duration,
}

/// How much a client holds. More than that fails the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// Events that wait in the queue before no more input is taken. It may be passed by what one read, one page or one
    /// long poll's answer brings. Default: 1,024.
    pub queue_events: usize,
    /// Bytes of a line, of a server-sent event, of a WebSocket's message, of a page, or of an answer. JSON can be six times
    /// as long as the value in it. Default: 8 MiB.
    pub message_bytes: usize,
    /// Bytes of a key. Default: 1,024.
    pub key_bytes: usize,
    /// Bytes of a value. Default: 1 MiB.
    pub value_bytes: usize,
}

impl Default for ClientConfig {
    fn default() -> Self {
        let limits = ClientLimits::default();
        let websocket =
            websocket::Config { message_bytes: limits.message_bytes as u64, ..websocket::Config::default() };
        let timeouts = http1::client::ClientTimeouts {
            first_byte: None,
            body_idle: None,
            ..http1::client::ClientTimeouts::default()
        };
        Self {
            transports: vec![
                Transport::WebSocket,
                Transport::ServerSentEvents,
                Transport::LongPoll,
                Transport::ShortPoll,
            ],
            aside: Duration::from_secs(300),
            strikes: 3,
            poll_interval: Duration::from_secs(5),
            wait: Duration::from_secs(30),
            page_items: 1000,
            fields: Vec::new(),
            timeouts: WatchTimeouts::default(),
            backoff: Backoff::default(),
            limits,
            http: Arc::new(http1::client::ClientConfig { timeouts, ..Default::default() }),
            websocket: Arc::new(websocket),
        }
    }
}

impl Default for WatchTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(20),
            silence: Duration::from_secs(60),
        }
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(500),
            most: Duration::from_secs(30),
            asked: Duration::from_secs(300),
            lasting: Duration::from_secs(10),
        }
    }
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self { queue_events: 1024, message_bytes: 8 << 20, key_bytes: Key::DEFAULT_MAX, value_bytes: 1 << 20 }
    }
}
