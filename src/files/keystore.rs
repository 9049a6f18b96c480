//! The two PKCS#12 stores that Java reads (RFC 7292), and the options that point it to them.

use p12_keystore::{
    Certificate, EncryptionAlgorithm, KeyStore, KeyStoreEntry, MacAlgorithm, PrivateKey,
    PrivateKeyChain,
};

use rustls::pki_types::CertificateDer;

use super::{Error, File, bytes, file};
use crate::certificate::Issued;
use crate::config::layout::{Entry, JAVA_BUNDLE, JavaPart};
use crate::config::{CertificateName, DefaultTrust, Java, Profile};
use crate::secret::Secret;

/// Rounds of key derivation. The password is random and lies beside the stores, so rounds protect nothing: they only
/// cost time, here and in Java at every load. 1000 is the least that readers in FIPS mode accept (NIST SP 800-132).
const ROUNDS: u32 = 1000;

/// The stores of a certificate.
pub(super) struct Stores<'a> {
    /// The certificate with its key.
    pub(super) issued: &'a Issued,
    /// The certificate's name.
    pub(super) certificate: &'a CertificateName,
    /// The alias of the key.
    pub(super) alias: &'a str,
    /// The names of the stores, and their encoding.
    pub(super) java: &'a Java,
    /// The path of the secrets directory, as readers use it.
    pub(super) secrets_dir: &'a str,
    /// The password of both stores.
    pub(super) password: &'a Secret,
}

impl Stores<'_> {
    /// Renders the stores, and the files by which Java finds and opens them.
    pub(super) fn files(&self, entries: Vec<Entry<JavaPart>>) -> Result<Vec<File>, Error> {
        let encoded = |store: KeyStore| encode(&store, self.java.profile, self.password);
        let files = entries.into_iter().map(|entry| {
            let contents = match entry.source {
                JavaPart::KeyStore => encoded(keystore(self.issued, self.alias)?)?,
                JavaPart::TrustStore => encoded(truststore(&self.issued.trust_anchors)?)?,
                JavaPart::Password => bytes(self.password),
                JavaPart::Arguments => self.arguments(),
            };
            Ok(file(entry, contents))
        });
        files.collect()
    }

    /// Builds the system properties for `JDK_JAVA_OPTIONS=@file`: Java prints that variable, but not what the file holds.
    fn arguments(&self) -> Secret<Vec<u8>> {
        let own = |file| self.certificate.path_of(file);
        let trusted = match self.java.default_trust {
            DefaultTrust::Anchors => own(&self.java.truststore),
            DefaultTrust::Bundle => JAVA_BUNDLE.to_owned(),
        };
        let before_password = [
            ("keyStore", own(&self.java.keystore)),
            ("trustStore", trusted),
        ]
        .map(|(property, file)| {
            let path = format!("{}/{file}", self.secrets_dir);
            let path = quoted(&format!("-Djavax.net.ssl.{property}={path}"));
            format!(
                "{path}\n-Djavax.net.ssl.{property}Type=PKCS12\n-Djavax.net.ssl.{property}Password="
            )
        });
        with_password(&before_password, self.password)
    }
}

/// Writes the password and a line end behind each part, in memory that never has to grow: growing would leave a copy
/// of the password behind.
fn with_password(parts: &[String], password: &Secret) -> Secret<Vec<u8>> {
    let password = password.expose();
    let length = parts.iter().map(|part| part.len() + password.len() + 1);
    let mut text = Vec::with_capacity(length.sum());
    for part in parts {
        text.extend_from_slice(part.as_bytes());
        text.extend_from_slice(password.as_bytes());
        text.push(b'\n');
    }
    Secret::new(text)
}

fn keystore(issued: &Issued, app: &str) -> Result<KeyStore, Error> {
    let key = PrivateKey::from_der(issued.private_key.expose()).map_err(failed)?;
    let chain = issued.chain.iter().map(|der| certificate(der));
    let chain = PrivateKeyChain::new(app, key, chain.collect::<Result<Vec<_>, _>>()?);
    let mut store = KeyStore::new();
    store.add_entry(app, KeyStoreEntry::PrivateKeyChain(chain));
    Ok(store)
}

/// Renders the store of all that is trusted.
pub(super) fn bundle(
    trusted: &[CertificateDer<'static>],
    java: &Java,
    password: &Secret,
) -> Result<Secret<Vec<u8>>, Error> {
    encode(&truststore(trusted)?, java.profile, password)
}

fn truststore(trusted: &[CertificateDer<'static>]) -> Result<KeyStore, Error> {
    let mut store = KeyStore::new();
    for (index, der) in trusted.iter().enumerate() {
        // Entries under one alias would replace one another.
        let alias = format!("ca-{}", index + 1);
        store.add_entry(&alias, KeyStoreEntry::Certificate(certificate(der)?));
    }
    Ok(store)
}

fn certificate(der: &[u8]) -> Result<Certificate, Error> {
    Certificate::from_der(der).map_err(failed)
}

fn failed(error: p12_keystore::error::Error) -> Error {
    Error::KeyStore {
        reason: error.to_string(),
    }
}

fn encode(store: &KeyStore, profile: Profile, password: &Secret) -> Result<Secret<Vec<u8>>, Error> {
    let (encryption, mac) = match profile {
        Profile::Modern => (
            EncryptionAlgorithm::PbeWithHmacSha256AndAes256,
            MacAlgorithm::HmacSha256,
        ),
        Profile::Java8 => (
            EncryptionAlgorithm::PbeWithShaAnd3KeyTripleDesCbc,
            MacAlgorithm::HmacSha1,
        ),
    };
    store
        .writer(password.expose())
        .encryption_algorithm(encryption)
        .encryption_iterations(ROUNDS)
        .mac_algorithm(mac)
        .mac_iterations(ROUNDS)
        .write()
        .map(Secret::new)
        .map_err(failed)
}

/// Quotes an argument as the java launcher reads its argument files: quotes around what holds a blank, a backslash
/// before a backslash.
fn quoted(argument: &str) -> String {
    if argument.contains([' ', '\t', '#', '\'', '"', '\\']) {
        format!(
            "\"{}\"",
            argument.replace('\\', "\\\\").replace('"', "\\\"")
        )
    } else {
        argument.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_with_a_password_never_has_to_grow() {
        let parts = ["a=".to_owned(), "b".repeat(3000)];
        let password = Secret::new("password".to_owned());
        let text = with_password(&parts, &password);
        let expected = format!("a=password\n{}password\n", parts[1]);
        assert_eq!(text.expose(), expected.as_bytes());
        assert_eq!(text.expose().capacity(), expected.len());
    }

    #[test]
    fn arguments_with_blanks_are_quoted() {
        assert_eq!(quoted("-Da=/run/secrets/k.p12"), "-Da=/run/secrets/k.p12");
        assert_eq!(quoted("-Da=/my \"dir\"\\k"), "\"-Da=/my \\\"dir\\\"\\\\k\"");
    }
}
