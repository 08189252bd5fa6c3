//! Creates the container of an LRP or a task: this module decides its mounts, names and egress rules, and garden creates it.

use crate::cell::{Cell, OWNER_PROPERTY};
use crate::files::{replace, set_mode};
use crate::identity::{CREDENTIALS_DIR, CredentialFiles};
use crate::instance::container::{Container, Phase, Work};
use crate::instance::logs::{Logs, RateLimit};
use crate::instance::record::ContainerDir;
use crate::instance::spec::Definition;
use crate::supply::assets::mount;
use crate::supply::eviction::PINS;
use crate::supply::transfer::Checksum;
use anyhow::{Context as _, Result, anyhow, ensure};
use cell_plan::instance_env;
use cell_plan::ports::{self, Mapping, PortPlan};
use clients::loggregator::Stream;
use garden::api::{BindMount, ContainerSpec, NetIn};
use go_values::quantity;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

const BINDINGS_DIR: &str = "/etc/cf-service-bindings";

/// A container that exists.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) ip: Ipv4Addr,
    pub(crate) ports: PortPlan,
    pub(crate) mappings: Vec<Mapping>,
    /// The `CF_INSTANCE_*` variables of its processes.
    pub(crate) env: Vec<(String, String)>,
    pub(crate) files: CredentialFiles,
}

pub(crate) fn logs(cell: &Cell, container: &Container, definition: &Definition) -> Logs {
    let index = match container.work {
        Work::Lrp { index, .. } => index,
        Work::Task { .. } => -1,
    };
    let tags = definition.tags(&container.guid, index);
    let source_id = tags
        .get("source_id")
        .cloned()
        .unwrap_or_else(|| definition.log_guid.clone());
    let instance_id = tags
        .get("instance_id")
        .cloned()
        .unwrap_or_else(|| index.max(0).to_string());
    Logs::new(
        cell.loggregator.clone(),
        source_id,
        instance_id,
        tags,
        RateLimit::new(definition.log_limit, cell.metrics.log_rate_exceeded.clone()),
    )
}

/// Creates the container. Users see the error.
pub(crate) async fn create(
    cell: &Arc<Cell>,
    container: &Container,
    definition: &Definition,
    dir: &ContainerDir,
    logs: &Logs,
) -> Result<Made> {
    let _turn = cell
        .creators
        .acquire()
        .await
        .context("the rep is shutting down")?;
    container.set_phase(Phase::Initializing);
    let (cell_id, guid) = (&cell.settings.cell_id, &container.guid);
    logs.cell(
        Stream::Out,
        format!("Cell {cell_id} creating container for instance {guid}"),
    );
    let made = create_container(cell, container, definition, dir, logs).await;
    match &made {
        Ok(_) => logs.cell(
            Stream::Out,
            format!("Cell {cell_id} successfully created container for instance {guid}"),
        ),
        Err(error) => logs.cell(
            Stream::Err,
            format!("Cell {cell_id} failed to create container for instance {guid}: {error:#}"),
        ),
    }
    made
}

async fn create_container(
    cell: &Arc<Cell>,
    container: &Container,
    definition: &Definition,
    dir: &ContainerDir,
    logs: &Logs,
) -> Result<Made> {
    definition.check()?;
    let ports = port_plan(cell, container, definition)?;
    let files = CredentialFiles::at(dir.path());
    files.make()?;
    let spec = ContainerSpec {
        handle: container.guid.clone(),
        rootfs: definition.root_fs.clone(),
        env: environment(container, definition),
        limits: definition.limits(),
        net_in: ports
            .net_in()
            .into_iter()
            .map(|container_port| NetIn {
                host_port: 0,
                container_port,
            })
            .collect(),
        egress: definition.egress()?,
        bind_mounts: mounts(cell, definition, &ports, &files, dir.path(), logs).await?,
        properties: properties(definition),
        hostname: container.guid.clone(),
        privileged: definition.privileged,
    };
    let garden = cell.garden.clone();
    // The creation is never interrupted half way: at shutdown the rep lets garden finish it.
    let began = Instant::now();
    let created = cell.whole(async move { garden.create(spec).await }).await?;
    let duration = if created.is_ok() {
        &cell.metrics.creation_succeeded
    } else {
        &cell.metrics.creation_failed
    };
    duration.observe(began.elapsed());
    let created = created.map_err(|error| anyhow!("create container: {error}"))?;
    Ok(made(cell, &created, ports, files))
}

/// Returns the same description for a container that an earlier rep created.
pub(crate) fn adopted(
    cell: &Cell,
    container: &Container,
    definition: &Definition,
    dir: &ContainerDir,
    existing: &garden::api::Container,
) -> Result<Made> {
    let ports = port_plan(cell, container, definition)?;
    let mapped: Vec<u16> = existing.net_in.iter().map(|n| n.container_port).collect();
    // A rep with other settings created it: its mounts and ports do not match ours.
    ensure!(
        mapped == ports.net_in(),
        "container {} was created with other port settings",
        container.guid
    );
    let files = CredentialFiles::at(dir.path());
    files.make()?;
    Ok(made(cell, existing, ports, files))
}

fn made(
    cell: &Cell,
    created: &garden::api::Container,
    ports: PortPlan,
    files: CredentialFiles,
) -> Made {
    let host_port = |port| {
        created
            .net_in
            .iter()
            .find(|n| n.container_port == port)
            .map(|n| n.host_port)
    };
    let mappings = ports.mappings(host_port);
    let env = instance_env::address_env(
        &cell.garden.cell_ip().to_string(),
        &created.container_ip.to_string(),
        &mappings,
    );
    Made {
        ip: created.container_ip,
        ports,
        mappings,
        env,
        files,
    }
}

fn port_plan(cell: &Cell, container: &Container, definition: &Definition) -> Result<PortPlan> {
    let proxy = cell.settings.proxy && matches!(container.work, Work::Lrp { .. });
    Ok(ports::plan(
        &definition.ports,
        proxy,
        !cell.settings.route_integrity,
    )?)
}

fn environment(container: &Container, definition: &Definition) -> Vec<(String, String)> {
    let mut env = Vec::new();
    if let Work::Lrp { index, .. } = &container.work {
        env.push(("INSTANCE_GUID".to_owned(), container.guid.clone()));
        env.push(("INSTANCE_INDEX".to_owned(), index.to_string()));
        env.push(("CF_INSTANCE_GUID".to_owned(), container.guid.clone()));
        env.push(("CF_INSTANCE_INDEX".to_owned(), index.to_string()));
    }
    env.extend(
        definition
            .env
            .iter()
            .map(|v| (v.name.clone(), v.value.clone())),
    );
    env.push((
        "CF_INSTANCE_CERT".to_owned(),
        format!("{CREDENTIALS_DIR}/instance.crt"),
    ));
    env.push((
        "CF_INSTANCE_KEY".to_owned(),
        format!("{CREDENTIALS_DIR}/instance.key"),
    ));
    if !definition.trusted_certificates.is_empty() {
        env.push((
            "CF_SYSTEM_CERT_PATH".to_owned(),
            definition.trusted_certificates.clone(),
        ));
    }
    env
}

fn properties(definition: &Definition) -> BTreeMap<String, String> {
    let log_config =
        serde_json::json!({ "guid": definition.log_guid, "source_name": definition.log_source });
    let mut properties = BTreeMap::from([
        (OWNER_PROPERTY.0.to_owned(), OWNER_PROPERTY.1.to_owned()),
        ("log_config".to_owned(), log_config.to_string()),
    ]);
    properties.extend(
        definition
            .network
            .iter()
            .map(|(name, value)| (format!("network.{name}"), value.clone())),
    );
    properties
}

async fn mounts(
    cell: &Cell,
    definition: &Definition,
    ports: &PortPlan,
    files: &CredentialFiles,
    dir: &Path,
    logs: &Logs,
) -> Result<Vec<BindMount>> {
    let mut mounts = vec![
        mount(&files.credentials, CREDENTIALS_DIR),
        cell.assets.healthcheck(),
    ];
    if !ports.tls.is_empty() {
        mounts.extend(cell.assets.envoy());
        mounts.push(mount(&files.envoy_config, cell_plan::envoy::CONFIG_DIR));
    }
    if !definition.trusted_certificates.is_empty() {
        mounts.push(cell.assets.trusted(&definition.trusted_certificates));
    }
    if !definition.files.is_empty() {
        mounts.push(mount(&binding_files(definition, dir)?, BINDINGS_DIR));
    }
    let dependencies = definition.dependencies();
    let fetched = dependencies.iter().map(async |dependency| {
        let checksum = Checksum {
            algorithm: &dependency.checksum_algorithm,
            value: &dependency.checksum_value,
        };
        let log = |text: String| {
            if !dependency.name.is_empty() {
                logs.line(&dependency.log_source, Stream::Out, text);
            }
        };
        let name = if dependency.name.is_empty() {
            &dependency.to
        } else {
            &dependency.name
        };
        log(format!("Downloading {name}..."));
        let content = cell
            .cache
            .directory(&dependency.from, &dependency.cache_key, &checksum)
            .await
            .with_context(|| format!("fetch {name}"))?;
        log(format!(
            "Downloaded {name} ({})",
            quantity::show(content.size)
        ));
        anyhow::Ok((content, &dependency.to))
    });
    let mut contents = Vec::new();
    for fetched in futures::future::join_all(fetched).await {
        let (content, to) = fetched?;
        mounts.push(mount(content.path(), to));
        contents.push(content);
    }
    // From here on the record protects these files from eviction.
    let pins: String = contents
        .iter()
        .map(|content| format!("{}\n", content.path().display()))
        .collect();
    replace(&dir.join(PINS), pins.as_bytes())?;
    Ok(mounts)
}

fn binding_files(definition: &Definition, dir: &Path) -> Result<std::path::PathBuf> {
    let root = dir.join("bindings");
    std::fs::create_dir_all(&root).with_context(|| format!("make directory {}", root.display()))?;
    set_mode(&root, 0o755)?;
    for file in &definition.files {
        let plain = !file.path.is_empty()
            && Path::new(&file.path)
                .components()
                .all(|c| matches!(c, std::path::Component::Normal(_)));
        ensure!(
            plain,
            "service binding file {:?}: expected a relative path without '..'",
            file.path
        );
        let path = root.join(&file.path);
        for parent in Path::new(&file.path)
            .ancestors()
            .skip(1)
            .filter(|p| !p.as_os_str().is_empty())
        {
            let parent = root.join(parent);
            std::fs::create_dir_all(&parent)
                .with_context(|| format!("make directory {}", parent.display()))?;
            set_mode(&parent, 0o755)?;
        }
        replace(&path, file.content.as_bytes())?;
    }
    Ok(root)
}
