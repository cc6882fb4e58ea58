//! What the watch server was given to tell: a log that keeps everything and looks at all of it. What a client is told is held to
//! this, whatever the transport.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;

use keepwatch_watch::change::Change;
use serde_json::Value;

/// A change, as it was committed and as it is told. A deletion is not told with the revision that made the key: 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) revision: u64,
    pub(crate) created: u64,
    pub(crate) value: Option<Vec<u8>>,
}

impl From<&Change> for Entry {
    fn from(change: &Change) -> Self {
        let value = change.value.as_ref().map(|value| value.to_vec());
        let created = value.as_ref().map_or(0, |_| change.created.as_u64());
        Self { key: change.key.to_string(), revision: change.revision.as_u64(), created, value }
    }
}

impl Entry {
    /// What an event says, or an item of a list, which has no `type`.
    pub(crate) fn of_json(json: &Value) -> Self {
        let number = |name: &str| json[name].as_u64().unwrap_or_else(|| panic!("no {name} in {json}"));
        let text = |name: &str| json[name].as_str().map(str::to_owned);
        let deleted = json["type"] == "delete";
        let value = match (deleted, text("value"), text("value64")) {
            (true, None, None) => None,
            (false, Some(text), None) => Some(text.into_bytes()),
            (false, None, Some(base64)) => {
                let bytes = base64_bytes(&base64);
                assert!(std::str::from_utf8(&bytes).is_err(), "text in base64: {json}");
                Some(bytes)
            }
            _ => panic!("not one value in {json}"),
        };
        let key = text("key").unwrap_or_else(|| panic!("no key in {json}"));
        let created = if deleted { 0 } else { number("createRevision") };
        Self { key, revision: number("revision"), created, value }
    }
}

/// RFC 4648 section 4, with padding.
fn base64_bytes(text: &str) -> Vec<u8> {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    assert_eq!(text.len() % 4, 0, "{text:?} is not padded");
    let digits = text.trim_end_matches('=');
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
    for digit in digits.chars() {
        let value = ALPHABET.find(digit).unwrap_or_else(|| panic!("{digit:?} in {text:?}"));
        (bits, count) = (bits << 6 | value as u32, count + 6);
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}

/// Which keys someone watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Filter {
    Key(String),
    Prefix(String),
}

impl Filter {
    pub(crate) fn matches(&self, key: &str) -> bool {
        match self {
            Self::Key(wanted) => key == wanted,
            Self::Prefix(prefix) => key.starts_with(prefix.as_str()),
        }
    }
}

/// Everything that was ever committed, and how much of it the server's log has.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) log: Vec<Entry>,
    /// The first change that the server still has.
    pub(crate) floor: usize,
    /// How many changes each batch has that the server has.
    kept: VecDeque<usize>,
    /// The most changes that the server's log keeps, but for one batch.
    keep: usize,
}

impl History {
    pub(crate) fn new(keep: usize) -> Self {
        Self { keep, ..Self::default() }
    }

    pub(crate) fn revision(&self) -> u64 {
        self.log.last().map_or(0, |last| last.revision)
    }

    /// The highest revision of which not everything can be told any more.
    pub(crate) fn floor_revision(&self) -> u64 {
        self.floor.checked_sub(1).map_or(0, |last| self.log[last].revision)
    }

    /// Whether anything can be told at, or since, this revision.
    pub(crate) fn reaches(&self, revision: u64) -> bool {
        (self.floor_revision()..=self.revision()).contains(&revision)
    }

    /// The next batch. Whole batches leave, the last one never.
    pub(crate) fn push(&mut self, changes: &[Change]) {
        self.log.extend(changes.iter().map(Entry::from));
        self.kept.push_back(changes.len());
        while self.log.len() - self.floor > self.keep && self.kept.len() > 1 {
            self.floor += self.kept.pop_front().unwrap_or_default();
        }
    }

    /// The server was given the state in place of changes, perhaps of these.
    pub(crate) fn restate(&mut self, changes: &[Change]) {
        self.log.extend(changes.iter().map(Entry::from));
        self.kept.clear();
        self.floor = self.log.len();
    }

    /// The place of the first change behind a revision.
    pub(crate) fn after(&self, revision: u64) -> usize {
        self.log.iter().take_while(|entry| entry.revision <= revision).count()
    }

    /// The keys and values at a revision.
    pub(crate) fn state(&self, revision: u64) -> BTreeMap<&str, &Entry> {
        let mut state = BTreeMap::new();
        for entry in &self.log[..self.after(revision)] {
            match entry.value {
                Some(_) => state.insert(entry.key.as_str(), entry),
                None => state.remove(entry.key.as_str()),
            };
        }
        state
    }

    /// What concerns the filter from this place on, with the places.
    pub(crate) fn changes<'a>(
        &'a self,
        filter: &'a Filter,
        from: usize,
    ) -> impl Iterator<Item = (usize, &'a Entry)> {
        let changes = self.log.iter().enumerate().skip(from);
        changes.filter(|(_, entry)| filter.matches(&entry.key))
    }

    /// Whether a page of a list is right: its revision, its items from behind a key, whether it says that there are more.
    pub(crate) fn assert_page(&self, prefix: &str, after: Option<&str>, limit: usize, page: &Value) {
        let revision = page["revision"].as_u64().unwrap_or_else(|| panic!("no revision in {page}"));
        let state = self.state(revision);
        let rest = state.values().filter(|entry| {
            entry.key.starts_with(prefix) && after.is_none_or(|after| entry.key.as_str() > after)
        });
        let rest: Vec<Entry> = rest.map(|entry| (*entry).clone()).collect();
        let items = page["items"].as_array().unwrap_or_else(|| panic!("no items in {page}"));
        let items: Vec<Entry> = items.iter().map(Entry::of_json).collect();
        assert!(items.len() <= limit && rest.starts_with(&items), "{page}, and it was {rest:?}");
        let next = items.last().filter(|_| items.len() < rest.len());
        let next = next.map(|last| format!("{revision}.{}", last.key));
        assert_eq!(page["continue"].as_str(), next.as_deref(), "{page}, and it was {rest:?}");
        assert!(!items.is_empty() || rest.is_empty(), "an empty page, and it was {rest:?}");
    }
}

/// Text in a query, all of it escaped.
pub(crate) fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut escaped, byte| {
        let _infallible = write!(escaped, "%{byte:02x}");
        escaped
    })
}
