//! One-time codes: a client exchanges each once for a token of a user. The holder of a token gets a code for the ssh proxy; a person
//! with a browser gets one for a program such as the dashboard, after signing in on the [page](super::sign_in).

use super::body::FormBody;
use super::sign_in::{self, Asked};
use super::{MAX_NAME, Params, State};
use crate::db::{self, Code, User};
use crate::error::{self, Answer};
use axum::extract::{self, Query};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use rand::Rng as _;
use std::sync::Arc;

/// The validity of a code in seconds.
const VALID: i64 = 300;
/// The length of a digest of SHA-256 in base64url without padding.
const CHALLENGE: usize = 43;

/// Answers 302 with the code in the redirect's query. The CLI reads it there and does not follow the redirect. A browser without a
/// token gets the page on which its user signs in.
pub(super) async fn authorize(
    extract::State(state): extract::State<Arc<State>>,
    headers: HeaderMap,
    Query(query): Query<Params>,
) -> Answer {
    if !headers.contains_key(header::AUTHORIZATION) && sign_in::is_browser(&headers) {
        let asked = asked(&state, &query).await?;
        return Ok(sign_in::page(&asked, StatusCode::OK, None));
    }
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
    let asked = asked(&state, &query).await?;
    granted(&state, &asked, &user, StatusCode::FOUND).await
}

/// Answers the form of the page: a redirect with a code, or the page again.
pub(super) async fn sign_in(
    extract::State(state): extract::State<Arc<State>>,
    Query(query): Query<Params>,
    FormBody(form): FormBody,
) -> Answer {
    let asked = asked(&state, &query).await?;
    let text = |name: &str| form.get(name).map_or("", String::as_str);
    let (user_name, password) = (text("username"), text("password"));
    // No user has a longer name. Failed names are remembered, and these would fill the memory.
    let user = match user_name.len() <= MAX_NAME {
        true => state.authenticate(user_name, "uaa", password).await,
        false => Err(error::bad_credentials()),
    };
    match user {
        Ok(user) => granted(&state, &asked, &user, StatusCode::SEE_OTHER).await,
        Err(refused) => match refused.refused_password() {
            Some(reason) => Ok(sign_in::page(
                &asked,
                StatusCode::UNAUTHORIZED,
                Some((user_name, reason)),
            )),
            None => Err(refused),
        },
    }
}

/// Checks the request for a code.
async fn asked(state: &State, query: &Params) -> Answer<Asked> {
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
    let redirect_uri = query.get("redirect_uri");
    if redirect_uri.is_some_and(|uri| !client.redirect_uris.contains(uri)) {
        return Err(error::bad_request(
            "invalid_request",
            "redirect_uri is not one of those with which the client is registered",
        ));
    }
    let challenge = query.get("code_challenge").map_or("", String::as_str);
    let method = query.get("code_challenge_method").map(String::as_str);
    let is_digest = challenge.len() == CHALLENGE && method == Some("S256");
    if !is_digest && (!challenge.is_empty() || method.is_some()) {
        return Err(error::bad_request(
            "invalid_request",
            "code_challenge: expected the SHA-256 of the verifier in base64url, and code_challenge_method \"S256\"",
        ));
    }
    let target = redirect_uri.or(client.redirect_uris.first()).cloned();
    Ok(Asked {
        target: target.unwrap_or_else(|| format!("{}/login", state.urls.external)),
        redirect_uri: redirect_uri.cloned().unwrap_or_default(),
        challenge: challenge.to_owned(),
        state: query.get("state").cloned(),
        client,
    })
}

/// Redirects to the client with a new code.
async fn granted(state: &State, asked: &Asked, user: &User, status: StatusCode) -> Answer {
    let code: String = rand::rng()
        .sample_iter(rand::distr::Alphanumeric)
        .take(32)
        .map(char::from)
        .collect();
    let target = &asked.target;
    let mut location = format!(
        "{target}{}code={code}",
        if target.contains('?') { '&' } else { '?' }
    );
    if let Some(asked) = &asked.state {
        location.push_str("&state=");
        location.push_str(&query_encoded(asked));
    }
    let stored = Code {
        rev_sig: state.signature(&asked.client, Some(user)).await?,
        client_id: asked.client.id.clone(),
        user_id: user.id.clone(),
        redirect_uri: asked.redirect_uri.clone(),
        challenge: asked.challenge.clone(),
        expires_at: db::now() + VALID,
    };
    if !state.db.store_code(&code, &stored).await? {
        return Err(error::bad_request(
            "temporarily_unavailable",
            "Too many one-time codes wait to be used: try again in five minutes",
        ));
    }
    let headers = [
        (header::LOCATION, location),
        (header::CACHE_CONTROL, "no-store".into()),
        (header::REFERRER_POLICY, "no-referrer".into()),
    ];
    Ok::<Response, _>((status, headers).into_response())
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
