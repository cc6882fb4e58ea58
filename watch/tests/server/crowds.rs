//! So many watchers of one filter that they are told in turns, and more is written before all have been told.

use std::task::Waker;
use std::time::Duration;

use keepwatch_protocol::{ConnectionId, Input, Now, Peer, SendQueue, Server};
use keepwatch_sim::{Client, Sim};
use keepwatch_watch::{Config, Event, Filter, LogLimits, WatchServer};

use crate::support::{UPGRADE, chunk, config, get, message, nothing_is_left, put_request, request, server};

/// More than are told in one step, and more than have their turn in one of the driver's.
const CROWD: usize = 700;
/// Each is a turn of its own.
const WRITES: u64 = 20;
/// The revision of the last of them.
const LAST: u64 = 100 + WRITES;

fn event(revision: u64) -> String {
    let value = revision - 101;
    format!(r#"{{"type":"put","key":"a","revision":{revision},"createRevision":101,"value":"{value}"}}"#)
}

/// What each of these revisions is told as, one behind the other.
fn told(tell: impl FnMut(u64) -> Vec<u8>) -> Vec<u8> {
    (101..=LAST).flat_map(tell).collect()
}

/// So many clients that have sent this, and have read what they were answered.
fn crowd(sim: &mut Sim<WatchServer>, request: &str) -> Vec<Client> {
    let clients: Vec<_> = (0..CROWD).map(|_| sim.connect()).collect();
    for client in &clients {
        client.send(request);
    }
    sim.run().unwrap();
    for client in &clients {
        let _answer = client.receive();
    }
    clients
}

/// One client writes again and again: its next request is taken when the one before is answered.
fn write(sim: &mut Sim<WatchServer>) -> Client {
    let writer = sim.connect();
    (0..WRITES).for_each(|value| writer.send(put_request("a", &value.to_string(), "")));
    sim.run().unwrap();
    writer
}

fn each_hears(target: &str, fields: &str, told: &[u8], heartbeat: &[u8]) {
    // Where no frames are kept, they are made again for those that come later.
    for encoded_bytes in [LogLimits::default().encoded_bytes, 0] {
        let config = config(|config| config.log = LogLimits { encoded_bytes, ..config.log });
        each_hears_with(config, &request("GET", target, fields), told, heartbeat);
    }
}

fn each_hears_with(config: Config, request: &str, told: &[u8], heartbeat: &[u8]) {
    let mut sim = Sim::new(server(config).0);
    let clients = crowd(&mut sim, request);
    let writer = write(&mut sim);
    for (number, client) in clients.iter().enumerate() {
        assert_eq!(String::from_utf8_lossy(&client.receive()), String::from_utf8_lossy(told), "{number}");
    }
    // They were told within one moment, so they are all silent for as long.
    sim.advance(Duration::from_secs(26)).unwrap();
    for client in &clients {
        assert_eq!(String::from_utf8_lossy(&client.receive()), String::from_utf8_lossy(heartbeat));
    }
    clients.iter().chain([&writer]).for_each(Client::shutdown_write);
    sim.run().unwrap();
    clients.iter().for_each(Client::reset);
    sim.run().unwrap();
    nothing_is_left(&mut sim);
}

#[test]
fn each_stream_of_lines_hears_each_change_once() {
    let told = told(|revision| chunk(&(event(revision) + "\n")).into());
    let heartbeat = chunk("{\"type\":\"bookmark\",\"revision\":120}\n");
    each_hears("/v1/watch?key=a", "Accept: application/x-ndjson\r\n", &told, heartbeat.as_bytes());
}

#[test]
fn each_stream_of_events_hears_each_change_once() {
    let told =
        told(|revision| chunk(&format!("id: {revision}\nevent: put\ndata: {}\n\n", event(revision))).into());
    let heartbeat = chunk("id: 120\n\n");
    each_hears("/v1/watch?prefix=", "Accept: text/event-stream\r\n", &told, heartbeat.as_bytes());
}

#[test]
fn each_websocket_hears_each_change_once() {
    let told = told(|revision| message(&event(revision)));
    let heartbeat = message("{\"type\":\"bookmark\",\"revision\":120}");
    each_hears("/v1/watch?key=a", UPGRADE, &told, &heartbeat);
}

#[test]
fn no_poll_skips_what_it_was_not_told() {
    let mut sim = Sim::new(server(Config::default()).0);
    let clients = crowd(&mut sim, &get("/v1/watch?key=a&wait=60s"));
    write(&mut sim);
    sim.advance(Duration::from_millis(20)).unwrap();
    for client in &clients {
        let answer = String::from_utf8(client.receive()).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let told = body.matches("\"value\"").count() as u64;
        let events: Vec<_> = (101..101 + told).map(event).collect();
        assert_eq!(body, format!("{{\"revision\":{},\"events\":[{}]}}\n", 100 + told, events.join(",")));
        assert!(told > 0);
    }
}

#[test]
fn polls_whose_time_is_over_together_are_all_answered() {
    let mut sim = Sim::new(server(Config::default()).0);
    let clients = crowd(&mut sim, &get("/v1/watch?key=a&wait=1s"));
    sim.advance(Duration::from_secs(1)).unwrap();
    for client in &clients {
        let answer = String::from_utf8(client.receive()).unwrap();
        assert!(answer.ends_with("\r\n\r\n{\"revision\":100,\"events\":[]}\n"), "{answer}");
    }
}

#[test]
fn each_subscription_hears_each_change_once() {
    let (server, handle) = server(Config::default());
    let mut sim = Sim::new(server);
    let watches: Vec<_> = (0..CROWD).map(|_| handle.watch(Filter::prefix("", 9).unwrap(), None)).collect();
    sim.run().unwrap();
    let mut watches: Vec<_> = watches.into_iter().map(|watch| watch.wait().unwrap().unwrap()).collect();
    write(&mut sim);
    for watch in &mut watches {
        let mut revisions = Vec::new();
        while let Some(heard) = watch.try_next() {
            match heard {
                Event::Change(change) => revisions.push(change.revision.as_u64()),
                other => unreachable!("{other:?}"),
            }
            sim.run().unwrap();
        }
        assert!(revisions.iter().copied().eq(101..=LAST), "{revisions:?}");
    }
}

#[test]
fn a_subscription_does_not_wait_until_a_crowd_is_served() {
    let (mut server, handle) = server(Config::default());
    let now = Now::default();
    server.start(Waker::noop(), now);
    let watch = handle.watch(Filter::key("a", 9).unwrap(), None);
    server.on_wake(now);
    let mut watch = watch.wait().unwrap().unwrap();
    for slot in 0..CROWD {
        let id = ConnectionId::new(slot as u32, 0);
        server.open(id, &Peer::default(), now);
        let mut request = request("GET", "/v1/watch?key=a", "Accept: application/x-ndjson\r\n").into_bytes();
        server.receive(id, &mut Input::new(&mut request), &mut SendQueue::new(1 << 10), now);
    }
    let _put = handle.put("a", *b"x");
    server.on_wake(now);
    assert!(server.next_ready(now).is_some());
    assert!(watch.try_next().is_some());
}
