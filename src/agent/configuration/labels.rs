//! The table `[labels]`: which labels are looked at.

use super::reader::Reader;
use crate::agent::identity::LabelNames;
use crate::manifest::table::Table;

impl LabelNames {
    pub(super) fn read(root: &mut Table<'_>, reader: &mut Reader) -> LabelNames {
        let mut names = LabelNames {
            app: "app".to_owned(),
            environment: "environment".to_owned(),
            token_path: "anteroom.token-path".to_owned(),
        };
        if let Some(mut t) = root.table("labels") {
            for (key, name) in [
                ("app", &mut names.app),
                ("environment", &mut names.environment),
                ("token_path", &mut names.token_path),
            ] {
                reader.set(name, t.text(key), label_name);
            }
            t.finish(&mut reader.mistakes);
        }
        names
    }
}

fn label_name(text: &str) -> Result<String, String> {
    if !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        Err("a label's name is not empty and holds visible ASCII alone".to_owned())
    }
}
