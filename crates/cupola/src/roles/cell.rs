//! Wires one machine's cell: its network, garden, rep and route-emitter.

use super::{Setting, garden_run_dir, postgres};
use crate::addresses::Service;
use crate::assets::{self, STACK};
use crate::plan::Plan;
use crate::supervisor::{Run, Unit, run};
use anyhow::{Context as _, Result};
use garden::linux::{CellNetwork, GardenConfig, LinuxGarden};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;

/// The time limit for a drain. It easily covers SIGTERM, ten seconds of grace, SIGKILL and removal.
const DRAIN_LIMIT: Duration = Duration::from_secs(40);
/// How long a stop waits for a cell that is being built again.
const REBUILD_LIMIT: Duration = Duration::from_secs(20);

pub(crate) const NAME: &str = "cell";
/// The second part of the role, which registers the cell's routes.
pub(crate) const ROUTE_EMITTER: &str = "route-emitter";

/// The machine side of the cell, as it was last built. It must be undone when the foundation stops permanently.
#[derive(Clone, Default)]
pub(crate) struct CellRole(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// The built cell; `None` while it is being built.
    cell: Mutex<Option<Cell>>,
    drained: AtomicBool,
}

#[derive(Clone)]
struct Cell {
    /// The plan with the cell's own address.
    plan: Plan,
    network: CellNetwork,
    garden: Arc<LinuxGarden>,
    rep: rep::Handle,
}

/// Returns the unit of the rep with its garden and network. It ends by itself when the cell is evacuated.
pub(crate) fn unit(setting: &Setting, cell: &CellRole) -> Unit {
    let cell = cell.clone();
    let unit = Unit::new(NAME, setting.clone(), async move |setting: Setting| {
        // The cell of an earlier run of the role is dropped first.
        cell.set(None);
        let monitor = setting.monitor.clone();
        let (built, rep) = build(setting).await?;
        monitor.show(NAME, rep.observed());
        cell.set(Some(built));
        Ok(run(|shutdown| rep.run(shutdown)))
    });
    unit.may_finish()
}

async fn build(setting: Setting) -> Result<(Cell, rep::Rep)> {
    let assets = assets::cell(&setting.config)?;
    let network = claim(&setting).await?;
    let config = garden_config(&setting, &assets, &network)?;
    let unused = !LinuxGarden::has_containers(&config);
    let built = match check_address(&setting, &network) {
        Ok(()) => build_on(setting, assets, network.clone(), config).await,
        Err(error) => Err(error),
    };
    // Containers that an earlier run left need their network; they wait for the next start.
    if built.is_err() && unused {
        let _ = network.remove().await;
    }
    built
}

/// Claims the cell's address: one of the machine itself if a range for the containers is configured, else one on a bridge.
async fn claim(setting: &Setting) -> Result<CellNetwork> {
    let (tag, cell) = (&setting.plan.tag, &setting.config.cell);
    match (cell.ip, cell.overlay) {
        (Some(ip), Some(overlay)) => CellNetwork::claim_own(tag, ip, overlay).await,
        _ => CellNetwork::claim(tag, Some(setting.plan.cell_ip)).await,
    }
}

fn check_address(setting: &Setting, network: &CellNetwork) -> Result<()> {
    match setting.config.cell.ip {
        Some(wanted) if wanted != network.cell_ip => anyhow::bail!(
            "cell.ip {wanted} cannot be the cell's address: its network {wanted}/24 overlaps one of this machine, or the cell's containers still run at {}; choose another address, leave the key out, or set cell.overlay to a range for containers if {wanted} is an address of the machine itself",
            network.cell_ip
        ),
        _ => Ok(()),
    }
}

fn garden_config(
    setting: &Setting,
    assets: &assets::CellAssets,
    network: &CellNetwork,
) -> Result<GardenConfig> {
    let (plan, config) = (&setting.plan, &setting.config.cell);
    let mut host_services = config.host_services.clone();
    let here = Plan {
        cell_ip: network.cell_ip,
        ..plan.clone()
    };
    host_services.extend(postgres::host_services(&setting.config, &here));
    Ok(GardenConfig {
        tag: plan.tag.clone(),
        data_dir: setting.folder("garden")?,
        run_dir: garden_run_dir(plan),
        crun: assets.runtime.clone(),
        inside: assets.inside.clone(),
        stacks: assets.stacks.clone(),
        network: network.clone(),
        dns: network.cell_ip,
        router_ports: vec![plan.http_port, plan.https_port],
        host_services,
        log_denied: false,
        limits: config.limits,
        memory_mb: config.memory_mb.unwrap_or(0),
        disk_mb: config.disk_mb.unwrap_or(0),
        max_containers: config.containers.unwrap_or(0),
    })
}

async fn build_on(
    mut setting: Setting,
    assets: assets::CellAssets,
    network: CellNetwork,
    garden: GardenConfig,
) -> Result<(Cell, rep::Rep)> {
    setting.plan = Plan::with_cell_ip(&setting.config.data, network.cell_ip).await?;
    let listener = setting.listen(Service::Rep).await?;
    let garden = LinuxGarden::build(garden)
        .await
        .context("prepare this machine for containers")?;
    let garden = Arc::new(garden);
    match build_rep(&setting, assets, garden.clone(), listener) {
        Ok(rep) => Ok((
            Cell {
                plan: setting.plan,
                network,
                garden,
                rep: rep.handle(),
            },
            rep,
        )),
        Err(error) => {
            remove_unused(&garden, &network).await;
            Err(error)
        }
    }
}

fn cell_id(setting: &Setting) -> String {
    let configured = setting.config.cell.id.clone();
    configured.unwrap_or_else(|| format!("cell-{}", setting.plan.tag))
}

fn build_rep(
    setting: &Setting,
    assets: assets::CellAssets,
    garden: Arc<LinuxGarden>,
    listener: TcpListener,
) -> Result<rep::Rep> {
    let config = &setting.config.cell;
    rep::Rep::build(rep::Config {
        listener,
        cell_id: cell_id(setting),
        zone: config.zone.clone(),
        rep_url: setting.https(Service::Rep),
        identity: setting.identity("cell")?,
        bbs_url: setting.https(Service::Bbs),
        locket_url: setting.https(Service::Locket),
        policies_url: Some(format!(
            "{}{}",
            setting.https(Service::CloudControllerInternal),
            wire::cc::internal_path::POLICIES
        )),
        garden,
        loggregator: setting.logs()?,
        stacks: if assets.stacks.is_empty() {
            vec![STACK.into()]
        } else {
            assets.stacks.keys().cloned().collect()
        },
        placement_tags: config.placement_tags.clone(),
        optional_placement_tags: config.optional_placement_tags.clone(),
        work_dir: setting.folder("rep")?,
        instance_ca: rep::InstanceCa {
            cert_pem: setting.certificates.instances_ca().to_owned(),
            key_pem: setting.certificates.instances_ca_key()?.to_owned(),
        },
        instance_validity: config.instance_cert_validity,
        // Without route integrity there is no sidecar: the router connects to the app's own port without TLS.
        envoy: config.route_integrity.then_some(assets.envoy),
        inside: assets.inside,
        router_ca_pem: setting.certificates.components_ca().to_owned(),
        trusted_ca_pems: vec![setting.certificates.edge_ca().to_owned()],
        route_integrity: config.route_integrity && !config.unproxied_ports,
        cache_bytes: config.cache_mb << 20,
        timing: rep::Timing::default(),
    })
}

pub(crate) async fn route_emitter(setting: Setting) -> Result<Run> {
    let emitter = route_emitter::RouteEmitter::build(route_emitter::Config {
        component_hosts: super::edge::component_hosts(&setting.plan.domain),
        ..route_emitter::Config::new(
            cell_id(&setting),
            setting.https(Service::Bbs),
            setting.identity("cell")?,
            setting.nats("cell")?,
        )
    })?;
    setting.monitor.show(ROUTE_EMITTER, emitter.observed());
    Ok(run(|shutdown| emitter.run(shutdown)))
}

/// Removes what a cell left on the machine, if it has no containers.
async fn remove_unused(garden: &LinuxGarden, network: &CellNetwork) {
    let containers = garden::api::Garden::containers(garden).await;
    if containers.is_ok_and(|c| c.is_empty()) {
        remove(garden, network).await;
    }
}

async fn remove(garden: &LinuxGarden, network: &CellNetwork) {
    if let Err(error) = garden.shutdown_clean().await {
        tracing::error!(error = format!("{error:#}"), "garden-not-removed");
    }
    if let Err(error) = network.remove().await {
        tracing::error!(error = format!("{error:#}"), "bridge-not-removed");
    }
}

impl CellRole {
    fn set(&self, cell: Option<Cell>) {
        *self.0.cell.lock().unwrap_or_else(PoisonError::into_inner) = cell;
    }

    fn cell(&self) -> Option<Cell> {
        let cell = self.0.cell.lock().unwrap_or_else(PoisonError::into_inner);
        cell.clone()
    }

    /// Returns the plan, which the cell may have changed.
    pub(crate) fn plan(&self) -> Option<Plan> {
        self.cell().map(|cell| cell.plan)
    }

    /// Stops every instance gracefully (routes first, then SIGTERM) and removes all containers.
    pub(crate) async fn drain(&self) -> Result<()> {
        let rebuilt = async {
            loop {
                match self.cell() {
                    Some(cell) => return cell,
                    None => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        };
        let cell = tokio::time::timeout(REBUILD_LIMIT, rebuilt).await.context(
            "the cell does not run, and its containers are left: the next `cupola up` adopts them",
        )?;
        let left = cell.rep.drain_all(DRAIN_LIMIT).await;
        anyhow::ensure!(
            left == 0,
            "{left} containers could not be removed within {} s: the next `cupola up` adopts them",
            DRAIN_LIMIT.as_secs()
        );
        self.0.drained.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// Removes chains, mounts, cgroups and the bridge if the cell was drained. All sockets must be closed before.
    pub(crate) async fn remove_if_drained(self) {
        if let (true, Some(cell)) = (self.0.drained.load(Ordering::SeqCst), self.cell()) {
            remove(&cell.garden, &cell.network).await;
        }
    }

    /// Removes what a cell without containers left on the machine. It is called when another role cannot be built, or when the
    /// cell stops while it is empty.
    pub(crate) async fn remove_unused(self) {
        if let Some(cell) = self.cell() {
            remove_unused(&cell.garden, &cell.network).await;
        }
    }
}
