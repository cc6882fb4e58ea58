//! What is compressed once for many is heard by each as it was meant.

use proptest::prelude::*;

use super::*;

/// A server and its client, which agreed to a window and to no takeover.
fn pair(window: u8, config: DeflateConfig) -> (Caller, Caller) {
    let terms = Terms { send_window_bits: window, send_takeover: false, ..Terms::default() };
    let (ours, theirs) =
        (Compression::deflate(DeflateConfig { terms, ..config }), Compression::deflate(eager()));
    let offer = theirs.offer().unwrap();
    let agreed = ours.answer([offer.field()]).unwrap();
    let accepted = offer.accept([agreed.answer()]).unwrap().unwrap();
    let config = |compression| Config { compression, ..Config::default() };
    (
        Caller::new(connection(Role::Server, config(ours)).with_deflate(agreed)),
        Caller::new(connection(Role::Client, config(theirs)).with_deflate(accepted)),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn shared_messages_and_own_ones_are_heard_in_their_order(
        messages in prop::collection::vec(("[a-c\u{e9}]{0,200}", 0_u8..3), 1..8),
        window in 9_u8..=15,
        threshold in 0_usize..60,
        sizes in cuts::sizes(),
    ) {
        let config = DeflateConfig { threshold, ..eager() };
        let (mut server, mut client) = pair(window, config);
        let mut framer = Compression::deflate(config).framer(window).unwrap();
        for (text, way) in &messages {
            let message = Message::Text(text);
            let Caller { connection, seen, .. } = &mut server;
            match way {
                0 => connection.send(TEXT, text.as_bytes(), &mut seen.out).unwrap(),
                1 => {
                    let prepared = Prepared::new(message);
                    let frame = prepared.for_connection(connection).unwrap();
                    prop_assert!(frame.len() <= prepared.uncompressed().len());
                    seen.out.extend_from_slice(frame);
                }
                _ => {
                    let (mut frame, mut again) = (Vec::new(), Vec::new());
                    prop_assert_eq!(framer.put(message, &mut frame), framer.put(message, &mut again));
                    prop_assert_eq!(&frame, &again, "made again, it is the same");
                    seen.out.extend(frame);
                }
            }
        }
        carry(&mut server, &mut client, &sizes);
        let texts: Vec<Item> = messages.into_iter().map(|(text, _)| Item::Text(text)).collect();
        prop_assert_eq!((client.seen.error, client.seen.items), (None, texts));
    }
}
