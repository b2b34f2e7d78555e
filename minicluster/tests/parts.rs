//! Files in parts that are written side by side: they appear whole, and nothing else is ever left. Real servers.
#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

use std::time::Duration;

use base::task::JoinSet;
use client::parts::WrittenPart;
use client::{Client, CreateOptions, ErrorCode, PartedFile, Quota, file_digest};
use minicluster::MiniCluster;

const BLOCK: usize = 64 << 10;
/// Longest time until the cluster has done what follows by itself.
const PATIENCE: Duration = Duration::from_secs(60);

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 253 + i / 65_536) as u8).collect()
}

async fn cluster(datanodes: usize) -> MiniCluster {
    MiniCluster::builder().datanodes(datanodes).block_size_bytes(BLOCK as u64).start().await.unwrap()
}

fn as_user(cluster: &MiniCluster, user: &str) -> Client {
    Client::builder().connect(cluster.uri()).user(user).build().unwrap()
}

/// Names in a directory, but for those that every new cluster has.
async fn names(client: &Client, directory: &str) -> Vec<String> {
    let entries = client.list(directory).unwrap().collect().await.unwrap();
    entries.into_iter().map(|entry| entry.path).filter(|name| name != "tmp" && name != "user").collect()
}

async fn read(client: &Client, path: &str) -> Vec<u8> {
    let reader = client.open(path).await.unwrap();
    reader.read_at(0, reader.len_bytes() as usize).await.unwrap().to_vec()
}

/// Writes parts of these blocks, all at the same time.
async fn written(file: &PartedFile, bytes: &[u8], part_blocks: usize) -> Vec<WrittenPart> {
    let mut parts = JoinSet::new();
    for (number, part) in bytes.chunks(part_blocks * BLOCK).enumerate() {
        let (file, part) = (file.clone(), part.to_vec());
        parts.spawn(async move {
            let mut writer = file.begin().await.unwrap();
            writer.write_all(&part).await.unwrap();
            (number, WrittenPart { writer, len_bytes: part.len() as u64 })
        });
    }
    let mut parts = parts.join_all().await;
    parts.sort_by_key(|(number, _)| *number);
    parts.into_iter().map(|(_, part)| part).collect()
}

/// Waits until the cluster has so many closed files more than before this test, or for ever.
async fn closed_files(client: &Client, count: u64) {
    loop {
        let status = client.status().await.unwrap();
        if status.files >= count {
            return;
        }
    }
}

async fn digest(client: &Client, path: &str) -> Option<client::DigestPrefix> {
    let reader = client.open(path).await.unwrap();
    file_digest(reader.blocks().iter().map(AsRef::as_ref))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_in_parts_is_the_file_of_one_writer_and_appears_whole() {
    let cluster = cluster(2).await;
    let client = cluster.client().unwrap();
    let bytes = content(11 * BLOCK + 777);
    let options = CreateOptions { parents: true, replication: 2, mode: Some(0o640), ..CreateOptions::default() };
    let file = client.create_in_parts("/d/parts", options.clone()).unwrap();
    let parts = written(&file, &bytes, 2).await;
    assert_eq!(names(&client, "/d").await, [""; 0], "nobody sees anything before it is whole");
    let status = file.publish(parts).await.unwrap();
    assert_eq!(names(&client, "/d").await, ["parts"]);
    assert!(read(&client, "/d/parts").await == bytes);
    let found = client.stat("/d/parts").await.unwrap();
    assert_eq!((status.inode, status.len_bytes, status.path.as_str()), (found.inode, bytes.len() as u64, "/d/parts"));
    assert_eq!((found.mode & 0o7777, found.replication, found.open_for_write), (0o640, 2, false));
    // What `checksum` and `fsck --full` compare.
    let mut one = client.create("/d/one", options).await.unwrap();
    one.write_all(&bytes).await.unwrap();
    one.close().await.unwrap();
    assert_eq!(client.open("/d/parts").await.unwrap().blocks().len(), 12);
    assert_eq!(digest(&client, "/d/parts").await, digest(&client, "/d/one").await);
    assert!(digest(&client, "/d/parts").await.is_some());
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_its_owner_may_not_write_is_made_in_parts_too() {
    let cluster = cluster(1).await;
    cluster.client().unwrap().mkdir("/home", 0o777, false).await.unwrap();
    let ana = as_user(&cluster, "ana");
    let bytes = content(3 * BLOCK);
    for (name, mode) in [("read", 0o444), ("nothing", 0o000), ("write", 0o200), ("all", 0o755)] {
        let path = format!("/home/{name}");
        let options = CreateOptions { mode: Some(mode), ..CreateOptions::default() };
        let file = ana.create_in_parts(&path, options).unwrap();
        let parts = written(&file, &bytes, 1).await;
        assert_eq!(file.publish(parts).await.unwrap().mode & 0o7777, mode, "{name}");
        let found = ana.stat(&path).await.unwrap();
        assert_eq!((found.mode & 0o7777, found.owner.as_str()), (mode, "ana"), "{name}");
    }
    assert_eq!(names(&ana, "/home").await.len(), 4);
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_stays_until_the_parts_are_a_file_and_is_replaced_only_when_asked() {
    let cluster = cluster(1).await;
    let client = cluster.client().unwrap();
    let (old, new) = (content(100), content(4 * BLOCK));
    let mut writer = client.create("/f", CreateOptions::default()).await.unwrap();
    writer.write_all(&old).await.unwrap();
    writer.close().await.unwrap();
    for overwrite in [false, true] {
        let file = client.create_in_parts("/f", CreateOptions { overwrite, ..CreateOptions::default() }).unwrap();
        let parts = written(&file, &new, 1).await;
        assert!(read(&client, "/f").await == old);
        let published = file.publish(parts).await;
        assert_eq!(names(&client, "/").await, ["f"], "whatever comes of it");
        match overwrite {
            false => {
                let error = published.unwrap_err();
                assert_eq!((error.code, error.path.as_str()), (ErrorCode::AlreadyExists, "/f"), "{error}");
                assert!(read(&client, "/f").await == old);
            }
            true => assert!(read(&client, "/f").await == new && published.is_ok()),
        }
    }
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_for_which_a_quota_has_no_room_are_removed_and_the_quota_is_named() {
    let cluster = cluster(1).await;
    let client = cluster.client().unwrap();
    client.mkdir("/d", 0o755, false).await.unwrap();
    // The directory counts as one.
    client.set_quota("/d", Quota::Limit(3), Quota::Keep).await.unwrap();
    let file = client.create_in_parts("/d/f", CreateOptions::default()).unwrap();
    let error = file.clone().publish(written(&file, &content(4 * BLOCK), 1).await).await.unwrap_err();
    assert_eq!((error.code, error.path.as_str()), (ErrorCode::QuotaExceeded, "/d"), "{error}");
    assert!(error.message.contains("the quota of 3 names"), "{error}");
    assert_eq!(names(&client, "/d").await, [""; 0]);
    file.clone().publish(written(&file, &content(2 * BLOCK), 1).await).await.unwrap();
    assert_eq!(names(&client, "/d").await, ["f"]);
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn d_5_sc_32_parts_that_are_given_up_leave_nothing() {
    let cluster = cluster(1).await;
    let client = cluster.client().unwrap();
    client.mkdir("/d", 0o755, false).await.unwrap();
    let file = client.create_in_parts("/d/f", CreateOptions::default()).unwrap();
    drop(written(&file, &content(3 * BLOCK + 1), 1).await);
    client.settle(PATIENCE).await;
    assert_eq!(names(&client, "/d").await, [""; 0]);
    let status = client.status().await.unwrap();
    assert_eq!((status.files, status.open_files), (0, 0), "nothing is left that nobody sees, either");
    // A part that was never begun, and a file that has no parts.
    assert_eq!(file.clone().publish(Vec::new()).await.unwrap_err().code, ErrorCode::InvalidArgument);
    assert_eq!(names(&client, "/d").await, [""; 0]);
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn d_5_publishing_that_nobody_waits_for_ends_with_the_whole_file_or_nothing() {
    let cluster = cluster(1).await;
    let client = cluster.client().unwrap();
    let bytes = content(6 * BLOCK + 5);
    for round in 0..4 {
        let path = format!("/d{round}/f");
        let options = CreateOptions { parents: true, ..CreateOptions::default() };
        let file = client.create_in_parts(&path, options).unwrap();
        let parts = written(&file, &bytes, 1).await;
        let before = client.status().await.unwrap().files;
        // Dropped once it has begun, or when so many parts are closed: what is over by then was waited for.
        tokio::select! {
            biased;
            published = file.publish(parts) => drop(published.unwrap()),
            () = closed_files(&client, before + round * 2) => {}
        }
        client.settle(PATIENCE).await;
        assert_eq!(names(&client, &format!("/d{round}")).await, ["f"], "what was begun is ended");
        assert!(read(&client, &path).await == bytes);
    }
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_goes_with_its_directory_as_that_of_one_writer_does() {
    let cluster = cluster(1).await;
    let client = cluster.client().unwrap();
    client.mkdir("/a", 0o755, false).await.unwrap();
    let file = client.create_in_parts("/a/f", CreateOptions::default()).unwrap();
    let bytes = content(3 * BLOCK);
    let parts = written(&file, &bytes, 1).await;
    client.rename("/a", "/b", client::Replace::Refuse).await.unwrap();
    client.mkdir("/a", 0o755, false).await.unwrap();
    assert_eq!(file.publish(parts).await.unwrap().path, "/b/f");
    assert_eq!((names(&client, "/a").await, names(&client, "/b").await), (vec![], vec!["f".to_owned()]));
    assert!(read(&client, "/b/f").await == bytes);
    // One that was removed takes its parts along.
    let file = client.create_in_parts("/a/f", CreateOptions::default()).unwrap();
    let parts = written(&file, &bytes, 1).await;
    client.delete("/a", true).await.unwrap();
    let error = file.publish(parts).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::NotFound, "{error}");
    assert_eq!(names(&client, "/").await, ["b"]);
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn more_files_are_joined_than_a_namenode_takes_at_once() {
    let cluster = cluster(1).await;
    let client = cluster.client().unwrap();
    let bytes = content(260 * 11);
    let file = client.create_in_parts("/f", CreateOptions::default()).unwrap();
    let mut parts = Vec::new();
    for part in bytes.chunks(11) {
        let mut writer = file.begin().await.unwrap();
        writer.write_all(part).await.unwrap();
        parts.push(WrittenPart { writer, len_bytes: part.len() as u64 });
    }
    assert_eq!(file.publish(parts).await.unwrap().len_bytes, bytes.len() as u64);
    assert!(read(&client, "/f").await == bytes);
    assert_eq!(names(&client, "/").await, ["f"]);
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_a_part_of_a_file_ends_with_it() {
    let cluster = cluster(1).await;
    let client = cluster.client().unwrap();
    let bytes = content(5 * BLOCK + 9);
    let mut writer = client.create("/f", CreateOptions::default()).await.unwrap();
    writer.write_all(&bytes).await.unwrap();
    writer.close().await.unwrap();
    let whole = client.open("/f").await.unwrap();
    for (begin, end) in
        [(0, 2 * BLOCK), (BLOCK, BLOCK), (2 * BLOCK, 3 * BLOCK + 7), (70_000, bytes.len()), (0, usize::MAX)]
    {
        let mut part = whole.another();
        part.seek(begin as u64);
        part.end_at(end as u64);
        let mut read = Vec::new();
        while let Some(piece) = part.next().await.unwrap() {
            read.extend_from_slice(&piece);
        }
        assert!(read == bytes[begin..end.min(bytes.len())], "{begin}..{end}");
    }
    cluster.shutdown().await.unwrap();
}
