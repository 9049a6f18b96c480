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
        // No name of Docker Hub has a capital letter.
        ("HOST/x", "HOST/x:1", Some(&["HOST/x"]), true),
        ("HOST/x", "HOST/x:1", Some(&[]), false),
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
