//! Takes what the components show: it updates the model, and adds a step to the train of the change.

use super::Picture;
use super::model::{Desired, Endpoint, Failing, Instance, Router, normal};
use super::station::Station;
use super::step::{Kind, Micros, Step};
use super::train::Receipt;
use serde_json::Value;
use std::collections::BTreeMap;
use why::changes::Change;
use wire::bbs::{ActualLrpCrashedEvent, ActualLrpInstanceChangedEvent, Event, state};
use wire::router::digests::DigestMessage;
use wire::router::receipts::Receipts;
use wire::router::{FailureView, RegistryMessage, StartMessage, subject};

/// The number of routes of one change of an app that get a step.
const ROUTES: usize = 20;
/// The greatest difference of two clocks with which a time of another component is believed.
const SKEW: Micros = 60_000_000;
/// The text that only the first message of a change has.
const CHANGE: &[u8] = b"emitted_at_ns";

impl Picture {
    fn add(&mut self, step: Step) {
        self.model.touch(&step.about.app, step.at);
        let name = self.model.app_name(&step.about.app).to_owned();
        self.trains.push(step, &name);
    }

    /// Takes an event of the BBS.
    pub(crate) fn event(&mut self, event: &Event, at: Micros) {
        match event {
            Event::DesiredLrpCreated(event) => {
                let Some(lrp) = event.desired_lrp.as_ref().map(Desired::of) else {
                    return;
                };
                self.created(lrp, at, &event.trace_id);
            }
            Event::DesiredLrpChanged(event) => {
                let Some(after) = event.after.as_ref().map(Desired::of) else {
                    return;
                };
                let before = event.before.as_ref().map(Desired::of);
                self.changed(&before.unwrap_or_default(), after, at, &event.trace_id);
            }
            Event::DesiredLrpRemoved(event) => {
                let Some(lrp) = event.desired_lrp.as_ref().map(Desired::of) else {
                    return;
                };
                self.model.remove_desired(&lrp.process_guid);
                let step = Step::new(at, Station::Bbs, "The desired LRP is removed")
                    .about(&lrp.app_guid, "", Kind::Stop)
                    .of_process(&lrp.process_guid)
                    .with("process guid", &lrp.process_guid);
                self.add(caused(step, &event.trace_id));
            }
            Event::ActualLrpInstanceCreated(event) => {
                let Some(lrp) = event.actual_lrp.as_ref().and_then(Instance::of) else {
                    return;
                };
                self.instance(None, lrp, at, &event.trace_id);
            }
            Event::ActualLrpInstanceChanged(event) => self.instance_changed(event, at),
            Event::ActualLrpInstanceRemoved(event) => {
                let Some(lrp) = event.actual_lrp.as_ref().and_then(Instance::of) else {
                    return;
                };
                self.model.instances.remove(&lrp.key());
                let text = format!("Instance {} is gone", lrp.index);
                let step = Step::new(at, Station::Container, text)
                    .about(&self.app_guid(&lrp.process_guid), "", Kind::Instance)
                    .of_process(&lrp.process_guid)
                    .with("instance guid", &lrp.instance_guid);
                self.add(caused(step, &event.trace_id));
            }
            Event::ActualLrpCrashed(event) => self.crashed(event, at),
            Event::TaskCreated(_) | Event::TaskChanged(_) | Event::TaskRemoved(_) => {}
        }
    }

    fn app_guid(&self, process_guid: &str) -> String {
        let app = self.model.app_of(process_guid);
        app.map_or_else(String::new, |app| app.app_guid.clone())
    }

    fn created(&mut self, lrp: Desired, at: Micros, trace: &str) {
        let routes: Vec<&str> = lrp.uris().into_iter().collect();
        let text = format!("A desired LRP is stored, instances: {}", lrp.instances);
        let step = Step::new(at, Station::Bbs, text)
            .about(&lrp.app_guid, "", Kind::Start)
            .of_process(&lrp.process_guid)
            .with("process guid", &lrp.process_guid)
            .with("routes", routes.join(", "));
        self.model.desire(lrp);
        self.add(caused(step, trace));
    }

    fn changed(&mut self, before: &Desired, after: Desired, at: Micros, trace: &str) {
        let (old, new) = (before.uris(), after.uris());
        let mut steps = Vec::new();
        let route = |text: &str, uri: &str, kind| {
            let generation = after.routes.iter().find(|route| route.uri == uri);
            let generation = generation.map(|route| route.generation).filter(|g| *g > 0);
            Step::new(at, Station::Bbs, format!("The route {uri} is {text}"))
                .about(&after.app_guid, uri, kind)
                .of_process(&after.process_guid)
                .with("process guid", &after.process_guid)
                .with(
                    "generation",
                    generation.map_or_else(String::new, |g| g.to_string()),
                )
        };
        for uri in new.difference(&old).take(ROUTES) {
            steps.push(route("added to the desired LRP", uri, Kind::Map));
        }
        for uri in old.difference(&new).take(ROUTES) {
            steps.push(route("removed from the desired LRP", uri, Kind::Unmap));
        }
        if before.instances != after.instances {
            let text = format!("{} → {} instances", before.instances, after.instances);
            let step = Step::new(at, Station::Bbs, text).about(&after.app_guid, "", Kind::Scale);
            let step = step.of_process(&after.process_guid);
            steps.push(step.with("process guid", &after.process_guid));
        }
        self.model.desire(after);
        for step in steps {
            self.add(caused(step, trace));
        }
    }

    fn instance_changed(&mut self, event: &ActualLrpInstanceChangedEvent, at: Micros) {
        let (Some(before), Some(after)) = (&event.before, &event.after) else {
            return;
        };
        let lrp = |info: &wire::bbs::ActualLrpInfo| wire::bbs::ActualLrp {
            key: event.key.clone(),
            instance_key: event.instance_key.clone(),
            net_info: info.net_info.clone(),
            crash_count: info.crash_count,
            crash_reason: info.crash_reason.clone(),
            state: info.state.clone(),
            placement_error: info.placement_error.clone(),
            since: info.since,
            presence: info.presence,
            routable: info.routable,
            ..wire::bbs::ActualLrp::default()
        };
        let (Some(before), Some(after)) = (Instance::of(&lrp(before)), Instance::of(&lrp(after)))
        else {
            return;
        };
        if before.presence != after.presence {
            self.model.instances.remove(&before.key());
        }
        self.instance(Some(&before), after, at, &event.trace_id);
    }

    /// Takes the new state of an instance.
    fn instance(&mut self, before: Option<&Instance>, after: Instance, at: Micros, trace: &str) {
        let app = self.model.app_of(&after.process_guid).cloned();
        let app = app.unwrap_or_default();
        let steps = steps_of(before, &after, &app, at);
        self.model.add_instance(after);
        for step in steps {
            self.add(caused(step, trace));
        }
    }

    fn crashed(&mut self, event: &ActualLrpCrashedEvent, at: Micros) {
        let Some(key) = &event.key else {
            return;
        };
        let text = format!(
            "Instance {} crashed for the {}. time",
            key.index, event.crash_count
        );
        let instance = event.instance_key.clone().unwrap_or_default();
        let step = Step::new(at, Station::Container, text)
            .about(&self.app_guid(&key.process_guid), "", Kind::Crash)
            .of_process(&key.process_guid)
            .with("reason", &event.crash_reason)
            .with("instance guid", instance.instance_guid)
            .with("cell", instance.cell_id);
        self.add(step.fault());
    }

    /// Takes a message of the bus.
    pub(crate) fn message(&mut self, on: &str, payload: &[u8], at: Micros) {
        self.model.bus.messages += 1;
        self.model.bus.last = Some(at);
        match on {
            // Repetitions are many and change nothing, so they are not parsed.
            subject::REGISTER | subject::UNREGISTER if contains(payload, CHANGE) => {
                self.registration(on, payload, at);
            }
            subject::START | subject::ROUTERS => {
                if let Ok(router) = serde_json::from_slice::<StartMessage>(payload) {
                    let announced = self.model.announced.entry(router.id).or_default();
                    announced.hosts = router.hosts;
                    announced.seen = at;
                }
            }
            subject::RECEIPTS => {
                if let Ok(receipts) = serde_json::from_slice::<Receipts>(payload) {
                    self.receipts(&receipts, at);
                }
            }
            subject::DIGEST => {
                if let Ok(digest) = serde_json::from_slice::<DigestMessage>(payload) {
                    let emitter = self.model.emitters.entry(digest.emitter).or_default();
                    emitter.registrations = digest.registrations;
                    emitter.seen = at;
                    self.model.forget_silent(at);
                }
            }
            _ => {}
        }
    }

    fn registration(&mut self, on: &str, payload: &[u8], at: Micros) {
        let Ok(message) = serde_json::from_slice::<RegistryMessage>(payload) else {
            return;
        };
        let port = message.tls_port.filter(|port| *port != 0);
        let address = format!("{}:{}", message.host, port.unwrap_or(message.port));
        let app = message.app.clone().unwrap_or_default();
        let emitted = message.emitted_at_ns.map(|ns| ns / 1000);
        let emitted = emitted.filter(|emitted| emitted.abs_diff(at) < SKEW && *emitted <= at);
        let generation = message.generation.map(|g| g.to_string());
        let instance = message.private_instance_id.clone().unwrap_or_default();
        let process = self.model.process_of(&instance).to_owned();
        for uri in message.uris.iter().take(ROUTES).map(|uri| normal(uri)) {
            let registered = on == subject::REGISTER;
            if let Some(emitted) = emitted {
                let text = match registered {
                    true => format!("Publishes that {uri} leads to {address}"),
                    false => format!("Publishes that {uri} no longer leads to {address}"),
                };
                let step = Step::new(emitted, Station::RouteEmitter, text);
                let step = step.about(&app, &uri, Kind::Table).of_process(&process);
                self.add(step.with("emitter", message.emitter.clone().unwrap_or_default()));
            }
            let text = format!("{on} {uri} → {address}");
            let step = Step::new(at, Station::Nats, text).about(&app, &uri, Kind::Table);
            let step = step.of_process(&process).with("instance guid", &instance);
            self.add(step.with("generation", generation.clone().unwrap_or_default()));
        }
    }

    fn receipts(&mut self, receipts: &Receipts, at: Micros) {
        let announced = self
            .model
            .announced
            .entry(receipts.router.clone())
            .or_default();
        announced.seen = at;
        announced.confirmed = Some(at);
        let routers = self.model.confirming(at);
        // An answer to a question confirms no change.
        for route in receipts
            .routes
            .iter()
            .filter(|route| route.change.is_some())
        {
            let receipt = Receipt {
                router: &receipts.router,
                uri: &route.uri,
                endpoints: route.processes.iter().map(|p| p.endpoints).sum(),
                at,
            };
            self.trains.confirm(&receipt, &routers);
        }
    }

    /// Takes the whole table of a router, as its page `/routes` shows it.
    pub(crate) fn table(&mut self, name: &str, id: &str, since: &str, page: &Value) {
        let routes = page.as_object().into_iter().flatten();
        let endpoints = |rows: &Value| -> BTreeMap<String, Endpoint> {
            let rows = rows.as_array().into_iter().flatten();
            let address = |row: &Value| row["address"].as_str().unwrap_or_default().to_owned();
            rows.map(|row| (address(row), Endpoint::of_table(row)))
                .collect()
        };
        let table = routes.map(|(uri, rows)| (uri.clone(), endpoints(rows)));
        let router = Router {
            id: id.to_owned(),
            table: table.collect(),
            since: since.to_owned(),
            ..Router::default()
        };
        self.model.routers.insert(name.to_owned(), router);
    }

    /// Takes requests that a router itself answered with an error of the server's side.
    pub(crate) fn failures(&mut self, router: &str, failures: &[FailureView], now: Micros) {
        for failure in failures.iter().filter(|failure| failure.status >= 500) {
            let age = (failure.age.max(0.0) * 1e6) as Micros;
            let failing = Failing {
                at: now.saturating_sub(age),
                router: router.to_owned(),
                status: failure.status,
                error: failure.error.clone(),
                path: failure.path.clone(),
            };
            self.model.fail(&failure.host, failing);
        }
    }

    /// Takes a change of a router's table.
    pub(crate) fn change(&mut self, name: &str, change: &Change, at: Micros) {
        let router = self.model.routers.entry(name.to_owned()).or_default();
        router.changes += 1;
        router.last_change = Some(at);
        apply(&mut router.table, change);
        let endpoint = change.endpoint.clone().unwrap_or_default();
        let uri = normal(&change.uri);
        let text = match change.kind.as_str() {
            "registered" => format!("The table leads {uri} to {}", endpoint.address),
            "changed" => format!("The table has a new state of {uri} → {}", endpoint.address),
            "unregistered" => format!("The table no longer leads {uri} to {}", endpoint.address),
            "pruned" => format!(
                "{} of {uri} failed or was silent, and is removed",
                endpoint.address
            ),
            "evicted" => format!(
                "{uri} belongs to a component: {} is removed",
                endpoint.address
            ),
            "refused" => format!("{uri} belongs to a component: the message is refused"),
            "forgotten" => format!("The route {uri} without endpoints ends"),
            other => format!("{other} {uri}"),
        };
        let step = Step::new(at, Station::Router, text)
            .about(&endpoint.application_id, &uri, Kind::Table)
            .of_process(self.model.process_of(&endpoint.instance_id))
            .with("router", name)
            .with("cause", &change.source)
            .with("instance guid", &endpoint.instance_id);
        let is_fault = matches!(change.kind.as_str(), "pruned" | "refused" | "evicted");
        self.add(if is_fault { step.fault() } else { step });
    }
}

/// Applies a change to a table.
fn apply(table: &mut BTreeMap<String, BTreeMap<String, Endpoint>>, change: &Change) {
    let address = change.endpoint.as_ref().map(|endpoint| &endpoint.address);
    match (change.kind.as_str(), &change.endpoint, address) {
        ("registered" | "changed", Some(endpoint), Some(address)) => {
            let route = table.entry(change.uri.clone()).or_default();
            route.insert(address.clone(), Endpoint::of_change(endpoint));
        }
        ("unregistered" | "pruned" | "evicted", _, Some(address)) => {
            if let Some(route) = table.get_mut(&change.uri) {
                route.remove(address);
            }
        }
        _ => {}
    }
    if change.route.as_deref() == Some("gone") {
        table.remove(&change.uri);
    }
}

fn caused(mut step: Step, trace: &str) -> Step {
    trace.clone_into(&mut step.request);
    step
}

/// Returns the steps of an instance that takes a new state.
fn steps_of(before: Option<&Instance>, after: &Instance, app: &Desired, at: Micros) -> Vec<Step> {
    let index = after.index;
    let at_station = |station, text: String| {
        let step = Step::new(at, station, text).about(&app.app_guid, "", Kind::Instance);
        step.of_process(&after.process_guid)
    };
    let is_new = before.is_none_or(|before| before.state != after.state);
    let mut steps = Vec::new();
    match after.state.as_str() {
        state::UNCLAIMED if is_new => steps.push(at_station(
            Station::Auctioneer,
            format!("Instance {index} waits for a cell"),
        )),
        state::CLAIMED if is_new => steps.push(
            at_station(
                Station::Cell,
                format!("{} claims instance {index}", after.cell_id),
            )
            .with("instance guid", &after.instance_guid),
        ),
        state::RUNNING if is_new => {
            let text = format!("Instance {index} runs at {}", after.container);
            let container = at_station(Station::Container, text);
            steps.push(container.with("instance guid", &after.instance_guid));
            let port = app.routes.first().map_or(8080, |route| route.port);
            let proxy = after.ports.iter().find(|m| m.container_port == port);
            let proxy = proxy.map_or(0, |mapping| mapping.container_tls_proxy_port);
            if proxy != 0 {
                let text = format!("Envoy listens on {proxy} for the port {port}");
                steps.push(at_station(Station::Envoy, text));
            }
            if let Some(translation) = after.translation(port) {
                steps.push(at_station(Station::Dnat, translation));
            }
        }
        _ => {}
    }
    if let Some(before) = before {
        if before.placement_error != after.placement_error && !after.placement_error.is_empty() {
            let text = format!("Instance {index} is not placed: {}", after.placement_error);
            steps.push(at_station(Station::Auctioneer, text).fault());
        }
        if before.is_routable != after.is_routable {
            let text = match after.is_routable {
                true => format!("Instance {index} is ready for requests"),
                false => format!("Instance {index} is not ready for requests"),
            };
            steps.push(at_station(Station::Cell, text));
        }
    }
    steps
}

/// Returns whether a text contains another one.
fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests;
