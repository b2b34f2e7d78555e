//! What datanodes say: registration (new storages are logged first), heartbeats, reports.

use std::time::Duration;

use auth::token::Mode;
use auth::{Caller, MasterKey};
use base::clock::Moment;
use bytes::Bytes;
use parking_lot::RwLockWriteGuard;
use proto::cluster::node_command::Kind;
use proto::cluster::{
    CopyReplica, HeartbeatRequest, HeartbeatResponse, IncrementalReportRequest, IncrementalReportResponse, NodeCommand,
    RegisterRequest, RegisterResponse, ReportBucketsRequest, ReportBucketsResponse,
};
use proto::common::Block;
use proto::error::{ErrorCode, FsError, FsResult};
use proto::ids::{BlockId, GenerationStamp, NodeId, StorageId};
use proto::log::CallerRecord;
use proto::log::command::Op;

use super::batch::{Then, Waiting};
use super::{Effect, NamenodeCore};
use crate::blocks::{Malformed, REREGISTER, RESTART};
use crate::namespace::{Identity, Namespace};
use crate::service::mint;
use crate::service::read::not_formatted;
use crate::service::request::{Request, Response, Ticket};

/// Replicas that are taken in, or told what to do, before waiting readers are let in: a fraction of a millisecond.
const CHANGES_AT_ONCE: usize = 128;
/// Time to the next heartbeat of a node that is to get more commands soon.
const AGAIN_SOON: Duration = Duration::from_millis(250);
/// Storages that one node may have.
const MAX_STORAGES: usize = 1024;
/// Longest path of a Unix socket.
const MAX_SOCKET_PATH_BYTES: usize = 107;
/// Longest name that a machine may give itself; a boot id has 36 bytes.
const MAX_MACHINE_BYTES: usize = 64;

fn invalid(what: impl Into<String>) -> FsError {
    FsError::new(ErrorCode::InvalidArgument, what)
}

impl NamenodeCore {
    /// Takes a datanode's request in.
    pub(super) fn node_request(
        &mut self,
        ticket: Ticket,
        caller: Caller,
        request: Request,
        (now, wall_ns): (Moment, i64),
        out: &mut Vec<Effect>,
    ) {
        let reports = matches!(request, Request::IncrementalReport(_) | Request::ReportBuckets(_));
        let response = match &request {
            Request::Register(register) => match self.missing_storages(register) {
                Err(error) => Err(error),
                Ok(missing) if missing.is_empty() => Ok(Response::Register(self.registered(register, now))),
                Ok(missing) => return self.log_storages(ticket, &caller, &request, missing, out),
            },
            Request::Heartbeat(heartbeat) => self.heartbeat(heartbeat, (now, wall_ns)).map(Response::Heartbeat),
            _ => self.report(&request, now),
        };
        out.push(Effect::Reply { ticket, response });
        if reports {
            self.look_at_safe_mode(now);
            self.retry_parked((now, wall_ns), out);
        }
    }

    /// Checks a registration; the storages that are not in the replicated registry.
    fn missing_storages(&self, register: &RegisterRequest) -> FsResult<Vec<(StorageId, String)>> {
        let namespace = self.shared.namespace.read();
        let identity = namespace.identity().ok_or_else(not_formatted)?;
        check_cluster(&register.cluster, identity.cluster.as_str(), &register.node)?;
        let node = NodeId::parse(&register.node).map_err(|bad| invalid(bad.to_string()))?;
        if register.host.is_empty() || register.host.len() > 255 || u16::try_from(register.transfer_port).is_err() {
            return Err(invalid(format!("datanode {node} gives no usable host and port")));
        }
        if register.storages.is_empty() || register.storages.len() > MAX_STORAGES {
            return Err(invalid(format!("datanode {node} has no storage, or more than {MAX_STORAGES}")));
        }
        if register.local_socket.len() > MAX_SOCKET_PATH_BYTES || register.machine.len() > MAX_MACHINE_BYTES {
            return Err(invalid(format!("datanode {node} gives no usable local door")));
        }
        let mut missing = Vec::new();
        for report in &register.storages {
            let storage = StorageId::parse(&report.storage).map_err(|bad| invalid(bad.to_string()))?;
            match namespace.storage_index(&storage).and_then(|index| namespace.storages().get(index.0 as usize)) {
                Some(record) if record.node == node => {}
                Some(record) => {
                    let owner = &record.node;
                    let text = format!("storage {storage} belongs to datanode {owner}, not to {node}");
                    let hint = "a disk was copied or moved: put it back, or give the node an empty folder";
                    return Err(FsError::new(ErrorCode::WrongCluster, text).with_hint(hint));
                }
                None => missing.push((storage, report.media.clone())),
            }
        }
        Ok(missing)
    }

    /// Puts new storages into the log; the registration goes on when the last of them is applied.
    fn log_storages(
        &mut self,
        ticket: Ticket,
        caller: &Caller,
        request: &Request,
        missing: Vec<(StorageId, String)>,
        out: &mut Vec<Effect>,
    ) {
        let Request::Register(register) = request else { return };
        if !self.role.serving {
            out.push(Effect::Reply { ticket, response: Err(self.not_leader()) });
            return;
        }
        let record = self.own_record();
        let count = missing.len();
        for (number, (storage, media)) in missing.into_iter().enumerate() {
            let op = Op::RegisterStorage(proto::log::RegisterStorage {
                storage: storage.as_str().to_owned(),
                node: register.node.clone(),
                media,
                rack: register.rack.clone(),
            });
            let last = number + 1 == count;
            let request = Box::new(if last { request.clone() } else { Request::Register(RegisterRequest::default()) });
            let then = Then::Register { ticket, caller: caller.clone(), request, last };
            self.waiting.push_back(Waiting { record: record.clone(), call: (bytes::Bytes::new(), 0, 0), op, then });
        }
    }

    /// The caller of the cluster's own operations.
    pub(super) fn own_record(&self) -> CallerRecord {
        Self::own_record_in(&self.shared.namespace.read())
    }
    /// As [`NamenodeCore::own_record`], for callers that hold the lock.
    pub(super) fn own_record_in(namespace: &Namespace) -> CallerRecord {
        let user = namespace.identity().map_or_else(|| "blockyard".to_owned(), |identity| identity.superuser.clone());
        CallerRecord { user, groups: vec![namespace.settings().superuser_group.clone()] }
    }

    fn registered(&self, register: &RegisterRequest, now: Moment) -> RegisterResponse {
        let namespace = self.shared.namespace.read();
        let mut blocks = self.shared.blocks.write();
        let Ok(node) = NodeId::parse(&register.node) else { return RegisterResponse::default() };
        blocks.registered(&node, register, now);
        let index = blocks.registry().node_by_id(&node);
        let mut response = RegisterResponse {
            term: self.role.term.raw(),
            heartbeat_interval_ms: self.config.heartbeat_interval.as_millis() as u64,
            full_report: index.is_some_and(|index| blocks.wants_full_report(index)),
            next_stamp: namespace.next_stamp().raw(),
            ..RegisterResponse::default()
        };
        if let Some(identity) = namespace.identity() {
            identity.cluster.as_str().clone_into(&mut response.cluster);
            identity.pool.as_str().clone_into(&mut response.pool);
        }
        let key = |key: &crate::namespace::BlockKey| {
            MasterKey::from_slice(&key.key).map(|master| (key.number, master.node_key(&node).as_bytes().to_vec()))
        };
        let mut keys = namespace.block_keys().iter().rev().filter_map(key);
        (response.key_number, response.node_key) = keys.next().map(|(n, k)| (n, k.into())).unwrap_or_default();
        (response.previous_key_number, response.previous_node_key) =
            keys.next().map(|(n, k)| (n, k.into())).unwrap_or_default();
        tracing::info!(%node, host = register.host, port = register.transfer_port, "a datanode registered");
        response
    }

    /// All storages of a registration are in the registry now.
    pub(super) fn go_on_registering(&self, request: &Request, now: Moment) -> FsResult<Response> {
        let Request::Register(register) = request else { return Err(invalid("not a registration")) };
        match self.missing_storages(register)?.first() {
            None => Ok(Response::Register(self.registered(register, now))),
            Some((storage, _)) => Err(FsError::new(ErrorCode::Internal, format!("{storage} was not registered"))),
        }
    }

    fn heartbeat(&self, heartbeat: &HeartbeatRequest, (now, wall_ns): (Moment, i64)) -> FsResult<HeartbeatResponse> {
        let namespace = self.shared.namespace.read();
        let identity = namespace.identity().ok_or_else(not_formatted)?;
        check_cluster(&heartbeat.cluster, identity.cluster.as_str(), &heartbeat.node)?;
        let business = {
            let mut blocks = self.shared.blocks.write();
            blocks.begin_heartbeat(heartbeat, now).map(|mut turn| {
                while blocks.go_on_with(&mut turn, CHANGES_AT_ONCE, &*namespace, now, &*self.random) {
                    RwLockWriteGuard::bump(&mut blocks);
                }
                blocks.end_heartbeat(turn)
            })
        };
        let mut response = HeartbeatResponse {
            term: self.role.term.raw(),
            leader: self.role.serving,
            key_number: namespace.block_keys().last().map_or(0, |key| key.number),
            reregister: business.is_none(),
            ..HeartbeatResponse::default()
        };
        if let Some(business) = business {
            response.commands = completed(business.commands, &namespace, identity, (wall_ns, self.life_ms()));
            response.full_report = business.full_report;
            let soon = AGAIN_SOON.min(self.config.heartbeat_interval);
            response.again_in_ms = if business.again { soon.as_millis() as u64 } else { 0 };
        }
        Ok(response)
    }

    fn report(&self, request: &Request, now: Moment) -> FsResult<Response> {
        let malformed = |error: Malformed| invalid(error.to_string());
        match request {
            Request::IncrementalReport(report) => {
                self.incremental(report, now).map(Response::IncrementalReport).map_err(malformed)
            }
            Request::ReportHashes(report) => {
                let namespace = self.shared.namespace.read();
                let taken = self.shared.blocks.write().hashes(report, &*namespace, now);
                taken.map(Response::ReportHashes).map_err(malformed)
            }
            Request::ReportBuckets(report) => self.buckets(report, now).map(Response::ReportBuckets).map_err(malformed),
            _ => Err(FsError::new(ErrorCode::Unsupported, "this call is not offered")),
        }
    }

    /// Takes changes in, some at a time: in between whoever waits may read. Nobody else writes.
    fn incremental(
        &self,
        report: &IncrementalReportRequest,
        now: Moment,
    ) -> Result<IncrementalReportResponse, Malformed> {
        let namespace = self.shared.namespace.read();
        let mut blocks = self.shared.blocks.write();
        let (now_some, rest) = report.changes.split_at(report.changes.len().min(CHANGES_AT_ONCE));
        let mut answer = blocks.changes(report, (report.first_sequence, now_some), &*namespace, now)?;
        let mut first = report.first_sequence;
        for changes in rest.chunks(CHANGES_AT_ONCE) {
            first = first.saturating_add(CHANGES_AT_ONCE as u64);
            if answer.reregister || answer.full_report || answer.next_sequence < first {
                break;
            }
            RwLockWriteGuard::bump(&mut blocks);
            answer = blocks.changes(report, (first, changes), &*namespace, now)?;
        }
        Ok(answer)
    }

    /// Takes a part of a full report in: the long look needs to read only, the changes come some at a time.
    fn buckets(&self, report: &ReportBucketsRequest, now: Moment) -> Result<ReportBucketsResponse, Malformed> {
        let namespace = self.shared.namespace.read();
        let Some(storage) = self.shared.blocks.write().begin_part(report, now) else { return Ok(REREGISTER) };
        let plan = self.shared.blocks.read().plan_part(storage, report)?;
        let Some(mut plan) = plan else { return Ok(RESTART) };
        let mut blocks = self.shared.blocks.write();
        while !plan.is_done() {
            if !blocks.take_some(&mut plan, CHANGES_AT_ONCE, &*namespace, now) {
                return Ok(RESTART);
            }
            RwLockWriteGuard::bump(&mut blocks);
        }
        Ok(blocks.end_part(plan, &*namespace, now))
    }

    /// Ends safe mode as soon as its time has come.
    pub(super) fn look_at_safe_mode(&self, now: Moment) {
        let namespace = self.shared.namespace.read();
        if namespace.identity().is_none() || self.shared.blocks.read().safe_mode().is_none() {
            return;
        }
        if self.role.serving && self.shared.blocks.write().look_at_safe_mode(&*namespace, now) {
            tracing::info!("safe mode is over");
        }
    }
}

/// A node of another cluster is refused before anything it says is believed.
fn check_cluster(found: &str, ours: &str, node: &str) -> FsResult<()> {
    if found.is_empty() || found == ours {
        return Ok(());
    }
    let text = format!("datanode {node} belongs to cluster {found}, this is {ours}");
    let hint = "point the datanode at its own namenode, or give it an empty folder";
    Err(FsError::new(ErrorCode::WrongCluster, text).with_hint(hint))
}

/// Names the pool in commands, makes the tokens of copies, and adds the digests of blocks that are read whole: the block
/// map knows none of them.
fn completed(
    mut commands: Vec<NodeCommand>,
    namespace: &Namespace,
    identity: &Identity,
    wall: (i64, i64),
) -> Vec<NodeCommand> {
    for command in &mut commands {
        let blocks = match &mut command.kind {
            Some(Kind::Delete(delete)) => delete.blocks.as_mut_slice(),
            Some(Kind::Verify(verify)) => {
                let digest = |block: &Block| {
                    let (id, stamp) = (BlockId::from_raw(block.id), GenerationStamp::from_raw(block.stamp));
                    let digest = namespace.block_digest(id, stamp, block.len_bytes);
                    digest.map_or_else(Bytes::new, |digest| Bytes::copy_from_slice(&digest))
                };
                verify.digests = verify.blocks.iter().map(digest).collect();
                verify.blocks.as_mut_slice()
            }
            Some(Kind::Copy(copy)) => {
                copy.token = token_of(copy, namespace, &identity.superuser, wall);
                copy.block.as_mut_slice()
            }
            Some(Kind::PrepareRecovery(prepare)) => prepare.block.as_mut_slice(),
            Some(Kind::FinishReplica(finish)) => finish.block.as_mut_slice(),
            None => &mut [],
        };
        blocks.iter_mut().for_each(|block| identity.pool.as_str().clone_into(&mut block.pool));
    }
    commands
}

/// The token with which a copy may be written on its targets.
fn token_of(copy: &CopyReplica, namespace: &Namespace, user: &str, wall: (i64, i64)) -> Bytes {
    let Some(block) = &copy.block else { return Bytes::new() };
    let stamp = GenerationStamp::from_raw(block.stamp);
    let block = (BlockId::from_raw(block.id), (stamp, stamp));
    let nodes: Vec<NodeId> = copy.targets.iter().filter_map(|target| NodeId::parse(&target.node).ok()).collect();
    mint(namespace, wall, (user, &[Mode::Copy, Mode::Write]), block, &nodes)
}
