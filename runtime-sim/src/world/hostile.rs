//! Clients that mean no good, or are broken: each is to be got rid of within a time that the limits say, and none may make
//! the server say anything malformed.

use std::sync::OnceLock;
use std::time::Duration;

use keepwatch_protocol::Instant;

use super::core::{Actor, Core, End, LinkId};
use super::faults::Fault;
use super::peer::{Asked, Offer, Piece, Reader, frame, frame_of};
use super::watcher::UPGRADE;
use crate::random::Random;
use crate::trace::Fnv;

/// What a hostile client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Silent,
    SlowHead,
    SlowBody,
    NeverReads,
    MuteSocket,
    Garbage,
    Bomb,
    Corpus,
}

const MANNERS: [(Fault, Manner); 8] = [
    (Fault::Silent, Manner::Silent),
    (Fault::SlowHead, Manner::SlowHead),
    (Fault::SlowBody, Manner::SlowBody),
    (Fault::NeverReads, Manner::NeverReads),
    (Fault::MuteSocket, Manner::MuteSocket),
    (Fault::Garbage, Manner::Garbage),
    (Fault::Bomb, Manner::Bomb),
    (Fault::Corpus, Manner::Corpus),
];

/// A place from which hostile clients come, one after the other.
pub(super) struct Hostile {
    random: Random,
    next: Instant,
    open: Vec<Open>,
    left: bool,
}

struct Open {
    link: LinkId,
    manner: Manner,
    reader: Option<Reader>,
    /// Bytes that are still to be sent, one at a time.
    rest: Vec<u8>,
    next: Instant,
    opened: Instant,
    /// When the server must have closed it.
    until: Instant,
}

/// The longest that a connection stalls.
const HELD_UP: Duration = Duration::from_secs(50);

impl Manner {
    /// How long the server may keep it: the sum of the limits on its way out.
    fn longest(self) -> Duration {
        let seconds = match self {
            // To the first byte, then lingering for one more.
            Self::Silent => 10 + 5,
            // To its first byte, to the end of the head; it sends on while the close lingers, to its end.
            Self::SlowHead => 4 + 10 + 30,
            // Until its rate counts, and as before.
            Self::SlowBody => 20 + 30 + 30,
            // To the first heartbeat that does not fit, and the time for a write.
            Self::NeverReads => 28 + 28 + 28 + 28 + 60,
            // To a ping, to its pong, then lingering.
            Self::MuteSocket => 30 + 20 + 5,
            // To its end, as it says nothing more.
            Self::Bomb => 30 + 20 + 5 + 5,
            // It may come to any of these, and ask several things before.
            Self::Garbage | Self::Corpus => 240,
        };
        Duration::from_secs(seconds + 2)
    }
}

impl Hostile {
    pub(super) fn new(random: Random) -> Self {
        Self { random, next: Instant::START, open: Vec::new(), left: false }
    }

    fn come(&mut self, core: &mut Core) {
        let mut random = self.random.clone();
        for (fault, manner) in MANNERS {
            if core.strikes(fault, &mut random) {
                self.open(manner, &mut random, core);
            }
        }
        if core.strikes(Fault::Flood, &mut random) {
            for _ in 0..20 + random.below(20) {
                self.open(Manner::Silent, &mut random, core);
            }
        }
        self.random = random;
    }

    fn open(&mut self, manner: Manner, random: &mut Random, core: &mut Core) {
        let link = core.connect();
        let (first, rest) = bytes(manner, random);
        let until = core.now.instant + manner.longest();
        // Answers to nonsense are well-formed, too. To HEAD they have no body, and who asked that is not known.
        let read = manner != Manner::NeverReads && !first.windows(4).any(|window| window == b"HEAD");
        let reader = read.then(|| {
            let mut reader = Reader::lenient();
            if first.windows(DEFLATE.len()).any(|window| window == DEFLATE.as_bytes()) {
                reader.ask_to_upgrade(Some(Offer::default()));
            }
            reader
        });
        core.say(|| format!("#{link} is {manner:?}"));
        core.never_closes(link);
        if manner == Manner::NeverReads {
            core.never_reads(link);
        }
        if !first.is_empty() {
            core.send(link, &first);
        }
        if manner == Manner::Garbage && random.chance(300) {
            core.finish(link);
        }
        let next = core.now.instant + Duration::from_millis(500 + random.below(3000) as u64);
        self.open.push(Open { link, manner, reader, rest, next, opened: core.now.instant, until });
        core.wake_at(next);
        core.wake_at(until);
        core.wake_at(until + HELD_UP);
    }
}

/// What it sends at once, and what it sends byte by byte.
fn bytes(manner: Manner, random: &mut Random) -> (Vec<u8>, Vec<u8>) {
    match manner {
        Manner::Silent => (Vec::new(), Vec::new()),
        Manner::SlowHead => {
            let head = format!("GET /healthz HTTP/1.1\r\nHost: sim\r\nX: {}", "x".repeat(60));
            (Vec::new(), head.into_bytes())
        }
        Manner::SlowBody => {
            let head = b"PUT /v1/kv/slow HTTP/1.1\r\nHost: sim\r\nContent-Length: 500\r\n\r\n";
            (head.to_vec(), vec![b'x'; 100])
        }
        Manner::NeverReads => {
            let one: &[u8] = match random.below(4) {
                0 => b"GET / HTTP/1.1\r\nHost: sim\r\n\r\n",
                1 => b"GET /v1/watch?prefix=&initial=true HTTP/1.1\r\nHost: sim\r\nAccept: application/x-ndjson\r\n\r\n",
                2 => b"GET /v1/kv HTTP/1.1\r\nHost: sim\r\n\r\n",
                _ => b"GET /metrics HTTP/1.1\r\nHost: sim\r\n\r\n",
            };
            (one.repeat(1 + random.below(30)), Vec::new())
        }
        Manner::MuteSocket => {
            let mut bytes = upgrade(random);
            if random.chance(500) {
                // A frame that never ends.
                bytes.extend([0x81, 0xfe, 0x10, 0x00, 1, 2, 3, 4, 5]);
            }
            (bytes, Vec::new())
        }
        Manner::Garbage => {
            let mut bytes = match random.below(4) {
                0 => Vec::new(),
                1 => b"GET /v1/kv HTTP/1.1\r\nHost: sim\r\n\r\n".to_vec(),
                2 => b"PUT /v1/kv/x HTTP/1.1\r\nHost: sim\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
                _ => upgrade(random),
            };
            let count = random.below(200);
            bytes.extend((0..count).map(|_| random.next_u64() as u8));
            if random.chance(300) {
                let at = random.below(bytes.len().max(1));
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = random.next_u64() as u8;
                }
            }
            if random.chance(300) {
                let opcode = random.below(16) as u8;
                let count = random.below(200);
                let payload: Vec<u8> = (0..count).map(|_| random.next_u64() as u8).collect();
                bytes = upgrade(random);
                bytes.extend(frame(opcode, &payload, [7, 1, 9, 3]));
            }
            (bytes, Vec::new())
        }
        Manner::Bomb => {
            let mut bytes = upgrade_deflated();
            bytes.extend(frame_of(0xc1, bomb(), [7, 1, 9, 3]));
            (bytes, Vec::new())
        }
        Manner::Corpus => {
            let found = found(random.next_u64());
            match random.below(5) {
                0 => {
                    let head = b"PUT /v1/kv/x HTTP/1.1\r\nHost: sim\r\nTransfer-Encoding: chunked\r\n\r\n";
                    ([&head[..], found].concat(), Vec::new())
                }
                1 => ([&upgrade(random), found].concat(), Vec::new()),
                2 => ([&upgrade_deflated(), found].concat(), Vec::new()),
                3 => ([&upgrade_deflated()[..], &frame_of(0xc1, found, [7, 1, 9, 3])].concat(), Vec::new()),
                _ => (found.to_vec(), Vec::new()),
            }
        }
    }
}

fn upgrade(random: &mut Random) -> Vec<u8> {
    let target = random.one_of(&["/v1/watch", "/v1/watch?prefix="]);
    format!("GET {target} HTTP/1.1\r\nHost: sim\r\n{UPGRADE}\r\n").into_bytes()
}

/// The same, offering compression and nothing more.
fn upgrade_deflated() -> Vec<u8> {
    format!("GET /v1/watch HTTP/1.1\r\nHost: sim\r\n{UPGRADE}{DEFLATE}\r\n").into_bytes()
}

const DEFLATE: &str = "Sec-WebSocket-Extensions: permessage-deflate\r\n";

/// A thousand bytes that become a million.
fn bomb() -> &'static [u8] {
    static BOMB: OnceLock<Vec<u8>> = OnceLock::new();
    BOMB.get_or_init(|| miniz_oxide::deflate::compress_to_vec(&vec![b' '; 1 << 20], 6))
}

/// One of the inputs that the fuzzers found and that are committed, or of a few that stand here where there are none (outside
/// of the repository). It is found by a hash of its name, so that a new input changes the meaning of few seeds.
fn found(draw: u64) -> &'static [u8] {
    static INPUTS: OnceLock<Vec<(u64, Vec<u8>)>> = OnceLock::new();
    let inputs = INPUTS.get_or_init(|| {
        let mut inputs = Vec::new();
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus");
        for target in std::fs::read_dir(corpus).into_iter().flatten().flatten() {
            for input in std::fs::read_dir(target.path()).into_iter().flatten().flatten() {
                if let Ok(bytes) = std::fs::read(input.path()) {
                    let mut hash = Fnv::default();
                    hash.write(&bytes);
                    inputs.push((hash.value(), bytes));
                }
            }
        }
        if inputs.is_empty() {
            let few: [&[u8]; 3] =
                [b"\r\n\r\n\r\n\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"ffffffffffffffff\r\n"];
            inputs.extend((1..).map(|part| u64::MAX / 4 * part).zip(few.map(<[u8]>::to_vec)));
        }
        inputs.sort();
        inputs
    });
    let at = inputs.partition_point(|(hash, _)| *hash < draw);
    inputs.get(at).or(inputs.first()).map_or(&[], |(_, bytes)| bytes)
}

impl Actor for Hostile {
    fn wake(&mut self, core: &mut Core) {
        let now = core.now.instant;
        if !self.left && !core.calm && now >= self.next {
            self.next = now + Duration::from_millis(1000 + self.random.below(20_000) as u64);
            core.wake_at(self.next);
            self.come(core);
        }
        let mut late = None;
        for open in &mut self.open {
            // What it sends may be held up on its way.
            let slack = if core.is_prompt(open.link, open.opened) { Duration::ZERO } else { HELD_UP };
            let longest = open.manner.longest() + slack;
            if now < core.last_pause + longest {
                // Once: each wake-up looks at all of them.
                if open.until < core.last_pause + longest {
                    open.until = core.last_pause + longest;
                    core.wake_at(open.until);
                }
            } else if now >= open.until + slack && !core.is_over(open.link) {
                late = Some((open.link, open.manner));
            }
            if now >= open.next && !open.rest.is_empty() {
                let byte = open.rest.remove(0);
                core.send(open.link, &[byte]);
                open.next = now + Duration::from_millis(500 + self.random.below(4000) as u64);
                core.wake_at(open.next);
            }
        }
        if let Some((link, manner)) = late {
            core.fail(format!("#{link} is {manner:?}, and was not closed within {:?}", manner.longest()));
        }
        self.open.retain(|open| !core.is_over(open.link));
    }

    fn heard(&mut self, link: LinkId, bytes: &[u8], core: &mut Core) {
        let Some(open) = self.open.iter_mut().find(|open| open.link == link) else { return };
        let Some(reader) = &mut open.reader else { return };
        reader.push(bytes);
        loop {
            match reader.next() {
                Ok(None) => return,
                Ok(Some(Piece::Head(head))) => core.marks.hit(&format!("status: {}", head.status)),
                Ok(Some(Piece::Frame(frame))) if frame.opcode == 8 => {
                    let code =
                        frame.payload.get(..2).map_or(1005, |code| u16::from_be_bytes([code[0], code[1]]));
                    core.marks.hit(&format!("socket: closed {code}"));
                }
                Ok(Some(_)) => {}
                Err(problem) => {
                    let manner = open.manner;
                    return core.fail(format!("#{link} is {manner:?}: {problem}"));
                }
            }
        }
    }

    fn ended(&mut self, _: LinkId, _: End, _: &mut Core) {}

    /// Where there are few places they are needed by others.
    fn calm(&mut self, core: &mut Core) {
        if core.tight.places {
            for open in self.open.drain(..) {
                core.reset(open.link);
            }
        }
    }

    /// They stay, and have to be thrown out.
    fn leave(&mut self, _: &mut Core) {
        self.left = true;
    }
}

/// Someone who reads `/hello`: after the first line there is nothing but what the others say.
pub(super) struct Listener {
    random: Random,
    link: Option<LinkId>,
    reader: Reader,
    text: Vec<u8>,
    left: bool,
}

impl Listener {
    pub(super) fn new(random: Random) -> Self {
        Self { random, link: None, reader: Reader::new(), text: Vec::new(), left: false }
    }
}

impl Actor for Listener {
    fn wake(&mut self, core: &mut Core) {
        if self.left || self.link.is_some() {
            return;
        }
        let link = core.connect();
        self.link = Some(link);
        self.reader = Reader::new();
        self.text.clear();
        self.reader.ask(Asked::default());
        core.send(link, b"GET /hello HTTP/1.1\r\nHost: sim\r\n\r\n");
    }

    fn heard(&mut self, link: LinkId, bytes: &[u8], core: &mut Core) {
        if self.link != Some(link) {
            return;
        }
        self.reader.push(bytes);
        loop {
            match self.reader.next() {
                Ok(None) => break,
                Ok(Some(Piece::Head(head))) if head.status == 200 => self.text.clear(),
                Ok(Some(Piece::Body(bytes))) => self.text.extend(bytes),
                Ok(Some(_)) => return,
                Err(problem) => return core.fail(format!("#{link}: {problem}")),
            }
        }
        let text = String::from_utf8_lossy(&self.text);
        let Some(mut lines) = text.strip_prefix("wait:\n").map(|rest| rest.split_inclusive('\n')) else {
            return;
        };
        // What anyone says in a world.
        let said = ["id: there\n", "id: someone \n", "id: cut\n"];
        if lines.any(|line| !said.iter().any(|said| said.starts_with(line))) {
            core.fail(format!("#{link}: it heard {text:?}"));
        } else if text.len() > 20 {
            core.marks.hit("hello: line");
        }
    }

    fn ended(&mut self, link: LinkId, _: End, core: &mut Core) {
        if self.link == Some(link) {
            self.link = None;
            let rest = Duration::from_millis(1 + self.random.below(5000) as u64);
            core.wake_at(core.now.instant + rest);
        }
    }

    fn leave(&mut self, core: &mut Core) {
        self.left = true;
        if let Some(link) = self.link.take() {
            core.close(link);
        }
    }
}
