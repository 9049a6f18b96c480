//! Docker's events, followed for as long as the agent lives; what happened in a gap is found by looking at every container.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::{Stream, StreamExt, stream};

use super::Agent;
use super::docker::{Change, Engine, Error, Event};
use super::identity::{Claim, Rule};
use super::issue::Found;
use super::register::Entry;
use super::register::nanoseconds;
use crate::clock::{calendar, jitter};
use crate::log::{Level, Value};
use crate::mutex::lock;

const PAUSE_FIRST: Duration = Duration::from_millis(250);
const PAUSE_LAST: Duration = Duration::from_secs(5);
/// Events are asked for from a little earlier on, so that none falls between two connections.
const OVERLAP: Duration = Duration::from_secs(2);
/// Docker drops the events of a reader that is too slow, so the agent looks at every container from time to time.
const LOOK: Duration = Duration::from_secs(300);
/// After a look that failed the next one is soon, and each further one after twice as long.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
const LOOK_AGAIN_MAX: Duration = Duration::from_secs(30);
/// Under which lines about what cannot be read are counted.
const UNREAD: &str = "unread";

impl Agent {
    /// Connects, looks at every container, follows; and again when Docker goes and comes back.
    pub(super) async fn follow_events(self: &Arc<Self>) {
        let mut pause = PAUSE_FIRST;
        let mut is_said = false;
        loop {
            let Err((error, worked)) = self.follow_once().await;
            lock(&self.engine).take();
            if worked {
                pause = PAUSE_FIRST;
            }
            if worked || !is_said {
                self.log
                    .event(Level::Warn, "docker_away", &error.to_string(), &[]);
                is_said = true;
            }
            tokio::time::sleep(pause.mul_f64(0.75 + jitter() / 2.0)).await;
            pause = (pause * 2).min(PAUSE_LAST);
        }
    }

    /// Follows one connection to its end; says whether there was one.
    async fn follow_once(self: &Arc<Self>) -> Result<std::convert::Infallible, (Error, bool)> {
        let configuration = &self.configuration;
        let engine = Engine::connect(&configuration.docker.socket, &configuration.labels.app);
        let engine = engine.await.map_err(|error| (error, false))?;
        *lock(&self.engine) = Some(engine.clone());
        let since = calendar() - OVERLAP;
        let events = engine.events(since).await.map_err(|error| (error, false))?;
        // The first look is at once, and no event waits for its end.
        let looks = self.look_from_time_to_time(&engine);
        let mut news = pin!(merged(events, looks));
        let mut is_reconciled = false;
        let mut is_failure_told = false;
        while let Some(news) = news.next().await {
            match news {
                News::Told(Ok(Ok(event))) => self.happened(event),
                News::Told(Ok(Err(reason))) => self.tell_unread("an event", 1, &reason),
                News::Told(Err(error)) => return Err((error, is_reconciled)),
                News::Ended => break,
                News::Looked(Ok(())) => {
                    self.is_blind.store(false, Ordering::Relaxed);
                    if !std::mem::replace(&mut is_reconciled, true) || is_failure_told {
                        self.tell_connected(&engine);
                    }
                    is_failure_told = false;
                }
                // The events are told all the same, and the next look is soon.
                News::Looked(Err(error)) => {
                    self.is_blind.store(true, Ordering::Relaxed);
                    if !std::mem::replace(&mut is_failure_told, true) {
                        self.log
                            .event(Level::Warn, "docker", &error.to_string(), &[]);
                    }
                }
            }
        }
        Err((Error::ended(), is_reconciled))
    }

    fn look_from_time_to_time<'a>(
        self: &'a Arc<Self>,
        engine: &'a Engine,
    ) -> impl Stream<Item = Result<(), Error>> + 'a {
        let first = (Duration::ZERO, LOOK_AGAIN);
        stream::unfold(first, move |(pause, again)| async move {
            tokio::time::sleep(pause).await;
            let looked = self.reconcile(engine).await;
            let next = match looked {
                Ok(()) => (LOOK, LOOK_AGAIN),
                Err(_) => (again, (again * 2).min(LOOK_AGAIN_MAX)),
            };
            Some((looked, next))
        })
    }

    /// Something about a container cannot be read, and costs that container alone.
    fn tell_unread(&self, what: &str, count: usize, reason: &str) {
        if self.may_say(UNREAD) {
            let text = format!("Docker tells of {what} that cannot be read: {reason}");
            let fields = [("count", Value::Number(count as u64))];
            self.log.event(Level::Warn, "docker", &text, &fields);
        }
    }

    fn tell_connected(&self, engine: &Engine) {
        if !engine.knows_origins && self.configuration.rules.iter().any(Rule::names_image) {
            let text = "this engine keeps its images in containerd and does not know where they come from: `images` in [[allow]] allow nothing here; give `digests` instead of them";
            self.log.event(Level::Warn, "notice", text, &[]);
        }
        let fields = [("tokens_out", Value::Number(self.register.count().0 as u64))];
        let text = "Docker tells its events, and every container was looked at";
        self.log.event(Level::Info, "docker", text, &fields);
    }

    fn happened(self: &Arc<Self>, event: Event) {
        match event.change {
            Change::Started => self.begin(event.container, Found::ByEvent),
            Change::Died => self.died(event.container),
        }
    }

    fn begin(self: &Arc<Self>, container: String, found: Found) {
        let (agent, seen) = (Arc::clone(self), Instant::now());
        tokio::spawn(async move { agent.started(&container, seen, found).await });
    }

    /// Whatever the container had is over, but for what it has got since, if it runs again.
    fn died(self: &Arc<Self>, container: String) {
        self.starts.forget(&container);
        let of_it = |entry: &Entry| entry.container == container;
        let had: Vec<Entry> = self.register.entries().into_iter().filter(of_it).collect();
        if had.is_empty() {
            return;
        }
        let agent = Arc::clone(self);
        tokio::spawn(async move {
            // Else Docker is away, or does not say: every container is looked at later.
            if let Ok(found) = agent.inspect(&container).await {
                agent.end_all_but(&had, found.running().as_ref());
            }
        });
    }

    /// Of these tokens of one container, those that are not for its present start are over.
    fn end_all_but(&self, had: &[Entry], running: Option<&Claim>) {
        let started = running.map(|claim| nanoseconds(claim.started));
        self.end(|entry| {
            Some(entry.started) != started && had.iter().any(|one| one.accessor == entry.accessor)
        });
    }

    /// Docker does not say what this container is.
    pub(super) fn tell_trouble(&self, container: &str, error: &Error) {
        let fields = [("container", Value::Text(container))];
        self.log
            .event(Level::Warn, "docker", &error.to_string(), &fields);
    }

    /// Looks at every container: who has started meanwhile, and who has died?
    async fn reconcile(self: &Arc<Self>, engine: &Engine) -> Result<(), Error> {
        // Before the list: what is handed out meanwhile is not looked for in it.
        let known = self.register.entries();
        let running = engine.running().await?;
        let have: HashSet<&str> = known
            .iter()
            .filter(|entry| entry.delivered && !entry.over)
            .map(|entry| entry.container.as_str())
            .collect();
        for container in &running.containers {
            // A container that has a token is asked below whether it is for this start.
            if !have.contains(container.as_str()) {
                self.begin(container.clone(), Found::InList);
            }
        }
        self.starts.forget_all_but(&running.containers);
        if let Some((count, reason)) = &running.unread {
            self.tell_unread("containers", *count, reason);
        }
        for container in self.end_dead(engine, known).await {
            self.begin(container, Found::InList);
        }
        Ok(())
    }

    /// Whatever is out for containers that run no more is over.
    pub(super) async fn look_for_dead(&self, engine: &Engine) {
        self.end_dead(engine, self.register.entries()).await;
    }

    /// Asks for each of these by itself: the list holds only containers with the label, which an earlier agent may have called
    /// otherwise, and that can be read. Gives the containers whose token was for an earlier start than their present one.
    async fn end_dead(&self, engine: &Engine, known: Vec<Entry>) -> Vec<String> {
        let mut restarted = Vec::new();
        for entry in known {
            match engine.inspect(&entry.container).await {
                Ok(found) => {
                    let claim = found.running();
                    let is_other = |claim: &Claim| nanoseconds(claim.started) != entry.started;
                    if claim.as_ref().is_some_and(is_other) {
                        restarted.push(entry.container.clone());
                    }
                    self.end_all_but(&[entry], claim.as_ref());
                }
                Err(error) => self.tell_trouble(&entry.container, &error),
            }
        }
        restarted
    }
}

/// News of the engine.
enum News<E, L> {
    Told(E),
    /// The events have ended.
    Ended,
    Looked(L),
}

/// Both in turn: neither a flood of events nor one look after another keeps the other from being heard.
fn merged<E, L>(
    events: impl Stream<Item = E>,
    looks: impl Stream<Item = L>,
) -> impl Stream<Item = News<E, L>> {
    let ended = stream::once(async { News::Ended });
    stream::select(events.map(News::Told).chain(ended), looks.map(News::Looked))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flood_of_events_lets_the_looks_through() {
        let flood = merged(stream::repeat(()), stream::once(async { "looked" }));
        let begin = futures_util::FutureExt::now_or_never(flood.take(4).collect::<Vec<_>>());
        let begin = begin.expect("both are ready");
        assert!(
            begin
                .iter()
                .any(|news| matches!(news, News::Looked("looked")))
        );
    }

    #[test]
    fn end_of_the_events_is_heard_while_looks_go_on() {
        let events = merged(stream::iter([1]), stream::repeat(()));
        let begin = futures_util::FutureExt::now_or_never(events.take(4).collect::<Vec<_>>());
        let begin = begin.expect("both are ready");
        assert!(begin.iter().any(|news| matches!(news, News::Ended)));
    }
}
