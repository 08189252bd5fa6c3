//! The parts of requests and responses that quotas of organizations and quotas of spaces share: their keys and their limits.

use super::prelude::*;
use crate::quota::Limits;

/// The keys that quotas of organizations and spaces share, and further ones.
macro_rules! keys {
    ($($own:literal),*) => {
        &[
            "name",
            "apps.total_memory_in_mb",
            "apps.per_process_memory_in_mb",
            "apps.total_instances",
            "apps.per_app_tasks",
            "apps.log_rate_limit_in_bytes_per_second",
            "services.paid_services_allowed",
            "services.total_service_instances",
            "services.total_service_keys",
            "routes.total_routes",
            "routes.total_reserved_ports",
            $($own),*
        ]
    };
}
pub(super) use keys;

/// Adds the groups of limits to a quota's JSON.
pub(super) fn show_limits(json: &mut Value, limits: &Value) {
    for (key, value) in limits.as_object().into_iter().flatten() {
        json[key] = value.clone();
    }
}

/// Replaces the limits that the body contains, and notes values that are no limit.
pub(super) fn read_limits(body: &mut Body, limits: &mut Value, groups: &[&str]) {
    for group in groups {
        let given = match body.value(group) {
            None | Some(Value::Null) => continue,
            Some(Value::Object(given)) => given.clone(),
            Some(_) => {
                body.problem(format!("{} must be an object", capital(group)));
                continue;
            }
        };
        for (key, value) in given {
            if limits[*group].get(&key).is_none() {
                body.problem(format!("{} has unknown field(s): '{key}'", capital(group)));
            } else if let Err(problem) = check_limit(&key, &value) {
                body.problem(format!("{} {problem}", capital(group)));
            } else {
                limits[*group][&key] = value;
            }
        }
    }
    let read = Limits::read(limits);
    if let (Some(ports), Some(routes)) = (read.reserved_ports, read.routes)
        && ports > routes
    {
        body.problem("Total reserved ports must be less than or equal to total routes");
    }
}

fn check_limit(key: &str, value: &Value) -> Result<(), String> {
    let name = capital(&key.replace('_', " ")).to_lowercase();
    if key == "paid_services_allowed" {
        return if value.is_boolean() {
            Ok(())
        } else {
            Err(format!("{name} must be a boolean"))
        };
    }
    let most = if key == "log_rate_limit_in_bytes_per_second" {
        i64::MAX
    } else {
        i64::from(i32::MAX)
    };
    match value.as_i64() {
        _ if value.is_null() => Ok(()),
        None => Err(format!("{name} is not a number")),
        Some(number) if number < 0 => Err(format!("{name} must be greater than or equal to 0")),
        Some(number) if number > most => {
            Err(format!("{name} must be less than or equal to {most}"))
        }
        Some(_) => Ok(()),
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(chars).collect()
    })
}

/// Refuses with 422 the guids that the caller named and does not see.
pub(super) fn all_found<'a>(
    nouns: &str,
    wanted: &[String],
    found: impl Iterator<Item = &'a String> + Clone,
) -> ApiResult<()> {
    let missing: Vec<&String> = wanted
        .iter()
        .filter(|guid| !found.clone().any(|other| other == *guid))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(ApiError::unprocessable(format!(
        "{nouns} with guids {missing:?} do not exist, or you do not have access to them."
    )))
}
