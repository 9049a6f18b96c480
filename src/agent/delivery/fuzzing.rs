//! Promises about every list of mounts, and of every path of a label.

use super::mounts::{mount, mounts};
use super::target::{DEPTH_MAX, NAME_MAX, PATH_MAX, target};

/// Reads the mounts that a process sees.
pub(crate) fn mountinfo(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    for found in mounts(&text) {
        let words = [
            found.device,
            found.root,
            found.point,
            found.kind,
            found.options[0],
            found.options[1],
        ];
        assert!(words.iter().all(|word| !word.contains([' ', '\n'])));
        assert!(!found.is_memory() || matches!(found.kind, "tmpfs" | "ramfs"));
        assert!(mount(&text, found.id).is_some());
    }
}

/// Reads the path that a label asks for.
pub(crate) fn token_path(input: &[u8]) {
    let path = String::from_utf8_lossy(input);
    match target(&path) {
        Ok(target) => {
            assert_eq!(target.path(), path);
            assert!(path.starts_with('/') && path.len() <= PATH_MAX);
            assert!(!path.contains(char::is_control));
            let (directories, name) = target.split();
            let mut parts: Vec<&str> = directories.collect();
            assert!(parts.len() <= DEPTH_MAX && !name.starts_with(".."));
            parts.push(name);
            for part in &parts {
                assert!(!matches!(*part, "" | "." | ".."));
                assert!(!part.contains('/') && part.len() <= NAME_MAX);
            }
            assert_eq!(format!("/{}", parts.join("/")), path);
        }
        Err(error) => {
            assert_eq!(error.reason(), "unusable_path");
            let text = error.to_string();
            assert!(!text.contains(char::is_control), "{text:?}");
        }
    }
}
