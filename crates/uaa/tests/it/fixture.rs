//! A UAA, its users, and the components that verify its tokens.

use clients::uaa::{ResourceServer, TokenVerifier, VerifierConfig};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::time::Duration;
use testkit::components::Uaa;

pub(crate) struct Running {
    pub(crate) url: String,
    pub(crate) server: Uaa,
    /// A client that follows no redirect.
    pub(crate) http: reqwest::Client,
    pub(crate) dir: tempfile::TempDir,
}

pub(crate) async fn start() -> Running {
    start_in(
        tempfile::tempdir().unwrap(),
        "sesame",
        false,
        Duration::from_secs(600),
    )
    .await
}

pub(crate) async fn start_in(
    dir: tempfile::TempDir,
    password: &str,
    reset: bool,
    validity: Duration,
) -> Running {
    start_with(dir, password, reset, validity, "http://uaa.cupola.test").await
}

/// Starts a UAA with another URL.
pub(crate) async fn start_as(dir: tempfile::TempDir, url: &str) -> Running {
    start_with(dir, "sesame", false, Duration::from_secs(600), url).await
}

async fn start_with(
    dir: tempfile::TempDir,
    password: &str,
    reset: bool,
    validity: Duration,
    external_url: &str,
) -> Running {
    let server = Uaa::start(dir.path(), |config| {
        config.external_url = external_url.into();
        config.admin_password = password.into();
        config.reset_admin_password = reset;
        config.clients = vec![
            uaa::Client::component("cc", "cc-secret", &["scim.userids", "uaa.resource"]),
            uaa::Client::ssh_proxy("ssh-secret", "http://uaa.cupola.test/login"),
        ];
        config.access_token_validity = validity;
    })
    .await;
    let http = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    Running {
        url: server.url.clone(),
        server,
        http,
        dir,
    }
}

impl Running {
    pub(crate) async fn grant(
        &self,
        client: (&str, &str),
        form: &[(&str, &str)],
    ) -> (StatusCode, Value) {
        self.server.grant(client, form).await
    }
    pub(crate) async fn login(&self, user: &str, password: &str) -> (StatusCode, Value) {
        self.server.login(user, password).await
    }
    pub(crate) async fn token(&self, user: &str, password: &str) -> String {
        self.server.token(user, password).await
    }
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        token: &str,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let mut request = self
            .http
            .request(method.parse().unwrap(), format!("{}{path}", self.url));
        if !token.is_empty() {
            request = request.header("authorization", token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        (
            response.status(),
            response.json().await.unwrap_or(Value::Null),
        )
    }
    /// Returns the verifier of an API that never asks the UAA.
    pub(crate) fn verifier(&self) -> TokenVerifier {
        self.verifier_for(&["cloud_controller", "scim"])
    }
    pub(crate) fn verifier_for(&self, audiences: &'static [&'static str]) -> TokenVerifier {
        TokenVerifier::new(VerifierConfig {
            url: self.url.clone(),
            audiences,
            resource_server: None,
        })
        .unwrap()
    }
    /// Returns the verifier of Cloud Controller, which asks whether a token was revoked.
    pub(crate) fn asking_verifier(&self) -> TokenVerifier {
        TokenVerifier::new(VerifierConfig {
            url: self.url.clone(),
            audiences: &["cloud_controller"],
            resource_server: Some(ResourceServer {
                client_id: "cc".into(),
                secret: "cc-secret".into(),
            }),
        })
        .unwrap()
    }
    pub(crate) async fn create_user(&self, name: &str, password: &str) -> String {
        let admin = self.token("admin", "sesame").await;
        let user = json!({"userName": name, "password": password, "emails": [{"value": name}]});
        let (status, created) = self.send("POST", "/Users", &admin, Some(user)).await;
        assert_eq!(status, 201, "{created}");
        created["id"].as_str().unwrap().to_owned()
    }
    pub(crate) async fn refresh(&self, refresh_token: &str) -> (StatusCode, Value) {
        let form = [
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh_token),
        ];
        self.grant(("cf", ""), &form).await
    }
}
