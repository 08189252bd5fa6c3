//! The things that all requests share, and how a request finds its user.

use crate::access::{Sessions, SignIn, Viewer, Visible, is_operator};
use crate::cloud_controller::CloudController;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::pages::Pages;
use crate::refusal::{Answer, Refusal};
use axum::http::{HeaderMap, StatusCode, header};
use clients::uaa::{TokenError, TokenVerifier};
use kit::CancellationToken;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// The name of the cookie of a session. Its prefix makes browsers refuse it from other hosts and without TLS, so that an app of the
/// same domain cannot set it.
pub(crate) const SESSION: &str = "__Host-dashboard";
/// The name of the cookie while a user signs in.
pub(crate) const SIGN_IN: &str = "__Host-dashboard-sign-in";

/// The handle of everything; it is cheap to clone.
pub(crate) type Dash = Arc<Shared>;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) live: Live,
    pub(crate) sessions: Sessions,
    pub(crate) sign_in: SignIn,
    pub(crate) verifier: TokenVerifier,
    pub(crate) visible: Visible,
    pub(crate) cloud_controller: CloudController,
    /// The API of log-cache, for the lines of a request that is followed.
    pub(crate) log_cache_url: String,
    pub(crate) http: reqwest::Client,
    pub(crate) routers: Vec<Pages>,
    pub(crate) facts: Facts,
    pub(crate) metrics: Metrics,
    /// The permits of streams.
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) shutdown: CancellationToken,
}

/// The names that the page shows in commands.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) api_url: String,
    /// The URL of the dashboard, to which requests of its own page belong.
    pub(crate) origin: String,
}

impl Shared {
    /// Returns the user of a request: that of its bearer token, or else that of its session.
    pub(crate) async fn viewer(&self, headers: &HeaderMap) -> Answer<Viewer> {
        let given = headers.get(header::AUTHORIZATION);
        let token = match given.and_then(|value| value.to_str().ok()) {
            Some(value) => {
                let token = value.split_once(' ').map(|(_, token)| token.trim());
                token.ok_or_else(Refusal::signed_out)?.to_owned()
            }
            None => self.token_of_session(headers).await?,
        };
        self.viewer_of(token).await
    }

    async fn token_of_session(&self, headers: &HeaderMap) -> Answer<String> {
        let name = cookie(headers, SESSION).ok_or_else(Refusal::signed_out)?;
        let session = self.sessions.find(name).ok_or_else(Refusal::signed_out)?;
        session.token(&self.sign_in).await.map_err(|error| {
            tracing::info!(error = format!("{error:#}"), "session-ended");
            Refusal::signed_out()
        })
    }

    pub(crate) async fn viewer_of(&self, token: String) -> Answer<Viewer> {
        let claims = self.verifier.verify(&format!("bearer {token}")).await;
        let claims = claims.map_err(|error| match error {
            TokenError::Unreachable => {
                Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
            }
            _ => Refusal::signed_out(),
        })?;
        if is_operator(&claims) {
            return Ok(Viewer::operator(&claims, token));
        }
        let user = claims
            .user_id
            .clone()
            .unwrap_or_else(|| claims.client_id.clone());
        let apps = match self.visible.get(&user) {
            Some(apps) => apps,
            None => {
                let apps = self.cloud_controller.apps(&token).await?;
                self.visible.keep(&user, apps)
            }
        };
        Ok(Viewer::developer(&claims, token, apps))
    }

    /// Refuses a request that changes something unless the dashboard's own page sent it. Apps of the foundation are on the same site, so
    /// `SameSite` alone does not keep their pages away.
    pub(crate) fn check_origin(&self, headers: &HeaderMap) -> Answer<()> {
        if headers.contains_key(header::AUTHORIZATION) {
            return Ok(());
        }
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let is_own = match (text("sec-fetch-site"), text("origin")) {
            (Some(site), _) => site == "same-origin",
            (None, Some(origin)) => origin == self.facts.origin,
            (None, None) => false,
        };
        match is_own {
            true => Ok(()),
            false => Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "only the dashboard's own page may send this",
            )),
        }
    }
}

/// Returns the value of a cookie.
pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let all = headers.get_all(header::COOKIE).iter();
    let pairs = all.filter_map(|value| value.to_str().ok());
    let mut pairs = pairs.flat_map(|value| value.split(';'));
    pairs.find_map(|pair| {
        let (key, value) = pair.trim().split_once('=')?;
        (key == name).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn a_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(
            header::COOKIE,
            HeaderValue::from_static("a=1; __Host-dashboard=x"),
        );
        headers.append(header::COOKIE, HeaderValue::from_static("b=2"));
        assert_eq!(cookie(&headers, SESSION), Some("x"));
        assert_eq!(cookie(&headers, "b"), Some("2"));
        assert_eq!(cookie(&headers, "dashboard"), None);
    }
}
