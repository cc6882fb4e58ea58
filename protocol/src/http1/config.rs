//! What a connection tolerates: sizes and times. One [`Config`] is shared by all connections of a server.
//! [`Limits`] are of both roles.

use core::time::Duration;

/// The limits and times of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// How much a peer may send.
    pub limits: Limits,
    /// How long a peer, and a handler, may take.
    pub timeouts: Timeouts,
}

/// How much a peer may send. Everything is in bytes unless it says otherwise, and what is equal to a limit is within
/// it.
///
/// Sizes of heads also hold for the messages that are sent, so that this crate can read what it writes: what a
/// machine adds to its caller's fields counts. What is answered is said of a server; a client fails with the same
/// [`Fault`](super::Fault).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A whole head, from its first line to the empty line. More is answered 431. Default: 64 KiB.
    pub head_bytes: usize,
    /// One field line. More is answered 431. Default: 16 KiB.
    pub field_bytes: usize,
    /// The number of field lines. More is answered 431. Default: 100.
    pub fields: u16,
    /// The request-target. More is answered 414. RFC 9112 section 3 recommends that a request line of 8000 is taken.
    /// Default: 8 KiB.
    pub target_bytes: usize,
    /// The method. More is answered 501. Default: 32.
    pub method_bytes: usize,
    /// The number of empty lines before a request line (RFC 9112 section 2.2), or before a status line. Default: 4.
    pub leading_empty_lines: u8,
    /// The extensions of one chunk. Default: 256.
    pub chunk_extension_bytes: u16,
    /// The extensions of all chunks of a message. Default: 16 KiB.
    pub extension_bytes: u32,
    /// How many bytes of chunk framing may come for each byte of payload, beyond the first 16 KiB of framing. Chunks of
    /// one byte need 5. Default: 8.
    pub chunk_overhead: u32,
    /// The number of trailer field lines. Default: 32.
    pub trailer_fields: u16,
    /// The trailer section. Default: 8 KiB.
    pub trailer_bytes: usize,
    /// The body of a message. More is answered 413: at once if its length was announced. Default: 1 MiB and 64 KiB; of a
    /// [client](super::ClientConfig) none.
    pub body_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 64 * 1024,
            field_bytes: 16 * 1024,
            fields: 100,
            target_bytes: 8 * 1024,
            method_bytes: 32,
            leading_empty_lines: 4,
            chunk_extension_bytes: 256,
            extension_bytes: 16 * 1024,
            chunk_overhead: 8,
            trailer_fields: 32,
            trailer_bytes: 8 * 1024,
            body_bytes: 1024 * 1024 + 64 * 1024,
        }
    }
}

/// How long things may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From the start of a connection to the first byte of a request. Then it is closed. Default: 10 s.
    pub first_byte: Duration,
    /// From the first byte of a head to its end. Then it is answered 408. Default: 10 s.
    pub head: Duration,
    /// Between two parts of a request's body, also while its client waits for `100 Continue`. Then it is answered 408,
    /// or the connection is aborted if a response is under way already. Default: 30 s.
    pub body_idle: Duration,
    /// A body may be this late before its rate counts. Default: 20 s.
    pub body_grace: Duration,
    /// The least number of bytes a second that a body has to come with, on average and after the grace; 0 for none. A
    /// slower one is answered 408. Default: 128.
    pub body_rate: u32,
    /// From the end of an exchange to the first byte of the next request. Then it is closed. Default: 75 s.
    pub keep_alive: Duration,
    /// From the end of a request to the head of its response. Then it is answered 500: the handler failed, or dropped
    /// its [`Exchange`](super::Exchange). Has to be longer than the longest time for which an answer is held. Default:
    /// 10 minutes.
    pub handler: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            first_byte: Duration::from_secs(10),
            head: Duration::from_secs(10),
            body_idle: Duration::from_secs(30),
            body_grace: Duration::from_secs(20),
            body_rate: 128,
            keep_alive: Duration::from_secs(75),
            handler: Some(Duration::from_secs(600)),
        }
    }
}
