//! The stores in which Java keeps the CAs that it trusts: JKS and PKCS#12, read only.

use p12_keystore::Pkcs12Archive;
use rustls::pki_types::CertificateDer;
use sha1::{Digest, Sha1};

/// The password of every JVM's own store. It is public, and guards against accidents alone.
const PASSWORD: &str = "changeit";

/// The text that Java hashes between the password and the content.
const SALT: &[u8] = b"Mighty Aphrodite";
/// The bytes of the digest at the end.
const DIGEST: usize = 20;

const PRIVATE_KEY: &str = "it holds a private key; take that out of the image";

/// The trusted certificates, or what is wrong with the store.
type Certificates = Result<Vec<CertificateDer<'static>>, String>;

/// Reads the certificates that a store trusts.
pub(super) fn read(bytes: &[u8]) -> Certificates {
    let fault = match bytes {
        [0xfe, 0xed, 0xfe, 0xed, ..] => return jks(bytes),
        [0x30, ..] => return pkcs12(bytes),
        [0xce, 0xce, 0xce, 0xce, ..] => {
            "it is JCEKS; convert it with `keytool -importkeystore -deststoretype pkcs12`"
        }
        [] => "it is empty",
        _ if bytes.starts_with(b"-----BEGIN ") => "it is PEM; name it in `files`",
        _ => "it is neither JKS nor PKCS#12",
    };
    Err(fault.to_owned())
}

fn jks(store: &[u8]) -> Certificates {
    let (content, found) = store.split_at(store.len().saturating_sub(DIGEST));
    if digest(content) != found {
        return Err(format!(
            "its digest is wrong: it is damaged, or its password is not `{PASSWORD}`"
        ));
    }
    let behind_magic = content.get(4..).unwrap_or_default();
    let damaged = || Err("its digest is right, but it is no sound JKS".to_owned());
    Jks(behind_magic).trusted().unwrap_or_else(damaged)
}

/// Computes the digest of a JKS store's content, which stands at its end.
pub(super) fn digest(content: &[u8]) -> [u8; DIGEST] {
    let mut hash = Sha1::new();
    for unit in PASSWORD.encode_utf16() {
        hash.update(unit.to_be_bytes());
    }
    hash.update(SALT);
    hash.update(content);
    hash.finalize().into()
}

/// The content of a JKS store that is not read yet.
struct Jks<'a>(&'a [u8]);

impl<'a> Jks<'a> {
    /// Reads all entries behind the first number; none where the content ends too early or goes on.
    fn trusted(mut self) -> Option<Certificates> {
        let version = self.number()?;
        if !(1..=2).contains(&version) {
            return Some(Err(format!("it is JKS of version {version}, not 1 or 2")));
        }
        let count = self.number()?;
        let mut certificates = Vec::new();
        for _ in 0..count {
            let tag = self.number()?;
            match tag {
                1 => return Some(Err(PRIVATE_KEY.to_owned())),
                2 => {}
                _ => return None,
            }
            self.text()?; // the alias
            self.take(8)?; // its date
            if version == 2 && self.text()? != b"X.509" {
                return Some(Err("it holds a certificate that is not X.509".to_owned()));
            }
            let length = self.number()?;
            let der = self.take(usize::try_from(length).ok()?)?;
            certificates.push(der.to_vec().into());
        }
        self.0.is_empty().then_some(Ok(certificates))
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u32> {
        let bytes = self.take(4)?.try_into().ok()?;
        Some(u32::from_be_bytes(bytes))
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.take(2)?.try_into().ok()?;
        self.take(usize::from(u16::from_be_bytes(length)))
    }
}

/// Reads PKCS#12: with the password, or without any password and digest, as JDKs have it since 18.
fn pkcs12(bytes: &[u8]) -> Certificates {
    let archive = Pkcs12Archive::from_pkcs12(bytes, PASSWORD).map_err(|error| {
        format!("it cannot be read as PKCS#12 with the password `{PASSWORD}`: {error}")
    })?;
    if !archive.keys.is_empty() || !archive.secrets.is_empty() {
        return Err(PRIVATE_KEY.to_owned());
    }
    // The others are in the store without being trusted, for Java as well.
    let trusted = archive.certs.iter().filter(|bag| bag.trusted);
    Ok(trusted
        .map(|bag| bag.cert.as_der().to_vec().into())
        .collect())
}
