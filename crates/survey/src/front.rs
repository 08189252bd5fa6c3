//! Asks a router for the certificate that it presents to clients of a host.

use anyhow::{Context as _, Result};
use kit::tls::{Presented, trusting_any_certificate};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use wire::rep::InspectedCertificate;

/// Returns the certificate that a listener presents for a host. Whether a client trusts it is not examined.
pub(crate) async fn certificate(address: &str, host: &str) -> Result<InspectedCertificate> {
    let stream = TcpStream::connect(address)
        .await
        .with_context(|| format!("connect to {address}"))?;
    let name = ServerName::try_from(host.to_owned()).context("read the name of the host")?;
    let tls = trusting_any_certificate().with_no_client_auth();
    let tls = TlsConnector::from(Arc::new(tls));
    let stream = tls.connect(name, stream).await.context("TLS handshake")?;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let leaf = chain.first().context("it presents no certificate")?;
    let presented = Presented::read(leaf)?;
    Ok(InspectedCertificate {
        names: presented.names,
        not_before: presented.not_before,
        not_after: presented.not_after,
    })
}
