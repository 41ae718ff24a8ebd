//! Certificates: whether they are good, and how long they still are.

use std::{
    io::Write,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{net::TcpStream, time::timeout};
use url::Url;

use super::report::Report;
use crate::{
    domain::stream::StreamEnd,
    xmpp::tls::{Tls, TlsSettings},
};

/// Who has not renewed a certificate by then has forgotten it: those that renew themselves do so weeks before.
const DAYS_BEFORE: i64 = 14;
const DAY: i64 = 24 * 60 * 60;
/// How long connecting, and TLS, may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The certificate of one place.
pub struct Shown<'a> {
    /// Whose it is, for a person.
    pub host: &'a str,
    /// In DER.
    pub certificate: &'a [u8],
}

/// Tells how long a certificate that was accepted is still good. `remedy`: what to do when that is not long.
pub fn lasts<W: Write>(report: &mut Report<W>, shown: &Shown<'_>, remedy: &str) {
    let host = shown.host;
    let Some((end, date)) = end(shown.certificate) else {
        report.skip("certificate", format!("{host}: its dates cannot be read."));
        return;
    };
    let left = (end - now()).div_euclid(DAY);
    if left < DAYS_BEFORE {
        let days = if left == 1 { "1 day".to_owned() } else { format!("{left} days") };
        report.warn("certificate", format!("{host}: its certificate ends in {days}, on {date}."), remedy);
    } else {
        report.ok("certificate", format!("{host}: good until {date}."));
    }
}

/// When a certificate ends: in seconds since 1970, and as a date.
fn end(certificate: &[u8]) -> Option<(i64, String)> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let end = certificate.validity().not_after;
    Some((end.timestamp(), end.to_datetime().date().to_string()))
}

/// This machine's clock, in seconds since 1970.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// What to do about a certificate that was refused, by the words of [`StreamEnd::Certificate`]. `key`: where the configuration says
/// how it is checked, if anywhere.
pub fn remedy(host: &str, detail: &str, key: Option<&str>) -> String {
    if detail.contains("expired") {
        return format!("Renew the certificate on the server of {host}.");
    }
    if detail.contains("not valid yet") {
        return "Set the clock of this machine right.".to_owned();
    }
    let other_name = ["another name", "it is for ", "carries no name", "none for this name"];
    match (key, other_name.iter().any(|words| detail.contains(words))) {
        (Some(key), true) => format!(
            "Let the server of {host} show a certificate for {host}, or set {key}.tls.accept_name in config.yaml to the name that it \
             shows."
        ),
        (Some(key), false) => {
            format!("Set {key}.tls.ca_file in config.yaml to the PEM file of the authority that issued it.")
        }
        (None, true) => format!("Let the server of {host} show a certificate for {host}."),
        (None, false) => {
            format!("Let the server of {host} show a certificate of an authority that this machine trusts.")
        }
    }
}

/// The certificate of a web server, if the address has one, as it is trusted here. `outside`: others reach it, perhaps this
/// machine does not. Gives whether it can be spoken with.
pub async fn web(report: &mut Report<impl Write>, key: &str, url: &Url, outside: bool) -> bool {
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else { return true };
    if url.scheme() != "https" {
        return true;
    }
    let what = format!("{host}:{port} ({key})");
    match fetch(host.trim_matches(['[', ']']), port).await {
        Ok(certificate) => {
            let shown = Shown { host: &what, certificate: &certificate };
            lasts(report, &shown, &format!("Renew the certificate of the server that {key} in config.yaml names."));
            return true;
        }
        Err(StreamEnd::Certificate { detail, .. }) => {
            report.fail("certificate", format!("{what}: it cannot be trusted: {detail}."), remedy(host, &detail, None));
        }
        // From outside it may be reached all the same.
        Err(_) if outside => {
            report.skip("certificate", format!("{what}: it is not reached from this machine."));
        }
        // Whoever asks it for more will say so.
        Err(_) => return true,
    }
    false
}

async fn fetch(host: &str, port: u16) -> Result<Vec<u8>, StreamEnd> {
    let unreachable = |detail: String| StreamEnd::Unreachable { host: format!("{host}:{port}"), detail };
    let late = |_| unreachable("it did not answer in time".to_owned());
    let connecting = timeout(PATIENCE, TcpStream::connect((host, port)));
    let io = connecting.await.map_err(late)?.map_err(|error| unreachable(error.to_string()))?;
    let tls = Tls::new();
    let settings = TlsSettings::default();
    let secured = timeout(PATIENCE, tls.connect(io, host, &settings, false)).await.map_err(late)??;
    let shown = secured.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    Ok(shown.map(|certificate| certificate.to_vec()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(days: i64) -> String {
        let ends = time::OffsetDateTime::from_unix_timestamp(now() + days * DAY + DAY / 2).unwrap();
        let mut params = rcgen::CertificateParams::new(["a.test".to_owned()]).unwrap();
        params.not_after = ends;
        let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let mut out = Vec::new();
        let mut report = Report::new(&mut out, false);
        lasts(&mut report, &Shown { host: "a.test", certificate: certificate.der() }, "Renew it.");
        let date = ends.date();
        String::from_utf8(out).unwrap().replace(&date.to_string(), "DATE")
    }

    #[test]
    fn two_weeks_before_its_end_a_certificate_is_warned_of() {
        assert_eq!(lines(14), "ok    certificate: a.test: good until DATE.\n");
        assert_eq!(
            lines(13),
            "warn  certificate: a.test: its certificate ends in 13 days, on DATE.\n      = Renew it.\n"
        );
        assert_eq!(lines(1), "warn  certificate: a.test: its certificate ends in 1 day, on DATE.\n      = Renew it.\n");
        assert_eq!(end(b"nonsense"), None);
    }

    #[test]
    fn each_fault_of_a_certificate_has_its_remedy() {
        for (detail, key, says) in [
            ("it has expired", Some("k"), "Renew"),
            ("it is not valid yet", Some("k"), "clock"),
            ("it is for b.test", Some("k"), "k.tls.accept_name"),
            ("the server there has none for this name", None, "certificate for a.test"),
            ("its issuer is not known here", Some("k"), "k.tls.ca_file"),
            ("it is self-signed", None, "authority"),
        ] {
            let remedy = remedy("a.test", detail, key);
            assert!(remedy.contains(says), "{detail}: {remedy}");
        }
    }
}
