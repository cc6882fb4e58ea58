//! Each transport with the real server: list, watch, changes, resumption, compaction, another server, the end of one.

use keepwatch_protocol::Instant;
use keepwatch_watch::client::{ClientConfig, Event, Transport};
use keepwatch_watch::{Config, Filter, LogLimits};

use crate::support::{ALL, EXACT, START, STREAMS, World, only, revision, secs};

fn keeping(changes: usize) -> Config {
    Config { log: LogLimits { changes, ..LogLimits::default() }, ..Config::default() }
}

#[test]
fn each_transport_lists_and_then_tells_each_change() {
    for transport in EXACT {
        let mut world = World::by(transport);
        world.put("a", "1");
        world.put("b", "2");
        world.run();
        let by = format!("by {transport}");
        assert_eq!(world.told(), ["listing", "item a=1", "item b=2", "listed 102", &by]);
        world.put("a", "3");
        world.advance(secs(1));
        world.delete("b");
        world.advance(secs(1));
        let told = world.told();
        let changes: Vec<_> = told.iter().filter(|told| !told.starts_with("bookmark")).collect();
        assert_eq!(changes, ["put a=3 @103", "deleted b @104"], "{transport}");
        world.agrees();
        assert_eq!(world.connections, 1, "{transport}");
    }
}

#[test]
fn a_key_is_watched_alone() {
    for transport in ALL {
        let filter = Filter::key("b/é", 1024).unwrap();
        let mut world = World::watching(filter, Config::default(), only(transport));
        for key in ["a", "b", "b/é", "b/é/c"] {
            world.put(key, "1");
        }
        world.advance(secs(1));
        world.agrees();
        for value in ["2", "3"] {
            world.put("b/é/c", value);
            world.put("b/é", value);
            world.advance(secs(6));
            world.agrees();
        }
        world.delete("b/é");
        world.advance(secs(6));
        world.agrees();
        assert!(world.known.map.is_empty());
    }
}

#[test]
fn values_that_are_no_text_and_keys_that_are_no_urls() {
    for transport in ALL {
        let mut world = World::by(transport);
        world.advance(secs(1));
        for key in ["?&=#%", "\"\\\n", " ", "\u{1f980}/\u{0}"] {
            let written = world.handle.put(key, &b"\xff\x00\"\\"[..]);
            world.sim.run().unwrap();
            written.wait().unwrap();
        }
        world.advance(secs(6));
        world.agrees();
        assert_eq!(world.known.map.len(), 4);
    }
}

#[test]
fn a_list_goes_page_by_page_at_one_revision() {
    let mut world = World::new(Config::default(), ClientConfig { page_items: 2, ..ClientConfig::default() });
    for key in ["a", "b", "c", "d", "e"] {
        world.put(key, "1");
    }
    world.run();
    assert_eq!(world.requests.len(), 4, "three pages, and the watch");
    assert_eq!(world.connections, 1, "all on one connection");
    world.agrees();
}

#[test]
fn short_polls_tell_states() {
    let mut world = World::by(Transport::ShortPoll);
    world.put("a", "1");
    world.run();
    assert_eq!(world.told(), ["listing", "item a=1", "listed 101", "by short polls"]);
    world.put("a", "2");
    world.put("a", "3");
    world.put("b", "4");
    world.advance(secs(4));
    assert_eq!(world.told(), [""; 0]);
    world.advance(secs(1));
    assert_eq!(world.told(), ["listing", "item a=3", "item b=4", "listed 104"]);
    world.advance(secs(60));
    assert_eq!(world.told(), [""; 0]);
    assert_eq!(world.connections, 1);
}

#[test]
fn every_transport_goes_on_through_cuts() {
    for transport in ALL {
        let mut world = World::by(transport);
        world.put("a", "1");
        world.advance(secs(1));
        for round in 0..5 {
            world.cut();
            world.put("a", &format!("round {round}"));
            world.put("b", &format!("round {round}"));
            world.advance(secs(40));
            world.agrees();
        }
        let anew = world.events.iter().filter(|event| matches!(event, Event::Listing)).count();
        assert!(anew == 1 || transport == Transport::ShortPoll);
    }
}

#[test]
fn who_was_away_for_too_long_lists_again() {
    for transport in EXACT {
        let mut world = World::new(keeping(3), only(transport));
        world.put("a", "1");
        world.put("gone", "1");
        world.advance(secs(30));
        world.is_down = true;
        world.cut();
        world.delete("gone");
        for value in 0..10 {
            world.put("a", &value.to_string());
        }
        world.advance(secs(60));
        world.told();
        world.is_down = false;
        world.advance(secs(40));
        assert_eq!(world.told(), ["compacted 113", "listing", "item a=9", "listed 113"], "{transport}");
        world.agrees();
    }
}

#[test]
fn who_reads_too_slowly_is_compacted_and_lists_again() {
    for transport in STREAMS {
        let mut world = World::new(keeping(3), only(transport));
        world.put("a", "1");
        world.advance(secs(1));
        world.hold();
        let large = "x".repeat(10_000);
        for value in 0..100 {
            world.put("a", &format!("{value} {large}"));
        }
        world.release();
        world.advance(secs(20));
        let compacted = world.events.iter().filter(|event| matches!(event, Event::Compacted(_))).count();
        assert_eq!(compacted, 1, "{transport}");
        world.agrees();
    }
}

#[test]
fn a_server_that_begins_anew_is_listed_anew() {
    for transport in ALL {
        for at in [START, START + 1_000_000] {
            let mut world = World::by(transport);
            for key in ["a", "b", "c"] {
                world.put(key, "1");
            }
            world.advance(secs(1));
            world.agrees();
            world.restart(Config::default(), at);
            world.advance(secs(40));
            assert!(world.known.map.is_empty(), "{transport}, at {at}");
            world.put("d", "2");
            world.advance(secs(6));
            world.agrees();
        }
    }
}

#[test]
fn a_server_that_stops_is_left_and_waited_for() {
    for transport in ALL {
        let mut world = World::by(transport);
        world.put("a", "1");
        world.advance(secs(1));
        world.is_down = true;
        world.sim.drain(secs(5)).unwrap();
        world.advance(secs(120));
        assert!(world.connections > 3 && world.connections < 30, "{transport}: {}", world.connections);
        world.restart(Config::default(), START + 1000);
        world.put("b", "2");
        world.is_down = false;
        world.advance(secs(60));
        world.agrees();
    }
}

#[test]
fn a_server_that_is_full_is_left_alone_for_as_long_as_it_asks() {
    for transport in ALL {
        let full = Config { connections: 0, ..Config::default() };
        let mut world = World::new(full, only(transport));
        world.advance(secs(60));
        let waits: Vec<_> = world.wanted_at.windows(2).map(|pair| pair[1].since(pair[0])).collect();
        assert!(waits.len() >= 2 && waits.iter().all(|wait| *wait >= secs(10)), "{waits:?}");
        world.restart(Config::default(), START);
        world.advance(secs(60));
        world.agrees();
    }
}

#[test]
fn a_quiet_watch_is_one_connection_and_bookmarks() {
    for transport in STREAMS {
        let mut world = World::by(transport);
        world.put("a", "1");
        world.advance(secs(3600));
        assert_eq!(world.wanted_at, [Instant::START]);
        world.told();
        let filter = Filter::prefix("a", 10).unwrap();
        let mut world = World::watching(filter, Config::default(), only(transport));
        world.advance(secs(1));
        world.told();
        world.put("b", "1");
        world.advance(secs(30));
        assert_eq!(world.told(), ["bookmark 101"], "what does not concern it moves it on");
    }
}

#[test]
fn a_small_queue_delays_and_loses_nothing() {
    for transport in ALL {
        let mut config = only(transport);
        config.limits.queue_events = 1;
        let mut world = World::new(Config::default(), config);
        for value in 0..50 {
            world.put("a", &value.to_string());
            world.put(&format!("b{value}"), "x");
            if value % 10 == 0 {
                world.advance(secs(6));
            }
        }
        world.advance(secs(6));
        world.agrees();
    }
}

#[test]
fn a_client_that_leaves_says_so_and_where_it_was() {
    for transport in STREAMS {
        let mut world = World::by(transport);
        world.put("a", "1");
        world.put("a", "2");
        world.advance(secs(1));
        assert_eq!(world.client.revision(), Some(revision(102)));
        let mut out = Vec::new();
        let now = world.sim.now();
        world.client.close(&mut out, now);
        assert_eq!(out.first(), (transport == Transport::WebSocket).then_some(&0x88));
    }
}

#[test]
#[cfg(feature = "deflate")]
fn a_websocket_may_be_compressed() {
    use keepwatch_protocol::websocket::deflate::DeflateConfig;
    use keepwatch_protocol::websocket::{self, Compression};

    let mut received = [0; 2];
    for (received, compressed) in received.iter_mut().zip([false, true]) {
        let mut config = only(Transport::WebSocket);
        if compressed {
            let compression = Compression::deflate(DeflateConfig::default());
            config.websocket = websocket::Config { compression, ..websocket::Config::default() }.into();
        }
        let mut world = World::new(Config::default(), config);
        world.split = 100;
        world.run();
        let begun = world.received;
        for round in 0..20 {
            world.put("key", &format!("round {round} and so on, ").repeat(100));
            world.run();
        }
        world.agrees();
        assert_eq!(world.was_told_each_change(), 20);
        *received = world.received - begun;
    }
    assert!(received[1] < received[0] / 10, "{received:?}");
}
