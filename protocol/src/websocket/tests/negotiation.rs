//! Who agrees to what about compression.

use super::super::deflate::{Parameters, RefusedExtension, Terms};

const PLAIN: &str = "permessage-deflate";

/// What a server with these terms agrees to and answers.
fn answer<const N: usize>(terms: Terms, offers: [&str; N]) -> Option<(Parameters, String)> {
    terms.answer(offers)
}

fn answered(offer: &str) -> Option<String> {
    answer(Terms::default(), [offer]).map(|(_, answer)| answer)
}

/// (server, client) of takeover and of windows.
fn read(parameters: Parameters) -> ((bool, bool), (u8, u8)) {
    (
        (!parameters.server_no_context_takeover(), !parameters.client_no_context_takeover()),
        (parameters.server_max_window_bits(), parameters.client_max_window_bits()),
    )
}

#[test]
fn row_offers_the_first_that_can_be_accepted_is() {
    let offers = [
        "x-webkit-deflate-frame",
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; server_max_window_bits=10",
        PLAIN,
    ];
    let (parameters, said) = answer(Terms::default(), offers).unwrap();
    assert_eq!(said, "permessage-deflate; server_max_window_bits=10");
    assert_eq!(read(parameters), ((true, true), (10, 15)));
    assert_eq!(answer(Terms::default(), ["permessage-bzip2", "mux"]), None);
    assert_eq!(answer(Terms::default(), []), None);
}

#[test]
fn row_offers_values_may_be_quoted() {
    let quoted = "permessage-deflate; client_max_window_bits=\"10\" ;\tserver_max_window_bits=\"1\\1\"";
    let said = "permessage-deflate; server_max_window_bits=11; client_max_window_bits=10";
    assert_eq!(answered(quoted).as_deref(), Some(said));
}

#[test]
fn row_offers_what_is_not_in_order_declines_that_offer() {
    let declined = [
        "permessage-deflate; unknown",
        "permessage-deflate; unknown=1",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; client_max_window_bits; client_max_window_bits=10",
        "permessage-deflate; client_max_window_bits=10; client_max_window_bits=10",
        "permessage-deflate; server_no_context_takeover=true",
        "permessage-deflate; client_no_context_takeover=",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=",
        "permessage-deflate; server_max_window_bits=\"\"",
        "permessage-deflate; server_max_window_bits=\"10",
        "permessage-deflate; server_max_window_bits=10\"",
        "permessage-deflate; server_max_window_bits=\"10\\\"",
        "permessage-deflate; server_max_window_bits=1\\0",
        "permessage-deflate; server_max_window_bits= 10",
        "permessage-deflate; server_max_window_bits=10 11",
        "permessage-deflate; server_max_window_bits=010",
        "permessage-deflate; server_max_window_bits=+10",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; client_max_window_bits=100",
        "permessage-deflate; client_max_window_bits=0",
        "permessage-deflate;",
        "permessage-deflate; ; server_no_context_takeover",
        "permessage-deflate2",
        "",
    ];
    for offer in declined {
        assert_eq!(answered(offer), None, "{offer}");
        assert_eq!(answer(Terms::default(), [offer, PLAIN]).unwrap().1, PLAIN, "{offer}");
    }
}

#[test]
fn row_offers_window_bits_8_are_declined() {
    for offer in
        ["permessage-deflate; server_max_window_bits=8", "permessage-deflate; client_max_window_bits=8"]
    {
        assert_eq!(answered(offer), None, "{offer}");
    }
}

#[test]
fn row_offers_what_is_answered_is_what_is_done() {
    let limited = Terms { send_window_bits: 11, receive_window_bits: 12, ..Terms::default() };
    let without = Terms { send_takeover: false, receive_takeover: false, ..Terms::default() };
    let all = Terms::default();
    let cases = [
        (all, "", "", ((true, true), (15, 15))),
        (all, "; client_max_window_bits", "", ((true, true), (15, 15))),
        (all, "; client_max_window_bits=15", "; client_max_window_bits=15", ((true, true), (15, 15))),
        (all, "; client_max_window_bits=9", "; client_max_window_bits=9", ((true, true), (15, 9))),
        (all, "; server_max_window_bits=15", "; server_max_window_bits=15", ((true, true), (15, 15))),
        (all, "; server_no_context_takeover", "; server_no_context_takeover", ((false, true), (15, 15))),
        (all, "; client_no_context_takeover", "; client_no_context_takeover", ((true, false), (15, 15))),
        (without, "", "; server_no_context_takeover; client_no_context_takeover", ((false, false), (15, 15))),
        (
            limited,
            "; client_max_window_bits",
            "; server_max_window_bits=11; client_max_window_bits=12",
            ((true, true), (11, 12)),
        ),
        (
            limited,
            "; client_max_window_bits=10; server_max_window_bits=9",
            "; server_max_window_bits=9; client_max_window_bits=10",
            ((true, true), (9, 10)),
        ),
        (
            limited,
            "; client_max_window_bits=14; server_max_window_bits=14",
            "; server_max_window_bits=11; client_max_window_bits=12",
            ((true, true), (11, 12)),
        ),
        // This client cannot be told to limit its window, and may use all of it.
        (limited, "", "; server_max_window_bits=11", ((true, true), (11, 15))),
    ];
    for (terms, offer, said, agreed) in cases {
        let (parameters, answer) = answer(terms, [&*format!("{PLAIN}{offer}")]).unwrap();
        assert_eq!((&answer[PLAIN.len()..], read(parameters)), (said, agreed), "{offer}");
    }
}

#[test]
fn a_client_offers_what_it_would_have() {
    assert_eq!(Terms::default().offer(), "permessage-deflate; client_max_window_bits");
    let little =
        Terms { send_window_bits: 10, receive_window_bits: 8, send_takeover: false, receive_takeover: false };
    assert_eq!(
        little.offer(),
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=9; \
         client_max_window_bits=10"
    );
}

#[test]
fn a_client_takes_what_fits_its_offer() {
    let all = Terms::default();
    assert_eq!(all.accept([]), Ok(None));
    let cases = [
        ("", ((true, true), (15, 15))),
        ("; server_no_context_takeover; client_no_context_takeover", ((false, false), (15, 15))),
        ("; server_max_window_bits=12; client_max_window_bits=\"9\"", ((true, true), (12, 9))),
        // What comes in a window of 8 fits into one of 9.
        ("; server_max_window_bits=8", ((true, true), (9, 15))),
    ];
    for (answer, agreed) in cases {
        let accepted = all.accept([&*format!("{PLAIN}{answer}")]).unwrap().unwrap();
        assert_eq!(read(accepted), agreed, "{answer}");
    }
    let sends_little = Terms { send_takeover: false, send_window_bits: 10, ..all };
    assert_eq!(read(sends_little.accept([PLAIN]).unwrap().unwrap()), ((true, false), (15, 10)));
}

#[test]
fn a_client_refuses_what_does_not_fit_its_offer() {
    use RefusedExtension::{Beyond, Malformed, NotOffered, Several, Window};
    let all = Terms::default();
    let little = Terms { send_window_bits: 10, receive_window_bits: 10, receive_takeover: false, ..all };
    let cases = [
        (all, "x-webkit-deflate-frame", NotOffered),
        (all, "permessage-deflate; unknown", Malformed),
        (all, "permessage-deflate; server_no_context_takeover; server_no_context_takeover", Malformed),
        (all, "permessage-deflate; client_no_context_takeover=1", Malformed),
        (all, "permessage-deflate; client_max_window_bits", Malformed),
        (all, "permessage-deflate; server_max_window_bits", Malformed),
        (all, "permessage-deflate; server_max_window_bits=16", Malformed),
        (all, "permessage-deflate; client_max_window_bits=8", Window),
        (little, PLAIN, Beyond),
        (little, "permessage-deflate; server_no_context_takeover", Beyond),
        (little, "permessage-deflate; server_no_context_takeover; server_max_window_bits=11", Beyond),
        (
            little,
            "permessage-deflate; server_no_context_takeover; server_max_window_bits=9; client_max_window_bits=11",
            Beyond,
        ),
    ];
    for (terms, answer, error) in cases {
        assert_eq!(terms.accept([answer]), Err(error), "{answer}");
    }
    assert_eq!(all.accept([PLAIN, PLAIN]), Err(Several));
}

#[test]
fn any_two_agree_on_the_same() {
    let both = [true, false];
    let all: Vec<Terms> = [9, 12, 15]
        .into_iter()
        .flat_map(|send| [9, 12, 15].map(|receive| (send, receive)))
        .flat_map(|windows| both.map(|send| (windows, send)))
        .flat_map(|(windows, send)| both.map(|receive| (windows, (send, receive))))
        .map(|((send_window_bits, receive_window_bits), (send_takeover, receive_takeover))| Terms {
            send_window_bits,
            receive_window_bits,
            send_takeover,
            receive_takeover,
        })
        .collect();
    for client in &all {
        for server in &all {
            let offer = client.offer();
            let (parameters, answer) = server.answer([&*offer]).expect("there is always a way");
            assert_eq!(client.accept([&*answer]), Ok(Some(parameters)), "{offer} / {answer}");
            let ((server_takeover, client_takeover), (server_bits, client_bits)) = read(parameters);
            assert_eq!(server_takeover, server.send_takeover && client.receive_takeover);
            assert_eq!(client_takeover, server.receive_takeover && client.send_takeover);
            assert_eq!(server_bits, server.send_window_bits.min(client.receive_window_bits));
            assert_eq!(client_bits, server.receive_window_bits.min(client.send_window_bits));
        }
    }
}
