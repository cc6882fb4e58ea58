//! The cases of the Autobahn Testsuite without compression, in process: an echo in both roles, under many cuts.
//!
//! The corpus is not part of this repository. `KEEPWATCH_CONFORMANCE` names the folder that has `corpora/autobahn.json`; without
//! it the test is skipped. Cases whose payloads the corpus only describes are passed over, and counted.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "all of this is a test, and the corpus has the shape that it has"
)]

use std::sync::Arc;

use keepwatch_protocol::websocket::{
    Assembler, Config, Connection, Event, FrameHead, Message, MessageKind, Opcode, Role, frame, mask,
};
use keepwatch_protocol::{Input, Now};
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
    let (mut ran, mut described) = (0, 0);
    for case in cases.as_array().unwrap() {
        let id = case["id"].as_str().unwrap();
        if id.starts_with("12.") || id.starts_with("13.") {
            continue; // compression
        }
        match sent(case) {
            Some(sent) => {
                for role in [Role::Server, Role::Client] {
                    check(id, case, role, &sent);
                }
                ran += 1;
            }
            None => described += 1,
        }
    }
    println!("{ran} cases ran, {described} are only described");
    assert!(ran >= 219, "only {ran} whole cases were found");
}

/// Runs one case whole, byte by byte, and cut in two everywhere (or, where it is long, in pieces of several sizes).
fn check(id: &str, case: &Value, role: Role, sent: &[SentFrame]) {
    let bytes: Vec<u8> = sent.iter().flat_map(|frame| frame.encode(role)).collect();
    let whole = echo(role, [&bytes[..]]);
    judge(id, case, role, &whole);
    if bytes.len() <= 400 {
        for cut in 0..bytes.len() {
            let (front, back) = bytes.split_at(cut);
            assert_eq!(echo(role, [front, back]), whole, "{id} {role:?} cut at {cut}");
        }
    }
    let sizes: &[usize] = if bytes.len() <= 10_000 { &[1, 2, 3, 997] } else { &[997, 1460, 65536] };
    for &size in sizes {
        assert_eq!(echo(role, bytes.chunks(size)), whole, "{id} {role:?} in pieces of {size}");
    }
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
        return None;
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
        let digit = |index: usize| char::from(digits.as_bytes()[index]).to_digit(16).unwrap() as u8;
        return (0..digits.len() / 2).map(|index| digit(2 * index) << 4 | digit(2 * index + 1)).collect();
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
fn echo<'a>(role: Role, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
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
fn judge(id: &str, case: &Value, role: Role, said: &[u8]) {
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

#[test]
fn the_generated_case_10_1_1_is_echoed_whole() {
    let payload = vec![b'*'; 65536];
    let mut connection = Connection::new(Role::Client, Arc::default(), 7, Now::default());
    let mut frames = Vec::new();
    for (index, part) in payload.chunks(1300).enumerate() {
        connection.send_part(MessageKind::Text, part, index == 65536 / 1300, &mut frames).unwrap();
    }
    let said = echo(Role::Server, frames.chunks(1460));
    let text = String::from_utf8(payload).unwrap();
    assert_eq!(Message::Text(&text).as_bytes(), &said[10..]);
}
