//! HTTP: requests that are understood, and the answers that are no stream.

use keepwatch_protocol::http1::{Disposition, Event, Exchange, StatusCode};
use keepwatch_protocol::websocket::deflate::Agreed;
use keepwatch_protocol::{After, Input, Now, SendQueue, websocket};

use super::body::ListBody;
use super::connection::{Activity, Connection, Protocol};
use super::core::{Core, Writer};
use super::kept::Outgoing;
use super::websocket::Socket;
use crate::budget::{FREE, Share};
use crate::key::{Key, Revision};
use crate::request::{self, Call, EntityTags, Hold, Precondition, Refusal};
use crate::shapes::{self, Written};
use crate::store::{Condition, Operation, Reply, Store};

/// A request that was understood, and whose end has not come.
pub(super) struct Receiving {
    exchange: Exchange,
    call: Call,
    body: Vec<u8>,
    /// Of the budget, for the body.
    share: Share,
}

impl Receiving {
    /// Takes a part of the body; `false` if there is no memory for it.
    fn take(&mut self, data: &[u8]) -> bool {
        let needed = self.body.len() + data.len();
        if needed > self.body.capacity() {
            let twice = needed.max(2 * self.body.capacity());
            let Some(room) = [twice, needed].into_iter().find(|&bytes| self.share.resize(bytes)) else {
                return false;
            };
            self.body.reserve_exact(room - self.body.len());
        }
        self.body.extend_from_slice(data);
        true
    }
}

/// Pipelined writes of one connection that the store is asked about before others have their turn: each costs a look at
/// everyone who watches its key.
const DECIDED_AT_ONCE: usize = 16;

pub(super) type FieldLine<'a> = (&'a str, &'a [u8]);
pub(super) const JSON: FieldLine<'static> = ("Content-Type", b"application/json");
pub(super) const NOSNIFF: FieldLine<'static> = ("X-Content-Type-Options", b"nosniff");
/// A cache may keep it, and asks each time whether it still holds.
pub(super) const NO_CACHE: FieldLine<'static> = ("Cache-Control", b"no-cache");
pub(super) const NO_STORE: FieldLine<'static> = ("Cache-Control", b"no-store");

impl Connection {
    pub(super) fn receive_http<S: Store>(
        &mut self,
        core: &mut Core<S>,
        input: &mut Input<'_>,
        out: &mut SendQueue,
        now: Now,
    ) -> After {
        // What is being received is kept in hand: most requests begin and end in one read.
        let mut receiving = match std::mem::replace(&mut self.activity, Activity::Idle) {
            Activity::Receiving(receiving) => Some(*receiving),
            other => {
                self.activity = other;
                None
            }
        };
        let mut decided = 0;
        let after = loop {
            let Protocol::Http(http) = &mut self.protocol else { return After::Open };
            // What was not written of a stream that ended comes first.
            if out.over_mark() || self.outgoing.is_some() && matches!(self.activity, Activity::Idle) {
                break self.after_http();
            }
            match http.recv(input, out, now) {
                Ok(Event::NeedMore) => break self.after_http(),
                Ok(Event::Paused) => break self.after_http(),
                Ok(Event::Request(head, exchange)) => {
                    core.metrics.requests.inc();
                    self.listed.used();
                    match request::parse(&head, &core.config) {
                        Ok(call) => {
                            if matches!(call, Call::Put { .. }) && head.expects_continue() {
                                // Refused only if it is too late for it.
                                let _sent = http.proceed(&exchange, out);
                            }
                            // Nothing is reserved on the word of a head.
                            let share = core.buffers.incoming.share();
                            receiving = Some(Receiving { exchange, call, body: Vec::new(), share });
                        }
                        Err(refusal) => self.refuse(core, exchange, &refusal, out, now),
                    }
                }
                Ok(Event::Data(data)) => {
                    // Nothing else has a use for a body (RFC 9110 section 9.3).
                    let refused = receiving.take_if(|receiving| {
                        matches!(receiving.call, Call::Put { .. }) && !receiving.take(data)
                    });
                    if let Some(Receiving { exchange, .. }) = refused {
                        self.refuse_for_room(core, exchange, out, now);
                    }
                }
                Ok(Event::Trailers(_)) => {}
                // It is answered.
                Ok(Event::Refused(_)) => {
                    core.metrics.requests_malformed.inc();
                }
                Ok(Event::EndOfRequest) => {
                    if let Some(Receiving { exchange, call, body, .. }) = receiving.take() {
                        self.begins(now);
                        self.execute(core, exchange, call, body, out, now);
                        // Writes behind each other: if the store decides them at once, whoever watches is told of all these
                        // changes together, and not of each before the next.
                        let is_write = matches!(self.activity, Activity::Writing(_));
                        let is_pipelined = decided > 0 || !input.is_empty();
                        if is_write && is_pipelined && decided < DECIDED_AT_ONCE {
                            decided += 1;
                            core.settle_store();
                            self.answer_write(core, out, now);
                        }
                    }
                }
                Ok(Event::HungUp) => match self.activity {
                    Activity::Held(_) => {
                        self.stop(core);
                        break After::Finish;
                    }
                    // Endless: it stops at the next border of a frame.
                    Activity::Stream(_) | Activity::Hello(_) => break self.end_stream(core, out, now),
                    _ => break self.after_http(),
                },
                Ok(Event::Closed) => {
                    break match self.activity {
                        Activity::Idle => After::Finish,
                        _ => self.after_http(),
                    };
                }
                Err(error) => {
                    core.metrics.requests_malformed.inc();
                    self.stop(core);
                    // An answer that was under way is cut off, and the client is to see that.
                    return if error.answered { After::Finish } else { After::Abort };
                }
            }
            // Whoever ended its last exchange hears no more.
            if after_ends(&self.protocol, &self.activity) {
                break self.after_http();
            }
        };
        if let (Some(receiving), Activity::Idle) = (receiving, &self.activity) {
            self.activity = Activity::Receiving(Box::new(receiving));
        }
        after
    }

    fn execute<S: Store>(
        &mut self,
        core: &mut Core<S>,
        exchange: Exchange,
        call: Call,
        body: Vec<u8>,
        out: &mut SendQueue,
        now: Now,
    ) {
        // Only what reads has to wait for what is committed: writes of one turn are sealed into one batch.
        if call.reads() {
            core.settle();
        }
        match call {
            Call::Get { key, unless } => self.get(core, exchange, &key, unless.as_ref(), out, now),
            Call::Put { key, only_if } => match condition(core, &key, &only_if) {
                Ok(condition) => {
                    let operation = Operation::Put { key, value: body.into(), condition };
                    self.write(core, exchange, operation, out, now);
                }
                Err(conflict) => self.answer_written(core, exchange, &conflict, out, now),
            },
            Call::Delete { key, only_if } => match condition(core, &key, &only_if) {
                Ok(condition) => {
                    self.write(core, exchange, Operation::Delete { key, condition }, out, now);
                }
                Err(conflict) => self.answer_written(core, exchange, &conflict, out, now),
            },
            Call::List { prefix, limit, from } => {
                let list = ListBody::new(core, prefix, limit, from);
                self.list(core, exchange, list, out, now);
            }
            Call::Watch { watch, hold } => match hold {
                Hold::LongPoll(wait) => self.hold(core, exchange, watch, wait, out, now),
                Hold::Lines | Hold::Events => self.start_stream(core, exchange, watch, hold, out, now),
            },
            Call::Upgrade { accept, offers, watch } => {
                let offers = offers.iter().map(String::as_str);
                let agreed = core.config.websocket.compression.answer(offers);
                self.upgrade(core, exchange, (accept, agreed), watch, out, now);
            }
            Call::Hello => self.start_hello(core, exchange, out, now),
            Call::Count => self.start_count(exchange, out, now),
            Call::Announce { id } => {
                core.room.say(&format!("id: {id}\n"));
                let text = [("Content-Type", &b"text/plain; charset=utf-8"[..]), NOSNIFF, NO_STORE];
                self.answer(exchange, StatusCode::OK, &text, b"OK", out, now);
            }
            Call::Health => {
                let text = [("Content-Type", &b"text/plain"[..]), NO_STORE];
                self.answer(exchange, StatusCode::OK, &text, b"ok\n", out, now);
            }
            Call::Ready => {
                let (status, body) = match core.farewells {
                    None => (StatusCode::OK, &b"ready\n"[..]),
                    Some(_) => (StatusCode::SERVICE_UNAVAILABLE, &b"draining\n"[..]),
                };
                let text = [("Content-Type", &b"text/plain"[..]), NO_STORE];
                self.answer(exchange, status, &text, body, out, now);
            }
            Call::Metrics => {
                core.publish_levels();
                let shared = [
                    ("compression_bytes", "Memory of compression", core.compression_bytes()),
                    (
                        "buffered_bytes",
                        "Memory of requests and answers that are under way",
                        core.buffers.used(),
                    ),
                    ("buffered_limit_bytes", "How much that may be", core.buffers.limit()),
                ];
                let text = core.metrics.text(&core.compressed, shared);
                let kind = b"application/openmetrics-text; version=1.0.0; charset=utf-8";
                let fields = [("Content-Type", &kind[..]), NO_STORE];
                self.answer(exchange, StatusCode::OK, &fields, text.as_bytes(), out, now);
            }
            Call::Page => {
                let fields = [
                    ("Content-Type", &b"text/html; charset=utf-8"[..]),
                    ("Content-Security-Policy", PAGE_POLICY),
                    NOSNIFF,
                    NO_CACHE,
                ];
                // There is one of it, whoever is sent it.
                let page = Outgoing::small(core.page.clone());
                self.lend(exchange, StatusCode::OK, &fields, page, out, now);
            }
        }
    }

    fn get<S: Store>(
        &mut self,
        core: &mut Core<S>,
        exchange: Exchange,
        key: &Key,
        unless: Option<&EntityTags>,
        out: &mut SendQueue,
        now: Now,
    ) {
        let Some(change) = core.view.get(key) else {
            let body = shapes::error("no such key", Some(core.view.revision()));
            core.metrics.requests_refused.inc();
            return self.answer(exchange, StatusCode::NOT_FOUND, &[JSON, NO_CACHE], &body, out, now);
        };
        let tag = entity_tag(change.revision);
        if unless.is_some_and(|tags| tags.has(change.revision)) {
            let fields = [("ETag", tag.as_bytes()), NO_CACHE];
            return self.answer(exchange, StatusCode::NOT_MODIFIED, &fields, b"", out, now);
        }
        let fields =
            [("Content-Type", &b"application/octet-stream"[..]), NOSNIFF, NO_CACHE, ("ETag", tag.as_bytes())];
        let value = change.value.clone().unwrap_or_default();
        let mut body = Outgoing::default();
        if value.len() > FREE {
            let Some(kept) = core.keeping.value(&value) else {
                return self.refuse_for_room(core, exchange, out, now);
            };
            body.push_kept(kept, &value, 0..value.len());
        } else {
            body.push_small(&value, 0..value.len());
        }
        self.lend(exchange, StatusCode::OK, &fields, body, out, now);
    }

    fn write<S: Store>(
        &mut self,
        core: &mut Core<S>,
        exchange: Exchange,
        operation: Operation,
        out: &mut SendQueue,
        now: Now,
    ) {
        match core.submit(operation, Writer::Connection { id: self.id, operation: None }) {
            Ok(()) => self.activity = Activity::Writing(exchange),
            Err((busy, _)) => {
                let refusal =
                    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, busy).with_field("Retry-After", "1");
                self.refuse(core, exchange, &refusal, out, now);
            }
        }
    }

    pub(super) fn answer_written<S: Store>(
        &mut self,
        core: &mut Core<S>,
        exchange: Exchange,
        written: &Written,
        out: &mut SendQueue,
        now: Now,
    ) {
        match *written {
            Written::Done { status, revision } => {
                let status = StatusCode::new(status).unwrap_or(StatusCode::OK);
                let (tag, body) = (entity_tag(revision), format!("{{\"revision\":{revision}}}\n"));
                let fields = [JSON, ("ETag", tag.as_bytes())];
                self.answer(exchange, status, &fields, body.as_bytes(), out, now);
            }
            Written::Refused { status, why, revision } => {
                let status = StatusCode::new(status).unwrap_or(StatusCode::CONFLICT);
                core.metrics.requests_refused.inc();
                let (tag, body) = (revision.map(entity_tag), shapes::error(why, revision));
                let mut fields = vec![JSON];
                fields.extend(tag.as_ref().map(|tag| ("ETag", tag.as_bytes())));
                self.answer(exchange, status, &fields, &body, out, now);
            }
        }
    }

    pub(super) fn refuse<S: Store>(
        &mut self,
        core: &mut Core<S>,
        exchange: Exchange,
        refusal: &Refusal,
        out: &mut SendQueue,
        now: Now,
    ) {
        core.metrics.requests_refused.inc();
        let mut fields = vec![JSON];
        fields.extend(refusal.fields.iter().map(|(name, value)| (*name, value.as_bytes())));
        let body = shapes::error(&refusal.why, None);
        self.answer(exchange, refusal.status, &fields, &body, out, now);
    }

    /// There is no room in the budget of what is under way.
    pub(super) fn refuse_for_room<S: Store>(
        &mut self,
        core: &mut Core<S>,
        exchange: Exchange,
        out: &mut SendQueue,
        now: Now,
    ) {
        core.metrics.buffers_exhausted.inc();
        let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, NO_ROOM).with_field("Retry-After", "1");
        self.refuse(core, exchange, &refusal, out, now);
    }

    /// Something happened for an HTTP connection.
    pub(super) fn resume_http<S: Store>(
        &mut self,
        core: &mut Core<S>,
        out: &mut SendQueue,
        now: Now,
    ) -> After {
        match &mut self.activity {
            Activity::Writing(_) => self.answer_write(core, out, now),
            Activity::Held(_) => return self.resume_hold(core, out, now),
            Activity::Stream(_) => return self.resume_stream(core, out, now),
            Activity::Hello(_) => return self.resume_hello(core, out, now),
            Activity::Count(_) => return self.resume_count(core, out, now),
            Activity::Sending(_) => return self.resume_sending(out, now),
            Activity::Idle | Activity::Receiving(_) | Activity::Socket(_) => {}
        }
        self.after_http()
    }

    /// Answers the write that it waits for, if the store has decided it.
    fn answer_write<S: Store>(&mut self, core: &mut Core<S>, out: &mut SendQueue, now: Now) {
        let Some((_, written)) = core.writes.reply(self.id) else { return };
        if let Activity::Writing(exchange) = std::mem::replace(&mut self.activity, Activity::Idle) {
            self.answer_written(core, exchange, &written, out, now);
        }
    }

    fn upgrade<S: Store>(
        &mut self,
        core: &mut Core<S>,
        exchange: Exchange,
        (accept, agreed): ([u8; 28], Option<Agreed>),
        watch: Option<request::Watch>,
        out: &mut SendQueue,
        now: Now,
    ) {
        let Protocol::Http(http) = &mut self.protocol else { return };
        let mut fields = vec![("Sec-WebSocket-Accept", &accept[..])];
        fields.extend(agreed.as_ref().map(|agreed| ("Sec-WebSocket-Extensions", agreed.answer().as_bytes())));
        if let Err(refused) = http.upgrade(exchange, &fields, out, now) {
            let why = refused.error;
            let refusal = Refusal::new(StatusCode::BAD_REQUEST, why);
            return self.refuse(core, refused.token, &refusal, out, now);
        }
        core.metrics.websockets.inc();
        let seed = core.entropy();
        let config = core.websocket.clone();
        let mut connection = websocket::Connection::new(websocket::Role::Server, config, seed, now);
        if let Some(agreed) = agreed {
            core.metrics.websockets_compressed.inc();
            connection = connection.with_deflate(agreed);
        }
        self.protocol = Protocol::WebSocket(connection);
        self.activity = Activity::Socket(Socket::new());
        self.heartbeat = now.instant + core.config.heartbeat;
        if let Some(watch) = watch {
            self.start_only_watch(core, watch, out, now);
        }
    }
}

/// Everything that the page needs is in it.
const PAGE_POLICY: &[u8] = b"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
    connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What is said when the budget of what is under way is used up.
pub(super) const NO_ROOM: &str = "too much is under way: try later";

/// The store's condition for a write, after a look at what is there; an error is what stands against it.
fn condition<S>(core: &Core<S>, key: &Key, only_if: &Precondition) -> Result<Condition, Written> {
    let conflict = |current, absent| Written::new(Reply::Conflict { current }, absent);
    let current = core.view.get(key).map(|change| change.revision);
    let mut condition = Condition::None;
    match &only_if.if_none_match {
        None => {}
        Some(EntityTags::Any) => condition = Condition::Absent,
        Some(tags) if current.is_some_and(|revision| tags.has(revision)) => {
            return Err(conflict(current, true));
        }
        Some(_) => {}
    }
    match &only_if.if_match {
        None => {}
        // No key is both.
        Some(_) if condition == Condition::Absent => return Err(conflict(current, true)),
        Some(EntityTags::Any) => condition = Condition::Present,
        // The store looks again: what was read here may have changed by then.
        Some(tags) => match current.filter(|revision| tags.has(*revision)) {
            Some(revision) => condition = Condition::Revision(revision),
            None => return Err(conflict(current, false)),
        },
    }
    Ok(condition)
}

pub(super) fn entity_tag(revision: Revision) -> String {
    format!("\"{revision}\"")
}

/// Whether the connection takes no further request.
fn after_ends(protocol: &Protocol, activity: &Activity) -> bool {
    match (protocol, activity) {
        (Protocol::Http(http), Activity::Idle) => {
            matches!(http.disposition(), Disposition::Finish | Disposition::Abort)
        }
        _ => false,
    }
}
