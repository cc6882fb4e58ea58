//! Guests, who come from several addresses and stay: where places are few, those of them that have nothing under way are shed,
//! and no others.
//!
//! Between two requests a guest is idle for a while. While it is not, it keeps the server busy in one of the ways that a
//! connection can be busy: with a part of a request, with a request whose answer waits, with a stream.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use keepwatch_protocol::Instant;

use super::core::{Actor, Core, End, LinkId};
use super::faults::Fault;
use super::peer::{Asked, Head, Piece, Reader};
use crate::random::Random;

pub(super) struct Guests {
    random: Random,
    here: Vec<Guest>,
    next: Instant,
    left: bool,
}

struct Guest {
    link: LinkId,
    reader: Reader,
    head: Option<Head>,
    doing: Doing,
    /// Of the request that is sent in two parts.
    rest: Vec<u8>,
    /// Those of its machine when it asked.
    snapshots: usize,
    /// When it began to do so, and when it goes on.
    since: Instant,
    next: Instant,
}

/// What a guest is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    /// It came, and has not asked anything.
    Coming,
    /// It was answered.
    Idle,
    /// A part of a request is sent.
    Asking,
    /// An answer is to come.
    Waiting,
    /// It reads a stream.
    Reading,
}

/// The most that are here at once.
const MOST: usize = 20;

/// The longest that a connection may be idle between two requests, by default; a timer may be a little early.
const KEEP: Duration = Duration::from_secs(74);

/// How long an answer may take, with what it is held.
const PATIENCE: Duration = Duration::from_secs(10);

impl Guests {
    pub(super) fn new(random: Random) -> Self {
        Self { random, here: Vec::new(), next: Instant::START, left: false }
    }

    fn come(&mut self, core: &mut Core) {
        for _ in 0..2 + self.random.below(7) {
            if self.here.len() >= MOST {
                return;
            }
            let link = core.connect_from(address(&mut self.random));
            let next = core.now.instant + Duration::from_millis(1 + self.random.below(500) as u64);
            core.wake_at(next);
            self.here.push(Guest {
                link,
                reader: Reader::new(),
                head: None,
                doing: Doing::Coming,
                rest: Vec::new(),
                snapshots: 0,
                since: core.now.instant,
                next,
            });
        }
    }
}

fn snapshots(link: LinkId, core: &Core) -> usize {
    core.model.borrow_mut().generation(core.generation_of(link)).machines[core.machine_of(link)].snapshots
}

/// One of few addresses, some of which count as the same.
fn address(random: &mut Random) -> IpAddr {
    let four = Ipv4Addr::new(192, 0, 2, 1 + random.below(2) as u8);
    let six = Ipv6Addr::new(0x2001, 0xdb8, 0, random.below(2) as u16, 0, 0, 0, 1 + random.below(3) as u16);
    random.one_of(&[four.into(), four.to_ipv6_mapped().into(), six.into()])
}

impl Guest {
    /// Its time has come. Returns whether it stays.
    fn go_on(&mut self, random: &mut Random, core: &mut Core) -> bool {
        match self.doing {
            Doing::Coming | Doing::Idle => {
                if random.chance(150) {
                    core.close(self.link);
                    return false;
                }
                self.ask(random, core);
            }
            Doing::Asking => {
                core.send(self.link, &std::mem::take(&mut self.rest));
                self.doing = Doing::Waiting;
                self.next = core.now.instant + PATIENCE;
            }
            Doing::Waiting => {
                if core.is_prompt(self.link, self.since) {
                    core.fail(format!("#{}: no answer for {PATIENCE:?}", self.link));
                }
                core.reset(self.link);
                return false;
            }
            Doing::Reading => {
                core.close(self.link);
                return false;
            }
        }
        core.wake_at(self.next);
        true
    }

    fn ask(&mut self, random: &mut Random, core: &mut Core) {
        let whole: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: sim\r\nX: something more\r\n\r\n";
        let upload: &[u8] =
            b"PUT /v1/kv/guest HTTP/1.1\r\nHost: sim\r\nContent-Length: 20\r\n\r\nby one of the guests";
        let poll: &[u8] = b"GET /v1/watch?key=nobody&wait=4s HTTP/1.1\r\nHost: sim\r\n\r\n";
        let stream: &[u8] =
            b"GET /v1/watch?key=nobody HTTP/1.1\r\nHost: sim\r\nAccept: application/x-ndjson\r\n\r\n";
        let bytes = random.one_of(&[whole, whole, upload, poll, stream]);
        self.reader.ask(Asked::default());
        self.since = core.now.instant;
        self.snapshots = snapshots(self.link, core);
        if random.chance(400) && bytes != stream {
            // Less than a head, or a body, may take.
            let (part, rest) = bytes.split_at(1 + random.below(bytes.len() - 1));
            core.send(self.link, part);
            self.rest = rest.to_vec();
            self.doing = Doing::Asking;
            self.next = core.now.instant + Duration::from_millis(1 + random.below(8000) as u64);
        } else {
            core.send(self.link, bytes);
            self.doing = if bytes == stream { Doing::Reading } else { Doing::Waiting };
            let more = Duration::from_millis(random.below(9000) as u64);
            self.next = core.now.instant + if bytes == stream { more } else { PATIENCE };
        }
    }

    /// Returns whether it stays.
    fn hear(&mut self, piece: Piece, random: &mut Random, core: &mut Core) -> Result<bool, String> {
        match piece {
            Piece::Head(head) => {
                core.marks.hit(&format!("status: {}", head.status));
                match head.status {
                    // There may be no room for what it wrote, nor for itself, and its second part may be late.
                    200 | 201 | 408 | 503 | 507 => {}
                    // Nothing of its key ever leaves a log. But where changes were missed, everyone is told.
                    410 if self.snapshots != snapshots(self.link, core) => {}
                    other => return Err(format!("it is answered {other}")),
                }
                self.head = Some(head);
            }
            Piece::Body(_) => {}
            Piece::End if self.reader.is_last() || self.doing == Doing::Asking => {
                core.close(self.link);
                return Ok(false);
            }
            Piece::End => {
                self.doing = Doing::Idle;
                self.since = core.now.instant;
                let most = random.one_of(&[2000, 30_000]);
                self.next = core.now.instant + Duration::from_millis(1 + random.below(most) as u64);
                core.wake_at(self.next);
            }
            Piece::Continue | Piece::Frame(_) => return Err("that was not asked for".into()),
        }
        Ok(true)
    }

    /// The server ended the connection, and did not say so in an answer.
    fn ended(&self, core: &mut Core) -> Result<(), String> {
        // A drain ends those that are idle, and at its end the others, too.
        if !core.is_prompt(self.link, core.opened(self.link)) || !core.accepts {
            return Ok(());
        }
        if !self.reader.is_between() {
            return Err("an answer is cut".into());
        }
        match self.doing {
            // It has some seconds for its first request.
            Doing::Coming => Ok(()),
            Doing::Idle if core.now.instant.since(self.since) >= KEEP => Ok(()),
            Doing::Asking | Doing::Waiting | Doing::Reading if core.was_asked(self.link, self.since) => {
                Err(format!("it was ended while it was {:?}", self.doing))
            }
            // What it asked came too late.
            _ => {
                core.marks.hit("guest: shed");
                core.shed(self.link)
            }
        }
    }
}

impl Actor for Guests {
    fn wake(&mut self, core: &mut Core) {
        let now = core.now.instant;
        if self.left || core.calm {
            return;
        }
        let mut random = self.random.clone();
        let due = |guest: &Guest| now >= guest.next;
        self.here.retain_mut(|guest| !due(guest) || guest.go_on(&mut random, core));
        if now >= self.next {
            self.next = now + Duration::from_millis(500 + random.below(8000) as u64);
            core.wake_at(self.next);
            let comes = core.strikes(Fault::Crowd, &mut random);
            self.random = random;
            if comes {
                self.come(core);
            }
        } else {
            self.random = random;
        }
    }

    fn heard(&mut self, link: LinkId, bytes: &[u8], core: &mut Core) {
        let Some(at) = self.here.iter().position(|guest| guest.link == link) else { return };
        let guest = &mut self.here[at];
        guest.reader.push(bytes);
        loop {
            let stays = match guest.reader.next() {
                Ok(None) => return,
                Ok(Some(piece)) => guest.hear(piece, &mut self.random, core),
                Err(problem) => Err(problem),
            };
            match stays {
                Ok(true) => {}
                Ok(false) => {
                    self.here.swap_remove(at);
                    return;
                }
                Err(problem) => return core.fail(format!("#{link}: {problem}")),
            }
        }
    }

    fn ended(&mut self, link: LinkId, how: End, core: &mut Core) {
        let Some(at) = self.here.iter().position(|guest| guest.link == link) else { return };
        let guest = self.here.swap_remove(at);
        if how == End::Finished {
            let result = guest.ended(core);
            core.check(result.map_err(|why| format!("#{link}: {why}")));
        }
    }

    /// They stay for the storm: in the calm everyone else is to find room.
    fn calm(&mut self, core: &mut Core) {
        for guest in self.here.drain(..) {
            core.close(guest.link);
        }
    }

    fn leave(&mut self, core: &mut Core) {
        self.left = true;
        self.calm(core);
    }
}
