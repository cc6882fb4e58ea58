//! The smallest way to a server, or to a client: a handler of whole requests and whole messages.
//!
//! [`Server`](crate::Server) is for servers that hold answers and stream bodies. Where each request has its answer, and WebSockets
//! speak in whole messages, [`HandlerServer`] does the rest: it collects bodies and messages up to their limits, pipelines, keeps alive, upgrades, keeps the
//! deadlines of every connection, and says farewell when the server drains. It is a `Server` like any other, for any runtime.
//! [`WebSocketClient`] is the same for connections that a client made: it asks for WebSockets on them.
//!
//! ```
//! use keepwatch_protocol::handler::{Handler, HandlerServer, Request, Response, Socket};
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
//!     fn accepts_websocket(&mut self, _: Request<'_>) -> bool {
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
//!
//! # The life of a WebSocket
//!
//! What a handler is told of it, of which nothing comes twice but messages and wake-ups:
//!
//! ```text
//!   server   accepts_websocket ─► opened ─┬─ message* ─┬─┬──────────┬─► closed
//!                                  ▲      └─ woken* ───┘ └─ failed ─┘
//!   client   (asked) ──────────────┤
//!                                  ├─ refused       another answer than 101
//!                                  └─ failed        none that can be understood, or in time
//! ```
//!
//! `failed` says what went wrong, and is followed by `closed` if the WebSocket was open. After `closed` nothing comes.
//!
//! # Who is told what, and when
//!
//! A handler speaks on a WebSocket while it has its [`Socket`]: in the calls above. So what is to be said to another one, or to
//! all, is kept, and those that it is for are named:
//!
//! | to say something | |
//! | --- | --- |
//! | to whom has just spoken | [`Socket::send`] |
//! | at a certain time | [`Socket::wake_at`], then in [`woken`](Handler::woken) |
//! | to others, or to all | name them in [`next_to_wake`](Handler::next_to_wake), then in [`woken`](Handler::woken) |
//! | that another thread made | a channel that `next_to_wake` looks into, and the waker of [`start`](Handler::start) for the thread |
//! | the same to many | make it a [`Prepared`](crate::websocket::Prepared) once, then [`Socket::send_prepared`] |
//! | to see whether somebody is there | nothing: silent peers are pinged; or [`Socket::ping`] |
//!
//! `woken` waits for readers that are slow, and what was not said to them is the handler's to keep, to merge or to drop: nothing is
//! queued for them. `protocol/tests/websocket_push.rs` has a room in which all hear what one says;
//! [`HandlerConfig::websocket`] has what is compressed, how long messages may be, and how often is pinged.

mod client;
mod server;
mod slots;
mod socket;

use alloc::borrow::Cow;
use alloc::vec::Vec;

use core::task::Waker;

use crate::http1::{RequestHead, StatusCode};
use crate::server::ConnectionId;
use crate::websocket::{Close, Message};

pub use client::{ClientHandler, WebSocketClient, WebSocketClientConfig};
pub use server::{HandlerConfig, HandlerServer};
pub use socket::{Socket, SocketError};

/// What a server does with whole requests and messages. See the [module](self).
pub trait Handler {
    /// Called once, before anything else. A handler that pushes what other threads make gives them the waker: after it was woken,
    /// [`next_to_wake`](Handler::next_to_wake) is asked soon.
    fn start(&mut self, waker: &Waker) {
        let _ = waker;
    }

    /// A request came, with its whole body: at most [`Limits::body_bytes`](crate::http1::Limits::body_bytes), more was answered
    /// 413. HEAD is answered as GET is, and the body of the answer is left away (RFC 9110 section 9.3.2).
    fn request(&mut self, request: Request<'_>) -> Response;

    /// A request asks for a WebSocket. If this says yes, the answer is 101, or what is wrong with the handshake; 403 if
    /// [`HandlerConfig::origins`] does not let pages of its `Origin` do that. If not, it is a [`request`](Handler::request) like
    /// any other. Where the answer is 101, [`opened`](Handler::opened) is the handler's next call, with the same id: what of the
    /// head it needs to know then can wait in the handler. Default: no.
    fn accepts_websocket(&mut self, request: Request<'_>) -> bool {
        let _ = request;
        false
    }

    /// A WebSocket is open.
    fn opened(&mut self, socket: &mut Socket<'_>) {
        let _ = socket;
    }

    /// A message came, at most [`Config::message_bytes`](crate::websocket::Config::message_bytes) long.
    fn message(&mut self, message: Message<'_>, socket: &mut Socket<'_>) {
        let _ = (message, socket);
    }

    /// The time has come that was set with [`Socket::wake_at`], or [`next_to_wake`](Handler::next_to_wake) named it.
    fn woken(&mut self, socket: &mut Socket<'_>) {
        let _ = socket;
    }

    /// Names a WebSocket that is to be [`woken`](Handler::woken) now, as there is something to say on it: asked after the
    /// handler's other calls, and after its waker was woken, until it says `None`, so each has to be named once and not again.
    /// Like a wake-up by time it is put off while the peer takes in less than is sent, and left away when the WebSocket is
    /// closing; an id whose WebSocket is gone names nothing. Default: none.
    fn next_to_wake(&mut self) -> Option<ConnectionId> {
        None
    }

    /// What came on an open WebSocket is malformed or too much, or the peer took too long. [`closed`](Handler::closed) follows.
    fn failed(&mut self, id: ConnectionId, error: SocketError) {
        let _ = (id, error);
    }

    /// A WebSocket that was [`opened`](Handler::opened) is closed. Once for each.
    fn closed(&mut self, id: ConnectionId, close: Close<'_>) {
        let _ = (id, close);
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
