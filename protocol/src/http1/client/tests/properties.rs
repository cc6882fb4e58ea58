//! What holds for every input.

use core::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::http1::{Config, Event, ResponseHead, ServerConnection};

type OwnedField = (String, Vec<u8>);

/// A field that is the caller's to set, with a value that has no whitespace around it.
fn field() -> impl Strategy<Value = OwnedField> {
    ("x-[!#$%&'*+.^_`|~0-9A-Za-z-]{0,8}", vec(prop_oneof![33_u8..=126, 128_u8..=255], 0..12))
}

fn fields() -> impl Strategy<Value = Vec<OwnedField>> {
    vec(field(), 0..6)
}

fn borrowed(fields: &[OwnedField]) -> Vec<(&str, &[u8])> {
    fields.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect()
}

fn length() -> impl Strategy<Value = BodyLength> {
    prop_oneof![Just(BodyLength::Empty), (0_u64..30).prop_map(BodyLength::Known), Just(BodyLength::Unknown)]
}

/// Content of this length, in parts.
fn parts(length: BodyLength, unknown: &[Vec<u8>]) -> Vec<Vec<u8>> {
    match length {
        BodyLength::Empty => Vec::new(),
        BodyLength::Known(bytes) => {
            let content: Vec<u8> = (0..bytes as u8).collect();
            content.chunks(7).map(<[u8]>::to_vec).collect()
        }
        BodyLength::Unknown => unknown.to_vec(),
    }
}

/// The pieces that responses are made of, good ones and bad ones.
fn response() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        10 => Just("HTTP/1.1 200 OK\r\n"),
        1 => Just("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204\r\n"),
        1 => Just("HTTP/1.0 200 \r\n"),
        1 => Just("HTTP/1.1 101 \r\nUpgrade: h2c\r\n"),
        1 => Just("\r\nHTTP/1.1 999 X\n"),
        1 => Just("HTTP/1.1 020 \r\n"),
    ];
    let field = prop_oneof![
        10 => "[A-Za-z-]{1,8}:[ \t]{0,2}[ -~\t]{0,8}\r\n",
        2 => "[!-~]{1,3} ?: ?[\\x00-\\xff]{0,4}\r?\n",
        2 => "[ \t]{1,2}[a-z]{0,3}\r?\n",
        2 => Just("Content-Length: 5\r\n".to_string()),
        2 => Just("Transfer-Encoding: chunked\r\n".to_string()),
        1 => Just("Transfer-Encoding: gzip\r\n".to_string()),
        1 => Just("Connection: close, upgrade\r\n".to_string()),
    ];
    let body = prop_oneof![
        3 => Just("hello".to_string()),
        3 => Just("5\r\nhello\r\n0\r\n\r\n".to_string()),
        1 => Just("5 \r\nhello\r\n0\r\nX : y\r\n z\r\n\r\n".to_string()),
        1 => Just("0\r\n".to_string()),
        1 => "[\\x00-\\xff]{0,8}",
    ];
    (line, vec(field, 0..4), prop_oneof![9 => Just("\r\n"), 1 => Just("\n")], body)
        .prop_map(|(line, fields, end, body)| format!("{line}{}{end}{body}", fields.concat()).into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_split_of_any_response_gives_the_same(
        responses in vec(response(), 1..3),
        which in 0_usize..4,
        knobs in any::<[bool; 3]>(),
        ends in any::<bool>(),
        follows in any::<bool>(),
    ) {
        let upgrade = Request { upgrade: Some("h2c"), ..GET };
        let mut setting = Setting { ends, follows, ..Setting::new(&[GET, HEAD, CONNECT, upgrade][which]) };
        [setting.config.lenient_lf, setting.config.space_before_colon, setting.config.missing_final_crlf] = knobs;
        setting.split(&responses.concat());
    }

    #[test]
    fn a_server_reads_the_request_that_a_client_wrote(
        method in "[A-Z][A-Z-]{0,6}",
        path in "/[!-\"$-~]{0,12}",
        authority in prop_oneof![Just("example.com"), Just("a:80"), Just("[::1]:8080"), Just("127.0.0.1")],
        fields in fields(),
        length in length(),
        unknown in vec(vec(any::<u8>(), 0..9), 0..4),
        trailers in vec(field(), 0..3),
        flags in any::<[bool; 4]>(),
        sizes in cuts::sizes(),
    ) {
        prop_assume!(method != "TRACE" && method != "CONNECT");
        let [absolute, te, upgrade, close] = flags;
        let target = if absolute { Target::Absolute { scheme: "http", path: &path } } else { Target::Origin(&path) };
        let list = borrowed(&fields);
        let request = Request {
            target,
            fields: &list,
            length,
            trailers: te,
            upgrade: upgrade.then_some("websocket"),
            close,
            ..Request::new(&method, authority, "/")
        };
        let (mut client, mut wire) = (ClientConnection::new(Arc::default()), Vec::new());
        let mut body = client.request(&request, &mut wire, Now::default()).unwrap();
        let content = parts(length, &unknown);
        for part in &content {
            client.data(&mut body, part, &mut wire).unwrap();
        }
        client.finish_with_trailers(body, &borrowed(&trailers), &mut wire, Now::default()).unwrap();

        let mut server = ServerConnection::new(Arc::new(Config::default()), Now::default());
        let (mut unread, mut out) = (Vec::new(), Vec::new());
        let (mut came, mut trailed, mut ended) = (Vec::new(), Vec::new(), false);
        for part in cuts::by(&wire, &sizes) {
            unread.extend_from_slice(part);
            let mut input = Input::new(&mut unread);
            loop {
                match server.recv(&mut input, &mut out, Now::default()).unwrap() {
                    Event::NeedMore | Event::Paused => break,
                    Event::Request(head, _exchange) => {
                        prop_assert_eq!(head.method(), &method);
                        let full = format!("http://{authority}{path}");
                        prop_assert_eq!(head.target(), if absolute { &full } else { &path });
                        prop_assert_eq!((head.host(), head.authority()), (Some(authority), Some(authority)));
                        prop_assert_eq!(head.fields().iter().next().map(|field| field.name), Some("Host"));
                        prop_assert_eq!(head.keep_alive(), !close);
                        prop_assert_eq!(head.wants_upgrade_to("websocket"), upgrade);
                        prop_assert_eq!(head.fields().has_token("te", "trailers"), te);
                        let own = head.fields().iter().filter(|field| field.name.starts_with("x-"));
                        let own: Vec<_> = own.map(|field| (field.name.to_string(), field.value.to_vec())).collect();
                        prop_assert_eq!(&own, &fields);
                    }
                    Event::Data(data) => came.extend_from_slice(data),
                    Event::Trailers(fields) => {
                        trailed.extend(fields.iter().map(|field| (field.name.to_string(), field.value.to_vec())));
                    }
                    Event::EndOfRequest => ended = true,
                    Event::HungUp | Event::Refused(_) | Event::Closed => prop_assert!(false),
                }
            }
            let taken = input.consumed();
            unread.drain(..taken);
        }
        prop_assert!(ended && unread.is_empty());
        prop_assert_eq!(came, content.concat());
        prop_assert_eq!(trailed, if length == BodyLength::Unknown { trailers } else { Vec::new() });
    }

    #[test]
    fn a_client_reads_the_response_that_a_server_wrote(
        method in prop_oneof![3 => Just("GET"), 1 => Just("HEAD"), 1 => Just("POST")],
        version in prop_oneof![4 => Just("1.1"), 1 => Just("1.0")],
        says in prop_oneof![Just("x"), Just("keep-alive"), Just("close")],
        status in 200_u16..600,
        fields in fields(),
        length in length(),
        unknown in vec(vec(any::<u8>(), 0..9), 0..4),
        trailers in vec(field(), 0..3),
        hints in 0_usize..3,
        sizes in cuts::sizes(),
    ) {
        let mut asked = format!("{method} / HTTP/{version}\r\nHost: x\r\nConnection: {says}\r\n\r\n").into_bytes();
        let mut server = ServerConnection::new(Arc::new(Config::default()), Now::default());
        let mut wire = Vec::new();
        let event = server.recv(&mut Input::new(&mut asked), &mut wire, Now::default()).unwrap();
        let Event::Request(_, exchange) = event else { panic!() };
        let informed = (0..hints)
            .filter(|_| server.inform(&exchange, StatusCode::EARLY_HINTS, &[], &mut wire).is_ok())
            .count();
        let list = borrowed(&fields);
        let status = StatusCode::new(status).unwrap();
        let head = ResponseHead { status, fields: &list, length };
        let Ok(mut body) = server.respond(exchange, &head, &mut wire, Now::default()) else { return Ok(()) };
        let content = if body.is_suppressed() { Vec::new() } else { parts(length, &unknown) };
        for part in &content {
            server.data(&mut body, part, &mut wire).unwrap();
        }
        let chunked = body.is_chunked();
        let close_delimited = body.is_close_delimited();
        server.finish_with_trailers(body, &borrowed(&trailers), &mut wire, Now::default()).unwrap();
        let goes_on = server.disposition() == Disposition::Open;

        let (mut client, mut out) = (ClientConnection::new(Arc::default()), Vec::new());
        client.send(&Request::new(method, "x", "/"), b"", &mut out, Now::default()).unwrap();
        let (mut unread, mut came, mut trailed) = (Vec::new(), Vec::new(), Vec::new());
        let (mut interim, mut ended) = (0, None);
        for part in cuts::by(&wire, &sizes).into_iter().chain([&b""[..]]) {
            unread.extend_from_slice(part);
            let last = part.is_empty() && close_delimited;
            let mut input = if last { Input::last(&mut unread) } else { Input::new(&mut unread) };
            loop {
                match client.recv(&mut input, Now::default()).unwrap() {
                    ClientEvent::NeedMore | ClientEvent::Closed => break,
                    ClientEvent::Informational(_) => interim += 1,
                    ClientEvent::Response(head) => {
                        prop_assert_eq!(head.status(), status);
                        prop_assert_eq!(head.reason(), status.reason().as_bytes());
                        let own = head.fields().iter().filter(|field| field.name.starts_with("x-"));
                        let own: Vec<_> = own.map(|field| (field.name.to_string(), field.value.to_vec())).collect();
                        prop_assert_eq!(&own, &fields);
                    }
                    ClientEvent::Data(data) => came.extend_from_slice(data),
                    ClientEvent::Trailers(fields) => {
                        trailed.extend(fields.iter().map(|field| (field.name.to_string(), field.value.to_vec())));
                    }
                    ClientEvent::EndOfResponse { verified } => ended = Some(verified),
                    ClientEvent::Upgraded(_) => prop_assert!(false),
                }
            }
            let taken = input.consumed();
            unread.drain(..taken);
        }
        prop_assert_eq!((interim, ended, unread.len()), (informed, Some(!close_delimited), 0));
        prop_assert_eq!(came, content.concat());
        prop_assert_eq!(trailed, if chunked { trailers } else { Vec::new() });
        prop_assert_eq!(client.reuse().is_ok(), goes_on);
    }

    #[test]
    fn any_calls_keep_what_was_promised(steps in vec((0_u8..12, 0_u64..40), 1..80)) {
        let wire = [
            &b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n012345678\r\n"[..],
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n",
            b"HTTP/1.1 413 \r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 304 \r\nContent-Length: 20\r\n\r\n",
            b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
        ]
        .concat();
        let mut connection = ClientConnection::new(Arc::default());
        let (mut taken, mut offered, mut now) = (0, 0, Now::default());
        let (mut bodies, mut begun, mut finals) = (Vec::new(), 0, 0);
        for (step, amount) in steps {
            let mut out = Vec::new();
            let over = connection.disposition() != Disposition::Open;
            match step {
                0..=4 => {
                    offered = wire.len().min(offered + amount as usize);
                    let mut bytes = wire[taken..offered].to_vec();
                    let mut input = if step == 4 { Input::last(&mut bytes) } else { Input::new(&mut bytes) };
                    match connection.recv(&mut input, now) {
                        Ok(ClientEvent::Response(_)) => finals += 1,
                        Ok(ClientEvent::Data(data)) => prop_assert!(!data.is_empty()),
                        Ok(ClientEvent::Closed) => prop_assert_eq!(connection.disposition(), Disposition::Finish),
                        Ok(_) => {}
                        Err(error) => {
                            prop_assert_eq!(connection.disposition(), Disposition::Abort);
                            prop_assert_eq!(connection.recv(&mut input, now).unwrap_err(), error);
                        }
                    }
                    taken += input.consumed();
                }
                5 => {
                    now = now.later(Duration::from_secs(amount));
                    let failed = matches!(connection.on_deadline(now), Some(ClientExpired::Failed(_)));
                    prop_assert!(connection.deadline().is_none_or(|deadline| deadline > now.instant));
                    prop_assert!(!failed || connection.disposition() == Disposition::Abort);
                }
                6 | 7 => {
                    let length = [BodyLength::Empty, BodyLength::Known(amount), BodyLength::Unknown];
                    let request = Request {
                        length: length[(amount % 3) as usize],
                        expect_continue: step == 7 && amount % 3 == 2,
                        ..Request::new("PUT", "x", "/")
                    };
                    let reuse = connection.reuse();
                    match connection.request(&request, &mut out, now) {
                        Ok(body) => {
                            prop_assert_eq!(reuse, Ok(()));
                            begun += 1;
                            bodies.push(body);
                        }
                        Err(SendError::NotReusable(why)) => prop_assert_eq!(reuse, Err(why)),
                        Err(error) => prop_assert_eq!(error, SendError::ChunkedToHttp10),
                    }
                    prop_assert_eq!(out.is_empty(), reuse.is_err() || connection.reuse().is_ok());
                }
                8 | 9 => if let Some(body) = bodies.last_mut() {
                    let sent = connection.data(body, &[b'x'; 64][..amount as usize], &mut out);
                    prop_assert!(sent.is_ok() || out.is_empty());
                },
                10 => if let Some(body) = bodies.pop() {
                    if let Err(refused) = connection.finish(body, &mut out, now) {
                        prop_assert!(out.is_empty());
                        bodies.push(refused.token);
                    }
                },
                _ => if let Some(body) = bodies.pop() {
                    connection.abandon(body, now);
                },
            }
            prop_assert!(finals <= begun, "{finals} responses for {begun} requests");
            prop_assert!(!over || out.is_empty(), "{} after the end", out.escape_ascii());
            let over = connection.disposition() != Disposition::Open;
            prop_assert!(!over || connection.deadline().is_none());
        }
    }
}
