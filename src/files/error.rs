//! The reasons why nothing could be rendered.

use std::fmt;

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
    /// A field cannot become a variable.
    Variable {
        dependency: String,
        field: String,
        /// The name of the variable.
        name: String,
        /// The obstacle, without any value.
        reason: &'static str,
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
            Error::Variable {
                dependency,
                field,
                name,
                reason,
            } => write!(
                f,
                "the field `{}` of dependency {dependency} cannot be the variable {name}: {reason}",
                field.escape_default()
            ),
            Error::KeyStore { reason } => write!(f, "cannot write the Java stores: {reason}"),
        }
    }
}

impl std::error::Error for Error {}
