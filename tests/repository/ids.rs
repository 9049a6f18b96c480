//! Tests carry ids of faults in a comment, and names that say what they show; `docs/faults.md` is the key to the ids.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::english::BANNED;
use super::{read, rust_files, tests};

/// The longest name of a test, in characters.
const NAME_MAX: usize = 60;

/// Words in front of a name that are no subject.
const NO_SUBJECT: [&str; 8] = ["a", "an", "it", "its", "that", "the", "those", "what"];

/// Whether a word is an id, such as `f28`: the letter of a table and one or two digits.
fn is_id(word: &str) -> bool {
    let mut characters = word.chars();
    let begins = characters.next().is_some_and(|c| c.is_ascii_lowercase());
    let digits = characters.as_str();
    begins && matches!(digits.len(), 1 | 2) && digits.chars().all(|c| c.is_ascii_digit())
}

/// The first mistake in a test's name.
fn mistake_in_name(name: &str) -> Option<&'static str> {
    let words: Vec<&str> = name.split('_').collect();
    if name.len() > NAME_MAX {
        Some("it is too long")
    } else if words.last().is_some_and(|word| is_id(word)) {
        Some("an id stands in a comment above the test")
    } else if words.iter().any(|word| BANNED.contains(word)) {
        Some("it does not say who acts")
    } else if words.first().is_some_and(|word| NO_SUBJECT.contains(word)) {
        Some("it does not begin with its subject")
    } else {
        None
    }
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
            ids.extend(above.drain(..).map(|id| (id, name.to_owned())));
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
fn names_of_tests_are_short_and_begin_with_their_subject() {
    let mistakes: Vec<String> = tests()
        .iter()
        .filter_map(|name| Some(format!("{name}: {}", mistake_in_name(name)?)))
        .collect();
    assert!(mistakes.is_empty(), "{mistakes:#?}");
}

#[test]
fn mistakes_in_names_are_found() {
    let [word, ..] = BANNED;
    let long = "x".repeat(NAME_MAX);
    for (name, expected) in [
        ("token_file_of_another_owner_is_refused", None),
        (&long, None),
        (&format!("{long}x"), Some("it is too long")),
        (
            "start_is_called_off_b47",
            Some("an id stands in a comment above the test"),
        ),
        ("tls_1_2_is_spoken", None),
        (
            &format!("token_that_{word}_took_is_revoked"),
            Some("it does not say who acts"),
        ),
        (
            "what_was_planted_stays",
            Some("it does not begin with its subject"),
        ),
    ] {
        assert_eq!(mistake_in_name(name), expected, "{name}");
    }
}

#[test]
fn ids_are_read_from_comments_that_hold_ids_alone() {
    // The mark of a test is not written out: the other tests read this file, too.
    let source = "\
// f9 is about clocks
fn helper() {}

// The meaning of t2.
// F28, t6
MARK
#[expect(clippy::x)]
fn start_is_called_off() {
    // f1
}

MARK
fn start_has_no_comment_f3() {}
"
    .replace("MARK", "#[test]");
    let ids = ids_of_source(&source);
    let ids: Vec<(&str, &str)> = ids.iter().map(|(id, test)| (&**id, &**test)).collect();
    let name = "start_is_called_off";
    assert_eq!(ids, [("f28", name), ("t6", name)]);
}
