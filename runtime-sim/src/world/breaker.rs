//! A client whose connections break, or whose side ends, at one byte after the other: of what it sends, and of what it is
//! sent. Over the seeds every byte has its turn.

use std::time::Duration;

use keepwatch_protocol::Instant;

use super::core::{Actor, Core, End, LinkId};
use super::faults::Fault;
use super::peer::{Asked, Offer, Piece, Reader, frame, frame_of};
use super::watcher::UPGRADE;
use crate::random::Random;

/// Where a connection breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// It is reset when so many bytes were sent.
    Sending,
    /// It is reset when so many bytes were received.
    Receiving,
    /// The client ends its side behind so many bytes, and reads on.
    Ending,
}

impl Cut {
    pub(super) const ALL: [Self; 3] = [Self::Sending, Self::Receiving, Self::Ending];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Sending => "reset behind bytes that were sent",
            Self::Receiving => "reset behind bytes that were received",
            Self::Ending => "the client's end behind bytes that were sent",
        }
    }

    const fn fault(self) -> Fault {
        match self {
            Self::Sending => Fault::ResetAtByte,
            Self::Receiving => Fault::ResetAtAnswer,
            Self::Ending => Fault::EndAtByte,
        }
    }
}

pub(super) struct Breaker {
    random: Random,
    /// The byte of the next cut of each kind.
    at: u64,
    next: Instant,
    open: Option<Open>,
    left: bool,
}

struct Open {
    link: LinkId,
    cut: Cut,
    reader: Reader,
    /// When the client breaks it, if the byte has not come.
    gives_up: Instant,
    /// When the server must have closed it.
    until: Instant,
}

/// How long an answer is waited for that is to be cut.
const WHILE: Duration = Duration::from_secs(4);

/// The longest that a server may keep a connection that has ended: what was asked, then lingering; and what the network may
/// take.
const LONGEST: Duration = Duration::from_secs(120);

impl Breaker {
    /// `at` is where it begins: seeds that follow each other go on where the others ended.
    pub(super) fn new(random: Random, at: u64) -> Self {
        Self { random, at, next: Instant::START, open: None, left: false }
    }

    fn come(&mut self, core: &mut Core) {
        let cut = self.random.one_of(&Cut::ALL);
        let mut random = self.random.clone();
        let strikes = !core.calm && core.faults.looms(cut.fault(), &mut random);
        self.random = random;
        if !strikes {
            return;
        }
        let at = self.at % super::marks::BYTES as u64;
        self.at += 1;
        let mut drawn = conversation(&mut self.random);
        for _ in 0..9 {
            if drawn.0.len() as u64 > at {
                break;
            }
            drawn = conversation(&mut self.random);
        }
        let (bytes, asked, offer) = drawn;
        let link = core.connect();
        let mut reader = Reader::lenient();
        for asked in asked {
            reader.ask(asked);
        }
        if offer.is_some() {
            reader.ask_to_upgrade(offer);
        }
        core.say(|| format!("#{link}: {}, at {at}", cut.name()));
        let sent = bytes.len().min(at as usize);
        match cut {
            Cut::Sending => core.break_sending(link, sent as u64),
            Cut::Receiving => core.break_receiving(link, at),
            Cut::Ending => {}
        }
        core.send(link, if cut == Cut::Ending { &bytes[..sent] } else { &bytes });
        if cut == Cut::Ending {
            core.faults.count(Fault::EndAtByte);
            core.marks.byte(cut, sent as u64);
            core.finish(link);
        }
        let (gives_up, until) = (core.now.instant + WHILE, core.now.instant + WHILE + LONGEST);
        core.wake_at(gives_up);
        core.wake_at(until);
        self.open = Some(Open { link, cut, reader, gives_up, until });
    }
}

/// Something to say, the requests in it, and what it offers if the last of them upgrades.
fn conversation(random: &mut Random) -> (Vec<u8>, Vec<Asked>, Option<Offer>) {
    let get = Asked::default();
    let head = Asked { head_only: true, ..get };
    match random.below(5) {
        0 => {
            let text = "PUT /v1/kv/cut HTTP/1.1\r\nHost: sim\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n\
                4;ext=\"a b\"\r\nsome\r\n1f\r\n value that is cut anywhere now.\r\n0\r\nX: y\r\n\r\n\
                DELETE /v1/kv/cut HTTP/1.1\r\nHost: sim\r\n\r\nGET /v1/kv/cut HTTP/1.1\r\nHost: sim\r\n\r\n";
            (text.into(), vec![get; 3], None)
        }
        1 => {
            let text = "HEAD /metrics HTTP/1.1\r\nHost: sim\r\n\r\nGET /v1/kv?prefix= HTTP/1.1\r\nHost: sim\r\n\r\n\
                PUT /v1/kv/cut HTTP/1.1\r\nHost: sim\r\nContent-Length: 40\r\nX-Nothing: at all, but some more bytes\r\n\r\n\
                0123456789012345678901234567890123456789GET / HTTP/1.1\r\nHost: sim\r\n\r\n";
            (text.into(), vec![head, get, get, get], None)
        }
        2 => {
            let text = "GET /ok/cut HTTP/1.1\r\nHost: sim\r\n\r\nGET /v1/watch?prefix=&initial=true HTTP/1.1\r\nHost: sim\r\n\
                Accept: text/event-stream;q=0.9, application/x-ndjson;q=0.1\r\nLast-Event-ID: 5\r\nUser-Agent: one that is cut\r\n\r\n";
            (text.into(), vec![get; 2], None)
        }
        3 => {
            let text = "GET /v1/kv HTTP/1.0\r\nConnection: keep-alive\r\nX: some more bytes that nobody needs to read\r\n\r\n\
                GET /v1/watch?key=a/1&wait=20s HTTP/1.0\r\nConnection: keep-alive\r\nX: yet more of them, for all those cuts\r\n\r\n";
            (text.into(), vec![Asked { old: true, ..get }; 2], None)
        }
        _ => {
            let offer = Offer::draw(random);
            let extensions = format!("Sec-WebSocket-Extensions: {}\r\n", offer.element());
            let head = format!("GET /v1/watch HTTP/1.1\r\nHost: sim\r\n{UPGRADE}{extensions}\r\n");
            let key = [9, 8, 7, 6];
            let mut bytes = head.into_bytes();
            bytes.extend(frame_of(0x01, b"{\"id\":1,\"op\":\"watch\",", key));
            bytes.extend(frame(9, b"between", key));
            bytes.extend(frame_of(0x80, b"\"prefix\":\"\",\"initial\":true}", key));
            bytes.extend(frame(
                1,
                b"{\"id\":2,\"op\":\"put\",\"key\":\"cut\",\"value\":\"by a socket\"}",
                key,
            ));
            bytes.extend(frame(1, b"{\"id\":3,\"op\":\"list\",\"prefix\":\"\"}", key));
            bytes.extend(frame(8, &[3, 232, b'b', b'y', b'e'], key));
            (bytes, Vec::new(), Some(offer))
        }
    }
}

impl Actor for Breaker {
    fn wake(&mut self, core: &mut Core) {
        let now = core.now.instant;
        if let Some(open) = &mut self.open {
            if core.is_over(open.link) {
                self.open = None;
            } else if open.cut == Cut::Receiving && now >= open.gives_up {
                core.reset(open.link);
                open.gives_up = Instant::NEVER;
            } else if now >= open.until {
                if now < core.last_pause + LONGEST {
                    open.until = core.last_pause + LONGEST;
                    return core.wake_at(open.until);
                }
                let (link, cut) = (open.link, open.cut);
                return core.fail(format!("#{link}: {}, and it was not closed for {LONGEST:?}", cut.name()));
            }
        }
        if !self.left && !core.calm && now >= self.next {
            if self.open.is_none() {
                self.come(core);
            }
            self.next = now + Duration::from_millis(100 + self.random.below(2000) as u64);
            core.wake_at(self.next);
        }
    }

    fn heard(&mut self, link: LinkId, bytes: &[u8], core: &mut Core) {
        let Some(open) = self.open.as_mut().filter(|open| open.link == link) else { return };
        open.reader.push(bytes);
        loop {
            match open.reader.next() {
                Ok(None) => return,
                Ok(Some(Piece::Head(head))) => core.marks.hit(&format!("status: {}", head.status)),
                Ok(Some(_)) => {}
                Err(problem) => {
                    let name = open.cut.name();
                    return core.fail(format!("#{link}: {name}: {problem}"));
                }
            }
        }
    }

    fn ended(&mut self, _: LinkId, _: End, _: &mut Core) {}

    fn leave(&mut self, _: &mut Core) {
        self.left = true;
    }
}
