//! Whatever happens in whichever order, each side sees exactly the bytes that it should, and every turn ends.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use proptest::prelude::*;

use super::bench::{Bench, Way};
use super::toy::Toy;
use crate::output::Sink;
use crate::server::{After, ConnectionId};

#[derive(Clone, Debug)]
enum Act {
    /// So many bytes arrive.
    Arrive(usize),
    /// The peer takes so many bytes more.
    Room(usize),
    ReadSize(usize),
    WriteSize(usize),
    /// A frame is published, with a body of so many bytes.
    Publish(usize),
    /// The server names the connection.
    Name,
    /// The runtime says that the socket may be ready, truly or not.
    Touch,
    Run,
    Pass(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (1usize..50).prop_map(Act::Arrive),
        3 => (1usize..100).prop_map(Act::Room),
        1 => (1usize..20).prop_map(Act::ReadSize),
        1 => (1usize..20).prop_map(Act::WriteSize),
        3 => (0usize..40).prop_map(Act::Publish),
        2 => Just(Act::Name),
        1 => Just(Act::Touch),
        3 => Just(Act::Run),
        1 => (0u64..5).prop_map(Act::Pass),
    ]
}

/// Echoes, a few bytes at a time as `takes` says, and pauses where that is 0. Finishes behind the peer's last byte.
fn echo(takes: Vec<usize>) -> Toy {
    let mut takes = takes.into_iter().cycle();
    let mut paused = false;
    let resumed = alloc::rc::Rc::new(core::cell::Cell::new(false));
    let resume = resumed.clone();
    Toy::receiving(move |input, out| {
        paused &= !resumed.take();
        if paused {
            return After::Paused; // told of the end: it answers first
        }
        while !input.is_empty() && !out.over_mark() {
            match takes.next().unwrap_or(1) {
                0 => {
                    paused = true;
                    return After::Paused;
                }
                count => out.put(input.take(count)),
            }
        }
        if input.is_empty() && input.hung_up() { After::Finish } else { After::Open }
    })
    .resuming(move |_out| {
        resume.set(true);
        After::Open
    })
}

/// The bytes are those that were echoed, in order, with whole frames, in order, between them; all of both.
fn check(written: &str, mut echoed: VecDeque<u8>, mut frames: VecDeque<String>) {
    let mut rest = written;
    while let Some(first) = rest.bytes().next() {
        let part = if first == b'<' {
            let frame = frames.pop_front().expect("a frame that was not published, or twice");
            assert!(rest.starts_with(&frame), "{frame} is not whole in {rest}");
            frame.len()
        } else {
            assert_eq!(Some(first), echoed.pop_front(), "in {rest}");
            1
        };
        rest = &rest[part..];
    }
    assert!(echoed.is_empty(), "{} bytes are lost", echoed.len());
    assert!(frames.is_empty(), "{} frames are lost", frames.len());
}

fn play(way: Way, mark: usize, takes: Vec<usize>, acts: Vec<Act>) {
    let mut bench = Bench::with_config(way, echo(takes), |config| {
        config.output_mark = mark;
        config.paused_bytes = 16;
        config.unread_bytes = 64;
        config.write_bytes = 64;
        config.turn = 2;
    });
    let id: ConnectionId = bench.connect();
    bench.socket(id).room = 0;
    let (mut echoed, mut frames) = (VecDeque::new(), VecDeque::new());
    for act in acts {
        match act {
            Act::Arrive(count) => {
                let bytes: Vec<u8> =
                    (echoed.len()..echoed.len() + count).map(|n| b'a' + (n % 26) as u8).collect();
                echoed.extend(&bytes);
                bench.socket(id).incoming.extend_from_slice(&bytes);
                bench.driver.readable(id);
            }
            Act::Room(bytes) => {
                bench.socket(id).room += bytes;
                bench.driver.writable(id);
            }
            Act::ReadSize(size) => bench.socket(id).read_size = size,
            Act::WriteSize(size) => bench.socket(id).write_size = size,
            Act::Publish(size) => {
                let frame = format!("<{}:{}>", frames.len(), "=".repeat(size));
                bench.server().push(id, &frame);
                frames.push_back(frame);
            }
            Act::Name => bench.server().ready.push_back(id),
            Act::Touch => bench.touch(id),
            Act::Run => bench.run(),
            Act::Pass(secs) => {
                bench.socket(id).room += 1; // so that nothing stalls
                bench.driver.writable(id);
                bench.pass(Duration::from_secs(secs));
            }
        }
    }
    // All is let through, and the end comes behind all frames and all bytes.
    bench.make_room(id, usize::MAX);
    for _ in 0..10_000 {
        if bench.socket(id).incoming.is_empty() {
            break;
        }
        bench.server().ready.push_back(id);
        bench.touch(id);
        bench.run();
    }
    bench.end(id);
    for _ in 0..10_000 {
        if bench.is_closed(id) {
            break;
        }
        bench.server().ready.push_back(id);
        bench.run();
    }
    assert!(bench.is_closed(id), "it never ended ({way:?})");
    let written = bench.take_written(id);
    check(&written, echoed, frames);
    assert_eq!(bench.driver.server().counts, (1, 1));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn each_side_sees_exactly_its_bytes(
        mark in 0usize..40,
        takes in prop::collection::vec(0usize..6, 1..8).prop_filter("takes something", |t| t.iter().any(|n| *n > 0)),
        acts in prop::collection::vec(act(), 0..60),
    ) {
        for way in Way::ALL {
            play(way, mark, takes.clone(), acts.clone());
        }
    }
}
