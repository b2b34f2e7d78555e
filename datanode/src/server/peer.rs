//! A peer on a data connection: what it says is received in pieces that hold several short messages, what it is told is
//! gathered, so that a short answer leaves with one call.

use std::io::{self, BufReader, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use base::net::{BlockingStream, Counted};
use proto::transfer::BlockOpResponse;
use transfer::{encode_delimited, reply};

use crate::node::Refusal;

/// What is received at a time, at most: an operation with its tokens, the head of a packet. Longer parts of packets do not
/// pass through here.
const RECEIVE_BYTES: usize = 4 * 1024;
/// Room that is kept for the next short answer.
const KEEP_BYTES: usize = 64 * 1024;

/// The other end of a connection.
#[derive(Debug)]
pub(super) struct Peer<'a> {
    stream: &'a Arc<BlockingStream>,
    reader: BufReader<Counted<'a>>,
    /// How long a receive waits now.
    patience: Option<Duration>,
    /// Told with the next [`Peer::tell`].
    pub(super) gathered: Vec<u8>,
}

impl<'a> Peer<'a> {
    pub(super) fn new(stream: &'a Arc<BlockingStream>) -> Self {
        let reader = BufReader::with_capacity(RECEIVE_BYTES, Counted(stream));
        Self { stream, reader, patience: None, gathered: Vec::new() }
    }
    /// The socket. What was received of it already is not in there any more.
    pub(super) const fn stream(&self) -> &'a Arc<BlockingStream> {
        self.stream
    }
    /// Sets how long each receive waits from now on.
    pub(super) fn within(&mut self, patience: Duration) -> io::Result<()> {
        if self.patience != Some(patience) {
            self.stream.set_read_timeout(Some(patience))?;
            self.patience = Some(patience);
        }
        Ok(())
    }
    /// Sends what is gathered.
    pub(super) fn tell(&mut self) -> io::Result<()> {
        let told = Counted(self.stream).write_all(&self.gathered);
        self.gathered.clear();
        self.gathered.shrink_to(KEEP_BYTES);
        told
    }
    /// Sends an answer to a set-up.
    pub(super) fn answer(&mut self, response: &BlockOpResponse) -> io::Result<()> {
        self.gathered.extend_from_slice(&encode_delimited(response));
        self.tell()
    }
    /// Says that an operation is refused.
    pub(super) fn refuse(&mut self, refusal: &Refusal, bad_link: &str) -> io::Result<()> {
        self.answer(&reply::refused(refusal.status, &refusal.message, bad_link))
    }
}

/// What the peer says.
impl Read for Peer<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
    }
    fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let here = self.reader.buffer().len().min(buffer.len());
        let (front, rest) = buffer.split_at_mut(here);
        if rest.len() < RECEIVE_BYTES {
            return self.reader.read_exact(buffer);
        }
        self.reader.read_exact(front)?;
        self.reader.get_mut().read_exact(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use transfer::{ChunkFormat, Op, Packet, PacketBuffer, Status};

    /// Two ends of a connection.
    fn pair() -> (BlockingStream, Arc<BlockingStream>) {
        let listener = base::net::listen_blocking(([127, 0, 0, 1], 0).into()).unwrap();
        let port = listener.local_addr().unwrap().port();
        let ours = base::net::dial_blocking("127.0.0.1", port, Duration::from_secs(5)).unwrap();
        (ours, Arc::new(listener.accept().unwrap().0))
    }

    #[test]
    fn messages_that_come_together_are_taken_one_by_one_and_long_ones_whole() {
        let (mut ours, theirs) = pair();
        let setup = transfer::ReadSetup {
            block: transfer::BlockRef {
                pool: proto::ids::PoolId::new("1"),
                id: proto::ids::BlockId::FIRST,
                stamp: proto::ids::GenerationStamp::FIRST,
                len_bytes: 9,
            },
            token: Bytes::new(),
            client_name: "c".to_owned(),
            offset_bytes: 0,
            len_bytes: 9,
            send_checksums: true,
        };
        let op = setup.to_op().unwrap();
        let packet = Packet::with_data(ChunkFormat::CRC32C_512, 0, 0, Bytes::from(vec![7; 300_000]));
        let mut bytes = bytes::BytesMut::from(&reply::read_status(Status::ChecksumOk)[..]);
        bytes.extend_from_slice(&op.encode());
        packet.encode_into(&mut bytes);
        bytes.extend_from_slice(&op.encode());
        let sends = std::thread::scope(|scope| {
            scope.spawn(|| ours.write_all(&bytes).unwrap());
            let mut peer = Peer::new(&theirs);
            assert_eq!(reply::read_read_status(&mut peer).unwrap(), Status::ChecksumOk);
            assert_eq!(Op::read(&mut peer).unwrap(), op);
            let mut buffer = PacketBuffer::new();
            assert_eq!(buffer.read(&mut peer).unwrap().to_owned(), packet);
            assert_eq!(Op::read(&mut peer).unwrap(), op);
            peer.gathered.extend_from_slice(b"ab");
            peer.gathered.extend_from_slice(b"c");
            peer.tell().unwrap();
            peer.gathered.is_empty()
        });
        assert!(sends, "what was told is not told again");
        let mut told = [0; 3];
        ours.read_exact(&mut told).unwrap();
        assert_eq!(&told, b"abc");
    }

    #[test]
    fn a_peer_that_says_nothing_is_waited_for_as_long_as_was_said_last() {
        let (_ours, theirs) = pair();
        let mut peer = Peer::new(&theirs);
        for patience in [Duration::from_secs(60), Duration::from_millis(20), Duration::from_millis(20)] {
            peer.within(patience).unwrap();
        }
        let error = peer.read(&mut [0]).unwrap_err();
        assert!(matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut), "{error}");
    }
}
