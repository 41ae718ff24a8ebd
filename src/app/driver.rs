//! The engine's thread: takes what waits, has it handled as one batch, commits, and carries the outputs to the shells.

use std::{
    collections::HashMap,
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
};

use super::{
    files::{self, Files},
    public_media::PublicMedia,
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
const BATCH: usize = 128;
/// Pause before a commit that failed is tried again.
const COMMIT_AGAIN: Duration = Duration::from_secs(1);

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
        };
        // The other end is gone only if the process is ending anyway.
        let _ = tell.send(driver.run(mailbox));
    })?;
    Ok(ended)
}

struct Driver {
    engine: Engine,
    shells: Shells,
    streams: HashMap<StreamId, StreamHandle>,
    /// Inputs that carrying out outputs gave at once.
    again: Vec<Input>,
    started: Instant,
    suspended: bool,
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
            for input in batch.drain(..) {
                self.suspended |= matches!(input, Input::Suspend);
                if let Input::Stream { stream, report: StreamReport::Down(end) } = &input {
                    self.streams.remove(stream);
                    tracing::info!(%stream, %end, "stream ended");
                }
                self.engine.handle(self.now(), input)?;
            }
            for output in self.commit()? {
                self.carry_out(output);
            }
            if self.suspended && self.streams.is_empty() && self.again.is_empty() {
                return Ok(());
            }
        }
    }

    /// Waits for inputs or for the engine's next timer. `false`: nobody is left to send any.
    async fn wait(&self, mailbox: &mut mpsc::Receiver<Input>, batch: &mut Vec<Input>) -> bool {
        let wake = self.engine.next_wake().map(|at| self.started + Duration::from_millis(at));
        let far = Instant::now() + Duration::from_hours(1);
        tokio::select! {
            count = mailbox.recv_many(batch, BATCH) => count > 0,
            () = tokio::time::sleep_until(wake.unwrap_or(far).into()) => {
                batch.push(Input::Tick);
                true
            }
        }
    }

    /// Commits, however often that takes: until it has worked nothing is answered, acknowledged or sent.
    fn commit(&mut self) -> Result<Vec<Output>, StoreError> {
        loop {
            match self.engine.commit() {
                Ok(outputs) => return Ok(outputs),
                Err(error @ StoreError::Io { .. }) => {
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
                tracing::info!(%stream, network = %order.network, resuming = order.resume.is_some(), "connecting");
                let handle = self.shells.xmpp.spawn(stream, *order, self.shells.reports.clone());
                self.streams.insert(stream, handle);
            }
            Output::Stream { stream, order } => {
                // A stream that takes no more is ended by its own task, which reports it; one that has ended has done so.
                let _ = self.streams.get(&stream).map(|handle| handle.send(order));
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

/// Carries streams' reports into the engine's mailbox.
pub async fn forward(mut reports: mpsc::Receiver<(StreamId, StreamReport)>, mailbox: mpsc::Sender<Input>) {
    while let Some((stream, report)) = reports.recv().await {
        if mailbox.send(Input::Stream { stream, report }).await.is_err() {
            return;
        }
    }
}
