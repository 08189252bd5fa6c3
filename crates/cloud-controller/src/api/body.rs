//! JSON bodies of create and update requests: known fields only, every mistake reported in one 422.

use crate::error::{ApiError, ApiResult};
use axum::extract::{FromRequest, Request};
use serde_json::{Map, Value};

/// The body as an object; each reader notes what is wrong, [`Body::finish`] reports it all.
#[derive(Debug)]
pub(crate) struct Body {
    map: Map<String, Value>,
    problems: Vec<String>,
}

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = ApiError;
    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let bytes = axum::body::to_bytes(request.into_body(), 4 << 20)
            .await
            .map_err(|_| ApiError::message_parse())?;
        if bytes.is_empty() {
            return Ok(Self {
                map: Map::new(),
                problems: Vec::new(),
            });
        }
        let map = serde_json::from_slice(&bytes).map_err(|_| ApiError::message_parse())?;
        Ok(Self {
            map,
            problems: Vec::new(),
        })
    }
}

impl Body {
    /// Notes unknown top-level fields.
    pub(crate) fn allow(mut self, fields: &[&str]) -> Self {
        let unknown: Vec<String> = self
            .map
            .keys()
            .filter(|key| !fields.contains(&key.as_str()))
            .map(|key| format!("'{key}'"))
            .collect();
        if !unknown.is_empty() {
            self.problems
                .push(format!("Unknown field(s): {}", unknown.join(", ")));
        }
        self
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

    /// A value at `a.b.c`.
    pub(crate) fn at(&self, path: &str) -> Option<&Value> {
        let mut parts = path.split('.');
        let mut value = self.map.get(parts.next()?)?;
        for part in parts {
            value = value.get(part)?;
        }
        Some(value)
    }

    /// `Some(None)` when the field is null.
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

    /// A name that must be there: 1 to 255 characters.
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

    /// As `required_string`, when the field is there.
    pub(crate) fn optional_name(&mut self, field: &str) -> Option<String> {
        self.has(field).then(|| self.required_string(field))
    }

    pub(crate) fn int(&mut self, field: &str, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        match self.map.get(field) {
            None | Some(Value::Null) => None,
            Some(value) => match value.as_i64() {
                Some(number) if range.contains(&number) => Some(number),
                Some(_) if *range.end() == i64::MAX => {
                    self.problems.push(format!(
                        "{} must be greater than or equal to {}",
                        title(field),
                        range.start()
                    ));
                    None
                }
                Some(_) => {
                    self.problems.push(format!(
                        "{} must be between {} and {}",
                        title(field),
                        range.start(),
                        range.end()
                    ));
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

    /// `relationships.<name>.data.guid`; nothing when the relationship is absent or null.
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

    /// The guids of `relationships.<name>.data`; none when the relationship is absent or null.
    pub(crate) fn many_relationship(&mut self, name: &str) -> Vec<String> {
        let Some(relationship) = self
            .at(&format!("relationships.{name}"))
            .filter(|value| !value.is_null())
        else {
            return Vec::new();
        };
        guids(relationship.get("data")).unwrap_or_else(|| {
            self.problems.push(format!("Relationships {} must be structured like this: \"{name}: {{\"data\": [{{\"guid\": \"valid-guid\"}}]}}\"", title(name)));
            Vec::new()
        })
    }

    /// `{"data": [{"guid": …}, …]}` as the whole body.
    pub(crate) fn read_to_many(&mut self) -> Vec<String> {
        guids(self.map.get("data")).unwrap_or_else(|| {
            self.problems
                .push("Data must be an array of objects with a guid".to_owned());
            Vec::new()
        })
    }

    /// `{"data": {"guid": …}}` or `{"data": null}` as the whole body.
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

    pub(crate) fn metadata(&self) -> Option<&Value> {
        self.map.get("metadata").filter(|value| !value.is_null())
    }

    /// All that was wrong, as one 422.
    pub(crate) fn finish(self) -> ApiResult<Map<String, Value>> {
        if self.problems.is_empty() {
            Ok(self.map)
        } else {
            Err(ApiError::unprocessable(self.problems.join(", ")))
        }
    }
}

/// The guids of a list of objects; `None` when it is something else.
fn guids(list: Option<&Value>) -> Option<Vec<String>> {
    list?
        .as_array()?
        .iter()
        .map(|item| item.get("guid").and_then(Value::as_str).map(str::to_owned))
        .collect()
}

/// `memory_in_mb` → `Memory in mb`.
fn title(field: &str) -> String {
    let text = field.replace('_', " ");
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(chars).collect()
    })
}
