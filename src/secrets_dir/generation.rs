//! A generation, one consistent set of files: written whole out of its readers' sight, then shown at once.

use std::collections::BTreeSet;
use std::fs::File as Descriptor;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, symlinkat, unlinkat};

use super::readers::Passage;
use super::withdrawal::{TREE_DEPTH, remove_tree};
use super::{DATA, DATA_NEXT, Error, GENERATION, KEEPER, STATUS, STATUS_NEXT, SecretsDir, target};
use crate::config::layout;
use crate::files::File;
use crate::random;
use crate::secret::Secret;

/// A generation that readers do not see yet.
pub(crate) struct Generation {
    name: String,
    pub(super) directory: OwnedFd,
}

impl Generation {
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// The visible names after a publication.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    /// The names that were missing although this start has shown them before.
    pub restored: Vec<String>,
    /// The names that something else has, which is left alone.
    pub taken: Vec<String>,
}

impl SecretsDir {
    /// Makes the place for the first generation; a wanted name that belongs to something else is an error. What an
    /// earlier start left behind stays until [`SecretsDir::take_over`].
    pub(crate) fn prepare(&self, names: &[String]) -> Result<Generation, Error> {
        // What cannot be seen could not be taken back either.
        self.list().map_err(|errno| Error::Unusable {
            path: self.path.clone(),
            reason: format!("cannot list it: {}", errno.desc()),
        })?;
        for name in names {
            if !self.is_free(name)? {
                return Err(self.taken(name));
            }
        }
        for name in [DATA, DATA_NEXT] {
            if self.exists(name)? && !self.is_link_to_generation(name) {
                return Err(self.taken(name));
            }
        }
        for name in [STATUS, STATUS_NEXT] {
            if self.exists(name)? && !self.is_our_file(name) {
                return Err(self.taken(name));
            }
        }
        self.next()
    }

    /// Makes the place for a generation.
    pub(super) fn next(&self) -> Result<Generation, Error> {
        // A name that is there already is an error, so that nothing depends on how rare that is.
        let number = u32::from_ne_bytes(random::bytes());
        let name = format!("{}{number:08x}", self.own_prefix());
        mkdirat(&self.directory, name.as_str(), Mode::S_IRWXU)
            .map_err(|errno| self.unwritable(errno))?;
        let directory = self
            .open_directory(&self.directory, &name)
            .inspect_err(|_| {
                // Later code could not remove it either, without a descriptor to spare.
                let _ = unlinkat(&self.directory, name.as_str(), UnlinkatFlags::RemoveDir);
            })
            .map_err(|errno| self.unwritable(errno))?;
        Ok(Generation { name, directory })
    }

    /// Writes the files of a generation, makes it the one that readers see, removes those before the last, and sees to
    /// the visible names; after a failure to write readers see what they saw before.
    ///
    /// Fails where another start has the directory by now.
    pub(crate) fn publish(
        &mut self,
        generation: Generation,
        files: &[File],
    ) -> Result<Shown, Error> {
        let last = self.link(DATA);
        self.hold()
            .and_then(|()| self.write_files(&generation, files))
            .and_then(|()| self.swing(&generation))
            .inspect_err(|_| remove_tree(&self.directory, &generation.name, TREE_DEPTH))?;
        self.remove_all_but(&[Some(generation.name), last]);
        let mut shown = self.show(files)?;
        if std::mem::take(&mut self.lock_is_new) {
            shown.restored.push(KEEPER.to_owned());
        }
        Ok(shown)
    }

    /// Makes the place for a generation and publishes these files in it.
    pub(crate) fn publish_next(&mut self, files: &[File]) -> Result<Shown, Error> {
        let generation = self.next()?;
        self.publish(generation, files)
    }

    /// Removes the generation before the one that readers see, where there is no room for both and another; false when
    /// there was none, or another start has the directory by now.
    pub(crate) fn forget_last(&mut self) -> bool {
        self.hold().is_ok() && self.remove_all_but(&[self.link(DATA)])
    }

    fn remove_all_but(&self, kept: &[Option<String>]) -> bool {
        let mut is_any_gone = false;
        for name in self.names() {
            let is_kept = kept.iter().flatten().any(|kept| *kept == name);
            if name.starts_with(GENERATION) && !is_kept && self.is_made_by_us(&name) {
                remove_tree(&self.directory, &name, TREE_DEPTH);
                is_any_gone |= matches!(self.stat(&name), Ok(None));
            }
        }
        is_any_gone
    }

    fn write_files(&self, generation: &Generation, files: &[File]) -> Result<(), Error> {
        for file in files {
            self.write(&generation.directory, file)?;
        }
        // The innermost first: root without CAP_DAC_OVERRIDE cannot enter what is not its own any more.
        for parent in parents(files) {
            let inner = files.iter().filter(|file| parent_of(file) == Some(parent));
            let passage = self.passage(inner);
            self.open_directory(&generation.directory, parent)
                .and_then(|directory| self.hand_over(&directory, passage))
                .map_err(|errno| self.failed(parent, errno))?;
        }
        self.hand_over(&generation.directory, self.passage(files.iter()))
            .map_err(|errno| self.failed(&generation.name, errno))
    }

    /// Gives a directory to its owner, and lets the readers of its files pass through.
    fn hand_over(&self, directory: &OwnedFd, passage: Passage) -> Result<(), Errno> {
        fchmod(directory, passage.mode)?;
        self.give(directory, passage.group)
    }

    fn swing(&self, generation: &Generation) -> Result<(), Error> {
        // A keeper that was killed here may have left it behind.
        let _ = unlinkat(&self.directory, DATA_NEXT, UnlinkatFlags::NoRemoveDir);
        symlinkat(generation.name.as_str(), &self.directory, DATA_NEXT)
            .map_err(|errno| self.failed(DATA_NEXT, errno))?;
        renameat(&self.directory, DATA_NEXT, &self.directory, DATA)
            .map_err(|errno| self.failed(DATA, errno))
    }

    /// Makes the visible names that are missing, which lead to whatever generation is the current one, and removes the names
    /// of files that are gone.
    fn show(&mut self, files: &[File]) -> Result<Shown, Error> {
        let names = files.iter().map(|file| top(&file.path));
        let names: BTreeSet<&str> = names.chain([layout::STATUS]).collect();
        for gone in self.shown.iter().filter(|name| !names.contains(&***name)) {
            if self.is_ours(gone) {
                let _ = unlinkat(&self.directory, gone.as_str(), UnlinkatFlags::NoRemoveDir);
            }
        }
        let mut shown = Shown::default();
        for &name in &names {
            match symlinkat(target(name).as_str(), &self.directory, name) {
                Ok(()) if self.shown.contains(name) => shown.restored.push(name.to_owned()),
                Ok(()) => {}
                Err(Errno::EEXIST) if self.is_free(name)? => {}
                Err(Errno::EEXIST) => shown.taken.push(name.to_owned()),
                Err(errno) => return Err(self.failed(name, errno)),
            }
        }
        self.shown = names.into_iter().map(str::to_owned).collect();
        Ok(shown)
    }

    /// Writes the status anew; a reader finds the old one or the new one. Fails when another start has the directory
    /// by now.
    pub(crate) fn write_status(&mut self, json: Vec<u8>) -> Result<(), Error> {
        self.hold()?;
        let _ = unlinkat(&self.directory, STATUS_NEXT, UnlinkatFlags::NoRemoveDir);
        let next = File {
            path: STATUS_NEXT.to_owned(),
            mode: layout::PUBLIC,
            shared: None,
            contents: Secret::new(json),
        };
        self.write(&self.directory, &next)?;
        renameat(&self.directory, STATUS_NEXT, &self.directory, STATUS)
            .map_err(|errno| self.failed(STATUS, errno))
    }

    fn write(&self, generation: &OwnedFd, file: &File) -> Result<(), Error> {
        let errno = |errno: Errno| self.failed(&file.path, errno);
        let inner;
        let (directory, name) = match file.path.split_once('/') {
            Some((parent, name)) => {
                match mkdirat(generation, parent, Mode::S_IRWXU) {
                    Ok(()) | Err(Errno::EEXIST) => {}
                    Err(error) => return Err(errno(error)),
                }
                inner = self.open_directory(generation, parent).map_err(errno)?;
                (&inner, name)
            }
            None => (generation, file.path.as_str()),
        };
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(directory, name, flags, Mode::S_IRUSR | Mode::S_IWUSR).map_err(errno)?;
        let mut written = Descriptor::from(fd);
        written
            .write_all(file.contents.expose())
            .map_err(|error| errno(Errno::from_raw(error.raw_os_error().unwrap_or_default())))?;
        // On the descriptor and after the last byte, so that a reader with the right finds the file whole. And before the
        // file is given away: from then on only root with CAP_FOWNER may change the mode.
        fchmod(&written, Mode::from_bits_truncate(file.mode)).map_err(errno)?;
        let group = file.shared.as_ref().map(|shared| self.group_of(shared));
        self.give(&written, group).map_err(errno)
    }

    /// Gives a file to its owner, and to this group or else to the owner's own.
    fn give(&self, file: impl AsFd, group: Option<u32>) -> Result<(), Errno> {
        let user = self.owner.map(|owner| Uid::from_raw(owner.uid));
        let group = group.or(self.owner.map(|owner| owner.gid));
        if user.is_none() && group.is_none() {
            return Ok(());
        }
        fchown(file, user, group.map(Gid::from_raw))
    }

    /// Opens a directory that was made just now.
    fn open_directory(&self, parent: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let directory = openat(parent, name, flags, Mode::empty())?;
        fchmod(&directory, Mode::S_IRWXU)?;
        Ok(directory)
    }
}

/// Lists the directories that files lie in, below the generation's own.
pub(super) fn parents(files: &[File]) -> BTreeSet<&str> {
    files.iter().filter_map(parent_of).collect()
}

fn parent_of(file: &File) -> Option<&str> {
    let (parent, _) = file.path.split_once('/')?;
    Some(parent)
}

fn top(path: &str) -> &str {
    path.split('/').next().unwrap_or(path)
}
