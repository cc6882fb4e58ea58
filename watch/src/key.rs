//! What names things: a [`Key`] names a value, a [`Revision`] a moment of the store, a [`Position`] a change.
//!
//! | | given by | gaps | told to clients |
//! | --- | --- | --- | --- |
//! | [`Revision`] | the store, to a commit | may have some | yes: `ETag`, `since`, SSE `id` |
//! | [`Position`] | the store, to each change of a commit | none | no |
//!
//! Clients speak of revisions only. Cursors are positions, because they are dense: how far a watcher is behind is a
//! subtraction, and two changes of one commit have one revision but two positions.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// A key: UTF-8, not empty, not longer than the limit it was made with. Cloning shares the text.
///
/// Keys order as their bytes do, which is how a list is ordered.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// The longest key, in bytes, unless the operator says otherwise.
    pub const DEFAULT_MAX: usize = 1024;

    /// A key of at most `max` bytes.
    ///
    /// # Errors
    ///
    /// [`KeyError::Empty`] and [`KeyError::TooLong`].
    pub fn new(text: &str, max: usize) -> Result<Self, KeyError> {
        if text.is_empty() {
            return Err(KeyError::Empty);
        }
        if text.len() > max {
            return Err(KeyError::TooLong { max });
        }
        Ok(Self(text.into()))
    }

    /// A key of at most `max` bytes, from bytes that may not be UTF-8.
    ///
    /// # Errors
    ///
    /// Each [`KeyError`].
    pub fn from_utf8(bytes: &[u8], max: usize) -> Result<Self, KeyError> {
        // The length first: there is no need to validate what is refused anyway.
        if bytes.len() > max {
            return Err(KeyError::TooLong { max });
        }
        Self::new(std::str::from_utf8(bytes).map_err(|_| KeyError::NotUtf8)?, max)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Deref for Key {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// It has no bytes.
    Empty,
    /// It has more bytes than allowed.
    TooLong {
        /// The most bytes allowed.
        max: usize,
    },
    /// It is not UTF-8.
    NotUtf8,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a key cannot be empty"),
            Self::TooLong { max } => write!(f, "a key has at most {max} bytes"),
            Self::NotUtf8 => f.write_str("a key is UTF-8"),
        }
    }
}

impl std::error::Error for KeyError {}

/// A moment of the store: it grows with every commit, and never goes back.
///
/// Below 2^53, so that a number of JavaScript holds it exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(u64);

impl Revision {
    /// Before every change.
    pub const ZERO: Self = Self(0);
    /// The last one, 2^53 - 1 (`Number.MAX_SAFE_INTEGER`).
    pub const MAX: Self = Self((1 << 53) - 1);

    /// `None` from 2^53 on.
    pub const fn new(number: u64) -> Option<Self> {
        if number <= Self::MAX.0 { Some(Self(number)) } else { None }
    }

    /// The number.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The one after this; `None` after the last one.
    pub const fn next(self) -> Option<Self> {
        Self::new(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The number of a change since the store began. Dense: the change after position 4 is at 5. Below 2^63: cursors keep it
/// with a bit beside it.
///
/// As a cursor it is the position of the next change to look at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(u64);

impl Position {
    /// That of the first change.
    pub const START: Self = Self(0);

    /// The position with that number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// So many changes later. Saturates, which no store lives to see.
    #[must_use]
    pub const fn plus(self, changes: usize) -> Self {
        Self(self.0.saturating_add(changes as u64))
    }

    /// How many changes lie from `earlier` up to this, not counting the one at this position; 0 if it is not later.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_byte_up_to_the_limit() {
        assert_eq!(Key::new("", 4), Err(KeyError::Empty));
        assert_eq!(Key::new("abcd", 4).unwrap().as_str(), "abcd");
        assert_eq!(Key::new("abcde", 4), Err(KeyError::TooLong { max: 4 }));
        assert_eq!(Key::new("\u{e9}\u{e9}\u{e9}", 4), Err(KeyError::TooLong { max: 4 }));
    }

    #[test]
    fn a_key_is_utf8() {
        assert_eq!(Key::from_utf8(b"a/\xc3\xa9", 4).unwrap().as_str(), "a/\u{e9}");
        assert_eq!(Key::from_utf8(b"a\xc3", 4), Err(KeyError::NotUtf8));
        assert_eq!(Key::from_utf8(b"", 4), Err(KeyError::Empty));
        assert_eq!(Key::from_utf8(b"\xff\xff\xff", 2), Err(KeyError::TooLong { max: 2 }));
    }

    #[test]
    fn a_revision_is_exact_in_javascript() {
        assert_eq!(Revision::new((1 << 53) - 1), Some(Revision::MAX));
        assert_eq!(Revision::new(1 << 53), None);
        assert_eq!(Revision::new(u64::MAX), None);
        assert_eq!(Revision::MAX.next(), None);
        assert_eq!(Revision::ZERO.next(), Revision::new(1));
    }

    #[test]
    fn positions_saturate() {
        assert_eq!(Position::new(u64::MAX).plus(1), Position::new(u64::MAX));
        assert_eq!(Position::START.since(Position::new(1)), 0);
        assert_eq!(Position::new(7).since(Position::new(3)), 4);
    }
}
