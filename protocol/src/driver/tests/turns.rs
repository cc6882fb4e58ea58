//! Whose turn it is: bounded, fair, and over when nothing is left.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::bench::{Bench, Way, each_way};
use super::toy::Toy;
use crate::output::Sink;
use crate::server::{After, ConnectionId, Peer};

fn with_many(way: Way, turn: usize, count: usize) -> (Bench, Vec<ConnectionId>) {
    let mut bench = Bench::with_config(way, Toy::echo(), |config| config.turn = turn);
    let ids = (0..count).map(|_| bench.connect()).collect();
    bench.run();
    bench.network.order.clear();
    (bench, ids)
}

#[test]
fn a_turn_serves_so_many_and_says_that_some_are_left() {
    let (mut bench, ids) = with_many(Way::Turns, 4, 10);
    for &id in &ids {
        bench.socket(id).incoming.push(b'x');
        bench.driver.readable(id);
    }
    assert!(bench.driver.turn(&mut bench.network, bench.now));
    let served: BTreeSet<_> = bench.network.order.iter().collect();
    assert_eq!(served, ids[..4].iter().collect());
    bench.run();
    for id in ids {
        assert_eq!(bench.take_written(id), "x");
    }
}

#[test]
fn those_that_the_server_names_do_not_starve_those_with_input() {
    let (mut bench, ids) = with_many(Way::Turns, 4, 10);
    let (reader, named) = ids.split_first().expect("ten");
    bench.socket(*reader).incoming.extend_from_slice(b"hello");
    bench.driver.readable(*reader);
    for _ in 0..3 {
        // The server has more to name than a turn serves, all the time.
        bench.server().ready.extend(named);
        bench.driver.turn(&mut bench.network, bench.now);
    }
    assert_eq!(bench.take_written(*reader), "hello");
}

#[test]
fn a_turn_that_is_over_leaves_the_rest_to_the_next() {
    let (mut bench, ids) = with_many(Way::Turns, 256, 10);
    bench.network.hurries = true;
    for &id in &ids {
        bench.socket(id).incoming.push(b'x');
        bench.driver.readable(id);
    }
    for id in &ids {
        assert!(bench.driver.turn(&mut bench.network, bench.now));
        assert_eq!(bench.take_written(*id), "x");
    }
}

#[test]
fn however_many_the_server_names_few_of_them_stand_before_one_with_input() {
    let (mut bench, ids) = with_many(Way::Turns, 4, 60);
    let (reader, named) = ids.split_first().expect("sixty");
    bench.network.hurries = true;
    for &id in named {
        bench.server().push(id, "<frame>");
    }
    // Each turn serves one, and none may be named while some that were wait.
    for _ in 0..3 {
        assert!(bench.driver.turn(&mut bench.network, bench.now));
    }
    bench.socket(*reader).incoming.push(b'x');
    bench.driver.readable(*reader);
    for _ in 0..5 {
        assert!(bench.driver.turn(&mut bench.network, bench.now));
    }
    assert_eq!(bench.take_written(*reader), "x");
    bench.run();
    for &id in named {
        assert_eq!(bench.take_written(id), "<frame>");
    }
}

#[test]
fn those_with_input_do_not_starve_those_that_the_server_names() {
    let (mut bench, ids) = with_many(Way::Turns, 4, 10);
    let (named, readers) = ids.split_first().expect("ten");
    for _ in 0..4 {
        for &id in readers {
            bench.socket(id).incoming.push(b'x');
            bench.driver.readable(id);
        }
        bench.server().push(*named, "<frame>");
        bench.driver.turn(&mut bench.network, bench.now);
    }
    assert!(bench.take_written(*named).starts_with("<frame>"));
}

#[test]
fn however_many_have_input_they_take_turns_with_those_that_the_server_names() {
    let (mut bench, ids) = with_many(Way::Turns, 128, 1_000);
    let (named, readers) = ids.split_at(100);
    for &id in named {
        bench.server().push(id, "<frame>");
    }
    for _ in 0..4 {
        for &id in readers {
            bench.socket(id).incoming.push(b'x');
            bench.driver.readable(id);
        }
        bench.driver.turn(&mut bench.network, bench.now);
    }
    for &id in named {
        assert_eq!(bench.take_written(id), "<frame>");
    }
    let read = readers.iter().filter(|id| !bench.take_written(**id).is_empty()).count();
    assert!(read > 100, "{read} were read from");
}

#[test]
fn one_that_always_has_input_does_not_starve_another() {
    let (mut bench, ids) = with_many(Way::Turns, 1, 2);
    bench.socket(ids[0]).incoming = alloc::vec![b'x'; 1000];
    bench.socket(ids[0]).read_size = 1;
    bench.socket(ids[1]).incoming.push(b'y');
    bench.touch(ids[0]);
    bench.touch(ids[1]);
    for _ in 0..3 {
        bench.driver.turn(&mut bench.network, bench.now);
    }
    assert_eq!(bench.take_written(ids[1]), "y");
}

#[test]
fn who_becomes_ready_first_does_not_stand_behind_all_that_can_be_named() {
    let (mut bench, ids) = with_many(Way::Turns, 256, 1_000);
    let (late, named) = ids.split_first().expect("many");
    for &id in named {
        bench.server().push(id, "<frame>");
    }
    bench.driver.turn(&mut bench.network, bench.now);
    // A reply, say: the server names it before the others.
    bench.server().push(*late, "<reply>");
    bench.server().ready.rotate_right(1);
    let before = bench.network.order.len();
    bench.run();
    let position = bench.network.order[before..].iter().position(|id| id == late);
    assert!(position < Some(32), "it was served behind {position:?} others");
}

#[test]
fn completions_are_not_queued_faster_than_they_are_taken() {
    let (mut bench, ids) = with_many(Way::Fills, 256, 1_000);
    let (late, named) = ids.split_first().expect("many");
    bench.server().ready.extend(named);
    for _ in 0..10 {
        assert!(bench.driver.next_ready(bench.now).is_some());
    }
    bench.server().ready.push_front(*late);
    let taken: Vec<_> = core::iter::from_fn(|| bench.driver.next_ready(bench.now)).take(40).collect();
    assert!(taken.contains(late), "it is behind {taken:?}");
}

#[test]
fn those_that_are_gone_do_not_hide_whom_the_server_names_next() {
    let (mut bench, ids) = with_many(Way::Fills, 256, 3);
    bench.server().ready.extend([ids[0], ids[1]]);
    assert_eq!(bench.driver.next_ready(bench.now), Some(ids[0]));
    bench.driver.failed(ids[1], bench.now);
    bench.driver.release(ids[1]);
    bench.server().ready.push_back(ids[2]);
    assert_eq!(bench.driver.next_ready(bench.now), Some(ids[2]));
}

#[test]
fn who_was_served_is_not_looked_at_again() {
    let (mut bench, ids) = with_many(Way::Turns, 256, 2);
    for &id in &ids {
        bench.socket(id).tells_drained = true;
        bench.socket(id).incoming.extend_from_slice(b"hello");
        bench.driver.readable(id);
    }
    bench.server().push(ids[0], "<frame>");
    let fills = bench.server().fills;
    bench.driver.turn(&mut bench.network, bench.now);
    assert_eq!(bench.take_written(ids[0]), "hello<frame>");
    // Both were asked once: one lent all there was, the other had nothing.
    assert_eq!(bench.server().fills - fills, 2);
    assert_eq!(bench.network.order.len(), 4, "{:?}", bench.network.order);
}

#[test]
fn a_part_that_was_all_is_followed_by_what_came_since() {
    each_way(|way| {
        let (mut bench, ids) = with_many(way, 256, 1);
        for frame in ["<one>", "<two>"] {
            bench.server().push(ids[0], frame);
            bench.socket(ids[0]).write_size = 3;
            bench.run();
            assert_eq!(bench.take_written(ids[0]), frame);
        }
    });
}

#[test]
fn names_that_mean_nothing_do_not_hide_those_that_follow() {
    each_way(|way| {
        let (mut bench, ids) = with_many(way, 4, 2);
        bench.driver.failed(ids[0], bench.now);
        bench.run();
        for _ in 0..20 {
            bench.server().ready.push_back(ids[0]);
        }
        bench.server().push(ids[1], "<frame>");
        bench.run();
        assert_eq!(bench.take_written(ids[1]), "<frame>", "{way:?}");
    });
}

#[test]
fn a_turn_of_nothing_is_a_turn_of_one() {
    each_way(|way| {
        let (mut bench, ids) = with_many(way, 0, 2);
        bench.server().push(ids[1], "<frame>");
        bench.run();
        assert_eq!(bench.take_written(ids[1]), "<frame>");
    });
}

#[test]
fn blocked_sockets_leave_nothing_to_do() {
    let (mut bench, ids) = with_many(Way::Turns, 256, 3);
    for &id in &ids {
        bench.socket(id).room = 1;
        bench.server().push(id, "<frame>");
        bench.arrive(id, "own");
    }
    bench.run();
    assert!(!bench.driver.turn(&mut bench.network, bench.now));
    bench.network.order.clear();
    assert!(!bench.driver.turn(&mut bench.network, bench.now));
    assert!(bench.network.order.is_empty(), "a socket was tried that had said that it blocks");
}

#[test]
fn a_write_that_moves_nothing_is_a_write_that_blocks() {
    struct Nothing(usize);
    impl crate::driver::Sockets for Nothing {
        fn read(&mut self, _id: ConnectionId, _into: &mut [u8]) -> crate::driver::Io {
            crate::driver::Io::Blocked
        }
        fn write(&mut self, _id: ConnectionId, _parts: &[&[u8]]) -> crate::driver::Io {
            self.0 += 1;
            crate::driver::Io::Done(0)
        }
        fn shutdown(&mut self, _id: ConnectionId) {}
        fn close(&mut self, _id: ConnectionId) {}
    }
    let (mut bench, ids) = with_many(Way::Turns, 256, 1);
    bench.server().push(ids[0], "<frame>");
    let mut sockets = Nothing(0);
    assert!((0..10).any(|_| !bench.driver.turn(&mut sockets, bench.now)), "it spins");
    assert_eq!(sockets.0, 1);
}

#[test]
fn a_socket_that_claims_more_than_it_was_given_is_not_believed() {
    struct Boast;
    impl crate::driver::Sockets for Boast {
        fn read(&mut self, _id: ConnectionId, _into: &mut [u8]) -> crate::driver::Io {
            crate::driver::Io::Blocked
        }
        fn write(&mut self, _id: ConnectionId, _parts: &[&[u8]]) -> crate::driver::Io {
            crate::driver::Io::Done(1_000)
        }
        fn shutdown(&mut self, _id: ConnectionId) {}
        fn close(&mut self, _id: ConnectionId) {}
    }
    let (mut bench, ids) = with_many(Way::Turns, 256, 1);
    bench.server().push(ids[0], "<frame>");
    // The contract asserts that no more is said to be sent than was lent.
    while bench.driver.turn(&mut Boast, bench.now) {}
}

#[test]
fn a_server_that_changes_its_mind_at_the_end_does_not_spin() {
    each_way(|way| {
        let mut paused = false;
        let toy = Toy::receiving(move |input, _out| {
            input.take(usize::MAX);
            paused = !paused;
            if paused { After::Paused } else { After::Open }
        });
        let mut bench = Bench::new(way, toy);
        let id = bench.connect();
        bench.end(id);
    });
}

#[test]
fn more_connections_than_the_limit_are_not_taken() {
    let mut bench = Bench::with_config(Way::Turns, Toy::echo(), |config| config.connections = 1);
    let id = bench.connect();
    assert_eq!(bench.driver.accept(&Peer::default(), bench.now), None);
    bench.end(id);
    assert!(bench.driver.accept(&Peer::default(), bench.now).is_some(), "the first is gone");
}

#[test]
fn the_servers_deadline_is_the_drivers() {
    each_way(|way| {
        let mut bench = Bench::new(way, Toy::default());
        let at = bench.now.later(core::time::Duration::from_secs(7)).instant;
        bench.server().deadline = Some(at);
        assert_eq!(bench.driver.deadline(), Some(at));
        bench.pass_secs(6);
        assert!(bench.log().is_empty());
        bench.pass_secs(1);
        assert_eq!(bench.log(), ["deadline"]);
    });
}

#[test]
fn a_wake_up_reaches_the_server() {
    let mut bench = Bench::new(Way::Turns, Toy::default());
    bench.driver.woken(bench.now);
    assert_eq!(bench.log(), ["wake"]);
}

#[test]
fn answers_of_one_visit_are_bounded() {
    // A peer that pipelines and reads as fast as it is answered gets its turn, not the whole processor.
    let (mut bench, ids) = with_many(Way::Turns, 1, 2);
    bench.server().on_receive = Box::new(|input, out| {
        if input.len() > 1 {
            out.put(input.take(1));
            return After::Paused;
        }
        After::Open
    });
    bench.server().on_resume = Box::new(|_out| After::Open);
    bench.socket(ids[0]).incoming = alloc::vec![b'x'; 1000];
    bench.touch(ids[0]);
    bench.driver.turn(&mut bench.network, bench.now);
    assert!(bench.take_written(ids[0]).len() <= 16);
}

#[test]
fn a_deadline_that_is_set_after_a_long_time_without_any_lies_ahead() {
    each_way(|way| {
        let (mut bench, ids) = with_many(way, 256, 1);
        bench.pass_secs(3600);
        bench.socket(ids[0]).room = 0;
        bench.server().push(ids[0], "<frame>");
        bench.run();
        let ahead = bench.driver.deadline().map(|at| at.since(bench.now.instant));
        assert!(ahead > Some(core::time::Duration::from_secs(30)), "{ahead:?}");
    });
}

#[test]
fn what_is_written_makes_room_for_answers_in_the_same_visit() {
    let toy = Toy::receiving(|input, out| {
        while !input.is_empty() && !out.over_mark() {
            out.put(input.take(1));
        }
        After::Open
    });
    let mut bench = Bench::with_config(Way::Turns, toy, |config| (config.turn, config.output_mark) = (1, 0));
    let id = bench.connect();
    bench.run();
    bench.socket(id).incoming.extend_from_slice(b"abc");
    bench.driver.readable(id);
    bench.driver.turn(&mut bench.network, bench.now);
    assert_eq!(bench.take_written(id), "abc");
}

#[test]
fn a_server_that_searches_is_asked_again_in_the_same_visit() {
    let (mut bench, ids) = with_many(Way::Turns, 1, 1);
    bench.server().push(ids[0], "<found>");
    bench.server().bodies.get_mut(&ids[0]).expect("a body").searches = 10;
    bench.driver.turn(&mut bench.network, bench.now);
    assert_eq!(bench.take_written(ids[0]), "<found>");
}
