//! TLS: one configuration per set of trusted roots and accepted name, shared by all streams of the process.
//!
//! The name that is checked is the service's domain, also after a redirect: whoever can redirect us must not be able to
//! choose whom we trust (RFC 6120 section 13.7.1.2). The operator may name one more.

use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::domain::stream::StreamEnd;

/// How TLS is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// What the SRV records say; with a fixed address STARTTLS.
    #[default]
    Auto,
    /// STARTTLS (RFC 6120 section 5), which the server must offer.
    StartTls,
    /// TLS from the first byte (XEP-0368).
    Direct,
}

/// TLS of a network, or of one domain of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// How TLS is reached.
    pub mode: TlsMode,
    /// Further roots (PEM) beside the system's.
    pub ca_file: Option<PathBuf>,
    /// A further name that the certificate may carry.
    pub accept_name: Option<String>,
}

/// A file of roots cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the ca_file {path} cannot be used: {detail}")]
pub struct CaFileError {
    path: String,
    detail: String,
}

type Configs = HashMap<(Option<PathBuf>, Option<String>), (Arc<ClientConfig>, Arc<ClientConfig>)>;

/// The shared configurations. One entry for each pair of `ca_file` and `accept_name` in the configuration file.
pub struct Tls {
    system: Vec<CertificateDer<'static>>,
    configs: Mutex<Configs>,
}

impl Default for Tls {
    fn default() -> Self {
        Self::new()
    }
}

impl Tls {
    /// Reads the system's roots. Having none is no error here: a `ca_file` may be all that is wanted.
    pub fn new() -> Self {
        let found = rustls_native_certs::load_native_certs();
        if found.certs.is_empty() {
            tracing::warn!("the system has no root certificates: only servers under a ca_file can be trusted");
        }
        Self { system: found.certs, configs: Mutex::default() }
    }

    /// The configuration for these settings: (STARTTLS, direct TLS with the protocol name of XEP-0368).
    fn config(&self, settings: &TlsSettings) -> Result<(Arc<ClientConfig>, Arc<ClientConfig>), CaFileError> {
        let key = (settings.ca_file.clone(), settings.accept_name.clone());
        let mut configs = self.configs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = configs.get(&key) {
            return Ok(found.clone());
        }
        let plain = self.http_config(settings)?;
        let mut direct = plain.clone();
        direct.alpn_protocols = vec![b"xmpp-client".to_vec()];
        let pair = (Arc::new(plain), Arc::new(direct));
        configs.insert(key, pair.clone());
        Ok(pair)
    }

    /// A configuration of its own with the same trust, for a network's HTTP endpoints.
    pub fn http_config(&self, settings: &TlsSettings) -> Result<ClientConfig, CaFileError> {
        let failed = |detail: String| CaFileError {
            path: settings.ca_file.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
            detail,
        };
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(self.system.iter().cloned());
        if let Some(path) = &settings.ca_file {
            let certificates = CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|error| failed(error.to_string()))?;
            let (added, _) = roots.add_parsable_certificates(certificates);
            if added == 0 {
                return Err(failed("it holds no certificate".to_owned()));
            }
        }
        let provider = Arc::new(ring::default_provider());
        let verifier = Verifier {
            inner: if roots.is_empty() {
                None
            } else {
                let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
                Some(builder.build().map_err(|error| failed(error.to_string()))?)
            },
            accept: settings.accept_name.as_ref().and_then(|name| ServerName::try_from(name.clone()).ok()),
            provider: provider.clone(),
        };
        Ok(ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth())
    }

    /// Does the handshake. `domain` is the service's domain: named to the server, and looked for in the certificate.
    pub async fn connect(
        &self,
        io: TcpStream,
        domain: &str,
        settings: &TlsSettings,
        direct: bool,
    ) -> Result<TlsStream<TcpStream>, StreamEnd> {
        self.handshake(io, domain, settings, direct).await
    }

    async fn handshake<IO: AsyncRead + AsyncWrite + Unpin>(
        &self,
        io: IO,
        domain: &str,
        settings: &TlsSettings,
        direct: bool,
    ) -> Result<TlsStream<IO>, StreamEnd> {
        let failed = |detail: String| StreamEnd::Tls { host: domain.to_owned(), detail };
        let (starttls, xmpps) = self.config(settings).map_err(|error| failed(error.to_string()))?;
        let name = super::connect::ascii(domain)
            .and_then(|name| ServerName::try_from(name).ok())
            .ok_or_else(|| failed("its name cannot stand in a certificate".to_owned()))?;
        let connector = TlsConnector::from(if direct { xmpps } else { starttls });
        connector.connect(name, io).await.map_err(|error| end_of_handshake(domain, &error))
    }
}

fn end_of_handshake(domain: &str, error: &io::Error) -> StreamEnd {
    let host = domain.to_owned();
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(problem)) => {
            StreamEnd::Certificate { host, detail: certificate_words(problem) }
        }
        Some(rustls::Error::InvalidMessage(_)) => {
            StreamEnd::Tls { host, detail: "what answered does not speak TLS".to_owned() }
        }
        Some(other) => StreamEnd::Tls { host, detail: other.to_string() },
        None => StreamEnd::Tls { host, detail: format!("the handshake failed: {error}") },
    }
}

/// A certificate error in words for a person.
fn certificate_words(problem: &CertificateError) -> String {
    match problem {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "it is not valid yet".to_owned(),
        CertificateError::NotValidForName => "it is for another name".to_owned(),
        CertificateError::NotValidForNameContext { presented, .. } => {
            let mut names: Vec<_> = presented.iter().take(5).map(|name| readable_name(name)).collect();
            if presented.len() > names.len() {
                names.push("…".to_owned());
            }
            match names.as_slice() {
                [] => "it carries no name".to_owned(),
                names => format!("it is for {}", names.join(", ")),
            }
        }
        CertificateError::UnknownIssuer => "its issuer is not known here".to_owned(),
        CertificateError::BadSignature => "it was not signed by the issuer that it names".to_owned(),
        CertificateError::Revoked => "it was revoked".to_owned(),
        CertificateError::Other(other) if other.0.is::<SelfSigned>() => SelfSigned.to_string(),
        other => format!("{other}"),
    }
}

/// rustls shows names as `DnsName("a.example")`.
fn readable_name(name: &str) -> String {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    inner.trim_matches('"').chars().filter(|c| !c.is_control()).take(255).collect()
}

#[derive(Debug, thiserror::Error)]
#[error("it is self-signed")]
struct SelfSigned;

/// Accepts the name that was asked for, or the one the operator named.
#[derive(Debug)]
struct Verifier {
    inner: Option<Arc<WebPkiServerVerifier>>,
    accept: Option<ServerName<'static>>,
    provider: Arc<CryptoProvider>,
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
        let unknown = || rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let inner = self.inner.as_ref().ok_or_else(unknown)?;
        let check = |name: &ServerName<'_>| {
            inner.verify_server_cert(end_entity, intermediates, name, ocsp_response, now).map_err(|error| match error {
                rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::Other(_))
                    if is_self_signed(end_entity) =>
                {
                    rustls::Error::InvalidCertificate(CertificateError::Other(rustls::OtherError(Arc::new(SelfSigned))))
                }
                other => other,
            })
        };
        let first = check(server_name);
        match (&first, &self.accept) {
            (
                Err(rustls::Error::InvalidCertificate(
                    CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
                )),
                Some(other),
            ) => check(other).or(first),
            _ => first,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Issuer and subject of a certificate (RFC 5280 section 4.1) are the same. Only for the words of a refusal.
fn is_self_signed(certificate: &[u8]) -> bool {
    fn names(certificate: &[u8]) -> Option<(&[u8], &[u8])> {
        let (certificate, _) = content(certificate)?;
        let (mut rest, _) = content(certificate)?;
        if rest.first() == Some(&0xa0) {
            rest = content(rest)?.1; // version
        }
        rest = content(rest)?.1; // serialNumber
        rest = content(rest)?.1; // signature
        let (issuer, rest) = content(rest)?;
        let (_validity, rest) = content(rest)?;
        Some((issuer, content(rest)?.0))
    }
    names(certificate).is_some_and(|(issuer, subject)| issuer == subject)
}

/// The content of the first DER value, and what follows the value.
fn content(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = usize::from(*der.get(1)?);
    let (start, length) = if length < 0x80 {
        (2, length)
    } else {
        let bytes = der.get(2..2 + (length & 0x7f))?;
        if bytes.len() > 4 {
            return None;
        }
        (2 + bytes.len(), bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
    };
    let end = start.checked_add(length)?;
    Some((der.get(start..end)?, der.get(end..)?))
}
