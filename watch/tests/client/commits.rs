//! Commits of several changes: a connection may end between two of them.

use keepwatch_watch::client::ClientConfig;
use keepwatch_watch::{Config, LogLimits, Shared};

use crate::commit_store::Commits;
use crate::support::{ALL, START, World, only, prefix, revision, secs};

fn world(server: Config, config: ClientConfig) -> World<Commits> {
    let server = Shared::new(server, revision(START)).machine_over(Commits::new(revision(START)), 1);
    World::over(server, prefix(""), config)
}

fn story(world: &mut World<Commits>) {
    world.run();
    for commit in ["a=1 b=1 c=1 d=1", "a=2 b d=2", "c d b=3 e=3", "e"] {
        world.put("commit", commit);
        world.advance(secs(1));
    }
    world.advance(secs(60));
}

#[test]
fn every_change_of_a_commit_is_told_once_wherever_the_connection_ends() {
    for transport in ALL {
        let mut whole = world(Config::default(), only(transport));
        story(&mut whole);
        for at in (0..=whole.received).step_by(1 + whole.received / 200) {
            let mut world = world(Config::default(), only(transport));
            world.cut_at = Some(at);
            story(&mut world);
            // That nothing was told twice was checked on the way.
            world.agrees();
            assert_eq!(world.known.map.len(), 2, "{transport}, cut at {at}");
        }
    }
}

#[test]
fn a_commit_of_which_a_part_was_told_may_be_compacted() {
    for transport in ALL {
        let keeping = |changes| LogLimits { changes, ..LogLimits::default() };
        for at in 0..20 {
            let config = Config { log: keeping(1), ..Config::default() };
            let mut world = world(config, only(transport));
            world.advance(secs(1));
            world.cut_at = Some(world.received + 20 * at);
            world.put("commit", "a=1 b=1 c=1 d=1 e=1");
            world.advance(std::time::Duration::from_millis(1));
            world.put("commit", "a b=2 d=2");
            world.advance(secs(60));
            world.agrees();
        }
    }
}
