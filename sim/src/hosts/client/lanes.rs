//! A range of a block that is read by one machine, or by two that race.

use client::read::{BlockReadMachine, Hedge, Lane, ReadConfig};

use super::reading::Range;
use crate::network::StreamId;

/// Attempts that a lane may make at most: so far apart are their numbers.
const ATTEMPTS: u32 = 1000;

/// A lane for as long as it lives: the number before its first attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LaneId(u32);

/// One of the readers.
#[derive(Debug)]
pub(super) struct LaneReader {
    id: LaneId,
    pub(super) machine: BlockReadMachine,
    pub(super) stream: Option<(u32, StreamId)>,
    /// Nodes, in the order in which they were asked.
    pub(super) asked: Vec<String>,
}

/// The range and its readers.
#[derive(Debug)]
pub(super) struct Current {
    /// What was not delivered yet.
    pub(super) range: Range,
    pub(super) hedge: Hedge,
    /// The first, then the second.
    readers: Vec<LaneReader>,
    made: u32,
}

impl Current {
    pub(super) const fn new(range: Range, hedge: Hedge) -> Self {
        Self { range, hedge, readers: Vec::new(), made: 0 }
    }

    /// Adds a reader of what is left, which asks nodes last that the others have asked.
    pub(super) fn add_lane(&mut self, config: ReadConfig) -> LaneId {
        let id = LaneId(self.made * ATTEMPTS);
        self.made += 1;
        let mut block = self.range.block.clone();
        block.locations.sort_by_key(|at| self.was_asked(&at.node));
        let machine = BlockReadMachine::new(config, block, self.range.offset_bytes, self.range.len_bytes);
        let machine = machine.numbered_after(id.0);
        self.readers.push(LaneReader { id, machine, stream: None, asked: Vec::new() });
        id
    }

    /// Ends a lane; its stream is to be closed.
    pub(super) fn drop_lane(&mut self, lane: Lane) -> Option<StreamId> {
        let at = usize::from(lane == Lane::Second);
        if at >= self.readers.len() {
            return None;
        }
        self.readers.remove(at).stream.map(|(_, stream)| stream)
    }

    pub(super) fn has_another_replica(&self) -> bool {
        self.range.block.locations.iter().any(|at| !self.was_asked(&at.node))
    }

    fn was_asked(&self, node: &str) -> bool {
        self.readers.iter().any(|reader| reader.asked.iter().any(|one| one == node))
    }

    pub(super) fn reader(&mut self, lane: LaneId) -> Option<&mut LaneReader> {
        self.readers.iter_mut().find(|reader| reader.id == lane)
    }

    /// A reader, and which of the two it is now.
    pub(super) fn place_of(&mut self, lane: LaneId) -> Option<(Lane, &mut LaneReader)> {
        let at = self.readers.iter().position(|reader| reader.id == lane)?;
        let place = if at == 0 { Lane::First } else { Lane::Second };
        self.readers.get_mut(at).map(|reader| (place, reader))
    }

    pub(super) fn lane_ids(&self) -> Vec<LaneId> {
        self.readers.iter().map(|reader| reader.id).collect()
    }

    /// Whose attempt is this?
    pub(super) fn lane_of(&self, attempt: u32) -> Option<LaneId> {
        let made_by = |reader: &&LaneReader| (reader.id.0 + 1..=reader.id.0 + ATTEMPTS).contains(&attempt);
        self.readers.iter().find(made_by).map(|reader| reader.id)
    }

    /// The attempt that uses a stream.
    pub(super) fn attempt_on(&self, stream: StreamId) -> Option<u32> {
        let mut open = self.readers.iter().filter_map(|reader| reader.stream);
        open.find(|(_, open)| *open == stream).map(|(attempt, _)| attempt)
    }
}
