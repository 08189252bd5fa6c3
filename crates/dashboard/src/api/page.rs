//! The page, as the server renders it: the head of the picture with its present values, so that the first paint has content.

use crate::refusal::Refusal;
use crate::shared::Dash;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{Html, IntoResponse as _, Response};
use serde_json::json;

const PAGE: &str = include_str!("../../assets/index.html");
const NOTICE: &str = include_str!("../../assets/notice.html");

pub(super) async fn page(State(dash): State<Dash>, headers: HeaderMap) -> Response {
    if let Some(redirect) = with_tls(&dash, &headers, "/") {
        return redirect;
    }
    let viewer = match dash.viewer(&headers).await {
        Ok(viewer) => viewer,
        Err(refusal) if refusal.is_signed_out() => {
            let headers = [
                (header::LOCATION, "/sign-in"),
                (header::CACHE_CONTROL, "no-store"),
            ];
            return (StatusCode::SEE_OTHER, headers).into_response();
        }
        Err(refusal) => return refusal.into_response(),
    };
    let first = json!({
        "me": super::lists::me_of(&dash, &viewer),
        "picture": super::lists::picture_of(&dash, &viewer),
        "changes": super::lists::changes_of(&dash, &viewer, u64::MAX, 50),
    });
    let sentence = first["picture"]["health"]["sentence"]
        .as_str()
        .unwrap_or_default();
    let state = first["picture"]["health"]["state"]
        .as_str()
        .unwrap_or_default();
    let html = PAGE
        .replace("{{user}}", &escaped(&viewer.user_name))
        .replace("{{sentence}}", &escaped(sentence))
        .replace("{{state}}", &escaped(state))
        .replace("{{first}}", &escaped(&first.to_string()));
    ([(header::CACHE_CONTROL, "no-store")], Html(html)).into_response()
}

/// Redirects a request that the router received without TLS, because browsers keep the cookies only with TLS.
pub(super) fn with_tls(dash: &Dash, headers: &HeaderMap, path: &str) -> Option<Response> {
    let is_plain = headers
        .get("x-forwarded-proto")
        .is_some_and(|proto| proto == "http");
    let location = format!("{}{path}", dash.facts.origin);
    let is_needed = is_plain && dash.facts.origin.starts_with("https://");
    is_needed.then(|| (StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response())
}

pub(super) async fn signed_out() -> Html<String> {
    notice("You are signed out", "Your tokens are revoked.")
}

pub(super) async fn not_found(uri: Uri) -> Response {
    let path = uri.path();
    if path.starts_with("/api/") || path.starts_with("/v3/") {
        let text = format!("there is nothing at {path}: docs/dashboard.md lists the paths");
        return Refusal::not_found(text).into_response();
    }
    let page = notice("There is no such page", "The picture is at the beginning.");
    (StatusCode::NOT_FOUND, page).into_response()
}

/// Returns a page with a sentence and a link to the picture.
pub(super) fn notice(title: &str, text: &str) -> Html<String> {
    let html = NOTICE.replace("{{title}}", &escaped(title));
    Html(html.replace("{{text}}", &escaped(text)))
}

/// Escapes a text for HTML, also within an attribute.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_users_stay_texts() {
        let Html(html) = notice("<b>", "\"x\" & 'y'");
        assert!(html.contains("&lt;b&gt;") && html.contains("&quot;x&quot; &amp; &#39;y&#39;"));
    }

    #[test]
    fn pages_have_no_inline_script_or_style() {
        for page in [PAGE, NOTICE] {
            assert!(!page.contains("style="), "{page}");
            assert!(!page.contains("<style"), "{page}");
            for script in page.split("<script").skip(1) {
                let tag = script.split('>').next().unwrap();
                assert!(tag.contains("src=\"/assets/"), "{tag}");
            }
            assert!(!page.contains(" onclick=") && !page.contains("javascript:"));
        }
        for place in ["{{user}}", "{{sentence}}", "{{state}}", "{{first}}"] {
            assert!(PAGE.contains(place), "{place}");
        }
    }
}
