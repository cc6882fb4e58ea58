//! What can go wrong: the peer's faults, the caller's, and time's. They are different types, as they want different answers.

use core::fmt;

use super::close::CloseCode;
use super::frame::HeadError;

/// The peer sent something malformed, or more than the limits allow. Final: every later call says the same. The Close frame
/// that answers it is already in the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecvError {
    /// A frame's head breaks the rules by itself.
    Head(HeadError),
    /// A continuation frame outside a message (RFC 6455 section 5.4).
    NothingToContinue,
    /// A new message inside one that is not finished (section 5.4).
    MessageUnfinished,
    /// A message longer than [`Config::message_bytes`](super::Config::message_bytes).
    MessageTooLarge,
    /// More empty fragments than [`Config::empty_fragments`](super::Config::empty_fragments).
    TooManyEmptyFragments,
    /// Text that is not UTF-8 (section 8.1).
    InvalidText,
    /// A compressed message that does not inflate, or does not end where a message must (RFC 7692 section 7.2.2). The RFC
    /// names no code for it. It is answered with 1007, data that is not what its kind says, as `ws` for Node does: the
    /// frames around it are in order, so it is not 1002.
    InvalidDeflate,
    /// A compressed message, and no memory to inflate it in: the budget of [`deflate`](super::deflate) is used up. With context
    /// takeover memory for the inflater was set aside; then it is about the buffers, of which the caller holds too many.
    NoMemory,
    /// A Close frame of one byte: half a code (section 5.5.1).
    CloseTooShort,
    /// A Close frame with a code that may not be on the wire (section 7.4).
    InvalidCloseCode,
    /// A Close frame whose reason is not UTF-8 (section 5.5.1).
    InvalidCloseReason,
}

impl RecvError {
    /// The code of the Close frame that answers it.
    pub const fn code(self) -> CloseCode {
        match self {
            Self::MessageTooLarge => CloseCode::MESSAGE_TOO_BIG,
            Self::TooManyEmptyFragments => CloseCode::POLICY_VIOLATION,
            Self::InvalidText | Self::InvalidDeflate | Self::InvalidCloseReason => CloseCode::INVALID_PAYLOAD,
            Self::NoMemory => CloseCode::TRY_AGAIN_LATER,
            Self::Head(_)
            | Self::NothingToContinue
            | Self::MessageUnfinished
            | Self::CloseTooShort
            | Self::InvalidCloseCode => CloseCode::PROTOCOL_ERROR,
        }
    }

    /// The reason in that Close frame.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Head(error) => error.reason(),
            Self::NothingToContinue => "a continuation frame continues nothing",
            Self::MessageUnfinished => "a new message inside one that is not finished",
            Self::MessageTooLarge => "the message is too long",
            Self::TooManyEmptyFragments => "the message has too many empty fragments",
            Self::InvalidText => "text that is not UTF-8",
            Self::InvalidDeflate => "a compressed message that does not inflate",
            Self::NoMemory => "no memory to inflate the message",
            Self::CloseTooShort => "a Close frame of one byte",
            Self::InvalidCloseCode => "a close code that may not be sent",
            Self::InvalidCloseReason => "a close reason that is not UTF-8",
        }
    }
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.reason(), self.code())
    }
}

impl core::error::Error for RecvError {}

impl From<HeadError> for RecvError {
    fn from(error: HeadError) -> Self {
        Self::Head(error)
    }
}

/// The caller asked for what may not be sent now, or ever. Nothing was put, and the connection goes on as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// A Close frame was sent or received, or the connection failed: no message may follow (RFC 6455 section 5.5.1).
    Closing,
    /// A message that is sent in parts is not finished.
    MessageUnfinished,
    /// The part is of another kind than the message that it continues.
    OtherKind,
    /// Text that is not UTF-8.
    InvalidText,
    /// A client masks each frame with a new key, so it cannot send bytes that the machine does not see.
    MustMask,
    /// A frame's payload can have at most 2^63 - 1 bytes.
    FrameTooLong,
    /// A ping's payload can have at most 125 bytes, a close reason 123.
    ControlTooLong,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closing => "the connection is closing or closed",
            Self::MessageUnfinished => "a message sent in parts is not finished",
            Self::OtherKind => "the part is of another kind than its message",
            Self::InvalidText => "the text is not UTF-8",
            Self::MustMask => "a client cannot send what it does not mask",
            Self::FrameTooLong => "the payload is longer than a frame can be",
            Self::ControlTooLong => "the payload is longer than a control frame can be",
        })
    }
}

impl core::error::Error for SendError {}

/// A time ran out, and the connection is to be given up: write what is in the output, if that is quick, and close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expired {
    /// Nothing was heard after a ping. A Close frame with 1011 is in the output.
    PongMissing,
    /// The peer did not do its part of the closing: its Close frame or, for a client, the end of the stream did not come.
    CloseMissing,
    /// The peer sent no message for too long. A Close frame with 1001 is in the output.
    Idle,
}

impl fmt::Display for Expired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PongMissing => "nothing was heard after a ping",
            Self::CloseMissing => "the peer did not do its part of the closing",
            Self::Idle => "the peer sent no message for too long",
        })
    }
}

impl core::error::Error for Expired {}
