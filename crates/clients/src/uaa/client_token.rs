//! Tokens of a client of its own (grant `client_credentials`), kept until shortly before they expire.
//!
//! Called by components that call an API as themselves. The secret goes to the UAA and nowhere else: not into logs, not
//! into errors.

use crate::http::{self, Tls};
use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::StatusCode;
use serde::Deserialize;
use std::fmt::Write as _;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// Longest wait for one answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// No token is kept for longer, whatever the UAA says of it.
const LONGEST_KEPT: Duration = Duration::from_secs(24 * 3600);

/// A client at a UAA, and how patient it is.
#[derive(Clone)]
pub struct ClientCredentials {
    /// `https://uaa.service.cf.internal:8443`
    pub url: String,
    /// What the operator calls that.
    pub key: &'static str,
    pub id: String,
    pub secret: String,
    pub tls: Tls,
    /// Tries after the first that failed.
    pub max_retries: u32,
    pub retry_interval: Duration,
    /// A token is not used any more so long before it expires.
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

/// Fetches tokens when they are needed.
#[derive(Debug)]
pub struct TokenFetcher {
    credentials: ClientCredentials,
    http: reqwest::Client,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    token: Option<Token>,
    /// Why there is none, as it was logged.
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
    /// Fetches nothing yet.
    pub fn new(credentials: ClientCredentials) -> Result<Self> {
        Ok(Self {
            http: http::client_with(&credentials.tls, Some(TIMEOUT))?,
            credentials,
            state: Mutex::default(),
        })
    }

    /// A token that is good for a while. `refused`: one that was not taken, whatever its age. An error when the UAA gives
    /// none after all retries; why is logged at the first of them, once until it changes.
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
                    self.tell(&mut state, &error);
                    if left == 0 {
                        return Err(error);
                    }
                }
            }
            left -= 1;
            tokio::time::sleep(self.credentials.retry_interval).await;
        }
    }

    fn tell(&self, state: &mut State, error: &anyhow::Error) {
        let error = format!("{error:#}");
        if state.trouble.as_ref() != Some(&error) {
            let ClientCredentials { url, key, id, .. } = &self.credentials;
            tracing::error!(key, url, client = id, error, "failed-to-fetch-token");
            state.trouble = Some(error);
        }
    }

    async fn fetch(&self) -> Result<Token> {
        #[derive(Deserialize)]
        struct Answer {
            access_token: String,
            /// Seconds.
            #[serde(default)]
            expires_in: u64,
        }
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
        let response = request.send().await.context("ask the UAA for a token")?;
        let status = response.status();
        anyhow::ensure!(
            status != StatusCode::UNAUTHORIZED,
            "the UAA does not know client {:?} with this secret: correct its name or secret",
            credentials.id
        );
        anyhow::ensure!(
            status.is_success(),
            "the UAA gives client {:?} no token: status {status}",
            credentials.id
        );
        let answer: Answer = response.json().await.context("read the UAA's token")?;
        anyhow::ensure!(!answer.access_token.is_empty(), "the UAA's token is empty");
        let lifetime = Duration::from_secs(answer.expires_in).min(LONGEST_KEPT);
        Ok(Token {
            text: answer.access_token,
            until: asked + lifetime.saturating_sub(credentials.expiration_buffer),
        })
    }
}

/// As RFC 6749 wants it: a colon within the id or the secret is none between them.
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
                // Nothing can go wrong with a string.
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
                shown: Some(("chain".into(), "hush".into())),
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
                    shown: None
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
