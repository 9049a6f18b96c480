//! Promises about every manifest, and about every name and address.

use std::ffi::OsString;
use std::sync::OnceLock;

use super::expand::is_variable_name;
use super::{Error, Purpose, Surroundings, layout, resolve};
use crate::cli::Cli;
use crate::files::rehearsal;
use crate::manifest::Mistake;
use crate::text::{
    Address, duration, file_name, is_host_name, namespace, path_segment, vault_path,
};
use crate::{plan, policy};

/// Reads a manifest, and prints what follows from it.
pub(crate) fn manifest(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    static CLI: OnceLock<Cli> = OnceLock::new();
    let cli = CLI.get_or_init(|| {
        let words = ["anteroom", "check"].map(OsString::from).to_vec();
        Cli::read(words).unwrap_or_else(|_| panic!("a command line"))
    });
    for purpose in [Purpose::Check, Purpose::Policy] {
        match resolve(cli, text, Surroundings::bare(), purpose) {
            Ok(config) => {
                check_places(&rehearsal::mistakes(&config, purpose), text);
                let plan = plan::text(&config);
                assert!(!plan.contains(|c: char| c.is_control() && c != '\n'));
                check_policy(&policy::service(&config));
                check_policy(&policy::minter(&config));
                let mut names = layout::visible_names(&config);
                assert!(names.iter().all(|name| file_name(name).is_ok()));
                names.sort_unstable();
                assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
                for variable in &config.variables {
                    assert!(is_variable_name(&variable.name));
                }
            }
            Err(Error::Mistakes { mistakes, .. }) => {
                assert!(!mistakes.is_empty());
                check_places(&mistakes, text);
            }
            Err(other) => unreachable!("{other}"),
        }
    }
}

/// Checks that each mistake is somewhere in the manifest.
fn check_places(mistakes: &[Mistake], text: &str) {
    let lines = text.lines().count() + 1;
    for place in mistakes.iter().filter_map(|mistake| mistake.place) {
        assert!((1..=lines).contains(&place.line), "{place:?}");
        assert!((1..=text.len() + 1).contains(&place.column), "{place:?}");
    }
}

/// Checks that a policy is comments, and paths with what may be done there, whatever the manifest holds.
fn check_policy(policy: &str) {
    let mut is_inside = false;
    for line in policy.lines() {
        let sound = match line {
            "" => !is_inside,
            "}" => is_inside,
            _ if line.starts_with('#') => !is_inside,
            _ if line.starts_with("  ") => is_inside,
            _ => {
                let path = line.strip_prefix("path \"");
                let path = path.and_then(|rest| rest.strip_suffix("\" {"));
                // Neither the end of the text nor a value that HCL would put in.
                let ends = ["\"", "\\", "${", "%{"];
                !is_inside && path.is_some_and(|path| !ends.iter().any(|end| path.contains(end)))
            }
        };
        assert!(sound, "{line:?} in {policy}");
        is_inside = match line {
            "}" => false,
            _ => is_inside || line.starts_with("path "),
        };
    }
    assert!(!is_inside);
}

/// Reads what may become an address, a path, the name of a file, or a duration.
pub(crate) fn names(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    if let Ok(address) = Address::parse(text) {
        assert_eq!(Address::parse(&address.url()).as_ref(), Ok(&address));
        assert!(address.port > 0 && !address.host.contains(['@', '/', '?', '#', ' ']));
    }
    let is_safe = |path: &str| {
        path.bytes().all(|byte| byte.is_ascii_graphic())
            && !path.contains(['?', '#', '%', '\\', '"'])
            && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
    };
    if let Ok(path) = vault_path(text) {
        assert!(is_safe(&path) && path == text);
    }
    if let Ok(part) = path_segment(text) {
        assert!(is_safe(&part) && !part.contains('/'));
    }
    if let Ok(Some(path)) = namespace(text) {
        assert!(is_safe(&path));
    }
    if file_name(text).is_ok() {
        let place = std::path::Path::new("/directory").join(text);
        assert_eq!(place.parent(), Some(std::path::Path::new("/directory")));
        assert_eq!(place.file_name().and_then(|name| name.to_str()), Some(text));
    }
    if let Ok(time) = duration(text) {
        let again = format!("{}ms", time.as_millis());
        if time.as_millis() < u128::from(u32::MAX) {
            assert_eq!(duration(&again), Ok(time));
        }
    }
    assert!(!is_host_name(text) || text.is_ascii());
}
