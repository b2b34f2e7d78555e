//! The socket to one replica: a request goes out, an answer and packets come in.

use std::time::Duration;

use super::idle::Connection;
use base::net::{self, TcpStream};
use bytes::{Bytes, BytesMut};
use proto::common::{Block, StorageLocation};
use proto::transfer::BlockOpResponse;
use transfer::{BlockRef, Packet, ReadSetup, Status, decode_delimited, reply};

/// Bytes of the lengths in front of a packet.
const LENGTHS_BYTES: usize = 6;
/// What is asked of the socket while the length of what comes is not known.
const FIRST_READ_BYTES: usize = 1024;
/// Longest range whose answer is received with one call.
const SHORT_BYTES: usize = 32 * 1024;
/// Room made at once for a packet, however long it claims to be.
const MAX_ROOM_BYTES: usize = 1 << 20;

/// A connection to a datanode, for reads.
#[derive(Debug)]
pub(crate) struct Replica {
    stream: TcpStream,
    inbox: BytesMut,
    /// Length of the last packet: most likely also of the next one.
    packet_bytes: usize,
    /// A read is over and well, and the datanode was not told yet.
    owes: bool,
}

/// What is read of a replica.
#[derive(Debug)]
pub(super) struct Range {
    pub(super) block: Block,
    pub(super) token: Bytes,
    pub(super) offset_bytes: u64,
    pub(super) len_bytes: u64,
}

impl Replica {
    /// Dials a replica's node.
    pub(super) async fn dial(location: &StorageLocation, within: Duration) -> Result<Self, String> {
        let port = u16::try_from(location.transfer_port).map_err(|error| error.to_string())?;
        let stream = net::dial(&location.host, port, within).await.map_err(|error| error.to_string())?;
        Ok(Self { stream, inbox: BytesMut::new(), packet_bytes: FIRST_READ_BYTES, owes: false })
    }

    /// Sends a read request, behind the last word on the read before, and waits for its answer.
    pub(super) async fn request(&mut self, range: &Range, client_name: &str) -> Result<BlockOpResponse, String> {
        let mut request = if self.owes { last_word() } else { Vec::new() };
        request.extend_from_slice(&encode(range, client_name)?);
        self.owes = false;
        net::send_all(&mut self.stream, &request).await.map_err(|error| error.to_string())?;
        let answer_bytes = answer_bytes(range.len_bytes);
        loop {
            let decoded = decode_delimited(&mut self.inbox, "reply").map_err(|error| error.to_string())?;
            if let Some(response) = decoded {
                return Ok(response);
            }
            self.receive(answer_bytes).await?;
        }
    }

    /// The next packet.
    ///
    /// # Cancel safety
    /// Nothing is lost if the future is dropped.
    pub(super) async fn next_packet(&mut self) -> Result<Packet, String> {
        loop {
            let had_bytes = self.inbox.len();
            if let Some(packet) = Packet::decode(&mut self.inbox).map_err(|error| error.to_string())? {
                self.packet_bytes = had_bytes - self.inbox.len();
                return Ok(packet);
            }
            self.receive(missing_bytes(&self.inbox, self.packet_bytes)).await?;
        }
    }

    /// All chunks verified: the datanode is told with the next request, or when the connection has rested for a while, or
    /// when it goes.
    pub(super) const fn confirm(&mut self) {
        self.owes = true;
    }

    /// May another request follow? Not with bytes left over that nobody asked for.
    pub(super) fn is_clean(&self) -> bool {
        self.inbox.is_empty()
    }

    /// Receives at most `want_bytes` more: exactly a packet is read into a buffer, so that its data are never moved.
    async fn receive(&mut self, want_bytes: usize) -> Result<(), String> {
        match net::receive(&mut self.stream, &mut self.inbox, want_bytes).await {
            Ok(0) => Err("it closed the connection".to_owned()),
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Connection for Replica {
    fn is_quiet(&self) -> bool {
        // A socket that was closed is readable, and says 0.
        let seen = self.stream.try_read(&mut [0]);
        self.inbox.is_empty() && seen.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    }
    fn owes(&self) -> bool {
        self.owes
    }
    fn settle(&mut self) -> bool {
        if !std::mem::take(&mut self.owes) {
            return true;
        }
        let word = last_word();
        self.stream.try_write(&word).is_ok_and(|sent_bytes| sent_bytes == word.len())
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        // A courtesy: the datanode would find out by itself that nobody is there.
        if !self.settle() {
            tracing::trace!("a datanode did not hear the last word on a read");
        }
    }
}

/// All chunks verified.
fn last_word() -> Vec<u8> {
    reply::read_status(Status::ChecksumOk)
}

/// Bytes to ask the socket for when the answer to a request is waited for. Of a long answer a little only: packets follow,
/// and what comes now has to be copied for them. A short one comes whole: the answer, a packet with chunks of 512 bytes
/// and two more than are wanted, and the packet that ends it; what it is longer comes next.
fn answer_bytes(range_bytes: u64) -> usize {
    match usize::try_from(range_bytes) {
        Ok(range_bytes) if range_bytes <= SHORT_BYTES => {
            range_bytes + range_bytes / 128 + 2 * 516 + FIRST_READ_BYTES / 4
        }
        _ => FIRST_READ_BYTES,
    }
}

fn encode(range: &Range, client_name: &str) -> Result<Vec<u8>, String> {
    let setup = ReadSetup {
        block: BlockRef::from_common(&range.block).map_err(|error| error.to_string())?,
        token: range.token.clone(),
        client_name: client_name.to_owned(),
        offset_bytes: range.offset_bytes,
        len_bytes: range.len_bytes,
        send_checksums: true,
    };
    Ok(setup.to_op().map_err(|error| error.to_string())?.encode())
}

/// Bytes that the packet at the front of a buffer still needs, as far as its lengths say; before, as many as the last
/// packet had: so that it is received at once, and a shorter one leaves little behind it that has to be moved.
fn missing_bytes(inbox: &[u8], last_packet_bytes: usize) -> usize {
    let Some(&[a, b, c, d, e, f]) = inbox.get(..LENGTHS_BYTES) else {
        return last_packet_bytes.clamp(FIRST_READ_BYTES, MAX_ROOM_BYTES);
    };
    let total = u32::from_be_bytes([a, b, c, d]) as usize + usize::from(u16::from_be_bytes([e, f])) + 2;
    total.saturating_sub(inbox.len()).clamp(1, MAX_ROOM_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use transfer::ChunkFormat;

    #[test]
    fn the_missing_bytes_end_at_the_packets_end() {
        let packet = Packet::with_data(ChunkFormat::CRC32C_512, 0, 0, Bytes::from(vec![1; 5000]));
        let mut bytes = BytesMut::new();
        packet.encode_into(&mut bytes);
        for have in 6..bytes.len() {
            assert_eq!(missing_bytes(&bytes[..have], 0), bytes.len() - have);
        }
        assert_eq!(missing_bytes(&bytes[..3], 0), FIRST_READ_BYTES);
        assert_eq!(missing_bytes(&[], 5000), 5000, "as the last one");
        assert_eq!(missing_bytes(&[], 16 << 20), MAX_ROOM_BYTES);
        assert_eq!(missing_bytes(&[0x7f; 6], 0), MAX_ROOM_BYTES, "a claim of 2 GiB gets no room");
    }

    #[test]
    fn a_short_answer_comes_at_once() {
        for (len, start) in [(1_usize, 511_usize), (4096, 0), (4096, 1), (32 * 1024, 300)] {
            let end = (start + len).next_multiple_of(512);
            let packet = Packet::with_data(ChunkFormat::CRC32C_512, 0, 0, Bytes::from(vec![1; end]));
            let mut answer =
                BytesMut::from(&transfer::encode_delimited(&reply::reading(ChunkFormat::CRC32C_512, 1 << 35))[..]);
            packet.encode_into(&mut answer);
            Packet::last(1, 1 << 35, false).encode_into(&mut answer);
            let room = answer_bytes(len as u64);
            // A little more than that: then the socket is known to be empty without another look.
            assert!(room > answer.len() && room < answer.len() + 2000, "{len}: {room} for {}", answer.len());
        }
        assert_eq!(answer_bytes(1 << 40), FIRST_READ_BYTES);
    }
}
