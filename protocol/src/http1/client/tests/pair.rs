//! A client and a server in memory, which speak to each other.

use super::*;
use crate::http1::{
    BodyTx, Config, Event, Exchange, Limits, OwnedRequestHead, ResponseHead, ServerConnection,
};
use crate::time::Now;

/// Both ends, and the bytes between them.
struct Pair {
    client: ClientConnection,
    server: ServerConnection,
    to_server: Vec<u8>,
    to_client: Vec<u8>,
    /// What each was told.
    client_saw: Vec<String>,
    server_saw: Vec<String>,
    request: Option<OwnedRequestHead>,
    exchange: Option<Exchange>,
}

const NOW: Now = Now::new(crate::time::Instant::START, crate::time::UnixMillis(0));

impl Pair {
    fn new() -> Self {
        Self::with_limits(&Limits::default())
    }

    /// Two that have the same limits.
    fn with_limits(limits: &Limits) -> Self {
        let client = ClientConfig { limits: limits.clone(), ..ClientConfig::default() };
        let server = Config { limits: limits.clone(), ..Config::default() };
        Self {
            client: ClientConnection::new(Arc::new(client)),
            server: ServerConnection::new(Arc::new(server), NOW),
            to_server: Vec::new(),
            to_client: Vec::new(),
            client_saw: Vec::new(),
            server_saw: Vec::new(),
            request: None,
            exchange: None,
        }
    }

    fn send(&mut self, request: &Request<'_>, content: &[u8]) -> &mut Self {
        self.client.send(request, content, &mut self.to_server, NOW).unwrap();
        self
    }

    fn request(&mut self, request: &Request<'_>) -> RequestTx {
        self.client.request(request, &mut self.to_server, NOW).unwrap()
    }

    /// The server takes what came.
    fn serve(&mut self) -> &mut Self {
        let mut input = Input::new(&mut self.to_server);
        loop {
            match self.server.recv(&mut input, &mut self.to_client, NOW).unwrap() {
                Event::NeedMore | Event::Paused => break,
                Event::Request(head, exchange) => {
                    self.server_saw.push(format!("{} {}", head.method(), head.target()));
                    self.request = Some(head.to_owned());
                    self.exchange = Some(exchange);
                }
                Event::Data(data) => self.server_saw.push(format!("data {}", data.escape_ascii())),
                Event::Trailers(fields) => self.server_saw.push(format!("trailers {fields:?}")),
                Event::EndOfRequest => self.server_saw.push("end".into()),
                Event::HungUp => self.server_saw.push("hung up".into()),
                Event::Refused(fault) => self.server_saw.push(format!("refused {fault:?}")),
                Event::Closed => {
                    self.server_saw.push("closed".into());
                    break;
                }
            }
        }
        let taken = input.consumed();
        self.to_server.drain(..taken);
        self
    }

    fn answer(&mut self, status: StatusCode, content: &[u8]) -> &mut Self {
        let head = ResponseHead::empty(status, &[]);
        let exchange = self.exchange.take().unwrap();
        self.server.answer(exchange, &head, content, &mut self.to_client, NOW).unwrap();
        self
    }

    fn respond(&mut self, head: &ResponseHead<'_>) -> BodyTx {
        self.server.respond(self.exchange.take().unwrap(), head, &mut self.to_client, NOW).unwrap()
    }

    /// The client takes what came.
    fn read(&mut self) -> &mut Self {
        let mut input = Input::new(&mut self.to_client);
        loop {
            match self.client.recv(&mut input, NOW).unwrap() {
                ClientEvent::NeedMore => break,
                ClientEvent::Closed => {
                    self.client_saw.push("closed".into());
                    break;
                }
                event => tell(&mut self.client_saw, event),
            }
        }
        let taken = input.consumed();
        self.to_client.drain(..taken);
        self
    }

    /// What both were told since they were asked last.
    fn saw(&mut self) -> [Vec<String>; 2] {
        [core::mem::take(&mut self.server_saw), core::mem::take(&mut self.client_saw)]
    }
}

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(String::from).to_vec()
}

#[test]
fn one_get_after_another() {
    let mut pair = Pair::new();
    for path in ["/a", "/b?c"] {
        pair.send(&Request::get("x", path), b"").serve().answer(StatusCode::OK, b"hello").read();
        assert_eq!(pair.saw(), [words([&format!("GET {path}"), "end"]), words(["200", "data hello", "end"])]);
        assert_eq!(pair.client.reuse(), Ok(()));
    }
}

#[test]
fn content_goes_up_and_down_in_chunks_with_trailers() {
    let mut pair = Pair::new();
    let post = Request { length: BodyLength::Unknown, trailers: true, ..Request::new("POST", "x", "/") };
    let mut up = pair.request(&post);
    pair.client.data(&mut up, b"question", &mut pair.to_server).unwrap();
    pair.client.finish_with_trailers(up, &[("X-Up", b"1")], &mut pair.to_server, NOW).unwrap();
    pair.serve();
    assert!(pair.request.as_ref().unwrap().as_head().fields().has_token("te", "trailers"));
    let mut down = pair.respond(&ResponseHead::stream(StatusCode::OK, &[]));
    pair.server.data(&mut down, b"answer", &mut pair.to_client).unwrap();
    pair.server.finish_with_trailers(down, &[("X-Down", b"2")], &mut pair.to_client, NOW).unwrap();
    pair.read();
    assert_eq!(
        pair.saw(),
        [
            words(["POST /", "data question", "trailers [X-Up: 1]", "end"]),
            words(["200", "data answer", "trailers [X-Down: 2]", "end"])
        ]
    );
    assert_eq!(pair.client.reuse(), Ok(()));
}

#[test]
fn content_that_is_asked_for() {
    let mut pair = Pair::new();
    let post =
        Request { length: BodyLength::Known(5), expect_continue: true, ..Request::new("PUT", "x", "/") };
    let mut body = pair.request(&post);
    pair.serve().read();
    assert!(pair.request.as_ref().unwrap().as_head().expects_continue() && !pair.client.takes_content());
    pair.server.proceed(pair.exchange.as_ref().unwrap(), &mut pair.to_client).unwrap();
    pair.read();
    pair.client.data(&mut body, b"hello", &mut pair.to_server).unwrap();
    pair.client.finish(body, &mut pair.to_server, NOW).unwrap();
    pair.serve().answer(StatusCode::NO_CONTENT, b"").read();
    assert_eq!(pair.saw(), [words(["PUT /", "data hello", "end"]), words(["(100)", "204", "end"])]);
    assert_eq!(pair.client.reuse(), Ok(()));
}

#[test]
fn content_that_is_refused_before_it_is_sent() {
    let mut pair = Pair::new();
    let post =
        Request { length: BodyLength::Known(5), expect_continue: true, ..Request::new("PUT", "x", "/") };
    let body = pair.request(&post);
    pair.serve().answer(StatusCode::FORBIDDEN, b"").read();
    assert_eq!(pair.saw(), [words(["PUT /"]), words(["403", "end", "closed"])]);
    pair.client.abandon(body, NOW);
    assert_eq!(pair.client.reuse(), Err(NotReusable::ResponseSaidClose));
    assert!(pair.to_server.ends_with(b"\r\n\r\n") || pair.to_server.is_empty());
    assert_eq!(pair.server.disposition(), Disposition::Finish);
}

#[test]
fn an_expectation_that_cannot_be_met_is_an_event() {
    // The encoder sends no other expectation; a server may refuse this one too.
    let mut pair = Pair::new();
    let post =
        Request { length: BodyLength::Unknown, expect_continue: true, ..Request::new("PUT", "x", "/") };
    let _body = pair.request(&post);
    pair.serve().answer(StatusCode::EXPECTATION_FAILED, b"").read();
    assert_eq!(pair.saw()[1], words(["417", "end", "closed"]));
}

#[test]
fn head_is_told_a_length_and_sent_nothing() {
    let mut pair = Pair::new();
    pair.send(&HEAD, b"").serve();
    let body = pair.respond(&ResponseHead::with_length(StatusCode::OK, &[], 1000));
    pair.server.finish(body, &mut pair.to_client, NOW).unwrap();
    pair.read();
    assert_eq!(pair.saw()[1], words(["200", "end"]));
    pair.send(&HEAD, b"").serve();
    let body = pair.respond(&ResponseHead::stream(StatusCode::OK, &[]));
    pair.server.finish(body, &mut pair.to_client, NOW).unwrap();
    pair.read();
    assert_eq!(pair.saw()[1], words(["200", "end"]));
    assert_eq!(pair.client.reuse(), Ok(()));
}

#[test]
fn an_upgrade_that_is_accepted() {
    let mut pair = Pair::new();
    pair.send(&Request { upgrade: Some("websocket"), ..GET }, b"").serve();
    assert!(pair.request.as_ref().unwrap().as_head().wants_upgrade_to("websocket"));
    let exchange = pair.exchange.take().unwrap();
    pair.server.upgrade(exchange, &[("Sec-WebSocket-Accept", b"x")], &mut pair.to_client, NOW).unwrap();
    pair.to_client.extend_from_slice(b"\x81\x00");
    pair.read();
    assert_eq!(pair.saw()[1], words(["upgraded 101"]));
    assert_eq!((pair.client.disposition(), &pair.to_client[..]), (Disposition::Upgraded, &b"\x81\x00"[..]));
}

#[test]
fn an_upgrade_that_is_declined() {
    let mut pair = Pair::new();
    pair.send(&Request { upgrade: Some("websocket"), ..GET }, b"").serve();
    pair.answer(StatusCode::FORBIDDEN, b"no").read();
    assert_eq!(pair.saw()[1], words(["403", "data no", "end"]));
    pair.send(&GET, b"").serve().answer(StatusCode::OK, b"").read();
    assert_eq!(pair.saw()[1], words(["200", "end"]));
}

#[test]
fn a_tunnel() {
    let mut pair = Pair::new();
    pair.send(&CONNECT, b"").serve().answer(StatusCode::OK, b"");
    pair.to_client.extend_from_slice(b"HTTP/1.1");
    pair.read();
    assert_eq!(pair.saw(), [words(["CONNECT x:443", "end"]), words(["upgraded 200"])]);
    assert_eq!(pair.server.disposition(), Disposition::Upgraded);
    assert_eq!(pair.to_client, b"HTTP/1.1");
}

#[test]
fn an_answer_that_begins_before_the_request_ends() {
    let mut pair = Pair::new();
    let mut up = pair.request(&Request { length: BodyLength::Unknown, ..Request::new("POST", "x", "/") });
    pair.client.data(&mut up, b"one", &mut pair.to_server).unwrap();
    pair.serve();
    let mut down = pair.respond(&ResponseHead::stream(StatusCode::OK, &[]));
    pair.server.data(&mut down, b"uno", &mut pair.to_client).unwrap();
    pair.read();
    pair.client.data(&mut up, b"two", &mut pair.to_server).unwrap();
    pair.client.finish(up, &mut pair.to_server, NOW).unwrap();
    pair.serve();
    pair.server.data(&mut down, b"due", &mut pair.to_client).unwrap();
    pair.server.finish(down, &mut pair.to_client, NOW).unwrap();
    pair.read();
    assert_eq!(
        pair.saw(),
        [words(["POST /", "data one", "data two", "end"]), words(["200", "data unodue", "end", "closed"])]
    );
    assert_eq!(pair.client.reuse(), Err(NotReusable::ResponseSaidClose));
}

#[test]
fn a_fault_of_the_server_is_told_as_one() {
    let mut pair = Pair::new();
    pair.send(&GET, b"").serve();
    let mut body = pair.respond(&ResponseHead::with_length(StatusCode::OK, &[], 10));
    pair.server.data(&mut body, b"half", &mut pair.to_client).unwrap();
    pair.read();
    let error = pair.client.recv(&mut Input::last(&mut []), NOW).unwrap_err();
    assert_eq!(error.failure, Failure::TruncatedLength { got: 4, want: 10 });
}

#[test]
fn row_1_37_what_either_sends_within_its_limits_the_other_reads() {
    let limits =
        Limits { head_bytes: 600, fields: 12, trailer_bytes: 80, trailer_fields: 4, ..Limits::default() };
    let value = [b'v'; 600];
    let (mut requests, mut responses, mut trailers) = ([0, 0], [0, 0], [0, 0]);
    let sizes = (0..14).map(|lines| (lines, 0)).chain((0..600).map(|bytes| (1, bytes)));
    for (lines, bytes) in sizes {
        let fields = alloc::vec![("X", &value[..bytes]); lines];
        let mut pair = Pair::with_limits(&limits);
        let request = Request {
            fields: &fields,
            length: BodyLength::Unknown,
            expect_continue: true,
            trailers: true,
            upgrade: Some("websocket"),
            close: true,
            ..Request::new("POST", "x", "/")
        };
        let sent = pair.client.request(&request, &mut pair.to_server, NOW);
        requests[usize::from(sent.is_ok())] += 1;
        if sent.is_ok() {
            pair.serve(); // fails if it cannot be read
            assert_eq!(pair.saw()[0], words(["POST /"]));
        }

        let mut pair = Pair::with_limits(&limits);
        pair.send(&GET, b"").serve();
        let head = ResponseHead::stream(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, &fields);
        let exchange = pair.exchange.take().unwrap();
        let exchange = match pair.server.respond(exchange, &head, &mut pair.to_client, NOW) {
            Ok(_) => {
                responses[1] += 1;
                pair.read();
                assert_eq!(pair.saw()[1], words(["431"]));
                pair = Pair::with_limits(&limits);
                pair.send(&GET, b"").serve();
                pair.exchange.take().unwrap()
            }
            Err(refused) => {
                responses[0] += 1;
                refused.token
            }
        };
        let head = ResponseHead::stream(StatusCode::OK, &[]);
        let body = pair.server.respond(exchange, &head, &mut pair.to_client, NOW).unwrap();
        let sent = pair.server.finish_with_trailers(body, &fields, &mut pair.to_client, NOW);
        trailers[usize::from(sent.is_ok())] += 1;
        if sent.is_ok() {
            pair.read();
            assert_eq!(pair.saw()[1].last().map(String::as_str), Some("end"));
        }
    }
    for [refused, sent] in [requests, responses, trailers] {
        assert!(refused > 0 && sent > 0);
    }
}
