//! Bugs that others had where messages are compressed, which are not here. `docs/conformance-websocket.md` says whose they were.

use super::super::super::frame::HeadError;
use super::*;

#[test]
fn bug_control_frames_between_fragments_clear_the_inflater() {
    let mut peer = Peer::new();
    let (front, back) = (peer.flushed(b"once more, "), peer.message(b"once more, once more"));
    assert!(back.len() < 10, "it refers to the front");
    for role in BOTH {
        for deflate in [eager(), without_takeover()] {
            for control in [Opcode::Ping, Opcode::Pong] {
                let bytes = [
                    deflated(role, MORE, Opcode::Text, &front),
                    frame(role, FIN, control, b"between"),
                    frame(role, FIN, Opcode::Continuation, &back),
                ];
                let seen = received_by(|| deflating(role, deflate), &bytes.concat());
                let text = Item::Text("once more, once more, once more".into());
                assert_eq!((seen.error, seen.items.last()), (None, Some(&text)));
            }
        }
    }
}

#[test]
fn bug_rsv1_on_a_control_frame_arms_the_next_message() {
    for role in BOTH {
        for opcode in [Opcode::Ping, Opcode::Pong] {
            let armed = [deflated(role, FIN, opcode, b""), text(role, "plain")].concat();
            let seen = received_by(|| deflating(role, eager()), &armed);
            let error = RecvError::Head(HeadError::ReservedBits);
            assert_eq!((seen.items, seen.error), (vec![], Some(error)));
        }
    }
}

#[test]
fn bug_what_follows_a_final_block_is_lost() {
    let final_hello: &[u8] = b"\xf3\x48\xcd\xc9\xc9\x07\x00";
    for role in BOTH {
        for deflate in [eager(), without_takeover()] {
            let bytes = [
                deflated(role, MORE, Opcode::Text, final_hello),
                frame(role, FIN, Opcode::Continuation, HELLO),
                deflated_text(role, &[final_hello, b"\x00"].concat()),
                deflated_text(role, HELLO),
            ];
            let seen = received_by(|| deflating(role, deflate), &bytes.concat());
            let items = ["HelloHello", "Hello", "Hello"].map(|text| Item::Text(text.into()));
            assert_eq!((seen.error, &seen.items[..]), (None, &items[..]));
        }
    }
}

#[test]
fn bug_large_incompressible_messages_are_cut() {
    let payload = noise(300_000);
    for role in BOTH {
        let (mut sender, mut out) = (deflating(role, eager()), Vec::new());
        sender.send(BINARY, &payload, &mut out).unwrap();
        assert!(out.len() > payload.len(), "a context that is kept must have all of it");
        let mut peer = Caller::new(deflating(role.other(), eager()));
        peer.offer(&out, false, Now::default());
        assert_eq!((peer.seen.error, peer.seen.items), (None, vec![Item::Binary(payload.clone())]));
        // What another made of it.
        let mut receiver = Caller::new(deflating(role, eager()));
        let message = deflated(role, FIN, Opcode::Binary, &Peer::new().message(&payload));
        receiver.offer(&message, false, Now::default());
        assert_eq!((receiver.seen.error, receiver.seen.items), (None, vec![Item::Binary(payload.clone())]));
    }
}

#[test]
fn bug_compressed_messages_sent_in_parts() {
    for role in BOTH {
        for deflate in [eager(), without_takeover()] {
            let (mut sender, mut out) = (deflating(role, deflate), Vec::new());
            let parts = ["", "a part, ", "a part, ", "", "and a part"];
            for round in 0..2 {
                for (index, part) in parts.iter().enumerate() {
                    sender.send_part(TEXT, part.as_bytes(), index == 4, &mut out).unwrap();
                }
                sender.send_text(&format!("a whole one, {round}, a whole one"), &mut out).unwrap();
            }
            let mut peer = Caller::new(deflating(role.other(), deflate));
            peer.offer(&out, false, Now::default());
            let items =
                |round| [parts.concat(), format!("a whole one, {round}, a whole one")].map(Item::Text);
            assert_eq!((peer.seen.error, peer.seen.items), (None, [items(0), items(1)].concat()));
        }
    }
}
