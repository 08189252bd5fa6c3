//! The questions of the ssh-proxy before a user is let in: a one-time code becomes the user's token at the UAA, and the Cloud
//! Controller answers with that token whether the user may log in to an instance.
//!
//! Codes, tokens and the client's secret are in no log and in no error.

use crate::http::{Authorities, Tls, client_with};
use anyhow::Result;
use reqwest::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// The longest wait for one answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The addresses of both components, and the proxy's client at the UAA.
#[derive(Clone)]
pub struct Config {
    /// The URL of the UAA: `http://127.0.0.1:8081`.
    pub uaa_url: String,
    pub client_id: String,
    pub client_secret: String,
    /// The URL of the Cloud Controller: `http://127.0.0.1:9022`.
    pub cloud_controller_url: String,
    /// The authorities of both, as PEM. An empty text suffices without TLS.
    pub authorities: String,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("uaa_url", &self.uaa_url)
            .field("client_id", &self.client_id)
            .field("cloud_controller_url", &self.cloud_controller_url)
            .finish_non_exhaustive()
    }
}

/// The reason why a user is not let in.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The component answered, and refused.
    #[error("{component} refused with {status}")]
    Refused {
        component: &'static str,
        status: u16,
    },
    /// The component did not answer, or not in its form.
    #[error("{component} does not answer: {reason}")]
    Unavailable {
        component: &'static str,
        reason: String,
    },
}

/// A client of both components.
#[derive(Clone, Debug)]
pub struct Client {
    config: Config,
    http: reqwest::Client,
}

impl Client {
    pub fn new(config: Config) -> Result<Self> {
        let tls = Tls {
            authorities: Authorities::Pem(config.authorities.clone()),
            identity: None,
        };
        Ok(Self {
            http: client_with(&tls, Some(TIMEOUT))?,
            config,
        })
    }

    /// Exchanges a one-time code for the user's token. A code can be exchanged once.
    pub async fn token(&self, code: &str) -> Result<String, AccessError> {
        #[derive(Deserialize)]
        struct Token {
            access_token: String,
        }
        let Config {
            uaa_url,
            client_id,
            client_secret,
            ..
        } = &self.config;
        let form = [("grant_type", "authorization_code"), ("code", code)];
        let request = self
            .http
            .post(format!("{}/oauth/token", uaa_url.trim_end_matches('/')))
            .basic_auth(client_id, Some(client_secret))
            .form(&form);
        let token: Token = answer("the UAA", request).await?;
        Ok(token.access_token)
    }

    /// Returns the LRP of a process, if the user may log in to its instances.
    pub async fn lrp(&self, token: &str, process: &str, index: u32) -> Result<String, AccessError> {
        #[derive(Deserialize)]
        struct Access {
            process_guid: String,
        }
        let base = self.config.cloud_controller_url.trim_end_matches('/');
        let request = self
            .http
            .get(format!("{base}/internal/apps/{process}/ssh_access/{index}"))
            .bearer_auth(token);
        let access: Access = answer("the Cloud Controller", request).await?;
        Ok(access.process_guid)
    }
}

async fn answer<T: DeserializeOwned>(
    component: &'static str,
    request: reqwest::RequestBuilder,
) -> Result<T, AccessError> {
    let unavailable = |error: reqwest::Error| AccessError::Unavailable {
        component,
        reason: format!("{:#}", anyhow::Error::from(error.without_url())),
    };
    let response = request.send().await.map_err(unavailable)?;
    match response.status() {
        StatusCode::OK => response.json().await.map_err(unavailable),
        status if status.is_server_error() => Err(AccessError::Unavailable {
            component,
            reason: format!("status {status}"),
        }),
        status => Err(AccessError::Refused {
            component,
            status: status.as_u16(),
        }),
    }
}
