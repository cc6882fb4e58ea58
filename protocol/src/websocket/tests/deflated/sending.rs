//! What is compressed, and into which frames.

use super::*;

/// The frames that were said: whether it is compressed, whether it is the last, and the payload, unmasked.
fn frames(sender: Role, mut said: &[u8]) -> Vec<(bool, bool, Opcode, Vec<u8>)> {
    let mut frames = Vec::new();
    while !said.is_empty() {
        let (head, size) = crate::websocket::frame::decode_extended(said, sender.other()).unwrap().unwrap();
        let (payload, rest) = said[size..].split_at(head.len as usize);
        let mut payload = payload.to_vec();
        mask::apply(head.mask.unwrap_or_default(), 0, &mut payload);
        frames.push((head.rsv1, head.fin, head.opcode, payload));
        said = rest;
    }
    frames
}

/// What the peer makes of it, which agreed to the same.
fn heard(sender: Role, deflate: DeflateConfig, said: &[u8]) -> Vec<Item> {
    let config = Config { message_bytes: u64::MAX, ..Config::default() };
    let mut peer = Caller::new(deflating_with(sender.other(), Compression::deflate(deflate), config));
    peer.offer(said, false, Now::default());
    assert_eq!((peer.seen.error, peer.seen.unfinished), (None, None));
    peer.seen.items
}

fn sent(connection: &mut Connection, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    connection.send(BINARY, payload, &mut out).unwrap();
    out
}

#[test]
fn golden_rfc_7_2_3_the_messages_of_the_rfc_as_a_server_sends_them() {
    let careful = DeflateConfig { level: 9, ..eager() };
    let (mut server, mut out) = (deflating(Role::Server, careful), Vec::new());
    server.send_text("Hello", &mut out).unwrap();
    assert_eq!(out, b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00");
    out.clear();
    server.send_text("Hello", &mut out).unwrap();
    assert_eq!(out, b"\xc1\x05\xf2\x00\x11\x00\x00");
    let (mut server, mut out) = (deflating(Role::Server, without_takeover()), Vec::new());
    server.send_part(TEXT, b"Hello", false, &mut out).unwrap();
    server.send_part(TEXT, b"", true, &mut out).unwrap();
    assert_eq!(out, b"\x41\x0b\xf2\x48\xcd\xc9\xc9\x07\x00\x00\x00\xff\xff\x80\x01\x00");
}

#[test]
fn row_empty_message_round_trips() {
    for role in BOTH {
        for deflate in [eager(), without_takeover()] {
            let (mut connection, mut out) = (deflating(role, deflate), Vec::new());
            for _ in 0..3 {
                connection.send_text("", &mut out).unwrap();
                connection.send_part(TEXT, b"", false, &mut out).unwrap();
                connection.send_part(TEXT, b"", true, &mut out).unwrap();
                connection.send_text("something", &mut out).unwrap();
            }
            let expected = ["", "", "something"].map(|text| Item::Text(text.into()));
            assert_eq!(heard(role, deflate, &out), [&expected[..]; 3].concat());
        }
    }
}

#[test]
fn row_small_messages_are_sent_as_they_are() {
    let terms = without_takeover().terms;
    for (deflate, threshold) in
        [(DeflateConfig { terms, ..DeflateConfig::default() }, 512), (DeflateConfig::default(), 64)]
    {
        let mut server = deflating(Role::Server, deflate);
        let below = sent(&mut server, &vec![b'x'; threshold - 1]);
        assert!(!frames(Role::Server, &below)[0].0);
        let at = sent(&mut server, &vec![b'x'; threshold]);
        assert!(frames(Role::Server, &at)[0].0 && at.len() < 30);
    }
}

#[test]
fn text_without_repetitions_is_made_small_in_small_windows() {
    let hex: Vec<u8> =
        noise(100_000).iter().map(|byte| b"0123456789abcdef"[usize::from(byte % 16)]).collect();
    for window in 9..12 {
        let terms = Terms { send_window_bits: window, ..Terms::default() };
        let said = sent(&mut deflating(Role::Server, DeflateConfig { terms, ..eager() }), &hex);
        assert!(said.len() * 100 < hex.len() * 58, "{} bytes with {window} bits", said.len());
    }
}

#[test]
fn one_message_may_be_sent_uncompressed() {
    let (mut server, mut out) = (deflating(Role::Server, eager()), Vec::new());
    server.send_uncompressed(TEXT, b"secret secret", &mut out).unwrap();
    assert_eq!(out, b"\x81\x0dsecret secret");
    assert_eq!(server.send_uncompressed(TEXT, b"\xff", &mut out), Err(SendError::InvalidText));
    server.send_part(TEXT, b"", false, &mut Vec::new()).unwrap();
    assert_eq!(server.send_uncompressed(TEXT, b"a", &mut out), Err(SendError::MessageUnfinished));
}

#[test]
fn what_would_grow_is_sent_as_it_is_if_the_context_allows_it() {
    for role in BOTH {
        for len in [600, 10_000, 200_000] {
            let payload = noise(len);
            let said = sent(&mut deflating(role, without_takeover()), &payload);
            assert!(
                matches!(&frames(role, &said)[..], [(false, true, Opcode::Binary, sent)] if *sent == payload)
            );
            let mut takes_over = deflating(role, eager());
            let said = [sent(&mut takes_over, &payload), sent(&mut takes_over, &payload)].concat();
            assert!(frames(role, &said)[0].0);
            assert_eq!(heard(role, eager(), &said), [Item::Binary(payload.clone()), Item::Binary(payload)]);
        }
    }
}

#[test]
fn bug_a_message_that_was_given_up_leaves_an_open_block_to_the_next() {
    for role in BOTH {
        for len in [600, 16_000, 20_000, 200_000] {
            let mut connection = deflating(role, without_takeover());
            sent(&mut connection, &noise(len));
            let said = sent(&mut connection, &[7; 3000]);
            assert!(frames(role, &said)[0].0);
            assert_eq!(heard(role, without_takeover(), &said), [Item::Binary(vec![7; 3000])]);
        }
    }
}

#[test]
fn a_large_message_goes_out_in_frames_of_16_kib() {
    let words = noise(64);
    let payload: Vec<u8> =
        noise(300_000).iter().flat_map(|&at| words[usize::from(at) % 61..][..3].to_vec()).collect();
    for role in BOTH {
        for deflate in [eager(), without_takeover()] {
            let said = sent(&mut deflating(role, deflate), &payload);
            let frames = frames(role, &said);
            assert!(frames.len() > 10 && said.len() < payload.len());
            for (index, (rsv1, fin, opcode, part)) in frames.iter().enumerate() {
                let first = index == 0;
                let begun = if first { Opcode::Binary } else { Opcode::Continuation };
                assert_eq!((*rsv1, *fin, *opcode), (first, index == frames.len() - 1, begun));
                assert!(*fin || (16_376..=16_384).contains(&part.len()));
            }
            assert_eq!(heard(role, deflate, &said), [Item::Binary(payload.clone())]);
        }
    }
}

#[test]
fn every_length_around_the_buffer_s_border_arrives() {
    // What is not compressible makes as many bytes as it is long, and a few.
    let payload = noise(40_000);
    let deflate = eager();
    let mut sender = deflating(Role::Server, deflate);
    let mut said = Vec::new();
    let lengths: Vec<usize> = (16_340..16_400).chain(32_700..32_790).collect();
    for &len in &lengths {
        sender.send_part(BINARY, &payload[..len], false, &mut said).unwrap();
        sender.send_part(BINARY, &payload[..7], true, &mut said).unwrap();
    }
    let expected: Vec<Item> =
        lengths.iter().map(|&len| Item::Binary([&payload[..len], &payload[..7]].concat())).collect();
    assert_eq!(heard(Role::Server, deflate, &said), expected);
}

#[test]
fn row_streaming_each_part_can_be_read_when_it_arrives() {
    for role in BOTH {
        for deflate in [eager(), without_takeover()] {
            let mut sender = deflating(role, deflate);
            let mut peer = Caller::new(deflating(role.other(), deflate));
            let (mut whole, mut out) = (String::new(), Vec::new());
            for index in 0..50 {
                let part = format!("part {index} of a message in parts; ");
                sender.send_part(TEXT, part.as_bytes(), false, &mut out).unwrap();
                if index == 25 {
                    sender.ping(b"?", &mut out, Now::default()).unwrap();
                }
                whole.push_str(&part);
                peer.offer(&std::mem::take(&mut out), false, Now::default());
                assert_eq!(peer.seen.unfinished.as_deref(), Some(whole.as_bytes()));
            }
            sender.send_part(TEXT, b"the end", true, &mut out).unwrap();
            peer.offer(&out, false, Now::default());
            assert_eq!(peer.seen.items, [Item::Ping(b"?".into()), Item::Text(whole + "the end")]);
        }
    }
}

#[test]
fn a_message_refused_to_the_caller_leaves_the_context() {
    for role in BOTH {
        let mut sender = deflating(role, eager());
        let mut out = sent(&mut sender, b"something to refer to");
        let before = out.len();
        assert_eq!(sender.send(TEXT, b"something \xff", &mut out), Err(SendError::InvalidText));
        sender.send_part(BINARY, b"something", false, &mut out).unwrap();
        assert_eq!(sender.send_part(TEXT, b"something", false, &mut out), Err(SendError::OtherKind));
        assert_eq!(sender.send(BINARY, b"something", &mut out), Err(SendError::MessageUnfinished));
        sender.send_part(BINARY, b" to refer to", true, &mut out).unwrap();
        assert!(out.len() > before);
        let item = Item::Binary(b"something to refer to".into());
        assert_eq!(heard(role, eager(), &out), [item.clone(), item]);
    }
}

#[test]
fn uncompressed_heads_and_messages_may_be_mixed_with_compressed_ones() {
    let (mut server, mut out) = (deflating(Role::Server, eager()), Vec::new());
    let text = "a text that is sent again and again";
    for _ in 0..3 {
        server.send_text(text, &mut out).unwrap();
        out.extend_from_slice(server.frame_head(TEXT, text.len() as u64).unwrap().as_ref());
        out.extend_from_slice(text.as_bytes());
        out.extend_from_slice(Prepared::new(Message::Text(text)).for_connection(&server).unwrap());
    }
    assert_eq!(heard(Role::Server, eager(), &out), vec![Item::Text(text.into()); 9]);
}

#[test]
fn row_prepared_messages_are_compressed_once_for_each_window() {
    let text = "a broadcast to very many readers; ".repeat(100);
    let prepared = Prepared::new(Message::Text(&text));
    let compression = Compression::deflate(without_takeover());
    let reader = |offer: &str, terms: Terms| {
        let compression = if terms == without_takeover().terms {
            compression.clone()
        } else {
            Compression::deflate(DeflateConfig { terms, ..eager() })
        };
        let agreed = compression.answer([offer]).unwrap();
        connection(Role::Server, Config { compression, ..Config::default() }).with_deflate(agreed)
    };
    let without = without_takeover().terms;
    let wide = [reader("permessage-deflate", without), reader("permessage-deflate", without)];
    let narrow = reader("permessage-deflate; server_max_window_bits=10", without);
    let takes_over = reader("permessage-deflate", Terms::default());
    let plain = connection(Role::Server, Config::default());

    let frame = |connection| Arc::clone(prepared.for_connection(connection).unwrap());
    let frames = [&wide[0], &wide[1], &narrow].map(frame);
    assert!(Arc::ptr_eq(&frames[0], &frames[1]) && !Arc::ptr_eq(&frames[0], &frames[2]));
    for frame in &frames {
        assert!(frame.len() < 200 && frame[0] == 0xc1);
        assert_eq!(heard(Role::Server, without_takeover(), frame), [Item::Text(text.clone())]);
    }
    for connection in [&takes_over, &plain] {
        assert!(Arc::ptr_eq(&frame(connection), prepared.uncompressed()));
    }
}

#[test]
fn prepared_messages_that_are_short_or_would_grow_are_shared_as_they_are() {
    let terms = without_takeover().terms;
    let server = deflating(Role::Server, DeflateConfig { terms, ..DeflateConfig::default() });
    let goes_as_it_is = |payload: &[u8]| {
        let prepared = Prepared::new(Message::Binary(payload));
        Arc::ptr_eq(prepared.for_connection(&server).unwrap(), prepared.uncompressed())
    };
    for payload in [&b""[..], &[b'x'; 511], &noise(5000)] {
        assert!(goes_as_it_is(payload));
    }
    assert!(!goes_as_it_is(&[b'x'; 512]));
}

#[test]
fn a_framer_gives_the_same_bytes_again_whatever_came_between() {
    let words = "to and fro, and from there to here; ".repeat(1000);
    let far = [noise(600), noise(600)].concat();
    let messages: [&[u8]; 5] =
        [b"", &words.as_bytes()[..511], &words.as_bytes()[..512], &far, words.as_bytes()];
    for bits in 9..=15 {
        let deflate = DeflateConfig { threshold: 512, ..without_takeover() };
        // No budget: what it makes does not depend on that.
        let compression = Compression::deflate(DeflateConfig { budget: 0, ..deflate });
        let mut framer = compression.framer(bits).unwrap();
        let mut frame = |payload: &&[u8]| {
            let mut out = b"before".to_vec();
            let compressed = framer.put(Message::Binary(payload), &mut out);
            let said = out.split_off(6);
            assert_eq!(frames(Role::Server, &said)[0].0, compressed);
            assert_eq!(heard(Role::Server, deflate, &said), [Item::Binary(payload.to_vec())]);
            (compressed, said)
        };
        let first: Vec<_> = messages.iter().map(&mut frame).collect();
        let compressed: Vec<_> = first.iter().map(|(compressed, _)| *compressed).collect();
        // What repeats is found where the window reaches back to it.
        assert_eq!(compressed, [false, false, true, bits > 9, true]);
        let again: Vec<_> = messages.iter().rev().map(&mut frame).collect();
        assert!(again.iter().rev().eq(&first));
        assert!(framer.memory() < 512 << 10 && compression.memory() == 0);
    }
    assert!(Compression::OFF.framer(15).is_none());
}

#[test]
fn what_all_are_sent_goes_as_it_is_if_it_would_become_no_smaller() {
    let server = deflating(Role::Server, without_takeover());
    // The noise grows a little, what repeats shrinks to a few bytes: somewhere both make up for each other.
    let even = (0..100)
        .map(|count| [noise(64), vec![b'a'; count]].concat())
        .find(|payload| server.compress_shared(15, payload).is_some_and(|to| to.len() == payload.len()))
        .expect("one that keeps its length");
    let prepared = Prepared::new(Message::Binary(&even));
    assert!(Arc::ptr_eq(prepared.for_connection(&server).unwrap(), prepared.uncompressed()));
    let mut framer = Compression::deflate(without_takeover()).framer(15).unwrap();
    assert!(!framer.put(Message::Binary(&even), &mut Vec::new()));
}

#[test]
fn what_takes_several_buffers_is_prepared_whole() {
    let server = deflating(Role::Server, without_takeover());
    let large = [noise(40_000), vec![b'a'; 4000]].concat();
    let prepared = Prepared::new(Message::Binary(&large));
    let frame = prepared.for_connection(&server).unwrap();
    assert!(!Arc::ptr_eq(frame, prepared.uncompressed()));
    assert_eq!(heard(Role::Server, without_takeover(), frame), [Item::Binary(large)]);
}

#[test]
fn a_compressor_that_was_given_up_with_its_buffer_full_begins_anew() {
    for len in (16_000..16_800).step_by(10) {
        let mut server = deflating(Role::Server, without_takeover());
        let given_up = sent(&mut server, &noise(len));
        assert!(!frames(Role::Server, &given_up)[0].0);
        let text = b"text ".repeat(100);
        let said = sent(&mut server, &text);
        assert!(frames(Role::Server, &said)[0].0);
        assert_eq!(heard(Role::Server, without_takeover(), &said), [Item::Binary(text)], "after {len}");
    }
}

#[test]
fn no_compressor_serves_a_window_that_is_not_its_own() {
    let far = noise(600).repeat(2);
    let said_with = |bits: u8, compression: &Compression| {
        let offer = format!("permessage-deflate; server_max_window_bits={bits}");
        let agreed = compression.answer([&*offer]).unwrap();
        let config = Config { compression: compression.clone(), ..Config::default() };
        sent(&mut connection(Role::Server, config).with_deflate(agreed), &far)
    };
    let both = Compression::deflate(without_takeover());
    assert!(frames(Role::Server, &said_with(15, &both))[0].0);
    assert!(!frames(Role::Server, &said_with(9, &both))[0].0, "it cannot look back as far");
    assert!(frames(Role::Server, &said_with(15, &both))[0].0);
}

#[test]
fn small_windows_are_compressed_at_level_3_at_least() {
    let numbers: Vec<u32> = (0..3000_u32).map(|number| number.wrapping_mul(97)).collect();
    let text = format!("{numbers:?}");
    for bits in 9..=15 {
        let [one, three] = [1, 3].map(|level| {
            let mut framer =
                Compression::deflate(DeflateConfig { level, ..without_takeover() }).framer(bits).unwrap();
            let mut out = Vec::new();
            framer.put(Message::Text(&text), &mut out);
            out
        });
        assert_eq!(one == three, bits < 12, "{bits} bits");
    }
}

#[test]
fn a_framer_counts_what_it_keeps_and_takes_no_more_room_than_a_frame_needs() {
    let mut framer = Compression::deflate(without_takeover()).framer(15).unwrap();
    let (before, mut out) = (framer.memory(), Vec::new());
    framer.put(Message::Binary(&[b'a'; 5000]), &mut out);
    assert_eq!(out.capacity(), out.len());
    let kept = framer.memory() - before;
    assert!((139 << 10..=488 << 10).contains(&before) && (1..=16 << 10).contains(&kept), "{before} {kept}");
}

#[test]
fn the_parts_of_a_message_refer_to_those_before_whatever_was_agreed() {
    let (mut server, mut out) = (deflating(Role::Server, without_takeover()), Vec::new());
    let part = noise(600);
    for last in [false, true] {
        server.send_part(BINARY, &part, last, &mut out).unwrap();
    }
    assert!(frames(Role::Server, &out)[1].3.len() < 50);
    assert_eq!(heard(Role::Server, without_takeover(), &out), [Item::Binary(part.repeat(2))]);
}
