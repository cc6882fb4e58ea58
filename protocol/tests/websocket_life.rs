//! The life of a WebSocket as handlers are told it: servers and clients, in memory.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::time::Duration;

use keepwatch_protocol::ConnectionId;
use keepwatch_protocol::handler::{
    ClientHandler, Handler, HandlerConfig, HandlerServer, Request, Response, Socket, SocketError,
    WebSocketClient, WebSocketClientConfig,
};
use keepwatch_protocol::http1::{self, StatusCode};
use keepwatch_protocol::websocket::handshake::{self, HandshakeError, Origins, RefusedAnswer};
use keepwatch_protocol::websocket::{Close, CloseCode, Expired, Message, RecvError};
use keepwatch_sim::{Conversation, Sim, SimConfig};

/// Notes everything that it is told, and does what messages say.
#[derive(Default)]
struct Notes {
    told: Vec<String>,
    /// Errors, as they are.
    errors: Vec<SocketError>,
    /// What is sent each second.
    push: Vec<u8>,
}

impl Notes {
    fn note(&mut self, what: impl Into<String>) {
        self.told.push(what.into());
    }

    fn opened(&mut self, socket: &mut Socket<'_>) {
        self.note(format!("opened {}", socket.protocol().unwrap_or("-")));
    }

    fn message(&mut self, message: Message<'_>, socket: &mut Socket<'_>) {
        let text = String::from_utf8_lossy(message.as_bytes()).into_owned();
        match text.as_str() {
            "push" => socket.wake_after(Duration::from_secs(1)),
            "push later" => socket.wake_after(Duration::from_secs(28)),
            "stop" => socket.wake_at(keepwatch_protocol::Instant::NEVER),
            "bye" => socket.close(CloseCode::NORMAL, "as you say").unwrap(),
            _ => {}
        }
        self.note(text);
    }

    fn woken(&mut self, socket: &mut Socket<'_>) {
        self.note("woken");
        socket.send(Message::Binary(&self.push)).unwrap();
        socket.wake_after(Duration::from_secs(1));
    }

    fn failed(&mut self, error: SocketError) {
        self.note("failed");
        self.errors.push(error);
    }

    fn closed(&mut self, close: Close<'_>) {
        let code = close.code.map_or(0, CloseCode::get);
        self.note(format!("closed {code} {:?} {}", close.reason, if close.clean { "clean" } else { "cut" }));
    }
}

struct AsServer(Notes);

impl Handler for AsServer {
    fn request(&mut self, _: Request<'_>) -> Response {
        Response::new(StatusCode::NOT_FOUND)
    }

    fn accepts_websocket(&mut self, request: Request<'_>) -> bool {
        request.head.path() == "/"
    }

    fn opened(&mut self, socket: &mut Socket<'_>) {
        self.0.opened(socket);
    }

    fn message(&mut self, message: Message<'_>, socket: &mut Socket<'_>) {
        self.0.message(message, socket);
    }

    fn woken(&mut self, socket: &mut Socket<'_>) {
        self.0.woken(socket);
    }

    fn failed(&mut self, _: ConnectionId, error: SocketError) {
        self.0.failed(error);
    }

    fn closed(&mut self, _: ConnectionId, close: Close<'_>) {
        self.0.closed(close);
    }
}

struct AsClient(Notes);

impl ClientHandler for AsClient {
    fn opened(&mut self, socket: &mut Socket<'_>) {
        self.0.opened(socket);
    }

    fn message(&mut self, message: Message<'_>, socket: &mut Socket<'_>) {
        self.0.message(message, socket);
    }

    fn woken(&mut self, socket: &mut Socket<'_>) {
        self.0.woken(socket);
    }

    fn refused(&mut self, _: ConnectionId, head: &http1::client::Response<'_>, body: &[u8]) {
        self.0.note(format!("refused {} {}", head.code(), body.escape_ascii()));
    }

    fn failed(&mut self, _: ConnectionId, error: SocketError) {
        self.0.failed(error);
    }

    fn closed(&mut self, _: ConnectionId, close: Close<'_>) {
        self.0.closed(close);
    }
}

const HANDSHAKE: &str = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

type Served = Conversation<HandlerServer<AsServer>>;

fn serving(config: HandlerConfig) -> Served {
    Conversation::new(HandlerServer::with_config(AsServer(Notes::default()), config))
}

/// A server and an open WebSocket.
fn opened() -> Served {
    serving(HandlerConfig::default()).client(format!("{HANDSHAKE}\r\n")).server(format!("{SWITCHED}\r\n"))
}

/// A frame as a client sends it, masked with zeros.
fn masked(head: u8, payload: &[u8]) -> Vec<u8> {
    [&[head, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}

/// What the handler was told, and the errors among it.
fn told(mut sim: Sim<HandlerServer<AsServer>>) -> (Vec<String>, Vec<SocketError>) {
    let notes = std::mem::take(&mut sim.server_mut().handler().0);
    (notes.told, notes.errors)
}

#[test]
fn a_close_of_the_peer_is_told_with_code_and_reason() {
    let sim = opened()
        .client(masked(0x88, b"\x0f\xa1enough"))
        .server_bytes(b"\x88\x02\x0f\xa1")
        .server_ends()
        .end();
    assert_eq!(told(sim), (vec!["opened -".into(), "closed 4001 \"enough\" clean".into()], vec![]));
}

#[test]
fn a_close_of_our_own_is_told_when_the_peer_has_answered() {
    let sim = opened()
        .client(masked(0x81, b"bye"))
        .server_bytes(b"\x88\x0c\x03\xe8as you say")
        .client(masked(0x81, b"more"))
        .client(masked(0x88, b"\x03\xe8"))
        .server_ends()
        .end();
    assert_eq!(told(sim).0, ["opened -", "bye", "closed 1000 \"\" clean"]);
}

#[test]
fn an_end_without_a_farewell_is_told_once() {
    let cut = "closed 0 \"\" cut";
    assert_eq!(told(opened().client_ends().end()).0, ["opened -", cut]);
    assert_eq!(told(opened().client_resets().end()).0, ["opened -", cut]);
}

#[test]
fn malformed_input_fails_and_closes() {
    let sim = opened()
        .client(masked(0x81, b"\xff"))
        .server_bytes(b"\x88\x18\x03\xeftext that is not UTF-8")
        .server_ends()
        .end();
    let (told, errors) = told(sim);
    assert_eq!(told, ["opened -", "failed", "closed 0 \"\" cut"]);
    assert_eq!(errors, [SocketError::Malformed(RecvError::InvalidText)]);
}

#[test]
fn a_peer_that_is_gone_is_noticed() {
    let sim = opened().with(|sim, client| {
        sim.advance(Duration::from_secs(51)).unwrap();
        client.receive();
    });
    let (told, errors) = told(sim.end());
    assert_eq!(told, ["opened -", "failed", "closed 0 \"\" cut"]);
    assert_eq!(errors, [SocketError::Expired(Expired::PongMissing)]);
}

#[test]
fn a_peer_that_does_not_answer_our_close_fails() {
    let sim = opened()
        .client(masked(0x81, b"bye"))
        .server_bytes(b"\x88\x0c\x03\xe8as you say")
        .wait_secs(6)
        .server_ends()
        .end();
    let (told, errors) = told(sim);
    assert_eq!(told, ["opened -", "bye", "failed", "closed 0 \"\" cut"]);
    assert_eq!(errors, [SocketError::Expired(Expired::CloseMissing)]);
}

const TICK: Duration = Duration::from_millis(1010); // a second, and what a timer may be late

#[test]
fn a_handler_is_woken_at_the_time_that_it_asked_for_until_it_takes_that_back() {
    let sim = opened()
        .client(masked(0x81, b"push"))
        .wait(Duration::from_millis(990))
        .silence()
        .wait(Duration::from_millis(20))
        .server_bytes(b"\x82\0")
        .wait(TICK)
        .server_bytes(b"\x82\0")
        .client(masked(0x81, b"stop"))
        .wait_secs(9)
        .silence()
        .end();
    assert_eq!(told(sim).0, ["opened -", "push", "woken", "woken", "stop"]);
}

#[test]
fn a_socket_that_closes_is_not_woken() {
    let sim = opened()
        .client([masked(0x81, b"push"), masked(0x81, b"bye")].concat())
        .server_bytes(b"\x88\x0c\x03\xe8as you say")
        .wait_secs(4)
        .client(masked(0x88, b"\x03\xe8"))
        .server_ends()
        .wait_secs(4)
        .end();
    assert_eq!(told(sim).0, ["opened -", "push", "bye", "closed 1000 \"\" clean"]);
}

/// A socket that pushes a megabyte each second to a peer that takes nothing for a while.
#[test]
fn a_reader_that_stops_is_not_pushed_to_and_not_taken_for_gone() {
    let server = HandlerServer::new(AsServer(Notes { push: vec![7; 1 << 20], ..Notes::default() }));
    let conversation = Conversation::with_config(server, SimConfig::default())
        .client(format!("{HANDSHAKE}\r\n"))
        .server(format!("{SWITCHED}\r\n"))
        .with(|sim, client| {
            client.read_limit(0);
            // A ping goes before that, and its answer would be due before the reader goes on.
            client.send(masked(0x81, b"push later"));
            sim.advance(Duration::from_secs(60)).unwrap();
            let woken = sim.server_mut().handler().0.told.iter().filter(|told| *told == "woken").count();
            assert_eq!(woken, 1);
            client.read_limit(usize::MAX);
            sim.advance(Duration::from_secs(3)).unwrap();
            client.receive();
        });
    let (told, errors) = told(conversation.end());
    assert_eq!(errors, []);
    let woken = told.iter().filter(|told| *told == "woken").count();
    assert!((3..=5).contains(&woken), "{told:?}");
}

#[test]
fn what_a_server_agrees_to_is_in_its_config() {
    let config = || HandlerConfig {
        origins: Origins::OwnAnd(vec!["https://friend".into()]),
        protocols: vec!["v1", "v2"],
        ..HandlerConfig::default()
    };
    let sim = serving(config())
        .client(format!("{HANDSHAKE}Origin: https://friend\r\nSec-WebSocket-Protocol: v3, v2, v1\r\n\r\n"))
        .server(format!("{SWITCHED}Sec-WebSocket-Protocol: v2\r\n\r\n"))
        .end();
    assert_eq!(told(sim).0, ["opened v2"]);
    let sim = serving(config())
        .client(format!("{HANDSHAKE}Origin: https://stranger\r\n\r\n"))
        .server("HTTP/1.1 403 Forbidden\r\nDate: *\r\nContent-Type: text/plain\r\nContent-Length: 30\r\n\r\n*here")
        // It is HTTP as before.
        .client("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .server("HTTP/1.1 404 Not Found\r\nDate: *\r\nContent-Length: 0\r\n\r\n")
        .end();
    assert_eq!(told(sim).0, [""; 0]);
}

#[test]
fn a_handshake_that_is_none_is_answered_where_websockets_are_and_only_there() {
    let old = HANDSHAKE.replace("13", "8");
    serving(HandlerConfig::default())
        .client(format!("{old}\r\n"))
        .server(
            "HTTP/1.1 426 Upgrade Required\r\nDate: *\r\nContent-Type: text/plain\r\nSec-WebSocket-Version: 13\r\n\
             Upgrade: websocket\r\nContent-Length: 30\r\nConnection: upgrade\r\n\r\nWebSocket version 13 is needed",
        )
        .client(format!("{}\r\n", old.replace("GET /", "GET /page")))
        .server("HTTP/1.1 404 Not Found\r\nDate: *\r\nContent-Length: 0\r\n\r\n")
        .end();
}

/// A client, and the server that it talks to, which is the test: in the simulation the two have changed places.
struct Asking {
    sim: Sim<WebSocketClient<AsClient>>,
    server: keepwatch_sim::Client,
}

impl Asking {
    fn new(config: WebSocketClientConfig) -> Self {
        let mut sim = Sim::new(WebSocketClient::new(AsClient(Notes::default()), config, [7; 32]).unwrap());
        let server = sim.connect();
        sim.run().unwrap();
        Self { sim, server }
    }

    /// What a server says to the request, which is taken.
    fn agree(&self, more: &str) -> Vec<u8> {
        let request = String::from_utf8(self.server.receive()).unwrap();
        let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
        let accept = String::from_utf8(handshake::accept_key(key.as_bytes()).to_vec()).unwrap();
        let answer = SWITCHED.replace("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", &accept);
        format!("{answer}{more}\r\n").into_bytes()
    }

    fn open(config: WebSocketClientConfig) -> Self {
        let answer = Self::new(config);
        let agreed = answer.agree("");
        answer.server_says(agreed)
    }

    fn server_says(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.server.send(bytes);
        self.sim.run().unwrap();
        self
    }

    fn server_ends(mut self) -> Self {
        self.server.shutdown_write();
        self.sim.run().unwrap();
        self
    }

    fn wait(mut self, time: Duration) -> Self {
        self.sim.advance(time).unwrap();
        self
    }

    /// The client sent one short frame, masked.
    fn client_said(self, head: u8, payload: &[u8]) -> Self {
        let frame = self.server.receive();
        let [first, length, a, b, c, d, masked @ ..] = &frame[..] else { panic!("{frame:?}") };
        let key = [a, b, c, d];
        let said: Vec<u8> = masked.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ **key).collect();
        assert_eq!((*first, *length, &said[..]), (head, 0x80 | payload.len() as u8, payload));
        self
    }

    fn client_is_silent(self) -> Self {
        assert_eq!(self.server.receive(), b"");
        assert!(!self.server.is_ended());
        self
    }

    /// All is over for the client, and this is what its handler was told.
    fn told(mut self) -> (Vec<String>, Vec<SocketError>) {
        assert!(self.server.is_closed(), "the client has closed its socket");
        let notes = std::mem::take(&mut self.sim.server_mut().handler().0);
        (notes.told, notes.errors)
    }
}

fn to_root() -> WebSocketClientConfig {
    WebSocketClientConfig::new("a", "/")
}

#[test]
fn a_client_opens_talks_and_says_farewell() {
    let asking = Asking::new(WebSocketClientConfig { protocols: vec!["v2", "v1"], ..to_root() });
    let mut answer = asking.agree("Sec-WebSocket-Protocol: v1\r\n");
    // Frames may come glued to the answer.
    answer.extend(b"\x81\x02hi\x81\x03bye");
    let (told, errors) = asking
        .server_says(answer)
        .client_said(0x88, b"\x03\xe8as you say")
        .server_says(b"\x88\x02\x03\xe8")
        // The server ends the stream first (RFC 6455 section 7.1.1).
        .client_is_silent()
        .server_ends()
        .told();
    assert_eq!(told, ["opened v1", "hi", "bye", "closed 1000 \"\" clean"]);
    assert_eq!(errors, []);
}

#[test]
fn a_client_asks_for_what_its_config_says() {
    let config = WebSocketClientConfig {
        protocols: vec!["v2", "v1"],
        fields: vec![("Cookie".into(), b"a=b".to_vec())],
        ..WebSocketClientConfig::new("example.com:81", "/a?b")
    };
    let request = String::from_utf8(Asking::new(config).server.receive()).unwrap();
    let without_key: Vec<&str> =
        request.lines().filter(|line| !line.starts_with("Sec-WebSocket-Key: ")).collect();
    assert_eq!(
        without_key,
        [
            "GET /a?b HTTP/1.1",
            "Host: example.com:81",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Protocol: v2, v1",
            "Cookie: a=b",
            "Upgrade: websocket",
            "Connection: upgrade",
            ""
        ]
    );
}

#[test]
fn each_connection_of_a_client_is_a_websocket_with_a_key_of_its_own() {
    let mut first = Asking::new(to_root());
    let second = first.sim.connect();
    first.sim.run().unwrap();
    let (one, other) = (String::from_utf8(first.server.receive()), String::from_utf8(second.receive()));
    assert_eq!(one.as_ref().unwrap().len(), other.as_ref().unwrap().len());
    assert_ne!(one, other);
}

#[test]
fn a_client_that_cannot_ask_is_not_made() {
    let config = WebSocketClientConfig { protocols: vec!["a b"], ..to_root() };
    assert!(WebSocketClient::new(AsClient(Notes::default()), config, [7; 32]).is_err());
}

#[test]
fn a_close_of_the_server_is_answered_and_told() {
    let (told, errors) = Asking::open(to_root())
        .server_says(b"\x88\x02\x03\xe9")
        .client_said(0x88, b"\x03\xe9")
        .server_ends()
        .told();
    assert_eq!((told, errors), (vec!["opened -".into(), "closed 1001 \"\" clean".into()], vec![]));
}

#[test]
fn a_server_that_does_not_end_the_stream_is_left() {
    let (told, errors) =
        Asking::open(to_root()).server_says(b"\x88\x02\x03\xe9").wait(Duration::from_secs(6)).told();
    assert_eq!((told, errors), (vec!["opened -".into(), "closed 1001 \"\" clean".into()], vec![]));
}

#[test]
fn another_answer_is_handed_over_with_its_body() {
    let (told, errors) = Asking::new(to_root())
        .server_says("HTTP/1.1 404 Not Found\r\nContent-Length: 7\r\n\r\nno")
        .server_says("thing")
        .server_says(" here")
        .told();
    assert_eq!((told, errors), (vec!["refused 404 nothing".into()], vec![]));
}

#[test]
fn of_a_long_refusal_only_the_start_is_kept() {
    let (told, _) = Asking::new(WebSocketClientConfig { refusal_bytes: 5, ..to_root() })
        .server_says("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 99999\r\n\r\nabc")
        .server_says("def")
        .told();
    assert_eq!(told, ["refused 500 abcde"]);
}

#[test]
fn a_refusal_as_long_as_what_is_kept_is_waited_for() {
    let asking = Asking::new(WebSocketClientConfig { refusal_bytes: 5, ..to_root() });
    asking.server.receive();
    let (told, _) = asking
        .server_says("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 6\r\n\r\nabcde")
        .client_is_silent()
        .server_says("f")
        .told();
    assert_eq!(told, ["refused 500 abcde"]);
}

#[test]
fn a_refusal_that_is_cut_off_is_still_one() {
    let cut = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 9\r\n\r\nwho";
    let refused = (vec!["refused 401 who".to_owned()], vec![]);
    assert_eq!(Asking::new(to_root()).server_says(cut).server_ends().told(), refused);
    assert_eq!(Asking::new(to_root()).server_says(cut).wait(Duration::from_secs(11)).told(), refused);
    let mut broken = Asking::new(to_root()).server_says(cut);
    broken.server.reset();
    broken.sim.run().unwrap();
    assert_eq!(broken.told(), refused);
}

#[test]
fn a_handshake_that_fails_is_told_once() {
    let asking = Asking::new(to_root());
    let answer = asking.agree("Sec-WebSocket-Protocol: unasked\r\n");
    let (told, errors) = asking.server_says(answer).told();
    assert_eq!(told, ["failed"]);
    assert_eq!(errors, [SocketError::Handshake(HandshakeError::Answer(RefusedAnswer::Protocol))]);

    let (told, errors) = Asking::new(to_root()).server_ends().told();
    assert_eq!(told, ["failed"]);
    assert!(matches!(errors[..], [SocketError::Handshake(HandshakeError::Http(_))]), "{errors:?}");

    let (told, errors) = Asking::new(to_root()).wait(Duration::from_secs(11)).told();
    assert_eq!(told, ["failed"]);
    assert_eq!(errors, [SocketError::Handshake(HandshakeError::TimedOut)]);

    let hasty = WebSocketClientConfig { timeout: Duration::from_secs(3), ..to_root() };
    assert_eq!(Asking::new(hasty).wait(Duration::from_secs(4)).told().0, ["failed"]);
}

#[test]
fn a_connection_that_breaks_is_told_by_how_far_it_was() {
    let mut asking = Asking::new(to_root());
    asking.server.reset();
    asking.sim.run().unwrap();
    assert_eq!(asking.told(), (vec!["failed".into()], vec![SocketError::Lost]));
    let mut open = Asking::open(to_root());
    open.server.reset();
    open.sim.run().unwrap();
    assert_eq!(open.told(), (vec!["opened -".into(), "closed 0 \"\" cut".into()], vec![]));
}

#[test]
fn a_client_that_fails_its_server_says_so_and_closes() {
    let (told, errors) = Asking::open(to_root())
        .server_says(b"\x81\x01\xff")
        .client_said(0x88, b"\x03\xeftext that is not UTF-8")
        .server_ends()
        .told();
    assert_eq!(told, ["opened -", "failed", "closed 0 \"\" cut"]);
    assert_eq!(errors, [SocketError::Malformed(RecvError::InvalidText)]);
}

#[test]
fn a_client_is_woken() {
    Asking::open(to_root())
        .server_says(b"\x81\x04push")
        .wait(TICK)
        .client_said(0x82, b"")
        .wait(TICK)
        .client_said(0x82, b"");
}

#[test]
fn a_client_that_drains_says_farewell_and_gives_up_what_was_not_answered() {
    let mut asking = Asking::open(to_root());
    let unanswered = asking.sim.connect();
    asking.sim.run().unwrap();
    asking.sim.drain(Duration::from_secs(9)).unwrap();
    assert!(unanswered.is_closed());
    let asking = asking.client_said(0x88, b"\x03\xe9");
    let (told, errors) = asking.told();
    assert_eq!(told, ["opened -", "failed", "failed", "closed 0 \"\" cut"]);
    assert_eq!(errors, [SocketError::Lost, SocketError::Expired(Expired::CloseMissing)]);
}

/// A client that says something and then farewell.
struct Speaks(Vec<String>);

impl ClientHandler for Speaks {
    fn opened(&mut self, socket: &mut Socket<'_>) {
        socket.send(Message::Text(&"so ".repeat(5000))).unwrap();
        socket.close(CloseCode::NORMAL, "that was it").unwrap();
    }

    fn closed(&mut self, _: ConnectionId, close: Close<'_>) {
        self.0.push(format!("closed {}", close.clean));
    }
}

/// A client and a server of handlers, each in a simulation of its own: what the one sends is carried to the other. Returns what
/// both were told, and how many bytes went up.
fn talk(server: HandlerConfig, client: WebSocketClientConfig) -> (Vec<String>, Vec<String>, usize) {
    let mut served = Sim::new(HandlerServer::with_config(AsServer(Notes::default()), server));
    let mut asking = Sim::new(WebSocketClient::new(Speaks(vec![]), client, [7; 32]).unwrap());
    let (to_server, to_client) = (served.connect(), asking.connect());
    let mut carried = 0;
    loop {
        asking.run().unwrap();
        let up = to_client.receive();
        carried += up.len();
        to_server.send(&up);
        served.run().unwrap();
        let down = to_server.receive();
        to_client.send(&down);
        if up.is_empty() && down.is_empty() {
            break;
        }
    }
    to_client.shutdown_write();
    asking.run().unwrap();
    let told = std::mem::take(&mut served.server_mut().handler().0.told);
    (told, std::mem::take(&mut asking.server_mut().handler().0), carried)
}

#[test]
fn a_client_and_a_server_of_handlers_understand_each_other() {
    let config = HandlerConfig { protocols: vec!["b"], ..HandlerConfig::default() };
    let client = WebSocketClientConfig { protocols: vec!["a", "b"], ..to_root() };
    let (server, client, bytes) = talk(config, client);
    assert_eq!(server, ["opened b", &"so ".repeat(5000), "closed 1000 \"that was it\" clean"]);
    assert_eq!(client, ["closed true"]);
    assert!(bytes > 15_000);
}

#[cfg(feature = "deflate")]
#[test]
fn they_compress_where_both_are_told_to() {
    use keepwatch_protocol::websocket::{Compression, deflate::DeflateConfig};

    let (mut config, mut client) = (HandlerConfig::default(), to_root());
    config.websocket.compression = Compression::deflate(DeflateConfig::default());
    client.websocket.compression = Compression::deflate(DeflateConfig::default());
    let (server, client, bytes) = talk(config, client);
    assert_eq!(server, ["opened -", &"so ".repeat(5000), "closed 1000 \"that was it\" clean"]);
    assert_eq!(client, ["closed true"]);
    assert!(bytes < 1000, "{bytes}");
}
