//! What a server may rely on when it stops at the mark of its output, and when it names connections that are gone.
#![allow(clippy::unwrap_used, reason = "tests")]

use keepwatch_protocol::{
    Admission, After, Closed, ConnectionId, Driver, DriverConfig, Input, Now, Peer, SendQueue, Server, Sink,
    Slices,
};

/// Answers each byte with two, one event at a time, and says that it has no more only when it is asked once more.
#[derive(Default)]
struct Doubles {
    calls_below_the_mark: usize,
    ready: Vec<ConnectionId>,
    resumed: usize,
    /// What it says when it is resumed.
    news: Vec<u8>,
}

impl Server for Doubles {
    fn open(&mut self, _id: ConnectionId, _peer: &Peer, _now: Now) -> Admission {
        Admission::Admit
    }

    fn receive(&mut self, _: ConnectionId, input: &mut Input<'_>, out: &mut SendQueue, _now: Now) -> After {
        while !out.over_mark() {
            if input.is_empty() {
                self.calls_below_the_mark += 1;
                break;
            }
            let byte = input.take(1);
            out.put(byte);
            out.put(byte);
        }
        After::Open
    }

    fn resume(&mut self, _id: ConnectionId, out: &mut SendQueue, _now: Now) -> After {
        self.resumed += 1;
        out.put(&self.news);
        After::Open
    }

    fn next_ready(&mut self, _now: Now) -> Option<ConnectionId> {
        self.ready.pop()
    }

    fn closed(&mut self, _id: ConnectionId, _why: Closed, _now: Now) {}
}

fn driver(config: impl FnOnce(&mut DriverConfig)) -> (Driver<Doubles>, ConnectionId, Now) {
    let mut limits = DriverConfig::default();
    config(&mut limits);
    let mut driver = Driver::new(Doubles::default(), limits);
    let now = Now::default();
    let id = driver.accept(&Peer::default(), now).unwrap();
    (driver, id, now)
}

/// Does all that is wanted, and returns what was written.
fn run(driver: &mut Driver<Doubles>, now: Now) -> Vec<u8> {
    let mut written = Vec::new();
    while let Some(id) = driver.next_ready(now) {
        while driver.wants(id).write {
            let mut slices = Slices::new(usize::MAX);
            driver.fill(id, &mut slices, now);
            let bytes = slices.parts().concat();
            driver.wrote(id, bytes.len(), now);
            written.extend(bytes);
        }
    }
    written
}

#[test]
fn a_server_that_stopped_at_the_mark_is_called_again_though_all_is_taken() {
    let (mut driver, id, now) = driver(|config| config.output_mark = 3);
    driver.received(id, &mut b"ab".to_vec(), now);
    assert_eq!(
        driver.server().calls_below_the_mark,
        0,
        "it stopped behind the second byte, at four bytes of output"
    );
    assert_eq!(run(&mut driver, now), b"aabb");
    assert_eq!(driver.server().calls_below_the_mark, 1);
}

#[test]
fn a_server_that_said_more_than_the_mark_by_itself_is_called_when_that_is_written() {
    let (mut driver, id, now) = driver(|config| config.output_mark = 3);
    driver.server_mut().ready = vec![id];
    driver.server_mut().news = b"news".to_vec();
    assert_eq!(run(&mut driver, now), b"news");
    assert_eq!(driver.server().calls_below_the_mark, 1);
}

#[test]
fn connections_that_are_gone_do_not_hide_the_ready_ones_behind_them() {
    let (mut driver, id, now) = driver(|config| config.turn = 2);
    run(&mut driver, now);
    let gone = (100..110).map(|slot| ConnectionId::new(slot, 0));
    driver.server_mut().ready = std::iter::once(id).chain(gone).collect();
    run(&mut driver, now);
    assert_eq!(driver.server().resumed, 1);
}
