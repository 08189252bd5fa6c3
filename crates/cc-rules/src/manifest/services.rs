//! The service instances to which an app's entry binds it. This module is pure.

use crate::ordered_json::OrderedJson;
use serde_json::{Map, Value};

/// A service instance, the name of the binding if it has one, and the parameters for the broker.
#[derive(Clone, Default, PartialEq)]
pub struct ServiceManifest {
    pub name: String,
    pub binding_name: Option<String>,
    pub parameters: Option<OrderedJson>,
}

/// Prints no parameters, because they may be secret.
impl std::fmt::Debug for ServiceManifest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServiceManifest")
            .field("name", &self.name)
            .field("binding_name", &self.binding_name)
            .finish_non_exhaustive()
    }
}

const FORM: &str =
    "Services must be a list of names, or of mappings with 'name', 'binding_name' and 'parameters'";

/// Reads the value of `services`: names, or mappings with a name. Adds what is wrong to `problems`.
pub(super) fn read(services: Option<&Value>, problems: &mut Vec<String>) -> Vec<ServiceManifest> {
    let list = match services {
        None | Some(Value::Null) => return Vec::new(),
        Some(Value::Array(list)) => list,
        Some(_) => {
            problems.push(FORM.to_owned());
            return Vec::new();
        }
    };
    let mut found: Vec<ServiceManifest> = Vec::new();
    for item in list {
        match service(item) {
            Ok(service) if found.iter().any(|other| other.name == service.name) => {
                problems.push(format!("Service '{}' occurs twice", service.name));
            }
            Ok(service) => found.push(service),
            Err(problem) => problems.push(problem),
        }
    }
    found
}

fn service(item: &Value) -> Result<ServiceManifest, String> {
    match item {
        Value::String(name) if !name.is_empty() => Ok(ServiceManifest {
            name: name.clone(),
            ..ServiceManifest::default()
        }),
        Value::Object(map) => mapping(map),
        _ => Err(FORM.to_owned()),
    }
}

fn mapping(map: &Map<String, Value>) -> Result<ServiceManifest, String> {
    let Some(name) = map.get("name").and_then(Value::as_str) else {
        return Err(FORM.to_owned());
    };
    let mut service = ServiceManifest {
        name: name.to_owned(),
        ..ServiceManifest::default()
    };
    for (key, value) in map {
        match (key.as_str(), value) {
            ("name", _) | (_, Value::Null) => {}
            ("binding_name" | "binding-name", Value::String(own)) => {
                service.binding_name = Some(own.clone());
            }
            ("parameters", Value::Object(_)) => {
                service.parameters = serde_json::from_value(value.clone()).ok();
            }
            (key, _) => {
                return Err(format!(
                    "Service '{name}' has the unknown or wrong key '{key}'; known are 'name' and 'binding_name', which are texts, and 'parameters', which is a mapping"
                ));
            }
        }
    }
    Ok(service)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn services_are_names_or_mappings() {
        let mut problems = Vec::new();
        let list = json!(["db", {"name": "queue", "binding_name": "main"}, {"name": "x", "parameters": null}]);
        let found = read(Some(&list), &mut problems);
        let found: Vec<_> = found
            .iter()
            .map(|service| (service.name.as_str(), service.binding_name.as_deref()))
            .collect();
        assert_eq!(found, [("db", None), ("queue", Some("main")), ("x", None)]);
        let list = json!([{"name": "db", "parameters": {"role": "reader"}}]);
        let found = read(Some(&list), &mut problems);
        let parameters = found[0].parameters.as_ref().map(OrderedJson::text);
        assert_eq!(parameters.as_deref(), Some(r#"{"role":"reader"}"#));
        assert!(read(None, &mut problems).is_empty());
        assert!(read(Some(&json!(null)), &mut problems).is_empty());
        assert!(problems.is_empty(), "{problems:?}");
    }

    #[test]
    fn wrong_services_are_refused() {
        for (services, text) in [
            (json!("db"), "must be a list"),
            (json!([1]), "must be a list"),
            (json!([""]), "must be a list"),
            (json!([{"binding_name": "x"}]), "must be a list"),
            (json!(["a", {"name": "a"}]), "'a' occurs twice"),
            (json!([{"name": "a", "parameters": "x"}]), "'parameters'"),
            (json!([{"name": "a", "plan": "x"}]), "'plan'"),
            (json!([{"name": "a", "binding_name": 5}]), "'binding_name'"),
        ] {
            let mut problems = Vec::new();
            read(Some(&services), &mut problems);
            assert!(problems[0].contains(text), "{services}: {problems:?}");
        }
    }
}
