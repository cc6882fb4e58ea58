//! What may go wrong, and how likely each of it is under a seed.
//!
//! Each kind is impossible under about half of the seeds: a fault that another hides is seen where the other is not.

use crate::random::Random;

macro_rules! faults {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $most:literal;)*) => {
        /// A kind of fault. The name is what the command line and reports call it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault {
            $($(#[doc = $doc])+ $variant,)*
        }

        impl Fault {
            /// All kinds.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The highest chance that a seed gives it, in a thousand, each time that it could happen.
            const fn most(self) -> u32 {
                match self { $(Self::$variant => $most,)* }
            }
        }
    };
}

faults! {
    /// The server's reads return a few bytes each.
    Split = "split", 500;
    /// The server reads a byte at a time.
    Bytewise = "bytewise", 200;
    /// The server's writes take a few bytes each.
    ShortWrite = "short-write", 500;
    /// What a client sends at different times arrives together.
    Coalesced = "coalesced", 500;
    /// Bytes take their time on the way, in both directions.
    Delay = "delay", 700;
    /// For a while nothing moves on a connection, and then all of it.
    Stall = "stall", 200;
    /// The client reads so many bytes a second.
    SlowReader = "slow-reader", 200;
    /// Little fits into the network: the server's writes would block.
    SmallWindow = "small-window", 300;
    /// The client is gone without a word: nothing moves any more, and nothing says so.
    Vanish = "vanish", 80;
    /// The connection breaks after so many bytes from the client.
    ResetSending = "reset-sending", 250;
    /// The connection breaks after so many bytes from the server.
    ResetReceiving = "reset-receiving", 250;
    /// A connection breaks at a byte of a request: each has its turn.
    ResetAtByte = "reset-at-byte", 900;
    /// A connection breaks at a byte of an answer: each has its turn.
    ResetAtAnswer = "reset-at-answer", 900;
    /// A client ends its side at a byte of a request: each has its turn.
    EndAtByte = "end-at-byte", 900;
    /// The client ends its side behind a request, and waits for the answer.
    HalfClose = "half-close", 200;
    /// The client closes with answers on their way and requests unread.
    EndUnread = "end-unread", 150;
    /// The system tells of readiness that is not there.
    Spurious = "spurious-readiness", 300;
    /// The system does not tell of the peer's end before it is read.
    HiddenHangUp = "hidden-hang-up", 500;
    /// A connection waits until the server can accept again (no descriptors).
    AcceptError = "accept-error", 150;
    /// A crowd of connections comes at once, more than the server takes.
    Flood = "flood", 400;
    /// The wall clock jumps, in either direction.
    ClockJump = "clock-jump", 500;
    /// The process does not run for a while.
    Pause = "pause", 400;
    /// The log keeps a few changes.
    ShortLog = "short-log", 800;
    /// The log keeps changes for a short time. Each batch that leaves it for that counts.
    ShortAge = "short-age", 500;
    /// The server has room for few connections. Each that is refused for that counts.
    FewPlaces = "few-places", 500;
    /// The server has room for few connections of one address. Each that is refused for that counts.
    FewOfAddress = "few-of-address", 500;
    /// Few connections may linger: of those beyond, the oldest is closed at once.
    FewLingering = "few-lingering", 300;
    /// Guests of several addresses come at once, and stay.
    Crowd = "crowd", 900;
    /// What is under way may hold little memory. Each that is refused for that counts.
    SmallBuffers = "small-buffers", 500;
    /// An upload, or a message, comes in parts with pauses between them.
    Parts = "parts", 900;
    /// Encoded frames are not kept.
    FewEncodings = "few-encodings", 500;
    /// Few watchers are told of a change at once: the others hear of it in steps.
    Steps = "told-in-steps", 700;
    /// The store takes few keys, or few bytes.
    FullStore = "full-store", 300;
    /// Answers are cut into small pages.
    SmallPages = "small-pages", 500;
    /// Little own output may wait before no input is taken.
    LowMark = "low-mark", 500;
    /// Of a connection that is paused few bytes are read.
    FewUnread = "few-unread", 500;
    /// A turn of the driver is short.
    ShortTurn = "short-turn", 500;
    /// A machine that is late gets a snapshot instead of changes.
    Snapshot = "snapshot", 500;
    /// Another thread commits something between the moment in which a machine looks at a condition and the one in which its
    /// write is decided.
    Elsewhere = "elsewhere", 300;
    /// Another thread commits something in the middle of a machine's turn, or just when it has looked at what is committed.
    MidTurn = "mid-turn", 20;
    /// The last byte of a request comes in the middle of a turn, from a client that was told what another thread has
    /// committed just then.
    LastByte = "last-byte", 300;
    /// The store takes few writes in one turn.
    FullQueue = "full-queue", 400;
    /// Connections have little memory for compression, all together.
    SmallBudget = "small-budget", 500;
    /// Few lines are kept for the readers of `/hello`.
    FewLines = "few-lines", 500;
    /// The server dies and is started again, empty.
    Crash = "crash", 500;
    /// The server is drained and started again, empty.
    Drain = "drain", 500;
    /// A client connects and says nothing.
    Silent = "silent", 300;
    /// A client sends a head byte by byte.
    SlowHead = "slow-head", 300;
    /// A client sends a body byte by byte.
    SlowBody = "slow-body", 300;
    /// A client asks, and reads no answer.
    NeverReads = "never-reads", 400;
    /// A client upgrades to WebSocket and is never heard again.
    MuteSocket = "mute-socket", 300;
    /// A client sends nonsense.
    Garbage = "garbage", 400;
    /// A client sends few bytes that inflate to very many.
    Bomb = "bomb", 300;
    /// A client sends what the fuzzers found.
    Corpus = "corpus", 600;
}

/// The chances that a seed gives, and how often each kind happened.
#[derive(Clone, Debug)]
pub(super) struct Faults {
    chances: Vec<u32>,
    pub(super) counts: Vec<u64>,
}

impl Faults {
    /// Drawn from the seed, each kind by itself. Those in `without` never happen.
    pub(super) fn draw(seed: &Random, without: &[Fault]) -> Self {
        let chances = Fault::ALL.iter().map(|fault| {
            let mut random = seed.fork(fault.name());
            let on = random.chance(500);
            let chance = 1 + random.below(fault.most() as usize) as u32;
            if on && !without.contains(fault) { chance } else { 0 }
        });
        Self { chances: chances.collect(), counts: vec![0; Fault::ALL.len()] }
    }

    /// Whether it happens now; if so, it is counted. Draws one number, whatever the chances are.
    pub(super) fn strikes(&mut self, fault: Fault, random: &mut Random) -> bool {
        let happens = self.looms(fault, random);
        if happens {
            self.count(fault);
        }
        happens
    }

    /// Whether it is going to happen; who makes it happen counts it.
    pub(super) fn looms(&self, fault: Fault, random: &mut Random) -> bool {
        random.chance(self.chances[fault as usize])
    }

    /// How likely it is, in a thousand, for those who draw themselves.
    pub(super) fn chance(&self, fault: Fault) -> u32 {
        self.chances[fault as usize]
    }

    pub(super) fn count(&mut self, fault: Fault) {
        self.counts[fault as usize] += 1;
    }
}
