//! A connection that ends at any byte, and anything else that happens at any time.

use keepwatch_protocol::Instant;
use keepwatch_watch::client::{ClientConfig, Event, Transport};
use keepwatch_watch::{Config, LogLimits};
use proptest::prelude::*;

use crate::support::{ALL, EXACT, World, only, secs};

/// Changes while a client watches, each with the revision that it has.
fn story(world: &mut World) -> Vec<(u64, &'static str)> {
    world.put("a", "1");
    world.put("b", "2");
    world.run();
    for (key, value) in [("a", "3"), ("c", "with \"quotes\" \u{e9}"), ("b", "4")] {
        world.put(key, value);
        world.advance(secs(1));
    }
    world.delete("a");
    world.put("a", "again");
    world.advance(secs(60));
    vec![(103, "a"), (104, "c"), (105, "b"), (106, "a"), (107, "a")]
}

/// The changes that were told behind the last list.
fn changes(events: &[Event]) -> (u64, Vec<(u64, String)>) {
    let (mut listed, mut changes) = (0, Vec::new());
    for event in events {
        match event {
            Event::Listed(revision) => (listed, changes) = (revision.as_u64(), Vec::new()),
            Event::Put(item) => changes.push((item.revision.as_u64(), item.key.to_string())),
            Event::Deleted { key, revision } => changes.push((revision.as_u64(), key.to_string())),
            _ => {}
        }
    }
    (listed, changes)
}

#[test]
fn a_connection_may_end_at_any_byte() {
    for transport in ALL {
        let mut world = World::by(transport);
        story(&mut world);
        let whole = world.received;
        assert!(whole > 500);
        for at in (0..=whole).step_by(1 + whole / 500) {
            let mut world = World::by(transport);
            world.cut_at = Some(at);
            let expected = story(&mut world);
            world.agrees();
            let lists = world.events.iter().filter(|event| matches!(event, Event::Listing)).count();
            if transport == Transport::ShortPoll {
                continue;
            }
            assert_eq!(lists, 1, "{transport}, cut at {at}");
            let (listed, told) = changes(&world.events);
            let expected: Vec<_> = expected
                .into_iter()
                .filter(|(revision, _)| *revision > listed)
                .map(|(revision, key)| (revision, key.to_owned()))
                .collect();
            assert_eq!(told, expected, "{transport}, cut at {at}");
        }
    }
}

#[test]
fn bytes_may_come_one_by_one() {
    for transport in ALL {
        let mut whole = World::by(transport);
        story(&mut whole);
        let mut split = World::by(transport);
        split.split = 1;
        story(&mut split);
        assert_eq!(split.told(), whole.told(), "{transport}");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8),
    Delete(u8),
    Cut,
    CutAfter(usize),
    Down(bool),
    Split(usize),
    Wait(u64),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0u8..6, any::<u8>()).prop_map(|(key, value)| Step::Put(key, value)),
        2 => (0u8..6).prop_map(Step::Delete),
        1 => Just(Step::Cut),
        2 => (0usize..400).prop_map(Step::CutAfter),
        1 => any::<bool>().prop_map(Step::Down),
        1 => (1usize..40).prop_map(Step::Split),
        4 => (0u64..9000).prop_map(Step::Wait),
    ];
    let step = prop_oneof![30 => step, 1 => Just(Step::Restart)];
    prop::collection::vec(step, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]
    #[test]
    fn in_the_end_the_client_knows_what_the_server_has(
        steps in steps(),
        transports in prop::sample::subsequence(&ALL[..], 1..=5),
        kept in prop::sample::select(&[2usize, 1000][..]),
        queue in prop::sample::select(&[1usize, 1000][..]),
        page_items in 1usize..5,
    ) {
        let log = LogLimits { changes: kept, ..LogLimits::default() };
        let server = Config { log, ..Config::default() };
        let mut config = ClientConfig { transports, page_items, ..ClientConfig::default() };
        config.limits.queue_events = queue;
        let mut world = World::new(server.clone(), config);
        let mut revision = 100;
        for step in steps {
            match step {
                Step::Put(key, value) => world.put(&format!("key {key}"), &value.to_string()),
                Step::Delete(key) => world.delete(&format!("key {key}")),
                Step::Cut => world.cut(),
                Step::CutAfter(bytes) => world.cut_at = Some(world.received + bytes),
                Step::Down(is_down) => world.is_down = is_down,
                Step::Split(bytes) => world.split = bytes,
                Step::Wait(millis) => world.advance(std::time::Duration::from_millis(millis)),
                Step::Restart => {
                    revision += 10_000;
                    world.restart(server.clone(), revision);
                }
            }
        }
        world.is_down = false;
        world.cut_at = None;
        world.advance(secs(200));
        // `Known` has checked on the way that every event stands where it may, in order and once.
        world.agrees();
    }
}

#[test]
fn without_a_change_for_hours_there_is_one_connection_and_no_list() {
    for transport in EXACT {
        let mut world = World::new(Config::default(), only(transport));
        world.put("a", "1");
        world.advance(secs(4 * 3600));
        world.put("a", "2");
        world.advance(secs(1));
        world.agrees();
        assert_eq!(world.wanted_at, [Instant::START], "{transport}");
    }
}
