//! One replica, read whole over the network and verified: for those who want to know whether it is sound, not what is
//! in the file. No other replica takes its place.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use proto::common::{LocatedBlock, StorageLocation};
use proto::error::{ErrorCode, FsError, FsResult};

use super::replica::{Range, Replica};
use super::shell::{Shell, feed};
use super::{Attempt, BlockReadMachine, ReadConfig, ReadEffect, ReadEvent};
use crate::client::{Client, Inner};
use crate::write::sleep_until;

/// A replica that is being read from its beginning to its end.
///
/// Damage that is found is told to the namenode, which has it repaired.
#[derive(Debug)]
pub struct ReplicaReader {
    inner: Arc<Inner>,
    machine: BlockReadMachine,
    open: Option<(Attempt, Replica)>,
    ready: VecDeque<Bytes>,
    result: Option<FsResult<()>>,
    started: bool,
    damaged: bool,
}

impl Client {
    /// Begins to read the replica of a block that one storage holds; both come from
    /// [`Reader::blocks`](super::Reader::blocks). Nothing is dialled before the first [`ReplicaReader::next`].
    #[must_use]
    pub fn read_replica(&self, block: &LocatedBlock, at: &StorageLocation) -> ReplicaReader {
        let alone = LocatedBlock { locations: vec![at.clone()], ..block.clone() };
        let len_bytes = block.block.as_ref().map_or(0, |block| block.len_bytes);
        // Without relocations a replica that fails is not replaced by another one.
        let config = ReadConfig { relocations: 0, ..self.inner.read.clone() };
        ReplicaReader {
            machine: BlockReadMachine::new(config, alone, 0, len_bytes),
            inner: Arc::clone(&self.inner),
            open: None,
            ready: VecDeque::new(),
            result: None,
            started: false,
            damaged: false,
        }
    }
}

impl Shell for ReplicaReader {
    type Event = ReadEvent;
    type Effect = ReadEffect;

    fn decide(&mut self, event: ReadEvent, out: &mut Vec<ReadEffect>) {
        self.machine.handle(event, self.inner.rpc.clock.now(), out);
    }
    fn perform(&mut self, effect: ReadEffect) -> impl Future<Output = Option<ReadEvent>> + Send {
        self.act(effect)
    }
}

impl ReplicaReader {
    /// The next bytes, verified against their checksums; `None` at the end, when the whole replica was sound.
    ///
    /// # Errors
    /// [`ErrorCode::Corrupt`] for bytes that do not match their checksums; [`ErrorCode::NoReplica`] if the node cannot
    /// be reached, or does not give the whole replica, with what was seen. Every later call says the same.
    ///
    /// # Cancel safety
    /// None: a reader whose future was dropped is to be dropped, too.
    pub async fn next(&mut self) -> FsResult<Option<Bytes>> {
        if !self.started {
            self.started = true;
            feed(self, ReadEvent::Start).await;
        }
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Ok(Some(bytes));
            }
            if let Some(result) = &self.result {
                return result.clone().map(|()| None);
            }
            let event = self.next_event().await;
            feed(self, event).await;
        }
    }

    async fn next_event(&mut self) -> ReadEvent {
        let deadline = sleep_until(self.machine.next_deadline(), self.inner.rpc.clock.now());
        let Some((attempt, connection)) = &mut self.open else {
            deadline.await;
            return ReadEvent::Tick;
        };
        let attempt = *attempt;
        tokio::select! {
            biased;
            packet = connection.next_packet() => match packet {
                Ok(packet) => ReadEvent::Packet { attempt, packet },
                Err(why) => ReadEvent::Failed { attempt, why },
            },
            () = deadline => ReadEvent::Tick,
        }
    }

    async fn act(&mut self, effect: ReadEffect) -> Option<ReadEvent> {
        match effect {
            ReadEffect::Connect { attempt, location, block, token, offset_bytes, len_bytes } => {
                let range = Range { block, token, offset_bytes, len_bytes };
                return Some(self.connect(attempt, &location, &range).await);
            }
            ReadEffect::Deliver(bytes) => self.ready.push_back(bytes),
            ReadEffect::Close { .. } => self.open = None,
            ReadEffect::Finish { .. } => {
                // It says so when it goes.
                if let Some((_, mut connection)) = self.open.take() {
                    connection.confirm();
                }
            }
            ReadEffect::ReportBad { block, storage } => {
                self.damaged = true;
                self.inner.report_bad(block, storage).await;
            }
            // Whoever examines a node says nothing of whether others should read from it.
            ReadEffect::AvoidNode { .. } => {}
            // It does not come to this: see the number of relocations.
            ReadEffect::Relocate { .. } => {
                let error = FsError::new(ErrorCode::NoReplica, "the replica cannot be read");
                return Some(ReadEvent::Relocated(Err(error)));
            }
            ReadEffect::Done(result) => {
                let damaged = self.damaged;
                self.result = Some(result.map_err(|error| match damaged {
                    true => FsError::new(ErrorCode::Corrupt, error.message),
                    false => error,
                }));
            }
        }
        None
    }

    async fn connect(&mut self, attempt: Attempt, location: &StorageLocation, range: &Range) -> ReadEvent {
        let within = self.inner.read.open_timeout;
        let dialled = tokio::time::timeout(within, async {
            let mut connection = Replica::dial(location, within).await?;
            let response = connection.request(range, &self.inner.name).await?;
            Ok::<_, String>((connection, response))
        });
        match dialled.await {
            Ok(Ok((connection, response))) => {
                self.open = Some((attempt, connection));
                ReadEvent::Opened { attempt, response }
            }
            Ok(Err(why)) => ReadEvent::Failed { attempt, why },
            Err(elapsed) => ReadEvent::Failed { attempt, why: format!("no answer to the request ({elapsed})") },
        }
    }
}
