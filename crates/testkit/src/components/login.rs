//! A UAA, and the tokens that it issues.

use crate::{http, net, postgres};
use kit::CancellationToken;
use kit::metrics::Observed;
use reqwest::StatusCode;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

/// A running UAA. It stops when it is dropped.
#[derive(Debug)]
pub struct Uaa {
    pub url: String,
    /// Its metrics and its readiness.
    pub observed: Observed,
    http: reqwest::Client,
    stop: CancellationToken,
}

impl Uaa {
    /// Starts a UAA on the files in `data`. Its administrator is `admin` with the password `sesame`, and `change` may change that
    /// and all the rest.
    pub async fn start(data: &Path, change: impl FnOnce(&mut uaa::Config)) -> Self {
        let mut config = uaa::Config {
            listener: net::listener().await,
            data_dir: data.to_owned(),
            database: postgres::server(data),
            external_url: "http://uaa.cupola.test".into(),
            login_url: "http://login.cupola.test".into(),
            admin_user: "admin".into(),
            admin_password: "sesame".into(),
            reset_admin_password: false,
            clients: Vec::new(),
            access_token_validity: Duration::from_secs(600),
            refresh_token_validity: Duration::from_secs(3600),
        };
        change(&mut config);
        let http = http::client();
        let built = uaa::Uaa::build(config).await.expect("the UAA starts");
        let url = format!("http://{}", built.addr());
        let (stop, observed) = (CancellationToken::new(), built.observed());
        tokio::spawn(built.run(stop.clone()));
        Self {
            url,
            observed,
            http,
            stop,
        }
    }

    /// Stops the UAA. It may still answer for a moment.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Requests a token as a client, and returns the status and the body.
    pub async fn grant(&self, client: (&str, &str), form: &[(&str, &str)]) -> (StatusCode, Value) {
        let request = self
            .http
            .post(format!("{}/oauth/token", self.url))
            .basic_auth(client.0, Some(client.1))
            .form(form);
        let response = request.send().await.expect("the UAA answers");
        let status = response.status();
        (status, response.json().await.expect("the body is JSON"))
    }

    /// Requests a token with a user's password, as the CLI does.
    pub async fn login(&self, user: &str, password: &str) -> (StatusCode, Value) {
        let form = [
            ("grant_type", "password"),
            ("username", user),
            ("password", password),
        ];
        self.grant(("cf", ""), &form).await
    }

    /// Returns a user's access token with its scheme.
    pub async fn token(&self, user: &str, password: &str) -> String {
        bearer(self.login(user, password).await)
    }

    /// Returns a client's own access token with its scheme.
    pub async fn client_token(&self, client: &str, secret: &str) -> String {
        let form = [("grant_type", "client_credentials")];
        bearer(self.grant((client, secret), &form).await)
    }
}

impl Drop for Uaa {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn bearer((status, body): (StatusCode, Value)) -> String {
    assert_eq!(status, 200, "{body}");
    let token = body["access_token"].as_str();
    format!("bearer {}", token.expect("the body has a token"))
}
