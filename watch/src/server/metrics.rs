//! What `/metrics` shows, in the `OpenMetrics` text format: of all machines that share a store, whichever is asked.
//!
//! Each machine counts for itself, so that a delivery touches no memory of another processor. What it counts stands on a board
//! that all share, and is added up when someone asks.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;

use crate::compressed::Tally;

/// What the machines of a process count, each by itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Board(Arc<Mutex<Machines>>);

#[derive(Debug, Default)]
struct Machines {
    /// Each with its number.
    here: Vec<(u64, Counts)>,
    next: u64,
    /// What was counted by those that are gone: no counter runs backward.
    gone: Counts,
}

/// A machine's place on the board.
#[derive(Debug)]
pub(super) struct Metrics {
    board: Board,
    number: u64,
    counts: Counts,
    /// What is counted with each delivery, since it was last put on the board: an atomic addition is a good part of what a
    /// delivery takes.
    pub(super) since: Since,
}

/// Counts that are not on the board yet.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Since {
    pub(super) frames: usize,
    pub(super) bytes_received: usize,
    pub(super) bytes_lent: usize,
}

impl std::ops::Deref for Metrics {
    type Target = Counts;

    fn deref(&self) -> &Counts {
        &self.counts
    }
}

/// Handles on what one machine counts. They are atomic, and only the machine writes.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    pub(super) connections_opened: Counter,
    pub(super) connections_closed: Counter,
    pub(super) connections_refused: Counter,
    pub(super) connections_shed: Counter,
    /// Requests refused, and deliveries that wait, as the budget of what is under way was used up.
    pub(super) buffers_exhausted: Counter,
    pub(super) requests: Counter,
    pub(super) requests_malformed: Counter,
    pub(super) requests_refused: Counter,
    pub(super) websockets: Counter,
    pub(super) websockets_compressed: Counter,
    /// WebSockets that were closed as the memory of compression was used up.
    pub(super) compression_exhausted: Counter,
    pub(super) messages_malformed: Counter,
    pub(super) writes: Counter,
    pub(super) changes: Counter,
    pub(super) frames: Counter,
    pub(super) polls_answered: Counter,
    pub(super) compacted: Counter,
    pub(super) bytes_received: Counter,
    pub(super) bytes_lent: Counter,
    connections: Level,
    watchers: Level,
    keys: Level,
    revision: Level,
    state_bytes: Level,
    log_bytes: Level,
    encoded_bytes: Level,
}

type Level = Gauge<u64, AtomicU64>;

/// What is not counted but read off.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Levels {
    pub(super) connections: usize,
    pub(super) watchers: usize,
    pub(super) keys: usize,
    pub(super) revision: u64,
    pub(super) state_bytes: usize,
    pub(super) log_bytes: usize,
    pub(super) encoded_bytes: usize,
}

/// How one figure is made of those of all machines.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Together {
    /// Each has its own.
    Sum,
    /// All have the same, or share it.
    Most,
}
use Together::{Most, Sum};

type Read<T> = fn(&Counts) -> &T;

const COUNTERS: [(&str, &str, Together, Read<Counter>); 19] = [
    ("connections_opened", "Connections admitted", Sum, |of| &of.connections_opened),
    ("connections_closed", "Connections that are gone", Sum, |of| &of.connections_closed),
    ("connections_refused", "Connections refused at a limit", Sum, |of| &of.connections_refused),
    ("connections_shed", "Idle connections closed to make room", Sum, |of| &of.connections_shed),
    ("buffers_exhausted", "Requests refused and deliveries put off as too much was under way", Sum, |of| {
        &of.buffers_exhausted
    }),
    ("requests", "HTTP requests understood", Sum, |of| &of.requests),
    ("requests_malformed", "HTTP requests that are not HTTP, or over a limit", Sum, |of| {
        &of.requests_malformed
    }),
    ("requests_refused", "HTTP requests answered 4xx or 5xx for what they ask", Sum, |of| {
        &of.requests_refused
    }),
    ("websockets", "Connections upgraded to WebSocket", Sum, |of| &of.websockets),
    ("websockets_compressed", "Connections upgraded to WebSocket with compression", Sum, |of| {
        &of.websockets_compressed
    }),
    (
        "compression_exhausted",
        "WebSockets closed with 1013 as the memory of compression was used up",
        Sum,
        |of| &of.compression_exhausted,
    ),
    ("websockets_malformed", "WebSockets closed for what they sent", Sum, |of| &of.messages_malformed),
    ("writes", "Writes given to the store", Sum, |of| &of.writes),
    ("changes", "Changes that came out of the store", Most, |of| &of.changes),
    ("frames", "Frames of changes written to streams and WebSockets", Sum, |of| &of.frames),
    ("polls_answered", "Long polls answered", Sum, |of| &of.polls_answered),
    ("compacted", "Watches told that changes are missing", Sum, |of| &of.compacted),
    ("received_bytes", "Bytes taken from connections", Sum, |of| &of.bytes_received),
    ("lent_bytes", "Bytes of bodies and shared frames written to connections", Sum, |of| &of.bytes_lent),
];

const LEVELS: [(&str, &str, Together, Read<Level>); 7] = [
    ("connections", "Connections now", Sum, |of| &of.connections),
    ("watchers", "Watches now, of all transports", Sum, |of| &of.watchers),
    ("keys", "Keys that exist", Most, |of| &of.keys),
    ("revision", "The newest revision", Most, |of| &of.revision),
    ("state_bytes", "Memory of keys, values and their older versions, about", Most, |of| &of.state_bytes),
    ("log_bytes", "Memory of the log's changes, about (shared with the state)", Most, |of| &of.log_bytes),
    ("encoded_bytes", "Memory of encoded frames", Most, |of| &of.encoded_bytes),
];

impl Together {
    fn of(self, figures: impl Iterator<Item = u64>) -> u64 {
        match self {
            Sum => figures.fold(0, u64::saturating_add),
            Most => figures.max().unwrap_or(0),
        }
    }
}

impl Board {
    /// A place for one more machine.
    pub(super) fn join(&self) -> Metrics {
        let counts = Counts::default();
        let mut machines = self.lock();
        let number = machines.next;
        machines.next += 1;
        machines.here.push((number, counts.clone()));
        drop(machines);
        Metrics { board: self.clone(), number, counts, since: Since::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Machines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Metrics {
    /// Puts what was counted since the last time on the board.
    fn publish(&mut self) {
        let Since { frames, bytes_received, bytes_lent } = std::mem::take(&mut self.since);
        self.frames.inc_by(frames as u64);
        self.bytes_received.inc_by(bytes_received as u64);
        self.bytes_lent.inc_by(bytes_lent as u64);
    }

    /// What this machine holds now: others show it, and what it has counted, when they are asked.
    pub(super) fn set(&mut self, levels: Levels) {
        self.publish();
        let Levels { connections, watchers, keys, revision, state_bytes, log_bytes, encoded_bytes } = levels;
        for (level, now) in [
            (&self.connections, connections as u64),
            (&self.watchers, watchers as u64),
            (&self.keys, keys as u64),
            (&self.revision, revision),
            (&self.state_bytes, state_bytes as u64),
            (&self.log_bytes, log_bytes as u64),
            (&self.encoded_bytes, encoded_bytes as u64),
        ] {
            level.set(now);
        }
    }

    /// The page. What all machines share is said with it: names, help, levels.
    pub(super) fn text<const N: usize>(
        &self,
        compressed: &Tally,
        shared: [(&str, &str, usize); N],
    ) -> String {
        let mut registry = Registry::with_prefix("keepwatch");
        for (counter, name, help) in [
            (&compressed.messages, "compressed_messages", "Messages compressed for all who take them so"),
            (&compressed.before, "compressed_messages_bytes", "Their bytes, before they were compressed"),
            (&compressed.after, "compressed_frames_bytes", "The bytes of the frames that were made of them"),
        ] {
            registry.register(name, help, counter.clone());
        }
        let machines = self.board.lock();
        for (name, help, together, read) in COUNTERS {
            let figure = together.of(machines.all().map(|counts| read(counts).get()));
            registry.register(name, help, ConstCounter::new(figure));
        }
        for (name, help, together, read) in LEVELS {
            let figure = together.of(machines.all().map(|counts| read(counts).get()));
            registry.register(name, help, ConstGauge::new(figure));
        }
        drop(machines);
        for (name, help, level) in shared {
            registry.register(name, help, ConstGauge::new(level as u64));
        }
        let mut text = String::new();
        // Writing into a String cannot fail.
        let written = encode(&mut text, &registry);
        debug_assert!(written.is_ok());
        text
    }
}

impl Machines {
    fn all(&self) -> impl Iterator<Item = &Counts> {
        self.here.iter().map(|(_, counts)| counts).chain([&self.gone])
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        self.publish();
        let mut machines = self.board.lock();
        machines.here.retain(|&(number, _)| number != self.number);
        for (_, _, together, read) in COUNTERS {
            let before = read(&machines.gone).get();
            let figure = together.of([before, read(&self.counts).get()].into_iter());
            read(&machines.gone).inc_by(figure - before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(text: &str, name: &str) -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap().parse().unwrap()
    }

    fn text(metrics: &Metrics) -> String {
        metrics.text(&Tally::default(), [])
    }

    #[test]
    fn every_machine_says_the_sum_of_all() {
        let board = Board::default();
        let (mut one, mut two) = (board.join(), board.join());
        one.since.frames += 3;
        two.since.frames += 4;
        one.set(Levels { watchers: 10, keys: 5, ..Levels::default() });
        two.set(Levels { watchers: 1, keys: 5, ..Levels::default() });
        for metrics in [&one, &two] {
            let text = text(metrics);
            assert_eq!(figure(&text, "keepwatch_frames_total"), 7);
            assert_eq!(figure(&text, "keepwatch_watchers"), 11);
            assert_eq!(figure(&text, "keepwatch_keys"), 5);
        }
    }

    #[test]
    fn what_a_machine_counted_outlives_it_and_what_it_held_does_not() {
        let board = Board::default();
        let (one, mut two) = (board.join(), board.join());
        two.requests.inc();
        two.set(Levels { connections: 2, ..Levels::default() });
        two.since.frames = 5;
        drop(two);
        let text = text(&one);
        assert_eq!(figure(&text, "keepwatch_frames_total"), 5);
        assert_eq!(figure(&text, "keepwatch_requests_total"), 1);
        assert_eq!(figure(&text, "keepwatch_connections"), 0);
    }
}
