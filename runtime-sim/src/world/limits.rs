//! The limits and times that a seed gives to the server.

use std::time::Duration;

use keepwatch_protocol::DriverConfig;
use keepwatch_protocol::websocket::Compression;
use keepwatch_protocol::websocket::deflate::{DeflateConfig, Terms};
use keepwatch_watch::{Config, LogLimits};

use super::faults::{Fault, Faults};
use crate::random::Random;

/// The server's limits and times, and how many bytes it has for compression: short, so that much happens in little time, and now and then very tight.
pub(super) fn config(faults: &mut Faults, random: &mut Random) -> (Config, usize) {
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
        if random.chance(500) {
            config.store.keys = 1 + random.below(4);
        } else {
            config.store.bytes = 400 + random.below(6000);
        }
    }
    // Counted when a write is not taken.
    if faults.looms(Fault::FullQueue, random) {
        config.store.queued = 1 + random.below(2);
        config.store.queued_bytes = 1 + random.below(400);
    }
    if faults.strikes(Fault::FewLines, random) {
        config.hello_lines = 1 + random.below(3);
    }
    let (compression, budget) = compression(faults, random);
    config.websocket.compression = compression;
    if faults.strikes(Fault::SmallPages, random) {
        config.list_items = 1 + random.below(3);
        config.list_bytes = 1 + random.below(400);
        config.poll_bytes = 1 + random.below(400);
    }
    if faults.strikes(Fault::Snapshot, random) {
        config.store.inbox_bytes = random.below(400);
    }
    (config, budget)
}

/// What of a server is so tight that some are refused, or told that they are late, for it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tight {
    /// The places for connections.
    pub(super) places: bool,
    /// Those of one address.
    pub(super) of_address: bool,
    /// The memory for what is under way.
    pub(super) buffers: bool,
    /// The connections that may linger.
    pub(super) lingering: bool,
}

/// The limits that mostly strike where somebody meets them, which is counted then. Each is drawn by itself, and where it is not tight
/// everything is as it would be without it.
pub(super) fn tighten(faults: &mut Faults, seed: &Random, config: &mut Config) -> Tight {
    let mut random = seed.fork("tight: steps");
    if faults.strikes(Fault::Steps, &mut random) {
        config.told_at_once = 1 + random.below(3);
    }
    let looms = |fault: Fault| {
        let mut random = seed.fork(&format!("tight: {}", fault.name()));
        faults.looms(fault, &mut random).then_some(random)
    };
    if let Some(mut random) = looms(Fault::ShortAge) {
        let longest = random.one_of(&[200, 2000, 20_000]);
        config.log.age = Some(Duration::from_millis(1 + random.below(longest) as u64));
    }
    let (places, of_address) = (looms(Fault::FewPlaces), looms(Fault::FewOfAddress));
    let buffers = looms(Fault::SmallBuffers);
    let tight = Tight {
        places: places.is_some(),
        of_address: of_address.is_some(),
        buffers: buffers.is_some(),
        lingering: false,
    };
    if let Some(mut random) = of_address {
        // Who has one connection has room for the next while that is not gone.
        config.connections_per_address = 2 + random.below(3);
    }
    if let Some(mut random) = buffers {
        // Each half has room for one or two of what is large. A single answer that is larger would be sent nevertheless, when
        // nothing else is: so there is none.
        config.poll_bytes = config.poll_bytes.min(2000);
        config.list_bytes = config.list_bytes.min(2000);
        config.buffers = (64 << 10) + random.below(40 << 10);
    }
    tight
}

/// Mostly as a watch server has it by default; now and then with context takeover and smaller windows, as it can be told, or
/// not at all.
fn compression(faults: &mut Faults, random: &mut Random) -> (Compression, usize) {
    if random.chance(80) {
        return (Compression::OFF, 0);
    }
    let terms = if random.chance(700) {
        Terms { send_takeover: false, receive_takeover: false, ..Terms::default() }
    } else {
        Terms {
            send_takeover: random.chance(700),
            receive_takeover: random.chance(700),
            send_window_bits: 9 + random.below(7) as u8,
            receive_window_bits: 9 + random.below(7) as u8,
        }
    };
    // One inflater is 48 KiB and one compressor is some hundred, and so is what is kept for buffers: from nothing to a few.
    let small = random.below(800 << 10);
    let budget = if faults.strikes(Fault::SmallBudget, random) { small } else { 64 << 20 };
    let config = DeflateConfig { terms, budget, memory_level: 1, ..DeflateConfig::default() };
    (Compression::deflate(config), budget)
}

pub(super) fn driver(faults: &mut Faults, seed: &Random, tight: &mut Tight) -> DriverConfig {
    let random = &mut seed.fork("driver");
    let mut config = DriverConfig { read_bytes: 8 << 10, connections: 40, ..DriverConfig::default() };
    let mut own = seed.fork("few lingering");
    tight.lingering = faults.strikes(Fault::FewLingering, &mut own);
    if tight.lingering {
        config.lingering = own.below(4);
    }
    if faults.strikes(Fault::LowMark, random) {
        config.output_mark = random.below(2000);
    }
    if faults.strikes(Fault::FewUnread, random) {
        config.paused_bytes = 1 + random.below(200);
    }
    if faults.strikes(Fault::ShortTurn, random) {
        config.turn = 1 + random.below(4);
        config.write_bytes = 1 + random.below(2000);
        config.read_bytes = 1 + random.below(2000);
    }
    config
}
