//! Converts BBS messages to the core's values. Pure.

use anyhow::{Context as _, Result};
use route_table::emission::{Actual, Audience, Desired, Event, Port, Route, RowVersion, TagValue};
use std::sync::Arc;
use wire::bbs::{self as m, MetricTagDynamic, PreferredAddress, Presence, state};
use wire::lrp_routes::{CF_ROUTER, CfRoute, INTERNAL_ROUTER, InternalRoute};

/// Returns the table's events for one BBS event: none, one, or two. (A row that changes its presence becomes another row; a
/// process that grows is changed, and its new instances wait.)
pub(crate) fn events(event: m::Event, cell_id: &str) -> Vec<Event> {
    match event {
        m::Event::DesiredLrpCreated(e) => desired_set(e.desired_lrp.as_ref(), 0),
        m::Event::DesiredLrpChanged(e) => {
            let before = e.before.map_or(0, |before| before.instances);
            desired_set(e.after.as_ref(), before)
        }
        m::Event::DesiredLrpRemoved(e) => {
            let removed = |lrp: m::DesiredLrp| Event::DesiredRemoved {
                process_guid: lrp.process_guid,
                tag: tag(lrp.modification_tag.as_ref()),
            };
            e.desired_lrp.map(removed).into_iter().collect()
        }
        m::Event::ActualLrpInstanceCreated(e) => e
            .actual_lrp
            .filter(|lrp| is_here(lrp.instance_key.as_ref(), cell_id))
            .as_ref()
            .and_then(actual)
            .map(Event::ActualSet)
            .into_iter()
            .collect(),
        m::Event::ActualLrpInstanceRemoved(e) => e
            .actual_lrp
            .filter(|lrp| is_here(lrp.instance_key.as_ref(), cell_id))
            .as_ref()
            .and_then(actual)
            .map(|actual| Event::ActualRemoved {
                key: actual.key(),
                tag: actual.tag,
            })
            .into_iter()
            .collect(),
        m::Event::ActualLrpInstanceChanged(e) if is_here(e.instance_key.as_ref(), cell_id) => {
            changed(e)
        }
        // A crash also arrives as a change or a removal. Tasks have no routes.
        _ => Vec::new(),
    }
}

/// Returns the id of the request that caused an event. Crashes and tasks have none.
pub(crate) fn request_id(event: &m::Event) -> &str {
    match event {
        m::Event::DesiredLrpCreated(e) | m::Event::DesiredLrpRemoved(e) => &e.trace_id,
        m::Event::DesiredLrpChanged(e) => &e.trace_id,
        m::Event::ActualLrpInstanceCreated(e) | m::Event::ActualLrpInstanceRemoved(e) => {
            &e.trace_id
        }
        m::Event::ActualLrpInstanceChanged(e) => &e.trace_id,
        _ => "",
    }
}

/// Returns the events of a desired LRP. Instances that wait for a cell have no row in the event stream of one cell, so an
/// increase of the number shows that some wait.
fn desired_set(lrp: Option<&m::DesiredLrp>, instances_before: i32) -> Vec<Event> {
    let Some(lrp) = lrp else {
        return Vec::new();
    };
    let Some(desired) = desired_or_warn(lrp) else {
        return Vec::new();
    };
    let grown = (lrp.instances > instances_before).then(|| Event::InstancesWanted {
        process_guid: lrp.process_guid.clone(),
    });
    [Event::DesiredSet(desired)]
        .into_iter()
        .chain(grown)
        .collect()
}

fn is_here(key: Option<&m::ActualLrpInstanceKey>, cell_id: &str) -> bool {
    cell_id.is_empty() || key.is_some_and(|key| key.cell_id == cell_id)
}

fn changed(event: m::ActualLrpInstanceChangedEvent) -> Vec<Event> {
    let whole = |info: m::ActualLrpInfo| {
        actual(&m::ActualLrp {
            key: event.key.clone(),
            instance_key: event.instance_key.clone(),
            net_info: info.net_info,
            state: info.state,
            since: info.since,
            modification_tag: info.modification_tag,
            presence: info.presence,
            routable: info.routable,
            availability_zone: info.availability_zone,
            ..m::ActualLrp::default()
        })
    };
    let (before, after) = (
        event.before.clone().and_then(whole),
        event.after.clone().and_then(whole),
    );
    let Some(after) = after else {
        return Vec::new();
    };
    let left = before
        .filter(|before| before.evacuating != after.evacuating)
        .map(|before| Event::ActualRemoved {
            key: before.key(),
            tag: before.tag,
        });
    [Event::ActualSet(after)].into_iter().chain(left).collect()
}

/// Converts an actual LRP. `None` means that it has no instance (it is unclaimed).
pub(crate) fn actual(lrp: &m::ActualLrp) -> Option<Actual> {
    let (key, instance) = (lrp.key.as_ref()?, lrp.instance_key.as_ref()?);
    let net = lrp.net_info.clone().unwrap_or_default();
    let port = |p: &m::PortMapping| Port {
        container: p.container_port,
        host: p.host_port,
        container_tls: p.container_tls_proxy_port,
        host_tls: p.host_tls_proxy_port,
    };
    (!instance.instance_guid.is_empty()).then(|| Actual {
        process_guid: key.process_guid.clone(),
        index: u32::try_from(key.index).unwrap_or(u32::MAX),
        instance_guid: instance.instance_guid.clone(),
        evacuating: lrp.presence == Presence::Evacuating as i32,
        routable: lrp.state == state::RUNNING && lrp.routable.unwrap_or(true),
        starting: lrp.state == state::CLAIMED,
        cell_address: net.address,
        instance_address: net.instance_address,
        prefer_instance: net.preferred_address == PreferredAddress::Instance as i32,
        ports: net.ports.iter().map(port).collect(),
        availability_zone: lrp.availability_zone.clone(),
        since_ns: lrp.since,
        tag: tag(lrp.modification_tag.as_ref()),
    })
}

fn desired_or_warn(lrp: &m::DesiredLrp) -> Option<Desired> {
    desired(lrp)
        .inspect_err(|error| {
            tracing::warn!(
                process_guid = lrp.process_guid,
                error = format!("{error:#}"),
                "desired-lrp-not-understood"
            )
        })
        .ok()
}

/// Converts a desired LRP. It fails if its routes are not a JSON array.
pub(crate) fn desired(lrp: &m::DesiredLrp) -> Result<Desired> {
    let json = |router: &str| {
        let routes = lrp.routes.as_ref();
        routes.and_then(|routes| routes.routes.get(router))
    };
    let mut routes = match json(CF_ROUTER) {
        Some(json) => cf_routes(json, &lrp.process_guid)?,
        None => Vec::new(),
    };
    if let Some(json) = json(INTERNAL_ROUTER) {
        routes.extend(internal_routes(json, &lrp.process_guid));
    }
    let value = |value: &m::MetricTagValue| match MetricTagDynamic::try_from(value.dynamic) {
        Ok(MetricTagDynamic::Index) => TagValue::Index,
        Ok(MetricTagDynamic::InstanceGuid) => TagValue::InstanceGuid,
        _ => TagValue::Static(value.static_value.clone()),
    };
    Ok(Desired {
        process_guid: lrp.process_guid.clone(),
        domain: lrp.domain.clone(),
        log_guid: lrp.log_guid.clone(),
        instances: u32::try_from(lrp.instances).unwrap_or(0),
        routes,
        metric_tags: lrp
            .metric_tags
            .iter()
            .map(|(name, tag)| (name.clone(), value(tag)))
            .collect(),
        tag: tag(lrp.modification_tag.as_ref()),
    })
}

/// Returns one route per hostname. An element that cannot be parsed is skipped alone.
fn cf_routes(json: &[u8], process_guid: &str) -> Result<Vec<Arc<Route>>> {
    let elements: Option<Vec<serde_json::Value>> =
        serde_json::from_slice(json).context("the cf-router routes are not a JSON array")?;
    let mut routes = Vec::new();
    for element in elements.unwrap_or_default() {
        let route: CfRoute = match serde_json::from_value(element) {
            Ok(route) => route,
            Err(error) => {
                tracing::warn!(process_guid, %error, "cf-route-not-understood");
                continue;
            }
        };
        // serde_json keeps keys sorted, so equal options become equal texts.
        let options = route
            .options
            .as_ref()
            .filter(|options| !options.is_empty())
            .and_then(|options| serde_json::to_string(options).ok());
        routes.extend(
            route
                .hostnames
                .iter()
                .filter(|hostname| !hostname.is_empty())
                .map(|hostname| {
                    Arc::new(Route {
                        audience: Audience::Routers,
                        uri: hostname.clone(),
                        container_port: route.port,
                        route_service_url: route.route_service_url.clone().unwrap_or_default(),
                        isolation_segment: route.isolation_segment.clone().unwrap_or_default(),
                        protocol: route.protocol.clone().unwrap_or_default(),
                        options: options.clone(),
                        generation: route.generation,
                    })
                }),
        );
    }
    Ok(routes)
}

/// Returns the internal routes. An element that cannot be parsed is skipped alone, and never affects a router's route.
fn internal_routes(json: &[u8], process_guid: &str) -> Vec<Arc<Route>> {
    let elements = match serde_json::from_slice::<Option<Vec<serde_json::Value>>>(json) {
        Ok(elements) => elements.unwrap_or_default(),
        Err(error) => {
            tracing::warn!(process_guid, %error, "internal-routes-not-understood");
            return Vec::new();
        }
    };
    let route = |element| match serde_json::from_value::<InternalRoute>(element) {
        Ok(route) if !route.hostname.is_empty() => Some(Arc::new(Route {
            audience: Audience::Containers,
            uri: route.hostname,
            ..Route::default()
        })),
        Ok(_) => None,
        Err(error) => {
            tracing::warn!(process_guid, %error, "internal-route-not-understood");
            None
        }
    };
    elements.into_iter().filter_map(route).collect()
}

fn tag(tag: Option<&m::ModificationTag>) -> RowVersion {
    tag.map(|tag| RowVersion {
        epoch: tag.epoch.clone(),
        index: tag.index,
    })
    .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lrp(routes: &str) -> m::DesiredLrp {
        let routes = m::ProtoRoutes {
            routes: [(CF_ROUTER.to_owned(), routes.as_bytes().to_vec())].into(),
        };
        m::DesiredLrp {
            process_guid: "p".into(),
            instances: 2,
            routes: Some(routes),
            ..m::DesiredLrp::default()
        }
    }

    #[test]
    fn hostnames_become_routes_and_a_bad_element_costs_only_itself() {
        let json = r#"[{"hostnames":["a.x","b.x/p"],"port":8080,"options":{"z":1,"loadbalancing":"hash"}},{"hostnames":5,"port":1},{"hostnames":["c.x"],"port":9090,"protocol":"http2","route_service_url":null}]"#;
        let desired = desired(&lrp(json)).unwrap();
        let uris: Vec<_> = desired
            .routes
            .iter()
            .map(|r| (r.uri.as_str(), r.container_port))
            .collect();
        assert_eq!(uris, [("a.x", 8080), ("b.x/p", 8080), ("c.x", 9090)]);
        assert_eq!(
            desired.routes[0].options.as_deref(),
            Some(r#"{"loadbalancing":"hash","z":1}"#)
        );
        assert_eq!(
            (
                desired.routes[2].protocol.as_str(),
                &desired.routes[2].options
            ),
            ("http2", &None)
        );
        assert!(
            super::desired(&lrp("{}")).is_err()
                && super::desired(&lrp("null")).unwrap().routes.is_empty()
        );
    }

    #[test]
    fn names_for_containers_are_routes_of_their_own_kind() {
        let mut lrp = lrp(r#"[{"hostnames":["a.x"],"port":8080}]"#);
        let routes = &mut lrp.routes.as_mut().unwrap().routes;
        let json = br#"[{"hostname":"a.apps.internal"},{"host":"?"},{"hostname":""}]"#;
        routes.insert(INTERNAL_ROUTER.into(), json.to_vec());
        let known = desired(&lrp).unwrap().routes;
        let known: Vec<_> = known
            .iter()
            .map(|r| (r.audience, r.uri.as_str(), r.container_port))
            .collect();
        assert_eq!(
            known,
            [
                (Audience::Routers, "a.x", 8080),
                (Audience::Containers, "a.apps.internal", 0)
            ]
        );
        let routes = &mut lrp.routes.as_mut().unwrap().routes;
        routes.insert(INTERNAL_ROUTER.into(), b"{}".to_vec());
        assert_eq!(desired(&lrp).unwrap().routes.len(), 1);
    }

    #[test]
    fn a_row_that_begins_to_evacuate_is_set_and_then_removed_as_what_it_was() {
        let info = |presence: Presence| m::ActualLrpInfo {
            state: state::RUNNING.into(),
            presence: presence as i32,
            ..m::ActualLrpInfo::default()
        };
        let event = m::ActualLrpInstanceChangedEvent {
            key: Some(m::ActualLrpKey {
                process_guid: "p".into(),
                index: 0,
                domain: "d".into(),
            }),
            instance_key: Some(m::ActualLrpInstanceKey {
                instance_guid: "i".into(),
                cell_id: "c".into(),
            }),
            before: Some(info(Presence::Ordinary)),
            after: Some(info(Presence::Evacuating)),
            trace_id: String::new(),
        };
        let there = events(m::Event::ActualLrpInstanceChanged(event.clone()), "c");
        assert!(
            matches!(there.as_slice(), [Event::ActualSet(a), Event::ActualRemoved { key, .. }] if a.evacuating && a.routable && !key.evacuating)
        );
        assert!(events(m::Event::ActualLrpInstanceChanged(event), "other").is_empty());
    }

    #[test]
    fn an_event_names_the_request_that_caused_it() {
        let created = m::Event::DesiredLrpCreated(m::DesiredLrpEvent {
            desired_lrp: None,
            trace_id: "request-1".into(),
        });
        assert_eq!(request_id(&created), "request-1");
        let crashed = m::Event::ActualLrpCrashed(m::ActualLrpCrashedEvent::default());
        assert_eq!(request_id(&crashed), "");
    }

    #[test]
    fn a_process_that_is_new_or_grows_has_instances_that_wait() {
        let of = |instances| {
            Some(m::DesiredLrp {
                instances,
                ..lrp("[]")
            })
        };
        let created = m::Event::DesiredLrpCreated(m::DesiredLrpEvent {
            desired_lrp: of(1),
            trace_id: String::new(),
        });
        assert!(matches!(
            events(created, "c").as_slice(),
            [Event::DesiredSet(_), Event::InstancesWanted { process_guid }] if process_guid == "p"
        ));
        for (before, after, count) in [(1, 3, 2), (3, 3, 1), (3, 1, 1)] {
            let changed = m::Event::DesiredLrpChanged(m::DesiredLrpChangedEvent {
                before: of(before),
                after: of(after),
                trace_id: String::new(),
            });
            assert_eq!(events(changed, "c").len(), count, "{before} to {after}");
        }
    }

    #[test]
    fn not_routable_and_not_running_count_as_not_routable() {
        let lrp = |state: &str, routable| m::ActualLrp {
            key: Some(m::ActualLrpKey::default()),
            instance_key: Some(m::ActualLrpInstanceKey {
                instance_guid: "i".into(),
                cell_id: "c".into(),
            }),
            state: state.into(),
            routable,
            ..m::ActualLrp::default()
        };
        let routable = |lrp: m::ActualLrp| actual(&lrp).unwrap().routable;
        assert!(routable(lrp("RUNNING", None)) && routable(lrp("RUNNING", Some(true))));
        assert!(!routable(lrp("RUNNING", Some(false))) && !routable(lrp("CLAIMED", None)));
    }
}
