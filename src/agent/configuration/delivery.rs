//! The table `[delivery]`.

use std::path::PathBuf;

use super::reader::{Reader, absolute};
use crate::agent::delivery;
use crate::manifest::table::Table;

pub(super) const TOKEN_PATH: &str = "/run/secrets/.anteroom-token";

/// Where containers find their tokens.
pub struct Delivery {
    /// Where a token goes in its container, unless the rule or a label says otherwise.
    pub token_path: String,
    /// The socket at which containers ask for their token; none is listened at without it.
    pub socket: Option<PathBuf>,
}

impl Delivery {
    pub(super) fn read(root: &mut Table<'_>, reader: &mut Reader) -> Delivery {
        let mut delivery = Delivery {
            token_path: TOKEN_PATH.to_owned(),
            socket: None,
        };
        if let Some(mut t) = root.table("delivery") {
            reader.set(&mut delivery.token_path, t.text("path"), token_path);
            delivery.socket = reader.parsed(t.text("socket"), absolute);
            t.finish(&mut reader.mistakes);
        }
        delivery
    }
}

pub(super) fn token_path(text: &str) -> Result<String, String> {
    delivery::target(text)
        .map(|_| text.to_owned())
        .map_err(|error| error.to_string())
}
