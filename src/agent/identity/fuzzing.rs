//! Promises about every container that gets a token, whatever its labels and its image are called.

use std::collections::HashMap;

use time::OffsetDateTime;

use super::{Claim, Delivery, LabelNames, Rule, decide, labelled, metadata, repository};
use crate::agent::credentials::Credentials;
use crate::agent::image::Started;
use crate::fuzzing::lines;

/// Compares a container with a rule: its lines are the two labels, the image, where that was pulled from, and a network.
pub(crate) fn labels(input: &[u8]) {
    let Some([app, environment, image, pulled, network]) = lines::<5>(input) else {
        return;
    };
    let name = repository(image);
    assert!(image.contains(name) && !name.contains('@'));
    let pulled = repository(pulled);
    let origins = if pulled.is_empty() {
        Vec::new()
    } else {
        vec![pulled.to_owned()]
    };
    let claim = Claim {
        container: "0".repeat(64),
        name: "name".to_owned(),
        labels: HashMap::from([
            ("app".to_owned(), app.to_owned()),
            ("environment".to_owned(), environment.to_owned()),
        ]),
        image: image.to_owned(),
        user: String::new(),
        digests: vec!["sha256:id".to_owned()],
        origins: Some(origins),
        run: Started::default(),
        made: None,
        networks: vec![network.to_owned()],
        pid: 1,
        started: OffsetDateTime::UNIX_EPOCH,
    };
    let names = LabelNames {
        app: "app".to_owned(),
        environment: "environment".to_owned(),
        token_path: "path".to_owned(),
    };
    let labels = labelled(&claim.labels, &names).expect("it has labels");
    assert_eq!(labels, Ok((app, environment)));
    let rule = Rule {
        app: "timeline".to_owned(),
        environments: vec!["production".to_owned(), "staging".to_owned()],
        images: vec![
            "team/timeline".to_owned(),
            "registry.example:5000/team/timeline".to_owned(),
        ],
        demand: None,
        digests: Vec::new(),
        users: Vec::new(),
        networks: vec!["back".to_owned()],
        role: "${app}-${environment}".to_owned(),
        delivery: Delivery::File(None),
    };
    let user = Credentials {
        uids: [1000; 4],
        gids: [1000; 4],
        may_become_another: false,
        has_host_ids: true,
    };
    match decide(&claim, app, environment, &user, &[rule]) {
        Ok(identity) => {
            assert_eq!(app, "timeline");
            assert!(matches!(environment, "production" | "staging"));
            assert_eq!(network, "back");
            assert_eq!(identity.role, format!("timeline-{environment}"));
            let from_registry = name == "registry.example:5000/team/timeline";
            let short = name.strip_prefix("docker.io/").unwrap_or(name);
            let is_local = short == "team/timeline" && pulled.is_empty();
            assert!(is_local || from_registry && pulled == name);
            assert_eq!(metadata(&identity, &claim, "host").len(), 5);
        }
        Err(refusal) => assert!(!refusal.to_string().is_empty()),
    }
}
