//! The surfaces that changes are shown on, each with the encoder of its frames.
//!
//! A frame is framed to the last byte when it is made (chunk head and tail included), so that a delivery is a send of
//! shared bytes and nothing else:
//!
//! ```text
//!   Lines      chunk ( event \n )
//!   Events     chunk ( id: event: data: \n\n )
//!   Messages   frame head, event
//!   Compressed the same, compressed where that gains something: one for each size of window (compressed.rs)
//!   Members    event without its opening brace: what follows a watch's id on a shared WebSocket,
//!              or the brace in the answer to a long poll
//! ```
//!
//! The id of a server-sent event is where an `EventSource` goes on after a cut, so of a commit's changes only the last one has
//! it. A watcher whom the last one does not concern gets the id in front of the last one that does, made anew.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use keepwatch_protocol::Sink;
use keepwatch_protocol::http1::chunked::ChunkHead;
use keepwatch_protocol::sse;
use keepwatch_protocol::websocket::frame::FrameHead;
use keepwatch_protocol::websocket::{Compression, Connection, MessageKind, Opcode};

use crate::change::Change;
use crate::compressed::{Compressed, Tally};
use crate::encoding::{Encoder, EncodingId, Encodings, TooManyEncodings};
use crate::key::Revision;
use crate::shapes::{Notice, put_event_members};

/// The encodings of the surfaces, by the ids that they were registered under.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Surfaces {
    lines: EncodingId,
    events: EncodingId,
    messages: EncodingId,
    compressed: Compressed,
    /// What long polls and the watches of a shared WebSocket are made of.
    pub(crate) members: EncodingId,
}

impl Surfaces {
    /// `compression` is that of the connections; what its encoders do is counted in `tally`.
    pub(crate) fn register(
        encodings: &mut Encodings,
        compression: &Compression,
        tally: &Tally,
    ) -> Result<Self, TooManyEncodings> {
        Ok(Self {
            lines: encodings.register(Arc::new(Lines))?,
            events: encodings.register(Arc::new(Events))?,
            messages: encodings.register(Arc::new(Messages))?,
            members: encodings.register(Arc::new(Members))?,
            compressed: Compressed::register(encodings, compression, tally)?,
        })
    }

    /// The encoding of the frames that look like this.
    pub(crate) fn encoding(self, look: Look) -> EncodingId {
        match look {
            Look::Lines { .. } => self.lines,
            Look::Events { .. } => self.events,
            Look::Messages => self.messages,
            Look::Numbered(_) => self.members,
            Look::Compressed { window_bits } => {
                self.compressed.encoding(window_bits).unwrap_or(self.messages)
            }
        }
    }
}

/// How the frames of one watch look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Lines of JSON, each a chunk; `bare` without the chunk around it, for a client that speaks HTTP/1.0.
    Lines { bare: bool },
    /// Server-sent events, likewise.
    Events { bare: bool },
    /// Text messages.
    Messages,
    /// The same with the id of the watch, where a WebSocket carries several.
    Numbered(WatchId),
    /// Text messages without an id, for all whose server has such a window and no context: compressed where that gains
    /// something.
    Compressed { window_bits: u8 },
}

/// The id that a client gave a watch, below 2^53. In seven bytes, so that a [`Look`] is one word: each watch has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WatchId([u8; 7]);

impl WatchId {
    pub(crate) fn new(id: u64) -> Self {
        let mut bytes = [0; 7];
        bytes.copy_from_slice(&id.to_le_bytes()[..7]);
        Self(bytes)
    }

    fn get(self) -> u64 {
        let mut bytes = [0; 8];
        bytes[..7].copy_from_slice(&self.0);
        u64::from_le_bytes(bytes)
    }
}

impl Look {
    /// Whether a frame is less than what the log keeps: its payload.
    pub(crate) fn is_bare(self) -> bool {
        matches!(self, Self::Lines { bare: true } | Self::Events { bare: true })
    }

    /// Whether the watch came from the URL of a WebSocket, and ends with it.
    pub(crate) fn is_only_watch(self) -> bool {
        matches!(self, Self::Messages | Self::Compressed { .. })
    }

    /// Whether a frame says where to go on from.
    pub(crate) fn has_ids(self) -> bool {
        matches!(self, Self::Events { .. })
    }

    /// Puts the part of a frame that stands in front of what the log keeps, which is so long: the id of a watch, or the one
    /// to go on from.
    pub(crate) fn put_head(self, length: usize, id: Option<Revision>, out: &mut Vec<u8>) {
        match (self, id) {
            (Self::Numbered(id), _) => {
                let brace = id_brace(id);
                put_message_head(brace.len() + length, out);
                out.extend_from_slice(brace.as_bytes());
            }
            // A line of the event, in a chunk of its own.
            (Self::Events { bare }, Some(id)) => {
                put_chunk(bare, out, |out| out.extend_from_slice(format!("id: {id}\n").as_bytes()));
            }
            _ => {}
        }
    }

    /// Puts a notice as a whole frame.
    pub(crate) fn put_notice(self, notice: Notice, out: &mut Vec<u8>) {
        let revision = notice.revision().to_string();
        // A bookmark is an id alone: it moves the client's last event id, and dispatches nothing.
        if let (Self::Events { bare }, Notice::Bookmark(_)) = (self, notice) {
            let event = sse::Event { id: Some(&revision), ..sse::Event::default() };
            return put_chunk(bare, out, |out| put_sse(&event, out));
        }
        let retry = matches!(notice, Notice::Compacted(_)).then_some(RETRY);
        let id = match notice {
            // Whoever loses the connection within the state that follows begins anew: an empty id takes back the old one.
            Notice::Restated(_) => "",
            _ => &revision,
        };
        let event = sse::Event { id: Some(id), event: Some(notice.name()), retry, data: None };
        self.put(event, out, |out| notice.put_members(out));
    }

    /// Puts when an `EventSource` is to come back to a stream that ends; on lines, nothing.
    pub(crate) fn put_retry(self, after: Duration, out: &mut Vec<u8>) {
        if let Self::Events { bare } = self {
            let event = sse::Event { retry: Some(after), ..sse::Event::default() };
            put_chunk(bare, out, |out| put_sse(&event, out));
        }
    }

    fn put_change(self, change: &Change, ends_commit: bool, out: &mut Vec<u8>) {
        let name = if change.value.is_some() { "put" } else { "delete" };
        let id = ends_commit.then(|| change.revision.to_string());
        let event = sse::Event { id: id.as_deref(), event: Some(name), ..sse::Event::default() };
        self.put(event, out, |out| put_event_members(change, out));
    }

    /// Puts a key and its value, as they are before the changes begin, as a whole frame. On server-sent events it has no id:
    /// whoever loses the connection before the bookmark has to begin again.
    pub(crate) fn put_initial(self, change: &Change, out: &mut Vec<u8>) {
        let event = sse::Event { event: Some("put"), ..sse::Event::default() };
        self.put(event, out, |out| put_event_members(change, out));
    }

    /// The same as a message of this connection's, compressed as it does that.
    pub(crate) fn send_initial(self, change: &Change, connection: &mut Connection, out: &mut Vec<u8>) {
        let message = self.message(|out| put_event_members(change, out));
        // Refused only if it closes: then nobody waits for the state.
        let _closing = connection.send(MessageKind::Text, &message, out);
    }

    fn put(self, event: sse::Event<'_>, out: &mut Vec<u8>, members: impl FnOnce(&mut Vec<u8>)) {
        match self {
            Self::Lines { bare } => put_chunk(bare, out, |out| {
                out.push(b'{');
                members(out);
                out.push(b'\n');
            }),
            Self::Events { bare } => {
                let mut data = vec![b'{'];
                members(&mut data);
                let data = std::str::from_utf8(&data).ok();
                put_chunk(bare, out, |out| put_sse(&sse::Event { data, ..event }, out));
            }
            Self::Messages | Self::Numbered(_) | Self::Compressed { .. } => {
                let message = self.message(members);
                put_message_head(message.len(), out);
                out.extend_from_slice(&message);
            }
        }
    }

    fn message(self, members: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut message = match self {
            Self::Numbered(id) => id_brace(id).into_bytes(),
            _ => vec![b'{'],
        };
        members(&mut message);
        message
    }
}

/// How long an `EventSource` waits before it comes back to a stream that was ended on purpose.
const RETRY: Duration = Duration::from_secs(2);

fn id_brace(id: WatchId) -> String {
    format!("{{\"id\":{},", id.get())
}

struct Lines;
struct Events;
struct Messages;
struct Members;

impl Encoder for Lines {
    fn encode(&self, change: &Change, _: bool, out: &mut Vec<u8>) {
        Look::Lines { bare: false }.put_change(change, false, out);
    }
}

impl Encoder for Events {
    fn encode(&self, change: &Change, ends_commit: bool, out: &mut Vec<u8>) {
        Look::Events { bare: false }.put_change(change, ends_commit, out);
    }
}

impl Encoder for Messages {
    fn encode(&self, change: &Change, _: bool, out: &mut Vec<u8>) {
        Look::Messages.put_change(change, false, out);
    }
}

impl Encoder for Members {
    fn encode(&self, change: &Change, _: bool, out: &mut Vec<u8>) {
        put_event_members(change, out);
    }
}

/// The head of a whole text message, unmasked as a server's is.
fn put_message_head(length: usize, out: &mut Vec<u8>) {
    out.put(FrameHead::new(true, Opcode::Text, length as u64, None).as_ref());
}

fn put_sse(event: &sse::Event<'_>, out: &mut Vec<u8>) {
    // Refused only for line breaks in names and ids, of which these have none.
    let encoded = event.encode(out);
    debug_assert!(encoded.is_ok());
}

/// Puts what `payload` puts as one chunk, or as it is.
fn put_chunk(bare: bool, out: &mut Vec<u8>, payload: impl FnOnce(&mut Vec<u8>)) {
    if bare {
        return payload(out);
    }
    let mut chunk = Vec::new();
    payload(&mut chunk);
    out.extend_from_slice(ChunkHead::new(chunk.len()).as_bytes());
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

    #[test]
    fn an_id_is_what_it_was_and_a_look_is_one_word() {
        for id in [0, 1, 255, 256, (1 << 53) - 1] {
            assert_eq!(WatchId::new(id).get(), id);
        }
        assert_eq!(size_of::<Look>(), 8);
    }

    const EVENT: &str = r#"{"type":"put","key":"a","revision":7,"createRevision":7,"value":"x"}"#;

    fn encode(encoder: &dyn Encoder) -> String {
        let mut out = Vec::new();
        encoder.encode(&change(), true, &mut out);
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
    fn inside_a_commit_an_event_has_no_id_and_one_can_be_put_in_front() {
        let (mut event, mut head) = (Vec::new(), Vec::new());
        Events.encode(&change(), false, &mut event);
        let event = &event[chunk_payload(&event)];
        Look::Events { bare: true }.put_head(event.len(), Revision::new(7), &mut head);
        assert_eq!([&head, event].concat(), format!("id: 7\nevent: put\ndata: {EVENT}\n\n").into_bytes());
        head.clear();
        Look::Events { bare: false }.put_head(event.len(), Revision::new(7), &mut head);
        assert_eq!(head, b"6\r\nid: 7\n\r\n");
    }

    #[test]
    fn a_message_is_one_text_frame() {
        let mut out = Vec::new();
        Messages.encode(&change(), true, &mut out);
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
