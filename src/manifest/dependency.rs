//! The tables `[dependencies.NAME]`.

use super::file::{self, File};
use super::table::Table;
use super::{At, Mistake};
use crate::presets::{PRESETS, Preset};
use crate::spelling::meant;

/// A dependency, whose credential is fetched.
#[derive(Debug)]
pub(crate) struct Dependency {
    /// The name of the dependency and of its directory.
    pub name: At<String>,
    /// The Vault path of the credential.
    pub path: Option<At<String>>,
    /// The method, `read` or `write`.
    pub method: Option<At<String>>,
    /// The fields that a `write` sends.
    pub data: Vec<(At<String>, At<String>)>,
    /// The fields that must be there; others are not written.
    pub fields: Option<Vec<At<String>>>,
    /// The interval at which an answer without a lease is read again.
    pub refresh: Option<At<String>>,
    /// True where the secret, or one of its fields, may be missing.
    pub optional: bool,
    /// The extra files.
    pub files: Vec<File>,
    /// The beginning of the names of variables, one for each field.
    pub env_prefix: Option<At<String>>,
    /// The fields that a dry run uses in place of an answer.
    pub sample: Vec<(At<String>, At<serde_json::Value>)>,
    /// The ready-made files, if any.
    pub preset: Option<Chosen>,
}

/// A preset with the values of its keys, as written.
#[derive(Debug)]
pub(crate) struct Chosen {
    /// The preset.
    pub preset: At<&'static Preset>,
    /// The values of the preset's keys, in their order; none where the table has no such key.
    pub values: Vec<Option<At<String>>>,
}

/// Reads a table below `[dependencies]`.
pub(super) fn read(name: At<String>, mut t: Table<'_>, mistakes: &mut Vec<Mistake>) -> Dependency {
    let mut entries = |key| {
        t.table(key).map(|mut inner| {
            let entries = inner.entries();
            inner.finish(mistakes);
            entries
        })
    };
    let data = entries("data").unwrap_or_default();
    let sample = t.table("sample").map(|mut inner| {
        let values = inner.values();
        inner.finish(mistakes);
        values
    });
    let files = t.table("files").map(|inner| file::read(inner, mistakes));
    let dependency = Dependency {
        name,
        path: t.text("path"),
        method: t.text("method"),
        data,
        fields: t.texts("fields"),
        refresh: t.text("refresh"),
        optional: t.flag("optional"),
        env_prefix: t.text("env_prefix"),
        files: files.unwrap_or_default(),
        sample: sample.unwrap_or_default(),
        preset: read_preset(&mut t, mistakes),
    };
    t.finish(mistakes);
    dependency
}

/// Reads `as`, and the keys that come with it.
fn read_preset(t: &mut Table<'_>, mistakes: &mut Vec<Mistake>) -> Option<Chosen> {
    let name = t.text("as")?;
    let known = PRESETS.iter().find(|preset| preset.name == name.value);
    let Some(preset) = known else {
        let names: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
        mistakes.push(Mistake {
            place: Some(name.place),
            text: format!(
                "`{}` is no preset{}; known are {}",
                name.value.escape_default(),
                meant(&name.value, names.iter().copied()),
                names.join(", ")
            ),
        });
        // Which keys it has is not known.
        t.skip();
        return None;
    };
    Some(Chosen {
        preset: At {
            value: preset,
            place: name.place,
        },
        values: preset.keys.iter().map(|key| t.plain(key.name)).collect(),
    })
}
