//! The readers that a file has besides its owner: the way to it is opened for them, and for no others.

use std::collections::BTreeSet;

use nix::errno::Errno;
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{Gid, fchown, getegid, geteuid};

use super::{Error, Generation, SecretsDir};
use crate::config::layout::{Entry, Shared};
use crate::files::File;

/// The bits by which a group, and every other user, may read a file.
const GROUP: u32 = 0o070;
const OTHERS: u32 = 0o007;
/// The directory of every user, in which one cannot remove what is another's.
const SHARED_BY_ALL: u32 = 0o1002;

/// Who may pass through a directory of a generation.
pub(super) struct Passage {
    pub(super) mode: Mode,
    /// The directory's group; none where that is its owner's own.
    pub(super) group: Option<u32>,
}

impl SecretsDir {
    /// Returns the group of a file that is shared.
    pub(super) fn group_of(&self, shared: &Shared) -> u32 {
        let named = shared.group.as_ref().and_then(|group| group.id);
        let named = named.filter(|group| !self.dropped_groups.contains(group));
        let own = || self.owner.map_or(getegid().as_raw(), |owner| owner.gid);
        named.unwrap_or_else(own)
    }

    /// Opens a directory for the readers of these files: a directory has one group, so that several need it open for all.
    pub(super) fn passage<'a>(&self, files: impl Iterator<Item = &'a File>) -> Passage {
        let mut groups = BTreeSet::new();
        let mut is_for_all = false;
        for file in files {
            if let Some(shared) = &file.shared {
                is_for_all |= file.mode & OTHERS != 0;
                if file.mode & GROUP != 0 {
                    groups.insert(self.group_of(shared));
                }
            }
        }
        let (mode, group) = match groups.first() {
            _ if is_for_all || groups.len() > 1 => (0o755, None),
            Some(group) => (0o750, Some(*group)),
            None => (0o700, None),
        };
        Passage {
            mode: Mode::from_bits_truncate(mode),
            group,
        }
    }

    /// Tries whether files can be given to these groups, while there is none.
    pub(crate) fn try_groups(&self, generation: &Generation, groups: &[u32]) -> Result<(), Error> {
        match self.refusals(generation, groups).into_iter().next() {
            None => Ok(()),
            Some((_, reason)) => Err(Error::Unusable {
                path: self.path.clone(),
                reason,
            }),
        }
    }

    /// Tries the same in a dry run, goes without the groups that are refused, and says why.
    pub(crate) fn drop_groups(&mut self, generation: &Generation, groups: &[u32]) -> Vec<String> {
        let refusals = self.refusals(generation, groups);
        let texts = refusals.iter().map(|(group, reason)| {
            format!("the group {group} does not apply in this dry run: {reason}")
        });
        let texts = texts.collect();
        self.dropped_groups = refusals.into_iter().map(|(group, _)| group).collect();
        texts
    }

    /// Lists those of these groups that no file can be given to, with the reasons.
    fn refusals(&self, generation: &Generation, groups: &[u32]) -> Vec<(u32, String)> {
        let directory = &generation.directory;
        let give = |group: u32| fchown(directory, None, Some(Gid::from_raw(group)));
        let refusals = groups.iter().filter_map(|&group| {
            let errno = give(group).err()?;
            let why = match errno {
                Errno::EINVAL => "no such group is mapped in this user namespace",
                _ => "root needs the capability CHOWN for it",
            };
            let text = format!(
                "no file there can be given to the group {group}: {}; {why}",
                errno.desc()
            );
            Some((group, text))
        });
        let refusals = refusals.collect();
        if !groups.is_empty() {
            // Nothing depends on it: where readers pass through, the group is set once more.
            let _ = give(getegid().as_raw());
        }
        refusals
    }

    /// Says for which of these files their readers cannot come to the directory or follow the links in it;
    /// `protected_symlinks` is the text of that file in `/proc/sys/fs` (proc(5)).
    pub(crate) fn unreachable(
        &self,
        files: &[Entry],
        protected_symlinks: &str,
    ) -> Option<(String, String)> {
        if self.is_private {
            return None;
        }
        let stat = fstat(&self.directory).ok()?;
        let user = geteuid().as_raw();
        let mut names = Vec::new();
        let is_followed = protected_symlinks.trim() == "0"
            || stat.st_mode & SHARED_BY_ALL != SHARED_BY_ALL
            || stat.st_uid == user;
        for file in files {
            let Some(shared) = &file.shared else {
                continue;
            };
            let is_of_group = file.mode & OTHERS == 0 && self.group_of(shared) == stat.st_gid;
            let bit = if is_of_group {
                Mode::S_IXGRP
            } else {
                Mode::S_IXOTH
            };
            if !is_followed || stat.st_mode & bit.bits() == 0 {
                names.push(file.name.as_str());
            }
        }
        if names.is_empty() {
            return None;
        }
        let path = self.path.display();
        let (owner, group, mode) = (stat.st_uid, stat.st_gid, stat.st_mode & 0o7777);
        let why = if is_followed {
            format!(
                "{path} belongs to {owner}:{group} and has mode {mode:04o}, so that they cannot enter it"
            )
        } else {
            format!(
                "{path} belongs to user {owner} and has mode {mode:04o}, where Linux lets no other user follow the links of user {user} (fs.protected_symlinks); mount it with uid={user} or with mode=0755"
            )
        };
        Some((names.join(" "), why))
    }
}
