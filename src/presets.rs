//! Presets: the ready-made files of a dependency, for `as = "…"` in the manifest.
//!
//! A preset is a row of data: its keys in the manifest, the fields that the answer must have, and its files as templates. A
//! template begins with the values of the keys, so that it needs nothing else but the fields, and what is in `_anteroom`: the
//! directory of the files, and the password of the stores. A dependency or a field may have any other name.

mod rows;

pub(crate) use rows::PRESETS;

/// A ready-made set of files for one kind of service.
#[derive(Debug)]
pub(crate) struct Preset {
    /// The name in the manifest.
    pub name: &'static str,
    /// The keys of the dependency's table, besides those that each dependency has.
    pub keys: &'static [Key],
    /// The values that templates make of the keys: names and expressions.
    pub values: &'static [(&'static str, &'static str)],
    /// The key and the value with which nothing is fetched, so that the table has no `path`.
    pub bare_if: Option<(&'static str, &'static str)>,
    /// The fields that the answer must have.
    pub fields: &'static [&'static str],
    /// The fields that the answer may have.
    pub optional_fields: &'static [&'static str],
    /// The files: name and template.
    pub files: &'static [(&'static str, &'static str)],
}

/// A key of a preset.
#[derive(Debug)]
pub(crate) struct Key {
    /// The name in the manifest, and in the templates.
    pub name: &'static str,
    pub kind: Kind,
    /// The expression that stands for a key that is not there; without it the key must be there.
    pub default: Option<&'static str>,
}

/// The kinds of values that a key may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The name or the IP address of a host.
    Host,
    /// A TCP port.
    Port,
    /// A number from 0 on.
    Number,
    /// A text of one line.
    Text,
    /// Letters, digits, `-`, `_` and `.`.
    Word,
    /// True or false.
    Flag,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Hosts with their ports, with commas between them.
    Servers,
    /// The name of a certificate of the manifest.
    Certificate,
    /// The format of a certificate's stores: `pem`, or `pkcs12` where there is `[java]`.
    Stores,
    /// The trust anchors of a certificate, `anchors`, or the `bundle` of `[trust]`.
    Trust,
}

impl Preset {
    /// Lists the fields that the answer must have, then those that it may have.
    pub(crate) fn all_fields(&self) -> impl Iterator<Item = &'static str> {
        self.fields.iter().chain(self.optional_fields).copied()
    }
}
