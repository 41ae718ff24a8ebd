//! Child processes that never outlive the tests.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Mutex, OnceLock};

use super::ground;

/// A child that leads a process group of its own. Dropping it kills the whole group; so does [`Leash`] when the test
/// process ends in whatever way.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with both outputs appended to `log`.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Self {
        command.stdin(Stdio::null()).stdout(append_to(log));
        Self::spawn(name, command, log)
    }

    /// Starts `command` with its standard input and output piped, and its errors appended to `log`.
    pub fn start_piped(name: &str, mut command: Command, log: &Path) -> (Self, ChildStdin, ChildStdout) {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Self::spawn(name, command, log);
        let stdin = process.child.stdin.take().expect("piped");
        let stdout = process.child.stdout.take().expect("piped");
        (process, stdin, stdout)
    }

    fn spawn(name: &str, mut command: Command, log: &Path) -> Self {
        command.stderr(append_to(log)).process_group(0);
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {name} ({command:?}): {error}"));
        Leash::tell("hold", child.id());
        Self { child, name: name.to_owned(), log: log.to_owned() }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("ask for a child's state")
    }

    /// Awaits its end.
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        let ended = ground::poll(|| {
            status = self.ended();
            status.is_some()
        });
        assert!(ended, "{} does not end; its log:\n{}", self.name, self.log_tail());
        status.expect("just seen")
    }

    /// Sends a signal (`"TERM"`, `"KILL"`) to its whole group.
    pub fn signal(&self, signal: &str) {
        kill_group(signal, self.child.id());
    }

    /// Awaits readiness as `ready` tells it; panics with the log's end if the process ends before, or takes too long.
    pub fn await_ready(&mut self, mut ready: impl FnMut() -> bool) {
        let mut ended = None;
        let done = ground::poll(|| {
            ended = self.ended();
            ended.is_some() || ready()
        });
        if let Some(status) = ended {
            panic!("{} ended at start: {status}; its log {}:\n{}", self.name, self.log.display(), self.log_tail());
        }
        assert!(done, "{} is not ready in time; its log {}:\n{}", self.name, self.log.display(), self.log_tail());
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        tail(&self.log)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal("KILL");
        let _ = self.child.wait();
        Leash::tell("free", self.child.id());
    }
}

/// The last 60 lines of a file.
pub fn tail(file: &Path) -> String {
    let text = String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

/// Runs `command` to its end and returns what it printed; panics unless it succeeds.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{stdout}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    stdout
}

/// A command that runs as `user` with what belongs to it, when this process may change users; else as oneself.
pub fn command_as(user: &str, program: impl AsRef<OsStr>) -> Command {
    if !ground::is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", user, "--regid", user, "--init-groups", "--"]).arg(program);
    command
}

/// Gives `folder` and all in it to `user`, when this process may.
pub fn hand_over(folder: &Path, user: &str) {
    if ground::is_root() {
        run(Command::new("chown").arg("-R").arg(format!("{user}:")).arg(folder));
    }
}

fn append_to(log: &Path) -> File {
    File::options().create(true).append(true).open(log).expect("open a log")
}

fn kill_group(signal: &str, leader: u32) {
    let _ = Command::new("kill")
        .args(["-s", signal, "--", &format!("-{leader}")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

/// One shell beside the test process, told of every process group. Its input ends with the test process, however that
/// ends, and it then kills the groups that are left: also servers shared between tests, which nobody drops.
struct Leash {
    _shell: Child,
    stdin: ChildStdin,
}

impl Leash {
    const SCRIPT: &'static str = r#"
        groups=' '
        while read -r verb group; do
          case $verb in
            hold) groups="$groups$group " ;;
            free) groups="${groups%% "$group" *} ${groups#* "$group" }" ;;
          esac
        done
        for group in $groups; do kill -s KILL -- "-$group"; done
    "#;

    fn tell(verb: &str, group: u32) {
        static LEASH: OnceLock<Mutex<Leash>> = OnceLock::new();
        let leash = LEASH.get_or_init(|| {
            let mut shell = Command::new("sh")
                .args(["-c", Self::SCRIPT])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .process_group(0)
                .spawn()
                .expect("start the shell that ends what is left");
            let stdin = shell.stdin.take().expect("piped");
            Mutex::new(Self { _shell: shell, stdin })
        });
        let mut leash = leash.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        writeln!(leash.stdin, "{verb} {group}").expect("write to the shell that ends what is left");
    }
}
