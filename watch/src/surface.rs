//! The surfaces that changes are shown on, each with the encoder of its frames.
//!
//! A frame is framed to the last byte when it is made (chunk head and tail included), so that a delivery is a send of
//! shared bytes and nothing else:
//!
//! ```text
//!   Lines      chunk ( event \n )
//!   Events     chunk ( id: event: data: \n\n )
//!   Messages   frame head, event
//!   Members    event without its opening brace: what follows a watch's id on a shared WebSocket,
//!              or the brace in the answer to a long poll
//! ```

use std::ops::Range;
use std::sync::Arc;

use keepwatch_protocol::Sink;
use keepwatch_protocol::http1::chunked::ChunkHead;
use keepwatch_protocol::sse;
use keepwatch_protocol::websocket::frame::FrameHead;
use keepwatch_protocol::websocket::Opcode;

use crate::change::Change;
use crate::encoding::{Encoder, EncodingId, Encodings, TooManyEncodings};
use crate::shapes::{Notice, put_event_members};

/// The encodings of the surfaces, by the ids that they were registered under.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Surfaces {
    pub(crate) lines: EncodingId,
    pub(crate) events: EncodingId,
    pub(crate) messages: EncodingId,
    pub(crate) members: EncodingId,
}

impl Surfaces {
    pub(crate) fn register(encodings: &mut Encodings) -> Result<Self, TooManyEncodings> {
        Ok(Self {
            lines: encodings.register(Arc::new(Lines))?,
            events: encodings.register(Arc::new(Events))?,
            messages: encodings.register(Arc::new(Messages))?,
            members: encodings.register(Arc::new(Members))?,
        })
    }
}

struct Lines;
struct Events;
struct Messages;
struct Members;

impl Encoder for Lines {
    fn encode(&self, change: &Change, out: &mut Vec<u8>) {
        put_chunk(out, |out| {
            out.push(b'{');
            put_event_members(change, out);
            out.push(b'\n');
        });
    }
}

impl Encoder for Events {
    fn encode(&self, change: &Change, out: &mut Vec<u8>) {
        let mut data = vec![b'{'];
        put_event_members(change, &mut data);
        let name = if change.value.is_some() { "put" } else { "delete" };
        put_chunk(out, |out| put_sse(&change.revision.to_string(), name, &data, out));
    }
}

impl Encoder for Messages {
    fn encode(&self, change: &Change, out: &mut Vec<u8>) {
        let mut event = vec![b'{'];
        put_event_members(change, &mut event);
        put_message_head(event.len(), out);
        out.extend_from_slice(&event);
    }
}

impl Encoder for Members {
    fn encode(&self, change: &Change, out: &mut Vec<u8>) {
        put_event_members(change, out);
    }
}

/// A notice as the payload of a line.
pub(crate) fn put_line(notice: Notice, out: &mut Vec<u8>) {
    out.push(b'{');
    notice.put_members(out);
    out.push(b'\n');
}

/// A notice as the payload of a server-sent event. A bookmark is an `id:` alone: it moves the client's last event id, and
/// dispatches nothing.
pub(crate) fn put_event(notice: Notice, out: &mut Vec<u8>) {
    let id = notice.revision().to_string();
    if let Notice::Bookmark(_) = notice {
        let event = sse::Event { id: Some(&id), ..sse::Event::default() };
        let encoded = event.encode(out);
        debug_assert!(encoded.is_ok());
        return;
    }
    let mut data = vec![b'{'];
    notice.put_members(&mut data);
    put_sse(&id, notice.name(), &data, out);
}

/// The head of a whole text message, unmasked as a server's is.
pub(crate) fn put_message_head(length: usize, out: &mut Vec<u8>) {
    out.put(FrameHead::new(true, Opcode::Text, length as u64, None).as_ref());
}

fn put_sse(id: &str, name: &str, data: &[u8], out: &mut Vec<u8>) {
    let data = std::str::from_utf8(data).unwrap_or_default();
    let event = sse::Event { id: Some(id), event: Some(name), data: Some(data), ..sse::Event::default() };
    let encoded = event.encode(out);
    debug_assert!(encoded.is_ok());
}

/// Puts what `payload` puts as one chunk.
fn put_chunk(out: &mut Vec<u8>, payload: impl FnOnce(&mut Vec<u8>)) {
    let mut chunk = Vec::new();
    payload(&mut chunk);
    out.extend_from_slice(ChunkHead::new(chunk.len()).as_ref());
    out.extend_from_slice(&chunk);
    out.extend_from_slice(b"\r\n");
}

/// Where the payload of a whole chunk lies: what an HTTP/1.0 client is sent of it.
pub(crate) fn chunk_payload(frame: &[u8]) -> Range<usize> {
    let head = frame.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    head..frame.len().saturating_sub(2).max(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Key, Revision};

    fn change() -> Change {
        Change {
            key: Key::new("a", 1024).unwrap(),
            revision: Revision::new(7).unwrap(),
            created: Revision::new(7).unwrap(),
            value: Some(Arc::from(&b"x"[..])),
        }
    }

    const EVENT: &str = r#"{"type":"put","key":"a","revision":7,"createRevision":7,"value":"x"}"#;

    fn encode(encoder: &dyn Encoder) -> String {
        let mut out = Vec::new();
        encoder.encode(&change(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_is_one_chunk() {
        let line = encode(&Lines);
        assert_eq!(line, format!("{:x}\r\n{EVENT}\n\r\n", EVENT.len() + 1));
        assert_eq!(&line[chunk_payload(line.as_bytes())], format!("{EVENT}\n"));
    }

    #[test]
    fn a_server_sent_event_has_the_revision_as_its_id() {
        let event = encode(&Events);
        let payload = &event[chunk_payload(event.as_bytes())];
        assert_eq!(payload, format!("id: 7\nevent: put\ndata: {EVENT}\n\n"));
    }

    #[test]
    fn a_message_is_one_text_frame() {
        let mut out = Vec::new();
        Messages.encode(&change(), &mut out);
        assert_eq!(out, [&[0x81, EVENT.len() as u8], EVENT.as_bytes()].concat());
    }

    #[test]
    fn members_follow_a_brace() {
        assert_eq!(format!("{{{}", encode(&Members)), EVENT);
    }

    #[test]
    fn an_empty_chunk_has_no_payload() {
        assert_eq!(chunk_payload(b""), 0..0);
        assert_eq!(chunk_payload(b"0\r\n\r\n"), 3..3);
    }
}
