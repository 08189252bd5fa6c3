//! The bodies of answers, with the texts that describe what is wrong with them.

use super::mounts;
use super::{Answer, Binding};
use crate::error::{Error, ErrorKind};
use cc_rules::ordered_json::OrderedJson;
use http::Uri;
use serde_json::Value;

/// The number of characters of an operation's name.
const LONGEST_OPERATION: usize = 10_000;

/// The number of characters of a description that is kept.
const LONGEST_DESCRIPTION: usize = 10_000;

/// The number of bytes above which a message for users is cut, and the number of those that are kept.
const LONGEST_MESSAGE: usize = 1 << 14;
const KEPT_OF_MESSAGE: usize = 1 << 13;

/// A body that is an object.
pub(super) struct Body(pub OrderedJson);

/// Returns a text without the character NUL, which no database stores.
pub(super) fn text_of(body: &OrderedJson, key: &str) -> Option<String> {
    match body.get(key)? {
        OrderedJson::Text(text) => {
            let text = text.replace('\0', "");
            Some(text.chars().take(LONGEST_DESCRIPTION).collect())
        }
        _ => None,
    }
}

/// Cuts a message for users that is too long.
pub(super) fn shortened(message: String) -> String {
    if message.len() <= LONGEST_MESSAGE {
        return message;
    }
    let end = message.floor_char_boundary(KEPT_OF_MESSAGE);
    format!(
        "{}...This message has been truncated due to size. To read the full message, check the broker's logs",
        &message[..end]
    )
}

impl Answer {
    pub(super) fn body_text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Returns the status with its text: `500 Internal Server Error`.
    pub(super) fn status_line(&self) -> String {
        let reason = self.status.canonical_reason().unwrap_or_default();
        format!("{} {reason}", self.status.as_str())
    }

    fn json(&self) -> Option<OrderedJson> {
        let json = serde_json::from_slice(&self.body).ok()?;
        matches!(json, OrderedJson::Object(_)).then_some(json)
    }

    /// Returns a text of the body, whatever else is in the body.
    pub(super) fn text(&self, key: &str) -> Option<String> {
        text_of(&self.json()?, key)
    }

    /// Returns the broker's description of an error.
    pub(super) fn described(&self) -> Option<String> {
        let json = self.json()?;
        let description = match json.get("description")? {
            OrderedJson::Text(text) => text.clone(),
            OrderedJson::Null => String::new(),
            other => other.text(),
        };
        Some(format!("Service broker error: {description}"))
    }

    pub(super) fn object(&self) -> Result<Body, Error> {
        self.json().map(Body).ok_or_else(|| {
            self.malformed(format_args!(
                "expected valid JSON object in body, broker returned '{}'",
                self.body_text()
            ))
        })
    }
}

/// Returns the name of a type, as JSON Schema spells it.
fn kind(value: &OrderedJson) -> &'static str {
    match value {
        OrderedJson::Null => "null",
        OrderedJson::Bool(_) => "boolean",
        OrderedJson::Number(number) if number.is_f64() => "number",
        OrderedJson::Number(_) => "integer",
        OrderedJson::Text(_) => "string",
        OrderedJson::List(_) => "array",
        OrderedJson::Object(_) => "object",
    }
}

/// Returns the text about a value of the wrong type.
fn mismatch(place: &str, value: &OrderedJson, wanted: &str) -> String {
    let kind = kind(value);
    format!("\nThe property '#/{place}' of type {kind} did not match the following type: {wanted}")
}

impl Body {
    pub(super) fn bool(&self, key: &str) -> Option<bool> {
        match self.0.get(key)? {
            OrderedJson::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// Returns a text that must be one if it is present.
    fn strict_text(&self, answer: &Answer, key: &str) -> Result<Option<String>, Error> {
        match self.0.get(key) {
            None => Ok(None),
            Some(OrderedJson::Text(text)) if text.contains('\0') => {
                Err(answer.malformed(format_args!("{key} contains the character NUL")))
            }
            Some(OrderedJson::Text(text)) => Ok(Some(text.clone())),
            Some(other) => Err(answer.malformed(mismatch(key, other, "string"))),
        }
    }

    pub(super) fn nullable_text(
        &self,
        answer: &Answer,
        key: &str,
    ) -> Result<Option<String>, Error> {
        match self.0.get(key) {
            Some(OrderedJson::Null) => Ok(None),
            _ => self.strict_text(answer, key),
        }
    }

    /// Returns the broker's name of an operation.
    pub(super) fn operation(&self, answer: &Answer) -> Result<Option<String>, Error> {
        let operation = self.strict_text(answer, "operation")?;
        match operation {
            Some(text) if text.chars().count() > LONGEST_OPERATION => {
                Err(answer.malformed(format_args!(
                    "\nThe property '#/operation' was not of a maximum string length of {LONGEST_OPERATION}"
                )))
            }
            operation => Ok(operation),
        }
    }

    fn object(&self, answer: &Answer, key: &str) -> Result<Option<OrderedJson>, Error> {
        match self.0.get(key) {
            None => Ok(None),
            Some(object @ OrderedJson::Object(_)) => Ok(Some(object.clone())),
            Some(other) => Err(answer.malformed(mismatch(key, other, "object"))),
        }
    }

    pub(super) fn parameters(&self, answer: &Answer) -> Result<Option<OrderedJson>, Error> {
        self.object(answer, "parameters")
    }

    /// Returns the labels and attributes of an instance.
    pub(super) fn metadata(&self, answer: &Answer) -> Result<Option<Value>, Error> {
        let Some(metadata) = self.object(answer, "metadata")? else {
            return Ok(None);
        };
        for key in ["labels", "attributes"] {
            match metadata.get(key) {
                None | Some(OrderedJson::Object(_)) => {}
                Some(other) => {
                    let place = format!("metadata/{key}");
                    return Err(answer.malformed(mismatch(&place, other, "object")));
                }
            }
        }
        Ok(serde_json::to_value(&metadata)
            .ok()
            .filter(|_| !metadata.is_empty()))
    }

    /// Returns a binding. `requires` are the permissions of its offering; a binding that exists is not checked against them.
    pub(super) fn binding(
        &self,
        answer: &Answer,
        requires: Option<&[String]>,
    ) -> Result<Binding, Error> {
        let credentials = match self.0.get("credentials") {
            None | Some(OrderedJson::Null) => None,
            Some(object @ OrderedJson::Object(_)) => Some(object.clone()),
            Some(_) => {
                return Err(answer.malformed("expected credentials to be a valid JSON object"));
            }
        };
        let may = |permission: &str| {
            requires.is_none_or(|requires| requires.iter().any(|other| other == permission))
        };
        let syslog_drain_url = self.nullable_text(answer, "syslog_drain_url")?;
        if syslog_drain_url.is_some() && !may("syslog_drain") {
            return Err(answer.error(
                ErrorKind::InvalidSyslogDrainUrl,
                "The service is attempting to stream logs from your application, but is not registered as a logging service. Please contact the service provider.",
            ));
        }
        let route_service_url = self.nullable_text(answer, "route_service_url")?;
        if route_service_url
            .as_deref()
            .is_some_and(|url| !is_https(url))
        {
            return Err(answer.bad());
        }
        let volume_mounts = match self.0.get("volume_mounts") {
            None | Some(OrderedJson::Null) => None,
            Some(mounts) => {
                let problem = match may("volume_mount") {
                    true => mounts::problem(mounts, &answer.body_text()),
                    false => Some(mounts::NOT_REGISTERED.to_owned()),
                };
                if let Some(problem) = problem {
                    let text =
                        format!("The service broker returned an invalid response: {problem}");
                    return Err(answer.error(ErrorKind::InvalidVolumeMounts, text));
                }
                Some(mounts.clone())
            }
        };
        let metadata = self.0.get("metadata");
        let time = |key| metadata.and_then(|metadata| text_of(metadata, key));
        Ok(Binding {
            credentials,
            syslog_drain_url,
            route_service_url,
            volume_mounts,
            expires_at: time("expires_at"),
            renew_before: time("renew_before"),
        })
    }
}

/// Returns whether a URL can be one of a route service.
fn is_https(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else {
        return false;
    };
    let host = uri.host().unwrap_or_default();
    uri.scheme_str() == Some("https") && !host.is_empty() && !host.starts_with('.')
}
