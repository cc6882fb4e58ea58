//! Server-sent events (WHATWG HTML, section 9.2): an encoder whose output an `EventSource` reads as it was meant, and a
//! [`Decoder`] that reads as one does.
//!
//! A stream is UTF-8 lines. An event is a few `name: value` lines and an empty one, so a line end inside a value would
//! forge fields: data is cut into one `data` line for each of its lines, other values with line ends are refused.
//!
//! ```
//! use keepwatch_protocol::sse::Event;
//!
//! let mut out = Vec::new();
//! Event { id: Some("7"), event: Some("put"), data: Some("one\ntwo"), retry: None }.encode(&mut out)?;
//! assert_eq!(out, b"id: 7\nevent: put\ndata: one\ndata: two\n\n");
//! # Ok::<(), keepwatch_protocol::sse::InvalidEvent>(())
//! ```

mod decoder;

use core::fmt;
use core::time::Duration;

use crate::output::Sink;
pub use decoder::{Decoder, EventTooLong};

/// The media type of a stream of events.
pub const MEDIA_TYPE: &str = "text/event-stream";

/// A comment: readers pass over it. It shows that the connection lives, and unlike an `id` alone it does not move
/// `Last-Event-ID`.
pub const COMMENT: &[u8] = b":\n\n";

/// One event. What is `None` is not sent.
///
/// Without `data` nothing is dispatched at the reader, but `id` and `retry` take effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event<'a> {
    /// The position to go on from after a reconnect: the reader sends it back in `Last-Event-ID`. An empty one resets it.
    /// Without NUL, CR and LF.
    pub id: Option<&'a str>,
    /// The type of the event; `message` to the reader if it is left out or empty. Without CR and LF.
    pub event: Option<&'a str>,
    /// The data. CR, LF and CR LF each end a line, and reach the reader as LF. `Some("")` is an event with empty data.
    pub data: Option<&'a str>,
    /// How long to wait before a reconnect, sent in whole milliseconds.
    pub retry: Option<Duration>,
}

/// A value that cannot be put into a stream. Nothing was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidEvent {
    /// The `id` has a NUL (readers ignore such an id), a CR or a LF.
    Id,
    /// The type has a CR or a LF.
    Event,
}

impl Event<'_> {
    /// Puts the event, with the empty line that ends it. An event without any field puts nothing.
    ///
    /// # Errors
    ///
    /// [`InvalidEvent`], and nothing is put.
    pub fn encode(&self, out: &mut impl Sink) -> Result<(), InvalidEvent> {
        if self.id.is_some_and(|id| id.contains(['\0', '\r', '\n'])) {
            return Err(InvalidEvent::Id);
        }
        if self.event.is_some_and(|event| event.contains(['\r', '\n'])) {
            return Err(InvalidEvent::Event);
        }
        if *self == Self::default() {
            return Ok(());
        }
        if let Some(id) = self.id {
            put_field("id", id, out);
        }
        if let Some(event) = self.event {
            put_field("event", event, out);
        }
        if let Some(retry) = self.retry {
            put_decimal("retry", retry.as_millis(), out);
        }
        if let Some(data) = self.data {
            put_data(data, out);
        }
        out.put(b"\n");
        Ok(())
    }
}

fn put_field(name: &str, value: &str, out: &mut impl Sink) {
    out.put(name.as_bytes());
    // A reader drops one space after the colon. It is always there, so that a value may begin with another.
    out.put(b": ");
    out.put(value.as_bytes());
    out.put(b"\n");
}

fn put_data(mut data: &str, out: &mut impl Sink) {
    while let Some(end) = data.find(['\r', '\n']) {
        let (line, rest) = data.split_at(end);
        put_field("data", line, out);
        let after = rest.strip_prefix("\r\n").or_else(|| rest.strip_prefix(['\r', '\n']));
        data = after.unwrap_or_default();
    }
    put_field("data", data, out);
}

fn put_decimal(name: &str, mut number: u128, out: &mut impl Sink) {
    let mut digits = [b'0'; 39]; // as many as the largest number has
    let mut start = digits.len();
    for (index, digit) in digits.iter_mut().enumerate().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        start = index;
        if number == 0 {
            break;
        }
    }
    let digits = digits.get(start..).and_then(|digits| core::str::from_utf8(digits).ok());
    put_field(name, digits.unwrap_or_default(), out);
}

impl fmt::Display for InvalidEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Id => "an event's id with NUL, CR or LF",
            Self::Event => "an event's type with CR or LF",
        })
    }
}

impl core::error::Error for InvalidEvent {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What an `EventSource` remembers and dispatches, after the algorithm of section 9.2.6.
    #[derive(Debug, Default, PartialEq, Eq)]
    struct Reader {
        last_event_id: String,
        retry: Option<u64>,
        dispatched: Vec<Dispatched>,
        data: String,
        event_type: String,
        id: String,
    }

    #[derive(Debug, Default, PartialEq, Eq)]
    struct Dispatched {
        event: String,
        data: String,
        id: String,
    }

    impl Reader {
        fn read(stream: &[u8]) -> Self {
            let stream = std::str::from_utf8(stream).expect("the stream is UTF-8");
            let stream = stream.strip_prefix('\u{feff}').unwrap_or(stream);
            let stream = stream.replace("\r\n", "\n").replace('\r', "\n");
            let mut reader = Self::default();
            let lines = stream.strip_suffix('\n').map(|lines| lines.split('\n'));
            for line in lines.into_iter().flatten() {
                match line.split_once(':') {
                    _ if line.is_empty() => reader.dispatch(),
                    Some(("", _comment)) => {}
                    Some((name, value)) => reader.field(name, value.strip_prefix(' ').unwrap_or(value)),
                    None => reader.field(line, ""),
                }
            }
            reader
        }

        fn field(&mut self, name: &str, value: &str) {
            match name {
                "event" => self.event_type = value.to_owned(),
                "data" => {
                    self.data.push_str(value);
                    self.data.push('\n');
                }
                "id" if !value.contains('\0') => self.id = value.to_owned(),
                "retry" if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                    self.retry = value.parse().ok();
                }
                _ => {}
            }
        }

        fn dispatch(&mut self) {
            self.last_event_id.clone_from(&self.id);
            let (mut data, event) = (std::mem::take(&mut self.data), std::mem::take(&mut self.event_type));
            if data.is_empty() {
                return;
            }
            data.pop();
            let event = if event.is_empty() { "message".to_owned() } else { event };
            self.dispatched.push(Dispatched { event, data, id: self.last_event_id.clone() });
        }
    }

    fn encoded(event: &Event<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        event.encode(&mut out).expect("a valid event");
        out
    }

    fn dispatched(event: &str, data: &str, id: &str) -> Dispatched {
        Dispatched { event: event.to_owned(), data: data.to_owned(), id: id.to_owned() }
    }

    #[test]
    fn all_fields_in_their_order() {
        let event = Event {
            id: Some("7"),
            event: Some("put"),
            data: Some("{}"),
            retry: Some(Duration::from_millis(1500)),
        };
        assert_eq!(encoded(&event), b"id: 7\nevent: put\nretry: 1500\ndata: {}\n\n");
    }

    #[test]
    fn an_id_alone_moves_the_position_and_dispatches_nothing() {
        let mut stream = encoded(&Event { id: Some("4"), data: Some("x"), ..Event::default() });
        stream.extend(encoded(&Event { id: Some("9"), ..Event::default() }));
        let reader = Reader::read(&stream);
        assert_eq!(reader.last_event_id, "9");
        assert_eq!(reader.dispatched, [dispatched("message", "x", "4")]);
    }

    #[test]
    fn a_comment_changes_nothing() {
        assert_eq!(Reader::read(COMMENT), Reader::default());
    }

    #[test]
    fn an_event_without_fields_puts_nothing() {
        assert_eq!(encoded(&Event::default()), b"");
    }

    #[test]
    fn empty_data_is_dispatched_and_no_data_is_not() {
        let empty = encoded(&Event { data: Some(""), ..Event::default() });
        assert_eq!(Reader::read(&empty).dispatched, [dispatched("message", "", "")]);
        let none = encoded(&Event { event: Some("put"), ..Event::default() });
        assert_eq!(Reader::read(&none).dispatched, []);
    }

    #[test]
    fn data_is_cut_at_each_kind_of_line_end() {
        let encoded = encoded(&Event { data: Some("a\nb\rc\r\nd\n\re\n"), ..Event::default() });
        assert_eq!(encoded, b"data: a\ndata: b\ndata: c\ndata: d\ndata: \ndata: e\ndata: \n\n");
    }

    #[test]
    fn leading_spaces_and_colons_survive() {
        let reader = Reader::read(&encoded(&Event {
            id: Some(" :"),
            event: Some(": "),
            data: Some("  :x"),
            retry: None,
        }));
        assert_eq!(reader.dispatched, [dispatched(": ", "  :x", " :")]);
    }

    #[test]
    fn what_would_forge_a_field_is_refused_and_nothing_is_put() {
        let mut out = Vec::new();
        for id in ["1\ndata: forged", "1\r", "\0"] {
            let event = Event { id: Some(id), data: Some("x"), ..Event::default() };
            assert_eq!(event.encode(&mut out), Err(InvalidEvent::Id));
        }
        for event in ["put\n\ndata: forged", "put\r"] {
            let event = Event { event: Some(event), data: Some("x"), ..Event::default() };
            assert_eq!(event.encode(&mut out), Err(InvalidEvent::Event));
        }
        assert_eq!(out, b"");
    }

    #[test]
    fn retry_is_whole_milliseconds() {
        for (retry, text) in [
            (Duration::ZERO, "retry: 0\n\n"),
            (Duration::from_micros(1999), "retry: 1\n\n"),
            (Duration::MAX, "retry: 18446744073709551615999\n\n"),
        ] {
            assert_eq!(encoded(&Event { retry: Some(retry), ..Event::default() }), text.as_bytes());
        }
    }

    /// Text in which the characters that matter are frequent.
    fn texts() -> impl Strategy<Value = String> {
        prop::collection::vec(
            prop::sample::select(&['a', ':', ' ', '\n', '\r', '\0', 'é', '\u{feff}'][..]),
            0..12,
        )
        .prop_map(String::from_iter)
    }

    proptest! {
        #[test]
        fn readers_get_what_was_encoded_or_it_is_refused(
            events in prop::collection::vec(
                (prop::option::of(texts()), prop::option::of(texts()), prop::option::of(texts()), prop::option::of(0u64..10_000)),
                0..6,
            )
        ) {
            let mut stream = Vec::new();
            let mut expected = Reader::default();
            for (id, event, data, retry) in &events {
                let event = Event {
                    id: id.as_deref(),
                    event: event.as_deref(),
                    data: data.as_deref(),
                    retry: retry.map(Duration::from_millis),
                };
                let length = stream.len();
                if event.encode(&mut stream).is_err() {
                    prop_assert_eq!(stream.len(), length);
                    continue;
                }
                if let Some(id) = event.id {
                    id.clone_into(&mut expected.id);
                    id.clone_into(&mut expected.last_event_id);
                }
                expected.retry = retry.or(expected.retry);
                if let Some(data) = event.data {
                    let data = data.replace("\r\n", "\n").replace('\r', "\n");
                    let kind = event.event.filter(|kind| !kind.is_empty()).unwrap_or("message");
                    expected.dispatched.push(dispatched(kind, &data, &expected.last_event_id));
                }
            }
            prop_assert_eq!(Reader::read(&stream), expected);
        }
    }
}
