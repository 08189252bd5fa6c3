//! Calls to the UAA: token grants and users.

use super::{Request, Response};
use crate::session::Session;
use anyhow::{Context as _, Result};
use base64::Engine as _;
use reqwest::Method;
use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Tokens {
    pub(crate) access_token: String,
    pub(crate) refresh_token: String,
}

/// The error of a call that the UAA refused.
#[derive(Debug, thiserror::Error)]
#[error("{description}")]
pub(crate) struct UaaError {
    pub(crate) status: u16,
    pub(crate) error: String,
    pub(crate) description: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ErrorBody {
    error: String,
    error_description: String,
    message: String,
}

fn refusal(response: &Response) -> UaaError {
    let body: ErrorBody = serde_json::from_slice(&response.body).unwrap_or_default();
    let text = [&body.error_description, &body.message, &body.error]
        .into_iter()
        .find(|t| !t.is_empty())
        .cloned();
    UaaError {
        status: response.status,
        error: body.error,
        description: text
            .unwrap_or_else(|| format!("the UAA answered with status {}", response.status)),
    }
}

impl Session {
    /// Requests one token grant as the given client.
    pub(crate) async fn grant(
        &self,
        client: (&str, &str),
        form: &[(&str, &str)],
    ) -> Result<Tokens> {
        let (endpoint, basic) = {
            let config = self.config();
            let endpoint = if config.authorization_endpoint.is_empty() {
                config.uaa_endpoint.clone()
            } else {
                config.authorization_endpoint.clone()
            };
            (
                endpoint,
                base64::engine::general_purpose::STANDARD
                    .encode(format!("{}:{}", client.0, client.1)),
            )
        };
        let body = super::with_query("", form)
            .trim_start_matches('?')
            .to_owned();
        let request = Request::new(
            Method::POST,
            format!("{}/oauth/token", endpoint.trim_end_matches('/')),
        )
        .body("application/x-www-form-urlencoded", body)
        .header("authorization", &format!("Basic {basic}"))?;
        let url = request.url.clone();
        let response = self.exchange(request).await?;
        if !response.is_success() {
            return Err(refusal(&response).into());
        }
        response.json(&url)
    }

    /// Creates a user in the UAA. Returns `Ok(None)` if the name is taken.
    pub(crate) async fn create_uaa_user(
        &self,
        name: &str,
        password: &str,
        origin: &str,
    ) -> Result<Option<String>> {
        #[derive(Default, Deserialize)]
        struct Created {
            id: String,
        }
        let url = format!("{}/Users", self.config().uaa_endpoint.trim_end_matches('/'));
        let body = serde_json::json!({"userName": name, "password": password, "origin": origin, "name": {"familyName": name, "givenName": name}, "emails": [{"value": name, "primary": true}]});
        let response = self
            .authorized(Request::new(Method::POST, &url).json(&body)?)
            .await?;
        match response.status {
            409 => Ok(None),
            200..300 => Ok(Some(
                response
                    .json::<Created>(&url)
                    .context("read created user")?
                    .id,
            )),
            _ => Err(refusal(&response).into()),
        }
    }
}
