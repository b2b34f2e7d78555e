//! Limits: the last value that fits, the first that does not, and what is said then.

use proto::error::ErrorCode;
use proto::ids::{BlockId, GenerationStamp, InodeId, LeaseEpoch, LogIndex, Term};
use proto::log::command::Op;
use proto::log::{
    Create, Discard, Entry, Format, Mkdir, Reclaim, RegisterStorage, SetBlockKey, Settings, Tick, UpdateSettings,
};
use proto::path::{MAX_DEPTH, MAX_NAME_BYTES, MAX_PATH_BYTES};

use super::harness::{
    BLOCK, Bench, From, SUPER, by, caller, code, command, image_of, new_file, path, session, settings,
};
use crate::namespace::sessions::{IDLE_MS, MAX_OUTCOMES, TOUCH_MS};
use crate::namespace::{Namespace, Outcome};

fn mkdir_all(bench: &mut Bench, path: &str) -> Result<(), ErrorCode> {
    let mkdir = Mkdir { path: path.into(), mode: 0o755, parents: true, unmasked_mode: None };
    bench.run(by(SUPER), Op::Mkdir(mkdir)).result.map(drop).map_err(|error| error.code)
}
fn set(bench: &mut Bench, settings: Settings) -> Result<(), ErrorCode> {
    let update = UpdateSettings { settings: Some(settings) };
    bench.run(by(SUPER), Op::UpdateSettings(update)).result.map(drop).map_err(|error| error.code)
}

#[test]
fn sc_04_names_have_1_to_255_bytes() {
    let mut bench = Bench::new();
    bench.mkdir(SUPER, "/d", 0o755).unwrap();
    for len in 1..=MAX_NAME_BYTES {
        bench.mkdir(SUPER, &format!("/d/{}", "n".repeat(len)), 0o755).unwrap();
    }
    let (listed, _) = bench.namespace.list(&caller(SUPER), &path("/d"), "", 1000).unwrap();
    assert!(listed.iter().map(|status| status.path.len()).eq(1..=MAX_NAME_BYTES), "each as it was given, in order");
    let wide = "…".repeat(85);
    bench.file(SUPER, &format!("/{wide}"), 1);
    for bad in ["n".repeat(256), "n".repeat(300), "…".repeat(86), "n".repeat(MAX_PATH_BYTES + 1)] {
        let text = format!("/{bad}");
        assert_eq!(code(bench.mkdir(SUPER, &text, 0o755)), ErrorCode::NameTooLong);
        assert_eq!(code(bench.create(SUPER, &text, false)), ErrorCode::NameTooLong);
        assert_eq!(code(bench.rename(SUPER, "/d", &text, true)), ErrorCode::NameTooLong);
        assert_eq!(code(bench.delete(SUPER, &text, true)), ErrorCode::NameTooLong);
        assert_eq!(mkdir_all(&mut bench, &format!("/d{text}/x")), Err(ErrorCode::NameTooLong));
    }
    bench.check();
}

#[test]
fn sc_04_what_is_no_path_is_refused_everywhere() {
    let mut bench = Bench::new();
    bench.file(SUPER, "/f", 1);
    let hash = bench.namespace.store.hash;
    for bad in ["", "f", "//", "//f", "/f/", "/f//x", "/.", "/..", "/tmp/.", "/tmp/../f", "/\0", "/tmp/a\0b", "/./f"] {
        for wanted in [
            code(bench.mkdir(SUPER, bad, 0o755)),
            code(bench.create(SUPER, bad, true)),
            code(bench.create(SUPER, bad, false)),
            code(bench.rename(SUPER, bad, "/new", true)),
            code(bench.rename(SUPER, "/f", bad, true)),
            code(bench.delete(SUPER, bad, true)),
        ] {
            assert_eq!(wanted, ErrorCode::InvalidPath, "{bad:?}");
        }
        assert_eq!(mkdir_all(&mut bench, bad), Err(ErrorCode::InvalidPath), "{bad:?}");
    }
    assert_eq!(bench.namespace.store.hash, hash);
}

#[test]
fn paths_have_at_most_1000_names_and_8000_bytes() {
    let mut bench = Bench::new();
    let deep = "/d".repeat(MAX_DEPTH);
    assert_eq!(mkdir_all(&mut bench, &format!("{deep}/d")), Err(ErrorCode::InvalidPath));
    mkdir_all(&mut bench, &deep).unwrap();
    assert_eq!(bench.stat(&deep).unwrap().path, deep);
    let long = format!("/{}", "n".repeat(249)).repeat(32);
    assert_eq!(long.len(), MAX_PATH_BYTES);
    mkdir_all(&mut bench, &long).unwrap();
    assert_eq!(bench.stat(&long).unwrap().path, long);
    assert_eq!(mkdir_all(&mut bench, &format!("{long}n")), Err(ErrorCode::NameTooLong));
    bench.check();
    let gone = Ok(Outcome::Deleted { files: 0, directories: MAX_DEPTH as u64 });
    assert_eq!(bench.delete(SUPER, "/d", true), gone);
    bench.reclaim_all();
    bench.check();
}

#[test]
fn r_1_a_tree_deeper_than_any_path_stays_harmless() {
    let mut bench = Bench::new();
    let rest = format!("/{}", "n".repeat(250)).repeat(31);
    mkdir_all(&mut bench, &format!("/top{rest}")).unwrap();
    let draft = bench.create(SUPER, &format!("/top{rest}/f"), false).unwrap();
    let open = bench.create(SUPER, &format!("/top{rest}/open"), true).unwrap();
    for round in 0..20 {
        bench.rename(SUPER, "/top", "/moved", false).unwrap();
        mkdir_all(&mut bench, &format!("/top{rest}")).unwrap();
        bench.rename(SUPER, "/moved", &format!("/top{rest}/{round}"), false).unwrap();
    }
    // Its writers name inodes; what they are told stays short, and so does what is remembered of it.
    let status = bench.complete(SUPER, &draft, 7).unwrap();
    assert!(status.path.len() <= MAX_PATH_BYTES + 8 && status.path.starts_with('…') && status.path.ends_with("/f"));
    assert!(bench.complete(SUPER, &open, 7).unwrap().path.ends_with("/open"));
    bench.check();
    let directories = 21 * 32;
    assert_eq!(bench.delete(SUPER, "/top", true), Ok(Outcome::Deleted { files: 2, directories }));
    let mut steps = 0;
    while bench.namespace.reclaim_pending() > 0 {
        let applied = bench.run(by(SUPER), Op::Reclaim(Reclaim { limit: 50 }));
        assert!(applied.effects.len() <= 50);
        steps += 1;
    }
    assert!((13..=40).contains(&steps), "{steps} steps of 50 for 674 inodes, queued and freed");
    bench.check();
}

#[test]
fn r_5_steps_of_reclaiming_are_bounded_whatever_waits() {
    let mut bench = Bench::new();
    bench.mkdir(SUPER, "/d", 0o755).unwrap();
    for (name, blocks) in [("small", 3), ("edge", 64), ("large", 65), ("larger", 100)] {
        let mut draft = bench.create(SUPER, &format!("/d/{name}"), false).unwrap();
        for _ in 1..blocks {
            draft.block = Some(bench.add_block(SUPER, &draft, BLOCK).unwrap());
        }
        bench.complete(SUPER, &draft, 1).unwrap();
    }
    bench.delete(SUPER, "/d", true).unwrap();
    let zero = bench.run(by(SUPER), Op::Reclaim(Reclaim { limit: 0 }));
    assert_eq!((zero.result, zero.effects.len()), (Ok(Outcome::Reclaimed { pending: 5 }), 0));
    let mut freed = 0;
    while bench.namespace.reclaim_pending() > 0 {
        let applied = bench.run(by(SUPER), Op::Reclaim(Reclaim { limit: 7 }));
        assert!(applied.effects.len() <= 7 + 64);
        freed += applied.effects.len();
        bench.check();
    }
    assert_eq!((freed, bench.namespace.counts().blocks), (232, 0));
    let done = bench.run(by(SUPER), Op::Reclaim(Reclaim { limit: u32::MAX }));
    assert_eq!(done.result, Ok(Outcome::Reclaimed { pending: 0 }));
}

#[test]
fn replication_and_block_size_have_bounds() {
    let mut bench = Bench::new();
    let mut create = |replication, block_size_bytes| {
        let create = Create { path: "/f".into(), overwrite: true, replication, block_size_bytes, ..new_file() };
        match bench.run(by(SUPER), Op::Create(create)).result {
            Ok(Outcome::Create { status, .. }) => Ok((status.replication, status.block_size_bytes)),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.code),
        }
    };
    let (few, bytes_refused) = (Err(ErrorCode::InvalidArgument), Err(ErrorCode::InvalidArgument));
    for (replication, wanted) in [(0, Ok(3)), (1, Ok(1)), (512, Ok(512)), (513, few), (u32::MAX, few)] {
        assert_eq!(create(replication, 0).map(|sizes| sizes.0), wanted, "{replication}");
    }
    for (bytes, wanted) in [
        (0, Ok(4 * BLOCK)),
        (BLOCK, Ok(BLOCK)),
        (BLOCK + 512, Ok(BLOCK + 512)),
        (BLOCK - 512, bytes_refused),
        (BLOCK + 1, bytes_refused),
        (1, bytes_refused),
        (1 << 40, Ok(1 << 40)),
        ((1 << 40) + 512, bytes_refused),
        (u64::MAX, bytes_refused),
        (u64::MAX - 511, bytes_refused),
    ] {
        assert_eq!(create(0, bytes).map(|sizes| sizes.1), wanted, "{bytes}");
    }
    bench.check();
}

#[test]
fn a_full_directory_refuses_new_entries_and_nothing_else() {
    let mut bench = Bench::new();
    bench.mkdir(SUPER, "/d", 0o755).unwrap();
    set(&mut bench, Settings { max_directory_entries: 4, ..settings() }).unwrap();
    let draft = bench.create(SUPER, "/d/late", false).unwrap();
    for name in ["a", "b", "c", "d"] {
        bench.file(SUPER, &format!("/d/{name}"), 1);
    }
    bench.file(SUPER, "/tmp/f", 1);
    assert_eq!(code(bench.mkdir(SUPER, "/d/e", 0o755)), ErrorCode::NoSpace);
    assert_eq!(code(bench.create(SUPER, "/d/e", false)), ErrorCode::NoSpace);
    assert_eq!(code(bench.rename(SUPER, "/tmp/f", "/d/e", false)), ErrorCode::NoSpace);
    assert_eq!(code(bench.complete(SUPER, &draft, 1)), ErrorCode::NoSpace);
    // What adds no entry is done: a name of its own, a target that is replaced, a new version of a file.
    bench.rename(SUPER, "/d/a", "/d/e", false).unwrap();
    bench.rename(SUPER, "/d/b", "/d/c", true).unwrap();
    bench.rename(SUPER, "/tmp/f", "/d/b", false).unwrap();
    let over = bench.create_with(by(SUPER), Create { path: "/d/d".into(), overwrite: true, ..new_file() }).unwrap();
    bench.complete(SUPER, &over, 2).unwrap();
    assert_eq!(bench.stat("/d").unwrap().children, 4);
    // The writer that was refused goes on once there is room.
    bench.delete(SUPER, "/d/e", false).unwrap();
    bench.complete(SUPER, &draft, 1).unwrap();
    bench.check();
}

#[test]
fn a_file_has_so_many_blocks_even_if_there_may_be_fewer_by_now() {
    let mut bench = Bench::new();
    let mut draft = bench.create(SUPER, "/f", false).unwrap();
    for _ in 0..3 {
        draft.block = Some(bench.add_block(SUPER, &draft, 9).unwrap());
    }
    set(&mut bench, Settings { max_blocks_per_file: 1, ..settings() }).unwrap();
    assert_eq!(code(bench.add_block(SUPER, &draft, 9)), ErrorCode::InvalidArgument);
    assert_eq!(bench.complete(SUPER, &draft, 9).unwrap().len_bytes, 36);
    let one = bench.create(SUPER, "/g", false).unwrap();
    assert_eq!(code(bench.add_block(SUPER, &one, 9)), ErrorCode::InvalidArgument);
    bench.check();
}

#[test]
fn modes_have_twelve_bits() {
    let mut bench = Bench::new();
    for (mode, fits) in [(0, true), (0o7777, true), (0o10000, false), (u32::MAX, false)] {
        let text = format!("/m{mode}");
        assert_eq!(bench.mkdir(SUPER, &text, mode).is_ok(), fits, "{mode:o}");
        let create = Create { path: format!("{text}f"), mode, publish_at_once: true, ..new_file() };
        assert_eq!(bench.create_with(by(SUPER), create).is_ok(), fits, "{mode:o}");
        assert_eq!(bench.stat(&text).map(|status| status.mode), fits.then_some(mode));
    }
    bench.check();
}

#[test]
fn names_of_users_and_groups_have_bounds() {
    let mut bench = Bench::new();
    for (user, fits) in [
        ("u".repeat(255), true),
        ("ü".repeat(127), true),
        ("u".repeat(256), false),
        (String::new(), false),
        ("a/b".into(), false),
        ("a:b".into(), false),
        ("a\nb".into(), false),
        ("a\0".into(), false),
    ] {
        let name = format!("/tmp/{}", user.len());
        assert_eq!(bench.mkdir(&user, &name, 0o755).is_ok(), fits, "{user:?}");
        assert_eq!(bench.namespace.stat(&caller(&user), &path("/")).is_ok(), fits);
    }
    bench.check();
}

#[test]
fn the_registry_and_the_keys_have_bounds() {
    let mut bench = Bench::new();
    let register = |storage: String, node: String, text: String| {
        Op::RegisterStorage(RegisterStorage { storage, node, media: text.clone(), rack: text })
    };
    let (ds, node) = (|len| format!("DS-{}", "s".repeat(len)), |len: usize| "n".repeat(len));
    for (op, fits) in [
        (register(ds(125), node(128), "t".repeat(255)), true),
        (register(ds(126), node(1), String::new()), false),
        (register(ds(1), node(129), String::new()), false),
        (register(ds(1), node(0), String::new()), false),
        (register(ds(2), node(2), "t".repeat(256)), false),
        (Op::SetBlockKey(SetBlockKey { number: 1, key: vec![1; 15].into() }), false),
        (Op::SetBlockKey(SetBlockKey { number: 1, key: vec![1; 65].into() }), false),
        (Op::SetBlockKey(SetBlockKey { number: 0, key: vec![1; 16].into() }), true),
        (Op::SetBlockKey(SetBlockKey { number: u32::MAX, key: vec![1; 64].into() }), true),
        (Op::SetBlockKey(SetBlockKey { number: u32::MAX, key: vec![2; 64].into() }), false),
    ] {
        assert_eq!(bench.run(by(SUPER), op.clone()).result.is_ok(), fits, "{op:?}");
    }
    bench.check();
}

#[test]
fn settings_have_bounds_at_format_and_later() {
    let good = settings;
    let cases = [
        (good(), true),
        (Settings { superuser_group: String::new(), ..good() }, false),
        (Settings { superuser_group: "g".repeat(256), ..good() }, false),
        (Settings { default_replication: 0, ..good() }, false),
        (Settings { max_replication: 512, default_replication: 512, ..good() }, true),
        (Settings { max_replication: 513, ..good() }, false),
        (Settings { max_replication: 2, ..good() }, false),
        (Settings { min_block_size_bytes: 511, ..good() }, false),
        (Settings { min_block_size_bytes: 512, default_block_size_bytes: 512, ..good() }, true),
        (Settings { min_block_size_bytes: u64::MAX, ..good() }, false),
        (Settings { max_block_size_bytes: (1 << 40) + 1, ..good() }, false),
        (Settings { default_block_size_bytes: 4 * BLOCK + 1, ..good() }, false),
        (Settings { max_blocks_per_file: 0, ..good() }, false),
        (Settings { max_blocks_per_file: (1 << 20) + 1, ..good() }, false),
        (Settings { max_directory_entries: 0, ..good() }, false),
        (Settings { max_directory_entries: u32::MAX, ..good() }, false),
    ];
    for (settings, fits) in cases {
        let format = Format {
            cluster: "CID-1".into(),
            pool: "BP-1".into(),
            superuser: SUPER.into(),
            settings: Some(settings.clone()),
        };
        let mut bench = Bench::empty();
        assert_eq!(bench.run(by(SUPER), Op::Format(format)).result.is_ok(), fits, "{settings:?}");
        bench.check();
        assert_eq!(set(&mut Bench::new(), settings.clone()).is_ok(), fits, "{settings:?}");
    }
}

#[test]
fn n_7_a_session_remembers_256_answers_and_the_numbers_of_the_rest() {
    let mut bench = Bench::new();
    let mkdir =
        |n: u64| Op::Mkdir(Mkdir { path: format!("/tmp/{n}"), mode: 0o755, parents: false, unmasked_mode: None });
    let from = |call, lowest| From { user: "ann", session: Some((session(1), call, lowest)) };
    let last = MAX_OUTCOMES as u64 + 3;
    for call in 1..=last {
        bench.run(from(call, 1), mkdir(call)).result.unwrap();
    }
    for call in 1..=last {
        bench.delete(SUPER, &format!("/tmp/{call}"), true).unwrap();
    }
    for call in 1..=last {
        let again = bench.run(from(call, 1), mkdir(call));
        if call <= 3 {
            assert_eq!(code(again.result), ErrorCode::OutcomeUnknown, "{call}");
        } else {
            assert!(again.replayed && again.result.is_ok(), "{call}");
        }
    }
    assert_eq!(bench.stat("/tmp").unwrap().children, 0, "nothing was done twice");
    bench.check();
    bench.run(from(last + 1, last + 1), mkdir(0)).result.unwrap();
    assert_eq!(code(bench.run(from(last, 1), mkdir(last)).result), ErrorCode::SessionExpired);
    bench.check();
}

#[test]
fn n_7_an_idle_session_goes_and_its_retries_with_it() {
    let mut bench = Bench::new();
    let mkdir = || Op::Mkdir(Mkdir { path: "/tmp/d".into(), mode: 0o755, parents: false, unmasked_mode: None });
    let from = |n, call| From { user: "ann", session: Some((session(n), call, call)) };
    bench.run(from(1, 1), mkdir()).result.unwrap();
    let create = Create { path: "/tmp/f".into(), ..new_file() };
    let draft = bench.create_with(from(2, 1), create).unwrap();
    bench.elapsed_ms = IDLE_MS - 1000;
    bench.run(by(SUPER), Op::Tick(Tick {})).result.unwrap();
    assert_eq!(bench.namespace.counts().sessions, 2);
    bench.elapsed_ms = 2 * TOUCH_MS;
    bench.run(by(SUPER), Op::Tick(Tick {})).result.unwrap();
    assert_eq!(bench.namespace.counts().sessions, 1, "the one that holds a lease stays");
    bench.elapsed_ms = 10;
    bench.delete(SUPER, "/tmp/d", true).unwrap();
    assert_eq!(code(bench.run(from(1, 2), mkdir()).result), ErrorCode::SessionExpired);
    assert!(bench.stat("/tmp/d").is_none());
    bench.check();
    let discard = Op::Discard(Discard { inode: draft.inode, lease_epoch: draft.epoch });
    bench.run(from(2, 2), discard).result.unwrap();
    bench.elapsed_ms = u64::MAX;
    bench.run(by(SUPER), Op::Tick(Tick {})).result.unwrap();
    assert_eq!((bench.namespace.counts().sessions, bench.namespace.log_time_ms()), (0, u64::MAX));
    bench.check();
}

#[test]
fn f_12_clocks_and_counters_at_their_ends() {
    let mut bench = Bench::new();
    let entry = |wall, elapsed_ms| Entry {
        version: 1,
        leader_wall_ns: wall,
        elapsed_ms,
        callers: vec![caller(SUPER)],
        commands: vec![command(Op::Mkdir(Mkdir {
            path: format!("/{wall}"),
            mode: 0o755,
            parents: false,
            unmasked_mode: None,
        }))],
    };
    let at = bench.namespace.applied().0.raw();
    for (i, wall) in [i64::MAX, i64::MIN, 0, -1].into_iter().enumerate() {
        let applied =
            bench.namespace.apply(LogIndex::from_raw(at + 1 + i as u64), Term::from_raw(3), &entry(wall, 1 << 63));
        assert!(applied[0].result.is_ok());
        assert_eq!(bench.stat(&format!("/{wall}")).unwrap().mtime_ns, wall);
    }
    assert_eq!(bench.namespace.log_time_ms(), u64::MAX);
    let end = LogIndex::from_raw(u64::MAX);
    let applied = bench.namespace.apply(end, Term::from_raw(u64::MAX), &entry(5, 1));
    assert!(applied[0].result.is_ok());
    let loaded = Namespace::read_from(&mut image_of(&bench.namespace).as_slice()).unwrap();
    assert_eq!(loaded.applied(), (end, Term::from_raw(u64::MAX)));
    let again = bench.namespace.apply(end, Term::from_raw(u64::MAX), &entry(6, 1));
    assert_eq!(again[0].result.as_ref().err().map(|error| error.code), Some(ErrorCode::Internal));
    assert_eq!(loaded.state_hash(), bench.namespace.state_hash());
}

#[test]
fn i_3_ids_that_end_are_refused_not_reused() {
    let ends: [fn(&mut Namespace); 4] = [
        |namespace| namespace.next.inode = InodeId::from_raw(u64::MAX - 2),
        |namespace| namespace.next.block = BlockId::from_raw(i64::MAX - 2),
        |namespace| namespace.next.stamp = GenerationStamp::from_raw(u64::MAX - 2),
        |namespace| namespace.next.epoch = LeaseEpoch::from_raw(u64::MAX - 2),
    ];
    for end in ends {
        let mut bench = Bench::new();
        bench.mkdir(SUPER, "/old", 0o755).unwrap();
        end(&mut bench.namespace);
        let mut made = 0;
        while bench.create(SUPER, &format!("/f{made}"), true).is_ok() {
            made += 1;
            assert!(made < 4, "ids go on after their end");
        }
        assert_eq!(code(bench.create(SUPER, "/more", true)), ErrorCode::NoSpace);
        assert_eq!(bench.namespace.recount(), bench.namespace.counts());
        // What takes no id still works, and so does a restart.
        bench.delete(SUPER, "/old", true).unwrap();
        let loaded = Namespace::read_from(&mut image_of(&bench.namespace).as_slice()).unwrap();
        assert_eq!(loaded.state_hash(), bench.namespace.state_hash());
        assert!(loaded.blocks_after(None, 10).len() == made);
    }
}

#[test]
fn sc_09_the_root_after_a_restart() {
    let mut bench = Bench::new();
    let before = bench.stat("/").unwrap();
    bench.mkdir(SUPER, "/d", 0o755).unwrap();
    let after = bench.stat("/").unwrap();
    assert!(after.mtime_ns > before.mtime_ns && after.ctime_ns == after.mtime_ns);
    let loaded = Namespace::read_from(&mut image_of(&bench.namespace).as_slice()).unwrap();
    assert_eq!(loaded.stat(&caller("bob"), &path("/")).unwrap(), after);
    let create = Create { path: "/".into(), overwrite: true, publish_at_once: true, ..new_file() };
    assert_eq!(code(bench.create_with(by(SUPER), create)), ErrorCode::IsADirectory);
    assert_eq!(code(bench.open(SUPER, "/")), ErrorCode::IsADirectory);
    assert_eq!(code(bench.create("bob", "/f", true)), ErrorCode::PermissionDenied);
    assert_eq!(code(bench.rename(SUPER, "/d", "/d/x", true)), ErrorCode::InvalidMove);
    assert_eq!(bench.stat("/").unwrap(), after, "refusals leave it as it was");
    bench.check();
}
