//! What compressing costs and leaves: a table of levels, windows and amounts of memory, by which the library's defaults were chosen.
//!
//! A server sends messages of one kind, all different, and each is compressed. `alone` is without context takeover, `after
//! others` with it: then what was sent before is in the window. Both say what is left of the bytes, frame heads included, and
//! the thread's processor time for a message, in the quickest round. In windows of fewer than 12 bits the library uses no level
//! below 3. This is not criterion's work, as there is a size beside each time.

use std::sync::Arc;
use std::time::Duration;

use cpu_time::ThreadTime;
use keepwatch_bench::Random;
use keepwatch_protocol::Now;
use keepwatch_protocol::websocket::deflate::{DeflateConfig, Terms};
use keepwatch_protocol::websocket::{Compression, Config, Connection, Role};

const WINDOWS: [u8; 4] = [9, 10, 12, 15];
const LEVELS: [u8; 6] = [1, 2, 3, 4, 5, 6];
const MEMORY: [u8; 5] = [1, 3, 5, 7, 9];

fn main() {
    // `cargo test --benches` wants to see that it works, and `cargo bench` to know.
    let time = if std::env::args().any(|word| word == "--bench") {
        Duration::from_millis(40)
    } else {
        Duration::ZERO
    };
    let kinds = [
        ("JSON event, 512 B", events(512)),
        ("JSON event, 1 KiB", events(1 << 10)),
        ("JSON event, 4 KiB", events(4 << 10)),
        ("JSON list, 64 KiB", events(64 << 10)),
        ("hex text, 110 KB", hex(110_000)),
    ];
    println!(
        "| what | window | memory level | level | alone | after others |\n| --- | --- | --- | --- | --- | --- |"
    );
    for (what, texts) in &kinds {
        for window in WINDOWS {
            for level in LEVELS {
                row(what, texts, time, (window, DeflateConfig::default().memory_level, level));
            }
        }
        for memory in MEMORY {
            for level in [1, 2, 3] {
                row(what, texts, time, (15, memory, level));
            }
        }
    }
}

fn row(what: &str, texts: &[String], time: Duration, (window, memory, level): (u8, u8, u8)) {
    let [alone, after] = [false, true].map(|takeover| {
        let (left, spent) = measure(texts, time, takeover, (window, memory, level));
        format!("{:.1} %, {:.1} µs", left * 100.0, spent * 1e6)
    });
    println!("| {what} | {window} | {memory} | {level} | {alone} | {after} |");
}

/// What is left of the texts, and the seconds for each, in the quickest round.
fn measure(
    texts: &[String],
    time: Duration,
    takeover: bool,
    (window, memory_level, level): (u8, u8, u8),
) -> (f64, f64) {
    let terms = Terms { send_window_bits: window, send_takeover: takeover, ..Terms::default() };
    let compression = Compression::deflate(DeflateConfig {
        terms,
        level,
        memory_level,
        threshold: 1,
        takeover_threshold: 1,
        ..DeflateConfig::default()
    });
    let agreed = compression.answer(["permessage-deflate"]).expect("an offer");
    let config = Config { compression, ..Config::default() };
    let mut server = Connection::new(Role::Server, Arc::new(config), 7, Now::default()).with_deflate(agreed);
    let mut out = Vec::with_capacity(1 << 20);
    let (mut left, mut least, start) = (0, Duration::MAX, ThreadTime::now());
    while left == 0 || start.elapsed() < time {
        let round = ThreadTime::now();
        left = 0;
        for text in texts {
            out.clear();
            server.send_text(text, &mut out).expect("open");
            left += out.len();
        }
        least = least.min(round.elapsed());
    }
    let bytes: usize = texts.iter().map(String::len).sum();
    (left as f64 / bytes as f64, least.as_secs_f64() / texts.len() as f64)
}

/// What a watch server says: events of about so many bytes together.
fn events(bytes: usize) -> Vec<String> {
    let mut random = Random::new(bytes as u64);
    let message = |_| {
        let mut text = String::new();
        while text.len() + 150 < bytes || text.is_empty() {
            text.push_str(&event(&mut random));
        }
        text
    };
    (0..(1 << 18) / bytes).map(message).collect()
}

fn event(random: &mut Random) -> String {
    const STATES: [&str; 6] = ["running", "waiting", "failed", "draining", "succeeded", "unknown"];
    const REGIONS: [&str; 4] = ["eu-central", "us-east", "ap-south", "sa-east"];
    let mut pick = |from: &[&'static str]| from[random.below(from.len() as u64) as usize];
    let (state, region) = (pick(&STATES), pick(&REGIONS));
    let [job, revision, load, memory] = [9_000, 1 << 40, 100, 65_536].map(|bound| random.below(bound));
    let address = [(); 3].map(|()| random.below(256));
    format!(
        "{{\"type\":\"put\",\"key\":\"jobs/{job}/status\",\"revision\":{revision},\"createRevision\":{},\"value\":\
         \"{{\\\"state\\\":\\\"{state}\\\",\\\"region\\\":\\\"{region}\\\",\\\"load\\\":0.{load},\\\"memory\\\":{memory},\
         \\\"address\\\":\\\"10.{}.{}.{}\\\"}}\"}}\n",
        revision / 2,
        address[0],
        address[1],
        address[2],
    )
}

fn hex(bytes: usize) -> Vec<String> {
    let mut random = Random::new(16);
    let text = |_| {
        (0..bytes / 16)
            .map(|_| format!("{:016x}", (random.below(1 << 32) << 32) | random.below(1 << 32)))
            .collect()
    };
    (0..2).map(text).collect()
}
