//! Reading a file: the shell of `client::read::Reader`, with streams for its sockets.

use std::time::Duration;

use client::read::{Hedge, HedgeConfig, HedgeEffect, HedgeEvent, ReadConfig, ReadEffect, ReadEvent};
use namenode::service::request::Response;
use proto::common::{LocatedBlock, StorageLocation};
use proto::error::{ErrorCode, FsError, FsResult};
use proto::namespace::{self as n, FileStatus};
use transfer::{BlockRef, ReadSetup};

use super::ClientHost;
use super::calls::{Ended, Purpose};
use super::jobs::{Job, Stage, open};
use super::lanes::{Current, LaneId};
use super::measuring::Measuring;
use crate::coverage::Rare;
use crate::hosts::datanode::{FIRST_PORT, address_of};
use crate::hosts::millis;
use crate::message::{Part, Timer};
use crate::network::StreamId;
use crate::scene::Scene;
use crate::workload::{Data, Op, Outcome};

/// Pause before the namenode is asked again where a block is.
const RELOCATE_PAUSE: Duration = millis(500);

/// A file that is being read.
#[derive(Debug)]
pub(super) struct Reading {
    /// What is wanted, in thousandths of the file.
    part: (u64, u64),
    /// Ranges that are still to come, each in one block.
    ranges: Vec<Range>,
    pub(super) current: Option<Current>,
    bytes: Vec<u8>,
    len_bytes: u64,
    start_bytes: u64,
    /// The file was being written when it was opened.
    open: bool,
    /// Its open block is asked for.
    pub(super) measuring: Option<Measuring>,
    pub(super) looks: u32,
}

/// What is left of a range of a block.
#[derive(Debug)]
pub(super) struct Range {
    pub(super) block: LocatedBlock,
    pub(super) offset_bytes: u64,
    pub(super) len_bytes: u64,
}

impl Reading {
    pub(super) fn new(part: (u64, u64)) -> Self {
        let (ranges, bytes) = (Vec::new(), Vec::new());
        let (current, measuring) = (None, None);
        Self { part, ranges, current, bytes, len_bytes: 0, start_bytes: 0, open: false, measuring, looks: 0 }
    }

    /// Cuts what is wanted into ranges of blocks. False: the blocks do not cover the file.
    fn plan(&mut self, len_bytes: u64, blocks: Vec<LocatedBlock>) -> bool {
        let (start, end) = (len_bytes * self.part.0 / 1000, len_bytes * self.part.1 / 1000);
        (self.len_bytes, self.start_bytes) = (len_bytes, start);
        let mut at = 0;
        for block in blocks {
            let block_bytes = block.block.as_ref().map_or(0, |block| block.len_bytes);
            if block.offset_bytes != at {
                return false;
            }
            at += block_bytes;
            let from = start.max(block.offset_bytes);
            let to = end.min(block.offset_bytes + block_bytes);
            if from < to {
                let offset_bytes = from - block.offset_bytes;
                self.ranges.push(Range { block, offset_bytes, len_bytes: to - from });
            }
        }
        self.ranges.reverse();
        at == len_bytes
    }
}

impl ClientHost {
    pub(super) fn reading(&mut self, job: u64) -> Option<&mut Reading> {
        match &mut self.job {
            Some(Job { id, stage: Stage::Reading(reading), .. }) if *id == job => Some(reading),
            _ => None,
        }
    }

    pub(super) fn reader_call_ended(&mut self, ended: Ended, scene: &mut Scene) {
        let Ended { purpose, job, result } = ended;
        let opened = result.and_then(|response| match response {
            Response::Open(n::OpenResponse { status: Some(status), blocks }) => Ok((status, blocks)),
            _ => Err(FsError::new(ErrorCode::Internal, "the namenode's answer is incomplete")),
        });
        if purpose == Purpose::Relocate {
            return self.relocated(job, opened, scene);
        }
        let Some(reading) = self.reading(job) else { return };
        match opened {
            Ok((status, blocks)) => {
                reading.open = status.open_for_write;
                if blocks.last().is_some_and(|block| block.open) {
                    return self.measure(job, status, blocks, scene);
                }
                self.plan_read(job, &status, blocks, scene);
            }
            Err(error) => self.finish(Outcome::Failed(error.code), scene),
        }
    }

    /// Begins to read what is wanted of a file of this length.
    pub(super) fn plan_read(&mut self, job: u64, status: &FileStatus, blocks: Vec<LocatedBlock>, scene: &mut Scene) {
        let Some(reading) = self.reading(job) else { return };
        if !reading.plan(status.len_bytes, blocks) {
            scene.violation(format!("the blocks of a file of {} bytes do not cover it", status.len_bytes));
        }
        self.next_range(job, scene);
    }

    /// Looks again where the open block of the file is.
    pub(super) fn open_again(&mut self, job: u64, scene: &mut Scene) {
        let Some(Job { id, op: Op::Read { path, .. }, .. }) = &self.job else { return };
        if *id == job {
            let request = open(path, 0, 0);
            self.ask(Purpose::Open, request, false, scene);
        }
    }

    fn relocated(&mut self, job: u64, opened: FsResult<(n::FileStatus, Vec<LocatedBlock>)>, scene: &mut Scene) {
        let Some(current) = self.reading(job).and_then(|reading| reading.current.as_ref()) else { return };
        let wanted = current.range.block.offset_bytes;
        let found = opened.and_then(|(_, blocks)| {
            let block = blocks.into_iter().find(|block| block.offset_bytes == wanted);
            block.ok_or_else(|| FsError::new(ErrorCode::NotFound, "the file was replaced by a shorter one"))
        });
        // Whoever did not ask does not listen.
        for lane in self.lanes(job) {
            self.tell_lane(job, lane, ReadEvent::Relocated(found.clone()), scene);
        }
    }

    fn next_range(&mut self, job: u64, scene: &mut Scene) {
        let Some(reading) = self.reading(job) else { return };
        match reading.ranges.pop() {
            Some(range) => {
                self.hedges.read_begins(&HedgeConfig::default());
                let hedge = Hedge::new(&HedgeConfig::default(), self.first_packets.delay(&HedgeConfig::default()));
                let Some(reading) = self.reading(job) else { return };
                let mut current = Current::new(range, hedge);
                let lane = current.add_lane(ReadConfig::default());
                reading.current = Some(current);
                self.tell_hedge(job, HedgeEvent::Waits, scene);
                self.tell_lane(job, lane, ReadEvent::Start, scene);
            }
            None => {
                let (len_bytes, open, start_bytes) = (reading.len_bytes, reading.open, reading.start_bytes);
                let bytes = std::mem::take(&mut reading.bytes);
                self.finish(Outcome::Bytes { len_bytes, open, start_bytes, bytes: Data(bytes) }, scene);
            }
        }
    }

    /// An event of an attempt.
    pub(super) fn tell_reader(&mut self, job: u64, event: ReadEvent, scene: &mut Scene) {
        let (ReadEvent::Opened { attempt, .. } | ReadEvent::Packet { attempt, .. } | ReadEvent::Failed { attempt, .. }) =
            &event
        else {
            return;
        };
        let attempt = *attempt;
        let lane = self.current(job).and_then(|current| current.lane_of(attempt));
        if let Some(lane) = lane {
            self.tell_lane(job, lane, event, scene);
        }
    }

    /// Time passed.
    pub(super) fn tick_reader(&mut self, job: u64, scene: &mut Scene) {
        for lane in self.lanes(job) {
            self.tell_lane(job, lane, ReadEvent::Tick, scene);
        }
        self.tell_hedge(job, HedgeEvent::Tick, scene);
    }

    pub(super) fn tell_lane(&mut self, job: u64, lane: LaneId, event: ReadEvent, scene: &mut Scene) {
        let now = scene.now();
        let Some(reader) = self.current(job).and_then(|current| current.reader(lane)) else { return };
        let mut out = Vec::new();
        reader.machine.handle(event, now, &mut out);
        let deadline = reader.machine.next_deadline();
        if let Some(deadline) = deadline {
            scene.wake(self.address(), self.life, deadline.since(now), Timer::ReaderTick(job));
        }
        for effect in out {
            self.perform_read(job, lane, effect, scene);
        }
    }

    fn tell_hedge(&mut self, job: u64, event: HedgeEvent, scene: &mut Scene) {
        let now = scene.now();
        let Some(current) = self.current(job) else { return };
        let mut out = Vec::new();
        current.hedge.handle(event, now, &mut out);
        if let Some(deadline) = current.hedge.next_deadline() {
            scene.wake(self.address(), self.life, deadline.since(now), Timer::ReaderTick(job));
        }
        for effect in out {
            match effect {
                HedgeEffect::WantsSecond => self.start_second(job, scene),
                HedgeEffect::Took(took) => self.first_packets.note(took),
                HedgeEffect::Drop { lane, slower } => {
                    if lane == client::read::Lane::First && slower {
                        scene.hit(Rare::HedgeWon);
                    }
                    self.hedges.over();
                    let address = self.address();
                    let dropped = self.current(job).and_then(|current| current.drop_lane(lane));
                    if let Some(stream) = dropped {
                        scene.close(stream, address);
                    }
                }
            }
        }
    }

    /// Reads what is left from another replica as well, if there is one, and the budget allows it.
    fn start_second(&mut self, job: u64, scene: &mut Scene) {
        let (config, now, mut lane) = (HedgeConfig::default(), scene.now(), None);
        if self.current(job).is_some_and(|current| current.has_another_replica()) && self.hedges.grant(&config, now) {
            lane = self.current(job).map(|current| current.add_lane(ReadConfig::default()));
        }
        self.tell_hedge(job, HedgeEvent::Second { granted: lane.is_some() }, scene);
        if let Some(lane) = lane {
            self.tell_lane(job, lane, ReadEvent::Start, scene);
        }
    }

    fn perform_read(&mut self, job: u64, lane: LaneId, effect: ReadEffect, scene: &mut Scene) {
        let (address, life, name) = (self.address(), self.life, self.name.clone());
        let Some(reading) = self.reading(job) else { return };
        let Some(current) = &mut reading.current else { return };
        let is_racing = current.hedge.is_racing();
        let Some((place, reader)) = current.place_of(lane) else { return };
        match effect {
            ReadEffect::Connect { attempt, location, block, token, offset_bytes, len_bytes } => {
                reader.asked.push(location.node.clone());
                let setup = BlockRef::from_common(&block).map(|block| ReadSetup {
                    block,
                    token,
                    client_name: name,
                    offset_bytes,
                    len_bytes,
                    send_checksums: true,
                });
                match setup {
                    Ok(setup) => {
                        let stream = scene.network.open(address, address_of(port_of(&location)));
                        reader.stream = Some((attempt, stream));
                        scene.push(stream, address, Part::Read(Box::new(setup)));
                    }
                    Err(error) => {
                        let failed = ReadEvent::Failed { attempt, why: error.to_string() };
                        scene.wake(address, life, Duration::ZERO, Timer::ToReader(job, Box::new(failed)));
                    }
                }
            }
            ReadEffect::Deliver(bytes) => {
                current.range.offset_bytes += bytes.len() as u64;
                current.range.len_bytes = current.range.len_bytes.saturating_sub(bytes.len() as u64);
                let more = current.range.len_bytes > 0;
                reading.bytes.extend_from_slice(&bytes);
                self.tell_hedge(job, HedgeEvent::Brought(place), scene);
                if more {
                    self.tell_hedge(job, HedgeEvent::Waits, scene);
                }
            }
            ReadEffect::Close { .. } | ReadEffect::Finish { .. } => {
                if let Some((_, stream)) = reader.stream.take() {
                    scene.close(stream, address);
                }
            }
            ReadEffect::ReportBad { block, storage } => {
                scene.hit(Rare::ChecksumMismatch);
                let request = n::ReportBadReplicaRequest { header: None, block: Some(block), storages: vec![storage] };
                self.aside(request.into(), None, Duration::from_secs(3), scene);
            }
            ReadEffect::AvoidNode { .. } => {}
            // A second attempt is for replicas that are known already.
            ReadEffect::Relocate { .. } if is_racing && place == client::read::Lane::Second => {
                let error = FsError::new(ErrorCode::NoReplica, "no other replica can be read");
                self.tell_lane(job, lane, ReadEvent::Relocated(Err(error)), scene);
            }
            ReadEffect::Relocate { asked_before } => {
                scene.hit(Rare::Relocated);
                let pause = if asked_before == 0 { Duration::ZERO } else { RELOCATE_PAUSE };
                scene.wake(address, life, pause, Timer::Relocate(job));
            }
            ReadEffect::Done(Ok(())) => {
                if reader.asked.len() > 1 {
                    scene.hit(Rare::ReadFailover);
                }
                reading.current = None;
                self.next_range(job, scene);
            }
            ReadEffect::Done(Err(_)) if is_racing => self.tell_hedge(job, HedgeEvent::Failed(place), scene),
            ReadEffect::Done(Err(error)) => {
                scene.say(format_args!("a read failed: {error}"));
                scene.hit(Rare::ReadFailed);
                // Whatever the code: it says nothing of the name, only of the data.
                self.finish(Outcome::Failed(ErrorCode::NoReplica), scene);
            }
        }
    }

    fn current(&mut self, job: u64) -> Option<&mut Current> {
        self.reading(job)?.current.as_mut()
    }

    fn lanes(&mut self, job: u64) -> Vec<LaneId> {
        self.current(job).map(|current| current.lane_ids()).unwrap_or_default()
    }

    pub(super) fn relocate_now(&mut self, job: u64, scene: &mut Scene) {
        let Some(current) = self.reading(job).and_then(|reading| reading.current.as_ref()) else { return };
        let start = current.range.block.offset_bytes;
        let Some(Job { op: Op::Read { path, .. }, .. }) = &self.job else { return };
        let request = open(path, start, 1);
        self.ask(Purpose::Relocate, request, false, scene);
    }

    pub(super) fn reader_part(&mut self, stream: StreamId, part: Part, scene: &mut Scene) {
        let Some(Job { id, stage: Stage::Reading(reading), .. }) = &self.job else { return };
        let job = *id;
        let attempt = reading.current.as_ref().and_then(|current| current.attempt_on(stream));
        let Some(attempt) = attempt else { return };
        let event = match part {
            Part::Reply(response) => ReadEvent::Opened { attempt, response: *response },
            Part::Packet(packet) => ReadEvent::Packet { attempt, packet },
            Part::Closed => ReadEvent::Failed { attempt, why: "it closed the connection".to_owned() },
            _ => return,
        };
        self.tell_reader(job, event, scene);
    }
}

fn port_of(location: &StorageLocation) -> u16 {
    u16::try_from(location.transfer_port).unwrap_or(FIRST_PORT)
}
