//! Questions to an engine, in HTTP over its socket: a connection for each, and a limit of time and size for each answer.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::{Cause, answers};

/// Longest wait for the beginning of an answer, and for each further piece of one that ends.
const ANSWER_MAX: Duration = Duration::from_secs(15);
/// Longest complaint of an engine that is read.
const COMPLAINT_MAX: usize = 64 * 1024;
/// The newest version of the API that is known here; an older engine is asked in its own.
const NEWEST: u32 = 53;

/// An engine's socket, and the version of the API that it is asked in.
#[derive(Clone)]
pub(super) struct Client {
    socket: PathBuf,
    version: u32,
}

/// An answer that has begun.
pub(super) struct Answer {
    body: Incoming,
    connection: AbortHandle,
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Client {
    /// Asks the engine for its version.
    pub(super) async fn connect(socket: &Path) -> Result<Client, Cause> {
        let (head, answer) = send(socket, "/_ping").await?;
        let version = head.headers.get("api-version");
        let version = version.and_then(|version| minor(version.to_str().ok()?));
        drop(answer);
        let version = version.ok_or_else(|| Cause::Unreadable {
            reason: "it does not say the version of its API; is it an engine's socket?".to_owned(),
        })?;
        Ok(Client {
            socket: socket.to_owned(),
            version: version.min(NEWEST),
        })
    }

    /// Asks, and returns the answer's beginning if the engine does what it is asked.
    pub(super) async fn ask(&self, path: &str) -> Result<Answer, Cause> {
        let path = format!("/v1.{}{path}", self.version);
        let (head, answer) = send(&self.socket, &path).await?;
        if head.status.is_success() {
            return Ok(answer);
        }
        let bytes = answer.whole(COMPLAINT_MAX).await.unwrap_or_default();
        match head.status {
            StatusCode::NOT_FOUND => Err(Cause::Absent),
            status => Err(Cause::Refused {
                status: status.as_u16(),
                message: answers::complaint(&bytes).unwrap_or_default(),
            }),
        }
    }

    /// Asks, and returns the whole answer.
    pub(super) async fn read(&self, path: &str, limit: usize) -> Result<Vec<u8>, Cause> {
        self.ask(path).await?.whole(limit).await
    }
}

impl Answer {
    /// The next piece of an answer that ends; none at its end.
    pub(super) async fn piece(&mut self) -> Result<Option<Bytes>, Cause> {
        let piece = timeout(ANSWER_MAX, self.next()).await;
        piece.unwrap_or(Err(Cause::Slow))
    }

    /// The next piece, whenever that comes.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Cause> {
        while let Some(frame) = self.body.frame().await {
            if let Ok(data) = frame.map_err(away)?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    async fn whole(mut self, limit: usize) -> Result<Vec<u8>, Cause> {
        let mut bytes = Vec::new();
        let read = async {
            while let Some(piece) = self.next().await? {
                if bytes.len() + piece.len() > limit {
                    return Err(Cause::TooLarge { limit });
                }
                bytes.extend_from_slice(&piece);
            }
            Ok(())
        };
        timeout(ANSWER_MAX, read)
            .await
            .unwrap_or(Err(Cause::Slow))?;
        Ok(bytes)
    }
}

async fn send(socket: &Path, path: &str) -> Result<(hyper::http::response::Parts, Answer), Cause> {
    let sent = async {
        let stream = UnixStream::connect(socket).await.map_err(away)?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(away)?;
        let connection = tokio::spawn(connection).abort_handle();
        let request = Request::get(path)
            .header(HOST, "docker")
            .body(Empty::<Bytes>::new());
        let request = request.map_err(away)?;
        let answer = sender.send_request(request).await.map_err(|error| {
            connection.abort();
            away(error)
        })?;
        let (head, body) = answer.into_parts();
        Ok((head, Answer { body, connection }))
    };
    timeout(ANSWER_MAX, sent).await.unwrap_or(Err(Cause::Slow))
}

fn away(error: impl std::error::Error) -> Cause {
    // What hyper says of itself is half of it: the reason is below.
    let reason = match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    Cause::Away { reason }
}

/// The second number of a version, of which the first is 1.
fn minor(version: &str) -> Option<u32> {
    let minor = version.trim().strip_prefix("1.")?;
    let is_number = !minor.is_empty() && minor.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| minor.parse().ok()).flatten()
}

/// Escapes a value for the query of a path.
pub(super) fn escaped(text: &str) -> String {
    use std::fmt::Write as _;

    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_of_an_engine_is_read_or_none() {
        assert_eq!(minor("1.41"), Some(41));
        assert_eq!(minor("1.53 "), Some(53));
        for odd in [
            "",
            "1.",
            "2.0",
            "1.4/../x",
            "1.+4",
            "1.99999999999",
            "1.41-rc",
        ] {
            assert_eq!(minor(odd), None, "{odd}");
        }
    }

    #[test]
    fn filter_is_escaped_for_a_query() {
        assert_eq!(
            escaped(r#"{"a-b":["ü"]}"#),
            "%7B%22a-b%22%3A%5B%22%C3%BC%22%5D%7D"
        );
    }
}
