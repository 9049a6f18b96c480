//! Certificates and credentials, several at once, because networks and database engines are slow.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::certificate::{self, Clocks, Request};
use crate::clock;
use crate::config::{Certificate, Dependency, Spec};
use crate::dependencies;
use crate::files::Material;
use crate::log::{Level, Log};
use crate::mutex::lock;
use crate::schedule::Moment;
use crate::vault::Session;

/// The requests under way at once where the server is near. Each needs a connection of its own, which costs more than
/// it gains there; measured with `scripts/bench`.
const WORKERS_NEAR: usize = 2;
const WORKERS_FAR: usize = 4;
/// The answer time from which a server counts as far.
const FAR: Duration = Duration::from_millis(4);
/// The stack of a worker, whose work is a request and a signature check.
const STACK: usize = 256 << 10;

/// Every way in which a fetch fails.
#[derive(Debug)]
pub enum Error {
    /// A certificate could not be obtained.
    Certificate(certificate::Error),
    /// A credential could not be fetched.
    Dependency(dependencies::Error),
}

/// One request that is ready to be sent.
pub(crate) enum Job<'a> {
    /// A certificate, with the request for its new key.
    Certificate(&'a Certificate, Request),
    /// The credential of a dependency.
    Credential(&'a Dependency),
}

impl<'a> Job<'a> {
    /// Prepares what needs no Vault: the key and the request of a certificate.
    pub(crate) fn prepare(spec: Spec<'a>) -> Result<Job<'a>, certificate::Error> {
        Ok(match spec {
            Spec::Certificate(spec) => {
                let request = certificate::prepare(spec);
                Job::Certificate(spec, request.map_err(certificate::Error::of(spec))?)
            }
            Spec::Credential(spec) => Job::Credential(spec),
        })
    }
}

/// One fetched item.
pub(crate) struct Fetched<'a> {
    /// The answer, with the entry of the manifest that it is for.
    pub material: Material<'a>,
    /// The time of the request.
    pub asked: Moment,
    /// The time from the begin of the fetch until the answer was there.
    pub took: Duration,
}

/// Does all jobs, and returns what they fetched in their order; the first failure ends the fetch. `answer_time` is how
/// long the server took for a small answer.
pub(crate) fn fetch<'a>(
    session: &Session,
    jobs: Vec<Job<'a>>,
    answer_time: Duration,
    clocks: impl Fn() -> Clocks + Sync,
    log: Log,
) -> Result<Vec<Fetched<'a>>, Error> {
    let began = Instant::now();
    let near = answer_time < FAR;
    let workers = jobs
        .len()
        .min(if near { WORKERS_NEAR } else { WORKERS_FAR });
    let jobs = Mutex::new(jobs.into_iter().enumerate());
    let done: Mutex<Vec<(usize, Result<Fetched<'a>, Error>)>> = Mutex::default();
    let work = || {
        // A statement of its own, so that the lock is not held while the job is done.
        while let Some((place, job)) = { lock(&jobs).next() } {
            let asked = clock::moment();
            let material = perform(session, job, &clocks, log);
            let failed = material.is_err();
            let fetched = material.map(|material| Fetched {
                material,
                asked,
                took: began.elapsed(),
            });
            // Before the others learn of it: the first failure is the one that counts.
            lock(&done).push((place, fetched));
            if failed {
                // The rest is not needed, and the token must not live until the slowest of it is there.
                lock(&jobs).by_ref().for_each(drop);
                session.stop();
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..workers {
            // Without a thread the others do its work.
            let _ = std::thread::Builder::new()
                .stack_size(STACK)
                .spawn_scoped(scope, work);
        }
        work();
    });
    let done = done.into_inner();
    let mut fetched = Vec::new();
    for (place, one) in done.unwrap_or_else(|poisoned| poisoned.into_inner()) {
        fetched.push((place, one?));
    }
    fetched.sort_by_key(|(place, _)| *place);
    Ok(fetched.into_iter().map(|(_, one)| one).collect())
}

/// Does one job.
pub(crate) fn perform<'a>(
    session: &Session,
    job: Job<'a>,
    clocks: impl Fn() -> Clocks,
    log: Log,
) -> Result<Material<'a>, Error> {
    match job {
        Job::Certificate(spec, request) => certificate::obtain(request, spec, session, clocks)
            .map(|issued| Material::Certificate {
                spec,
                issued: Box::new(issued),
            })
            .map_err(certificate::Error::of(spec))
            .map_err(Error::Certificate),
        Job::Credential(spec) => dependencies::fetch(session, spec, log, Level::Warn)
            .map(|credential| Material::Credential { spec, credential })
            .map_err(Error::Dependency),
    }
}
