//! Reads a stream of events, in whatever parts it comes (WHATWG HTML, section 9.2.6).
//!
//! ```text
//!   bytes ──► lines (CR, LF, CR LF)  ──►  block: id, event, data.., retry  ──► empty line: an Event
//!             an unfinished one is kept      comments and unknown names are passed over
//! ```

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use super::Event;
use crate::input::Input;

/// The memory that is kept from one event for the next.
const KEPT_BYTES: usize = 16 << 10;

/// Takes a stream apart into [`Event`]s. What each of them borrows is the decoder's until the next call.
///
/// It gives every block of lines that has a field, as it was written: what an `EventSource` does with it is the caller's.
/// Only one with `data` is dispatched there; an `id`, also where it stands alone, is what `Last-Event-ID` is from then on
/// (an empty one: nothing), and a `retry` is how long it waits before it connects again. A block that the end of the stream
/// cuts off is not given, as nobody can tell what it lacks.
///
/// Bytes that are not UTF-8 become U+FFFD, as the standard has it.
///
/// ```
/// use keepwatch_protocol::Input;
/// use keepwatch_protocol::sse::{Decoder, Event};
///
/// let mut decoder = Decoder::new(1024);
/// let mut read = *b"id: 7\nevent: put\ndata: one\ndata: two\n\nid: 8";
/// let mut input = Input::new(&mut read);
/// let event = Event { id: Some("7"), event: Some("put"), data: Some("one\ntwo"), retry: None };
/// assert_eq!(decoder.decode(&mut input)?, Some(event));
/// assert_eq!(decoder.decode(&mut input)?, None); // the rest is kept
/// assert_eq!(decoder.decode(&mut Input::new(&mut b"\n\n".to_vec()))?.and_then(|event| event.id), Some("8"));
/// # Ok::<(), keepwatch_protocol::sse::EventTooLong>(())
/// ```
pub struct Decoder {
    limit: usize,
    /// A line that is not whole.
    line: Vec<u8>,
    block: Block,
    /// The line before ended with CR: a LF that follows is a part of that.
    behind_cr: bool,
    /// The first line, which may begin with a byte order mark, was seen.
    began: bool,
    /// The block was given out, and a new one begins.
    given: bool,
}

/// The fields of an event, as far as they came.
#[derive(Default)]
struct Block {
    id: Option<String>,
    event: Option<String>,
    data: Option<String>,
    retry: Option<Duration>,
}

/// An event, with the names of its fields and the line that is not whole, is longer than the decoder's limit. What
/// follows cannot be made sense of: give the stream up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventTooLong;

impl Decoder {
    /// A decoder at the beginning of a stream, for events of at most `limit` bytes. It reserves nothing.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            line: Vec::new(),
            block: Block::default(),
            behind_cr: false,
            began: false,
            given: false,
        }
    }

    /// Takes bytes up to the end of the next event; all of them, and `None`, if there is none.
    ///
    /// # Errors
    ///
    /// [`EventTooLong`].
    pub fn decode(&mut self, input: &mut Input<'_>) -> Result<Option<Event<'_>>, EventTooLong> {
        if self.given {
            self.given = false;
            self.block.clear();
        }
        while !self.given {
            if let Some(next) = input.bytes().first().copied() {
                if self.behind_cr && next == b'\n' {
                    input.take(1);
                }
                self.behind_cr = false;
            }
            let end = input.bytes().iter().position(|byte| matches!(byte, b'\r' | b'\n'));
            let part = input.take(end.unwrap_or(usize::MAX));
            if self.line.len() + part.len() > self.limit.saturating_sub(self.block.bytes()) {
                self.line = Vec::new();
                return Err(EventTooLong);
            }
            if end.is_none() {
                self.line.extend_from_slice(part);
                return Ok(None);
            }
            self.behind_cr = input.take(1).first() == Some(&b'\r');
            self.given = if self.line.is_empty() {
                self.block.take(line(&mut self.began, part))
            } else {
                self.line.extend_from_slice(part);
                let ended = self.block.take(line(&mut self.began, &self.line));
                self.line.clear();
                self.line.shrink_to(KEPT_BYTES);
                ended
            };
        }
        Ok(Some(self.block.as_event()))
    }
}

/// A line without the byte order mark that the first one may have.
fn line<'a>(began: &mut bool, line: &'a [u8]) -> &'a [u8] {
    let first = !core::mem::replace(began, true);
    line.strip_prefix("\u{feff}".as_bytes()).filter(|_| first).unwrap_or(line)
}

impl Block {
    /// Takes a line. Returns whether that ends an event.
    fn take(&mut self, line: &[u8]) -> bool {
        if line.is_empty() {
            return !self.is_empty();
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let (name, value) = line.split_at(colon.unwrap_or(line.len()));
        let value = value.strip_prefix(b":").unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(&String::from_utf8_lossy(value));
                }
                None => self.data = Some(text(value)),
            },
            b"event" => self.event = Some(text(value)),
            b"id" if !value.contains(&0) => self.id = Some(text(value)),
            b"retry" => self.retry = millis(value).or(self.retry),
            _ => {}
        }
        false
    }

    fn as_event(&self) -> Event<'_> {
        Event {
            id: self.id.as_deref(),
            event: self.event.as_deref(),
            data: self.data.as_deref(),
            retry: self.retry,
        }
    }

    fn is_empty(&self) -> bool {
        self.as_event() == Event::default()
    }

    fn bytes(&self) -> usize {
        [&self.id, &self.event, &self.data].into_iter().flatten().map(String::len).sum()
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

/// Digits and nothing else; a number that is too large is as large as it can be.
fn millis(value: &[u8]) -> Option<Duration> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |number: u64, digit: &u8| number.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    Some(Duration::from_millis(value.iter().fold(0, add)))
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.line.len() + self.block.bytes();
        write!(f, "Decoder({bytes} bytes of at most {})", self.limit)
    }
}

impl fmt::Display for EventTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event that is longer than the limit")
    }
}

impl core::error::Error for EventTooLong {}

#[cfg(test)]
mod tests {
    use keepwatch_sim::cuts;
    use proptest::prelude::*;
    use std::borrow::ToOwned;

    use super::*;

    type Owned = (Option<String>, Option<String>, Option<String>, Option<Duration>);

    fn owned(event: Event<'_>) -> Owned {
        let own = |text: Option<&str>| text.map(ToOwned::to_owned);
        (own(event.id), own(event.event), own(event.data), event.retry)
    }

    fn decode_parts(parts: &[&[u8]], limit: usize) -> Result<Vec<Owned>, EventTooLong> {
        let mut decoder = Decoder::new(limit);
        let mut events = Vec::new();
        for part in parts {
            let mut part = part.to_vec();
            let mut input = Input::new(&mut part);
            while let Some(event) = decoder.decode(&mut input)? {
                events.push(owned(event));
            }
            assert!(input.is_empty());
        }
        Ok(events)
    }

    /// The same under every cut.
    #[track_caller]
    fn decode(stream: &[u8], limit: usize) -> Result<Vec<Owned>, EventTooLong> {
        cuts::every(stream, |parts| decode_parts(parts, limit))
    }

    /// The events of a stream; and behind it that of another, or the beginning of a line where the stream is not whole.
    #[track_caller]
    fn check(stream: impl AsRef<[u8]>, expected: &[Event<'_>]) {
        let stream = stream.as_ref();
        let (behind, more) = if stream.ends_with(b"\n\n") || stream.ends_with(b"\n\r") {
            (&b":x\ndata: behind\n\n"[..], Some(data("behind")))
        } else {
            (&b"x"[..], None)
        };
        let events = cuts::every_and_behind(
            stream,
            behind,
            |parts| decode_parts(parts, usize::MAX),
            |events| events.as_mut().unwrap().extend(more.map(owned)),
        );
        assert_eq!(events, Ok(expected.iter().copied().map(owned).collect()));
    }

    fn data(data: &str) -> Event<'_> {
        Event { data: Some(data), ..Event::default() }
    }

    fn id(id: &str) -> Event<'_> {
        Event { id: Some(id), ..Event::default() }
    }

    #[test]
    fn the_examples_of_the_standard() {
        check("data: YHOO\ndata: +2\ndata: 10\n\n", &[data("YHOO\n+2\n10")]);
        let stream =
            ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n";
        check(
            stream,
            &[
                Event { id: Some("1"), ..data("first event") },
                Event { id: Some(""), ..data("second event") },
                data(" third event"),
            ],
        );
        check("data\n\ndata\ndata\n\ndata:", &[data(""), data("\n")]);
        check("data:test\n\ndata: test\n\n", &[data("test"), data("test")]);
    }

    #[test]
    fn lines_end_with_cr_lf_or_both() {
        check(
            "data: a\rdata: b\ndata: c\r\n\r\n\ndata: d\r\rdata: e\n\r",
            &[data("a\nb\nc"), data("d"), data("e")],
        );
        check("data: a\r\ndata: b\r\n\r\n", &[data("a\nb")]);
    }

    #[test]
    fn an_event_is_given_at_its_cr_and_the_lf_behind_it_is_no_line() {
        let mut decoder = Decoder::new(100);
        let mut read = *b"data: a\r\n\r";
        assert_eq!(decoder.decode(&mut Input::new(&mut read)), Ok(Some(data("a"))));
        let mut read = *b"\nid: 1\n\n";
        assert_eq!(decoder.decode(&mut Input::new(&mut read)), Ok(Some(id("1"))));
    }

    #[test]
    fn only_one_lf_belongs_to_a_cr_also_where_it_comes_alone() {
        check("data: a\r\n\ndata: b\r\n\n\nid: 1\r\n\n", &[data("a"), data("b"), id("1")]);
    }

    #[test]
    fn one_byte_order_mark_at_the_start_is_dropped() {
        check("\u{feff}id: 1\n\n", &[id("1")]);
        check("\u{feff}\u{feff}id: 1\n\n", &[]);
        check("id: 1\n\n\u{feff}id: 2\n\n", &[id("1")]);
        check("\u{feff}\ndata: \u{feff}\n\n", &[data("\u{feff}")]);
    }

    #[test]
    fn an_id_with_nul_is_passed_over() {
        check("id: 1\0\n\nid: 2\nid: \0\n\n", &[id("2")]);
    }

    #[test]
    fn the_last_of_a_field_counts() {
        check("id: 1\nid: 2\nevent: a\nevent\n\n", &[Event { event: Some(""), ..id("2") }]);
    }

    #[test]
    fn retry_is_digits_and_nothing_else() {
        let retry = |retry| Event { retry: Some(retry), ..Event::default() };
        check("retry: 1500\n\n", &[retry(Duration::from_millis(1500))]);
        check("retry: 99999999999999999999999\n\n", &[retry(Duration::from_millis(u64::MAX))]);
        for bad in ["", "+1", "1.5", "1 ", " 1", "0x1", "-1", "٣"] {
            check(format!("retry: {bad}\n\n"), &[]);
            check(format!("retry: 7\nretry: {bad}\n\n"), &[retry(Duration::from_millis(7))]);
        }
    }

    #[test]
    fn comments_and_unknown_names_are_passed_over() {
        check(": hi\n\n:\nData: x\n data: x\nx\n\n\n", &[]);
    }

    #[test]
    fn a_block_that_is_cut_off_is_not_given() {
        check("data: a\n\ndata: b\n", &[data("a")]);
        check("data: a", &[]);
    }

    #[test]
    fn what_is_not_utf_8_is_replaced() {
        check(b"data: a\xff\xe2\x82\n\n", &[data("a\u{fffd}\u{fffd}")]);
    }

    #[test]
    fn the_limit_holds_for_lines_and_for_what_they_add_up_to() {
        assert_eq!(decode(b"data: 789", 9).map(|events| events.len()), Ok(0));
        assert_eq!(decode(b"data: 789A", 9), Err(EventTooLong));
        assert_eq!(decode(b"data: 789\ndata: \n", 9).map(|events| events.len()), Ok(0));
        assert_eq!(decode(b"data: 789\ndata: 7", 9), Err(EventTooLong));
        assert_eq!(decode(b":23456789A", 9), Err(EventTooLong));
        assert_eq!(decode(b"id: 1\n\n".repeat(100).as_slice(), 9).map(|events| events.len()), Ok(100));
    }

    fn texts() -> impl Strategy<Value = String> {
        prop::collection::vec(prop::sample::select(&['a', ':', ' ', '\n', '\r', 'é', '\u{feff}'][..]), 0..8)
            .prop_map(String::from_iter)
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_however_it_is_cut(
            events in prop::collection::vec(
                (prop::option::of(texts()), prop::option::of(texts()), prop::option::of(0u64..10_000)), 0..5),
            end in prop::sample::select(&["\n", "\r", "\r\n"][..]),
            sizes in cuts::sizes(),
        ) {
            let (mut stream, mut expected) = (Vec::new(), Vec::new());
            for (id, data, retry) in &events {
                let retry = retry.map(Duration::from_millis);
                let event = Event { id: id.as_deref(), event: None, data: data.as_deref(), retry };
                if event.encode(&mut stream).is_ok() && event != Event::default() {
                    let lines = data.as_ref().map(|data| data.replace("\r\n", "\n").replace('\r', "\n"));
                    expected.push(owned(Event { data: lines.as_deref(), ..event }));
                }
            }
            // No line has one of its own.
            let stream = String::from_utf8(stream).unwrap().replace('\n', end).into_bytes();
            prop_assert_eq!(decode_parts(&cuts::by(&stream, &sizes), usize::MAX), Ok(expected));
        }

        #[test]
        fn no_bytes_are_too_strange_and_cuts_do_not_matter(
            stream in prop::collection::vec(prop::sample::select(&b"data:i \r\n\0\xef\xbb\xbf1:retry"[..]), 0..60),
            limit in 0usize..40,
        ) {
            let _same = decode(&stream, limit);
        }
    }
}
