//! What a client sends, and what it cannot be made to send.

use super::*;
use crate::http1::Limits;

fn connection() -> ClientConnection {
    ClientConnection::new(Arc::default())
}

/// The head of a request, as it is written.
fn written(request: &Request<'_>) -> Result<String, SendError> {
    let mut out = Vec::new();
    let result = connection().request(request, &mut out, Now::default());
    assert!(result.is_ok() || out.is_empty(), "{}", out.escape_ascii());
    result.map(|_| String::from_utf8(out).unwrap())
}

#[test]
fn row_1_20_host_comes_first_and_is_the_authority() {
    let fields: [(&str, &[u8]); 2] = [("Accept", b"*/*"), ("X-\x7e", b"\xe9\t")];
    let mut out = Vec::new();
    let request = Request { fields: &fields, ..Request::get("example.com:8080", "/a?b=c") };
    let _ = connection().request(&request, &mut out, Now::default()).unwrap();
    assert_eq!(out, b"GET /a?b=c HTTP/1.1\r\nHost: example.com:8080\r\nAccept: */*\r\nX-~: \xe9\t\r\n\r\n");
    for authority in
        ["", "u@x", "u:p@x", "a b", "a/b", "a,b", ":80", "x:99999", "x\r\nA: b", "[::1", "x\0", "a#b"]
    {
        assert_eq!(written(&Request::get(authority, "/")), Err(SendError::Authority), "{authority}");
    }
    assert!(written(&Request::get("[::1]:80", "/")).unwrap().contains("\r\nHost: [::1]:80\r\n"));
}

#[test]
fn rows_1_15_1_17_and_1_18_each_method_has_its_target() {
    let proxied = Target::Absolute { scheme: "http", path: "/a?b" };
    let rootless = Target::Absolute { scheme: "ws+x", path: "" };
    for (request, line) in [
        (GET, "GET / HTTP/1.1"),
        (Request { target: proxied, ..GET }, "GET http://x/a?b HTTP/1.1"),
        (Request { target: rootless, ..GET }, "GET ws+x://x HTTP/1.1"),
        (Request { target: Target::Asterisk, ..Request::new("OPTIONS", "x", "") }, "OPTIONS * HTTP/1.1"),
        (Request::new("OPTIONS", "x", "/"), "OPTIONS / HTTP/1.1"),
        (Request::new("M-SEARCH", "x", "/"), "M-SEARCH / HTTP/1.1"),
        (CONNECT, "CONNECT x:443 HTTP/1.1"),
    ] {
        assert_eq!(written(&request).unwrap().split("\r\n").next().unwrap(), line);
    }
    for target in [Target::Asterisk, Target::Authority] {
        assert_eq!(written(&Request { target, ..GET }), Err(SendError::Target));
    }
    for target in [Target::Origin("/"), Target::Asterisk, proxied] {
        assert_eq!(written(&Request { target, ..CONNECT }), Err(SendError::Target));
    }
    for authority in ["x", "x:", "x:0"] {
        assert_eq!(written(&Request::connect(authority)), Err(SendError::Authority));
    }
}

#[test]
fn rows_1_29_and_1_40_nothing_can_be_smuggled_into_a_head() {
    for path in ["", "a", "/ ", "/a b", "/\r\nX: y", "/\0", "/#a", "/\u{e9}", "/\t", "/\x7f"] {
        assert_eq!(written(&Request::get("x", path)), Err(SendError::Target), "{path}");
    }
    for (scheme, path) in
        [("", ""), ("1", ""), ("a b", ""), ("http", "a"), ("http", ".evil/"), ("http", "/ x")]
    {
        let target = Target::Absolute { scheme, path };
        assert_eq!(written(&Request { target, ..GET }), Err(SendError::Target), "{scheme} {path}");
    }
    for method in ["", "G T", "GET\r\n", "GET /", "G\u{e9}T", "\0"] {
        assert_eq!(written(&Request::new(method, "x", "/")), Err(SendError::Method), "{method}");
    }
    for (name, value, error) in [
        ("", &b""[..], SendError::FieldName),
        ("a b", b"", SendError::FieldName),
        ("a:", b"", SendError::FieldName),
        ("a\r\nb", b"", SendError::FieldName),
        ("a", b"\r\nb: c", SendError::FieldValue),
        ("a", b"b\r\n c", SendError::FieldValue),
        ("a", b"b\nc", SendError::FieldValue),
        ("a", b"\0", SendError::FieldValue),
        ("a", b"\x7f", SendError::FieldValue),
    ] {
        let fields = [("Accept", &b"*/*"[..]), (name, value)];
        assert_eq!(written(&Request { fields: &fields, ..GET }), Err(error), "{name}");
    }
    for protocols in ["", "a,,b", "a b", "websocket\r\nX: y", "a/", "/a", "\0"] {
        let request = Request { upgrade: Some(protocols), ..GET };
        assert_eq!(written(&request), Err(SendError::UpgradeMalformed), "{protocols}");
    }
}

#[test]
fn rows_2_7_and_2_14_framing_and_routing_are_the_machines() {
    for name in [
        "Host",
        "content-length",
        "Transfer-Encoding",
        "CONNECTION",
        "Keep-Alive",
        "Proxy-Connection",
        "TE",
        "Expect",
        "Upgrade",
    ] {
        let fields = [(name, &b"x"[..])];
        assert_eq!(written(&Request { fields: &fields, ..GET }), Err(SendError::FieldReserved), "{name}");
    }
    let fields = [("Date", &b"x"[..])]; // a client may have a clock (RFC 9110 section 6.6.1)
    assert!(written(&Request { fields: &fields, ..GET }).is_ok());
}

#[test]
fn row_1_37_what_is_sent_has_the_limits_of_what_is_read() {
    let long = "/".repeat(8 * 1024 + 1);
    assert_eq!(written(&Request::get("x", &long)), Err(SendError::HeadTooLarge));
    assert!(written(&Request::get("x", &long[1..])).is_ok());
    assert_eq!(written(&Request::new(&"A".repeat(33), "x", "/")), Err(SendError::HeadTooLarge));
    assert_eq!(written(&Request::get(&"a".repeat(17_000), "/")), Err(SendError::HeadTooLarge));
    let fields = [("a", &b"b"[..]); 101];
    assert_eq!(written(&Request { fields: &fields, ..GET }), Err(SendError::HeadTooLarge));
}

#[test]
fn a_head_may_be_as_large_as_its_limits() {
    let request = Request { fields: &[("A", b"b")], upgrade: Some("websocket"), ..GET };
    let head = written(&request).unwrap();
    assert_eq!(
        head,
        "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"
    );
    let upgrade_line = "Upgrade: websocket\r\n".len();
    for less in [0, 1] {
        let expected = if less == 0 { Ok(()) } else { Err(SendError::HeadTooLarge) };
        for limits in [
            Limits { method_bytes: "GET".len() - less, ..Limits::default() },
            Limits { target_bytes: "/".len() - less, ..Limits::default() },
            Limits { field_bytes: upgrade_line - less, ..Limits::default() },
            Limits { head_bytes: head.len() - less, ..Limits::default() },
            Limits { fields: 4 - less as u16, ..Limits::default() },
        ] {
            assert_eq!(request.check(false, &limits), expected, "{limits:?}");
        }
    }
}

#[test]
fn row_2_23_a_length_is_told_where_there_could_be_content() {
    for (method, length, line) in [
        ("GET", BodyLength::Empty, ""),
        ("DELETE", BodyLength::Empty, ""),
        ("POST", BodyLength::Empty, "Content-Length: 0\r\n"),
        ("PUT", BodyLength::Empty, "Content-Length: 0\r\n"),
        ("PATCH", BodyLength::Empty, "Content-Length: 0\r\n"),
        ("GET", BodyLength::Known(0), "Content-Length: 0\r\n"),
        ("GET", BodyLength::Known(u64::MAX), "Content-Length: 18446744073709551615\r\n"),
        ("POST", BodyLength::Unknown, "Transfer-Encoding: chunked\r\n"),
    ] {
        let head = written(&Request { length, ..Request::new(method, "x", "/") }).unwrap();
        assert_eq!(head, format!("{method} / HTTP/1.1\r\nHost: x\r\n{line}\r\n"));
    }
}

#[test]
fn row_2_29_trace_and_connect_have_no_content() {
    for request in [Request::new("TRACE", "x", "/"), CONNECT] {
        for length in [BodyLength::Known(0), BodyLength::Known(1), BodyLength::Unknown] {
            assert_eq!(written(&Request { length, ..request }), Err(SendError::NoContent));
        }
        assert!(written(&request).is_ok());
    }
}

#[test]
fn row_2_13_no_chunks_to_http_1_0() {
    let (mut connection, mut out) = (connection(), Vec::new());
    connection.set_peer_version(Version::Http10);
    let request = Request { length: BodyLength::Unknown, ..Request::new("POST", "x", "/") };
    let refused = connection.request(&request, &mut out, Now::default());
    assert_eq!((refused, &out[..]), (Err(SendError::ChunkedToHttp10), &b""[..]));
    connection.send(&GET, b"", &mut out, Now::default()).unwrap();
    assert_eq!(out, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n");
    let mut wire = *b"HTTP/1.1 204 \r\n\r\n";
    let mut input = Input::new(&mut wire);
    for _ in 0..2 {
        connection.recv(&mut input, Now::default()).unwrap();
    }
    assert!(connection.request(&request, &mut out, Now::default()).is_ok()); // it says what it speaks
}

#[test]
fn rows_3_15_3_16_5_13_and_5_19_options_are_listed_in_connection() {
    let request = Request { trailers: true, upgrade: Some("h2c, WebSocket/13"), close: true, ..GET };
    assert_eq!(
        written(&request).unwrap(),
        "GET / HTTP/1.1\r\nHost: x\r\nTE: trailers\r\nUpgrade: h2c, WebSocket/13\r\n\
         Connection: close, upgrade, TE\r\n\r\n"
    );
}

#[test]
fn row_2_25_content_is_counted() {
    let (mut connection, mut out) = (connection(), Vec::new());
    let request = Request { length: BodyLength::Known(5), ..Request::new("PUT", "x", "/") };
    let mut body = connection.request(&request, &mut out, Now::default()).unwrap();
    assert!(!body.is_chunked());
    out.clear();
    connection.data(&mut body, b"hel", &mut out).unwrap();
    assert_eq!(connection.data(&mut body, b"lo!", &mut out), Err(SendError::TooLong));
    let refused = connection.finish(body, &mut out, Now::default()).unwrap_err();
    assert_eq!(refused.error, SendError::TooShort);
    let mut body = refused.token;
    assert_eq!(connection.frame(&mut body, 1).unwrap().head.as_bytes(), b"");
    connection.framed(&mut body, 1).unwrap();
    connection.finish(body, &mut out, Now::default()).unwrap();
    assert_eq!(out, b"hel"); // the caller writes the rest
}

#[test]
fn rows_1_5_3_13_and_3_20_chunks_are_framed_and_none_is_empty() {
    let (mut connection, mut out) = (connection(), Vec::new());
    let request = Request { length: BodyLength::Unknown, ..Request::new("PUT", "x", "/") };
    let mut body = connection.request(&request, &mut out, Now::default()).unwrap();
    assert!(body.is_chunked());
    out.clear();
    for part in [&b"hello"[..], b"", b" world, again"] {
        connection.data(&mut body, part, &mut out).unwrap();
    }
    for name in [
        "Authorization",
        "Cache-Control",
        "Connection",
        "Content-Length",
        "Content-Type",
        "Cookie",
        "Expect",
        "Host",
        "Range",
        "Set-Cookie",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
    ] {
        let refused =
            connection.finish_with_trailers(body, &[(name, b"x")], &mut out, Now::default()).unwrap_err();
        assert_eq!(refused.error, SendError::FieldReserved); // row 3.13
        body = refused.token;
    }
    connection.finish_with_trailers(body, &[("Content-Digest", b"x")], &mut out, Now::default()).unwrap();
    assert_eq!(out, b"5\r\nhello\r\nd\r\n world, again\r\n0\r\nContent-Digest: x\r\n\r\n");
}

#[test]
fn a_whole_request_is_sent_at_once() {
    let (mut connection, mut out) = (connection(), Vec::new());
    let request =
        Request { length: BodyLength::Unknown, expect_continue: true, ..Request::new("POST", "x", "/") };
    connection.send(&request, b"hello", &mut out, Now::default()).unwrap();
    assert_eq!(out, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello");
    assert!(!connection.takes_content());
}

#[test]
fn a_request_without_content_is_complete_with_its_head() {
    let (mut connection, mut out) = (connection(), Vec::new());
    let mut body = connection.request(&GET, &mut out, Now::default()).unwrap();
    assert!(!connection.takes_content());
    assert_eq!(connection.data(&mut body, b"x", &mut out), Err(SendError::NoContent));
    let mut wire = *b"HTTP/1.1 204 \r\n\r\n";
    let mut input = Input::new(&mut wire);
    let ClientEvent::Response(head) = connection.recv(&mut input, Now::default()).unwrap() else { panic!() };
    assert!(!head.is_early());
    connection.recv(&mut input, Now::default()).unwrap();
    connection.finish(body, &mut out, Now::default()).unwrap();
    assert_eq!((&out[..], connection.reuse()), (&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], Ok(())));
}
