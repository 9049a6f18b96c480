//! Tests of which tokens are the promised one, and of the message about each that is not.

use std::time::Instant;

use serde_json::json;

use super::*;
use crate::log::Format;
use crate::vault::{Deadline, Endpoint, Limits, Roots};
use crate::wrapping_token::{self, Source};

fn texts(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn promise() -> Promise {
    Promise {
        creation_path: "auth/token/create/shop".to_owned(),
        max_wrap_ttl: None,
        min_ttl: Duration::from_secs(600),
        policies: Some(texts(&["shop", "certificates"])),
        namespace: None,
        app: "shop".to_owned(),
        environment: "production".to_owned(),
    }
}

/// The client token that was promised, as it comes out of the wrapping token.
fn promised_auth() -> Auth {
    let auth = json!({
        "client_token": "hvs.example",
        "accessor": "example",
        "policies": ["certificates", "default", "shop"],
        "metadata": {"app": "shop", "environment": "production", "minted-by": "pipeline"},
        "lease_duration": 3600,
        "renewable": true,
        "num_uses": 0
    });
    serde_json::from_value(auth).expect("an answer's auth")
}

/// The same token, as Vault describes it in a lookup.
fn promised_properties() -> TokenProperties {
    let properties = json!({
        "path": "auth/token/create/shop",
        "role": "shop",
        "policies": ["certificates", "default", "shop"],
        "num_uses": 0,
        "explicit_max_ttl": 0
    });
    serde_json::from_value(properties).expect("a token's properties")
}

/// The reason against a token, or the message where the manifest may be wrong; none where the token is accepted.
fn refusal(result: Result<(), Error>) -> Option<String> {
    match result {
        Ok(()) => None,
        Err(Error::NotPromised { what }) => Some(what),
        Err(error) => Some(error.to_string()),
    }
}

/// A token in a few words, its difference from the promised one, and the expected refusal.
type Row<T> = (&'static str, fn(&mut T), Option<&'static str>);

fn wrapping(creation_path: &str, creation_ttl: u64) -> Wrapping {
    Wrapping {
        creation_path: creation_path.to_owned(),
        creation_time: String::new(),
        creation_ttl,
    }
}

#[test]
fn wrapping_token_with_a_longer_life_is_refused() {
    let too_long =
        |life, longest| format!("its life is {life} s, and `max_wrap_ttl` permits {longest} s");
    for (what, life, max_wrap_ttl, expected) in [
        ("short-lived", 30, None, None),
        ("just short-lived enough", 60, None, None),
        ("a second too long", 61, None, Some(too_long(61, 60))),
        ("as the manifest permits", 300, Some(300), None),
        (
            "beyond a long limit",
            301,
            Some(300),
            Some(too_long(301, 300)),
        ),
        ("beyond a short limit", 60, Some(20), Some(too_long(60, 20))),
    ] {
        let promise = Promise {
            max_wrap_ttl: max_wrap_ttl.map(Duration::from_secs),
            ..promise()
        };
        let wrapping = wrapping("auth/token/create/shop", life);
        assert_eq!(
            refusal(check_wrapping(&wrapping, &promise)),
            expected,
            "{what}"
        );
    }
}

#[test]
fn wrapping_token_of_another_path_is_refused() {
    for (what, path, expected) in [
        ("as promised", "auth/token/create/shop", None),
        (
            "of another role",
            "auth/token/create/billing",
            Some(
                "it was made at `auth/token/create/billing`, and `auth/token/create/shop` was expected",
            ),
        ),
        (
            "of no role",
            "auth/token/create",
            Some("it was made at `auth/token/create`, and `auth/token/create/shop` was expected"),
        ),
        (
            "any data, wrapped by a caller who may wrap",
            "sys/wrapping/wrap",
            Some("it was made at `sys/wrapping/wrap`, and `auth/token/create/shop` was expected"),
        ),
        (
            "of a role with nearly the same name",
            "auth/token/create/shopp",
            Some(
                "the manifest may be wrong: `creation_path` in [token] is `auth/token/create/shop`, and the token says `auth/token/create/shopp`; if the manifest is right, this is not the token that was promised",
            ),
        ),
    ] {
        let wrapping = wrapping(path, 30);
        assert_eq!(
            refusal(check_wrapping(&wrapping, &promise())).as_deref(),
            expected,
            "{what}"
        );
    }
}

#[test]
fn client_token_with_other_properties_is_refused() {
    fn label(auth: &mut Auth, name: &str, value: &str) {
        let labels = auth.metadata.get_or_insert_default();
        labels.insert(name.to_owned(), value.to_owned());
    }
    let rows: &[Row<Auth>] = &[
        ("as promised", |_| {}, None),
        (
            "beside other things",
            |auth| auth.beside = Some("data"),
            Some("it wraps data beside the client token"),
        ),
        (
            "not to be renewed",
            |auth| auth.renewable = false,
            Some("the client token cannot be renewed"),
        ),
        (
            "for one request",
            |auth| auth.num_uses = 1,
            Some("the client token's uses are limited to 1"),
        ),
        (
            "just long-lived enough",
            |auth| auth.lease_duration = 600,
            None,
        ),
        (
            "a second too short-lived",
            |auth| auth.lease_duration = 599,
            Some("the client token lives 599 s, and `min_ttl` asks for 600 s"),
        ),
        (
            "with a policy too many",
            |auth| auth.policies = Some(texts(&["certificates", "operator", "shop"])),
            Some(
                "its policies are `certificates, operator, shop`, and `certificates, shop` was expected",
            ),
        ),
        (
            "without a word about policies",
            |auth| auth.policies = None,
            Some("its policies are none, and `certificates, shop` was expected"),
        ),
        ("without labels", |auth| auth.metadata = None, None),
        (
            "with labels that are not the manifest's",
            |auth| auth.metadata = Some([("team".to_owned(), "blue".to_owned())].into()),
            None,
        ),
        (
            "for another service",
            |auth| label(auth, "app", "billing"),
            Some("its `app` is `billing`, and `shop` was expected"),
        ),
        (
            "for another environment",
            |auth| label(auth, "environment", "staging"),
            Some("its `environment` is `staging`, and `production` was expected"),
        ),
        (
            "with a typing error in its label",
            |auth| label(auth, "environment", "Production"),
            Some(
                "the manifest may be wrong: `environment` in [service] is `production`, and the token says `Production`; if the manifest is right, this is not the token that was promised",
            ),
        ),
    ];
    for (what, change, expected) in rows {
        let mut auth = promised_auth();
        change(&mut auth);
        assert_eq!(
            refusal(check_auth(&auth, &promise())).as_deref(),
            *expected,
            "{what}"
        );
    }
}

#[test]
fn policies_are_the_promised_ones_and_never_root() {
    let root = Some("it is a root token");
    for (what, found, promised, expected) in [
        (
            "any, where none is promised",
            &["operator"] as &[_],
            None,
            None,
        ),
        ("none, where none is promised", &[], None, None),
        ("root, where none is promised", &["root"], None, root),
        ("root among others", &["operator", "root"], None, root),
        (
            "root, although it is promised",
            &["root"],
            Some(&["root"] as &[_]),
            root,
        ),
        (
            "the same in another order",
            &["b", "a"],
            Some(&["a", "b"]),
            None,
        ),
        ("`default` besides", &["a", "default"], Some(&["a"]), None),
        (
            "no `default`, although it is promised",
            &["a"],
            Some(&["default", "a"]),
            None,
        ),
        ("`default` alone", &["default"], Some(&[]), None),
        (
            "one where `default` alone is promised",
            &["a", "default"],
            Some(&[]),
            Some("its policies are `a`, and none was expected"),
        ),
        (
            "one too few",
            &["default", "b"],
            Some(&["b", "a"]),
            Some("its policies are `b`, and `a, b` was expected"),
        ),
        (
            "one too many",
            &["a", "b", "c"],
            Some(&["a", "b"]),
            Some("its policies are `a, b, c`, and `a, b` was expected"),
        ),
        (
            "another of nearly the same name",
            &["shopp"],
            Some(&["shop"]),
            Some(
                "the manifest may be wrong: `policies` in [token] is `shop`, and the token says `shopp`; if the manifest is right, this is not the token that was promised",
            ),
        ),
    ] {
        let promise = Promise {
            policies: promised.map(texts),
            ..promise()
        };
        assert_eq!(
            refusal(check_policies(&texts(found), &promise)).as_deref(),
            expected,
            "{what}"
        );
    }
}

#[test]
fn client_token_that_vault_describes_otherwise_is_refused() {
    let rows: &[Row<TokenProperties>] = &[
        ("as promised", |_| {}, None),
        (
            "made without the role",
            |token| token.path = "auth/token/create".to_owned(),
            Some(
                "the client token was made at `auth/token/create`, and `auth/token/create/shop` was expected",
            ),
        ),
        (
            "of a server that names no role",
            |token| token.role = None,
            None,
        ),
        (
            "of a server that names an empty role",
            |token| token.role = Some(String::new()),
            None,
        ),
        (
            "of another role",
            |token| token.role = Some("billing".to_owned()),
            Some("its token role is `billing`, and `shop` was expected"),
        ),
        (
            "for a few requests",
            |token| token.num_uses = 5,
            Some("the client token's uses are limited to 5"),
        ),
        (
            "with a maximum that is just long enough",
            |token| token.explicit_max_ttl = 600,
            None,
        ),
        (
            "with a maximum that is longer",
            |token| token.explicit_max_ttl = 86_400,
            None,
        ),
        (
            "with a maximum that is a second too short",
            |token| token.explicit_max_ttl = 599,
            Some("the client token lives 599 s at the most, and `min_ttl` asks for 600 s"),
        ),
        (
            "with one of its policies through its identity",
            |token| {
                token.policies = texts(&["shop"]);
                token.identity_policies = Some(texts(&["certificates"]));
            },
            None,
        ),
        (
            "with one policy both of its own and through its identity",
            |token| token.identity_policies = Some(texts(&["shop"])),
            None,
        ),
        (
            "with a policy too many through its identity",
            |token| token.identity_policies = Some(texts(&["operator"])),
            Some(
                "its policies are `certificates, operator, shop`, and `certificates, shop` was expected",
            ),
        ),
        (
            "with fewer policies",
            |token| token.policies = texts(&["shop"]),
            Some("its policies are `shop`, and `certificates, shop` was expected"),
        ),
    ];
    for (what, change, expected) in rows {
        let mut properties = promised_properties();
        change(&mut properties);
        assert_eq!(
            refusal(check_properties(&properties, &promise())).as_deref(),
            *expected,
            "{what}"
        );
    }
}

#[test]
fn client_token_of_another_namespace_is_refused() {
    for (what, promised, found, expected) in [
        ("a server without namespaces", None, None, None),
        ("the root namespace", None, Some(""), None),
        ("the root namespace by its name", None, Some("root"), None),
        (
            "the promised one",
            Some("team/blue"),
            Some("team/blue/"),
            None,
        ),
        (
            "one, where none is promised",
            None,
            Some("team/"),
            Some("its namespace is `team`, and none was expected"),
        ),
        (
            "the root namespace instead of the promised one",
            Some("team"),
            Some("root"),
            Some("its namespace is none, and `team` was expected"),
        ),
        (
            "none instead of the promised one",
            Some("team"),
            None,
            Some("its namespace is none, and `team` was expected"),
        ),
        (
            "one below the promised one",
            Some("team"),
            Some("team/blue/"),
            Some("its namespace is `team/blue`, and `team` was expected"),
        ),
    ] {
        let properties = TokenProperties {
            namespace_path: found.map(str::to_owned),
            ..promised_properties()
        };
        let promise = Promise {
            namespace: promised.map(str::to_owned),
            ..promise()
        };
        assert_eq!(
            refusal(check_properties(&properties, &promise)).as_deref(),
            expected,
            "{what}"
        );
    }
}

#[test]
fn token_without_a_role_in_its_path_may_have_any() {
    let path = "auth/approle/login";
    let properties = TokenProperties {
        path: path.to_owned(),
        ..promised_properties()
    };
    let promise = Promise {
        creation_path: path.to_owned(),
        ..promise()
    };
    assert_eq!(refusal(check_properties(&properties, &promise)), None);
}

#[test]
fn message_names_the_causes_that_an_operator_can_look_into() {
    let of_vault = || vault::Error::InClear {
        reason: "it is far away".to_owned(),
    };
    let not_valid = |after_lookup| Error::NotValid {
        after_lookup,
        wrapped_accessor: None,
    };
    for (error, message) in [
        (
            not_valid(false),
            "the wrapping token is not valid: it has expired, was used already (by an earlier start of this container, or by a thief), is unknown to this Vault, or is an ordinary token".to_owned(),
        ),
        (
            not_valid(true),
            "the wrapping token was valid a moment ago and is not any more: it has expired in between, or another caller has just unwrapped it".to_owned(),
        ),
        (
            Error::NotPromised {
                what: "it is a root token".to_owned(),
            },
            "this is not the token that was promised: it is a root token".to_owned(),
        ),
        (
            Error::Misspelt {
                key: CREATION_PATH,
                written: "a/shop".to_owned(),
                found: "a/shopp".to_owned(),
            },
            "the manifest may be wrong: `creation_path` in [token] is `a/shop`, and the token says `a/shopp`; if the manifest is right, this is not the token that was promised".to_owned(),
        ),
        (
            Error::Unknown {
                reason: "the connection broke".to_owned(),
                wrapped_accessor: None,
            },
            "the unwrap was sent, but whether it was done is not known (the connection broke); the wrapping token counts as used".to_owned(),
        ),
        (Error::from(of_vault()), of_vault().to_string()),
    ] {
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn introduction_without_a_token_keeps_the_accessor_to_revoke() {
    let accessor = || Some("a".to_owned());
    let error = Error::from(login::Error::NotValid {
        wrapped_accessor: accessor(),
    });
    assert!(
        matches!(&error, Error::NotValid { after_lookup: true, wrapped_accessor } if *wrapped_accessor == accessor()),
        "{error:?}"
    );
    let error = Error::from(login::Error::Unknown {
        reason: "the connection broke".to_owned(),
        wrapped_accessor: accessor(),
    });
    assert!(
        matches!(&error, Error::Unknown { wrapped_accessor, .. } if *wrapped_accessor == accessor()),
        "{error:?}"
    );
    let error = Error::from(login::Error::NoToken { found: "data" });
    assert_eq!(
        refusal(Err(error)).as_deref(),
        Some("it wraps data, not a client token")
    );
}

#[test]
fn token_that_cannot_be_looked_up_is_not_the_promised_one() {
    let now = Instant::now();
    let log = Log {
        format: Format::Json,
        level: Level::Error,
    };
    // Its time is up before it begins, so that nothing is sent.
    let client = Client::new(
        Endpoint {
            url: "http://127.0.0.1:8200".to_owned(),
            namespace: None,
            tls_server_name: None,
            client_timeout: Duration::from_secs(1),
            standby_hosts: Vec::new(),
            allow_http: false,
        },
        Roots::System(None),
        Limits {
            deadline: Deadline::at(now),
            abort: Vec::new(),
            grace: Duration::ZERO,
            persistent: false,
        },
        log,
    );
    let token = b"hvs.CAESIExampleExampleExample".to_vec();
    let taken = wrapping_token::take(
        Source::Variable(crate::secret::Secret::new(token)),
        &wrapping_token::Limits::until(now),
        log,
    );
    let (Ok(client), Ok(taken)) = (client, taken) else {
        panic!("neither needs a server");
    };
    let inspected = inspect(&client, &taken.token, &promise(), log);
    assert!(matches!(inspected, Err(Error::Vault(_))), "{inspected:?}");
}
