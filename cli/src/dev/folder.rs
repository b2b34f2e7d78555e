//! The folder of a development cluster.
//!
//! ```text
//!   blockyard-data/
//!     dev.lock       held while a `blockyard dev` uses the folder
//!     namenode/      log, images, identity
//!     dn1/ dn2/ …    one volume each
//!     logs/          one file per process, never more than two times 64 MiB each
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base::crash::CrashPoint;
use base::disk::{Disk, DiskLock, OsDisk};
use tempfile::TempDir;

use crate::args::DevOptions;

/// Datanodes of a new cluster.
const DEFAULT_DATANODES: u16 = 3;

/// How often, and how many times at most, a lock left by a killed `dev` is looked at.
const LEFTOVER_LOOK: Duration = Duration::from_millis(20);
const LEFTOVER_LOOKS: u32 = 200;

/// The folder, locked. Dropping it removes an ephemeral one.
#[derive(Debug)]
pub(crate) struct Folder {
    top: PathBuf,
    datanodes: u16,
    _lock: Box<dyn DiskLock>,
    _ephemeral: Option<TempDir>,
}

impl Folder {
    /// Makes the folder if needed and locks it.
    ///
    /// # Errors
    /// If it cannot be made, is not a folder, or another `dev` uses it.
    pub(crate) fn open(options: &DevOptions) -> io::Result<Self> {
        let ephemeral =
            if options.ephemeral { Some(tempfile::Builder::new().prefix("blockyard-").tempdir()?) } else { None };
        let top = std::path::absolute(ephemeral.as_ref().map_or(options.dir.as_path(), TempDir::path))?;
        let disk = OsDisk;
        disk.create_dir_all(&top.join("logs"), CrashPoint::CreateServerDir).map_err(|error| explain(&top, &error))?;
        let lock = disk.lock(&top.join("dev.lock")).map_err(|error| explain(&top, &error))?;
        wait_for_the_last_children(&disk, &top)?;
        let there = disk.read_dir(&top)?.iter().filter_map(|entry| node_number(&entry.name)).max();
        let datanodes = options.datanodes.or(there).unwrap_or(DEFAULT_DATANODES);
        if let Some(there) = there.filter(|there| *there > datanodes) {
            let top = top.display();
            eprintln!("warning: {top} has the data of {there} datanodes, only {datanodes} are started");
        }
        Ok(Self { top, datanodes, _lock: lock, _ephemeral: ephemeral })
    }

    /// How many datanodes to start.
    pub(crate) const fn datanodes(&self) -> u16 {
        self.datanodes
    }
    /// The folder itself.
    pub(crate) fn top(&self) -> &Path {
        &self.top
    }
    /// Folder of a role.
    pub(crate) fn of(&self, role: &str) -> PathBuf {
        self.top.join(role)
    }
    /// Log file of a role.
    pub(crate) fn log_of(&self, role: &str) -> PathBuf {
        self.top.join("logs").join(format!("{role}.log"))
    }
    /// Room on its file system, for people.
    pub(crate) fn free(&self) -> String {
        let space = OsDisk.space(&self.top);
        space.map_or_else(|error| error.to_string(), |space| format!("{} GiB free", space.available_bytes >> 30))
    }
}

/// Roles of a `dev` that was killed end a moment after it: until then they hold the locks of their folders.
fn wait_for_the_last_children(disk: &dyn Disk, top: &Path) -> io::Result<()> {
    let mut looks = LEFTOVER_LOOKS;
    for entry in disk.read_dir(top)? {
        let lock = top.join(&entry.name).join("lock");
        let is_role = entry.name == "namenode" || node_number(&entry.name).is_some();
        while is_role && looks > 0 && disk.info(&lock)?.is_some() && disk.lock(&lock).is_err() {
            std::thread::park_timeout(LEFTOVER_LOOK);
            looks -= 1;
        }
    }
    Ok(())
}

fn explain(top: &Path, error: &io::Error) -> io::Error {
    let hint = match error.kind() {
        io::ErrorKind::WouldBlock => {
            let text = "is in use by another `blockyard dev`: stop that one, or choose another folder with --dir";
            return io::Error::new(error.kind(), format!("{} {text}", top.display()));
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "; make it writable, or choose another with --dir"
        }
        io::ErrorKind::StorageFull => "; make room, or choose another with --dir",
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
            "; something that is no folder has this name: choose another with --dir"
        }
        _ => "",
    };
    io::Error::new(error.kind(), format!("folder {}: {error}{hint}", top.display()))
}

fn node_number(name: &str) -> Option<u16> {
    name.strip_prefix("dn")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dev::ports::Ports;

    fn options(dir: &Path) -> DevOptions {
        DevOptions {
            dir: dir.to_owned(),
            ephemeral: false,
            datanodes: None,
            ports: Ports::Random,
            processes: false,
            exec: None,
            role_env: vec![],
        }
    }

    #[test]
    fn a_folder_is_locked_and_remembers_its_datanodes() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("data");
        let first = Folder::open(&options(&dir)).unwrap();
        assert_eq!(first.datanodes(), 3);
        let second = Folder::open(&options(&dir)).unwrap_err();
        assert!(second.to_string().contains("in use by another `blockyard dev`"), "{second}");
        drop(first);
        for name in ["dn1", "dn2"] {
            OsDisk.create_dir_all(&dir.join(name), CrashPoint::CreateServerDir).unwrap();
        }
        assert_eq!(Folder::open(&options(&dir)).unwrap().datanodes(), 2);
    }

    #[test]
    fn an_ephemeral_folder_vanishes() {
        let open = DevOptions { ephemeral: true, ..options(Path::new("unused")) };
        let folder = Folder::open(&open).unwrap();
        let top = folder.top().to_owned();
        assert!(top.is_dir());
        drop(folder);
        assert!(!top.exists());
    }
}
