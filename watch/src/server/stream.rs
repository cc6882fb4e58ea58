//! Watches over HTTP: long polls, streams of lines, server-sent events.
//!
//! Every watch begins the same way: the watcher is registered, then what it has not seen is looked for. No change can fall
//! between the two.

use keepwatch_protocol::http1::{BodyTx, Exchange, ResponseHead, StatusCode};
use keepwatch_protocol::long_poll::{self, Outcome};
use keepwatch_protocol::{After, Instant, Now, SendQueue, Sink, websocket};
use std::sync::Arc;
use std::time::Duration;

use super::body::COPIED;
use super::connection::{Activity, Connection, Next, Protocol};
use super::core::Core;
use super::delivery::Planned;
use super::http::{JSON, NO_STORE, NOSNIFF};
use super::kept::Outgoing;
use super::watcher::{Owner, Watcher};
use crate::budget::FREE;
use crate::encoding::EncodingId;
use crate::index::{Filter, WatcherId};
use crate::key::{Key, Position, Revision};
use crate::log::RevisionError;
use crate::request::{Hold, Refusal, Watch};
use crate::shapes::{self, Notice, put_event_members};
use crate::store::Store;
use crate::surface::Look;
use crate::view::View;

/// A long poll.
pub(super) struct Held {
    exchange: Exchange,
    hold: long_poll::Hold,
    pub(super) watcher: WatcherId,
    /// The past is still being looked through, in steps.
    searching: bool,
}

/// A stream of lines or server-sent events.
pub(super) struct Stream {
    body: BodyTx,
    feed: Feed,
}

/// One watch that is being delivered, on whatever carries it.
pub(super) struct Feed {
    pub(super) watcher: WatcherId,
    pub(super) look: Look,
    /// It began behind a revision, and was not told yet that it is up to date.
    catching_up: bool,
    initial: Option<Box<Initial>>,
}

/// The state that is said before the changes, from where it goes on.
struct Initial {
    prefix: Arc<str>,
    only: bool,
    at: Revision,
    after: Option<Key>,
}

/// Why a watch cannot begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoWatch {
    /// Its revision is not, or no longer, one that changes can be told from.
    Revision(RevisionError),
    /// There are too many.
    TooMany,
}

impl Feed {
    /// Registers the watch. Also gives what is to be said first.
    pub(super) fn begin<S: Store>(
        core: &mut Core<S>,
        slot: u32,
        watch: &Watch,
        look: Look,
    ) -> Result<(Self, Option<Notice>), NoWatch> {
        let current = core.view.revision();
        let (at, mut initial, notice) = match watch.since {
            None => (core.view.log().head(), watch.initial, Some(Notice::Bookmark(current))),
            Some(since) => match core.view.log().position_after(since) {
                // It has the state already. What it has not seen is told first; then, that this was all.
                Ok(at) if at < core.view.log().head() => (at, false, None),
                Ok(at) => (at, false, Some(Notice::Bookmark(current))),
                // The state is said anew, after word that it is not the old one.
                Err(_) if watch.initial => (core.view.log().head(), true, Some(Notice::Restated(current))),
                Err(error) => return Err(NoWatch::Revision(error)),
            },
        };
        initial &= watch.initial;
        let watcher = register(core, Owner::Connection(slot), watch.filter.clone(), at)?;
        let notice = notice.filter(|notice| !initial || matches!(notice, Notice::Restated(_)));
        let initial = initial.then(|| {
            let (prefix, only) = match &watch.filter {
                Filter::Key(key) => (Arc::from(key.as_str()), true),
                Filter::Prefix(prefix) => (Arc::clone(prefix), false),
            };
            Box::new(Initial { prefix, only, at: current, after: None })
        });
        let catching_up = notice.is_none() && initial.is_none();
        Ok((Self { watcher, look, catching_up, initial }, notice))
    }

    /// The next piece of the state that is said first, if there is more of it. The machine is that of a connection whose
    /// messages are to be compressed.
    pub(super) fn next_initial<S>(
        &mut self,
        core: &mut Core<S>,
        mut machine: Option<&mut websocket::Connection>,
    ) -> Next {
        let Some(initial) = self.initial.as_mut() else { return Next::Nothing };
        let from = initial.after.clone();
        let mut piece = Vec::new();
        let mut share = core.buffers.outgoing.share();
        // Of keys and values, however little comes of them.
        let mut bytes = 0;
        let mut done = true;
        match core.view.list(&initial.prefix, initial.after.as_deref(), initial.at) {
            Ok(list) => {
                for change in list {
                    if initial.only && change.key.as_str() != &*initial.prefix {
                        break;
                    }
                    bytes += change.bytes();
                    if !piece.is_empty() && piece.len().max(bytes) > FREE {
                        done = false;
                        break;
                    }
                    if !share.resize_to_send(bytes) {
                        return Next::NoRoom(bytes);
                    }
                    match &mut machine {
                        Some(machine) => self.look.send_initial(change, machine, &mut piece),
                        None => self.look.put_initial(change, &mut piece),
                    }
                    initial.after = Some(change.key.clone());
                }
            }
            Err(_) => {
                // The reader was slower than the log is long: it is told so, as for a change that it missed.
                self.initial = None;
                if let Some(watcher) = core.index.get_mut(self.watcher) {
                    watcher.lose();
                }
                return Next::Nothing;
            }
        }
        if done {
            self.look.put_notice(Notice::Bookmark(initial.at), &mut piece);
        }
        if !share.resize_to_send(piece.len()) {
            // It is more than its key and value.
            initial.after = from;
            return Next::NoRoom(piece.len());
        }
        if done {
            self.initial = None;
        }
        Next::Piece(Outgoing::counted(share, piece.into()))
    }

    pub(super) fn plan<S>(&self, core: &mut Core<S>) -> Planned {
        let Core { delivery, view, surfaces, index, .. } = core;
        delivery.plan(view, *surfaces, index, self.watcher, self.look)
    }

    /// Whether changes that it has not seen are no longer in the log.
    pub(super) fn is_compacted<S>(&self, core: &Core<S>) -> bool {
        let behind = core.behind(self.watcher);
        self.initial.is_none() && behind.is_some_and(|at| at < core.view.log().floor())
    }

    /// Whether it has caught up, and is to be told so.
    pub(super) fn has_caught_up<S>(&self, core: &Core<S>) -> bool {
        self.catching_up && self.is_synced(core)
    }

    /// The bookmark that is due, with the heartbeat or as it has caught up.
    pub(super) fn bookmark<S>(&mut self, core: &Core<S>, heartbeat: bool) -> Option<Notice> {
        let due = (heartbeat || self.catching_up) && self.is_synced(core);
        self.catching_up &= !due;
        due.then(|| Notice::Bookmark(core.view.revision()))
    }

    /// Whether it has seen everything that concerns it.
    pub(super) fn is_synced<S>(&self, core: &Core<S>) -> bool {
        self.initial.is_none() && core.behind(self.watcher).is_none()
    }
}

fn register<S>(core: &mut Core<S>, owner: Owner, filter: Filter, at: Position) -> Result<WatcherId, NoWatch> {
    let watcher = Watcher::new(owner, at, core.view.log().head()).ok_or(NoWatch::TooMany)?;
    core.index.add(filter, watcher).map_err(|_| NoWatch::TooMany)
}

impl Stream {
    pub(super) fn next_initial<S>(&mut self, core: &mut Core<S>) -> Next {
        self.feed.next_initial(core, None)
    }

    pub(super) fn plan<S>(&self, core: &mut Core<S>) -> Planned {
        self.feed.plan(core)
    }

    pub(super) fn has_caught_up<S>(&self, core: &Core<S>) -> bool {
        self.feed.has_caught_up(core)
    }

    pub(super) fn look(&self) -> Look {
        self.feed.look
    }

    pub(super) fn stop<S>(self, core: &mut Core<S>) {
        core.index.remove(self.feed.watcher);
    }

    pub(super) fn end<S>(self, core: &mut Core<S>) -> BodyTx {
        core.index.remove(self.feed.watcher);
        self.body
    }
}

impl Held {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.hold.deadline()
    }
}

impl Connection {
    pub(super) fn start_stream<S: Store>(
        &mut self,
        core: &mut Core<S>,
        exchange: Exchange,
        watch: Watch,
        hold: Hold,
        out: &mut SendQueue,
        now: Now,
    ) {
        let (kind, look): (&[u8], _) = match hold {
            Hold::Events => (b"text/event-stream", Look::Events { bare: false }),
            Hold::Lines | Hold::LongPoll(_) => (b"application/x-ndjson", Look::Lines { bare: false }),
        };
        let fields = [
            ("Content-Type", kind),
            NO_STORE,
            NOSNIFF,
            // Proxies that would wait for more are asked not to.
            ("X-Accel-Buffering", b"no"),
        ];
        let begun = Feed::begin(core, self.slot(), &watch, look);
        let mut retry = None;
        let (feed, notice) = match begun {
            Ok((feed, notice)) => (Some(feed), notice),
            // An EventSource gives up for ever on any status but 200: it is told on the stream.
            Err(NoWatch::Revision(_)) if hold == Hold::Events => {
                core.metrics.compacted.inc();
                (None, Some(Notice::Compacted(core.view.revision())))
            }
            Err(NoWatch::TooMany) if hold == Hold::Events => {
                core.metrics.requests_refused.inc();
                retry = Some(core.retry());
                (None, None)
            }
            Err(error) => return self.refuse_watch(core, exchange, error, out, now),
        };
        let Protocol::Http(http) = &mut self.protocol else { return };
        let mut body = match http.respond(exchange, &ResponseHead::stream(StatusCode::OK, &fields), out, now)
        {
            Ok(body) => body,
            Err(refused) => {
                if let Some(feed) = feed {
                    core.index.remove(feed.watcher);
                }
                return self.answer(refused.token, StatusCode::INTERNAL_SERVER_ERROR, &[], b"", out, now);
            }
        };
        let bare = body.is_close_delimited();
        let look = match look {
            Look::Events { .. } => Look::Events { bare },
            _ => Look::Lines { bare },
        };
        let mut frame = Vec::new();
        if let Some(notice) = notice {
            look.put_notice(notice, &mut frame);
        }
        if let Some(retry) = retry {
            look.put_retry(retry, &mut frame);
        }
        out.put(&frame);
        match feed {
            Some(feed) => {
                self.heartbeat = now.instant + core.config.heartbeat;
                self.activity = Activity::Stream(Stream { body, feed: Feed { look, ..feed } });
            }
            None => {
                let framed = http.framed(&mut body, 0);
                debug_assert!(framed.is_ok());
                let finished = http.finish(body, out, now);
                debug_assert!(finished.is_ok());
            }
        }
    }

    fn refuse_watch<S: Store>(
        &mut self,
        core: &mut Core<S>,
        exchange: Exchange,
        error: NoWatch,
        out: &mut SendQueue,
        now: Now,
    ) {
        match error {
            NoWatch::Revision(error) => {
                core.metrics.compacted.inc();
                let body = shapes::error(&error.to_string(), Some(core.view.revision()));
                self.answer(exchange, StatusCode::GONE, &[JSON, NO_STORE], &body, out, now);
            }
            NoWatch::TooMany => {
                let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too many watches")
                    .with_field("Retry-After", "10");
                self.refuse(core, exchange, &refusal, out, now);
            }
        }
    }

    pub(super) fn resume_stream<S: Store>(
        &mut self,
        core: &mut Core<S>,
        out: &mut SendQueue,
        now: Now,
    ) -> After {
        let Activity::Stream(Stream { feed, .. }) = &mut self.activity else { return After::Paused };
        let heartbeat = self.heartbeat <= now.instant;
        if heartbeat {
            self.heartbeat = now.instant + core.config.heartbeat;
        }
        let notice = if self.outgoing.is_some() {
            // What is said here would come before it. When it is written, it is seen what else is due.
            return After::Paused;
        } else if heartbeat && self.roomless {
            // It cannot say that it is up to date, and is silent for no longer than it promised: it may come back.
            return self.end_stream(core, out, now);
        } else if feed.is_compacted(core) {
            core.metrics.compacted.inc();
            Notice::Compacted(core.view.revision())
        } else if let Some(bookmark) = feed.bookmark(core, heartbeat) {
            bookmark
        } else {
            return After::Paused;
        };
        let mut frame = Vec::new();
        feed.look.put_notice(notice, &mut frame);
        out.put(&frame);
        match notice {
            Notice::Compacted(_) => self.end_stream(core, out, now),
            _ => After::Paused,
        }
    }

    pub(super) fn hold<S: Store>(
        &mut self,
        core: &mut Core<S>,
        exchange: Exchange,
        watch: Watch,
        wait: Duration,
        out: &mut SendQueue,
        now: Now,
    ) {
        let at = match watch.since {
            None => Ok(core.view.log().head()),
            Some(since) => core.view.log().position_after(since).map_err(NoWatch::Revision),
        };
        let registered =
            at.and_then(|at| Ok((at, register(core, Owner::Connection(self.slot()), watch.filter, at)?)));
        let (at, watcher) = match registered {
            Ok(registered) => registered,
            Err(error) => return self.refuse_watch(core, exchange, error, out, now),
        };
        let jitter = core.entropy();
        let hold = long_poll::Hold::new(wait, core.config.coalesce, jitter, now);
        let searching = at < core.view.log().head();
        self.activity = Activity::Held(Held { exchange, hold, watcher, searching });
        if searching || wait.is_zero() {
            self.resume_hold(core, out, now);
        }
    }

    pub(super) fn resume_hold<S: Store>(
        &mut self,
        core: &mut Core<S>,
        out: &mut SendQueue,
        now: Now,
    ) -> After {
        let Activity::Held(held) = &mut self.activity else { return After::Paused };
        if let Some(at) = core.behind(held.watcher) {
            if at < core.view.log().floor() {
                return self.answer_hold(core, out, now);
            }
            if held.searching {
                match search(core, held.watcher, at) {
                    Search::Found => return self.answer_hold(core, out, now),
                    Search::More => core.ready.push(self.slot()),
                    Search::Nothing => held.searching = false,
                }
            } else {
                held.hold.changed(now);
            }
        }
        let Activity::Held(held) = &mut self.activity else { return After::Paused };
        held.hold.on_deadline(now);
        match held.hold.outcome() {
            None => After::Paused,
            Some(Outcome::Changed | Outcome::TimedOut) => self.answer_hold(core, out, now),
            Some(Outcome::Abandoned) => {
                self.stop(core);
                After::Finish
            }
        }
    }

    /// Answers a long poll with what there is, or with word that some of it is no longer there.
    pub(super) fn answer_hold<S: Store>(
        &mut self,
        core: &mut Core<S>,
        out: &mut SendQueue,
        now: Now,
    ) -> After {
        let Activity::Held(held) = std::mem::replace(&mut self.activity, Activity::Idle) else {
            return After::Paused;
        };
        let behind = core.behind(held.watcher);
        if behind.is_some_and(|at| at < core.view.log().floor()) {
            core.index.remove(held.watcher);
            let floor = core.view.log().floor_revision();
            let error = NoWatch::Revision(RevisionError::Compacted { floor });
            self.refuse_watch(core, held.exchange, error, out, now);
            return self.after_http();
        }
        let body = answer_body(core, held.watcher);
        core.index.remove(held.watcher);
        let mut share = core.buffers.outgoing.share();
        if !share.resize_to_send(body.len()) {
            self.refuse_for_room(core, held.exchange, out, now);
            return self.after_http();
        }
        core.metrics.polls_answered.inc();
        let fields = [JSON, NO_STORE, NOSNIFF];
        self.lend(held.exchange, StatusCode::OK, &fields, Outgoing::counted(share, body), out, now);
        self.after_http()
    }
}

/// What a step through the past came to.
enum Search {
    Found,
    Nothing,
    More,
}

/// Changes that are looked at in one step.
const STEP: usize = 16 << 10;

/// Looks for a change that concerns the watcher, from there on, and moves its cursor to it.
fn search<S>(core: &mut Core<S>, watcher: WatcherId, from: Position) -> Search {
    let Some(filter) = core.index.filter_of(watcher) else { return Search::Nothing };
    let head = core.view.log().head();
    let (at, found) = match filter {
        Filter::Key(key) => match core.view.next_change_of(key, from) {
            Some(at) => (at, Search::Found),
            None => (head, Search::Nothing),
        },
        Filter::Prefix(prefix) => {
            if let Some(at) = core.view.next_change_under(prefix, from) {
                (at, if at < head { Search::Found } else { Search::Nothing })
            } else {
                let mut changes = core.view.log().changes(from).into_iter().flatten().take(STEP);
                match changes.find(|(_, change)| change.key.starts_with(&**prefix)) {
                    Some((at, _)) => (at, Search::Found),
                    None if head.since(from) > STEP as u64 => (from.plus(STEP), Search::More),
                    None => (head, Search::Nothing),
                }
            }
        }
    };
    if let Some(watcher) = core.index.get_mut(watcher) {
        watcher.seen(at, head);
    }
    found
}

/// The answer to the last long poll, if it is small. Ten thousand that waited for the same are answered the same.
#[derive(Debug)]
pub(super) struct Answered {
    filter: Filter,
    behind: Option<Position>,
    revision: Revision,
    body: Arc<[u8]>,
}

/// The answer to a long poll: that of the one before, if both waited for the same from the same position on.
fn answer_body<S>(core: &mut Core<S>, watcher: WatcherId) -> Arc<[u8]> {
    let revision = core.view.revision();
    let behind = core.behind(watcher);
    let Some(filter) = core.index.filter_of(watcher) else { return poll_body(revision, &[]).into() };
    match &core.answered {
        Some(last) if (&last.filter, last.behind, last.revision) == (filter, behind, revision) => {
            Arc::clone(&last.body)
        }
        _ => {
            let filter = filter.clone();
            let body = Arc::<[u8]>::from(collect(core, watcher));
            core.answered = (body.len() <= COPIED).then(|| Answered {
                filter,
                behind,
                revision,
                body: Arc::clone(&body),
            });
            body
        }
    }
}

/// Makes the answer to a long poll: the changes from the watcher's cursor on, and the revision up to which these are all.
fn collect<S>(core: &mut Core<S>, watcher: WatcherId) -> Vec<u8> {
    let mut events = Vec::new();
    let mut revision = core.view.revision();
    let behind = core.behind(watcher);
    let (Some(from), Some(filter)) = (behind, core.index.filter_of(watcher)) else {
        return poll_body(revision, &events);
    };
    let (head, limit) = (core.view.log().head(), core.config.poll_bytes);
    let mut at = from;
    let mut looked = 0;
    // Whether there are so few keys that these say where to go on.
    let mut few = true;
    while at < head {
        let Some(change) = core.view.log().change(at) else { break };
        let (matches, this) = (filter.matches(&change.key), change.revision);
        if matches {
            events.extend_from_slice(if events.is_empty() { b"{" } else { b",{" });
            put_members(&mut core.view, core.surfaces.members, at, &mut events);
        }
        looked += 1;
        // An answer that is cut is cut behind a commit: the next one goes on from its revision.
        if (events.len() >= limit || looked >= STEP) && at.plus(1) < head && core.view.log().ends_commit(at) {
            revision = this;
            break;
        }
        at = match filter {
            Filter::Key(key) => core.view.next_change_of(key, at.plus(1)).unwrap_or(head),
            Filter::Prefix(prefix) if !matches && few => {
                let next = core.view.next_change_under(prefix, at);
                few = next.is_some();
                next.unwrap_or_else(|| at.plus(1))
            }
            Filter::Prefix(_) => at.plus(1),
        };
    }
    poll_body(revision, &events)
}

/// Puts the members of a change: a copy of what is made for everyone, unless all that would be made for this poll alone.
fn put_members(view: &mut View, members: EncodingId, at: Position, out: &mut Vec<u8>) {
    /// A batch of so many changes is encoded when any of them is asked for.
    const FEW: usize = 16;
    if let Some((encoded, index)) = view.log().encoded(at, members) {
        return out.extend_from_slice(encoded.frame_bytes(index));
    }
    let Some((batch, index)) = view.log().batch(at) else { return };
    if batch.changes().len() <= FEW {
        let encoded = view.encode(at, members);
        out.extend_from_slice(encoded.map_or(&[], |(encoded, index)| encoded.frame_bytes(index)));
    } else if let Some(change) = batch.changes().get(index) {
        put_event_members(change, out);
    }
}

fn poll_body(revision: Revision, events: &[u8]) -> Vec<u8> {
    let mut body = format!("{{\"revision\":{revision},\"events\":[").into_bytes();
    body.extend_from_slice(events);
    body.extend_from_slice(b"]}\n");
    body
}
