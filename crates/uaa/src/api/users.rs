//! Users: SCIM, passwords, and who one is.

use super::{Caller, MAX_PASSWORD, Params, State};
use crate::db::{NameTaken, NewUser, User};
use crate::error::{self, Answer};
use crate::scim::{self, Filter};
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{self, Path, Query};
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;

const READ: &[&str] = &["scim.read", "scim.write", "uaa.admin"];
const WRITE: &[&str] = &["scim.write", "uaa.admin"];
/// Names are at most this long (bytes).
const MAX_NAME: usize = 255;

type Body = Result<Json<Value>, JsonRejection>;

pub(super) async fn list(
    extract::State(state): extract::State<Arc<State>>,
    Query(query): Query<Params>,
    headers: HeaderMap,
) -> Answer<Json<Value>> {
    state.caller(&headers).await?.require(READ)?;
    page(&state, &query, scim::document).await
}

/// Names for ids and back, for components that may know no more (`scim.userids`).
pub(super) async fn ids(
    extract::State(state): extract::State<Arc<State>>,
    Query(query): Query<Params>,
    headers: HeaderMap,
) -> Answer<Json<Value>> {
    state.caller(&headers).await?.require(&[
        "scim.userids",
        "scim.read",
        "scim.write",
        "uaa.admin",
    ])?;
    page(
        &state,
        &query,
        |user| json!({ "id": user.id, "userName": user.user_name, "origin": user.origin }),
    )
    .await
}

async fn page(state: &State, query: &Params, show: fn(&User) -> Value) -> Answer<Json<Value>> {
    let wrong = |why: String| error::bad_request("invalid_filter", why);
    let filter = query
        .get("filter")
        .map(|text| Filter::parse(text).map_err(|why| wrong(format!("filter {text:?}: {why}"))))
        .transpose()?;
    let number = |name: &str, default: usize| {
        query.get(name).map_or(Ok(default), |n| {
            n.parse()
                .map_err(|_| wrong(format!("{name} {n:?}: want a number")))
        })
    };
    let (start, count) = (
        number("startIndex", 1)?.max(1),
        number("count", 100)?.min(500),
    );
    let mut users = state.db.users().await?;
    users.retain(|user| filter.as_ref().is_none_or(|filter| filter.matches(user)));
    let resources: Vec<_> = users.iter().skip(start - 1).take(count).map(show).collect();
    Ok(Json(json!({
        "resources": resources, "startIndex": start, "itemsPerPage": count, "totalResults": users.len(), "schemas": ["urn:scim:schemas:core:1.0"],
    })))
}

pub(super) async fn show(
    extract::State(state): extract::State<Arc<State>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer<Json<Value>> {
    let caller = state.caller(&headers).await?;
    if caller.user_id() != Some(id.as_str()) {
        caller.require(READ)?;
    }
    Ok(Json(scim::document(&find(&state, &id).await?)))
}

pub(super) async fn create(
    extract::State(state): extract::State<Arc<State>>,
    headers: HeaderMap,
    body: Body,
) -> Answer<(StatusCode, Json<Value>)> {
    state.caller(&headers).await?.require(WRITE)?;
    let Json(body) =
        body.map_err(|rejected| error::bad_request("invalid_scim_resource", rejected.body_text()))?;
    let text = |pointer: &str| {
        body.pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or("")
            .trim()
            .to_owned()
    };
    let user_name = checked_name(text("/userName"))?;
    let origin = Some(text("/origin"))
        .filter(|origin| !origin.is_empty())
        .unwrap_or_else(|| "uaa".into());
    let password_hash = match body.get("password").and_then(Value::as_str) {
        Some(password) if !password.is_empty() => {
            Some(state.hash(checked_password(password)?).await?)
        }
        _ if origin == "uaa" => {
            return Err(error::bad_request(
                "invalid_password",
                "A password must be provided.",
            ));
        }
        _ => None,
    };
    let or_name = |value: String| {
        if value.is_empty() {
            user_name.clone()
        } else {
            value
        }
    };
    let new = NewUser {
        origin,
        given_name: or_name(text("/name/givenName")),
        family_name: or_name(text("/name/familyName")),
        email: or_name(text("/emails/0/value")),
        password_hash,
        groups: crate::USER_GROUPS.iter().map(ToString::to_string).collect(),
        user_name,
    };
    let user = state.db.create_user(new).await.map_err(taken)?;
    tracing::info!(user = user.user_name, id = user.id, "user-created");
    Ok((StatusCode::CREATED, Json(scim::document(&user))))
}

pub(super) async fn update(
    extract::State(state): extract::State<Arc<State>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<Value>> {
    state.caller(&headers).await?.require(WRITE)?;
    let Json(body) =
        body.map_err(|rejected| error::bad_request("invalid_scim_resource", rejected.body_text()))?;
    let mut user = find(&state, &id).await?;
    let text = |pointer: &str, old: &str| {
        body.pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or(old)
            .trim()
            .to_owned()
    };
    user.user_name = checked_name(text("/userName", &user.user_name))?;
    user.given_name = text("/name/givenName", &user.given_name);
    user.family_name = text("/name/familyName", &user.family_name);
    user.email = text("/emails/0/value", &user.email);
    state.db.update_user(&user).await.map_err(taken)?;
    Ok(Json(scim::document(&find(&state, &id).await?)))
}

pub(super) async fn delete(
    extract::State(state): extract::State<Arc<State>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer<Json<Value>> {
    state.caller(&headers).await?.require(WRITE)?;
    let user = find(&state, &id).await?;
    state.db.delete_user(&id).await?;
    tracing::info!(user = user.user_name, id = user.id, "user-deleted");
    Ok(Json(scim::document(&user)))
}

pub(super) async fn change_password(
    extract::State(state): extract::State<Arc<State>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<Value>> {
    let caller = state.caller(&headers).await?;
    let Json(body) =
        body.map_err(|rejected| error::bad_request("invalid_scim_resource", rejected.body_text()))?;
    let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or("");
    let new = checked_password(text("password"))?;
    let user = may_change(&state, &caller, &id, text("oldPassword")).await?;
    state
        .db
        .set_password(&user.id, &state.hash(new).await?)
        .await?;
    tracing::info!(user = user.user_name, "password-changed");
    Ok(Json(
        json!({ "status": "ok", "message": "password updated" }),
    ))
}

/// A user must know the old password (and is throttled like a login); an administrator of users need not, for others.
async fn may_change(state: &State, caller: &Caller, id: &str, old: &str) -> Answer<User> {
    if caller.user_id() != Some(id) {
        caller.require(&["uaa.admin", "scim.write"])?;
        return find(state, id).await;
    }
    caller.require(&["password.write", "uaa.admin"])?;
    let user = find(state, id).await?;
    match state.authenticate(&user.user_name, &user.origin, old).await {
        Ok(user) => Ok(user),
        Err(_) => Err(error::unauthorized("Old password is incorrect")),
    }
}

pub(super) async fn userinfo(
    extract::State(state): extract::State<Arc<State>>,
    headers: HeaderMap,
) -> Answer<Json<Value>> {
    let caller = state.caller(&headers).await?;
    caller.require(&["openid"])?;
    let user = find(&state, caller.user_id().unwrap_or(""))
        .await
        .map_err(|_| error::invalid_token("The token's user does not exist any more"))?;
    Ok(Json(json!({
        "sub": user.id, "user_id": user.id, "user_name": user.user_name, "origin": user.origin, "email": user.email, "email_verified": true,
        "given_name": user.given_name, "family_name": user.family_name, "name": format!("{} {}", user.given_name, user.family_name).trim(),
    })))
}

async fn find(state: &State, id: &str) -> Answer<User> {
    state.db.user(id).await?.ok_or_else(|| {
        error::not_found(
            "scim_resource_not_found",
            format!("User {id} does not exist"),
        )
    })
}

fn taken(cause: anyhow::Error) -> error::OAuthError {
    match cause.downcast_ref::<NameTaken>() {
        Some(NameTaken(name)) => error::conflict(format!("Username already in use: {name}")),
        None => cause.into(),
    }
}

fn checked_name(name: String) -> Answer<String> {
    match name {
        name if name.is_empty() => Err(error::bad_request(
            "invalid_scim_resource",
            "A username must be provided.",
        )),
        name if name.len() > MAX_NAME || name.chars().any(char::is_control) => {
            Err(error::bad_request(
                "invalid_scim_resource",
                format!(
                    "The username must have at most {MAX_NAME} bytes and no control characters"
                ),
            ))
        }
        name => Ok(name),
    }
}

fn checked_password(password: &str) -> Answer<&str> {
    match password.len() {
        0 => Err(error::bad_request(
            "invalid_password",
            "A password must be provided.",
        )),
        1..=MAX_PASSWORD => Ok(password),
        _ => Err(error::bad_request(
            "invalid_password",
            format!("The password must have at most {MAX_PASSWORD} bytes"),
        )),
    }
}
