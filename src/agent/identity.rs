//! Who is this container, and may it have a token? Labels are a claim of whoever started it; the rules are the operator's.

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;

use std::collections::{BTreeMap, HashMap};

use time::OffsetDateTime;

use super::credentials::Credentials;
use super::image::{Demand, Difference, Made, Started};

/// What Docker says of a container that has started.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Its id, 64 hexadecimal digits.
    pub container: String,
    /// Its name, for people.
    pub name: String,
    /// All its labels, the image's among them.
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
    /// Names of its networks.
    pub networks: Vec<String>,
    /// Its first process, as Docker's host numbers it.
    pub pid: i32,
    /// When it started this time.
    pub started: OffsetDateTime,
}

impl Claim {
    /// By which Vault's audit log can be joined with a registry: the first registry's digest, else the image's own id.
    pub fn image_digest(&self) -> &str {
        let id_or_digest = self.digests.get(1).or_else(|| self.digests.first());
        id_or_digest.map_or("", String::as_str)
    }
}

/// Names of the labels that are looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelNames {
    /// The service.
    pub app: String,
    /// The environment it runs in.
    pub environment: String,
    /// Where the container wants its token.
    pub token_path: String,
}

/// A user or a user and its group, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserRule {
    /// The user.
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
    Door,
}

/// One `[[allow]]`: which containers may have the tokens of a service.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The service.
    pub app: String,
    /// The environments it may run in.
    pub environments: Vec<String>,
    /// Repositories it may come from.
    pub images: Vec<String>,
    /// Demands on its start; none where anything may run.
    pub demand: Option<Demand>,
    /// Digests or ids that its image may have.
    pub digests: Vec<String>,
    /// Whom its first process may run as; none is anybody.
    pub users: Vec<UserRule>,
    /// The only networks it may be in; none is any.
    pub networks: Vec<String>,
    /// The token role, with `${app}` and `${environment}`.
    pub role: String,
    /// How the token reaches it.
    pub delivery: Delivery,
}

/// Why a container gets no token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It has one of the two labels.
    LabelMissing {
        /// The other one.
        label: String,
    },
    /// No rule names this service in this environment.
    Unknown,
    /// The service may not come from this image.
    Image {
        /// What was found.
        found: String,
    },
    /// It may not run as this user.
    User {
        /// What was found.
        found: String,
    },
    /// It may not be in this network.
    Network {
        /// What was found.
        found: String,
    },
    /// The container was started with something that is not its image's.
    Started(Difference),
}

impl Refusal {
    /// For machines.
    pub fn reason(&self) -> &'static str {
        match self {
            Refusal::LabelMissing { .. } => "label_missing",
            Refusal::Unknown => "unknown_identity",
            Refusal::Image { .. } => "image",
            Refusal::User { .. } => "user",
            Refusal::Network { .. } => "network",
            Refusal::Started(difference) => difference.reason(),
        }
    }

    /// How far the checks came.
    fn rank(&self) -> u8 {
        match self {
            Refusal::LabelMissing { .. } | Refusal::Unknown => 0,
            Refusal::Image { .. } => 1,
            Refusal::User { .. } => 2,
            Refusal::Network { .. } => 3,
            Refusal::Started(_) => 4,
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refusal::LabelMissing { label } => write!(f, "it lacks the label `{label}`"),
            Refusal::Unknown => f.write_str("no [[allow]] names this service in this environment"),
            Refusal::Image { found } => write!(f, "the service may not come from {found}"),
            Refusal::User { found } => write!(f, "the service may not run as {found}"),
            Refusal::Network { found } => write!(f, "the service may not be in {found}"),
            Refusal::Started(difference) => difference.fmt(f),
        }
    }
}

/// What a container may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The service.
    pub app: String,
    /// The environment it runs in.
    pub environment: String,
    /// The token role.
    pub role: String,
    /// How the token reaches it.
    pub delivery: Delivery,
}

/// The two labels, when the container has them; none when it has neither and wants nothing.
pub fn labelled<'a>(
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
        // Many a container has an `environment` for somebody else.
        (None, _) => None,
    }
}

/// Compares a claim with the rules; `user` is whom the container's first process runs as.
pub fn decide(
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
}

impl Rule {
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
        match user.may_be(&claim.user, of_image) {
            true => Ok(()),
            false => refused(format!(
                "the user {user} where the container was started as {:?}",
                claim.user
            )),
        }
    }
}

/// Whether the container's image is the one that a rule calls so, by where it came from. Any user of Docker's socket may give
/// any image a tag; that an image was pulled from a registry, or from none, is not said so easily.
fn is_from(claim: &Claim, known: &str) -> bool {
    let wanted = qualified(known);
    let Some(origins) = &claim.origins else {
        return false;
    };
    wanted == qualified(repository(&claim.image))
        && match has_registry(known) {
            true => origins.iter().any(|origin| qualified(origin) == wanted),
            // A short name is also one of Docker Hub's, which anyone can be asked to pull.
            false => origins.is_empty(),
        }
}

/// A repository's whole name: what has no registry is Docker's own.
fn qualified(repository: &str) -> String {
    let name = match has_registry(repository) {
        true => repository,
        false => &format!("docker.io/{repository}"),
    };
    match name.strip_prefix("docker.io/") {
        Some(short) if !short.contains('/') => format!("docker.io/library/{short}"),
        _ => name.to_owned(),
    }
}

/// An image's name without tag and digest.
pub fn repository(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or_default();
    // A colon before the last slash belongs to a registry's port.
    match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    }
}

/// It names the registry that it comes from, as Docker tells such names from others.
fn has_registry(repository: &str) -> bool {
    repository
        .split_once('/')
        .is_some_and(|(host, _)| host.contains(['.', ':']) || host == "localhost")
}

/// What goes on the token, for Vault's audit log and for the container's own comparison.
pub fn metadata(identity: &Identity, claim: &Claim, host: &str) -> BTreeMap<String, String> {
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
mod tests {
    use super::*;

    fn claim() -> Claim {
        Claim {
            container: "c".repeat(64),
            name: "timeline-1".to_owned(),
            labels: HashMap::new(),
            image: "team/timeline:1.2".to_owned(),
            user: String::new(),
            digests: vec!["sha256:id".to_owned(), "sha256:registry".to_owned()],
            origins: Some(Vec::new()),
            run: Started::default(),
            made: Some(Made::default()),
            networks: vec!["back".to_owned()],
            pid: 1,
            started: OffsetDateTime::UNIX_EPOCH,
        }
    }

    fn rule() -> Rule {
        Rule {
            app: "timeline".to_owned(),
            environments: vec!["production".to_owned(), "staging".to_owned()],
            images: vec!["team/timeline".to_owned()],
            demand: None,
            digests: Vec::new(),
            users: Vec::new(),
            networks: Vec::new(),
            role: "${app}-${environment}".to_owned(),
            delivery: Delivery::File(None),
        }
    }

    fn user(uid: u32, gid: u32) -> Credentials {
        Credentials {
            uids: [uid; 4],
            gids: [gid; 4],
            may_become_another: uid == 0,
            has_host_ids: true,
        }
    }

    fn reason(claim: &Claim, app: &str, environment: &str, rule: Rule) -> &'static str {
        let mut claim = claim.clone();
        claim.user = "1000:1001".to_owned();
        match decide(&claim, app, environment, &user(1000, 1001), &[rule]) {
            Ok(_) => "allowed",
            Err(refusal) => refusal.reason(),
        }
    }

    #[test]
    fn the_role_is_that_of_the_service_in_its_environment() {
        let identity =
            decide(&claim(), "timeline", "staging", &user(0, 0), &[rule()]).expect("allowed");
        assert_eq!(identity.role, "timeline-staging");
        assert_eq!(
            metadata(&identity, &claim(), "host-1")["image_digest"],
            "sha256:registry"
        );
    }

    #[test]
    fn names_that_are_not_on_the_list_get_nothing_whatever_they_look_like() {
        let long = "x".repeat(10_000);
        for (app, environment) in [
            ("timeline", "production/../staging"),
            ("timeline", "test"),
            ("timeline\n", "production"),
            ("../timeline", "production"),
            ("TIMELINE", "production"),
            ("", ""),
            (long.as_str(), "production"),
        ] {
            assert_eq!(
                reason(&claim(), app, environment, rule()),
                "unknown_identity",
                "{app:.20} {environment}"
            );
        }
    }

    #[test]
    fn image_digest_user_and_network_are_each_compared() {
        let other = |change: fn(&mut Rule)| {
            let mut rule = rule();
            change(&mut rule);
            reason(&claim(), "timeline", "production", rule)
        };
        let id = |text: &str| vec![text.to_owned()];
        assert_eq!(other(|_| ()), "allowed");
        assert_eq!(other(|rule| rule.images = vec!["timeline".into()]), "image");
        assert_eq!(
            other(|rule| rule.digests = vec!["sha256:x".into()]),
            "image"
        );
        let mut known = rule();
        known.digests = id("sha256:id");
        assert_eq!(reason(&claim(), "timeline", "production", known), "allowed");
        let only = |uid, gid| UserRule { uid, gid };
        for (rules, expected) in [
            (vec![only(1000, None)], "allowed"),
            (vec![only(0, None), only(1000, Some(1001))], "allowed"),
            (vec![only(1000, Some(0))], "user"),
        ] {
            let mut rule = rule();
            rule.users = rules;
            assert_eq!(reason(&claim(), "timeline", "production", rule), expected);
        }
        assert_eq!(other(|rule| rule.networks = vec!["back".into()]), "allowed");
        assert_eq!(
            other(|rule| rule.networks = vec!["front".into()]),
            "network"
        );
        let mut lonely = claim();
        lonely.networks.clear();
        let mut rule = rule();
        rule.networks = id("back");
        assert_eq!(reason(&lonely, "timeline", "production", rule), "network");
    }

    #[test]
    fn user_is_whole_cannot_become_another_and_was_started_as_such() {
        let only = |uid, gid| {
            let mut rule = rule();
            rule.users = vec![UserRule { uid, gid }];
            rule
        };
        let named = only(1000, None);
        let grouped = only(1000, Some(7));
        let root = only(0, None);
        let run = |rule: &Rule, user: &Credentials, declared: &str| {
            let mut claim = claim();
            claim.user = declared.to_owned();
            let found = decide(
                &claim,
                "timeline",
                "production",
                user,
                std::slice::from_ref(rule),
            );
            found.map_or_else(|refusal| refusal.reason(), |_| "allowed")
        };
        let plain = user(1000, 7);
        assert_eq!(run(&named, &plain, "1000"), "allowed");
        assert_eq!(run(&grouped, &plain, "1000:7"), "allowed");
        assert_eq!(run(&grouped, &user(1000, 8), "1000"), "user");
        // A part of its ids is not enough, whichever.
        for at in 0..4 {
            let mut part = plain.clone();
            part.uids[at] = 0;
            assert_eq!(run(&named, &part, "1000"), "user", "{at}");
            let mut part = plain.clone();
            part.gids[at] = 0;
            assert_eq!(run(&grouped, &part, "1000"), "user", "{at}");
            assert_eq!(run(&named, &part, "1000"), "allowed", "{at}");
        }
        let mut mighty = plain.clone();
        mighty.may_become_another = true;
        assert_eq!(run(&named, &mighty, "1000"), "user");
        assert_eq!(run(&rule(), &mighty, "1000"), "allowed");
        assert_eq!(run(&root, &user(0, 0), ""), "allowed");
        // As what Docker was told to start it.
        for (declared, expected) in [
            ("", "user"),
            ("0", "user"),
            ("app", "user"),
            ("root", "user"),
        ] {
            assert_eq!(run(&named, &plain, declared), expected, "{declared}");
        }
        assert_eq!(run(&rule(), &plain, ""), "allowed");
    }

    #[test]
    fn an_image_that_only_bears_the_name_of_a_registry_is_not_from_there() {
        let name = "registry.example:5000/team/timeline";
        let mut rule = rule();
        rule.images = vec![name.to_owned()];
        let mut tagged = claim();
        tagged.image = format!("{name}:1.2");
        assert_eq!(
            reason(&tagged, "timeline", "production", rule.clone()),
            "image"
        );
        tagged.origins = Some(vec![name.to_owned()]);
        assert_eq!(reason(&tagged, "timeline", "production", rule), "allowed");
    }

    #[test]
    fn image_without_a_registry_is_from_none_and_docker_hub_is_one() {
        let check = |known: &str, image: &str, origins: Option<&[&str]>| {
            let mut claim = claim();
            claim.image = image.to_owned();
            let origins = origins.map(|all| all.iter().map(|one| (*one).to_owned()).collect());
            claim.origins = origins;
            is_from(&claim, known)
        };
        for (known, image, origins, expected) in [
            ("team/x", "team/x:1", Some(&[][..]), true),
            ("team/x", "docker.io/team/x:1", Some(&[]), true),
            ("team/x", "team/x:1", Some(&["team/x"]), false),
            ("team/x", "team/x:1", Some(&["docker.io/team/x"]), false),
            ("team/x", "team/x:1", Some(&["r.example/team/x"]), false),
            ("team/x", "team/x:1", None, false),
            ("team/x", "team/y:1", Some(&[]), false),
            ("x", "x:1", Some(&[]), true),
            ("x", "x:1", Some(&["x"]), false),
            ("docker.io/team/x", "team/x:1", Some(&["team/x"]), true),
            ("docker.io/team/x", "team/x:1", Some(&[]), false),
            ("docker.io/team/x", "team/x:1", None, false),
            ("docker.io/team/x", "team/y:1", Some(&["team/x"]), false),
            ("docker.io/x", "x:1", Some(&["x"]), true),
            (
                "docker.io/library/x",
                "x",
                Some(&["docker.io/library/x"]),
                true,
            ),
            ("docker.io/x", "x:1", Some(&["team/x"]), false),
            ("r.example/x", "r.example/x:1", Some(&["r.example/x"]), true),
            ("r.example/x", "x:1", Some(&["r.example/x"]), false),
            (
                "r.example/library/x",
                "r.example/x",
                Some(&["r.example/x"]),
                false,
            ),
        ] {
            let found = check(known, image, origins);
            assert_eq!(found, expected, "{known} {image} {origins:?}");
        }
    }

    #[test]
    fn start_is_compared_with_the_image_where_a_rule_demands_it() {
        let mut rule = rule();
        let mut claim = claim();
        claim.run.command = vec!["sh".to_owned()];
        assert_eq!(
            reason(&claim, "timeline", "production", rule.clone()),
            "allowed"
        );
        rule.demand = Some(Demand {
            command: super::super::image::Command::Image,
            variables: Vec::new(),
            mounts: Vec::new(),
        });
        assert_eq!(
            reason(&claim, "timeline", "production", rule.clone()),
            "command"
        );
        claim.made = Some(Made {
            entrypoint: vec!["sh".to_owned()],
            ..Made::default()
        });
        assert_eq!(
            reason(&claim, "timeline", "production", rule.clone()),
            "allowed"
        );
        claim.made = None;
        assert_eq!(reason(&claim, "timeline", "production", rule), "command");
    }

    #[test]
    fn a_repository_is_a_name_without_tag_and_digest() {
        for (image, name) in [
            ("timeline", "timeline"),
            ("timeline:1.2", "timeline"),
            ("docker.io/team/timeline:1.2", "docker.io/team/timeline"),
            (
                "registry.example:5000/team/timeline",
                "registry.example:5000/team/timeline",
            ),
            (
                "registry.example:5000/team/timeline:1@sha256:ab",
                "registry.example:5000/team/timeline",
            ),
        ] {
            assert_eq!(repository(image), name);
        }
        // An id is no name: only a digest can allow it.
        assert_ne!(repository("sha256:abcdef"), "timeline");
    }

    #[test]
    fn a_container_with_one_label_is_told_of_the_other() {
        let names = LabelNames {
            app: "app".to_owned(),
            environment: "environment".to_owned(),
            token_path: "anteroom.token-path".to_owned(),
        };
        let labels = |names: &[&str]| -> HashMap<String, String> {
            let label = |name: &&str| ((*name).to_owned(), "x".to_owned());
            names.iter().map(label).collect()
        };
        assert!(labelled(&labels(&["other"]), &names).is_none());
        assert!(labelled(&labels(&["environment"]), &names).is_none());
        let missing = labels(&["app"]);
        let refused = labelled(&missing, &names).expect("it wants something");
        assert_eq!(
            refused.expect_err("one is missing").reason(),
            "label_missing"
        );
    }
}
