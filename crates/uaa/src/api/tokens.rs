//! Looking into tokens and ending them.

use super::{Params, State};
use crate::error::{self, Answer};
use axum::extract::rejection::FormRejection;
use axum::extract::{self, Path};
use axum::http::HeaderMap;
use axum::{Form, Json};
use serde_json::{Value, json};
use std::sync::Arc;

type Fields = Result<Form<Params>, FormRejection>;

/// For resource servers with a client of their own: the claims, or 400.
pub(super) async fn check_token(
    extract::State(state): extract::State<Arc<State>>,
    headers: HeaderMap,
    form: Fields,
) -> Answer<Json<Value>> {
    let form = form.map(|Form(form)| form).unwrap_or_default();
    resource_server(&state, &headers).await?;
    let token = form
        .get("token")
        .ok_or_else(|| error::bad_request("invalid_token", "Missing parameter token"))?;
    let claims = state.access_claims(token).await.map_err(|_| {
        error::bad_request(
            "invalid_token",
            "The token has expired, was revoked or was not signed here",
        )
    })?;
    Ok(Json(Value::Object(claims)))
}

pub(super) async fn introspect(
    extract::State(state): extract::State<Arc<State>>,
    headers: HeaderMap,
    form: Fields,
) -> Answer<Json<Value>> {
    let form = form.map(|Form(form)| form).unwrap_or_default();
    resource_server(&state, &headers).await?;
    let token = form.get("token").map_or("", String::as_str);
    Ok(Json(match state.access_claims(token).await {
        Ok(mut claims) => {
            claims.insert("active".into(), json!(true));
            Value::Object(claims)
        }
        Err(_) => json!({ "active": false }),
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

/// One's own token, or anyone's with `tokens.revoke`.
pub(super) async fn revoke(
    extract::State(state): extract::State<Arc<State>>,
    Path(jti): Path<String>,
    headers: HeaderMap,
) -> Answer<()> {
    let caller = state.caller(&headers).await?;
    let own = caller.text("jti");
    if own != jti && format!("{own}-r") != jti {
        caller.require(&["tokens.revoke", "uaa.admin"])?;
    }
    // How long a foreign token lives is not known here: as long as any.
    let longest = state.validity.access.max(state.validity.refresh).as_secs();
    let until = if own == jti {
        caller.number("exp").unwrap_or(i64::MAX)
    } else {
        i64::try_from(super::now().saturating_add(longest)).unwrap_or(i64::MAX)
    };
    Ok(state.db.revoke(&jti, until).await?)
}

/// Ends all of a user's refresh tokens.
pub(super) async fn revoke_user(
    extract::State(state): extract::State<Arc<State>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer<()> {
    let caller = state.caller(&headers).await?;
    if caller.user_id() != Some(id.as_str()) {
        caller.require(&["tokens.revoke", "uaa.admin"])?;
    }
    Ok(state.db.end_tokens(&id).await?)
}
