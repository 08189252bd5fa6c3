//! Information about the server: prompts, keys, discovery.

use super::State;
use axum::Json;
use axum::extract;
use serde_json::{Value, json};
use std::sync::Arc;

/// The API level of Cloud Foundry's UAA that this subset follows. The CLI requires at least 4.26.
const API_LEVEL: &str = "77.20.0";

pub(super) async fn login(extract::State(state): extract::State<Arc<State>>) -> Json<Value> {
    Json(json!({
        "app": { "version": API_LEVEL, "name": "cupola-uaa" },
        "commit_id": env!("CARGO_PKG_VERSION"),
        "zone_name": "uaa",
        "entityID": state.urls.login.split_once("://").map_or("", |(_, host)| host),
        "links": { "uaa": state.urls.external, "login": state.urls.login },
        "prompts": { "username": ["text", "Email"], "password": ["password", "Password"] },
    }))
}

pub(super) async fn token_keys(extract::State(state): extract::State<Arc<State>>) -> Json<Value> {
    Json(json!({ "keys": [state.key.jwk()] }))
}

pub(super) async fn token_key(extract::State(state): extract::State<Arc<State>>) -> Json<Value> {
    Json(state.key.jwk().clone())
}

pub(super) async fn openid_configuration(
    extract::State(state): extract::State<Arc<State>>,
) -> Json<Value> {
    let at = |path: &str| format!("{}{path}", state.urls.external);
    Json(json!({
        "issuer": state.urls.issuer(),
        "authorization_endpoint": format!("{}/oauth/authorize", state.urls.login),
        "token_endpoint": at("/oauth/token"),
        "userinfo_endpoint": at("/userinfo"),
        "jwks_uri": at("/token_keys"),
        "introspection_endpoint": at("/introspect"),
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "scopes_supported": ["openid"],
        "response_types_supported": ["code"],
        "code_challenge_methods_supported": ["S256"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "claims_supported": ["sub", "user_name", "user_id", "origin", "iss", "exp", "iat", "aud", "scope", "client_id", "jti", "email"],
    }))
}
