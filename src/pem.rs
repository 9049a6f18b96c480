//! PEM (RFC 7468): read from answers and files, written for the application.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject, SectionKind};
use zeroize::Zeroizing;

use crate::secret::Secret;

/// Encodes certificates, one after another.
pub(crate) fn certificates(chain: &[CertificateDer<'static>]) -> Vec<u8> {
    let mut pem = Vec::new();
    for certificate in chain {
        pem.extend_from_slice(encoded("CERTIFICATE", certificate).as_bytes());
    }
    pem
}

/// Encodes a private key that is PKCS#8.
pub(crate) fn private_key(pkcs8: &Secret<Vec<u8>>) -> Secret<Vec<u8>> {
    Secret::new(encoded("PRIVATE KEY", pkcs8.expose()).as_bytes().to_vec())
}

/// Encodes a private key that is PKCS#8, then its certificates.
pub(crate) fn private_key_and_chain(
    pkcs8: &Secret<Vec<u8>>,
    chain: &[CertificateDer<'static>],
) -> Secret<Vec<u8>> {
    let (key, chain) = (private_key(pkcs8), certificates(chain));
    Secret::new([key.expose().as_slice(), &chain].concat())
}

/// The contents of a text that should hold certificates.
pub(crate) struct Found {
    /// The certificates, in their order; text around them, line ends and a missing last newline do not matter.
    pub certificates: Vec<CertificateDer<'static>>,
    /// True where the text also holds a private key.
    pub has_private_key: bool,
}

/// Reads all sections of a PEM text.
pub(crate) fn read(text: &[u8]) -> Result<Found, String> {
    let mut found = Found {
        certificates: Vec::new(),
        has_private_key: false,
    };
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text) {
        let (kind, der) = section.map_err(|error| fault(&error).to_owned())?;
        match kind {
            SectionKind::Certificate => found.certificates.push(der.into()),
            SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey => {
                drop(Zeroizing::new(der));
                found.has_private_key = true;
            }
            _ => {}
        }
    }
    Ok(found)
}

/// Names the fault of a PEM text. The library's own words quote a line, and a key that has lost its line breaks is one
/// line.
fn fault(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => {
            "a PEM section has no END line; has it lost its line breaks?"
        }
        pem::Error::IllegalSectionStart { .. } => {
            "a PEM section's BEGIN line goes on; has it lost its line breaks?"
        }
        pem::Error::Base64Decode(_) => "a PEM section is not base64",
        _ => "a PEM section cannot be read",
    }
}

fn encoded(label: &str, der: &[u8]) -> Zeroizing<String> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    // 48 bytes are one line of 64 characters. The buffer never grows, so no copy of a key is left behind.
    let mut pem = Zeroizing::new(String::with_capacity(
        der.len() * 4 / 3 + der.len() / 48 + 2 * label.len() + 64,
    ));
    pem.push_str("-----BEGIN ");
    pem.push_str(label);
    pem.push_str("-----\n");
    for line in der.chunks(48) {
        for group in line.chunks(3) {
            let bits = group
                .iter()
                .fold(0, |bits, &byte| bits << 8 | u32::from(byte))
                << (8 * (3 - group.len()));
            for position in 0..4 {
                let index = (bits >> (18 - 6 * position) & 63) as usize;
                pem.push(if position > group.len() {
                    '='
                } else {
                    ALPHABET[index].into()
                });
            }
        }
        pem.push('\n');
    }
    pem.push_str("-----END ");
    pem.push_str(label);
    pem.push_str("-----\n");
    pem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_pem_can_be_read_back() {
        for length in [1_usize, 2, 3, 47, 48, 49, 1000] {
            let der: Vec<u8> = (0..length).map(|n| (n * 7 % 256) as u8).collect();
            let pem = certificates(&[der.clone().into()]);
            assert!(
                std::str::from_utf8(&pem)
                    .expect("ascii")
                    .lines()
                    .all(|line| line.len() <= 64)
            );
            let found = read(&pem).expect("pem");
            assert_eq!(found.certificates, [CertificateDer::from(der)]);
        }
    }

    // b45
    #[test]
    fn pem_is_read_despite_text_around_and_other_line_ends() {
        let pem = String::from_utf8(certificates(&[vec![1; 60].into(), vec![2; 3].into()]))
            .expect("ascii");
        let odd = format!("subject=x\r\n{}", pem.trim_end().replace('\n', "\r\n"));
        assert_eq!(read(odd.as_bytes()).expect("pem").certificates.len(), 2);
    }

    // b19
    #[test]
    fn private_key_among_certificates_is_noticed() {
        let pem = private_key(&Secret::new(vec![1, 2, 3]));
        assert!(read(pem.expose()).expect("pem").has_private_key);
    }

    #[test]
    fn text_that_cannot_be_read_is_refused_without_its_content() {
        let key = "TUlJRXNlY3JldA==";
        for (what, text, words) in [
            (
                "a key on one line",
                format!("-----BEGIN PRIVATE KEY----- {key} -----END PRIVATE KEY-----\n"),
                "a PEM section has no END line; has it lost its line breaks?",
            ),
            (
                "a key that is cut off",
                format!("-----BEGIN PRIVATE KEY-----\n{key}\n"),
                "a PEM section has no END line; has it lost its line breaks?",
            ),
            (
                "a key on one line that is cut off",
                format!("-----BEGIN PRIVATE KEY----- {key}\n"),
                "a PEM section's BEGIN line goes on; has it lost its line breaks?",
            ),
            (
                "a key with a sign too many",
                format!("-----BEGIN PRIVATE KEY-----\n{key}?\n-----END PRIVATE KEY-----\n"),
                "a PEM section is not base64",
            ),
        ] {
            let refusal = read(text.as_bytes()).err();
            assert_eq!(refusal.as_deref(), Some(words), "{what}");
        }
    }
}
