//! Several exchanges on a connection: order, expectation, upgrade, the end.

use core::time::Duration;

use super::*;

/// Takes one event.
macro_rules! event {
    ($connection:expr, $input:expr, $out:expr) => {
        $connection.recv(&mut $input, &mut $out, Now::default()).unwrap()
    };
}

/// Takes one event, which has to be a request.
macro_rules! request {
    ($connection:expr, $input:expr, $out:expr) => {
        match event!($connection, $input, $out) {
            Event::Request(head, exchange) => (head, exchange),
            other => panic!("{other:?}"),
        }
    };
}

fn connection() -> ServerConnection {
    ServerConnection::new(Arc::default(), Now::default())
}

fn text(out: &[u8]) -> &str {
    core::str::from_utf8(out).unwrap()
}

const EMPTY: ResponseHead<'static> = ResponseHead::empty(StatusCode::OK, &[]);
const STREAM: ResponseHead<'static> = ResponseHead::stream(StatusCode::OK, &[]);

#[test]
fn a_connection_is_small() {
    assert!(size_of::<ServerConnection>() <= 80, "{}", size_of::<ServerConnection>());
    assert_eq!((size_of::<Exchange>(), size_of::<BodyTx>()), (4, 16));
}

#[test]
fn rows_5_1_5_2_5_3_and_5_14_close_wins_over_keep_alive_in_any_line() {
    for (head, goes_on) in [
        ("GET / HTTP/1.1\r\nHost: x\r\n", true),
        ("GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n", true),
        ("GET / HTTP/1.1\r\nHost: x\r\nConnection: Close\r\n", false),
        ("GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\nConnection: x, CLOSE\r\n", false),
        ("GET / HTTP/1.1\r\nHost: x\r\nConnection: xclose, closex\r\n", true),
        ("GET / HTTP/1.0\r\n", false),
        ("GET / HTTP/1.0\r\nProxy-Connection: keep-alive\r\n", false),
        ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n", true),
        ("GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n", false),
    ] {
        let wire = [head.as_bytes(), b"\r\n", NEXT].concat();
        let seen = split_with(&wire, &Config::default());
        assert_eq!(seen.events.contains(&"GET /next".into()), goes_on, "{head}");
        assert_eq!(super::head(&wire).as_head().keep_alive(), goes_on, "{head}");
        let first = seen.out.split("\r\n\r\n").next().unwrap();
        assert_eq!(first.contains("\r\nConnection: close"), !goes_on, "{first}");
        let says_keep_alive = goes_on && head.contains("HTTP/1.0"); // row 5.2
        assert_eq!(first.contains("\r\nConnection: keep-alive"), says_keep_alive, "{first}");
    }
}

#[test]
fn row_5_4_an_early_answer_closes_and_the_body_is_no_request() {
    // RUSTSEC-2020-0093, RUSTSEC-2025-0037: the rest of a body was taken for the next request.
    let mut wire = [&b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 999\r\n\r\n"[..], NEXT].concat();
    let (mut connection, mut out, mut input) = (connection(), Vec::new(), Input::new(&mut wire));
    let (_, exchange) = request!(connection, input, out);
    connection.answer(exchange, &EMPTY, b"", &mut out, Now::default()).unwrap();
    assert!(text(&out).contains("\r\nConnection: close\r\n"));
    assert!(matches!(event!(connection, input, out), Event::Closed));
    assert_eq!((connection.disposition(), connection.deadline()), (Disposition::Finish, None));
}

#[test]
fn an_answer_under_way_goes_on_while_the_body_comes() {
    let mut wire = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab".to_vec();
    let (mut connection, mut out, mut input) = (connection(), Vec::new(), Input::new(&mut wire));
    let (_, exchange) = request!(connection, input, out);
    let mut body = connection.respond(exchange, &STREAM, &mut out, Now::default()).unwrap();
    while let Event::Data(data) = event!(connection, input, out) {
        connection.data(&mut body, data, &mut out).unwrap();
    }
    let (mut rest, mut nothing) = (*b"cd", []);
    let mut input = Input::new(&mut rest);
    let Event::Data(data) = event!(connection, input, out) else { panic!() };
    connection.data(&mut body, data, &mut out).unwrap();
    assert!(matches!(event!(connection, input, out), Event::EndOfRequest));
    assert!(matches!(event!(connection, Input::new(&mut nothing), out), Event::Paused));
    connection.finish(body, &mut out, Now::default()).unwrap();
    assert!(text(&out).ends_with("\r\n\r\n2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n"));
    assert!(matches!(event!(connection, Input::new(&mut nothing), out), Event::Closed));
}

#[test]
fn row_5_6_pipelined_requests_wait_even_malformed_ones() {
    let mut wire = [NEXT, b"\0"].concat();
    let (mut connection, mut out, mut input) = (connection(), Vec::new(), Input::new(&mut wire));
    let (_, exchange) = request!(connection, input, out);
    assert!(matches!(event!(connection, input, out), Event::EndOfRequest));
    for _ in 0..3 {
        assert!(matches!(event!(connection, input, out), Event::Paused));
    }
    assert_eq!((&out[..], input.bytes()), (&b""[..], &b"\0"[..]));
    connection.answer(exchange, &EMPTY, b"", &mut out, Now::default()).unwrap();
    assert!(out.ends_with(b"Content-Length: 0\r\n\r\n"));
    for _ in 0..3 {
        let error = connection.recv(&mut input, &mut out, Now::default()).unwrap_err();
        assert_eq!((error.fault, error.answered), (Fault::RequestLine, true));
    }
    assert_eq!(text(&out).matches("HTTP/1.1 ").count(), 2);
    assert!(out.ends_with(b"\r\n\r\n{\"error\":\"malformed request line\"}"));
}

#[test]
fn an_answer_before_the_end_of_the_request_is_told_changes_no_event() {
    let mut wire = [NEXT, NEXT].concat();
    let (mut connection, mut out, mut input) = (connection(), Vec::new(), Input::new(&mut wire));
    for _ in 0..2 {
        let (_, exchange) = request!(connection, input, out);
        connection.answer(exchange, &EMPTY, b"", &mut out, Now::default()).unwrap();
        assert!(matches!(event!(connection, input, out), Event::EndOfRequest));
    }
    assert_eq!(text(&out), OK.repeat(2));
    assert!(connection.is_idle());
}

#[test]
fn row_5_11_a_hang_up_is_told_once_for_each_open_exchange() {
    let mut wire = [NEXT, NEXT].concat();
    let (mut connection, mut out, mut input) = (connection(), Vec::new(), Input::last(&mut wire));
    for _ in 0..2 {
        let (_, exchange) = request!(connection, input, out);
        assert!(matches!(event!(connection, input, out), Event::EndOfRequest));
        assert!(matches!(event!(connection, input, out), Event::HungUp));
        assert!(matches!(event!(connection, input, out), Event::Paused));
        let body = connection.respond(exchange, &STREAM, &mut out, Now::default()).unwrap();
        assert!(matches!(event!(connection, input, out), Event::Paused));
        connection.finish(body, &mut out, Now::default()).unwrap();
    }
    assert!(matches!(event!(connection, input, out), Event::Closed));
}

#[test]
fn a_hang_up_within_the_body_lets_an_answer_under_way_finish() {
    let mut wire = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab".to_vec();
    let (mut connection, mut out, mut input) = (connection(), Vec::new(), Input::last(&mut wire));
    let (_, exchange) = request!(connection, input, out);
    let body = connection.respond(exchange, &STREAM, &mut out, Now::default()).unwrap();
    assert!(matches!(event!(connection, input, out), Event::Data(_)));
    assert!(matches!(event!(connection, input, out), Event::HungUp));
    assert!(matches!(event!(connection, input, out), Event::Paused));
    assert_eq!(connection.deadline(), None);
    connection.finish(body, &mut out, Now::default()).unwrap();
    assert!(matches!(event!(connection, input, out), Event::Closed));
}

#[test]
fn a_fault_behind_a_response_head_cuts_the_response_off() {
    let mut wire = chunked("x").into_bytes();
    let (mut connection, mut out, mut input) = (connection(), Vec::new(), Input::new(&mut wire));
    let (_, exchange) = request!(connection, input, out);
    let mut body = connection.respond(exchange, &STREAM, &mut out, Now::default()).unwrap();
    let written = out.len();
    let error = connection.recv(&mut input, &mut out, Now::default()).unwrap_err();
    assert_eq!((error.fault, error.answered, out.len()), (Fault::ChunkSize, false, written));
    assert_eq!(connection.disposition(), Disposition::Abort);
    assert_eq!(connection.data(&mut body, b"late", &mut out), Err(SendError::Stale));
    assert_eq!(connection.finish(body, &mut out, Now::default()).unwrap_err().error, SendError::Stale);
}

#[test]
fn rows_4_1_and_4_4_the_body_is_asked_for_and_then_answered() {
    let head = "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n";
    let mut wire = head.as_bytes().to_vec();
    let (mut connection, mut out, mut input) = (connection(), Vec::new(), Input::new(&mut wire));
    let (head, exchange) = request!(connection, input, out);
    assert!(head.expects_continue());
    assert!(matches!(event!(connection, input, out), Event::NeedMore));
    for _ in 0..2 {
        connection.proceed(&exchange, &mut out).unwrap();
        assert_eq!(text(&out), "HTTP/1.1 100 Continue\r\n\r\n");
    }
    let mut body = *b"ab";
    let mut input = Input::new(&mut body);
    assert!(matches!(event!(connection, input, out), Event::Data(_)));
    assert!(matches!(event!(connection, input, out), Event::EndOfRequest));
    connection.answer(exchange, &EMPTY, b"", &mut out, Now::default()).unwrap(); // row 4.4
    assert!(text(&out).ends_with(OK));
}

#[test]
fn rows_4_2_and_4_3_nothing_is_asked_for_in_vain() {
    for (wire, expects) in [
        ("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nab", false),
        ("POST / HTTP/1.0\r\nExpect: something\r\nContent-Length: 2\r\n\r\nab", false),
        ("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n", false),
        ("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nab", true),
    ] {
        let mut wire = wire.as_bytes().to_vec();
        let (mut connection, mut out, mut input) = (connection(), Vec::new(), Input::new(&mut wire));
        let (head, exchange) = request!(connection, input, out);
        assert_eq!(head.expects_continue(), expects);
        while !matches!(event!(connection, input, out), Event::EndOfRequest) {}
        connection.proceed(&exchange, &mut out).unwrap();
        assert_eq!(text(&out), "");
    }
}

#[test]
fn row_4_5_a_final_answer_instead_of_100_closes() {
    let mut wire = get("Expect: 100-continue\r\nContent-Length: 2\r\n").into_bytes();
    let (mut connection, mut out, mut input) = (connection(), Vec::new(), Input::new(&mut wire));
    let (_, exchange) = request!(connection, input, out);
    let head = ResponseHead::empty(StatusCode::FORBIDDEN, &[]);
    connection.answer(exchange, &head, b"no", &mut out, Now::default()).unwrap();
    assert!(text(&out).starts_with("HTTP/1.1 403 ") && text(&out).contains("Connection: close"));
    assert!(connection.wants_close());
}

#[test]
fn row_4_6_other_expectations_are_417() {
    for value in
        ["x", "100-continue, x", "x100-continue", "100-continue=1", "100-continue;q=1", "\"100-continue\""]
    {
        let wire = get(&format!("Expect: {value}\r\n"));
        let seen = split_with(&[wire.as_bytes(), NEXT].concat(), &Config::default());
        assert_eq!((seen.fault, &seen.rest[..]), (None, &b""[..]));
        assert_eq!(seen.events, ["refused Expectation", "GET /next", "end"]);
        let content = format!("{{\"error\":\"{}\"}}", Fault::Expectation);
        let refusal = format!(
            "HTTP/1.1 417 Expectation Failed\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{content}",
            content.len()
        );
        assert_eq!(seen.out, refusal + OK);
    }
    good(&get("Expect: 100-continue, ,100-CONTINUE\r\n"));
}

#[test]
fn row_4_6_a_417_closes_where_a_body_may_follow() {
    // Whether it follows is the client's to say, and whether it came already depends on how the bytes were split.
    for lines in ["Content-Length: 2\r\n", "Transfer-Encoding: chunked\r\n", "Connection: close\r\n"] {
        bad(&get(&format!("Expect: x\r\n{lines}")), Fault::Expectation);
    }
    let seen = split_with(get("Expect: x\r\nContent-Length: 0\r\n").as_bytes(), &Config::default());
    assert_eq!((seen.fault, &seen.events[..]), (None, &["refused Expectation".to_string()][..]));
}

#[test]
fn row_4_6_a_417_to_head_has_no_content() {
    for (lines, close) in [("", ""), ("Content-Length: 2\r\n", "Connection: close\r\n")] {
        let wire = format!("HEAD / HTTP/1.1\r\nHost: x\r\nExpect: x\r\n{lines}\r\n");
        let seen = split_with(wire.as_bytes(), &Config::default());
        assert!(seen.out.ends_with(&format!("\r\nContent-Length: 54\r\n{close}\r\n")), "{}", seen.out);
    }
}

#[test]
fn row_4_6_a_417_in_a_drain_is_the_last_answer() {
    let mut wire = get("Expect: x\r\n").into_bytes();
    let (mut connection, mut out) = (connection(), Vec::new());
    connection.close_after_this();
    let error = connection.recv(&mut Input::new(&mut wire), &mut out, Now::default()).unwrap_err();
    assert_eq!((error.fault, error.answered), (Fault::Expectation, true));
    assert!(text(&out).contains("\r\nConnection: close\r\n"));
    assert_eq!(connection.disposition(), Disposition::Finish);
}

#[test]
fn row_4_6_a_417_that_keeps_the_connection_waits_for_the_next_request() {
    let mut wire = get("Expect: x\r\n").into_bytes();
    let (mut connection, mut out) = (connection(), Vec::new());
    let now = Now::default().later(Duration::from_secs(1));
    let event = connection.recv(&mut Input::new(&mut wire), &mut out, now).unwrap();
    assert!(matches!(event, Event::Refused(Fault::Expectation)));
    assert!(connection.is_idle());
    assert_eq!(connection.deadline(), Some(now.instant + Timeouts::default().keep_alive));
    let mut nothing = [];
    let event = connection.recv(&mut Input::last(&mut nothing), &mut out, now).unwrap();
    assert!(matches!(event, Event::Closed));
}

#[test]
fn row_4_11_interim_responses_are_for_1_1() {
    for (version, result) in [("1.0", Err(SendError::InterimToHttp10)), ("1.1", Ok(()))] {
        let mut wire = format!("GET / HTTP/{version}\r\nHost: x\r\n\r\n").into_bytes();
        let (mut connection, mut out, mut input) = (connection(), Vec::new(), Input::new(&mut wire));
        let (_, exchange) = request!(connection, input, out);
        let fields: [(&str, &[u8]); 1] = [("Link", b"</a>")];
        assert_eq!(connection.inform(&exchange, StatusCode::EARLY_HINTS, &fields, &mut out), result);
        for wrong in [StatusCode::OK, StatusCode::CONTINUE, StatusCode::SWITCHING_PROTOCOLS] {
            assert_eq!(connection.inform(&exchange, wrong, &[], &mut out), Err(SendError::NotInterim));
        }
        let sent = if result.is_ok() { "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" } else { "" };
        assert_eq!(text(&out), sent);
        let processing = StatusCode::new(102).unwrap();
        assert_eq!(connection.inform(&exchange, processing, &[], &mut out), result);
    }
}

#[test]
fn row_4_13_an_upgrade_leaves_the_rest_in_the_input() {
    let mut wire = get("Upgrade: h2c, WebSocket\r\nConnection: keep-alive, Upgrade\r\n").into_bytes();
    wire.extend(b"\x81\x00");
    let (mut connection, mut out, mut input) = (connection(), Vec::new(), Input::new(&mut wire));
    let (head, exchange) = request!(connection, input, out);
    assert!(
        head.wants_upgrade_to("websocket") && head.wants_upgrade_to("H2C") && !head.wants_upgrade_to("h2")
    );
    let fields: [(&str, &[u8]); 1] = [("Sec-WebSocket-Accept", b"x")];
    connection.upgrade(exchange, &fields, &mut out, Now::default()).unwrap();
    assert_eq!(
        text(&out),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n"
    );
    assert!(matches!(event!(connection, input, out), Event::Paused));
    assert_eq!((input.bytes(), connection.disposition()), (&b"\x81\x00"[..], Disposition::Upgraded));
    assert_eq!(connection.deadline(), None);
}

#[test]
fn rows_4_14_and_4_15_no_upgrade_that_was_not_asked_for() {
    for wire in [
        get(""),
        get("Upgrade: websocket\r\n"),
        get("Connection: upgrade\r\n"),
        get("Upgrade: websocket/13\r\nConnection: upgrade\r\n"),
        get("Upgrade: xwebsocket\r\nConnection: upgrade\r\n"),
        "GET / HTTP/1.0\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n".into(),
    ] {
        let mut wire = wire.into_bytes();
        let (mut connection, mut out, mut input) = (connection(), Vec::new(), Input::new(&mut wire));
        let (head, exchange) = request!(connection, input, out);
        assert!(!head.wants_upgrade_to("websocket"));
        let refused = connection.upgrade(exchange, &[], &mut out, Now::default()).unwrap_err();
        assert_eq!((refused.error, &out[..]), (SendError::UpgradeNotOffered, &b""[..]));
        connection.answer(refused.token, &EMPTY, b"", &mut out, Now::default()).unwrap();
    }
}

#[test]
fn rows_4_16_and_4_17_100_and_the_body_come_before_101() {
    let lines = "Upgrade: websocket\r\nConnection: upgrade\r\nExpect: 100-continue\r\n";
    let mut wire = get(&format!("{lines}Content-Length: 2\r\n")).into_bytes();
    let (mut connection_, mut out, mut input) = (connection(), Vec::new(), Input::new(&mut wire));
    let (_, exchange) = request!(connection_, input, out);
    let refused = connection_.upgrade(exchange, &[], &mut out, Now::default()).unwrap_err();
    assert_eq!((refused.error, &out[..]), (SendError::RequestUnread, &b""[..]));

    let mut wire = get(lines).into_bytes();
    let (mut connection, mut out, mut input) = (connection(), Vec::new(), Input::new(&mut wire));
    let (_, exchange) = request!(connection, input, out);
    connection.upgrade(exchange, &[], &mut out, Now::default()).unwrap();
    assert!(text(&out).starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 101 "));
}

#[test]
fn row_4_18_an_upgrade_that_is_declined_changes_no_framing() {
    let lines = "Upgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 3\r\n";
    assert_eq!(good(&(get(lines) + "GET")), ["GET /", "data GET", "end"]);
    let wire = get("Upgrade: x\r\nConnection: upgrade\r\nTransfer-Encoding: chunked\r\n") + "0\r\n\r\n";
    assert_eq!(good(&wire), ["GET /", "end"]);
}

#[test]
fn row_2_2_a_2xx_to_connect_makes_a_tunnel() {
    for (status, upgraded) in [(StatusCode::OK, true), (StatusCode::FORBIDDEN, false)] {
        let mut wire = b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\nx".to_vec();
        let (mut connection, mut out, mut input) = (connection(), Vec::new(), Input::new(&mut wire));
        let (head, exchange) = request!(connection, input, out);
        assert_eq!((head.authority(), head.path()), (Some("a:80"), "a:80"));
        connection
            .answer(exchange, &ResponseHead::empty(status, &[]), b"", &mut out, Now::default())
            .unwrap();
        assert_eq!(connection.disposition() == Disposition::Upgraded, upgraded);
        assert_eq!(text(&out).contains("Content-Length"), !upgraded);
    }
}

#[test]
fn rows_5_3_5_13_5_14_and_5_25_a_drain_closes_idle_connections_and_ends_busy_ones() {
    let mut connection = connection();
    let mut out = Vec::new();
    assert!(connection.is_idle());
    let mut wire = [NEXT, NEXT].concat();
    let mut input = Input::new(&mut wire);
    let (_, exchange) = request!(connection, input, out);
    assert!(!connection.is_idle());
    connection.close_after_this();
    assert!(matches!(event!(connection, input, out), Event::EndOfRequest));
    connection.answer(exchange, &EMPTY, b"", &mut out, Now::default()).unwrap();
    assert!(text(&out).contains("Connection: close"));
    assert!(matches!(event!(connection, input, out), Event::Closed));
    assert_eq!(input.bytes(), NEXT); // row 5.14

    let mut idle = ServerConnection::new(Arc::default(), Now::default());
    idle.close_after_this();
    assert!(matches!(event!(idle, Input::new(&mut []), out), Event::Closed));
}

#[test]
fn a_late_answer_is_stale() {
    let mut wire = [NEXT, NEXT].concat();
    let (mut connection, mut out, mut input) = (connection(), Vec::new(), Input::new(&mut wire));
    let (_, first) = request!(connection, input, out);
    let late = Exchange { ..first };
    connection.answer(first, &EMPTY, b"", &mut out, Now::default()).unwrap();
    assert!(matches!(event!(connection, input, out), Event::EndOfRequest));
    let (_, _second) = request!(connection, input, out);
    assert_eq!(connection.proceed(&late, &mut out), Err(SendError::Stale));
    let refused = connection.answer(late, &EMPTY, b"", &mut out, Now::default()).unwrap_err();
    assert_eq!((refused.error, text(&out)), (SendError::Stale, OK));
}

#[test]
fn row_5_23_an_early_answer_closes_even_if_the_whole_body_is_there() {
    for wire in [
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab".to_vec(),
        chunked("2\r\nab\r\n0\r\n\r\n").into_bytes(),
    ] {
        let mut wire = [&wire[..], NEXT].concat();
        let (mut connection, mut out, mut input) = (connection(), Vec::new(), Input::new(&mut wire));
        let (_, exchange) = request!(connection, input, out);
        connection.answer(exchange, &EMPTY, b"", &mut out, Now::default()).unwrap();
        assert!(text(&out).contains("\r\nConnection: close\r\n"));
        assert!(matches!(event!(connection, input, out), Event::Closed));
        assert_eq!(text(&out).matches("HTTP/1.1 ").count(), 1);
    }
}
