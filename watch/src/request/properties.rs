//! What a request says, however it is written.

use std::fmt::Write as _;

use keepwatch_protocol::Input;
use keepwatch_protocol::http1::{HeadDecoder, Limits};
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;
use crate::shapes::continue_token;

/// What a request with this line and these fields asks for; `None` if that is no head.
fn ask(line: &str, fields: &str) -> Option<Result<Call, Refusal>> {
    let mut bytes = format!("{line} HTTP/1.1\r\nHost: example.org:8080\r\n{fields}\r\n").into_bytes();
    let head = HeadDecoder::new().decode(&mut Input::new(&mut bytes), &Limits::default());
    Some(parse(&head.ok().flatten()?, &Config::default()))
}

/// A text, encoded: what has to be, and some of what does not.
fn encoded(text: &str, also: &[bool], query: bool) -> String {
    let mut also = also.iter().cycle();
    text.bytes().fold(String::new(), |mut out, byte| {
        let plain = byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
        let upper = *also.next().unwrap_or(&false);
        match byte {
            b' ' if query && upper => out.push('+'),
            byte if plain && !upper => out.push(char::from(byte)),
            byte if upper => write!(out, "%{byte:02X}").unwrap(),
            byte => write!(out, "%{byte:02x}").unwrap(),
        }
        out
    })
}

fn texts() -> impl Strategy<Value = String> {
    "([a-c/]|[ +%&=?#]|\u{e9}|\u{20ac}|\u{0}){0,8}"
}

fn flags() -> impl Strategy<Value = Vec<bool>> {
    prop::collection::vec(any::<bool>(), 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_encoded_is_decoded_once(text in texts(), also in flags(), query: bool) {
        prop_assert_eq!(percent_decode(&encoded(&text, &also, query), query).map(std::borrow::Cow::into_owned), Ok(text.clone()));
        let path = format!("GET /v1/kv/{}", encoded(&text, &also, false));
        let call = ask(&path, "").unwrap();
        prop_assert_eq!(call.ok(), Key::new(&text, 1024).ok().map(|key| Call::Get { key, unless: None }));
    }

    #[test]
    fn no_bytes_of_a_path_or_a_query_are_too_strange(
        line in "(GET|HEAD|PUT|POST|DELETE) /(v1/kv/|v1/kv|v1/watch|ok/|hello)?[!-~]{0,12}",
        fields in "(Accept: [!-~]{0,8}\r\n)?(Upgrade: websocket\r\nConnection: upgrade\r\n)?(Origin: [!-~]{0,8}\r\n)?(If-Match: [!-~]{0,6}\r\n)?",
    ) {
        if let Some(Err(refusal)) = ask(&line, &fields) {
            prop_assert!(matches!(refusal.status.code(), 400 | 403 | 404 | 405 | 426), "{}", refusal.status);
            prop_assert!(!refusal.why.is_empty());
        }
    }

    #[test]
    fn a_watch_is_what_its_parameters_say_in_any_order(
        key in prop::option::of(texts()),
        prefix in prop::option::of(texts()),
        since in prop::option::of(prop_oneof![0..200_u64, any::<u64>()]),
        last in prop::option::of(0..200_u64),
        initial in prop::option::of(any::<bool>()),
        wait in prop::option::of((0..100_000_u64, select(vec![("ms", 1), ("s", 1000), ("m", 60_000)]))),
        also in flags(),
        order in any::<[Index; 5]>(),
    ) {
        let mut parameters: Vec<(&str, String)> = Vec::new();
        let both = [("key", &key), ("prefix", &prefix)];
        parameters.extend(both.iter().filter_map(|(name, text)| Some((*name, encoded(text.as_ref()?, &also, true)))));
        parameters.extend(since.map(|since| ("since", since.to_string())));
        parameters.extend(initial.map(|initial| ("initial", initial.to_string())));
        parameters.extend(wait.map(|(number, (unit, _))| ("wait", format!("{number}{unit}"))));
        let mut query = String::new();
        for index in order {
            if !parameters.is_empty() {
                let (name, value) = parameters.swap_remove(index.index(parameters.len()));
                write!(query, "&{name}={value}").unwrap();
            }
        }
        let fields = last.map_or_else(String::new, |last| format!("Last-Event-ID: {last}\r\n"));
        let call = ask(&format!("GET /v1/watch?{}", query.trim_start_matches('&')), &fields).unwrap();

        let most = Config::default().hold;
        let filter = match (&key, &prefix) {
            (Some(key), None) => Filter::key(key, 1024).ok(),
            (None, Some(prefix)) => Filter::prefix(prefix, 1024).ok(),
            _ => None,
        };
        let since = last.or(since).map(Revision::new);
        let initial = initial.unwrap_or(false);
        let hold = wait.map_or(most, |(number, (_, millis))| Duration::from_millis(number * millis).min(most));
        let expected = match (filter, since) {
            (Some(filter), None | Some(Some(_))) if !initial => {
                Some(Call::Watch { watch: Watch { filter, since: since.flatten(), initial }, hold: Hold::LongPoll(hold) })
            }
            _ => None,
        };
        prop_assert_eq!(call.as_ref().ok(), expected.as_ref());
        prop_assert!(call.is_ok() || call.is_err_and(|refusal| refusal.status == StatusCode::BAD_REQUEST));
    }

    #[test]
    fn the_stream_that_accept_prefers_is_taken(
        ranges in prop::collection::vec(
            (select(vec!["application/x-ndjson", "text/event-stream", "application/json", "*/*", "text/*", "Text/Event-Stream"]),
             prop::option::of(0..=1000_u16), any::<bool>()),
            0..6,
        ),
        lines in 1_usize..4,
    ) {
        let written: Vec<String> = ranges.iter().map(|(range, weight, short)| match weight {
            None => format!("{range};a=b"),
            Some(1000) => format!("{range};q=1"),
            Some(weight) if *short && weight % 100 == 0 => format!("{range} ; Q=0.{}", weight / 100),
            Some(weight) => format!("{range}; a=b; q=0.{weight:03}"),
        }).collect();
        let fields: Vec<String> = written.chunks(lines).map(|line| format!("Accept: {}\r\n", line.join(", "))).collect();
        let fields = fields.concat();
        let Some(Ok(Call::Watch { hold, .. })) = ask("GET /v1/watch?key=a", &fields) else { panic!("{fields}") };
        let weight = |range: &&(&str, Option<u16>, bool)| range.1.unwrap_or(1000);
        let is = |name: &'static str| move |range: &&(&str, Option<u16>, bool)| range.0.eq_ignore_ascii_case(name);
        let plain = ranges.iter().filter(is("application/json")).map(|range| weight(&range)).max().unwrap_or(0);
        let streams = ranges.iter().filter(|range| is("application/x-ndjson")(range) || is("text/event-stream")(range));
        // The first of those that weigh most.
        let best = streams.filter(|range| weight(range) > 0).rev().max_by_key(weight).filter(|best| weight(best) >= plain);
        let expected = match best {
            None => Hold::LongPoll(Config::default().hold),
            Some(best) if is("text/event-stream")(&best) => Hold::Events,
            Some(_) => Hold::Lines,
        };
        prop_assert_eq!(hold, expected);
    }

    #[test]
    fn an_entity_tag_is_a_revision_and_others_match_nothing(
        tags in prop::collection::vec(
            prop_oneof![
                4 => (0..20_u64).prop_map(|revision| (format!("\"{revision}\""), Some(revision), true)),
                2 => (0..20_u64).prop_map(|revision| (format!("W/\"{revision}\""), Some(revision), false)),
                2 => select(vec!["\"\"", "\"x\"", "1", "\"-1\"", "\"", "w/\"1\"", "\"99999999999999999999\""])
                    .prop_map(|tag| (tag.to_owned(), None, false)),
            ],
            1..5,
        ),
        any_of_them: bool,
    ) {
        let mut list: Vec<&str> = tags.iter().map(|(tag, ..)| tag.as_str()).collect();
        if any_of_them {
            list.push("*");
        }
        let list = list.join(" ,\t");
        let Some(Ok(Call::Put { only_if, .. })) = ask("PUT /v1/kv/a", &format!("If-Match: {list}\r\nIf-None-Match: {list}\r\n")) else {
            panic!("{list}");
        };
        for number in 0..20 {
            let names = |weak: bool| any_of_them || tags.iter().any(|(_, tag, strong)| *tag == Some(number) && (*strong || weak));
            let revision = Revision::new(number).unwrap();
            prop_assert_eq!(only_if.if_match.as_ref().map(|tags| tags.has(revision)), Some(names(false)));
            prop_assert_eq!(only_if.if_none_match.as_ref().map(|tags| tags.has(revision)), Some(names(true)));
        }
    }

    #[test]
    fn a_list_goes_on_where_its_page_said(at in 0..1_u64 << 53, after in texts(), also in flags()) {
        if let Ok(after) = Key::new(&after, 1024) {
            let at = Revision::new(at).unwrap();
            let token = continue_token(at, &after);
            let from = Some(Continue { at, after });
            prop_assert_eq!(&Continue::parse(&token, &Config::default()), &from);
            let call = ask(&format!("GET /v1/kv?continue={}", encoded(&token, &also, true)), "").unwrap();
            prop_assert_eq!(call, Ok(Call::List { prefix: String::new(), limit: 10_000, from }));
        }
    }

    #[test]
    fn numbers_are_those_that_std_reads_of_digits_alone(text in "[0-9]{0,21}|[0-9+ _x-]{0,5}") {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        prop_assert_eq!(decimal(text.as_bytes()), text.parse().ok().filter(|_| digits));
    }

    #[test]
    fn durations_are_digits_and_a_unit(number in "[0-9]{0,22}", unit in "ms|s|m|h|S||ms |[a-z]") {
        let millis = |scale: u64| number.parse::<u64>().unwrap_or(u64::MAX).saturating_mul(scale);
        let expected = match unit.as_str() {
            _ if number.is_empty() => None,
            "ms" => Some(millis(1)),
            "s" => Some(millis(1000)),
            "m" => Some(millis(60_000)),
            _ => None,
        };
        prop_assert_eq!(duration(&format!("{number}{unit}")), expected.map(Duration::from_millis));
    }

    #[test]
    fn a_weight_has_three_digits_at_most(text in "[01](\\.[0-9]{0,4})?|[0-9.]{0,4}") {
        let in_form = match text.split_once('.') {
            None => text == "0" || text == "1",
            Some((whole, fraction)) => matches!(whole, "0" | "1") && fraction.len() <= 3 && !fraction.contains('.'),
        };
        let value = text.parse::<f64>().ok().filter(|value| in_form && *value <= 1.0);
        prop_assert_eq!(quality(text.as_bytes()).map(f64::from), value.map(|value| (value * 1000.0).round()));
    }
}
