//! The state that the core changes and doors may read.

use base::clock::Moment;
use parking_lot::RwLock;
use proto::error::FsResult;

use super::access_times::Accesses;
use super::lease::Leases;
use crate::blocks::BlockManager;
use crate::namespace::Namespace;
use crate::service::read::Read;
use crate::service::request::{Request, Response};
use crate::service::walk::Walk;
use crate::service::{MemberStatus, View};

/// Namespace and block map behind locks that are held for less than a millisecond: longer work is done in slices, with
/// the locks released in between. Rank: namespace, block map, member, leases.
pub struct Shared {
    /// The namespace.
    pub namespace: RwLock<Namespace>,
    /// The block map.
    pub blocks: RwLock<BlockManager>,
    /// Facts of the member, set by the core.
    pub member: RwLock<MemberStatus>,
    /// When sessions were heard of, as far as this member knows as a leader.
    pub(super) leases: RwLock<Leases>,
    /// Files that were read, until the log has their access times.
    pub(super) accesses: Accesses,
}

impl Shared {
    pub(super) fn new(namespace: Namespace, blocks: BlockManager) -> Self {
        Self {
            namespace: RwLock::new(namespace),
            blocks: RwLock::new(blocks),
            member: RwLock::new(MemberStatus::default()),
            leases: RwLock::new(Leases::default()),
            accesses: Accesses::default(),
        }
    }

    /// Runs something on one moment of the state.
    pub fn with<T>(&self, (wall_ns, token_life_ms): (i64, i64), run: impl FnOnce(&View<'_>) -> T) -> T {
        let namespace = self.namespace.read();
        let blocks = self.blocks.read();
        let member = *self.member.read();
        let leases = &self.leases;
        run(&View { namespace: &namespace, blocks: &blocks, member, leases, wall_ns, token_life_ms })
    }

    /// Answers a read at once or begins with it, if this member is the only voter and leads: everything acknowledged is
    /// applied here. `None`: the core has to answer.
    #[must_use]
    pub fn read_alone(&self, caller: &auth::Caller, request: &Request, now: Moment, wall: (i64, i64)) -> Option<Read> {
        let may = |view: &View<'_>| view.member.alone && view.member.serving && view.namespace.identity().is_some();
        self.read_if(wall, caller, request, now, may)
    }

    /// Answers a read, or begins with it. `None`: it is none.
    pub(super) fn read(&self, wall: (i64, i64), caller: &auth::Caller, request: &Request, now: Moment) -> Option<Read> {
        self.read_if(wall, caller, request, now, |_| true)
    }

    fn read_if(
        &self,
        wall: (i64, i64),
        caller: &auth::Caller,
        request: &Request,
        now: Moment,
        may: impl FnOnce(&View<'_>) -> bool,
    ) -> Option<Read> {
        let (read, precision_ms) = self.with(wall, |view| {
            let read = may(view).then(|| view.read(&view.record(caller), request, now)).flatten();
            (read, view.namespace.settings().access_time_precision_ms)
        });
        let opened = match &read {
            Some(Read::Answered(Ok(Response::Open(opened)))) => opened.status.as_ref(),
            Some(Read::Walking(walk)) => walk.opened(),
            _ => None,
        };
        if let Some(opened) = opened {
            self.accesses.note(request, opened, (wall.0, precision_ms));
        }
        read
    }

    /// Goes on with a read for one step. True: it is done, and its answer is there without any lock.
    ///
    /// # Errors
    /// What the read says no to; it is over then.
    pub fn walk(&self, wall: (i64, i64), walk: &mut Walk) -> FsResult<bool> {
        self.with(wall, |view| walk.step(view))
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("member", &*self.member.read()).finish_non_exhaustive()
    }
}
