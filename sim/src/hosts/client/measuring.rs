//! How long a file is that is being written: the nodes of its open block are asked, as `client::read` does.

use std::time::Duration;

use client::read::{Asked, Opening, visible_bytes};
use client::write::ProbeAnswer;
use proto::common::LocatedBlock;
use proto::error::ErrorCode;
use proto::namespace::FileStatus;
use transfer::ReplicaStateSetup;

use super::ClientHost;
use super::jobs::{Job, Stage};
use super::questions::{ask, named};
use crate::coverage::Rare;
use crate::hosts::millis;
use crate::message::{Part, Timer};
use crate::network::StreamId;
use crate::scene::Scene;
use crate::workload::Outcome;

/// Time for the answers.
const ASK: Duration = millis(900);
/// How often the block is looked for again if nobody answers, and the pause before.
const LOOKS: u32 = 4;
const PAUSE: Duration = millis(500);

/// A look at an open block.
#[derive(Debug)]
pub(super) struct Measuring {
    status: FileStatus,
    blocks: Vec<LocatedBlock>,
    streams: Vec<Option<StreamId>>,
    answers: Vec<ProbeAnswer>,
}

impl ClientHost {
    /// A file was opened whose last block is open.
    pub(super) fn measure(&mut self, job: u64, status: FileStatus, blocks: Vec<LocatedBlock>, scene: &mut Scene) {
        let address = self.address();
        let Some(block) = blocks.last() else { return };
        let mut streams = Vec::new();
        for at in &block.locations {
            let setup = named(block).map(|named| ReplicaStateSetup { block: named, token: block.token.clone() });
            let stream = setup.map(|setup| ask(address, at, Part::HowFar(Box::new(setup)), scene));
            if let Some(stream) = stream {
                scene.wake(address, self.life, ASK, Timer::QuestionOver(job, stream));
            }
            streams.push(stream);
        }
        let answers = vec![ProbeAnswer::Silent; streams.len()];
        if let Some(reading) = self.reading(job) {
            reading.looks += 1;
            reading.measuring = Some(Measuring { status, blocks, streams, answers });
        }
        self.measured_if_done(job, scene);
    }

    /// Takes a part of an answer. False: it is none.
    pub(super) fn measuring_part(&mut self, stream: StreamId, part: &Part, scene: &mut Scene) -> bool {
        let Some(Job { id, stage: Stage::Reading(reading), .. }) = &self.job else { return false };
        let job = *id;
        let waits = |measuring: &Measuring| measuring.streams.contains(&Some(stream));
        if !reading.measuring.as_ref().is_some_and(waits) {
            return false;
        }
        match part {
            Part::Reply(reply) => self.node_said(job, stream, ProbeAnswer::of(reply), scene),
            Part::Closed => self.node_said(job, stream, ProbeAnswer::Silent, scene),
            _ => {}
        }
        true
    }

    /// Takes the answer of a node, or that there is none.
    pub(super) fn node_said(&mut self, job: u64, stream: StreamId, answer: ProbeAnswer, scene: &mut Scene) {
        let address = self.address();
        let Some(measuring) = self.reading(job).and_then(|reading| reading.measuring.as_mut()) else { return };
        let Some(at) = measuring.streams.iter().position(|other| *other == Some(stream)) else { return };
        measuring.streams[at] = None;
        measuring.answers[at] = answer;
        scene.close(stream, address);
        self.measured_if_done(job, scene);
    }

    fn measured_if_done(&mut self, job: u64, scene: &mut Scene) {
        let (address, life) = (self.address(), self.life);
        let Some(reading) = self.reading(job) else { return };
        let done = |measuring: &mut Measuring| measuring.streams.iter().all(Option::is_none);
        let Some(Measuring { mut status, mut blocks, answers, .. }) = reading.measuring.take_if(done) else { return };
        let looks = reading.looks;
        let Some(last) = blocks.last_mut() else { return };
        let (offset_bytes, left_out) = (last.offset_bytes, last.left_out);
        let Some(named) = last.block.as_mut() else { return };
        scene.say(format_args!(
            "of open block {} {} nodes say {answers:?}, {left_out} were left out",
            named.id, named.stamp
        ));
        let asked = Asked { stamp: named.stamp, floor_bytes: named.len_bytes, left_out };
        let seen = if last.untouched { Some(named.len_bytes) } else { visible_bytes(&answers, asked) };
        match seen {
            Some(seen_bytes) => {
                scene.hit(Rare::OpenFileRead);
                let opening = Opening { floor_bytes: named.len_bytes, mtime_ns: status.mtime_ns };
                let bytes = self.shown.show(named.id, opening, seen_bytes);
                scene.say(format_args!("shows {bytes} of {seen_bytes}, {opening:?}"));
                named.len_bytes = bytes;
                status.len_bytes = status.len_bytes.max(offset_bytes + bytes);
                self.plan_read(job, &status, blocks, scene);
            }
            None if looks < LOOKS => scene.wake(address, life, PAUSE, Timer::OpenAgain(job)),
            None => {
                scene.hit(Rare::ReadFailed);
                self.finish(Outcome::Failed(ErrorCode::NoReplica), scene);
            }
        }
    }
}
