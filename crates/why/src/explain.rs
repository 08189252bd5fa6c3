//! Judges facts: walks from the stored route to the answers of the routers, and names the hop that is to blame.

mod asker;
mod cell;
mod control;
mod diego;
mod failures;
mod firewall;
mod machine;
mod requests;
mod routers;

use crate::component::Component;
use crate::explanation::{Explanation, Hop, Verdict};
use crate::facts::Facts;
use wire::cc::RoutePropagation;

/// The time in seconds after which a change must have reached all components.
const SETTLED: i64 = 5;

/// The greatest difference in seconds between two clocks that is no fault.
const CLOCK_TOLERANCE: i64 = 30;

/// Returns the way of the URL, with a verdict for each hop.
pub fn explain(facts: &Facts) -> Explanation {
    let mut hops = Hops::default();
    asker::check(facts, &mut hops);
    let targets = control::targets(facts, &mut hops);
    let mut instances = Vec::new();
    for target in &targets {
        instances.extend(diego::instances(facts, target, &mut hops));
    }
    for instance in &instances {
        cell::check(facts, instance, &mut hops);
    }
    routers::check(facts, &instances, &mut hops);
    asker::check_name(facts, &mut hops);
    let failures = failures::recent(facts);
    let hops = hops.0;
    let guilty = guilty(&hops);
    Explanation {
        url: facts.url.clone(),
        is_right: guilty.is_none(),
        guilty,
        hops,
        failures,
    }
}

/// Returns the position of the hop that is to blame. A hop that is certainly wrong is worse than one that nobody could read, and
/// that is worse than one that only waits.
fn guilty(hops: &[Hop]) -> Option<usize> {
    let first = |is: fn(&Verdict) -> bool| hops.iter().position(|hop| is(&hop.verdict));
    first(|verdict| matches!(verdict, Verdict::Wrong(_)))
        .or_else(|| first(|verdict| matches!(verdict, Verdict::Unread(_))))
        .or_else(|| first(|verdict| matches!(verdict, Verdict::Waits(_))))
}

/// The hops so far.
#[derive(Debug, Default)]
struct Hops(Vec<Hop>);

impl Hops {
    fn push(&mut self, hop: Hop) {
        self.0.push(hop);
    }

    fn add(
        &mut self,
        hop: (Component, &'static str),
        subject: &str,
        found: impl Into<String>,
        verdict: Verdict,
    ) {
        self.push(Hop::new(hop, subject, found, verdict));
    }
}

/// Returns how far the last change of the route has come; `None` if that is not known.
fn propagation(facts: &Facts) -> Option<&RoutePropagation> {
    let route = facts.route.as_ref().ok()?.as_ref()?;
    route.propagation.as_ref()
}

/// Returns the milliseconds from the commit of the route's last change until a time.
fn after_commit(facts: &Facts, at_ns: Option<u64>) -> Option<f64> {
    let stored = propagation(facts)?.stored_at_ns?;
    let after = at_ns?.checked_sub(stored)?;
    Some((after / 1000) as f64 / 1000.0)
}

/// Returns whether the route changed so short a while ago that some components may not have the change yet.
fn has_just_changed(facts: &Facts) -> bool {
    let stored = propagation(facts).and_then(|propagation| propagation.stored_at_ns);
    let stored = stored.and_then(|ns| i64::try_from(ns / 1_000_000_000).ok());
    stored.is_some_and(|stored| facts.now.saturating_sub(stored) <= SETTLED)
}

/// Returns the URL in the form in which routes are compared: host in lower case, no scheme, no port, no slash at the end.
fn normal(url: &str) -> String {
    let url = url.split_once("://").map_or(url, |(_, rest)| rest);
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let (host, path) = match url.split_once('/') {
        Some((host, path)) => (host, path.trim_end_matches('/')),
        None => (url, ""),
    };
    let host = host.split(':').next().unwrap_or_default().to_lowercase();
    if path.is_empty() {
        host
    } else {
        format!("{host}/{path}")
    }
}

/// Returns whether a route serves the URL: its host is the URL's, or a wildcard above it, and its path is a prefix of whole parts.
pub fn serves(route: &str, url: &str) -> bool {
    let (route, url) = (normal(route), normal(url));
    let split = |text: &str| {
        let (host, path) = text.split_once('/').unwrap_or((text, ""));
        (host.to_owned(), path.to_lowercase())
    };
    let ((host, path), (wanted, below)) = (split(&route), split(&url));
    let is_host = match host.strip_prefix("*.") {
        Some(domain) => wanted.ends_with(&format!(".{domain}")),
        None => host == wanted,
    };
    let is_path = path.is_empty() || below == path || below.starts_with(&format!("{path}/"));
    is_host && is_path
}

/// Returns the first letters of a guid, for people.
fn short(guid: &str) -> &str {
    guid.get(..8).unwrap_or(guid)
}

#[cfg(test)]
mod tests;
