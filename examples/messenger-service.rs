//! The loopback Messenger service as a program, for the demo and for tests that are not written in Rust.
//!
//! Its first line on standard output is `{"ready":{…}}`. Then it takes JSON lines on standard input, answers each with a
//! JSON line, and writes a line for everything that its scripted contacts receive. It ends with its standard input,
//! unless `--stay` is given. The requests are those of `tests/messenger_service/control.rs`.
use std::io::{BufRead as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use messenger_service::{Certificate, Service, Settings, Switches, cast, control};

#[path = "../tests/messenger_service/mod.rs"]
mod messenger_service;

/// The loopback Messenger service.
#[derive(Debug, Parser)]
struct Flags {
    /// Where clients connect.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Where redirected clients connect; 127.0.0.2:5222 for redirects that name no port.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS")]
    gateway_listen: SocketAddr,
    /// Where the OAuth endpoints listen.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS")]
    http_listen: SocketAddr,
    /// The service's domain.
    #[arg(long, default_value = "messenger.live.com")]
    domain: String,
    /// Where to write ca.pem; an existing folder, by default a new one among the temporary files.
    #[arg(long, value_name = "FOLDER")]
    cert_dir: Option<PathBuf>,
    /// PEM files of a certificate chain, its key, and the root to trust, instead of self-made ones.
    #[arg(long, num_args = 3, value_names = ["CHAIN", "KEY", "CA"])]
    certificate: Option<Vec<PathBuf>>,
    /// The one registered OAuth client; without it any will do.
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// That client's secret.
    #[arg(long, requires = "client_id", value_name = "SECRET")]
    client_secret: Option<String>,
    /// The account to sign in to: e-mail address, name, password.
    #[arg(long, num_args = 3, value_names = ["EMAIL", "NAME", "PASSWORD"],
          default_values = ["me@messenger.example", "Me", "password"])]
    account: Vec<String>,
    /// How many scripted contacts that account has.
    #[arg(long, default_value_t = 0, value_name = "N")]
    contacts: usize,
    /// Go on when standard input ends.
    #[arg(long)]
    stay: bool,
    #[command(flatten)]
    switches: Switches,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let flags = Flags::parse();
    let certificate = match flags.certificate.as_deref() {
        Some([chain, key, ca]) => Certificate::Files { chain: chain.clone(), key: key.clone(), ca: ca.clone() },
        _ => Certificate::SelfMade,
    };
    let service = Service::start(Settings {
        domain: flags.domain,
        xmpp: flags.listen,
        gateway: flags.gateway_listen,
        http: flags.http_listen,
        certificate,
        oauth_client: flags.client_id.map(|id| (id, flags.client_secret)),
        switches: flags.switches,
    })
    .await?;
    // Kept so that a folder made here goes away with the program.
    let temporary = if flags.cert_dir.is_none() { Some(tempfile::tempdir()?) } else { None };
    let folder = flags.cert_dir.as_deref().or_else(|| temporary.as_ref().map(tempfile::TempDir::path));
    let ca = folder.map(|folder| folder.join("ca.pem")).ok_or("no folder for ca.pem")?;
    std::fs::write(&ca, service.ca_pem())?;
    let [email, name, password] = flags.account.as_slice() else { return Err("--account takes three values".into()) };
    let account = service.add_account(email, name, password)?;
    let contacts = cast::contacts(&service, &account.jid, flags.contacts)?;

    let (out, written) = mpsc::channel::<Value>(1024);
    let writer = std::thread::spawn(move || write(written));
    out.send(json!({ "ready": {
        "xmpp": service.xmpp_addr().to_string(),
        "gateway": service.gateway_addr().to_string(),
        "http": service.http_base(),
        "authorize_url": service.authorize_url(),
        "token_url": service.token_url(),
        "desktop_url": service.desktop_url(),
        "ca": ca,
        "account": account,
        "contacts": contacts,
    } }))
    .await?;
    let mut terminated = signal(SignalKind::terminate())?;
    let (lines, read) = mpsc::channel(64);
    let keep = flags.stay.then(|| lines.clone());
    // This thread may wait for a line for ever; the program does not wait for it.
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if lines.blocking_send(line).is_err() {
                return;
            }
        }
    });
    tokio::select! {
        () = control::run(&service, read, out) => {}
        done = tokio::signal::ctrl_c() => done?,
        _ = terminated.recv() => {}
    }
    drop(keep);
    drop(service);
    // The writer ends when its channel is closed and emptied.
    writer.join().map_err(|_| "the writer broke")??;
    Ok(())
}

fn write(mut written: mpsc::Receiver<Value>) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    while let Some(value) = written.blocking_recv() {
        writeln!(stdout, "{value}")?;
        stdout.flush()?;
    }
    Ok(())
}
