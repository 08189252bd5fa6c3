//! Stories of a foundation of five machines: they join by files alone, an app spreads over two cells, two routers serve it, and the
//! rest continues when one machine is gone.

use crate::{Story, story};
use anyhow::{Context as _, Result, ensure};
use std::collections::BTreeSet;
use testkit::foundation::{example, wait_for};
use testkit::machines::{CELLS, CONTROL, Machines, ROUTERS};

pub(crate) const STORIES: &[Story<Machines>] = &[
    story("machines_join_by_files_alone", join_by_files),
    story("machines_share_the_instances_of_an_app", instances_spread),
    story("machines_are_all_asked_by_why", all_are_asked),
    story("machines_share_the_key_of_route_services", share_a_key),
    story("machines_lose_a_server_of_the_bus", lose_a_bus_server),
    story("machines_replace_a_lost_cell", lose_a_cell),
    story("machines_stop_an_app_everywhere", stop_everywhere),
];

const APP: &str = "spread";
const INSTANCES: usize = 4;

fn join_by_files(m: &mut Machines) -> Result<()> {
    let cells = wait_for("both cells", 60, || {
        let cells = m.cfdot(CONTROL, "cells")?;
        Ok((cells.len() == CELLS.len()).then_some(cells))
    })?;
    for cell in CELLS {
        let own = cells.iter().find(|row| row["cell_id"] == cell);
        let own = own.with_context(|| format!("{cell} is not in {cells:?}"))?;
        ensure!(own["zone"] == format!("zone-of-{cell}"), "{own}");
        // An operator sees the whole foundation from a cell, too.
        ensure!(m.cfdot(cell, "cells")?.len() == CELLS.len());
    }
    Ok(())
}

/// Waits until the app has all its instances on these cells. Returns their guids.
fn wait_for_instances(m: &Machines, cells: &[&str], seconds: u64) -> Result<BTreeSet<String>> {
    wait_for("all instances in their places", seconds, || {
        let instances = m.instances()?;
        let on = |cell: &str| instances.iter().filter(|(_, on, _)| on == cell).count();
        let even = cells.iter().all(|cell| on(cell) == INSTANCES / cells.len());
        ensure!(even && instances.len() == INSTANCES, "{instances:?}");
        Ok(Some(instances.into_iter().map(|(.., guid)| guid).collect()))
    })
}

/// Waits until a router has answered with each of the instances and with no other one.
fn wait_for_router(m: &Machines, router: &str, host: &str, guids: &BTreeSet<String>) -> Result<()> {
    wait_for(&format!("{router} serves every instance"), 60, || {
        let mut seen = BTreeSet::new();
        for _ in 0..4 * INSTANCES {
            let id: serde_json::Value = serde_json::from_str(&m.get(router, host, "/id")?)?;
            seen.insert(id["instance_guid"].as_str().unwrap_or_default().to_owned());
        }
        ensure!(seen == *guids, "{seen:?} instead of {guids:?}");
        Ok(Some(()))
    })
}

fn both_routers_serve(m: &Machines, host: &str, guids: &BTreeSet<String>) -> Result<()> {
    for router in ROUTERS {
        wait_for_router(m, router, &m.host(host), guids)?;
    }
    Ok(())
}

fn instances_spread(m: &mut Machines) -> Result<()> {
    m.push(APP, u32::try_from(INSTANCES)?)?;
    let guids = wait_for_instances(m, &CELLS, 60)?;
    both_routers_serve(m, APP, &guids)?;
    wait_for("the logs of all instances", 30, || {
        let logs = m.cf_ok(&["logs", APP, "--recent"])?;
        let from = |index: usize| logs.contains(&format!("[APP/PROC/WEB/{index}]"));
        Ok((0..INSTANCES).all(from).then_some(()))
    })
}

fn all_are_asked(m: &mut Machines) -> Result<()> {
    // The control plane has no router, and nobody names one.
    wait_for("a right route", 60, || {
        let explanation = m.why(CONTROL, &m.host(APP))?;
        ensure!(explanation["is_right"] == true, "{explanation}");
        let hops = explanation["hops"].as_array().context("no hops")?;
        let count = |part: &str| hops.iter().filter(|hop| hop["part"] == part).count();
        ensure!(
            (count("cell"), count("answer")) == (INSTANCES, ROUTERS.len()),
            "{explanation}"
        );
        ensure!(count("table") == INSTANCES * ROUTERS.len(), "{explanation}");
        Ok(Some(()))
    })
}

/// Tests that a request visits its route service by each router. Containers send it back to the first router, also when it came by the
/// second one, so each router accepts what the other has sealed.
fn share_a_key(m: &mut Machines) -> Result<()> {
    // Containers reach no router on another machine unless a group permits it.
    let group = r#"{"name":"to-the-router","globally_enabled":{"running":true},"rules":[{"protocol":"tcp","destination":"10.77.0.5","ports":"443"}]}"#;
    m.cf_ok(&["curl", "/v3/security_groups", "-X", "POST", "-d", group])?;
    let service = example("route-service");
    m.cf_ok(&["push", "gate", "-p", &service, "-m", "64M", "-k", "128M"])?;
    let url = format!("https://{}", m.host("gate"));
    m.cf_ok(&["cups", "gate", "-r", &url])?;
    m.cf_ok(&["bind-route-service", m.domain(), "gate", "--hostname", APP])?;
    for router in ROUTERS {
        wait_for(&format!("a visit by {router}"), 60, || {
            let shown = m.get(router, &m.host(APP), "/headers")?;
            let is_visited = shown.to_ascii_lowercase().contains("x-visited: gate");
            Ok(is_visited.then_some(()))
        })?;
    }
    m.cf_ok(&["delete-service", "gate", "-f"])?;
    m.cf_ok(&["delete", "gate", "-f", "-r"])?;
    let guids = wait_for_instances(m, &CELLS, 10)?;
    both_routers_serve(m, APP, &guids)
}

fn lose_a_bus_server(m: &mut Machines) -> Result<()> {
    let guids = wait_for_instances(m, &CELLS, 10)?;
    m.kill(ROUTERS[1])?;
    m.cf_ok(&["map-route", APP, m.domain(), "--hostname", "second"])?;
    wait_for_router(m, ROUTERS[0], &m.host("second"), &guids)?;
    wait_for("the lost router to be named", 60, || {
        let explanation = m.why(CONTROL, &m.host("second"))?;
        let guilty = explanation["guilty"].as_u64().context("nothing is wrong")?;
        let hop = &explanation["hops"][usize::try_from(guilty)?];
        ensure!(
            hop["component"] == "router" && hop["part"] == "page",
            "{explanation}"
        );
        Ok(Some(()))
    })?;
    m.start(ROUTERS[1])?;
    both_routers_serve(m, "second", &guids)?;
    both_routers_serve(m, APP, &guids)
}

fn lose_a_cell(m: &mut Machines) -> Result<()> {
    let [kept, lost] = CELLS;
    // The machine is off: nobody reaches its containers, and its rep says nothing.
    m.connect(lost, false)?;
    m.kill(lost)?;
    let guids = wait_for_instances(m, &[kept], 120)?;
    both_routers_serve(m, APP, &guids)?;

    m.connect(lost, true)?;
    m.start(lost)?;
    wait_for("both cells", 60, || {
        Ok((m.cfdot(CONTROL, "cells")?.len() == CELLS.len()).then_some(()))
    })?;
    wait_for("the end of the containers that were replaced", 90, || {
        Ok(m.containers(lost)?.is_empty().then_some(()))
    })?;
    ensure!(wait_for_instances(m, &[kept], 30)? == guids);
    // The cell that came back takes work again.
    m.cf_ok(&["restart", APP])?;
    let guids = wait_for_instances(m, &CELLS, 60)?;
    both_routers_serve(m, APP, &guids)
}

fn stop_everywhere(m: &mut Machines) -> Result<()> {
    m.cf_ok(&["delete", APP, "-f", "-r"])?;
    for router in ROUTERS {
        wait_for("the end of the route", 30, || {
            Ok(m.get(router, &m.host(APP), "/").is_err().then_some(()))
        })?;
    }
    for cell in CELLS {
        wait_for("an empty cell", 60, || {
            Ok(m.containers(cell)?.is_empty().then_some(()))
        })?;
    }
    Ok(())
}
