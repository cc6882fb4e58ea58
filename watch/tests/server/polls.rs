//! Long polls: held, coalesced, cut, abandoned.

use std::time::Duration;

use keepwatch_sim::{Conversation, Sim};
use keepwatch_watch::{Config, LogLimits, WatchServer};

use crate::support::{
    config, get, json, keeping, level, nothing_is_left, put, request, server, talk, talk_in_process,
};

fn answer(body: &str) -> String {
    json("200 OK", "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n", body)
}

fn put_event(key: &str, revision: u64, value: &str) -> String {
    format!(
        r#"{{"type":"put","key":"{key}","revision":{revision},"createRevision":{revision},"value":"{value}"}}"#
    )
}

/// How long a poll of this kind is held when nothing happens.
fn held(config: Config, target: &str) -> Duration {
    let mut sim = Sim::new(server(config).0);
    let client = sim.connect();
    client.send(get(target));
    let answered = |_: &Sim<WatchServer>| client.received() > 0;
    sim.run_until(answered, Duration::from_secs(3600)).unwrap()
}

#[test]
fn a_poll_is_held_for_its_time_less_a_jitter() {
    for (target, most) in [
        ("/v1/watch?prefix=&wait=10s", 10_000),
        ("/v1/watch?prefix=", 60_000),
        ("/v1/watch?prefix=&wait=2m", 60_000),
        ("/v1/watch?prefix=&wait=99999999999999999999m", 60_000),
        ("/v1/watch?prefix=&wait=100ms", 100),
    ] {
        let held = held(Config::default(), target).as_millis();
        // The wheel's resolution on top.
        assert!(held >= most * 9 / 10 && held <= most + 4, "{target}: {held}");
    }
}

#[test]
fn a_poll_without_a_wait_is_answered_at_once() {
    talk(Config::default())
        .client(get("/v1/watch?prefix=&wait=0s"))
        .server(answer(r#"{"revision":100,"events":[]}"#))
        .client(get("/v1/watch?prefix=&wait=0ms&since=100"))
        .server(answer(r#"{"revision":100,"events":[]}"#))
        .end();
}

#[test]
fn everyone_is_answered_what_was_asked_whoever_was_answered_before() {
    let (server, handle) = server(Config::default());
    let mut sim = Sim::new(server);
    let (first, second) = (put_event("a", 101, "1"), put_event("b", 102, "2"));
    put(&mut sim, &handle, "a", "1");
    put(&mut sim, &handle, "b", "2");
    let both = format!("{first},{second}");
    for (query, events) in [
        ("key=a&since=100", &first),
        ("key=a&since=100", &first),
        ("key=b&since=100", &second),
        ("prefix=a&since=100", &first),
        ("prefix=&since=100", &both),
        ("prefix=&since=101", &second),
        ("prefix=&since=100", &both),
        ("key=a&since=101&wait=0s", &String::new()),
        ("key=a&since=100", &first),
    ] {
        let client = sim.connect();
        client.send(get(&format!("/v1/watch?{query}")));
        sim.run().unwrap();
        let said = String::from_utf8(client.receive()).unwrap();
        let body = format!("{{\"revision\":102,\"events\":[{events}]}}\n");
        assert!(said.ends_with(&format!("\r\n\r\n{body}")), "{query}: {said}");
    }
    put(&mut sim, &handle, "c", "3");
    let client = sim.connect();
    client.send(get("/v1/watch?key=a&since=100"));
    sim.run().unwrap();
    let said = String::from_utf8(client.receive()).unwrap();
    assert!(said.ends_with(&format!("{{\"revision\":103,\"events\":[{first}]}}\n")), "{said}");
}

#[test]
fn what_many_are_answered_has_a_head_for_each() {
    let (server, handle) = server(Config::default());
    let mut sim = Sim::new(server);
    put(&mut sim, &handle, "a", "1");
    let body = format!("{{\"revision\":101,\"events\":[{}]}}\n", put_event("a", 101, "1"));
    let target = "/v1/watch?key=a&since=100";
    let length = format!("\r\nContent-Length: {}\r\n", body.len());
    for (request, closes) in [
        (get(target), false),
        (request("GET", target, "Connection: close\r\n"), true),
        (get(target).replace("HTTP/1.1", "HTTP/1.0"), true),
        (get(target), false),
    ] {
        let client = sim.connect();
        client.send(&request);
        sim.run().unwrap();
        let said = String::from_utf8(client.receive()).unwrap();
        let (head, said) = said.split_once("\r\n\r\n").unwrap();
        let head = format!("{head}\r\n");
        assert_eq!((said, head.contains(&length)), (&*body, true), "{request}: {head}");
        assert_eq!(head.contains("Connection: close"), closes, "{request}: {head}");
    }
}

#[test]
fn a_burst_is_one_answer() {
    let (conversation, handle) = talk_in_process(Config::default());
    let first = put_event("a", 101, "1");
    let second = put_event("b", 102, "2");
    let mut sim = conversation
        .client(get("/v1/watch?prefix="))
        .with(|sim, _| {
            put(sim, &handle, "a", "1");
        })
        .silence()
        .wait(Duration::from_millis(2))
        .with(|sim, _| {
            put(sim, &handle, "b", "2");
        })
        .wait(Duration::from_millis(10))
        .server(answer(&format!("{{\"revision\":102,\"events\":[{first},{second}]}}")))
        .client_ends()
        .server_closes()
        .end();
    nothing_is_left(&mut sim);
}

#[test]
fn what_happened_before_the_poll_is_answered_at_once() {
    let (conversation, handle) = talk_in_process(Config::default());
    let first = put_event("a", 101, "1");
    conversation
        .with(|sim, _| {
            put(sim, &handle, "a", "1");
            put(sim, &handle, "b", "2");
        })
        .client(get("/v1/watch?key=a&since=100"))
        .server(answer(&format!("{{\"revision\":102,\"events\":[{first}]}}")))
        .client(get("/v1/watch?key=a&since=101&wait=0s"))
        .server(answer(r#"{"revision":102,"events":[]}"#))
        .end();
}

#[test]
fn a_poll_that_hangs_up_is_forgotten_at_once() {
    let mut sim = talk(Config::default())
        .client(get("/v1/watch?prefix="))
        .with(|sim, _| assert_eq!(level(sim, "keepwatch_watchers"), 1))
        .client_ends()
        .server_closes()
        .speaker("second")
        .client(get("/v1/watch?prefix="))
        .client_resets()
        .end();
    nothing_is_left(&mut sim);
}

#[test]
fn a_poll_from_a_revision_that_is_gone_or_not_reached_is_410() {
    let gone = |why: &str| {
        json("410 Gone", "Cache-Control: no-store\r\n", &format!("{{\"error\":\"{why}\",\"revision\":103}}"))
    };
    let (conversation, handle) = talk_in_process(keeping(1));
    conversation
        .with(|sim, _| {
            for value in ["1", "2", "3"] {
                put(sim, &handle, "a", value);
            }
        })
        .client(get("/v1/watch?prefix=&since=101"))
        .server(gone("the changes before revision 102 are no longer kept"))
        .client(get("/v1/watch?prefix=&since=104"))
        .server(gone("the newest revision is 103"))
        .end();
}

/// While it coalesces, more changes come than the log keeps.
fn overrun(config: Config) -> Conversation<WatchServer> {
    let (conversation, handle) = talk_in_process(config);
    conversation.client(get("/v1/watch?prefix=")).with(|sim, _| {
        for value in ["1", "2", "3"] {
            put(sim, &handle, "a", value);
        }
    })
}

#[test]
fn a_poll_never_hides_that_changes_are_missing() {
    let gone = "HTTP/1.1 410 Gone\r\n*\r\n*\r\n*\r\n*\r\n*\r\n{\"error\":\"the changes before revision 102 are no longer kept\",\"revision\":103}\n";
    let at_once = gone.replacen("*\r\n*\r\n*\r\n*\r\n*\r\n", "*\r\n*\r\n*\r\n*\r\n\r\n", 1);
    overrun(keeping(1)).wait(Duration::from_millis(10)).server(at_once).end();
    // The farewell comes before the burst is over.
    let patient = config(|config| {
        config.log = keeping(1).log;
        config.coalesce = Duration::from_secs(10);
    });
    overrun(patient)
        .with(|sim, _| {
            sim.drain(Duration::from_secs(1)).unwrap_or_default();
        })
        .server(gone.replacen(
            "*\r\n*\r\n*\r\n*\r\n*\r\n",
            "*\r\n*\r\n*\r\n*\r\nConnection: close\r\n\r\n",
            1,
        ))
        .server_ends()
        .end();
}

#[test]
fn an_answer_that_is_cut_goes_on_from_its_revision() {
    let (conversation, handle) = talk_in_process(config(|config| config.poll_bytes = 1));
    conversation
        .with(|sim, _| {
            put(sim, &handle, "a", "1");
            put(sim, &handle, "a", "2");
        })
        .client(get("/v1/watch?prefix=&since=100"))
        .server(answer(&format!("{{\"revision\":101,\"events\":[{}]}}", put_event("a", 101, "1"))))
        .client(get("/v1/watch?prefix=&since=101"))
        .server(answer(r#"{"revision":102,"events":[{"type":"put","key":"a","revision":102,"createRevision":101,"value":"2"}]}"#))
        .end();
}

#[test]
fn what_is_too_old_for_the_log_is_compacted() {
    let log = LogLimits { age: Some(Duration::from_secs(60)), ..LogLimits::default() };
    let (server, handle) = server(config(|config| config.log = log));
    let mut sim = Sim::new(server);
    for (key, wait) in [("a", 30), ("b", 0)] {
        put(&mut sim, &handle, key, "1");
        sim.advance(Duration::from_secs(wait)).unwrap();
    }
    let since = |sim: &mut Sim<WatchServer>, revision: u64| {
        let client = sim.connect();
        client.send(get(&format!("/v1/watch?prefix=&since={revision}")));
        sim.run().unwrap();
        String::from_utf8(client.receive()).unwrap()
    };
    assert!(since(&mut sim, 100).contains("\"key\":\"a\""));
    // Nobody says anything, and it is forgotten all the same.
    sim.advance(Duration::from_secs(31)).unwrap();
    assert_eq!(sim.server().usage().log_changes, 1);
    assert!(since(&mut sim, 100).starts_with("HTTP/1.1 410 "));
    assert!(since(&mut sim, 101).contains("\"key\":\"b\""));
    // The newest stays, whatever its age.
    sim.advance(Duration::from_secs(3600)).unwrap();
    assert!(since(&mut sim, 101).contains("\"key\":\"b\""));
}
