//! Responses that come before the request is complete.

use alloc::vec;

use super::*;

const CHUNKED: Request<'static> = Request { length: BodyLength::Unknown, ..Request::new("POST", "x", "/") };

/// A connection whose request has begun, and what is in the input.
struct Early {
    connection: ClientConnection,
    wire: Vec<u8>,
    out: Vec<u8>,
}

impl Early {
    fn new(request: &Request<'_>, wire: &str) -> (Self, RequestTx) {
        let (mut connection, mut out) = (ClientConnection::new(Arc::default()), Vec::new());
        let body = connection.request(request, &mut out, Now::default()).unwrap();
        out.clear();
        (Self { connection, wire: wire.as_bytes().to_vec(), out }, body)
    }

    /// Takes all events; the head of a response has to say that it is early.
    fn receive(&mut self, last: bool) -> Result<Vec<String>, Failure> {
        let mut wire = core::mem::take(&mut self.wire);
        let mut input = if last { Input::last(&mut wire) } else { Input::new(&mut wire) };
        let mut events = Vec::new();
        loop {
            match self.connection.recv(&mut input, Now::default()).map_err(|error| error.failure)? {
                ClientEvent::NeedMore => return Ok(events),
                ClientEvent::Closed => {
                    events.push("closed".into());
                    return Ok(events);
                }
                event => {
                    assert!(!matches!(&event, ClientEvent::Response(head) if !head.is_early()));
                    tell(&mut events, event);
                }
            }
        }
    }
}

#[test]
fn row_5_20_an_early_response_does_not_end_the_request() {
    for (lines, why) in [("", Ok(())), ("Connection: close\r\n", Err(NotReusable::ResponseSaidClose))] {
        let wire = ok(&format!("{lines}Content-Length: 2\r\n")) + "ab";
        let (mut early, mut body) = Early::new(&CHUNKED, &wire);
        assert_eq!(early.receive(false).unwrap(), ["200", "data ab", "end"]);
        assert_eq!((early.connection.reuse(), early.connection.deadline()), (Err(NotReusable::Busy), None));
        assert!(early.connection.takes_content());
        early.connection.data(&mut body, b"abc", &mut early.out).unwrap();
        early.connection.finish(body, &mut early.out, Now::default()).unwrap();
        assert_eq!(early.out, b"3\r\nabc\r\n0\r\n\r\n");
        assert_eq!(early.connection.reuse(), why);
        assert_eq!(early.receive(false).unwrap(), if why.is_ok() { vec![] } else { vec!["closed"] });
    }
}

#[test]
fn a_request_may_end_while_its_response_comes() {
    let (mut early, mut body) = Early::new(&CHUNKED, &chunked("1\r\na\r\n"));
    assert_eq!(early.receive(false).unwrap(), ["200", "data a"]);
    early.connection.data(&mut body, b"abc", &mut early.out).unwrap();
    early.connection.finish(body, &mut early.out, Now::default()).unwrap();
    early.wire = b"1\r\nb\r\n0\r\n\r\n".to_vec();
    assert_eq!(early.receive(false).unwrap(), ["data b", "end"]);
    assert_eq!(early.connection.reuse(), Ok(()));
}

#[test]
fn row_5_12_an_error_that_closes_stops_the_request() {
    for length in [BodyLength::Known(5), BodyLength::Unknown] {
        let wire = "HTTP/1.1 413 \r\nConnection: close\r\nContent-Length: 2\r\n\r\nno";
        let (mut early, mut body) = Early::new(&Request { length, ..CHUNKED }, &wire[..wire.len() - 1]);
        early.connection.data(&mut body, b"hell", &mut early.out).unwrap();
        early.out.clear();
        assert_eq!(early.receive(false).unwrap(), ["413", "data n"]);
        assert!(!early.connection.takes_content());
        assert_eq!(early.connection.data(&mut body, b"o", &mut early.out), Err(SendError::Unwanted));
        let refused = early.connection.finish(body, &mut early.out, Now::default()).unwrap_err();
        assert_eq!((refused.error, &early.out[..]), (SendError::Unwanted, &b""[..]));
        early.connection.abandon(refused.token, Now::default());
        early.wire = b"o".to_vec();
        assert_eq!(early.receive(false).unwrap(), ["data o", "end", "closed"]);
        assert_eq!(early.connection.reuse(), Err(NotReusable::ResponseSaidClose));
    }
}

#[test]
fn row_4_10_a_request_that_is_given_up_ends_the_connection() {
    // Before the response, while it comes, and after it.
    let wire = "HTTP/1.1 500 \r\nContent-Length: 2\r\n\r\nno";
    for first in [0, wire.len() - 1, wire.len()] {
        let (mut early, body) =
            Early::new(&Request { length: BodyLength::Known(5), ..CHUNKED }, &wire[..first]);
        let mut events = early.receive(false).unwrap();
        early.connection.abandon(body, Now::default());
        if let Some(rest) = wire.as_bytes().get(first..).filter(|rest| !rest.is_empty()) {
            early.wire = rest.to_vec();
            let mut bytes = rest.to_vec();
            let mut input = Input::new(&mut bytes);
            while let event @ (ClientEvent::Response(_)
            | ClientEvent::Data(_)
            | ClientEvent::EndOfResponse { .. }) =
                early.connection.recv(&mut input, Now::default()).unwrap()
            {
                tell(&mut events, event);
            }
        }
        assert_eq!(events, ["500", "data no", "end"]);
        assert_eq!(early.connection.reuse(), Err(NotReusable::RequestUnfinished));
        assert_eq!(early.connection.disposition(), Disposition::Finish);
    }
}

#[test]
fn nothing_follows_an_early_response() {
    for (behind, ends, outcome) in [
        ("\r\n", false, Ok(vec![])),
        ("\r\n", true, Ok(vec!["closed".to_string()])),
        ("\r\n\r\n", false, Err(Failure::Unsolicited)),
        ("x", false, Err(Failure::Unsolicited)),
        ("HTTP/1.1 200 OK\r\n", false, Err(Failure::Unsolicited)),
        ("", true, Ok(vec!["closed".to_string()])),
    ] {
        let (mut early, mut body) = Early::new(&CHUNKED, &ok("Content-Length: 0\r\n"));
        assert_eq!(early.receive(false).unwrap(), ["200", "end"]);
        early.wire = behind.as_bytes().to_vec();
        assert_eq!(early.receive(ends), outcome, "{behind}");
        if ends {
            assert_eq!(early.connection.reuse(), Err(NotReusable::RequestUnfinished));
            assert_eq!(early.connection.data(&mut body, b"x", &mut early.out), Err(SendError::Stale));
        }
    }
}

#[test]
fn an_early_response_that_the_end_ends_gives_the_request_up() {
    let (mut early, body) = Early::new(&CHUNKED, &(ok("") + "ab"));
    assert_eq!(early.receive(true).unwrap(), ["200", "data ab", "unverified end", "closed"]);
    let refused = early.connection.finish(body, &mut early.out, Now::default()).unwrap_err();
    assert_eq!((refused.error, &early.out[..]), (SendError::Stale, &b""[..]));
}

#[test]
fn the_token_of_another_request_is_stale() {
    let (mut early, first) = Early::new(&CHUNKED, "HTTP/1.1 204 \r\n\r\n");
    let mut late = RequestTx(crate::http1::exchange::BodyTx { ..first.0 });
    early.connection.finish(first, &mut early.out, Now::default()).unwrap();
    let mut input = Input::new(&mut early.wire);
    for _ in 0..2 {
        early.connection.recv(&mut input, Now::default()).unwrap();
    }
    assert_eq!(early.connection.data(&mut late, b"x", &mut early.out), Err(SendError::Stale));
    let _second = early.connection.request(&CHUNKED, &mut early.out, Now::default()).unwrap();
    early.out.clear();
    assert_eq!(early.connection.data(&mut late, b"x", &mut early.out), Err(SendError::Stale));
    early.connection.abandon(late, Now::default());
    assert!(early.connection.takes_content() && early.out.is_empty());
}

#[test]
fn a_connection_that_failed_takes_no_content() {
    let (mut early, mut body) = Early::new(&CHUNKED, "no response");
    assert!(early.connection.takes_content());
    assert_eq!(early.receive(false), Err(Failure::Malformed(Fault::VersionGrammar)));
    assert!(!early.connection.takes_content());
    assert_eq!(early.connection.data(&mut body, b"a", &mut early.out), Err(SendError::Stale));
}
