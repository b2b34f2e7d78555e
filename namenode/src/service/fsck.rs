//! `fsck`: every file of a tree, so many names a call; each call is done in steps.

use std::collections::VecDeque;

use proto::error::FsResult;
use proto::namespace as n;
use proto::path::FsPath;

use super::View;
use crate::blocks::Copies;
use crate::namespace::FileLookedAt;
use crate::namespace::access::Who;
use crate::namespace::walk::{FsckWalk, Walk as _};

/// Names that one call looks at.
const NAMES: usize = 1000;

/// One call. For superusers, as in HDFS: it looks past all rights.
#[derive(Debug)]
pub(super) struct FsckRead {
    walk: FsckWalk,
    walked: bool,
    /// Files whose blocks are still to be judged, with what is known of the first one so far.
    files: VecDeque<FileLookedAt>,
    judged: Option<n::FsckFile>,
    answer: n::FsckResponse,
}

impl FsckRead {
    /// # Errors
    /// `InvalidPath`, `InvalidArgument` for a cursor that is none.
    pub(super) fn new(request: &n::FsckRequest) -> FsResult<Self> {
        let walk = FsckWalk::new(FsPath::parse(&request.path)?, &request.cursor, NAMES)?;
        let answer = n::FsckResponse::default();
        Ok(Self { walk, walked: false, files: VecDeque::new(), judged: None, answer })
    }

    /// Looks at names, and judges the blocks of what was found before it looks at more.
    pub(super) fn step(&mut self, view: &View<'_>, who: &Who<'_>, left: &mut usize) -> FsResult<bool> {
        if !self.judge(view, left) {
            return Ok(false);
        }
        if !self.walked {
            self.walked = self.walk.step(view.namespace, who, left)?;
            self.files.extend(self.walk.files().drain(..));
        }
        Ok(self.judge(view, left) && self.walked)
    }

    /// Judges blocks of the files that were looked at. True: all of them.
    fn judge(&mut self, view: &View<'_>, left: &mut usize) -> bool {
        while let Some(file) = self.files.front() {
            let judged = self.judged.get_or_insert_with(|| n::FsckFile {
                path: file.path.clone(),
                len_bytes: file.len_bytes,
                replication: file.replication,
                open_for_write: file.open,
                ..n::FsckFile::default()
            });
            let rest = file.blocks.get(judged.blocks as usize..).unwrap_or_default();
            let some = rest.get(..rest.len().min(*left)).unwrap_or_default();
            some.iter().for_each(|block| view.judge_block(*block, judged));
            *left -= some.len();
            if some.len() < rest.len() {
                return false;
            }
            self.files.pop_front();
            let Some(judged) = self.judged.take() else { continue };
            self.answer.files += 1;
            self.answer.blocks += judged.blocks;
            self.answer.len_bytes += judged.len_bytes;
            if judged.missing + judged.corrupt + judged.under_replicated > 0 || judged.open_for_write {
                self.answer.problems.push(judged);
            }
        }
        true
    }

    pub(super) fn answer(self) -> n::FsckResponse {
        let found = self.walk.answer();
        n::FsckResponse {
            cursor: found.cursor.into(),
            directories: found.directories,
            symlinks: found.symlinks,
            contradictions: found.contradictions,
            recounted: found.recounted,
            ..self.answer
        }
    }
}

impl View<'_> {
    fn judge_block(&self, block: proto::ids::BlockId, judged: &mut n::FsckFile) {
        judged.blocks += 1;
        // Nobody can say yet what there should be of it.
        if self.namespace.block(block).is_some_and(|now| !now.committed) {
            return;
        }
        let Copies { good, damaged } = self.blocks.copies_to_read(block, self.namespace);
        judged.missing += u64::from(good == 0 && !damaged);
        judged.corrupt += u64::from(good == 0 && damaged);
        judged.under_replicated += u64::from(good > 0 && good < judged.replication as usize);
        judged.below_minimum += u64::from(good < 2 && judged.replication > 1);
    }
}
