//! The items to fetch, and the files to make of them, as the manifest asks for them.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::file_template::FileTemplate;
use crate::manifest::Place;
use crate::template;
use crate::vault::Value;

/// One item to fetch, as the manifest asks for it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Spec<'a> {
    /// A certificate, whose key is made here.
    Certificate(&'a Certificate),
    /// The credential of a dependency.
    Credential(&'a Dependency),
}

impl<'a> Spec<'a> {
    /// Returns the name of the item, also in events and in `ANTEROOM_CHANGED`.
    pub(crate) fn name(self) -> &'a str {
        match self {
            Spec::Certificate(certificate) => certificate.name.as_str(),
            Spec::Credential(dependency) => &dependency.name,
        }
    }
}

/// The name of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateName {
    /// The certificate of `[certificate]`, whose files lie at the top of the secrets directory.
    Main,
    /// A certificate of `[certificates]`, whose files lie in a folder of this name.
    Further(String),
}

impl CertificateName {
    /// The name of the certificate of `[certificate]`.
    pub(crate) const MAIN: &'static str = "certificate";

    /// Returns the name in events and in `ANTEROOM_CHANGED`.
    pub(crate) fn as_str(&self) -> &str {
        self.folder().unwrap_or(Self::MAIN)
    }

    /// Returns the name of the certificate's table in the manifest.
    pub(crate) fn table(&self) -> String {
        match self {
            CertificateName::Main => Self::MAIN.to_owned(),
            CertificateName::Further(name) => format!("certificates.{name}"),
        }
    }

    /// Returns the folder of the certificate's files, unless they lie at the top.
    pub(crate) fn folder(&self) -> Option<&str> {
        match self {
            CertificateName::Main => None,
            CertificateName::Further(name) => Some(name),
        }
    }

    /// Returns the path of a file of this certificate.
    pub(crate) fn path_of(&self, file: &str) -> String {
        match self {
            CertificateName::Main => file.to_owned(),
            CertificateName::Further(name) => format!("{name}/{file}"),
        }
    }
}

impl fmt::Display for CertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CertificateName::Main => f.write_str("the certificate"),
            CertificateName::Further(name) => write!(f, "the certificate {name}"),
        }
    }
}

/// The values of a certificate that templates may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CertificateValue {
    /// The content of `tls.crt`.
    Chain,
    /// The content of `tls.key`.
    Key,
    /// The content of `ca.crt`.
    TrustAnchors,
    /// The content of `tls.pem`.
    KeyAndChain,
    /// The serial number, in colon-separated hexadecimal.
    SerialNumber,
    /// The end of the leaf's validity, as `status.json` has it.
    NotAfter,
}

impl CertificateValue {
    /// The values with their names in templates.
    pub(crate) const NAMES: [(&'static str, CertificateValue); 6] = [
        ("chain", CertificateValue::Chain),
        ("key", CertificateValue::Key),
        ("ca", CertificateValue::TrustAnchors),
        ("pem", CertificateValue::KeyAndChain),
        ("serial_number", CertificateValue::SerialNumber),
        ("not_after", CertificateValue::NotAfter),
    ];
}

/// A certificate to ask for.
#[derive(Debug, Clone)]
pub(crate) struct Certificate {
    /// The certificate's name.
    pub name: CertificateName,
    /// The mount of the PKI engine.
    pub mount: String,
    /// The role of the PKI engine.
    pub role: String,
    /// The subject's common name.
    pub common_name: String,
    /// Subject alternative names of type DNS; the common name is among them when it is a host name.
    pub dns_names: Vec<String>,
    /// Subject alternative names of type IP address.
    pub ip_addresses: Vec<IpAddr>,
    /// Subject alternative names of type URI.
    pub uris: Vec<String>,
    /// The life to ask for; without it the role decides.
    pub ttl: Option<Duration>,
    pub key_type: KeyType,
    /// The source of the trust anchors.
    pub trust_anchors: TrustAnchors,
    /// True where leaf and key are also written in DER.
    pub has_der: bool,
}

impl Certificate {
    /// Returns the name among `certificates` in templates, where a dash would be a minus.
    pub(crate) fn identifier(&self) -> String {
        template::identifier(self.name.as_str())
    }
}

/// The kinds of key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyType {
    /// An EC key on P-256, `ec-p256` in the manifest.
    EcP256,
    /// An EC key on P-384, `ec-p384` in the manifest.
    EcP384,
    /// An Ed25519 key, `ed25519` in the manifest.
    Ed25519,
    /// An RSA key of 2048 bits, `rsa-2048` in the manifest.
    Rsa2048,
    /// An RSA key of 3072 bits, `rsa-3072` in the manifest.
    Rsa3072,
    /// An RSA key of 4096 bits, `rsa-4096` in the manifest.
    Rsa4096,
}

impl KeyType {
    /// The kinds with their names in the manifest.
    pub(crate) const NAMES: [(&'static str, KeyType); 6] = [
        ("ec-p256", KeyType::EcP256),
        ("ec-p384", KeyType::EcP384),
        ("ed25519", KeyType::Ed25519),
        ("rsa-2048", KeyType::Rsa2048),
        ("rsa-3072", KeyType::Rsa3072),
        ("rsa-4096", KeyType::Rsa4096),
    ];

    /// Returns the name in the manifest.
    pub(crate) fn name(self) -> &'static str {
        Self::NAMES
            .iter()
            .find(|(_, known)| *known == self)
            .map_or("", |(name, _)| name)
    }
}

/// The source of the trust anchors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TrustAnchors {
    /// The self-signed certificates of the answer's chain, else its issuing CA.
    Answer,
    /// A PEM file in the image.
    File(PathBuf),
    /// A Vault path that answers PEM as `certificate`, `ca_chain` or `issuing_ca`.
    Path(String),
}

/// The Java stores.
#[derive(Debug, Clone)]
pub(crate) struct Java {
    /// The file name of the key store.
    pub keystore: String,
    /// The file name of the trust store.
    pub truststore: String,
    /// The encoding of the stores.
    pub profile: Profile,
    /// The trust store that `java.args` names.
    pub default_trust: DefaultTrust,
}

/// The trust stores that `java.args` may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DefaultTrust {
    /// The store of the certificate's own trust anchors.
    Anchors,
    /// The store of all that `[trust]` names, too.
    Bundle,
}

/// Encodings of a PKCS#12 store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// AES-256 and HMAC-SHA-256.
    Modern,
    /// Triple DES and HMAC-SHA-1, which JDKs before 8u301 read.
    Java8,
}

impl Profile {
    /// Returns the name in the manifest.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Profile::Modern => "modern",
            Profile::Java8 => "java8",
        }
    }

    /// Says what the encoding is, and which Java it is not for.
    pub(crate) fn limits(self) -> &'static str {
        match self {
            Profile::Modern => {
                "AES-256 and HMAC-SHA-256; Java before 8u301, and 11 before 11.0.12, cannot read it and needs `java8`"
            }
            Profile::Java8 => {
                "triple DES and SHA-1, which are weak; every Java from 8 on reads it, and from 8u301 and 11.0.12 on `modern` too"
            }
        }
    }
}

/// A dependency, whose credential is fetched.
#[derive(Debug, Clone)]
pub(crate) struct Dependency {
    /// The name of the dependency and of its directory.
    pub name: String,
    /// The Vault path of the credential.
    pub path: String,
    pub method: Method,
    /// The fields that must be there, and the only ones written; without them every field is written.
    pub fields: Option<Vec<String>>,
    /// The fields that are written too, where they come.
    pub optional_fields: Vec<&'static str>,
    /// The interval at which an answer without a lease is read again.
    pub refresh: Option<Duration>,
    /// True where the secret, or one of its fields, may be missing.
    pub is_optional: bool,
    /// The extra files.
    pub templates: Vec<FileTemplate>,
    /// The beginning of the names of variables, one for each field.
    pub env_prefix: Option<EnvPrefix>,
    /// The fields that a dry run uses in place of an answer.
    pub sample: Vec<(String, Value)>,
}

impl Dependency {
    /// Returns the name in templates, where a dash would be a minus.
    pub(crate) fn identifier(&self) -> String {
        template::identifier(&self.name)
    }

    /// Lists the fields that are known before there is an answer.
    pub(crate) fn known_fields(&self) -> impl Iterator<Item = &str> {
        let fields = self.fields.iter().flatten().map(String::as_str);
        fields.chain(self.optional_fields.iter().copied())
    }

    /// Says whether a field of the answer is written.
    pub(crate) fn is_wanted(&self, field: &str) -> bool {
        self.fields.is_none() || self.known_fields().any(|known| known == field)
    }

    /// Says whether an engine may lease its answers, as every engine other than KV version 2 may; a start refuses a lease
    /// where the manifest has `refresh`.
    pub(crate) fn may_have_lease(&self) -> bool {
        self.refresh.is_none() && !self.path.contains("/data/")
    }
}

/// The beginning of the names of a dependency's variables.
#[derive(Debug, Clone)]
pub(crate) struct EnvPrefix {
    pub text: String,
    /// The prefix's place in the manifest.
    pub place: Place,
}

impl EnvPrefix {
    /// Returns the name of a field's variable: in capitals, with `_` for what no variable's name has.
    pub(crate) fn variable(&self, field: &str) -> String {
        let fitting = |c: char| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_uppercase()
            } else {
                '_'
            }
        };
        let field = field.chars().map(fitting);
        self.text.chars().chain(field).collect()
    }
}

/// The method by which a Vault path is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Method {
    /// The request is a GET.
    Read,
    /// The request is a POST with these fields.
    Write(Vec<(String, String)>),
}
