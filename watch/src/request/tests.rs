use keepwatch_protocol::Input;
use keepwatch_protocol::http1::{HeadDecoder, Limits};

use super::*;
use crate::shapes::continue_token;

/// What a request with this line and these fields asks for.
fn ask(line: &str, fields: &str) -> Result<Call, Refusal> {
    ask_of(line, fields, &Config::default())
}

fn ask_of(line: &str, fields: &str, config: &Config) -> Result<Call, Refusal> {
    let mut bytes = format!("{line} HTTP/1.1\r\nHost: example.org:8080\r\n{fields}\r\n").into_bytes();
    let head = HeadDecoder::new().decode(&mut Input::new(&mut bytes), &Limits::default());
    parse(&head.unwrap().unwrap(), config)
}

fn status(line: &str, fields: &str) -> u16 {
    ask(line, fields).map_or_else(|refusal| refusal.status.code(), |_| 200)
}

fn key(text: &str) -> Key {
    Key::new(text, 1024).unwrap()
}

fn revision(number: u64) -> Revision {
    Revision::new(number).unwrap()
}

fn hold(query: &str, fields: &str) -> Hold {
    match ask(&format!("GET /v1/watch?{query}"), fields) {
        Ok(Call::Watch { hold, .. }) => hold,
        other => unreachable!("{other:?}"),
    }
}

#[test]
fn each_path_has_its_call() {
    let table = [
        ("GET /v1/kv/a", Call::Get { key: key("a"), unless: None }),
        ("HEAD /v1/kv/a/b", Call::Get { key: key("a/b"), unless: None }),
        ("PUT /v1/kv/a", Call::Put { key: key("a"), only_if: Precondition::default() }),
        ("DELETE /v1/kv/a", Call::Delete { key: key("a"), only_if: Precondition::default() }),
        ("GET /v1/kv", Call::List { prefix: String::new(), limit: 10_000, from: None }),
        ("GET /hello", Call::Hello),
        ("GET /ok/haha", Call::Announce { id: "haha".into() }),
        ("POST /ok/a%20b", Call::Announce { id: "a b".into() }),
        ("GET /count", Call::Count),
        ("GET /healthz", Call::Health),
        ("GET /readyz?whatever", Call::Ready),
        ("GET /metrics", Call::Metrics),
        ("GET /", Call::Page),
        ("GET http://example.org:8080/hello", Call::Hello),
    ];
    for (line, call) in table {
        assert_eq!(ask(line, ""), Ok(call), "{line}");
    }
}

#[test]
fn a_path_that_is_none_is_404() {
    for path in
        ["/v1", "/v1/", "/v1/kvs", "/v1/watch/", "/V1/kv", "//", "/hello/", "/ok", "/%68ello", "/v2/kv/a"]
    {
        assert_eq!(status(&format!("GET {path}"), ""), 404, "{path}");
    }
}

#[test]
fn a_method_that_a_path_does_not_have_is_405_and_says_which_it_has() {
    let table = [
        ("POST /v1/kv/a", "GET, HEAD, PUT, DELETE"),
        ("PUT /v1/kv", "GET, HEAD"),
        ("POST /v1/watch", "GET"),
        ("HEAD /v1/watch", "GET"),
        ("PUT /ok/a", "GET, POST"),
        ("DELETE /hello", "GET, HEAD"),
        ("get /", "GET, HEAD"),
        ("OPTIONS /metrics", "GET, HEAD"),
    ];
    for (line, allowed) in table {
        let refusal = ask(line, "").unwrap_err();
        assert_eq!(
            (refusal.status.code(), refusal.fields),
            (405, vec![("Allow", allowed.to_owned())]),
            "{line}"
        );
    }
}

#[test]
fn a_key_is_decoded_once_and_is_utf8() {
    let decoded = |path: &str| match ask(&format!("GET /v1/kv/{path}"), "") {
        Ok(Call::Get { key, .. }) => Ok(key.to_string()),
        Ok(other) => unreachable!("{other:?}"),
        Err(refusal) => Err(refusal.status.code()),
    };
    let table = [
        ("a%2Fb", Ok("a/b")),
        ("a%252fb", Ok("a%2fb")),
        ("a+b", Ok("a+b")),
        ("%C3%a9", Ok("\u{e9}")),
        ("%00%0A", Ok("\0\n")),
        ("a/../b", Ok("a/../b")),
        ("", Err(400)),
        ("%", Err(400)),
        ("%4", Err(400)),
        ("%4g", Err(400)),
        ("%+1", Err(400)),
        ("%C3", Err(400)),
        ("%ed%a0%80", Err(400)),
    ];
    for (path, expected) in table {
        assert_eq!(decoded(path), expected.map(str::to_owned), "{path}");
    }
    assert_eq!((decoded(&"a".repeat(1024)).is_ok(), decoded(&"a".repeat(1025))), (true, Err(400)));
}

#[test]
fn a_query_has_each_parameter_once_and_no_other() {
    let table = [
        ("/v1/kv?", 200),
        ("/v1/kv?&&prefix=a&", 200),
        ("/v1/kv?prefix", 200),
        ("/v1/kv?prefix=a=b", 200),
        ("/v1/kv?%70refix=a", 200),
        ("/v1/kv?prefix=a&prefix=b", 400),
        ("/v1/kv?prefix=a&%70refix=b", 400),
        ("/v1/kv?prefx=a", 400),
        ("/v1/kv?prefix=%zz", 400),
        ("/v1/kv?limit=0", 400),
        ("/v1/kv?limit=-1", 400),
        ("/v1/kv?limit=1:", 400),
        ("/v1/kv?limit=%2b1", 400),
        ("/v1/kv?limit=", 400),
        ("/v1/kv?limit=18446744073709551616", 400),
        ("/v1/kv?limit=18446744073709551615", 200),
        ("/v1/watch", 400),
        ("/v1/watch?key=a&prefix=b", 400),
        ("/v1/watch?key=", 400),
        ("/v1/watch?prefix=", 200),
        ("/v1/watch?prefix=&since=", 400),
        ("/v1/watch?prefix=&since=-1", 400),
        ("/v1/watch?prefix=&since=9007199254740991", 200),
        ("/v1/watch?prefix=&since=9007199254740992", 400),
        ("/v1/watch?prefix=&initial=true", 400),
        ("/v1/watch?prefix=&initial=false", 200),
        ("/v1/watch?prefix=&initial=1", 400),
        ("/v1/watch?prefix=&wait=1", 400),
    ];
    for (target, expected) in table {
        assert_eq!(status(&format!("GET {target}"), ""), expected, "{target}");
    }
    let many: Vec<_> = (0..17).map(|index| format!("p{index}=")).collect();
    assert_eq!(ask(&format!("GET /v1/kv?{}", many.join("&")), ""), Err(bad("too many parameters")));
    let Ok(Call::List { prefix, .. }) = ask("GET /v1/kv?prefix=a+b%2Bc", "") else { unreachable!() };
    assert_eq!(prefix, "a b+c");
}

#[test]
fn a_duration_is_digits_and_a_unit() {
    let millis = |text| duration(text).map(|duration| duration.as_millis());
    let table = [
        ("0s", Some(0)),
        ("250ms", Some(250)),
        ("30s", Some(30_000)),
        ("2m", Some(120_000)),
        ("99999999999999999999999s", Some(u128::from(u64::MAX))),
        ("", None),
        ("1", None),
        ("s", None),
        ("1h", None),
        ("+1s", None),
        ("-1s", None),
        ("1.5s", None),
        ("1 s", None),
        ("1S", None),
        ("\u{0661}s", None),
    ];
    for (text, expected) in table {
        assert_eq!(millis(text), expected, "{text}");
    }
}

#[test]
fn a_weight_is_a_number_of_thousandths_up_to_one() {
    let table: [(&[u8], Option<u16>); 15] = [
        (b"0", Some(0)),
        (b"1", Some(1000)),
        (b"0.", Some(0)),
        (b"0.5", Some(500)),
        (b"0.05", Some(50)),
        (b"0.999", Some(999)),
        (b"1.000", Some(1000)),
        (b"1.001", None),
        (b"0.1234", None),
        (b"2", None),
        (b".5", None),
        (b"0.x", None),
        (b"0.:", None),
        (b"-0", None),
        (b"", None),
    ];
    for (text, expected) in table {
        assert_eq!(quality(text), expected, "{}", text.escape_ascii());
    }
}

#[test]
fn what_is_accepted_most_is_the_transport_and_a_wait_wins() {
    let poll = Hold::LongPoll(Duration::from_secs(60));
    let table = [
        ("", poll),
        ("*/*", poll),
        ("text/html, */*;q=0.8", poll),
        ("text/event-stream", Hold::Events),
        ("Text/Event-Stream;charset=utf-8", Hold::Events),
        ("application/x-ndjson", Hold::Lines),
        ("text/event-stream;q=0", poll),
        ("text/event-stream;q=0.5, application/x-ndjson;q=0.6", Hold::Lines),
        ("text/event-stream;q=0.5, application/x-ndjson;q=0.5", Hold::Events),
        ("text/event-stream;q=0.5, application/json", poll),
        ("text/event-stream ; Q=0.5 , application/json ; q=0.4", Hold::Events),
        ("text/event-stream;q=0.5;q=1, application/x-ndjson;q=0.6", Hold::Lines),
        (",,;q=1,text/event-stream", Hold::Events),
    ];
    for (accept, expected) in table {
        assert_eq!(hold("prefix=", &format!("Accept: {accept}\r\n")), expected, "{accept}");
    }
    let two_lines = "Accept: text/event-stream;q=0.1\r\nAccept: application/x-ndjson\r\n";
    assert_eq!(hold("prefix=", two_lines), Hold::Lines);
    let waits = hold("prefix=&wait=5s", "Accept: text/event-stream\r\n");
    assert_eq!(waits, Hold::LongPoll(Duration::from_secs(5)));
    assert_eq!(hold("prefix=&wait=5m", ""), poll, "cut to the limit");
}

#[test]
fn only_what_is_stored_is_read_and_a_write_reads_for_its_condition_alone() {
    let table = [
        ("GET /v1/kv/a", "", true),
        ("GET /v1/kv", "", true),
        ("GET /v1/watch?prefix=", "", true),
        ("GET /metrics", "", true),
        ("PUT /v1/kv/a", "", false),
        ("PUT /v1/kv/a", "If-Match: *\r\n", true),
        ("DELETE /v1/kv/a", "If-None-Match: *\r\n", true),
        ("GET /hello", "", false),
        ("GET /ok/a", "", false),
        ("GET /", "", false),
    ];
    for (line, fields, expected) in table {
        assert_eq!(ask(line, fields).unwrap().reads(), expected, "{line} {fields}");
    }
}

#[test]
fn a_list_goes_on_where_its_page_said() {
    let (at, after) = (revision(7), key("a.b"));
    let token = continue_token(at, &after);
    let next = Continue { at, after };
    assert_eq!(Continue::parse(&token, &Config::default()), Some(next.clone()));
    let list = Call::List { prefix: "a".into(), limit: 10_000, from: Some(next) };
    assert_eq!(ask(&format!("GET /v1/kv?prefix=a&continue={token}"), ""), Ok(list));
    for token in ["", ".", "7", "7.", ".a", "7,a", "-7.a", "x.a", "9007199254740992.a"] {
        assert_eq!(status(&format!("GET /v1/kv?continue={token}"), ""), 400, "{token}");
    }
}

#[test]
fn a_key_has_the_tag_of_its_revision_alone() {
    let tags = EntityTags::Revisions(vec![revision(7), revision(9)]);
    assert_eq!([7, 8, 9].map(|number| tags.has(revision(number))), [true, false, true]);
    assert!(EntityTags::Any.has(revision(8)));
}

#[test]
fn entity_tags_are_revisions_in_quotes() {
    let any = Some(EntityTags::Any);
    let some = |revisions: &[u64]| {
        Some(EntityTags::Revisions(revisions.iter().map(|&number| revision(number)).collect()))
    };
    let table = [
        ("If-Match: *\r\n", any.clone(), None),
        ("If-Match: \"7\"\r\n", some(&[7]), None),
        ("If-Match: \"7\" , \"8\"\r\nIf-Match: \"9\"\r\n", some(&[7, 8, 9]), None),
        ("If-Match: W/\"7\", \"8\"\r\n", some(&[8]), None),
        ("If-None-Match: W/\"7\"\r\n", None, some(&[7])),
        ("If-None-Match: w/\"7\"\r\n", None, some(&[])),
        ("If-None-Match: *\r\n", None, any),
        ("If-Match: 7, \"x\", \"\", \"-1\", \"99999999999999999999\", \"\r\n", some(&[]), None),
        ("If-Match: \r\n", some(&[]), None),
    ];
    for (fields, if_match, if_none_match) in table {
        let only_if = Precondition { if_match, if_none_match };
        assert_eq!(ask("DELETE /v1/kv/a", fields), Ok(Call::Delete { key: key("a"), only_if }), "{fields}");
    }
}

#[test]
fn a_part_of_a_value_is_not_put() {
    assert_eq!(status("PUT /v1/kv/a", "Content-Range: bytes 0-1/2\r\n"), 400);
}

#[test]
fn only_pages_of_this_server_write_and_open_a_websocket() {
    let table = [
        ("", 200),
        ("Origin: http://example.org:8080\r\n", 200),
        ("Origin: HTTP://EXAMPLE.ORG:8080\r\n", 200),
        ("Origin: https://example.org:8080\r\n", 200),
        ("Origin: http://example.org\r\n", 403),
        ("Origin: http://example.org:80801\r\n", 403),
        ("Origin: http://example.org:8080/\r\n", 403),
        ("Origin: http://example.org:8080.evil.org\r\n", 403),
        ("Origin: http://evil.org/example.org:8080\r\n", 403),
        ("Origin: http://x@example.org:8080\r\n", 403),
        ("Origin: file://example.org:8080\r\n", 403),
        ("Origin: example.org:8080\r\n", 403),
        ("Origin: null\r\n", 403),
        ("Origin: \r\n", 403),
        ("Origin: http://example.org:8080\r\nOrigin: http://example.org:8080\r\n", 403),
        ("Origin: http://example.org:8080 http://evil.org\r\n", 403),
    ];
    for (fields, expected) in table {
        for line in ["PUT /v1/kv/a", "DELETE /v1/kv/a", "POST /ok/a"] {
            assert_eq!(status(line, fields), expected, "{line} {fields}");
        }
        let upgrade = "Upgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        assert_eq!(status("GET /v1/watch", &format!("{upgrade}{fields}")), expected, "{fields}");
        assert_eq!(status("GET /v1/kv/a", fields), 200, "a read is for its page to be refused");
    }
    let config = Config { origins: vec!["https://friend.org".into()], ..Config::default() };
    for (origin, allowed) in
        [("https://friend.org", true), ("http://friend.org", false), ("https://FRIEND.org", false)]
    {
        let asked = ask_of("PUT /v1/kv/a", &format!("Origin: {origin}\r\n"), &config);
        assert_eq!(asked.is_ok(), allowed, "{origin}");
    }
}

#[test]
fn a_websocket_may_name_its_watches_itself() {
    let upgrade = "Upgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let watch = |target: &str| match ask(&format!("GET {target}"), upgrade) {
        Ok(Call::Upgrade { watch, .. }) => Ok(watch),
        Ok(other) => unreachable!("{other:?}"),
        Err(refusal) => Err(refusal.status.code()),
    };
    let named = Watch { filter: Filter::key("a", 9).unwrap(), since: Some(revision(4)), initial: true };
    assert_eq!(watch("/v1/watch?key=a&since=4&initial=true"), Ok(Some(named)));
    assert_eq!(watch("/v1/watch"), Ok(None));
    assert_eq!(watch("/v1/watch?since=4"), Err(400));
    assert_eq!(watch("/v1/watch?initial=true"), Err(400));
    assert_eq!(ask("GET /v1/kv/a", upgrade), Ok(Call::Get { key: key("a"), unless: None }));
}

#[test]
fn an_id_is_a_line() {
    let table = [
        ("/ok/", 400),
        ("/ok/a%0Ab", 400),
        ("/ok/%7f", 400),
        ("/ok/%C2%85", 400),
        ("/ok/a/b", 200),
        ("/ok/%ff", 400),
    ];
    for (path, expected) in table {
        assert_eq!(status(&format!("GET {path}"), ""), expected, "{path}");
    }
    let long = "a".repeat(1025);
    assert_eq!(
        (status(&format!("GET /ok/{}", &long[1..]), ""), status(&format!("GET /ok/{long}"), "")),
        (200, 400)
    );
}

#[test]
fn the_last_event_id_wins() {
    let since = |fields: &str| match ask("GET /v1/watch?prefix=&since=4", fields) {
        Ok(Call::Watch { watch, .. }) => watch.since.map(Revision::as_u64),
        other => unreachable!("{other:?}"),
    };
    assert_eq!(
        (since(""), since("Last-Event-ID: 7\r\n"), since("Last-Event-ID:\r\n")),
        (Some(4), Some(7), Some(4))
    );
}
