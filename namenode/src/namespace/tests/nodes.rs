//! Pipes, sockets and devices, and setgid directories: what programs of a mount make beside files.

use proto::error::{ErrorCode, FsResult};
use proto::log::command::Op;
use proto::log::{Complete, Create, Link, MakeNode, Mkdir, SetAttributes, Tick};
use proto::namespace::FileKind;

use super::harness::{Bench, SUPER, by, caller, code, new_file, path};
use crate::namespace::Outcome;

fn make(bench: &mut Bench, user: &str, path: &str, kind: FileKind, device: u32) -> FsResult<Outcome> {
    let make = MakeNode { path: path.into(), kind: kind as u32, mode: 0o640, unmasked_mode: Some(0o666), device };
    bench.run(by(user), Op::MakeNode(make)).result
}

#[test]
fn pipes_sockets_and_devices_are_names_without_content() {
    let mut bench = Bench::new();
    let kinds = [
        (FileKind::Fifo, 0),
        (FileKind::Socket, 0),
        (FileKind::CharacterDevice, 0x501),
        (FileKind::BlockDevice, u32::MAX),
    ];
    for (kind, device) in kinds {
        let at = format!("/tmp/{kind:?}");
        make(&mut bench, "ann", &at, kind, device).unwrap();
        let status = bench.stat(&at).unwrap();
        assert_eq!((status.kind(), status.device, status.mode, status.nlink), (kind, device, 0o640, 1));
        assert_eq!((status.owner.as_str(), status.len_bytes, status.block_size_bytes), ("ann", 0, 0));
        assert_eq!(code(make(&mut bench, "ann", &at, kind, device)), ErrorCode::AlreadyExists);
        assert_eq!(code(bench.open("ann", &at)), ErrorCode::InvalidArgument);
        assert_eq!(code(bench.append("ann", &at)), ErrorCode::InvalidArgument);
        assert_eq!(code(bench.truncate("ann", &at, 0)), ErrorCode::InvalidArgument);
        let set = |replication, mode| SetAttributes { path: at.clone(), replication, mode, ..SetAttributes::default() };
        assert_eq!(
            code(bench.run(by("ann"), Op::SetAttributes(set(Some(2), None))).result),
            ErrorCode::InvalidArgument
        );
        bench.run(by("ann"), Op::SetAttributes(set(None, Some(0o4711)))).result.unwrap();
        let further = format!("{at}-too");
        bench.run(by("ann"), Op::Link(Link { existing: at.clone(), path: further.clone() })).result.unwrap();
        bench.check();
        bench.delete("ann", &at, false).unwrap();
        let status = bench.stat(&further).unwrap();
        assert_eq!((status.kind(), status.device, status.mode, status.nlink), (kind, device, 0o4711, 1));
    }
    assert_eq!(bench.namespace.content_summary(&caller(SUPER), &path("/tmp")).unwrap().files, 4);
    bench.rename("ann", "/tmp/Fifo-too", "/tmp/Socket-too", true).unwrap();
    assert_eq!(bench.stat("/tmp/Socket-too").unwrap().kind(), FileKind::Fifo);
    assert_eq!(code(make(&mut bench, "ann", "/tmp/f", FileKind::File, 0)), ErrorCode::InvalidArgument);
    assert_eq!(code(make(&mut bench, "ann", "/tmp/none/f", FileKind::Fifo, 0)), ErrorCode::NotFound);
    assert_eq!(code(make(&mut bench, "ann", "/f", FileKind::Fifo, 0)), ErrorCode::PermissionDenied);
    bench.check();
}

#[test]
fn the_end_of_writing_nothing_is_no_change_since_version_7() {
    let mut bench = Bench::new();
    for (version, stays) in [(7, true), (6, false)] {
        bench.version = version;
        let at = format!("/tmp/f{version}");
        let none = Create { path: at.clone(), publish_at_once: true, with_first_block: false, ..new_file() };
        let draft = bench.create_with(by("ann"), none).unwrap();
        let made = bench.stat(&at).unwrap();
        bench.run(by("ann"), Op::Tick(Tick {})).result.unwrap();
        let op = Op::Complete(Complete { inode: draft.inode, lease_epoch: draft.epoch, last: None });
        bench.run(by("ann"), op).result.unwrap();
        let closed = bench.stat(&at).unwrap();
        assert!(!closed.open_for_write);
        assert_eq!((closed.mtime_ns == made.mtime_ns, closed.ctime_ns == made.ctime_ns), (stays, stays));
    }
    bench.check();
}

#[test]
fn entries_that_are_directories_are_counted() {
    let mut bench = Bench::new();
    bench.mkdir("ann", "/tmp/d", 0o755).unwrap();
    let count = |bench: &Bench| bench.stat("/tmp/d").unwrap().subdirectories;
    for name in ["a", "b", "c"] {
        bench.mkdir("ann", &format!("/tmp/d/{name}"), 0o755).unwrap();
    }
    bench.file("ann", "/tmp/d/f", 1);
    assert_eq!(count(&bench), 3);
    bench.check();
    bench.delete("ann", "/tmp/d/a", false).unwrap();
    bench.rename("ann", "/tmp/d/b", "/tmp/b", false).unwrap();
    assert_eq!(count(&bench), 1);
    bench.check();
}

#[test]
fn directories_in_setgid_ones_are_setgid_since_version_7() {
    let mut bench = Bench::new();
    bench.mkdir("ann", "/tmp/d", 0o2775).unwrap();
    let below = |path: &str| Mkdir { path: path.into(), mode: 0o750, parents: true, unmasked_mode: None };
    bench.run(by("ann"), Op::Mkdir(below("/tmp/d/a/b"))).result.unwrap();
    assert_eq!(["/tmp/d/a", "/tmp/d/a/b"].map(|at| bench.stat(at).unwrap().mode), [0o2750, 0o2750]);
    bench.file("ann", "/tmp/d/f", 1);
    assert_eq!(bench.stat("/tmp/d/f").unwrap().mode & 0o7000, 0, "a program is what its maker says");
    bench.version = 6;
    bench.run(by("ann"), Op::Mkdir(below("/tmp/d/old"))).result.unwrap();
    assert_eq!(bench.stat("/tmp/d/old").unwrap().mode, 0o750, "as it was applied then");
    bench.check();
}
