//! The networks: where DNS says that their servers are, whether these answer, and how long their certificates last.

use std::io::Write;

use super::{
    certificate::{self, Shown},
    report::Report,
};
use crate::{
    app::settings,
    config::{Config, Network},
    domain::stream::StreamEnd,
    xmpp::{Probed, Xmpp, connect::Found},
};

/// Tries every domain that the configuration names.
pub async fn check<W: Write>(report: &mut Report<W>, config: &Config) {
    let xmpp = Xmpp::new(settings::networks(config));
    for (name, network) in &config.networks {
        let probed = xmpp.probe(name).await;
        if probed.is_empty() {
            report.ok(&format!("network {name}"), "logins bring their own domains: nothing to try.");
        }
        for probed in probed {
            // Where the configuration says how the domain is reached.
            let key = match network {
                Network::Messenger(_) => format!("networks.{name}"),
                Network::Xmpp(_) => format!("networks.{name}.domains.\"{}\"", probed.domain),
            };
            tell(report, name, &key, &probed);
        }
    }
}

fn tell<W: Write>(report: &mut Report<W>, network: &str, key: &str, probed: &Probed) {
    let domain = &probed.domain;
    place(report, key, probed);
    let what = format!("network {network}");
    match &probed.reached {
        Ok(reached) => {
            report.ok(&what, format!("{domain}: {}.", reached.line));
            let shown = Shown { host: domain, certificate: &reached.certificate };
            certificate::lasts(report, &shown, &format!("Renew the certificate on the server of {domain}."));
        }
        Err(StreamEnd::Certificate { detail, .. }) => {
            let finding = format!("{domain}: its certificate cannot be trusted: {detail}.");
            report.fail("certificate", finding, certificate::remedy(domain, detail, Some(key)));
            report.skip(&what, format!("{domain}: without a certificate that can be trusted nothing is said to it."));
        }
        Err(_) if probed.found == Found::NotHere => {
            report.skip(&what, format!("{domain}: DNS names no server to try."));
        }
        Err(end) => report.fail(&what, format!("{domain}: {end}."), remedy(key, probed, end)),
    }
}

/// What DNS says.
fn place<W: Write>(report: &mut Report<W>, key: &str, probed: &Probed) {
    let Probed { domain, found, targets, .. } = probed;
    let used = targets.first().map(ToString::to_string).unwrap_or_default();
    match found {
        Found::Configured | Found::NotAsked => {}
        Found::Records => {
            let places: Vec<String> = targets.iter().map(ToString::to_string).collect();
            report.ok("dns", format!("{domain}: its SRV records name {}.", places.join(", ")));
        }
        Found::NoRecords => report.warn(
            "dns",
            format!("{domain}: DNS has no SRV record _xmpp-client._tcp.{domain}, so {used} is used."),
            format!("Set {key}.address in config.yaml to the server's host:port, or let DNS have the record."),
        ),
        Found::NoAnswer => report.fail(
            "dns",
            format!("{domain}: DNS does not answer when asked for its SRV records, so {used} is used."),
            "Set a name server that answers in this machine's /etc/resolv.conf.",
        ),
        Found::NotHere => report.fail(
            "dns",
            format!("{domain}: its SRV record names \".\", which says that it has no XMPP service."),
            format!("Set {key}.address in config.yaml to the server's host:port, or remove the domain."),
        ),
    }
}

/// What to do about a domain that does not answer as it should.
fn remedy(key: &str, probed: &Probed, end: &StreamEnd) -> String {
    let used = probed.targets.first().map(ToString::to_string).unwrap_or_default();
    match end {
        StreamEnd::UnknownHost { .. } => {
            format!("Set {key}.address in config.yaml to the server's host:port, or correct the domain's name.")
        }
        StreamEnd::Unreachable { .. } => {
            format!("Set {key}.address in config.yaml to where the server listens for clients, and start it.")
        }
        StreamEnd::NotXmpp { .. } => {
            format!("Set {key}.address in config.yaml to the port at which the server listens for XMPP clients.")
        }
        StreamEnd::Tls { .. } => {
            format!("Set {key}.tls.mode in config.yaml to what the server speaks at {used}: starttls or direct.")
        }
        StreamEnd::TimedOut { .. } => format!("Open the way from this machine to {used} in the firewall between."),
        _ => format!("Look for the cause in the log of the server of {}.", probed.domain),
    }
}
