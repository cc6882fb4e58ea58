//! What a server seldom says.

use std::sync::Arc;

use keepwatch_protocol::websocket::Opcode;
use keepwatch_watch::Filter;
use keepwatch_watch::client::{ClientConfig, Transport};

use crate::support::{only, prefix};
use crate::talk::{NDJSON, Talk, answer, chunk, frame, json, open, refusal, stream};

#[test]
fn what_no_watch_says_on_a_websocket_is_a_failure() {
    let mut config = only(Transport::WebSocket);
    Arc::make_mut(&mut config.websocket).message_bytes = 50;
    for (bytes, why) in [
        (frame(Opcode::Binary, b"{}"), "JSON of another shape"),
        (frame(Opcode::Text, &[b' '; 51]), "more than the limits allow"),
        (frame(Opcode::Text, b"\xff"), "text that is not UTF-8 (1007)"),
    ] {
        let mut talk = Talk::new(config.clone());
        open(&mut talk, Transport::WebSocket);
        talk.closes(bytes);
        assert_eq!(talk.told()[1..], [format!("failed: {why}")]);
    }
}

#[test]
fn a_server_in_trouble_is_tried_again_by_the_same_transport() {
    for status in ["408 Request Timeout", "500 Internal Server Error", "502 Bad Gateway", "599 x"] {
        let config = ClientConfig {
            transports: vec![Transport::LongPoll, Transport::ShortPoll],
            ..ClientConfig::default()
        };
        let mut talk = Talk::new(config);
        let request = talk.connect();
        talk.closes(refusal(status));
        assert_eq!(talk.told()[1..], [format!("failed: an answer with status {}", &status[..3])]);
        talk.until_wanted();
        assert_eq!(talk.connect(), request, "{status}");
    }
}

#[test]
fn a_list_that_is_not_there_or_is_coded_is_a_failure() {
    let page = r#"{"revision":9,"items":[]}"#;
    for (said, told) in [
        (refusal("404 Not Found"), "failed: an answer with status 404"),
        (
            answer("200 OK", "application/json", "Content-Encoding: gzip\r\n", page),
            "failed: an answer of another media type",
        ),
        (answer("200 OK", "text/html", "", page), "failed: an answer of another media type"),
    ] {
        let mut talk = Talk::listing(prefix(""), ClientConfig::default());
        talk.connect();
        talk.closes(&said);
        assert_eq!(talk.told(), [told], "{said}");
    }
    let mut talk = Talk::listing(prefix(""), ClientConfig::default());
    talk.connect();
    talk.asks(answer("200 OK", "application/json", "Content-Encoding: Identity\r\n", page));
    assert_eq!(talk.told()[..2], ["listing", "listed 9"]);
}

#[test]
fn hints_before_an_answer_and_trailers_behind_it_are_passed_over() {
    let mut talk = Talk::listing(prefix(""), only(Transport::Lines));
    talk.connect();
    let page = chunk(r#"{"revision":9,"items":[]}"#);
    talk.asks(format!(
        "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n{}{page}0\r\nX: y\r\n\r\n",
        stream("application/json")
    ));
    talk.asks(stream(NDJSON) + &chunk("{\"type\":\"bookmark\",\"revision\":12}\n"));
    assert_eq!(talk.told(), ["listing", "listed 9", "by lines", "bookmark 12"]);
}

#[test]
fn a_polled_value_over_the_limit_is_a_failure() {
    let mut config = only(Transport::ShortPoll);
    config.limits.value_bytes = 2;
    let mut talk = Talk::listing(Filter::key("a", 10).unwrap(), config);
    talk.connect();
    talk.asks(json(r#"{"revision":9,"items":[]}"#));
    assert!(talk.wait().2.starts_with("GET /v1/kv/a "));
    talk.closes(answer("200 OK", "application/octet-stream", "ETag: \"12\"\r\n", "abc"));
    assert_eq!(talk.told().last().unwrap(), "failed: more than the limits allow");
}
