//! Changes of local names beside whole files: links, and removing. Calls block.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::rename;
use crate::disk::dir_of;
use crate::random::{OsRandom, Randomness};

/// Is this the name of a file that is being received? Such files are nobody's data.
#[must_use]
pub fn is_temporary(name: &OsStr) -> bool {
    let middle = name.as_bytes().strip_prefix(b".blockyard-");
    let hash = middle.and_then(|rest| rest.strip_suffix(b".part").or_else(|| rest.strip_suffix(b".state")));
    hash.is_some_and(|hash| hash.len() == 16 && hash.iter().all(u8::is_ascii_hexdigit))
}

/// A new name of a file that is being received, for [`is_temporary`].
#[must_use]
pub fn temporary_name() -> String {
    format!(".blockyard-{:016x}.part", OsRandom.next_u64())
}

/// Does a directory take names that differ only in case for one? Found out with a temporary file.
///
/// # Errors
/// The system's.
pub fn folds_case(dir: &Path) -> io::Result<bool> {
    let name = temporary_name();
    let made = dir.join(&name);
    drop(fs::OpenOptions::new().write(true).create_new(true).open(&made)?);
    let other = super::link_info(&dir.join(name.to_ascii_uppercase()));
    fs::remove_file(&made)?;
    Ok(other?.is_some())
}

/// Where a symbolic link leads, as it is written.
///
/// # Errors
/// The system's.
pub fn read_link(path: &Path) -> io::Result<PathBuf> {
    fs::read_link(path)
}

/// Makes a symbolic link; with `replace` in the place of what is there, unless that is a directory.
///
/// # Errors
/// `AlreadyExists` without `replace`; the system's.
pub fn create_link(target: &OsStr, path: &Path, replace: bool) -> io::Result<()> {
    if !replace {
        return std::os::unix::fs::symlink(target, path);
    }
    let temporary = dir_of(path).join(temporary_name());
    std::os::unix::fs::symlink(target, &temporary)?;
    let renamed = rename(&temporary, path, true);
    if renamed.is_err() {
        fs::remove_file(&temporary)?;
    }
    renamed
}

/// Removes what has this name: a directory with all that is in it, a link itself. `false`: nothing was there.
///
/// # Errors
/// The system's.
pub fn remove(path: &Path) -> io::Result<bool> {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{LocalWriter, create_dir, info, link_info, read_dir};
    use super::*;
    use crate::local::LocalKind;

    #[test]
    fn whether_names_are_told_apart_by_case_is_found_out_and_nothing_stays() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("probe"), b"").unwrap();
        let blind = dir.path().join("PROBE").exists();
        assert_eq!(folds_case(dir.path()).unwrap(), blind);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(folds_case(&dir.path().join("none")).is_err());
    }

    #[test]
    fn temporary_names_are_known() {
        let is = |name: &str| is_temporary(OsStr::new(name));
        assert!(is(".blockyard-0123456789abcdef.part") && is(".blockyard-0123456789abcdef.state"));
        assert!(!is(".blockyard-0123456789abcdef") && !is(".blockyard-x.part") && !is("blockyard-data"));
        assert!(!is(".blockyard-0123456789abcdeg.part"));
        assert!(is(&temporary_name()));
    }

    #[test]
    fn links_are_made_replaced_and_removed_and_nothing_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (kept, link) = (dir.path().join("kept"), dir.path().join("link"));
        create_dir(&kept, 0o755).unwrap();
        LocalWriter::create(&kept.join("x"), 0o644).unwrap().finish(&kept.join("x"), false).unwrap();
        create_link(OsStr::new("kept"), &link, false).unwrap();
        assert_eq!(create_link(OsStr::new("y"), &link, false).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(link_info(&link).unwrap().unwrap().kind, LocalKind::Symlink);
        create_link(OsStr::new("./kept"), &link, true).unwrap();
        assert_eq!(read_link(&link).unwrap(), Path::new("./kept"));
        assert!(remove(&link).unwrap() && !remove(&link).unwrap());
        assert_eq!(read_dir(&kept).unwrap().len(), 1, "what a link leads to stays");
        assert!(create_link(OsStr::new("y"), &kept, true).is_err(), "a directory is not replaced");
        assert!(remove(&kept).unwrap());
        assert_eq!((info(&kept).unwrap(), read_dir(dir.path()).unwrap().len()), (None, 0));
    }
}
