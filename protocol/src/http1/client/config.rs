//! What a client tolerates: sizes, times, and three lapses of servers.

use core::time::Duration;

use crate::http1::config::Limits;
use crate::http1::scan::Tolerance;

/// The limits and times of a client's connections, and what is let pass. One is shared by many.
///
/// The three knobs are the only ones there are, and are off: a client that needs one of them knows its server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientConfig {
    /// How much a server may send, and how large the heads of requests may be. Default: as of [`Limits`], but bodies have
    /// no limit, as a stream has no end.
    pub limits: Limits,
    /// How many interim responses may come before a final one. Default: 32.
    pub interim_responses: u8,
    /// How long a server may take.
    pub timeouts: ClientTimeouts,
    /// Takes lines of heads and of trailer sections that end with LF alone (RFC 9112 section 2.2). Never those of chunks.
    pub lenient_lf: bool,
    /// Takes whitespace between a field's name and the colon, and drops it (RFC 9112 section 5.1).
    pub space_before_colon: bool,
    /// Takes a chunked body for complete if the connection ends right behind the line of its last chunk (RFC 9112 section
    /// 8 calls it incomplete).
    pub missing_final_crlf: bool,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            limits: Limits { body_bytes: u64::MAX, ..Limits::default() },
            interim_responses: 32,
            timeouts: ClientTimeouts::default(),
            lenient_lf: false,
            space_before_colon: false,
            missing_final_crlf: false,
        }
    }
}

impl ClientConfig {
    /// The same for those who read. Folds and spaces after a chunk's size are always taken: a client must, and may.
    pub(super) fn tolerance(&self) -> Tolerance {
        Tolerance {
            bare_lf: self.lenient_lf,
            space_before_colon: self.space_before_colon,
            folds: true,
            space_after_size: true,
        }
    }
}

/// How long a server may take. Except for the first, a time that passes fails the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTimeouts {
    /// From the head of a request that expects `100 Continue` until its content may be sent without (RFC 9110 section
    /// 10.1.1). Default: 1 s.
    pub expect_continue: Duration,
    /// From the end of a request, or from an interim response, to the first byte of the next response. Has to be longer
    /// than a long poll. Default: 2 minutes.
    pub first_byte: Option<Duration>,
    /// From the first byte of a head to its end. Default: 30 s.
    pub head: Duration,
    /// Between two parts of a body. Has to be longer than a stream's heartbeat. Default: 2 minutes.
    pub body_idle: Option<Duration>,
}

impl Default for ClientTimeouts {
    fn default() -> Self {
        Self {
            expect_continue: Duration::from_secs(1),
            first_byte: Some(Duration::from_secs(120)),
            head: Duration::from_secs(30),
            body_idle: Some(Duration::from_secs(120)),
        }
    }
}
