//! The hops of Diego: the desired LRP with its routes, and one actual LRP for each instance.

use super::control::Target;
use super::{Hops, SETTLED, after_commit, has_just_changed, normal, propagation};
use crate::component::Component::{Auctioneer, Bbs};
use crate::explanation::{Hop, Verdict};
use crate::facts::{Actual, Answer, Desired, DesiredRoute, Facts};
use std::collections::BTreeSet;
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
    /// The number of the last change of the route that Diego has; 0 if it has none.
    pub(super) generation: u64,
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
    hops: &mut Hops,
) -> Vec<Instance<'a>> {
    let is_target = |process_guid: &str| {
        let mut guids = target.process_guids.iter();
        guids.any(|guid| process_guid.starts_with(guid.as_str()))
    };
    let desired = match &facts.desired {
        Err(problem) => {
            unread(problem, "desired LRP", &target.name, hops);
            return Vec::new();
        }
        Ok(all) => all
            .iter()
            .filter(|desired| is_target(&desired.process_guid)),
    };
    let desired: Vec<&Desired> = desired.collect();
    check_desired(facts, target, &desired, hops);
    let actual = match &facts.actual {
        Err(problem) => {
            unread(problem, "actual LRP", &target.name, hops);
            return Vec::new();
        }
        Ok(all) => all.iter().filter(|actual| is_target(&actual.process_guid)),
    };
    let mut placed = Vec::new();
    let mut known = BTreeSet::new();
    for actual in actual {
        known.insert((&actual.process_guid, actual.index));
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
            generation: route.map_or(0, |route| route.generation),
            inspection: facts.inspections.get(&actual.instance_guid),
        };
        check_actual(facts.now, &instance, hops);
        if !actual.cell_id.is_empty() && actual.state != state::UNCLAIMED {
            placed.push(instance);
        }
    }
    let wanted = desired.iter().flat_map(|desired| {
        let all = 0..i32::try_from(desired.instances).unwrap_or(i32::MAX);
        all.map(move |index| (&desired.process_guid, index))
    });
    for (_, index) in wanted.filter(|instance| !known.contains(instance)) {
        let name = format!("{}/{index}", target.name);
        let verdict = Verdict::wrong(
            format!("The BBS has no actual LRP of {name}."),
            "The convergence of the BBS creates it within 30 s; else see the log of the role bbs.",
        );
        hops.add((Bbs, "actual LRP"), &name, "", verdict);
    }
    placed
}

fn unread(problem: &str, part: &'static str, subject: &str, hops: &mut Hops) {
    let verdict = Verdict::unread(
        format!("The BBS cannot be read: {problem}."),
        "Start the role bbs, and see its log.",
    );
    hops.add((Bbs, part), subject, "", verdict);
}

fn check_desired(facts: &Facts, target: &Target, desired: &[&Desired], hops: &mut Hops) {
    let (name, url) = (&target.name, &target.url);
    let Some(first) = desired.first() else {
        let verdict = Verdict::wrong(
            format!("The BBS has no desired LRP of {name}."),
            "The sync of the Cloud Controller repairs it within 30 s; else see the log of the role cloud-controller.",
        );
        hops.add((Bbs, "desired LRP"), name, "", verdict);
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
        generation_verdict(facts, target, &carried)
    };
    let found = format!(
        "{} × {found}, {} routes",
        first.process_guid,
        routes().count()
    );
    let generation = carried.iter().map(|route| route.generation).max();
    hops.push(Hop {
        generation: generation.filter(|generation| *generation > 0),
        after_ms: after_commit(facts, propagation(facts).and_then(|p| p.desired_at_ns)),
        ..Hop::new((Bbs, "desired LRP"), name, found, verdict)
    });
}

/// Judges whether the desired LRP has the last change of the destination.
fn generation_verdict(facts: &Facts, target: &Target, carried: &[&DesiredRoute]) -> Verdict {
    let has = carried.iter().map(|route| route.generation).max();
    let (has, wanted) = (has.unwrap_or_default(), target.generation);
    if has >= wanted {
        return Verdict::Right;
    }
    let reason = format!(
        "The desired LRP of {} has the route as of change {has}, and the last change is {wanted}.",
        target.name
    );
    if has_just_changed(facts) {
        return Verdict::waits(reason, "Wait for a moment.");
    }
    Verdict::wrong(
        reason,
        "The sync of the Cloud Controller repairs it within 30 s; else see the log of the role cloud-controller.",
    )
}

fn check_actual(now: i64, instance: &Instance<'_>, hops: &mut Hops) {
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
        _ if !actual.placement_error.is_empty() => (
            Auctioneer,
            Verdict::wrong(
                format!(
                    "No cell takes {name}: {}.",
                    actual.placement_error.trim_end_matches('.')
                ),
                room(&actual.placement_error),
            ),
        ),
        state::CLAIMED | state::UNCLAIMED if actual.crash_count > 0 => (
            Bbs,
            Verdict::wrong(
                format!(
                    "{name} starts again; it has crashed {} times, last because: {}.",
                    actual.crash_count,
                    known(&actual.crash_reason)
                ),
                logs,
            ),
        ),
        state::CLAIMED => (
            Bbs,
            Verdict::waits(
                format!(
                    "{name} is starting on cell {} for {age} s, and its health check has not passed yet.",
                    actual.cell_id
                ),
                logs,
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
    let leaves = if actual.is_evacuating {
        ", leaves its cell"
    } else {
        ""
    };
    let found = format!("{} {}{leaves}", actual.state, actual.instance_guid);
    hops.push(Hop {
        age: Some(age as f64),
        ..Hop::new((component, "actual LRP"), name, found, verdict)
    });
}

/// Returns how to make room for an instance that no cell takes.
fn room(placement_error: &str) -> &'static str {
    if placement_error.contains("insufficient") {
        "Stop or scale down other apps, lower the limits of this one, or add a cell: cupola cfdot cell-states shows what is free."
    } else {
        "Add a cell with the stack, the placement tags and the isolation segment that the app needs, or restage the app for those of a cell: cupola cfdot cell-states."
    }
}

fn known(reason: &str) -> &str {
    if reason.is_empty() {
        "the reason is unknown"
    } else {
        reason.trim_end_matches('.')
    }
}
