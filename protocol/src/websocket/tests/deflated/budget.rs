//! All that connections hold for compression stays within one budget.

use super::*;

const BUDGET: usize = 700 << 10;

/// A server's connection that agreed to this window and no takeover, so that it takes a compressor for each message.
fn with_window(compression: &Compression, bits: u8) -> Connection {
    let offer = format!("permessage-deflate; server_no_context_takeover; server_max_window_bits={bits}");
    let agreed = compression.answer([&*offer]).unwrap();
    connection(Role::Server, Config { compression: compression.clone(), ..Config::default() })
        .with_deflate(agreed)
}

#[test]
fn what_lies_idle_is_dropped_where_its_memory_is_needed() {
    let compression = Compression::deflate(DeflateConfig { budget: BUDGET, ..eager() });
    let mut connections: Vec<_> = (9..=15).map(|bits| with_window(&compression, bits)).collect();
    let mut dropped = 0;
    for _ in 0..2 {
        for connection in &mut connections {
            let (mut out, before) = (Vec::new(), compression.memory());
            connection.send(TEXT, "to and fro, ".repeat(20).as_bytes(), &mut out).unwrap();
            assert_eq!(out[0], 0xc1, "it is compressed");
            let after = compression.memory();
            assert!(after <= BUDGET, "{after}");
            dropped += usize::from(after < before);
        }
    }
    assert!(dropped > 0, "each window's compressor was kept, though they do not fit");
}
