//! Computes percentiles and medians.

use std::time::Duration;

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
}
