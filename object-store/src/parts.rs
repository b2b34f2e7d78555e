//! Uploads in parts without anything that the caller must keep but names: parts may come from many processes, in any
//! order, and again.
//!
//! ```text
//!   <directory of the object>/.blockyard-upload-<id>/00000000, 00000001, …   a file a part
//!   complete ─▶ concat: their blocks become those of the first, nothing is copied ─▶ rename to the object, in one step
//!             └ refused (a snapshot sees a part; too many blocks): what is there is copied into one file instead
//! ```

use std::collections::BTreeMap;

use async_trait::async_trait;
use base::random::{OsRandom, Randomness};
use client::parts::{Piece, steps};
use client::{CreateOptions, ErrorCode, FileStatus, FsResult, Replace};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{MultipartId, PutPayload, PutResult, Result};

use crate::error::{Doing, refused, wrong};
use crate::place::UPLOAD_PREFIX;
use crate::put::put_result;
use crate::store::BlockyardStore;
use crate::upload::write;

/// Name of the parts that are joined already, in the directory of their upload.
const JOINED: &str = "joined";
/// Name of a file with the bytes of all parts, where they cannot be joined.
const COPIED: &str = "copied";
/// Mode of the directory of an upload.
const DIRECTORY_MODE: u32 = 0o755;

/// Whoever knows the id of an upload adds parts to it. What was begun and neither completed nor aborted stays in the
/// cluster, invisible to stores, in directories named `.blockyard-upload-*`.
#[async_trait]
impl MultipartStore for BlockyardStore {
    async fn create_multipart(&self, path: &Path) -> Result<MultipartId> {
        let id = OsRandom.uuid();
        let made = self.client().mkdir(&self.upload_directory(path, &id)?, DIRECTORY_MODE, true).await;
        made.map_err(|error| refused(error, path, Doing::Writing))?;
        Ok(id)
    }

    /// A part that is put again replaces the one before.
    async fn put_part(&self, path: &Path, id: &MultipartId, part_idx: usize, data: PutPayload) -> Result<PartId> {
        let content_id = format!("{part_idx:08}");
        let file = format!("{}/{content_id}", self.upload_directory(path, id)?);
        self.write_part(&file, data).await.map_err(|error| refused(error, path, Doing::Writing))?;
        Ok(PartId { content_id })
    }

    /// After a failure the upload may be half joined: abort it and begin again. The object is as it was before.
    async fn complete_multipart(&self, path: &Path, id: &MultipartId, parts: Vec<PartId>) -> Result<PutResult> {
        let directory = self.upload_directory(path, id)?;
        let refused = |error| refused(error, path, Doing::Writing);
        let stored = self.client().list(&directory).map_err(refused)?.collect().await.map_err(refused)?;
        let full = parts_with_bytes(&parts, stored)?;
        let Some((first, others)) = full.split_first() else {
            let result = self.put_object(path, PutPayload::default(), object_store::PutOptions::default()).await?;
            self.client().delete(&directory, true).await.map_err(refused)?;
            return Ok(result);
        };
        // Under a name that no part has: one that is still being put by a second sender must not replace what is joined.
        let mut target = format!("{directory}/{JOINED}");
        let begun = format!("{directory}/{}", first.path);
        self.client().rename(&begun, &target, Replace::Refuse).await.map_err(refused)?;
        let piece = |part: &FileStatus| Piece::of(format!("{directory}/{}", part.path), part);
        let others: Vec<Piece> = others.iter().map(piece).collect();
        let mut status = first.clone();
        for step in steps(&others) {
            // All of a step is joined, or nothing of it.
            match self.client().join(&target, others.get(step.clone()).unwrap_or_default()).await {
                Ok(joined) => status = joined.unwrap_or(status),
                Err(error) if error.code == ErrorCode::InvalidArgument => {
                    tracing::debug!("the parts of {path} are copied: {error}");
                    let whole = format!("{directory}/{COPIED}");
                    let rest = others.get(step.start..).unwrap_or_default().iter().map(|piece| &piece.path);
                    status = self.copy_parts(&whole, std::iter::once(&target).chain(rest)).await.map_err(refused)?;
                    target = whole;
                    break;
                }
                Err(error) => return Err(refused(error)),
            }
        }
        self.client().rename(&target, &self.root().path_of(path)?, Replace::Allow).await.map_err(refused)?;
        if let Err(error) = self.client().delete(&directory, true).await {
            tracing::warn!("the object {path} is there, the directory of its upload too: {directory}: {error}");
        }
        Ok(put_result(&status))
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> Result<()> {
        let removed = self.client().delete(&self.upload_directory(path, id)?, true).await;
        removed.map(drop).map_err(|error| refused(error, path, Doing::Writing))
    }
}

impl BlockyardStore {
    fn upload_directory(&self, location: &Path, id: &str) -> Result<String> {
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-') {
            return Err(wrong(format!("{id:.64?} is no id of an upload")));
        }
        let above = self.root().directory_of(location)?;
        Ok(format!("{}/{UPLOAD_PREFIX}{id}", if above == "/" { "" } else { &above }))
    }

    /// A new file with the bytes of these, in their order.
    async fn copy_parts<'a>(&self, whole: &str, parts: impl Iterator<Item = &'a String>) -> FsResult<FileStatus> {
        let options = CreateOptions { overwrite: true, ..self.new_files() };
        let mut writer = self.client().create(whole, options).await?;
        for part in parts {
            let mut reader = self.client().open(part).await?;
            while let Some(bytes) = reader.next().await? {
                writer.write(bytes).await?;
            }
        }
        writer.close().await
    }

    async fn write_part(&self, file: &str, data: PutPayload) -> FsResult<()> {
        let empty = data.content_length() == 0;
        let options = CreateOptions { overwrite: true, empty, ..self.new_files() };
        let mut writer = self.client().create(file, options).await?;
        write(&mut writer, data).await?;
        writer.close().await.map(drop)
    }
}

/// The files of these parts, in their order, without empty ones: these cannot be joined, and need not be.
fn parts_with_bytes(parts: &[PartId], stored: Vec<FileStatus>) -> Result<Vec<FileStatus>> {
    let stored: BTreeMap<String, FileStatus> = stored.into_iter().map(|status| (status.path.clone(), status)).collect();
    let file = |part: &PartId| {
        let text = || wrong(format!("the upload has no part {:.64?}", part.content_id));
        stored.get(&part.content_id).ok_or_else(text).cloned()
    };
    let files = parts.iter().map(file).collect::<Result<Vec<_>>>()?;
    Ok(files.into_iter().filter(|file| file.len_bytes > 0).collect())
}
