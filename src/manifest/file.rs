//! A file that the manifest describes by a template: below `[files]`, or below the `files` of a dependency.

use super::table::Table;
use super::{At, Mistake};
use crate::spelling::meant;

/// The keys of a file's own table.
const KEYS: [&str; 4] = ["template", "template_file", "mode", "group"];

/// A file to write.
#[derive(Debug)]
pub(crate) struct File {
    /// The file's name, below the secrets directory or below the folder of its dependency.
    pub name: At<String>,
    /// The source of the content; none where that is a mistake already.
    pub source: Option<Source>,
    /// The permission bits.
    pub mode: Option<At<String>>,
    /// The group that the file belongs to.
    pub group: Option<At<String>>,
}

/// The source of a file's content.
#[derive(Debug)]
pub(crate) enum Source {
    /// A template in the manifest.
    Template(At<String>),
    /// The path of a template in the image.
    TemplateFile(At<String>),
}

/// Reads a table of files, each of which is a template, or a table of its own.
pub(super) fn read(mut t: Table<'_>, mistakes: &mut Vec<Mistake>) -> Vec<File> {
    let tables = t.inner_tables().into_iter();
    let mut files: Vec<File> = tables
        .map(|(name, inner)| read_table(name, inner, mistakes))
        .collect();
    files.extend(
        t.entries_as("a string or a table")
            .into_iter()
            .map(|(name, template)| File {
                name,
                source: Some(Source::Template(template)),
                mode: None,
                group: None,
            }),
    );
    files.sort_by_key(|file| file.name.place);
    t.finish(mistakes);
    files
}

fn read_table(name: At<String>, mut t: Table<'_>, mistakes: &mut Vec<Mistake>) -> File {
    let entries = t.len();
    let (template, path) = (t.text("template"), t.text("template_file"));
    let sources = entries - t.len();
    let (mode, group) = (t.text("mode"), t.text("group"));
    let unknown = t.len();
    let text = if entries == 1 && unknown == 1 {
        t.only_key()
            .filter(|key| meant(key, KEYS).is_empty())
            .map(|key| {
                format!(
                    "`{0}.{key}` is a file's name in quotes only: write `\"{0}.{key}\"`",
                    name.value
                )
            })
    } else if sources > 1 {
        Some(format!(
            "`{}` has both `template` and `template_file`; drop one of the two",
            name.value
        ))
    } else if sources == 0 && unknown == 0 {
        Some(format!(
            "`{}` has neither `template` nor `template_file`",
            name.value
        ))
    } else {
        None
    };
    if let Some(text) = text {
        mistakes.push(Mistake {
            place: Some(name.place),
            text,
        });
        let _ = t.keys();
    }
    t.finish(mistakes);
    let source = template
        .map(Source::Template)
        .or_else(|| path.map(Source::TemplateFile));
    File {
        name,
        source,
        mode,
        group,
    }
}
