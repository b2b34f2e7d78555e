//! The scrubber's decisions, without a disk.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use super::*;
use proptest::prelude::*;

const RATE: u64 = 1 << 20;
const PERIOD_S: u64 = 1000;
/// The wall clock at the machine's start.
const EPOCH_S: u64 = 1_900_000_000;

/// What a volume holds: replicas by folder, with their lengths.
#[derive(Default)]
struct Held {
    replicas: BTreeMap<u16, BTreeMap<BlockId, u64>>,
    suspects: RefCell<VecDeque<BlockId>>,
}

impl Holdings for Held {
    fn counts(&self) -> Box<[u32]> {
        (0..FOLDERS).map(|folder| self.replicas.get(&folder).map_or(0, BTreeMap::len) as u32).collect()
    }
    fn take_suspect(&self) -> Option<BlockId> {
        self.suspects.borrow_mut().pop_front()
    }
}

impl Held {
    fn put(&mut self, folder: u16, raw: i64, len_bytes: u64) -> BlockId {
        let id = BlockId::from_raw(raw);
        self.replicas.entry(folder).or_default().insert(id, len_bytes);
        id
    }
    fn len(&self, id: BlockId) -> u64 {
        self.replicas.values().find_map(|folder| folder.get(&id)).copied().unwrap_or(0)
    }
}

/// A scrubber under a clock of its own, reading slices of 1 MiB.
struct Bench {
    held: Held,
    scrubber: Scrubber,
    now: Moment,
    /// What the next looks at a block see, in place of sound bytes.
    odd: BTreeMap<BlockId, VecDeque<Seen>>,
    open: Option<(BlockId, u64)>,
    bytes: u64,
    saves: u64,
    /// What was done, in order.
    sound: Vec<BlockId>,
    damaged: Vec<BlockId>,
}

impl Bench {
    fn new(held: Held) -> Self {
        Self::with(held, ScrubRecord::default(), Moment::START)
    }
    fn with(held: Held, record: ScrubRecord, now: Moment) -> Self {
        let options = ScrubOptions { rate_bytes_per_s: RATE, period: Duration::from_secs(PERIOD_S) };
        let scrubber = Scrubber::new(options, record, now);
        Self {
            held,
            scrubber,
            now,
            odd: BTreeMap::new(),
            open: None,
            bytes: 0,
            saves: 0,
            sound: Vec::new(),
            damaged: Vec::new(),
        }
    }
    fn wall_s(&self) -> u64 {
        EPOCH_S + self.now.elapsed_from_start().as_secs()
    }
    fn looked(&mut self, id: BlockId, seen: Seen, bytes: u64) {
        self.bytes += bytes;
        match self.scrubber.looked(seen, bytes, self.now) {
            Verdict::None => {}
            Verdict::Sound => self.sound.push(id),
            Verdict::Damaged => self.damaged.push(id),
        }
    }
    /// One step; true if it was a rest, which is slept through.
    fn step(&mut self) -> bool {
        match self.scrubber.next(self.now, self.wall_s(), &self.held) {
            Act::Rest(until) => {
                assert!(until > self.now, "a rest that is none");
                self.now = until;
                return true;
            }
            Act::Save => {
                self.saves += 1;
                self.scrubber.saved(self.now);
            }
            Act::List { folder, above } => {
                let all = self.held.replicas.get(&folder).into_iter().flat_map(BTreeMap::keys).copied();
                self.scrubber.listed(all.filter(|id| above.is_none_or(|above| *id > above)).collect());
            }
            Act::Look(id) => {
                self.open = Some((id, self.held.len(id)));
                match self.odd.get_mut(&id).and_then(VecDeque::pop_front) {
                    Some(seen) => self.looked(id, seen, 0),
                    None => self.looked(id, Seen::Going, 0),
                }
            }
            Act::Read => {
                let (id, left) = self.open.expect("something is open");
                let part = left.min(1 << 20);
                self.open = Some((id, left - part));
                self.looked(id, if part == left { Seen::Sound } else { Seen::Going }, part);
            }
        }
        false
    }
    fn run_until(&mut self, mut done: impl FnMut(&Self) -> bool) {
        for _ in 0..100_000 {
            if done(self) {
                return;
            }
            self.step();
        }
        panic!("it never comes: {:?}", self.scrubber);
    }
    fn run_for(&mut self, time_s: u64) {
        let end = self.now.plus(Duration::from_secs(time_s));
        self.run_until(|bench| bench.now >= end);
    }
}

#[test]
fn folders_never_read_go_first_then_those_read_longest_ago_and_only_when_they_are_due() {
    let mut held = Held::default();
    let [a, b] = [held.put(3, 30, 1000), held.put(3, 31, 1000)];
    let c = held.put(200, 200, 1000);
    let mut bench = Bench::new(held);
    bench.run_until(|bench| bench.sound.len() == 3);
    assert_eq!(bench.sound, [a, b, c], "by folder, and in it by id");
    assert!((PERIOD_S..PERIOD_S + 5).contains(&bench.now.elapsed_from_start().as_secs()), "what is new rests first");
    // A folder that gets its first replica has never been read: it goes first when it is due, whatever waits.
    bench.run_for(10);
    bench.sound.clear();
    let d = bench.held.put(7, 70, 1000);
    bench.run_until(|bench| bench.now.elapsed_from_start() >= Duration::from_secs(2 * PERIOD_S - 10));
    assert_eq!(bench.sound, [], "nothing is due");
    bench.run_until(|bench| bench.sound.len() == 4);
    assert_eq!(bench.sound, [a, b, c, d], "the others were due before");
    bench.sound.clear();
    // All are due at once: never read, then longest ago.
    let e = bench.held.put(250, 2500, 1000);
    bench.run_for(70);
    assert_eq!(bench.sound, [], "they were read a moment ago");
    bench.now = bench.now.plus(Duration::from_secs(3 * PERIOD_S));
    bench.run_until(|bench| bench.sound.len() == 5);
    assert_eq!(bench.sound, [e, a, b, c, d]);
}

#[test]
fn the_rate_is_kept_and_a_rest_is_followed_by_no_burst() {
    let mut held = Held::default();
    for raw in 0..200 {
        held.put(5, raw, 3_000_000);
    }
    let mut bench = Bench::new(held);
    bench.run_until(|bench| bench.bytes > 0);
    // After a long rest: from the first byte on.
    let (from, before) = (bench.now, bench.bytes);
    let mut last = 0;
    bench.run_until(|bench| {
        let elapsed = bench.now.since(from).as_micros() as u64;
        let allowed = elapsed * RATE / 1_000_000 + (1 << 20);
        let read = bench.bytes - before;
        assert!(read <= allowed, "{read} bytes in {elapsed} us, {allowed} allowed");
        last = elapsed;
        elapsed > 300_000_000
    });
    let read = bench.bytes - before;
    let full = last * RATE / 1_000_000;
    assert!(read * 10 > full * 9, "it does not dawdle either: {read} of {full} bytes");
}

#[test]
fn small_replicas_are_charged_for_their_seeks() {
    let mut held = Held::default();
    for raw in 0..1000 {
        held.put(5, raw, 10);
    }
    let mut bench = Bench::new(held);
    bench.run_until(|bench| !bench.sound.is_empty());
    let (from, before) = (bench.now, bench.sound.len());
    bench.run_for(10);
    let (read, time_s) = ((bench.sound.len() - before) as u64, bench.now.since(from).as_secs_f64());
    assert!((read * OPEN_BYTES) as f64 <= time_s * RATE as f64 + OPEN_BYTES as f64, "{read} in {time_s} s");
    assert!(read > 100, "{read}");
}

#[test]
fn a_difference_counts_only_when_it_is_seen_twice() {
    let mut held = Held::default();
    let [once, twice, gone, tired, after_gone] = [1, 2, 3, 4, 5].map(|raw| held.put(9, raw, 5_000_000));
    let mut bench = Bench::new(held);
    bench.odd.insert(once, [Seen::Differs].into());
    bench.odd.insert(twice, [Seen::Differs, Seen::Differs].into());
    bench.odd.insert(gone, [Seen::Gone].into());
    // Descriptors may be wanting for long, also between the two looks.
    bench.odd.insert(tired, [Seen::Exhausted, Seen::Differs, Seen::Exhausted, Seen::Exhausted].into());
    bench.odd.insert(after_gone, [Seen::Differs, Seen::Gone].into());
    bench.run_until(|bench| bench.scrubber.record.marks[9].read);
    assert_eq!((bench.sound.as_slice(), bench.damaged.as_slice()), ([once, tired].as_slice(), [twice].as_slice()));
}

#[test]
fn want_of_descriptors_is_waited_for() {
    let mut held = Held::default();
    let id = held.put(9, 1, 100);
    let mut bench = Bench::new(held);
    bench.odd.insert(id, vec![Seen::Exhausted; 5].into());
    bench.run_until(|bench| bench.odd[&id].len() < 5);
    let from = bench.now;
    bench.run_until(|bench| bench.sound == [id]);
    assert!(bench.now.since(from) >= EXHAUSTED_PAUSE * 5, "{:?}", bench.now.since(from));
}

#[test]
fn suspects_go_first_and_keep_nothing_else_from_being_read() {
    let mut held = Held::default();
    let [a, b] = [held.put(9, 1, 100), held.put(9, 2, 100)];
    let far = held.put(200, 99, 100);
    // The folders are not due for long: the suspects are looked at all the same.
    let mut bench = Bench::new(held);
    bench.held.suspects.borrow_mut().extend([far, a]);
    bench.run_until(|bench| bench.sound.len() == 2);
    assert_eq!(bench.sound, [far, a]);
    assert!(bench.now.elapsed_from_start() < Duration::from_secs(100));
    // A reader who doubts one for ever gets every second turn.
    bench.held.suspects.borrow_mut().extend(std::iter::repeat_n(far, 2000));
    bench.sound.clear();
    bench.now = bench.now.plus(Duration::from_secs(2 * PERIOD_S));
    bench.run_until(|bench| bench.sound.contains(&a) && bench.sound.contains(&b));
    assert!(bench.sound.len() <= 6, "{:?}", bench.sound);
}

#[test]
fn a_restart_goes_on_where_it_was() {
    let mut held = Held::default();
    let ids: Vec<BlockId> = (0..100).map(|raw| held.put(9, raw, 4_000_000)).collect();
    let mut bench = Bench::new(held);
    bench.run_until(|bench| bench.sound.len() > 40 && bench.saves > 2);
    bench.run_until(|bench| !bench.scrubber.unsaved);
    let (read, wire) = (bench.sound.len(), bench.scrubber.record().to_wire());
    let record = ScrubRecord::from_wire(&wire).unwrap();
    let mut again = Bench::with(bench.held, record, bench.now);
    again.run_until(|bench| bench.sound.len() == 100 - read);
    assert_eq!(again.sound, ids[read..]);
    assert!(again.now.since(bench.now) < Duration::from_secs(500), "at once");
    assert_eq!(again.scrubber.record.pass.map(|pass| pass.folder), Some(9));
}

#[test]
fn the_record_is_kept_at_every_end_of_a_pass_and_once_a_minute() {
    let mut held = Held::default();
    for raw in 0..100 {
        held.put(9, raw, 6_000_000);
    }
    let mut bench = Bench::new(held);
    bench.run_until(|bench| !bench.sound.is_empty());
    let (from, before) = (bench.now, bench.saves);
    bench.run_until(|bench| bench.scrubber.record.pass.is_none());
    let (saves, minutes) = (bench.saves - before, bench.now.since(from).as_secs() / 60);
    assert!(saves <= minutes + 2 && saves + 2 >= minutes, "{saves} saves in {minutes} minutes");
}

#[test]
fn nothing_is_unread_for_longer_than_a_period_and_the_time_it_takes() {
    let mut held = Held::default();
    for folder in 0..FOLDERS {
        held.put(folder, i64::from(folder), 1_000_000);
    }
    let mut bench = Bench::new(held);
    bench.run_until(|bench| bench.sound.len() == usize::from(FOLDERS));
    for _ in 0..40 {
        bench.run_for(100);
        let oldest = bench.scrubber.oldest_s(bench.wall_s(), &bench.held.counts());
        assert!(oldest <= PERIOD_S + 300, "{oldest}");
    }
    assert!(bench.scrubber.oldest_s(bench.wall_s(), &bench.held.counts()) > 0);
    assert_eq!(bench.sound.iter().collect::<BTreeSet<_>>().len(), usize::from(FOLDERS));
}

#[test]
fn f_12_a_clock_that_was_in_the_future_keeps_nothing_from_being_read() {
    let mut held = Held::default();
    let id = held.put(9, 1, 100);
    let mut record = ScrubRecord::default();
    record.marks[9] = Mark { since_s: EPOCH_S + 1_000_000_000, read: true };
    let mut bench = Bench::with(held, record, Moment::START);
    bench.run_until(|bench| bench.sound == [id]);
    assert!(bench.now.elapsed_from_start() < Duration::from_secs(PERIOD_S + 100));
}

#[test]
fn without_a_rate_nothing_is_read() {
    let mut held = Held::default();
    held.put(9, 1, 100);
    let options = ScrubOptions { rate_bytes_per_s: 0, period: Duration::from_secs(1) };
    let mut scrubber = Scrubber::new(options, ScrubRecord::default(), Moment::START);
    let mut now = Moment::START;
    for _ in 0..100 {
        let Act::Rest(until) = scrubber.next(now, EPOCH_S, &held) else { panic!("it works") };
        now = until;
    }
}

#[test]
fn records_of_newer_programs_and_odd_ones_are_refused() {
    let good = ScrubRecord::default().to_wire();
    let newer = VolumeScrub { version: 2, ..good.clone() };
    assert_eq!(ScrubRecord::from_wire(&newer), Err(BadRecord::Newer(2)));
    let pass = |folder| Some(ScrubPass { folder, began_s: 1, done: None });
    for bad in [
        VolumeScrub { since_s: vec![0; 255], ..good.clone() },
        VolumeScrub { read: vec![0; 31].into(), ..good.clone() },
        VolumeScrub { pass: pass(256), ..good.clone() },
        VolumeScrub { pass: pass(u32::MAX), ..good.clone() },
    ] {
        assert_eq!(ScrubRecord::from_wire(&bad), Err(BadRecord::Malformed), "{bad:?}");
    }
    assert!(ScrubRecord::from_wire(&VolumeScrub { pass: pass(255), ..good }).is_ok());
}

proptest! {
    #[test]
    fn records_round_trip_and_fit_into_a_slot(
        marks in proptest::collection::vec((any::<u64>(), any::<bool>()), usize::from(FOLDERS)),
        pass in proptest::option::of((0..FOLDERS, any::<u64>(), proptest::option::of(any::<i64>()))),
    ) {
        use prost::Message;
        let marks = marks.into_iter().map(|(since_s, read)| Mark { since_s, read }).collect();
        let pass = pass.map(|(folder, began_s, done)| Pass { folder, began_s, done: done.map(BlockId::from_raw) });
        let record = ScrubRecord { marks, pass };
        let wire = record.to_wire();
        prop_assert!(wire.encoded_len() <= base::two_slot::MAX_BODY_BYTES);
        prop_assert_eq!(ScrubRecord::from_wire(&wire), Ok(record));
    }
}
