//! How connections end.

use super::*;

#[test]
fn row_close_is_answered_with_the_same_code() {
    for role in BOTH {
        for code in [1000, 1001, 1003, 1007, 1011, 1014, 3000, 4999] {
            let seen = received(role, &close_frame(role, code, b"bye"));
            assert_eq!(seen.items, [Item::Closed(Some(code), "bye".into(), true)]);
            assert_eq!(heard_by_peer(role, &seen.out), [Item::Closed(Some(code), String::new(), true)]);
        }
    }
}

#[test]
fn row_close_without_a_code_is_answered_without_one() {
    for role in BOTH {
        let seen = received(role, &frame(role, FIN, Opcode::Close, b""));
        assert_eq!(seen.items, [Item::Closed(None, String::new(), true)]);
        assert_eq!(heard_by_peer(role, &seen.out), seen.items);
    }
}

#[test]
fn row_close_payload_has_no_byte_or_at_least_two() {
    for role in BOTH {
        assert_eq!(refused(role, &frame(role, FIN, Opcode::Close, b"\x03")), RecvError::CloseTooShort);
    }
}

#[test]
fn row_close_codes_that_are_not_for_the_wire_are_refused() {
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
        assert_eq!(refused(Role::Server, &close_frame(Role::Server, code, b"")), RecvError::InvalidCloseCode);
    }
}

#[test]
fn row_close_reasons_are_utf8() {
    let bytes = close_frame(Role::Server, 1000, b"\xce\xba\xed\xa0\x80");
    assert_eq!(refused(Role::Server, &bytes), RecvError::InvalidCloseReason);
    let cut = close_frame(Role::Server, 1000, b"\xe2\x82");
    assert_eq!(refused(Role::Server, &cut), RecvError::InvalidCloseReason);
    let longest = close_frame(Role::Server, 1000, &[b'x'; 123]);
    assert_eq!(received(Role::Server, &longest).items, [Item::Closed(Some(1000), "x".repeat(123), true)]);
}

#[test]
fn row_close_what_follows_it_is_ignored() {
    for role in BOTH {
        let close = close_frame(role, 1000, b"");
        let followers = [
            text(role, "late"),
            frame(role, FIN, Opcode::Ping, b"late"),
            close_frame(role, 1001, b""),
            b"\xff\xff".into(),
        ];
        let seen = received(role, &[close.clone(), followers.concat()].concat());
        assert_eq!(seen.items, [Item::Closed(Some(1000), String::new(), true)]);
        assert_eq!((seen.out.len(), seen.error), (received(role, &close).out.len(), None));
    }
}

#[test]
fn row_close_inside_a_fragmented_message() {
    let bytes = [frame(Role::Server, MORE, Opcode::Text, b"a"), close_frame(Role::Server, 1000, b"")];
    let seen = received(Role::Server, &bytes.concat());
    assert_eq!(seen.items, [Item::Closed(Some(1000), String::new(), true)]);
}

#[test]
fn row_close_the_first_one_wins() {
    for role in BOTH {
        let mut caller = Caller::new(connection(role, Config::default()));
        let Caller { connection, seen, .. } = &mut caller;
        connection.close(CloseCode::GOING_AWAY, "restart", &mut seen.out, Now::default()).unwrap();
        assert!(connection.is_closing() && !connection.is_closed());
        let again = connection.close(CloseCode::NORMAL, "", &mut seen.out, Now::default());
        assert_eq!(again, Err(crate::websocket::SendError::Closing));
        assert_eq!(heard_by_peer(role, &caller.said()), [Item::Closed(Some(1001), "restart".into(), true)]);

        // The peer's answer, or its own that crossed ours, ends it, and is not answered again.
        caller.offer(&close_frame(role, 3000, b"mine"), false, Now::default());
        assert_eq!(caller.seen.items, [Item::Closed(Some(3000), "mine".into(), true)]);
        assert_eq!(caller.said(), b"");
        assert!(caller.connection.is_closed());
    }
}

#[test]
fn what_the_peer_sent_before_its_close_is_still_received_after_ours() {
    for role in BOTH {
        let closing = || {
            let mut connection = connection(role, Config::default());
            connection.close(CloseCode::NORMAL, "", &mut Vec::new(), Now::default()).unwrap();
            connection
        };
        let bytes = [text(role, "late"), frame(role, FIN, Opcode::Ping, b"?"), close_frame(role, 1000, b"")];
        let seen = received_by(closing, &bytes.concat());
        let items = [
            Item::Text("late".into()),
            Item::Ping(b"?".into()),
            Item::Closed(Some(1000), String::new(), true),
        ];
        assert_eq!(seen.items, items);
        // Section 5.5.2: a ping is answered until a Close frame was received.
        assert_eq!(heard_by_peer(role, &seen.out), [Item::Pong(b"?".into())]);
    }
}

#[test]
fn malformed_input_after_our_close_gets_no_second_one() {
    let closing = || {
        let mut connection = connection(Role::Server, Config::default());
        connection.close(CloseCode::NORMAL, "", &mut Vec::new(), Now::default()).unwrap();
        connection
    };
    let seen = received_by(closing, b"\xff");
    assert_eq!((seen.error.map(RecvError::code), seen.out), (Some(CloseCode::PROTOCOL_ERROR), vec![]));
}

#[test]
fn row_close_is_reported_as_not_clean_when_the_stream_just_ends() {
    for role in BOTH {
        let message = text(role, "whole");
        for kept in 0..=message.len() {
            let mut caller = Caller::new(connection(role, Config::default()));
            caller.offer(&message[..kept], true, Now::default());
            assert_eq!(caller.seen.items.last(), Some(&Item::Closed(None, String::new(), false)));
            assert_eq!((caller.buffer.len(), caller.said(), caller.seen.deadline), (0, vec![], None));
            // It is told once.
            let told = caller.seen.items.len();
            caller.offer(b"", true, Now::default());
            assert_eq!(caller.seen.items.len(), told);
        }
    }
}

#[test]
fn a_close_in_front_of_the_end_of_the_stream_is_clean() {
    for role in BOTH {
        let mut caller = Caller::new(connection(role, Config::default()));
        caller.offer(&[text(role, "a"), close_frame(role, 1000, b"")].concat(), true, Now::default());
        let items = [Item::Text("a".into()), Item::Closed(Some(1000), String::new(), true)];
        assert_eq!((&caller.seen.items[..], caller.seen.deadline), (&items[..], None));
    }
}

#[test]
fn our_close_without_the_peer_s_is_not_clean() {
    let mut caller = Caller::new(connection(Role::Server, Config::default()));
    caller.connection.close(CloseCode::NORMAL, "", &mut Vec::new(), Now::default()).unwrap();
    caller.offer(b"", true, Now::default());
    assert_eq!(caller.seen.items, [Item::Closed(None, String::new(), false)]);
}
