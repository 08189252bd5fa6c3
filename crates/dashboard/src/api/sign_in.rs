//! Signing in and out.

use crate::refusal::Answer;
use crate::shared::{Dash, SESSION, SIGN_IN, cookie};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse as _, Response};
use serde::Deserialize;

/// The time in seconds in which a user must sign in.
const PATIENCE: u32 = 600;

/// Redirects to the UAA's page.
pub(super) async fn begin(State(dash): State<Dash>, headers: HeaderMap) -> Response {
    if let Some(redirect) = super::page::with_tls(&dash, &headers, "/sign-in") {
        return redirect;
    }
    let begun = dash.sign_in.begin();
    redirect(
        &begun.location,
        &[set(SIGN_IN, &begun.nonce, Some(PATIENCE))],
    )
}

#[derive(Debug, Deserialize)]
pub(super) struct Returned {
    #[serde(default)]
    code: String,
    #[serde(default)]
    state: String,
    #[serde(default)]
    error_description: String,
}

/// Takes the code with which the UAA's page redirected, and begins a session.
pub(super) async fn finish(
    State(dash): State<Dash>,
    headers: HeaderMap,
    Query(returned): Query<Returned>,
) -> Response {
    let nonce = cookie(&headers, SIGN_IN).unwrap_or_default();
    let tokens = match returned.code.is_empty() {
        true => Err(anyhow::anyhow!(
            "the UAA sent no code: {}",
            returned.error_description
        )),
        false => {
            dash.sign_in
                .finish(nonce, &returned.state, &returned.code)
                .await
        }
    };
    let tokens = match tokens {
        Ok(tokens) => tokens,
        Err(error) => {
            dash.metrics.sign_in_failures.add(1);
            tracing::info!(error = format!("{error:#}"), "sign-in-failed");
            let reason: String = format!("{error:#}").chars().take(300).collect();
            let page = super::page::notice("You are not signed in", &reason);
            return (StatusCode::BAD_REQUEST, page).into_response();
        }
    };
    let viewer = match dash.viewer_of(tokens.access.clone()).await {
        Ok(viewer) => viewer,
        Err(refusal) => return refusal.into_response(),
    };
    dash.metrics.sign_ins.add(1);
    let name = dash.sessions.begin(&viewer.user_name, tokens);
    tracing::info!(
        user = viewer.user_name,
        operator = viewer.is_operator(),
        "signed-in"
    );
    redirect("/", &[set(SESSION, &name, None), set(SIGN_IN, "", Some(0))])
}

/// Ends the session and revokes its tokens.
pub(super) async fn end(State(dash): State<Dash>, headers: HeaderMap) -> Answer {
    dash.check_origin(&headers)?;
    let name = cookie(&headers, SESSION).unwrap_or_default();
    if let Some(session) = dash.sessions.end(name) {
        let tokens = session.tokens().await;
        dash.sign_in.revoke(&tokens).await;
    }
    Ok(redirect("/signed-out", &[set(SESSION, "", Some(0))]))
}

fn redirect(to: &str, cookies: &[String]) -> Response {
    let cookies = cookies
        .iter()
        .map(|cookie| (header::SET_COOKIE, cookie.clone()));
    let cookies: Vec<_> = cookies.collect();
    let headers = [
        (header::LOCATION, to.to_owned()),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    (StatusCode::SEE_OTHER, headers, AppendHeaders(cookies)).into_response()
}

/// Returns a cookie for this host alone. Scripts cannot read it, and pages of other sites do not send it with what they request.
/// It is sent when somebody follows a link to the dashboard.
fn set(name: &str, value: &str, seconds: Option<u32>) -> String {
    let age = seconds.map_or_else(String::new, |seconds| format!("; Max-Age={seconds}"));
    format!("{name}={value}; Path=/; Secure; HttpOnly; SameSite=Lax{age}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_for_this_host_and_not_for_scripts() {
        let cookie = set(SESSION, "x", None);
        for part in [
            "__Host-dashboard=x",
            "Path=/",
            "Secure",
            "HttpOnly",
            "SameSite=Lax",
        ] {
            assert!(cookie.contains(part), "{cookie}");
        }
        assert!(!cookie.contains("Domain"), "{cookie}");
        assert!(set(SIGN_IN, "", Some(0)).ends_with("Max-Age=0"));
    }
}
