//! The phases of one request in the making, and what they are when it is over: pure values, made from moments that the caller read.
//!
//! ```text
//!  arrival ── router ── hold ── [ pick ── dead connection ── connect ── TLS ── answer ] … ── body ── end
//!                               an attempt; another one follows if it failed
//! ```
//!
//! The time between these phases is the router's own.

use super::ids::Mark;
use crate::backend::made::Made;
use http1::Fields;
use route_table::registry::Endpoint;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The field in which an Envoy that speaks HTTP writes the milliseconds that the app took. The Envoys of our cells forward bytes and
/// write nothing.
const SERVICE_TIME: &str = "x-envoy-upstream-service-time";
/// A request that waited for less was not held: the route had no instance, and none was expected.
const HELD: Duration = Duration::from_micros(100);
/// The number of attempts that are recorded. An operator may configure more.
const MOST_ATTEMPTS: usize = 32;

/// The moments of a request whose trace somebody wants.
#[derive(Debug)]
pub(crate) struct Timeline {
    pub(super) mark: Option<Mark>,
    held: Option<(Instant, Instant)>,
    attempts: Vec<Attempt>,
    /// The reason why the answer did not reach its end; empty: it did.
    pub(in crate::observe) broken: &'static str,
}

#[derive(Debug)]
struct Attempt {
    endpoint: Arc<Endpoint>,
    is_route_service: bool,
    began: Instant,
    picked: Instant,
    /// The arrival of the answer's head, or the fault.
    ended: Instant,
    made: Made,
    /// The fault, and whether another attempt was permitted after it.
    fault: Option<(String, bool)>,
    /// The time that the app took, as the instance's Envoy writes it.
    service_time: Option<Duration>,
}

impl Timeline {
    pub(super) fn new(mark: Option<Mark>) -> Self {
        Self {
            mark,
            held: None,
            attempts: Vec::new(),
            broken: "",
        }
    }

    /// Records that the request waited for the first instance of its route.
    pub(crate) fn held(&mut self, since: Instant, until: Instant) {
        if until.saturating_duration_since(since) >= HELD {
            self.held = Some((since, until));
        }
    }

    pub(in crate::observe) fn attempt_begins(
        &mut self,
        endpoint: Arc<Endpoint>,
        began: Instant,
        picked: Instant,
    ) {
        self.begin(endpoint, false, (began, picked));
    }

    pub(in crate::observe) fn attempt_at_service_begins(
        &mut self,
        service: Arc<Endpoint>,
        began: Instant,
    ) {
        self.begin(service, true, (began, began));
    }

    fn begin(
        &mut self,
        endpoint: Arc<Endpoint>,
        is_route_service: bool,
        (began, picked): (Instant, Instant),
    ) {
        if self.attempts.len() >= MOST_ATTEMPTS {
            self.attempts.remove(0);
        }
        self.attempts.push(Attempt {
            endpoint,
            is_route_service,
            began,
            picked,
            ended: picked,
            made: Made::default(),
            fault: None,
            service_time: None,
        });
    }

    pub(in crate::observe) fn attempt_ended(&mut self, made: Made, ended: Instant) {
        if let Some(attempt) = self.attempts.last_mut() {
            (attempt.made, attempt.ended) = (made, ended);
        }
    }

    pub(in crate::observe) fn attempt_failed(&mut self, fault: String, again: bool) {
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.fault = Some((fault, again));
        }
    }

    /// Records the app's part of the time, if the head of the answer has it.
    pub(in crate::observe) fn backend_answered(&mut self, fields: &Fields) {
        let milliseconds = fields.get_text(SERVICE_TIME);
        let milliseconds = milliseconds.and_then(|text| text.trim().parse().ok());
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.service_time = milliseconds.map(Duration::from_millis);
        }
    }

    /// Returns the phases of a request that arrived at `started` and took `total`.
    pub(super) fn phases(&self, started: Instant, total: Duration) -> Phases {
        let since = |at: Instant| at.saturating_duration_since(started).min(total);
        let held = self.held.map(|(from, to)| Phase {
            from: since(from),
            took: since(to).saturating_sub(since(from)),
        });
        let attempts: Vec<AttemptPhases> = self
            .attempts
            .iter()
            .map(|attempt| attempt.phases(since))
            .collect();
        let answered = self.attempts.last().zip(attempts.last());
        let answered = answered.filter(|(attempt, _)| attempt.fault.is_none());
        let body = answered.map(|(_, phases)| Phase {
            from: phases.answer.until(),
            took: total.saturating_sub(phases.answer.until()),
        });
        let others = held.iter().chain(&body).map(|phase| phase.took);
        let others: Duration = others.chain(attempts.iter().map(AttemptPhases::took)).sum();
        Phases {
            total,
            router: total.saturating_sub(others),
            held,
            attempts,
            body,
        }
    }
}

impl Attempt {
    fn phases(&self, since: impl Fn(Instant) -> Duration) -> AttemptPhases {
        let end = since(self.ended);
        let mut at = since(self.began);
        // Each phase begins where the one before it ended, and none ends after the attempt.
        let mut next = |took: Duration| {
            let from = at;
            at = at.saturating_add(took).min(end).max(from);
            Phase {
                from,
                took: at - from,
            }
        };
        let pick = next(self.picked.saturating_duration_since(self.began));
        let lost = (!self.made.lost.is_zero()).then(|| {
            // The time on dead connections is counted from the attempt's beginning.
            next(self.made.lost.saturating_sub(pick.took))
        });
        let connect = self.made.dial.map(&mut next);
        let tls = self.made.tls.map(&mut next);
        let answer = next(Duration::MAX);
        let app = self
            .service_time
            .filter(|app| self.fault.is_none() && *app <= answer.took);
        let spec = self.endpoint.spec();
        AttemptPhases {
            address: self.endpoint.address().to_owned(),
            app_id: spec.app_id.to_owned(),
            instance_id: spec.instance_id.to_owned(),
            instance_index: spec.instance_index.to_owned(),
            is_route_service: self.is_route_service,
            is_tls: spec.tls,
            is_reused: self.made.reused,
            pick,
            lost,
            connect,
            tls,
            answer,
            app,
            fault: self.fault.clone(),
        }
    }
}

/// A part of a request's time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Phase {
    /// The time from the request's arrival to the beginning of the phase.
    pub(super) from: Duration,
    pub(super) took: Duration,
}

impl Phase {
    pub(super) fn until(self) -> Duration {
        self.from + self.took
    }
}

/// The phases of a request that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Phases {
    pub(super) total: Duration,
    /// The router's own time: all that is in no other phase.
    pub(super) router: Duration,
    pub(super) held: Option<Phase>,
    pub(super) attempts: Vec<AttemptPhases>,
    /// The body of a backend's answer.
    pub(super) body: Option<Phase>,
}

/// The phases of an attempt, and where it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AttemptPhases {
    pub(super) address: String,
    pub(super) app_id: String,
    pub(super) instance_id: String,
    pub(super) instance_index: String,
    pub(super) is_route_service: bool,
    pub(super) is_tls: bool,
    pub(super) is_reused: bool,
    pub(super) pick: Phase,
    pub(super) lost: Option<Phase>,
    pub(super) connect: Option<Phase>,
    pub(super) tls: Option<Phase>,
    pub(super) answer: Phase,
    /// The app's part of `answer`, if the sidecar wrote it.
    pub(super) app: Option<Duration>,
    pub(super) fault: Option<(String, bool)>,
}

impl AttemptPhases {
    fn took(&self) -> Duration {
        self.answer.until().saturating_sub(self.pick.from)
    }

    /// Returns the part of `answer` that is not the app's: the sidecar, and the way to it and back.
    pub(super) fn sidecar(&self) -> Option<Duration> {
        self.app.map(|app| self.answer.took.saturating_sub(app))
    }
}

/// Timelines for tests.
#[cfg(test)]
pub(super) mod sample {
    use super::*;
    use route_table::registry::{EndpointSpec, Registry, Settings};

    pub(super) fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    pub(super) fn endpoint(port: u16) -> Arc<Endpoint> {
        let registry = Registry::new(Settings::default(), Instant::now());
        registry.endpoint(EndpointSpec {
            host: "10.0.0.1".into(),
            port,
            tls: true,
            app_id: "app".into(),
            instance_id: format!("i{port}"),
            instance_index: "0".into(),
            ..EndpointSpec::default()
        })
    }

    /// Makes the timeline of a request that was held for 10 ms, failed at one instance and was answered by another after 44 ms.
    pub(in crate::observe::trace) fn retried(mark: Option<Mark>, started: Instant) -> Timeline {
        let at = |number| started + ms(number);
        let mut timeline = Timeline::new(mark);
        timeline.held(at(1), at(11));
        timeline.attempt_begins(endpoint(1), at(12), at(13));
        let dialled = Made {
            dial: Some(ms(2)),
            ..Made::default()
        };
        timeline.attempt_ended(dialled, at(15));
        timeline.attempt_failed("refused".into(), true);
        timeline.attempt_begins(endpoint(2), at(16), at(16));
        let made = Made {
            connected: true,
            dial: Some(ms(3)),
            tls: Some(ms(5)),
            ..Made::default()
        };
        timeline.attempt_ended(made, at(44));
        let mut fields = Fields::default();
        fields.append("X-Envoy-Upstream-Service-Time", b"15");
        timeline.backend_answered(&fields);
        timeline
    }
}

#[cfg(test)]
mod tests {
    use super::sample::{endpoint, ms, retried};
    use super::*;

    #[test]
    fn all_phases_together_are_the_whole_time() {
        let started = Instant::now();
        let phases = retried(None, started).phases(started, ms(50));
        let phase = |from, took| Phase {
            from: ms(from),
            took: ms(took),
        };
        assert_eq!(phases.held, Some(phase(1, 10)));
        let [failed, answered] = &phases.attempts[..] else {
            panic!("{phases:?}")
        };
        assert_eq!(
            (failed.pick, failed.connect),
            (phase(12, 1), Some(phase(13, 2)))
        );
        assert_eq!((failed.tls, failed.answer), (None, phase(15, 0)));
        assert_eq!(failed.fault, Some(("refused".into(), true)));
        assert_eq!((answered.pick, answered.lost), (phase(16, 0), None));
        assert_eq!(answered.connect, Some(phase(16, 3)));
        assert_eq!(answered.tls, Some(phase(19, 5)));
        assert_eq!(
            (answered.answer, answered.app),
            (phase(24, 20), Some(ms(15)))
        );
        assert_eq!(phases.body, Some(phase(44, 6)));
        // The router's own time is 1 ms before the hold, 1 ms after it, and 1 ms between the attempts.
        assert_eq!(phases.router, ms(3));
    }

    #[test]
    fn time_on_dead_connections_is_apart() {
        let started = Instant::now();
        let at = |number| started + ms(number);
        let mut timeline = Timeline::new(None);
        timeline.attempt_begins(endpoint(1), at(0), at(1));
        let made = Made {
            connected: true,
            dial: Some(ms(2)),
            lost: ms(4),
            ..Made::default()
        };
        timeline.attempt_ended(made, at(10));
        let phases = timeline.phases(started, ms(10));
        let attempt = &phases.attempts[0];
        assert_eq!(attempt.lost.unwrap().took, ms(3));
        assert_eq!(attempt.connect.unwrap().from, ms(4));
        assert_eq!(attempt.answer.took, ms(4));
        assert_eq!(phases.router, Duration::ZERO);
    }

    #[test]
    fn a_request_without_an_attempt_is_the_router_s() {
        let started = Instant::now();
        let mut timeline = Timeline::new(None);
        timeline.held(started, started + Duration::from_micros(3));
        let phases = timeline.phases(started, ms(2));
        assert_eq!((phases.router, phases.body), (ms(2), None));
        assert_eq!(phases.held, None);
    }

    #[test]
    fn values_that_cannot_be_true_make_no_phase_longer_than_the_request() {
        let started = Instant::now();
        let mut timeline = Timeline::new(None);
        timeline.attempt_begins(endpoint(1), started, started + ms(1));
        let made = Made {
            dial: Some(ms(100)),
            tls: Some(ms(100)),
            ..Made::default()
        };
        timeline.attempt_ended(made, started + ms(5));
        let mut fields = Fields::default();
        fields.append("x-envoy-upstream-service-time", b"18446744073709551615");
        timeline.backend_answered(&fields);
        let phases = timeline.phases(started, ms(4));
        let attempt = &phases.attempts[0];
        assert_eq!(attempt.connect.unwrap().took, ms(3));
        assert_eq!(attempt.tls.unwrap().took, Duration::ZERO);
        assert_eq!((attempt.answer.took, attempt.app), (Duration::ZERO, None));
        assert_eq!(phases.total, ms(4));
    }
}
