//! When a reader goes ahead of its application. Pure.
//!
//! An application that reads a few bytes and leaves, or jumps about, must not cost whole windows of data: so a reader
//! fetches only what is asked for until enough was read in sequence. From then on it receives ahead, and opens the next
//! block when the end of the current one comes near.

/// Bounds of reading ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadAhead {
    /// Bytes read in sequence after which the reader goes ahead. Default: 512 KiB.
    /// Smaller helps files of that size; larger wastes less where applications only look at the begin of a file.
    pub after_bytes: u64,
    /// Distance from the end of a block at which the next one is opened. 0: never go ahead. Default: 4 MiB.
    pub window_bytes: u64,
    /// Packets that each open block holds ahead of the application. Default: 1.
    /// The system's socket buffers hold what comes next anyway; more packets here only help applications that take much
    /// at once and then pause, and what leaves the processor's cache before it is used costs more to use.
    pub packets: usize,
    /// Blocks of a file that are open at a time, the current one included. Default: 3.
    /// More only help where blocks are smaller than the window.
    pub open_blocks: usize,
    /// Bytes that all readers of a client together may hold ahead of their applications. Default: 64 MiB. Beyond it
    /// every open block may hold one packet, so that each reader comes forward, slowly, whatever the others hold.
    pub client_bytes: u64,
}

impl Default for ReadAhead {
    fn default() -> Self {
        Self { after_bytes: 512 << 10, window_bytes: 4 << 20, packets: 1, open_blocks: 3, client_bytes: 64 << 20 }
    }
}

/// What an application has read without a jump.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sequence {
    run_bytes: u64,
}

impl Sequence {
    /// So many bytes went to the application.
    pub(super) const fn read(&mut self, bytes: u64) {
        self.run_bytes = self.run_bytes.saturating_add(bytes);
    }
    /// The application jumped.
    pub(super) const fn jumped(&mut self) {
        self.run_bytes = 0;
    }
    /// Does the reader go ahead?
    pub(super) const fn goes_ahead(self, ahead: &ReadAhead) -> bool {
        ahead.window_bytes > 0 && self.run_bytes >= ahead.after_bytes
    }
    /// Is a further block opened, when those that are open (`blocks` of them) have `left_bytes` to give?
    pub(super) const fn opens_another(self, ahead: &ReadAhead, blocks: usize, left_bytes: u64) -> bool {
        blocks == 0 || self.goes_ahead(ahead) && blocks < ahead.open_blocks && left_bytes <= ahead.window_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sequence_is_read_ahead_and_a_jump_begins_anew() {
        let ahead = ReadAhead { after_bytes: 100, window_bytes: 50, open_blocks: 3, ..ReadAhead::default() };
        let mut sequence = Sequence::default();
        assert!(sequence.opens_another(&ahead, 0, 0), "without a block there is nothing to read");
        sequence.read(99);
        assert!(!sequence.goes_ahead(&ahead) && !sequence.opens_another(&ahead, 1, 1));
        sequence.read(1);
        assert!(sequence.goes_ahead(&ahead));
        assert!(!sequence.opens_another(&ahead, 1, 51), "the end is not near yet");
        assert!(sequence.opens_another(&ahead, 1, 50) && sequence.opens_another(&ahead, 2, 50));
        assert!(!sequence.opens_another(&ahead, 3, 0), "no more at a time");
        let never = ReadAhead { window_bytes: 0, ..ahead };
        assert!(!sequence.goes_ahead(&never) && !sequence.opens_another(&never, 1, 0));
        sequence.jumped();
        assert!(!sequence.goes_ahead(&ahead));
    }
}
