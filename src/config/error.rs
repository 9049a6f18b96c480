//! The reasons against a configuration.

use std::fmt;
use std::path::PathBuf;

use crate::manifest::Mistake;

/// Every reason against a configuration.
#[derive(Debug)]
pub enum Error {
    /// The manifest could not be read.
    Unreadable {
        manifest: PathBuf,
        /// The system's reason.
        reason: String,
    },
    /// The manifest was read, and these things are wrong.
    Mistakes {
        manifest: PathBuf,
        /// The mistakes, in the order of the file.
        mistakes: Vec<Mistake>,
    },
    /// There is no manifest, and these things are wrong with the environment.
    Environment { mistakes: Vec<Mistake> },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Unreadable { manifest, reason } => {
                write!(
                    f,
                    "cannot read the manifest {}: {reason}",
                    manifest.display()
                )
            }
            Error::Mistakes { manifest, mistakes } => {
                write!(f, "{}: ", manifest.display())?;
                write_all(f, mistakes)
            }
            Error::Environment { mistakes } => write_all(f, mistakes),
        }
    }
}

fn write_all(f: &mut fmt::Formatter<'_>, mistakes: &[Mistake]) -> fmt::Result {
    for (n, mistake) in mistakes.iter().enumerate() {
        if n > 0 {
            f.write_str("; ")?;
        }
        write!(f, "{mistake}")?;
    }
    Ok(())
}

impl std::error::Error for Error {}
