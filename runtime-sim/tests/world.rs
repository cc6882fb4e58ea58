//! The world of faults: seeds replay, what is left out is left out, and what failed once does not fail again.

use std::process::Command;
use std::time::Duration;

use keepwatch_sim::Sim;
use keepwatch_sim::world::{Fault, Options, run, shrink};
use keepwatch_watch::{Config, Revision, Shared};

fn seed(seed: u64) -> Options {
    Options { seed, ..Options::default() }
}

#[test]
fn past_failures_do_not_fail_again() {
    for line in include_str!("../seeds/failures.txt").lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let number = words.next().and_then(|text| text.parse().ok()).expect("a seed in front of each line");
        let kind = |name| Fault::ALL.iter().copied().find(|fault| fault.name() == name).expect(name);
        let outcome = run(&Options { without: words.map(kind).collect(), ..seed(number) });
        assert_eq!(outcome.failure, None, "{line}");
    }
}

#[test]
fn a_few_seeds_do_not_fail() {
    for number in 0..60 {
        assert_eq!(run(&seed(number)).failure, None, "seed {number}");
    }
}

#[test]
fn limits_are_met_by_those_who_come_for_it() {
    let counts = (0..60).map(|number| run(&seed(number)).faults);
    let kinds = [Fault::ShortAge, Fault::FewPlaces, Fault::FewOfAddress, Fault::SmallBuffers];
    let mut met = [0; 4];
    for counts in counts {
        let of = |kind| counts[Fault::ALL.iter().position(|fault| *fault == kind).unwrap()];
        met.iter_mut().zip(kinds).for_each(|(sum, kind)| *sum += of(kind));
    }
    assert!(met.iter().all(|count| *count > 0), "{kinds:?}: {met:?}");
}

#[test]
fn a_seed_plays_the_same_every_time() {
    for number in 0..4 {
        let options = Options { trace: true, ..seed(number) };
        let (first, second) = (run(&options), run(&options));
        assert!(!first.transcript.is_empty());
        assert_eq!(first, second, "seed {number}");
        // Nor does it matter whether anyone looks.
        assert_eq!(run(&seed(number)).hash, first.hash, "seed {number}");
        assert_ne!(run(&seed(number + 1)).hash, first.hash);
    }
}

#[test]
fn what_is_left_out_does_not_happen() {
    let options = Options { without: Fault::ALL.to_vec(), ..seed(3) };
    let outcome = run(&options);
    assert_eq!((outcome.failure, outcome.faults.iter().sum::<u64>()), (None, 0));
    let outcome = run(&Options { only: vec!["writer0".into(), "watcher0".into()], ..seed(3) });
    assert_eq!((outcome.failure, outcome.actors), (None, vec!["writer0".into(), "watcher0".into()]));
}

#[test]
fn the_name_of_a_fault_is_its_own() {
    let mut names: Vec<_> = Fault::ALL.iter().map(|fault| fault.name()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Fault::ALL.len());
}

#[test]
fn nothing_is_left_out_of_a_seed_that_does_not_fail() {
    assert_eq!(shrink(&seed(1)), seed(1));
}

#[test]
fn the_command_plays_one_seed_or_many() {
    let play = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_keepwatch-sim")).args(arguments).output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let (passed, text) = play(&["5", "--trace", "--without", "drain,crash"]);
    assert!(passed && text.contains("the calm begins"), "{text}");
    let (passed, text) = play(&["--from", "5", "--count", "3"]);
    assert!(passed && text.contains("3 seeds from 5 (0 of them twice)"), "{text}");
    let (passed, text) = play(&["--from", "5", "--count", "1", "--table"]);
    assert!(passed && text.contains("| fault | times |\n| --- | --- |\n| split | "), "{text}");
    assert!(!play(&["5", "--without", "nothing-like-it"]).0);
}

#[test]
fn a_websocket_whose_messages_must_wait_is_not_looked_at_over_and_over() {
    let (server, handle) = Shared::new(Config::default(), Revision::ZERO).machine(1);
    let mut sim = Sim::new(server);
    let client = sim.connect();
    let say =
        |text: &str| client.send([&[0x81, 0x80 | text.len() as u8, 0, 0, 0, 0], text.as_bytes()].concat());
    client.send(
        "GET /v1/watch HTTP/1.1\r\nHost: sim\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    say("{\"id\":1,\"op\":\"watch\",\"prefix\":\"\"}");
    sim.run().unwrap();
    // A frame that is cut, a message that is not served before its end, and one behind it.
    client.window(1);
    client.read_limit(0);
    drop(handle.put("a", b"value".to_vec()));
    sim.run().unwrap();
    say("{\"id\":1,\"op\":\"cancel\"}");
    say("{\"id\":2,\"op\":\"get\",\"key\":\"a\"}");
    // Past the time of the ping, and not to the end of the write.
    sim.advance(Duration::from_secs(31)).unwrap();
    let (mut looks, end) = (0, sim.now().instant + Duration::from_secs(10));
    while let Some(at) = sim.driver().deadline().filter(|at| *at < end) {
        sim.skip(at.since(sim.now().instant));
        sim.run().unwrap();
        looks += 1;
    }
    assert!(!client.is_closed());
    assert!(looks < 50, "it was looked at {looks} times in ten seconds");
}
