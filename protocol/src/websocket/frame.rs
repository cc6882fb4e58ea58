//! Frame heads (RFC 6455 section 5.2): two to fourteen bytes in front of every payload.
//!
//! ```text
//!   FIN rsv opcode | MASK length | 0, 2 or 8 bytes of length | 0 or 4 bytes of masking key | payload
//!    1   3     4   |   1     7   |  length: 126, 127: more   |  client to server only      |
//! ```
//!
//! A head is small, so a part of one is left with the caller and looked at again from its first byte; nothing is kept
//! between two looks. Each byte that is there is checked, so what cannot become a head is refused before it is whole.

use core::fmt;

use super::{MessageKind, Role};

/// What a frame is (RFC 6455 section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// A further part of a message.
    Continuation = 0x0,
    /// The first part of a text message.
    Text = 0x1,
    /// The first part of a binary message.
    Binary = 0x2,
    /// The sender's last frame.
    Close = 0x8,
    /// A question for a sign of life.
    Ping = 0x9,
    /// A sign of life.
    Pong = 0xa,
}

impl Opcode {
    /// The opcode with these four bits, if one is defined.
    pub const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xa => Self::Pong,
            _ => return None,
        })
    }

    /// Whether it is Close, Ping or Pong: at most [`CONTROL_BYTES`] of payload, never in fragments, allowed between the
    /// fragments of a message.
    pub const fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

impl From<MessageKind> for Opcode {
    fn from(kind: MessageKind) -> Self {
        match kind {
            MessageKind::Text => Self::Text,
            MessageKind::Binary => Self::Binary,
        }
    }
}

/// The most bytes of payload in a control frame (RFC 6455 section 5.5).
pub const CONTROL_BYTES: usize = 125;

/// The most bytes of a head.
pub const HEAD_BYTES: usize = 14;

/// The first reserved bit.
const RSV1: u8 = 0x40;

/// A head that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Whether the message ends with this frame.
    pub fin: bool,
    /// What the frame is.
    pub opcode: Opcode,
    /// Whether the message is compressed: the first reserved bit, as permessage-deflate uses it. Only
    /// [`decode_extended`] accepts it.
    pub rsv1: bool,
    /// The masking key; there if and only if a client sent the frame.
    pub mask: Option<[u8; 4]>,
    /// The bytes of payload that follow; below 2^63. Nothing has been checked against any limit.
    pub len: u64,
}

/// A head that breaks the rules by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeadError {
    /// A reserved bit is set, and no extension gives it a meaning (RFC 6455 section 5.2).
    ReservedBits,
    /// An opcode that is not defined (section 5.2).
    ReservedOpcode,
    /// A control frame without FIN (section 5.5).
    FragmentedControl,
    /// A control frame of more than 125 bytes (section 5.5).
    LongControl,
    /// A client's frame without a mask (section 5.1).
    Unmasked,
    /// A server's frame with a mask (section 5.1).
    Masked,
    /// A length written with more bytes than it needs (section 5.2).
    LengthNotMinimal,
    /// A length of 2^63 or more (section 5.2).
    LengthTooLong,
}

impl HeadError {
    /// What is wrong, in a few words.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::ReservedBits => "a reserved bit is set",
            Self::ReservedOpcode => "a reserved opcode",
            Self::FragmentedControl => "a control frame in fragments",
            Self::LongControl => "a control frame of more than 125 bytes",
            Self::Unmasked => "a client's frame is not masked",
            Self::Masked => "a server's frame is masked",
            Self::LengthNotMinimal => "a length not in its shortest form",
            Self::LengthTooLong => "a length of 2^63 or more",
        }
    }
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl core::error::Error for HeadError {}

/// Reads a head at the front of `bytes`, as the receiver in this role must see it. Returns it with its size in bytes, or
/// `None` if more bytes are needed to know it.
///
/// ```
/// use keepwatch_protocol::websocket::{Role, frame};
///
/// let (head, size) = frame::decode(b"\x81\x05Hello", Role::Client)?.expect("it is whole");
/// assert_eq!((head.fin, head.opcode, head.len, size), (true, frame::Opcode::Text, 5, 2));
/// assert_eq!(frame::decode(b"\x81", Role::Client)?, None);
/// assert_eq!(frame::decode(b"\xc1", Role::Client), Err(frame::HeadError::ReservedBits));
/// # Ok::<(), frame::HeadError>(())
/// ```
///
/// # Errors
///
/// The head breaks a rule by itself: no bytes that follow can mend it.
#[inline]
pub fn decode(bytes: &[u8], receiver: Role) -> Result<Option<(Head, usize)>, HeadError> {
    match bytes {
        [first, ..] if first & RSV1 != 0 => Err(HeadError::ReservedBits),
        _ => decode_extended(bytes, receiver),
    }
}

/// [`decode`] where permessage-deflate was agreed to: the first frame of a message, and no other, may have the first reserved
/// bit (RFC 7692 section 6).
///
/// # Errors
///
/// Those of [`decode`].
#[inline]
pub fn decode_extended(bytes: &[u8], receiver: Role) -> Result<Option<(Head, usize)>, HeadError> {
    let [first, rest @ ..] = bytes else { return Ok(None) };
    let rsv1 = first & RSV1 != 0;
    if first & 0x30 != 0 || (rsv1 && !matches!(first & 0x0f, 0x1 | 0x2)) {
        return Err(HeadError::ReservedBits);
    }
    let opcode = Opcode::from_bits(first & 0x0f).ok_or(HeadError::ReservedOpcode)?;
    let fin = first & 0x80 != 0;
    if opcode.is_control() && !fin {
        return Err(HeadError::FragmentedControl);
    }

    let [second, rest @ ..] = rest else { return Ok(None) };
    match (receiver, second & 0x80 != 0) {
        (Role::Server, false) => return Err(HeadError::Unmasked),
        (Role::Client, true) => return Err(HeadError::Masked),
        _ => {}
    }
    let short = second & 0x7f;
    if opcode.is_control() && usize::from(short) > CONTROL_BYTES {
        return Err(HeadError::LongControl);
    }

    let Some((len, rest)) = length(short, rest)? else { return Ok(None) };
    let (mask, rest) = match receiver {
        Role::Client => (None, rest),
        Role::Server => match rest.split_first_chunk() {
            Some((key, rest)) => (Some(*key), rest),
            None => return Ok(None),
        },
    };
    Ok(Some((Head { fin, opcode, rsv1, mask, len }, bytes.len() - rest.len())))
}

/// The length that begins with the seven bits `short`, and what follows it.
#[inline]
fn length(short: u8, rest: &[u8]) -> Result<Option<(u64, &[u8])>, HeadError> {
    match short {
        126 => {
            let Some((long, rest)) = rest.split_first_chunk() else { return Ok(None) };
            let len = u16::from_be_bytes(*long);
            if len < 126 { Err(HeadError::LengthNotMinimal) } else { Ok(Some((u64::from(len), rest))) }
        }
        127 => {
            if rest.first().is_some_and(|top| top & 0x80 != 0) {
                return Err(HeadError::LengthTooLong);
            }
            if rest.starts_with(&[0; 6]) {
                return Err(HeadError::LengthNotMinimal);
            }
            Ok(rest.split_first_chunk().map(|(long, rest)| (u64::from_be_bytes(*long), rest)))
        }
        short => Ok(Some((u64::from(short), rest))),
    }
}

/// A head to be sent, encoded, on the stack.
///
/// ```
/// use keepwatch_protocol::websocket::frame::{FrameHead, Opcode};
///
/// assert_eq!(FrameHead::new(true, Opcode::Binary, 256, None).as_ref(), [0x82, 126, 1, 0]);
/// ```
#[derive(Clone, Copy)]
pub struct FrameHead {
    /// The head, and zeros behind it.
    bytes: [u8; 16],
    size: u8,
}

impl FrameHead {
    /// The head of a frame with `len` bytes of payload, which the caller masks with `mask` if there is one (a client must,
    /// a server must not). A length that no frame can have (2^63 or more) becomes the longest that one can.
    #[inline]
    pub fn new(fin: bool, opcode: Opcode, len: u64, mask: Option<[u8; 4]>) -> Self {
        let len = len.min(u64::MAX >> 1);
        let first = u128::from(if fin { 0x80 } else { 0 } | opcode as u8);
        let masked = if mask.is_some() { 0x80 } else { 0 };
        // The head is one number, its first byte lowest, so that it is written at once.
        let (length, size) = match (u8::try_from(len), u16::try_from(len)) {
            (Ok(short @ ..126), _) => (u128::from(masked + short), 2),
            (_, Ok(long)) => (u128::from(masked + 126) | u128::from(long.swap_bytes()) << 8, 4),
            _ => (u128::from(masked + 127) | u128::from(len.swap_bytes()) << 8, 10),
        };
        let head = first | length << 8;
        match mask {
            None => Self { bytes: head.to_le_bytes(), size },
            Some(key) => {
                let key = u128::from(u32::from_le_bytes(key)) << (8 * size);
                Self { bytes: (head | key).to_le_bytes(), size: size + 4 }
            }
        }
    }

    /// The same, with the first reserved bit: the message that begins here is compressed (RFC 7692 section 6).
    #[must_use]
    #[inline]
    pub fn with_rsv1(mut self) -> Self {
        let [first, ..] = &mut self.bytes;
        *first |= RSV1;
        self
    }
}

impl AsRef<[u8]> for FrameHead {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.size)).unwrap_or_default()
    }
}

impl fmt::Debug for FrameHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FrameHead").field(&self.as_ref()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    /// What a head decodes to; and that every proper prefix of it asks for more, and that bytes behind it change nothing.
    fn read(bytes: &[u8], receiver: Role) -> Head {
        for cut in 0..bytes.len() {
            assert_eq!(decode(&bytes[..cut], receiver), Ok(None), "cut at {cut}");
        }
        let (head, size) = decode(bytes, receiver).unwrap().unwrap();
        assert_eq!(size, bytes.len());
        let longer = [bytes, &[0xff; 20]].concat();
        assert_eq!(decode(&longer, receiver), Ok(Some((head, size))));
        head
    }

    /// The error, and after how many bytes it is known.
    fn refused(bytes: &[u8], receiver: Role) -> (HeadError, usize) {
        let known = (0..=bytes.len()).find(|&cut| decode(&bytes[..cut], receiver).is_err()).expect("refused");
        let error = decode(bytes, receiver).unwrap_err();
        assert_eq!(decode(&bytes[..known], receiver), Err(error));
        (error, known)
    }

    #[test]
    fn each_error_has_words_of_its_own_that_fit_a_close_frame() {
        let errors = [
            HeadError::ReservedBits,
            HeadError::ReservedOpcode,
            HeadError::FragmentedControl,
            HeadError::LongControl,
            HeadError::Unmasked,
            HeadError::Masked,
            HeadError::LengthNotMinimal,
            HeadError::LengthTooLong,
        ];
        for (index, error) in errors.iter().enumerate() {
            assert!((1..=CONTROL_BYTES - 2).contains(&error.reason().len()));
            assert!(errors[..index].iter().all(|other| other.reason() != error.reason()));
        }
    }

    #[test]
    fn heads_are_read_as_they_are_written() {
        for len in [0, 1, 125, 126, 127, 128, 255, 256, 65535, 65536, 1 << 32, (1 << 63) - 1] {
            for (receiver, mask) in [(Role::Server, Some(KEY)), (Role::Client, None)] {
                for opcode in [Opcode::Continuation, Opcode::Text, Opcode::Binary] {
                    for fin in [true, false] {
                        let head = FrameHead::new(fin, opcode, len, mask);
                        assert_eq!(
                            read(head.as_ref(), receiver),
                            Head { fin, opcode, rsv1: false, mask, len }
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn the_three_forms_of_length_begin_where_the_rfc_says() {
        let sizes = [(125, 2), (126, 4), (65535, 4), (65536, 10), (u64::MAX, 10)];
        for (len, size) in sizes {
            assert_eq!(FrameHead::new(true, Opcode::Binary, len, None).as_ref().len(), size, "{len}");
        }
    }

    #[test]
    fn control_frames_take_up_to_125_bytes() {
        for opcode in [Opcode::Close, Opcode::Ping, Opcode::Pong] {
            let head = FrameHead::new(true, opcode, 125, None);
            assert_eq!(read(head.as_ref(), Role::Client).len, 125);
            let long = FrameHead::new(true, opcode, 126, None);
            assert_eq!(refused(long.as_ref(), Role::Client), (HeadError::LongControl, 2));
        }
    }

    #[test]
    fn what_cannot_become_a_head_is_refused_at_its_first_impossible_byte() {
        let cases: [(&[u8], Role, HeadError, usize); 12] = [
            (b"\xc1\x00", Role::Client, HeadError::ReservedBits, 1),
            (b"\xa1\x00", Role::Client, HeadError::ReservedBits, 1),
            (b"\x91\x00", Role::Client, HeadError::ReservedBits, 1),
            (b"\x83\x00", Role::Client, HeadError::ReservedOpcode, 1),
            (b"\x8f\x00", Role::Client, HeadError::ReservedOpcode, 1),
            (b"\x09\x00", Role::Client, HeadError::FragmentedControl, 1),
            (b"\x81\x00", Role::Server, HeadError::Unmasked, 2),
            (b"\x81\x80\0\0\0\0", Role::Client, HeadError::Masked, 2),
            (b"\x81\x7e\x00\x7d", Role::Client, HeadError::LengthNotMinimal, 4),
            (b"\x81\x7f\0\0\0\0\0\0\xff\xff", Role::Client, HeadError::LengthNotMinimal, 8),
            (b"\x81\x7f\x80\0\0\0\0\0\0\0", Role::Client, HeadError::LengthTooLong, 3),
            (b"\x81\xff\xff\0\0\0\0\0\0\0", Role::Server, HeadError::LengthTooLong, 3),
        ];
        for (bytes, receiver, error, known) in cases {
            assert_eq!(refused(bytes, receiver), (error, known), "{bytes:x?}");
        }
    }
}
