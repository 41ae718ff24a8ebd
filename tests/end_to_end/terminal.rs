//! Long work on a terminal and without one: a bar or lines with counts and a pace, and Ctrl-C, which ends it in order.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use messenger_bridge::store::seal::{KeyFile, Seal};
use messenger_bridge::store::{Store, sled::SledBackend};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use super::bridge::{program, run_program};
use super::ground::{self, Port};

/// Records of the store that is long work.
const RECORDS: u32 = 30_000;
/// What shells give for Ctrl-C, and the documented exit code.
const CANCELLED: Option<i32> = Some(130);

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A folder with a configuration for this homeserver, and its registration.
fn configured(homeserver: u16) -> PathBuf {
    let (folder, port) = (ground::folder("terminal"), Port::reserve());
    let config = json!({
        "homeserver": {"address": format!("http://127.0.0.1:{homeserver}"), "domain": "hs.test"},
        "appservice": {"listen": format!("127.0.0.1:{port}"), "address": format!("http://127.0.0.1:{port}")},
        "permissions": {"hs.test": "user"},
        "networks": {"xmpp": {"profile": "xmpp"}},
    });
    // JSON is YAML.
    fs::write(folder.join("config.yaml"), config.to_string()).expect("write the config");
    assert!(run_program(&folder, &["generate-registration"]).status.success());
    folder
}

fn fill_store(folder: &Path) {
    let key = KeyFile::load_or_create(&folder.join("data.key"), [7; 32]).expect("a key");
    let backend = SledBackend::open(&folder.join("data"), [3; 16]).expect("a store");
    let mut store = Store::open(Box::new(backend), Seal::new(&key), 42).expect("its tables");
    for number in 0..RECORDS {
        let owner = ruma::UserId::parse(format!("@person-{number:06}:hs.test")).expect("a user");
        store.put_followed(&owner, &format!("s{number}_{}", "0".repeat(200))).expect("a row");
    }
    store.commit().expect("a commit");
}

fn store_command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = program();
    command.arg("store").args(arguments).current_dir(folder).stdin(Stdio::null());
    command
}

fn run(mut command: Command) -> Output {
    command.output().expect("start the program")
}

/// The same command line on a terminal; Ctrl-C is pressed when it has written `interrupt`.
fn on_terminal(command: &Command, folder: &Path, interrupt: Option<&str>) -> Output {
    let mut terminal = Command::new("python3");
    terminal.arg(ground::repository("tests/end_to_end/clients/terminal.py"));
    if let Some(interrupt) = interrupt {
        terminal.args(["--interrupt", interrupt]);
    }
    terminal.arg("--").arg(command.get_program()).args(command.get_args()).current_dir(folder);
    run(terminal)
}

/// A program without a terminal, and the lines that it writes to stderr.
struct Lines {
    child: Child,
    lines: BufReader<std::process::ChildStderr>,
}

impl Lines {
    fn of(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start the program");
        let lines = BufReader::new(child.stderr.take().expect("piped"));
        Self { child, lines }
    }

    fn expect(&mut self, part: &str) -> String {
        let mut seen = String::new();
        loop {
            let mut line = String::new();
            assert!(self.lines.read_line(&mut line).expect("read its lines") > 0, "no {part:?} in {seen}");
            if line.contains(part) {
                return line;
            }
            seen.push_str(&line);
        }
    }

    fn interrupt(&self) {
        let sent = Command::new("kill").args(["-s", "INT", &self.child.id().to_string()]).status();
        assert!(sent.expect("send a signal").success());
    }

    fn end(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).expect("read its lines");
        (self.child.wait().expect("its end").code(), rest)
    }
}

#[test]
fn the_stores_commands_show_how_far_they_are_and_ctrl_c_ends_them_in_order() {
    let folder = configured(1);
    fill_store(&folder);
    let export = || store_command(&folder, &["export", "all.jsonl"]);
    let names = || {
        let entries = fs::read_dir(&folder).expect("the folder").flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect::<Vec<_>>()
    };
    let before = names().len();

    // Without a terminal: lines, and no half of an export under any name.
    let mut lines = Lines::of(export());
    lines.expect(" records");
    lines.interrupt();
    let (code, rest) = lines.end();
    assert_eq!(code, CANCELLED, "{rest}");
    assert!(rest.contains("Cancelled. Nothing was exported: there is no all.jsonl."), "{rest}");
    assert_eq!(names().len(), before, "{:?}", names());

    // On a terminal: a bar, and the same.
    let cancelled = on_terminal(&export(), &folder, Some(" records"));
    assert_eq!(cancelled.status.code(), CANCELLED, "{}", text(&cancelled));
    assert!(text(&cancelled).contains("Nothing was exported"), "{}", text(&cancelled));
    assert_eq!(names().len(), before, "{:?}", names());

    let exported = on_terminal(&export(), &folder, None);
    assert!(exported.status.success(), "{}", text(&exported));
    for part in ["[", "%", " of 30,0", " records", "exported to all.jsonl"] {
        assert!(text(&exported).contains(part), "{part}: {}", text(&exported));
    }
    // Nothing is written over.
    let again = run(export());
    assert_eq!(again.status.code(), Some(27), "{}", text(&again));

    let verify = store_command(&folder, &["verify"]);
    let cancelled = on_terminal(&verify, &folder, Some(" records"));
    assert_eq!(cancelled.status.code(), CANCELLED, "{}", text(&cancelled));
    assert!(text(&cancelled).contains("0 of them damaged; nothing was changed"), "{}", text(&cancelled));
    let verified = run(store_command(&folder, &["verify"]));
    assert!(verified.status.success(), "{}", text(&verified));
    let progress = String::from_utf8_lossy(&verified.stderr).into_owned();
    assert!(progress.lines().count() >= 1 && progress.lines().all(|line| line.contains(" records")), "{progress}");

    // The import reads from a pipe whose writer stops in the middle.
    fs::rename(folder.join("data"), folder.join("data.old")).expect("move the store aside");
    let whole = fs::read(folder.join("all.jsonl")).expect("the export");
    let pipe = folder.join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("make a pipe").success());
    let mut lines = Lines::of(store_command(&folder, &["import", "pipe"]));
    let mut writer = File::options().write(true).open(&pipe).expect("open the pipe");
    let half = whole.len() / 2;
    writer.write_all(&whole[..half]).expect("write the first half");
    lines.expect(" of 30,0");
    lines.interrupt();
    // It ends as soon as it reads on: nobody reads the rest.
    let rest = thread::spawn(move || writer.write_all(&whole[half..]));
    let (code, said) = lines.end();
    assert_eq!(code, CANCELLED, "{said}");
    assert!(said.contains("Nothing was imported"), "{said}");
    assert!(rest.join().expect("the writer").is_err(), "it read all of it");

    let imported = on_terminal(&store_command(&folder, &["import", "all.jsonl"]), &folder, None);
    assert!(imported.status.success(), "{}", text(&imported));
    assert!(text(&imported).contains(" records imported from all.jsonl"), "{}", text(&imported));
    let [old, new] = ["data.old", "data"].map(|data| {
        let backend = SledBackend::open_existing(&folder.join(data)).expect("a store");
        messenger_bridge::store::Backend::scan(&backend, b"A", None, usize::MAX).expect("its records")
    });
    assert_eq!((old.len(), old == new), (RECORDS as usize, true));
}

/// A homeserver whose bot is in many rooms. What stands in them it says of so many as there are permits.
async fn answer(State(permits): State<Arc<Semaphore>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let body = match path.rsplit('/').next().unwrap_or_default() {
        "whoami" | "register" => json!({"user_id": "@messengerbot:hs.test"}),
        "joined_rooms" => {
            json!({"joined_rooms": (0..30).map(|room| format!("!room{room}:hs.test")).collect::<Vec<_>>()})
        }
        "state" => {
            permits.acquire().await.expect("never closed").forget();
            // Eight are asked for at once: all of them take long enough for a pace.
            tokio::time::sleep(Duration::from_millis(500)).await;
            json!([])
        }
        _ => json!({}),
    };
    ([("Content-Type", "application/json")], body.to_string()).into_response()
}

#[test]
fn recover_counts_rooms_and_ctrl_c_leaves_the_store_as_it_was() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let port = Port::reserve();
    let folder = configured(port.number());
    let permits = Arc::new(Semaphore::new(10));
    let runtime = Runtime::new().expect("a runtime");
    let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", port.number()))).expect("listen");
    let router = Router::new().fallback(answer).with_state(Arc::clone(&permits));
    runtime.spawn(async move { axum::serve(listener, router).await });

    let recover = || {
        let mut command = program();
        command.arg("recover").current_dir(&folder).stdin(Stdio::null());
        command
    };
    let mut lines = Lines::of(recover());
    lines.expect(" of 30 rooms");
    lines.interrupt();
    let (code, rest) = lines.end();
    assert_eq!(code, CANCELLED, "{rest}");
    assert!(rest.contains("of 30 rooms were looked at, and nothing was written"), "{rest}");

    permits.add_permits(10);
    let cancelled = on_terminal(&recover(), &folder, Some(" of 30 rooms"));
    assert_eq!(cancelled.status.code(), CANCELLED, "{}", text(&cancelled));
    assert!(text(&cancelled).contains("nothing was written"), "{}", text(&cancelled));

    permits.add_permits(100);
    let recovered = on_terminal(&recover(), &folder, None);
    assert!(recovered.status.success(), "{}", text(&recovered));
    for part in ["30 of 30 rooms, about ", " per second", "30 other rooms left alone", "No chats were found"] {
        assert!(text(&recovered).contains(part), "{part}: {}", text(&recovered));
    }
}
