//! WebSockets: the watch of a URL, operations, many watches on one.

use std::time::Duration;

use keepwatch_protocol::websocket::Opcode;
use keepwatch_sim::{Conversation, Sim, SimConfig, every_split};
use keepwatch_watch::{Config, Handle, WatchServer};

use crate::support::{
    UPGRADE, UPGRADED, closes, config, keeping, level, masked, message, nothing_is_left, put, request, says,
    server, server_of_defaults, talk_in_process,
};

fn open(config: Config, query: &str) -> (Conversation<WatchServer>, Handle) {
    let (conversation, handle) = talk_in_process(config);
    (conversation.client(request("GET", &format!("/v1/watch{query}"), UPGRADE)).server(UPGRADED), handle)
}

/// What a conversation about nothing but messages says.
fn exchange(said: &[(&str, &str)]) {
    let (mut conversation, _handle) = open(Config::default(), "");
    for (question, answer) in said {
        conversation = conversation.client(says(question)).server_bytes(message(answer));
    }
    conversation.end();
}

#[test]
fn the_watch_of_the_url_needs_no_id() {
    let (conversation, handle) = open(Config::default(), "?prefix=a");
    let mut sim = conversation
        .server_bytes(message(r#"{"type":"bookmark","revision":100}"#))
        .with(|sim, _| {
            put(sim, &handle, "a", "1");
        })
        .server_bytes(message(r#"{"type":"put","key":"a","revision":101,"createRevision":101,"value":"1"}"#))
        .wait_secs(26)
        .server_bytes(message(r#"{"type":"bookmark","revision":101}"#))
        .client(masked(Opcode::Close, &1000u16.to_be_bytes()))
        .server_bytes(closes(1000, ""))
        .server_ends()
        .client_ends()
        .end();
    nothing_is_left(&mut sim);
}

#[test]
fn the_watch_of_the_url_that_is_compacted_closes_with_4410() {
    let (conversation, _handle) = open(Config::default(), "?prefix=&since=7");
    conversation
        .server_bytes(message(r#"{"type":"compacted","revision":100}"#))
        .server_bytes(closes(4410, "compacted: list again"))
        .client(masked(Opcode::Close, &4410u16.to_be_bytes()))
        .server_ends()
        .end();
}

#[test]
fn operations_are_answered_with_their_id() {
    exchange(&[
        (r#"{"op":"put","id":1,"key":"a","value":"x"}"#, r#"{"id":1,"type":"result","revision":101}"#),
        (
            r#"{"op":"put","id":2,"key":"b","value64":"/w==","ifRevision":0}"#,
            r#"{"id":2,"type":"result","revision":102}"#,
        ),
        (
            r#"{"op":"put","id":3,"key":"b","value":"","ifRevision":0}"#,
            r#"{"id":3,"type":"error","status":412,"error":"the key exists","revision":102}"#,
        ),
        (
            r#"{"op":"put","id":3,"key":"b","value":"","ifRevision":7}"#,
            r#"{"id":3,"type":"error","status":412,"error":"the key is at another revision","revision":102}"#,
        ),
        (
            r#"{"op":"get","id":4,"key":"b"}"#,
            r#"{"id":4,"type":"result","key":"b","revision":102,"createRevision":102,"value64":"/w=="}"#,
        ),
        (
            r#"{"op":"list","id":5,"limit":1}"#,
            r#"{"id":5,"type":"result","revision":102,"items":[{"key":"a","revision":101,"createRevision":101,"value":"x"}],"continue":"102.a"}"#,
        ),
        (
            r#"{"op":"list","id":5,"prefix":"","continue":"102.a"}"#,
            r#"{"id":5,"type":"result","revision":102,"items":[{"key":"b","revision":102,"createRevision":102,"value64":"/w=="}]}"#,
        ),
        (
            r#"{"op":"list","id":5,"continue":"9.a"}"#,
            r#"{"id":5,"type":"error","status":410,"error":"the changes before revision 100 are no longer kept","revision":102}"#,
        ),
        (r#"{"op":"delete","id":6,"key":"a"}"#, r#"{"id":6,"type":"result","revision":103}"#),
        (
            r#"{"op":"delete","id":6,"key":"a"}"#,
            r#"{"id":6,"type":"error","status":404,"error":"no such key"}"#,
        ),
        (
            r#"{"op":"get","id":7,"key":"a"}"#,
            r#"{"id":7,"type":"error","status":404,"error":"no such key","revision":103}"#,
        ),
        (r#"{"op":"cancel","id":8}"#, r#"{"id":8,"type":"error","status":404,"error":"no such watch"}"#),
    ]);
}

#[test]
fn what_cannot_be_understood_is_answered_briefly() {
    let long = format!(r#"{{"op":"{}","id":1}}"#, "\u{7}".repeat(100).replace('\u{7}', "\\u0007"));
    let bytes = [request("GET", "/v1/watch", UPGRADE).as_bytes(), &says(&long)].concat();
    let answer = keepwatch_sim::replay(server_of_defaults(), &bytes, &[]).unwrap().bytes;
    assert!(answer.len() < UPGRADED.len() + 400, "{}", answer.escape_ascii());
    let refused = |id: &str, why: &str| format!(r#"{{{id}"type":"error","status":400,"error":"{why}"}}"#);
    let table = [
        ("[]", refused("", "a message is an object")),
        (r#"{"op":"get"}"#, refused("", "a message has an id")),
        (r#"{"op":"get","id":-1}"#, refused("", "id is a whole number, at most 2^53 - 1")),
        (r#"{"op":"get","id":9007199254740992}"#, refused("", "id is a whole number, at most 2^53 - 1")),
        (r#"{"id":1}"#, refused(r#""id":1,"#, "a message has an op")),
        (r#"{"id":1,"op":"get"}"#, refused(r#""id":1,"#, "a key is missing")),
        (r#"{"id":1,"op":"get","key":""}"#, refused(r#""id":1,"#, "a key cannot be empty")),
        (r#"{"id":1,"op":"get","key":"a","x":1}"#, refused(r#""id":1,"#, r#"there is no member \"x\" here"#)),
        (r#"{"id":1,"op":"put","key":"a"}"#, refused(r#""id":1,"#, "a put has either a value or a value64")),
        (r#"{"id":1,"op":"watch"}"#, refused(r#""id":1,"#, "a watch has either a key or a prefix")),
        (r#"{"id":1,"op":"watch","key":"a","since":-1}"#, refused(r#""id":1,"#, "since is a revision")),
        (r#"{"id":1,"op":"list","limit":0}"#, refused(r#""id":1,"#, "limit is a number of items, from 1")),
    ];
    for (question, answer) in table {
        exchange(&[(question, &answer)]);
    }
}

#[test]
fn a_value_over_the_limit_is_413() {
    let (conversation, _handle) = open(config(|config| config.value_bytes = 2), "");
    let refused = r#"{"id":1,"type":"error","status":413,"error":"a value has at most 2 bytes"}"#;
    conversation
        .client(says(r#"{"op":"put","id":1,"key":"a","value":"abc"}"#))
        .server_bytes(message(refused))
        .client(says(r#"{"op":"put","id":1,"key":"a","value64":"YWJj"}"#))
        .server_bytes(message(refused))
        .end();
}

#[test]
fn binary_messages_are_not_understood_and_end_the_connection() {
    let (conversation, _handle) = open(Config::default(), "?prefix=&since=100");
    let mut sim = conversation
        .server_bytes(message(r#"{"type":"bookmark","revision":100}"#))
        .client(masked(Opcode::Binary, b"x"))
        .server_bytes(closes(1003, "messages are text: JSON"))
        .client(masked(Opcode::Close, &1003u16.to_be_bytes()))
        .client_ends()
        .server_closes()
        .end();
    nothing_is_left(&mut sim);
}

#[test]
fn many_watches_share_a_connection_and_each_ends_alone() {
    let (conversation, handle) = open(keeping(2), "");
    let event = |id: u64, key: &str, revision: u64| {
        message(&format!(
            r#"{{"id":{id},"type":"put","key":"{key}","revision":{revision},"createRevision":{revision},"value":""}}"#
        ))
    };
    conversation
        .client(says(r#"{"op":"watch","id":1,"prefix":""}"#))
        .server_bytes(message(r#"{"id":1,"type":"watching","revision":100}"#))
        .client(says(r#"{"op":"watch","id":1,"key":"x"}"#))
        .server_bytes(message(
            r#"{"id":1,"type":"error","status":409,"error":"there is a watch with this id"}"#,
        ))
        .client(says(r#"{"op":"watch","id":2,"key":"b"}"#))
        .server_bytes(message(r#"{"id":2,"type":"watching","revision":100}"#))
        .with(|sim, _| {
            put(sim, &handle, "a", "");
        })
        .server_bytes(event(1, "a", 101))
        .with(|sim, _| {
            put(sim, &handle, "b", "");
            put(sim, &handle, "c", "");
        })
        .server_bytes(event(1, "b", 102))
        .server_bytes(event(2, "b", 102))
        .server_bytes(event(1, "c", 103))
        .client(says(r#"{"op":"cancel","id":1}"#))
        .server_bytes(message(r#"{"id":1,"type":"canceled"}"#))
        .client(says(r#"{"op":"watch","id":3,"key":"b","since":100}"#))
        .server_bytes(message(r#"{"id":3,"type":"compacted","revision":103}"#))
        .with(|sim, _| {
            put(sim, &handle, "d", "");
        })
        .silence()
        .wait_secs(26)
        .server_bytes(message(r#"{"id":2,"type":"bookmark","revision":104}"#))
        .end();
}

#[test]
fn a_watch_of_the_past_is_told_the_newest_revision_and_then_what_it_missed() {
    let (conversation, handle) = open(Config::default(), "");
    conversation
        .with(|sim, _| {
            put(sim, &handle, "a", "");
            put(sim, &handle, "b", "");
        })
        .client(says(r#"{"op":"watch","id":1,"key":"a","since":100}"#))
        .server_bytes(message(r#"{"id":1,"type":"watching","revision":102}"#))
        .server_bytes(message(
            r#"{"id":1,"type":"put","key":"a","revision":101,"createRevision":101,"value":""}"#,
        ))
        .server_bytes(message(r#"{"id":1,"type":"bookmark","revision":102}"#))
        .client(says(r#"{"op":"watch","id":2,"key":"a","since":7,"initial":true}"#))
        .server_bytes(message(r#"{"id":2,"type":"watching","revision":102}"#))
        .server_bytes(message(r#"{"id":2,"type":"compacted","revision":102}"#))
        .server_bytes(message(
            r#"{"id":2,"type":"put","key":"a","revision":101,"createRevision":101,"value":""}"#,
        ))
        .server_bytes(message(r#"{"id":2,"type":"bookmark","revision":102}"#))
        .end();
}

#[test]
fn a_watch_that_has_caught_up_says_so_once() {
    let (conversation, handle) = open(config(|config| config.websocket.ping_interval = None), "");
    let bookmark = |id: u64, revision: u64| {
        message(&format!(r#"{{"id":{id},"type":"bookmark","revision":{revision}}}"#))
    };
    conversation
        .with(|sim, _| {
            put(sim, &handle, "a", "");
        })
        // There is nothing between; nothing of it concerns the watch; or it is there already.
        .client(says(r#"{"op":"watch","id":1,"prefix":"","since":101}"#))
        .server_bytes(message(r#"{"id":1,"type":"watching","revision":101}"#))
        .server_bytes(bookmark(1, 101))
        .client(says(r#"{"op":"watch","id":2,"prefix":"b","since":100}"#))
        .server_bytes(message(r#"{"id":2,"type":"watching","revision":101}"#))
        .server_bytes(bookmark(2, 101))
        .client(says(r#"{"op":"watch","id":3,"prefix":"b"}"#))
        .server_bytes(message(r#"{"id":3,"type":"watching","revision":101}"#))
        .with(|sim, _| {
            put(sim, &handle, "c", "");
        })
        .server_bytes(message(
            r#"{"id":1,"type":"put","key":"c","revision":102,"createRevision":102,"value":""}"#,
        ))
        .wait_secs(26)
        .server_bytes([bookmark(1, 102), bookmark(2, 102), bookmark(3, 102)].concat())
        .end();
}

#[test]
fn a_first_watch_that_comes_late_is_not_reminded_at_once() {
    let (conversation, _handle) = open(config(|config| config.websocket.ping_interval = None), "");
    conversation
        .wait_secs(40)
        .client(says(r#"{"op":"watch","id":1,"prefix":""}"#))
        .server_bytes(message(r#"{"id":1,"type":"watching","revision":100}"#))
        .wait_secs(24)
        .silence()
        .wait_secs(2)
        .server_bytes(message(r#"{"id":1,"type":"bookmark","revision":100}"#))
        .end();
}

#[test]
fn watches_have_a_limit_on_each_connection() {
    let (conversation, _handle) = open(config(|config| config.watches = 1), "");
    conversation
        .client(says(r#"{"op":"watch","id":1,"prefix":""}"#))
        .server_bytes(message(r#"{"id":1,"type":"watching","revision":100}"#))
        .client(says(r#"{"op":"watch","id":2,"prefix":""}"#))
        .server_bytes(message(
            r#"{"id":2,"type":"error","status":429,"error":"too many watches on this connection"}"#,
        ))
        .end();
}

#[test]
fn writes_over_the_budget_wait_and_go_on() {
    let (server, _handle) = server(config(|config| config.writes = 2));
    let mut sim = Sim::new(server);
    let client = sim.connect();
    let mut all = request("GET", "/v1/watch", UPGRADE).into_bytes();
    for id in 0..50 {
        all.extend(says(&format!(r#"{{"op":"put","id":{id},"key":"k{id}","value":"v"}}"#)));
    }
    client.send(all);
    client.shutdown_write();
    sim.run().unwrap();
    let expected: Vec<u8> = (0..50)
        .flat_map(|id| message(&format!(r#"{{"id":{id},"type":"result","revision":{}}}"#, 101 + id)))
        .collect();
    let came = client.receive();
    assert!(came.windows(expected.len()).any(|window| window == expected), "{}", came.escape_ascii());
    nothing_is_left(&mut sim);
}

#[test]
fn nothing_of_a_watch_follows_the_word_that_it_is_canceled() {
    for window in (1..2000).step_by(13) {
        let (server, handle) = server(Config::default());
        let mut sim = Sim::new(server);
        for key in 0..40 {
            put(&mut sim, &handle, &format!("{key:02}"), "v".repeat(1000));
        }
        let client = sim.connect();
        client.window(window);
        client.read_limit(200);
        client.send(request("GET", "/v1/watch", UPGRADE));
        client.send(says(r#"{"op":"watch","id":1,"prefix":"","initial":true}"#));
        sim.run().unwrap();
        client.send(says(r#"{"op":"cancel","id":1}"#));
        client.send(says(r#"{"op":"get","id":2,"key":"none"}"#));
        sim.run().unwrap();
        client.read_limit(usize::MAX);
        sim.run().unwrap();
        let came = client.receive();
        let end = [
            message(r#"{"id":1,"type":"canceled"}"#),
            message(r#"{"id":2,"type":"error","status":404,"error":"no such key","revision":140}"#),
        ];
        assert!(
            came.ends_with(&end.concat()),
            "{window}: {}",
            came[came.len().saturating_sub(300)..].escape_ascii()
        );
    }
}

#[test]
fn a_close_follows_the_frame_that_was_begun_and_nothing_follows_it() {
    for window in (1..3000).step_by(37) {
        let (server, handle) = server(Config::default());
        let mut sim = Sim::new(server);
        for key in 0..40 {
            put(&mut sim, &handle, &format!("{key:02}"), "v".repeat(1000));
        }
        let client = sim.connect();
        client.window(window);
        client.read_limit(0);
        client.send(request("GET", "/v1/watch?prefix=&initial=true", UPGRADE));
        sim.run().unwrap();
        client.send(masked(Opcode::Binary, b"?"));
        sim.run().unwrap();
        client.read_limit(usize::MAX);
        sim.run().unwrap();
        let came = client.receive();
        let mut rest = &came[UPGRADED.len()..];
        let close = closes(1003, "messages are text: JSON");
        while rest != close {
            assert_eq!((rest[0], rest[1]), (0x81, 126), "{window}: {}", rest[..20].escape_ascii());
            rest = &rest[4 + usize::from(u16::from_be_bytes([rest[2], rest[3]]))..];
        }
    }
}

#[test]
fn frames_glued_to_the_handshake_are_read_at_every_split() {
    let mut bytes = request("GET", "/v1/watch", UPGRADE).into_bytes();
    bytes.extend(masked(Opcode::Ping, b"hi"));
    bytes.extend(says(r#"{"op":"put","id":1,"key":"a","value":"x"}"#));
    bytes.extend(says(r#"{"op":"get","id":2,"key":"a"}"#));
    bytes.extend(says(r#"{"op":"delete","id":3,"key":"a"}"#));
    bytes.extend(masked(Opcode::Close, &1000u16.to_be_bytes()));
    assert!(every_split(server_of_defaults, &bytes).bytes.ends_with(&closes(1000, "")));
}

#[test]
fn a_silent_peer_is_pinged_and_then_given_up() {
    let mut sim = Sim::new(server_of_defaults());
    let client = sim.connect();
    client.send(request("GET", "/v1/watch", UPGRADE));
    sim.advance(Duration::from_secs(120)).unwrap();
    let came = client.receive();
    let end = [&[0x89, 0], &*closes(1011, "no pong")].concat();
    assert!(came.ends_with(&end), "{}", came.escape_ascii());
    nothing_is_left(&mut sim);
}

#[test]
fn a_silent_peer_is_given_up_though_each_bookmark_is_more_than_the_mark() {
    let mut config = SimConfig::default();
    config.driver.output_mark = 16;
    let watch = self::config(|config| config.heartbeat = Duration::from_secs(9));
    let mut sim = Sim::with_config(server(watch).0, config);
    let client = sim.connect();
    client.send(request("GET", "/v1/watch?prefix=", UPGRADE));
    sim.advance(Duration::from_secs(120)).unwrap();
    assert!(client.is_closed());
    nothing_is_left(&mut sim);
}

#[test]
fn a_silent_peer_that_reads_slowly_is_idle_all_the_same() {
    let config = config(|config| {
        config.websocket.ping_interval = Some(Duration::from_secs(10));
        config.websocket.idle_timeout = Some(Duration::from_secs(60));
    });
    let (server, handle) = server(config);
    let mut sim = Sim::new(server);
    let client = sim.connect();
    client.send(request("GET", "/v1/watch?prefix=", UPGRADE));
    sim.run().unwrap();
    client.window(1024);
    client.read_limit(0);
    put(&mut sim, &handle, "a", "x".repeat(100_000));
    for _ in 0..59 {
        client.read_limit(100);
        sim.advance(Duration::from_secs(1)).unwrap();
    }
    assert_eq!(level(&mut sim, "keepwatch_watchers"), 1);
    sim.advance(Duration::from_secs(3)).unwrap();
    assert_eq!(level(&mut sim, "keepwatch_watchers"), 0);
}

#[test]
fn a_peer_whose_questions_are_not_taken_yet_is_not_idle() {
    let (server, handle) =
        server(config(|config| config.websocket.idle_timeout = Some(Duration::from_secs(60))));
    let mut sim = Sim::new(server);
    let client = sim.connect();
    client.send(request("GET", "/v1/watch", UPGRADE));
    put(&mut sim, &handle, "a", "x".repeat(200_000));
    client.window(1024);
    client.read_limit(0);
    client.send(says(r#"{"op":"get","id":1,"key":"a"}"#).repeat(10));
    for _ in 0..70 {
        client.read_limit(100);
        sim.advance(Duration::from_secs(1)).unwrap();
    }
    client.read_limit(usize::MAX);
    client.window(10_000_000);
    sim.advance(Duration::from_secs(1)).unwrap();
    assert!(client.received() > 2_000_000, "{}", client.received());
}
