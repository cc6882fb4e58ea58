//! What a compressed message inflates to, against two others: `miniz_oxide`, and the plainest inflater, which has the whole message
//! before it and takes no short cuts.
//!
//! | ours | the plain one | `miniz_oxide` |
//! | --- | --- | --- |
//! | a message | the same | the same |
//! | refused | refused | refused, but for codes that are not complete: it reads them where nothing uses what is missing |

mod naive;

use std::sync::Arc;

use keepwatch_protocol::websocket::deflate::{DeflateConfig, Terms};
use keepwatch_protocol::websocket::{
    Compression, Config, Connection, Event, FrameHead, Opcode, RecvError, Role,
};
use keepwatch_protocol::{Input, Now};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{
    TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
};
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

use naive::Refused;

/// Longer messages meet the same code again.
const LONGEST: usize = 4 * 1024;
/// What the messages may inflate to.
const MESSAGE_BYTES: usize = 64 << 10;
/// What ends a message and is not sent (RFC 7692 section 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// The first byte says how the input is cut; the rest is the payload of one message, without context takeover.
pub fn websocket_inflate(data: &[u8]) {
    let Some((&split, payload)) = data.split_first() else { return };
    if payload.len() > LONGEST {
        return;
    }
    let ours = ours(payload, usize::MAX);
    assert_eq!(ours, self::ours(payload, usize::from(split) + 1), "in parts");
    let naive = naive::message(payload, MESSAGE_BYTES);
    let others = [miniz(payload), naive.as_ref().ok().cloned()];
    match (&ours, &naive) {
        (Ok(message), _) => {
            assert!(others.iter().all(|other| other.as_ref() == Some(message)), "other bytes");
        }
        (Err(RecvError::MessageTooLarge), Err(Refused::TooLarge)) => {}
        (Err(RecvError::InvalidDeflate), Err(Refused::IncompleteCode)) => {}
        (Err(RecvError::InvalidDeflate), Err(Refused::Malformed)) => assert_eq!(others, [None, None]),
        other => panic!("they do not agree: {other:?}"),
    }
}

fn ours(payload: &[u8], step: usize) -> Result<Vec<u8>, RecvError> {
    let terms = Terms { receive_takeover: false, send_takeover: false, ..Terms::default() };
    let compression = Compression::deflate(DeflateConfig { terms, ..DeflateConfig::default() });
    let agreed = compression.answer(["permessage-deflate"]).expect("an offer");
    let config = Config { compression, message_bytes: MESSAGE_BYTES as u64, ..Config::default() };
    let mut connection =
        Connection::new(Role::Server, Arc::new(config), 7, Now::default()).with_deflate(agreed);
    let head = FrameHead::new(true, Opcode::Binary, payload.len() as u64, Some([0; 4]));
    let bytes = [head.with_rsv1().as_ref(), payload].concat();
    let (mut held, mut message) = (Vec::new(), Vec::new());
    for piece in bytes.chunks(step.min(bytes.len())) {
        held.extend_from_slice(piece);
        let mut input = Input::new(&mut held);
        loop {
            match connection.recv(&mut input, &mut Vec::new(), Now::default())? {
                Event::NeedMore => break,
                Event::Data { bytes, last, .. } => {
                    message.extend_from_slice(&bytes);
                    if last {
                        return Ok(message);
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        let consumed = input.consumed();
        held.drain(..consumed);
    }
    panic!("neither a message nor an error")
}

/// What `miniz_oxide` makes of it. The tail must be the rest of an empty block: nothing comes out of it, and a last block fits
/// behind it.
fn miniz(payload: &[u8]) -> Option<Vec<u8>> {
    // One room for all, as it is larger than most messages.
    let mut room = vec![0; MESSAGE_BYTES + 1];
    let mut with = |more: &[u8]| {
        let (length, ended) = miniz_stream(&[payload, more].concat(), &mut room)?;
        Some((room[..length].to_vec(), ended))
    };
    let (message, _) = with(b"")?;
    let (same, _) = with(&TAIL)?;
    let (all, ended) = with(&[&TAIL[..], &[1, 0, 0, 0xff, 0xff]].concat())?;
    (message == same && message == all && ended).then_some(message)
}

/// How much comes out of a stream as far as it goes, and whether it ends with a last block. Behind any other last block a new stream
/// begins.
fn miniz_stream(mut rest: &[u8], message: &mut [u8]) -> Option<(usize, bool)> {
    let mut filled = 0;
    loop {
        let mut state = DecompressorOxide::new();
        let flags = TINFL_FLAG_HAS_MORE_INPUT | TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
        let (status, taken, given) = decompress(&mut state, rest, &mut message[filled..], 0, flags);
        filled += given;
        rest = &rest[taken..];
        let ended = status == TINFLStatus::Done;
        match status {
            TINFLStatus::Done if !rest.is_empty() => continue,
            TINFLStatus::Done | TINFLStatus::NeedsMoreInput if filled <= MESSAGE_BYTES => {}
            _ => return None,
        }
        return Some((filled, ended));
    }
}
