//! A WebSocket between its machine and a handler: the same for servers and clients.

use alloc::sync::Arc;
use core::fmt;
use core::time::Duration;

use crate::input::Input;
use crate::output::{SendQueue, Sink};
use crate::server::{After, ConnectionId};
use crate::time::{Instant, Now, earliest};
use crate::websocket::handshake::{Agreed, HandshakeError};
use crate::websocket::{
    self, Assembler, Close, CloseCode, Event, Expired, Message, Prepared, RecvError, Role, SendError,
};

/// An open WebSocket, for as long as a call lasts.
#[derive(Debug)]
pub struct Socket<'a> {
    id: ConnectionId,
    machine: &'a mut websocket::Connection,
    wake: &'a mut Instant,
    protocol: Option<&'static str>,
    out: &'a mut SendQueue,
    now: Now,
}

impl Socket<'_> {
    /// Which connection it is.
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// The time of this call.
    pub fn now(&self) -> Now {
        self.now
    }

    /// The subprotocol that was agreed to.
    pub fn protocol(&self) -> Option<&'static str> {
        self.protocol
    }

    /// Sends a message.
    ///
    /// # Errors
    ///
    /// The WebSocket is closing: nothing was sent.
    pub fn send(&mut self, message: Message<'_>) -> Result<(), SendError> {
        self.machine.send(message.kind(), message.as_bytes(), self.out)
    }

    /// Sends a message without compressing it, whatever was agreed to: for what is compressed in itself, and for secrets beside
    /// which others can have text of their own sent ([why](crate::websocket::deflate)).
    ///
    /// # Errors
    ///
    /// The WebSocket is closing: nothing was sent.
    pub fn send_uncompressed(&mut self, message: Message<'_>) -> Result<(), SendError> {
        self.machine.send_uncompressed(message.kind(), message.as_bytes(), self.out)
    }

    /// Sends a message that many get: framed once for all of them, and compressed once.
    ///
    /// # Errors
    ///
    /// The WebSocket is closing, or is a client's, which must mask ([`SendError::MustMask`]): nothing was sent.
    pub fn send_prepared(&mut self, message: &Prepared) -> Result<(), SendError> {
        self.out.put(message.for_connection(self.machine)?);
        Ok(())
    }

    /// Sends a ping with up to 125 bytes, after which the peer must be heard within
    /// [`Config::pong_timeout`](crate::websocket::Config::pong_timeout). A peer that is silent is pinged without this, every
    /// [`Config::ping_interval`](crate::websocket::Config::ping_interval).
    ///
    /// # Errors
    ///
    /// The WebSocket is closing, or there are more bytes: nothing was sent.
    pub fn ping(&mut self, payload: &[u8]) -> Result<(), SendError> {
        self.machine.ping(payload, self.out, self.now)
    }

    /// Begins to close it.
    ///
    /// # Errors
    ///
    /// It is closing already, or the reason has more than 123 bytes.
    pub fn close(&mut self, code: CloseCode, reason: &str) -> Result<(), SendError> {
        self.machine.close(code, reason, self.out, self.now)
    }

    /// Has the handler's `woken` called at this time or up to 10 ms later, once, in place of an earlier request;
    /// [`Instant::NEVER`] takes that back. It is put off while the peer takes in less than is sent
    /// ([`output_mark`](crate::DriverConfig::output_mark)), and left away when the WebSocket is closing.
    pub fn wake_at(&mut self, at: Instant) {
        *self.wake = at;
    }

    /// The same, so much later than [`now`](Self::now).
    pub fn wake_after(&mut self, time: Duration) {
        self.wake_at(self.now.instant + time);
    }
}

/// Why a WebSocket failed. A handler is told; what the peer is told was sent already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SocketError {
    /// What came is malformed, or more than the limits allow.
    Malformed(RecvError),
    /// The peer took too long.
    Expired(Expired),
    /// Only of a client: the handshake was not answered, or not so that it could be understood.
    Handshake(HandshakeError),
    /// Only of a client: the connection broke, or was given up, before the handshake was answered.
    Lost,
}

impl fmt::Display for SocketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => error.fmt(f),
            Self::Expired(expired) => expired.fmt(f),
            Self::Handshake(error) => error.fmt(f),
            Self::Lost => f.write_str("the connection was lost"),
        }
    }
}

impl core::error::Error for SocketError {}

/// What happens on a WebSocket: the part of both traits of handlers that is the same.
pub(super) trait Events {
    fn opened(&mut self, socket: &mut Socket<'_>);
    fn message(&mut self, message: Message<'_>, socket: &mut Socket<'_>);
    fn woken(&mut self, socket: &mut Socket<'_>);
    fn failed(&mut self, id: ConnectionId, error: SocketError);
    fn closed(&mut self, id: ConnectionId, close: Close<'_>);
}

/// An open WebSocket, for as long as it is.
pub(super) struct Session {
    machine: websocket::Connection,
    assembler: Assembler,
    /// When the handler is to be woken.
    wake: Instant,
    protocol: Option<&'static str>,
    role: Role,
    /// The handler was told the end.
    over: bool,
    /// So much waits to be written that no input is taken: a silence of the peer says nothing.
    held: bool,
    /// The handler named it: it is to be woken whatever the time.
    named: bool,
}

impl Session {
    /// `protocols` are those that were offered, or are spoken: one of them was agreed to.
    pub(super) fn new(
        agreed: Agreed<'_>,
        protocols: &[&'static str],
        role: Role,
        config: &Arc<websocket::Config>,
        seed: u64,
        now: Now,
    ) -> Self {
        Self {
            assembler: Assembler::new(usize::try_from(config.message_bytes).unwrap_or(usize::MAX)),
            wake: Instant::NEVER,
            protocol: protocols.iter().copied().find(|protocol| agreed.protocol == Some(protocol)),
            machine: agreed.connection(role, Arc::clone(config), seed, now),
            role,
            over: false,
            held: false,
            named: false,
        }
    }

    pub(super) fn opened(
        &mut self,
        events: &mut impl Events,
        id: ConnectionId,
        out: &mut SendQueue,
        now: Now,
    ) {
        let Self { machine, wake, protocol, .. } = self;
        events.opened(&mut Socket { id, machine, wake, protocol: *protocol, out, now });
    }

    pub(super) fn receive(
        &mut self,
        events: &mut impl Events,
        id: ConnectionId,
        input: &mut Input<'_>,
        out: &mut SendQueue,
        now: Now,
    ) -> After {
        let Self { machine, assembler, wake, protocol, .. } = self;
        while !out.over_mark() {
            match machine.recv(input, out, now) {
                Ok(Event::Data { kind, bytes, first, last }) => {
                    // What comes after our own Close frame has no answer.
                    if machine.is_closing() {
                        continue;
                    }
                    if let Ok(Some(message)) = assembler.push(kind, &bytes, first, last) {
                        let socket = &mut Socket { id, machine, wake, protocol: *protocol, out, now };
                        events.message(message, socket);
                        assembler.release();
                    }
                }
                Ok(Event::Ping(_) | Event::Pong(_)) => {}
                // A client that said farewell waits for the server to end the stream.
                Ok(Event::NeedMore) if self.over && input.hung_up() => return After::Finish,
                Ok(Event::NeedMore) => return After::Open,
                Ok(Event::Closed(close)) => {
                    self.over = true;
                    events.closed(id, close);
                    match self.role {
                        Role::Client if !input.hung_up() => return After::Open,
                        Role::Client | Role::Server => return After::Finish,
                    }
                }
                // The farewell is in the output.
                Err(error) => return self.fail(SocketError::Malformed(error), events, id),
            }
        }
        After::Open
    }

    /// A deadline may have passed.
    pub(super) fn resume(
        &mut self,
        events: &mut impl Events,
        id: ConnectionId,
        out: &mut SendQueue,
        now: Now,
    ) -> After {
        if core::mem::take(&mut self.held) {
            // What the peer said meanwhile is heard first, and a ping that it could not see is not held against it.
            self.machine.postpone_pong(now);
        } else if let Some(expired) = self.machine.on_deadline(out, now) {
            // All was said before if this is a client whose server does not end the stream.
            let failed = !self.over;
            return if failed { self.fail(SocketError::Expired(expired), events, id) } else { After::Abort };
        }
        let Self { machine, wake, protocol, named, .. } = self;
        let due = *wake <= now.instant;
        if due {
            *wake = Instant::NEVER;
        }
        if (core::mem::take(named) || due) && !machine.is_closing() {
            events.woken(&mut Socket { id, machine, wake, protocol: *protocol, out, now });
        }
        After::Open
    }

    /// The handler has something to say: it is woken when this is resumed.
    pub(super) fn wake_now(&mut self) {
        self.named = true;
    }

    /// When to resume it at the latest, after a call that left the output like this. Later than now, even if the time has come
    /// already: others have their turn first.
    pub(super) fn deadline(&mut self, out: &SendQueue, now: Now) -> Option<Instant> {
        self.held = out.over_mark();
        let wake = Some(self.wake).filter(|wake| *wake != Instant::NEVER);
        let soonest = now.instant + Duration::from_nanos(1);
        earliest(self.machine.deadline(), wake).map(|at| at.max(soonest))
    }

    /// Everything ends: the peer is told so, and has some time to answer.
    pub(super) fn say_farewell(&mut self, out: &mut SendQueue, now: Now) {
        let _closing_already = self.machine.close(CloseCode::GOING_AWAY, "", out, now);
    }

    /// The connection is gone.
    pub(super) fn gone(&mut self, events: &mut impl Events, id: ConnectionId) {
        if !core::mem::replace(&mut self.over, true) {
            events.closed(id, Close::ABNORMAL);
        }
    }

    fn fail(&mut self, error: SocketError, events: &mut impl Events, id: ConnectionId) -> After {
        events.failed(id, error);
        self.gone(events, id);
        After::Finish
    }
}
