//! The test's end of `driver.py`: commands with answers, and a log of events that can be awaited.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{ChildStdin, ChildStdout, Command};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use serde_json::{Map, Value, json};

use crate::end_to_end::certificates::Authority;
use crate::end_to_end::ground;
use crate::end_to_end::process::Process;

/// A place in the log of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(usize);

impl Mark {
    /// Before everything.
    pub const START: Self = Self(0);
}

/// A driver process and what it told.
#[derive(Debug)]
pub struct Driver {
    name: String,
    log: Arc<Log>,
    stdin: Mutex<ChildStdin>,
    next: AtomicU64,
    process: Process,
}

#[derive(Debug, Default)]
struct Log {
    told: Mutex<Told>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct Told {
    events: Vec<Value>,
    /// Answers that nobody took yet, by the id of their command.
    answers: Map<String, Value>,
    ended: bool,
}

impl Driver {
    /// Starts `tests/end_to_end/clients/<script>`; `name` is for messages.
    pub fn start(name: &str, script: &str) -> Self {
        let mut command = Command::new(ground::repository(".tools/venv/bin/python"));
        command.arg("-u").arg(ground::repository("tests/end_to_end/clients").join(script));
        // Clients fetch files from servers whose certificates are by the tests' authority.
        command.env("SSL_CERT_FILE", Authority::trusted().file());
        Self::run(name, command)
    }

    /// Starts any program that is told and tells as `driver.py` says.
    pub fn run(name: &str, command: Command) -> Self {
        let folder = ground::folder(name);
        let (process, stdin, stdout) = Process::start_piped(name, command, &folder.join("errors.log"));
        let log = Arc::new(Log::default());
        let reader = Arc::clone(&log);
        thread::spawn(move || reader.fill(stdout));
        Self { name: name.to_owned(), log, stdin: Mutex::new(stdin), next: AtomicU64::new(1), process }
    }

    /// Runs a command and returns its result; panics if the client says that it failed.
    pub fn call(&self, command: &str, arguments: Value) -> Value {
        self.try_call(command, arguments).unwrap_or_else(|error| panic!("{}: {command}: {error}", self.name))
    }

    /// Runs a command; `Err` is what the client says against it.
    pub fn try_call(&self, command: &str, arguments: Value) -> Result<Value, String> {
        let id = self.tell(command, arguments);
        let key = id.to_string();
        let answer = self.until(|told| told.answers.remove(&key));
        let answer = answer.unwrap_or_else(|why| panic!("{}: {command}: {why}\n{}", self.name, self.context()));
        match answer.get("error") {
            Some(error) => Err(error.as_str().unwrap_or_default().to_owned()),
            None => Ok(answer["ok"].clone()),
        }
    }

    /// Sends a command whose answer is not awaited.
    pub fn tell(&self, command: &str, mut arguments: Value) -> u64 {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        arguments["id"] = json!(id);
        arguments["do"] = json!(command);
        let mut stdin = self.stdin.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(stdin, "{arguments}").unwrap_or_else(|error| {
            panic!("{}: {error}; it said:\n{}", self.name, self.process.log_tail());
        });
        id
    }

    /// The first event that `wanted` accepts, from the beginning of the log on; awaited until the deadline. Panics with
    /// the last events when it does not come; `what` says what was wanted.
    pub fn expect(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.expect_since(Mark::START, what, wanted)
    }

    /// The same for events after `mark`.
    pub fn expect_since(&self, mark: Mark, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.until(|told| told.events[mark.0..].iter().find(|event| wanted(event)).cloned())
            .unwrap_or_else(|why| panic!("{}: {what}: {why}\n{}", self.name, self.context()))
    }

    /// Awaits `count` events that `wanted` accepts and returns all that are there by then, in order.
    pub fn expect_count(&self, count: usize, what: &str, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut seen = 0;
        self.until(|told| {
            let found: Vec<Value> = told.events.iter().filter(|event| wanted(event)).cloned().collect();
            seen = found.len();
            (seen >= count).then_some(found)
        })
        .unwrap_or_else(|why| panic!("{}: {what}: {seen} of {count} came, {why}\n{}", self.name, self.context()))
    }

    /// Everything so far that `wanted` accepts.
    pub fn events(&self, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        self.events_since(Mark::START, wanted)
    }

    /// The same for events after `mark`.
    pub fn events_since(&self, mark: Mark, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        self.log.lock().events[mark.0..].iter().filter(|event| wanted(event)).cloned().collect()
    }

    /// The present end of the log.
    pub fn mark(&self) -> Mark {
        Mark(self.log.lock().events.len())
    }

    /// Waits until `look` finds something in what was told. The deadline counts from the last news, at most ten
    /// times: a slow stream of events is alive.
    fn until<T>(&self, mut look: impl FnMut(&mut Told) -> Option<T>) -> Result<T, String> {
        let began = Instant::now();
        let mut last_news = began;
        let mut told = self.log.lock();
        loop {
            if let Some(found) = look(&mut told) {
                return Ok(found);
            }
            if told.ended {
                return Err("the client has ended".to_owned());
            }
            let left = ground::deadline().saturating_sub(last_news.elapsed());
            if left.is_zero() || began.elapsed() > ground::deadline() * 10 {
                return Err(format!("nothing of the kind within {} s", began.elapsed().as_secs()));
            }
            let count = told.events.len();
            told = self.log.news.wait_timeout(told, left).unwrap_or_else(PoisonError::into_inner).0;
            if told.events.len() > count {
                last_news = Instant::now();
            }
        }
    }

    fn context(&self) -> String {
        let events = self.events(|_| true);
        let last: Vec<String> =
            events[events.len().saturating_sub(25)..].iter().map(|event| shorten(&event.to_string(), 600)).collect();
        format!(
            "its last events:\n{}\nits errors:\n{}\neverybody's logs: {}",
            last.join("\n"),
            self.process.log_tail(),
            ground::run_folder().display()
        )
    }
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fill(&self, stdout: ChildStdout) {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let Ok(value) = serde_json::from_str::<Value>(&line) else { continue };
            let mut told = self.lock();
            match value["answer"].as_u64() {
                Some(id) => drop(told.answers.insert(id.to_string(), value)),
                None => told.events.push(value),
            }
            self.news.notify_all();
        }
        self.lock().ended = true;
        self.news.notify_all();
    }
}

fn shorten(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
