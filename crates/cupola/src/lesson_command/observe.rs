//! Reads the foundation for the lesson: which apps run, what the router's table has, and where an instance is.

use crate::plan::Plan;
use crate::{exec, routes};
use anyhow::{Context as _, Result};
use lesson::{Condition, State};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use wire::bbs::{ActualLrp, ActualLrpsRequest, DesiredLrp, DesiredLrpsRequest, state};

/// The running instance of an app with the lowest index.
#[derive(Clone, Debug)]
pub(super) struct Instance {
    pub(super) app_guid: String,
    pub(super) guid: String,
    /// The address of the container.
    pub(super) overlay: Ipv4Addr,
    pub(super) cell: Ipv4Addr,
    /// The cell's port that leads to the instance's Envoy, and the Envoy's port.
    pub(super) host_tls_port: u16,
    pub(super) envoy_port: u16,
}

struct Lists {
    running: Vec<ActualLrp>,
    desired: Vec<DesiredLrp>,
}

async fn lists(data: &Path, plan: &Plan) -> Result<Lists> {
    let bbs = exec::bbs_client(data, plan)?;
    let actual = bbs.actual_lrps(&ActualLrpsRequest::default()).await;
    let actual = actual.context(
        "query the BBS: is the foundation running? start it with `make up` or `cupola up`",
    )?;
    let is_running = |lrp: &ActualLrp| lrp.state == state::RUNNING;
    Ok(Lists {
        running: actual.into_iter().filter(is_running).collect(),
        desired: bbs.desired_lrps(&DesiredLrpsRequest::default()).await?,
    })
}

fn app_name(desired: &DesiredLrp) -> Option<&str> {
    let tag = desired.metric_tags.get("app_name")?;
    Some(tag.static_value.as_str())
}

/// Returns the sentences about the conditions that are not met.
pub(super) async fn missing(
    data: &Path,
    plan: &Plan,
    conditions: &[Condition],
) -> Result<Vec<String>> {
    if conditions.is_empty() {
        return Ok(Vec::new());
    }
    let state = read_state(data, plan).await?;
    let missing = conditions.iter();
    Ok(missing.filter_map(|c| c.missing(&state)).collect())
}

async fn read_state(data: &Path, plan: &Plan) -> Result<State> {
    let lists = lists(data, plan).await?;
    let names: BTreeMap<&str, &str> = lists
        .desired
        .iter()
        .filter_map(|desired| Some((desired.process_guid.as_str(), app_name(desired)?)))
        .collect();
    let mut state = State::default();
    for lrp in &lists.running {
        let process = lrp.key.as_ref().map(|key| key.process_guid.as_str());
        if let Some(name) = process.and_then(|guid| names.get(guid)) {
            *state.running.entry((*name).to_owned()).or_default() += 1;
        }
    }
    let table = routes::table(plan).await?;
    for (route, endpoints) in table.as_object().into_iter().flatten() {
        let endpoints = endpoints.as_array().map_or(0, Vec::len);
        state.table.insert(route.clone(), endpoints);
    }
    Ok(state)
}

/// Finds an instance of an app.
pub(super) async fn instance(data: &Path, plan: &Plan, app: &str) -> Result<Instance> {
    let lists = lists(data, plan).await?;
    let desired = lists
        .desired
        .iter()
        .find(|desired| app_name(desired) == Some(app))
        .with_context(|| format!("the app {app} does not run: story 1 of the lesson pushes it"))?;
    let index = |lrp: &&ActualLrp| lrp.key.as_ref().map(|key| key.index);
    let of_app = |lrp: &&ActualLrp| {
        let key = lrp.key.as_ref();
        key.is_some_and(|key| key.process_guid == desired.process_guid)
    };
    let lrp = lists.running.iter().filter(of_app).min_by_key(index);
    let lrp = lrp.with_context(|| {
        format!("the app {app} has no running instance: type `cupola cf start {app}`")
    })?;
    read_instance(desired, lrp).with_context(|| format!("read where the app {app} runs"))
}

fn read_instance(desired: &DesiredLrp, lrp: &ActualLrp) -> Result<Instance> {
    let key = lrp
        .instance_key
        .as_ref()
        .context("it has no instance guid")?;
    let net = lrp.net_info.as_ref().context("it has no address")?;
    let mapped = net.ports.iter().find(|port| port.host_tls_proxy_port != 0);
    let mapped = mapped.context(
        "it has no TLS port; the exercises need route integrity, which is on unless the configuration turns it off",
    )?;
    Ok(Instance {
        app_guid: desired.log_guid.clone(),
        guid: key.instance_guid.clone(),
        overlay: net.instance_address.parse()?,
        cell: net.address.parse()?,
        host_tls_port: u16::try_from(mapped.host_tls_proxy_port)?,
        envoy_port: u16::try_from(mapped.container_tls_proxy_port)?,
    })
}
