//! `docs/conformance-http1.md` says which test holds each rule of HTTP/1.1, `docs/conformance-websocket.md` which hold what
//! is asked of a WebSocket: both must be true, and whole.

#![expect(clippy::panic, reason = "a row that cannot be read fails the test, and says which it is")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// How many rules of each kind there are.
const RULES: [usize; 5] = [43, 29, 20, 21, 25];
/// Whose tests are listed on the page of WebSockets.
const WEBSOCKET: &str = "protocol/src/websocket";
/// Tests below these are found, and have to be listed if their names say that they hold a rule.
const SEARCHED: [&str; 2] = ["protocol/src", "protocol/tests"];

/// A row of the table of rules.
struct Rule {
    id: String,
    role: String,
    verdict: String,
    tests: Vec<Test>,
}

/// A test as a row names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Test {
    /// From the workspace's root.
    file: String,
    name: String,
}

#[derive(Default)]
struct Document {
    rules: Vec<Rule>,
    /// The verdicts and tests of what is asked beyond a testsuite.
    asked: Vec<(String, Vec<Test>)>,
    bugs: Vec<Vec<Test>>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn document() -> Document {
    page("docs/conformance-http1.md")
}

/// Reads the tables: two cells are a word and its folder, three a bug, four what is asked, six a rule.
fn page(file: &str) -> Document {
    let text = read(file);
    let (mut folders, mut document) = (BTreeMap::new(), Document::default());
    for line in text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---")) {
        let cells: Vec<_> = line.trim_matches(['|', ' ']).split(" | ").map(str::trim).collect();
        match cells[..] {
            ["word" | "rule" | "bug" | "what", ..] => {}
            [word, folder] => {
                folders.insert(word.trim_matches('`').to_string(), folder.trim_matches('`').to_string());
            }
            [_, _, listed] => document.bugs.push(tests(listed, &folders)),
            [_, _, verdict, listed] => document.asked.push((verdict.to_string(), tests(listed, &folders))),
            [id, _, _, role, verdict, listed] => document.rules.push(Rule {
                id: id.to_string(),
                role: role.to_string(),
                verdict: verdict.to_string(),
                tests: tests(listed, &folders),
            }),
            _ => panic!("a row with {} cells: {line}", cells.len()),
        }
    }
    document
}

/// The tests of a cell.
fn tests(cell: &str, folders: &BTreeMap<String, String>) -> Vec<Test> {
    let test = |path: &str| {
        let path = path.trim_matches('`');
        let (word, rest) = path.split_once('/').unwrap_or_else(|| panic!("no folder: {path}"));
        let (file, name) = rest.split_once("::").unwrap_or_else(|| panic!("no test: {path}"));
        let folder = folders.get(word).unwrap_or_else(|| panic!("no such folder: {path}"));
        Test { file: format!("{folder}/{file}.rs"), name: name.to_string() }
    };
    cell.split(", ").filter(|path| !path.is_empty()).map(test).collect()
}

/// The names of the test functions of a file.
fn tests_of(source: &str) -> impl Iterator<Item = &str> {
    let mut is_test = false;
    source.lines().map(str::trim_start).filter_map(move |line| {
        if line.starts_with("#[") {
            is_test |= line == "#[test]";
            return None;
        }
        let name = line.strip_prefix("fn ").and_then(|rest| rest.split('(').next());
        name.filter(|_| std::mem::take(&mut is_test))
    })
}

/// The rules that a test's name says it holds: those of `rows_5_10_and_5_22_a_part` are 5.10 and 5.22.
fn rules_of(name: &str) -> Vec<String> {
    let Some(ids) = name.strip_prefix("row_").or_else(|| name.strip_prefix("rows_")) else {
        return Vec::new();
    };
    let is_number = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit());
    let words: Vec<_> = ids.split('_').filter(|word| *word != "and").collect();
    let pairs = words.chunks_exact(2).take_while(|pair| pair.iter().all(|word| is_number(word)));
    pairs.map(|pair| pair.join(".")).collect()
}

/// Every test whose name says that it holds a rule, or that a bug is not here.
fn named_tests() -> BTreeSet<Test> {
    let named = |name: &str| name.starts_with("bug_") || !rules_of(name).is_empty();
    let all = SEARCHED.into_iter().flat_map(|folder| tests_below(folder, named));
    all.filter(|test| !test.file.starts_with(WEBSOCKET)).collect()
}

/// The tests with such names in all files below a folder.
fn tests_below(folder: &str, is_wanted: impl Fn(&str) -> bool) -> Vec<Test> {
    let (mut found, mut folders) = (Vec::new(), vec![PathBuf::from(folder)]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).expect("a folder") {
            let entry = entry.expect("an entry");
            let path = folder.join(entry.file_name());
            if entry.path().is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let file = path.to_str().expect("text").replace('\\', "/");
                let source = read(&file);
                let names = tests_of(&source).filter(|name| is_wanted(name));
                found.extend(names.map(|name| Test { file: file.clone(), name: name.to_string() }));
            }
        }
    }
    found
}

/// Whether there is such a test, in the file that is named or below the folder of that name.
fn exists(test: &Test) -> bool {
    let folder = test.file.trim_end_matches(".rs");
    if root().join(&test.file).is_file() && tests_of(&read(&test.file)).any(|name| name == test.name) {
        return true;
    }
    root().join(folder).is_dir() && !tests_below(folder, |name| name == test.name).is_empty()
}

#[test]
fn every_rule_has_its_row() {
    let listed: Vec<_> = document().rules.into_iter().map(|rule| rule.id).collect();
    let kinds = RULES.iter().zip(1..);
    let all: Vec<_> =
        kinds.flat_map(|(rules, kind)| (1..=*rules).map(move |rule| format!("{kind}.{rule}"))).collect();
    assert_eq!(listed, all);
}

#[test]
fn every_rule_has_a_verdict_and_a_test_in_each_role() {
    for Rule { id, role, verdict, tests } in document().rules {
        let verdicts = ["obeyed", "policy", "not offered"];
        assert!(verdicts.iter().any(|known| verdict.starts_with(known)), "{id}: {verdict}");
        let of_client = tests.iter().filter(|test| test.file.contains("/client/")).count();
        let (server, client) = (tests.len() > of_client, of_client > 0);
        let expected = match &*role {
            "server" => (true, false),
            "client" => (false, true),
            "both" => (true, true),
            _ => panic!("{id}: {role}"),
        };
        assert_eq!((server, client), expected, "{id} binds {role}: {tests:?}");
    }
}

#[test]
fn every_test_that_is_listed_exists() {
    let document = document();
    let rules = document.rules.iter().flat_map(|rule| &rule.tests);
    for test in rules.chain(document.bugs.iter().flatten()) {
        assert!(exists(test), "{test:?}");
    }
    assert!(document.bugs.iter().all(|tests| !tests.is_empty()));
}

#[test]
fn every_test_is_listed_where_its_name_says() {
    let document = document();
    let mut rows: BTreeMap<&Test, BTreeSet<&str>> = BTreeMap::new();
    for rule in &document.rules {
        for test in &rule.tests {
            rows.entry(test).or_default().insert(&rule.id);
        }
    }
    let bugs: BTreeSet<_> = document.bugs.iter().flatten().collect();
    let named = named_tests();
    for test in &named {
        if test.name.starts_with("bug_") {
            assert!(bugs.contains(test), "not among the bugs: {test:?}");
        } else {
            let said = rules_of(&test.name);
            let said: BTreeSet<_> = said.iter().map(String::as_str).collect();
            assert_eq!(rows.get(test), Some(&said), "{test:?}");
        }
    }
    // What is listed from within this crate has a name that says why.
    let ours = |test: &&&Test| test.file.starts_with("protocol/");
    for test in rows.keys().copied().collect::<Vec<_>>().iter().filter(ours) {
        assert!(named.contains(*test), "its name has no rule: {test:?}");
    }
}

#[test]
fn what_is_asked_of_a_websocket_has_a_verdict_and_tests_that_exist() {
    let page = page("docs/conformance-websocket.md");
    assert!(page.asked.len() >= 23 && page.bugs.len() >= 57 && page.rules.is_empty());
    for (verdict, tests) in &page.asked {
        assert!(verdict.starts_with("obeyed") || verdict.starts_with("policy"), "{verdict}");
        assert!(!tests.is_empty(), "{verdict}");
    }
    let listed = page.asked.iter().map(|(_, tests)| tests).chain(&page.bugs);
    for tests in listed {
        assert!(!tests.is_empty());
        for test in tests {
            assert!(exists(test), "{test:?}");
        }
    }
}

#[test]
fn every_test_of_a_websocket_s_row_or_bug_is_listed() {
    let page = page("docs/conformance-websocket.md");
    let listed: BTreeSet<_> =
        page.asked.into_iter().map(|(_, tests)| tests).chain(page.bugs).flatten().collect();
    let named = tests_below(WEBSOCKET, |name| name.starts_with("row_") || name.starts_with("bug_"));
    for test in named {
        let folder = test.file.trim_end_matches(".rs");
        let here =
            |other: &Test| folder.starts_with(other.file.trim_end_matches(".rs")) && other.name == test.name;
        assert!(listed.iter().any(here), "{test:?}");
    }
}

#[test]
fn names_are_read_as_rules() {
    for (name, rules) in [
        ("row_1_4_a_few", &["1.4"][..]),
        ("row_4_20_a_426_names", &["4.20"]),
        ("rows_4_16_and_4_17_100_and_the_body", &["4.16", "4.17"]),
        ("rows_3_15_3_16_5_13_and_5_19_options", &["3.15", "3.16", "5.13", "5.19"]),
        ("row_close_codes", &[]),
        ("a_row_1_1", &[]),
    ] {
        assert_eq!(rules_of(name), rules, "{name}");
    }
}
