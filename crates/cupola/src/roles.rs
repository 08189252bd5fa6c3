//! Wiring: which component gets which addresses, identities and secrets. All roles of a process are built first, then run.

mod cell;
mod control_plane;
mod edge;

use crate::assets;
use crate::certs::Certificates;
use crate::config::Config;
use crate::message_bus::MessageBus;
use crate::plan::Plan;
use crate::up::role_failed;
use anyhow::{Context as _, Result};
use clap::ValueEnum;
use clients::loggregator::Emitter;
use futures::future::BoxFuture;
use kit::CancellationToken;
use kit::tls::Identity;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// A component that a process can be told to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    Nats,
    Bbs,
    Auctioneer,
    Uaa,
    LogCache,
    CloudController,
    Cell,
    Dns,
    Router,
}

impl Role {
    pub(crate) const ALL: &'static [Self] = &[
        Self::Nats,
        Self::Bbs,
        Self::Auctioneer,
        Self::Uaa,
        Self::LogCache,
        Self::CloudController,
        Self::Cell,
        Self::Dns,
        Self::Router,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nats => "nats",
            Self::Bbs => "bbs",
            Self::Auctioneer => "auctioneer",
            Self::Uaa => "uaa",
            Self::LogCache => "log-cache",
            Self::CloudController => "cloud-controller",
            Self::Cell => "cell",
            Self::Dns => "dns",
            Self::Router => "router",
        }
    }
}

/// What every role may need.
pub(crate) struct Setting<'a> {
    pub(crate) config: &'a Config,
    pub(crate) plan: Plan,
    pub(crate) certificates: Certificates,
    pub(crate) admin_password: &'a str,
    logs: Option<Emitter>,
}

impl Setting<'_> {
    /// A fresh certificate for a component, valid on loopback and the cell's address.
    pub(crate) fn identity(&self, name: &str) -> Result<Identity> {
        self.certificates
            .component(name, &[Ipv4Addr::LOCALHOST, self.plan.cell_ip])
    }

    /// A folder of the data directory, made if missing.
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

    pub(crate) fn https(&self, port: u16) -> String {
        format!("https://{}", self.plan.loopback(port))
    }

    pub(crate) fn http(&self, port: u16) -> String {
        format!("http://{}", self.plan.loopback(port))
    }

    pub(crate) async fn listen(&self, port: u16) -> Result<TcpListener> {
        kit::http::bind(self.plan.loopback(port)).await
    }

    /// Where this process sends log lines: one connection for all its roles.
    pub(crate) fn logs(&mut self) -> Result<Emitter> {
        if self.logs.is_none() {
            self.logs = Some(Emitter::connect(
                &self.https(self.plan.ports.log_ingress),
                &self.identity("metron")?,
            )?);
        }
        Ok(self.logs.clone().expect("set above"))
    }
}

/// One part of a process: a role, or a piece of one.
pub(crate) struct Part {
    pub(crate) name: &'static str,
    /// Ends when all others have: they say their last words through it.
    last: bool,
    pub(crate) run: Box<dyn FnOnce(CancellationToken) -> BoxFuture<'static, Result<()>> + Send>,
}

impl Part {
    pub(crate) fn new<F, Fut>(name: &'static str, run: F) -> Self
    where
        F: FnOnce(CancellationToken) -> Fut + Send + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        Self {
            name,
            last: false,
            run: Box::new(move |shutdown| Box::pin(run(shutdown))),
        }
    }
}

/// All chosen roles, built: every socket is bound, nothing runs.
pub(crate) struct Foundation {
    /// As the cell may have changed it.
    pub(crate) plan: Plan,
    parts: Vec<Part>,
    cell: Option<cell::CellRole>,
}

/// Builds the chosen roles.
pub(crate) async fn build(
    config: &Config,
    plan: Plan,
    certificates: Certificates,
    chosen: &[Role],
    admin_password: &str,
) -> Result<Foundation> {
    let mut setting = Setting {
        config,
        plan: plan.clone(),
        certificates,
        admin_password,
        logs: None,
    };
    let mut foundation = Foundation {
        plan,
        parts: Vec::new(),
        cell: None,
    };
    let has = |role: Role| chosen.contains(&role);
    edge::check_public_ports(&setting, has(Role::Router)).await?;
    // The cell comes first: others bind sockets on its address.
    if has(Role::Cell) {
        let cell = cell::build(&mut setting, &mut foundation.parts).await?;
        foundation.cell = Some(cell);
        foundation.plan = setting.plan.clone();
    }
    let built = build_others(&mut setting, chosen, &mut foundation.parts).await;
    if let Err(error) = built {
        foundation.undo().await;
        return Err(error);
    }
    Ok(foundation)
}

async fn build_others(
    setting: &mut Setting<'_>,
    chosen: &[Role],
    parts: &mut Vec<Part>,
) -> Result<()> {
    for role in Role::ALL.iter().filter(|r| chosen.contains(r)) {
        match role {
            Role::Nats => {
                let program = assets::nats_server()?;
                let bus = MessageBus::build(&setting.plan, &setting.config.data, program).await?;
                let part = Part::new("nats", |shutdown| bus.run(shutdown));
                parts.push(Part { last: true, ..part });
            }
            Role::Bbs => control_plane::bbs(setting, parts).await?,
            Role::Auctioneer => control_plane::auctioneer(setting, parts).await?,
            Role::Uaa => control_plane::uaa(setting, parts).await?,
            Role::LogCache => control_plane::log_cache(setting, parts).await?,
            Role::CloudController => control_plane::cloud_controller(setting, parts).await?,
            Role::Cell => {}
            Role::Dns => edge::dns(setting, parts).await?,
            Role::Router => edge::router(setting, parts).await?,
        }
    }
    Ok(())
}

impl Foundation {
    /// Takes back what `build` made on the machine.
    pub(crate) async fn undo(self) {
        drop(self.parts);
        if let Some(cell) = self.cell {
            cell.remove_unused().await;
        }
    }

    /// Starts everything.
    pub(crate) fn run(self, shutdown: CancellationToken) -> Running {
        let mut tasks = JoinSet::new();
        let last = self.parts.iter().filter(|part| part.last).count();
        let end = CancellationToken::new();
        for part in self.parts {
            let asked = if part.last { &end } else { &shutdown };
            let future = (part.run)(asked.clone());
            let shutdown = shutdown.clone();
            tasks.spawn(async move {
                let result = role_failed(part.name, future.await);
                match result {
                    Ok(()) if !shutdown.is_cancelled() => {
                        Err(anyhow::anyhow!("role {} ended unasked", part.name))
                    }
                    result => result,
                }
            });
        }
        Running {
            tasks,
            last,
            end,
            cell: self.cell,
        }
    }
}

/// A process's roles at work.
pub(crate) struct Running {
    tasks: JoinSet<Result<()>>,
    /// So many parts wait for this.
    last: usize,
    end: CancellationToken,
    cell: Option<cell::CellRole>,
}

impl Running {
    /// Waits for the first role that ends unasked; says why.
    pub(crate) async fn first_failure(&mut self) -> anyhow::Error {
        while let Some(ended) = self.tasks.join_next().await {
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return error,
                Err(error) => return anyhow::anyhow!("a role panicked: {error}"),
            }
        }
        anyhow::anyhow!("every role has ended")
    }

    /// Routes leave, then apps stop, then containers go. Everything else still runs meanwhile.
    pub(crate) async fn drain(&mut self) -> Result<()> {
        match &self.cell {
            Some(cell) => cell.drain().await,
            None => Ok(()),
        }
    }

    /// As [`Self::finish`]; a cell without containers leaves nothing, too.
    pub(crate) async fn finish_unused(mut self) {
        let cell = self.cell.take();
        self.finish().await;
        if let Some(cell) = cell {
            cell.remove_unused().await;
        }
    }

    /// Waits for all roles after shutdown was asked for; at most ten seconds. Then removes what the cell left on the machine, if drained.
    pub(crate) async fn finish(mut self) {
        let all = async {
            loop {
                if self.tasks.len() <= self.last {
                    self.end.cancel();
                }
                match self.tasks.join_next().await {
                    Some(Ok(Err(error))) => {
                        tracing::warn!(error = format!("{error:#}"), "role-ended-badly");
                    }
                    Some(_) => {}
                    None => return,
                }
            }
        };
        if tokio::time::timeout(std::time::Duration::from_secs(10), all)
            .await
            .is_err()
        {
            tracing::warn!("roles did not end within 10 s");
        }
        self.tasks.shutdown().await;
        if let Some(cell) = self.cell {
            cell.remove_if_drained().await;
        }
    }
}

/// Sockets and mount points of a foundation's containers.
pub(crate) fn garden_run_dir(plan: &Plan) -> PathBuf {
    PathBuf::from(format!("/run/cupola-{}", plan.tag))
}

/// Addresses that the router's public listeners take for one port: what the configuration says, or loopback and the cell's address.
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
