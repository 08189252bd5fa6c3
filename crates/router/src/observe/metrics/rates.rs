//! Rates per second: moving averages over one, five and fifteen minutes, as an original's `/varz` has them (and as the load
//! averages of a machine are computed).

use std::time::Duration;

/// The time between two readings of a counter.
pub(crate) const TICK: Duration = Duration::from_secs(5);
const MINUTES: [f64; 3] = [1.0, 5.0, 15.0];

#[derive(Debug, Default)]
pub(crate) struct Rates {
    seen: u64,
    /// The rates; `None` before the first reading.
    rates: Option<[f64; 3]>,
}

impl Rates {
    /// Updates the rates with the counter's value. It must be called every [`TICK`].
    pub(crate) fn tick(&mut self, total: u64) {
        let seconds = TICK.as_secs_f64();
        let now = total.saturating_sub(self.seen) as f64 / seconds;
        self.seen = total;
        let mut rates = self.rates.unwrap_or([now; 3]);
        for (rate, minutes) in rates.iter_mut().zip(MINUTES) {
            let weight = 1.0 - (-seconds / (60.0 * minutes)).exp();
            *rate += weight * (now - *rate);
        }
        self.rates = Some(rates);
    }

    pub(crate) fn per_second(&self) -> [f64; 3] {
        self.rates.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_follow_slowly() {
        let mut rates = Rates::default();
        assert_eq!(rates.per_second(), [0.0; 3]);
        rates.tick(500);
        assert_eq!(
            rates.per_second(),
            [100.0; 3],
            "the first look counts whole"
        );
        for _ in 0..12 {
            rates.tick(500);
        }
        let [one, five, fifteen] = rates.per_second();
        assert!((one - 100.0 * (-1.0_f64).exp()).abs() < 1e-6, "{one}");
        assert!((five - 100.0 * (-0.2_f64).exp()).abs() < 1e-6, "{five}");
        assert!(fifteen > five);
    }
}
