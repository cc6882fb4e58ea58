//! What happened, in order: so that two runs can be compared, and a run that failed can be read.

use keepwatch_protocol::Instant;

/// One thing that happened between the driver and the network. Clients are numbered in the order in which they connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// A client connected, and was accepted or not.
    Connect {
        /// Which client.
        client: usize,
        /// Whether the driver took the connection (a server that refuses with an answer has it taken too).
        accepted: bool,
    },
    /// The server side read bytes; none is the end of the stream.
    Read {
        /// Whose bytes.
        client: usize,
        /// How many.
        bytes: usize,
    },
    /// The server side wrote bytes.
    Write {
        /// To which client.
        client: usize,
        /// How many.
        bytes: usize,
    },
    /// A read or write of the server side failed, as the client had reset the connection.
    Failed {
        /// Which client.
        client: usize,
    },
    /// The server side shut down its writing side.
    Shutdown {
        /// Which client.
        client: usize,
    },
    /// The server side closed the socket.
    Close {
        /// Which client.
        client: usize,
    },
    /// Virtual time was moved to here.
    Time(Instant),
}

/// The steps of a run, and a hash of them and of all bytes that were read and written.
///
/// The hash is the same on every machine and in every version of Rust.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    steps: Vec<Step>,
    keep: usize,
    hash: Fnv,
}

impl Trace {
    pub(crate) fn new(keep: usize) -> Self {
        Self { steps: Vec::new(), keep, hash: Fnv::default() }
    }

    /// The first steps, as many as [`SimConfig::trace_steps`](crate::SimConfig::trace_steps) says are kept.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Of all steps, kept or not, and of the bytes.
    pub fn hash(&self) -> u64 {
        self.hash.value()
    }

    pub(crate) fn push(&mut self, step: Step) {
        let (kind, client, detail) = match step {
            Step::Connect { client, accepted } => (0, client, u64::from(accepted)),
            Step::Read { client, bytes } => (1, client, bytes as u64),
            Step::Write { client, bytes } => (2, client, bytes as u64),
            Step::Failed { client } => (3, client, 0),
            Step::Shutdown { client } => (4, client, 0),
            Step::Close { client } => (5, client, 0),
            Step::Time(at) => (6, 0, at.as_nanos()),
        };
        for number in [kind, client as u64, detail] {
            self.hash.write_number(number);
        }
        if self.steps.len() < self.keep {
            self.steps.push(step);
        }
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.hash.write_many(bytes);
    }
}

/// The FNV-1a hash of 64 bits, with a quicker step for what is long.
#[derive(Clone, Debug)]
pub(crate) struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// A number in one step, and not in eight: quicker, and as good where what is told apart is two runs.
    pub(crate) fn write_number(&mut self, number: u64) {
        let mixed = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 29);
    }

    /// Many bytes, eight at a time.
    pub(crate) fn write_many(&mut self, bytes: &[u8]) {
        let mut eights = bytes.chunks_exact(8);
        for eight in &mut eights {
            self.write_number(eight.try_into().map_or(0, u64::from_le_bytes));
        }
        self.write(eights.remainder());
    }

    pub(crate) fn value(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv_1a() {
        let mut hash = Fnv::default();
        hash.write(b"foobar");
        assert_eq!(hash.value(), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn each_byte_of_many_counts() {
        let hash = |bytes: &[u8]| {
            let mut hash = Fnv::default();
            hash.write_many(bytes);
            hash.value()
        };
        let bytes = *b"eight and some more";
        for at in 0..bytes.len() {
            let mut other = bytes;
            other[at] ^= 1;
            assert_ne!(hash(&bytes), hash(&other), "byte {at}");
        }
    }

    #[test]
    fn steps_that_are_not_kept_are_hashed() {
        let (mut few, mut many) = (Trace::new(1), Trace::new(9));
        for trace in [&mut few, &mut many] {
            trace.push(Step::Close { client: 1 });
            trace.push(Step::Close { client: 2 });
        }
        assert_eq!((few.steps().len(), many.steps().len()), (1, 2));
        assert_eq!(few.hash(), many.hash());
        few.push(Step::Shutdown { client: 2 });
        assert_ne!(few.hash(), many.hash());
    }
}
