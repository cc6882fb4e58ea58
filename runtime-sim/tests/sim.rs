//! The simulator itself: the network and time behave as a test may rely on, and what goes wrong is reported.

use std::task::Waker;
use std::time::Duration;

use keepwatch_protocol::{
    Admission, After, Closed, ConnectionId, Fill, Input, Instant, Now, Peer, SendQueue, Server, Sink, Slices,
    UnixMillis,
};
use keepwatch_sim::{Conversation, Order, Random, Sim, SimConfig, SimError, Step, every_split, replay};

/// Answers each line: with itself, with the time for `time`, and with the end for `quit`.
#[derive(Default)]
struct Lines {
    log: Vec<String>,
    waker: Option<Waker>,
    named: Vec<ConnectionId>,
    open: Vec<ConnectionId>,
    /// Misbehave: name a connection all the time, or keep a deadline that has passed.
    names_for_ever: bool,
    deadline: Option<Instant>,
}

impl Server for Lines {
    fn start(&mut self, waker: &Waker, _now: Now) {
        self.waker = Some(waker.clone());
    }

    fn open(&mut self, id: ConnectionId, peer: &Peer, _now: Now) -> Admission {
        if peer.encrypted {
            return Admission::Refuse(b"no".into());
        }
        self.open.push(id);
        Admission::Admit
    }

    fn receive(&mut self, _id: ConnectionId, input: &mut Input<'_>, out: &mut SendQueue, now: Now) -> After {
        while let Some(end) = input.bytes().iter().position(|&byte| byte == b'\n') {
            let line = input.take(end + 1);
            match &line[..end] {
                b"quit" => return After::Finish,
                b"abort" => return After::Abort,
                b"time" => out.put(format!("{}\n", now.unix.0).as_bytes()),
                _ => out.put(line),
            }
        }
        if input.hung_up() { After::Finish } else { After::Open }
    }

    fn resume(&mut self, _id: ConnectionId, out: &mut SendQueue, _now: Now) -> After {
        if !self.names_for_ever {
            out.put(b"news\n");
        }
        After::Open
    }

    fn fill<'a>(&'a mut self, _id: ConnectionId, _to: &mut Slices<'a>, _now: Now) -> Fill {
        Fill::Nothing
    }

    fn next_ready(&mut self, _now: Now) -> Option<ConnectionId> {
        if self.names_for_ever { self.open.first().copied() } else { self.named.pop() }
    }

    fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    fn on_wake(&mut self, _now: Now) {
        self.named = self.open.clone();
    }

    fn drain(&mut self, by: Instant, now: Now) {
        self.log.push(format!("drain within {:?}", by.since(now.instant)));
    }

    fn closed(&mut self, id: ConnectionId, why: Closed, _now: Now) {
        self.open.retain(|open| *open != id);
        self.log.push(format!("{why:?}"));
    }
}

#[test]
fn a_transcript_is_checked_line_by_line() {
    Conversation::new(Lines::default())
        .client("one\ntwo\n")
        .server("one\n")
        .server("two\n")
        .client("time\n")
        .server("*\n")
        .speaker("other")
        .client("hello\n")
        .server_bytes(b"hello\n")
        .silence()
        .speaker("client")
        .with(|sim, client| {
            assert_eq!(client.number(), 0);
            sim.server().waker.as_ref().expect("a waker").wake_by_ref();
        })
        .server("news\n")
        .speaker("other")
        .server("news\n")
        .client("quit\n")
        .server_ends()
        .client_ends()
        .server_closes()
        .end();
}

#[test]
fn a_transcript_shows_where_it_parts() {
    let parted = std::panic::catch_unwind(|| {
        Conversation::new(Lines::default()).client("time\nsecond\n").server("*\nsecund\n").end();
    });
    let message = *parted.expect_err("they differ").downcast::<String>().expect("a message");
    assert!(message.contains(r#"expected: "und\n""#), "{message}");
    assert!(message.contains(r#"it sent:  "ond\n""#), "{message}");
    assert!(message.contains(r"client: time\nsecond\n"), "{message}");
}

#[test]
#[should_panic(expected = "the server also sent\n  two")]
fn a_transcript_that_says_too_little_is_wrong() {
    Conversation::new(Lines::default()).client("one\ntwo\n").server("one\n").end();
}

#[test]
#[should_panic(expected = "should have ended its side")]
fn a_transcript_that_ends_too_early_is_wrong() {
    Conversation::new(Lines::default()).client("one\n").server("one\n").server_ends().end();
}

#[test]
#[should_panic(expected = "what it sent\n  (nothing)")]
fn a_transcript_that_says_too_much_is_wrong() {
    Conversation::new(Lines::default()).client("one").server("one").end();
}

#[test]
fn every_split_gives_the_answer_of_the_whole() {
    let replayed = every_split(Lines::default, b"one\ntwo\nquit\nrest");
    assert_eq!(replayed.bytes, b"one\ntwo\n");
    assert!(replayed.ended);
}

#[test]
#[should_panic(expected = "cut at 1, it is\n  \"aab\"")]
fn a_server_that_depends_on_the_split_is_found() {
    /// Answers with what it sees each time, taken or not.
    struct Leaky;
    impl Server for Leaky {
        fn open(&mut self, _id: ConnectionId, _peer: &Peer, _now: Now) -> Admission {
            Admission::Admit
        }
        fn receive(&mut self, _: ConnectionId, input: &mut Input<'_>, out: &mut SendQueue, _: Now) -> After {
            out.put(input.bytes());
            After::Open
        }
        fn resume(&mut self, _id: ConnectionId, _out: &mut SendQueue, _now: Now) -> After {
            After::Open
        }
        fn closed(&mut self, _id: ConnectionId, _why: Closed, _now: Now) {}
    }
    every_split(|| Leaky, b"ab");
}

#[test]
fn positions_out_of_order_or_range_are_cut_to_what_there_is() {
    let replayed = replay(Lines::default(), b"one\n", &[9, 2]);
    assert_eq!(replayed.map(|replayed| replayed.bytes), Ok(b"one\n".to_vec()));
}

#[test]
fn a_server_that_names_connections_for_ever_is_reported() {
    let mut sim = Sim::new(Lines { names_for_ever: true, ..Lines::default() });
    sim.connect();
    assert!(matches!(sim.run(), Err(SimError::Spinning { .. })));
}

#[test]
fn a_deadline_that_stays_in_the_past_is_reported() {
    let mut sim = Sim::new(Lines { deadline: Some(Instant::START), ..Lines::default() });
    assert_eq!(sim.run(), Err(SimError::DeadlinePassed { deadline: Instant::START }));
}

#[test]
fn waiting_for_what_does_not_happen_ends() {
    let mut sim = Sim::new(Lines::default());
    let waited = sim.run_until(|_sim| false, Duration::from_secs(5));
    assert_eq!(waited, Err(SimError::TimeOver { at: Instant::from_millis(5000) }));
    assert_eq!(sim.run_until(|_sim| true, Duration::from_secs(5)), Ok(Duration::ZERO));
}

#[test]
fn time_passes_on_both_clocks_and_the_wall_clock_may_jump() {
    let mut sim = Sim::new(Lines::default());
    sim.advance(Duration::from_millis(1500)).expect("idle");
    assert_eq!(sim.now().instant, Instant::from_millis(1500));
    assert_eq!(sim.now().unix, UnixMillis(784_111_778_500));
    sim.set_unix(UnixMillis(7));
    let client = sim.connect();
    client.send("time\n");
    sim.run().expect("idle");
    assert_eq!(client.receive(), b"7\n");
}

#[test]
fn a_client_that_does_not_read_blocks_the_server_until_it_does() {
    let mut sim = Sim::new(Lines::default());
    let client = sim.connect();
    client.window(4);
    client.read_limit(0);
    client.send("0123456789\n");
    sim.run().expect("idle");
    assert_eq!(client.received(), 0);
    client.read_limit(6);
    sim.run().expect("idle");
    assert_eq!(client.receive(), b"012345");
    client.read_limit(usize::MAX);
    sim.run().expect("idle");
    assert_eq!(client.receive(), b"6789\n");
}

#[test]
fn a_client_that_never_reads_stalls() {
    let mut sim = Sim::new(Lines::default());
    let client = sim.connect();
    client.window(4);
    client.read_limit(0);
    client.send("0123456789\n");
    sim.advance(Duration::from_secs(61)).expect("idle");
    assert!(client.is_closed());
    assert_eq!(sim.server().log, ["WriteStalled"]);
}

#[test]
fn reads_and_writes_are_as_short_as_they_are_told_to_be() {
    let mut sim = Sim::new(Lines::default());
    let client = sim.connect();
    client.deliver_in(&[1, 2]);
    client.accept_in(&[3]);
    client.send("0123\n");
    sim.run().expect("idle");
    let moved: Vec<_> = sim
        .trace()
        .steps()
        .iter()
        .filter_map(|step| match step {
            Step::Read { bytes, .. } => Some(('r', *bytes)),
            Step::Write { bytes, .. } => Some(('w', *bytes)),
            _ => None,
        })
        .collect();
    assert_eq!(moved, [('r', 1), ('r', 2), ('r', 1), ('r', 1), ('w', 3), ('w', 2)]);
}

#[test]
fn a_half_close_is_heard_and_answered() {
    for reports_hang_up in [true, false] {
        let mut config = SimConfig::default();
        config.reports_hang_up = reports_hang_up;
        let mut sim = Sim::with_config(Lines::default(), config);
        let client = sim.connect();
        client.send("one\n");
        client.shutdown_write();
        client.send("dropped\n");
        sim.run().expect("idle");
        assert_eq!(client.receive(), b"one\n");
        assert!(client.is_ended() && client.is_closed() && !client.was_reset());
    }
}

#[test]
fn a_reset_fails_the_connection() {
    let mut sim = Sim::new(Lines::default());
    let client = sim.connect();
    client.send("one\n");
    client.reset();
    sim.run().expect("idle");
    assert!(client.is_closed());
    assert_eq!(sim.server().log, ["Failed"]);
}

#[test]
fn bytes_sent_to_a_closed_socket_reset_the_connection() {
    let mut sim = Sim::new(Lines::default());
    let client = sim.connect();
    client.send("abort\n");
    sim.run().expect("idle");
    assert!(client.is_closed() && !client.was_reset());
    client.send("late\n");
    assert!(client.was_reset());
}

#[test]
fn a_refused_client_hears_why() {
    let mut sim = Sim::new(Lines::default());
    let mut peer = Peer::default();
    peer.encrypted = true;
    let client = sim.connect_from(&peer);
    sim.run().expect("idle");
    assert_eq!(client.receive(), b"no");
    assert!(client.is_ended() && !client.is_closed());
}

#[test]
fn a_client_over_the_limit_is_closed() {
    let mut config = SimConfig::default();
    config.driver.connections = 0;
    let mut sim = Sim::with_config(Lines::default(), config);
    let client = sim.connect();
    assert!(client.is_closed() && client.is_ended());
    assert_eq!(sim.trace().steps(), [Step::Connect { client: 0, accepted: false }]);
}

#[test]
fn a_drain_ends_when_its_time_is_over() {
    let mut sim = Sim::new(Lines::default());
    let client = sim.connect();
    assert_eq!(sim.drain(Duration::from_secs(3)), Ok(Duration::from_secs(3)));
    assert!(client.is_closed());
    assert_eq!(sim.server().log, ["drain within 3s", "Drained"]);
}

#[test]
fn a_wake_up_from_another_thread_is_heard() {
    let mut sim = Sim::new(Lines::default());
    let client = sim.connect();
    sim.run().expect("idle");
    let waker = sim.server().waker.clone().expect("a waker");
    std::thread::scope(|scope| {
        scope.spawn(move || waker.wake());
    });
    sim.run().expect("idle");
    assert_eq!(client.receive(), b"news\n");
}

/// Ten clients speak at once; returns the order in which they were read, and the hash of the run.
fn storm(order: Order) -> (Vec<usize>, u64) {
    let mut config = SimConfig::default();
    config.order = order;
    let mut sim = Sim::with_config(Lines::default(), config);
    let clients: Vec<_> = (0..10).map(|_| sim.connect()).collect();
    sim.run().expect("idle");
    for client in &clients {
        client.send("x\n");
    }
    sim.run().expect("idle");
    let steps = sim.trace().steps().iter();
    let read =
        steps.filter_map(|step| if let Step::Read { client, .. } = step { Some(*client) } else { None });
    (read.collect(), sim.trace().hash())
}

#[test]
fn a_seed_replays_and_another_seed_differs() {
    let in_order: Vec<_> = (0..10).collect();
    assert_eq!(storm(Order::AsTheyCame).0, in_order);
    let drawn = |seed| storm(Order::Drawn(Random::new(seed)));
    assert_eq!(drawn(1), drawn(1));
    assert_ne!(drawn(1).0, drawn(2).0);
    assert_ne!(drawn(1).1, drawn(2).1);
}

#[test]
fn readiness_that_is_not_there_changes_nothing() {
    Conversation::new(Lines::default())
        .with(|_, client| client.poke())
        .silence()
        .client("one\n")
        .with(|_, client| client.poke())
        .server("one\n")
        .silence()
        .end();
}

#[test]
fn time_that_is_skipped_makes_a_deadline_late_and_nothing_else() {
    let mut sim = Sim::new(Lines::default());
    sim.start_drain(Duration::from_secs(1));
    let start = sim.now().instant;
    sim.skip(Duration::from_secs(90));
    assert!(sim.is_idle(), "nothing happened but time");
    assert_eq!(sim.now().instant.since(start), Duration::from_secs(90));
    sim.run().unwrap();
    assert!(sim.driver().is_drained());
}

#[test]
fn what_a_driver_holds_for_a_connection_is_told() {
    let mut sim = Sim::new(Lines::default());
    let client = sim.connect();
    client.window(4);
    client.read_limit(0);
    client.send("answer\nno line yet");
    sim.run().unwrap();
    let buffered = sim.driver().buffered();
    assert_eq!((buffered.unread, buffered.output), ("no line yet".len(), "answer\n".len() - 4));
}
