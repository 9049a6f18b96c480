//! The wrapping token: from a variable, a file, an agent's socket or standard input, taken exactly once.

mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod input;
mod read;
mod socket;
mod wait;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Deserialize;
use zeroize::Zeroizing;

use crate::log::Log;
use crate::secret::Secret;

pub(crate) use error::Error;

use input::{Kinds, read_path};
use read::read_capped;

/// The longest token that is sent anywhere.
const TOKEN_MAX: usize = 4096;
/// The beginnings of tokens: service, batch and recovery tokens of Vault and OpenBao, old and new.
const BEGINNINGS: [&[u8]; 6] = [b"hvs.", b"hvb.", b"hvr.", b"s.", b"b.", b"r."];
/// The shortest token without such a beginning: fewer characters could be guessed.
const TOKEN_MIN: usize = 20;
/// The longest silence of a pipe or a socket, where no wait was configured.
const PATIENCE: Duration = Duration::from_secs(5);

/// The source of the token; there is exactly one.
pub(crate) enum Source {
    /// The variable `ANTEROOM_TOKEN`.
    Variable(Secret<Vec<u8>>),
    /// A file or FIFO, removed once it was read, or an agent's socket.
    File(PathBuf),
    /// A regular file and nothing else, removed once it was read.
    RegularFile(PathBuf),
    /// Standard input, which the application then gets as `/dev/null`.
    StandardInput,
}

impl Source {
    /// Chooses between the variable's value and the path that was given.
    pub(crate) fn choose(
        variable: Option<Secret<Vec<u8>>>,
        file: Option<&Path>,
    ) -> Result<Source, Error> {
        match (variable, file) {
            (Some(_), Some(_)) => Err(Error::Ambiguous),
            (Some(value), None) => Ok(Source::Variable(value)),
            (None, Some(path)) if path == Path::new("-") => Ok(Source::StandardInput),
            (None, Some(path)) => Ok(Source::File(path.to_owned())),
            (None, None) => Err(Error::Missing),
        }
    }
}

/// The one-use token that was handed in, with what the hand-over says about it.
///
/// The unwrap takes the token over, so that there is no second use.
pub(crate) struct WrappingToken {
    text: Secret,
    /// The accessor by which the minting side can revoke the client token; known from the JSON form only.
    pub wrapped_accessor: Option<String>,
}

impl WrappingToken {
    /// Returns the token itself, for the header of a request.
    pub(crate) fn expose(&self) -> &str {
        self.text.expose()
    }
}

/// A token that was taken, and a warning about it.
pub(crate) struct Taken {
    pub token: WrappingToken,
    /// The warning that the file could not be removed.
    pub warning: Option<String>,
}

/// The limits of the time that a token may take to come.
pub(crate) struct Limits<'a> {
    /// The deadline of the whole start.
    pub deadline: Instant,
    /// The longest wait for a token that is not there yet; zero does not wait.
    pub wait: Duration,
    /// A descriptor that is readable or closed when the start is called off, if it can be.
    pub called_off: Option<BorrowedFd<'a>>,
}

impl Limits<'_> {
    /// Sets a deadline alone: a token that is not there now does not count.
    pub(crate) fn until(deadline: Instant) -> Self {
        Limits {
            deadline,
            wait: Duration::ZERO,
            called_off: None,
        }
    }
}

/// Reads the token once, and removes the file that it was in, unless the content is no token.
pub(crate) fn take(source: Source, limits: &Limits<'_>, log: Log) -> Result<Taken, Error> {
    let patience = if limits.wait.is_zero() {
        PATIENCE
    } else {
        limits.wait
    };
    let until = limits.deadline.min(Instant::now() + patience);
    let (input, file) = match source {
        Source::Variable(value) => (Zeroizing::new(value.expose().clone()), None),
        Source::StandardInput => {
            let stdin = io::stdin();
            let origin = "standard input";
            let input = read_capped(stdin.as_fd(), origin, until, limits.called_off)?;
            (input, None)
        }
        Source::File(path) => {
            let (input, is_file) = read_path(&path, Kinds::All, until, limits, log)?;
            (input, is_file.then_some(path))
        }
        Source::RegularFile(path) => {
            let (input, _) = read_path(&path, Kinds::FileOnly, until, limits, log)?;
            (input, Some(path))
        }
    };
    // First, so that a file that was named by mistake is not lost.
    let token = parse(&input)?;
    // Before the token is used, so that a file that is found later never holds a token that still works.
    let warning = file.and_then(|path| {
        let error = std::fs::remove_file(&path).err()?;
        Some(format!(
            "cannot remove the token file {}: {error}",
            path.display()
        ))
    });
    Ok(Taken { token, warning })
}

/// The parts of a wrapped answer that matter, as the CLIs print it and as an agent's sink or socket writes it.
#[derive(Deserialize)]
struct Json {
    wrap_info: Option<WrapInfo>,
    token: Option<String>,
    wrapped_accessor: Option<String>,
    auth: Option<serde::de::IgnoredAny>,
    /// The agent's reason for a refusal.
    error: Option<String>,
}

#[derive(Deserialize)]
struct WrapInfo {
    token: String,
    wrapped_accessor: Option<String>,
}

fn parse(input: &[u8]) -> Result<WrappingToken, Error> {
    let malformed = |reason| Error::Malformed {
        length: input.len(),
        reason,
    };
    if input.trim_ascii_start().first() == Some(&b'{') {
        let json: Json = serde_json::from_slice(input).map_err(|_| {
            malformed("it begins like JSON, but is not the JSON of a wrapped answer")
        })?;
        let (token, wrapped_accessor) = match json {
            Json {
                wrap_info: Some(info),
                ..
            } => (info.token, info.wrapped_accessor),
            Json {
                token: Some(token),
                wrapped_accessor,
                ..
            } => (token, wrapped_accessor),
            Json { auth: Some(_), .. } => {
                return Err(malformed(
                    "it is the JSON of an answer that was not wrapped; mint with -wrap-ttl=30s",
                ));
            }
            _ => return Err(malformed("its JSON holds no wrapping token")),
        };
        let text = Secret::new(token);
        check(text.expose().as_bytes(), malformed)?;
        return Ok(WrappingToken {
            text,
            wrapped_accessor: wrapped_accessor.filter(|text| !text.is_empty()),
        });
    }
    let line = input.strip_suffix(b"\n").unwrap_or(input);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    check(line, malformed)?;
    let text = Secret::new(String::from_utf8_lossy(line).into_owned());
    Ok(WrappingToken {
        text,
        wrapped_accessor: None,
    })
}

fn check(token: &[u8], malformed: impl Fn(&'static str) -> Error) -> Result<(), Error> {
    if token.is_empty() || token.iter().all(|byte| byte.is_ascii_whitespace()) {
        return Err(malformed("it is empty"));
    }
    if token.len() > TOKEN_MAX {
        return Err(malformed("it is longer than any token"));
    }
    if token.len() >= 7 && token[..7].eq_ignore_ascii_case(b"bearer ") {
        return Err(malformed(
            "it begins with `Bearer`; hand in the token alone",
        ));
    }
    if !token.iter().all(u8::is_ascii_graphic) {
        return Err(malformed(
            "it holds a blank, a control character or a character that is not ASCII",
        ));
    }
    slip(token).map_or(Ok(()), |reason| Err(malformed(reason)))
}

/// Names the slip of a script or template that has no token, or puts something around it: an alarm of a theft would be
/// false.
fn slip(token: &[u8]) -> Option<&'static str> {
    if token.iter().any(|byte| b"\"'`".contains(byte)) {
        return Some("it stands in quotes; hand in the token alone");
    }
    if token.iter().any(|byte| b"${}<>%".contains(byte)) {
        return Some("it holds the name of a variable or a placeholder that was not replaced");
    }
    if token.iter().any(|byte| b"=:".contains(byte)) {
        return Some("it holds `=` or `:`, as in `token=…`; hand in the token alone");
    }
    if !token
        .iter()
        .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(byte))
    {
        return Some("it holds another character than letters, digits, `.`, `_` and `-`");
    }
    let beginning = BEGINNINGS.iter().find(|start| token.starts_with(start));
    match beginning {
        Some(start) if token.len() > start.len() => None,
        None if token.len() >= TOKEN_MIN => None,
        _ => Some(
            "it is shorter than any token; a word such as `null` stands for one that was not there",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(input: &[u8]) -> Result<String, String> {
        parse(input)
            .map(|token| token.expose().to_owned())
            .map_err(|error| error.to_string())
    }

    // b2
    #[test]
    fn one_trailing_line_end_is_dropped() {
        assert_eq!(token(b"s.abc\n").expect("valid"), "s.abc");
        assert_eq!(token(b"s.abc\r\n").expect("valid"), "s.abc");
        assert!(token(b"s.abc\n\n").is_err());
    }

    // b1, b3, b4, b5
    #[test]
    fn malformed_token_is_refused_with_its_length_alone() {
        for input in [
            &b""[..],
            b"  ",
            b"\n",
            b"s.canary\0",
            b"s.canary\x1b[m",
            b"s.can ary",
            "s.canary\u{e9}".as_bytes(),
            b"Bearer s.canary",
            b"bearer s.canary",
            b"\"s.canary\"",
            b"${canary}",
            b"token=s.canary",
            b"s.canary,",
            b"canary",
            b"s.",
            &[b'x'; 5000],
        ] {
            let error = token(input).expect_err("malformed");
            assert!(
                error.contains(&format!("({} bytes)", input.len())),
                "{error}"
            );
            assert!(!error.contains("canary"), "{error}");
        }
    }

    // b6
    #[test]
    fn both_forms_of_json_are_accepted() {
        let cli = br#"{"request_id":"","wrap_info":{"token":"s.abc","accessor":"a","ttl":30,"wrapped_accessor":"w"}}"#;
        let parsed = parse(cli).expect("valid");
        assert_eq!(
            (parsed.expose(), parsed.wrapped_accessor.as_deref()),
            ("s.abc", Some("w"))
        );
        let sink = br#"{"token":"s.abc","accessor":"a","ttl":30,"creation_path":"auth/token/create","wrapped_accessor":""}"#;
        let parsed = parse(sink).expect("valid");
        assert_eq!(
            (parsed.expose(), parsed.wrapped_accessor.as_deref()),
            ("s.abc", None)
        );
    }

    // b6
    #[test]
    fn json_without_a_wrapped_answer_is_named() {
        assert!(
            token(br#"{"auth":{"client_token":"s.canary"}}"#)
                .expect_err("auth")
                .contains("not wrapped")
        );
        for input in [
            &br#"{"wrap_info":null}"#[..],
            b"{",
            br#"{"token":"a","token":"b"}"#,
            br#"{"token":" "}"#,
        ] {
            assert!(token(input).is_err());
        }
    }
}
