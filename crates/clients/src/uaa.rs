//! Verifying access tokens with the UAA's public keys; fetching one's own ([`TokenFetcher`]).
//!
//! Verifying is called by every API that takes a bearer token. Keys come from `{uaa_url}/token_keys`, are kept, and fetched again
//! when a token names an unknown key (at most once every [`REFETCH_PAUSE`]). Tokens are checked locally: a UAA that is
//! down stops no request as long as its keys are known. Never accepts refresh tokens, and no algorithm but RS256.

mod client_token;

pub use client_token::{ClientCredentials, TokenFetcher};

use anyhow::{Context as _, Result};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::{Deserialize, Deserializer};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// At least this long between two fetches of the keys that tokens with an unknown key cause.
const REFETCH_PAUSE: Duration = Duration::from_secs(5);
/// At least this long between two tries while the UAA does not answer.
const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// A token longer than this is refused unread.
const MAX_TOKEN: usize = 64 << 10;

/// What a valid access token says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Claims {
    /// Absent for tokens of a client (grant `client_credentials`), as the two below.
    #[serde(default)]
    pub user_id: Option<String>,
    #[serde(default)]
    pub user_name: Option<String>,
    #[serde(default)]
    pub origin: Option<String>,
    #[serde(default)]
    pub client_id: String,
    #[serde(default, deserialize_with = "list_or_words")]
    pub scope: Vec<String>,
    /// Unix seconds.
    pub exp: u64,
    #[serde(default)]
    pub jti: String,
}

impl Claims {
    pub fn is_admin(&self) -> bool {
        self.has_scope("cloud_controller.admin")
    }
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scope.iter().any(|s| s == scope)
    }
}

/// Why a token was not accepted. All but `Unreachable` (503) are 401 to the caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("no bearer token")]
    Missing,
    #[error("invalid token: {0}")]
    Invalid(String),
    #[error("the token has expired")]
    Expired,
    #[error("the UAA's token keys are not known: the UAA does not answer")]
    Unreachable,
}

/// Cheap to clone; clones share the keys.
#[derive(Clone)]
pub struct TokenVerifier {
    shared: Arc<Shared>,
}

struct Shared {
    url: String,
    http: reqwest::Client,
    keys: Mutex<Keys>,
    /// Held while fetching, so that a burst of requests fetches once.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Keys {
    by_kid: HashMap<String, DecodingKey>,
    fetched: Option<Instant>,
    tried: Option<Instant>,
}

impl std::fmt::Debug for TokenVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenVerifier")
            .field("url", &self.shared.url)
            .finish_non_exhaustive()
    }
}

impl TokenVerifier {
    /// `uaa_url`: `http://127.0.0.1:8080`. Fetches nothing yet.
    pub fn new(uaa_url: &str) -> Result<Self> {
        kit::tls::install_crypto();
        let http = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(Duration::from_secs(2))
            .timeout(Duration::from_secs(5))
            .build()
            .context("build HTTP client for the UAA")?;
        let url = uaa_url.trim_end_matches('/').to_owned();
        anyhow::ensure!(
            url.starts_with("http://") || url.starts_with("https://"),
            "UAA URL {uaa_url:?}: want http://host:port or https://host:port"
        );
        Ok(Self {
            shared: Arc::new(Shared {
                url,
                http,
                keys: Mutex::default(),
                fetching: tokio::sync::Mutex::new(()),
            }),
        })
    }

    /// Checks an `Authorization` header's value (`bearer eyJ…`).
    pub async fn verify(&self, authorization_header: &str) -> Result<Claims, TokenError> {
        let token = bearer(authorization_header)?;
        let header = jsonwebtoken::decode_header(token)
            .map_err(|error| TokenError::Invalid(format!("not a JWT: {error}")))?;
        if header.alg != Algorithm::RS256 {
            return Err(TokenError::Invalid(format!(
                "algorithm {:?} is not accepted, want RS256",
                header.alg
            )));
        }
        let kid = header.kid.as_deref();
        let mut seen = Instant::now();
        let mut key = self.key(kid);
        if key.is_none() {
            self.fetch(seen).await?;
            key = self.key(kid);
        }
        let unknown =
            || TokenError::Invalid(format!("signed with unknown key {:?}", kid.unwrap_or("")));
        match check(token, &key.ok_or_else(unknown)?) {
            Err(Rejected::Signature) => {
                // The key may have been replaced under the same name.
                seen = Instant::now();
                self.fetch(seen).await?;
                check(token, &self.key(kid).ok_or_else(unknown)?).map_err(TokenError::from)
            }
            checked => checked.map_err(TokenError::from),
        }
    }

    fn key(&self, kid: Option<&str>) -> Option<DecodingKey> {
        let keys = self.keys();
        match kid {
            Some(kid) => keys.by_kid.get(kid).cloned(),
            None if keys.by_kid.len() == 1 => keys.by_kid.values().next().cloned(),
            None => None,
        }
    }

    /// Fetches the keys unless somebody did since `seen`, or did too recently. An error only when no keys are known.
    async fn fetch(&self, seen: Instant) -> Result<(), TokenError> {
        let _one = self.shared.fetching.lock().await;
        let (known, due) = {
            let keys = self.keys();
            let fetched_lately = keys
                .fetched
                .is_some_and(|at| at >= seen || at.elapsed() < REFETCH_PAUSE);
            let tried_lately = keys.tried.is_some_and(|at| at.elapsed() < RETRY_PAUSE);
            (!keys.by_kid.is_empty(), !fetched_lately && !tried_lately)
        };
        if due {
            self.keys().tried = Some(Instant::now());
            match self.download().await {
                Ok(by_kid) => {
                    *self.keys() = Keys {
                        by_kid,
                        fetched: Some(Instant::now()),
                        tried: None,
                    }
                }
                Err(error) => {
                    tracing::warn!(url = %self.shared.url, error = format!("{error:#}"), "token-keys-fetch-failed");
                    return if known {
                        Ok(())
                    } else {
                        Err(TokenError::Unreachable)
                    };
                }
            }
        } else if !known {
            return Err(TokenError::Unreachable);
        }
        Ok(())
    }

    async fn download(&self) -> Result<HashMap<String, DecodingKey>> {
        #[derive(Deserialize)]
        struct Answer {
            keys: Vec<Jwk>,
        }
        #[derive(Deserialize)]
        struct Jwk {
            #[serde(default)]
            kid: String,
            kty: String,
            #[serde(default)]
            n: String,
            #[serde(default)]
            e: String,
        }
        let response = self
            .shared
            .http
            .get(format!("{}/token_keys", self.shared.url))
            .header("accept", "application/json")
            .send()
            .await?
            .error_for_status()?;
        let answer: Answer = response.json().await.context("read token keys")?;
        let rsa = answer.keys.into_iter().filter(|jwk| jwk.kty == "RSA");
        rsa.map(|jwk| {
            Ok((
                jwk.kid,
                DecodingKey::from_rsa_components(&jwk.n, &jwk.e).context("use token key")?,
            ))
        })
        .collect()
    }

    fn keys(&self) -> std::sync::MutexGuard<'_, Keys> {
        self.shared
            .keys
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn bearer(header: &str) -> Result<&str, TokenError> {
    let header = header.trim();
    if header.is_empty() {
        return Err(TokenError::Missing);
    }
    let (scheme, token) = header
        .split_once(' ')
        .ok_or_else(|| TokenError::Invalid("want \"bearer TOKEN\"".into()))?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(TokenError::Invalid(format!(
            "scheme {scheme:?} is not accepted, want bearer"
        )));
    }
    let token = token.trim();
    match token.len() {
        0 => Err(TokenError::Missing),
        n if n > MAX_TOKEN => Err(TokenError::Invalid("too long".into())),
        _ => Ok(token),
    }
}

enum Rejected {
    Signature,
    Expired,
    Other(String),
}

impl From<Rejected> for TokenError {
    fn from(rejected: Rejected) -> Self {
        match rejected {
            Rejected::Signature => Self::Invalid("the signature does not match".into()),
            Rejected::Expired => Self::Expired,
            Rejected::Other(why) => Self::Invalid(why),
        }
    }
}

fn check(token: &str, key: &DecodingKey) -> Result<Claims, Rejected> {
    let mut validation = Validation::new(Algorithm::RS256);
    validation.leeway = 0;
    validation.validate_aud = false;
    validation.validate_nbf = false;
    let claims = jsonwebtoken::decode::<Claims>(token, key, &validation).map_err(|error| {
        match error.kind() {
            ErrorKind::InvalidSignature => Rejected::Signature,
            ErrorKind::ExpiredSignature => Rejected::Expired,
            _ => Rejected::Other(error.to_string()),
        }
    })?;
    if claims.claims.jti.ends_with("-r") {
        return Err(Rejected::Other("a refresh token is no access token".into()));
    }
    Ok(claims.claims)
}

fn list_or_words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        List(Vec<String>),
        Words(String),
    }
    Ok(match Either::deserialize(deserializer)? {
        Either::List(list) => list,
        Either::Words(words) => words.split_whitespace().map(str::to_owned).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_told_apart() {
        assert_eq!(bearer(""), Err(TokenError::Missing));
        assert_eq!(
            bearer("bearer "),
            Err(TokenError::Invalid("want \"bearer TOKEN\"".into()))
        );
        assert_eq!(bearer("Bearer abc"), Ok("abc"));
        assert!(matches!(bearer("basic abc"), Err(TokenError::Invalid(_))));
    }

    #[tokio::test]
    async fn garbage_is_invalid_without_asking_the_uaa() {
        let verifier = TokenVerifier::new("http://127.0.0.1:1").unwrap();
        assert!(matches!(
            verifier.verify("bearer x.y.z").await,
            Err(TokenError::Invalid(_))
        ));
        assert!(TokenVerifier::new("127.0.0.1:1").is_err());
    }

    #[test]
    fn scopes_may_be_words() {
        let claims: Claims =
            serde_json::from_str(r#"{"client_id":"cf","cid":"cf","scope":"a b","exp":1}"#).unwrap();
        assert_eq!((claims.client_id.as_str(), claims.scope.len()), ("cf", 2));
    }
}
