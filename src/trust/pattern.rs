//! Names of files that end with a pattern, such as `/etc/corp/*.pem`.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The most names that one pattern may fit.
const NAMES_MAX: usize = 1000;

/// Lists the paths that a pattern means, in the order of their names; a path without `*` means itself.
pub(super) fn paths(pattern: &Path) -> Result<Vec<PathBuf>, String> {
    let (Some(directory), Some(wanted)) = (pattern.parent(), pattern.file_name()) else {
        return Ok(vec![pattern.to_owned()]);
    };
    let wanted = wanted.as_bytes();
    if !wanted.contains(&b'*') {
        return Ok(vec![pattern.to_owned()]);
    }
    let unreadable = |error| {
        format!(
            "the files {} cannot be found: {}: {error}",
            pattern.display(),
            directory.display()
        )
    };
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        if !fits(name.as_bytes(), wanted) {
            continue;
        }
        if paths.len() == NAMES_MAX {
            return Err(format!(
                "more than {NAMES_MAX} files have a name like {}",
                pattern.display()
            ));
        }
        paths.push(directory.join(name));
    }
    if paths.is_empty() {
        return Err(format!("no file has a name like {}", pattern.display()));
    }
    paths.sort_unstable();
    Ok(paths)
}

/// Says whether a name fits a pattern, in which `*` is any text. As in a shell, no `*` begins a hidden name.
fn fits(name: &[u8], pattern: &[u8]) -> bool {
    if name.starts_with(b".") && !pattern.starts_with(b".") {
        return false;
    }
    let mut parts = pattern.split(|&byte| byte == b'*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    for part in parts {
        let at = (0..=rest.len()).find(|&at| rest[at..].starts_with(part));
        let Some(at) = at else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn star_is_any_text() {
        for (pattern, fitting, others) in [
            ("*", &["a", "a.pem", "a b"][..], &[".a", ".."][..]),
            ("*.pem", &["a.pem", "a.b.pem"], &[".pem", "a.pem~", "a.crt"]),
            (
                "ca-*.crt",
                &["ca-.crt", "ca-1.crt"],
                &["ca.crt", "ca-crt", "xca-1.crt"],
            ),
            (
                "a*b*c",
                &["abc", "axbxc", "abbc", "abcbc"],
                &["ab", "acb", "abcd", "ac"],
            ),
            ("a*a", &["aa", "aba"], &["a"]),
            (".*", &[".a"], &["a"]),
            ("**", &["a"], &[".a"]),
        ] {
            for name in fitting {
                assert!(
                    fits(name.as_bytes(), pattern.as_bytes()),
                    "{pattern} {name}"
                );
            }
            for name in others {
                assert!(
                    !fits(name.as_bytes(), pattern.as_bytes()),
                    "{pattern} {name}"
                );
            }
        }
    }
}
