//! The answer for each entry of the manifest, of which files are made.

use crate::certificate::Issued;
use crate::config::{Certificate, Dependency, Spec};
use crate::vault::Value;

/// The answer for one dependency, whatever engine gave it.
#[derive(Default)]
pub(crate) struct Credential {
    /// The names and values of the fields, none of them null.
    pub fields: Vec<(String, Value)>,
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

    /// Says whether an optional secret is not there; every other one has a field.
    pub(crate) fn is_absent(&self) -> bool {
        self.fields.is_empty()
    }

    /// Returns the value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&Value> {
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
