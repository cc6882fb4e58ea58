//! A server's connection by operations: what it promises after each of them, whatever their order.

use core::time::Duration;
use std::sync::Arc;

use keepwatch_protocol::http1::client::Request;
use keepwatch_protocol::http1::{
    BodyTx, ClientConfig, ClientConnection, ClientEvent, Config, Disposition, Event, Exchange, Fault,
    RecvError, SendError, ServerConnection, StatusCode, Timer,
};
use keepwatch_protocol::{Input, Now};

use super::{CONTENT, LONGEST, TRAILERS, head};
use crate::reader::{End, Kind, Message, without_empty_lines};

/// What was sent in answer to a request.
#[derive(Debug, Default)]
struct Sent {
    method: String,
    /// 0 while there is none.
    status: u16,
    interim: Vec<u16>,
    content: Vec<u8>,
    trailers: usize,
    complete: bool,
    /// Whether the connection was over when it was complete.
    closed: bool,
}

/// A connection, and what is known of it from outside.
pub(super) struct Played<'a> {
    config: Arc<Config>,
    connection: ServerConnection,
    now: Now,
    wire: &'a [u8],
    /// How much of it came, and how much was taken.
    fed: usize,
    taken: usize,
    hung_up: bool,
    out: Vec<u8>,
    exchange: Option<Exchange>,
    body: Option<BodyTx>,
    /// An answer was begun to the request under way.
    answering: bool,
    sent: Vec<Sent>,
    /// Where the request under way begins, and its content so far.
    start: usize,
    content: Vec<u8>,
    /// Where the request before it ended.
    end: usize,
    closing: bool,
    error: Option<RecvError>,
    closed: bool,
}

impl<'a> Played<'a> {
    pub(super) fn new(config: &Arc<Config>, wire: &'a [u8]) -> Self {
        let now = Now::default();
        Self {
            config: Arc::clone(config),
            connection: ServerConnection::new(Arc::clone(config), now),
            now,
            wire,
            fed: 0,
            taken: 0,
            hung_up: false,
            out: Vec::new(),
            exchange: None,
            body: None,
            answering: false,
            sent: Vec::new(),
            start: 0,
            content: Vec::new(),
            end: 0,
            closing: false,
            error: None,
            closed: false,
        }
    }

    pub(super) fn play(mut self, plan: &[u8]) {
        for &step in plan {
            let (was, put) = (self.connection.disposition(), self.out.len());
            self.step(step % 16, step / 16);
            let is = self.connection.disposition();
            if was != Disposition::Open {
                assert_eq!((is, self.out.len()), (was, put), "something happened after the end");
                assert_eq!(self.connection.deadline(), None);
            }
            assert_eq!(self.connection.wants_close(), matches!(is, Disposition::Finish | Disposition::Abort));
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
                let seconds = [0, 1, 5, 10, 20, 30, 75, 600][usize::from(argument % 8)];
                self.now = self.now.later(Duration::from_secs(seconds));
                self.expire();
            }
            6 => self.wait(argument % 2 == 1),
            7 => self.proceed(),
            8 => self.inform(argument),
            9 => self.respond(argument),
            10 => self.answer(argument),
            11 => self.data(argument),
            12 => self.finish(argument),
            13 => self.upgrade(),
            14 => {
                self.closing = true;
                self.connection.close_after_this();
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
        let (was, put) = (self.connection.disposition(), self.out.len());
        let head = without_empty_lines(&self.wire[self.taken..self.fed]);
        let method = head.split(|byte| *byte == b' ').next().map(String::from_utf8_lossy).unwrap_or_default();
        let result = self.connection.recv(&mut input, &mut self.out, self.now);
        let (consumed, left) = (input.consumed(), input.len());
        assert_eq!(consumed + left, offered);
        let before = self.taken;
        self.taken += consumed;
        let quiet = self.out.len() == put;
        if let Some(error) = self.error {
            assert!(matches!(result, Err(again) if again == error) && consumed == 0, "{result:?}");
            return false;
        }
        if self.closed {
            assert!(matches!(result, Ok(Event::Closed)) && consumed == 0, "{result:?}");
            return false;
        }
        if was == Disposition::Upgraded {
            assert!(matches!(result, Ok(Event::Paused)) && consumed == 0, "{result:?}");
            return false;
        }
        match result {
            Ok(Event::NeedMore) => {
                assert!(quiet);
                let limits = &self.config.limits;
                assert!(left <= limits.head_bytes.max(limits.trailer_bytes), "{left} bytes have to be kept");
                assert!(
                    !self.closing || left > 0 || !self.connection.is_idle(),
                    "it waits for what it does not want"
                );
                false
            }
            Ok(Event::Paused) => {
                assert!(quiet && consumed == 0);
                assert!(self.exchange.is_some() || self.body.is_some(), "it waits for nobody");
                false
            }
            Ok(Event::Request(head, exchange)) => {
                assert!(quiet);
                assert!(
                    self.sent.iter().all(|sent| sent.complete),
                    "a request before the answer to the last"
                );
                assert!(self.exchange.is_none() && self.body.is_none());
                assert_eq!(head.method(), method);
                let came = &self.wire[self.end..self.taken];
                let empty_lines = (came.len() - without_empty_lines(came).len()) / 2;
                assert!(empty_lines <= usize::from(self.config.limits.leading_empty_lines));
                self.sent.push(Sent { method: head.method().into(), ..Sent::default() });
                self.exchange = Some(exchange);
                self.answering = false;
                self.content.clear();
                self.start = before;
                true
            }
            Ok(Event::Data(data)) => {
                assert!(quiet && !data.is_empty());
                self.content.extend_from_slice(data);
                assert!(self.content.len() as u64 <= self.config.limits.body_bytes);
                true
            }
            Ok(Event::Trailers(_)) => {
                assert!(quiet);
                true
            }
            Ok(Event::EndOfRequest) => {
                assert!(quiet);
                let request = without_empty_lines(&self.wire[self.start..self.taken]);
                let read = Message::read(request, Kind::Request).expect("a request");
                assert_eq!((read.end, read.length), (End::Complete, request.len()), "{read:?}");
                assert_eq!(read.content, self.content);
                self.end = self.taken;
                true
            }
            Ok(Event::HungUp) => {
                assert!(quiet && self.hung_up);
                true
            }
            Ok(Event::Refused(fault)) => {
                let request = without_empty_lines(&self.wire[before..self.taken]);
                let read = Message::read(request, Kind::Request).expect("a request");
                assert_eq!((read.end, read.length), (End::Complete, request.len()), "content may follow");
                self.end = self.taken;
                self.refused(&method, fault.status(), fault.reason());
                assert_eq!(self.connection.disposition(), Disposition::Open);
                true
            }
            Ok(Event::Closed) => {
                assert!(quiet && self.connection.wants_close());
                self.closed = true;
                false
            }
            Err(error) => {
                assert_eq!(error.answered, self.body.is_none(), "{error:?}");
                assert_eq!((error.status, error.reason), (error.fault.status(), error.fault.reason()));
                if error.answered {
                    // Of a request that was not told; of a head that was not taken, as far as it is there.
                    let rest = &self.wire[self.taken..self.fed];
                    let is_head =
                        rest.starts_with(b"HEAD ") || error.fault == Fault::Expectation && method == "HEAD";
                    self.refused(if is_head { "HEAD" } else { "" }, error.status, error.reason);
                } else {
                    assert!(quiet);
                }
                self.error = Some(error);
                false
            }
        }
    }

    /// The machine has answered. If no request was told, it was the head of one with this method.
    fn refused(&mut self, method: &str, status: StatusCode, reason: &str) {
        if self.sent.last().is_none_or(|sent| sent.complete) {
            self.sent.push(Sent { method: method.into(), ..Sent::default() });
        }
        let closed = self.connection.wants_close();
        if let Some(sent) = self.sent.last_mut() {
            sent.status = status.code();
            sent.complete = true;
            sent.closed = closed;
            if sent.method != "HEAD" {
                sent.content = format!("{{\"error\":\"{reason}\"}}").into_bytes();
            }
        }
    }

    fn expire(&mut self) {
        let (put, now) = (self.out.len(), self.now);
        let due = self.connection.deadline().is_some_and(|deadline| deadline <= now.instant);
        let expired = self.connection.on_deadline(&mut self.out, now);
        assert_eq!(expired.is_some(), due);
        if let Some(expired) = &expired {
            let waits_for = match expired.timer {
                Timer::FirstByte => self.sent.is_empty(),
                Timer::KeepAlive | Timer::Head => self.exchange.is_none() && self.body.is_none(),
                Timer::Body => self.exchange.is_some() || self.body.is_some(),
                Timer::Handler => self.exchange.is_some(),
                _ => false,
            };
            assert!(waits_for, "{expired:?}");
        }
        match expired {
            Some(expired) if expired.answered => {
                let status = if self.out[put..].starts_with(b"HTTP/1.1 500 ") {
                    (StatusCode::INTERNAL_SERVER_ERROR, "the request was not answered in time")
                } else if self.exchange.is_some() {
                    (StatusCode::REQUEST_TIMEOUT, "the request content took too long")
                } else {
                    (StatusCode::REQUEST_TIMEOUT, "the request head took too long")
                };
                self.refused("", status.0, status.1);
                self.error = self.connection.recv(&mut Input::new(&mut []), &mut Vec::new(), now).err();
                assert!(self.error.is_some());
            }
            Some(_) => {
                assert_eq!(self.out.len(), put);
                let after = self.connection.recv(&mut Input::new(&mut []), &mut Vec::new(), now);
                self.closed = matches!(after, Ok(Event::Closed));
                self.error = after.err();
            }
            None => assert_eq!(self.out.len(), put),
        }
        assert_eq!(expired.map(|expired| expired.then), due.then(|| self.connection.disposition()));
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

    fn proceed(&mut self) {
        let Some(exchange) = &self.exchange else { return };
        let put = self.out.len();
        let result = self.connection.proceed(exchange, &mut self.out);
        assert!(result.is_ok() || self.out.len() == put);
        self.interim_came(put, 100);
    }

    fn inform(&mut self, argument: u8) {
        let Some(exchange) = &self.exchange else { return };
        let put = self.out.len();
        let code = [103, 102, 199, 100, 101, 200][usize::from(argument % 6)];
        let Some(status) = StatusCode::new(code) else { return };
        let fields = &head(argument).fields;
        match self.connection.inform(exchange, status, fields, &mut self.out) {
            Ok(()) => assert!(argument % 6 < 3),
            Err(_) => assert_eq!(self.out.len(), put, "a refused call wrote"),
        }
        self.interim_came(put, code);
    }

    fn interim_came(&mut self, put: usize, code: u16) {
        if let Some(sent) = self.sent.last_mut().filter(|_| self.out.len() > put) {
            assert!(code != 100 || self.content.is_empty() && !sent.interim.contains(&100), "100 too late");
            sent.interim.push(code);
        }
    }

    fn respond(&mut self, argument: u8) {
        let Some(exchange) = self.exchange.take() else { return };
        let (put, head) = (self.out.len(), head(argument));
        match self.connection.respond(exchange, &head, &mut self.out, self.now) {
            Ok(body) => {
                self.body = Some(body);
                if let Some(sent) = self.sent.last_mut() {
                    sent.status = head.status.code();
                }
            }
            Err(refused) => self.took_back(put, refused.error, Some(refused.token)),
        }
    }

    fn answer(&mut self, argument: u8) {
        let Some(exchange) = self.exchange.take() else { return };
        let (put, head) = (self.out.len(), head(argument));
        let content = if argument < 8 && argument % 2 == 1 { CONTENT } else { b"" };
        let content = if matches!(head.status.code(), 204 | 205) { b"" } else { content };
        match self.connection.answer(exchange, &head, content, &mut self.out, self.now) {
            Ok(()) => {
                let closed = self.connection.wants_close();
                if let Some(sent) = self.sent.last_mut() {
                    sent.status = head.status.code();
                    sent.complete = true;
                    sent.closed = closed;
                    if sent.method != "HEAD" && sent.status != 304 {
                        sent.content = content.to_vec();
                    }
                }
            }
            Err(refused) => self.took_back(put, refused.error, Some(refused.token)),
        }
    }

    fn data(&mut self, argument: u8) {
        let Some(body) = &mut self.body else { return };
        let put = self.out.len();
        let payload = &CONTENT[..CONTENT.len().min(usize::from(argument))];
        match self.connection.data(body, payload, &mut self.out) {
            Ok(()) if !body.is_suppressed() => {
                if let Some(sent) = self.sent.last_mut() {
                    sent.content.extend(payload);
                }
            }
            Ok(()) => assert_eq!(self.out.len(), put),
            Err(error) => self.took_back(put, error, None),
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
                let closed = self.connection.wants_close();
                if let Some(sent) = self.sent.last_mut() {
                    sent.trailers = if chunked { trailers.len() } else { 0 };
                    sent.complete = true;
                    sent.closed = closed;
                }
            }
            Err(refused) => {
                self.body = Some(refused.token);
                self.took_back(put, refused.error, None);
            }
        }
    }

    fn upgrade(&mut self) {
        let Some(exchange) = self.exchange.take() else { return };
        let put = self.out.len();
        let owed = self.out.len();
        match self.connection.upgrade(exchange, &[("X", b"y")], &mut self.out, self.now) {
            Ok(()) => {
                if self.out[owed..].starts_with(b"HTTP/1.1 100 ") {
                    self.interim_came(put, 100);
                }
                assert_eq!(self.connection.disposition(), Disposition::Upgraded);
                if let Some(sent) = self.sent.last_mut() {
                    sent.status = 101;
                    sent.complete = true;
                }
            }
            Err(refused) => self.took_back(put, refused.error, Some(refused.token)),
        }
    }

    /// A call was refused: nothing was written, and the token can be used again unless its exchange is over.
    fn took_back(&mut self, put: usize, error: SendError, exchange: Option<Exchange>) {
        assert_eq!(self.out.len(), put, "a refused call wrote");
        assert_eq!(error == SendError::Stale, self.error.is_some() || self.closed, "{error}");
        self.exchange = exchange.or(self.exchange.take());
    }

    /// What was written is what was sent, and nothing else.
    fn check_output(&self) {
        let mut client = Client::new();
        let mut rest = &self.out[..];
        for (index, sent) in self.sent.iter().enumerate() {
            let whole = rest;
            for &code in &sent.interim {
                let read = Message::read(rest, Kind::Response).expect("an interim response");
                assert_eq!((read.status(), read.end), (code, End::Complete));
                rest = &rest[read.length..];
            }
            let last = index + 1 == self.sent.len();
            if sent.status == 0 {
                assert!(last);
                break;
            }
            let tunnel = sent.method == "CONNECT" && (200..300).contains(&sent.status);
            let kind = if tunnel || sent.method == "HEAD" { Kind::Bodiless } else { Kind::Response };
            let read = Message::read(rest, kind).expect("a response");
            assert!(read.line.starts_with("HTTP/1.1 "), "{read:?}");
            assert_eq!(read.status(), sent.status);
            assert_eq!(read.content, sent.content, "{read:?}");
            let dates = read.fields.iter().filter(|(name, _)| name == "date").count();
            assert_eq!(dates, usize::from(sent.status != 101));
            if sent.complete {
                assert_ne!(read.end, End::Unfinished, "{read:?}");
                assert_eq!(read.trailers.len(), sent.trailers);
                assert_eq!(read.closes(), sent.closed, "{read:?}");
            }
            assert!(
                last || sent.complete && !read.closes() && read.end == End::Complete,
                "it was not the last"
            );
            rest = &rest[read.length..];
            if sent.complete {
                client.read(sent, &whole[..whole.len() - rest.len()], read.end);
            }
        }
        assert!(rest.is_empty(), "nobody sent {}", rest.escape_ascii());
    }
}

/// Our own client, which asks for each response and reads it.
struct Client {
    connection: ClientConnection,
}

impl Client {
    fn new() -> Self {
        let config = ClientConfig { interim_responses: u8::MAX, ..ClientConfig::default() };
        Self { connection: ClientConnection::new(Arc::new(config)) }
    }

    fn read(&mut self, sent: &Sent, wire: &[u8], end: End) {
        let request = match &*sent.method {
            "CONNECT" => Request::connect("x:80"),
            method => Request {
                upgrade: (sent.status == 101).then_some("websocket"),
                ..Request::new(method, "x", "/")
            },
        };
        // A method that cannot be sent was refused, and nobody knows which it was.
        let request =
            if sent.status >= 400 && sent.method != "HEAD" { Request::get("x", "/") } else { request };
        let asked = self.connection.send(&request, b"", &mut Vec::new(), Now::default());
        assert_eq!(asked, Ok(()), "{sent:?}");
        let mut held = wire.to_vec();
        let mut input = if end == End::UntilClose { Input::last(&mut held) } else { Input::new(&mut held) };
        let (mut interim, mut status, mut content, mut trailers) = (Vec::new(), 0, Vec::new(), 0);
        loop {
            match self.connection.recv(&mut input, Now::default()) {
                Ok(ClientEvent::Informational(head)) => interim.push(head.code()),
                Ok(ClientEvent::Response(head)) => status = head.code(),
                Ok(ClientEvent::Data(data)) => content.extend_from_slice(data),
                Ok(ClientEvent::Trailers(fields)) => trailers = fields.iter().count(),
                Ok(ClientEvent::EndOfResponse { verified }) => {
                    assert_eq!(verified, end == End::Complete);
                    assert_eq!(
                        self.connection.reuse().is_ok(),
                        !sent.closed,
                        "{:?}",
                        self.connection.reuse()
                    );
                    break;
                }
                Ok(ClientEvent::Upgraded(head)) => {
                    status = head.code();
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(input.is_empty());
        assert_eq!(
            (interim, status, content, trailers),
            (sent.interim.clone(), sent.status, sent.content.clone(), sent.trailers)
        );
    }
}
