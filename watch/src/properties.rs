//! What names things, what frames are kept as, and the room behind `/hello`, for every input.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::change::Change;
use crate::encoding::{Encoded, Encoder};
use crate::index::Filter;
use crate::key::{Key, KeyError, Position, Revision};
use crate::room::{Missed, Room};

struct KeyLine;

impl Encoder for KeyLine {
    fn encode(&self, change: &Change, ends_commit: bool, out: &mut Vec<u8>) {
        out.extend_from_slice(change.key.as_bytes());
        out.extend_from_slice(if ends_commit { b".\n" } else { b"\n" });
    }
}

#[derive(Clone, Debug)]
enum Step {
    Say(usize),
    Poll(usize),
    /// A reader comes to a machine, and reads what is said from then on.
    Read(usize),
    Look(usize),
    /// A machine comes, or goes.
    Join,
    Leave(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4_usize).prop_map(Step::Say),
        3 => (0..4_usize).prop_map(Step::Poll),
        2 => (0..4_usize).prop_map(Step::Read),
        4 => (0..8_usize).prop_map(Step::Look),
        1 => Just(Step::Join),
        1 => (0..4_usize).prop_map(Step::Leave),
    ]
}

/// A reader, the lines that it was to read, and those that its machine has not taken yet.
struct Reader {
    machine: usize,
    next: u64,
    expected: Vec<String>,
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_key_is_utf_8_of_one_byte_up_to_the_limit(bytes in vec(prop_oneof![3 => any::<char>().prop_map(String::from).prop_map(String::into_bytes), 1 => any::<u8>().prop_map(|byte| vec![byte])], 0..5), max in 0..12_usize) {
        let bytes = bytes.concat();
        let expected = match std::str::from_utf8(&bytes) {
            _ if bytes.len() > max => Err(KeyError::TooLong { max }),
            Err(_) => Err(KeyError::NotUtf8),
            Ok("") => Err(KeyError::Empty),
            Ok(text) => Ok(text),
        };
        let key = Key::from_utf8(&bytes, max);
        prop_assert_eq!(key.as_ref().map(Key::as_str), expected.as_ref().map(|text| *text));
        if let Ok(text) = std::str::from_utf8(&bytes) {
            // Of what is both empty and too long, either may be said.
            prop_assert_eq!(Key::new(text, max).ok(), key.ok());
        }
    }

    #[test]
    fn keys_are_in_the_order_of_their_bytes_and_a_filter_finds_its_own(a in "[a\u{e9}\u{ffff}\u{10000}/]{1,4}", b in "[a\u{e9}\u{ffff}\u{10000}/]{0,4}") {
        let key = Key::new(&a, 64).unwrap();
        prop_assert_eq!(Filter::prefix(&b, 64).unwrap().matches(&key), a.as_bytes().starts_with(b.as_bytes()));
        prop_assert_eq!(Filter::prefix(&b, 5).is_ok(), b.len() <= 5);
        if let Ok(other) = Key::new(&b, 64) {
            prop_assert_eq!(key.cmp(&other), a.as_bytes().cmp(b.as_bytes()));
            prop_assert_eq!(Filter::Key(other).matches(&key), a == b);
        }
    }

    #[test]
    fn revisions_and_positions_are_numbers_up_to_their_last(a: u64, b: u64) {
        let javascript = 1_u64 << 53;
        prop_assert_eq!(Revision::new(a).map(Revision::as_u64), Some(a).filter(|a| *a < javascript));
        let revision = Revision::new(a % javascript).unwrap();
        prop_assert_eq!(revision.next().map(Revision::as_u64), Some(revision.as_u64() + 1).filter(|next| *next < javascript));
        let (first, second) = (Position::new(a), Position::new(b));
        prop_assert_eq!(first.since(second), a.saturating_sub(b));
        prop_assert_eq!(first.plus(b as usize).as_u64(), a.saturating_add(b));
        prop_assert_eq!((revision.to_string(), first.to_string()), ((a % javascript).to_string(), a.to_string()));
    }

    #[test]
    fn frames_lie_where_each_was_put(
        changes in vec((select(vec!["a", "bcd", "\u{e9}"]), any::<bool>()), 0..8), from in 0..10_usize, to in 0..10_usize,
    ) {
        let mut at = 1;
        let changes: Vec<_> = changes.into_iter().map(|(key, commit)| {
            at += u64::from(commit);
            let revision = Revision::new(at).unwrap();
            Change { key: Key::new(key, 8).unwrap(), revision, created: revision, value: None }
        }).collect();
        let encoded = Encoded::new(&changes, &KeyLine, &mut b"left over".to_vec());
        let frames: Vec<String> = changes.iter().enumerate().map(|(index, change)| {
            let ends = changes.get(index + 1).is_none_or(|next| next.revision != change.revision);
            format!("{}{}\n", change.key, if ends { "." } else { "" })
        }).collect();
        prop_assert_eq!(encoded.bytes().to_vec(), frames.concat().into_bytes());
        let range = encoded.frames(from..to);
        let expected = frames.get(from..to.clamp(from, frames.len().max(from))).unwrap_or_default().concat();
        prop_assert_eq!(encoded.bytes().get(range), Some(expected.as_bytes()));
        let one = frames.get(from).map(String::as_bytes).unwrap_or_default();
        prop_assert_eq!(encoded.frame_bytes(from), one);
    }

    #[test]
    fn a_reader_of_the_room_has_every_line_in_order_or_is_told_that_it_missed_some(
        keep in 1..4_usize, steps in vec(step(), 1..60),
    ) {
        let room = Room::default();
        let mut machines = vec![Some(room.join(keep)), Some(room.join(keep))];
        // What each machine was told and has not taken yet.
        let mut waiting: Vec<Vec<String>> = vec![Vec::new(); 2];
        let mut readers: Vec<Reader> = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Say(machine) => if let Some(Some(member)) = machines.get(machine) {
                    let line = format!("line {number}");
                    member.say(&line);
                    for waiting in &mut waiting {
                        waiting.push(line.clone());
                    }
                },
                Step::Poll(machine) => if let Some(Some(member)) = machines.get_mut(machine) {
                    let waits = std::mem::take(&mut waiting[machine]);
                    prop_assert_eq!(member.poll(), !waits.is_empty());
                    for reader in readers.iter_mut().filter(|reader| reader.machine == machine) {
                        reader.expected.extend(waits.iter().cloned());
                    }
                },
                Step::Read(machine) => if let Some(Some(member)) = machines.get(machine) {
                    readers.push(Reader { machine, next: member.end(), expected: Vec::new() });
                },
                Step::Look(reader) => if let Some(reader) = readers.get_mut(reader) {
                    let Some(Some(member)) = machines.get(reader.machine) else { continue };
                    match member.line(reader.next) {
                        Ok(Some(line)) => {
                            prop_assert_eq!(line.to_vec(), reader.expected.remove(0).into_bytes());
                            reader.next += 1;
                        }
                        Ok(None) => prop_assert!(reader.expected.is_empty()),
                        Err(Missed) => {
                            prop_assert!(reader.expected.len() > keep, "nothing was too much");
                            reader.expected.clear();
                            reader.next = member.end();
                        }
                    }
                },
                Step::Join => {
                    machines.push(Some(room.join(keep)));
                    waiting.push(Vec::new());
                }
                Step::Leave(machine) => if let Some(member) = machines.get_mut(machine) {
                    *member = None;
                },
            }
            // As many as were to be read: numbers are dense, also over what was missed.
            for reader in &readers {
                if let Some(Some(member)) = machines.get(reader.machine) {
                    prop_assert_eq!(member.end() - reader.next, reader.expected.len() as u64);
                }
            }
        }
    }
}

#[cfg(feature = "command-line")]
mod command_line {
    use std::time::Duration;

    use clap::Parser as _;

    use super::*;
    use crate::command_line::Arguments;

    fn parse(name: &str, value: &str) -> Option<Arguments> {
        Arguments::try_parse_from(["watch", name, value]).ok()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_hold_is_from_a_second_to_an_hour(number in prop_oneof![0..70_u64, any::<u64>()], unit in select(vec![("ms", 1), ("s", 1000), ("m", 60_000), ("h", 0), ("", 0)])) {
            let millis = number.saturating_mul(unit.1);
            let expected = Some(Duration::from_millis(millis)).filter(|_| (1000..=3_600_000).contains(&millis));
            let hold = parse("--hold", &format!("{number}{}", unit.0)).map(|arguments| arguments.config().hold);
            prop_assert_eq!(hold, expected);
        }

        #[test]
        #[cfg(feature = "deflate")]
        fn a_budget_is_a_mebibyte_or_none(number in prop_oneof![0..3000_usize, any::<usize>()], unit in select(vec![("KiB", 10), ("MiB", 20), ("GiB", 30), ("kB", 64), ("", 64)])) {
            let bytes = match unit.1 {
                64 => Some(0).filter(|_| number == 0 && unit.0.is_empty()),
                shift => number.checked_mul(1 << shift),
            };
            let expected = bytes.filter(|bytes| *bytes == 0 || *bytes >= 1 << 20);
            let budget = parse("--compression-budget", &format!("{number}{}", unit.0)).map(|arguments| arguments.compression_budget);
            prop_assert_eq!(budget, expected);
        }

        #[test]
        fn an_origin_is_a_scheme_and_a_host(text in "(https?://)?[a-c.:A/@# ?]{0,6}") {
            let host = text.strip_prefix("http://").or(text.strip_prefix("https://"));
            let plain = |host: &&str| !host.is_empty() && host.bytes().all(|byte| b"abc.:".contains(&byte));
            let expected = host.filter(plain).map(|_| vec![text.clone()]);
            prop_assert_eq!(parse("--allow-origin", &text).map(|arguments| arguments.config().origins), expected);
        }
    }
}
