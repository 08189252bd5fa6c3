//! Metrics of one component: counters, levels and histograms, and their rows in Prometheus' text format.
//!
//! A component creates its metrics in a [`Registry`] when it is built, and changes them where things happen. The process reads
//! the registries of its components ([`Page`]). Every value is real or absent: a counter begins at 0 with its component, and a
//! level that nobody has measured yet has no row. Metrics are never removed, and no label has a value for each user's object.

use crate::readiness::Readiness;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder, text};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::{MetricType, TypedMetric, histogram};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The bounds of histograms of requests, in seconds.
pub const REQUEST_SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
/// The bounds of histograms of longer work, in seconds.
pub const WORK_SECONDS: &[f64] = &[
    0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0,
];

/// The parts of a component that operators see.
#[derive(Clone, Debug)]
pub struct Observed {
    pub metrics: Arc<dyn Page>,
    pub readiness: Readiness,
}

/// A source of rows in Prometheus' text format.
pub trait Page: fmt::Debug + Send + Sync {
    fn text(&self) -> String;
}

/// The metrics of a component. A name is written out where its metric is created, so that a search finds it. The name of a
/// counter ends in `_total`, that of a duration in `_seconds`. A help text has no full stop; the page adds it.
#[derive(Debug, Default)]
pub struct Registry(prometheus_client::registry::Registry);

impl Registry {
    /// Adds a counter of events.
    pub fn counter(&mut self, name: &str, help: &str) -> Counter {
        let counter = Counter::default();
        self.0.register(name, help, counter.clone());
        counter
    }

    /// Adds a counter with labels. Each label has few values, which the operator knows beforehand.
    pub fn counters<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        labels: [&'static str; N],
    ) -> Counters<N> {
        let counters = Counters {
            labels,
            family: Family::default(),
        };
        self.0.register(name, help, counters.family.clone());
        counters
    }

    /// Adds a level that the component sets when it measures it.
    pub fn level(&mut self, name: &str, help: &str) -> Level {
        let level = Level::default();
        self.0.register(name, help, level.clone());
        level
    }

    /// Adds a counter whose owner counts it, and which is read when the page is.
    pub fn read_total(
        &mut self,
        name: &str,
        help: &str,
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        self.0.register(name, help, ReadTotal(Box::new(read)));
    }

    /// Adds a level that is read when the page is. `None` means that there is no value at present.
    pub fn read(
        &mut self,
        name: &str,
        help: &str,
        read: impl Fn() -> Option<f64> + Send + Sync + 'static,
    ) {
        self.0.register(name, help, Read(Box::new(read)));
    }

    /// Adds levels that are read when the page is, one for each value of `label`.
    pub fn read_all(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        read: impl Fn() -> Vec<(String, f64)> + Send + Sync + 'static,
    ) {
        let read = Box::new(read);
        self.0.register(name, help, ReadAll { label, read });
    }

    /// Adds a number of things that happen now.
    pub fn in_flight(&mut self, name: &str, help: &str) -> InFlight {
        let in_flight = InFlight::default();
        self.0.register(name, help, in_flight.clone());
        in_flight
    }

    /// Adds a histogram of durations. `bounds` are the upper bounds of its buckets in seconds, in ascending order.
    pub fn histogram(&mut self, name: &str, help: &str, bounds: &[f64]) -> Histogram {
        let histogram = Histogram(histogram::Histogram::new(bounds.iter().copied()));
        self.0.register(name, help, histogram.0.clone());
        histogram
    }
}

impl Page for Registry {
    fn text(&self) -> String {
        let mut out = String::new();
        if text::encode_registry(&mut out, &self.0).is_err() {
            // A `String` accepts everything; only a number that the format cannot express is an error.
            tracing::error!("metrics-not-written: a metric has a value beyond the format");
        }
        out
    }
}

/// A number of events since the component was built. It is cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    pub fn add(&self, events: u64) {
        self.0.fetch_add(events, Ordering::Relaxed);
    }

    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl TypedMetric for Counter {
    const TYPE: MetricType = MetricType::Counter;
}

impl EncodeMetric for Counter {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        // The library's counters append `_total` to the name in the row alone, as OpenMetrics does. In the classic format, type
        // and row have one name, so the name is complete from the beginning.
        encoder.encode_gauge(&self.value())
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// Counters that differ in the values of their labels. A counter exists from its first event on.
#[derive(Clone, Debug)]
pub struct Counters<const N: usize> {
    labels: [&'static str; N],
    family: Family<[(&'static str, String); N], Counter>,
}

impl<const N: usize> Counters<N> {
    /// Returns the counter with these values, in the order of the labels.
    pub fn with(&self, values: [&str; N]) -> Counter {
        let set = std::array::from_fn(|at| (self.labels[at], escaped(values[at])));
        self.family.get_or_create_owned(&set)
    }
}

/// The last measurement of something.
#[derive(Clone, Debug)]
pub struct Level(Arc<AtomicU64>);

impl Default for Level {
    /// Creates a level without a measurement, which is not a number.
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(f64::NAN.to_bits())))
    }
}

impl Level {
    pub fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    /// Returns the last measurement, if there is one.
    pub fn value(&self) -> Option<f64> {
        let value = f64::from_bits(self.0.load(Ordering::Relaxed));
        (!value.is_nan()).then_some(value)
    }
}

impl EncodeMetric for Level {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        match self.value() {
            Some(value) => encoder.encode_gauge(&value),
            None => Ok(()),
        }
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

struct Read(Box<dyn Fn() -> Option<f64> + Send + Sync>);

impl fmt::Debug for Read {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Read").finish_non_exhaustive()
    }
}

impl EncodeMetric for Read {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        match (self.0)() {
            Some(value) => encoder.encode_gauge(&value),
            None => Ok(()),
        }
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

struct ReadTotal(Box<dyn Fn() -> u64 + Send + Sync>);

impl fmt::Debug for ReadTotal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadTotal").finish_non_exhaustive()
    }
}

impl EncodeMetric for ReadTotal {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        encoder.encode_gauge(&(self.0)())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}

struct ReadAll {
    label: &'static str,
    read: Box<dyn Fn() -> Vec<(String, f64)> + Send + Sync>,
}

impl fmt::Debug for ReadAll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadAll")
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}

impl EncodeMetric for ReadAll {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (name, value) in (self.read)() {
            let labels = [(self.label, escaped(&name))];
            encoder.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

/// A number of things that happen now. It is cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct InFlight(Arc<AtomicI64>);

impl InFlight {
    /// Counts one thing more until the result is dropped.
    #[must_use]
    pub fn begin(&self) -> Begun {
        self.0.fetch_add(1, Ordering::Relaxed);
        Begun(self.0.clone())
    }
}

impl EncodeMetric for InFlight {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        encoder.encode_gauge(&self.0.load(Ordering::Relaxed))
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

/// A thing that happens now. It is counted until it is dropped.
#[derive(Debug)]
pub struct Begun(Arc<AtomicI64>);

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A distribution of durations. It is cheap to clone.
#[derive(Clone, Debug)]
pub struct Histogram(histogram::Histogram);

impl Histogram {
    pub fn observe(&self, took: Duration) {
        self.0.observe(took.as_secs_f64());
    }
}

/// The requests of one HTTP server: those that were answered, those that are not answered yet, and the time until the head of
/// each response.
#[derive(Clone, Debug)]
pub struct Requests {
    pub answered: Counter,
    pub outstanding: InFlight,
    pub latency: Histogram,
}

impl Requests {
    /// Counts every request that `app` serves.
    pub fn count(self, app: axum::Router) -> axum::Router {
        app.layer(middleware::from_fn_with_state(self, counted))
    }
}

async fn counted(State(requests): State<Requests>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    // A client that leaves drops this future, so its request is not outstanding any more.
    let outstanding = requests.outstanding.begin();
    let response = next.run(request).await;
    drop(outstanding);
    requests.latency.observe(began.elapsed());
    requests.answered.add(1);
    response
}

/// Returns a label's value as the format wants it.
fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_every_kind_of_metric() {
        let mut registry = Registry::default();
        let starts = registry.counter("starts_total", "Starts");
        starts.add(2);
        let failures = registry.counters("failures_total", "Failures", ["cause"]);
        failures.with(["a \"b\""]).add(1);
        let pass = registry.histogram("pass_seconds", "Passes", &[0.5, 1.0]);
        pass.observe(Duration::from_millis(750));
        registry.read("cells", "Cells", || Some(3.0));
        registry.read_total("bytes_total", "Bytes", || 7);
        registry.read_all("fresh", "Fresh domains", "domain", || {
            vec![("d".to_owned(), 1.0)]
        });
        let page = registry.text();
        for row in [
            "# HELP starts_total Starts.\n# TYPE starts_total counter\nstarts_total 2\n",
            "# TYPE failures_total counter\nfailures_total{cause=\"a \\\"b\\\"\"} 1\n",
            "# TYPE pass_seconds histogram\npass_seconds_sum 0.75\npass_seconds_count 1\n",
            "pass_seconds_bucket{le=\"0.5\"} 0\npass_seconds_bucket{le=\"1.0\"} 1\npass_seconds_bucket{le=\"+Inf\"} 1\n",
            "# TYPE cells gauge\ncells 3.0\n",
            "# TYPE bytes_total counter\nbytes_total 7\n",
            "fresh{domain=\"d\"} 1.0\n",
        ] {
            assert!(page.contains(row), "{row}\n{page}");
        }
    }

    #[test]
    fn what_was_not_measured_has_no_row() {
        let mut registry = Registry::default();
        let level = registry.level("lag_seconds", "The lag");
        registry.read("absent", "Nothing", || None);
        let rows = |registry: &Registry| {
            let page = registry.text();
            let rows = page.lines().filter(|line| !line.starts_with('#'));
            rows.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(rows(&registry), Vec::<String>::new());
        level.set(0.5);
        assert_eq!(rows(&registry), ["lag_seconds 0.5"]);
    }

    #[test]
    fn things_in_flight_are_counted_until_they_end() {
        let mut registry = Registry::default();
        let calls = registry.in_flight("calls", "Calls");
        let (first, second) = (calls.begin(), calls.begin());
        drop(first);
        assert!(registry.text().contains("\ncalls 1\n"));
        drop(second);
        assert!(registry.text().contains("\ncalls 0\n"));
    }
}
