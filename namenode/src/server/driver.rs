//! The threads around the core: apply, commit, image.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};

use base::clock::{Clock, Moment};
use base::task::CancellationToken;
use proto::error::FsResult;
use tokio::sync::oneshot;

use super::ServerError;
use crate::consensus::{ImageInfo, ImageStore, LogWriter, PersistBatch, PersistDone};
use crate::core::{Effect, Event, ImageJob, NamenodeCore, OpenedCore};
use crate::doors::Call;
use crate::metrics::Figures;
use crate::service::request::{Response, Ticket};

/// What the apply thread is told.
#[derive(Debug)]
pub enum Message {
    /// A call of a door.
    Call(Box<Call>),
    /// The committer is done with batches.
    Persisted(PersistDone),
    /// The image thread is done.
    ImageWritten(Result<ImageInfo, String>),
    /// The log cannot be written any more.
    LogFailed(String),
    /// End now.
    Stop,
}

/// Batches that may wait for the committer.
const BATCHES: usize = 1024;
/// Messages taken before the core proposes: they share one log entry.
const HANDFUL: usize = 512;

/// The end of the threads.
#[derive(Debug)]
pub(super) struct Ended {
    result: oneshot::Receiver<Result<(), String>>,
}

impl Ended {
    /// Waits for it.
    pub(super) async fn wait(self) -> Result<(), ServerError> {
        match self.result.await {
            Ok(result) => result.map_err(ServerError::Stopped),
            Err(_closed) => Err(ServerError::Stopped("the apply thread ended without a word".to_owned())),
        }
    }
}

/// Starts the apply and the commit thread. The token is cancelled when they end by themselves.
pub(super) fn run(
    opened: OpenedCore,
    (calls, messages): (SyncSender<Message>, Receiver<Message>),
    clock: &Arc<dyn Clock>,
    figures: Figures,
    shutdown: CancellationToken,
) -> io::Result<Ended> {
    let (batches, work) = sync_channel(BATCHES);
    let committer = Committer { writer: opened.writer, work, apply: calls.clone(), clock: Arc::clone(clock), figures };
    let committing = base::task::thread("nn-commit", move || committer.run())?;
    let (tell, result) = oneshot::channel();
    let driver = Driver {
        next_tick: clock.now(),
        tick: opened.core.tick_interval(),
        core: opened.core,
        images: opened.images,
        clock: Arc::clone(clock),
        calls,
        messages,
        batches,
        held: VecDeque::new(),
        tickets: BTreeMap::new(),
        next_ticket: 0,
        go_on: false,
        failure: None,
    };
    base::task::thread("nn-apply", move || {
        // Cancelled on every way out, a panic included: nobody may wait for an apply thread that is gone.
        let _stop = shutdown.drop_guard();
        let result = driver.run();
        let committed = committing.join().map_err(|_panic| "the commit thread panicked".to_owned());
        if tell.send(result.and(committed)).is_err() {
            tracing::debug!("nobody waits for the end of the namenode");
        }
    })?;
    Ok(Ended { result })
}

struct Committer {
    writer: LogWriter,
    work: Receiver<PersistBatch>,
    apply: SyncSender<Message>,
    clock: Arc<dyn Clock>,
    figures: Figures,
}

impl Committer {
    /// One write and sync for all batches that wait.
    fn run(mut self) {
        while let Ok(first) = self.work.recv() {
            let mut batches = vec![first];
            batches.extend(self.work.try_iter());
            let started = self.clock.now();
            // After a panic nobody knows what is in the log: as after a failed sync, the namenode ends.
            let message = match base::task::survive("nn-commit", || self.writer.write(batches)) {
                Ok(Ok(done)) => Message::Persisted(done),
                Ok(Err(error)) => Message::LogFailed(error.to_string()),
                Err(panicked) => Message::LogFailed(panicked.to_string()),
            };
            self.figures.synced(self.clock.now().since(started));
            let failed = matches!(message, Message::LogFailed(_));
            if self.apply.send(message).is_err() || failed {
                return;
            }
        }
    }
}

struct Driver {
    core: NamenodeCore,
    images: ImageStore,
    clock: Arc<dyn Clock>,
    calls: SyncSender<Message>,
    messages: Receiver<Message>,
    batches: SyncSender<PersistBatch>,
    /// What the committer has no place for yet: while its disk hangs this thread goes on. As much as the log may be behind.
    held: VecDeque<PersistBatch>,
    tickets: BTreeMap<Ticket, oneshot::Sender<FsResult<Response>>>,
    next_ticket: u64,
    next_tick: Moment,
    tick: std::time::Duration,
    /// The core has more to do than one step of it.
    go_on: bool,
    failure: Option<String>,
}

enum Next {
    GoOn,
    Stop,
}

impl Driver {
    /// Runs until it is told to stop or cannot go on.
    fn run(mut self) -> Result<(), String> {
        let mut out = Vec::new();
        self.core.pump(self.clock.now(), self.clock.wall_ns(), &mut out);
        self.carry_out(&mut out);
        while self.failure.is_none() {
            let wait = if self.go_on { std::time::Duration::ZERO } else { self.next_tick.since(self.clock.now()) };
            match self.messages.recv_timeout(wait) {
                Ok(first) => {
                    if matches!(self.take_handful(first, &mut out), Next::Stop) {
                        return Ok(());
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            let now = self.clock.now();
            let wall_ns = self.clock.wall_ns();
            if now >= self.next_tick {
                self.next_tick = now.plus(self.tick);
                self.core.take(Event::Tick, now, wall_ns, &mut out);
                self.tell_of_gone(now, wall_ns, &mut out);
            }
            if std::mem::take(&mut self.go_on) {
                self.core.take(Event::GoOn, now, wall_ns, &mut out);
            }
            self.core.pump(now, wall_ns, &mut out);
            self.carry_out(&mut out);
        }
        Err(self.failure.unwrap_or_default())
    }

    /// Of long work for callers that are gone nobody has anything.
    fn tell_of_gone(&mut self, now: Moment, wall_ns: i64, out: &mut Vec<Effect>) {
        if self.core.has_long_work() {
            let gone = self.tickets.iter().filter(|(_, answer)| answer.is_closed());
            let gone: Vec<Ticket> = gone.map(|(ticket, _)| *ticket).collect();
            gone.into_iter().for_each(|ticket| self.core.take(Event::Gone(ticket), now, wall_ns, out));
        }
    }

    fn take_handful(&mut self, first: Message, out: &mut Vec<Effect>) -> Next {
        let mut next = Some(first);
        for _ in 0..HANDFUL {
            let Some(message) = next else { break };
            if matches!(self.take(message, out), Next::Stop) {
                return Next::Stop;
            }
            next = self.messages.try_recv().ok();
        }
        // The last one that was looked at is not lost.
        match next {
            Some(message) => self.take(message, out),
            None => Next::GoOn,
        }
    }

    fn take(&mut self, message: Message, out: &mut Vec<Effect>) -> Next {
        let event = match message {
            Message::Call(call) => {
                let Call { caller, request, answer } = *call;
                if answer.is_closed() {
                    return Next::GoOn;
                }
                let ticket = Ticket(self.next_ticket);
                self.next_ticket += 1;
                self.tickets.insert(ticket, answer);
                Event::Request { ticket, caller, request }
            }
            Message::Persisted(done) => Event::Persisted(done),
            Message::ImageWritten(result) => Event::ImageWritten(result),
            Message::LogFailed(reason) => {
                self.failure = Some(reason);
                return Next::GoOn;
            }
            Message::Stop => return Next::Stop,
        };
        self.core.take(event, self.clock.now(), self.clock.wall_ns(), out);
        Next::GoOn
    }

    fn carry_out(&mut self, out: &mut Vec<Effect>) {
        for effect in out.drain(..) {
            match effect {
                Effect::Reply { ticket, response } => {
                    let waiting = self.tickets.remove(&ticket);
                    if waiting.is_some_and(|answer| answer.send(response).is_err()) {
                        tracing::debug!(ticket = ticket.0, "nobody waits for this answer any more");
                    }
                }
                Effect::Persist(batch) => self.held.push_back(batch),
                Effect::WriteImage(job) => self.write_image(*job),
                Effect::GoOn => self.go_on = true,
                Effect::SendRaft(message) => {
                    tracing::error!(to = message.to, "a message for another namenode, but this one runs alone");
                }
                Effect::SendImage(send) => {
                    tracing::error!(to = %send.to, "an image for another namenode, but this one runs alone");
                }
                Effect::Stop(reason) => self.failure = Some(reason),
            }
        }
        self.hand_on();
    }

    /// Gives the committer what it has places for. The next event, or tick, brings the rest.
    fn hand_on(&mut self) {
        while let Some(batch) = self.held.pop_front() {
            match self.batches.try_send(batch) {
                Ok(()) => {}
                Err(TrySendError::Full(back)) => {
                    self.held.push_front(back);
                    return;
                }
                Err(TrySendError::Disconnected(_)) => {
                    self.failure.get_or_insert_with(|| "the commit thread is gone".to_owned());
                    return;
                }
            }
        }
    }

    /// Writes an image on a thread of its own, while operations go on.
    fn write_image(&self, job: ImageJob) {
        let (images, calls) = (self.images.clone(), self.calls.clone());
        let started = base::task::background_thread("nn-image", move || {
            let mut body = |writer: &mut dyn io::Write| job.frozen.write_to(writer).map_err(io::Error::other);
            // Tried again a minute later, as after an error of the disk.
            let result = base::task::survive("nn-image", || images.write(job.meta, &mut body))
                .map_err(|panicked| panicked.to_string())
                .and_then(|written| written.map_err(|error| error.to_string()));
            if calls.send(Message::ImageWritten(result)).is_err() {
                tracing::debug!("the namenode stopped while an image was written");
            }
        });
        if let Err(error) = started
            && let Err(full) = self.calls.try_send(Message::ImageWritten(Err(error.to_string())))
        {
            tracing::error!(%full, "the image thread could not be started");
        }
    }
}
