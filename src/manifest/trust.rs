//! The table `[trust]`.

use super::table::{FlagOrText, Table};
use super::{At, Place};

/// The CAs of the image that are trusted besides the certificates' own, for connections that the application opens.
#[derive(Debug)]
pub(crate) struct Trust {
    /// The place of the table.
    pub place: Place,
    /// True where the bundle of the image's distribution is among them.
    pub system: bool,
    /// The PEM files, whose names may end with a pattern.
    pub files: Vec<At<String>>,
    /// The store of the JVM, or of this name.
    pub java: Option<FlagOrText>,
}

/// Reads `[trust]`.
pub(super) fn read(t: &mut Table<'_>) -> Trust {
    Trust {
        place: t.place(),
        system: t.flag("system"),
        files: t.texts("files").unwrap_or_default(),
        java: t.flag_or_text("java"),
    }
}
