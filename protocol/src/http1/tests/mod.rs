//! Conversations: given these bytes, these events and these answers, however the bytes are split.

mod answers;
mod bugs;
mod chunks;
mod codecs;
mod conversations;
mod heads;
mod lengths;
mod properties;
mod times;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use keepwatch_sim::cuts;

use super::*;
use crate::input::Input;
use crate::time::Now;

/// What a connection said about the bytes that it was given, and what it answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Transcript {
    events: Vec<String>,
    out: String,
    fault: Option<Fault>,
    /// What was not taken.
    rest: Vec<u8>,
}

/// A request to see where the one before it ended.
const NEXT: &[u8] = b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Length: 0\r\n\r\n";

/// A connection, its unread bytes, and a server that answers each request when it is complete.
struct Peer {
    connection: ServerConnection,
    unread: Vec<u8>,
    transcript: Transcript,
    exchange: Option<Exchange>,
}

impl Peer {
    fn new(config: &Arc<Config>) -> Self {
        Self {
            connection: ServerConnection::new(Arc::clone(config), Now::default()),
            unread: Vec::new(),
            transcript: Transcript::default(),
            exchange: None,
        }
    }

    /// Gives bytes, and takes every event.
    fn receive(&mut self, bytes: &[u8], last: bool) {
        self.unread.extend_from_slice(bytes);
        let mut unread = core::mem::take(&mut self.unread);
        let mut input = if last { Input::last(&mut unread) } else { Input::new(&mut unread) };
        let mut out = Vec::new();
        loop {
            let event = match self.connection.recv(&mut input, &mut out, Now::default()) {
                Ok(Event::NeedMore | Event::Paused) => break,
                Ok(Event::Closed) => {
                    if self.transcript.events.last().is_none_or(|last| last != "closed") {
                        self.transcript.events.push("closed".to_string());
                    }
                    break;
                }
                Ok(event) => event,
                Err(error) => {
                    self.transcript.fault = Some(error.fault);
                    break;
                }
            };
            let events = &mut self.transcript.events;
            match event {
                Event::Request(head, exchange) => {
                    events.push(format!("{} {}", head.method(), head.target()));
                    self.exchange = Some(exchange);
                }
                Event::Data(data) => {
                    let data = data.escape_ascii().to_string();
                    match events.last_mut().filter(|last| last.starts_with("data ")) {
                        Some(last) => last.push_str(&data),
                        None => events.push(format!("data {data}")),
                    }
                }
                Event::Trailers(fields) => events.push(format!("trailers {fields:?}")),
                Event::EndOfRequest => {
                    events.push("end".to_string());
                    if let Some(exchange) = self.exchange.take() {
                        let head = ResponseHead::empty(StatusCode::OK, &[]);
                        self.connection.answer(exchange, &head, b"", &mut out, Now::default()).unwrap();
                    }
                }
                Event::HungUp => events.push("hung up".to_string()),
                Event::Refused(fault) => events.push(format!("refused {fault:?}")),
                Event::NeedMore | Event::Paused | Event::Closed => unreachable!(),
            }
        }
        self.transcript.out.push_str(core::str::from_utf8(&out).unwrap());
        let taken = input.consumed();
        unread.drain(..taken);
        self.unread = unread;
    }
}

/// The transcript of bytes that come in these parts.
fn transcript(parts: &[&[u8]], config: &Arc<Config>) -> Transcript {
    let mut peer = Peer::new(config);
    for part in parts {
        if peer.transcript.fault.is_none() {
            peer.receive(part, false);
        } else {
            peer.unread.extend_from_slice(part);
        }
    }
    // What an error leaves unread depends on how much had come, and is dropped anyway.
    peer.transcript.rest = if peer.transcript.fault.is_some() { Vec::new() } else { peer.unread };
    peer.transcript
}

/// The transcript of these bytes: the same under every cut.
fn split_with(wire: &[u8], config: &Config) -> Transcript {
    let config = Arc::new(config.clone());
    cuts::every(wire, |parts| transcript(parts, &config))
}

/// The events of a request that is good, with nothing behind it and with another request behind it.
fn good(wire: &(impl AsRef<[u8]> + ?Sized)) -> Vec<String> {
    let (wire, config) = (wire.as_ref(), Arc::default());
    let alone = cuts::every_and_behind(
        wire,
        NEXT,
        |parts| transcript(parts, &config),
        |seen| {
            seen.events.extend(["GET /next".to_string(), "end".to_string()]);
            seen.out.push_str(OK);
        },
    );
    assert_eq!((alone.fault, &alone.rest[..]), (None, &b""[..]), "{}", wire.escape_ascii());
    assert_eq!(alone.events.last().map(String::as_str), Some("end"), "{}", wire.escape_ascii());
    alone.events
}

/// The bytes are refused for this reason, by a last answer with its status, with or without more behind them.
fn bad(wire: &(impl AsRef<[u8]> + ?Sized), fault: Fault) {
    bad_with(wire, fault, &Config::default());
}

fn bad_with(wire: &(impl AsRef<[u8]> + ?Sized), fault: Fault, config: &Config) {
    let wire = wire.as_ref();
    let config = Arc::new(config.clone());
    let seen = cuts::every_and_behind(wire, NEXT, |parts| transcript(parts, &config), |_| {});
    assert_eq!(seen.fault, Some(fault), "{}", wire.escape_ascii());
    assert!(seen.out.contains(&format!("HTTP/1.1 {} ", fault.status().code())), "{}", seen.out);
    assert!(seen.out.contains("\r\nConnection: close\r\n"), "{}", seen.out);
}

/// The head of a request.
fn head(wire: impl AsRef<[u8]>) -> OwnedRequestHead {
    let mut wire = wire.as_ref().to_vec();
    let mut connection = ServerConnection::new(Arc::default(), Now::default());
    match connection.recv(&mut Input::new(&mut wire), &mut Vec::new(), Now::default()) {
        Ok(Event::Request(head, _)) => head.to_owned(),
        other => panic!("{other:?}"),
    }
}

/// A GET with these lines besides `Host`.
fn get(lines: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: x\r\n{lines}\r\n")
}

/// A POST in chunks with this body.
fn chunked(body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{body}")
}
