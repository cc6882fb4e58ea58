//! Deadlines.

use core::time::Duration;

use super::*;
use crate::time::Instant;

fn at(seconds: u64) -> Now {
    Now::default().later(Duration::from_secs(seconds))
}

/// A connection that sent a GET at second 1000.
fn asked() -> ClientConnection {
    let mut connection = ClientConnection::new(Arc::default());
    assert_eq!(connection.deadline(), None);
    connection.send(&GET, b"", &mut Vec::new(), at(1000)).unwrap();
    connection
}

/// Gives bytes at a time; those that are not taken are given again in front of the next.
fn receive(connection: &mut ClientConnection, unread: &mut Vec<u8>, bytes: &str, now: Now) {
    unread.extend_from_slice(bytes.as_bytes());
    let mut input = Input::new(unread);
    while !matches!(connection.recv(&mut input, now).unwrap(), ClientEvent::NeedMore | ClientEvent::Closed) {}
    let taken = input.consumed();
    unread.drain(..taken);
}

fn due(connection: &ClientConnection) -> Option<u64> {
    connection.deadline().map(|deadline| deadline.since(Instant::START).as_secs())
}

/// At its deadline the connection fails, and not before.
fn expires(mut connection: ClientConnection, timer: ClientTimer) {
    let deadline = connection.deadline().unwrap();
    let before = Now::new(Instant::from_nanos(deadline.as_nanos() - 1), Now::default().unix);
    assert_eq!(connection.on_deadline(before), None);
    let expired = connection.on_deadline(Now::new(deadline, Now::default().unix));
    let Some(ClientExpired::Failed(error)) = expired else { panic!("{expired:?}") };
    assert_eq!(error.failure, Failure::TimedOut(timer));
    assert_eq!((connection.deadline(), connection.reuse()), (None, Err(NotReusable::Failed)));
    assert_eq!(connection.recv(&mut Input::new(&mut []), at(5000)).unwrap_err(), error);
}

#[test]
fn row_5_10_a_response_has_to_begin() {
    let connection = asked();
    assert_eq!(due(&connection), Some(1120));
    expires(connection, ClientTimer::FirstByte);
}

#[test]
fn an_interim_response_gives_a_server_more_time() {
    let (mut connection, mut unread) = (asked(), Vec::new());
    receive(&mut connection, &mut unread, "HTTP/1.1 102 \r\n\r\n", at(1100));
    assert_eq!(due(&connection), Some(1220));
    expires(connection, ClientTimer::FirstByte);
}

#[test]
fn row_5_10_a_head_has_to_end_however_often_bytes_come() {
    let (mut connection, mut unread) = (asked(), Vec::new());
    for (part, second) in [("\r\n", 1010), ("H", 1020), ("TTP/1.1 200", 1030), (" OK\r\n", 1049)] {
        receive(&mut connection, &mut unread, part, at(second));
    }
    assert_eq!(due(&connection), Some(1050));
    expires(connection, ClientTimer::Head);
}

#[test]
fn row_5_10_a_body_has_to_go_on() {
    for head in ["Content-Length: 9\r\n", "Transfer-Encoding: chunked\r\n", ""] {
        let (mut connection, mut unread) = (asked(), Vec::new());
        receive(&mut connection, &mut unread, &ok(head), at(1010));
        assert_eq!(due(&connection), Some(1130));
        receive(&mut connection, &mut unread, "5\r\nhe", at(1100));
        assert_eq!(due(&connection), Some(1220));
        receive(&mut connection, &mut unread, "", at(1150));
        assert_eq!(due(&connection), Some(1220));
        expires(connection, ClientTimer::Body);
    }
}

#[test]
fn between_two_exchanges_there_is_no_deadline() {
    let (mut connection, mut unread) = (asked(), Vec::new());
    receive(&mut connection, &mut unread, &chunked("1\r\na\r\n0\r\n\r\n"), at(1010));
    assert_eq!((connection.deadline(), connection.reuse()), (None, Ok(())));
    assert_eq!(connection.on_deadline(at(9999)), None);
}

#[test]
fn what_nobody_asked_for_does_not_wait_for_its_end() {
    let (mut connection, mut unread) = (asked(), Vec::new());
    receive(&mut connection, &mut unread, &(ok("Content-Length: 0\r\n") + "HTTP"), at(1010));
    assert_eq!(due(&connection), Some(1040));
    let Some(ClientExpired::Failed(error)) = connection.on_deadline(at(1040)) else { panic!() };
    assert_eq!(error.failure, Failure::Unsolicited);
}

#[test]
fn the_servers_time_begins_at_the_end_of_the_request() {
    let (mut connection, mut out) = (ClientConnection::new(Arc::default()), Vec::new());
    let post = Request { length: BodyLength::Unknown, ..Request::new("POST", "x", "/") };
    let mut body = connection.request(&post, &mut out, at(1)).unwrap();
    connection.data(&mut body, b"abc", &mut out).unwrap();
    assert_eq!(connection.deadline(), None);
    connection.finish(body, &mut out, at(500)).unwrap();
    assert_eq!(due(&connection), Some(620));
}

#[test]
fn the_end_of_a_request_does_not_move_the_deadline_of_a_response_under_way() {
    let (mut connection, mut out, mut unread) =
        (ClientConnection::new(Arc::default()), Vec::new(), Vec::new());
    let post = Request { length: BodyLength::Unknown, ..Request::new("POST", "x", "/") };
    let body = connection.request(&post, &mut out, at(1)).unwrap();
    receive(&mut connection, &mut unread, "HTTP/1.1", at(10));
    assert_eq!(due(&connection), Some(40));
    connection.finish(body, &mut out, at(30)).unwrap();
    assert_eq!(due(&connection), Some(40));
}

#[test]
fn a_request_that_is_given_up_leaves_the_server_its_time() {
    let (mut connection, mut out) = (ClientConnection::new(Arc::default()), Vec::new());
    let post =
        Request { length: BodyLength::Unknown, expect_continue: true, ..Request::new("POST", "x", "/") };
    let body = connection.request(&post, &mut out, at(1)).unwrap();
    assert_eq!(due(&connection), Some(2));
    connection.abandon(body, at(1));
    assert_eq!(due(&connection), Some(121));
    expires(connection, ClientTimer::FirstByte);
}

#[test]
fn times_can_be_without_end() {
    let timeouts = ClientTimeouts { first_byte: None, body_idle: None, ..ClientTimeouts::default() };
    let mut connection =
        ClientConnection::new(Arc::new(ClientConfig { timeouts, ..ClientConfig::default() }));
    connection.send(&GET, b"", &mut Vec::new(), at(1)).unwrap();
    assert_eq!(connection.deadline(), None);
    receive(&mut connection, &mut Vec::new(), &ok(""), at(2));
    assert_eq!(connection.deadline(), None);
}
