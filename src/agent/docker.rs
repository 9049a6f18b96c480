//! Docker's API, as far as the agent needs it: who started, who died, and who is who.
//!
//! | stage | module |
//! |---|---|
//! | a question in HTTP over the engine's socket | `http` |
//! | its answer, cut into one object for each container | [`objects`] |
//! | what such an object says | [`answers`] |

pub(super) mod answers;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod http;
pub(super) mod objects;

use std::collections::{HashSet, VecDeque};
use std::path::Path;
use std::time::Duration;

use futures_util::{Stream, stream};
use time::OffsetDateTime;

use answers::Inspection;
use http::{Answer, Client, escaped};
use objects::{Malformed, Object, Objects};

/// Largest entry of a list, and largest event.
const OBJECT_MAX: usize = 1 << 20;
/// Largest answer about one container or one image.
const INSPECTION_MAX: usize = 4 << 20;
/// Largest answer about the engine.
const INFO_MAX: usize = 4 << 20;
/// Most containers of a list that are looked at.
const LISTED_MAX: usize = 1 << 16;
/// Longest wait for a whole list.
const LIST_MAX: Duration = Duration::from_secs(60);

/// Docker did not answer, or not as it should.
#[derive(Debug)]
pub(super) struct Error {
    /// The question, as it stands behind "asked to".
    pub request: &'static str,
    pub cause: Cause,
}

/// Why a question to Docker has no answer.
#[derive(Debug)]
pub(super) enum Cause {
    /// The engine cannot be reached, or the connection broke.
    Away { reason: String },
    /// The engine did not answer in time.
    Slow,
    /// The engine knows no such thing.
    Absent,
    /// The engine does not do what it is asked.
    Refused {
        /// The HTTP status.
        status: u16,
        /// The engine's complaint; empty where it gives none.
        message: String,
    },
    /// The answer is not what an engine says.
    Unreadable { reason: String },
    /// The answer is larger than any that is read.
    TooLarge {
        /// In bytes.
        limit: usize,
    },
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Docker, asked to {}: ", self.request)?;
        match &self.cause {
            Cause::Away { reason } => f.write_str(reason),
            Cause::Slow => f.write_str("it did not answer in time"),
            Cause::Absent => f.write_str("it knows none"),
            Cause::Refused { status, message } => write!(f, "it answers {status}: {message}"),
            Cause::Unreadable { reason } => write!(f, "its answer cannot be read: {reason}"),
            Cause::TooLarge { limit } => write!(f, "its answer is larger than {limit} bytes"),
        }
    }
}

impl std::error::Error for Error {}

impl Error {
    /// There is no engine to ask.
    pub(super) fn away() -> Error {
        failed("inspect a container")(Cause::Away {
            reason: "it is away".to_owned(),
        })
    }

    /// The engine has ended the stream of its events.
    pub(super) fn ended() -> Error {
        failed(TELL)(Cause::Away {
            reason: "it has ended the connection".to_owned(),
        })
    }

    /// The same question would get the same answer.
    pub(super) fn is_final(&self) -> bool {
        matches!(
            self.cause,
            Cause::Unreadable { .. } | Cause::TooLarge { .. }
        )
    }
}

const TELL: &str = "tell its events";

fn failed(request: &'static str) -> impl Fn(Cause) -> Error {
    move |cause| Error { request, cause }
}

/// A change in the life of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// The container runs.
    Started,
    /// The container does not run any more.
    Died,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    pub change: Change,
    /// The container's id, 64 hexadecimal digits.
    pub container: String,
}

/// Containers that run and may want a token.
#[derive(Debug, Default)]
pub(super) struct Running {
    /// The containers' ids.
    pub containers: HashSet<String>,
    /// Containers of the list that could not be read, and the reason of the first.
    pub unread: Option<(usize, String)>,
}

impl Running {
    fn leave_out(&mut self, reason: impl FnOnce() -> String) {
        match &mut self.unread {
            Some((count, _)) => *count += 1,
            None => self.unread = Some((1, reason())),
        }
    }

    fn add(&mut self, object: Object) {
        let listed = match object {
            Object::TooLarge => Err(too_large()),
            Object::Whole(_) if self.containers.len() >= LISTED_MAX => {
                Err(format!("more than {LISTED_MAX} run"))
            }
            Object::Whole(bytes) => answers::listed(&bytes),
        };
        match listed {
            Ok(container) => {
                self.containers.insert(container);
            }
            Err(reason) => self.leave_out(|| reason),
        }
    }
}

fn too_large() -> String {
    format!("it is larger than {OBJECT_MAX} bytes")
}

/// A connection to the engine.
#[derive(Clone)]
pub(super) struct Engine {
    client: Client,
    /// A label without which no container wants a token.
    label: String,
    /// The engine knows from which registry an image was pulled.
    pub knows_origins: bool,
}

impl Engine {
    /// Connects, and agrees on a version of the API; only containers with this label are asked about.
    pub(super) async fn connect(socket: &Path, label: &str) -> Result<Engine, Error> {
        let failed = failed("connect");
        let client = Client::connect(socket).await.map_err(&failed)?;
        let info = client.read("/info", INFO_MAX).await.map_err(&failed)?;
        let knows_origins = answers::knows_origins(&info).map_err(unreadable);
        Ok(Engine {
            client,
            label: label.to_owned(),
            knows_origins: knows_origins.map_err(&failed)?,
        })
    }

    /// Starts and deaths since a time, then as they happen, until the connection breaks; an event that cannot be read is an
    /// error of its own.
    pub(super) async fn events(
        &self,
        since: OffsetDateTime,
    ) -> Result<impl Stream<Item = Result<Result<Event, String>, Error>> + use<>, Error> {
        let filters = self.filters(serde_json::json!({
            "type": ["container"],
            "event": ["start", "die"],
        }));
        let since = since.unix_timestamp();
        let path = format!("/events?since={since}&filters={filters}");
        let answer = self.client.ask(&path).await.map_err(failed(TELL))?;
        let told = Told {
            answer,
            objects: Objects::new(OBJECT_MAX),
            ready: VecDeque::new(),
        };
        Ok(stream::unfold(Some(told), |told| async move {
            let mut told = told?;
            match told.next().await {
                Ok(Some(event)) => Some((Ok(event), Some(told))),
                Ok(None) => None,
                Err(cause) => Some((Err(failed(TELL)(cause)), None)),
            }
        }))
    }

    /// All containers with the label that run, the paused ones among them.
    pub(super) async fn running(&self) -> Result<Running, Error> {
        let listed = tokio::time::timeout(LIST_MAX, self.list()).await;
        let listed = listed.unwrap_or(Err(Cause::Slow));
        listed.map_err(failed("list the containers"))
    }

    async fn list(&self) -> Result<Running, Cause> {
        let filters = self.filters(serde_json::json!({}));
        let path = format!("/containers/json?filters={filters}");
        let mut answer = self.client.ask(&path).await?;
        let mut objects = Objects::new(OBJECT_MAX);
        let mut running = Running::default();
        while let Some(piece) = answer.piece().await? {
            for object in objects.feed(&piece).map_err(malformed)? {
                running.add(object);
            }
        }
        if objects.is_whole_array() {
            Ok(running)
        } else {
            Err(unreadable("the list is not whole".to_owned()))
        }
    }

    /// Asks what a container is.
    pub(super) async fn inspect(&self, container: &str) -> Result<Inspection, Error> {
        // An id needs no escape.
        if !answers::is_id(container) {
            return Ok(Inspection::Absent);
        }
        let failed_container = failed("inspect a container");
        let path = format!("/containers/{container}/json");
        let answer = match self.client.read(&path, INSPECTION_MAX).await {
            Ok(answer) => answer,
            Err(Cause::Absent) => return Ok(Inspection::Absent),
            Err(cause) => return Err(failed_container(cause)),
        };
        let inspection = answers::container(&answer, container).map_err(unreadable);
        let mut claim = match inspection.map_err(failed_container)? {
            Inspection::Running(claim) => claim,
            other => return Ok(other),
        };
        let failed = failed("inspect an image");
        let path = format!("/images/{}/json", escaped(&claim.digests[0]));
        match self.client.read(&path, INSPECTION_MAX).await {
            Ok(answer) => {
                let read = answers::image(&answer, self.knows_origins, &mut claim);
                read.map_err(unreadable).map_err(failed)?;
            }
            // An image may be removed while its containers run: then it has its id alone.
            Err(Cause::Absent) => {}
            Err(cause) => return Err(failed(cause)),
        }
        Ok(Inspection::Running(claim))
    }

    fn filters(&self, mut filters: serde_json::Value) -> String {
        // An engine takes what is behind the first `=` for the label's value.
        if !self.label.contains('=') {
            filters["label"] = serde_json::json!([self.label]);
        }
        escaped(&filters.to_string())
    }
}

/// Events as they come.
struct Told {
    answer: Answer,
    objects: Objects,
    ready: VecDeque<Result<Event, String>>,
}

impl Told {
    async fn next(&mut self) -> Result<Option<Result<Event, String>>, Cause> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            let Some(piece) = self.answer.next().await? else {
                return Ok(None);
            };
            for object in self.objects.feed(&piece).map_err(malformed)? {
                let event = match object {
                    Object::TooLarge => Err(too_large()),
                    Object::Whole(bytes) => answers::event(&bytes),
                };
                self.ready.extend(event.transpose());
            }
        }
    }
}

fn unreadable(reason: String) -> Cause {
    Cause::Unreadable { reason }
}

fn malformed(Malformed: Malformed) -> Cause {
    unreadable("it is no JSON of an engine".to_owned())
}
