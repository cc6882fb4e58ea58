//! Each transport: list, watch, changes, resumption, compaction.

use keepwatch_watch::client::Transport;

use crate::support::{ALL, EXACT, World, secs};

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
        assert_eq!(
            world
                .events
                .iter()
                .filter(|event| matches!(event, keepwatch_watch::client::Event::Compacted(_)))
                .count(),
            0
        );
    }
}
