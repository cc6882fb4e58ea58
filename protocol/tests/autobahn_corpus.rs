//! The cases of the Autobahn Testsuite without compression, in process: an echo in both roles, under many cuts.
//!
//! The corpus is not part of this repository. `KEEPWATCH_CONFORMANCE` names the folder that has `corpora/autobahn.json`; without
//! it the test is skipped. What the corpus only describes (payloads that are cut, section 9, the chops of 6.4) is generated from the
//! description.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "all of this is a test, and the corpus has the shape that it has"
)]

use std::sync::Arc;

use keepwatch_protocol::websocket::{
    Assembler, Config, Connection, Event, FrameHead, Opcode, Role, frame, mask,
};
use keepwatch_protocol::{Input, Now};
use keepwatch_sim::cuts;
use serde_json::Value;

/// Stands for a surrogate that has no other half, which JSON can spell and a string cannot hold; four digits follow.
const LONE: char = '\u{fdd0}';

#[test]
fn every_whole_case_is_ok_in_both_roles_under_every_cut() {
    let Ok(folder) = std::env::var("KEEPWATCH_CONFORMANCE") else {
        println!("skipped: KEEPWATCH_CONFORMANCE names no folder");
        return;
    };
    let path = std::path::Path::new(&folder).join("corpora/autobahn.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let cases: Value = serde_json::from_str(&with_marked_surrogates(&text)).unwrap();
    let (mut ran, mut generated) = (0, 0);
    for case in cases.as_array().unwrap() {
        let id = case["id"].as_str().unwrap();
        if id.starts_with("12.") || id.starts_with("13.") {
            continue; // compression
        }
        let conversation = Conversation::of(case);
        for role in [Role::Server, Role::Client] {
            check(id, case, role, &conversation);
        }
        ran += 1;
        generated += usize::from(conversation.generated);
    }
    println!("{ran} cases ran, {generated} of them generated");
    assert_eq!((ran, generated), (301, 60));
}

/// Runs one case whole, byte by byte, and cut in two everywhere (or, where it is long, in pieces of several sizes).
fn check(id: &str, case: &Value, role: Role, conversation: &Conversation) {
    let bytes = conversation.frames.iter().map(|frame| frame.encode(role)).collect::<Vec<_>>().concat();
    if bytes.len() > 200_000 {
        // It takes long where nothing is optimized.
        let said = echo(role, &cuts::by(&bytes, &[conversation.chop.unwrap_or(65536)]));
        return judge(id, case, role, conversation, &said);
    }
    let whole = if bytes.len() <= 400 {
        cuts::every(&bytes, |parts| (id, role, echo(role, parts))).2
    } else {
        echo(role, &[&bytes])
    };
    judge(id, case, role, conversation, &whole);
    let sizes: &[usize] = if bytes.len() <= 10_000 { &[1, 2, 3, 997] } else { &[997, 1460, 65536] };
    for size in sizes.iter().copied().chain(conversation.chop) {
        assert_eq!(echo(role, &cuts::by(&bytes, &[size])), whole, "{id} {role:?} in pieces of {size}");
    }
    if let Some((possible, impossible)) = conversation.fails_fast {
        let head = bytes.len() - conversation.frames[0].payload.len();
        assert_eq!(echo(role, &[&bytes[..head + possible]]), b"", "{id} {role:?}: nothing is wrong yet");
        assert_eq!(echo(role, &[&bytes[..head + impossible]]), whole, "{id} {role:?} fails fast");
    }
}

/// What the suite sends, and what is not in the corpus of what it expects.
struct Conversation {
    frames: Vec<SentFrame>,
    /// The messages that are to come back: their kind, and their bytes. `None` if the corpus says.
    messages: Option<Vec<(bool, Vec<u8>)>>,
    /// The size of the pieces that it is sent in, where it matters to the case.
    chop: Option<usize>,
    /// Up to which byte of the payload nothing is wrong, and up to which it is known that something is.
    fails_fast: Option<(usize, usize)>,
    generated: bool,
}

impl Conversation {
    fn of(case: &Value) -> Self {
        let whole = |frames| Self { frames, messages: None, chop: None, fails_fast: None, generated: false };
        let id = case["id"].as_str().unwrap();
        sent(case).map_or_else(|| Self::generated(id, case["description"].as_str().unwrap()), whole)
    }

    /// What a description says.
    fn generated(id: &str, description: &str) -> Self {
        let mut made =
            Self { frames: Vec::new(), messages: None, chop: None, fails_fast: None, generated: true };
        let binary = description.contains(" binary ");
        match id {
            "6.2.3" | "6.2.4" | "6.3.2" => {
                let payload = hex(description.rsplit(' ').next().unwrap());
                made.frames = fragments(false, &payload, 1);
            }
            "6.4.3" | "6.4.4" => {
                let part = |name| hex(after(description, name).split(' ').next().unwrap());
                let [a, b, c] = ["PART1 = ", "PART2 = ", "PART3 ="].map(part);
                made.fails_fast = Some((a.len(), a.len() + b.len()));
                made.frames = vec![SentFrame { first: 0x81, payload: [a, b, c].concat() }];
                return made; // the suite waits for the failure
            }
            "10.1.1" => {
                let size = number(after(description, "autoFragmentSize = "));
                made.frames = fragments(false, &vec![b'*'; 65536], size);
            }
            _ if id.starts_with("9.7") || id.starts_with("9.8") => {
                let payload = filler(binary, number(after(description, "payload size ")));
                let first = if binary { 0x82 } else { 0x81 };
                let frame = || SentFrame { first, payload: payload.clone() };
                made.frames = std::iter::repeat_with(frame).take(1000).collect();
                made.messages = Some(vec![(binary, payload); 1000]);
            }
            _ => {
                assert!(id.starts_with("9."), "{id} is neither whole nor known");
                let (factor, power) = after(description, "payload of length ").split_once(" * 2**").unwrap();
                let payload = filler(binary, number(factor) << number(power));
                let size = description.split_once("fragments of ").map(|(_, size)| number(size));
                made.chop = description.split_once("chops of ").map(|(_, size)| number(size));
                made.frames = match size {
                    Some(size) => fragments(binary, &payload, size),
                    None => {
                        vec![SentFrame { first: if binary { 0x82 } else { 0x81 }, payload: payload.clone() }]
                    }
                };
                made.messages = Some(vec![(binary, payload)]);
            }
        }
        made.frames.push(SentFrame { first: 0x88, payload: 1000u16.to_be_bytes().to_vec() });
        made
    }
}

/// A message as the suite fragments it: where the size divides the length, the last fragment is empty.
fn fragments(binary: bool, payload: &[u8], size: usize) -> Vec<SentFrame> {
    let count = payload.len() / size + 1;
    let frame = |index: usize| {
        let opcode = match index {
            0 if binary => 2,
            0 => 1,
            _ => 0,
        };
        let fin = if index + 1 == count { 0x80 } else { 0 };
        let part = &payload[index * size..payload.len().min((index + 1) * size)];
        SentFrame { first: fin | opcode, payload: part.to_vec() }
    };
    (0..count).map(frame).collect()
}

/// A payload in which a byte that is missing shows.
fn filler(binary: bool, len: usize) -> Vec<u8> {
    let period: Vec<u8> = if binary { (0..=250).collect() } else { (b'0'..=b'x').collect() };
    let mut payload = period.repeat(len / period.len() + 1);
    payload.truncate(len);
    payload
}

fn after<'a>(text: &'a str, mark: &str) -> &'a str {
    text.split_once(mark).unwrap_or_else(|| panic!("no {mark:?} in {text:?}")).1
}

/// The number that a text begins with, which may be one of KiB or MiB.
fn number(text: &str) -> usize {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit = match &text[end..] {
        rest if rest.starts_with('k') => 1 << 10,
        rest if rest.starts_with('M') => 1 << 20,
        _ => 1,
    };
    text[..end].parse::<usize>().unwrap() * unit
}

fn hex(digits: &str) -> Vec<u8> {
    let digit = |index: usize| char::from(digits.as_bytes()[index]).to_digit(16).unwrap() as u8;
    (0..digits.len() / 2).map(|index| digit(2 * index) << 4 | digit(2 * index + 1)).collect()
}

/// A frame that the suite sends.
struct SentFrame {
    first: u8,
    payload: Vec<u8>,
}

impl SentFrame {
    /// As the peer of `receiver` sends it; the suite sets bits and lengths that no [`FrameHead`] has.
    fn encode(&self, receiver: Role) -> Vec<u8> {
        let key = (receiver == Role::Server).then_some([0x12, 0x34, 0x56, 0x78]);
        let mut bytes =
            FrameHead::new(true, Opcode::Binary, self.payload.len() as u64, key).as_ref().to_vec();
        bytes[0] = self.first;
        let head = bytes.len();
        bytes.extend_from_slice(&self.payload);
        mask::apply(key.unwrap_or_default(), 0, &mut bytes[head..]);
        bytes
    }
}

/// The frames of a case; `None` if the corpus does not have all of them.
fn sent(case: &Value) -> Option<Vec<SentFrame>> {
    let steps = case["sent"].as_array().unwrap();
    let id = case["id"].as_str().unwrap();
    if steps.iter().all(|step| step["wait"].is_number()) || id.starts_with("9.") {
        return None; // the payload is left out
    }
    let frames = steps.iter().filter(|step| !step["wait"].is_number());
    frames
        .map(|step| {
            let (opcode, rsv) = (step["opcode"].as_u64()? as u8, step["rsv"].as_u64()? as u8);
            let fin = if step["fin"].as_bool()? { 0x80 } else { 0 };
            let len = step["len"].as_u64()? as usize;
            let payload = match step["repeat"].as_u64() {
                Some(count) => step["payload"].as_str()?.bytes().cycle().take(count as usize).collect(),
                None => filled(step["payload"].as_str()?, len)?,
            };
            Some(SentFrame { first: fin | rsv << 4 | opcode, payload })
        })
        .collect()
}

/// A payload of so many bytes. One that is cut is filled up if it is a run of one byte.
fn filled(text: &str, len: usize) -> Option<Vec<u8>> {
    let Some(shown) = text.strip_suffix(" ...") else {
        let payload = bytes(text);
        // What the suite sends as two encoded surrogates stands in the corpus as the one character that they make in JSON.
        return if payload.len() == len {
            Some(payload)
        } else {
            Some(as_surrogates(text)).filter(|p| p.len() == len)
        };
    };
    let mut payload = bytes(shown);
    if payload.len() == len {
        return Some(payload); // only the description is cut
    }
    let tail = payload.len().checked_sub(8)?;
    let last = payload[tail];
    if payload[tail..].iter().any(|&byte| byte != last) {
        return None;
    }
    payload.resize(len, last);
    Some(payload)
}

/// The bytes that a text in the corpus stands for.
fn bytes(text: &str) -> Vec<u8> {
    if let Some(digits) = text.strip_prefix("0x") {
        return hex(digits);
    }
    let mut parts = text.split(LONE);
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (unit, rest) = part.split_at(4);
        bytes.extend(surrogate(u16::from_str_radix(unit, 16).unwrap()));
        bytes.extend_from_slice(rest.as_bytes());
    }
    bytes
}

fn as_surrogates(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(surrogate).collect()
}

/// Three bytes, as UTF-8 would have them for a surrogate if it allowed any.
fn surrogate(unit: u16) -> [u8; 3] {
    [0xe0 | (unit >> 12) as u8, 0x80 | (unit >> 6 & 0x3f) as u8, 0x80 | (unit & 0x3f) as u8]
}

/// JSON in which each escape of a lone surrogate is [`LONE`] and its digits.
fn with_marked_surrogates(json: &str) -> String {
    let unit = |rest: &str| {
        let digits = rest.strip_prefix("\\u")?.get(..4)?;
        u16::from_str_radix(digits, 16).ok()
    };
    let mut marked = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        marked.push_str(before);
        let first = unit(escape);
        let paired = first.is_some_and(|unit| (0xd800..0xdc00).contains(&unit))
            && unit(&escape[6..]).is_some_and(|unit| (0xdc00..0xe000).contains(&unit));
        let length = match first {
            Some(0xd800..0xe000) if paired => 12,
            Some(_) => 6,
            None => 2,
        };
        let (escape, after) = escape.split_at(length);
        match first {
            Some(0xd800..0xe000) if !paired => {
                marked.push(LONE);
                marked.push_str(&escape[2..]);
            }
            _ => marked.push_str(escape),
        }
        rest = after;
    }
    marked + rest
}

/// What an echo says to these pieces, until it is to close.
fn echo(role: Role, pieces: &[&[u8]]) -> Vec<u8> {
    let config = Arc::new(Config { message_bytes: 16 << 20, ..Config::default() });
    let mut connection = Connection::new(role, config, 7, Now::default());
    let mut assembler = Assembler::new(16 << 20);
    let (mut buffer, mut out) = (Vec::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        let mut input = Input::new(&mut buffer);
        loop {
            match connection.recv(&mut input, &mut out, Now::default()) {
                Ok(Event::Data { kind, bytes, first, last }) => {
                    if let Some(message) = assembler.push(kind, &bytes, first, last).unwrap() {
                        connection.send(message.kind(), message.as_bytes(), &mut out).unwrap();
                    }
                }
                Ok(Event::Ping(_) | Event::Pong(_)) => {}
                Ok(Event::Closed(_)) | Err(_) => return out,
                Ok(Event::NeedMore) => break,
            }
        }
        let consumed = input.consumed();
        buffer.drain(..consumed);
    }
    out
}

/// Compares what the echo said with what the suite takes for OK, frame by frame and in order.
fn judge(id: &str, case: &Value, role: Role, conversation: &Conversation, said: &[u8]) {
    let receiver = if role == Role::Server { Role::Client } else { Role::Server };
    let mut messages = Vec::new();
    let mut close = None;
    let mut rest = said;
    while !rest.is_empty() {
        let (head, size) = frame::decode(rest, receiver).unwrap().unwrap();
        let mut payload = rest[size..][..head.len as usize].to_vec();
        mask::apply(head.mask.unwrap_or_default(), 0, &mut payload);
        rest = &rest[size + payload.len()..];
        match head.opcode {
            Opcode::Close => {
                assert!(rest.is_empty(), "{id} {role:?}: nothing follows a Close frame");
                close = Some(payload.get(..2).map(|code| u64::from(u16::from_be_bytes([code[0], code[1]]))));
            }
            Opcode::Text => messages.push(("message", false, payload)),
            Opcode::Binary => messages.push(("message", true, payload)),
            Opcode::Pong => messages.push(("pong", false, payload)),
            other => panic!("{id} {role:?}: {other:?} was sent"),
        }
    }

    let expected_close = &case["expectedClose"];
    let close = close.unwrap_or_else(|| panic!("{id} {role:?}: no Close frame"));
    // The suite takes a Close frame without a code for an answer to one without.
    let codes = expected_close["closeCode"].as_array().unwrap();
    let empty_answers_empty = close.is_none() && id == "7.3.1";
    assert!(
        empty_answers_empty || codes.iter().any(|code| code.as_u64() == close),
        "{id} {role:?}: closed with {close:?}, not {codes:?}"
    );

    if id == "7.1.6" {
        // Informational: the corpus lists the second message only.
        return assert_eq!(messages.len(), 2);
    }
    if let Some(expected) = &conversation.messages {
        assert_eq!(messages.len(), expected.len(), "{id} {role:?}");
        let alike = messages.iter().zip(expected).all(|((kind, binary, payload), expected)| {
            *kind == "message" && *binary == expected.0 && *payload == expected.1
        });
        return assert!(alike, "{id} {role:?}: another message than was sent");
    }
    let expected: Vec<&Value> =
        case["expected"]["OK"].as_array().unwrap().iter().filter(|e| e[0] != "timeout").collect();
    assert_eq!(messages.len(), expected.len(), "{id} {role:?}: {expected:?}");
    for ((kind, binary, payload), expected) in messages.iter().zip(expected) {
        assert_eq!(*kind, expected[0], "{id} {role:?}");
        assert_eq!(*binary, expected[2].as_bool().unwrap_or(false), "{id} {role:?}");
        let text = expected[1].as_str().unwrap();
        match text.strip_suffix(" ...") {
            Some(shown) => assert!(payload.starts_with(&bytes(shown)), "{id} {role:?}: {payload:x?}"),
            None => assert_eq!(payload, &bytes(text), "{id} {role:?}"),
        }
    }
}
