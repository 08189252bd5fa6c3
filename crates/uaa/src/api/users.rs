//! Users: SCIM, passwords, and information about the caller.

use super::body::JsonBody;
use super::page::Page;
use super::{Caller, MAX_NAME, MAX_PASSWORD, Params, State};
use crate::db::{NameTaken, NewUser, User};
use crate::error::{self, Answer};
use crate::scim::{self, Filter};
use axum::Json;
use axum::extract::{self, Path, Query};
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;

const READ: &[&str] = &["scim.read", "scim.write", "uaa.admin"];
const WRITE: &[&str] = &["scim.write", "uaa.admin"];
const KIND: &str = "invalid_scim_resource";

/// The keys that a body may have. Only the UAA sets those from `approvals` on; a client may send them back as they were shown.
const KEYS: &[&str] = &[
    "userName",
    "password",
    "name",
    "emails",
    "origin",
    "active",
    "approvals",
    "externalId",
    "groups",
    "id",
    "meta",
    "passwordLastModified",
    "schemas",
    "verified",
    "zoneId",
];

pub(super) async fn list(
    extract::State(state): extract::State<Arc<State>>,
    Query(query): Query<Params>,
    headers: HeaderMap,
) -> Answer<Json<Value>> {
    state.caller(&headers).await?.require(READ)?;
    page(&state, &query, scim::document).await
}

/// Returns the names for ids or the ids for names. It is for components that may know no more (`scim.userids`).
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
    let page = Page::of(query)?;
    let mut users = state.db.users().await?;
    users.retain(|user| filter.as_ref().is_none_or(|filter| filter.matches(user)));
    Ok(Json(page.show(&users, show, "urn:scim:schemas:core:1.0")))
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
    body: JsonBody,
) -> Answer<(StatusCode, Json<Value>)> {
    state.caller(&headers).await?.require(WRITE)?;
    let given = Given::read(body)?;
    if let Some(groups) = given.body.get("groups").filter(|groups| !is_empty(groups)) {
        return Err(error::bad_request(
            KIND,
            format!("groups {groups}: a new user is in the groups of all users; leave the key out"),
        ));
    }
    let text = |pointer: &str| given.text(pointer).map(Option::unwrap_or_default);
    let origin = Some(text("/origin")?)
        .filter(|origin| !origin.is_empty())
        .unwrap_or_else(|| "uaa".into());
    let user_name = checked_name(text("/userName")?, &origin)?;
    let password = match given.body.get("password") {
        None | Some(Value::Null) => "",
        Some(Value::String(password)) => password,
        Some(_) => return Err(error::bad_request(KIND, "password: expected text")),
    };
    let password_hash = match password {
        password if !password.is_empty() => Some(state.hash(checked_password(password)?).await?),
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
        given_name: or_name(text("/name/givenName")?),
        family_name: or_name(text("/name/familyName")?),
        email: or_name(text("/emails/0/value")?),
        password_hash,
        active: activity(&given.body)?.unwrap_or(true),
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
    body: JsonBody,
) -> Answer<Json<Value>> {
    state.caller(&headers).await?.require(WRITE)?;
    let given = Given::read(body)?;
    let mut user = find(&state, &id).await?;
    given.changes_only_what_may_change(&user)?;
    let text = |pointer: &str, old: &str| {
        let text = given.text(pointer)?;
        Answer::Ok(text.unwrap_or_else(|| old.to_owned()))
    };
    let user_name = text("/userName", &user.user_name)?;
    // A name that is older than this rule may stay.
    if user_name != user.user_name {
        user.user_name = checked_name(user_name, &user.origin)?;
    }
    user.active = activity(&given.body)?.unwrap_or(user.active);
    user.given_name = text("/name/givenName", &user.given_name)?;
    user.family_name = text("/name/familyName", &user.family_name)?;
    user.email = text("/emails/0/value", &user.email)?;
    state.db.update_user(&user).await.map_err(taken)?;
    tracing::info!(user = user.user_name, active = user.active, "user-updated");
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
    body: JsonBody,
) -> Answer<Json<Value>> {
    let caller = state.caller(&headers).await?;
    body.only("invalid_password", &["oldPassword", "password", "schemas"])?;
    let new = checked_password(body.text("password"))?;
    let user = may_change(&state, &caller, &id, body.text("oldPassword")).await?;
    if state.matches(user.password_hash.as_deref(), new).await? {
        return Err(error::unprocessable_password(
            "Your new password cannot be the same as the old password.",
        ));
    }
    state
        .db
        .set_password(&user.id, &state.hash(new).await?)
        .await?;
    tracing::info!(user = user.user_name, "password-changed");
    Ok(Json(
        json!({ "status": "ok", "message": "password updated" }),
    ))
}

/// Checks whether the caller may change a password. A user must know the old password (and is throttled like a login). An
/// administrator may change the passwords of others without it. A caller who may only write users is refused, because the
/// password of an administrator would make the caller one.
async fn may_change(state: &State, caller: &Caller, id: &str, old: &str) -> Answer<User> {
    if caller.user_id() != Some(id) {
        caller.require(&["uaa.admin"])?;
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

/// A user document of a client, checked for unknown keys.
struct Given {
    body: Value,
}

impl Given {
    fn read(body: JsonBody) -> Answer<Self> {
        body.only(KIND, KEYS)?;
        let body = Value::Object(body.0);
        let is_null_or = |key: &str, is: fn(&Value) -> bool| {
            body.get(key)
                .is_none_or(|value| value.is_null() || is(value))
        };
        if !is_null_or("name", Value::is_object) {
            return Err(error::bad_request(KIND, "name: expected an object"));
        }
        if !is_null_or("emails", Value::is_array) {
            return Err(error::bad_request(
                KIND,
                "emails: expected a list of objects",
            ));
        }
        Ok(Self { body })
    }

    /// Returns the text at a pointer; `None` if the body does not have it.
    fn text(&self, pointer: &str) -> Answer<Option<String>> {
        match self.body.pointer(pointer) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.trim().to_owned())),
            Some(other) => Err(error::bad_request(
                KIND,
                format!("{} {other}: expected text", pointer.trim_start_matches('/')),
            )),
        }
    }

    /// Refuses values that an update would ignore, unless they equal the present ones.
    fn changes_only_what_may_change(&self, user: &User) -> Answer<()> {
        let refused = |why: String| Err(error::bad_request(KIND, why));
        if !self.body.get("password").unwrap_or(&Value::Null).is_null() {
            return refused(format!(
                "password: change it with PUT /Users/{}/password",
                user.id
            ));
        }
        let shown = scim::document(user);
        for key in ["id", "origin", "verified", "zoneId"] {
            let given = self.body.get(key).unwrap_or(&Value::Null);
            if !given.is_null() && given != &shown[key] && given != "" {
                return refused(format!(
                    "{key} {given}: it is {} and cannot be changed",
                    shown[key]
                ));
            }
        }
        let names = |groups: &Value| -> std::collections::BTreeSet<String> {
            let groups = groups.as_array().into_iter().flatten();
            let name = |group: &Value| Some(group.get("display")?.as_str()?.to_owned());
            groups.filter_map(name).collect()
        };
        match self.body.get("groups") {
            Some(groups) if !is_empty(groups) && names(groups) != names(&shown["groups"]) => {
                refused(
                    "groups: they cannot be changed here; send them unchanged, or leave them out"
                        .into(),
                )
            }
            _ => Ok(()),
        }
    }
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

/// Returns whether the user should be active; `None` if the body does not have it.
fn activity(body: &Value) -> Answer<Option<bool>> {
    match body.get("active") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(active)) => Ok(Some(*active)),
        Some(other) => Err(error::bad_request(
            "invalid_scim_resource",
            format!("active {other}: expected true or false"),
        )),
    }
}

/// Checks a user name as Cloud Foundry's UAA does: other origins have rules of their own, except for what no name may contain.
fn checked_name(name: String, origin: &str) -> Answer<String> {
    let wrong = |why: String| Err(error::bad_request(KIND, why));
    let usual = |c: char| {
        c.is_alphabetic() || matches!(c, '0'..='9' | '+' | '-' | '_' | '.' | '@' | '\'' | '!')
    };
    match name {
        name if name.is_empty() => wrong("A username must be provided.".into()),
        name if name.len() > MAX_NAME || name.chars().any(char::is_control) => wrong(format!(
            "The username must have at most {MAX_NAME} bytes and no control characters"
        )),
        name if origin == "uaa" && !name.chars().all(usual) => {
            wrong("Username must match pattern: [\\p{L}+0-9+\\-_.@'!]+".into())
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
