//! The process: how it is started, and how it ends.

use std::net::TcpListener;
use std::time::Duration;

use serde_json::json;

use super::process::{Process, output, pause};
use super::watcher::{LINES, Transport, Watch, Watcher, WebSocket};
use crate::BINARY;

#[test]
fn sigterm_says_farewell_to_all_who_are_held() {
    let server = Process::start();
    let revision = server.connect().put("a", "1");
    let mut poll = server.connect();
    poll.request("GET", "/v1/watch?prefix=&wait=60s", &[], b"");
    let streams = Transport::STREAMS.map(|transport| server.watch(transport, &Watch::of("")));
    let mut silent = WebSocket::open(server.connect(), "/v1/watch");
    let mut hello = server.connect();
    hello.request("GET", "/hello", &[], b"");
    hello.head();
    hello.part();
    let mut idle = server.connect();
    idle.get("/healthz");
    let mut upload = server.connect();
    upload.begin_to_put("b");

    server.send_signal("TERM");
    let answer = poll.response();
    assert_eq!(answer.json(), json!({"revision": revision, "events": []}));
    assert_eq!(answer.field("connection"), Some("close"));
    poll.expect_end();
    streams.into_iter().for_each(Watcher::end);
    assert_eq!(silent.message(), Err(Some(1001)));
    assert_eq!(hello.part(), None);
    hello.expect_end();
    idle.expect_end();
    // All of them were told before the time was up: what is under way comes to its end.
    upload.send("value");
    let answer = upload.response();
    assert_eq!((answer.status, answer.field("connection")), (201, Some("close")));
    upload.expect_end();
    drop((poll, hello, idle, silent, upload));
    assert!(server.exit_status().success());
}

#[test]
fn what_is_under_way_when_it_drains_comes_to_its_end() {
    let server = Process::start();
    let value = vec![b'v'; 1 << 20];
    let mut download = server.connect();
    download.put("large", &value);
    download.request("GET", "/v1/kv/large", &[], b"");
    let head = download.head(); // the rest is more than buffers hold
    let mut upload = server.connect();
    upload.begin_to_put("a");

    server.send_signal("TERM");
    while server.accepts() {
        pause(Duration::from_millis(1));
    }
    assert_eq!(head.field("connection"), None, "it could not say so yet");
    assert!(download.rest() == value);
    download.expect_end();
    upload.send("value");
    assert_eq!(upload.response().status, 201);
    upload.expect_end();
    drop((download, upload));
    assert!(server.exit_status().success());
}

#[test]
fn sigint_ends_it_as_well() {
    let server = Process::start();
    server.send_signal("INT");
    assert!(server.exit_status().success());
}

#[test]
fn a_client_that_stays_does_not_keep_it_from_ending() {
    let server = Process::start();
    let mut stays = server.connect();
    stays.begin_to_put("a");
    server.send_signal("TERM");
    assert!(server.exit_status().success());
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let server = Process::start();
    let mut stays = server.connect();
    stays.begin_to_put("a");
    let mut watcher = server.watch(Transport::Lines, &Watch::of(""));
    server.send_signal("TERM");
    assert_eq!(watcher.next(), None); // it drains
    server.send_signal("TERM");
    assert_eq!(server.exit_status().code(), Some(128 + 15));
}

#[test]
fn help_and_version_are_printed() {
    let help = output(&["--help"]);
    assert!(help.status.success());
    let help = String::from_utf8(help.stdout).unwrap();
    for part in ["--listen", "--hold", "curl", "listening on"] {
        assert!(help.contains(part), "{help}");
    }
    let version = output(&["--version"]);
    assert!(version.status.success());
    let name = BINARY.rsplit(['/', '\\']).next().unwrap().trim_end_matches(".exe");
    let expected = format!("{name} {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8(version.stdout).unwrap(), expected);
}

#[test]
fn a_wrong_argument_is_named() {
    for (arguments, why) in [
        (["--hold", "60"], "--hold"),
        (["--hold", "0s"], "from 1s to 60m"),
        (["--listen", "localhost"], "--listen"),
        (["--port", "80"], "--port"),
    ] {
        let failed = output(&arguments);
        assert!(!failed.status.success());
        let said = String::from_utf8(failed.stderr).unwrap();
        assert!(said.contains(why), "{said}");
        assert!(failed.stdout.is_empty(), "whoever waits for the ready line is not misled");
    }
}

#[test]
fn an_address_in_use_is_named() {
    let holder = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = holder.local_addr().unwrap().to_string();
    let failed = output(&["--listen", &address]);
    assert!(!failed.status.success());
    let said = String::from_utf8(failed.stderr).unwrap();
    assert!(said.contains(&address) && said.contains("in use"), "{said}");
    assert!(failed.stdout.is_empty());
}

#[test]
fn several_addresses_are_one_server() {
    let server = Process::with(&["--listen", "127.0.0.1:0"]);
    let [mut one, mut other] = [0, 1].map(|index| server.connect_to(index));
    let accept = format!("Accept: {LINES}");
    one.request("GET", "/v1/watch?key=a", &[&accept], b"");
    one.head();
    one.part();
    let revision = other.put("a", "1");
    let line = String::from_utf8(one.part().unwrap()).unwrap();
    assert!(line.contains(&revision.to_string()), "{line}");
}
