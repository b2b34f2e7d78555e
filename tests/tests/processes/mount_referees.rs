//! Programs of others judge a mount: `BLOCKYARD_HEAVY=mount-referees`. A program that is missing is skipped, and said so.
//!
//! ```text
//!   posix       pjdfstest, case by case what ext4 answers
//!   exerciser   fsx: random operations on one file, maps and truncates included
//!   programs    sqlite3, git, tar, rsync, fio, cargo
//!   kills       the same, with kill -9 of a server or of the mount in the middle
//!   two         two mounts at once
//! ```

mod exerciser;
mod kills;
mod posix;
mod programs;
mod two;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tests::command::{arg, wait_with_patience};
use tests::{Cluster, heavy};

use crate::mounts;

/// The suite.
const SUITE: &str = "mount-referees";
/// Longest time of one program.
const PATIENCE: Duration = Duration::from_secs(3600);

/// A mount of a cluster, for all users of this machine.
struct Place {
    cluster: Cluster,
    dir: PathBuf,
}

impl Place {
    /// `None`: nobody asked for the suite, or nothing can be mounted.
    fn new() -> Option<Self> {
        if !heavy(SUITE) {
            return None;
        }
        let cluster = Cluster::start();
        let dir = mounts::target(&cluster, "mnt")?;
        mounts::mount(&cluster, &dir, &["--allow-other"]).ok();
        Some(Self { cluster, dir })
    }

    /// A new folder in the mount.
    fn folder(&self, name: &str) -> PathBuf {
        let dir = self.dir.join(name);
        std::fs::create_dir(&dir).expect("a folder in the mount");
        dir
    }

    /// A new folder on this machine's own disk.
    fn local(&self, name: &str) -> PathBuf {
        let dir = self.cluster.scratch(name);
        std::fs::create_dir_all(&dir).expect("a folder");
        dir
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let ended = self.cluster.run(&["umount", "--lazy", arg(&self.dir)]);
        if !ended.status.success() {
            eprintln!("the mount is still there: {}", ended.stderr);
        }
    }
}

/// Is a program there? If not, it is said that its part is skipped.
fn has(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).any(|dir| dir.join(program).is_file());
    if !found {
        println!("skipped: {program} is not installed");
    }
    found
}

/// Runs a program to its end; what it said, both ways, and whether it was content.
fn said(command: &mut Command, log: &Path) -> (bool, String) {
    let out = File::create(log).expect("a log");
    let err = out.try_clone().expect("the same log");
    let mut child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn().expect("the program starts");
    let status = wait_with_patience(&mut child, PATIENCE);
    let said = String::from_utf8_lossy(&std::fs::read(log).expect("a log")).into_owned();
    (status.success(), said)
}
