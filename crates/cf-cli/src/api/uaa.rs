//! Calls to the UAA: token grants and users.

use super::Request;
use super::error::UaaError;
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
            return Err(UaaError::new(&response).into());
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
            _ => Err(UaaError::new(&response).into()),
        }
    }
}
