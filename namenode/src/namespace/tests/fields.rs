//! Every field at its limits: the last value that fits is kept through image and log, the first that does not is refused
//! with the code of its reason and changes nothing.

use proto::error::ErrorCode;
use proto::log::command::Op;
use proto::log::{
    AclEntry, AllowSnapshots, ChangeAcl, Concat, Create, CreateSnapshot, DeleteSnapshot, Link, RenameSnapshot,
    SetAccessTimes, SetAttributes, SetQuota, SetXattr, Settings, Symlink, UpdateSettings,
};
use proto::namespace::{AclChange, AclScope, AclTag, FileStatus, GetXattrsRequest};
use proto::path::{MAX_NAME_BYTES, MAX_PATH_BYTES};

use super::harness::{BLOCK, Bench, SUPER, by, caller, code, image_of, new_file, path, replay, settings};
use crate::namespace::ops::{MAX_NAMES, MAX_SOURCES};
use crate::namespace::{COMMAND_SET_VERSION, Namespace};

fn attributes(set: SetAttributes) -> Op {
    Op::SetAttributes(set)
}
fn of(path: &str) -> SetAttributes {
    SetAttributes { path: path.into(), ..SetAttributes::default() }
}
fn xattr(name: String, len: usize) -> Op {
    let value = vec![7; len].into();
    Op::SetXattr(SetXattr { path: "/d/f".into(), name, value, create: true, replace: true, no_follow: false })
}
fn quota(names: Option<u64>, space_bytes: Option<u64>) -> Op {
    let (path, space_quota_bytes) = ("/d".to_owned(), space_bytes);
    Op::SetQuota(SetQuota { path, name_quota: names, space_quota_bytes, ..SetQuota::default() })
}
fn symlink(at: &str, target: String) -> Op {
    Op::Symlink(Symlink { path: at.into(), target, parents: false })
}
/// So many named users in a scope.
fn acl(scope: AclScope, users: usize, rights: u32) -> Op {
    let entry = |n| AclEntry { scope: scope as u32, tag: AclTag::User as u32, name: format!("u{n}"), rights };
    let entries = (0..users).map(entry).collect();
    Op::ChangeAcl(ChangeAcl { path: "/d".into(), change: AclChange::Modify as u32, entries })
}
fn acl_of_user(name: String) -> Op {
    let entries = vec![AclEntry { scope: 0, tag: AclTag::User as u32, name, rights: 7 }];
    Op::ChangeAcl(ChangeAcl { path: "/d/f".into(), change: AclChange::Modify as u32, entries })
}
fn snapshot(name: String) -> Op {
    Op::CreateSnapshot(CreateSnapshot { path: "/d".into(), name })
}
fn concat(sources: usize) -> Op {
    Op::Concat(Concat { target: "/d/f".into(), sources: vec!["/d/none".into(); sources] })
}

fn prepared() -> Bench {
    let mut bench = Bench::new();
    bench.mkdir(SUPER, "/d", 0o755).unwrap();
    bench.file(SUPER, "/d/f", 10);
    bench.run(by(SUPER), Op::AllowSnapshots(AllowSnapshots { path: "/d".into(), allow: true })).result.unwrap();
    bench
}

/// What `/d` and `/d/f` are, to the last attribute.
fn seen(namespace: &Namespace) -> Vec<String> {
    let who = caller(SUPER);
    let mut seen = Vec::new();
    for at in ["/d", "/d/f"] {
        let status: FileStatus = namespace.stat(&who, &path(at)).unwrap();
        let request = GetXattrsRequest { path: at.into(), ..GetXattrsRequest::default() };
        seen.push(format!("{status:?} {:?}", namespace.xattrs(&who, &request).unwrap()));
        seen.push(format!("{:?}", namespace.acl(&who, &path(at)).unwrap()));
        seen.push(format!("{:?}", namespace.content_summary(&who, &path(at)).unwrap()));
    }
    let (listed, _) = namespace.list(&who, &path("/d"), "", 1000).unwrap();
    seen.push(format!("{listed:?} {:?}", namespace.list_snapshots(&who, "/d").unwrap()));
    seen
}

#[test]
fn sc_04_sc_08_every_field_at_its_limits_is_kept_and_one_beyond_is_refused() {
    let text = |len: usize| "x".repeat(len);
    let (invalid, long) = (ErrorCode::InvalidArgument, ErrorCode::NameTooLong);
    let user = |len: usize| format!("user.{}", text(len - 5));
    let fits = [
        attributes(SetAttributes { mode: Some(0), ..of("/d/f") }),
        attributes(SetAttributes { mode: Some(0o7777), ..of("/d/f") }),
        attributes(SetAttributes { mtime_ns: Some(i64::MAX), atime_ns: Some(i64::MIN), ..of("/d/f") }),
        attributes(SetAttributes { mtime_ns: Some(i64::MIN), atime_ns: Some(i64::MAX), ..of("/d") }),
        attributes(SetAttributes { replication: Some(1), ..of("/d/f") }),
        attributes(SetAttributes { replication: Some(512), ..of("/d/f") }),
        attributes(SetAttributes { owner: Some(text(255)), group: Some(text(255)), ..of("/d/f") }),
        quota(Some(1), Some(0)),
        quota(Some(u64::MAX), Some(u64::MAX)),
        quota(Some(i64::MAX as u64), Some(i64::MAX as u64 + 1)),
        xattr("user.x".into(), 0),
        xattr("user.x".into(), 16_384 - 6),
        xattr(user(255), 16_384 - 255),
        acl(AclScope::Access, 28, 7),
        acl(AclScope::Default, 28, 0),
        acl_of_user(text(255)),
        symlink("/d/s", text(MAX_PATH_BYTES)),
        snapshot(text(MAX_NAME_BYTES)),
    ];
    for op in fits {
        let mut bench = prepared();
        bench.run(by(SUPER), op.clone()).result.unwrap_or_else(|error| panic!("{op:?}: {error}"));
        bench.check();
        let now = seen(&bench.namespace);
        let loaded = Namespace::read_from(&mut image_of(&bench.namespace).as_slice()).unwrap();
        let mut replayed = Namespace::new();
        replay(&mut replayed, &bench.log, 0);
        assert_eq!((seen(&loaded), seen(&replayed)), (now.clone(), now), "{op:?}");
    }
    let beyond = [
        (attributes(SetAttributes { mode: Some(0o10000), ..of("/d/f") }), invalid),
        (attributes(SetAttributes { mode: Some(u32::MAX), ..of("/d/f") }), invalid),
        (attributes(SetAttributes { replication: Some(0), ..of("/d/f") }), invalid),
        (attributes(SetAttributes { replication: Some(513), ..of("/d/f") }), invalid),
        (attributes(SetAttributes { replication: Some(u32::MAX), ..of("/d/f") }), invalid),
        (attributes(SetAttributes { owner: Some(text(256)), ..of("/d/f") }), invalid),
        (attributes(SetAttributes { group: Some(text(256)), ..of("/d/f") }), invalid),
        (quota(Some(0), None), invalid),
        (xattr("user.x".into(), 16_384 - 5), invalid),
        (xattr(user(255), 16_384 - 254), invalid),
        (xattr(user(256), 0), invalid),
        (xattr("user.".into(), 0), invalid),
        (acl(AclScope::Access, 29, 7), invalid),
        (acl(AclScope::Default, 29, 7), invalid),
        (acl(AclScope::Access, 1, 8), invalid),
        (acl_of_user(text(256)), invalid),
        (symlink("/d/s", text(MAX_PATH_BYTES + 1)), ErrorCode::InvalidPath),
        (symlink("/d/s", String::new()), ErrorCode::InvalidPath),
        (symlink("/d/s", "a\0".into()), ErrorCode::InvalidPath),
        (snapshot(text(MAX_NAME_BYTES + 1)), long),
        (concat(0), invalid),
        (concat(MAX_SOURCES), ErrorCode::NotFound),
        (concat(MAX_SOURCES + 1), invalid),
    ];
    for (op, reason) in beyond {
        let mut bench = prepared();
        let before = (bench.namespace.store.hash, seen(&bench.namespace));
        let refused = bench.run(by(SUPER), op.clone()).result.expect_err("beyond the limit");
        assert_eq!(refused.code, reason, "{refused}");
        assert!(!refused.message.is_empty() && refused.message.len() < 1000, "a clear word: {refused}");
        assert_eq!((bench.namespace.store.hash, seen(&bench.namespace)), before, "SC-03: {refused}");
        bench.check();
    }
}

#[test]
fn sc_08_access_times_go_to_their_end_and_never_back() {
    let mut bench = prepared();
    let inode = bench.stat("/d/f").unwrap().inode;
    for (atime_ns, kept) in [(i64::MIN, None), (i64::MAX, Some(i64::MAX)), (0, Some(i64::MAX))] {
        let before = bench.stat("/d/f").unwrap().atime_ns;
        let op = SetAccessTimes { inodes: vec![inode, u64::MAX, 0], atime_ns: vec![atime_ns; 3] };
        bench.run(by(SUPER), Op::SetAccessTimes(op)).result.unwrap();
        assert_eq!(bench.stat("/d/f").unwrap().atime_ns, kept.unwrap_or(before));
        bench.check();
    }
}

#[test]
fn sc_08_blocks_have_their_size_and_files_so_many_blocks() {
    let mut bench = Bench::new();
    let largest = 1 << 40;
    let new = Create { path: "/f".into(), block_size_bytes: largest, replication: 512, ..new_file() };
    let mut draft = bench.create_with(by(SUPER), new).unwrap();
    assert_eq!(code(bench.add_block(SUPER, &draft, largest + 1)), ErrorCode::InvalidArgument);
    for _ in 1..100 {
        draft.block = Some(bench.add_block(SUPER, &draft, largest).unwrap());
    }
    assert_eq!(code(bench.add_block(SUPER, &draft, largest)), ErrorCode::InvalidArgument, "a hundred blocks");
    assert_eq!(code(bench.complete(SUPER, &draft, largest + 1)), ErrorCode::InvalidArgument);
    assert_eq!(code(bench.complete(SUPER, &draft, u64::MAX)), ErrorCode::InvalidArgument);
    bench.complete(SUPER, &draft, largest).unwrap();
    let summary = bench.namespace.content_summary(&caller(SUPER), &path("/")).unwrap();
    assert_eq!((summary.len_bytes, summary.space_bytes), (100 * largest, 512 * 100 * largest));
    bench.check();
    bench.file(SUPER, "/g", 1);
    let join = Concat { target: "/f".into(), sources: vec!["/g".into()] };
    assert_eq!(code(bench.run(by(SUPER), Op::Concat(join)).result), ErrorCode::InvalidArgument, "nor by concat");
    bench.check();
}

#[test]
fn sc_08_a_file_has_1000_names_and_symbolic_links_lead_40_times_on() {
    let mut bench = Bench::new();
    let roomy = Settings { max_directory_entries: 100_000, ..settings() };
    bench.run(by(SUPER), Op::UpdateSettings(UpdateSettings { settings: Some(roomy) })).result.unwrap();
    bench.mkdir(SUPER, "/d", 0o755).unwrap();
    bench.file(SUPER, "/f", 1);
    let link = |n: u32| Op::Link(Link { existing: "/f".into(), path: format!("/d/{n}") });
    for n in 1..MAX_NAMES {
        bench.run(by(SUPER), link(n)).result.unwrap();
    }
    let refused = bench.run(by(SUPER), link(MAX_NAMES)).result.unwrap_err();
    assert_eq!((refused.code, refused.hint.is_empty()), (ErrorCode::InvalidArgument, false));
    assert_eq!(bench.stat("/f").unwrap().nlink, MAX_NAMES);
    bench.delete(SUPER, "/d/1", false).unwrap();
    bench.run(by(SUPER), link(MAX_NAMES)).result.unwrap();
    bench.check();

    // What was made under an older limit stays, and is replayed as it was.
    bench.version = 2;
    for n in MAX_NAMES + 1..=1100 {
        bench.run(by(SUPER), link(n)).result.unwrap();
    }
    let loaded = Namespace::read_from(&mut image_of(&bench.namespace).as_slice()).unwrap();
    let nlink = |namespace: &Namespace| namespace.stat(&caller(SUPER), &path("/d/1100")).unwrap().nlink;
    assert_eq!((nlink(&bench.namespace), nlink(&loaded)), (1100, 1100));
    bench.version = COMMAND_SET_VERSION;
    assert_eq!(code(bench.run(by(SUPER), link(1101)).result), ErrorCode::InvalidArgument);
    bench.check();

    let mut bench = Bench::new();
    bench.file(SUPER, "/tmp/l0", BLOCK);
    for n in 1..=41 {
        let chain = Symlink { path: format!("/tmp/l{n}"), target: format!("l{}", n - 1), parents: false };
        bench.run(by(SUPER), Op::Symlink(chain)).result.unwrap();
    }
    assert_eq!(bench.stat("/tmp/l40").unwrap().len_bytes, BLOCK);
    assert_eq!(code(bench.namespace.stat(&caller(SUPER), &path("/tmp/l41"))), ErrorCode::InvalidPath);
    bench.check();
}

#[test]
fn sc_09_the_root_is_no_exception_and_is_never_lost() {
    let mut bench = prepared();
    bench.run(by(SUPER), symlink("/tmp/top", "/".into())).result.unwrap();
    let before = bench.stat("/").unwrap();
    let to = |existing: &str, path: &str| Op::Link(Link { existing: existing.into(), path: path.into() });
    let create = |path: &str| Op::Create(Create { path: path.into(), overwrite: true, ..new_file() });
    let delete = |path: &str| Op::Delete(proto::log::Delete { path: path.into(), recursive: true, checked_inode: 0 });
    let rename = |from: &str, to: &str| {
        Op::Rename(proto::log::Rename { from: from.into(), to: to.into(), replace: true, exchange: false })
    };
    let join = |target: &str, source: &str| Op::Concat(Concat { target: target.into(), sources: vec![source.into()] });
    let refused = [
        (to("/", "/x"), ErrorCode::IsADirectory),
        (to("/d/f", "/"), ErrorCode::AlreadyExists),
        (symlink("/", "d".into()), ErrorCode::AlreadyExists),
        (create("/"), ErrorCode::IsADirectory),
        (create("/tmp/top"), ErrorCode::IsADirectory),
        (delete("/"), ErrorCode::InvalidArgument),
        (rename("/", "/d/x"), ErrorCode::InvalidMove),
        (rename("/d", "/"), ErrorCode::InvalidMove),
        (rename("/d", "/tmp/top/d/x"), ErrorCode::InvalidMove),
        (join("/", "/d/f"), ErrorCode::IsADirectory),
        (attributes(SetAttributes { replication: Some(2), ..of("/") }), ErrorCode::IsADirectory),
        (Op::AllowSnapshots(AllowSnapshots { path: "/".into(), allow: true }), ErrorCode::InvalidArgument),
        (snapshot_of_root("s"), ErrorCode::InvalidArgument),
    ];
    for (op, reason) in refused {
        assert_eq!(code(bench.run(by(SUPER), op.clone()).result), reason, "{op:?}");
        assert_eq!(bench.stat("/").unwrap(), before, "{op:?}");
    }
    // The link goes, not the root that it names.
    bench.run(by(SUPER), delete("/tmp/top")).result.unwrap();
    bench.check();
}

fn snapshot_of_root(name: &str) -> Op {
    Op::CreateSnapshot(CreateSnapshot { path: "/".into(), name: name.into() })
}

#[test]
fn sc_09_sc_10_snapshots_of_the_root_see_everything_that_was_there() {
    let mut bench = Bench::new();
    bench.mkdir(SUPER, "/d", 0o755).unwrap();
    bench.file(SUPER, "/d/f", 10);
    bench.run(by(SUPER), Op::AllowSnapshots(AllowSnapshots { path: "/".into(), allow: true })).result.unwrap();
    bench.run(by(SUPER), snapshot_of_root("s")).result.unwrap();
    bench
        .run(by(SUPER), attributes(SetAttributes { mode: Some(0o700), owner: Some("ann".into()), ..of("/") }))
        .result
        .unwrap();
    bench.delete(SUPER, "/d", true).unwrap();
    bench.reclaim_all();
    bench.check();
    assert_eq!((bench.stat("/.snapshot/s").unwrap().mode, bench.stat("/").unwrap().mode), (0o755, 0o700));
    assert_eq!(bench.open(SUPER, "/.snapshot/s/d/f").unwrap().status.len_bytes, 10);
    assert_eq!(code(bench.delete(SUPER, "/.snapshot/s", true)), ErrorCode::ReadOnly);
    let rename = RenameSnapshot { path: "/".into(), from: "s".into(), to: "t".into() };
    bench.run(by("ann"), Op::RenameSnapshot(rename)).result.unwrap();
    let gone = DeleteSnapshot { path: "/".into(), name: "t".into() };
    bench.run(by("ann"), Op::DeleteSnapshot(gone)).result.unwrap();
    bench.reclaim_all();
    assert_eq!((bench.namespace.counts().blocks, bench.namespace.leftovers()), (0, [0; 10]));
    bench.check();
}
