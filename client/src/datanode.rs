//! Asking a datanode something that it answers with words, not with packets.

use std::time::Duration;

use base::net::{self, TcpStream};
use base::task::JoinSet;
use bytes::BytesMut;
use proto::common::{LocatedBlock, StorageLocation};
use proto::error::ErrorCode;
use proto::ids::GenerationStamp;
use proto::transfer::BlockOpResponse;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use transfer::catch_up::TransferReply;
use transfer::{BlockRef, Op, Progress, ReplicaStateSetup, Status, Target, TransferSetup, decode_delimited, reply};

use crate::write::{ProbeAnswer, ReplicaAt};

/// Bytes of an answer that are read at a time.
const ANSWER_BYTES: usize = 1024;

/// Why there is no answer.
pub(crate) type NoAnswer = (ErrorCode, String);

/// A connection with a question on it.
#[derive(Debug)]
pub(crate) struct Question {
    stream: TcpStream,
    inbox: BytesMut,
}

impl Question {
    /// Dials a replica's node, `within` this time, and sends it an operation.
    pub(crate) async fn ask(at: &StorageLocation, op: &Op, within: Duration) -> Result<Self, NoAnswer> {
        let bad_port = |error: std::num::TryFromIntError| (ErrorCode::Corrupt, error.to_string());
        let port = u16::try_from(at.transfer_port).map_err(bad_port)?;
        let unreached = |error: std::io::Error| (ErrorCode::Unavailable, error.to_string());
        let mut stream = net::dial(&at.host, port, within).await.map_err(unreached)?;
        stream.write_all(&op.encode()).await.map_err(unreached)?;
        Ok(Self { stream, inbox: BytesMut::new() })
    }

    /// The next answer; a node may give several.
    pub(crate) async fn answer(&mut self, silence: Duration) -> Result<BlockOpResponse, NoAnswer> {
        loop {
            let decoded = decode_delimited(&mut self.inbox, "reply");
            if let Some(response) = decoded.map_err(|error| (ErrorCode::Corrupt, error.to_string()))? {
                return Ok(response);
            }
            self.inbox.reserve(ANSWER_BYTES);
            match tokio::time::timeout(silence, self.stream.read_buf(&mut self.inbox)).await {
                Ok(Ok(0)) => return Err((ErrorCode::Unavailable, "it closed the connection".to_owned())),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err((ErrorCode::Unavailable, error.to_string())),
                Err(_elapsed) => {
                    return Err((ErrorCode::Timeout, format!("it was silent for {} s", silence.as_secs())));
                }
            }
        }
    }
}

/// How far the replica of one node is, as far as it says so `within` this time. `block` has the token, and the lowest
/// stamp that counts.
pub(crate) async fn progress(block: &LocatedBlock, at: &StorageLocation, within: Duration) -> ProbeAnswer {
    let Some(op) = state_op(block) else { return ProbeAnswer::Mute };
    let asked = async {
        let mut question = Question::ask(at, &op, within).await?;
        question.answer(within).await
    };
    let Ok(Ok(response)) = tokio::time::timeout(within, asked).await else { return ProbeAnswer::Silent };
    ProbeAnswer::of(&response)
}

impl ProbeAnswer {
    /// What an answer to REPLICA_STATE says.
    #[must_use]
    pub fn of(response: &BlockOpResponse) -> Self {
        match reply::status_of(response) {
            Status::Success => Progress::from_reply(response).map_or(Self::Mute, |progress| of(&progress)),
            Status::ErrorAccessToken | Status::ErrorUnsupported => Self::Mute,
            _ if transfer::progress::is_absent(response) => Self::Missing,
            _ => Self::Refused,
        }
    }
}

/// The same of every node of a block, all at the same time; in the order of its locations.
pub(crate) async fn progress_of_all(block: &LocatedBlock, within: Duration) -> Vec<ProbeAnswer> {
    let mut asked = JoinSet::new();
    for (place, at) in block.locations.iter().cloned().enumerate() {
        let block = LocatedBlock { locations: Vec::new(), ..block.clone() };
        asked.spawn(async move { (place, progress(&block, &at, within).await) });
    }
    let mut answers = vec![ProbeAnswer::Silent; block.locations.len()];
    while let Some(joined) = asked.join_next().await {
        let Ok((place, answer)) = joined else { continue };
        if let Some(one) = answers.get_mut(place) {
            *one = answer;
        }
    }
    answers
}

fn state_op(block: &LocatedBlock) -> Option<Op> {
    let named = BlockRef::from_common(block.block.as_ref()?).ok()?;
    ReplicaStateSetup { block: named, token: block.token.clone() }.to_op().ok()
}

fn of(progress: &Progress) -> ProbeAnswer {
    ProbeAnswer::At(ReplicaAt {
        stamp: progress.stamp.raw(),
        received_bytes: progress.received_bytes,
        stored_bytes: progress.stored_bytes,
        acked_bytes: progress.acked_bytes,
        finalized: progress.finalized,
        waiting: progress.waiting,
        unsure: progress.unsure,
    })
}

/// One node sends what it has of a block to others.
#[derive(Debug)]
pub(crate) struct Transfer {
    question: Question,
    from: String,
    silence: Duration,
}

/// What the sender says.
#[derive(Debug)]
pub(crate) enum Said {
    /// Bytes move; ask on.
    Going(Transfer),
    /// The others have it, durably.
    Done,
}

impl Transfer {
    /// Has the one node of a block send what it has of it to others. It is given up after such a silence of the sender's;
    /// `Err` says in words what was seen.
    pub(crate) async fn begin(
        block: &LocatedBlock,
        targets: &[StorageLocation],
        new_stamp: u64,
        client_name: &str,
        silence: Duration,
    ) -> Result<Self, String> {
        let source = block.locations.first().ok_or("no node has the block")?;
        let named = block.block.as_ref().ok_or("the block has no name")?;
        let setup = TransferSetup {
            block: BlockRef::from_common(named).map_err(|error| error.to_string())?,
            token: block.token.clone(),
            client_name: client_name.to_owned(),
            targets: targets
                .iter()
                .map(Target::from_common)
                .collect::<Result<_, _>>()
                .map_err(|error| error.to_string())?,
            new_stamp: Some(GenerationStamp::from_raw(new_stamp)),
        };
        let op = setup.to_op().map_err(|error| error.to_string())?;
        let from = format!("{}:{}", source.host, source.transfer_port);
        let asked = Question::ask(source, &op, silence).await;
        let question = asked.map_err(|(_, why)| format!("{from}: {why}"))?;
        Ok(Self { question, from, silence })
    }

    /// The next word of the sender.
    pub(crate) async fn next(mut self) -> Result<Said, String> {
        let from = &self.from;
        let answer = self.question.answer(self.silence).await.map_err(|(_, why)| format!("{from}: {why}"))?;
        match TransferReply::from_wire(&answer) {
            TransferReply::Going => Ok(Said::Going(self)),
            TransferReply::Done => Ok(Said::Done),
            TransferReply::Failed { status, bad_link, message } => {
                let at = if bad_link.is_empty() { from } else { &bad_link };
                Err(format!("{at}: {} {message}", status.as_str_name()))
            }
        }
    }
}
