//! Decides what concerns the watched route or app, and describes it.

use super::Step;
use crate::changes::{Change, Endpoint};
use crate::component::Component;
use std::collections::BTreeSet;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use wire::bbs::{ActualLrp, ActualLrpInfo, ActualLrpInstanceKey, ActualLrpKey, ActualLrpNetInfo};
use wire::bbs::{DesiredLrp, Event, state};
use wire::lrp_routes::{CF_ROUTER, CfRoute};
use wire::router::{RegistryMessage, StartingMessage, subject};

/// A host, or an app by name or guid, with what is known to belong to it.
#[derive(Clone, Debug)]
pub struct Target {
    name: String,
    is_host: bool,
    /// The hosts of its routes, in lower case.
    hosts: BTreeSet<String>,
    /// The process guids of its apps.
    processes: BTreeSet<String>,
}

impl Target {
    /// Makes a target of a host, which has a dot, or of an app.
    pub fn new(name: &str) -> Self {
        let is_host = name.contains('.');
        let host = is_host.then(|| host(name));
        Self {
            name: name.to_owned(),
            is_host,
            hosts: host.into_iter().collect(),
            processes: BTreeSet::new(),
        }
    }

    pub fn is_host(&self) -> bool {
        self.is_host
    }

    /// Returns whether an app is known that belongs to the target.
    pub fn has_processes(&self) -> bool {
        !self.processes.is_empty()
    }

    /// Returns the host that a client requests: the watched one, or the first of the app's.
    pub fn host(&self) -> Option<&str> {
        self.hosts.first().map(String::as_str)
    }

    /// Records an app if it belongs to the target, and returns whether it does.
    pub fn learn(&mut self, lrp: &DesiredLrp) -> bool {
        let routes = routes(lrp);
        let belongs = if self.is_host {
            routes.iter().any(|route| self.hosts.contains(&host(route)))
        } else {
            let name = lrp.metric_tags.get("app_name");
            lrp.log_guid == self.name || name.is_some_and(|tag| tag.static_value == self.name)
        };
        if belongs {
            self.processes.insert(lrp.process_guid.clone());
            if !self.is_host {
                self.hosts.extend(routes.iter().map(|route| host(route)));
            }
        }
        belongs
    }

    /// Returns the step that an event of the BBS shows.
    pub fn of_event(&mut self, event: &Event, at: OffsetDateTime) -> Option<Step> {
        let (step, trace) = match event {
            Event::DesiredLrpCreated(event) => {
                let lrp = event.desired_lrp.as_ref().filter(|lrp| self.learn(lrp))?;
                (self.created(lrp), &event.trace_id)
            }
            Event::DesiredLrpChanged(event) => {
                let (before, after) = (event.before.as_ref()?, event.after.as_ref()?);
                // Both are read, because the change may add the route or remove it.
                let belongs = [self.learn(before), self.learn(after)];
                if belongs == [false, false] {
                    return None;
                }
                (self.changed(before, after)?, &event.trace_id)
            }
            Event::DesiredLrpRemoved(event) => {
                let lrp = event.desired_lrp.as_ref().filter(|lrp| self.learn(lrp))?;
                let text = format!("desired LRP {}: removed", lrp.process_guid);
                (step(Component::Bbs, text), &event.trace_id)
            }
            Event::ActualLrpInstanceCreated(event) => {
                let lrp = event.actual_lrp.as_ref()?;
                (self.instance(lrp)?, &event.trace_id)
            }
            Event::ActualLrpInstanceChanged(event) => {
                let (before, after) = (event.before.as_ref()?, event.after.as_ref()?);
                let (key, instance) = (event.key.as_ref()?, event.instance_key.as_ref());
                let step = self.instance_changed(key, instance, before, after)?;
                (step, &event.trace_id)
            }
            Event::ActualLrpInstanceRemoved(event) => {
                let key = event.actual_lrp.as_ref()?.key.as_ref()?;
                let name = self.known(key)?;
                let text = format!("actual LRP {name}: removed");
                (step(Component::Bbs, text), &event.trace_id)
            }
            Event::ActualLrpCrashed(event) => {
                let name = self.known(event.key.as_ref()?)?;
                let (count, reason) = (event.crash_count, &event.crash_reason);
                let text = format!("actual LRP {name}: crashed, crash {count}: {reason}");
                return Some(Step {
                    at,
                    ..step(Component::Rep, text)
                });
            }
            Event::TaskCreated(_) | Event::TaskChanged(_) | Event::TaskRemoved(_) => return None,
        };
        Some(Step {
            at,
            request: (!trace.is_empty()).then(|| trace.clone()),
            ..step
        })
    }

    fn created(&self, lrp: &DesiredLrp) -> Step {
        let routes: Vec<String> = routes(lrp).into_iter().collect();
        let text = format!(
            "desired LRP {}: created, instances: {}, routes: {}",
            lrp.process_guid,
            lrp.instances,
            routes.join(", ")
        );
        step(Component::Bbs, text)
    }

    fn changed(&self, before: &DesiredLrp, after: &DesiredLrp) -> Option<Step> {
        let (old, new) = (routes(before), routes(after));
        let is_of = |route: &&String| !self.is_host || self.hosts.contains(&host(route));
        let added = new.difference(&old).filter(is_of);
        let removed = old.difference(&new).filter(is_of);
        let mut parts: Vec<String> = added.map(|route| format!("route {route} added")).collect();
        parts.extend(removed.map(|route| format!("route {route} removed")));
        if before.instances != after.instances {
            parts.push(format!(
                "instances {} → {}",
                before.instances, after.instances
            ));
        }
        if parts.is_empty() {
            return None;
        }
        let text = format!("desired LRP {}: {}", after.process_guid, parts.join(", "));
        Some(step(Component::Bbs, text))
    }

    /// Returns `process guid/index` if the process belongs to the target.
    fn known(&self, key: &ActualLrpKey) -> Option<String> {
        let belongs = self.processes.contains(&key.process_guid);
        belongs.then(|| format!("{}/{}", key.process_guid, key.index))
    }

    fn instance(&self, lrp: &ActualLrp) -> Option<Step> {
        let name = self.known(lrp.key.as_ref()?)?;
        let net = lrp.net_info.as_ref();
        let shown = instance_text(&lrp.state, lrp.instance_key.as_ref(), net);
        Some(step(
            component(&lrp.state),
            format!("actual LRP {name}: {shown}"),
        ))
    }

    fn instance_changed(
        &self,
        key: &ActualLrpKey,
        instance: Option<&ActualLrpInstanceKey>,
        before: &ActualLrpInfo,
        after: &ActualLrpInfo,
    ) -> Option<Step> {
        let name = self.known(key)?;
        let mut parts = Vec::new();
        if before.state != after.state {
            parts.push(instance_text(
                &after.state,
                instance,
                after.net_info.as_ref(),
            ));
        }
        if before.routable != after.routable {
            let routable = after.routable.unwrap_or(true);
            parts.push(if routable { "routable" } else { "not routable" }.to_owned());
        }
        if before.placement_error != after.placement_error && !after.placement_error.is_empty() {
            parts.push(format!("not placed: {}", after.placement_error));
        }
        if parts.is_empty() {
            return None;
        }
        let text = format!("actual LRP {name}: {}", parts.join(", "));
        Some(step(component(&after.state), text))
    }

    /// Returns the step that a message of the bus shows.
    pub fn of_message(&self, on: &str, payload: &[u8], at: OffsetDateTime) -> Option<Step> {
        let text = match on {
            subject::REGISTER | subject::UNREGISTER => {
                let message: RegistryMessage = serde_json::from_slice(payload).ok()?;
                let uri = message.uris.iter().find(|uri| self.has(uri))?;
                let port = message.tls_port.filter(|port| *port != 0);
                let port = port.unwrap_or(message.port);
                format!("{on} {uri} → {}:{port}", message.host)
            }
            subject::STARTING => {
                let message: StartingMessage = serde_json::from_slice(payload).ok()?;
                let uri = message.uris.iter().find(|uri| self.has(uri))?;
                format!("{on} {uri}")
            }
            _ => return None,
        };
        Some(Step {
            at,
            ..step(Component::Nats, text)
        })
    }

    /// Returns the step that a change of the router's table shows.
    pub fn of_change(&self, change: &Change) -> Option<Step> {
        if !self.has(&change.uri) {
            return None;
        }
        let at = OffsetDateTime::parse(&change.time, &Rfc3339).ok()?;
        let (kind, uri, source) = (&change.kind, &change.uri, &change.source);
        let endpoint = |Endpoint { address, .. }: &Endpoint| format!(" → {address}");
        let endpoint = change.endpoint.as_ref().map(endpoint).unwrap_or_default();
        let route = change
            .route
            .as_ref()
            .map(|route| format!(" ({route} route)"));
        let route = route.unwrap_or_default();
        let text = format!("table: {kind} {uri}{endpoint} by {source}{route}");
        Some(Step {
            at,
            ..step(Component::Router, text)
        })
    }

    fn has(&self, uri: &str) -> bool {
        self.hosts.contains(&host(uri))
    }
}

fn step(component: Component, text: String) -> Step {
    Step {
        at: OffsetDateTime::UNIX_EPOCH,
        component,
        text,
        request: None,
    }
}

/// Returns the component that brings an instance into a state.
fn component(state: &str) -> Component {
    match state {
        state::UNCLAIMED => Component::Bbs,
        _ => Component::Rep,
    }
}

fn instance_text(
    state: &str,
    instance: Option<&ActualLrpInstanceKey>,
    net: Option<&ActualLrpNetInfo>,
) -> String {
    let cell = instance.map(|key| key.cell_id.as_str()).unwrap_or_default();
    match (state, instance, net) {
        (state::CLAIMED, Some(_), _) => format!("CLAIMED by {cell}"),
        (state::RUNNING, Some(key), Some(net)) => format!(
            "RUNNING on {cell} at {}, instance {}",
            net.address, key.instance_guid
        ),
        _ => state.to_owned(),
    }
}

/// Returns the host of a uri in lower case.
fn host(uri: &str) -> String {
    let host = uri.split('/').next().unwrap_or_default();
    host.to_lowercase()
}

/// Returns the HTTP routes of an app. Routes that cannot be read are left out.
fn routes(lrp: &DesiredLrp) -> BTreeSet<String> {
    let kinds = lrp.routes.as_ref().map(|routes| &routes.routes);
    let json = kinds.and_then(|kinds| kinds.get(CF_ROUTER));
    let routes = json.and_then(|json| serde_json::from_slice::<Vec<CfRoute>>(json).ok());
    let routes = routes.unwrap_or_default().into_iter();
    routes.flat_map(|route| route.hostnames).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use wire::bbs::{ActualLrpInstanceChangedEvent, ActualLrpInstanceEvent, MetricTagValue};
    use wire::bbs::{DesiredLrpChangedEvent, DesiredLrpEvent, ProtoRoutes};

    const AT: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn desired(routes: &[&str]) -> DesiredLrp {
        let json = json!([{"hostnames": routes, "port": 8080}]).to_string();
        let tag = MetricTagValue {
            static_value: "proxy".to_owned(),
            ..MetricTagValue::default()
        };
        DesiredLrp {
            process_guid: "p".to_owned(),
            log_guid: "guid".to_owned(),
            instances: 1,
            routes: Some(ProtoRoutes {
                routes: [(CF_ROUTER.to_owned(), json.into_bytes())].into(),
            }),
            metric_tags: [("app_name".to_owned(), tag)].into(),
            ..DesiredLrp::default()
        }
    }

    fn changed(before: &[&str], after: &[&str]) -> Event {
        Event::DesiredLrpChanged(DesiredLrpChangedEvent {
            before: Some(desired(before)),
            after: Some(desired(after)),
            trace_id: "id".to_owned(),
        })
    }

    #[test]
    fn a_route_that_comes_and_goes_is_a_step_of_its_host() {
        let mut target = Target::new("B.test/x");
        let step = target.of_event(&changed(&["a.test"], &["a.test", "b.test/x"]), AT);
        let step = step.unwrap();
        assert_eq!(step.text, "desired LRP p: route b.test/x added");
        assert_eq!(step.request.as_deref(), Some("id"));
        let step = target.of_event(&changed(&["b.test/x"], &["a.test"]), AT);
        assert_eq!(step.unwrap().text, "desired LRP p: route b.test/x removed");
        assert_eq!(
            target.of_event(&changed(&["a.test"], &["c.test"]), AT),
            None
        );
        assert_eq!(target.host(), Some("b.test"));
    }

    #[test]
    fn an_app_brings_its_routes_and_instances() {
        for name in ["proxy", "guid"] {
            let mut target = Target::new(name);
            let created = Event::DesiredLrpCreated(DesiredLrpEvent {
                desired_lrp: Some(desired(&["a.test"])),
                trace_id: String::new(),
            });
            let step = target.of_event(&created, AT).unwrap();
            assert_eq!(
                step.text,
                "desired LRP p: created, instances: 1, routes: a.test"
            );
            assert_eq!((step.request, target.host()), (None, Some("a.test")));
            let key = ActualLrpKey {
                process_guid: "p".to_owned(),
                index: 2,
                ..ActualLrpKey::default()
            };
            let created = Event::ActualLrpInstanceCreated(ActualLrpInstanceEvent {
                actual_lrp: Some(ActualLrp {
                    key: Some(key.clone()),
                    state: state::UNCLAIMED.to_owned(),
                    ..ActualLrp::default()
                }),
                trace_id: String::new(),
            });
            let step = target.of_event(&created, AT).unwrap();
            assert_eq!(step.text, "actual LRP p/2: UNCLAIMED");
            let info = |state: &str| ActualLrpInfo {
                state: state.to_owned(),
                ..ActualLrpInfo::default()
            };
            let claimed = Event::ActualLrpInstanceChanged(ActualLrpInstanceChangedEvent {
                key: Some(key),
                instance_key: Some(ActualLrpInstanceKey {
                    instance_guid: "i".to_owned(),
                    cell_id: "cell".to_owned(),
                }),
                before: Some(info(state::UNCLAIMED)),
                after: Some(info(state::CLAIMED)),
                trace_id: String::new(),
            });
            let step = target.of_event(&claimed, AT).unwrap();
            assert_eq!(
                (step.component, step.text.as_str()),
                (Component::Rep, "actual LRP p/2: CLAIMED by cell")
            );
            assert_eq!(Target::new("other").of_event(&claimed, AT), None);
        }
    }

    #[test]
    fn messages_and_changes_of_the_host_are_steps() {
        let target = Target::new("a.test");
        let message = br#"{"host":"10.0.0.1","tls_port":61001,"uris":["b.test","A.test/x"]}"#;
        let step = target.of_message(subject::REGISTER, message, AT).unwrap();
        assert_eq!(step.text, "router.register A.test/x → 10.0.0.1:61001");
        for (on, message) in [
            (subject::REGISTER, &br#"{"host":"1","uris":["b.test"]}"#[..]),
            (subject::REGISTER, &b"{"[..]),
            (subject::START, &message[..]),
        ] {
            assert_eq!(target.of_message(on, message, AT), None);
        }
        let change = Change {
            time: "2026-11-30T10:04:31.25Z".to_owned(),
            kind: "registered".to_owned(),
            source: "router.register".to_owned(),
            uri: "a.test".to_owned(),
            route: Some("new".to_owned()),
            endpoint: Some(Endpoint {
                address: "10.0.0.1:61001".to_owned(),
                ..Endpoint::default()
            }),
            ..Change::default()
        };
        let step = target.of_change(&change).unwrap();
        assert_eq!(
            step.text,
            "table: registered a.test → 10.0.0.1:61001 by router.register (new route)"
        );
        assert_eq!(Target::new("b.test").of_change(&change), None);
    }
}
