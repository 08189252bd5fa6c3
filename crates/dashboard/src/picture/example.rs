//! A small foundation for unit tests: two apps, one cell, one router.

use super::Picture;
use serde_json::{Value, json};
use wire::bbs::{
    ActualLrp, ActualLrpInstanceKey, ActualLrpKey, ActualLrpNetInfo, DesiredLrp, MetricTagValue,
    PortMapping, ProtoRoutes,
};
use wire::lrp_routes::CF_ROUTER;

/// The time of all examples, in microseconds: late enough that everything has settled.
pub(crate) const NOW: u64 = 1_000_000_000;

pub(crate) fn desired(app: &str, instances: i32, uris: &[&str]) -> DesiredLrp {
    let json = json!([{"hostnames": uris, "port": 8080, "generation": 7}]).to_string();
    let tag = MetricTagValue {
        static_value: format!("{app}-name"),
        ..MetricTagValue::default()
    };
    DesiredLrp {
        process_guid: format!("{app}-process"),
        log_guid: app.to_owned(),
        instances,
        routes: Some(ProtoRoutes {
            routes: [(CF_ROUTER.to_owned(), json.into_bytes())].into(),
        }),
        metric_tags: [("app_name".to_owned(), tag)].into(),
        ..DesiredLrp::default()
    }
}

/// Returns an instance whose Envoy is reached at `10.0.0.1:PORT`.
pub(crate) fn actual(app: &str, index: i32, state: &str, port: u32) -> ActualLrp {
    ActualLrp {
        key: Some(ActualLrpKey {
            process_guid: format!("{app}-process"),
            index,
            ..ActualLrpKey::default()
        }),
        instance_key: Some(ActualLrpInstanceKey {
            instance_guid: format!("{app}-{index}"),
            cell_id: "cell-1".to_owned(),
        }),
        net_info: Some(ActualLrpNetInfo {
            address: "10.0.0.1".to_owned(),
            instance_address: "10.255.0.3".to_owned(),
            ports: vec![PortMapping {
                container_port: 8080,
                host_port: 0,
                container_tls_proxy_port: 61001,
                host_tls_proxy_port: port,
            }],
            ..ActualLrpNetInfo::default()
        }),
        state: state.to_owned(),
        since: 1_000_000_000,
        ..ActualLrp::default()
    }
}

pub(crate) fn row(port: u32, app: &str, instance: &str) -> Value {
    json!({
        "address": format!("10.0.0.1:{port}"), "tls": true, "private_instance_id": instance,
        "tags": {"app_id": app, "component": "route-emitter"},
    })
}

/// Returns a foundation in which `a.test` leads to both instances of `a`, and `b.test` to that of `b`.
pub(crate) fn picture() -> Picture {
    let mut picture = Picture::default();
    picture.model.replace(
        &[desired("a", 2, &["a.test"]), desired("b", 1, &["b.test"])],
        &[
            actual("a", 0, "RUNNING", 61001),
            actual("a", 1, "RUNNING", 61002),
            actual("b", 0, "RUNNING", 61003),
        ],
    );
    picture.table(
        "r1",
        "0-r1",
        "2026-11-30T10:00:00Z",
        &json!({
            "a.test": [row(61001, "a", "a-0"), row(61002, "a", "a-1")],
            "b.test": [row(61003, "b", "b-0")],
            "api.test": [{"address": "127.0.0.1:9022", "tags": {"component": "api"}}],
        }),
    );
    picture
}
