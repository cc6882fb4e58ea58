//! Two machines of one store, each with a driver of its own.

use keepwatch_sim::{Client, Sim};
use keepwatch_watch::{Config, WatchServer};

use crate::support::{get, nothing_is_left, put_request, request, shared};

struct Two {
    sims: [Sim<WatchServer>; 2],
    clients: [Client; 2],
}

impl Two {
    fn new() -> Self {
        let shared = shared(Config::default());
        let mut sims = [1, 2].map(|seed| Sim::new(shared.machine(seed).0));
        let clients = [0, 1].map(|index: usize| sims[index].connect());
        // Each has the state of the beginning.
        for sim in &mut sims {
            sim.run().unwrap();
        }
        Self { sims, clients }
    }

    /// A client of a machine says something, and this is what it then hears.
    fn ask(&mut self, machine: usize, bytes: &str) -> String {
        self.clients[machine].send(bytes);
        self.sims[machine].run().unwrap();
        self.hear(machine)
    }

    fn hear(&mut self, machine: usize) -> String {
        self.sims[machine].run().unwrap();
        String::from_utf8(self.clients[machine].receive()).unwrap()
    }
}

#[test]
fn a_write_on_one_is_read_on_the_other() {
    let mut two = Two::new();
    for round in 0..3 {
        let (writer, reader) = (round % 2, (round + 1) % 2);
        let value = format!("value {round}");
        assert!(two.ask(writer, &put_request("a", &value, "")).contains("\"revision\":"));
        // Not even a turn of the other machine lies between.
        assert!(two.ask(reader, &get("/v1/kv/a")).ends_with(&value));
        assert!(two.ask(reader, &get("/v1/kv?prefix=a")).contains(&value));
        let since = 100 + round;
        assert!(two.ask(reader, &get(&format!("/v1/watch?key=a&since={since}"))).contains(&value));
    }
    let stale = two.ask(1, &put_request("a", "x", "If-Match: \"101\"\r\n"));
    assert!(stale.starts_with("HTTP/1.1 412 "), "{stale}");
}

#[test]
fn a_watch_on_one_hears_of_a_write_on_the_other() {
    let mut two = Two::new();
    two.ask(0, &request("GET", "/v1/watch?prefix=", "Accept: application/x-ndjson\r\n"));
    two.ask(1, &put_request("a", "1", ""));
    assert!(
        two.hear(0).contains(r#"{"type":"put","key":"a","revision":101,"createRevision":101,"value":"1"}"#)
    );
}

#[test]
fn a_line_said_on_one_reaches_the_readers_of_both() {
    let mut two = Two::new();
    two.ask(0, &get("/hello"));
    two.ask(1, &get("/ok/there"));
    assert_eq!(two.hear(0), "a\r\nid: there\n\r\n");
    let second = two.sims[1].connect();
    second.send(get("/hello"));
    two.sims[1].run().unwrap();
    second.receive();
    two.ask(1, &get("/ok/here"));
    two.sims[1].run().unwrap();
    assert_eq!(
        (two.hear(0).as_str(), second.receive()),
        ("9\r\nid: here\n\r\n", b"9\r\nid: here\n\r\n".to_vec())
    );
    for client in [&two.clients[0], &two.clients[1], &second] {
        client.shutdown_write();
    }
    for sim in &mut two.sims {
        sim.run().unwrap();
        nothing_is_left(sim);
    }
}
