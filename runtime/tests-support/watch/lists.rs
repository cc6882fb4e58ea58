//! Lists.

use serde_json::{Value, json};

use super::process::Process;
use super::watcher::{Transport, Watch, revision_of, value_of};

#[test]
fn a_list_has_the_keys_of_the_prefix_in_order() {
    let server = Process::start();
    let mut client = server.connect();
    let c = client.put("app/c", "3");
    let a = client.put("app/a", b"\xff\x00");
    client.put("apple", "no");
    client.put("ap", "no");
    let c2 = client.put("app/c", "4");
    let revision = client.put("app0", "no");
    let list = client.get("/v1/kv?prefix=app/");
    let items = json!([
        {"key": "app/a", "revision": a, "createRevision": a, "value64": "/wA="},
        {"key": "app/c", "revision": c2, "createRevision": c, "value": "4"},
    ]);
    assert_eq!(list.json(), json!({"revision": revision, "items": items}));
    assert_eq!(client.get("/v1/kv?prefix=none/").json()["items"], json!([]));
}

#[test]
fn pages_stay_at_one_revision_while_writes_happen() {
    let server = Process::start();
    let mut client = server.connect();
    let before: Vec<(String, String)> =
        (0..10).map(|n| (format!("app/{n}"), format!("before {n}"))).collect();
    for (key, value) in &before {
        client.put(key, value);
    }
    let revision = client.revision();
    let mut listed = Vec::new();
    let mut target = "/v1/kv?prefix=app/&limit=3".to_owned();
    for turn in 0.. {
        let page = client.get(&target).json();
        assert_eq!(page["revision"], revision);
        for item in page["items"].as_array().unwrap() {
            let value = String::from_utf8(value_of(item)).unwrap();
            listed.push((item["key"].as_str().unwrap().to_owned(), value));
        }
        // What is behind the page is deleted, replaced and made anew.
        client.delete(&format!("app/{}", 9 - turn));
        client.put("app/4", format!("after {turn}"));
        client.put(&format!("app/5{turn}"), "new");
        let Some(next) = page["continue"].as_str() else { break };
        assert_eq!(page["items"].as_array().unwrap().len(), 3);
        target = format!("/v1/kv?prefix=app/&limit=3&continue={next}");
    }
    assert_eq!(listed, before);
}

#[test]
fn a_watch_since_a_list_misses_and_repeats_nothing() {
    let server = Process::start();
    let mut client = server.connect();
    client.put("app/a", "1");
    let listed = client.get("/v1/kv?prefix=app/").revision();
    let later = [client.put("app/b", "2"), client.delete("app/a"), client.put("app/a", "3")];
    for transport in Transport::ALL {
        let mut watcher = server.watch(transport, &Watch { since: Some(listed), ..Watch::of("app/") });
        let seen = [(); 3].map(|()| revision_of(&watcher.change()));
        assert_eq!(seen, later, "{transport:?}");
    }
}

#[test]
fn a_page_has_a_size_even_if_it_has_no_limit() {
    let server = Process::start();
    let mut client = server.connect();
    let value = "v".repeat(300 << 10);
    for n in 0..8 {
        client.put(&format!("app/{n}"), &value);
    }
    let mut keys = Vec::new();
    let mut target = "/v1/kv?prefix=app/".to_owned();
    let mut pages = 0;
    loop {
        let page = client.get(&target).json();
        pages += 1;
        keys.extend(page["items"].as_array().unwrap().iter().map(|item| {
            assert_eq!(value_of(item), value.as_bytes());
            item["key"].as_str().unwrap().to_owned()
        }));
        let Value::String(next) = &page["continue"] else { break };
        target = format!("/v1/kv?prefix=app/&continue={next}");
    }
    assert!((2..8).contains(&pages), "{pages}");
    assert_eq!(keys, (0..8).map(|n| format!("app/{n}")).collect::<Vec<_>>());
}

#[test]
fn a_list_at_a_revision_that_is_gone_or_ahead_is_410() {
    let server = Process::start();
    let mut client = server.connect();
    let revision = client.put("a", "1");
    for at in [1, revision + 1000] {
        let refused = client.get(&format!("/v1/kv?continue={at}.a"));
        assert_eq!((refused.refused(), refused.revision()), (410, revision));
    }
}

#[test]
fn what_a_list_does_not_have_is_refused() {
    let server = Process::start();
    let mut client = server.connect();
    for query in
        ["limit=0", "limit=-1", "limit=x", "limit=", "continue=x", "continue=.a", "continue=1.", "page=2"]
    {
        assert_eq!(client.get(&format!("/v1/kv?{query}")).refused(), 400, "{query}");
    }
}
