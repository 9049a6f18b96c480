//! The values that the templates of a start may use: labels, variables, the directory and the credentials.

use std::collections::BTreeMap;
use std::sync::Arc;

use minijinja::value::Object;

use super::status::rfc3339;
use super::{Access, Credential, Material, sample};
use crate::certificate::Issued;
use crate::config::layout::{JAVA_BUNDLE, has_java_arguments};
use crate::config::{Certificate, CertificateName, CertificateValue, Config, Java, SECRETS_DIR};
use crate::environment::TOKEN_VARIABLES;
use crate::pem;
use crate::secret::Secret;
use crate::template::{self, RESERVED, Value, Values, table};
use crate::vault;

/// The values that all templates of a start may use.
pub(super) struct Scope(Values);

impl Scope {
    /// Collects the labels, the environment without tokens, the secrets directory, the certificates, the Java stores, and
    /// each dependency under its identifier.
    pub(super) fn new(config: &Config, materials: &[&Material<'_>], access: &Access<'_>) -> Scope {
        let mut certificates = Vec::new();
        for material in materials {
            if let Material::Certificate { spec, issued } = material {
                let text = |value| Value::from(of_certificate(issued, value).expose().as_str());
                certificates.push((*spec, text_map(text)));
            }
        }
        Scope::with(config, certificates, materials, access)
    }

    /// Collects the same before there is a certificate, with samples in their place.
    pub(super) fn rehearsed(config: &Config, credentials: &[&Material<'_>]) -> Scope {
        let certificates = config.certificates.iter();
        let certificates = certificates.map(|spec| (spec, text_map(sample::of_certificate)));
        let password = Secret::new("sample-password".to_owned());
        let access = Access {
            secrets_dir: SECRETS_DIR,
            store_password: config.java.as_ref().map(|_| &password),
            has_stores: false,
        };
        Scope::with(config, certificates.collect(), credentials, &access)
    }

    fn with(
        config: &Config,
        certificates: Vec<(&Certificate, Value)>,
        materials: &[&Material<'_>],
        access: &Access<'_>,
    ) -> Scope {
        let mut values = BTreeMap::new();
        values.insert("app".to_owned(), Value::from(config.app.as_str()));
        values.insert(
            "environment".to_owned(),
            Value::from(config.environment.as_str()),
        );
        values.insert("secrets_dir".to_owned(), Value::from(access.secrets_dir));
        let environment: BTreeMap<String, Value> = config
            .received
            .without_tokens()
            .filter_map(|(name, value)| {
                Some((name.to_str()?.to_owned(), Value::from(value.to_str()?)))
            })
            .collect();
        values.insert("env".to_owned(), table(environment));
        let mut further = BTreeMap::new();
        for (spec, texts) in certificates {
            match spec.name {
                CertificateName::Main => {
                    values.insert(template::CERTIFICATE.to_owned(), texts);
                }
                CertificateName::Further(_) => {
                    further.insert(spec.identifier(), texts);
                }
            }
        }
        if !further.is_empty() {
            values.insert(template::CERTIFICATES.to_owned(), table(further));
        }
        if let (Some(java), Some(password)) = (&config.java, access.store_password) {
            let java = table(java_values(config, java, password, access.secrets_dir));
            values.insert(template::JAVA.to_owned(), java);
        }
        let mut of_presets =
            BTreeMap::from([("secrets_dir".to_owned(), Value::from(access.secrets_dir))]);
        of_presets.extend(access.store_password.map(|password| {
            let password = Value::from(password.expose().as_str());
            ("store_password".to_owned(), password)
        }));
        values.insert(template::OF_PRESETS.to_owned(), table(of_presets));
        // Last, so that a dependency keeps its name.
        for material in materials {
            if let Material::Credential { spec, credential } = material {
                values.insert(spec.identifier(), table(fields(credential)));
            }
        }
        Scope(Values(values))
    }

    /// Says whether the value of a name is the same in every start of this container, unlike a credential's.
    pub(super) fn is_plain(&self, name: &str) -> bool {
        RESERVED.contains(&name)
    }

    /// Sets every variable, for a look at templates where those of the container are not known.
    pub(super) fn invent_variables(&mut self) {
        let any = Value::from_object(AnyVariable);
        self.0.0.insert("env".to_owned(), any);
    }

    /// Returns everything, for a variable.
    pub(super) fn all(&self) -> &Values {
        &self.0
    }

    /// Returns everything for a file of one dependency, its own fields also without the dependency's name before them.
    pub(super) fn within(&self, credential: &Credential) -> Values {
        let mut values = self.0.0.clone();
        let mut fields = fields(credential);
        fields.remove(template::OF_PRESETS);
        values.extend(fields);
        Values(values)
    }
}

/// Makes a value of the texts of a certificate.
fn text_map(text: impl Fn(CertificateValue) -> Value) -> Value {
    let texts = CertificateValue::NAMES.map(|(name, value)| (name.to_owned(), text(value)));
    table(BTreeMap::from(texts))
}

fn of_certificate(issued: &Issued, value: CertificateValue) -> Secret {
    let pem = match value {
        CertificateValue::Chain => Secret::new(pem::certificates(&issued.chain)),
        CertificateValue::Key => pem::private_key(&issued.private_key),
        CertificateValue::TrustAnchors => Secret::new(pem::certificates(&issued.trust_anchors)),
        CertificateValue::KeyAndChain => {
            pem::private_key_and_chain(&issued.private_key, &issued.chain)
        }
        CertificateValue::SerialNumber => return Secret::new(issued.serial_number.clone()),
        CertificateValue::NotAfter => return Secret::new(rfc3339(issued.not_after)),
    };
    Secret::new(String::from_utf8_lossy(pem.expose()).into_owned())
}

/// The paths of the certificate's stores and of the bundle, and the password of all stores.
fn java_values(
    config: &Config,
    java: &Java,
    password: &Secret,
    secrets_dir: &str,
) -> BTreeMap<String, Value> {
    let password = Value::from(password.expose().as_str());
    let mut values = BTreeMap::from([("password".to_owned(), password)]);
    let certificates = &config.certificates;
    let is_named = |one: &&Certificate| has_java_arguments(&one.name, certificates.len());
    if let Some(certificate) = certificates.iter().find(is_named) {
        for (name, file) in [
            ("keystore", &java.keystore),
            ("truststore", &java.truststore),
        ] {
            let path = format!("{secrets_dir}/{}", certificate.name.path_of(file));
            values.insert(name.to_owned(), Value::from(path));
        }
    }
    if config.trust.is_some() {
        let path = format!("{secrets_dir}/{JAVA_BUNDLE}");
        values.insert("bundle".to_owned(), Value::from(path));
    }
    values
}

fn fields(credential: &Credential) -> BTreeMap<String, Value> {
    credential
        .fields
        .iter()
        .map(|(name, field)| (name.clone(), value(field)))
        .collect()
}

/// Makes a template's value of an answer's.
fn value(field: &vault::Value) -> Value {
    match field {
        vault::Value::Null => Value::from(()),
        vault::Value::Bool(is_true) => Value::from(*is_true),
        vault::Value::Number(number) => template::number(number).unwrap_or_default(),
        vault::Value::Text(text) => Value::from(text.expose().as_str()),
        vault::Value::List(items) => template::list(items.iter().map(value).collect()),
        vault::Value::Object(members) => {
            let members = members.iter();
            template::object(
                members
                    .map(|(name, member)| (name.clone(), value(member)))
                    .collect(),
            )
        }
    }
}

/// An environment in which each variable has its own name for a value.
#[derive(Debug)]
struct AnyVariable;

impl Object for AnyVariable {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let name = key.as_str()?;
        (!TOKEN_VARIABLES.contains(&name)).then(|| Value::from(name.to_lowercase()))
    }
}
