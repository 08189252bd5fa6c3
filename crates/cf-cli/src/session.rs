//! The session of one command: the configuration, the login, the target, and lookups by name.

use crate::api::error::{ApiError, NOT_LOGGED_IN, UaaError};
use crate::api::token::Claims;
use crate::api::trace::Trace;
use crate::api::types::{App, Domain, Organization, Root, Space};
use crate::api::{self, Request, filter};
use crate::config::{self, Config};
use crate::ui::{Environment, Ui};
use anyhow::{Context as _, Result, bail};
use reqwest::Method;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) ui: Ui,
    pub(crate) trace: Trace,
    pub(crate) cwd: PathBuf,
    pub(crate) vars: BTreeMap<String, String>,
    pub(crate) hosts_file: PathBuf,
    path: PathBuf,
    config: Mutex<Config>,
    /// The connection pool, with the target that it was built for and whether certificates are ignored.
    http: Mutex<Option<(String, bool, reqwest::Client)>>,
    refresh: tokio::sync::Mutex<()>,
}

/// The targeted organization and space, and the user's name, which nearly every message contains.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) org: config::Organization,
    pub(crate) space: config::Space,
    pub(crate) user: String,
}

/// The error of a domain that does not exist or that this user cannot see.
#[derive(Debug, thiserror::Error)]
#[error("Domain '{0}' not found.")]
pub(crate) struct NoSuchDomain(String);

impl Session {
    /// Reads the configuration. If that fails, the `Ui` is returned with the error.
    pub(crate) fn open(
        environment: Environment,
        verbose: bool,
    ) -> Result<Self, Box<(Ui, anyhow::Error)>> {
        let (vars, cwd) = (environment.vars.clone(), environment.cwd.clone());
        let var = |name: &str| vars.get(name).map(String::as_str);
        let trace = Trace::new(var("CF_TRACE"), verbose, environment.stdout.clone());
        let hosts_file = environment.hosts_file.clone();
        let ui = Ui::new(environment);
        let read = Config::path(var("CF_HOME"), var("HOME"))
            .and_then(|path| Ok((Config::load(&path)?, path)));
        match read {
            Err(error) => Err(Box::new((ui, error))),
            Ok((config, path)) => Ok(Self {
                ui,
                trace,
                cwd,
                vars,
                hosts_file,
                path,
                config: Mutex::new(config),
                http: Mutex::default(),
                refresh: tokio::sync::Mutex::default(),
            }),
        }
    }

    pub(crate) fn var(&self, name: &str) -> Option<&str> {
        self.vars
            .get(name)
            .map(String::as_str)
            .filter(|v| !v.is_empty())
    }

    pub(crate) fn config(&self) -> MutexGuard<'_, Config> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the configuration and writes it.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Config)) -> Result<()> {
        let mut config = self.config();
        change(&mut config);
        config.save(&self.path)
    }

    pub(crate) fn http(&self) -> Result<reqwest::Client> {
        let (target, insecure) = {
            let config = self.config();
            (config.target.clone(), config.ssl_disabled)
        };
        let mut http = self.http.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, _, client)) = http
            .as_ref()
            .filter(|(t, i, _)| (t, i) == (&target, &insecure))
        {
            return Ok(client.clone());
        }
        let client = api::http_client(insecure, is_local(&target))?;
        *http = Some((target, insecure, client.clone()));
        Ok(client)
    }

    /// Returns a time limit in minutes from the environment.
    pub(crate) fn minutes(&self, var: &str, default: u64) -> Duration {
        Duration::from_secs(
            60 * self
                .var(var)
                .and_then(|v| v.parse().ok())
                .unwrap_or(default),
        )
    }

    // ── the API and its user ──

    /// Reads the API's root document and stores its links. The login is kept if the target stays the same.
    pub(crate) async fn set_api(&self, url: &str, skip_ssl_validation: bool) -> Result<()> {
        let url = normalized(url)?;
        let before = self.config().clone();
        {
            let mut config = self.config();
            config.target = url.clone();
            config.ssl_disabled = skip_ssl_validation;
        }
        match self.discover(&url).await {
            Ok(root) => self.change(|config| {
                if before.target != url {
                    config.log_out();
                }
                let link = |name: &str| root.links.get(name).and_then(Option::as_ref);
                let href = |name: &str| link(name).and_then(|l| l.href.clone()).unwrap_or_default();
                let meta = |name: &str, key: &str| {
                    link(name)
                        .and_then(|l| l.meta.get(key))
                        .and_then(|v| v.as_str())
                        .unwrap_or_default()
                        .to_owned()
                };
                config.api_version = meta("cloud_controller_v3", "version");
                config.uaa_endpoint = href("uaa");
                config.authorization_endpoint = if href("login").is_empty() {
                    href("uaa")
                } else {
                    href("login")
                };
                config.log_cache_endpoint = href("log_cache");
                config.doppler_endpoint = href("logging");
                config.network_policy_v1_endpoint = href("network_policy_v1");
                config.routing_endpoint = href("routing");
                let ssh_client = meta("app_ssh", "oauth_client");
                if !ssh_client.is_empty() {
                    config.ssh_oauth_client = ssh_client;
                }
            }),
            Err(error) => {
                *self.config() = before;
                Err(error)
            }
        }
    }

    async fn discover(&self, url: &str) -> Result<Root> {
        let response = self
            .exchange(Request::new(Method::GET, format!("{url}/")))
            .await?;
        if response.status == 404 {
            bail!(
                "API endpoint not found at '{url}': no Cloud Controller answers there. Is the foundation running, and is this its api.<system domain>?"
            );
        }
        if !response.is_success() {
            return Err(ApiError::of(&Method::GET, url, &response).into());
        }
        let root: Root = response.json(url)?;
        anyhow::ensure!(
            root.links.contains_key("cloud_controller_v3"),
            "{url} is not a Cloud Foundry API: its root document has no link cloud_controller_v3"
        );
        Ok(root)
    }

    pub(crate) fn require_api(&self) -> Result<()> {
        anyhow::ensure!(
            !self.config().target.is_empty(),
            "No API endpoint set. Use 'cf login' or 'cf api' to target an endpoint."
        );
        Ok(())
    }

    /// Returns the user's name. It is an error if nobody is logged in.
    pub(crate) fn require_login(&self) -> Result<String> {
        self.require_api()?;
        let claims = self.claims();
        let config = self.config();
        anyhow::ensure!(
            !(config.access_token.is_empty() && config.refresh_token.is_empty()),
            NOT_LOGGED_IN
        );
        Ok(claims.name().to_owned())
    }

    pub(crate) fn require_org(&self) -> Result<Target> {
        let user = self.require_login()?;
        let config = self.config();
        anyhow::ensure!(
            !config.organization_fields.guid.is_empty(),
            "No org targeted, use 'cf target -o ORG' to target an org."
        );
        Ok(Target {
            org: config.organization_fields.clone(),
            space: config.space_fields.clone(),
            user,
        })
    }

    pub(crate) fn require_space(&self) -> Result<Target> {
        let target = self.require_org()?;
        anyhow::ensure!(
            !target.space.guid.is_empty(),
            "No space targeted, use 'cf target -s SPACE' to target a space."
        );
        Ok(target)
    }

    pub(crate) fn claims(&self) -> Claims {
        Claims::of(&self.config().access_token).unwrap_or_default()
    }

    pub(crate) fn can_refresh(&self) -> bool {
        let config = self.config();
        !config.refresh_token.is_empty()
            || (config.grant_type == "client_credentials" && !config.oauth_client_secret.is_empty())
    }

    /// Returns the token to send. It is refreshed if it expires within a minute, or if `forced`.
    pub(crate) async fn fresh_token(&self, forced: bool) -> Result<String> {
        let held = self.config().access_token.clone();
        let _one_at_a_time = self.refresh.lock().await;
        let config = self.config().clone();
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_secs());
        let is_good = Claims::of(&config.access_token).is_some_and(|c| !c.is_ending(now));
        // Another task of this command may have refreshed the token while this one waited.
        if is_good && (!forced || config.access_token != held) {
            return Ok(config.access_token);
        }
        let form = match () {
            () if config.grant_type == "client_credentials" => {
                vec![("grant_type", "client_credentials")]
            }
            () if !config.refresh_token.is_empty() => vec![
                ("grant_type", "refresh_token"),
                ("refresh_token", config.refresh_token.as_str()),
            ],
            () if config.access_token.is_empty() => bail!(NOT_LOGGED_IN),
            () => return Ok(config.access_token),
        };
        let tokens = self.grant((&config.oauth_client, &config.oauth_client_secret), &form).await.map_err(|error| match error.downcast_ref::<UaaError>() {
            Some(refused) if matches!(refused.status, 400 | 401) => {
                let endpoint = &config.target;
                anyhow::anyhow!("The token expired, was revoked, or the token ID is incorrect. Please log back in to re-authenticate.\n\nTIP: Use 'cf login -a {endpoint}' to log in again.")
            }
            _ => error,
        })?;
        self.store_tokens(&tokens)?;
        Ok(self.config().access_token.clone())
    }

    pub(crate) fn store_tokens(&self, tokens: &api::uaa::Tokens) -> Result<()> {
        self.change(|config| {
            config.access_token = format!("bearer {}", tokens.access_token);
            if !tokens.refresh_token.is_empty() {
                config.refresh_token = tokens.refresh_token.clone();
            }
        })
    }

    // ── lookups by name ──

    pub(crate) async fn find_org(&self, name: &str) -> Result<Option<Organization>> {
        self.first("/v3/organizations", &[("names", &filter(name))])
            .await
    }
    pub(crate) async fn org(&self, name: &str) -> Result<Organization> {
        self.find_org(name)
            .await?
            .with_context(|| format!("Organization '{name}' not found."))
    }
    pub(crate) async fn find_space(&self, name: &str, org_guid: &str) -> Result<Option<Space>> {
        self.first(
            "/v3/spaces",
            &[("names", &filter(name)), ("organization_guids", org_guid)],
        )
        .await
    }
    pub(crate) async fn space(&self, name: &str, org_guid: &str) -> Result<Space> {
        self.find_space(name, org_guid)
            .await?
            .with_context(|| format!("Space '{name}' not found."))
    }
    pub(crate) async fn find_app(&self, name: &str, space_guid: &str) -> Result<Option<App>> {
        let apps: Vec<App> = self
            .list(
                "/v3/apps",
                &[("names", &filter(name)), ("space_guids", space_guid)],
            )
            .await?;
        Ok(apps.into_iter().next())
    }
    /// Returns an app of the targeted space.
    pub(crate) async fn app(&self, name: &str, target: &Target) -> Result<App> {
        self.find_app(name, &target.space.guid)
            .await?
            .with_context(|| format!("App '{name}' not found."))
    }
    pub(crate) async fn domain(&self, name: &str) -> Result<Domain> {
        self.first("/v3/domains", &[("names", &filter(name))])
            .await?
            .ok_or_else(|| NoSuchDomain(name.to_owned()).into())
    }
}

/// Returns the URL with a scheme and without a trailing slash.
fn normalized(url: &str) -> Result<String> {
    let full = if url.contains("://") {
        url.to_owned()
    } else {
        format!("https://{url}")
    };
    let parsed = reqwest::Url::parse(&full)
        .ok()
        .filter(|u| matches!(u.scheme(), "http" | "https") && u.has_host());
    anyhow::ensure!(
        parsed.is_some(),
        "{url:?} is not a URL of an API: use https://api.<system domain>"
    );
    Ok(full.trim_end_matches('/').to_owned())
}

/// Returns whether the API is on this machine (at one of its own addresses). No proxy is used then.
fn is_local(target: &str) -> bool {
    use std::net::{ToSocketAddrs as _, UdpSocket};
    let Some(host) = reqwest::Url::parse(target)
        .ok()
        .and_then(|u| u.host_str().map(str::to_owned))
    else {
        return false;
    };
    let host = host.trim_matches(['[', ']']);
    (host, 0)
        .to_socket_addrs()
        .is_ok_and(|mut found| found.any(|a| UdpSocket::bind((a.ip(), 0)).is_ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn api_urls_get_a_scheme() {
        assert_eq!(
            normalized("api.cupola.test/").unwrap(),
            "https://api.cupola.test"
        );
        assert_eq!(
            normalized("http://127.0.0.1:8080").unwrap(),
            "http://127.0.0.1:8080"
        );
        assert!(normalized("ftp://x").is_err());
        assert!(normalized("").is_err());
    }

    #[test]
    fn own_addresses_need_no_proxy() {
        assert!(is_local("http://127.0.0.1:8080"));
        assert!(!is_local("https://192.0.2.1") && !is_local("nonsense"));
    }
}
