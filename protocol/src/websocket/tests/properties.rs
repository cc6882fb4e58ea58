//! The parts of the protocol by themselves, held to plainer ones, for every input.

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::super::deflate::{RefusedExtension, Terms};
use super::super::frame::{Head, HeadError, decode, decode_extended};
use super::super::{Assembler, Message, Prepared, assembly::AssemblyError};
use super::*;

fn opcode() -> impl Strategy<Value = Opcode> {
    (0_u8..16).prop_filter_map("an opcode", Opcode::from_bits)
}

fn role() -> impl Strategy<Value = Role> {
    select(&BOTH[..])
}

/// Lengths near where their form changes, and any.
fn lengths() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..130_u64,
        (65_530..65_540_u64),
        any::<u64>(),
        any::<Index>().prop_map(|bits| 1_u64 << bits.index(63))
    ]
}

/// The beginnings of frames, right and wrong: two bytes that say what is to come, and what comes.
fn heads() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![3 => select(vec![0x81_u8, 0x82, 0x01, 0x00, 0x89, 0x88, 0xc1]), 1 => any::<u8>()];
    let second = prop_oneof![2 => select(vec![126_u8, 127, 254, 255]), 1 => any::<u8>()];
    let rest = prop::collection::vec(prop_oneof![3 => Just(0_u8), 1 => any::<u8>()], 0..14);
    (first, second, rest).prop_map(|(first, second, rest)| [&[first, second], &rest[..]].concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_head_is_read_as_it_was_written(
        opcode in opcode(), fin: bool, rsv1: bool, len in lengths(), receiver in role(), key: [u8; 4],
    ) {
        let mask = (receiver == Role::Server).then_some(key);
        let len = len.min(u64::MAX >> 1);
        let len = if opcode.is_control() { len % 126 } else { len };
        let fin = fin || opcode.is_control();
        let rsv1 = rsv1 && matches!(opcode, Opcode::Text | Opcode::Binary);
        let head = FrameHead::new(fin, opcode, len, mask);
        let head = if rsv1 { head.with_rsv1() } else { head };
        let bytes = head.as_ref();
        for cut in 0..bytes.len() {
            prop_assert_eq!(decode_extended(&bytes[..cut], receiver), Ok(None), "cut at {}", cut);
        }
        let read = Head { fin, opcode, rsv1, mask, len };
        prop_assert_eq!(decode_extended(bytes, receiver), Ok(Some((read, bytes.len()))));
        let plain = if rsv1 { Err(HeadError::ReservedBits) } else { Ok(Some((read, bytes.len()))) };
        prop_assert_eq!(decode(bytes, receiver), plain);
    }

    #[test]
    fn there_is_one_way_to_write_each_head_that_is_read(bytes in heads(), receiver in role()) {
        if let Ok(Some((head, size))) = decode_extended(&bytes, receiver) {
            let written = FrameHead::new(head.fin, head.opcode, head.len, head.mask);
            let written = if head.rsv1 { written.with_rsv1() } else { written };
            prop_assert_eq!(written.as_ref(), &bytes[..size]);
        }
    }

    #[test]
    fn what_is_known_of_a_head_stays_whatever_follows(bytes in heads(), receiver in role()) {
        let whole = decode_extended(&bytes, receiver);
        let first = (0..bytes.len()).map(|cut| decode_extended(&bytes[..cut], receiver)).find(|known| *known != Ok(None));
        prop_assert_eq!(first.unwrap_or(whole), whole);
    }

    #[test]
    fn masking_in_parts_is_masking_at_once_and_twice_is_not_at_all(
        key: [u8; 4], payload in prop::collection::vec(any::<u8>(), 0..600), sizes in cuts::sizes(),
    ) {
        let (mut at_once, mut in_parts, mut phase) = (payload.clone(), Vec::new(), 0);
        mask::apply(key, 0, &mut at_once);
        for part in cuts::by(&payload, &sizes) {
            let mut part = part.to_vec();
            mask::apply(key, phase, &mut part);
            phase += part.len();
            in_parts.extend(part);
        }
        prop_assert_eq!(&in_parts, &at_once);
        let by_definition: Vec<u8> = payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
        prop_assert_eq!(&by_definition, &at_once);
        mask::apply(key, 0, &mut at_once);
        prop_assert_eq!(at_once, payload);
    }

    #[test]
    fn a_close_frame_says_a_code_and_a_reason_or_is_refused(
        code in prop_oneof![990..1020_u16, 2995..3005_u16, 4995..5005_u16, any::<u16>()],
        reason in prop_oneof![
            "[a-z\u{e9}\u{20ac}]{0,40}".prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 0..6),
        ],
        length in 0_usize..126,
        receiver in role(),
    ) {
        let mut payload = [&code.to_be_bytes()[..], &reason].concat();
        payload.truncate(length);
        let seen = received(receiver, &frame(receiver, FIN, Opcode::Close, &payload));
        let legal = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
        let expected = match &payload[..] {
            [] => Ok((None, String::new())),
            [_] => Err(RecvError::CloseTooShort),
            _ if !legal => Err(RecvError::InvalidCloseCode),
            [_, _, reason @ ..] => match std::str::from_utf8(reason) {
                Ok(reason) => Ok((Some(code), reason.to_owned())),
                Err(_) => Err(RecvError::InvalidCloseReason),
            },
        };
        // Whichever it is: it is answered, once, with the peer's own code or with what it did wrong.
        let answer = heard_by_peer(receiver, &seen.out);
        match expected {
            Ok((code, reason)) => {
                prop_assert_eq!((seen.error, &seen.items), (None, &vec![Item::Closed(code, reason, true)]));
                prop_assert_eq!(answer, [Item::Closed(code, String::new(), true)]);
            }
            Err(error) => {
                prop_assert_eq!((seen.error, seen.items.len()), (Some(error), 0));
                prop_assert_eq!(answer, [Item::Closed(Some(error.code().get()), error.reason().to_owned(), true)]);
            }
        }
    }

    #[test]
    fn messages_are_put_together_up_to_the_limit(
        messages in prop::collection::vec((any::<bool>(), "[a\u{e9}\u{20ac}]{0,12}", any::<Option<u8>>(), cuts::sizes()), 1..6),
        limit in 0_usize..30,
    ) {
        let mut assembler = Assembler::new(limit);
        for (text, payload, flip, sizes) in messages {
            let kind = if text { MessageKind::Text } else { MessageKind::Binary };
            let mut payload = payload.into_bytes();
            if let (Some(flip), Some(byte)) = (flip, payload.last_mut()) {
                *byte = flip;
            }
            let parts = cuts::by(&payload, &sizes);
            let expected = match std::str::from_utf8(&payload) {
                _ if payload.len() > limit => Err(AssemblyError::TooLarge),
                Ok(text) if kind == MessageKind::Text => Ok(Some(Message::Text(text))),
                Err(_) if kind == MessageKind::Text => Err(AssemblyError::InvalidText),
                _ => Ok(Some(Message::Binary(&payload))),
            };
            for (index, part) in parts.iter().enumerate() {
                let last = index + 1 == parts.len();
                let pushed = assembler.push(kind, part, index == 0, last);
                if last || pushed.is_err() {
                    prop_assert_eq!(pushed, expected);
                    break;
                }
                prop_assert_eq!(pushed, Ok(None));
            }
        }
    }

    #[test]
    fn a_prepared_message_is_heard_as_it_was_made(text in "[ -~\u{e9}]{0,300}", binary: bool) {
        let (message, item) = if binary {
            (Message::Binary(text.as_bytes()), Item::Binary(text.clone().into_bytes()))
        } else {
            (Message::Text(&text), Item::Text(text.clone()))
        };
        let prepared = Prepared::new(message);
        let server = connection(Role::Server, Config::default());
        let frame = prepared.for_connection(&server).unwrap();
        prop_assert_eq!(heard_by_peer(Role::Server, frame), [item]);
        // A client has to mask: it cannot share.
        prop_assert!(prepared.for_connection(&connection(Role::Client, Config::default())).is_err());
    }

    #[test]
    fn both_sides_agree_on_no_more_than_either_would_have(ours in terms(), theirs in terms()) {
        let (server, client) = (ours, theirs);
        // A client of ours names all that it could be told, so there is always something to agree on.
        let (agreed, answer) = server.answer([&*client.offer()]).unwrap();
        prop_assert_eq!(client.accept([&*answer]), Ok(Some(agreed)));
        for (sender, window, most, takeover, both) in [
            (
                Role::Server, agreed.server_max_window_bits(), server.send_window_bits.min(client.receive_window_bits),
                !agreed.server_no_context_takeover(), server.send_takeover && client.receive_takeover,
            ),
            (
                Role::Client, agreed.client_max_window_bits(), client.send_window_bits.min(server.receive_window_bits),
                !agreed.client_no_context_takeover(), client.send_takeover && server.receive_takeover,
            ),
        ] {
            prop_assert_eq!((window, takeover), (most.clamp(9, 15), both), "{:?}", sender);
            prop_assert_eq!((agreed.window_bits(sender), agreed.takeover(sender)), (window, takeover));
        }
    }

    #[test]
    fn of_an_offer_or_an_answer_no_more_is_understood_than_the_grammar_has(
        parameters in prop::collection::vec(parameter(), 0..4), ours in terms(),
    ) {
        let text: String = core::iter::once("permessage-deflate".to_owned()).chain(parameters.clone()).collect::<Vec<_>>().join(";");
        let understood = understood(&parameters);
        // As an offer: what is not understood is passed over, and what is can be agreed to.
        let agreed = ours.answer([&*text]);
        prop_assert_eq!(agreed.is_some(), understood.as_ref().is_some_and(|asked| asked.server != Some(8) && asked.client != Some(8)));
        // As an answer: it is refused, or binds both.
        match (ours.accept([&*text]), understood) {
            (Ok(None), _) => prop_assert!(false, "there is an answer"),
            (Err(RefusedExtension::Malformed), asked) => {
                prop_assert!(asked.is_none_or(|asked| asked.client_is_bare), "{}", text);
            }
            (_, None) => prop_assert!(false, "{} is not in order", text),
            (Ok(Some(agreed)), Some(asked)) => {
                prop_assert_eq!(agreed.server_max_window_bits(), asked.server.map_or(15, |bits| bits.max(9)));
                prop_assert_eq!(agreed.server_no_context_takeover(), asked.server_alone);
                prop_assert!(asked.server_alone || ours.receive_takeover);
                prop_assert!(agreed.server_max_window_bits() <= ours.receive_window_bits.clamp(9, 15));
                prop_assert!(agreed.client_max_window_bits() <= ours.send_window_bits.clamp(9, 15));
            }
            (Err(_), Some(asked)) => prop_assert!(
                asked.server.unwrap_or(15).max(9) > ours.receive_window_bits.clamp(9, 15)
                    || asked.client.is_some_and(|bits| bits > ours.send_window_bits.clamp(9, 15) || bits == 8)
                    || (!ours.receive_takeover && !asked.server_alone)
            ),
        }
    }
}

fn terms() -> impl Strategy<Value = Terms> {
    (0_u8..20, 0_u8..20, any::<bool>(), any::<bool>()).prop_map(
        |(send, receive, send_takeover, receive_takeover)| Terms {
            send_window_bits: send,
            receive_window_bits: receive,
            send_takeover,
            receive_takeover,
        },
    )
}

fn parameter() -> impl Strategy<Value = String> {
    let flag = select(vec!["server_no_context_takeover", "client_no_context_takeover", "x"]);
    let window = select(vec!["server_max_window_bits", "client_max_window_bits"]);
    let value = prop_oneof![
        4 => (8..17_u8).prop_map(|bits| format!("={bits}")),
        1 => (8..17_u8).prop_map(|bits| format!("=\"{bits}\"")),
        1 => select(vec!["", "=", "=08", "=7", "=\"", "=1 0", "=+9", "=\"\\9\""]).prop_map(str::to_owned),
    ];
    prop_oneof![
        2 => flag.prop_map(str::to_owned),
        3 => (window, value).prop_map(|(name, value)| format!(" {name}{value}")),
    ]
}

/// What parameters say, if they are in order.
#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    server_alone: bool,
    server: Option<u8>,
    client: Option<u8>,
    /// The client's is there, without a value.
    client_is_bare: bool,
}

fn understood(parameters: &[String]) -> Option<Asked> {
    let mut names: Vec<&str> = parameters.iter().map(|text| text.trim().split('=').next().unwrap()).collect();
    names.sort_unstable();
    let mut asked = Asked::default();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        return None;
    }
    for text in parameters {
        let (name, value) =
            text.trim().split_once('=').map_or((text.trim(), None), |(name, value)| (name, Some(value)));
        let bits = match value {
            None => None,
            Some("\"\\9\"") => Some(9),
            Some(value) => {
                let plain =
                    value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
                Some((8..=15).find(|bits: &u8| bits.to_string() == plain)?)
            }
        };
        match name {
            "server_no_context_takeover" => asked.server_alone = true,
            "client_no_context_takeover" => {}
            "server_max_window_bits" => asked.server = Some(bits?),
            "client_max_window_bits" => (asked.client, asked.client_is_bare) = (bits, bits.is_none()),
            _ => return None,
        }
    }
    Some(asked)
}
