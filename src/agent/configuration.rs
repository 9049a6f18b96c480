//! `/etc/anteroom-agent.toml`: where Docker and Vault are, the agent's own token, and who may have which.

mod roles;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::delivery;
use super::identity::{Delivery, LabelNames, Rule, UserRule, repository};
use super::image::{Command, Demand, MANIFEST, cleaned, is_within};
use crate::config::{self, Vault};
use crate::environment::Environment;
use crate::manifest::table::{self, Table};
use crate::manifest::{At, Mistake, Place, read_vault};
use crate::text;

use roles::Grant;

/// The longest life of a wrapping token, which is also the default.
const WRAP_TTL: Duration = Duration::from_secs(30);
/// The life that a service's token has until it is renewed.
const TTL: Duration = Duration::from_secs(3600);
/// A container that starts more often than this in a minute has to wait.
const STARTS_PER_MINUTE: u32 = 10;
const TOKEN_PATH: &str = "/run/secrets/.anteroom-token";
const ROLE: &str = "${app}-${environment}";

/// Everything that the agent needs to know.
pub struct Configuration {
    /// The engine's socket.
    pub docker: PathBuf,
    /// Where the host's processes are (proc(5)).
    pub proc: PathBuf,
    /// Where Vault is.
    pub vault: Vault,
    /// Where the agent's own token comes from.
    pub login: Login,
    /// The labels that are looked at.
    pub labels: LabelNames,
    /// Life of a wrapping token.
    pub wrap_ttl: Duration,
    /// Life of a client token until it is renewed, where its role has no period.
    pub ttl: Duration,
    /// How many tokens one container may have in a minute.
    pub starts_per_minute: u32,
    /// Where a token goes in its container.
    pub token_path: String,
    /// The socket at which containers ask for their token.
    pub socket: Option<PathBuf>,
    /// The socket for break-glass.
    pub control: PathBuf,
    /// The file that says what was handed out.
    pub register: PathBuf,
    /// Where metrics and health are.
    pub listen: Option<Listen>,
    /// This host's name, for the tokens' metadata.
    pub host: String,
    /// Who may have which token.
    pub rules: Vec<Rule>,
    /// The notices say what was decided that the operator may not expect.
    pub notices: Vec<String>,
}

/// Where the agent's own token comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// A file that holds it; it is read again when the token has ended.
    File(PathBuf),
    /// A file with a wrapping token, read once and removed.
    WrappingToken(PathBuf),
    /// AppRole: a login whenever a token is needed.
    AppRole {
        /// Mount of the auth method.
        mount: String,
        /// The role's id.
        role_id: String,
        /// A file with its secret id.
        secret_id: PathBuf,
    },
}

/// Where metrics and health are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// On a loopback address.
    Tcp(SocketAddr),
    /// On a socket in the file system.
    Unix(PathBuf),
}

/// Reads the configuration; all mistakes are reported at once.
pub(super) fn read(
    text: &str,
    environment: &Environment,
    hostname: &str,
) -> Result<Configuration, Vec<Mistake>> {
    let (root, mistakes) = table::read(text);
    let mut reader = Reader { mistakes };
    let configuration = reader.configuration(root, environment, hostname);
    let Reader { mut mistakes } = reader;
    mistakes.sort_by_key(|mistake| mistake.place);
    match configuration {
        Some(configuration) if mistakes.is_empty() => Ok(configuration),
        _ => Err(mistakes),
    }
}

struct Reader {
    mistakes: Vec<Mistake>,
}

impl Reader {
    fn mistake(&mut self, place: Option<Place>, text: impl Into<String>) {
        let text = text.into();
        self.mistakes.push(Mistake { place, text });
    }

    fn parsed<T>(
        &mut self,
        value: Option<At<String>>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = value?;
        parse(&value.value)
            .map_err(|text| self.mistake(Some(value.place), text))
            .ok()
    }

    fn list<T>(
        &mut self,
        values: Option<Vec<At<String>>>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let values = values.unwrap_or_default().into_iter();
        values
            .filter_map(|value| self.parsed(Some(value), &parse))
            .collect()
    }

    fn configuration(
        &mut self,
        mut root: Table<'_>,
        environment: &Environment,
        hostname: &str,
    ) -> Option<Configuration> {
        let mut docker = None;
        let mut proc = None;
        if let Some(mut t) = root.table("docker") {
            docker = self.parsed(t.text("socket"), absolute);
            proc = self.parsed(t.text("proc"), absolute);
            t.finish(&mut self.mistakes);
        }
        let mut vault = crate::manifest::Vault::default();
        if let Some(mut t) = root.table("vault") {
            vault = read_vault(&mut t);
            t.finish(&mut self.mistakes);
        }
        if let Some(deadline) = &vault.deadline {
            let text = "`deadline` in [vault] is a start's; the agent has none";
            self.mistake(Some(deadline.place), text);
        }
        let (vault, mistakes, notices) = config::vault_alone(&vault, environment);
        self.mistakes.extend(mistakes);
        let login = self.login(&mut root);
        let labels = self.labels(&mut root);
        let mut wrap_ttl = None;
        let mut ttl = None;
        let mut starts_per_minute = None;
        let mut role = None;
        if let Some(mut t) = root.table("mint") {
            wrap_ttl = self.parsed(t.text("wrap_ttl"), short);
            ttl = self.parsed(t.text("ttl"), text::whole_seconds);
            starts_per_minute = t.number("starts_per_minute");
            if starts_per_minute == Some(0) {
                let text = "`starts_per_minute` in [mint]: with 0 no container could start";
                self.mistake(None, text);
            }
            role = self.parsed(t.text("role"), role_name);
            t.finish(&mut self.mistakes);
        }
        let mut token_path = None;
        let mut socket = None;
        if let Some(mut t) = root.table("delivery") {
            token_path = self.parsed(t.text("path"), token_path_of);
            socket = self.parsed(t.text("socket"), absolute);
            t.finish(&mut self.mistakes);
        }
        let mut register = None;
        let mut control = None;
        let mut listen = None;
        let mut host = None;
        if let Some(mut t) = root.table("agent") {
            register = self.parsed(t.text("register"), absolute);
            control = self.parsed(t.text("control"), absolute);
            listen = self.parsed(t.text("listen"), listener);
            host = t.text("host").map(|host| host.value);
            t.finish(&mut self.mistakes);
        }
        let control: PathBuf = control.unwrap_or_else(|| "/run/anteroom-agent/control.sock".into());
        let register: PathBuf =
            register.unwrap_or_else(|| "/var/lib/anteroom-agent/register.json".into());
        let own = [
            ("control", Some(&control)),
            ("register", Some(&register)),
            (
                "listen",
                match &listen {
                    Some(Listen::Unix(path)) => Some(path),
                    _ => None,
                },
            ),
        ];
        let shared = socket.as_deref().and_then(Path::parent);
        for (key, path) in own {
            if path
                .zip(shared)
                .is_some_and(|(path, shared)| path.starts_with(shared))
            {
                let text = format!(
                    "`{key}` in [agent] lies in the directory of `socket` in [delivery], which is mounted into containers"
                );
                self.mistake(None, text);
            }
        }
        let role = role.unwrap_or_else(|| ROLE.to_owned());
        let mut rules = Vec::new();
        let mut grants = Vec::new();
        for t in root.list("allow") {
            let place = t.place();
            let Some((rule, is_named)) = self.rule(t, &role, socket.is_some()) else {
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
        for (place, text) in roles::clashes(&grants) {
            self.mistake(Some(place), text);
        }
        if rules.is_empty() && self.mistakes.is_empty() {
            self.mistake(None, "no [[allow]]: no container could have a token");
        }
        root.finish(&mut self.mistakes);
        Some(Configuration {
            docker: docker.unwrap_or_else(|| "/var/run/docker.sock".into()),
            proc: proc.unwrap_or_else(|| "/proc".into()),
            vault: vault?,
            login: login?,
            labels,
            wrap_ttl: wrap_ttl.unwrap_or(WRAP_TTL),
            ttl: ttl.unwrap_or(TTL),
            starts_per_minute: starts_per_minute.unwrap_or(STARTS_PER_MINUTE),
            token_path: token_path.unwrap_or_else(|| TOKEN_PATH.to_owned()),
            socket,
            control,
            register,
            listen,
            host: host.unwrap_or_else(|| hostname.to_owned()),
            rules,
            notices,
        })
    }

    fn login(&mut self, root: &mut Table<'_>) -> Option<Login> {
        const SOURCES: &str = "[token] names one source of the agent's own token: `file`, `wrapping_token_file` or [token.approle]";
        let Some(mut t) = root.table("token") else {
            self.mistake(None, format!("[token] is missing; {SOURCES}"));
            return None;
        };
        let before = self.mistakes.len();
        let mut sources: Vec<Option<Login>> = Vec::new();
        if let Some(file) = t.text("file") {
            sources.push(self.parsed(Some(file), absolute).map(Login::File));
        }
        if let Some(file) = t.text("wrapping_token_file") {
            let file = self.parsed(Some(file), absolute);
            sources.push(file.map(Login::WrappingToken));
        }
        if let Some(mut approle) = t.table("approle") {
            let mount = self.parsed(approle.text("mount"), text::vault_path);
            let role_id = approle.text("role_id").map(|id| id.value);
            let secret_id = self.parsed(approle.text("secret_id_file"), absolute);
            approle.finish(&mut self.mistakes);
            sources.push(match (role_id, secret_id) {
                (Some(role_id), Some(secret_id)) => Some(Login::AppRole {
                    mount: mount.unwrap_or_else(|| "approle".to_owned()),
                    role_id,
                    secret_id,
                }),
                _ => {
                    let text = "[token.approle] needs `role_id` and `secret_id_file`";
                    self.mistake(None, text);
                    None
                }
            });
        }
        t.finish(&mut self.mistakes);
        if sources.len() != 1 && self.mistakes.len() == before {
            self.mistake(None, SOURCES);
        }
        sources.into_iter().next()?
    }

    fn labels(&mut self, root: &mut Table<'_>) -> LabelNames {
        let mut names = LabelNames {
            app: "app".to_owned(),
            environment: "environment".to_owned(),
            token_path: "anteroom.token-path".to_owned(),
        };
        if let Some(mut t) = root.table("labels") {
            for (key, name) in [
                ("app", &mut names.app),
                ("environment", &mut names.environment),
                ("token_path", &mut names.token_path),
            ] {
                if let Some(text) = self.parsed(t.text(key), label_name) {
                    *name = text;
                }
            }
            t.finish(&mut self.mistakes);
        }
        names
    }

    /// A rule, and whether it names its token role itself.
    fn rule(&mut self, mut t: Table<'_>, role: &str, has_socket: bool) -> Option<(Rule, bool)> {
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

fn absolute(text: &str) -> Result<PathBuf, String> {
    if text.starts_with('/') {
        Ok(text.into())
    } else {
        Err("a path here begins with `/`".to_owned())
    }
}

fn short(text: &str) -> Result<Duration, String> {
    text::whole_seconds(text).and_then(|ttl| {
        if ttl <= WRAP_TTL {
            Ok(ttl)
        } else {
            Err("a wrapping token lives 30 s at the most".to_owned())
        }
    })
}

/// A role's name, in which the two identity labels may stand.
fn role_name(text: &str) -> Result<String, String> {
    let sample = text.replace("${app}", "a").replace("${environment}", "e");
    text::path_segment(&sample)
        .map(|_| text.to_owned())
        .map_err(|error| {
            format!("{error}; `${{app}}` and `${{environment}}` are all that is replaced")
        })
}

fn token_path_of(text: &str) -> Result<String, String> {
    delivery::target(text)
        .map(|_| text.to_owned())
        .map_err(|error| error.to_string())
}

fn label_name(text: &str) -> Result<String, String> {
    if !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        Err("a label's name is not empty and holds visible ASCII alone".to_owned())
    }
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

/// `127.0.0.1:9180`, `[::1]:9180` or `unix:/run/…`.
fn listener(text: &str) -> Result<Listen, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return absolute(path).map(Listen::Unix);
    }
    let address: SocketAddr = text.parse().map_err(|_| {
        "a listener is an address and a port, as in `127.0.0.1:9180`, or `unix:` and a path"
            .to_owned()
    })?;
    if address.ip().is_loopback() {
        Ok(Listen::Tcp(address))
    } else {
        Err("metrics are for this host: listen on a loopback address".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(configuration.token_path, TOKEN_PATH);
        assert_eq!(configuration.wrap_ttl, Duration::from_secs(30));
        assert_eq!(configuration.host, "host-1");
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
}
