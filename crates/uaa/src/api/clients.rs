//! OAuth clients: list, create, show, update, delete, and their secrets.
//!
//! Administrators (`uaa.admin`, `clients.admin`) may grant a client any scope; others (`clients.write`) only the scopes of their
//! own token. Clients of the configuration are shown like all others, but only the configuration changes them. A secret is stored
//! as a hash and never shown.

use super::body::JsonBody;
use super::{Caller, MAX_PASSWORD, Params, State};
use crate::db::{ClientTaken, StoredClient};
use crate::error::{self, Answer, OAuthError};
use crate::password;
use crate::scim::Filter;
use axum::Json;
use axum::extract::{self, Path, Query};
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const READ: &[&str] = &["clients.read", "clients.admin", "uaa.admin"];
const WRITE: &[&str] = &["clients.write", "clients.admin", "uaa.admin"];
const ADMIN: &[&str] = &["clients.admin", "uaa.admin"];
const SECRET: &[&str] = &["clients.secret", "clients.admin", "uaa.admin"];

const GRANT_TYPES: &[&str] = &[
    "authorization_code",
    "client_credentials",
    "password",
    "refresh_token",
];
/// The scopes that anybody who may write clients may grant.
const HARMLESS: &[&str] = &["openid", "uaa.none"];
const KEYS: &[&str] = &[
    "access_token_validity",
    "allowedproviders",
    "authorities",
    "authorized_grant_types",
    "autoapprove",
    "client_id",
    "client_secret",
    "lastModified",
    "name",
    "redirect_uri",
    "refresh_token_validity",
    "resource_ids",
    "scope",
];
/// The maximum number of words in one list. The next constant is the maximum length of an id, a name or a word in bytes.
const MOST_WORDS: usize = 200;
const LONGEST: usize = 255;
const KIND: &str = "invalid_client";

pub(super) async fn list(
    extract::State(state): extract::State<Arc<State>>,
    Query(query): Query<Params>,
    headers: HeaderMap,
) -> Answer<Json<Value>> {
    state.caller(&headers).await?.require(READ)?;
    let known = [
        "attributes",
        "count",
        "filter",
        "sortBy",
        "sortOrder",
        "startIndex",
    ];
    if let Some(name) = query.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(refused(format!("Parameter {name} is unknown")));
    }
    let filter = query.get("filter").map(|text| {
        Filter::parse_for(text, &["client_id", "id", "name", "authorized_grant_types"])
            .map_err(|why| error::bad_request("invalid_filter", format!("filter {text:?}: {why}")))
    });
    let filter = filter.transpose()?;
    let page = super::page::Page::of(&query)?;
    let mut clients = state.db.clients().await?;
    clients.retain(|client| {
        filter.as_ref().is_none_or(|filter| {
            filter.holds(|attribute| match attribute {
                "name" => vec![client.name.clone()],
                "authorized_grant_types" => client.grant_types.clone(),
                _ => vec![client.id.clone()],
            })
        })
    });
    match query.get("sortBy").map(String::as_str) {
        None | Some("client_id" | "id") => {}
        Some("lastModified" | "lastmodified") => clients.sort_by_key(|client| client.updated_at),
        Some(other) => {
            return Err(refused(format!(
                "sortBy {other:?}: expected client_id or lastModified"
            )));
        }
    }
    match query.get("sortOrder").map(String::as_str) {
        None | Some("ascending") => {}
        Some("descending") => clients.reverse(),
        Some(other) => {
            return Err(refused(format!(
                "sortOrder {other:?}: expected ascending or descending"
            )));
        }
    }
    Ok(Json(page.show(
        &clients,
        document,
        "http://cloudfoundry.org/schema/scim/oauth-clients-1.0",
    )))
}

pub(super) async fn show(
    extract::State(state): extract::State<Arc<State>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer<Json<Value>> {
    state.caller(&headers).await?.require(READ)?;
    Ok(Json(document(&find(&state, &id).await?)))
}

pub(super) async fn create(
    extract::State(state): extract::State<Arc<State>>,
    headers: HeaderMap,
    body: JsonBody,
) -> Answer<(StatusCode, Json<Value>)> {
    let caller = state.caller(&headers).await?;
    caller.require(WRITE)?;
    let secret = body.text("client_secret").to_owned();
    let mut client = checked(&caller, &body, state.validity.longest(), None)?;
    if secret.is_empty() {
        return Err(refused("Client secret is missing: send client_secret"));
    }
    client.secret_hash = hashed(&secret)?;
    state.db.create_client(&client).await.map_err(taken)?;
    tracing::info!(client = client.id, by = by(&caller), "client-created");
    let stored = find(&state, &client.id).await?;
    Ok((StatusCode::CREATED, Json(document(&stored))))
}

pub(super) async fn update(
    extract::State(state): extract::State<Arc<State>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: JsonBody,
) -> Answer<Json<Value>> {
    let caller = state.caller(&headers).await?;
    caller.require(WRITE)?;
    let known = changeable(&state, &id).await?;
    if body.0.contains_key("client_secret") {
        return Err(refused(format!(
            "Key client_secret is not allowed here: change a secret with PUT /oauth/clients/{id}/secret"
        )));
    }
    let client = checked(&caller, &body, state.validity.longest(), Some(&known))?;
    state.db.update_client(&client).await?;
    tracing::info!(client = client.id, by = by(&caller), "client-updated");
    Ok(Json(document(&find(&state, &id).await?)))
}

pub(super) async fn delete(
    extract::State(state): extract::State<Arc<State>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer<Json<Value>> {
    let caller = state.caller(&headers).await?;
    caller.require(WRITE)?;
    let client = changeable(&state, &id).await?;
    within_own(&caller, "delete", &client.scopes)?;
    within_own(&caller, "delete", &client.authorities)?;
    state.db.delete_client(&id).await?;
    tracing::info!(client = id, by = by(&caller), "client-deleted");
    Ok(Json(document(&client)))
}

/// Changes a secret. A client changes its own secret with the old one; an administrator changes any secret without it. The tokens
/// of the old secret are revoked.
pub(super) async fn change_secret(
    extract::State(state): extract::State<Arc<State>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: JsonBody,
) -> Answer<Json<Value>> {
    let caller = state.caller(&headers).await?;
    caller.require(SECRET)?;
    body.only(KIND, &["clientId", "oldSecret", "secret", "changeMode"])?;
    if !matches!(body.text("changeMode"), "" | "UPDATE") {
        return Err(refused(
            "changeMode: only UPDATE is supported, a client has one secret",
        ));
    }
    if !matches!(body.text("clientId"), "") && body.text("clientId") != id {
        return Err(refused("clientId is not the client of the URL"));
    }
    let is_admin = caller.require(ADMIN).is_ok();
    let is_own = caller.user_id().is_none() && caller.text("client_id") == id;
    if !is_admin && !is_own {
        return Err(error::insufficient_scope(&ADMIN.join(" ")));
    }
    let client = changeable(&state, &id).await?;
    let (old, new) = (body.text("oldSecret"), body.text("secret"));
    if !is_admin && !password::matches(&client.secret_hash, old) {
        return Err(refused("Previous secret is required and must be valid"));
    }
    if new.is_empty() {
        return Err(refused("Client secret is missing: send secret"));
    }
    if password::matches(&client.secret_hash, new) {
        return Err(refused("The new secret equals the old one: send another"));
    }
    state.db.set_client_secret(&id, &hashed(new)?).await?;
    tracing::info!(client = id, by = by(&caller), "client-secret-changed");
    Ok(Json(
        json!({ "status": "ok", "message": "Secret is updated" }),
    ))
}

/// Returns the client that the body describes. `known` is the existing client; fields that the body does not name become empty,
/// as PUT requires.
fn checked(
    caller: &Caller,
    body: &JsonBody,
    longest: Duration,
    known: Option<&StoredClient>,
) -> Answer<StoredClient> {
    body.only(KIND, KEYS)?;
    let id = match (body.text("client_id"), known) {
        ("", Some(known)) => known.id.clone(),
        (id, Some(known)) if id != known.id => {
            return Err(refused(format!(
                "client_id {id:?} is not the client of the URL"
            )));
        }
        (id, _) => name("client_id", id)?,
    };
    if id.is_empty() {
        return Err(refused("Client ID is missing: send client_id"));
    }
    nothing_else(body)?;
    let list = |key| words(body, key);
    let client = StoredClient {
        name: name("name", body.text("name"))?,
        scopes: or_none(list("scope")?),
        authorities: or_none(list("authorities")?),
        grant_types: list("authorized_grant_types")?,
        redirect_uris: list("redirect_uri")?,
        access_validity: validity(body, "access_token_validity", longest)?,
        refresh_validity: validity(body, "refresh_token_validity", longest)?,
        id,
        ..known.cloned().unwrap_or_default()
    };
    grants(&client)?;
    within_own(caller, "scope", &client.scopes)?;
    within_own(caller, "authorities", &client.authorities)?;
    if let Some(known) = known {
        within_own(caller, "scope", &known.scopes)?;
        within_own(caller, "authorities", &known.authorities)?;
    }
    Ok(client)
}

/// Checks keys of Cloud Foundry's UAA that are not supported here. Only the value that requests nothing is accepted.
fn nothing_else(body: &JsonBody) -> Answer<()> {
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(list) => list.iter().all(|word| word == "none"),
        Value::String(text) => text.is_empty() || text == "none",
        _ => false,
    };
    for key in ["allowedproviders", "resource_ids"] {
        if body.0.get(key).is_some_and(|value| !is_empty(value)) {
            return Err(refused(format!(
                "Key {key} is not supported yet: leave it out"
            )));
        }
    }
    let approve = body.0.get("autoapprove");
    let asks = |value: &Value| match value {
        Value::Null | Value::Bool(_) => false,
        Value::Array(list) => list.iter().any(|scope| !scope.is_string()),
        Value::String(text) => !matches!(text.as_str(), "true" | "false"),
        _ => true,
    };
    if approve.is_some_and(asks) {
        return Err(refused(
            "Key autoapprove: expected true, false or a list of scopes",
        ));
    }
    Ok(())
}

fn grants(client: &StoredClient) -> Answer<()> {
    let has = |kind: &str| client.grant_types.iter().any(|grant| grant == kind);
    if client.grant_types.is_empty() {
        return Err(refused(format!(
            "An authorized grant type must be provided. Must be one of: {}",
            GRANT_TYPES.join(", ")
        )));
    }
    let unknown = |grant: &&String| !GRANT_TYPES.contains(&grant.as_str());
    if let Some(unknown) = client.grant_types.iter().find(unknown) {
        return Err(refused(format!(
            "{unknown} is not an allowed grant type. Must be one of: {}",
            GRANT_TYPES.join(", ")
        )));
    }
    if client.grant_types.len() == 1 && has("refresh_token") {
        return Err(refused(
            "The grant type refresh_token needs a second grant type: authorization_code or password",
        ));
    }
    if has("authorization_code") && client.redirect_uris.is_empty() {
        return Err(refused(
            "The grant type authorization_code needs a redirect_uri",
        ));
    }
    for uri in &client.redirect_uris {
        let parsed: Option<axum::http::Uri> = uri.parse().ok();
        let is_web = parsed.is_some_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some()
        });
        if !is_web || uri.contains('*') || uri.contains('#') {
            return Err(refused(format!(
                "redirect_uri {uri:?}: expected a whole URL such as https://app.example.com/callback, without * and #"
            )));
        }
    }
    Ok(())
}

/// Refuses words that the caller does not have, unless the caller is an administrator. Other callers may neither grant nor remove
/// them.
fn within_own(caller: &Caller, key: &str, words: &[String]) -> Answer<()> {
    if caller.require(ADMIN).is_ok() {
        return Ok(());
    }
    let own = caller.scopes();
    let beyond =
        |word: &&String| !own.contains(&word.as_str()) && !HARMLESS.contains(&word.as_str());
    match words.iter().find(beyond) {
        None => Ok(()),
        Some(word) => Err(error::bad_request(
            "invalid_scope",
            format!(
                "{key}: {word} is not allowed: your own token does not contain it, and you have none of {}",
                ADMIN.join(", ")
            ),
        )),
    }
}

fn or_none(words: Vec<String>) -> Vec<String> {
    if words.is_empty() {
        vec!["uaa.none".into()]
    } else {
        words
    }
}

/// Returns the words of a key: a list, or one text with commas.
fn words(body: &JsonBody, key: &str) -> Answer<Vec<String>> {
    let wrong = || refused(format!("Key {key}: expected a list of texts"));
    let list: Vec<&str> = match body.0.get(key) {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) => text.split(',').map(str::trim).collect(),
        Some(Value::Array(list)) => {
            let texts = list.iter().map(Value::as_str);
            texts.collect::<Option<_>>().ok_or_else(wrong)?
        }
        Some(_) => return Err(wrong()),
    };
    let mut words: Vec<String> = Vec::new();
    for word in list.into_iter().filter(|word| !word.is_empty()) {
        let strange = |c: char| c.is_whitespace() || c.is_control();
        if word.len() > LONGEST || word.contains(strange) {
            return Err(refused(format!(
                "Key {key} has {word:?}: expected at most {LONGEST} bytes without blanks"
            )));
        }
        if !words.iter().any(|known| known == word) {
            words.push(word.to_owned());
        }
    }
    if words.len() > MOST_WORDS {
        return Err(refused(format!(
            "Key {key} has more than {MOST_WORDS} entries"
        )));
    }
    Ok(words)
}

fn name(key: &str, text: &str) -> Answer<String> {
    if text.len() > LONGEST || text.chars().any(char::is_control) || text.trim() != text {
        return Err(refused(format!(
            "{key} {text:?}: expected at most {LONGEST} bytes, without control characters and without blanks at its ends"
        )));
    }
    Ok(text.to_owned())
}

fn validity(body: &JsonBody, key: &str, longest: Duration) -> Answer<Option<u32>> {
    let longest = longest.as_secs();
    match body.0.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64().filter(|n| (1..=longest).contains(n)) {
            Some(seconds) => Ok(u32::try_from(seconds).ok()),
            None => Err(refused(format!(
                "{key} {value}: expected seconds from 1 to {longest}"
            ))),
        },
    }
}

fn hashed(secret: &str) -> Answer<String> {
    if secret.len() > MAX_PASSWORD || secret.chars().any(char::is_control) {
        return Err(refused(format!(
            "The client secret must have at most {MAX_PASSWORD} bytes and no control characters"
        )));
    }
    Ok(password::hash(secret, password::CLIENT))
}

async fn find(state: &State, id: &str) -> Answer<StoredClient> {
    state
        .db
        .client(id)
        .await?
        .ok_or_else(|| error::not_found("not_found", format!("No client with requested id: {id}")))
}

async fn changeable(state: &State, id: &str) -> Answer<StoredClient> {
    let client = find(state, id).await?;
    if client.configured {
        return Err(error::forbidden(
            KIND,
            format!(
                "Client {id} belongs to the foundation and can only be changed in the foundation's configuration"
            ),
        ));
    }
    Ok(client)
}

fn document(client: &StoredClient) -> Value {
    let mut document = json!({
        "client_id": client.id,
        "scope": client.scopes,
        "authorities": client.authorities,
        "authorized_grant_types": client.grant_types,
        "redirect_uri": client.redirect_uris,
        "resource_ids": ["none"],
        "autoapprove": [],
        "lastModified": client.updated_at * 1000,
    });
    if !client.name.is_empty() {
        document["name"] = json!(client.name);
    }
    for (key, seconds) in [
        ("access_token_validity", client.access_validity),
        ("refresh_token_validity", client.refresh_validity),
    ] {
        if let Some(seconds) = seconds {
            document[key] = json!(seconds);
        }
    }
    document
}

fn by(caller: &Caller) -> &str {
    caller.user_id().unwrap_or_else(|| caller.text("client_id"))
}

fn refused(why: impl Into<String>) -> OAuthError {
    error::bad_request(KIND, why)
}

fn taken(cause: anyhow::Error) -> OAuthError {
    match cause.downcast_ref::<ClientTaken>() {
        Some(ClientTaken(id)) => error::client_exists(id),
        None => cause.into(),
    }
}
