//! Tests carry ids of faults, and `docs/faults.md` is the key to them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::{read, rust_files};

/// Whether a word is an id, such as `f28`: the letter of a table and one or two digits.
fn is_id(word: &str) -> bool {
    let mut characters = word.chars();
    let begins = characters.next().is_some_and(|c| c.is_ascii_lowercase());
    let digits = characters.as_str();
    begins && matches!(digits.len(), 1 | 2) && digits.chars().all(|c| c.is_ascii_digit())
}

/// The ids at the end of a test's name.
fn ids_of_name(name: &str) -> Vec<String> {
    let words = name.rsplit('_').take_while(|word| is_id(word));
    words.map(str::to_owned).collect()
}

/// The ids of a comment that holds ids alone.
fn ids_of_comment(comment: &str) -> Vec<String> {
    let words = comment.trim_start_matches(['/', ' ']).split([',', ' ']);
    let words = words.filter(|word| !word.is_empty());
    let ids: Vec<String> = words.map(str::to_lowercase).collect();
    if ids.iter().all(|word| is_id(word)) {
        ids
    } else {
        Vec::new()
    }
}

/// The ids of every test in a source file, each with the test's name.
fn ids_of_source(source: &str) -> Vec<(String, String)> {
    let mut ids = Vec::new();
    let mut above = Vec::new();
    let mut is_test = false;
    for line in source.lines().map(str::trim) {
        if line.starts_with("//") {
            above.extend(ids_of_comment(line));
        } else if line == "#[test]" {
            is_test = true;
        } else if let Some((name, _)) = line
            .strip_prefix("fn ")
            .and_then(|rest| rest.split_once('('))
            && is_test
        {
            let all = ids_of_name(name).into_iter().chain(above.drain(..));
            ids.extend(all.map(|id| (id, name.to_owned())));
            is_test = false;
        } else if !is_test && !line.starts_with("#[") {
            above.clear();
        }
    }
    ids
}

/// The ids that have a row, each with what its row says.
fn rows(document: &str) -> Vec<(&str, &str)> {
    let rows = document.lines().filter_map(|line| {
        let (id, text) = line.strip_prefix("| ")?.split_once(" | ")?;
        is_id(id).then_some((id, text.trim_end_matches(['|', ' '])))
    });
    rows.collect()
}

#[test]
fn ids_of_tests_and_rows_of_their_key_are_the_same() {
    let document = read("docs/faults.md");
    let rows = rows(&document);
    let mut known = BTreeSet::new();
    for (id, text) in rows {
        assert!(known.insert(id.to_owned()), "docs/faults.md has {id} twice");
        assert!(text.ends_with('.'), "{id} is no sentence: {text}");
    }
    let mut carried: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in rust_files(&["src", "tests"]) {
        let source = fs::read_to_string(&path).expect("a source file");
        for (id, test) in ids_of_source(&source) {
            carried.entry(id).or_default().insert(test);
        }
    }
    for (id, tests) in &carried {
        assert!(
            known.contains(id),
            "docs/faults.md has no row for {id} of {tests:?}"
        );
    }
    for id in &known {
        assert!(
            carried.contains_key(id),
            "no test carries the id {id} of docs/faults.md"
        );
    }
}

#[test]
fn ids_are_read_from_names_and_comments() {
    // The mark of a test is not written out: the other test reads this file, too.
    let source = "\
// f9 is about clocks
fn helper() {}

/// What t2 means.
// F28, t6
MARK
#[expect(clippy::x)]
fn start_is_called_off_b47() {
    // f1
}

MARK
fn tls_1_2_is_spoken() {}
"
    .replace("MARK", "#[test]");
    let ids = ids_of_source(&source);
    let ids: Vec<(&str, &str)> = ids.iter().map(|(id, test)| (&**id, &**test)).collect();
    let name = "start_is_called_off_b47";
    assert_eq!(ids, [("b47", name), ("f28", name), ("t6", name)]);
}
