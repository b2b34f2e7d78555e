//! What a failed sync leaves in the page cache, which another sync does not make durable.

use base::disk::{DiskFault, DiskFaultKind, MemDisk};

use super::*;

#[test]
fn sc_48_a_batch_that_is_read_after_its_sync_failed_survives_a_power_cut() {
    for batches in 1..40_u8 {
        let disk = MemDisk::new();
        let (shared, dir) = (disk.shared(), PathBuf::from("/nn"));
        Node::format(&shared, &dir, &identity(1, 1), 3);
        let mut node = Node::start(&shared, &dir);
        node.settle();
        for number in 0..batches {
            node.propose(&vec![number; 1500]);
            node.settle();
        }
        let proposed = node.propose(b"the sync of this one fails");
        // A segment is known by the name that it was created under.
        disk.inject(DiskFault::once(DiskFaultKind::SyncError).on("/log.new"));
        let batch = node.settle_but_disk().expect("something to write");
        assert!(node.writer.write(vec![batch]).is_err(), "the member stops");
        drop(node);
        disk.process_died();

        let mut node = Node::start(&shared, &dir);
        node.settle();
        let read = node.applied.contains_key(&proposed.index.raw());
        let known = node.payloads();
        disk.stop();
        drop(node);
        disk.power_cut(&SeededRandom::new(u64::from(batches)));

        let mut node = Node::start(&shared, &dir);
        node.settle();
        assert_eq!(node.payloads(), known, "{batches} batches, read back: {read}");
        assert_eq!(known.len(), usize::from(batches) + usize::from(read));
    }
}
