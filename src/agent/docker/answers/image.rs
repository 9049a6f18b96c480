//! One image, as an engine describes it.

use serde::Deserialize;

use super::config::{Config, words};
use super::parse;
use crate::agent::identity::{Claim, repository};
use crate::agent::image::Made;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Image {
    #[serde(default)]
    repo_digests: Option<Vec<String>>,
    #[serde(default)]
    config: Option<Config>,
}

/// Reads under which names and digests registries know an image, and adds them.
pub(crate) fn image(bytes: &[u8], knows_origins: bool, claim: &mut Claim) -> Result<(), String> {
    let image: Image = parse(bytes)?;
    let pulled = image.repo_digests.unwrap_or_default();
    let mut origins = Vec::new();
    for (name, digest) in pulled.iter().filter_map(|name| name.rsplit_once('@')) {
        claim.digests.push(digest.to_owned());
        origins.push(repository(name).to_owned());
    }
    claim.origins = knows_origins.then_some(origins);
    let config = image.config.unwrap_or_default();
    claim.made = Some(Made {
        entrypoint: config.entrypoint.unwrap_or_default(),
        arguments: config.cmd.unwrap_or_default(),
        directory: config.working_dir.unwrap_or_default(),
        variables: config.env.unwrap_or_default(),
        health_check: words(config.healthcheck),
        user: config.user.unwrap_or_default(),
    });
    Ok(())
}
