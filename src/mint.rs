//! The host side: one wrapping token for one service, for schedulers, scripts and `docker run`.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use zeroize::Zeroizing;

use crate::cli::{MintFormat, MintOptions};
use crate::config::{self, Environment, Tokens};
use crate::error;
use crate::init;
use crate::log::{Level, Log};
use crate::secret::Secret;
use crate::secret_file;
use crate::system::signal;
use crate::text_file;
use crate::vault::{self, Client, Deadline, Limits, MintRequest, Minted, Session};

/// Longest token that is sent anywhere.
const TOKEN_MAX: u64 = 4096;
/// Where the command lines of Vault and OpenBao keep the token of a login, below the home directory.
const TOKEN_HELPER: &str = ".vault-token";

/// Has Vault make a client token, wrapped, and prints the wrapping token.
pub fn run(
    options: &MintOptions,
    environment: &Environment,
    tokens: Tokens,
    deadline: Instant,
    log: Log,
) -> Result<(), error::Error> {
    let metadata = metadata(&options.meta)?;
    refuse_own_power(options)?;
    let (vault, notices) = config::vault_from_environment(environment)?;
    for notice in &notices {
        log.event(Level::Warn, "notice", notice, &[]);
    }
    let token = issuing_token(options.issuer_token_file.as_deref(), environment, tokens)?;
    let system = |errno: Errno| init::Error::System {
        step: "listen to signals",
        reason: errno.desc().to_owned(),
    };
    let signals = signal::received().listen().map_err(system)?;
    let called_off = signals.as_fd().try_clone_to_owned();
    let called_off = called_off.map_err(|error| init::Error::System {
        step: "listen to signals",
        reason: error.to_string(),
    })?;
    let limits = Limits {
        deadline: Deadline::at(deadline),
        abort: vec![Arc::new(called_off)],
        grace: Duration::ZERO,
        persistent: true,
    };
    let client = Client::new(vault.endpoint(), vault.roots(), limits, log)?;
    let request = MintRequest {
        role: options.role.as_deref(),
        policies: &options.policy,
        metadata: &metadata,
        ttl: Some(options.ttl),
        wrap_ttl: options.wrap_ttl,
    };
    let minted = Session::with_token(client, token)
        .mint(&request)
        .map_err(|error| match signal::pending(&signals) {
            Some(signal) => init::Error::Interrupted { signal }.into(),
            None => error::Error::from(Error::Vault(error)),
        })?;
    print(&minted, options.format).map_err(|error| {
        let error = Error::NotPrinted {
            reason: error.to_string(),
            wrapped_accessor: minted.wrapped_accessor.clone(),
        };
        error.into()
    })
}

/// Fails where the new token would have what the issuing token has, unless the operator asks for that: without a role and
/// without a policy Vault copies all policies of the issuing token, and `root` among them is root.
fn refuse_own_power(options: &MintOptions) -> Result<(), error::Error> {
    if options.any_policy || options.role.is_some() {
        return Ok(());
    }
    let what = if options.policy.is_empty() {
        "without `--role` and `--policy` the new token may do all that the issuing token may"
    } else if options.policy.iter().any(|policy| is_root(policy)) {
        "`--policy root` without `--role` makes a token that may do everything"
    } else {
        return Ok(());
    };
    Err(error::Error::Usage(format!(
        "{what}; name the service's token role with `--role`, or say `--any-policy` if that is meant"
    )))
}

/// Whether Vault takes the name for that of the policy of root: spaces around it and its case do not matter there.
fn is_root(policy: &str) -> bool {
    policy.trim().eq_ignore_ascii_case("root")
}

fn metadata(words: &[String]) -> Result<Vec<(String, String)>, error::Error> {
    let mut metadata: Vec<(String, String)> = Vec::new();
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        if metadata.iter().any(|(known, _)| known == key) {
            return Err(error::Error::Usage(format!(
                "`--meta {key}=…` is given twice"
            )));
        }
        metadata.push((key.to_owned(), value.to_owned()));
    }
    Ok(metadata)
}

/// The token that the new one is made with.
fn issuing_token(
    file: Option<&Path>,
    environment: &Environment,
    mut tokens: Tokens,
) -> Result<Secret, Error> {
    let variable = ["BAO_TOKEN", "VAULT_TOKEN"].into_iter().find_map(|name| {
        let value = tokens.take(name)?;
        (!value.expose().is_empty()).then_some((name, value))
    });
    match (variable, file) {
        (Some((variable, _)), Some(_)) => Err(Error::Ambiguous { variable }),
        (Some((variable, value)), None) => {
            checked(value.expose()).map_err(|reason| Error::Malformed {
                origin: variable.to_owned(),
                reason,
            })
        }
        (None, Some(path)) => read_issuing(path)?.ok_or_else(|| Error::Source {
            path: path.to_owned(),
            reason: Errno::ENOENT.desc().to_owned(),
        }),
        (None, None) => {
            let home = environment.value("HOME").filter(|home| !home.is_empty());
            let home = home.ok_or(Error::Missing)?;
            read_issuing(&Path::new(home).join(TOKEN_HELPER))?.ok_or(Error::Missing)
        }
    }
}

fn read_issuing(path: &Path) -> Result<Option<Secret>, Error> {
    read(path).map_err(|unusable| match unusable {
        Unusable::File { reason } => Error::Source {
            path: path.to_owned(),
            reason,
        },
        Unusable::Content { reason } => Error::Malformed {
            origin: path.display().to_string(),
            reason,
        },
    })
}

/// What is wrong with the file of a token or of another secret in one line; whoever reads it knows which.
#[derive(Debug)]
pub enum Unusable {
    /// It cannot be read, or not only by its owner.
    File {
        /// Why.
        reason: String,
    },
    /// What is in it; the value itself is never shown.
    Content {
        /// What is wrong with that.
        reason: &'static str,
    },
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unusable::File { reason } => f.write_str(reason),
            Unusable::Content { reason } => f.write_str(reason),
        }
    }
}

impl std::error::Error for Unusable {}

/// Reads the token in a file by the rules for token files; none when there is no file.
pub fn read(path: &Path) -> Result<Option<Secret>, Unusable> {
    let unusable = |reason: String| Unusable::File { reason };
    let file = match secret_file::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(Errno::ELOOP as i32) => {
            return Err(unusable(
                "it is a symbolic link; name the file itself".to_owned(),
            ));
        }
        // What open(2) says of a socket.
        Err(error) if error.raw_os_error() == Some(Errno::ENXIO as i32) => {
            return Err(unusable("it is a socket, no regular file".to_owned()));
        }
        Err(error) => return Err(unusable(error.to_string())),
    };
    let metadata = file
        .metadata()
        .map_err(|error| unusable(error.to_string()))?;
    if !metadata.is_file() {
        let found = text_file::kind(metadata.file_type());
        return Err(unusable(format!("it is {found}, no regular file")));
    }
    secret_file::check(&metadata).map_err(|exposed| unusable(exposed.to_string()))?;
    // With room for what is too long, and never grown, so that no copy is left behind.
    let mut input = Zeroizing::new(Vec::with_capacity(TOKEN_MAX as usize + 64));
    file.take(TOKEN_MAX + 3)
        .read_to_end(&mut input)
        .map_err(|error| unusable(error.to_string()))?;
    let line = input.strip_suffix(b"\n").unwrap_or(&input);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match checked(line) {
        Ok(secret) => Ok(Some(secret)),
        Err(reason) => Err(Unusable::Content { reason }),
    }
}

/// Takes what may be a token, or says why it is none.
fn checked(token: &[u8]) -> Result<Secret, &'static str> {
    if token.is_empty() {
        return Err("it is empty");
    }
    if token.len() as u64 > TOKEN_MAX {
        return Err("it is too long");
    }
    match std::str::from_utf8(token) {
        Ok(text) if token.iter().all(u8::is_ascii_graphic) => Ok(Secret::new(text.to_owned())),
        _ => Err("it holds a blank, a control character or a character that is not ASCII"),
    }
}

fn print(minted: &Minted, format: MintFormat) -> io::Result<()> {
    let token = minted.token.expose();
    let text = Zeroizing::new(match format {
        MintFormat::Token => format!("{token}\n"),
        MintFormat::Env => format!("ANTEROOM_TOKEN={token}\n"),
        MintFormat::Json => {
            let texts = [
                ("token", token),
                ("accessor", &minted.accessor),
                ("creation_time", &minted.creation_time),
                ("creation_path", &minted.creation_path),
                ("wrapped_accessor", &minted.wrapped_accessor),
            ];
            let mut json = format!("{{\"wrap_info\":{{\"ttl\":{}", minted.ttl);
            for (name, text) in texts {
                let text = serde_json::Value::from(text.as_str());
                json.push_str(&format!(",\"{name}\":{text}"));
            }
            json + "}}\n"
        }
    });
    let mut stdout = io::stdout();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// There is no wrapping token.
#[derive(Debug)]
pub enum Error {
    /// There is nothing to make one with.
    Missing,
    /// There are two tokens to make it with.
    Ambiguous {
        /// The variable that holds one of them.
        variable: &'static str,
    },
    /// The file with the issuing token cannot be used.
    Source {
        /// Its path.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// What was read is no token; the value itself is never shown.
    Malformed {
        /// The variable or the file's path.
        origin: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Vault did not make one.
    Vault(vault::Error),
    /// It was made, and nobody has it.
    NotPrinted {
        /// What the system said.
        reason: String,
        /// By which the client token can be revoked.
        wrapped_accessor: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Missing => f.write_str("there is no issuing token"),
            Error::Ambiguous { variable } => {
                write!(
                    f,
                    "two issuing tokens were given: {variable} and --issuer-token-file"
                )
            }
            Error::Source { path, reason } => write!(
                f,
                "cannot read the issuing token from {}: {reason}",
                path.display()
            ),
            Error::Malformed { origin, reason } => {
                write!(f, "the issuing token in {origin} is malformed: {reason}")
            }
            Error::Vault(error) => error.fmt(f),
            Error::NotPrinted { reason, .. } => {
                write!(
                    f,
                    "the wrapping token was made and cannot be printed: {reason}"
                )
            }
        }
    }
}

impl std::error::Error for Error {}
