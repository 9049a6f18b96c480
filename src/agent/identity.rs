//! Who is this container, and may it have a token? Labels are a claim of the caller who started it; the rules are the operator's.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod refusal;

use std::collections::{BTreeMap, HashMap};

use time::OffsetDateTime;

use super::credentials::Credentials;
use super::image::{Demand, Made, Started};

pub(super) use refusal::Refusal;

/// Docker's word on a container that has started.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    /// The container's id, 64 hexadecimal digits.
    pub container: String,
    /// The container's name, for people.
    pub name: String,
    /// All labels of the container, the image's among them.
    pub labels: HashMap<String, String>,
    /// The image as it was asked for.
    pub image: String,
    /// The user that it was to start as: numbers, names, or nothing.
    pub user: String,
    /// The image's id and the digests under which registries know it, each as `sha256:…`.
    pub digests: Vec<String>,
    /// The repositories that its image was pulled from or pushed to; empty for one that was built here, and none where that
    /// is not known.
    pub origins: Option<Vec<String>>,
    /// The command, variables and mounts that it was started with.
    pub run: Started,
    /// The image's own word on its containers; none where the engine does not know the image any more.
    pub made: Option<Made>,
    /// Names of its networks, and `container:…` where it is in that of another container.
    pub networks: Vec<String>,
    /// The container's first process, as Docker's host numbers it.
    pub pid: i32,
    /// When it started this time.
    pub started: OffsetDateTime,
}

impl Claim {
    /// The digest that joins Vault's audit log with a registry: the first registry's, else the image's own id.
    pub(super) fn image_digest(&self) -> &str {
        let id_or_digest = self.digests.get(1).or_else(|| self.digests.first());
        id_or_digest.map_or("", String::as_str)
    }
}

/// Names of the labels that are looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelNames {
    pub app: String,
    pub environment: String,
    /// Where the container wants its token.
    pub token_path: String,
}

/// A user or a user and its group, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserRule {
    pub uid: u32,
    /// The group; none is any.
    pub gid: Option<u32>,
}

/// How a token reaches its container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// As a file at this path; none is wherever the container or the agent's configuration says.
    File(Option<String>),
    /// The container asks for it at the agent's socket.
    Socket,
}

/// One `[[allow]]`: which containers may have the tokens of a service.
#[derive(Debug, Clone)]
pub struct Rule {
    pub app: String,
    pub environments: Vec<String>,
    /// Repositories that its image may come from, without tag and digest; none is any.
    pub images: Vec<String>,
    /// Demands on its start; none where anything may run.
    pub demand: Option<Demand>,
    /// Digests or ids that its image may have, each as `sha256:…`; none is any.
    pub digests: Vec<String>,
    /// The users that its first process may run as; none is any.
    pub users: Vec<UserRule>,
    /// The only networks it may be in; none is any.
    pub networks: Vec<String>,
    /// The token role, with `${app}` and `${environment}`.
    pub role: String,
    pub delivery: Delivery,
}

/// The token that a container may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub app: String,
    pub environment: String,
    /// The token role (`auth/token/create/ROLE`).
    pub role: String,
    pub delivery: Delivery,
}

/// The two labels, when the container has them; none when it has neither and wants nothing.
pub(super) fn labelled<'a>(
    labels: &'a HashMap<String, String>,
    names: &LabelNames,
) -> Option<Result<(&'a str, &'a str), Refusal>> {
    let label = |name: &str| labels.get(name).map(String::as_str);
    let missing = |label: &str| {
        Err(Refusal::LabelMissing {
            label: label.to_owned(),
        })
    };
    match (label(&names.app), label(&names.environment)) {
        (Some(app), Some(environment)) => Some(Ok((app, environment))),
        (Some(_), None) => Some(missing(&names.environment)),
        // Many a container has an `environment` that another program reads.
        (None, _) => None,
    }
}

/// Compares a claim with the rules; `user` is whom the container's first process runs as.
pub(super) fn decide(
    claim: &Claim,
    app: &str,
    environment: &str,
    user: &Credentials,
    rules: &[Rule],
) -> Result<Identity, Refusal> {
    let mut refusal = Refusal::Unknown;
    for rule in rules {
        if rule.app != app || !rule.environments.iter().any(|known| known == environment) {
            continue;
        }
        match rule.check(claim, user) {
            Ok(()) => {
                return Ok(Identity {
                    app: app.to_owned(),
                    environment: environment.to_owned(),
                    role: rule.role_in(environment),
                    delivery: rule.delivery.clone(),
                });
            }
            // Of several rules the one that fitted best says what is wrong.
            Err(closer) if closer.rank() >= refusal.rank() => refusal = closer,
            Err(_) => {}
        }
    }
    Err(refusal)
}

impl Rule {
    /// An image must come from a registry, or from none.
    pub fn names_image(&self) -> bool {
        !self.images.is_empty()
    }

    /// The token role of its service in this environment.
    pub fn role_in(&self, environment: &str) -> String {
        self.role
            .replace("${app}", &self.app)
            .replace("${environment}", environment)
    }

    fn check(&self, claim: &Claim, user: &Credentials) -> Result<(), Refusal> {
        let is_from = |known: &String| is_from(claim, known);
        let from_repository = self.images.is_empty() || self.images.iter().any(is_from);
        let with_digest = self.digests.is_empty()
            || self
                .digests
                .iter()
                .any(|known| claim.digests.contains(known));
        if !from_repository || !with_digest {
            return Err(Refusal::Image {
                found: format!("the image {} ({})", claim.image, claim.image_digest()),
            });
        }
        if !self.users.is_empty() {
            self.check_user(claim, user)?;
        }
        if !self.networks.is_empty() {
            self.check_networks(claim)?;
        }
        match &self.demand {
            Some(demand) => demand
                .check(&claim.run, claim.made.as_ref())
                .map_err(Refusal::Started),
            None => Ok(()),
        }
    }

    fn check_networks(&self, claim: &Claim) -> Result<(), Refusal> {
        let other = |network: &&String| !self.networks.contains(network);
        match claim.networks.iter().find(other) {
            None if !claim.networks.is_empty() => Ok(()),
            None => Err(Refusal::Network {
                found: "no network of its own".to_owned(),
            }),
            Some(network) => Err(Refusal::Network {
                found: format!("the network {network}"),
            }),
        }
    }

    /// Whether the container is one of the rule's users, cannot become another, and was not started as another.
    fn check_user(&self, claim: &Claim, user: &Credentials) -> Result<(), Refusal> {
        let refused = |found: String| Err(Refusal::User { found });
        let mut fitting = self.users.iter().filter(|rule| {
            user.is_user(rule.uid) && rule.gid.is_none_or(|group| user.is_group(group))
        });
        let Some(rule) = fitting.next() else {
            return refused(format!("the user {user}"));
        };
        if rule.uid != 0 && user.may_become_another {
            return refused(format!(
                "the user {user}, which may become any other (CAP_SETUID, CAP_SETGID)"
            ));
        }
        let of_image = claim.made.as_ref().map(|made| made.user.as_str());
        if !user.may_be(&claim.user, of_image) {
            return refused(format!(
                "the user {user} where the container was started as {:?}",
                claim.user
            ));
        }
        Ok(())
    }
}

/// Whether the container's image is the one that a rule calls so, by where it came from. Any user of Docker's socket may give
/// any image a tag; that an image was pulled from a registry, or from none, is not said so easily.
fn is_from(claim: &Claim, known: &str) -> bool {
    let wanted = qualified(known);
    let Some(origins) = &claim.origins else {
        return false;
    };
    let is_from_there = if has_registry(known) {
        origins.iter().any(|origin| qualified(origin) == wanted)
    } else {
        // A short name is also one of Docker Hub's, which anyone can be asked to pull.
        origins.is_empty()
    };
    is_from_there && wanted == qualified(repository(&claim.image))
}

/// A repository's whole name: what has no registry is Docker's own.
fn qualified(repository: &str) -> String {
    let name = if has_registry(repository) {
        repository
    } else {
        &format!("docker.io/{repository}")
    };
    match name.strip_prefix("docker.io/") {
        Some(short) if !short.contains('/') => format!("docker.io/library/{short}"),
        _ => name.to_owned(),
    }
}

/// An image's name without tag and digest.
pub(super) fn repository(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or_default();
    // A colon before the last slash belongs to a registry's port.
    match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    }
}

/// The name begins with a registry. Docker knows one by a dot, a colon or a capital letter before the first slash, or as
/// `localhost`; every other name is one of Docker Hub's.
fn has_registry(repository: &str) -> bool {
    let is_of_host = |c: char| matches!(c, '.' | ':' | 'A'..='Z');
    repository
        .split_once('/')
        .is_some_and(|(host, _)| host.contains(is_of_host) || host == "localhost")
}

/// The token's metadata, for Vault's audit log and for the container's own comparison.
pub(super) fn metadata(identity: &Identity, claim: &Claim, host: &str) -> BTreeMap<String, String> {
    [
        ("app", identity.app.as_str()),
        ("environment", &identity.environment),
        ("container_id", &claim.container),
        ("image_digest", claim.image_digest()),
        ("host", host),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}

#[cfg(test)]
mod tests;
