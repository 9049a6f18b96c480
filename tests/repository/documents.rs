//! Pages lead where they say, README stays short, and its first commands work.

#![expect(clippy::disallowed_methods, reason = "a test types what README says")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use super::{documents, read};
use crate::support::repository;

/// Every page that a reader may open first, and all that these lead to.
fn pages() -> impl Iterator<Item = String> {
    let top = ["README.md", "CONTRIBUTING.md", "SECURITY.md"].map(str::to_owned);
    documents().chain(top)
}

/// The text of a page without code: neither blocks nor spans hold links.
fn prose(page: &str) -> String {
    let text: String = page.split("```").step_by(2).collect();
    text.split('`').step_by(2).collect()
}

/// The targets of a page's links within the repository.
fn links(page: &str) -> Vec<String> {
    let prose = prose(page);
    let targets = prose.split("](").skip(1);
    let targets = targets.filter_map(|rest| rest.split_once(')'));
    let own = targets.filter(|(target, _)| !target.contains("://"));
    own.map(|(target, _)| target.to_owned()).collect()
}

/// The names by which links reach the headings of a page, as forges make them.
fn anchors(page: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let lines = page.split("```").step_by(2).flat_map(str::lines);
    for line in lines.filter(|line| line.starts_with('#')) {
        let heading = line.trim_start_matches('#').trim().to_lowercase();
        let kept = heading
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        // The second of the same name gets a number.
        let count = seen.entry(anchor.clone()).or_insert(0);
        anchors.insert(match *count {
            0 => anchor,
            number => format!("{anchor}-{number}"),
        });
        *count += 1;
    }
    anchors
}

#[test]
fn readme_is_a_landing_page_of_at_most_160_lines() {
    let lines = read("README.md").lines().count();
    assert!(lines <= 160, "README.md has {lines} lines");
}

#[test]
fn links_lead_to_files_and_headings_that_exist() {
    let mut seen = 0;
    for path in pages() {
        let page = read(&path);
        let directory = Path::new(&path).parent().expect("a file in a directory");
        for link in links(&page) {
            let (file, heading) = match link.split_once('#') {
                Some((file, heading)) => (file, Some(heading)),
                None => (&*link, None),
            };
            let target = if file.is_empty() {
                Path::new(&path).to_owned()
            } else {
                directory.join(file)
            };
            assert!(
                repository().join(&target).exists(),
                "{path} links to {link}, which does not exist"
            );
            if let Some(heading) = heading {
                let target = read(target.to_str().expect("a name in Unicode"));
                assert!(
                    anchors(&target).contains(heading),
                    "{path} links to {link}, and that page has no such heading"
                );
            }
            seen += 1;
        }
    }
    assert!(seen > 50, "links look otherwise now: {seen}");
}

#[test]
fn every_page_is_in_the_index() {
    for path in documents().filter(|path| path != "docs/README.md") {
        // A folder has an index of its own, to which the index above leads.
        let (folder, page) = path.rsplit_once('/').expect("a page in a folder");
        let (folder, page) = match (page, folder.rsplit_once('/')) {
            ("README.md", Some((above, inner))) => (above, format!("{inner}/{page}")),
            _ => (folder, page.to_owned()),
        };
        let links = links(&read(&format!("{folder}/README.md")));
        assert!(
            links.contains(&page),
            "{folder}/README.md does not lead to {path}"
        );
    }
}

/// The code spans of a text.
fn spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn answers_of_the_map_name_files_that_hold_what_they_say() {
    let page = read("CONTRIBUTING.md");
    let table = page
        .split("### Where is it decided?\n")
        .nth(1)
        .and_then(|rest| rest.split("\n## ").next())
        .expect("the map answers questions");
    let rows: Vec<&str> = table
        .lines()
        .filter(|line| line.starts_with("| ") && line.contains('?'))
        .collect();
    assert_eq!(rows.len(), 11, "questions: {rows:#?}");
    for row in rows {
        let mut names = 0;
        for (at, _) in row.match_indices("`src/") {
            let path = &row[at + 1..];
            let (path, mut rest) = path.split_once('`').expect("a span with an end");
            let source = read(path);
            // Behind a colon stand the names that the file holds.
            let mut separator = ": `";
            while let Some((name, behind)) = rest
                .strip_prefix(separator)
                .and_then(|rest| rest.split_once('`'))
            {
                assert!(source.contains(name), "{path} does not hold {name}: {row}");
                names += 1;
                rest = behind;
                separator = if rest.starts_with(" and ") {
                    " and `"
                } else {
                    ", `"
                };
            }
        }
        assert!(names > 0, "no name is given in a file: {row}");
    }
}

#[test]
fn files_that_pages_name_exist() {
    let directories = ["src/", "tests/", "scripts/", "docs/", "examples/", "fuzz/"];
    let mut seen = 0;
    for path in pages() {
        let page = read(&path);
        let text: String = page.split("```").step_by(2).collect();
        for span in spans(&text) {
            let file = span.split(' ').next().unwrap_or_default();
            let is_pattern = file.contains('*') || file.contains("NAME");
            if is_pattern || !directories.iter().any(|start| file.starts_with(start)) {
                continue;
            }
            assert!(
                repository().join(file).exists(),
                "{path} names {file}, which does not exist"
            );
            seen += 1;
        }
    }
    assert!(seen > 40, "names of files look otherwise now: {seen}");
}

#[test]
fn first_commands_of_readme_work_with_its_manifest() {
    let readme = read("README.md");
    let manifest = read("examples/dry-run/anteroom.toml");
    assert!(
        readme.contains(&format!("```toml\n{manifest}```")),
        "README shows another manifest than the example's"
    );
    let commands = readme
        .split("## Try it in a minute\n")
        .nth(1)
        .and_then(|rest| rest.split("```sh\n").nth(1))
        .and_then(|rest| rest.split("```").next())
        .expect("README has commands to try");
    // The program of this build stands in for that of a release, which would take minutes.
    let release = "target/x86_64-unknown-linux-gnu/release/anteroom\n";
    assert!(commands.contains(release), "{commands}");
    let commands: String = commands
        .replace(release, concat!(env!("CARGO_BIN_EXE_anteroom"), "\n"))
        .lines()
        .filter(|line| !line.starts_with("cargo build "))
        .map(|line| format!("{line}\n"))
        .collect();
    let output = Command::new("sh")
        .args(["-euc", &commands])
        .current_dir(repository())
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .output()
        .expect("a shell");
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:#?}");
    for text in [
        "certificate   pki/sign/timeline",
        "tls.key",
        "username",
        "password",
    ] {
        assert!(shown.contains(text), "nothing shows {text}: {shown}");
    }
}

#[test]
fn links_and_headings_are_read_as_forges_read_them() {
    let page = "# What `status.json` says\n\n[a](b.md#c), `[no](x)`, ![d](e.svg)\n\n```\n# no\n[no](y)\n```\n[f](https://g)\n";
    assert_eq!(links(page), ["b.md#c", "e.svg"]);
    assert_eq!(anchors(page), ["what-statusjson-says".to_owned()].into());
}
