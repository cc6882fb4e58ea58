//! The smallest way to a server: a [`Handler`] of whole requests and whole messages.
//!
//! [`Server`] is for servers that hold, stream and push. Where each request has its answer, and each message at most its own,
//! [`HandlerServer`] does the rest: it collects bodies and messages up to their limits, pipelines, keeps alive, upgrades, keeps the
//! deadlines of every connection, and says farewell when the server drains. It is a `Server` like any other, for any runtime.
//!
//! ```
//! use keepwatch_protocol::handler::{Handler, HandlerServer, Request, Response, Socket};
//! use keepwatch_protocol::http1::RequestHead;
//! use keepwatch_protocol::websocket::Message;
//!
//! /// Answers each request with its body, and each message with itself.
//! struct Echo;
//!
//! impl Handler for Echo {
//!     fn request(&mut self, request: Request<'_>) -> Response {
//!         Response::ok(request.body)
//!     }
//!
//!     fn accepts_websocket(&mut self, _: &RequestHead<'_>) -> bool {
//!         true
//!     }
//!
//!     fn message(&mut self, message: Message<'_>, socket: &mut Socket<'_>) {
//!         let _closing = socket.send(message);
//!     }
//! }
//!
//! let server = HandlerServer::new(Echo); // runtime.serve(server)
//! # drop(server);
//! ```

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::time::Duration;

use crate::http1::{
    self, Disposition, Event, Exchange, OwnedRequestHead, RequestHead, ResponseHead, ServerConnection,
    StatusCode, Version,
};
use crate::input::Input;
use crate::output::SendQueue;
use crate::server::{Admission, After, Closed, ConnectionId, Peer, Server};
use crate::time::{Instant, Now};
use crate::timer::Wheel;
use crate::websocket::{self, Assembler, CloseCode, Message, Role, SendError, handshake};

/// What a server does with whole requests and messages. See the [module](self).
pub trait Handler {
    /// A request came, with its whole body: at most [`Limits::body_bytes`](http1::Limits::body_bytes), more was answered 413.
    /// HEAD is answered as GET is, and the body of the answer is left away (RFC 9110 section 9.3.2).
    fn request(&mut self, request: Request<'_>) -> Response;

    /// A request asks for a WebSocket, and its handshake is in order. Who takes one from a browser looks at its `Origin` here.
    /// If not, it is a [`request`](Handler::request) like any other. Default: no.
    fn accepts_websocket(&mut self, head: &RequestHead<'_>) -> bool {
        let _ = head;
        false
    }

    /// A WebSocket is open.
    fn opened(&mut self, socket: &mut Socket<'_>) {
        let _ = socket;
    }

    /// A message came, at most [`Config::message_bytes`](websocket::Config::message_bytes) long.
    fn message(&mut self, message: Message<'_>, socket: &mut Socket<'_>) {
        let _ = (message, socket);
    }

    /// A WebSocket that was [`opened`](Handler::opened) is gone. Once for each.
    fn closed(&mut self, id: ConnectionId) {
        let _ = id;
    }
}

/// A whole request.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Request<'a> {
    /// The connection that it came on.
    pub id: ConnectionId,
    /// Its head.
    pub head: RequestHead<'a>,
    /// Its body; empty if it has none.
    pub body: &'a [u8],
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    status: StatusCode,
    fields: Vec<(Cow<'static, str>, Vec<u8>)>,
    body: Vec<u8>,
}

impl Response {
    /// An answer without fields and without a body.
    pub fn new(status: StatusCode) -> Self {
        Self { status, fields: Vec::new(), body: Vec::new() }
    }

    /// 200 with a body.
    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self::new(StatusCode::OK).with_body(body)
    }

    /// Adds a field. Those of framing and of the connection, and `Date`, are the machine's: an answer that has one of them,
    /// or a name or a value that is none, becomes an empty 500.
    #[must_use]
    pub fn with_field(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Vec<u8>>) -> Self {
        self.fields.push((name.into(), value.into()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }
}

/// An open WebSocket, for as long as a call lasts.
#[derive(Debug)]
pub struct Socket<'a> {
    id: ConnectionId,
    machine: &'a mut websocket::Connection,
    out: &'a mut SendQueue,
    now: Now,
}

impl Socket<'_> {
    /// Which connection it is.
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// Sends a message.
    ///
    /// # Errors
    ///
    /// The WebSocket is closing: nothing was sent.
    pub fn send(&mut self, message: Message<'_>) -> Result<(), SendError> {
        self.machine.send(message.kind(), message.as_bytes(), self.out)
    }

    /// Begins to close it.
    ///
    /// # Errors
    ///
    /// It is closing already, or the reason has more than 123 bytes.
    pub fn close(&mut self, code: CloseCode, reason: &str) -> Result<(), SendError> {
        self.machine.close(code, reason, self.out, self.now)
    }
}

/// The limits and times of a [`HandlerServer`].
#[derive(Clone, Debug, Default)]
pub struct HandlerConfig {
    /// Those of HTTP.
    pub http: http1::Config,
    /// Those of WebSocket.
    pub websocket: websocket::Config,
}

/// The [`Server`] around a [`Handler`].
///
/// A connection holds at most one body or message, and the answers that are not written yet: at most the driver's mark and
/// one more. It admits every connection: their number is limited by [`DriverConfig::connections`](crate::DriverConfig).
pub struct HandlerServer<H> {
    handler: H,
    http: Arc<http1::Config>,
    websocket: Arc<websocket::Config>,
    /// By slot.
    connections: Vec<Option<Connection>>,
    deadlines: Wheel,
    /// Whose deadline has passed.
    due: VecDeque<ConnectionId>,
    /// Slots that are still to be told that the server stops.
    farewells: Range<usize>,
    draining: bool,
}

struct Connection {
    id: ConnectionId,
    speaks: Speaks,
}

enum Speaks {
    Http { machine: ServerConnection, receiving: Option<Box<Receiving>> },
    WebSocket { machine: websocket::Connection, assembler: Assembler },
}

/// A request whose end has not come.
struct Receiving {
    exchange: Exchange,
    head: OwnedRequestHead,
    body: Vec<u8>,
}

impl<H: Handler> HandlerServer<H> {
    /// With the default limits and times.
    pub fn new(handler: H) -> Self {
        Self::with_config(handler, HandlerConfig::default())
    }

    /// With these limits and times.
    pub fn with_config(handler: H, config: HandlerConfig) -> Self {
        Self {
            handler,
            http: Arc::new(config.http),
            websocket: Arc::new(config.websocket),
            connections: Vec::new(),
            deadlines: Wheel::new(Duration::from_millis(10)),
            due: VecDeque::new(),
            farewells: 0..0,
            draining: false,
        }
    }

    /// The handler.
    pub fn handler(&mut self) -> &mut H {
        &mut self.handler
    }

    fn parts(&mut self, id: ConnectionId) -> Option<(&mut H, &mut Speaks)> {
        let connection =
            self.connections.get_mut(id.slot())?.as_mut().filter(|connection| connection.id == id)?;
        Some((&mut self.handler, &mut connection.speaks))
    }

    /// Takes over the connection's deadline, which every call to it may have changed.
    fn note_deadline(&mut self, id: ConnectionId, out: Option<&SendQueue>) {
        // While the output is over its mark it is we who keep the peer waiting; a stalled write is the driver's to notice.
        let waits = out.is_some_and(SendQueue::over_mark);
        let deadline = match self.parts(id) {
            Some((_, speaks)) if !waits => speaks.deadline(),
            _ => None,
        };
        self.deadlines.set(id.slot(), deadline.unwrap_or(Instant::NEVER));
    }
}

impl<H: Handler> Server for HandlerServer<H> {
    fn open(&mut self, id: ConnectionId, _: &Peer, now: Now) -> Admission {
        let machine = ServerConnection::new(Arc::clone(&self.http), now);
        if self.connections.len() <= id.slot() {
            self.connections.resize_with(id.slot() + 1, || None);
        }
        let speaks = Speaks::Http { machine, receiving: None };
        self.connections[id.slot()] = Some(Connection { id, speaks });
        self.note_deadline(id, None);
        Admission::Admit
    }

    fn receive(&mut self, id: ConnectionId, input: &mut Input<'_>, out: &mut SendQueue, now: Now) -> After {
        let config = Arc::clone(&self.websocket);
        let Some((handler, speaks)) = self.parts(id) else { return After::Abort };
        let mut after = speaks.receive(handler, id, input, out, now);
        if speaks.is_upgraded() {
            // The bytes behind the request are the WebSocket's. A server's seed only spreads its pings.
            let assembler = Assembler::new(usize::try_from(config.message_bytes).unwrap_or(usize::MAX));
            let machine = websocket::Connection::new(Role::Server, config, id.slot() as u64, now);
            *speaks = Speaks::WebSocket { machine, assembler };
            if let Speaks::WebSocket { machine, .. } = speaks {
                handler.opened(&mut Socket { id, machine, out, now });
            }
            after = speaks.receive(handler, id, input, out, now);
        }
        self.note_deadline(id, Some(out));
        after
    }

    fn resume(&mut self, id: ConnectionId, out: &mut SendQueue, now: Now) -> After {
        let draining = self.draining;
        let Some((_, speaks)) = self.parts(id) else { return After::Abort };
        let mut after = speaks.on_deadline(out, now);
        if draining && after == After::Open {
            after = speaks.say_farewell(out, now);
        }
        self.note_deadline(id, Some(out));
        after
    }

    fn next_ready(&mut self, _: Now) -> Option<ConnectionId> {
        let Self { due, farewells, connections, .. } = self;
        due.pop_front().or_else(|| farewells.find_map(|slot| Some(connections.get(slot)?.as_ref()?.id)))
    }

    fn deadline(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    fn on_deadline(&mut self, now: Now) {
        while let Some(slot) = self.deadlines.expire(now.instant) {
            let owner = self.connections.get(slot).and_then(Option::as_ref);
            self.due.extend(owner.map(|connection| connection.id));
        }
    }

    fn drain(&mut self, _: Instant, _: Now) {
        self.draining = true;
        self.farewells = 0..self.connections.len();
    }

    fn closed(&mut self, id: ConnectionId, _: Closed, _: Now) {
        if let Some((handler, Speaks::WebSocket { .. })) = self.parts(id) {
            handler.closed(id);
        }
        if let Some(connection) = self.connections.get_mut(id.slot()) {
            *connection = None;
        }
        self.deadlines.cancel(id.slot());
    }
}

impl Speaks {
    fn receive(
        &mut self,
        handler: &mut impl Handler,
        id: ConnectionId,
        input: &mut Input<'_>,
        out: &mut SendQueue,
        now: Now,
    ) -> After {
        match self {
            Self::Http { machine, receiving } => {
                while !out.over_mark() {
                    match machine.recv(input, out, now) {
                        Ok(Event::Request(head, exchange)) => {
                            // Refused only if it is too late for it.
                            let _sent = machine.proceed(&exchange, out);
                            let head = head.to_owned();
                            *receiving = Some(Box::new(Receiving { exchange, head, body: Vec::new() }));
                        }
                        Ok(Event::Data(bytes)) => {
                            if let Some(receiving) = receiving {
                                receiving.body.extend_from_slice(bytes);
                            }
                        }
                        Ok(Event::EndOfRequest) => {
                            if let Some(received) = receiving.take() {
                                answer(machine, handler, id, *received, out, now);
                            }
                        }
                        Ok(Event::Trailers(_) | Event::Refused(_)) => {}
                        // Malformed input is answered already, if it can be.
                        Ok(Event::NeedMore | Event::Paused | Event::HungUp | Event::Closed) | Err(_) => break,
                    }
                }
                after(machine)
            }
            Self::WebSocket { machine, assembler } => {
                while !out.over_mark() {
                    match machine.recv(input, out, now) {
                        Ok(websocket::Event::Data { kind, bytes, first, last }) => {
                            // What comes after our own Close frame has no answer.
                            if machine.is_closing() {
                                continue;
                            }
                            if let Ok(Some(message)) = assembler.push(kind, bytes, first, last) {
                                handler.message(message, &mut Socket { id, machine, out, now });
                                if !first {
                                    assembler.release();
                                }
                            }
                        }
                        Ok(websocket::Event::Ping(_) | websocket::Event::Pong(_)) => {}
                        Ok(websocket::Event::NeedMore) => return After::Open,
                        // The farewell is in the output.
                        Ok(websocket::Event::Closed(_)) | Err(_) => return After::Finish,
                    }
                }
                After::Open
            }
        }
    }

    fn is_upgraded(&self) -> bool {
        matches!(self, Self::Http { machine, .. } if machine.disposition() == Disposition::Upgraded)
    }

    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Http { machine, .. } => machine.deadline(),
            Self::WebSocket { machine, .. } => machine.deadline(),
        }
    }

    fn on_deadline(&mut self, out: &mut SendQueue, now: Now) -> After {
        match self {
            Self::Http { machine, .. } => {
                machine.on_deadline(out, now);
                after(machine)
            }
            // Without a reason to give up, a ping was sent, or the deadline had moved.
            Self::WebSocket { machine, .. } => match machine.on_deadline(out, now) {
                Some(_expired) => After::Finish,
                None => After::Open,
            },
        }
    }

    /// The server stops: an idle connection is closed, another when its answer is sent or its peer has said farewell, too.
    fn say_farewell(&mut self, out: &mut SendQueue, now: Now) -> After {
        match self {
            Self::Http { machine, .. } => {
                machine.close_after_this();
                if machine.is_idle() { After::Finish } else { After::Open }
            }
            Self::WebSocket { machine, .. } => {
                let _closing_already = machine.close(CloseCode::GOING_AWAY, "", out, now);
                After::Open
            }
        }
    }
}

/// What is to become of an HTTP connection, as its machine sees it.
fn after(machine: &ServerConnection) -> After {
    match machine.disposition() {
        Disposition::Open | Disposition::Upgraded => After::Open,
        Disposition::Finish => After::Finish,
        Disposition::Abort => After::Abort,
    }
}

/// Answers a whole request, or upgrades.
fn answer(
    machine: &mut ServerConnection,
    handler: &mut impl Handler,
    id: ConnectionId,
    received: Receiving,
    out: &mut SendQueue,
    now: Now,
) {
    let Receiving { exchange, head, body } = received;
    let head = head.as_head();
    let mut response = None;
    if head.wants_upgrade_to("websocket") {
        let fields = head.fields().iter().map(|field| (field.name, field.value));
        match handshake::check(head.method(), head.version() == Version::Http11, fields) {
            Ok(accepted) if handler.accepts_websocket(&head) => {
                let fields: [(&str, &[u8]); 1] = [("Sec-WebSocket-Accept", accepted.accept_key())];
                let Err(refused) = machine.upgrade(exchange, &fields, out, now) else { return };
                return put(machine, refused.token, &Response::new(StatusCode::BAD_REQUEST), out, now);
            }
            Ok(_) => {}
            Err(rejected) => response = Some(rejection(rejected)),
        }
    }
    let response = response.unwrap_or_else(|| match head.method() {
        // A 2xx would promise a tunnel (RFC 9110 section 9.3.6).
        "CONNECT" => Response::new(StatusCode::NOT_IMPLEMENTED),
        _ => handler.request(Request { id, head, body: &body }),
    });
    put(machine, exchange, &response, out, now);
}

fn rejection(rejected: handshake::Rejected) -> Response {
    let status = StatusCode::new(rejected.status()).unwrap_or(StatusCode::BAD_REQUEST);
    let response = Response::new(status).with_body(rejected.reason());
    rejected.fields().iter().fold(response, |response, (name, value)| response.with_field(*name, *value))
}

fn put(
    machine: &mut ServerConnection,
    exchange: Exchange,
    response: &Response,
    out: &mut SendQueue,
    now: Now,
) {
    let fields: Vec<(&str, &[u8])> =
        response.fields.iter().map(|(name, value)| (&**name, value.as_slice())).collect();
    let head = ResponseHead::empty(response.status, &fields);
    if let Err(refused) = machine.answer(exchange, &head, &response.body, out, now) {
        let head = ResponseHead::empty(StatusCode::INTERNAL_SERVER_ERROR, &[]);
        // It has nothing that could be refused.
        let _put = machine.answer(refused.token, &head, b"", out, now);
    }
}
