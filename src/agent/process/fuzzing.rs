//! What must hold of every text of a procfs.

use super::{container_of, field, groups, lives, started};

/// Reads a `cgroup`, a `status` and a `stat` that say the same.
pub fn cgroup(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let is_id = |id: &str| {
        id.len() == 64
            && id
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    for group in groups(&text) {
        assert!(is_id(group.container));
        assert!(group.path.starts_with('/') && group.path.contains(group.container));
        // Its own name is the last of the path, and the first that names a container.
        let above = group.path.rsplit_once('/').expect("a path").0;
        assert!(container_of(&format!("0::{above}\n")).is_none(), "{above}");
        assert_eq!(
            container_of(&format!("0::{}/inner\n", group.path)),
            Some(group.container)
        );
    }
    if let Some(id) = container_of(&text) {
        assert!(is_id(id) && text.contains(id));
        assert!(groups(&text).all(|group| group.container == id));
    }
    let _ = lives(&text);
    let _ = started(&text, 100);
    let _ = started(&text, 0);
    if let Some(value) = field(&text, "Pid:") {
        assert!(!value.contains('\n') && value.trim() == value);
    }
}
