//! Conversations with the machine, as bytes in and events, bytes and deadlines out.

mod bugs;
mod closing;
#[cfg(feature = "deflate")]
mod deflated;
mod negotiation;
mod properties;
mod receiving;
mod sending;
mod talking;
mod timing;

use std::sync::Arc;

use keepwatch_sim::cuts;

use super::{
    Close, CloseCode, Config, Connection, Event, FrameHead, MessageKind, Opcode, RecvError, Role, mask,
};
use crate::{Input, Instant, Now};

const BOTH: [Role; 2] = [Role::Server, Role::Client];
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const FIN: bool = true;
const MORE: bool = false;

fn connection(role: Role, config: Config) -> Connection {
    Connection::new(role, Arc::new(config), 1, Now::default())
}

/// A frame as the peer of `receiver` sends it.
fn frame(receiver: Role, fin: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let key = (receiver == Role::Server).then_some(KEY);
    let mut payload = payload.to_vec();
    mask::apply(key.unwrap_or_default(), 0, &mut payload);
    [FrameHead::new(fin, opcode, payload.len() as u64, key).as_ref(), &payload].concat()
}

/// A whole text message as the peer of `receiver` sends it.
fn text(receiver: Role, payload: &str) -> Vec<u8> {
    frame(receiver, FIN, Opcode::Text, payload.as_bytes())
}

/// A Close frame with any number in it.
fn close_frame(receiver: Role, code: u16, reason: &[u8]) -> Vec<u8> {
    frame(receiver, FIN, Opcode::Close, &[&code.to_be_bytes(), reason].concat())
}

/// What was received, parts put together.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Closed(Option<u16>, String, bool),
}

/// All that a conversation showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Transcript {
    items: Vec<Item>,
    /// What came of a message that is not finished; not kept where an error ended it, as then it depends on the cuts.
    unfinished: Option<Vec<u8>>,
    error: Option<RecvError>,
    out: Vec<u8>,
    deadline: Option<Instant>,
}

/// Plays the caller: keeps what the machine leaves, and offers it again in front of what follows.
struct Caller {
    connection: Connection,
    buffer: Vec<u8>,
    seen: Transcript,
}

impl Caller {
    fn new(connection: Connection) -> Self {
        let seen = Transcript { deadline: connection.deadline(), ..Transcript::default() };
        Self { connection, buffer: Vec::new(), seen }
    }

    fn offer(&mut self, piece: &[u8], hung_up: bool, now: Now) {
        self.buffer.extend_from_slice(piece);
        let mut input = if hung_up { Input::last(&mut self.buffer) } else { Input::new(&mut self.buffer) };
        loop {
            match self.connection.recv(&mut input, &mut self.seen.out, now) {
                Ok(Event::NeedMore) => break,
                Ok(event) => note(&mut self.seen, event),
                Err(error) => {
                    assert!(self.seen.error.is_none_or(|first| first == error), "an error is sticky");
                    assert!(input.is_empty() && self.connection.is_closed());
                    self.seen.error = Some(error);
                    self.seen.unfinished = None;
                    break;
                }
            }
        }
        let consumed = input.consumed();
        self.buffer.drain(..consumed);
        assert!(self.buffer.len() < super::frame::HEAD_BYTES + super::frame::CONTROL_BYTES, "little is left");
        self.seen.deadline = self.connection.deadline();
    }

    fn said(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.seen.out)
    }
}

fn note(seen: &mut Transcript, event: Event<'_>) {
    let item = match event {
        Event::NeedMore => return,
        Event::Data { kind, bytes, first, last } => {
            assert_eq!(first, seen.unfinished.is_none(), "first marks the first part and no other");
            let message = seen.unfinished.get_or_insert_default();
            message.extend_from_slice(&bytes);
            if !last {
                return;
            }
            let message = seen.unfinished.take().unwrap_or_default();
            match kind {
                MessageKind::Text => Item::Text(String::from_utf8(message).expect("text is valid UTF-8")),
                MessageKind::Binary => Item::Binary(message),
            }
        }
        Event::Ping(payload) => Item::Ping(payload.to_vec()),
        Event::Pong(payload) => Item::Pong(payload.to_vec()),
        Event::Closed(Close { code, reason, clean }) => {
            Item::Closed(code.map(CloseCode::get), reason.to_owned(), clean)
        }
    };
    seen.items.push(item);
}

fn play(start: impl Fn() -> Connection, parts: &[&[u8]]) -> Transcript {
    let mut caller = Caller::new(start());
    for piece in parts {
        caller.offer(piece, false, Now::default());
    }
    caller.seen
}

/// What whole frames lead to: the same under every cut, and with the beginning of a further frame behind them.
fn received_by(start: impl Fn() -> Connection, bytes: &[u8]) -> Transcript {
    cuts::every_and_behind(bytes, b"\x82", |parts| play(&start, parts), |_| {})
}

fn received(role: Role, bytes: &[u8]) -> Transcript {
    received_by(|| connection(role, Config::default()), bytes)
}

/// The error, after checking that the right Close frame, and nothing else, was said.
fn refused(role: Role, bytes: &[u8]) -> RecvError {
    refused_by(|| connection(role, Config::default()), role, bytes)
}

fn refused_by(start: impl Fn() -> Connection, role: Role, bytes: &[u8]) -> RecvError {
    let seen = received_by(start, bytes);
    let error = seen.error.expect("it is refused");
    let closed = Item::Closed(Some(error.code().get()), error.reason().to_owned(), true);
    assert_eq!(heard_by_peer(role, &seen.out), [closed]);
    assert_eq!(seen.deadline, None);
    error
}

/// What the peer of a machine in this role makes of what the machine said.
fn heard_by_peer(role: Role, said: &[u8]) -> Vec<Item> {
    let seen =
        play(|| connection(other(role), Config { message_bytes: u64::MAX, ..Config::default() }), &[said]);
    assert_eq!(seen.error, None, "what is sent is well-formed");
    assert_eq!(seen.unfinished, None);
    seen.items
}

fn other(role: Role) -> Role {
    match role {
        Role::Server => Role::Client,
        Role::Client => Role::Server,
    }
}

/// Carries what one said to the other, in parts of these sizes.
fn carry(from: &mut Caller, to: &mut Caller, sizes: &[usize]) {
    for part in cuts::by(&from.said(), sizes) {
        to.offer(part, false, Now::default());
    }
}
