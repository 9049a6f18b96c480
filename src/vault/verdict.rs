//! What an answer means: the status table, and the body where there is one.

use std::time::Duration;

use serde::de::DeserializeOwned;
use ureq::http::{HeaderMap, header};

use super::answer::{Envelope, Failure};
use super::error::Error;
use super::exchange::{Answer, Call};

/// A server that limits rates is left alone for at least this long, whatever it says.
pub(super) const PAUSE_LIMITED: Duration = Duration::from_millis(250);

/// What an answer means for its request.
pub(super) enum Verdict {
    /// It holds what was asked for.
    Done,
    /// Another server has it.
    Elsewhere,
    /// Not done; worth another try.
    Again {
        /// What the server said.
        reason: String,
        /// How long it wants to be left alone.
        wait: Option<Duration>,
    },
    /// It may have been done.
    Unknown {
        /// What was said.
        reason: String,
        /// Vault said it, and not something in between.
        by_vault: bool,
    },
    /// No repeat will help.
    Final(Error),
}

/// The status table.
pub(super) fn judge(call: &Call<'_>, answer: &Answer) -> Verdict {
    if matches!(answer.status, 200 | 204) {
        return Verdict::Done;
    }
    let request = call.to_string();
    let vaults: Option<Failure> = is_json(&answer.headers)
        .then(|| serde_json::from_slice(&answer.body).ok())
        .flatten();
    let errors = vaults
        .as_ref()
        .map_or_else(Vec::new, |failure| readable(&failure.errors));
    let said = || match errors.is_empty() {
        true => format!("status {}", answer.status),
        false => format!("status {}: {}", answer.status, errors.join(", ")),
    };
    match answer.status {
        307 => Verdict::Elsewhere,
        412 | 472 | 473 => Verdict::Again {
            reason: said(),
            wait: None,
        },
        429 => Verdict::Again {
            reason: said(),
            wait: Some(retry_after(&answer.headers)),
        },
        // Vault always says why; a load balancer may have passed the request on before.
        503 if !errors.is_empty() => Verdict::Again {
            reason: said(),
            wait: None,
        },
        501 => Verdict::Final(Error::Unavailable {
            request,
            reason: "it is not initialised".to_owned(),
            by_vault: false,
        }),
        500 | 502 | 503 | 504 => Verdict::Unknown {
            reason: said(),
            by_vault: !errors.is_empty(),
        },
        status => Verdict::Final(Error::Status {
            request,
            status,
            errors,
            by_vault: vaults.is_some(),
            has_data: vaults.is_some_and(|failure| failure.data.is_some()),
        }),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| {
            value
                .split(';')
                .next()
                .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
        })
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
    if answer.body.is_empty() && answer.status == 204 {
        return serde_json::from_str("{}").map_err(|_| malformed("it is empty".to_owned()));
    }
    if !is_json(&answer.headers) {
        let kind = answer
            .headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("not said");
        return Err(malformed(format!("its Content-Type is {kind}")));
    }
    // What nobody reads the parser would skip without looking at it.
    let text =
        std::str::from_utf8(&answer.body).map_err(|_| malformed("it is not UTF-8".to_owned()))?;
    // The library's message names a place and an expectation; a wrong type it would quote with its value.
    let envelope: Envelope<T> = serde_json::from_str(text).map_err(|error| {
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
    headers
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.trim().parse().ok())
        .map_or(PAUSE_LIMITED, |seconds: u32| {
            Duration::from_secs(seconds.into())
        })
}

#[cfg(test)]
mod tests {
    use ureq::http::HeaderValue;

    use super::*;

    #[test]
    fn retry_after_is_whole_seconds_or_nothing_b42() {
        let parsed = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, text.parse().expect("a header"));
            retry_after(&headers)
        };
        assert_eq!(parsed("2"), Duration::from_secs(2));
        assert_eq!(parsed("0"), Duration::ZERO);
        for text in [
            "-1",
            "1e9",
            "99999999999",
            "Sat, 21 Nov 2026 19:58:00 GMT",
            "x",
        ] {
            assert_eq!(parsed(text), PAUSE_LIMITED, "{text}");
        }
    }

    #[test]
    fn errors_in_the_layout_of_a_list_become_plain_texts() {
        let lists = [
            "1 error occurred:\n\t* permission denied\n\n".to_owned(),
            "2 errors occurred:\n\t* a: b\n\t* c\n\n".to_owned(),
            "plain".to_owned(),
        ];
        assert_eq!(
            readable(&lists),
            ["permission denied", "a: b", "c", "plain"]
        );
    }

    #[test]
    fn a_content_type_may_have_parameters() {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json; charset=utf-8"),
        );
        assert!(is_json(&headers));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
        assert!(!is_json(&headers));
    }
}
