//! What is inflated, and what is refused.

use super::super::super::frame::HeadError;
use super::*;

fn inflated(role: Role, bytes: &[u8]) -> Transcript {
    received_by(|| deflating(role, eager()), bytes)
}

/// The items, with and without context takeover.
fn items(role: Role, bytes: &[u8]) -> Vec<Item> {
    let seen = inflated(role, bytes);
    assert_eq!((seen.error, seen.unfinished.as_ref(), &seen.out[..]), (None, None, &b""[..]));
    assert_eq!(received_by(|| deflating(role, without_takeover()), bytes).items, seen.items);
    seen.items
}

fn refused_deflate(role: Role, bytes: &[u8]) -> RecvError {
    let error = refused_by(|| deflating(role, eager()), role, bytes);
    assert_eq!(refused_by(|| deflating(role, without_takeover()), role, bytes), error);
    error
}

fn hello() -> Vec<Item> {
    vec![Item::Text("Hello".into())]
}

#[test]
fn golden_rfc_7_2_3_1_a_message_in_one_block() {
    assert_eq!(items(Role::Client, b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00"), hello());
    assert_eq!(items(Role::Client, b"\x41\x03\xf2\x48\xcd\x80\x04\xc9\xc9\x07\x00"), hello());
    assert_eq!(items(Role::Server, &deflated_text(Role::Server, HELLO)), hello());
}

#[test]
fn golden_rfc_7_2_3_2_a_message_that_refers_to_the_one_before() {
    let second: &[u8] = b"\xf2\x00\x11\x00\x00";
    for role in BOTH {
        let bytes = [deflated_text(role, HELLO), deflated_text(role, second)].concat();
        assert_eq!(inflated(role, &bytes).items, [hello(), hello()].concat());
        let lost = refused_by(|| deflating(role, without_takeover()), role, &bytes);
        assert_eq!(lost, RecvError::InvalidDeflate);
    }
}

#[test]
fn golden_rfc_7_2_3_3_a_block_that_is_not_compressed() {
    assert_eq!(items(Role::Client, b"\xc1\x0b\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00"), hello());
}

#[test]
fn golden_rfc_7_2_3_4_a_block_with_bfinal() {
    assert_eq!(items(Role::Client, b"\xc1\x08\xf3\x48\xcd\xc9\xc9\x07\x00\x00"), hello());
}

#[test]
fn golden_rfc_7_2_3_5_two_blocks() {
    let bytes = b"\xc1\x0d\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00";
    assert_eq!(items(Role::Client, bytes), hello());
}

#[test]
fn golden_rfc_7_2_3_6_an_empty_message() {
    for role in BOTH {
        let bytes = [deflated_text(role, b"\x00"), deflated_text(role, HELLO), deflated_text(role, b"\x00")];
        let empty = Item::Text(String::new());
        assert_eq!(items(role, &bytes.concat()), [empty.clone(), Item::Text("Hello".into()), empty]);
    }
}

#[test]
fn row_client_takeover_many_messages_refer_to_those_before() {
    let mut peer = Peer::new();
    let texts: Vec<String> =
        (0..20).map(|index| format!("{{\"type\":\"put\",\"key\":\"app/{index}\"}}")).collect();
    let payloads: Vec<Vec<u8>> = texts.iter().map(|text| peer.message(text.as_bytes())).collect();
    assert!(payloads[19].len() < payloads[0].len() / 2, "they refer to those before");
    for role in BOTH {
        let bytes: Vec<u8> = payloads.iter().flat_map(|payload| deflated_text(role, payload)).collect();
        let expected: Vec<Item> = texts.iter().cloned().map(Item::Text).collect();
        assert_eq!(inflated(role, &bytes).items, expected);
    }
}

#[test]
fn row_deflate_stream_several_blocks_with_bfinal_and_empty_ones() {
    let final_hello: &[u8] = b"\xf3\x48\xcd\xc9\xc9\x07\x00";
    let empty_final: &[u8] = b"\x01\x00\x00\xff\xff";
    let empty: &[u8] = b"\x00\x00\x00\xff\xff";
    let messages: [(&[&[u8]], &str); 6] = [
        (&[final_hello, final_hello, b"\x00"], "HelloHello"),
        (&[empty_final, empty, final_hello, empty_final, b"\x00"], "Hello"),
        (&[final_hello, HELLO], "HelloHello"),
        (&[empty, empty, HELLO, b"\x00\x00\xff\xff", b"\x00"], "Hello"),
        (&[b"\x03\x00", b"\x02\x00"], ""),
        (&[HELLO, b"\x00\x00\xff\xff", b"\x01"], "Hello"),
    ];
    for role in BOTH {
        for (parts, text) in messages {
            let bytes = [deflated_text(role, &parts.concat()), deflated_text(role, HELLO)].concat();
            assert_eq!(items(role, &bytes), [Item::Text(text.into()), hello().remove(0)], "{parts:x?}");
        }
    }
}

#[test]
fn row_deflate_stream_uncompressed_messages_between_compressed_ones_leave_the_context() {
    for role in BOTH {
        let bytes = [
            deflated_text(role, HELLO),
            text(role, "plain"),
            frame(role, MORE, Opcode::Binary, b"in "),
            frame(role, FIN, Opcode::Continuation, b"parts"),
            deflated_text(role, b"\xf2\x00\x11\x00\x00"),
        ];
        let plain = [Item::Text("plain".into()), Item::Binary(b"in parts".into())];
        assert_eq!(inflated(role, &bytes.concat()).items, [&hello()[..], &plain, &hello()].concat());
    }
}

#[test]
fn row_deflate_stream_control_frames_between_compressed_fragments() {
    for role in BOTH {
        let mut bytes = deflated(role, MORE, Opcode::Text, &HELLO[..1]);
        for byte in &HELLO[1..6] {
            bytes.extend(frame(role, FIN, Opcode::Pong, b"Hello"));
            bytes.extend(frame(role, MORE, Opcode::Continuation, &[*byte]));
        }
        bytes.extend(frame(role, MORE, Opcode::Continuation, b""));
        bytes.extend(frame(role, FIN, Opcode::Continuation, &HELLO[6..]));
        let pong = Item::Pong(b"Hello".into());
        assert_eq!(items(role, &bytes), [&vec![pong; 5][..], &hello()].concat());
    }
}

#[test]
fn the_last_fragment_may_be_empty() {
    for role in BOTH {
        let bytes = [deflated(role, MORE, Opcode::Text, HELLO), frame(role, FIN, Opcode::Continuation, b"")];
        assert_eq!(items(role, &bytes.concat()), hello());
    }
}

#[test]
fn row_deflate_stream_rsv1_only_on_the_first_frame_of_a_message() {
    let reserved = RecvError::Head(HeadError::ReservedBits);
    for role in BOTH {
        let continuation = [
            deflated(role, MORE, Opcode::Text, &HELLO[..3]),
            deflated(role, FIN, Opcode::Continuation, &HELLO[3..]),
        ];
        assert_eq!(refused_deflate(role, &continuation.concat()), reserved);
        for opcode in [Opcode::Ping, Opcode::Pong, Opcode::Close] {
            assert_eq!(refused_deflate(role, &deflated(role, FIN, opcode, b"")), reserved);
        }
        // Without the extension, on any frame.
        assert_eq!(refused(role, &deflated_text(role, HELLO)), reserved);
        assert_eq!(reserved.code(), CloseCode::PROTOCOL_ERROR);
    }
}

#[test]
fn row_deflate_stream_rsv2_and_rsv3_are_never_used() {
    for role in BOTH {
        for bit in [0x20, 0x10] {
            let mut bytes = deflated_text(role, HELLO);
            bytes[0] |= bit;
            assert_eq!(refused_deflate(role, &bytes), RecvError::Head(HeadError::ReservedBits));
        }
    }
}

#[test]
fn what_does_not_inflate_is_refused() {
    let broken: [(&str, &[u8]); 6] = [
        ("a reserved type of block", b"\x06\x00"),
        ("a length that its complement does not match", b"\x00\x05\x00\xfb\xffHello\x00"),
        ("a distance beyond the beginning", b"\xf2\x00\x11\x00\x00"),
        ("lengths of codes that make no code", b"\x04\xff\xff\xff\xff\xff\xff\xff\xff"),
        ("garbage behind a last block", b"\xf3\x48\xcd\xc9\xc9\x07\x00\xff\xff"),
        ("noise", b"\xff\xff\xff\xff"),
    ];
    for role in BOTH {
        for (why, payload) in broken {
            let error = refused_deflate(role, &deflated_text(role, payload));
            assert_eq!(
                (error, error.code()),
                (RecvError::InvalidDeflate, CloseCode::INVALID_PAYLOAD),
                "{why}"
            );
        }
    }
}

#[test]
fn what_does_not_end_as_a_message_must_is_refused() {
    let stored: &[u8] = b"\x00\x05\x00\xfa\xffHello";
    let messages: [(&str, &[u8]); 9] = [
        ("no block at all", b""),
        ("inside the first block", &HELLO[..3]),
        (
            "behind a block, without the beginning of an empty one",
            b"\xf2\x48\xcd\xc9\xc9\x07\x00\x00\x00\xff\xff",
        ),
        ("the same behind a block with BFINAL", b"\xf3\x48\xcd\xc9\xc9\x07\x00"),
        ("inside the bytes of a block that is not compressed", &stored[..9]),
        ("four bytes before their end", &stored[..6]),
        ("inside its length", &stored[..3]),
        ("inside its complement", &stored[..4]),
        ("behind its length, of which the tail makes the bytes", b"\x00\x04\x00\xfb\xff"),
    ];
    for role in BOTH {
        for (why, payload) in messages {
            let error = refused_deflate(role, &deflated_text(role, payload));
            assert_eq!(error, RecvError::InvalidDeflate, "{why}");
        }
    }
}

#[test]
fn every_message_that_is_cut_short_is_refused() {
    let whole = Peer::new().message("a message, a message, and another message\n".repeat(20).as_bytes());
    for cut in 0..whole.len() {
        let mut caller = Caller::new(deflating(Role::Client, eager()));
        caller.offer(&deflated_text(Role::Client, &whole[..cut]), false, Now::default());
        assert_eq!(caller.seen.error, Some(RecvError::InvalidDeflate), "{cut} of {}", whole.len());
    }
}

#[test]
fn row_text_is_valid_as_it_is_inflated() {
    let mut peer = Peer::new();
    // Known as soon as the byte is: the message is still arriving.
    let begun = peer.flushed(b"\xce\xba\xe1\xbd\xb9\xf4\x90");
    for role in BOTH {
        let bytes = deflated(role, MORE, Opcode::Text, &begun);
        assert_eq!(refused_deflate(role, &bytes), RecvError::InvalidText);
        let unfinished = Peer::new().message(b"\xe2\x82");
        assert_eq!(refused_deflate(role, &deflated_text(role, &unfinished)), RecvError::InvalidText);
        let mut peer = Peer::new();
        let (front, back) = (peer.flushed(b"\xe2\x82"), peer.message(b"\xac"));
        let cut = [deflated(role, MORE, Opcode::Text, &front), frame(role, FIN, Opcode::Continuation, &back)];
        assert_eq!(items(role, &cut.concat()), [Item::Text("€".into())]);
    }
}

#[test]
fn what_came_before_the_fault_is_judged_first() {
    let good = Peer::new().flushed(b"\xff");
    for role in BOTH {
        let bytes = deflated_text(role, &[&good[..], b"\x06"].concat());
        assert_eq!(refused_deflate(role, &bytes), RecvError::InvalidText);
    }
}

#[test]
fn row_bomb_the_limit_counts_inflated_bytes() {
    let limited = |role| {
        move || {
            let config = Config { message_bytes: 1000, ..Config::default() };
            deflating_with(role, Compression::deflate(without_takeover()), config)
        }
    };
    for role in BOTH {
        let fits = deflated(role, FIN, Opcode::Binary, &Peer::new().message(&[7; 1000]));
        assert_eq!(received_by(limited(role), &fits).items, [Item::Binary(vec![7; 1000])]);
        let more = deflated(role, FIN, Opcode::Binary, &Peer::new().message(&[7; 1001]));
        let error = refused_by(limited(role), role, &more);
        assert_eq!((error, error.code().get()), (RecvError::MessageTooLarge, 1009));
        let mut peer = Peer::new();
        let parts = [
            deflated(role, MORE, Opcode::Binary, &peer.flushed(&[7; 600])),
            frame(role, FIN, Opcode::Continuation, &peer.message(&[7; 401])),
        ];
        assert_eq!(refused_by(limited(role), role, &parts.concat()), RecvError::MessageTooLarge);
    }
}

#[test]
fn row_bomb_holds_an_inflater_and_a_buffer() {
    let compression = Compression::deflate(without_takeover());
    let config = Config { message_bytes: 8 << 20, ..Config::default() };
    let mut connection = deflating_with(Role::Server, compression.clone(), config);
    let bomb = Peer::new().message(&vec![0; 16 << 20]);
    let mut buffer = deflated(Role::Server, FIN, Opcode::Binary, &bomb);
    assert!(buffer.len() < 20_000);
    let (mut input, mut given) = (Input::new(&mut buffer), 0);
    let error = loop {
        match connection.recv(&mut input, &mut Vec::new(), Now::default()) {
            Ok(Event::Data { bytes, .. }) => given += bytes.len(),
            Ok(event) => panic!("{event:?}"),
            Err(error) => break error,
        }
        assert!(compression.memory() <= 64 << 10);
    };
    assert_eq!((error, given), (RecvError::MessageTooLarge, 8 << 20));
    assert_eq!(compression.used(), 0);
}

#[test]
fn row_bomb_incompressible_messages_of_the_limit_s_length_fit() {
    let config = Config { message_bytes: 70_000, ..Config::default() };
    let mut caller = Caller::new(deflating_with(Role::Server, Compression::deflate(eager()), config));
    let payload = noise(70_000);
    let compressed = Peer::new().message(&payload);
    assert!(compressed.len() > payload.len());
    caller.offer(&deflated(Role::Server, FIN, Opcode::Binary, &compressed), false, Now::default());
    assert_eq!((caller.seen.error, &caller.seen.items[..]), (None, &[Item::Binary(payload)][..]));
}

#[test]
fn row_bomb_compressed_bytes_that_inflate_to_nothing_are_bounded() {
    let start = || {
        let config = Config { message_bytes: 100, ..Config::default() };
        deflating_with(Role::Client, Compression::deflate(eager()), config)
    };
    let empty_blocks = b"\x00\x00\x00\xff\xff".repeat(50);
    let mut bytes = deflated(Role::Client, MORE, Opcode::Binary, &empty_blocks);
    for _ in 0..4 {
        bytes.extend(frame(Role::Client, MORE, Opcode::Continuation, &empty_blocks[..240]));
    }
    assert_eq!(play(start, &[&bytes[..]]).error, None, "1210 bytes");
    // 2 * 100 + 1024 are allowed; told by the head that is beyond.
    bytes.extend(FrameHead::new(FIN, Opcode::Continuation, 15, None).as_ref());
    assert_eq!(play(start, &[&bytes[..]]).error, Some(RecvError::MessageTooLarge));
    assert_eq!(play(start, &cuts::by(&bytes, &[1])).error, Some(RecvError::MessageTooLarge));
    let head = [&[0xc2][..], &FrameHead::new(FIN, Opcode::Binary, 1225, None).as_ref()[1..]].concat();
    assert_eq!(refused_by(start, Role::Client, &head), RecvError::MessageTooLarge);
}

#[test]
fn a_message_that_inflates_into_one_buffer_comes_in_one_part() {
    for (len, parts) in [(1, 1), (16_383, 1), (16_385, 2), (50_000, 4)] {
        let mut connection = deflating(Role::Server, eager());
        let mut buffer = deflated(Role::Server, FIN, Opcode::Binary, &Peer::new().message(&vec![1; len]));
        let mut input = Input::new(&mut buffer);
        for part in 0..parts {
            let event = connection.recv(&mut input, &mut Vec::new(), Now::default()).unwrap();
            let Event::Data { bytes, first, last, .. } = event else { panic!("data") };
            assert_eq!(bytes.len(), (len - part * 16_384).min(16_384));
            assert_eq!((first, last), (part == 0, part == parts - 1));
        }
        assert!(input.is_empty());
    }
}

#[test]
fn a_part_that_was_flushed_is_given_though_more_is_to_come() {
    for len in [5, 16_384, 40_000] {
        let mut caller = Caller::new(deflating(Role::Client, eager()));
        let part = vec![b'x'; len];
        let bytes = deflated(Role::Client, MORE, Opcode::Text, &Peer::new().flushed(&part));
        caller.offer(&bytes, false, Now::default());
        assert_eq!(caller.seen.unfinished, Some(part));
    }
}

#[test]
fn what_is_not_taken_is_left_as_it_came() {
    let payload = Peer::new().message(&vec![1; 100_000]);
    let original = deflated(Role::Server, FIN, Opcode::Binary, &payload);
    let mut buffer = original.clone();
    let mut connection = deflating(Role::Server, eager());
    let mut input = Input::new(&mut buffer);
    connection.recv(&mut input, &mut Vec::new(), Now::default()).unwrap();
    let consumed = input.consumed();
    assert!(consumed > 6 && consumed < original.len());
    assert_eq!(buffer[consumed..], original[consumed..]);
}

#[test]
fn the_payload_is_the_caller_s_to_change_and_to_keep_while_it_answers() {
    let mut connection = deflating(Role::Server, without_takeover());
    let mut buffer = deflated_text(Role::Server, HELLO).repeat(2);
    let mut out = Vec::new();
    let mut input = Input::new(&mut buffer);
    let mut next = || {
        let event = connection.recv(&mut input, &mut Vec::new(), Now::default()).unwrap();
        let Event::Data { kind, mut bytes, .. } = event else { panic!("data") };
        bytes.make_ascii_uppercase();
        connection.send_uncompressed(kind, &bytes, &mut out).unwrap();
        bytes
    };
    let (first, second) = (next(), next());
    assert_eq!((&*first, &*second), (&b"HELLO"[..], &b"HELLO"[..]));
    drop((first, second));
    assert_eq!(out, b"\x81\x05HELLO".repeat(2));
}

#[test]
fn the_last_of_a_message_may_still_come_when_all_of_it_was_taken() {
    const BUFFER: usize = 16 << 10;
    let mut met = 0;
    for more in 1..600 {
        let sent = vec![b'x'; BUFFER + more];
        let mut bytes = deflated(Role::Client, FIN, Opcode::Binary, &Peer::new().message(&sent));
        let mut client = deflating(Role::Client, eager());
        let (mut input, mut received) = (Input::new(&mut bytes), Vec::new());
        let mut seconds = 0;
        loop {
            let now = Now::default().later(core::time::Duration::from_secs(seconds));
            let taken = input.is_empty();
            match client.recv(&mut input, &mut Vec::new(), now).unwrap() {
                Event::Data { bytes, last, .. } => {
                    received.extend_from_slice(&bytes);
                    if last {
                        met += u32::from(taken);
                        break;
                    }
                }
                event => panic!("{event:?} after {} bytes", received.len()),
            }
            if input.is_empty() {
                seconds = 20;
            }
        }
        assert!(received == sent, "{more} bytes more");
        // What comes out by itself is no sign of life.
        assert!(client.deadline() <= Some(crate::Instant::START + Config::default().ping_interval.unwrap()));
    }
    assert!(met > 0, "it never happened");
}

#[test]
fn all_of_a_compressed_fragment_comes_before_the_next_arrives() {
    for more in 1..600 {
        let sent = vec![b'x'; (16 << 10) + more];
        let fragment = deflated(Role::Client, MORE, Opcode::Binary, &Peer::new().message(&sent));
        let mut caller = Caller::new(deflating(Role::Client, eager()));
        caller.offer(&fragment, false, Now::default());
        assert!(caller.seen.unfinished == Some(sent), "{more} bytes more");
    }
}

#[test]
fn a_part_of_a_compressed_frame_is_a_sign_of_life() {
    for role in BOTH {
        let mut caller = Caller::new(deflating(role, eager()));
        let at = |seconds| Now::default().later(core::time::Duration::from_secs(seconds));
        let message = deflated_text(role, HELLO);
        let (front, back) = message.split_at(message.len() - 3);
        caller.offer(front, false, at(0));
        let before = caller.connection.deadline().unwrap();
        caller.offer(&back[..1], false, at(7));
        assert_eq!(caller.connection.deadline(), Some(before + core::time::Duration::from_secs(7)));
    }
}
