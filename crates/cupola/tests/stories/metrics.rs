//! Stories of the pages on which operators watch a foundation's processes: every metric that the documentation lists has a value,
//! the values follow what happens, and a role that lacks something names it.

use crate::{Story, story};
use anyhow::{Context as _, Result, anyhow, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::collections::BTreeSet;
use testkit::foundation::{Foundation, wait_for};
use testkit::metrics::{self, get};

pub(crate) const STORIES: &[Story] = &[
    story("metrics_every_listed_one_has_a_value", every_listed),
    story("metrics_follow_what_happens", follow),
    story("metrics_every_role_is_ready", every_role_is_ready),
];

/// The stories of a foundation of many processes.
pub(crate) const OF_MANY: &[Story] = &[story(
    "metrics_a_role_names_what_it_lacks",
    a_role_names_what_it_lacks,
)];

/// The roles in the order in which the first one of a process decides its port.
const ORDER: &[&str] = &[
    "nats",
    "bbs",
    "auctioneer",
    "uaa",
    "log-cache",
    "cloud-controller",
    "cell",
    "dns",
    "router",
    "dashboard",
    "ssh-proxy",
];
/// The parts of roles that are listed by themselves.
const PARTS_OF_ROLES: &[&str] = &["route-emitter", "route-registrar"];

/// Returns the port of the pages of a process with these roles.
fn port(f: &Foundation, roles: &[&str]) -> Result<u16> {
    let first = ORDER.iter().find(|role| roles.contains(role));
    let port = first.and_then(|role| f.plan["metrics_ports"][*role].as_u64());
    Ok(u16::try_from(port.context("the plan has no port for it")?)?)
}

/// Returns the ports of all processes.
fn ports(f: &Foundation) -> Result<Vec<u16>> {
    if f.parts.is_empty() {
        return Ok(vec![port(f, ORDER)?]);
    }
    let parts = f.parts.iter();
    parts
        .map(|(roles, _)| port(f, &roles.split(',').collect::<Vec<_>>()))
        .collect()
}

fn page(port: u16, path: &str) -> Result<(u16, String)> {
    get(port, path).map_err(|error| anyhow!(error))
}

/// Returns the metrics of all processes, one page after the other.
fn all_metrics(f: &Foundation) -> Result<String> {
    let mut all = String::new();
    for port in ports(f)? {
        let (status, text) = page(port, "/metrics")?;
        ensure!(status == 200, "/metrics on port {port}: {status}");
        all.push_str(&text);
    }
    Ok(all)
}

fn every_listed(f: &mut Foundation) -> Result<()> {
    let listed = metrics::listed();
    let all = wait_for("a value of every metric", 60, || {
        let all = all_metrics(f)?;
        let missing = listed.iter().filter(|m| !metrics::has_value(&all, &m.name));
        let missing: Vec<&str> = missing.map(|m| m.name.as_str()).collect();
        ensure!(missing.is_empty(), "without a value: {missing:?}");
        Ok(Some(all))
    })?;
    // The router's rows are on a page of their own too, which docs/router.md describes.
    let (_, routers) = page(f.port("router_status"), "/metrics")?;
    let routers = metrics::kinds(&routers);
    for name in routers.keys() {
        ensure!(all.contains(name), "the process does not show {name}");
    }
    for (name, kind) in metrics::kinds(&all) {
        if routers.contains_key(name) {
            continue;
        }
        let row = listed.iter().find(|m| m.name == name);
        let row = row.with_context(|| format!("{name} is not in docs/operations.md"))?;
        ensure!(row.kind == kind, "{name} is a {kind}, not a {}", row.kind);
    }
    Ok(())
}

fn value(f: &Foundation, name: &str) -> Result<f64> {
    metrics::value(&all_metrics(f)?, name).with_context(|| format!("{name} has no value"))
}

fn follow(f: &mut Foundation) -> Result<()> {
    let before = value(f, "cc_requests_completed_total")?;
    f.cf_ok(&["apps"])?;
    let after = value(f, "cc_requests_completed_total")?;
    ensure!(after > before, "requests: {before}, then {after}");

    wait_for("as many instances as the BBS lists", 30, || {
        let rows = f.cfdot(&["actual-lrps"])?;
        let running = rows
            .iter()
            .filter(|row| row["state"] == "RUNNING" && row["presence"] == "ORDINARY")
            .count();
        let (shown, emitted) = (
            value(f, "bbs_lrps_running")?,
            value(f, "route_emitter_routes")?,
        );
        ensure!(running > 0, "no instance runs");
        ensure!(shown == running as f64, "{shown} instances, not {running}");
        ensure!(emitted > 0.0, "no route is emitted");
        Ok(Some(()))
    })?;
    ensure!(value(f, "bbs_present_cells")? == 1.0, "there is one cell");
    ensure!(value(f, "total_routes")? > 0.0, "the router has no route");
    let roles = if f.parts.is_empty() {
        ORDER
    } else {
        &["cell"][..]
    };
    let (_, cell) = page(port(f, roles)?, "/metrics")?;
    let memory = |what: &str| {
        let name = format!("rep_capacity_{what}_memory_bytes");
        metrics::value(&cell, &name).with_context(|| format!("{name} has no value"))
    };
    let (total, left, booked) = (memory("total")?, memory("remaining")?, memory("allocated")?);
    ensure!(total >= left && booked > 0.0, "{total}, {left}, {booked}");
    Ok(())
}

fn every_role_is_ready(f: &mut Foundation) -> Result<()> {
    let mut seen = BTreeSet::new();
    for port in ports(f)? {
        let body = wait_for("readiness", 60, || {
            let (status, body) = page(port, "/ready")?;
            ensure!(status == 200, "{status}: {body}");
            Ok(Some(body))
        })?;
        let body: Value = serde_json::from_str(&body)?;
        let roles = body["roles"].as_object().context("no roles")?;
        for role in roles.keys() {
            let (status, body) = page(port, &format!("/ready/{role}"))?;
            ensure!(status == 200, "{role}: {status} {body}");
            seen.insert(role.clone());
        }
        ensure!(page(port, "/ready/nobody")?.0 == 404);
        ensure!(page(port, "/healthz")? == (200, "ok\n".to_owned()));
    }
    let wanted = ORDER.iter().chain(PARTS_OF_ROLES);
    let wanted: BTreeSet<String> = wanted.map(ToString::to_string).collect();
    ensure!(seen == wanted, "{seen:?}");
    Ok(())
}

/// Waits until the role is not ready for a reason that contains `reason`.
fn wait_for_lack(port: u16, role: &str, reason: &str) -> Result<()> {
    wait_for(&format!("{role} lacks {reason}"), 90, || {
        let (status, body) = page(port, &format!("/ready/{role}"))?;
        ensure!(status == 503 && body.contains(reason), "{status}: {body}");
        Ok(Some(()))
    })
}

fn wait_for_readiness(port: u16, role: &str) -> Result<()> {
    wait_for(&format!("{role} is ready again"), 90, || {
        let (status, body) = page(port, &format!("/ready/{role}"))?;
        ensure!(status == 200, "{status}: {body}");
        Ok(Some(()))
    })
}

fn a_role_names_what_it_lacks(f: &mut Foundation) -> Result<()> {
    let (cell, router) = (port(f, &["cell"])?, port(f, &["router"])?);
    let users = port(f, &["uaa", "log-cache", "cloud-controller"])?;
    for (ended, lacking) in [
        (
            "nats",
            &[
                (cell, "route-emitter", "the message bus"),
                (cell, "dns", "the message bus"),
                (router, "router", "the message bus"),
                (users, "route-registrar", "the message bus"),
            ][..],
        ),
        (
            "bbs,auctioneer",
            &[
                (cell, "cell", "the presence at locket"),
                (users, "cloud-controller", "the BBS"),
            ][..],
        ),
    ] {
        f.end(ended, Signal::SIGTERM)?;
        for (port, role, reason) in lacking {
            wait_for_lack(*port, role, reason)?;
        }
        // Roles that need nothing of it stay ready.
        wait_for_readiness(users, "uaa")?;
        wait_for_readiness(users, "log-cache")?;
        f.serve(ended)?;
        for (port, role, _) in lacking {
            wait_for_readiness(*port, role)?;
        }
    }
    for role in ["bbs", "auctioneer"] {
        wait_for_readiness(port(f, &["bbs", "auctioneer"])?, role)?;
    }
    wait_for_readiness(port(f, &["nats"])?, "nats")
}
