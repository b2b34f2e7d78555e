//! One voter: what a restart keeps, what a refused start says.

use super::*;

fn folder() -> (tempfile::TempDir, PathBuf, Arc<dyn Disk>) {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("nn");
    (dir, path, OsDisk::shared())
}

fn fresh() -> (tempfile::TempDir, Node) {
    let (dir, path, disk) = folder();
    Node::format(&disk, &path, &identity(1, 1), 5);
    let node = Node::start(&disk, &path);
    (dir, node)
}

#[test]
fn a_single_voter_leads_after_its_first_batch_without_a_tick() {
    let (_dir, mut node) = fresh();
    assert!(!node.consensus.role().serving, "not before its first entry is durable");
    node.settle();
    assert!(node.consensus.role().serving);
    let proposed = node.propose(b"one");
    assert!(node.applied.is_empty(), "nothing is applied before it is durable");
    node.settle();
    assert_eq!(node.applied.get(&proposed.index.raw()).map(Vec::as_slice), Some(b"one".as_slice()));
    node.consensus.read_index(9).expect("the leader reads");
    node.settle();
    assert_eq!(node.reads, vec![ReadState { context: 9, index: proposed.index }]);
}

#[test]
fn everything_acknowledged_is_there_after_a_restart_and_segments_roll() {
    let (_dir, mut node) = fresh();
    node.settle();
    let mut wanted = Vec::new();
    for number in 0..400_u32 {
        let payload = vec![number as u8; 1 + (number as usize * 37) % 900];
        node.propose(&payload);
        wanted.push(payload);
        if number % 7 == 0 {
            node.settle();
        }
    }
    node.settle();
    assert!(node.segments() > 4, "segments rolled");
    assert_eq!(node.payloads(), wanted);
    for _ in 0..3 {
        node = node.restart();
        node.settle();
        assert_eq!(node.payloads(), wanted);
    }
}

#[test]
fn waiting_batches_share_one_write() {
    let (_dir, mut node) = fresh();
    node.settle();
    let mut batches = Vec::new();
    for number in 0..10 {
        node.propose(&[number]);
        batches.extend(node.settle_but_disk());
    }
    assert_eq!(batches.len(), 10, "replication does not wait for the disk");
    let done = node.writer.write(batches).expect("written");
    node.consensus.persisted(done);
    node.settle();
    assert_eq!(node.payloads().len(), 10);
}

#[test]
fn an_image_and_the_log_after_it_are_the_state() {
    let (_dir, mut node) = fresh();
    node.settle();
    for round in 0..6_u8 {
        for number in 0..60_u8 {
            node.propose(&[round, number].repeat(200));
            node.settle();
        }
        let info = node.write_image();
        node.settle();
        assert!(info.log_needed_after <= info.meta.index);
        node.propose(&[round]);
        node.settle();
        let wanted = node.payloads();
        node = node.restart();
        assert_eq!(node.images.newest().map(|newest| newest.meta.index), Some(info.meta.index));
        node.settle();
        assert_eq!(node.payloads(), wanted);
    }
    assert!(node.segments() < 8, "segments below the older image are gone");
    let images = node.images.files().expect("lists");
    assert_eq!(images.len(), 2, "two images are kept");
    let again = node.images.write(node.images.newest().expect("one").meta, &mut |_| Ok(()));
    assert!(matches!(again, Err(ImageError::Superseded { .. })));
}

#[test]
fn idle_logs_are_sealed_once() {
    let (_dir, mut node) = fresh();
    node.settle();
    let mut seals = 0;
    for _ in 0..50 {
        node.consensus.tick();
        if let Some(batch) = node.settle_but_disk() {
            assert!(batch.seal);
            seals += 1;
            let done = node.writer.write(vec![batch]).expect("written");
            node.consensus.persisted(done);
        }
    }
    assert_eq!(seals, 1);
}

#[test]
fn a_folder_is_for_one_process() {
    let (_dir, node) = fresh();
    let second = Node::open(&node.disk, &node.dir, 1).err().expect("refused");
    assert!(matches!(second, ConsensusError::Locked { .. }), "{second}");
}

#[test]
fn sc_50_nothing_that_is_not_empty_is_formatted() {
    let (_dir, path, disk) = folder();
    let open = |path: &Path| Node::open(&disk, path, 1).err().expect("refused").to_string();
    assert!(open(&path).contains("no namenode was formatted here"));
    assert!(!Consensus::is_formatted(&disk, &path).expect("looks"));
    disk.create_dir_all(&path, CrashPoint::CreateServerDir).expect("a folder");
    put_file(disk.as_ref(), &path.join("thesis.txt"), b"years of work");
    let random: Arc<dyn Randomness> = Arc::new(SeededRandom::new(1));
    let refused = Consensus::format(&disk, &path, &identity(1, 1), &config(), &random).expect_err("refused");
    assert!(refused.to_string().contains("thesis.txt"), "{refused}");
    assert_eq!(get_file(disk.as_ref(), &path.join("thesis.txt")), b"years of work");
}

#[test]
fn sc_50_a_lost_identity_or_vote_file_is_refused() {
    for lost in ["identity", "vote"] {
        let (_dir, mut node) = fresh();
        node.settle();
        let (disk, path) = (Arc::clone(&node.disk), node.dir.clone());
        drop(node);
        rename(disk.as_ref(), &path.join(lost), &path.with_extension("aside"));
        assert!(Consensus::is_formatted(&disk, &path).expect("looks"), "must not be formatted anew");
        let refused = Node::open(&disk, &path, 1).err().expect("refused");
        assert!(matches!(&refused, ConsensusError::Missing { missing, .. } if *missing == lost), "{refused}");
        let random: Arc<dyn Randomness> = Arc::new(SeededRandom::new(1));
        let format = Consensus::format(&disk, &path, &identity(1, 1), &config(), &random);
        assert!(matches!(format, Err(ConsensusError::NotEmpty { .. })));
        rename(disk.as_ref(), &path.with_extension("aside"), &path.join(lost));
        drop(Node::start(&disk, &path));
    }
}

#[test]
fn the_folder_of_another_cluster_is_refused() {
    let (_dir, path, disk) = folder();
    Node::format(&disk, &path, &identity(1, 1), 5);
    let random: Arc<dyn Randomness> = Arc::new(SeededRandom::new(1));
    let other = ClusterId::new("other");
    let refused = Consensus::open(&disk, &path, Some(&other), config(), &random).expect_err("refused");
    assert!(refused.to_string().contains("CID-test") && refused.to_string().contains("CID-other"), "{refused}");
}

#[test]
fn an_interrupted_format_is_begun_again() {
    let (_dir, path, disk) = folder();
    Node::format(&disk, &path, &identity(1, 1), 5);
    // As a crash just before the identity got its name would leave it.
    rename(disk.as_ref(), &path.join("identity"), &path.join("identity.new"));
    put_file(disk.as_ref(), &path.join("formatting"), b"");
    assert!(!Consensus::is_formatted(&disk, &path).expect("looks"));
    assert!(matches!(Node::open(&disk, &path, 1).err(), Some(ConsensusError::NotFormatted { .. })));
    Node::format(&disk, &path, &identity(1, 1), 6);
    let mut node = Node::start(&disk, &path);
    node.settle();
    assert!(node.consensus.role().serving);
}

#[test]
fn too_large_and_too_much_are_refused() {
    let (_dir, mut node) = fresh();
    node.settle();
    let large = Bytes::from(vec![0; (32 << 10) / 4 + 1]);
    assert!(matches!(node.consensus.propose(1, large), Err(ProposeError::TooLarge { .. })));
    let fits = Bytes::from(vec![0; 4 << 10]);
    let mut accepted = 0;
    let refused = loop {
        match node.consensus.propose(1, fits.clone()) {
            Ok(_) => accepted += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused, ProposeError::Busy);
    assert!(accepted > 5, "{accepted}");
    node.settle();
    assert_eq!(node.payloads().len(), accepted);
    assert!(node.consensus.propose(1, fits).is_ok());
}
