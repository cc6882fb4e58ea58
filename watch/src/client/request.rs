//! What is asked for, as the head of a request.

use keepwatch_protocol::http1::SendError;
use keepwatch_protocol::http1::client::{ClientConnection, Request};
use keepwatch_protocol::{Now, Sink, sse};

use super::event::Transport;
use super::progress::{Plan, Progress};
use crate::index::Filter;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct RequestHead {
    /// The path and the query.
    pub(super) target: String,
    own: Vec<(&'static str, String)>,
}

impl RequestHead {
    /// The head of what is planned. Those of a WebSocket's handshake come on top.
    pub(super) fn of(plan: &Plan, progress: &Progress) -> Self {
        let (filter, config) = (&progress.target.filter, &progress.config);
        let (target, field) = match plan {
            Plan::Rest(_) => ("/".to_owned(), None),
            Plan::List { token } => {
                // What begins with a key begins with that key, if it exists.
                let limit = match filter {
                    Filter::Key(_) => 1,
                    Filter::Prefix(_) => config.page_items.max(1),
                };
                let token = token.as_ref().map(|token| format!("&continue={}", encoded(token)));
                let (prefix, token) = (encoded(text(filter)), token.unwrap_or_default());
                let target = format!("/v1/kv?prefix={prefix}&limit={limit}{token}");
                (target, Some(("Accept", "application/json".to_owned())))
            }
            Plan::Get { unless } => {
                let field = unless.map(|revision| ("If-None-Match", format!("\"{revision}\"")));
                (format!("/v1/kv/{}", encoded(text(filter))), field)
            }
            Plan::Watch { transport, since } => {
                let name = match filter {
                    Filter::Key(_) => "key",
                    Filter::Prefix(_) => "prefix",
                };
                let base = format!("/v1/watch?{name}={}", encoded(text(filter)));
                let accept = |kind: &str| Some(("Accept", kind.to_owned()));
                match transport {
                    Transport::WebSocket => (format!("{base}&since={since}"), None),
                    Transport::Lines => (format!("{base}&since={since}"), accept("application/x-ndjson")),
                    Transport::ServerSentEvents => (base, accept(sse::MEDIA_TYPE)),
                    Transport::LongPoll | Transport::ShortPoll => {
                        let wait = config.wait.as_millis();
                        (format!("{base}&since={since}&wait={wait}ms"), accept("application/json"))
                    }
                }
            }
        };
        let mut own: Vec<_> = field.into_iter().collect();
        if let Plan::Watch { transport: Transport::ServerSentEvents, since } = plan {
            own.push(("Last-Event-ID", since.to_string()));
        }
        Self { target, own }
    }

    /// The fields, those of the user behind.
    pub(super) fn fields<'a>(&'a self, users: &'a [(String, String)]) -> Vec<(&'a str, &'a [u8])> {
        let own = self.own.iter().map(|(name, value)| (*name, value.as_bytes()));
        own.chain(users.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))).collect()
    }

    /// Puts the request.
    pub(super) fn send(
        &self,
        machine: &mut ClientConnection,
        progress: &Progress,
        out: &mut impl Sink,
        now: Now,
    ) -> Result<(), SendError> {
        let fields = self.fields(&progress.config.fields);
        let request = Request { fields: &fields, ..Request::get(&progress.target.authority, &self.target) };
        machine.send(&request, b"", out, now)
    }
}

fn text(filter: &Filter) -> &str {
    match filter {
        Filter::Key(key) => key,
        Filter::Prefix(prefix) => prefix,
    }
}

/// Percent-encodes all that is not unreserved (RFC 3986 section 2.3), but not slashes.
fn encoded(text: &str) -> String {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.extend(['%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::client::{ClientConfig, Start, Target};
    use crate::key::Revision;

    fn head(filter: Filter, plan: &Plan) -> (String, Vec<(&'static str, String)>) {
        let target = Target { authority: "x".into(), filter, start: Start::List };
        let progress = Progress::new(target, Arc::new(ClientConfig::default()), 0);
        let RequestHead { target, own } = RequestHead::of(plan, &progress);
        (target, own)
    }

    fn key() -> Filter {
        Filter::key("a b", 1024).unwrap()
    }

    fn prefix() -> Filter {
        Filter::prefix("a/", 1024).unwrap()
    }

    #[test]
    fn what_is_not_unreserved_is_percent_encoded() {
        assert_eq!(encoded("a/b c?&=+%\u{e9}\0~"), "a/b%20c%3F%26%3D%2B%25%C3%A9%00~");
    }

    #[test]
    fn lists_and_polls_of_states() {
        let json = || vec![("Accept", "application/json".to_owned())];
        let list = |token: Option<&str>| Plan::List { token: token.map(str::to_owned) };
        assert_eq!(head(key(), &list(None)), ("/v1/kv?prefix=a%20b&limit=1".into(), json()));
        let (target, _) = head(prefix(), &list(Some("7.a/\u{e9}")));
        assert_eq!(target, "/v1/kv?prefix=a/&limit=1000&continue=7.a/%C3%A9");
        let unless = Some(Revision::MAX);
        let tag = vec![("If-None-Match", "\"9007199254740991\"".to_owned())];
        assert_eq!(head(key(), &Plan::Get { unless }), ("/v1/kv/a%20b".into(), tag));
        assert_eq!(head(key(), &Plan::Get { unless: None }), ("/v1/kv/a%20b".into(), vec![]));
    }

    #[test]
    fn each_transport() {
        let watch = |transport| {
            let (target, own) = head(prefix(), &Plan::Watch { transport, since: Revision::ZERO });
            let own: Vec<String> = own.iter().map(|(name, value)| format!("{name}: {value}")).collect();
            (target, own.join(", "))
        };
        let base = "/v1/watch?prefix=a/";
        assert_eq!(watch(Transport::WebSocket), (format!("{base}&since=0"), String::new()));
        assert_eq!(
            watch(Transport::Lines),
            (format!("{base}&since=0"), "Accept: application/x-ndjson".into())
        );
        let fields = "Accept: text/event-stream, Last-Event-ID: 0".to_owned();
        assert_eq!(watch(Transport::ServerSentEvents), (base.to_owned(), fields));
        assert_eq!(
            watch(Transport::LongPoll),
            (format!("{base}&since=0&wait=30000ms"), "Accept: application/json".into())
        );
    }
}
