//! What this process has used so far: for benchmarks and for the page of metrics.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Memory of this process that is in RAM, in bytes; `None` where the system does not say.
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    resident_in("/proc/self/status")
}

/// Memory of a process of this machine that is in RAM, in bytes; `None` if there is none with this number, or the system
/// does not say.
#[must_use]
pub fn resident_bytes_of(pid: i32) -> Option<u64> {
    resident_in(&format!("/proc/{pid}/status"))
}

fn resident_in(path: &str) -> Option<u64> {
    let status = std::fs::read_to_string(path).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// Does this process act as root?
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// CPU time that this process has used, all its threads, user and system.
#[must_use]
pub fn process_cpu() -> Duration {
    used(ClockId::ProcessCPUTime)
}

/// What the running kernel calls itself (its boot id): two processes that are told the same run on one machine. Empty
/// where the system does not say.
#[must_use]
pub fn machine() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// CPU time that the calling thread has used.
#[must_use]
pub fn thread_cpu() -> Duration {
    used(ClockId::ThreadCPUTime)
}

fn used(clock: ClockId) -> Duration {
    let used = clock_gettime(clock);
    let (seconds, nanos) = (u64::try_from(used.tv_sec).unwrap_or(0), u32::try_from(used.tv_nsec).unwrap_or(0));
    Duration::new(seconds, nanos)
}

/// Niceness of threads that do what nobody waits for.
const BACKGROUND_NICE: i32 = 10;

/// Lowers the priority of the calling thread. Where that is not possible it goes on as it is: only others notice.
pub fn stand_back() {
    // Linux takes "this process" for the calling thread; elsewhere it would be the whole process.
    if cfg!(target_os = "linux")
        && let Err(error) = rustix::process::getpriority_process(None)
            .and_then(|nice| rustix::process::setpriority_process(None, nice.max(BACKGROUND_NICE)))
    {
        tracing::debug!(%error, "a background thread keeps its priority");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_memory_and_time() {
        assert!(resident_bytes().is_some_and(|bytes| bytes > 100_000));
        let own = rustix::process::getpid().as_raw_nonzero().get();
        assert!(resident_bytes_of(own).is_some_and(|bytes| bytes > 100_000));
        assert_eq!(resident_bytes_of(0), None);
        let before = thread_cpu();
        let sum = (0..1_000_000_u64).fold(0, |sum, n| std::hint::black_box(sum ^ n));
        assert!(thread_cpu() > before, "{sum}");
        assert!(process_cpu() >= thread_cpu());
    }

    #[test]
    fn a_machine_has_one_name() {
        assert_eq!((machine().len(), machine()), (36, machine()));
    }

    #[test]
    fn a_background_thread_stands_back_and_others_do_not() {
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let before = nice();
        let of_thread = crate::task::background_thread("b", nice).unwrap().join().unwrap();
        assert_eq!((of_thread, nice()), (before.max(BACKGROUND_NICE), before));
    }
}
