//! Deadlines.

use core::time::Duration;

use proptest::prelude::*;

use super::super::Expired;
use super::*;

fn at(seconds: u64) -> Now {
    Now::default().later(Duration::from_secs(seconds))
}

/// A connection that pings between 28 and 32 seconds of silence, and expires 20 seconds after that.
fn caller(role: Role, config: Config) -> Caller {
    Caller::new(connection(role, Config { ping_interval: Some(Duration::from_secs(32)), ..config }))
}

fn fire(caller: &mut Caller, now: Now) -> (Option<Expired>, Vec<Item>) {
    let expired = caller.connection.on_deadline(&mut caller.seen.out, now);
    assert!(caller.connection.deadline().is_none_or(|next| next > now.instant));
    let said = caller.said();
    (expired, heard_by_peer(caller.connection.role, &said))
}

#[test]
fn row_timers_a_silent_peer_is_pinged_and_then_given_up() {
    for role in BOTH {
        let mut caller = caller(role, Config::default());
        assert_eq!(fire(&mut caller, at(27)), (None, vec![]));
        assert_eq!(fire(&mut caller, at(32)), (None, vec![Item::Ping(vec![])]));
        assert_eq!(caller.connection.deadline(), Some(at(52).instant));
        let farewell = Item::Closed(Some(1011), "no pong".into(), true);
        assert_eq!(fire(&mut caller, at(52)), (Some(Expired::PongMissing), vec![farewell]));
        assert!(caller.connection.is_closed() && caller.connection.deadline().is_none());
    }
}

#[test]
fn a_pong_is_not_missed_while_the_ping_waits_to_be_written() {
    for role in BOTH {
        let mut caller = caller(role, Config::default());
        assert!(!caller.connection.postpone_pong(at(20)), "no ping was sent");
        fire(&mut caller, at(32));
        assert!(caller.connection.postpone_pong(at(52)));
        assert_eq!(caller.connection.deadline(), Some(at(72).instant));
        assert_eq!(fire(&mut caller, at(71)), (None, vec![]));
        assert_eq!(fire(&mut caller, at(72)).0, Some(Expired::PongMissing));
        assert!(!caller.connection.postpone_pong(at(73)), "it is given up");
    }
}

#[test]
fn row_timers_anything_heard_is_a_sign_of_life() {
    for role in BOTH {
        let message = frame(role, MORE, Opcode::Binary, &[1; 100]);
        let signs = [frame(role, FIN, Opcode::Pong, b""), frame(role, FIN, Opcode::Ping, b""), message];
        for sign in signs {
            let mut caller = caller(role, Config::default());
            fire(&mut caller, at(32));
            caller.offer(&sign, false, at(50));
            caller.said();
            let next = caller.connection.deadline().unwrap();
            assert!((at(78).instant..=at(82).instant).contains(&next), "{next:?}");
        }
        // Also a part of a frame.
        let mut caller = caller(role, Config::default());
        caller.offer(&frame(role, FIN, Opcode::Binary, &[1; 100])[..50], false, at(20));
        assert_eq!(fire(&mut caller, at(47)), (None, vec![]));
        caller.offer(&[0; 10], false, at(47));
        assert_eq!(fire(&mut caller, at(74)), (None, vec![]));
    }
}

#[test]
fn the_head_of_a_frame_is_a_sign_of_life_before_its_payload() {
    for role in BOTH {
        let mut caller = caller(role, Config::default());
        let frame = frame(role, FIN, Opcode::Binary, &[1; 100]);
        caller.offer(&frame[..frame.len() - 100], false, at(20));
        assert_eq!(fire(&mut caller, at(47)), (None, vec![]));
    }
}

#[test]
fn a_message_without_bytes_is_a_sign_of_life_whatever_is_behind_it() {
    for role in BOTH {
        let mut caller = caller(role, Config::default());
        caller.offer(&[&text(role, "")[..], b"\x82"].concat(), false, at(20));
        assert_eq!(fire(&mut caller, at(47)), (None, vec![]));
    }
}

#[test]
fn a_caller_s_pings_do_not_put_off_the_first_one_s_deadline() {
    let mut caller = caller(Role::Server, Config::default());
    for second in [1, 5, 9] {
        caller.connection.ping(b"", &mut Vec::new(), at(second)).unwrap();
    }
    assert_eq!(caller.connection.deadline(), Some(at(21).instant));
}

#[test]
fn row_timers_the_closing_has_a_deadline_that_nothing_but_the_close_lifts() {
    for role in BOTH {
        let mut caller = caller(role, Config::default());
        caller.connection.close(CloseCode::NORMAL, "", &mut Vec::new(), at(10)).unwrap();
        caller.offer(&text(role, "still here"), false, at(14));
        assert_eq!(caller.connection.deadline(), Some(at(15).instant));
        assert_eq!(fire(&mut caller, at(15)), (Some(Expired::CloseMissing), vec![]));
        assert!(caller.connection.is_closed());
    }
}

#[test]
fn row_close_the_server_closes_first_and_the_client_waits_with_a_deadline() {
    let mut server = caller(Role::Server, Config::default());
    server.offer(&close_frame(Role::Server, 1000, b""), false, at(1));
    assert_eq!(server.connection.deadline(), None);

    let mut client = caller(Role::Client, Config::default());
    client.offer(&close_frame(Role::Client, 1000, b""), false, at(1));
    client.said();
    assert_eq!(client.connection.deadline(), Some(at(6).instant));
    assert_eq!(fire(&mut client, at(6)), (Some(Expired::CloseMissing), vec![]));

    let mut began = caller(Role::Client, Config::default());
    began.connection.close(CloseCode::NORMAL, "", &mut Vec::new(), at(1)).unwrap();
    began.offer(&close_frame(Role::Client, 1000, b""), false, at(4));
    assert_eq!(began.connection.deadline(), Some(at(9).instant));

    let mut client = caller(Role::Client, Config::default());
    client.offer(&close_frame(Role::Client, 1000, b""), false, at(1));
    client.offer(b"", true, at(2));
    assert_eq!(client.connection.deadline(), None);
}

#[test]
fn row_timers_idleness_is_about_messages_only() {
    let config = Config { idle_timeout: Some(Duration::from_secs(60)), ..Config::default() };
    for role in BOTH {
        let mut caller = caller(role, config.clone());
        caller.offer(&text(role, "a"), false, at(25));
        caller.offer(&frame(role, FIN, Opcode::Pong, b""), false, at(50));
        caller.offer(&frame(role, FIN, Opcode::Pong, b""), false, at(75));
        assert_eq!(caller.connection.deadline(), Some(at(85).instant));
        let farewell = Item::Closed(Some(1001), "idle".into(), true);
        assert_eq!(fire(&mut caller, at(85)), (Some(Expired::Idle), vec![farewell]));
    }
}

#[test]
fn without_timeouts_there_is_no_deadline_until_a_ping_or_the_closing() {
    let mut connection = connection(Role::Server, Config { ping_interval: None, ..Config::default() });
    assert_eq!(connection.deadline(), None);
    connection.ping(b"", &mut Vec::new(), at(1)).unwrap();
    assert_eq!(connection.deadline(), Some(at(21).instant));
}

#[test]
fn connections_opened_together_do_not_ping_together() {
    let deadline =
        |seed| Connection::new(Role::Server, Arc::default(), seed, Now::default()).deadline().unwrap();
    let mut all: Vec<_> = (0..1000).map(deadline).collect();
    all.sort();
    assert!(all[0] > Instant::from_millis(26_250) && all[999] <= Instant::from_millis(30_000));
    all.dedup();
    assert!(all.len() > 200, "{}", all.len());
}

#[test]
fn timeouts_without_end_and_clocks_at_their_end_are_no_deadlines() {
    let endless =
        Config { ping_interval: Some(Duration::MAX), idle_timeout: Some(Duration::MAX), ..Config::default() };
    assert_eq!(connection(Role::Server, endless).deadline(), None);
    let late = Now { instant: Instant::NEVER, ..Now::default() };
    let mut connection = Connection::new(Role::Server, Arc::default(), 1, late);
    connection.ping(b"", &mut Vec::new(), late).unwrap();
    assert_eq!((connection.deadline(), connection.on_deadline(&mut Vec::new(), late)), (None, None));
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Hear(Opcode, usize),
    Ping,
    Close,
    HangUp,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let opcodes = [Opcode::Text, Opcode::Binary, Opcode::Ping, Opcode::Pong, Opcode::Close];
    prop::collection::vec(
        prop_oneof![
            4 => (0u64..3000).prop_map(Step::Wait),
            4 => (prop::sample::select(opcodes.to_vec()), 0usize..4).prop_map(|(opcode, len)| Step::Hear(opcode, len)),
            1 => Just(Step::Ping),
            1 => Just(Step::Close),
            1 => Just(Step::HangUp),
        ],
        0..30,
    )
}

proptest! {
    #[test]
    fn after_a_deadline_was_acted_on_the_next_is_later(
        steps in steps(), client: bool, seed: u64, times in prop::array::uniform4(prop::option::of(0u64..2000))
    ) {
        let role = if client { Role::Client } else { Role::Server };
        let [ping, pong, close, idle] = times.map(|time| time.map(Duration::from_millis));
        let config = Config {
            ping_interval: ping,
            pong_timeout: pong.unwrap_or_default(),
            close_timeout: close.unwrap_or_default(),
            idle_timeout: idle,
            ..Config::default()
        };
        let mut caller = Caller::new(Connection::new(role, Arc::new(config), seed, Now::default()));
        let mut now = Now::default();
        for step in steps {
            match step {
                Step::Wait(millis) => now = now.later(Duration::from_millis(millis)),
                Step::Hear(opcode, len) => caller.offer(&frame(role, FIN, opcode, &b"\x03\xe8ab"[..len]), false, now),
                Step::Ping => drop(caller.connection.ping(b"", &mut Vec::new(), now)),
                Step::Close => drop(caller.connection.close(CloseCode::NORMAL, "", &mut Vec::new(), now)),
                Step::HangUp => caller.offer(b"", true, now),
            }
            let due = caller.connection.deadline().is_some_and(|at| at <= now.instant);
            let mut out = Vec::new();
            let expired = caller.connection.on_deadline(&mut out, now);
            prop_assert!(caller.connection.deadline().is_none_or(|at| at > now.instant));
            prop_assert!(due || (expired.is_none() && out.is_empty()), "nothing happens early");
            prop_assert!(expired.is_none() || caller.connection.is_closed());
        }
    }
}
