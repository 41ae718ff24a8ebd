//! Throw-away certificates: one authority per run that the bridge and the clients are told to trust, and another that
//! nobody trusts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::{ground, process};

/// A certificate authority.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
}

/// A server's certificate with its chain, and its key; both PEM and readable by everybody.
#[derive(Debug, Clone)]
pub struct Certificate {
    pub chain: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    /// The one that is trusted throughout a run.
    pub fn trusted() -> &'static Self {
        static TRUSTED: OnceLock<Authority> = OnceLock::new();
        TRUSTED.get_or_init(|| Self::create("authority"))
    }

    /// A new one that nobody trusts.
    pub fn untrusted() -> Self {
        Self::create("untrusted-authority")
    }

    fn create(name: &str) -> Self {
        let folder = ground::folder(name);
        openssl(
            &folder,
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -keyout ca.key -out ca.crt \
             -subj /CN=Test-authority -addext basicConstraints=critical,CA:TRUE \
             -addext keyUsage=critical,keyCertSign,cRLSign",
        );
        Self { folder }
    }

    /// Its own certificate: what a client is given as `ca_file`.
    pub fn file(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// Writes a certificate for `domain`, what is below it, and `localhost` into `folder`.
    pub fn issue(&self, domain: &str, folder: &Path) -> Certificate {
        let extensions = format!(
            "subjectAltName=DNS:{domain},DNS:*.{domain},DNS:localhost\nextendedKeyUsage=serverAuth\nbasicConstraints=critical,CA:FALSE\n"
        );
        fs::write(folder.join("leaf.ext"), extensions).expect("write the extensions");
        openssl(
            folder,
            &format!(
                "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout server.key -out leaf.csr \
                 -subj /CN={domain}"
            ),
        );
        let authority = self.folder.display();
        openssl(
            folder,
            &format!(
                "x509 -req -in leaf.csr -CA {authority}/ca.crt -CAkey {authority}/ca.key -set_serial 0x{} -days 3650 \
                 -out leaf.crt -extfile leaf.ext",
                serial()
            ),
        );
        let leaf = fs::read_to_string(folder.join("leaf.crt")).expect("read the certificate");
        let authority = fs::read_to_string(self.file()).expect("read the authority's certificate");
        let (chain, key) = (folder.join("server.crt"), folder.join("server.key"));
        fs::write(&chain, leaf + &authority).expect("write the chain");
        process::run(Command::new("chmod").arg("644").arg(&key));
        Certificate { chain, key }
    }
}

fn serial() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("{:016x}", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn openssl(folder: &Path, arguments: &str) {
    process::run(Command::new("openssl").args(arguments.split_ascii_whitespace()).current_dir(folder));
}
