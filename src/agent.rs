//! The host side: an agent that hands each container its wrapping token, and takes it back when the container dies.
//!
//! | stage | module |
//! |---|---|
//! | what was typed | [`cli`] |
//! | where everything is, and who may have what | [`configuration`], [`directories`] |
//! | the agent's own token | [`own_token`] |
//! | who started and who died | [`docker`], followed in [`events`] |
//! | may this container have a token? | [`identity`], [`credentials`], [`image`], and how often: [`limiter`], `starts` |
//! | check, mint, register, deliver | [`issue`] |
//! | the container's first process, and its file system | [`process`], [`delivery`] |
//! | containers that ask for their token | [`token_socket`], `calls` |
//! | what was handed out | [`register`] |
//! | and is taken back | [`revocation`], [`break_glass`] |
//! | what is seen from outside | [`metrics`], [`status`] |
//! | why it failed | [`error`] |
//!
//! Everything runs on one thread but what may wait for Vault or for the kernel. The agent never sees a client token: it
//! holds wrapping tokens for the milliseconds of a delivery, and accessors.

pub(crate) mod break_glass;
mod calls;
pub mod cli;
mod configuration;
mod credentials;
pub mod delivery;
mod directories;
pub(crate) mod docker;
mod error;
mod events;
pub(crate) mod identity;
mod image;
mod issue;
mod lanes;
mod limiter;
mod metrics;
mod own_token;
pub mod process;
mod readers;
mod register;
mod revocation;
mod runtime;
mod sockets;
mod starts;
mod status;
mod token_socket;
pub(crate) mod trouble;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, Semaphore};

use crate::log::{Level, Log, Value};
use crate::mutex::lock;
use crate::system::refused;

use calls::CallLimiter;
use configuration::Configuration;
use docker::Engine;
use error::Error;
use identity::Claim;
use lanes::Lanes;
use limiter::{Admission, Limiter};
use metrics::Metrics;
use own_token::OwnToken;
use register::nanoseconds;
use register::{Entry, Place, Register};
use sockets::Inode;
use starts::{StartClaim, Starts};

/// Docker is asked about so many containers at a time, lest the start of one waits behind a look at a thousand.
const INSPECTIONS_MAX: usize = 32;
/// Vault is asked for so many tokens at a time.
const MINTS_MAX: usize = 6;
/// Lines of one kind in a minute, where containers may cause any number.
const LINES_PER_MINUTE: usize = 60;
/// How long the agent's own end may take.
const FINISH: Duration = Duration::from_secs(5);

/// The agent's state, which all its tasks share.
pub struct Agent {
    configuration: Configuration,
    /// The Vault that mints and revokes.
    vault: Place,
    own_token: OwnToken,
    register: Register,
    metrics: Metrics,
    log: Log,
    engine: Mutex<Option<Engine>>,
    /// The last look at the containers failed.
    is_blind: AtomicBool,
    starts: Starts,
    /// Deliveries at one moment: a file system that hangs must not hold up what else needs a thread.
    lanes: Lanes,
    /// The sockets, and what their names must lead to.
    sockets: Mutex<BTreeMap<PathBuf, Option<Inode>>>,
    /// Questions to Docker about one container at one moment.
    inspections: Semaphore,
    /// Mints at one moment: more would wait inside Vault, and what is more urgent behind them.
    mints: Semaphore,
    calls: CallLimiter,
    /// Which lines that containers cause were written lately.
    lines: Mutex<Limiter>,
    /// There is something to revoke.
    ended: Notify,
    /// Accessors of the tokens that Vault is told to end just now.
    revoking: Mutex<HashSet<String>>,
}

impl Agent {
    /// Opens the register and reads Vault's CA; nothing is sent yet.
    pub fn new(configuration: Configuration, log: Log) -> Result<Agent, Error> {
        for notice in &configuration.notices {
            log.event(Level::Warn, "notice", notice, &[]);
        }
        Ok(Agent {
            own_token: OwnToken::new(&configuration, log)?,
            register: Register::open(&configuration.own.register)?,
            metrics: Metrics::new(),
            log,
            engine: Mutex::default(),
            is_blind: AtomicBool::new(false),
            starts: Starts::default(),
            lanes: Lanes::new(issue::DELIVERY_MAX),
            sockets: Mutex::default(),
            inspections: Semaphore::new(INSPECTIONS_MAX),
            mints: Semaphore::new(MINTS_MAX),
            calls: CallLimiter::default(),
            lines: Mutex::default(),
            ended: Notify::new(),
            revoking: Mutex::default(),
            vault: Place {
                address: configuration.vault.address.url(),
                namespace: configuration.vault.namespace.clone(),
            },
            configuration,
        })
    }

    /// Works until TERM or INT. What was handed out stays: the next agent finds it in the register.
    pub async fn run(self) -> Result<(), Error> {
        let failed = |step| move |reason| Error::Listen { step, reason };
        let mut terminate = signal(SignalKind::terminate()).map_err(refused("listen to TERM"))?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(refused("listen to INT"))?;
        let status = status::Listener::open(&self.configuration).map_err(failed("listen"))?;
        let socket = token_socket::open(&self.configuration).map_err(failed("open the socket"))?;
        let control =
            break_glass::open(&self.configuration).map_err(failed("listen for control"))?;
        let agent = Arc::new(self);
        let work = async {
            tokio::join!(
                agent.keep_token(),
                agent.follow_events(),
                agent.revoke_ended(),
                token_socket::serve(&agent, socket),
                break_glass::serve(&agent, control),
                status::serve(&agent, status),
            )
        };
        tokio::select! {
            _ = work => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        let until = Instant::now() + FINISH;
        // What is left is for the agent's own token, which everything else is asked for with.
        let _ = tokio::time::timeout(FINISH.mul_f64(0.8), agent.finish()).await;
        let out = agent.register.count().0 as u64;
        let saved = agent.register.save().await;
        let left = until.saturating_duration_since(Instant::now());
        agent.own_token.shut_down(left).await;
        let fields = [("tokens_out", Value::Number(out))];
        agent
            .log
            .event(Level::Info, "stopped", "the agent ends", &fields);
        Ok(saved?)
    }

    /// Has a token of its own, now and later.
    async fn keep_token(&self) {
        let term = self.own_token.acquire().await;
        let fields = [
            ("tokens_out", Value::Number(self.register.count().0 as u64)),
            ("blocks", Value::Number(self.register.blocks() as u64)),
        ];
        let text = "the agent has its own token and hands out others";
        self.log.event(Level::Info, "ready", text, &fields);
        // What could not be revoked without a token is revoked with another one at once.
        let wake = async {
            loop {
                self.own_token.accepted().await;
                self.ended.notify_one();
            }
        };
        tokio::select! {
            () = self.own_token.run(term) => {}
            () = wake => {}
        }
    }

    /// A token that was minted is delivered, and one whose container has just died is revoked: an operator who ends a service
    /// and its agent in one go leaves nothing behind.
    async fn finish(self: &Arc<Self>) {
        while self.starts.is_any_under_way() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if let Some(engine) = self.engine() {
            self.look_for_dead(&engine).await;
        }
        let over = self.register.over(&self.vault);
        self.revoke_some(over, &mut HashMap::new()).await;
    }

    fn engine(&self) -> Option<Engine> {
        lock(&self.engine).clone()
    }

    /// Claims this start, unless another task works on it, or it has its token or was refused one.
    fn claim(&self, claim: &Claim) -> Option<StartClaim<'_>> {
        let has_token = self
            .register
            .has(&claim.container, nanoseconds(claim.started));
        if has_token {
            return None;
        }
        self.starts.claim(claim)
    }

    /// Counts a start; too many of one container in a minute are refused.
    fn may_start(&self, container: &str) -> Result<(), issue::Error> {
        let per_minute = self.configuration.mint.starts_per_minute;
        let now = Instant::now();
        if self.starts.admit(container, per_minute as usize, now) {
            Ok(())
        } else {
            Err(issue::Error::RateLimited { per_minute })
        }
    }

    /// Counts a line that containers cause; too many of one kind in a minute are not written.
    fn may_say(&self, kind: &str) -> bool {
        let now = Instant::now();
        lock(&self.lines).admit(kind, LINES_PER_MINUTE, now) == Admission::Admitted
    }

    /// Marks those tokens to be revoked. What Vault did not know when an operator asked is asked for once more: it may be that
    /// an older state of Vault was there for a time.
    fn end(&self, is_over: impl Fn(&Entry) -> bool) {
        let is_doubtful =
            |entry: &Entry| is_over(entry) && entry.was_unknown_where_minted(&self.vault);
        if self.register.ask_again(is_doubtful) + self.register.end(&is_over) > 0 {
            self.ended.notify_one();
        }
    }
}
