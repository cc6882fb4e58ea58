//! The limits and times that a seed gives to the server.

use std::time::Duration;

use keepwatch_protocol::DriverConfig;
use keepwatch_watch::{Config, LogLimits};

use super::faults::{Fault, Faults};
use crate::random::Random;

/// The server's limits and times: short, so that much happens in little time, and now and then very tight.
pub(super) fn config(faults: &mut Faults, random: &mut Random) -> Config {
    let mut config = Config {
        hold: Duration::from_secs(5 + random.below(40) as u64),
        heartbeat: Duration::from_secs(3 + random.below(25) as u64),
        coalesce: Duration::from_millis(random.one_of(&[0, 5, 200])),
        connections: 24,
        watches: 8,
        writes: 1 + random.below(8),
        value_bytes: 64 << 10,
        ..Config::default()
    };
    config.websocket.message_bytes = 128 << 10;
    if faults.strikes(Fault::ShortLog, random) {
        let changes = 1 + random.below(12);
        config.log = LogLimits { changes, ..config.log };
        if random.chance(300) {
            config.log.bytes = 500 + random.below(3000);
        }
    }
    if faults.strikes(Fault::FewEncodings, random) {
        config.log.encoded_bytes = random.below(2000);
    }
    if faults.strikes(Fault::FullStore, random) {
        config.store.keys = 1 + random.below(4);
    }
    if faults.strikes(Fault::SmallPages, random) {
        config.list_items = 1 + random.below(3);
        config.list_bytes = 1 + random.below(400);
        config.poll_bytes = 1 + random.below(400);
    }
    if faults.strikes(Fault::Snapshot, random) {
        config.store.inbox_bytes = random.below(400);
    }
    config
}

pub(super) fn driver(faults: &mut Faults, random: &mut Random) -> DriverConfig {
    let mut config = DriverConfig { read_bytes: 8 << 10, connections: 40, ..DriverConfig::default() };
    if faults.strikes(Fault::LowMark, random) {
        config.output_mark = random.below(2000);
    }
    if faults.strikes(Fault::ShortTurn, random) {
        config.turn = 1 + random.below(4);
        config.write_bytes = 1 + random.below(2000);
        config.read_bytes = 1 + random.below(2000);
    }
    config
}
