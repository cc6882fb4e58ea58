//! What is sent, and what the caller is refused.

use super::super::{Message, Prepared, SendError};
use super::*;

const TEXT: MessageKind = MessageKind::Text;
const BINARY: MessageKind = MessageKind::Binary;

#[test]
fn golden_frames_as_a_server_sends_them() {
    let (mut server, mut out) = (connection(Role::Server, Config::default()), Vec::new());
    server.send(TEXT, b"Hello", &mut out).unwrap();
    server.send_part(TEXT, b"Hel", false, &mut out).unwrap();
    server.send_part(TEXT, b"lo", true, &mut out).unwrap();
    server.ping(b"Hello", &mut out, Now::default()).unwrap();
    assert_eq!(out, b"\x81\x05Hello\x01\x03Hel\x80\x02lo\x89\x05Hello");
    out.clear();
    server.send(BINARY, &[7; 256], &mut out).unwrap();
    assert_eq!((&out[..5], out.len()), (&b"\x82\x7e\x01\x00\x07"[..], 260));
    out.clear();
    server.send(BINARY, &vec![7; 65536], &mut out).unwrap();
    assert_eq!((&out[..11], out.len()), (&b"\x82\x7f\0\0\0\0\0\x01\0\0\x07"[..], 65546));
}

#[test]
fn row_masking_a_client_s_keys_are_its_seed_s_and_never_the_same_twice() {
    let keys = |seed| {
        let mut client = Connection::new(Role::Client, Arc::default(), seed, Now::default());
        let mut out = Vec::new();
        for _ in 0..100 {
            client.send(BINARY, b"", &mut out).unwrap();
        }
        out.chunks(6).map(|frame| frame[2..].to_vec()).collect::<Vec<_>>()
    };
    let mut all = [keys(1), keys(2)].concat();
    assert_eq!(keys(1), all[..100]);
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 200);
}

#[test]
fn a_client_s_payloads_of_every_length_around_its_mask_buffer_arrive() {
    for len in [0, 1, 1023, 1024, 1025, 2048, 5001] {
        let payload: Vec<u8> = (0..len).map(|index: u32| index as u8).collect();
        let (mut client, mut out) = (connection(Role::Client, Config::default()), Vec::new());
        client.send(BINARY, &payload, &mut out).unwrap();
        assert_eq!(heard_by_peer(Role::Client, &out), [Item::Binary(payload)]);
    }
}

#[test]
fn row_prepared_messages_are_what_would_be_sent() {
    let (mut server, mut out) = (connection(Role::Server, Config::default()), Vec::new());
    let large = vec![0xff; 70_000];
    for message in [Message::Text("shared"), Message::Binary(&large)] {
        out.clear();
        server.send(message.kind(), message.as_bytes(), &mut out).unwrap();
        let prepared = Prepared::new(message);
        assert_eq!(prepared.for_connection(&server).unwrap()[..], out);
        assert_eq!(prepared.uncompressed()[..], out);
        let head = server.frame_head(message.kind(), message.as_bytes().len() as u64).unwrap();
        assert_eq!([head.as_ref(), message.as_bytes()].concat(), out);
    }
    let prepared = Prepared::new(Message::Text("shared"));
    server.send_part(TEXT, b"a", false, &mut out).unwrap();
    assert_eq!(prepared.for_connection(&server), Err(SendError::MessageUnfinished));
    let client = connection(Role::Client, Config::default());
    assert_eq!(prepared.for_connection(&client), Err(SendError::MustMask));
}

#[test]
fn nothing_goes_between_the_parts_of_a_message_but_control_frames() {
    for role in BOTH {
        let (mut sender, mut out) = (connection(role, Config::default()), Vec::new());
        sender.send_part(BINARY, b"a", false, &mut out).unwrap();
        let before = out.clone();
        assert_eq!(sender.send(BINARY, b"x", &mut out), Err(SendError::MessageUnfinished));
        assert_eq!(sender.send_text("x", &mut out), Err(SendError::MessageUnfinished));
        assert_eq!(sender.send_part(TEXT, b"x", true, &mut out), Err(SendError::OtherKind));
        let whole = match role {
            Role::Server => SendError::MessageUnfinished,
            Role::Client => SendError::MustMask,
        };
        assert_eq!(sender.may_send(), Err(whole));
        assert_eq!(sender.frame_head(BINARY, 1).err(), Some(whole));
        assert_eq!(out, before, "a refusal puts nothing");

        sender.ping(b"?", &mut out, Now::default()).unwrap();
        sender.send_part(BINARY, b"", true, &mut out).unwrap();
        sender.send_text("after", &mut out).unwrap();
        let items = [Item::Ping(b"?".into()), Item::Binary(b"a".into()), Item::Text("after".into())];
        assert_eq!(heard_by_peer(role, &out), items);
    }
}

#[test]
fn row_close_no_message_after_it_whoever_began() {
    for (role, inside) in BOTH.into_iter().flat_map(|role| [(role, false), (role, true)]) {
        let sender = || {
            let mut sender = connection(role, Config::default());
            if inside {
                sender.send_part(TEXT, b"x", false, &mut Vec::new()).unwrap();
            }
            sender
        };
        let mut began = sender();
        began.close(CloseCode::NORMAL, "", &mut Vec::new(), Now::default()).unwrap();
        let mut asked = Caller::new(sender());
        asked.offer(&close_frame(role, 1000, b""), false, Now::default());
        let mut failed = Caller::new(sender());
        failed.offer(b"\xff", false, Now::default());
        for mut sender in [began, asked.connection, failed.connection] {
            let mut out = Vec::new();
            assert_eq!(sender.send(BINARY, b"x", &mut out), Err(SendError::Closing));
            assert_eq!(sender.send_text("x", &mut out), Err(SendError::Closing));
            assert_eq!(sender.send_part(TEXT, b"x", true, &mut out), Err(SendError::Closing));
            assert_eq!(sender.ping(b"", &mut out, Now::default()), Err(SendError::Closing));
            let closing = if role == Role::Server { SendError::Closing } else { SendError::MustMask };
            assert_eq!((sender.may_send(), sender.frame_head(TEXT, 0).err()), (Err(closing), Some(closing)));
            assert_eq!(out, b"");
        }
    }
}

#[test]
fn text_that_is_not_utf8_is_the_caller_s_mistake() {
    let (mut sender, mut out) = (connection(Role::Server, Config::default()), Vec::new());
    assert_eq!(sender.send(TEXT, b"\xff", &mut out), Err(SendError::InvalidText));
    assert_eq!(sender.send_part(TEXT, b"\xe2\x82", true, &mut out), Err(SendError::InvalidText));
    assert_eq!(out, b"");
    sender.send_part(TEXT, b"\xe2\x82", false, &mut out).unwrap();
    assert_eq!(sender.send_part(TEXT, b"\xff", false, &mut out), Err(SendError::InvalidText));
    // A refusal changes nothing: the code point can still be finished.
    sender.send_part(TEXT, b"\xac", true, &mut out).unwrap();
    sender.send_part(TEXT, b"ok", true, &mut out).unwrap();
    assert_eq!(heard_by_peer(Role::Server, &out), [Item::Text("€".into()), Item::Text("ok".into())]);
}

#[test]
fn what_no_frame_can_hold_is_refused() {
    let (mut sender, mut out) = (connection(Role::Server, Config::default()), Vec::new());
    assert_eq!(sender.ping(&[0; 126], &mut out, Now::default()), Err(SendError::ControlTooLong));
    let reason = "x".repeat(124);
    assert_eq!(
        sender.close(CloseCode::NORMAL, &reason, &mut out, Now::default()),
        Err(SendError::ControlTooLong)
    );
    assert_eq!(sender.frame_head(BINARY, 1 << 63).err(), Some(SendError::FrameTooLong));
    assert!(sender.frame_head(BINARY, (1 << 63) - 1).is_ok());
    assert!(out.is_empty() && !sender.is_closing());
    sender.ping(&[0; 125], &mut out, Now::default()).unwrap();
    sender.close(CloseCode::NORMAL, &reason[1..], &mut out, Now::default()).unwrap();
    let items = [Item::Ping(vec![0; 125]), Item::Closed(Some(1000), reason[1..].to_owned(), true)];
    assert_eq!(heard_by_peer(Role::Server, &out), items);
}

#[test]
fn the_seed_and_the_keys_are_not_in_the_debug_output() {
    let shown =
        format!("{:?}", Connection::new(Role::Client, Arc::default(), 0x1234_5678_9abc, Now::default()));
    assert!(
        shown.contains("MaskingKeys(..)") && !shown.contains(&0x1234_5678_9abc_u64.to_string()),
        "{shown}"
    );
}
