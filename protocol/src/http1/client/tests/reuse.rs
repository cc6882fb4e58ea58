//! Whether a connection is used again, and what comes between two exchanges.

use super::*;

#[test]
fn a_connection_is_small() {
    assert!(size_of::<ClientConnection>() <= 88, "{}", size_of::<ClientConnection>());
    assert_eq!(size_of::<RequestTx>(), 16);
}

#[test]
fn row_5_1_the_server_decides_whether_the_connection_goes_on() {
    for (version, lines, why) in [
        ("1.1", "", None),
        ("1.1", "Connection: keep-alive\r\n", None),
        ("1.1", "Connection: xclose, closex, \"close\"\r\n", None),
        ("1.1", "Proxy-Connection: close\r\n", None),
        ("1.1", "Connection: Close\r\n", Some(NotReusable::ResponseSaidClose)),
        ("1.1", "Connection: keep-alive\r\nConnection: x, CLOSE\r\n", Some(NotReusable::ResponseSaidClose)),
        ("1.0", "", Some(NotReusable::Http10)),
        ("1.0", "Connection: Keep-Alive\r\n", None),
        ("1.0", "Connection: keep-alive, close\r\n", Some(NotReusable::ResponseSaidClose)),
    ] {
        let wire = format!("HTTP/{version} 200 OK\r\n{lines}Content-Length: 2\r\n\r\nab");
        if lines.contains('"') {
            bad(&wire, Fault::Connection);
            continue;
        }
        let events = match why {
            None => good(&wire),
            Some(why) => last_to(&GET, &wire, why),
        };
        assert_eq!(events, ["200", "data ab", "end"], "{wire}");
        assert_eq!(head(&wire).as_response().keep_alive(), why.is_none());
    }
}

#[test]
fn rows_5_3_and_5_16_the_client_may_end_it_too() {
    let request = Request { close: true, ..GET };
    let events = last_to(&request, &ok("Content-Length: 0\r\n"), NotReusable::RequestSaidClose);
    assert_eq!(events, ["200", "end"]);
}

#[test]
fn rows_5_5_and_5_7_the_next_request_waits_for_the_end_of_the_response() {
    let (mut connection, mut out) = (ClientConnection::new(Arc::default()), Vec::new());
    assert_eq!(connection.reuse(), Ok(()));
    let mut wire = (ok("Content-Length: 2\r\n") + "ab").into_bytes();
    let mut input = Input::new(&mut wire);
    connection.send(&GET, b"", &mut out, Now::default()).unwrap();
    out.clear();
    loop {
        assert_eq!(connection.reuse(), Err(NotReusable::Busy));
        let refused = connection.send(&GET, b"", &mut out, Now::default());
        assert_eq!((refused, out.len()), (Err(SendError::NotReusable(NotReusable::Busy)), 0));
        if let ClientEvent::EndOfResponse { .. } = connection.recv(&mut input, Now::default()).unwrap() {
            break;
        }
    }
    assert_eq!(connection.reuse(), Ok(()));
}

/// What comes on a connection that has answered once.
fn idle(wire: &str, ends: bool) -> Transcript {
    let first = ok("Content-Length: 2\r\n") + "ab";
    let mut seen = Setting { ends, ..Setting::new(&HEAD) }.split((ok("") + wire).as_bytes());
    let after_body = Setting { ends, ..Setting::new(&GET) }.split((first + wire).as_bytes());
    assert_eq!(after_body.events[..3], ["200", "data ab", "end"]);
    assert_eq!(after_body.events[3..], seen.events[2..]);
    assert_eq!((after_body.failure, after_body.reuse), (seen.failure, seen.reuse));
    seen.events.drain(..2);
    seen
}

#[test]
fn rows_2_24_and_5_9_what_nobody_asked_for_is_no_response() {
    for wire in [
        "x",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
        "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: x\r\n\r\n",
        "\r\nx",
        "\rx",
        "\r\n\r\n\r\n\r\n\r\n",
    ] {
        let seen = idle(wire, false);
        assert_eq!((seen.failure, &seen.events[..]), (Some(Failure::Unsolicited), &[][..]), "{wire}");
    }
    for wire in ["H", "HTTP/1.1 200 OK\r\n"] {
        let seen = idle(wire, false);
        assert_eq!((seen.failure, seen.reuse), (None, Err(NotReusable::Unsolicited)), "{wire}");
        assert_eq!(idle(wire, true).failure, Some(Failure::Unsolicited), "{wire}");
    }
}

#[test]
fn row_2_24_an_empty_line_too_much_is_passed_over() {
    assert_eq!(idle("\r\n", false).reuse, Ok(()));
    assert_eq!(idle("\r", false).reuse, Ok(()));
    assert_eq!(good(&(ok("Content-Length: 2\r\n") + "ab\r\n")), ["200", "data ab", "end"]);
}

#[test]
fn row_5_9_a_server_that_gives_up_waiting_is_understood() {
    for wire in [
        "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n",
        "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 4\r\n\r\nlate",
        "HTTP/1.0 503 Unavailable\r\nConnection: close\r\n\r\nbody",
    ] {
        for ends in [false, true] {
            let seen = idle(wire, ends);
            assert_eq!((seen.failure, seen.reuse), (None, Err(NotReusable::ResponseSaidClose)), "{wire}");
            assert_eq!(seen.events, ["closed"]);
        }
    }
}

#[test]
fn the_end_between_two_exchanges_is_no_error() {
    for wire in ["", "\r\n"] {
        let seen = idle(wire, true);
        assert_eq!((seen.failure, seen.reuse), (None, Err(NotReusable::HungUp)));
        assert_eq!(seen.events, ["closed"]);
    }
}

#[test]
fn row_5_18_an_error_says_what_a_retry_needs_to_know() {
    let post = Request { length: BodyLength::Known(5), ..Request::new("POST", "x", "/") };
    for (request, wire, sent, began) in [
        (GET, "", true, false),
        (GET, "\r\n", true, false),
        (GET, "H", true, true),
        (GET, "HTTP/1.1 103 \r\n\r\n", true, true),
        (post, "", false, false),
        (post, "HTTP/1.1 200 \r\nContent-Length: 1\r\n\r\n", false, true),
    ] {
        let mut connection = ClientConnection::new(Arc::default());
        let _body = connection.request(&request, &mut Vec::new(), Now::default()).unwrap();
        let mut bytes = wire.as_bytes().to_vec();
        let mut input = Input::last(&mut bytes);
        let error = loop {
            if let Err(error) = connection.recv(&mut input, Now::default()) {
                break error;
            }
        };
        assert_eq!((error.request_sent, error.response_began), (sent, began), "{wire}");
        assert_eq!(connection.recv(&mut input, Now::default()).unwrap_err(), error); // it stays
        assert_eq!((connection.disposition(), connection.deadline()), (Disposition::Abort, None));
    }
}

#[test]
fn row_5_8_each_response_is_read_as_its_request_needs() {
    let (mut connection, mut out, mut events) =
        (ClientConnection::new(Arc::default()), Vec::new(), Vec::new());
    let mut wire = [
        ok("Content-Length: 5\r\n"),
        ok("Content-Length: 5\r\n") + "hello",
        ok("Transfer-Encoding: chunked\r\n"),
        "HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno".into(),
        ok("Content-Length: 5\r\n") + "bytes",
    ]
    .concat()
    .into_bytes();
    let mut input = Input::new(&mut wire);
    for request in [HEAD, GET, HEAD, CONNECT, CONNECT] {
        connection.send(&request, b"", &mut out, Now::default()).unwrap();
        while connection.reuse() == Err(NotReusable::Busy) {
            tell(&mut events, connection.recv(&mut input, Now::default()).unwrap());
        }
    }
    assert_eq!(
        events,
        ["200", "end", "200", "data hello", "end", "200", "end", "403", "data no", "end", "upgraded 200"]
    );
    assert_eq!((connection.reuse(), input.bytes()), (Err(NotReusable::Upgraded), &b"bytes"[..]));
}
