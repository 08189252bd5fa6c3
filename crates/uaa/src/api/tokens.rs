//! Introspection and revocation of tokens.

use super::body::FormBody;
use super::{Caller, Params, State};
use crate::error::{self, Answer};
use axum::Json;
use axum::extract::{self, Path};
use axum::http::HeaderMap;
use serde_json::{Value, json};
use std::sync::Arc;

/// Returns the claims of a token, or 400. It is for resource servers with a client of their own.
pub(super) async fn check_token(
    extract::State(state): extract::State<Arc<State>>,
    headers: HeaderMap,
    FormBody(form): FormBody,
) -> Answer<Json<Value>> {
    resource_server(&state, &headers).await?;
    let token = form
        .get("token")
        .ok_or_else(|| error::bad_request("invalid_token", "Missing parameter token"))?;
    match state.access_claims(token).await {
        Ok(claims) => Ok(Json(Value::Object(claims))),
        Err(refused) if refused.is_invalid_token() => Err(error::bad_request(
            "invalid_token",
            "The token has expired, was revoked or was not signed here",
        )),
        Err(failed) => Err(failed),
    }
}

pub(super) async fn introspect(
    extract::State(state): extract::State<Arc<State>>,
    headers: HeaderMap,
    FormBody(form): FormBody,
) -> Answer<Json<Value>> {
    resource_server(&state, &headers).await?;
    let token = form.get("token").map_or("", String::as_str);
    Ok(Json(match state.access_claims(token).await {
        Ok(mut claims) => {
            claims.insert("active".into(), json!(true));
            Value::Object(claims)
        }
        Err(refused) if refused.is_invalid_token() => json!({ "active": false }),
        Err(failed) => return Err(failed),
    }))
}

async fn resource_server(state: &State, headers: &HeaderMap) -> Answer<()> {
    let client = state.client(headers, &Params::new()).await?;
    if client
        .authorities
        .iter()
        .any(|authority| authority == "uaa.resource")
    {
        Ok(())
    } else {
        Err(error::insufficient_scope("uaa.resource"))
    }
}

const REVOKERS: &[&str] = &["tokens.revoke", "uaa.admin"];

/// Revokes the caller's own token, or anyone's with `tokens.revoke`. The `jti` of a login's first token names all tokens of that
/// login: revoking that token, or the login's refresh token, revokes all of them.
pub(super) async fn revoke(
    extract::State(state): extract::State<Arc<State>>,
    Path(jti): Path<String>,
    headers: HeaderMap,
) -> Answer<()> {
    let caller = state.bearer(&headers).await?;
    let named = jti.strip_suffix("-r").unwrap_or(&jti);
    let (own, session) = (caller.text("jti"), caller.text("session"));
    let is_own = named == own || named == session;
    if !is_own {
        caller.require(REVOKERS)?;
    }
    // After a logout, the refresh token that belongs to the access token must not work either.
    let named = if is_own && !session.is_empty() {
        session
    } else {
        named
    };
    let longest = state.validity.longest().as_secs();
    let until = i64::try_from(super::now().saturating_add(longest)).unwrap_or(i64::MAX);
    state.db.revoke(named, until).await?;
    tracing::info!(jti = named, by = by(&caller), "token-revoked");
    Ok(())
}

/// Revokes all tokens of a user: the caller's own, or anyone's with `tokens.revoke`.
pub(super) async fn revoke_user(
    extract::State(state): extract::State<Arc<State>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer<()> {
    let caller = state.bearer(&headers).await?;
    if caller.user_id() != Some(id.as_str()) {
        caller.require(REVOKERS)?;
    }
    known_user(&state, &id).await?;
    state.db.end_tokens_of_user(&id).await?;
    tracing::info!(user_id = id, by = by(&caller), "tokens-of-user-revoked");
    Ok(())
}

/// Revokes all tokens that were issued through a client: the caller's own with a token of that client, or any with
/// `tokens.revoke`.
pub(super) async fn revoke_client(
    extract::State(state): extract::State<Arc<State>>,
    Path(client): Path<String>,
    headers: HeaderMap,
) -> Answer<()> {
    let caller = state.bearer(&headers).await?;
    let is_own = caller.user_id().is_none() && caller.text("client_id") == client;
    if !is_own {
        caller.require(REVOKERS)?;
    }
    known_client(&state, &client).await?;
    state.db.end_tokens_of_client(&client).await?;
    tracing::info!(client, by = by(&caller), "tokens-of-client-revoked");
    Ok(())
}

/// Revokes the tokens that a user got through one client.
pub(super) async fn revoke_pair(
    extract::State(state): extract::State<Arc<State>>,
    Path((id, client)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer<()> {
    let caller = state.bearer(&headers).await?;
    if caller.user_id() != Some(id.as_str()) {
        caller.require(REVOKERS)?;
    }
    known_user(&state, &id).await?;
    known_client(&state, &client).await?;
    state.db.end_tokens_of_pair(&id, &client).await?;
    tracing::info!(
        user_id = id,
        client,
        by = by(&caller),
        "tokens-of-user-revoked"
    );
    Ok(())
}

fn by(caller: &Caller) -> &str {
    caller.user_id().unwrap_or_else(|| caller.text("client_id"))
}

async fn known_user(state: &State, id: &str) -> Answer<()> {
    match state.db.user(id).await? {
        Some(_) => Ok(()),
        None => Err(error::not_found(
            "scim_resource_not_found",
            format!("User {id} does not exist"),
        )),
    }
}

async fn known_client(state: &State, id: &str) -> Answer<()> {
    match state.db.client(id).await? {
        Some(_) => Ok(()),
        None => Err(error::not_found(
            "not_found",
            format!("No client with requested id: {id}"),
        )),
    }
}
