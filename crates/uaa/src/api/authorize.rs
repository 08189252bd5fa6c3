//! One-time codes: the holder of a token gets a code that a client (the ssh proxy) exchanges once for a token of its own.

use super::{Params, State};
use crate::db::{self, Code};
use crate::error::{self, Answer};
use axum::extract::{self, Query};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use rand::Rng as _;
use std::sync::Arc;

/// The validity of a code in seconds.
const VALID: i64 = 300;

/// Answers 302 with the code in the redirect's query. The CLI reads it there and does not follow the redirect.
pub(super) async fn authorize(
    extract::State(state): extract::State<Arc<State>>,
    headers: HeaderMap,
    Query(query): Query<Params>,
) -> Answer {
    let caller = state.caller(&headers).await?;
    // The code grants everything that the client may have, so a token with reduced scopes must not get one.
    caller.require(&["uaa.user"])?;
    let user_id = caller.user_id().ok_or_else(|| {
        error::bad_request(
            "access_denied",
            "The token of a client cannot get a code: log in as a user",
        )
    })?;
    let user = state
        .db
        .user(user_id)
        .await?
        .ok_or_else(|| error::invalid_token("The token's user does not exist any more"))?;
    if query.get("response_type").map(String::as_str) != Some("code") {
        return Err(error::bad_request(
            "unsupported_response_type",
            "response_type: expected \"code\"",
        ));
    }
    let id = query.get("client_id").map_or("", String::as_str);
    let client = state.db.client(id).await?.ok_or_else(|| {
        error::bad_request(
            "invalid_request",
            format!("No client with requested id: {id}"),
        )
    })?;
    if !client
        .grant_types
        .iter()
        .any(|grant| grant == "authorization_code")
    {
        return Err(error::bad_request(
            "unauthorized_client",
            format!("Client {id} does not use one-time codes"),
        ));
    }
    let asked = query.get("redirect_uri");
    if asked.is_some_and(|uri| !client.redirect_uris.contains(uri)) {
        return Err(error::bad_request(
            "invalid_request",
            "redirect_uri is not one of those with which the client is registered",
        ));
    }
    let code: String = rand::rng()
        .sample_iter(rand::distr::Alphanumeric)
        .take(32)
        .map(char::from)
        .collect();
    let target = asked
        .or(client.redirect_uris.first())
        .cloned()
        .unwrap_or_else(|| format!("{}/login", state.urls.external));
    let mut location = format!(
        "{target}{}code={code}",
        if target.contains('?') { '&' } else { '?' }
    );
    if let Some(asked) = query.get("state") {
        location.push_str("&state=");
        location.push_str(&query_encoded(asked));
    }
    let stored = Code {
        rev_sig: state.signature(&client, Some(&user)).await?,
        client_id: client.id,
        user_id: user.id,
        expires_at: db::now() + VALID,
    };
    if !state.db.store_code(&code, &stored).await? {
        return Err(error::bad_request(
            "temporarily_unavailable",
            "Too many one-time codes wait to be used: try again in five minutes",
        ));
    }
    Ok::<Response, _>(
        (
            StatusCode::FOUND,
            [
                (header::LOCATION, location),
                (header::CACHE_CONTROL, "no-store".into()),
            ],
        )
            .into_response(),
    )
}

/// Percent-encodes a text for a query, except for letters, digits and `-._~`.
fn query_encoded(text: &str) -> String {
    let encoded = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    };
    text.bytes().map(encoded).collect()
}
