//! The end of an SSH certificate (OpenSSH's PROTOCOL.certkeys), of which nothing else is read.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The length of a certificate's serial number and of its kind, user or host.
const SERIAL_AND_KIND: usize = 8 + 4;

/// Reads the time from which a certificate is not valid any more, in seconds of Unix time; none where it is for ever, or
/// where the text is no certificate. `text` is a line as `ssh-keygen -s` writes one: type, base64, comment.
pub(super) fn valid_before(text: &str) -> Option<i64> {
    let mut words = text.split_ascii_whitespace();
    let (kind, body) = (words.next()?, words.next()?);
    let key_parts = key_parts(kind)?;
    let body = STANDARD.decode(body).ok()?;
    let mut rest = &body[..];
    if string(&mut rest)? != kind.as_bytes() {
        return None;
    }
    let _nonce = string(&mut rest)?;
    for _ in 0..key_parts {
        string(&mut rest)?;
    }
    rest = rest.get(SERIAL_AND_KIND..)?;
    let _key_id = string(&mut rest)?;
    let _principals = string(&mut rest)?;
    let _valid_after: [u8; 8] = *rest.split_off(..8)?.first_chunk()?;
    let valid_before = u64::from_be_bytes(*rest.first_chunk()?);
    i64::try_from(valid_before).ok()
}

/// Returns the number of strings that make the public key.
fn key_parts(kind: &str) -> Option<usize> {
    match kind.strip_suffix("-cert-v01@openssh.com")? {
        "ssh-ed25519" => Some(1),
        "ssh-rsa" | "sk-ssh-ed25519" => Some(2),
        "ecdsa-sha2-nistp256" | "ecdsa-sha2-nistp384" | "ecdsa-sha2-nistp521" => Some(2),
        "sk-ecdsa-sha2-nistp256" => Some(3),
        "ssh-dss" => Some(4),
        _ => None,
    }
}

/// Takes a string off the front: four bytes of length, then so many bytes (RFC 4251, section 5).
fn string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = u32::from_be_bytes(*rest.first_chunk()?);
    let end = usize::try_from(length).ok()?.checked_add(4)?;
    rest.split_off(..end)?.get(4..)
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::valid_before;

    /// Checks that an end which is found stands in the body itself, whatever follows.
    pub(crate) fn ssh_certificate(input: &[u8]) {
        let Ok(text) = std::str::from_utf8(input) else {
            return;
        };
        let Some(end) = valid_before(text) else {
            return;
        };
        assert!(end >= 0, "{end}");
        let mut words = text.split_ascii_whitespace();
        let (kind, body) = (words.next().expect("a type"), words.next().expect("a body"));
        let mut body = STANDARD.decode(body).expect("base64");
        let bytes = end.to_be_bytes();
        assert!(body.windows(8).any(|part| part == bytes), "{end}");
        body.extend([0xff; 16]);
        let longer = format!("{kind} {} a comment", STANDARD.encode(body));
        assert_eq!(valid_before(&longer), Some(end));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by OpenSSH 9.2 with `-V 20300101000000:20300102000000`.
    const MADE_BY_SSH_KEYGEN: &str = "ssh-ed25519-cert-v01@openssh.com AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29tAAAAIBOLhjtYEm0gs46IvIs7rtctbIw168nbIOzdXqOMGkcuAAAAIGZQYmezaU4sHOXmVoy53TkFAo6cRDSNeT5z4wENLTMvAAAAAAAAAAAAAAABAAAAAmlkAAAACgAAAAFhAAAAAWIAAAAAcNvYgAAAAABw3SoAAAAAAAAAAIIAAAAVcGVybWl0LVgxMS1mb3J3YXJkaW5nAAAAAAAAABdwZXJtaXQtYWdlbnQtZm9yd2FyZGluZwAAAAAAAAAWcGVybWl0LXBvcnQtZm9yd2FyZGluZwAAAAAAAAAKcGVybWl0LXB0eQAAAAAAAAAOcGVybWl0LXVzZXItcmMAAAAAAAAAAAAAADMAAAALc3NoLWVkMjU1MTkAAAAgoITn6/R53gRjM7BF7R+z/WXJqYLt4FAlGXK99+veMGgAAABTAAAAC3NzaC1lZDI1NTE5AAAAQAYdhMqO5Qr1+H1o7ikEn+p9y4xfIw6Ta4xgT+W2HboJvkCMM2wDpy2RmjU0tDOqwqYYPWd1+/x1bhy1+AP30wA=\n";

    fn string_of(bytes: &[u8]) -> Vec<u8> {
        let length = u32::try_from(bytes.len()).expect("it is short");
        [&length.to_be_bytes(), bytes].concat()
    }

    /// Makes the body of a certificate with so many parts of a key, as far as its end.
    fn body(kind: &str, key_parts: usize, valid_before: u64) -> Vec<u8> {
        let mut body = string_of(kind.as_bytes());
        body.extend(string_of(b"nonce"));
        for _ in 0..key_parts {
            body.extend(string_of(b"key"));
        }
        body.extend([0; 8 + 4]);
        body.extend(string_of(b"id"));
        body.extend(string_of(&string_of(b"user")));
        body.extend(1_u64.to_be_bytes());
        body.extend(valid_before.to_be_bytes());
        body
    }

    fn line(kind: &str, body: &[u8]) -> String {
        format!("{kind} {}", STANDARD.encode(body))
    }

    #[test]
    fn end_of_every_kind_of_certificate_is_read() {
        assert_eq!(valid_before(MADE_BY_SSH_KEYGEN), Some(1_893_542_400));
        for (key, key_parts) in [
            ("ssh-ed25519", 1),
            ("ssh-rsa", 2),
            ("ecdsa-sha2-nistp256", 2),
            ("ecdsa-sha2-nistp384", 2),
            ("ecdsa-sha2-nistp521", 2),
            ("sk-ssh-ed25519", 2),
            ("sk-ecdsa-sha2-nistp256", 3),
            ("ssh-dss", 4),
        ] {
            let kind = format!("{key}-cert-v01@openssh.com");
            let whole = body(&kind, key_parts, 1_893_456_000);
            let text = line(&kind, &whole);
            assert_eq!(valid_before(&text), Some(1_893_456_000), "{kind}");
            for length in 0..whole.len() {
                let cut = line(&kind, &whole[..length]);
                assert_eq!(valid_before(&cut), None, "{kind}, {length} bytes");
            }
        }
    }

    #[test]
    fn text_without_an_end_or_a_certificate_names_none() {
        let kind = "ssh-ed25519-cert-v01@openssh.com";
        let whole = body(kind, 1, 1_893_456_000);
        let mut too_long = whole.clone();
        too_long[..4].copy_from_slice(&u32::MAX.to_be_bytes());
        for text in [
            String::new(),
            kind.to_owned(),
            format!("{kind} not-base64"),
            line(kind, &body(kind, 1, u64::MAX)),
            line(kind, &too_long),
            line("ssh-rsa-cert-v01@openssh.com", &whole),
            line("ssh-ed25519", &whole),
            line("ssh-new-cert-v01@openssh.com", &whole),
        ] {
            assert_eq!(valid_before(&text), None, "{text}");
        }
    }
}
