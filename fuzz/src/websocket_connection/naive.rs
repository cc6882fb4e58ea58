//! The plainest decoder: it has the whole stream, takes whole frames from it, and makes messages of them. It shares no code with the
//! one that is tested.

use keepwatch_protocol::websocket::{Config, MessageKind, Role};

/// A frame that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) fin: bool,
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

/// What was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Closed(Option<u16>, String, bool),
}

impl Item {
    pub(crate) fn message(kind: MessageKind, payload: Vec<u8>) -> Self {
        match kind {
            MessageKind::Text => Self::Text(payload),
            MessageKind::Binary => Self::Binary(payload),
        }
    }
}

/// What a stream says.
#[derive(Default)]
pub(crate) struct Reading {
    pub(crate) items: Vec<Item>,
    /// The code of the Close frame that answers what is wrong.
    pub(crate) error: Option<u16>,
    pub(crate) unfinished: Option<Vec<u8>>,
    /// The stream ends inside a frame.
    pub(crate) in_frame: bool,
}

/// Reads what the peer of a machine in this role sent.
pub(crate) fn read(role: Role, config: &Config, stream: &[u8]) -> Reading {
    let mut reading = Reading::default();
    let mut message: Option<(bool, Vec<u8>, u32)> = None;
    let mut rest = stream;
    while !rest.is_empty() {
        let (first, payload, after) = match split(rest, role == Role::Server) {
            Split::Frame(first, payload, after) => (first, payload, after),
            Split::Part => {
                reading.in_frame = true;
                break;
            }
            Split::Wrong => {
                reading.error = Some(1002);
                return reading;
            }
        };
        rest = after;
        match data(&mut message, config, first, &payload) {
            Data::Control => match control(first & 15, &payload) {
                Ok(item) => {
                    let closed = matches!(item, Item::Closed(..));
                    reading.items.push(item);
                    if closed {
                        return reading; // what follows does not matter
                    }
                }
                Err(code) => {
                    reading.error = Some(code);
                    return reading;
                }
            },
            Data::Message(item) => reading.items.push(item),
            Data::More => {}
            Data::Wrong(code) => {
                reading.error = Some(code);
                return reading;
            }
        }
    }
    reading.unfinished = message.map(|(_, bytes, _)| bytes);
    reading
}

enum Data {
    Control,
    Message(Item),
    More,
    Wrong(u16),
}

fn data(message: &mut Option<(bool, Vec<u8>, u32)>, config: &Config, first: u8, payload: &[u8]) -> Data {
    let (fin, opcode) = (first & 0x80 != 0, first & 15);
    match (opcode, &message) {
        (8.., _) => return Data::Control,
        (0, None) | (1 | 2, Some(_)) => return Data::Wrong(1002),
        _ => {}
    }
    let (text, bytes, empty) = message.get_or_insert_with(|| (opcode == 1, Vec::new(), 0));
    if (bytes.len() + payload.len()) as u64 > config.message_bytes {
        return Data::Wrong(1009);
    }
    if payload.is_empty() && !fin {
        *empty += 1;
        if *empty > u32::from(config.empty_fragments) {
            return Data::Wrong(1008);
        }
    }
    bytes.extend_from_slice(payload);
    let valid = std::str::from_utf8(bytes);
    if *text && valid.is_err_and(|error| fin || error.error_len().is_some()) {
        return Data::Wrong(1007);
    }
    if !fin {
        return Data::More;
    }
    let (text, bytes, _) = message.take().unwrap_or_default();
    Data::Message(if text { Item::Text(bytes) } else { Item::Binary(bytes) })
}

fn control(opcode: u8, payload: &[u8]) -> Result<Item, u16> {
    match (opcode, payload) {
        (9, _) => Ok(Item::Ping(payload.to_vec())),
        (10, _) => Ok(Item::Pong(payload.to_vec())),
        (_, []) => Ok(Item::Closed(None, String::new(), true)),
        (_, [_]) => Err(1002),
        (_, [high, low, reason @ ..]) => {
            let code = u16::from(*high) * 256 + u16::from(*low);
            let known = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014];
            if !known.contains(&code) && !(3000..5000).contains(&code) {
                return Err(1002);
            }
            let reason = String::from_utf8(reason.to_vec()).map_err(|_| 1007u16)?;
            Ok(Item::Closed(Some(code), reason, true))
        }
    }
}

enum Split<'a> {
    Frame(u8, Vec<u8>, &'a [u8]),
    Part,
    Wrong,
}

/// The first frame, its payload unmasked. Nothing is said of one that is not whole.
fn split(bytes: &[u8], masked: bool) -> Split<'_> {
    let [first, second, rest @ ..] = bytes else { return Split::Part };
    let (len, rest) = match (second & 127, rest) {
        (126, [a, b, rest @ ..]) => (u64::from(*a) << 8 | u64::from(*b), rest),
        (127, [..]) if rest.len() >= 8 => {
            let (len, rest) = rest.split_at(8);
            (len.iter().fold(0, |len, byte| len << 8 | u64::from(*byte)), rest)
        }
        (126 | 127, _) => return Split::Part,
        (short, rest) => (u64::from(short), rest),
    };
    let shortest = match second & 127 {
        126 => len > 125,
        127 => len > 65535 && len < 1 << 63,
        _ => true,
    };
    let control = first & 8 != 0;
    let well_formed = first & 0x70 == 0
        && [0, 1, 2, 8, 9, 10].contains(&(first & 15))
        && (second & 128 != 0) == masked
        && shortest
        && !(control && (first & 128 == 0 || len > 125));
    if !well_formed {
        return Split::Wrong;
    }
    let (key, rest) = match (masked, rest) {
        (false, rest) => ([0; 4], rest),
        (true, [a, b, c, d, rest @ ..]) => ([*a, *b, *c, *d], rest),
        (true, _) => return Split::Part,
    };
    if (rest.len() as u64) < len {
        return Split::Part;
    }
    let (payload, after) = rest.split_at(len as usize);
    let payload = payload.iter().enumerate().map(|(index, byte)| byte ^ key[index % 4]).collect();
    Split::Frame(*first, payload, after)
}

/// The frames that a machine in this role put, which are whole and well-formed.
pub(crate) fn frames(role: Role, mut out: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while !out.is_empty() {
        let Split::Frame(first, payload, after) = split(out, role == Role::Client) else {
            unreachable!("what is sent is no frame: {out:x?}")
        };
        frames.push(Frame { fin: first & 128 != 0, opcode: first & 15, payload });
        out = after;
    }
    frames
}

/// The messages that frames hold; the last may be unfinished.
pub(crate) fn messages(frames: &[Frame]) -> Vec<Item> {
    let (mut messages, mut message) = (Vec::new(), None);
    let config = Config { message_bytes: u64::MAX, empty_fragments: u8::MAX, ..Config::default() };
    for frame in frames {
        let first = if frame.fin { 128 } else { 0 } | frame.opcode;
        match data(&mut message, &config, first, &frame.payload) {
            Data::Message(item) => messages.push(item),
            Data::Control | Data::More => {}
            Data::Wrong(1008) => {} // the caller's own empty parts
            Data::Wrong(code) => unreachable!("what is sent is wrong: {code}"),
        }
    }
    messages
}
