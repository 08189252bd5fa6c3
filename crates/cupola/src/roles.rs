//! Wires the components: decides which component gets which addresses, identities and secrets. All roles of a process are built
//! first and then run, each in a runtime of its own ([`crate::supervisor`]). A role that fails is built again from the same
//! [`Setting`].

mod cell;
mod control_plane;
mod edge;
pub(crate) mod postgres;

use crate::addresses::{self, Service};
use crate::assets;
use crate::certs::Certificates;
use crate::config::Config;
use crate::message_bus::MessageBus;
use crate::monitor::{self, Monitor};
use crate::plan::Plan;
use crate::role::Role;
use crate::supervisor::{self, Built, Failed, Run, Unit, run};
use anyhow::{Context as _, Result};
use cell::CellRole;
use clients::loggregator::Emitter;
use kit::CancellationToken;
use kit::tls::Identity;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// The values that roles are built from. It is cheap to clone.
#[derive(Clone)]
pub(crate) struct Setting {
    pub(crate) config: Arc<Config>,
    pub(crate) plan: Plan,
    pub(crate) certificates: Arc<Certificates>,
    pub(crate) admin_password: Arc<str>,
    pub(crate) monitor: Monitor,
    logs: Arc<Logs>,
}

/// The destination of this process's log lines: one connection for all its roles, which outlives each of them.
struct Logs {
    runtime: tokio::runtime::Handle,
    emitter: Mutex<Option<Emitter>>,
}

impl Setting {
    fn new(
        config: Arc<Config>,
        plan: Plan,
        certificates: Arc<Certificates>,
        admin_password: &str,
    ) -> Self {
        Self {
            config,
            plan,
            certificates,
            admin_password: admin_password.into(),
            monitor: Monitor::new(),
            logs: Arc::new(Logs {
                runtime: tokio::runtime::Handle::current(),
                emitter: Mutex::default(),
            }),
        }
    }

    /// Returns a component's certificate: the configured one, or one that is issued for loopback, the cell's address and the hosts at
    /// which the component listens and is advertised.
    pub(crate) fn identity(&self, name: &str) -> Result<Identity> {
        if let Some(files) = self.config.certificates.get(name) {
            let (cert_pem, key_pem) = files.read()?;
            return Ok(self.certificates.identity(cert_pem, key_pem));
        }
        let mut hosts = vec![
            Ipv4Addr::LOCALHOST.to_string(),
            self.plan.cell_ip.to_string(),
        ];
        for service in Service::ALL.iter().filter(|s| s.component() == name) {
            let address = self.plan.address(*service);
            hosts.extend(
                Some(address.listen.ip())
                    .filter(|ip| !ip.is_unspecified())
                    .map(|ip| ip.to_string()),
            );
            hosts.push(addresses::host(&address.advertise).to_owned());
        }
        let cluster = self.config.bus.cluster.as_ref();
        if let Some(cluster) = cluster.filter(|_| name == Service::Nats.component()) {
            hosts.push(cluster.listen.ip().to_string());
        }
        self.certificates.component(name, &hosts)
    }

    /// Returns the servers of the bus, and how this component connects to them.
    pub(crate) fn nats(&self, component: &str) -> Result<clients::nats::Config> {
        let mut config = self.plan.nats();
        if self.plan.bus_has_tls {
            config.tls = Some(self.identity(component)?);
        }
        Ok(config)
    }

    /// Returns a folder of the data directory. It is created if missing.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        use std::os::unix::fs::DirBuilderExt as _;
        let path = self.config.data.join(name);
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("create {}", path.display()))?;
        Ok(path)
    }

    /// Returns the URL at which a service is reached with TLS.
    pub(crate) fn https(&self, service: Service) -> String {
        format!("https://{}", self.plan.reach(service))
    }

    pub(crate) fn http(&self, service: Service) -> String {
        format!("http://{}", self.plan.reach(service))
    }

    pub(crate) async fn listen(&self, service: Service) -> Result<TcpListener> {
        let listener = kit::http::bind(self.plan.address(service).listen).await;
        let key = service.section();
        listener.with_context(|| format!("the address of {key} (key {key}.listen) cannot be used"))
    }

    pub(crate) fn logs(&self) -> Result<Emitter> {
        let mut emitter = self
            .logs
            .emitter
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(emitter) = &*emitter {
            return Ok(emitter.clone());
        }
        let (url, identity) = (self.https(Service::LogIngress), self.identity("metron")?);
        let _in_process = self.logs.runtime.enter();
        let connected = Emitter::connect(&url, &identity)?;
        Ok(emitter.insert(connected).clone())
    }
}

/// All chosen roles, built: every socket is bound, and nothing runs.
pub(crate) struct Foundation {
    /// The plan, which the cell may have changed.
    pub(crate) plan: Plan,
    roles: Vec<Built>,
    cell: Option<CellRole>,
    monitor: Monitor,
    monitor_listener: TcpListener,
}

/// Builds the chosen roles.
pub(crate) async fn build(
    config: &Config,
    plan: Plan,
    certificates: Certificates,
    chosen: &[Role],
    admin_password: &str,
) -> Result<Foundation> {
    let (config, certificates) = (Arc::new(config.clone()), Arc::new(certificates));
    let mut setting = Setting::new(config, plan.clone(), certificates, admin_password);
    let address = plan.metrics_address(setting.config.metrics, chosen);
    let mut foundation = Foundation {
        plan,
        roles: Vec::new(),
        cell: None,
        monitor: setting.monitor.clone(),
        monitor_listener: monitor::bind(address).await?,
    };
    if let Some(bundle) = setting.certificates.bundle() {
        bundle.check(chosen, &served(&setting, chosen))?;
    }
    edge::check_public_ports(&setting, chosen.contains(&Role::Router)).await?;
    // The cell is built first, because others bind sockets on its address.
    if chosen.contains(&Role::Cell) {
        let cell = CellRole::default();
        foundation
            .roles
            .push(Built::build(cell::unit(&setting, &cell).watched(&setting.monitor)).await?);
        setting.plan = cell.plan().unwrap_or(setting.plan);
        foundation.plan = setting.plan.clone();
        foundation.cell = Some(cell);
    }
    for unit in units(&setting, chosen) {
        match Built::build(unit).await {
            Ok(built) => foundation.roles.push(built),
            Err(error) => {
                foundation.undo().await;
                return Err(error);
            }
        }
    }
    Ok(foundation)
}

/// Returns the services that a machine which joined serves with the certificates of its bundle, and where they are advertised.
fn served(setting: &Setting, chosen: &[Role]) -> Vec<(Service, String)> {
    let own = [(Role::Cell, Service::Rep), (Role::Nats, Service::Nats)];
    let own = own.into_iter().filter(|(role, service)| {
        let has_files = setting
            .config
            .certificates
            .contains_key(service.component());
        chosen.contains(role) && !has_files
    });
    own.map(|(_, service)| (service, setting.plan.reach(service)))
        .collect()
}

/// Returns the chosen roles except the cell itself.
fn units(setting: &Setting, chosen: &[Role]) -> Vec<Unit> {
    let mut units = Vec::new();
    for role in Role::ALL.iter().filter(|r| chosen.contains(r)) {
        let name = role.name();
        let unit = match role {
            Role::Nats => Unit::new(name, setting.clone(), nats).last(),
            Role::Bbs => Unit::new(name, setting.clone(), control_plane::bbs),
            Role::Auctioneer => Unit::new(name, setting.clone(), control_plane::auctioneer),
            Role::Uaa => Unit::new(name, setting.clone(), control_plane::uaa),
            Role::LogCache => Unit::new(name, setting.clone(), control_plane::log_cache),
            Role::CloudController => {
                Unit::new(name, setting.clone(), control_plane::cloud_controller)
            }
            Role::Cell => {
                Unit::new(cell::ROUTE_EMITTER, setting.clone(), cell::route_emitter).on_one_thread()
            }
            Role::Dns => Unit::new(name, setting.clone(), edge::dns).on_one_thread(),
            Role::Router => Unit::new(name, setting.clone(), edge::router),
            Role::Dashboard => Unit::new(name, setting.clone(), edge::dashboard),
            Role::SshProxy => Unit::new(name, setting.clone(), edge::ssh_proxy),
            Role::PostgresBroker => Unit::new(name, setting.clone(), postgres::postgres_broker),
        };
        units.push(unit);
    }
    let routed = edge::routed(chosen);
    if !routed.is_empty() {
        let build = async move |setting| edge::component_routes(setting, &routed).await;
        units.push(Unit::new(edge::ROUTE_REGISTRAR, setting.clone(), build));
    }
    let watched = units.into_iter().map(|unit| unit.watched(&setting.monitor));
    watched.collect()
}

async fn nats(setting: Setting) -> Result<Run> {
    let program = assets::nats_server()?;
    let identity = match setting.plan.bus_has_tls {
        true => Some(setting.identity("nats")?),
        false => None,
    };
    let bus = MessageBus::build(&setting.plan, &setting.config, program, identity.as_ref()).await?;
    setting.monitor.show("nats", bus.observed());
    Ok(run(|shutdown| bus.run(shutdown)))
}

impl Foundation {
    /// Removes everything that `build` made on the machine.
    pub(crate) async fn undo(self) {
        // Sockets are closed first, because the cell's address is removed with its network.
        let (cell, others): (Vec<_>, Vec<_>) =
            self.roles.into_iter().partition(|r| r.name == cell::NAME);
        for role in others.into_iter().rev() {
            role.undo().await;
        }
        if let Some(cell) = self.cell {
            cell.remove_unused().await;
        }
        for role in cell {
            role.undo().await;
        }
    }

    /// Starts all roles.
    pub(crate) fn run(self, shutdown: CancellationToken) -> Running {
        let end = CancellationToken::new();
        let (failures, failed) = mpsc::unbounded_channel();
        let (last, first): (Vec<_>, Vec<_>) = self.roles.into_iter().partition(|r| r.last);
        let start = |roles: Vec<Built>, asked: &CancellationToken| -> Vec<supervisor::Running> {
            let start = |role: Built| role.run(asked.clone(), failures.clone(), supervisor::PAUSES);
            roles.into_iter().map(start).collect()
        };
        let pages = self.monitor.pages();
        let served = kit::http::serve(self.monitor_listener, None, pages, end.clone());
        Running {
            first: start(first, &shutdown),
            last: start(last, &end),
            pages: tokio::spawn(served),
            end,
            failed,
            cell: self.cell,
        }
    }
}

/// The running roles of a process.
pub(crate) struct Running {
    first: Vec<supervisor::Running>,
    /// The roles that end after the others.
    last: Vec<supervisor::Running>,
    /// The server of the process's own pages. It ends with the last roles.
    pages: JoinHandle<Result<()>>,
    end: CancellationToken,
    failed: mpsc::UnboundedReceiver<Failed>,
    cell: Option<CellRole>,
}

/// The number of failures before the foundation is ready after which a role counts as unable to start.
const ATTEMPTS: u32 = 3;
/// How long the roles may take to end.
const END_LIMIT: Duration = Duration::from_secs(10);

impl Running {
    /// Waits for a role that cannot start, and returns the reason.
    pub(crate) async fn cannot_start(&mut self) -> anyhow::Error {
        let mut counts = BTreeMap::new();
        while let Some(Failed { role, error }) = self.failed.recv().await {
            let count = counts.entry(role).or_insert(0);
            *count += 1;
            if *count == ATTEMPTS {
                return error.context(format!("role {role} failed"));
            }
        }
        std::future::pending().await
    }

    /// Waits until every role has ended by itself: the cell is evacuated, and no other role runs. The route emitter serves only
    /// the cell and does not count.
    pub(crate) async fn finished(&mut self) {
        for role in self.first.iter_mut().chain(&mut self.last) {
            if role.name != cell::ROUTE_EMITTER {
                role.ended().await;
            }
        }
    }

    /// Drains the cell: routes are withdrawn, then apps stop, then containers are removed. All other roles still run meanwhile.
    pub(crate) async fn drain(&mut self) -> Result<()> {
        match &self.cell {
            Some(cell) => cell.drain().await,
            None => Ok(()),
        }
    }

    /// Does the same as [`Self::finish`], but also removes what a cell without containers left on the machine.
    pub(crate) async fn finish_unused(mut self) {
        self.end_all().await;
        if let Some(cell) = self.cell.take() {
            cell.remove_unused().await;
        }
        self.release().await;
    }

    /// Waits for all roles after shutdown was requested, for at most ten seconds. Then it removes what the cell left on the
    /// machine, if the cell was drained.
    pub(crate) async fn finish(mut self) {
        self.end_all().await;
        if let Some(cell) = self.cell.take() {
            cell.remove_if_drained().await;
        }
        self.release().await;
    }

    async fn end_all(&mut self) {
        let all = async {
            ended(&mut self.first).await;
            self.end.cancel();
            ended(&mut self.last).await;
        };
        if tokio::time::timeout(END_LIMIT, all).await.is_err() {
            tracing::warn!("roles did not end within {} s", END_LIMIT.as_secs());
        }
        self.end.cancel();
    }

    async fn release(self) {
        let roles = self.first.into_iter().chain(self.last);
        let roles = futures::future::join_all(roles.map(supervisor::Running::release));
        // The next roles of this process bind the address of the pages again.
        let all = futures::future::join(roles, self.pages);
        // Roles that have not ended by now are not waited for.
        let _ = tokio::time::timeout(END_LIMIT, all).await;
    }
}

async fn ended(roles: &mut [supervisor::Running]) {
    for role in roles {
        role.ended().await;
    }
}

/// Returns the directory for sockets and mount points of a foundation's containers.
pub(crate) fn garden_run_dir(plan: &Plan) -> PathBuf {
    PathBuf::from(format!("/run/cupola-{}", plan.tag))
}

/// Returns the addresses of the router's public listeners for one port: the configured address, or loopback and the cell's
/// address.
pub(crate) fn public_addresses(
    configured: Option<SocketAddr>,
    port: u16,
    cell_ip: Option<Ipv4Addr>,
) -> Vec<SocketAddr> {
    match configured {
        Some(address) if !address.ip().is_loopback() => vec![SocketAddr::new(address.ip(), port)],
        Some(_) | None => std::iter::once(Ipv4Addr::LOCALHOST)
            .chain(cell_ip)
            .map(|ip| SocketAddr::from((ip, port)))
            .collect(),
    }
}
