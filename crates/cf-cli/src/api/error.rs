//! The errors between the client and the API, with texts for the user.

use super::Response;
use reqwest::Method;
use serde::Deserialize;

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Item {
    pub(crate) code: i64,
    pub(crate) title: String,
    pub(crate) detail: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Body {
    errors: Vec<Item>,
}

/// A response with a status other than 2xx.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    pub(crate) status: u16,
    pub(crate) errors: Vec<Item>,
    method: String,
    url: String,
    text: String,
}

impl std::error::Error for ApiError {}

impl ApiError {
    pub(crate) fn of(method: &Method, url: &str, response: &Response) -> Self {
        let body: Body = serde_json::from_slice(&response.body).unwrap_or_default();
        let text = String::from_utf8_lossy(&response.body)
            .trim()
            .chars()
            .take(500)
            .collect();
        Self {
            status: response.status,
            errors: body.errors,
            method: method.to_string(),
            url: url.to_owned(),
            text,
        }
    }
    pub(crate) fn is_not_found(&self) -> bool {
        self.status == 404
    }
    /// Returns whether this is a 422 whose detail contains the text.
    pub(crate) fn has_detail(&self, text: &str) -> bool {
        self.status == 422 && self.errors.iter().any(|e| e.detail.contains(text))
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let details = || {
            self.errors
                .iter()
                .map(|e| e.detail.as_str())
                .collect::<Vec<_>>()
                .join("\n")
        };
        let first = self.errors.first();
        match (self.status, first) {
            (401, Some(e)) if e.title == "CF-InvalidAuthToken" => {
                f.write_str("Authentication has expired. Please log back in to re-authenticate.\n\nTIP: Use `cf login` to log back in and re-authenticate.")
            }
            (401, Some(e)) if e.title == "CF-NotAuthenticated" => f.write_str(NOT_LOGGED_IN),
            (403, None) => f.write_str("You are not authorized to perform the requested action"),
            (500.., Some(e)) => write!(f, "Unexpected Response\nResponse Code: {}\nCode: {}, Title: {}, Detail: {}", self.status, e.code, e.title, e.detail),
            (_, Some(_)) => f.write_str(&details()),
            (status, None) => write!(f, "Unexpected Response\nResponse Code: {status}\n{} {}\n{}", self.method, self.url, self.text),
        }
    }
}

pub(crate) const NOT_LOGGED_IN: &str = "Not logged in. Use 'cf login' to log in.";

pub(crate) fn is_invalid_token(body: &[u8]) -> bool {
    serde_json::from_slice::<Body>(body).is_ok_and(|b| {
        b.errors
            .iter()
            .any(|e| e.title == "CF-InvalidAuthToken" || e.code == 1000)
    })
}

/// The error of a request that got no response at all.
#[derive(Debug)]
pub(crate) struct Unreachable {
    url: String,
    kind: Kind,
    reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Certificate,
    Refused,
    Name,
    Other,
}

impl std::error::Error for Unreachable {}

impl Unreachable {
    pub(crate) fn new(url: &str, error: reqwest::Error) -> Self {
        let mut reasons = vec![];
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            reasons.push(cause.to_string());
            source = cause.source();
        }
        let all = reasons.join(": ").to_ascii_lowercase();
        let kind = match () {
            () if all.contains("certificate") => Kind::Certificate,
            () if all.contains("refused") => Kind::Refused,
            () if all.contains("dns error")
                || all.contains("lookup address")
                || all.contains("not known") =>
            {
                Kind::Name
            }
            () => Kind::Other,
        };
        let reason = reasons.pop().unwrap_or_else(|| error.to_string());
        Self {
            url: url.to_owned(),
            kind,
            reason,
        }
    }

    /// Returns whether the same request may succeed a moment later.
    pub(crate) fn may_pass(&self) -> bool {
        self.kind == Kind::Other
    }

    fn origin(&self) -> String {
        reqwest::Url::parse(&self.url)
            .map_or_else(|_| self.url.clone(), |u| u.origin().ascii_serialization())
    }
}

impl std::fmt::Display for Unreachable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (origin, reason) = (self.origin(), &self.reason);
        match self.kind {
            Kind::Certificate => {
                write!(
                    f,
                    "Invalid SSL Cert for {origin}: {reason}\nTIP: Use 'cf api --skip-ssl-validation' to continue with an insecure API endpoint"
                )
            }
            Kind::Refused => write!(
                f,
                "Request error: {origin} refused the connection.\nTIP: Is the foundation running (cupola up)? 'cf api' shows the API endpoint in use, 'cf api URL' sets another one."
            ),
            Kind::Name => write!(
                f,
                "Request error: the host name of {origin} cannot be resolved ({reason}).\nTIP: Check the URL, that the foundation is running, and that /etc/hosts or your DNS knows its system domain."
            ),
            Kind::Other => write!(
                f,
                "Request error: no answer from {origin}: {reason}\nTIP: If you are behind a firewall and require an HTTP proxy, verify the https_proxy environment variable is correctly set. Else, check your network connection."
            ),
        }
    }
}

/// The error of a call that the UAA refused.
#[derive(Debug, thiserror::Error)]
#[error("{description}")]
pub(crate) struct UaaError {
    pub(crate) status: u16,
    pub(crate) error: String,
    pub(crate) description: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct UaaBody {
    error: String,
    error_description: String,
    message: String,
}

impl UaaError {
    pub(super) fn new(response: &Response) -> Self {
        let body: UaaBody = serde_json::from_slice(&response.body).unwrap_or_default();
        let text = [&body.error_description, &body.message, &body.error]
            .into_iter()
            .find(|t| !t.is_empty())
            .cloned();
        Self {
            status: response.status,
            error: body.error,
            description: text
                .unwrap_or_else(|| format!("the UAA answered with status {}", response.status)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(status: u16, body: &str) -> String {
        let response = Response {
            status,
            status_line: String::new(),
            headers: Default::default(),
            body: bytes::Bytes::copy_from_slice(body.as_bytes()),
        };
        ApiError::of(&Method::GET, "http://api/v3/apps", &response).to_string()
    }

    #[test]
    fn the_details_are_the_message() {
        assert_eq!(
            error(
                422,
                r#"{"errors":[{"code":1,"title":"CF-X","detail":"a"},{"detail":"b"}]}"#
            ),
            "a\nb"
        );
        assert!(
            error(
                401,
                r#"{"errors":[{"code":1000,"title":"CF-InvalidAuthToken","detail":"x"}]}"#
            )
            .starts_with("Authentication has expired.")
        );
        assert!(
            error(502, "bad gateway")
                .contains("Response Code: 502\nGET http://api/v3/apps\nbad gateway")
        );
        assert!(
            error(
                500,
                r#"{"errors":[{"code":10001,"title":"CF-ServerError","detail":"x"}]}"#
            )
            .contains("Code: 10001, Title: CF-ServerError, Detail: x")
        );
    }
}
