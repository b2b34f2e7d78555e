//! A download that may have been cut off: what came is kept beside the target, with a note of what it is.
//!
//! The note (`docs/formats/part-file.md`) says of which source the bytes are, how many, and their SHA-256. What an
//! earlier run left is only gone on with if the source is the same and the bytes read back are those of the note:
//! whatever a crash made of them, a file is never finished with bytes that did not come from the cluster.

use std::path::Path;

use base::local::{LocalPart, LocalTimes};

use super::content::{Content, Hasher, of_bytes_at};

/// Bytes after which a note is written.
const NOTE_EVERY_BYTES: u64 = 16 << 20;
const MAGIC: &[u8; 8] = b"BYDPART\n";
const VERSION: u32 = 1;
/// Length of a note: magic, version, zeros, four numbers, SHA-256, CRC-32C.
const NOTE_BYTES: usize = 8 + 4 + 4 + 4 * 8 + 32 + 4;

/// Which file, in which state: another one, or a changed one, has other values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) inode: u64,
    pub(super) mtime_ns: i64,
    pub(super) len_bytes: u64,
}

/// A download that is under way.
#[derive(Debug)]
pub(super) struct Part {
    file: LocalPart,
    source: Source,
    hasher: Hasher,
    noted_bytes: u64,
}

impl Part {
    /// Opens what an earlier run left, as far as it can be believed, or begins. Says how many bytes are there.
    pub(super) fn open(target: &Path, mode: u32, source: Source) -> std::io::Result<(Self, u64)> {
        let mut file = LocalPart::open(target, mode)?;
        let noted = file.noted()?.and_then(|bytes| decode(&bytes)).filter(|(of, _)| *of == source);
        let hasher = match noted {
            Some((_, content)) => {
                let there = of_bytes_at(content.len_bytes, |buffer, at| file.read_at(buffer, at))?;
                Some(there).filter(|there| there.content() == content)
            }
            None => None,
        };
        match hasher {
            Some(hasher) => {
                let have = hasher.len_bytes();
                file.cut(have)?;
                Ok((Self { file, source, hasher, noted_bytes: have }, have))
            }
            None => {
                file.start_over()?;
                Ok((Self { file, source, hasher: Hasher::default(), noted_bytes: 0 }, 0))
            }
        }
    }

    /// Appends, and notes it now and then.
    pub(super) fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write(bytes)?;
        self.hasher.update(bytes);
        if self.hasher.len_bytes() - self.noted_bytes < NOTE_EVERY_BYTES {
            return Ok(());
        }
        self.noted_bytes = self.hasher.len_bytes();
        self.file.note(&encode(&self.source, &self.content()))
    }

    /// What came so far.
    pub(super) fn content(&self) -> Content {
        self.hasher.content()
    }
    /// What is in the file, read back.
    pub(super) fn read_back(&self) -> std::io::Result<Content> {
        Ok(of_bytes_at(u64::MAX, |buffer, at| self.file.read_at(buffer, at))?.content())
    }
    /// Forgets everything: it is not what it should be.
    pub(super) fn start_over(&mut self) -> std::io::Result<()> {
        self.file.start_over()
    }
    /// Gives it its mode, its times and its name.
    pub(super) fn finish(
        self,
        target: &Path,
        mode: u32,
        times: Option<LocalTimes>,
        force: bool,
    ) -> std::io::Result<()> {
        self.file.give(Some(mode), times)?;
        self.file.finish(target, force)
    }
}

fn encode(source: &Source, content: &Content) -> Vec<u8> {
    let mut out = Vec::with_capacity(NOTE_BYTES);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&source.inode.to_le_bytes());
    out.extend_from_slice(&source.mtime_ns.to_le_bytes());
    out.extend_from_slice(&source.len_bytes.to_le_bytes());
    out.extend_from_slice(&content.len_bytes.to_le_bytes());
    out.extend_from_slice(&content.sha256);
    let crc = crc32c(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

/// `None`: a note that is not whole, or of another version. Then nothing is known of the bytes.
fn decode(note: &[u8]) -> Option<(Source, Content)> {
    let (body, crc) = note.split_at_checked(NOTE_BYTES - 4)?;
    if crc32c(body).to_le_bytes() != crc {
        return None;
    }
    let (magic, rest) = body.split_at_checked(8)?;
    let (version, rest) = rest.split_at_checked(4)?;
    let (zeros, rest) = rest.split_at_checked(4)?;
    if magic != MAGIC || version != VERSION.to_le_bytes() || zeros != [0; 4] {
        return None;
    }
    let number = |at: usize| rest.get(at * 8..at * 8 + 8)?.try_into().ok().map(u64::from_le_bytes);
    let mtime_ns = i64::from_le_bytes(rest.get(8..16)?.try_into().ok()?);
    let source = Source { inode: number(0)?, mtime_ns, len_bytes: number(2)? };
    let content = Content { len_bytes: number(3)?, sha256: rest.get(32..64)?.try_into().ok()? };
    (content.len_bytes <= source.len_bytes).then_some((source, content))
}

fn crc32c(bytes: &[u8]) -> u32 {
    // The upper half of the sum is zero for a CRC of 32 bits.
    (crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) & 0xffff_ffff) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SOURCE: Source = Source { inode: 7, mtime_ns: -9, len_bytes: 64 << 20 };

    #[test]
    fn the_bytes_of_a_note_are_kept() {
        let note = encode(&Source { inode: 0x0102, mtime_ns: -1, len_bytes: 0x03 }, &Hasher::default().content());
        assert_eq!(note.len(), NOTE_BYTES);
        assert_eq!(&note[..16], b"BYDPART\n\x01\0\0\0\0\0\0\0");
        assert_eq!(
            &note[16..48],
            [&[2, 1, 0, 0, 0, 0, 0, 0][..], &[255; 8], &[3, 0, 0, 0, 0, 0, 0, 0], &[0; 8]].concat()
        );
        assert_eq!(note[48..52], [0xe3, 0xb0, 0xc4, 0x42], "SHA-256 of nothing");
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn only_whole_notes_of_this_version_are_believed() {
        let content = Content { len_bytes: 5, sha256: [9; 32] };
        let note = encode(&SOURCE, &content);
        assert_eq!(decode(&note), Some((SOURCE, content)));
        for at in 0..note.len() {
            let mut other = note.clone();
            other[at] ^= 1;
            assert_eq!(decode(&other), None, "byte {at}");
        }
        assert!(decode(&note[1..]).is_none() && decode(&[]).is_none());
        let mut newer = note[..NOTE_BYTES - 4].to_vec();
        newer[8] = 2;
        newer.extend(crc32c(&newer).to_le_bytes());
        assert_eq!(decode(&newer), None, "another version");
        assert_eq!(decode(&encode(&Source { len_bytes: 4, ..SOURCE }, &content)), None, "more than there can be");
    }

    #[test]
    fn a_download_goes_on_only_with_what_came() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("x");
        let piece = vec![7; 1 << 20];
        let begin = || {
            let (mut part, have) = Part::open(&target, 0o644, SOURCE).unwrap();
            assert_eq!(have, 0);
            // A note after sixteen, and one piece that nothing is known of.
            (0..17).for_each(|_| part.write(&piece).unwrap());
        };
        begin();
        let (part, have) = Part::open(&target, 0o644, SOURCE).unwrap();
        assert_eq!((have, part.read_back().unwrap() == part.content()), (16 << 20, true));
        drop(part);
        // A byte was changed by whatever: everything comes anew.
        let spoiled = base::local::read_dir(dir.path()).unwrap();
        let (name, _) = spoiled.iter().find(|(name, _)| name.to_str().unwrap().ends_with(".part")).unwrap();
        let mut writer = base::local::LocalWriter::create(&target, 0o644).unwrap();
        (0..15).for_each(|_| writer.write(&piece).unwrap());
        writer.write(&[8]).unwrap();
        writer.write(&piece).unwrap();
        writer.finish(&dir.path().join(name), true).unwrap();
        begin();
        // A source that was changed meanwhile.
        assert_eq!(Part::open(&target, 0o644, Source { mtime_ns: 1, ..SOURCE }).unwrap().1, 0);
        let (mut part, have) = Part::open(&target, 0o644, SOURCE).unwrap();
        assert_eq!(have, 0, "what was of another source is gone");
        part.write(b"all").unwrap();
        part.finish(&target, 0o600, None, false).unwrap();
        let left = base::local::read_dir(dir.path()).unwrap();
        assert_eq!((left.len(), left[0].1.len_bytes, left[0].1.mode), (1, 3, 0o600));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(decode(&bytes), None);
        }
    }
}
