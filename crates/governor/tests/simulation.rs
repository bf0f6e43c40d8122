//! A governed budget beside another program that takes and gives memory, second by second.
#![allow(clippy::unwrap_used)]

use std::time::Duration;
use weightstream_governor::{Governor, Limits, Pressure};

const MIB: u64 = 1 << 20;
const LIMITS: Limits = Limits {
    least: 50 * MIB,
    most: 800 * MIB,
};
const LIMIT: u64 = 1000 * MIB;
const TICK: Duration = Duration::from_millis(50);

/// What became of it.
struct Course {
    budgets: Vec<u64>,
    killed: bool,
}

impl Course {
    /// How often it changed its mind: growing after shrinking, or the other way.
    fn turns(&self) -> usize {
        let moves: Vec<bool> = self
            .budgets
            .windows(2)
            .filter(|pair| pair[0] != pair[1])
            .map(|pair| pair[1] > pair[0])
            .collect();
        moves.windows(2).filter(|pair| pair[0] != pair[1]).count()
    }

    fn last(&self) -> u64 {
        *self.budgets.last().unwrap()
    }
}

/// The other program uses `other(seconds)` bytes; the model holds its whole budget.
fn run(seconds: u64, stalled: Option<f64>, other: impl Fn(f64) -> u64) -> Course {
    let mut governor = Governor::new(LIMITS);
    let mut course = Course {
        budgets: vec![400 * MIB],
        killed: false,
    };
    let mut now = Duration::ZERO;
    while now < Duration::from_secs(seconds) {
        let budget = course.last();
        let used = budget + other(now.as_secs_f64());
        course.killed |= used > LIMIT;
        let pressure = Pressure {
            limit: LIMIT,
            used,
            stalled,
        };
        course.budgets.push(governor.decide(now, budget, &pressure));
        now += TICK;
    }
    course
}

#[test]
fn it_takes_what_is_free_slowly_and_then_rests() {
    let course = run(120, None, |_| 100 * MIB);
    assert!(!course.killed);
    assert_eq!(course.turns(), 0);
    assert!(course.last() > 750 * MIB, "{}", course.last() / MIB);
    let steps = course.budgets.windows(2).map(|pair| pair[1] - pair[0]);
    assert!(steps.max().unwrap() <= 50 * MIB);
}

#[test]
fn it_gives_way_to_a_program_that_takes_a_gigabyte_a_second() {
    let course = run(60, None, |seconds| {
        (100 + (seconds * 1000.0) as u64).min(850) * MIB
    });
    assert!(!course.killed);
    assert!(course.last() >= LIMITS.least && course.last() <= 100 * MIB);
    assert!(course.turns() <= 1, "{} turns", course.turns());
}

#[test]
fn it_comes_back_when_the_other_goes() {
    let course = run(120, None, |seconds| {
        if (10.0..30.0).contains(&seconds) {
            700 * MIB
        } else {
            100 * MIB
        }
    });
    assert!(course.last() > 750 * MIB);
    // Not at once: nothing grows for ten seconds after it shrank.
    let at = |second: usize| course.budgets[second * 20];
    assert!(at(29) < 250 * MIB && at(32) <= at(29) + 200 * MIB);
}

#[test]
fn a_program_that_goes_up_and_down_does_not_shake_it() {
    // A sawtooth of 200 MiB every two seconds.
    let course = run(300, None, |seconds| {
        (500 + ((seconds % 2.0) * 100.0) as u64) * MIB
    });
    assert!(!course.killed);
    // Growing again is tried once in ten seconds at most.
    assert!(course.turns() <= 60, "{} turns", course.turns());
    let settled = &course.budgets[course.budgets.len() / 2..];
    let (low, high) = (settled.iter().min().unwrap(), settled.iter().max().unwrap());
    assert!(
        high - low <= 120 * MIB,
        "{} to {} MiB",
        low / MIB,
        high / MIB
    );
}

#[test]
fn stalls_shrink_it_to_its_least_and_no_further() {
    let course = run(60, Some(30.0), |_| 100 * MIB);
    assert_eq!(course.last(), LIMITS.least);
    assert_eq!(course.turns(), 0);
}
