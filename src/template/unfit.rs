//! The mistake of a value that its place cannot hold.

use std::fmt;

use minijinja::{Error, ErrorKind};

/// A value that the format cannot hold; the text names the format and no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unfit(pub(super) &'static str);

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Unfit {}

impl From<Unfit> for Error {
    fn from(unfit: Unfit) -> Error {
        Error::from(ErrorKind::InvalidOperation).with_source(unfit)
    }
}
