//! One contract, two carriers: every method, called through both, is answered the same.
//!
//! A call that changes something is made twice with the same number, first over one carrier, then over the other: it
//! takes effect once, and what the second one brings is what the namenode remembers of the first.

use proto::PROTOCOL_VERSION;
use proto::common::{Block, RequestHeader};
use proto::error::{ErrorCode, FsError};
use proto::methods::{self, Method};
use proto::namespace as n;

use super::audit;
use super::harness::{Framed, Grpc, Namenode, config, header, numbered};

/// What earlier methods of the table made.
#[derive(Default)]
struct Facts {
    inode: u64,
    lease_epoch: u64,
}

/// A request that makes sense after those of the methods before it, and what may differ between two answers.
trait Sample: Method<Answer: PartialEq + std::fmt::Debug> {
    fn sample(facts: &Facts) -> Self;
    fn scrub(_: &mut Self::Answer) {}
    fn learn(_: &Self::Answer, _: &mut Facts) {}
}

struct Callers {
    framed: Framed,
    grpc: Grpc,
    calls: u64,
    facts: Facts,
}

impl Callers {
    /// Over both carriers, in turn the one first or the other; framed, then gRPC.
    async fn ask<M: Method>(&mut self, request: &M) -> [Result<M::Answer, FsError>; 2] {
        if M::NUMBER.is_multiple_of(2) {
            [self.framed.ask(request).await, self.grpc.ask(request).await]
        } else {
            let grpc = self.grpc.ask(request).await;
            [self.framed.ask(request).await, grpc]
        }
    }

    async fn compare<M: Sample>(&mut self) {
        self.calls += 1;
        let mut good = M::sample(&self.facts);
        good.set_header(numbered(7, self.calls).unwrap());
        let [mut framed, mut grpc] = self.ask(&good).await;
        for answer in [&mut framed, &mut grpc].into_iter().flatten() {
            M::scrub(answer);
        }
        assert_eq!(framed, grpc, "{}", M::NAME);
        if let Ok(answer) = &framed {
            M::learn(answer, &mut self.facts);
        }

        let mut other_version = good.clone();
        other_version.set_header(RequestHeader { protocol_version: PROTOCOL_VERSION + 1, ..header().unwrap() });
        let mut nobody = good.clone();
        nobody.set_header(RequestHeader { user: "a b".into(), ..header().unwrap() });
        let mut half_a_session = good.clone();
        half_a_session.set_header(RequestHeader { session: vec![1; 8].into(), ..header().unwrap() });
        for (bad, code) in [
            (M::default(), ErrorCode::InvalidArgument),
            (other_version, ErrorCode::VersionMismatch),
            (nobody, ErrorCode::PermissionDenied),
            (half_a_session, ErrorCode::InvalidArgument),
        ] {
            let [framed, grpc] = self.ask(&bad).await;
            assert_eq!(framed, grpc, "{}", M::NAME);
            assert_eq!(framed.unwrap_err().code, code, "{}", M::NAME);
        }
        self.no_request::<M>().await;
        println!("{}: {}", M::NAME, framed.map_or_else(|error| error.to_string(), |_| "ok".to_owned()));
    }

    /// Bytes that are no request: tonic refuses them in words of its own, so only the refusal is compared.
    async fn no_request<M: Sample>(&mut self) {
        // The first field of every request is its header: this one ends in the middle of a field.
        let broken = vec![0x0a_u8, 0x7f, 0x01];
        let framed = {
            let frame = self.framed.frame_of(M::NUMBER, &broken);
            self.framed.send(&frame).await;
            let (head, message) = self.framed.next().await.unwrap();
            super::harness::result::<M::Answer>(head, &message).unwrap_err()
        };
        assert_eq!(framed.code, ErrorCode::Corrupt, "{}", M::NAME);
        assert!(!self.grpc.ask_with::<M, Vec<u8>>(broken).await.unwrap_err().retryable(), "{}", M::NAME);
    }
}

macro_rules! compare_all {
    ($($number:literal $name:ident $method:ident($request:ident -> $response:ident) = $command:literal;)*) => {
        async fn compare_all(callers: &mut Callers) {
            $(callers.compare::<n::$request>().await;)*
        }
    };
}
proto::client_methods!(compare_all);

#[tokio::test]
async fn every_method_is_answered_the_same_through_both_carriers() {
    let dir = tempfile::tempdir().unwrap();
    let namenode = Namenode::start(config(dir.path())).await;
    let (framed, grpc) = (namenode.framed().await, namenode.grpc().await);
    let mut callers = Callers { framed, grpc, calls: 0, facts: Facts::default() };
    compare_all(&mut callers).await;
    let list = n::ListRequest { header: header(), path: "/".into(), ..Default::default() };
    let [framed, grpc] = callers.ask(&list).await;
    assert_eq!(framed.unwrap(), grpc.unwrap());
    for carrier in ["proto=framed", "proto=grpc"] {
        // Five calls of each method were read: a good one and four bad ones.
        for command in ["cmd=mkdirs", "cmd=append", "cmd=truncate", "cmd=recoverLease", "cmd=listOpenFiles"] {
            let records = audit::records(&[command, carrier]).iter().filter(|line| line.contains("/both")).count();
            assert_eq!(records, 4, "{command}: the one without a header has no path");
        }
    }
    drop(callers);
    namenode.stop().await;
}

#[tokio::test]
async fn methods_beyond_the_table_are_refused_by_number() {
    let dir = tempfile::tempdir().unwrap();
    let namenode = Namenode::start(config(dir.path())).await;
    let mut caller = namenode.framed().await;
    for method in [0, methods::ALL.len() as u32 + 1, u32::MAX] {
        let frame = caller.frame_of(method, &());
        caller.send(&frame).await;
        let (head, message) = caller.next().await.unwrap();
        let error = super::harness::result::<()>(head, &message).unwrap_err();
        assert_eq!((head.method, error.code), (method, ErrorCode::Unsupported));
    }
    caller.ask(&n::ServerInfoRequest { header: header() }).await.unwrap();
    namenode.stop().await;
}

macro_rules! samples {
    ($($request:ident $facts:pat => { $($field:ident: $value:expr),* $(,)? })*) => {
        $(impl Sample for n::$request {
            fn sample($facts: &Facts) -> Self {
                #[allow(clippy::needless_update, reason = "some requests have no other fields")]
                Self { $($field: $value,)* ..Self::default() }
            }
        })*
    };
}

impl Sample for n::CreateRequest {
    fn sample(_: &Facts) -> Self {
        Self { path: "/both/file".into(), mode: 0o644, publish: n::Publish::AtOnce.into(), ..Self::default() }
    }
    fn learn(answer: &n::CreateResponse, facts: &mut Facts) {
        *facts = Facts { inode: answer.inode, lease_epoch: answer.lease_epoch };
    }
}

impl Sample for n::ClusterStatusRequest {
    fn sample(_: &Facts) -> Self {
        Self::default()
    }
    fn scrub(answer: &mut n::ClusterStatusResponse) {
        (answer.uptime_ms, answer.applied_index) = (0, 0);
    }
}

impl Sample for n::ListLeasesRequest {
    fn sample(_: &Facts) -> Self {
        Self { path: "/both".into(), ..Self::default() }
    }
    fn scrub(answer: &mut n::ListLeasesResponse) {
        answer.leases.iter_mut().for_each(|lease| lease.silent_ms = 0);
    }
}

samples! {
    ServerInfoRequest _ => {}
    MkdirRequest _ => { path: "/both/new".into(), mode: 0o750, parents: true }
    AddBlockRequest facts => { inode: facts.inode, lease_epoch: facts.lease_epoch }
    AbandonBlockRequest facts => { inode: facts.inode, lease_epoch: facts.lease_epoch, block: Some(Block::default()) }
    CompleteRequest facts => { inode: facts.inode, lease_epoch: facts.lease_epoch }
    DiscardRequest facts => { inode: facts.inode, lease_epoch: facts.lease_epoch }
    RenameRequest _ => { from: "/both/file".into(), to: "/both/moved".into() }
    DeleteRequest _ => { path: "/both/new".into(), recursive: true }
    StatRequest _ => { path: "/both/moved".into() }
    ListRequest _ => { path: "/both".into() }
    OpenRequest _ => { path: "/both/moved".into() }
    RenewLeaseRequest _ => {}
    ReportBadReplicaRequest _ => { block: Some(Block::default()) }
    ListNodesRequest _ => {}
    SetAttributesRequest _ => { path: "/both/moved".into(), mode: Some(0o600) }
    SymlinkRequest _ => { path: "/both/symlink".into(), target: "moved".into() }
    MakeNodeRequest _ => { path: "/both/pipe".into(), kind: n::FileKind::Fifo.into(), mode: 0o600 }
    LinkRequest _ => { existing: "/both/moved".into(), path: "/both/link".into() }
    ContentSummaryRequest _ => { path: "/both".into() }
    SetQuotaRequest _ => { path: "/both".into(), name_quota: Some(1000) }
    SetXattrRequest _ => {
        path: "/both".into(),
        xattr: Some(n::Xattr { name: "user.a".into(), value: vec![1, 2].into() }),
        create: true,
    }
    GetXattrsRequest _ => { path: "/both".into() }
    RemoveXattrRequest _ => { path: "/both".into(), name: "user.a".into() }
    ChangeAclRequest _ => {
        path: "/both/moved".into(),
        change: n::AclChange::Modify.into(),
        entries: vec![n::AclEntry { tag: n::AclTag::User.into(), name: "bo".into(), rights: 4, ..Default::default() }],
    }
    GetAclRequest _ => { path: "/both/moved".into() }
    ConcatRequest _ => { target: "/both/moved".into(), sources: vec!["/both/none".into()] }
    CheckAccessRequest _ => { path: "/both/moved".into(), rights: 4 }
    AllowSnapshotsRequest _ => { path: "/both".into(), allow: true }
    CreateSnapshotRequest _ => { path: "/both".into(), name: "s1".into() }
    RenameSnapshotRequest _ => { path: "/both".into(), from: "s1".into(), to: "s2".into() }
    DiffSnapshotsRequest _ => { path: "/both".into(), from: "s1".into() }
    DeleteSnapshotRequest _ => { path: "/both".into(), name: "s2".into() }
    ListSnapshotsRequest _ => { path: "/both".into() }
    FsckRequest _ => { path: "/".into() }
    NewStampRequest facts => { inode: facts.inode, lease_epoch: facts.lease_epoch, block: Some(Block::default()) }
    UpdatePipelineRequest facts => { inode: facts.inode, lease_epoch: facts.lease_epoch, block: Some(Block::default()) }
    PublishRequest facts => { inode: facts.inode, lease_epoch: facts.lease_epoch }
    AppendRequest _ => { path: "/both/moved".into() }
    TruncateRequest _ => { path: "/both/moved".into() }
    RecoverLeaseRequest _ => { path: "/both/moved".into() }
    SetNodeStateRequest _ => { node: "nobody".into() }
    ListJobsRequest _ => {}
    CancelJobRequest _ => { job: "none".into() }
    BalanceRequest _ => { threshold_percent: 101 }
}
