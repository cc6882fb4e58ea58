//! Conversations of a client: given these bytes in return, these events, however the bytes are split.

mod bodies;
mod bugs;
mod conversations;
mod expectations;
mod heads;
mod pair;
mod properties;
mod requests;
mod reuse;
mod times;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use keepwatch_sim::cuts;

use super::*;
use crate::http1::{BodyLength, Disposition, Fault, SendError, StatusCode, Version};
use crate::input::Input;
use crate::time::Now;

/// What a connection said about the bytes that it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Transcript {
    events: Vec<String>,
    failure: Option<Failure>,
    /// Whether it can be used again.
    reuse: Result<(), NotReusable>,
    /// What was not taken.
    rest: Vec<u8>,
}

const GET: Request<'static> = Request::get("x", "/");
const HEAD: Request<'static> = Request::new("HEAD", "x", "/");
const CONNECT: Request<'static> = Request::connect("x:443");
/// A response to see where the one before it ended.
const NEXT: &[u8] = b"HTTP/1.1 204 Next\r\n\r\n";

/// A client that sends a request, its unread bytes, and another request that it sends when the first was answered.
struct Peer {
    connection: ClientConnection,
    unread: Vec<u8>,
    events: Vec<String>,
    failure: Option<Failure>,
    follows: bool,
}

impl Peer {
    fn new(request: &Request<'_>, config: &Arc<ClientConfig>) -> Self {
        let mut connection = ClientConnection::new(Arc::clone(config));
        connection.send(request, b"", &mut Vec::new(), Now::default()).unwrap();
        Self { connection, unread: Vec::new(), events: Vec::new(), failure: None, follows: false }
    }

    /// Gives bytes, and takes every event.
    fn receive(&mut self, bytes: &[u8], last: bool) {
        self.unread.extend_from_slice(bytes);
        let mut unread = core::mem::take(&mut self.unread);
        let mut input = if last { Input::last(&mut unread) } else { Input::new(&mut unread) };
        while self.failure.is_none() {
            match self.connection.recv(&mut input, Now::default()) {
                Ok(ClientEvent::NeedMore) => break,
                Ok(ClientEvent::Closed) => {
                    if self.events.last().is_none_or(|last| last != "closed") {
                        self.events.push("closed".to_string());
                    }
                    break;
                }
                Ok(event) => tell(&mut self.events, event),
                Err(error) => self.failure = Some(error.failure),
            }
            if self.follows && self.connection.reuse().is_ok() {
                self.follows = false;
                self.connection.send(&GET, b"", &mut Vec::new(), Now::default()).unwrap();
            }
        }
        let taken = input.consumed();
        unread.drain(..taken);
        self.unread = unread;
    }

    fn transcript(self) -> Transcript {
        let reuse = self.connection.reuse();
        // What a failure leaves unread depends on how much had come, and is dropped anyway.
        let rest = if self.failure.is_some() { Vec::new() } else { self.unread };
        Transcript { events: self.events, failure: self.failure, reuse, rest }
    }
}

/// An event in words; data that follow data are one.
fn tell(events: &mut Vec<String>, event: ClientEvent<'_>) {
    let told = match event {
        ClientEvent::Informational(head) => format!("({})", head.code()),
        ClientEvent::Response(head) => format!("{}", head.code()),
        ClientEvent::Upgraded(head) => format!("upgraded {}", head.code()),
        ClientEvent::Data(data) => {
            assert!(!data.is_empty());
            let data = data.escape_ascii().to_string();
            match events.last_mut().filter(|last| last.starts_with("data ")) {
                Some(last) => return last.push_str(&data),
                None => format!("data {data}"),
            }
        }
        ClientEvent::Trailers(fields) => format!("trailers {fields:?}"),
        ClientEvent::EndOfResponse { verified: true } => "end".to_string(),
        ClientEvent::EndOfResponse { verified: false } => "unverified end".to_string(),
        ClientEvent::NeedMore | ClientEvent::Closed => unreachable!(),
    };
    events.push(told);
}

/// What the tests vary.
#[derive(Clone)]
struct Setting<'a> {
    request: Request<'a>,
    config: ClientConfig,
    /// The connection ends behind the bytes.
    ends: bool,
    /// Another request follows.
    follows: bool,
}

impl<'a> Setting<'a> {
    fn new(request: &Request<'a>) -> Self {
        Self { request: *request, config: ClientConfig::default(), ends: false, follows: false }
    }

    /// The transcript of these bytes: the same under every cut.
    fn split(&self, wire: &[u8]) -> Transcript {
        let config = Arc::new(self.config.clone());
        cuts::every(wire, |parts| self.transcript(parts, &config))
    }

    /// The same, also with a response behind, which changes nothing.
    fn split_and_behind(&self, wire: &[u8]) -> Transcript {
        let config = Arc::new(self.config.clone());
        cuts::every_and_behind(wire, NEXT, |parts| self.transcript(parts, &config), |_| {})
    }

    /// The transcript of bytes that come in these parts; if the connection ends, whether that is seen with the last of them or
    /// later.
    fn transcript(&self, parts: &[&[u8]], config: &Arc<ClientConfig>) -> Transcript {
        let run = |seen_late: bool| {
            let mut peer = Peer::new(&self.request, config);
            peer.follows = self.follows;
            for (at, part) in parts.iter().enumerate() {
                peer.receive(part, self.ends && !seen_late && at + 1 == parts.len());
            }
            if self.ends && seen_late {
                peer.receive(b"", true);
            }
            peer.transcript()
        };
        let seen = run(false);
        if self.ends {
            assert_eq!(run(true), seen, "the end is seen late: {}", parts.concat().escape_ascii());
        }
        seen
    }
}

/// The events of a response after which the connection goes on, with nothing behind it and with another response.
fn good_to(request: &Request<'_>, wire: &(impl AsRef<[u8]> + ?Sized)) -> Vec<String> {
    good_with(&Setting::new(request), wire.as_ref())
}

fn good_with(setting: &Setting<'_>, wire: &[u8]) -> Vec<String> {
    let alone = setting.split(wire);
    assert_eq!(
        (alone.failure, alone.reuse, &alone.rest[..]),
        (None, Ok(()), &b""[..]),
        "{}",
        wire.escape_ascii()
    );
    assert_eq!(alone.events.last().map(String::as_str), Some("end"), "{}", wire.escape_ascii());
    let followed = Setting { follows: true, ..setting.clone() }.split(&[wire, NEXT].concat());
    let mut events = alone.events.clone();
    events.extend(["204".to_string(), "end".to_string()]);
    assert_eq!(followed, Transcript { events, ..alone.clone() }, "{}", wire.escape_ascii());
    alone.events
}

fn good(wire: &(impl AsRef<[u8]> + ?Sized)) -> Vec<String> {
    good_to(&GET, wire)
}

/// The events of a response after which the connection closes, with or without more behind it, which is not taken.
fn last_to(request: &Request<'_>, wire: &str, why: NotReusable) -> Vec<String> {
    let setting = Setting { follows: true, ..Setting::new(request) };
    let alone = setting.split(wire.as_bytes());
    assert_eq!((alone.failure, alone.reuse), (None, Err(why)), "{wire}");
    let mut events = alone.events.clone();
    assert_eq!(events.pop().as_deref(), Some("closed"), "{wire}");
    let followed = setting.split(&[wire.as_bytes(), NEXT].concat());
    assert_eq!(followed, Transcript { rest: NEXT.to_vec(), ..alone }, "{wire}");
    events
}

/// The events of a response that the end of the connection ends.
fn until_close(wire: &str) -> Vec<String> {
    let seen = Setting { ends: true, ..Setting::new(&GET) }.split(wire.as_bytes());
    assert_eq!((seen.failure, seen.reuse), (None, Err(NotReusable::CloseDelimited)), "{wire}");
    let mut events = seen.events;
    assert_eq!(events.pop().as_deref(), Some("closed"), "{wire}");
    events
}

/// The bytes are refused for this reason, with or without more behind them.
fn bad(wire: &(impl AsRef<[u8]> + ?Sized), fault: Fault) {
    bad_with(&Setting::new(&GET), wire.as_ref(), Failure::Malformed(fault));
}

fn bad_with(setting: &Setting<'_>, wire: &[u8], failure: Failure) {
    let seen = setting.split_and_behind(wire);
    assert_eq!(
        (seen.failure, seen.reuse),
        (Some(failure), Err(NotReusable::Failed)),
        "{}",
        wire.escape_ascii()
    );
}

/// The connection ends behind the bytes, and too soon.
fn cut(wire: &str, failure: Failure) {
    let seen = Setting { ends: true, ..Setting::new(&GET) }.split(wire.as_bytes());
    assert_eq!((seen.failure, seen.reuse), (Some(failure), Err(NotReusable::Failed)), "{wire}");
}

/// The head of a response to a GET.
fn head(wire: &str) -> OwnedResponse {
    head_with(wire, ClientConfig::default())
}

fn head_with(wire: &str, config: ClientConfig) -> OwnedResponse {
    let mut connection = ClientConnection::new(Arc::new(config));
    connection.send(&GET, b"", &mut Vec::new(), Now::default()).unwrap();
    let mut bytes = wire.as_bytes().to_vec();
    match connection.recv(&mut Input::new(&mut bytes), Now::default()).unwrap() {
        ClientEvent::Response(head) | ClientEvent::Informational(head) => head.to_owned(),
        other => panic!("{other:?}"),
    }
}

/// A 200 with these lines.
fn ok(lines: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{lines}\r\n")
}

/// A 200 in chunks with this body.
fn chunked(body: &str) -> String {
    ok("Transfer-Encoding: chunked\r\n") + body
}
