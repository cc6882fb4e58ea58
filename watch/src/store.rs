//! Where writes are decided: the seam, and a store in memory behind it.
//!
//! ```text
//!   machine A           Store (of A)         what all share         Store (of B)          machine B
//!     submit(7, put) ----> queue
//!     poll ---------------> commit ------------> state ---------------> inbox, waker
//!     Batch <------------------ '                                         '
//!     Reply(7) <--------------- '                                         '-- poll ----> Batch
//! ```
//!
//! A write is something that completes later: it is submitted under a ticket, and its reply comes out of [`Store::poll`]. The
//! rules that every store keeps:
//!
//! - The first outcome is a snapshot. Then come batches that follow it without a gap, or another snapshot.
//! - A batch comes out before the reply to whoever wrote it, and on the other machines it comes out of every poll that begins
//!   after that reply. So a machine that polls until `None` before it answers a read never answers with less than any client
//!   was told.
//! - Revisions grow from commit to commit; the changes of one commit have one revision, and lie in one batch.
//! - A write of the bytes that are there already changes nothing: no event, and the reply tells the revision that is there.
//!   Its condition is checked first.
//!
//! [`MemoryStore`] commits each operation by itself, and all operations of a machine's turn in one batch.

mod memory;

use std::fmt;
use std::sync::Arc;
use std::task::Waker;

use crate::change::{Batch, Change};
use crate::key::{Key, Position, Revision};

pub use memory::{MemoryMachine, MemoryStore, StoreLimits};

/// A machine's way to the state that all machines share.
pub trait Store {
    /// Called once, before the first poll: whoever has something for this machine wakes it with this. A wake-up may come
    /// from any thread, and may come for nothing.
    fn start(&mut self, waker: &Waker);

    /// Takes an operation, whose reply will come under that ticket. Nothing is decided before the next [`Store::poll`], and
    /// no wake-up is needed for it: poll at the end of every turn in which something was submitted.
    ///
    /// # Errors
    ///
    /// Too much waits for the next poll: the operation was not taken.
    fn submit(&mut self, ticket: Ticket, operation: Operation) -> Result<(), Busy>;

    /// What happened. Call it until it gives `None`.
    fn poll(&mut self) -> Option<Outcome>;
}

/// Who submitted an operation: chosen by the machine, not looked at by the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// A write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Gives a key a value.
    Put {
        /// The key.
        key: Key,
        /// Its value from then on.
        value: Arc<[u8]>,
        /// What must hold before.
        condition: Condition,
    },
    /// Removes a key.
    Delete {
        /// The key.
        key: Key,
        /// What must hold before.
        condition: Condition,
    },
}

impl Operation {
    /// The key that it is about.
    pub fn key(&self) -> &Key {
        match self {
            Self::Put { key, .. } | Self::Delete { key, .. } => key,
        }
    }

    /// What must hold before.
    pub fn condition(&self) -> Condition {
        match self {
            Self::Put { condition, .. } | Self::Delete { condition, .. } => *condition,
        }
    }

    /// About how many bytes of memory it holds, its own size included.
    pub fn bytes(&self) -> usize {
        let payload = match self {
            Self::Put { key, value, .. } => key.len() + value.len(),
            Self::Delete { key, .. } => key.len(),
        };
        size_of::<Self>() + payload
    }
}

/// What must hold for an operation to be done (RFC 9110 section 13.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    #[default]
    None,
    /// The key exists and its newest change has this revision: `If-Match: "7"`.
    Revision(Revision),
    /// The key exists: `If-Match: *`.
    Present,
    /// The key does not exist: `If-None-Match: *`.
    Absent,
}

impl Condition {
    /// Whether it holds for a key whose newest change has this revision; `None` if it does not exist.
    pub fn holds(self, current: Option<Revision>) -> bool {
        match self {
            Self::None => true,
            Self::Revision(wanted) => current == Some(wanted),
            Self::Present => current.is_some(),
            Self::Absent => current.is_none(),
        }
    }
}

/// Too much was submitted since the last poll; the operation was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too many writes are waiting")
    }
}

impl std::error::Error for Busy {}

/// What comes out of a store.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// The whole state: for a machine that joins, and for one that did not poll for so long that its batches were dropped.
    Snapshot(Snapshot),
    /// The next changes.
    Batch(Arc<Batch>),
    /// The reply to an operation of this machine.
    Reply(Ticket, Reply),
}

/// The whole state at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The moment.
    pub revision: Revision,
    /// The position of the next change.
    pub position: Position,
    /// The change that gave each key its value, in the order of the keys.
    pub items: Vec<Change>,
}

/// What became of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reply {
    /// The key has the value.
    Written {
        /// The revision of the key.
        revision: Revision,
        /// Whether the key did not exist before.
        created: bool,
        /// `false`: it had that value already, since that revision.
        changed: bool,
    },
    /// The key was removed.
    Deleted {
        /// The revision of the removal.
        revision: Revision,
    },
    /// There was no key to delete, and nothing demanded one.
    Missing,
    /// The condition does not hold.
    Conflict {
        /// The revision of the key; `None`: it does not exist.
        current: Option<Revision>,
    },
    /// There is no room for it.
    Full {
        /// The limit that was reached.
        why: Full,
    },
}

/// The limit of a store that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Full {
    /// The key is too long.
    KeyBytes {
        /// The most bytes of a key.
        max: usize,
    },
    /// The value is too large.
    ValueBytes {
        /// The most bytes of a value.
        max: usize,
    },
    /// There are too many keys.
    Keys {
        /// The most keys.
        max: usize,
    },
    /// Keys and values hold too many bytes together.
    Bytes {
        /// The most bytes of all keys and values.
        max: usize,
    },
    /// The last revision was given out.
    Revisions,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeyBytes { max } => write!(f, "a key has at most {max} bytes"),
            Self::ValueBytes { max } => write!(f, "a value has at most {max} bytes"),
            Self::Keys { max } => write!(f, "the store has {max} keys and takes no more"),
            Self::Bytes { max } => write!(f, "the store takes no more than {max} bytes"),
            Self::Revisions => f.write_str("the last revision was given out"),
        }
    }
}
