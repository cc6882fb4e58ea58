//! Answers that refuse, delay, break off, or make no sense.

use std::time::Duration;

use keepwatch_protocol::websocket::Opcode;
use keepwatch_watch::Filter;
use keepwatch_watch::client::{Backoff, ClientConfig, Next, Transport};

use crate::support::{STREAMS, only, prefix, secs};
use crate::talk::{
    Talk, answer, bookmark, chunk, first_line, frame, json, message, put, refusal, stream, upgraded,
};

const NDJSON: &str = "application/x-ndjson";
const EVENTS: &str = "text/event-stream";

/// Opens a stream by this transport, and returns what an event looks like on it.
fn open(talk: &mut Talk, transport: Transport) -> fn(&str) -> Vec<u8> {
    let request = talk.connect();
    match transport {
        Transport::WebSocket => {
            talk.asks(upgraded(&request));
            message
        }
        Transport::ServerSentEvents => {
            talk.asks(stream(EVENTS));
            |json| chunk(&format!("data: {json}\n\n")).into_bytes()
        }
        _ => {
            talk.asks(stream(NDJSON));
            |json| chunk(&format!("{json}\n")).into_bytes()
        }
    }
}

#[test]
fn refusals_lead_down_to_polls_at_once_and_up_again_after_a_while() {
    let config = ClientConfig {
        transports: vec![
            Transport::WebSocket,
            Transport::ServerSentEvents,
            Transport::Lines,
            Transport::LongPoll,
        ],
        ..ClientConfig::default()
    };
    let mut talk = Talk::new(config);
    assert!(talk.connect().contains("Upgrade: websocket"));
    talk.closes(refusal("403 Forbidden"));
    assert!(talk.connect().contains("Accept: text/event-stream"));
    talk.closes(refusal("200 OK"));
    assert!(talk.connect().contains("Accept: application/x-ndjson"));
    talk.closes(refusal("501 Not Implemented"));
    assert_eq!(first_line(&talk.connect()), "GET /v1/watch?prefix=&since=10&wait=30000ms HTTP/1.1");
    assert_eq!(
        talk.told(),
        [
            "by WebSocket",
            "failed: an answer with status 403",
            "by server-sent events",
            "failed: an answer of another media type",
            "by lines",
            "failed: an answer with status 501",
            "by long polls",
        ]
    );
    // The last one is never put aside: it waits.
    talk.closes(refusal("404 Not Found"));
    assert!(talk.until_wanted() <= Duration::from_millis(500));
    assert!(talk.connect().contains("&wait="));
    talk.later(secs(25));
    let next = talk.asks(json(r#"{"revision":11,"events":[]}"#));
    assert!(next.contains("&since=11&wait="));
    talk.later(secs(275));
    assert!(talk.asks(json(r#"{"revision":12,"events":[]}"#)).contains("Upgrade: websocket"));
    assert_eq!(talk.told()[1..], ["bookmark 11", "bookmark 12", "by WebSocket"]);
}

#[test]
fn a_handshake_that_is_not_right_is_a_refusal() {
    let mut talk = Talk::new(ClientConfig::default());
    let answer = upgraded(&talk.connect()).replace("Accept: ", "Accept: x");
    talk.closes(answer);
    assert!(talk.connect().contains("text/event-stream"));
    assert_eq!(talk.told()[1], "failed: Sec-WebSocket-Accept does not answer the key");
}

#[test]
fn three_cuts_before_an_event_are_a_refusal_and_one_after_it_is_not() {
    let config =
        ClientConfig { transports: vec![Transport::Lines, Transport::LongPoll], ..ClientConfig::default() };
    let mut talk = Talk::new(config);
    for _ in 0..2 {
        talk.connect();
        talk.asks(stream(NDJSON));
        talk.disconnected();
        talk.until_wanted();
    }
    talk.connect();
    talk.asks(stream(NDJSON) + &chunk(&format!("{}\n", bookmark(11))));
    talk.disconnected();
    for _ in 0..3 {
        talk.until_wanted();
        assert!(talk.connect().contains(NDJSON));
        talk.disconnected();
    }
    talk.until_wanted();
    assert!(talk.connect().contains("&wait="));
    assert_eq!(talk.told(), ["by lines", "bookmark 11", "by long polls"]);
}

#[test]
fn what_could_not_be_connected_is_no_refusal() {
    let mut talk = Talk::new(ClientConfig::default());
    for _ in 0..10 {
        talk.until_wanted();
        talk.client.connecting(talk.now);
        talk.disconnected();
    }
    talk.until_wanted();
    assert!(talk.connect().contains("Upgrade: websocket"));
}

#[test]
fn waits_grow_with_each_failure_and_are_the_same_for_the_same_seed() {
    let waits = || {
        let backoff = Backoff { first: secs(1), most: secs(4), ..Backoff::default() };
        let mut talk = Talk::new(ClientConfig { backoff, ..ClientConfig::default() });
        let mut waits = Vec::new();
        for _ in 0..5 {
            talk.client.connecting(talk.now);
            talk.disconnected();
            waits.push(talk.until_wanted());
        }
        waits
    };
    let first = waits();
    assert_eq!(first, waits());
    for (wait, most) in first.iter().zip([1, 2, 4, 4, 4]) {
        assert!(*wait > Duration::ZERO && *wait <= secs(most), "{first:?}");
    }
    assert!(first.iter().any(|wait| *wait > secs(1)));
}

#[test]
fn a_stream_that_lasted_is_a_first_failure_again_and_a_short_one_is_not() {
    let backoff = Backoff { first: secs(1), most: secs(1000), lasting: secs(10), ..Backoff::default() };
    let config = ClientConfig { backoff, ..only(Transport::Lines) };
    for (lasts, low, high) in [(secs(9), 8, 1024), (secs(10), 0, 1)] {
        let mut talk = Talk::new(config.clone());
        for _ in 0..10 {
            talk.client.connecting(talk.now);
            talk.disconnected();
            talk.until_wanted();
        }
        let event = open(&mut talk, Transport::Lines);
        assert_eq!(talk.says(event(&bookmark(11))).0, Next::Open);
        talk.later(lasts);
        talk.disconnected();
        let wait = talk.until_wanted();
        assert!(wait >= secs(low) && wait <= secs(high), "{wait:?}");
    }
}

#[test]
fn retry_after_is_obeyed_and_bounded() {
    for (after, low) in [("7", 7), ("100000", 300), ("Fri, 31 Dec 1999 23:59:59 GMT", 0)] {
        for status in ["503 Service Unavailable", "429 Too Many Requests"] {
            for transport in STREAMS {
                let mut talk = Talk::new(only(transport));
                talk.connect();
                talk.closes(answer(status, "text/html", &format!("Retry-After: {after}\r\n"), ""));
                let wait = talk.until_wanted();
                assert!(wait >= secs(low) && wait <= secs(low) + Duration::from_millis(500));
                assert_eq!(talk.told().len(), 1, "it is no failure");
            }
        }
    }
}

#[test]
fn a_stream_s_retry_is_obeyed_and_its_end_is_no_strike() {
    let config = ClientConfig {
        transports: vec![Transport::ServerSentEvents, Transport::LongPoll],
        strikes: 1,
        ..ClientConfig::default()
    };
    let mut talk = Talk::new(config);
    talk.connect();
    talk.closes(stream(EVENTS) + &chunk("retry: 4000\n\n") + "0\r\n\r\n");
    let wait = talk.until_wanted();
    assert!(wait >= secs(4) && wait <= secs(5));
    assert!(talk.connect().contains(EVENTS));
}

#[test]
fn a_request_on_a_connection_that_was_used_is_sent_again_at_once_and_only_once() {
    let mut talk = Talk::listing(prefix(""), only(Transport::Lines));
    talk.connect();
    let request = talk.asks(json(r#"{"revision":10,"items":[]}"#));
    assert!(request.contains("since=10"));
    talk.disconnected();
    assert_eq!(talk.until_wanted(), Duration::ZERO);
    assert!(talk.connect() == request);
    talk.disconnected();
    assert!(talk.until_wanted() > Duration::ZERO);
    // With a byte of the answer it is no longer sure that nothing was done.
    let mut talk = Talk::listing(prefix(""), only(Transport::Lines));
    talk.connect();
    talk.asks(json(r#"{"revision":10,"items":[]}"#));
    talk.asks("H");
    talk.disconnected();
    assert!(talk.until_wanted() > Duration::ZERO);
}

#[test]
fn a_server_that_closes_after_each_answer_is_asked_at_once_on_another_connection() {
    let mut talk = Talk::listing(prefix(""), only(Transport::LongPoll));
    talk.connect();
    let close = |body: &str| answer("200 OK", "application/json", "Connection: close\r\n", body);
    talk.closes(close(r#"{"revision":10,"items":[]}"#));
    for since in 10..20 {
        assert_eq!(talk.until_wanted(), Duration::ZERO);
        assert!(talk.connect().contains(&format!("since={since}&")));
        talk.later(secs(30));
        talk.closes(close(&format!(r#"{{"revision":{},"events":[]}}"#, since + 1)));
    }
}

#[test]
fn a_server_that_does_not_hold_polls_is_not_asked_in_a_loop() {
    let mut talk = Talk::new(only(Transport::LongPoll));
    talk.connect();
    let mut waits = Vec::new();
    for _ in 0..8 {
        assert_eq!(talk.asks(json(r#"{"revision":10,"events":[]}"#)), "");
        let (wait, next, request) = talk.wait();
        assert!(next == Next::Open && request.contains("since=10"));
        waits.push(wait);
    }
    assert!(waits.iter().sum::<Duration>() > secs(5), "{waits:?}");
}

#[test]
fn silence_is_noticed_on_every_transport() {
    for transport in STREAMS {
        let mut talk = Talk::new(only(transport));
        let event = open(&mut talk, transport);
        assert_eq!(talk.says(event(&bookmark(11))).0, Next::Open);
        let start = talk.at();
        // A WebSocket asks first, and hears nothing.
        let mut next = Next::Open;
        while next == Next::Open {
            next = talk.wait().1;
        }
        let silence = talk.at().since(start);
        assert!(silence <= secs(60) && silence >= secs(45), "{transport}: {silence:?}");
        assert_eq!(talk.told().last().map(String::as_str), Some("failed: nothing came for too long"));
        talk.until_wanted();
        assert!(talk.connect().contains("11"), "it goes on from what was told");
    }
    for (transport, patience) in
        [(Transport::WebSocket, 20), (Transport::ServerSentEvents, 20), (Transport::LongPoll, 50)]
    {
        let mut talk = Talk::new(only(transport));
        talk.connect();
        let (passed, next, _) = talk.wait();
        assert_eq!((passed, next), (secs(patience), Next::Close), "{transport}");
    }
    let mut talk = Talk::new(ClientConfig::default());
    talk.client.connecting(talk.now);
    assert_eq!(talk.wait().0, secs(10));
}

#[test]
fn bytes_of_any_kind_break_the_silence() {
    let mut talk = Talk::new(only(Transport::ServerSentEvents));
    open(&mut talk, Transport::ServerSentEvents);
    for _ in 0..10 {
        talk.later(secs(59));
        assert_eq!(talk.asks(chunk(":\n\n")), "");
    }
    assert_eq!(talk.wait().0, secs(60));
}

#[test]
fn events_that_make_no_sense_are_failures_and_nothing_of_them_is_told() {
    let cases = [
        ("nonsense", "JSON of another shape"),
        (r#"{"type":"put","key":"a","revision":12,"createRevision":1}"#, "JSON of another shape"),
        (
            r#"{"type":"put","key":"a","revision":12,"createRevision":13,"value":""}"#,
            "a revision out of order",
        ),
        (r#"{"type":"delete","key":"z","revision":12}"#, "a key that was not asked for, or not there"),
        (r#"{"type":"delete","key":"app/a","revision":10}"#, "a revision out of order"),
        (r#"{"type":"bookmark","revision":10}"#, "a revision out of order"),
    ];
    for transport in STREAMS {
        for (json, why) in cases {
            let mut talk = Talk::since(prefix("app/"), only(transport));
            let event = open(&mut talk, transport);
            assert_eq!(talk.says(event(&put("app/x", 11))).0, Next::Open);
            let json = json.replace(r#""key":"a""#, r#""key":"app/a""#);
            talk.closes(event(&json));
            let told = talk.told();
            assert_eq!(
                told[1..],
                ["put app/x=x @11".to_owned(), format!("failed: {why}")],
                "{transport}: {json}"
            );
            // The commit of revision 11 may have more: it is asked for again, and what was told is passed over.
            talk.until_wanted();
            let event = open(&mut talk, transport);
            assert_eq!(talk.says(event(&put("app/x", 11))).0, Next::Open);
            assert_eq!(talk.says(event(&put("app/y", 11))).0, Next::Open);
            assert_eq!(talk.told(), ["put app/y=x @11"]);
        }
    }
}

#[test]
fn what_is_of_an_unknown_type_is_passed_over() {
    for transport in STREAMS {
        let mut talk = Talk::new(only(transport));
        let event = open(&mut talk, transport);
        assert_eq!(talk.says(event(r#"{"type":"weather","is":"fine"}"#)).0, Next::Open);
        assert_eq!(talk.told().len(), 1);
    }
}

#[test]
fn more_than_the_limits_is_a_failure() {
    let mut config = ClientConfig::default();
    config.limits.message_bytes = 100;
    config.limits.value_bytes = 10;
    for transport in STREAMS {
        for value in ["12345678901".to_owned(), "x".repeat(200)] {
            let mut talk = Talk::new(ClientConfig { transports: vec![transport], ..config.clone() });
            let event = open(&mut talk, transport);
            let json = put("a", 11).replace(r#""x""#, &format!("{value:?}"));
            talk.closes(event(&json));
            assert_eq!(talk.told()[1..], ["failed: more than the limits allow"], "{transport}");
        }
    }
    let mut talk = Talk::listing(prefix(""), config);
    talk.connect();
    talk.closes(json(&" ".repeat(101)));
    assert_eq!(talk.told(), ["failed: more than the limits allow"]);
}

#[test]
fn a_long_poll_s_answer_that_goes_back_is_a_failure() {
    for body in [
        r#"{"revision":9,"events":[]}"#,
        r#"{"revision":11,"events":[{"type":"bookmark","revision":12}]}"#,
        r#"{"revision":11}"#,
        r#"{"events":[]}"#,
        "[]",
    ] {
        let mut talk = Talk::new(only(Transport::LongPoll));
        talk.connect();
        talk.closes(json(body));
        assert!(talk.told().iter().any(|told| told.starts_with("failed")), "{body}");
    }
}

#[test]
fn lists_that_make_no_sense_are_failures() {
    let item = |key: &str, revision: u64| {
        format!(r#"{{"key":"{key}","revision":{revision},"createRevision":1,"value":""}}"#)
    };
    let page =
        |items: &[String], token: &str| format!(r#"{{"revision":10,"items":[{}]{token}}}"#, items.join(","));
    for (body, why) in [
        (page(&[item("b", 2)], ""), "a key that was not asked for, or not there"),
        (page(&[item("app/b", 2), item("app/a", 2)], ""), "a key that was not asked for, or not there"),
        (page(&[item("app/b", 2), item("app/b", 2)], ""), "a key that was not asked for, or not there"),
        (page(&[item("app/b", 11)], ""), "a revision out of order"),
        (page(&[], r#","continue":"x""#), "JSON of another shape"),
        (page(&[], r#","continue":7"#), "JSON of another shape"),
    ] {
        let mut talk = Talk::listing(prefix("app/"), ClientConfig::default());
        talk.connect();
        talk.closes(json(&body));
        assert_eq!(talk.told(), [format!("failed: {why}")], "{body}");
    }
}

#[test]
fn a_page_at_another_revision_begins_the_list_anew() {
    let mut talk = Talk::listing(prefix(""), only(Transport::Lines));
    talk.connect();
    let item = |key: &str| format!(r#"{{"key":"{key}","revision":1,"createRevision":1,"value":""}}"#);
    let page = |revision: u64, key: &str, token: &str| {
        json(&format!(r#"{{"revision":{revision},"items":[{}]{token}}}"#, item(key)))
    };
    let next = talk.asks(page(10, "a", r#","continue":"10.a""#));
    assert!(first_line(&next).contains("&continue=10.a"));
    talk.closes(page(11, "b", ""));
    talk.until_wanted();
    assert!(!talk.connect().contains("continue"));
    talk.asks(page(11, "a", ""));
    assert_eq!(
        talk.told(),
        [
            "listing",
            "item a=",
            "failed: a revision out of order",
            "listing",
            "item a=",
            "listed 11",
            "by lines"
        ]
    );
}

#[test]
fn a_page_that_breaks_off_is_asked_for_again_and_one_that_is_gone_begins_the_list_anew() {
    let mut talk = Talk::listing(prefix(""), only(Transport::Lines));
    talk.connect();
    let item = r#"{"key":"a","revision":1,"createRevision":1,"value":""}"#;
    talk.asks(json(&format!(r#"{{"revision":10,"items":[{item}],"continue":"10.a"}}"#)));
    talk.asks("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"rev");
    talk.disconnected();
    assert!(talk.until_wanted() > Duration::ZERO);
    assert!(talk.connect().contains("continue=10.a"));
    talk.closes(answer("410 Gone", "application/json", "", r#"{"error":"gone","revision":20}"#));
    talk.until_wanted();
    assert_eq!(first_line(&talk.connect()), "GET /v1/kv?prefix=&limit=1000 HTTP/1.1");
    talk.asks(json(r#"{"revision":20,"items":[]}"#));
    assert_eq!(talk.told(), ["listing", "item a=", "listing", "listed 20", "by lines"]);
}

#[test]
fn every_way_to_say_that_changes_are_gone() {
    let gone = || answer("410 Gone", "application/json", "", r#"{"error":"gone","revision":20}"#);
    let compacted = r#"{"type":"compacted","revision":20}"#;
    for transport in STREAMS {
        let mut talk = Talk::new(only(transport));
        let event = open(&mut talk, transport);
        talk.closes(event(compacted));
        assert_eq!(talk.until_wanted(), Duration::ZERO);
        assert!(first_line(&talk.connect()).contains("/v1/kv?"));
        assert_eq!(talk.told()[1..], ["compacted 20"]);
    }
    for transport in [Transport::Lines, Transport::ServerSentEvents, Transport::LongPoll] {
        let mut talk = Talk::new(only(transport));
        talk.connect();
        assert!(first_line(&talk.asks(gone())).contains("/v1/kv?"), "on the same connection");
        assert_eq!(talk.told()[1..], ["compacted 20"]);
    }
    let mut talk = Talk::new(only(Transport::WebSocket));
    open(&mut talk, Transport::WebSocket);
    talk.closes(frame(Opcode::Close, &4410u16.to_be_bytes()));
    assert!(first_line(&talk.connect()).contains("/v1/kv?"));
    assert_eq!(talk.told()[1..], ["compacted 10"]);
    let mut talk = Talk::new(only(Transport::WebSocket));
    talk.connect();
    talk.closes(gone());
    assert!(first_line(&talk.connect()).contains("/v1/kv?"));
}

#[test]
fn who_is_compacted_again_and_again_is_slowed_down() {
    let mut talk = Talk::listing(prefix(""), only(Transport::Lines));
    talk.connect();
    let mut waits = Vec::new();
    for _ in 0..8 {
        talk.asks(json(r#"{"revision":20,"items":[]}"#));
        talk.closes(stream(NDJSON) + &chunk("{\"type\":\"compacted\",\"revision\":20}\n"));
        waits.push(talk.until_wanted());
        talk.connect();
    }
    assert!(waits.iter().sum::<Duration>() > secs(5), "{waits:?}");
}

#[test]
fn each_close_code_of_a_websocket() {
    for (code, is_failure) in [
        (1000, false),
        (1001, false),
        (1011, false),
        (1012, false),
        (1013, false),
        (1002, true),
        (4000, true),
    ] {
        let mut talk = Talk::new(only(Transport::WebSocket));
        open(&mut talk, Transport::WebSocket);
        let (next, reply) = talk.says(frame(Opcode::Close, &u16::to_be_bytes(code)));
        assert_eq!(next, Next::Close);
        assert_eq!(reply.first(), Some(&0x88), "the Close is answered");
        assert!(talk.until_wanted() > Duration::ZERO);
        assert_eq!(talk.told().len(), 1 + usize::from(is_failure), "{code}");
    }
}

#[test]
fn a_full_queue_takes_no_more_and_silence_is_not_counted_against_the_server() {
    for transport in STREAMS {
        let mut config = only(transport);
        config.limits.queue_events = 2;
        let mut talk = Talk::new(config);
        let event = open(&mut talk, transport);
        assert_eq!(talk.told().len(), 1);
        for revision in 11..15 {
            assert_eq!(talk.says(event(&put("a", revision))).0, Next::Open);
        }
        for _ in 0..100 {
            assert_eq!(talk.wait().1, Next::Open);
        }
        assert_eq!(talk.told().len(), 2);
        assert_eq!(talk.says("").0, Next::Open);
        assert_eq!(talk.told().len(), 2);
    }
}

#[test]
fn short_polls_of_a_key_ask_whether_it_changed() {
    let key = || Filter::key("a", 10).unwrap();
    let mut talk = Talk::listing(key(), only(Transport::ShortPoll));
    assert_eq!(first_line(&talk.connect()), "GET /v1/kv?prefix=a&limit=1 HTTP/1.1");
    let item = |key: &str| format!(r#"{{"key":"{key}","revision":3,"createRevision":1,"value":"x"}}"#);
    assert_eq!(talk.asks(json(&format!(r#"{{"revision":9,"items":[{}],"continue":"9.a"}}"#, item("a")))), "");
    let (wait, _, request) = talk.wait();
    assert_eq!((wait, first_line(&request)), (secs(5), "GET /v1/kv/a HTTP/1.1"));
    assert!(request.contains("If-None-Match: \"3\""));
    talk.asks("HTTP/1.1 304 Not Modified\r\nETag: \"3\"\r\n\r\n");
    assert!(talk.wait().2.contains("If-None-Match: \"3\""));
    talk.asks(answer("200 OK", "application/octet-stream", "ETag: \"12\"\r\n", "new"));
    assert!(talk.wait().2.contains("If-None-Match: \"12\""));
    for _ in 0..2 {
        talk.asks(answer("404 Not Found", "application/json", "", r#"{"error":"none","revision":20}"#));
        assert!(!talk.wait().2.contains("If-None-Match"));
    }
    assert_eq!(
        talk.told(),
        [
            "listing",
            "item a=x",
            "listed 9",
            "by short polls",
            "listing",
            "item a=new",
            "listed 12",
            "listing",
            "listed 20"
        ]
    );
    // What a captive portal says is no value.
    talk.closes(answer("200 OK", "text/html", "ETag: \"12\"\r\n", "<html>"));
    talk.until_wanted();
    talk.connect();
    talk.closes(answer("200 OK", "application/octet-stream", "", "no tag"));
    assert_eq!(talk.told(), ["failed: an answer of another media type"; 2]);
    // The list of what begins with the key has others.
    let mut talk = Talk::listing(key(), only(Transport::ShortPoll));
    talk.connect();
    talk.asks(json(&format!(r#"{{"revision":9,"items":[{}]}}"#, item("ab"))));
    assert_eq!(talk.told(), ["listing", "listed 9", "by short polls"]);
}

#[test]
fn short_polls_survive_that_the_server_closes_between_them() {
    let mut talk = Talk::listing(prefix(""), only(Transport::ShortPoll));
    talk.connect();
    talk.asks(json(r#"{"revision":9,"items":[]}"#));
    talk.later(secs(2));
    talk.disconnected();
    assert_eq!(talk.until_wanted(), secs(3));
    talk.connect();
    talk.asks(json(r#"{"revision":10,"items":[]}"#));
    assert_eq!(talk.told(), ["listing", "listed 9", "by short polls", "bookmark 10"]);
}

#[test]
fn fields_of_the_user_go_with_every_request() {
    let fields = vec![("Authorization".to_owned(), "Bearer x".to_owned())];
    let mut talk = Talk::listing(prefix(""), ClientConfig { fields, ..ClientConfig::default() });
    assert!(talk.connect().contains("\r\nAuthorization: Bearer x\r\n"));
    let request = talk.asks(json(r#"{"revision":9,"items":[]}"#));
    assert!(request.contains("\r\nAuthorization: Bearer x\r\n") && request.contains("Upgrade: websocket"));
}
