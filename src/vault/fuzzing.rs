//! Promises about every answer of a server, Vault or not.

use std::time::{Duration, Instant};

use serde::de::{DeserializeOwned, IgnoredAny};
use ureq::http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use zeroize::Zeroizing;

use super::call::{Answer, Call, Repeat};
use super::client::{Client, Endpoint};
use super::error::Error;
use super::mint::minted;
use super::pki::Signed;
use super::roots::Roots;
use super::token::TokenProperties;
use super::transport::{Deadline, Limits};
use super::value::Value;
use super::verdict::{Verdict, judge, parse};
use super::wrapping::Wrapping;
use crate::log::{Format, Level, Log};

/// A value that no message may show, unless the server put it among its errors.
const CANARY: &str = "s.canary";

const OWN_HOST: &str = "vault.example";
const STANDBY: &str = "standby.example";

/// An answer from its first lines (status, Content-Type, Cache-Control, Retry-After, Location) and the rest, its body.
fn read(input: &[u8]) -> Option<Answer> {
    let mut parts = input.splitn(6, |byte| *byte == b'\n');
    let mut next = || parts.next().unwrap_or_default();
    let status = std::str::from_utf8(next()).ok()?.parse().ok()?;
    let mut headers = HeaderMap::new();
    let names: [HeaderName; 4] = [
        header::CONTENT_TYPE,
        header::CACHE_CONTROL,
        header::RETRY_AFTER,
        header::LOCATION,
    ];
    for name in names {
        let value = next();
        if !value.is_empty() {
            headers.insert(name, HeaderValue::from_bytes(value).ok()?);
        }
    }
    Some(Answer {
        status,
        headers,
        body: Zeroizing::new(next().to_vec()),
    })
}

pub(super) fn call(repeat: Repeat) -> Call<'static> {
    Call::post("x/y").repeat(repeat)
}

/// Judges an answer and reads it in the form of each endpoint.
pub(crate) fn answer(input: &[u8]) {
    let Some(answer) = read(input) else {
        return;
    };
    for repeat in [Repeat::Freely, Repeat::AFewTimes, Repeat::Never] {
        match judge(&call(repeat), &answer) {
            Verdict::Done => assert!(matches!(answer.status, 200 | 204)),
            Verdict::Elsewhere => assert_eq!(answer.status, 307),
            Verdict::Again { .. } | Verdict::Unknown { .. } => assert_ne!(answer.status, 200),
            Verdict::Final(error) => drop(error.to_string()),
        }
    }
    form::<IgnoredAny>(&answer);
    form::<TokenProperties>(&answer);
    form::<Wrapping>(&answer);
    form::<Signed>(&answer);
    form::<Value>(&answer);
}

fn form<T: DeserializeOwned>(answer: &Answer) {
    match parse::<T>(answer, &call(Repeat::Freely)) {
        Ok(envelope) => {
            assert!(envelope.errors.unwrap_or_default().is_empty());
            if let Some(minted) = minted(envelope.wrap_info) {
                assert!(!minted.token.expose().is_empty());
            }
        }
        Err(error) => {
            let body = String::from_utf8_lossy(&answer.body);
            let head = format!("{:?}", answer.headers);
            let quotes = error.to_string().contains(CANARY);
            let may_quote = body.contains("\"errors\"") || head.contains(CANARY);
            assert!(!quotes || may_quote, "{error}");
        }
    }
}

/// Reads any JSON as what a secret holds, and writes it as the text of a file.
pub(crate) fn value(input: &[u8]) {
    let Ok(value) = serde_json::from_slice::<Value>(input) else {
        return;
    };
    let is_nested = matches!(value, Value::List(_) | Value::Object(_));
    let is_null = matches!(value, Value::Null);
    let Some(text) = value.text() else {
        assert!(is_null);
        return;
    };
    if is_nested {
        let again: Value = serde_json::from_str(text.expose()).expect("what was written");
        let again = again.text().expect("a text");
        assert_eq!(again.expose(), text.expose());
    }
}

/// Follows a redirect to any place.
pub(crate) fn redirect(input: &[u8]) {
    let Ok(location) = HeaderValue::from_bytes(input) else {
        return;
    };
    let mut headers = HeaderMap::new();
    headers.insert(header::LOCATION, location);
    let answer = Answer {
        status: 307,
        headers,
        body: Zeroizing::default(),
    };
    for host in [OWN_HOST, "[::1]"] {
        let Ok(client) = client(&format!("http://{host}:8200")) else {
            return;
        };
        for repeat in [Repeat::Freely, Repeat::Never] {
            let call = call(repeat);
            match client.redirect(&call, &answer) {
                Ok(origin) => {
                    let place: Uri = format!("{origin}/v1/{}", call.path).parse().expect("a URL");
                    assert_eq!(place.scheme_str(), Some("http"));
                    assert_eq!(place.path(), "/v1/x/y");
                    assert_eq!(place.query(), None);
                    let authority = place.authority().expect("a host").as_str();
                    assert!(!authority.contains('@'), "{authority}");
                    let found = place.host().expect("a host");
                    let is_standby = found.eq_ignore_ascii_case(STANDBY);
                    assert!(
                        found.eq_ignore_ascii_case(host) || is_standby && repeat != Repeat::Never,
                        "{found}"
                    );
                }
                Err(Error::Redirect { .. }) => {}
                Err(other) => unreachable!("{other}"),
            }
        }
    }
}

fn client(url: &str) -> Result<Client, super::TrustError> {
    let endpoint = Endpoint {
        url: url.to_owned(),
        namespace: None,
        tls_server_name: None,
        client_timeout: Duration::from_secs(1),
        standby_hosts: vec![STANDBY.to_owned()],
        allow_http: true,
    };
    let limits = Limits {
        deadline: Deadline::at(Instant::now()),
        abort: Vec::new(),
        grace: Duration::ZERO,
        persistent: false,
    };
    let log = Log {
        format: Format::Json,
        level: Level::Error,
    };
    Client::new(endpoint, Roots::System(None), limits, log)
}
