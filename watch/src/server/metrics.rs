//! What `/metrics` shows, in the `OpenMetrics` text format.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::compressed::Tally;

pub(super) struct Metrics {
    registry: Registry,
    pub(super) connections_opened: Counter,
    pub(super) connections_closed: Counter,
    pub(super) connections_refused: Counter,
    pub(super) requests: Counter,
    pub(super) requests_malformed: Counter,
    pub(super) requests_refused: Counter,
    pub(super) websockets: Counter,
    pub(super) websockets_compressed: Counter,
    /// WebSockets that were closed as the memory of compression was used up.
    pub(super) compression_exhausted: Counter,
    /// What encoders of all machines did.
    pub(super) compressed: Tally,
    pub(super) messages_malformed: Counter,
    pub(super) writes: Counter,
    pub(super) changes: Counter,
    pub(super) frames: Counter,
    pub(super) polls_answered: Counter,
    pub(super) compacted: Counter,
    pub(super) bytes_received: Counter,
    pub(super) bytes_lent: Counter,
    connections: Gauge,
    watchers: Gauge,
    keys: Gauge,
    revision: Gauge,
    state_bytes: Gauge,
    log_bytes: Gauge,
    encoded_bytes: Gauge,
    compression_bytes: Gauge,
}

/// What is read off when it is asked for.
pub(super) struct Levels {
    pub(super) watchers: usize,
    pub(super) keys: usize,
    pub(super) revision: u64,
    pub(super) state_bytes: usize,
    pub(super) log_bytes: usize,
    pub(super) encoded_bytes: usize,
    pub(super) compression_bytes: usize,
}

impl Metrics {
    pub(super) fn new(compressed: &Tally) -> Self {
        let mut registry = Registry::with_prefix("keepwatch");
        let of_all = [
            (&compressed.messages, "compressed_messages", "Messages compressed for all who take them so"),
            (&compressed.before, "compressed_messages_bytes", "Their bytes, before they were compressed"),
            (&compressed.after, "compressed_frames_bytes", "The bytes of the frames that were made of them"),
        ];
        for (counter, name, help) in of_all {
            registry.register(name, format!("{help} (by all machines)"), counter.clone());
        }
        let mut counter = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let connections_opened = counter("connections_opened", "Connections admitted");
        let connections_closed = counter("connections_closed", "Connections that are gone");
        let connections_refused = counter("connections_refused", "Connections answered 503 at the limit");
        let requests = counter("requests", "HTTP requests understood");
        let requests_malformed =
            counter("requests_malformed", "HTTP requests that are not HTTP, or over a limit");
        let requests_refused =
            counter("requests_refused", "HTTP requests answered 4xx or 5xx for what they ask");
        let websockets = counter("websockets", "Connections upgraded to WebSocket");
        let websockets_compressed =
            counter("websockets_compressed", "Connections upgraded to WebSocket with compression");
        let compression_exhausted = counter(
            "compression_exhausted",
            "WebSockets closed with 1013 as the memory of compression was used up",
        );
        let messages_malformed = counter("websockets_malformed", "WebSockets closed for what they sent");
        let writes = counter("writes", "Writes given to the store");
        let changes = counter("changes", "Changes that came out of the store");
        let frames = counter("frames", "Frames of changes written to streams and WebSockets");
        let polls_answered = counter("polls_answered", "Long polls answered");
        let compacted = counter("compacted", "Watches told that changes are missing");
        let bytes_received = counter("received_bytes", "Bytes taken from connections");
        let bytes_lent = counter("lent_bytes", "Bytes of bodies and shared frames written to connections");
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        Self {
            connections: gauge("connections", "Connections now"),
            watchers: gauge("watchers", "Watches now, of all transports"),
            keys: gauge("keys", "Keys that exist"),
            revision: gauge("revision", "The newest revision"),
            state_bytes: gauge("state_bytes", "Memory of keys, values and their older versions, about"),
            log_bytes: gauge("log_bytes", "Memory of the log's changes, about (shared with the state)"),
            encoded_bytes: gauge("encoded_bytes", "Memory of encoded frames"),
            compression_bytes: gauge("compression_bytes", "Memory of compression, of all machines"),
            registry,
            connections_opened,
            connections_closed,
            connections_refused,
            requests,
            requests_malformed,
            requests_refused,
            websockets,
            websockets_compressed,
            compression_exhausted,
            compressed: compressed.clone(),
            messages_malformed,
            writes,
            changes,
            frames,
            polls_answered,
            compacted,
            bytes_received,
            bytes_lent,
        }
    }

    pub(super) fn text(&self, levels: &Levels) -> String {
        let set = |gauge: &Gauge, level: usize| {
            gauge.set(i64::try_from(level).unwrap_or(i64::MAX));
        };
        let open = self.connections_opened.get() - self.connections_closed.get();
        set(&self.connections, usize::try_from(open).unwrap_or(usize::MAX));
        set(&self.watchers, levels.watchers);
        set(&self.keys, levels.keys);
        set(&self.revision, usize::try_from(levels.revision).unwrap_or(usize::MAX));
        set(&self.state_bytes, levels.state_bytes);
        set(&self.log_bytes, levels.log_bytes);
        set(&self.encoded_bytes, levels.encoded_bytes);
        set(&self.compression_bytes, levels.compression_bytes);
        let mut text = String::new();
        // Writing into a String cannot fail.
        let written = encode(&mut text, &self.registry);
        debug_assert!(written.is_ok());
        text
    }
}
