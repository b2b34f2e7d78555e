//! What travels and what wakes a host: the typed messages of the simulated network.

use client::read::ReadEvent;
use client::write::WriteEvent;
use namenode::consensus::{ImageInfo, PersistDone};
use namenode::core::ImageJob;
use namenode::service::request::{Request, Response};
use proto::error::FsResult;
use proto::raft::RaftMessage;
use proto::transfer::BlockOpResponse;
use transfer::{Ack, Packet, ReadSetup, ReplicaStateSetup, TransferSetup, WriteSetup};

use crate::network::StreamId;

/// A host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// A namenode, from 0; its member id is one more.
    Namenode(usize),
    /// A datanode, from 0.
    Datanode(usize),
    /// A client, from 0.
    Client(usize),
}

impl Address {
    /// A number for traces.
    #[must_use]
    pub const fn number(self) -> u64 {
        match self {
            Self::Namenode(at) => at as u64,
            Self::Datanode(at) => 100 + at as u64,
            Self::Client(at) => 200 + at as u64,
        }
    }
}

/// A message between hosts.
#[derive(Clone, Debug)]
pub enum Message {
    /// A call of a namenode. `call` is the caller's own number.
    Call {
        /// Number of the attempt.
        call: u64,
        /// What is asked.
        request: Box<Request>,
    },
    /// Its answer.
    Answer {
        /// Number of the attempt.
        call: u64,
        /// What is said.
        answer: Box<FsResult<Response>>,
    },
    /// Between namenodes.
    Raft(Box<RaftMessage>),
    /// On a connection that carries data.
    Stream {
        /// Which connection.
        stream: StreamId,
        /// What comes.
        part: Part,
    },
}

/// What a connection carries, in order.
#[derive(Clone, Debug)]
pub enum Part {
    /// The begin of a write.
    Write(Box<WriteSetup>),
    /// The begin of a read.
    Read(Box<ReadSetup>),
    /// A node is to send what it has of a replica to another one.
    Transfer(Box<TransferSetup>),
    /// How far is a replica?
    HowFar(Box<ReplicaStateSetup>),
    /// The answer to any of them.
    Reply(Box<BlockOpResponse>),
    /// Data.
    Packet(Packet),
    /// An acknowledgement.
    Ack(Ack),
    /// The other end closed the connection, or it broke.
    Closed,
}

/// What a host wakes itself up for; void after it died.
#[derive(Debug)]
pub enum Timer {
    /// Regular time of a namenode or a datanode; the next thing to do of an idle client.
    Tick,
    /// A namenode's committer writes what waits.
    Commit,
    /// What the committer wrote is made known.
    Committed(PersistDone),
    /// An image is written now.
    Image(Box<ImageJob>),
    /// A namenode makes a step of what takes many.
    GoOn,
    /// An image was written.
    ImageDone(Result<ImageInfo, String>),
    /// The next step of a volume's scrubber.
    Scrub(usize),
    /// A datanode makes its highest term durable.
    KeepTerm(proto::ids::Term),
    /// A datanode carries a command out.
    Carry(usize, Box<datanode::agent::Command>),
    /// An attempt of a client's call had its time.
    AttemptOver(u64),
    /// A client's call is tried again.
    Retry(u64),
    /// A writer looks at the time.
    WriterTick(u64),
    /// Something comes to a writer from its own host.
    ToWriter(u64, Box<WriteEvent>),
    /// A reader looks again for the open block of a file of which no node says how far it is.
    OpenAgain(u64),
    /// Nobody waits any more for the answer that was to come on this connection.
    QuestionOver(u64, StreamId),
    /// A reader looks at the time.
    ReaderTick(u64),
    /// Something comes to a reader from its own host.
    ToReader(u64, Box<ReadEvent>),
    /// A reader's pause before it asks again is over.
    Relocate(u64),
    /// The leases of a client are renewed.
    Renew,
}

impl Timer {
    /// A number for traces.
    #[must_use]
    pub const fn number(&self) -> u64 {
        match self {
            Self::Tick => 1,
            Self::Commit => 2,
            Self::Committed(_) => 3,
            Self::Image(_) => 4,
            Self::ImageDone(_) => 5,
            Self::KeepTerm(_) => 6,
            Self::Carry(..) => 7,
            Self::AttemptOver(_) => 8,
            Self::Retry(_) => 9,
            Self::WriterTick(_) => 10,
            Self::ToWriter(..) => 11,
            Self::ReaderTick(_) => 12,
            Self::ToReader(..) => 13,
            Self::Relocate(_) => 14,
            Self::Renew => 15,
            Self::Scrub(_) => 17,
            Self::GoOn => 16,
            Self::QuestionOver(..) => 18,
            Self::OpenAgain(_) => 19,
        }
    }
}

impl Message {
    /// A number for traces.
    #[must_use]
    pub fn number(&self) -> u64 {
        match self {
            Self::Call { call, request } => 20 + (*call << 8) + request.command().len() as u64,
            Self::Answer { call, answer } => 21 + (*call << 8) + (u64::from(answer.is_ok()) << 7),
            Self::Raft(message) => 22 + (message.index << 8),
            Self::Stream { stream, part } => 23 + (stream.0 << 8) + (part.number() << 5),
        }
    }
}

impl Part {
    const fn number(&self) -> u64 {
        match self {
            Self::Write(_) => 1,
            Self::Read(_) => 2,
            Self::Reply(_) => 3,
            Self::Packet(_) => 4,
            Self::Ack(_) => 5,
            Self::Closed => 6,
            Self::Transfer(_) => 7,
            Self::HowFar(_) => 0,
        }
    }
}

/// Something that happens at a moment.
#[derive(Debug)]
pub enum Event {
    /// A message arrives.
    Arrive {
        /// Where.
        to: Address,
        /// From whom.
        from: Address,
        /// What.
        message: Message,
    },
    /// A host wakes up.
    Wake {
        /// Which.
        host: Address,
        /// In which of its lives.
        life: u64,
        /// Why.
        timer: Timer,
    },
    /// The next fault is due.
    Fault,
    /// A fault ends.
    FaultOver(crate::faults::Undo),
    /// A host that died is started again.
    Restart(Address),
    /// A datanode whose disk failed is started again.
    Repair(usize),
    /// A client falls silent for so long, if it is still at this job.
    Silence(usize, u64, std::time::Duration),
    /// The administrator looks at the cluster.
    Admin,
    /// A disk of a datanode that hung goes on; void after the node died.
    HangOver(usize, u64),
}
