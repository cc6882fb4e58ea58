//! Bodies of answers that are pulled: large values, answers to long polls, pages of a list.
//!
//! A list is made in pieces, each when the one before is written: it costs its reader one piece, however long it is. The pieces are
//! small, but where one item is large: before that is made there is room for it in the budget, or the page ends in front of it.

use keepwatch_protocol::http1::{BodyTx, Exchange, ResponseHead, ServerConnection, StatusCode};
use keepwatch_protocol::{After, Now, SendQueue};

use super::connection::{Activity, Connection, Protocol};
use super::core::Core;
use super::http::{FieldLine, JSON, NO_CACHE, NO_STORE};
use super::kept::Outgoing;
use crate::budget::{FREE, Share};
use crate::key::{Key, Revision};
use crate::request::Continue;
use crate::shapes::{self, continue_token, put_item_members, put_string};
use crate::store::Store;

/// An answer whose body is pulled.
pub(super) struct Sending {
    body: BodyTx,
    rest: Rest,
}

/// What is not made yet of a body.
enum Rest {
    /// Everything is on its way.
    Nothing,
    List(ListBody),
    /// It cannot be made any more.
    Broken,
}

/// A list, from where it is made on.
pub(super) struct ListBody {
    prefix: String,
    at: Revision,
    after: Option<Key>,
    items: usize,
    bytes: usize,
    begun: bool,
}

/// A piece of a list.
enum Piece {
    Last,
    More,
    /// There is no room for its first item.
    NoRoom,
    /// The log moved past the revision of the list.
    Compacted,
}

/// Bodies up to this size are copied behind their head; larger ones are lent.
pub(super) const COPIED: usize = 8 << 10;

impl Sending {
    pub(super) fn is_made(&self) -> bool {
        matches!(self.rest, Rest::Nothing)
    }

    /// A piece as it goes out.
    fn frame(&mut self, http: &mut ServerConnection, share: Share, piece: Vec<u8>) -> Outgoing {
        let mut framed = Vec::with_capacity(piece.len() + 32);
        let sent = http.data(&mut self.body, &piece, &mut framed);
        debug_assert!(sent.is_ok());
        drop(piece);
        Outgoing::counted(share, framed.into())
    }
}

impl Connection {
    /// An answer with a body that is shared: copied if it is small, lent if it is not.
    pub(super) fn lend(
        &mut self,
        exchange: Exchange,
        status: StatusCode,
        fields: &[FieldLine<'_>],
        body: Outgoing,
        out: &mut SendQueue,
        now: Now,
    ) {
        let length = body.len();
        if length <= COPIED {
            return self.answer(exchange, status, fields, &body.concat(), out, now);
        }
        let Protocol::Http(http) = &mut self.protocol else { return };
        let head = ResponseHead::with_length(status, fields, length as u64);
        match http.respond(exchange, &head, out, now) {
            Err(refused) => {
                self.answer(refused.token, StatusCode::INTERNAL_SERVER_ERROR, &[], b"", out, now);
            }
            Ok(mut sent) => {
                if sent.is_suppressed() {
                    let _finished = http.finish(sent, out, now);
                    return;
                }
                // It is counted at once, as the bytes are certain.
                let counted = http.framed(&mut sent, length as u64);
                debug_assert!(counted.is_ok());
                self.outgoing = Some(Box::new(body));
                self.activity = Activity::Sending(Box::new(Sending { body: sent, rest: Rest::Nothing }));
            }
        }
    }

    pub(super) fn list<S: Store>(
        &mut self,
        core: &mut Core<S>,
        exchange: Exchange,
        mut list: ListBody,
        out: &mut SendQueue,
        now: Now,
    ) {
        let (mut share, mut piece) = (core.buffers.outgoing.share(), Vec::new());
        let fields = [JSON, NO_CACHE];
        match list.put_piece(core, &mut share, &mut piece) {
            Piece::Last => {
                let body = Outgoing::counted(share, piece.into());
                return self.lend(exchange, StatusCode::OK, &fields, body, out, now);
            }
            Piece::More => {}
            Piece::NoRoom => return self.refuse_for_room(core, exchange, out, now),
            Piece::Compacted => {
                let why = core.view.log().check(list.at).err().map(|error| error.to_string());
                let body = shapes::error(&why.unwrap_or_default(), Some(core.view.revision()));
                return self.answer(exchange, StatusCode::GONE, &[JSON, NO_STORE], &body, out, now);
            }
        }
        let Protocol::Http(http) = &mut self.protocol else { return };
        match http.respond(exchange, &ResponseHead::stream(StatusCode::OK, &fields), out, now) {
            Err(refused) => {
                self.answer(refused.token, StatusCode::INTERNAL_SERVER_ERROR, &[], b"", out, now);
            }
            Ok(body) => {
                if body.is_suppressed() {
                    let _finished = http.finish(body, out, now);
                    return;
                }
                let mut sending = Box::new(Sending { body, rest: Rest::List(list) });
                self.outgoing = Some(Box::new(sending.frame(http, share, piece)));
                self.activity = Activity::Sending(sending);
            }
        }
    }

    /// Makes the next piece of the body that is being sent.
    pub(super) fn next_piece<S: Store>(&mut self, core: &mut Core<S>) {
        let (Activity::Sending(sending), Protocol::Http(http)) = (&mut self.activity, &mut self.protocol)
        else {
            return;
        };
        let Rest::List(list) = &mut sending.rest else { return };
        let (mut share, mut piece) = (core.buffers.outgoing.share(), Vec::new());
        match list.put_piece(core, &mut share, &mut piece) {
            Piece::Last => sending.rest = Rest::Nothing,
            Piece::More => {}
            Piece::NoRoom => {
                core.metrics.buffers_exhausted.inc();
                list.put_end(list.after.as_ref(), &mut piece);
                sending.rest = Rest::Nothing;
            }
            Piece::Compacted => {
                // A body that breaks off is understood as that.
                sending.rest = Rest::Broken;
                core.ready.push(self.id.slot() as u32);
                return;
            }
        }
        self.outgoing = Some(Box::new(sending.frame(http, share, piece)));
    }

    pub(super) fn resume_sending(&mut self, out: &mut SendQueue, now: Now) -> After {
        match &self.activity {
            Activity::Sending(sending) if matches!(sending.rest, Rest::Broken) => return After::Abort,
            Activity::Sending(sending) if sending.is_made() && self.outgoing.is_none() => {}
            _ => return self.after_http(),
        }
        if let Activity::Sending(sending) = std::mem::replace(&mut self.activity, Activity::Idle) {
            if let Protocol::Http(http) = &mut self.protocol {
                let finished = http.finish(sending.body, out, now);
                debug_assert!(finished.is_ok());
            }
        }
        self.after_http()
    }
}

impl ListBody {
    pub(super) fn new<S>(core: &Core<S>, prefix: String, items: usize, from: Option<Continue>) -> Self {
        // Of a page without an item none could go on.
        let bytes = core.config.list_bytes.max(1);
        let items = items.max(1);
        let (at, after) = match from {
            None => (core.view.revision(), None),
            Some(from) => (from.at, Some(from.after)),
        };
        Self { prefix, at, after, items, bytes, begun: false }
    }

    /// Puts the next piece, and has `share` hold it if it is not small.
    fn put_piece<S>(&mut self, core: &Core<S>, share: &mut Share, out: &mut Vec<u8>) -> Piece {
        let Ok(mut list) = core.view.list(&self.prefix, self.after.as_deref(), self.at) else {
            return Piece::Compacted;
        };
        if !self.begun {
            out.extend_from_slice(format!("{{\"revision\":{},\"items\":[", self.at).as_bytes());
        }
        let Self { mut items, mut bytes, .. } = *self;
        let mut last = None;
        let piece = loop {
            let Some(change) = list.next() else {
                out.extend_from_slice(b"]}\n");
                break Piece::Last;
            };
            if items == 0 || bytes == 0 {
                self.put_end(last.or(self.after.as_ref()), out);
                break Piece::Last;
            }
            let about = out.len() + change.bytes();
            if about > FREE {
                if last.is_some() {
                    break Piece::More;
                }
                if !share.resize_to_send(about) {
                    out.clear();
                    return Piece::NoRoom;
                }
            }
            let before = out.len();
            out.extend_from_slice(if self.begun || last.is_some() { b",{" } else { b"{" });
            put_item_members(change, out);
            items -= 1;
            bytes = bytes.saturating_sub(out.len() - before);
            last = Some(&change.key);
        };
        // Escaped, it may be more than it was.
        if !share.resize_to_send(out.len()) {
            out.clear();
            return Piece::NoRoom;
        }
        (self.items, self.bytes, self.begun) = (items, bytes, true);
        self.after = last.cloned().or(self.after.take());
        piece
    }

    /// Puts the end of a page behind this key, from where the next one goes on.
    fn put_end(&self, last: Option<&Key>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"],\"continue\":");
        if let Some(last) = last {
            put_string(&continue_token(self.at, last), out);
        }
        out.extend_from_slice(b"}\n");
    }
}
