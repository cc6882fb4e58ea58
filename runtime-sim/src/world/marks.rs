//! What has happened at least once: branches of the server, seen from outside. A run over many seeds in which one of them
//! never happened has tested less than it says, and fails.

use std::collections::BTreeMap;

use super::breaker::Cut;
use super::visitor::CASES;

/// What every run of many seeds must have seen. What is counted and not in here is only shown.
pub(super) const MARKS: &[&str] = &[
    "buffers: a message refused",
    "buffers: a poll refused",
    "buffers: an upload refused",
    "buffers: empty in the calm",
    "client: Lines",
    "client: LongPoll",
    "client: ServerSentEvents",
    "client: ShortPoll",
    "client: WebSocket",
    "client: change",
    "client: compacted",
    "client: listed",
    "deflate: agreed",
    "deflate: declined",
    "deflate: heard",
    "deflate: said",
    "drain: all said farewell",
    "driver: refused",
    "expect: continued",
    "floor: moved",
    "guest: shed",
    "half-close: answered behind the client's end",
    "half-close: sent behind the server's end",
    "handle: compacted",
    "handle: conflict",
    "handle: gone",
    "handle: watched",
    "hello: line",
    "http/1.0: closed",
    "http/1.0: kept",
    "lines: bookmark",
    "lines: compacted",
    "lines: delete",
    "lines: ended",
    "lines: put",
    "lines: resumed",
    "lines: state",
    "list: 410",
    "list: continued",
    "machines: one",
    "machines: two",
    "messages: bookmark",
    "messages: compacted",
    "messages: delete",
    "messages: put",
    "messages: resumed",
    "messages: state",
    "poll: cut",
    "poll: events",
    "poll: resumed",
    "poll: timed out",
    "refused: of all",
    "refused: of an address",
    "short poll: 200",
    "short poll: 304",
    "short poll: 404",
    "short poll: HEAD",
    "socket: bookmark",
    "socket: canceled",
    "socket: closed 1001",
    "socket: closed 1002",
    "socket: closed 1003",
    "socket: closed 1007",
    "socket: closed 1009",
    "socket: closed 1011",
    "socket: closed 1013",
    "socket: closed 4410",
    "socket: compacted",
    "socket: conflict",
    "socket: delete",
    "socket: fragments",
    "socket: ping",
    "socket: pong",
    "socket: put",
    "socket: result",
    "socket: resumed",
    "socket: state",
    "sse: bookmark",
    "sse: compacted",
    "sse: delete",
    "sse: put",
    "sse: restated",
    "sse: resumed",
    "sse: retry",
    "sse: state",
    "state: restated",
    "status: 101",
    "status: 200",
    "status: 201",
    "status: 304",
    "status: 400",
    "status: 403",
    "status: 404",
    "status: 405",
    "status: 408",
    "status: 410",
    "status: 412",
    "status: 413",
    "status: 414",
    "status: 417",
    "status: 426",
    "status: 431",
    "status: 501",
    "status: 503",
    "status: 507",
    "store: snapshot",
    "too old: a poll",
    "too old: a stream",
    "too old: a watch of several",
    "too old: the client",
    "upload: written",
    "visit: 1.0",
    "visit: 1.0, kept",
    "visit: 1.1",
    "write: unanswered",
    "write: unchanged",
];

/// Connections must have been cut at each of so many bytes, from the first one on.
pub(super) const BYTES: usize = 256;

/// How often each was seen, and at which bytes connections were cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    counts: BTreeMap<String, u64>,
    bytes: [[u64; BYTES / 64]; Cut::ALL.len()],
}

impl Marks {
    pub(super) fn hit(&mut self, mark: &str) {
        match self.counts.get_mut(mark) {
            Some(count) => *count += 1,
            None => {
                self.counts.insert(mark.to_owned(), 1);
            }
        }
    }

    /// A connection was cut at this byte.
    pub(super) fn byte(&mut self, cut: Cut, at: u64) {
        let (word, bit) = (at as usize / 64, at % 64);
        if let Some(word) = self.bytes[cut as usize].get_mut(word) {
            *word |= 1 << bit;
        }
    }

    /// Adds what another seed has seen.
    pub fn add(&mut self, other: &Self) {
        for (mark, count) in &other.counts {
            *self.counts.entry(mark.clone()).or_default() += count;
        }
        for (mine, theirs) in self.bytes.as_flattened_mut().iter_mut().zip(other.bytes.as_flattened()) {
            *mine |= theirs;
        }
    }

    /// In the order of their names.
    pub fn all(&self) -> impl Iterator<Item = (&str, u64)> {
        self.counts.iter().map(|(mark, count)| (mark.as_str(), *count))
    }

    /// In how many ways a connection can be cut: at how many of the first bytes each of them happened, and of how many.
    pub fn cuts(&self) -> impl Iterator<Item = (&'static str, u32, usize)> {
        let count = |cut: Cut| self.bytes[cut as usize].iter().map(|word| word.count_ones()).sum();
        Cut::ALL.into_iter().map(move |cut| (cut.name(), count(cut), BYTES))
    }

    /// Those that must be there and are not.
    pub fn missing(&self) -> impl Iterator<Item = &'static str> {
        let marks = MARKS.iter().copied().chain(CASES.iter().map(|case| case.name));
        let cuts = self.cuts().filter(|(_, count, of)| (*count as usize) < *of).map(|(name, ..)| name);
        marks.filter(|mark| !self.counts.contains_key(*mark)).chain(cuts)
    }
}
