//! An echo server as one machine: HTTP/1.1 requests are answered with their own content, and a WebSocket gets back each message
//! that it sends. No socket, no clock, no thread: any runtime can drive it.
//!
//! Nothing is held whole. Content and messages go back in the parts in which they come, and when a peer reads slower than it
//! writes, the machine leaves its input where it is until the output is below its mark again: so the peer is slowed down, and
//! not the memory filled.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use keepwatch_protocol::http1::{
    self, BodyTx, Disposition, Exchange, Limits, RequestHead, ResponseHead, SendError, ServerConnection,
    StatusCode,
};
use keepwatch_protocol::timer::Wheel;
use keepwatch_protocol::websocket::{self, CloseCode, Role, handshake};
use keepwatch_protocol::{
    Admission, After, Closed, ConnectionId, Input, Instant, Now, Peer, SendQueue, Server,
};

/// The largest content, and the largest message.
const LARGEST: u64 = 64 << 20;
/// Content up to this size is collected, so that its length is known and the connection can be used again. An answer that begins
/// before its request has ended has to be the last.
const COLLECTED: usize = 64 << 10;

/// The server: its connections, and their deadlines.
pub(crate) struct Echo {
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
    Http { machine: ServerConnection, answer: Answer },
    WebSocket(websocket::Connection),
}

/// What is known of the answer to the current request.
enum Answer {
    /// There is no request, or it is answered.
    None,
    /// The request's content is collected.
    Collecting { exchange: Exchange, status: StatusCode, kind: Vec<u8>, content: Vec<u8> },
    /// The head has gone, content follows as it comes.
    Sending(BodyTx),
}

impl Echo {
    pub(crate) fn new() -> Self {
        let limits = Limits { body_bytes: LARGEST, ..Limits::default() };
        Self {
            http: Arc::new(http1::Config { limits, ..http1::Config::default() }),
            websocket: Arc::new(websocket::Config { message_bytes: LARGEST, ..websocket::Config::default() }),
            connections: Vec::new(),
            deadlines: Wheel::new(Duration::from_millis(10)),
            due: VecDeque::new(),
            farewells: 0..0,
            draining: false,
        }
    }

    fn connection(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.connections.get_mut(id.slot())?.as_mut()
    }

    /// Takes over the connection's deadline, which every call to it may have changed.
    fn note_deadline(&mut self, id: ConnectionId, out: &SendQueue) {
        // While the output is over its mark it is we who keep the peer waiting; a stalled write is the driver's to notice.
        let deadline = self.connection(id).filter(|_| !out.over_mark()).and_then(|c| c.speaks.deadline());
        self.deadlines.set(id.slot(), deadline.unwrap_or(Instant::NEVER));
    }
}

impl Server for Echo {
    fn open(&mut self, id: ConnectionId, _peer: &Peer, now: Now) -> Admission {
        let machine = ServerConnection::new(Arc::clone(&self.http), now);
        let connection = Connection { id, speaks: Speaks::Http { machine, answer: Answer::None } };
        if self.connections.len() <= id.slot() {
            self.connections.resize_with(id.slot() + 1, || None);
        }
        self.connections[id.slot()] = Some(connection);
        self.note_deadline(id, &SendQueue::default());
        Admission::Admit
    }

    fn receive(&mut self, id: ConnectionId, input: &mut Input<'_>, out: &mut SendQueue, now: Now) -> After {
        let websocket = Arc::clone(&self.websocket);
        let Some(Connection { speaks, .. }) = self.connection(id) else { return After::Abort };
        let mut after = speaks.receive(input, out, now);
        if let Speaks::Http { machine, .. } = speaks {
            if machine.disposition() == Disposition::Upgraded {
                // The bytes behind the request are the WebSocket's. The seed only spreads a server's pings.
                let seed = id.slot() as u64;
                *speaks = Speaks::WebSocket(websocket::Connection::new(Role::Server, websocket, seed, now));
                after = speaks.receive(input, out, now);
            }
        }
        self.note_deadline(id, out);
        after
    }

    fn resume(&mut self, id: ConnectionId, out: &mut SendQueue, now: Now) -> After {
        let draining = self.draining;
        let Some(Connection { speaks, .. }) = self.connection(id) else { return After::Abort };
        let mut after = speaks.on_deadline(out, now);
        if draining && after == After::Open {
            after = speaks.farewell(out, now);
        }
        self.note_deadline(id, out);
        after
    }

    fn next_ready(&mut self, _now: Now) -> Option<ConnectionId> {
        let Self { due, farewells, connections, .. } = self;
        due.pop_front().or_else(|| farewells.find_map(|slot| Some(connections.get(slot)?.as_ref()?.id)))
    }

    fn deadline(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    fn on_deadline(&mut self, now: Now) {
        while let Some(slot) = self.deadlines.expire(now.instant) {
            self.due
                .extend(self.connections.get(slot).and_then(Option::as_ref).map(|connection| connection.id));
        }
    }

    fn drain(&mut self, _by: Instant, _now: Now) {
        self.draining = true;
        self.farewells = 0..self.connections.len();
    }

    fn closed(&mut self, id: ConnectionId, _why: Closed, _now: Now) {
        self.connections[id.slot()] = None;
        self.deadlines.cancel(id.slot());
    }
}

impl Speaks {
    fn receive(&mut self, input: &mut Input<'_>, out: &mut SendQueue, now: Now) -> After {
        match self {
            Self::Http { machine, answer } => receive_http(machine, answer, input, out, now),
            Self::WebSocket(machine) => receive_websocket(machine, input, out, now),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Http { machine, .. } => machine.deadline(),
            Self::WebSocket(machine) => machine.deadline(),
        }
    }

    fn on_deadline(&mut self, out: &mut SendQueue, now: Now) -> After {
        match self {
            Self::Http { machine, .. } => {
                machine.on_deadline(out, now);
                after(machine)
            }
            // Without a reason to give up, a ping was sent, or the deadline had moved.
            Self::WebSocket(machine) => match machine.on_deadline(out, now) {
                Some(_expired) => After::Finish,
                None => After::Open,
            },
        }
    }

    /// The server stops: an idle connection is closed, another when its answer is sent or its peer has said farewell, too.
    fn farewell(&mut self, out: &mut SendQueue, now: Now) -> After {
        match self {
            Self::Http { machine, .. } => {
                machine.close_after_this();
                if machine.is_idle() { After::Finish } else { After::Open }
            }
            Self::WebSocket(machine) => {
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

fn receive_http(
    machine: &mut ServerConnection,
    answer: &mut Answer,
    input: &mut Input<'_>,
    out: &mut SendQueue,
    now: Now,
) -> After {
    while !out.over_mark() {
        let done = match machine.recv(input, out, now) {
            Ok(http1::Event::Request(head, exchange)) => {
                begin(machine, &head, exchange, out, now).map(|next| *answer = next)
            }
            Ok(http1::Event::Data(bytes)) => add(machine, answer, bytes, out, now),
            Ok(http1::Event::EndOfRequest) => end(machine, answer, out, now),
            Ok(http1::Event::Trailers(_)) => Ok(()),
            Ok(
                http1::Event::NeedMore | http1::Event::Paused | http1::Event::HungUp | http1::Event::Closed,
            ) => {
                break;
            }
            // It is answered already, if it can be.
            Err(_fault) => break,
        };
        if done.is_err() {
            return After::Abort; // a mistake in this file
        }
    }
    after(machine)
}

fn begin(
    machine: &mut ServerConnection,
    head: &RequestHead<'_>,
    exchange: Exchange,
    out: &mut SendQueue,
    now: Now,
) -> Result<Answer, SendError> {
    if head.wants_upgrade_to("websocket") {
        upgrade(machine, head, exchange, out, now)?;
        return Ok(Answer::None);
    }
    machine.proceed(&exchange, out)?;
    let kind = head.fields().first("content-type").unwrap_or(b"application/octet-stream").to_vec();
    // To say 200 here would promise a tunnel (RFC 9110 section 9.3.6).
    let status = if head.method() == "CONNECT" { StatusCode::NOT_IMPLEMENTED } else { StatusCode::OK };
    Ok(Answer::Collecting { exchange, status, kind, content: Vec::new() })
}

fn upgrade(
    machine: &mut ServerConnection,
    head: &RequestHead<'_>,
    exchange: Exchange,
    out: &mut SendQueue,
    now: Now,
) -> Result<(), SendError> {
    // An echo gives nothing away: any page may have one.
    let terms = handshake::Terms { origins: &handshake::Origins::Any, ..handshake::Terms::default() };
    match handshake::answer(machine, exchange, head, &terms, out, now) {
        Ok(_) | Err(handshake::NotOpened::Rejected(_)) => Ok(()),
        Err(handshake::NotOpened::NotSent(refused)) => Err(refused.error),
    }
}

/// More content came.
fn add(
    machine: &mut ServerConnection,
    answer: &mut Answer,
    bytes: &[u8],
    out: &mut SendQueue,
    now: Now,
) -> Result<(), SendError> {
    *answer = match std::mem::replace(answer, Answer::None) {
        Answer::None => Answer::None,
        Answer::Collecting { exchange, status, kind, mut content }
            if content.len() + bytes.len() <= COLLECTED =>
        {
            content.extend_from_slice(bytes);
            Answer::Collecting { exchange, status, kind, content }
        }
        Answer::Collecting { exchange, status, kind, content } => {
            let fields: [(&str, &[u8]); 1] = [("Content-Type", &kind)];
            let head = ResponseHead::stream(status, &fields);
            let mut body = machine.respond(exchange, &head, out, now).map_err(|refused| refused.error)?;
            machine.data(&mut body, &content, out)?;
            machine.data(&mut body, bytes, out)?;
            Answer::Sending(body)
        }
        Answer::Sending(mut body) => {
            machine.data(&mut body, bytes, out)?;
            Answer::Sending(body)
        }
    };
    Ok(())
}

/// The request has ended.
fn end(
    machine: &mut ServerConnection,
    answer: &mut Answer,
    out: &mut SendQueue,
    now: Now,
) -> Result<(), SendError> {
    match std::mem::replace(answer, Answer::None) {
        Answer::None => Ok(()),
        Answer::Collecting { exchange, status, kind, content } => {
            let fields: [(&str, &[u8]); 1] = [("Content-Type", &kind)];
            let head = ResponseHead::empty(status, &fields); // the length is that of the content
            machine.answer(exchange, &head, &content, out, now).map_err(|refused| refused.error)
        }
        Answer::Sending(body) => machine.finish(body, out, now).map_err(|refused| refused.error),
    }
}

fn receive_websocket(
    machine: &mut websocket::Connection,
    input: &mut Input<'_>,
    out: &mut SendQueue,
    now: Now,
) -> After {
    while !out.over_mark() {
        match machine.recv(input, out, now) {
            Ok(websocket::Event::Data { kind, bytes, first, last }) => {
                let sent = if first && last {
                    machine.send(kind, &bytes, out)
                } else {
                    machine.send_part(kind, &bytes, last, out)
                };
                // What comes after our own Close frame has no answer.
                if sent.is_err() && !machine.is_closing() {
                    return After::Abort; // a mistake in this file
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
