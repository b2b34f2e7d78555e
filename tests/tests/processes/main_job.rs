//! The main job: a real tree in and out, every byte compared, kill -9 of everything, everything there.

use std::path::{Path, PathBuf};
use std::process::Command;

use tests::command::arg;
use tests::{Cluster, tree};

fn put_kill_get(from: &Path, least_files: usize, least_bytes: u64) {
    let mut cluster = Cluster::start();
    let listed = tree::list(from);
    let files = listed.values().flatten().count();
    let bytes: u64 = listed.values().flatten().sum();
    assert!(files >= least_files && bytes >= least_bytes, "{files} files with {bytes} bytes are too few");

    let began = std::time::Instant::now();
    let put = cluster.run(&["put", "-r", arg(from), "/tree"]).ok();
    let seconds = began.elapsed().as_secs_f64();
    println!("put {files} files, {bytes} bytes in {seconds:.1} s: {}", put.text().trim());

    let before = cluster.scratch("before");
    cluster.run(&["get", "-r", "/tree", arg(&before)]).ok();
    tree::assert_same(from, &before);

    cluster.kill_all();
    cluster.restart();
    println!("second start took {:?}", cluster.ready_after);
    let after = cluster.scratch("after");
    cluster.run(&["get", "-r", "/tree", arg(&after)]).ok();
    tree::assert_same(from, &after);
}

#[test]
fn a_tree_goes_in_and_comes_out_also_after_kill_9_of_everything() {
    let home = tempfile::tempdir().unwrap();
    let from = home.path().join("tree");
    tree::make(&from, 7, 400);
    put_kill_get(&from, 400, 10 << 20);
}

#[test]
fn heavy_toolchain_tree_goes_in_and_comes_out() {
    if !tests::heavy("toolchain-tree") {
        return;
    }
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output().expect("rustc");
    let sysroot = PathBuf::from(String::from_utf8(sysroot.stdout).expect("path").trim());
    // The folder of the toolchain itself where it is large enough, else a made one of the same size.
    let bytes: u64 = tree::list(&sysroot).values().flatten().sum();
    if tree::list(&sysroot).values().flatten().count() >= 10_000 && bytes >= 500 << 20 {
        put_kill_get(&sysroot, 10_000, 500 << 20);
    } else {
        println!("the toolchain in {} is small ({bytes} bytes): a made tree instead", sysroot.display());
        let home = tempfile::tempdir().unwrap();
        let from = home.path().join("tree");
        tree::make(&from, 8, 10_500);
        put_kill_get(&from, 10_000, 500 << 20);
    }
}

#[test]
fn a_directory_goes_under_an_existing_one_and_becomes_an_absent_one() {
    let cluster = Cluster::start();
    let from = cluster.scratch("logs");
    tree::make(&from, 3, 20);
    cluster.run(&["put", "-r", arg(&from), "/x"]).ok();
    cluster.run(&["put", "-r", arg(&from), "/x"]).ok();
    let copy = cluster.scratch("copy");
    cluster.run(&["get", "-r", "/x/logs", arg(&copy)]).ok();
    tree::assert_same(&from, &copy);
    cluster.run(&["get", "-r", "/x/logs", arg(&copy)]).ok();
    tree::assert_same(&from, &copy.join("logs"));
}
