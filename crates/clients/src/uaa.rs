//! Verifying access tokens ([`TokenVerifier`]); fetching one's own ([`TokenFetcher`]).
//!
//! Every API that takes a bearer token calls the verifier. A token is accepted when all of this holds:
//!
//! | Check | Where the truth comes from |
//! |---|---|
//! | signature (RS256 only), not expired, no refresh token | `{url}/token_keys`, kept; fetched again when a token names an unknown key |
//! | `iss` | the `issuer` of `{url}/.well-known/openid-configuration`, fetched together with the keys |
//! | `aud` names this API | the API's own configuration ([`VerifierConfig::audiences`]) |
//! | nobody has ended the token | `{url}/check_token`, at most a second ago ([`VerifierConfig::resource_server`]) |
//!
//! A UAA that is down stops no request as long as its keys are known: a token that the UAA has not refused yet then counts
//! until it expires.

mod client_token;
mod standing;

pub use client_token::{ClientCredentials, TokenFetcher};
pub use standing::ResourceServer;

use anyhow::{Context as _, Result};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::{Deserialize, Deserializer};
use standing::Standing;
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
    /// Who issued the token.
    #[serde(default)]
    pub iss: String,
    /// The APIs that the token is for.
    #[serde(default, deserialize_with = "list_or_words")]
    pub aud: Vec<String>,
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

/// Whose tokens an API accepts.
#[derive(Clone, Debug)]
pub struct VerifierConfig {
    /// The UAA: `http://127.0.0.1:8080`.
    pub url: String,
    /// A token is for this API when its `aud` names one of these.
    pub audiences: &'static [&'static str],
    /// Asks the UAA whether a token was ended before its time. `None`: a token counts until it expires.
    pub resource_server: Option<ResourceServer>,
}

/// Cheap to clone; clones share the keys.
#[derive(Clone)]
pub struct TokenVerifier {
    shared: Arc<Shared>,
}

struct Shared {
    url: String,
    audiences: &'static [&'static str],
    standing: Option<Standing>,
    http: reqwest::Client,
    keys: Mutex<Keys>,
    /// Held while fetching, so that a burst of requests fetches once.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Keys {
    by_kid: HashMap<String, DecodingKey>,
    issuer: String,
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
    /// Fetches nothing yet.
    pub fn new(config: VerifierConfig) -> Result<Self> {
        kit::tls::install_crypto();
        let http = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(Duration::from_secs(2))
            .timeout(Duration::from_secs(5))
            .build()
            .context("build HTTP client for the UAA")?;
        let url = config.url.trim_end_matches('/').to_owned();
        anyhow::ensure!(
            url.starts_with("http://") || url.starts_with("https://"),
            "UAA URL {:?}: want http://host:port or https://host:port",
            config.url
        );
        anyhow::ensure!(
            !config.audiences.is_empty(),
            "a token verifier without audiences would refuse every token"
        );
        let standing = config
            .resource_server
            .map(|client| Standing::new(&url, client));
        Ok(Self {
            shared: Arc::new(Shared {
                url,
                audiences: config.audiences,
                standing,
                http,
                keys: Mutex::default(),
                fetching: tokio::sync::Mutex::new(()),
            }),
        })
    }

    /// Checks an `Authorization` header's value (`bearer eyJ…`).
    pub async fn verify(&self, authorization_header: &str) -> Result<Claims, TokenError> {
        let token = bearer(authorization_header)?;
        let claims = self.verify_locally(token).await?;
        if let Some(standing) = &self.shared.standing
            && standing.is_ended(&self.shared.http, token).await
        {
            return Err(TokenError::Invalid("the token was revoked".into()));
        }
        Ok(claims)
    }

    /// What the token itself and the UAA's public documents say.
    async fn verify_locally(&self, token: &str) -> Result<Claims, TokenError> {
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
        match self.check(token, &key.ok_or_else(unknown)?) {
            // The key may have been replaced under the same name, or the UAA may have moved to another URL.
            Err(Rejected::Signature | Rejected::Issuer(_)) => {
                seen = Instant::now();
                self.fetch(seen).await?;
                let key = self.key(kid).ok_or_else(unknown)?;
                self.check(token, &key).map_err(TokenError::from)
            }
            checked => checked.map_err(TokenError::from),
        }
    }

    fn check(&self, token: &str, key: &DecodingKey) -> Result<Claims, Rejected> {
        let claims = signed_claims(token, key)?;
        if claims.iss != self.keys().issuer {
            return Err(Rejected::Issuer(claims.iss));
        }
        let audiences = self.shared.audiences;
        if !claims
            .aud
            .iter()
            .any(|aud| audiences.contains(&aud.as_str()))
        {
            return Err(Rejected::Other(format!(
                "the token is for {:?}, not for {}",
                claims.aud,
                audiences.join(" or ")
            )));
        }
        Ok(claims)
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
                Ok((issuer, by_kid)) => {
                    *self.keys() = Keys {
                        by_kid,
                        issuer,
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

    async fn download(&self) -> Result<(String, HashMap<String, DecodingKey>)> {
        #[derive(Deserialize)]
        struct Discovery {
            issuer: String,
        }
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
        let discovery: Discovery = self
            .get("/.well-known/openid-configuration")
            .await?
            .json()
            .await
            .context("read the UAA's OpenID configuration")?;
        let answer: Answer = self
            .get("/token_keys")
            .await?
            .json()
            .await
            .context("read token keys")?;
        let rsa = answer.keys.into_iter().filter(|jwk| jwk.kty == "RSA");
        let keys: Result<_> = rsa
            .map(|jwk| {
                Ok((
                    jwk.kid,
                    DecodingKey::from_rsa_components(&jwk.n, &jwk.e).context("use token key")?,
                ))
            })
            .collect();
        Ok((discovery.issuer, keys?))
    }

    async fn get(&self, path: &str) -> Result<reqwest::Response> {
        let response = self
            .shared
            .http
            .get(format!("{}{path}", self.shared.url))
            .header("accept", "application/json")
            .send()
            .await?;
        Ok(response.error_for_status()?)
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
    /// The token names this issuer, and the UAA another.
    Issuer(String),
    Expired,
    Other(String),
}

impl From<Rejected> for TokenError {
    fn from(rejected: Rejected) -> Self {
        match rejected {
            Rejected::Signature => Self::Invalid("the signature does not match".into()),
            Rejected::Issuer(issuer) => {
                Self::Invalid(format!("issued by {issuer:?}, not by this UAA"))
            }
            Rejected::Expired => Self::Expired,
            Rejected::Other(why) => Self::Invalid(why),
        }
    }
}

fn signed_claims(token: &str, key: &DecodingKey) -> Result<Claims, Rejected> {
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
        let at = |url: &str| {
            TokenVerifier::new(VerifierConfig {
                url: url.into(),
                audiences: &["x"],
                resource_server: None,
            })
        };
        assert!(matches!(
            at("http://127.0.0.1:1")
                .unwrap()
                .verify("bearer x.y.z")
                .await,
            Err(TokenError::Invalid(_))
        ));
        assert!(at("127.0.0.1:1").is_err());
    }

    #[test]
    fn scopes_may_be_words() {
        let claims: Claims =
            serde_json::from_str(r#"{"client_id":"cf","cid":"cf","scope":"a b","exp":1}"#).unwrap();
        assert_eq!((claims.client_id.as_str(), claims.scope.len()), ("cf", 2));
    }
}
