//! Promises about every text of a procfs.

use super::cgroup::{chain, groups, innermost};
use super::peer::started;
use super::procfs::{field, lives};

/// Reads a `cgroup`, a `status` and a `stat` that say the same.
pub(crate) fn cgroup(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let is_id = |id: &str| {
        id.len() == 64
            && id
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let chain = chain(&text).unwrap_or_default();
    for &container in &chain {
        assert!(is_id(container) && text.contains(container));
        for group in groups(&text, container) {
            // Its own name is the last of the path, and what is below belongs to it.
            assert!(group.path.starts_with('/') && group.path.contains(container));
            let innermost_at = |path: &str| {
                let text = format!("0::{path}\n");
                innermost(&text).map(str::to_owned)
            };
            let named = Some(container.to_owned());
            assert_eq!(innermost_at(group.path), named);
            assert_eq!(innermost_at(&format!("{}/inner", group.path)), named);
        }
    }
    assert_eq!(innermost(&text), chain.last().copied());
    let _ = lives(&text);
    let _ = started(&text, 100);
    let _ = started(&text, 0);
    if let Some(value) = field(&text, "Pid:") {
        assert!(!value.contains('\n') && value.trim() == value);
    }
}
