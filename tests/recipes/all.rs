//! Every page at once: what it shows is complete, and each page is run by a test.

use std::fs;

use super::page::{Image, Page};
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
    let mut checked = Vec::new();
    for page in pages() {
        for dockerfile in Page::read(&format!("recipes/{page}")).dockerfiles() {
            let image = Image::of(&dockerfile, &page, &[]);
            let check = image.anteroom().args(["check", "--strict"]).run();
            assert_eq!(check.code, Some(0), "{page}, {dockerfile}\n{check:?}");
            checked.push(format!("{page} {dockerfile}"));
        }
    }
    assert!(checked.len() > pages().len(), "{checked:?}");
    assert!(checked.contains(&"haproxy Dockerfile.api".to_owned()));
}

#[test]
fn each_page_has_a_test_of_its_name() {
    let main = fs::read_to_string(repository().join("tests/main.rs")).expect("it is there");
    let (_, recipes) = main.split_once("mod recipes {\n").expect("the modules");
    for page in pages() {
        let test = repository().join(format!("tests/recipes/{page}.rs"));
        let test = fs::read_to_string(&test).expect("a file of this name");
        assert!(test.contains("#[test]"), "{page} has no test");
        // Else the file is compiled into nothing.
        let module = format!("    mod {page};\n");
        assert!(recipes.contains(&module), "{page} is no module");
    }
}
