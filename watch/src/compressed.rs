//! Messages of a WebSocket that are compressed once, for all who take them so.
//!
//! A connection that agreed to `server_no_context_takeover` can be sent bytes that were compressed for another: all that they
//! have to have in common is the size of the window, 9 to 15 bits (browsers: 15). So there is an encoder for each size, and
//! what it makes is an encoding of the log like any other: made when the first watcher needs it, shared, and dropped first.
//!
//! Each encoder has a compressor of its own, made when it is first used: half-written frames may be made again, so what it
//! makes must not depend on whether the budget of all other compression has room. The seven of a process together take 1.3 MiB;
//! the one that browsers use takes 278 KiB of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use keepwatch_protocol::websocket::Compression;
use prometheus_client::metrics::counter::Counter;

use crate::encoding::{EncodingId, Encodings, TooManyEncodings};

/// The windows, in bits, the usual one first.
#[cfg(feature = "deflate")]
const WINDOWS: [u8; 7] = [15, 14, 13, 12, 11, 10, 9];

/// The encodings of compressed messages; none where nothing is compressed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Compressed([Option<EncodingId>; 7]);

/// What all encoders of compressed messages did, and hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Messages that were compressed, each once for each window.
    pub(crate) messages: Counter,
    /// Their bytes before that.
    pub(crate) before: Counter,
    /// The bytes of the frames that were made of them.
    pub(crate) after: Counter,
    memory: Arc<AtomicUsize>,
}

impl Tally {
    /// The bytes of the encoders' compressors.
    pub(crate) fn memory(&self) -> usize {
        self.memory.load(Ordering::Relaxed)
    }
}

impl Compressed {
    /// The encoding for a window of so many bits.
    pub(crate) fn encoding(self, window_bits: u8) -> Option<EncodingId> {
        self.0.get(usize::from(15u8.checked_sub(window_bits)?)).copied().flatten()
    }

    #[cfg(feature = "deflate")]
    pub(crate) fn register(
        encodings: &mut Encodings,
        compression: &Compression,
        tally: &Tally,
    ) -> Result<Self, TooManyEncodings> {
        let mut compressed = Self::default();
        if *compression != Compression::OFF {
            for (place, window_bits) in compressed.0.iter_mut().zip(WINDOWS) {
                let encoder = encoder::CompressedMessages::new(compression, window_bits, tally);
                *place = Some(encodings.register(Arc::new(encoder))?);
            }
        }
        Ok(compressed)
    }

    #[cfg(not(feature = "deflate"))]
    #[expect(clippy::unnecessary_wraps, reason = "it stands in for the one that registers")]
    pub(crate) fn register(_: &mut Encodings, _: &Compression, _: &Tally) -> Result<Self, TooManyEncodings> {
        Ok(Self::default())
    }
}

#[cfg(feature = "deflate")]
mod encoder {
    use std::sync::atomic::Ordering;
    use std::sync::{Mutex, PoisonError};

    use keepwatch_protocol::websocket::deflate::Framer;
    use keepwatch_protocol::websocket::{Compression, Message};

    use super::Tally;
    use crate::change::Change;
    use crate::encoding::Encoder;
    use crate::shapes::put_event_members;

    /// Text messages in frames, compressed for one size of window.
    pub(super) struct CompressedMessages {
        compression: Compression,
        window_bits: u8,
        framer: Mutex<Option<Framer>>,
        tally: Tally,
    }

    impl CompressedMessages {
        pub(super) fn new(compression: &Compression, window_bits: u8, tally: &Tally) -> Self {
            let (compression, tally) = (compression.clone(), tally.clone());
            Self { compression, window_bits, framer: Mutex::new(None), tally }
        }
    }

    impl Encoder for CompressedMessages {
        fn encode(&self, change: &Change, _: bool, out: &mut Vec<u8>) {
            let mut message = vec![b'{'];
            put_event_members(change, &mut message);
            // JSON was put, of strings.
            let Ok(text) = std::str::from_utf8(&message) else { return };
            // Each message begins anew, so a framer that was left in the middle of one is as good.
            let mut framer = self.framer.lock().unwrap_or_else(PoisonError::into_inner);
            if framer.is_none() {
                *framer = self.compression.framer(self.window_bits);
                let memory = framer.as_ref().map_or(0, Framer::memory);
                self.tally.memory.fetch_add(memory, Ordering::Relaxed);
            }
            let Some(framer) = framer.as_mut() else { return };
            let before = out.len();
            if framer.put(Message::Text(text), out) {
                self.tally.messages.inc();
                self.tally.before.inc_by(text.len() as u64);
                self.tally.after.inc_by((out.len() - before) as u64);
            }
        }
    }
}
