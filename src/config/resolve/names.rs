//! Names: those that templates may use, and those of files, folders and items that would meet.

use std::collections::BTreeSet;

use super::{Resolver, certificate};
use crate::config::layout::CredentialPart;
use crate::config::{CertificateName, CertificateValue, Dependency, FileTemplate, Java, layout};
use crate::manifest::{At, Manifest};
use crate::template::{self, Known};
use crate::text::file_name;

impl Resolver<'_> {
    /// Collects the names that templates may use, as far as they are known before there is a value.
    pub(super) fn known(&self, manifest: &Manifest) -> Known {
        let received = &self.surroundings.environment;
        let variables = self.purpose.is_here().then(|| {
            let names = received.without_tokens().map(|(name, _)| name);
            names.filter_map(|name| Some(name.to_str()?.to_owned()))
        });
        let mut known = Known::new(variables.map(Iterator::collect));
        self.add_certificates(manifest, &mut known);
        for table in &manifest.dependencies {
            let identifier = template::identifier(&table.name.value);
            known.add(identifier, self.declared(table).as_deref());
        }
        known
    }

    /// Adds the values that come of `[certificate]`, `[certificates]` and `[java]`.
    fn add_certificates(&self, manifest: &Manifest, known: &mut Known) {
        let texts = CertificateValue::NAMES.map(|(name, _)| name);
        if manifest.certificate.is_some() {
            known.add_texts(template::CERTIFICATE, texts);
        }
        if !manifest.certificates.is_empty() {
            let names = manifest.certificates.iter();
            let identifiers = names.map(|(name, _)| template::identifier(&name.value));
            known.add_tables(template::CERTIFICATES, identifiers, texts);
        }
        if manifest.java.is_some() {
            let certificates = certificate::tables(manifest);
            let has_stores = certificates
                .iter()
                .any(|(name, _)| layout::has_java_arguments(name, certificates.len()));
            let stores = ["keystore", "truststore"].into_iter();
            let stores = stores.filter(|_| has_stores);
            let bundle = manifest.trust.iter().map(|_| "bundle");
            let names = stores.chain(bundle).chain(["password"]);
            known.add_texts(template::JAVA, names);
        }
    }

    /// Reports two things that would get one file name, one name in events, or one name in templates.
    pub(super) fn check_distinct_names(
        &mut self,
        manifest: &Manifest,
        java: Option<&Java>,
        dependencies: &[Dependency],
        files: &[FileTemplate],
    ) {
        let mut taken = [layout::STATUS, layout::TOKEN].map(str::to_owned).to_vec();
        let certificates = certificate::tables(manifest);
        for (name, table) in &certificates {
            let files = layout::of_certificate(name, table.der).into_iter();
            taken.extend(files.map(|file| file.name));
        }
        if manifest.trust.is_some() {
            let files = layout::of_trust(java).into_iter();
            taken.extend(files.map(|file| file.name));
        }
        if let Some(java) = java {
            let place = manifest
                .java
                .as_ref()
                .and_then(|table| table.truststore.as_ref().or(table.keystore.as_ref()));
            let stores = certificates
                .iter()
                .flat_map(|(name, _)| layout::of_java(java, name, certificates.len()));
            for layout::Entry { name, .. } in stores {
                if taken.contains(&name) {
                    self.report_mistake(
                        place.map(|at| at.place),
                        format!("two files would be named `{name}`"),
                    );
                }
                taken.push(name);
            }
        }
        let mut identifiers: Vec<String> = Vec::new();
        for (name, _) in &manifest.certificates {
            self.check_item_name(name, "a certificate");
            self.check_identifier(name, &mut identifiers);
            self.check_is_free(name, &taken);
            if name.value == CertificateName::MAIN {
                self.report_mistake(
                    Some(name.place),
                    format!("`{}` is the name of [certificate]", name.value),
                );
            }
        }
        let mut identifiers: Vec<String> = template::RESERVED.map(str::to_owned).to_vec();
        for dependency in &manifest.dependencies {
            let name = &dependency.name;
            self.check_is_free(name, &taken);
            if certificates
                .iter()
                .any(|(other, _)| other.as_str() == name.value)
            {
                self.report_mistake(
                    Some(name.place),
                    format!("`{}` is already the name of a certificate", name.value),
                );
            }
            self.check_identifier(name, &mut identifiers);
        }
        for entry in dependencies.iter().flat_map(layout::of_credential) {
            if let CredentialPart::Template(file) = entry.source
                && taken.contains(&entry.name)
            {
                let text = format!("`{}` is already the file of a field", file.name);
                self.report_mistake(Some(file.place), text);
            }
            taken.push(entry.name);
        }
        self.check_files(manifest, files, &mut taken);
    }

    /// Reports a file of `[files]` where something else has its name, and a folder of such a file that is none or a
    /// dependency's.
    fn check_files(
        &mut self,
        manifest: &Manifest,
        files: &[FileTemplate],
        taken: &mut Vec<String>,
    ) {
        let certificates = manifest.certificates.iter().map(|(name, _)| &name.value);
        let dependencies = manifest.dependencies.iter();
        let dependencies = dependencies.filter(|table| self.is_fetched(table));
        let dependencies = dependencies.map(|table| &table.name.value);
        let dependencies: Vec<&String> = dependencies.collect();
        let mut folders: Vec<&str> = certificates
            .chain(dependencies.clone())
            .map(String::as_str)
            .collect();
        folders.extend(files.iter().filter_map(FileTemplate::folder));
        let paths: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
        let mut no_folders = BTreeSet::new();
        for layout::Entry {
            name, source: file, ..
        } in layout::of_files(files)
        {
            let text = match file.folder() {
                Some(folder) if dependencies.iter().any(|known| *known == folder) => Some(format!(
                    "`{name}` lies in the folder of a dependency: write it in [dependencies.{folder}.files]"
                )),
                Some(folder)
                    if paths.contains(&folder) || taken.iter().any(|taken| taken == folder) =>
                {
                    // Once for all files in it.
                    no_folders
                        .insert(folder)
                        .then(|| format!("`{folder}` is already the name of a file, and no folder"))
                }
                _ if taken.contains(&name) => {
                    Some(format!("`{name}` is already the name of a file"))
                }
                _ if folders.contains(&name.as_str()) => {
                    Some(format!("`{name}` is already the name of a folder"))
                }
                _ => None,
            };
            if let Some(text) = text {
                self.report_mistake(Some(file.place), text);
            }
            taken.push(name);
        }
    }

    /// Reports a name whose identifier is among these, and adds it to them.
    fn check_identifier(&mut self, name: &At<String>, identifiers: &mut Vec<String>) {
        let identifier = template::identifier(&name.value);
        if identifiers.contains(&identifier) {
            self.report_mistake(
                Some(name.place),
                format!("`{identifier}` already means something else in templates"),
            );
        }
        identifiers.push(identifier);
    }

    /// Reports a name that is already that of a file at the top of the secrets directory.
    fn check_is_free(&mut self, name: &At<String>, taken: &[String]) {
        if taken.contains(&name.value) {
            self.report_mistake(
                Some(name.place),
                format!("`{}` is already the name of a file", name.value),
            );
        }
    }

    /// Reports a name that cannot be that of a certificate or a dependency, which is also the name of a folder.
    pub(super) fn check_item_name(&mut self, name: &At<String>, what: &str) {
        if let Err(text) = item_name(&name.value, what) {
            self.report_mistake(Some(name.place), text);
        }
    }
}

fn item_name(text: &str, what: &str) -> Result<(), String> {
    file_name(text)?;
    if !text.starts_with(|c: char| c.is_ascii_alphabetic())
        || !text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    {
        return Err(format!(
            "{what}'s name begins with a letter and holds letters, digits, `-`, `_` and `.`"
        ));
    }
    Ok(())
}
