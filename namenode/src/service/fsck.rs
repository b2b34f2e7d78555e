//! `fsck`: every file of a tree, in bounded steps; the last step over the root recounts the namespace from scratch.

use proto::error::FsResult;
use proto::log::CallerRecord;
use proto::namespace as n;
use proto::path::FsPath;

use super::View;
use crate::namespace::{FileLookedAt, FsckStep};

/// Files and directories that one step looks at: less than a millisecond of the namespace's lock.
const STEP: usize = 1000;

impl View<'_> {
    /// One step. For superusers, as in HDFS: it looks past all rights.
    ///
    /// # Errors
    /// `PermissionDenied`, `NotFound`, `InvalidArgument` for a cursor that is none.
    pub(super) fn fsck(&self, who: &CallerRecord, request: &n::FsckRequest) -> FsResult<n::FsckResponse> {
        let path = FsPath::parse(&request.path)?;
        let step: FsckStep = self.namespace.fsck_step(who, &path, &request.cursor, STEP)?;
        let mut answer = n::FsckResponse {
            cursor: step.cursor.into(),
            directories: step.directories,
            symlinks: step.symlinks,
            files: step.files.len() as u64,
            contradictions: step.contradictions,
            recounted: step.recounted,
            ..n::FsckResponse::default()
        };
        for file in &step.files {
            answer.blocks += file.blocks.len() as u64;
            answer.len_bytes += file.len_bytes;
            let judged = self.judge_file(file);
            if judged.missing + judged.corrupt + judged.under_replicated > 0 || judged.open_for_write {
                answer.problems.push(judged);
            }
        }
        Ok(answer)
    }

    fn judge_file(&self, file: &FileLookedAt) -> n::FsckFile {
        let mut judged = n::FsckFile {
            path: file.path.clone(),
            len_bytes: file.len_bytes,
            replication: file.replication,
            blocks: file.blocks.len() as u64,
            open_for_write: file.open,
            ..n::FsckFile::default()
        };
        for block in &file.blocks {
            let (replicas, registry) = (self.blocks.replicas(), self.blocks.registry());
            // Copies on dead nodes and failed disks are remembered, but nobody can read them.
            let mut good = replicas.good(*block);
            good.retain(|storage| registry.counts(*storage));
            let good = registry.nodes_among(&good);
            let damaged = !replicas.odd_of(*block).is_empty();
            judged.missing += u64::from(good == 0 && !damaged);
            judged.corrupt += u64::from(good == 0 && damaged);
            judged.under_replicated += u64::from(good > 0 && good < file.replication as usize);
            judged.below_minimum += u64::from(good < 2 && file.replication > 1);
        }
        judged
    }
}
