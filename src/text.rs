//! The texts that may become a URL, a Vault path, a file name or a duration.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::spelling::meant;

/// The address at which Vault answers: scheme, host and port, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// True for TLS.
    pub https: bool,
    /// The host: a name or an IP address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Address {
    /// Reads a URL; a trailing slash is dropped, a path or user info is refused.
    pub fn parse(text: &str) -> Result<Address, String> {
        let (scheme, rest) = text
            .split_once("://")
            .ok_or("an address needs a scheme, as in https://vault.example.io:8200")?;
        let https = match scheme {
            "https" => true,
            "http" => false,
            other => {
                return Err(format!(
                    "the scheme `{}` is not https",
                    other.escape_default()
                ));
            }
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains('@') {
            return Err("an address must not hold a user or password".to_owned());
        }
        if authority.contains(['/', '?', '#']) {
            return Err("an address must not have a path; Vault's API is at the root".to_owned());
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']').ok_or("`[` without `]`")?;
                if !matches!(host.parse(), Ok(IpAddr::V6(_))) {
                    return Err("between brackets stands no IPv6 address".to_owned());
                }
                (
                    host,
                    rest.strip_prefix(':')
                        .or(rest.is_empty().then_some(""))
                        .ok_or("after `]` comes `:` and the port")?,
                )
            }
            None => authority.split_once(':').unwrap_or((authority, "")),
        };
        let port = match port {
            "" if authority.ends_with(':') => {
                return Err("the port is missing after `:`".to_owned());
            }
            "" if https => 443,
            "" => 80,
            text => text
                .parse()
                .ok()
                .filter(|&port| port > 0)
                .ok_or("the port is not a number from 1 to 65535")?,
        };
        // The C library would complete such a number, and no certificate bears it.
        if host.parse::<IpAddr>().is_err() && has_numeric_end(host) {
            return Err(format!("{host} is not an IP address in full"));
        }
        if host.parse::<IpAddr>().is_err() && !is_host_name(host) {
            return Err("the host is neither a name nor an IP address".to_owned());
        }
        Ok(Address {
            https,
            host: host.to_ascii_lowercase(),
            port,
        })
    }

    /// Says whether the address can only be this machine.
    pub fn is_loopback(&self) -> bool {
        match self.host.parse::<IpAddr>() {
            Ok(ip) => ip.is_loopback(),
            Err(_) => self.host == "localhost",
        }
    }

    /// Formats the URL, without a trailing slash.
    pub fn url(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        if self.host.contains(':') {
            format!("{scheme}://[{}]:{}", self.host, self.port)
        } else {
            format!("{scheme}://{}:{}", self.host, self.port)
        }
    }
}

/// Says whether a host name ends in a number, in any of its forms, which no top-level domain does.
fn has_numeric_end(host: &str) -> bool {
    host.rsplit('.').next().is_some_and(|label| {
        let digits = label.strip_prefix("0x").or(label.strip_prefix("0X"));
        match digits {
            Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
            None => !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_digit()),
        }
    })
}

/// Returns the host of a URL without the brackets that an IPv6 address has there; brackets elsewhere are a part of the name.
pub(crate) fn without_brackets(host: &str) -> &str {
    let inner = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    match inner {
        Some(address) if address.parse::<Ipv6Addr>().is_ok() => address,
        _ => host,
    }
}

/// Says whether a text is a DNS name (RFC 1123, and `_`); a leading `*.` is the caller's.
pub(crate) fn is_host_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 253
        && name.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
        })
}

/// Reads a Vault path without `/v1/`, such as `database/creds/timeline`.
pub(crate) fn vault_path(text: &str) -> Result<String, String> {
    if text.starts_with('/') || text.starts_with("v1/") {
        return Err("a Vault path begins with its mount, without `/` or `/v1/`".to_owned());
    }
    // Vault answers such paths with a redirect to another one, or with the secret of another service.
    if text
        .split('/')
        .any(|segment| segment.is_empty() || segment == ".." || segment == ".")
    {
        return Err("a Vault path has no empty, `.` or `..` part".to_owned());
    }
    if text.ends_with('.') {
        return Err("a Vault path does not end in a dot".to_owned());
    }
    if !text
        .chars()
        .all(|c| c.is_ascii_graphic() && !"?#%\\\"<>`{}|^".contains(c))
    {
        return Err(
            "a Vault path holds only ASCII characters that need no escaping in a URL".to_owned(),
        );
    }
    Ok(text.to_owned())
}

/// Reads one part of a Vault path, such as the name of a role.
pub(crate) fn path_segment(text: &str) -> Result<String, String> {
    if text.contains('/') {
        Err("a role's name holds no `/`".to_owned())
    } else {
        vault_path(text)
    }
}

/// Reads a namespace, without the slashes around it; none for the root namespace.
pub(crate) fn namespace(text: &str) -> Result<Option<String>, String> {
    let text = text.trim_matches('/');
    if text.is_empty() || text == "root" {
        return Ok(None);
    }
    vault_path(text)
        .map(Some)
        .map_err(|error| error.replace("Vault path", "namespace"))
}

/// Checks the name of one file or directory.
pub(crate) fn file_name(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("a file name must not be empty".to_owned());
    }
    if text.contains('/') {
        return Err("a file name here holds no `/`".to_owned());
    }
    if text.starts_with("..") || text == "." {
        return Err("a file name must stay in its directory: no leading `..`".to_owned());
    }
    if text.len() > 255 {
        return Err("a file name has at most 255 bytes".to_owned());
    }
    if text.chars().any(char::is_control) {
        return Err("a file name must not hold control characters".to_owned());
    }
    Ok(())
}

/// The longest duration, ten years: nothing here lives longer, and sums of it do not overflow.
const DURATION_MAX: Duration = Duration::from_secs(10 * 366 * 86400);

/// Reads a duration as Vault's users write it: `25s`, `1h30m`, `500ms`; a bare number is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || {
        format!(
            "`{}` is not a duration such as 25s, 1h30m or 500ms",
            text.escape_default()
        )
    };
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()))
            .filter(|total| *total <= DURATION_MAX)
            .ok_or_else(wrong);
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u32 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let unit_len = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let unit = match &rest[..unit_len] {
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(3600),
            "d" => Duration::from_secs(86400),
            _ => return Err(wrong()),
        };
        total = unit
            .checked_mul(number)
            .and_then(|part| total.checked_add(part))
            .filter(|total| *total <= DURATION_MAX)
            .ok_or_else(wrong)?;
        rest = &rest[unit_len..];
    }
    if text.is_empty() {
        Err(wrong())
    } else {
        Ok(total)
    }
}

/// Finds the value that a word stands for; the error lists the known words.
pub(crate) fn named<T: Copy>(text: &str, known: &[(&str, T)]) -> Result<T, String> {
    known
        .iter()
        .find(|(name, _)| *name == text)
        .map(|(_, value)| *value)
        .ok_or_else(|| {
            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            format!(
                "`{}` is not one of {}{}",
                text.escape_default(),
                names.join(", "),
                meant(text, names.iter().copied())
            )
        })
}

/// Reads a duration of more than nothing.
pub(crate) fn positive(text: &str) -> Result<Duration, String> {
    duration(text).and_then(|duration| {
        if duration.is_zero() {
            Err("the duration must be more than zero".to_owned())
        } else {
            Ok(duration)
        }
    })
}

/// Reads a life that Vault can be asked for, which counts in seconds.
pub(crate) fn whole_seconds(text: &str) -> Result<Duration, String> {
    positive(text).and_then(|duration| match duration.subsec_nanos() {
        0 => Ok(duration),
        _ => Err("Vault counts in whole seconds".to_owned()),
    })
}

/// Reads an identity label, which becomes part of names and paths.
pub(crate) fn label(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 128 {
        return Err("a label has 1 to 128 characters".to_owned());
    }
    if !text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        || text.starts_with('.')
    {
        return Err(
            "a label holds letters, digits, `-`, `_` and `.`, and does not begin with a dot"
                .to_owned(),
        );
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests;
