//! What a client may see. Everything is compared with the log of committed changes.

use serde_json::Value;

use super::core::{Core, LinkId};
use super::model::{Entry, Filter, Generation};

/// Where one watch is: everything before this place in the log was seen, or does not concern it.
#[derive(Clone, Debug)]
pub(super) struct Cursor {
    pub(super) filter: Filter,
    pub(super) generation: usize,
    at: usize,
    /// The revision to resume from.
    pub(super) revision: u64,
    /// The one before: who cannot know that a commit is whole resumes from there.
    previous: u64,
    /// The machine's snapshots when the watch began.
    snapshots: usize,
}

impl Cursor {
    /// A watch from a revision on.
    pub(super) fn new(filter: &Filter, generation: usize, revision: u64, core: &Core) -> Self {
        let mut model = core.model.borrow_mut();
        let at = model.generation(generation).position_after(revision);
        Self { filter: filter.clone(), generation, at, revision, previous: revision, snapshots: 0 }
    }

    /// It goes on, on this connection.
    pub(super) fn begin(&mut self, link: LinkId, core: &Core) {
        let mut model = core.model.borrow_mut();
        let generation = model.generation(core.generation_of(link));
        self.snapshots = generation.machines[core.machine_of(link)].snapshots;
    }

    /// A change was told: it is the next one.
    pub(super) fn change(&mut self, seen: &Entry, core: &Core) -> Result<(), String> {
        let mut model = core.model.borrow_mut();
        let generation = model.generation(self.generation);
        match self.next(generation) {
            Some(at) if generation.log[at].is_told_as(seen) => {
                self.at = at + 1;
                self.previous = self.revision;
                self.revision = seen.revision;
                generation.tell(seen.revision);
                Ok(())
            }
            Some(at) => Err(format!("the next change is {:?}, and it was told {seen:?}", generation.log[at])),
            None => Err(format!("there is no change, and it was told {seen:?}")),
        }
    }

    /// It was told that there is nothing more up to a revision.
    pub(super) fn bookmark(&mut self, revision: u64, core: &Core) -> Result<(), String> {
        let mut model = core.model.borrow_mut();
        let generation = model.generation(self.generation);
        if revision < self.revision || revision > generation.revision() {
            let (from, to) = (self.revision, generation.revision());
            return Err(format!("a bookmark at {revision}, and it is between {from} and {to}"));
        }
        if let Some(missed) = self.next(generation).map(|at| &generation.log[at]) {
            if missed.revision <= revision {
                return Err(format!("a bookmark at {revision}, and {missed:?} was not told"));
            }
        }
        self.at = generation.position_after(revision);
        (self.revision, self.previous) = (revision, revision);
        generation.tell(revision);
        Ok(())
    }

    /// It was told to list again while it watched.
    pub(super) fn compacted(&self, link: LinkId, core: &Core) -> Result<(), String> {
        let mut model = core.model.borrow_mut();
        let generation = model.generation(core.generation_of(link));
        let machine = &generation.machines[core.machine_of(link)];
        if self.generation != core.generation_of(link) || machine.snapshots != self.snapshots {
            return Ok(());
        }
        if self.at < machine.floor && self.next(generation).is_some() {
            return Ok(());
        }
        Err(format!("compacted at {}, and nothing that it has not seen is gone", self.revision))
    }

    /// Whether it was at changes that left the machine's log for their age, and for no other reason since.
    pub(super) fn is_too_old(&self, link: LinkId, core: &Core) -> bool {
        let mut model = core.model.borrow_mut();
        let machine = &model.generation(core.generation_of(link)).machines[core.machine_of(link)];
        self.generation == core.generation_of(link)
            && self.at < machine.floor
            && machine.aged == machine.floor
    }

    /// It was refused where it wanted to go on.
    pub(super) fn refused(&self, link: LinkId, core: &Core) -> Result<(), String> {
        self.refused_at(self.revision, link, core)
    }

    /// The same, if it wanted to go on from the revision before.
    pub(super) fn refused_before(&self, link: LinkId, core: &Core) -> Result<(), String> {
        self.refused_at(self.previous, link, core)
    }

    fn refused_at(&self, revision: u64, link: LinkId, core: &Core) -> Result<(), String> {
        let mut model = core.model.borrow_mut();
        let floor = model.generation(core.generation_of(link)).floor_revision(core.machine_of(link));
        if self.generation != core.generation_of(link) || revision < floor {
            return Ok(());
        }
        Err(format!("refused at {revision}, and the floor is {floor}"))
    }

    /// Whether it has seen everything.
    pub(super) fn settled(&self, core: &Core) -> Result<(), String> {
        let mut model = core.model.borrow_mut();
        if self.generation != model.newest() {
            return Err("it does not know that the server was started again".into());
        }
        let generation = model.generation(self.generation);
        match self.next(generation) {
            None => Ok(()),
            Some(at) => Err(format!("it has not seen {:?}", generation.log[at])),
        }
    }

    fn next(&self, generation: &Generation) -> Option<usize> {
        let changes = generation.log.iter().enumerate().skip(self.at);
        changes.filter(|(_, entry)| self.filter.matches(&entry.key)).map(|(at, _)| at).next()
    }
}

/// A list is the state at its revision, and not older than what was known when it was asked for.
pub(super) fn list(
    filter: &Filter,
    generation: usize,
    revision: u64,
    items: &[Entry],
    known: Known,
    core: &Core,
) -> Result<(), String> {
    let told = known.told(core);
    let mut model = core.model.borrow_mut();
    let generation = model.generation(generation);
    if revision < told || revision > generation.revision() {
        return Err(format!("a list at {revision}, and it is between {told} and {}", generation.revision()));
    }
    let state = generation.list(filter, generation.position_after(revision));
    if !items.iter().eq(state.iter().copied()) {
        return Err(format!("a list at {revision} has {items:?}, and it was {state:?}"));
    }
    generation.tell(revision);
    Ok(())
}

/// Whether there was a moment, not before what was known when it was asked, in which this held for a key.
pub(super) fn was(
    key: &str,
    generation: usize,
    known: Known,
    core: &Core,
    holds: impl Fn(Option<&Entry>) -> bool,
) -> bool {
    let told = known.told(core);
    let mut model = core.model.borrow_mut();
    let generation = model.generation(generation);
    let from = generation.position_after(told);
    (from..=generation.log.len()).any(|changes| holds(generation.at(key, changes)))
}

/// What was known when something was asked: no answer to it may be older.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    told: u64,
    /// Where the request ends, on which connection: its last byte may come later, from a client that knows more by then.
    end: Option<(LinkId, u64)>,
}

impl Known {
    /// Of a request that ends so many bytes behind what was sent on this connection.
    pub(super) fn behind(link: LinkId, bytes: usize, core: &Core) -> Self {
        let told = told(core.generation_of(link), core);
        Self { told, end: Some((link, core.sent(link) + bytes as u64)) }
    }

    /// Of a call in the same process.
    pub(super) fn called(generation: usize, core: &Core) -> Self {
        Self { told: told(generation, core), end: None }
    }

    pub(super) fn told(&self, core: &Core) -> u64 {
        let late = self.end.map_or(0, |(link, at)| core.model.borrow().others.known(link, at));
        self.told.max(late)
    }
}

fn told(generation: usize, core: &Core) -> u64 {
    core.model.borrow_mut().generation(generation).told
}

/// A change, or an item of a list, as JSON has it.
pub(super) fn entry(value: &Value) -> Result<Entry, String> {
    let wrong = |what: &str| format!("{what} in {value}");
    let members = value.as_object().ok_or_else(|| wrong("no object"))?;
    let number = |name: &str| members.get(name).and_then(Value::as_u64);
    let text = |name: &str| members.get(name).and_then(Value::as_str);
    let key = text("key").ok_or_else(|| wrong("no key"))?.to_owned();
    let revision = number("revision").ok_or_else(|| wrong("no revision"))?;
    if text("type") == Some("delete") {
        // The JSON of a deletion does not say when the key was made.
        return Ok(Entry { key, revision, created: 0, value: None });
    }
    let created = number("createRevision").ok_or_else(|| wrong("no createRevision"))?;
    let value = match (text("value"), text("value64")) {
        (Some(text), None) => text.as_bytes().to_vec(),
        (None, Some(text)) => {
            let bytes = base64(text).ok_or_else(|| wrong("no base64"))?;
            if std::str::from_utf8(&bytes).is_ok() {
                return Err(wrong("text as base64"));
            }
            bytes
        }
        _ => return Err(wrong("not one value")),
    };
    Ok(Entry { key, revision, created, value: Some(value) })
}

/// RFC 4648, with padding.
fn base64(text: &str) -> Option<Vec<u8>> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::new();
    for group in text.as_bytes().chunks(4) {
        let digits = group.iter().take_while(|byte| **byte != b'=').count();
        let mut bits: u32 = 0;
        for index in 0..4 {
            let digit = match group.get(index)? {
                b'=' if index >= 2 => 0,
                byte => ALPHABET.iter().position(|known| known == byte)? as u32,
            };
            bits = bits << 6 | digit;
        }
        bytes.extend(&bits.to_be_bytes()[1..digits.max(1)]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (text, bytes) in
            [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYmFy", "foobar")]
        {
            assert_eq!(base64(text).as_deref(), Some(bytes.as_bytes()), "{text}");
        }
        assert_eq!(base64("Z"), None);
        assert_eq!(base64("Zg!="), None);
    }
}
