//! `POST /oauth/token`: one function per grant type.

use super::{Params, State, now};
use crate::db::{StoredClient, User};
use crate::error::{self, Answer};
use crate::token::{self, Grant};
use axum::extract::rejection::FormRejection;
use axum::extract::{self, Query};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Form, Json};
use serde_json::{Value, json};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

pub(super) async fn token(
    extract::State(state): extract::State<Arc<State>>,
    Query(query): Query<Params>,
    headers: HeaderMap,
    form: Result<Form<Params>, FormRejection>,
) -> Answer {
    let mut form = form.map(|Form(form)| form).unwrap_or_default();
    form.extend(query);
    let kind = form
        .get("grant_type")
        .ok_or_else(|| error::bad_request("invalid_request", "Missing grant type"))?;
    let client = state.client(&headers, &form).await?;
    let kind = [
        "password",
        "refresh_token",
        "client_credentials",
        "authorization_code",
    ]
    .into_iter()
    .find(|known| known == kind)
    .ok_or_else(|| {
        error::bad_request(
            "unsupported_grant_type",
            format!("Unsupported grant type: {kind}"),
        )
    })?;
    if !client.grant_types.iter().any(|allowed| allowed == kind) {
        return Err(error::unauthorized(format!(
            "Unauthorized grant type: {kind}"
        )));
    }
    match kind {
        "password" => password(&state, &client, &form).await,
        "refresh_token" => refresh(&state, &client, &form).await,
        "authorization_code" => code(&state, &client, &form).await,
        _ => {
            let scope = allowed(&client.authorities, &client.authorities, &requested(&form))?;
            issue(
                &state,
                Asked {
                    client: &client,
                    user: None,
                    kind,
                    scope,
                    authenticated_at: now(),
                    refresh: Refresh::None,
                },
            )
        }
    }
}

async fn password(state: &State, client: &StoredClient, form: &Params) -> Answer {
    let want = |name: &'static str| {
        form.get(name).ok_or_else(|| {
            error::bad_request("invalid_request", format!("Missing parameter {name}"))
        })
    };
    let (user_name, password) = (want("username")?, want("password")?);
    let hint: Option<Value> = form
        .get("login_hint")
        .and_then(|hint| serde_json::from_str(hint).ok());
    let origin = hint
        .as_ref()
        .and_then(|hint| hint["origin"].as_str())
        .unwrap_or("uaa");
    let user = state.authenticate(user_name, origin, password).await?;
    let scope = allowed(&user.groups, &client.scopes, &requested(form))?;
    issue(
        state,
        Asked {
            client,
            user: Some(&user),
            kind: "password",
            scope,
            authenticated_at: now(),
            refresh: Refresh::New,
        },
    )
}

async fn code(state: &State, client: &StoredClient, form: &Params) -> Answer {
    let refused = || error::bad_request("invalid_grant", "Invalid authorization code");
    let code = form.get("code").ok_or_else(refused)?;
    let code = state
        .codes
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take(code, Instant::now())
        .ok_or_else(refused)?;
    if code.client_id != client.id {
        return Err(refused());
    }
    let user = state.db.user(&code.user_id).await?.ok_or_else(refused)?;
    let scope = allowed(&user.groups, &client.scopes, &requested(form))?;
    issue(
        state,
        Asked {
            client,
            user: Some(&user),
            kind: "authorization_code",
            scope,
            authenticated_at: now(),
            refresh: Refresh::New,
        },
    )
}

/// The same refresh token goes back: it ends when it ends.
async fn refresh(state: &State, client: &StoredClient, form: &Params) -> Answer {
    let refused =
        || error::invalid_token("The token expired, was revoked, or the token ID is incorrect");
    let text = form
        .get("refresh_token")
        .ok_or_else(|| error::bad_request("invalid_request", "Missing parameter refresh_token"))?;
    let claims = state.key.verify(text).map_err(|_| refused())?;
    let claim = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or("");
    let jti = claim("jti");
    if !jti.ends_with("-r") || claim("client_id") != client.id || state.db.is_revoked(jti).await? {
        return Err(refused());
    }
    let user = state.db.user(claim("user_id")).await?.ok_or_else(refused)?;
    if token::signature(client, Some(&user)) != claim("rev_sig") {
        return Err(refused());
    }
    let granted: Vec<String> = claims
        .get("granted_scopes")
        .and_then(|scopes| serde_json::from_value(scopes.clone()).ok())
        .unwrap_or_default();
    let still: Vec<String> = granted
        .into_iter()
        .filter(|scope| user.groups.contains(scope))
        .collect();
    let scope = allowed(&still, &client.scopes, &requested(form))?;
    let authenticated_at = claims
        .get("auth_time")
        .and_then(Value::as_u64)
        .unwrap_or_else(now);
    issue(
        state,
        Asked {
            client,
            user: Some(&user),
            kind: "refresh_token",
            scope,
            authenticated_at,
            refresh: Refresh::Same(text),
        },
    )
}

fn requested(form: &Params) -> Vec<String> {
    form.get("scope")
        .map(|scope| scope.split_whitespace().map(str::to_owned).collect())
        .unwrap_or_default()
}

fn allowed(granted: &[String], by_client: &[String], requested: &[String]) -> Answer<Vec<String>> {
    token::scopes(granted, by_client, requested).map_err(|refused| {
        error::bad_request(
            "invalid_scope",
            format!("Scope {refused:?} is not allowed for this user and client"),
        )
    })
}

enum Refresh<'a> {
    None,
    New,
    Same(&'a str),
}

struct Asked<'a> {
    client: &'a StoredClient,
    user: Option<&'a User>,
    kind: &'a str,
    scope: Vec<String>,
    authenticated_at: u64,
    refresh: Refresh<'a>,
}

fn issue(state: &State, asked: Asked<'_>) -> Answer {
    let (issuer, jti) = (
        state.urls.issuer(),
        uuid::Uuid::new_v4().simple().to_string(),
    );
    let grant = Grant {
        client: asked.client,
        user: asked.user,
        kind: asked.kind,
        scope: &asked.scope,
        issuer: &issuer,
        now: now(),
        authenticated_at: asked.authenticated_at,
        jti: &jti,
    };
    let mut body = json!({
        "access_token": state.key.sign(&token::access(&grant, state.validity.access))?,
        "token_type": "bearer",
        "expires_in": state.validity.access.as_secs(),
        "scope": asked.scope.join(" "),
        "jti": jti,
    });
    let may_refresh = asked
        .client
        .grant_types
        .iter()
        .any(|grant| grant == "refresh_token");
    let refresh = match asked.refresh {
        Refresh::New if may_refresh => Some(
            state
                .key
                .sign(&token::refresh(&grant, state.validity.refresh))?,
        ),
        Refresh::Same(text) => Some(text.to_owned()),
        Refresh::New | Refresh::None => None,
    };
    if let Some(refresh) = refresh {
        body["refresh_token"] = json!(refresh);
    }
    Ok::<Response, _>(
        (
            [
                (header::CACHE_CONTROL, "no-store"),
                (header::PRAGMA, "no-cache"),
            ],
            Json(body),
        )
            .into_response(),
    )
}
