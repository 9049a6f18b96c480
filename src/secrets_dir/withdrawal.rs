//! The withdrawal of what a start has put into the directory.

use std::os::fd::OwnedFd;

use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstatat};
use nix::unistd::{UnlinkatFlags, fchownat, geteuid, unlinkat};

use super::{
    DATA, DATA_NEXT, Error, GENERATION, Generation, KEEPER, STATUS, STATUS_NEXT, SecretsDir,
};

impl SecretsDir {
    /// Removes what this start has made, a private directory with it, and leaves the rest alone; a file that cannot be
    /// removed stays.
    ///
    /// Where another start has the directory by now, only this one's generations go: all else is the other's, or makes
    /// way for it.
    pub(crate) fn withdraw(&mut self) {
        let has_it = self.hold().is_ok();
        if has_it && !self.is_another_start_shown() {
            self.clear(None);
        }
        for name in self.names() {
            if self.is_own_generation(&name) {
                remove_tree(&self.directory, &name, TREE_DEPTH);
            }
        }
        // The last of all: from now on another start may have the directory.
        if has_it {
            let _ = unlinkat(&self.directory, KEEPER, UnlinkatFlags::NoRemoveDir);
        }
        self.let_go();
        if self.is_private {
            let _ = std::fs::remove_dir(&self.path);
        }
    }

    /// Removes what earlier starts have left behind: from now on this one's files take their place.
    pub(crate) fn take_over(&mut self, generation: &Generation) -> Result<(), Error> {
        self.hold()?;
        self.clear(Some(generation.name()));
        Ok(())
    }

    /// Says whether readers see a generation of another start.
    fn is_another_start_shown(&self) -> bool {
        self.is_link_to_generation(DATA)
            && self
                .link(DATA)
                .is_some_and(|generation| !self.is_own_generation(&generation))
    }

    /// Removes everything that is anteroom's but the lock and this generation.
    fn clear(&self, kept: Option<&str>) {
        for name in self.names() {
            if self.is_ours(&name) {
                let _ = unlinkat(&self.directory, name.as_str(), UnlinkatFlags::NoRemoveDir);
            }
        }
        for name in [DATA, DATA_NEXT] {
            if self.is_link_to_generation(name) {
                let _ = unlinkat(&self.directory, name, UnlinkatFlags::NoRemoveDir);
            }
        }
        for name in [STATUS, STATUS_NEXT] {
            if self.is_our_file(name) {
                let _ = unlinkat(&self.directory, name, UnlinkatFlags::NoRemoveDir);
            }
        }
        for name in self.names() {
            let is_kept = kept == Some(name.as_str());
            if name.starts_with(GENERATION) && !is_kept && self.is_made_by_us(&name) {
                remove_tree(&self.directory, &name, TREE_DEPTH);
            }
        }
    }
}

/// The depth of a generation, which holds files and one more level of directories.
pub(super) const TREE_DEPTH: u32 = 2;

/// Removes a directory of ours.
pub(super) fn remove_tree(parent: &OwnedFd, name: &str, depth: u32) {
    if depth == 0 {
        return;
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    // It may have been given away, and root without CAP_DAC_OVERRIDE enters only what is its own.
    let _ = fchownat(
        parent,
        name,
        Some(geteuid()),
        None,
        AtFlags::AT_SYMLINK_NOFOLLOW,
    );
    let Ok(directory) = openat(parent, name, flags, Mode::empty()) else {
        return;
    };
    let Ok(mut listing) = Dir::openat(&directory, ".", flags, Mode::empty()) else {
        return;
    };
    for entry in listing.iter().map_while(Result::ok) {
        let Ok(entry) = entry.file_name().to_str() else {
            continue;
        };
        if entry == "." || entry == ".." {
            continue;
        }
        let is_directory = fstatat(&directory, entry, AtFlags::AT_SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits());
        if is_directory {
            remove_tree(&directory, entry, depth - 1);
        } else {
            let _ = unlinkat(&directory, entry, UnlinkatFlags::NoRemoveDir);
        }
    }
    let _ = unlinkat(parent, name, UnlinkatFlags::RemoveDir);
}
