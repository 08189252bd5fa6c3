//! The rules of the JSON Schemas that describe parameters. Only their form is checked here; brokers check the parameters.

use super::inspect::inspect;
use serde_json::{Map, Value};

/// The number of characters of a schema.
const LONGEST: usize = 65_536;

const TYPES: &[&str] = &[
    "array", "boolean", "integer", "null", "number", "object", "string",
];

/// Returns what is wrong with a schema. The first rule that is broken ends the check, as in the original.
pub(super) fn problems(schema: &Map<String, Value>) -> Vec<String> {
    let json = Value::Object(schema.clone());
    if json.to_string().chars().count() > LONGEST {
        return vec!["Must not be larger than 64KB".to_owned()];
    }
    let Some(meta) = schema.get("$schema") else {
        return vec!["Schema must have $schema key but was not present".to_owned()];
    };
    let mut found = Vec::new();
    check_schema(schema, "#", &mut found);
    if !found.is_empty() {
        let prefix =
            "Must conform to JSON Schema Draft 04 (experimental support for later versions): ";
        return found
            .into_iter()
            .map(|problem| format!("{prefix}{problem}"))
            .collect();
    }
    if !meta.as_str().is_some_and(is_known) {
        return vec!["Custom meta schemas are not supported.".to_owned()];
    }
    match foreign_reference(&json) {
        Some(reference) => vec![format!("No external references are allowed: {reference}")],
        None => Vec::new(),
    }
}

/// Returns whether a schema of schemas is a draft that validators know.
fn is_known(meta: &str) -> bool {
    let meta = meta.trim_end_matches('#').trim_end_matches('/');
    let path = ["http://", "https://"]
        .iter()
        .find_map(|scheme| meta.strip_prefix(scheme));
    let Some(path) = path.and_then(|path| path.strip_prefix("json-schema.org/")) else {
        return false;
    };
    matches!(
        path,
        "schema"
            | "draft-03/schema"
            | "draft-04/schema"
            | "draft-06/schema"
            | "draft-07/schema"
            | "draft/2019-09/schema"
            | "draft/2020-12/schema"
    )
}

/// Returns the first reference that leads out of the schema.
fn foreign_reference(value: &Value) -> Option<String> {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get("$ref")
                && !reference.starts_with('#')
            {
                return Some(reference.chars().take(200).collect());
            }
            map.values().find_map(foreign_reference)
        }
        Value::Array(list) => list.iter().find_map(foreign_reference),
        _ => None,
    }
}

fn note(found: &mut Vec<String>, place: &str, value: &Value, wanted: &str) {
    let value = inspect(value);
    found.push(format!(
        "The property '{place}' with value {value} must be {wanted}"
    ));
}

/// Checks the keywords of a schema and of the schemas inside.
fn check_schema(schema: &Map<String, Value>, place: &str, found: &mut Vec<String>) {
    for (key, value) in schema {
        let at = format!("{place}/{key}");
        match key.as_str() {
            "$schema" | "$ref" | "id" | "$id" | "title" | "description" | "pattern" | "format"
                if !value.is_string() =>
            {
                note(found, &at, value, "a string");
            }
            "type" => check_type(value, &at, found),
            "required" => check_required(value, &at, found),
            "enum" if value.as_array().is_none_or(Vec::is_empty) => {
                note(found, &at, value, "an array that is not empty");
            }
            "uniqueItems" if !value.is_boolean() => note(found, &at, value, "a boolean"),
            "minimum" | "maximum" | "multipleOf" if !value.is_number() => {
                note(found, &at, value, "a number");
            }
            "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties"
            | "maxProperties"
                if value.as_u64().is_none() =>
            {
                note(found, &at, value, "an integer that is not negative");
            }
            "properties" | "patternProperties" | "definitions" | "$defs" => {
                check_all(value, &at, found);
            }
            "additionalProperties" | "additionalItems" | "not" => check_one(value, &at, found),
            "items" => match value {
                Value::Array(list) => check_list(list, &at, found),
                other => check_one(other, &at, found),
            },
            "allOf" | "anyOf" | "oneOf" => match value {
                Value::Array(list) if !list.is_empty() => check_list(list, &at, found),
                other => note(found, &at, other, "an array that is not empty"),
            },
            _ => {}
        }
    }
}

fn check_type(value: &Value, place: &str, found: &mut Vec<String>) {
    let is_type = |value: &Value| value.as_str().is_some_and(|text| TYPES.contains(&text));
    let is_right = match value {
        Value::Array(list) => !list.is_empty() && list.iter().all(is_type),
        other => is_type(other),
    };
    if !is_right {
        note(
            found,
            place,
            value,
            "the name of a type, or a list of such names",
        );
    }
}

/// Checks the list of required properties. A boolean is the form of draft 3, which brokers still use.
fn check_required(value: &Value, place: &str, found: &mut Vec<String>) {
    let is_right = match value {
        Value::Array(list) => list.iter().all(Value::is_string),
        other => other.is_boolean(),
    };
    if !is_right {
        note(found, place, value, "an array of strings");
    }
}

fn check_all(value: &Value, place: &str, found: &mut Vec<String>) {
    let Value::Object(map) = value else {
        note(found, place, value, "an object");
        return;
    };
    for (key, value) in map {
        check_one(value, &format!("{place}/{key}"), found);
    }
}

fn check_list(list: &[Value], place: &str, found: &mut Vec<String>) {
    for (at, value) in list.iter().enumerate() {
        check_one(value, &format!("{place}/{at}"), found);
    }
}

/// Checks a schema inside another one. Later drafts permit true and false as schemas.
fn check_one(value: &Value, place: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => check_schema(map, place, found),
        Value::Bool(_) => {}
        other => note(found, place, other, "an object"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(schema: Value) -> Vec<String> {
        problems(schema.as_object().unwrap())
    }

    const DRAFT: &str = "http://json-schema.org/draft-04/schema#";

    #[test]
    fn schemas_of_brokers_pass() {
        let schema = json!({
            "$schema": DRAFT,
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "size": { "type": ["integer", "null"], "minimum": 1 },
                "tags": { "type": "array", "items": { "$ref": "#/definitions/tag" } },
            },
            "required": ["size"],
            "definitions": { "tag": { "enum": ["a", "b"] } },
        });
        assert_eq!(of(schema), Vec::<String>::new());
    }

    #[test]
    fn wrong_schemas_are_refused() {
        for (schema, text) in [
            (json!({ "type": "object" }), "must have $schema key"),
            (json!({ "$schema": DRAFT, "type": "foo" }), "#/type"),
            (
                json!({ "$schema": DRAFT, "properties": { "a": 1 } }),
                "#/properties/a",
            ),
            (
                json!({ "$schema": "http://x.test/schema" }),
                "Custom meta schemas",
            ),
            (
                json!({ "$schema": DRAFT, "properties": { "a": { "$ref": "http://x.test/" } } }),
                "No external references are allowed: http://x.test/",
            ),
            (
                json!({ "$schema": DRAFT, "description": "x".repeat(70_000) }),
                "64KB",
            ),
        ] {
            let found = of(schema);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].contains(text), "{found:?}");
        }
    }
}
