//! What holds of the buffers, of time, and of server-sent events read as the standard says, for every input.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use keepwatch_sim::cuts;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::input::Input;
use crate::output::{Lease, Leases, SendQueue, Sink, Slices};
use crate::sse;
use crate::time::{Instant, Now, UnixMillis, earliest};
use crate::websocket::mask;

/// Takes its bytes one put at a time, as a sink of somebody else's would.
#[derive(Default)]
struct Plain(Vec<u8>);

impl Sink for Plain {
    fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

/// What an `EventSource` remembers, after the algorithm of section 9.2.6: it looks at all of the stream at once.
#[derive(Debug, Default, PartialEq, Eq)]
struct EventSource {
    last_event_id: String,
    retry: Option<u64>,
    dispatched: Vec<(String, String, String)>,
}

impl EventSource {
    fn by_standard(stream: &str) -> Self {
        let stream = stream.strip_prefix('\u{feff}').unwrap_or(stream);
        let stream = stream.replace("\r\n", "\n").replace('\r', "\n");
        let mut source = Self::default();
        let (mut data, mut kind, mut id) = (String::new(), String::new(), String::new());
        // What is behind the last line end is no line.
        let lines: Vec<&str> = stream.split('\n').collect();
        for line in &lines[..lines.len() - 1] {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match name {
                "" if line.is_empty() => {
                    source.last_event_id.clone_from(&id);
                    let (data, kind) = (core::mem::take(&mut data), core::mem::take(&mut kind));
                    if let Some(data) = data.strip_suffix('\n') {
                        let kind = if kind.is_empty() { "message".to_string() } else { kind };
                        source.dispatched.push((kind, data.to_string(), id.clone()));
                    }
                }
                "event" => kind = value.to_string(),
                "data" => data = data + value + "\n",
                "id" if !value.contains('\0') => id = value.to_string(),
                "retry" if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                    source.retry = Some(value.parse().unwrap());
                }
                _ => {}
            }
        }
        source
    }

    fn by_decoder(parts: &[&[u8]]) -> Self {
        let mut decoder = sse::Decoder::new(usize::MAX);
        let mut source = Self::default();
        for part in parts {
            let mut part = part.to_vec();
            let mut input = Input::new(&mut part);
            while let Some(event) = decoder.decode(&mut input).unwrap() {
                if let Some(id) = event.id {
                    source.last_event_id = id.to_string();
                }
                source.retry = event.retry.map(|retry| retry.as_millis() as u64).or(source.retry);
                if let Some(data) = event.data {
                    let kind = event.event.filter(|kind| !kind.is_empty()).unwrap_or("message");
                    source.dispatched.push((
                        kind.to_string(),
                        data.to_string(),
                        source.last_event_id.clone(),
                    ));
                }
            }
        }
        source
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_decoder_and_the_standard_read_the_same_of_any_stream(
        lines in vec(
            (
                select(vec!["data", "data:", "data: ", "id:", "id: ", "event: ", "retry: ", ":", "x: ", "", "", " data: "]),
                "[ab0-2: \u{e9}\u{feff}\0]{0,3}",
                select(vec!["\n", "\n", "\r", "\r\n"]),
            ),
            0..14,
        ),
        mark: bool,
        tail in select(vec!["", "data: cut", "\n", "\r\n\r\n"]),
        sizes in cuts::sizes(),
    ) {
        let mut stream = if mark { "\u{feff}".to_string() } else { String::new() };
        for (name, value, end) in lines {
            stream = stream + name + if name.is_empty() { "" } else { &value } + end;
        }
        stream += tail;
        let mut expected = EventSource::by_standard(&stream);
        // A retry is taken when its line has come, but told with the event that it is in: what is not told cannot be compared.
        let seen = EventSource::by_decoder(&cuts::by(stream.as_bytes(), &sizes));
        let whole = stream.replace("\r\n", "\n").replace('\r', "\n");
        if !whole.ends_with("\n\n") {
            expected.retry = seen.retry;
        }
        prop_assert_eq!(seen, expected);
    }

    #[test]
    fn a_queue_gives_what_was_put_in_order_and_counts_it(
        steps in vec(prop_oneof![vec(any::<u8>(), 0..40).prop_map(Ok), (0_usize..3000).prop_map(Err), Just(Ok(vec![7; 3000]))], 0..40),
        mark in 0_usize..100,
        key: [u8; 4],
    ) {
        let (mut queue, mut model) = (SendQueue::new(mark), Vec::new());
        for (index, step) in steps.into_iter().enumerate() {
            match step {
                Ok(bytes) if index % 3 == 0 => {
                    queue.put_masked(key, &bytes);
                    let mut masked = Plain::default();
                    masked.put_masked(key, &bytes);
                    let mut definition = bytes;
                    mask::apply(key, 0, &mut definition);
                    prop_assert_eq!(&masked.0, &definition);
                    model.extend(masked.0);
                }
                Ok(bytes) => {
                    queue.put(&bytes);
                    model.extend(bytes);
                }
                Err(count) => {
                    queue.wrote(count);
                    model.drain(..count.min(model.len()));
                }
            }
            prop_assert_eq!(queue.pending(), &model[..]);
            prop_assert_eq!((queue.len(), queue.is_empty()), (model.len(), model.is_empty()));
            prop_assert_eq!(queue.over_mark(), model.len() > mark);
        }
    }

    #[test]
    fn slices_and_leases_take_the_same_parts_up_to_the_limit(
        parts in vec(vec(any::<u8>(), 0..6), 0..90), limit in 0_usize..300,
    ) {
        let (mut slices, mut leases) = (Slices::new(limit), Leases::new(limit));
        let mut model: Vec<&[u8]> = Vec::new();
        for part in &parts {
            let bytes: usize = model.iter().map(|part| part.len()).sum();
            let room = model.len() < Slices::PARTS && bytes < limit;
            prop_assert_eq!((slices.has_room(1), leases.has_room(1)), (room, room));
            prop_assert_eq!(leases.remaining(), limit.saturating_sub(bytes));
            let taken = part.is_empty() || room;
            prop_assert_eq!((slices.push(part), leases.push(Lease::from(Arc::from(&part[..])))), (taken, taken));
            if taken && !part.is_empty() {
                model.push(part);
            }
        }
        prop_assert_eq!(slices.parts(), &model[..]);
        prop_assert_eq!(leases.parts().iter().map(|part| &**part).collect::<Vec<_>>(), model.clone());
        let bytes = model.concat().len();
        prop_assert_eq!((slices.len(), leases.len()), (bytes, bytes));
        prop_assert_eq!((slices.is_empty(), leases.is_empty()), (bytes == 0, bytes == 0));
    }

    #[test]
    fn a_lease_is_a_range_that_shrinks_from_the_front(
        bytes in vec(any::<u8>(), 0..20), start in 0_usize..25, end in 0_usize..25, steps in vec(0_usize..8, 0..6),
    ) {
        let mut lease = Lease::new(Arc::from(&bytes[..]), start..end);
        let mut model = bytes.get(start..end.min(bytes.len())).unwrap_or_default();
        prop_assert_eq!(&*lease, model);
        for step in steps {
            lease.advance(step);
            model = model.get(step..).unwrap_or_default();
            prop_assert_eq!(&*lease, model);
        }
    }

    #[test]
    fn an_input_is_taken_from_the_front_and_nothing_twice(
        bytes in vec(any::<u8>(), 0..40), counts in vec(prop_oneof![0_usize..9, Just(usize::MAX)], 0..12), last: bool,
    ) {
        let mut buffer = bytes.clone();
        let mut input = if last { Input::last(&mut buffer) } else { Input::new(&mut buffer) };
        let mut taken = Vec::new();
        for count in counts {
            let part = input.take(count).to_vec();
            prop_assert_eq!(part.len(), count.min(bytes.len() - taken.len()));
            taken.extend(part);
            prop_assert_eq!((input.consumed(), input.len()), (taken.len(), bytes.len() - taken.len()));
            prop_assert_eq!((input.is_empty(), input.hung_up()), (taken.len() == bytes.len(), last));
            prop_assert_eq!([&taken, input.bytes()].concat(), bytes.clone());
        }
    }

    #[test]
    fn time_is_that_of_numbers_that_do_not_overflow(a: u64, b: u64, secs in prop_oneof![0..1_u64 << 40, any::<u64>()], nanos in 0..1_000_000_000_u32) {
        let (first, second, by) = (Instant::from_nanos(a), Instant::from_nanos(b), Duration::new(secs, nanos));
        let sum = u128::from(a) + by.as_nanos();
        prop_assert_eq!((first + by).as_nanos(), u64::try_from(sum).unwrap_or(u64::MAX));
        prop_assert_eq!(first.since(second), Duration::from_nanos(a.saturating_sub(b)));
        prop_assert_eq!(second + first.since(second), first.max(second));
        prop_assert_eq!(Instant::from_millis(a).as_nanos(), u64::try_from(u128::from(a) * 1_000_000).unwrap_or(u64::MAX));
        let later = Now::new(first, UnixMillis(b)).later(by);
        prop_assert_eq!((later.instant, later.unix.0), (first + by, u64::try_from(u128::from(b) + by.as_millis()).unwrap_or(u64::MAX)));
        prop_assert_eq!(earliest(Some(first), Some(second)), [first, second].into_iter().min());
    }
}
