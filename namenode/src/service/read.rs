//! Answers that change nothing: the namespace and the block map as they are.

use auth::token::Mode;
use bytes::Bytes;
use proto::PROTOCOL_VERSION;
use proto::common::{Block, LocatedBlock};
use proto::error::{ErrorCode, FsError, FsResult};
use proto::log::CallerRecord;
use proto::namespace as n;
use proto::path::FsPath;

use super::View;
use super::leases::LeaseRead;
use super::request::{Request, Response};
use super::walk::{Kind, OPEN_BLOCKS, OpenRead, Walk};
use crate::blocks::{Node, NodeIndex, Place, StorageIndex};
use crate::namespace::BlockView;
use crate::namespace::walk::StatWalk;

/// Version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What became of a read at once.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "most reads are answered at once, without a further allocation")]
pub enum Read {
    /// It is answered.
    Answered(FsResult<Response>),
    /// It needs more steps.
    Walking(Box<Walk>),
}

impl View<'_> {
    /// Answers a request that only reads, or begins with it; `None` if it is not one.
    #[must_use]
    pub fn read(&self, who: &CallerRecord, request: &Request, now: base::clock::Moment) -> Option<Read> {
        Some(Read::Answered(match request {
            Request::ServerInfo(_) => self.server_info().map(Response::ServerInfo),
            Request::Stat(request) => match self.stat(who, request) {
                Ok(walk) if walk.is_done() => Ok(Kind::Stat(walk).answer()),
                Ok(walk) => return Some(self.begin(who, Kind::Stat(walk))),
                Err(error) => Err(error),
            },
            Request::Open(request) => match self.open(who, request) {
                Ok(open) => return Some(self.begin(who, Kind::Open(open))),
                Err(error) => Err(error),
            },
            Request::ListLeases(r) => match LeaseRead::new(r, now) {
                Ok(leases) => return Some(self.begin(who, Kind::Leases(leases))),
                Err(error) => Err(error),
            },
            Request::ClusterStatus(_) => self.cluster_status().map(Response::ClusterStatus),
            Request::ListNodes(_) => Ok(Response::ListNodes(self.list_nodes(now))),
            Request::ListJobs(r) => self.list_jobs(who, r, now).map(Response::ListJobs),
            Request::GetXattrs(r) => {
                self.namespace.xattrs(who, r).map(|xattrs| Response::GetXattrs(n::GetXattrsResponse { xattrs }))
            }
            Request::GetAcl(r) => self.acl(who, r).map(Response::GetAcl),
            Request::CheckAccess(r) => self.check_access(who, r).map(Response::CheckAccess),
            request => match Kind::of(request) {
                Ok(Some(kind)) => return Some(self.begin(who, kind)),
                Ok(None) => return None,
                Err(error) => Err(error),
            },
        }))
    }

    /// Makes the first step.
    fn begin(&self, who: &CallerRecord, mut kind: Kind) -> Read {
        match self.step(who, &mut kind) {
            Ok(true) => Read::Answered(Ok(kind.answer())),
            Ok(false) => Read::Walking(Box::new(Walk::new(who.clone(), kind))),
            Err(error) => Read::Answered(Err(error)),
        }
    }

    fn server_info(&self) -> FsResult<n::ServerInfoResponse> {
        let identity = self.namespace.identity().ok_or_else(not_formatted)?;
        let settings = self.namespace.settings();
        Ok(n::ServerInfoResponse {
            cluster: identity.cluster.as_str().to_owned(),
            pool: identity.pool.as_str().to_owned(),
            block_size_bytes: settings.default_block_size_bytes,
            replication: settings.default_replication,
            protocol_version: PROTOCOL_VERSION,
            version: VERSION.to_owned(),
            safe_mode: self.blocks.safe_mode().is_some(),
            trash_interval_ms: settings.trash_interval_ms,
        })
    }

    fn stat(&self, who: &CallerRecord, request: &n::StatRequest) -> FsResult<StatWalk> {
        self.namespace.stat_walk(who, &FsPath::parse(&request.path)?, request.no_follow)
    }

    fn acl(&self, who: &CallerRecord, r: &n::GetAclRequest) -> FsResult<n::GetAclResponse> {
        self.namespace.acl(who, &FsPath::parse(&r.path)?)
    }
    fn check_access(&self, who: &CallerRecord, r: &n::CheckAccessRequest) -> FsResult<n::CheckAccessResponse> {
        let allowed = self.namespace.check_access(who, &FsPath::parse(&r.path)?, r.rights)?;
        Ok(n::CheckAccessResponse { allowed })
    }

    fn open(&self, who: &CallerRecord, request: &n::OpenRequest) -> FsResult<OpenRead> {
        let end = match request.len_bytes {
            0 => u64::MAX,
            len_bytes => request.offset_bytes.saturating_add(len_bytes),
        };
        let path = FsPath::parse(&request.path)?;
        let file = self.namespace.open(who, &path, request.offset_bytes..end, OPEN_BLOCKS)?;
        Ok(OpenRead::new(file, request))
    }

    pub(super) fn located(&self, user: &str, block: &BlockView, reader: Place<'_>) -> LocatedBlock {
        // What is open in the block map may be final for a reader: of a file that is cut, or in a snapshot.
        let now = self.namespace.block(block.block);
        let open = now.is_some_and(|now| !now.committed);
        // A snapshot may see less of it than its replicas have.
        let replica_bytes = now.map_or(block.len_bytes, |now| now.len_bytes);
        let found = if open {
            self.blocks.locate_open((block.block, block.stamp), &block.storages, reader)
        } else {
            let what = (block.block, block.stamp, replica_bytes);
            self.blocks.locate(what, &block.storages, block.replication, reader)
        };
        let reserved = if open { self.namespace.lease(block.inode) } else { None };
        let ceiling = reserved.and_then(|view| view.lease.reserved_stamp).unwrap_or(block.stamp).max(block.stamp);
        let stamps = (block.stamp, ceiling);
        LocatedBlock {
            block: Some(Block {
                pool: self.pool().to_owned(),
                id: block.block.raw(),
                stamp: block.stamp.raw(),
                len_bytes: block.len_bytes,
            }),
            offset_bytes: block.offset_bytes,
            token: self.mint_range(user, &[Mode::Read], block.block, stamps, &found.nodes).to_vec().into(),
            locations: found.locations,
            corrupt: found.corrupt,
            open: open && !block.committed,
            left_out: found.left_out,
            untouched: open && block.untouched,
            digest: block.digest.map_or_else(Bytes::new, |digest| Bytes::copy_from_slice(&digest)),
        }
    }

    fn cluster_status(&self) -> FsResult<n::ClusterStatusResponse> {
        let identity = self.namespace.identity().ok_or_else(not_formatted)?;
        let names = self.namespace.counts();
        let blocks = self.blocks.counts();
        let (live, stale, dead) = self.blocks.node_counts();
        let mut status = n::ClusterStatusResponse {
            cluster: identity.cluster.as_str().to_owned(),
            pool: identity.pool.as_str().to_owned(),
            version: VERSION.to_owned(),
            uptime_ms: self.member.uptime_ms,
            safe_mode: self.blocks.safe_mode().is_some(),
            safe_mode_reason: self.blocks.safe_mode().unwrap_or_default().to_owned(),
            files: names.files,
            directories: names.directories,
            blocks: names.blocks,
            under_replicated: blocks.under_replicated,
            moving: blocks.moving,
            leaving_nodes: self.blocks.nodes_out_of_service().0,
            maintenance_nodes: self.blocks.nodes_out_of_service().1,
            missing: blocks.missing,
            corrupt: blocks.corrupt,
            pending_copy: blocks.pending_copy,
            pending_delete: blocks.pending_delete,
            live_nodes: live + stale,
            dead_nodes: dead,
            open_files: names.open_files,
            term: self.member.term.raw(),
            applied_index: self.namespace.applied().0.raw(),
            ..n::ClusterStatusResponse::default()
        };
        for (index, storage) in self.blocks.registry().storages() {
            if self.blocks.registry().counts(index) {
                status.capacity_bytes += storage.capacity_bytes;
                status.used_bytes += storage.used_bytes;
                status.available_bytes += storage.available_bytes;
            }
        }
        Ok(status)
    }

    fn list_nodes(&self, now: base::clock::Moment) -> n::ListNodesResponse {
        let node = |(index, node): (NodeIndex, &Node)| n::NodeStatus {
            node: node.id.as_str().to_owned(),
            host: node.host.clone(),
            transfer_port: u32::from(node.transfer_port),
            http_address: node.http_address.clone(),
            rack: node.rack.clone(),
            state: node.state.as_str().to_owned(),
            last_contact_ms: node.last_contact.map_or(self.member.uptime_ms, |at| now.since(at).as_millis() as u64),
            blocks: node.storages.iter().map(|storage| self.blocks.replicas().count_on(*storage)).sum(),
            storages: node.storages.iter().map(|storage| self.storage_status(*storage)).collect(),
            version: node.version.clone(),
            service: self.blocks.service_word(index).to_owned(),
            service_ends_in_ms: self.service_ends_in_ms(node.service),
        };
        n::ListNodesResponse { nodes: self.blocks.registry().nodes().map(node).collect() }
    }

    fn storage_status(&self, index: StorageIndex) -> n::StorageStatus {
        let storage = self.blocks.registry().at(index);
        n::StorageStatus {
            storage: storage.id.as_str().to_owned(),
            media: storage.media.clone(),
            state: match (&storage.failure, storage.state.as_str()) {
                (Some(_), "") => "failed".to_owned(),
                (None, "") => "normal".to_owned(),
                (_, told) => told.to_owned(),
            },
            capacity_bytes: storage.capacity_bytes,
            used_bytes: storage.used_bytes,
            available_bytes: storage.available_bytes,
            blocks: self.blocks.replicas().count_on(index),
            why: storage.failure.as_ref().or(storage.limited.as_ref()).cloned().unwrap_or_default(),
        }
    }
}

/// The refusal of a cluster that is being made.
pub(crate) fn not_formatted() -> FsError {
    FsError::new(ErrorCode::Unavailable, "the cluster is being formatted").with_hint("try again in a moment")
}
