//! The connection to the sshd of an instance: TLS with the instance's name, and a login with the key of its LRP.

use crate::target::Target;
use anyhow::{Context as _, Result, ensure};
use russh::SshId;
use russh::client::{AuthResult, Config, Handle, Handler, connect_stream};
use russh::keys::{Algorithm, PrivateKeyWithHashAlg, PublicKeyBase64 as _, PublicKeyOrCertificate};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use ssh_sides::{Gate, socket};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::sync::{CancellationToken, DropGuard};
use wire::ssh::{SshRoute, matches_fingerprint};

/// The time for all of it.
const CONNECT: Duration = Duration::from_secs(15);

/// The time without traffic after which the sshd is sent a request without meaning.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// A connection to an sshd, after the login.
pub(crate) struct Backend {
    pub(crate) handle: Handle<Sshd>,
    /// The bytes that wait to be sent to the client.
    pub(crate) gate: Gate,
    /// It is cancelled when the connection has ended.
    pub(crate) ended: CancellationToken,
}

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backend").finish_non_exhaustive()
    }
}

/// The handler of a connection to an sshd. It is dropped when the connection has ended.
#[derive(Debug)]
pub(crate) struct Sshd {
    fingerprint: Fingerprint,
    _ended: DropGuard,
}

/// The proof that the sshd must give.
#[derive(Debug)]
enum Fingerprint {
    Known(String),
    /// The LRP names none. The certificate of the instance has proved who it is.
    ByCertificate,
    Unknown,
}

impl Handler for Sshd {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        server_public_key: &PublicKeyOrCertificate,
    ) -> Result<bool, Self::Error> {
        Ok(match &self.fingerprint {
            Fingerprint::Known(fingerprint) => {
                let key = server_public_key.public_key().public_key_bytes();
                matches_fingerprint(fingerprint, &key)
            }
            Fingerprint::ByCertificate => true,
            Fingerprint::Unknown => false,
        })
    }
}

/// Returns the settings of all connections.
pub(crate) fn client() -> Config {
    Config {
        client_id: SshId::Standard("SSH-2.0-diego-ssh-proxy".into()),
        inactivity_timeout: None,
        // Envoy closes a connection without traffic after an hour. An answer is not waited for: `activity` ends idle sessions.
        keepalive_interval: Some(KEEPALIVE),
        keepalive_max: 0,
        ..Config::default()
    }
}

/// Connects and logs in. The error is for the operator.
pub(crate) async fn connect(
    target: &Target,
    tls: &Arc<ClientConfig>,
    config: &Arc<Config>,
) -> Result<Backend> {
    let connecting = tokio::time::timeout(CONNECT, attempt(target, tls, config));
    connecting
        .await
        .with_context(|| format!("no login within {} s", CONNECT.as_secs()))?
}

async fn attempt(
    target: &Target,
    tls: &Arc<ClientConfig>,
    config: &Arc<Config>,
) -> Result<Backend> {
    let (gate, ended) = (Gate::default(), CancellationToken::new());
    let stream = gate.of(open(target, tls).await?);
    let sshd = Sshd {
        fingerprint: fingerprint(&target.route, target.tls_name.is_some()),
        _ended: ended.clone().drop_guard(),
    };
    let mut handle = connect_stream(config.clone(), stream, sshd)
        .await
        .context("begin SSH with the instance")?;
    log_in(&mut handle, &target.route).await?;
    Ok(Backend {
        handle,
        gate,
        ended,
    })
}

/// Any connection of bytes.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

async fn open(target: &Target, tls: &Arc<ClientConfig>) -> Result<Box<dyn Stream>> {
    let stream = TcpStream::connect((target.host.as_str(), target.port))
        .await
        .with_context(|| format!("connect to {}:{}", target.host, target.port))?;
    socket::prepare(&stream);
    let Some(name) = &target.tls_name else {
        return Ok(Box::new(stream));
    };
    let name = ServerName::try_from(name.clone()).context("use the instance's name")?;
    let stream = TlsConnector::from(tls.clone())
        .connect(name, stream)
        .await
        .context("check the instance's certificate")?;
    Ok(Box::new(stream))
}

fn fingerprint(route: &SshRoute, is_certified: bool) -> Fingerprint {
    let known = [&route.host_256_fingerprint, &route.host_fingerprint];
    match known.into_iter().find(|text| !text.is_empty()) {
        Some(text) => Fingerprint::Known(text.clone()),
        None if is_certified => Fingerprint::ByCertificate,
        None => Fingerprint::Unknown,
    }
}

async fn log_in(handle: &mut Handle<Sshd>, route: &SshRoute) -> Result<()> {
    let user = match route.user.as_str() {
        "" => "vcap",
        user => user,
    };
    let result = if route.private_key.is_empty() {
        handle
            .authenticate_password(user, &route.password)
            .await
            .context("log in with the password of the LRP")?
    } else {
        let key = russh::keys::decode_secret_key(&route.private_key, None)
            .context("read the key of the LRP")?;
        let hash = match key.algorithm() {
            // The answer may take a second, and other keys have one way to sign.
            Algorithm::Rsa { .. } => handle.best_supported_rsa_hash().await,
            _ => Ok(None),
        };
        let hash = hash.context("agree on a signature")?.flatten();
        let key = PrivateKeyWithHashAlg::new(Arc::new(key), hash);
        handle
            .authenticate_publickey(user, key)
            .await
            .context("log in with the key of the LRP")?
    };
    ensure!(
        matches!(result, AuthResult::Success),
        "the instance's sshd refused the key of its LRP"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sshd_proves_itself_by_its_key_or_its_certificate() {
        let mut route = SshRoute::default();
        assert!(matches!(
            fingerprint(&route, true),
            Fingerprint::ByCertificate
        ));
        assert!(matches!(fingerprint(&route, false), Fingerprint::Unknown));
        route.host_fingerprint = "sha1".into();
        assert!(matches!(fingerprint(&route, true), Fingerprint::Known(text) if text == "sha1"));
        route.host_256_fingerprint = "sha256".into();
        assert!(matches!(fingerprint(&route, true), Fingerprint::Known(text) if text == "sha256"));
    }
}
