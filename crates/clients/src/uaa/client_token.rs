//! Fetches tokens of a client for itself (grant `client_credentials`), and keeps each until shortly before it expires.
//!
//! Components that call an API with their own identity use it. The secret is sent to the UAA only: it is not in logs, and not in
//! errors.

use crate::http::{self, Tls};
use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::StatusCode;
use serde::Deserialize;
use std::fmt::Write as _;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// The longest wait for one answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest time for which a token is kept, whatever lifetime the UAA returns.
const LONGEST_KEPT: Duration = Duration::from_secs(24 * 3600);

/// A client of a UAA, with its time limits and retries.
#[derive(Clone)]
pub struct ClientCredentials {
    /// The URL of the UAA, for example `https://uaa.service.cf.internal:8443`.
    pub url: String,
    /// The configuration key of the URL, for log messages.
    pub key: &'static str,
    pub id: String,
    pub secret: String,
    pub tls: Tls,
    /// The number of tries after the first one fails.
    pub max_retries: u32,
    pub retry_interval: Duration,
    /// The time before its expiry at which a token is no longer used.
    pub expiration_buffer: Duration,
}

impl std::fmt::Debug for ClientCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientCredentials")
            .field("url", &self.url)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// A fetcher of tokens, which fetches one when it is needed.
#[derive(Debug)]
pub struct TokenFetcher {
    credentials: ClientCredentials,
    http: reqwest::Client,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    token: Option<Token>,
    /// The reason why there is no token, as it was logged.
    trouble: Option<String>,
}

struct Token {
    text: String,
    until: Instant,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").finish_non_exhaustive()
    }
}

impl TokenFetcher {
    /// Makes a fetcher. It does not fetch a token yet.
    pub fn new(credentials: ClientCredentials) -> Result<Self> {
        Ok(Self {
            http: http::client_with(&credentials.tls, Some(TIMEOUT))?,
            credentials,
            state: Mutex::default(),
        })
    }

    /// Returns a token that is valid for a while. `refused` is a token that an API did not accept, which is replaced whatever its
    /// age. It fails when the UAA returns no token after all retries. The reason is logged at the first failure, and again when
    /// it changes.
    pub async fn token(&self, refused: Option<&str>) -> Result<String> {
        let mut state = self.state.lock().await;
        let usable = state
            .token
            .as_ref()
            .filter(|token| Instant::now() < token.until && refused != Some(token.text.as_str()));
        if let Some(token) = usable {
            return Ok(token.text.clone());
        }
        let mut left = self.credentials.max_retries;
        loop {
            match self.fetch().await {
                Ok(token) => {
                    let text = token.text.clone();
                    *state = State {
                        token: Some(token),
                        trouble: None,
                    };
                    return Ok(text);
                }
                Err(error) => {
                    self.log_failure(&mut state, &error);
                    if left == 0 {
                        return Err(error);
                    }
                }
            }
            left -= 1;
            tokio::time::sleep(self.credentials.retry_interval).await;
        }
    }

    fn log_failure(&self, state: &mut State, error: &anyhow::Error) {
        let error = format!("{error:#}");
        if state.trouble.as_ref() != Some(&error) {
            let ClientCredentials { url, key, id, .. } = &self.credentials;
            tracing::error!(key, url, client = id, error, "failed-to-fetch-token");
            state.trouble = Some(error);
        }
    }

    async fn fetch(&self) -> Result<Token> {
        #[derive(Deserialize)]
        struct TokenResponse {
            access_token: String,
            /// The lifetime in seconds.
            #[serde(default)]
            expires_in: u64,
        }
        tracing::debug!("started-fetching-token");
        let credentials = &self.credentials;
        let asked = Instant::now();
        let request = self
            .http
            .post(format!("{}/oauth/token", credentials.url))
            .header("authorization", basic(&credentials.id, &credentials.secret))
            .header("x-cf-encoded-credentials", "true")
            .header("accept", "application/json")
            .form(&[
                ("grant_type", "client_credentials"),
                ("response_type", "token"),
                ("token_format", "jwt"),
            ]);
        let response = request.send().await.context("request a token of the UAA")?;
        let status = response.status();
        anyhow::ensure!(
            status != StatusCode::UNAUTHORIZED,
            "the UAA does not know client {:?} with this secret: correct its name or secret",
            credentials.id
        );
        anyhow::ensure!(
            status.is_success(),
            "the UAA refused client {:?} a token: status {status}",
            credentials.id
        );
        let answer: TokenResponse = response.json().await.context("read the UAA's token")?;
        anyhow::ensure!(!answer.access_token.is_empty(), "the UAA's token is empty");
        let lifetime = Duration::from_secs(answer.expires_in).min(LONGEST_KEPT);
        Ok(Token {
            text: answer.access_token,
            until: asked + lifetime.saturating_sub(credentials.expiration_buffer),
        })
    }
}

/// Returns the credentials as RFC 6749 requires them: encoded, so that a colon in the id or the secret is not taken for the
/// separator.
fn basic(id: &str, secret: &str) -> String {
    let both = format!("{}:{}", form_encoded(id), form_encoded(secret));
    format!("Basic {}", BASE64_STANDARD.encode(both))
}

fn form_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'*' => {
                encoded.push(char::from(byte));
            }
            b' ' => encoded.push('+'),
            other => {
                // Writing into a string cannot fail.
                let _ = write!(encoded, "%{other:02X}");
            }
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_encoded() {
        let sent = basic("rou:ter", "p@ ss%ü");
        let encoded = sent.strip_prefix("Basic ").unwrap();
        let both = BASE64_STANDARD.decode(encoded).unwrap();
        assert_eq!(both, b"rou%3Ater:p%40+ss%25%C3%BC");
    }

    #[test]
    fn secrets_are_not_shown() {
        let credentials = ClientCredentials {
            url: "https://uaa:8443".into(),
            key: "oauth.token_endpoint",
            id: "gorouter".into(),
            secret: "hush".into(),
            tls: Tls {
                identity: Some(("chain".into(), "hush".into())),
                ..Tls::default()
            },
            max_retries: 0,
            retry_interval: Duration::ZERO,
            expiration_buffer: Duration::ZERO,
        };
        let shown = format!(
            "{:?}",
            TokenFetcher::new(ClientCredentials {
                tls: Tls {
                    authorities: http::Authorities::Any,
                    identity: None
                },
                ..credentials.clone()
            })
            .unwrap()
        );
        assert!(!shown.contains("hush"), "{shown}");
        let shown = format!("{credentials:?} {:?}", credentials.tls);
        assert!(
            shown.contains("gorouter") && !shown.contains("hush"),
            "{shown}"
        );
    }
}
