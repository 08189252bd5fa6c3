//! Counters and histograms under gorouter's names: for Prometheus, for `/varz`, and for envelopes to metron.

mod histogram;
mod labelled;
mod processor;
mod rates;
mod spread;
pub(crate) mod text;
mod top_apps;
mod traffic;

pub(crate) use labelled::Counter;
pub(crate) use processor::{open_files, resident_kilobytes};
pub(crate) use rates::TICK;
pub(crate) use spread::Weights;
pub(crate) use traffic::{Passed, Responses};

use crate::backend::fault::Fault;
use crate::backend::peer;
use crate::config::Lasting;
use crate::observe::envelopes::Envelopes;
use crate::observe::record::FinishedRequest;
use histogram::{Histogram, Histograms};
use labelled::{Labelled, Outcomes};
use processor::Processor;
use route_table::registry::Endpoint;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use top_apps::TopApps;
use traffic::Traffic;

#[derive(Debug)]
pub(crate) struct Metrics {
    /// The registrations by component and action.
    pub(crate) registry_message: Outcomes,
    /// The unregistrations by component.
    pub(crate) unregistry_message: Labelled<String, Counter>,
    pub(crate) routes_registered: Counter,
    pub(crate) routes_unregistered: Counter,
    pub(crate) routes_pruned: Counter,
    /// The registrations of apps on components' hosts that were refused.
    pub(crate) component_routes_refused: Counter,
    /// The requests to emitters for messages that were lost.
    pub(crate) route_differences_requested: Counter,
    /// The errors with the Routing API.
    pub(crate) token_fetch_errors: Counter,
    pub(crate) subscribe_events_errors: Counter,
    pub(crate) buffered_messages: AtomicU64,
    pub(crate) total_dropped_messages: Counter,
    /// The buffers that hold bytes on their way; there are none while nothing moves.
    pub(crate) buffers_held: Arc<AtomicU64>,
    pub(crate) websocket_upgrades: Counter,
    pub(crate) websocket_failures: Counter,
    pub(crate) backend_exhausted_conns: Counter,
    pub(crate) backend_invalid_id: Counter,
    pub(crate) backend_invalid_tls_cert: Counter,
    pub(crate) backend_tls_handshake_failed: Counter,
    pub(crate) rejected_requests: Counter,
    pub(crate) bad_gateways: Counter,
    pub(crate) empty_content_length_header: Counter,
    pub(crate) traffic: Traffic,
    /// The responses of route services.
    pub(crate) route_services: Responses,
    route_lookup_time: Histogram,
    route_registration_latency: Histogram,
    gorouter_time: Histogram,
    http_latency: Histograms,
    processor: Mutex<Processor>,
    /// The apps with the most requests; `None`: no page shows them.
    top_apps: Option<Mutex<TopApps>>,
    /// The sender of envelopes; `None`: metron gets no metrics.
    envelopes: Option<Arc<Envelopes>>,
    per_request: bool,
    per_app: bool,
    /// The numbers that could not be found for Prometheus' page.
    not_gathered: Counter,
}

impl Metrics {
    pub(crate) fn new(settings: &Lasting, envelopes: Option<Arc<Envelopes>>) -> Self {
        let buckets = &settings.buckets;
        Self {
            registry_message: Outcomes::default(),
            unregistry_message: Labelled::default(),
            routes_registered: Counter::default(),
            routes_unregistered: Counter::default(),
            routes_pruned: Counter::default(),
            component_routes_refused: Counter::default(),
            route_differences_requested: Counter::default(),
            token_fetch_errors: Counter::default(),
            subscribe_events_errors: Counter::default(),
            buffered_messages: AtomicU64::new(0),
            total_dropped_messages: Counter::default(),
            buffers_held: Arc::default(),
            websocket_upgrades: Counter::default(),
            websocket_failures: Counter::default(),
            backend_exhausted_conns: Counter::default(),
            backend_invalid_id: Counter::default(),
            backend_invalid_tls_cert: Counter::default(),
            backend_tls_handshake_failed: Counter::default(),
            rejected_requests: Counter::default(),
            bad_gateways: Counter::default(),
            empty_content_length_header: Counter::default(),
            traffic: Traffic::new(&buckets.latency),
            route_services: Responses::default(),
            route_lookup_time: Histogram::new(&buckets.lookup, 1.0),
            route_registration_latency: Histogram::new(&buckets.registration, 1e6),
            gorouter_time: Histogram::new(&buckets.gorouter_time, 1e3),
            http_latency: Histograms::new(&buckets.http_latency, 1e6),
            processor: Mutex::default(),
            top_apps: settings.deprecated_pages.then(Mutex::default),
            envelopes: envelopes.filter(|envelopes| envelopes.wanted().metrics),
            per_request: settings.per_request_metrics,
            per_app: settings.per_app_metrics,
            not_gathered: Counter::default(),
        }
    }

    /// Records the time of a look-up in the table.
    pub(crate) fn looked_up(&self, took: Duration) {
        if !self.per_request {
            return;
        }
        let nanoseconds = took.as_nanos() as f64;
        self.route_lookup_time.observe(nanoseconds);
        self.send("route_lookup_time", nanoseconds, "ns");
    }

    /// Records the time between an endpoint's announcement and its entry in the table.
    pub(crate) fn registered_after(&self, latency: Duration) {
        let seconds = latency.as_secs_f64();
        self.route_registration_latency.observe(seconds);
        self.send("route_registration_latency", seconds * 1e3, "ms");
    }

    pub(crate) fn fault(&self, fault: &Fault) {
        match fault.status() {
            503 => self.backend_invalid_id.add(1),
            525 => self.backend_tls_handshake_failed.add(1),
            526 => self.backend_invalid_tls_cert.add(1),
            _ => {}
        }
    }

    /// Counts a finished request if anything was tried. As in gorouter, a request that went to a route service counts too; a route
    /// service belongs to no component.
    pub(crate) fn finished(&self, finished: &FinishedRequest<'_>) {
        if !finished.was_tried() {
            return;
        }
        let FinishedRequest { record, took, .. } = *finished;
        let endpoint = finished.endpoint();
        let text = |of: fn(&Endpoint) -> &str| endpoint.map_or("", of);
        let (component, app_id) = (text(peer::component), text(peer::app_id));
        self.traffic
            .finished(component, record.status, took, self.per_request);
        if let Some(top_apps) = &self.top_apps
            && !app_id.is_empty()
        {
            locked(top_apps).mark(app_id, second(record.started_at));
        }
        if !self.per_request {
            return;
        }
        let ours = finished.ours.as_secs_f64() * 1e3;
        self.gorouter_time.observe(ours);
        let source_id = text(peer::source_id);
        if self.per_app && !source_id.is_empty() {
            self.http_latency.observe(source_id, took.as_secs_f64());
        }
        if let Some(envelopes) = self.envelopes.as_ref().filter(|e| e.has_listener()) {
            let took = took.as_secs_f64() * 1e3;
            envelopes.value("latency", took, "ms");
            if !component.is_empty() {
                envelopes.value(&format!("latency.{component}"), took, "ms");
            }
            envelopes.value("gorouter_time", ours, "ms");
        }
    }

    fn send(&self, name: &str, value: f64, unit: &str) {
        if let Some(envelopes) = &self.envelopes {
            envelopes.value(name, value, unit);
        }
    }

    /// Updates rates and shares. It must be called every [`TICK`].
    pub(crate) fn tick(&self) {
        self.traffic.tick();
        locked(&self.processor).tick();
        if let Some(top_apps) = &self.top_apps {
            locked(top_apps).trim(second(SystemTime::now()));
        }
    }

    /// Returns the recent share of one core.
    pub(crate) fn processor_share(&self) -> f64 {
        locked(&self.processor).share()
    }

    /// Returns the apps with the most requests in the last minute, and their numbers of requests.
    pub(crate) fn top_apps(&self, count: usize) -> Vec<(String, u64)> {
        let now = second(SystemTime::now());
        let top_apps = self.top_apps.as_ref();
        top_apps.map_or_else(Vec::new, |apps| locked(apps).first(count, now))
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn second(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
