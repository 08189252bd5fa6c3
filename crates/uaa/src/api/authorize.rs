//! One-time codes: whoever holds a token gets a code that a client (the ssh proxy) exchanges, once, for a token of its own.

use super::{Params, State};
use crate::error::{self, Answer};
use axum::extract::{self, Query};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use rand::Rng as _;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

const VALID: Duration = Duration::from_secs(300);
const MAX_CODES: usize = 10_000;

/// Codes that were given out and not yet used; lost at a restart, which costs a user one more try.
#[derive(Debug, Default)]
pub(crate) struct Codes {
    codes: HashMap<String, Code>,
}

#[derive(Debug)]
pub(crate) struct Code {
    pub(crate) client_id: String,
    pub(crate) user_id: String,
    until: Instant,
}

impl Codes {
    fn give(&mut self, code: String, client_id: String, user_id: String, now: Instant) {
        self.codes.retain(|_, code| now < code.until);
        if self.codes.len() < MAX_CODES {
            self.codes.insert(
                code,
                Code {
                    client_id,
                    user_id,
                    until: now + VALID,
                },
            );
        }
    }

    /// A code works once, also when the wrong client shows it.
    pub(crate) fn take(&mut self, code: &str, now: Instant) -> Option<Code> {
        self.codes.remove(code).filter(|code| now < code.until)
    }
}

/// Answers 302 with the code in the redirect's query; the CLI reads it there and does not follow.
pub(super) async fn authorize(
    extract::State(state): extract::State<Arc<State>>,
    headers: HeaderMap,
    Query(query): Query<Params>,
) -> Answer {
    let caller = state.caller(&headers).await?;
    let user_id = caller.user_id().ok_or_else(|| {
        error::bad_request(
            "access_denied",
            "A client's token gets no code: log in as a user",
        )
    })?;
    if query.get("response_type").map(String::as_str) != Some("code") {
        return Err(error::bad_request(
            "unsupported_response_type",
            "response_type: want code",
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
    if query
        .get("redirect_uri")
        .is_some_and(|uri| *uri != client.redirect_uri)
    {
        return Err(error::bad_request(
            "invalid_request",
            "redirect_uri is not the one that the client is registered with",
        ));
    }
    let code: String = rand::rng()
        .sample_iter(rand::distr::Alphanumeric)
        .take(32)
        .map(char::from)
        .collect();
    let target = if client.redirect_uri.is_empty() {
        format!("{}/login", state.urls.external)
    } else {
        client.redirect_uri
    };
    let location = format!(
        "{target}{}code={code}",
        if target.contains('?') { '&' } else { '?' }
    );
    state
        .codes
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .give(code, client.id, user_id.to_owned(), Instant::now());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_works_once_and_not_for_ever() {
        let (mut codes, now) = (Codes::default(), Instant::now());
        codes.give("c".into(), "ssh-proxy".into(), "u".into(), now);
        codes.give("d".into(), "ssh-proxy".into(), "u".into(), now);
        assert!(codes.take("c", now).is_some() && codes.take("c", now).is_none());
        assert!(codes.take("d", now + VALID).is_none());
    }
}
