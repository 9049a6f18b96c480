//! Plain English: the actor has a name, and a comment begins with its subject.
//!
//! A reader who does not know the code reads a sentence once: "the caller" and "an attacker" say who acts, and a comment
//! that begins with a pronoun has to be put together with the item below it first.

use std::fs;

use super::{repository, rust_files};

/// Written in two parts, so that a search for them finds no line of this file.
pub(super) const BANNED: [&str; 5] = [
    concat!("no", "body"),
    concat!("some", "body"),
    concat!("who", "ever"),
    concat!("every", "body"),
    concat!("any", "body"),
];

const PRONOUNS: [&str; 8] = ["It", "Its", "That", "Those", "What", "Whom", "By", "With"];

#[test]
fn text_names_its_actors_and_comments_their_subject() {
    let root = repository();
    let sources = rust_files(&["src", "tests"]).into_iter().map(|file| {
        let path = file.strip_prefix(root).expect("below the repository");
        path.to_string_lossy().into_owned()
    });
    let mut mistakes = Vec::new();
    let mut count = 0;
    for path in sources
        .chain(super::documents())
        .chain(super::top_documents())
    {
        count += 1;
        let text = fs::read_to_string(root.join(&path)).expect("a text");
        let found = mistakes_in(&text, path.ends_with(".rs"));
        mistakes.extend(found.iter().map(|line| format!("{path}:{line}")));
    }
    assert!(count > 250, "the sources are elsewhere now: {count}");
    assert!(mistakes.is_empty(), "{mistakes:#?}");
}

#[test]
fn pronouns_and_persons_without_a_name_are_found() {
    let [word, ..] = BANNED;
    for (what, text, expected) in [
        ("a sentence", "/// The end.\nfn f() {}".to_owned(), vec![]),
        ("a pronoun", "/// Its end.".to_owned(), vec![1]),
        (
            "a pronoun of a module",
            "//! What it does.".to_owned(),
            vec![1],
        ),
        (
            "a pronoun later in a comment",
            "/// The end,\n/// That is all.\n///\n/// It ends.".to_owned(),
            vec![4],
        ),
        (
            "a pronoun after another sentence",
            "/// The end. It ends.".to_owned(),
            vec![],
        ),
        ("a word that begins alike", "/// Items.".to_owned(), vec![]),
        ("an ordinary comment", "// It ends.".to_owned(), vec![]),
        ("a person", format!("\n// Seen by {word}."), vec![2]),
        (
            "a person in capitals",
            format!("/// X.\n/// {}'s.", word.to_uppercase()),
            vec![2],
        ),
        ("a person in a name", format!("`{word}_sees_it`"), vec![]),
        ("a longer word", format!("{word}s"), vec![]),
    ] {
        let lines: Vec<usize> = mistakes_in(&text, true)
            .iter()
            .map(|line| {
                line.split(':')
                    .next()
                    .and_then(|line| line.parse().ok())
                    .expect("a line")
            })
            .collect();
        assert_eq!(lines, expected, "{what}");
    }
}

/// Each line with such a word, behind its number.
fn mistakes_in(text: &str, is_source: bool) -> Vec<String> {
    let mut mistakes = Vec::new();
    let mut is_begin = true;
    for (number, line) in (1..).zip(text.lines()) {
        let lower = line.to_lowercase();
        let mut words = lower.split(|c: char| !c.is_alphanumeric() && c != '_');
        let has_banned = words.any(|word| BANNED.contains(&word));
        let comment = line.trim_start();
        let comment = comment
            .strip_prefix("///")
            .or_else(|| comment.strip_prefix("//!"));
        let first = comment.and_then(|comment| {
            comment
                .split(|c: char| !c.is_alphanumeric())
                .find(|word| !word.is_empty())
        });
        let has_pronoun =
            is_source && is_begin && first.is_some_and(|word| PRONOUNS.contains(&word));
        // A paragraph begins behind code, and behind an empty line of a comment.
        is_begin = first.is_none();
        if has_banned || has_pronoun {
            mistakes.push(format!("{number}: {}", line.trim()));
        }
    }
    mistakes
}
