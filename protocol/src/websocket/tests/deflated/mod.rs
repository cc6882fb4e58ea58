//! Conversations with compression.

mod budget;
mod bugs;
mod memory;
mod properties;
mod receiving;
mod sending;
mod talking;

use zlib_rs::{Deflate, DeflateFlush};

use super::super::deflate::{DeflateConfig, Framer, Terms};
use super::super::{Compression, Message, Prepared, SendError};
use super::*;

const TEXT: MessageKind = MessageKind::Text;
const BINARY: MessageKind = MessageKind::Binary;

/// "Hello" in one block (RFC 7692 section 7.2.3.1).
const HELLO: &[u8] = b"\xf2\x48\xcd\xc9\xc9\x07\x00";

/// Compresses every message that is not empty.
fn eager() -> DeflateConfig {
    DeflateConfig { threshold: 1, takeover_threshold: 1, ..DeflateConfig::default() }
}

fn without_takeover() -> DeflateConfig {
    let terms = Terms { send_takeover: false, receive_takeover: false, ..Terms::default() };
    DeflateConfig { terms, ..eager() }
}

/// A connection that agreed to all that these settings allow.
fn deflating(role: Role, deflate: DeflateConfig) -> Connection {
    deflating_with(role, Compression::deflate(deflate), Config::default())
}

fn deflating_with(role: Role, compression: Compression, config: Config) -> Connection {
    let agreed = match role {
        Role::Server => compression.answer(["permessage-deflate; client_max_window_bits"]).expect("an offer"),
        Role::Client => {
            let offer = compression.offer().expect("it is on");
            let (_, answer) = Terms::default().answer([offer.field()]).expect("all is agreed to");
            offer.accept([&*answer]).expect("what was offered").expect("an answer")
        }
    };
    connection(role, Config { compression, ..config }).with_deflate(agreed)
}

/// The first frame of a compressed message as the peer of `receiver` sends it.
fn deflated(receiver: Role, fin: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut bytes = frame(receiver, fin, opcode, payload);
    bytes[0] |= 0x40;
    bytes
}

/// A whole compressed text.
fn deflated_text(receiver: Role, payload: &[u8]) -> Vec<u8> {
    deflated(receiver, FIN, Opcode::Text, payload)
}

/// Compresses messages as a peer does, one after another.
struct Peer(Deflate);

impl Peer {
    fn new() -> Self {
        Self(Deflate::new(6, false, 15))
    }

    fn flushed(&mut self, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; payload.len() + payload.len() / 8 + 100];
        let before = self.0.total_out();
        self.0.compress(payload, &mut bytes, DeflateFlush::SyncFlush).unwrap();
        bytes.truncate((self.0.total_out() - before) as usize);
        bytes
    }

    fn message(&mut self, payload: &[u8]) -> Vec<u8> {
        let mut bytes = self.flushed(payload);
        assert_eq!(bytes.split_off(bytes.len() - 4), [0, 0, 0xff, 0xff]);
        bytes
    }
}

/// Bytes without a pattern.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1u64;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    })
    .take(len)
    .collect()
}
