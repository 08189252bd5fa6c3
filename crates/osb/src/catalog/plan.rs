//! The rules of plans.

use super::check::Reader;
use super::errors::PlanErrors;
use super::inspect::inspect;
use super::{MaintenanceInfo, Plan, schema};
use serde_json::{Map, Value};

/// The number of characters of `maintenance_info` as JSON.
const LONGEST_INFO: usize = 2000;

pub(super) fn plan(map: &Map<String, Value>) -> (Plan, PlanErrors) {
    let mut reader = Reader::new(map);
    let mut plan = Plan {
        id: reader.name("id", "Plan id"),
        name: reader.name("name", "Plan name"),
        description: reader.description("Plan description"),
        ..Plan::default()
    };
    let metadata = reader.object("metadata", "Plan metadata");
    plan.metadata = metadata.map(|map| Value::Object(map.clone()));
    plan.free = reader.bool("free", "Plan free").unwrap_or(true);
    plan.bindable = reader.bool("bindable", "Plan bindable");
    plan.plan_updateable = reader.bool("plan_updateable", "Plan updateable");
    plan.maximum_polling_duration =
        reader.integer("maximum_polling_duration", "Maximum polling duration");
    let mut schemas = Vec::new();
    if let Some(map) = reader.object("schemas", "Plan schemas") {
        read_schemas(map, &mut plan, &mut schemas);
    }
    plan.maintenance_info = maintenance_info(&mut reader);
    let errors = PlanErrors {
        name: plan.name.clone(),
        messages: reader.messages,
        schemas,
    };
    (plan, errors)
}

fn maintenance_info(reader: &mut Reader<'_>) -> Option<MaintenanceInfo> {
    let map = reader.object("maintenance_info", "Maintenance info")?;
    let mut own = Reader::new(map);
    let version = own.text("version", "Maintenance info version");
    if !version.as_deref().is_some_and(is_semantic_version) {
        let value = inspect(own.value("version"));
        own.note(format!(
            "Maintenance info version must be a Semantic Version, but has value {value}"
        ));
    }
    let description = own.text("description", "Maintenance info description");
    let length = Value::Object(map.clone()).to_string().chars().count();
    if length > LONGEST_INFO {
        own.note(format!(
            "Maintenance info must serialize to {LONGEST_INFO} characters or fewer in JSON, but serializes to {length} characters"
        ));
    }
    let others: Vec<&str> = map
        .keys()
        .map(String::as_str)
        .filter(|key| !["version", "description"].contains(key))
        .collect();
    if !others.is_empty() {
        own.note(format!(
            "Maintenance info contains invalid key(s): {}",
            others.join(", ")
        ));
    }
    reader.messages.append(&mut own.messages);
    Some(MaintenanceInfo {
        version: version?,
        description,
    })
}

/// Returns whether a text is a version as semver.org defines it.
pub fn is_semantic_version(text: &str) -> bool {
    let (text, build) = match text.split_once('+') {
        Some((text, build)) => (text, Some(build)),
        None => (text, None),
    };
    let (core, before) = match text.split_once('-') {
        Some((core, before)) => (core, Some(before)),
        None => (text, None),
    };
    let is_number = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_digit())
            && (text == "0" || !text.starts_with('0'))
    };
    let is_word = |text: &str| {
        let is_of_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !text.is_empty() && text.bytes().all(is_of_word)
    };
    let is_all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let numbers: Vec<&str> = core.split('.').collect();
    numbers.len() == 3
        && numbers.into_iter().all(is_number)
        && before.is_none_or(|before| {
            before
                .split('.')
                .all(|part| is_word(part) && (!is_all_digits(part) || is_number(part)))
        })
        && build.is_none_or(|build| build.split('.').all(is_word))
}

/// Reads the three schemas of parameters, and notes what is wrong.
fn read_schemas(map: &Map<String, Value>, plan: &mut Plan, errors: &mut Vec<String>) {
    let mut at = |noun: &str, verb: &str| {
        let of_noun = object(map, noun, noun, errors)?;
        let place = format!("{noun}.{verb}");
        let of_verb = object(of_noun, verb, &place, errors)?;
        let place = format!("{place}.parameters");
        let schema = object(of_verb, "parameters", &place, errors)?;
        let problems = schema::problems(schema);
        for problem in &problems {
            errors.push(format!("Schema {place} is not valid. {problem}"));
        }
        problems.is_empty().then(|| Value::Object(schema.clone()))
    };
    plan.create_instance = at("service_instance", "create");
    plan.update_instance = at("service_instance", "update");
    plan.create_binding = at("service_binding", "create");
    errors.dedup();
}

fn object<'a>(
    map: &'a Map<String, Value>,
    key: &str,
    place: &str,
    errors: &mut Vec<String>,
) -> Option<&'a Map<String, Value>> {
    match map.get(key)? {
        Value::Null | Value::Bool(false) => None,
        Value::Object(map) => Some(map),
        other => {
            errors.push(format!(
                "Schemas {place} must be a hash, but has value {}",
                inspect(other)
            ));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_semantic() {
        for right in [
            "1.2.3",
            "0.0.0",
            "1.0.0-rc.1",
            "1.0.0+build.01",
            "1.0.0-a-b+c",
        ] {
            assert!(is_semantic_version(right), "{right}");
        }
        for wrong in [
            "", "1", "1.2", "1.2.3.4", "01.2.3", "1.2.3-", "1.2.3-01", "1.2.x", "v1.2.3",
        ] {
            assert!(!is_semantic_version(wrong), "{wrong}");
        }
    }
}
