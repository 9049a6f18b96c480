//! Sockets in the file system: one that an earlier agent left behind goes, and nothing else; and each is kept in its place.
//!
//! The directory of the socket at which containers ask is mounted into them, and `:ro` is the container's own choice: one that
//! may write there can remove the socket, or put another one in its place. So it is looked at, and restored.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::stat::{Mode, umask};
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::Agent;
use crate::log::{Level, Value};
use crate::mutex::lock;
use crate::vault::Minted;

/// How long a caller may leave its answer lying.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// Between two looks at the place of a socket.
const LOOK: Duration = Duration::from_secs(1);

/// For its owner alone.
pub(super) const PRIVATE: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);

/// For every process that can reach it.
pub(super) const PUBLIC: Mode = PRIVATE
    .union(Mode::S_IRGRP)
    .union(Mode::S_IWGRP)
    .union(Mode::S_IROTH)
    .union(Mode::S_IWOTH);

/// Device and inode of a socket's name.
pub(super) type Inode = (u64, u64);

/// A listener, and the place where its name must stay.
pub(super) struct Socket {
    path: PathBuf,
    mode: Mode,
    listener: UnixListener,
    inode: Option<Inode>,
    next_look: Instant,
    /// The log says already that the socket is not in its place.
    is_loss_told: bool,
}

impl Socket {
    /// Listens at a path, in place of an earlier agent that has ended.
    pub(super) fn listen(path: &Path, mode: Mode) -> io::Result<Socket> {
        let found = std::fs::symlink_metadata(path);
        if found.is_ok_and(|found| !found.file_type().is_socket()) {
            return Err(at(path)(io::ErrorKind::AlreadyExists.into()));
        }
        let listener = bind(path, mode)?;
        Ok(Socket {
            inode: inode(path),
            path: path.to_owned(),
            mode,
            listener,
            next_look: Instant::now() + LOOK,
            is_loss_told: false,
        })
    }

    /// Waits for the next caller, and keeps the socket in its place, also while one caller comes after another: a container
    /// that gave the socket another name can still call there.
    pub(super) async fn accept(&mut self, agent: &Agent) -> io::Result<UnixStream> {
        loop {
            lock(&agent.sockets).insert(self.path.clone(), self.inode);
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(self.next_look) => {
                    self.next_look = Instant::now() + LOOK;
                    self.keep(agent);
                }
                accepted = self.listener.accept() => return accepted.map(|(stream, _)| stream),
            }
        }
    }

    /// Puts the socket back if its name is gone, or is another file's.
    fn keep(&mut self, agent: &Agent) {
        if is_in_place(&self.path, self.inode) {
            return;
        }
        let path = self.path.display().to_string();
        let fields = [("path", Value::Text(&path))];
        match bind(&self.path, self.mode) {
            Ok(listener) => {
                self.listener = listener;
                self.inode = inode(&self.path);
                self.is_loss_told = false;
                if agent.may_say(&path) {
                    let text = format!(
                        "the socket {path} was removed or replaced, and is there again; mount its directory read-only"
                    );
                    agent
                        .log
                        .event(Level::Warn, "socket_restored", &text, &fields);
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut self.is_loss_told, true) {
                    let text = format!(
                        "the socket {path} was removed or replaced, and cannot be made again: {error}"
                    );
                    agent.log.event(Level::Error, "socket_lost", &text, &fields);
                }
            }
        }
    }
}

/// Whether the name still leads to the socket.
pub(super) fn is_in_place(path: &Path, socket: Option<Inode>) -> bool {
    socket.is_some() && inode(path) == socket
}

fn inode(path: &Path) -> Option<Inode> {
    let found = std::fs::symlink_metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

fn at(path: &Path) -> impl Fn(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("at {}: {error}", path.display()))
}

/// Listens, and gives the socket the name, whatever has it.
fn bind(path: &Path, mode: Mode) -> io::Result<UnixListener> {
    // Its mode from the first moment on, and not by chmod(2): the directory may be a container's too, and a name in it
    // lead anywhere a moment later.
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    for name in [path.as_os_str(), &new] {
        // An empty directory can be taken away; what is in another one is not the agent's.
        if std::fs::symlink_metadata(name).is_ok_and(|found| found.is_dir()) {
            std::fs::remove_dir(name).map_err(at(path))?;
        }
    }
    let _ = std::fs::remove_file(&new);
    let before = umask(Mode::from_bits_truncate(0o777).difference(mode));
    let listener = UnixListener::bind(&new);
    umask(before);
    let listener = listener.map_err(at(path))?;
    // It comes to its place when it listens: a caller that waits there connects in the moment in which the name appears.
    std::fs::rename(&new, path).map_err(at(path))?;
    Ok(listener)
}

/// Gives the caller its token.
pub(super) async fn answer(stream: &mut UnixStream, minted: &Minted) -> io::Result<()> {
    let answer = serde_json::json!({
        "token": minted.token.expose(),
        "wrapped_accessor": minted.wrapped_accessor,
    });
    let answer = Zeroizing::new(answer.to_string());
    write(stream, answer.as_bytes()).await
}

/// Writes to a caller, which may be in no hurry to read.
pub(super) async fn write(stream: &mut UnixStream, bytes: &[u8]) -> io::Result<()> {
    match tokio::time::timeout(ANSWER_MAX, stream.write_all(bytes)).await {
        Ok(written) => written,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}
