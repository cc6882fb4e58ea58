//! Both machines, and against each other.

mod properties;

use alloc::sync::Arc;
use core::time::Duration;

use keepwatch_sim::cuts;

use super::*;
use crate::http1::{self, ClientConfig, Event, ServerConnection};
use crate::input::Input;
use crate::time::Instant;

#[test]
fn row_accept_key() {
    assert_eq!(&accept_key(b"mg8LvEqrB2vLpyCNnCJV3Q=="), b"AYtwtwampsFjE0lu3kFQrmOCzLQ=");
}

#[test]
fn a_request_key_is_a_key() {
    assert_eq!(&request_key(*b"the sample nonce"), b"dGhlIHNhbXBsZSBub25jZQ==");
    assert!(is_key(&request_key([0xff; 16])));
}

const NONCE: [u8; 16] = *b"the sample nonce";
const REQUEST: &str = "Host: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

/// What a server says to the request with these fields more, and whether it opens.
fn answered(more: &str, terms: &Terms<'_>) -> (String, Result<Option<String>, NotOpened>) {
    let now = Now::default();
    let mut http = ServerConnection::new(Arc::new(http1::Config::default()), now);
    let mut request = format!("GET / HTTP/1.1\r\n{REQUEST}{more}\r\n").into_bytes();
    let (mut input, mut out) = (Input::new(&mut request), Vec::new());
    let Ok(Event::Request(head, exchange)) = http.recv(&mut input, &mut out, now) else { panic!() };
    let Ok(Event::EndOfRequest) = http.recv(&mut input, &mut out, now) else { panic!() };
    let opened = answer(&mut http, exchange, &head, terms, &mut out, now);
    let opened = opened.map(|agreed| agreed.protocol.map(str::to_owned));
    (String::from_utf8(out).unwrap(), opened)
}

#[test]
fn a_server_agrees_to_the_subprotocol_that_the_client_likes_best() {
    let terms = Terms { protocols: &["a", "b"], ..Terms::default() };
    let (out, opened) = answered("Sec-WebSocket-Protocol: c, b\r\nSec-WebSocket-Protocol: a\r\n", &terms);
    assert_eq!(opened.unwrap().as_deref(), Some("b"));
    assert_eq!(out, format!("{SWITCHED}Sec-WebSocket-Protocol: b\r\n\r\n"));
    let (out, opened) = answered("Sec-WebSocket-Protocol: c\r\n", &terms);
    assert_eq!((opened.unwrap(), out), (None, format!("{SWITCHED}\r\n")));
}

#[test]
fn a_server_refuses_a_page_of_another_origin() {
    let (out, opened) = answered("Origin: http://b\r\n", &Terms::default());
    assert!(matches!(opened, Err(NotOpened::Rejected(Rejected::ForeignOrigin))));
    assert!(out.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{out}");
    assert!(answered("Origin: http://a\r\n", &Terms::default()).1.is_ok());
    assert!(
        answered("Origin: http://b\r\n", &Terms { origins: &Origins::Any, ..Terms::default() }).1.is_ok()
    );
}

#[test]
fn a_server_says_which_version_it_speaks() {
    let (out, opened) = answered("Sec-WebSocket-Version: 14\r\n", &Terms::default());
    assert!(matches!(opened, Err(NotOpened::Rejected(Rejected::Version))));
    assert!(out.starts_with("HTTP/1.1 426 Upgrade Required\r\n"), "{out}");
    for field in ["Sec-WebSocket-Version: 13\r\n", "Upgrade: websocket\r\n", "Connection: upgrade\r\n"] {
        assert!(out.contains(field), "{field}");
    }
}

#[test]
fn a_server_s_own_fields_go_with_the_101_unless_they_are_the_handshake_s() {
    let cookie: [(&str, &[u8]); 1] = [("Set-Cookie", b"a=b")];
    let (out, _) = answered("", &Terms { fields: &cookie, ..Terms::default() });
    assert_eq!(out, format!("{SWITCHED}Set-Cookie: a=b\r\n\r\n"));
    for name in ["sec-websocket-protocol", "Sec-WebSocket-X", "Content-Length", "a b"] {
        let (out, opened) = answered("", &Terms { fields: &[(name, b"x")], ..Terms::default() });
        assert!(matches!(opened, Err(NotOpened::NotSent(_))), "{name}");
        assert_eq!(out, "", "{name}");
    }
}

/// What a client's handshake came to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Came {
    Waits,
    Opened { protocol: Option<String>, rest: Vec<u8> },
    Refused { status: u16, body: Vec<u8>, whole: bool },
    Failed(HandshakeError),
}

fn started(opening: &Opening<'_>) -> (Vec<u8>, ClientHandshake) {
    let mut out = Vec::new();
    let config = Arc::new(ClientConfig::default());
    let handshake = ClientHandshake::start(opening, config, NONCE, &mut out, Now::default()).unwrap();
    (out, handshake)
}

const OPENING: Opening<'static> = Opening { protocols: &["chat", "mqtt"], ..Opening::new("a", "/") };

/// Gives the parts to a client one after the other, and the end of the stream if it came.
fn client(parts: &[&[u8]], ended: bool) -> Came {
    let (_, mut handshake) = started(&OPENING);
    let (mut unread, mut came) = (Vec::new(), Came::Waits);
    for (index, part) in parts.iter().enumerate() {
        unread.extend_from_slice(part);
        let last = ended && index + 1 == parts.len();
        let mut input = if last { Input::last(&mut unread) } else { Input::new(&mut unread) };
        if matches!(came, Came::Opened { .. }) {
            continue;
        }
        loop {
            match handshake.recv(&mut input, Now::default()) {
                Ok(Answer::NeedMore) => break,
                Ok(Answer::Opened(agreed)) => {
                    came = Came::Opened { protocol: agreed.protocol.map(str::to_owned), rest: Vec::new() };
                    break;
                }
                Ok(Answer::Refused(head)) => {
                    came = Came::Refused { status: head.code(), body: Vec::new(), whole: false };
                }
                Ok(Answer::Body(part)) => {
                    let Came::Refused { body, .. } = &mut came else { panic!("{came:?}") };
                    body.extend_from_slice(part);
                }
                Ok(Answer::End) => {
                    let Came::Refused { whole, .. } = &mut came else { panic!("{came:?}") };
                    *whole = true;
                    break;
                }
                Err(error) => return Came::Failed(error),
            }
        }
        let consumed = input.consumed();
        unread.drain(..consumed);
    }
    if let Came::Opened { rest, .. } = &mut came {
        *rest = unread;
    }
    came
}

/// The same under every cut; and what is behind an answer that opens is the WebSocket's.
fn client_under_every_cut(bytes: &[u8], ended: bool) -> Came {
    cuts::every(bytes, |parts| {
        let came = client(parts, ended);
        if let Came::Opened { protocol, mut rest } = came.clone() {
            rest.extend_from_slice(b"\x81\0");
            let behind = client(&[parts, &[b"\x81\0"]].concat(), ended);
            assert_eq!(behind, Came::Opened { protocol, rest });
        }
        came
    })
}

#[test]
fn a_client_asks_as_the_rfc_says() {
    let origin: [(&str, &[u8]); 1] = [("Origin", b"http://a")];
    let (out, _) = started(&Opening { fields: &origin, ..OPENING });
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "GET / HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: chat, mqtt\r\nOrigin: http://a\r\n\
         Upgrade: websocket\r\nConnection: upgrade\r\n\r\n"
    );
}

#[test]
fn a_client_does_not_ask_for_what_may_not_be_asked() {
    let start = |opening: &Opening<'_>| {
        let mut out = Vec::new();
        let config = Arc::new(ClientConfig::default());
        let error = ClientHandshake::start(opening, config, NONCE, &mut out, Now::default()).unwrap_err();
        assert!(out.is_empty());
        error
    };
    for protocols in [&["a b"] as &[&str], &["a", "b", "a"], &[""], &["a,b"]] {
        assert_eq!(start(&Opening { protocols, ..OPENING }), OpeningError::Protocol, "{protocols:?}");
    }
    assert_eq!(start(&Opening { fields: &[("SEC-WebSocket-Key", b"x")], ..OPENING }), OpeningError::Field);
    let http = |opening| matches!(start(&opening), OpeningError::Http(_));
    assert!(http(Opening::new("a/b", "/")) && http(Opening::new("a", "b")));
    assert!(http(Opening { fields: &[("a", b"b\r\nc: d")], ..OPENING }));
}

#[test]
fn row_handshake_client_bytes_after_the_head_belong_to_the_websocket() {
    let answer = format!(
        "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n{SWITCHED}Sec-WebSocket-Protocol: mqtt\r\n\r\n\u{1}hi"
    );
    let opened = Came::Opened { protocol: Some("mqtt".to_owned()), rest: b"\x01hi".to_vec() };
    assert_eq!(client_under_every_cut(answer.as_bytes(), false), opened);
}

#[test]
fn row_handshake_client_a_non_101_answer_is_handed_over_with_its_body() {
    let refused = |status, body: &str| Came::Refused { status, body: body.into(), whole: true };
    for (answer, status, body) in [
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone", 404, "none"),
        ("HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n", 302, ""),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\nx: y\r\n\r\n",
            200,
            "ab",
        ),
        ("HTTP/1.0 401 Unauthorized\r\n\r\nwho?", 401, "who?"),
    ] {
        assert_eq!(client_under_every_cut(answer.as_bytes(), true), refused(status, body));
    }
}

#[test]
fn a_101_that_opens_nothing_is_an_error() {
    let failed = |answer: &str| match client_under_every_cut(answer.as_bytes(), false) {
        Came::Failed(error) => error,
        came => panic!("{answer} came to {came:?}"),
    };
    let refused = |answer: &str| match failed(answer) {
        HandshakeError::Answer(refused) => refused,
        error => panic!("{error}"),
    };
    assert_eq!(refused(&format!("{SWITCHED}Sec-WebSocket-Protocol: smtp\r\n\r\n")), RefusedAnswer::Protocol);
    assert_eq!(
        refused(&format!("{SWITCHED}Sec-WebSocket-Extensions: x-y\r\n\r\n")),
        RefusedAnswer::Extension
    );
    assert_eq!(refused(&format!("{}\r\n", SWITCHED.replace("+xOo", "+xOO"))), RefusedAnswer::Accept);
    // The HTTP machine knows already that this is not what it offered.
    assert!(matches!(
        failed("HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n"),
        HandshakeError::Http(_)
    ));
    assert!(matches!(failed("HTTP/2 200\r\n\r\n"), HandshakeError::Http(_)));
}

#[test]
fn a_stream_that_ends_too_soon_is_an_error() {
    let cuts = ["", "HTTP/1.1 101 S", "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnon"];
    for cut in cuts {
        assert!(matches!(client(&[cut.as_bytes()], true), Came::Failed(HandshakeError::Http(_))), "{cut}");
    }
}

#[test]
fn the_whole_handshake_has_one_deadline() {
    let at = |secs| Now { instant: Instant::START + Duration::from_secs(secs), ..Now::default() };
    // An answer that comes slowly, but never stops.
    let (_, mut handshake) = started(&OPENING);
    let mut unread = SWITCHED.as_bytes()[..20].to_vec();
    assert!(matches!(handshake.recv(&mut Input::new(&mut unread), at(9)), Ok(Answer::NeedMore)));
    assert_eq!(handshake.deadline(), Some(at(10).instant));
    assert_eq!(handshake.on_deadline(at(9)), None);
    assert_eq!(handshake.on_deadline(at(10)), Some(HandshakeError::TimedOut));
    assert_eq!((handshake.deadline(), handshake.on_deadline(at(99))), (None, None));
    assert_eq!(handshake.recv(&mut Input::new(&mut []), at(99)).unwrap_err(), HandshakeError::TimedOut);
}

#[test]
fn an_answer_that_came_leaves_no_deadline() {
    let refusal = "HTTP/1.1 404 Not Found\r\nContent-Length: 1\r\n\r\n";
    for (answer, end) in [(format!("{SWITCHED}\r\n"), ""), (refusal.to_owned(), "x")] {
        let (_, mut handshake) = started(&OPENING);
        let mut bytes = answer.into_bytes();
        handshake.recv(&mut Input::new(&mut bytes), Now::default()).unwrap();
        assert_eq!(handshake.deadline().is_some(), !end.is_empty(), "a body is waited for");
        let mut body = end.as_bytes().to_vec();
        let mut input = Input::new(&mut body);
        while !matches!(handshake.recv(&mut input, Now::default()).unwrap(), Answer::NeedMore | Answer::End) {
        }
        assert_eq!(handshake.deadline(), None);
    }
}

#[test]
fn client_and_server_understand_each_other() {
    let (request, _) = started(&OPENING);
    let request = String::from_utf8(request).unwrap();
    let more = request.lines().find(|line| line.starts_with("Sec-WebSocket-Protocol")).unwrap();
    let terms = Terms { protocols: &["mqtt", "chat"], ..Terms::default() };
    let (out, _) = answered(&format!("{more}\r\n"), &terms);
    let opened = Came::Opened { protocol: Some("chat".to_owned()), rest: Vec::new() };
    assert_eq!(client_under_every_cut(out.as_bytes(), false), opened);
}

#[cfg(feature = "deflate")]
mod compression {
    use super::*;
    use crate::websocket::Compression;
    use crate::websocket::deflate::DeflateConfig;

    #[test]
    fn what_a_client_offers_a_server_answers_and_the_client_takes() {
        let compression = Compression::deflate(DeflateConfig::default());
        let opening = Opening { compression: Some(&compression), ..OPENING };
        let (request, mut handshake) = started(&opening);
        let request = String::from_utf8(request).unwrap();
        let offer =
            request.lines().find(|line| line.starts_with("Sec-WebSocket-Extensions: permessage-deflate"));
        let terms = Terms { compression: Some(&compression), ..Terms::default() };
        let (out, _) = answered(&format!("{}\r\n", offer.unwrap()), &terms);
        assert!(out.contains("\r\nSec-WebSocket-Extensions: permessage-deflate"), "{out}");
        let mut out = out.into_bytes();
        let Ok(Answer::Opened(agreed)) = handshake.recv(&mut Input::new(&mut out), Now::default()) else {
            panic!()
        };
        assert!(agreed.compression.is_some());
    }

    #[test]
    fn an_answer_that_does_not_fit_the_offer_opens_nothing() {
        let compression = Compression::deflate(DeflateConfig::default());
        let opening = Opening { compression: Some(&compression), ..OPENING };
        for answer in ["permessage-deflate; x", "permessage-deflate; server_max_window_bits=99", "x-other"] {
            let (_, mut handshake) = started(&opening);
            let mut answer = format!("{SWITCHED}Sec-WebSocket-Extensions: {answer}\r\n\r\n").into_bytes();
            let refused = handshake.recv(&mut Input::new(&mut answer), Now::default()).unwrap_err();
            assert_eq!(refused, HandshakeError::Answer(RefusedAnswer::Extension));
        }
    }

    #[test]
    fn an_offer_need_not_be_answered() {
        let compression = Compression::deflate(DeflateConfig::default());
        let (_, mut handshake) = started(&Opening { compression: Some(&compression), ..OPENING });
        let mut answer = format!("{SWITCHED}\r\n").into_bytes();
        let opened = handshake.recv(&mut Input::new(&mut answer), Now::default());
        assert!(matches!(opened, Ok(Answer::Opened(Agreed { compression: None, .. }))));
    }
}
