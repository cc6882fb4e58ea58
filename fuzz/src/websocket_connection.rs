//! A connection in either role: what is received against a plain decoder that has everything at once, what is sent against a plain
//! reader, the same under any split of what comes in, and deadlines that pass.

pub(crate) mod naive;

use core::time::Duration;
use std::sync::Arc;

use keepwatch_protocol::websocket::{
    CloseCode, Config, Connection, Event, Expired, FrameHead, MessageKind, Opcode, RecvError, Role, mask,
};
use keepwatch_protocol::{Input, Instant, Now};

use naive::{Frame, Item, Reading};

/// Longer conversations meet the same code again.
const LONGEST: usize = 4 * 1024;
/// The pongs that one offer of input may lead to: one for each of the first 16 pings, and one for the rest.
const PONGS: usize = 17;

/// The first bytes choose the role, the limits and the split; then each byte holds an operation and a size.
pub fn websocket_connection(data: &[u8]) {
    let Some(([flags, limits, split], script)) = data.split_first_chunk().map(|(head, rest)| (*head, rest))
    else {
        return;
    };
    if script.len() > LONGEST {
        return;
    }
    let role = if flags & 1 == 0 { Role::Server } else { Role::Client };
    let wait = |bit: u8, seconds| (flags & bit != 0).then_some(Duration::from_secs(seconds));
    let mut config = Config {
        message_bytes: 1 << (limits % 16),
        empty_fragments: limits / 16,
        ping_interval: wait(2, 30),
        pong_timeout: wait(4, 20).unwrap_or_default(),
        close_timeout: wait(8, 5).unwrap_or_default(),
        ..Config::default()
    };
    config.idle_timeout = wait(16, 60);
    let config = Arc::new(config);
    let operations = operations(script, role);
    let whole = run(role, &config, &operations, usize::MAX);
    assert_eq!(whole, run(role, &config, &operations, 1), "byte by byte");
    assert_eq!(whole, run(role, &config, &operations, usize::from(split) + 2), "in parts");
    against_naive(role, &config, &operations, &whole);
}

#[derive(Debug)]
enum Operation {
    Receive(Vec<u8>),
    HangUp,
    Send(MessageKind, Vec<u8>),
    SendPart(MessageKind, Vec<u8>, bool),
    Ping(Vec<u8>),
    Close(u16, String),
    /// So many milliseconds pass; then the deadline is looked at.
    Wait(u64),
}

/// Reads a script: four bits of operation, four of size, and then what the operation takes.
fn operations(script: &[u8], role: Role) -> Vec<Operation> {
    let mut operations = Vec::new();
    let mut rest = script;
    let take = |rest: &mut &[u8], count: usize| {
        let (taken, after) = rest.split_at(count.min(rest.len()));
        *rest = after;
        taken.to_vec()
    };
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let size = usize::from(byte % 16);
        operations.push(match byte / 16 {
            0..=2 => Operation::Receive(take(&mut rest, size)),
            3..=8 => {
                // A frame that is whole, of which the first byte is as it comes.
                let head = take(&mut rest, 1);
                let payload = take(&mut rest, if size == 15 { 200 } else { size });
                Operation::Receive(frame(role, head.first().copied().unwrap_or(0x81), payload))
            }
            9 => Operation::Send(kind(size), take(&mut rest, size)),
            10 => {
                let payload = take(&mut rest, size / 4);
                Operation::SendPart(kind(size), payload, size & 2 != 0)
            }
            11 => Operation::Ping(take(&mut rest, if size == 15 { 126 } else { size })),
            12 => {
                let code = take(&mut rest, 2);
                let reason = String::from_utf8_lossy(&take(&mut rest, size)).into_owned();
                Operation::Close(code.iter().fold(0, |code, byte| code << 8 | u16::from(*byte)), reason)
            }
            13 | 14 => Operation::Wait(1 << size),
            _ => Operation::HangUp,
        });
    }
    operations
}

fn kind(size: usize) -> MessageKind {
    if size & 1 == 0 { MessageKind::Text } else { MessageKind::Binary }
}

/// A frame as the peer of `receiver` sends it, whatever its first byte is.
fn frame(receiver: Role, first: u8, mut payload: Vec<u8>) -> Vec<u8> {
    let key = (receiver == Role::Server).then_some([0x37, 0xfa, 0x21, 0x3d]);
    mask::apply(key.unwrap_or_default(), 0, &mut payload);
    let mut bytes = FrameHead::new(true, Opcode::Binary, payload.len() as u64, key).as_ref().to_vec();
    bytes[0] = first;
    bytes.extend(payload);
    bytes
}

/// What does not depend on how the input is cut.
#[derive(Debug, Default, PartialEq, Eq)]
struct Transcript {
    items: Vec<Item>,
    /// What came of a message that is not finished, if nothing went wrong.
    unfinished: Option<Vec<u8>>,
    error: Option<RecvError>,
    expired: Option<Expired>,
    /// All frames sent but pongs, of which there are fewer where more comes at once.
    sent: Vec<Frame>,
    deadlines: Vec<Option<Instant>>,
    /// How much of what was to be received was offered before it was given up.
    offered: usize,
}

struct Run {
    connection: Connection,
    role: Role,
    held: Vec<u8>,
    out: Vec<u8>,
    seen: Transcript,
    now: Now,
    hung_up: bool,
    /// The messages that were sent, as the peer must get them.
    messages: Vec<Item>,
    /// The parts of a message that is not finished.
    part: Option<(MessageKind, Vec<u8>)>,
}

fn run(role: Role, config: &Arc<Config>, operations: &[Operation], step: usize) -> Transcript {
    let now = Now::default();
    let mut run = Run {
        connection: Connection::new(role, Arc::clone(config), 7, now),
        role,
        held: Vec::new(),
        out: Vec::new(),
        seen: Transcript::default(),
        now,
        hung_up: false,
        messages: Vec::new(),
        part: None,
    };
    for operation in operations {
        match operation {
            Operation::Receive(bytes) if !run.hung_up => {
                let step = step.min(bytes.len().max(1));
                bytes.chunks(step).for_each(|piece| run.offer(piece));
            }
            Operation::Receive(_) => {}
            Operation::HangUp => {
                run.hung_up = true;
                run.offer(b"");
            }
            Operation::Send(kind, payload) => run.send(*kind, payload),
            Operation::SendPart(kind, payload, last) => run.send_part(*kind, payload, *last),
            Operation::Ping(payload) => {
                let sent = run.connection.ping(payload, &mut run.out, run.now).is_ok();
                assert!(!sent || payload.len() <= 125);
            }
            Operation::Close(code, reason) => run.close(*code, reason),
            Operation::Wait(millis) => run.wait(*millis),
        }
        run.seen.deadlines.push(run.connection.deadline());
    }
    run.finish()
}

impl Run {
    fn offer(&mut self, piece: &[u8]) {
        if self.seen.expired.is_none() {
            self.seen.offered += piece.len();
        }
        self.held.extend_from_slice(piece);
        let mut held = std::mem::take(&mut self.held);
        let mut input = if self.hung_up { Input::last(&mut held) } else { Input::new(&mut held) };
        let (over, before) = (self.connection.is_closed(), self.out.len());
        let closing = self.connection.is_closing();
        loop {
            match self.connection.recv(&mut input, &mut self.out, self.now) {
                Ok(Event::NeedMore) => break,
                Ok(event) => {
                    assert!(!over, "an event after the end");
                    note(&mut self.seen, event);
                }
                Err(error) => {
                    assert!(input.is_empty(), "what follows an error is swallowed");
                    match self.seen.error {
                        None => self.failed(error, closing),
                        Some(first) => assert_eq!(first, error, "an error is sticky"),
                    }
                    break;
                }
            }
        }
        if over {
            assert_eq!(self.out.len(), before, "something is put after the end");
            assert!(input.is_empty(), "something is left after the end");
        }
        let consumed = input.consumed();
        self.held = held.split_off(consumed);
        let answers = naive::frames(self.role, &self.out[before..]);
        let pongs = answers.iter().filter(|frame| frame.opcode == 10).count();
        assert!(pongs <= PONGS, "{pongs} pongs at once");
        assert!(self.held.len() < 14 + 125, "{} bytes are left", self.held.len());
    }

    /// The Close frame that answers an error is there, unless one was sent before.
    fn failed(&mut self, error: RecvError, closing: bool) {
        self.seen.error = Some(error);
        self.seen.unfinished = None;
        assert!(self.connection.is_closed());
        let frames = naive::frames(self.role, &self.out);
        let closes: Vec<_> = frames.iter().filter(|frame| frame.opcode == 8).collect();
        assert_eq!(closes.len(), 1, "one Close frame");
        let said = [&error.code().get().to_be_bytes(), error.reason().as_bytes()].concat();
        assert!(closing || closes[0].payload == said, "another Close frame than the error's");
    }

    fn send(&mut self, kind: MessageKind, payload: &[u8]) {
        let before = self.out.len();
        let text = kind == MessageKind::Text && std::str::from_utf8(payload).is_err();
        let free = self.part.is_none() && !self.connection.is_closing();
        match self.connection.send(kind, payload, &mut self.out) {
            Ok(()) => {
                assert!(free && !text);
                self.messages.push(Item::message(kind, payload.to_vec()));
            }
            Err(_) => assert!((!free || text) && self.out.len() == before, "a refusal puts nothing"),
        }
    }

    fn send_part(&mut self, kind: MessageKind, payload: &[u8], last: bool) {
        let before = self.out.len();
        if self.connection.send_part(kind, payload, last, &mut self.out).is_err() {
            return assert_eq!(self.out.len(), before, "a refusal puts nothing");
        }
        let (begun, message) = self.part.get_or_insert_with(|| (kind, Vec::new()));
        assert_eq!(*begun, kind);
        message.extend_from_slice(payload);
        if last {
            self.messages.extend(self.part.take().map(|(kind, message)| Item::message(kind, message)));
        }
    }

    fn close(&mut self, code: u16, reason: &str) {
        let Some(code) = CloseCode::new(code) else { return };
        let (before, closing) = (self.out.len(), self.connection.is_closing());
        match self.connection.close(code, reason, &mut self.out, self.now) {
            Ok(()) => assert!(!closing && self.connection.is_closing() && self.out.len() > before),
            Err(_) => assert_eq!(self.out.len(), before),
        }
    }

    fn wait(&mut self, millis: u64) {
        self.now = self.now.later(Duration::from_millis(millis));
        let due = self.connection.deadline().is_some_and(|at| at <= self.now.instant);
        let before = self.out.len();
        let expired = self.connection.on_deadline(&mut self.out, self.now);
        assert!(self.connection.deadline().is_none_or(|at| at > self.now.instant), "a deadline that passed");
        assert!(due || (expired.is_none() && self.out.len() == before), "something happens early");
        if let Some(expired) = expired {
            assert!(self.connection.is_closed() && self.seen.expired.is_none());
            self.seen.expired = Some(expired);
            self.held.clear();
        }
    }

    /// What the peer gets is well-formed, has no more to say after a Close, and holds the messages that were sent.
    fn finish(mut self) -> Transcript {
        let frames = naive::frames(self.role, &self.out);
        // Pings are still answered after our Close, until the peer's comes.
        let mut after_close = frames.iter().skip_while(|frame| frame.opcode != 8).skip(1);
        assert!(after_close.all(|frame| frame.opcode == 10), "something follows a Close");
        let got: Vec<_> = naive::messages(&frames);
        assert_eq!(got, self.messages, "other messages than were sent");
        self.seen.sent = frames.into_iter().filter(|frame| frame.opcode != 10).collect();
        self.seen
    }
}

fn note(seen: &mut Transcript, event: Event<'_>) {
    seen.items.push(match event {
        Event::NeedMore => return,
        Event::Data { kind, bytes, first, last } => {
            assert_eq!(first, seen.unfinished.is_none(), "first marks the first part");
            let message = seen.unfinished.get_or_insert_default();
            message.extend_from_slice(&bytes);
            if kind == MessageKind::Text {
                let end = std::str::from_utf8(message).err();
                assert!(end.is_none_or(|end| !last && end.error_len().is_none()), "text that is not UTF-8");
            }
            if !last {
                return;
            }
            Item::message(kind, seen.unfinished.take().unwrap_or_default())
        }
        Event::Ping(payload) => Item::Ping(payload.to_vec()),
        Event::Pong(payload) => Item::Pong(payload.to_vec()),
        Event::Closed(close) => {
            Item::Closed(close.code.map(CloseCode::get), close.reason.into(), close.clean)
        }
    });
}

/// The same bytes, all at once, for the plain decoder.
fn against_naive(role: Role, config: &Config, operations: &[Operation], seen: &Transcript) {
    let mut stream = Vec::new();
    let mut hung_up = false;
    for operation in operations {
        match operation {
            Operation::Receive(bytes) if !hung_up => stream.extend_from_slice(bytes),
            Operation::HangUp => hung_up = true,
            _ => {}
        }
    }
    if seen.expired.is_some() {
        stream.truncate(seen.offered);
    }
    let Reading { mut items, error, unfinished, in_frame } = naive::read(role, config, &stream);
    // An error may be known before its frame is whole, which the plain decoder waits for.
    let early = seen.error.is_some() && error.is_none() && in_frame;
    if !early {
        assert_eq!(seen.error.map(|error| error.code().get()), error, "{seen:?}");
    }
    let closed = items.iter().any(|item| matches!(item, Item::Closed(..)));
    if seen.expired.is_none() && hung_up && !closed && seen.error.is_none() {
        items.push(Item::Closed(None, String::new(), false));
    }
    assert_eq!(seen.items, items);
    if let (Some(ours), Some(theirs)) = (&seen.unfinished, unfinished) {
        assert!(ours.starts_with(&theirs), "an unfinished message");
    }
}
