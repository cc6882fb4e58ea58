//! A WebSocket: any number of watches on one connection, reads and writes, both ways.

mod feeds;
mod request;

use keepwatch_protocol::websocket::{
    Assembler, CloseCode, Connection as Machine, Event, Message, MessageKind, Opcode, RecvError, Role,
};
use keepwatch_protocol::{After, ConnectionId, Input, Now, SendQueue, Sink};

use self::feeds::{Feeds, watch_bytes};
use self::request::{Refused, Request, parse};
use super::connection::{Activity, Connection, Next, Protocol};
use super::core::{Core, Writer};
use super::delivery::Planned;
use super::http::NO_ROOM;
use super::stream::{Feed, NoWatch};
use crate::budget::{Budget, FREE, Share};
use crate::key::{Key, Revision};
use crate::request::Watch;
use crate::shapes::{Notice, Written, continue_token, put_item_members, put_string};
use crate::store::Store;
use crate::surface::{Look, WatchId};

/// What a WebSocket is busy with. Small, as most have one watch and say nothing.
pub(super) struct Socket {
    /// The watch that the URL named, and those that the client opened, each with its id.
    feeds: Feeds,
    waiting: Option<Box<Waiting>>,
    /// Writes whose reply has not come.
    writes: u32,
    /// Bytes of messages in this turn, as they are when they are not compressed: all that came, and values and lists that were
    /// said.
    work: u32,
}

/// A message that is here and not done.
enum Waiting {
    /// Parts of one, and what they hold of the budget.
    Parts { assembler: Assembler, share: Share },
    /// The watch with this id is to be cancelled, at the end of what is being sent. Behind it no message is taken.
    Cancel(u64),
    /// Answers that are among the connection's own bytes, over their mark. Nothing is taken or said until they are below it.
    Answers(#[expect(dead_code, reason = "it is held")] Share),
}

/// The close code of a watch that came from the URL, when its revision is compacted.
const COMPACTED: u16 = 4410;

/// There is no room in the budget for an answer.
struct NoRoom;

/// How much of messages is understood and said in one turn, about.
const WORK_AT_ONCE: u32 = 64 << 10;

impl Socket {
    pub(super) fn new() -> Self {
        Self { feeds: Feeds::None, waiting: None, writes: 0, work: 0 }
    }

    pub(super) fn has_watches(&self) -> bool {
        !self.feeds.as_slice().is_empty()
    }

    /// Whether a watch has caught up, and is to be told so.
    pub(super) fn has_caught_up<S>(&self, core: &Core<S>) -> bool {
        self.feeds.as_slice().iter().any(|feed| feed.has_caught_up(core))
    }

    pub(super) fn has_parked(&self) -> bool {
        matches!(self.waiting.as_deref(), Some(Waiting::Cancel(_)))
    }

    fn take_parked(&mut self) -> Option<u64> {
        match self.waiting.as_deref() {
            Some(&Waiting::Cancel(id)) => {
                self.waiting = None;
                Some(id)
            }
            _ => None,
        }
    }

    /// Room for a part of a message that does not come whole, of so many bytes. `None`: there is no memory for it.
    fn room_for(
        &mut self,
        buffers: &Budget,
        limit: usize,
        (bytes, first, last): (usize, bool, bool),
    ) -> Option<&mut Assembler> {
        let nothing = || Waiting::Parts { assembler: Assembler::new(limit), share: buffers.share() };
        match &mut **self.waiting.get_or_insert_with(|| Box::new(nothing())) {
            Waiting::Parts { assembler, share } => {
                share.resize(assembler.memory_with(bytes, first, last)).then_some(assembler)
            }
            Waiting::Cancel(_) | Waiting::Answers(_) => None,
        }
    }

    /// What was said that was over the mark of the connection's own bytes is written so far that it is below it.
    fn is_below_mark(&mut self) {
        if matches!(self.waiting.as_deref(), Some(Waiting::Answers(_))) {
            self.waiting = None;
        }
    }

    /// Says an answer that may be large, if there is room for it.
    fn answer(
        &mut self,
        buffers: &Budget,
        machine: &mut Machine,
        message: &[u8],
        out: &mut SendQueue,
    ) -> Result<(), NoRoom> {
        self.worked(message.len());
        if message.len() > out.room().max(FREE) {
            let mut share = buffers.share();
            if !share.resize_to_send(message.len()) {
                return Err(NoRoom);
            }
            self.waiting = Some(Box::new(Waiting::Answers(share)));
        }
        say(machine, message, out);
        Ok(())
    }

    pub(super) fn next_initial<S>(&mut self, core: &mut Core<S>, machine: &mut Machine) -> Next {
        // With context takeover the order in which messages are compressed is that of the wire, and others may overtake these.
        let mut machine = shared_window_bits(machine).map(|_| machine);
        let feeds = self.feeds.as_mut_slice();
        let mut pieces = feeds.iter_mut().map(|feed| feed.next_initial(core, machine.as_deref_mut()));
        pieces.find(|next| !matches!(next, Next::Nothing)).unwrap_or(Next::Nothing)
    }

    pub(super) fn plan<S>(&mut self, core: &mut Core<S>) -> Planned {
        match &mut self.feeds {
            Feeds::None => Planned::All,
            Feeds::One(feed) => feed.plan(core),
            Feeds::Many(many) => many.plan(core),
        }
    }

    /// Ends every watch.
    pub(super) fn stop<S>(&mut self, core: &mut Core<S>) {
        for feed in self.feeds.as_slice() {
            core.index.remove(feed.watcher);
        }
        self.feeds = Feeds::None;
    }

    /// So many bytes more were understood or said.
    fn worked(&mut self, bytes: usize) {
        self.work = self.work.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
    }
}

impl Connection {
    pub(super) fn receive_websocket<S: Store>(
        &mut self,
        core: &mut Core<S>,
        input: &mut Input<'_>,
        out: &mut SendQueue,
        now: Now,
    ) -> After {
        let slot = self.slot();
        loop {
            let (Protocol::WebSocket(machine), Activity::Socket(socket)) =
                (&mut self.protocol, &mut self.activity)
            else {
                return After::Abort;
            };
            if out.over_mark() {
                return After::Open;
            }
            socket.is_below_mark();
            if socket.writes as usize >= core.config.writes || socket.has_parked() {
                return After::Paused;
            }
            // However little was on the wire of it, it took its time: now others have theirs.
            if socket.work >= WORK_AT_ONCE {
                socket.work = 0;
                core.ready.push(slot);
                return After::Paused;
            }
            // Behind a Close nothing can be said: the answers that are owed come first. (If this is no head of a frame, they
            // come a little earlier than they would.)
            let opcode = input.bytes().first().and_then(|byte| Opcode::from_bits(byte & 0xf));
            if socket.writes > 0 && opcode == Some(Opcode::Close) {
                core.settle();
                say_replies(core, self.id, machine, socket, out);
                if socket.writes > 0 {
                    return After::Paused;
                }
            }
            let request = match machine.recv(input, out, now) {
                Ok(Event::NeedMore) => return After::Open,
                Ok(Event::Ping(_) | Event::Pong(_)) => continue,
                Ok(Event::Closed(_)) => {
                    self.stop(core);
                    return After::Finish;
                }
                Err(error) => {
                    match error {
                        RecvError::NoMemory => core.metrics.compression_exhausted.inc(),
                        _ => core.metrics.messages_malformed.inc(),
                    };
                    self.stop(core);
                    return After::Finish;
                }
                // It is not done any more.
                Ok(Event::Data { .. }) if machine.is_closing() => {
                    socket.waiting = None;
                    continue;
                }
                Ok(Event::Data { kind, bytes, first, last }) => {
                    let limit = usize::try_from(core.config.websocket.message_bytes).unwrap_or(usize::MAX);
                    // A message in one part is not collected.
                    let mut whole = Assembler::new(limit);
                    let assembler = if first && last {
                        &mut whole
                    } else {
                        match socket.room_for(&core.buffers.incoming, limit, (bytes.len(), first, last)) {
                            Some(assembler) => assembler,
                            None => {
                                close_for_room(core, machine, out, now);
                                socket.waiting = None;
                                self.stop(core);
                                continue;
                            }
                        }
                    };
                    match assembler.push(kind, &bytes, first, last) {
                        Ok(None) => continue,
                        Ok(Some(Message::Text(text))) => {
                            let length = text.len();
                            let request = parse(text, &core.config);
                            socket.worked(length);
                            request
                        }
                        Ok(Some(Message::Binary(_))) | Err(_) => {
                            let code = CloseCode::UNSUPPORTED_DATA;
                            let _closing = machine.close(code, "messages are text: JSON", out, now);
                            socket.waiting = None;
                            self.stop(core);
                            continue;
                        }
                    }
                }
            };
            // A message that came in parts was collected, and who is silent from now on is not to hold the room for it.
            socket.waiting = None;
            match request {
                Ok(request) => self.serve(core, request, out, now),
                Err(refused) => say_error(machine, &refused, None, out),
            }
        }
    }

    fn serve<S: Store>(&mut self, core: &mut Core<S>, request: Request, out: &mut SendQueue, now: Now) {
        let slot = self.slot();
        let (heartbeat, is_sending) = (&mut self.heartbeat, self.outgoing.is_some());
        let (Protocol::WebSocket(machine), Activity::Socket(socket)) =
            (&mut self.protocol, &mut self.activity)
        else {
            return;
        };
        match request {
            Request::Watch { id, watch } => {
                core.settle();
                say_replies(core, self.id, machine, socket, out);
                let look = Look::Numbered(WatchId::new(id));
                let refuse = |status, why: &str| Refused { id: Some(id), status, why: why.into() };
                if socket.feeds.as_slice().iter().any(|feed| feed.look == look) {
                    return say_error(machine, &refuse(409, "there is a watch with this id"), None, out);
                }
                if socket.feeds.as_slice().len() >= core.config.watches {
                    return say_error(
                        machine,
                        &refuse(429, "too many watches on this connection"),
                        None,
                        out,
                    );
                }
                if !socket.feeds.reserve(&watch.filter) {
                    return say_no_room(core, machine, id, out);
                }
                let mut frames = Vec::new();
                match Feed::begin(core, slot, &watch, look) {
                    Ok((feed, notice)) => {
                        look.put_notice(Notice::Watching(core.view.revision()), &mut frames);
                        // Of a watch that begins now, this has said all.
                        if let Some(notice) = notice.filter(|_| watch.since.is_some()) {
                            look.put_notice(notice, &mut frames);
                        }
                        if !socket.has_watches() {
                            *heartbeat = now.instant + core.config.heartbeat;
                        }
                        socket.feeds.push(feed, &core.buffers.incoming);
                    }
                    Err(NoWatch::Revision(_)) => {
                        socket.feeds.give_back(watch_bytes(&watch.filter));
                        core.metrics.compacted.inc();
                        look.put_notice(Notice::Compacted(core.view.revision()), &mut frames);
                    }
                    Err(NoWatch::TooMany) => {
                        socket.feeds.give_back(watch_bytes(&watch.filter));
                        return say_error(machine, &refuse(503, "too many watches"), None, out);
                    }
                }
                say_frames(machine, &frames, out);
            }
            // Nothing of the watch may follow the answer.
            Request::Cancel { id } if is_sending => socket.waiting = Some(Box::new(Waiting::Cancel(id))),
            Request::Cancel { id } => {
                let look = Look::Numbered(WatchId::new(id));
                match socket.feeds.as_slice().iter().find(|feed| feed.look == look).map(|feed| feed.watcher) {
                    Some(watcher) => {
                        let bytes = core.index.filter_of(watcher).map_or(0, watch_bytes);
                        socket.feeds.retain(|feed| feed.watcher != watcher);
                        socket.feeds.give_back(bytes);
                        core.index.remove(watcher);
                        say(machine, format!("{{\"id\":{id},\"type\":\"canceled\"}}").as_bytes(), out);
                    }
                    None => {
                        let refused = Refused { id: Some(id), status: 404, why: "no such watch".into() };
                        say_error(machine, &refused, None, out);
                    }
                }
            }
            Request::Write { id, operation } => {
                let writer = Writer::Connection { id: self.id, operation: Some(id) };
                match core.submit(operation, writer) {
                    Ok(()) => socket.writes = socket.writes.saturating_add(1),
                    Err((busy, _)) => {
                        let refused = Refused { id: Some(id), status: 503, why: busy.to_string() };
                        say_error(machine, &refused, None, out);
                    }
                }
            }
            Request::Get { id, key } => {
                core.settle();
                say_replies(core, self.id, machine, socket, out);
                match core.view.get(&key) {
                    Some(change) => {
                        let mut message = result(id);
                        put_item_members(change, &mut message);
                        if let Err(NoRoom) = socket.answer(&core.buffers.outgoing, machine, &message, out) {
                            say_no_room(core, machine, id, out);
                        }
                    }
                    None => {
                        let refused = Refused { id: Some(id), status: 404, why: "no such key".into() };
                        say_error(machine, &refused, Some(core.view.revision()), out);
                    }
                }
            }
            Request::List { id, prefix, limit, from } => {
                core.settle();
                say_replies(core, self.id, machine, socket, out);
                let at = from.as_ref().map_or(core.view.revision(), |from| from.at);
                let after = from.as_ref().map(|from| from.after.as_str());
                match list(core, &prefix, after, at, limit, result(id)) {
                    Ok(message) => {
                        if let Err(NoRoom) = socket.answer(&core.buffers.outgoing, machine, &message, out) {
                            say_no_room(core, machine, id, out);
                        }
                    }
                    Err(why) => {
                        let refused = Refused { id: Some(id), status: 410, why };
                        say_error(machine, &refused, Some(core.view.revision()), out);
                    }
                }
            }
        }
    }

    /// The watch that the URL named: without an id, its frames are the same for all.
    pub(super) fn start_only_watch<S: Store>(
        &mut self,
        core: &mut Core<S>,
        watch: Watch,
        out: &mut SendQueue,
        now: Now,
    ) {
        let slot = self.slot();
        let (Protocol::WebSocket(machine), Activity::Socket(socket)) =
            (&mut self.protocol, &mut self.activity)
        else {
            return;
        };
        let look = match shared_window_bits(machine) {
            Some(window_bits) => Look::Compressed { window_bits },
            None => Look::Messages,
        };
        let mut frames = Vec::new();
        match Feed::begin(core, slot, &watch, look) {
            Ok((feed, notice)) => {
                if let Some(notice) = notice {
                    look.put_notice(notice, &mut frames);
                }
                socket.feeds.push(feed, &core.buffers.incoming);
                say_frames(machine, &frames, out);
            }
            // A browser sees no status of a handshake: it is told on the WebSocket.
            Err(NoWatch::Revision(_)) => {
                core.metrics.compacted.inc();
                look.put_notice(Notice::Compacted(core.view.revision()), &mut frames);
                say_frames(machine, &frames, out);
                close_compacted(machine, out, now);
            }
            Err(NoWatch::TooMany) => {
                let _closing = machine.close(CloseCode::TRY_AGAIN_LATER, "too many watches", out, now);
            }
        }
    }

    pub(super) fn resume_websocket<S: Store>(
        &mut self,
        core: &mut Core<S>,
        out: &mut SendQueue,
        now: Now,
    ) -> After {
        let heartbeat = self.heartbeat <= now.instant;
        if heartbeat {
            self.heartbeat = now.instant + core.config.heartbeat;
        }
        let is_sending = self.outgoing.is_some();
        let (Protocol::WebSocket(machine), Activity::Socket(socket)) =
            (&mut self.protocol, &mut self.activity)
        else {
            return After::Abort;
        };
        socket.is_below_mark();
        say_replies(core, self.id, machine, socket, out);
        if is_sending {
            // What is said here would come before it. When it is written, it is seen what else is due.
            return After::Open;
        }
        if heartbeat && self.roomless {
            // As on a stream: it may come back.
            close_for_room(core, machine, out, now);
            self.stop(core);
            return After::Open;
        }
        let revision = core.view.revision();
        let mut frames = Vec::new();
        let (mut close, mut gone) = (false, 0);
        socket.feeds.retain(|feed| {
            if feed.is_compacted(core) {
                gone += core.index.filter_of(feed.watcher).map_or(0, watch_bytes);
                feed.look.put_notice(Notice::Compacted(revision), &mut frames);
                core.metrics.compacted.inc();
                core.index.remove(feed.watcher);
                close |= feed.look.is_only_watch();
                return false;
            }
            if let Some(bookmark) = feed.bookmark(core, heartbeat) {
                feed.look.put_notice(bookmark, &mut frames);
            }
            true
        });
        if gone > 0 {
            socket.feeds.give_back(gone);
        }
        say_frames(machine, &frames, out);
        if close {
            close_compacted(machine, out, now);
            self.stop(core);
        } else if let Some(id) = socket.take_parked() {
            self.serve(core, Request::Cancel { id }, out, now);
        }
        After::Open
    }
}

/// The window of what is compressed for many, if this connection takes it.
fn shared_window_bits(machine: &Machine) -> Option<u8> {
    machine.deflate()?.shared_window_bits(Role::Server)
}

/// Says what became of writes, as far as it is known.
fn say_replies<S>(
    core: &mut Core<S>,
    connection: ConnectionId,
    machine: &mut Machine,
    socket: &mut Socket,
    out: &mut SendQueue,
) {
    while let Some((operation, written)) = core.writes.reply(connection) {
        socket.writes = socket.writes.saturating_sub(1);
        match written {
            Written::Done { revision, .. } => {
                let id = operation.unwrap_or_default();
                let message = format!("{{\"id\":{id},\"type\":\"result\",\"revision\":{revision}}}");
                say(machine, message.as_bytes(), out);
            }
            Written::Refused { status, why, revision } => {
                say_error(machine, &Refused { id: operation, status, why: why.into() }, revision, out);
            }
        }
    }
}

/// Puts a text message. A connection that closes takes none: what would be said is lost with it.
fn say(machine: &mut Machine, text: &[u8], out: &mut SendQueue) {
    let _closing = machine.send(MessageKind::Text, text, out);
}

/// Puts whole frames.
fn say_frames(machine: &Machine, frames: &[u8], out: &mut SendQueue) {
    if machine.may_send().is_ok() {
        out.put(frames);
    }
}

fn say_error(machine: &mut Machine, refused: &Refused, revision: Option<Revision>, out: &mut SendQueue) {
    let mut message = b"{".to_vec();
    if let Some(id) = refused.id {
        message.extend_from_slice(format!("\"id\":{id},").as_bytes());
    }
    let status = refused.status;
    message.extend_from_slice(format!("\"type\":\"error\",\"status\":{status},\"error\":").as_bytes());
    put_string(&refused.why, &mut message);
    if let Some(revision) = revision {
        message.extend_from_slice(format!(",\"revision\":{revision}").as_bytes());
    }
    message.push(b'}');
    say(machine, &message, out);
}

/// There is no room for the answer.
fn say_no_room<S>(core: &Core<S>, machine: &mut Machine, id: u64, out: &mut SendQueue) {
    core.metrics.buffers_exhausted.inc();
    say_error(machine, &Refused { id: Some(id), status: 503, why: NO_ROOM.into() }, None, out);
}

fn close_for_room<S>(core: &Core<S>, machine: &mut Machine, out: &mut SendQueue, now: Now) {
    core.metrics.buffers_exhausted.inc();
    // Refused only if it closes already.
    let _closing = machine.close(CloseCode::TRY_AGAIN_LATER, "too much is under way", out, now);
}

fn close_compacted(machine: &mut Machine, out: &mut SendQueue, now: Now) {
    let code = CloseCode::new(COMPACTED).unwrap_or(CloseCode::NORMAL);
    let _closing = machine.close(code, "compacted: list again", out, now);
}

/// The beginning of a result, up to where its members follow.
fn result(id: u64) -> Vec<u8> {
    format!("{{\"id\":{id},\"type\":\"result\",").into_bytes()
}

fn list<S>(
    core: &Core<S>,
    prefix: &str,
    after: Option<&str>,
    at: Revision,
    limit: usize,
    mut message: Vec<u8>,
) -> Result<Vec<u8>, String> {
    let items = core.view.list(prefix, after, at).map_err(|error| error.to_string())?;
    message.extend_from_slice(format!("\"revision\":{at},\"items\":[").as_bytes());
    let mut last: Option<&Key> = None;
    let mut more = false;
    for (count, change) in items.enumerate() {
        if count == limit || (last.is_some() && message.len() >= core.config.list_bytes) {
            more = true;
            break;
        }
        message.extend_from_slice(if last.is_none() { b"{" } else { b",{" });
        put_item_members(change, &mut message);
        last = Some(&change.key);
    }
    message.push(b']');
    if let (true, Some(last)) = (more, last) {
        message.extend_from_slice(b",\"continue\":");
        put_string(&continue_token(at, last), &mut message);
    }
    message.push(b'}');
    Ok(message)
}
