//! What is received, and what is refused.

use super::super::frame::HeadError;
use super::*;

#[test]
fn golden_an_unmasked_text() {
    let seen = received(Role::Client, b"\x81\x05Hello");
    assert_eq!((seen.items, seen.out), (vec![Item::Text("Hello".into())], vec![]));
}

#[test]
fn golden_a_masked_text() {
    let seen = received(Role::Server, b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
    assert_eq!((seen.items, seen.out), (vec![Item::Text("Hello".into())], vec![]));
}

#[test]
fn golden_a_fragmented_text() {
    let seen = received(Role::Client, b"\x01\x03Hel\x80\x02lo");
    assert_eq!(seen.items, [Item::Text("Hello".into())]);
}

#[test]
fn golden_a_ping_and_its_pong() {
    let seen = received(Role::Client, b"\x89\x05Hello");
    assert_eq!(seen.items, [Item::Ping(b"Hello".into())]);
    assert_eq!(heard_by_peer(Role::Client, &seen.out), [Item::Pong(b"Hello".into())]);
    // The masked pong of the RFC, as the server that pinged gets it.
    let pong = received(Role::Server, b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
    assert_eq!((pong.items, pong.out), (vec![Item::Pong(b"Hello".into())], vec![]));
}

#[test]
fn golden_256_bytes_and_64_kib() {
    let medium = [b"\x82\x7e\x01\x00", &[7; 256][..]].concat();
    assert_eq!(received(Role::Client, &medium).items, [Item::Binary(vec![7; 256])]);
    let large = [b"\x82\x7f\0\0\0\0\0\x01\0\0", &vec![9; 65536][..]].concat();
    for size in [1, 1460, 65536, usize::MAX] {
        let seen = play(|| connection(Role::Client, Config::default()), &cuts::by(&large, &[size]));
        assert_eq!(seen.items, [Item::Binary(vec![9; 65536])]);
    }
}

#[test]
fn empty_messages_and_empty_fragments() {
    for role in BOTH {
        let bytes = [
            frame(role, FIN, Opcode::Binary, b""),
            frame(role, MORE, Opcode::Text, b""),
            frame(role, MORE, Opcode::Continuation, b""),
            frame(role, FIN, Opcode::Continuation, b""),
            frame(role, MORE, Opcode::Text, b""),
            frame(role, MORE, Opcode::Continuation, b"a"),
            frame(role, FIN, Opcode::Continuation, b""),
        ];
        let messages = [Item::Binary(vec![]), Item::Text(String::new()), Item::Text("a".into())];
        assert_eq!(received(role, &bytes.concat()).items, messages);
    }
}

#[test]
fn row_ping_flood_owes_the_newest_pong_only() {
    for role in BOTH {
        let flood: Vec<u8> =
            (0u32..10_000).flat_map(|n| frame(role, FIN, Opcode::Ping, &n.to_be_bytes())).collect();
        let seen = play(|| connection(role, Config::default()), &[&flood[..]]);
        assert_eq!(seen.items.len(), 10_000);
        let pongs = heard_by_peer(role, &seen.out);
        assert_eq!(pongs.len(), 17);
        assert_eq!(pongs[15..], [Item::Pong(vec![0, 0, 0, 15]), Item::Pong(9_999u32.to_be_bytes().into())]);
    }
}

#[test]
fn row_ping_flood_is_none_when_few_pings_come_at_a_time() {
    let mut caller = Caller::new(connection(Role::Server, Config::default()));
    for _ in 0..100 {
        caller.offer(&frame(Role::Server, FIN, Opcode::Ping, b"?").repeat(2), false, Now::default());
        assert_eq!(caller.said(), b"\x8a\x01?\x8a\x01?");
    }
}

#[test]
fn row_ping_flood_is_answered_before_a_close_that_follows_it() {
    let mut bytes: Vec<u8> = (0u8..20).flat_map(|n| frame(Role::Server, FIN, Opcode::Ping, &[n])).collect();
    bytes.extend(close_frame(Role::Server, 1000, b""));
    let seen = play(|| connection(Role::Server, Config::default()), &[&bytes[..]]);
    assert_eq!(seen.out[15 * 3..], *b"\x8a\x01\x0f\x8a\x01\x13\x88\x02\x03\xe8");
    // The same in front of something malformed.
    let close = bytes.len() - 8;
    bytes[close] = 0xff;
    let seen = play(|| connection(Role::Server, Config::default()), &[&bytes[..]]);
    assert!(seen.error.is_some() && seen.out[15 * 3..].starts_with(b"\x8a\x01\x0f\x8a\x01\x13\x88"));
}

#[test]
fn a_pong_keeps_its_place_among_the_answers_to_what_came_with_it() {
    let bytes = [
        frame(Role::Server, MORE, Opcode::Text, b"one"),
        frame(Role::Server, FIN, Opcode::Ping, b"?"),
        frame(Role::Server, FIN, Opcode::Continuation, b"two"),
    ];
    let (mut buffer, mut out) = (bytes.concat(), Vec::new());
    let mut connection = connection(Role::Server, Config::default());
    let mut input = Input::new(&mut buffer);
    loop {
        match connection.recv(&mut input, &mut out, Now::default()).unwrap() {
            Event::Data { last: true, .. } => connection.send_text("echo", &mut out).unwrap(),
            Event::NeedMore => break,
            _ => {}
        }
    }
    assert_eq!(out, b"\x8a\x01?\x81\x04echo");
}

#[test]
fn row_fragments_the_cap_is_on_the_message() {
    for role in BOTH {
        let small = || connection(role, Config { message_bytes: 10, ..Config::default() });
        let fits = [
            frame(role, MORE, Opcode::Binary, &[1; 6]),
            frame(role, FIN, Opcode::Continuation, &[2; 4]),
            frame(role, FIN, Opcode::Binary, &[3; 10]),
        ];
        assert_eq!(received_by(small, &fits.concat()).items.len(), 2);
        let exceeds = [
            frame(role, MORE, Opcode::Binary, &[1; 6]),
            frame(role, MORE, Opcode::Continuation, &[2; 4]),
            frame(role, FIN, Opcode::Continuation, &[3; 1]),
        ];
        assert_eq!(refused_by(small, role, &exceeds.concat()), RecvError::MessageTooLarge);
        assert_eq!(
            refused_by(small, role, &frame(role, FIN, Opcode::Text, &[b'x'; 11])),
            RecvError::MessageTooLarge
        );
    }
}

#[test]
fn row_fragments_many_tiny_ones_are_welcome() {
    let mut bytes = frame(Role::Server, MORE, Opcode::Binary, b"x");
    for _ in 0..9_998 {
        bytes.extend(frame(Role::Server, MORE, Opcode::Continuation, b"x"));
    }
    bytes.extend(frame(Role::Server, FIN, Opcode::Continuation, b"x"));
    let seen = play(|| connection(Role::Server, Config::default()), &cuts::by(&bytes, &[1000]));
    assert_eq!(seen.items, [Item::Binary(vec![b'x'; 10_000])]);
}

#[test]
fn row_fragments_endless_empty_ones_are_refused() {
    for role in BOTH {
        let few = || connection(role, Config { empty_fragments: 3, ..Config::default() });
        let empties = |count: usize| {
            let mut bytes = frame(role, MORE, Opcode::Text, b"");
            bytes.extend(frame(role, MORE, Opcode::Continuation, b"x"));
            bytes.extend(frame(role, MORE, Opcode::Continuation, b"").repeat(count - 1));
            bytes
        };
        let message = [empties(3), frame(role, FIN, Opcode::Continuation, b"")].concat();
        assert_eq!(received_by(few, &message.repeat(2)).items.len(), 2);
        assert_eq!(refused_by(few, role, &empties(4)), RecvError::TooManyEmptyFragments);
    }
    assert_eq!(RecvError::TooManyEmptyFragments.code(), CloseCode::POLICY_VIOLATION);
}

#[test]
fn row_first_frame_there_must_be_something_to_continue() {
    for role in BOTH {
        for fin in [FIN, MORE] {
            let lone = frame(role, fin, Opcode::Continuation, b"x");
            assert_eq!(refused(role, &lone), RecvError::NothingToContinue);
        }
        let (message, further) =
            (frame(role, FIN, Opcode::Binary, b"x"), frame(role, FIN, Opcode::Continuation, b""));
        let seen = received(role, &[message, further].concat());
        assert_eq!((seen.items.len(), seen.error), (1, Some(RecvError::NothingToContinue)));
    }
}

#[test]
fn row_first_frame_no_message_inside_a_message() {
    for role in BOTH {
        for opcode in [Opcode::Text, Opcode::Binary] {
            let bytes = [frame(role, MORE, Opcode::Text, b"a"), frame(role, FIN, opcode, b"b")];
            assert_eq!(refused(role, &bytes.concat()), RecvError::MessageUnfinished);
        }
    }
}

#[test]
fn row_lengths_have_their_shortest_form() {
    let longer: [&[u8]; 4] = [
        b"\x82\x7e\0\x05",
        b"\x82\x7e\0\x7d",
        b"\x82\x7f\0\0\0\0\0\0\x01\0",
        b"\x82\x7f\0\0\0\0\0\0\xff\xff",
    ];
    for head in longer {
        assert_eq!(refused(Role::Client, head), RecvError::Head(HeadError::LengthNotMinimal));
    }
}

#[test]
fn row_lengths_are_checked_before_anything_is_done_with_them() {
    let top_bit = refused(Role::Client, b"\x82\x7f\x80\0\0\0\0\0\0\0");
    assert_eq!(top_bit, RecvError::Head(HeadError::LengthTooLong));
    assert_eq!(
        refused(Role::Client, b"\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff"),
        RecvError::MessageTooLarge
    );
    assert_eq!(RecvError::MessageTooLarge.code(), CloseCode::MESSAGE_TOO_BIG);
}

#[test]
fn row_lengths_of_fragments_do_not_overflow() {
    let unlimited = || connection(Role::Client, Config { message_bytes: u64::MAX, ..Config::default() });
    let huge = b"\x02\x7f\x7f\xff\xff\xff\xff\xff\xff\xffabc";
    let mut caller = Caller::new(unlimited());
    caller.offer(huge, false, Now::default());
    assert_eq!((caller.seen.unfinished.as_deref(), caller.seen.error), (Some(&b"abc"[..]), None));
}

#[test]
fn row_control_frames_between_fragments() {
    for role in BOTH {
        let bytes = [
            frame(role, MORE, Opcode::Text, "κό".as_bytes()),
            frame(role, FIN, Opcode::Ping, &[1; 125]),
            frame(role, MORE, Opcode::Continuation, "σμ".as_bytes()),
            frame(role, FIN, Opcode::Pong, b""),
            frame(role, FIN, Opcode::Continuation, "ε".as_bytes()),
        ];
        let items = [Item::Ping(vec![1; 125]), Item::Pong(vec![]), Item::Text("κόσμε".into())];
        let seen = received_by(|| Connection::new(role, Arc::default(), 1, Now::default()), &bytes.concat());
        assert_eq!(seen.items, items);
        assert_eq!(heard_by_peer(role, &seen.out), [Item::Pong(vec![1; 125])]);
    }
}

#[test]
fn row_control_frames_are_short_and_whole() {
    for role in BOTH {
        for opcode in [Opcode::Close, Opcode::Ping, Opcode::Pong] {
            let long = frame(role, FIN, opcode, &[b'x'; 126]);
            assert_eq!(refused(role, &long), RecvError::Head(HeadError::LongControl));
            let fragment = frame(role, MORE, opcode, b"x");
            assert_eq!(refused(role, &fragment), RecvError::Head(HeadError::FragmentedControl));
        }
    }
}

#[test]
fn row_masking_is_as_the_role_says() {
    assert_eq!(refused(Role::Server, &text(Role::Client, "a")), RecvError::Head(HeadError::Unmasked));
    assert_eq!(refused(Role::Client, &text(Role::Server, "a")), RecvError::Head(HeadError::Masked));
}

#[test]
fn reserved_bits_and_opcodes_are_refused() {
    for role in BOTH {
        for bit in [0x10, 0x20, 0x40] {
            let mut bytes = text(role, "a");
            bytes[0] |= bit;
            assert_eq!(refused(role, &bytes), RecvError::Head(HeadError::ReservedBits));
        }
        for opcode in [3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf] {
            let mut bytes = text(role, "a");
            bytes[0] = 0x80 | opcode;
            assert_eq!(refused(role, &bytes), RecvError::Head(HeadError::ReservedOpcode));
        }
    }
}

#[test]
fn row_text_code_points_may_be_cut_at_frame_ends() {
    for role in BOTH {
        let bytes = [
            frame(role, MORE, Opcode::Text, b"\xf0\x9f"),
            frame(role, FIN, Opcode::Ping, b"\xff"),
            frame(role, MORE, Opcode::Continuation, b"\x98"),
            frame(role, FIN, Opcode::Continuation, b"\x80"),
        ];
        let seen = received(role, &bytes.concat());
        assert_eq!(seen.items, [Item::Ping(vec![0xff]), Item::Text("😀".into())]);
    }
}

#[test]
fn row_text_must_end_with_a_whole_code_point() {
    for role in BOTH {
        assert_eq!(refused(role, &frame(role, FIN, Opcode::Text, b"a\xe2\x82")), RecvError::InvalidText);
        let bytes =
            [frame(role, MORE, Opcode::Text, b"\xe2\x82"), frame(role, FIN, Opcode::Continuation, b"")];
        assert_eq!(refused(role, &bytes.concat()), RecvError::InvalidText);
    }
}

#[test]
fn row_text_is_refused_at_the_first_impossible_byte_of_a_frame_that_still_arrives() {
    let payload = "κόσμε".as_bytes().iter().chain(b"\xf4\x90\x80\x80edited").copied().collect::<Vec<_>>();
    for role in BOTH {
        let bytes = frame(role, FIN, Opcode::Text, &payload);
        let impossible = bytes.len() - b"\x90\x80\x80edited".len();
        let possible = play(|| connection(role, Config::default()), &[&bytes[..impossible]]);
        assert_eq!(possible.error, None);
        assert_eq!(refused(role, &bytes[..=impossible]), RecvError::InvalidText);
    }
}

#[test]
fn binary_is_any_bytes() {
    let all: Vec<u8> = (0..=255).collect();
    assert_eq!(
        received(Role::Server, &frame(Role::Server, FIN, Opcode::Binary, &all)).items,
        [Item::Binary(all)]
    );
}

#[test]
fn row_streaming_a_frame_is_given_out_as_it_arrives() {
    let mut caller =
        Caller::new(connection(Role::Server, Config { message_bytes: 1 << 40, ..Config::default() }));
    let head = FrameHead::new(FIN, Opcode::Binary, 1 << 40, Some([0; 4]));
    caller.offer(head.as_ref(), false, Now::default());
    for _ in 0..100 {
        caller.offer(&[5; 1000], false, Now::default());
        assert_eq!(caller.buffer.len(), 0);
    }
    assert_eq!(caller.seen.unfinished, Some(vec![5; 100_000]));
}

#[test]
fn a_payload_is_given_in_the_caller_s_own_buffer() {
    let mut buffer = frame(Role::Server, FIN, Opcode::Binary, b"in place");
    let place = buffer[6..].as_ptr();
    let mut connection = connection(Role::Server, Config::default());
    let mut input = Input::new(&mut buffer);
    let event = connection.recv(&mut input, &mut Vec::new(), Now::default()).unwrap();
    let Event::Data { bytes, .. } = event else { panic!("data") };
    assert_eq!((bytes.as_ptr(), &*bytes), (place, &b"in place"[..]));
}
