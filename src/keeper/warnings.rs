//! Warnings at the start: of what works now and would not later.

use super::items::Items;
use crate::config::{Change, Config, Spec, Stale, layout};
use crate::files;
use crate::log::{Level, Log, Value};
use crate::secrets_dir::SecretsDir;

/// Says which variables of the application stay what they are when their items change.
pub(super) fn warn_of_stale_variables(config: &Config, items: &Items<'_>, log: Log) {
    let change = |spec: Spec<'_>| {
        if items.has_change(spec.name()) {
            Change::Certain
        } else {
            Change::No
        }
    };
    for Stale { item, text, .. } in config.stale_variables(change) {
        let fields = [("name", Value::Text(&item))];
        log.event(Level::Warn, "stale_variables", &text, &fields);
    }
}

/// Says when secrets can reach a disk.
pub(super) fn warn_of_swap(directory: &SecretsDir, log: Log) {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    if let Some(warning) =
        directory.swap_warning(&read("/proc/self/mountinfo"), &read("/proc/swaps"))
    {
        log.event(Level::Warn, "swap", &warning, &[]);
    }
}

/// Says when the readers that the manifest gives a file to cannot come to it.
pub(super) fn warn_of_reach(directory: &SecretsDir, config: &Config, log: Log) {
    let files = layout::files(config);
    if files.iter().all(|file| file.shared.is_none()) {
        return;
    }
    let protected = std::fs::read_to_string("/proc/sys/fs/protected_symlinks").unwrap_or_default();
    if let Some((names, why)) = directory.unreachable(&files, &protected) {
        let text = format!("others than the application's user cannot read {names}: {why}");
        let names = [("names", Value::Text(&names))];
        log.event(Level::Warn, "out_of_reach", &text, &names);
    }
}

/// Says when there is too little room for the generation that comes next: the one that readers see stays until then.
pub(super) fn foresee_room(directory: &SecretsDir, files: &[files::File], log: Log) {
    let (room, needed) = (directory.room(), directory.needed(files));
    if room.holds(needed) {
        return;
    }
    let (what, left, wanted, option) = if room.bytes < needed.bytes {
        ("bytes", room.bytes, needed.bytes, "size")
    } else {
        ("files", room.inodes, needed.inodes, "nr_inodes")
    };
    let text = format!(
        "the secrets directory {} has room for {left} {what} more, and a new generation needs {wanted}: nothing that is \
         renewed can be published; `{option}` is an option of its mount",
        directory.path().display()
    );
    let fields = [
        ("room", Value::Number(left)),
        ("needed", Value::Number(wanted)),
    ];
    log.event(Level::Warn, "little_room", &text, &fields);
}
