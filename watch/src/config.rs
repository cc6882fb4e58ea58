//! What a watch server can be told.

use std::time::Duration;

use keepwatch_protocol::{http1, websocket};

use crate::key::Key;
use crate::log::LogLimits;
use crate::store::StoreLimits;

/// The limits and times of a watch server, each with a default that suits a server on one machine.
#[derive(Clone, Debug)]
pub struct Config {
    /// The longest a long poll is held, and how long it is if it does not say. Default: 60 s.
    pub hold: Duration,
    /// How long a long poll that has something to say waits for more, so that a burst is one answer. Default: 5 ms.
    pub coalesce: Duration,
    /// How long a stream may be silent before it says `bookmark`. Default: 25 s.
    pub heartbeat: Duration,
    /// Connections at once, of all machines that share a store; more are answered 503. When all but one in sixteen places are
    /// taken, each that comes makes one close that is idle between two requests: on the same machine those first that are idle
    /// longest, and if there are none, on another. Default: 10,000.
    pub connections: usize,
    /// Connections of one address at once, which for IPv6 is the network of 64 bits; more are answered 503. A proxy is one
    /// address. Default: no limit of its own.
    pub connections_per_address: usize,
    /// Bytes that requests which have not come to their end, and what is sent and not read, may hold together, half for each, on all
    /// machines that share a store. What has at most 16 KiB is its connection's, and not counted. Beyond it a request is answered
    /// 503, an operation on a WebSocket with an error, a message in parts closes with 1013, and what is being delivered waits. A
    /// request that is larger than its half is refused always; what is sent and larger is sent when nothing else is. Default: 256 MiB.
    pub buffers: usize,
    /// Watchers that are told of a change in one step, between which others have their turn. A change goes to those of one filter
    /// without steps where they are a thirty-second of this, or fewer. Default: 256.
    pub told_at_once: usize,
    /// Watches on one WebSocket. Default: 1,024.
    pub watches: usize,
    /// Writes of one WebSocket that wait for their reply. Default: 256.
    pub writes: usize,
    /// Bytes of a key. Default: 1,024.
    pub key_bytes: usize,
    /// Bytes of a value. Default: 1 MiB.
    pub value_bytes: usize,
    /// Items on one page of a list, and how many there are if it does not say. Default: 10,000.
    pub list_items: usize,
    /// Bytes of one page of a list, about: the item that passes it is the last. Default: 1 MiB.
    pub list_bytes: usize,
    /// Bytes of events in one answer to a long poll, about. Default: 1 MiB.
    pub poll_bytes: usize,
    /// Lines of `/hello` that are kept for readers who are behind. Default: 1,024.
    pub hello_lines: usize,
    /// Origins other than the server's own whose pages may write and open a WebSocket, as they stand in the field:
    /// `https://example.org`. Default: none.
    pub origins: Vec<String>,
    /// What the log keeps.
    pub log: LogLimits,
    /// What the store in memory holds. Its `key_bytes` and `value_bytes` are [`Config::key_bytes`] and
    /// [`Config::value_bytes`], whatever it says. A store of the embedder's own has limits of its own.
    pub store: StoreLimits,
    /// The limits and times of HTTP. Its `body_bytes` is [`Config::value_bytes`], whatever it says.
    pub http: http1::Config,
    /// The limits and times of WebSocket. With the feature `deflate`, messages are compressed by default.
    pub websocket: websocket::Config,
}

impl Config {
    /// The limits of a store in memory that fit these: [`Config::store`] with the bytes of a key and of a value.
    pub fn store_limits(&self) -> StoreLimits {
        StoreLimits { key_bytes: self.key_bytes, value_bytes: self.value_bytes, ..self.store }
    }

    /// Compression as a watch server wants it, with so many bytes of memory for all its connections: no message refers to
    /// those before (no context takeover, both ways), so that what is compressed for one watcher is right for all, and a
    /// connection that is silent holds no memory for it. With other [terms](websocket::deflate::Terms) changes are not
    /// compressed, but answers are.
    ///
    /// What is compressed for many comes on top of that memory: at most 1.3 MiB.
    #[cfg(feature = "deflate")]
    pub fn compression(budget: usize) -> websocket::Compression {
        use websocket::deflate::{DeflateConfig, Terms};
        let terms = Terms { send_takeover: false, receive_takeover: false, ..Terms::default() };
        websocket::Compression::deflate(DeflateConfig { terms, budget, ..DeflateConfig::default() })
    }
}

impl Default for Config {
    fn default() -> Self {
        #[cfg(feature = "deflate")]
        let compression = Self::compression(64 << 20);
        #[cfg(not(feature = "deflate"))]
        let compression = websocket::Compression::OFF;
        // 2 MiB: a value of 1 MiB in base64, and the rest of the message.
        let websocket =
            websocket::Config { message_bytes: 2 << 20, compression, ..websocket::Config::default() };
        Self {
            hold: Duration::from_secs(60),
            coalesce: Duration::from_millis(5),
            heartbeat: Duration::from_secs(25),
            connections: 10_000,
            connections_per_address: usize::MAX,
            buffers: 256 << 20,
            told_at_once: 256,
            watches: 1024,
            writes: 256,
            key_bytes: Key::DEFAULT_MAX,
            value_bytes: 1 << 20,
            list_items: 10_000,
            list_bytes: 1 << 20,
            poll_bytes: 1 << 20,
            hello_lines: 1024,
            origins: Vec::new(),
            log: LogLimits::default(),
            store: StoreLimits::default(),
            http: http1::Config::default(),
            websocket,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_a_key_and_of_a_value_are_said_once() {
        let store = StoreLimits { key_bytes: 1, value_bytes: 2, keys: 3, ..StoreLimits::default() };
        let limits = Config { key_bytes: 10, value_bytes: 20, store, ..Config::default() }.store_limits();
        assert_eq!((limits.key_bytes, limits.value_bytes, limits.keys), (10, 20, 3));
    }
}
