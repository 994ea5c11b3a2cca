//! The interval of an accuracy difference between two models on the same samples.
//!
//! Only the samples that one of the two gets right and the other wrong say anything about the difference. The interval is
//! the adjusted Wald interval for paired proportions of Bonett and Price (2012, "Adjusted Wald confidence interval for a
//! difference of binomial proportions based on paired data"), which keeps its coverage for small counts.

/// How many standard errors a 95 % interval reaches to either side.
pub const Z_95: f64 = 1.959_963_984_540_054;

/// Low and high end of the 95 % interval of `accuracy(result) - accuracy(baseline)`, where of `n` samples `lost` are
/// right in the baseline only and `gained` in the result only.
///
/// ```
/// let [low, high] = niwaki::report::paired_interval(10_000, 30, 20);
/// assert!(low < -0.001 && -0.001 < high);
/// ```
pub fn paired_interval(n: u64, lost: u64, gained: u64) -> [f64; 2] {
    let n = n as f64 + 2.0;
    let (lost, gained) = ((lost as f64 + 1.0) / n, (gained as f64 + 1.0) / n);
    let delta = gained - lost;
    let error = Z_95 * ((gained + lost - delta * delta) / n).max(0.0).sqrt();
    [(delta - error).max(-1.0), (delta + error).min(1.0)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    #[test]
    fn no_difference_at_all_still_has_a_width() {
        let [low, high] = paired_interval(1000, 0, 0);
        assert!(low < 0.0 && 0.0 < high && high < 0.005);
    }

    /// Draws pairs of models with a known true difference; the interval must hold it about 95 times in 100.
    #[test]
    fn it_holds_the_true_difference_about_95_times_in_100() {
        let mut rng = crate::seed::stream(1, "interval");
        let (p_lost, p_gained, n, rounds) = (0.02, 0.01, 500, 2000);
        let mut held = 0;
        for _ in 0..rounds {
            let (mut lost, mut gained) = (0, 0);
            for _ in 0..n {
                let u: f64 = rng.random();
                lost += u64::from(u < p_lost);
                gained += u64::from((p_lost..p_lost + p_gained).contains(&u));
            }
            let [low, high] = paired_interval(n, lost, gained);
            held += u32::from(low <= p_gained - p_lost && p_gained - p_lost <= high);
        }
        let coverage = f64::from(held) / f64::from(rounds);
        assert!((0.93..=0.985).contains(&coverage), "coverage {coverage}");
    }
}
