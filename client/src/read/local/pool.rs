//! Buffers that are used again: memory that is new costs a page fault for each of its pages, more than reading into it.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;

/// Bytes of a buffer: as much as is read at a time. Data and checksums stay in the second-level cache between the read and
/// the comparison.
pub(super) const BUFFER_BYTES: usize = 256 * 1024;
/// Buffers kept while nobody uses them.
const KEEP: usize = 16;

/// Buffers that nobody uses.
#[derive(Debug)]
pub(super) struct Pool {
    free: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Pool {
    pub(super) fn new() -> Self {
        Self { free: Arc::default() }
    }
    /// A buffer; what is in it is old.
    pub(super) fn take(&self) -> Buffer {
        let free = self.free.lock().pop();
        let bytes = free.unwrap_or_else(|| vec![0; BUFFER_BYTES]);
        Buffer { bytes, len: 0, pool: Arc::downgrade(&self.free) }
    }
}

/// A buffer in use. It returns when it is dropped, that is with the last [`Bytes`] made of it.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    len: usize,
    pool: Weak<Mutex<Vec<Vec<u8>>>>,
}

impl Buffer {
    /// The first bytes, at most [`BUFFER_BYTES`], to be filled.
    pub(super) fn room(&mut self, len: usize) -> &mut [u8] {
        self.len = len.min(self.bytes.len());
        self.bytes.get_mut(..self.len).unwrap_or_default()
    }
    /// What [`Buffer::room`] gave last, shared from now on.
    pub(super) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade() {
            let mut free = pool.lock();
            if free.len() < KEEP {
                free.push(std::mem::take(&mut self.bytes));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_with_the_last_bytes_made_of_it() {
        let pool = Pool::new();
        let mut buffer = pool.take();
        buffer.room(3).copy_from_slice(b"abc");
        let all = buffer.freeze();
        let part = all.slice(1..);
        drop(all);
        assert_eq!((&part[..], pool.free.lock().len()), (&b"bc"[..], 0));
        drop(part);
        assert_eq!(pool.free.lock().len(), 1);
        assert_eq!(pool.take().room(usize::MAX).len(), BUFFER_BYTES);
        let many: Vec<Buffer> = (0..40).map(|_| pool.take()).collect();
        drop(many);
        assert_eq!(pool.free.lock().len(), KEEP, "and not more are kept than that");
    }
}
