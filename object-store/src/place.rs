//! Where objects are in the cluster, and what is told of them.
//!
//! ```text
//!   root /warehouse + location t/year=2026/part-0.parquet ─▶ /warehouse/t/year=2026/part-0.parquet
//! ```
//!
//! Names are taken as they are: a location that was made with percent signs (`a%2Fb`) has them in the cluster too.

use std::sync::Arc;

use chrono::DateTime;
use client::{FileKind, FileStatus, FsResult};
use object_store::path::Path;
use object_store::{Error, ObjectMeta, Result};
use proto::path::FsPath;

/// How the directories begin in which the parts of [`MultipartStore`](object_store::multipart::MultipartStore) wait.
pub(crate) const UPLOAD_PREFIX: &str = ".blockyard-upload-";

/// The directory that a store shows; the root of the cluster unless said otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Root {
    /// Without the slash at its end: empty for the root of the cluster.
    dir: Arc<str>,
}

impl Root {
    /// A directory of the cluster; it need not exist.
    pub(crate) fn parse(dir: &str) -> FsResult<Self> {
        let dir = FsPath::parse(dir)?;
        Ok(Self { dir: if dir.is_root() { "".into() } else { dir.as_str().into() } })
    }

    /// For people.
    pub(crate) fn as_str(&self) -> &str {
        if self.dir.is_empty() { "/" } else { &self.dir }
    }

    /// The path of an object or of a prefix.
    ///
    /// # Errors
    /// [`Error::NotSupported`] for names that are kept for uploads.
    pub(crate) fn path_of(&self, location: &Path) -> Result<String> {
        if location.parts().any(|part| part.as_ref().starts_with(UPLOAD_PREFIX)) {
            let source = format!("names that begin with {UPLOAD_PREFIX} are kept for uploads: {location}").into();
            return Err(Error::NotSupported { source });
        }
        if location.as_ref().is_empty() {
            return Ok(self.as_str().to_owned());
        }
        Ok(format!("{}/{location}", self.dir))
    }

    /// The path of the directory in which an object is.
    ///
    /// # Errors
    /// As [`Root::path_of`].
    pub(crate) fn directory_of(&self, location: &Path) -> Result<String> {
        self.path_of(location)?;
        let above = location.as_ref().rsplit_once('/').map_or("", |(above, _)| above);
        Ok(if above.is_empty() { self.as_str().to_owned() } else { format!("{}/{above}", self.dir) })
    }
}

/// What tells two versions of an object apart. A file that is replaced has a new inode; one that is changed in its
/// place has another time or length.
pub(crate) fn e_tag(status: &FileStatus) -> String {
    format!("\"{:x}.{:x}.{:x}\"", status.inode, status.mtime_ns, status.len_bytes)
}

/// What is told of an object.
pub(crate) fn meta(location: Path, status: &FileStatus) -> ObjectMeta {
    ObjectMeta {
        location,
        last_modified: DateTime::from_timestamp_nanos(status.mtime_ns),
        size: status.len_bytes,
        e_tag: Some(e_tag(status)),
        version: None,
    }
}

/// Is this an object?
pub(crate) fn is_file(status: &FileStatus) -> bool {
    status.kind() == FileKind::File
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_paths_below_the_root() {
        let (top, below) = (Root::parse("/").unwrap(), Root::parse("/ware/house").unwrap());
        assert_eq!(top.path_of(&Path::from_iter(["a", "b/c 1"])).unwrap(), "/a/b%2Fc 1");
        let object = Path::parse("a/ü b").unwrap();
        assert_eq!(top.path_of(&object).unwrap(), "/a/ü b");
        assert_eq!(below.path_of(&object).unwrap(), "/ware/house/a/ü b");
        assert_eq!(below.directory_of(&object).unwrap(), "/ware/house/a");
        assert_eq!(below.directory_of(&Path::from("a")).unwrap(), "/ware/house");
        assert_eq!(top.directory_of(&Path::from("a")).unwrap(), "/");
        assert_eq!(top.path_of(&Path::default()).unwrap(), "/");
        assert_eq!(below.path_of(&Path::default()).unwrap(), "/ware/house");
        assert!(Root::parse("relative").is_err() && Root::parse("/a/../b").is_err());
    }

    #[test]
    fn names_of_uploads_are_nobodys() {
        let root = Root::parse("/").unwrap();
        for location in [".blockyard-upload-1", "a/.blockyard-upload-0/1"] {
            let location = Path::from(location);
            assert!(matches!(root.path_of(&location), Err(Error::NotSupported { .. })));
            assert!(matches!(root.directory_of(&location), Err(Error::NotSupported { .. })));
        }
        assert!(root.path_of(&Path::from("a.blockyard-upload-1")).is_ok());
    }

    #[test]
    fn a_tag_differs_with_the_file_its_time_and_its_length() {
        let status = FileStatus { inode: 16, mtime_ns: 255, len_bytes: 7, ..FileStatus::default() };
        assert_eq!(e_tag(&status), "\"10.ff.7\"");
        let others = [
            FileStatus { inode: 17, ..status.clone() },
            FileStatus { mtime_ns: 256, ..status.clone() },
            FileStatus { len_bytes: 8, ..status.clone() },
        ];
        assert!(others.iter().all(|other| e_tag(other) != e_tag(&status)));
        // Conditions are lists: a tag must have no comma.
        assert!(!e_tag(&status).contains(','));
    }
}
