//! The socket to one replica: a request goes out, an answer and packets come in.

use std::time::Duration;

use super::idle::Connection;
use base::net::{self, TcpStream};
use bytes::{BufMut, Bytes, BytesMut};
use proto::common::{Block, StorageLocation};
use proto::transfer::BlockOpResponse;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use transfer::{BlockRef, Packet, ReadSetup, Status, decode_delimited, reply};

/// Bytes of the lengths in front of a packet.
const LENGTHS_BYTES: usize = 6;
/// What is asked of the socket while the length of what comes is not known.
const FIRST_READ_BYTES: usize = 1024;
/// Room made at once for a packet, however long it claims to be.
const MAX_ROOM_BYTES: usize = 1 << 20;

/// A connection to a datanode, for reads.
#[derive(Debug)]
pub(crate) struct Replica {
    stream: TcpStream,
    inbox: BytesMut,
    /// Length of the last packet: most likely also of the next one.
    packet_bytes: usize,
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
        Ok(Self { stream, inbox: BytesMut::new(), packet_bytes: FIRST_READ_BYTES })
    }

    /// Sends a read request and waits for its answer.
    pub(super) async fn request(&mut self, range: &Range, client_name: &str) -> Result<BlockOpResponse, String> {
        let request = encode(range, client_name)?;
        self.stream.write_all(&request).await.map_err(|error| error.to_string())?;
        loop {
            let decoded = decode_delimited(&mut self.inbox, "reply").map_err(|error| error.to_string())?;
            if let Some(response) = decoded {
                return Ok(response);
            }
            // A little only: packets follow the answer, and what is here now has to be copied for them.
            self.receive(FIRST_READ_BYTES).await?;
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

    /// Tells the datanode that all chunks verified.
    pub(super) async fn confirm(&mut self) -> Result<(), String> {
        self.stream.write_all(&reply::read_status(Status::ChecksumOk)).await.map_err(|error| error.to_string())
    }

    /// May another request follow? Not with bytes left over that nobody asked for.
    pub(super) fn is_clean(&self) -> bool {
        self.inbox.is_empty()
    }

    /// Receives at most `want_bytes` more: exactly a packet is read into a buffer, so that its data are never moved.
    async fn receive(&mut self, want_bytes: usize) -> Result<(), String> {
        self.inbox.reserve(want_bytes);
        match self.stream.read_buf(&mut (&mut self.inbox).limit(want_bytes)).await {
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
}
