//! `as = "…"` in `[dependencies.NAME]`: from the keys of a preset to its files.

use std::net::IpAddr;

use super::{Resolver, certificate};
use crate::config::expand::{Names, expand};
use crate::config::{FileTemplate, Java, TemplateSource};
use crate::manifest::{self, At, Manifest};
use crate::presets::{Key, Kind, Preset};
use crate::template::{Known, Template};
use crate::text::{is_host_name, named, without_brackets};

/// The rest of the manifest, as far as the keys of a preset may name it.
pub(super) struct Others<'a> {
    pub(super) manifest: &'a Manifest,
    pub(super) java: Option<&'a Java>,
}

impl Resolver<'_> {
    /// Says whether a dependency has an answer, as all have but some with a preset that needs none.
    pub(super) fn is_fetched(&self, table: &manifest::Dependency) -> bool {
        let Some(chosen) = &table.preset else {
            return true;
        };
        let Some((name, bare)) = chosen.preset.value.bare_if else {
            return true;
        };
        let mut values = chosen.preset.value.keys.iter().zip(&chosen.values);
        let Some((_, Some(value))) = values.find(|(key, _)| key.name == name) else {
            return true;
        };
        match self.known_text(value) {
            Some(text) => text != bare,
            // A value that only the start knows goes with the rest of the table.
            None => table.path.is_some(),
        }
    }

    /// Expands a text, unless a variable in it is not set.
    fn known_text(&self, value: &At<String>) -> Option<String> {
        let set = Names {
            invented: None,
            ..self.names()
        };
        expand(&value.value, &set).ok()
    }

    /// Makes the files of a table for which nothing is fetched.
    pub(super) fn bare_files(
        &mut self,
        table: &manifest::Dependency,
        others: &Others<'_>,
        known: &Known,
    ) -> Vec<FileTemplate> {
        let name = &table.name;
        self.check_item_name(name, "a dependency");
        let fetching = [
            &table.path,
            &table.method,
            &table.refresh,
            &table.env_prefix,
        ];
        let fetching = fetching.into_iter().flatten().map(|at| at.place);
        let fields = table.fields.iter().flatten().map(|field| field.place);
        let more = table.data.iter().map(|(field, _)| field.place);
        let more = more.chain(table.sample.iter().map(|(field, _)| field.place));
        let here = format!("nothing is fetched for [dependencies.{}]", name.value);
        for place in fetching.chain(fields).chain(more) {
            let text = format!("{here}: leave out what belongs to a `path`");
            self.report_mistake(Some(place), text);
        }
        if table.optional {
            let text = format!("{here}: leave out `optional`, which belongs to a `path`");
            self.report_mistake(Some(name.place), text);
        }
        let mut files = self.preset_files(table, others);
        files.extend(self.own_files(table, known));
        for file in &mut files {
            file.name = format!("{}/{}", name.value, file.name);
        }
        files
    }

    /// Makes the files of a dependency's preset, but those of whose name the manifest has a template of its own.
    pub(super) fn preset_files(
        &mut self,
        table: &manifest::Dependency,
        others: &Others<'_>,
    ) -> Vec<FileTemplate> {
        let Some(chosen) = &table.preset else {
            return Vec::new();
        };
        let (preset, place) = (chosen.preset.value, chosen.preset.place);
        let mut values = vec![("name", literal(&table.name.value))];
        for (key, value) in preset.keys.iter().zip(&chosen.values) {
            let expression = match (value, key.default) {
                (Some(value), _) => self.expression(table, key, value, others),
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
        if self.is_fetched(table) {
            self.check_fields(table, preset);
        } else {
            let none = preset.all_fields();
            values.extend(none.map(|field| (field, "false".to_owned())));
        }
        if let Some(java) = others.java {
            values.push(("keystore", literal(&java.keystore)));
            values.push(("truststore", literal(&java.truststore)));
        }
        let derived = preset.values.iter();
        values.extend(derived.map(|(name, expression)| (*name, (*expression).to_owned())));
        let own = |name: &str| table.files.iter().any(|file| file.name.value == name);
        let files = preset.files.iter().filter(|(name, _)| !own(name));
        let files = files.filter_map(|(name, source)| {
            // What is not right was reported above.
            let template = Template::parse(&with(&values, source)).ok()?;
            Some(FileTemplate {
                source: TemplateSource::Preset(preset.name),
                ..FileTemplate::private((*name).to_owned(), template, place)
            })
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
    fn expression(
        &mut self,
        table: &manifest::Dependency,
        key: &Key,
        value: &At<String>,
        others: &Others<'_>,
    ) -> Option<String> {
        let is_invented = self.known_text(value).is_none();
        let bare = table.preset.as_ref().and_then(|it| it.preset.value.bare_if);
        let bare = bare.filter(|(name, _)| *name == key.name && !self.is_fetched(table));
        self.parsed(value, |text| match expression(key.kind, text, others) {
            // A variable that is not set yet may hold what is right.
            Err(_) if is_invented => Ok(match bare {
                Some((_, word)) => literal(word),
                None => stand_in(key.kind),
            }),
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

fn expression(kind: Kind, text: &str, others: &Others<'_>) -> Result<String, String> {
    let shown = || text.escape_default();
    match kind {
        Kind::Host if !is_host(text) => Err(format!(
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
        Kind::Choice(words) => one_of(text, words),
        Kind::Servers => {
            let servers: Vec<&str> = text.split(',').map(str::trim).collect();
            match servers.iter().find(|server| !is_server(server)) {
                Some(wrong) => Err(format!(
                    "`{}` is no host with its port, such as kafka.example.io:9093",
                    wrong.escape_default()
                )),
                None => Ok(literal(&servers.join(","))),
            }
        }
        Kind::Certificate => {
            let certificates = certificate::tables(others.manifest);
            let names: Vec<&str> = certificates.iter().map(|(name, _)| name.as_str()).collect();
            if names.is_empty() {
                return Err(
                    "there is no certificate: it needs [certificate], or a table of [certificates]"
                        .to_owned(),
                );
            }
            one_of(text, &names)
        }
        Kind::Stores if text == "pkcs12" && others.java.is_none() => {
            Err("`pkcs12` needs [java], which writes these stores".to_owned())
        }
        Kind::Stores => one_of(text, &["pem", "pkcs12"]),
        Kind::Trust if text == "bundle" && others.manifest.trust.is_none() => {
            Err("`bundle` needs [trust], which writes it".to_owned())
        }
        Kind::Trust => one_of(text, &["anchors", "bundle"]),
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
fn stand_in(kind: Kind) -> String {
    let word = match kind {
        Kind::Port | Kind::Number => return "1".to_owned(),
        Kind::Flag => return "false".to_owned(),
        Kind::Trust => "anchors",
        Kind::Stores => "pem",
        Kind::Choice([.., last]) => last,
        _ => "sample",
    };
    literal(word)
}

/// Reads one of these words as an expression.
fn one_of(text: &str, words: &[&str]) -> Result<String, String> {
    let words: Vec<(&str, &str)> = words.iter().map(|&word| (word, word)).collect();
    named(text, &words).map(literal)
}

fn is_host(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok() || is_host_name(text)
}

/// Says whether a text is a host and a port, an IPv6 address in brackets.
fn is_server(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        let has_brackets = without_brackets(host) != host;
        let is_right = has_brackets || !host.contains(':') && is_host(host);
        is_right && matches!(port.parse::<u16>(), Ok(1..))
    })
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
