//! `fallocate`: room, holes and zeros.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;

use rustix::fs::{FallocateFlags, fallocate};

use crate::place::{BLOCK_BYTES, Place, by_program, close, content};

const HOLE: FallocateFlags = FallocateFlags::PUNCH_HOLE.union(FallocateFlags::KEEP_SIZE);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn holes_are_zeros_here_and_elsewhere_and_files_stay_as_long_as_they_are() {
    let Some(place) = Place::with(2).await else { return };
    let (here, there) = (place.dir(0), place.dir(1));
    by_program(move || {
        let mut bytes = content(2 * BLOCK_BYTES as usize + 1000, 4);
        fs::write(here.join("f"), &bytes).unwrap();
        let file = OpenOptions::new().read(true).write(true).open(here.join("f")).unwrap();
        file.write_all_at(b"written before", 300_000).unwrap();
        let (from, len) = (BLOCK_BYTES - 5000, BLOCK_BYTES + 5500);
        fallocate(&file, HOLE, from, len).unwrap();
        bytes[from as usize..(from + len) as usize].fill(0);
        file.write_all_at(b"written after", 310_000).unwrap();
        bytes[310_000..310_013].copy_from_slice(b"written after");
        // Up to the end and beyond it: the length stays.
        fallocate(&file, HOLE, bytes.len() as u64 - 7, 1 << 20).unwrap();
        let end = bytes.len();
        bytes[end - 7..].fill(0);
        fallocate(&file, HOLE, 1 << 30, 1 << 20).unwrap();
        let mut read = vec![1; bytes.len()];
        file.read_exact_at(&mut read, 0).unwrap();
        assert!(read == bytes, "before it is closed");
        assert_eq!(close(file), None);
        for dir in [here, there] {
            assert!(fs::read(dir.join("f")).unwrap() == bytes);
        }
    })
    .await;
    place.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn room_and_zeros_keep_the_length_only_where_that_was_asked_for() {
    let Some(place) = Place::with(1).await else { return };
    let dir = place.dir(0);
    by_program(move || {
        fs::write(dir.join("f"), [b'a'; 100]).unwrap();
        let file = OpenOptions::new().read(true).write(true).open(dir.join("f")).unwrap();
        let len = || file.metadata().unwrap().len();
        fallocate(&file, FallocateFlags::KEEP_SIZE, 0, 1000).unwrap();
        fallocate(&file, FallocateFlags::ZERO_RANGE.union(FallocateFlags::KEEP_SIZE), 90, 1000).unwrap();
        assert_eq!(len(), 100);
        fallocate(&file, FallocateFlags::ZERO_RANGE, 95, 25).unwrap();
        assert_eq!(len(), 120);
        fallocate(&file, FallocateFlags::empty(), 0, 130).unwrap();
        assert_eq!(len(), 130);
        let refused = fallocate(&file, FallocateFlags::COLLAPSE_RANGE, 0, 50);
        assert_eq!(refused.unwrap_err().raw_os_error(), libc::EOPNOTSUPP);
        let only_read = File::open(dir.join("f")).unwrap();
        assert_eq!(fallocate(&only_read, HOLE, 0, 50).unwrap_err().raw_os_error(), libc::EBADF);
        assert_eq!(close(file), None);
        let mut wanted = vec![0; 130];
        wanted[..90].fill(b'a');
        assert!(fs::read(dir.join("f")).unwrap() == wanted);
    })
    .await;
    place.end().await;
}
