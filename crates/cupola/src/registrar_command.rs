//! `cupola route-registrar`: routes of servers that are not apps, from a route-registrar's own configuration.

use crate::router_command::read_pem;
use anyhow::Result;
use kit::CancellationToken;
use kit::tls::Identity;
use route_registrar::{Registrar, config};
use std::path::Path;
use tokio::signal::unix::{SignalKind, signal};

/// Until SIGTERM or SIGINT; then every route is unregistered.
pub(crate) async fn run(path: &Path) -> Result<()> {
    let config = config::load(path).map_err(|problems| {
        anyhow::anyhow!(
            "{} is not valid:\n  {}",
            path.display(),
            problems.join("\n  ")
        )
    })?;
    kit::logging::init("info");
    for warning in &config.warnings {
        tracing::warn!(key = warning, "route-registrar-configuration");
    }
    let tls = match &config.nats_tls_files {
        None => None,
        Some([cert, key, ca]) => Some(Identity {
            cert_pem: read_pem(cert, "nats_mtls_config.cert_path")?,
            key_pem: read_pem(key, "nats_mtls_config.key_path")?,
            ca_pem: read_pem(ca, "nats_mtls_config.ca_path")?,
        }),
    };
    let nats = clients::nats::Config {
        servers: config.servers,
        user: config.user,
        password: config.password,
        tls,
    };
    let client = clients::nats::connect(&nats, "route-registrar", |_| async {}).await?;
    let registrar = Registrar::with(client, config.registrations, config.unregistration_limit)?;
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let stopper = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    };
    let (result, ()) = tokio::join!(registrar.run(shutdown), stopper);
    result
}
