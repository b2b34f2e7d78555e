//! The mixing function of the state hash and of the name index. Durable: image headers hold its results, so it
//! never changes (`docs/formats/image.md` gives it in full). Not for anything that an adversary may choose to break.

const KEY_A: u64 = 0x9e37_79b9_7f4a_7c15;
const KEY_B: u64 = 0xd6e8_feb8_6659_fd93;

/// Accumulates words and byte strings.
#[derive(Clone, Copy)]
pub(crate) struct Mixer(u64);

impl Mixer {
    /// Starts a hash; `kind` keeps hashes of different things apart.
    pub(crate) const fn new(kind: u64) -> Self {
        Self(kind.wrapping_mul(KEY_A) ^ KEY_B)
    }
    /// Adds a number.
    pub(crate) fn word(&mut self, word: u64) -> &mut Self {
        let product = u128::from(self.0 ^ word ^ KEY_A) * u128::from(KEY_B);
        self.0 = (product as u64) ^ ((product >> 64) as u64) ^ word.rotate_left(29);
        self
    }
    /// Adds a byte string: its length, then its bytes as little-endian words, the last one filled with zeros.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.word(bytes.len() as u64);
        let mut words = bytes.chunks_exact(8);
        for chunk in &mut words {
            let mut word = [0; 8];
            word.copy_from_slice(chunk);
            self.word(u64::from_le_bytes(word));
        }
        let rest = words.remainder();
        if !rest.is_empty() {
            let mut word = [0; 8];
            for (to, from) in word.iter_mut().zip(rest) {
                *to = *from;
            }
            self.word(u64::from_le_bytes(word));
        }
        self
    }
    /// The hash of what was added.
    pub(crate) fn finish(&self) -> u64 {
        let product = u128::from(self.0 ^ KEY_B) * u128::from(KEY_A);
        (product as u64) ^ ((product >> 64) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_function_never_changes() {
        // Images in the field hold hashes made with it.
        assert_eq!(Mixer::new(1).word(2).bytes(b"blockyard").finish(), 0x6644_17d7_d7c6_a18a);
    }

    #[test]
    fn lengths_and_kinds_keep_things_apart() {
        let hash = |kind, parts: &[&[u8]]| {
            let mut mixer = Mixer::new(kind);
            for part in parts {
                mixer.bytes(part);
            }
            mixer.finish()
        };
        assert_ne!(hash(1, &[b"ab", b"c"]), hash(1, &[b"a", b"bc"]));
        assert_ne!(hash(1, &[b"a"]), hash(1, &[b"a\0"]));
        assert_ne!(hash(1, &[b"a"]), hash(2, &[b"a"]));
    }
}
