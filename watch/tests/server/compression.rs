//! Compressed messages: what is agreed to, what is shared, and what is refused.

use std::fmt::Write as _;

use keepwatch_protocol::websocket::deflate::{DeflateConfig, Terms};
use keepwatch_protocol::websocket::{
    Assembler, Compression, Config as WebSocketConfig, Connection, Event, Message, Role, frame,
};
use keepwatch_protocol::{Input, Now};
use keepwatch_sim::{Client, Sim, Step};
use keepwatch_watch::{Config, WatchServer};

use crate::support::{
    UPGRADE, closes, config, keeping, level, message, nothing_is_left, put, request, says, server,
    server_of_defaults,
};

const BROWSER: &str = "permessage-deflate; client_max_window_bits";
const NO_TAKEOVER: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

fn offering(target: &str, offer: &str) -> String {
    request("GET", target, &format!("{UPGRADE}Sec-WebSocket-Extensions: {offer}\r\n"))
}

/// What the server answers to an offer.
fn answer(config: Config, offer: &str) -> Option<String> {
    let (server, _handle) = server(config);
    let mut sim = Sim::new(server);
    let client = sim.connect();
    client.send(offering("/v1/watch", offer));
    sim.run().unwrap();
    let head = String::from_utf8(client.receive()).unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "));
    head.lines().find_map(|line| Some(line.strip_prefix("Sec-WebSocket-Extensions: ")?.to_owned()))
}

/// A client that speaks the extension.
struct Peer {
    client: Client,
    connection: Connection,
    assembler: Assembler,
}

impl Peer {
    fn connect(sim: &mut Sim<WatchServer>, target: &str, terms: Terms) -> Self {
        let compression = Compression::deflate(DeflateConfig { terms, ..DeflateConfig::default() });
        let offer = compression.offer().unwrap();
        let client = sim.connect();
        client.send(offering(target, offer.field()));
        sim.run().unwrap();
        // The first read is the head, and perhaps the first messages.
        let came = client.receive();
        let end = came.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
        let head = std::str::from_utf8(&came[..end]).unwrap();
        let (_, answer) = head.split_once("Sec-WebSocket-Extensions: ").unwrap();
        let agreed = offer.accept([answer.lines().next().unwrap()]).unwrap().unwrap();
        let config = WebSocketConfig { compression, ..WebSocketConfig::default() };
        let connection = Connection::new(Role::Client, config.into(), 7, Now::default()).with_deflate(agreed);
        let mut peer = Self { client, connection, assembler: Assembler::new(1 << 24) };
        peer.understand(&came[end..]);
        peer
    }

    fn say(&mut self, text: &str) {
        let mut out = Vec::new();
        self.connection.send_text(text, &mut out).unwrap();
        self.client.send(out);
    }

    /// The messages in these bytes, as far as they are whole.
    fn understand(&mut self, bytes: &[u8]) -> Vec<String> {
        let (mut bytes, mut out, mut messages) = (bytes.to_vec(), Vec::new(), Vec::new());
        let mut input = Input::new(&mut bytes);
        loop {
            match self.connection.recv(&mut input, &mut out, Now::default()).unwrap() {
                Event::NeedMore => break,
                Event::Data { kind, bytes, first, last } => {
                    if let Some(message) = self.assembler.push(kind, &bytes, first, last).unwrap() {
                        let Message::Text(text) = message else { unreachable!("{message:?}") };
                        messages.push(text.to_owned());
                    }
                }
                other => unreachable!("{other:?}"),
            }
        }
        assert!(input.is_empty());
        messages
    }

    fn hear(&mut self, sim: &mut Sim<WatchServer>) -> Vec<String> {
        sim.run().unwrap();
        let came = self.client.receive();
        self.understand(&came)
    }
}

/// Text like that of programs, so long.
fn words(length: usize, seed: u64) -> String {
    let (mut text, mut state) = (String::new(), seed);
    while text.len() < length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let (id, load) = (state >> 40, state >> 57);
        write!(text, "{{name: worker-{id}, state: running, load: {load}, zone: eu-central-1}}, ").unwrap();
    }
    text.truncate(length);
    text
}

fn event(key: &str, revision: u64, value: &str) -> String {
    format!(
        r#"{{"type":"put","key":"{key}","revision":{revision},"createRevision":{revision},"value":"{value}"}}"#
    )
}

/// Whether each of these frames is compressed, and its length.
fn frames(mut bytes: &[u8]) -> Vec<(bool, usize)> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let (head, size) = frame::decode_extended(bytes, Role::Client).unwrap().unwrap();
        bytes = &bytes[size + head.len as usize..];
        frames.push((head.rsv1, head.len as usize));
    }
    frames
}

#[test]
fn no_context_is_kept_whatever_is_offered() {
    for (offer, expected) in [
        (BROWSER, Some(NO_TAKEOVER.to_owned())),
        ("permessage-deflate", Some(NO_TAKEOVER.into())),
        (
            "permessage-deflate; server_max_window_bits=10",
            Some(format!("{NO_TAKEOVER}; server_max_window_bits=10")),
        ),
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate", Some(NO_TAKEOVER.into())),
        ("permessage-deflate; unknown=1", None),
        ("x-webkit-deflate-frame", None),
    ] {
        assert_eq!(answer(Config::default(), offer), expected, "{offer}");
        let off = config(|config| config.websocket.compression = Compression::OFF);
        assert_eq!(answer(off, offer), None);
    }
}

#[test]
fn a_broadcast_is_compressed_once_for_all_who_take_it_so() {
    let (server, handle) = server(Config::default());
    let mut sim = Sim::new(server);
    let mut peers = [0; 3].map(|_| Peer::connect(&mut sim, "/v1/watch?prefix=", Terms::default()));
    let plain = sim.connect();
    plain.send(request("GET", "/v1/watch?prefix=", UPGRADE));
    sim.run().unwrap();
    plain.receive();
    let value = words(2000, 1);
    put(&mut sim, &handle, "a", &value);
    put(&mut sim, &handle, "b", "short");
    sim.run().unwrap();
    let came = peers.each_mut().map(|peer| peer.client.receive());
    assert!(came.iter().all(|bytes| *bytes == came[0]));
    let events = [event("a", 101, &value), event("b", 102, "short")];
    let [(true, length), (false, _)] = frames(&came[0])[..] else { panic!("{:?}", frames(&came[0])) };
    assert!(length < events[0].len() / 3, "{} bytes as {length}", events[0].len());
    for (peer, came) in peers.iter_mut().zip(&came) {
        assert_eq!(peer.understand(came), events);
    }
    assert_eq!(plain.receive(), [message(&events[0]), message(&events[1])].concat());
    assert_eq!(level(&mut sim, "keepwatch_compressed_messages_total"), 1);
    assert_eq!(level(&mut sim, "keepwatch_compressed_messages_bytes_total"), events[0].len() as u64);
    assert_eq!(level(&mut sim, "keepwatch_compressed_frames_bytes_total"), 4 + length as u64);
    assert_eq!(level(&mut sim, "keepwatch_websockets_compressed_total"), 3);
    // Nothing but the one compressor that broadcasts have of their own.
    assert!(level(&mut sim, "keepwatch_compression_bytes") < 300 << 10);
}

#[test]
fn each_size_of_window_has_its_own_bytes() {
    let (server, handle) = server(Config::default());
    let mut sim = Sim::new(server);
    let mut peers: Vec<_> = (9..=15)
        .map(|receive_window_bits| {
            let terms = Terms { receive_window_bits, ..Terms::default() };
            Peer::connect(&mut sim, "/v1/watch?prefix=", terms)
        })
        .collect();
    // What repeats lies 700 bytes back.
    let value = words(700, 1) + &words(700, 1);
    put(&mut sim, &handle, "a", &value);
    let lengths: Vec<_> = peers
        .iter_mut()
        .map(|peer| {
            let came = peer.client.receive();
            assert_eq!(peer.understand(&came), [event("a", 101, &value)]);
            came.len()
        })
        .collect();
    // 512 bytes do not reach it, 1024 do.
    assert!(lengths[0] > lengths[1], "{lengths:?}");
    assert_eq!(level(&mut sim, "keepwatch_compressed_messages_total"), 7);
}

#[test]
fn a_frame_that_is_cut_goes_on_with_the_same_bytes() {
    for (keep, sizes) in [(1, vec![1]), (1, vec![7, 300]), (3, vec![100]), (100, vec![23, 1, 499])] {
        let (server, handle) = server(keeping(keep));
        let mut sim = Sim::new(server);
        let mut swift = Peer::connect(&mut sim, "/v1/watch?prefix=", Terms::default());
        let mut slow = Peer::connect(&mut sim, "/v1/watch?prefix=", Terms::default());
        slow.client.window(600);
        slow.client.accept_in(&sizes);
        slow.client.read_limit(0);
        let (mut whole, mut parts) = (Vec::new(), Vec::new());
        for round in 0..20 {
            put(&mut sim, &handle, "a", words(3000, round));
            whole.extend(swift.client.receive());
            slow.client.read_limit(2000);
            sim.run().unwrap();
            parts.extend(slow.client.receive());
            slow.client.read_limit(0);
        }
        slow.client.read_limit(usize::MAX);
        sim.run().unwrap();
        parts.extend(slow.client.receive());
        assert_eq!(parts, whole, "{keep} {sizes:?}");
        assert_eq!(swift.understand(&whole).len(), 20);
        assert_eq!(slow.understand(&parts).len(), 20);
    }
}

#[test]
fn answers_and_the_state_are_compressed_and_watches_with_an_id_are_not() {
    let (server, handle) = server(Config::default());
    let mut sim = Sim::new(server);
    for key in 0..40 {
        put(&mut sim, &handle, &format!("{key:02}"), words(if key % 2 == 0 { 2000 } else { 10 }, key));
    }
    let mut peer = Peer::connect(&mut sim, "/v1/watch", Terms::default());
    peer.say(r#"{"op":"list","id":1}"#);
    sim.run().unwrap();
    let came = peer.client.receive();
    let list = peer.understand(&came).concat();
    assert!(list.starts_with(r#"{"id":1,"type":"result","revision":140,"items":[{"key":"00""#), "{list}");
    assert!(list.len() > 40_000 && came.len() < list.len() / 3, "{} bytes as {}", list.len(), came.len());
    peer.say(r#"{"op":"watch","id":2,"prefix":"","initial":true}"#);
    sim.run().unwrap();
    let came = peer.client.receive();
    let state = peer.understand(&came);
    assert_eq!(state.len(), 42, "watching, the state, a bookmark");
    assert!(state.concat().len() > 40_000 && came.len() < state.concat().len() / 2);
    put(&mut sim, &handle, "00", words(2000, 100));
    let came = peer.client.receive();
    assert!(frames(&came)[..] == [(false, came.len() - 4)]);
    assert!(peer.understand(&came)[0].starts_with(r#"{"id":2,"type":"put","key":"00","revision":141,"#));
}

#[test]
fn what_is_small_only_on_the_wire_does_not_keep_others_waiting() {
    // Large answers, and large messages.
    small_on_the_wire(|id| format!(r#"{{"op":"list","id":{id}}}"#));
    small_on_the_wire(|id| format!(r#"{{"op":"cancel","id":{id}{}}}"#, " ".repeat(1 << 19)));
}

fn small_on_the_wire(message: impl Fn(u64) -> String) {
    let (server, handle) = server(Config::default());
    let mut sim = Sim::new(server);
    put(&mut sim, &handle, "a", "x".repeat(1 << 19));
    let mut peer = Peer::connect(&mut sim, "/v1/watch", Terms::default());
    for id in 0..20 {
        peer.say(&message(id));
    }
    let other = sim.connect();
    other.send(request("GET", "/healthz", ""));
    let answers = peer.hear(&mut sim);
    // Who came last is answered before the last of them is.
    let is_write =
        |step: &Step, of: &Client| matches!(step, Step::Write { client, .. } if *client == of.number());
    let steps = sim.trace().steps();
    let first = steps.iter().position(|step| is_write(step, &other)).unwrap();
    assert!(steps[first..].iter().filter(|step| is_write(step, &peer.client)).count() > 10);
    assert!(answers.last().unwrap().starts_with(r#"{"id":19,"type":"#));
}

#[test]
fn a_client_may_compress_what_it_says_however_it_arrives() {
    for size in [1, 7, 1000] {
        let mut sim = Sim::new(server_of_defaults());
        let mut peer = Peer::connect(&mut sim, "/v1/watch", Terms::default());
        peer.client.deliver_in(&[size]);
        let value = words(50_000, 3);
        for id in 0..3 {
            peer.say(&format!(r#"{{"op":"put","id":{id},"key":"{id}","value":"{value}"}}"#));
            assert_eq!(
                peer.hear(&mut sim),
                [format!(r#"{{"id":{id},"type":"result","revision":{}}}"#, 101 + id)]
            );
        }
        peer.say(r#"{"op":"get","id":9,"key":"2"}"#);
        let item = format!(
            r#"{{"id":9,"type":"result","key":"2","revision":103,"createRevision":103,"value":"{value}"}}"#
        );
        assert_eq!(peer.hear(&mut sim), [item]);
        peer.client.shutdown_write();
        sim.run().unwrap();
        nothing_is_left(&mut sim);
    }
}

#[test]
fn a_bomb_is_refused_at_the_limit() {
    let mut sim = Sim::new(server_of_defaults());
    let mut peer = Peer::connect(&mut sim, "/v1/watch", Terms::default());
    peer.say(&" ".repeat(16 << 20));
    sim.run().unwrap();
    let came = peer.client.receive();
    assert_eq!(came, closes(1009, "the message is too long"));
    assert_eq!(level(&mut sim, "keepwatch_websockets_malformed_total"), 1);
    assert!(level(&mut sim, "keepwatch_compression_bytes") < 100 << 10);
}

#[test]
fn without_memory_nothing_is_compressed_but_broadcasts_and_what_comes_compressed_is_refused() {
    let (server, handle) = server(config(|config| config.websocket.compression = Config::compression(0)));
    let mut sim = Sim::new(server);
    let mut watch = Peer::connect(&mut sim, "/v1/watch?prefix=", Terms::default());
    let mut peer = Peer::connect(&mut sim, "/v1/watch", Terms::default());
    put(&mut sim, &handle, "a", words(2000, 1));
    let came = watch.client.receive();
    assert!(frames(&came)[0].0 && watch.understand(&came).len() == 1);
    peer.client.send(says(r#"{"op":"get","id":1,"key":"a"}"#));
    sim.run().unwrap();
    let came = peer.client.receive();
    assert!(!frames(&came)[0].0 && peer.understand(&came).len() == 1);
    peer.say(&words(2000, 1));
    sim.run().unwrap();
    let came = peer.client.receive();
    assert_eq!(came, closes(1013, "no memory to inflate the message"));
    assert_eq!(level(&mut sim, "keepwatch_compression_exhausted_total"), 1);
    assert_eq!(level(&mut sim, "keepwatch_websockets_malformed_total"), 0);
}

#[test]
fn where_an_embedder_has_contexts_kept_only_answers_are_compressed() {
    let compression = Compression::deflate(DeflateConfig::default());
    let (server, handle) = server(config(|config| config.websocket.compression = compression));
    let mut sim = Sim::new(server);
    put(&mut sim, &handle, "a", words(2000, 1));
    let mut peer = Peer::connect(&mut sim, "/v1/watch?prefix=&initial=true", Terms::default());
    for round in 0..3 {
        peer.say(r#"{"op":"get","id":1,"key":"a"}"#);
        sim.run().unwrap();
        let came = peer.client.receive();
        assert!(frames(&came)[0].0 && peer.understand(&came).len() == 1);
        put(&mut sim, &handle, "a", words(2000, round));
        let came = peer.client.receive();
        assert!(round == 1 || !frames(&came)[0].0);
        peer.understand(&came);
    }
}

#[test]
fn a_watch_of_the_url_that_is_compacted_closes_with_4410_compressed_or_not() {
    let mut sim = Sim::new(server_of_defaults());
    let client = sim.connect();
    client.send(offering("/v1/watch?prefix=&since=7", BROWSER));
    sim.run().unwrap();
    let end =
        [message(r#"{"type":"compacted","revision":100}"#), closes(4410, "compacted: list again")].concat();
    assert!(client.receive().ends_with(&end));
    let (server, handle) = server(keeping(1));
    let mut sim = Sim::new(server);
    let slow = sim.connect();
    slow.send(offering("/v1/watch?prefix=", BROWSER));
    sim.run().unwrap();
    slow.receive();
    slow.window(100);
    slow.read_limit(0);
    for round in 0..5 {
        put(&mut sim, &handle, "a", words(3000, round));
    }
    slow.read_limit(usize::MAX);
    sim.run().unwrap();
    let end =
        [message(r#"{"type":"compacted","revision":105}"#), closes(4410, "compacted: list again")].concat();
    assert!(slow.receive().ends_with(&end));
}
