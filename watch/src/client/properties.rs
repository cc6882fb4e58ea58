//! What a server shows, a client understands; and what it keeps of it is what is true, whatever ends a connection.

use std::sync::Arc;
use std::time::Duration;

use keepwatch_protocol::websocket::{self, Role};
use keepwatch_protocol::{Input, Instant, Now, sse};
use keepwatch_sim::cuts;
use proptest::prelude::*;
use proptest::sample::select;

use super::backoff::Retry;
use super::config::{Backoff, ClientConfig, ClientLimits};
use super::cursor::Cursor;
use super::event::{Item, Transport};
use super::lines::{LineTooLong, Lines};
use super::parse::{Told, answer, error_revision, event, page};
use super::routes::Routes;
use crate::change::Change;
use crate::key::{Key, Revision};
use crate::shapes::{self, Notice, continue_token, put_item_members};
use crate::surface::{Look, WatchId, chunk_payload};

fn revision(number: u64) -> Revision {
    Revision::new(number).unwrap()
}

fn texts() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "([a-c/\"\\\\]|[\u{0}-\u{1f}]|\r\n|\u{2028}|\u{10ffff}){1,9}"]
}

fn changes() -> impl Strategy<Value = Change> {
    let value = prop_oneof![
        3 => texts().prop_map(|text| Some(text.into_bytes())),
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Some),
        1 => Just(None),
    ];
    let key = texts().prop_filter_map("a key", |text| Key::new(&text, 1024).ok());
    (key, value, any::<(u64, u64)>()).prop_map(|(key, value, (a, b))| {
        let [a, b] = [a, b].map(|number| number % (1 << 53));
        Change { key, value: value.map(Arc::from), revision: revision(a.max(b)), created: revision(a.min(b)) }
    })
}

/// What a change is to who hears of it.
fn told(change: &Change) -> Told {
    match &change.value {
        None => Told::Deleted { key: change.key.clone(), revision: change.revision },
        Some(_) => Told::Put(item(change)),
    }
}

fn item(change: &Change) -> Item {
    let value = change.value.as_deref().unwrap_or_default().to_vec();
    Item { key: change.key.clone(), value, revision: change.revision, created: Some(change.created) }
}

fn looks() -> impl Strategy<Value = Look> {
    prop_oneof![
        any::<bool>().prop_map(|bare| Look::Lines { bare }),
        any::<bool>().prop_map(|bare| Look::Events { bare }),
        Just(Look::Messages),
        (0..1_u64 << 53).prop_map(|watch| Look::Numbered(WatchId::new(watch))),
        Just(Look::Compressed { window_bits: 15 }),
    ]
}

/// The JSON in a frame that looks like this, and the id of its server-sent event.
fn unframed(look: Look, frame: &[u8]) -> (Vec<u8>, Option<String>) {
    let payload = if look.is_bare() { frame } else { &frame[chunk_payload(frame)] };
    match look {
        Look::Lines { .. } => (payload.strip_suffix(b"\n").unwrap().to_vec(), None),
        Look::Events { .. } => {
            let (mut decoder, mut payload) = (sse::Decoder::new(usize::MAX), payload.to_vec());
            let mut input = Input::new(&mut payload);
            let event = decoder.decode(&mut input).unwrap().unwrap();
            assert!(input.is_empty(), "it is one event");
            (event.data.unwrap_or_default().as_bytes().to_vec(), event.id.map(str::to_owned))
        }
        Look::Messages | Look::Numbered(_) | Look::Compressed { .. } => {
            let mut client = websocket::Connection::new(Role::Client, Arc::default(), 1, Now::default());
            let (mut frame, mut message) = (frame.to_vec(), Vec::new());
            let mut input = Input::new(&mut frame);
            while let websocket::Event::Data { bytes, .. } =
                client.recv(&mut input, &mut Vec::new(), Now::default()).unwrap()
            {
                message.extend_from_slice(&bytes);
            }
            assert!(input.is_empty(), "it is one message");
            (message, None)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_look_of_the_state_is_understood(change in changes(), look in looks()) {
        let mut frame = Vec::new();
        look.put_initial(&change, &mut frame);
        let (json, id) = unframed(look, &frame);
        prop_assert_eq!(event(&json, &ClientLimits::default()), Ok(told(&change)));
        prop_assert_eq!(id, None, "there is nothing yet to go on from");
        let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let watch = value.get("id").and_then(serde_json::Value::as_u64).map(WatchId::new);
        prop_assert_eq!(watch, if let Look::Numbered(watch) = look { Some(watch) } else { None });
    }

    #[test]
    fn each_look_of_a_notice_is_understood(number in 0..1_u64 << 53, kind in 0..3_usize, look in looks()) {
        let at = revision(number);
        let (notice, meant) = [
            (Notice::Bookmark(at), Told::Bookmark(at)), (Notice::Compacted(at), Told::Compacted(at)), (Notice::Watching(at), Told::Other),
        ].into_iter().nth(kind).unwrap();
        let mut frame = Vec::new();
        look.put_notice(notice, &mut frame);
        let (json, id) = unframed(look, &frame);
        if let (Look::Events { .. }, Notice::Bookmark(_)) = (look, notice) {
            prop_assert_eq!((json, id), (Vec::new(), Some(number.to_string())), "an id alone");
            return Ok(());
        }
        prop_assert_eq!(event(&json, &ClientLimits::default()), Ok(meant));
        prop_assert_eq!(id, look.has_ids().then(|| number.to_string()));
    }

    #[test]
    fn pages_and_answers_and_errors_are_understood(changes in prop::collection::vec(changes(), 0..4), number in 0..1_u64 << 53, more: bool) {
        let at = revision(number);
        let (mut items, mut events) = (Vec::new(), Vec::new());
        for change in &changes {
            items.push(b'{');
            put_item_members(change, &mut items);
            items.push(b',');
            events.push(b'{');
            shapes::put_event_members(change, &mut events);
            events.push(b',');
        }
        let list = |name: &str, members: &[u8]| {
            let members = members.strip_suffix(b",").unwrap_or(members);
            [format!("{{\"revision\":{number},\"{name}\":[").as_bytes(), members, b"]"].concat()
        };
        let mut json = list("items", &items);
        let token = changes.last().filter(|_| more).map(|last| continue_token(at, &last.key));
        if let Some(token) = &token {
            json.extend_from_slice(b",\"continue\":");
            shapes::put_string(token, &mut json);
        }
        json.push(b'}');
        let seen = page(&json, &ClientLimits::default()).unwrap();
        prop_assert_eq!((seen.revision, seen.items, seen.token), (at, changes.iter().map(item).collect(), token));
        let seen = answer(&[&list("events", &events)[..], b"}"].concat(), &ClientLimits::default()).unwrap();
        prop_assert_eq!((seen.revision, seen.events), (at, changes.iter().map(told).collect()));
        prop_assert_eq!(error_revision(&shapes::error("why", Some(at))), Ok(at));
    }

    #[test]
    fn no_json_is_too_strange(text in "[\\[\\]{}\",:0-9a-z\\\\]{0,40}", name in select(vec!["put", "delete", "bookmark", "compacted"])) {
        let limits = ClientLimits::default();
        for json in [text.clone(), format!("{{\"type\":\"{name}\",\"key\":\"a\",{text}}}")] {
            // What is understood has a revision of its own; and nothing panics.
            if let Ok(Told::Put(Item { revision, created, .. })) = event(json.as_bytes(), &limits) {
                prop_assert!(created.is_some_and(|created| created <= revision));
            }
            let _any = (page(json.as_bytes(), &limits), answer(json.as_bytes(), &limits), error_revision(json.as_bytes()));
        }
    }

    #[test]
    fn lines_are_what_stands_between_their_ends(
        text in "([a-c]|\n){0,40}", limit in 0_usize..8, sizes in cuts::sizes(),
    ) {
        let (mut lines, mut seen, mut error) = (Lines::default(), Vec::new(), None);
        'all: for mut part in cuts::by(text.as_bytes(), &sizes) {
            loop {
                match lines.next(&mut part, limit, <[u8]>::to_vec) {
                    Ok(Some(line)) => seen.push(line),
                    Ok(None) => break,
                    Err(too_long) => {
                        error = Some(too_long);
                        break 'all;
                    }
                }
            }
            prop_assert!(part.is_empty());
        }
        let all: Vec<&str> = text.split('\n').collect();
        let fit = all.iter().take_while(|line| line.len() <= limit).count();
        let whole = fit.min(all.len() - 1); // what is behind the last end is no line
        prop_assert_eq!(seen, all[..whole].iter().map(|line| line.as_bytes().to_vec()).collect::<Vec<_>>());
        prop_assert_eq!(error, (fit < all.len()).then_some(LineTooLong));
    }

    /// Commits of several changes, and connections that end anywhere in them.
    #[test]
    fn a_cursor_tells_each_change_once_wherever_connections_end(
        commits in prop::collection::vec((1..4_u64, 1..4_usize), 0..8),
        connections in prop::collection::vec((0..12_usize, any::<bool>()), 0..8),
    ) {
        let (mut at, mut history) = (10, Vec::new());
        for (gap, changes) in commits {
            at += gap;
            history.extend(std::iter::repeat_n(revision(at), changes));
        }
        let mut cursor = Cursor::at(revision(10));
        let mut told = Vec::new();
        // The last one does not end.
        for (changes, bookmark) in connections.into_iter().chain([(usize::MAX, true)]) {
            cursor.resume();
            prop_assert!(told.iter().filter(|change| **change <= cursor.since()).count() <= told.len());
            let behind: Vec<_> = history.iter().filter(|change| **change > cursor.since()).collect();
            for change in behind.iter().take(changes) {
                if cursor.change(**change) == Ok(true) {
                    told.push(**change);
                }
            }
            if bookmark && changes >= behind.len() {
                let last = history.last().copied().unwrap_or(revision(10));
                cursor.bookmark(last).unwrap();
                prop_assert!(cursor.is_at(last));
                prop_assert_eq!(cursor.since(), last);
            }
            prop_assert!(history.starts_with(&told));
        }
        prop_assert_eq!(told, history);
    }

    #[test]
    fn a_wait_is_drawn_up_to_a_limit_that_doubles(
        seed: u64, first in 0..5000_u64, most in 0..60_000_u64, asks in prop::collection::vec(prop::option::of(0..90_000_u64), 1..70),
    ) {
        let millis = Duration::from_millis;
        let config = Backoff { first: millis(first), most: millis(most), asked: millis(30_000), lasting: millis(10) };
        let (mut retry, mut same) = (Retry::new(seed), Retry::new(seed));
        let mut longest = u128::from(first);
        for asked in asks {
            let asked = asked.map(millis).unwrap_or_default();
            let wait = retry.failed(&config, asked);
            prop_assert_eq!(wait, same.failed(&config, asked), "the seed says all");
            let asked = asked.min(config.asked);
            prop_assert!(wait >= asked && wait.saturating_sub(asked).as_millis() <= longest.min(u128::from(most)));
            longest = longest.saturating_mul(2);
        }
    }

    #[test]
    fn the_route_is_the_first_that_is_not_put_aside(
        count in 1..6_usize,
        strikes in 1..4_u8,
        steps in prop::collection::vec((0..4, 0..1500_u64), 0..30),
    ) {
        let all = [Transport::WebSocket, Transport::ServerSentEvents, Transport::Lines, Transport::LongPoll, Transport::ShortPoll];
        let all = &all[..count];
        let config = ClientConfig { aside: Duration::from_secs(1), strikes, ..ClientConfig::default() };
        let mut routes = Routes::new(all);
        // Until when each is put aside, and how often it was cut off.
        let (mut until, mut cut) = (vec![0; count], vec![0_u8; count]);
        let (mut now, mut told) = (0, None);
        for (what, millis) in steps {
            let at = Instant::from_millis(now);
            let open = |until: &[u64]| until.iter().position(|until| *until <= now).unwrap_or(count - 1);
            let chosen = open(&until);
            prop_assert_eq!(routes.next(at), all[chosen]);
            prop_assert_eq!(routes.choose(at), (all[chosen], told != Some(chosen)));
            told = Some(chosen);
            match what {
                0 => {
                    routes.good();
                    cut[chosen] = 0;
                }
                1 => {
                    routes.strike(&config, at);
                    cut[chosen] = cut[chosen].saturating_add(1);
                    if cut[chosen] >= strikes && chosen + 1 < count {
                        until[chosen] = now + 1000;
                    }
                }
                2 => {
                    prop_assert_eq!(routes.refused(&config, at), chosen + 1 < count);
                    if chosen + 1 < count {
                        until[chosen] = now + 1000;
                    }
                }
                _ => {}
            }
            now += millis;
        }
    }
}
