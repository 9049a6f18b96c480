//! Certificate and credentials, several at once: over a network each answer takes its way, and database engines take
//! their time.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::certificate::{self, Clocks, Issued, Request};
use crate::clock;
use crate::config::{self, Config, Dependency};
use crate::dependencies;
use crate::files::Credential;
use crate::log::Log;
use crate::renewal::Moment;
use crate::vault::Session;

/// Requests under way at once. Each of them needs a connection of its own, which costs more than it gains where the
/// server is near; measured with `scripts/bench`.
const WORKERS_NEAR: usize = 2;
const WORKERS_FAR: usize = 4;
/// From this time of an answer on a server is far.
const FAR: Duration = Duration::from_millis(4);
/// The work is a request and a signature check.
const STACK: usize = 256 << 10;

/// Something that the application needs could not be had.
#[derive(Debug)]
pub enum Error {
    /// The certificate.
    Certificate(certificate::Error),
    /// A credential.
    Dependency(dependencies::Error),
}

/// Everything that a start has fetched.
pub struct Fetched {
    /// The certificate, and when it was asked for.
    pub certificate: Option<(Issued, Moment)>,
    /// The credentials, in the order of the manifest: the dependency's index there, and when each was asked for.
    pub credentials: Vec<(usize, Credential, Moment)>,
    /// How long it was until the certificate was there.
    pub certificate_took: Duration,
    /// How long it was until the last credential was there.
    pub credentials_took: Duration,
}

enum Job<'a> {
    Certificate(Request, &'a config::Certificate),
    Credential(usize, &'a Dependency),
}

enum Product {
    Certificate(Box<Issued>, Moment),
    Credential(usize, Credential, Moment),
}

/// Fetches a certificate, if one is requested, and the credentials of these dependencies; the first failure ends it.
/// `answer_time` is how long the server took for a small answer.
pub fn fetch(
    session: &Session,
    config: &Config,
    request: Option<Request>,
    wanted: impl Fn(usize) -> bool,
    answer_time: Duration,
    clocks: impl Fn() -> Clocks + Sync,
    log: Log,
) -> Result<Fetched, Error> {
    let began = Instant::now();
    let certificate = request.zip(config.certificate.as_ref());
    let jobs: Vec<Job<'_>> = certificate
        .map(|(request, certificate)| Job::Certificate(request, certificate))
        .into_iter()
        .chain(
            (0..)
                .zip(&config.dependencies)
                .filter(|(index, _)| wanted(*index))
                .map(|(index, dependency)| Job::Credential(index, dependency)),
        )
        .collect();
    let workers = jobs.len().min(if answer_time < FAR {
        WORKERS_NEAR
    } else {
        WORKERS_FAR
    });
    let jobs = Mutex::new(jobs.into_iter());
    let done: Mutex<Vec<Result<(Product, Duration), Error>>> = Mutex::default();
    let work = || {
        // A statement of its own, so that the lock is not held while the job is done.
        while let Some(job) = { lock(&jobs).next() } {
            let asked = clock::moment();
            let product = match job {
                Job::Certificate(request, certificate) => {
                    certificate::obtain(request, certificate, session, &clocks)
                        .map(|issued| Product::Certificate(Box::new(issued), asked))
                        .map_err(Error::Certificate)
                }
                Job::Credential(index, dependency) => dependencies::fetch(session, dependency, log)
                    .map(|credential| Product::Credential(index, credential, asked))
                    .map_err(Error::Dependency),
            };
            let failed = product.is_err();
            // Before the others learn of it: the first failure is the one that counts.
            lock(&done).push(product.map(|product| (product, began.elapsed())));
            if failed {
                // Nobody needs the rest, and the token must not live until the slowest of it is there.
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

    let mut fetched = Fetched {
        certificate: None,
        credentials: Vec::new(),
        certificate_took: Duration::ZERO,
        credentials_took: Duration::ZERO,
    };
    for product in done
        .into_inner()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
    {
        match product? {
            (Product::Certificate(issued, asked), took) => {
                fetched.certificate = Some((*issued, asked));
                fetched.certificate_took = took;
            }
            (Product::Credential(index, credential, asked), took) => {
                fetched.credentials.push((index, credential, asked));
                fetched.credentials_took = fetched.credentials_took.max(took);
            }
        }
    }
    fetched.credentials.sort_by_key(|(index, ..)| *index);
    Ok(fetched)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}
