//! A small file system of its own, to be filled up. Needs root.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted tmpfs; unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    /// Mounts a tmpfs of this size on a new folder; `None` where that is not allowed, with the reason printed.
    ///
    /// # Panics
    /// If the folder cannot be made.
    #[must_use]
    pub fn mount(at: &Path, size_mib: u32) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: a small disk can only be mounted by root");
            return None;
        }
        std::fs::create_dir_all(at).expect("mount point");
        let size = format!("size={size_mib}m,mode=0700");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).output();
        match done {
            Ok(done) if done.status.success() => Some(Self { at: at.to_owned() }),
            Ok(done) => {
                println!("skipped: mount is not allowed here: {}", String::from_utf8_lossy(&done.stderr).trim());
                None
            }
            Err(error) => {
                println!("skipped: no mount program: {error}");
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that is just dying may still have a file open.
        match Command::new("umount").arg("-l").arg(&self.at).status() {
            Ok(status) if status.success() => {}
            other => eprintln!("cannot unmount {}: {other:?}", self.at.display()),
        }
    }
}
