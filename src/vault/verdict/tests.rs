//! Whose an answer is, and what it means for a request, by how often that may be repeated.

use serde::de::IgnoredAny;
use ureq::http::HeaderValue;
use zeroize::Zeroizing;

use super::super::error::Class;
use super::super::fuzzing::call;
use super::*;

const REPEATS: [Repeat; 3] = [Repeat::Freely, Repeat::AFewTimes, Repeat::Never];
const JSON: &str = "application/json";
const IN_FULL: &str = r#""request_id":"1","lease_id":"","renewable":false,"lease_duration":0"#;

/// An answer that is marked as Vault marks its own.
fn marked(status: u16, body: &str) -> Answer {
    let mut answer = foreign_to_vault(status, JSON, body);
    let no_store = HeaderValue::from_static("no-store");
    answer.headers.insert(header::CACHE_CONTROL, no_store);
    answer
}

fn foreign_to_vault(status: u16, kind: &'static str, body: &str) -> Answer {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    Answer {
        status,
        headers,
        body: Zeroizing::new(body.as_bytes().to_vec()),
    }
}

/// The verdict in a word, as far as a caller goes by it; an answer that is judged done is read too.
fn word(repeat: Repeat, answer: &Answer) -> String {
    let call = call(repeat);
    match judge(&call, answer) {
        Verdict::Done => match parse::<IgnoredAny>(answer, &call) {
            Ok(_) => "done".to_owned(),
            Err(Error::Malformed { .. }) => "malformed".to_owned(),
            Err(error) => error.to_string(),
        },
        Verdict::Elsewhere => "elsewhere".to_owned(),
        Verdict::Again { wait: None, .. } => "again".to_owned(),
        Verdict::Again { wait: Some(_), .. } => "later".to_owned(),
        Verdict::Unknown { by_vault: true, .. } => "failed".to_owned(),
        Verdict::Unknown { .. } => "unknown".to_owned(),
        Verdict::Final(Error::Status {
            status, has_data, ..
        }) => format!("{status}{}", if has_data { " data" } else { "" }),
        Verdict::Final(Error::Unavailable { .. }) => "unavailable".to_owned(),
        Verdict::Final(Error::Redirect { .. }) => "redirect".to_owned(),
        Verdict::Final(Error::Malformed { .. }) => "malformed".to_owned(),
        Verdict::Final(error) => error.to_string(),
    }
}

/// The words of [`word`] for what may be repeated freely, a few times, and never.
#[track_caller]
fn assert_words(answer: &Answer, expected: [&str; 3]) {
    let body = String::from_utf8_lossy(&answer.body);
    let found = REPEATS.map(|repeat| word(repeat, answer));
    assert_eq!(found, expected, "{} {body}", answer.status);
}

#[test]
fn vaults_own_answers_mean_what_their_status_says() {
    let said = r#"{"errors":["it said so"]}"#;
    for (status, words) in [
        (400, ["400", "400", "400"]),
        (403, ["403", "403", "403"]),
        (404, ["404", "404", "404"]),
        (405, ["405", "405", "405"]),
        (413, ["413", "413", "413"]),
        (412, ["again", "again", "again"]),
        (429, ["later", "later", "later"]),
        (472, ["again", "again", "again"]),
        (473, ["again", "again", "again"]),
        (503, ["again", "again", "again"]),
        (501, ["unavailable", "unavailable", "unavailable"]),
        (500, ["failed", "failed", "failed"]),
        (502, ["failed", "failed", "failed"]),
        (504, ["failed", "failed", "failed"]),
        // Not among those that Vault gives: whether it was done is open.
        (302, ["302", "302", "failed"]),
        (401, ["401", "401", "failed"]),
        (408, ["408", "408", "failed"]),
        (451, ["451", "451", "failed"]),
        (505, ["505", "505", "failed"]),
        (520, ["520", "520", "failed"]),
        (599, ["599", "599", "failed"]),
    ] {
        assert_words(&marked(status, said), words);
        // A proxy may take the mark away; the words speak for themselves.
        assert_words(&foreign_to_vault(status, JSON, said), words);
    }
    assert_words(&marked(204, ""), ["done"; 3]);
    assert_words(&marked(200, &format!("{{{IN_FULL}}}")), ["done"; 3]);
    assert_words(&marked(307, ""), ["elsewhere"; 3]);
}

#[test]
fn absence_may_be_answered_without_a_message() {
    for status in [404, 405] {
        assert_words(
            &marked(status, r#"{"errors":[]}"#),
            [status.to_string().as_str(); 3],
        );
    }
    let deleted = format!(r#"{{{IN_FULL},"data":{{"data":null,"metadata":{{}}}}}}"#);
    assert_words(&marked(404, &deleted), ["404 data"; 3]);
    let warned = format!(r#"{{{IN_FULL},"data":null,"warnings":["no such version"]}}"#);
    assert_words(&marked(404, &warned), ["404"; 3]);
    // Nothing else may.
    for status in [400, 401, 403, 409, 500, 503] {
        let words = ["unknown"; 3];
        assert_words(&marked(status, r#"{"errors":[]}"#), words);
        assert_words(&marked(status, r#"{"errors":[""]}"#), words);
        assert_words(&marked(status, &deleted), words);
    }
}

#[test]
fn answer_that_is_not_vaults_own_decides_nothing() {
    let bodies = [
        (JSON, r#"{"message":"Forbidden"}"#),
        (JSON, r#"{"message":"no Route matched","request_id":"1"}"#),
        (JSON, r#"{"errors":[{"code":1000,"message":"blocked"}]}"#),
        (JSON, r#"{"errors":"blocked"}"#),
        (JSON, r#"{"error":["blocked"]}"#),
        (JSON, r#"{"errors":["it said"#),
        (JSON, "{}"),
        (JSON, "null"),
        (JSON, ""),
        ("text/html", "<html>blocked</html>"),
        ("text/html", r#"{"errors":["permission denied"]}"#),
        (
            "application/problem+json",
            r#"{"errors":["permission denied"]}"#,
        ),
    ];
    for (kind, body) in bodies {
        for status in (201..600).filter(|status| !matches!(status, 204 | 301..=303 | 307 | 308)) {
            let few = if status == 429 { "later" } else { "unknown" };
            assert_words(&foreign_to_vault(status, kind, body), [few, few, "unknown"]);
        }
        for status in [301, 302, 303, 308] {
            let words = ["redirect", "redirect", "unknown"];
            assert_words(&foreign_to_vault(status, kind, body), words);
        }
        let words = ["elsewhere", "elsewhere", "unknown"];
        assert_words(&foreign_to_vault(307, kind, body), words);
        assert_words(&foreign_to_vault(200, kind, body), ["malformed"; 3]);
        assert_words(&foreign_to_vault(204, kind, body), ["malformed"; 3]);
    }
}

#[test]
fn empty_success_is_vaults_by_both_of_its_marks() {
    let unmarked = foreign_to_vault(204, JSON, "");
    assert_words(&unmarked, ["malformed"; 3]);
    let mut untyped = marked(204, "");
    untyped.headers.remove(header::CONTENT_TYPE);
    assert_words(&untyped, ["malformed"; 3]);
    assert_words(&marked(204, "{}"), ["malformed"; 3]);
    let mut among_others = foreign_to_vault(204, JSON, "");
    let directives = HeaderValue::from_static("private, No-Store");
    among_others
        .headers
        .insert(header::CACHE_CONTROL, directives);
    assert_words(&among_others, ["done"; 3]);
}

#[test]
fn success_is_vaults_by_both_of_its_names() {
    for body in [
        "{}",
        r#"{"data":{"x":"y"}}"#,
        r#"{"request_id":"1"}"#,
        r#"{"lease_id":""}"#,
        r#"{"request_id":null,"lease_id":""}"#,
    ] {
        assert_words(&marked(200, body), ["malformed"; 3]);
    }
    // A wrapped answer names no request.
    assert_words(
        &marked(200, r#"{"request_id":"","lease_id":""}"#),
        ["done"; 3],
    );
}

#[test]
fn node_without_a_leader_is_away_and_has_not_failed() {
    for (status, text, words) in [
        (
            500,
            "local node not active but active cluster node not found",
            ["unknown"; 3],
        ),
        (
            503,
            "no active Vault instance found",
            ["again", "again", "unknown"],
        ),
        (503, "node is not active", ["again", "again", "unknown"]),
    ] {
        let answer = marked(status, &format!(r#"{{"errors":["{text}"]}}"#));
        assert_words(&answer, words);
    }
}

#[test]
fn request_that_a_node_broke_off_was_not_refused() {
    for (sentence, status, text) in [
        (
            "it seals before it has looked at the token",
            403,
            "error validating wrapping token: Vault is sealed",
        ),
        (
            "it seals while it writes the token that it makes",
            400,
            "failed to persist entry: context canceled",
        ),
        (
            "it loses the lead meanwhile",
            400,
            "failed to persist entry: leadership lost while committing log",
        ),
        (
            "it has lost the lead",
            404,
            "failed to persist entry: node is not the leader",
        ),
    ] {
        let answer = marked(status, &format!(r#"{{"errors":["{text}"]}}"#));
        let found = REPEATS.map(|repeat| word(repeat, &answer));
        assert_eq!(found, ["failed"; 3], "{sentence}");
    }
    // A node that was sealed before it was asked has done nothing.
    let sealed = marked(503, r#"{"errors":["Vault is sealed"]}"#);
    assert_words(&sealed, ["again"; 3]);
}

#[test]
fn stranger_that_answers_in_vaults_place_is_named() {
    let mut answer = foreign_to_vault(302, "text/html", "<html>");
    let location = HeaderValue::from_static("https://sign-in.example/?back=x");
    answer.headers.insert(header::LOCATION, location);
    let Verdict::Unknown { reason, .. } = judge(&call(Repeat::Never), &answer) else {
        panic!("it is not Vault's");
    };
    assert_eq!(
        reason,
        "something that is not Vault answered 302 to `https://sign-in.example/?back=x` (text/html)"
    );
    let Verdict::Final(error) = judge(&call(Repeat::Freely), &answer) else {
        panic!("it goes elsewhere");
    };
    assert_eq!(error.class(), Class::Redirected);
    assert!(
        error
            .to_string()
            .contains("302 to `https://sign-in.example/"),
        "{error}"
    );
    let long = HeaderValue::from_str(&"x".repeat(5000)).expect("a header");
    answer.headers.insert(header::LOCATION, long);
    assert!(destination(&answer.headers).len() < 220);
}

// b42
#[test]
fn retry_after_is_whole_seconds_or_ignored() {
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
    for (error, expected) in [
        (
            "1 error occurred:\n\t* permission denied\n\n",
            &["permission denied"] as &[_],
        ),
        ("2 errors occurred:\n\t* a: b\n\t* c\n\n", &["a: b", "c"]),
        ("plain", &["plain"]),
        ("404 page not found", &["404 page not found"]),
        ("no errors occurred:", &["no errors occurred:"]),
        (" \n\t\n", &[]),
    ] {
        assert_eq!(readable(&[error.to_owned()]), expected, "{error:?}");
    }
}

#[test]
fn content_type_of_json_may_have_parameters_and_no_other_name() {
    for (kind, expected) in [
        ("application/json", true),
        ("application/json; charset=utf-8", true),
        ("Application/JSON ;x", true),
        ("application/jsonp", false),
        ("application/problem+json", false),
        ("text/html; application/json", false),
        ("", false),
    ] {
        let answer = foreign_to_vault(200, kind, "");
        assert_eq!(is_json(&answer.headers), expected, "{kind}");
    }
    assert!(!is_json(&HeaderMap::new()));
}

/// The fault of an answer that was judged done, or none.
fn fault(answer: &Answer) -> Option<String> {
    match parse::<IgnoredAny>(answer, &call(Repeat::Freely)) {
        Ok(_) => None,
        Err(Error::Malformed { reason, .. }) => Some(reason),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn success_that_cannot_be_read_is_named_by_its_fault() {
    let another_form = Some("its JSON has another form, or a name that comes twice (line 1, ");
    let no_json =
        Some("it is no JSON, or too deep, or holds a number without an exact form (line 1, ");
    let not_in_full = Some("it lacks Vault's `request_id` or its `lease_id`");
    for (what, body, expected) in [
        ("no body", "", Some("it is cut off (line 1, column 0)")),
        (
            "half a body",
            r#"{IN_FULL,"data":{"a"#,
            Some("it is cut off (line 1, "),
        ),
        ("a page", "<html>", no_json),
        ("an empty number", r#"{IN_FULL,"data":-}"#, no_json),
        ("no object", "null", another_form),
        (
            "a secret for a number",
            r#"{IN_FULL,"auth":{"num_uses":"s.canary"}}"#,
            another_form,
        ),
        (
            "a name twice",
            r#"{IN_FULL,"auth":null,"auth":null}"#,
            another_form,
        ),
        ("one of Vault's names", r#"{"request_id":"1"}"#, not_in_full),
        (
            "errors",
            r#"{IN_FULL,"errors":["1 error occurred:\n\t* it is not so\n\n","nor so"]}"#,
            Some("it succeeded with errors: it is not so, nor so"),
        ),
        ("an empty list of errors", r#"{IN_FULL,"errors":[]}"#, None),
        (
            "null in the place of errors",
            r#"{IN_FULL,"errors":null}"#,
            None,
        ),
        ("data", r#"{IN_FULL,"data":{"a":"s.canary"}}"#, None),
    ] {
        let found = fault(&marked(200, &body.replace("IN_FULL", IN_FULL)));
        assert_eq!(found.is_some(), expected.is_some(), "{what}: {found:?}");
        let (found, expected) = (found.unwrap_or_default(), expected.unwrap_or_default());
        assert!(found.starts_with(expected), "{what}: {found}");
        assert!(!found.contains("canary"), "{what}: {found}");
    }
    let mut binary = marked(200, "");
    binary.body = Zeroizing::new(b"{\"data\":\"\xff\"}".to_vec());
    assert_eq!(fault(&binary).as_deref(), Some("it is not UTF-8"));
    let page = foreign_to_vault(200, "text/html", "<html>");
    assert_eq!(
        fault(&page).as_deref(),
        Some("its Content-Type is text/html")
    );
    let mut untyped = marked(200, &format!("{{{IN_FULL}}}"));
    untyped.headers.remove(header::CONTENT_TYPE);
    assert_eq!(
        fault(&untyped).as_deref(),
        Some("its Content-Type is not said")
    );
}

#[test]
fn verdict_repeats_the_status_and_vaults_own_words() {
    let body = r#"{"errors":["1 error occurred:\n\t* it is sealed\n\n","and stays so"]}"#;
    for (status, expected) in [
        (401, "status 401: it is sealed, and stays so"),
        (
            403,
            "Vault answered 403 to POST x/y: it is sealed: and stays so",
        ),
        (412, "status 412: it is sealed, and stays so"),
        (429, "status 429: it is sealed, and stays so"),
        (500, "status 500: it is sealed, and stays so"),
        (
            501,
            "Vault is not available (POST x/y): it is not initialised",
        ),
        (503, "status 503: it is sealed, and stays so"),
    ] {
        let found = match judge(&call(Repeat::Never), &marked(status, body)) {
            Verdict::Again { reason, .. } | Verdict::Unknown { reason, .. } => reason,
            Verdict::Final(error) => error.to_string(),
            other => panic!("{status}: {other:?}"),
        };
        assert_eq!(found, expected, "{status}");
    }
}

#[test]
fn server_that_limits_rates_is_left_alone_as_long_as_it_asks() {
    let own = marked(429, r#"{"errors":["too many"]}"#);
    let gateways = foreign_to_vault(429, "text/html", "too many");
    for mut answer in [own, gateways] {
        for (asked, expected) in [(None, PAUSE_LIMITED), (Some("7"), Duration::from_secs(7))] {
            if let Some(asked) = asked {
                let seconds = HeaderValue::from_static(asked);
                answer.headers.insert(header::RETRY_AFTER, seconds);
            }
            match judge(&call(Repeat::Freely), &answer) {
                Verdict::Again { wait, .. } => assert_eq!(wait, Some(expected)),
                other => panic!("{asked:?}: {other:?}"),
            }
        }
    }
}
