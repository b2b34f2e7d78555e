//! Waiting for conditions with a deadline.

use std::time::{Duration, Instant};

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(15);

/// Looks until `condition` gives something.
///
/// # Panics
/// After `deadline`, naming `what`.
pub fn until<T>(what: &str, deadline: Duration, condition: impl FnMut() -> Option<T>) -> T {
    within(deadline, condition).unwrap_or_else(|| panic!("waited {deadline:?} in vain for: {what}"))
}

/// As [`until`], for what may also not come: `None` after `deadline`.
pub fn within<T>(deadline: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let began = Instant::now();
    loop {
        let value = condition();
        if value.is_some() || began.elapsed() >= deadline {
            return value;
        }
        std::thread::park_timeout(LOOK);
    }
}

/// Lets time pass. Only for choosing the instant of a fault, never for waiting on a condition.
pub fn let_pass(duration: Duration) {
    let end = Instant::now() + duration;
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
}
