//! A server made of a [`Handler`].

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::task::Waker;

use super::slots::Slots;
use super::socket::{Events, Session, Socket, SocketError};
use super::{Handler, Request, Response};
use crate::http1::{
    self, Disposition, Event, Exchange, OwnedRequestHead, ResponseHead, ServerConnection, StatusCode,
};
use crate::input::Input;
use crate::output::SendQueue;
use crate::server::{Admission, After, Closed, ConnectionId, Peer, Server};
use crate::time::{Instant, Now};
use crate::websocket::handshake::{self, NotOpened, Origins, Terms};
use crate::websocket::{self, Close, Message, Role};

/// The limits and times of a [`HandlerServer`], and what it agrees to.
#[derive(Clone, Debug, Default)]
pub struct HandlerConfig {
    /// Those of HTTP.
    pub http: http1::Config,
    /// Those of WebSocket.
    pub websocket: websocket::Config,
    /// Whose pages may open WebSockets. Default: the server's own.
    pub origins: Origins,
    /// The subprotocols that are spoken: the client's favourite of them is agreed to, and [`Socket::protocol`] says which that
    /// is. Default: none.
    pub protocols: Vec<&'static str>,
}

/// The [`Server`] around a [`Handler`].
///
/// A connection holds at most one body or message, and the answers that are not written yet: at most the driver's mark and
/// what one call of the handler sends. It admits every connection: their number is limited by
/// [`DriverConfig::connections`](crate::DriverConfig).
pub struct HandlerServer<H> {
    handler: H,
    settings: Settings,
    connections: Slots<Speaks>,
}

/// The [`HandlerConfig`], as connections share it.
struct Settings {
    http: Arc<http1::Config>,
    websocket: Arc<websocket::Config>,
    origins: Origins,
    protocols: Vec<&'static str>,
}

enum Speaks {
    Http(Http),
    WebSocket(Session),
}

struct Http {
    machine: ServerConnection,
    receiving: Option<Box<Receiving>>,
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
        let HandlerConfig { http, websocket, origins, protocols } = config;
        let settings = Settings { http: Arc::new(http), websocket: Arc::new(websocket), origins, protocols };
        Self { handler, settings, connections: Slots::new() }
    }

    /// The handler.
    pub fn handler(&mut self) -> &mut H {
        &mut self.handler
    }

    /// The handler, when all is over.
    pub fn into_handler(self) -> H {
        self.handler
    }

    /// Takes over the connection's deadline, which every call to it may have changed.
    fn note_deadline(&mut self, id: ConnectionId, out: &SendQueue, now: Now) {
        let deadline = self.connections.get(id).and_then(|speaks| speaks.deadline(out, now));
        self.connections.set_deadline(id, deadline, now.instant);
    }
}

impl<H: Handler> Server for HandlerServer<H> {
    fn start(&mut self, waker: &Waker, _: Now) {
        self.handler.start(waker);
    }

    fn open(&mut self, id: ConnectionId, _: &Peer, now: Now) -> Admission {
        let machine = ServerConnection::new(Arc::clone(&self.settings.http), now);
        let deadline = machine.deadline();
        self.connections.insert(id, Speaks::Http(Http { machine, receiving: None }));
        self.connections.set_deadline(id, deadline, now.instant);
        Admission::Admit
    }

    fn receive(&mut self, id: ConnectionId, input: &mut Input<'_>, out: &mut SendQueue, now: Now) -> After {
        let Self { handler, settings, connections } = self;
        let Some(speaks) = connections.get(id) else { return After::Abort };
        let opened = match speaks {
            Speaks::Http(http) => http.receive(handler, settings, id, input, out, now),
            Speaks::WebSocket(_) => None,
        };
        if let Some(mut session) = opened {
            session.opened(&mut AsEvents(handler), id, out, now);
            *speaks = Speaks::WebSocket(session);
        }
        let after = match speaks {
            Speaks::Http(http) => http.after(),
            // The bytes behind the request are the WebSocket's.
            Speaks::WebSocket(session) => session.receive(&mut AsEvents(handler), id, input, out, now),
        };
        self.note_deadline(id, out, now);
        after
    }

    fn resume(&mut self, id: ConnectionId, out: &mut SendQueue, now: Now) -> After {
        let draining = self.connections.is_draining();
        let Some(speaks) = self.connections.get(id) else { return After::Abort };
        let mut after = match speaks {
            Speaks::Http(http) => {
                http.machine.on_deadline(out, now);
                http.after()
            }
            Speaks::WebSocket(session) => session.resume(&mut AsEvents(&mut self.handler), id, out, now),
        };
        if draining && after == After::Open {
            after = speaks.say_farewell(out, now);
        }
        self.note_deadline(id, out, now);
        after
    }

    fn next_ready(&mut self, _: Now) -> Option<ConnectionId> {
        self.connections.next_ready().or_else(|| {
            let id = self.handler.next_to_wake()?;
            if let Some(Speaks::WebSocket(session)) = self.connections.get(id) {
                session.wake_now();
            }
            Some(id)
        })
    }

    fn deadline(&self) -> Option<Instant> {
        self.connections.deadline()
    }

    fn on_deadline(&mut self, now: Now) {
        self.connections.expire(now.instant);
    }

    fn drain(&mut self, _: Instant, _: Now) {
        self.connections.drain();
    }

    fn closed(&mut self, id: ConnectionId, _: Closed, _: Now) {
        if let Some(Speaks::WebSocket(mut session)) = self.connections.remove(id) {
            session.gone(&mut AsEvents(&mut self.handler), id);
        }
    }
}

impl Speaks {
    fn deadline(&mut self, out: &SendQueue, now: Now) -> Option<Instant> {
        match self {
            // While the output is over its mark it is we who keep the peer waiting; a stalled write is the driver's to notice.
            Self::Http(_) if out.over_mark() => None,
            Self::Http(http) => http.machine.deadline(),
            Self::WebSocket(session) => session.deadline(out, now),
        }
    }

    /// The server stops: an idle connection is closed, another when its answer is sent or its peer has said farewell, too.
    fn say_farewell(&mut self, out: &mut SendQueue, now: Now) -> After {
        match self {
            Self::Http(Http { machine, .. }) => {
                machine.close_after_this();
                if machine.is_idle() { After::Finish } else { After::Open }
            }
            Self::WebSocket(session) => {
                session.say_farewell(out, now);
                After::Open
            }
        }
    }
}

impl Http {
    /// Answers what comes. Returns the WebSocket, when a request has opened one.
    fn receive(
        &mut self,
        handler: &mut impl Handler,
        settings: &Settings,
        id: ConnectionId,
        input: &mut Input<'_>,
        out: &mut SendQueue,
        now: Now,
    ) -> Option<Session> {
        let Self { machine, receiving } = self;
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
                    let received = receiving.take()?;
                    let opened = answer(machine, handler, settings, id, *received, out, now);
                    if opened.is_some() {
                        return opened;
                    }
                }
                Ok(Event::Trailers(_) | Event::Refused(_)) => {}
                // Malformed input is answered already, if it can be.
                Ok(Event::NeedMore | Event::Paused | Event::HungUp | Event::Closed) | Err(_) => break,
            }
        }
        None
    }

    /// What is to become of the connection, as its machine sees it.
    fn after(&self) -> After {
        match self.machine.disposition() {
            Disposition::Open | Disposition::Upgraded => After::Open,
            Disposition::Finish => After::Finish,
            Disposition::Abort => After::Abort,
        }
    }
}

/// Answers a whole request, or upgrades.
fn answer(
    machine: &mut ServerConnection,
    handler: &mut impl Handler,
    settings: &Settings,
    id: ConnectionId,
    received: Receiving,
    out: &mut SendQueue,
    now: Now,
) -> Option<Session> {
    let Receiving { exchange, head, body } = received;
    let head = head.as_head();
    let request = Request { id, head, body: &body };
    if head.wants_upgrade_to("websocket") && handler.accepts_websocket(request) {
        let Settings { origins, protocols, websocket, .. } = settings;
        let compression = Some(&websocket.compression);
        let terms = Terms { origins, protocols, compression, ..Terms::default() };
        return match handshake::answer(machine, exchange, &head, &terms, out, now) {
            // A server's seed only spreads its pings.
            Ok(agreed) => {
                Some(Session::new(agreed, protocols, Role::Server, websocket, id.slot() as u64, now))
            }
            Err(NotOpened::Rejected(_)) => None,
            Err(NotOpened::NotSent(refused)) => {
                put(machine, refused.token, &Response::new(StatusCode::BAD_REQUEST), out, now);
                None
            }
        };
    }
    let response = match head.method() {
        // A 2xx would promise a tunnel (RFC 9110 section 9.3.6).
        "CONNECT" => Response::new(StatusCode::NOT_IMPLEMENTED),
        _ => handler.request(request),
    };
    put(machine, exchange, &response, out, now);
    None
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

/// A handler, as a WebSocket sees it.
struct AsEvents<'h, H>(&'h mut H);

impl<H: Handler> Events for AsEvents<'_, H> {
    fn opened(&mut self, socket: &mut Socket<'_>) {
        self.0.opened(socket);
    }

    fn message(&mut self, message: Message<'_>, socket: &mut Socket<'_>) {
        self.0.message(message, socket);
    }

    fn woken(&mut self, socket: &mut Socket<'_>) {
        self.0.woken(socket);
    }

    fn failed(&mut self, id: ConnectionId, error: SocketError) {
        self.0.failed(id, error);
    }

    fn closed(&mut self, id: ConnectionId, close: Close<'_>) {
        self.0.closed(id, close);
    }
}

#[cfg(all(test, target_pointer_width = "64"))]
mod size {
    use super::Speaks;

    #[test]
    fn a_connection_takes_128_bytes() {
        assert_eq!(size_of::<Speaks>(), 128);
    }
}
