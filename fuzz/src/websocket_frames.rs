//! The head of a frame against tungstenite's parser: what it takes and we don't, and the other way round, is one of a few kinds
//! of difference.

use std::io::Cursor;

use keepwatch_protocol::websocket::Role;
use keepwatch_protocol::websocket::frame::{
    self, CONTROL_BYTES, FrameHead, HEAD_BYTES, Head, HeadError, Opcode,
};
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// The bytes that a head begins with, seen from both sides.
pub fn websocket_frames(data: &[u8]) {
    let bytes = &data[..data.len().min(HEAD_BYTES + 2)];
    for receiver in [Role::Server, Role::Client] {
        let ours = frame::decode(bytes, receiver);
        compare(bytes, receiver, ours);
        in_parts(bytes, receiver, ours);
        if let Ok(Some((head, size))) = ours {
            encode_again(bytes, head, size);
        }
    }
}

type Decoded = Result<Option<(Head, usize)>, HeadError>;

/// tungstenite checks less in its parser, and some of it later, in the connection.
fn compare(bytes: &[u8], receiver: Role, ours: Decoded) {
    let mut cursor = Cursor::new(bytes);
    let theirs = FrameHeader::parse(&mut cursor);
    match (ours, theirs) {
        (Ok(Some((head, size))), Ok(Some((other, len)))) => {
            assert_eq!((head.fin, head.mask, head.len), (other.is_final, other.mask, len), "{bytes:x?}");
            assert_eq!(Some(head.opcode), opcode(other.opcode), "{bytes:x?}");
            assert!(!other.rsv1 && !other.rsv2 && !other.rsv3, "{bytes:x?}");
            assert_eq!(size as u64, cursor.position(), "{bytes:x?}");
        }
        // We refuse at the first byte that cannot be, they look when the head is whole.
        (Ok(None), Ok(None)) | (Err(_), Err(_) | Ok(None)) => {}
        (Err(error), Ok(Some((other, len)))) => {
            assert!(explained(error, receiver, &other, len, bytes), "{error}: {bytes:x?}");
        }
        (ours, theirs) => unreachable!("{bytes:x?}: {ours:?}, {theirs:?}"),
    }
}

/// Whether a head that only tungstenite takes has what we say that it has.
fn explained(error: HeadError, receiver: Role, head: &FrameHeader, len: u64, bytes: &[u8]) -> bool {
    let control = matches!(head.opcode, OpCode::Control(_));
    match error {
        HeadError::ReservedBits => head.rsv1 || head.rsv2 || head.rsv3,
        HeadError::FragmentedControl => control && !head.is_final,
        // Of a control frame a longer form of the length is enough, whatever the length is.
        HeadError::LongControl => control && usize::from(bytes[1] & 0x7f) > CONTROL_BYTES,
        HeadError::Unmasked => receiver == Role::Server && head.mask.is_none(),
        HeadError::Masked => receiver == Role::Client && head.mask.is_some(),
        HeadError::LengthNotMinimal => len < 65536,
        HeadError::LengthTooLong => len > u64::MAX >> 1,
        _ => false,
    }
}

fn opcode(code: OpCode) -> Option<Opcode> {
    Some(match code {
        OpCode::Data(Data::Continue) => Opcode::Continuation,
        OpCode::Data(Data::Text) => Opcode::Text,
        OpCode::Data(Data::Binary) => Opcode::Binary,
        OpCode::Control(Control::Close) => Opcode::Close,
        OpCode::Control(Control::Ping) => Opcode::Ping,
        OpCode::Control(Control::Pong) => Opcode::Pong,
        OpCode::Data(Data::Reserved(_)) | OpCode::Control(Control::Reserved(_)) => return None,
    })
}

/// A part of a head never says something else than the whole: nothing yet, or the same.
fn in_parts(bytes: &[u8], receiver: Role, whole: Decoded) {
    for end in 0..bytes.len() {
        match frame::decode(&bytes[..end], receiver) {
            Ok(None) => {}
            part => assert_eq!(part, whole, "the first {end} of {bytes:x?}"),
        }
    }
}

/// What was read is what would be written: there is one way to say a thing.
fn encode_again(bytes: &[u8], head: Head, size: usize) {
    let again = FrameHead::new(head.fin, head.opcode, head.len, head.mask);
    assert_eq!(again.as_ref(), &bytes[..size]);
}
