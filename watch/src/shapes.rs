//! The JSON that goes out, the same on every transport. `docs/wire.md` shows each shape.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::change::Change;
use crate::key::{Key, Revision};
use crate::store::{Full, Reply};

/// What an event on a stream says that is not a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// Nothing for you up to here.
    Bookmark(Revision),
    /// From here on nothing is missing; before, something is: list again.
    Compacted(Revision),
    /// The same, and the state at this revision follows at once.
    Restated(Revision),
    /// The watch is on, and this is the newest revision: what it has not seen up to there follows.
    Watching(Revision),
}

impl Notice {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bookmark(_) => "bookmark",
            Self::Compacted(_) | Self::Restated(_) => "compacted",
            Self::Watching(_) => "watching",
        }
    }

    pub(crate) fn revision(self) -> Revision {
        match self {
            Self::Bookmark(revision)
            | Self::Compacted(revision)
            | Self::Restated(revision)
            | Self::Watching(revision) => revision,
        }
    }

    /// The members, without the opening brace: a watch's id may stand before them.
    pub(crate) fn put_members(self, out: &mut Vec<u8>) {
        let (name, revision) = (self.name(), self.revision());
        out.extend_from_slice(format!("\"type\":\"{name}\",\"revision\":{revision}}}").as_bytes());
    }
}

/// A change as an event, without its opening brace.
pub(crate) fn put_event_members(change: &Change, out: &mut Vec<u8>) {
    if change.value.is_some() {
        out.extend_from_slice(b"\"type\":\"put\",");
        put_item_members(change, out);
    } else {
        out.extend_from_slice(b"\"type\":\"delete\",\"key\":");
        put_string(&change.key, out);
        out.extend_from_slice(format!(",\"revision\":{}}}", change.revision).as_bytes());
    }
}

/// A key and its value as an item of a list, without its opening brace.
pub(crate) fn put_item_members(change: &Change, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"key\":");
    put_string(&change.key, out);
    let (revision, created) = (change.revision, change.created);
    out.extend_from_slice(format!(",\"revision\":{revision},\"createRevision\":{created},").as_bytes());
    put_value(change.value.as_deref().unwrap_or_default(), out);
    out.push(b'}');
}

fn put_value(value: &[u8], out: &mut Vec<u8>) {
    if let Ok(text) = std::str::from_utf8(value) {
        out.extend_from_slice(b"\"value\":");
        put_string(text, out);
    } else {
        out.extend_from_slice(b"\"value64\":\"");
        out.extend_from_slice(STANDARD.encode(value).as_bytes());
        out.push(b'"');
    }
}

/// A string in quotes, escaped.
pub(crate) fn put_string(text: &str, out: &mut Vec<u8>) {
    // Writing a str into a Vec cannot fail.
    let written = serde_json::to_writer(out, text);
    debug_assert!(written.is_ok());
}

/// `{"error":"what and why"}`, and the revision where it helps to go on.
pub(crate) fn error(why: &str, revision: Option<Revision>) -> Vec<u8> {
    let mut out = b"{\"error\":".to_vec();
    put_string(why, &mut out);
    if let Some(revision) = revision {
        out.extend_from_slice(format!(",\"revision\":{revision}").as_bytes());
    }
    out.extend_from_slice(b"}\n");
    out
}

/// Where a list goes on: text that the client gives back as it is.
pub(crate) fn continue_token(at: Revision, after: &Key) -> String {
    format!("{at}.{after}")
}

/// What became of a write, as a status and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// Done, at this revision.
    Done { status: u16, revision: Revision },
    /// Not done.
    Refused { status: u16, why: &'static str, revision: Option<Revision> },
}

impl Written {
    /// What a reply says to a write that was to find no key (`absent`), or anything else.
    pub(crate) fn new(reply: Reply, absent: bool) -> Self {
        match reply {
            Reply::Written { revision, created, .. } => {
                Self::Done { status: if created { 201 } else { 200 }, revision }
            }
            Reply::Deleted { revision } => Self::Done { status: 200, revision },
            Reply::Missing => Self::Refused { status: 404, why: "no such key", revision: None },
            Reply::Conflict { current } => {
                let why = match (current, absent) {
                    (Some(_), true) => "the key exists",
                    (Some(_), false) => "the key is at another revision",
                    (None, _) => "the key does not exist",
                };
                Self::Refused { status: 412, why, revision: current }
            }
            Reply::Full { why } => {
                let (status, why) = match why {
                    Full::KeyBytes { .. } => (400, "the key is too long"),
                    Full::ValueBytes { .. } => (413, "the value is too large"),
                    Full::Keys { .. } | Full::Bytes { .. } | Full::Revisions => {
                        (507, "the store has no room for it")
                    }
                };
                Self::Refused { status, why, revision: None }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn change(value: Option<&[u8]>) -> Change {
        Change {
            key: Key::new("app/a", 1024).unwrap(),
            revision: Revision::new(7).unwrap(),
            created: Revision::new(3).unwrap(),
            value: value.map(Arc::from),
        }
    }

    fn event(value: Option<&[u8]>) -> String {
        let mut out = b"{".to_vec();
        put_event_members(&change(value), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_value_that_is_text_is_text() {
        let text = r#"{"type":"put","key":"app/a","revision":7,"createRevision":3,"value":"te\"xt\n"}"#;
        assert_eq!(event(Some(b"te\"xt\n")), text);
    }

    #[test]
    fn a_value_that_is_no_text_is_base64() {
        let text = r#"{"type":"put","key":"app/a","revision":7,"createRevision":3,"value64":"/wA="}"#;
        assert_eq!(event(Some(&[0xff, 0])), text);
    }

    #[test]
    fn a_delete_has_no_value() {
        assert_eq!(event(None), r#"{"type":"delete","key":"app/a","revision":7}"#);
    }

    #[test]
    fn each_notice_says_what_it_is_and_its_revision() {
        let revision = Revision::new(9).unwrap();
        for (notice, name) in [
            (Notice::Bookmark(revision), "bookmark"),
            (Notice::Compacted(revision), "compacted"),
            (Notice::Restated(revision), "compacted"),
            (Notice::Watching(revision), "watching"),
        ] {
            let mut out = b"{".to_vec();
            notice.put_members(&mut out);
            let text = format!(r#"{{"type":"{name}","revision":9}}"#);
            assert_eq!(String::from_utf8(out), Ok(text));
        }
    }

    #[test]
    fn each_reply_has_its_status() {
        let status = |reply, absent| match Written::new(reply, absent) {
            Written::Done { status, .. } => (status, ""),
            Written::Refused { status, why, .. } => (status, why),
        };
        let revision = Revision::new(7).unwrap();
        let conflict = |current| Reply::Conflict { current };
        let table = [
            (Reply::Written { revision, created: true, changed: true }, false, (201, "")),
            (Reply::Written { revision, created: false, changed: false }, false, (200, "")),
            (Reply::Deleted { revision }, false, (200, "")),
            (Reply::Missing, false, (404, "no such key")),
            (conflict(None), false, (412, "the key does not exist")),
            (conflict(Some(revision)), false, (412, "the key is at another revision")),
            (conflict(Some(revision)), true, (412, "the key exists")),
            (Reply::Full { why: Full::Revisions }, false, (507, "the store has no room for it")),
            (Reply::Full { why: Full::KeyBytes { max: 1 } }, false, (400, "the key is too long")),
            (Reply::Full { why: Full::ValueBytes { max: 1 } }, false, (413, "the value is too large")),
        ];
        for (reply, absent, expected) in table {
            assert_eq!(status(reply, absent), expected, "{reply:?}");
        }
    }

    #[test]
    fn an_error_is_one_line_of_json() {
        let error = error("what \"and\"\nwhy", Revision::new(9));
        assert_eq!(error, b"{\"error\":\"what \\\"and\\\"\\nwhy\",\"revision\":9}\n");
    }
}
