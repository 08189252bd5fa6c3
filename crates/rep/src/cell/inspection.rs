//! Inspects one instance for `cupola why`: what garden, the firewall, and the instance's Envoy really show. It only reads.

use super::{Cell, machine};
use anyhow::{Context as _, Result};
use cell_plan::ports::FIRST_TLS_PORT;
use kit::tls::{Identity, Presented};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use wire::rep::{
    InspectedCertificate, InspectedContainer, InspectedPort, InspectedProcess, InspectedRule,
    Inspection,
};

/// The time limit of a connection to an Envoy, and of a handshake with it. Each takes milliseconds if nothing is wrong.
const LIMIT: Duration = Duration::from_secs(2);

/// A client that connects to Envoys as the router does. It accepts every certificate, because it reports what it sees.
#[derive(Clone)]
pub(crate) struct Inspector {
    tls: TlsConnector,
}

impl Inspector {
    pub(crate) fn new(identity: &Identity) -> Result<Self> {
        let tls = kit::tls::unverified_client_config(identity)?;
        Ok(Self {
            tls: TlsConnector::from(Arc::new(tls)),
        })
    }

    /// Returns the certificate that an Envoy presents.
    async fn certificate(&self, address: Ipv4Addr) -> Result<InspectedCertificate> {
        // Two faults look alike from outside: packets that do not arrive, and an Envoy that does nothing.
        let stream = timely(TcpStream::connect((address, FIRST_TLS_PORT)));
        let stream = stream
            .await
            .with_context(|| format!("connect to {address}:{FIRST_TLS_PORT}"))?;
        let name = ServerName::IpAddress(IpAddr::V4(address).into());
        let stream = timely(self.tls.connect(name, stream));
        let stream = stream.await.context("TLS handshake")?;
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let leaf = chain.first().context("it presents no certificate")?;
        described(leaf)
    }
}

/// Awaits a step, and fails when it takes too long.
async fn timely<T>(step: impl Future<Output = std::io::Result<T>>) -> Result<T> {
    let ended = tokio::time::timeout(LIMIT, step).await;
    Ok(ended.with_context(|| format!("no answer within {} s", LIMIT.as_secs()))??)
}

/// Returns the names and the validity of a certificate.
fn described(der: &[u8]) -> Result<InspectedCertificate> {
    let presented = Presented::read(der)?;
    Ok(InspectedCertificate {
        names: presented.names,
        not_before: presented.not_before,
        not_after: presented.not_after,
    })
}

/// Returns everything that the cell shows about an instance. What cannot be read is named in the answer.
pub(crate) async fn inspect(cell: &Cell, guid: &str) -> Inspection {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let mut inspection = Inspection {
        instance_guid: guid.to_owned(),
        cell_id: cell.settings.cell_id.clone(),
        now: now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX)),
        cell_is_healthy: cell.healthy.load(Ordering::SeqCst),
        machine: machine::state(&cell.settings.work_dir),
        ..Inspection::default()
    };
    if let Some(container) = cell.container(guid) {
        let status = container.status();
        inspection.state = status.phase.name().to_owned();
        inspection.is_routable = status.reachable();
        inspection.is_stopping = status.stopping.is_some();
    }
    let (container, address) = match container(cell, guid).await {
        Ok(Some((container, address))) => (Some(container), Some(address)),
        Ok(None) => (None, None),
        Err(error) => {
            inspection.firewall = Err(format!("garden: {error:#}")).into();
            return inspection;
        }
    };
    inspection.container = container;
    let Some(address) = address else {
        return inspection;
    };
    let (rules, certificate) = tokio::join!(cell.garden.firewall(guid), async {
        match cell.settings.proxy {
            true => Some(cell.inspector.certificate(address).await),
            false => None,
        }
    });
    let rules = rules.map_err(|error| format!("{error:#}"));
    let rules = rules.map(|rules| rules.into_iter().map(shown).collect::<Vec<_>>());
    inspection.firewall = rules.into();
    inspection.envoy = certificate.map(|read| read.map_err(|error| format!("{error:#}")).into());
    inspection
}

fn shown(rule: garden::api::FirewallRule) -> InspectedRule {
    InspectedRule {
        table: rule.table.to_owned(),
        rule: rule.rule,
        packets: rule.packets,
    }
}

/// Returns the container as garden has it, and its address; `None` if garden has none of that name.
async fn container(cell: &Cell, guid: &str) -> Result<Option<(InspectedContainer, Ipv4Addr)>> {
    let containers = cell.garden.containers().await?;
    let Some(found) = containers.into_iter().find(|c| c.handle == guid) else {
        return Ok(None);
    };
    let listeners = cell.garden.listeners(guid).await?;
    let metrics = cell.garden.metrics(guid).await?;
    let port = |port: &garden::api::NetIn| InspectedPort {
        host_port: port.host_port,
        container_port: port.container_port,
    };
    let process = |(id, exit): (String, Option<garden::api::Exit>)| InspectedProcess {
        id,
        exit_status: exit.map(|exit| exit.status),
    };
    let container = InspectedContainer {
        address: found.container_ip.to_string(),
        cell_address: cell.garden.cell_ip().to_string(),
        ports: found.net_in.iter().map(port).collect(),
        listeners: listeners.iter().map(ToString::to_string).collect(),
        processes: found.processes.into_iter().map(process).collect(),
        refused_packets: metrics.refused_packets,
    };
    Ok(Some((container, found.container_ip)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_shows_its_names_and_its_validity() {
        let ca = testkit::certs::Ca::new();
        let identity = ca.issue(&["guid-1", "10.255.0.2"]);
        let chain = kit::tls::certs(&identity.cert_pem).unwrap();
        let shown = described(&chain[0]).unwrap();
        for name in ["guid-1", "10.255.0.2"] {
            assert!(shown.names.iter().any(|shown| shown == name), "{shown:?}");
        }
        assert!(shown.not_before < shown.not_after);
        assert!(described(b"no certificate").is_err());
    }
}
