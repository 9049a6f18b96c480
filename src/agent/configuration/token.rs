//! The table `[token]`: where the agent's own token comes from.

use std::path::PathBuf;

use super::reader::{Reader, absolute};
use crate::manifest::table::Table;
use crate::text;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// A file that holds it; it is read again when the token has ended.
    File(PathBuf),
    /// A file with a wrapping token, read once and removed.
    WrappingToken(PathBuf),
    /// AppRole: a login whenever a token is needed.
    AppRole {
        /// The path of the auth method, without `auth/`.
        mount: String,
        role_id: String,
        /// A file with its secret id.
        secret_id: PathBuf,
    },
}

impl Login {
    pub(super) fn read(root: &mut Table<'_>, reader: &mut Reader) -> Option<Login> {
        const SOURCES: &str = "[token] names one source of the agent's own token: `file`, `wrapping_token_file` or [token.approle]";
        let Some(mut t) = root.table("token") else {
            reader.mistake(None, format!("[token] is missing; {SOURCES}"));
            return None;
        };
        let before = reader.mistakes.len();
        let mut sources: Vec<Option<Login>> = Vec::new();
        if let Some(file) = t.text("file") {
            sources.push(reader.parsed(Some(file), absolute).map(Login::File));
        }
        if let Some(file) = t.text("wrapping_token_file") {
            let file = reader.parsed(Some(file), absolute);
            sources.push(file.map(Login::WrappingToken));
        }
        if let Some(mut approle) = t.table("approle") {
            let mount = reader.parsed(approle.text("mount"), text::vault_path);
            let role_id = approle.text("role_id").map(|id| id.value);
            let secret_id = reader.parsed(approle.text("secret_id_file"), absolute);
            approle.finish(&mut reader.mistakes);
            sources.push(match (role_id, secret_id) {
                (Some(role_id), Some(secret_id)) => Some(Login::AppRole {
                    mount: mount.unwrap_or_else(|| "approle".to_owned()),
                    role_id,
                    secret_id,
                }),
                _ => {
                    let text = "[token.approle] needs `role_id` and `secret_id_file`";
                    reader.mistake(None, text);
                    None
                }
            });
        }
        t.finish(&mut reader.mistakes);
        if sources.len() != 1 && reader.mistakes.len() == before {
            reader.mistake(None, SOURCES);
        }
        sources.into_iter().next()?
    }
}
