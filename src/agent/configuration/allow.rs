//! The tables `[[allow]]`: who may have which token.

use super::delivery::token_path;
use super::mint::role_name;
use super::reader::Reader;
use super::roles::{Grant, clashes};
use crate::agent::identity::{Delivery, Rule, UserRule, repository};
use crate::agent::image::{Command, Demand, MANIFEST, cleaned, is_within};
use crate::manifest::table::Table;
use crate::text;

/// Reads all rules. `role` is that of a rule that names none, and `has_socket` says whether containers can ask for tokens.
pub(super) fn read(
    root: &mut Table<'_>,
    role: &str,
    has_socket: bool,
    reader: &mut Reader,
) -> Vec<Rule> {
    let mut rules = Vec::new();
    let mut grants = Vec::new();
    for t in root.list("allow") {
        let place = t.place();
        let Some((rule, is_named)) = read_rule(t, role, has_socket, reader) else {
            continue;
        };
        grants.extend(rule.environments.iter().map(|environment| Grant {
            app: rule.app.clone(),
            environment: environment.clone(),
            role: rule.role_in(environment),
            is_named,
            place,
        }));
        rules.push(rule);
    }
    for (place, text) in clashes(&grants) {
        reader.mistake(Some(place), text);
    }
    if rules.is_empty() && reader.mistakes.is_empty() {
        reader.mistake(None, "no [[allow]]: no container could have a token");
    }
    rules
}

/// A rule, and whether it names its token role itself.
fn read_rule(
    mut t: Table<'_>,
    role: &str,
    has_socket: bool,
    reader: &mut Reader,
) -> Option<(Rule, bool)> {
    let here = Some(t.place());
    let app = reader.parsed(t.text("app"), text::label);
    let environments = reader.list(t.texts("environments"), text::label);
    let images = reader.list(t.texts("images"), image);
    let digests = reader.list(t.texts("digests"), digest);
    let users = reader.list(t.texts("users"), user);
    let networks = reader.list(t.texts("networks"), |text| Ok(text.to_owned()));
    let command = reader.parsed(t.text("command"), command);
    let variables = reader.list(t.texts("variables"), variable);
    let mounts = reader.list(t.texts("mounts"), mount);
    let own_role = reader.parsed(t.text("role"), role_name);
    let token_path = reader.parsed(t.text("token_path"), token_path);
    let through_socket = t.flag("socket");
    t.finish(&mut reader.mistakes);
    if environments.is_empty() {
        reader.mistake(here, "[[allow]] needs `environments`");
    }
    if images.is_empty() && digests.is_empty() {
        let text = "[[allow]] needs `images` or `digests`: labels alone can be set by any caller who starts a container";
        reader.mistake(here, text);
    }
    if command.is_none() && !(variables.is_empty() && mounts.is_empty()) {
        let text = "`variables` and `mounts` say what else than the image's `command` lets through: they need `command`";
        reader.mistake(here, text);
    }
    if through_socket && !has_socket {
        reader.mistake(here, "`socket = true` needs `socket` in [delivery]");
    }
    if through_socket && token_path.is_some() {
        let text = "a token goes through the socket or to `token_path`, not both";
        reader.mistake(here, text);
    }
    let Some(app) = app else {
        reader.mistake(here, "[[allow]] needs `app`");
        return None;
    };
    let is_named = own_role.is_some();
    let rule = Rule {
        app,
        environments,
        images,
        demand: command.map(|command| Demand {
            command,
            variables,
            mounts,
        }),
        digests,
        users,
        networks,
        role: own_role.unwrap_or_else(|| role.to_owned()),
        delivery: if through_socket {
            Delivery::Socket
        } else {
            Delivery::File(token_path)
        },
    };
    Some((rule, is_named))
}

fn image(text: &str) -> Result<String, String> {
    if repository(text) == text && !text.is_empty() {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "an image is named without tag and digest, as in `{}`; `digests` pins its content",
            repository(text).escape_default()
        ))
    }
}

fn command(text: &str) -> Result<Command, String> {
    match text {
        "image" => Ok(Command::Image),
        "image-exact" => Ok(Command::ImageExact),
        _ => Err("`command` is `image` or `image-exact`".to_owned()),
    }
}

fn variable(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains('=') {
        Err("a variable is named without its value".to_owned())
    } else {
        Ok(text.to_owned())
    }
}

/// A place that something may be mounted at, which may not hide the manifest.
fn mount(text: &str) -> Result<String, String> {
    let place = cleaned(text).filter(|place| *place == text);
    let place = place.ok_or("a place here begins with `/`, and has no empty, `.` or `..` part")?;
    if is_within(MANIFEST, place) {
        Err(format!("what is mounted there hides {}", MANIFEST))
    } else {
        Ok(place.to_owned())
    }
}

fn digest(text: &str) -> Result<String, String> {
    let hex = text.strip_prefix("sha256:").unwrap_or_default();
    let is_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    if hex.len() == 64 && hex.chars().all(is_hex) {
        Ok(text.to_owned())
    } else {
        Err("a digest is `sha256:` and 64 hexadecimal digits".to_owned())
    }
}

fn user(text: &str) -> Result<UserRule, String> {
    let number = |text: &str| {
        text.parse()
            .map_err(|_| "a user is a number or two, as in `1000` or `1000:1000`".to_owned())
    };
    match text.split_once(':') {
        None => Ok(UserRule {
            uid: number(text)?,
            gid: None,
        }),
        Some((uid, gid)) => Ok(UserRule {
            uid: number(uid)?,
            gid: Some(number(gid)?),
        }),
    }
}
