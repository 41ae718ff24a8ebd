//! The service's certificates.
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::settings::{Certificate, Settings};
use super::world::ServiceError;

/// The only name in the certificate that mismatches.
pub const MISMATCHED_NAME: &str = "gateway.edge.messenger.live.com";

/// Both certificates, ready to be shown.
pub struct Tls {
    matching: TlsAcceptor,
    mismatched: TlsAcceptor,
    /// The certificate authority, PEM.
    pub ca_pem: String,
}

impl Tls {
    /// Makes or reads the certificates.
    pub fn new(settings: &Settings) -> Result<Self, ServiceError> {
        match &settings.certificate {
            Certificate::SelfMade => Self::self_made(&settings.domain),
            Certificate::Files { chain, key, ca } => {
                let chain =
                    CertificateDer::pem_file_iter(chain).map_err(tls)?.collect::<Result<_, _>>().map_err(tls)?;
                let acceptor = acceptor(chain, PrivateKeyDer::from_pem_file(key).map_err(tls)?)?;
                let ca_pem = std::fs::read_to_string(ca)?;
                Ok(Self { matching: acceptor.clone(), mismatched: acceptor, ca_pem })
            }
        }
    }

    fn self_made(domain: &str) -> Result<Self, ServiceError> {
        let mut params = CertificateParams::new(Vec::<String>::new()).map_err(tls)?;
        params.distinguished_name.push(DnType::CommonName, "Loopback Messenger service, for tests only");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(tls)?;
        let ca_pem = params.self_signed(&key).map_err(tls)?.pem();
        let issuer = Issuer::new(params, key);
        let matching = [domain, &format!("xmpp.{domain}"), "localhost", "127.0.0.1", "127.0.0.2", "::1"];
        Ok(Self { matching: leaf(&issuer, &matching)?, mismatched: leaf(&issuer, &[MISMATCHED_NAME])?, ca_pem })
    }

    /// The acceptor for a connection.
    pub fn acceptor(&self, mismatched: bool) -> TlsAcceptor {
        if mismatched { self.mismatched.clone() } else { self.matching.clone() }
    }
}

fn leaf(issuer: &Issuer<'_, KeyPair>, names: &[&str]) -> Result<TlsAcceptor, ServiceError> {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names.clone()).map_err(tls)?;
    params.distinguished_name.push(DnType::CommonName, names.first().map_or("", String::as_str));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate().map_err(tls)?;
    let certificate = params.signed_by(&key, issuer).map_err(tls)?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(tls)?;
    acceptor(vec![certificate.der().clone()], key)
}

fn acceptor(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<TlsAcceptor, ServiceError> {
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(tls)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(tls)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn tls(why: impl std::fmt::Display) -> ServiceError {
    ServiceError::Tls(why.to_string())
}
