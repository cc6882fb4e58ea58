//! Writes kept in flight as leases, as `io_uring` would, while a log is trimmed under them.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use keepwatch_protocol::{
    Admission, After, Closed, ConnectionId, Driver, DriverConfig, Fill, Input, Lease, Leases, Now, Peer,
    SendQueue, Server, Sink,
};
use keepwatch_sim::Random;

/// A log of events, kept to a length; readers that fall behind it are told so. A reader is a cursor. An event that is half
/// written when it leaves the log is kept for its reader.
struct Log {
    keep: usize,
    floor: u64,
    events: VecDeque<Arc<[u8]>>,
    readers: BTreeMap<ConnectionId, Reader>,
    ready: VecDeque<ConnectionId>,
}

#[derive(Default)]
struct Reader {
    next: u64,
    /// The event that is half written, and how much of it is.
    half: Option<(Arc<[u8]>, usize)>,
    /// What was lent: the events of a lease that is out.
    lent: Vec<Arc<[u8]>>,
    named: bool,
}

impl Log {
    fn new(keep: usize) -> Self {
        Self { keep, floor: 0, events: VecDeque::new(), readers: BTreeMap::new(), ready: VecDeque::new() }
    }

    fn end(&self) -> u64 {
        self.floor + self.events.len() as u64
    }

    fn publish(&mut self, text: &str) {
        self.events.push_back(Arc::from(text.as_bytes()));
        while self.events.len() > self.keep {
            self.events.pop_front();
            self.floor += 1;
        }
        for (id, reader) in &mut self.readers {
            if !std::mem::replace(&mut reader.named, true) {
                self.ready.push_back(*id);
            }
        }
    }
}

impl Server for Log {
    fn open(&mut self, id: ConnectionId, _peer: &Peer, _now: Now) -> Admission {
        let next = self.end();
        self.readers.insert(id, Reader { next, ..Reader::default() });
        Admission::Admit
    }

    fn receive(&mut self, _id: ConnectionId, input: &mut Input<'_>, out: &mut SendQueue, _now: Now) -> After {
        let count = input.len();
        out.put(input.take(count));
        if input.hung_up() { After::Finish } else { After::Open }
    }

    fn resume(&mut self, id: ConnectionId, out: &mut SendQueue, _now: Now) -> After {
        let Some(reader) = self.readers.get_mut(&id) else { return After::Abort };
        reader.named = false;
        if reader.next < self.floor && reader.lent.is_empty() && reader.half.is_none() {
            let lost = self.floor - reader.next;
            reader.next = self.floor;
            out.put(format!("(lost {lost})").as_bytes());
        }
        After::Open
    }

    fn lease(&mut self, id: ConnectionId, to: &mut Leases, _now: Now) -> Fill {
        let Some(reader) = self.readers.get_mut(&id) else { return Fill::Nothing };
        if let Some((event, sent)) = &reader.half {
            if !to.push(Lease::new(Arc::clone(event), *sent..event.len())) {
                return Fill::More;
            }
            reader.lent.push(Arc::clone(event));
        }
        let after_half = reader.next + u64::from(reader.half.is_some());
        if after_half < self.floor {
            // What follows is lost: that is said between the frames, when it is resumed.
            return Fill::All;
        }
        for event in self.events.range((after_half - self.floor) as usize..) {
            if !to.push(Lease::from(Arc::clone(event))) {
                return Fill::More;
            }
            reader.lent.push(Arc::clone(event));
        }
        if reader.lent.is_empty() { Fill::Nothing } else { Fill::All }
    }

    fn sent(&mut self, id: ConnectionId, bytes: usize, _now: Now) -> After {
        let Some(reader) = self.readers.get_mut(&id) else { return After::Abort };
        let mut sent = bytes + reader.half.take().map_or(0, |(_, sent)| sent);
        let mut lent = std::mem::take(&mut reader.lent).into_iter();
        for event in lent.by_ref() {
            if sent < event.len() {
                if sent > 0 {
                    reader.half = Some((event, sent));
                }
                break;
            }
            sent -= event.len();
            reader.next += 1;
        }
        if reader.next < self.floor && !std::mem::replace(&mut reader.named, true) {
            self.ready.push_back(id);
        }
        if reader.half.is_some() { After::MidFrame } else { After::Open }
    }

    fn next_ready(&mut self, _now: Now) -> Option<ConnectionId> {
        self.ready.pop_front()
    }

    fn closed(&mut self, id: ConnectionId, _why: Closed, _now: Now) {
        self.readers.remove(&id);
    }
}

/// A completion-based runtime in a few lines: one write in flight for each connection, which completes later, in part.
struct Ring {
    driver: Driver<Log>,
    in_flight: BTreeMap<ConnectionId, Leases>,
    written: BTreeMap<ConnectionId, Vec<u8>>,
    now: Now,
}

impl Ring {
    fn new(keep: usize) -> Self {
        let driver = Driver::new(Log::new(keep), DriverConfig::default());
        Self { driver, in_flight: BTreeMap::new(), written: BTreeMap::new(), now: Now::default() }
    }

    fn connect(&mut self) -> ConnectionId {
        let id = self.driver.accept(&Peer::default(), self.now).expect("accepted");
        self.written.insert(id, Vec::new());
        id
    }

    /// Submits what is to be written.
    fn submit(&mut self, write: usize) {
        while let Some(id) = self.driver.next_ready(self.now) {
            if self.driver.wants(id).close {
                self.driver.release(id);
            } else if self.driver.wants(id).write {
                let mut leases = Leases::new(write);
                self.driver.lease(id, &mut leases, self.now);
                if !leases.is_empty() {
                    assert!(self.in_flight.insert(id, leases).is_none(), "two writes at once");
                }
            }
        }
    }

    /// The write of this connection completes with at most so many bytes.
    fn complete(&mut self, id: ConnectionId, most: usize) {
        let Some(leases) = self.in_flight.remove(&id) else { return };
        let bytes: Vec<u8> = leases.parts().iter().flat_map(|lease| lease.iter().copied()).collect();
        let count = most.min(bytes.len());
        self.written.entry(id).or_default().extend_from_slice(&bytes[..count]);
        self.driver.wrote(id, count, self.now);
    }
}

/// Reads what a reader was sent: each event whole, in order, once, or said to be lost. Returns how many of each.
fn check(written: &[u8], events: Range<u64>) -> (u64, u64) {
    let mut rest = std::str::from_utf8(written).expect("text");
    let (mut next, mut lost) = (events.start, 0);
    while !rest.is_empty() {
        let end = rest.find([')', '>']).expect("a whole event") + 1;
        let (part, behind) = rest.split_at(end);
        if let Some(count) = part.strip_prefix("(lost ").and_then(|part| part.strip_suffix(')')) {
            let count: u64 = count.parse().expect("a number");
            lost += count;
            next += count;
        } else {
            assert_eq!(part, event(next), "in order, whole, once");
            next += 1;
        }
        rest = behind;
    }
    assert_eq!(next, events.end, "all are told of");
    (next - events.start - lost, lost)
}

fn event(number: u64) -> String {
    format!("<{number}:{}>", "=".repeat((number * 7 % 40) as usize))
}

#[test]
fn nothing_is_lost_silently_repeated_or_cut_while_the_log_is_trimmed_under_leases() {
    let (mut told, mut lost) = (0, 0);
    for seed in 0..50 {
        let mut random = Random::new(seed);
        let mut ring = Ring::new(8);
        let ids = [ring.connect(), ring.connect(), ring.connect()];
        let events = 400;
        for number in 0..events {
            ring.driver.server_mut().publish(&event(number));
            if random.chance(500) {
                ring.submit(1 + random.below(300));
            }
            let id = ids[random.below(ids.len())];
            if random.chance(600) {
                ring.complete(id, random.below(120));
            }
        }
        for _ in 0..10_000 {
            ring.submit(1000);
            if ring.in_flight.is_empty() {
                break;
            }
            for id in ids {
                ring.complete(id, 1 + random.below(50));
            }
        }
        for id in ids {
            let (whole, gone) = check(&ring.written[&id], 0..events);
            told += whole;
            lost += gone;
        }
    }
    assert!(told > 1000 && lost > 1000, "{told} told, {lost} lost: both should happen");
}

#[test]
fn a_lease_outlives_the_event_and_its_connection() {
    let mut ring = Ring::new(1);
    let id = ring.connect();
    ring.submit(1000);
    ring.driver.server_mut().publish("<first>");
    ring.submit(1000);
    ring.driver.server_mut().publish("<second>");
    ring.driver.failed(id, ring.now);
    ring.submit(1000);
    assert_eq!(ring.driver.connections(), 0);
    let leases = ring.in_flight.remove(&id).expect("in flight");
    assert_eq!(&*leases.parts()[0], b"<first>");
    ring.driver.wrote(id, 7, ring.now);
}

#[test]
fn finish_completes_the_event_that_was_half_written_though_the_log_has_dropped_it() {
    let mut ring = Ring::new(1);
    let id = ring.connect();
    ring.submit(1000);
    ring.driver.server_mut().publish("<first>");
    ring.submit(1000);
    ring.complete(id, 3);
    ring.submit(1000);
    ring.driver.server_mut().publish("<second>");
    ring.driver.server_mut().publish("<third>");
    ring.driver.received(id, &mut b"(bye)".to_vec(), ring.now);
    ring.driver.ended(id, ring.now);
    for _ in 0..10 {
        ring.complete(id, 2);
        ring.submit(1000);
    }
    assert_eq!(ring.written[&id], b"<first>(bye)");
    assert_eq!(ring.driver.connections(), 0);
}
