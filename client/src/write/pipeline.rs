//! The socket to the first node of a pipeline: packets go down, acks come up.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::time::Duration;

use base::net::{self, TcpStream};
use bytes::{Buf, Bytes, BytesMut};
use proto::common::LocatedBlock;
use proto::ids::GenerationStamp;
use proto::transfer::BlockOpResponse;
use transfer::{Ack, BlockRef, ChunkFormat, Packet, Status, Target, WriteSetup, WriteStage, decode_delimited, reply};

use super::PipelineBegin;

/// What is received of answers and acks at a time.
const RECEIVE_BYTES: usize = 1024;

/// An open pipeline.
#[derive(Debug)]
pub(super) struct Pipeline {
    read: net::ReadHalf,
    write: net::WriteHalf,
    inbox: BytesMut,
    outbox: Outbox,
}

/// Why a pipeline failed: the node at fault, if known, and what was seen.
pub(super) type Fault = (Option<usize>, String);

/// Why a pipeline does not come up.
#[derive(Debug)]
pub(super) struct Unopened {
    pub(super) fault: Fault,
    /// Nobody answered at the node at fault; else it refused.
    pub(super) unreachable: bool,
}

impl From<Fault> for Unopened {
    fn from(fault: Fault) -> Self {
        Self { fault, unreachable: false }
    }
}

impl Pipeline {
    /// Dials the first node, sends the set-up and waits until the whole pipeline is ready.
    pub(super) async fn open(
        block: &LocatedBlock,
        begin: &PipelineBegin,
        client_name: &str,
        within: Duration,
    ) -> Result<Self, Unopened> {
        match tokio::time::timeout(within, Self::set_up(block, begin, client_name, within)).await {
            Ok(result) => result,
            Err(elapsed) => Err((None, format!("the pipeline was not set up in time ({elapsed})")).into()),
        }
    }

    async fn set_up(
        block: &LocatedBlock,
        begin: &PipelineBegin,
        client_name: &str,
        within: Duration,
    ) -> Result<Self, Unopened> {
        let nobody = |why: String| Unopened::from((None, why));
        let refused = |why: String| Unopened::from((Some(0), why));
        let request = setup_request(block, begin, client_name).map_err(nobody)?;
        let first = block.locations.first().ok_or_else(|| nobody("the block has no node".to_owned()))?;
        let port = u16::try_from(first.transfer_port).map_err(|error| refused(error.to_string()))?;
        let failed = |error: std::io::Error| Unopened { fault: (Some(0), error.to_string()), unreachable: true };
        let stream = net::dial(&first.host, port, within).await.map_err(failed)?;
        let (read, write) = TcpStream::into_split(stream);
        let mut pipeline =
            Self { read, write, inbox: BytesMut::with_capacity(RECEIVE_BYTES), outbox: Outbox::default() };
        net::send_all(&mut pipeline.write, &request).await.map_err(failed)?;
        let response = loop {
            let decoded = decode_delimited::<BlockOpResponse>(&mut pipeline.inbox, "reply");
            if let Some(response) = decoded.map_err(|error| refused(error.to_string()))? {
                break response;
            }
            pipeline.receive().await?;
        };
        match reply::status_of(&response) {
            Status::Success => Ok(pipeline),
            status => {
                let fault = (Some(blame(block, &response)), format!("{} {}", status.as_str_name(), response.message()));
                // A node that names another one has got no answer from it, or none that helps.
                Err(Unopened { fault, unreachable: !response.first_bad_link().is_empty() })
            }
        }
    }

    /// Queues a packet.
    pub(super) fn queue(&mut self, packet: &Packet) {
        self.outbox.push(packet.head_bytes().into());
        self.outbox.push(packet.checksums.clone());
        self.outbox.push(packet.data.clone());
    }

    /// Sends what is queued until the next ack is here.
    ///
    /// # Cancel safety
    /// Nothing is lost or sent twice if the future is dropped.
    pub(super) async fn next_ack(&mut self) -> Result<Ack, Fault> {
        loop {
            if let Some(ack) = Ack::decode(&mut self.inbox).map_err(|error| (Some(0), error.to_string()))? {
                return Ok(ack);
            }
            tokio::select! {
                received = net::receive(&mut self.read, &mut self.inbox, RECEIVE_BYTES) => check_received(received)?,
                sent = net::send_some(&mut self.write, &mut self.outbox), if self.outbox.has_remaining() => {
                    // As above: the first one may be as well as the others.
                    sent.map_err(|error| (None, error.to_string()))?;
                }
            }
        }
    }

    async fn receive(&mut self) -> Result<(), Fault> {
        check_received(net::receive(&mut self.read, &mut self.inbox, RECEIVE_BYTES).await)
    }
}

fn check_received(received: std::io::Result<usize>) -> Result<(), Fault> {
    match received {
        // Which node of the pipeline died is not known: the first one may only have passed it on.
        Ok(0) => Err((None, "it closed the connection".to_owned())),
        Ok(_) => Ok(()),
        Err(error) => Err((None, error.to_string())),
    }
}

/// The set-up of a block's pipeline, as it travels to the first node.
fn setup_request(block: &LocatedBlock, begin: &PipelineBegin, client_name: &str) -> Result<Vec<u8>, String> {
    begin.setup(block, client_name)?.to_op().map(|op| op.encode()).map_err(|error| error.to_string())
}

impl PipelineBegin {
    /// What the first node of a block's pipeline is sent.
    ///
    /// # Errors
    /// In words, if the block or a node has no proper name.
    pub fn setup(&self, block: &LocatedBlock, client_name: &str) -> Result<WriteSetup, String> {
        let named = block.block.as_ref().ok_or("the block has no name")?;
        let targets = block.locations.iter().map(Target::from_common).collect::<Result<Vec<_>, _>>();
        let targets = targets.map_err(|error| error.to_string())?;
        let named = BlockRef::from_common(named).map_err(|error| error.to_string())?;
        let (token, name) = (block.token.clone(), client_name.to_owned());
        let setup = WriteSetup::create(named, token, name, &targets, ChunkFormat::CRC32C_512);
        let setup = setup.ok_or("the block has no node")?;
        Ok(match self.stage {
            WriteStage::PipelineSetupCreate => setup,
            stage => {
                let stamp = GenerationStamp::from_raw(self.new_stamp);
                setup.resume(stage, stamp, (self.acked_bytes, self.sent_bytes))
            }
        })
    }
}

/// Position of the node that a refusal names; the first one if it names none.
fn blame(block: &LocatedBlock, response: &BlockOpResponse) -> usize {
    let link = response.first_bad_link();
    block.locations.iter().position(|at| format!("{}:{}", at.host, at.transfer_port) == link).unwrap_or(0)
}

/// Bytes to send, piece by piece, written with one system call for many pieces.
#[derive(Debug, Default)]
struct Outbox {
    pieces: VecDeque<Bytes>,
    remaining: usize,
}

impl Outbox {
    fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.remaining += piece.len();
            self.pieces.push_back(piece);
        }
    }
}

impl Buf for Outbox {
    fn remaining(&self) -> usize {
        self.remaining
    }
    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&[], |piece| piece)
    }
    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(piece);
            filled += 1;
        }
        filled
    }
    fn advance(&mut self, mut count: usize) {
        self.remaining -= count;
        while count > 0 {
            let Some(first) = self.pieces.front_mut() else { return };
            let step = count.min(first.len());
            first.advance(step);
            count -= step;
            if first.is_empty() {
                self.pieces.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proto::common::StorageLocation;

    proptest! {
        #[test]
        fn the_outbox_sends_every_byte_once(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9), 0..9),
            steps in proptest::collection::vec(1..7_usize, 0..80),
        ) {
            let mut outbox = Outbox::default();
            for piece in &pieces {
                outbox.push(Bytes::from(piece.clone()));
            }
            let mut sent = Vec::new();
            for step in steps {
                let mut slices = [IoSlice::new(&[]); 4];
                let filled = outbox.chunks_vectored(&mut slices);
                let flat: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
                let step = step.min(flat.len());
                sent.extend_from_slice(&flat[..step]);
                outbox.advance(step);
            }
            prop_assert!(pieces.concat().starts_with(&sent));
            prop_assert_eq!(outbox.remaining(), pieces.concat().len() - sent.len());
        }
    }

    #[test]
    fn a_bad_link_names_the_node() {
        let at = |port| StorageLocation { host: "h".into(), transfer_port: port, ..StorageLocation::default() };
        let block = LocatedBlock { locations: vec![at(1), at(2), at(3)], ..LocatedBlock::default() };
        assert_eq!(blame(&block, &reply::refused(Status::Error, "x", "h:3")), 2);
        assert_eq!(blame(&block, &reply::refused(Status::Error, "x", "")), 0);
    }
}
