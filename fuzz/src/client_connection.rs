//! A client's whole connection. The input is its caller's plan and the bytes that a server sends, and it is played twice:
//!
//! - by **events**: the caller sends a request whenever it can, and goes on with it when it is told something. The same bytes
//!   whole, byte by byte and in parts then have the same events.
//! - by **operations**: bytes, time and the caller's calls come in the order of the plan, sensible or not. After each of them
//!   holds what the connection promises; what it told is what [`reader`](crate::reader) finds in the bytes that it took; and
//!   what it wrote are the requests that were sent.

use core::time::Duration;
use std::sync::Arc;

use keepwatch_protocol::http1::client::{
    ClientError, ClientExpired, Failure, NotReusable, Request, RequestTx, Target,
};
use keepwatch_protocol::http1::{
    BodyLength, ClientConfig, ClientConnection, ClientEvent, Disposition, Limits, SendError, Version,
};
use keepwatch_protocol::{Input, Now};

use crate::reader::{End, Kind, Message, without_empty_lines};

/// Longer conversations meet the same code again.
const LONGEST: usize = 4 * 1024;
/// What is sent.
const CONTENT: &[u8] = b"hello, world";
const LENGTH: u64 = CONTENT.len() as u64;
const TRAILERS: &[(&str, &[u8])] = &[("X-Sum", b"1"), ("X-Sum", b"2")];

/// The first byte has the limits, what is let pass and how the bytes are cut; the second says how long the plan is that follows
/// it. The rest is what the server sends.
pub fn client_connection(data: &[u8]) {
    let [flags, length, rest @ ..] = data else { return };
    let (plan, wire) = rest.split_at(rest.len().min(usize::from(*length)));
    if wire.len() > LONGEST {
        return;
    }
    let config = config(flags & 1 == 1, flags & 2 == 2);
    let told = Told::by(&config, plan, wire, wire.len().max(1));
    assert_eq!(told, Told::by(&config, plan, wire, 1), "byte by byte");
    assert_eq!(told, Told::by(&config, plan, wire, usize::from(flags / 4) + 2), "in parts");
    if flags & 2 == 0 {
        Played::new(&config, wire).play(plan); // the reader is strict
    }
}

/// The defaults, or limits that are soon met; strict, or not.
fn config(small: bool, tolerant: bool) -> Arc<ClientConfig> {
    let tolerant = ClientConfig {
        lenient_lf: tolerant,
        space_before_colon: tolerant,
        missing_final_crlf: tolerant,
        ..ClientConfig::default()
    };
    if !small {
        return Arc::new(tolerant);
    }
    let limits = Limits {
        head_bytes: 256,
        field_bytes: 64,
        fields: 8,
        leading_empty_lines: 1,
        chunk_extension_bytes: 8,
        extension_bytes: 16,
        trailer_fields: 2,
        trailer_bytes: 48,
        body_bytes: 32,
        ..Limits::default()
    };
    Arc::new(ClientConfig { limits, interim_responses: 2, ..tolerant })
}

/// A request, by number; from 11 on those that are refused.
fn request(number: u8) -> Request<'static> {
    let post = Request::new("POST", "example", "/a?b");
    match number % 16 {
        0 => Request::get("example", "/"),
        1 => Request::new("HEAD", "example:80", "/"),
        2 => Request { length: BodyLength::Known(LENGTH), fields: &[("X", b"a")], ..post },
        3 => Request { length: BodyLength::Unknown, trailers: true, ..post },
        4 => Request::connect("example:80"),
        5 => Request { upgrade: Some("websocket, h2c"), ..Request::get("example", "/") },
        6 => Request { length: BodyLength::Known(LENGTH), expect_continue: true, ..post },
        7 => Request { length: BodyLength::Unknown, expect_continue: true, ..post },
        8 => Request { close: true, ..Request::get("example", "/") },
        9 => Request { target: Target::Asterisk, ..Request::new("OPTIONS", "[::1]", "") },
        10 => Request {
            target: Target::Absolute { scheme: "http", path: "/" },
            length: BodyLength::Unknown,
            upgrade: Some("websocket"),
            ..post
        },
        11 => Request { expect_continue: true, ..post },
        12 => Request { fields: &[("X", b"a\r\nB: c")], ..post },
        13 => Request::get("example", "/ HTTP/1.1\r\nA: b"),
        14 => Request { length: BodyLength::Known(LENGTH), ..Request::new("TRACE", "example", "/") },
        _ => Request { fields: &[("Host", b"b")], ..post },
    }
}

// ---- By events -----------------------------------------------------------------------------------------------------------

/// What a connection told of the bytes, and what was written.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    events: Vec<String>,
    out: String,
    reuse: Result<(), NotReusable>,
}

impl Told {
    /// Gives the connection so many bytes more each time, and then the server's end.
    fn by(config: &Arc<ClientConfig>, plan: &[u8], wire: &[u8], step: usize) -> Self {
        let connection = ClientConnection::new(Arc::clone(config));
        let mut caller = Caller { connection, plan, body: None, events: Vec::new(), out: Vec::new() };
        caller.ask();
        let mut unread = Vec::new();
        for part in wire.chunks(step) {
            unread.extend(part);
            let mut input = Input::new(&mut unread);
            caller.take(&mut input);
            let taken = input.consumed();
            unread.drain(..taken);
        }
        caller.take(&mut Input::last(&mut unread));
        let out = caller.out.escape_ascii().to_string();
        Self { events: caller.events, out, reuse: caller.connection.reuse() }
    }
}

/// Sends the requests that the plan names, one for each byte.
struct Caller<'a> {
    connection: ClientConnection,
    plan: &'a [u8],
    body: Option<RequestTx>,
    events: Vec<String>,
    out: Vec<u8>,
}

impl Caller<'_> {
    fn take(&mut self, input: &mut Input<'_>) {
        loop {
            let event = match self.connection.recv(input, Now::default()) {
                Ok(ClientEvent::NeedMore) => return,
                Ok(event) => event,
                Err(error) => {
                    let told = format!("{error:?}");
                    if self.events.last() != Some(&told) {
                        self.events.push(told);
                    }
                    return;
                }
            };
            match event {
                ClientEvent::Data(data) => {
                    let data = data.escape_ascii().to_string();
                    match self.events.last_mut().filter(|last| last.starts_with("data ")) {
                        Some(last) => last.push_str(&data),
                        None => self.events.push(format!("data {data}")),
                    }
                }
                ClientEvent::Informational(head) => {
                    self.events.push(format!("informational {head:?}"));
                    self.go_on();
                }
                ClientEvent::Response(head) => {
                    self.events.push(format!("response {head:?}"));
                    self.go_on();
                    if let Some(body) = self.body.take() {
                        self.connection.abandon(body, Now::default());
                    }
                }
                ClientEvent::EndOfResponse { verified } => {
                    self.events.push(format!("end {verified}"));
                    self.ask();
                }
                ClientEvent::Closed => {
                    if self.events.last().is_none_or(|last| last != "closed") {
                        self.events.push("closed".into());
                    }
                    return;
                }
                other => self.events.push(format!("{other:?}")),
            }
        }
    }

    /// The next request of the plan. The high bit of its byte holds the content back, until something comes.
    fn ask(&mut self) {
        while let Some((&number, rest)) = self.plan.split_first() {
            if self.connection.reuse().is_err() {
                return;
            }
            self.plan = rest;
            if let Ok(body) = self.connection.request(&request(number), &mut self.out, Now::default()) {
                self.body = Some(body);
                if number < 128 {
                    self.go_on();
                }
                return;
            }
        }
    }

    fn go_on(&mut self) {
        if !self.connection.takes_content() {
            return;
        }
        let Some(mut body) = self.body.take() else { return };
        assert_eq!(self.connection.data(&mut body, CONTENT, &mut self.out), Ok(()));
        let finished = self.connection.finish_with_trailers(body, TRAILERS, &mut self.out, Now::default());
        assert_eq!(finished, Ok(()));
    }
}

// ---- By operations -------------------------------------------------------------------------------------------------------

/// A request that was sent.
#[derive(Debug, Default)]
struct Sent {
    request: u8,
    content: Vec<u8>,
    trailers: usize,
    interim: u8,
    complete: bool,
    answered: bool,
}

impl Sent {
    fn request(&self) -> Request<'static> {
        request(self.request)
    }
}

/// A connection, and what is known of it from outside.
struct Played<'a> {
    config: Arc<ClientConfig>,
    connection: ClientConnection,
    now: Now,
    wire: &'a [u8],
    /// How much of it came, and how much was taken.
    fed: usize,
    taken: usize,
    hung_up: bool,
    out: Vec<u8>,
    body: Option<RequestTx>,
    sent: Vec<Sent>,
    /// Where the response under way begins, and its content so far; none between two.
    response: Option<(usize, Vec<u8>)>,
    error: Option<ClientError>,
    closed: bool,
}

impl<'a> Played<'a> {
    fn new(config: &Arc<ClientConfig>, wire: &'a [u8]) -> Self {
        Self {
            config: Arc::clone(config),
            connection: ClientConnection::new(Arc::clone(config)),
            now: Now::default(),
            wire,
            fed: 0,
            taken: 0,
            hung_up: false,
            out: Vec::new(),
            body: None,
            sent: Vec::new(),
            response: None,
            error: None,
            closed: false,
        }
    }

    fn play(mut self, plan: &[u8]) {
        for &step in plan {
            let (was, put) = (self.connection.disposition(), self.out.len());
            self.step(step % 16, step / 16);
            let is = self.connection.disposition();
            if was != Disposition::Open {
                assert_eq!((is, self.out.len()), (was, put), "something happened after the end");
                assert_eq!(self.connection.deadline(), None);
                assert!(self.connection.reuse().is_err() && !self.connection.takes_content());
            }
        }
        self.check_output();
    }

    fn step(&mut self, operation: u8, argument: u8) {
        match operation {
            0 => self.feed(usize::from(argument) + 1),
            1 => self.feed(LONGEST),
            2 => {
                self.recv();
            }
            3 | 4 => while self.recv() {},
            5 => {
                let seconds = [0, 1, 2, 10, 29, 30, 120, 600][usize::from(argument % 8)];
                self.now = self.now.later(Duration::from_secs(seconds));
                self.expire();
            }
            6 => self.wait(argument % 2 == 1),
            7 | 8 => self.request(argument),
            9 => self.send(argument),
            10 | 11 => self.data(argument),
            12 => self.finish(argument),
            13 => {
                if let Some(body) = self.body.take() {
                    self.connection.abandon(body, self.now);
                }
            }
            14 => {
                let version = if argument % 2 == 1 { Version::Http11 } else { Version::Http10 };
                self.connection.set_peer_version(version);
            }
            _ => {
                self.hung_up = true;
                self.wire = &self.wire[..self.fed];
            }
        }
    }

    fn feed(&mut self, bytes: usize) {
        self.fed = self.wire.len().min(self.fed + bytes);
    }

    /// Takes an event. Returns whether there can be another one.
    fn recv(&mut self) -> bool {
        let mut held = self.wire[self.taken..self.fed].to_vec();
        let offered = held.len();
        let mut input = if self.hung_up { Input::last(&mut held) } else { Input::new(&mut held) };
        let was = self.connection.disposition();
        let result = self.connection.recv(&mut input, self.now);
        let (consumed, left) = (input.consumed(), input.len());
        assert_eq!(consumed + left, offered);
        let before = self.taken;
        self.taken += consumed;
        if let Some(error) = self.error {
            assert!(matches!(result, Err(again) if again == error) && consumed == 0, "{result:?}");
            return false;
        }
        if was == Disposition::Finish {
            assert!(matches!(result, Ok(ClientEvent::Closed)) && consumed == 0, "{result:?}");
            self.closed = true;
            return false;
        }
        if was == Disposition::Upgraded {
            assert!(matches!(result, Ok(ClientEvent::NeedMore)) && consumed == 0, "{result:?}");
            return false;
        }
        assert!(!self.closed);
        match result {
            Ok(ClientEvent::NeedMore) => {
                let limits = &self.config.limits;
                assert!(left <= limits.head_bytes.max(limits.trailer_bytes), "{left} bytes have to be kept");
                false
            }
            Ok(ClientEvent::Informational(head)) => {
                assert!(head.code() < 200 && head.code() != 101 && self.response.is_none());
                assert!(self.awaits_response());
                if let Some(sent) = self.sent.last_mut() {
                    sent.interim += 1;
                    assert!(sent.interim <= self.config.interim_responses, "one too many");
                }
                true
            }
            Ok(ClientEvent::Response(head)) => {
                assert!(head.code() >= 200 && self.response.is_none());
                assert!(self.awaits_response());
                self.response = Some((before, Vec::new()));
                if let Some(sent) = self.sent.last_mut() {
                    assert_eq!(head.is_early(), !sent.complete && self.body.is_some());
                    sent.answered = true;
                }
                true
            }
            Ok(ClientEvent::Data(data)) => {
                assert!(!data.is_empty());
                let Some((_, content)) = &mut self.response else { panic!("data of nothing") };
                content.extend_from_slice(data);
                assert!(content.len() as u64 <= self.config.limits.body_bytes);
                let idle = self.config.timeouts.body_idle.map(|idle| self.now.instant + idle);
                assert!(
                    self.connection.deadline().is_none_or(|by| Some(by) == idle),
                    "the deadline did not move"
                );
                true
            }
            Ok(ClientEvent::Trailers(_)) => {
                assert!(self.response.is_some());
                true
            }
            Ok(ClientEvent::EndOfResponse { verified }) => {
                let Some((start, content)) = self.response.take() else { panic!("an end of nothing") };
                let is_head = self.sent.last().is_some_and(|sent| sent.request().method == "HEAD");
                let kind = if is_head { Kind::Bodiless } else { Kind::Response };
                let response = without_empty_lines(&self.wire[start..self.taken]);
                let read = Message::read(response, kind).expect("a response");
                let end = if verified { End::Complete } else { End::UntilClose };
                assert_eq!((read.end, read.length), (end, response.len()), "{read:?}");
                assert_eq!(read.content, content);
                let last = self.sent.last().is_some_and(|sent| sent.request().close);
                if last || read.closes() || !verified {
                    assert!(self.connection.reuse().is_err());
                }
                true
            }
            Ok(ClientEvent::Upgraded(head)) => {
                let sent = self.sent.last().map(Sent::request);
                let tunnel =
                    sent.is_some_and(|sent| sent.method == "CONNECT") && (200..300).contains(&head.code());
                let switch = sent.is_some_and(|sent| sent.upgrade.is_some()) && head.code() == 101;
                assert!(self.awaits_response() && (tunnel || switch));
                if let Some(sent) = self.sent.last_mut() {
                    assert!(sent.complete);
                    sent.answered = true;
                }
                true
            }
            Ok(ClientEvent::Closed) => {
                assert!(self.connection.disposition() == Disposition::Finish && self.response.is_none());
                self.closed = true;
                false
            }
            Err(error) => {
                if error.failure == Failure::TooManyInterim {
                    assert_eq!(
                        self.sent.last().map(|sent| sent.interim),
                        Some(self.config.interim_responses)
                    );
                }
                assert_eq!(
                    error.request_sent,
                    self.under_way() && self.sent.last().is_some_and(|sent| sent.complete)
                );
                self.error = Some(error);
                false
            }
        }
    }

    fn awaits_response(&self) -> bool {
        self.sent.last().is_some_and(|sent| !sent.answered)
    }

    /// Whether an exchange is.
    fn under_way(&self) -> bool {
        self.awaits_response() || self.response.is_some()
    }

    fn expire(&mut self) {
        let now = self.now;
        let due = self.connection.deadline().is_some_and(|deadline| deadline <= now.instant);
        let expired = self.connection.on_deadline(now);
        assert_eq!(expired.is_some(), due);
        match expired {
            Some(ClientExpired::SendContent) => {
                assert!(self.connection.takes_content() && self.awaits_response(), "nobody wants it");
            }
            Some(ClientExpired::Failed(error)) => {
                assert_eq!(self.connection.disposition(), Disposition::Abort);
                self.error = Some(error);
            }
            None => {}
        }
        assert!(self.connection.deadline().is_none_or(|deadline| deadline > now.instant), "due for ever");
    }

    /// Until the deadline, or just not.
    fn wait(&mut self, not_quite: bool) {
        if let Some(deadline) = self.connection.deadline().filter(|deadline| *deadline > self.now.instant) {
            let span =
                deadline.since(self.now.instant).saturating_sub(Duration::from_nanos(u64::from(not_quite)));
            self.now = self.now.later(span);
            self.expire();
        }
    }

    fn request(&mut self, argument: u8) {
        let (put, free) = (self.out.len(), self.connection.reuse());
        let request = request(argument);
        match self.connection.request(&request, &mut self.out, self.now) {
            Ok(body) => {
                assert!(free.is_ok() && argument < 11);
                let complete = matches!(request.length, BodyLength::Empty);
                self.sent.push(Sent { request: argument, complete, ..Sent::default() });
                self.body = Some(body);
            }
            Err(error) => self.was_refused(put, free, error),
        }
    }

    fn send(&mut self, argument: u8) {
        let (put, free) = (self.out.len(), self.connection.reuse());
        let request = request(argument);
        let content = if request.length == BodyLength::Empty { b"" } else { CONTENT };
        match self.connection.send(&request, content, &mut self.out, self.now) {
            Ok(()) => {
                assert!(free.is_ok() && argument < 12);
                self.sent.push(Sent {
                    request: argument,
                    content: content.into(),
                    complete: true,
                    ..Sent::default()
                });
                self.body = None;
            }
            Err(error) => self.was_refused(put, free, error),
        }
    }

    /// A request was not sent.
    fn was_refused(&self, put: usize, free: Result<(), NotReusable>, error: SendError) {
        assert_eq!(self.out.len(), put, "a refused call wrote");
        match free {
            Ok(()) => assert!(!matches!(error, SendError::NotReusable(_))),
            Err(why) => assert_eq!(error, SendError::NotReusable(why)),
        }
    }

    fn data(&mut self, argument: u8) {
        let Some(body) = &mut self.body else { return };
        let put = self.out.len();
        let payload = &CONTENT[..CONTENT.len().min(usize::from(argument))];
        let takes = self.connection.takes_content();
        match self.connection.data(body, payload, &mut self.out) {
            Ok(()) => {
                if let Some(sent) = self.sent.last_mut() {
                    assert!(takes || payload.is_empty());
                    sent.content.extend(payload);
                }
            }
            Err(_) => assert_eq!(self.out.len(), put, "a refused call wrote"),
        }
    }

    fn finish(&mut self, argument: u8) {
        let Some(body) = self.body.take() else { return };
        let put = self.out.len();
        let trailers: &[(&str, &[u8])] = match argument {
            0..8 => &[],
            8..12 => TRAILERS,
            12 => &[("Content-Length", b"1")],
            13 => &[("X", b"\n")],
            _ => &[("", b"")],
        };
        let chunked = body.is_chunked();
        match self.connection.finish_with_trailers(body, trailers, &mut self.out, self.now) {
            Ok(()) => {
                if let Some(sent) = self.sent.last_mut() {
                    sent.trailers = if chunked { trailers.len() } else { 0 };
                    sent.complete = true;
                }
            }
            Err(refused) => {
                assert_eq!(self.out.len(), put, "a refused call wrote");
                self.body = Some(refused.token);
            }
        }
    }

    /// What was written is what was sent, and nothing else.
    fn check_output(&self) {
        let mut rest = &self.out[..];
        for (index, sent) in self.sent.iter().enumerate() {
            let request = sent.request();
            let read = Message::read(rest, Kind::Request).expect("a request");
            assert_eq!((read.word(0), read.word(2)), (request.method, "HTTP/1.1"));
            let host = ("host".to_owned(), request.authority.as_bytes().to_vec());
            assert_eq!(read.fields.first(), Some(&host));
            assert_eq!(read.fields.iter().filter(|(name, _)| name == "host").count(), 1);
            assert_eq!(read.content, sent.content, "{read:?}");
            assert_eq!(read.closes(), request.close);
            if sent.complete {
                assert_eq!((read.end, read.trailers.len()), (End::Complete, sent.trailers), "{read:?}");
            }
            assert!(index + 1 == self.sent.len() || sent.complete && sent.answered, "a request too soon");
            rest = &rest[read.length..];
        }
        assert!(rest.is_empty(), "nobody sent {}", rest.escape_ascii());
    }
}
