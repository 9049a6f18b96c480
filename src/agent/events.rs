//! Docker's events, followed for as long as the agent lives; what happened in a gap is found by looking at everybody.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{Stream, StreamExt, stream};

use super::docker::{Change, Engine, Error, Event, Running};
use super::handout::{Found, nanoseconds};
use super::identity::{Claim, Rule};
use super::register::Entry;
use super::{Agent, lock};
use crate::clock::{calendar, chance};
use crate::log::{Level, Value};

const PAUSE_FIRST: Duration = Duration::from_millis(250);
const PAUSE_LAST: Duration = Duration::from_secs(5);
/// Events are asked for from a little earlier on, so that none falls between two connections.
const OVERLAP: Duration = Duration::from_secs(2);
/// Docker drops the events of a reader that is too slow, so everybody is looked at from time to time.
const LOOK: Duration = Duration::from_secs(300);

impl Agent {
    /// Connects, looks at everybody, follows; and again when Docker goes and comes back.
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
            tokio::time::sleep(pause.mul_f64(0.75 + chance() / 2.0)).await;
            pause = (pause * 2).min(PAUSE_LAST);
        }
    }

    /// Follows one connection to its end; says whether there was one.
    async fn follow_once(self: &Arc<Self>) -> Result<std::convert::Infallible, (Error, bool)> {
        let engine = Engine::connect(&self.configuration.docker);
        let engine = engine.await.map_err(|error| (error, false))?;
        *lock(&self.engine) = Some(engine.clone());
        let since = calendar() - OVERLAP;
        let mut events = pin!(engine.events(since));
        // The first look is at once, and nobody waits for its end.
        let mut looks = pin!(self.look_from_time_to_time(&engine));
        let mut is_reconciled = false;
        loop {
            let event = tokio::select! {
                biased;
                event = events.next() => event,
                look = looks.next() => {
                    if let Some(Err(error)) = look {
                        return Err((error, is_reconciled));
                    }
                    if !std::mem::replace(&mut is_reconciled, true) {
                        self.tell_connected(&engine);
                    }
                    continue;
                }
            };
            match event {
                Some(Ok(event)) => self.happened(event),
                Some(Err(error)) => return Err((error, is_reconciled)),
                None => {
                    let error = Error {
                        request: "tell its events",
                        reason: "it has ended the connection".to_owned(),
                        is_absence: false,
                    };
                    return Err((error, is_reconciled));
                }
            }
        }
    }

    fn look_from_time_to_time<'a>(
        self: &'a Arc<Self>,
        engine: &'a Engine,
    ) -> impl Stream<Item = Result<(), Error>> + 'a {
        stream::unfold(false, move |is_next| async move {
            if is_next {
                tokio::time::sleep(LOOK).await;
            }
            Some((self.reconcile(engine).await, true))
        })
    }

    fn tell_connected(&self, engine: &Engine) {
        if !engine.knows_origins && self.configuration.rules.iter().any(Rule::names_registry) {
            let text = "this engine keeps its images in containerd and does not know where they were pulled: `images` that name a registry in [[allow]] allow nothing here; give `digests` instead of them";
            self.log.event(Level::Warn, "notice", text, &[]);
        }
        let fields = [("tokens_out", Value::Number(self.register.count().0 as u64))];
        let text = "Docker tells its events, and every container was looked at";
        self.log.event(Level::Info, "docker", text, &fields);
    }

    fn happened(self: &Arc<Self>, event: Event) {
        match event.change {
            Change::Started if event.labels.contains_key(&self.configuration.labels.app) => {
                self.begin(event.container, Found::ByEvent);
            }
            Change::Started => {}
            Change::Died => self.died(event.container),
        }
    }

    fn begin(self: &Arc<Self>, container: String, found: Found) {
        let (agent, seen) = (Arc::clone(self), Instant::now());
        tokio::spawn(async move { agent.started(&container, seen, found).await });
    }

    /// Whatever the container had is over, but for what it has got since, if it runs again.
    fn died(self: &Arc<Self>, container: String) {
        lock(&self.decided).remove(&container);
        let of_it = |entry: &Entry| entry.container == container;
        let had: Vec<Entry> = self.register.entries().into_iter().filter(of_it).collect();
        if had.is_empty() {
            return;
        }
        let agent = Arc::clone(self);
        tokio::spawn(async move {
            // Else Docker is away, or does not say: everybody is looked at later.
            if let Ok(claim) = agent.inspect(&container).await {
                agent.end_all_but(&had, claim.as_ref());
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
        for (container, labels) in &running {
            // Whoever has a token is asked below whether it is for this start.
            let may_wait = !have.contains(container.as_str());
            if may_wait && labels.contains_key(&self.configuration.labels.app) {
                self.begin(container.clone(), Found::InList);
            }
        }
        lock(&self.decided).retain(|container, _| running.contains_key(container));
        for container in self.end_dead(engine, known, &running).await {
            self.begin(container, Found::InList);
        }
        Ok(())
    }

    /// Whatever is out for containers that run no more is over.
    pub(super) async fn look_for_dead(&self, engine: &Engine) -> Result<(), Error> {
        let known = self.register.entries();
        let running = engine.running().await?;
        self.end_dead(engine, known, &running).await;
        Ok(())
    }

    /// Gives the containers whose token was for an earlier start than their present one.
    async fn end_dead(&self, engine: &Engine, known: Vec<Entry>, running: &Running) -> Vec<String> {
        let mut restarted = Vec::new();
        for entry in known {
            if !running.contains_key(&entry.container) {
                self.end_all_but(&[entry], None);
                continue;
            }
            match engine.inspect(&entry.container).await {
                Ok(claim) => {
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
