//! JSON bodies of create and update requests. Only known keys are accepted, and every mistake is reported in one 422.
//!
//! The keys, including nested ones, are listed at the endpoint's registration (`api::endpoint`). A handler receives a body whose
//! unknown keys are already noted; [`Body::finish`] refuses them by name together with the mistakes that the readers noted.

use super::endpoint::{Accepts, Content};
use crate::controller::Cc;
use crate::db::Json;
use crate::error::{ApiError, ApiResult};
use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use cc_rules::limits::Limits;
use cc_rules::metadata::Metadata;
use cc_rules::ordered_json::OrderedJson;
use serde_json::{Map, Value};
use std::sync::Arc;

/// The body as an object. Each reader notes what is wrong, and [`Body::finish`] reports everything.
#[derive(Debug)]
pub(crate) struct Body {
    map: Map<String, Value>,
    /// The body as it was sent, for values whose order counts.
    sent: Bytes,
    problems: Vec<String>,
    limits: Limits,
}

impl FromRequest<Cc> for Body {
    type Rejection = ApiError;
    /// Reads the body and refuses one beyond the limits of `Limits::check_json`, whatever the request is.
    async fn from_request(request: Request, cc: &Cc) -> Result<Self, ApiError> {
        let (parts, content) = request.into_parts();
        let accepts = parts.extensions.get::<Arc<Accepts>>();
        let Some(Content::Json(keys)) = accepts.map(|accepts| accepts.body) else {
            return Err(ApiError::from(anyhow::anyhow!(
                "the endpoint {} is registered without the keys of its body",
                parts.uri.path()
            )));
        };
        let limits = cc.settings.limits.clone();
        let bytes = super::guard::read_body(content, limits.body_bytes).await?;
        let map: Map<String, Value> = if bytes.is_empty() {
            Map::new()
        } else {
            serde_json::from_slice(&bytes).map_err(|_| ApiError::message_parse())?
        };
        let sent = bytes;
        Ok(Self {
            sent,
            ..Self::of(map, keys, limits)?
        })
    }
}

/// Refuses a body other than nothing or `{}`, for endpoints that have no keys.
pub(crate) async fn must_be_empty(content: axum::body::Body, limits: &Limits) -> ApiResult<()> {
    let bytes = super::guard::read_body(content, limits.body_bytes).await?;
    if bytes.is_empty() {
        return Ok(());
    }
    match serde_json::from_slice(&bytes).map_err(|_| ApiError::message_parse())? {
        Value::Null => Ok(()),
        Value::Object(map) => Body::of(map, &[], limits.clone())?.finish().map(drop),
        _ => Err(ApiError::message_parse()),
    }
}

/// Notes every key that is not one of `keys`. `at` is the path to `map`, with a dot at its end.
fn check_keys(map: &Map<String, Value>, at: &str, keys: &[&str], body: &mut Found) {
    for (key, value) in map {
        let path = format!("{at}{key}");
        let below = format!("{path}.");
        if keys.contains(&format!("{below}*").as_str()) {
            if !value.is_object() && !value.is_null() {
                body.problems
                    .push(format!("{} must be an object", title(&path)));
            }
            continue;
        }
        let items = format!("{path}[].");
        if keys.iter().any(|known| known.starts_with(&below)) {
            match value {
                Value::Object(map) => check_keys(map, &below, keys, body),
                Value::Null => {}
                _ => body
                    .problems
                    .push(format!("{} must be an object", title(&path))),
            }
        } else if keys.iter().any(|known| known.starts_with(&items)) {
            for item in value.as_array().into_iter().flatten() {
                match item {
                    Value::Object(map) => check_keys(map, &items, keys, body),
                    _ => body
                        .problems
                        .push(format!("{} must be a list of objects", title(&path))),
                }
            }
        } else if !keys.contains(&path.as_str()) {
            body.unknown.push(format!("'{path}'"));
        }
    }
}

#[derive(Default)]
struct Found {
    unknown: Vec<String>,
    problems: Vec<String>,
}

impl Body {
    fn of(map: Map<String, Value>, keys: &[&str], limits: Limits) -> ApiResult<Self> {
        let json = Value::Object(map);
        limits.check_json("", &json)?;
        let Value::Object(map) = json else {
            return Err(ApiError::message_parse());
        };
        let mut found = Found::default();
        check_keys(&map, "", keys, &mut found);
        let mut problems = Vec::new();
        if !found.unknown.is_empty() {
            problems.push(format!("Unknown field(s): {}", found.unknown.join(", ")));
        }
        problems.extend(found.problems);
        Ok(Self {
            map,
            sent: Bytes::new(),
            problems,
            limits,
        })
    }

    pub(crate) fn problem(&mut self, text: impl Into<String>) {
        self.problems.push(text.into());
    }

    pub(crate) fn has(&self, field: &str) -> bool {
        self.map.contains_key(field)
    }

    pub(crate) fn value(&self, field: &str) -> Option<&Value> {
        self.map.get(field)
    }

    /// Returns the value of a field with its keys in the order in which they were sent.
    pub(crate) fn ordered(&self, field: &str) -> ApiResult<Option<OrderedJson>> {
        if !self.has(field) {
            return Ok(None);
        }
        let sent: OrderedJson =
            serde_json::from_slice(&self.sent).map_err(|_| ApiError::message_parse())?;
        Ok(sent.get(field).cloned())
    }

    /// Returns the value at `a.b.c`.
    pub(crate) fn at(&self, path: &str) -> Option<&Value> {
        let mut parts = path.split('.');
        let mut value = self.map.get(parts.next()?)?;
        for part in parts {
            value = value.get(part)?;
        }
        Some(value)
    }

    /// Returns a text, or `Some(None)` when the field is null.
    pub(crate) fn nullable_string(&mut self, field: &str) -> Option<Option<String>> {
        match self.map.get(field) {
            None => None,
            Some(Value::Null) => Some(None),
            Some(Value::String(text)) => Some(Some(text.clone())),
            Some(_) => {
                self.problems
                    .push(format!("{} must be a string", title(field)));
                None
            }
        }
    }

    pub(crate) fn string(&mut self, field: &str) -> Option<String> {
        self.nullable_string(field).flatten()
    }

    /// Returns a name that must be present and have 1 to 255 characters.
    pub(crate) fn required_string(&mut self, field: &str) -> String {
        let before = self.problems.len();
        let text = self.string(field).unwrap_or_default();
        if text.is_empty() && self.problems.len() == before {
            self.problems
                .push(format!("{} can't be blank", title(field)));
        } else if text.chars().count() > 255 {
            self.problems.push(format!(
                "{} is too long (maximum is 255 characters)",
                title(field)
            ));
        }
        text
    }

    /// Returns a name of 1 to 255 characters if the field is present.
    pub(crate) fn optional_name(&mut self, field: &str) -> Option<String> {
        self.has(field).then(|| self.required_string(field))
    }

    pub(crate) fn int(&mut self, field: &str, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        match self.map.get(field) {
            None | Some(Value::Null) => None,
            Some(value) => match whole(value) {
                Some(number) if range.contains(&number) => Some(number),
                Some(number) => {
                    self.problems.push(out_of_range(field, number, &range));
                    None
                }
                None => {
                    self.problems
                        .push(format!("{} is not a number", title(field)));
                    None
                }
            },
        }
    }

    pub(crate) fn bool(&mut self, field: &str) -> Option<bool> {
        match self.map.get(field) {
            None | Some(Value::Null) => None,
            Some(Value::Bool(value)) => Some(*value),
            Some(_) => {
                self.problems
                    .push(format!("{} must be a boolean", title(field)));
                None
            }
        }
    }

    /// Returns `relationships.<name>.data.guid`, or nothing when the relationship is absent or null.
    pub(crate) fn relationship(&mut self, name: &str) -> Option<String> {
        let relationship = self
            .at(&format!("relationships.{name}"))
            .filter(|value| !value.is_null())?;
        match relationship.pointer("/data/guid").and_then(Value::as_str) {
            Some(guid) => Some(guid.to_owned()),
            None => {
                self.problems.push(format!("Relationships {} must be structured like this: \"{name}: {{\"data\": {{\"guid\": \"valid-guid\"}}}}\"", title(name)));
                None
            }
        }
    }

    pub(crate) fn required_relationship(&mut self, name: &str) -> String {
        if self.at("relationships").is_none() {
            self.problems
                .push("Relationships 'relationships' is not an object".to_owned());
        } else if self
            .at(&format!("relationships.{name}"))
            .is_none_or(Value::is_null)
        {
            self.problems
                .push(format!("Relationships {} can't be blank", title(name)));
        }
        self.relationship(name).unwrap_or_default()
    }

    /// Returns the guids of `relationships.<name>.data`. There are none when the relationship is absent or null.
    pub(crate) fn many_relationship(&mut self, name: &str) -> Vec<String> {
        let Some(relationship) = self
            .at(&format!("relationships.{name}"))
            .filter(|value| !value.is_null())
        else {
            return Vec::new();
        };
        let found = guids(relationship.get("data"));
        self.related(found).unwrap_or_else(|| {
            self.problems.push(format!("Relationships {} must be structured like this: \"{name}: {{\"data\": [{{\"guid\": \"valid-guid\"}}]}}\"", title(name)));
            Vec::new()
        })
    }

    /// Returns the guids of a whole body `{"data": [{"guid": …}, …]}`.
    pub(crate) fn read_to_many(&mut self) -> Vec<String> {
        let found = guids(self.map.get("data"));
        self.related(found).unwrap_or_else(|| {
            self.problems
                .push("Data must be an array of objects with a guid".to_owned());
            Vec::new()
        })
    }

    /// Notes too many guids, and returns the guids without duplicates.
    fn related(&mut self, guids: Option<Vec<String>>) -> Option<Vec<String>> {
        let mut guids = guids?;
        let most = self.limits.related_guids as usize;
        if guids.len() > most {
            self.problems.push(format!(
                "Data has {} elements (maximum is {most}); split the request",
                guids.len()
            ));
            return Some(Vec::new());
        }
        let mut seen = std::collections::HashSet::new();
        guids.retain(|guid| seen.insert(guid.clone()));
        Some(guids)
    }

    /// Returns the guid of a whole body `{"data": {"guid": …}}` or `{"data": null}`.
    pub(crate) fn read_to_one(&mut self) -> Option<String> {
        match self.map.get("data") {
            Some(Value::Null) => None,
            Some(data) if data.get("guid").is_some_and(Value::is_string) => {
                data["guid"].as_str().map(str::to_owned)
            }
            _ => {
                self.problems.push(
                    "Data must be structured like this: \"data: {\"guid\": \"valid-guid\"}\""
                        .to_owned(),
                );
                None
            }
        }
    }

    /// Applies the body's labels and annotations.
    pub(crate) fn merge_metadata(&self, metadata: &mut Json<Metadata>) -> ApiResult<()> {
        match self.metadata() {
            Some(change) => Ok(metadata.0.merge(&self.limits, change)?),
            None => Ok(()),
        }
    }

    pub(crate) fn metadata(&self) -> Option<&Value> {
        self.map.get("metadata").filter(|value| !value.is_null())
    }

    /// Returns the body, or one 422 with all that was wrong.
    pub(crate) fn finish(mut self) -> ApiResult<Map<String, Value>> {
        self.problems.dedup();
        if self.problems.is_empty() {
            Ok(self.map)
        } else {
            Err(ApiError::unprocessable(self.problems.join(", ")))
        }
    }
}

/// Returns the guids of a list of objects, or `None` when it is something else.
fn guids(list: Option<&Value>) -> Option<Vec<String>> {
    list?
        .as_array()?
        .iter()
        .map(|item| item.get("guid").and_then(Value::as_str).map(str::to_owned))
        .collect()
}

/// Returns a whole number, which may also be a text: `256` and `"256"` are equal.
fn whole(value: &Value) -> Option<i64> {
    value
        .as_i64()
        .or_else(|| value.as_str().and_then(|text| text.parse().ok()))
}

/// Returns the error text, which clients know, for a number outside its range.
fn out_of_range(field: &str, number: i64, range: &std::ops::RangeInclusive<i64>) -> String {
    let bound = match range.start() {
        _ if number > *range.end() => format!("less than or equal to {}", range.end()),
        1 if field.ends_with("_in_mb") => "greater than 0".to_owned(),
        least => format!("greater than or equal to {least}"),
    };
    format!("{} must be {bound}", title(field))
}

/// Changes `memory_in_mb` to `Memory in mb`.
fn title(field: &str) -> String {
    let text = field.replace(['_', '.'], " ");
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(chars).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refusal(body: Value, keys: &[&str]) -> Option<String> {
        let Value::Object(map) = body else {
            unreachable!("tests give objects");
        };
        Body::of(map, keys, Limits::default())
            .unwrap()
            .finish()
            .err()
            .map(|error| error.to_string())
    }

    #[test]
    fn unknown_keys_are_named_at_every_depth() {
        let keys = &[
            "name",
            "relationships.space.data.guid",
            "var.*",
            "rules[].protocol",
        ];
        let good = json!({
            "name": "a", "relationships": { "space": { "data": { "guid": "x" } } }, "var": { "ANY": { "x": 1 } },
            "rules": [{ "protocol": "tcp" }],
        });
        assert_eq!(refusal(good, keys), None);
        for (body, text) in [
            (json!({ "nmae": 1 }), "Unknown field(s): 'nmae'"),
            (
                json!({ "relationships": { "spaces": null } }),
                "Unknown field(s): 'relationships.spaces'",
            ),
            (
                json!({ "relationships": { "space": { "data": { "guid": "x", "name": "y" } } } }),
                "Unknown field(s): 'relationships.space.data.name'",
            ),
            (
                json!({ "rules": [{ "protocol": "tcp" }, { "port": 1 }] }),
                "Unknown field(s): 'rules[].port'",
            ),
            (
                json!({ "relationships": [] }),
                "Relationships must be an object",
            ),
            (json!({ "rules": [1] }), "Rules must be a list of objects"),
        ] {
            assert_eq!(refusal(body, keys).as_deref(), Some(text));
        }
        assert_eq!(
            refusal(json!({ "relationships": { "space": null } }), keys),
            None
        );
    }
}
