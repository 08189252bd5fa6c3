//! The durations of recent requests: counts in narrow ranges, in which old requests weigh less and less. Percentiles from it are
//! right to 3 %.

use super::rates::TICK;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The number of ranges between two powers of two.
const PARTS: usize = 16;
const BITS: u32 = PARTS.trailing_zeros();
/// The number of ranges, up to 2^36 microseconds, 19 hours.
const RANGES: usize = PARTS * (36 - BITS as usize + 1);
/// The part of its weight that a count loses each second; an original's sample forgets as fast.
const FADES: f64 = 0.015;

#[derive(Debug)]
pub(crate) struct Spread(Box<[AtomicU64]>);

impl Default for Spread {
    fn default() -> Self {
        Self((0..RANGES).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Spread {
    pub(crate) fn observe(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.0[range(micros)].fetch_add(1, Ordering::Relaxed);
    }
}

fn range(micros: u64) -> usize {
    if micros < PARTS as u64 {
        return micros as usize;
    }
    let power = micros.ilog2() - BITS;
    let part = (micros >> power) as usize - PARTS;
    (PARTS * (power as usize + 1) + part).min(RANGES - 1)
}

/// Returns the middle of a range, in seconds.
fn middle(range: usize) -> f64 {
    if range < PARTS {
        return range as f64 / 1e6;
    }
    let (power, part) = (range / PARTS - 1, range % PARTS);
    let width = (1_u64 << power) as f64;
    ((PARTS + part) as f64 + 0.5) * width / 1e6
}

/// The counts of a [`Spread`] with their weights.
#[derive(Debug)]
pub(crate) struct Recent {
    seen: Vec<u64>,
    weights: Vec<f64>,
}

impl Default for Recent {
    fn default() -> Self {
        Self {
            seen: vec![0; RANGES],
            weights: vec![0.0; RANGES],
        }
    }
}

impl Recent {
    /// Updates the weights. It must be called every [`TICK`].
    pub(crate) fn tick(&mut self, spread: &Spread) {
        let fade = (-FADES * TICK.as_secs_f64()).exp();
        for (at, count) in spread.0.iter().enumerate() {
            let count = count.load(Ordering::Relaxed);
            let new = count.saturating_sub(self.seen[at]) as f64;
            self.weights[at] = self.weights[at] * fade + new;
            self.seen[at] = count;
        }
    }

    /// Adds the weights, and the counts since the last tick, to `sum`.
    pub(crate) fn add_to(&self, spread: &Spread, sum: &mut Weights) {
        for (at, count) in spread.0.iter().enumerate() {
            let new = count.load(Ordering::Relaxed).saturating_sub(self.seen[at]);
            sum.0[at] += self.weights[at] + new as f64;
        }
    }
}

/// The weights of one spread or of several together.
#[derive(Debug)]
pub(crate) struct Weights(Vec<f64>);

impl Default for Weights {
    fn default() -> Self {
        Self(vec![0.0; RANGES])
    }
}

impl Weights {
    /// Returns the seconds below which this part (of 1) of the requests stayed; 0 when there were none.
    pub(crate) fn quantile(&self, part: f64) -> f64 {
        let wanted = self.total() * part;
        let mut sum = 0.0;
        let at = self.0.iter().position(|weight| {
            sum += weight;
            sum > 0.0 && sum >= wanted
        });
        at.map_or(0.0, middle)
    }

    pub(crate) fn total(&self) -> f64 {
        self.0.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_has_a_range_near_it() {
        for micros in (0..200_000).chain([1 << 30, (1 << 36) - 1]) {
            let middle = middle(range(micros)) * 1e6;
            let off = (middle - micros as f64).abs();
            assert!(off <= micros as f64 / 31.0, "{micros} in {middle}");
        }
        assert_eq!(range(u64::MAX), RANGES - 1);
    }

    #[test]
    fn percentiles_of_the_last_minutes() {
        let (spread, mut recent) = (Spread::default(), Recent::default());
        let weights = |recent: &Recent, spread: &Spread| {
            let mut weights = Weights::default();
            recent.add_to(spread, &mut weights);
            weights
        };
        assert_eq!(weights(&recent, &spread).quantile(0.5), 0.0);
        for millis in 1..=100 {
            spread.observe(Duration::from_millis(millis));
        }
        for part in [0.5, 0.9, 0.99] {
            let found = weights(&recent, &spread).quantile(part);
            assert!(
                (found - part / 10.0).abs() < part * 0.004,
                "{part}: {found}"
            );
        }
        for _ in 0..720 {
            recent.tick(&spread);
        }
        spread.observe(Duration::from_secs(1));
        let later = weights(&recent, &spread);
        assert!((later.quantile(0.5) - 1.0).abs() < 0.04, "an hour later");
        assert!((later.total() - 1.0).abs() < 1e-6);
    }
}
