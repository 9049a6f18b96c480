//! The host side: one wrapping token for one service, for schedulers, scripts and `docker run`.

mod error;

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use zeroize::Zeroizing;

use crate::cli::{MintFormat, MintOptions};
use crate::config;
use crate::environment::{Environment, Tokens};
use crate::log::{Level, Log};
use crate::secret::Secret;
use crate::secret_file::{self, Unusable};
use crate::system::{refused, signal};
use crate::vault::{self, Class, Client, Deadline, Limits, MintRequest, Minted, Session};

pub(crate) use error::{Error, Failure};

/// Where the command lines of Vault and OpenBao keep the token of a login, below the home directory.
const TOKEN_HELPER: &str = ".vault-token";

/// Has Vault make a client token, wrapped, and prints the wrapping token.
pub(crate) fn run(
    options: &MintOptions,
    environment: &Environment,
    tokens: Tokens,
    deadline: Instant,
    log: Log,
) -> Result<(), Failure> {
    let metadata = metadata(&options.meta)?;
    refuse_own_power(options)?;
    let (vault, notices) = config::vault_from_environment(environment)?;
    for notice in &notices {
        log.event(Level::Warn, "notice", notice, &[]);
    }
    let token = issuing_token(options.issuer_token_file.as_deref(), environment, tokens)?;
    let signals = signal::received()
        .listen()
        .map_err(refused("listen to signals"))?;
    let abort = signals.as_fd().try_clone_to_owned();
    let abort = abort.map_err(refused("listen to signals"))?;
    let limits = Limits {
        deadline: Deadline::at(deadline),
        abort: vec![Arc::new(abort)],
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
    let called_off = |error| match signal::pending(&signals) {
        Some(signal) => Failure::Interrupted { signal },
        None => Error::Vault(error).into(),
    };
    let session = Session::with_token(client, token);
    if options.role.is_none() && !options.any_policy && is_roots(&session).map_err(called_off)? {
        return Err(refused_without_role(
            "the issuing token is root's, and without `--role` nothing but its own policies limits what it makes",
        ));
    }
    let minted = session.mint(&request).map_err(called_off)?;
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
fn refuse_own_power(options: &MintOptions) -> Result<(), Failure> {
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
    Err(refused_without_role(what))
}

fn usage(text: String) -> Failure {
    Error::Usage(text).into()
}

fn refused_without_role(what: &str) -> Failure {
    usage(format!(
        "{what}; name the service's token role with `--role`, or say `--any-policy` if that is meant"
    ))
}

/// Asks Vault whether the token may do everything.
fn is_roots(session: &Session) -> Result<bool, vault::Error> {
    match session.lookup_self() {
        Ok(found) => {
            let identity = found.identity_policies.iter().flatten();
            Ok(found
                .policies
                .iter()
                .chain(identity)
                .any(|name| is_root(name)))
        }
        // Root is denied nothing. A token that is none any more is denied the mint as well, which says so.
        Err(error) if error.class() == Class::Denied => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether Vault takes the name for that of the policy of root: spaces around it and its case do not matter there.
fn is_root(policy: &str) -> bool {
    policy.trim().eq_ignore_ascii_case("root")
}

fn metadata(words: &[String]) -> Result<Vec<(String, String)>, Failure> {
    let mut metadata: Vec<(String, String)> = Vec::new();
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        if metadata.iter().any(|(known, _)| known == key) {
            return Err(usage(format!("`--meta {key}=…` is given twice")));
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
            secret_file::checked(value.expose()).map_err(|reason| Error::Malformed {
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
    secret_file::read(path).map_err(|unusable| match unusable {
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
