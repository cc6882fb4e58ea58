//! UTF-8 that arrives in pieces (RFC 6455 section 8.1, RFC 3629).
//!
//! A piece may end inside a code point, which is then no error until the text ends or the next byte makes it one. What
//! can no longer become valid is refused at the first such byte. All that is kept between pieces is a state:
//!
//! ```text
//!   state         what must follow        byte                               next
//!   ────────────  ──────────────────────  ─────────────────────────────────  ─────────────────────────────
//!   BETWEEN       a code point, or none   00..7F                             BETWEEN
//!                                         C2..DF                             ONE_MORE
//!                                         E0, E1..EC and EE..EF, ED          AFTER_E0, TWO_MORE, AFTER_ED
//!                                         F0, F1..F3, F4                     AFTER_F0, THREE_MORE, AFTER_F4
//!   ONE_MORE      one byte of 80..BF      80..BF                             BETWEEN
//!   TWO_MORE      two                     80..BF                             ONE_MORE
//!   THREE_MORE    three                   80..BF                             TWO_MORE
//!   AFTER_E0      two, not too small      A0..BF                             ONE_MORE
//!   AFTER_ED      two, no surrogate       80..9F                             ONE_MORE
//!   AFTER_F0      three, not too small    90..BF                             TWO_MORE
//!   AFTER_F4      three, not too large    80..8F                             TWO_MORE
//!   REFUSED       nothing can             any, and any other byte above      REFUSED
//! ```
//!
//! A state is written as a number of bits, and each byte has all its transitions in one word, those from a state that many bits
//! up: a step is a look-up that does not wait for the step before it, and a shift. ASCII is passed over in blocks. With
//! the feature `simd` pieces that are not short go through `simdutf8`, which leaves the state machine only what is cut.

use core::fmt;

/// The bits that a state takes; each is a multiple of it, and below 64.
const BITS: u8 = 6;
const REFUSED: u8 = 0;
const BETWEEN: u8 = BITS;
const ONE_MORE: u8 = 2 * BITS;
const TWO_MORE: u8 = 3 * BITS;
const THREE_MORE: u8 = 4 * BITS;
const AFTER_E0: u8 = 5 * BITS;
const AFTER_ED: u8 = 6 * BITS;
const AFTER_F0: u8 = 7 * BITS;
const AFTER_F4: u8 = 8 * BITS;

/// What each byte leads to, from every state.
static NEXT: [u64; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = transitions(byte as u8);
        byte += 1;
    }
    table
};

const fn transitions(byte: u8) -> u64 {
    let begins = match byte {
        0x00..=0x7f => BETWEEN,
        0xc2..=0xdf => ONE_MORE,
        0xe0 => AFTER_E0,
        0xe1..=0xec | 0xee..=0xef => TWO_MORE,
        0xed => AFTER_ED,
        0xf0 => AFTER_F0,
        0xf1..=0xf3 => THREE_MORE,
        0xf4 => AFTER_F4,
        _ => REFUSED,
    };
    if !matches!(byte, 0x80..=0xbf) {
        return (begins as u64) << BETWEEN;
    }
    let (three, four) = match byte {
        ..0x90 => (AFTER_ED, AFTER_F4),
        0x90..0xa0 => (AFTER_ED, AFTER_F0),
        0xa0.. => (AFTER_E0, AFTER_F0),
    };
    (BETWEEN as u64) << ONE_MORE
        | (ONE_MORE as u64) << TWO_MORE
        | (TWO_MORE as u64) << THREE_MORE
        | (ONE_MORE as u64) << three
        | (TWO_MORE as u64) << four
}

/// A validator for one text at a time. One byte; ready for the next text after [`finish`](Self::finish).
///
/// ```
/// use keepwatch_protocol::websocket::utf8::{InvalidUtf8, Utf8};
///
/// let mut text = Utf8::default();
/// assert_eq!(text.push(b"\xe2\x82"), Ok(())); // two of the three bytes of a code point
/// assert_eq!(text.push(b"\xac!"), Ok(()));
/// assert_eq!(text.finish(), Ok(()));
/// assert_eq!(text.push(b"\xf4\x90"), Err(InvalidUtf8)); // beyond U+10FFFF, whatever follows
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Utf8 {
    /// Never [`REFUSED`]: after that it begins again.
    state: u8,
}

/// The bytes are not UTF-8, and no bytes that follow can make them so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidUtf8;

impl Utf8 {
    /// Takes the next piece. After an error the validator starts anew.
    ///
    /// # Errors
    ///
    /// The text is not UTF-8, whatever follows.
    #[inline]
    pub fn push(&mut self, piece: &[u8]) -> Result<(), InvalidUtf8> {
        self.state = after(self.state, piece);
        if self.state == REFUSED {
            *self = Self::default();
            return Err(InvalidUtf8);
        }
        Ok(())
    }

    /// The text ends here: `Err` if inside a code point. The next piece begins another text.
    ///
    /// # Errors
    ///
    /// The text ends inside a code point.
    #[inline]
    pub fn finish(&mut self) -> Result<(), InvalidUtf8> {
        let whole = self.state == BETWEEN;
        *self = Self::default();
        if whole { Ok(()) } else { Err(InvalidUtf8) }
    }
}

impl Default for Utf8 {
    fn default() -> Self {
        Self { state: BETWEEN }
    }
}

impl fmt::Debug for Utf8 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.state == BETWEEN { "Utf8(between code points)" } else { "Utf8(inside one)" })
    }
}

/// The state after these bytes.
#[cfg(not(feature = "simd"))]
fn after(state: u8, bytes: &[u8]) -> u8 {
    by_blocks(state, bytes)
}

/// The state after these bytes.
#[cfg(feature = "simd")]
fn after(state: u8, bytes: &[u8]) -> u8 {
    /// Below this the state machine is as quick.
    const WORTH_IT: usize = 64;

    if bytes.len() < WORTH_IT {
        return by_blocks(state, bytes);
    }
    // The end of a code point that was cut takes three bytes at most.
    let (mut state, mut rest) = (state, bytes);
    while let Some((byte, more)) = rest.split_first().filter(|_| state != BETWEEN && state != REFUSED) {
        state = step(state.into(), *byte) as u8 & STATE;
        rest = more;
    }
    if state == REFUSED {
        return REFUSED;
    }
    // The last code point that begins within three bytes of the end may be cut. What is in front of it may not.
    let begun = rest.iter().rev().take(3).position(|byte| *byte >= 0xc0).map_or(0, |from_end| from_end + 1);
    let (whole, begun) = rest.split_at(rest.len() - begun);
    if simdutf8::basic::from_utf8(whole).is_err() { REFUSED } else { by_bytes(BETWEEN, begun) }
}

/// The bits of a word that a state is in.
const STATE: u8 = (1 << BITS) - 1;

/// The next state in the lowest bits, and others above them that mean nothing.
fn step(state: u64, byte: u8) -> u64 {
    NEXT[usize::from(byte)] >> (state & u64::from(STATE))
}

fn by_bytes(state: u8, bytes: &[u8]) -> u8 {
    bytes.iter().fold(state.into(), |state, byte| step(state, *byte)) as u8 & STATE
}

/// ASCII is passed over, in long blocks and then in short ones.
fn by_blocks(state: u8, bytes: &[u8]) -> u8 {
    let mut long = bytes.chunks_exact(64);
    let state = long.by_ref().fold(state, by_block);
    let mut short = long.remainder().chunks_exact(16);
    let state = short.by_ref().fold(state, by_block);
    by_bytes(state, short.remainder())
}

fn by_block(state: u8, block: &[u8]) -> u8 {
    if state == BETWEEN && block.is_ascii() { BETWEEN } else { by_bytes(state, block) }
}

impl fmt::Display for InvalidUtf8 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not UTF-8")
    }
}

impl core::error::Error for InvalidUtf8 {}

#[cfg(test)]
mod tests {
    use core::str;

    use keepwatch_sim::cuts;
    use proptest::prelude::*;

    use super::*;

    /// After how many bytes, fed in these pieces, the text is refused; `Ok` of whether it may end there if it never is.
    fn run<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<bool, ()> {
        let mut text = Utf8::default();
        for piece in pieces {
            text.push(piece).map_err(|_| ())?;
        }
        Ok(text.finish().is_ok())
    }

    fn by_std(bytes: &[u8]) -> Result<bool, ()> {
        match str::from_utf8(bytes) {
            Ok(_) => Ok(true),
            Err(error) if error.error_len().is_none() => Ok(false),
            Err(_) => Err(()),
        }
    }

    fn agrees_with_std_under_all_cuts(bytes: &[u8]) {
        let result = cuts::all(bytes, |parts| run(parts.iter().copied()));
        assert_eq!(result, by_std(bytes), "{bytes:x?}");
    }

    /// One of each class of byte that the grammar of RFC 3629 section 4 tells apart, at both of its borders.
    const CLASSES: [u8; 26] = [
        0x00, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xec, 0xed,
        0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xf8, 0xff,
    ];

    #[test]
    fn all_short_sequences_of_all_classes_agree_with_std_under_all_splits() {
        for a in CLASSES {
            agrees_with_std_under_all_cuts(&[a]);
            for b in CLASSES {
                agrees_with_std_under_all_cuts(&[a, b]);
                for c in CLASSES {
                    agrees_with_std_under_all_cuts(&[a, b, c]);
                }
            }
        }
    }

    #[test]
    fn four_bytes_after_each_long_lead_agree_with_std_under_all_splits() {
        for a in [0xf0, 0xf1, 0xf3, 0xf4, 0xed] {
            for b in CLASSES {
                for c in [0x41, 0x80, 0xbf, 0xc2] {
                    for d in [0x41, 0x80, 0xbf, 0xf0] {
                        agrees_with_std_under_all_cuts(&[a, b, c, d, b'z']);
                    }
                }
            }
        }
    }

    #[test]
    fn every_code_point_is_valid_byte_by_byte() {
        for point in '\0'..=char::MAX {
            let mut buffer = [0; 4];
            let bytes = point.encode_utf8(&mut buffer).as_bytes();
            assert_eq!(run(bytes.chunks(1)), Ok(true), "{point:?}");
        }
    }

    #[test]
    fn it_is_refused_at_the_first_impossible_byte() {
        let valid = "κόσμε".as_bytes();
        for (bad, at) in
            [(&b"\xf4\x90"[..], 2), (b"\xed\xa0", 2), (b"\xe0\x80", 2), (b"\xff", 1), (b"\xe2\x82\x41", 3)]
        {
            let mut text = Utf8::default();
            assert_eq!(text.push(valid), Ok(()));
            assert_eq!(text.push(&bad[..at - 1]), Ok(()));
            assert_eq!(text.push(&bad[at - 1..]), Err(InvalidUtf8), "{bad:x?}");
        }
    }

    #[test]
    fn blocks_of_ascii_are_refused_inside_a_code_point() {
        for count in [16, 64] {
            let mut text = Utf8::default();
            assert_eq!(text.push(b"\xe2\x82"), Ok(()));
            assert_eq!(text.push(&vec![b'a'; count]), Err(InvalidUtf8));
        }
    }

    #[test]
    fn it_is_used_again_after_a_text_and_after_an_error() {
        let mut text = Utf8::default();
        assert_eq!((text.push(b"\xe2"), text.finish()), (Ok(()), Err(InvalidUtf8)));
        assert_eq!((text.push(b"\xe2"), text.push(b"a")), (Ok(()), Err(InvalidUtf8)));
        assert_eq!((text.push(b"a"), text.finish()), (Ok(()), Ok(())));
    }

    proptest! {
        #[test]
        fn random_pieces_agree_with_std(pieces in prop::collection::vec(prop::collection::vec(prop::sample::select(&CLASSES[..]), 0..6), 0..8)) {
            prop_assert_eq!(run(pieces.iter().map(Vec::as_slice)), by_std(&pieces.concat()));
        }

        /// Long enough for what goes by blocks, with a byte changed somewhere.
        #[test]
        fn long_texts_in_long_pieces_agree_with_std(
            text in "\\PC{200,400}", at: prop::sample::Index, byte: u8, size in 1usize..300, ascii in 0usize..200
        ) {
            let mut bytes = ["a".repeat(ascii).as_bytes(), text.as_bytes()].concat();
            prop_assert_eq!(run(bytes.chunks(size)), Ok(true));
            prop_assert_eq!(run([&bytes[..at.index(bytes.len())]]), by_std(&bytes[..at.index(bytes.len())]));
            let at = at.index(bytes.len());
            bytes[at] = byte;
            prop_assert_eq!(run(bytes.chunks(size)), by_std(&bytes));
            prop_assert_eq!(run([&bytes[..]]), by_std(&bytes));
        }

        #[test]
        fn text_in_random_pieces_is_valid(text: String, size in 1usize..9) {
            prop_assert_eq!(run(text.as_bytes().chunks(size)), Ok(true));
        }
    }
}
