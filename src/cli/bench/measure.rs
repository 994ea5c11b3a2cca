//! How a case is measured: the median over runs that follow each other.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::case::Work;
use crate::cli::failure::Failure;
use crate::exec::Awake;

/// Runs before those that are measured: memory is touched and caches are filled then.
const WARM_UPS: usize = 2;
/// Runs that are measured at most.
const MOST: usize = 300;
/// Time after which no run is begun but the first, whatever the rule says; the same for the warm-ups.
const PATIENCE: Duration = Duration::from_secs(10);

/// For how long a case is measured: until there are `least` runs and the budget is spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Runs at least.
    pub least: usize,
    /// Time after which no further run is begun.
    pub budget: Duration,
}

impl Rule {
    /// At least five runs, a second in all.
    pub const SECOND: Self = Self { least: 5, budget: Duration::from_secs(1) };
    /// At least five runs, two seconds in all.
    pub const TWO_SECONDS: Self = Self { least: 5, budget: Duration::from_secs(2) };
    /// Three runs, for work that takes long.
    pub const THREE_RUNS: Self = Self { least: 3, budget: Duration::ZERO };
}

/// How long a step takes, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Timing {
    /// The median over all runs; of two in the middle the longer one.
    pub median: f64,
    /// The shortest run.
    pub least: f64,
    /// How many runs there were.
    pub runs: usize,
}

/// Does the work again and again. `stop` ends it early.
pub fn measure(work: &mut dyn Work, rule: Rule, stop: &AtomicBool) -> Result<Timing, Failure> {
    let mut runs = |least: usize, most: usize, budget: Duration| {
        let (mut times, start) = (Vec::new(), Instant::now());
        loop {
            if stop.load(Ordering::Relaxed) {
                return Err(Failure::interrupted("stopped"));
            }
            let clock = Instant::now();
            work.step()?;
            times.push(clock.elapsed().as_secs_f64());
            let (count, spent) = (times.len(), start.elapsed());
            let wanted = count < least || (spent < budget && count < most);
            if !wanted || spent > PATIENCE {
                return Ok(times);
            }
        }
    };
    let _awake = Awake::new();
    runs(WARM_UPS, WARM_UPS, Duration::ZERO)?;
    let mut times = runs(rule.least, MOST, rule.budget)?;
    times.sort_by(f64::total_cmp);
    Ok(Timing { median: times[times.len() / 2], least: times[0], runs: times.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs of work that takes no time, and how many of them were measured.
    fn runs(rule: Rule) -> (usize, usize) {
        let mut runs = 0;
        let timing = measure(&mut || runs += 1, rule, &AtomicBool::new(false)).unwrap();
        assert!(timing.least <= timing.median);
        (runs, timing.runs)
    }

    #[test]
    fn there_are_warm_ups_and_no_more_and_no_fewer_runs_than_the_rule_says() {
        assert_eq!(runs(Rule::THREE_RUNS), (5, 3));
        assert_eq!(runs(Rule { least: 5, budget: Duration::from_secs(3600) }), (302, 300));
    }

    #[test]
    fn it_stops_when_it_is_told_to() {
        let stop = AtomicBool::new(false);
        let mut work = || stop.store(true, Ordering::Relaxed);
        assert_eq!(measure(&mut work, Rule::SECOND, &stop).unwrap_err().reason, "INTERRUPTED");
    }
}
