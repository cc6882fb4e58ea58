//! Where one watch is: what it was told is the next change that was committed, or a true word that some are gone.

use serde_json::Value;

use crate::history::{Entry, Filter, History};

#[derive(Debug)]
pub(super) struct Cursor {
    filter: Filter,
    phase: Phase,
    /// The last revision that it was told.
    revision: u64,
    /// How many changes had been committed when it was asked for.
    asked: usize,
}

#[derive(Debug)]
enum Phase {
    /// Nothing was told yet: since that revision, and whether the state comes first.
    New(Option<u64>, bool),
    /// The state is being said, up to a bookmark.
    State(Vec<Entry>),
    /// Nothing that was before counts: the state follows, or, if it went on where it was, nothing.
    Restated,
    /// The place from which on nothing was told.
    Changes(usize),
    Over,
}

impl Cursor {
    pub(super) fn new(filter: Filter, since: Option<u64>, initial: bool, asked: usize) -> Self {
        Self { filter, phase: Phase::New(since, initial), revision: since.unwrap_or(0), asked }
    }

    /// It is told that changes come from a revision on, which is the newest one.
    pub(super) fn watching(&mut self, revision: u64, history: &History) {
        self.assert_recent(revision, history);
        if let Phase::New(None, false) = self.phase {
            (self.phase, self.revision) = (Phase::Changes(history.after(revision)), revision);
        }
    }

    /// It is told of something; `true` if that was the last.
    pub(super) fn event(&mut self, event: &Value, history: &History) -> bool {
        let revision = event["revision"].as_u64().unwrap_or_else(|| panic!("no revision in {event}"));
        match event["type"].as_str() {
            Some("put" | "delete") => self.change(Entry::of_json(event), history),
            Some("bookmark") => self.bookmark(revision, history),
            Some("compacted") => self.compacted(revision, history),
            _ => panic!("{event} on a watch"),
        }
        matches!(self.phase, Phase::Over)
    }

    /// Whether a change that comes now is of the state that is said first.
    pub(super) fn tells_state(&self) -> bool {
        matches!(self.phase, Phase::New(None, true) | Phase::Restated | Phase::State(_))
    }

    fn change(&mut self, told: Entry, history: &History) {
        if self.tells_state() {
            if let Phase::State(items) = &mut self.phase {
                items.push(told);
            } else {
                self.phase = Phase::State(vec![told]);
            }
            return;
        }
        let at = match self.phase {
            // Without the state, as it goes on where it was.
            Phase::New(Some(since), _) => history.after(since),
            Phase::Changes(at) => at,
            _ => panic!("told {told:?}: {self:?}"),
        };
        match history.changes(&self.filter, at).next() {
            Some((place, next)) if *next == told => {
                (self.phase, self.revision) = (Phase::Changes(place + 1), told.revision);
            }
            next => panic!("told {told:?}, and the next change is {next:?}"),
        }
    }

    fn bookmark(&mut self, revision: u64, history: &History) {
        match &self.phase {
            Phase::Over => panic!("a bookmark behind the end"),
            Phase::State(items) => self.assert_state(items, revision, history),
            Phase::New(None, true) | Phase::Restated => self.assert_state(&[], revision, history),
            Phase::New(None, false) => self.assert_recent(revision, history),
            Phase::New(Some(since), _) => {
                self.assert_nothing_missed(history.after(*since), revision, history);
            }
            Phase::Changes(at) => self.assert_nothing_missed(*at, revision, history),
        }
        (self.phase, self.revision) = (Phase::Changes(history.after(revision)), revision);
    }

    fn compacted(&mut self, revision: u64, history: &History) {
        let (truly, next) = match &self.phase {
            Phase::Over => panic!("compacted behind the end"),
            // Of another watch with this id, perhaps, when this one was over.
            Phase::Restated => (true, Phase::Over),
            // From now on nothing can be gone; the state can, that was being said.
            Phase::New(None, false) => (false, Phase::Over),
            Phase::New(None, true) | Phase::State(_) => (history.floor > self.asked, Phase::Over),
            Phase::New(Some(since), initial) => {
                let known = history.log[..self.asked].last().map_or(0, |last| last.revision);
                let unreached = *since < history.floor_revision() || *since > known;
                (unreached, if *initial { Phase::Restated } else { Phase::Over })
            }
            // It has not looked further than to where it was told something.
            Phase::Changes(at) => {
                let next = history.changes(&self.filter, *at).next();
                (*at < history.floor && next.is_some(), Phase::Over)
            }
        };
        assert!(truly, "compacted, and nothing is gone: {self:?}");
        self.assert_recent(revision, history);
        self.phase = next;
    }

    fn assert_recent(&self, revision: u64, history: &History) {
        let known = history.log[..self.asked].last().map_or(0, |last| last.revision);
        assert!(
            (known..=history.revision()).contains(&revision),
            "{revision} is not between {known} and now"
        );
    }

    fn assert_state(&self, items: &[Entry], revision: u64, history: &History) {
        self.assert_recent(revision, history);
        let state = history.state(revision);
        let expected: Vec<&Entry> =
            state.into_values().filter(|entry| self.filter.matches(&entry.key)).collect();
        assert!(items.iter().eq(expected.iter().copied()), "{items:?} is told, it is {expected:?}");
    }

    fn assert_nothing_missed(&self, at: usize, revision: u64, history: &History) {
        assert!(
            (self.revision..=history.revision()).contains(&revision),
            "a bookmark at {revision}: {self:?}"
        );
        if let Some((_, next)) = history.changes(&self.filter, at).next() {
            assert!(next.revision > revision, "a bookmark at {revision}, and {next:?} was not told");
        }
    }

    /// It was told everything that there is.
    pub(super) fn assert_told(&self, history: &History) {
        let at = match &self.phase {
            Phase::Over | Phase::Restated => return,
            Phase::New(None, true) | Phase::State(_) => panic!("the state is not all told"),
            Phase::New(since, _) => history.after(since.unwrap_or(u64::MAX)),
            Phase::Changes(at) => *at,
        };
        let next = history.changes(&self.filter, at).next();
        assert_eq!(next, None, "it is not told: {self:?}");
    }
}
