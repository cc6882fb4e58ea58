//! Commits of several changes on server-sent events: whoever is cut off between two of them loses none.

use keepwatch_sim::Sim;
use keepwatch_watch::{Config, Revision, Shared, WatchServer};
use serde_json::Value;

use crate::commit_store::Commits;
use crate::support::{START, request};

/// What an `EventSource` makes of a stream that broke off: the data of the events that it dispatched, and its last event id.
fn event_source(text: &str, mut last_id: String) -> (Vec<Value>, String) {
    let mut events = Vec::new();
    let (whole, _) = text.rsplit_once("\n\n").unwrap_or_default();
    for event in whole.split("\n\n").filter(|event| !event.is_empty()) {
        for line in event.lines() {
            match line.split_once(": ") {
                Some(("id", id)) => id.clone_into(&mut last_id),
                Some(("data", data)) => events.push(serde_json::from_str(data).unwrap()),
                Some(("event", _)) => {}
                _ => unreachable!("{line}"),
            }
        }
    }
    (events, last_id)
}

type Server = WatchServer<Commits>;

fn stream(sim: &mut Sim<Server>, target: &str, version: &str, id: &str) -> String {
    stream_cut(sim, target, version, id, &[])
}

/// What a stream says, without its chunks. It is written so many bytes at a time.
fn stream_cut(sim: &mut Sim<Server>, target: &str, version: &str, id: &str, writes: &[usize]) -> String {
    let client = sim.connect();
    client.accept_in(writes);
    let fields = format!("Accept: text/event-stream\r\nLast-Event-ID: {id}\r\n");
    client.send(request("GET", target, &fields).replace("HTTP/1.1", version));
    sim.run().unwrap();
    let text = String::from_utf8(client.receive()).unwrap();
    client.reset();
    sim.run().unwrap();
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    if version == "HTTP/1.0" {
        return body.to_owned();
    }
    let (mut content, mut rest) = (String::new(), body);
    while !rest.is_empty() {
        let (size, chunk) = rest.split_once("\r\n").unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        content += &chunk[..size];
        rest = chunk[size..].strip_prefix("\r\n").unwrap();
    }
    content
}

#[test]
fn an_event_source_that_is_cut_anywhere_loses_nothing_and_repeats_at_most_a_commit() {
    let revision = Revision::new(START).unwrap();
    let (server, handle) = Shared::new(Config::default(), revision).machine_over(Commits::new(revision), 1);
    let mut sim = Sim::new(server);
    for commit in ["a=1 b=1 c=1 bb=1", "b=2 a=2", "d=1", "c d=2 b=3", "a bb=2 b=4 b=5"] {
        let put = handle.put("commit", commit.as_bytes());
        sim.run().unwrap();
        assert!(put.wait().is_ok());
    }
    let all = [("prefix=", 14), ("prefix=b", 7), ("key=b", 5), ("key=c", 2), ("prefix=none", 0)];
    for ((query, count), version) in all.into_iter().flat_map(|all| [(all, "HTTP/1.1"), (all, "HTTP/1.0")]) {
        let target = format!("/v1/watch?{query}");
        let whole = stream(&mut sim, &target, version, "100");
        let (told, _) = event_source(&whole, String::new());
        assert_eq!(told.len(), count, "{query}");
        assert_eq!(stream_cut(&mut sim, &target, version, "100", &[1]), whole, "{query}");
        for cut in 0..=whole.len() {
            let (mut seen, id) = event_source(&whole[..cut], "100".into());
            let at = Revision::new(id.parse().unwrap()).unwrap().as_u64();
            let (rest, _) = event_source(&stream(&mut sim, &target, version, &id), id);
            let revision = |event: &Value| event["revision"].as_u64().unwrap();
            // What comes again is the commit that was cut.
            let again = seen.split_off(seen.partition_point(|event| revision(event) <= at));
            assert!(rest.starts_with(&again), "{query}, cut at {cut}");
            seen.extend(rest);
            assert_eq!(seen, told, "{query}, cut at {cut}");
            let cut_inside = again.last().is_some_and(|last| {
                let next = told.get(told.iter().position(|event| event == last).unwrap() + 1);
                next.is_some_and(|next| revision(next) == revision(last))
            });
            assert!(again.is_empty() || cut_inside, "{query}, cut at {cut}: {again:?}");
        }
    }
}
