//! Drives the machine through the table of its states: to every state, and there every event.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write as _;

use super::{Phase, Reading, ServerConnection};
use crate::http1::error::{RecvError, SendError};
use crate::http1::exchange::{self, BodyKind, BodyTx, Exchange, Expired};
use crate::http1::response::ResponseHead;
use crate::http1::states::{EVENTS, Event, Next, Rest, STATES, Says, State, next};
use crate::http1::status::StatusCode;
use crate::input::Input;
use crate::time::{Instant, Now};

/// How `states.md` begins.
const OVERVIEW: &str = "\
What is in code type is a call of the caller; the rest is what `recv` is given, and the deadline. *Closing* is after
`close_after_this`, or with a client that goes on no longer. The way of the answer alone:

| from | to | by |
| --- | --- | --- |
";

/// And how the whole table begins.
const ALL: &str = "
And all of it: what the caller is told, whether bytes are put, and the state that follows if it is another one. A call that
a state does not name is refused as `Stale`, and where no deadline is named none is due.

| state | event | says | puts | then |
| --- | --- | --- | --- | --- |
";

/// What the request is that a script begins with, so that the event has its chance.
#[derive(Clone, Copy, PartialEq)]
enum Asks {
    Plain,
    Tunnel,
    WebSocket,
}

/// A connection, and what its caller holds.
struct Driven {
    connection: ServerConnection,
    asks: Asks,
    exchange: Option<Exchange>,
    body: Option<BodyTx>,
    /// The answer under way is a tunnel's: its token says so.
    is_tunnel: bool,
    error: Option<RecvError>,
    out: Vec<u8>,
    now: Now,
}

impl Driven {
    /// A connection in this state, whose request is such that the event can be applied.
    fn in_state(state: State, event: Event) -> Self {
        let asks = match (state, event) {
            (State::Tunnel(_), _) | (State::Open(_), Event::RespondTunnel | Event::AnswerTunnel) => {
                Asks::Tunnel
            }
            (State::Upgraded, _) | (State::Open(_), Event::Upgrade) => Asks::WebSocket,
            _ => Asks::Plain,
        };
        let now = Now::default();
        let connection = ServerConnection::new(Arc::default(), now);
        let mut driven = Self {
            connection,
            asks,
            exchange: None,
            body: None,
            is_tunnel: false,
            error: None,
            out: Vec::new(),
            now,
        };
        for &step in script(state) {
            driven.apply(step);
        }
        assert_eq!(driven.state(), state, "the script does not lead there");
        driven.out.clear();
        driven
    }

    /// What the machine's own fields say of its state.
    fn state(&self) -> State {
        let rest = match self.connection.reading {
            Reading::Head { .. } => None,
            Reading::Length { .. } => Some(Rest::Length),
            Reading::Chunked { .. } => Some(Rest::Chunked),
            Reading::Ended => Some(Rest::Ended),
            Reading::Told => Some(Rest::Told),
        };
        match (self.connection.phase, rest) {
            (Phase::Idle, None) if !self.connection.is_idle() => State::Head,
            (Phase::Idle, None) if self.connection.sequence == 0 => State::New,
            (Phase::Idle, None) => State::Idle,
            (Phase::Open, Some(rest)) => State::Open(rest),
            (Phase::Sending, Some(rest)) if self.is_tunnel => State::Tunnel(rest),
            (Phase::Sending, Some(rest)) if self.connection.request.persistent => State::Sending(rest),
            (Phase::Sending, Some(rest)) => State::Last(rest),
            (Phase::Answered, Some(Rest::Ended)) => State::Answered,
            (Phase::Over, _) => State::Over,
            (Phase::Upgraded, _) => State::Upgraded,
            (Phase::Failed { answered: true, .. }, _) => State::Failed,
            (Phase::Failed { answered: false, .. }, _) => State::CutOff,
            impossible => panic!("{impossible:?}"),
        }
    }

    /// Applies the event, and says what came of it.
    fn apply(&mut self, event: Event) -> Next {
        let put = self.out.len();
        let says = if event == Event::Deadline {
            self.expire()
        } else if event.is_recv() {
            self.recv(event)
        } else {
            match self.call(event) {
                Ok(()) => Says::Done,
                Err(error) => Says::Refused(error),
            }
        };
        Next { says, puts: self.out.len() > put, state: self.state() }
    }

    fn expire(&mut self) -> Says {
        self.now = Now::new(self.connection.deadline().unwrap_or(Instant::NEVER), self.now.unix);
        match self.connection.on_deadline(&mut self.out, self.now) {
            Some(Expired { timer, .. }) => Says::Expired(timer),
            None => Says::NotDue,
        }
    }

    fn recv(&mut self, event: Event) -> Says {
        if event == Event::NothingClosing {
            self.connection.close_after_this();
        }
        let mut bytes = self.wire(event).into_bytes();
        let mut input = if event == Event::HangUp { Input::last(&mut bytes) } else { Input::new(&mut bytes) };
        match self.connection.recv(&mut input, &mut self.out, self.now) {
            Ok(exchange::Event::NeedMore) => Says::NeedMore,
            Ok(exchange::Event::Paused) => Says::Paused,
            Ok(exchange::Event::Request(_, exchange)) => {
                self.exchange = Some(exchange);
                Says::Request
            }
            Ok(exchange::Event::Data(_)) => Says::Data,
            Ok(exchange::Event::Trailers(_)) => Says::Trailers,
            Ok(exchange::Event::EndOfRequest) => Says::EndOfRequest,
            Ok(exchange::Event::HungUp) => Says::HungUp,
            Ok(exchange::Event::Closed) => Says::Closed,
            Ok(exchange::Event::Refused(_)) => Says::RefusedRequest,
            Err(error) if self.error.replace(error) == Some(error) => Says::SameFault,
            Err(error) => Says::Fault(error.fault),
        }
    }

    /// What is offered. A part of a head was not taken, and is offered again in front.
    fn wire(&self, event: Event) -> String {
        let part = match self.asks {
            Asks::Plain => "POST / HTTP/",
            Asks::Tunnel => "CONNECT x:80 HTTP/",
            Asks::WebSocket => "GET / HTTP/",
        };
        let fields = match self.asks {
            Asks::Plain => "1.1\r\nHost: x\r\n",
            Asks::Tunnel => "1.1\r\nHost: x:80\r\n",
            Asks::WebSocket => "1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n",
        };
        let in_chunks = matches!(self.connection.reading, Reading::Chunked { .. });
        match event {
            Event::Nothing | Event::NothingClosing | Event::HangUp if self.state() == State::Head => {
                part.to_string()
            }
            Event::PartOfHead => part.to_string(),
            Event::HeadOnly => format!("{part}{fields}\r\n"),
            Event::HeadLength => {
                format!("{part}{fields}Expect: 100-continue\r\nContent-Length: 3\r\n\r\n")
            }
            Event::HeadChunked => {
                format!("{part}{fields}Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n")
            }
            Event::HeadRefused => format!("{part}{fields}Expect: a miracle\r\n\r\n"),
            Event::HeadRefusedLast => {
                format!("{part}{fields}Expect: a miracle\r\nContent-Length: 3\r\n\r\n")
            }
            Event::Data if in_chunks => "1\r\na\r\n".to_string(),
            Event::Data => "ab".to_string(),
            Event::DataEnd if in_chunks => "0\r\n\r\n".to_string(),
            Event::DataEnd => "abc".to_string(),
            Event::Trailers => "0\r\nX-Sum: 1\r\n\r\n".to_string(),
            Event::Malformed if in_chunks => "no size\r\n".to_string(),
            Event::Malformed => format!("{part}9.9\r\n\r\n"),
            _ => String::new(),
        }
    }

    fn call(&mut self, event: Event) -> Result<(), SendError> {
        let Self { connection, out, now, .. } = self;
        let now = *now;
        // Where no token is held one is made up that has the right number, so that it is the state that refuses it.
        let sequence = connection.sequence;
        let mut exchange = self.exchange.take().unwrap_or(Exchange { sequence });
        let mut body = self.body.take().unwrap_or(BodyTx { left: 0, sequence, kind: BodyKind::Chunked });
        let stream = ResponseHead::stream(StatusCode::OK, &[]);
        let empty = ResponseHead::empty(StatusCode::OK, &[]);
        if let Event::RespondLast | Event::AnswerLast = event {
            connection.close_after_this();
        }
        match event {
            Event::Proceed => {
                let done = connection.proceed(&exchange, out);
                self.exchange = Some(exchange);
                done
            }
            Event::Inform => {
                let done = connection.inform(&exchange, StatusCode::EARLY_HINTS, &[], out);
                self.exchange = Some(exchange);
                done
            }
            Event::Respond | Event::RespondLast | Event::RespondTunnel => {
                let head = if event == Event::RespondTunnel { &empty } else { &stream };
                let sent = connection.respond(exchange, head, out, now).map_err(|refused| refused.error)?;
                self.is_tunnel = sent.kind == BodyKind::Tunnel;
                self.body = Some(sent);
                Ok(())
            }
            Event::Answer | Event::AnswerLast | Event::AnswerTunnel => {
                connection.answer(exchange, &empty, b"", out, now).map_err(|refused| refused.error)
            }
            Event::SendData => {
                let done = connection.data(&mut body, b"ab", out);
                self.body = Some(body);
                done
            }
            Event::Finish => connection.finish(body, out, now).map_err(|refused| refused.error),
            Event::Upgrade => connection.upgrade(exchange, &[], out, now).map_err(|refused| refused.error),
            Event::StaleExchange => {
                exchange.sequence = exchange.sequence.wrapping_sub(1);
                let refused = connection.respond(exchange, &stream, out, now).unwrap_err();
                Err(refused.error)
            }
            Event::StaleBody => {
                body.sequence = body.sequence.wrapping_sub(1);
                Err(connection.finish(body, out, now).unwrap_err().error)
            }
            not_a_call => panic!("{not_a_call:?}"),
        }
    }
}

/// A short way to the state.
fn script(state: State) -> &'static [Event] {
    use Event::{
        Answer, AnswerLast, DataEnd, Finish, HeadChunked, HeadLength, HeadOnly, Malformed, Nothing,
        PartOfHead, Respond, RespondLast, RespondTunnel, Upgrade,
    };
    match state {
        State::New => &[],
        State::Idle => &[HeadOnly, Nothing, Answer],
        State::Head => &[PartOfHead],
        State::Open(Rest::Length) => &[HeadLength],
        State::Open(Rest::Chunked) => &[HeadChunked],
        State::Open(Rest::Ended) => &[HeadOnly],
        State::Open(Rest::Told) => &[HeadOnly, Nothing],
        State::Sending(Rest::Told) => &[HeadOnly, Nothing, Respond],
        State::Sending(_) => &[HeadOnly, Respond],
        State::Last(Rest::Length) => &[HeadLength, Respond],
        State::Last(Rest::Chunked) => &[HeadChunked, Respond],
        State::Last(Rest::Ended) => &[HeadLength, Respond, DataEnd],
        State::Last(Rest::Told) => &[HeadOnly, Nothing, RespondLast],
        State::Tunnel(Rest::Told) => &[HeadOnly, Nothing, RespondTunnel],
        State::Tunnel(_) => &[HeadOnly, RespondTunnel],
        State::Answered => &[HeadOnly, Respond, Finish],
        State::Over => &[HeadOnly, AnswerLast],
        State::Upgraded => &[HeadOnly, Upgrade],
        State::Failed => &[Malformed],
        State::CutOff => &[HeadChunked, Respond, Malformed],
    }
}

#[test]
fn every_event_does_in_every_state_what_the_table_says() {
    for state in STATES {
        for event in EVENTS {
            if let Some(expected) = next(state, event) {
                let mut driven = Driven::in_state(state, event);
                assert_eq!(driven.apply(event), expected, "{event:?} in {state:?}");
                let disposition = driven.connection.disposition();
                assert_eq!(disposition, expected.state.disposition(), "{event:?} in {state:?}");
            }
        }
    }
}

#[test]
fn what_is_no_event_is_one_of_the_input() {
    for state in STATES {
        for event in EVENTS {
            assert!(next(state, event).is_some() || event.is_recv(), "{event:?} in {state:?}");
        }
    }
}

#[test]
fn the_states_are_those_that_events_lead_to() {
    let mut reached = Vec::from([State::New]);
    let mut at = 0;
    while let Some(&state) = reached.get(at) {
        for next in EVENTS.iter().filter_map(|&event| next(state, event)) {
            if !reached.contains(&next.state) {
                reached.push(next.state);
            }
        }
        at += 1;
    }
    assert!(reached.iter().all(|state| STATES.contains(state)), "{reached:?}");
    assert_eq!(reached.len(), STATES.len());
}

#[test]
fn the_picture_is_that_of_the_table() {
    let picture = picture();
    if std::env::var_os("KEEPWATCH_REWRITE").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/http1/states.md"), picture).unwrap();
    } else if picture != include_str!("../states.md") {
        panic!(
            "states.md is out of date: run this test with KEEPWATCH_REWRITE=1, and look at the difference"
        );
    }
}

/// The table as `states.md` shows it.
fn picture() -> String {
    let mut picture = String::from(OVERVIEW);
    for (from, to, by) in moves() {
        let _ = writeln!(picture, "| {from} | {to} | {} |", names(&by));
    }
    picture.push_str(ALL);
    for state in STATES {
        for (next, events) in groups(state) {
            let then = if next.state == state { String::new() } else { cell(next.state) };
            let puts = if next.puts { "yes" } else { "" };
            let says = format!("{:?}", next.says);
            let _ = writeln!(picture, "| {} | {} | {says} | {puts} | {then} |", cell(state), names(&events));
        }
    }
    picture
}

/// From which kind of state to which other one, and by what.
fn moves() -> Vec<(String, String, Vec<Event>)> {
    let mut moves: Vec<(String, String, Vec<Event>)> = Vec::new();
    for state in STATES {
        for event in EVENTS {
            let Some(next) = next(state, event) else { continue };
            let (from, to) = (kind(state), kind(next.state));
            if from == to {
                continue;
            }
            let by = match moves.iter_mut().find(|of| (&of.0, &of.1) == (&from, &to)) {
                Some((_, _, by)) => by,
                None => {
                    moves.push((from, to, Vec::new()));
                    &mut moves.last_mut().unwrap().2
                }
            };
            if !by.contains(&event) {
                by.push(event);
            }
        }
    }
    moves
}

/// What each event does in the state, with those together that do the same, without what is said once for all states.
fn groups(state: State) -> Vec<(Next, Vec<Event>)> {
    let mut groups: Vec<(Next, Vec<Event>)> = Vec::new();
    for event in EVENTS {
        match next(state, event) {
            None | Some(Next { says: Says::Refused(SendError::Stale) | Says::NotDue, .. }) => {}
            Some(next) => match groups.iter_mut().find(|of| of.0 == next) {
                Some((_, events)) => events.push(event),
                None => groups.push((next, Vec::from([event]))),
            },
        }
    }
    groups
}

/// The events in words. Where nothing is read, what is offered makes no difference, but perhaps for the peer's end.
fn names(events: &[Event]) -> String {
    let count = |events: &[Event]| events.iter().filter(|event| event.is_recv()).count();
    let (offered, all) = (count(events), count(&EVENTS));
    let together = match all - offered {
        0 => Some("anything"),
        1 => Some("anything else"),
        _ => None,
    };
    let others =
        events.iter().filter(|event| together.is_none() || !event.is_recv()).map(|event| event.name());
    together.into_iter().chain(others).collect::<Vec<_>>().join("; ")
}

/// The state without what is to come of the request.
fn kind(state: State) -> String {
    cell(state).split(',').next().unwrap_or_default().to_string()
}

fn cell(state: State) -> String {
    format!("{state:?}").replace('(', ", ").replace(')', "")
}
