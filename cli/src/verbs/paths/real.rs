//! The one path of a directory that has no symbolic link in it: two paths of one directory have it in common.

use client::{ErrorCode, FileKind, FsError};

use crate::verbs::context::Context;
use crate::verbs::failure::Failure;

/// Links on the way to one path, at most.
const MAX_LINKS: usize = 40;

impl Context {
    /// Follows every link of a path, the last one, too. What does not exist yet stays as it is written.
    pub(crate) async fn real_path(&self, path: &str) -> Result<String, Failure> {
        let (mut real, mut links) = (String::new(), 0);
        let mut ahead: Vec<String> = path.rsplit('/').map(str::to_owned).collect();
        while let Some(name) = ahead.pop() {
            match name.as_str() {
                "" | "." => continue,
                ".." => {
                    real.truncate(real.rfind('/').unwrap_or(0));
                    continue;
                }
                _ => {}
            }
            let here = format!("{real}/{name}");
            match self.client.stat_link(&here).await {
                Ok(status) if status.kind() == FileKind::Symlink => {
                    links += 1;
                    if links > MAX_LINKS {
                        let error = FsError::new(ErrorCode::InvalidPath, "too many symbolic links");
                        return Err(Failure::from(error.with_path(path)));
                    }
                    if status.symlink_target.starts_with('/') {
                        real.clear();
                    }
                    ahead.extend(status.symlink_target.rsplit('/').map(str::to_owned));
                }
                Ok(_) => real = here,
                Err(error) if error.code == ErrorCode::NotFound => real = here,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(if real.is_empty() { "/".to_owned() } else { real })
    }
}
