//! `docs/conformance-http1.md` says which test holds each rule of HTTP/1.1: it must be true, and it must be whole.

#![expect(clippy::panic, reason = "a row that cannot be read fails the test, and says which it is")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// How many rules of each kind there are.
const RULES: [usize; 5] = [43, 29, 20, 21, 25];
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
    bugs: Vec<Vec<Test>>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Reads the tables: two cells are a word and its folder, three a bug, six a rule.
fn document() -> Document {
    let text = read("docs/conformance-http1.md");
    let (mut folders, mut document) = (BTreeMap::new(), Document::default());
    for line in text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---")) {
        let cells: Vec<_> = line.trim_matches(['|', ' ']).split(" | ").map(str::trim).collect();
        match cells[..] {
            ["word" | "rule" | "bug", ..] => {}
            [word, folder] => {
                folders.insert(word.trim_matches('`').to_string(), folder.trim_matches('`').to_string());
            }
            [_, _, listed] => document.bugs.push(tests(listed, &folders)),
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
    let mut named = BTreeSet::new();
    let mut folders: Vec<_> = SEARCHED.map(PathBuf::from).to_vec();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).expect("a folder") {
            let entry = entry.expect("an entry");
            let path = folder.join(entry.file_name());
            if entry.path().is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let file = path.to_str().expect("text").replace('\\', "/");
                let source = read(&file);
                let names =
                    tests_of(&source).filter(|name| name.starts_with("bug_") || !rules_of(name).is_empty());
                named.extend(names.map(|name| Test { file: file.clone(), name: name.to_string() }));
            }
        }
    }
    named
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
        assert!(tests_of(&read(&test.file)).any(|name| name == test.name), "{test:?}");
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
