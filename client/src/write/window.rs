//! Packets of one block from the moment they are cut until they are acknowledged.

use std::collections::VecDeque;

use transfer::{ChunkFormat, Packet};

/// Packets that are not acknowledged: first those that were sent, then those that wait for the pipeline.
#[derive(Debug, Default)]
pub(crate) struct Window {
    packets: VecDeque<Packet>,
    sent: usize,
    bytes: usize,
}

impl Window {
    pub(crate) fn push(&mut self, packet: Packet) {
        self.bytes += packet.data.len();
        self.packets.push_back(packet);
    }
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }
    /// The oldest packet that is not acknowledged.
    pub(crate) fn front(&self) -> Option<&Packet> {
        self.packets.front()
    }
    /// Is a sent packet waiting for its ack?
    pub(crate) const fn waits_for_ack(&self) -> bool {
        self.sent > 0
    }
    /// Is a sent packet waiting for its ack that every node syncs first?
    pub(crate) fn waits_for_sync(&self) -> bool {
        self.packets.iter().take(self.sent).any(|packet| packet.head.sync)
    }
    /// The next packet to send, now counted as sent.
    pub(crate) fn send_next(&mut self) -> Option<Packet> {
        let packet = self.packets.get(self.sent)?.clone();
        self.sent += 1;
        Some(packet)
    }
    /// Number of the packet whose ack must come next.
    pub(crate) fn expected_seqno(&self) -> Option<i64> {
        if self.sent == 0 { None } else { self.packets.front().map(|packet| packet.head.seqno) }
    }
    /// Removes the oldest packet, which is acknowledged.
    pub(crate) fn acknowledge(&mut self) -> Option<Packet> {
        let packet = self.packets.pop_front()?;
        self.sent = self.sent.saturating_sub(1);
        self.bytes -= packet.data.len();
        Some(packet)
    }
    /// Everything has to be sent again, on another pipeline.
    pub(crate) const fn rewind(&mut self) {
        self.sent = 0;
    }
    /// Does the oldest packet not fit the checksums that were made for it here?
    pub(crate) fn first_is_damaged(&self) -> bool {
        self.front().is_some_and(|packet| ChunkFormat::CRC32C_512.verify(&packet.data, &packet.checksums).is_err())
    }
}
