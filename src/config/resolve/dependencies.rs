//! `[dependencies]`.

use std::cell::RefCell;
use std::time::Duration;

use super::Resolver;
use super::presets::Others;
use crate::config::expand::{Names, expand};
use crate::config::{Dependency, FileTemplate, Method, Purpose, Variable};
use crate::manifest::{self, At, Manifest};
use crate::spelling::meant;
use crate::template::{self, Known, Template};
use crate::text::{duration, file_name, named, vault_path};
use crate::vault::Value;

impl Resolver<'_> {
    /// Collects the declared fields, or those of the preset, without reporting what is wrong with them.
    pub(super) fn declared(&self, table: &manifest::Dependency) -> Option<Vec<String>> {
        let preset = table.preset.as_ref().map(|chosen| chosen.preset.value);
        let Some(fields) = &table.fields else {
            let preset = preset?;
            if !self.is_fetched(table) {
                return Some(Vec::new());
            }
            return Some(preset.all_fields().map(str::to_owned).collect());
        };
        let text = |field: &At<String>| {
            expand(&field.value, &self.names()).unwrap_or_else(|_| field.value.clone())
        };
        let mut declared: Vec<String> = fields.iter().map(text).collect();
        let more = preset.map_or(&[][..], |preset| preset.optional_fields);
        let more = beside(&declared, more);
        declared.extend(more.into_iter().map(str::to_owned));
        Some(declared)
    }

    pub(super) fn dependency(
        &mut self,
        table: &manifest::Dependency,
        others: &Others<'_>,
        known: &Known,
    ) -> Option<Dependency> {
        let name = &table.name;
        self.check_item_name(name, "a dependency");
        let key = format!("`path` in [dependencies.{}]", name.value);
        let path = self.required(table.path.as_ref(), &key, vault_path);
        let write = match &table.method {
            Some(value) => self
                .parsed(value, |text| {
                    named(text, &[("read", false), ("write", true)])
                })
                // Whatever was meant, `data` is not the mistake.
                .unwrap_or(true),
            None => false,
        };
        if !write && let Some((field, _)) = table.data.first() {
            self.report_mistake(
                Some(field.place),
                "`data` goes with `method = \"write\"` only",
            );
        }
        let data = table
            .data
            .iter()
            .filter_map(|(field, value)| Some((field.value.clone(), self.text(value)?)))
            .collect();
        let refresh = table.refresh.as_ref();
        if write && let Some(refresh) = refresh {
            self.report_mistake(
                Some(refresh.place),
                "`refresh` goes with `method = \"read\"` only: a write may make something each time",
            );
        }
        let refresh = refresh.and_then(|written| self.parsed(written, interval));
        let fields = table
            .fields
            .as_ref()
            .map(|fields| self.list(fields, |text| file_name(text).map(|()| text.to_owned())));
        for (index, field) in table.fields.iter().flatten().enumerate() {
            let before = table.fields.iter().flatten().take(index);
            if before.into_iter().any(|known| known.value == field.value) {
                self.report_mistake(
                    Some(field.place),
                    format!("`{}` is listed twice", field.value.escape_default()),
                );
            }
        }
        let known = known.within(self.declared(table).as_deref());
        let mut templates = self.preset_files(table, others);
        let preset = table.preset.as_ref().map(|chosen| chosen.preset.value);
        let of_preset = preset.map(|it| it.fields.iter().map(|&it| it.to_owned()).collect());
        let fields = fields.or(of_preset);
        let optional_fields = preset.map_or(&[][..], |preset| preset.optional_fields);
        let optional_fields = beside(fields.as_deref().unwrap_or_default(), optional_fields);
        templates.extend(self.own_files(table, &known));
        let env_prefix = table.env_prefix.as_ref();
        let env_prefix = env_prefix.and_then(|written| self.env_prefix(written));
        let sample = table
            .sample
            .iter()
            .filter_map(|(field, value)| Some((field.value.clone(), self.sample(field, value)?)))
            .collect();
        Some(Dependency {
            name: name.value.clone(),
            path: path?,
            method: if write {
                Method::Write(data)
            } else {
                Method::Read
            },
            fields,
            optional_fields,
            refresh,
            is_optional: table.optional,
            templates,
            env_prefix,
            sample,
        })
    }

    /// Reads the files that the manifest itself has for a dependency.
    pub(super) fn own_files(
        &mut self,
        table: &manifest::Dependency,
        known: &Known,
    ) -> Vec<FileTemplate> {
        let mut files = Vec::new();
        for file in &table.files {
            if let Err(text) = file_name(&file.name.value) {
                self.report_mistake(Some(file.name.place), text);
            }
            files.extend(self.file(file, Some(&table.name.value), known));
        }
        files
    }

    /// Reads a template; `target` is what it makes, in messages.
    pub(super) fn template(
        &mut self,
        source: &At<String>,
        target: &str,
        known: &Known,
    ) -> Option<Template> {
        let parsed = Template::parse(&source.value);
        let mistakes = match &parsed {
            Ok(template) => template.unknown(known),
            Err(mistakes) => mistakes.clone(),
        };
        for text in mistakes {
            let text = format!("the template of {target}, {text}");
            self.report_mistake(Some(source.place), text);
        }
        parsed.ok()
    }

    /// Expands a sample. One that a start does not use may name variables that are not set there; a mistake shows nothing
    /// of the text.
    fn sample(&mut self, field: &At<String>, value: &At<serde_json::Value>) -> Option<Value> {
        let unnoticed = RefCell::default();
        let invented = match self.purpose {
            Purpose::DryRun => &self.invented,
            _ => &unnoticed,
        };
        let names = Names {
            invented: Some(invented),
            ..self.names()
        };
        let mut sample = value.value.clone();
        if expand_texts(&mut sample, &names).is_none() {
            let text = format!(
                "the sample `{}` holds a `${{` that is neither ${{NAME}} nor ${{NAME:-default}}, or that names a token; write `$${{` for the text itself",
                field.value.escape_default()
            );
            self.report_mistake(Some(value.place), text);
            return None;
        }
        let sample = serde_json::from_value(sample);
        if sample.is_err() {
            let text = format!(
                "the sample `{}` is nothing that Vault can answer",
                field.value.escape_default()
            );
            self.report_mistake(Some(value.place), text);
        }
        sample.ok()
    }

    /// Reads the samples, and reports those for fields that will never be there.
    pub(super) fn samples(
        &mut self,
        manifest: &Manifest,
        dependencies: &[Dependency],
        files: &[FileTemplate],
        variables: &[Variable],
    ) {
        for table in &manifest.dependencies {
            // Where nothing is fetched, a sample is a mistake already.
            if !self.is_fetched(table) {
                continue;
            }
            let Some(fields) = self.declared(table) else {
                continue;
            };
            let identifier = template::identifier(&table.name.value);
            // A template may say what happens without it.
            let is_named = |field: &str| {
                let others = files.iter().map(|file| &file.template);
                let variables = variables.iter().map(|variable| &variable.template);
                let mut others = others.chain(variables);
                others.any(|template| template.mentions(&[&identifier, field]))
                    || dependencies.iter().any(|dependency| {
                        let is_own = dependency.name == table.name.value;
                        dependency
                            .templates
                            .iter()
                            .any(|FileTemplate { template, .. }| {
                                template.mentions(&[&identifier, field])
                                    || is_own && template.mentions(&[field])
                            })
                    })
            };
            for (field, _) in &table.sample {
                if fields.contains(&field.value) || is_named(&field.value) {
                    continue;
                }
                let known = fields.iter().map(String::as_str);
                let meant = meant(&field.value, known);
                let text = format!(
                    "the sample `{}` is none of the `fields` of {}{meant}; known are {}",
                    field.value.escape_default(),
                    table.name.value,
                    fields.join(", ")
                );
                self.report_mistake(Some(field.place), text);
            }
        }
    }
}

/// Lists the fields that a preset's answer may have, but those that are declared, which must be there.
fn beside(declared: &[String], fields: &'static [&'static str]) -> Vec<&'static str> {
    let is_declared = |field: &str| declared.iter().any(|known| known == field);
    let fields = fields.iter().copied();
    fields.filter(|field| !is_declared(field)).collect()
}

/// Expands every text in a sample.
fn expand_texts(sample: &mut serde_json::Value, names: &Names<'_>) -> Option<()> {
    match sample {
        serde_json::Value::String(text) => *text = expand(text, names).ok()?,
        serde_json::Value::Array(items) => {
            for item in items {
                expand_texts(item, names)?;
            }
        }
        serde_json::Value::Object(members) => {
            for (_, member) in members.iter_mut() {
                expand_texts(member, names)?;
            }
        }
        _ => {}
    }
    Some(())
}

fn interval(text: &str) -> Result<Duration, String> {
    duration(text).and_then(|interval| {
        if interval >= Duration::from_secs(1) {
            Ok(interval)
        } else {
            Err("more often than once a second is too often; without `refresh` a secret is fetched once".to_owned())
        }
    })
}
