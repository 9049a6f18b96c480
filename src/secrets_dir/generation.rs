//! One consistent set of files: written whole where nobody looks, then shown at once.

use std::fs::File as Descriptor;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, symlinkat, unlinkat};

use super::{DATA, DATA_NEXT, Error, GENERATION, SecretsDir, target};
use crate::files::File;

/// A generation that nobody sees yet.
pub struct Generation {
    name: String,
    directory: OwnedFd,
}

impl SecretsDir {
    /// Makes the place for a generation, after whatever an earlier start left behind is gone; a wanted name that
    /// belongs to somebody else is an error.
    pub fn prepare(&self, names: &[String]) -> Result<Generation, Error> {
        for name in names {
            if !self.is_free(name)? {
                return Err(Error::Taken {
                    path: self.path.clone(),
                    name: name.clone(),
                });
            }
        }
        for name in [DATA, DATA_NEXT] {
            if self.exists(name)? && !self.leads_to_generation(name) {
                return Err(Error::Taken {
                    path: self.path.clone(),
                    name: name.to_owned(),
                });
            }
        }
        self.clear();
        let name = format!("{GENERATION}{:016x}", random());
        let unusable = |errno: Errno| Error::Unusable {
            path: self.path.clone(),
            reason: format!("cannot write it: {}", errno.desc()),
        };
        mkdirat(&self.directory, name.as_str(), Mode::S_IRWXU).map_err(unusable)?;
        let directory = self
            .open_directory(&self.directory, &name)
            .inspect_err(|_| {
                // Without a descriptor to spare nobody else could remove it either.
                let _ = unlinkat(&self.directory, name.as_str(), UnlinkatFlags::RemoveDir);
            })
            .map_err(unusable)?;
        Ok(Generation { name, directory })
    }

    /// Writes the files of a generation and makes it the one that readers see.
    pub fn publish(&self, generation: Generation, files: &[File]) -> Result<(), Error> {
        let failed = |name: &str, errno: Errno| Error::Write {
            path: self.path.join(name),
            reason: errno.desc().to_owned(),
        };
        for file in files {
            self.write(&generation.directory, file)?;
        }
        // The innermost first: root without CAP_DAC_OVERRIDE cannot enter what is not its own any more.
        for parent in parents(files) {
            self.open_directory(&generation.directory, parent)
                .and_then(|directory| self.give(&directory))
                .map_err(|errno| failed(parent, errno))?;
        }
        self.give(&generation.directory)
            .map_err(|errno| failed(&generation.name, errno))?;
        symlinkat(generation.name.as_str(), &self.directory, DATA_NEXT)
            .map_err(|errno| failed(DATA_NEXT, errno))?;
        renameat(&self.directory, DATA_NEXT, &self.directory, DATA)
            .map_err(|errno| failed(DATA, errno))?;
        let mut names: Vec<&str> = files.iter().map(|file| top(&file.path)).collect();
        names.dedup();
        for name in names {
            match symlinkat(target(name).as_str(), &self.directory, name) {
                Ok(()) => {}
                Err(Errno::EEXIST) if self.is_free(name)? => {}
                Err(errno) => return Err(failed(name, errno)),
            }
        }
        Ok(())
    }

    fn write(&self, generation: &OwnedFd, file: &File) -> Result<(), Error> {
        let failed = |reason: String| Error::Write {
            path: self.path.join(&file.path),
            reason,
        };
        let errno = |errno: Errno| failed(errno.desc().to_owned());
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
            .map_err(|error| failed(error.to_string()))?;
        // On the descriptor and after the last byte: whoever may read it finds it whole. What was given away only root
        // with CAP_FOWNER may change.
        fchmod(&written, Mode::from_bits_truncate(file.mode)).map_err(errno)?;
        self.give(&written).map_err(errno)
    }

    fn give(&self, file: impl AsFd) -> Result<(), Errno> {
        match self.owner {
            Some(owner) => fchown(
                file,
                Some(Uid::from_raw(owner.uid)),
                Some(Gid::from_raw(owner.gid)),
            ),
            None => Ok(()),
        }
    }

    /// Opens a directory that was made just now.
    fn open_directory(&self, parent: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let directory = openat(parent, name, flags, Mode::empty())?;
        fchmod(&directory, Mode::S_IRWXU)?;
        Ok(directory)
    }
}

/// The directories that files lie in, below the generation's own.
fn parents(files: &[File]) -> Vec<&str> {
    let mut parents: Vec<&str> = files
        .iter()
        .filter_map(|file| file.path.split_once('/').map(|(parent, _)| parent))
        .collect();
    parents.dedup();
    parents
}

fn top(path: &str) -> &str {
    path.split('/').next().unwrap_or(path)
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    // A name that repeats is noticed by mkdirat, so that nothing depends on this.
    let _ = rustls::crypto::aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut bytes);
    u64::from_ne_bytes(bytes)
}
