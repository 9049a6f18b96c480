//! `/metrics` and `/healthz`, for this host alone.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;

use super::Agent;
use super::configuration::{Configuration, Listen};
use super::metrics::Standing;
use super::readers::{Reader, Readers};
use super::sockets::{PUBLIC, Socket, is_in_place};
use crate::mutex::lock;

/// How long a reader may take for its request: it is on this host.
const REQUEST_MAX: Duration = Duration::from_millis(500);
/// How long a reader may take for request and answer.
const READING_MAX: Duration = Duration::from_secs(10);
const TEXT: &str = "text/plain; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) enum Listener {
    None,
    /// On a loopback address.
    Tcp(TcpListener),
    /// On a socket for every user of this host.
    Unix(Socket),
}

impl Listener {
    pub(super) fn open(configuration: &Configuration) -> io::Result<Listener> {
        Ok(match &configuration.own.listen {
            None => Listener::None,
            Some(Listen::Tcp(address)) => {
                let named = |error: io::Error| {
                    io::Error::new(error.kind(), format!("at {address}: {error}"))
                };
                let listener = std::net::TcpListener::bind(address).map_err(named)?;
                listener.set_nonblocking(true)?;
                Listener::Tcp(TcpListener::from_std(listener)?)
            }
            Some(Listen::Unix(path)) => Listener::Unix(Socket::listen(path, PUBLIC)?),
        })
    }
}

pub(super) async fn serve(agent: &Arc<Agent>, listener: Listener) {
    let mut readers = Readers::default();
    match listener {
        Listener::None => std::future::pending().await,
        Listener::Tcp(listener) => loop {
            match listener.accept().await {
                Ok((stream, _)) => readers.add(begin(agent, stream)),
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        },
        Listener::Unix(mut socket) => loop {
            match socket.accept(agent).await {
                Ok(stream) => readers.add(begin(agent, stream)),
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        },
    }
}

fn begin(
    agent: &Arc<Agent>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Reader {
    let agent = Arc::clone(agent);
    let has_asked = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&has_asked);
    let task = tokio::spawn(async move {
        let service = service_fn(|request| {
            asked.store(true, Ordering::Relaxed);
            let answer = agent.answer(&request);
            async { Ok::<_, Infallible>(answer) }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(REQUEST_MAX)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service);
        // A reader that breaks off, or reads too slowly, is its own business.
        let _ = tokio::time::timeout(READING_MAX, served).await;
    });
    Reader {
        task: task.abort_handle(),
        has_asked,
    }
}

impl Agent {
    fn standing(&self) -> Standing {
        let (out, to_be_revoked) = self.register.count();
        Standing {
            own_token: self.own_token.remaining(),
            vault: !self.own_token.is_away(),
            docker: self.engine().is_some(),
            looks: !self.is_blind.load(Ordering::Relaxed),
            out: out - to_be_revoked,
            to_be_revoked,
            blocks: self.register.blocks(),
            hung: self.lanes.hung(),
        }
    }

    fn troubles(&self) -> Vec<String> {
        let troubles = troubles(self.standing()).into_iter().map(str::to_owned);
        let sockets = lock(&self.sockets);
        let lost = sockets
            .iter()
            .filter(|(path, inode)| !is_in_place(path, **inode));
        let lost =
            lost.map(|(path, _)| format!("the socket {} was removed or replaced", path.display()));
        troubles.chain(lost).collect()
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let (status, kind, text) = match (request.method().as_str(), request.uri().path()) {
            ("GET" | "HEAD", "/metrics") => {
                let text = self.metrics.text(self.standing());
                (StatusCode::OK, OPEN_METRICS, text)
            }
            ("GET" | "HEAD", "/healthz") => match self.troubles() {
                troubles if troubles.is_empty() => (StatusCode::OK, TEXT, "ok\n".to_owned()),
                troubles => (
                    StatusCode::SERVICE_UNAVAILABLE,
                    TEXT,
                    troubles.join("\n") + "\n",
                ),
            },
            (_, "/metrics" | "/healthz") => (StatusCode::METHOD_NOT_ALLOWED, TEXT, String::new()),
            _ => (
                StatusCode::NOT_FOUND,
                TEXT,
                "/metrics and /healthz are here\n".to_owned(),
            ),
        };
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = status;
        let kind = hyper::header::HeaderValue::from_static(kind);
        response.headers_mut().insert(CONTENT_TYPE, kind);
        response
    }
}

fn troubles(standing: Standing) -> Vec<&'static str> {
    [
        (
            standing.own_token.is_none(),
            "the agent has no token of its own",
        ),
        (
            standing.own_token == Some(0),
            "the agent's own token has ended",
        ),
        (!standing.vault, "Vault does not answer"),
        (!standing.docker, "Docker does not tell its events"),
        (
            standing.docker && !standing.looks,
            "Docker does not say which containers run",
        ),
    ]
    .into_iter()
    .filter_map(|(is_so, text)| is_so.then_some(text))
    .collect()
}
