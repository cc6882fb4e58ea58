//! Both roles, compressing for each other.

use proptest::prelude::*;

use super::*;

/// How a message is sent.
#[derive(Clone, Debug)]
struct Sent {
    from: Role,
    item: Item,
    /// The sizes of its parts; none: whole.
    parts: Vec<usize>,
    uncompressed: bool,
}

fn messages() -> impl Strategy<Value = Vec<Sent>> {
    let text = prop_oneof![any::<String>(), "[a-d]{0,400}", "(key|value|watch){0,3000}"];
    let binary = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        (0usize..60_000).prop_map(noise),
        (0usize..100_000, any::<u8>()).prop_map(|(len, byte)| vec![byte; len]),
    ];
    let item = prop_oneof![text.prop_map(Item::Text), binary.prop_map(Item::Binary)];
    let parts = prop::collection::vec(prop_oneof![0usize..50, 0usize..40_000], 0..4);
    let sent = (any::<bool>(), item, parts, prop::bool::weighted(0.2)).prop_map(
        |(client, item, parts, uncompressed)| Sent {
            from: if client { Role::Client } else { Role::Server },
            item,
            parts,
            uncompressed,
        },
    );
    prop::collection::vec(sent, 0..8)
}

fn send(sender: &mut Caller, sent: &Sent) {
    let Caller { connection, seen: Transcript { out, .. }, .. } = sender;
    let (kind, mut rest) = match &sent.item {
        Item::Text(text) => (TEXT, text.as_bytes()),
        Item::Binary(bytes) => (BINARY, &bytes[..]),
        other => unreachable!("{other:?} is not sent"),
    };
    if sent.uncompressed {
        return connection.send_uncompressed(kind, rest, out).unwrap();
    }
    if sent.parts.is_empty() {
        return connection.send(kind, rest, out).unwrap();
    }
    for &size in &sent.parts {
        let (part, after) = rest.split_at(size.min(rest.len()));
        connection.send_part(kind, part, false, out).unwrap();
        connection.ping(b"between", out, Now::default()).unwrap();
        rest = after;
    }
    connection.send_part(kind, rest, true, out).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_message_arrives_whatever_was_agreed(
        messages in messages(),
        windows in prop::array::uniform2(9u8..=15),
        takeover: (bool, bool),
        (level, memory_level) in (1u8..=9, 1u8..=9),
        sizes in cuts::sizes(),
    ) {
        let terms = |[send_window_bits, receive_window_bits]: [u8; 2]| Terms {
            send_window_bits, receive_window_bits, send_takeover: takeover.0, receive_takeover: takeover.1,
        };
        let compression = |terms| {
            Compression::deflate(DeflateConfig { terms, level, memory_level, threshold: 1, takeover_threshold: 1, ..eager() })
        };
        let (ours, theirs) = (compression(terms(windows)), compression(Terms::default()));
        let offer = theirs.offer().unwrap();
        let agreed = ours.answer([offer.field()]).unwrap();
        let accepted = offer.accept([agreed.answer()]).unwrap().unwrap();
        let parameters = agreed.parameters();
        prop_assert_eq!(parameters, accepted.parameters());
        prop_assert_eq!(parameters.server_max_window_bits(), windows[0]);
        prop_assert_eq!(parameters.client_max_window_bits(), windows[1]);
        let config = |compression| Config { compression, ..Config::default() };
        let mut server = Caller::new(connection(Role::Server, config(ours)).with_deflate(agreed));
        let mut client = Caller::new(connection(Role::Client, config(theirs)).with_deflate(accepted));

        for (index, sent) in messages.iter().enumerate() {
            send(if sent.from == Role::Server { &mut server } else { &mut client }, sent);
            if index % 3 == 2 {
                carry(&mut server, &mut client, &sizes);
                carry(&mut client, &mut server, &sizes);
            }
        }
        for _ in 0..2 {
            carry(&mut server, &mut client, &sizes);
            carry(&mut client, &mut server, &sizes);
        }
        for (receiver, sender) in [(&server, Role::Client), (&client, Role::Server)] {
            prop_assert_eq!(receiver.seen.error, None);
            let data = |item: &&Item| matches!(item, Item::Text(_) | Item::Binary(_));
            let arrived: Vec<_> = receiver.seen.items.iter().filter(data).collect();
            let sent: Vec<_> = messages.iter().filter(|sent| sent.from == sender).map(|sent| &sent.item).collect();
            prop_assert!(arrived == sent);
        }
    }

    #[test]
    fn any_compressed_bytes_lead_to_the_same_whatever_the_pieces(
        payloads in prop::collection::vec(
            prop_oneof![
                prop::collection::vec(any::<u8>(), 0..60),
                ("[a-c]{0,80}", any::<(prop::sample::Index, u8)>()).prop_map(|(text, (at, bits))| {
                    let mut message = Peer::new().message(text.as_bytes());
                    let at = at.index(message.len());
                    message[at] ^= bits & 0x11;
                    message
                }),
            ],
            1..5,
        ),
        sizes in cuts::sizes(),
        client: bool,
        takeover: bool,
        binary: bool,
    ) {
        let role = if client { Role::Client } else { Role::Server };
        let opcode = if binary { Opcode::Binary } else { Opcode::Text };
        let stream: Vec<u8> = payloads.iter().flat_map(|payload| deflated(role, FIN, opcode, payload)).collect();
        let deflate = if takeover { eager() } else { without_takeover() };
        let start = || deflating_with(role, Compression::deflate(deflate), Config { message_bytes: 300, ..Config::default() });
        let whole = play(start, &[&stream[..]]);
        prop_assert_eq!(play(start, &cuts::by(&stream, &sizes)), whole);
    }

    #[test]
    fn any_frames_lead_to_the_same_whatever_the_pieces(
        frames in prop::collection::vec(
            (prop::bool::weighted(0.7), 0u8..16, prop::bool::weighted(0.3), prop::collection::vec(any::<u8>(), 0..8)),
            0..8,
        ),
        hello in prop::collection::vec(1usize..8, 1..8),
        sizes in cuts::sizes(),
        client: bool,
    ) {
        let role = if client { Role::Client } else { Role::Server };
        // A message that is in order, in fragments, in front: so that what follows finds a context.
        let mut stream = deflated(role, MORE, Opcode::Text, b"");
        let mut rest = HELLO;
        for size in hello {
            let (part, after) = rest.split_at(size.min(rest.len()));
            stream.extend(frame(role, MORE, Opcode::Continuation, part));
            stream.extend(frame(role, FIN, Opcode::Pong, b""));
            rest = after;
        }
        stream.extend(frame(role, FIN, Opcode::Continuation, rest));
        for (fin, opcode, rsv1, payload) in frames {
            if let Some(opcode) = Opcode::from_bits(opcode) {
                let mut bytes = frame(role, fin, opcode, &payload);
                bytes[0] |= u8::from(rsv1) << 6;
                stream.extend(bytes);
            }
        }
        let config = Config { message_bytes: 100, empty_fragments: 10, ..Config::default() };
        let start = || deflating_with(role, Compression::deflate(eager()), config.clone());
        let whole = play(start, &[&stream[..]]);
        prop_assert_eq!(whole.items.iter().find(|item| matches!(item, Item::Text(_))), Some(&Item::Text("Hello".into())));
        prop_assert_eq!(play(start, &cuts::by(&stream, &sizes)), whole);
    }
}
