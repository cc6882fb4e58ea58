//! The smallest demonstrations of a stream: `/hello` never ends, `/count` does.

use std::time::Duration;

use keepwatch_protocol::http1::{BodyTx, Exchange, ResponseHead, StatusCode};
use keepwatch_protocol::{After, Instant, Now, SendQueue, Sink};

use super::connection::{Activity, Connection, Protocol};
use super::core::Core;
use super::http::{FieldLine, NO_STORE, NOSNIFF};
use crate::room::Missed;
use crate::store::Store;

/// A reader of the room.
pub(super) struct Hello {
    body: BodyTx,
    /// The number of the next line.
    line: u64,
}

/// A count that is under way.
pub(super) struct Count {
    body: BodyTx,
    said: u8,
    pub(super) next: Instant,
}

const TEXT: [FieldLine<'static>; 3] = [("Content-Type", b"text/plain"), NOSNIFF, NO_STORE];
const SECOND: Duration = Duration::from_secs(1);

impl Connection {
    pub(super) fn start_hello<S: Store>(
        &mut self,
        core: &mut Core<S>,
        exchange: Exchange,
        out: &mut SendQueue,
        now: Now,
    ) {
        if let Some(body) = self.start_text(exchange, b"wait:\n", out, now) {
            core.readers.insert(self.slot());
            self.activity = Activity::Hello(Hello { body, line: core.room.end() });
        }
    }

    pub(super) fn resume_hello<S: Store>(
        &mut self,
        core: &mut Core<S>,
        out: &mut SendQueue,
        now: Now,
    ) -> After {
        let (Activity::Hello(hello), Protocol::Http(http)) = (&mut self.activity, &mut self.protocol) else {
            return After::Paused;
        };
        while !out.over_mark() {
            match core.room.line(hello.line) {
                Ok(Some(line)) => {
                    let sent = http.data(&mut hello.body, line, out);
                    debug_assert!(sent.is_ok());
                    hello.line += 1;
                }
                Ok(None) => return After::Paused,
                // Lines are missing: the stream ends rather than hide that.
                Err(Missed) => return self.end_stream(core, out, now),
            }
        }
        // The rest follows when this is written.
        core.ready.push(self.slot());
        After::Paused
    }

    pub(super) fn start_count(&mut self, exchange: Exchange, out: &mut SendQueue, now: Now) {
        if let Some(body) = self.start_text(exchange, b"world1\n", out, now) {
            self.activity = Activity::Count(Count { body, said: 1, next: now.instant + SECOND });
        }
    }

    pub(super) fn resume_count<S: Store>(
        &mut self,
        core: &mut Core<S>,
        out: &mut SendQueue,
        now: Now,
    ) -> After {
        let (Activity::Count(count), Protocol::Http(http)) = (&mut self.activity, &mut self.protocol) else {
            return After::Paused;
        };
        if count.next <= now.instant {
            count.said += 1;
            count.next = count.next + SECOND;
            let sent = http.data(&mut count.body, format!("world{}\n", count.said).as_bytes(), out);
            debug_assert!(sent.is_ok());
            if count.said == 4 {
                return self.end_stream(core, out, now);
            }
        }
        After::Paused
    }

    /// The head of a stream of text, and its first line. `None` if there is no body to send (HEAD).
    fn start_text(
        &mut self,
        exchange: Exchange,
        first: &[u8],
        out: &mut SendQueue,
        now: Now,
    ) -> Option<BodyTx> {
        let Protocol::Http(http) = &mut self.protocol else { return None };
        match http.respond(exchange, &ResponseHead::stream(StatusCode::OK, &TEXT), out, now) {
            Ok(body) if body.is_suppressed() => {
                let _finished = http.finish(body, out, now);
                None
            }
            Ok(mut body) => {
                let sent = http.data(&mut body, first, out);
                debug_assert!(sent.is_ok());
                Some(body)
            }
            Err(refused) => {
                self.answer(refused.token, StatusCode::INTERNAL_SERVER_ERROR, &[], b"", out, now);
                None
            }
        }
    }

    /// Ends whatever stream is under way, cleanly: everything that was said is read to its end by the client.
    pub(super) fn end_stream<S: Store>(
        &mut self,
        core: &mut Core<S>,
        out: &mut SendQueue,
        now: Now,
    ) -> After {
        let body = match std::mem::replace(&mut self.activity, Activity::Idle) {
            Activity::Hello(hello) => {
                core.readers.remove(&self.slot());
                hello.body
            }
            Activity::Count(count) => count.body,
            Activity::Stream(stream) => {
                if core.farewells.is_some() || self.roomless {
                    // An EventSource comes back by itself: not at once, and not with all the others.
                    let mut frame = Vec::new();
                    stream.look().put_retry(core.retry(), &mut frame);
                    out.put(&frame);
                }
                stream.end(core)
            }
            other => {
                self.activity = other;
                return self.after_http();
            }
        };
        if let Protocol::Http(http) = &mut self.protocol {
            let finished = http.finish(body, out, now);
            debug_assert!(finished.is_ok());
        }
        self.after_http()
    }
}
