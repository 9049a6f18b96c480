//! Every page at once: what it shows is complete, and each page is run by a test.

use std::fs;

use super::page::Image;
use crate::support::repository;

/// The names of the pages.
fn pages() -> Vec<String> {
    let entries = fs::read_dir(repository().join("docs/recipes")).expect("the pages");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string());
    let mut pages: Vec<String> = names
        .filter_map(|name| {
            Some(
                name.expect("a name in Unicode")
                    .strip_suffix(".md")?
                    .to_owned(),
            )
        })
        .filter(|page| page != "README")
        .collect();
    pages.sort();
    pages
}

#[test]
fn manifest_of_each_page_passes_a_strict_check() {
    for page in pages() {
        let image = Image::build(&page, &[]);
        let check = image.anteroom().args(["check", "--strict"]).run();
        assert_eq!(check.code, Some(0), "{page}\n{check:?}");
    }
}

#[test]
fn each_page_has_a_test_of_its_name() {
    for page in pages() {
        let test = repository().join(format!("tests/recipes/{page}.rs"));
        assert!(test.exists(), "{} is missing", test.display());
    }
}
