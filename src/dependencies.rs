//! One credential for each dependency, from any engine that answers `data`.

mod end;
pub(crate) mod ssh_certificate;

use std::fmt;

use crate::config::{Dependency, Method};
use crate::files::{Credential, Lease};
use crate::log::{self, Level, Log};
use crate::vault::{self, Session, Value};

/// Every way in which fetching a credential fails.
#[derive(Debug)]
pub enum Error {
    /// Vault did not give the credential.
    Vault {
        dependency: String,
        error: vault::Error,
    },
    /// The secret's version was deleted.
    Deleted {
        dependency: String,
        /// The Vault path of the secret.
        path: String,
    },
    /// A field of the answer is `null`.
    Null {
        dependency: String,
        /// The Vault path of the secret.
        path: String,
        field: String,
    },
    /// Each answer ended before everything else was there.
    Ended {
        dependency: String,
        /// The Vault path of the credential.
        path: String,
    },
    /// The answer has a lease, which goes with no `refresh`.
    Leased {
        /// The dependency's name.
        dependency: String,
        /// The Vault path of the credential.
        path: String,
    },
    /// The answer has no field at all.
    Empty {
        dependency: String,
        /// The Vault path of the credential.
        path: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Vault { dependency, error } => write!(f, "dependency {dependency}: {error}"),
            Error::Deleted { dependency, path } => write!(
                f,
                "dependency {dependency}: the secret at {path} was deleted"
            ),
            Error::Null {
                dependency,
                path,
                field,
            } => {
                write!(
                    f,
                    "dependency {dependency}: the field `{}` of {path} is null",
                    field.escape_default()
                )
            }
            Error::Ended { dependency, path } => write!(
                f,
                "dependency {dependency}: what {path} gives ends before everything else is there"
            ),
            Error::Leased { dependency, path } => write!(
                f,
                "dependency {dependency}: {path} answers with a lease, which the keeper renews, so that `refresh` in [dependencies.{dependency}] does not apply"
            ),
            Error::Empty { dependency, path } => {
                write!(f, "dependency {dependency}: {path} holds no field")
            }
        }
    }
}

impl std::error::Error for Error {}

impl Error {
    /// Whether the secret is not there: never was, or was deleted.
    pub(crate) fn is_missing(&self) -> bool {
        match self {
            Error::Deleted { .. } => true,
            Error::Vault { error, .. } => error.is_not_found() && !error.is_about_the_namespace(),
            _ => false,
        }
    }
}

/// Refuses a lease where the manifest has `refresh`.
pub(crate) fn check_lease(dependency: &Dependency, credential: &Credential) -> Result<(), Error> {
    if dependency.refresh.is_some() && credential.lease.is_some() {
        return Err(Error::Leased {
            dependency: dependency.name.clone(),
            path: dependency.path.clone(),
        });
    }
    Ok(())
}

/// Fetches one credential, which has no field where it is optional and not there; `warnings` is the level at which Vault's
/// own warnings are logged.
pub(crate) fn fetch(
    session: &Session,
    dependency: &Dependency,
    log: Log,
    warnings: Level,
) -> Result<Credential, Error> {
    let answer = ask(session, dependency, log, warnings);
    let Err(error) = &answer else {
        return answer;
    };
    if !dependency.is_optional || !(error.is_missing() || matches!(error, Error::Empty { .. })) {
        return answer;
    }
    let text = format!("{error}; it is optional, so that the application goes without");
    let level = if warnings == Level::Warn {
        Level::Info
    } else {
        Level::Debug
    };
    let fields = [
        ("name", log::Value::Text(&dependency.name)),
        ("path", log::Value::Text(&dependency.path)),
    ];
    log.event(level, "secret_missing", &text, &fields);
    Ok(Credential::default())
}

fn ask(
    session: &Session,
    dependency: &Dependency,
    log: Log,
    warnings: Level,
) -> Result<Credential, Error> {
    let name = || dependency.name.clone();
    let path = || dependency.path.clone();
    let reply = match &dependency.method {
        Method::Read => session.read(&dependency.path),
        Method::Write(fields) => session.write(&dependency.path, fields),
    };
    let reply = reply.map_err(|error| match error {
        vault::Error::Status {
            status: 404,
            has_data: true,
            ..
        } => Error::Deleted {
            dependency: name(),
            path: path(),
        },
        error => Error::Vault {
            dependency: name(),
            error,
        },
    })?;
    for warning in &reply.warnings {
        log.event(
            warnings,
            "vault_warning",
            "Vault warns",
            &[
                ("path", log::Value::Text(&dependency.path)),
                ("warning", log::Value::Text(warning)),
            ],
        );
    }
    let (has_lease, lease_duration) = (!reply.lease_id.is_empty(), reply.lease_duration);
    let (data, end) = match inner_data(reply.data, &dependency.path) {
        Inner::Fields(fields) => {
            let end = end::own_end(&fields, has_lease, lease_duration);
            (fields, end)
        }
        Inner::OfVersion2(fields) => (fields, None),
        Inner::Deleted => {
            return Err(Error::Deleted {
                dependency: name(),
                path: path(),
            });
        }
    };
    let mut fields = Vec::new();
    for (field, value) in data {
        match value {
            // The manifest does not ask for this field, so a `null` does no harm.
            Value::Null
                if dependency
                    .fields
                    .as_ref()
                    .is_some_and(|wanted| !wanted.contains(&field)) => {}
            Value::Null => {
                return Err(Error::Null {
                    dependency: name(),
                    path: path(),
                    field,
                });
            }
            value => fields.push((field, value)),
        }
    }
    if fields.is_empty() {
        return Err(Error::Empty {
            dependency: name(),
            path: path(),
        });
    }
    let lease = has_lease.then_some(Lease {
        id: reply.lease_id,
        duration: lease_duration,
        renewable: reply.renewable,
    });
    Ok(Credential { fields, lease, end })
}

enum Inner {
    Fields(Vec<(String, Value)>),
    OfVersion2(Vec<(String, Value)>),
    Deleted,
}

/// Finds the fields of KV version 2, which answers `data` within `data`, beside `metadata`. A secret of version 1 may
/// have a field of that name, so path and shape must both speak for version 2.
fn inner_data(mut data: Vec<(String, Value)>, path: &str) -> Inner {
    let is_version_2 = path.split('/').skip(1).any(|part| part == "data")
        && data.len() == 2
        && data.iter().any(|(name, value)| {
            name == "metadata"
                && matches!(value, Value::Object(fields) if fields.iter().any(|(name, _)| name == "version"))
        });
    let position = data
        .iter()
        .position(|(name, _)| name == "data")
        .filter(|_| is_version_2);
    match position.map(|position| data.swap_remove(position).1) {
        Some(Value::Object(fields)) => Inner::OfVersion2(fields),
        Some(Value::Null) => Inner::Deleted,
        Some(other) => {
            data.push(("data".to_owned(), other));
            Inner::Fields(data)
        }
        None => Inner::Fields(data),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(json: &str, path: &str) -> Vec<String> {
        let Ok(Value::Object(data)) = serde_json::from_str(json) else {
            return Vec::new();
        };
        match inner_data(data, path) {
            Inner::Fields(fields) | Inner::OfVersion2(fields) => {
                fields.into_iter().map(|(name, _)| name).collect()
            }
            Inner::Deleted => vec!["deleted".to_owned()],
        }
    }

    // b28
    #[test]
    fn kv_version_2_is_known_by_path_and_shape() {
        let version_2 = r#"{"data":{"a":"1"},"metadata":{"version":3,"created_time":"x"}}"#;
        assert_eq!(names(version_2, "secret/data/timeline"), ["a"]);
        assert_eq!(names(version_2, "kv/timeline"), ["data", "metadata"]);
        assert_eq!(names(r#"{"data":"1"}"#, "kv/data/timeline"), ["data"]);
        assert_eq!(
            names(r#"{"data":{"a":"1"},"other":"2"}"#, "kv/data/timeline"),
            ["data", "other"]
        );
        assert_eq!(
            names(r#"{"data":null,"metadata":{"version":3}}"#, "secret/data/x"),
            ["deleted"]
        );
    }
}
