//! Messages that are compressed once, by whoever keeps the bytes for many connections.

use alloc::vec::Vec;
use core::fmt;

use super::super::assembly::Message;
use super::super::frame::FrameHead;
use super::codec::Compressor;
use super::compression::DeflateConfig;
use super::pool::{BUFFER_BYTES, Kept};

/// Frames messages as a server sends them, compressed where that gains something, for all connections that
/// [agreed to](crate::websocket::Connection::deflate) `server_no_context_takeover` and a window of at least this size.
///
/// Whether a [`Prepared`](crate::websocket::Prepared) message is compressed depends on whether there was memory. What this makes
/// depends on the message alone: it can be dropped, and made again while some have written the half of it.
///
/// It has a compressor of its own for that, which is [not in the budget](Self::memory): keep one for each size of window that
/// is in use.
///
/// ```
/// use keepwatch_protocol::websocket::deflate::DeflateConfig;
/// use keepwatch_protocol::websocket::{Compression, Message};
///
/// let compression = Compression::deflate(DeflateConfig::default());
/// let mut framer = compression.framer(15).expect("it is on");
/// let (mut frame, mut again) = (Vec::new(), Vec::new());
/// assert!(framer.put(Message::Text(&"to and fro, ".repeat(100)), &mut frame));
/// assert!(!framer.put(Message::Text("short"), &mut again));
/// assert!(frame.len() < 50 && again == b"\x81\x05short");
/// ```
pub struct Framer {
    compressor: Compressor,
    config: DeflateConfig,
    /// The compressed payload, before its length is known.
    compressed: Vec<u8>,
}

impl Framer {
    /// For a window of 9 to 15 bits; what is beyond becomes the nearest.
    pub(super) fn new(window_bits: u8, config: &DeflateConfig) -> Self {
        Self {
            compressor: Compressor::make(window_bits.clamp(9, 15), config),
            config: *config,
            compressed: Vec::new(),
        }
    }

    /// Appends the frame of a whole message. Returns whether it is compressed: messages below the
    /// [threshold](field@DeflateConfig::threshold), and those that would become no smaller, go as they are.
    pub fn put(&mut self, message: Message<'_>, out: &mut Vec<u8>) -> bool {
        let payload = message.as_bytes();
        let mut compresses = self.config.compresses(payload, false);
        if compresses {
            self.compressed.clear();
            self.compressor.reset();
            self.compressor.compress_message(payload, &mut [0; PIECE_BYTES], &mut self.compressed);
            compresses = self.compressed.len() < payload.len();
        }
        let payload = if compresses { &self.compressed } else { payload };
        let head = FrameHead::new(true, message.kind().into(), payload.len() as u64, None);
        let head = if compresses { head.with_rsv1() } else { head };
        out.reserve(head.as_ref().len() + payload.len());
        out.extend_from_slice(head.as_ref());
        out.extend_from_slice(payload);
        self.compressed.shrink_to(BUFFER_BYTES);
        compresses
    }

    /// The bytes that it takes: 139 to 488 KiB for the compressor, and at most 16 KiB between two messages. They are in no
    /// budget.
    pub fn memory(&self) -> usize {
        Compressor::bytes(self.compressor.class(), &self.config) + self.compressed.capacity()
    }
}

/// How much comes out of the compressor at a time.
const PIECE_BYTES: usize = 4096;

impl fmt::Debug for Framer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Framer({} bits)", self.compressor.class())
    }
}
