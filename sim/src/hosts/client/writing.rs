//! Writing a file: the shell of `client::write::Writer`, with a stream for its socket.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use client::write::{FileWriter, PipelineBegin, Reopened, WriteConfig, WriteEffect, WriteEvent};
use namenode::service::request::Response;
use proto::common::LocatedBlock;
use proto::error::{ErrorCode, FsError, FsResult};
use proto::namespace as n;
use transfer::{Status, WriteStage, reply};

use super::ClientHost;
use super::calls::{Ended, Purpose};
use super::jobs::{Job, Stage};
use super::questions::Questions;
use crate::coverage::Rare;
use crate::hosts::datanode::{FIRST_PORT, address_of};
use crate::logs::Segment;
use crate::message::{Part, Timer};
use crate::network::StreamId;
use crate::planted::Planted;
use crate::scene::Scene;
use crate::workload::{Manner, Op, Outcome, content};

/// Bytes that the application gives at a time.
const PIECE_BYTES: usize = 3000;

/// A file that is being written.
#[derive(Debug)]
pub(super) struct Writing {
    data: Bytes,
    given: usize,
    manner: Manner,
    /// Bytes at which the next flush is due.
    flush_at: Option<usize>,
    /// Flushes that are not answered: how much had been given.
    flushes: VecDeque<usize>,
    /// Bytes that were flushed.
    flushed: usize,
    /// Length of the file before; of a new file 0.
    base: usize,
    /// Can the file be seen, and may it be?
    visible: bool,
    publishing: bool,
    closed: bool,
    file: Option<Open>,
    pipeline: Option<Pipeline>,
    pipelines: u32,
    /// Pipelines that went on with a block at a higher stamp.
    repairs: u32,
    completing: bool,
    pub(super) questions: Questions,
}

#[derive(Debug)]
struct Open {
    machine: FileWriter,
    inode: u64,
    lease_epoch: u64,
}

#[derive(Debug)]
struct Pipeline {
    attempt: u32,
    stream: StreamId,
    block: LocatedBlock,
}

impl Writing {
    pub(super) fn new(tag: u64, len_bytes: usize, manner: Manner) -> Self {
        Self {
            data: content(tag, len_bytes).into(),
            given: 0,
            manner,
            flush_at: manner.flush_every,
            flushes: VecDeque::new(),
            flushed: 0,
            base: 0,
            visible: false,
            publishing: false,
            closed: false,
            file: None,
            pipeline: None,
            pipelines: 0,
            repairs: 0,
            completing: false,
            questions: Questions::default(),
        }
    }
    /// What is known of a file that can be seen if nobody closes it; `None` if nothing can be seen yet.
    pub(super) fn left(&self) -> Option<Outcome> {
        let base_bytes = self.base;
        self.visible.then(|| Outcome::Left {
            base_bytes,
            least_bytes: base_bytes + self.flushed,
            most_bytes: base_bytes + self.given,
        })
    }
    /// What an append has written by now, if it has got its file.
    pub(super) fn segment(&self, tag: u64) -> Option<Segment> {
        let Self { base, flushed, given, .. } = self;
        let segment = Segment { tag, base_bytes: *base, least_bytes: *flushed, most_bytes: *given };
        self.visible.then_some(segment)
    }
    /// A flush that is due by now.
    fn next_flush(&mut self) -> Option<WriteEvent> {
        let at = self.flush_at.filter(|at| *at <= self.given)?;
        self.flush_at = self.manner.flush_every.map(|every| at + every);
        self.flushes.push_back(self.given);
        Some(WriteEvent::Flush { sync: self.manner.sync })
    }
    fn next_event(&mut self) -> Option<WriteEvent> {
        let over = self.file.as_ref()?.machine.is_over();
        if over || self.closed {
            return None;
        }
        if let Some(flush) = self.next_flush() {
            return Some(flush);
        }
        let Self { data, given, manner, closed, file, .. } = self;
        let machine = &file.as_ref()?.machine;
        if manner.drop_after.is_some_and(|after| *given >= after) {
            *closed = true;
            return Some(WriteEvent::Abort);
        }
        if *given == data.len() {
            *closed = true;
            return Some(WriteEvent::Close);
        }
        if machine.room_bytes() == 0 {
            return None;
        }
        let until = self.flush_at.unwrap_or(usize::MAX).min(*given + PIECE_BYTES).min(data.len());
        let piece = data.slice(*given..until);
        *given += piece.len();
        Some(WriteEvent::Data(piece))
    }
}

fn config() -> WriteConfig {
    WriteConfig { packet_bytes: 2048, window_bytes: 12 << 10, ..WriteConfig::default() }
}

impl ClientHost {
    pub(super) fn begin_write(&mut self, scene: &mut Scene) {
        let Some(Job { op: Op::Write { path, overwrite, replication, block_size_bytes, len_bytes, .. }, .. }) =
            &self.job
        else {
            return;
        };
        let request = n::CreateRequest {
            header: None,
            path: path.clone(),
            mode: 0o644,
            overwrite: *overwrite,
            parents: false,
            replication: *replication,
            block_size_bytes: *block_size_bytes,
            publish: n::Publish::OnClose as i32,
            with_first_block: *len_bytes > 0 || scene.one_in(2),
            client_host: String::new(),
            unmasked_mode: None,
        };
        self.ask(Purpose::Create, request.into(), true, scene);
    }

    pub(super) fn begin_append(&mut self, scene: &mut Scene) {
        let Some(Job { op: Op::Append { path, .. }, .. }) = &self.job else { return };
        let (path, new_block) = (path.clone(), scene.one_in(5));
        let request = n::AppendRequest { header: None, path, new_block, client_host: String::new() };
        self.ask(Purpose::Append, request.into(), true, scene);
    }

    fn writing(&mut self, job: u64) -> Option<&mut Writing> {
        match &mut self.job {
            Some(Job { id, stage: Stage::Writing(writing), .. }) if *id == job => Some(writing),
            _ => None,
        }
    }

    pub(super) fn writer_call_ended(&mut self, ended: Ended, scene: &mut Scene) {
        let Ended { purpose, job, result } = ended;
        let event = match purpose {
            Purpose::Create => return self.created(job, result, scene),
            Purpose::Append => return self.append_begun(job, result, scene),
            Purpose::NewStamp => WriteEvent::Stamped(result.and_then(|response| match response {
                Response::NewStamp(n::NewStampResponse { block: Some(block) }) => Ok(block),
                _ => Err(incomplete()),
            })),
            Purpose::UpdatePipeline => WriteEvent::PipelineUpdated(result.map(|_| ())),
            Purpose::Publish => {
                if let Some(writing) = self.writing(job) {
                    writing.visible |= result.is_ok();
                }
                WriteEvent::Published(result.map(|_| ()))
            }
            Purpose::AddBlock => WriteEvent::BlockAdded(result.and_then(|response| match response {
                Response::AddBlock(n::AddBlockResponse { block: Some(block) }) => Ok(block),
                _ => Err(incomplete()),
            })),
            Purpose::AbandonBlock => WriteEvent::BlockAbandoned(result.map(|_| ())),
            _ => WriteEvent::Completed(result.and_then(|response| match response {
                Response::Complete(n::CompleteResponse { status: Some(status) }) => Ok(status),
                _ => Err(incomplete()),
            })),
        };
        self.tell_writer(job, event, scene);
    }

    fn created(&mut self, job: u64, result: FsResult<Response>, scene: &mut Scene) {
        let now = scene.now();
        let Some(writing) = self.writing(job) else { return };
        match result {
            Ok(Response::Create(created)) => {
                let block_size = created.status.as_ref().map_or(0, |status| status.block_size_bytes);
                let machine = FileWriter::new(config(), block_size, created.first_block, now);
                let (inode, lease_epoch) = (created.inode, created.lease_epoch);
                writing.file = Some(Open { machine, inode, lease_epoch });
                self.feed(job, scene);
            }
            Ok(_) => self.finish(Outcome::Failed(ErrorCode::Internal), scene),
            // Nothing can be published of a file whose creation is in doubt: nobody knows its inode.
            Err(error) => self.finish(Outcome::Failed(error.code), scene),
        }
    }

    fn append_begun(&mut self, job: u64, result: FsResult<Response>, scene: &mut Scene) {
        let now = scene.now();
        let Some(writing) = self.writing(job) else { return };
        match result {
            Ok(Response::Append(answer)) => {
                let status = answer.status.unwrap_or_default();
                let (new_stamp, replication) = (answer.new_stamp, status.replication);
                let last = answer.last.map(|located| Reopened { located, new_stamp, replication });
                scene.hit(if last.is_some() { Rare::PartialBlockAppended } else { Rare::Appended });
                let machine = FileWriter::appending(config(), status.block_size_bytes, last, now);
                writing.file = Some(Open { machine, inode: answer.inode, lease_epoch: answer.lease_epoch });
                (writing.base, writing.visible) = (status.len_bytes as usize, true);
                self.feed(job, scene);
            }
            Ok(_) => self.finish(Outcome::Failed(ErrorCode::Internal), scene),
            Err(error) if error.code == ErrorCode::OutcomeUnknown => self.finish(Outcome::Unknown, scene),
            Err(error) => self.finish(Outcome::Failed(error.code), scene),
        }
    }

    /// Gives the machine what it has room for.
    fn feed(&mut self, job: u64, scene: &mut Scene) {
        while let Some(event) = self.writing(job).and_then(Writing::next_event) {
            self.step_writer(job, event, scene);
        }
        let now = scene.now();
        let deadline = self.writing(job).and_then(|writing| writing.file.as_ref()?.machine.next_deadline());
        if let Some(deadline) = deadline {
            scene.wake(self.address(), self.life, deadline.since(now), Timer::WriterTick(job));
        }
    }

    pub(super) fn tell_writer(&mut self, job: u64, event: WriteEvent, scene: &mut Scene) {
        self.step_writer(job, event, scene);
        self.feed(job, scene);
    }

    fn step_writer(&mut self, job: u64, event: WriteEvent, scene: &mut Scene) {
        let now = scene.now();
        let Some(open) = self.writing(job).and_then(|writing| writing.file.as_mut()) else { return };
        let mut out = Vec::new();
        open.machine.handle(event, now, &mut out);
        for effect in out {
            self.perform_write(job, effect, scene);
        }
    }

    fn perform_write(&mut self, job: u64, effect: WriteEffect, scene: &mut Scene) {
        let (address, now, planted) = (self.address(), scene.now(), self.planted);
        let Some(writing) = self.writing(job) else { return };
        let Some(Open { inode, lease_epoch, .. }) = writing.file else { return };
        let header = None;
        match effect {
            WriteEffect::AddBlock { previous, exclude_nodes, until } => {
                let (previous, client_host) = (told(previous, planted), String::new());
                let request = n::AddBlockRequest { header, inode, lease_epoch, previous, exclude_nodes, client_host };
                self.ask_within(Purpose::AddBlock, request.into(), true, until.since(now), scene);
            }
            WriteEffect::AbandonBlock { block, until } => {
                let request = n::AbandonBlockRequest { header, inode, lease_epoch, block: Some(block) };
                self.ask_within(Purpose::AbandonBlock, request.into(), true, until.since(now), scene);
            }
            WriteEffect::NewStamp { block, keep, more, exclude_nodes, until } => {
                let (block, client_host) = (Some(block), String::new());
                let request =
                    n::NewStampRequest { header, inode, lease_epoch, block, keep, more, exclude_nodes, client_host };
                self.ask_within(Purpose::NewStamp, request.into(), true, until.since(now), scene);
            }
            WriteEffect::UpdatePipeline { block, new_stamp, storages, until } => {
                let block = Some(block);
                let request = n::UpdatePipelineRequest { header, inode, lease_epoch, block, new_stamp, storages };
                self.ask_within(Purpose::UpdatePipeline, request.into(), true, until.since(now), scene);
            }
            WriteEffect::Publish { until } => {
                writing.publishing = true;
                let request = n::PublishRequest { header, inode, lease_epoch };
                self.ask_within(Purpose::Publish, request.into(), true, until.since(now), scene);
            }
            WriteEffect::Flushed => {
                scene.hit(if writing.manner.sync { Rare::Synced } else { Rare::Flushed });
                if let Some(flushed) = writing.flushes.pop_front() {
                    writing.flushed = flushed;
                } else {
                    scene.violation("a flush was answered twice".to_owned());
                }
            }
            WriteEffect::Probe { number, block, until } => self.probe(job, number, &block, until, scene),
            WriteEffect::Transfer { block, targets, new_stamp, until } => {
                scene.hit(Rare::CaughtUp);
                self.transfer(job, (&block, &targets), new_stamp, until, scene);
            }
            WriteEffect::Complete { last } => {
                writing.completing = true;
                let last = told(last, planted);
                let request = n::CompleteRequest { header, inode, lease_epoch, last };
                self.ask(Purpose::Complete, request.into(), true, scene);
            }
            WriteEffect::Discard => {
                let Some(session) = self.job.as_ref().map(|job| Arc::clone(&job.session)) else { return };
                let request = n::DiscardRequest { header, inode, lease_epoch };
                self.aside(request.into(), Some(&session), Duration::from_secs(3), scene);
            }
            WriteEffect::OpenPipeline { attempt, block, begin, .. } => {
                self.open_pipeline(job, attempt, (block, begin), scene);
            }
            WriteEffect::SendPacket { packet, attempt } => {
                if let Some(pipeline) = writing.pipeline.as_ref().filter(|open| open.attempt == attempt) {
                    scene.push(pipeline.stream, address, Part::Packet(packet));
                }
            }
            WriteEffect::ClosePipeline { attempt } => {
                if let Some(pipeline) = writing.pipeline.take_if(|open| open.attempt == attempt) {
                    scene.close(pipeline.stream, address);
                }
            }
            WriteEffect::Done(result) => self.written(job, result, scene),
        }
    }

    fn open_pipeline(
        &mut self,
        job: u64,
        attempt: u32,
        (block, begin): (LocatedBlock, PipelineBegin),
        scene: &mut Scene,
    ) {
        let (address, life, name) = (self.address(), self.life, self.name.clone());
        let Some(writing) = self.writing(job) else { return };
        writing.pipelines += 1;
        match begin.stage {
            WriteStage::PipelineSetupCreate | WriteStage::PipelineSetupAppend => {}
            WriteStage::PipelineCloseRecovery => scene.hit(Rare::CloseRepaired),
            _ => writing.repairs += 1,
        }
        let first = block.locations.first().map(|at| u16::try_from(at.transfer_port).unwrap_or(FIRST_PORT));
        match begin.setup(&block, &name).and_then(|setup| Ok((setup, first.ok_or("the block has no node")?))) {
            Ok((setup, port)) => {
                let stream = scene.network.open(address, address_of(port));
                writing.pipeline = Some(Pipeline { attempt, stream, block });
                scene.push(stream, address, Part::Write(Box::new(setup)));
            }
            Err(why) => {
                let failed = WriteEvent::PipelineFailed { attempt, bad: None, why };
                scene.wake(address, life, Duration::ZERO, Timer::ToWriter(job, Box::new(failed)));
            }
        }
    }

    /// Takes a part of the writer's pipeline. False: it is not of it.
    pub(super) fn writer_part(&mut self, stream: StreamId, part: &Part, scene: &mut Scene) -> bool {
        let Some(Job { id, stage: Stage::Writing(writing), .. }) = &mut self.job else { return false };
        let job = *id;
        let Some(pipeline) = writing.pipeline.as_ref().filter(|open| open.stream == stream) else { return false };
        let attempt = pipeline.attempt;
        let event = match part {
            Part::Reply(said) => match reply::status_of(said) {
                Status::Success => WriteEvent::PipelineOpened { attempt },
                status => {
                    let bad = blame(&pipeline.block, said.first_bad_link());
                    let why = format!("{} {}", status.as_str_name(), said.message());
                    WriteEvent::PipelineFailed { attempt, bad: Some(bad), why }
                }
            },
            Part::Ack(ack) => WriteEvent::Ack { attempt, ack: ack.clone() },
            Part::Closed => {
                WriteEvent::PipelineFailed { attempt, bad: None, why: "it closed the connection".to_owned() }
            }
            _ => return true,
        };
        self.tell_writer(job, event, scene);
        true
    }

    fn written(&mut self, job: u64, result: FsResult<n::FileStatus>, scene: &mut Scene) {
        let address = self.address();
        let Some(writing) = self.writing(job) else { return };
        for stream in writing.questions.take_streams() {
            scene.close(stream, address);
        }
        let Some(writing) = self.writing(job) else { return };
        let (pipelines, repairs) = (writing.pipelines, writing.repairs);
        let (base_bytes, len_bytes) = (writing.base, writing.data.len() as u64);
        let (completing, dropped) = (writing.completing, writing.manner.drop_after.is_some());
        let (in_doubt, left) = (writing.publishing && !writing.visible, writing.left());
        let is_append = matches!(&self.job, Some(Job { op: Op::Append { .. }, .. }));
        let outcome = match result {
            Ok(status) => {
                if status.len_bytes != base_bytes as u64 + len_bytes {
                    let text = format!("{base_bytes} and {len_bytes} bytes were published as {}", status.len_bytes);
                    scene.violation(text);
                }
                if is_append { Outcome::Appended { base_bytes } } else { Outcome::Done }
            }
            Err(error) if left.is_some() => {
                scene.say(format_args!("a write failed behind a flush: {error}"));
                scene.hit(Rare::WriterLeft);
                left.unwrap_or(Outcome::Unknown)
            }
            Err(_) if in_doubt => Outcome::Unknown,
            Err(_) if dropped && !completing => {
                scene.hit(Rare::WriterDropped);
                Outcome::Dropped
            }
            Err(error) if error.code == ErrorCode::OutcomeUnknown && completing => {
                scene.hit(Rare::OutcomeUnknown);
                Outcome::Unknown
            }
            Err(error) => {
                scene.say(format_args!("a write failed: {error}"));
                scene.hit(Rare::WriteFailed);
                match error.code {
                    // Its inode is gone: it was given up when the lease ran out. That says nothing of the name.
                    ErrorCode::NotFound | ErrorCode::LeaseLost => {
                        scene.hit(Rare::LeaseLost);
                        Outcome::Failed(ErrorCode::WriteFailed)
                    }
                    code => Outcome::Failed(code),
                }
            }
        };
        if matches!(outcome, Outcome::Done | Outcome::Appended { .. }) {
            if repairs > 0 {
                scene.hit(Rare::PipelineRepaired);
            }
            if pipelines > 1 && repairs == 0 && u64::from(pipelines) > len_bytes.div_ceil(self.block_size()) {
                scene.hit(Rare::PipelineReplaced);
            }
        }
        self.finish(outcome, scene);
    }

    fn block_size(&self) -> u64 {
        match &self.job {
            Some(Job { op: Op::Write { block_size_bytes, .. }, .. }) => *block_size_bytes,
            _ => u64::MAX,
        }
    }
}

/// A finished block as the namenode is told of it; with the planted bug, without its digest.
fn told(block: Option<n::FinishedBlock>, planted: Option<Planted>) -> Option<n::FinishedBlock> {
    let mut block = block?;
    if planted == Some(Planted::DigestNotTold) {
        block.digest.clear();
    }
    Some(block)
}

fn blame(block: &LocatedBlock, link: &str) -> usize {
    block.locations.iter().position(|at| format!("{}:{}", at.host, at.transfer_port) == link).unwrap_or(0)
}

fn incomplete() -> FsError {
    FsError::new(ErrorCode::Internal, "the namenode's answer is incomplete")
}
