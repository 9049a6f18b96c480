//! The surroundings of a process: its environment, its user, and the files that name users.

use std::io;
use std::path::Path;

use crate::environment::Environment;
use crate::text_file;

/// The surroundings of the process, as plain values.
pub(crate) struct Surroundings {
    /// The environment as received.
    pub environment: Environment,
    /// The text of `/etc/passwd`, empty when there is none.
    pub passwd: String,
    /// The text of `/etc/group`, empty when there is none.
    pub group: String,
    /// The effective user id.
    pub uid: u32,
    /// The effective group id.
    pub gid: u32,
    /// The supplementary groups.
    pub groups: Vec<u32>,
    /// The way in which a template is read from the image.
    pub read_template: fn(&Path) -> Result<String, text_file::Error>,
}

impl Surroundings {
    /// Makes the surroundings of a process that root started without any variable, in an image without a file.
    pub(crate) fn bare() -> Surroundings {
        Surroundings {
            environment: Environment::default(),
            passwd: String::new(),
            group: String::new(),
            uid: 0,
            gid: 0,
            groups: Vec::new(),
            read_template: |_| Err(text_file::Error::System(io::ErrorKind::NotFound.into())),
        }
    }
}
