//! Both roles, talking to each other in memory.

use proptest::prelude::*;

use super::*;

/// A message, its kind, and the sizes of the parts that it is sent in (none: whole).
#[derive(Clone, Debug)]
struct Sent {
    from: Role,
    item: Item,
    parts: Vec<usize>,
}

fn messages() -> impl Strategy<Value = Vec<Sent>> {
    let small = prop::collection::vec(any::<u8>(), 0..200);
    let large = (0usize..70_000, any::<u8>()).prop_map(|(len, byte)| vec![byte; len]);
    let item = prop_oneof![
        4 => any::<String>().prop_map(Item::Text),
        4 => small.prop_map(Item::Binary),
        1 => large.prop_map(Item::Binary),
        1 => prop::collection::vec(any::<u8>(), 0..=125).prop_map(Item::Ping),
    ];
    let parts = prop::collection::vec(0usize..50, 0..4);
    let sent = (any::<bool>(), item, parts).prop_map(|(client, item, parts)| {
        let from = if client { Role::Client } else { Role::Server };
        Sent { from, item, parts }
    });
    prop::collection::vec(sent, 0..12)
}

fn send(sender: &mut Caller, sent: &Sent) {
    let Caller { connection, seen: Transcript { out, .. }, .. } = sender;
    let (kind, mut rest) = match &sent.item {
        Item::Text(text) => (MessageKind::Text, text.as_bytes()),
        Item::Binary(bytes) => (MessageKind::Binary, &bytes[..]),
        Item::Ping(payload) => return connection.ping(payload, out, Now::default()).unwrap(),
        other => unreachable!("{other:?} is not sent"),
    };
    if sent.parts.is_empty() {
        return connection.send(kind, rest, out).unwrap();
    }
    for &size in &sent.parts {
        let (part, after) = rest.split_at(size.min(rest.len()));
        connection.send_part(kind, part, false, out).unwrap();
        rest = after;
    }
    connection.send_part(kind, rest, true, out).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_message_arrives_as_it_was_sent(
        messages in messages(),
        sizes in cuts::sizes(),
        closer: bool,
    ) {
        let mut server = Caller::new(connection(Role::Server, Config::default()));
        let mut client = Caller::new(connection(Role::Client, Config::default()));
        for (index, sent) in messages.iter().enumerate() {
            send(if sent.from == Role::Server { &mut server } else { &mut client }, sent);
            // Let several wait now and then, so that frames are cut and glued.
            if index % 3 == 2 {
                carry(&mut server, &mut client, &sizes);
                carry(&mut client, &mut server, &sizes);
            }
        }
        let Caller { connection, seen, .. } = if closer { &mut server } else { &mut client };
        connection.close(CloseCode::NORMAL, "done", &mut seen.out, Now::default()).unwrap();
        for _ in 0..3 {
            carry(&mut server, &mut client, &sizes);
            carry(&mut client, &mut server, &sizes);
        }

        for (receiver, sender) in [(&server, Role::Client), (&client, Role::Server)] {
            prop_assert_eq!(receiver.seen.error, None);
            prop_assert!(receiver.connection.is_closed() && receiver.seen.out.is_empty());
            let data = |item: &&Item| !matches!(item, Item::Pong(_) | Item::Closed(..));
            let arrived: Vec<_> = receiver.seen.items.iter().filter(data).collect();
            let sent: Vec<_> = messages.iter().filter(|sent| sent.from == sender).map(|sent| &sent.item).collect();
            prop_assert_eq!(arrived, sent);
            prop_assert!(matches!(receiver.seen.items.last(), Some(Item::Closed(Some(1000), _, true))));
        }
    }

    #[test]
    fn any_bytes_lead_to_the_same_whatever_the_pieces(
        bytes in prop::collection::vec(any::<u8>(), 0..60),
        frames in prop::collection::vec((any::<bool>(), 0u8..16, prop::collection::vec(any::<u8>(), 0..8)), 0..6),
        sizes in cuts::sizes(),
        client: bool,
    ) {
        let role = if client { Role::Client } else { Role::Server };
        let mut stream = Vec::new();
        for (fin, opcode, payload) in frames {
            if let Some(opcode) = Opcode::from_bits(opcode) {
                stream.extend(frame(role, fin, opcode, &payload));
            }
        }
        stream.extend(bytes);
        let start = || connection(role, Config { message_bytes: 100, empty_fragments: 2, ..Config::default() });
        let whole = play(start, &[&stream[..]]);
        prop_assert_eq!(play(start, &cuts::by(&stream, &sizes)), whole);
    }
}
