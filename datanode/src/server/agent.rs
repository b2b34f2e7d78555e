//! The thread that drives the agent: events in, calls and commands out.
//!
//! ```text
//!   replicas changed ─┐
//!   answers of calls ─┼─▶ inbox (bounded) ─▶ Agent ─▶ calls       tasks on tokio
//!   commands done    ─┘                           ─▶ terms, deletes, copies   tasks that may wait for a disk
//! ```
//!
//! The thread itself waits for no disk and no network, but for one write at the first registration: heartbeats
//! go on while disks hang. What waits for a disk that hangs gives up its turn to what does not: deletes, looks and copies
//! of other disks go on, and one disk that keeps a term is enough.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use base::disk::{Cut, with_cut};
use base::task::TaskTracker;
use parking_lot::Mutex;
use proto::error::{ErrorCode, FsResult};
use proto::ids::Term;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};

use super::acceptor::Connections;
use super::calls::Namenodes;
use super::{Context, ServerError, copy};
use crate::agent::{Agent, AgentEffect, AgentEvent, Answer, Call, CallNumber, Command, Task};
use crate::commands;

/// Time between ticks: how late a heartbeat may be.
const TICK: Duration = Duration::from_millis(200);
/// Events that may wait: calls under way and running commands are few.
const INBOX: usize = 4096;
/// Halves of block recoveries that are carried out at a time.
const RECOVERIES: usize = 32;
/// Pause before an event that did not fit is brought again.
const FULL_PAUSE: Duration = Duration::from_millis(20);

/// What the thread is told.
#[derive(Debug)]
pub(super) enum Message {
    Event(AgentEvent),
    Changed,
    Stop,
}

/// Tells the agent that replicas changed. Cheap: many changes make one message.
#[derive(Clone, Debug)]
pub(super) struct Wake {
    inbox: SyncSender<Message>,
    pending: Arc<AtomicBool>,
}

impl Wake {
    pub(super) fn new() -> (Self, Receiver<Message>) {
        let (inbox, messages) = sync_channel(INBOX);
        (Self { inbox, pending: Arc::new(AtomicBool::new(false)) }, messages)
    }
    /// Replicas changed.
    pub(super) fn changed(&self) {
        if !self.pending.swap(true, Ordering::SeqCst) && self.inbox.try_send(Message::Changed).is_err() {
            // The thread is busy or gone: the next tick finds the change.
            self.pending.store(false, Ordering::SeqCst);
        }
    }
}

/// What others may know of the agent.
#[derive(Debug, Default)]
pub(super) struct Status {
    ready: AtomicBool,
    refusal: Mutex<Option<String>>,
}

impl Status {
    /// Has a namenode taken the registration and every storage's report?
    pub(super) fn ready(&self) -> bool {
        self.ready.load(Ordering::SeqCst)
    }
    /// Why the last registration failed.
    pub(super) fn refusal(&self) -> Option<String> {
        self.refusal.lock().clone()
    }
}

/// The running thread.
#[derive(Debug)]
pub(super) struct AgentThread {
    inbox: SyncSender<Message>,
    status: Arc<Status>,
    ended: oneshot::Receiver<Result<(), String>>,
}

impl AgentThread {
    /// Starts it on the current tokio runtime.
    pub(super) fn start(
        agent: Agent,
        context: Context,
        namenodes: Namenodes,
        connections: Arc<Connections>,
        messages: Receiver<Message>,
    ) -> std::io::Result<Self> {
        let status = Arc::new(Status::default());
        let (tell, ended) = oneshot::channel();
        let inbox = context.wake.inbox.clone();
        let driver = Driver {
            refused: vec![None; namenodes.len()],
            agent,
            namenodes,
            connections,
            status: Arc::clone(&status),
            tasks: TaskTracker::new(),
            runtime: Handle::current(),
            deletes: Arc::new(Semaphore::new(1)),
            looks: Arc::new(Semaphore::new(1)),
            recoveries: Arc::new(Semaphore::new(RECOVERIES)),
            context,
        };
        base::task::thread("dn-agent", move || {
            // Cancelled on every way out, a panic included: a node without its agent is no node.
            let _stop = driver.context.stop.clone().drop_guard();
            let result = driver.run(&messages);
            if tell.send(result).is_err() {
                tracing::debug!("nobody waits for the end of the agent");
            }
        })?;
        Ok(Self { inbox, status, ended })
    }
    /// What others may know.
    pub(super) fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status)
    }
    /// Asks it to end and waits for it.
    pub(super) async fn stop(self) -> Result<(), ServerError> {
        let inbox = self.inbox;
        // The inbox may be full for a moment: asking to stop must not block a worker.
        let asked = base::task::blocking(move || inbox.send(Message::Stop).is_ok()).await;
        tracing::debug!(?asked, "the agent was asked to stop");
        match self.ended.await {
            Ok(result) => result.map_err(ServerError::WrongCluster),
            Err(_panicked) => Err(super::io("the agent's thread")(std::io::Error::other("it panicked"))),
        }
    }
}

struct Driver {
    agent: Agent,
    context: Context,
    namenodes: Namenodes,
    connections: Arc<Connections>,
    status: Arc<Status>,
    tasks: TaskTracker,
    runtime: Handle,
    deletes: Arc<Semaphore>,
    looks: Arc<Semaphore>,
    /// Recoveries of blocks at a time: each may read a replica whole, or wait for a disk that hangs.
    recoveries: Arc<Semaphore>,
    /// Namenodes that say that this node belongs to another cluster.
    refused: Vec<Option<String>>,
}

impl Driver {
    /// Runs until it is told to stop, or no namenode wants this node.
    fn run(mut self, messages: &Receiver<Message>) -> Result<(), String> {
        let runtime = self.runtime.clone();
        let _entered = runtime.enter();
        loop {
            let event = match messages.recv_timeout(TICK) {
                Ok(Message::Event(event)) => event,
                Ok(Message::Changed) => {
                    self.context.wake.pending.store(false, Ordering::SeqCst);
                    AgentEvent::Tick
                }
                Err(RecvTimeoutError::Timeout) => AgentEvent::Tick,
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            self.note(&event);
            let mut effects = Vec::new();
            self.agent.set_active_transfers(u32::try_from(self.connections.busy()).unwrap_or(u32::MAX));
            self.agent.handle(&self.context.node, event, self.context.clock.now(), &mut effects);
            self.status.ready.store(self.agent.ready(), Ordering::SeqCst);
            effects.into_iter().for_each(|effect| self.carry_out(effect));
            if let Some(reason) = self.unwanted() {
                return Err(reason);
            }
        }
    }

    /// Remembers why registrations fail.
    fn note(&mut self, event: &AgentEvent) {
        let AgentEvent::Answer { namenode, answer, .. } = event else { return };
        let foreign = match answer {
            Ok(Answer::Register(answer)) => self.foreign(&answer.cluster, &answer.pool),
            Ok(_) => return,
            Err(error) => {
                if !self.agent.registered() {
                    *self.status.refusal.lock() = Some(format!("the namenode did not take this node: {error}"));
                }
                (error.code == ErrorCode::WrongCluster).then(|| error.to_string())
            }
        };
        if let Some(refused) = self.refused.get_mut(*namenode) {
            *refused = foreign;
        }
    }
    /// A namenode's cluster that is not this node's.
    fn foreign(&self, cluster: &str, pool: &str) -> Option<String> {
        let (our_cluster, our_pool) = self.context.node.store().membership()?;
        let same = our_cluster.as_str() == cluster && our_pool.as_str() == pool;
        (!same).then(|| {
            format!(
                "this node's folders belong to cluster {our_cluster}, the namenode to {cluster}: give the node \
                 empty folders, or the address of its own namenode; nothing was changed"
            )
        })
    }
    /// Every namenode says that this node is not theirs.
    fn unwanted(&self) -> Option<String> {
        let all = self.refused.iter().all(Option::is_some);
        if all && !self.agent.registered() { self.refused.iter().flatten().next().cloned() } else { None }
    }

    fn carry_out(&self, effect: AgentEffect) {
        match effect {
            AgentEffect::Call { namenode, call, request } => self.call(namenode, call, *request),
            AgentEffect::KeepTerm(term) => {
                self.keep(term);
            }
            AgentEffect::Carry { namenode, command } => self.carry(namenode, command),
        }
    }

    /// Makes a term durable on every disk that takes writes, each by itself: the first one is enough.
    fn keep(&self, term: Term) {
        let storages = self.context.node.store().term_keepers();
        let (left, none_yet) = (Arc::new(AtomicUsize::new(storages.len())), Arc::new(AtomicBool::new(true)));
        if storages.is_empty() {
            self.blocking(move || Some(AgentEvent::TermKept { term, kept: false }));
        }
        for storage in storages {
            let (node, left, none_yet) = (Arc::clone(&self.context.node), Arc::clone(&left), Arc::clone(&none_yet));
            self.blocking(move || {
                let kept = node.store().raise_term_on(&storage, term);
                let first = kept.is_ok() && none_yet.swap(false, Ordering::SeqCst);
                let last = left.fetch_sub(1, Ordering::SeqCst) == 1;
                if let Err(error) = &kept {
                    tracing::error!(%term, %storage, error = %crate::receive::chain(error), "a term cannot be kept");
                }
                let all_failed = last && none_yet.load(Ordering::SeqCst);
                (first || all_failed).then_some(AgentEvent::TermKept { term, kept: first })
            });
        }
    }

    fn call(&self, namenode: usize, call: CallNumber, request: Call) {
        let (namenodes, inbox) = (self.namenodes.clone(), self.context.wake.inbox.clone());
        base::task::spawn(&self.tasks, async move {
            let answer: FsResult<Answer> = namenodes.call(namenode, request).await;
            tell(&inbox, AgentEvent::Answer { namenode, call, answer }).await;
        });
    }

    fn carry(&self, namenode: usize, command: Command) {
        let context = self.context.clone();
        let turn = match command.task {
            Task::Delete(_) => Some(Arc::clone(&self.deletes)),
            Task::Verify(_) => Some(Arc::clone(&self.looks)),
            Task::Prepare(_) | Task::Finish(_) => Some(Arc::clone(&self.recoveries)),
            Task::Copy(_) => None,
        };
        let inbox = context.wake.inbox.clone();
        base::task::spawn(&self.tasks, async move {
            // The semaphores are never closed.
            let turn = match turn {
                Some(turn) => turn.acquire_owned().await.ok(),
                None => None,
            };
            let stream = match &command.task {
                Task::Copy(what) => Some(context.copies.stream(what.urgent).await),
                Task::Delete(_) | Task::Verify(_) | Task::Prepare(_) | Task::Finish(_) => None,
            };
            // Given up early if the disk does not answer.
            let held = Arc::new(Mutex::new((turn, stream)));
            let giving_up = Arc::clone(&held);
            let cut = Cut::new(move || *giving_up.lock() = (None, None));
            let number = command.number;
            let run = move || with_cut(cut, || carry_now(&context, &command));
            let done = base::task::blocking(run).await;
            drop(held);
            let result = match done {
                Ok(result) => result,
                Err(error) => {
                    proto::cluster::CommandResult { number, ok: false, error: error.to_string(), replica: None }
                }
            };
            tell(&inbox, AgentEvent::CommandDone { namenode, result }).await;
        });
    }

    fn blocking(&self, run: impl FnOnce() -> Option<AgentEvent> + Send + 'static) {
        let inbox = self.context.wake.inbox.clone();
        base::task::spawn(&self.tasks, async move {
            match base::task::blocking(run).await {
                Ok(Some(event)) => tell(&inbox, event).await,
                Ok(None) => {}
                Err(error) => tracing::error!(%error, "a task of the agent failed"),
            }
        });
    }
}

/// Carries a command out, unless it is void by now.
fn carry_now(context: &Context, command: &Command) -> proto::cluster::CommandResult {
    let result = match &command.task {
        Task::Delete(what) => commands::delete(&context.node, command, what, || context.clock.now()),
        Task::Verify(what) => commands::verify(&context.node, command, what, || context.clock.now()),
        Task::Prepare(what) => commands::prepare_recovery(&context.node, command, what, || context.clock.now()),
        Task::Finish(what) => commands::finish_replica(&context.node, command, what, context.clock.now()),
        Task::Copy(what) => {
            let outcome = match commands::void(&context.node, command, context.clock.now()) {
                Some(reason) => Err(reason),
                None => copy::run(context, what).map_err(|failure| crate::receive::chain(&failure)),
            };
            commands::result(command, outcome)
        }
    };
    if !result.ok {
        tracing::warn!(command = command.number, error = result.error, "a command was not carried out");
    }
    context.wake.changed();
    result
}

/// Brings an event to the thread, however long that takes: a result that got lost would leave its command running for
/// ever, and a term waiting. Tasks are few, so what waits here is bounded as well.
async fn tell(inbox: &SyncSender<Message>, event: AgentEvent) {
    let mut message = Message::Event(event);
    loop {
        match inbox.try_send(message) {
            Ok(()) => return,
            Err(TrySendError::Full(back)) => message = back,
            Err(TrySendError::Disconnected(_)) => {
                tracing::debug!("the agent has ended and does not take an event");
                return;
            }
        }
        tokio::time::sleep(FULL_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_result_waits_while_the_inbox_is_full_and_ends_with_the_thread() {
        let (inbox, messages) = sync_channel(1);
        inbox.try_send(Message::Changed).unwrap();
        let result = proto::cluster::CommandResult { number: 7, ok: true, error: String::new(), replica: None };
        let done = AgentEvent::CommandDone { namenode: 0, result };
        let mut telling = std::pin::pin!(tell(&inbox, done.clone()));
        let waited = tokio::time::timeout(FULL_PAUSE * 3, telling.as_mut()).await;
        assert!(waited.is_err(), "there is no room");
        assert!(matches!(messages.try_recv(), Ok(Message::Changed)));
        telling.await;
        let Ok(Message::Event(told)) = messages.try_recv() else { panic!("it is told in the end") };
        assert_eq!(told, done);
        inbox.try_send(Message::Changed).unwrap();
        drop(messages);
        tell(&inbox, done).await;
    }
}
