//! One connection: its protocol machine, and what it is busy with.
//!
//! | activity | for | ends with |
//! | --- | --- | --- |
//! | `Idle` | HTTP between requests | a request |
//! | `Receiving` | a request whose body is coming | its end |
//! | `Writing` | a write that the store decides | its reply |
//! | `Held` | a long poll | a change, the time, the peer's end |
//! | `Stream` | lines or server-sent events | compaction, the peer's end, a drain |
//! | `Sending` | an answer whose body is pulled | its last byte |
//! | `Hello`, `Count` | the demonstrations | the peer's end; the fourth line |
//! | `Socket` | a WebSocket | its close |

use std::time::Duration;

use keepwatch_protocol::http1::{self, Disposition, Exchange, StatusCode};
use keepwatch_protocol::websocket;
use keepwatch_protocol::{
    After, ConnectionId, Fill, Input, Instant, Leases, Now, SendQueue, Slices, earliest,
};

use super::body::Sending;
use super::core::Core;
use super::delivery::{Planned, Reserved, fill_of};
use super::demo::{Count, Hello};
use super::http::Receiving;
use super::kept::Outgoing;
use super::stream::{Held, Stream};
use super::websocket::Socket;
use crate::store::Store;

pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) protocol: Protocol,
    pub(super) activity: Activity,
    /// What is being sent, whatever becomes of where it came from: a body, the rest of a frame that was cut, a lease.
    pub(super) outgoing: Option<Box<Outgoing>>,
    /// When a stream that says nothing until then says `bookmark`.
    pub(super) heartbeat: Instant,
    /// The timer fired.
    due: bool,
    /// A WebSocket's ping stood behind other output when its pong was due.
    ping_waited: bool,
    /// Input was not taken, as so much waited to be written or the turn was over: a silence of the peer says nothing.
    held: bool,
    /// What is due is not looked at before then: it was held back, and may still be, or it began after the farewell.
    again: Instant,
    pub(super) leaving: Leaving,
    pub(super) listed: Listed,
    /// When it last looked there was no room for what it is to be sent.
    pub(super) roomless: bool,
    /// It stands among those that [wait](super::core::Roomless) for that.
    waits: bool,
}

/// What a connection is to be lent next of what is made for it alone.
pub(super) enum Next {
    Piece(Outgoing),
    /// There is more, and no room for it yet: it takes so many bytes.
    NoRoom(usize),
    /// Nothing.
    Nothing,
}

/// Whether a connection stands among those that are [idle](super::core::IdleConnections) between requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listed {
    No,
    /// It was idle, and has not been used since.
    Idle,
    Used,
}

impl Listed {
    /// A request has come.
    pub(super) fn used(&mut self) {
        if *self == Self::Idle {
            *self = Self::Used;
        }
    }
}

/// How long what is due waits for a connection whose input is held back. Its peer is slow: to look at every tick would be to
/// spin.
const HELD_BACK: Duration = Duration::from_millis(500);

/// Whether the server drains, as far as a connection is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    No,
    /// It is told so when its farewell is due.
    Untold,
    /// It ends with what it is busy with.
    Told,
}

pub(super) enum Protocol {
    Http(http1::ServerConnection),
    WebSocket(websocket::Connection),
}

pub(super) enum Activity {
    Idle,
    Receiving(Box<Receiving>),
    Writing(Exchange),
    Held(Held),
    Stream(Stream),
    Sending(Box<Sending>),
    Hello(Hello),
    Count(Count),
    Socket(Socket),
}

impl Connection {
    pub(super) fn new<S>(id: ConnectionId, core: &Core<S>, now: Now) -> Self {
        Self {
            id,
            protocol: Protocol::Http(http1::ServerConnection::new(core.http.clone(), now)),
            activity: Activity::Idle,
            outgoing: None,
            heartbeat: Instant::NEVER,
            due: false,
            ping_waited: false,
            held: false,
            again: Instant::START,
            leaving: Leaving::No,
            listed: Listed::No,
            roomless: false,
            waits: false,
        }
    }

    pub(super) fn slot(&self) -> u32 {
        self.id.slot() as u32
    }

    pub(super) fn receive<S: Store>(
        &mut self,
        core: &mut Core<S>,
        input: &mut Input<'_>,
        out: &mut SendQueue,
        now: Now,
    ) -> After {
        let mut after = After::Open;
        if let Protocol::Http(_) = self.protocol {
            after = self.receive_http(core, input, out, now);
        }
        // Frames may have come glued to the handshake.
        let mut paused = false;
        if let Protocol::WebSocket(_) = self.protocol {
            after = self.receive_websocket(core, input, out, now);
            paused = after == After::Paused;
        }
        self.held = paused || out.over_mark();
        after
    }

    /// Others made the connection ready: a change, a reply, a line, its timer.
    pub(super) fn resume<S: Store>(&mut self, core: &mut Core<S>, out: &mut SendQueue, now: Now) -> After {
        let due = std::mem::take(&mut self.due);
        if due {
            if let Some(after) = self.protocol_deadline(out, now) {
                self.stop(core);
                return after;
            }
            let farewell = core.farewells.filter(|_| self.leaving == Leaving::Untold);
            if farewell.is_some_and(|farewells| farewells.at(self.id) <= now.instant) {
                self.leaving = Leaving::Told;
                return self.say_farewell(core, out, now);
            }
        }
        self.go_on(core, out, now)
    }

    fn go_on<S: Store>(&mut self, core: &mut Core<S>, out: &mut SendQueue, now: Now) -> After {
        let after = match self.protocol {
            Protocol::Http(_) => self.resume_http(core, out, now),
            Protocol::WebSocket(_) => self.resume_websocket(core, out, now),
        };
        self.held |= out.over_mark();
        after
    }

    fn protocol_deadline(&mut self, out: &mut SendQueue, now: Now) -> Option<After> {
        if std::mem::take(&mut self.held) {
            self.again = now.instant + HELD_BACK;
            // What the peer said meanwhile is heard first, and a ping that it could not see is not held against it.
            if let Protocol::WebSocket(websocket) = &mut self.protocol {
                websocket.postpone_pong(now);
            }
            return None;
        }
        match &mut self.protocol {
            Protocol::Http(http) if http.deadline().is_some_and(|at| at <= now.instant) => {
                http.on_deadline(out, now).map(|expired| match expired.then {
                    Disposition::Abort => After::Abort,
                    _ => After::Finish,
                })
            }
            Protocol::WebSocket(websocket) if websocket.deadline().is_some_and(|at| at <= now.instant) => {
                // A reader that is slow has not seen a ping that stands behind what it reads, and after that it has the
                // whole time again. One that reads nothing is the driver's to give up.
                let waits = !out.is_empty() || self.outgoing.is_some();
                let postponed = (waits || self.ping_waited) && websocket.postpone_pong(now);
                self.ping_waited = waits && postponed;
                // What else is due has not been put off by that.
                websocket.on_deadline(out, now).map(|expired| match expired {
                    // It did not answer: it will not read a farewell to its end either.
                    websocket::Expired::CloseMissing => After::Abort,
                    _ => After::Finish,
                })
            }
            _ => None,
        }
    }

    /// What is due is told to the peer in a way that its protocol has for it.
    fn say_farewell<S: Store>(&mut self, core: &mut Core<S>, out: &mut SendQueue, now: Now) -> After {
        // There may be more than the time that it was made ready for.
        let after = self.go_on(core, out, now);
        match &mut self.protocol {
            Protocol::WebSocket(websocket) => {
                // Refused only if it closes already.
                let code = websocket::CloseCode::GOING_AWAY;
                let _closing = websocket.close(code, "the server is going away", out, now);
                self.stop(core);
                After::Open
            }
            Protocol::Http(_) => match self.activity {
                Activity::Held(_) => self.answer_hold(core, out, now),
                Activity::Stream(_) | Activity::Hello(_) => self.end_stream(core, out, now),
                // These come to an end by themselves, and then the connection does.
                Activity::Idle
                | Activity::Receiving(_)
                | Activity::Writing(_)
                | Activity::Sending(_)
                | Activity::Count(_)
                | Activity::Socket(_) => after,
            },
        }
    }

    /// Whether nothing more is said of what the connection was busy with.
    fn is_over(&self) -> bool {
        match (&self.protocol, &self.activity) {
            (Protocol::Http(_), activity) => matches!(activity, Activity::Idle),
            (Protocol::WebSocket(websocket), _) => websocket.is_closing() || websocket.is_closed(),
        }
    }

    /// Lends what is due, from its cursor on.
    pub(super) fn fill<'a, S: Store>(
        &'a mut self,
        core: &'a mut Core<S>,
        to: &mut Slices<'a>,
        now: Now,
    ) -> Fill {
        let all = self.prepare(core, now);
        if let Some(outgoing) = &self.outgoing {
            outgoing.lend(to);
            return Fill::More;
        }
        let room = core.delivery.lend(&core.view, to);
        fill_of(!core.delivery.is_empty(), all && room)
    }

    /// The same for writes that outlive the call: what is lent leaves the log's keeping first.
    pub(super) fn lease<S: Store>(&mut self, core: &mut Core<S>, to: &mut Leases, now: Now) -> Fill {
        let all = self.prepare(core, now);
        if self.outgoing.is_none() && !core.delivery.is_empty() {
            let (outgoing, frames) = core.delivery.take(&core.view, &mut core.index);
            core.metrics.since.frames += frames;
            self.outgoing = Some(Box::new(outgoing));
        }
        match &self.outgoing {
            None => fill_of(false, all),
            Some(outgoing) => {
                outgoing.lease(to);
                Fill::More
            }
        }
    }

    /// Makes ready what is to be lent: the next piece of a body, or a plan. Returns whether that is all for now.
    fn prepare<S: Store>(&mut self, core: &mut Core<S>, now: Now) -> bool {
        core.delivery.clear();
        core.view.drop_most_encodings();
        self.roomless = false;
        match &self.outgoing {
            // The end of the stream is among the connection's own bytes, and frames that were not begun would come behind it.
            Some(outgoing) if self.is_over() && !outgoing.is_begun() => {
                self.outgoing = None;
                core.ready.push(self.slot());
            }
            Some(_) => return false,
            None => {}
        }
        let next = match (&mut self.activity, &mut self.protocol) {
            (Activity::Sending(_), _) => {
                self.next_piece(core);
                return self.outgoing.is_none();
            }
            (Activity::Stream(stream), _) => stream.next_initial(core),
            (Activity::Socket(socket), Protocol::WebSocket(machine)) => socket.next_initial(core, machine),
            _ => return true,
        };
        match next {
            Next::Piece(piece) => {
                self.outgoing = Some(Box::new(piece));
                return false;
            }
            Next::NoRoom(bytes) => {
                self.wait_for_room(core, bytes, now);
                return true;
            }
            Next::Nothing => {}
        }
        let planned = match &mut self.activity {
            Activity::Stream(stream) => stream.plan(core),
            Activity::Socket(socket) => socket.plan(core),
            _ => return true,
        };
        // What is to be told is told when it is resumed. Where frames are due, that they were all is told behind them.
        if planned == Planned::Compacted || core.delivery.is_empty() && self.has_caught_up(core) {
            core.ready.push(self.slot());
        }
        match core.delivery.reserve(&core.view, &mut core.keeping) {
            Reserved::All => planned != Planned::Part,
            Reserved::NoRoom(bytes) if core.delivery.is_empty() => {
                self.wait_for_room(core, bytes, now);
                true
            }
            Reserved::Part | Reserved::NoRoom(_) => false,
        }
    }

    /// It goes on when there is room for what it is to be sent: it is between two frames, and nothing is lost by that.
    fn wait_for_room<S>(&mut self, core: &mut Core<S>, bytes: usize, now: Now) {
        self.roomless = true;
        if !std::mem::replace(&mut self.waits, true) {
            core.metrics.buffers_exhausted.inc();
            core.roomless.push(self.id, bytes, now);
        }
    }

    /// It has waited, and sees whether there is room now.
    pub(super) fn looks_for_room<S>(&mut self, core: &mut Core<S>) {
        self.waits = false;
        core.ready.push(self.slot());
    }

    /// Whether it stands among those that wait for room.
    pub(super) fn waits_for_room(&self) -> bool {
        self.waits
    }

    /// Whether a watch began behind some revision, and is to be told that it is now up to date.
    fn has_caught_up<S>(&self, core: &Core<S>) -> bool {
        match &self.activity {
            Activity::Stream(stream) => stream.has_caught_up(core),
            Activity::Socket(socket) => socket.has_caught_up(core),
            _ => false,
        }
    }

    /// So many lent bytes were written.
    pub(super) fn sent<S: Store>(&mut self, core: &mut Core<S>, bytes: usize, now: Now) -> After {
        if bytes > 0 {
            self.heartbeat = now.instant + core.config.heartbeat;
        }
        if let Some(outgoing) = &mut self.outgoing {
            if !outgoing.sent(bytes) {
                self.outgoing = None;
            }
        } else {
            let Core { delivery, view, index, .. } = core;
            let (rest, frames) = delivery.sent(bytes, view, index);
            self.outgoing = rest.map(Box::new);
            core.metrics.since.frames += frames;
        }
        match &self.outgoing {
            // What was lent and not begun stands behind own bytes, of which some may be left.
            Some(outgoing) if outgoing.is_begun() => return After::MidFrame,
            Some(_) => {}
            None => {
                let waits = match &self.activity {
                    // The end of the body is put when it is resumed.
                    Activity::Sending(sending) => sending.is_made(),
                    Activity::Socket(socket) if socket.has_parked() => true,
                    _ => self.has_caught_up(core),
                };
                if waits {
                    core.ready.push(self.slot());
                }
            }
        }
        match &self.activity {
            Activity::Socket(socket) if socket.has_parked() => After::Paused,
            _ => self.after_http(),
        }
    }

    /// What becomes of a connection that may have ended an exchange.
    pub(super) fn after_http(&self) -> After {
        match (&self.protocol, &self.activity) {
            (Protocol::Http(http), Activity::Idle) => match http.disposition() {
                // A frame of the stream before is not written to its end: what is asked next might be lent into it.
                Disposition::Open if self.outgoing.is_some() => After::Paused,
                // Nor is another request taken, of which no part is here.
                Disposition::Open if self.leaving == Leaving::Told && http.is_idle() => After::Finish,
                Disposition::Open | Disposition::Upgraded => After::Open,
                Disposition::Finish => After::Finish,
                Disposition::Abort => After::Abort,
            },
            (Protocol::Http(_), Activity::Receiving(_)) | (Protocol::WebSocket(_), _) => After::Open,
            (Protocol::Http(_), _) => After::Paused,
        }
    }

    /// To be called when anything was done: what follows from where it has come to.
    pub(super) fn settled<S>(&mut self, core: &mut Core<S>) {
        self.list_if_idle(core);
        self.keep_timer(core);
    }

    /// The same when bytes were written, which at most moves the heartbeat away: a timer that fires early is moved then.
    pub(super) fn settled_sent<S>(&mut self, core: &mut Core<S>) {
        self.list_if_idle(core);
    }

    fn list_if_idle<S>(&mut self, core: &mut Core<S>) {
        if self.listed == Listed::No && self.is_between_requests() {
            core.idle.push(self.id);
            self.listed = Listed::Idle;
        }
    }

    /// It has come first among those that are idle. Closes it, if it was not used since it was last looked at.
    pub(super) fn close_if_idle<S>(&mut self, core: &mut Core<S>) -> bool {
        let listed = std::mem::replace(&mut self.listed, Listed::No);
        let idle = self.is_between_requests();
        match &mut self.protocol {
            Protocol::Http(http) if idle && listed == Listed::Idle => {
                http.close_after_this();
                self.leaving = Leaving::Told;
                core.ready.push(self.slot());
                core.metrics.connections_shed.inc();
                true
            }
            _ => {
                self.settled(core);
                false
            }
        }
    }

    /// Whether it has nothing to do, and no reason but to spare its client a handshake.
    fn is_between_requests(&self) -> bool {
        let idle = matches!(&self.protocol, Protocol::Http(http) if http.is_idle());
        idle && matches!(self.activity, Activity::Idle)
            && self.outgoing.is_none()
            && self.leaving == Leaving::No
            // Behind what it reads slowly there may be requests that have come.
            && !self.held
    }

    /// The timer fired.
    pub(super) fn due(&mut self) {
        self.due = true;
    }

    /// The server drains: no request after this one, and a farewell in its time.
    pub(super) fn drain(&mut self) {
        self.leaving = Leaving::Untold;
        if let Protocol::Http(http) = &mut self.protocol {
            http.close_after_this();
        }
    }

    /// A request has come whole. What begins after the farewell has one of its own, which is due at once.
    pub(super) fn begins(&mut self, now: Now) {
        if self.leaving == Leaving::Told {
            self.leaving = Leaving::Untold;
            self.again = now.instant;
        }
    }

    /// Keeps the machine's timer at the earliest of what the connection waits for.
    pub(super) fn keep_timer<S>(&self, core: &mut Core<S>) {
        let protocol = match &self.protocol {
            Protocol::Http(http) => http.deadline(),
            Protocol::WebSocket(websocket) => websocket.deadline(),
        };
        let protocol = protocol.map(|at| at.max(self.again));
        let activity = match &self.activity {
            Activity::Held(held) => held.deadline(),
            Activity::Stream(_) => Some(self.heartbeat),
            Activity::Socket(socket) => socket.has_watches().then_some(self.heartbeat),
            Activity::Count(count) => Some(count.next),
            _ => None,
        };
        let farewell = core.farewells.filter(|_| self.leaving == Leaving::Untold);
        let farewell = farewell.map(|farewells| farewells.at(self.id).max(self.again));
        match earliest(earliest(protocol, activity), farewell) {
            Some(at) => core.timers.set(self.id.slot(), at),
            None => core.timers.cancel(self.id.slot()),
        }
    }

    /// Gives up what the connection is busy with: nothing of it will be sent any more.
    pub(super) fn stop<S: Store>(&mut self, core: &mut Core<S>) {
        match std::mem::replace(&mut self.activity, Activity::Idle) {
            Activity::Held(held) => {
                core.index.remove(held.watcher);
            }
            Activity::Stream(stream) => stream.stop(core),
            Activity::Socket(mut socket) => {
                socket.stop(core);
                self.activity = Activity::Socket(socket);
            }
            Activity::Hello(_) => {
                core.readers.remove(&self.slot());
            }
            Activity::Idle
            | Activity::Receiving(_)
            | Activity::Writing(_)
            | Activity::Sending(_)
            | Activity::Count(_) => {}
        }
    }

    /// A whole answer, at once. An answer that the machine refuses is a fault of this server: it is not hidden.
    pub(super) fn answer(
        &mut self,
        exchange: Exchange,
        status: StatusCode,
        fields: &[(&str, &[u8])],
        body: &[u8],
        out: &mut SendQueue,
        now: Now,
    ) {
        let Protocol::Http(http) = &mut self.protocol else { return };
        let head = http1::ResponseHead::empty(status, fields);
        if let Err(refused) = http.answer(exchange, &head, body, out, now) {
            debug_assert!(false, "{}", refused.error);
            let head = http1::ResponseHead::empty(StatusCode::INTERNAL_SERVER_ERROR, &[]);
            let _over = http.answer(refused.token, &head, b"", out, now);
        }
    }
}
