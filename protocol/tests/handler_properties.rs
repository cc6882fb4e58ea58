//! Handlers on both sides, whatever is said and however it is cut.
#![allow(clippy::unwrap_used, reason = "tests")]

use keepwatch_protocol::ConnectionId;
use keepwatch_protocol::handler::{
    ClientHandler, Handler, HandlerServer, Request, Response, Socket, WebSocketClient, WebSocketClientConfig,
};
use keepwatch_protocol::http1::StatusCode;
use keepwatch_protocol::websocket::{Close, CloseCode, Message, MessageKind};
use keepwatch_sim::{Sim, cuts};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

type Said = (MessageKind, Vec<u8>);

/// Answers with what was asked, and echoes; an empty message is the last one.
#[derive(Default)]
struct Echo {
    heard: Vec<Said>,
    closed: usize,
}

impl Handler for Echo {
    fn request(&mut self, request: Request<'_>) -> Response {
        let asked = format!("{} {} ", request.head.method(), request.head.path());
        Response::new(StatusCode::ACCEPTED).with_body([asked.as_bytes(), request.body].concat())
    }

    fn accepts_websocket(&mut self, _: Request<'_>) -> bool {
        true
    }

    fn message(&mut self, message: Message<'_>, socket: &mut Socket<'_>) {
        self.heard.push((message.kind(), message.as_bytes().to_vec()));
        if message.as_bytes().is_empty() {
            socket.close(CloseCode::NORMAL, "that was all").unwrap();
        } else {
            socket.send(message).unwrap();
        }
    }

    fn closed(&mut self, _: ConnectionId, close: Close<'_>) {
        assert!(close.clean);
        self.closed += 1;
    }
}

/// Says all at once when the WebSocket is open, and notes what comes back.
struct Speaker {
    says: Vec<Said>,
    heard: Vec<Said>,
    closed: Vec<String>,
}

impl ClientHandler for Speaker {
    fn opened(&mut self, socket: &mut Socket<'_>) {
        for (kind, payload) in &self.says {
            let message = match kind {
                MessageKind::Text => Message::Text(std::str::from_utf8(payload).unwrap()),
                MessageKind::Binary => Message::Binary(payload),
            };
            socket.send(message).unwrap();
        }
    }

    fn message(&mut self, message: Message<'_>, _: &mut Socket<'_>) {
        self.heard.push((message.kind(), message.as_bytes().to_vec()));
    }

    fn closed(&mut self, _: ConnectionId, close: Close<'_>) {
        assert!(close.clean);
        self.closed.push(close.reason.to_owned());
    }
}

fn messages() -> impl Strategy<Value = Vec<Said>> {
    let text = "[a\u{e9}\u{20ac}]{1,60}".prop_map(|text| (MessageKind::Text, text.into_bytes()));
    let binary = vec(any::<u8>(), 1..200).prop_map(|bytes| (MessageKind::Binary, bytes));
    let large = (1_usize..70_000).prop_map(|length| (MessageKind::Binary, vec![7; length]));
    vec(prop_oneof![4 => text, 4 => binary, 1 => large], 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn two_handlers_hear_all_that_the_other_says(says in messages(), up in cuts::sizes(), down in cuts::sizes()) {
        let mut all = says.clone();
        all.push((MessageKind::Text, Vec::new()));
        let mut served = Sim::new(HandlerServer::new(Echo::default()));
        let speaker = Speaker { says: all.clone(), heard: Vec::new(), closed: Vec::new() };
        let config = WebSocketClientConfig::new("example.org", "/");
        let mut asking = Sim::new(WebSocketClient::new(speaker, config, [7; 32]).unwrap());
        let (to_server, to_client) = (served.connect(), asking.connect());
        to_server.deliver_in(&up);
        to_client.deliver_in(&down);
        loop {
            asking.run().unwrap();
            let said = to_client.receive();
            to_server.send(&said);
            served.run().unwrap();
            let answered = to_server.receive();
            to_client.send(&answered);
            if said.is_empty() && answered.is_empty() {
                break;
            }
        }
        let (server, client) = (served.server_mut().handler(), asking.server_mut().handler());
        prop_assert_eq!((&server.heard, server.closed), (&all, 1));
        prop_assert_eq!((&client.heard, &client.closed), (&says, &vec!["that was all".to_owned()]));
    }

    #[test]
    fn requests_are_answered_in_their_order(
        requests in vec((select(vec!["GET", "POST", "PUT", "HEAD"]), "/[a-c]{0,5}", prop::option::of((vec(any::<u8>(), 0..60), any::<bool>()))), 1..8),
        sizes in cuts::sizes(),
    ) {
        let (mut wire, mut expected) = (Vec::new(), Vec::new());
        for (method, path, body) in &requests {
            let (payload, chunked) = body.clone().unwrap_or_default();
            let framing = match (body, chunked) {
                (None, _) => String::new(),
                (Some(_), true) => "Transfer-Encoding: chunked\r\n".to_owned(),
                (Some(_), false) => format!("Content-Length: {}\r\n", payload.len()),
            };
            wire.extend(format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{framing}\r\n").bytes());
            if chunked {
                for part in payload.chunks(7) {
                    wire.extend([format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat());
                }
                wire.extend(b"0\r\n\r\n");
            } else {
                wire.extend(&payload);
            }
            let answer = [format!("{method} {path} ").as_bytes(), &payload].concat();
            expected.extend(format!("HTTP/1.1 202 Accepted\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Length: {}\r\n\r\n", answer.len()).bytes());
            if *method != "HEAD" {
                expected.extend(answer);
            }
        }
        let mut sim = Sim::new(HandlerServer::new(Echo::default()));
        sim.set_unix(keepwatch_protocol::UnixMillis(0));
        let client = sim.connect();
        for part in cuts::by(&wire, &sizes) {
            client.send(part);
            sim.run().unwrap();
        }
        prop_assert_eq!(client.receive().escape_ascii().to_string(), expected.escape_ascii().to_string());
        prop_assert!(!client.is_ended());
    }
}
