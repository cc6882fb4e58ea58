//! Bugs that other servers and parsers had, each with its name: none of them is here.

use super::*;

fn post(lines: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: x\r\n{lines}\r\n")
}

/// Each of these is refused, for this reason.
fn refused<const N: usize>(cases: [(&str, Fault); N]) {
    for (wire, fault) in cases {
        bad(wire, fault);
    }
}

/// Each of these bodies in chunks is refused, for this reason.
fn refused_chunks<const N: usize>(cases: [(&str, Fault); N]) {
    for (body, fault) in cases {
        bad(&chunked(body), fault);
    }
}

#[test]
fn bug_header_injection() {
    // RUSTSEC-2017-0002 (hyper), RUSTSEC-2024-0009 (trillium).
    for byte in ["\r", "\n", "\0", "\r\n"] {
        let (name, value) = (format!("X{byte}Y"), format!("a{byte}b"));
        for field in [(&*name, &b"a"[..]), ("X", value.as_bytes())] {
            let fields = [field];
            let head = ResponseHead::stream(StatusCode::OK, &fields);
            let mut connection = ServerConnection::new(Arc::default(), Now::default());
            let mut wire = NEXT.to_vec();
            let (mut input, mut out) = (Input::new(&mut wire), Vec::new());
            let Ok(Event::Request(_, exchange)) = connection.recv(&mut input, &mut out, Now::default())
            else {
                panic!()
            };
            assert!(connection.inform(&exchange, StatusCode::EARLY_HINTS, &fields, &mut out).is_err());
            let refused = connection.respond(exchange, &head, &mut out, Now::default()).unwrap_err();
            assert_eq!(out, b"");
            let head = ResponseHead::stream(StatusCode::OK, &[]);
            let body = connection.respond(refused.token, &head, &mut out, Now::default()).unwrap();
            let written = out.len();
            assert!(connection.finish_with_trailers(body, &fields, &mut out, Now::default()).is_err());
            assert_eq!(out.len(), written);
        }
    }
}

#[test]
fn bug_several_transfer_encodings() {
    // RUSTSEC-2021-0020 (hyper), CVE-2020-8287 (node): one of two lines counted.
    for (first, second, fault) in [
        ("chunked", "chunked", Fault::TransferEncoding),
        ("chunked", "identity", Fault::TransferEncoding),
        ("identity", "chunked", Fault::Coding),
        ("chunked", "eee", Fault::TransferEncoding),
        ("eee", "chunked", Fault::Coding),
        ("chunked", "", Fault::TransferEncoding),
        ("", "chunked", Fault::TransferEncoding),
    ] {
        bad(&post(&format!("Transfer-Encoding: {first}\r\nTransfer-Encoding: {second}\r\n")), fault);
        bad(&post(&format!("Transfer-Encoding: {first}\r\nX: y\r\ntransfer-encoding: {second}\r\n")), fault);
    }
}

#[test]
fn bug_lengths_that_only_some_read_as_numbers() {
    // RUSTSEC-2021-0078 (hyper), tiny_http, gunicorn, aiohttp; CVE-2024-27982 (node).
    for value in ["+5", "-5", "-0", "5_0", "0x5", "5 ,", " 5 5", "5\t5", "\u{ff15}", "5,", "5;5", "5e0"] {
        bad(&post(&format!("Content-Length: {value}\r\n")), Fault::ContentLength);
    }
    bad(&get("X: y\r\n Content-Length: 5\r\n"), Fault::Fold);
    bad(&get("Content-Length : 5\r\n"), Fault::SpaceBeforeColon);
}

#[test]
fn bug_chunk_sizes_that_overflow() {
    // RUSTSEC-2021-0079 (hyper): 17 digits were cut to 16.
    refused_chunks([
        ("f0000000000000003\r\nabc\r\n0\r\n\r\n", Fault::ChunkSizeTooLarge),
        ("10000000000000003\r\n", Fault::ChunkSizeTooLarge),
        ("ffffffffffffffff\r\n", Fault::BodyTooLarge),
    ]);
    let padded = "00000000000000003\r\nabc\r\n0\r\n\r\n";
    assert_eq!(good(&chunked(padded)), ["POST /", "data abc", "end"]);
}

#[test]
fn bug_malformed_transfer_encodings_are_chunked_or_nothing() {
    // RUSTSEC-2020-0031 (tiny_http), ureq-proto 0.7.1.
    for (value, fault) in [
        ("xchunked", Fault::TransferEncoding),
        ("chunkedx", Fault::TransferEncoding),
        ("chunked, gzip", Fault::TransferEncoding),
        ("gzip", Fault::TransferEncoding),
        ("chunked chunked", Fault::TransferEncoding),
        ("'chunked'", Fault::TransferEncoding),
        ("\u{b}chunked", Fault::FieldValue),
        ("chunked\r\n , x", Fault::Fold),
        ("gzip, chunked", Fault::Coding),
    ] {
        bad(&post(&format!("Transfer-Encoding: {value}\r\n")), fault);
    }
    bad(&post("Transfer-Encoding : chunked\r\n"), Fault::SpaceBeforeColon);
    bad(&post(" Transfer-Encoding: chunked\r\n"), Fault::Fold);
}

#[test]
fn bug_two_lengths_and_no_host() {
    // RUSTSEC-2021-0081 and later fixes of actix-http; hyper #4123: the order decided.
    refused([
        (
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            Fault::BothLengths,
        ),
        (
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
            Fault::BothLengths,
        ),
        ("POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", Fault::Host),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", Fault::Host),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", Fault::Host),
    ]);
    refused_chunks([
        ("\r\n", Fault::ChunkSize),
        (";x\r\n", Fault::ChunkSize),
        ("0\r\nX : y\r\n", Fault::SpaceBeforeColon),
        ("0\r\nX\r\n", Fault::FieldName),
    ]);
}

#[test]
fn bug_a_body_is_taken_for_the_next_request() {
    // RUSTSEC-2020-0093 (async-h1), RUSTSEC-2025-0037 (pingora), hyper #540: the answer came before the body, and
    // the body was longer than what had been read.
    let body = "GET /evil HTTP/1.1\r\nHost: x\r\n\r\n".repeat(300);
    for head in
        [post(&format!("Content-Length: {}\r\n", body.len())), chunked(&format!("{:x}\r\n", body.len()))]
    {
        for arrived in [0, 1, 100, body.len()] {
            let mut connection = ServerConnection::new(Arc::default(), Now::default());
            let mut wire = [head.as_bytes(), &body.as_bytes()[..arrived]].concat();
            let (mut input, mut out) = (Input::new(&mut wire), Vec::new());
            let Ok(Event::Request(_, exchange)) = connection.recv(&mut input, &mut out, Now::default())
            else {
                panic!()
            };
            let early = ResponseHead::empty(StatusCode::OK, &[]);
            connection.answer(exchange, &early, b"cached", &mut out, Now::default()).unwrap();
            assert!(String::from_utf8_lossy(&out).contains("\r\nConnection: close\r\n"));
            assert!(matches!(connection.recv(&mut input, &mut out, Now::default()), Ok(Event::Closed)));
            let mut rest = body.as_bytes()[arrived..].to_vec();
            let event = connection.recv(&mut Input::new(&mut rest), &mut out, Now::default());
            assert!(matches!(event, Ok(Event::Closed)) && connection.disposition() == Disposition::Finish);
        }
    }
}

#[test]
fn bug_an_upgrade_that_was_not_accepted_changes_the_framing() {
    // RUSTSEC-2026-0033 (pingora), deno #34446, tiny_http: bytes behind such a request were another protocol's.
    let upgrade = "Upgrade: anything\r\nConnection: upgrade\r\n";
    assert_eq!(good(&get(upgrade)), ["GET /", "end"]);
    assert_eq!(
        good(&(get(&format!("{upgrade}Content-Length: 3\r\n")) + "GET")),
        ["GET /", "data GET", "end"]
    );
}

#[test]
fn bug_a_request_that_the_end_of_the_connection_ends() {
    // RUSTSEC-2026-0034 (pingora), ureq-proto 0.7.1: an HTTP/1.0 request, or a POST, without a length.
    refused([
        (
            "POST / HTTP/1.0\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n",
            Fault::TransferEncodingInHttp10,
        ),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: identity, chunked\r\n\r\n", Fault::TransferEncodingInHttp10),
    ]);
    let seen = split_with(b"POST / HTTP/1.0\r\n\r\nGET /evil HTTP/1.0\r\n\r\n", &Config::default());
    assert_eq!(seen.events, ["POST /", "end", "closed"]);
    assert_eq!(good("POST / HTTP/1.1\r\nHost: x\r\n\r\n"), ["POST /", "end"]);
}

#[test]
fn bug_any_two_bytes_end_a_chunk() {
    // CVE-2025-43859 (h11).
    for end in ["XX", "\n\n", "\rX", "X\n", "\r\r", "0\r"] {
        bad(&chunked(&format!("5\r\nhello{end}")), Fault::ChunkEnd);
    }
}

#[test]
fn bug_lenience_of_a_head_parser() {
    // llhttp and node: CVE-2021-22959, CVE-2022-32213, -32214, -32215, -35256, CVE-2023-30589, CVE-2025-23167, in order;
    // the last two are llhttp #877, a request line that LF ends where the version should be.
    refused([
        ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length : 5\r\n", Fault::SpaceBeforeColon),
        ("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunkedchunked\r\n\r\n", Fault::TransferEncoding),
        ("POST / HTTP/1.1\r\nHost: x\r\nX: a\nTransfer-Encoding: chunked\r\n\r\n", Fault::BareLf),
        ("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n , identity\r\n", Fault::Fold),
        ("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:chunked\n\r\n", Fault::BareLf),
        ("POST / HTTP/1.1\r\nHost: x\r\nX: a\rTransfer-Encoding: chunked\r\n\r\n", Fault::BareCr),
        ("GET / HTTP/1.1\r\nHost: x\r\n\rGET /evil HTTP/1.1\r\n", Fault::BareCr),
        ("GET /x\nHost: x\r\nContent-Length: 5\r\n\r\nhello", Fault::RequestLine),
        ("GET /x HTTP/1.1\nHost: x\r\n\r\n", Fault::BareLf),
    ]);
}

#[test]
fn bug_extensions_hide_what_follows() {
    // CVE-2021-22960 (llhttp), CVE-2025-55315 (Kestrel), netty #15611 and #16537, httparse 1.10.1.
    refused_chunks([
        ("5 \nhello\r\n", Fault::ChunkExtension),
        ("5;\nhello\r\n", Fault::ChunkExtension),
        ("5;a\nhello\r\n", Fault::ChunkExtension),
        ("5;a\rhello\r\n", Fault::ChunkSize),
        ("5;a\r\rhello\r\n", Fault::ChunkSize),
        ("5\rhello\r\n", Fault::ChunkSize),
        ("5\nhello\r\n", Fault::ChunkSize),
        ("5;a=\"\r\nhello\"\r\n", Fault::ChunkExtension),
        ("5;a=\"\nhello\"\r\n", Fault::ChunkExtension),
        ("5;a=\"\\\r\nhello\"\r\n", Fault::ChunkExtension),
        ("5;\0\r\nhello\r\n", Fault::ChunkExtension),
    ]);
}

#[test]
fn bug_extensions_without_an_end() {
    // CVE-2024-22019 (node): one that never ended; CVE-2023-39326 (Go): many, with a byte of content each.
    bad(&chunked(&format!("5;{}", "x".repeat(300))), Fault::ExtensionsTooLarge);
    let each = format!("1;{}\r\na\r\n", "x".repeat(250));
    let seen = transcript(&[chunked(&each.repeat(100)).as_bytes()], &Arc::default());
    assert_eq!(seen.fault, Some(Fault::ExtensionsTooLarge));
    let padded = chunked(&"00000000000000000000000000000001\r\na\r\n".repeat(2000));
    assert_eq!(transcript(&[padded.as_bytes()], &Arc::default()).fault, Some(Fault::ChunkOverhead));
}

#[test]
fn bug_a_head_over_the_limit_that_comes_in_two_reads() {
    // hyper #4081: the limit was looked at only while the head was not whole. Every split is tried here.
    let limits = Limits { head_bytes: 100, ..Limits::default() };
    let config = Config { limits, ..Config::default() };
    bad_with(&get(&format!("X: {}\r\n", "a".repeat(80))), Fault::HeadTooLarge, &config);
}

#[test]
fn bug_trailers_lose_repeats_or_the_connection() {
    // hyper #4010, #4044, #4107, #4118. `good` sends another request behind each.
    for (lines, told) in [
        ("X: 1\r\nX: 2\r\n", "trailers [X: 1, X: 2]"),
        ("x-Upper: 1\r\nX-UPPER: 2\r\n", "trailers [x-Upper: 1, X-UPPER: 2]"),
    ] {
        let wire = chunked(&format!("1\r\na\r\n0\r\n{lines}\r\n"));
        assert_eq!(good(&wire), ["POST /", "data a", told, "end"]);
    }
}

#[test]
fn bug_what_follows_the_digits_of_a_chunk_size_is_not_looked_at() {
    // picohttpparser #78 and #82; httparse 1.10.1; ureq-proto 0.7.1.
    for line in
        ["\r\n", ";x\r\n", "5x\r\n", "5\0\r\n", "+5\r\n", " 5 \r\n", "5\u{a0}\r\n", "5,\r\n", "5\u{b}\r\n"]
    {
        bad(&chunked(line), Fault::ChunkSize);
    }
    bad(&chunked("5 x\r\n"), Fault::ChunkExtension);
}

#[test]
fn bug_a_head_parser_without_limits() {
    // httparse 1.10.1: LF alone, empty lines without end, HTTP/1.2, methods of any length.
    bad("GET / HTTP/1.1\nHost: x\n\n", Fault::BareLf);
    bad(&"\r\n".repeat(5), Fault::EmptyLines);
    bad("\n\nGET / HTTP/1.1\r\n", Fault::BareLf);
    assert_eq!(good("GET / HTTP/1.2\r\nHost: x\r\n\r\n"), ["GET /", "end"]);
    bad(&"M".repeat(33), Fault::MethodTooLong);
}
