//! The documents say what the code does, and the modules keep to their rules.

mod circles;
mod documents;
mod english;
mod ids;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use crate::support::{Anteroom, repository};

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The words of a text that begin like this, as far as they go on in these characters.
fn words(text: &str, start: &str, inside: fn(char) -> bool) -> BTreeSet<String> {
    text.match_indices(start)
        .map(|(at, _)| {
            let rest = &text[at + start.len()..];
            let end = rest.find(|c| !inside(c)).unwrap_or(rest.len());
            format!("{start}{}", &rest[..end])
        })
        .collect()
}

#[test]
fn flags_of_the_help_are_those_of_the_document() {
    let help = Anteroom::new()
        .without_secrets_dir()
        .arg("--help")
        .run()
        .stdout;
    let document = read("docs/cli.md");
    let table = document
        .split("## Flags\n")
        .nth(1)
        .and_then(|rest| rest.split("\n## ").next())
        .expect("the document lists the flags");
    let flags = |text: &str| {
        let mut flags = words(text, "--", |c| c.is_ascii_lowercase() || c == '-');
        for other in ["--", "---", "--help", "--version"] {
            flags.remove(other);
        }
        flags
    };
    let variables = |text: &str| words(text, "ANTEROOM_", |c| c.is_ascii_uppercase() || c == '_');
    assert_eq!(flags(&help), flags(table));
    let mut documented = variables(table);
    assert!(documented.remove("ANTEROOM_TOKEN"), "it is never a flag");
    assert_eq!(variables(&help), documented);
}

#[test]
fn decisions_that_are_mutated_are_listed_with_all_their_parts() {
    let of = |text: &str| {
        words(text, "src/", |c| {
            c.is_ascii_alphanumeric() || "_/.".contains(c)
        })
    };
    let script = read("scripts/mutants");
    let list = script.split("|| set --").nth(1).expect("the list");
    let list = list.split("\n\n").next().expect("its end");
    let document = read("docs/testing.md");
    let rows: String = document
        .lines()
        .filter(|line| line.starts_with("| `src/"))
        .collect();
    let mutated = of(list);
    assert_eq!(mutated, of(&rows));
    for file in &mutated {
        let folder = file.trim_end_matches(".rs");
        let parts = fs::read_dir(repository().join(folder))
            .into_iter()
            .flatten();
        for part in parts {
            let name = part.expect("a file").file_name();
            let name = name.to_str().expect("a name in ASCII");
            let is_no_decision = ["tests.rs", "fuzzing.rs"].contains(&name);
            let path = format!("{folder}/{name}");
            assert!(
                is_no_decision || mutated.contains(&path),
                "{path} is missing"
            );
        }
    }
}

#[test]
fn every_key_of_the_manifest_is_in_its_reference() {
    let parts = rust_files(&["src/manifest"]).into_iter();
    let parts = parts.map(|path| fs::read_to_string(path).expect("it is text"));
    let source = read("src/manifest.rs") + &parts.collect::<String>();
    let reference = read("docs/manifest.md");
    let mut keys = BTreeSet::new();
    for reader in [
        "t.text(\"",
        "t.texts(\"",
        "t.words(\"",
        "t.flag(\"",
        "t.flag_or_text(\"",
        "entries(\"",
    ] {
        keys.extend(
            words(&source, reader, |c| c.is_ascii_lowercase() || c == '_')
                .iter()
                .map(|word| word[reader.len()..].to_owned()),
        );
    }
    assert!(
        keys.len() > 25,
        "the reader of the manifest looks otherwise now: {keys:?}"
    );
    for key in keys {
        assert!(
            reference.contains(&format!("`{key}`")),
            "docs/manifest.md lacks `{key}`"
        );
    }
}

#[test]
fn reference_of_the_agent_has_every_key_event_and_metric() {
    let reference = read("docs/agent.md");
    let source = |name: &str| {
        let folder = format!("src/agent/{name}");
        let mut whole = read(&format!("{folder}.rs"));
        // Parts of a stage may have files of their own.
        if repository().join(&folder).is_dir() {
            for part in rust_files(&[&folder]) {
                whole += &fs::read_to_string(part).expect("a source file");
            }
        }
        whole
    };
    let inside = |c: char| c.is_ascii_lowercase() || c == '_';
    let quoted = |text: &str, before: &[&str]| -> BTreeSet<String> {
        let after = |start: &&str| {
            words(text, start, inside).into_iter().map({
                let length = start.len();
                move |word| word[length..].to_owned()
            })
        };
        before
            .iter()
            .flat_map(after)
            .filter(|word| !word.is_empty())
            .collect()
    };
    let configuration = source("configuration");
    let whole: String = configuration
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    let keys = quoted(
        &whole,
        &[
            "t.text(\"",
            "t.texts(\"",
            "t.flag(\"",
            "t.number(\"",
            "approle.text(\"",
        ],
    );
    assert!(keys.len() > 18, "the reader looks otherwise now: {keys:?}");
    let mut events = BTreeSet::new();
    let mut reasons = BTreeSet::new();
    for name in [
        "break_glass",
        "token_socket",
        "error",
        "events",
        "issue",
        "own_token",
        "revocation",
        "sockets",
    ] {
        let text: String = source(name)
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        events.extend(quoted(
            &text,
            &["Level::Info, \"", "Level::Warn, \"", "Level::Error, \""],
        ));
    }
    assert!(
        events.len() > 12,
        "events are told otherwise now: {events:?}"
    );
    for name in ["delivery", "issue", "identity", "process", "trouble"] {
        let text = source(name);
        for body in text.split("fn reason(&self)").skip(1) {
            let body = body.split("\n    }\n").next().unwrap_or_default();
            reasons.extend(quoted(body, &["=> \""]));
        }
    }
    assert!(
        reasons.len() > 25,
        "reasons are given otherwise now: {reasons:?}"
    );
    let metrics = source("metrics");
    let whole: String = metrics.split_whitespace().collect::<String>();
    let metrics = quoted(&whole, &["registry.register(\""]);
    assert!(
        metrics.len() > 10,
        "metrics look otherwise now: {metrics:?}"
    );
    for word in keys.iter().chain(&events).chain(&reasons) {
        let is_there = reference.contains(&format!("`{word}`"));
        assert!(is_there, "docs/agent.md lacks `{word}`");
    }
    for metric in metrics {
        let is_there = [metric.clone(), format!("{metric}_total")]
            .iter()
            .any(|name| reference.contains(&format!("`{name}`")));
        assert!(is_there, "docs/agent.md lacks the metric `{metric}`");
    }
}

#[test]
fn every_exit_code_is_in_the_documents() {
    let source = read("src/error.rs");
    let codes = source
        .split("fn exit_code")
        .nth(1)
        .and_then(|rest| rest.split("/// The event's name").next())
        .expect("one place gives the exit codes");
    let table = read("docs/exit-codes.md");
    let mut seen = 0;
    for code in words(codes, "=> ", |c| c.is_ascii_digit()) {
        let code = &code["=> ".len()..];
        // 128 is what the number of a signal is added to.
        if !code.is_empty() && code != "128" {
            assert!(
                table.contains(&format!("| {code} |")),
                "docs/exit-codes.md lacks {code}"
            );
            seen += 1;
        }
    }
    assert!(seen > 8, "exit codes are given in another form now");
}

/// Tests by name, of the suite and of the modules.
fn tests() -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    for path in rust_files(&["src", "tests"]) {
        let source = fs::read_to_string(&path).expect("a source file");
        // Attributes, expectations among them, may stand between the mark and the function.
        for rest in source.split("#[test]\n").skip(1) {
            let name = rest
                .split_once("fn ")
                .and_then(|(_, rest)| rest.split_once('('));
            tests.insert(name.expect("a function with a name").0.to_owned());
        }
    }
    tests
}

/// Every file of the source below these directories.
fn rust_files(below: &[&str]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut directories: Vec<PathBuf> = below.iter().map(|it| repository().join(it)).collect();
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("a directory of the source") {
            let path = entry.expect("an entry").path();
            match path.extension() {
                _ if path.is_dir() => directories.push(path),
                Some(extension) if extension == "rs" => files.push(path),
                _ => {}
            }
        }
    }
    files
}

/// Words between backticks that could be names in Rust.
fn names(text: &str) -> impl Iterator<Item = &str> {
    let is_name = |text: &&str| {
        let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        text.contains('_') && text.chars().all(inside)
    };
    text.split('`').skip(1).step_by(2).filter(is_name)
}

#[test]
fn documents_describe_each_event_once_and_repeat_no_line() {
    for path in ["docs/exit-codes.md", "docs/agent.md"] {
        let document = read(path);
        let table = document
            .split("| event | level |")
            .nth(1)
            .and_then(|rest| rest.split("\n\n").next())
            .expect("a table of events");
        // An event of two levels has a row for each.
        let cells = table.lines().filter_map(|row| {
            let mut cells = row.split(" | ");
            Some((cells.next()?, cells.next()?))
        });
        let events: Vec<(&str, &str)> = cells
            .flat_map(|(names, level)| {
                names
                    .split('`')
                    .skip(1)
                    .step_by(2)
                    .map(move |name| (name, level))
            })
            .collect();
        assert!(events.len() > 10, "{path}: {events:?}");
        let different: BTreeSet<&(&str, &str)> = events.iter().collect();
        assert_eq!(events.len(), different.len(), "{path}: {events:?}");
    }
    for path in documents().chain(top_documents()) {
        let document = read(&path);
        let mut seen = BTreeSet::new();
        // Rows and examples may begin alike; sentences do not.
        let text = document.split("```").step_by(2).flat_map(str::lines);
        for line in text.filter(|line| !line.starts_with('|')) {
            let is_new = line.get(..60).is_none_or(|begin| seen.insert(begin));
            assert!(is_new, "{path} says twice: {line}");
        }
    }
}

/// The documents at the top that speak to people.
fn top_documents() -> impl Iterator<Item = String> {
    let names = [
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "README.md",
        "SECURITY.md",
    ];
    names.into_iter().map(str::to_owned)
}

/// Every document below `docs`.
fn documents() -> impl Iterator<Item = String> {
    let pages = ["docs", "docs/recipes"].into_iter().flat_map(|folder| {
        let entries = fs::read_dir(repository().join(folder)).expect("the documents");
        let names = entries.map(|entry| entry.expect("an entry").file_name().into_string());
        names.map(move |name| format!("{folder}/{}", name.expect("a name in Unicode")))
    });
    pages.filter(|path| path.ends_with(".md"))
}

#[test]
fn every_crate_before_its_release_is_in_the_security_notes() {
    let lock = read("Cargo.lock");
    let value = |package: &str, key: &str| {
        let line = package.lines().find_map(|line| line.strip_prefix(key));
        line.map(|line| line.trim_matches('"').to_owned())
    };
    let early: BTreeSet<String> = lock
        .split("[[package]]")
        .filter(|package| {
            let version = value(package, "version = ").unwrap_or_default();
            // Behind a plus stands no more than where a release was built from.
            version.split('+').next().unwrap_or_default().contains('-')
        })
        .filter_map(|package| value(package, "name = "))
        .collect();
    let document = read("docs/security.md");
    let table = document
        .split("## Crates before their release\n")
        .nth(1)
        .and_then(|rest| rest.split("\n## ").next())
        .expect("the security notes name them");
    let named: BTreeSet<String> = table
        .lines()
        .filter(|line| line.starts_with("| `"))
        .filter_map(|row| row.split(" | ").next())
        .flat_map(|names| names.split('`').skip(1).step_by(2))
        .map(str::to_owned)
        .collect();
    assert_eq!(early, named);
}

#[test]
fn fuzzers_are_built_from_the_crates_of_the_programs() {
    let packages = |path: &str| -> BTreeSet<String> {
        let lock = read(path);
        let package = |text: &str| {
            let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
            let sum = value("checksum = ").unwrap_or_default();
            Some(format!(
                "{} {} {sum}",
                value("name = ")?,
                value("version = ")?
            ))
        };
        lock.split("[[package]]").filter_map(package).collect()
    };
    let programs = packages("Cargo.lock");
    let own = ["\"anteroom-fuzz\" ", "\"arbitrary\" ", "\"libfuzzer-sys\" "];
    for package in packages("fuzz/Cargo.lock").difference(&programs) {
        assert!(
            own.iter().any(|name| package.starts_with(name)),
            "{package} is not in Cargo.lock: copy that to fuzz/Cargo.lock, and run `cargo metadata` in fuzz"
        );
    }
}

#[test]
fn every_test_that_the_security_notes_name_exists() {
    let document = read("docs/security.md");
    let tests = tests();
    assert!(
        tests.len() > 300,
        "tests look otherwise now: {}",
        tests.len()
    );
    // Events, keys and reasons have four words at the most.
    for name in names(&document).filter(|name| name.matches('_').count() > 3) {
        assert!(tests.contains(name), "there is no test `{name}`");
    }
    for table in [
        "How a theft is noticed",
        "What else may go wrong",
        "The agent on the host",
    ] {
        let rows: Vec<&str> = document
            .split(&format!("## {table}\n"))
            .nth(1)
            .and_then(|rest| rest.split("\n## ").next())
            .unwrap_or_default()
            .lines()
            .filter(|line| line.starts_with("| "))
            .collect();
        assert!(rows.len() > 4, "the table `{table}` looks otherwise now");
        assert!(rows[0].ends_with("| shown by |"), "{}", rows[0]);
        for row in &rows[1..] {
            let shown = row.trim_end_matches(" |").rsplit(" | ").next();
            let shown: Vec<&str> = names(shown.unwrap_or_default()).collect();
            assert!(!shown.is_empty(), "no test shows this: {row}");
            for name in shown {
                assert!(tests.contains(name), "there is no test `{name}`: {row}");
            }
        }
    }
}

#[test]
fn every_test_that_a_script_runs_exists() {
    let tests = tests();
    for path in ["scripts/matrix", "scripts/measure/rotation.py"] {
        let script = read(path);
        // The words behind the module; only names of tests are so long.
        let named = words(&script, "::", |c| c.is_ascii_alphanumeric() || c == '_');
        let mut named = named
            .iter()
            .map(|word| &word["::".len()..])
            .filter(|word| word.matches('_').count() > 3)
            .peekable();
        assert!(named.peek().is_some(), "{path} names no test any more");
        for name in named {
            assert!(tests.contains(name), "{path}: there is no test `{name}`");
        }
    }
}

#[test]
fn every_module_is_on_the_map() {
    let source = read("src/lib.rs");
    let modules: Vec<&str> = code(&source)
        .map(|line| line.strip_prefix("pub ").unwrap_or(line))
        .filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'))
        .collect();
    assert!(
        modules.len() > 20,
        "lib.rs looks otherwise now: {modules:?}"
    );
    for module in modules {
        assert!(
            source
                .lines()
                .any(|line| line.starts_with("//! |") && line.contains(&format!("`{module}`"))),
            "the map in lib.rs has no row for {module}"
        );
    }
}

/// The lines that are no comment.
fn code(source: &str) -> impl Iterator<Item = &str> {
    source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
}

#[test]
fn unsafe_code_lives_on_the_floor_and_says_why_it_is_sound() {
    let mut with_unsafe = BTreeSet::new();
    for path in rust_files(&["src"]) {
        let source = fs::read_to_string(&path).expect("a source file");
        let uses: usize = code(&source)
            .map(|line| {
                [
                    "unsafe {",
                    "unsafe extern",
                    "unsafe fn",
                    "unsafe impl",
                    "unsafe(",
                    "unsafe trait",
                ]
                .map(|beginning| line.matches(beginning).count())
                .iter()
                .sum::<usize>()
            })
            .sum();
        if uses > 0 {
            assert!(
                source.matches("// SAFETY:").count() >= uses,
                "{}",
                path.display()
            );
            let path = path.strip_prefix(repository().join("src"));
            with_unsafe.insert(path.expect("below src").to_owned());
        }
    }
    let expected = [
        "main.rs",
        "system/exec.rs",
        "system/fork.rs",
        "system/memory.rs",
        "system/name_lookup.rs",
        "system/process.rs",
        "system/random.rs",
        "system/signal.rs",
    ];
    let expected: BTreeSet<PathBuf> = expected.map(PathBuf::from).into();
    assert_eq!(with_unsafe, expected);
}
