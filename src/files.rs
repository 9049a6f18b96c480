//! From secrets to the bytes of files: the same for a dry run and a start, and a function of its arguments but for the
//! random bytes of the Java stores.

#[cfg(feature = "java")]
mod keystore;
pub(crate) mod rehearsal;
pub(crate) mod sample;
mod scope;
pub(crate) mod status;

use std::fmt;

use crate::certificate::Issued;
use crate::config::layout::{self, CertificatePart, CredentialPart, Entry};
use crate::config::{Certificate, Config, Dependency, Spec};
use crate::pem;
use crate::secret::Secret;
use crate::text;

use scope::Scope;

/// One file of a generation.
pub(crate) struct File {
    /// The path below the secrets directory: a name, or a dependency's name and a name.
    pub path: String,
    pub mode: u32,
    /// The content of the file.
    pub contents: Secret<Vec<u8>>,
}

/// The answer for one dependency, whatever engine gave it.
pub(crate) struct Credential {
    /// The names and values of the fields.
    pub fields: Vec<(String, Secret)>,
    /// The credential's lease, where it has one.
    pub lease: Option<Lease>,
    /// The end that the answer itself names, where it does.
    pub end: Option<OwnEnd>,
}

impl Credential {
    /// Lists the names of the fields.
    pub(crate) fn field_names(&self) -> Vec<&str> {
        self.fields.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// Returns the value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&Secret> {
        self.fields
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value)
    }
}

/// A lease, as Vault names it.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    pub id: String,
    /// The life in seconds, counted from the answer.
    pub duration: u64,
    pub renewable: bool,
}

/// An end that an answer names beside its lease, or without one; lives are seconds from the answer on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OwnEnd {
    /// The answer lives for this time.
    In {
        /// The life that is left.
        life: u64,
        /// The life that a new answer has.
        whole: u64,
    },
    /// The engine puts another value in the place of this one then, and answers this one until then.
    Rotation {
        /// The life that is left.
        life: u64,
        /// The life that a new answer has, as far as the answer says.
        whole: u64,
    },
    /// The answer ends at this time of the server's clock, in seconds of Unix time.
    At(i64),
}

/// The answer for one entry of the manifest, together with that entry.
pub(crate) enum Material<'a> {
    /// A certificate with its key.
    Certificate {
        /// The entry of the manifest.
        spec: &'a Certificate,
        issued: Box<Issued>,
    },
    Credential {
        /// The entry of the manifest.
        spec: &'a Dependency,
        credential: Credential,
    },
}

impl<'a> Material<'a> {
    /// Returns the entry of the manifest.
    pub(crate) fn spec(&self) -> Spec<'a> {
        match self {
            Material::Certificate { spec, .. } => Spec::Certificate(spec),
            Material::Credential { spec, .. } => Spec::Credential(spec),
        }
    }

    /// Returns the name of the entry.
    pub(crate) fn name(&self) -> &'a str {
        self.spec().name()
    }
}

/// The output of a start: files for the secrets directory and variables for the application.
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
}

/// Every way in which rendering fails.
#[derive(Debug)]
pub enum Error {
    /// A field that the manifest wants is missing from the answer.
    MissingField {
        dependency: String,
        /// The dependency's Vault path.
        path: String,
        field: String,
        /// The fields that are there.
        present: Vec<String>,
    },
    /// A field's name cannot be the name of a file.
    FieldName {
        dependency: String,
        field: String,
        reason: String,
    },
    /// A template asks for a value that is missing, or does something that cannot be done.
    Template {
        /// The file or variable that the template makes.
        target: String,
        /// The mistake, without any value.
        reason: String,
    },
    /// The Java stores could not be written.
    KeyStore {
        /// The library's reason.
        reason: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::MissingField {
                dependency,
                path,
                field,
                present,
            } => {
                write!(
                    f,
                    "{path} (dependency {dependency}) has no field `{field}`; it has {}",
                    present.join(", ")
                )
            }
            Error::FieldName {
                dependency,
                field,
                reason,
            } => {
                write!(
                    f,
                    "the field `{}` of dependency {dependency} cannot be a file: {reason}",
                    field.escape_default()
                )
            }
            Error::Template { target, reason } => write!(f, "the template of {target}, {reason}"),
            Error::KeyStore { reason } => write!(f, "cannot write the Java stores: {reason}"),
        }
    }
}

impl std::error::Error for Error {}

/// Renders all files and variables.
pub(crate) fn render(
    config: &Config,
    materials: &[&Material<'_>],
    access: &Access<'_>,
) -> Result<Rendered, Error> {
    let scope = Scope::new(config, materials, access.secrets_dir);
    let mut files = Vec::new();
    for material in materials {
        match material {
            Material::Certificate { issued, .. } => {
                files.extend(of_certificate(issued));
                #[cfg(feature = "java")]
                if let (Some(java), Some(password)) = (&config.java, access.store_password) {
                    files.extend(keystore::files(
                        issued,
                        &config.app,
                        java,
                        access.secrets_dir,
                        password,
                    )?);
                }
            }
            Material::Credential { spec, credential } => {
                files.extend(of_credential(spec, credential, &scope)?);
            }
        }
    }
    let mut variables = Vec::new();
    for variable in &config.variables {
        let value = variable
            .template
            .render(&scope.all())
            .map_err(|failure| Error::Template {
                target: format!("the variable {}", variable.name),
                reason: failure.reason,
            })?;
        if value.expose().contains('\0') {
            let reason = "whose value holds a NUL byte, as no variable can".to_owned();
            return Err(Error::Template {
                target: format!("the variable {}", variable.name),
                reason,
            });
        }
        variables.push((variable.name.clone(), value));
    }
    Ok(Rendered { files, variables })
}

fn of_certificate(issued: &Issued) -> Vec<File> {
    let entries = layout::of_certificate().into_iter();
    let files = entries.map(|entry| {
        let contents = match entry.source {
            CertificatePart::Chain => Secret::new(pem::certificates(&issued.chain)),
            CertificatePart::PrivateKey => pem::private_key(&issued.private_key),
            CertificatePart::TrustAnchors => Secret::new(pem::certificates(&issued.trust_anchors)),
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
    for entry in layout::of_credential(dependency) {
        match entry.source {
            CredentialPart::Field(name) => {
                let value = credential.field(name);
                let value = value.ok_or_else(|| missing(name, dependency, credential))?;
                check_field_name(name, dependency)?;
                files.push(file(entry, bytes(value)));
            }
            CredentialPart::EveryField => {
                for (name, value) in &credential.fields {
                    check_field_name(name, dependency)?;
                    files.push(File {
                        path: format!("{}{name}", entry.name),
                        mode: entry.mode,
                        contents: bytes(value),
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
                let values = scope.within(credential);
                let text = template
                    .render(&values)
                    .map_err(|failure| Error::Template {
                        target: entry.name.clone(),
                        reason: failure.reason,
                    })?;
                files.push(file(entry, bytes(&text)));
            }
        }
    }
    Ok(files)
}

fn file<S>(entry: Entry<S>, contents: Secret<Vec<u8>>) -> File {
    File {
        path: entry.name,
        mode: entry.mode,
        contents,
    }
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
