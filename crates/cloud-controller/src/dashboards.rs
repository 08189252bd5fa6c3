//! The clients of the UAA with which the dashboards of service brokers identify their users (single sign-on).
//!
//! A catalog names them, and the database notes which broker owns which client, so that no broker changes a client of anybody else.
//! This module only talks to the UAA. Each step can be repeated.
//!
//! Callers: the jobs of service brokers, outside of a change.

use crate::controller::Cc;
use crate::error::ApiError;
use osb::DashboardClient;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// The scopes that users can grant to a dashboard.
const SCOPES: &[&str] = &["openid", "cloud_controller_service_permissions.read"];

/// The clients that the UAA got and lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// The id and the URI of each client that did not exist before.
    pub created: Vec<(String, String)>,
    pub removed: Vec<String>,
}

/// The UAA, as the client that may manage clients.
#[derive(Debug)]
pub(crate) struct Dashboards<'a> {
    cc: &'a Cc,
    client: &'a crate::UaaClient,
}

/// Returns the error of a job whose clients could not be changed.
pub(crate) fn failure(text: &str) -> ApiError {
    ApiError::new(
        502,
        270_013,
        "ServiceBrokerDashboardClientFailure",
        format!("Service broker dashboard clients could not be modified: {text}"),
    )
}

/// The result of a request to the UAA. An error is a text for users.
type Answer<T> = Result<T, String>;

impl<'a> Dashboards<'a> {
    /// Returns the UAA, or `None` if the foundation creates no clients.
    pub(crate) fn of(cc: &'a Cc) -> Option<Self> {
        let client = cc.settings.dashboards.as_ref()?;
        Some(Self { cc, client })
    }

    /// Returns those of some clients that exist.
    pub(crate) async fn existing(&self, clients: &[&DashboardClient]) -> Answer<Vec<String>> {
        let token = self.token().await?;
        let mut existing = Vec::new();
        for client in clients {
            if self.exists(&token, &client.id).await? {
                existing.push(client.id.clone());
            }
        }
        Ok(existing)
    }

    /// Makes the clients that are requested, and removes the others that a broker owns.
    pub(crate) async fn replace(
        &self,
        requested: &[&DashboardClient],
        owned: &[String],
    ) -> Answer<Changes> {
        let token = self.token().await?;
        let mut changes = Changes::default();
        for client in requested {
            if self.put(&token, client).await? {
                let created = (client.id.clone(), client.redirect_uri.clone());
                changes.created.push(created);
            }
        }
        for id in owned {
            if requested.iter().any(|client| client.id == *id) {
                continue;
            }
            let path = client_path(id);
            let (status, body) = self.send(&token, Method::DELETE, &path, None).await?;
            if !status.is_success() && status != StatusCode::NOT_FOUND {
                return Err(unexpected(status, &body));
            }
            changes.removed.push(id.clone());
        }
        Ok(changes)
    }

    async fn exists(&self, token: &str, id: &str) -> Answer<bool> {
        let (status, body) = self
            .send(token, Method::GET, &client_path(id), None)
            .await?;
        match status {
            StatusCode::NOT_FOUND => Ok(false),
            status if status.is_success() => Ok(true),
            status => Err(unexpected(status, &body)),
        }
    }

    /// Creates a client, or changes it like the catalog. Returns whether it is new.
    async fn put(&self, token: &str, client: &DashboardClient) -> Answer<bool> {
        let mut body = json!({
            "client_id": client.id,
            "redirect_uri": [client.redirect_uri],
            "scope": SCOPES,
            "authorities": ["uaa.resource"],
            "authorized_grant_types": ["authorization_code"],
        });
        let path = client_path(&client.id);
        if !self.exists(token, &client.id).await? {
            body["client_secret"] = json!(client.secret);
            let created = self
                .send(token, Method::POST, "/oauth/clients", Some(body))
                .await?;
            return must_succeed(created).map(|()| true);
        }
        must_succeed(self.send(token, Method::PUT, &path, Some(body)).await?)?;
        let secret = json!({ "clientId": client.id, "secret": client.secret });
        let path = format!("{path}/secret");
        let (status, body) = self.send(token, Method::PUT, &path, Some(secret)).await?;
        // The UAA refuses a secret that the client has already.
        let is_same = status == StatusCode::BAD_REQUEST
            && ["same", "equals"].iter().any(|part| body.contains(part));
        match is_same {
            true => Ok(false),
            false => must_succeed((status, body)).map(|()| false),
        }
    }

    async fn token(&self) -> Answer<String> {
        let url = format!("{}/oauth/token", self.cc.settings.uaa_internal_url);
        let request = self
            .cc
            .http
            .post(url)
            .basic_auth(&self.client.id, Some(&self.client.secret))
            .form(&[("grant_type", "client_credentials")]);
        let answer = request.send().await.map_err(unreachable)?;
        let status = answer.status();
        let body: Value = answer.json().await.unwrap_or_default();
        match body.get("access_token").and_then(Value::as_str) {
            Some(token) => Ok(token.to_owned()),
            None => {
                tracing::warn!(status = status.as_u16(), "no-token-for-dashboards");
                Err(format!("The UAA returned no token ({status})"))
            }
        }
    }

    async fn send(
        &self,
        token: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Answer<(StatusCode, String)> {
        let url = format!("{}{path}", self.cc.settings.uaa_internal_url);
        let mut request = self.cc.http.request(method, url).bearer_auth(token);
        if let Some(body) = &body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(unreachable)?;
        let status = answer.status();
        Ok((status, answer.text().await.map_err(unreachable)?))
    }
}

fn client_path(id: &str) -> String {
    let id = percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC);
    format!("/oauth/clients/{id}")
}

fn must_succeed((status, body): (StatusCode, String)) -> Answer<()> {
    match status.is_success() {
        true => Ok(()),
        false => Err(unexpected(status, &body)),
    }
}

fn unreachable(error: reqwest::Error) -> String {
    tracing::warn!(%error, "uaa-not-reached");
    "The UAA service is currently unavailable".to_owned()
}

/// Returns the text about an answer that is not expected, with the UAA's own description.
fn unexpected(status: StatusCode, body: &str) -> String {
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    let description = body.get("error_description").and_then(Value::as_str);
    match description {
        Some(description) => format!("The UAA answered {status}: {description}"),
        None => format!("The UAA answered {status}"),
    }
}
