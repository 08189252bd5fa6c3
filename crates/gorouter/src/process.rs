//! `cupola router` runs only the router, from a `gorouter.yml`, as a replacement for gorouter.
//!
//! SIGUSR1 drains. SIGHUP reads the configuration again. SIGUSR2 starts the binary again and hands the sockets over. SIGTERM and
//! SIGINT stop at once, as in gorouter (without `compat: gorouter` SIGTERM drains). Signals that arrive while the router drains
//! are ignored.

use crate::build::{self, Built};
use crate::files::{self, PidFile};
use crate::log::{self, Level, TimestampFormat, page};
use crate::signals::{Order, Signals};
use crate::sockets::Sockets;
use crate::upgrade::{Predecessor, Program};
use crate::yml::{self, GorouterYml};
use anyhow::{Context as _, Result};
use kit::CancellationToken;
use kit::watched::Watched;
use router::Handle;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The longest wait for a successor in addition to its start delay.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a router from the configuration file, until a signal ends it.
pub async fn run(path: &Path) -> Result<()> {
    let predecessor = Predecessor::find()?;
    let sockets = match predecessor {
        None => Sockets::from_systemd()?,
        Some(mut predecessor) => {
            let inherited = Sockets::inherited(std::mem::take(&mut predecessor.sockets));
            return match inherited {
                Ok(sockets) => take_over(path, sockets, predecessor).await,
                Err(error) => {
                    predecessor.failed(&error);
                    Err(error)
                }
            };
        }
    };
    let (mut process, router) = Process::start(path, sockets).await?;
    let running = tokio::spawn(router.run(process.shutdown.clone()));
    process.pid_file.write()?;
    files::notify_systemd();
    let served = process.serve(running).await;
    served.map_err(fatal("gorouter.exited-with-failure"))
}

/// Logs why the process ends, with gorouter's message. The caller prints the same error on standard error.
fn fatal(words: &'static str) -> impl FnOnce(anyhow::Error) -> anyhow::Error {
    move |error| {
        tracing::error!(error = format!("{error:#}"), "{words}");
        error
    }
}

/// Begins to serve when this process knows about as many routes as its predecessor.
async fn take_over(path: &Path, sockets: Sockets, predecessor: Predecessor) -> Result<()> {
    let (mut process, router) = match Process::start(path, sockets).await {
        Ok(started) => started,
        Err(error) => {
            predecessor.failed(&error);
            return Err(error);
        }
    };
    let open = gathered(
        process.handle.clone(),
        process.start_delay,
        predecessor.routes,
    );
    let running = router.inheriting().run_when(open, process.shutdown.clone());
    let mut running = tokio::spawn(running);
    tokio::select! {
        () = process.handle.started() => {}
        ended = &mut running => {
            let error = match ended {
                Ok(Ok(())) => anyhow::anyhow!("it was stopped by a signal"),
                Ok(Err(error)) => error,
                Err(error) => error.into(),
            };
            predecessor.failed(&error);
            return Err(error);
        }
    }
    process.pid_file.write()?;
    if let Err(error) = predecessor.ready() {
        // The predecessor was killed in the meantime, so this process must serve all the more.
        tracing::warn!(error = format!("{error:#}"), "gorouter.predecessor.gone");
    }
    files::notify_systemd();
    process.serve(running).await
}

/// Waits until enough routes are registered. Nine tenths are enough, because routes also disappear.
async fn gathered(handle: Handle, delay: Duration, wanted: usize) -> Result<()> {
    tokio::time::sleep(delay).await;
    let enough = async {
        while handle.routes() < wanted - wanted / 10 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE / 2, enough).await;
    waited.with_context(|| {
        format!(
            "only {} routes were registered, the predecessor had {wanted}: is NATS reachable?",
            handle.routes()
        )
    })
}

/// Checks the configuration file and the files that it names, for `cupola check-config --gorouter`. Returns the text for the
/// operator.
pub fn check(path: &Path) -> Result<String> {
    let read = read(path)?;
    let warnings: String = read
        .warnings
        .iter()
        .map(|warning| format!("warning: {warning}\n"))
        .collect();
    let ports = [("HTTP", read.http_port), ("HTTPS", read.https_port)];
    let listens: Vec<String> = ports
        .iter()
        .filter_map(|(name, port)| Some(format!("{name} on port {}", (*port)?)))
        .collect();
    // The files that the configuration names are checked too.
    build::reload(read)?;
    Ok(format!(
        "{warnings}{} is valid: {}\n",
        path.display(),
        listens.join(", ")
    ))
}

fn read(path: &Path) -> Result<GorouterYml> {
    let text = std::fs::read_to_string(path).with_context(|| {
        format!(
            "read {}: does it exist, and may this process read it?",
            path.display()
        )
    })?;
    yml::read(&text).map_err(|problems| {
        anyhow::anyhow!(
            "{} is not valid:\n  {}",
            path.display(),
            problems.join("\n  ")
        )
    })
}

/// A running router, and the values that its operator can change.
struct Process {
    path: PathBuf,
    program: Program,
    signals: Signals,
    sockets: Sockets,
    level: Level,
    handle: Handle,
    shutdown: CancellationToken,
    pid_file: PidFile,
    watched: Watched,
    fixed: yml::Fixed,
    debug: Option<TcpListener>,
    start_delay: Duration,
    /// Whether signals work as in gorouter, where SIGTERM stops at once.
    compat: bool,
}

/// The next step of the loop in [`Process::serve`].
enum Next {
    Go,
    /// The process stops at once.
    Stop,
}

type Upgrade = Pin<Box<dyn Future<Output = Result<u32>> + Send>>;

impl Process {
    async fn start(path: &Path, mut sockets: Sockets) -> Result<(Self, router::Router)> {
        let read = read(path).map_err(|error| {
            // The settings of the log are not known yet.
            log::init("info", TimestampFormat::default());
            fatal("Error loading config:")(error)
        })?;
        let level = log::init(read.log_level, read.log_timestamp);
        tracing::info!("starting");
        for warning in &read.warnings {
            tracing::warn!(key = warning, "gorouter.yml");
        }
        let error_page =
            build::error_page(&read).map_err(fatal("new-html-error-template-from-file"))?;
        tracing::info!(
            isolation_segments = ?read.isolation_segments,
            routing_table_sharding_mode = read.settings.sharding.mode(),
            "retrieved-isolation-segments"
        );
        let api = Self::routing_api(&read).await;
        let api = api.map_err(fatal("routing-api-connection-failed"))?;
        let signals = Signals::new()?;
        let program = Program::this()?;
        let (compat, start_delay) = (read.settings.compat_gorouter, read.settings.start_delay);
        let (pid_file, fixed) = (PidFile::new(read.pid_file.clone()), read.fixed.clone());
        let Built {
            router,
            files,
            debug,
        } = build::router(read, error_page, api, &mut sockets)
            .await
            .map_err(fatal("initialize-router-error"))?;
        sockets.close_unused();
        let process = Self {
            path: path.to_owned(),
            program,
            signals,
            sockets,
            level,
            handle: router.handle(),
            shutdown: CancellationToken::new(),
            pid_file,
            watched: Watched::new(files),
            fixed,
            debug,
            start_delay,
            compat,
        };
        Ok((process, router))
    }

    /// Returns the configuration of the Routing API's client. Like gorouter, the router does not start without the Routing
    /// API that it must ask. With `compat: none` it starts, and retries without end.
    async fn routing_api(read: &GorouterYml) -> Result<Option<clients::routing_api::Config>> {
        let Some(api) = build::routing_api(read)? else {
            return Ok(None);
        };
        tracing::info!("setting-up-routing-api");
        if api.oauth.is_none() {
            tracing::info!("using-noop-token-fetcher");
        }
        if read.settings.compat_gorouter {
            build::reach(&api).await?;
        }
        Ok(Some(api))
    }

    /// Runs until the router has ended or must stop at once.
    async fn serve(mut self, mut running: JoinHandle<Result<()>>) -> Result<()> {
        if let Some(listener) = self.debug.take() {
            let (level, shutdown) = (self.level.clone(), self.shutdown.clone());
            tokio::spawn(page::serve(listener, level, shutdown));
        }
        let mut upgrade: Option<Upgrade> = None;
        loop {
            tokio::select! {
                ended = &mut running => return ended?,
                order = self.signals.next() => match self.obey(order, &mut upgrade).await {
                    Next::Go => {}
                    Next::Stop => {
                        tracing::info!("gorouter.stopping");
                        self.handle.flush();
                        return Ok(());
                    }
                },
                outcome = upgrade_finished(&mut upgrade) => {
                    upgrade = None;
                    match outcome {
                        Ok(pid) => self.hand_over(pid),
                        Err(error) => tracing::error!(error = format!("{error:#}"), "gorouter.upgrade.failed"),
                    }
                }
                file = self.watched.changed() => {
                    tracing::info!(file = %file.display(), "gorouter.file-changed");
                    self.reload().await;
                }
            }
        }
    }

    async fn obey(&mut self, order: Order, upgrade: &mut Option<Upgrade>) -> Next {
        let signal = order.signal();
        let draining = self.shutdown.is_cancelled();
        let at_once = match order {
            Order::Interrupt => true,
            Order::Terminate => self.compat,
            _ => false,
        };
        match order {
            // gorouter ignores all signals once it drains. Without its quirks SIGINT still stops.
            _ if draining && (self.compat || order != Order::Interrupt) => {
                tracing::info!(signal, "gorouter.signal.ignored");
            }
            _ if at_once => return Next::Stop,
            Order::Reload => {
                // Whoever rotates logs has renamed the file. The log is reopened even if the configuration is refused.
                self.handle.reopen_access_log();
                self.reload().await;
            }
            Order::Upgrade if upgrade.is_some() => {
                tracing::info!(signal, "gorouter.signal.ignored: an upgrade is under way");
            }
            Order::Upgrade => match self.successor() {
                Ok(started) => *upgrade = Some(Box::pin(started)),
                Err(error) => {
                    tracing::error!(error = format!("{error:#}"), "gorouter.upgrade.failed");
                }
            },
            Order::Drain | Order::Terminate | Order::Interrupt => {
                // If there is a successor that has not taken over yet, it is killed here.
                *upgrade = None;
                self.sockets.forget();
                self.shutdown.cancel();
            }
        }
        Next::Go
    }

    fn successor(&self) -> Result<impl Future<Output = Result<u32>> + use<>> {
        tracing::info!("gorouter.upgrade.started");
        let patience = self.start_delay + PATIENCE;
        self.program
            .succeed(self.sockets.all(), self.handle.routes(), patience)
    }

    /// Begins the end of this process: the successor accepts connections now, and this process ends after its last request.
    fn hand_over(&mut self, pid: u32) {
        tracing::info!(pid, "gorouter.upgrade.taken-over");
        self.pid_file.leave();
        self.sockets.forget();
        self.handle.hand_over();
        self.shutdown.cancel();
    }

    async fn reload(&mut self) {
        match self.try_reload().await {
            Ok(()) => tracing::info!("gorouter.reloaded"),
            Err(error) => tracing::error!(
                error = format!("{error:#}"),
                "gorouter.reload-refused: the previous configuration stays in effect"
            ),
        }
    }

    async fn try_reload(&mut self) -> Result<()> {
        let read = read(&self.path)?;
        for key in self.fixed.changed(&read.fixed) {
            tracing::warn!(
                key,
                "gorouter.reload: this key takes effect with an upgrade (SIGUSR2) or a restart"
            );
        }
        let level = read.log_level;
        let (reload, files) = build::reload(read)?;
        self.handle.reload(reload).await?;
        self.watched = Watched::new(files);
        self.level.set(level)
    }
}

async fn upgrade_finished(upgrade: &mut Option<Upgrade>) -> Result<u32> {
    match upgrade {
        Some(upgrade) => upgrade.await,
        None => pending().await,
    }
}
