//! Bugs that other clients and parsers had, each with its name: none of them is here.

use super::*;

#[test]
fn bug_header_injection() {
    // RUSTSEC-2017-0002 (hyper), RUSTSEC-2024-0009 (trillium).
    for byte in ["\r", "\n", "\0", "\r\n"] {
        let inside = format!("a{byte}b");
        let path = format!("/{inside}");
        let (name, value) = ([(&*inside, &b"a"[..])], [("X", inside.as_bytes())]);
        for request in [
            Request::new(&inside, "x", "/"),
            Request::get(&inside, "/"),
            Request::get("x", &path),
            Request { target: Target::Absolute { scheme: &inside, path: "/" }, ..GET },
            Request { fields: &name, ..GET },
            Request { fields: &value, ..GET },
            Request { upgrade: Some(&inside), ..GET },
        ] {
            let mut out = Vec::new();
            let sent = ClientConnection::new(Arc::default()).send(&request, b"", &mut out, Now::default());
            assert!(sent.is_err() && out.is_empty(), "{request:?}");
        }
        let (mut connection, mut out) = (ClientConnection::new(Arc::default()), Vec::new());
        let post = Request { length: BodyLength::Unknown, ..Request::new("POST", "x", "/") };
        let body = connection.request(&post, &mut out, Now::default()).unwrap();
        out.clear();
        let refused = connection.finish_with_trailers(body, &value, &mut out, Now::default()).unwrap_err();
        assert_eq!((refused.error, &out[..]), (SendError::FieldValue, &b""[..]));
    }
}

#[test]
fn bug_content_without_a_length() {
    // RUSTSEC-2020-0008 (hyper): a GET with content had neither length.
    for method in ["GET", "HEAD", "DELETE", "POST", "X"] {
        let mut out = Vec::new();
        let request = Request::new(method, "x", "/");
        ClientConnection::new(Arc::default()).send(&request, b"hello", &mut out, Now::default()).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.ends_with("\r\nContent-Length: 5\r\n\r\nhello"), "{text}");
        let mut out = Vec::new();
        let chunked = Request { length: BodyLength::Unknown, ..request };
        let _ = ClientConnection::new(Arc::default()).request(&chunked, &mut out, Now::default()).unwrap();
        assert!(out.ends_with(b"\r\nTransfer-Encoding: chunked\r\n\r\n"));
    }
}

#[test]
fn bug_lengths_that_only_some_read_as_numbers() {
    // RUSTSEC-2021-0078 (hyper), CVE-2024-27982 (node).
    for value in ["+5", "-5", "5_0", "0x5", "5 5", "\u{ff15}", "5,", "5, 5"] {
        bad(&ok(&format!("Content-Length: {value}\r\n")), Fault::ContentLength);
    }
}

#[test]
fn bug_a_response_of_http_1_0_in_chunks() {
    // RUSTSEC-2026-0034 (pingora).
    for lines in ["", "Connection: keep-alive\r\n"] {
        let wire = format!("HTTP/1.0 200 OK\r\n{lines}Transfer-Encoding: chunked\r\n\r\n");
        bad(&wire, Fault::TransferEncodingInHttp10);
    }
}

#[test]
fn bug_an_upgrade_that_was_not_accepted_changes_the_framing() {
    // RUSTSEC-2026-0033 (pingora): an upgrade that was asked for counted as one that was accepted.
    let request = Request { upgrade: Some("websocket"), ..GET };
    let wire = ok("Upgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 2\r\n") + "no";
    assert_eq!(good_to(&request, &wire), ["200", "data no", "end"]);
}

#[test]
fn bug_any_two_bytes_end_a_chunk() {
    // CVE-2025-43859 (h11).
    for end in ["XX", "\n\n", "\rX", "X\n", "\r\r", "0\r"] {
        bad(&chunked(&format!("5\r\nhello{end}")), Fault::ChunkEnd);
    }
}

#[test]
fn bug_extensions_hide_what_follows() {
    // CVE-2021-22960 (llhttp), CVE-2025-55315 (Kestrel), netty #16537; also where LF alone is let pass in heads.
    let config = ClientConfig { lenient_lf: true, ..ClientConfig::default() };
    let lenient = Setting { config, ..Setting::new(&GET) };
    for (body, fault) in [
        ("5;a\nhello\r\n", Fault::ChunkExtension),
        ("5;a\rhello\r\n", Fault::ChunkSize),
        ("5 \nhello\r\n", Fault::ChunkExtension),
        ("5\nhello\r\n", Fault::ChunkSize),
        ("5;a=\"\r\nhello\"\r\n", Fault::ChunkExtension),
        ("5;\nhello\r\n", Fault::ChunkExtension),
    ] {
        bad(&chunked(body), fault);
        bad_with(&lenient, chunked(body).as_bytes(), Failure::Malformed(fault));
    }
}

#[test]
fn bug_chunk_sizes_that_only_some_read_as_numbers() {
    // httparse 1.10.1, ureq-proto 0.7.1, picohttpparser #78 and #82; RUSTSEC-2021-0079 (hyper).
    for line in ["\r\n", ";x\r\n", "+5\r\n", " 5 \r\n", "5\u{a0}\r\n", "5x\r\n"] {
        bad(&chunked(line), Fault::ChunkSize);
    }
    bad(&chunked("f0000000000000003\r\nabc\r\n"), Fault::ChunkSizeTooLarge);
}

#[test]
fn bug_a_server_that_ends_without_a_word_while_content_is_sent() {
    // hyper #4085: it spun. It is an error, told once and for all, and the content is refused.
    let (mut connection, mut out) = (ClientConnection::new(Arc::default()), Vec::new());
    let post = Request { length: BodyLength::Unknown, ..Request::new("POST", "x", "/") };
    let mut body = connection.request(&post, &mut out, Now::default()).unwrap();
    let error = connection.recv(&mut Input::last(&mut []), Now::default()).unwrap_err();
    assert_eq!((error.failure, error.request_sent), (Failure::NoResponse, false));
    assert_eq!(connection.data(&mut body, b"x", &mut out), Err(SendError::Stale));
    assert_eq!(connection.disposition(), Disposition::Abort);
}

#[test]
fn bug_a_response_that_was_cut_off_is_complete() {
    // undici #5273.
    cut(&chunked("5\r\nhello\r\n"), Failure::TruncatedChunks);
    cut(&chunked("5\r\nhello\r\n0\r\n"), Failure::TruncatedChunks);
    cut(&(ok("Content-Length: 6\r\n") + "hello"), Failure::TruncatedLength { got: 5, want: 6 });
}
