//! Clients that ask a server without a pause, on new connections and on those that stay, and count what was lost.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::json;

use super::page::Vault;
use crate::support::openbao::text;
use crate::support::{Core, Pki, Running, lock, tls};

/// The clients that keep their connections, and as many that do not.
const CLIENTS: usize = 3;
/// So many requests, on kept connections and on new ones each, are a load.
const ENOUGH: usize = 100;
/// The pause before the next request of a client: a connection that stays is idle most of the time.
const PAUSE: Duration = Duration::from_millis(7);
/// Generous: nothing here takes so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A client of a server that this CA has signed.
#[derive(Clone)]
pub(super) struct Client {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    port: u16,
}

impl Client {
    /// A client that shows a certificate for `common_name`, and expects the server to be `server`.
    pub(super) fn with_certificate(
        vault: &Vault,
        pki: &Pki,
        role: &str,
        common_name: &str,
        server: &str,
        port: u16,
    ) -> Self {
        let path = format!("{}/issue/{role}", pki.mount);
        let body = json!({"common_name": common_name, "ttl": "1h", "key_type": "ec"});
        let issued = &vault.admin.ok("POST", &path, body)["data"];
        let key = PrivateKeyDer::from_pem_slice(text(&issued["private_key"]).as_bytes());
        let chain = [&issued["certificate"], &issued["issuing_ca"]]
            .map(|pem| CertificateDer::from_pem_slice(text(pem).as_bytes()).expect("PEM"));
        let config = trusting(pki)
            .with_client_auth_cert(chain.to_vec(), key.expect("PEM"))
            .expect("the key is the certificate's");
        Self::of(config, server, port)
    }

    /// A client without a certificate.
    pub(super) fn stranger(pki: &Pki, server: &str, port: u16) -> Self {
        Self::of(trusting(pki).with_no_client_auth(), server, port)
    }

    fn of(mut config: ClientConfig, server: &str, port: u16) -> Self {
        // A session that is resumed would show no certificate.
        config.resumption = rustls::client::Resumption::disabled();
        let name = ServerName::try_from(server.to_owned()).expect("a host name");
        Self {
            config: Arc::new(config),
            name,
            port,
        }
    }

    /// Sends one request on a connection of its own, and gives the answer's status line with what follows.
    pub(super) fn ask(&self) -> Result<String, String> {
        let mut connection = self
            .connect()
            .map_err(|error| format!("connect: {error}"))?;
        request(&mut connection, "close").map_err(|error| error.to_string())
    }

    fn connect(&self) -> std::io::Result<Connection> {
        let tcp = TcpStream::connect(("127.0.0.1", self.port))?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        let tls = ClientConnection::new(Arc::clone(&self.config), self.name.clone())
            .map_err(std::io::Error::other)?;
        let mut connection = StreamOwned::new(tls, tcp);
        while connection.conn.is_handshaking() {
            connection.conn.complete_io(&mut connection.sock)?;
        }
        Ok(connection)
    }
}

type Connection = StreamOwned<ClientConnection, TcpStream>;

fn trusting(pki: &Pki) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    tls::install_crypto();
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(pki.root_pem.as_bytes()).expect("PEM");
    roots.add(root).expect("a CA");
    ClientConfig::builder().with_root_certificates(roots)
}

/// Sends a request and reads its answer, whose length must be known.
fn request(connection: &mut Connection, fate: &str) -> std::io::Result<String> {
    let request = format!("GET / HTTP/1.1\r\nHost: recipe\r\nConnection: {fate}\r\n\r\n");
    connection.write_all(request.as_bytes())?;
    connection.flush()?;
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        match connection.read(&mut buffer)? {
            0 => return Err(std::io::Error::other("closed before the answer's end")),
            count => answer.extend_from_slice(&buffer[..count]),
        }
        let answer = String::from_utf8_lossy(&answer);
        if let Some((head, body)) = answer.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                let is_it = name.eq_ignore_ascii_case("content-length");
                is_it.then(|| value.parse::<usize>().expect("a number"))
            });
            if body.len() >= length.expect("the answer says its length") {
                return Ok(answer.into_owned());
            }
        }
    }
}

/// The clients at work.
pub(super) struct Load {
    tally: Arc<Tally>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Tally {
    stop: AtomicBool,
    answered: Mutex<[usize; 2]>,
    lost: Mutex<Vec<String>>,
    leaves: Mutex<BTreeSet<Vec<u8>>>,
}

impl Load {
    /// Starts the clients; each answer must be a 200 that holds `expected`.
    pub(super) fn start(client: &Client, expected: &'static str) -> Self {
        let tally = Arc::<Tally>::default();
        let clients = [Stays::Open, Stays::No].into_iter().flat_map(|stays| {
            let (client, tally) = (client.clone(), Arc::clone(&tally));
            (0..CLIENTS).map(move |_| {
                let (client, tally) = (client.clone(), Arc::clone(&tally));
                std::thread::spawn(move || tally.work(&client, stays, expected))
            })
        });
        Self {
            clients: clients.collect(),
            tally,
        }
    }

    /// Whether the server has shown a new certificate so many times, under a load that counts.
    pub(super) fn has_seen(&self, rotations: usize) -> bool {
        let answered = *lock(&self.tally.answered);
        answered.iter().all(|count| *count > ENOUGH) && lock(&self.tally.leaves).len() > rotations
    }

    /// Whether a request was lost.
    pub(super) fn has_lost(&self) -> bool {
        !lock(&self.tally.lost).is_empty()
    }

    /// Ends the load; fails if a request was lost.
    #[track_caller]
    pub(super) fn assert_nothing_lost(self) {
        self.tally.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().expect("a client does not panic");
        }
        let (answered, lost) = (*lock(&self.tally.answered), lock(&self.tally.lost));
        assert!(lost.is_empty(), "{answered:?} answered, lost: {lost:#?}");
    }
}

/// The peers of a JVM of the service `timeline`, whose certificates this Vault makes.
pub(super) struct Peers<'a> {
    pub(super) vault: &'a Vault,
    pub(super) pki: &'a Pki,
    pub(super) port: u16,
}

impl Peers<'_> {
    /// Fails unless the JVM serves a peer and no stranger, and loses no request of a load while it takes so many new
    /// certificates. The core is for its start.
    #[track_caller]
    pub(super) fn assert_served(
        &self,
        run: &mut Running,
        starting: Core,
        expected: &'static str,
        rotations: usize,
    ) {
        let (name, own) = ("timeline.production.example.io", "client.example.io");
        let client =
            Client::with_certificate(self.vault, self.pki, "timeline", own, name, self.port);
        run.wait_until("an answer", |_| client.ask().is_ok());
        drop(starting);
        let stranger = Client::stranger(self.pki, name, self.port).ask();
        assert!(stranger.is_err(), "{stranger:?}");

        let load = Load::start(&client, expected);
        run.wait_until("new certificates", |_| {
            load.has_lost() || load.has_seen(rotations)
        });
        load.assert_nothing_lost();
        assert!(run.is_running(), "{}", run.stderr());
    }
}

/// Whether a client asks again on the same connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stays {
    Open,
    No,
}

impl Tally {
    fn work(&self, client: &Client, stays: Stays, expected: &str) {
        let mut kept: Option<Connection> = None;
        while !self.stop.load(Ordering::Relaxed) {
            let was_kept = kept.is_some();
            match self.ask(client, stays, kept.take()) {
                Ok((answer, connection)) => {
                    kept = connection;
                    if answer.starts_with("HTTP/1.1 200 ") && answer.contains(expected) {
                        lock(&self.answered)[usize::from(stays == Stays::Open)] += 1;
                    } else {
                        lock(&self.lost).push(answer);
                    }
                }
                Err(error) => {
                    lock(&self.lost).push(format!("kept: {was_kept}, {error}"));
                }
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Sends one request, and gives the connection back if it is for another one.
    fn ask(
        &self,
        client: &Client,
        stays: Stays,
        kept: Option<Connection>,
    ) -> std::io::Result<(String, Option<Connection>)> {
        let mut connection = match kept {
            Some(connection) => connection,
            None => client.connect()?,
        };
        let leaf = connection
            .conn
            .peer_certificates()
            .and_then(|all| all.first());
        lock(&self.leaves).insert(leaf.expect("a server shows one").to_vec());
        let fate = match stays {
            Stays::Open => "keep-alive",
            Stays::No => "close",
        };
        let answer = request(&mut connection, fate)?;
        let is_last = answer
            .to_ascii_lowercase()
            .contains("\r\nconnection: close\r\n");
        let stays = stays == Stays::Open && !is_last;
        Ok((answer, stays.then_some(connection)))
    }
}
