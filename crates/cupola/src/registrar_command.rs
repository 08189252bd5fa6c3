//! `cupola route-registrar` registers routes of servers that are not apps, from the configuration of a route-registrar.
//!
//! On SIGHUP, and when one of its files changes, it reads the configuration again: routes that are no longer in it are
//! unregistered, and routes that stay are left alone. If the configuration is invalid, nothing changes.

use anyhow::Result;
use kit::CancellationToken;
use kit::watched::Watched;
use route_registrar::config::{self, Config};
use route_registrar::{Outlets, Registrar, Wanted};
use std::path::Path;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Runs until SIGTERM or SIGINT, and then unregisters every route.
pub(crate) async fn run(path: &Path) -> Result<()> {
    let config = load(path)?;
    crate::terminal::start_logging("info");
    warn(&config);
    let outlets = outlets(&config).await?;
    let registrar = Registrar::with(outlets, config.registrations, config.unregistration_limit)?;
    let shutdown = CancellationToken::new();
    let (changes, changed) = mpsc::channel(1);
    let running = registrar.run_changing(changed, shutdown.clone());
    tokio::pin!(running);
    tokio::select! {
        ended = running.as_mut() => return ended,
        stopped = obey(path, Watched::new(config.files), changes) => stopped?,
    }
    shutdown.cancel();
    running.await
}

/// Connects to the places where routes are registered. It reads the certificates.
async fn outlets(config: &Config) -> Result<Outlets> {
    let nats = match config.nats()? {
        Some(nats) => Some(clients::nats::connect(&nats, "route-registrar", |_| async {}).await?),
        None => None,
    };
    Ok(Outlets {
        nats,
        tcp_routes: config.tcp_routes()?.map(Arc::new),
    })
}

/// Reloads the configuration on signals and changes. It returns when the process should stop.
async fn obey(path: &Path, mut watched: Watched, changes: mpsc::Sender<Wanted>) -> Result<()> {
    let (mut terminate, mut interrupt, mut reload) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
        signal(SignalKind::hangup())?,
    );
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = reload.recv() => {}
            _ = watched.changed() => {}
            // Files of jobs may appear and disappear.
            () = tokio::time::sleep(DISCOVERY) => {
                let same = |config: Config| watched.holds(&config.files);
                if load(path).map_or(true, same) {
                    continue;
                }
            }
        }
        match load(path) {
            Err(error) => {
                // An invalid configuration is not loaded again until it changes.
                tracing::error!(
                    error = format!("{error:#}"),
                    "reload-refused: the previous routes stay registered"
                );
            }
            Ok(config) => {
                warn(&config);
                tracing::info!(routes = config.registrations.len(), "reloaded");
                let wanted = Wanted {
                    registrations: config.registrations,
                    unregistration_limit: config.unregistration_limit,
                };
                watched = Watched::new(config.files);
                if changes.send(wanted).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}

/// The interval at which file patterns are evaluated again.
const DISCOVERY: std::time::Duration = std::time::Duration::from_secs(10);

fn load(path: &Path) -> Result<Config> {
    config::load(path).map_err(|problems| {
        anyhow::anyhow!(
            "{} is not valid:\n  {}",
            path.display(),
            problems.join("\n  ")
        )
    })
}

fn warn(config: &Config) {
    for warning in &config.warnings {
        tracing::warn!(key = warning, "route-registrar-configuration");
    }
}
