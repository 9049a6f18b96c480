//! `as = "…"` in `[dependencies.NAME]`: from the keys of a preset to its files.

use std::net::IpAddr;

use super::Resolver;
use crate::config::FileTemplate;
use crate::config::expand::{Names, expand};
use crate::manifest::{self, At};
use crate::presets::{Key, Kind, Preset};
use crate::template::Template;
use crate::text::{is_host_name, named};

impl Resolver<'_> {
    /// Makes the files of a dependency's preset, but those of whose name the manifest has a template of its own.
    pub(super) fn preset_files(&mut self, table: &manifest::Dependency) -> Vec<FileTemplate> {
        let Some(chosen) = &table.preset else {
            return Vec::new();
        };
        let (preset, place) = (chosen.preset.value, chosen.preset.place);
        let mut values = vec![("name", literal(&table.name.value))];
        for (key, value) in preset.keys.iter().zip(&chosen.values) {
            let expression = match (value, key.default) {
                (Some(value), _) => self.expression(key, value),
                (None, Some(default)) => Some(default.to_owned()),
                (None, None) => {
                    let here = format!("`{}` in [dependencies.{}]", key.name, table.name.value);
                    // What is there in another form has been named already.
                    if !self.mistakes.iter().any(|it| it.text.starts_with(&here)) {
                        let text =
                            format!("{here} is missing: the preset {} needs it", preset.name);
                        self.report_mistake(Some(place), text);
                    }
                    None
                }
            };
            values.extend(expression.map(|expression| (key.name, expression)));
        }
        self.check_fields(table, preset);
        let derived = preset.values.iter();
        values.extend(derived.map(|(name, expression)| (*name, (*expression).to_owned())));
        let own = |name: &str| table.files.iter().any(|file| file.name.value == name);
        let files = preset.files.iter().filter(|(name, _)| !own(name));
        let files = files.filter_map(|(name, source)| {
            // What is not right was reported above.
            let template = Template::parse(&with(&values, source)).ok()?;
            Some(FileTemplate::private((*name).to_owned(), template, place))
        });
        files.collect()
    }

    /// Reports the fields that the preset needs and `fields` lacks.
    fn check_fields(&mut self, table: &manifest::Dependency, preset: &Preset) {
        let (Some(written), Some(fields)) = (&table.fields, self.declared(table)) else {
            return;
        };
        for needed in preset.fields {
            if !fields.iter().any(|field| field == needed) {
                let text = format!(
                    "the preset {} needs the field `{needed}`: add it to `fields` of [dependencies.{}]",
                    preset.name, table.name.value
                );
                self.report_mistake(written.first().map(|field| field.place), text);
            }
        }
    }

    /// Reads the value of a key, and writes it as an expression of the template language.
    fn expression(&mut self, key: &Key, value: &At<String>) -> Option<String> {
        let set = Names {
            invented: None,
            ..self.names()
        };
        let is_invented = expand(&value.value, &set).is_err();
        self.parsed(value, |text| match expression(key.kind, text) {
            // A variable that is not set yet may hold what is right.
            Err(_) if is_invented => Ok(stand_in(key.kind).to_owned()),
            other => other.map_err(|text| format!("`{}`: {text}", key.name)),
        })
    }
}

/// Puts values in front of a template, on its first line.
fn with(values: &[(&str, String)], source: &str) -> String {
    let values = values
        .iter()
        .map(|(name, expression)| format!("{{% set {name} = {expression} %}}"));
    values.chain([source.to_owned()]).collect()
}

fn expression(kind: Kind, text: &str) -> Result<String, String> {
    let shown = || text.escape_default();
    match kind {
        Kind::Host if text.parse::<IpAddr>().is_err() && !is_host_name(text) => Err(format!(
            "`{}` is neither a host's name nor an IP address; an IPv6 address has no brackets here",
            shown()
        )),
        Kind::Port => match text.parse::<u16>() {
            Ok(port @ 1..) => Ok(port.to_string()),
            _ => Err(format!("`{}` is no port from 1 to 65535", shown())),
        },
        Kind::Number => match text.parse::<u32>() {
            Ok(number) => Ok(number.to_string()),
            Err(_) => Err(format!("`{}` is no number from 0 on", shown())),
        },
        Kind::Flag => named(text, &[("true", "true"), ("false", "false")]).map(str::to_owned),
        Kind::Choice(words) => {
            let words: Vec<(&str, &str)> = words.iter().map(|&word| (word, word)).collect();
            named(text, &words).map(literal)
        }
        Kind::Word if text.is_empty() || !text.chars().all(is_plain) => Err(format!(
            "`{}` holds something else than letters, digits, `-`, `_` and `.`",
            shown()
        )),
        Kind::Text if text.is_empty() || text.chars().any(char::is_control) => {
            Err("the text must not be empty, nor hold control characters".to_owned())
        }
        Kind::Host | Kind::Word | Kind::Text => Ok(literal(text)),
    }
}

/// Returns an expression for a value that only the variable at a start will say.
fn stand_in(kind: Kind) -> &'static str {
    match kind {
        Kind::Port | Kind::Number => "1",
        Kind::Flag => "false",
        Kind::Host | Kind::Word | Kind::Text | Kind::Choice(_) => "'sample'",
    }
}

fn is_plain(char: char) -> bool {
    char.is_ascii_alphanumeric() || "-_.".contains(char)
}

/// Writes a text without control characters as a literal of the template language.
fn literal(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests;
