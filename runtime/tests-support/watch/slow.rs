//! Readers that are slower than the writers.

use std::time::Duration;

use super::client::Client;
use super::process::{Process, pause};
use super::watcher::{Transport, Watch, revision_of, value_of};

/// A value of 1 MiB that no other number has.
fn large(n: usize) -> Vec<u8> {
    let mut value = vec![b'v'; 1 << 20];
    value[..8].copy_from_slice(format!("{n:08}").as_bytes());
    value
}

/// More of them than the log keeps, which is 64 MiB.
const COUNT: usize = 80;

#[test]
fn a_slow_reader_that_the_log_outlasts_gets_everything() {
    const FEW: usize = 6;
    let server = Process::start();
    let watchers = [Transport::Lines, Transport::EventsHttp10, Transport::SocketWithId, Transport::LongPoll]
        .map(|transport| (transport, server.watch(transport, &Watch::of("app/"))));
    let mut client = server.connect();
    // Nobody has read a byte when the last of these is answered.
    let written: Vec<u64> = (0..FEW).map(|n| client.put(&format!("app/{n}"), large(n))).collect();
    for (transport, mut watcher) in watchers {
        for (n, revision) in written.iter().enumerate() {
            let event = watcher.change();
            assert_eq!(revision_of(&event), *revision, "{transport:?}");
            assert!(value_of(&event) == large(n), "{transport:?}");
            pause(Duration::from_millis(2));
        }
    }
}

#[test]
fn a_reader_that_is_slower_than_the_log_is_told_and_delays_nobody() {
    let server = Process::start();
    let slow = [Transport::Lines, Transport::Events, Transport::LinesHttp10, Transport::Socket]
        .map(|transport| (transport, server.watch(transport, &Watch::of("app/"))));
    let mut shared = server.watch(Transport::SocketWithId, &Watch::of("app/"));
    let mut quick = server.watch(Transport::Lines, &Watch::of("small"));
    let mut client = server.connect();
    // The slow ones read nothing all the while.
    let written: Vec<u64> = (0..COUNT)
        .map(|n| {
            let revision = client.put("app/a", large(n));
            assert_eq!(client.put("small", n.to_string()), revision_of(&quick.change()));
            revision
        })
        .collect();

    let told = |transport, next: &mut dyn FnMut() -> serde_json::Value| {
        let mut seen = 0;
        loop {
            let event = next();
            if event["type"] == "compacted" {
                // A list at that revision, or a later one, has what is missing.
                let revision = revision_of(&event);
                let at = written.partition_point(|written| *written <= revision);
                assert!(at > seen + 60, "{transport:?}: {seen} seen, told at {at}");
                break;
            }
            assert_eq!(revision_of(&event), written[seen], "{transport:?}");
            assert!(value_of(&event) == large(seen), "{transport:?}");
            seen += 1;
        }
    };
    for (transport, mut watcher) in slow {
        told(transport, &mut || watcher.change());
        assert_eq!(watcher.next(), None, "{transport:?}");
        if transport == Transport::Socket {
            assert_eq!(watcher.close_code(), Some(4410));
        }
    }
    told(Transport::SocketWithId, &mut || shared.change());
}

/// Writes more than the log keeps, and gives the first revision of it.
fn overflow_the_log(client: &mut Client) -> u64 {
    let written: Vec<u64> = (0..COUNT).map(|n| client.put("app/a", large(n))).collect();
    written[0]
}

#[test]
fn what_the_log_no_longer_has_is_410() {
    let server = Process::start();
    let mut client = server.connect();
    let gone = overflow_the_log(&mut client);
    let revision = client.revision();
    let accept = "Accept: application/x-ndjson";
    for (target, field) in [
        (format!("/v1/watch?prefix=&since={gone}"), accept),
        (format!("/v1/watch?prefix=&since={gone}&wait=60s"), accept),
        (format!("/v1/kv?continue={gone}.a"), "Accept: */*"),
    ] {
        let refused = client.call("GET", &target, &[field], b"");
        assert_eq!((refused.refused(), refused.revision()), (410, revision), "{target}");
    }
}

#[test]
fn a_watch_of_a_quiet_key_never_has_to_list_again() {
    let server = Process::start();
    let watchers =
        Transport::STREAMS.map(|transport| (transport, server.watch(transport, &Watch::of("quiet"))));
    let mut poll = server.connect();
    poll.request("GET", "/v1/watch?prefix=quiet&wait=60s", &[], b"");
    let mut client = server.connect();
    overflow_the_log(&mut client);
    let revision = client.put("quiet", "still watched");
    for (transport, mut watcher) in watchers {
        let event = watcher.change();
        assert_eq!((&event["type"], revision_of(&event)), (&"put".into(), revision), "{transport:?}");
    }
    assert_eq!(poll.response().json()["events"][0]["revision"], revision);
}

#[test]
fn a_client_that_reads_no_answers_is_not_read_from_and_gets_them_all_later() {
    const ANSWERS: usize = 100;
    let server = Process::start();
    let mut client = server.connect();
    let value = vec![b'v'; 256 << 10];
    client.put("a", &value);
    // 25 MiB of answers: far more than buffers hold.
    client.send("GET /v1/kv/a HTTP/1.1\r\nHost: a\r\n\r\n".repeat(ANSWERS));
    server.connect().put("b", "others are served");
    for _ in 0..ANSWERS {
        assert!(client.response().body == value);
    }
}
