//! Signing in by the UAA's authorization code, with state and PKCE.
//!
//! ```text
//!  /sign-in ──302 + cookie nonce──▶ UAA's page ──302 code, state──▶ /signed-in ──code, verifier──▶ UAA ──▶ tokens
//! ```
//!
//! State and verifier are digests of the cookie's nonce with a key of this process, so nothing is stored for somebody who only
//! begins, and a code that comes with another state or without the cookie is worth nothing.

use anyhow::{Context as _, Result};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use std::time::{Duration, Instant};
use subtle::ConstantTimeEq as _;

/// The time limit of a request to the UAA.
const LIMIT: Duration = Duration::from_secs(10);
/// The time before the expiry of a token at which it is renewed.
const EARLY: Duration = Duration::from_secs(30);

/// The dashboard's client at the UAA.
#[derive(Clone)]
pub struct OAuth {
    pub client_id: String,
    pub client_secret: String,
    /// The URL of the page on which users sign in: `https://login.<system domain>/oauth/authorize`.
    pub authorize_url: String,
    /// The URL at which this process reaches the UAA.
    pub uaa_url: String,
}

impl std::fmt::Debug for OAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OAuth")
            .field("client_id", &self.client_id)
            .field("authorize_url", &self.authorize_url)
            .field("uaa_url", &self.uaa_url)
            .finish_non_exhaustive()
    }
}

/// The tokens of a user.
#[derive(Clone)]
pub(crate) struct Tokens {
    pub(crate) access: String,
    refresh: Option<String>,
    expires: Instant,
    jti: String,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens")
            .field("jti", &self.jti)
            .finish_non_exhaustive()
    }
}

impl Tokens {
    /// Returns whether the access token expires soon.
    pub(crate) fn is_due(&self) -> bool {
        self.expires <= Instant::now() + EARLY
    }

    #[cfg(test)]
    pub(crate) fn example() -> Self {
        Self {
            access: "token".to_owned(),
            refresh: None,
            expires: Instant::now() + Duration::from_secs(600),
            jti: String::new(),
        }
    }
}

/// The beginning of signing in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Begun {
    /// The value of the cookie.
    pub(crate) nonce: String,
    /// The URL of the UAA's page.
    pub(crate) location: String,
}

pub(crate) struct SignIn {
    oauth: OAuth,
    redirect_uri: String,
    key: hmac::Key,
    http: reqwest::Client,
}

impl std::fmt::Debug for SignIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignIn")
            .field("oauth", &self.oauth)
            .finish_non_exhaustive()
    }
}

impl SignIn {
    pub(crate) fn new(oauth: OAuth, redirect_uri: String) -> Result<Self> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(LIMIT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("build HTTP client for the UAA")?;
        // Several dashboards of one foundation have the same key, so a user may come back to another one.
        let key = format!("dashboard sign-in {}", oauth.client_secret);
        Ok(Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()),
            oauth,
            redirect_uri,
            http,
        })
    }

    pub(crate) fn begin(&self) -> Begun {
        let nonce = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        let challenge = digest(&SHA256, self.derived("verifier", &nonce).as_bytes());
        let challenge = URL_SAFE_NO_PAD.encode(challenge);
        let state = self.derived("state", &nonce);
        let parameters: [(&str, &str); 6] = [
            ("response_type", "code"),
            ("client_id", &self.oauth.client_id),
            ("redirect_uri", &self.redirect_uri),
            ("state", &state),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ];
        let url = reqwest::Url::parse_with_params(&self.oauth.authorize_url, parameters);
        Begun {
            location: url.map_or_else(|_| self.oauth.authorize_url.clone(), String::from),
            nonce,
        }
    }

    /// Returns whether a state belongs to the nonce of the cookie.
    fn belongs(&self, state: &str, nonce: &str) -> bool {
        let wanted = self.derived("state", nonce);
        !nonce.is_empty() && bool::from(wanted.as_bytes().ct_eq(state.as_bytes()))
    }

    /// Exchanges the code for tokens. `nonce` is the value of the cookie.
    pub(crate) async fn finish(&self, nonce: &str, state: &str, code: &str) -> Result<Tokens> {
        anyhow::ensure!(
            self.belongs(state, nonce),
            "this browser did not begin to sign in here, or too long ago: try again"
        );
        let verifier = self.derived("verifier", nonce);
        self.grant(&[
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &self.redirect_uri),
            ("code_verifier", &verifier),
        ])
        .await
    }

    /// Renews tokens. The error means that the user must sign in again.
    pub(crate) async fn renew(&self, tokens: &Tokens) -> Result<Tokens> {
        let refresh = tokens.refresh.as_deref().context("the session has ended")?;
        let form = [("grant_type", "refresh_token"), ("refresh_token", refresh)];
        let mut renewed = self.grant(&form).await?;
        renewed.refresh = renewed.refresh.or_else(|| tokens.refresh.clone());
        Ok(renewed)
    }

    async fn grant(&self, form: &[(&str, &str)]) -> Result<Tokens> {
        #[derive(Deserialize)]
        struct Granted {
            access_token: String,
            #[serde(default)]
            refresh_token: Option<String>,
            expires_in: u64,
            #[serde(default)]
            jti: String,
        }
        let request = self
            .http
            .post(format!("{}/oauth/token", self.oauth.uaa_url));
        let request = request.basic_auth(&self.oauth.client_id, Some(&self.oauth.client_secret));
        let response = request.form(form).send().await.context("query the UAA")?;
        let status = response.status();
        anyhow::ensure!(
            status.is_success(),
            "the UAA answers {status}: sign in again"
        );
        let granted: Granted = response.json().await.context("read the UAA's tokens")?;
        Ok(Tokens {
            access: granted.access_token,
            refresh: granted.refresh_token,
            expires: Instant::now() + Duration::from_secs(granted.expires_in),
            jti: granted.jti,
        })
    }

    /// Revokes tokens, so that nobody can use them any more. A failure is logged: the session has ended here all the same.
    pub(crate) async fn revoke(&self, tokens: &Tokens) {
        let url = format!("{}/oauth/token/revoke/{}", self.oauth.uaa_url, tokens.jti);
        let sent = self
            .http
            .delete(url)
            .bearer_auth(&tokens.access)
            .send()
            .await;
        if let Err(error) = sent.and_then(reqwest::Response::error_for_status) {
            tracing::warn!(%error, "tokens-not-revoked");
        }
    }

    /// Returns a value that only this foundation can derive from the nonce.
    fn derived(&self, what: &str, nonce: &str) -> String {
        let tag = hmac::sign(&self.key, format!("{what}\0{nonce}").as_bytes());
        URL_SAFE_NO_PAD.encode(tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sign_in(secret: &str) -> SignIn {
        kit::tls::install_crypto();
        let oauth = OAuth {
            client_id: "dashboard".into(),
            client_secret: secret.into(),
            authorize_url: "https://login.a.test/oauth/authorize".into(),
            uaa_url: "http://127.0.0.1:1".into(),
        };
        SignIn::new(oauth, "https://dashboard.a.test/signed-in".into()).unwrap()
    }

    #[test]
    fn a_beginning_has_a_state_that_only_its_cookie_fits() {
        let sign_in = sign_in("secret");
        let (begun, other) = (sign_in.begin(), sign_in.begin());
        let url = reqwest::Url::parse(&begun.location).unwrap();
        let parameter = |name: &str| {
            let found = url.query_pairs().find(|(key, _)| key == name);
            found.unwrap().1.into_owned()
        };
        let state = parameter("state");
        assert!(sign_in.belongs(&state, &begun.nonce));
        assert!(!sign_in.belongs(&state, &other.nonce));
        assert!(!sign_in.belongs(&state, ""));
        assert!(!sign_in.belongs("", &begun.nonce));
        assert!(!self::sign_in("another").belongs(&state, &begun.nonce));
        assert_eq!(
            parameter("redirect_uri"),
            "https://dashboard.a.test/signed-in"
        );
        let verifier = sign_in.derived("verifier", &begun.nonce);
        assert_eq!(
            (verifier.len(), parameter("code_challenge").len()),
            (43, 43)
        );
        assert_ne!(verifier, state);
        assert!(!begun.location.contains(&begun.nonce) && !begun.location.contains(&verifier));
    }

    #[tokio::test]
    async fn a_code_without_its_cookie_is_not_exchanged() {
        let sign_in = sign_in("secret");
        let error = sign_in.finish("", "state", "code").await.unwrap_err();
        assert!(
            error.to_string().contains("did not begin to sign in"),
            "{error}"
        );
    }
}
