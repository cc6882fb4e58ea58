//! Answers that make no sense, and those that do in an unusual way.

use std::time::Duration;

use keepwatch_protocol::websocket::Opcode;
use keepwatch_watch::Filter;
use keepwatch_watch::client::{ClientConfig, Next, Transport};

use crate::support::{STREAMS, only, prefix, revision, secs};
use crate::talk::{NDJSON, Talk, answer, chunk, first_line, frame, json, open, put, refusal, stream};

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
fn as_much_as_the_limits_allow_is_taken() {
    let mut config = only(Transport::ShortPoll);
    config.limits.message_bytes = 100;
    config.limits.value_bytes = 10;
    let mut talk = Talk::listing(Filter::key("a", 10).unwrap(), config);
    talk.connect();
    talk.asks(json(&format!("{:100}", r#"{"revision":9,"items":[]}"#)));
    assert!(talk.wait().2.starts_with("GET /v1/kv/a "));
    let value = |value| answer("200 OK", "application/octet-stream", "ETag: \"12\"\r\n", value);
    assert_eq!(talk.asks(value("1234567890")), "");
    assert_eq!(
        talk.told(),
        ["listing", "listed 9", "by short polls", "listing", "item a=1234567890", "listed 12"]
    );
    assert_eq!(talk.wait().1, Next::Open);
    talk.closes(value("12345678901"));
    assert_eq!(talk.told(), ["failed: more than the limits allow"]);
}

#[test]
fn what_is_coded_is_not_taken() {
    for (fields, is_taken) in [
        ("Content-Encoding: Identity\r\nContent-Length: 25", true),
        ("Content-Encoding: gzip\r\nContent-Length: 25", false),
        ("Transfer-Encoding: gzip", false),
    ] {
        let mut talk = Talk::listing(prefix(""), only(Transport::Lines));
        talk.connect();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{fields}\r\n\r\n");
        let (next, _) = talk.says(head + r#"{"revision":9,"items":[]}"#);
        assert_eq!(next == Next::Open, is_taken, "{fields}");
        let told = if is_taken { "listing" } else { "failed: an answer of another media type" };
        assert_eq!(talk.told()[0], told, "{fields}");
    }
}

#[test]
fn an_id_alone_is_a_bookmark_and_an_empty_one_is_none() {
    let mut talk = Talk::new(only(Transport::ServerSentEvents));
    open(&mut talk, Transport::ServerSentEvents);
    assert_eq!(talk.asks(chunk("id:\n\n")), "");
    assert_eq!(talk.asks(chunk("id: 11\n\n")), "");
    assert_eq!(talk.told()[1..], ["bookmark 11"]);
    talk.closes(chunk("id: 1x\n\n"));
    assert_eq!(talk.told(), ["failed: JSON of another shape"]);
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
fn a_short_poll_hides_the_revision_only_while_it_tells_a_state() {
    let mut talk = Talk::listing(prefix(""), only(Transport::ShortPoll));
    talk.connect();
    talk.asks(json(r#"{"revision":9,"items":[]}"#));
    assert!(talk.wait().2.contains("/v1/kv?"));
    assert_eq!(talk.client.revision(), Some(revision(9)));
    let item = r#"{"key":"a","revision":12,"createRevision":1,"value":""}"#;
    talk.asks(json(&format!(r#"{{"revision":12,"items":[{item}],"continue":"12.a"}}"#)));
    assert_eq!(talk.client.revision(), None);
    talk.asks(json(r#"{"revision":12,"items":[]}"#));
    assert_eq!(talk.client.revision(), Some(revision(12)));
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
fn an_empty_line_behind_an_answer_does_not_move_the_next_short_poll() {
    let mut talk = Talk::listing(prefix(""), only(Transport::ShortPoll));
    talk.connect();
    talk.asks(json(r#"{"revision":9,"items":[]}"#));
    talk.later(secs(2));
    assert_eq!(talk.asks("\r\n"), "");
    assert_eq!(talk.wait().0, secs(3));
}

#[test]
fn fields_of_the_user_go_with_every_request() {
    let fields = vec![("Authorization".to_owned(), "Bearer x".to_owned())];
    let mut talk = Talk::listing(prefix(""), ClientConfig { fields, ..ClientConfig::default() });
    assert!(talk.connect().contains("\r\nAuthorization: Bearer x\r\n"));
    let request = talk.asks(json(r#"{"revision":9,"items":[]}"#));
    assert!(request.contains("\r\nAuthorization: Bearer x\r\n") && request.contains("Upgrade: websocket"));
}

#[test]
fn what_a_stream_told_between_short_polls_is_not_taken_for_what_they_know() {
    let config = ClientConfig {
        transports: vec![Transport::Lines, Transport::ShortPoll],
        aside: secs(7),
        ..ClientConfig::default()
    };
    let item = r#"{"key":"a","revision":1,"createRevision":1,"value":""}"#;
    let page = |revision: u64| json(&format!(r#"{{"revision":{revision},"items":[{item}]}}"#));
    let mut talk = Talk::new(config);
    talk.connect();
    talk.closes(refusal("403 Forbidden"));
    talk.connect();
    assert_eq!(talk.asks(page(10)), "", "the state is that of the start");
    assert!(talk.wait().2.starts_with("GET /v1/kv?"));
    assert_eq!(talk.asks(page(11)), "");
    talk.told();
    talk.later(secs(2));
    assert!(talk.wait().2.contains(NDJSON));
    talk.closes(stream(NDJSON) + &chunk(&format!("{}\n", put("b", 12))) + "0\r\n\r\n");
    talk.until_wanted();
    talk.connect();
    talk.closes(refusal("403 Forbidden"));
    talk.connect();
    // The key of the stream is gone again: the same keys as before, and yet news.
    talk.asks(page(13));
    let told = talk.told();
    assert_eq!(told[told.len() - 3..], ["listing", "item a=", "listed 13"]);
}

#[test]
fn a_short_poll_of_many_pages_at_the_revision_before_is_one_page_and_tells_nothing() {
    let mut talk = Talk::listing(prefix(""), only(Transport::ShortPoll));
    talk.connect();
    let page = |key: &str, token: &str| {
        let item = format!(r#"{{"key":"{key}","revision":1,"createRevision":1,"value":""}}"#);
        json(&format!(r#"{{"revision":9,"items":[{item}]{token}}}"#))
    };
    let more = r#","continue":"9.a""#;
    assert!(talk.asks(page("a", more)).contains("continue=9.a"));
    assert_eq!(talk.asks(page("b", "")), "");
    assert_eq!(talk.told().len(), 5);
    assert!(talk.wait().2.starts_with("GET /v1/kv?prefix=&limit=1000 "));
    assert_eq!(talk.asks(page("a", more)), "");
    assert_eq!(talk.told(), [""; 0]);
}

#[test]
fn an_answer_whose_end_nobody_said_may_be_cut_off_and_is_not_taken() {
    let mut talk = Talk::since(Filter::key("a", 10).unwrap(), only(Transport::ShortPoll));
    talk.connect();
    talk.asks(json(r#"{"revision":10,"items":[]}"#));
    assert_eq!(talk.wait().1, Next::Open);
    talk.asks(
        "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nETag: \"11\"\r\n\r\nhalf of the val",
    );
    talk.disconnected();
    assert_eq!(talk.told(), ["by short polls"]);
    assert!(talk.until_wanted() > Duration::ZERO);
}

#[test]
fn a_page_goes_on_behind_the_one_before() {
    let mut talk = Talk::listing(prefix(""), ClientConfig::default());
    talk.connect();
    let page =
        r#"{"revision":9,"items":[{"key":"b","revision":1,"createRevision":1,"value":""}],"continue":"9.b"}"#;
    talk.asks(json(page));
    talk.closes(json(page));
    assert_eq!(talk.told(), ["listing", "item b=", "failed: a key that was not asked for, or not there"]);
}
