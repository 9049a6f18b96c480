use super::*;
use crate::agent::image::Command;

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn names() -> LabelNames {
    LabelNames {
        app: "org.app".to_owned(),
        environment: "org.environment".to_owned(),
        token_path: "org.token-path".to_owned(),
    }
}

fn claim() -> Claim {
    Claim {
        container: "c".repeat(64),
        name: "timeline-1".to_owned(),
        labels: HashMap::new(),
        image: "team/timeline:1.2".to_owned(),
        user: "1000:7".to_owned(),
        digests: words("sha256:id sha256:registry"),
        origins: Some(Vec::new()),
        run: Started::default(),
        made: Some(Made::default()),
        networks: words("back"),
        pid: 1,
        started: OffsetDateTime::UNIX_EPOCH,
    }
}

fn rule() -> Rule {
    Rule {
        app: "timeline".to_owned(),
        environments: words("production staging"),
        images: words("team/timeline"),
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

/// The outcome for the service in production, where its first process is the user that it was started as.
fn outcome(claim: &Claim, rule: Rule) -> &'static str {
    match decide(claim, "timeline", "production", &user(1000, 7), &[rule]) {
        Ok(_) => "allowed",
        Err(refusal) => refusal.reason(),
    }
}

#[test]
fn labels_of_a_container_are_two_or_one_is_missing() {
    let missing = |label: &str| {
        let label = label.to_owned();
        Some(Err(Refusal::LabelMissing { label }))
    };
    for (sentence, labels, expected) in [
        (
            "it has both",
            &[("org.app", "timeline"), ("org.environment", "staging")][..],
            Some(Ok(("timeline", "staging"))),
        ),
        (
            "both are empty, which no rule names",
            &[("org.app", ""), ("org.environment", "")],
            Some(Ok(("", ""))),
        ),
        (
            "it is a service that does not say where",
            &[("org.app", "timeline"), ("environment", "staging")],
            missing("org.environment"),
        ),
        (
            "it is in an environment, for another reader's use",
            &[("org.environment", "staging"), ("app", "timeline")],
            None,
        ),
        ("it wants nothing", &[("other", "timeline")], None),
    ] {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let labels = labels.iter().map(owned).collect();
        assert_eq!(labelled(&labels, &names()), expected, "{sentence}");
    }
}

#[test]
fn service_that_no_rule_names_in_its_environment_is_unknown() {
    let long = "x".repeat(10_000);
    for (sentence, app, environment, is_known) in [
        ("the first environment", "timeline", "production", true),
        ("the second environment", "timeline", "staging", true),
        ("no environment of its own", "timeline", "test", false),
        ("a way there", "timeline", "production/../staging", false),
        ("a way to the service", "../timeline", "production", false),
        ("an end of line", "timeline\n", "production", false),
        ("capital letters", "TIMELINE", "production", false),
        ("another service", "mail", "production", false),
        ("nothing", "", "", false),
        ("a long name", &long, "production", false),
    ] {
        let found = decide(&claim(), app, environment, &user(1000, 7), &[rule()]);
        match found {
            Ok(identity) => assert!(
                is_known && identity.app == app && identity.environment == environment,
                "{sentence}"
            ),
            Err(refusal) => assert!(!is_known && refusal == Refusal::Unknown, "{sentence}"),
        }
    }
}

#[test]
fn image_is_of_the_rules_repositories_and_digests() {
    for (sentence, images, digests, expected) in [
        ("its repository", "team/timeline", "", "allowed"),
        ("one of two", "team/x team/timeline", "", "allowed"),
        ("another repository", "timeline", "", "image"),
        ("its id alone", "", "sha256:id", "allowed"),
        ("a registry's digest", "", "sha256:registry", "allowed"),
        ("one of two digests", "", "sha256:x sha256:id", "allowed"),
        ("another digest", "", "sha256:x", "image"),
        ("both", "team/timeline", "sha256:id", "allowed"),
        ("its repository alone", "team/timeline", "sha256:x", "image"),
        ("its digest alone", "timeline", "sha256:id", "image"),
        ("neither", "timeline", "sha256:x", "image"),
    ] {
        let mut rule = rule();
        rule.images = words(images);
        rule.digests = words(digests);
        assert_eq!(rule.names_image(), !images.is_empty(), "{sentence}");
        assert_eq!(outcome(&claim(), rule), expected, "{sentence}");
    }
}

#[test]
fn image_named_with_a_registry_was_pulled_or_pushed_there() {
    for (sentence, known, image, origins, expected) in [
        ("so it was", "r.io/x", "r.io/x:1", Some("r.io/x"), true),
        ("also", "r.io/x", "r.io/x:1", Some("q.io/x r.io/x"), true),
        ("only tagged", "r.io/x", "r.io/x:1", Some(""), false),
        ("elsewhere", "r.io/x", "r.io/x:1", Some("q.io/x"), false),
        ("not known", "r.io/x", "r.io/x:1", None, false),
        ("other name", "r.io/x", "x:1", Some("r.io/x"), false),
        ("other path", "r.io/a/x", "r.io/x", Some("r.io/x"), false),
        ("a port", "r:5000/x", "r:5000/x:1", Some("r:5000/x"), true),
        ("tagged", "r:5000/x", "r:5000/x:1", Some(""), false),
        ("this host", "localhost/x", "localhost/x", Some(""), false),
        ("capitals", "R/x", "R/x:1", Some("R/x"), true),
        ("tagged", "R/x", "R/x:1", Some(""), false),
        ("Docker Hub", "docker.io/a/x", "a/x:1", Some("a/x"), true),
        ("tagged", "docker.io/a/x", "a/x:1", Some(""), false),
        ("not known", "docker.io/a/x", "a/x:1", None, false),
        ("other name", "docker.io/a/x", "a/y:1", Some("a/x"), false),
        ("official", "docker.io/x", "x:1", Some("library/x"), true),
        ("other path", "docker.io/x", "x:1", Some("a/x"), false),
    ] {
        let claim = Claim {
            image: image.to_owned(),
            origins: origins.map(words),
            ..claim()
        };
        let case = format!("{sentence}: {known} {image} {origins:?}");
        assert_eq!(is_from(&claim, known), expected, "{case}");
    }
}

#[test]
fn image_named_without_a_registry_is_known_from_none() {
    for (sentence, known, image, origins, expected) in [
        ("built here", "a/x", "a/x:1", Some(""), true),
        ("built here, a short name", "x", "x", Some(""), true),
        ("built here", "a/x", "docker.io/a/x:1", Some(""), true),
        ("another image", "a/x", "a/y:1", Some(""), false),
        ("another registry's", "a/x", "r.io/a/x:1", Some(""), false),
        ("from Docker Hub", "a/x", "a/x:1", Some("a/x"), false),
        ("from Docker Hub", "x", "x:1", Some("docker.io/x"), false),
        ("from a registry", "a/x", "a/x:1", Some("r.io/a/x"), false),
        ("not known", "a/x", "a/x:1", None, false),
    ] {
        let claim = Claim {
            image: image.to_owned(),
            origins: origins.map(words),
            ..claim()
        };
        let case = format!("{sentence}: {known} {image} {origins:?}");
        assert_eq!(is_from(&claim, known), expected, "{case}");
    }
}

#[test]
fn repository_has_the_registry_that_docker_sees_in_it() {
    for (sentence, repository, whole) in [
        ("one word is official", "x", "docker.io/library/x"),
        (
            "also with its registry",
            "docker.io/x",
            "docker.io/library/x",
        ),
        ("a user's", "a/x", "docker.io/a/x"),
        ("also with its registry", "docker.io/a/x", "docker.io/a/x"),
        ("a dot makes a host", "r.io/x", "r.io/x"),
        (
            "and `library` is Docker Hub's alone",
            "r.io/library/x",
            "r.io/library/x",
        ),
        ("a port makes a host", "r:5000/x", "r:5000/x"),
        ("a capital letter makes a host", "R/x", "R/x"),
        ("this host is one", "localhost/x", "localhost/x"),
        ("a dot later on makes none", "a/x.y", "docker.io/a/x.y"),
    ] {
        assert_eq!(qualified(repository), whole, "{sentence}");
    }
}

#[test]
fn repository_is_a_name_without_tag_and_digest() {
    for (sentence, image, name) in [
        ("a name", "timeline", "timeline"),
        ("a tag", "timeline:1.2", "timeline"),
        ("a digest", "timeline@sha256:ab", "timeline"),
        ("both", "r.io/a/x:1@sha256:ab", "r.io/a/x"),
        ("a port is no tag", "r.io:5000/a/x", "r.io:5000/a/x"),
        ("a port and a tag", "r.io:5000/a/x:1", "r.io:5000/a/x"),
    ] {
        assert_eq!(repository(image), name, "{sentence}");
    }
    // An id is no name: only a digest can allow it.
    assert_ne!(repository("sha256:abcdef"), "timeline");
}

#[test]
fn user_is_whole_cannot_become_another_and_was_started_as_such() {
    let plain = user(1000, 7);
    let mighty = Credentials {
        may_become_another: true,
        ..plain.clone()
    };
    let root = user(0, 0);
    let tame = Credentials {
        may_become_another: false,
        ..root.clone()
    };
    let only = |uid, gid| UserRule { uid, gid };
    let any: &[UserRule] = &[];
    let (named, grouped) = (&[only(1000, None)][..], &[only(1000, Some(7))][..]);
    let zero = &[only(0, None)][..];
    let two = &[only(0, None), only(1000, Some(8)), only(1000, Some(7))][..];
    for (sentence, rules, found, declared, expected) in [
        ("the user", named, &plain, "1000", "allowed"),
        ("the user in any group", named, &plain, "1000:7", "allowed"),
        (
            "the user in the group",
            grouped,
            &plain,
            "1000:7",
            "allowed",
        ),
        ("one of several", two, &plain, "1000:7", "allowed"),
        ("root", zero, &root, "", "allowed"),
        (
            "root that gave its rights away",
            zero,
            &tame,
            "0",
            "allowed",
        ),
        ("another group", grouped, &user(1000, 8), "1000", "user"),
        ("another user", named, &user(1001, 7), "1001", "user"),
        ("root is another user, too", named, &root, "", "user"),
        (
            "a user where root is asked for",
            zero,
            &plain,
            "1000",
            "user",
        ),
        ("it may become any user", named, &mighty, "1000", "user"),
        ("it was started as root", named, &plain, "", "user"),
        ("it was started as root", named, &plain, "0", "user"),
        ("it was started as root", named, &plain, "root", "user"),
        ("its name is not the image's", named, &plain, "app", "user"),
        ("its name is the image's", named, &plain, "web", "allowed"),
        ("any user, started as root", any, &plain, "", "allowed"),
        (
            "any user, which may become any",
            any,
            &mighty,
            "1",
            "allowed",
        ),
    ] {
        let mut claim = claim();
        claim.user = declared.to_owned();
        claim.made = Some(Made {
            user: "web".to_owned(),
            ..Made::default()
        });
        let mut rule = rule();
        rule.users = rules.to_vec();
        let found = decide(&claim, "timeline", "production", found, &[rule]);
        let reason = found.map_or_else(|refusal| refusal.reason(), |_| "allowed");
        assert_eq!(reason, expected, "{sentence}: {declared:?}");
    }
}

#[test]
fn networks_of_a_container_are_all_of_the_rule() {
    for (sentence, allowed, networks, found) in [
        ("the network", "back", "back", None),
        ("some of them", "back front", "front", None),
        ("all of them", "back front", "front back", None),
        ("any network", "", "front", None),
        ("any network, and none", "", "", None),
        ("another", "back", "front", Some("the network front")),
        ("one too many", "back", "back x", Some("the network x")),
        ("none", "back", "", Some("no network of its own")),
    ] {
        let mut claim = claim();
        claim.networks = words(networks);
        let mut rule = rule();
        rule.networks = words(allowed);
        let expected = match found {
            None => Ok(()),
            Some(found) => Err(Refusal::Network {
                found: found.to_owned(),
            }),
        };
        assert_eq!(rule.check(&claim, &user(1000, 7)), expected, "{sentence}");
    }
}

#[test]
fn start_is_compared_with_the_image_where_a_rule_demands_it() {
    let made = |entrypoint: &str| Made {
        entrypoint: words(entrypoint),
        ..Made::default()
    };
    for (sentence, is_demanded, made, expected) in [
        ("the image's", true, Some(made("sh")), "allowed"),
        ("another", true, Some(made("java")), "command"),
        ("the image is gone", true, None, "command"),
        ("any", false, Some(made("java")), "allowed"),
        ("any, and the image is gone", false, None, "allowed"),
    ] {
        let mut claim = claim();
        claim.run.command = words("sh -c id");
        claim.made = made;
        let mut rule = rule();
        rule.demand = is_demanded.then_some(Demand {
            command: Command::Image,
            variables: Vec::new(),
            mounts: Vec::new(),
        });
        assert_eq!(outcome(&claim, rule), expected, "{sentence}");
    }
}

/// Rules that refuse the container of `claim`, each for one reason.
fn refusing() -> [(&'static str, Rule); 5] {
    let refusing = |change: fn(&mut Rule)| {
        let mut rule = rule();
        change(&mut rule);
        rule
    };
    [
        ("unknown_identity", refusing(|rule| rule.app.push('x'))),
        ("image", refusing(|rule| rule.images = words("x"))),
        (
            "user",
            refusing(|rule| rule.users = vec![UserRule { uid: 5, gid: None }]),
        ),
        ("network", refusing(|rule| rule.networks = words("x"))),
        (
            "command",
            refusing(|rule| {
                rule.demand = Some(Demand {
                    command: Command::Image,
                    variables: Vec::new(),
                    mounts: Vec::new(),
                });
            }),
        ),
    ]
}

#[test]
fn refusal_is_that_of_the_rule_that_came_closest() {
    let reason = |rules: &[Rule]| {
        let found = decide(&claim(), "timeline", "production", &user(1000, 7), rules);
        found.expect_err("no rule fits").reason()
    };
    assert_eq!(reason(&[]), "unknown_identity");
    let all = refusing();
    for (far, (_, farther)) in all.iter().enumerate() {
        for (expected, closer) in &all[far..] {
            let (farther, closer) = (farther.clone(), closer.clone());
            assert_eq!(reason(&[farther.clone(), closer.clone()]), *expected);
            assert_eq!(reason(&[closer, farther]), *expected);
        }
    }
}

#[test]
fn first_rule_that_fits_gives_role_and_delivery() {
    let fitting = |role: &str, delivery: Delivery| Rule {
        role: role.to_owned(),
        delivery,
        ..rule()
    };
    let mut rules: Vec<Rule> = refusing().into_iter().map(|(_, rule)| rule).collect();
    rules.push(fitting("${environment}/${app}", Delivery::Socket));
    rules.push(fitting("later", Delivery::File(None)));
    let expected = Identity {
        app: "timeline".to_owned(),
        environment: "staging".to_owned(),
        role: "staging/timeline".to_owned(),
        delivery: Delivery::Socket,
    };
    let found = decide(&claim(), "timeline", "staging", &user(1000, 7), &rules);
    assert_eq!(found, Ok(expected));
}

#[test]
fn role_holds_the_service_and_the_environment_where_it_says_so() {
    for (role, expected) in [
        ("${app}-${environment}", "timeline-staging"),
        ("${environment}/${app}/${app}", "staging/timeline/timeline"),
        ("of-its-own", "of-its-own"),
    ] {
        let rule = Rule {
            role: role.to_owned(),
            ..rule()
        };
        assert_eq!(rule.role_in("staging"), expected);
    }
}

#[test]
fn refusal_says_what_it_found() {
    let mut mighty = user(1000, 7);
    mighty.may_become_another = true;
    let mut as_root = claim();
    as_root.user = String::new();
    let only = |uid| {
        let users = vec![UserRule { uid, gid: None }];
        Rule { users, ..rule() }
    };
    let refused = |claim: &Claim, user: &Credentials, rule: Rule| {
        decide(claim, "timeline", "production", user, &[rule]).expect_err("it does not fit")
    };
    let by = |reason: &str| {
        let mut all = refusing().into_iter();
        let (_, rule) = all.find(|(other, _)| *other == reason).expect("a rule");
        refused(&claim(), &user(1000, 7), rule)
    };
    let missing = Refusal::LabelMissing {
        label: "environment".to_owned(),
    };
    for (refusal, reason, text) in [
        (missing, "label_missing", "it lacks the label `environment`"),
        (
            by("unknown_identity"),
            "unknown_identity",
            "no [[allow]] names this service in this environment",
        ),
        (
            by("image"),
            "image",
            "the service may not come from the image team/timeline:1.2 (sha256:registry)",
        ),
        (
            by("user"),
            "user",
            "the service may not run as the user 1000:7",
        ),
        (
            refused(&claim(), &mighty, only(1000)),
            "user",
            "the service may not run as the user 1000:7, which may become any other (CAP_SETUID, CAP_SETGID)",
        ),
        (
            refused(&as_root, &user(1000, 7), only(1000)),
            "user",
            "the service may not run as the user 1000:7 where the container was started as \"\"",
        ),
        (
            by("network"),
            "network",
            "the service may not be in the network back",
        ),
        (by("command"), "command", "its command is not its image's"),
    ] {
        assert_eq!((refusal.reason(), &*refusal.to_string()), (reason, text));
    }
}

#[test]
fn metadata_is_what_was_checked() {
    for (sentence, digests, digest) in [
        (
            "a registry's digest",
            "sha256:id sha256:registry",
            "sha256:registry",
        ),
        (
            "the first registry's",
            "sha256:id sha256:a sha256:b",
            "sha256:a",
        ),
        (
            "its id, where no registry knows it",
            "sha256:id",
            "sha256:id",
        ),
        ("nothing, where Docker says nothing", "", ""),
    ] {
        let mut claim = claim();
        claim.digests = words(digests);
        let identity = decide(&claim, "timeline", "staging", &user(1000, 7), &[rule()]);
        let found = metadata(&identity.expect("allowed"), &claim, "host-1");
        let expected = [
            ("app", "timeline"),
            ("environment", "staging"),
            ("container_id", &claim.container),
            ("image_digest", digest),
            ("host", "host-1"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(found, BTreeMap::from(expected), "{sentence}");
    }
}
