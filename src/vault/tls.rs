//! TLS to the server, and what to say about a certificate that is refused.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport,
    TransportAdapter,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::roots::{Error, Roots, load};
use super::transport::Socket;
use crate::text::without_brackets;

/// Wraps connections to https addresses in TLS 1.2 or newer.
#[derive(Clone)]
pub(super) struct Tls {
    config: Arc<ClientConfig>,
    server_name: Option<String>,
    refused: Arc<Mutex<Option<String>>>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// `server_name` stands for the address's host when the certificate bears another name.
    pub(super) fn new(roots: Roots<'_>, server_name: Option<&str>) -> Result<Tls, Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let refused = Arc::default();
        let origin = match roots {
            Roots::File(path) | Roots::System(Some(path)) => path.to_owned(),
            Roots::System(None) => PathBuf::from("the system's CAs"),
        };
        let failed = |error: &dyn fmt::Display| Error {
            path: origin.clone(),
            reason: error.to_string(),
        };
        let inner = WebPkiServerVerifier::builder_with_provider(
            Arc::new(load(roots)?),
            Arc::clone(&provider),
        )
        .build()
        .map_err(|error| failed(&error))?;
        let verifier = Verifier {
            inner,
            refused: Arc::clone(&refused),
        };
        let config = client_config(provider, verifier).map_err(|error| failed(&error))?;
        Ok(Tls {
            config: Arc::new(config),
            server_name: server_name.map(str::to_owned),
            refused,
        })
    }

    /// The fault of the certificate that the last handshake saw.
    pub(super) fn refusal(&self) -> Option<String> {
        self.refused
            .lock()
            .ok()
            .and_then(|mut refused| refused.take())
    }
}

fn client_config(
    provider: Arc<CryptoProvider>,
    verifier: Verifier,
) -> Result<ClientConfig, rustls::Error> {
    Ok(ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

/// The library's verifier, which also notes who was refused: its error alone does not say whose certificate it was.
#[derive(Debug)]
struct Verifier {
    inner: Arc<WebPkiServerVerifier>,
    refused: Arc<Mutex<Option<String>>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.inner
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            .inspect_err(|error| {
                if let Ok(mut refused) = self.refused.lock() {
                    *refused = Some(describe(end_entity, server_name, now, error));
                }
            })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

fn describe(
    der: &CertificateDer<'_>,
    name: &ServerName<'_>,
    now: UnixTime,
    error: &rustls::Error,
) -> String {
    let clock = time::OffsetDateTime::from_unix_timestamp(now.as_secs() as i64)
        .ok()
        .and_then(|now| {
            now.format(&time::format_description::well_known::Rfc3339)
                .ok()
        })
        .unwrap_or_default();
    match X509Certificate::from_der(der) {
        Ok((_, certificate)) => format!(
            "its certificate is refused: {error}; asked for {}, subject {}, issuer {}, valid {} to {}, this machine's clock {clock}",
            name.to_str(),
            certificate.subject(),
            certificate.issuer(),
            certificate.validity().not_before,
            certificate.validity().not_after,
        ),
        Err(_) => format!("its certificate is refused: {error}; it cannot be read"),
    }
}

impl Connector<Socket> for Tls {
    type Out = Either<Socket, TlsSocket>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<Socket>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let Some(socket) = chained else {
            return Ok(None);
        };
        if !details.needs_tls() {
            return Ok(Some(Either::A(socket)));
        }
        let host = match &self.server_name {
            Some(name) => name.as_str(),
            None => without_brackets(details.uri.host().unwrap_or_default()),
        };
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| ureq::Error::Tls("not a name for TLS"))?;
        let mut connection =
            ClientConnection::new(Arc::clone(&self.config), name).map_err(io::Error::other)?;
        let mut adapter = TransportAdapter::new(socket.boxed(), Arc::clone(&details.current_time));
        adapter.set_timeout(details.timeout);
        while connection.is_handshaking() {
            connection.complete_io(&mut adapter)?;
        }
        Ok(Some(Either::B(TlsSocket {
            stream: StreamOwned::new(connection, adapter),
            buffers: LazyBuffers::new(
                details.config.input_buffer_size(),
                details.config.output_buffer_size(),
            ),
        })))
    }
}

/// A connection within TLS.
pub(super) struct TlsSocket {
    stream: StreamOwned<ClientConnection, TransportAdapter>,
    buffers: LazyBuffers,
}

impl fmt::Debug for TlsSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsSocket")
    }
}

impl Transport for TlsSocket {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        io::Write::write_all(&mut self.stream, &self.buffers.output()[..amount])?;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        let amount = io::Read::read(&mut self.stream, self.buffers.input_append_buf())?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}
