//! The table `[agent]`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::reader::{Reader, absolute};
use crate::manifest::table::Table;

/// The agent's own name, file and sockets, which containers must not reach.
pub struct Own {
    /// The file that says what was handed out.
    pub register: PathBuf,
    /// The socket for break-glass.
    pub control: PathBuf,
    /// Where metrics and health are; nowhere by default.
    pub listen: Option<Listen>,
    /// This host's name, for the tokens' metadata.
    pub host: String,
}

/// Where metrics and health are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// On a loopback address.
    Tcp(SocketAddr),
    /// On a socket in the file system.
    Unix(PathBuf),
}

impl Own {
    pub(super) fn read(root: &mut Table<'_>, hostname: &str, reader: &mut Reader) -> Own {
        let mut own = Own {
            register: "/var/lib/anteroom-agent/register.json".into(),
            control: "/run/anteroom-agent/control.sock".into(),
            listen: None,
            host: hostname.to_owned(),
        };
        if let Some(mut t) = root.table("agent") {
            reader.set(&mut own.register, t.text("register"), absolute);
            reader.set(&mut own.control, t.text("control"), absolute);
            own.listen = reader.parsed(t.text("listen"), listener);
            if let Some(host) = t.text("host") {
                own.host = host.value;
            }
            t.finish(&mut reader.mistakes);
        }
        own
    }

    /// Checks that nothing of the agent's own lies in the directory of this socket.
    pub(super) fn check_apart_from(&self, socket: Option<&Path>, reader: &mut Reader) {
        let Some(shared) = socket.and_then(Path::parent) else {
            return;
        };
        let listen = match &self.listen {
            Some(Listen::Unix(path)) => Some(path),
            Some(Listen::Tcp(_)) | None => None,
        };
        for (key, path) in [
            ("control", Some(&self.control)),
            ("register", Some(&self.register)),
            ("listen", listen),
        ] {
            if path.is_some_and(|path| path.starts_with(shared)) {
                let text = format!(
                    "`{key}` in [agent] lies in the directory of `socket` in [delivery], which is mounted into containers"
                );
                reader.mistake(None, text);
            }
        }
    }
}

/// `127.0.0.1:9180`, `[::1]:9180` or `unix:/run/…`.
fn listener(text: &str) -> Result<Listen, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return absolute(path).map(Listen::Unix);
    }
    let address: SocketAddr = text.parse().map_err(|_| {
        "a listener is an address and a port, as in `127.0.0.1:9180`, or `unix:` and a path"
            .to_owned()
    })?;
    if address.ip().is_loopback() {
        Ok(Listen::Tcp(address))
    } else {
        Err("metrics are for this host: listen on a loopback address".to_owned())
    }
}
