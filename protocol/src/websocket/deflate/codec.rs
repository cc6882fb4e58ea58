//! The two states of DEFLATE (RFC 1951), as messages need them (RFC 7692 sections 7.2.1 and 7.2.2).

use alloc::boxed::Box;
use alloc::vec::Vec;

use zlib_rs::{Deflate, DeflateFlush, Inflate, InflateError, InflateFlush, Status};

use super::compression::DeflateConfig;
use super::pool::{Kept, Shelf, Slot};

/// What ends a message and is not sent (RFC 7692 section 7.2.1), without the first bits of its block.
pub(super) const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// The largest window. An inflater always has it: it takes the same memory with any, and `zlib_rs` forgets a smaller one when
/// it is reset.
const MAX_WINDOW_BITS: u8 = 15;

/// From this window on level 1 is what it should be, quick. It makes no codes for what it compresses, and so gains by repetitions
/// alone, of which a smaller window has few: there it leaves twice of what level 3 leaves, and takes nearly as long.
const WIDE_WINDOW_BITS: u8 = 12;

/// The lowest level in smaller windows.
const SMALL_WINDOW_LEVEL: u8 = 3;

/// Takes the compressed bytes of one message after another.
pub(in super::super) struct Inflater {
    stream: Inflate,
    /// What of the message under way was taken.
    pub(in super::super) taken: u64,
    /// Whether more may come out without anything going in.
    full: bool,
}

/// How far it came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Progress {
    /// Bytes of the source.
    pub(in super::super) taken: usize,
    /// Bytes of the target.
    pub(in super::super) given: usize,
}

/// It cannot be inflated; what came out before is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Corrupt {
    pub(in super::super) given: usize,
}

impl Inflater {
    /// Inflates from `from` to `to` until the one is used up or the other full.
    pub(in super::super) fn inflate(&mut self, from: &[u8], to: &mut [u8]) -> Result<Progress, Corrupt> {
        let Progress { mut taken, mut given } = Progress::default();
        loop {
            let (from, to) = (from.get(taken..).unwrap_or_default(), to.get_mut(given..).unwrap_or_default());
            if to.is_empty() || (from.is_empty() && !self.full) {
                break;
            }
            let (status, step) = self.step(from, to, InflateFlush::NoFlush);
            taken += step.taken;
            given += step.given;
            self.full = step.given == to.len();
            match status {
                Ok(Status::StreamEnd) => {
                    // A block with BFINAL: what follows begins anew (RFC 7692 section 7.2.3.4).
                    self.stream.reset(false);
                    self.full = false;
                }
                Ok(_) if step.taken == from.len() || self.full => {}
                Ok(_) | Err(_) => return Err(Corrupt { given }),
            }
        }
        self.taken += taken as u64;
        Ok(Progress { taken, given })
    }

    /// Whether all that can come out of what went in has come out.
    pub(in super::super) fn is_drained(&self) -> bool {
        !self.full
    }

    /// The message ends here: it must do so between two blocks, the last of which was empty and not compressed.
    ///
    /// The four bytes that the sender left away are put back, and one more. If the message is whole, they are the rest of
    /// that block, nothing comes out of them, and the one behind it is left.
    pub(in super::super) fn finish(&mut self) -> Result<(), Corrupt> {
        let [a, b, c, d] = TAIL;
        let (status, step) = self.step(&[a, b, c, d, 0], &mut [0; 8], InflateFlush::Block);
        self.taken = 0;
        let whole = status == Ok(Status::Ok) && step == Progress { taken: TAIL.len(), given: 0 };
        if whole { Ok(()) } else { Err(Corrupt { given: 0 }) }
    }

    fn step(
        &mut self,
        from: &[u8],
        to: &mut [u8],
        flush: InflateFlush,
    ) -> (Result<Status, InflateError>, Progress) {
        let (taken, given) = (self.stream.total_in(), self.stream.total_out());
        let status = self.stream.decompress(from, to, flush);
        let taken = self.stream.total_in().wrapping_sub(taken) as usize;
        (status, Progress { taken, given: self.stream.total_out().wrapping_sub(given) as usize })
    }
}

impl Kept for Inflater {
    type Class = ();
    const MOMENTARY: bool = false;

    fn make((): (), _: &DeflateConfig) -> Self {
        Self { stream: Inflate::new(false, MAX_WINDOW_BITS), taken: 0, full: false }
    }

    fn bytes((): (), _: &DeflateConfig) -> usize {
        48 << 10
    }

    fn class(&self) {}

    fn fits(&self, (): ()) -> bool {
        true
    }

    fn place(shelf: &mut Shelf) -> &mut Vec<Box<Slot<Self>>> {
        &mut shelf.inflaters
    }

    fn reset(&mut self) {
        self.stream.reset(false);
        self.taken = 0;
        self.full = false;
    }
}

/// Makes the compressed bytes of one message after another.
pub(in super::super) struct Compressor {
    stream: Deflate,
    window_bits: u8,
    /// Whether it may be inside a block.
    inside: bool,
}

impl Compressor {
    /// Compresses from `from` to `to`. To flush lets all of it come out, up to a byte's border: behind an empty block that is
    /// not compressed, of which [`TAIL`] is the end. Where `to` is full more is to come: call it with the rest.
    pub(in super::super) fn compress(&mut self, from: &[u8], to: &mut [u8], flush: bool) -> Progress {
        let (taken, given) = (self.stream.total_in(), self.stream.total_out());
        // The state is sound and the target has room, so the only failure is to have nothing to do.
        let flush = if flush { DeflateFlush::SyncFlush } else { DeflateFlush::NoFlush };
        let _status = self.stream.compress(from, to, flush);
        let taken = self.stream.total_in().wrapping_sub(taken) as usize;
        let given = self.stream.total_out().wrapping_sub(given) as usize;
        self.inside = !matches!(flush, DeflateFlush::SyncFlush) || given == to.len();
        Progress { taken, given }
    }

    /// Appends a whole message as it is sent: without its [`TAIL`]. It passes through `buffer`.
    pub(super) fn compress_message(&mut self, message: &[u8], buffer: &mut [u8], to: &mut Vec<u8>) {
        let mut rest = message;
        loop {
            let Progress { taken, given } = self.compress(rest, buffer, true);
            rest = rest.get(taken..).unwrap_or_default();
            to.extend_from_slice(buffer.get(..given).unwrap_or_default());
            if given < buffer.len() {
                break;
            }
        }
        to.truncate(to.len().saturating_sub(TAIL.len()));
    }
}

impl Kept for Compressor {
    /// The bits of its window.
    type Class = u8;
    const MOMENTARY: bool = false;

    fn make(window_bits: u8, config: &DeflateConfig) -> Self {
        let least = if window_bits < WIDE_WINDOW_BITS { SMALL_WINDOW_LEVEL } else { 1 };
        let config = zlib_rs::DeflateConfig {
            level: i32::from(config.level.max(least)),
            window_bits: -i32::from(window_bits), // without a header around the blocks
            mem_level: i32::from(config.memory_level),
            ..zlib_rs::DeflateConfig::default()
        };
        Self { stream: Deflate::new_with_config(config), window_bits, inside: false }
    }

    /// The window twice and a chain through it, a table of hashes, the symbols that wait for their block, and the rest.
    fn bytes(window_bits: u8, config: &DeflateConfig) -> usize {
        (4 << window_bits) + (128 << 10) + (7 << (config.memory_level + 6)) + (8 << 10)
    }

    fn class(&self) -> u8 {
        self.window_bits
    }

    fn fits(&self, window_bits: u8) -> bool {
        self.window_bits == window_bits
    }

    fn place(shelf: &mut Shelf) -> &mut Vec<Box<Slot<Self>>> {
        &mut shelf.compressors
    }

    fn reset(&mut self) {
        // Reset inside a block, `zlib_rs` would leave away the head of the next one. A message that was given up ends there.
        while self.inside {
            self.compress(&[], &mut [0; 1024], true);
        }
        self.stream.reset();
    }
}
