//! Certificates for tests, and a TLS server with a chosen defect that records what clients send to it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::{TempDir, lock};

/// Makes aws-lc-rs the process's crypto provider, once.
pub fn install_crypto() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        rustls::crypto::aws_lc_rs::default_provider()
            .install_default()
            .expect("no other code installs a crypto provider in this process");
    });
}

/// The years in which a certificate is valid: from the first of January of the one to that of the other.
#[derive(Clone, Copy, Debug)]
pub struct Validity(pub i32, pub i32);

impl Validity {
    /// Valid now.
    pub const CURRENT: Self = Self(2020, 2090);
    /// No longer valid.
    pub const PAST: Self = Self(2020, 2021);
    /// Not yet valid.
    pub const FUTURE: Self = Self(2089, 2090);

    fn apply(self, params: &mut CertificateParams) {
        params.not_before = date_time_ymd(self.0, 1, 1);
        params.not_after = date_time_ymd(self.1, 1, 1);
    }
}

/// A certificate and its key, both as PEM.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate.
    pub cert_pem: String,
    /// The key, PKCS#8.
    pub key_pem: String,
    cert: CertificateDer<'static>,
    key: Vec<u8>,
}

/// A certificate authority that lives in memory.
pub struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new authority of this name.
    pub fn new(name: &str) -> Self {
        Self::with_validity(name, Validity::CURRENT)
    }

    /// A new authority whose own certificate has this validity.
    pub fn with_validity(name: &str, validity: Validity) -> Self {
        let key = KeyPair::generate().expect("a P-256 key can be made");
        let mut params = CertificateParams::default();
        params.distinguished_name.remove(DnType::CommonName);
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        validity.apply(&mut params);
        let pem = params
            .self_signed(&key)
            .expect("a CA can sign itself")
            .pem();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    /// The authority's own certificate.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for these host names and IP addresses.
    pub fn issue(&self, names: &[&str], validity: Validity) -> Identity {
        let key = KeyPair::generate().expect("a P-256 key can be made");
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let common_name = names.first().cloned().unwrap_or_default();
        let mut params =
            CertificateParams::new(names).expect("the names are host names or IP addresses");
        params.distinguished_name.remove(DnType::CommonName);
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        params.use_authority_key_identifier_extension = true;
        validity.apply(&mut params);
        let cert = params
            .signed_by(&key, &self.issuer)
            .expect("the CA can sign");
        Identity {
            cert_pem: cert.pem(),
            key_pem: key.serialize_pem(),
            cert: cert.der().clone(),
            key: key.serialize_der(),
        }
    }
}

/// The mistake in the certificate that a [`TlsServer`] shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// Nothing.
    None,
    /// Signed by another authority than the one in [`TlsServer::ca_pem_path`], with the same name.
    WrongCa,
    /// Made for another host.
    WrongName,
    Expired,
    NotYetValid,
    /// The authority's own certificate is no longer valid.
    ExpiredCa,
}

/// A TLS server on 127.0.0.1 that records the application bytes it receives and answers every request the same.
pub struct TlsServer {
    address: SocketAddr,
    directory: TempDir,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    received: Mutex<Vec<u8>>,
    handshakes: Mutex<Vec<Result<(), String>>>,
}

impl TlsServer {
    /// Starts one that answers 503 with Vault's JSON for "sealed".
    pub fn start(defect: Defect) -> Self {
        Self::answering(
            defect,
            b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: 30\r\n\
              Connection: close\r\n\r\n{\"errors\":[\"Vault is sealed\"]}",
        )
    }

    /// Starts one that answers with these bytes.
    pub fn answering(defect: Defect, answer: &[u8]) -> Self {
        install_crypto();
        let ca_validity = match defect {
            Defect::ExpiredCa => Validity::PAST,
            _ => Validity::CURRENT,
        };
        let trusted = Authority::with_validity("anteroom test CA", ca_validity);
        let stranger = Authority::new("anteroom test CA");
        let names: &[&str] = match defect {
            Defect::WrongName => &["elsewhere.example.io"],
            _ => &["127.0.0.1", "localhost"],
        };
        let validity = match defect {
            Defect::Expired => Validity::PAST,
            Defect::NotYetValid => Validity::FUTURE,
            _ => Validity::CURRENT,
        };
        let issuer = if defect == Defect::WrongCa {
            &stranger
        } else {
            &trusted
        };
        let identity = issuer.issue(names, validity);
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(identity.key));
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![identity.cert], key)
            .expect("rustls accepts the test certificate");
        let config = Arc::new(config);

        let directory = TempDir::new();
        directory.write("ca.pem", trusted.pem());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let shared = Arc::new(Shared::default());
        let server = Self {
            address,
            directory,
            shared: Arc::clone(&shared),
        };
        let answer: Arc<[u8]> = answer.into();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if shared.stop.load(Ordering::Relaxed) {
                    break;
                }
                let (config, shared, answer) = (
                    Arc::clone(&config),
                    Arc::clone(&shared),
                    Arc::clone(&answer),
                );
                std::thread::spawn(move || serve(stream, config, &shared, &answer));
            }
        });
        server
    }

    /// The server's address with scheme and port.
    pub fn address(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The file with the certificate of the authority that a client is to trust.
    pub fn ca_pem_path(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    /// Every application byte that all clients sent.
    pub fn application_bytes(&self) -> Vec<u8> {
        lock(&self.shared.received).clone()
    }

    /// How each handshake ended, in order.
    pub fn handshakes(&self) -> Vec<Result<(), String>> {
        lock(&self.shared.handshakes).clone()
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // Wakes the accepting thread so that it sees the flag.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(mut tcp: TcpStream, config: Arc<rustls::ServerConfig>, shared: &Shared, answer: &[u8]) {
    // A client that goes silent must not hold the thread for ever.
    let _ = tcp.set_read_timeout(Some(Duration::from_secs(30)));
    let mut tls = rustls::ServerConnection::new(config).expect("the configuration is sound");
    while tls.is_handshaking() {
        if let Err(error) = tls.complete_io(&mut tcp) {
            let mut handshakes = lock(&shared.handshakes);
            handshakes.push(Err(error.to_string()));
            return;
        }
    }
    lock(&shared.handshakes).push(Ok(()));
    let mut stream = rustls::Stream::new(&mut tls, &mut tcp);
    let mut buffer = [0; 16 * 1024];
    let mut head = Vec::new();
    loop {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(count) => {
                let mut received = lock(&shared.received);
                received.extend_from_slice(&buffer[..count]);
                drop(received);
                head.extend_from_slice(&buffer[..count]);
                if super::proxy::request_is_complete(&head) {
                    let _ = stream.write_all(answer);
                    let _ = stream.flush();
                    stream.conn.send_close_notify();
                    let _ = stream.flush();
                    break;
                }
            }
        }
    }
}

/// Writes an authority and a server certificate for 127.0.0.1 and localhost: `ca.pem`, `server.pem`, `server-key.pem`.
pub fn write_server_files(directory: &Path) {
    let authority = Authority::new("anteroom test CA");
    let identity = authority.issue(&["localhost", "127.0.0.1"], Validity::CURRENT);
    for (name, content) in [
        ("ca.pem", authority.pem()),
        ("server.pem", &identity.cert_pem),
        ("server-key.pem", &identity.key_pem),
    ] {
        std::fs::write(directory.join(name), content)
            .expect("a file in our own directory can be written");
    }
}
