//! Second attempts: how long is long, how often, and who wins.

use std::time::Duration;

use base::clock::Moment;
use proptest::prelude::*;

use super::hedge::{FirstPackets, Hedge, HedgeBudget, HedgeConfig, HedgeEffect, HedgeEvent, Lane};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn at(ms: u64) -> Moment {
    Moment::after_start(Duration::from_millis(ms))
}

#[test]
fn long_is_what_one_in_a_hundred_takes_and_only_recently() {
    let config = HedgeConfig::default();
    let mut packets = FirstPackets::default();
    (0..15).for_each(|_| packets.note(ms(30)));
    assert_eq!(packets.delay(&config), config.max_delay, "too few to know");
    packets.note(ms(30));
    assert_eq!(packets.delay(&config), ms(30));
    packets.note(ms(700));
    assert_eq!(packets.delay(&config), ms(700), "one of few is more than one in a hundred");
    (0..110).for_each(|_| packets.note(ms(30)));
    assert_eq!(packets.delay(&config), ms(30), "one of many is not");
    packets.note(ms(700));
    assert_eq!(packets.delay(&config), ms(700), "two of 128 are");
    (0..128).for_each(|_| packets.note(ms(40)));
    assert_eq!(packets.delay(&config), ms(40), "what was long ago is forgotten");
    (0..128).for_each(|_| packets.note(ms(1)));
    assert_eq!(packets.delay(&config), config.min_delay);
    (0..128).for_each(|_| packets.note(ms(60_000)));
    assert_eq!(packets.delay(&config), config.max_delay);
}

#[test]
fn without_a_budget_there_is_no_second_attempt() {
    let config = HedgeConfig::off();
    assert!(!config.is_on());
    let mut budget = HedgeBudget::new(&config);
    (0..1000).for_each(|_| budget.read_begins(&config));
    assert!(!budget.grant(&config, at(0)) && !budget.grant(&config, at(60_000)));
    let mut hedge = Hedge::new(&config, ms(10));
    hedge.handle(HedgeEvent::Waits, at(0), &mut vec![]);
    assert_eq!(hedge.next_deadline(), None);
}

/// Plays events `(ms, event)` and notes what is to be done.
fn play(hedge: &mut Hedge, events: &[(u64, HedgeEvent)]) -> Vec<HedgeEffect> {
    let mut out = Vec::new();
    events.iter().for_each(|(now, event)| hedge.handle(*event, at(*now), &mut out));
    out
}

use HedgeEffect::{Drop, Took, WantsSecond};
use HedgeEvent::{Brought, Failed, Second, Tick, Waits};

#[test]
fn l_5_who_delivers_first_wins_and_the_other_is_dropped() {
    let config = HedgeConfig::default();
    let slow = [(0, Waits), (29, Tick), (30, Tick), (30, Second { granted: true })];
    for (winner, loser) in [(Lane::First, Lane::Second), (Lane::Second, Lane::First)] {
        let mut hedge = Hedge::new(&config, ms(30));
        assert_eq!(play(&mut hedge, &slow), [WantsSecond]);
        assert!(hedge.is_racing() && hedge.next_deadline().is_none(), "there is no third attempt");
        let done = play(&mut hedge, &[(50, Brought(winner))]);
        assert_eq!(done, [Took(ms(50)), Drop { lane: loser, slower: true }]);
        assert!(!hedge.is_racing());
    }
}

#[test]
fn a_fast_packet_and_a_refusal_start_nothing() {
    let config = HedgeConfig::default();
    let mut hedge = Hedge::new(&config, ms(30));
    assert_eq!(play(&mut hedge, &[(0, Waits), (29, Brought(Lane::First)), (31, Tick)]), [Took(ms(29))]);
    let mut hedge = Hedge::new(&config, ms(30));
    let refused = [(0, Waits), (30, Tick), (30, Second { granted: false }), (90, Tick), (99, Brought(Lane::First))];
    assert_eq!(play(&mut hedge, &refused), [WantsSecond, Took(ms(99))]);
}

#[test]
fn what_fails_in_a_race_leaves_the_other_alone() {
    let config = HedgeConfig::default();
    for lane in [Lane::First, Lane::Second] {
        let mut hedge = Hedge::new(&config, ms(30));
        play(&mut hedge, &[(0, Waits), (30, Tick), (30, Second { granted: true })]);
        assert_eq!(play(&mut hedge, &[(40, Failed(lane))]), [Drop { lane, slower: false }]);
        assert_eq!(play(&mut hedge, &[(99, Tick), (999, Brought(Lane::First))]), [Took(ms(999))]);
    }
}

#[test]
fn l_5_who_was_refused_asks_again_and_again_while_nothing_comes() {
    let config = HedgeConfig::default();
    let mut hedge = Hedge::new(&config, ms(30));
    let refused = [(0, Waits), (30, Tick), (30, Second { granted: false })];
    assert_eq!(play(&mut hedge, &refused), [WantsSecond]);
    assert_eq!(hedge.next_deadline(), Some(at(1030)));
    assert_eq!(play(&mut hedge, &[(1029, Tick), (1030, Tick), (1030, Second { granted: true })]), [WantsSecond]);
    assert!(hedge.is_racing());
    assert_eq!(play(&mut hedge, &[(1040, Failed(Lane::Second))]), [Drop { lane: Lane::Second, slower: false }]);
    assert_eq!(play(&mut hedge, &[(2039, Tick), (2040, Tick)]), [WantsSecond], "also when the other one failed");
}

#[test]
fn l_5_a_client_that_reads_little_earns_second_attempts_with_time() {
    let config = HedgeConfig::default();
    let mut budget = HedgeBudget::new(&config);
    for _ in 0..config.burst {
        assert!(budget.grant(&config, at(0)));
        budget.over();
    }
    assert!(!budget.grant(&config, at(499)), "two in a second");
    assert!(budget.grant(&config, at(500)));
    budget.over();
    // Asked ever so often, no time is lost.
    assert!((501..1000).all(|now| !budget.grant(&config, at(now))));
    assert!(budget.grant(&config, at(1000)));
    budget.over();
    for _ in 0..config.burst {
        assert!(budget.grant(&config, at(600_000)));
        budget.over();
    }
    assert!(!budget.grant(&config, at(600_000)), "no more than the burst is saved up");
}

#[test]
fn a_stream_that_stalls_is_raced_too_but_not_while_nobody_waits() {
    let config = HedgeConfig { stall: ms(500), ..HedgeConfig::default() };
    let mut hedge = Hedge::new(&config, ms(30));
    play(&mut hedge, &[(0, Waits), (1, Brought(Lane::First))]);
    assert_eq!(hedge.next_deadline(), None, "the application is busy");
    assert_eq!(play(&mut hedge, &[(60_000, Tick), (70_000, Waits), (70_499, Tick)]), []);
    assert_eq!(hedge.next_deadline(), Some(at(70_500)));
    assert_eq!(play(&mut hedge, &[(70_500, Tick)]), [WantsSecond]);
}

proptest! {
    /// Whatever happens, second attempts stay within the budget.
    #[test]
    fn no_more_than_the_budget(
        percent in 0..120_u32,
        burst in 0..5_u32,
        per_s in 0..4_u32,
        in_flight in 0..4_u32,
        steps in proptest::collection::vec((0..3_u8, 0..300_u64), 0..500),
    ) {
        let config = HedgeConfig { percent, burst, per_s, in_flight, ..HedgeConfig::default() };
        let mut budget = HedgeBudget::new(&config);
        let (mut reads, mut granted, mut open, mut now) = (0_u64, 0_u64, 0_u32, 0_u64);
        for (step, passed_ms) in steps {
            now += passed_ms;
            match step {
                0 => { budget.read_begins(&config); reads += 1; }
                1 if budget.grant(&config, at(now)) => { granted += 1; open += 1; }
                2 if open > 0 => { budget.over(); open -= 1; }
                _ => {}
            }
            prop_assert!(open <= in_flight);
            let earned = reads * u64::from(percent) * 10 + now * u64::from(per_s);
            prop_assert!(granted * 1000 <= u64::from(burst) * 1000 + earned);
        }
    }

    /// The remembered times are those that came last, whatever they are.
    #[test]
    fn the_estimate_is_that_of_the_last_ones(times in proptest::collection::vec(0..2000_u64, 16..400)) {
        let config = HedgeConfig { min_delay: ms(0), max_delay: ms(5000), ..HedgeConfig::default() };
        let mut packets = FirstPackets::default();
        times.iter().for_each(|time| packets.note(ms(*time)));
        let mut last: Vec<u64> = times.iter().rev().take(128).copied().collect();
        last.sort_unstable();
        let rank = (last.len() * 99).div_ceil(100);
        prop_assert_eq!(packets.delay(&config), ms(last[rank - 1]));
    }
}
