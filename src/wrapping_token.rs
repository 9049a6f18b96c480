//! The wrapping token: from a variable, a file or standard input, taken exactly once.

use std::fmt;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::secret::Secret;

/// Longest token that is sent anywhere.
const TOKEN_MAX: usize = 4096;
/// Longest input that is read: a token in its JSON with room for what else the CLI prints.
const INPUT_MAX: usize = 16 * 1024;
/// How long a pipe may stay silent.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where the token comes from; exactly one.
pub enum Source {
    /// `ANTEROOM_TOKEN`.
    Variable(Secret<Vec<u8>>),
    /// A file or FIFO, removed once it was read.
    File(PathBuf),
    /// Standard input, which the application then gets as `/dev/null`.
    StandardInput,
}

impl Source {
    /// Chooses between the variable's value and the path that was given.
    pub fn choose(variable: Option<Secret<Vec<u8>>>, file: Option<&Path>) -> Result<Source, Error> {
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
/// It is moved into the unwrap: there is no second use.
pub struct WrappingToken {
    text: Secret,
    /// By which the minting side can revoke the client token; known from the JSON form only.
    pub wrapped_accessor: Option<String>,
}

impl WrappingToken {
    /// The token itself, for the header of a request.
    pub fn expose(&self) -> &str {
        self.text.expose()
    }
}

/// A token was taken, and what should be said about it.
pub struct Taken {
    /// The token.
    pub token: WrappingToken,
    /// The file could not be removed.
    pub warning: Option<String>,
}

/// Reads the token once, and removes the file that it was in, unless what was in it is no token.
pub fn take(source: Source, deadline: Instant) -> Result<Taken, Error> {
    let (input, file) = match source {
        Source::Variable(value) => (Zeroizing::new(value.expose().clone()), None),
        Source::StandardInput => {
            let stdin = io::stdin();
            (
                read_capped(stdin.as_fd(), "standard input", deadline)?,
                None,
            )
        }
        Source::File(path) => (read_file(&path, deadline)?, Some(path)),
    };
    // First, so that a file that was named by mistake is not lost.
    let token = parse(&input)?;
    // Before the token is used: whoever finds the file later must not find a token that still works.
    let warning = file.and_then(|path| {
        let error = std::fs::remove_file(&path).err()?;
        Some(format!(
            "cannot remove the token file {}: {error}",
            path.display()
        ))
    });
    Ok(Taken { token, warning })
}

fn read_file(path: &Path, deadline: Instant) -> Result<Zeroizing<Vec<u8>>, Error> {
    let unusable = |reason: String| Error::Source {
        origin: path.display().to_string(),
        reason,
    };
    let file = std::fs::OpenOptions::new()
        .read(true)
        // NONBLOCK: a FIFO without a writer must not hold the open up.
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits())
        .open(path)
        .map_err(|error| {
            if error.raw_os_error() == Some(Errno::ELOOP as i32) {
                unusable("it is a symbolic link, which somebody else may have pointed elsewhere; name the file itself".to_owned())
            } else {
                unusable(error.to_string())
            }
        })?;
    let metadata = file
        .metadata()
        .map_err(|error| unusable(error.to_string()))?;
    let kind = metadata.file_type();
    if !kind.is_file() && !kind.is_fifo() {
        return Err(unusable("it is neither a file nor a pipe".to_owned()));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(unusable(format!(
            "its mode {:04o} lets others than its owner at the token; make it 0400",
            metadata.mode() & 0o7777
        )));
    }
    read_capped(file.as_fd(), &path.display().to_string(), deadline)
}

/// Reads to the end, but no more than fits and no longer than [`PATIENCE`].
fn read_capped(
    fd: BorrowedFd<'_>,
    origin: &str,
    deadline: Instant,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let unusable = |reason: &str| Error::Source {
        origin: origin.to_owned(),
        reason: reason.to_owned(),
    };
    let deadline = deadline.min(Instant::now() + PATIENCE);
    // Never grown, so that no copy is left behind.
    let mut buffer = Zeroizing::new(vec![0; INPUT_MAX + 1]);
    let mut filled = 0;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut ready = [PollFd::new(fd, PollFlags::POLLIN)];
        match poll(
            &mut ready,
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX),
        ) {
            Ok(0) => return Err(unusable("nothing, or no end, came through it in time")),
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(unusable(error.desc())),
        }
        match (&mut Unbuffered(fd)).read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => {
                filled += n;
                if filled > INPUT_MAX {
                    return Err(Error::Malformed {
                        length: filled,
                        reason: "it is longer than any token",
                    });
                }
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            Err(error) => return Err(unusable(&error.to_string())),
        }
    }
    buffer.truncate(filled);
    Ok(buffer)
}

/// Reads a descriptor without owning it and without a buffer of its own.
struct Unbuffered<'a>(BorrowedFd<'a>);

impl Read for &mut Unbuffered<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(nix::unistd::read(self.0, buffer)?)
    }
}

/// The parts of a wrapped answer that matter, as the CLIs print it and as an agent's sink writes it.
#[derive(Deserialize)]
struct Json {
    wrap_info: Option<WrapInfo>,
    token: Option<String>,
    wrapped_accessor: Option<String>,
    auth: Option<serde::de::IgnoredAny>,
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
    Ok(())
}

/// The token could not be taken.
#[derive(Debug)]
pub enum Error {
    /// No source was given.
    Missing,
    /// Two sources were given.
    Ambiguous,
    /// The file or standard input cannot be used.
    Source {
        /// The file's path, or `standard input`.
        origin: String,
        /// What is wrong with it.
        reason: String,
    },
    /// What was read is no token; the value itself is never shown.
    Malformed {
        /// Bytes read.
        length: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Missing => f.write_str("no wrapping token was handed in"),
            Error::Ambiguous => {
                f.write_str("two wrapping tokens were handed in: ANTEROOM_TOKEN and a token file")
            }
            Error::Source { origin, reason } => {
                write!(f, "cannot read the wrapping token from {origin}: {reason}")
            }
            Error::Malformed { length, reason } => {
                write!(
                    f,
                    "the wrapping token ({length} bytes) is malformed: {reason}"
                )
            }
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(input: &[u8]) -> Result<String, String> {
        parse(input)
            .map(|token| token.expose().to_owned())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn one_trailing_line_end_is_dropped_b2() {
        assert_eq!(token(b"s.abc\n").expect("valid"), "s.abc");
        assert_eq!(token(b"s.abc\r\n").expect("valid"), "s.abc");
        assert!(token(b"s.abc\n\n").is_err());
    }

    #[test]
    fn what_is_no_token_is_refused_with_its_length_alone_b1_b3_b4_b5() {
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

    #[test]
    fn both_forms_of_json_are_accepted_b6() {
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

    #[test]
    fn json_that_is_no_wrapped_answer_is_named_b6() {
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
