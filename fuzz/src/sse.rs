//! Server-sent events against a reader that is written as the standard is: WHATWG HTML, sections 9.2.5 and 9.2.6, on the whole
//! stream, a line at a time.
//!
//! - **events**, of any text, are encoded: the reader dispatches them as they were meant, or they are refused and nothing is put;
//!   the decoder gives them back.
//! - **bytes** of any kind: the decoder, fed whole, byte by byte and in parts, tells what the reader tells, and gives the stream
//!   up where the reader counts more than the limit.

use core::time::Duration;

use keepwatch_protocol::Input;
use keepwatch_protocol::sse::{COMMENT, Decoder, Event, EventTooLong};

/// Longer streams meet the same code again.
const LONGEST: usize = 4 * 1024;

/// The first byte says which of both, and the limit; the second how the stream is cut.
pub fn sse(data: &[u8]) {
    let [flags, split, rest @ ..] = data else { return };
    if rest.len() > LONGEST {
        return;
    }
    if flags & 1 == 0 {
        let (stream, meant) = encode(rest);
        assert_eq!(Reader::read(&stream, usize::MAX), meant, "read");
        decode(&stream, usize::MAX, *split, &meant);
    } else {
        let limit = [usize::MAX, 0, 1, 9, 16, 40, 100, 1000][usize::from(flags / 2 % 8)];
        decode(rest, limit, *split, &Reader::read(rest, limit));
    }
}

/// What an `EventSource` knows of a stream.
#[derive(Debug, Default, PartialEq, Eq)]
struct Source {
    dispatched: Vec<Dispatched>,
    last_event_id: String,
    /// In milliseconds, as far as a `u64` goes.
    reconnection_time: Option<u64>,
    too_long: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Dispatched {
    event: String,
    data: String,
    last_event_id: String,
}

impl Source {
    /// What the fields of one event do: the end of section 9.2.6.
    fn take(&mut self, id: Option<&str>, event: Option<&str>, data: Option<&str>, retry: Option<u64>) {
        if let Some(id) = id {
            id.clone_into(&mut self.last_event_id);
        }
        self.reconnection_time = retry.or(self.reconnection_time);
        if let Some(data) = data {
            let event = event.filter(|event| !event.is_empty()).unwrap_or("message").to_owned();
            let (data, last_event_id) = (data.to_owned(), self.last_event_id.clone());
            self.dispatched.push(Dispatched { event, data, last_event_id });
        }
    }
}

// ------------------------------------------------------------------------------------------------------------- events

/// Encodes the events of a script: a byte with the fields that there are, and then those. Also says what they mean.
fn encode(script: &[u8]) -> (Vec<u8>, Source) {
    let (mut stream, mut meant) = (Vec::new(), Source::default());
    let mut rest = script;
    while let Some((&has, after)) = rest.split_first() {
        rest = after;
        if has & 0x80 != 0 {
            stream.extend_from_slice(COMMENT);
        }
        let id = (has & 1 != 0).then(|| text(&mut rest));
        let event = (has & 2 != 0).then(|| text(&mut rest));
        let data = (has & 4 != 0).then(|| text(&mut rest));
        let retry = (has & 8 != 0).then(|| {
            let bytes = take(&mut rest, 2);
            let number = bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
            number << if has & 16 != 0 { 40 } else { 0 }
        });
        let before = stream.len();
        let encoded = Event {
            id: id.as_deref(),
            event: event.as_deref(),
            data: data.as_deref(),
            retry: retry.map(Duration::from_millis),
        }
        .encode(&mut stream);
        let is_bad =
            |text: &Option<String>, bad: &[char]| text.as_ref().is_some_and(|text| text.contains(bad));
        if is_bad(&id, &['\0', '\r', '\n']) || is_bad(&event, &['\r', '\n']) {
            assert!(encoded.is_err() && stream.len() == before, "what would forge a field is refused");
            continue;
        }
        assert_eq!(encoded, Ok(()));
        assert_eq!(stream.len() == before, has.trailing_zeros() >= 4, "an event without fields is nothing");
        let data = data.map(|data| data.replace("\r\n", "\n").replace('\r', "\n"));
        meant.take(id.as_deref(), event.as_deref(), data.as_deref(), retry);
    }
    (stream, meant)
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, after) = rest.split_at(count.min(rest.len()));
    *rest = after;
    taken
}

/// A byte of length, and so many bytes.
fn text(rest: &mut &[u8]) -> String {
    let length = take(rest, 1).first().copied().unwrap_or_default();
    String::from_utf8_lossy(take(rest, usize::from(length))).into_owned()
}

// ------------------------------------------------------------------------------------------------------- the decoder

/// The decoder tells the same, however the stream is cut.
fn decode(stream: &[u8], limit: usize, split: u8, meant: &Source) {
    for step in [stream.len().max(1), 1, usize::from(split) + 2] {
        assert_eq!(decoded(stream, limit, step), *meant, "{step} bytes at a time");
    }
}

fn decoded(stream: &[u8], limit: usize, step: usize) -> Source {
    let mut source = Source::default();
    let mut decoder = Decoder::new(limit);
    for part in stream.chunks(step) {
        let mut part = part.to_vec();
        let mut input = Input::new(&mut part);
        loop {
            match decoder.decode(&mut input) {
                Ok(Some(event)) => {
                    assert_ne!(event, Event::default(), "an event of nothing");
                    let retry = event.retry.map(|retry| u64::try_from(retry.as_millis()).unwrap_or(u64::MAX));
                    source.take(event.id, event.event, event.data, retry);
                }
                Ok(None) => break,
                Err(EventTooLong) => {
                    source.too_long = true;
                    return source;
                }
            }
        }
        assert!(input.is_empty(), "what makes no event is kept by the decoder");
    }
    source
}

// -------------------------------------------------------------------------------------------------------- the reader

/// The buffers of section 9.2.6.
#[derive(Default)]
struct Reader {
    source: Source,
    data: String,
    event_type: String,
    last_event_id: String,
    retry: Option<u64>,
    /// Not the standard's: what the fields of this event hold, each value of which only the last counts but for data.
    held: [usize; 2],
}

impl Reader {
    fn read(stream: &[u8], limit: usize) -> Source {
        let mut reader = Self::default();
        let mut rest = stream;
        let mut first = true;
        loop {
            // `*( any-char ) end-of-line`
            let end = rest.iter().position(|byte| b"\r\n".contains(byte));
            let (line, after) = rest.split_at(end.unwrap_or(rest.len()));
            let held = reader.held.iter().sum::<usize>() + reader.data.len().saturating_sub(1);
            // What is not UTF-8 is held as more than it was, so an event that is too long by then may end.
            if line.len() > limit.saturating_sub(held) {
                reader.source.too_long = true;
                return reader.source;
            }
            if end.is_none() {
                return reader.source; // what is pending is discarded
            }
            rest = after.strip_prefix(b"\r\n").unwrap_or(&after[1..]);
            // Line ends are ASCII: decoded alone, a line is what it is in the decoded stream.
            let line = String::from_utf8_lossy(line);
            // `stream = [ bom ] *event`
            let line = line.strip_prefix('\u{feff}').filter(|_| first).unwrap_or(&line);
            first = false;
            reader.line(line);
        }
    }

    fn line(&mut self, line: &str) {
        match line.split_once(':') {
            _ if line.is_empty() => self.dispatch(),
            Some(("", _comment)) => {}
            Some((name, value)) => self.field(name, value.strip_prefix(' ').unwrap_or(value)),
            None => self.field(line, ""),
        }
    }

    fn field(&mut self, name: &str, value: &str) {
        match name {
            "event" => {
                value.clone_into(&mut self.event_type);
                self.held[0] = value.len();
            }
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            "id" if !value.contains('\0') => {
                value.clone_into(&mut self.last_event_id);
                self.held[1] = value.len();
            }
            "retry" if !value.is_empty() && value.chars().all(|letter| letter.is_ascii_digit()) => {
                self.retry = Some(value.parse().unwrap_or(u64::MAX));
            }
            _ => {}
        }
    }

    fn dispatch(&mut self) {
        self.source.last_event_id.clone_from(&self.last_event_id);
        // The standard has it take effect at its line, which a block that is cut off would show.
        self.source.reconnection_time = self.retry;
        self.held = [0, 0];
        let event = core::mem::take(&mut self.event_type);
        let mut data = core::mem::take(&mut self.data);
        if data.is_empty() {
            return;
        }
        assert_eq!(data.pop(), Some('\n'));
        let event = if event.is_empty() { "message".to_owned() } else { event };
        let last_event_id = self.last_event_id.clone();
        self.source.dispatched.push(Dispatched { event, data, last_event_id });
    }
}
