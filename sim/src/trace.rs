//! What happened, as a hash: two runs of one seed must agree.

use std::fmt::Arguments;

/// A running hash over everything that happens, and its lines if someone wants to see them.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    events: u64,
    loud: bool,
}

impl Trace {
    /// An empty trace; `loud`: lines go to standard error.
    #[must_use]
    pub const fn new(loud: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, events: 0, loud }
    }
    /// Mixes numbers in: time, place, kind.
    pub fn mix(&mut self, words: &[u64]) {
        self.events += 1;
        for word in words {
            self.hash = (self.hash.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
        }
    }
    /// Mixes a text in.
    pub fn mix_text(&mut self, text: &str) {
        for chunk in text.as_bytes().chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(&[u64::from_le_bytes(word)]);
        }
    }
    /// Shows a line, if someone wants to see it. It does not count for the hash.
    pub fn say(&self, seconds: f64, line: Arguments<'_>) {
        if self.loud {
            eprintln!("{seconds:>10.4} {line}");
        }
    }
    /// Would [`Trace::say`] show anything?
    #[must_use]
    pub const fn is_loud(&self) -> bool {
        self.loud
    }
    /// The hash so far.
    #[must_use]
    pub const fn hash(&self) -> u64 {
        self.hash
    }
    /// Things mixed in so far.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.events
    }
}
