//! The page on which a person signs in, so that a program gets a one-time code. It has no script, and sets no cookie: every code needs
//! the password again.

use crate::db::StoredClient;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

/// The path of the page's style sheet.
pub(super) const STYLE_PATH: &str = "/sign-in.css";
const STYLE: &str = include_str!("../../assets/sign-in.css");

/// A request for a code that was checked.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) client: StoredClient,
    /// The URI to which the answer redirects.
    pub(super) target: String,
    /// The URI as the request named it; empty if it named none.
    pub(super) redirect_uri: String,
    /// The digest of the client's secret (PKCE); empty if there is none.
    pub(super) challenge: String,
    /// The client's text that is returned with the code.
    pub(super) state: Option<String>,
}

/// Returns whether the request comes from a browser that shows a page.
pub(super) fn is_browser(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok());
    accepted.is_some_and(|accepted| accepted.contains("text/html"))
}

pub(super) async fn style() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/css; charset=utf-8"),
        (header::CACHE_CONTROL, "public, max-age=3600"),
    ];
    (headers, STYLE).into_response()
}

/// Returns the page. `refused` has the name that was entered and the reason why it was refused.
pub(super) fn page(asked: &Asked, status: StatusCode, refused: Option<(&str, &str)>) -> Response {
    let origin = origin(&asked.target);
    let (name, reason) = refused.unwrap_or_default();
    let reason = match reason.is_empty() {
        true => String::new(),
        false => format!(
            "<p class=\"refused\" role=\"alert\">{}</p>",
            escaped(reason)
        ),
    };
    let client = match asked.client.name.is_empty() {
        true => &asked.client.id,
        false => &asked.client.name,
    };
    let html = format!(
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sign in</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{STYLE_PATH}">
</head>
<body>
<main>
<h1>Sign in</h1>
<p>You continue to <strong>{client}</strong>{place}.</p>
{reason}
<form method="post">
<label>User name
<input name="username" autocomplete="username" autocapitalize="none" spellcheck="false" required autofocus value="{name}"></label>
<label>Password
<input name="password" type="password" autocomplete="current-password" required></label>
<button>Sign in</button>
</form>
</main>
</body>
</html>
"#,
        client = escaped(client),
        place = match origin {
            Some(origin) => format!(" at {}", escaped(origin)),
            None => String::new(),
        },
        name = escaped(name),
    );
    // A browser also checks redirects of a form against `form-action`.
    let policy = format!(
        "default-src 'none'; style-src 'self'; img-src data:; form-action 'self' {}; frame-ancestors 'none'; base-uri 'none'",
        origin.unwrap_or_default()
    );
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, policy.trim_end()),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ];
    (status, headers, html).into_response()
}

/// Returns the scheme, host and port of a URI; `None` if they have characters that no origin has.
fn origin(uri: &str) -> Option<&str> {
    let begin = uri.find("://")? + 3;
    let length = uri[begin..]
        .find(['/', '?', '#'])
        .unwrap_or(uri.len() - begin);
    let origin = &uri[..begin + length];
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._:/[]".contains(c);
    origin.chars().all(is_plain).then_some(origin)
}

/// Escapes a text for HTML.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
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
    fn an_origin_is_the_beginning_of_a_uri() {
        assert_eq!(
            origin("https://dashboard.a.test:8443/signed-in?x"),
            Some("https://dashboard.a.test:8443")
        );
        assert_eq!(origin("http://a.test"), Some("http://a.test"));
        for none in [
            "/x",
            "a.test",
            "https://a.test; script-src *",
            "https://a b/x",
        ] {
            assert_eq!(origin(none), None, "{none}");
        }
    }

    #[test]
    fn texts_cannot_leave_their_place() {
        assert_eq!(
            escaped(r#"<a b="c">&'"#),
            "&lt;a b=&quot;c&quot;&gt;&amp;&#39;"
        );
        let asked = Asked {
            client: StoredClient {
                id: "<dash>".into(),
                ..StoredClient::default()
            },
            target: "https://d.test/x".into(),
            redirect_uri: String::new(),
            challenge: String::new(),
            state: None,
        };
        let response = page(&asked, StatusCode::UNAUTHORIZED, Some(("\"x", "no")));
        assert_eq!(response.status(), 401);
        let policy = response.headers()["content-security-policy"]
            .to_str()
            .unwrap();
        assert!(
            policy.contains("form-action 'self' https://d.test;"),
            "{policy}"
        );
        assert!(!response.headers().contains_key("www-authenticate"));
    }
}
