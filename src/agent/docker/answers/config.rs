//! The start of a container, and the one that its image asks for, in the words of an engine that both share.

use std::collections::HashMap;

use serde::Deserialize;

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Config {
    #[serde(default)]
    pub(super) labels: Option<HashMap<String, String>>,
    /// The image as it was asked for.
    #[serde(default)]
    pub(super) image: Option<String>,
    /// The user that the container was to start as.
    #[serde(default)]
    pub(super) user: Option<String>,
    #[serde(default)]
    pub(super) entrypoint: Option<Vec<String>>,
    #[serde(default)]
    pub(super) cmd: Option<Vec<String>>,
    #[serde(default)]
    pub(super) env: Option<Vec<String>>,
    #[serde(default)]
    pub(super) working_dir: Option<String>,
    #[serde(default)]
    pub(super) healthcheck: Option<HealthCheck>,
    /// The shell that runs a health check which is no list of words.
    #[serde(default)]
    pub(super) shell: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct HealthCheck {
    #[serde(default)]
    pub(super) test: Option<Vec<String>>,
}

pub(super) fn words(check: Option<HealthCheck>) -> Vec<String> {
    check.and_then(|check| check.test).unwrap_or_default()
}
