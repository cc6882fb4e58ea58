//! What all connections that compress share, and how a connection comes to it.

use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;

use super::super::Role;
#[cfg(feature = "deflate")]
use super::framer::Framer;
use super::offer::{Parameters, RefusedExtension, Terms};
use super::{Pool, Reservation};

/// Whether and how messages are compressed: a handle to what all connections share that have it, cheap to clone. See the
/// [module](super). Off by default, and always off without the feature `deflate`.
#[derive(Clone, Default)]
pub struct Compression {
    pool: Option<Arc<Pool>>,
}

/// How messages are compressed, and with how much memory.
#[cfg(feature = "deflate")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeflateConfig {
    /// What is agreed to with the peers. Default: the largest windows, and context takeover both ways.
    pub terms: Terms,
    /// From 1 (quick) to 9 (small). What is beyond becomes the nearest, here and below. Default 1.
    ///
    /// With context takeover each message is compressed for each connection, so a server that pushes has time to lose and few
    /// bytes to win. What is left of JSON events in the largest window, without takeover and with it, and the time:
    ///
    /// | level | 1 KiB | takeover | 4 KiB | takeover | random hexadecimal digits, 110 KB |
    /// | --- | --- | --- | --- | --- | --- |
    /// | 1 | 45 %, 4.0 µs | 27 %, 2.6 µs | 33 %, 8.9 µs | 26 %, 8.3 µs | 87 %, 0.7 ms |
    /// | 2 | 35 %, 11 µs | 22 %, 8.3 µs | 23 %, 20 µs | 19 %, 19 µs | 55 %, 1.5 ms |
    /// | 6 | 34 %, 16 µs | 20 %, 20 µs | 22 %, 29 µs | 17 %, 48 µs | 55 %, 1.7 ms |
    ///
    /// These are by `bench/benches/deflate.rs`. Take 2 where bytes cost more than time, where what is sent is mostly
    /// identifiers, hashes and base64, or where most messages are [prepared](crate::websocket::Prepared) and compressed once
    /// for all. In windows of fewer than 12 bits at least 3 is used: they hold few repetitions, and to find none takes level 1
    /// nearly as long.
    pub level: u8,
    /// How much memory a compressor takes for symbols that wait for their block, from 1 (1 KiB) to 9 (224 KiB). Default 5
    /// (14 KiB): more gains nothing that can be measured.
    pub memory_level: u8,
    /// Messages of fewer bytes are sent as they are. Default 512: alone, what is shorter gains little, and to make a compressor
    /// ready takes longer than to compress it.
    pub threshold: usize,
    /// The same for connections with context takeover. Default 64: there nothing has to be made ready, and short messages are
    /// like those before.
    pub takeover_threshold: usize,
    /// The most bytes of all states and buffers together. Default 64 MiB. A sixteenth of it (and at least 32 KiB) is kept for
    /// buffers, which are needed for moments only.
    pub budget: usize,
}

#[cfg(feature = "deflate")]
impl Default for DeflateConfig {
    fn default() -> Self {
        Self {
            terms: Terms::default(),
            level: 1,
            memory_level: 5,
            threshold: 512,
            takeover_threshold: 64,
            budget: 64 << 20,
        }
    }
}

impl Compression {
    /// No compression: nothing is offered, and nothing is accepted.
    pub const OFF: Self = Self { pool: None };

    /// Compression, with a budget of its own: clone the handle to share it, between threads as well. A lock inside is held
    /// only for the moment in which a state or a buffer is taken or given back.
    #[cfg(feature = "deflate")]
    pub fn deflate(config: DeflateConfig) -> Self {
        Self { pool: Some(Arc::new(Pool::new(config))) }
    }

    /// For a server: takes the first offer that can be accepted, of the list elements of `Sec-WebSocket-Extensions`
    /// ([`Accepted::extensions`](crate::websocket::handshake::Accepted::extensions)). Memory for context takeover is set
    /// aside; where there is too little, what is agreed to is without.
    pub fn answer<'a>(&self, offers: impl IntoIterator<Item = &'a str>) -> Option<Agreed> {
        let (terms, mut reservation) = self.pool.as_ref()?.reserve_takeover();
        let (parameters, answer) = terms.answer(offers)?;
        reservation.reduce(parameters, Role::Server);
        Some(Agreed { parameters, answer, reservation })
    }

    /// For a client: what to offer. `None` if compression is off. Memory for context takeover is set aside until the offer is
    /// dropped or accepted; where there is too little, takeover is not offered.
    pub fn offer(&self) -> Option<Offer> {
        let (terms, reservation) = self.pool.as_ref()?.reserve_takeover();
        Some(Offer { field: terms.offer(), terms, reservation })
    }

    /// For a server that keeps what many connections are sent, and makes it again: frames messages with these settings for a
    /// window of so many bits, 9 to 15; what is beyond becomes the nearest. `None` if compression is off.
    #[cfg(feature = "deflate")]
    pub fn framer(&self, window_bits: u8) -> Option<Framer> {
        self.pool.as_ref().map(|pool| Framer::new(window_bits, pool.config()))
    }

    #[cfg(feature = "deflate")]
    pub(super) fn pool(&self) -> Option<&Arc<Pool>> {
        self.pool.as_ref()
    }

    /// The bytes of what is taken and of what is set aside: those of [`memory`](Self::memory) without what lies idle. None when
    /// no connection is left.
    #[cfg(feature = "deflate")]
    pub fn used(&self) -> usize {
        self.pool.as_ref().map_or(0, |pool| pool.used())
    }

    /// The bytes of all states and buffers that exist, and of those that are set aside.
    #[cfg(feature = "deflate")]
    pub fn memory(&self) -> usize {
        self.pool.as_ref().map_or(0, |pool| pool.memory())
    }
}

#[cfg(feature = "deflate")]
impl DeflateConfig {
    /// Whether a message is long enough to be compressed.
    pub(super) fn compresses(&self, payload: &[u8], takeover: bool) -> bool {
        let fewest = if takeover { self.takeover_threshold } else { self.threshold };
        payload.len() >= fewest.max(1)
    }

    pub(super) fn in_range(self) -> Self {
        Self {
            terms: self.terms.in_range(),
            level: self.level.clamp(1, 9),
            memory_level: self.memory_level.clamp(1, 9),
            ..self
        }
    }
}

/// What a client offers.
#[derive(Debug)]
pub struct Offer {
    field: String,
    terms: Terms,
    reservation: Reservation,
}

impl Offer {
    /// The value of the request's `Sec-WebSocket-Extensions`.
    pub fn field(&self) -> &str {
        &self.field
    }

    /// Reads the answer: the list elements of its `Sec-WebSocket-Extensions`. `None` if there is none: the server does not
    /// compress.
    ///
    /// # Errors
    ///
    /// The answer does not fit the offer (RFC 7692 section 7.1): the handshake fails.
    pub fn accept<'a>(
        mut self,
        answers: impl IntoIterator<Item = &'a str>,
    ) -> Result<Option<Agreed>, RefusedExtension> {
        let Some(parameters) = self.terms.accept(answers)? else { return Ok(None) };
        self.reservation.reduce(parameters, Role::Client);
        Ok(Some(Agreed { parameters, answer: String::new(), reservation: self.reservation }))
    }
}

/// What a handshake agreed to, for [`Connection::with_deflate`](crate::websocket::Connection::with_deflate). It holds the
/// memory that context takeover needs.
#[derive(Debug)]
pub struct Agreed {
    pub(super) parameters: Parameters,
    answer: String,
    pub(super) reservation: Reservation,
}

impl Agreed {
    /// What was agreed to.
    pub fn parameters(&self) -> Parameters {
        self.parameters
    }

    /// For a server: the value of the answer's `Sec-WebSocket-Extensions`. A client has nothing to answer.
    pub fn answer(&self) -> &str {
        &self.answer
    }
}

impl PartialEq for Compression {
    /// Whether both are off, or share the same memory.
    fn eq(&self, other: &Self) -> bool {
        self.pool.as_ref().map(Arc::as_ptr) == other.pool.as_ref().map(Arc::as_ptr)
    }
}

impl Eq for Compression {}

impl fmt::Debug for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pool {
            Some(pool) => fmt::Debug::fmt(pool, f),
            None => f.write_str("Off"),
        }
    }
}
