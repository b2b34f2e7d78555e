//! Which seeds, and many of them at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sim::{Coverage, Report, Run, Shape};

/// Threads that make runs.
const THREADS: usize = 2;

/// Seeds that failed once, in clusters without logs and administrators. Each stays here for ever.
pub(crate) const REGRESSIONS: &[u64] = &[
    // A disk that failed and came back left its blocks missing for ever.
    74428570598292,
    74428570598295,
    // A member stood for election after an image, before any entry, and stopped the process.
    23422502881617,
    // "No space" for a retry whose first attempt had taken effect.
    205004490524876,
    // A batch whose sync had failed was believed at the next start, and gone after a power cut.
    205004490525049,
    // A node had found its copy damaged, and the leader counted it until it heard so: 0.17 s too long for the checker.
    222611913634250,
    // Every copy of a block had failed one read: each stayed under suspicion for ever.
    222611913632835,
    // Rot in a tail that was cut was "put back" into the records that were written there afterwards.
    194858932689609,
    // Two segments were removed with one sync: after a power cut the older one was back, and the hole stopped the start.
    73958258013457,
    // A copy was found damaged and removed as such within a second of a surplus one's removal: news to the leader too.
    73958258015311,
    // A half-written replica went in a power cut without a word, and its delete was ordered for ever.
    216907522935725,
    // What was flushed without a sync was demanded after all its homes had lost power.
    216907522935730,
    // A recovery ended on what a failed sync had left in the page cache, and a power cut took it.
    16633804089779,
    // A member that had just started judged a block by its image, in which it had a stamp of before.
    238787326471956,
    // Checksums that a power cut had left without data were taken for those of an older copy that came later.
    86756078709936,
    // A copy rotted and was then the whole pipeline of an append, whose stamp made the good ones stale.
    241523928361125,
    // Told that a file was open; a late copy of the same call cut it afterwards.
    153779978159285,
];

/// Seeds that failed once as they are.
pub(crate) const EXTENDED_REGRESSIONS: &[u64] = &[
    // What an emptied node was to remove was waited for when it was gone for good.
    102,
    194, // An emptied node might go while a block that was open again lacked copies elsewhere.
    134,
    151,
    154,
    // A leader that had just started did not know where open blocks are, and let a node go.
    119,
    // Data whose checksums went in a power cut kept their recovery open for ever.
    318,
    // Room that was promised to an open block was counted twice: no place was left for copies.
    390,
    // The report of a new block was on its way, and its node was told that it may go.
    250929719717947,
    // The administrator had given a call up that came through later: two of four nodes stayed out of service.
    171101295178654,
    171101295178514,
    // A block that a reader had seen was given back, because its writer was told of no acknowledgement.
    7000000000474,
    // Of a block that was being closed a reader was shown what one node had; that one fell silent, and the other had less.
    9000000000019,
    // Nine calls of one client had unknown ends, and more worlds were possible than were kept.
    9000000000710,
    // A sync of a copy failed, its node started again and found it whole, others went for it, and a power cut took it.
    9000000000786,
    // Of a namenode that had just started the administrator took that the node is back in service, told it to go for good, and
    // took what is enough for maintenance for leave to.
    4492766924635,
    20261130000126,
    // A power cut brought a damaged copy back of which the leader had heard that it is gone: good ones were removed for it.
    20261130000527,
    20261130000786,
    // So all nodes were told to go: one good copy was enough to remove what was stale.
    20261130001022,
    // A recovery ended on a rotten replica alone, whose bytes it had not read.
    20261130000595,
    // "Nothing acknowledged" was taken for "not known", and the other way round: lengths of open files went back.
    20261130003750,
    20261130003783,
    // What a truncate had cut off came back with a replica that had got its new name and lost power before its cut.
    20261201003775,
    // Both homes of what was flushed without a sync were lost within a second: the one's power, the other's disk.
    20261130005226,
    // What was whole on one node was shown while others were silent, and one of them had acknowledged less.
    20261201101460,
    20261201102046,
    20261201102327,
    // What was whole on one node, and nowhere else, was shown, and its disk failed.
    20261201201446,
    // A disk that was full could not be written once more after a failed sync, and its node did not start.
    20261201101698,
    20261201101827,
    // The administrator's call that takes a node back came through after the node had gone for ever, and it counted.
    86756078712675,
    // A drained node that had gone counted for the removal of a damaged copy until it was missed.
    203611860714890,
    // A surplus copy was removed that an append had made stale a moment before.
    203611860716259,
    // A node whose only disk had failed was let go, with the one copy of a block.
    241523928356739,
    // A drained node went while a truncate's recovery had ended on it alone, and an older copy elsewhere counted.
    118090182294447,
];

/// The base of the gate's seeds: the commit, so that every change is tested with seeds of its own.
pub(crate) fn base_of_commit() -> u64 {
    let asked = std::process::Command::new("git").args(["rev-parse", "HEAD"]).output();
    let text = asked.ok().filter(|output| output.status.success()).map(|output| output.stdout).unwrap_or_default();
    // FNV: of no commit, its beginning.
    text.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
        >> 16
}

/// What came of many runs.
#[derive(Default)]
pub(crate) struct Sum {
    pub(crate) coverage: Coverage,
    pub(crate) runs: u64,
    pub(crate) operations: u64,
    pub(crate) faults: u64,
    pub(crate) failures: Vec<String>,
}

impl Sum {
    fn add(&mut self, report: &Report, is_plain: bool) {
        self.coverage.add(&report.coverage);
        self.runs += 1;
        self.operations += u64::from(report.operations);
        self.faults += u64::from(report.faults);
        if let Some(failure) = &report.failure {
            self.failures.push(describe(report.seed, is_plain, failure));
        }
    }
    pub(crate) fn join(&mut self, other: Self) {
        self.coverage.add(&other.coverage);
        self.runs += other.runs;
        self.operations += other.operations;
        self.faults += other.faults;
        self.failures.extend(other.failures);
    }
}

/// A cluster without logs, an administrator and disks that hang.
pub(crate) fn plain(seed: u64) -> Run {
    Run { shape: Shape::of_old_seed(seed), ..Run::of_seed(seed) }
}

fn describe(seed: u64, is_plain: bool, failure: &str) -> String {
    let plain = if is_plain { "BLOCKYARD_SIM_PLAIN=1 " } else { "" };
    format!(
        "seed {seed}: {failure}\n  again: {plain}BLOCKYARD_SIM_SEED={seed} cargo test -p sim --test simulation one_seed -- --nocapture"
    )
}

/// Makes a run; a panic of the code under test is its failure.
pub(crate) fn make(run: Run) -> Report {
    std::panic::catch_unwind(|| run.go()).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default();
        Report::failed(run.seed, format!("panic: {text}"))
    })
}

/// Makes runs on all threads, while `go_on` says so; `run_of` gives the nth one.
pub(crate) fn make_all(
    count: usize,
    run_of: impl Fn(usize) -> Run + Send + Sync + 'static,
    go_on: impl Fn() -> bool + Send + Sync + 'static,
) -> Sum {
    let (run_of, go_on, next) = (Arc::new(run_of), Arc::new(go_on), Arc::new(AtomicUsize::new(0)));
    let workers: Vec<_> = (0..THREADS)
        .filter_map(|_| {
            let (run_of, go_on, next) = (Arc::clone(&run_of), Arc::clone(&go_on), Arc::clone(&next));
            base::task::thread("simulation", move || {
                let mut sum = Sum::default();
                while sum.failures.is_empty() && go_on() {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        break;
                    }
                    let run = run_of(number);
                    let is_plain = run.shape == Shape::of_old_seed(run.seed);
                    sum.add(&make(run), is_plain);
                }
                sum
            })
            .ok()
        })
        .collect();
    assert_eq!(workers.len(), THREADS, "threads can be started");
    let mut sum = Sum::default();
    for worker in workers {
        match worker.join() {
            Ok(part) => sum.join(part),
            Err(_panic) => sum.failures.push("a thread of the simulation panicked".to_owned()),
        }
    }
    sum
}
