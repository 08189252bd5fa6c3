//! The catalog: one offering with the configured plans. The module is pure.

use crate::config::{Plan, Settings};
use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};

/// The user name with which the platform calls the broker.
pub(crate) const USER: &str = "platform";

/// Returns an id that is always the same for the same seed and name.
fn id(seed: &str, name: &str) -> String {
    let hash = digest(&SHA256, format!("{seed}\n{name}").as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.as_ref()[..16]);
    uuid::Builder::from_random_bytes(bytes)
        .into_uuid()
        .hyphenated()
        .to_string()
}

pub(crate) fn offering_id(settings: &Settings) -> String {
    id(&settings.seed, "offering")
}

fn plan_id(settings: &Settings, plan: &Plan) -> String {
    id(&settings.seed, &format!("plan {}", plan.name))
}

/// Returns the plan with this id.
pub(crate) fn plan<'a>(settings: &'a Settings, id: &str) -> Option<&'a Plan> {
    let mut plans = settings.plans.iter();
    plans.find(|plan| plan_id(settings, plan) == id)
}

fn size(mb: u64) -> String {
    match mb % 1024 {
        0 => format!("{} GiB", mb / 1024),
        _ => format!("{mb} MiB"),
    }
}

/// Returns the catalog as the API has it.
pub(crate) fn catalog(settings: &Settings) -> Value {
    // No request has parameters.
    let nothing = json!({
        "parameters": {
            "$schema": "http://json-schema.org/draft-04/schema#",
            "type": "object",
            "properties": {},
            "additionalProperties": false,
        }
    });
    let plans: Vec<Value> = settings
        .plans
        .iter()
        .map(|plan| {
            let storage = size(plan.storage_mb);
            let connections = plan.connections;
            json!({
                "id": plan_id(settings, plan),
                "name": plan.name,
                "description": format!("A database with {storage} and {connections} connections"),
                "free": true,
                "bindable": true,
                "metadata": {
                    "bullets": [format!("{storage} of storage"), format!("{connections} connections"), "TLS"],
                },
                "schemas": {
                    "service_instance": { "create": nothing, "update": nothing },
                    "service_binding": { "create": nothing },
                },
            })
        })
        .collect();
    json!({
        "services": [{
            "id": offering_id(settings),
            "name": settings.name,
            "description": "PostgreSQL databases on one server",
            "tags": ["postgresql", "postgres", "relational"],
            "bindable": true,
            "plan_updateable": true,
            "instances_retrievable": true,
            "bindings_retrievable": true,
            "allow_context_updates": true,
            "metadata": { "displayName": "PostgreSQL", "shareable": true },
            "plans": plans,
        }]
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::settings;

    #[test]
    fn ids_stay_while_plans_change() {
        let mut settings = settings();
        let first = catalog(&settings);
        settings.plans[0].connections += 1;
        settings.plans.reverse();
        let second = catalog(&settings);
        let offering = |catalog: &Value| catalog["services"][0].clone();
        assert_eq!(offering(&first)["id"], offering(&second)["id"]);
        assert_eq!(
            offering(&first)["plans"][0]["id"],
            offering(&second)["plans"][1]["id"]
        );
        assert_ne!(
            offering(&first)["plans"][0]["id"],
            offering(&first)["plans"][1]["id"]
        );
        let id = offering(&first)["plans"][0]["id"].clone();
        let found = plan(&settings, id.as_str().unwrap()).unwrap();
        assert_eq!(found.name, "small");
        assert!(plan(&settings, "other").is_none());
        settings.seed = "another".to_owned();
        assert_ne!(offering(&catalog(&settings))["id"], offering(&first)["id"]);
    }

    #[test]
    fn plans_say_what_they_have() {
        let catalog = catalog(&settings());
        let plan = &catalog["services"][0]["plans"][0];
        assert_eq!(
            plan["description"],
            "A database with 1 GiB and 10 connections"
        );
        assert_eq!(size(1536), "1536 MiB");
    }
}
