//! What all connections that compress share, and how a connection comes to it.

use alloc::string::String;
#[cfg(feature = "deflate")]
use alloc::sync::Arc;
use core::fmt;

#[cfg(feature = "deflate")]
use super::super::Role;
#[cfg(feature = "deflate")]
use super::offer::Terms;
use super::offer::{Parameters, RefusedExtension};
#[cfg(feature = "deflate")]
use super::pool::{Pool, Reservation};

/// Whether and how messages are compressed: a handle to what all connections share that have it, cheap to clone. See the
/// [module](super). Off by default, and always off without the feature `deflate`.
#[derive(Clone, Default)]
pub struct Compression {
    #[cfg(feature = "deflate")]
    pool: Option<Arc<Pool>>,
}

/// How messages are compressed, and with how much memory.
#[cfg(feature = "deflate")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeflateConfig {
    /// What is agreed to with the peers. Default: the largest windows, and context takeover both ways.
    pub terms: Terms,
    /// From 1 (quick) to 9 (small). Default 1: see `docs/benchmarks.md`. What is beyond becomes the nearest, here and below.
    pub level: u8,
    /// How much memory a compressor takes beside its window, from 1 to 9. Default 5.
    pub memory_level: u8,
    /// Messages of fewer bytes are sent as they are. Default 512: alone, what is shorter gains less than it costs.
    pub threshold: usize,
    /// The same for connections with context takeover, where short messages gain as well. Default 64.
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
    pub const OFF: Self = Self {
        #[cfg(feature = "deflate")]
        pool: None,
    };

    /// Compression, with a budget of its own: clone the handle to share it, between threads as well. A lock inside is held
    /// only for the moment in which a state or a buffer is taken or given back.
    #[cfg(feature = "deflate")]
    pub fn deflate(config: DeflateConfig) -> Self {
        Self { pool: Some(Arc::new(Pool::new(config))) }
    }

    /// For a server: takes the first offer that can be accepted, of the list elements of `Sec-WebSocket-Extensions`
    /// ([`Accepted::extensions`](crate::websocket::handshake::Accepted::extensions)). Memory for context takeover is set
    /// aside; where there is too little, the client is told to do, or that it gets, without.
    #[cfg_attr(not(feature = "deflate"), expect(clippy::unused_self, reason = "without the codec it is off"))]
    pub fn answer<'a>(&self, offers: impl IntoIterator<Item = &'a str>) -> Option<Agreed> {
        #[cfg(feature = "deflate")]
        {
            let pool = self.pool.as_ref()?;
            let (terms, mut reservation) = pool.reserve_takeover();
            let (parameters, answer) = terms.answer(offers)?;
            reservation.reduce(parameters, Role::Server);
            Some(Agreed { parameters, answer, reservation })
        }
        #[cfg(not(feature = "deflate"))]
        {
            drop(offers);
            None
        }
    }

    /// For a client: what to offer. `None` if compression is off. Memory for context takeover is set aside until the offer is
    /// dropped or accepted; where there is too little, takeover is not offered.
    pub fn offer(&self) -> Option<Offer> {
        #[cfg(feature = "deflate")]
        {
            let (terms, reservation) = self.pool.as_ref()?.reserve_takeover();
            Some(Offer { field: terms.offer(), terms, reservation })
        }
        #[cfg(not(feature = "deflate"))]
        None
    }

    /// The bytes of all states and buffers that exist, and of those that are set aside.
    #[cfg(feature = "deflate")]
    pub fn memory(&self) -> usize {
        self.pool.as_ref().map_or(0, |pool| pool.memory())
    }
}

#[cfg(feature = "deflate")]
impl DeflateConfig {
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
    #[cfg(feature = "deflate")]
    terms: Terms,
    #[cfg(feature = "deflate")]
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
    #[cfg_attr(not(feature = "deflate"), expect(unused_mut, reason = "without the codec there is no offer"))]
    pub fn accept<'a>(
        mut self,
        answers: impl IntoIterator<Item = &'a str>,
    ) -> Result<Option<Agreed>, RefusedExtension> {
        #[cfg(feature = "deflate")]
        {
            let Some(parameters) = self.terms.accept(answers)? else { return Ok(None) };
            self.reservation.reduce(parameters, Role::Client);
            Ok(Some(Agreed { parameters, answer: String::new(), reservation: self.reservation }))
        }
        #[cfg(not(feature = "deflate"))]
        {
            drop((answers, self));
            Err(RefusedExtension::NotOffered)
        }
    }
}

/// What a handshake agreed to, for [`Connection::with_deflate`](crate::websocket::Connection::with_deflate). It holds the
/// memory that context takeover needs.
#[derive(Debug)]
pub struct Agreed {
    pub(in super::super) parameters: Parameters,
    answer: String,
    #[cfg(feature = "deflate")]
    pub(in super::super) reservation: Reservation,
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
        #[cfg(feature = "deflate")]
        {
            self.pool.as_ref().map(Arc::as_ptr) == other.pool.as_ref().map(Arc::as_ptr)
        }
        #[cfg(not(feature = "deflate"))]
        {
            let _ = other;
            true
        }
    }
}

impl Eq for Compression {}

impl fmt::Debug for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[cfg(feature = "deflate")]
        if let Some(pool) = &self.pool {
            return fmt::Debug::fmt(pool, f);
        }
        f.write_str("Off")
    }
}
