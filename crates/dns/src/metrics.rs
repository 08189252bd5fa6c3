//! The metrics of the name server (its queries and its names), and its need of the message bus.

use crate::names::Names;
use kit::metrics::{Counter, Registry};
use kit::readiness::{Need, Readiness};
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// The queries that were answered here.
    pub(crate) answered: Counter,
    /// The queries that the machine's resolvers answered, and those that none of them answered.
    pub(crate) forwarded: Counter,
    pub(crate) forward_failures: Counter,
    /// The queries and connections that were refused because too many were running.
    pub(crate) refused: Counter,
    pub(crate) bus: Need,
}

impl Metrics {
    pub(crate) fn new(registry: &mut Registry, readiness: &Readiness) -> Self {
        Self {
            answered: registry.counter(
                "dns_queries_answered_total",
                "Queries for names of the foundation that were answered",
            ),
            forwarded: registry.counter(
                "dns_queries_forwarded_total",
                "Queries that the machine's resolvers answered",
            ),
            forward_failures: registry.counter(
                "dns_forward_failures_total",
                "Queries that no resolver of the machine answered",
            ),
            refused: registry.counter(
                "dns_queries_refused_total",
                "Queries and connections that were refused because too many were running",
            ),
            bus: readiness.need("the message bus"),
        }
    }
}

/// Adds the numbers of names.
pub(crate) fn read_names(registry: &mut Registry, names: &Arc<Mutex<Names>>) {
    let of = names.clone();
    registry.read("dns_names", "Hosts of routes that are known", move || {
        let names = of.lock().unwrap_or_else(PoisonError::into_inner);
        Some(names.len() as f64)
    });
    let of = names.clone();
    registry.read(
        "dns_internal_names",
        "Names of containers that are known",
        move || {
            let names = of.lock().unwrap_or_else(PoisonError::into_inner);
            Some(names.internal.len() as f64)
        },
    );
}
