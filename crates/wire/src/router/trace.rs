//! The trace of one request through a router: the phases of its time, and its attempts at backends. The page `/tap` of a router streams
//! such traces as server-sent events. It is a page of ours; an original gorouter has no such page.

use serde::{Deserialize, Serialize};
use std::fmt::{self, Write as _};

/// The path of the page on the router's operator listener.
pub const TAP_PATH: &str = "/tap";

/// The names of the page's events.
pub mod tap_event {
    /// The first event: the tap is open from here on.
    pub const OPENED: &str = "opened";
    /// The trace of one request.
    pub const REQUEST: &str = "request";
    /// The last event, after which nothing follows.
    pub const ENDED: &str = "ended";
}

/// The data of the event `opened`: what the tap shows, and for how long.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TapOpened {
    /// The router's id, as in `router.start`.
    pub router: String,
    pub host: String,
    /// The number of requests after which the tap ends.
    pub limit: u64,
    /// The seconds after which it ends.
    pub seconds: u64,
}

/// The data of the event `ended`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TapEnded {
    /// The reason: `limit`, `time` or `stop` (the router stops or serves its pages anew).
    pub reason: String,
    pub requests: u64,
    /// The number of requests that the reader was too slow for.
    pub missed: u64,
}

/// The trace of one request. Times are in milliseconds. The time in the router, the hold, the times of all attempts and the time of the
/// body are together the total time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RequestTrace {
    /// The time at which the request's head had arrived, RFC 3339 in UTC.
    pub time: String,
    /// The request's `X-Vcap-Request-Id`.
    pub request_id: String,
    /// The id of the trace to which a marked request belongs; empty: the request had no mark.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub trace_id: String,
    pub method: String,
    pub host: String,
    /// The path without the query.
    pub path: String,
    pub version: String,
    pub status: u16,
    /// The value of `X-Cf-RouterError`; empty: the router has not answered itself.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub router_error: String,
    /// The reason why the answer did not reach its end; empty: it did.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub broken: String,
    pub total_ms: f64,
    /// The router's own work: parsing, lookup, choices, and what is between the other phases.
    pub router_ms: f64,
    /// The time that the request waited for the first instance of a starting route.
    pub held_ms: f64,
    pub attempts: Vec<AttemptTrace>,
    /// The time from the answer's head to its end; `None`: no backend answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_ms: Option<f64>,
    /// The bytes of the request's body and of the answer's.
    pub received: u64,
    pub sent: u64,
}

/// An attempt at a backend.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AttemptTrace {
    pub address: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub app_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub instance_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub instance_index: String,
    /// Whether it is a route service and not an instance.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_route_service: bool,
    pub is_tls: bool,
    /// Whether another request used the connection before.
    pub is_reused: bool,
    /// The choice of the endpoint.
    pub pick_ms: f64,
    /// The time on connections that proved dead, or that refused the request unseen, before the one that counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost_ms: Option<f64>,
    /// The time until the TCP connection was made; `None`: none had to be made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_ms: Option<f64>,
    /// The time from the connection to the answer's head, or to the fault: the request on its way, the sidecar and the app.
    pub answer_ms: f64,
    /// The parts of this time, if the instance's answer has `X-Envoy-Upstream-Service-Time`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sidecar_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_ms: Option<f64>,
    /// The reason why the attempt failed; `None`: a backend answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// Whether another attempt was permitted after this fault.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_retried: bool,
}

impl RequestTrace {
    /// Returns the trace as the owner of the app may see it. The addresses and faults of attempts that failed have lines of their own
    /// in the app's log.
    #[must_use]
    pub fn for_the_app(mut self) -> Self {
        for attempt in &mut self.attempts {
            if let Some(fault) = &mut attempt.fault {
                fault.clear();
                attempt.address.clear();
                attempt.instance_id.clear();
                attempt.instance_index.clear();
            }
        }
        self
    }
}

/// The trace is one line for people, without its time of day.
impl fmt::Display for RequestTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let request = format!("{} {}", self.method, self.path);
        let (host, status, total) = (&self.host, self.status, self.total_ms);
        write!(f, "{host} {request:?} {status} in {total:.2} ms: ")?;
        if self.held_ms > 0.0 {
            write!(f, "held {:.2}, ", self.held_ms)?;
        }
        write!(f, "router {:.2}", self.router_ms)?;
        for (number, attempt) in (1..).zip(&self.attempts) {
            match (self.attempts.len() > 1, attempt.address.is_empty()) {
                (true, true) => write!(f, "; attempt {number}{attempt}")?,
                (true, false) => write!(f, "; attempt {number} {attempt}")?,
                (false, true) => write!(f, "; the attempt{attempt}")?,
                (false, false) => write!(f, "; {attempt}")?,
            }
        }
        if let Some(body) = self.body_ms {
            write!(f, "; body {body:.2}")?;
        }
        if !self.broken.is_empty() {
            write!(f, " ({})", self.broken)?;
        }
        if !self.router_error.is_empty() {
            write!(f, "; router error {:?}", self.router_error)?;
        }
        write!(f, "  {}", self.request_id)
    }
}

impl fmt::Display for AttemptTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.address.is_empty() {
            write!(f, "at {}", self.address)?;
        }
        if self.is_route_service {
            f.write_str(" (route service)")?;
        } else if !self.instance_id.is_empty() {
            let (instance, index) = (&self.instance_id, &self.instance_index);
            write!(f, " (instance {instance}, index {index})")?;
        }
        let mut phases = format!(": pick {:.2}", self.pick_ms);
        let mut phase = |name: &str, time: Option<f64>| {
            if let Some(time) = time {
                let _ = write!(phases, ", {name} {time:.2}");
            }
        };
        phase("dead connection", self.lost_ms);
        phase("connect", self.connect_ms);
        phase("TLS", self.tls_ms);
        if self.is_reused {
            phases.push_str(", connection reused");
        }
        f.write_str(&phases)?;
        match &self.fault {
            Some(fault) if fault.is_empty() => write!(f, ", failed after {:.2}", self.answer_ms),
            Some(fault) => write!(f, ", failed after {:.2} ({fault})", self.answer_ms),
            None => {
                write!(f, ", answer {:.2}", self.answer_ms)?;
                match (self.sidecar_ms, self.app_ms) {
                    (Some(sidecar), Some(app)) => {
                        write!(f, " (sidecar {sidecar:.2}, app {app:.2})")
                    }
                    _ => Ok(()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered() -> AttemptTrace {
        AttemptTrace {
            address: "10.0.0.1:61001".into(),
            instance_id: "i1".into(),
            instance_index: "0".into(),
            is_tls: true,
            pick_ms: 0.01,
            connect_ms: Some(0.4),
            tls_ms: Some(1.2),
            answer_ms: 1.6,
            ..AttemptTrace::default()
        }
    }

    fn trace() -> RequestTrace {
        RequestTrace {
            request_id: "5f0c".into(),
            method: "GET".into(),
            host: "a.test".into(),
            path: "/x".into(),
            status: 200,
            total_ms: 3.5,
            router_ms: 0.09,
            attempts: vec![answered()],
            body_ms: Some(0.2),
            ..RequestTrace::default()
        }
    }

    #[test]
    fn a_trace_is_a_line() {
        assert_eq!(
            trace().to_string(),
            "a.test \"GET /x\" 200 in 3.50 ms: router 0.09; at 10.0.0.1:61001 (instance i1, index 0): pick 0.01, connect 0.40, TLS 1.20, answer 1.60; body 0.20  5f0c"
        );
        let mut split = trace();
        split.held_ms = 12.0;
        split.path = "/\u{1b}[2J".into();
        split.broken = "the client has gone".into();
        split.attempts[0] = AttemptTrace {
            address: "10.0.0.1:1".into(),
            is_reused: true,
            lost_ms: Some(0.3),
            answer_ms: 3.0,
            sidecar_ms: Some(1.0),
            app_ms: Some(2.0),
            ..AttemptTrace::default()
        };
        assert_eq!(
            split.to_string(),
            "a.test \"GET /\\u{1b}[2J\" 200 in 3.50 ms: held 12.00, router 0.09; at 10.0.0.1:1: pick 0.00, dead connection 0.30, connection reused, answer 3.00 (sidecar 1.00, app 2.00); body 0.20 (the client has gone)  5f0c"
        );
    }

    #[test]
    fn each_attempt_has_its_reason_and_the_app_s_line_has_none() {
        let mut trace = trace();
        let failed = AttemptTrace {
            connect_ms: Some(0.1),
            tls_ms: None,
            answer_ms: 0.0,
            fault: Some("dial tcp 10.0.0.2:61001: connect: connection refused".into()),
            is_retried: true,
            ..answered()
        };
        trace.attempts.insert(0, failed);
        let line = trace.to_string();
        assert!(
            line.contains("; attempt 1 at 10.0.0.1:61001 (instance i1, index 0): pick 0.01, connect 0.10, failed after 0.00 (dial tcp 10.0.0.2:61001: connect: connection refused); attempt 2 at "),
            "{line}"
        );
        let line = trace.for_the_app().to_string();
        assert!(
            line.contains("; attempt 1: pick 0.01, connect 0.10, failed after 0.00; attempt 2 at 10.0.0.1:61001 (instance i1"),
            "{line}"
        );
    }

    #[test]
    fn a_trace_survives_its_json() {
        let json = serde_json::to_string(&trace()).unwrap();
        assert!(!json.contains("fault") && !json.contains("lost_ms"));
        assert_eq!(
            serde_json::from_str::<RequestTrace>(&json).unwrap(),
            trace()
        );
    }
}
