//! What is said of attributes, links, quotas, extended attributes, ACLs and joined files, one rule after the other.

use proto::error::ErrorCode;
use proto::log::command::Op;
use proto::log::{
    AclEntry, CallerRecord, ChangeAcl, Concat, Create, Link, RemoveXattr, SetAttributes, SetQuota, SetXattr, Symlink,
};
use proto::namespace::{AclChange, AclScope, AclTag, FileKind, GetXattrsRequest};

use super::harness::{BLOCK, Bench, SUPER, by, caller, code, new_file, path};
use crate::namespace::{BlockEffect, Outcome};

fn set(path: &str) -> SetAttributes {
    SetAttributes { path: path.into(), ..SetAttributes::default() }
}
fn try_set(bench: &mut Bench, user: &str, set: SetAttributes) -> proto::error::FsResult<Outcome> {
    bench.run(by(user), Op::SetAttributes(set)).result
}
fn link(bench: &mut Bench, user: &str, existing: &str, path: &str) -> proto::error::FsResult<Outcome> {
    bench.run(by(user), Op::Link(Link { existing: existing.into(), path: path.into() })).result
}
fn symlink(bench: &mut Bench, path: &str, target: &str) -> proto::error::FsResult<Outcome> {
    bench.run(by("ann"), Op::Symlink(Symlink { path: path.into(), target: target.into(), parents: false })).result
}

#[test]
fn attributes_are_set_together_or_not_at_all() {
    let mut bench = Bench::new();
    bench.file("ann", "/tmp/f", 10);
    let both = SetAttributes { mode: Some(0o600), owner: Some("bob".into()), ..set("/tmp/f") };
    assert_eq!(code(try_set(&mut bench, "ann", both.clone())), ErrorCode::PermissionDenied);
    assert_eq!(bench.stat("/tmp/f").unwrap().mode, 0o644, "SC-03: nothing of a refused change");
    try_set(&mut bench, SUPER, both).unwrap();
    let status = bench.stat("/tmp/f").unwrap();
    assert_eq!((status.mode, status.owner.as_str()), (0o600, "bob"));
    assert_eq!(
        code(try_set(&mut bench, "ann", SetAttributes { mode: Some(0), ..set("/tmp/f") })),
        ErrorCode::PermissionDenied
    );
    assert_eq!(
        code(try_set(&mut bench, SUPER, SetAttributes { mode: Some(0o10000), ..set("/tmp/f") })),
        ErrorCode::InvalidArgument
    );
    assert_eq!(code(try_set(&mut bench, SUPER, set("/none"))), ErrorCode::NotFound);
    bench.check();
}

#[test]
fn groups_are_the_callers_own_and_times_need_the_right_to_write() {
    let mut bench = Bench::new();
    bench.file("ann", "/tmp/f", 10);
    let group = |group: &str| SetAttributes { group: Some(group.into()), ..set("/tmp/f") };
    assert_eq!(code(try_set(&mut bench, "ann", group("bob"))), ErrorCode::PermissionDenied);
    try_set(&mut bench, "ann", group("ann")).unwrap();
    assert_eq!(bench.stat("/tmp/f").unwrap().group, "ann");
    let times = SetAttributes { mtime_ns: Some(i64::MIN), atime_ns: Some(i64::MAX), ..set("/tmp/f") };
    assert_eq!(code(try_set(&mut bench, "bob", times.clone())), ErrorCode::PermissionDenied);
    try_set(&mut bench, "ann", times).unwrap();
    let status = bench.stat("/tmp/f").unwrap();
    assert_eq!((status.mtime_ns, status.atime_ns), (i64::MIN, i64::MAX), "SC-08: to their limits");
    bench.check();
}

#[test]
fn sc_09_the_root_takes_every_attribute_and_keeps_it() {
    let mut bench = Bench::new();
    let root = SetAttributes {
        mode: Some(0o1777),
        owner: Some("ann".into()),
        group: Some("ops".into()),
        mtime_ns: Some(7),
        ..set("/")
    };
    try_set(&mut bench, SUPER, root).unwrap();
    let quota =
        SetQuota { path: "/".into(), name_quota: Some(3), space_quota_bytes: Some(1 << 40), ..SetQuota::default() };
    bench.run(by(SUPER), Op::SetQuota(quota)).result.unwrap();
    let xattr =
        SetXattr { path: "/".into(), name: "user.k".into(), value: "v".into(), create: true, ..SetXattr::default() };
    bench.run(by(SUPER), Op::SetXattr(xattr)).result.unwrap();
    let entries =
        vec![entry(AclScope::Access, AclTag::User, "bob", 7), entry(AclScope::Default, AclTag::Group, "ops", 5)];
    let acl = ChangeAcl { path: "/".into(), change: AclChange::Modify as u32, entries };
    bench.run(by(SUPER), Op::ChangeAcl(acl)).result.unwrap();
    bench.check();
    let status = bench.stat("/").unwrap();
    assert_eq!(
        (status.mode & 0o7707, status.owner.as_str(), status.group.as_str(), status.mtime_ns),
        (0o1707, "ann", "ops", 7)
    );
    assert!(status.has_acl && status.has_quota);
    // The directory itself counts, `/tmp` is there: room for one more.
    bench.mkdir("bob", "/x", 0o700).unwrap();
    assert_eq!(code(bench.mkdir("bob", "/y", 0o700)), ErrorCode::QuotaExceeded);
    bench.check();
}

#[test]
fn a_file_with_two_names_goes_with_the_last() {
    let mut bench = Bench::new();
    let file = bench.file("ann", "/tmp/f", 10);
    link(&mut bench, "ann", "/tmp/f", "/tmp/g").unwrap();
    bench.mkdir("ann", "/tmp/d", 0o755).unwrap();
    link(&mut bench, "ann", "/tmp/g", "/tmp/d/h").unwrap();
    assert_eq!(bench.stat("/tmp/d/h").map(|status| (status.inode, status.nlink)), Some((file.inode, 3)));
    bench.delete("ann", "/tmp/f", false).unwrap();
    bench.check();
    assert_eq!(bench.stat("/tmp/g").map(|status| (status.inode, status.nlink)), Some((file.inode, 2)));
    bench.rename("ann", "/tmp/d/h", "/tmp/k", false).unwrap();
    bench.delete("ann", "/tmp/g", false).unwrap();
    assert_eq!(bench.open("ann", "/tmp/k").unwrap().blocks.len(), 1);
    bench.check();
    let gone = bench
        .run(by("ann"), Op::Delete(proto::log::Delete { path: "/tmp/k".into(), recursive: false, checked_inode: 0 }));
    assert!(matches!(gone.effects[..], [BlockEffect::Freed { .. }]), "blocks go with the last name");
    bench.check();
}

#[test]
fn names_in_an_unlinked_tree_do_not_keep_others_from_living() {
    let mut bench = Bench::new();
    bench.mkdir("ann", "/tmp/d", 0o755).unwrap();
    for name in ["a", "b", "c"] {
        bench.file("ann", &format!("/tmp/d/{name}"), 10);
        link(&mut bench, "ann", &format!("/tmp/d/{name}"), &format!("/tmp/{name}")).unwrap();
    }
    bench.file("ann", "/tmp/o", 10);
    link(&mut bench, "ann", "/tmp/o", "/tmp/d/o").unwrap();
    bench.delete("ann", "/tmp/d", true).unwrap();
    bench.check();
    bench.reclaim_all();
    bench.check();
    for name in ["a", "b", "c", "o"] {
        let status = bench.stat(&format!("/tmp/{name}")).unwrap();
        assert_eq!((status.nlink, status.len_bytes), (1, 10), "{name}");
    }
}

#[test]
fn a_name_replaced_by_another_of_the_same_file_stays() {
    let mut bench = Bench::new();
    bench.file("ann", "/tmp/f", 10);
    link(&mut bench, "ann", "/tmp/f", "/tmp/g").unwrap();
    bench.rename("ann", "/tmp/f", "/tmp/g", true).unwrap();
    assert_eq!((bench.stat("/tmp/f").unwrap().nlink, bench.stat("/tmp/g").unwrap().nlink), (2, 2), "as POSIX says");
    bench.check();
}

#[test]
fn directories_have_one_name_and_others_files_are_not_linked() {
    let mut bench = Bench::new();
    bench.mkdir("ann", "/tmp/d", 0o777).unwrap();
    assert_eq!(code(link(&mut bench, "ann", "/tmp/d", "/tmp/e")), ErrorCode::IsADirectory);
    bench.file("ann", "/tmp/f", 10);
    assert_eq!(code(link(&mut bench, "bob", "/tmp/f", "/tmp/e")), ErrorCode::PermissionDenied);
    assert_eq!(code(link(&mut bench, "ann", "/tmp/f", "/tmp/d")), ErrorCode::AlreadyExists);
    assert_eq!(code(link(&mut bench, "ann", "/tmp/none", "/tmp/e")), ErrorCode::NotFound);
}

#[test]
fn symbolic_links_lead_where_they_say() {
    let mut bench = Bench::new();
    bench.mkdir("ann", "/tmp/d", 0o755).unwrap();
    bench.file("ann", "/tmp/d/f", 10);
    symlink(&mut bench, "/tmp/abs", "/tmp/d").unwrap();
    symlink(&mut bench, "/tmp/d/up", "../d/./f").unwrap();
    symlink(&mut bench, "/tmp/nowhere", "none/at/all").unwrap();
    symlink(&mut bench, "/tmp/loop", "loop").unwrap();
    assert_eq!(bench.stat("/tmp/abs/f").unwrap().len_bytes, 10);
    assert_eq!(bench.stat("/tmp/abs/up").unwrap().len_bytes, 10);
    let itself = bench.namespace.stat_link(&caller("ann"), &path("/tmp/abs")).unwrap();
    assert_eq!((itself.kind(), itself.symlink_target.as_str()), (FileKind::Symlink, "/tmp/d"));
    let refused = |bench: &Bench, at: &str| code(bench.namespace.stat(&caller("ann"), &path(at)));
    assert_eq!(refused(&bench, "/tmp/nowhere"), ErrorCode::NotFound);
    assert_eq!(refused(&bench, "/tmp/loop"), ErrorCode::InvalidPath);
    // Made through a link: where it leads.
    bench.file("ann", "/tmp/abs/new", 5);
    assert!(bench.stat("/tmp/d/new").is_some());
    // The link goes, not what it names.
    bench.delete("ann", "/tmp/abs", true).unwrap();
    assert!(bench.stat("/tmp/d/f").is_some());
    assert_eq!(code(symlink(&mut bench, "/tmp/s", "")), ErrorCode::InvalidPath);
    assert_eq!(code(symlink(&mut bench, "/tmp/s", &"x".repeat(9000))), ErrorCode::InvalidPath);
    bench.check();
}

fn quota(bench: &mut Bench, at: &str, names: Option<u64>, space: Option<u64>) {
    let set = SetQuota { path: at.into(), name_quota: names, space_quota_bytes: space, ..SetQuota::default() };
    bench.run(by(SUPER), Op::SetQuota(set)).result.unwrap();
}

#[test]
fn quotas_are_exact_at_commit() {
    let mut bench = Bench::new();
    bench.mkdir(SUPER, "/q", 0o777).unwrap();
    // Three copies of 4 KiB at most while it is written, of 100 bytes when it is closed.
    quota(&mut bench, "/q", Some(4), Some(3 * 4 * BLOCK));
    bench.file("ann", "/q/a", 100);
    assert_eq!(code(bench.create("ann", "/q/b", false)), ErrorCode::QuotaExceeded, "no room for a whole block");
    let small = |path: &str| Create { path: path.into(), block_size_bytes: BLOCK, ..new_file() };
    let draft = bench.create_with(by("ann"), small("/q/b")).unwrap();
    let late = bench.create_with(by("ann"), small("/q/c")).unwrap();
    bench.complete("ann", &draft, BLOCK).unwrap();
    bench.complete("ann", &late, BLOCK).unwrap();
    assert_eq!(code(bench.create_with(by("ann"), small("/q/d"))), ErrorCode::QuotaExceeded, "four names are all");
    // Moving within the directory costs nothing, moving in does.
    bench.mkdir("ann", "/tmp/x", 0o755).unwrap();
    assert_eq!(code(bench.rename("ann", "/tmp/x", "/q/x", false)), ErrorCode::QuotaExceeded);
    bench.rename("ann", "/q/c", "/q/e", false).unwrap();
    assert_eq!(code(link(&mut bench, "ann", "/q/e", "/q/l")), ErrorCode::QuotaExceeded);
    let more = SetAttributes { replication: Some(9), ..set("/q/e") };
    assert_eq!(code(try_set(&mut bench, "ann", more)), ErrorCode::QuotaExceeded);
    bench.delete("ann", "/q/e", false).unwrap();
    bench.rename("ann", "/tmp/x", "/q/x", false).unwrap();
    let summary = bench.namespace.content_summary(&caller("ann"), &path("/q")).unwrap();
    assert_eq!((summary.names_used, summary.name_quota), (4, Some(4)));
    assert_eq!(summary.space_bytes, 3 * (100 + BLOCK));
    bench.check();
}

#[test]
fn a_writer_that_lost_the_race_for_the_quota_publishes_nothing() {
    let mut bench = Bench::new();
    bench.mkdir(SUPER, "/q", 0o777).unwrap();
    quota(&mut bench, "/q", Some(2), None);
    let (one, two) = (bench.create("ann", "/q/a", false).unwrap(), bench.create("ann", "/q/b", false).unwrap());
    bench.complete("ann", &one, 10).unwrap();
    assert_eq!(code(bench.complete("ann", &two, 10)), ErrorCode::QuotaExceeded);
    assert!(bench.stat("/q/b").is_none());
    bench.check();
}

#[test]
fn sc_104_attributes_are_for_those_who_may_read() {
    let mut bench = Bench::new();
    bench.file("ann", "/tmp/f", 10);
    let attribute = SetXattr {
        path: "/tmp/f".into(),
        name: "user.k".into(),
        value: "v".into(),
        create: true,
        replace: false,
        no_follow: false,
    };
    bench.run(by("ann"), Op::SetXattr(attribute)).result.unwrap();
    try_set(&mut bench, "ann", SetAttributes { mode: Some(0o711), ..set("/tmp/f") }).unwrap();
    let seen = |user: &str, names: &[&str]| {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let request = GetXattrsRequest { path: "/tmp/f".into(), names, ..GetXattrsRequest::default() };
        bench.namespace.xattrs(&caller(user), &request).map(|xattrs| xattrs.len())
    };
    assert_eq!(seen("ann", &[]), Ok(1));
    for names in [&[][..], &["user.k"]] {
        assert_eq!(code(seen("bob", names)), ErrorCode::PermissionDenied, "to pass by is not to read");
    }
}

#[test]
fn extended_attributes_follow_their_class() {
    let mut bench = Bench::new();
    bench.file("ann", "/tmp/f", 10);
    let set = |name: &str, create, replace| {
        let (path, name) = ("/tmp/f".to_owned(), name.to_owned());
        Op::SetXattr(SetXattr { path, name, value: "v".into(), create, replace, no_follow: false })
    };
    bench.run(by("ann"), set("user.k", true, false)).result.unwrap();
    assert_eq!(code(bench.run(by("ann"), set("user.k", true, false)).result), ErrorCode::AlreadyExists);
    bench.run(by("ann"), set("user.k", false, true)).result.unwrap();
    assert_eq!(code(bench.run(by("ann"), set("user.n", false, true)).result), ErrorCode::NoAttribute);
    assert_eq!(code(bench.run(by("bob"), set("user.k", true, true)).result), ErrorCode::PermissionDenied);
    for name in ["trusted.k", "security.k", "raw.k"] {
        assert_eq!(code(bench.run(by("ann"), set(name, true, true)).result), ErrorCode::PermissionDenied, "{name}");
        bench.run(by(SUPER), set(name, true, true)).result.unwrap();
    }
    assert_eq!(code(bench.run(by(SUPER), set("system.k", true, true)).result), ErrorCode::PermissionDenied);
    for bad in ["k", "user.", "other.k", "user.\0"] {
        assert_eq!(code(bench.run(by(SUPER), set(bad, true, true)).result), ErrorCode::InvalidArgument, "{bad:?}");
    }
    let names = |bench: &Bench, user: &str| -> Vec<String> {
        let request = GetXattrsRequest { path: "/tmp/f".into(), ..GetXattrsRequest::default() };
        bench.namespace.xattrs(&caller(user), &request).unwrap().into_iter().map(|xattr| xattr.name).collect()
    };
    assert_eq!(names(&bench, "ann"), ["user.k"]);
    assert_eq!(names(&bench, SUPER), ["security.k", "trusted.k", "user.k"], "what is raw must be named");
    bench.check();
    let remove =
        |name: &str| Op::RemoveXattr(RemoveXattr { path: "/tmp/f".into(), name: name.into(), no_follow: false });
    bench.run(by("ann"), remove("user.k")).result.unwrap();
    assert_eq!(code(bench.run(by("ann"), remove("user.k")).result), ErrorCode::NoAttribute);
    for n in 0..32 {
        let done = bench.run(by("ann"), set(&format!("user.{n}"), true, true)).result;
        assert_eq!(done.is_ok(), n < 29, "32 of all classes");
    }
    let big = SetXattr {
        path: "/tmp/f".into(),
        name: "user.0".into(),
        value: vec![0; 16_384].into(),
        create: true,
        replace: true,
        no_follow: false,
    };
    assert_eq!(code(bench.run(by("ann"), Op::SetXattr(big)).result), ErrorCode::InvalidArgument);
    bench.check();
}

fn entry(scope: AclScope, tag: AclTag, name: &str, rights: u32) -> AclEntry {
    AclEntry { scope: scope as u32, tag: tag as u32, name: name.into(), rights }
}
fn change(
    bench: &mut Bench,
    user: &str,
    at: &str,
    change: AclChange,
    entries: Vec<AclEntry>,
) -> proto::error::FsResult<Outcome> {
    bench.run(by(user), Op::ChangeAcl(ChangeAcl { path: at.into(), change: change as u32, entries })).result
}
fn acl_text(bench: &Bench, at: &str) -> String {
    let acl = bench.namespace.acl(&caller(SUPER), &path(at)).unwrap();
    let text = |entry: &proto::namespace::AclEntry| {
        let scope = if entry.scope() == AclScope::Default { "d:" } else { "" };
        let tag = ["u", "g", "m", "o"][entry.tag as usize];
        format!("{scope}{tag}:{}:{}", entry.name, entry.rights)
    };
    acl.entries.iter().map(text).collect::<Vec<_>>().join(" ")
}

#[test]
fn acls_name_who_may_and_the_mask_limits_them() {
    let mut bench = Bench::new();
    bench.file("ann", "/tmp/f", 10);
    assert_eq!(
        code(change(
            &mut bench,
            "bob",
            "/tmp/f",
            AclChange::Modify,
            vec![entry(AclScope::Access, AclTag::User, "bob", 7)]
        )),
        ErrorCode::PermissionDenied
    );
    change(&mut bench, "ann", "/tmp/f", AclChange::Modify, vec![entry(AclScope::Access, AclTag::User, "bob", 6)])
        .unwrap();
    assert_eq!(acl_text(&bench, "/tmp/f"), "u::6 u:bob:6 g::4 m::6 o::4");
    assert_eq!(bench.stat("/tmp/f").unwrap().mode, 0o664, "the group bits are the mask");
    let replace = |bench: &mut Bench| {
        bench.create_with(
            by("bob"),
            Create { path: "/tmp/f".into(), overwrite: true, publish_at_once: false, ..new_file() },
        )
    };
    assert_eq!(code(replace(&mut bench)), ErrorCode::PermissionDenied, "the sticky bit still holds");
    let may = |bench: &Bench, user: &str, rights| {
        bench.namespace.check_access(&caller(user), &path("/tmp/f"), rights).unwrap()
    };
    assert!(may(&bench, "bob", 6) && !may(&bench, "bob", 1) && !may(&bench, "eve", 2));
    // chmod of the group bits changes the mask.
    try_set(&mut bench, "ann", SetAttributes { mode: Some(0o604), ..set("/tmp/f") }).unwrap();
    assert!(!may(&bench, "bob", 4));
    bench.check();
    change(&mut bench, "ann", "/tmp/f", AclChange::RemoveAll, Vec::new()).unwrap();
    assert!(!bench.stat("/tmp/f").unwrap().has_acl);
    assert_eq!(bench.stat("/tmp/f").unwrap().mode, 0o644, "the owning group has its own rights again");
    bench.check();
}

#[test]
fn default_acls_are_inherited_in_place_of_the_umask() {
    let mut bench = Bench::new();
    bench.mkdir("ann", "/tmp/d", 0o755).unwrap();
    let default = vec![entry(AclScope::Default, AclTag::User, "bob", 7)];
    change(&mut bench, "ann", "/tmp/d", AclChange::Modify, default).unwrap();
    assert_eq!(acl_text(&bench, "/tmp/d"), "u::7 g::5 o::5 d:u::7 d:u:bob:7 d:g::5 d:m::7 d:o::5");
    let create = Create { path: "/tmp/d/f".into(), mode: 0o600, unmasked_mode: Some(0o666), ..new_file() };
    let draft = bench.create_with(by("ann"), create).unwrap();
    bench.complete("ann", &draft, 10).unwrap();
    assert_eq!(acl_text(&bench, "/tmp/d/f"), "u::6 u:bob:7 g::5 m::6 o::4");
    bench.mkdir("ann", "/tmp/d/e", 0o700).unwrap();
    assert_eq!(acl_text(&bench, "/tmp/d/e"), "u::7 u:bob:7 g::5 m::0 o::0 d:u::7 d:u:bob:7 d:g::5 d:m::7 d:o::5");
    assert_eq!(
        code(change(
            &mut bench,
            "ann",
            "/tmp/d/f",
            AclChange::Modify,
            vec![entry(AclScope::Default, AclTag::Other, "", 0)]
        )),
        ErrorCode::InvalidArgument
    );
    bench.check();
}

#[test]
fn impossible_acls_are_refused_whole() {
    let mut bench = Bench::new();
    bench.file("ann", "/tmp/f", 10);
    let user = |name: &str| entry(AclScope::Access, AclTag::User, name, 7);
    let bad = [
        (AclChange::Unspecified, vec![user("bob")]),
        (AclChange::Modify, vec![user("bob"), user("bob")]),
        (AclChange::Modify, vec![entry(AclScope::Access, AclTag::Mask, "bob", 7)]),
        (AclChange::Modify, vec![entry(AclScope::Access, AclTag::User, "bob", 8)]),
        (AclChange::Modify, vec![user("a:b")]),
        (AclChange::Set, vec![user("bob")]),
        (AclChange::Modify, (0..40).map(|n| user(&format!("u{n}"))).collect()),
    ];
    for (kind, entries) in bad {
        assert_eq!(code(change(&mut bench, "ann", "/tmp/f", kind, entries)), ErrorCode::InvalidArgument, "{kind:?}");
    }
    assert!(!bench.stat("/tmp/f").unwrap().has_acl);
    bench.check();
}

#[test]
fn joined_files_keep_their_order_through_an_image() {
    let mut bench = Bench::new();
    bench.mkdir("ann", "/tmp/d", 0o755).unwrap();
    // The blocks of the target are younger than those of the sources.
    for (name, len) in [("b", 20), ("a", 30), ("t", 10)] {
        bench.file("ann", &format!("/tmp/d/{name}"), len);
    }
    let join = |target: &str, sources: &[&str]| {
        let sources = sources.iter().map(|name| format!("/tmp/d/{name}")).collect();
        Op::Concat(Concat { target: format!("/tmp/d/{target}"), sources })
    };
    bench.run(by("ann"), join("t", &["b", "a"])).result.unwrap();
    let file = bench.open("ann", "/tmp/d/t").unwrap();
    assert_eq!(file.blocks.iter().map(|block| block.len_bytes).collect::<Vec<_>>(), [10, 20, 30]);
    assert_eq!(file.status.len_bytes, 60);
    assert!(bench.stat("/tmp/d/a").is_none() && bench.stat("/tmp/d/b").is_none());
    bench.check();
    bench.file("ann", "/tmp/d/x", 5);
    bench.file("ann", "/tmp/y", 5);
    for (target, sources) in [("t", vec![]), ("t", vec!["t"]), ("t", vec!["x", "x"]), ("t", vec!["../y"])] {
        assert!(bench.run(by("ann"), join(target, &sources)).result.is_err(), "{sources:?}");
    }
    assert_eq!(code(bench.run(by("bob"), join("t", &["x"])).result), ErrorCode::PermissionDenied);
    bench.check();
}

#[test]
fn copies_wanted_follow_the_file_to_its_blocks() {
    let mut bench = Bench::new();
    bench.file("ann", "/tmp/f", 10);
    let applied = bench.run(by("ann"), Op::SetAttributes(SetAttributes { replication: Some(5), ..set("/tmp/f") }));
    assert!(matches!(applied.effects[..], [BlockEffect::Replicated { replication: 5, .. }]));
    assert_eq!(bench.namespace.content_summary(&caller("ann"), &path("/tmp/f")).unwrap().space_bytes, 50);
    for bad in [0, 513, u32::MAX] {
        assert_eq!(
            code(try_set(&mut bench, "ann", SetAttributes { replication: Some(bad), ..set("/tmp/f") })),
            ErrorCode::InvalidArgument
        );
    }
    assert_eq!(
        code(try_set(&mut bench, "ann", SetAttributes { replication: Some(2), ..set("/tmp") })),
        ErrorCode::IsADirectory
    );
    bench.check();
}

#[test]
fn groups_of_the_caller_count_in_acls() {
    let mut bench = Bench::new();
    bench.file("ann", "/tmp/f", 10);
    try_set(&mut bench, "ann", SetAttributes { mode: Some(0o600), ..set("/tmp/f") }).unwrap();
    change(&mut bench, "ann", "/tmp/f", AclChange::Modify, vec![entry(AclScope::Access, AclTag::Group, "ops", 4)])
        .unwrap();
    let eve = CallerRecord { user: "eve".into(), groups: vec!["eve".into(), "ops".into()] };
    assert!(bench.namespace.check_access(&eve, &path("/tmp/f"), 4).unwrap());
    assert!(!bench.namespace.check_access(&caller("eve"), &path("/tmp/f"), 4).unwrap());
}

#[test]
fn n_4_a_tree_is_not_moved_below_itself_by_way_of_a_symbolic_link() {
    let mut bench = Bench::new();
    bench.mkdir("ann", "/tmp/a", 0o755).unwrap();
    bench.mkdir("ann", "/tmp/a/b", 0o755).unwrap();
    symlink(&mut bench, "/tmp/l", "/tmp/a").unwrap();
    for (to, replace) in [("/tmp/l/b", true), ("/tmp/l/c", false)] {
        assert_eq!(code(bench.rename("ann", "/tmp/a", to, replace)), ErrorCode::InvalidMove, "{to}");
    }
    bench.check();
}

#[test]
fn masks_of_the_scope_that_did_not_change_stay() {
    let mut bench = Bench::new();
    bench.mkdir("ann", "/tmp/d", 0o755).unwrap();
    change(&mut bench, "ann", "/tmp/d", AclChange::Modify, vec![entry(AclScope::Access, AclTag::User, "bob", 7)])
        .unwrap();
    try_set(&mut bench, "ann", SetAttributes { mode: Some(0o755), ..set("/tmp/d") }).unwrap();
    let may_write = |bench: &Bench| bench.namespace.check_access(&caller("bob"), &path("/tmp/d"), 2).unwrap();
    assert!(!may_write(&bench));
    let default = vec![entry(AclScope::Default, AclTag::User, "bob", 7)];
    change(&mut bench, "ann", "/tmp/d", AclChange::Modify, default).unwrap();
    change(&mut bench, "ann", "/tmp/d", AclChange::RemoveDefault, Vec::new()).unwrap();
    assert!(!may_write(&bench), "the access mask is as chmod left it");
    bench.check();
}

#[test]
fn every_name_of_a_file_counts_where_a_quota_is() {
    let mut bench = Bench::new();
    bench.mkdir(SUPER, "/q", 0o777).unwrap();
    bench.file("ann", "/q/f0", BLOCK);
    for n in 1..10 {
        link(&mut bench, "ann", "/q/f0", &format!("/q/f{n}")).unwrap();
    }
    // Ten names of three copies each: room for one more copy of one name, not of all.
    quota(&mut bench, "/q", None, Some(31 * BLOCK));
    let more = SetAttributes { replication: Some(4), ..set("/q/f0") };
    assert_eq!(code(try_set(&mut bench, "ann", more)), ErrorCode::QuotaExceeded);
    // Sources outside free nothing inside.
    bench.mkdir("ann", "/tmp/d", 0o755).unwrap();
    for name in ["t", "s"] {
        bench.file("ann", &format!("/tmp/d/{name}"), BLOCK);
    }
    quota(&mut bench, "/q", None, Some(33 * BLOCK));
    link(&mut bench, "ann", "/tmp/d/t", "/q/t").unwrap();
    let (target, sources) = ("/tmp/d/t".to_owned(), vec!["/tmp/d/s".to_owned()]);
    let joined = bench.run(by("ann"), Op::Concat(Concat { target, sources }));
    assert_eq!(code(joined.result), ErrorCode::QuotaExceeded);
    bench.check();
}

#[test]
fn a_change_of_nothing_is_refused_and_huge_acls_as_well() {
    let mut bench = Bench::new();
    bench.file("ann", "/tmp/f", 10);
    assert_eq!(code(try_set(&mut bench, "bob", set("/tmp/f"))), ErrorCode::InvalidArgument);
    let entries = (0..10_000).map(|n| entry(AclScope::Access, AclTag::User, &format!("u{n}"), 7)).collect();
    assert_eq!(code(change(&mut bench, "ann", "/tmp/f", AclChange::Set, entries)), ErrorCode::InvalidArgument);
    bench.check();
}

#[test]
fn the_mask_of_a_default_acl_lets_the_owning_group_through() {
    let mut bench = Bench::new();
    bench.mkdir("ann", "/tmp/d", 0o755).unwrap();
    let default = vec![entry(AclScope::Default, AclTag::User, "bob", 4)];
    change(&mut bench, "ann", "/tmp/d", AclChange::Modify, default).unwrap();
    assert_eq!(acl_text(&bench, "/tmp/d"), "u::7 g::5 o::5 d:u::7 d:u:bob:4 d:g::5 d:m::5 d:o::5", "as setfacl does");
    let base = |tag| entry(AclScope::Default, tag, "", 0);
    let all = vec![
        base(AclTag::User),
        base(AclTag::Group),
        base(AclTag::Other),
        entry(AclScope::Default, AclTag::User, "bob", 0),
    ];
    change(&mut bench, "ann", "/tmp/d", AclChange::RemoveEntries, all).unwrap();
    assert_eq!(acl_text(&bench, "/tmp/d"), "u::7 g::5 o::5", "a mask alone is no ACL");
    bench.check();
}

#[test]
fn an_entry_that_is_given_again_lifts_the_mask_that_chmod_lowered() {
    let mut bench = Bench::new();
    bench.file("ann", "/tmp/f", 10);
    let bob = || vec![entry(AclScope::Access, AclTag::User, "bob", 6)];
    change(&mut bench, "ann", "/tmp/f", AclChange::Modify, bob()).unwrap();
    try_set(&mut bench, "ann", SetAttributes { mode: Some(0o600), ..set("/tmp/f") }).unwrap();
    assert_eq!(acl_text(&bench, "/tmp/f"), "u::6 u:bob:6 g::4 m::0 o::0");
    change(&mut bench, "ann", "/tmp/f", AclChange::Modify, bob()).unwrap();
    assert_eq!(acl_text(&bench, "/tmp/f"), "u::6 u:bob:6 g::4 m::6 o::0", "as HDFS and setfacl do");
    // What takes nothing away says nothing of the mask.
    try_set(&mut bench, "ann", SetAttributes { mode: Some(0o600), ..set("/tmp/f") }).unwrap();
    let eve = vec![entry(AclScope::Access, AclTag::User, "eve", 0)];
    change(&mut bench, "ann", "/tmp/f", AclChange::RemoveEntries, eve).unwrap();
    change(&mut bench, "ann", "/tmp/f", AclChange::RemoveDefault, bob()).unwrap();
    assert_eq!(acl_text(&bench, "/tmp/f"), "u::6 u:bob:6 g::4 m::0 o::0");
    bench.check();
}

#[test]
fn the_next_block_is_charged_with_what_the_file_takes_then() {
    let mut bench = Bench::new();
    bench.mkdir(SUPER, "/q", 0o777).unwrap();
    // Room for one full block and a short one, three copies each.
    quota(&mut bench, "/q", None, Some(3 * 5 * BLOCK));
    for at_once in [true, false] {
        let mut draft = bench.create("ann", "/q/f", at_once).unwrap();
        assert_eq!(code(bench.add_block("ann", &draft, BLOCK + 1)), ErrorCode::QuotaExceeded, "{at_once}");
        draft.block = Some(bench.add_block("ann", &draft, BLOCK).unwrap());
        assert_eq!(code(bench.add_block("ann", &draft, 1)), ErrorCode::QuotaExceeded, "{at_once}");
        bench.complete("ann", &draft, 4 * BLOCK).unwrap();
        bench.check();
        if at_once {
            bench.delete("ann", "/q/f", false).unwrap();
        }
    }
    // The file that is replaced makes room for the new one.
    let new = Create { path: "/q/f".into(), overwrite: true, ..new_file() };
    let mut draft = bench.create_with(by("ann"), new).unwrap();
    draft.block = Some(bench.add_block("ann", &draft, BLOCK).unwrap());
    assert_eq!(bench.complete("ann", &draft, BLOCK).unwrap().len_bytes, 2 * BLOCK);
    bench.check();
}

#[test]
fn names_in_a_tree_that_is_gone_are_not_counted() {
    let mut bench = Bench::new();
    bench.file("ann", "/tmp/f", 10);
    bench.mkdir("ann", "/tmp/r", 0o755).unwrap();
    let allow = proto::log::AllowSnapshots { path: "/tmp/r".into(), allow: true };
    bench.run(by(SUPER), Op::AllowSnapshots(allow)).result.unwrap();
    for directory in ["/tmp/d", "/tmp/r/d"] {
        bench.mkdir("ann", directory, 0o755).unwrap();
        link(&mut bench, "ann", "/tmp/f", &format!("{directory}/f")).unwrap();
    }
    let snapshot = proto::log::CreateSnapshot { path: "/tmp/r".into(), name: "s".into() };
    bench.run(by("ann"), Op::CreateSnapshot(snapshot)).result.unwrap();
    let names = |bench: &Bench| bench.stat("/tmp/f").unwrap().nlink;
    assert_eq!(names(&bench), 3);
    bench.delete("ann", "/tmp/d", true).unwrap();
    assert_eq!(names(&bench), 2, "before anything is reclaimed");
    bench.delete("ann", "/tmp/r/d", true).unwrap();
    assert_eq!(names(&bench), 1, "what a snapshot holds is no name");
    bench.reclaim_all();
    assert_eq!(names(&bench), 1);
    bench.check();
}

#[test]
fn a_quota_of_a_tree_that_is_gone_decides_nothing_before_it_is_reclaimed() {
    let mut bench = Bench::new();
    bench.mkdir("ann", "/tmp/q", 0o755).unwrap();
    let quota = SetQuota { path: "/tmp/q".into(), space_quota_bytes: Some(13 << 10), ..SetQuota::default() };
    bench.run(by(SUPER), Op::SetQuota(quota)).result.unwrap();
    bench.file("ann", "/tmp/q/z", 10);
    let draft = bench.create("ann", "/tmp/f", true).unwrap();
    bench.run(by("ann"), Op::Link(Link { existing: "/tmp/f".into(), path: "/tmp/q/a".into() })).result.unwrap();
    let refused = bench.add_block("ann", &draft, 4 * BLOCK).unwrap_err();
    assert_eq!(refused.code, ErrorCode::QuotaExceeded, "it counts while it is there");
    bench.delete("ann", "/tmp/q", true).unwrap();
    bench.run(by(SUPER), Op::Reclaim(proto::log::Reclaim { limit: 1 })).result.unwrap();
    assert!(bench.namespace.reclaim_pending() > 0);
    bench.add_block("ann", &draft, 4 * BLOCK).unwrap();
    bench.check();
}
