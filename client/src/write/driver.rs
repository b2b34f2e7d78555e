//! The task of a file that is being written: it owns the socket, and does what the machine says.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use base::clock::Moment;
use bytes::Bytes;
use proto::common::LocatedBlock;
use proto::error::{ErrorCode, FsResult};
use proto::namespace::{
    AbandonBlockRequest, AddBlockRequest, CompleteRequest, DiscardRequest, FileStatus, NewStampRequest, PublishRequest,
    UpdatePipelineRequest,
};
use tokio::sync::{mpsc, oneshot};

use super::pipeline::{Pipeline, Unopened};
use super::{Attempt, FileWriter, WriteEffect, WriteEvent};
use crate::client::Inner;
use crate::datanode::{self, Said, Transfer};
use crate::session::Session;

/// Time between renewals of the leases of a writing client: a third of the time after which others may have the file.
const RENEW_EVERY: Duration = Duration::from_secs(20);

/// What the application wants of the task.
pub(super) enum Command {
    Data(Bytes),
    /// Tells the sender when everything so far is held, with `sync` durably.
    Flush {
        sync: bool,
        done: oneshot::Sender<()>,
    },
    Close,
}

/// Silence after which a node that copies a replica is given up: it gives a sign of life about every second.
const TRANSFER_SILENCE: Duration = Duration::from_secs(4);
/// The same where nothing can go on without the copy: it says nothing while it waits for the sync that ends the copy, for
/// 10 s at most.
const LONG_TRANSFER_SILENCE: Duration = Duration::from_secs(12);

/// How long a block is asked for that is on no node that could not be reached lately.
const CAREFUL: Duration = Duration::from_secs(2);

/// An answer that is waited for, beside the pipeline.
type Answer = Pin<Box<dyn Future<Output = Answered> + Send>>;

/// What came, and what is to be waited for next.
struct Answered {
    event: WriteEvent,
    rest: Option<Answer>,
}

/// An answer that is the only one.
fn once(answer: impl Future<Output = WriteEvent> + Send + 'static) -> Answer {
    Box::pin(async move { Answered { event: answer.await, rest: None } })
}
type Dialling = Pin<Box<dyn Future<Output = Result<Pipeline, Unopened>> + Send>>;

/// A pipeline that is being set up.
struct Opening {
    attempt: Attempt,
    block: LocatedBlock,
    dialling: Dialling,
}

/// What the task owns.
pub(super) struct Driver {
    pub(super) inner: Arc<Inner>,
    pub(super) session: Arc<Session>,
    pub(super) inode: u64,
    pub(super) lease_epoch: u64,
    pub(super) machine: FileWriter,
    pipeline: Option<(Attempt, Pipeline)>,
    opening: Option<Opening>,
    answers: Vec<Answer>,
    flushes: VecDeque<oneshot::Sender<()>>,
    finished: Option<oneshot::Sender<FsResult<FileStatus>>>,
}

/// What came next.
enum Next {
    Event(WriteEvent),
    Command(Option<Command>),
    Renew,
}

impl Driver {
    pub(super) fn new(
        (inner, session): (Arc<Inner>, Arc<Session>),
        (inode, lease_epoch): (u64, u64),
        machine: FileWriter,
        finished: oneshot::Sender<FsResult<FileStatus>>,
    ) -> Self {
        let (pipeline, opening, answers, flushes) = (None, None, Vec::new(), VecDeque::new());
        let finished = Some(finished);
        Self { inner, session, inode, lease_epoch, machine, pipeline, opening, answers, flushes, finished }
    }

    pub(super) async fn run(mut self, mut incoming: mpsc::Receiver<Command>) {
        let mut closed = false;
        // It ends with this writer: a file that was given up is kept alive by nobody (SC-43).
        let mut renewal = tokio::time::interval(RENEW_EVERY);
        renewal.reset();
        while !self.machine.is_over() {
            let next = tokio::select! {
                command = incoming.recv(), if !closed && self.machine.room_bytes() > 0 => Next::Command(command),
                event = next_of(&mut self.pipeline) => Next::Event(event),
                opened = opened(&mut self.opening) => Next::Event(self.on_dialled(opened)),
                event = answered(&mut self.answers) => Next::Event(event),
                () = sleep_until(self.machine.next_deadline(), self.inner.rpc.clock.now()) => {
                    Next::Event(WriteEvent::Tick)
                }
                _ = renewal.tick() => Next::Renew,
            };
            let event = match next {
                Next::Event(event) => event,
                Next::Command(Some(Command::Data(bytes))) => WriteEvent::Data(bytes),
                Next::Command(Some(Command::Flush { sync, done })) => {
                    self.flushes.push_back(done);
                    WriteEvent::Flush { sync }
                }
                Next::Command(Some(Command::Close)) => {
                    closed = true;
                    WriteEvent::Close
                }
                Next::Command(None) => WriteEvent::Abort,
                Next::Renew => {
                    self.renew();
                    continue;
                }
            };
            self.handle(event);
        }
    }

    /// Renewing may take as long as a namenode is away; the pipeline goes on meanwhile.
    fn renew(&self) {
        let (inner, session) = (Arc::clone(&self.inner), Arc::clone(&self.session));
        base::task::spawn(&self.inner.tasks, async move { inner.renew_lease(&session, RENEW_EVERY).await });
    }

    /// Feeds an event to the machine and begins what it says.
    fn handle(&mut self, event: WriteEvent) {
        let mut effects = Vec::new();
        self.machine.handle(event, self.inner.rpc.clock.now(), &mut effects);
        for effect in effects {
            self.perform(effect);
        }
    }

    fn perform(&mut self, effect: WriteEffect) {
        match effect {
            WriteEffect::OpenPipeline { attempt, block, begin, until } => {
                let (name, located) = (self.inner.name.clone(), block.clone());
                let within = until.since(self.inner.rpc.clock.now());
                let dialling =
                    Box::pin(async move { Pipeline::open(&located, &begin, &name, within).await }) as Dialling;
                self.opening = Some(Opening { attempt, block, dialling });
            }
            WriteEffect::SendPacket { packet, .. } => {
                if let Some((_, pipeline)) = &mut self.pipeline {
                    pipeline.queue(&packet);
                }
            }
            WriteEffect::ClosePipeline { .. } => (self.pipeline, self.opening) = (None, None),
            WriteEffect::Flushed => {
                // Nobody waits for a flush whose future was dropped.
                if let Some(Err(())) = self.flushes.pop_front().map(|done| done.send(())) {
                    tracing::trace!("nobody waited for a flush");
                }
            }
            WriteEffect::Done(result) => {
                if let Some(finished) = self.finished.take()
                    && finished.send(result).is_err()
                {
                    tracing::trace!("nobody waited for the end of a writer");
                }
            }
            WriteEffect::Discard => self.discard(),
            WriteEffect::Probe { number, block, until } => {
                let within = until.since(self.inner.rpc.clock.now());
                self.answers.push(once(async move {
                    WriteEvent::Probed { number, answers: datanode::progress_of_all(&block, within).await }
                }));
            }
            WriteEffect::Transfer { block, targets, new_stamp, until } => {
                let (name, now) = (self.inner.name.clone(), self.inner.rpc.clock.now());
                let silence = if until.is_some() { TRANSFER_SILENCE } else { LONG_TRANSFER_SILENCE };
                let answer: Answer = Box::pin(async move {
                    let begun = Transfer::begin(&block, &targets, new_stamp, &name, silence).await;
                    transferring(begun).await
                });
                self.answers.push(match until {
                    None => answer,
                    Some(until) => once(whole(answer, until.since(now))),
                });
            }
            call => self.call(call),
        }
    }

    /// The calls of the namenode.
    fn call(&mut self, effect: WriteEffect) {
        let (inner, session) = (Arc::clone(&self.inner), Arc::clone(&self.session));
        let (inode, lease_epoch, header) = (self.inode, self.lease_epoch, None);
        let answer: Answer = match effect {
            WriteEffect::AddBlock { previous, exclude_nodes, until } => {
                let client_host = String::new();
                let request = AddBlockRequest { header, inode, lease_epoch, previous, exclude_nodes, client_host };
                once(async move { WriteEvent::BlockAdded(add_block(&inner, &session, request, until).await) })
            }
            WriteEffect::AbandonBlock { block, until } => {
                let request = AbandonBlockRequest { header, inode, lease_epoch, block: Some(block) };
                once(async move { WriteEvent::BlockAbandoned(inner.abandon_block(&session, request, until).await) })
            }
            WriteEffect::NewStamp { block, keep, more, exclude_nodes, until } => {
                let (block, client_host) = (Some(block), String::new());
                let request =
                    NewStampRequest { header, inode, lease_epoch, block, keep, more, exclude_nodes, client_host };
                once(async move { WriteEvent::Stamped(inner.new_stamp(&session, request, until).await) })
            }
            WriteEffect::UpdatePipeline { block, new_stamp, storages, until } => {
                let block = Some(block);
                let request = UpdatePipelineRequest { header, inode, lease_epoch, block, new_stamp, storages };
                once(async move { WriteEvent::PipelineUpdated(inner.update_pipeline(&session, request, until).await) })
            }
            WriteEffect::Publish { until } => {
                let request = PublishRequest { header, inode, lease_epoch };
                once(async move { WriteEvent::Published(inner.publish(&session, request, until).await) })
            }
            WriteEffect::Complete { last } => {
                let request = CompleteRequest { header, inode, lease_epoch, last };
                once(async move { WriteEvent::Completed(inner.complete(&session, request).await) })
            }
            // Everything else is done by `perform`.
            _ => return,
        };
        self.answers.push(answer);
    }

    /// Best effort, beside: whoever waits for this writer has its answer at once.
    fn discard(&self) {
        let (inner, session) = (Arc::clone(&self.inner), Arc::clone(&self.session));
        let request = DiscardRequest { header: None, inode: self.inode, lease_epoch: self.lease_epoch };
        base::task::spawn(&self.inner.tasks, async move { inner.discard(&session, request).await });
    }

    /// The pipeline was set up, or not.
    fn on_dialled(
        &mut self,
        (attempt, block, opened): (Attempt, LocatedBlock, Result<Pipeline, Unopened>),
    ) -> WriteEvent {
        match opened {
            Ok(pipeline) => {
                block.locations.iter().for_each(|at| self.inner.avoided.reached(&at.node));
                self.pipeline = Some((attempt, pipeline));
                WriteEvent::PipelineOpened { attempt }
            }
            Err(Unopened { fault: (bad, why), unreachable }) => {
                let at = bad.and_then(|bad| block.locations.get(bad));
                if let Some(at) = at.filter(|_| unreachable) {
                    self.inner.avoided.add_unreachable(at.node.clone(), self.inner.rpc.clock.now());
                }
                WriteEvent::PipelineFailed { attempt, bad, why }
            }
        }
    }
}

/// Asks for a block on none of the nodes that could not be reached just now, by whomever of this client; if there are
/// too few others, on any.
async fn add_block(
    inner: &Inner,
    session: &Arc<Session>,
    request: AddBlockRequest,
    until: Moment,
) -> FsResult<LocatedBlock> {
    let now = inner.rpc.clock.now();
    let ask = |request, until| inner.add_block(session, request, until);
    ask_carefully(request, inner.avoided.unreachable(now), (now, until), ask).await
}

async fn ask_carefully<F: Future<Output = FsResult<LocatedBlock>>>(
    request: AddBlockRequest,
    unreachable: Vec<String>,
    (now, until): (Moment, Moment),
    ask: impl Fn(AddBlockRequest, Moment) -> F,
) -> FsResult<LocatedBlock> {
    let mut careful = request.clone();
    careful.exclude_nodes.extend(unreachable.into_iter().filter(|node| !request.exclude_nodes.contains(node)));
    if careful.exclude_nodes.len() > request.exclude_nodes.len() {
        // "Too few" is repeated to the end of the time given: some has to be left for asking without care.
        let soon = now.plus(CAREFUL.min(until.since(now) / 2));
        match ask(careful, soon).await {
            Err(error) if error.code == ErrorCode::NotEnoughNodes => {}
            answer => return answer,
        }
    }
    ask(request, until).await
}

/// What a sender says next, until it has said its last word.
fn transferring(begun: Result<Transfer, String>) -> Answer {
    Box::pin(async move {
        let said = match begun {
            Ok(transfer) => transfer.next().await,
            Err(why) => Err(why),
        };
        let (event, rest) = match said {
            Ok(Said::Going(transfer)) => (WriteEvent::TransferGoes, Some(transferring(Ok(transfer)))),
            Ok(Said::Done) => (WriteEvent::Transferred(Ok(())), None),
            Err(why) => (WriteEvent::Transferred(Err(why)), None),
        };
        Answered { event, rest }
    })
}

/// The last word of an answer with several, `within` this time.
async fn whole(mut answer: Answer, within: Duration) -> WriteEvent {
    let last = async {
        loop {
            let Answered { event, rest } = answer.await;
            let Some(rest) = rest else { return event };
            answer = rest;
        }
    };
    let late = |elapsed| WriteEvent::Transferred(Err(format!("it was not made in time ({elapsed})")));
    tokio::time::timeout(within, last).await.unwrap_or_else(late)
}

/// The next event of the open pipeline; waits for ever if none is open.
async fn next_of(pipeline: &mut Option<(Attempt, Pipeline)>) -> WriteEvent {
    let Some((attempt, open)) = pipeline else { return std::future::pending().await };
    let attempt = *attempt;
    match open.next_ack().await {
        Ok(ack) => WriteEvent::Ack { attempt, ack },
        Err((bad, why)) => {
            // What else it says counts no more.
            *pipeline = None;
            WriteEvent::PipelineFailed { attempt, bad, why }
        }
    }
}

/// The pipeline that is being set up; waits for ever if there is none.
async fn opened(opening: &mut Option<Opening>) -> (Attempt, LocatedBlock, Result<Pipeline, Unopened>) {
    let Some(open) = opening else { return std::future::pending().await };
    let result = open.dialling.as_mut().await;
    let (attempt, block) = (open.attempt, std::mem::take(&mut open.block));
    *opening = None;
    (attempt, block, result)
}

/// The first answer that is there; waits for ever if none is awaited.
async fn answered(answers: &mut Vec<Answer>) -> WriteEvent {
    std::future::poll_fn(|context| {
        for at in 0..answers.len() {
            let Some(answer) = answers.get_mut(at) else { break };
            if let Poll::Ready(Answered { event, rest }) = answer.as_mut().poll(context) {
                drop(answers.swap_remove(at));
                answers.extend(rest);
                return Poll::Ready(event);
            }
        }
        Poll::Pending
    })
    .await
}

/// Waits until a moment of the client's clock; for ever if there is none.
pub(crate) async fn sleep_until(deadline: Option<Moment>, now: Moment) {
    match deadline {
        Some(deadline) => tokio::time::sleep(deadline.since(now)).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::error::FsError;
    use std::cell::RefCell;

    fn secs(secs: u64) -> Moment {
        Moment::after_start(Duration::from_secs(secs))
    }

    /// What is asked, with the last moment of each, if the namenode answers each time with the next of these codes; `None`
    /// is a block. And how it ends.
    async fn asked(
        unreachable: &[&str],
        until: u64,
        answers: &[Option<ErrorCode>],
    ) -> (Vec<String>, Option<ErrorCode>) {
        let asked = RefCell::new(Vec::new());
        let ask = |request: AddBlockRequest, until: Moment| {
            let mut asked = asked.borrow_mut();
            let answer = answers[asked.len()];
            let secs = until.since(Moment::START).as_secs_f64();
            asked.push(format!("without {} until {secs}", request.exclude_nodes.join(" ")));
            async move { answer.map_or_else(|| Ok(LocatedBlock::default()), |code| Err(FsError::new(code, "x"))) }
        };
        let request = AddBlockRequest { exclude_nodes: vec!["failed".into()], ..AddBlockRequest::default() };
        let unreachable = unreachable.iter().map(|node| (*node).to_owned()).collect();
        let ended = ask_carefully(request, unreachable, (secs(10), secs(until)), ask).await;
        (asked.into_inner(), ended.err().map(|error| error.code))
    }

    #[tokio::test]
    async fn a_block_is_asked_for_on_nodes_that_cannot_be_reached_only_where_there_are_too_few_others() {
        let (few, gone) = (Some(ErrorCode::NotEnoughNodes), Some(ErrorCode::NotFound));
        assert_eq!(asked(&[], 30, &[few]).await, (vec!["without failed until 30".into()], few), "nobody to avoid");
        assert_eq!(asked(&["failed"], 30, &[None]).await, (vec!["without failed until 30".into()], None));
        let careful = || "without failed away until 12".to_owned();
        assert_eq!(asked(&["away"], 30, &[None]).await, (vec![careful()], None));
        assert_eq!(asked(&["away"], 30, &[gone]).await, (vec![careful()], gone), "another refusal is one");
        let both = vec![careful(), "without failed until 30".into()];
        assert_eq!(asked(&["away"], 30, &[few, None]).await, (both.clone(), None), "better than no block");
        assert_eq!(asked(&["away"], 30, &[few, few]).await, (both, few));
        let (short, _) = asked(&["away"], 12, &[few, few]).await;
        assert_eq!(short, ["without failed away until 11", "without failed until 12"], "there is time left for it");
    }
}
