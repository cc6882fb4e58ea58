//! What a watching client tells its user.

use std::fmt;

use keepwatch_protocol::http1;
use keepwatch_protocol::websocket::{
    CloseCode, RecvError,
    handshake::{OpeningError, RefusedAnswer},
};

use crate::key::{Key, Revision};

/// What was learned. They come in the order in which they are true.
///
/// Who keeps a map of keys and values clears it at `Listing`, sets a key at `Item` and `Put`, and removes it at `Deleted`. From
/// `Listed` to the next `Listing` the map is what the server had, at the revision that was said last.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The state is told anew, in `Item`s up to `Listed`: what was known is void.
    Listing,
    /// A part of the state.
    Item(Item),
    /// The state is whole, as it was at this revision.
    Listed(Revision),
    /// A key was written. Each write is told once, in order, except by short polls: they see states and not changes, and
    /// tell each new one as a `Listing`.
    Put(Item),
    /// A key was deleted.
    Deleted {
        /// Which.
        key: Key,
        /// When.
        revision: Revision,
    },
    /// Everything up to this revision was told. It is the one to begin at in another life: [`Start::After`](super::Start::After).
    Bookmark(Revision),
    /// Changes up to this revision may be missing, or the server was started again. A `Listing` follows.
    Compacted(Revision),
    /// The watch goes by this transport from here on: the first one, the next one as one was refused, or a better one again.
    Transport(Transport),
    /// Something came that makes no sense, or nothing came for too long. The connection is given up, and the client tries
    /// again.
    Failed(Failure),
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The key.
    pub key: Key,
    /// The value.
    pub value: Vec<u8>,
    /// The revision of the write that gave it this value.
    pub revision: Revision,
    /// The revision of the write that created it. Short polls of a single key are not told it.
    pub created: Option<Revision>,
}

/// How changes come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// A WebSocket whose URL names the watch.
    WebSocket,
    /// Server-sent events.
    ServerSentEvents,
    /// A stream of lines of JSON.
    Lines,
    /// Requests that are held until something changes.
    LongPoll,
    /// Requests at intervals. They see states and not changes: what was written and overwritten between two of them is never
    /// told.
    ShortPoll,
}

/// Why a connection was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// The answer has a status that says neither what was asked for nor when to try again.
    Status(u16),
    /// The answer is of another media type, or coded: not this server's, but a proxy's, perhaps.
    ContentType,
    /// The answer does not open the WebSocket that was asked for.
    Handshake(RefusedAnswer),
    /// The answer is malformed HTTP.
    Http(http1::client::Failure),
    /// What came on the WebSocket is malformed, or a message is too long.
    WebSocket(RecvError),
    /// The server closed the WebSocket, and not because it stops or is busy.
    Closed(CloseCode),
    /// A line, an event, an answer, a key or a value is longer than [`ClientLimits`](super::ClientLimits) allow.
    TooLong,
    /// What should be JSON of the shape of an event, a page or an answer is not.
    Malformed,
    /// The key is not one that was asked for, or stands where it cannot in a list.
    Key,
    /// A revision is lower than one that was told before, or higher than the list that it is part of.
    Revision,
    /// The request cannot be sent: with this key it is longer than the limits of
    /// [`ClientConfig::http`](super::ClientConfig::http).
    Request(OpeningError),
    /// Nothing came for longer than [`WatchTimeouts`](super::WatchTimeouts) allow.
    Silent,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WebSocket => "WebSocket",
            Self::ServerSentEvents => "server-sent events",
            Self::Lines => "lines",
            Self::LongPoll => "long polls",
            Self::ShortPoll => "short polls",
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Status(status) => return write!(f, "an answer with status {status}"),
            Self::Handshake(refused) => return refused.fmt(f),
            Self::Http(failure) => return failure.fmt(f),
            Self::WebSocket(error) => return error.fmt(f),
            Self::Closed(code) => return write!(f, "the WebSocket was closed with {code}"),
            Self::Request(error) => return error.fmt(f),
            Self::ContentType => "an answer of another media type",
            Self::TooLong => "more than the limits allow",
            Self::Malformed => "JSON of another shape",
            Self::Key => "a key that was not asked for, or not there",
            Self::Revision => "a revision out of order",
            Self::Silent => "nothing came for too long",
        })
    }
}

impl std::error::Error for Failure {}
