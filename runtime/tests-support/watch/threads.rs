//! A server on several threads is one server. Each connection goes to the thread that has the fewest, so six of them are on all
//! three.

use super::client::Client;
use super::process::Process;
use super::watcher::{Transport, Watch, Watcher, value_of};

fn server() -> Process {
    Process::with(&["--threads", "3"])
}

fn everywhere(server: &Process) -> Vec<Client> {
    let mut clients: Vec<Client> = (0..6).map(|_| server.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/healthz").status, 200); // it is accepted before the next one
    }
    clients
}

#[test]
fn a_write_is_seen_by_every_later_read() {
    let server = server();
    let mut clients = everywhere(&server);
    for round in 0..50 {
        let writer = round % clients.len();
        let value = round.to_string();
        clients[writer].put("a", &value);
        for reader in &mut clients {
            assert_eq!(reader.get("/v1/kv/a").text(), value);
        }
    }
}

#[test]
fn a_change_reaches_the_watchers_of_every_thread() {
    let server = server();
    let mut watchers: Vec<Watcher> = Transport::STREAMS
        .iter()
        .flat_map(|&transport| [(); 3].map(|()| server.watch(transport, &Watch::of(""))))
        .collect();
    let mut clients = everywhere(&server);
    for (round, client) in clients.iter_mut().enumerate() {
        let value = round.to_string();
        client.put("a", &value);
        for watcher in &mut watchers {
            assert_eq!(value_of(&watcher.change()), value.as_bytes());
        }
    }
}

#[test]
fn a_line_is_heard_on_every_thread() {
    let server = server();
    let mut readers = everywhere(&server);
    for reader in &mut readers {
        reader.request("GET", "/hello", &[], b"");
        reader.head();
        reader.part();
    }
    for client in &mut everywhere(&server) {
        client.get("/ok/haha");
        for reader in &mut readers {
            assert_eq!(reader.part().unwrap(), b"id: haha\n");
        }
    }
}

#[test]
fn metrics_are_of_all_threads() {
    let server = server();
    let mut clients = everywhere(&server);
    let mut watchers = [(); 4].map(|()| server.watch(Transport::Lines, &Watch::of("")));
    // Levels are of the end of each thread's last turn, and the head of a stream is written before that.
    clients[0].put("a", "0");
    for watcher in &mut watchers {
        watcher.change();
    }
    for client in &mut clients {
        client.put("a", "1");
        let text = client.get("/metrics").text();
        for line in ["keepwatch_connections 10", "keepwatch_watchers 4", "keepwatch_keys 1"] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }
}

#[test]
fn sigterm_reaches_every_thread() {
    let server = server();
    let idle = everywhere(&server);
    let streams: Vec<Watcher> = Transport::STREAMS
        .iter()
        .flat_map(|&transport| [(); 2].map(|()| server.watch(transport, &Watch::of(""))))
        .collect();
    server.send_signal("TERM");
    streams.into_iter().for_each(Watcher::end);
    for mut client in idle {
        client.expect_end();
    }
    assert!(server.exit_status().success());
}

#[test]
fn whoever_is_idle_on_another_thread_makes_room() {
    let server = Process::with(&["--threads", "2", "--connections", "2"]);
    let mut idle = server.connect();
    assert_eq!(idle.get("/healthz").status, 200);
    for _ in 0..5 {
        // It comes to the thread that has nobody.
        let mut next = server.connect();
        assert_eq!(next.get("/healthz").status, 200);
        idle.expect_end();
        idle = next;
    }
}
