//! When something was taken: every token of an identity is revoked, and no container of it gets another until an operator allows it again.
//!
//! `anteroom-agent revoke` and `allow` ask the running agent at a socket that is its owner's alone; where no agent runs
//! they do it themselves, since the register holds all that it takes.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream as Connection;
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc::{self, UnboundedSender};

use super::Agent;
use super::configuration::{Configuration, Login};
use super::error::Error;
use super::register::{Entry, Selector};
use super::revocation::{AT_ONCE, Outcome, Wanted, unknown};
use super::runtime::runtime;
use super::sockets::{PRIVATE, Socket};
use crate::log::{Level, Log, Value, sanitised};
use crate::system::refused;

/// Longest order that is read.
const ORDER_MAX: u64 = 16 * 1024;

/// An order is what an operator wants.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub(super) enum Order {
    /// Revoke what they have, and mint no more.
    Revoke {
        #[serde(flatten)]
        selector: Selector,
        /// Tokens that this Vault does not know go off the register.
        #[serde(default)]
        forget_unknown: bool,
    },
    /// Mint again.
    Allow(Selector),
}

/// A line of the answer.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    text: String,
    /// Tokens that are not revoked; the last line has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    left: Option<usize>,
}

/// A socket for its owner alone.
pub(super) fn open(configuration: &Configuration) -> io::Result<Socket> {
    Socket::listen(&configuration.own.control, PRIVATE)
}

pub(super) async fn serve(agent: &Arc<Agent>, mut socket: Socket) {
    loop {
        match socket.accept(agent).await {
            Ok(stream) => {
                let agent = Arc::clone(agent);
                tokio::spawn(async move { answer(&agent, stream).await });
            }
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
        }
    }
}

async fn answer(agent: &Agent, stream: UnixStream) {
    let (read, mut write) = stream.into_split();
    let mut text = String::new();
    let mut read = tokio::io::BufReader::new(read.take(ORDER_MAX));
    if read.read_line(&mut text).await.is_err() {
        return;
    }
    let (say, mut said) = mpsc::unbounded_channel();
    let work = async {
        match serde_json::from_str(&text) {
            Ok(order) => agent.obey(order, &say).await,
            Err(error) => say.line(format!("that is no order: {error}")),
        }
        drop(say);
    };
    let tell = async {
        while let Some(line) = said.recv().await {
            let mut line = serde_json::to_string(&line).unwrap_or_default();
            line.push('\n');
            // An operator who went away finds it in the log.
            let _ = write.write_all(line.as_bytes()).await;
        }
    };
    tokio::join!(work, tell);
}

/// Where the lines of an answer go as they come.
trait Say {
    fn line(&self, text: String);
    /// The last line, and how many tokens are not revoked.
    fn end(&self, text: String, left: usize);
}

impl Say for UnboundedSender<Line> {
    fn line(&self, text: String) {
        let _ = self.send(Line { text, left: None });
    }

    fn end(&self, text: String, left: usize) {
        let left = Some(left);
        let _ = self.send(Line { text, left });
    }
}

impl Agent {
    async fn obey(&self, order: Order, say: &UnboundedSender<Line>) {
        match order {
            Order::Revoke {
                selector,
                forget_unknown,
            } => self.revoke_all(selector, forget_unknown, say).await,
            Order::Allow(selector) => self.allow(&selector, say).await,
        }
    }

    async fn revoke_all(
        &self,
        selector: Selector,
        forget_unknown: bool,
        say: &UnboundedSender<Line>,
    ) {
        let named =
            |entry: &Entry| selector.covers(&entry.app, &entry.environment, &entry.container);
        // First, so that no container gets another one meanwhile; and in the file, so that it holds whatever happens now.
        self.register.block(&selector);
        self.register.end(named);
        let mut left = self.saved(say).await;
        let entries: Vec<Entry> = self.register.entries().into_iter().filter(named).collect();
        let text = format!("tokens of {selector} are revoked, and no more are minted");
        let fields = [("tokens", Value::Number(entries.len() as u64))];
        self.log.event(Level::Warn, "break_glass", &text, &fields);
        let all = entries.len();
        let mut results = stream::iter(entries)
            .map(|entry| async move {
                let result = self.revoke(&entry, "break_glass", Wanted::ByOrder).await;
                (entry, result)
            })
            .buffer_unordered(AT_ONCE);
        let mut revoked = 0;
        while let Some((entry, result)) = results.next().await {
            let id = &entry.container[..entry.container.len().min(12)];
            let whose = format!(
                "{} {} {id} {}",
                entry.app, entry.environment, entry.accessor
            );
            match result {
                Ok(Outcome::Revoked | Outcome::HadEnded) => {
                    revoked += 1;
                    say.line(format!("revoked {whose}"));
                }
                Ok(Outcome::Unknown) if forget_unknown => {
                    self.register.remove(&entry.accessor);
                    say.line(format!("UNKNOWN to this Vault and forgotten {whose}"));
                }
                Ok(Outcome::Unknown) => {
                    left += 1;
                    let why = unknown(&entry, &self.vault);
                    say.line(format!("UNKNOWN to this Vault {whose}: {why}"));
                }
                Err(trouble) => {
                    left += 1;
                    say.line(format!("NOT revoked yet {whose}: {trouble}"));
                }
            }
        }
        // Whatever is left is tried until it is done.
        self.ended.notify_one();
        left += self.saved(say).await;
        say.end(
            format!("{revoked} of {all} tokens revoked; nothing is minted for {selector} until `anteroom-agent allow`"),
            left,
        );
    }

    async fn allow(&self, selector: &Selector, say: &UnboundedSender<Line>) {
        let (gone, left) = self.register.allow(selector);
        let not_saved = self.saved(say).await;
        let tell = |text: String| {
            self.log.event(Level::Warn, "allowed", &text, &[]);
            say.line(text);
        };
        for block in &gone {
            tell(format!("tokens are minted again for {block}"));
        }
        for block in &left {
            tell(format!(
                "nothing is minted for {block} still: that is allowed in these words alone, or in wider ones"
            ));
        }
        if gone.is_empty() && left.is_empty() {
            tell(format!("nothing was revoked for {selector}"));
        }
        say.end(String::new(), left.len() + not_saved);
    }

    /// Writes the register; 1 and a line when it cannot be written.
    async fn saved(&self, say: &UnboundedSender<Line>) -> usize {
        match self.register.save().await {
            Ok(()) => 0,
            Err(error) => {
                say.line(format!("NOT kept for the next agent: {error}"));
                1
            }
        }
    }
}

/// Has the order done, by the running agent or here; `print` gets each line of the answer as it comes.
pub(super) fn run(
    configuration: Configuration,
    order: Order,
    log: Log,
    mut print: impl FnMut(&str) -> io::Result<()>,
) -> Result<(), Error> {
    let failed = |error: io::Error| Error::System(refused("write to standard output")(error));
    let mut left = None;
    let mut take = |line: Line| {
        left = line.left.or(left);
        if line.text.is_empty() {
            Ok(())
        } else {
            print(&sanitised(&line.text, 1024)).map_err(failed)
        }
    };
    match Connection::connect(&configuration.own.control) {
        Ok(connection) => ask(connection, &order, &mut take)?,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            let text = "no agent runs here; it is done without one";
            log.event(Level::Warn, "no_agent", text, &[]);
            alone(configuration, order, log, &mut take)?;
        }
        Err(error) => {
            return Err(Error::Control {
                reason: format!("{}: {error}", configuration.own.control.display()),
            });
        }
    }
    match left {
        Some(0) => Ok(()),
        Some(left) => Err(Error::NotAll { left }),
        None => Err(Error::Control {
            reason: "it did not do it, or ended before its answer did".to_owned(),
        }),
    }
}

fn ask(
    mut connection: Connection,
    order: &Order,
    take: &mut impl FnMut(Line) -> Result<(), Error>,
) -> Result<(), Error> {
    let broken = |error: io::Error| Error::Control {
        reason: error.to_string(),
    };
    let mut text = serde_json::to_string(order).map_err(|error| broken(error.into()))?;
    text.push('\n');
    connection.write_all(text.as_bytes()).map_err(broken)?;
    for line in BufReader::new(connection).lines() {
        let line = line.map_err(broken)?;
        take(serde_json::from_str(&line).map_err(|error| broken(error.into()))?)?;
    }
    Ok(())
}

fn alone(
    configuration: Configuration,
    order: Order,
    log: Log,
    take: &mut impl FnMut(Line) -> Result<(), Error>,
) -> Result<(), Error> {
    // That one is for the next agent, and works once.
    let may_log_in = !matches!(configuration.login, Login::WrappingToken(_));
    let agent = Agent::new(configuration, log)?;
    let runtime = runtime()?;
    let (say, mut said) = mpsc::unbounded_channel();
    let work = async {
        // A block holds without a token too.
        if let (Order::Revoke { .. }, true) = (&order, may_log_in)
            && let Err(error) = agent.own_token.acquire_now().await
        {
            log.event(Level::Error, "own_token_lost", &error.to_string(), &[]);
        }
        agent.obey(order, &say).await;
        drop(say);
        agent.own_token.shut_down(super::FINISH).await;
    };
    let tell = async {
        while let Some(line) = said.recv().await {
            take(line)?;
        }
        Ok(())
    };
    runtime.block_on(async { tokio::join!(work, tell) }).1
}
