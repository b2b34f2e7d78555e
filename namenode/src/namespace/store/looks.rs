//! Counts looks at records, so that tests can say how many are made while a lock is held once.

use std::cell::Cell;

thread_local! {
    static LOOKS: Cell<u64> = const { Cell::new(0) };
}

/// One more.
pub(crate) fn note() {
    LOOKS.with(|looks| looks.set(looks.get() + 1));
}

/// Runs something, and counts the looks that it makes on this thread.
pub(crate) fn during<T>(run: impl FnOnce() -> T) -> (T, u64) {
    let before = LOOKS.with(Cell::get);
    let done = run();
    (done, LOOKS.with(Cell::get) - before)
}
