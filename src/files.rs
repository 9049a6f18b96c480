//! From secrets to the bytes of files: the same for a dry run and a start, and a function of its arguments but for the
//! random bytes of the Java stores.

mod bundle;
mod error;
#[cfg(feature = "java")]
mod keystore;
mod material;
pub(crate) mod rehearsal;
pub(crate) mod sample;
mod scope;
pub(crate) mod status;
mod variables;

use std::cell::LazyCell;

use crate::certificate::Issued;
use crate::config::layout::{self, CertificatePart, CredentialPart, Entry, Shared};
use crate::config::{Certificate, Config, Dependency, FileTemplate};
use crate::pem;
use crate::secret::Secret;
use crate::template::Values;
use crate::text;
use crate::vault::Value;

pub(crate) use error::Error;
pub(crate) use material::{Credential, Lease, Material, OwnEnd};

#[cfg(feature = "java")]
use keystore::Stores;
use scope::Scope;

/// One file of a generation.
#[derive(PartialEq, Eq)]
pub(crate) struct File {
    /// The path below the secrets directory: a name, or a folder's name and a name.
    pub path: String,
    pub mode: u32,
    /// Present where others than the owner are to come to the file.
    pub shared: Option<Shared>,
    /// The content of the file.
    pub contents: Secret<Vec<u8>>,
}

/// The output of a start: files for the secrets directory and variables for the application.
#[derive(PartialEq, Eq)]
pub(crate) struct Rendered {
    /// The files of one generation.
    pub files: Vec<File>,
    /// The variables that are added to the application's environment.
    pub variables: Vec<(String, Secret)>,
}

/// How the application comes to what is in the files.
pub(crate) struct Access<'a> {
    /// The path of the secrets directory, as readers use it.
    pub secrets_dir: &'a str,
    /// The password of the Java stores, where there are any.
    pub store_password: Option<&'a Secret>,
    /// True where the Java stores are made, too.
    pub has_stores: bool,
}

/// Renders all files and variables.
pub(crate) fn render(
    config: &Config,
    materials: &[&Material<'_>],
    access: &Access<'_>,
) -> Result<Rendered, Error> {
    let scope = Scope::new(config, materials, access);
    let mut files = Vec::new();
    for material in materials {
        match material {
            Material::Certificate { spec, issued } => {
                files.extend(of_certificate(spec, issued));
                #[cfg(feature = "java")]
                if let (true, Some(java), Some(password)) =
                    (access.has_stores, &config.java, access.store_password)
                {
                    let entries = layout::of_java(java, &spec.name, config.certificates.len());
                    let stores = Stores {
                        issued,
                        certificate: &spec.name,
                        alias: &config.app,
                        java,
                        secrets_dir: access.secrets_dir,
                        password,
                    };
                    files.extend(stores.files(entries)?);
                }
            }
            Material::Credential { spec, credential } => {
                files.extend(of_credential(spec, credential, &scope)?);
            }
        }
    }
    if let Some(trust) = &config.trust {
        files.extend(bundle::files(trust, config, materials, access)?);
    }
    for entry in layout::of_files(&config.files) {
        let contents = fill(entry.source, &entry.name, scope.all())?;
        files.push(file(entry, contents));
    }
    let mut variables = variables::of_environment(config, &scope)?;
    variables.extend(variables::of_fields(config, materials)?);
    Ok(Rendered { files, variables })
}

fn of_certificate(certificate: &Certificate, issued: &Issued) -> Vec<File> {
    let entries = layout::of_certificate(&certificate.name, certificate.has_der).into_iter();
    let files = entries.map(|entry| {
        let contents = match entry.source {
            CertificatePart::Chain => Secret::new(pem::certificates(&issued.chain)),
            CertificatePart::PrivateKey => pem::private_key(&issued.private_key),
            CertificatePart::TrustAnchors => Secret::new(pem::certificates(&issued.trust_anchors)),
            CertificatePart::KeyAndChain => {
                pem::private_key_and_chain(&issued.private_key, &issued.chain)
            }
            CertificatePart::LeafInDer => Secret::new(issued.chain[0].to_vec()),
            CertificatePart::PrivateKeyInDer => Secret::new(issued.private_key.expose().clone()),
        };
        file(entry, contents)
    });
    files.collect()
}

fn of_credential(
    dependency: &Dependency,
    credential: &Credential,
    scope: &Scope,
) -> Result<Vec<File>, Error> {
    let mut files: Vec<File> = Vec::new();
    if credential.is_absent() && dependency.is_optional {
        return Ok(files);
    }
    let values = LazyCell::new(|| scope.within(credential));
    for entry in layout::of_credential(dependency) {
        match entry.source {
            CredentialPart::Field(name) => {
                let value = match credential.field(name) {
                    Some(value) => value,
                    None if dependency.is_optional => continue,
                    None => return Err(missing(name, dependency, credential)),
                };
                check_field_name(name, dependency)?;
                files.push(file(entry, bytes(&field_text(value))));
            }
            CredentialPart::OptionalField(name) => {
                if let Some(value) = credential.field(name) {
                    files.push(file(entry, bytes(&field_text(value))));
                }
            }
            CredentialPart::EveryField => {
                for (name, value) in &credential.fields {
                    check_field_name(name, dependency)?;
                    files.push(File {
                        path: format!("{}{name}", entry.name),
                        mode: entry.mode,
                        shared: None,
                        contents: bytes(&field_text(value)),
                    });
                }
            }
            CredentialPart::Template(template) => {
                if files.iter().any(|file| file.path == entry.name) {
                    return Err(Error::Template {
                        target: entry.name,
                        reason: "whose name is that of a field in the answer".to_owned(),
                    });
                }
                let contents = fill(template, &entry.name, &values)?;
                files.push(file(entry, contents));
            }
        }
    }
    Ok(files)
}

fn fill(file: &FileTemplate, path: &str, values: &Values) -> Result<Secret<Vec<u8>>, Error> {
    let contents = file.template.render_file(values);
    contents.map_err(|failure| Error::Template {
        target: file.described(path),
        reason: failure.reason,
    })
}

fn file<S>(entry: Entry<S>, contents: Secret<Vec<u8>>) -> File {
    File {
        path: entry.name,
        mode: entry.mode,
        shared: entry.shared,
        contents,
    }
}

/// Returns the text of a field's value, for a file or a variable.
fn field_text(value: &Value) -> Secret {
    // No field is null.
    value.text().unwrap_or(Secret::new(String::new()))
}

fn bytes(text: &Secret) -> Secret<Vec<u8>> {
    Secret::new(text.expose().as_bytes().to_vec())
}

fn missing(field: &str, dependency: &Dependency, credential: &Credential) -> Error {
    let present = credential.field_names().into_iter();
    Error::MissingField {
        dependency: dependency.name.clone(),
        path: dependency.path.clone(),
        field: field.to_owned(),
        present: present.map(str::to_owned).collect(),
    }
}

fn check_field_name(field: &str, dependency: &Dependency) -> Result<(), Error> {
    field_file_name(field).map_err(|reason| Error::FieldName {
        dependency: dependency.name.clone(),
        field: field.to_owned(),
        reason,
    })
}

fn field_file_name(name: &str) -> Result<(), String> {
    text::file_name(name)?;
    // As an argument of `awk`, `env` or `make` such a file name is an assignment.
    if name.contains('=') {
        return Err("it holds `=`".to_owned());
    }
    Ok(())
}
