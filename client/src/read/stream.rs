//! The shell around [`BlockReadMachine`]: one range of one block as a stream of verified bytes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use base::clock::Moment;
use bytes::Bytes;
use proto::common::LocatedBlock;
use proto::error::{ErrorCode, FsError, FsResult};
use proto::path::FsPath;
use transfer::Packet;

use super::idle;
use super::local::LocalReplica;
use super::race::Asked;
use super::replica::{Range, Replica};
use super::shell::{Shell, feed};
use super::{Attempt, BlockReadMachine, ReadEffect, ReadEvent};
use crate::client::Inner;
use crate::write::sleep_until;

/// Pause before the namenode is asked again where a block is.
const RELOCATE_PAUSE: Duration = Duration::from_millis(500);

/// Time after which an application that took nothing counts as the slow one.
const RESTED: Duration = Duration::from_secs(4);

/// A range of a block that is being read.
#[derive(Debug)]
pub(super) struct BlockStream {
    inner: Arc<Inner>,
    path: FsPath,
    /// Position of the block in its file, for asking again where it is.
    block_start_bytes: u64,
    machine: BlockReadMachine,
    open: Option<Open>,
    ready: VecDeque<Bytes>,
    result: Option<FsResult<()>>,
    started: bool,
    /// When somebody waited last.
    called: Option<Moment>,
    asked: Asked,
    /// What the machine is told next.
    pending: Option<ReadEvent>,
    /// Borrowed descriptors did not do: the node itself is asked, and finds out why.
    over_network: bool,
}

#[derive(Debug)]
struct Open {
    attempt: Attempt,
    host: String,
    port: u32,
    source: Source,
}

/// Where the packets of an attempt come from.
#[derive(Debug)]
enum Source {
    Remote(Replica),
    Local(LocalReplica),
}

impl Source {
    async fn next_packet(&mut self) -> Result<Packet, String> {
        match self {
            Self::Remote(connection) => connection.next_packet().await,
            Self::Local(replica) => replica.next_packet().await,
        }
    }
}

impl Shell for BlockStream {
    type Event = ReadEvent;
    type Effect = ReadEffect;

    fn decide(&mut self, event: ReadEvent, out: &mut Vec<ReadEffect>) {
        self.machine.handle(event, self.inner.rpc.clock.now(), out);
    }
    fn perform(&mut self, effect: ReadEffect) -> impl Future<Output = Option<ReadEvent>> + Send {
        self.act(effect)
    }
}

impl BlockStream {
    /// `offset_bytes` and `len_bytes` are within the block, whose replicas are asked in their order.
    pub(super) fn new(
        inner: Arc<Inner>,
        path: FsPath,
        block: Arc<LocatedBlock>,
        offset_bytes: u64,
        len_bytes: u64,
        asked: Asked,
    ) -> Self {
        let block_start_bytes = block.offset_bytes;
        let machine = BlockReadMachine::new(inner.read.clone(), block, offset_bytes, len_bytes);
        let (open, ready, result) = (None, VecDeque::new(), None);
        let (started, called, pending, over_network) = (false, None, None, false);
        Self {
            inner,
            path,
            block_start_bytes,
            machine,
            open,
            ready,
            result,
            started,
            called,
            asked,
            pending,
            over_network,
        }
    }

    /// The next verified bytes; `None` at the end of the range.
    ///
    /// # Cancel safety
    /// If the future is dropped while packets stream, nothing is lost. If it is dropped while a connection is
    /// made, the next call goes on with another attempt.
    pub(super) async fn next(&mut self) -> FsResult<Option<Bytes>> {
        let (now, called) = (self.inner.rpc.clock.now(), self.called);
        if called.is_some_and(|called| now.since(called) > RESTED) {
            self.handle(ReadEvent::Rested).await;
        }
        loop {
            self.called = Some(self.inner.rpc.clock.now());
            if let Some(bytes) = self.ready.pop_front() {
                return Ok(Some(bytes));
            }
            if let Some(result) = &self.result {
                return result.clone().map(|()| None);
            }
            let event = self.next_event().await;
            self.handle(event).await;
        }
    }

    async fn next_event(&mut self) -> ReadEvent {
        if !self.started {
            self.started = true;
            return ReadEvent::Start;
        }
        if let Some(event) = self.pending.take() {
            return event;
        }
        let deadline = self.machine.next_deadline();
        let Some(open) = &mut self.open else {
            // The connection was being made when a future was dropped: time decides.
            sleep_until(deadline, self.inner.rpc.clock.now()).await;
            return ReadEvent::Tick;
        };
        let attempt = open.attempt;
        tokio::select! {
            biased;
            packet = open.source.next_packet() => match packet {
                Ok(packet) => ReadEvent::Packet { attempt, packet },
                Err(why) => {
                    let failed = ReadEvent::Failed { attempt, why };
                    let Source::Local(replica) = &open.source else { return failed };
                    self.inner.local.forget(replica);
                    self.over_network = true;
                    self.pending = Some(failed);
                    ReadEvent::Rested
                }
            },
            () = sleep_until(deadline, self.inner.rpc.clock.now()) => ReadEvent::Tick,
        }
    }

    async fn handle(&mut self, event: ReadEvent) {
        feed(self, event).await;
    }

    async fn act(&mut self, effect: ReadEffect) -> Option<ReadEvent> {
        match effect {
            ReadEffect::Connect { attempt, location, block, token, offset_bytes, len_bytes } => {
                self.asked.add(&location.node);
                let range = Range { block, token, offset_bytes, len_bytes };
                let within = self.inner.read.open_timeout;
                Some(self.connect(attempt, &location.host, location.transfer_port, &location, &range, within).await)
            }
            ReadEffect::Deliver(bytes) => {
                self.ready.push_back(bytes);
                None
            }
            ReadEffect::Close { .. } => {
                self.open = None;
                None
            }
            ReadEffect::Finish { .. } => {
                self.finish();
                None
            }
            ReadEffect::ReportBad { block, storage } => {
                let inner = Arc::clone(&self.inner);
                let doubt = match self.open.as_ref().map(|open| &open.source) {
                    Some(Source::Local(replica)) => Some(self.inner.local.doubt(replica)),
                    _ => None,
                };
                base::task::spawn(&self.inner.tasks, async move {
                    let certain = match doubt {
                        Some(doubt) => doubt.confirmed(inner.rpc.clock.now()).await,
                        None => true,
                    };
                    if certain {
                        inner.report_bad(block, storage).await;
                    }
                });
                None
            }
            ReadEffect::AvoidNode { node } => {
                self.inner.avoided.add(node, self.inner.rpc.clock.now());
                None
            }
            ReadEffect::Relocate { asked_before } => Some(ReadEvent::Relocated(self.relocate(asked_before).await)),
            ReadEffect::Done(result) => {
                self.result = Some(result.map_err(|error| error.with_path(self.path.as_str())));
                None
            }
        }
    }

    async fn connect(
        &mut self,
        attempt: Attempt,
        host: &str,
        port: u32,
        location: &proto::common::StorageLocation,
        range: &Range,
        within: Duration,
    ) -> ReadEvent {
        let now = self.inner.rpc.clock.now();
        if !self.over_network
            && let Some((replica, response)) = self.inner.local.open(location, range, (now, within)).await
        {
            let source = Source::Local(replica);
            self.open = Some(Open { attempt, host: host.to_owned(), port, source });
            return ReadEvent::Opened { attempt, response };
        }
        if let Some(mut connection) = self.inner.idle.take(host, port, now) {
            // An idle connection may have been closed meanwhile: then a new one is dialled.
            match tokio::time::timeout(within, connection.request(range, &self.inner.name)).await {
                Ok(Ok(response)) => {
                    let source = Source::Remote(connection);
                    self.open = Some(Open { attempt, host: host.to_owned(), port, source });
                    return ReadEvent::Opened { attempt, response };
                }
                Ok(Err(why)) => tracing::trace!("an idle connection is gone: {why}"),
                // A node that is silent here would be silent on a new connection as well.
                Err(elapsed) => {
                    return ReadEvent::Failed { attempt, why: format!("no answer to the request ({elapsed})") };
                }
            }
        }
        let unreachable = || self.inner.avoided.add_unreachable(location.node.clone(), now);
        let dialled = tokio::time::timeout(within, async {
            let mut connection = Replica::dial(location, within).await.inspect_err(|_| unreachable())?;
            let response = connection.request(range, &self.inner.name).await?;
            Ok::<_, String>((connection, response))
        });
        match dialled.await {
            Ok(Ok((connection, response))) => {
                let source = Source::Remote(connection);
                self.open = Some(Open { attempt, host: host.to_owned(), port, source });
                ReadEvent::Opened { attempt, response }
            }
            Ok(Err(why)) => ReadEvent::Failed { attempt, why },
            Err(elapsed) => {
                unreachable();
                ReadEvent::Failed { attempt, why: format!("no answer to the request ({elapsed})") }
            }
        }
    }

    /// Everything was read and verified: keeps the connection for the next read, which says so.
    fn finish(&mut self) {
        let Some(Open { host, port, source, .. }) = self.open.take() else { return };
        self.asked.served_by(&self.inner.avoided);
        let Source::Remote(mut connection) = source else { return };
        connection.confirm();
        if connection.is_clean() && self.inner.idle.put(host, port, connection, self.inner.rpc.clock.now()) {
            let (idle, clock) = (Arc::downgrade(&self.inner.idle), Arc::clone(&self.inner.rpc.clock));
            base::task::spawn(&self.inner.rests, idle::settle(idle, clock));
        }
    }

    async fn relocate(&self, asked_before: u32) -> FsResult<LocatedBlock> {
        if asked_before > 0 {
            tokio::time::sleep(RELOCATE_PAUSE).await;
        }
        let answer = self.inner.open(&self.path, self.block_start_bytes, 1, self.inner.deadline()).await?;
        let mut found = answer.blocks.into_iter().find(|block| block.offset_bytes == self.block_start_bytes);
        if let Some(block) = &mut found {
            self.inner.avoided.order(&mut block.locations, self.inner.rpc.clock.now());
        }
        found.ok_or_else(|| {
            FsError::new(ErrorCode::NotFound, "the file was replaced by a shorter one while it was read")
        })
    }
}
