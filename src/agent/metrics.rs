//! The metrics that Prometheus reads: counters of what was done, and how it stands now.

use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::mutex::lock;

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Reason {
    reason: &'static str,
}

/// From a few milliseconds to longer than any container waits.
const SECONDS: [f64; 11] = [
    0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0, 30.0,
];

/// All metrics, and their registry.
pub(super) struct Metrics {
    registry: Mutex<Registry>,
    minted: Counter,
    delivered: Counter,
    refused: Family<Reason, Counter>,
    undelivered: Family<Reason, Counter>,
    revoked: Counter,
    latency: Histogram,
    mint: Histogram,
    gauges: Gauges,
}

#[derive(Default)]
struct Gauges {
    own_token: Gauge<f64, AtomicU64>,
    vault: Gauge,
    docker: Gauge,
    out: Gauge,
    to_be_revoked: Gauge,
    blocks: Gauge,
    hung: Gauge,
}

/// How it stands now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    /// Seconds that the agent's own token lives; none when it has none, `u64::MAX` when it does not end.
    pub own_token: Option<u64>,
    /// Vault answered the last time.
    pub vault: bool,
    /// Docker tells its events.
    pub docker: bool,
    /// Docker said at the last look which containers run.
    pub looks: bool,
    /// Tokens that were handed out and live.
    pub out: usize,
    pub to_be_revoked: usize,
    /// How many blocks there are.
    pub blocks: usize,
    /// Deliveries that were given up and still wait for a file system.
    pub hung: usize,
}

impl Metrics {
    pub(super) fn new() -> Metrics {
        let metrics = Metrics {
            registry: Mutex::new(Registry::with_prefix("anteroom_agent")),
            minted: Counter::default(),
            delivered: Counter::default(),
            refused: Family::default(),
            undelivered: Family::default(),
            revoked: Counter::default(),
            latency: Histogram::new(SECONDS),
            mint: Histogram::new(SECONDS),
            gauges: Gauges::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&self) {
        let mut registry = lock(&self.registry);
        let gauges = &self.gauges;
        registry.register("minted", "Tokens minted", self.minted.clone());
        registry.register(
            "delivered",
            "Tokens that their containers have",
            self.delivered.clone(),
        );
        registry.register(
            "refused",
            "Containers that got no token, by reason",
            self.refused.clone(),
        );
        registry.register(
            "undelivered",
            "Tokens that were minted and could not be delivered, by reason",
            self.undelivered.clone(),
        );
        registry.register("revoked", "Tokens revoked", self.revoked.clone());
        registry.register(
            "delivery_seconds",
            "From Docker's start event to the token in the container",
            self.latency.clone(),
        );
        registry.register(
            "mint_seconds",
            "From the request to the wrapping token, as Vault and the way to it take it",
            self.mint.clone(),
        );
        registry.register(
            "own_token_seconds",
            "Seconds that the agent's own token lives; 0 when it is lost, +Inf when it does not end",
            gauges.own_token.clone(),
        );
        registry.register(
            "vault_up",
            "Vault answered the last time",
            gauges.vault.clone(),
        );
        registry.register(
            "docker_up",
            "Docker tells its events",
            gauges.docker.clone(),
        );
        registry.register(
            "tokens_out",
            "Tokens of containers that run",
            gauges.out.clone(),
        );
        registry.register(
            "tokens_to_be_revoked",
            "Tokens of containers that do not run any more",
            gauges.to_be_revoked.clone(),
        );
        registry.register(
            "blocks",
            "Identities for which nothing is minted since an operator said revoke",
            gauges.blocks.clone(),
        );
        registry.register(
            "deliveries_hung",
            "Deliveries that were given up and still wait for a container's file system",
            gauges.hung.clone(),
        );
    }

    pub(super) fn minted(&self, took: Duration) {
        self.minted.inc();
        self.mint.observe(took.as_secs_f64());
    }

    pub(super) fn delivered(&self, latency: Duration) {
        self.delivered.inc();
        self.latency.observe(latency.as_secs_f64());
    }

    pub(super) fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&Reason { reason }).inc();
    }

    pub(super) fn undelivered(&self, reason: &'static str) {
        self.undelivered.get_or_create(&Reason { reason }).inc();
    }

    pub(super) fn revoked(&self) {
        self.revoked.inc();
    }

    /// In the text format of Prometheus (OpenMetrics 1.0).
    pub(super) fn text(&self, standing: Standing) -> String {
        let gauges = &self.gauges;
        gauges.own_token.set(match standing.own_token {
            None => 0.0,
            Some(u64::MAX) => f64::INFINITY,
            Some(seconds) => seconds as f64,
        });
        gauges.vault.set(standing.vault.into());
        gauges
            .docker
            .set((standing.docker && standing.looks).into());
        gauges.out.set(standing.out.try_into().unwrap_or(i64::MAX));
        gauges
            .to_be_revoked
            .set(standing.to_be_revoked.try_into().unwrap_or(i64::MAX));
        gauges
            .blocks
            .set(standing.blocks.try_into().unwrap_or(i64::MAX));
        gauges
            .hung
            .set(standing.hung.try_into().unwrap_or(i64::MAX));
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &lock(&self.registry));
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}
