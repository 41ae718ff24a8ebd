//! The engine's thread: takes what waits, has it handled as one batch, commits, and carries the outputs to the shells.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
};
use tracing::{Span, field::Empty};

use super::{
    files::{self, Files},
    logging::Level,
    metrics::{Metrics, process},
    public_media::PublicMedia,
    trace::Messages,
};
use crate::{
    desk::Desk,
    domain::{
        Input, Now, Output, StreamId, Timestamp,
        input::{Cause, Failure, Outcome},
        output::MatrixWork,
        stream::{StreamOrder, StreamReport},
    },
    engine::Engine,
    matrix::{account_data::Followers, appservice::AppService, record::Record, typing},
    provisioning::status::StatusBoard,
    store::StoreError,
    xmpp::{StreamHandle, Xmpp},
};

/// Inputs that may wait for the engine. When it is full the shells wait: the homeserver's requests and the streams stop
/// being read.
pub const MAILBOX: usize = 1024;
/// Inputs that are handled as one batch, and committed together, at most.
const BATCH: usize = 256;
/// Pause before a commit that failed is tried again.
const COMMIT_AGAIN: Duration = Duration::from_secs(1);

/// Pause between two times that the engine's numbers are given out, so that a flood does not pay for them.
const PUBLISH: Duration = Duration::from_millis(250);

/// What the engine's outputs go to.
pub struct Shells {
    /// The runtime that the shells' tasks run on.
    pub runtime: Handle,
    /// The appservice endpoints, whose tickets are answered.
    pub service: Arc<AppService>,
    /// XMPP.
    pub xmpp: Xmpp,
    /// Requests to the homeserver.
    pub work: mpsc::Sender<MatrixWork>,
    /// Rooms as the homeserver has them.
    pub record: Record,
    /// Transfers of files.
    pub files: Arc<Files>,
    /// Those who come with links to files, where there are any.
    pub public: Option<Arc<PublicMedia>>,
    /// The bridge's own doors, whose requests are answered.
    pub desk: Arc<Desk>,
    /// How the bridge and its logins are.
    pub board: Arc<StatusBoard>,
    /// People's account data.
    pub followers: Followers,
    /// What is worth doing only now.
    pub now: Arc<typing::Now>,
    /// The engine's own mailbox, for answers.
    pub mailbox: mpsc::Sender<Input>,
    /// Where streams report.
    pub reports: mpsc::Sender<(StreamId, StreamReport)>,
    /// Where numbers go, where somebody wants them.
    pub metrics: Option<Arc<Metrics>>,
    /// How much the log shows.
    pub level: Level,
    /// The store's folder.
    pub store: PathBuf,
}

/// Starts the engine's thread. The receiver tells why it ended; it ends when the mailbox is closed, when streams are
/// down after [`Input::Suspend`], or when the store fails for good.
pub fn start(
    engine: Engine,
    shells: Shells,
    mailbox: mpsc::Receiver<Input>,
) -> std::io::Result<oneshot::Receiver<Result<(), StoreError>>> {
    let (tell, ended) = oneshot::channel();
    thread::Builder::new().name("engine".to_owned()).spawn(move || {
        let driver = Driver {
            engine,
            shells,
            streams: HashMap::new(),
            again: Vec::new(),
            started: Instant::now(),
            suspended: false,
            published: None,
            stale: false,
            messages: Messages::default(),
        };
        // The other end is gone only if the process is ending anyway.
        let _ = tell.send(driver.run(mailbox));
    })?;
    Ok(ended)
}

struct Driver {
    engine: Engine,
    shells: Shells,
    streams: HashMap<StreamId, Opened>,
    /// Inputs that carrying out outputs gave at once.
    again: Vec<Input>,
    started: Instant,
    suspended: bool,
    /// When the engine's numbers were given out last, and whether they have changed since.
    published: Option<Instant>,
    stale: bool,
    messages: Messages,
}

/// A stream, with the span that all its lines in the log stand in.
struct Opened {
    handle: StreamHandle,
    span: Span,
    /// Its login is known, and stands in the span.
    named: bool,
}

impl Driver {
    fn run(mut self, mut mailbox: mpsc::Receiver<Input>) -> Result<(), StoreError> {
        let runtime = self.shells.runtime.clone();
        let _context = runtime.enter();
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            batch.append(&mut self.again);
            if batch.is_empty() && !runtime.block_on(self.wait(&mut mailbox, &mut batch)) {
                return Ok(());
            }
            self.engine.watch_messages(tracing::enabled!(tracing::Level::DEBUG));
            let began = Instant::now();
            for input in batch.drain(..) {
                self.suspended |= matches!(input, Input::Suspend);
                if let Input::Stream { stream, report: StreamReport::Down(end) } = &input
                    && let Some(opened) = self.streams.remove(stream)
                {
                    let _within = opened.span.enter();
                    tracing::info!(%stream, %end, "stream ended");
                }
                self.engine.handle(self.now(), input)?;
            }
            if let Some(metrics) = &self.shells.metrics {
                metrics.handled(began.elapsed());
            }
            let outputs = self.commit()?;
            self.tell_messages();
            for output in outputs {
                self.carry_out(output);
            }
            self.stale = self.shells.metrics.is_some();
            self.publish();
            if self.suspended && self.streams.is_empty() && self.again.is_empty() {
                return Ok(());
            }
        }
    }

    /// Waits for inputs or for the engine's next timer. `false`: nobody is left to send any.
    async fn wait(&mut self, mailbox: &mut mpsc::Receiver<Input>, batch: &mut Vec<Input>) -> bool {
        let wake = self.engine.next_wake().map(|at| self.started + Duration::from_millis(at));
        let far = Instant::now() + Duration::from_hours(1);
        loop {
            let due = self.published.map_or(far, |last| last + PUBLISH);
            tokio::select! {
                count = mailbox.recv_many(batch, BATCH) => return count > 0,
                () = tokio::time::sleep_until(wake.unwrap_or(far).into()) => {
                    batch.push(Input::Tick);
                    return true;
                }
                () = tokio::time::sleep_until(due.into()), if self.stale => self.publish(),
            }
        }
    }

    /// Gives the engine's numbers out, unless that was done just now.
    fn publish(&mut self) {
        let now = Instant::now();
        if let Some(metrics) = &self.shells.metrics
            && self.published.is_none_or(|last| now >= last + PUBLISH)
        {
            metrics.publish(self.engine.numbers());
            (self.published, self.stale) = (Some(now), false);
        }
    }

    /// Writes into the log what became of messages, now that it is committed.
    fn tell_messages(&mut self) {
        let steps = self.engine.take_steps();
        if tracing::enabled!(tracing::Level::DEBUG) {
            self.messages.tell(steps);
        } else {
            self.messages.forget();
        }
    }

    /// Commits, however often that takes: until it has worked nothing is answered, acknowledged or sent.
    fn commit(&mut self) -> Result<Vec<Output>, StoreError> {
        loop {
            let began = Instant::now();
            match self.engine.commit() {
                Ok(outputs) => {
                    if let Some(metrics) = &self.shells.metrics {
                        metrics.committed(began.elapsed());
                    }
                    return Ok(outputs);
                }
                Err(error @ StoreError::Io { .. }) => {
                    if let Some(metrics) = &self.shells.metrics {
                        metrics.commit_failed();
                    }
                    tracing::error!(%error, "the store cannot be written; nothing goes on until it can");
                    thread::sleep(COMMIT_AGAIN);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            wall: Timestamp(i64::try_from(wall.as_millis()).unwrap_or(i64::MAX)),
            uptime: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Answer(ticket) => self.shells.service.tickets.answer(ticket),
            Output::Refuse(ticket) => self.shells.service.tickets.refuse(ticket),
            Output::ReadRoom { room, from } => {
                let (record, mailbox) = (self.shells.record.clone(), self.shells.mailbox.clone());
                self.shells.runtime.spawn(async move {
                    let page = record.read(&room, from).await;
                    // The engine is gone only if the process is ending.
                    let _ = mailbox.send(Input::RoomRead { room, page }).await;
                });
            }
            Output::Stream { stream, order: StreamOrder::Connect(order) } => {
                let span = tracing::info_span!("login", login = Empty, stream = stream.0, network = order.network);
                let within = span.enter();
                tracing::info!(%stream, network = %order.network, resuming = order.resume.is_some(), "connecting");
                let handle = self.shells.xmpp.spawn(stream, *order, self.shells.reports.clone());
                drop(within);
                self.streams.insert(stream, Opened { handle, span, named: false });
                self.name(stream);
            }
            Output::Stream { stream, order } => {
                // A stream that takes no more is ended by its own task, which reports it; one that has ended has done so.
                self.name(stream);
                let _ = self.streams.get(&stream).map(|opened| opened.handle.send(order));
            }
            Output::Matrix(work) => {
                if let Err(refused) = self.shells.work.try_send(work) {
                    let work = match refused {
                        mpsc::error::TrySendError::Full(work) | mpsc::error::TrySendError::Closed(work) => work,
                    };
                    let cause = Cause { code: "busy".to_owned(), sentence: "Too many requests wait.".to_owned() };
                    let outcome = Outcome::Failed(Failure::Transient { cause, retry_after: None });
                    self.again.push(Input::Done { work: work.id, outcome });
                }
            }
            Output::Transfer(transfer) => {
                let (files, mailbox) = (Arc::clone(&self.shells.files), self.shells.mailbox.clone());
                self.shells.runtime.spawn(async move {
                    let debt = transfer.debt;
                    let outcome = tokio::spawn(async move { files.run(&transfer).await }).await;
                    let outcome = outcome.unwrap_or_else(|_| files::died());
                    // The engine is gone only if the process is ending.
                    let _ = mailbox.send(Input::Transferred { debt, outcome }).await;
                });
            }
            Output::PublicFile { ticket, file } => {
                if let Some(public) = &self.shells.public {
                    public.answer(ticket, file);
                }
            }
            Output::State(state) => self.shells.board.put(*state),
            Output::Respond { ticket, response } => self.shells.desk.answer(ticket, response),
            Output::Now(ephemeral) => self.shells.now.perform(ephemeral),
            Output::SetLogLevel(level) => self.shells.level.set(level),
            Output::Measure { owner } => {
                let (memory, store) = (process::resident_memory(), process::size_of(&self.shells.store));
                self.again.push(Input::Measured { owner, memory, store });
            }
            Output::Follow { owner, since } => self.shells.followers.follow(&owner, since),
            Output::Unfollow { owner } => self.shells.followers.unfollow(&owner),
            Output::Ask { ask, question } => {
                let (xmpp, mailbox) = (self.shells.xmpp.clone(), self.shells.mailbox.clone());
                self.shells.runtime.spawn(async move {
                    let answer = xmpp.answer(question).await;
                    // The engine is gone only if the process is ending.
                    let _ = mailbox.send(Input::Answered { ask, answer }).await;
                });
            }
        }
    }
}

impl Driver {
    /// Puts the login of a stream into its span, once there is one: a sign-in becomes one in the end.
    fn name(&mut self, stream: StreamId) {
        if let Some(opened) = self.streams.get_mut(&stream)
            && !opened.named
            && let Some(login) = self.engine.login_on(stream)
        {
            opened.span.record("login", login.as_str());
            opened.named = true;
        }
    }
}

/// Carries streams' reports into the engine's mailbox.
pub async fn forward(mut reports: mpsc::Receiver<(StreamId, StreamReport)>, mailbox: mpsc::Sender<Input>) {
    while let Some((stream, report)) = reports.recv().await {
        if mailbox.send(Input::Stream { stream, report }).await.is_err() {
            return;
        }
    }
}
