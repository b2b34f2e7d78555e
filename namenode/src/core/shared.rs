//! The state that the core changes and doors may read.

use base::clock::Moment;
use parking_lot::RwLock;
use proto::error::FsResult;

use super::access_times::Accesses;
use crate::blocks::BlockManager;
use crate::namespace::Namespace;
use crate::service::request::{Request, Response};
use crate::service::{MemberStatus, View};

/// Namespace and block map behind locks that are held at most for one log entry. Rank: namespace first.
pub struct Shared {
    /// The namespace.
    pub namespace: RwLock<Namespace>,
    /// The block map.
    pub blocks: RwLock<BlockManager>,
    /// Facts of the member, set by the core.
    pub member: RwLock<MemberStatus>,
    /// Files that were read, until the log has their access times.
    pub(super) accesses: Accesses,
}

impl Shared {
    pub(super) fn new(namespace: Namespace, blocks: BlockManager) -> Self {
        Self {
            namespace: RwLock::new(namespace),
            blocks: RwLock::new(blocks),
            member: RwLock::new(MemberStatus::default()),
            accesses: Accesses::default(),
        }
    }

    /// Runs something on one moment of the state.
    pub fn with<T>(&self, (wall_ns, token_life_ms): (i64, i64), run: impl FnOnce(&View<'_>) -> T) -> T {
        let namespace = self.namespace.read();
        let blocks = self.blocks.read();
        let member = *self.member.read();
        run(&View { namespace: &namespace, blocks: &blocks, member, wall_ns, token_life_ms })
    }

    /// Answers a read at once, if this member is the only voter and leads: everything acknowledged is applied
    /// here. `None`: the core has to answer.
    #[must_use]
    pub fn read_alone(
        &self,
        caller: &auth::Caller,
        request: &Request,
        now: Moment,
        wall: (i64, i64),
    ) -> Option<FsResult<Response>> {
        let (answer, precision_ms) = self.with(wall, |view| {
            let may = view.member.alone && view.member.serving && view.namespace.identity().is_some();
            let answer = may.then(|| view.read(&view.record(caller), request, now)).flatten();
            (answer, view.namespace.settings().access_time_precision_ms)
        });
        if let Some(Ok(Response::Open(opened))) = &answer {
            self.accesses.note(request, opened, (wall.0, precision_ms));
        }
        answer
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("member", &*self.member.read()).finish_non_exhaustive()
    }
}
