//! User Account and Authentication: users, clients and the tokens that every API of the foundation accepts.
//!
//! It implements the subset of Cloud Foundry's UAA that the CLI, Cloud Controller and OAuth libraries need: the grants
//! `password`, `refresh_token`, `client_credentials` and `authorization_code` (one-time ssh codes, and a page on which users sign in
//! for other programs), public keys, SCIM users, clients. The CLI (through the router), cloud-controller, log-cache and ssh-proxy call it. Access tokens are JWTs (RS256) that
//! others verify by themselves; they ask this component only whether a token was revoked before it expires (`/check_token`). This
//! component never logs a password, secret or token, and accepts none in a URL.
//!
//! | Module | Owns |
//! |---|---|
//! | [`api`] | HTTP: paths, bodies, status codes |
//! | [`token`] | the claims of a token (pure) |
//! | [`signing`] | the RSA key, signatures, public keys |
//! | [`password`], [`throttle`] | hashes; how often one may guess (pure) |
//! | [`scim`] | filter expressions and user documents (pure) |
//! | [`db`] | users and clients at rest |
//! | [`metrics`] | what operators see |
//! | [`reset`] | a new password without the old one, for who has the machine |

mod api;
mod db;
mod error;
mod metrics;
mod password;
mod reset;
mod scim;
mod signing;
mod throttle;
mod token;

pub use reset::{Reset, reset_password};

use anyhow::{Context as _, Result};
use kit::CancellationToken;
use kit::db::{Location, Server};
use kit::metrics::{Observed, Registry};
use kit::readiness::Readiness;
use metrics::Metrics;
use signing::SigningKey;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// The groups of an administrator, which decide the scopes of its tokens.
const ADMIN_GROUPS: &[&str] = &[
    "cloud_controller.admin",
    "clients.admin",
    "clients.read",
    "clients.secret",
    "clients.write",
    "doppler.firehose",
    "logs.admin",
    "network.admin",
    "routing.router_groups.read",
    "routing.router_groups.write",
    "scim.read",
    "scim.write",
    "uaa.admin",
];

/// The group of every user for the dashboards of services, whose clients alone have its scope.
const DASHBOARDS: &str = "cloud_controller_service_permissions.read";

/// The groups of every user, which decide the scopes of their tokens.
const USER_GROUPS: &[&str] = &[
    "cloud_controller.read",
    "cloud_controller.write",
    DASHBOARDS,
    "network.write",
    "openid",
    "password.write",
    "scim.me",
    "uaa.user",
];

/// The checked configuration.
pub struct Config {
    /// The listener for plain HTTP, already bound. The router is in front of it.
    pub listener: TcpListener,
    /// The directory of `uaa.db` and the signing key. Both are created at the first start with mode 0600.
    pub data_dir: PathBuf,
    /// The database server. Users, clients and the signing key are then in its schema `uaa`, and several UAAs can use it.
    pub database: Option<Server>,
    /// The URL that clients use: `https://uaa.<system domain>`. The issuer of tokens is this URL with `/oauth/token`.
    pub external_url: String,
    /// The login URL: `https://login.<system domain>`.
    pub login_url: String,
    pub admin_user: String,
    pub admin_password: String,
    /// Whether the password of an existing administrator is set to `admin_password`. Otherwise `admin_password` is used only at
    /// the first start.
    pub reset_admin_password: bool,
    /// The configured clients besides `cf` (with an empty secret), which always exists. The API cannot change or remove them.
    /// Clients that were created over the API stay.
    pub clients: Vec<Client>,
    pub access_token_validity: Duration,
    pub refresh_token_validity: Duration,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("data_dir", &self.data_dir)
            .field("external_url", &self.external_url)
            .finish_non_exhaustive()
    }
}

/// An OAuth client.
#[derive(Clone)]
pub struct Client {
    pub id: String,
    pub secret: String,
    /// The scopes that a user's token through this client may have at most.
    pub scopes: Vec<String>,
    /// The scopes of the client's own token (`client_credentials`).
    pub authorities: Vec<String>,
    /// The allowed grant types: `password`, `refresh_token`, `client_credentials`, `authorization_code`.
    pub grant_types: Vec<String>,
    /// The URL to which one-time codes are sent (`authorization_code`).
    pub redirect_uri: String,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("id", &self.id)
            .field("grant_types", &self.grant_types)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Returns a component's own client, which may only use `client_credentials`.
    pub fn component(id: &str, secret: &str, authorities: &[&str]) -> Self {
        Self {
            id: id.into(),
            secret: secret.into(),
            scopes: vec!["uaa.none".into()],
            authorities: authorities.iter().map(ToString::to_string).collect(),
            grant_types: vec!["client_credentials".into()],
            redirect_uri: String::new(),
        }
    }

    /// Returns the client of `cf ssh`'s proxy, which exchanges one-time codes for the user's token.
    pub fn ssh_proxy(secret: &str, redirect_uri: &str) -> Self {
        Self {
            id: "ssh-proxy".into(),
            secret: secret.into(),
            scopes: [
                "openid",
                "cloud_controller.read",
                "cloud_controller.write",
                "cloud_controller.admin",
            ]
            .map(String::from)
            .to_vec(),
            authorities: Vec::new(),
            grant_types: vec!["authorization_code".into(), "refresh_token".into()],
            redirect_uri: redirect_uri.into(),
        }
    }

    /// Returns the client of the dashboard, to which users sign in with a browser. Its tokens only read, except those of an administrator,
    /// whose scope has no part for reading alone.
    pub fn dashboard(secret: &str, redirect_uri: &str) -> Self {
        Self {
            id: "dashboard".into(),
            secret: secret.into(),
            scopes: [
                "openid",
                "cloud_controller.read",
                "cloud_controller.admin",
                "cloud_controller.admin_read_only",
                "cloud_controller.global_auditor",
            ]
            .map(String::from)
            .to_vec(),
            // It asks whether the tokens of its users were revoked.
            authorities: vec!["uaa.resource".into()],
            grant_types: vec!["authorization_code".into(), "refresh_token".into()],
            redirect_uri: redirect_uri.into(),
        }
    }

    /// Returns the CLI's client.
    fn cf() -> Self {
        Self {
            id: "cf".into(),
            secret: String::new(),
            scopes: ADMIN_GROUPS
                .iter()
                .chain(USER_GROUPS)
                .chain(&[
                    "cloud_controller.admin_read_only",
                    "cloud_controller.global_auditor",
                ])
                .filter(|scope| **scope != DASHBOARDS)
                .map(ToString::to_string)
                .collect(),
            authorities: vec!["uaa.none".into()],
            grant_types: vec!["password".into(), "refresh_token".into()],
            redirect_uri: String::new(),
        }
    }
}

/// A built UAA: the database is migrated, administrator and clients are stored, and nothing runs.
#[derive(Debug)]
pub struct Uaa {
    listener: TcpListener,
    state: Arc<api::State>,
    metrics: Metrics,
    observed: Observed,
}

impl Uaa {
    pub async fn build(config: Config) -> Result<Self> {
        std::fs::create_dir_all(&config.data_dir)
            .with_context(|| format!("create data directory {}", config.data_dir.display()))?;
        let db = db::Db::open(&location(config.database.as_ref(), &config.data_dir)).await?;
        let key_file = config.data_dir.join("uaa-signing-key.pem");
        let key = match db.is_shared() {
            // All UAAs sign with the same key. The first one stores that of its file, if it has one.
            true => SigningKey::from_pem(
                &db.signing_key(|| signing::load_or_create(&key_file))
                    .await?,
            )
            .context("read the signing key of the database")?,
            false => SigningKey::load_or_create(&key_file)?,
        };
        let clients: Vec<_> = std::iter::once(Client::cf())
            .chain(config.clients)
            .collect();
        db.replace_configured_clients(&clients).await?;
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        let readiness = Readiness::default();
        let written = db.clone();
        readiness.check("the database", move || written.trouble());
        let state = Arc::new(api::State {
            db,
            key,
            urls: api::Urls {
                external: config.external_url.trim_end_matches('/').to_owned(),
                login: config.login_url.trim_end_matches('/').to_owned(),
            },
            validity: token::Validity {
                access: config.access_token_validity,
                refresh: config.refresh_token_validity,
            },
            throttle: std::sync::Mutex::default(),
            hashing: tokio::sync::Semaphore::new(2),
            metrics: metrics.clone(),
        });
        seed_admin(
            &state,
            &config.admin_user,
            &config.admin_password,
            config.reset_admin_password,
        )
        .await?;
        Ok(Self {
            listener: config.listener,
            state,
            metrics,
            observed: Observed {
                metrics: Arc::new(registry),
                readiness,
            },
        })
    }

    /// Returns the metrics, and the readiness: the UAA needs a database that accepts changes.
    pub fn observed(&self) -> Observed {
        self.observed.clone()
    }

    pub fn addr(&self) -> SocketAddr {
        self.listener
            .local_addr()
            .expect("a bound listener has an address")
    }

    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        tracing::info!(addr = %self.addr(), "uaa-started");
        let db = self.state.db.clone();
        let api = self.metrics.requests.count(api::router(self.state));
        let served = kit::http::serve(self.listener, None, api, shutdown).await;
        db.close().await;
        served
    }
}

fn location(server: Option<&Server>, data_dir: &Path) -> Location {
    Location::new(server, "uaa", data_dir.join("uaa.db"))
}

async fn seed_admin(state: &api::State, name: &str, password: &str, reset: bool) -> Result<()> {
    anyhow::ensure!(
        !name.is_empty() && !password.is_empty(),
        "the administrator needs a name and a password: set admin_user and admin_password"
    );
    let groups: Vec<_> = ADMIN_GROUPS
        .iter()
        .chain(USER_GROUPS)
        .map(ToString::to_string)
        .collect();
    let known = match state.db.user_by_name(name, "uaa").await {
        Ok(known) => known,
        // The other users can still log in.
        Err(error) => {
            tracing::error!(
                user = name,
                error = format!("{error:#}"),
                "admin-unreadable"
            );
            return Ok(());
        }
    };
    match known {
        None => {
            let user = db::NewUser {
                user_name: name.to_owned(),
                origin: "uaa".into(),
                given_name: name.to_owned(),
                family_name: String::new(),
                email: name.to_owned(),
                password_hash: Some(state.hash(password).await?),
                active: true,
                groups,
            };
            match state.db.create_user(user).await {
                // Another UAA on the same database was faster.
                Err(error) if error.is::<db::NameTaken>() => {}
                created => drop(created.context("create the administrator")?),
            }
        }
        Some(user) => {
            // Nothing is written unless necessary, so that the server also starts on a full disk.
            if groups.iter().any(|group| !user.groups.contains(group)) {
                state.db.add_groups(&user.id, &groups).await?;
            }
            if reset
                && !state
                    .matches(user.password_hash.as_deref(), password)
                    .await?
            {
                state
                    .db
                    .set_password(&user.id, &state.hash(password).await?)
                    .await?;
                tracing::info!(user = name, "admin-password-reset");
            }
        }
    }
    Ok(())
}
