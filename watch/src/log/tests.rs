//! The log by itself.

use super::*;
use crate::encoding::Encoder;
use crate::key::Key;

struct Line;

impl Encoder for Line {
    fn encode(&self, change: &Change, _: bool, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("{} {}\n", change.key, change.revision).as_bytes());
    }
}

fn revision(number: u64) -> Revision {
    Revision::new(number).unwrap()
}

fn at(number: u64) -> Position {
    Position::new(number)
}

fn batch(first: u64, revisions: &[u64]) -> Arc<Batch> {
    let change = |&number: &u64| Change {
        key: Key::new("k", 8).unwrap(),
        revision: revision(number),
        created: revision(number),
        value: None,
    };
    Arc::new(Batch::new(at(first), revisions.iter().map(change).collect()).unwrap())
}

/// A log that starts at position 0 and revision 100, with these commits in it.
fn log(limits: LogLimits, batches: &[&[u64]]) -> (Log, EncodingId) {
    let mut encodings = Encodings::new();
    let line = encodings.register(Arc::new(Line)).unwrap();
    let mut log = Log::new(Position::START, revision(100), encodings, limits);
    for revisions in batches {
        log.push(batch(log.head().as_u64(), revisions)).unwrap();
        while log.trim().is_some() {}
    }
    (log, line)
}

fn keep(changes: usize) -> LogLimits {
    LogLimits { changes, ..LogLimits::default() }
}

#[test]
fn the_default_limits_are_those_that_are_documented() {
    let limits = LogLimits { bytes: 67_108_864, changes: 1_000_000, age: None, encoded_bytes: 67_108_864 };
    assert_eq!(LogLimits::default(), limits);
}

#[test]
fn a_watch_starts_at_the_first_change_of_a_greater_revision() {
    let (log, _) = log(LogLimits::default(), &[&[110, 110, 120], &[130]]);
    for (since, position) in [(100, 0), (109, 0), (110, 2), (119, 2), (120, 3), (129, 3), (130, 4)] {
        assert_eq!(log.position_after(revision(since)), Ok(at(position)), "since {since}");
    }
}

#[test]
fn a_watch_from_before_the_log_is_compacted_and_one_from_after_it_is_ahead() {
    let (log, _) = log(LogLimits::default(), &[&[110]]);
    assert_eq!(log.position_after(revision(99)), Err(RevisionError::Compacted { floor: revision(100) }));
    assert_eq!(log.position_after(revision(111)), Err(RevisionError::Ahead { current: revision(110) }));
}

#[test]
fn an_empty_log_answers_its_one_revision() {
    let (log, _) = log(LogLimits::default(), &[]);
    assert_eq!(log.position_after(revision(100)), Ok(at(0)));
    assert!(log.position_after(revision(99)).is_err());
    assert!(log.position_after(revision(101)).is_err());
    assert_eq!(log.changes(at(0)).unwrap().count(), 0);
}

#[test]
fn whole_batches_leave_and_the_floor_goes_with_them() {
    let (log, _) = log(keep(3), &[&[101, 102], &[103, 104], &[105]]);
    assert_eq!((log.floor(), log.floor_revision()), (at(2), revision(102)));
    assert_eq!(log.position_after(revision(102)), Ok(at(2)));
    assert!(log.position_after(revision(101)).is_err());
    assert!(log.change(at(1)).is_none() && log.batch(at(1)).is_none());
}

#[test]
fn the_newest_batch_stays_whatever_its_size() {
    let limits = LogLimits { bytes: 1, changes: 1, age: Some(Duration::ZERO), encoded_bytes: 0 };
    let (log, _) = log(limits, &[&[101], &[102, 103, 104]]);
    assert_eq!((log.floor(), log.head()), (at(1), at(4)));
}

#[test]
fn bytes_are_those_of_the_batches_that_are_left() {
    let one = batch(0, &[101]).bytes();
    let (log, _) = log(LogLimits { bytes: 2 * one, ..keep(1000) }, &[&[101], &[102], &[103], &[104]]);
    assert_eq!((log.bytes(), log.floor()), (2 * one, at(2)));
}

#[test]
fn changes_come_with_their_positions_from_any_kept_one_on() {
    let (log, _) = log(keep(4), &[&[101], &[102, 102], &[103, 104]]);
    let from = |from| {
        let changes = log.changes(at(from))?;
        Some(changes.map(|(at, change)| (at.as_u64(), change.revision.as_u64())).collect::<Vec<_>>())
    };
    assert_eq!(from(0), None);
    assert_eq!(from(1), Some(vec![(1, 102), (2, 102), (3, 103), (4, 104)]));
    assert_eq!(from(2), Some(vec![(2, 102), (3, 103), (4, 104)]));
    assert_eq!(from(4), Some(vec![(4, 104)]));
    assert_eq!(from(5), Some(vec![]));
    assert_eq!(from(6), None);
}

#[test]
fn only_the_last_change_of_a_revision_ends_its_commit() {
    let (log, _) = log(LogLimits::default(), &[&[101, 102, 102], &[103]]);
    let ends: Vec<_> = (0..5).map(|position| log.ends_commit(at(position))).collect();
    assert_eq!(ends, [true, false, true, true, false]);
}

#[test]
fn a_batch_that_is_not_the_next_one_is_refused() {
    let (mut log, _) = log(LogLimits::default(), &[&[101]]);
    assert_eq!(log.push(batch(2, &[102])), Err(PushError::Position { expected: at(1) }));
    assert_eq!(log.push(batch(0, &[102])), Err(PushError::Position { expected: at(1) }));
    assert_eq!(log.push(batch(1, &[101])), Err(PushError::Revision { current: revision(101) }));
    assert_eq!((log.head(), log.revision()), (at(1), revision(101)));
}

#[test]
fn what_is_too_old_leaves_but_the_newest() {
    let age = Duration::from_secs(10);
    let (mut log, _) = log(LogLimits { age: Some(age), ..LogLimits::default() }, &[&[101]]);
    let seconds = |seconds| Instant::from_millis(seconds * 1000);
    assert_eq!(log.next_too_old(), None);
    for (second, number) in [(5, 102), (6, 103)] {
        log.set_time(seconds(second));
        log.push(batch(log.head().as_u64(), &[number])).unwrap();
        assert!(log.trim().is_none());
    }
    for (at, next, floor) in
        [(9, 10, 100), (10, 15, 101), (14, 15, 101), (15, u64::MAX, 102), (99, u64::MAX, 102)]
    {
        log.set_time(seconds(at));
        while log.trim().is_some() {}
        let next = (next != u64::MAX).then(|| seconds(next));
        assert_eq!((log.next_too_old(), log.floor_revision().as_u64()), (next, floor), "{at}");
    }
}

#[test]
fn a_frame_is_there_once_its_batch_is_encoded() {
    let (mut log, line) = log(LogLimits::default(), &[&[101, 102]]);
    assert!(log.encoded(at(1), line).is_none());
    let (encoded, index) = log.encode(at(0), line).unwrap();
    assert_eq!((&**encoded.bytes(), index), (&b"k 101\nk 102\n"[..], 0));
    let (encoded, index) = log.encoded(at(1), line).unwrap();
    assert_eq!(encoded.frame_bytes(index), b"k 102\n");
    assert!(log.encode(at(2), line).is_none());
}

#[test]
fn an_encoding_that_was_not_registered_has_no_frames() {
    let mut other = Encodings::new();
    other.register(Arc::new(Line)).unwrap();
    let unknown = other.register(Arc::new(Line)).unwrap();
    let (mut log, _) = log(LogLimits::default(), &[&[101]]);
    assert!(log.encode(at(0), unknown).is_none());
}

#[test]
fn encodings_over_their_limit_are_dropped_from_the_oldest_on_and_made_again_equal() {
    let (mut log, line) = log(LogLimits::default(), &[&[101], &[102], &[103]]);
    let mut made = Vec::new();
    // The newest first: what counts is the age of the batch, not when it was encoded.
    for position in [2, 1, 0] {
        made.push(log.encode(at(position), line).unwrap().0.bytes().to_vec());
    }
    let all = log.encoded_bytes();
    log.limits.encoded_bytes = all;
    assert_eq!(log.drop_encodings(), 0, "they fit");
    log.limits.encoded_bytes = all - 1;
    assert_eq!(log.drop_encodings(), all / 3);
    assert_eq!(log.encoded_bytes(), all / 3 * 2);
    assert!(log.encoded(at(0), line).is_none());
    assert!(log.encoded(at(1), line).is_some() && log.encoded(at(2), line).is_some());
    assert_eq!(&**log.encode(at(0), line).unwrap().0.bytes(), &*made[2]);
    assert_eq!(log.encoded_bytes(), all);
}

#[test]
fn in_the_middle_of_a_turn_encodings_are_dropped_when_they_are_twice_their_limit_and_the_last_are_kept() {
    let (mut log, line) = log(LogLimits::default(), &[&[101], &[102], &[103]]);
    for position in 0..3 {
        log.encode(at(position), line).unwrap();
    }
    let one = log.encoded_bytes() / 3;
    for (limit, left) in [(3 * one, 3), (one + one / 2, 3), (one, 1), (0, 1)] {
        log.limits.encoded_bytes = limit;
        log.drop_most_encodings();
        assert_eq!(log.encoded_bytes(), left * one, "{limit}");
    }
    assert!(log.encoded(at(2), line).is_some());
}

#[test]
fn a_large_encoding_leaves_no_large_buffer() {
    let large: Vec<_> = (101..20_000).collect();
    let (mut log, line) = log(LogLimits::default(), &[&large]);
    assert!(log.encode(at(0), line).unwrap().0.bytes().len() > SCRATCH_KEPT);
    assert!((1..=SCRATCH_KEPT).contains(&log.scratch.capacity()), "{}", log.scratch.capacity());
}

#[test]
fn a_push_drops_encodings_over_the_limit() {
    let (mut log, line) = log(LogLimits { encoded_bytes: 1, ..LogLimits::default() }, &[&[101]]);
    log.encode(at(0), line).unwrap();
    assert!(log.encoded_bytes() > 1);
    log.push(batch(1, &[102])).unwrap();
    assert!(log.trim().is_none());
    assert_eq!(log.encoded_bytes(), 0);
}

#[test]
fn bytes_taken_from_an_encoding_outlive_the_batch() {
    let (mut log, line) = log(keep(1), &[&[101]]);
    let pin = {
        let (encoded, index) = log.encode(at(0), line).unwrap();
        (Arc::clone(encoded.bytes()), encoded.frame(index))
    };
    log.push(batch(1, &[102])).unwrap();
    let trimmed = log.trim().unwrap();
    assert_eq!(log.encoded_bytes(), 0);
    drop(trimmed);
    assert_eq!(Arc::strong_count(&pin.0), 1);
    assert_eq!(&pin.0[pin.1], b"k 101\n");
}

#[test]
fn what_one_machine_drops_another_keeps() {
    let (mut a, line) = log(LogLimits::default(), &[]);
    let mut b = Log::new(Position::START, revision(100), a.encodings.clone(), LogLimits::default());
    let shared = batch(0, &[101]);
    a.push(Arc::clone(&shared)).unwrap();
    b.push(shared).unwrap();
    let made = Arc::clone(a.encode(at(0), line).unwrap().0);
    assert!(Arc::ptr_eq(&made, b.encode(at(0), line).unwrap().0), "made once for both");
    a.limits.encoded_bytes = 0;
    a.drop_encodings();
    assert!(a.encoded(at(0), line).is_none());
    assert!(Arc::ptr_eq(&made, b.encoded(at(0), line).unwrap().0));
    assert!(Arc::ptr_eq(&made, a.encode(at(0), line).unwrap().0), "found again, not made again");
}
