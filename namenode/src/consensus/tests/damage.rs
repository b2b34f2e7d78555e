//! One voter over a disk in memory that tears, loses, fills and fails: nothing acknowledged is lost, and what
//! cannot be trusted is refused with a message.

use base::crash::Side;
use base::disk::{DiskFault, DiskFaultKind, MemDisk, OpenMode};

use super::*;

const DIR: &str = "/nn";

fn dir() -> PathBuf {
    PathBuf::from(DIR)
}

fn fresh() -> (MemDisk, Node) {
    let disk = MemDisk::new();
    let shared = disk.shared();
    Node::format(&shared, &dir(), &identity(1, 1), 5);
    let mut node = Node::start(&shared, &dir());
    node.settle();
    (disk, node)
}

/// Contents of a folder, to begin from again and again.
fn freeze(disk: &MemDisk) -> Vec<(PathBuf, Vec<u8>)> {
    disk.files().into_iter().map(PathBuf::from).map(|path| (path.clone(), get_file(disk, &path))).collect()
}

fn thaw(files: &[(PathBuf, Vec<u8>)]) -> MemDisk {
    let disk = MemDisk::new();
    disk.create_dir_all(&dir(), CrashPoint::CreateServerDir).expect("a folder");
    for (path, bytes) in files.iter().filter(|(path, _)| !path.ends_with("lock")) {
        put_file(&disk, path, bytes);
    }
    disk.sync_dir(&dir(), CrashPoint::NamenodeDirSync).expect("syncs");
    disk
}

fn open(disk: &MemDisk) -> Result<Node, ConsensusError> {
    Node::open(&disk.shared(), &dir(), 3)
}

fn reopen(disk: &MemDisk) -> Node {
    let mut node = open(disk).expect("opens");
    node.settle();
    node
}

fn refusal(disk: &MemDisk) -> String {
    open(disk).err().expect("refused").to_string()
}

fn commit(node: &mut Node, payload: &[u8]) {
    node.propose(payload);
    node.settle();
}

/// A generator whose first draw is a multiple of four: the power cut loses everything that was not synced.
fn merciless() -> SeededRandom {
    let seed = (0..).find(|seed| SeededRandom::new(*seed).below(4) == 0).expect("one");
    SeededRandom::new(seed)
}

/// The newest segment with records, and where its last record ends.
fn active(disk: &MemDisk) -> (PathBuf, u64) {
    let segments = freeze(disk).into_iter().filter(|(path, _)| path.display().to_string().contains("log-"));
    let used = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
    let mut written = segments.map(|(path, bytes)| (path, used(&bytes))).filter(|(_, used)| *used > 4096);
    let (path, used) = written.next_back().expect("a segment with records");
    (path, used.next_multiple_of(8))
}

fn overwrite(disk: &MemDisk, path: &Path, offset: u64, bytes: &[u8]) {
    let file = disk.open(path, OpenMode::ReadWrite).expect("opens");
    file.write_at(bytes, offset).expect("writes");
    file.sync(CrashPoint::LogSync).expect("syncs");
}

#[test]
fn f_5_a_batch_torn_at_each_byte_costs_nothing_that_was_acknowledged() {
    let (disk, mut node) = fresh();
    for number in 0..5 {
        commit(&mut node, &[number; 30]);
    }
    let acknowledged = node.payloads();
    let (path, from) = active(&disk);
    node.propose(b"never acknowledged");
    node.propose(b"nor this");
    let batch = node.settle_but_disk().expect("a batch");
    node.writer.write(vec![batch]).expect("written");
    let (_, to) = active(&disk);
    disk.process_died();
    let files = freeze(&disk);
    assert!(to > from + 100, "two records");
    for cut in from..to {
        let disk = thaw(&files);
        overwrite(&disk, &path, cut, &vec![0; (to - cut) as usize]);
        let mut node = reopen(&disk);
        let found = node.payloads();
        assert_eq!(found[..5], acknowledged, "cut at {cut}");
        assert!(found.len() == 5 || found.len() == 7, "a batch counts as a whole, cut at {cut}");
        commit(&mut node, b"goes on");
        let wanted = node.payloads();
        drop(node);
        assert_eq!(reopen(&disk).payloads(), wanted, "cut at {cut}");
    }
}

#[test]
fn sc_19_rot_stops_the_member_and_changes_nothing() {
    let (disk, mut node) = fresh();
    let mut ends = vec![active(&disk).1];
    for number in 0..3 {
        commit(&mut node, &[number; 40]);
        ends.push(active(&disk).1);
    }
    let (path, _) = active(&disk);
    drop(node);
    // The last batch is not sealed yet: all before it are.
    for offset in (4096..ends[2]).step_by(13) {
        disk.flip_bit(&path, offset, 1).expect("flips");
        match open(&disk) {
            Ok(_) => assert!(is_padding(&disk, &path, offset), "offset {offset} is taken silently"),
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains("damaged at offset") && text.contains("log-"), "{text}");
                assert!(text.contains("Restore this folder from a copy"), "{text}");
            }
        }
        disk.flip_bit(&path, offset, 1).expect("flips back");
    }
    disk.flip_bit(&path, 4200, 0).expect("flips");
    let before = freeze(&disk);
    refusal(&disk);
    assert_eq!(freeze(&disk), before, "a refused start leaves the files as they were");
    disk.flip_bit(&path, 4200, 0).expect("the disk was put right");
    assert_eq!(reopen(&disk).payloads().len(), 3);
}

/// Does the byte belong to no checksum (the filling of a record to eight bytes)?
fn is_padding(disk: &MemDisk, path: &Path, offset: u64) -> bool {
    let bytes = get_file(disk, path);
    let mut at = 4096;
    while at < offset as usize {
        let len = u32::from_le_bytes(bytes[at + 40..at + 44].try_into().expect("four bytes")) as usize;
        let (end, next) = (at + 56 + len, (at + 56 + len).next_multiple_of(8));
        if (end..next).contains(&(offset as usize)) {
            return true;
        }
        at = next;
    }
    false
}

#[test]
fn sc_19_an_idle_log_is_sealed_so_that_its_last_batch_rots_loudly() {
    let (disk, mut node) = fresh();
    commit(&mut node, &[1; 40]);
    let last_body = active(&disk).1 - 24;
    let (path, _) = active(&disk);
    let unsealed = freeze(&disk);
    for _ in 0..10 {
        node.consensus.tick();
        node.settle();
    }
    drop(node);
    assert_eq!(active(&disk).1, last_body + 24 + 56, "one marker");
    disk.flip_bit(&path, last_body, 0).expect("flips");
    assert!(refusal(&disk).contains("damaged at offset"));
    // Without the marker the same damage cannot be told from a torn write.
    let disk = thaw(&unsealed);
    disk.flip_bit(&path, last_body, 0).expect("flips");
    let node = reopen(&disk);
    assert_eq!(node.payloads().len(), 0);
    assert!(node.notes.iter().any(|note| note.contains("was not whole")), "{:?}", node.notes);
}

#[test]
fn sc_20_what_a_killed_process_left_in_the_page_cache_is_durable_before_it_counts() {
    // The batch is written and not synced, the process dies, the next one finds it and builds on it.
    let (disk, mut node) = fresh();
    node.propose(b"in the cache only");
    let batch = node.settle_but_disk().expect("a batch");
    disk.stop_at(CrashPoint::LogSync, Side::Before, 1);
    node.writer.write(vec![batch]).expect_err("the process died");
    disk.process_died();
    let node = open(&disk).expect("opens");
    let read = node.consensus.committed();
    drop(node);
    // Nothing was written since, yet the entry was read: a group's member would have told its leader of it.
    disk.power_cut(&merciless());
    let node = reopen(&disk);
    assert_eq!(node.payloads(), [b"in the cache only"], "committed {read}");
}

#[test]
fn sc_47_a_segment_whose_name_only_the_cache_knew_is_durable_before_it_is_used() {
    let (disk, mut node) = fresh();
    // The third segment gets its name, and the process dies before the folder is synced.
    disk.stop_at(CrashPoint::NamenodeDirSync, Side::Before, 1);
    while !disk.stopped() {
        node.propose(&[7; 3000]);
        if let Some(batch) = node.settle_but_disk()
            && let Ok(done) = node.writer.write(vec![batch])
        {
            node.consensus.persisted(done);
        }
    }
    disk.process_died();
    // The disk is full now: no later segment syncs the folder by chance.
    fill(&disk);
    let mut node = reopen(&disk);
    let mut payloads = node.payloads();
    for number in 0..12 {
        payloads.push(vec![number; 3000]);
        commit(&mut node, &[number; 3000]);
    }
    assert!(active(&disk).0.ends_with("log-0000000000000003"));
    disk.power_cut(&merciless());
    assert_eq!(reopen(&disk).payloads(), payloads);
}

#[test]
fn f_4_power_cuts_at_every_durable_step_lose_nothing_that_was_acknowledged() {
    let points = [
        CrashPoint::LogSync,
        CrashPoint::VoteSync,
        CrashPoint::SegmentCreate,
        CrashPoint::SegmentRemove,
        CrashPoint::NamenodeDirSync,
        CrashPoint::ImageCreate,
        CrashPoint::ImageSync,
        CrashPoint::ImageRename,
        CrashPoint::ImageRemove,
        CrashPoint::ReserveAllocate,
    ];
    let mut reached = 0;
    for (number, point) in points.into_iter().enumerate() {
        for nth in 1..4 {
            for side in [Side::Before, Side::After] {
                for cut in [false, true] {
                    let seed = (number as u64) * 100 + nth * 10 + u64::from(cut);
                    reached += u32::from(die_at(point, side, nth, cut.then(|| SeededRandom::new(seed))));
                }
            }
        }
    }
    assert!(reached > 100, "{reached} of 120 were reached");
}

/// Works until the process dies at a point, starts again, and looks. True if it died.
fn die_at(point: CrashPoint, side: Side, nth: u64, power: Option<SeededRandom>) -> bool {
    let what = format!("{} {side:?} {nth} {power:?}", point.name());
    let disk = MemDisk::new();
    Node::format(&disk.shared(), &dir(), &identity(1, 1), 5);
    disk.stop_at(point, side, nth);
    let mut acknowledged: Vec<Vec<u8>> = Vec::new();
    let mut proposed = Vec::new();
    if let Ok(mut node) = open(&disk) {
        for number in 0..60_u8 {
            if node.consensus.role().serving {
                let payload = vec![number; 2500];
                node.propose(&payload);
                proposed.push(payload);
            }
            if !work(&mut node) {
                break;
            }
            acknowledged = node.payloads();
            if number % 12 == 11 && !image(&mut node) {
                break;
            }
        }
    }
    let died = disk.stopped();
    match &power {
        Some(random) => disk.power_cut(random),
        None => disk.process_died(),
    }
    let mut node = open(&disk).unwrap_or_else(|error| panic!("{what}: {error}"));
    node.settle();
    let found = node.payloads();
    assert!(found.starts_with(&acknowledged), "{what}: {} of {}", found.len(), acknowledged.len());
    assert!(proposed.starts_with(&found), "{what}: nothing else appeared");
    commit(&mut node, b"goes on");
    disk.power_cut(&merciless());
    assert_eq!(reopen(&disk).payloads().last().map(Vec::as_slice), Some(b"goes on".as_slice()), "{what}");
    died
}

/// Does what is ready; false if the disk is gone.
fn work(node: &mut Node) -> bool {
    while let Some(batch) = node.settle_but_disk() {
        match node.writer.write(vec![batch]) {
            Ok(done) => node.consensus.persisted(done),
            Err(_) => return false,
        }
    }
    true
}

/// Writes an image; false if the disk is gone.
fn image(node: &mut Node) -> bool {
    let applied = &node.applied;
    match node.images.write(node.position, &mut |out| encode_state(applied, out)) {
        Ok(info) => node.consensus.image_written(&info),
        Err(_) => return false,
    }
    work(node)
}

#[test]
fn f_3_an_interrupted_format_is_a_new_member_or_none() {
    let points = [
        CrashPoint::CreateServerDir,
        CrashPoint::NamenodeDirSync,
        CrashPoint::VoteSync,
        CrashPoint::SegmentCreate,
        CrashPoint::IdentitySync,
    ];
    let mut reached = 0;
    for point in points {
        for (nth, side) in (1..8).flat_map(|nth| [(nth, Side::Before), (nth, Side::After)]) {
            for cut in [false, true] {
                let disk = MemDisk::new();
                let shared = disk.shared();
                let random: Arc<dyn Randomness> = Arc::new(SeededRandom::new(nth));
                disk.stop_at(point, side, nth);
                let made = Consensus::format(&shared, &dir(), &identity(1, 1), &config(), &random);
                reached += u32::from(disk.stopped());
                assert_eq!(made.is_err(), disk.stopped());
                if cut {
                    disk.power_cut(random.as_ref())
                } else {
                    disk.process_died()
                }
                if !Consensus::is_formatted(&shared, &dir()).expect("looks") {
                    Node::format(&shared, &dir(), &identity(1, 1), 9);
                }
                let mut node = reopen(&disk);
                commit(&mut node, b"works");
            }
        }
    }
    assert!(reached > 60, "{reached}");
}

#[test]
fn sc_48_a_failed_sync_condemns_the_log_and_is_never_repeated() {
    for (file, skip) in [("log", 0), ("log", 2), ("vote", 0)] {
        let (disk, mut node) = fresh();
        commit(&mut node, b"before");
        let acknowledged = node.payloads();
        if file == "vote" {
            drop(node);
            node = open(&disk).expect("opens, and has a new term to write down");
        }
        disk.inject(DiskFault::once(DiskFaultKind::SyncError).on(file).after(skip));
        let mut failed = None;
        for _ in 0..10 {
            if node.consensus.role().serving {
                node.propose(&[1; 3000]);
            }
            let Some(batch) = node.settle_but_disk() else { continue };
            match node.writer.write(vec![batch]) {
                Ok(done) => node.consensus.persisted(done),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        let failure = failed.expect("the fault struck");
        assert!(failure.to_string().contains("the namenode must stop"), "{failure}");
        let applied = node.payloads();
        let (operations, _) = disk.trace();
        for _ in 0..3 {
            let again = node.writer.write(vec![PersistBatch { seal: true, ..PersistBatch::default() }]);
            assert!(matches!(again, Err(LogError::Condemned)), "{again:?}");
        }
        assert_eq!(disk.trace().0, operations, "the disk is not asked again");
        // The kernel marked the pages clean: the next sync would have said yes.
        disk.power_cut(&merciless());
        let found = reopen(&disk).payloads();
        assert!(found.starts_with(&applied) && found.starts_with(&acknowledged), "{file}");
    }
}

#[test]
fn f_9_write_errors_of_the_log_stop_the_member_before_anything_is_acknowledged() {
    for kind in [DiskFaultKind::WriteError, DiskFaultKind::NoSpace, DiskFaultKind::ReadOnly] {
        let (disk, mut node) = fresh();
        commit(&mut node, b"before");
        disk.inject(DiskFault::lasting(kind));
        node.propose(b"after");
        let batch = node.settle_but_disk().expect("a batch");
        let failed = node.writer.write(vec![batch]);
        if kind == DiskFaultKind::ReadOnly {
            // A file that is open stays writable; it is the next segment that cannot be made.
            drop(failed);
        } else {
            failed.expect_err("the disk refused");
            assert_eq!(node.payloads(), [b"before"]);
        }
        disk.clear_faults();
        disk.process_died();
        assert_eq!(reopen(&disk).payloads()[0], b"before");
    }
}

/// A member on a disk of its own size, with the room that is free now taken by somebody else.
fn cramped(commits: u8) -> (MemDisk, Node) {
    let (disk, mut node) = fresh();
    for number in 0..commits {
        commit(&mut node, &[number; 2000]);
    }
    fill(&disk);
    (disk, node)
}

/// Lets the disk be full from now on.
fn fill(disk: &MemDisk) {
    let used: u64 = freeze(disk).iter().map(|(_, bytes)| (bytes.len() as u64).next_multiple_of(4096)).sum();
    let space = disk.space(&dir()).expect("asks");
    assert!(space.available_bytes > used);
    put_file(disk, &dir().join("ballast"), b"");
    let file = disk.open(&dir().join("ballast"), OpenMode::ReadWrite).expect("opens");
    disk.add_device(Path::new("/"), space.capacity_bytes - space.available_bytes);
    drop(file);
}

/// Gives the disk room.
fn empty(disk: &MemDisk) {
    disk.add_device(Path::new("/"), 1 << 40);
}

#[test]
fn sc_57_on_a_full_disk_growth_is_refused_and_no_batch_stops_the_member() {
    for (size, commits) in [(100, 30), (700, 30), (3000, 31), (8000, 26), (8000, 28), (8000, 30), (8000, 35)] {
        let (disk, mut node) = cramped(commits);
        let mut refused = None;
        // Whatever `propose` accepts has to find room, however unluckily it is cut.
        for _ in 0..2_000 {
            match node.consensus.propose(1, Bytes::from(vec![3; size])) {
                Ok(_) => {}
                Err(ProposeError::Busy) => {
                    node.settle();
                    if node.consensus.room() == Room::Normal {
                        continue;
                    }
                }
                Err(error) => {
                    refused = Some(error);
                    break;
                }
            }
            if size < 3000 {
                node.settle();
            }
        }
        node.settle();
        assert_eq!(refused, Some(ProposeError::NoSpace), "payloads of {size}");
        assert_ne!(node.consensus.room(), Room::Normal);
        let wanted = node.payloads();
        // Reads, restarts and images work on the full disk.
        drop(node);
        let mut node = reopen(&disk);
        assert_eq!(node.payloads(), wanted, "payloads of {size}");
        node.write_image();
        node.settle();
        for _ in 0..20 {
            node.consensus.tick();
            node.settle();
        }
        assert_ne!(node.consensus.room(), Room::Normal, "payloads of {size}");
        // Room comes back: the member sees it by itself, without a restart and without anything being written.
        empty(&disk);
        for _ in 0..20 {
            node.consensus.tick();
            node.settle();
        }
        assert_eq!(node.consensus.room(), Room::Normal, "payloads of {size}");
        commit(&mut node, b"goes on");
    }
}

#[test]
fn sc_57_what_is_accepted_on_a_full_disk_fits_however_it_is_cut() {
    let mut accepted = 0;
    for lead in 0..28 {
        let (disk, mut node) = fresh();
        for number in 0..lead {
            commit(&mut node, &[number; 1000]);
        }
        fill(&disk);
        let before = node.payloads().len();
        let mut proposed = 0;
        while node.consensus.propose(1, Bytes::from(vec![3; 8000])).is_ok() {
            proposed += 1;
        }
        // The end of the active segment may be too short for the next record: a third one would be needed.
        node.settle();
        assert_eq!(node.payloads().len(), before + proposed, "after {lead} small records");
        accepted += proposed;
    }
    assert!(accepted > 28, "{accepted}");
}

#[test]
fn sc_57_images_relieve_a_full_disk_of_its_log() {
    let (_disk, mut node) = cramped(30);
    while node.consensus.propose(1, Bytes::from(vec![3; 2000])).is_ok() {
        node.settle();
    }
    assert_ne!(node.consensus.room(), Room::Normal);
    let segments = node.segments();
    // The reserve has the room of the first image; the second one lets the log below the first one go.
    node.write_image();
    node.settle();
    let small = Bytes::from_static(b"a delete");
    node.consensus.propose(1, small).expect("the reserve is for deletes");
    node.settle();
    node.write_image();
    node.settle();
    assert!(node.segments() < segments, "{} of {segments} segments", node.segments());
    // The images take what growth could have had; deletes have a segment's room again.
    for _ in 0..5 {
        commit(&mut node, &[4; 2000]);
    }
}

#[test]
fn a_spare_segment_that_a_crash_cut_short_is_made_whole_again() {
    let (disk, mut node) = fresh();
    for number in 0..8 {
        commit(&mut node, &[number; 3000]);
    }
    drop(node);
    // As a crash between the two halves of a cut leaves it: no room behind the header.
    let spare =
        freeze(&disk).into_iter().map(|(path, _)| path).rfind(|path| path.display().to_string().contains("log-"));
    let file = disk.open(&spare.expect("a spare"), OpenMode::ReadWrite).expect("opens");
    file.set_len(4096, CrashPoint::LogTruncate).expect("cuts");
    drop(file);
    let mut node = reopen(&disk);
    for number in 0..20 {
        commit(&mut node, &[number; 3000]);
    }
    assert_eq!(node.payloads().len(), 28);
}

#[test]
fn larger_segments_may_be_configured_later() {
    let (disk, mut node) = fresh();
    commit(&mut node, b"small");
    drop(node);
    let random: Arc<dyn Randomness> = Arc::new(SeededRandom::new(1));
    let larger = ConsensusConfig { segment_bytes: 1 << 20, ..config() };
    let mut opened = Consensus::open(&disk.shared(), &dir(), None, larger, &random).expect("opens");
    for _ in 0..8 {
        while let Some(ready) = opened.consensus.ready() {
            if let Some(batch) = ready.persist {
                opened.consensus.persisted(opened.writer.write(vec![batch]).expect("written"));
            }
        }
        opened.consensus.propose(1, Bytes::from(vec![1; 100 << 10])).expect("accepted");
    }
}

#[test]
fn sc_50_identity_and_vote_survive_one_damaged_slot_and_are_refused_with_two() {
    for name in ["identity", "vote"] {
        let (disk, mut node) = fresh();
        commit(&mut node, b"x");
        drop(node);
        let files = freeze(&disk);
        let path = dir().join(name);
        for slot in [0, 4096] {
            let disk = thaw(&files);
            disk.flip_bit(&path, slot + 26, 2).expect("flips");
            let mut node = reopen(&disk);
            commit(&mut node, b"goes on");
        }
        let disk = thaw(&files);
        for slot in [0, 4096] {
            disk.flip_bit(&path, slot + 26, 2).expect("flips");
        }
        let before = freeze(&disk);
        let text = refusal(&disk);
        assert!(text.contains(name) && text.contains("neither slot holds a valid record"), "{text}");
        let random: Arc<dyn Randomness> = Arc::new(SeededRandom::new(1));
        let format = Consensus::format(&disk.shared(), &dir(), &identity(1, 1), &config(), &random);
        assert!(matches!(format, Err(ConsensusError::NotEmpty { .. })), "{name}: never formatted anew");
        let kept: Vec<_> = freeze(&disk).into_iter().filter(|(path, _)| !path.ends_with("lock")).collect();
        let had: Vec<_> = before.into_iter().filter(|(path, _)| !path.ends_with("lock")).collect();
        assert_eq!(kept, had, "{name}: nothing was changed");
    }
}

#[test]
fn sc_18_a_vote_file_of_an_earlier_day_is_refused() {
    let (disk, mut node) = fresh();
    drop(node.payloads());
    let vote = get_file(&disk, &dir().join("vote"));
    drop(node);
    node = reopen(&disk);
    commit(&mut node, b"in a later term");
    drop(node);
    put_file(&disk, &dir().join("vote"), &vote);
    let text = refusal(&disk);
    assert!(text.contains("older vote file"), "{text}");
}

#[test]
fn f_17_files_of_another_cluster_are_refused() {
    let (disk, node) = fresh();
    drop(node);
    let other = MemDisk::new();
    let stranger = Identity { cluster: ClusterId::new("other"), ..identity(1, 1) };
    Node::format(&other.shared(), &dir(), &stranger, 5);
    for name in ["log-0000000000000001", "identity"] {
        let disk = thaw(&freeze(&disk));
        put_file(&disk, &dir().join(name), &get_file(&other, &dir().join(name)));
        let text = refusal(&disk);
        assert!(text.contains("belongs to another cluster"), "{name}: {text}");
    }
}

/// A member with two images and the log since the older one.
fn with_two_images() -> (MemDisk, Vec<Vec<u8>>) {
    let (disk, mut node) = fresh();
    for number in 0..50_u8 {
        commit(&mut node, &[number; 2000]);
        if number == 20 || number == 40 {
            node.write_image();
            node.settle();
        }
    }
    assert!(!disk.files().iter().any(|name| name.ends_with("log-0000000000000001")), "the log was released");
    let wanted = node.payloads();
    (disk, wanted)
}

fn image_paths(disk: &MemDisk) -> Vec<PathBuf> {
    let is_image = |path: &PathBuf| path.display().to_string().contains("/image-");
    disk.files().into_iter().map(PathBuf::from).filter(is_image).collect()
}

#[test]
fn f_6_a_damaged_image_falls_back_to_the_older_one_and_the_log() {
    let (disk, wanted) = with_two_images();
    let files = freeze(&disk);
    let [_, newest] = image_paths(&disk).try_into().expect("two images");
    let len = get_file(&disk, &newest).len() as u64;
    for offset in (0..len).step_by(len as usize / 25).chain(0..24).chain(len - 40..len) {
        let disk = thaw(&files);
        disk.flip_bit(&newest, offset, (offset % 8) as u8).expect("flips");
        // A version in a header whose checksum is wrong is not believed either.
        let node = reopen(&disk);
        assert_eq!(node.payloads(), wanted, "offset {offset}");
        assert!(node.notes.iter().any(|note| note.contains("take its place")), "{:?}", node.notes);
    }
    for len in [0, 1, 100, len / 2, len - 1] {
        let disk = thaw(&files);
        disk.open(&newest, OpenMode::ReadWrite)
            .and_then(|file| file.set_len(len, CrashPoint::ImageSync))
            .expect("cuts");
        assert_eq!(reopen(&disk).payloads(), wanted, "cut to {len} bytes");
    }
    // Sectors that cannot be read at all.
    let disk = thaw(&files);
    disk.inject(DiskFault::lasting(DiskFaultKind::ReadError).on(&newest.display().to_string()));
    assert_eq!(reopen(&disk).payloads(), wanted);
}

#[test]
fn f_6_after_a_fallback_the_member_goes_on_and_images_are_bounded() {
    let (disk, _) = with_two_images();
    let [_, newest] = image_paths(&disk).try_into().expect("two images");
    disk.flip_bit(&newest, 60, 0).expect("flips");
    let mut node = reopen(&disk);
    for number in 0..3 {
        for _ in 0..20 {
            commit(&mut node, &[number; 2000]);
        }
        node.write_image();
        node.settle();
    }
    let wanted = node.payloads();
    assert_eq!(image_paths(&disk).len(), 2, "the damaged one is gone too");
    drop(node);
    assert_eq!(reopen(&disk).payloads(), wanted);
}

#[test]
fn sc_07_without_a_usable_image_a_log_that_begins_later_is_refused() {
    let (disk, _) = with_two_images();
    let files = freeze(&disk);
    let images = image_paths(&disk);
    let damaged = thaw(&files);
    for path in &images {
        damaged.flip_bit(path, 60, 0).expect("flips");
    }
    let text = refusal(&damaged);
    assert!(text.contains("damaged at offset") && text.contains("Acknowledged changes are missing"), "{text}");
    let removed = thaw(&files);
    for path in &images {
        removed.remove_file(path, CrashPoint::ImageRemove).expect("removes");
    }
    let text = refusal(&removed);
    assert!(text.contains("there is no image of that index or a later one"), "{text}");
    // The older image alone bridges the gap, the newer one alone as well.
    for path in &images {
        let disk = thaw(&files);
        disk.remove_file(path, CrashPoint::ImageRemove).expect("removes");
        assert_eq!(reopen(&disk).payloads().len(), 50);
    }
}

#[test]
fn sc_60_a_log_that_ends_before_its_image_is_refused() {
    let (disk, wanted) = with_two_images();
    // The segments are those of an earlier day, each of them sound.
    let (early, mut node) = fresh();
    commit(&mut node, b"early");
    drop(node);
    let names: Vec<PathBuf> = disk.files().into_iter().map(PathBuf::from).collect();
    for path in names.iter().filter(|path| path.display().to_string().contains("log-")) {
        disk.remove_file(path, CrashPoint::SegmentRemove).expect("removes");
    }
    for (path, bytes) in freeze(&early).iter().filter(|(path, _)| path.display().to_string().contains("log-")) {
        put_file(&disk, path, bytes);
    }
    let text = refusal(&disk);
    assert!(text.contains("the log ends before index"), "{text}");
    assert_eq!(wanted.len(), 50);
}

#[test]
fn sc_07_the_log_right_behind_the_older_image_is_not_dropped() {
    // The segment that held the older image's own entry may be gone: the log begins with the entry after it.
    // Walk over every index: wherever the border falls, the fallback has to join.
    let mut joined = 0;
    for images_after in 10..24_u8 {
        let (disk, mut node) = fresh();
        for number in 0..40_u8 {
            commit(&mut node, &[number; 2000]);
            if number == images_after || number == 34 {
                node.write_image();
                node.settle();
            }
        }
        let wanted = node.payloads();
        drop(node);
        let [_, newest] = image_paths(&disk).try_into().expect("two images");
        disk.flip_bit(&newest, 60, 0).expect("flips");
        assert_eq!(reopen(&disk).payloads(), wanted, "image after {images_after}");
        joined += 1;
    }
    assert_eq!(joined, 14);
}

#[test]
fn sc_07_an_image_that_cannot_be_written_replaces_and_removes_nothing() {
    let (disk, wanted) = with_two_images();
    let mut node = reopen(&disk);
    let before = image_paths(&disk);
    commit(&mut node, b"more");
    for kind in [DiskFaultKind::WriteError, DiskFaultKind::SyncError, DiskFaultKind::NoSpace] {
        disk.inject(DiskFault::once(kind).on("image.new"));
        let applied = node.applied.clone();
        let failed = node.images.write(node.position, &mut |out| encode_state(&applied, out));
        assert!(matches!(failed, Err(ImageError::Io { .. })), "{kind:?}: {failed:?}");
        assert_eq!(image_paths(&disk), before, "{kind:?}");
        assert!(!disk.files().iter().any(|name| name.ends_with("image.new")), "{kind:?}: nothing is left behind");
    }
    let failed = node.images.write(node.position, &mut |_| Err(std::io::Error::other("the state cannot be encoded")));
    assert!(failed.is_err());
    node.write_image();
    node.settle();
    drop(node);
    assert_eq!(reopen(&disk).payloads().len(), wanted.len() + 1);
}
