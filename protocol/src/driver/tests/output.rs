//! Bytes out: order, short writes, and what the server hears of them.

use alloc::boxed::Box;
use alloc::format;
use core::time::Duration;

use super::bench::{Bench, Way, each_way};
use super::toy::Toy;
use crate::output::{Leases, Sink, Slices};
use crate::server::{After, Fill};

/// Puts `own` whenever it is resumed.
fn with_own() -> Toy {
    Toy::default().resuming(|out| {
        out.put(b"own.");
        After::Open
    })
}

#[test]
fn short_writes_of_every_size_lose_and_repeat_nothing() {
    for size in 1..=20 {
        for way in Way::ALL {
            let mut bench = Bench::new(way, with_own());
            let id = bench.connect();
            bench.socket(id).write_size = size;
            for frame in ["<first>", "<second>", "<third>"] {
                bench.server().push(id, frame);
                bench.server().bodies.entry(id).or_default();
            }
            bench.run();
            let written = bench.take_written(id);
            let own = written.matches("own.").count();
            assert_eq!(own, 1, "named three times before it was resumed: one resume ({written})");
            assert_eq!(written.replace("own.", ""), "<first><second><third>", "{size} {way:?}");
        }
    }
}

#[test]
fn own_bytes_never_go_into_a_frame() {
    for cut in 1..7 {
        for way in Way::ALL {
            let mut bench = Bench::new(way, Toy::echo());
            let id = bench.connect();
            bench.socket(id).room = cut;
            bench.server().push(id, "<frame>");
            bench.server().push(id, "<frame>");
            bench.run();
            bench.arrive(id, "pong");
            bench.make_room(id, usize::MAX);
            // Between frames or behind them, but never inside.
            let written = bench.take_written(id);
            assert_eq!(written.replace("pong", ""), "<frame><frame>", "{written} {way:?}");
            assert!(written.contains("<frame>pong<frame>") || written.ends_with("<frame>pong"), "{written}");
        }
    }
}

#[test]
fn own_bytes_of_many_calls_stay_in_order() {
    each_way(|way| {
        let mut bench = Bench::new(way, Toy::echo());
        let id = bench.connect();
        bench.socket(id).room = 3;
        let mut expected = alloc::string::String::new();
        for number in 0..50 {
            let text = format!("{number},");
            bench.arrive(id, &text);
            expected += &text;
        }
        bench.socket(id).write_size = 7;
        bench.make_room(id, usize::MAX);
        assert_eq!(bench.take_written(id), expected);
    });
}

#[test]
fn own_bytes_go_before_what_is_pulled_in_the_same_write() {
    each_way(|way| {
        let mut bench = Bench::new(way, with_own());
        let id = bench.connect();
        bench.run();
        bench.socket(id).calls = 0;
        bench.server().push(id, "<frame>");
        bench.run();
        assert_eq!(bench.take_written(id), "own.<frame>");
    });
}

#[test]
fn own_bytes_that_fill_a_write_leave_the_server_unasked_but_not_forgotten() {
    each_way(|way| {
        let own = "x".repeat(300 << 10);
        let mut bench = Bench::new(way, Toy::default());
        let long = own.clone();
        bench.server().on_resume = Box::new(move |out| {
            out.put(long.as_bytes());
            After::Open
        });
        let id = bench.connect();
        bench.server().push(id, "<frame>");
        bench.run();
        assert_eq!(bench.take_written(id), own + "<frame>");
    });
}

#[test]
fn a_server_that_searches_is_asked_again() {
    each_way(|way| {
        let mut bench = Bench::new(way, Toy::default());
        let id = bench.connect();
        bench.server().push(id, "<found>");
        bench.server().bodies.get_mut(&id).expect("a body").searches = 100;
        bench.run();
        assert_eq!(bench.take_written(id), "<found>");
    });
}

#[test]
fn what_is_sent_decides_whether_input_is_welcome() {
    each_way(|way| {
        let mut bench = Bench::new(way, Toy::default());
        let id = bench.connect();
        bench.server().on_receive = Box::new(|input, _out| {
            input.take(1);
            After::Paused
        });
        bench.server().after_frame = After::Open;
        bench.arrive(id, "ab");
        bench.log();
        bench.server().push(id, "<frame>");
        bench.server().on_resume = Box::new(|_out| After::Paused);
        bench.run();
        assert_eq!(bench.log(), ["0: resume", "0: receive b"]);
    });
}

#[test]
fn row_5_10_a_stalled_write_closes() {
    each_way(|way| {
        let mut bench = Bench::with_config(way, Toy::default(), |config| {
            config.write_stall = Duration::from_secs(10);
        });
        let id = bench.connect();
        bench.socket(id).room = 3;
        bench.server().push(id, "<frame>");
        bench.run();
        bench.pass_secs(9);
        bench.make_room(id, 1);
        bench.pass_secs(9);
        assert!(!bench.is_closed(id), "it accepted a byte 9 seconds ago");
        bench.log();
        bench.pass_secs(2);
        assert_eq!(bench.log(), ["0: closed WriteStalled"]);
        assert!(bench.is_closed(id));
    });
}

#[test]
fn a_stall_ends_with_the_last_byte() {
    each_way(|way| {
        let mut bench = Bench::new(way, Toy::default());
        let id = bench.connect();
        bench.socket(id).room = 3;
        bench.server().push(id, "<frame>");
        bench.run();
        bench.make_room(id, usize::MAX);
        bench.pass_secs(3600);
        assert!(!bench.is_closed(id));
        assert_eq!(bench.driver.deadline(), None);
    });
}

#[test]
fn a_connection_whose_pending_bytes_are_withdrawn_is_not_stalled() {
    each_way(|way| {
        let mut bench = Bench::new(way, Toy::default());
        let id = bench.connect();
        bench.socket(id).room = 0;
        bench.server().push(id, "<frame>");
        bench.run();
        bench.server().bodies.clear();
        bench.make_room(id, 1);
        bench.pass_secs(3600);
        assert!(!bench.is_closed(id));
    });
}

#[test]
fn a_stall_is_counted_from_the_last_progress_and_not_from_the_last_try() {
    each_way(|way| {
        let mut bench = Bench::new(way, Toy::default());
        let id = bench.connect();
        bench.socket(id).room = 3;
        bench.server().push(id, "<frame>");
        bench.run();
        for _ in 0..61 {
            bench.touch(id);
            bench.pass_secs(1);
        }
        assert!(bench.is_closed(id), "{way:?}");
    });
}

#[test]
fn a_fill_of_an_idle_connection_lends_nothing() {
    let mut bench = Bench::new(Way::Fills, Toy::default());
    let id = bench.connect();
    bench.run();
    let mut slices = Slices::new(100);
    assert_eq!(bench.driver.fill(id, &mut slices, bench.now), Fill::Nothing);
    assert!(slices.is_empty());
    assert_eq!(bench.driver.next_ready(bench.now), None, "nor is it looked at again");
}

#[test]
fn bug_bytes_that_waited_for_room_are_forgotten() {
    // hyper #3952, #3977: a write that blocked was not tried again when there was room.
    each_way(|way| {
        for room in 0..7 {
            let mut bench = Bench::new(way, Toy::echo());
            let id = bench.connect();
            bench.socket(id).room = room;
            bench.server().push(id, "<frame>");
            bench.run();
            bench.arrive(id, "pong");
            bench.make_room(id, usize::MAX);
            let written = bench.take_written(id);
            assert!(written == "<frame>pong" || written == "pong<frame>", "{written} {way:?}");
        }
    });
}

#[test]
fn what_is_held_for_a_connection_is_told() {
    each_way(|way| {
        let mut bench = Bench::new(way, Toy::echo());
        let (id, _other) = (bench.connect(), bench.connect());
        bench.socket(id).room = 0;
        bench.arrive(id, "abc");
        assert_eq!(bench.driver.buffered().output, 3);
    });
}

#[test]
fn a_write_of_nothing_names_nobody() {
    let mut bench = Bench::new(Way::Fills, Toy::echo());
    let id = bench.connect();
    bench.socket(id).room = 0;
    bench.arrive(id, "abc");
    bench.driver.wrote(id, 0, bench.now);
    assert_eq!(bench.driver.next_ready(bench.now), None);
}

#[test]
fn an_idle_connection_has_no_buffers() {
    each_way(|way| {
        let mut bench = Bench::new(way, Toy::echo());
        let id = bench.connect();
        bench.arrive(id, "abc");
        assert_eq!(bench.take_written(id), "abc");
        assert!(bench.driver.shells[id.slot()].buffers.is_none());
    });
}

#[test]
fn a_server_that_is_done_without_the_rest_of_its_frame_ends_the_connection() {
    each_way(|way| {
        let mut bench = Bench::new(way, Toy::receiving(|_input, _out| After::Finish));
        let id = bench.connect();
        bench.socket(id).room = 3;
        bench.server().push(id, "<frame>");
        bench.run();
        bench.server().bodies.clear();
        bench.arrive(id, "x");
        bench.make_room(id, usize::MAX);
        assert_eq!((bench.take_written(id), bench.socket(id).shutdowns), ("<fr".into(), 1));
    });
}

#[test]
fn a_write_of_nothing_says_nothing_for_the_server() {
    each_way(|way| {
        let mut bench = Bench::new(way, Toy::default());
        let id = bench.connect();
        bench.server().after_frame = After::Finish;
        bench.socket(id).room = 0;
        bench.server().push(id, "<last>");
        bench.run();
        bench.make_room(id, usize::MAX);
        assert_eq!(bench.take_written(id), "<last>", "{way:?}");
    });
}

#[test]
fn what_is_lent_says_whether_it_is_all() {
    let cases = [
        ("", 0, 100, Fill::Nothing),
        ("own", 0, 100, Fill::All),
        ("", 1, 100, Fill::All),
        ("own", 1, 100, Fill::All),
        ("own", 1, 3, Fill::More),
        ("own", 2, 4, Fill::More),
    ];
    for (own, frames, limit, expected) in cases {
        for way in [Way::Fills, Way::Leases] {
            let toy = Toy::default().resuming(move |out| {
                out.put(own.as_bytes());
                After::Open
            });
            let mut bench = Bench::new(way, toy);
            let id = bench.connect();
            bench.server().ready.push_back(id);
            for _ in 0..frames {
                bench.server().push(id, "<frame>");
            }
            while bench.driver.next_ready(bench.now).is_some() {}
            let fill = match way {
                Way::Leases => bench.driver.lease(id, &mut Leases::new(limit), bench.now),
                _ => bench.driver.fill(id, &mut Slices::new(limit), bench.now),
            };
            assert_eq!(fill, expected, "{own:?}, {frames} frames in {limit} bytes, {way:?}");
        }
    }
}
