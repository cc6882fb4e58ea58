//! Messages that many connections get: framed once, compressed once.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
#[cfg(feature = "deflate")]
use std::sync::OnceLock;

use super::MessageKind;
#[cfg(feature = "deflate")]
use super::Role;
use super::assembly::Message;
use super::connection::Connection;
use super::error::SendError;
use super::frame::FrameHead;

/// A whole message as a server sends it, to be shared by any number of connections.
///
/// It is framed when it is made, and compressed when the first connection wants it so, once for each size of window; browsers
/// all want the same. A connection that compresses with context takeover gets it uncompressed, as what is compressed for one
/// such connection is of no use to another; its context stays as it is. That is what is agreed to by default: a server that
/// sends to many leaves [`Terms::send_takeover`](super::deflate::Terms::send_takeover) out. For bytes that have to be the same
/// whenever they are made there is `deflate::Framer` instead.
///
/// ```
/// use std::sync::Arc;
/// use keepwatch_protocol::Now;
/// use keepwatch_protocol::websocket::{Connection, Message, Prepared, Role};
///
/// let news = Prepared::new(Message::Text("Hello"));
/// let readers = [1, 2].map(|seed| Connection::new(Role::Server, Arc::default(), seed, Now::default()));
/// let frames: Vec<Arc<[u8]>> = readers.iter().map(|reader| news.for_connection(reader).cloned()).collect::<Result<_, _>>()?;
/// assert_eq!(&frames[0][..], b"\x81\x05Hello");
/// assert!(Arc::ptr_eq(&frames[0], &frames[1]));
/// # Ok::<(), keepwatch_protocol::websocket::SendError>(())
/// ```
pub struct Prepared {
    kind: MessageKind,
    frame: Arc<[u8]>,
    /// Where its payload begins.
    head: usize,
    #[cfg(feature = "deflate")]
    compressed: [OnceLock<Arc<[u8]>>; 7],
}

impl Prepared {
    /// Frames a message.
    pub fn new(message: Message<'_>) -> Self {
        let payload = message.as_bytes();
        let head = FrameHead::new(true, message.kind().into(), payload.len() as u64, None);
        Self {
            kind: message.kind(),
            frame: framed(head, payload).into(),
            head: head.as_ref().len(),
            #[cfg(feature = "deflate")]
            compressed: Default::default(),
        }
    }

    /// The frame for this connection, to be written before anything else is. Nothing is remembered: it is a whole message.
    ///
    /// # Errors
    ///
    /// Those of [`may_send`](Connection::may_send): none may be written now, or a client asks.
    pub fn for_connection(&self, connection: &Connection) -> Result<&Arc<[u8]>, SendError> {
        connection.may_send()?;
        #[cfg(feature = "deflate")]
        if let Some(compressed) = self.compressed(connection) {
            return Ok(compressed);
        }
        Ok(&self.frame)
    }

    /// The frame, not compressed: right for every connection that [may send](Connection::may_send).
    pub fn uncompressed(&self) -> &Arc<[u8]> {
        &self.frame
    }

    fn payload(&self) -> &[u8] {
        self.frame.get(self.head..).unwrap_or_default()
    }

    /// The compressed frame, if this connection takes it, and there is memory to make it.
    #[cfg(feature = "deflate")]
    fn compressed(&self, connection: &Connection) -> Option<&Arc<[u8]>> {
        let bits = connection.deflate()?.shared_window_bits(Role::Server)?;
        let place = self.compressed.get(usize::from(bits.checked_sub(9)?))?;
        if let Some(frame) = place.get() {
            return Some(frame);
        }
        let frame = match connection.compress_shared(bits, self.payload())? {
            compressed if compressed.len() < self.payload().len() => {
                let head = FrameHead::new(true, self.kind.into(), compressed.len() as u64, None);
                framed(head.with_rsv1(), &compressed).into()
            }
            _ => Arc::clone(&self.frame),
        };
        Some(place.get_or_init(|| frame))
    }
}

fn framed(head: FrameHead, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(head.as_ref().len() + payload.len());
    bytes.extend_from_slice(head.as_ref());
    bytes.extend_from_slice(payload);
    bytes
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prepared({:?} of {} bytes)", self.kind, self.payload().len())
    }
}
