//! `POST /oauth/token`: one function per grant type.

use super::body::FormBody;
use super::{Kind, MAX_NAME, Params, State, now, query};
use crate::db::{Code, StoredClient, User};
use crate::error::{self, Answer};
use crate::token::{self, Grant};
use axum::Json;
use axum::extract;
use axum::http::{HeaderMap, Uri, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use std::sync::Arc;

/// The parameters that may be in the URL; the cf CLI sends `login_hint` there. All others must be in the body.
const IN_QUERY: &[&str] = &[
    "client_id",
    "grant_type",
    "login_hint",
    "response_type",
    "scope",
    "token_format",
];

pub(super) async fn token(
    extract::State(state): extract::State<Arc<State>>,
    uri: Uri,
    extract::Query(query): extract::Query<Params>,
    headers: HeaderMap,
    FormBody(mut form): FormBody,
) -> Answer {
    query::check(&uri, |name| IN_QUERY.contains(&name))?;
    for (name, value) in query {
        form.entry(name).or_insert(value);
    }
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
                TokenRequest {
                    client: &client,
                    user: None,
                    kind,
                    scope,
                    authenticated_at: now(),
                    refresh: Refresh::None,
                },
            )
            .await
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
    if user_name.len() > MAX_NAME {
        // No user has such a name. Failed names are remembered, and these would fill the memory.
        return Err(error::bad_credentials());
    }
    let origin = origin(form)?;
    if !state.db.knows_origin(&origin).await? {
        // The CLI recognises this text.
        return Err(error::unauthorized(
            "The origin provided in the login hint is invalid.",
        ));
    }
    let user = state.authenticate(user_name, &origin, password).await?;
    let scope = allowed(&user.groups, &client.scopes, &requested(form))?;
    issue(
        state,
        TokenRequest {
            client,
            user: Some(&user),
            kind: "password",
            scope,
            authenticated_at: now(),
            refresh: Refresh::New,
        },
    )
    .await
}

/// Returns the origin of the user: `login_hint` is `{"origin": "…"}`.
fn origin(form: &Params) -> Answer<String> {
    let Some(text) = form.get("login_hint") else {
        return Ok("uaa".into());
    };
    let hint: Option<Value> = serde_json::from_str(text).ok();
    let origin = hint.as_ref().and_then(|hint| hint.get("origin")?.as_str());
    origin.map(str::to_owned).ok_or_else(|| {
        error::bad_request(
            "invalid_request",
            r#"Parameter login_hint must be a JSON object with an origin, such as {"origin":"uaa"}"#,
        )
    })
}

async fn code(state: &State, client: &StoredClient, form: &Params) -> Answer {
    let refused = || error::bad_request("invalid_grant", "Invalid authorization code");
    let code = form.get("code").ok_or_else(refused)?;
    let code = state.db.take_code(code).await?.ok_or_else(refused)?;
    if code.client_id != client.id || !is_bound_to(&code, form) {
        return Err(refused());
    }
    let user = state.db.user(&code.user_id).await?;
    let user = user.filter(|user| user.active).ok_or_else(refused)?;
    if state.signature(client, Some(&user)).await? != code.rev_sig {
        return Err(refused());
    }
    let scope = allowed(&user.groups, &client.scopes, &requested(form))?;
    issue(
        state,
        TokenRequest {
            client,
            user: Some(&user),
            kind: "authorization_code",
            scope,
            authenticated_at: now(),
            refresh: Refresh::New,
        },
    )
    .await
}

/// Returns whether the request for a token names the redirect URI of the request for the code, and has the secret whose digest that
/// request had (PKCE). A secret without a digest is refused too, because somebody may have removed the digest.
fn is_bound_to(code: &Code, form: &Params) -> bool {
    let names_uri =
        code.redirect_uri.is_empty() || form.get("redirect_uri") == Some(&code.redirect_uri);
    let has_secret = match form.get("code_verifier") {
        None => code.challenge.is_empty(),
        Some(verifier) => {
            (43..=128).contains(&verifier.len()) && token::challenge(verifier) == code.challenge
        }
    };
    names_uri && has_secret
}

/// Issues a new access token. The refresh token is returned unchanged and keeps its expiry.
async fn refresh(state: &State, client: &StoredClient, form: &Params) -> Answer {
    let text = form
        .get("refresh_token")
        .ok_or_else(|| error::bad_request("invalid_request", "Missing parameter refresh_token"))?;
    let valid = state.valid(text, Kind::Refresh).await?;
    let (claims, user) = match valid.user {
        Some(user) if valid.client.id == client.id => (valid.claims, user),
        _ => {
            return Err(error::invalid_token(
                "The refresh token belongs to another client",
            ));
        }
    };
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
        TokenRequest {
            client,
            user: Some(&user),
            kind: "refresh_token",
            scope,
            authenticated_at,
            refresh: Refresh::Same {
                text,
                session: claims.get("session").and_then(Value::as_str).unwrap_or(""),
            },
        },
    )
    .await
}

fn requested(form: &Params) -> Vec<String> {
    form.get("scope")
        .map(|scope| scope.split_whitespace().map(str::to_owned).collect())
        .unwrap_or_default()
}

fn allowed(granted: &[String], by_client: &[String], requested: &[String]) -> Answer<Vec<String>> {
    token::scopes(granted, by_client, requested).map_err(|refused| {
        let refused: String = refused.chars().take(100).collect();
        error::bad_request(
            "invalid_scope",
            format!("Scope {refused:?} is not allowed for this user and client"),
        )
    })
}

enum Refresh<'a> {
    None,
    New,
    Same { text: &'a str, session: &'a str },
}

struct TokenRequest<'a> {
    client: &'a StoredClient,
    user: Option<&'a User>,
    kind: &'a str,
    scope: Vec<String>,
    authenticated_at: u64,
    refresh: Refresh<'a>,
}

async fn issue(state: &State, request: TokenRequest<'_>) -> Answer {
    let (issuer, jti) = (
        state.urls.issuer(),
        uuid::Uuid::new_v4().simple().to_string(),
    );
    let validity = state.validity.of_client(request.client);
    let rev_sig = state.signature(request.client, request.user).await?;
    let grant = Grant {
        client: request.client,
        user: request.user,
        kind: request.kind,
        scope: &request.scope,
        issuer: &issuer,
        now: now(),
        authenticated_at: request.authenticated_at,
        jti: &jti,
        session: match request.refresh {
            Refresh::Same { session, .. } => session,
            Refresh::New | Refresh::None => &jti,
        },
        rev_sig: &rev_sig,
    };
    let mut body = json!({
        "access_token": state.key.sign(&token::access(&grant, validity.access))?,
        "token_type": "bearer",
        "expires_in": validity.access.as_secs(),
        "scope": request.scope.join(" "),
        "jti": jti,
    });
    let may_refresh = request
        .client
        .grant_types
        .iter()
        .any(|grant| grant == "refresh_token");
    let refresh = match request.refresh {
        Refresh::New if may_refresh => {
            Some(state.key.sign(&token::refresh(&grant, validity.refresh))?)
        }
        Refresh::Same { text, .. } => Some(text.to_owned()),
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
