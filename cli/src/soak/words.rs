//! Contents that say themselves where they belong: each word of eight bytes names who wrote it and its place in the file.
//!
//! ```text
//!   byte 4096 of a file, written as number 17 ─▶ word 512 ─▶ mix(17, 512)       what ought to be there
//!   a word that is there                      ─▶ unmix    ─▶ (writer, place)    what is there: stale, misplaced, garbage
//! ```
//!
//! Pure. A writer's number is never used twice in a run, so bytes of an older version of the same file are found out too.

use bytes::{BufMut, Bytes, BytesMut};

/// Length of a word.
const WORD_BYTES: u64 = 8;

/// Number of one act of writing: of one version of a file, or of what one append added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WriterNumber(pub(super) u32);

/// Factors of the mixing, odd, and what undoes them.
const FACTORS: [u64; 2] = [0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb];
const UNDO: [u64; 2] = [inverse(FACTORS[0]), inverse(FACTORS[1])];

/// Inverse of an odd number modulo 2^64, by Newton's iteration: each step doubles the number of right bits.
const fn inverse(odd: u64) -> u64 {
    let (mut found, mut step) = (odd, 0);
    while step < 6 {
        found = found.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(found)));
        step += 1;
    }
    found
}

/// Bijective, so that a word tells what it was made of; far from what an empty or shifted block would hold.
const fn mix(plain: u64) -> u64 {
    let once = (plain ^ (plain >> 32)).wrapping_mul(FACTORS[0]);
    let twice = (once ^ (once >> 32)).wrapping_mul(FACTORS[1]);
    twice ^ (twice >> 32)
}

const fn unmix(word: u64) -> u64 {
    let twice = (word ^ (word >> 32)).wrapping_mul(UNDO[1]);
    let once = (twice ^ (twice >> 32)).wrapping_mul(UNDO[0]);
    once ^ (once >> 32)
}

/// The word of a writer at a place, counted in words. Files are far shorter than 32 GiB.
fn word(writer: WriterNumber, place: u64) -> u64 {
    mix(u64::from(writer.0) << 32 | (place & 0xffff_ffff))
}

/// The byte at an offset that a writer writes there.
fn byte(writer: WriterNumber, at_bytes: u64) -> u8 {
    let bytes = word(writer, at_bytes / WORD_BYTES).to_le_bytes();
    usize::try_from(at_bytes % WORD_BYTES).ok().and_then(|at| bytes.get(at).copied()).unwrap_or_default()
}

/// A part of a content that was written at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    end_bytes: u64,
    writer: WriterNumber,
}

/// What a file is to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    pieces: Vec<Piece>,
}

impl Content {
    /// What one writer writes.
    pub(super) fn new(writer: WriterNumber, len_bytes: u64) -> Self {
        Self::default().appended(writer, len_bytes)
    }
    /// Length in bytes.
    pub(super) fn len_bytes(&self) -> u64 {
        self.pieces.last().map_or(0, |piece| piece.end_bytes)
    }
    /// Who wrote its first byte.
    pub(super) fn first_writer(&self) -> WriterNumber {
        self.pieces.first().map_or(WriterNumber(0), |piece| piece.writer)
    }
    /// How many acts of writing are seen in it.
    pub(super) fn pieces(&self) -> usize {
        self.pieces.len()
    }
    /// The same with so many bytes of another writer behind.
    pub(super) fn appended(&self, writer: WriterNumber, more_bytes: u64) -> Self {
        let mut longer = self.clone();
        if more_bytes > 0 {
            longer.pieces.push(Piece { end_bytes: self.len_bytes() + more_bytes, writer });
        }
        longer
    }
    /// The first so many bytes of it.
    pub(super) fn cut(&self, len_bytes: u64) -> Self {
        let mut shorter = Self::default();
        for piece in &self.pieces {
            if shorter.len_bytes() >= len_bytes {
                break;
            }
            shorter.pieces.push(Piece { end_bytes: piece.end_bytes.min(len_bytes), writer: piece.writer });
        }
        shorter
    }
    fn writer_at(&self, at_bytes: u64) -> Option<Piece> {
        let after = self.pieces.partition_point(|piece| piece.end_bytes <= at_bytes);
        self.pieces.get(after).copied()
    }

    /// Its bytes in a range, fewer if it ends before.
    pub(super) fn bytes(&self, from_bytes: u64, len_bytes: u64) -> Bytes {
        let end_bytes = from_bytes.saturating_add(len_bytes).min(self.len_bytes());
        let mut out = BytesMut::with_capacity(usize::try_from(end_bytes.saturating_sub(from_bytes)).unwrap_or(0));
        let mut at_bytes = from_bytes;
        while at_bytes < end_bytes {
            let Some(piece) = self.writer_at(at_bytes) else { break };
            if whole_word(at_bytes, piece.end_bytes.min(end_bytes)) {
                out.put_u64_le(word(piece.writer, at_bytes / WORD_BYTES));
                at_bytes += WORD_BYTES;
            } else {
                out.put_u8(byte(piece.writer, at_bytes));
                at_bytes += 1;
            }
        }
        out.freeze()
    }

    /// The first byte at which `bytes`, read at `from_bytes`, are not what they ought to be.
    pub(super) fn differs(&self, from_bytes: u64, bytes: &[u8]) -> Option<Difference> {
        let end_bytes = from_bytes + bytes.len() as u64;
        let expected = self.bytes(from_bytes, bytes.len() as u64);
        let common = bytes.iter().zip(&expected).position(|(there, wanted)| there != wanted);
        let at = common.or_else(|| (expected.len() < bytes.len()).then_some(expected.len()))?;
        let at_bytes = from_bytes + at as u64;
        let word_from = at_bytes - at_bytes % WORD_BYTES;
        let found = (word_from >= from_bytes && word_from + WORD_BYTES <= end_bytes)
            .then(|| usize::try_from(word_from - from_bytes).ok())
            .flatten();
        let found = found.and_then(|from| bytes.get(from..from + 8)).and_then(|word| word.try_into().ok());
        let wanted = self.writer_at(at_bytes).map(|piece| piece.writer);
        Some(Difference { at_bytes, wanted, found: found.map(|word| Told::by(u64::from_le_bytes(word))) })
    }
}

fn whole_word(at_bytes: u64, end_bytes: u64) -> bool {
    at_bytes.is_multiple_of(WORD_BYTES) && at_bytes + WORD_BYTES <= end_bytes
}

/// What a word says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// Who wrote it.
    pub(super) writer: WriterNumber,
    /// Where it belongs.
    pub(super) at_bytes: u64,
    /// The word as it is.
    raw: u64,
}

impl Told {
    fn by(raw: u64) -> Self {
        let plain = unmix(raw);
        let writer = u32::try_from(plain >> 32).unwrap_or(u32::MAX);
        Self { writer: WriterNumber(writer), at_bytes: (plain & 0xffff_ffff) * WORD_BYTES, raw }
    }
}

/// The first byte that is not what it ought to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) at_bytes: u64,
    /// Whose byte ought to be there; `None`: nobody's, the content ends before.
    wanted: Option<WriterNumber>,
    /// What the word there says, if all of it was read.
    found: Option<Told>,
}

impl Difference {
    /// What is wrong, for people. Numbers above `newest` were never given to a writer.
    pub(super) fn text(&self, newest: WriterNumber) -> String {
        let at = self.at_bytes;
        let wanted = self.wanted.map_or("the end".to_owned(), |writer| format!("bytes of writer {}", writer.0));
        let found = match self.found {
            Some(told) if told.raw == 0 => "zeros are there".to_owned(),
            Some(told) if told.writer <= newest && told.at_bytes == at - at % WORD_BYTES => {
                format!("bytes of writer {} for this place are there", told.writer.0)
            }
            Some(told) if told.writer <= newest => {
                format!("bytes of writer {} for offset {} are there", told.writer.0, told.at_bytes)
            }
            Some(told) => format!("the word {:#018x} of no writer is there", told.raw),
            None => "other bytes are there".to_owned(),
        };
        format!("at offset {at} {wanted} ought to be, {found}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const W1: WriterNumber = WriterNumber(1);
    const W2: WriterNumber = WriterNumber(2);

    #[test]
    fn a_word_tells_its_writer_and_its_place() {
        for (writer, place) in [(W1, 0), (WriterNumber(u32::MAX - 7), 1 << 31), (W2, 12_345)] {
            let told = Told::by(word(writer, place));
            assert_eq!((told.writer, told.at_bytes), (writer, place * 8));
        }
        assert_ne!(word(WriterNumber(0), 1), 0);
    }

    #[test]
    fn any_cut_of_a_content_is_the_same_bytes() {
        let content = Content::new(W1, 1003).appended(W2, 77).appended(WriterNumber(3), 4096);
        let whole = content.bytes(0, u64::MAX);
        assert_eq!(whole.len() as u64, content.len_bytes());
        for from in [0, 1, 7, 8, 999, 1003, 1004, 1080, 5000] {
            for len in [0, 1, 8, 9, 100, 9000] {
                let end = (from + len).min(whole.len());
                assert_eq!(content.bytes(from as u64, len as u64), whole[from.min(end)..end], "{from} {len}");
                assert_eq!(content.differs(from as u64, &whole[from.min(end)..end]), None);
            }
        }
    }

    #[test]
    fn cuts_and_additions_keep_what_was_there() {
        let content = Content::new(W1, 100).appended(W2, 50);
        assert_eq!(content.cut(120).bytes(0, 500), content.bytes(0, 120));
        assert_eq!(content.cut(100), Content::new(W1, 100));
        assert_eq!((content.cut(0).len_bytes(), content.cut(1000)), (0, content.clone()));
        assert_eq!((content.pieces(), content.appended(W1, 0)), (2, content));
    }

    #[test]
    fn stale_misplaced_missing_and_surplus_bytes_are_found_and_named() {
        let content = Content::new(W2, 4096);
        let text = |bytes: &[u8], from| content.differs(from, bytes).unwrap().text(W2);
        let stale = Content::new(W1, 4096).bytes(512, 512);
        // Their first bytes are the same by chance.
        assert!(
            text(&stale, 512).contains("at offset 513 bytes of writer 2 ought to be, bytes of writer 1 for this place")
        );
        let shifted = content.bytes(1024, 512);
        assert!(text(&shifted, 512).contains("bytes of writer 2 for offset 1024 are there"));
        assert!(text(&[0; 512], 512).contains("zeros are there"));
        assert!(text(&[0xa5; 512], 512).contains("of no writer is there"));
        let mut longer = content.bytes(0, 4096).to_vec();
        longer.extend_from_slice(&[1; 8]);
        assert!(text(&longer, 0).contains("at offset 4096 the end ought to be"));
        let mut flipped = content.bytes(0, 4096).to_vec();
        flipped[4095] ^= 1;
        assert_eq!(content.differs(0, &flipped).unwrap().at_bytes, 4095);
    }
}
