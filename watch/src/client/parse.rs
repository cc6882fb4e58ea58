//! The JSON that comes in. `docs/wire.md` shows each shape; members and types that are not known are passed over.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::config::ClientLimits;
use super::event::{Failure, Item};
use crate::key::{Key, KeyError, Revision};

/// An event.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    Put(Item),
    Deleted {
        key: Key,
        revision: Revision,
    },
    Bookmark(Revision),
    Compacted(Revision),
    /// Of a type that is not known.
    Other,
}

/// A page of a list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) revision: Revision,
    pub(super) items: Vec<Item>,
    /// Where the next page begins.
    pub(super) token: Option<String>,
}

/// The answer to a long poll.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) revision: Revision,
    pub(super) events: Vec<Told>,
}

/// An event of a stream.
pub(super) fn event(json: &[u8], limits: &ClientLimits) -> Result<Told, Failure> {
    told(object(json)?, limits)
}

pub(super) fn page(json: &[u8], limits: &ClientLimits) -> Result<Page, Failure> {
    let mut members = object(json)?;
    let item = |value| item(into_object(value)?, limits);
    Ok(Page {
        revision: revision(&members, "revision")?,
        items: array(&mut members, "items")?.into_iter().map(item).collect::<Result<_, _>>()?,
        token: match members.remove("continue") {
            None => None,
            Some(Value::String(token)) => Some(token),
            Some(_) => return Err(Failure::Malformed),
        },
    })
}

pub(super) fn answer(json: &[u8], limits: &ClientLimits) -> Result<Answer, Failure> {
    let mut members = object(json)?;
    let event = |value| told(into_object(value)?, limits);
    Ok(Answer {
        revision: revision(&members, "revision")?,
        events: array(&mut members, "events")?.into_iter().map(event).collect::<Result<_, _>>()?,
    })
}

/// The server's revision in an error.
pub(super) fn error_revision(json: &[u8]) -> Result<Revision, Failure> {
    revision(&object(json)?, "revision")
}

fn told(members: Map<String, Value>, limits: &ClientLimits) -> Result<Told, Failure> {
    let Some(Value::String(kind)) = members.get("type") else { return Err(Failure::Malformed) };
    Ok(match kind.as_str() {
        "put" => Told::Put(item(members, limits)?),
        "delete" => Told::Deleted { key: key(&members, limits)?, revision: revision(&members, "revision")? },
        "bookmark" => Told::Bookmark(revision(&members, "revision")?),
        "compacted" => Told::Compacted(revision(&members, "revision")?),
        _ => Told::Other,
    })
}

fn item(mut members: Map<String, Value>, limits: &ClientLimits) -> Result<Item, Failure> {
    let value = match (members.remove("value"), members.remove("value64")) {
        (Some(Value::String(text)), None) => text.into_bytes(),
        (None, Some(Value::String(text))) => STANDARD.decode(text).map_err(|_| Failure::Malformed)?,
        _ => return Err(Failure::Malformed),
    };
    if value.len() > limits.value_bytes {
        return Err(Failure::TooLong);
    }
    let (created, changed) = (revision(&members, "createRevision")?, revision(&members, "revision")?);
    if created > changed {
        return Err(Failure::Revision);
    }
    Ok(Item { key: key(&members, limits)?, value, revision: changed, created: Some(created) })
}

fn key(members: &Map<String, Value>, limits: &ClientLimits) -> Result<Key, Failure> {
    let Some(Value::String(key)) = members.get("key") else { return Err(Failure::Malformed) };
    Key::new(key, limits.key_bytes).map_err(|error| match error {
        KeyError::TooLong { .. } => Failure::TooLong,
        _ => Failure::Malformed,
    })
}

fn revision(members: &Map<String, Value>, name: &str) -> Result<Revision, Failure> {
    members.get(name).and_then(Value::as_u64).and_then(Revision::new).ok_or(Failure::Malformed)
}

fn array(members: &mut Map<String, Value>, name: &str) -> Result<Vec<Value>, Failure> {
    match members.remove(name) {
        Some(Value::Array(values)) => Ok(values),
        _ => Err(Failure::Malformed),
    }
}

fn object(json: &[u8]) -> Result<Map<String, Value>, Failure> {
    into_object(serde_json::from_slice(json).map_err(|_| Failure::Malformed)?)
}

fn into_object(value: Value) -> Result<Map<String, Value>, Failure> {
    match value {
        Value::Object(members) => Ok(members),
        _ => Err(Failure::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> ClientLimits {
        ClientLimits { key_bytes: 8, value_bytes: 8, ..ClientLimits::default() }
    }

    fn put(value: &str) -> String {
        format!(r#"{{"type":"put","key":"a","revision":7,"createRevision":3,{value}}}"#)
    }

    fn parse(json: &str) -> Result<Told, Failure> {
        event(json.as_bytes(), &limits())
    }

    fn item(value: &[u8]) -> Item {
        Item {
            key: Key::new("a", 8).unwrap(),
            value: value.to_vec(),
            revision: Revision::new(7).unwrap(),
            created: Revision::new(3),
        }
    }

    #[test]
    fn each_event() {
        let revision = Revision::new(7).unwrap();
        assert_eq!(parse(&put(r#""value":"té""#)), Ok(Told::Put(item("té".as_bytes()))));
        assert_eq!(parse(&put(r#""value64":"/wA=""#)), Ok(Told::Put(item(&[0xff, 0]))));
        let deleted = Told::Deleted { key: Key::new("a", 8).unwrap(), revision };
        assert_eq!(parse(r#"{"type":"delete","key":"a","revision":7}"#), Ok(deleted));
        assert_eq!(parse(r#"{"type":"bookmark","revision":7,"more":[]}"#), Ok(Told::Bookmark(revision)));
        assert_eq!(parse(r#"{"type":"compacted","revision":7}"#), Ok(Told::Compacted(revision)));
        assert_eq!(parse(r#"{"type":"weather"}"#), Ok(Told::Other));
    }

    #[test]
    fn what_is_missing_or_of_another_type_is_malformed() {
        for json in [
            "",
            "[]",
            "{",
            "{}",
            r#"{"type":1}"#,
            r#"{"type":"bookmark"}"#,
            r#"{"type":"bookmark","revision":-1}"#,
            r#"{"type":"bookmark","revision":1.5}"#,
            r#"{"type":"bookmark","revision":"1"}"#,
            r#"{"type":"bookmark","revision":9007199254740992}"#,
            r#"{"type":"bookmark","revision":1} {}"#,
            r#"{"type":"delete","revision":1}"#,
            r#"{"type":"delete","key":"","revision":1}"#,
            &put(r#""other":"x""#),
            &put(r#""value":"x","value64":"""#),
            &put(r#""value64":"/w""#),
            &put(r#""value":7"#),
        ] {
            assert_eq!(parse(json), Err(Failure::Malformed), "{json}");
        }
        assert_eq!(event(b"{\"type\":\"\xff\"}", &limits()), Err(Failure::Malformed));
        assert_eq!(parse(&"[".repeat(100_000)), Err(Failure::Malformed));
    }

    #[test]
    fn limits_hold_for_the_value_itself() {
        assert_eq!(parse(&put(r#""value":"12345678""#)), Ok(Told::Put(item(b"12345678"))));
        assert_eq!(parse(&put(r#""value":"123456789""#)), Err(Failure::TooLong));
        assert_eq!(parse(&put(r#""value64":"MTIzNDU2Nzg5""#)), Err(Failure::TooLong));
        assert_eq!(parse(r#"{"type":"delete","key":"123456789","revision":1}"#), Err(Failure::TooLong));
    }

    #[test]
    fn nothing_changes_before_it_is_created() {
        let put = r#"{"type":"put","key":"a","revision":7,"createRevision":8,"value":""}"#;
        assert_eq!(parse(put), Err(Failure::Revision));
        let put = put.replace("\"createRevision\":8", "\"createRevision\":7");
        assert!(matches!(parse(&put), Ok(Told::Put(_))), "created by this change");
    }

    #[test]
    fn an_error_says_the_revision_to_go_on_from() {
        assert_eq!(error_revision(br#"{"error":"gone","revision":7}"#), Ok(Revision::new(7).unwrap()));
        assert_eq!(error_revision(br#"{"error":"gone"}"#), Err(Failure::Malformed));
    }

    #[test]
    fn pages_and_answers() {
        let json = r#"{"revision":9,"items":[{"key":"a","revision":7,"createRevision":3,"value":"x"}],"continue":"9.a"}"#;
        let revision = Revision::new(9).unwrap();
        let whole = Page { revision, items: vec![item(b"x")], token: Some("9.a".into()) };
        assert_eq!(page(json.as_bytes(), &limits()), Ok(whole));
        let json = r#"{"revision":9,"events":[{"type":"bookmark","revision":9}]}"#;
        let whole = Answer { revision, events: vec![Told::Bookmark(revision)] };
        assert_eq!(answer(json.as_bytes(), &limits()), Ok(whole));
        for json in
            [r#"{"revision":9}"#, r#"{"items":[],"events":[]}"#, r#"{"revision":9,"items":{},"events":[{}]}"#]
        {
            assert_eq!(page(json.as_bytes(), &limits()), Err(Failure::Malformed));
            assert_eq!(answer(json.as_bytes(), &limits()), Err(Failure::Malformed));
        }
    }
}
