//! Servers to talk to, and the few lines that all conversations have.

use keepwatch_protocol::websocket::Opcode;
use keepwatch_protocol::websocket::frame::FrameHead;
use keepwatch_sim::{Conversation, Sim};
use keepwatch_watch::store::Reply;
use keepwatch_watch::{Config, Handle, LogLimits, Revision, Shared, WatchServer};

/// The revision that every server here begins at: the first change has the next one.
pub(crate) const START: u64 = 100;

pub(crate) fn shared(config: Config) -> Shared {
    Shared::new(config, Revision::new(START).unwrap())
}

pub(crate) fn server(config: Config) -> (WatchServer, Handle) {
    shared(config).machine(1)
}

pub(crate) fn server_of_defaults() -> WatchServer {
    server(Config::default()).0
}

pub(crate) fn config(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::default();
    change(&mut config);
    config
}

/// A log that keeps so many changes.
pub(crate) fn keeping(changes: usize) -> Config {
    config(|config| config.log = LogLimits { changes, ..LogLimits::default() })
}

/// A client talks to a new server.
pub(crate) fn talk(config: Config) -> Conversation<WatchServer> {
    Conversation::new(server(config).0)
}

/// The same, and the process that it runs in puts and deletes.
pub(crate) fn talk_in_process(config: Config) -> (Conversation<WatchServer>, Handle) {
    let (server, handle) = server(config);
    (Conversation::new(server), handle)
}

pub(crate) fn put(sim: &mut Sim<WatchServer>, handle: &Handle, key: &str, value: impl AsRef<[u8]>) -> u64 {
    let pending = handle.put(key, value.as_ref());
    sim.run().unwrap();
    match pending.wait().unwrap() {
        Reply::Written { revision, .. } => revision.as_u64(),
        other => unreachable!("{other:?}"),
    }
}

/// A request without a body.
pub(crate) fn request(method: &str, target: &str, fields: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: x\r\n{fields}\r\n")
}

pub(crate) fn get(target: &str) -> String {
    request("GET", target, "")
}

pub(crate) fn put_request(key: &str, value: &str, fields: &str) -> String {
    let length = value.len();
    format!("PUT /v1/kv/{key} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{fields}\r\n{value}")
}

/// A whole answer of JSON, with these fields behind the content type (and `Date` in front).
pub(crate) fn json(status: &str, fields: &str, body: &str) -> String {
    let length = body.len() + 1;
    format!(
        "HTTP/1.1 {status}\r\nDate: *\r\nContent-Type: application/json\r\n{fields}Content-Length: {length}\r\n\r\n{body}\n"
    )
}

/// The head of a stream.
pub(crate) fn stream_head(kind: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nDate: *\r\nContent-Type: {kind}\r\nCache-Control: no-store\r\n\
        X-Content-Type-Options: nosniff\r\nX-Accel-Buffering: no\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
}

pub(crate) fn chunk(payload: &str) -> String {
    format!("{:x}\r\n{payload}\r\n", payload.len())
}

pub(crate) const UPGRADE: &str = "Upgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

pub(crate) const UPGRADED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A frame of a client, masked with zeros: its payload can be read here.
pub(crate) fn masked(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let head = FrameHead::new(true, opcode, payload.len() as u64, Some([0; 4]));
    [head.as_ref(), payload].concat()
}

/// What a client says.
pub(crate) fn says(text: &str) -> Vec<u8> {
    masked(Opcode::Text, text.as_bytes())
}

/// A message of the server.
pub(crate) fn message(text: &str) -> Vec<u8> {
    let head = FrameHead::new(true, Opcode::Text, text.len() as u64, None);
    [head.as_ref(), text.as_bytes()].concat()
}

/// A Close frame of the server.
pub(crate) fn closes(code: u16, reason: &str) -> Vec<u8> {
    let payload = [&code.to_be_bytes(), reason.as_bytes()].concat();
    let head = FrameHead::new(true, Opcode::Close, payload.len() as u64, None);
    [head.as_ref(), &payload].concat()
}

/// A level that the server shows in its metrics.
pub(crate) fn level(sim: &mut Sim<WatchServer>, name: &str) -> u64 {
    let client = sim.connect();
    client.send(request("GET", "/metrics", "Connection: close\r\n"));
    sim.run().unwrap();
    let text = String::from_utf8(client.receive()).unwrap();
    client.shutdown_write();
    sim.run().unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap().parse().unwrap()
}

/// Nobody watches, nothing is waited for, and (once that is said) nobody is connected.
pub(crate) fn nothing_is_left(sim: &mut Sim<WatchServer>) {
    assert_eq!(level(sim, "keepwatch_watchers"), 0);
    assert_eq!(sim.driver().connections(), 0);
    // A timer that nobody needs any more may fire once, and then none is left.
    let year = std::time::Duration::from_secs(365 * 86_400);
    sim.advance(year).unwrap();
    assert_eq!(sim.driver().deadline(), None);
}
