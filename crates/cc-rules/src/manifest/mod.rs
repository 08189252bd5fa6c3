//! The grammar of app manifests. It translates YAML into what each app wants and reports every mistake. This module is pure.
//!
//! Every key has an effect or is refused by name (`keys.rs`); `path` alone belongs to clients.

mod diff;
mod keys;
mod reader;
mod services;
mod sizes;

pub use diff::diff;
pub use services::ServiceManifest;
pub use sizes::megabytes_text;

use crate::limits::Limits;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct AppManifest {
    pub name: String,
    pub buildpacks: Option<Vec<String>>,
    pub stack: Option<String>,
    /// The processes. Type `web` is the first one when its keys are at the top level.
    pub processes: Vec<ProcessManifest>,
    pub env: Map<String, Value>,
    pub routes: Option<Vec<RouteManifest>>,
    pub no_route: bool,
    pub random_route: bool,
    pub default_route: bool,
    pub metadata: Option<Value>,
    pub features: BTreeMap<String, bool>,
    /// The service instances to which the app is bound.
    pub services: Vec<ServiceManifest>,
    /// The sidecars of the app, followed by those that are under a process.
    pub sidecars: Vec<SidecarManifest>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct SidecarManifest {
    pub name: String,
    pub command: String,
    pub process_types: Vec<String>,
    pub memory_in_mb: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteManifest {
    pub route: String,
    pub protocol: Option<String>,
    pub options: Option<Value>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProcessManifest {
    pub kind: String,
    pub instances: Option<i64>,
    pub memory_in_mb: Option<i64>,
    pub disk_in_mb: Option<i64>,
    pub log_rate_limit: Option<i64>,
    /// The start command. `Some(None)` returns to the command of the buildpack.
    pub command: Option<Option<String>>,
    /// The user. `Some(None)` returns to the platform's user.
    pub user: Option<Option<String>>,
    /// The health check in the API's form, `{"type": …, "data": {…}}`.
    pub health_check: Option<Value>,
    pub readiness: Option<Value>,
}

/// The reasons why a manifest is refused: every problem, with the app to which it belongs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .problems.join("; "))]
pub struct ManifestError {
    pub problems: Vec<String>,
}

impl From<String> for ManifestError {
    fn from(problem: String) -> Self {
        Self {
            problems: vec![problem],
        }
    }
}

/// Returns all apps of a manifest, or all that is wrong with it.
pub fn parse(limits: &Limits, yaml: &[u8]) -> Result<Vec<AppManifest>, ManifestError> {
    let root = read(yaml)?;
    limits
        .check_json("", &root)
        .map_err(|error| error.to_string())?;
    if root
        .get("version")
        .is_some_and(|version| version.as_i64() != Some(1))
    {
        let problem = "Unsupported manifest schema version. Currently supported versions: [1].";
        return Err(problem.to_owned().into());
    }
    let Some(applications) = root
        .get("applications")
        .and_then(Value::as_array)
        .filter(|list| !list.is_empty())
    else {
        let problem =
            "Manifest does not contain any applications; it needs a key 'applications' with a list";
        return Err(problem.to_owned().into());
    };
    let mut problems = keys::unknown_at_root(&root, &String::from_utf8_lossy(yaml));
    let mut apps = Vec::new();
    check_size(limits, applications)?;
    for (at, json) in applications.iter().enumerate() {
        let mut found = Vec::new();
        let json = keys::spelled(json, &mut found);
        let app = reader::app(&json, limits, &mut found);
        let prefix = if app.name.is_empty() {
            format!("For application at index {at}: ")
        } else {
            format!("For application '{}': ", app.name)
        };
        problems.extend(
            found
                .into_iter()
                .map(|problem| format!("{prefix}{problem}")),
        );
        apps.push(app);
    }
    if problems.is_empty() {
        Ok(apps)
    } else {
        Err(ManifestError { problems })
    }
}

/// Refuses a manifest that is too large to be applied in one transaction.
fn check_size(limits: &Limits, applications: &[Value]) -> Result<(), ManifestError> {
    let length =
        |app: &Value, key: &str| app.get(key).and_then(Value::as_array).map_or(0, Vec::len);
    let routes = applications.iter().map(|app| length(app, "routes")).sum();
    let processes = applications
        .iter()
        .map(|app| length(app, "processes"))
        .max()
        .unwrap_or_default();
    let problems: Vec<String> = [
        ("apps", applications.len(), limits.apps_per_manifest),
        ("routes", routes, limits.routes_per_manifest),
        ("processes in one app", processes, limits.processes_per_app),
    ]
    .into_iter()
    .filter(|(_, count, most)| *count > *most as usize)
    .map(|(what, count, most)| {
        format!("Manifest has {count} {what} (maximum is {most}); split the manifest")
    })
    .collect();
    if problems.is_empty() {
        Ok(())
    } else {
        Err(ManifestError { problems })
    }
}

/// Reads a manifest's text and applies its merges (`<<`).
pub fn read(yaml: &[u8]) -> Result<Value, ManifestError> {
    let problem = |error: &dyn std::fmt::Display| format!("Manifest is not valid YAML: {error}");
    let mut value: yaml_serde::Value =
        yaml_serde::from_slice(yaml).map_err(|error| problem(&error))?;
    value.apply_merge().map_err(|error| problem(&error))?;
    let json = serde_json::to_value(value).map_err(|error| problem(&error))?;
    if json.is_object() {
        Ok(json)
    } else {
        let problem = "Manifest must be a mapping with the key 'applications'";
        Err(problem.to_owned().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_that_push_sends() {
        let apps = parse(
            &Limits::default(),
            br#"
version: 1
applications:
- name: web-app
  path: /ignored
  memory: 1.5G
  disk_quota: 512MB
  instances: 2
  buildpack: binary_buildpack
  command: ./run
  timeout: 90
  health-check-type: http
  health-check-http-endpoint: /health
  env: {A: 1, B: null}
  routes:
  - route: https://a.apps.test/x
    protocol: http2
  - route: b.apps.test
    options: {loadbalancing: least-connection}
  processes:
  - type: worker
    memory: 64M
    command: null
"#,
        )
        .unwrap();
        let app = &apps[0];
        assert_eq!(app.buildpacks, Some(vec!["binary_buildpack".into()]));
        let web = &app.processes[0];
        assert_eq!(
            (
                web.kind.as_str(),
                web.instances,
                web.memory_in_mb,
                web.disk_in_mb
            ),
            ("web", Some(2), Some(1536), Some(512))
        );
        assert_eq!(
            web.health_check,
            Some(
                serde_json::json!({"type": "http", "data": {"endpoint": "/health", "timeout": 90}})
            )
        );
        assert_eq!(
            (app.processes[1].memory_in_mb, &app.processes[1].command),
            (Some(64), &Some(None))
        );
        assert_eq!(
            app.routes.as_ref().unwrap()[0].protocol.as_deref(),
            Some("http2")
        );
    }

    use keys::Use;
    use serde_json::json;
    use sizes::bytes;

    /// Returns a value of each key that has an effect, in the form that the key has at its level.
    fn sample(level: &str, key: &str) -> Value {
        match (level, key) {
            ("root", "version") => json!(2),
            ("root", _) => json!([{"name": "other"}]),
            ("app", "name") => json!("other"),
            ("app", "lifecycle") => json!("cnb"),
            ("app", "services") => json!(["db"]),
            ("app", "env") => json!({"K": 1}),
            ("app", "features") => json!({"ssh": false}),
            ("app", "metadata") => json!({"labels": {"a": "b"}}),
            ("app", "routes") => json!([{"route": "a.b.c"}]),
            ("app", "buildpacks") | ("sidecar", "process_types") => json!(["x"]),
            ("app", "no-route" | "random-route" | "default-route") => json!(true),
            ("app", "processes") => json!([{"type": "worker", "instances": 2}]),
            ("app" | "process", "sidecars") => {
                json!([{"name": "new", "command": "c", "process_types": ["web"]}])
            }
            (_, "memory" | "disk_quota" | "log-rate-limit-per-second") => json!("77M"),
            (_, "health-check-http-endpoint" | "readiness-health-check-http-endpoint") => {
                json!("/x")
            }
            (_, "health-check-type" | "readiness-health-check-type") => json!("http"),
            (_, "instances" | "timeout") => json!(7),
            (_, key) if key.ends_with("interval") || key.ends_with("invocation-timeout") => {
                json!(7)
            }
            ("route", "route") => json!("other.b.c"),
            ("route", "protocol") => json!("http2"),
            ("route", "options") => json!({"loadbalancing": "round-robin"}),
            ("process", "type") => json!("worker"),
            _ => json!("text"),
        }
    }

    /// Returns a manifest with `key: value` added at one level.
    fn with(level: &str, key: &str, value: Value) -> Value {
        let mut root = json!({"applications": [{
            "name": "a",
            "routes": [{"route": "x.b.c"}],
            "sidecars": [{"name": "s", "command": "c", "process_types": ["web"]}],
            "processes": [{"type": "clock", "sidecars": [{"name": "t", "command": "c"}]}],
            "metadata": {"annotations": {"a": "b"}},
            "features": {"ssh": true},
        }]});
        let place = match level {
            "root" => "",
            "app" => "/applications/0",
            "process" => "/applications/0/processes/0",
            "sidecar" => "/applications/0/sidecars/0",
            "sidecar of a process" => "/applications/0/processes/0/sidecars/0",
            "route" => "/applications/0/routes/0",
            "options" => "/applications/0/routes/0/options",
            other => &format!("/applications/0/{other}"),
        };
        if level == "options" {
            root["applications"][0]["routes"][0]["options"] = json!({});
        }
        root.pointer_mut(place).unwrap()[key] = value;
        root
    }

    fn parsed(root: &Value) -> Result<Vec<AppManifest>, Vec<String>> {
        let yaml = yaml_serde::to_string(root).unwrap();
        parse(&Limits::default(), yaml.as_bytes()).map_err(|error| error.problems)
    }

    #[test]
    fn every_known_key_of_every_level_has_an_effect() {
        let plain = parsed(&with("app", "name", json!("a")));
        assert!(plain.is_ok(), "{plain:?}");
        let levels: [(&str, &[keys::Table]); 5] = [
            ("root", &[keys::ROOT]),
            ("app", &[keys::APP, keys::SETTINGS]),
            ("process", &[keys::PROCESS, keys::SETTINGS]),
            ("sidecar", &[keys::SIDECAR]),
            ("route", &[keys::ROUTE]),
        ];
        for (level, tables) in levels {
            for (key, purpose) in tables.iter().copied().flatten() {
                let changed = parsed(&with(level, key, sample(level, key)));
                match purpose {
                    Use::Effect => assert_ne!(changed, plain, "{key} of {level} has no effect"),
                    Use::Client => assert_eq!(changed, plain, "{key} of {level}"),
                    Use::Refused(_) => {
                        let problems = changed.unwrap_err();
                        assert!(problems[0].contains(&format!("'{key}'")), "{problems:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn an_unknown_key_of_any_level_is_refused_by_name() {
        let levels = [
            "root",
            "app",
            "process",
            "sidecar",
            "sidecar of a process",
            "route",
            "options",
            "metadata",
            "features",
        ];
        for level in levels {
            for key in ["nonsense", "Memory", "memory "] {
                let problems = parsed(&with(level, key, json!("1"))).unwrap_err();
                let named = |problem: &String| problem.contains(&format!("'{key}'"));
                assert!(problems.iter().any(named), "{level}: {problems:?}");
            }
        }
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_refused() {
        for (level, key, value) in [
            ("app", "lifecycle", json!(["buildpack"])),
            ("app", "services", json!("db")),
            ("app", "command", json!(5)),
            ("app", "buildpacks", json!({})),
            ("app", "env", json!([])),
            ("app", "metadata", json!([])),
            ("app", "features", json!("ssh")),
            ("app", "no-route", json!("yes")),
            ("app", "health-check-type", json!(5)),
            ("app", "health-check-http-endpoint", json!("health")),
            ("process", "user", json!(["root"])),
            ("process", "instances", json!("many")),
            ("route", "protocol", json!(2)),
            ("route", "options", json!("x")),
            ("sidecar", "process_types", json!("web")),
        ] {
            assert!(parsed(&with(level, key, value)).is_err(), "{level} {key}");
        }
        let both = json!({"applications": [{"name": "a", "buildpack": "x", "buildpacks": ["y"]}]});
        assert!(parsed(&both).is_err());
        assert!(parsed(&json!({"applications": ["a"]})).is_err());
    }

    #[test]
    fn the_parts_of_a_health_check_may_stand_on_both_levels() {
        let app = json!({"name": "a", "timeout": "60", "processes": [
            {"type": "web", "health-check-type": "http", "health-check-invocation-timeout": 5}]});
        let apps = parsed(&json!({"applications": [app]})).unwrap();
        assert_eq!(
            apps[0].processes[0].health_check,
            Some(json!({"type": "http", "data": {"timeout": 60, "invocation_timeout": 5}}))
        );
    }

    #[test]
    fn every_mistake_is_named() {
        let problems = parse(&Limits::default(), b"applications:\n- name: a\n  memory: 5\n  instances: -1\n  routes: [{route: nodots}]\n- memory: 64M\n").unwrap_err().problems;
        assert_eq!(problems.len(), 4, "{problems:?}");
        assert!(problems.iter().any(|problem| problem.starts_with(
            "For application 'a': Process \"web\": Memory must use a supported unit"
        )));
        assert!(problems[3].starts_with("For application at index 1: Name"));
        assert!(parse(&Limits::default(), b"applications: []").is_err());
        assert!(parse(&Limits::default(), b"version: 2\napplications: [{name: a}]").is_err());
        assert!(parse(&Limits::default(), b"a: [").is_err());
        assert!(
            parse(
                &Limits::default(),
                b"applications: [{name: a, docker: {image: x}}]"
            )
            .unwrap_err()
            .problems[0]
                .contains("Docker")
        );
    }

    #[test]
    fn a_manifest_that_is_too_large_is_refused_by_name() {
        let limits = Limits {
            apps_per_manifest: 2,
            routes_per_manifest: 3,
            processes_per_app: 1,
            ..Limits::default()
        };
        let yaml = b"applications:\n- name: a\n  routes: [{route: a.b}, {route: c.b}]\n  processes: [{type: x}, {type: y}]\n- name: b\n  routes: [{route: d.b}, {route: e.b}]\n- name: c\n";
        let problems = parse(&limits, yaml).unwrap_err().problems;
        assert_eq!(
            problems,
            [
                "Manifest has 3 apps (maximum is 2); split the manifest",
                "Manifest has 4 routes (maximum is 3); split the manifest",
                "Manifest has 2 processes in one app (maximum is 1); split the manifest",
            ]
        );
        let problems = parse(&limits, b"applications: [{name: \"a\\0b\"}]")
            .unwrap_err()
            .problems;
        assert!(problems[0].contains("NUL"), "{problems:?}");
    }

    #[test]
    fn sizes() {
        assert_eq!(bytes("1G"), Some(1 << 30));
        assert_eq!(bytes("64 mb"), Some(64 << 20));
        assert_eq!(bytes("64"), None);
        assert_eq!(bytes("M"), None);
    }
}
