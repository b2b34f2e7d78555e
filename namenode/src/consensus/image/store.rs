//! Which images there are, and how a new one takes its place.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::crash::CrashPoint;
use base::disk::{Disk, DiskLock, OpenMode};
use bytes::Bytes;
use parking_lot::Mutex;
use proto::ids::{LogIndex, Term};
use proto::log::ImageHeader;
use proto::raft::RaftMessage;

use super::format::{ChunkReader, ImageWriter, Totals, VERSION};
use super::incoming::{self, Incoming, Taken};
use super::reserve::Reserve;
use crate::consensus::{Identity, ImageError, ImageInfo, ImageMeta, SendImage};

const PREFIX: &str = "image-";
const UNFINISHED: &str = "image.new";
/// Bytes of an image in one message.
const PART_BYTES: usize = 1 << 20;

/// Writes, finds, verifies and sends images. Cheap to clone; calls block.
#[derive(Debug, Clone)]
pub struct ImageStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    identity: Identity,
    /// Images known to be whole, oldest first; at most two.
    kept: Mutex<Vec<Kept>>,
    /// Held while an image is written: one at a time.
    writing: Mutex<()>,
    incoming: Mutex<Option<Incoming>>,
    reserve: Mutex<Reserve>,
    /// The folder stays ours as long as anyone can write images.
    _lock: Arc<dyn DiskLock>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kept {
    meta: ImageMeta,
    totals: Totals,
}

/// Body of a verified image, as a stream. Each chunk is verified again before its bytes are handed out.
#[derive(Debug)]
pub struct ImageReader {
    info: ImageInfo,
    chunks: ChunkReader,
    chunk: Vec<u8>,
    used_bytes: usize,
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ImageError {
    move |source| ImageError::Io { operation, path: path.display().to_string(), source }
}

fn file_name(index: u64, term: u64) -> String {
    format!("{PREFIX}{index:020}-{term:020}")
}

/// Index and term of an image, from its file's name.
fn position_of(name: &str) -> Option<(u64, u64)> {
    let (index, term) = name.strip_prefix(PREFIX)?.split_once('-')?;
    let numeric = |text: &str| text.len() == 20 && text.bytes().all(|b| b.is_ascii_digit());
    (numeric(index) && numeric(term)).then(|| Some((index.parse().ok()?, term.parse().ok()?)))?
}

impl ImageStore {
    /// Opens the folder's images: removes what an interrupted write left. Verifies nothing yet.
    pub(crate) fn open_dir(
        disk: Arc<dyn Disk>,
        dir: &Path,
        identity: &Identity,
        reserve_bytes: u64,
        lock: Arc<dyn DiskLock>,
    ) -> Result<Self, ImageError> {
        for left in [dir.join(UNFINISHED), incoming::path(dir)] {
            if disk.info(&left).map_err(failed("look at", &left))?.is_some() {
                disk.remove_file(&left, CrashPoint::ImageRemove).map_err(failed("remove", &left))?;
            }
        }
        let inner = Inner {
            disk,
            dir: dir.to_path_buf(),
            identity: identity.clone(),
            kept: Mutex::new(Vec::new()),
            writing: Mutex::new(()),
            incoming: Mutex::new(None),
            reserve: Mutex::new(Reserve::new(dir, reserve_bytes)),
            _lock: lock,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Index and term of every image file, newest first.
    pub(crate) fn files(&self) -> Result<Vec<(u64, u64)>, ImageError> {
        let Inner { disk, dir, .. } = self.inner.as_ref();
        let entries = disk.read_dir(dir).map_err(failed("list", dir))?;
        let mut found: Vec<_> = entries.iter().filter_map(|entry| position_of(&entry.name)).collect();
        found.sort_unstable_by(|a, b| b.cmp(a));
        Ok(found)
    }

    /// Verifies an image file and counts it among those that are kept.
    pub(crate) fn adopt(&self, index: u64, term: u64) -> Result<ImageInfo, ImageError> {
        let path = self.inner.dir.join(file_name(index, term));
        let kept = self.verify(&path, index, term)?;
        let mut known = self.inner.kept.lock();
        known.push(kept);
        known.sort_unstable_by_key(|image| image.meta.index);
        self.inner.reserve.lock().want(kept.totals.file_bytes / 4 * 5);
        Ok(info(&known, kept))
    }

    /// Reads all of a file and checks that it is the image that its name says.
    fn verify(&self, path: &Path, index: u64, term: u64) -> Result<Kept, ImageError> {
        let (reader, header) = self.begin(path)?;
        let totals = reader.verify_to_end()?;
        let wrong =
            |what: &str| ImageError::Damaged { file: path.display().to_string(), offset: 0, what: what.to_owned() };
        if header.version != VERSION {
            let file = path.display().to_string();
            return Err(ImageError::Newer { file, found: header.version, known: VERSION });
        }
        let Identity { cluster, pool, .. } = &self.inner.identity;
        if header.cluster != cluster.as_str() || header.pool != pool.as_str() {
            return Err(wrong("the image belongs to another cluster"));
        }
        if (header.index, header.term) != (index, term) {
            return Err(wrong("the image is of another index than its name says"));
        }
        let index = LogIndex::from_raw(index);
        let meta = ImageMeta { index, term: Term::from_raw(term), state_hash: header.state_hash };
        Ok(Kept { meta, totals })
    }

    fn begin(&self, path: &Path) -> Result<(ChunkReader, ImageHeader), ImageError> {
        let file = self.inner.disk.open(path, OpenMode::Read).map_err(failed("open", path))?;
        ChunkReader::begin(file, path)
    }

    /// The newest image, if there is one.
    #[must_use]
    pub fn newest(&self) -> Option<ImageInfo> {
        let kept = self.inner.kept.lock();
        kept.last().map(|newest| info(&kept, *newest))
    }

    /// What is known of the image at an index.
    pub(crate) fn info(&self, index: LogIndex) -> Option<ImageInfo> {
        self.find(index).ok().map(|(_, info)| info)
    }

    /// Writes an image through `body`; durable and under its final name when this returns. Older images
    /// but one are removed then. Call [`super::super::Consensus::image_written`] with the result.
    ///
    /// # Errors
    /// [`ImageError::Io`], from the disk or from `body`; nothing was replaced or removed then.
    /// [`ImageError::Superseded`] if there is an image of this index or a later one.
    pub fn write(
        &self,
        meta: ImageMeta,
        body: &mut dyn FnMut(&mut dyn io::Write) -> io::Result<()>,
    ) -> Result<ImageInfo, ImageError> {
        let _one_at_a_time = self.inner.writing.lock();
        if let Some(newest) = self.newest().filter(|newest| newest.meta.index >= meta.index) {
            return Err(ImageError::Superseded { index: meta.index.raw(), newest: newest.meta.index.raw() });
        }
        let disk = self.inner.disk.as_ref();
        let path = self.inner.dir.join(UNFINISHED);
        if base::mutated!(Sc07OldImageGoesFirst) {
            let drop_one = |(index, term)| self.drop_file(&self.inner.dir.join(file_name(index, term)));
            self.files()?.into_iter().for_each(drop_one);
        }
        self.inner.reserve.lock().lend(disk).map_err(failed("use the room set aside for", &path))?;
        let written =
            self.write_unfinished(&path, meta, body).and_then(|totals| self.install(&path, Kept { meta, totals }));
        if written.is_err() {
            self.drop_file(&path);
        }
        self.inner.reserve.lock().give_back(disk);
        written
    }

    fn write_unfinished(
        &self,
        path: &Path,
        meta: ImageMeta,
        body: &mut dyn FnMut(&mut dyn io::Write) -> io::Result<()>,
    ) -> Result<Totals, ImageError> {
        let Inner { disk, identity, .. } = self.inner.as_ref();
        let header = ImageHeader {
            version: VERSION,
            cluster: identity.cluster.as_str().to_owned(),
            pool: identity.pool.as_str().to_owned(),
            index: meta.index.raw(),
            term: meta.term.raw(),
            state_hash: meta.state_hash,
            voters: identity.initial_voters.iter().map(|voter| voter.raw()).collect(),
        };
        self.drop_file(path);
        let file = disk.create_new(path, CrashPoint::ImageCreate).map_err(failed("create", path))?;
        let mut writer = ImageWriter::begin(Arc::clone(&file), &header).map_err(failed("write", path))?;
        body(&mut writer).map_err(failed("write", path))?;
        let totals = writer.finish().map_err(failed("write", path))?;
        file.sync(CrashPoint::ImageSync).map_err(failed("sync", path))?;
        Ok(totals)
    }

    /// Gives a durable, whole file its name, and only then removes what it makes superfluous (scar SC-07).
    fn install(&self, unfinished: &Path, image: Kept) -> Result<ImageInfo, ImageError> {
        let Inner { disk, dir, .. } = self.inner.as_ref();
        let path = dir.join(file_name(image.meta.index.raw(), image.meta.term.raw()));
        disk.rename(unfinished, &path, CrashPoint::ImageRename).map_err(failed("rename", unfinished))?;
        disk.sync_dir(dir, CrashPoint::NamenodeDirSync).map_err(failed("sync", dir))?;
        let info = {
            let mut kept = self.inner.kept.lock();
            kept.retain(|other| other.meta.index != image.meta.index);
            kept.push(image);
            kept.sort_unstable_by_key(|other| other.meta.index);
            let surplus = kept.len().saturating_sub(2);
            kept.drain(..surplus);
            info(&kept, image)
        };
        self.inner.reserve.lock().want(image.totals.file_bytes / 4 * 5);
        self.prune();
        Ok(info)
    }

    /// Removes image files older than the two that are kept. A failure leaves them for the next time.
    fn prune(&self) {
        let oldest = {
            let kept = self.inner.kept.lock();
            let [oldest, _] = kept.as_slice() else { return };
            oldest.meta.index.raw()
        };
        match self.files() {
            Ok(files) => files.into_iter().filter(|(index, _)| *index < oldest).for_each(|(index, term)| {
                self.drop_file(&self.inner.dir.join(file_name(index, term)));
            }),
            Err(error) => tracing::warn!(%error, "old images were not removed"),
        }
    }

    fn drop_file(&self, path: &Path) {
        let disk = self.inner.disk.as_ref();
        let gone = match disk.info(path) {
            Ok(None) => Ok(()),
            Ok(Some(_)) => disk.remove_file(path, CrashPoint::ImageRemove),
            Err(error) => Err(error),
        };
        if let Err(error) = gone {
            tracing::warn!(%error, path = %path.display(), "not removed");
        }
    }

    /// Opens the image at an index and verifies all of it.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn open(&self, index: LogIndex) -> Result<ImageReader, ImageError> {
        let (image, info) = self.find(index)?;
        let path = self.path_of(&image);
        self.verify(&path, index.raw(), image.meta.term.raw())?;
        let (chunks, _) = self.begin(&path)?;
        Ok(ImageReader { info, chunks, chunk: Vec::new(), used_bytes: 0 })
    }

    fn find(&self, index: LogIndex) -> Result<(Kept, ImageInfo), ImageError> {
        let kept = self.inner.kept.lock();
        let image = kept.iter().find(|image| image.meta.index == index).copied();
        let image = image.ok_or(ImageError::Gone { index: index.raw() })?;
        Ok((image, info(&kept, image)))
    }

    fn path_of(&self, image: &Kept) -> PathBuf {
        self.inner.dir.join(file_name(image.meta.index.raw(), image.meta.term.raw()))
    }

    /// The messages that carry an image to a follower, in order, at most about 1 MiB each.
    ///
    /// # Errors
    /// [`ImageError`]: tell [`super::super::Consensus::image_sent`] that it was not delivered.
    pub fn parts(&self, send: &SendImage, mut give: impl FnMut(RaftMessage)) -> Result<(), ImageError> {
        let (image, _) = self.find(send.index)?;
        let path = self.path_of(&image);
        let file = self.inner.disk.open(&path, OpenMode::Read).map_err(failed("open", &path))?;
        let total_bytes = image.totals.file_bytes;
        let mut offset_bytes = 0;
        while offset_bytes < total_bytes {
            let len = usize::try_from(total_bytes - offset_bytes).unwrap_or(PART_BYTES).min(PART_BYTES);
            let mut data = vec![0; len];
            file.read_exact_at(&mut data, offset_bytes).map_err(failed("read", &path))?;
            let mut message = send.message.clone();
            let mut snapshot = message.snapshot.take().unwrap_or_default();
            snapshot.data = Bytes::from(data);
            (snapshot.offset_bytes, snapshot.total_bytes) = (offset_bytes, total_bytes);
            snapshot.digest = image.totals.digest;
            message.snapshot = Some(snapshot);
            give(message);
            offset_bytes += len as u64;
        }
        Ok(())
    }

    /// Takes a part from the leader. When the image is whole, verified and durable: the message, without data.
    pub(crate) fn receive(&self, part: RaftMessage) -> Result<Option<RaftMessage>, ImageError> {
        let mut current = self.inner.incoming.lock();
        let taken = self.take_part(&mut current, &part);
        let finished = match &taken {
            Ok(Taken::Going | Taken::Ignored) => return Ok(None),
            Ok(Taken::Whole(_)) | Err(_) => current.take(),
        };
        drop(finished);
        let path = incoming::path(&self.inner.dir);
        let arrived = taken.and_then(|taken| {
            let Taken::Whole(transfer) = taken else { return Ok(None) };
            let image = self.verify(&path, transfer.index, transfer.term)?;
            let Totals { digest, file_bytes, .. } = image.totals;
            if (digest, file_bytes) != (transfer.digest, transfer.total_bytes) {
                let (file, what) = (path.display().to_string(), "the image is not the one announced".to_owned());
                return Err(ImageError::Damaged { file, offset: 0, what });
            }
            self.install(&path, image)?;
            Ok(Some(without_data(part)))
        });
        if arrived.is_err() {
            self.drop_file(&path);
        }
        self.inner.reserve.lock().give_back(self.inner.disk.as_ref());
        arrived
    }

    fn take_part(&self, current: &mut Option<Incoming>, part: &RaftMessage) -> Result<Taken, ImageError> {
        let Inner { disk, dir, .. } = self.inner.as_ref();
        let path = incoming::path(dir);
        if incoming::starts(part, current.as_ref()) {
            if current.is_none() {
                self.inner.reserve.lock().lend(disk.as_ref()).map_err(failed("use the room set aside for", &path))?;
            }
            *current = Some(incoming::begin(disk.as_ref(), dir, part).map_err(failed("create", &path))?);
        }
        current.as_mut().map_or(Ok(Taken::Ignored), |going| going.take(part).map_err(failed("write", &path)))
    }

    /// Sets the next image's room aside if it is not. False: the disk has none.
    pub(crate) fn hold_reserve(&self) -> bool {
        self.inner.reserve.lock().hold(self.inner.disk.as_ref())
    }
}

fn without_data(mut message: RaftMessage) -> RaftMessage {
    if let Some(snapshot) = &mut message.snapshot {
        snapshot.data = Bytes::new();
    }
    message
}

fn info(kept: &[Kept], image: Kept) -> ImageInfo {
    let older = kept.iter().rev().find(|other| other.meta.index < image.meta.index);
    let log_needed_after = older.map_or(LogIndex::from_raw(0), |other| other.meta.index);
    ImageInfo { meta: image.meta, body_bytes: image.totals.body_bytes, log_needed_after }
}

impl ImageReader {
    /// What the image is of.
    #[must_use]
    pub const fn info(&self) -> &ImageInfo {
        &self.info
    }
}

impl io::Read for ImageReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.used_bytes == self.chunk.len() {
            let next = self.chunks.next();
            self.chunk = next.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            self.used_bytes = 0;
        }
        let left = self.chunk.get(self.used_bytes..).unwrap_or_default();
        let len = left.len().min(buffer.len());
        buffer[..len].copy_from_slice(&left[..len]);
        self.used_bytes += len;
        Ok(len)
    }
}
