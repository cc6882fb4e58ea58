//! Connections that are no longer the server's, and how many of them there may be.

use core::time::Duration;

use super::bench::{Bench, Way, each_way};
use super::toy::Toy;
use super::transform::Swap;
use crate::output::Sink;
use crate::server::{After, ConnectionId, Peer};

/// Says `bye` and finishes at the first byte, or refuses everyone from the start. So many may linger.
fn bench(way: Way, lingering: usize, refusal: Option<&'static str>) -> Bench {
    let toy = Toy::receiving(|input, out| {
        let count = input.len();
        input.take(count);
        out.put(b"bye");
        After::Finish
    });
    Bench::with_config(way, Toy { refusal, ..toy }, |config| config.lingering = lingering)
}

fn closed<const COUNT: usize>(bench: &mut Bench, ids: [ConnectionId; COUNT]) -> [bool; COUNT] {
    ids.map(|id| bench.is_closed(id))
}

#[test]
fn of_too_many_that_were_refused_the_oldest_goes() {
    each_way(|way| {
        let mut bench = bench(way, 2, Some("503"));
        let ids = [(); 3].map(|()| {
            let id = bench.connect();
            bench.run();
            id
        });
        assert_eq!(closed(&mut bench, ids), [true, false, false], "{way:?}");
        assert_eq!(ids.map(|id| bench.take_written(id)), ["503"; 3]);
    });
}

#[test]
fn row_5_15_of_too_many_that_linger_the_oldest_goes() {
    each_way(|way| {
        let mut bench = bench(way, 2, None);
        let ids = [(); 3].map(|()| bench.connect());
        for id in [ids[1], ids[0], ids[2]] {
            bench.arrive(id, "x");
        }
        assert_eq!(closed(&mut bench, ids), [false, true, false], "{way:?}");
        assert_eq!(ids.map(|id| bench.take_written(id)), ["bye"; 3]);
        assert_eq!(bench.driver.server().counts, (3, 3));
    });
}

#[test]
fn those_that_were_refused_and_those_that_finished_are_counted_together() {
    each_way(|way| {
        let mut bench = bench(way, 1, None);
        let finished = bench.connect();
        bench.arrive(finished, "x");
        bench.server().refusal = Some("503");
        let refused = bench.connect();
        bench.run();
        assert_eq!(closed(&mut bench, [finished, refused]), [true, false], "{way:?}");
    });
}

#[test]
fn whoever_is_served_takes_no_place_of_those_that_linger() {
    each_way(|way| {
        let mut bench = bench(way, 1, None);
        let lingers = bench.connect();
        bench.arrive(lingers, "x");
        let served = [(); 5].map(|()| bench.connect());
        bench.run();
        bench.driver.failed(served[0], bench.now);
        // One whose peer ended first does not linger.
        bench.end(served[1]);
        assert_eq!(
            closed(&mut bench, [lingers, served[0], served[1], served[2]]),
            [false, true, true, false]
        );
    });
}

#[test]
fn one_that_is_gone_makes_room_for_the_next() {
    each_way(|way| {
        let mut bench = bench(way, 2, Some("503"));
        let first = [(); 2].map(|()| bench.connect());
        bench.end(first[1]);
        let third = bench.connect();
        bench.run();
        assert_eq!(closed(&mut bench, [first[0], first[1], third]), [false, true, false], "{way:?}");
        bench.pass_secs(5);
        let fourth = [(); 2].map(|()| bench.connect());
        bench.run();
        assert_eq!(closed(&mut bench, [first[0], third, fourth[0], fourth[1]]), [true, true, false, false]);
    });
}

#[test]
fn of_many_that_are_refused_at_once_each_gets_its_answer() {
    let mut bench = bench(Way::Turns, 2, Some("503"));
    let ids = [(); 4].map(|()| bench.connect());
    for id in ids {
        bench.socket(id).incoming.extend_from_slice(b"request");
        bench.touch(id);
    }
    bench.run();
    assert_eq!(closed(&mut bench, ids), [true, true, false, false]);
    assert_eq!(ids.map(|id| bench.take_written(id)), ["503"; 4]);
    // Unread bytes would have reset the connections that are closed.
    assert!(ids.into_iter().all(|id| bench.socket(id).incoming.is_empty()));
}

#[test]
fn one_that_has_to_go_goes_although_its_answer_cannot_be_written() {
    each_way(|way| {
        for broken in [false, true] {
            let mut bench = bench(way, 1, Some("503"));
            let first = bench.connect();
            (bench.socket(first).room, bench.socket(first).broken) = (1, broken);
            bench.run();
            let second = bench.connect();
            bench.run();
            assert_eq!(closed(&mut bench, [first, second]), [true, false], "{way:?}");
        }
    });
}

#[test]
fn where_twice_as_many_have_sockets_whoever_is_refused_is_closed_at_once() {
    each_way(|way| {
        let mut bench = bench(way, 2, Some("503"));
        let ids = [(); 4].map(|()| bench.connect());
        assert_eq!(bench.driver.accept(&Peer::default(), bench.now), None);
        assert_eq!(bench.driver.connections(), 4);
        bench.server().refusal = None;
        let served = bench.connect();
        bench.run();
        assert_eq!(closed(&mut bench, ids), [true, true, false, false], "{way:?}");
        bench.server().refusal = Some("503");
        bench.connect();
        bench.run();
        assert_eq!((bench.is_closed(ids[2]), bench.is_closed(served)), (true, false));
    });
}

#[test]
fn one_that_is_closed_at_once_leaves_its_slot_to_the_next() {
    each_way(|way| {
        let mut bench = bench(way, 0, Some("503"));
        assert_eq!(bench.driver.accept(&Peer::default(), bench.now), None);
        bench.server().refusal = None;
        let next = bench.connect();
        assert_eq!((next.slot(), next.generation()), (0, 1));
        bench.arrive(next, "x");
        assert_eq!((bench.take_written(next).as_str(), bench.is_closed(next)), ("bye", true), "{way:?}");
        assert_eq!(bench.driver.connections(), 0);
    });
}

#[test]
fn one_that_reuses_a_slot_is_not_taken_for_the_one_before() {
    each_way(|way| {
        let mut bench = bench(way, 1, Some("503"));
        let first = bench.connect();
        bench.end(first);
        bench.server().refusal = None;
        let served = bench.connect();
        assert_eq!(served.slot(), first.slot());
        bench.server().refusal = Some("503");
        let refused = [(); 2].map(|()| {
            let id = bench.connect();
            bench.run();
            id
        });
        assert_eq!(closed(&mut bench, [served, refused[0], refused[1]]), [false, true, false], "{way:?}");
    });
}

#[test]
fn one_that_was_refused_and_whose_transformation_cannot_send_counts() {
    each_way(|way| {
        let mut bench = bench(way, 1, Some("503"));
        let first = bench.connect_transformed(Some(Swap::boxed()));
        bench.run();
        let second = bench.connect_transformed(Some(Swap::boxed()));
        bench.run();
        assert_eq!(closed(&mut bench, [first, second]), [true, false], "{way:?}");
        bench.pass(Duration::from_secs(61));
        assert!(bench.is_closed(second));
    });
}

#[test]
fn one_whose_bytes_could_not_be_transformed_counts_while_it_hears_why() {
    each_way(|way| {
        let mut bench = bench(way, 1, None);
        let ids = [(); 2].map(|()| {
            let id = bench.connect_transformed(Some(Swap::boxed()));
            bench.arrive(id, "#");
            id
        });
        assert_eq!(closed(&mut bench, ids), [true, false], "{way:?}");
        assert_eq!(ids.map(|id| bench.take_written(id)), ["[alert]"; 2]);
    });
}
