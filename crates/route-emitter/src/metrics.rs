//! The metrics of the emitter (the original's names in Prometheus' form), and its needs.

use kit::metrics::{Counter, Histogram, Level, Registry, WORK_SECONDS};
use kit::readiness::{Need, Readiness};
use route_table::emission::{Audience, Changes, Registration};
use std::time::Duration;

#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// The registrations in the table, all of them and those for routers.
    routes: Level,
    http_routes: Level,
    routes_synced: Counter,
    routes_registered: Counter,
    routes_unregistered: Counter,
    http_messages: Counter,
    internal_messages: Counter,
    sync_duration: Histogram,
    pub(crate) bus: Need,
    pub(crate) bbs: Need,
}

impl Metrics {
    pub(crate) fn new(registry: &mut Registry, readiness: &Readiness) -> Self {
        Self {
            routes: registry.level(
                "route_emitter_routes",
                "Registrations of instances that are emitted",
            ),
            http_routes: registry.level(
                "route_emitter_http_route_count",
                "Registrations of instances that are emitted for routers",
            ),
            routes_synced: registry.counter(
                "route_emitter_routes_synced_total",
                "Registrations that a sync found missing",
            ),
            routes_registered: registry.counter(
                "route_emitter_routes_registered_total",
                "Registrations that became necessary",
            ),
            routes_unregistered: registry.counter(
                "route_emitter_routes_unregistered_total",
                "Registrations that were withdrawn",
            ),
            http_messages: registry.counter(
                "route_emitter_http_route_nats_messages_emitted_total",
                "Messages that were published for routers",
            ),
            internal_messages: registry.counter(
                "route_emitter_internal_route_nats_messages_emitted_total",
                "Messages that were published for containers",
            ),
            sync_duration: registry.histogram(
                "route_emitter_sync_duration_seconds",
                "Time of a sync with the BBS",
                WORK_SECONDS,
            ),
            bus: readiness.need("the message bus"),
            bbs: readiness.need("the BBS"),
        }
    }

    /// Records a sync that succeeded.
    pub(crate) fn synced(&self, took: Duration, changes: &Changes) {
        self.sync_duration.observe(took);
        self.routes_synced.add(changes.register.len() as u64);
    }

    /// Records changes of the table.
    pub(crate) fn changed(&self, changes: &Changes) {
        self.routes_registered.add(changes.register.len() as u64);
        let withdrawn = changes.unregister.len();
        self.routes_unregistered.add(withdrawn as u64);
    }

    /// Records what is in the table after a sync.
    pub(crate) fn holds<'a>(&self, registrations: impl Iterator<Item = &'a Registration>) {
        let (mut all, mut http) = (0_u32, 0_u32);
        for registration in registrations {
            all += 1;
            http += u32::from(registration.route.audience == Audience::Routers);
        }
        self.routes.set(f64::from(all));
        self.http_routes.set(f64::from(http));
    }

    /// Records what is in the table, unless it was never synced and its content says nothing.
    pub(crate) fn still_holds<'a>(&self, registrations: impl Iterator<Item = &'a Registration>) {
        if self.routes.value().is_some() {
            self.holds(registrations);
        }
    }

    /// Records messages that the bus accepted.
    pub(crate) fn emitted(&self, registrations: &[Registration]) {
        let all = registrations.len();
        let http = registrations.iter();
        let http = http
            .filter(|r| r.route.audience == Audience::Routers)
            .count();
        self.http_messages.add(http as u64);
        self.internal_messages.add((all - http) as u64);
    }
}
