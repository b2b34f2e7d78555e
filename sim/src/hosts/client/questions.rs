//! What a writer asks of datanodes beside its pipeline: how far they are, and to bring another one up to date. Each
//! question has a connection of its own.

use std::time::Duration;

use base::clock::Moment;
use client::write::{ProbeAnswer, WriteEvent};
use proto::common::{LocatedBlock, StorageLocation};
use proto::ids::GenerationStamp;
use proto::transfer::BlockOpResponse;
use transfer::catch_up::TransferReply;
use transfer::{BlockRef, ReplicaStateSetup, Target, TransferSetup};

use super::ClientHost;
use super::jobs::{Job, Stage};
use crate::hosts::datanode::{FIRST_PORT, address_of};
use crate::hosts::millis;
use crate::message::{Address, Part, Timer};
use crate::network::StreamId;
use crate::scene::Scene;

/// Longest time of a transfer without which nothing goes on: nodes of a simulation give no signs of life meanwhile, and their
/// blocks are small.
const LONG_TRANSFER: Duration = millis(12_000);

/// Questions of one writer that have no answer yet.
#[derive(Debug, Default)]
pub(super) struct Questions {
    probe: Option<Probe>,
    transfer: Option<StreamId>,
}

#[derive(Debug)]
struct Probe {
    number: u32,
    streams: Vec<Option<StreamId>>,
    answers: Vec<ProbeAnswer>,
}

impl Questions {
    /// Gives up waiting; the connections that are still open.
    pub(super) fn take_streams(&mut self) -> Vec<StreamId> {
        let probe = self.probe.take().map_or_else(Vec::new, |probe| probe.streams);
        probe.into_iter().flatten().chain(self.transfer.take()).collect()
    }
}

impl ClientHost {
    fn questions(&mut self, job: u64) -> Option<&mut Questions> {
        match &mut self.job {
            Some(Job { id, stage: Stage::Writing(writing), .. }) if *id == job => Some(&mut writing.questions),
            _ => None,
        }
    }

    /// Asks every node of a pipeline how far it is.
    pub(super) fn probe(&mut self, job: u64, number: u32, block: &LocatedBlock, until: Moment, scene: &mut Scene) {
        let (address, now) = (self.address(), scene.now());
        let mut streams = Vec::new();
        for at in &block.locations {
            let setup = named(block).map(|named| ReplicaStateSetup { block: named, token: block.token.clone() });
            let stream = setup.map(|setup| ask(address, at, Part::HowFar(Box::new(setup)), scene));
            if let Some(stream) = stream {
                scene.wake(address, self.life, until.since(now), Timer::QuestionOver(job, stream));
            }
            streams.push(stream);
        }
        let answers = vec![ProbeAnswer::Silent; streams.len()];
        if let Some(questions) = self.questions(job) {
            questions.probe = Some(Probe { number, streams, answers });
        }
    }

    /// Has a node bring others up to date.
    pub(super) fn transfer(
        &mut self,
        job: u64,
        (block, targets): (&LocatedBlock, &[StorageLocation]),
        new_stamp: u64,
        until: Option<Moment>,
        scene: &mut Scene,
    ) {
        let (address, now) = (self.address(), scene.now());
        let until = until.unwrap_or_else(|| now.plus(LONG_TRANSFER));
        let targets: Option<Vec<Target>> = targets.iter().map(|at| Target::from_common(at).ok()).collect();
        let (Some(named), Some(targets), Some(source)) = (named(block), targets, block.locations.first()) else {
            return scene.violation("a transfer of a block without a name, a source or targets".to_owned());
        };
        let setup = TransferSetup {
            block: named,
            token: block.token.clone(),
            client_name: self.name.clone(),
            targets,
            new_stamp: Some(GenerationStamp::from_raw(new_stamp)),
        };
        let stream = ask(address, source, Part::Transfer(Box::new(setup)), scene);
        scene.wake(address, self.life, until.since(now), Timer::QuestionOver(job, stream));
        if let Some(questions) = self.questions(job) {
            questions.transfer = Some(stream);
        }
    }

    /// Takes a part of an answer. False: it is none.
    pub(super) fn question_part(&mut self, stream: StreamId, part: &Part, scene: &mut Scene) -> bool {
        let Some(Job { id, stage: Stage::Writing(writing), .. }) = &self.job else { return false };
        let (job, questions) = (*id, &writing.questions);
        let is_probe = questions.probe.as_ref().is_some_and(|probe| probe.streams.contains(&Some(stream)));
        if !is_probe && questions.transfer != Some(stream) {
            return false;
        }
        match part {
            Part::Reply(reply) if is_probe => self.probed(job, stream, ProbeAnswer::of(reply), scene),
            Part::Closed if is_probe => self.probed(job, stream, ProbeAnswer::Silent, scene),
            Part::Reply(reply) => self.transfer_said(job, stream, reply, scene),
            Part::Closed => self.transferred(job, stream, Err("it closed the connection".to_owned()), scene),
            _ => {}
        }
        true
    }

    /// Nobody waits any longer.
    pub(super) fn question_over(&mut self, job: u64, stream: StreamId, scene: &mut Scene) {
        let Some(questions) = self.questions(job) else {
            return self.node_said(job, stream, ProbeAnswer::Silent, scene);
        };
        if questions.transfer == Some(stream) {
            self.transferred(job, stream, Err("it was not made in time".to_owned()), scene);
        } else if questions.probe.as_ref().is_some_and(|probe| probe.streams.contains(&Some(stream))) {
            self.probed(job, stream, ProbeAnswer::Silent, scene);
        }
    }

    fn probed(&mut self, job: u64, stream: StreamId, answer: ProbeAnswer, scene: &mut Scene) {
        scene.close(stream, self.address());
        let Some(questions) = self.questions(job) else { return };
        let Some(probe) = &mut questions.probe else { return };
        if let Some(at) = probe.streams.iter().position(|other| *other == Some(stream)) {
            probe.streams[at] = None;
            probe.answers[at] = answer;
        }
        if probe.streams.iter().all(Option::is_none)
            && let Some(Probe { number, answers, .. }) = questions.probe.take()
        {
            self.tell_writer(job, WriteEvent::Probed { number, answers }, scene);
        }
    }

    fn transfer_said(&mut self, job: u64, stream: StreamId, reply: &BlockOpResponse, scene: &mut Scene) {
        match TransferReply::from_wire(reply) {
            TransferReply::Going => self.tell_writer(job, WriteEvent::TransferGoes, scene),
            TransferReply::Done => self.transferred(job, stream, Ok(()), scene),
            TransferReply::Failed { bad_link, message, .. } => {
                self.transferred(job, stream, Err(format!("{bad_link} {message}")), scene);
            }
        }
    }

    fn transferred(&mut self, job: u64, stream: StreamId, result: Result<(), String>, scene: &mut Scene) {
        scene.close(stream, self.address());
        if let Some(questions) = self.questions(job) {
            questions.transfer = None;
        }
        self.tell_writer(job, WriteEvent::Transferred(result), scene);
    }
}

pub(super) fn named(block: &LocatedBlock) -> Option<BlockRef> {
    BlockRef::from_common(block.block.as_ref()?).ok()
}

pub(super) fn ask(from: Address, at: &StorageLocation, question: Part, scene: &mut Scene) -> StreamId {
    let port = u16::try_from(at.transfer_port).unwrap_or(FIRST_PORT);
    let stream = scene.network.open(from, address_of(port));
    scene.push(stream, from, question);
    stream
}
