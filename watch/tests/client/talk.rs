//! A client that talks to a server that the test plays.

use std::sync::Arc;
use std::time::Duration;

use keepwatch_protocol::websocket::handshake::accept_key;
use keepwatch_protocol::websocket::{FrameHead, Opcode};
use keepwatch_protocol::{Input, Instant, Now};
use keepwatch_watch::Filter;
use keepwatch_watch::client::{ClientConfig, Next, Start, WatchClient};

use crate::support::{prefix, revision, short, target};

pub(crate) struct Talk {
    pub(crate) client: WatchClient,
    pub(crate) now: Now,
    unread: Vec<u8>,
}

impl Talk {
    /// A watch of everything since revision 10.
    pub(crate) fn new(config: ClientConfig) -> Self {
        Self::since(prefix(""), config)
    }

    pub(crate) fn since(filter: Filter, config: ClientConfig) -> Self {
        Self::start(filter, Start::After(revision(10)), config)
    }

    pub(crate) fn listing(filter: Filter, config: ClientConfig) -> Self {
        Self::start(filter, Start::List, config)
    }

    fn start(filter: Filter, start: Start, config: ClientConfig) -> Self {
        let client = WatchClient::new(target(filter, start), Arc::new(config), 7).unwrap();
        Self { client, now: Now::default(), unread: Vec::new() }
    }

    /// A connection is wanted, and made. Returns the request.
    #[track_caller]
    pub(crate) fn connect(&mut self) -> String {
        assert!(self.client.wants_connection(self.now));
        let mut out = Vec::new();
        self.unread.clear();
        self.client.connected(&mut out, self.now);
        String::from_utf8(out).unwrap()
    }

    /// The server says this. Returns what becomes of the connection, and what the client says.
    pub(crate) fn says(&mut self, bytes: impl AsRef<[u8]>) -> (Next, Vec<u8>) {
        self.unread.extend(bytes.as_ref());
        let (mut input, mut out) = (Input::new(&mut self.unread), Vec::new());
        let next = self.client.receive(&mut input, &mut out, self.now);
        let consumed = input.consumed();
        self.unread.drain(..consumed);
        (next, out)
    }

    /// The server says this, and the client asks for something next.
    #[track_caller]
    pub(crate) fn asks(&mut self, bytes: impl AsRef<[u8]>) -> String {
        let (next, out) = self.says(bytes);
        assert_eq!(next, Next::Open);
        String::from_utf8(out).unwrap()
    }

    #[track_caller]
    pub(crate) fn closes(&mut self, bytes: impl AsRef<[u8]>) {
        assert_eq!(self.says(bytes).0, Next::Close);
    }

    pub(crate) fn disconnected(&mut self) {
        self.client.disconnected(self.now);
    }

    /// Goes to the next deadline. Returns how long that took, what becomes of the connection, and what the client says.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> (Duration, Next, String) {
        let deadline = self.client.deadline().unwrap();
        let passed = deadline.since(self.now.instant);
        assert!(!passed.is_zero());
        assert!(!self.client.wants_connection(self.now.later(passed - Duration::from_nanos(1))));
        self.now = self.now.later(passed);
        let mut out = Vec::new();
        let next = self.client.on_deadline(&mut out, self.now);
        assert!(self.client.deadline().is_none_or(|at| at > self.now.instant));
        (passed, next, String::from_utf8_lossy(&out).into_owned())
    }

    /// Goes to where a connection is wanted. Returns how long that took.
    #[track_caller]
    pub(crate) fn until_wanted(&mut self) -> Duration {
        if self.client.wants_connection(self.now) {
            return Duration::ZERO;
        }
        let (passed, _, _) = self.wait();
        assert!(self.client.wants_connection(self.now));
        passed
    }

    pub(crate) fn later(&mut self, by: Duration) {
        self.now = self.now.later(by);
    }

    pub(crate) fn at(&self) -> Instant {
        self.now.instant
    }

    pub(crate) fn told(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.client.next_event()).map(|event| short(&event)).collect()
    }
}

pub(crate) fn first_line(request: &str) -> &str {
    request.lines().next().unwrap_or_default()
}

pub(crate) fn answer(status: &str, kind: &str, fields: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{fields}Content-Length: {length}\r\n\r\n{body}")
}

pub(crate) fn json(body: &str) -> String {
    answer("200 OK", "application/json", "", body)
}

pub(crate) fn refusal(status: &str) -> String {
    answer(status, "text/html", "", "<html>")
}

pub(crate) fn stream(kind: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n")
}

pub(crate) fn chunk(payload: &str) -> String {
    format!("{:x}\r\n{payload}\r\n", payload.len())
}

/// The answer that opens the WebSocket that was asked for.
pub(crate) fn upgraded(request: &str) -> String {
    let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
    let accept = accept_key(key.as_bytes());
    let accept = String::from_utf8(accept.to_vec()).unwrap();
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    )
}

pub(crate) fn frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    [FrameHead::new(true, opcode, payload.len() as u64, None).as_ref(), payload].concat()
}

pub(crate) fn message(text: &str) -> Vec<u8> {
    frame(Opcode::Text, text.as_bytes())
}

pub(crate) fn put(key: &str, revision: u64) -> String {
    format!(r#"{{"type":"put","key":"{key}","revision":{revision},"createRevision":1,"value":"x"}}"#)
}

pub(crate) fn bookmark(revision: u64) -> String {
    format!(r#"{{"type":"bookmark","revision":{revision}}}"#)
}
