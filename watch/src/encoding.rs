//! How changes look on the wire, made once for everyone.
//!
//! Each transport needs its own bytes for a change (a line in a chunk, an SSE event, a WebSocket message), and all watchers of
//! one transport need the same ones. So a transport registers an [`Encoder`] with [`Encodings`], and the frames of a whole
//! batch are made together, when the first watcher needs one, as one [`Encoded`].
//!
//! An encoding is a cache: it can be dropped at any time and is made again from the changes, with equal bytes.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::change::{Change, ends_commit};

/// Writes the frame of a change: pre-framed bytes that go to the socket as they are.
pub(crate) trait Encoder: Send + Sync {
    /// Appends the whole frame to `out`; the frame may say whether the change [ends its commit](crate::change::ends_commit). The
    /// same change always gives the same bytes: a frame that is half written may be made again before its second half is.
    fn encode(&self, change: &Change, ends_commit: bool, out: &mut Vec<u8>);
}

/// Which encoder, among those of one [`Encodings`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct EncodingId(u8);

impl EncodingId {
    /// Its index, from 0 in the order of registration.
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// The encoders that were registered, at most 256.
///
/// Machines that share a store are given clones of one of these: encoders are told apart by their address, and only what the
/// same encoder made is shared between machines.
#[derive(Clone, Default)]
pub(crate) struct Encodings(Vec<Arc<dyn Encoder>>);

impl Encodings {
    /// None yet.
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds an encoder.
    pub(crate) fn register(&mut self, encoder: Arc<dyn Encoder>) -> Result<EncodingId, TooManyEncodings> {
        let id = u8::try_from(self.0.len()).map_err(|_| TooManyEncodings)?;
        self.0.push(encoder);
        Ok(EncodingId(id))
    }

    /// The encoder with that id.
    pub(crate) fn encoder(&self, id: EncodingId) -> Option<&Arc<dyn Encoder>> {
        self.0.get(id.index())
    }
}

impl fmt::Debug for Encodings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Encodings({})", self.0.len())
    }
}

/// There are 256 encodings already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooManyEncodings;

impl fmt::Display for TooManyEncodings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("at most 256 encodings can be registered")
    }
}

impl std::error::Error for TooManyEncodings {}

/// The frames of all changes of a batch in one encoding, one behind the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Encoded {
    bytes: Arc<[u8]>,
    /// Where each frame ends. Not `u32`: a batch of large values may pass 4 GiB when it is encoded.
    ends: Box<[usize]>,
    /// The bytes of the largest frame.
    largest: usize,
}

impl Encoded {
    /// Encodes these changes. The frames grow in `scratch`, whose content is lost, and are then copied to their exact size.
    pub(crate) fn new(changes: &[Change], encoder: &dyn Encoder, scratch: &mut Vec<u8>) -> Self {
        scratch.clear();
        let mut largest = 0;
        let ends = changes
            .iter()
            .enumerate()
            .map(|(index, change)| {
                let start = scratch.len();
                encoder.encode(change, ends_commit(changes, index), scratch);
                largest = largest.max(scratch.len() - start);
                scratch.len()
            })
            .collect();
        Self { bytes: Arc::from(&**scratch), ends, largest }
    }

    /// All frames. A clone keeps them alive, whatever becomes of the log: this is what a half written frame holds.
    pub(crate) fn bytes(&self) -> &Arc<[u8]> {
        &self.bytes
    }

    /// Where the frame of the change with that index lies in [`Encoded::bytes`]. Empty behind the last one.
    pub(crate) fn frame(&self, index: usize) -> Range<usize> {
        self.frames(index..index.saturating_add(1))
    }

    /// Where the frames of several changes in a row lie in [`Encoded::bytes`]: what a watcher of everything is sent as one
    /// part.
    pub(crate) fn frames(&self, indices: Range<usize>) -> Range<usize> {
        self.start(indices.start)..self.start(indices.end.max(indices.start))
    }

    /// The frame of the change with that index. Empty behind the last one.
    pub(crate) fn frame_bytes(&self, index: usize) -> &[u8] {
        self.bytes.get(self.frame(index)).unwrap_or(&[])
    }

    /// The bytes of the largest frame.
    pub(crate) fn largest(&self) -> usize {
        self.largest
    }

    /// About how many bytes of memory it holds.
    pub(crate) fn memory(&self) -> usize {
        size_of::<Self>() + self.bytes.len() + size_of_val(&*self.ends) + 32
    }

    fn start(&self, index: usize) -> usize {
        match index.checked_sub(1) {
            None => 0,
            Some(before) => self.ends.get(before).copied().unwrap_or(self.bytes.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Key, Revision};

    struct KeyLine;

    impl Encoder for KeyLine {
        fn encode(&self, change: &Change, _: bool, out: &mut Vec<u8>) {
            out.extend_from_slice(change.key.as_bytes());
            out.push(b'\n');
        }
    }

    fn encoded(keys: &[&str]) -> Encoded {
        let change = |key: &&str| Change {
            key: Key::new(key, 16).unwrap(),
            revision: Revision::ZERO,
            created: Revision::ZERO,
            value: None,
        };
        let changes: Vec<_> = keys.iter().map(change).collect();
        Encoded::new(&changes, &KeyLine, &mut b"left over".to_vec())
    }

    #[test]
    fn frames_lie_one_behind_the_other() {
        let encoded = encoded(&["a", "bcd", "e"]);
        assert_eq!(&**encoded.bytes(), b"a\nbcd\ne\n");
        assert_eq!([encoded.frame(0), encoded.frame(1), encoded.frame(2)], [0..2, 2..6, 6..8]);
        assert_eq!(encoded.frame_bytes(1), b"bcd\n");
        assert_eq!(encoded.frames(0..2), 0..6);
        assert_eq!(encoded.frames(1..3), 2..8);
        assert_eq!(encoded.largest(), 4);
    }

    #[test]
    #[expect(clippy::reversed_empty_ranges, reason = "a caller may")]
    fn frames_that_are_not_there_are_empty_and_never_panic() {
        let encoded = encoded(&["a", "b"]);
        assert_eq!(encoded.frame_bytes(2), b"");
        assert_eq!(encoded.frame_bytes(usize::MAX), b"");
        for range in [encoded.frames(1..1), encoded.frames(2..9), encoded.frames(1..0), encoded.frames(9..3)]
        {
            assert_eq!(encoded.bytes().get(range.clone()), Some(&[][..]), "{range:?}");
        }
    }

    #[test]
    fn memory_is_that_of_the_frames_and_of_a_number_for_each() {
        let (none, one, longer) =
            (encoded(&[]).memory(), encoded(&["a"]).memory(), encoded(&["abc"]).memory());
        assert!((size_of::<Encoded>() + 1..=100).contains(&none), "{none}");
        assert_eq!((one, longer), (none + 2 + size_of::<usize>(), one + 2));
        assert_eq!(encoded(&["abc", "abc"]).memory() - longer, longer - none);
    }

    #[test]
    fn encoders_are_numbered_as_they_come_up_to_256() {
        let mut encodings = Encodings::new();
        for index in 0..256 {
            assert_eq!(encodings.register(Arc::new(KeyLine)).unwrap().index(), index);
        }
        assert_eq!(encodings.register(Arc::new(KeyLine)), Err(TooManyEncodings));
    }
}
