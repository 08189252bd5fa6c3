//! Histograms without a lock on the way of a request.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// Upper bounds and a count for each, and one for what is above.
#[derive(Debug)]
pub(crate) struct Histogram {
    bounds: Arc<[f64]>,
    counts: Box<[AtomicU64]>,
    /// In units of 1 / `scale`.
    sum: AtomicU64,
    scale: f64,
}

impl Histogram {
    /// `scale`: how finely the sum is kept.
    pub(super) fn new(bounds: &[f64], scale: f64) -> Self {
        Self::with(bounds.into(), scale)
    }

    fn with(bounds: Arc<[f64]>, scale: f64) -> Self {
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

    /// `labels`: `name="value"`, or empty.
    fn rows(&self, out: &mut String, name: &str, labels: &str) {
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
    by_label: RwLock<BTreeMap<String, Arc<Histogram>>>,
}

impl Histograms {
    pub(super) fn new(bounds: &[f64], scale: f64) -> Self {
        Self {
            bounds: bounds.into(),
            scale,
            by_label: RwLock::default(),
        }
    }

    pub(crate) fn observe(&self, label: &str, value: f64) {
        let known = self
            .by_label
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(label)
            .cloned();
        let histogram = known.unwrap_or_else(|| {
            let mut all = self
                .by_label
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            let new = || Arc::new(Histogram::with(self.bounds.clone(), self.scale));
            all.entry(label.to_owned()).or_insert_with(new).clone()
        });
        histogram.observe(value);
    }

    fn all(&self) -> Vec<(String, Arc<Histogram>)> {
        let all = self.by_label.read().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(l, h)| (l.clone(), h.clone())).collect()
    }

    pub(super) fn render(&self, out: &mut String, name: &str, label: &str) {
        let _ = writeln!(out, "# TYPE {name} histogram");
        for (value, histogram) in self.all() {
            histogram.rows(out, name, &format!("{label}={value:?}"));
        }
    }

    /// The bounds below which these parts (of 1) of everything observed are, and how much that is.
    pub(crate) fn quantiles(&self, parts: &[f64]) -> (Vec<f64>, u64) {
        let mut counts = vec![0; self.bounds.len() + 1];
        for (_, histogram) in self.all() {
            for (sum, count) in counts.iter_mut().zip(histogram.counts()) {
                *sum += count;
            }
        }
        let total: u64 = counts.iter().sum();
        let of = |part: &f64| {
            let mut seen = 0;
            let at = counts.iter().position(|count| {
                seen += count;
                seen as f64 >= total as f64 * part
            });
            let at = at.unwrap_or_default().min(self.bounds.len().max(1) - 1);
            self.bounds.get(at).copied().unwrap_or_default()
        };
        (parts.iter().map(of).collect(), total)
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
        assert_eq!(
            all.quantiles(&[0.5, 0.75, 0.99]),
            (vec![10.0, 100.0, 100.0], 4)
        );
    }
}
