//! The tables [[allow]]: who may have which token.

use super::reader::Reader;
use crate::agent::delivery;
use crate::agent::identity::{Delivery, Rule, UserRule, repository};
use crate::agent::image::{Command, Demand, MANIFEST, cleaned, is_within};
use crate::manifest::table::Table;
use crate::text;

impl Reader {
    /// A rule, and whether it names its token role itself.
    pub(super) fn rule(
        &mut self,
        mut t: Table<'_>,
        role: &str,
        has_socket: bool,
    ) -> Option<(Rule, bool)> {
        let here = Some(t.place());
        let app = self.parsed(t.text("app"), text::label);
        let environments = self.list(t.texts("environments"), text::label);
        let images = self.list(t.texts("images"), image);
        let digests = self.list(t.texts("digests"), digest);
        let users = self.list(t.texts("users"), user);
        let networks = self.list(t.texts("networks"), |text| Ok(text.to_owned()));
        let command = self.parsed(t.text("command"), command);
        let variables = self.list(t.texts("variables"), variable);
        let mounts = self.list(t.texts("mounts"), mount);
        let own_role = self.parsed(t.text("role"), role_name);
        let token_path = self.parsed(t.text("token_path"), token_path_of);
        let through_socket = t.flag("socket");
        t.finish(&mut self.mistakes);
        if environments.is_empty() {
            self.mistake(here, "[[allow]] needs `environments`");
        }
        if images.is_empty() && digests.is_empty() {
            let text = "[[allow]] needs `images` or `digests`: labels alone can be set by any caller who starts a container";
            self.mistake(here, text);
        }
        if command.is_none() && !(variables.is_empty() && mounts.is_empty()) {
            let text = "`variables` and `mounts` say what else than the image's `command` lets through: they need `command`";
            self.mistake(here, text);
        }
        if through_socket && !has_socket {
            self.mistake(here, "`socket = true` needs `socket` in [delivery]");
        }
        if through_socket && token_path.is_some() {
            let text = "a token goes through the socket or to `token_path`, not both";
            self.mistake(here, text);
        }
        let Some(app) = app else {
            self.mistake(here, "[[allow]] needs `app`");
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
}

/// A role's name, in which the two identity labels may stand.
pub(super) fn role_name(text: &str) -> Result<String, String> {
    let sample = text.replace("${app}", "a").replace("${environment}", "e");
    text::path_segment(&sample)
        .map(|_| text.to_owned())
        .map_err(|error| {
            format!("{error}; `${{app}}` and `${{environment}}` are all that is replaced")
        })
}

pub(super) fn token_path_of(text: &str) -> Result<String, String> {
    delivery::target(text)
        .map(|_| text.to_owned())
        .map_err(|error| error.to_string())
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
