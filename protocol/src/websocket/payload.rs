//! The bytes of a part of a message, wherever they lie.

use core::fmt;
use core::ops::{Deref, DerefMut};

#[cfg(feature = "deflate")]
use super::deflate::Room;

/// A part of a message, in [`Event::Data`](super::Event::Data): a slice to read and to change.
///
/// It lies in the caller's own input, or, where the message was compressed, in a buffer that all connections share. That
/// is given back when the payload is dropped: it is not for keeping.
pub struct Payload<'b>(Place<'b>);

enum Place<'b> {
    Input(&'b mut [u8]),
    #[cfg(feature = "deflate")]
    Room(Room),
}

impl<'b> From<&'b mut [u8]> for Payload<'b> {
    fn from(bytes: &'b mut [u8]) -> Self {
        Self(Place::Input(bytes))
    }
}

#[cfg(feature = "deflate")]
impl From<Room> for Payload<'_> {
    fn from(room: Room) -> Self {
        Self(Place::Room(room))
    }
}

impl Deref for Payload<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Place::Input(bytes) => bytes,
            #[cfg(feature = "deflate")]
            Place::Room(room) => room.filled(),
        }
    }
}

impl DerefMut for Payload<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Place::Input(bytes) => bytes,
            #[cfg(feature = "deflate")]
            Place::Room(room) => room.filled_mut(),
        }
    }
}

impl AsRef<[u8]> for Payload<'_> {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl PartialEq for Payload<'_> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Payload<'_> {}

impl fmt::Debug for Payload<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_the_same_if_their_bytes_are() {
        let (mut one, mut same, mut other) = (*b"ab", *b"ab", *b"ac");
        let one = Payload::from(&mut one[..]);
        assert_eq!(one.as_ref(), b"ab");
        assert!(one == Payload::from(&mut same[..]));
        assert!(one != Payload::from(&mut other[..]));
    }
}
