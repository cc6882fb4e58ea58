//! Bugs that others had, which are not here. `docs/conformance-websocket.md` says whose they were.

use core::time::Duration;

use super::super::Expired;
use super::super::frame::HeadError;
use super::*;

#[test]
fn bug_a_close_with_a_code_and_no_reason() {
    for role in BOTH {
        let seen = received(role, &close_frame(role, 1000, b""));
        assert_eq!(seen.items, [Item::Closed(Some(1000), String::new(), true)]);
        assert_eq!(heard_by_peer(role, &seen.out), seen.items);
    }
}

#[test]
fn bug_a_close_frame_in_several_reads_loses_its_code() {
    for role in BOTH {
        let bytes = close_frame(role, 4000, b"22 bytes of the reason");
        let mut caller = Caller::new(connection(role, Config::default()));
        let (front, back) = bytes.split_at(14);
        caller.offer(front, false, Now::default());
        assert_eq!((&caller.seen.items[..], caller.connection.is_closing()), (&[][..], false));
        caller.offer(back, false, Now::default());
        assert_eq!(caller.seen.items, [Item::Closed(Some(4000), "22 bytes of the reason".into(), true)]);
    }
}

#[test]
fn bug_a_close_reason_as_long_as_it_may_be_breaks_the_answer() {
    for role in BOTH {
        let reason = "é".repeat(61) + "!";
        let seen = received(role, &close_frame(role, 1000, reason.as_bytes()));
        assert_eq!(seen.items, [Item::Closed(Some(1000), reason, true)]);
        assert_eq!(heard_by_peer(role, &seen.out), [Item::Closed(Some(1000), String::new(), true)]);
    }
}

#[test]
fn bug_half_a_head_is_forgotten_when_a_read_is_given_up() {
    for role in BOTH {
        let bytes = frame(role, FIN, Opcode::Binary, &[7; 300]);
        let head = bytes.len() - 300;
        let mut connection = connection(role, Config::default());
        for end in 0..head {
            let mut part = bytes[..end].to_vec();
            let mut input = Input::new(&mut part);
            let event = connection.recv(&mut input, &mut Vec::new(), Now::default());
            assert_eq!(
                (event, input.consumed()),
                (Ok(Event::NeedMore), 0),
                "the caller keeps all {end} bytes"
            );
        }
        let mut caller = Caller::new(connection);
        caller.offer(&bytes, false, Now::default());
        assert_eq!(caller.seen.items, [Item::Binary(vec![7; 300])]);
    }
}

#[test]
fn bug_a_length_in_several_reads() {
    for role in BOTH {
        for len in [126, 65_536] {
            let bytes = frame(role, FIN, Opcode::Binary, &vec![1; len]);
            for cut in 2..bytes.len() - len {
                let (front, back) = bytes.split_at(cut);
                let seen = play(|| connection(role, Config::default()), &[front, back]);
                assert_eq!(seen.items, [Item::Binary(vec![1; len])], "{len} cut at {cut}");
            }
        }
    }
}

#[test]
fn bug_the_key_is_not_turned_where_a_read_ends() {
    let payload: Vec<u8> = (0..=255).collect();
    let bytes = frame(Role::Server, FIN, Opcode::Binary, &payload);
    for size in 1..20 {
        let seen = play(|| connection(Role::Server, Config::default()), &cuts::by(&bytes, &[size]));
        assert_eq!(seen.items, [Item::Binary(payload.clone())], "in pieces of {size}");
    }
}

#[test]
fn bug_only_data_frames_have_their_mask_bit_checked() {
    let codes = [HeadError::Unmasked, HeadError::Masked];
    for (role, error) in BOTH.into_iter().zip(codes) {
        for opcode in [Opcode::Close, Opcode::Ping, Opcode::Pong] {
            let wrong = frame(other(role), FIN, opcode, b"");
            assert_eq!(refused(role, &wrong), RecvError::Head(error));
            let wrong = frame(other(role), FIN, opcode, &1000u16.to_be_bytes());
            assert_eq!(refused(role, &wrong), RecvError::Head(error));
        }
    }
}

#[test]
fn bug_a_client_s_control_frames_are_not_masked() {
    let mut client = connection(Role::Client, Config::default());
    let mut out = Vec::new();
    client.ping(b"ping", &mut out, Now::default()).unwrap();
    let mut pinged = *b"\x89\x02hi";
    client.recv(&mut Input::new(&mut pinged), &mut out, Now::default()).unwrap();
    client.close(CloseCode::NORMAL, "bye", &mut out, Now::default()).unwrap();
    let items =
        [Item::Ping(b"ping".into()), Item::Pong(b"hi".into()), Item::Closed(Some(1000), "bye".into(), true)];
    // A server reads them, and it refuses what is not masked.
    assert_eq!(heard_by_peer(Role::Client, &out), items);
    assert_eq!([out[1], out[11], out[19]], [0x84, 0x82, 0x85]);
}

#[test]
fn bug_a_reserved_bit_on_a_continuation_passes() {
    for role in BOTH {
        let mut further = frame(role, FIN, Opcode::Continuation, b"b");
        further[0] |= 0x40;
        let bytes = [frame(role, MORE, Opcode::Text, b"a"), further].concat();
        assert_eq!(refused(role, &bytes), RecvError::Head(HeadError::ReservedBits));
    }
}

#[test]
fn bug_messages_in_front_of_a_malformed_frame_are_lost() {
    for role in BOTH {
        let bytes =
            [text(role, "one"), frame(role, FIN, Opcode::Ping, b"?"), text(role, "two"), vec![0xff; 4]];
        let seen = received(role, &bytes.concat());
        assert_eq!(seen.items, [Item::Text("one".into()), Item::Ping(b"?".into()), Item::Text("two".into())]);
        assert_eq!(seen.error, Some(RecvError::Head(HeadError::ReservedBits)));
    }
}

#[test]
fn bug_the_kind_of_a_message_outlives_it() {
    for role in BOTH {
        let message = |opcode, bytes: [&[u8]; 2]| {
            [frame(role, MORE, opcode, bytes[0]), frame(role, FIN, Opcode::Continuation, bytes[1])].concat()
        };
        let bytes = [
            message(Opcode::Text, [b"a", b"b"]),
            message(Opcode::Binary, [b"\xff", b"\xfe"]),
            message(Opcode::Text, [b"c", b"d"]),
        ];
        let items = [Item::Text("ab".into()), Item::Binary(vec![0xff, 0xfe]), Item::Text("cd".into())];
        assert_eq!(received(role, &bytes.concat()).items, items);
    }
}

#[test]
fn bug_code_points_across_the_blocks_of_a_validator() {
    for before in 0..200 {
        let message = "a".repeat(before) + "😀é" + &"b".repeat(70);
        let seen = play(|| connection(Role::Client, Config::default()), &[&text(Role::Client, &message)[..]]);
        assert_eq!(seen.items, [Item::Text(message)]);
    }
}

#[test]
fn bug_text_that_is_not_utf8_is_answered_with_another_code() {
    for role in BOTH {
        let seen = received(role, &frame(role, FIN, Opcode::Text, b"\xff"));
        let said = Item::Closed(Some(1007), RecvError::InvalidText.reason().into(), true);
        assert_eq!(heard_by_peer(role, &seen.out), [said]);
    }
}

#[test]
fn bug_fragments_are_checked_as_if_each_were_a_text() {
    for role in BOTH {
        let mut bytes = Vec::new();
        for (index, byte) in "κόσμε 😀".bytes().enumerate() {
            bytes.extend(frame(
                role,
                MORE,
                if index == 0 { Opcode::Text } else { Opcode::Continuation },
                &[byte],
            ));
        }
        bytes.extend(frame(role, FIN, Opcode::Continuation, b""));
        assert_eq!(received(role, &bytes).items, [Item::Text("κόσμε 😀".into())]);
    }
}

#[test]
fn bug_many_messages_sent_at_once() {
    for role in BOTH {
        let (mut sender, mut out) = (connection(role, Config::default()), Vec::new());
        let items: Vec<_> = (0..5000).map(|index| Item::Text(index.to_string())).collect();
        for item in &items {
            let Item::Text(text) = item else { continue };
            sender.send_text(text, &mut out).unwrap();
        }
        assert_eq!(heard_by_peer(role, &out), items);
    }
}

#[test]
fn bug_a_ping_that_is_out_puts_off_an_earlier_idle_deadline() {
    let config = Config {
        idle_timeout: Some(Duration::from_secs(10)),
        pong_timeout: Duration::from_secs(20),
        ping_interval: None,
        ..Config::default()
    };
    for role in BOTH {
        let mut idle = connection(role, config.clone());
        idle.ping(b"", &mut Vec::new(), Now::default().later(Duration::from_secs(9))).unwrap();
        let end = Now::default().later(Duration::from_secs(10));
        assert_eq!(idle.deadline(), Some(end.instant));
        assert_eq!(idle.on_deadline(&mut Vec::new(), end), Some(Expired::Idle));
    }
}

#[test]
fn bug_parts_of_a_message_are_no_sign_of_life() {
    let config = Config { idle_timeout: Some(Duration::from_secs(10)), ..Config::default() };
    for role in BOTH {
        let start = [frame(role, MORE, Opcode::Binary, b"a"), frame(role, MORE, Opcode::Continuation, b"")];
        let mut caller = Caller::new(connection(role, config.clone()));
        for (second, part) in [8, 16].into_iter().zip(start) {
            let now = Now::default().later(Duration::from_secs(second));
            caller.offer(&part, false, now);
            assert_eq!(caller.connection.deadline(), Some(now.later(Duration::from_secs(10)).instant));
        }
    }
}

#[test]
fn bug_a_ping_while_the_connection_closes() {
    for role in BOTH {
        let mut caller = Caller::new(connection(role, Config::default()));
        caller.connection.close(CloseCode::NORMAL, "", &mut Vec::new(), Now::default()).unwrap();
        caller.offer(&frame(role, FIN, Opcode::Ping, b"?"), false, Now::default());
        assert_eq!((&caller.seen.items[..], caller.seen.error), (&[Item::Ping(b"?".into())][..], None));
        caller.offer(&close_frame(role, 1000, b""), false, Now::default());
        assert!(caller.connection.is_closed());
    }
}

#[test]
fn bug_a_length_that_overflows_what_it_is_added_to() {
    for role in BOTH {
        let mask: &[u8] = if role == Role::Server { &KEY } else { &[] };
        let bit = if role == Role::Server { 0x80 } else { 0 };
        for len in [u64::MAX, u64::MAX - 3, 1 << 63, u64::MAX >> 1] {
            let long = [&[0x82, 0x7f | bit][..], &len.to_be_bytes(), mask, b"abc"].concat();
            let error = refused(role, &long);
            let top = RecvError::Head(HeadError::LengthTooLong);
            assert_eq!(error, if len >> 63 == 1 { top } else { RecvError::MessageTooLarge });
            // Nor does what a message has already make room for it.
            let begun =
                [frame(role, MORE, Opcode::Binary, b"x"), [&[0x80][..], &long[1..]].concat()].concat();
            assert_eq!(received(role, &begun).error, Some(error));
        }
    }
}

#[test]
fn bug_control_frames_count_as_part_of_the_message_around_them() {
    for role in BOTH {
        let small = || connection(role, Config { message_bytes: 4, ..Config::default() });
        let bytes = [
            frame(role, MORE, Opcode::Binary, b"ab"),
            frame(role, FIN, Opcode::Ping, b"longer than the limit"),
            frame(role, FIN, Opcode::Continuation, b"cd"),
        ];
        let items = [Item::Ping(b"longer than the limit".into()), Item::Binary(b"abcd".into())];
        assert_eq!(received_by(small, &bytes.concat()).items, items);
    }
}
