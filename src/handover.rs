//! The hand-over: whether this is the promised token, and whether the promised identity comes out of it.
//!
//! The order is that of Vault's documentation on response wrapping: look up, compare, unwrap once, compare again.

use std::fmt;
use std::time::Duration;

use crate::config::Promise;
use crate::log::{Level, Log, Value};
use crate::login;
use crate::spelling::is_slip;
use crate::vault::{self, Auth, Client, Session, TokenProperties, Wrapping};
use crate::wrapping_token::WrappingToken;

/// The longest life of a wrapping token for which the manifest names none.
const MAX_WRAP_TTL: Duration = Duration::from_secs(60);
const CREATION_PATH: &str = "`creation_path` in [token]";

/// Every way in which the hand-over fails.
#[derive(Debug)]
pub enum Error {
    /// The wrapping token does not exist, or does not exist any more.
    NotValid {
        /// True where Vault still knew the token a moment before, when it was looked up.
        after_lookup: bool,
        /// The accessor that revokes the client token, when it was handed in.
        wrapped_accessor: Option<String>,
    },
    /// The token is another than the promised one.
    NotPromised {
        /// The difference.
        what: String,
    },
    /// The token is not the promised one, and a typing error in the manifest may be the reason.
    Misspelt {
        /// The key in the manifest.
        key: &'static str,
        /// The value in the manifest.
        written: String,
        /// The value of the token.
        found: String,
    },
    /// The unwrap was sent, and no answer says whether Vault has done it.
    Unknown {
        /// The event that stood in place of an answer.
        reason: String,
        /// The accessor that revokes the client token, when it was handed in.
        wrapped_accessor: Option<String>,
    },
    /// Vault did not answer, or not as it should.
    Vault(vault::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NotValid { after_lookup: false, .. } => f.write_str(
                "the wrapping token is not valid: it has expired, was used already (by an earlier start of this container, or by a thief), is unknown to this Vault, or is an ordinary token",
            ),
            Error::NotValid { after_lookup: true, .. } => f.write_str(
                "the wrapping token was valid a moment ago and is not any more: it has expired in between, or another caller has just unwrapped it",
            ),
            Error::NotPromised { what } => write!(f, "this is not the token that was promised: {what}"),
            Error::Misspelt { key, written, found } => write!(
                f,
                "the manifest may be wrong: {key} is `{written}`, and the token says `{found}`; if the manifest is right, this is not the token that was promised"
            ),
            Error::Unknown { reason, .. } => {
                write!(f, "the unwrap was sent, but whether it was done is not known ({reason}); the wrapping token counts as used")
            }
            Error::Vault(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {}

impl From<vault::Error> for Error {
    fn from(error: vault::Error) -> Self {
        Error::Vault(error)
    }
}

impl From<login::Error> for Error {
    fn from(error: login::Error) -> Self {
        match error {
            login::Error::NotValid { wrapped_accessor } => Error::NotValid {
                after_lookup: true,
                wrapped_accessor,
            },
            login::Error::NoToken { found } => Error::NotPromised {
                what: format!("it wraps {found}, not a client token"),
            },
            login::Error::Unknown {
                reason,
                wrapped_accessor,
            } => Error::Unknown {
                reason,
                wrapped_accessor,
            },
            login::Error::Vault(error) => Error::Vault(error),
        }
    }
}

/// Looks the token up and compares what it promises; the token is not used.
pub(crate) fn inspect(
    client: &Client,
    token: &WrappingToken,
    promise: &Promise,
    log: Log,
) -> Result<(), Error> {
    let wrapping = client.lookup(token)?.ok_or_else(|| Error::NotValid {
        after_lookup: false,
        wrapped_accessor: token.wrapped_accessor.clone(),
    })?;
    #[expect(
        clippy::disallowed_methods,
        reason = "the age is reported, nothing is decided on it"
    )]
    let now = time::OffsetDateTime::from(std::time::SystemTime::now());
    let now = now.saturating_add(time::Duration::seconds(client.clock_skew().unwrap_or(0)));
    let mut said = vec![("ttl_s", Value::Number(wrapping.creation_ttl))];
    if let Some(age) = wrapping.age_ms(now) {
        said.insert(0, ("age_ms", Value::Number(age)));
    }
    log.event(Level::Info, "lookup", "the wrapping token is valid", &said);
    check_wrapping(&wrapping, promise)
}

fn check_wrapping(wrapping: &Wrapping, promise: &Promise) -> Result<(), Error> {
    if wrapping.creation_path != promise.creation_path {
        return Err(not_promised(
            "it was made at",
            CREATION_PATH,
            &wrapping.creation_path,
            &promise.creation_path,
        ));
    }
    let longest = promise.max_wrap_ttl.unwrap_or(MAX_WRAP_TTL);
    if wrapping.creation_ttl > longest.as_secs() {
        return Err(Error::NotPromised {
            what: format!(
                "its life is {} s, and `max_wrap_ttl` permits {} s",
                wrapping.creation_ttl,
                longest.as_secs()
            ),
        });
    }
    Ok(())
}

/// Compares the client token with the promise; returns what Vault says about it.
pub(crate) fn verify(
    session: &Session,
    auth: &Auth,
    promise: &Promise,
) -> Result<TokenProperties, Error> {
    check_auth(auth, promise)?;
    let properties = session.lookup_self()?;
    check_properties(&properties, promise)?;
    Ok(properties)
}

fn check_auth(auth: &Auth, promise: &Promise) -> Result<(), Error> {
    let differs = |what: String| Err(Error::NotPromised { what });
    if let Some(other) = auth.beside {
        return differs(format!("it wraps {other} beside the client token"));
    }
    if !auth.renewable {
        return differs("the client token cannot be renewed".to_owned());
    }
    if auth.num_uses != 0 {
        return differs(format!(
            "the client token's uses are limited to {}",
            auth.num_uses
        ));
    }
    if auth.lease_duration < promise.min_ttl.as_secs() {
        return differs(format!(
            "the client token lives {} s, and `min_ttl` asks for {} s",
            auth.lease_duration,
            promise.min_ttl.as_secs()
        ));
    }
    check_policies(auth.policies.as_deref().unwrap_or_default(), promise)?;
    let metadata = auth.metadata.as_ref();
    for (label, key, expected) in [
        ("app", "`app` in [service]", &promise.app),
        (
            "environment",
            "`environment` in [service]",
            &promise.environment,
        ),
    ] {
        if let Some(found) = metadata.and_then(|metadata| metadata.get(label))
            && found != expected
        {
            let what = format!("its `{label}` is");
            return Err(not_promised(&what, key, found, expected));
        }
    }
    Ok(())
}

fn check_policies(found: &[String], promise: &Promise) -> Result<(), Error> {
    let mut found: Vec<&str> = found
        .iter()
        .map(String::as_str)
        .filter(|policy| *policy != "default")
        .collect();
    if found.contains(&"root") {
        return Err(Error::NotPromised {
            what: "it is a root token".to_owned(),
        });
    }
    if let Some(expected) = &promise.policies {
        let mut expected: Vec<&str> = expected
            .iter()
            .map(String::as_str)
            .filter(|policy| *policy != "default")
            .collect();
        found.sort_unstable();
        expected.sort_unstable();
        if found != expected {
            return Err(not_promised(
                "its policies are",
                "`policies` in [token]",
                &found.join(", "),
                &expected.join(", "),
            ));
        }
    }
    Ok(())
}

fn check_properties(properties: &TokenProperties, promise: &Promise) -> Result<(), Error> {
    let namespace = properties.namespace_path.as_deref().unwrap_or_default();
    // Vault Enterprise calls the root namespace by that name in some answers.
    let namespace = Some(namespace.trim_matches('/'))
        .filter(|name| *name != "root")
        .unwrap_or_default();
    let expected = promise.namespace.as_deref().unwrap_or_default();
    if namespace != expected {
        return Err(not_promised(
            "its namespace is",
            "`namespace` in [vault]",
            namespace,
            expected,
        ));
    }
    if properties.path != promise.creation_path {
        return Err(not_promised(
            "the client token was made at",
            CREATION_PATH,
            &properties.path,
            &promise.creation_path,
        ));
    }
    let role = promise.creation_path.strip_prefix("auth/token/create/");
    if let (Some(expected), Some(found)) = (
        role,
        properties.role.as_deref().filter(|role| !role.is_empty()),
    ) && found != expected
    {
        return Err(not_promised(
            "its token role is",
            "the role at the end of `creation_path` in [token]",
            found,
            expected,
        ));
    }
    if properties.num_uses != 0 {
        return Err(Error::NotPromised {
            what: format!(
                "the client token's uses are limited to {}",
                properties.num_uses
            ),
        });
    }
    let maximum = properties.explicit_max_ttl;
    if maximum != 0 && maximum < promise.min_ttl.as_secs() {
        return Err(Error::NotPromised {
            what: format!(
                "the client token lives {maximum} s at the most, and `min_ttl` asks for {} s",
                promise.min_ttl.as_secs()
            ),
        });
    }
    // Those of an identity come apart here, and together with the others when a token is made.
    let mut policies = properties.policies.clone();
    policies.extend(properties.identity_policies.iter().flatten().cloned());
    policies.sort_unstable();
    policies.dedup();
    check_policies(&policies, promise)
}

fn not_promised(what: &str, key: &'static str, found: &str, expected: &str) -> Error {
    if is_slip(found, expected) {
        return Error::Misspelt {
            key,
            written: expected.to_owned(),
            found: found.to_owned(),
        };
    }
    let named = |name: &str| {
        if name.is_empty() {
            "none".to_owned()
        } else {
            format!("`{name}`")
        }
    };
    Error::NotPromised {
        what: format!(
            "{what} {}, and {} was expected",
            named(found),
            named(expected)
        ),
    }
}

#[cfg(test)]
mod tests;
