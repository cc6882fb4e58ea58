//! Writes that outlive the call.

use alloc::vec::Vec;
use core::time::Duration;

use super::bench::{Bench, Way};
use super::toy::Toy;
use crate::output::{Leases, Sink, Slices};
use crate::server::{After, ConnectionId, Fill};

fn lease(bench: &mut Bench, id: ConnectionId) -> Leases {
    while bench.driver.next_ready(bench.now).is_some() {}
    let mut leases = Leases::new(1 << 20);
    bench.driver.lease(id, &mut leases, bench.now);
    leases
}

fn text(leases: &Leases) -> Vec<u8> {
    leases.parts().iter().flat_map(|lease| lease.as_slice().to_vec()).collect()
}

fn bench() -> (Bench, ConnectionId) {
    let mut bench = Bench::new(Way::Leases, Toy::echo());
    let id = bench.connect();
    bench.run();
    (bench, id)
}

#[test]
fn one_lease_at_a_time() {
    let (mut bench, id) = bench();
    bench.server().push(id, "<frame>");
    let first = lease(&mut bench, id);
    assert_eq!(text(&first), b"<frame>");
    assert!(!bench.driver.wants(id).write);
    assert!(lease(&mut bench, id).is_empty());
    let mut slices = Slices::new(100);
    assert_eq!(bench.driver.fill(id, &mut slices, bench.now), Fill::Nothing);
    assert!(slices.is_empty());
    bench.driver.wrote(id, 3, bench.now);
    assert_eq!(text(&lease(&mut bench, id)), b"ame>");
}

#[test]
fn own_bytes_put_while_a_lease_is_out_follow_it() {
    let (mut bench, id) = bench();
    bench.driver.received(id, &mut b"first,".to_vec(), bench.now);
    bench.server().push(id, "<frame>");
    assert_eq!(text(&lease(&mut bench, id)), b"first,<frame>");
    bench.driver.received(id, &mut b"second".to_vec(), bench.now);
    bench.driver.wrote(id, 13, bench.now);
    assert_eq!(text(&lease(&mut bench, id)), b"second");
}

#[test]
fn finish_waits_for_the_lease_and_for_the_rest_of_its_frame() {
    let (mut bench, id) = bench();
    bench.server().push(id, "<first>");
    bench.server().push(id, "<second>");
    assert_eq!(text(&lease(&mut bench, id)), b"<first><second>");
    bench.driver.ended(id, bench.now);
    assert!(lease(&mut bench, id).is_empty());
    assert!(!bench.driver.wants(id).shutdown);
    bench.driver.wrote(id, 9, bench.now);
    assert_eq!(text(&lease(&mut bench, id)), b"econd>");
    bench.driver.wrote(id, 6, bench.now);
    assert!(lease(&mut bench, id).is_empty());
    assert!(bench.driver.wants(id).close);
}

#[test]
fn a_close_does_not_wait_for_the_lease() {
    let (mut bench, id) = bench();
    bench.server().push(id, "<frame>");
    let _in_flight = lease(&mut bench, id);
    bench.server().on_receive = alloc::boxed::Box::new(|_input, _out| After::Abort);
    bench.driver.received(id, &mut [b'x'], bench.now);
    assert!(bench.driver.wants(id).close, "the bytes are the runtime's own; closing ends the write");
    bench.driver.release(id);
    bench.driver.wrote(id, 7, bench.now);
    assert_eq!(bench.driver.server().counts, (1, 1));
}

#[test]
fn a_drain_ends_although_a_lease_is_out() {
    let (mut bench, id) = bench();
    bench.server().push(id, "<frame>");
    let _in_flight = lease(&mut bench, id);
    bench.driver.drain(bench.now.later(Duration::from_secs(1)).instant, bench.now);
    bench.pass_secs(1);
    assert!(bench.driver.is_drained());
}

#[test]
fn a_lease_that_is_never_written_stalls() {
    let (mut bench, id) = bench();
    bench.server().push(id, "<frame>");
    let _in_flight = lease(&mut bench, id);
    bench.log();
    bench.pass_secs(61);
    assert_eq!(bench.log(), ["0: closed WriteStalled"]);
    assert!(bench.is_closed(id));
}

#[test]
fn a_lease_with_no_room_lends_nothing_and_loses_nothing() {
    let (mut bench, id) = bench();
    bench.server().on_resume = alloc::boxed::Box::new(|out| {
        out.put(b"own");
        After::Open
    });
    bench.server().push(id, "<frame>");
    while bench.driver.next_ready(bench.now).is_some() {}
    let mut none = Leases::new(0);
    bench.driver.lease(id, &mut none, bench.now);
    assert!(none.is_empty());
    assert!(bench.driver.wants(id).write, "nothing is out");
    bench.driver.wrote(id, 3, bench.now);
    assert_eq!(text(&lease(&mut bench, id)), b"own<frame>");
}

#[test]
fn a_lease_that_was_not_written_is_asked_for_again() {
    let (mut bench, id) = bench();
    bench.server().push(id, "<frame>");
    let _not_written = lease(&mut bench, id);
    bench.driver.wrote(id, 0, bench.now);
    assert_eq!(text(&lease(&mut bench, id)), b"<frame>");
}
