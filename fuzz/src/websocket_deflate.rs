//! Connections that agreed to compress: two that talk to each other, or one that is told anything.
//!
//! What one of the two sends, whole, in parts, uncompressed or prepared, arrives as it was, whatever the cuts, the windows and the
//! takeover. What is told to the one, messages of a real sender among it, some with a byte changed, leads to the same under
//! every split, to no more inflated bytes than the limit, and leaves the input as it came where it was not taken. Either way
//! no more memory is taken than the budget has, and none is used at the end.

use std::sync::Arc;

use keepwatch_protocol::websocket::deflate::{DeflateConfig, Terms};
use keepwatch_protocol::websocket::{
    Compression, Config, Connection, Event, FrameHead, Message, MessageKind, Opcode, Prepared, RecvError,
    Role, mask,
};
use keepwatch_protocol::{Input, Now};

/// Longer conversations meet the same code again.
const LONGEST: usize = 1024;
/// What one conversation may send: most go on for less than a window of 15 bits, as compression is slow where it is traced.
const SENT_BYTES: [usize; 2] = [12_000, 60_000];
/// The most pieces that something is cut into.
const PIECES: usize = 300;
/// Lengths of messages that are made up: at the borders of thresholds, buffers and windows.
const LENGTHS: [usize; 16] =
    [0, 1, 63, 64, 300, 511, 512, 513, 1024, 1100, 4096, 16_000, 16_380, 16_384, 16_400, 40_000];

/// The first bytes choose what is agreed to, the limit, how much may be sent and the split; then each byte holds an operation and a
/// size.
pub fn websocket_deflate(data: &[u8]) {
    let Some((head, script)) = data.split_first_chunk::<5>() else { return };
    if script.len() > LONGEST {
        return;
    }
    let [flags, windows, levels, limit, split] = *head;
    let agreement = Agreement::new([flags, windows, levels]);
    let script = Script { rest: script, made: 0, most: SENT_BYTES[usize::from(limit >= 240)] };
    if flags & 1 == 0 {
        talk(&agreement, script, usize::from(split) + 1);
    } else {
        let role = if flags & 2 == 0 { Role::Server } else { Role::Client };
        let stream = told(&agreement, role, script);
        let [whole, bytes, parts] = [usize::MAX, 1, usize::from(split) + 2]
            .map(|step| listen(&agreement, role, 1 << (limit % 20), &stream, step));
        assert_eq!(whole, bytes, "byte by byte, or nearly");
        assert_eq!(whole, parts, "in parts");
    }
}

/// What both would have.
struct Agreement {
    server: DeflateConfig,
    client: DeflateConfig,
}

impl Agreement {
    fn new([flags, windows, levels]: [u8; 3]) -> Self {
        let terms = Terms {
            send_window_bits: 9 + windows % 7,
            receive_window_bits: 9 + windows / 7 % 7,
            send_takeover: flags & 4 == 0,
            receive_takeover: flags & 8 == 0,
        };
        let threshold = if flags & 16 == 0 { 1 } else { 512 };
        let client = DeflateConfig {
            level: levels % 16,
            memory_level: levels / 16,
            threshold,
            takeover_threshold: threshold / 8,
            ..DeflateConfig::default()
        };
        let budgets = [64 << 20, 450 << 10, 300 << 10, 90 << 10];
        Self {
            server: DeflateConfig { terms, budget: budgets[usize::from(flags / 32 % 4)], ..client },
            client,
        }
    }

    /// A server and a client after their handshake.
    fn connect(&self, message_bytes: u64) -> [Side; 2] {
        let [server, client] = [self.server, self.client].map(Compression::deflate);
        let offer = client.offer().expect("it is on");
        let agreed = server.answer([offer.field()]).expect("there is always a way");
        let accepted = offer.accept([agreed.answer()]).expect("it fits").expect("there is an answer");
        assert_eq!(agreed.parameters(), accepted.parameters());
        let start = |role, compression: Compression, agreed, budget| {
            let config = Config { message_bytes, compression: compression.clone(), ..Config::default() };
            let connection = Connection::new(role, Arc::new(config), 7, Now::default()).with_deflate(agreed);
            Side {
                connection,
                compression,
                budget,
                out: Vec::new(),
                held: Vec::new(),
                heard: Heard::default(),
            }
        };
        [
            start(Role::Server, server, agreed, self.server.budget),
            start(Role::Client, client, accepted, self.client.budget),
        ]
    }
}

/// One end.
struct Side {
    connection: Connection,
    compression: Compression,
    budget: usize,
    out: Vec<u8>,
    held: Vec<u8>,
    heard: Heard,
}

/// What does not depend on how the input is cut.
#[derive(Debug, Default, PartialEq, Eq)]
struct Heard {
    messages: Vec<(MessageKind, Vec<u8>)>,
    /// Pings and pongs, and whether there was a clean end.
    controls: Vec<(bool, Vec<u8>)>,
    closed: Option<bool>,
    /// What came of a message that is not finished, if nothing went wrong.
    unfinished: Option<Vec<u8>>,
    /// How many bytes of a character that is not whole the text of that ends with.
    in_character: usize,
    error: Option<RecvError>,
}

impl Side {
    fn offer(&mut self, piece: &[u8], hung_up: bool) {
        self.held.extend_from_slice(piece);
        let mut held = std::mem::take(&mut self.held);
        let before = held.clone();
        let mut input = if hung_up { Input::last(&mut held) } else { Input::new(&mut held) };
        loop {
            match self.connection.recv(&mut input, &mut self.out, Now::default()) {
                Ok(Event::NeedMore) => break,
                Ok(event) => self.heard.note(event),
                Err(error) => {
                    assert!(self.heard.error.is_none_or(|first| first == error), "an error is sticky");
                    assert!(input.is_empty() && self.connection.is_closed());
                    self.heard.error = Some(error);
                    (self.heard.unfinished, self.heard.in_character) = (None, 0);
                    break;
                }
            }
        }
        let consumed = input.consumed();
        assert_eq!(held[consumed..], before[consumed..], "what is not taken is left as it came");
        self.held = held.split_off(consumed);
        assert!(self.held.len() < 14 + 125, "{} bytes are left", self.held.len());
        assert!(self.compression.memory() <= self.budget, "more memory than there may be");
        assert!(!self.connection.is_closed() || is_unused(&self.compression), "what is over uses nothing");
    }
}

impl Heard {
    fn note(&mut self, event: Event<'_>) {
        match event {
            Event::NeedMore => {}
            Event::Data { kind, bytes, first, last } => {
                assert_eq!(first, self.unfinished.is_none(), "first marks the first part");
                let message = self.unfinished.get_or_insert_default();
                // Behind what is whole; what was looked at before is not looked at again.
                let whole = message.len() - self.in_character;
                message.extend_from_slice(&bytes);
                self.in_character = 0;
                let end = std::str::from_utf8(&message[whole..]).err();
                if let Some(end) = end.filter(|_| kind == MessageKind::Text) {
                    assert!(!last && end.error_len().is_none(), "text that is not UTF-8");
                    self.in_character = message.len() - whole - end.valid_up_to();
                }
                if last {
                    self.messages.push((kind, self.unfinished.take().unwrap_or_default()));
                }
            }
            Event::Ping(payload) => self.controls.push((true, payload.to_vec())),
            Event::Pong(payload) => self.controls.push((false, payload.to_vec())),
            Event::Closed(close) => self.closed = Some(close.clean),
        }
    }
}

fn is_unused(compression: &Compression) -> bool {
    format!("{compression:?}").contains(", 0 bytes used,")
}

/// What follows in a script.
struct Script<'a> {
    rest: &'a [u8],
    /// How much was made of it, and may be.
    made: usize,
    most: usize,
}

impl Script<'_> {
    fn next(&mut self) -> Option<(u8, usize)> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some((byte / 16, usize::from(byte % 16)))
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let (taken, rest) = self.rest.split_at(count.min(self.rest.len()));
        self.rest = rest;
        taken.to_vec()
    }

    /// A payload: so many bytes as they stand, or something longer, made of the next four: how long, text or not, and of what.
    fn payload(&mut self, size: usize) -> (MessageKind, Vec<u8>) {
        let (kind, payload) = match (size, self.take(1).first().copied().unwrap_or_default()) {
            (0..8, kind) => (kind, self.take(size)),
            (_, kind) => (kind, self.made_up(kind)),
        };
        self.made += payload.len();
        if self.made > self.most {
            return (MessageKind::Binary, Vec::new());
        }
        if kind & 1 == 0 && std::str::from_utf8(&payload).is_ok() {
            (MessageKind::Text, payload)
        } else {
            (MessageKind::Binary, payload)
        }
    }

    fn made_up(&mut self, how: u8) -> Vec<u8> {
        let len = LENGTHS[usize::from(how / 16)];
        let seed = self.take(3);
        let mut state = seed.iter().fold(1u64, |state, byte| state << 8 | u64::from(*byte));
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u8
        });
        match how / 2 % 4 {
            0 => noise.take(len).collect(),
            1 => noise.map(|byte| b"0123456789abcdef"[usize::from(byte % 16)]).take(len).collect(),
            // Words that come again, some of them far from where they were.
            2 => noise.flat_map(|byte| [b'k', b'e', b'y', b'a' + byte % 23]).take(len).collect(),
            _ => vec![seed.first().copied().unwrap_or(b'x') & 0x7f; len],
        }
    }
}

/// Two talk; what is sent arrives.
fn talk(agreement: &Agreement, mut script: Script<'_>, step: usize) {
    let mut sides = agreement.connect(u64::MAX);
    let mut sent: [Vec<(MessageKind, Vec<u8>)>; 2] = Default::default();
    let mut parts: [Option<(MessageKind, Vec<u8>)>; 2] = Default::default();
    while let Some((operation, size)) = script.next() {
        let from = usize::from(operation % 2);
        let Side { connection, out, .. } = &mut sides[from];
        let between = parts[from].is_none() && !connection.is_closing();
        match operation / 2 {
            0 | 1 => {
                let (kind, payload) = script.payload(size);
                let done = connection.send(kind, &payload, out);
                assert_eq!(done.is_ok(), between);
                sent[from].extend(done.is_ok().then_some((kind, payload)));
            }
            2 | 3 => {
                let (kind, payload) = script.payload(size / 2 * 4 % 16);
                // A message has one kind.
                let kind = parts[from].as_ref().map_or(kind, |(kind, _)| *kind);
                let last = size & 1 != 0;
                if connection.send_part(kind, &payload, last, out).is_ok() {
                    let (_, message) = parts[from].get_or_insert_with(|| (kind, Vec::new()));
                    message.extend(payload);
                    if last {
                        sent[from].extend(parts[from].take());
                    }
                }
            }
            4 => {
                let (kind, payload) = script.payload(size);
                let done = connection.send_uncompressed(kind, &payload, out);
                assert_eq!(done.is_ok(), between);
                sent[from].extend(done.is_ok().then_some((kind, payload)));
            }
            5 => {
                let (kind, payload) = script.payload(size);
                let message = match (kind, std::str::from_utf8(&payload)) {
                    (MessageKind::Text, Ok(text)) => Message::Text(text),
                    _ => Message::Binary(&payload),
                };
                if let Ok(frame) = Prepared::new(message).for_connection(connection) {
                    assert!(between && from == 0);
                    out.extend_from_slice(frame);
                    sent[0].push((kind, payload));
                }
            }
            6 => {
                let ping = script.take(size);
                let done = connection.ping(&ping, out, Now::default());
                assert_eq!(done.is_ok(), !connection.is_closing());
            }
            _ => carry(&mut sides, from, step),
        }
    }
    // Twice, as what is told may lead to an answer.
    for from in [0, 1, 0, 1] {
        carry(&mut sides, from, step);
    }
    for (to, from) in [(1, 0), (0, 1)] {
        let heard = &sides[to].heard;
        match heard.error {
            None => {
                assert!(
                    sides[from].heard.error.is_some() || heard.messages == sent[from],
                    "other messages than were sent"
                );
                // Of empty parts nothing need be told.
                let unfinished = parts[from].as_ref().map(|(_, message)| &message[..]).unwrap_or_default();
                let whole = sides[from].heard.error.is_some()
                    || heard.unfinished.as_deref().unwrap_or_default() == unfinished;
                assert!(whole, "not all of what was sent of a message can be read");
            }
            Some(error) => {
                assert_eq!(error, RecvError::NoMemory);
                assert!(sides[to].budget < 64 << 20 && sent[from].starts_with(&heard.messages));
            }
        }
    }
    let compressions = sides.map(|side| side.compression);
    assert!(compressions.iter().all(is_unused), "memory is left behind");
}

/// What one said goes to the other, in pieces.
fn carry(sides: &mut [Side; 2], from: usize, step: usize) {
    let said = std::mem::take(&mut sides[from].out);
    let step = step.max(said.len() / PIECES);
    for piece in said.chunks(step) {
        sides[1 - from].offer(piece, false);
    }
}

/// What a machine in this role is told: frames of any kind, and what a real sender says.
fn told(agreement: &Agreement, role: Role, mut script: Script<'_>) -> Vec<u8> {
    let [server, client] =
        Agreement { server: DeflateConfig { budget: 64 << 20, ..agreement.server }, ..*agreement }.connect(0);
    let mut sender = if role == Role::Server { client } else { server }.connection;
    let mut stream = Vec::new();
    while let Some((operation, size)) = script.next() {
        match operation {
            0 => stream.extend(script.take(size)),
            1..=5 => {
                let first = script.take(1).first().copied().unwrap_or(0xc1);
                let payload = script.take(if size == 15 { 200 } else { size });
                stream.extend(frame(role, first, payload));
            }
            6..=9 => {
                let (kind, payload) = script.payload(size);
                // It may be in the middle of a message: then it says nothing.
                let _misuse = sender.send(kind, &payload, &mut stream);
            }
            10..=12 => {
                let (_, payload) = script.payload(size);
                let _misuse = sender.send_part(MessageKind::Binary, &payload, operation == 12, &mut stream);
            }
            _ => {
                let [back, bits] = [(); 2].map(|()| script.take(1).first().copied().unwrap_or(1));
                let at = stream.len().checked_sub(1 + usize::from(back) + 256 * size);
                if let Some(byte) = at.and_then(|at| stream.get_mut(at)) {
                    *byte ^= bits;
                }
            }
        }
    }
    stream
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

fn listen(agreement: &Agreement, role: Role, message_bytes: u64, stream: &[u8], step: usize) -> Heard {
    let [server, client] = agreement.connect(message_bytes);
    let mut side = if role == Role::Server { server } else { client };
    let step = step.min(stream.len().max(1)).max(stream.len() / PIECES);
    for piece in stream.chunks(step) {
        side.offer(piece, false);
        let longest = side
            .heard
            .messages
            .iter()
            .map(|(_, message)| message)
            .chain(&side.heard.unfinished)
            .map(Vec::len)
            .max();
        assert!(longest.unwrap_or_default() as u64 <= message_bytes, "more than the limit");
    }
    assert_eq!(side.connection.is_closed(), side.heard.error.is_some() || side.heard.closed.is_some());
    side.offer(b"", true);
    assert!(side.connection.is_closed() && is_unused(&side.compression));
    side.heard
}
