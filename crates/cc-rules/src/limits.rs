//! The limits of one request, resource or caller: one field per limit, with the name of its configuration key. `docs/limits.md`
//! lists them; a test compares the two.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The maximum number of instances of a process, whatever is configured.
pub const MOST_INSTANCES: i64 = 10_000;

/// All limits, with their defaults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The maximum number of instances of one process.
    pub instances_per_process: u32,
    /// The maximum disk of one instance, task or build, in MB.
    pub disk_in_mb_per_instance: u32,
    /// The maximum number of labels of one resource.
    pub labels_per_resource: u32,
    /// The maximum number of annotations of one resource.
    pub annotations_per_resource: u32,
    /// The maximum size of all environment variables of an app (or of a group) together, as JSON.
    pub environment_bytes: u32,
    /// The maximum size of a start command.
    pub command_bytes: u32,
    /// The maximum number of destinations of one route.
    pub destinations_per_route: u32,
    /// The maximum number of policies of one route.
    pub route_policies_per_route: u32,
    /// The maximum number of service instances of one space.
    pub service_instances_per_space: u32,
    /// The maximum number of service brokers of one space.
    pub service_brokers_per_space: u32,
    /// The maximum number of plans in the catalog of one service broker.
    pub plans_per_broker: u32,
    /// The maximum number of service bindings of one app.
    pub service_bindings_per_app: u32,
    /// The maximum number of service bindings of one app to one instance, of which it finds the newest one.
    pub service_bindings_per_app_and_instance: u32,
    /// The maximum number of routes that are bound to one service instance.
    pub route_bindings_per_service_instance: u32,
    /// The maximum size of the credentials of one service instance or binding, as JSON.
    pub credentials_bytes: u32,
    /// The maximum number of routes in one manifest, over all its apps.
    pub routes_per_manifest: u32,
    /// The maximum number of apps in one manifest.
    pub apps_per_manifest: u32,
    /// The maximum number of process types of one app.
    pub processes_per_app: u32,
    /// The maximum number of sidecars of one app.
    pub sidecars_per_app: u32,
    /// The maximum size of a manifest's text.
    pub manifest_bytes: u32,
    /// The maximum size of a request's JSON body.
    pub body_bytes: u32,
    /// The maximum size of one text in a body.
    pub text_bytes: u32,
    /// The maximum number of elements of one list, or of keys of one object, in a body.
    pub list_items: u32,
    /// The maximum number of guids in one relationship of a body.
    pub related_guids: u32,
    /// The maximum size of a request's query.
    pub query_bytes: u32,
    /// The maximum number of values of one filter of a list.
    pub filter_values: u32,
    /// The number of reading requests that one caller may have under way; further ones wait.
    pub reads_per_caller: u32,
    /// The number of reading requests of one caller that may wait; further ones are refused.
    pub waiting_reads_per_caller: u32,
    /// The number of changing requests that one caller may have under way; further ones wait. Uploads do not count.
    pub writes_per_caller: u32,
    /// The number of changing requests of one caller that may wait; further ones are refused.
    pub waiting_writes_per_caller: u32,
    /// The time for which one request may read the database, in seconds.
    pub read_seconds: u32,
    /// The maximum size of the stored rows of one page. A page whose rows are larger gets fewer rows.
    pub page_bytes: u32,
    /// The maximum size of an uploaded package or droplet, in MB.
    pub package_mb: u32,
    /// The maximum size of all files that are kept for `resource_matches`, in MB. Beyond it, the files that were not used for
    /// the longest time are removed.
    pub resource_pool_mb: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            instances_per_process: 1000,
            disk_in_mb_per_instance: 10_240,
            labels_per_resource: 50,
            annotations_per_resource: 200,
            environment_bytes: 64 << 10,
            command_bytes: 4096,
            destinations_per_route: 100,
            route_policies_per_route: 100,
            service_instances_per_space: 1000,
            service_brokers_per_space: 50,
            plans_per_broker: 1000,
            service_bindings_per_app: 100,
            service_bindings_per_app_and_instance: 5,
            route_bindings_per_service_instance: 500,
            credentials_bytes: 64 << 10,
            routes_per_manifest: 500,
            apps_per_manifest: 50,
            processes_per_app: 50,
            sidecars_per_app: 50,
            manifest_bytes: 1 << 20,
            body_bytes: 4 << 20,
            text_bytes: 64 << 10,
            list_items: 5000,
            related_guids: 500,
            query_bytes: 32 << 10,
            filter_values: 500,
            reads_per_caller: 4,
            waiting_reads_per_caller: 64,
            writes_per_caller: 8,
            waiting_writes_per_caller: 64,
            read_seconds: 10,
            page_bytes: 32 << 20,
            package_mb: 1024,
            resource_pool_mb: 2048,
        }
    }
}

/// The reason why a request or a resource is refused: the limit that it exceeds, or a character that no text may contain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    #[error("'{name}' must not contain a NUL character")]
    Nul { name: String },
    #[error("'{name}' is too long (maximum is {most} bytes)")]
    LongText { name: String, most: u32 },
    #[error("'{name}' has {count} {what} (maximum is {most})")]
    Count {
        name: String,
        count: usize,
        what: &'static str,
        most: u32,
    },
    #[error("The query is {length} bytes long (maximum is {most}); split the request")]
    LongQuery { length: usize, most: u32 },
    #[error("The query must not contain a NUL character")]
    NulInQuery,
    #[error("'{name}' has {count} values (maximum is {most}); split the request")]
    Values {
        name: String,
        count: usize,
        most: usize,
    },
    #[error("The query has {count} parameters (maximum is {most})")]
    Parameters { count: usize, most: usize },
    #[error("Instances must be less than or equal to {most} (got {count})")]
    Instances { count: i64, most: u32 },
    #[error(
        "disk_quota too much disk requested (requested {wanted} MB - must be less than or equal to {most} MB)"
    )]
    Disk { wanted: i64, most: i64 },
    #[error("Command is too long (maximum is {most} bytes)")]
    LongCommand { most: u32 },
}

impl Limits {
    /// Returns what is wrong with configured values, by key.
    pub fn problems(&self) -> Vec<String> {
        let Ok(Value::Object(all)) = serde_json::to_value(self) else {
            return Vec::new();
        };
        let mut problems: Vec<String> = all
            .iter()
            .filter(|(_, value)| value.as_u64() == Some(0))
            .map(|(key, _)| format!("limits.{key} must be at least 1"))
            .collect();
        if i64::from(self.instances_per_process) > MOST_INSTANCES {
            problems.push(format!(
                "limits.instances_per_process must be at most {MOST_INSTANCES} (got {})",
                self.instances_per_process
            ));
        }
        problems
    }

    /// Refuses a JSON body whose texts, lists or objects are too large, or that contains NUL characters.
    pub fn check_json(&self, name: &str, json: &Value) -> Result<(), LimitError> {
        match json {
            Value::String(text) => self.check_text(name, text),
            Value::Array(list) => {
                self.check_count(name, list.len(), "elements")?;
                list.iter().try_for_each(|item| self.check_json(name, item))
            }
            Value::Object(map) => {
                self.check_count(name, map.len(), "keys")?;
                map.iter().try_for_each(|(key, value)| {
                    self.check_text(name, key)?;
                    let inner = if name.is_empty() {
                        key.clone()
                    } else {
                        format!("{name}.{key}")
                    };
                    self.check_json(&inner, value)
                })
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
        }
    }

    fn check_text(&self, name: &str, text: &str) -> Result<(), LimitError> {
        let name = if name.is_empty() { "the body" } else { name };
        if text.contains('\0') {
            return Err(LimitError::Nul {
                name: name.to_owned(),
            });
        }
        if text.len() > self.text_bytes as usize {
            return Err(LimitError::LongText {
                name: name.to_owned(),
                most: self.text_bytes,
            });
        }
        Ok(())
    }

    fn check_count(&self, name: &str, count: usize, what: &'static str) -> Result<(), LimitError> {
        let name = if name.is_empty() { "the body" } else { name };
        if count > self.list_items as usize {
            return Err(LimitError::Count {
                name: name.to_owned(),
                count,
                what,
                most: self.list_items,
            });
        }
        Ok(())
    }

    /// Refuses a raw query that is too long, that has too many parameters, or that has too many values of one parameter.
    pub fn check_query(&self, query: &str) -> Result<(), LimitError> {
        if query.len() > self.query_bytes as usize {
            return Err(LimitError::LongQuery {
                length: query.len(),
                most: self.query_bytes,
            });
        }
        let lower = query.to_ascii_lowercase();
        if lower.contains("%00") || lower.contains('\0') {
            return Err(LimitError::NulInQuery);
        }
        let most = self.filter_values as usize;
        let mut parameters = 0;
        for pair in lower.split('&').filter(|pair| !pair.is_empty()) {
            parameters += 1;
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let values = 1 + value.matches(',').count() + value.matches("%2c").count();
            if values > most {
                return Err(LimitError::Values {
                    name: name.to_owned(),
                    count: values,
                    most,
                });
            }
        }
        if parameters > most {
            return Err(LimitError::Parameters {
                count: parameters,
                most,
            });
        }
        Ok(())
    }

    /// Refuses a process, or something that runs like one, with too many instances, too much disk or too long a command.
    pub fn check_process(
        &self,
        instances: i64,
        disk_in_mb: i64,
        command: Option<&str>,
    ) -> Result<(), LimitError> {
        if instances > i64::from(self.instances_per_process) {
            return Err(LimitError::Instances {
                count: instances,
                most: self.instances_per_process,
            });
        }
        let most = i64::from(self.disk_in_mb_per_instance);
        if disk_in_mb > most {
            return Err(LimitError::Disk {
                wanted: disk_in_mb,
                most,
            });
        }
        if command.is_some_and(|command| command.len() > self.command_bytes as usize) {
            return Err(LimitError::LongCommand {
                most: self.command_bytes,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_documentation_lists_every_limit_with_its_default() {
        let docs = include_str!("../../../docs/limits.md");
        let Value::Object(all) = serde_json::to_value(Limits::default()).unwrap() else {
            panic!("limits are an object");
        };
        for (key, value) in all {
            let row = format!("| `limits.{key}` | {value} |");
            assert!(docs.contains(&row), "docs/limits.md lacks the row {row}");
        }
    }

    #[test]
    fn bodies_are_bounded_by_name() {
        let limits = Limits {
            list_items: 2,
            text_bytes: 5,
            ..Limits::default()
        };
        let problem = |json: Value| limits.check_json("", &json).unwrap_err().to_string();
        assert_eq!(limits.check_json("", &json!({"a": {"b": [1, 2]}})), Ok(()));
        assert_eq!(
            problem(json!({"a": {"b": [1, 2, 3]}})),
            "'a.b' has 3 elements (maximum is 2)"
        );
        assert_eq!(
            problem(json!({"a": {"x": 1, "y": 2, "z": 3}})),
            "'a' has 3 keys (maximum is 2)"
        );
        assert_eq!(
            problem(json!({"a": "123456"})),
            "'a' is too long (maximum is 5 bytes)"
        );
        assert!(problem(json!({"a": ["x\u{0}"]})).contains("'a' must not contain a NUL"));
        assert!(problem(json!({"a": {"x\u{0}": 1}})).contains("NUL"));
    }

    #[test]
    fn queries_are_bounded_by_name() {
        let limits = Limits {
            filter_values: 3,
            query_bytes: 40,
            ..Limits::default()
        };
        assert_eq!(limits.check_query("names=a,b%2Cc&x=1"), Ok(()));
        let problem = |query: &str| limits.check_query(query).unwrap_err().to_string();
        assert!(problem("names=a,b%2Cc,d").starts_with("'names' has 4 values (maximum is 3)"));
        assert!(problem("a&b&c&d").contains("4 parameters"));
        assert!(problem("names=a%00").contains("NUL"));
        assert!(problem(&"a".repeat(41)).contains("41 bytes long (maximum is 40)"));
    }

    #[test]
    fn configured_values_are_checked() {
        assert_eq!(Limits::default().problems(), [""; 0]);
        let limits = Limits {
            query_bytes: 0,
            instances_per_process: 1_000_000,
            ..Limits::default()
        };
        assert_eq!(limits.problems().len(), 2);
    }
}
