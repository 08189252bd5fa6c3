//! Labels and annotations, which every resource may carry.

use crate::error::ApiError;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Metadata {
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

impl Metadata {
    pub(crate) fn present(&self) -> Value {
        json!({ "labels": self.labels, "annotations": self.annotations })
    }

    /// Merges `{"labels": {k: v|null}, "annotations": {…}}`: null removes a key.
    pub(crate) fn merge(&mut self, change: &Value) -> Result<(), ApiError> {
        let change = change
            .as_object()
            .ok_or_else(|| ApiError::unprocessable("Metadata must be an object"))?;
        for (key, value) in change {
            let (target, is_label) = match key.as_str() {
                "labels" => (&mut self.labels, true),
                "annotations" => (&mut self.annotations, false),
                other => {
                    return Err(ApiError::unprocessable(format!(
                        "Metadata has unexpected field(s): '{other}'"
                    )));
                }
            };
            let entries = value.as_object().ok_or_else(|| {
                ApiError::unprocessable(format!("Metadata '{key}' is not an object"))
            })?;
            merge_entries(target, entries, is_label)?;
        }
        Ok(())
    }
}

fn merge_entries(
    target: &mut BTreeMap<String, String>,
    entries: &Map<String, Value>,
    is_label: bool,
) -> Result<(), ApiError> {
    for (key, value) in entries {
        let name = key.rsplit('/').next().unwrap_or_default();
        let kind = if is_label { "label" } else { "annotation" };
        if name.is_empty()
            || name.len() > if is_label { 63 } else { 1000 }
            || (is_label && !is_label_text(name))
        {
            return Err(ApiError::unprocessable(format!(
                "Metadata {kind} key error: '{key}' contains invalid characters or has an invalid length"
            )));
        }
        match value {
            Value::Null => drop(target.remove(key)),
            Value::String(text)
                if is_label && !text.is_empty() && (text.len() > 63 || !is_label_text(text)) =>
            {
                return Err(ApiError::unprocessable(format!(
                    "Metadata label value error: '{text}' contains invalid characters"
                )));
            }
            Value::String(text) => drop(target.insert(key.clone(), text.clone())),
            Value::Number(number) => drop(target.insert(key.clone(), number.to_string())),
            Value::Bool(value) => drop(target.insert(key.clone(), value.to_string())),
            _ => {
                return Err(ApiError::unprocessable(format!(
                    "Metadata {kind} value error: value of '{key}' must be a string"
                )));
            }
        }
    }
    Ok(())
}

fn is_label_text(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    edge(text.chars().next())
        && edge(text.chars().last())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_removes_and_bad_labels_are_named() {
        let mut metadata = Metadata::default();
        metadata.merge(&json!({"labels": {"env": "prod", "team": "a"}, "annotations": {"note": "any text!"}})).unwrap();
        metadata.merge(&json!({"labels": {"team": null}})).unwrap();
        assert_eq!(
            metadata.present(),
            json!({"labels": {"env": "prod"}, "annotations": {"note": "any text!"}})
        );
        assert!(
            metadata
                .merge(&json!({"labels": {"a b": "x"}}))
                .unwrap_err()
                .to_string()
                .contains("'a b'")
        );
    }
}
