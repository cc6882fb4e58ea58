//! `100 Continue`, other interim responses, upgrades.

use core::time::Duration;

use super::*;

fn post() -> Request<'static> {
    Request { length: BodyLength::Known(5), expect_continue: true, ..Request::new("POST", "x", "/") }
}

fn upgrade() -> Request<'static> {
    Request { upgrade: Some("h2c, websocket"), ..GET }
}

/// A connection whose request waits for `100 Continue`.
fn waiting() -> (ClientConnection, RequestTx, Vec<u8>) {
    let (mut connection, mut out) = (ClientConnection::new(Arc::default()), Vec::new());
    let body = connection.request(&post(), &mut out, Now::default()).unwrap();
    assert!(out.ends_with(b"\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"));
    out.clear();
    (connection, body, out)
}

/// The events of these bytes.
fn events(connection: &mut ClientConnection, wire: &str) -> Vec<String> {
    let (mut bytes, mut events) = (wire.as_bytes().to_vec(), Vec::new());
    let mut input = Input::new(&mut bytes);
    loop {
        match connection.recv(&mut input, Now::default()).unwrap() {
            ClientEvent::NeedMore => return events,
            ClientEvent::Closed => {
                events.push("closed".into());
                return events;
            }
            event => tell(&mut events, event),
        }
    }
}

#[test]
fn row_4_7_nothing_is_expected_without_content() {
    for length in [BodyLength::Empty, BodyLength::Known(0)] {
        let refused = ClientConnection::new(Arc::default()).request(
            &Request { length, ..post() },
            &mut Vec::new(),
            Now::default(),
        );
        assert_eq!(refused, Err(SendError::ExpectWithoutContent));
    }
}

#[test]
fn content_waits_for_100() {
    let (mut connection, mut body, mut out) = waiting();
    assert!(!connection.takes_content());
    assert_eq!(connection.data(&mut body, b"hello", &mut out), Err(SendError::AwaitsContinue));
    let refused = connection.finish(body, &mut out, Now::default()).unwrap_err();
    assert_eq!((refused.error, &out[..]), (SendError::AwaitsContinue, &b""[..]));
    let mut body = refused.token;
    assert_eq!(events(&mut connection, "HTTP/1.1 103 \r\n\r\n"), ["(103)"]);
    assert!(!connection.takes_content());
    assert_eq!(events(&mut connection, "HTTP/1.1 100 Continue\r\n\r\n"), ["(100)"]);
    assert_eq!((connection.takes_content(), connection.deadline()), (true, None));
    connection.data(&mut body, b"hello", &mut out).unwrap();
    connection.finish(body, &mut out, Now::default()).unwrap();
    assert_eq!(out, b"hello");
    assert_eq!(events(&mut connection, "HTTP/1.1 204 \r\n\r\n"), ["204", "end"]);
    assert_eq!(connection.reuse(), Ok(()));
}

#[test]
fn row_4_8_nobody_waits_for_ever() {
    let (mut connection, mut body, mut out) = waiting();
    let second = Now::default().later(Duration::from_secs(1));
    assert_eq!(connection.deadline(), Some(second.instant));
    assert_eq!(connection.on_deadline(Now::default().later(Duration::from_millis(999))), None);
    assert_eq!(connection.on_deadline(second), Some(ClientExpired::SendContent));
    assert_eq!(connection.deadline(), None);
    connection.data(&mut body, b"hello", &mut out).unwrap();
    connection.finish(body, &mut out, second).unwrap();
    // The 100 may still come.
    assert_eq!(
        events(&mut connection, "HTTP/1.1 100 \r\n\r\nHTTP/1.1 204 \r\n\r\n"),
        ["(100)", "204", "end"]
    );
    assert_eq!(connection.reuse(), Ok(()));
}

#[test]
fn rows_4_9_and_4_10_a_final_response_instead_of_100_ends_the_connection() {
    for length in [BodyLength::Known(5), BodyLength::Unknown] {
        for status in [417, 200, 401] {
            let (mut connection, mut out) = (ClientConnection::new(Arc::default()), Vec::new());
            let mut body =
                connection.request(&Request { length, ..post() }, &mut out, Now::default()).unwrap();
            out.clear();
            let wire = format!("HTTP/1.1 {status} \r\nContent-Length: 2\r\n\r\nno");
            let told = [&status.to_string(), "data no", "end", "closed"];
            assert_eq!(events(&mut connection, &wire), told);
            assert_eq!(connection.reuse(), Err(NotReusable::RequestUnfinished));
            assert_eq!((connection.disposition(), connection.deadline()), (Disposition::Finish, None));
            assert_eq!(connection.data(&mut body, b"hello", &mut out), Err(SendError::Stale));
            assert_eq!(out, b"");
        }
    }
}

#[test]
fn row_4_12_interim_responses_are_told_and_counted() {
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    let wire = interim.repeat(32) + "HTTP/1.1 199\r\n\r\nHTTP/1.1 204 \r\n\r\n";
    let mut setting = Setting::new(&GET);
    bad_with(&setting, wire.as_bytes(), Failure::TooManyInterim);
    let wire_of_100s = "HTTP/1.1 100 Continue\r\n\r\n".repeat(33);
    bad_with(&setting, wire_of_100s.as_bytes(), Failure::TooManyInterim);
    setting.config.interim_responses = 33;
    let mut events = good_with(&setting, wire.as_bytes());
    assert_eq!(events.split_off(32), ["(199)", "204", "end"]);
    let head = head(interim);
    assert_eq!(head.as_response().fields().first("link"), Some(&b"</a>"[..]));
}

#[test]
fn rows_4_13_and_4_14_an_upgrade_hands_the_rest_over() {
    for protocol in ["websocket", "WebSocket", "h2c", "h2c, websocket"] {
        let wire = format!("HTTP/1.1 101 \r\nUpgrade: {protocol}\r\nConnection: upgrade\r\n\r\n\x01rest");
        let seen = Setting::new(&upgrade()).split(wire.as_bytes());
        assert_eq!((&seen.events[..], seen.failure), (&["upgraded 101".to_string()][..], None));
        assert_eq!((seen.reuse, &seen.rest[..]), (Err(NotReusable::Upgraded), &b"\x01rest"[..]));
    }
}

#[test]
fn row_4_14_no_upgrade_that_was_not_offered() {
    for lines in [
        "Upgrade: websocket2\r\nConnection: upgrade\r\n",
        "Upgrade: websocket, x\r\nConnection: upgrade\r\n",
        "Upgrade: websocket\r\nUpgrade: x\r\nConnection: upgrade\r\n",
        "Upgrade: websocket\r\n",
        "Connection: upgrade\r\n",
        "Upgrade: ,\r\nConnection: upgrade\r\n",
        "",
    ] {
        let wire = format!("HTTP/1.1 101 \r\n{lines}\r\n");
        bad_with(&Setting::new(&upgrade()), wire.as_bytes(), Failure::UnexpectedUpgrade);
    }
    let wire = "HTTP/1.1 101 \r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n";
    bad_with(&Setting::new(&GET), wire.as_bytes(), Failure::UnexpectedUpgrade);
    bad_with(&Setting::new(&CONNECT), wire.as_bytes(), Failure::UnexpectedUpgrade);
    let old = wire.replace("/1.1", "/1.0");
    bad_with(&Setting::new(&upgrade()), old.as_bytes(), Failure::UnexpectedUpgrade);
}

#[test]
fn rows_4_18_and_4_19_an_upgrade_that_is_declined_changes_no_framing() {
    let lines = "Upgrade: websocket\r\nConnection: upgrade\r\n";
    let wire = ok(&format!("{lines}Content-Length: 4\r\n")) + "body";
    assert_eq!(good_to(&upgrade(), &wire), ["200", "data body", "end"]);
    let wire = format!("HTTP/1.1 426 \r\n{lines}Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n");
    assert_eq!(good_to(&upgrade(), &wire), ["426", "data a", "end"]);
    assert!(head(&wire).as_response().upgrades_to("WebSocket"));
    assert!(!head(&wire).as_response().upgrades_to("h2c"));
    // `Upgrade` counts for nothing unless `Connection` names it.
    assert!(!head(&ok("Upgrade: websocket\r\n")).as_response().upgrades_to("websocket"));
    assert_eq!(until_close(&(ok(lines) + "body")), ["200", "data body", "unverified end"]);
}

#[test]
fn row_4_21_nothing_is_written_before_the_switch() {
    let (mut connection, mut out) = (ClientConnection::new(Arc::default()), Vec::new());
    connection.send(&upgrade(), b"", &mut out, Now::default()).unwrap();
    out.clear();
    let busy = SendError::NotReusable(NotReusable::Busy);
    assert_eq!(connection.send(&GET, b"", &mut out, Now::default()), Err(busy));
    assert_eq!((&out[..], connection.disposition()), (&b""[..], Disposition::Open));
    let wire = "HTTP/1.1 101 \r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n";
    assert_eq!(events(&mut connection, wire), ["upgraded 101"]);
    assert_eq!((connection.disposition(), connection.deadline()), (Disposition::Upgraded, None));
    let upgraded = SendError::NotReusable(NotReusable::Upgraded);
    assert_eq!(connection.send(&GET, b"", &mut out, Now::default()), Err(upgraded));
}

#[test]
fn no_switch_before_the_request_is_complete() {
    let (mut connection, mut out) = (ClientConnection::new(Arc::default()), Vec::new());
    let request = Request { length: BodyLength::Known(5), expect_continue: true, ..upgrade() };
    let _body = connection.request(&request, &mut out, Now::default()).unwrap();
    let mut wire = b"HTTP/1.1 101 \r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n".to_vec();
    let error = connection.recv(&mut Input::new(&mut wire), Now::default()).unwrap_err();
    assert_eq!((error.failure, error.request_sent), (Failure::UnexpectedUpgrade, false));
}
