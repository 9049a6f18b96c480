//! The two PKCS#12 stores that Java reads (RFC 7292), and the options that point it to them.

use p12_keystore::{
    Certificate, EncryptionAlgorithm, KeyStore, KeyStoreEntry, MacAlgorithm, PrivateKey,
    PrivateKeyChain,
};

use super::{Access, Error, File, bytes, private};
use crate::certificate::Issued;
use crate::config::{Config, Java, Profile, file};
use crate::secret::Secret;

/// Rounds of key derivation. The password is random and lies beside the stores, so rounds protect nothing: they only
/// cost time, here and in Java at every load. 1000 is the least that readers in FIPS mode accept (NIST SP 800-132).
const ROUNDS: u32 = 1000;

/// Both stores, encoded.
struct Stores {
    /// The key with its chain.
    keystore: Secret<Vec<u8>>,
    /// The trust anchors.
    truststore: Secret<Vec<u8>>,
}

/// Renders the stores, and what Java needs to open them; nothing where the manifest has no `[java]`.
pub(super) fn files(
    issued: &Issued,
    config: &Config,
    access: &Access<'_>,
) -> Result<Vec<File>, Error> {
    let (Some(java), Some(password)) = (&config.java, access.store_password) else {
        return Ok(Vec::new());
    };
    let stores = encode(issued, &config.app, password, java.profile)?;
    let arguments = java_arguments(java, access.secrets_dir, password);
    Ok(vec![
        private(&java.keystore, stores.keystore),
        private(&java.truststore, stores.truststore),
        private(file::STORE_PASSWORD, bytes(password)),
        private(file::JAVA_ARGUMENTS, arguments),
    ])
}

/// Encodes both stores; the key's alias is `app`, the anchors' are `ca-1`, `ca-2`, …
fn encode(
    issued: &Issued,
    app: &str,
    password: &Secret,
    profile: Profile,
) -> Result<Stores, Error> {
    let failed = |error: p12_keystore::error::Error| Error::KeyStore {
        reason: error.to_string(),
    };
    let read = |der: &[u8]| Certificate::from_der(der).map_err(failed);

    let key = PrivateKey::from_der(issued.private_key.expose()).map_err(failed)?;
    let chain = issued
        .chain
        .iter()
        .map(|der| read(der))
        .collect::<Result<Vec<_>, _>>()?;
    let mut keystore = KeyStore::new();
    keystore.add_entry(
        app,
        KeyStoreEntry::PrivateKeyChain(PrivateKeyChain::new(app, key, chain)),
    );

    let mut truststore = KeyStore::new();
    for (index, der) in issued.trust_anchors.iter().enumerate() {
        // Entries under one alias would replace one another.
        truststore.add_entry(
            &format!("ca-{}", index + 1),
            KeyStoreEntry::Certificate(read(der)?),
        );
    }
    let write = |store: &KeyStore| {
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
    };
    Ok(Stores {
        keystore: write(&keystore)?,
        truststore: write(&truststore)?,
    })
}

/// Builds the system properties for `JDK_JAVA_OPTIONS=@file`: Java prints that variable, but not what the file holds.
fn java_arguments(java: &Java, secrets_dir: &str, password: &Secret) -> Secret<Vec<u8>> {
    let mut text = String::with_capacity(1024 + 2 * secrets_dir.len());
    for (property, file) in [
        ("keyStore", &java.keystore),
        ("trustStore", &java.truststore),
    ] {
        let path = quoted(&format!("-Djavax.net.ssl.{property}={secrets_dir}/{file}"));
        text.push_str(&path);
        text.push_str(&format!(
            "\n-Djavax.net.ssl.{property}Type=PKCS12\n-Djavax.net.ssl.{property}Password="
        ));
        text.push_str(password.expose());
        text.push('\n');
    }
    Secret::new(text.into_bytes())
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
    fn arguments_with_blanks_are_quoted() {
        assert_eq!(quoted("-Da=/run/secrets/k.p12"), "-Da=/run/secrets/k.p12");
        assert_eq!(quoted("-Da=/my \"dir\"\\k"), "\"-Da=/my \\\"dir\\\"\\\\k\"");
    }
}
