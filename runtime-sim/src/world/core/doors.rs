//! Who is let in: the places of the server as its clients would count them.
//!
//! | | |
//! | --- | --- |
//! | let in | as long as there are places, of all and of one address, and no longer: neither one too few nor one too many |
//! | refused | 503 with `Retry-After`, and the end |
//! | shed | only who is idle, one for each that comes when it is crowded: on the same machine at that moment, or on another as soon as that hears of it |

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use keepwatch_protocol::Instant;
use keepwatch_watch::Config;

/// The places of a server, from one start to the next.
#[derive(Debug, Default)]
pub(in super::super) struct Doors {
    limit: usize,
    limit_of_address: usize,
    taken: usize,
    of_address: BTreeMap<IpAddr, usize>,
    /// By time and machine: how many came when it was crowded, and nobody is known to have been shed for them.
    crowded: BTreeMap<(Instant, usize), usize>,
}

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Refused {
    All,
    Address,
}

impl Doors {
    pub(in super::super) fn new(config: &Config) -> Self {
        let (limit, limit_of_address) = (config.connections, config.connections_per_address);
        Self { limit, limit_of_address, ..Self::default() }
    }

    /// How many connections there are.
    pub(in super::super) fn taken(&self) -> usize {
        self.taken
    }

    /// Somebody comes to this machine. Whether there is room.
    pub(super) fn come(&mut self, address: IpAddr, machine: usize, now: Instant) -> Result<(), Refused> {
        let address = network(address);
        let count = self.of_address.get(&address).copied().unwrap_or_default();
        let result = match () {
            () if self.taken >= self.limit => Err(Refused::All),
            () if count >= self.limit_of_address => Err(Refused::Address),
            () => Ok(()),
        };
        if result.is_ok() {
            self.taken += 1;
            *self.of_address.entry(address).or_default() += 1;
        }
        if result != Err(Refused::Address) {
            self.wants_room(machine, now);
        }
        result
    }

    /// Somebody came to this machine who costs another a place, if it is crowded.
    pub(super) fn wants_room(&mut self, machine: usize, now: Instant) {
        // The last of few places, or one in sixteen.
        let last = self.limit - (self.limit / 16).max(1);
        if self.taken > last {
            *self.crowded.entry((now, machine)).or_default() += 1;
        }
    }

    /// A connection that was let in is over.
    pub(super) fn leave(&mut self, address: IpAddr) {
        self.taken -= 1;
        let address = network(address);
        if let Some(count) = self.of_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.of_address.remove(&address);
            }
        }
    }

    /// An idle connection of this machine ended at this time, and not by itself: it made room for one who came just then, or
    /// who came to another machine a little before.
    pub(super) fn shed(&mut self, machine: usize, at: Instant) -> Result<(), String> {
        let before = Instant::from_nanos(at.as_nanos().saturating_sub(HEARD.as_nanos() as u64));
        let heard = self.crowded.range_mut((before, 0)..=(at, usize::MAX)).rev();
        let mut came = heard.filter(|((when, to), left)| **left > 0 && (*to != machine || *when == at));
        // For who came to this machine it can only have been at that moment.
        let Some((_, left)) = came.next() else {
            return Err(format!("shed at {at:?}, and nobody came for whom it was not done yet"));
        };
        *left -= 1;
        Ok(())
    }
}

/// Within this a machine that is asked for a place has heard of it.
const HEARD: Duration = Duration::from_millis(100);

/// What counts as one address: an IPv4 address, however it is written, or the first half of an IPv6 address.
fn network(address: IpAddr) -> IpAddr {
    let IpAddr::V6(six) = address else { return address };
    let mut parts = six.segments();
    if parts[..6] == [0, 0, 0, 0, 0, 0xffff] {
        let [.., a, b, c, d] = six.octets();
        return IpAddr::from([a, b, c, d]);
    }
    parts[4..].fill(0);
    Ipv6Addr::from(parts).into()
}

/// What a connection that was refused heard, to its end. Where few may linger it may be cut.
pub(super) fn is_refusal(heard: &[u8], may_be_cut: bool) -> Result<(), String> {
    let text = String::from_utf8_lossy(heard);
    const BEGIN: &str = "HTTP/1.1 503 Service Unavailable\r\n";
    if may_be_cut && (text.is_empty() || BEGIN.starts_with(&*text) || text.starts_with(BEGIN)) {
        return Ok(());
    }
    let wrong = |why: &str| Err(format!("refused with {text:?}: {why}"));
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return wrong("no head") };
    let mut lines = head.split("\r\n");
    if !lines.next().is_some_and(|line| line.starts_with("HTTP/1.1 503 ")) {
        return wrong("not 503");
    }
    let fields: Vec<_> = lines.filter_map(|line| line.split_once(": ")).collect();
    let field = |name: &str| fields.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    if field("Retry-After") != Some("10") || field("Connection") != Some("close") {
        return wrong("not when to come back, or that it ends");
    }
    if field("Content-Length").and_then(|text| text.parse().ok()) != Some(body.len()) {
        return wrong("another length");
    }
    match serde_json::from_str::<serde_json::Value>(body) {
        Ok(value) if value.get("error").is_some_and(serde_json::Value::is_string) => Ok(()),
        _ => wrong("no error"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_is_counted_however_it_is_written() {
        let network = |text: &str| network(text.parse().unwrap()).to_string();
        assert_eq!(network("::ffff:10.1.2.3"), "10.1.2.3");
        assert_eq!(network("10.1.2.3"), "10.1.2.3");
        assert_eq!(network("2001:db8:0:1:2::3"), "2001:db8:0:1::");
        assert_eq!(network("::1"), "::");
    }

    #[test]
    fn one_may_be_shed_for_each_that_comes_into_a_crowd() {
        let config = Config { connections: 2, ..Config::default() };
        let (mut doors, now) = (Doors::new(&config), Instant::from_millis(1));
        let address = IpAddr::from([10, 0, 0, 1]);
        assert_eq!(doors.come(address, 0, now), Ok(()));
        assert!(doors.shed(0, now).is_err(), "it was not crowded");
        assert_eq!(doors.come(address, 0, now), Ok(()));
        assert_eq!(doors.come(address, 0, now), Err(Refused::All));
        let (soon, late) = (Instant::from_millis(2), Instant::from_millis(200));
        assert!(doors.shed(0, soon).is_err(), "they came here, and before that");
        assert!(doors.shed(1, late).is_err(), "too late for those who came");
        assert!(doors.shed(1, soon).is_ok(), "another machine heard of it");
        assert!(doors.shed(0, now).is_ok());
        assert!(doors.shed(0, now).is_err() && doors.shed(1, soon).is_err(), "two came");
    }
}
