//! What is sent, and what is refused.

use super::*;

/// A connection on which this request was read to its end.
fn asked(method: &str, version: &str) -> (ServerConnection, Exchange) {
    let mut wire = format!("{method} / HTTP/{version}\r\nHost: x\r\n\r\n").into_bytes();
    let mut connection = ServerConnection::new(Arc::default(), Now::default());
    let mut input = Input::new(&mut wire);
    let Ok(Event::Request(_, exchange)) = connection.recv(&mut input, &mut Vec::new(), Now::default()) else {
        panic!()
    };
    let end = connection.recv(&mut input, &mut Vec::new(), Now::default());
    assert!(matches!(end, Ok(Event::EndOfRequest)));
    (connection, exchange)
}

/// What is sent of a response with this content, and whether the connection goes on.
fn sent(
    method: &str,
    version: &str,
    head: ResponseHead<'_>,
    content: &[u8],
) -> Result<(String, bool), SendError> {
    let (mut connection, exchange) = asked(method, version);
    let mut out = Vec::new();
    let result = connection.respond(exchange, &head, &mut out, Now::default());
    let mut body = result.map_err(|refused| {
        assert_eq!(out, b"", "written in spite of {refused:?}");
        refused.error
    })?;
    connection.data(&mut body, content, &mut out)?;
    connection.finish(body, &mut out, Now::default()).map_err(|refused| refused.error)?;
    let text = String::from_utf8(out).unwrap().replace("\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT", "");
    Ok((text, !connection.wants_close()))
}

const NONE: &[(&str, &[u8])] = &[];

#[test]
fn rows_2_1_and_2_4_answers_that_have_no_content_get_none() {
    let known = ResponseHead::with_length(StatusCode::OK, NONE, 5);
    let stream = ResponseHead::stream(StatusCode::OK, NONE);
    for (method, head, wire) in [
        ("HEAD", known, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        ("HEAD", stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("HEAD", ResponseHead::empty(StatusCode::OK, NONE), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ("GET", ResponseHead::empty(StatusCode::NO_CONTENT, NONE), "HTTP/1.1 204 No Content\r\n\r\n"),
        (
            "GET",
            ResponseHead::empty(StatusCode::RESET_CONTENT, NONE),
            "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n",
        ),
        ("GET", ResponseHead::empty(StatusCode::NOT_MODIFIED, NONE), "HTTP/1.1 304 Not Modified\r\n\r\n"),
        (
            "GET",
            ResponseHead::with_length(StatusCode::NOT_MODIFIED, NONE, 5),
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        ),
    ] {
        assert_eq!(sent(method, "1.1", head, b"hello"), Ok((wire.into(), true)), "{method} {head:?}");
    }
}

#[test]
fn rows_2_3_and_2_4_a_length_that_cannot_be_is_refused() {
    for status in [StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT] {
        assert_eq!(
            sent("GET", "1.1", ResponseHead::with_length(status, NONE, 1), b"x"),
            Err(SendError::NoContent)
        );
        assert_eq!(sent("GET", "1.1", ResponseHead::stream(status, NONE), b""), Err(SendError::NoContent));
    }
}

#[test]
fn row_2_5_an_answer_to_head_has_the_length_of_the_content() {
    for (method, content) in [("GET", "hello"), ("HEAD", "")] {
        let (mut connection, exchange) = asked(method, "1.1");
        let mut out = Vec::new();
        let head = ResponseHead::empty(StatusCode::OK, NONE);
        connection.answer(exchange, &head, b"hello", &mut out, Now::default()).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.ends_with(&format!("Content-Length: 5\r\n\r\n{content}")), "{text}");
        assert!(connection.is_idle());
    }
}

#[test]
fn an_answer_without_content_tells_the_heads_length_where_none_is_sent_anyway() {
    for (method, status, length) in
        [("GET", StatusCode::OK, 0), ("HEAD", StatusCode::OK, 5), ("GET", StatusCode::NOT_MODIFIED, 5)]
    {
        let (mut connection, exchange) = asked(method, "1.1");
        let mut out = Vec::new();
        let head = ResponseHead::with_length(status, NONE, 5);
        connection.answer(exchange, &head, b"", &mut out, Now::default()).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.ends_with(&format!("Content-Length: {length}\r\n\r\n")), "{method} {text}");
        assert!(connection.is_idle());
    }
}

#[test]
fn row_2_13_no_chunks_to_http_1_0() {
    let stream = ResponseHead::stream(StatusCode::OK, NONE);
    let wire = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello";
    assert_eq!(sent("GET", "1.0", stream, b"hello"), Ok((wire.into(), false)));
    let wire = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
    assert_eq!(sent("HEAD", "1.0", stream, b"hello"), Ok((wire.into(), false)));
    let (mut connection, exchange) = asked("GET", "1.0");
    let mut out = Vec::new();
    let mut body = connection.respond(exchange, &stream, &mut out, Now::default()).unwrap();
    assert!(body.is_close_delimited() && !body.is_chunked() && !body.is_suppressed());
    let frame = connection.frame(&mut body, 5).unwrap();
    assert!(frame.head.is_empty() && frame.tail.is_empty());
}

#[test]
fn an_answer_that_announced_no_content_has_none() {
    assert_eq!(sent("GET", "1.1", ResponseHead::empty(StatusCode::OK, NONE), b"x"), Err(SendError::TooLong));
}

#[test]
fn row_2_25_the_announced_length_is_kept() {
    let (mut connection, exchange) = asked("GET", "1.1");
    let mut out = Vec::new();
    let head = ResponseHead::with_length(StatusCode::OK, NONE, 5);
    let mut body = connection.respond(exchange, &head, &mut out, Now::default()).unwrap();
    connection.data(&mut body, b"he", &mut out).unwrap();
    let written = out.len();
    assert_eq!(connection.data(&mut body, b"llo!", &mut out), Err(SendError::TooLong));
    assert_eq!(connection.frame(&mut body, usize::MAX), Err(SendError::TooLong));
    assert_eq!(connection.framed(&mut body, 4), Err(SendError::TooLong));
    let refused = connection.finish(body, &mut out, Now::default()).unwrap_err();
    assert_eq!((refused.error, out.len()), (SendError::TooShort, written));
    let mut body = refused.token;
    connection.framed(&mut body, 3).unwrap();
    connection.finish(body, &mut out, Now::default()).unwrap();
    assert!(connection.is_idle());
}

#[test]
fn row_3_13_trailers_follow_the_last_chunk() {
    let (mut connection, exchange) = asked("GET", "1.1");
    let mut out = Vec::new();
    let head = ResponseHead::stream(StatusCode::OK, NONE);
    let body = connection.respond(exchange, &head, &mut out, Now::default()).unwrap();
    let forbidden: [(&str, &[u8]); 1] = [("Set-Cookie", b"x")];
    let refused = connection.finish_with_trailers(body, &forbidden, &mut out, Now::default()).unwrap_err();
    assert_eq!(refused.error, SendError::FieldReserved);
    let trailers: [(&str, &[u8]); 1] = [("X", b"1")];
    connection.finish_with_trailers(refused.token, &trailers, &mut out, Now::default()).unwrap();
    assert!(out.ends_with(b"\r\n\r\n0\r\nX: 1\r\n\r\n"));
}

#[test]
fn row_3_20_an_empty_part_is_no_chunk() {
    let stream = ResponseHead::stream(StatusCode::OK, NONE);
    let wire = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(sent("GET", "1.1", stream, b""), Ok((wire.into(), true)));
}

#[test]
fn a_frame_of_nothing_is_empty() {
    let (known, stream) =
        (ResponseHead::with_length(StatusCode::OK, NONE, 5), ResponseHead::stream(StatusCode::OK, NONE));
    for (method, head) in [("GET", known), ("GET", stream), ("HEAD", known), ("HEAD", stream)] {
        let (mut connection, exchange) = asked(method, "1.1");
        let mut body = connection.respond(exchange, &head, &mut Vec::new(), Now::default()).unwrap();
        let frame = connection.frame(&mut body, 0).unwrap();
        assert!(frame.head.is_empty() && frame.tail.is_empty(), "{method} {head:?}");
        assert_eq!(connection.framed(&mut body, 0), Ok(()));
        assert!(!body.is_close_delimited());
    }
}

#[test]
fn content_that_is_suppressed_is_not_the_callers_to_write() {
    let (mut connection, exchange) = asked("HEAD", "1.1");
    let head = ResponseHead::with_length(StatusCode::OK, NONE, 5);
    let mut body = connection.respond(exchange, &head, &mut Vec::new(), Now::default()).unwrap();
    assert_eq!(connection.frame(&mut body, 1), Err(SendError::NoContent));
    assert_eq!(connection.framed(&mut body, 1), Err(SendError::NoContent));
}

#[test]
fn rows_1_29_and_1_40_no_field_can_break_a_head() {
    // RUSTSEC-2017-0002, RUSTSEC-2024-0009: CR LF in a value made a header, or a response.
    let cases: [(&str, &[u8], SendError); 15] = [
        ("X", b"a\r\nY: b", SendError::FieldValue),
        ("X", b"a\r\n b", SendError::FieldValue),
        ("X", b"a\n", SendError::FieldValue),
        ("X", b"a\r", SendError::FieldValue),
        ("X", b"a\0", SendError::FieldValue),
        ("X", b"a\x7f", SendError::FieldValue),
        ("", b"a", SendError::FieldName),
        ("X ", b"a", SendError::FieldName),
        ("X:", b"a", SendError::FieldName),
        ("X\r\nY", b"a", SendError::FieldName),
        ("\u{e9}", b"a", SendError::FieldName),
        ("content-length", b"5", SendError::FieldReserved),
        ("Transfer-Encoding", b"chunked", SendError::FieldReserved),
        ("CONNECTION", b"close", SendError::FieldReserved),
        ("Date", b"now", SendError::FieldReserved),
    ];
    for (name, value, error) in cases {
        let fields = [("A", &b"b"[..]), (name, value)];
        assert_eq!(
            sent("GET", "1.1", ResponseHead::stream(StatusCode::OK, &fields), b""),
            Err(error),
            "{name:?}"
        );
        let (mut connection, exchange) = asked("GET", "1.1");
        let mut out = Vec::new();
        assert_eq!(connection.inform(&exchange, StatusCode::EARLY_HINTS, &fields, &mut out), Err(error));
        let head = ResponseHead::stream(StatusCode::OK, NONE);
        let body = connection.respond(exchange, &head, &mut out, Now::default()).unwrap();
        let written = out.len();
        let refused = connection.finish_with_trailers(body, &fields, &mut out, Now::default()).unwrap_err();
        assert_eq!((refused.error, out.len()), (error, written));
    }
}

#[test]
fn row_1_37_heads_are_written_within_the_limits_for_reading() {
    let large = "v".repeat(17_000);
    let fields = [("X", large.as_bytes())];
    assert_eq!(
        sent("GET", "1.1", ResponseHead::empty(StatusCode::OK, &fields), b""),
        Err(SendError::HeadTooLarge)
    );
    let many = [("X", &b""[..]); 101];
    assert_eq!(
        sent("GET", "1.1", ResponseHead::empty(StatusCode::OK, &many), b""),
        Err(SendError::HeadTooLarge)
    );
}

#[test]
fn a_final_response_has_a_final_status() {
    let head = ResponseHead::empty(StatusCode::EARLY_HINTS, NONE);
    assert_eq!(sent("GET", "1.1", head, b""), Err(SendError::NotFinal));
}

#[test]
fn row_1_22_a_space_follows_the_status_even_without_a_reason() {
    let unnamed = StatusCode::new(299).unwrap();
    let wire = "HTTP/1.1 299 \r\nContent-Length: 0\r\n\r\n";
    assert_eq!(sent("GET", "1.1", ResponseHead::empty(unnamed, NONE), b""), Ok((wire.into(), true)));
}

#[test]
fn row_4_20_a_426_names_the_upgrade() {
    let head = ResponseHead::empty(StatusCode::UPGRADE_REQUIRED, NONE);
    assert_eq!(sent("GET", "1.1", head, b""), Err(SendError::UpgradeMissing));
    let fields: [(&str, &[u8]); 1] = [("Upgrade", b"websocket")];
    let wire = "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nContent-Length: 0\r\nConnection: upgrade\r\n\r\n";
    let head = ResponseHead::empty(StatusCode::UPGRADE_REQUIRED, &fields);
    assert_eq!(sent("GET", "1.1", head, b""), Ok((wire.into(), true)));
}

#[test]
fn an_error_to_head_has_no_content() {
    for wire in
        ["HEAD / HTTP/1.1\r\nA : b\r\n", "HEAD / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nx"]
    {
        let seen = transcript(&[wire.as_bytes()], &Arc::default());
        assert!(seen.fault.is_some() && seen.out.ends_with("\r\n\r\n"), "{}", seen.out);
    }
}

#[test]
fn an_error_says_how_long_its_content_is() {
    let seen = transcript(&[&b"\0"[..]], &Arc::default());
    let (head, content) = seen.out.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", content.len())), "{}", seen.out);
    assert_eq!(content, "{\"error\":\"malformed request line\"}");
}

#[test]
fn row_2_3_no_length_where_there_is_no_content() {
    for line in [("Content-Length", &b"0"[..]), ("Transfer-Encoding", b"chunked")] {
        let (mut connection, exchange) = asked("GET", "1.1");
        let mut out = Vec::new();
        let informed = connection.inform(&exchange, StatusCode::EARLY_HINTS, &[line], &mut out);
        assert_eq!((informed, &out[..]), (Err(SendError::FieldReserved), &b""[..]));
    }
    for head in [
        ResponseHead::with_length(StatusCode::OK, NONE, 5),
        ResponseHead::stream(StatusCode::OK, NONE),
        ResponseHead::stream(StatusCode::NO_CONTENT, NONE),
    ] {
        let mut wire = b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
        let mut connection = ServerConnection::new(Arc::default(), Now::default());
        let (mut input, mut out) = (Input::new(&mut wire), Vec::new());
        let Ok(Event::Request(_, exchange)) = connection.recv(&mut input, &mut out, Now::default()) else {
            panic!()
        };
        let refused = connection.respond(exchange, &head, &mut out, Now::default()).unwrap_err();
        assert_eq!((refused.error, &out[..]), (SendError::NoContent, &b""[..]));
    }
}

#[test]
fn rows_2_7_2_8_2_14_and_5_19_framing_and_connection_are_the_machines() {
    for name in
        ["Content-Length", "transfer-encoding", "CONNECTION", "Keep-Alive", "Proxy-Connection", "TE", "Date"]
    {
        let fields = [(name, &b"gzip"[..])];
        for head in
            [ResponseHead::empty(StatusCode::OK, &fields), ResponseHead::stream(StatusCode::OK, &fields)]
        {
            assert_eq!(sent("GET", "1.1", head, b""), Err(SendError::FieldReserved), "{name}");
        }
    }
    let (text, _) = sent("GET", "1.1", ResponseHead::stream(StatusCode::OK, NONE), b"x").unwrap();
    assert_eq!((text.matches("chunked").count(), text.contains("Content-Length")), (1, false), "{text}");
}

#[test]
fn row_2_21_every_answer_says_where_it_ends() {
    for (head, content, ending) in [
        (ResponseHead::empty(StatusCode::OK, NONE), "", "Content-Length: 0\r\n\r\n"),
        (ResponseHead::with_length(StatusCode::OK, NONE, 2), "ab", "Content-Length: 2\r\n\r\nab"),
        (
            ResponseHead::stream(StatusCode::OK, NONE),
            "ab",
            "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        ),
    ] {
        let (text, goes_on) = sent("POST", "1.1", head, content.as_bytes()).unwrap();
        assert!(text.ends_with(ending) && goes_on, "{text}");
    }
}

#[test]
fn row_2_22_a_length_that_is_required_is_the_callers_to_ask_for() {
    let head = head("POST / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(head.as_head().body(), RequestBody::None);
    let wire = "HTTP/1.1 411 Length Required\r\nContent-Length: 0\r\n\r\n";
    let required = ResponseHead::empty(StatusCode::LENGTH_REQUIRED, NONE);
    assert_eq!(sent("POST", "1.1", required, b""), Ok((wire.into(), true)));
}

#[test]
fn row_5_2_keep_alive_to_http_1_0_needs_a_length() {
    let lines = "1.0\r\nConnection: keep-alive";
    let known = ResponseHead::with_length(StatusCode::OK, NONE, 1);
    let wire = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\na";
    assert_eq!(sent("GET", lines, known, b"a"), Ok((wire.into(), true)));
    let stream = ResponseHead::stream(StatusCode::OK, NONE);
    let wire = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\na";
    assert_eq!(sent("GET", lines, stream, b"a"), Ok((wire.into(), false)));
}

#[test]
fn row_5_21_every_final_answer_has_the_date_it_is_given() {
    let now = Now { unix: crate::time::UnixMillis(784_111_777_000), ..Now::default() };
    let date = "\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    for code in [200, 304, 404, 503] {
        let (mut connection, exchange) = asked("GET", "1.1");
        let (head, mut out) = (ResponseHead::empty(StatusCode::new(code).unwrap(), NONE), Vec::new());
        connection.answer(exchange, &head, b"", &mut out, now).unwrap();
        assert_eq!(String::from_utf8(out).unwrap().matches(date).count(), 1);
    }
    let mut connection = ServerConnection::new(Arc::default(), now);
    let mut out = Vec::new();
    connection.recv(&mut Input::new(&mut b"\0".to_vec()), &mut out, now).unwrap_err();
    assert_eq!(String::from_utf8(out).unwrap().matches(date).count(), 1);
}
