//! No circle between modules: each can be read, tested and changed on what stands below it.
//!
//! A module that calls its own children, which use its types, is Rust's shape and no circle. So only modules side by side in
//! one folder are looked at, each with all that is below it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::{repository, rust_files};

/// The names that lead to a module from the root of the crate.
type Path = Vec<String>;

/// Modules for fuzzers and unit tests alone; a program does not have them.
const FOR_TESTS: [&str; 2] = ["fuzzing", "tests"];

#[test]
fn modules_make_no_circle() {
    let root = repository().join("src");
    let mut sources = BTreeMap::new();
    for file in rust_files(&["src"]) {
        let path = file.strip_prefix(&root).expect("below src");
        let path = path.with_extension("");
        let path: Path = path
            .iter()
            .map(|name| name.to_string_lossy().into_owned())
            .collect();
        let is_program = path == ["main"] || path == ["lib"] || path[0] == "bin";
        let is_for_tests = path
            .last()
            .is_some_and(|name| FOR_TESTS.contains(&name.as_str()));
        if !is_program && !is_for_tests {
            sources.insert(path, fs::read_to_string(&file).expect("a source file"));
        }
    }
    assert!(sources.len() > 100, "src looks otherwise now");
    let circles = circles(&sources);
    assert!(circles.is_empty(), "{circles:#?}");
}

#[test]
fn circles_are_found_wherever_an_import_stands() {
    for (what, sources, expected) in [
        (
            "one way",
            &[("a", "use crate::b::B;"), ("b", "use std::fmt;")][..],
            "",
        ),
        (
            "two modules",
            &[("a", "use crate::b::B;"), ("b", "use crate::a::A;")],
            "a -> b -> a",
        ),
        (
            "three modules, one of them by a path in an expression",
            &[
                ("a", "use crate::{none as other, b::{self, B}};"),
                ("b", "fn f() { crate::c::g() }"),
                ("c", "use crate::a;"),
            ],
            "a -> b -> c -> a",
        ),
        (
            "a child that uses what its parent has",
            &[("a", "mod b;\nuse b::B;"), ("a/b", "use super::A;")],
            "",
        ),
        (
            "siblings in a folder",
            &[
                ("a", ""),
                ("a/b", "use super::{c, d::D};"),
                ("a/c", "use super::b::B;"),
                ("a/d", ""),
            ],
            "a::b -> a::c -> a::b",
        ),
        (
            "a child in place of its parent",
            &[
                ("a", ""),
                ("a/b", "use crate::c::C;"),
                ("c", "use crate::a::A;"),
            ],
            "a -> c -> a",
        ),
        (
            "a comment and a unit test",
            &[
                ("a", "use crate::b::B;"),
                (
                    "b",
                    "// use crate::a;\n#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}",
                ),
            ],
            "",
        ),
    ] {
        let sources = sources.iter().map(|(path, source)| {
            let path = path.split('/').map(str::to_owned).collect();
            (path, (*source).to_owned())
        });
        let found = circles(&sources.collect()).join("; ");
        assert_eq!(found, expected, "{what}");
    }
}

/// Each circle once, by the way round it.
fn circles(sources: &BTreeMap<Path, String>) -> Vec<String> {
    let mut edges: BTreeMap<Path, BTreeSet<Path>> = BTreeMap::new();
    for (from, source) in sources {
        for to in imports(from, source) {
            // The longest part of a path that is a module: behind it stands what the module has.
            let Some(to) = (1..=to.len())
                .rev()
                .map(|length| &to[..length])
                .find(|to| sources.contains_key(*to))
            else {
                continue;
            };
            let common = from.iter().zip(to).take_while(|(a, b)| a == b).count();
            if common < from.len() && common < to.len() {
                let edge = edges.entry(from[..=common].to_vec()).or_default();
                edge.insert(to[..=common].to_vec());
            }
        }
    }
    let mut seen: BTreeSet<&Path> = BTreeSet::new();
    let mut circles = Vec::new();
    for start in edges.keys() {
        if seen.contains(start) {
            continue;
        }
        if let Some(way) = way_back(start, &edges) {
            seen.extend(&way);
            let names = way.iter().chain([&start]).map(|path| path.join("::"));
            circles.push(names.collect::<Vec<_>>().join(" -> "));
        }
    }
    circles
}

/// The shortest way from a module to itself.
fn way_back<'a>(
    start: &'a Path,
    edges: &'a BTreeMap<Path, BTreeSet<Path>>,
) -> Option<Vec<&'a Path>> {
    let mut ways = vec![vec![start]];
    let mut visited = BTreeSet::new();
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in ways {
            for next in way
                .last()
                .and_then(|last| edges.get(*last))
                .into_iter()
                .flatten()
            {
                if next == start {
                    return Some(way);
                }
                if visited.insert(next) {
                    longer.push(way.iter().copied().chain([next]).collect());
                }
            }
        }
        ways = longer;
    }
    None
}

/// The paths of this crate that a module names, from the root on.
fn imports(module: &Path, source: &str) -> Vec<Path> {
    let code: String = super::code(source)
        .map(|line| line.split(" //").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n");
    let code = code
        .split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or_default();
    let mut paths = Vec::new();
    for root in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(root) {
            let is_whole =
                !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
            if is_whole {
                tree(&code[at..], &[], &mut paths);
            }
        }
    }
    paths
        .into_iter()
        .map(|path| {
            let mut base = match path[0].as_str() {
                "crate" => Vec::new(),
                _ => module.clone(),
            };
            let ups = path.iter().take_while(|name| *name == "super").count();
            base.truncate(base.len() - ups.min(base.len()));
            let rest = path
                .into_iter()
                .skip_while(|name| ["crate", "self", "super"].contains(&name.as_str()));
            base.extend(rest);
            base
        })
        .collect()
}

/// Reads one path of a `use` or of an expression, with all branches that stand in braces; gives what follows.
fn tree<'a>(text: &'a str, before: &[String], paths: &mut Vec<Path>) -> &'a str {
    let mut path = before.to_vec();
    let mut rest = text.trim_start();
    loop {
        let end = rest
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        if end > 0 {
            path.push(rest[..end].to_owned());
            rest = &rest[end..];
        }
        let Some(behind) = rest.strip_prefix("::") else {
            paths.push(path);
            return rest;
        };
        rest = behind;
        if let Some(mut branch) = rest.strip_prefix('{') {
            loop {
                let behind = tree(branch, &path, paths).trim_start();
                // An alias, `as NAME`, is no path.
                let behind = behind.trim_start_matches(|c| c != ',' && c != '}');
                match behind.strip_prefix(',') {
                    Some(next) if !next.trim_start().starts_with('}') => branch = next,
                    _ => {
                        let behind = behind.trim_start_matches(',').trim_start();
                        return behind.strip_prefix('}').unwrap_or(behind);
                    }
                }
            }
        }
    }
}
