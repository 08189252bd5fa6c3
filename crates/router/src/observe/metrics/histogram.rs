//! Histograms that need no lock during a request.

use super::labelled::Labelled;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A histogram: upper bounds with a count for each, and one count for larger values.
#[derive(Debug)]
pub(crate) struct Histogram {
    bounds: Arc<[f64]>,
    counts: Box<[AtomicU64]>,
    /// The sum of the values, in units of 1 / `scale`.
    sum: AtomicU64,
    scale: f64,
}

impl Histogram {
    /// Creates a histogram. `scale`: the resolution of the sum, which is kept in units of 1 / `scale`.
    pub(super) fn new(bounds: &[f64], scale: f64) -> Self {
        Self::with(bounds.into(), scale)
    }

    pub(super) fn with(bounds: Arc<[f64]>, scale: f64) -> Self {
        Self {
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            bounds,
            sum: AtomicU64::new(0),
            scale,
        }
    }

    pub(crate) fn observe(&self, value: f64) {
        let at = self.bounds.partition_point(|bound| *bound < value);
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        let part = (value.max(0.0) * self.scale).round() as u64;
        self.sum.fetch_add(part, Ordering::Relaxed);
    }

    fn counts(&self) -> Vec<u64> {
        let loaded = self.counts.iter().map(|n| n.load(Ordering::Relaxed));
        loaded.collect()
    }

    pub(super) fn render(&self, out: &mut String, name: &str) {
        let _ = writeln!(out, "# TYPE {name} histogram");
        self.rows(out, name, "");
    }

    /// Writes the rows. `labels`: `name="value"`, or empty.
    pub(super) fn rows(&self, out: &mut String, name: &str, labels: &str) {
        let comma = if labels.is_empty() { "" } else { "," };
        let mut total = 0;
        let counts = self.counts();
        let bounds = self.bounds.iter().map(f64::to_string);
        for (bound, count) in bounds.chain(["+Inf".to_owned()]).zip(counts) {
            total += count;
            let _ = writeln!(
                out,
                "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {total}"
            );
        }
        let labels = if labels.is_empty() {
            String::new()
        } else {
            format!("{{{labels}}}")
        };
        let sum = self.sum.load(Ordering::Relaxed) as f64 / self.scale;
        let _ = writeln!(
            out,
            "{name}_sum{labels} {sum}\n{name}_count{labels} {total}"
        );
    }
}

/// Histograms by one label.
#[derive(Debug)]
pub(crate) struct Histograms {
    bounds: Arc<[f64]>,
    scale: f64,
    by_label: Labelled<String, Histogram>,
}

impl Histograms {
    pub(super) fn new(bounds: &[f64], scale: f64) -> Self {
        Self {
            bounds: bounds.into(),
            scale,
            by_label: Labelled::default(),
        }
    }

    pub(crate) fn observe(&self, label: &str, value: f64) {
        let new = || Histogram::with(self.bounds.clone(), self.scale);
        self.by_label.with(label, new, |h| h.observe(value));
    }

    pub(super) fn render(&self, out: &mut String, name: &str, label: &str) {
        let _ = writeln!(out, "# TYPE {name} histogram");
        for (value, histogram) in self.by_label.all() {
            histogram.rows(out, name, &format!("{label}={value:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_add_up_and_sums_are_fine_grained() {
        let histogram = Histogram::new(&[1.0, 2.0], 1e3);
        for value in [0.5, 1.0, 1.001, 3.0] {
            histogram.observe(value);
        }
        let mut text = String::new();
        histogram.render(&mut text, "t");
        assert_eq!(
            text,
            "# TYPE t histogram\nt_bucket{le=\"1\"} 2\nt_bucket{le=\"2\"} 3\nt_bucket{le=\"+Inf\"} 4\nt_sum 5.501\nt_count 4\n"
        );
    }

    #[test]
    fn one_histogram_for_each_label() {
        let all = Histograms::new(&[1.0, 10.0, 100.0], 1e3);
        for (label, value) in [("a", 0.5), ("a", 5.0), ("b", 50.0), ("b", 500.0)] {
            all.observe(label, value);
        }
        let mut text = String::new();
        all.render(&mut text, "latency", "component");
        assert!(
            text.contains("latency_bucket{component=\"a\",le=\"10\"} 2\n"),
            "{text}"
        );
        assert!(
            text.contains("latency_count{component=\"b\"} 2\n"),
            "{text}"
        );
    }
}
