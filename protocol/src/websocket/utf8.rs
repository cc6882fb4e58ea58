//! UTF-8 that arrives in pieces (RFC 6455 section 8.1, RFC 3629).
//!
//! A piece may end inside a code point, which is then no error until the text ends or the next byte makes it one. What
//! can no longer become valid is refused at the first such byte. The bulk is `core::str::from_utf8`'s work; at most three
//! bytes are kept between pieces.

use core::fmt;
use core::str;

/// A validator for one text at a time. Three bytes; ready for the next text after [`finish`](Self::finish).
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Utf8 {
    /// The front of a code point that is not whole: valid as far as it goes, and zeros, which are never in one.
    carry: [u8; 3],
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
    pub fn push(&mut self, piece: &[u8]) -> Result<(), InvalidUtf8> {
        let mut rest = piece;
        while self.carries() {
            let Some((&byte, after)) = rest.split_first() else { return Ok(()) };
            rest = after;
            self.complete(byte)?;
        }
        match str::from_utf8(rest) {
            Ok(_) => Ok(()),
            Err(error) if error.error_len().is_some() => Err(InvalidUtf8),
            Err(error) => {
                self.carry_over(rest.get(error.valid_up_to()..).unwrap_or_default());
                Ok(())
            }
        }
    }

    /// The text ends here: `Err` if inside a code point. The next piece begins another text.
    ///
    /// # Errors
    ///
    /// The text ends inside a code point.
    pub fn finish(&mut self) -> Result<(), InvalidUtf8> {
        let whole = !self.carries();
        *self = Self::default();
        if whole { Ok(()) } else { Err(InvalidUtf8) }
    }

    /// Adds one byte to the code point that is not whole.
    fn complete(&mut self, byte: u8) -> Result<(), InvalidUtf8> {
        let [a, b, c] = self.carry;
        let point: &[u8] = match self.carry {
            [_, 0, _] => &[a, byte],
            [_, _, 0] => &[a, b, byte],
            _ => &[a, b, c, byte],
        };
        let verdict = str::from_utf8(point);
        *self = Self::default();
        match verdict {
            Ok(_) => Ok(()),
            Err(error) if error.error_len().is_some() => Err(InvalidUtf8),
            Err(_) => {
                self.carry_over(point);
                Ok(())
            }
        }
    }

    fn carry_over(&mut self, front: &[u8]) {
        for (kept, byte) in self.carry.iter_mut().zip(front) {
            *kept = *byte;
        }
    }

    fn carries(&self) -> bool {
        self.carry != [0; 3]
    }
}

impl fmt::Display for InvalidUtf8 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not UTF-8")
    }
}

impl core::error::Error for InvalidUtf8 {}

#[cfg(test)]
mod tests {
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

    /// Every way of cutting the bytes into pieces, for short inputs.
    fn agrees_with_std_under_all_splits(bytes: &[u8]) {
        let expected = by_std(bytes);
        for cuts in 0u32..1 << bytes.len().saturating_sub(1) {
            let (mut pieces, mut start) = (Vec::new(), 0);
            for end in 1..bytes.len() {
                if cuts & (1 << (end - 1)) != 0 {
                    pieces.push(&bytes[start..end]);
                    start = end;
                }
            }
            pieces.push(&bytes[start..]);
            assert_eq!(run(pieces), expected, "{bytes:x?} cut by {cuts:b}");
        }
    }

    /// One of each class of byte that the grammar of RFC 3629 section 4 tells apart, at both of its borders.
    const CLASSES: [u8; 26] = [
        0x00, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xec, 0xed,
        0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xf8, 0xff,
    ];

    #[test]
    fn all_short_sequences_of_all_classes_agree_with_std_under_all_splits() {
        for a in CLASSES {
            agrees_with_std_under_all_splits(&[a]);
            for b in CLASSES {
                agrees_with_std_under_all_splits(&[a, b]);
                for c in CLASSES {
                    agrees_with_std_under_all_splits(&[a, b, c]);
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
                        agrees_with_std_under_all_splits(&[a, b, c, d, b'z']);
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

        #[test]
        fn text_in_random_pieces_is_valid(text: String, size in 1usize..9) {
            prop_assert_eq!(run(text.as_bytes().chunks(size)), Ok(true));
        }
    }
}
