//! Reads that may need more than one hold of the locks. Whoever drives one lets others in between two steps.

use proto::common::LocatedBlock;
use proto::error::FsResult;
use proto::log::CallerRecord;
use proto::namespace as n;
use proto::path::FsPath;

use super::View;
use super::fsck::FsckRead;
use super::leases::LeaseRead;
use super::request::{Request, Response};
use crate::blocks::Place;
use crate::namespace::walk::{DiffWalk, ListWalk, NAMES_AT_ONCE, SnapshotsWalk, StatWalk, SummaryWalk, Walk as _};
use crate::namespace::{BlockView, OpenFile};

/// Entries of a listing page, if the client names no limit, and at most: what one hold of the lock can show.
pub const LIST_PAGE: usize = 1000;
/// Blocks in one answer to `open`; clients ask for the next range.
pub const OPEN_BLOCKS: usize = 1000;
/// Locations in one answer to `open`, so that files with very many copies fit a message, too.
const OPEN_LOCATIONS: usize = 20_000;
/// Locations that are looked up and sealed into tokens while the locks are held once: some microseconds each.
pub(super) const LOCATIONS_AT_ONCE: usize = 128;

/// A read under way.
#[derive(Debug)]
pub struct Walk {
    who: CallerRecord,
    kind: Kind,
}

/// What is read.
#[derive(Debug)]
pub(super) enum Kind {
    Stat(StatWalk),
    List(ListWalk),
    Open(OpenRead),
    Summary(SummaryWalk),
    Snapshots(SnapshotsWalk),
    Diff(Box<DiffWalk>),
    Fsck(Box<FsckRead>),
    Leases(LeaseRead),
}

impl Kind {
    /// Of a request, if it is one that may take more than one step.
    ///
    /// # Errors
    /// What is wrong with the request.
    pub(super) fn of(request: &Request) -> FsResult<Option<Self>> {
        Ok(Some(match request {
            Request::List(r) => {
                let limit = if r.limit == 0 { LIST_PAGE } else { (r.limit as usize).min(LIST_PAGE) };
                Self::List(ListWalk::new(FsPath::parse(&r.path)?, &r.start_after, limit))
            }
            Request::ContentSummary(r) => Self::Summary(SummaryWalk::new(FsPath::parse(&r.path)?)),
            Request::ListSnapshots(r) => Self::Snapshots(SnapshotsWalk::new(&r.path)?),
            Request::DiffSnapshots(r) => Self::Diff(Box::new(DiffWalk::new(r)?)),
            Request::Fsck(r) => Self::Fsck(Box::new(FsckRead::new(r)?)),
            _ => return Ok(None),
        }))
    }
}

impl Walk {
    pub(super) const fn new(who: CallerRecord, kind: Kind) -> Self {
        Self { who, kind }
    }

    /// Goes on for one step. True: the answer is there.
    ///
    /// # Errors
    /// What the read says no to; it is over then.
    pub fn step(&mut self, view: &View<'_>) -> FsResult<bool> {
        view.step(&self.who, &mut self.kind)
    }
    /// The answer, once [`Walk::step`] was true. Needs no lock.
    #[must_use]
    pub fn answer(self) -> Response {
        self.kind.answer()
    }
    /// The file, if one is being opened.
    pub(crate) const fn opened(&self) -> Option<&n::FileStatus> {
        match &self.kind {
            Kind::Open(open) => Some(&open.file.status),
            _ => None,
        }
    }
}

impl Kind {
    pub(super) fn answer(self) -> Response {
        match self {
            Self::Stat(walk) => Response::Stat(n::StatResponse { status: Some(walk.answer()) }),
            Self::List(walk) => {
                let (entries, more) = walk.answer();
                Response::List(n::ListResponse { entries, more })
            }
            Self::Open(open) => {
                Response::Open(n::OpenResponse { status: Some(open.file.status), blocks: open.located })
            }
            Self::Summary(walk) => Response::ContentSummary(walk.answer()),
            Self::Snapshots(walk) => Response::ListSnapshots(n::ListSnapshotsResponse { snapshots: walk.answer() }),
            Self::Diff(walk) => Response::DiffSnapshots(n::DiffSnapshotsResponse { entries: walk.answer() }),
            Self::Fsck(read) => Response::Fsck(read.answer()),
            Self::Leases(read) => Response::ListLeases(read.answer()),
        }
    }
}

impl View<'_> {
    /// Makes one step. True: the answer is there.
    pub(super) fn step(&self, who: &CallerRecord, kind: &mut Kind) -> FsResult<bool> {
        let (namespace, mut left) = (self.namespace, NAMES_AT_ONCE);
        let caller = namespace.who(who)?;
        match kind {
            Kind::Stat(walk) => walk.step(namespace, &caller, &mut left),
            Kind::List(walk) => walk.step(namespace, &caller, &mut left),
            Kind::Open(open) => Ok(open.step(self, &who.user)),
            Kind::Summary(walk) => walk.step(namespace, &caller, &mut left),
            Kind::Snapshots(walk) => walk.step(namespace, &caller, &mut left),
            Kind::Diff(walk) => walk.step(namespace, &caller, &mut left),
            Kind::Fsck(read) => read.step(self, &caller, &mut left),
            Kind::Leases(read) => Ok(read.step(self, who, &mut left)),
        }
    }
}

/// The blocks of a file that is opened: found at once, then located and sealed in steps. A block that goes meanwhile
/// is no harm: its readers ask again.
#[derive(Debug)]
pub(super) struct OpenRead {
    file: OpenFile,
    client: (String, String),
    located: Vec<LocatedBlock>,
}

impl OpenRead {
    pub(super) fn new(mut file: OpenFile, request: &n::OpenRequest) -> Self {
        // The first one goes out whatever its size.
        let mut locations = 0;
        let mut fits = |block: &BlockView| {
            locations += locations_of(block);
            locations <= OPEN_LOCATIONS || block.offset_bytes <= request.offset_bytes
        };
        let fitting = file.blocks.iter().take_while(|block| fits(block)).count();
        file.blocks.truncate(fitting);
        let client = (request.client_host.clone(), request.client_machine.clone());
        Self { located: Vec::with_capacity(fitting), file, client }
    }

    /// True: all are located.
    pub(super) fn step(&mut self, view: &View<'_>, user: &str) -> bool {
        let mut locations = 0;
        let reader = Place { host: &self.client.0, machine: &self.client.1 };
        while let Some(block) = self.file.blocks.get(self.located.len()) {
            if locations >= LOCATIONS_AT_ONCE {
                return false;
            }
            locations += locations_of(block).max(1);
            self.located.push(view.located(user, block, reader));
        }
        true
    }
}

fn locations_of(block: &BlockView) -> usize {
    block.storages.len().max(block.replication as usize)
}
