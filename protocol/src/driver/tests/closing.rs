//! Every way in which a connection ends.

use alloc::boxed::Box;
use core::time::Duration;

use super::bench::{Bench, Way, each_way};
use super::toy::Toy;
use crate::driver::DriverConfig;
use crate::output::Sink;
use crate::server::{After, Peer};

/// Says `bye` and finishes at the first byte, or aborts if that is `!`.
fn polite() -> Toy {
    Toy::receiving(|input, out| {
        out.put(b"bye");
        if input.bytes() == b"!" { After::Abort } else { After::Finish }
    })
}

#[test]
fn row_5_15_finish_writes_all_shuts_down_once_and_waits_for_the_peer() {
    let DriverConfig { linger_idle, linger, .. } = DriverConfig::default();
    assert_eq!((linger_idle.as_secs(), linger.as_secs()), (5, 30));
    each_way(|way| {
        let mut bench = Bench::new(way, polite());
        let id = bench.connect();
        bench.socket(id).write_size = 1;
        bench.arrive(id, "x");
        assert_eq!(bench.take_written(id), "bye");
        assert_eq!(bench.log(), ["0: open", "0: receive x", "0: closed Finished"]);
        assert_eq!((bench.socket(id).shutdowns, bench.is_closed(id)), (1, false));
        bench.arrive(id, "ignored");
        assert!(bench.socket(id).incoming.is_empty(), "read and dropped");
        bench.end(id);
        assert_eq!((bench.socket(id).shutdowns, bench.is_closed(id)), (1, true));
        assert_eq!(bench.driver.connections(), 0);
    });
}

#[test]
fn finish_after_the_peers_end_closes_without_lingering() {
    each_way(|way| {
        let mut bench = Bench::new(way, polite());
        let id = bench.connect();
        bench.end(id);
        assert_eq!(bench.take_written(id), "bye");
        assert!(bench.is_closed(id));
    });
}

#[test]
fn finish_completes_a_half_written_frame_and_no_more() {
    each_way(|way| {
        let mut bench = Bench::new(way, polite());
        let id = bench.connect();
        bench.socket(id).room = 9;
        for frame in ["<first>", "<second>", "<third>"] {
            bench.server().push(id, frame);
        }
        bench.run();
        bench.arrive(id, "x");
        bench.make_room(id, usize::MAX);
        assert_eq!(bench.take_written(id), "<first><second>bye");
        assert_eq!(bench.socket(id).shutdowns, 1);
    });
}

#[test]
fn finish_between_frames_sends_no_other_frame() {
    each_way(|way| {
        let mut bench = Bench::new(way, polite());
        let id = bench.connect();
        bench.socket(id).room = 7;
        bench.server().push(id, "<first>");
        bench.server().push(id, "<second>");
        bench.run();
        bench.arrive(id, "x");
        bench.make_room(id, usize::MAX);
        assert_eq!(bench.take_written(id), "<first>bye");
    });
}

#[test]
fn finish_said_by_sent_follows_the_frame() {
    each_way(|way| {
        let mut bench = Bench::new(way, Toy::default());
        let id = bench.connect();
        bench.server().after_frame = After::Finish;
        bench.socket(id).write_size = 2;
        bench.server().push(id, "<last>");
        bench.run();
        assert_eq!(bench.take_written(id), "<last>");
        assert_eq!(bench.socket(id).shutdowns, 1);
    });
}

#[test]
fn a_frame_that_its_server_forgot_does_not_hold_up_the_end() {
    each_way(|way| {
        let mut bench = Bench::new(way, polite());
        let id = bench.connect();
        bench.socket(id).room = 3;
        bench.server().push(id, "<frame>");
        bench.run();
        bench.server().bodies.clear();
        bench.arrive(id, "x");
        bench.make_room(id, usize::MAX);
        assert_eq!(bench.take_written(id), "<frbye");
        assert_eq!(bench.socket(id).shutdowns, 1, "{way:?}");
    });
}

#[test]
fn abort_closes_and_drops_what_waits() {
    each_way(|way| {
        let mut bench = Bench::new(way, polite());
        let id = bench.connect();
        bench.arrive(id, "!");
        assert_eq!(bench.log(), ["0: open", "0: receive !", "0: closed Aborted"]);
        assert_eq!((bench.socket(id).shutdowns, bench.is_closed(id)), (0, true));
        assert_eq!(bench.take_written(id), "");
    });
}

#[test]
fn a_failed_read_closes() {
    each_way(|way| {
        let mut bench = Bench::new(way, polite());
        let id = bench.connect();
        bench.run();
        bench.socket(id).broken = true;
        bench.touch(id);
        bench.run();
        assert_eq!(bench.log(), ["0: open", "0: closed Failed"]);
        assert!(bench.is_closed(id));
    });
}

#[test]
fn a_failed_write_closes() {
    each_way(|way| {
        let mut bench = Bench::new(way, Toy::default());
        let id = bench.connect();
        bench.end(id);
        bench.log();
        bench.socket(id).broken = true;
        bench.server().push(id, "<frame>");
        bench.run();
        assert_eq!(bench.log(), ["0: resume", "0: closed Failed"]);
        assert!(bench.is_closed(id));
    });
}

#[test]
fn a_failure_while_lingering_closes_and_is_not_told() {
    each_way(|way| {
        let mut bench = Bench::new(way, polite());
        let id = bench.connect();
        bench.arrive(id, "x");
        bench.log();
        bench.driver.failed(id, bench.now);
        bench.run();
        assert!(bench.log().is_empty() && bench.is_closed(id));
    });
}

#[test]
fn a_refused_connection_gets_the_answer_and_its_server_hears_no_more() {
    each_way(|way| {
        let mut bench = Bench::new(way, Toy { refusal: Some("503"), ..Toy::default() });
        let id = bench.connect();
        bench.socket(id).write_size = 1;
        bench.arrive(id, "request");
        assert_eq!(bench.take_written(id), "503");
        assert_eq!((bench.socket(id).shutdowns, bench.is_closed(id)), (1, false));
        bench.end(id);
        assert!(bench.is_closed(id));
        assert_eq!(bench.log(), ["0: open"]);
    });
}

#[test]
fn row_5_15_lingering_ends_when_the_peer_says_nothing_for_a_while() {
    each_way(|way| {
        let mut bench = Bench::with_config(way, polite(), |config| {
            config.linger_idle = Duration::from_secs(5);
            config.linger = Duration::from_secs(12);
        });
        let id = bench.connect();
        bench.arrive(id, "x");
        bench.pass_secs(4);
        bench.arrive(id, "more");
        bench.pass_secs(4);
        assert!(!bench.is_closed(id), "4 seconds after its last bytes");
        bench.pass_secs(2);
        assert!(bench.is_closed(id));
    });
}

#[test]
fn row_5_15_lingering_ends_however_much_the_peer_says() {
    each_way(|way| {
        let mut bench = Bench::with_config(way, polite(), |config| {
            config.linger_idle = Duration::from_secs(5);
            config.linger = Duration::from_secs(12);
        });
        let id = bench.connect();
        bench.arrive(id, "x");
        for second in 0..12 {
            assert!(!bench.is_closed(id), "after {second} seconds");
            bench.arrive(id, "more");
            bench.pass_secs(1);
        }
        assert!(bench.is_closed(id));
    });
}

#[test]
fn row_5_10_a_finish_that_cannot_be_written_stalls() {
    each_way(|way| {
        let mut bench = Bench::new(way, polite());
        let id = bench.connect();
        bench.socket(id).room = 0;
        bench.arrive(id, "x");
        bench.log();
        bench.pass_secs(61);
        assert_eq!(bench.log(), ["0: closed WriteStalled"]);
        assert!(bench.is_closed(id));
    });
}

#[test]
fn draining_accepts_no_more_and_ends_with_the_last_connection() {
    each_way(|way| {
        let mut bench = Bench::new(way, polite());
        let id = bench.connect();
        bench.driver.drain(bench.now.later(Duration::from_secs(10)).instant, bench.now);
        assert_eq!(bench.log(), ["0: open", "drain within 10"]);
        assert_eq!(bench.driver.accept(&Peer::default(), bench.now), None);
        assert!(bench.driver.is_draining() && !bench.driver.is_drained());
        bench.arrive(id, "x");
        bench.end(id);
        assert!(bench.driver.is_drained());
        assert_eq!(bench.driver.deadline(), None);
    });
}

#[test]
fn row_5_25_draining_closes_at_its_end_what_is_left() {
    each_way(|way| {
        let mut bench = Bench::new(way, polite());
        let (idle, lingers, blocked) = (bench.connect(), bench.connect(), bench.connect());
        bench.arrive(lingers, "x");
        bench.socket(blocked).room = 0;
        bench.server().push(blocked, "<frame>");
        bench.run();
        bench.driver.drain(bench.now.later(Duration::from_secs(3)).instant, bench.now);
        bench.driver.drain(bench.now.later(Duration::from_secs(2)).instant, bench.now);
        bench.driver.drain(bench.now.later(Duration::from_secs(9)).instant, bench.now);
        bench.log();
        bench.pass_secs(1);
        assert!(!bench.is_closed(idle));
        bench.pass_secs(1);
        assert_eq!(bench.log(), ["0: closed Drained", "2: closed Drained"]);
        assert!(bench.is_closed(idle) && bench.is_closed(lingers) && bench.is_closed(blocked));
        assert!(bench.driver.is_drained());
    });
}

#[test]
fn the_end_of_a_drain_is_done_once() {
    let mut bench = Bench::with_config(super::bench::Way::Turns, polite(), |config| config.turn = 1);
    for _ in 0..10 {
        bench.connect();
    }
    bench.run();
    bench.driver.drain(bench.now.instant, bench.now);
    bench.driver.on_deadline(bench.now);
    assert_eq!(bench.driver.deadline(), None, "what is left are closes, each at its connection's turn");
    bench.run();
    assert!(bench.driver.is_drained());
}

#[test]
fn a_slot_is_used_again_under_another_name_and_the_old_one_means_nothing() {
    each_way(|way| {
        let mut bench = Bench::new(way, polite());
        let old = bench.connect();
        bench.arrive(old, "!");
        let new = bench.connect();
        assert_eq!((old.slot(), new.slot()), (0, 0));
        assert_ne!(old, new);
        bench.run();
        bench.log();
        let now = bench.now;
        let driver = &mut bench.driver;
        driver.readable(old);
        driver.writable(old);
        driver.received(old, &mut [1], now);
        driver.ended(old, now);
        driver.hung_up(old, now);
        driver.wrote(old, 1, now);
        driver.failed(old, now);
        driver.shut_down(old);
        driver.release(old);
        assert_eq!(driver.wants(old), crate::driver::Wants::default());
        let mut slices = crate::output::Slices::new(1);
        assert_eq!(driver.fill(old, &mut slices, now), crate::server::Fill::Nothing);
        let mut leases = crate::output::Leases::new(1);
        assert_eq!(driver.lease(old, &mut leases, now), crate::server::Fill::Nothing);
        bench.server().ready.push_back(old);
        bench.run();
        assert!(bench.log().is_empty());
        bench.arrive(new, "x");
        assert_eq!(bench.take_written(new), "bye");
    });
}

#[test]
fn the_next_connection_in_a_slot_does_not_inherit_the_time_of_the_one_before() {
    each_way(|way| {
        let mut bench = Bench::new(way, polite());
        let old = bench.connect();
        bench.arrive(old, "x");
        bench.end(old);
        let new = bench.connect();
        assert_eq!((old.slot(), new.slot()), (0, 0));
        bench.pass_secs(10); // the old one would have lingered for 5
        assert!(!bench.is_closed(new));
    });
}

#[test]
fn a_connection_is_not_released_before_it_is_to_be_closed() {
    let mut bench = Bench::new(super::bench::Way::Fills, polite());
    let id = bench.connect();
    bench.driver.release(id);
    bench.arrive(id, "x");
    assert_eq!(bench.take_written(id), "bye");
}

#[test]
fn every_connection_is_closed_once_whatever_comes_after_what() {
    // All sequences of three of these things, on one connection: the contract counts and asserts.
    type Act = fn(&mut Bench, crate::server::ConnectionId);
    let acts: [Act; 8] = [
        |bench, id| bench.arrive(id, "x"),
        |bench, id| bench.arrive(id, "!"),
        |bench, id| bench.end(id),
        |bench, id| {
            bench.driver.failed(id, bench.now);
            bench.run();
        },
        |bench, id| {
            bench.socket(id).room = 2;
            bench.server().push(id, "<frame>");
            bench.run();
        },
        |bench, _id| bench.pass_secs(61),
        |bench, id| bench.make_room(id, 3),
        |bench, _id| {
            bench.driver.drain(bench.now.later(Duration::from_secs(60)).instant, bench.now);
            bench.run();
        },
    ];
    each_way(|way| {
        for sequence in 0..acts.len().pow(3) {
            let mut bench = Bench::new(way, polite());
            let id = bench.connect();
            bench.server().on_resume = Box::new(|_out| After::Open);
            for place in 0..3 {
                acts[sequence / acts.len().pow(place) % acts.len()](&mut bench, id);
            }
            bench.socket(id).broken = true;
            bench.driver.failed(id, bench.now);
            bench.run();
            assert!(bench.is_closed(id), "{sequence:o} {way:?}");
            assert_eq!(bench.driver.server().counts, (1, 1), "{sequence:o} {way:?}");
            assert_eq!(bench.driver.connections(), 0);
        }
    });
}

#[test]
fn bug_the_end_overtakes_the_last_bytes() {
    // hyper #4018: the writing side was shut down before what was put had been written.
    each_way(|way| {
        for room in 0..=3 {
            let mut bench = Bench::new(way, polite());
            let id = bench.connect();
            bench.socket(id).room = room;
            bench.arrive(id, "x");
            assert_eq!(bench.socket(id).shutdowns, usize::from(room == 3), "{room} {way:?}");
            bench.make_room(id, usize::MAX);
            assert_eq!(bench.take_written(id), "bye");
            assert_eq!(bench.socket(id).shutdowns, 1);
        }
    });
}

#[test]
fn bug_a_half_closed_peer_makes_it_spin() {
    // hyper #4085: a peer that had ended its side kept the task busy until there was something to send.
    each_way(|way| {
        let mut bench = Bench::new(way, Toy::default());
        let id = bench.connect();
        bench.end(id); // fails if it goes on without an end
        let calls = bench.socket(id).calls;
        bench.run();
        assert!(!bench.is_closed(id));
        assert_eq!(bench.socket(id).calls, calls, "{way:?}");
        bench.server().push(id, "<frame>");
        bench.run();
        assert_eq!(bench.take_written(id), "<frame>");
    });
}

#[test]
fn a_driver_without_connections_has_not_drained_before_it_drains() {
    let mut bench = Bench::new(Way::Fills, Toy::echo());
    assert!(!bench.driver.is_draining() && !bench.driver.is_drained());
    bench.driver.drain(bench.now.instant, bench.now);
    assert!(bench.driver.is_draining() && bench.driver.is_drained());
}

#[test]
fn finish_does_not_wait_for_a_frame_that_its_server_forgot() {
    each_way(|way| {
        let mut bench = Bench::new(way, Toy::receiving(|_input, _out| After::Finish));
        let id = bench.connect();
        bench.socket(id).room = 3;
        bench.server().push(id, "<frame>");
        bench.run();
        bench.driver.received(id, &mut [b'x'], bench.now);
        bench.server().bodies.clear();
        bench.make_room(id, usize::MAX);
        // Once more for those that the last fill made ready, as a runtime would.
        bench.run();
        assert_eq!((bench.take_written(id), bench.socket(id).shutdowns), ("<fr".into(), 1), "{way:?}");
    });
}

#[test]
fn finish_stays_whatever_is_said_behind_the_last_frame() {
    each_way(|way| {
        let mut bench = Bench::new(way, polite());
        let id = bench.connect();
        bench.server().after_frame = After::Paused;
        bench.socket(id).room = 3;
        bench.server().push(id, "<frame>");
        bench.run();
        bench.arrive(id, "x");
        bench.driver.hung_up(id, bench.now);
        // The contract asserts that nothing is offered after the server had finished.
        bench.make_room(id, usize::MAX);
        assert_eq!((bench.take_written(id), bench.socket(id).shutdowns), ("<frame>bye".into(), 1));
    });
}
