//! The page `/changes`: the newest changes of the table as JSON.

use super::feed::{Entry, News};
use route_table::registry::{ChangeKind, Endpoint};
use serde::Serialize;
use std::time::SystemTime;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The answer of the page.
#[derive(Debug, Serialize)]
pub(crate) struct Changes<'a> {
    /// The router's id, which every start makes anew. Numbers of another router's changes mean nothing here.
    router: &'a str,
    /// The number of the newest change.
    last: u64,
    /// The number of changes after the reader's number that are not kept any more.
    missed: u64,
    /// The time after which no change is missing, so that earlier tables can be asked for (`/routes?at=`).
    since: String,
    changes: Vec<Row<'a>>,
}

#[derive(Debug, Serialize)]
struct Row<'a> {
    number: u64,
    time: String,
    kind: &'static str,
    /// The kind of a refused message.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<&'static str>,
    source: &'static str,
    uri: &'a str,
    /// The change's effect on the route.
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<Backend<'a>>,
    /// The endpoint that the changed one replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    replaced: Option<Backend<'a>>,
}

#[derive(Debug, Serialize)]
struct Backend<'a> {
    address: &'a str,
    tls: bool,
    application_id: &'a str,
    instance_id: &'a str,
    instance_index: &'a str,
    server_cert_domain_san: &'a str,
    /// The component that registered the endpoint.
    component: &'a str,
}

/// Returns the page of these changes.
pub(crate) fn page<'a>(router: &'a str, news: &'a News) -> Changes<'a> {
    let rows = news.entries.iter();
    Changes {
        router,
        last: news.last,
        missed: news.missed,
        since: rfc3339(news.since),
        changes: rows.map(|(number, entry)| row(*number, entry)).collect(),
    }
}

fn row(number: u64, entry: &Entry) -> Row<'_> {
    let change = &entry.change;
    Row {
        number,
        time: rfc3339(entry.at),
        kind: change.kind.as_str(),
        refused: match change.kind {
            ChangeKind::Refused(message) => Some(message.as_str()),
            _ => None,
        },
        source: entry.source.as_str(),
        uri: &change.uri,
        route: change.route.as_str(),
        endpoint: change.endpoint.as_deref().map(backend),
        replaced: change.replaced.as_deref().map(backend),
    }
}

fn backend(endpoint: &Endpoint) -> Backend<'_> {
    let spec = endpoint.spec();
    Backend {
        address: endpoint.address(),
        tls: spec.tls,
        application_id: spec.app_id,
        instance_id: spec.instance_id,
        instance_index: spec.instance_index,
        server_cert_domain_san: spec.server_cert_domain_san,
        component: endpoint.tag("component"),
    }
}

pub(super) fn rfc3339(at: SystemTime) -> String {
    OffsetDateTime::from(at)
        .format(&Rfc3339)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::feed::Source;
    use route_table::registry::{Change, EndpointSpec, Registered, Registry, Settings};
    use serde_json::json;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    #[test]
    fn a_page_shows_each_change_with_its_source() {
        let registry = Registry::new(Settings::default(), Instant::now());
        let endpoint = registry.endpoint(EndpointSpec {
            host: "10.0.0.1".into(),
            port: 61001,
            tls: true,
            app_id: "app".into(),
            instance_id: "instance".into(),
            instance_index: "2".into(),
            server_cert_domain_san: "san".into(),
            tags: [("component".to_owned(), "route-emitter".to_owned())].into(),
            ..EndpointSpec::default()
        });
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_600_000_000_500);
        let added = Registered::Added { new_route: true };
        let registered = Entry {
            at,
            source: Source::Nats("router.register"),
            change: Change::registered("app.test", &endpoint, added).unwrap(),
        };
        let refused = Entry {
            at,
            source: Source::Nats("router.starting"),
            change: Change::start_refused("uaa.test"),
        };
        let news = News {
            last: 8,
            missed: 3,
            since: at,
            entries: vec![(7, Arc::new(registered)), (8, Arc::new(refused))],
        };
        assert_eq!(
            serde_json::to_value(page("0-id", &news)).unwrap(),
            json!({"router": "0-id", "last": 8, "missed": 3, "since": "2020-09-13T12:26:40.5Z", "changes": [
                {
                    "number": 7, "time": "2020-09-13T12:26:40.5Z", "kind": "registered", "source": "router.register",
                    "uri": "app.test", "route": "new", "endpoint": {
                        "address": "10.0.0.1:61001", "tls": true, "application_id": "app", "instance_id": "instance",
                        "instance_index": "2", "server_cert_domain_san": "san", "component": "route-emitter",
                    },
                },
                {
                    "number": 8, "time": "2020-09-13T12:26:40.5Z", "kind": "refused", "refused": "start",
                    "source": "router.starting", "uri": "uaa.test",
                },
            ]})
        );
    }
}
