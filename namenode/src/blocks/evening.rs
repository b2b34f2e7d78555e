//! Who gives how much to whom, so that all are equally full: a pure function of how full they are.
//!
//! ```text
//!   fuller than the mean by more than the threshold ──gives to──▶ the emptiest
//!   emptier by more than the threshold ◀──takes from── the fullest that are left
//! ```
//!
//! Nobody gives or takes beyond the mean, so nothing is moved to and fro. Whoever is within the threshold moves only what
//! others need.

use std::cmp::Reverse;

/// How full somebody is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fullness {
    /// Bytes of blocks.
    pub(super) used_bytes: u64,
    /// Bytes of blocks, and those that blocks may still take.
    pub(super) size_bytes: u64,
}

/// So many bytes are to go from one place of the list to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flow {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) bytes: u64,
}

/// A place with what it has beyond the mean (or lacks), and beyond the threshold.
#[derive(Clone, Copy, Debug)]
struct Side {
    place: usize,
    /// Share of its size, in parts of [`PARTS`], by which it is off the mean: for the order.
    off: u128,
    bytes: u64,
    beyond: bool,
}

const PARTS: u128 = 1_000_000;

/// What is to be moved until everybody is within `threshold_percent` of the mean; nothing if they are. Between some nothing
/// can move (`may`): then others give and take as much of it as they can.
pub(super) fn flows(all: &[Fullness], threshold_percent: u32, may: impl Fn(usize, usize) -> bool) -> Vec<Flow> {
    let used: u128 = all.iter().map(|one| u128::from(one.used_bytes)).sum();
    let size: u128 = all.iter().map(|one| u128::from(one.size_bytes)).sum();
    if size == 0 {
        return Vec::new();
    }
    let (mut givers, mut takers) = (Vec::new(), Vec::new());
    for (place, one) in all.iter().enumerate().filter(|(_, one)| one.size_bytes > 0) {
        let (has, room) = (u128::from(one.used_bytes), u128::from(one.size_bytes));
        let fair = used * room / size;
        let off_bytes = has.abs_diff(fair);
        let side = Side {
            place,
            off: off_bytes * PARTS / room,
            bytes: u64::try_from(off_bytes).unwrap_or(u64::MAX),
            beyond: off_bytes * 100 > room * u128::from(threshold_percent),
        };
        if has > fair { &mut givers } else { &mut takers }.push(side);
    }
    givers.sort_by_key(|side| (Reverse(side.off), side.place));
    takers.sort_by_key(|side| (Reverse(side.off), side.place));
    let mut flows = Vec::new();
    // First those that are too full, to the emptiest; then those that are too empty, from the fullest that are left.
    pair(&mut givers, &mut takers, |giver, taker| giver.beyond && may(giver.place, taker.place), &mut flows);
    pair(&mut givers, &mut takers, |giver, taker| taker.beyond && may(giver.place, taker.place), &mut flows);
    flows
}

fn pair(givers: &mut [Side], takers: &mut [Side], wanted: impl Fn(&Side, &Side) -> bool, flows: &mut Vec<Flow>) {
    for giver in givers {
        for taker in &mut *takers {
            let bytes = giver.bytes.min(taker.bytes);
            if bytes > 0 && wanted(giver, taker) {
                giver.bytes -= bytes;
                taker.bytes -= bytes;
                flows.push(Flow { from: giver.place, to: taker.place, bytes });
            }
        }
    }
}

/// What to believe of somebody who says that it holds so many bytes, while so many are expected when what is under way is
/// done: whatever is nearer to its share of the whole, and the share itself if that is in between. So nothing that is
/// counted twice for a moment, or not yet, makes anybody give or take too much, or back what it got.
pub(super) fn nearer(share: i128, said: i128, expected: i128) -> i128 {
    let (said_off, expected_off) = (said - share, expected - share);
    if said_off.signum() * expected_off.signum() <= 0 {
        return share;
    }
    if said_off.abs() <= expected_off.abs() { said } else { expected }
}

/// Does a block keep its racks when a copy goes from the node of one to another? `holders`: racks of all its copies, that
/// of the one that goes included.
pub(super) fn keeps_racks<'a>(holders: impl Iterator<Item = &'a str> + Clone, from: &str, to: &str) -> bool {
    let alone = holders.clone().filter(|rack| *rack == from).count() <= 1;
    let mut others = holders;
    // A rack is lost only if its one copy goes elsewhere, and that is made good by a rack that has none.
    !alone || from == to || !others.any(|rack| rack == to)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn full(used_bytes: u64, size_bytes: u64) -> Fullness {
        Fullness { used_bytes, size_bytes }
    }
    fn after(all: &[Fullness], flows: &[Flow]) -> Vec<Fullness> {
        let mut all = all.to_vec();
        for flow in flows {
            all[flow.from].used_bytes -= flow.bytes;
            all[flow.to].used_bytes += flow.bytes;
        }
        all
    }
    /// Distance from the mean in percent of the size, of each.
    fn off(all: &[Fullness]) -> Vec<f64> {
        let sum = |of: fn(&Fullness) -> u64| all.iter().map(of).sum::<u64>() as f64;
        let mean = sum(|one| one.used_bytes) / sum(|one| one.size_bytes);
        let share = |one: &Fullness| one.used_bytes as f64 / one.size_bytes as f64;
        all.iter().map(|one| (share(one) - mean) * 100.0).collect()
    }

    #[test]
    fn a_new_empty_node_takes_from_the_fullest() {
        let all = [full(50, 100), full(30, 100), full(40, 100), full(0, 100)];
        let any = |_, _| true;
        assert_eq!(flows(&all, 10, any), [Flow { from: 0, to: 3, bytes: 20 }, Flow { from: 2, to: 3, bytes: 10 }]);
        assert_eq!(flows(&all[..3], 10, any), []);
        assert_eq!(flows(&[full(50, 100), full(500, 1000)], 0, any), [], "equally full, whatever the sizes");
        assert_eq!(flows(&[], 10, any), []);
        assert_eq!(flows(&[full(0, 0), full(5, 10)], 1, any), []);
        let not_the_first = flows(&all, 10, |from, _| from != 0);
        assert_eq!(not_the_first, [Flow { from: 2, to: 3, bytes: 10 }]);
    }

    #[test]
    fn who_is_believed_to_be_on_the_other_side_of_the_mean_moves_nothing() {
        assert_eq!([nearer(10, 15, 12), nearer(10, 12, 15), nearer(10, 15, 10)], [12, 12, 10]);
        assert_eq!([nearer(10, 15, 7), nearer(10, 3, 6), nearer(10, 8, 20)], [10, 6, 10]);
    }

    proptest! {
        #[test]
        fn l_7_flows_make_all_equally_full_and_nothing_moves_twice(
            all in prop::collection::vec((0_u64..1000, 0_u64..1000), 1..12), threshold in 0_u32..30,
        ) {
            let all: Vec<_> = all.into_iter().map(|(used, free)| full(used * 1000, (used + free + 1) * 1000)).collect();
            let flows = flows(&all, threshold, |_, _| true);
            let before = off(&all);
            let now = off(&after(&all, &flows));
            for (place, (was, is)) in before.iter().zip(&now).enumerate() {
                prop_assert!(is.abs() <= f64::from(threshold) + 0.2, "{place} is {is} % off");
                prop_assert!(is.abs() <= was.abs() + 0.2 && (is * was >= 0.0 || is.abs() < 0.2), "{was} to {is}");
            }
            let givers: BTreeSet<_> = flows.iter().map(|flow| flow.from).collect();
            prop_assert!(flows.iter().all(|flow| flow.bytes > 0 && !givers.contains(&flow.to)));
            let even = before.iter().all(|off| off.abs() <= f64::from(threshold) - 0.2);
            prop_assert!(!even || flows.is_empty(), "nothing moves among those that are even");
        }

        #[test]
        fn l_7_a_move_that_is_allowed_loses_no_rack(racks in prop::collection::vec(0_u8..4, 1..5), from in 0_usize..5, to in 0_u8..4) {
            let from = from % racks.len();
            let name = |rack: &u8| ["a", "b", "c", "d"][*rack as usize];
            let mut moved = racks.clone();
            moved[from] = to;
            let count = |racks: &[u8]| racks.iter().collect::<BTreeSet<_>>().len();
            let keeps = keeps_racks(racks.iter().map(name), name(&racks[from]), name(&to));
            prop_assert_eq!(keeps, count(&moved) >= count(&racks));
        }
    }
}
