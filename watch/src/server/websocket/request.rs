//! What a client's messages on a WebSocket ask for.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::config::Config;
use crate::index::Filter;
use crate::key::{Key, Revision};
use crate::request::{Continue, Watch};
use crate::store::{Condition, Operation};

/// What a message asks for.
pub(super) enum Request {
    Watch { id: u64, watch: Watch },
    Cancel { id: u64 },
    Write { id: u64, operation: Operation },
    Get { id: u64, key: Key },
    List { id: u64, prefix: String, limit: usize, from: Option<Continue> },
}

/// Why a message cannot be done, and the id that it gave.
pub(super) struct Refused {
    pub(super) id: Option<u64>,
    pub(super) status: u16,
    pub(super) why: String,
}

/// What is wrong with a message.
struct Wrong {
    status: u16,
    why: String,
}

impl<T: Into<String>> From<T> for Wrong {
    fn from(why: T) -> Self {
        Self { status: 400, why: why.into() }
    }
}

/// Understands a message.
pub(super) fn parse(text: &str, config: &Config) -> Result<Request, Refused> {
    let value: Value = serde_json::from_str(text).map_err(|error| Refused {
        id: None,
        status: 400,
        why: format!("the message is not JSON: {error}"),
    })?;
    let id = value.get("id").and_then(Value::as_u64).filter(|id| *id <= Revision::MAX.as_u64());
    let refuse = |why: String| Refused { id, status: 400, why };
    let Value::Object(mut members) = value else { return Err(refuse("a message is an object".into())) };
    let id_there = members.remove("id").is_some();
    let Some(id) = id else {
        let why = if id_there { "id is a whole number, at most 2^53 - 1" } else { "a message has an id" };
        return Err(refuse(why.into()));
    };
    request(id, &mut members, config)
        .and_then(|request| match members.keys().next() {
            None => Ok(request),
            Some(name) => Err(format!("there is no member {} here", shown(name)).into()),
        })
        .map_err(|Wrong { status, why }| Refused { id: Some(id), status, why })
}

fn request(id: u64, members: &mut Map<String, Value>, config: &Config) -> Result<Request, Wrong> {
    let operation = text(members, "op")?.ok_or("a message has an op")?;
    Ok(match operation.as_str() {
        "watch" => {
            let filter = match (text(members, "key")?, text(members, "prefix")?) {
                (Some(key), None) => Filter::key(&key, config.key_bytes),
                (None, Some(prefix)) => Filter::prefix(&prefix, config.key_bytes),
                _ => return Err("a watch has either a key or a prefix".into()),
            };
            let filter = filter.map_err(|error| error.to_string())?;
            let since = revision(members, "since")?;
            let initial = match members.remove("initial") {
                None => false,
                Some(Value::Bool(initial)) => initial,
                Some(_) => return Err("initial is true or false".into()),
            };
            Request::Watch { id, watch: Watch { filter, since, initial } }
        }
        "cancel" => Request::Cancel { id },
        "get" => Request::Get { id, key: key(members, config)? },
        "put" => {
            let key = key(members, config)?;
            let value = match (text(members, "value")?, text(members, "value64")?) {
                (Some(text), None) => text.into_bytes(),
                (None, Some(base64)) => {
                    STANDARD.decode(base64).map_err(|error| format!("value64: {error}"))?
                }
                _ => return Err("a put has either a value or a value64".into()),
            };
            if value.len() > config.value_bytes {
                let why = format!("a value has at most {} bytes", config.value_bytes);
                return Err(Wrong { status: 413, why });
            }
            let condition = condition(members)?;
            Request::Write { id, operation: Operation::Put { key, value: value.into(), condition } }
        }
        "delete" => {
            let (key, condition) = (key(members, config)?, condition(members)?);
            Request::Write { id, operation: Operation::Delete { key, condition } }
        }
        "list" => {
            let prefix = text(members, "prefix")?.unwrap_or_default();
            let limit = match members.remove("limit") {
                None => config.list_items,
                Some(limit) => match limit.as_u64().filter(|limit| *limit > 0) {
                    Some(limit) => usize::try_from(limit).unwrap_or(usize::MAX).min(config.list_items),
                    None => return Err("limit is a number of items, from 1".into()),
                },
            };
            let from = match text(members, "continue")? {
                None => None,
                Some(token) => Some(Continue::parse(&token, config).ok_or(Continue::WHAT)?),
            };
            Request::List { id, prefix, limit, from }
        }
        _ => {
            let operation = shown(&operation);
            return Err(format!("there is no op {operation}: watch, cancel, put, get, list or delete").into());
        }
    })
}

/// What the client sent, in quotes, and not all of it: an answer is no longer because the question was.
fn shown(text: &str) -> String {
    const MOST: usize = 32;
    let more = if text.chars().nth(MOST).is_some() { ".." } else { "" };
    format!("{:?}{more}", text.chars().take(MOST).collect::<String>())
}

fn text(members: &mut Map<String, Value>, name: &str) -> Result<Option<String>, String> {
    match members.remove(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("{name} is a string")),
    }
}

fn key(members: &mut Map<String, Value>, config: &Config) -> Result<Key, String> {
    let text = text(members, "key")?.ok_or("a key is missing")?;
    Key::new(&text, config.key_bytes).map_err(|error| error.to_string())
}

fn revision(members: &mut Map<String, Value>, name: &str) -> Result<Option<Revision>, String> {
    match members.remove(name) {
        None => Ok(None),
        Some(value) => match value.as_u64().and_then(Revision::new) {
            Some(revision) => Ok(Some(revision)),
            None => Err(format!("{name} is a revision")),
        },
    }
}

/// `ifRevision`: the revision that the key is to be at; 0: it is not to exist.
fn condition(members: &mut Map<String, Value>) -> Result<Condition, String> {
    Ok(match revision(members, "ifRevision")? {
        None => Condition::None,
        Some(Revision::ZERO) => Condition::Absent,
        Some(revision) => Condition::Revision(revision),
    })
}
