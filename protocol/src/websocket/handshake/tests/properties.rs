//! What holds for every request and every answer.

use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};

use super::*;

const PROTOCOLS: [&str; 4] = ["chat", "mqtt", "v2.chat", "a!b"];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_sides_agree_on_what_the_client_likes_best_of_what_both_speak(
        offered in subsequence(&PROTOCOLS[..], 0..=4).prop_shuffle(),
        spoken in subsequence(&PROTOCOLS[..], 0..=4).prop_shuffle(),
        nonce: [u8; 16],
        path in "/[!-\"$-~]{0,8}",
        behind in prop::collection::vec(any::<u8>(), 0..20),
        sizes in cuts::sizes(),
    ) {
        let (now, mut request) = (Now::default(), Vec::new());
        let opening = Opening { protocols: &offered, ..Opening::new("a:80", &path) };
        let mut client = ClientHandshake::start(&opening, Arc::default(), nonce, &mut request, now).unwrap();
        request.extend(b"\x82\x80");

        let mut http = ServerConnection::new(Arc::new(http1::Config::default()), now);
        let (mut input, mut out) = (Input::new(&mut request), Vec::new());
        let Ok(Event::Request(head, exchange)) = http.recv(&mut input, &mut out, now) else { panic!() };
        prop_assert_eq!(head.target(), &path);
        let Ok(Event::EndOfRequest) = http.recv(&mut input, &mut out, now) else { panic!() };
        let terms = Terms { protocols: &spoken, ..Terms::default() };
        let agreed = answer(&mut http, exchange, &head, &terms, &mut out, now).unwrap().protocol;
        prop_assert_eq!(agreed, offered.iter().copied().find(|protocol| spoken.contains(protocol)));
        prop_assert_eq!(input.bytes(), b"\x82\x80", "what follows is the WebSocket's");

        out.extend(&behind);
        let (mut unread, mut opened) = (Vec::new(), None);
        for part in cuts::by(&out, &sizes) {
            unread.extend_from_slice(part);
            let mut input = Input::new(&mut unread);
            if opened.is_none() {
                if let Answer::Opened(agreed) = client.recv(&mut input, now).unwrap() {
                    opened = Some(agreed.protocol.map(str::to_owned));
                }
            }
            let taken = input.consumed();
            unread.drain(..taken);
        }
        prop_assert_eq!(opened, Some(agreed.map(str::to_owned)));
        prop_assert_eq!(unread, behind);
    }

    #[test]
    fn an_answer_with_another_byte_is_the_same_under_every_cut(at: Index, byte: u8, protocol in select(vec!["mqtt", "chat"])) {
        let mut answer = format!("{SWITCHED}Sec-WebSocket-Protocol: {protocol}\r\n\r\n").into_bytes();
        let at = at.index(answer.len());
        answer[at] = byte;
        if let Came::Opened { protocol, .. } = client_under_every_cut(&answer, false) {
            let text = String::from_utf8_lossy(&answer);
            prop_assert!(text.contains(": s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{}", text);
            prop_assert!(protocol.is_none_or(|protocol| text.contains(&protocol)));
        }
    }

    #[test]
    fn a_key_is_sixteen_bytes_and_its_answer_is_its_own(nonce: [u8; 16], other: [u8; 16], at: Index, byte: u8) {
        let key = request_key(nonce);
        prop_assert!(is_key(&key));
        prop_assert!(verify_accept(&key, &accept_key(&key)));
        prop_assert_eq!(verify_accept(&request_key(other), &accept_key(&key)), nonce == other);
        let (mut accept, at) = (accept_key(&key), at.index(ACCEPT_BYTES));
        let same = accept[at] == byte;
        accept[at] = byte;
        prop_assert_eq!(verify_accept(&key, &accept), same);
    }

    #[test]
    fn an_origin_is_a_server_s_own_where_scheme_host_and_port_say_so(
        scheme in select(vec!["http", "https"]),
        host in select(vec!["a", "A", "b.c", "[::1]"]),
        port in select(vec!["", ":80", ":443", ":8080"]),
        at in select(vec!["a", "a:80", "a:443", "a:8080", "B.C", "[::1]:8080"]),
    ) {
        let origin = format!("{scheme}://{host}{port}");
        let split = |text: &str, default: &str| {
            let text = text.to_ascii_lowercase();
            let end = text.rfind(']').map_or(0, |end| end + 1);
            match text[end..].find(':') {
                Some(colon) => (text[..end + colon].to_owned(), text[end + colon + 1..].to_owned()),
                None => (text, default.to_owned()),
            }
        };
        let default = if scheme == "http" { "80" } else { "443" };
        let same = split(&format!("{host}{port}"), default) == split(at, default);
        prop_assert_eq!(is_own_origin(origin.as_bytes(), Some(at)), same, "{} at {}", origin, at);
    }
}
