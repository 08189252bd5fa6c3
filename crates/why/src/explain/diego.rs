//! The hops of Diego: the desired LRP with its routes, and one actual LRP for each instance.

use super::control::Target;
use super::{SETTLED, Steps, normal};
use crate::component::Component::{Auctioneer, Bbs};
use crate::explanation::{Step, Verdict};
use crate::facts::{Actual, Answer, Desired, Facts};
use wire::bbs::state;
use wire::rep::Inspection;

/// An instance that the following hops are about.
#[derive(Clone, Debug)]
pub(super) struct Instance<'a> {
    /// The name for people: `proxy/0`.
    pub(super) name: String,
    pub(super) actual: &'a Actual,
    /// The port of the app to which the route leads.
    pub(super) port: u16,
    pub(super) isolation_segment: &'a str,
    pub(super) inspection: Option<&'a Answer<Inspection>>,
}

impl Instance<'_> {
    pub(super) fn is_running(&self) -> bool {
        self.actual.state == state::RUNNING
    }

    /// Returns the mapping of the app's port that has a port on the cell.
    pub(super) fn mapping(&self) -> Option<crate::facts::Port> {
        let mut ports = self.actual.ports.iter();
        ports
            .find(|port| port.app == self.port && (port.host, port.host_proxy) != (0, 0))
            .copied()
    }

    /// Returns the address at which routers reach the instance, and whether they use TLS.
    pub(super) fn address(&self) -> Option<(String, bool)> {
        let mapping = self.mapping()?;
        let tls = mapping.host_proxy != 0;
        let port = if tls {
            mapping.host_proxy
        } else {
            mapping.host
        };
        (port != 0).then(|| (format!("{}:{port}", self.actual.address), tls))
    }
}

/// Adds the hops of one target. Returns its instances that are placed on a cell.
pub(super) fn instances<'a>(
    facts: &'a Facts,
    target: &Target,
    steps: &mut Steps,
) -> Vec<Instance<'a>> {
    let is_target = |process_guid: &str| {
        let mut guids = target.process_guids.iter();
        guids.any(|guid| process_guid.starts_with(guid.as_str()))
    };
    let desired = match &facts.desired {
        Err(problem) => {
            unread(problem, "desired LRP", &target.name, steps);
            return Vec::new();
        }
        Ok(all) => all
            .iter()
            .filter(|desired| is_target(&desired.process_guid)),
    };
    let desired: Vec<&Desired> = desired.collect();
    check_desired(target, &desired, steps);
    let actual = match &facts.actual {
        Err(problem) => {
            unread(problem, "actual LRP", &target.name, steps);
            return Vec::new();
        }
        Ok(all) => all.iter().filter(|actual| is_target(&actual.process_guid)),
    };
    let mut placed = Vec::new();
    let mut known = 0;
    for actual in actual {
        known += 1;
        let route = desired
            .iter()
            .filter(|desired| desired.process_guid == actual.process_guid)
            .flat_map(|desired| &desired.routes)
            .find(|route| normal(&route.url) == target.url);
        let instance = Instance {
            name: format!("{}/{}", target.name, actual.index),
            actual,
            port: target.port,
            isolation_segment: route.map_or("", |route| route.isolation_segment.as_str()),
            inspection: facts.inspections.get(&actual.instance_guid),
        };
        check_actual(facts.now, &instance, steps);
        if !actual.cell_id.is_empty() && actual.state != state::UNCLAIMED {
            placed.push(instance);
        }
    }
    if known == 0 && !desired.is_empty() {
        let verdict = Verdict::wrong(
            format!("The BBS has no actual LRP of {}.", target.name),
            "The convergence of the BBS creates it within 30 s; else see the log of the role bbs.",
        );
        steps.add((Bbs, "actual LRP"), &target.name, "", verdict);
    }
    placed
}

fn unread(problem: &str, part: &'static str, subject: &str, steps: &mut Steps) {
    let verdict = Verdict::unread(
        format!("The BBS cannot be read: {problem}."),
        "Start the role bbs, and see its log.",
    );
    steps.add((Bbs, part), subject, "", verdict);
}

fn check_desired(target: &Target, desired: &[&Desired], steps: &mut Steps) {
    let (name, url) = (&target.name, &target.url);
    let Some(first) = desired.first() else {
        let verdict = Verdict::wrong(
            format!("The BBS has no desired LRP of {name}."),
            "The sync of the Cloud Controller repairs it within 30 s; else see the log of the role cloud-controller.",
        );
        steps.add((Bbs, "desired LRP"), name, "", verdict);
        return;
    };
    let routes = || desired.iter().flat_map(|desired| &desired.routes);
    let carried: Vec<_> = routes().filter(|r| normal(&r.url) == *url).collect();
    let found: u32 = desired.iter().map(|desired| desired.instances).sum();
    let verdict = if carried.is_empty() {
        Verdict::wrong(
            format!("The desired LRP of {name} does not carry the route {url}."),
            "The sync of the Cloud Controller repairs it within 30 s; else see the log of the role cloud-controller.",
        )
    } else if !carried.iter().any(|route| route.port == target.port) {
        Verdict::wrong(
            format!(
                "The desired LRP of {name} carries {url} for port {}, and the destination is port {}.",
                carried[0].port, target.port
            ),
            "The sync of the Cloud Controller repairs it within 30 s; else see the log of the role cloud-controller.",
        )
    } else if found < target.instances {
        Verdict::wrong(
            format!(
                "The desired LRP of {name} has {found} instances, and the Cloud Controller has {}.",
                target.instances
            ),
            "The sync of the Cloud Controller repairs it within 30 s; else see the log of the role cloud-controller.",
        )
    } else {
        Verdict::Right
    };
    let found = format!(
        "{} × {found}, {} routes",
        first.process_guid,
        routes().count()
    );
    steps.add((Bbs, "desired LRP"), name, found, verdict);
}

fn check_actual(now: i64, instance: &Instance<'_>, steps: &mut Steps) {
    let (name, actual) = (&instance.name, instance.actual);
    let age = now.saturating_sub(actual.since);
    let logs = format!(
        "See the app's log: cupola cf logs {} --recent.",
        name.split('/').next().unwrap_or_default()
    );
    let (component, verdict) = match actual.state.as_str() {
        state::RUNNING if actual.routable == Some(false) => (
            Bbs,
            Verdict::wrong(
                format!("The readiness check of {name} fails, so it gets no requests."),
                logs,
            ),
        ),
        state::RUNNING => (Bbs, Verdict::Right),
        state::CRASHED => (
            Bbs,
            Verdict::wrong(
                format!(
                    "{name} has crashed {} times, last because: {}.",
                    actual.crash_count,
                    known(&actual.crash_reason)
                ),
                logs,
            ),
        ),
        state::CLAIMED => (
            Bbs,
            Verdict::waits(
                format!("{name} is starting on cell {} for {age} s.", actual.cell_id),
                logs,
            ),
        ),
        _ if !actual.placement_error.is_empty() => (
            Auctioneer,
            Verdict::wrong(
                format!("No cell takes {name}: {}.", actual.placement_error),
                "Add a cell, or make memory, disk or the placement tag free: cupola cfdot cell-states.",
            ),
        ),
        _ if age <= SETTLED => (
            Bbs,
            Verdict::waits(
                format!("{name} waits for an auction for {age} s."),
                "Wait for a moment.",
            ),
        ),
        other => (
            Auctioneer,
            Verdict::wrong(
                format!("{name} is {other} for {age} s: no auction has placed it."),
                "See the log of the role auctioneer.",
            ),
        ),
    };
    steps.push(Step {
        component,
        part: "actual LRP",
        subject: name.clone(),
        found: format!("{} {}", actual.state, actual.instance_guid),
        age: Some(age as f64),
        verdict,
    });
}

fn known(reason: &str) -> &str {
    if reason.is_empty() {
        "the reason is unknown"
    } else {
        reason.trim_end_matches('.')
    }
}
