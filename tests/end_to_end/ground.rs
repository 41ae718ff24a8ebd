//! The ground that instances stand on: where their files lie, which ports are theirs, how long one waits.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What any one thing awaited may take on a quiet machine; see [`deadline`].
const PATIENCE: Duration = Duration::from_secs(30);

/// The deadline of every wait: one constant times `E2E_PATIENCE` (a number, default 1).
pub fn deadline() -> Duration {
    static FACTOR: OnceLock<f64> = OnceLock::new();
    let factor = FACTOR.get_or_init(|| match std::env::var("E2E_PATIENCE") {
        Ok(text) => text.parse().expect("E2E_PATIENCE is a number"),
        Err(_) => 1.0,
    });
    PATIENCE.mul_f64(*factor)
}

/// Asks `ready` every 20 ms until it says yes; false once the deadline has passed. Only for what cannot be awaited as
/// an event: a port that opens, a process that ends.
pub fn poll(mut ready: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + deadline();
    loop {
        if ready() {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// A file of this repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The folder of this run, one per test process. It stays for reading after a failure; the next run removes it.
pub fn run_folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let wanted = repository("target/end_to_end");
        fs::create_dir_all(&wanted).expect("create target/end_to_end");
        // Servers that give up root must be able to walk down to their files.
        let walkable =
            wanted.ancestors().all(|folder| folder.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o001 != 0));
        let base = if is_root() && !walkable { std::env::temp_dir().join("messenger-bridge-e2e") } else { wanted };
        fs::create_dir_all(&base).expect("create the folder of the runs");
        for old in fs::read_dir(&base).expect("list the folder of the runs").flatten() {
            let owner = old.file_name().to_string_lossy().into_owned();
            if !Path::new("/proc").join(owner).exists() {
                let _ = fs::remove_dir_all(old.path());
            }
        }
        let folder = base.join(process::id().to_string());
        fs::create_dir_all(&folder).expect("create the folder of this run");
        folder
    })
}

/// A new, empty folder of this run whose name begins with `name`.
pub fn folder(name: &str) -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(1);
    let folder = run_folder().join(format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
    fs::create_dir(&folder).expect("create an instance's folder");
    folder
}

/// Whether this process may change to other users.
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    Path::new("/proc/self").metadata().is_ok_and(|meta| meta.uid() == 0)
}

/// A TCP port of 127.0.0.1 that is ours as long as this value lives.
///
/// Ports lie below 32768, where the system takes no source ports for outgoing connections. A lock on a file named after
/// the port keeps other test processes away from it, even before somebody listens there.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;

    /// Reserves a port that nobody listens on.
    pub fn reserve() -> Self {
        static NEXT: OnceLock<AtomicU16> = OnceLock::new();
        let next = NEXT.get_or_init(|| {
            AtomicU16::new(u16::try_from(process::id().wrapping_mul(97) % u32::from(Self::COUNT)).unwrap_or(0))
        });
        let locks = std::env::temp_dir().join("messenger-bridge-ports");
        fs::create_dir_all(&locks).expect("create the folder of port locks");
        let _ = fs::set_permissions(&locks, fs::Permissions::from_mode(0o777));
        for _ in 0..Self::COUNT {
            let number = Self::FIRST + next.fetch_add(1, Ordering::Relaxed) % Self::COUNT;
            let Ok(lock) = File::create(locks.join(number.to_string())) else { continue };
            if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", number)).is_ok() {
                return Self { number, _lock: lock };
            }
        }
        panic!("no free port");
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }
}

impl std::fmt::Display for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.number.fmt(f)
    }
}
