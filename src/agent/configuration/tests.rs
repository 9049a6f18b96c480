use std::time::Duration;

use super::delivery::TOKEN_PATH;
use super::mint::ROLE;
use super::*;
use crate::agent::image::{Command, Demand};

const WHOLE: &str = r#"
[vault]
address = "https://vault.example.io:8200"
[token.approle]
role_id = "r"
secret_id_file = "/etc/secret-id"
[[allow]]
app = "timeline"
environments = ["production"]
images = ["timeline"]
users = ["1000:1000"]
"#;

fn mistakes(text: &str) -> Vec<String> {
    match read(text, &Environment::default(), "host-1") {
        Ok(_) => Vec::new(),
        Err(mistakes) => mistakes.iter().map(Mistake::to_string).collect(),
    }
}

#[test]
fn defaults_are_those_of_the_documentation() {
    let configuration = read(WHOLE, &Environment::default(), "host-1").expect("sound");
    assert_eq!(configuration.delivery.token_path, TOKEN_PATH);
    assert_eq!(configuration.mint.wrap_ttl, Duration::from_secs(30));
    assert_eq!(configuration.own.host, "host-1");
    assert_eq!(configuration.rules[0].role, ROLE);
    assert_eq!(configuration.labels.token_path, "anteroom.token-path");
}

#[test]
fn agents_own_file_in_the_mounted_directory_is_refused() {
    let socket = "[delivery]\nsocket = \"/run/a/agent.sock\"\n[agent]\n";
    for (line, is_sound) in [
        ("control = \"/run/a/control.sock\"", false),
        ("control = \"/run/a/below/control.sock\"", false),
        ("register = \"/run/a/register.json\"", false),
        ("listen = \"unix:/run/a/listen.sock\"", false),
        ("control = \"/run/b/control.sock\"", true),
    ] {
        let found = mistakes(&format!("{WHOLE}{socket}{line}"));
        assert_eq!(found.is_empty(), is_sound, "{line}: {found:?}");
    }
}

#[test]
fn every_mistake_is_named_with_its_place() {
    let text = r#"
[docker]
socket = "docker.sock"
[vault]
address = "http://vault.example.io"
[token]
file = "/a"
wrapping_token_file = "/b"
[mint]
wrap_ttl = "5m"
role = "a/b"
starts_per_minute = "many"
[delivery]
path = "/run/../etc/x"
[agent]
listen = "0.0.0.0:80"
nonsense = 1
[[allow]]
app = "../x"
environments = []
images = ["timeline:latest"]
digests = ["abc"]
users = ["app"]
"#;
    let found = mistakes(text);
    let places: Vec<&str> = found
        .iter()
        .map(|mistake| mistake.split(',').next().unwrap_or_default())
        .collect();
    for line in [3, 5, 10, 11, 12, 14, 16, 17, 19, 21, 22, 23] {
        assert!(
            places.contains(&format!("line {line}").as_str()),
            "{line}: {found:#?}"
        );
    }
    assert!(
        found.iter().any(|text| text.contains("one source")),
        "{found:#?}"
    );
}

#[test]
fn role_of_two_identities_must_be_named_by_both() {
    let rule = |app: &str, environment: &str, more: &str| {
        format!(
            "[[allow]]\napp = {app:?}\nenvironments = [{environment:?}]\nimages = [\"x\"]\n{more}\n"
        )
    };
    let head = WHOLE.split("[[allow]]").next().expect("the rest");
    let check = |one: &str, other: &str| {
        let rules =
            rule("timeline", "eu-production", one) + &rule("timeline-eu", "production", other);
        mistakes(&format!("{head}{rules}"))
    };
    let found = check("", "");
    assert_eq!(found.len(), 1, "{found:?}");
    for word in ["timeline-eu-production", "line 12", "`role` in [[allow]]"] {
        assert!(found[0].contains(word), "{word}: {found:?}");
    }
    let named = "role = \"timeline-eu-production\"";
    assert_eq!(check(named, "").len(), 1);
    assert_eq!(check(named, named), [""; 0]);
    assert_eq!(check("", "role = \"other\""), [""; 0]);
    // One rule for two environments says the same.
    let both = |more: &str| {
        let text = format!("{head}[mint]\nrole = \"${{app}}\"\n");
        let rules = rule("timeline", "production", more)
            .replace("\"production\"", "\"production\", \"test\"");
        mistakes(&format!("{text}{rules}")).len()
    };
    assert_eq!((both(""), both("role = \"${app}\"")), (1, 0));
}

#[test]
fn demands_on_a_start_are_read_and_checked() {
    let read = |line: &str| {
        let found = read(
            &format!("{WHOLE}{line}\n"),
            &Environment::default(),
            "host-1",
        );
        let found = found.map(|found| found.rules[0].demand.clone());
        found.map_err(|mistakes| mistakes[0].to_string())
    };
    assert_eq!(read(""), Ok(None));
    for (word, command) in [
        ("image", Command::Image),
        ("image-exact", Command::ImageExact),
    ] {
        let line = format!("command = {word:?}\nvariables = [\"A\"]\nmounts = [\"/data\"]");
        let demand = Demand {
            command,
            variables: vec!["A".to_owned()],
            mounts: vec!["/data".to_owned()],
        };
        assert_eq!(read(&line), Ok(Some(demand)));
    }
    for (line, word) in [
        ("command = \"exact\"", "image-exact"),
        ("variables = [\"A\"]", "need `command`"),
        ("mounts = [\"/data\"]", "need `command`"),
        (
            "command = \"image\"\nvariables = [\"A=1\"]",
            "without its value",
        ),
        ("command = \"image\"\nmounts = [\"data\"]", "begins with"),
        ("command = \"image\"\nmounts = [\"/a/../b\"]", "begins with"),
        ("command = \"image\"\nmounts = [\"/data/\"]", "begins with"),
        ("command = \"image\"\nmounts = [\"/\"]", "begins with"),
        (
            "command = \"image\"\nmounts = [\"/etc\"]",
            "hides /etc/anteroom.toml",
        ),
    ] {
        let mistake = read(line).expect_err(line);
        assert!(mistake.contains(word), "{line}: {mistake}");
    }
}

#[test]
fn rule_without_an_image_is_refused() {
    let found = mistakes(&WHOLE.replace("images = [\"timeline\"]\n", ""));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("`images` or `digests`"), "{found:?}");
}

#[test]
fn configuration_without_an_allow_list_is_refused() {
    let text = WHOLE.split("[[allow]]").next().expect("the rest");
    assert!(mistakes(text)[0].contains("no [[allow]]"));
}
