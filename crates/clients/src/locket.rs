//! The locket gRPC client: locks (at most one holder each) and presences (which cells exist), both with a time to live.
//!
//! An owner's name should be stable across restarts of the same process (a cell's id, `auctioneer@host`): after a crash the same
//! owner continues at once, while another one waits until the old lease has expired.

use anyhow::{Context as _, Result};
use hyper_util::rt::TokioIo;
use kit::CancellationToken;
use kit::readiness::Need;
use kit::tls::Identity;
use rustls::pki_types::ServerName;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::codegen::http::Uri;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use wire::bbs::CellPresence;
use wire::locket::{self as m, Resource, TypeCode, path};

/// The time to live of every lock and presence.
pub const TTL: Duration = Duration::from_secs(15);
/// The interval at which a holder renews its lock or presence.
const RENEW: Duration = Duration::from_secs(5);
/// The interval at which a client that waits for a lock tries again.
const RETRY: Duration = Duration::from_secs(1);

/// A client of one locket server. It is cheap to clone. It connects when it is first used, and again after the connection is
/// lost.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
}

#[derive(Debug, thiserror::Error)]
pub enum LocketError {
    /// Another owner holds the lock or presence.
    #[error("lock-collision: {key} belongs to another owner")]
    Collision { key: String },
    #[error("{key}: resource-not-found")]
    NotFound { key: String },
    #[error("call locket: {0}")]
    Failed(#[source] Status),
}

impl LocketError {
    fn new(key: &str, status: Status) -> Self {
        match status.code() {
            Code::AlreadyExists => Self::Collision {
                key: key.to_owned(),
            },
            Code::NotFound => Self::NotFound {
                key: key.to_owned(),
            },
            _ => Self::Failed(status),
        }
    }
}

impl Client {
    /// Makes a client of the server at `url`, for example `https://127.0.0.1:8891`. Call it inside a tokio runtime.
    pub fn new(url: impl Into<String>, identity: &Identity) -> Result<Self> {
        Self::with_tls(url, kit::tls::client_config(identity)?)
    }

    /// Makes a client, as [`new`](Self::new), with the caller's TLS configuration.
    pub fn with_tls(url: impl Into<String>, tls: rustls::ClientConfig) -> Result<Self> {
        Ok(Self {
            channel: channel(&url.into(), tls)?,
        })
    }

    /// Acquires or renews the lock or presence for `ttl`.
    pub async fn lock(&self, resource: Resource, ttl: Duration) -> Result<(), LocketError> {
        let key = resource.key.clone();
        let request = m::LockRequest {
            resource: Some(resource),
            ttl_in_seconds: ttl.as_secs().max(1) as i64,
        };
        self.call::<_, m::LockResponse>(path::LOCK, request)
            .await
            .map(drop)
            .map_err(|s| LocketError::new(&key, s))
    }

    pub async fn release(&self, resource: Resource) -> Result<(), LocketError> {
        let key = resource.key.clone();
        self.call::<_, m::ReleaseResponse>(
            path::RELEASE,
            m::ReleaseRequest {
                resource: Some(resource),
            },
        )
        .await
        .map(drop)
        .map_err(|s| LocketError::new(&key, s))
    }

    pub async fn fetch(&self, key: &str) -> Result<Resource, LocketError> {
        let answer: m::FetchResponse = self
            .call(
                path::FETCH,
                m::FetchRequest {
                    key: key.to_owned(),
                },
            )
            .await
            .map_err(|s| LocketError::new(key, s))?;
        answer.resource.ok_or_else(|| LocketError::NotFound {
            key: key.to_owned(),
        })
    }

    /// Returns all locks, or all presences.
    pub async fn fetch_all(&self, kind: TypeCode) -> Result<Vec<Resource>, LocketError> {
        let type_name = if kind == TypeCode::Lock {
            m::LOCK
        } else {
            m::PRESENCE
        };
        let request = m::FetchAllRequest {
            type_name: type_name.into(),
            type_code: kind as i32,
        };
        let answer: m::FetchAllResponse = self
            .call(path::FETCH_ALL, request)
            .await
            .map_err(|s| LocketError::new("", s))?;
        Ok(answer.resources)
    }

    /// Returns the cells that are present. A presence whose value cannot be read is skipped and logged.
    pub async fn cells(&self) -> Result<Vec<CellPresence>, LocketError> {
        let presences = self.fetch_all(TypeCode::Presence).await?;
        Ok(presences.iter().filter_map(cell_presence).collect())
    }

    async fn call<Q, A>(&self, path: &'static str, request: Q) -> Result<A, Status>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let mut grpc = tonic::client::Grpc::new(self.channel.clone());
        grpc.ready()
            .await
            .map_err(|error| Status::unavailable(format!("{:#}", anyhow::Error::from(error))))?;
        let codec = tonic_prost::ProstCodec::<Q, A>::default();
        Ok(grpc
            .unary(
                tonic::Request::new(request),
                PathAndQuery::from_static(path),
                codec,
            )
            .await?
            .into_inner())
    }
}

/// Reads a presence as that of a cell. It skips and logs a value that describes no cell.
pub fn cell_presence(resource: &Resource) -> Option<CellPresence> {
    match CellPresence::from_locket_value(&resource.value) {
        Ok(cell) if !cell.cell_id.is_empty() => Some(cell),
        Ok(_) => None,
        Err(error) => {
            tracing::debug!(key = resource.key, %error, "presence-is-not-a-cell");
            None
        }
    }
}

/// Makes a gRPC channel over TLS, which connects when it is first used.
fn channel(url: &str, mut tls: rustls::ClientConfig) -> Result<Channel> {
    let uri: Uri = url
        .parse()
        .with_context(|| format!("locket address {url:?}: expected https://host:port"))?;
    anyhow::ensure!(
        uri.scheme_str() == Some("https"),
        "locket address {url:?}: expected https://host:port"
    );
    let authority = uri
        .authority()
        .with_context(|| format!("locket address {url:?}: expected https://host:port"))?
        .clone();
    let address = format!(
        "{}:{}",
        authority.host(),
        authority.port_u16().unwrap_or(8891)
    );
    let name = ServerName::try_from(authority.host().trim_matches(['[', ']']).to_owned())
        .with_context(|| format!("locket address {url:?}: its host is not a valid name"))?;
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let tls = TlsConnector::from(Arc::new(tls));
    let connector = tower::service_fn(move |_: Uri| {
        let (address, name, tls) = (address.clone(), name.clone(), tls.clone());
        async move {
            let stream = TcpStream::connect(&address).await?;
            stream.set_nodelay(true)?;
            std::io::Result::Ok(TokioIo::new(tls.connect(name, stream).await?))
        }
    });
    // The channel's own scheme is plain, because the connector does TLS.
    let endpoint =
        Endpoint::from_shared(format!("http://{authority}")).context("make locket endpoint")?;
    let endpoint = endpoint
        .connect_timeout(Duration::from_secs(5))
        .timeout(Duration::from_secs(10))
        .http2_keep_alive_interval(Duration::from_secs(10));
    Ok(endpoint.connect_with_connector_lazy(connector))
}

/// A presence that is renewed every 5 s with a time to live of 15 s and released at the end. Its loss is logged, not fatal.
#[derive(Debug)]
pub struct Presence {
    client: Client,
    resource: Resource,
    held: Option<Need>,
}

impl Presence {
    /// Makes the presence of a cell. Its owner is the cell id, so that a restarted cell continues at once.
    pub fn cell(client: Client, cell: &CellPresence) -> Self {
        Self::new(client, &cell.cell_id, &cell.cell_id, cell.to_locket_value())
    }

    pub fn new(client: Client, key: &str, owner: &str, value: String) -> Self {
        let resource = Resource {
            key: key.into(),
            owner: owner.into(),
            value,
            type_name: m::PRESENCE.into(),
            type_code: TypeCode::Presence as i32,
        };
        Self {
            client,
            resource,
            held: None,
        }
    }

    /// Reports to `held` whether each renewal succeeded.
    pub fn observed(self, held: Need) -> Self {
        Self {
            held: Some(held),
            ..self
        }
    }

    /// Renews the presence until `shutdown`, then releases it.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut held = false;
        loop {
            let renewed = self.client.lock(self.resource.clone(), TTL).await;
            if let Some(need) = &self.held {
                need.attempted(&renewed);
            }
            let wait = match renewed {
                Ok(()) => {
                    if !held {
                        tracing::info!(key = self.resource.key, "presence-set");
                    }
                    held = true;
                    RENEW
                }
                Err(error) => {
                    if held {
                        tracing::warn!(key = self.resource.key, %error, "presence-not-renewed");
                    }
                    held = false;
                    RETRY
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = tokio::time::sleep(wait) => {}
            }
        }
        let release = self.client.release(self.resource.clone());
        if let Ok(Err(error)) = tokio::time::timeout(Duration::from_secs(2), release).await {
            tracing::debug!(key = self.resource.key, %error, "presence-not-released");
        }
    }
}

/// A lock of this process, which it waits for and then renews every 5 s.
#[derive(Debug)]
pub struct Lock {
    client: Client,
    resource: Resource,
}

impl Lock {
    pub fn new(client: Client, key: &str, owner: &str) -> Self {
        let resource = Resource {
            key: key.into(),
            owner: owner.into(),
            value: String::new(),
            type_name: m::LOCK.into(),
            type_code: TypeCode::Lock as i32,
        };
        Self { client, resource }
    }

    /// Returns once this process holds the lock, however long that takes. Drop the future to give up.
    pub async fn acquire(&self) {
        let mut logged = false;
        while let Err(error) = self.client.lock(self.resource.clone(), TTL).await {
            if !logged {
                tracing::info!(key = self.resource.key, %error, "waiting-for-lock");
                logged = true;
            }
            tokio::time::sleep(RETRY).await;
        }
        tracing::info!(key = self.resource.key, "lock-acquired");
    }

    /// Renews the acquired lock until `shutdown`, then releases it. `Err` means that the lock is lost, because another owner has
    /// it or because no renewal succeeded for a whole TTL. Its holder must then stop everything that needed the lock.
    pub async fn renew(&self, shutdown: CancellationToken) -> Result<()> {
        let mut renewed = tokio::time::Instant::now();
        let mut wait = RENEW;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = tokio::time::sleep(wait) => {}
            }
            match self.client.lock(self.resource.clone(), TTL).await {
                Ok(()) => (renewed, wait) = (tokio::time::Instant::now(), RENEW),
                Err(error @ LocketError::Collision { .. }) => {
                    return Err(error).context("lost lock");
                }
                Err(error) if renewed.elapsed() >= TTL => {
                    return Err(error).context(format!("lost lock {}", self.resource.key));
                }
                Err(_) => wait = RETRY,
            }
        }
        let release = self.client.release(self.resource.clone());
        let _ = tokio::time::timeout(Duration::from_secs(2), release).await;
        Ok(())
    }
}
