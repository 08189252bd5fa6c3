//! The last requests that the router itself answered with an error, so that an operator can ask why a route failed without a search
//! in logs. A request that a backend answers costs one comparison here.

use super::record::FinishedRequest;
use http1::Known;
use kit::ring::Ring;
use route_table::registry::request_host;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use wire::router::{FailureView, FailuresPage};

/// The number of requests that are kept.
const KEPT: usize = 1024;
/// The greatest number of bytes that are kept of a text.
const LONGEST: usize = 255;

/// A request that failed.
#[derive(Debug)]
struct Failure {
    at: SystemTime,
    status: u16,
    error: String,
    request_id: String,
    /// The host in lower case and without its port.
    host: String,
    path: String,
    endpoint: String,
}

/// The last failing requests of all workers.
#[derive(Debug)]
pub(crate) struct Failures(Mutex<Ring<Failure>>);

impl Default for Failures {
    fn default() -> Self {
        Self(Mutex::new(Ring::new(KEPT)))
    }
}

impl Failures {
    /// Keeps a request if the router itself answered it with an error.
    pub(crate) fn finished(&self, request: &FinishedRequest<'_>) {
        if request.record.router_error.is_empty() {
            return;
        }
        let target = text(request.request.received_target());
        let path = target.split('?').next().unwrap_or_default();
        let fields = &request.request.fields;
        let failure = Failure {
            at: SystemTime::now(),
            status: request.record.status,
            error: bounded(&request.record.router_error),
            request_id: text(fields.get(Known::XVcapRequestId).unwrap_or_default()),
            host: request_host(&text(request.host)).to_lowercase(),
            path: bounded(path),
            endpoint: request
                .endpoint()
                .map_or_else(String::new, |endpoint| endpoint.address().to_owned()),
        };
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ring.push(failure);
    }

    /// Returns the last requests to a host, newest first.
    pub(crate) fn last(&self, host: &str, most: usize) -> Vec<FailureView> {
        let now = SystemTime::now();
        let ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = ring.after(0).entries.map(|(_, failure)| failure);
        let mut found: Vec<&Failure> = entries.filter(|failure| failure.host == host).collect();
        found.reverse();
        found.truncate(most);
        found.iter().map(|failure| failure.view(now)).collect()
    }
}

impl Failures {
    /// Returns the requests after a number. A number that is still to come is from an earlier process: its reader gets everything that
    /// is kept.
    pub(crate) fn after(&self, router: &str, number: u64) -> FailuresPage {
        let now = SystemTime::now();
        let ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = ring.last();
        let later = ring.after(if number > last { 0 } else { number });
        FailuresPage {
            router: router.to_owned(),
            last,
            missed: later.missed,
            failures: later
                .entries
                .map(|(_, failure)| failure.view(now))
                .collect(),
        }
    }
}

impl Failure {
    fn view(&self, now: SystemTime) -> FailureView {
        let age: Duration = now.duration_since(self.at).unwrap_or_default();
        FailureView {
            age: age.as_secs_f64(),
            status: self.status,
            error: self.error.clone(),
            request_id: self.request_id.clone(),
            host: self.host.clone(),
            path: self.path.clone(),
            endpoint: self.endpoint.clone(),
        }
    }
}

fn text(bytes: &[u8]) -> String {
    bounded(&String::from_utf8_lossy(bytes))
}

fn bounded(text: &str) -> String {
    text.chars().take(LONGEST).collect()
}
