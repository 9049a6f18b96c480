//! The meaning of an answer: whose it is, the status table, and the body where there is one.
//!
//! Whatever stands between this machine and Vault answers too: gateways, balancers, portals. Only Vault's own word decides
//! anything; every other answer leaves open whether the request was done.

use std::time::Duration;

use serde::de::DeserializeOwned;
use ureq::http::{HeaderMap, HeaderName, header};

use super::answer::{Envelope, Failure};
use super::call::{Answer, Call, Repeat};
use super::error::Error;

/// A server that limits rates is left alone for at least this long, whatever it says.
pub(super) const PAUSE_LIMITED: Duration = Duration::from_millis(250);
/// A node says one of these that does not know who leads: it has just been unsealed, or the leader has just gone.
const NO_LEADER: [&str; 2] = ["not active", "no active"];
/// A node says one of these that seals, or that has just lost the lead, in the middle of a request; with the status of the
/// place where it broke off, which may be that of a refusal.
const BROKEN_OFF: [&str; 4] = [
    "Vault is sealed",
    "context canceled",
    "node is not the leader",
    "leadership lost",
];
/// Longest part of a `Location` that is said.
const LOCATION_MAX: usize = 200;

/// The meaning of an answer for its request.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The answer holds what was asked for.
    Done,
    /// Another server has it.
    Elsewhere,
    /// Not done; worth another try.
    Again {
        /// The server's words.
        reason: String,
        /// How long it wants to be left alone.
        wait: Option<Duration>,
    },
    /// Vault may have done the request.
    Unknown {
        /// The server's words.
        reason: String,
        /// Whether Vault said so, and not something in between.
        by_vault: bool,
    },
    /// No repeat will help.
    Final(Error),
}

/// Judges an answer by its status, once it is clear whose it is.
pub(super) fn judge(call: &Call<'_>, answer: &Answer) -> Verdict {
    if answer.status == 200 {
        // Whose it is shows when it is read.
        return Verdict::Done;
    }
    let Some(words) = vaults_own(answer) else {
        return of_a_stranger(call, answer);
    };
    let request = call.to_string();
    // What Vault may answer without a word never comes to this.
    let said = || format!("status {}: {}", answer.status, words.errors.join(", "));
    let says = |known: &[&str]| {
        let mut texts = words.errors.iter();
        texts.any(|text| known.iter().any(|known| text.contains(known)))
    };
    let has_no_leader = says(&NO_LEADER);
    match answer.status {
        204 => Verdict::Done,
        307 => Verdict::Elsewhere,
        // A standby has perhaps sent it on, and the leader has gone before its answer came back.
        503 if has_no_leader && call.repeat == Repeat::Never => Verdict::Unknown {
            reason: said(),
            by_vault: false,
        },
        412 | 472 | 473 | 503 => Verdict::Again {
            reason: said(),
            wait: None,
        },
        429 => Verdict::Again {
            reason: said(),
            wait: Some(retry_after(&answer.headers)),
        },
        501 => Verdict::Final(Error::Unavailable {
            request,
            reason: "it is not initialised".to_owned(),
            by_vault: false,
        }),
        500 | 502 | 504 => Verdict::Unknown {
            reason: said(),
            by_vault: !has_no_leader,
        },
        // It may have been done, and nothing was refused.
        _ if says(&BROKEN_OFF) => Verdict::Unknown {
            reason: said(),
            by_vault: true,
        },
        // Vault refuses with these; of others it is not known that nothing was done.
        status
            if call.repeat == Repeat::Never && !matches!(status, 400 | 403 | 404 | 405 | 413) =>
        {
            Verdict::Unknown {
                reason: said(),
                by_vault: true,
            }
        }
        status => Verdict::Final(Error::Status {
            request,
            status,
            errors: words.errors,
            has_data: words.has_data,
        }),
    }
}

/// An answer of something in between.
fn of_a_stranger(call: &Call<'_>, answer: &Answer) -> Verdict {
    let request = call.to_string();
    let works_once = call.repeat == Repeat::Never;
    match answer.status {
        204 => Verdict::Final(Error::Malformed {
            request,
            reason: "it is empty and bears none of Vault's marks".to_owned(),
        }),
        // What comes of it is judged where it leads to.
        307 if !works_once => Verdict::Elsewhere,
        301 | 302 | 303 | 308 if !works_once => Verdict::Final(Error::Redirect {
            request,
            reason: format!(
                "with status {}{}",
                answer.status,
                destination(&answer.headers)
            ),
        }),
        429 if !works_once => Verdict::Again {
            reason: foreign(answer),
            wait: Some(retry_after(&answer.headers)),
        },
        _ => Verdict::Unknown {
            reason: foreign(answer),
            by_vault: false,
        },
    }
}

fn foreign(answer: &Answer) -> String {
    let kind = text(&answer.headers, &header::CONTENT_TYPE).unwrap_or("no Content-Type");
    format!(
        "something that is not Vault answered {}{} ({kind})",
        answer.status,
        destination(&answer.headers)
    )
}

/// Where an answer sends its request, as far as it says so.
pub(super) fn destination(headers: &HeaderMap) -> String {
    match headers.get(header::LOCATION) {
        Some(location) => {
            let location = String::from_utf8_lossy(location.as_bytes());
            let shown: String = location.chars().take(LOCATION_MAX).collect();
            format!(" to `{shown}`")
        }
        None => String::new(),
    }
}

/// Vault's words in an answer that is no success.
#[derive(Debug, Default)]
struct Words {
    errors: Vec<String>,
    /// A deleted version of KV 2 has data beside its 404.
    has_data: bool,
}

/// Whether an answer is Vault's own, and what it says then; the one place that decides that, [`parse`] for the answers
/// with status 200.
///
/// Vault and OpenBao mark every answer with `Cache-Control: no-store` and type even the empty ones as JSON. A failure
/// holds texts in `errors`; only what is not there and a method that is not served may have none. A 404 may also be an
/// answer in full, with data or a warning.
fn vaults_own(answer: &Answer) -> Option<Words> {
    let headers = &answer.headers;
    match answer.status {
        204 => (answer.body.is_empty() && is_json(headers) && is_not_stored(headers))
            .then(Words::default),
        // A standby's has no body that could speak for it.
        307 => is_not_stored(headers).then(Words::default),
        300.. => {
            let body = is_json(headers).then(|| serde_json::from_slice::<Failure>(&answer.body));
            let failure = body?.ok()?;
            let errors = readable(failure.errors.as_deref().unwrap_or_default());
            let is_vaults = match &failure.errors {
                Some(_) => !errors.is_empty() || matches!(answer.status, 404 | 405),
                None => answer.status == 404 && failure.is_in_full(),
            };
            is_vaults.then(|| Words {
                errors,
                has_data: failure.data.is_some(),
            })
        }
        _ => None,
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn is_json(headers: &HeaderMap) -> bool {
    text(headers, &header::CONTENT_TYPE)
        .and_then(|value| value.split(';').next())
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

fn is_not_stored(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::CACHE_CONTROL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|directive| directive.trim().eq_ignore_ascii_case("no-store"))
}

/// Reads an answer that was judged done.
pub(super) fn parse<T: DeserializeOwned>(
    answer: &Answer,
    call: &Call<'_>,
) -> Result<Envelope<T>, Error> {
    let malformed = |reason: String| Error::Malformed {
        request: call.to_string(),
        reason,
    };
    if answer.status == 204 {
        return serde_json::from_str("{}").map_err(|_| malformed("it is empty".to_owned()));
    }
    if !is_json(&answer.headers) {
        let kind = text(&answer.headers, &header::CONTENT_TYPE).unwrap_or("not said");
        return Err(malformed(format!("its Content-Type is {kind}")));
    }
    // The parser skips what no field takes without looking at it.
    let body =
        std::str::from_utf8(&answer.body).map_err(|_| malformed("it is not UTF-8".to_owned()))?;
    // The library's message names a place and an expectation; a wrong type it would quote with its value.
    let envelope: Envelope<T> = serde_json::from_str(body).map_err(|error| {
        let kind = match error.classify() {
            serde_json::error::Category::Eof => "it is cut off",
            serde_json::error::Category::Syntax => {
                "it is no JSON, or too deep, or holds a number without an exact form"
            }
            _ => "its JSON has another form, or a name that comes twice",
        };
        malformed(format!(
            "{kind} (line {}, column {})",
            error.line(),
            error.column()
        ))
    })?;
    match &envelope.errors {
        Some(errors) if !errors.is_empty() => Err(malformed(format!(
            "it succeeded with errors: {}",
            readable(errors).join(", ")
        ))),
        _ if !envelope.is_in_full() => Err(malformed(
            "it lacks Vault's `request_id` or its `lease_id`".to_owned(),
        )),
        _ => Ok(envelope),
    }
}

/// Vault's errors without the layout of a list, as in `1 error occurred:\n\t* permission denied\n\n`.
fn readable(errors: &[String]) -> Vec<String> {
    errors
        .iter()
        .flat_map(|error| error.lines())
        .map(|line| {
            let line = line.trim();
            line.strip_prefix("* ").unwrap_or(line).trim_start()
        })
        .filter(|line| !line.is_empty() && !is_count_of_errors(line))
        .map(str::to_owned)
        .collect()
}

fn is_count_of_errors(line: &str) -> bool {
    line.split_once(' ').is_some_and(|(count, rest)| {
        count.bytes().all(|byte| byte.is_ascii_digit())
            && ["error occurred:", "errors occurred:"].contains(&rest)
    })
}

/// Whole seconds; anything else, a date among it, counts as none.
fn retry_after(headers: &HeaderMap) -> Duration {
    text(headers, &header::RETRY_AFTER)
        .and_then(|value| value.trim().parse().ok())
        .map_or(PAUSE_LIMITED, |seconds: u32| {
            Duration::from_secs(seconds.into())
        })
}

#[cfg(test)]
mod tests;
