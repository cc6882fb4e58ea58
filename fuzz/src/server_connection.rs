//! A server's whole connection. The input is a handler's plan and the bytes that a client sends, and it is played twice:
//!
//! - by **events**: the handler does what its plan says when it is told of a request, of content, of an end. The same bytes whole,
//!   byte by byte and in parts then have the same events and the same answers.
//! - by **operations**: bytes, time and the handler's calls come in the order of the plan, sensible or not. After each of them
//!   holds what the connection promises; what it told is what [`reader`](crate::reader) finds in the bytes that it took; and
//!   what it wrote is what was sent, read by the same reader and by our own client.

mod played;

use std::sync::Arc;

use keepwatch_protocol::http1::{
    BodyTx, Config, Disposition, Event, Exchange, Limits, ResponseHead, ServerConnection, StatusCode,
};
use keepwatch_protocol::{Input, Now};

use self::played::Played;

/// Longer conversations meet the same code again.
const LONGEST: usize = 4 * 1024;
/// What a handler sends.
const CONTENT: &[u8] = b"hello, world";
const TRAILERS: &[(&str, &[u8])] = &[("X-Sum", b"1"), ("X-Sum", b"2")];

/// The first byte has the limits and how the bytes are cut; the second says how long the plan is that follows it. The rest is
/// what the client sends.
pub fn server_connection(data: &[u8]) {
    let [flags, length, rest @ ..] = data else { return };
    let (plan, wire) = rest.split_at(rest.len().min(usize::from(*length)));
    if wire.len() > LONGEST {
        return;
    }
    let config = config(flags & 1 == 1);
    let told = Told::by(&config, plan, wire, wire.len().max(1));
    assert_eq!(told, Told::by(&config, plan, wire, 1), "byte by byte");
    assert_eq!(told, Told::by(&config, plan, wire, usize::from(flags / 2) + 2), "in parts");
    Played::new(&config, wire).play(plan);
}

/// The defaults, or limits that are soon met.
fn config(small: bool) -> Arc<Config> {
    if !small {
        return Arc::default();
    }
    let limits = Limits {
        head_bytes: 256,
        field_bytes: 64,
        fields: 6,
        target_bytes: 32,
        method_bytes: 8,
        leading_empty_lines: 1,
        chunk_extension_bytes: 8,
        extension_bytes: 16,
        trailer_fields: 2,
        trailer_bytes: 48,
        body_bytes: 32,
        ..Limits::default()
    };
    Arc::new(Config { limits, ..Config::default() })
}

/// A head, by number; those from 8 to 14 are refused to some requests or to all.
fn head(number: u8) -> ResponseHead<'static> {
    const LENGTH: u64 = CONTENT.len() as u64;
    const OK: StatusCode = StatusCode::OK;
    match number % 16 {
        0 => ResponseHead::empty(OK, &[]),
        1 => ResponseHead::with_length(OK, &[("Content-Type", b"text/plain")], LENGTH),
        2 => ResponseHead::stream(OK, &[]),
        3 => ResponseHead::empty(StatusCode::NO_CONTENT, &[]),
        4 => ResponseHead::with_length(StatusCode::NOT_MODIFIED, &[("ETag", b"\"1\"")], LENGTH),
        5 => ResponseHead::stream(StatusCode::NOT_FOUND, &[("X", b""), ("X", b"a")]),
        6 => ResponseHead::empty(StatusCode::RESET_CONTENT, &[]),
        7 => ResponseHead::with_length(StatusCode::UPGRADE_REQUIRED, &[("Upgrade", b"websocket")], LENGTH),
        8 => ResponseHead::empty(StatusCode::UPGRADE_REQUIRED, &[]),
        9 => ResponseHead::empty(StatusCode::EARLY_HINTS, &[]),
        10 => ResponseHead::with_length(StatusCode::NO_CONTENT, &[], 1),
        11 => ResponseHead::empty(OK, &[("X", b"a\r\nB: c")]),
        12 => ResponseHead::empty(OK, &[("X\r", b"a")]),
        13 => ResponseHead::empty(OK, &[("Content-Length", b"1")]),
        14 => ResponseHead::empty(OK, &[("date", b"now")]),
        _ => ResponseHead::empty(StatusCode::NOT_FOUND, &[]),
    }
}

/// What a connection told of the bytes, and what was written, where the handler acts by events.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    events: Vec<String>,
    out: String,
    disposition: Option<Disposition>,
}

impl Told {
    /// Gives the connection so many bytes more each time, and then the client's end.
    fn by(config: &Arc<Config>, plan: &[u8], wire: &[u8], step: usize) -> Self {
        let mut handler = Handler {
            connection: ServerConnection::new(Arc::clone(config), Now::default()),
            plan,
            requests: 0,
            step: 0,
            exchange: None,
            body: None,
            events: Vec::new(),
            out: Vec::new(),
        };
        let mut unread = Vec::new();
        for part in wire.chunks(step) {
            unread.extend(part);
            let mut input = Input::new(&mut unread);
            handler.take(&mut input);
            let taken = input.consumed();
            unread.drain(..taken);
        }
        handler.take(&mut Input::last(&mut unread));
        let out = handler.out.escape_ascii().to_string();
        Self { events: handler.events, out, disposition: Some(handler.connection.disposition()) }
    }
}

/// Does for each request what a byte of the plan says.
struct Handler<'a> {
    connection: ServerConnection,
    plan: &'a [u8],
    requests: usize,
    step: u8,
    exchange: Option<Exchange>,
    body: Option<BodyTx>,
    events: Vec<String>,
    out: Vec<u8>,
}

impl Handler<'_> {
    fn take(&mut self, input: &mut Input<'_>) {
        loop {
            let event = match self.connection.recv(input, &mut self.out, Now::default()) {
                Ok(Event::NeedMore | Event::Paused) => return,
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
                Event::Request(head, exchange) => {
                    self.events.push(format!("{head:?}"));
                    self.exchange = Some(exchange);
                    self.step = self.plan.get(self.requests).copied().unwrap_or_default();
                    self.requests += 1;
                    self.begin();
                }
                Event::Data(data) => {
                    let data = data.escape_ascii().to_string();
                    match self.events.last_mut().filter(|last| last.starts_with("data ")) {
                        Some(last) => last.push_str(&data),
                        None => self.events.push(format!("data {data}")),
                    }
                }
                Event::EndOfRequest => {
                    self.events.push("end".into());
                    self.end();
                }
                Event::Closed => {
                    if self.events.last().is_none_or(|last| last != "closed") {
                        self.events.push("closed".into());
                    }
                    return;
                }
                other => self.events.push(format!("{other:?}")),
            }
        }
    }

    /// A head came. Bit by bit: `100 Continue`, a 103, a last request, an answer before the request's end.
    fn begin(&mut self) {
        let Some(exchange) = &self.exchange else { return };
        if self.step & 1 != 0 {
            assert_eq!(self.connection.proceed(exchange, &mut self.out), Ok(()));
        }
        if self.step & 2 != 0 {
            let _to_http10 = self.connection.inform(exchange, StatusCode::EARLY_HINTS, &[], &mut self.out);
        }
        if self.step & 4 != 0 {
            self.connection.close_after_this();
        }
        if self.step & 8 != 0 {
            self.respond();
        }
    }

    /// The request is complete: the answer ends, and begins if it did not before; an upgrade goes first.
    fn end(&mut self) {
        if let Some(exchange) = self.exchange.take() {
            match self.connection.upgrade(exchange, &[], &mut self.out, Now::default()) {
                Ok(()) => return,
                Err(refused) => self.exchange = Some(refused.token),
            }
        }
        self.respond();
        let Some(mut body) = self.body.take() else { return };
        // What the head announced, or what another one could not.
        let _suppressed = self.connection.data(&mut body, CONTENT, &mut self.out);
        let finished = self.connection.finish_with_trailers(body, TRAILERS, &mut self.out, Now::default());
        assert_eq!(finished, Ok(()));
    }

    fn respond(&mut self) {
        let Some(exchange) = self.exchange.take() else { return };
        match self.connection.respond(exchange, &head(self.step >> 4), &mut self.out, Now::default()) {
            Ok(body) => self.body = Some(body),
            Err(refused) => self.exchange = Some(refused.token),
        }
    }
}
