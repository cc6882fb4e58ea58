//! Bytes in: what is offered when, and how the end of them is told.

use alloc::string::String;

use super::bench::{Bench, Way, each_way};
use super::toy::Toy;
use crate::output::Sink;
use crate::server::After;

/// Takes whole lines, and answers each; pauses after `pause`, finishes after `quit`.
fn lines() -> Toy {
    Toy::receiving(|input, out| {
        while let Some(end) = input.bytes().iter().position(|&byte| byte == b'\n') {
            if out.over_mark() {
                return After::Open;
            }
            let line = input.take(end + 1);
            out.put(line);
            match &line[..end] {
                b"pause" => return After::Paused,
                b"quit" => return After::Finish,
                _ => {}
            }
        }
        After::Open
    })
    .resuming(|out| {
        out.put(b"resumed\n");
        After::Open
    })
}

#[test]
fn bytes_not_taken_are_offered_again_with_what_follows() {
    each_way(|way| {
        let mut bench = Bench::new(way, lines());
        let id = bench.connect();
        bench.arrive(id, "one\ntw");
        bench.arrive(id, "o");
        bench.arrive(id, "\n");
        assert_eq!(bench.take_written(id), "one\ntwo\n");
        assert_eq!(bench.log(), ["0: open", r"0: receive one\ntw", "0: receive two", r"0: receive two\n"]);
    });
}

#[test]
fn nothing_is_offered_twice_while_nothing_follows() {
    each_way(|way| {
        let mut bench = Bench::new(way, lines());
        let id = bench.connect();
        bench.arrive(id, "half");
        bench.log();
        bench.touch(id);
        bench.run();
        assert!(bench.log().is_empty());
    });
}

#[test]
fn a_server_is_not_asked_over_the_mark_and_goes_on_below_it() {
    each_way(|way| {
        let mut bench = Bench::with_config(way, lines(), |config| config.output_mark = 4);
        let id = bench.connect();
        bench.socket(id).room = 0;
        bench.arrive(id, "one\ntwo\nthree\nfour\n");
        assert_eq!(bench.log(), ["0: open", r"0: receive one\ntwo\nthree\nfour\n"]);
        bench.arrive(id, "five\n");
        assert!(bench.log().is_empty(), "asked over the mark");
        bench.make_room(id, usize::MAX);
        assert_eq!(bench.take_written(id), "one\ntwo\nthree\nfour\nfive\n");
    });
}

#[test]
fn a_server_is_not_resumed_over_the_mark_and_is_below_it() {
    each_way(|way| {
        let mut bench = Bench::with_config(way, lines(), |config| config.output_mark = 4);
        let id = bench.connect();
        bench.socket(id).room = 0;
        bench.arrive(id, "longer\n");
        bench.server().ready.push_back(id);
        bench.run();
        bench.make_room(id, usize::MAX);
        assert_eq!(bench.take_written(id), "longer\nresumed\n");
    });
}

#[test]
fn a_paused_connection_is_offered_nothing_until_it_is_resumed() {
    each_way(|way| {
        let mut bench = Bench::new(way, lines());
        let id = bench.connect();
        bench.arrive(id, "pause\nnext\n");
        bench.arrive(id, "more\n");
        assert_eq!(bench.take_written(id), "pause\n");
        bench.server().ready.push_back(id);
        bench.run();
        assert_eq!(bench.take_written(id), "resumed\nnext\nmore\n");
    });
}

#[test]
fn a_paused_connection_is_read_up_to_its_limit() {
    each_way(|way| {
        let mut bench = Bench::with_config(way, lines(), |config| config.paused_bytes = 10);
        let id = bench.connect();
        bench.socket(id).read_size = 4;
        bench.arrive(id, "pause\n");
        bench.arrive(id, "0123456789abcdef");
        assert_eq!(bench.socket(id).incoming, b"cdef", "10 bytes are reached with the third read");
    });
}

#[test]
fn a_connection_that_takes_nothing_is_read_up_to_its_limit() {
    each_way(|way| {
        let mut bench = Bench::with_config(way, lines(), |config| config.unread_bytes = 10);
        let id = bench.connect();
        bench.socket(id).read_size = 4;
        bench.arrive(id, "0123456789abcdef");
        assert_eq!(bench.socket(id).incoming, b"cdef");
    });
}

#[test]
fn the_end_is_told_once_all_was_read() {
    each_way(|way| {
        let mut bench = Bench::new(way, lines());
        let id = bench.connect();
        bench.arrive(id, "half");
        bench.log();
        bench.end(id);
        bench.driver.hung_up(id, bench.now);
        bench.run();
        assert_eq!(bench.log(), ["0: receive half and the end"]);
    });
}

#[test]
fn the_end_behind_unread_bytes_is_not_told_before_them() {
    each_way(|way| {
        let mut bench = Bench::new(way, lines());
        let id = bench.connect();
        bench.run();
        bench.socket(id).incoming.extend_from_slice(b"one\ntwo\n");
        bench.socket(id).ended = true;
        bench.socket(id).read_size = 4;
        bench.driver.hung_up(id, bench.now);
        bench.touch(id);
        bench.run();
        let log = ["0: open", r"0: receive one\n", r"0: receive two\n", "0: receive  and the end"];
        assert_eq!(bench.log(), log);
    });
}

#[test]
fn the_end_is_told_to_a_paused_connection_once_and_at_once() {
    each_way(|way| {
        let mut bench = Bench::with_config(way, paused_always(), |config| config.paused_bytes = 1);
        let id = bench.connect();
        bench.arrive(id, "request");
        bench.arrive(id, "next");
        bench.arrive(id, "not read");
        bench.log();
        bench.driver.hung_up(id, bench.now);
        bench.run();
        bench.driver.hung_up(id, bench.now);
        bench.run();
        assert_eq!(bench.log(), ["0: receive next and the end"]);
        assert_eq!(bench.socket(id).incoming, b"not read");
    });
}

/// Takes what it gets and pauses; leaves what comes while it is paused.
fn paused_always() -> Toy {
    let mut paused = false;
    Toy::receiving(move |input, _out| {
        if !paused {
            input.take(usize::MAX);
        }
        paused = true;
        After::Paused
    })
    .resuming(|_out| After::Paused)
}

#[test]
fn the_end_known_with_the_bytes_that_led_to_the_pause_is_told() {
    each_way(|way| {
        let mut bench = Bench::new(way, paused_always());
        let id = bench.connect();
        bench.run();
        bench.socket(id).incoming.extend_from_slice(b"request");
        bench.socket(id).ended = true;
        bench.driver.hung_up(id, bench.now);
        bench.touch(id);
        bench.run();
        assert_eq!(bench.log(), ["0: open", "0: receive request", "0: receive  and the end"]);
    });
}

#[test]
fn the_end_that_comes_in_a_pause_is_told_when_it_is_read() {
    each_way(|way| {
        let mut bench = Bench::new(way, paused_always());
        let id = bench.connect();
        bench.arrive(id, "request");
        bench.end(id);
        bench.server().ready.push_back(id);
        bench.run();
        assert_eq!(bench.log(), ["0: open", "0: receive request", "0: receive  and the end", "0: resume"]);
    });
}

#[test]
fn the_end_that_comes_over_the_mark_is_told_below_it() {
    each_way(|way| {
        let mut bench = Bench::with_config(way, Toy::echo(), |config| config.output_mark = 0);
        let id = bench.connect();
        bench.socket(id).room = 0;
        bench.arrive(id, "x");
        bench.log();
        bench.driver.ended(id, bench.now);
        assert!(bench.log().is_empty());
        bench.socket(id).ended = true;
        bench.make_room(id, 1);
        assert_eq!(bench.log(), ["0: receive  and the end", "0: closed Finished"]);
    });
}

#[test]
fn a_hang_up_over_the_mark_offers_nothing_that_is_not_there() {
    each_way(|way| {
        let mut bench = Bench::with_config(way, Toy::echo(), |config| config.output_mark = 0);
        let id = bench.connect();
        bench.socket(id).room = 0;
        bench.arrive(id, "x");
        bench.log();
        bench.driver.hung_up(id, bench.now);
        bench.make_room(id, 1);
        // It stopped at the mark, so it is called again, but not told of an end that may lie behind unread bytes.
        assert_eq!(bench.log(), ["0: receive "]);
    });
}

#[test]
fn a_server_that_is_resumed_is_offered_the_end_again() {
    each_way(|way| {
        let mut bench = Bench::new(way, paused_always().resuming(|_out| After::Open));
        let id = bench.connect();
        bench.arrive(id, "request");
        bench.end(id);
        bench.log();
        bench.server().on_receive = alloc::boxed::Box::new(|_input, _out| After::Finish);
        bench.server().ready.push_back(id);
        bench.run();
        assert_eq!(bench.log(), ["0: resume", "0: receive  and the end", "0: closed Finished"]);
    });
}

#[test]
fn a_read_that_drained_the_socket_is_the_last_until_more_is_told() {
    let mut bench = Bench::new(Way::Turns, lines());
    let id = bench.connect();
    bench.run();
    bench.socket(id).tells_drained = true;
    let before = bench.socket(id).calls;
    bench.arrive(id, "one\n");
    bench.arrive(id, "two\n");
    assert_eq!(bench.take_written(id), "one\ntwo\n");
    assert_eq!(bench.socket(id).calls - before, 4, "a read and a write for each");
}

#[test]
fn the_end_is_found_behind_a_read_that_drained_the_socket() {
    for told_before in [true, false] {
        let mut bench = Bench::new(Way::Turns, lines());
        let id = bench.connect();
        bench.run();
        bench.socket(id).tells_drained = true;
        bench.socket(id).incoming.extend_from_slice(b"one\n");
        bench.socket(id).ended = true;
        bench.log();
        bench.driver.readable(id);
        if told_before {
            bench.driver.hung_up(id, bench.now);
        } else {
            // It came between the system's word and the read: an edge of its own.
            bench.run();
            assert_eq!(bench.log(), [r"0: receive one\n"]);
            bench.driver.readable(id);
            bench.driver.hung_up(id, bench.now);
        }
        bench.run();
        assert_eq!(bench.log().last().map(|last| &**last), Some("0: receive  and the end"));
    }
}

#[test]
fn pipelined_requests_that_each_pause_are_answered_in_order() {
    each_way(|way| {
        let mut bench = Bench::new(way, lines());
        let id = bench.connect();
        bench.arrive(id, "pause\n".repeat(100));
        for _ in 0..100 {
            bench.server().ready.push_back(id);
            bench.run();
        }
        assert_eq!(bench.take_written(id), "pause\nresumed\n".repeat(100));
    });
}

#[test]
fn input_may_be_cut_anywhere() {
    for size in 1..=12 {
        for way in Way::ALL {
            let mut bench = Bench::new(way, lines());
            let id = bench.connect();
            bench.socket(id).read_size = size;
            bench.arrive(id, "one\ntwo\nquit\nignored\n");
            assert_eq!(bench.take_written(id), "one\ntwo\nquit\n", "{size} {way:?}");
        }
    }
}

#[test]
fn a_connection_that_goes_on_is_not_offered_what_is_not_there() {
    each_way(|way| {
        let mut bench = Bench::new(way, lines());
        let id = bench.connect();
        bench.arrive(id, "pause\n");
        bench.log();
        bench.server().ready.push_back(id);
        bench.run();
        assert_eq!(bench.log(), ["0: resume"]);
    });
}

#[test]
fn a_connection_that_goes_on_is_read_from_again() {
    each_way(|way| {
        let mut bench = Bench::with_config(way, Toy::default(), |config| config.paused_bytes = 2);
        let id = bench.connect();
        bench.socket(id).read_size = 2;
        bench.server().on_receive = alloc::boxed::Box::new(|_input, _out| After::Paused);
        bench.arrive(id, "abcd");
        assert_eq!(bench.socket(id).incoming, b"cd");
        bench.server().on_receive = Toy::default().on_receive;
        bench.server().ready.push_back(id);
        bench.run();
        assert_eq!(bench.log(), ["0: open", "0: receive ab", "0: resume", "0: receive ab", "0: receive cd"]);
    });
}

#[test]
fn what_is_due_is_done_by_the_time_that_a_connection_is_named() {
    let mut bench = Bench::new(Way::Fills, lines());
    let id = bench.connect();
    bench.arrive(id, "pause\nnext\n");
    bench.log();
    bench.server().ready.push_back(id);
    assert_eq!(bench.driver.next_ready(bench.now), Some(id));
    assert_eq!(bench.log(), ["0: resume", r"0: receive next\n"]);
}

#[test]
fn one_that_needs_more_steps_than_a_visit_has_is_visited_again() {
    each_way(|way| {
        // Takes a byte and waits; gives that up when it hears of the end, and takes the next.
        let mut waits = false;
        let toy = Toy::receiving(move |input, _out| {
            waits = !waits && !input.take(1).is_empty();
            if waits { After::Paused } else { After::Open }
        });
        let mut bench = Bench::new(way, toy);
        let id = bench.connect();
        bench.arrive(id, "x".repeat(100));
        bench.end(id);
        assert_eq!(bench.log().last().map(String::as_str), Some("0: receive  and the end"), "{way:?}");
    });
}

/// Never takes anything, and pauses.
fn takes_nothing() -> Toy {
    Toy::receiving(|_input, _out| After::Paused)
}

#[test]
fn the_end_is_told_to_one_that_paused_and_took_nothing() {
    each_way(|way| {
        let mut bench = Bench::new(way, takes_nothing());
        let id = bench.connect();
        bench.arrive(id, "x");
        bench.end(id);
        assert_eq!(bench.log(), ["0: open", "0: receive x", "0: receive x and the end"]);
    });
}

#[test]
fn the_end_is_not_told_again_to_one_that_pauses_at_it() {
    each_way(|way| {
        let mut bench = Bench::new(way, takes_nothing());
        let id = bench.connect();
        bench.end(id);
        assert_eq!(bench.log(), ["0: open", "0: receive  and the end"]);
    });
}

#[test]
fn the_end_is_not_told_again_to_one_that_takes_bytes_and_stays_paused() {
    each_way(|way| {
        let toy = Toy::receiving(|input, _out| {
            input.take(1);
            After::Paused
        });
        let mut bench = Bench::new(way, toy);
        let id = bench.connect();
        bench.arrive(id, "abc");
        bench.end(id);
        assert_eq!(bench.log(), ["0: open", "0: receive abc", "0: receive bc and the end"]);
    });
}

#[test]
fn the_end_is_told_again_to_one_that_has_taken_bytes_since_and_pauses() {
    each_way(|way| {
        let mut bench = Bench::new(way, takes_nothing());
        let id = bench.connect();
        bench.arrive(id, "x");
        bench.end(id);
        bench.log();
        bench.server().on_receive = alloc::boxed::Box::new(|input, _out| {
            input.take(1);
            After::Paused
        });
        bench.server().ready.push_back(id);
        bench.run();
        assert_eq!(bench.log(), ["0: resume", "0: receive x and the end", "0: receive  and the end"]);
    });
}

#[test]
fn the_end_is_not_told_again_to_one_that_has_taken_nothing_since() {
    each_way(|way| {
        let mut bench = Bench::new(way, takes_nothing());
        let id = bench.connect();
        bench.arrive(id, "x");
        bench.driver.hung_up(id, bench.now);
        bench.log();
        bench.server().ready.push_back(id);
        bench.run();
        assert_eq!(bench.log(), ["0: resume", "0: receive x"]);
    });
}

#[test]
fn the_end_behind_bytes_that_are_not_read_is_told_with_the_pause() {
    each_way(|way| {
        let mut bench = Bench::with_config(way, takes_nothing(), |config| config.paused_bytes = 1);
        let id = bench.connect();
        bench.run();
        bench.socket(id).read_size = 1;
        bench.driver.hung_up(id, bench.now);
        bench.arrive(id, "x, and what is not read");
        assert_eq!(bench.log(), ["0: open", "0: receive x", "0: receive x and the end"]);
    });
}
