//! What has happened at least once: branches of the server, seen from outside. A run over many seeds in which one of them
//! never happened has tested less than it says, and fails.

use std::collections::BTreeMap;

/// What every run of many seeds must have seen. What is counted and not in here is only shown.
pub(super) const MARKS: &[&str] = &[
    "client: LongPoll",
    "client: Lines",
    "client: ServerSentEvents",
    "client: ShortPoll",
    "client: WebSocket",
    "client: change",
    "client: compacted",
    "client: listed",
    "driver: refused",
    "drain: all said farewell",
    "floor: moved",
    "handle: compacted",
    "handle: conflict",
    "handle: gone",
    "handle: watched",
    "hello: line",
    "list: 410",
    "list: continued",
    "lines: bookmark",
    "lines: compacted",
    "lines: ended",
    "lines: put",
    "lines: delete",
    "lines: resumed",
    "lines: state",
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
    "short poll: 200",
    "short poll: 304",
    "short poll: 404",
    "socket: bookmark",
    "socket: canceled",
    "socket: compacted",
    "socket: conflict",
    "socket: delete",
    "socket: put",
    "socket: result",
    "socket: resumed",
    "socket: state",
    "socket: closed 1001",
    "socket: closed 1002",
    "socket: closed 1003",
    "socket: closed 1007",
    "socket: closed 1011",
    "socket: closed 4410",
    "socket: ping",
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
    "status: 404",
    "status: 408",
    "status: 410",
    "status: 412",
    "status: 413",
    "status: 503",
    "status: 507",
    "store: snapshot",
    "write: unanswered",
    "write: unchanged",
];

/// How often each was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks(BTreeMap<String, u64>);

impl Marks {
    pub(super) fn hit(&mut self, mark: &str) {
        match self.0.get_mut(mark) {
            Some(count) => *count += 1,
            None => {
                self.0.insert(mark.to_owned(), 1);
            }
        }
    }

    /// Adds what another seed has seen.
    pub fn add(&mut self, other: &Self) {
        for (mark, count) in &other.0 {
            *self.0.entry(mark.clone()).or_default() += count;
        }
    }

    /// In the order of their names.
    pub fn all(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(mark, count)| (mark.as_str(), *count))
    }

    /// Those that must be there and are not.
    pub fn missing(&self) -> impl Iterator<Item = &'static str> {
        MARKS.iter().copied().filter(|mark| !self.0.contains_key(*mark))
    }
}
