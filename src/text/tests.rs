use super::*;

// b16, b18
#[test]
fn address_alone_loses_its_brackets() {
    for (host, name) in [
        ("[::1]", "::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("vault.example", "vault.example"),
        ("vault.example[]", "vault.example[]"),
        ("[vault.example]", "[vault.example]"),
        ("[[::1]]", "[[::1]]"),
        ("[::1", "[::1"),
        ("", ""),
    ] {
        assert_eq!(without_brackets(host), name);
    }
}

#[test]
fn addresses_are_normalised_or_refused() {
    for (text, url) in [
        ("https://vault.example.io", "https://vault.example.io:443"),
        (
            "https://Vault.example.io:8200/",
            "https://vault.example.io:8200",
        ),
        ("http://[::1]:8200", "http://[::1]:8200"),
        ("http://127.0.0.1", "http://127.0.0.1:80"),
    ] {
        assert_eq!(Address::parse(text).expect(text).url(), url);
    }
    for text in [
        "",
        "vault:8200",
        "ftp://vault",
        "https://",
        "https:///",
        "https://u:p@vault",
        "https://vault/prefix",
        "https://vault%zz",
        "https://va ult",
        "https://vault\n",
        "https://vault:",
        "https://vault:0",
        "https://vault:99999",
        "https://[::1",
        "https://[vault]",
        "https://[::1]8200",
        "https://vault?x",
        "https://vault#x",
    ] {
        assert!(Address::parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn loopback_is_this_machine_alone() {
    for (text, loopback) in [
        ("http://127.0.0.1:1", true),
        ("http://[::1]:1", true),
        ("http://localhost:1", true),
        ("http://localhost.example.io:1", false),
        ("http://10.0.0.1:1", false),
    ] {
        assert_eq!(
            Address::parse(text).expect(text).is_loopback(),
            loopback,
            "{text}"
        );
    }
}

// b22
#[test]
fn vault_paths_that_mean_another_path_are_refused() {
    assert!(vault_path("database/creds/time-line_1.0").is_ok());
    for text in [
        "",
        "/secret/x",
        "v1/secret/x",
        "secret/../x",
        "secret//x",
        "secret/x.",
        "secret/x/",
        "secret/x?list=true",
        "secret/é",
        "secret/%2e%2e/x",
        "secret/x y",
        "secret/x\n",
        "./x",
    ] {
        assert!(vault_path(text).is_err(), "{text:?}");
    }
}

// b21
#[test]
fn namespaces_lose_their_outer_slashes() {
    assert_eq!(
        namespace("/payments/eu/").expect("valid").as_deref(),
        Some("payments/eu")
    );
    assert_eq!(namespace("").expect("valid"), None);
    assert_eq!(namespace("root").expect("valid"), None);
    assert!(namespace("a/../b").is_err());
    assert!(namespace("a//b").is_err());
}

// b23
#[test]
fn file_names_stay_in_their_directory() {
    for text in [
        "",
        "/etc/passwd",
        "a/b",
        "..",
        ".",
        "..data",
        "a\nb",
        &"x".repeat(256),
    ] {
        assert!(file_name(text).is_err(), "{text:?}");
    }
    assert!(file_name(".pgpass").is_ok());
}

#[test]
fn duration_has_whole_numbers_with_units_or_is_seconds() {
    assert_eq!(duration("1h30m").expect("valid"), Duration::from_secs(5400));
    assert_eq!(
        duration("500ms").expect("valid"),
        Duration::from_millis(500)
    );
    assert_eq!(duration("60").expect("valid"), Duration::from_secs(60));
    for text in ["", "s", "5x", "-1s", "1.5h", "99999999999s", "1s2"] {
        assert!(duration(text).is_err(), "{text:?}");
    }
}
