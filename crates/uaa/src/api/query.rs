//! Refuses credentials in URLs. The router of this machine and every proxy before it log URLs.

use crate::error::{self, OAuthError};
use axum::extract::{Query, Request};
use axum::http::Uri;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

/// The parameters that carry a credential, in lower case.
const CREDENTIALS: &[&str] = &[
    "access_token",
    "assertion",
    "authorization",
    "client_assertion",
    "client_secret",
    "code",
    "code_verifier",
    "id_token",
    "new_password",
    "newpassword",
    "old_password",
    "oldpassword",
    "oldsecret",
    "passcode",
    "password",
    "refresh_token",
    "secret",
    "token",
];

/// Refuses requests with credentials in the query. It is a layer around every path of the API.
pub(super) async fn refuse_credentials(request: Request, next: Next) -> Response {
    match check(request.uri(), |name| !is_credential(name)) {
        Ok(()) => next.run(request).await,
        Err(refused) => refused.into_response(),
    }
}

fn is_credential(name: &str) -> bool {
    CREDENTIALS.contains(&name.to_ascii_lowercase().as_str())
}

/// Refuses a query with a parameter that is not `allowed`. The error names the parameter.
pub(super) fn check(uri: &Uri, allowed: impl Fn(&str) -> bool) -> Result<(), OAuthError> {
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|_| error::bad_request("invalid_request", "The query cannot be read"))?;
    match pairs.iter().find(|(name, _)| !allowed(name)) {
        None => Ok(()),
        Some((name, _)) => Err(error::bad_request(
            "invalid_request",
            format!("Parameter {name} must be sent in the body, not in the URL: URLs are logged"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_found_in_every_spelling() {
        let refused = |query: &str| {
            let uri: Uri = format!("/x?{query}").parse().unwrap();
            check(&uri, |name| !is_credential(name)).is_err()
        };
        for query in [
            "password=x",
            "a=b&password",
            "PassWord=x",
            "p%61ssword=x",
            "client_secret=x",
            "refresh_token=x",
        ] {
            assert!(refused(query), "{query}");
        }
        assert!(!refused(
            "login_hint=%7B%22origin%22%3A%22x%22%7D&grant_type=password"
        ));
        assert!(!refused("filter=userName%20eq%20%22password%22"));
    }
}
