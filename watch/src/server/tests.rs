use super::core::{Farewells, Ready};
use super::*;

#[test]
fn what_a_connection_too_many_is_sent_is_as_long_as_it_says() {
    let text = std::str::from_utf8(FULL).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())));
}

#[test]
fn farewells_lie_within_their_span() {
    let (from, span) = (Instant::from_millis(1000), std::time::Duration::from_millis(500));
    let farewells = Farewells::new(from, span);
    let mut times: Vec<_> = (0..1000).map(|slot| farewells.at(ConnectionId::new(slot, 0))).collect();
    assert!(times.iter().all(|at| (from..=from + span).contains(at)));
    times.sort_unstable();
    let widest = times.windows(2).map(|pair| pair[1].since(pair[0])).max();
    assert!(widest < Some(std::time::Duration::from_millis(3)), "{widest:?}");
}

/// What a held watcher costs in every table that has a place for it. A million times each of these bytes is a megabyte.
#[test]
fn what_is_kept_of_each_connection_is_small() {
    use super::connection::{Activity, Connection, Protocol};
    use super::demo::{Count, Hello};
    use super::stream::{Feed, Held, Stream};
    use super::websocket::Socket;

    assert_eq!(size_of::<Option<Connection>>(), 160);
    assert_eq!((size_of::<Protocol>(), size_of::<Activity>()), (72, 48));
    // Of which the activity is one.
    assert_eq!((size_of::<Held>(), size_of::<Stream>(), size_of::<Socket>()), (40, 40, 40));
    assert_eq!((size_of::<Hello>(), size_of::<Count>()), (24, 32));
    // What a WebSocket has for each watch beyond the first.
    assert_eq!(size_of::<Feed>(), 24);
}

fn popped(ready: &mut Ready) -> Vec<u32> {
    std::iter::from_fn(|| ready.pop()).collect()
}

#[test]
fn replies_take_turns_with_all_others() {
    let mut ready = Ready::default();
    for slot in 0..4 {
        ready.push(slot);
    }
    for slot in 10..13 {
        ready.push_replied(slot);
    }
    assert_eq!(popped(&mut ready), [10, 0, 11, 1, 12, 2, 3]);
}

#[test]
fn who_gets_a_reply_while_it_waits_with_the_others_comes_once_and_sooner() {
    let mut ready = Ready::default();
    for slot in 0..4 {
        ready.push(slot);
    }
    ready.push_replied(3);
    ready.push_replied(3);
    ready.push(3);
    assert_eq!(popped(&mut ready), [3, 0, 1, 2]);
    ready.push(3);
    assert_eq!(popped(&mut ready), [3]);
}
