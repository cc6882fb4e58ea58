//! Servers that refuse, delay, break off, or say nothing: which transport is next, and when.

use std::time::Duration;

use keepwatch_watch::client::{Backoff, ClientConfig, Next, Transport};

use crate::support::{STREAMS, only, prefix, secs};
use crate::talk::{
    EVENTS, NDJSON, Talk, answer, bookmark, chunk, first_line, json, open, refusal, stream, upgraded,
};

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
fn a_list_that_is_refused_is_asked_for_again_later_and_no_transport_is_blamed() {
    let gone = answer("410 Gone", "application/json", "", r#"{"error":"gone","revision":20}"#);
    for refused in [refusal("403 Forbidden"), refusal("200 OK"), gone] {
        let mut talk = Talk::listing(prefix(""), ClientConfig::default());
        talk.connect();
        talk.closes(&refused);
        assert!(talk.told()[0].starts_with("failed"), "{refused}");
        assert!(talk.until_wanted() > Duration::ZERO, "{refused}");
        talk.connect();
        assert!(talk.asks(json(r#"{"revision":9,"items":[]}"#)).contains("Upgrade: websocket"), "{refused}");
    }
}

#[test]
fn a_server_in_trouble_is_asked_again_later_by_the_same_transport() {
    for status in ["408 Request Timeout", "500 Internal Server Error", "502 Bad Gateway", "599 ?"] {
        let mut talk = Talk::new(ClientConfig::default());
        talk.connect();
        talk.closes(refusal(status));
        assert!(talk.until_wanted() > Duration::ZERO, "{status}");
        assert!(talk.connect().contains("Upgrade: websocket"), "{status}");
    }
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
    for transport in STREAMS {
        let mut talk = Talk::listing(prefix(""), only(transport));
        talk.connect();
        let request = talk.asks(json(r#"{"revision":10,"items":[]}"#));
        assert!(request.contains("/v1/watch?") && request.contains("10"));
        talk.disconnected();
        assert_eq!(talk.until_wanted(), Duration::ZERO, "{transport}");
        assert_eq!(first_line(&talk.connect()), first_line(&request));
        talk.disconnected();
        assert!(talk.until_wanted() > Duration::ZERO, "{transport}");
    }
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
fn a_poll_that_was_held_or_that_told_something_is_followed_by_the_next_at_once() {
    for (held, revision) in [(30, 10), (0, 11)] {
        let mut talk = Talk::new(only(Transport::LongPoll));
        talk.connect();
        talk.later(secs(held));
        let next = talk.asks(json(&format!(r#"{{"revision":{revision},"events":[]}}"#)));
        assert!(next.contains(&format!("since={revision}&")), "{revision} after {held} s");
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
fn an_answer_at_once_that_says_nothing_new_was_not_held_whatever_is_in_it() {
    for event in [r#"{"type":"weather"}"#.to_owned(), bookmark(10)] {
        let mut talk = Talk::new(only(Transport::LongPoll));
        talk.connect();
        for _ in 0..3 {
            assert_eq!(talk.asks(json(&format!(r#"{{"revision":10,"events":[{event}]}}"#))), "");
            assert!(talk.wait().2.contains("since=10"));
        }
    }
}

#[test]
fn a_transport_that_is_put_aside_for_no_time_is_not_tried_again_at_once() {
    let mut talk = Talk::new(ClientConfig { aside: Duration::ZERO, ..ClientConfig::default() });
    for _ in 0..3 {
        assert!(talk.connect().contains("Upgrade: websocket"));
        talk.closes(refusal("404 Not Found"));
        assert!(!talk.until_wanted().is_zero());
    }
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
fn a_deadline_is_acted_on_however_late_and_not_before() {
    for (after, expected) in [(19, Next::Open), (20, Next::Close), (25, Next::Close)] {
        let mut talk = Talk::new(only(Transport::Lines));
        talk.connect();
        talk.later(secs(after));
        assert_eq!(talk.client.on_deadline(&mut Vec::new(), talk.now), expected, "after {after} s");
    }
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
fn a_read_of_nothing_does_not_break_the_silence() {
    let mut talk = Talk::new(only(Transport::ServerSentEvents));
    open(&mut talk, Transport::ServerSentEvents);
    talk.later(secs(59));
    assert_eq!(talk.asks(""), "");
    assert_eq!(talk.wait().0, secs(1));
}

#[test]
fn a_watch_that_was_cut_off_is_one_strike_however_often_connecting_fails_after_it() {
    let mut talk = Talk::new(ClientConfig::default());
    talk.connect();
    talk.disconnected();
    for _ in 0..5 {
        talk.until_wanted();
        talk.client.connecting(talk.now);
        talk.disconnected();
    }
    talk.until_wanted();
    assert!(talk.connect().contains("Upgrade: websocket"));
}

#[test]
fn a_short_poll_that_is_answered_ends_a_row_of_failures() {
    let backoff = Backoff { first: secs(1), most: secs(1000), ..Backoff::default() };
    let mut talk = Talk::listing(prefix(""), ClientConfig { backoff, ..only(Transport::ShortPoll) });
    talk.connect();
    talk.asks(json(r#"{"revision":9,"items":[]}"#));
    talk.disconnected();
    for _ in 0..10 {
        talk.until_wanted();
        talk.client.connecting(talk.now);
        talk.disconnected();
    }
    talk.until_wanted();
    talk.connect();
    talk.asks(json(r#"{"revision":9,"items":[]}"#));
    talk.disconnected();
    talk.until_wanted();
    talk.client.connecting(talk.now);
    talk.disconnected();
    assert!(talk.until_wanted() <= secs(1));
}

#[test]
fn who_is_compacted_lists_again_at_once_if_the_watch_lasted() {
    let mut config = only(Transport::Lines);
    config.backoff.lasting = secs(10);
    for (lasted, at_once) in [(9, false), (10, true)] {
        let mut talk = Talk::listing(prefix(""), config.clone());
        talk.connect();
        talk.asks(json(r#"{"revision":20,"items":[]}"#));
        talk.later(secs(lasted));
        talk.closes(stream(NDJSON) + &chunk("{\"type\":\"compacted\",\"revision\":20}\n"));
        assert_eq!(talk.until_wanted().is_zero(), at_once, "after {lasted} s");
    }
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
