//! Who holds which memory, and what happens when there is none.

use super::*;
use crate::websocket::Expired;

const INFLATER: usize = 48 << 10;
const BUFFER: usize = 16 << 10;

fn budget(budget: usize) -> Compression {
    Compression::deflate(DeflateConfig { budget, ..without_takeover() })
}

#[test]
fn all_of_it_goes_from_thread_to_thread() {
    fn shared<T: Send + Sync>() {}
    shared::<(Compression, Config, Connection, Prepared, Framer, Event<'_>)>();
}

#[test]
fn threads_share_one_budget() {
    let compression = Compression::deflate(DeflateConfig { budget: 1 << 20, ..eager() });
    let text = "a text that many send at a time; ".repeat(10);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for index in 0..50 {
                    let mut sender = deflating_with(Role::Server, compression.clone(), Config::default());
                    let mut peer = Caller::new(deflating(Role::Client, eager()));
                    peer.connection.deflate = sender.deflate();
                    let mut out = Vec::new();
                    for last in [index % 2 == 0, true] {
                        sender.send_part(TEXT, text.as_bytes(), last, &mut out).unwrap();
                    }
                    peer.offer(&out, false, Now::default());
                    assert_eq!((peer.seen.error, peer.seen.unfinished), (None, None));
                    assert!(compression.memory() <= 1 << 20);
                }
            });
        }
    });
    assert_eq!(compression.used(), 0);
}

#[test]
fn an_idle_connection_without_takeover_holds_nothing() {
    let compression = budget(64 << 20);
    let all: Vec<Connection> =
        (0..100).map(|_| deflating_with(Role::Server, compression.clone(), Config::default())).collect();
    assert_eq!(compression.memory(), 0);
    assert!(all.iter().all(|connection| connection.rare.is_none()));
}

#[test]
fn what_a_message_took_is_used_again_for_the_next() {
    let compression = budget(64 << 20);
    let mut memory = Vec::new();
    for _ in 0..5 {
        let mut caller = Caller::new(deflating_with(Role::Server, compression.clone(), Config::default()));
        for _ in 0..5 {
            caller.offer(&deflated_text(Role::Server, HELLO), false, Now::default());
            caller.connection.send_text("an answer, an answer, an answer", &mut Vec::new()).unwrap();
        }
        assert!(caller.connection.rare.is_none(), "whole messages need no state between them");
        memory.push(compression.memory());
    }
    assert!(memory[0] > INFLATER + BUFFER && memory.iter().all(|&bytes| bytes == memory[0]), "{memory:?}");
}

#[test]
fn takeover_is_set_aside_at_the_handshake_and_given_back_at_the_end() {
    for role in BOTH {
        let compression = Compression::deflate(eager());
        let mut caller = Caller::new(deflating_with(role, compression.clone(), Config::default()));
        let reserved = compression.memory();
        assert!(reserved > INFLATER + (200 << 10), "{reserved}");
        let other = deflating_with(role, compression.clone(), Config::default());
        assert_eq!(compression.memory(), 2 * reserved);
        caller.offer(&deflated_text(role, HELLO), false, Now::default());
        caller.connection.send_text("an answer", &mut Vec::new()).unwrap();
        assert_eq!(compression.memory(), 2 * reserved + BUFFER, "what was set aside, and an idle buffer");
        drop((caller, other));
        assert_eq!((compression.used(), compression.memory()), (0, reserved + BUFFER), "idle, for the next");
    }
}

#[test]
fn every_way_to_the_end_gives_the_states_back() {
    type End = fn(&mut Caller);
    let ends: [(&str, End); 5] = [
        ("a peer's Close", |caller| {
            let close = close_frame(caller.connection.role, 1000, b"");
            caller.offer(&close, false, Now::default());
        }),
        ("malformed input", |caller| caller.offer(b"\xff", false, Now::default())),
        ("the end of the stream", |caller| caller.offer(b"", true, Now::default())),
        ("a peer that is silent", |caller| {
            let late = |seconds| Now::default().later(core::time::Duration::from_secs(seconds));
            assert_eq!(caller.connection.on_deadline(&mut Vec::new(), late(40)), None);
            assert_eq!(caller.connection.on_deadline(&mut Vec::new(), late(80)), Some(Expired::PongMissing));
        }),
        ("being dropped", |caller| caller.connection = connection(Role::Server, Config::default())),
    ];
    for role in BOTH {
        for (why, end) in ends {
            // Too little for states to lie idle: what is not used is gone.
            let compression = Compression::deflate(DeflateConfig { budget: 400 << 10, ..eager() });
            let mut caller = Caller::new(deflating_with(role, compression.clone(), Config::default()));
            caller.offer(&deflated(role, MORE, Opcode::Text, &HELLO[..4]), false, Now::default());
            caller.connection.send_part(TEXT, b"begun", false, &mut Vec::new()).unwrap();
            assert!(compression.used() > INFLATER);
            end(&mut caller);
            assert_eq!(compression.used(), 0, "{why}");
        }
    }
}

#[test]
fn where_the_budget_has_no_room_takeover_is_not_agreed_to() {
    let offer = "permessage-deflate; client_max_window_bits";
    let compression = Compression::deflate(DeflateConfig { budget: 650 << 10, ..eager() });
    let agreed: Vec<_> = (0..20).map(|_| compression.answer([offer]).unwrap()).collect();
    let takeovers = |agreed: &super::super::super::deflate::Agreed| {
        let parameters = agreed.parameters();
        (!parameters.server_no_context_takeover(), !parameters.client_no_context_takeover())
    };
    assert_eq!(takeovers(&agreed[0]), (true, true));
    assert!(agreed.iter().any(|agreed| takeovers(agreed) == (false, true)), "an inflater alone");
    assert_eq!(takeovers(&agreed[19]), (false, false));
    assert_eq!(
        agreed[19].answer(),
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
    );
    assert!(compression.memory() <= 650 << 10);

    let offered = compression.offer().unwrap();
    assert!(offered.field().contains("server_no_context_takeover"), "{}", offered.field());
    drop(agreed);
    assert_eq!(compression.memory(), 0);
    assert_eq!(compression.offer().unwrap().field(), offer);
}

#[test]
fn an_offer_that_is_not_accepted_sets_nothing_aside() {
    let compression = Compression::deflate(eager());
    assert!(compression.answer(["permessage-deflate; unknown"]).is_none());
    let offer = compression.offer().unwrap();
    assert!(compression.memory() > 0);
    assert!(offer.accept([]).unwrap().is_none());
    assert_eq!(compression.memory(), 0);
    let offer = compression.offer().unwrap();
    let parts = "permessage-deflate; server_no_context_takeover; client_max_window_bits=9";
    let agreed = offer.accept([parts]).unwrap().unwrap();
    let small = compression.memory();
    assert!((128 << 10..200 << 10).contains(&small), "a small compressor, and no inflater: {small}");
    let other = compression.offer().unwrap();
    let of_other = compression.memory() - small;
    drop(agreed);
    assert_eq!(compression.memory(), of_other, "no more is given back than was kept");
    drop(other);
    assert_eq!(compression.memory(), 0);
}

/// How many inflaters can be set aside within this budget.
fn inflaters_within(budget: usize) -> usize {
    let terms = Terms { send_takeover: false, ..Terms::default() };
    let compression = Compression::deflate(DeflateConfig { terms, budget, ..eager() });
    let agreed: Vec<_> = (0..500).map(|_| compression.answer(["permessage-deflate"]).unwrap()).collect();
    agreed.iter().filter(|agreed| !agreed.parameters().client_no_context_takeover()).count()
}

#[test]
fn a_sixteenth_of_the_budget_is_kept_for_buffers_and_two_at_least() {
    assert_eq!(inflaters_within(16 << 20), (15 << 20) / INFLATER);
    assert_eq!(inflaters_within(5 * INFLATER + 2 * BUFFER), 5);
    assert_eq!(inflaters_within(5 * INFLATER + 2 * BUFFER - 1), 4);
}

/// Clients that have received so many beginnings of messages at a time, and are gone.
fn leave_inflaters(compression: &Compression, count: usize) {
    let mut callers: Vec<Caller> = (0..count)
        .map(|_| Caller::new(deflating_with(Role::Client, compression.clone(), Config::default())))
        .collect();
    for caller in &mut callers {
        let beginning = deflated(Role::Client, MORE, Opcode::Text, &HELLO[..4]);
        caller.offer(&beginning, false, Now::default());
    }
}

#[test]
fn few_states_are_kept_while_nobody_uses_them() {
    let compression = budget(64 << 20);
    leave_inflaters(&compression, 20);
    assert_eq!(compression.memory(), 8 * INFLATER + BUFFER);
}

#[test]
fn what_lies_idle_makes_room_only_where_that_is_needed() {
    let terms = Terms { send_takeover: false, receive_takeover: true, ..Terms::default() };
    let all = 12 * INFLATER;
    let compression = Compression::deflate(DeflateConfig { terms, budget: all, ..eager() });
    leave_inflaters(&compression, 8);
    let idle = compression.memory();
    assert_eq!(idle, 8 * INFLATER + BUFFER);
    let mut agreed = vec![compression.answer(["permessage-deflate"]).unwrap()];
    assert_eq!(compression.memory(), idle + INFLATER);
    for _ in 0..9 {
        agreed.push(compression.answer(["permessage-deflate"]).unwrap());
        assert!(compression.memory() <= all);
    }
    assert_eq!(compression.memory(), 10 * INFLATER, "nothing lies idle any more");
}

#[test]
fn a_connection_with_takeover_speaks_on_when_the_budget_is_used_up() {
    let offer = "permessage-deflate";
    let compression = Compression::deflate(DeflateConfig { budget: 1 << 20, ..eager() });
    let mut first = Caller::new(deflating_with(Role::Server, compression.clone(), Config::default()));
    let others: Vec<_> = (0..50).map(|_| compression.answer([offer]).unwrap()).collect();
    for _ in 0..3 {
        first.offer(&deflated_text(Role::Server, b"\xf2\x48\xcd\xc9\xc9\x07\x00"), false, Now::default());
        first.connection.send_text("an answer", &mut first.seen.out).unwrap();
    }
    assert_eq!((first.seen.error, first.seen.items.len()), (None, 3));
    assert_eq!(&first.seen.out[..1], b"\xc1", "and compressed");
    drop(others);
}

#[test]
fn without_memory_what_is_sent_goes_uncompressed() {
    for role in BOTH {
        let compression = budget(0);
        let (mut sender, mut out) =
            (deflating_with(role, compression.clone(), Config::default()), Vec::new());
        sender.send_text("a text, a text, a text, a text", &mut out).unwrap();
        sender.send_part(TEXT, b"a part, ", false, &mut out).unwrap();
        sender.send_part(TEXT, b"and another", true, &mut out).unwrap();
        let texts = ["a text, a text, a text, a text", "a part, and another"];
        assert_eq!(heard_by_peer(role, &out), texts.map(|text| Item::Text(text.into())));
        if role == Role::Server {
            let prepared = Prepared::new(Message::Text("a text, a text, a text, a text"));
            assert!(Arc::ptr_eq(prepared.for_connection(&sender).unwrap(), prepared.uncompressed()));
        }
        assert_eq!(compression.memory(), 0);
    }
}

#[test]
fn without_memory_what_is_received_is_refused_with_1013() {
    for role in BOTH {
        let start = || deflating_with(role, budget(0), Config::default());
        let bytes = [text(role, "plain"), deflated_text(role, HELLO)].concat();
        let seen = play(start, &[&bytes[..]]);
        assert_eq!((seen.items, seen.error), (vec![Item::Text("plain".into())], Some(RecvError::NoMemory)));
        let error = refused_by(start, role, &deflated_text(role, HELLO));
        assert_eq!((error, error.code()), (RecvError::NoMemory, CloseCode::TRY_AGAIN_LATER));
    }
}

#[test]
fn messages_under_way_never_take_more_than_the_budget() {
    let compression = budget(512 << 10);
    let mut refused = 0;
    let mut all = Vec::new();
    for _ in 0..50 {
        let mut caller = Caller::new(deflating_with(Role::Server, compression.clone(), Config::default()));
        caller.offer(&deflated(Role::Server, MORE, Opcode::Text, HELLO), false, Now::default());
        match caller.seen.error {
            None => caller.connection.send_part(TEXT, b"begun", false, &mut Vec::new()).unwrap(),
            error => {
                assert_eq!(error, Some(RecvError::NoMemory));
                refused += 1;
            }
        }
        all.push(caller);
        assert!(compression.memory() <= 512 << 10, "{}", compression.memory());
    }
    assert!(refused > 0);
    drop(all);
    assert_eq!(compression.used(), 0);
}

#[test]
fn without_buffers_messages_go_uncompressed_and_those_under_way_in_small_frames() {
    // Room for both connections, and for four buffers.
    let compression = Compression::deflate(DeflateConfig { budget: 450 << 10, ..eager() });
    let mut sender = deflating_with(Role::Server, compression.clone(), Config::default());
    let agreed = compression.answer(["permessage-deflate; server_no_context_takeover"]).unwrap();
    let config = Config { compression: compression.clone(), ..Config::default() };
    let mut holder = connection(Role::Server, config).with_deflate(agreed);

    let (payload, text) = (noise(10_000), "a text that was sent before");
    let mut out = Vec::new();
    sender.send_text(text, &mut out).unwrap();
    sender.send_part(BINARY, &payload[..5000], false, &mut out).unwrap();
    let with_buffer = out.len();
    {
        let mut messages: Vec<_> = (0..4).map(|_| deflated_text(Role::Server, HELLO)).collect();
        let mut next = |message| holder.recv(&mut Input::new(message), &mut Vec::new(), Now::default());
        let _held: Vec<_> = messages.iter_mut().map(|message| next(message).unwrap()).collect();
        sender.send_part(BINARY, &payload[5000..], true, &mut out).unwrap();
        sender.send_text(text, &mut out).unwrap();
        let mut message = deflated_text(Role::Server, HELLO);
        assert_eq!(next(&mut message), Err(RecvError::NoMemory));
    }
    sender.send_text(text, &mut out).unwrap();

    assert_eq!(out[with_buffer + 1], 126, "a frame of at most");
    assert!(out[with_buffer + 2..][..2] <= [4, 0][..], "1024 bytes");
    let plain = [&[0x81, text.len() as u8], text.as_bytes()].concat();
    assert_eq!(out.windows(plain.len()).filter(|bytes| *bytes == plain).count(), 1);
    let mut peer = Caller::new(deflating(Role::Client, eager()));
    peer.offer(&out, false, Now::default());
    let text = Item::Text(text.into());
    let payload = Item::Binary(payload);
    assert_eq!(
        (peer.seen.error, &peer.seen.items[..]),
        (None, &[text.clone(), payload, text.clone(), text][..])
    );
}

#[test]
fn another_handle_than_the_one_that_agreed_is_not_used() {
    let agreed = Compression::deflate(eager()).answer(["permessage-deflate"]).unwrap();
    let other = Config { compression: Compression::deflate(eager()), ..Config::default() };
    let connection = connection(Role::Server, other).with_deflate(agreed);
    assert_eq!(connection.deflate(), None);
}

#[test]
fn handles_are_the_same_if_they_share_their_memory() {
    let one = Compression::deflate(eager());
    assert!(one == one.clone() && one != Compression::deflate(eager()));
    assert!(Compression::OFF == Compression::default() && one != Compression::OFF);
}

#[test]
fn a_window_out_of_range_is_the_nearest_one_s_memory() {
    let reserved = |send_window_bits| {
        let terms = Terms { send_window_bits, ..Terms::default() };
        let compression = Compression::deflate(DeflateConfig { terms, ..eager() });
        let _agreed = compression.answer(["permessage-deflate"]).unwrap();
        compression.memory()
    };
    assert_eq!((reserved(0), reserved(255)), (reserved(9), reserved(15)));
}

#[test]
fn settings_out_of_range_become_the_nearest() {
    let terms = Terms { send_window_bits: 0, receive_window_bits: 200, ..Terms::default() };
    for level in [0, 255] {
        let deflate = DeflateConfig { terms, level, memory_level: level, ..eager() };
        let mut server = deflating(Role::Server, deflate);
        assert_eq!(server.deflate().unwrap().server_max_window_bits(), 9);
        let mut out = Vec::new();
        server.send_text(&"text ".repeat(1000), &mut out).unwrap();
        assert!(out.len() < 500);
    }
}
