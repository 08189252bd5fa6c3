//! Verifies access tokens ([`TokenVerifier`]), and fetches tokens for the process itself ([`TokenFetcher`]).
//!
//! Every API that accepts bearer tokens calls the verifier. A token is accepted when all of the following holds:
//!
//! | Check | Source of the truth |
//! |---|---|
//! | signature (RS256 only), not expired, no refresh token | `{url}/token_keys`, kept; fetched again when a token names an unknown key |
//! | `iss` | the `issuer` of `{url}/.well-known/openid-configuration`, fetched together with the keys |
//! | `aud` names this API | the API's own configuration ([`VerifierConfig::audiences`]) |
//! | the token was not ended early | `{url}/check_token`, at most a second ago ([`VerifierConfig::resource_server`]) |
//!
//! A UAA that is down stops no request as long as its keys are known: a token that the UAA has not refused yet is then valid
//! until it expires.

mod client_token;
mod revocations;

pub use client_token::{ClientCredentials, TokenFetcher};
pub use revocations::ResourceServer;

use anyhow::{Context as _, Result};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use revocations::Revocations;
use serde::{Deserialize, Deserializer};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The shortest pause between two fetches of the keys that are caused by tokens with an unknown key.
const REFETCH_PAUSE: Duration = Duration::from_secs(5);
/// The shortest pause between two tries while the UAA does not answer.
const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// The length above which a token is refused unread.
const MAX_TOKEN: usize = 64 << 10;

/// The claims of a valid access token.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Claims {
    /// The user; absent in tokens of a client (grant `client_credentials`), as are the two fields below.
    #[serde(default)]
    pub user_id: Option<String>,
    #[serde(default)]
    pub user_name: Option<String>,
    #[serde(default)]
    pub origin: Option<String>,
    #[serde(default)]
    pub client_id: String,
    /// The issuer of the token.
    #[serde(default)]
    pub iss: String,
    /// The APIs for which the token is valid.
    #[serde(default, deserialize_with = "list_or_space_separated")]
    pub aud: Vec<String>,
    #[serde(default, deserialize_with = "list_or_space_separated")]
    pub scope: Vec<String>,
    /// The time of expiry in Unix seconds.
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

/// The reason why a token was not accepted. Callers get 503 for `Unreachable` and 401 for all others.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("no bearer token")]
    Missing,
    #[error("invalid token: {0}")]
    Invalid(String),
    #[error("the token has expired")]
    Expired,
    #[error("the UAA's token keys are not known, because the UAA does not answer: try again later")]
    Unreachable,
}

/// The configuration that determines which tokens an API accepts.
#[derive(Clone, Debug)]
pub struct VerifierConfig {
    /// The URL of the UAA, for example `http://127.0.0.1:8080`.
    pub url: String,
    /// The names of this API. The `aud` of a token must contain one of them.
    pub audiences: &'static [&'static str],
    /// The client that asks the UAA whether a token was ended before its time. With `None` a token is valid until it expires.
    pub resource_server: Option<ResourceServer>,
}

/// A verifier of tokens. It is cheap to clone; clones share the keys.
#[derive(Clone)]
pub struct TokenVerifier {
    shared: Arc<Shared>,
}

struct Shared {
    url: String,
    audiences: &'static [&'static str],
    revocations: Option<Revocations>,
    http: reqwest::Client,
    keys: Mutex<Keys>,
    /// A lock that is held while fetching, so that a burst of requests fetches once.
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
    /// Makes a verifier. It does not fetch the keys yet.
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
            "UAA URL {:?}: expected http://host:port or https://host:port",
            config.url
        );
        anyhow::ensure!(
            !config.audiences.is_empty(),
            "a token verifier without audiences would refuse every token"
        );
        let revocations = config
            .resource_server
            .map(|client| Revocations::new(&url, client));
        Ok(Self {
            shared: Arc::new(Shared {
                url,
                audiences: config.audiences,
                revocations,
                http,
                keys: Mutex::default(),
                fetching: tokio::sync::Mutex::new(()),
            }),
        })
    }

    /// Verifies the value of an `Authorization` header (`bearer eyJ…`).
    pub async fn verify(&self, authorization_header: &str) -> Result<Claims, TokenError> {
        let token = bearer(authorization_header)?;
        let claims = self.verify_locally(token).await?;
        if let Some(revocations) = &self.shared.revocations
            && revocations.is_ended(&self.shared.http, token).await
        {
            return Err(TokenError::Invalid("the token was revoked".into()));
        }
        Ok(claims)
    }

    /// Verifies the token by itself and by the UAA's public documents, without asking whether it was ended.
    async fn verify_locally(&self, token: &str) -> Result<Claims, TokenError> {
        let header = jsonwebtoken::decode_header(token)
            .map_err(|error| TokenError::Invalid(format!("not a JWT: {error}")))?;
        if header.alg != Algorithm::RS256 {
            return Err(TokenError::Invalid(format!(
                "algorithm {:?} is not accepted, expected RS256",
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

    /// Fetches the keys, unless another task has done so since `seen`, or too recently. It fails only when no keys are known.
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
        struct TokenKeys {
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
        let found: TokenKeys = self
            .get("/token_keys")
            .await?
            .json()
            .await
            .context("read token keys")?;
        let rsa = found.keys.into_iter().filter(|jwk| jwk.kty == "RSA");
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
        .ok_or_else(|| TokenError::Invalid("expected \"bearer TOKEN\"".into()))?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(TokenError::Invalid(format!(
            "scheme {scheme:?} is not accepted, expected bearer"
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
    /// The issuer that the token names, which is not this UAA.
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
        return Err(Rejected::Other(
            "a refresh token is not an access token".into(),
        ));
    }
    Ok(claims.claims)
}

fn list_or_space_separated<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        List(Vec<String>),
        SpaceSeparated(String),
    }
    Ok(match Either::deserialize(deserializer)? {
        Either::List(list) => list,
        Either::SpaceSeparated(words) => words.split_whitespace().map(str::to_owned).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_distinguished() {
        assert_eq!(bearer(""), Err(TokenError::Missing));
        assert_eq!(
            bearer("bearer "),
            Err(TokenError::Invalid("expected \"bearer TOKEN\"".into()))
        );
        assert_eq!(bearer("Bearer abc"), Ok("abc"));
        assert!(matches!(bearer("basic abc"), Err(TokenError::Invalid(_))));
    }

    #[tokio::test]
    async fn garbage_is_invalid_without_a_request_to_the_uaa() {
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
