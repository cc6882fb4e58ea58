//! Frames of the log on their way to one connection.
//!
//! It takes two steps, as making encodings changes the log and lending borrows it: first the frames that are due are
//! *planned* (from the watcher's cursor on, each found and encoded), then they are *lent*. What was written moves the cursors.
//! A frame of which a part was written leaves the log's keeping: its rest becomes [`Outgoing`] of the connection, shared
//! bytes that outlive the log, and the cursor stands behind it. So between the two steps room is *reserved* for one that is large.

use std::ops::Range;
use std::sync::Arc;

use keepwatch_protocol::{Fill, Slices};

use super::kept::{Keeping, Kept, Outgoing};
use super::watcher::{self, Watcher};
use crate::budget::FREE;
use crate::change::Change;
use crate::encoding::{Encoded, EncodingId};
use crate::index::{Filter, Index, WatcherId};
use crate::key::{Position, Revision};
use crate::surface::{Look, Surfaces, chunk_payload};
use crate::view::View;

/// What a plan for one watcher came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Planned {
    /// All that concerns it, which may be nothing.
    All,
    /// A part: there was no more room, or the search goes on in another step.
    Part,
    /// Its cursor is below the log's floor.
    Compacted,
}

/// What became of a plan as room was reserved for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reserved {
    All,
    /// What is left of it is a part.
    Part,
    /// The same, and what would be next finds no room: it takes so many bytes.
    NoRoom(usize),
}

/// The frames planned for the connection that is being filled.
#[derive(Debug, Default)]
pub(super) struct Delivery {
    plan: Vec<Run>,
    /// The heads in front of frames, one behind the other.
    heads: Vec<u8>,
    bytes: usize,
    /// Bytes of encodings that were made for it.
    made: usize,
    /// Room for the last frame, if it is large.
    kept: Option<Arc<Kept>>,
    /// What was planned last, if it is the same for everyone who watches the same.
    same: Option<Same>,
}

/// A whole plan without heads. Ten thousand that are told of a change mostly have the same.
#[derive(Debug)]
struct Same {
    filter: Filter,
    look: Look,
    from: Position,
    head: Position,
    runs: Vec<Run>,
}

/// Whom a plan is for, and what it is made from.
struct To<'a> {
    view: &'a mut View,
    surfaces: Surfaces,
    watcher: WatcherId,
    look: Look,
}

/// Frames in a row of one batch for one watcher; with a head in front, only one.
#[derive(Clone, Debug)]
struct Run {
    watcher: WatcherId,
    encoding: EncodingId,
    bare: bool,
    at: Position,
    frames: usize,
    head: Range<usize>,
    bytes: usize,
    /// Where the cursor stands when all was written.
    next: Position,
}

impl Delivery {
    /// Planned frames of one fill: with a head each, they take two parts of a write.
    const RUNS: usize = Slices::PARTS / 2;
    /// Bytes of one fill, about.
    const BYTES: usize = 64 << 10;
    /// Bytes of encodings that are made for one fill, about: who comes late may want a frame of each of many batches that nobody
    /// reads any more.
    const MADE: usize = 128 << 10;
    /// Changes that are looked at in one step for frames that match.
    const STEP: usize = 1024;
    /// So few are looked at sooner than any key is looked up.
    const NEAR: u64 = 64;

    pub(super) fn clear(&mut self) {
        self.plan.clear();
        self.heads.clear();
        self.bytes = 0;
        self.made = 0;
        self.kept = None;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.plan.is_empty()
    }

    pub(super) fn has_room(&self) -> bool {
        self.plan.len() < Self::RUNS && self.bytes < Self::BYTES && self.made < Self::MADE
    }

    /// Plans what is due for a watcher. Where nothing is, its cursor moves on by that.
    pub(super) fn plan(
        &mut self,
        view: &mut View,
        surfaces: Surfaces,
        index: &mut Index<Watcher>,
        watcher: WatcherId,
        look: Look,
    ) -> Planned {
        let Some(from) = watcher::behind(index, watcher) else { return Planned::All };
        if from < view.log().floor() {
            return Planned::Compacted;
        }
        let Some(filter) = index.filter_of(watcher) else { return Planned::All };
        let before = self.plan.len();
        if self.plan_the_same(view, filter, look, from, watcher) {
            return Planned::All;
        }
        let to = &mut To { view, surfaces, watcher, look };
        let (scanned, all) = match filter {
            Filter::Key(key) => {
                let mut at = from;
                loop {
                    match to.view.next_change_of(key, at) {
                        None => break (to.view.log().head(), true),
                        Some(_) if !self.has_room() => break (at, false),
                        Some(next) => {
                            self.add(to, next, 1, |view, from, commit| {
                                let later =
                                    view.next_change_of(key, from).and_then(|at| view.log().change(at));
                                later.is_some_and(|later| later.revision == commit)
                            });
                            at = next.plus(1);
                        }
                    }
                }
            }
            Filter::Prefix(prefix) => self.scan(to, prefix, from),
        };
        match self.plan.get_mut(before..) {
            Some([.., last]) => last.next = scanned,
            _ => set_cursor(index, view, watcher, scanned),
        }
        if all && before == 0 && !self.plan.is_empty() && self.heads.is_empty() {
            // With the memory of the one before.
            let mut runs = self.same.take().map(|same| same.runs).unwrap_or_default();
            runs.clone_from(&self.plan);
            if let Some(filter) = index.filter_of(watcher).cloned() {
                self.same = Some(Same { filter, look, from, head: view.log().head(), runs });
            }
        }
        if all { Planned::All } else { Planned::Part }
    }

    /// Plans what was planned before, if it is the same here and nothing else is planned. Its encodings may have been dropped
    /// since.
    fn plan_the_same(
        &mut self,
        view: &View,
        filter: &Filter,
        look: Look,
        from: Position,
        watcher: WatcherId,
    ) -> bool {
        let Some(same) = self.same.as_ref().filter(|_| self.plan.is_empty()) else { return false };
        let is_same = (same.from, same.look, same.head) == (from, look, view.log().head());
        if !is_same || same.filter != *filter || same.runs.iter().any(|run| run.encoded(view).is_none()) {
            return false;
        }
        self.plan.extend(same.runs.iter().map(|run| Run { watcher, ..run.clone() }));
        self.bytes = same.runs.iter().map(|run| run.bytes).sum();
        true
    }

    /// Walks the log. Returns where the walk ended, and whether that is its head.
    fn scan(&mut self, to: &mut To<'_>, prefix: &str, from: Position) -> (Position, bool) {
        let head = to.view.log().head();
        let look = to.look;
        let single = look.is_bare() || matches!(look, Look::Numbered(_));
        let end = from.plus(Self::STEP);
        // Whether there are so few keys that these say where to go on.
        let mut few = head.since(from) > Self::NEAR;
        let mut at = from;
        while at < end {
            if at >= head {
                return (head, true);
            }
            if !self.has_room() {
                return (at, false);
            }
            let Some((batch, index)) = to.view.log().batch(at) else { return (head, true) };
            // However large the batch is, only so far into it.
            let changes = batch.changes().iter().skip(index).take(end.since(at) as usize);
            let matches = |change: &&Change| change.key.starts_with(prefix);
            let most = if single { 1 } else { Self::STEP };
            let matching = changes.clone().take(most).take_while(matches).count();
            if matching > 0 {
                self.add(to, at, matching, |view, from, commit| {
                    let rest = view.log().changes(from).into_iter().flatten();
                    let mut rest = rest.take_while(|(_, change)| change.revision == commit).zip(0..);
                    // Looked at only so far: what may be the end is told again after a cut.
                    rest.any(|((_, change), looked)| looked == Self::STEP || change.key.starts_with(prefix))
                });
                at = at.plus(matching);
                continue;
            }
            let next = if few { to.view.next_change_under(prefix, at) } else { None };
            few = next.is_some();
            at =
                next.unwrap_or_else(|| at.plus(changes.take_while(|change| !matches(change)).count().max(1)));
        }
        (at, false)
    }

    /// Adds frames; an id stands in front of them, if there is one.
    fn add_frames(&mut self, to: &mut To<'_>, at: Position, frames: usize, id: Option<Revision>) {
        let encoding = to.surfaces.encoding(to.look);
        let before = to.view.log().encoded_bytes();
        let Some((encoded, index)) = to.view.encode(at, encoding) else { return };
        let bare = to.look.is_bare();
        let length = if bare {
            chunk_payload(encoded.frame_bytes(index)).len()
        } else {
            encoded.frames(index..index + frames).len()
        };
        let start = self.heads.len();
        to.look.put_head(length, id, &mut self.heads);
        let head = start..self.heads.len();
        let bytes = head.len() + length;
        self.bytes += bytes;
        self.made += to.view.log().encoded_bytes() - before;
        let next = at.plus(frames);
        self.plan.push(Run { watcher: to.watcher, encoding, bare, at, frames, head, bytes, next });
    }

    /// Adds the frames of changes that are to be told in a row, the first of which is at that position. Where they end inside
    /// a commit, `follows` says whether another change of it is to be told, from a position on.
    fn add(
        &mut self,
        to: &mut To<'_>,
        at: Position,
        frames: usize,
        follows: impl FnOnce(&View, Position, Revision) -> bool,
    ) {
        let (log, end) = (to.view.log(), at.plus(frames));
        let last = at.plus(frames.saturating_sub(1));
        let cut = log.change(last).filter(|_| to.look.has_ids() && !log.ends_commit(last));
        match cut.map(|change| change.revision).filter(|commit| !follows(to.view, end, *commit)) {
            None => self.add_frames(to, at, frames, None),
            // Who hears the last of them has heard all of the commit that concerns it.
            Some(commit) => {
                if frames > 1 {
                    self.add_frames(to, at, frames - 1, None);
                }
                self.add_frames(to, last, 1, Some(commit));
            }
        }
    }

    /// Reserves room for what may be cut: of frames that are large one is left, behind all that are not, and only with room for it.
    pub(super) fn reserve(&mut self, view: &View, keeping: &mut Keeping) -> Reserved {
        if self.bytes <= FREE {
            return Reserved::All;
        }
        for index in 0..self.plan.len() {
            let Some(run) = self.plan.get_mut(index) else { break };
            let Some((encoded, first)) = run.encoded(view) else { continue };
            if encoded.largest() <= FREE {
                continue;
            }
            let length = |frame: usize| encoded.frame(first + frame).len();
            let small = (0..run.frames).take_while(|&frame| length(frame) <= FREE).count();
            if small == run.frames {
                continue;
            }
            let reserved = if small > 0 {
                run.shorten(small, encoded.frames(first..first + small).len());
                Reserved::Part
            } else if let Some(kept) = keeping.frame(run.at, run.encoding, length(0)) {
                self.kept = Some(kept);
                let more = run.frames > 1;
                if more {
                    run.shorten(1, length(0));
                }
                if more || index + 1 < self.plan.len() { Reserved::Part } else { Reserved::All }
            } else {
                let bytes = length(0);
                self.plan.truncate(index);
                return Reserved::NoRoom(bytes);
            };
            self.plan.truncate(index + 1);
            return reserved;
        }
        Reserved::All
    }

    /// Lends what is planned. Returns whether there was room for all.
    pub(super) fn lend<'a>(&'a self, view: &'a View, to: &mut Slices<'a>) -> bool {
        self.plan.iter().all(|run| {
            let Some((bytes, range)) = run.shared(view) else { return false };
            // Both or none: a head alone would be a frame cut for no reason.
            let head = self.heads.get(run.head.clone()).unwrap_or(&[]);
            to.has_room(2) && to.push(head) && to.push(bytes.get(range).unwrap_or(&[]))
        })
    }

    /// Takes what is planned out of the log's keeping, as if it were written: the cursors stand behind it. Of what is not large,
    /// so much as a connection may have. Returns how many frames these are.
    pub(super) fn take(&mut self, view: &View, index: &mut Index<Watcher>) -> (Outgoing, usize) {
        let mut outgoing = Outgoing::default();
        let (mut frames, mut left) = (0, FREE);
        let kept = self.kept.take();
        for run in &self.plan {
            let taken = if run.bytes <= left { run.frames } else { run.cut(left, view).0 };
            // The first of all is taken in any case: it is small, with its head, or there is room for it.
            let taken = if outgoing.is_empty() { taken.max(1) } else { taken };
            if taken == 0 {
                break;
            }
            self.put_rest(run, 0..taken, view, kept.as_ref(), &mut outgoing);
            set_cursor(
                index,
                view,
                run.watcher,
                if taken == run.frames { run.next } else { run.at.plus(taken) },
            );
            frames += taken;
            if taken < run.frames {
                break;
            }
            left = left.saturating_sub(run.bytes);
        }
        self.clear();
        (outgoing, frames)
    }

    /// So many of the planned bytes were written. Returns the rest of a frame that was cut, and how many frames were begun.
    pub(super) fn sent(
        &mut self,
        mut bytes: usize,
        view: &View,
        index: &mut Index<Watcher>,
    ) -> (Option<Outgoing>, usize) {
        let mut frames = 0;
        let mut rest = None;
        let kept = self.kept.take();
        for run in &self.plan {
            if bytes == 0 {
                break;
            }
            if bytes >= run.bytes {
                bytes -= run.bytes;
                frames += run.frames;
                set_cursor(index, view, run.watcher, run.next);
                continue;
            }
            let (whole, into) = run.cut(bytes, view);
            frames += whole + usize::from(into > 0);
            if into > 0 {
                let mut outgoing = Outgoing::default();
                self.put_rest(run, whole..whole + 1, view, kept.as_ref(), &mut outgoing);
                outgoing.sent(into);
                rest = Some(outgoing);
            }
            let next = run.at.plus(whole + usize::from(into > 0));
            set_cursor(
                index,
                view,
                run.watcher,
                if whole + 1 == run.frames && into > 0 { run.next } else { next },
            );
            break;
        }
        self.clear();
        (rest, frames)
    }

    /// The frames of a run with these indices, and its head, as shared bytes.
    fn put_rest(
        &self,
        run: &Run,
        frames: Range<usize>,
        view: &View,
        kept: Option<&Arc<Kept>>,
        outgoing: &mut Outgoing,
    ) {
        if let Some(head) = self.heads.get(run.head.clone()).filter(|head| !head.is_empty()) {
            outgoing.push_small(&Arc::from(head), 0..head.len());
        }
        let (Some((encoded, first)), Some((bytes, mut range))) = (run.encoded(view), run.shared(view)) else {
            return;
        };
        if run.frames > 1 {
            range = encoded.frames(first + frames.start..first + frames.end);
        }
        match kept.filter(|_| range.len() > FREE) {
            // What is kept is one frame, whoever is sent it with or without its chunk around it.
            Some(kept) => {
                let frame = encoded.frame(first);
                let within = range.start - frame.start..range.end - frame.start;
                let whole = kept.bytes(|| {
                    if frame.len() == bytes.len() {
                        Arc::clone(bytes)
                    } else {
                        Arc::from(encoded.frame_bytes(first))
                    }
                });
                outgoing.push_kept(Arc::clone(kept), whole, within);
            }
            None => outgoing.push_small(bytes, range),
        }
    }
}

impl Run {
    /// Only the first of its frames, which are so long.
    fn shorten(&mut self, frames: usize, length: usize) {
        self.frames = frames;
        self.bytes = self.head.len() + length;
        self.next = self.at.plus(frames);
    }

    /// The shared bytes that the frames lie in, and where.
    fn shared<'a>(&self, view: &'a View) -> Option<(&'a Arc<[u8]>, Range<usize>)> {
        let (encoded, index) = self.encoded(view)?;
        let mut range = encoded.frames(index..index + self.frames);
        if self.bare {
            let payload = chunk_payload(encoded.frame_bytes(index));
            range = range.start + payload.start..range.start + payload.end;
        }
        Some((encoded.bytes(), range))
    }

    /// The frames of the batch, and which of them is the first of these.
    fn encoded<'a>(&self, view: &'a View) -> Option<(&'a Arc<Encoded>, usize)> {
        view.log().encoded(self.at, self.encoding)
    }

    /// How many frames lie whole in the first `bytes`, and how many bytes of the next one.
    fn cut(&self, bytes: usize, view: &View) -> (usize, usize) {
        if self.frames == 1 {
            return (0, bytes);
        }
        let Some((encoded, first)) = self.encoded(view) else { return (0, bytes) };
        let end = encoded.frame(first).start + bytes;
        // Searched and not walked through: a reader may take a batch of thousands a few bytes at a time.
        let (mut whole, mut beyond) = (0, self.frames);
        while whole < beyond {
            let middle = whole.midpoint(beyond);
            if encoded.frame(first + middle).end <= end {
                whole = middle + 1;
            } else {
                beyond = middle;
            }
        }
        (whole, end - encoded.frame(first + whole).start)
    }
}

fn set_cursor(index: &mut Index<Watcher>, view: &View, watcher: WatcherId, to: Position) {
    if let Some(watcher) = index.get_mut(watcher) {
        watcher.seen(to, view.log().head());
    }
}

/// What [`Planned`] and the room for it mean to the driver.
pub(super) fn fill_of(lent: bool, all: bool) -> Fill {
    match (lent, all) {
        (_, false) => Fill::More,
        (true, true) => Fill::All,
        (false, true) => Fill::Nothing,
    }
}
