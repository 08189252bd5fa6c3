//! The HTTP API: one table of paths, and the functions that its handlers share (who the caller is, and with which token).

mod about;
mod authorize;
mod body;
mod clients;
mod grants;
mod page;
mod query;
mod sign_in;
mod tokens;
mod users;

use crate::db::{Db, StoredClient, User};
use crate::error::{self, Answer};
use crate::metrics::Metrics;
use crate::password;
use crate::signing::{Invalid, SigningKey};
use crate::throttle::Throttle;
use crate::token::{self, Validity};
use anyhow::{Context as _, Result};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderMap, header};
use axum::routing::{delete, get, post, put};
use base64::Engine as _;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::Semaphore;

/// The maximum length of a password in bytes. Longer ones are refused, because a client must not control the time of hashing.
pub(crate) const MAX_PASSWORD: usize = 255;
/// The maximum length of a user name in bytes.
pub(crate) const MAX_NAME: usize = 255;
const MAX_BODY: usize = 256 << 10;

pub(crate) type Params = HashMap<String, String>;

pub(crate) struct State {
    pub(crate) db: Db,
    pub(crate) key: SigningKey,
    pub(crate) urls: Urls,
    pub(crate) validity: Validity,
    pub(crate) throttle: Mutex<Throttle>,
    /// The permits to hash passwords. They limit how many are hashed at the same time.
    pub(crate) hashing: Semaphore,
    pub(crate) metrics: Metrics,
}

/// The URLs of this server, without a slash at the end.
#[derive(Debug)]
pub(crate) struct Urls {
    pub(crate) external: String,
    pub(crate) login: String,
}

impl Urls {
    pub(crate) fn issuer(&self) -> String {
        format!("{}/oauth/token", self.external)
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("urls", &self.urls)
            .finish_non_exhaustive()
    }
}

pub(crate) fn router(state: Arc<State>) -> Router {
    Router::new()
        .route("/login", get(about::login))
        .route("/info", get(about::login))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/token_keys", get(about::token_keys))
        .route("/token_key", get(about::token_key))
        .route(
            "/.well-known/openid-configuration",
            get(about::openid_configuration),
        )
        .route(
            "/oauth/token/.well-known/openid-configuration",
            get(about::openid_configuration),
        )
        .route("/oauth/token", post(grants::token))
        .route("/oauth/token/revoke/{jti}", delete(tokens::revoke))
        .route(
            "/oauth/token/revoke/user/{id}",
            get(tokens::revoke_user).delete(tokens::revoke_user),
        )
        .route(
            "/oauth/token/revoke/client/{client}",
            get(tokens::revoke_client).delete(tokens::revoke_client),
        )
        .route(
            "/oauth/token/revoke/user/{id}/client/{client}",
            get(tokens::revoke_pair).delete(tokens::revoke_pair),
        )
        .route(
            "/oauth/authorize",
            get(authorize::authorize).post(authorize::sign_in),
        )
        .route(sign_in::STYLE_PATH, get(sign_in::style))
        .route("/oauth/clients", get(clients::list).post(clients::create))
        .route(
            "/oauth/clients/{id}",
            get(clients::show)
                .put(clients::update)
                .delete(clients::delete),
        )
        .route("/oauth/clients/{id}/secret", put(clients::change_secret))
        .route("/check_token", post(tokens::check_token))
        .route("/introspect", post(tokens::introspect))
        .route("/userinfo", get(users::userinfo))
        .route("/Users", get(users::list).post(users::create))
        .route("/ids/Users", get(users::ids))
        .route(
            "/Users/{id}",
            get(users::show).put(users::update).delete(users::delete),
        )
        .route("/Users/{id}/password", put(users::change_password))
        .fallback(|| async { error::not_found("not_found", "There is nothing at this path") })
        .method_not_allowed_fallback(|| async { error::method_not_allowed() })
        .layer(axum::middleware::from_fn(query::refuse_credentials))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(state)
}

/// The claims of the caller's own, valid access token.
pub(crate) struct Caller {
    claims: Map<String, Value>,
}

impl Caller {
    pub(crate) fn has_scope(&self, scope: &str) -> bool {
        self.claims
            .get("scope")
            .and_then(Value::as_array)
            .is_some_and(|scopes| scopes.iter().any(|s| s == scope))
    }
    pub(crate) fn require(&self, any: &[&str]) -> Answer<()> {
        if any.iter().any(|scope| self.has_scope(scope)) {
            Ok(())
        } else {
            Err(error::insufficient_scope(&any.join(" ")))
        }
    }
    pub(crate) fn user_id(&self) -> Option<&str> {
        self.claims.get("user_id").and_then(Value::as_str)
    }
    pub(crate) fn text(&self, claim: &str) -> &str {
        self.claims.get(claim).and_then(Value::as_str).unwrap_or("")
    }
    /// Returns the caller's scopes.
    pub(crate) fn scopes(&self) -> Vec<&str> {
        let scopes = self.claims.get("scope").and_then(Value::as_array);
        let scopes = scopes.map_or(&[][..], Vec::as_slice);
        scopes.iter().filter_map(Value::as_str).collect()
    }
}

/// The resources of this API. A token whose audience has none of them is for other APIs.
const AUDIENCES: &[&str] = &["uaa", "scim", "clients", "password", "tokens", "openid"];

/// A valid token with its client and user.
pub(crate) struct Valid {
    pub(crate) claims: Map<String, Value>,
    pub(crate) client: StoredClient,
    /// The user; `None` for a client's own token.
    pub(crate) user: Option<User>,
}

/// The purpose of a token, which its `jti` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Access,
    Refresh,
}

impl Kind {
    fn of(jti: &str) -> Self {
        if jti.ends_with("-r") {
            Self::Refresh
        } else {
            Self::Access
        }
    }
}

impl State {
    /// Returns the caller, identified by the bearer token in `headers`. The token must be for this API.
    pub(crate) async fn caller(&self, headers: &HeaderMap) -> Answer<Caller> {
        let caller = self.bearer(headers).await?;
        let audience = caller.claims.get("aud").and_then(Value::as_array);
        let ours = |aud: &Value| aud.as_str().is_some_and(|aud| AUDIENCES.contains(&aud));
        if audience.is_some_and(|audience| audience.iter().any(ours)) {
            Ok(caller)
        } else {
            Err(error::wrong_audience())
        }
    }

    /// Returns the caller like [`Self::caller`], but also accepts a token for other APIs, because its bearer may revoke it here.
    pub(crate) async fn bearer(&self, headers: &HeaderMap) -> Answer<Caller> {
        let value = headers
            .get(header::AUTHORIZATION)
            .and_then(|v| v.to_str().ok())
            .unwrap_or("");
        let token = match value.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
            _ => {
                return Err(error::unauthorized(
                    "Full authentication is required: send a bearer token",
                ));
            }
        };
        let claims = self.access_claims(token).await?;
        Ok(Caller { claims })
    }

    /// Returns the claims of a valid access token.
    pub(crate) async fn access_claims(&self, token: &str) -> Answer<Map<String, Value>> {
        Ok(self.valid(token, Kind::Access).await?.claims)
    }

    /// Checks that a token was issued here, has not expired, and has not been revoked.
    pub(crate) async fn valid(&self, token: &str, kind: Kind) -> Answer<Valid> {
        const REFUSED: &str = "The token expired, was revoked, or the token ID is incorrect";
        let claims = self.key.verify(token).map_err(|invalid| match invalid {
            Invalid::Expired => error::invalid_token(format!("{REFUSED}: it has expired")),
            Invalid::Malformed => {
                error::invalid_token(format!("{REFUSED}: it was not signed here"))
            }
        })?;
        let refused = || error::invalid_token(REFUSED);
        let claim = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or("");
        let jti = claim("jti");
        if claim("iss") != self.urls.issuer() || Kind::of(jti) != kind {
            return Err(refused());
        }
        if self.db.is_revoked(jti, claim("session")).await? {
            return Err(refused());
        }
        let client = self.db.client(claim("client_id")).await?;
        let client = client.ok_or_else(refused)?;
        let user = match claims.get("user_id").and_then(Value::as_str) {
            None => None,
            Some(id) => {
                let user = self.db.user(id).await?.filter(|user| user.active);
                Some(user.ok_or_else(refused)?)
            }
        };
        if self.signature(&client, user.as_ref()).await? != claim("rev_sig") {
            return Err(refused());
        }
        Ok(Valid {
            client,
            user,
            claims,
        })
    }

    /// Returns the current [`token::signature`] of the client and the user.
    pub(crate) async fn signature(
        &self,
        client: &StoredClient,
        user: Option<&User>,
    ) -> Answer<String> {
        let epoch = match user {
            Some(user) => self.db.epoch_of_pair(&user.id, &client.id).await?,
            None => 0,
        };
        Ok(token::signature(client, user, epoch))
    }

    /// Returns the client that sends the request, identified by HTTP Basic, or by `client_id` and `client_secret` in the body.
    pub(crate) async fn client(&self, headers: &HeaderMap, form: &Params) -> Answer<StoredClient> {
        let client = self.authenticated_client(headers, form).await;
        let counter = if client.is_ok() {
            &self.metrics.client_authentications
        } else {
            &self.metrics.client_authentication_failures
        };
        counter.add(1);
        client
    }

    async fn authenticated_client(
        &self,
        headers: &HeaderMap,
        form: &Params,
    ) -> Answer<StoredClient> {
        let basic = headers
            .get(header::AUTHORIZATION)
            .and_then(|v| v.to_str().ok())
            .and_then(basic);
        let body = || {
            form.get("client_id").map(|id| {
                (
                    id.clone(),
                    form.get("client_secret").cloned().unwrap_or_default(),
                )
            })
        };
        let (id, secret) = basic.or_else(body).ok_or_else(error::invalid_client)?;
        let client = self
            .db
            .client(&id)
            .await?
            .ok_or_else(error::invalid_client)?;
        if secret.len() <= MAX_PASSWORD && password::matches(&client.secret_hash, &secret) {
            Ok(client)
        } else {
            Err(error::invalid_client())
        }
    }

    /// Returns the user with that name and password. It slows down guessing.
    pub(crate) async fn authenticate(
        &self,
        user_name: &str,
        origin: &str,
        password: &str,
    ) -> Answer<User> {
        let user = self.db.user_by_name(user_name, origin).await?;
        let user = user.filter(|user| user.active);
        let is_known = user.is_some();
        let hash = user.as_ref().and_then(|user| user.password_hash.clone());
        // The name includes the hash, so that a new password that somebody else sets ends the lock.
        let name = format!(
            "{}\0{origin}\0{}",
            user_name.to_lowercase(),
            hash.as_deref().unwrap_or_default()
        );
        if password.len() > MAX_PASSWORD || self.is_locked(&name).await? {
            return Err(error::account_locked());
        }
        // An unknown name takes as long as a wrong password, so that the time does not reveal which users exist.
        let permit = self.hashing.acquire().await.context("wait to hash")?;
        if self.is_locked(&name).await? {
            return Err(error::account_locked());
        }
        let right = blocking(hash, password.to_owned()).await?;
        // The next guess is made after this one is counted.
        self.count(&name, is_known && right).await?;
        drop(permit);
        match user.filter(|_| right) {
            Some(user) => {
                self.metrics.user_authentications.add(1);
                Ok(user)
            }
            None => {
                let failures = if is_known {
                    &self.metrics.user_authentication_failures
                } else {
                    &self.metrics.users_not_found
                };
                failures.add(1);
                tracing::info!(user = user_name, "login-failed");
                Err(error::bad_credentials())
            }
        }
    }

    async fn is_locked(&self, name: &str) -> Result<bool> {
        let now = milliseconds();
        if self.throttle().is_locked(name, now) {
            return Ok(true);
        }
        let failures = self.db.failed_logins(name).await?;
        Ok(failures.is_some_and(|failures| failures.lock(now)))
    }

    /// Counts a guess of a password. While the database cannot be written, failures are counted in memory.
    async fn count(&self, name: &str, is_right: bool) -> Result<()> {
        if is_right {
            self.throttle().succeeded(name);
            // Nothing is written unless necessary, so that users can log in while the database cannot be written.
            if self.db.failed_logins(name).await?.is_some()
                && let Err(error) = self.db.login_succeeded(name).await
            {
                tracing::warn!(error = format!("{error:#}"), "failed-logins-not-forgotten");
            }
            return Ok(());
        }
        let now = milliseconds();
        if let Err(error) = self.db.login_failed(name, now).await {
            tracing::warn!(error = format!("{error:#}"), "failed-login-not-stored");
            self.throttle().failed(name, now);
        }
        Ok(())
    }

    fn throttle(&self) -> MutexGuard<'_, Throttle> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) async fn hash(&self, password: &str) -> Result<String> {
        let _permit = self.hashing.acquire().await.context("wait to hash")?;
        let password = password.to_owned();
        tokio::task::spawn_blocking(move || password::hash(&password, password::USER))
            .await
            .context("hash password")
    }

    pub(crate) async fn matches(&self, hash: Option<&str>, password: &str) -> Result<bool> {
        let _permit = self.hashing.acquire().await.context("wait to hash")?;
        blocking(hash.map(str::to_owned), password.to_owned()).await
    }
}

async fn blocking(hash: Option<String>, password: String) -> Result<bool> {
    static NOBODY: OnceLock<String> = OnceLock::new();
    tokio::task::spawn_blocking(move || match hash {
        Some(hash) => password::matches(&hash, &password),
        None => {
            password::matches(
                NOBODY.get_or_init(|| password::hash("", password::USER)),
                &password,
            );
            false
        }
    })
    .await
    .context("hash password")
}

/// Returns both parts of a Basic header, percent-decoded as OAuth requires.
fn basic(value: &str) -> Option<(String, String)> {
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(
        base64::engine::general_purpose::STANDARD
            .decode(encoded.trim())
            .ok()?,
    )
    .ok()?;
    let (id, secret) = text.split_once(':')?;
    Some((percent_decoded(id), percent_decoded(secret)))
}

/// Returns the time in Unix milliseconds.
fn milliseconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}

/// Decodes percent escapes (`%41` → `A`). Text that is no escape stays unchanged.
fn percent_decoded(text: &str) -> String {
    let (mut out, bytes, mut at) = (Vec::with_capacity(text.len()), text.as_bytes(), 0);
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        out.push(escaped.unwrap_or(bytes[at]));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

/// Returns the current time in Unix seconds.
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_headers_are_decoded() {
        assert_eq!(basic("Basic Y2Y6"), Some(("cf".into(), String::new())));
        assert_eq!(basic("bearer Y2Y6"), None);
        assert_eq!(percent_decoded("a%3Ab%zz%"), "a:b%zz%");
    }
}
