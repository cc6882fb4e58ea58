//! Limits and times of connections, shared by all that have the same.

use core::time::Duration;

use super::deflate::Compression;

/// Limits and times. Make one, and share it between connections.
///
/// ```
/// use keepwatch_protocol::websocket::Config;
///
/// let config = Config { message_bytes: 64 << 20, ping_interval: None, ..Config::default() };
/// assert_eq!(config.empty_fragments, 64);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The most bytes of payload in one received message, over all its fragments. Checked when a frame's head is read, and
    /// nothing is reserved on its word. Default 1 MiB. More is 1009.
    pub message_bytes: u64,
    /// The most fragments of one received message that may be empty: they bring it no nearer to its end, so without a limit
    /// one message could keep a reader busy for ever. Default 64. More is 1008.
    pub empty_fragments: u8,
    /// After how long a silence of the peer a ping is sent; `None` for never. Each connection takes off up to an eighth, so
    /// that those opened together do not ping together. Default 30 s.
    pub ping_interval: Option<Duration>,
    /// How long after a ping, ours or the caller's, the peer may still be silent. Anything that it sends counts, not only
    /// the pong: it cannot send one inside a large frame. Default 20 s.
    pub pong_timeout: Duration,
    /// How long after our Close frame the peer's may take; for a client also how long after both the end of the stream may
    /// take. Default 5 s.
    pub close_timeout: Duration,
    /// For how long the peer may send no part of any message; `None` (the default) for ever, which is right where one
    /// side mostly listens.
    pub idle_timeout: Option<Duration>,
    /// Whether and how messages are compressed, where the peer agrees. Off by default.
    pub compression: Compression,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            message_bytes: 1 << 20,
            empty_fragments: 64,
            ping_interval: Some(Duration::from_secs(30)),
            pong_timeout: Duration::from_secs(20),
            close_timeout: Duration::from_secs(5),
            idle_timeout: None,
            compression: Compression::OFF,
        }
    }
}
