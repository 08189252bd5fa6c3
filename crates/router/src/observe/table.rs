//! The page `/routes`: the endpoints of each route in gorouter's form, now or at an earlier time.

use super::changes::rfc3339;
use super::feed::Past;
use crate::worker::Shared;
use route_table::registry::{Balancing, Endpoint, Pool, Snapshot};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The endpoints of each route.
pub(super) type Table = BTreeMap<String, Vec<Row>>;

/// The reason why the table of a time cannot be shown.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unknown {
    #[error("at={0:?} is not a time: write it as in /routes?at=2026-11-30T10:04:31.250Z")]
    Unreadable(String),
    #[error("at={at} is in the future: it is {now} here")]
    Future { at: String, now: String },
    #[error(
        "at={at} is before {since}, from when on this router knows the changes of its table: ask for a later time"
    )]
    NotKept { at: String, since: String },
}

/// Returns the present table.
pub(super) fn now(shared: &Shared) -> Table {
    let keeps_left = shared.lasting.keep_unregistered_routes;
    let pools = shared.registry.snapshot();
    pools
        .into_iter()
        // A route that only waits for its next endpoint counts as removed.
        .filter(|(_, pool)| !pool.has_left() || keeps_left)
        .map(|(uri, pool)| (uri, rows(&pool)))
        .collect()
}

/// Returns the table of the time `at`, which is text of RFC 3339.
pub(super) fn at(shared: &Shared, at: &str, now: SystemTime) -> Result<Table, Unknown> {
    let Ok(time) = OffsetDateTime::parse(at, &Rfc3339) else {
        return Err(Unknown::Unreadable(at.to_owned()));
    };
    let time = SystemTime::from(time);
    // The changes are read after the table. A change that the table has and that is still to be published is the only one that they
    // may lack.
    let present = present(shared);
    let past = shared.feed.past();
    check(time, &past, now)?;
    let changes: Vec<_> = past.entries.iter().map(|e| (e.at, &e.change)).collect();
    let snapshot = present.at(time, &changes);
    let routes = snapshot.routes().map(|(uri, endpoints)| {
        let rows: Vec<Row> = endpoints.values().map(|endpoint| row(endpoint)).collect();
        (uri.to_owned(), rows)
    });
    Ok(routes.collect())
}

fn check(time: SystemTime, past: &Past, now: SystemTime) -> Result<(), Unknown> {
    let at = rfc3339(time);
    if time > now {
        let now = rfc3339(now);
        return Err(Unknown::Future { at, now });
    }
    if time < past.since {
        let since = rfc3339(past.since);
        return Err(Unknown::NotKept { at, since });
    }
    Ok(())
}

/// Returns the present contents without the routes that are only announced: no change shows since when they are there.
fn present(shared: &Shared) -> Snapshot<Arc<Endpoint>> {
    let keeps_left = shared.lasting.keep_unregistered_routes;
    let now = Instant::now();
    let mut present = Snapshot::default();
    for (uri, pool) in shared.registry.snapshot() {
        let endpoints = pool.endpoints();
        let is_hidden = pool.is_starting(now) || pool.has_left() && !keeps_left;
        if endpoints.is_empty() && is_hidden {
            continue;
        }
        let route = present.route(&uri);
        for endpoint in endpoints {
            route.insert(endpoint.address().to_owned(), endpoint);
        }
    }
    present
}

/// An endpoint as gorouter's `route.Endpoint.MarshalJSON` shows it. The options are those of its own registration; they are
/// absent where it had none, whatever the route's balancing is.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    address: String,
    availability_zone: String,
    protocol: &'static str,
    tls: bool,
    ttl: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    route_service_url: String,
    tags: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "String::is_empty")]
    isolation_segment: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    private_instance_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    server_cert_domain_san: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    load_balancing_algorithm: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash_header: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash_balance: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route_policy_scope: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    route_policies: Vec<String>,
}

fn rows(pool: &Pool) -> Vec<Row> {
    pool.endpoints().iter().map(|e| row(e)).collect()
}

fn row(endpoint: &Endpoint) -> Row {
    let spec = endpoint.spec();
    let (balancing, policy) = (
        spec.options.balancing.as_ref(),
        spec.options.policy.as_ref(),
    );
    let hash = match balancing {
        Some(Balancing::Hash { header, balance }) => Some((header.clone(), *balance)),
        _ => None,
    };
    Row {
        address: endpoint.address().to_owned(),
        availability_zone: spec.availability_zone.to_owned(),
        protocol: spec.protocol.as_str(),
        tls: spec.tls,
        ttl: spec.stale_threshold.as_secs(),
        route_service_url: spec.route_service_url.to_owned(),
        tags: (!spec.tags.is_empty()).then(|| spec.tags.to_map()),
        isolation_segment: spec.isolation_segment.to_owned(),
        private_instance_id: spec.instance_id.to_owned(),
        server_cert_domain_san: spec.server_cert_domain_san.to_owned(),
        load_balancing_algorithm: balancing.map(Balancing::as_str),
        hash_header: hash.as_ref().map(|(header, _)| header.clone()),
        hash_balance: hash.map(|(_, balance)| balance),
        route_policy_scope: policy.map(|policy| policy.scope.as_str()),
        route_policies: policy.map_or_else(Vec::new, |policy| {
            policy.sources.iter().map(ToString::to_string).collect()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn second(n: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(n)
    }

    #[test]
    fn only_a_time_between_the_oldest_change_and_now_is_known() {
        let past = Past {
            since: second(10),
            entries: Vec::new(),
        };
        let checked = |n| check(second(n), &past, second(20)).map_err(|error| error.to_string());
        assert_eq!(checked(10), Ok(()));
        assert_eq!(checked(20), Ok(()));
        assert_eq!(
            checked(9).unwrap_err(),
            "at=1970-01-01T00:00:09Z is before 1970-01-01T00:00:10Z, from when on this router knows the changes of its table: ask for a later time"
        );
        assert_eq!(
            checked(21).unwrap_err(),
            "at=1970-01-01T00:00:21Z is in the future: it is 1970-01-01T00:00:20Z here"
        );
    }
}
