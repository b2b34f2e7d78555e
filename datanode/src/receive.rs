//! Receiving a block: packets in, a durable replica and acks out. No sockets here.
//!
//! ```text
//!   packet ─▶ PacketSink::check ─▶ (forward to the next node) ─▶ PacketSink::store ─▶ AckTracker ─▶ ack upstream
//!                                                                 next node's ack ─▶┘
//! ```
//!
//! Every node verifies every chunk before it forwards, stores or acknowledges. The last ack of a node means
//! that its replica is finalised: data, checksums, trailer and names are durable.
//!
//! The server runs the sink and the tracker on two threads; [`BlockReceiver`] joins them for the simulation.

mod acks;

use proto::common::Receipt;
use transfer::ack::CLOSE_RECOVERY_SEQNO;
use transfer::{Ack, PacketView, Status, digest};

pub use acks::{AckTracker, LocalDone};

use crate::node::Node;
use crate::store::{FinalisedReplica, ReplicaWriter, StoreError};

/// Verifies and stores the packets of one block.
#[derive(Debug)]
pub struct PacketSink {
    writer: ReplicaWriter,
    finalised: Option<FinalisedReplica>,
}

impl PacketSink {
    /// A sink that writes into a replica.
    #[must_use]
    pub const fn new(writer: ReplicaWriter) -> Self {
        Self { writer, finalised: None }
    }
    /// Is the packet what its sender made? To be asked before it is forwarded.
    ///
    /// # Errors
    /// The outcome to be acknowledged if not; nothing of the packet may be used.
    pub fn check(&self, packet: &PacketView<'_>) -> Result<(), LocalDone> {
        if base::mutated!(Sc82DamageIsCopiedOn) {
            return Ok(());
        }
        let intact = self.writer.chunks().verify(packet.data, packet.checksums);
        intact.map_err(|mismatch| {
            tracing::warn!(seqno = packet.head.seqno, %mismatch, "a packet arrived damaged");
            failed(packet, Status::ErrorChecksum)
        })?;
        if !packet.leaves_intact() {
            tracing::warn!(
                seqno = packet.head.seqno,
                "the leaves of a packet and their checksum do not belong together"
            );
            return Err(failed(packet, Status::ErrorChecksum));
        }
        if !packet.is_heartbeat() {
            self.writer.open().note_received(end_of(packet));
        }
        Ok(())
    }
    /// Stores a checked packet; finalises the replica with the last one. Waits for the disk.
    pub fn store(&mut self, node: &Node, packet: &PacketView<'_>) -> LocalDone {
        match self.try_store(packet) {
            Ok(()) => LocalDone {
                seqno: packet.head.seqno,
                status: Status::Success,
                last: packet.head.last,
                receipt: self.finalised.as_ref().and_then(|replica| receipt(node, replica)),
            },
            Err(error) => {
                tracing::warn!(seqno = packet.head.seqno, error = %chain(&error), "a packet was not stored");
                failed(packet, error.status())
            }
        }
    }
    /// Finalises the replica as it is, at the word of a writer whose last packet was not acknowledged: what is then said
    /// stands for the ack of that packet. Waits for the disk.
    pub fn close(&mut self, node: &Node) -> LocalDone {
        let seqno = CLOSE_RECOVERY_SEQNO;
        match self.writer.finalise_as_it_is() {
            Ok(replica) => {
                let receipt = receipt(node, &replica);
                self.finalised = Some(replica);
                LocalDone { seqno, status: Status::Success, last: true, receipt }
            }
            Err(error) => {
                tracing::warn!(error = %chain(&error), "a replica was not closed");
                LocalDone { seqno, status: error.status(), last: true, receipt: None }
            }
        }
    }
    /// The replica, once the last packet is stored.
    #[must_use]
    pub const fn finalised(&self) -> Option<&FinalisedReplica> {
        self.finalised.as_ref()
    }
    /// The replica's writer.
    #[must_use]
    pub const fn writer(&self) -> &ReplicaWriter {
        &self.writer
    }

    fn try_store(&mut self, packet: &PacketView<'_>) -> Result<(), StoreError> {
        if packet.is_heartbeat() {
            // A client that only waits is to learn that its replica is somebody else's now.
            return self.writer.check_goes_on();
        }
        if !packet.data.is_empty() {
            self.writer.write(packet.head.offset_bytes, packet.data, packet.checksums)?;
        }
        let leaves = digest::parse_leaves(packet.leaves).unwrap_or_default();
        self.writer.add_leaves(leaves, end_of(packet), packet.head.last)?;
        // Before the packet is told as done: its ack moves the mark.
        let mark = self.writer.mark_of(packet.head.offset_bytes, packet.data.len(), packet.checksums);
        if let Some(mark) = mark.filter(|mark| mark.len_bytes <= self.writer.len_bytes()) {
            self.writer.open().note_pending(packet.head.seqno, mark);
        }
        if packet.head.last {
            // The end must be where the sender says: a shorter replica would be whole in nobody's eyes but ours.
            let (end_bytes, len_bytes) = (end_of(packet), self.writer.len_bytes());
            // A copy may come to where more is already.
            if end_bytes != len_bytes && !(self.writer.stays_open() && end_bytes < len_bytes) {
                return Err(self.writer.not_continuous(end_bytes));
            }
            if self.writer.stays_open() {
                // Some of it was made durable where it came from, and was acknowledged so.
                self.writer.sync_copy()?;
            } else {
                self.finalised = Some(self.writer.finalise()?);
            }
        } else if packet.head.sync {
            self.writer.sync()?;
        }
        Ok(())
    }
}

const fn end_of(packet: &PacketView<'_>) -> u64 {
    packet.head.offset_bytes.saturating_add(packet.data.len() as u64)
}

fn failed(packet: &PacketView<'_>, status: Status) -> LocalDone {
    LocalDone { seqno: packet.head.seqno, status, last: packet.head.last, receipt: None }
}

/// An error with its causes, for one log line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

fn receipt(node: &Node, replica: &FinalisedReplica) -> Option<Receipt> {
    let what = auth::receipt::Finalised {
        pool: &replica.pool,
        block: replica.id,
        stamp: replica.stamp,
        len_bytes: replica.len_bytes,
        storage: &replica.storage,
    };
    let mac = node.with_keys(|keys| auth::receipt::make(keys, &what))?;
    Some(Receipt {
        storage: replica.storage.to_string(),
        node: node.id().to_string(),
        stamp: replica.stamp.raw(),
        len_bytes: replica.len_bytes,
        mac: mac.into(),
    })
}

/// What the receiver of a block wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum ReceiveEffect {
    /// Send the packet that was just given on to the next node.
    Forward,
    /// Send this ack upstream.
    Ack(Ack),
    /// The block is whole on every node of the rest of the pipeline; the connection ends.
    Finished,
    /// The block failed and the last ack said so; the connection ends.
    Failed,
}

/// One node's part in writing one block: sink and tracker in one, driven by one thread.
#[derive(Debug)]
pub struct BlockReceiver {
    sink: PacketSink,
    acks: AckTracker,
    has_next: bool,
    ended: bool,
}

impl BlockReceiver {
    /// A receiver; `has_next` says whether there is another node behind this one.
    #[must_use]
    pub const fn new(writer: ReplicaWriter, has_next: bool) -> Self {
        Self { sink: PacketSink::new(writer), acks: AckTracker::new(has_next), has_next, ended: false }
    }
    /// Takes a packet.
    pub fn on_packet(&mut self, node: &Node, packet: &PacketView<'_>, out: &mut Vec<ReceiveEffect>) {
        if self.ended {
            return;
        }
        let done = match self.sink.check(packet) {
            Err(damaged) => damaged,
            Ok(()) => {
                if self.has_next {
                    out.push(ReceiveEffect::Forward);
                }
                self.sink.store(node, packet)
            }
        };
        self.acks.done_here(done);
        self.flush(out);
    }
    /// Finalises the replica after the set-up of `PipelineCloseRecovery`, to which no packet comes.
    pub fn on_close(&mut self, node: &Node, out: &mut Vec<ReceiveEffect>) {
        if !self.ended {
            let done = self.sink.close(node);
            self.acks.done_here(done);
            self.flush(out);
        }
    }
    /// Takes an ack of the next node.
    pub fn on_downstream_ack(&mut self, ack: Ack, out: &mut Vec<ReceiveEffect>) {
        self.acks.from_below(ack);
        self.flush(out);
    }
    /// The next node is gone.
    pub fn on_downstream_lost(&mut self, out: &mut Vec<ReceiveEffect>) {
        self.acks.below_lost();
        self.flush(out);
    }
    /// What was received so far.
    #[must_use]
    pub const fn sink(&self) -> &PacketSink {
        &self.sink
    }

    fn flush(&mut self, out: &mut Vec<ReceiveEffect>) {
        while let Some(ack) = self.acks.next_ack() {
            if ack.first_bad().is_none() {
                self.sink.writer.open().acknowledged(ack.seqno);
            }
            out.push(ReceiveEffect::Ack(ack));
        }
        if !self.ended && (self.acks.finished() || self.acks.closed()) {
            self.ended = true;
            out.push(if self.acks.finished() { ReceiveEffect::Finished } else { ReceiveEffect::Failed });
        }
    }
}

#[cfg(test)]
mod tests;
