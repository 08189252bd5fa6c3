//! Computes percentiles and medians.

use serde::Serialize;
use std::time::Duration;

/// The quantiles of the times of one kind, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    pub count: usize,
    /// The arithmetic mean, which other benchmarks publish.
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub max: f64,
}

impl Summary {
    /// Returns the quantiles of some times; `None` if there are none.
    pub fn of(times: &[f64]) -> Option<Self> {
        let times = sorted(times);
        let max = *times.last()?;
        let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|q| quantile(&times, q));
        Some(Self {
            count: times.len(),
            mean: times.iter().sum::<f64>() / times.len() as f64,
            p50,
            p90,
            p99,
            max,
        })
    }
}

/// Returns the q-quantile (q from 0 to 1) of sorted values, by the nearest rank.
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    if sorted.is_empty() {
        return f64::NAN;
    }
    sorted[((sorted.len() - 1) as f64 * q).round() as usize]
}

pub fn sorted(values: &[f64]) -> Vec<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values
}

/// Returns the value in the middle; of an even number of values, the mean of the two in the middle.
pub fn median(values: &[f64]) -> f64 {
    let values = sorted(values);
    let Some(last) = values.len().checked_sub(1) else {
        return f64::NAN;
    };
    f64::midpoint(values[last / 2], values[last.div_ceil(2)])
}

pub fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NAN, f64::min)
}

pub fn most(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NAN, f64::max)
}

pub fn milliseconds(times: &[Duration]) -> Vec<f64> {
    let values: Vec<f64> = times.iter().map(|t| t.as_secs_f64() * 1000.0).collect();
    sorted(&values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles() {
        let values = sorted(&[5.0, 1.0, 3.0, 2.0, 4.0]);
        assert_eq!(quantile(&values, 0.0), 1.0);
        assert_eq!(quantile(&values, 0.5), 3.0);
        assert_eq!(quantile(&values, 0.99), 5.0);
        assert!(quantile(&[], 0.5).is_nan());
        assert_eq!(median(&[2.0, 9.0, 1.0]), 2.0);
        assert_eq!(median(&[2.0, 9.0, 1.0, 4.0]), 3.0);
        assert!(median(&[]).is_nan());
        assert_eq!(most(&[2.0, 1.0]), 2.0);
        assert_eq!(least(&[2.0, 1.0]), 1.0);
    }

    #[test]
    fn a_summary_needs_one_time() {
        assert_eq!(Summary::of(&[]), None);
        let times: Vec<f64> = (1..=101).rev().map(f64::from).collect();
        let summary = Summary::of(&times).unwrap();
        assert_eq!((summary.count, summary.mean), (101, 51.0));
        assert_eq!((summary.p50, summary.p90), (51.0, 91.0));
        assert_eq!((summary.p99, summary.max), (100.0, 101.0));
        let one = Summary::of(&[7.0]).unwrap();
        assert_eq!((one.p50, one.p99, one.max), (7.0, 7.0, 7.0));
    }
}
