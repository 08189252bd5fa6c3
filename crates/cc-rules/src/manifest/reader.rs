//! The reader of one app's entry. It checks each value where it reads it, and notes every mistake. This module is pure.
//!
//! The keys of the entry have the spelling of [`keys`](super::keys), and unknown ones are already removed.

use super::sizes::bytes;
use super::{AppManifest, ProcessManifest, RouteManifest, SidecarManifest, services};
use crate::limits::Limits;
use crate::metadata::Metadata;
use crate::route_rules::{merge_options, parse};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

const FEATURES: &[&str] = &[
    "ssh",
    "revisions",
    "service-binding-k8s",
    "file-based-vcap-services",
];

/// Reads an app's entry. Adds what is wrong to `problems`.
pub(super) fn app(json: &Value, limits: &Limits, problems: &mut Vec<String>) -> AppManifest {
    let mut reader = Reader {
        json,
        problems: Vec::new(),
    };
    let app = reader.app();
    if let Some(metadata) = &app.metadata
        && let Err(error) = Metadata::default().merge(limits, metadata)
    {
        reader.problem(error.to_string());
    }
    problems.append(&mut reader.problems);
    app
}

struct Reader<'a> {
    json: &'a Value,
    problems: Vec<String>,
}

impl Reader<'_> {
    fn problem(&mut self, text: impl Into<String>) {
        self.problems.push(text.into());
    }

    fn app(&mut self) -> AppManifest {
        let name = self
            .json
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        if name.is_empty() {
            self.problem("Name must not be empty");
        }
        self.check_length("Name", &name);
        self.must_be_a_buildpack_app();
        let mut processes = self.processes();
        let top = self.process("web");
        if top
            != (ProcessManifest {
                kind: "web".to_owned(),
                ..ProcessManifest::default()
            })
        {
            match processes.iter_mut().find(|process| process.kind == "web") {
                Some(web) => *web = under(top, web.clone()),
                None => processes.insert(0, top),
            }
        }
        let app = AppManifest {
            name,
            buildpacks: self.buildpacks(),
            stack: self.text("stack"),
            processes,
            env: self.map("env"),
            routes: self.routes(),
            no_route: self.flag("no-route"),
            random_route: self.flag("random-route"),
            default_route: self.flag("default-route"),
            metadata: self
                .json
                .get("metadata")
                .filter(|value| !value.is_null())
                .cloned(),
            features: self.features(),
            services: services::read(self.json.get("services"), &mut self.problems),
            sidecars: self.all_sidecars(),
        };
        if app.random_route && app.default_route {
            self.problem("Random-route and default-route may not be used together");
        }
        if app.no_route && (app.random_route || app.default_route && app.routes.is_some()) {
            self.problem("No-route may not be used together with other routes");
        }
        app
    }

    fn check_length(&mut self, label: &str, text: &str) {
        if text.chars().count() > 255 {
            self.problem(format!("{label} is too long (maximum is 255 characters)"));
        }
    }

    fn must_be_a_buildpack_app(&mut self) {
        match self.json.get("lifecycle") {
            None | Some(Value::Null) => {}
            Some(lifecycle) if lifecycle == "buildpack" => {}
            Some(_) => {
                self.problem("Lifecycle must be 'buildpack'; docker and cnb are not supported yet");
            }
        }
    }

    fn text(&mut self, key: &str) -> Option<String> {
        match self.json.get(key) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(Value::Number(number)) => Some(number.to_string()),
            Some(_) => {
                self.problem(format!("{key} must be a string"));
                None
            }
        }
    }

    fn flag(&mut self, key: &str) -> bool {
        match self.json.get(key) {
            None | Some(Value::Null) => false,
            Some(Value::Bool(flag)) => *flag,
            Some(_) => {
                self.problem(format!("{key} must be a boolean"));
                false
            }
        }
    }

    fn map(&mut self, key: &str) -> Map<String, Value> {
        match self.json.get(key) {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(map)) => map.clone(),
            Some(_) => {
                self.problem(format!("{key} must be a mapping of names to values"));
                Map::new()
            }
        }
    }

    fn features(&mut self) -> BTreeMap<String, bool> {
        let map = self.map("features");
        let mut features = BTreeMap::new();
        for (name, value) in map {
            let is_known = FEATURES.contains(&name.as_str());
            match (name.as_str(), value.as_bool()) {
                ("revisions", Some(true)) => self.problem(
                    "Feature 'revisions' is not supported yet: no revisions are recorded; remove it or set it to false",
                ),
                (_, Some(flag)) if is_known => {
                    features.insert(name, flag);
                }
                (_, None) if is_known => {
                    self.problem(format!("Feature '{name}' must be a boolean"));
                }
                _ => self.problem(format!(
                    "Feature '{name}' is not a valid feature; known are '{}'",
                    FEATURES.join("', '")
                )),
            }
        }
        features
    }

    fn buildpacks(&mut self) -> Option<Vec<String>> {
        let default = |name: &str| name == "default" || name == "null";
        if self.json.get("buildpack").is_some() && self.json.get("buildpacks").is_some() {
            self.problem("Buildpack and Buildpacks fields cannot be used together.");
        }
        if let Some(value) = self.json.get("buildpacks") {
            let list = match value {
                Value::Null => Some(Vec::new()),
                Value::Array(list) => list
                    .iter()
                    .map(|item| item.as_str().map(str::to_owned))
                    .collect(),
                _ => None,
            };
            if list.is_none() {
                self.problem("Buildpacks must be a list of names");
            }
            return list
                .map(|list: Vec<String>| list.into_iter().filter(|name| !default(name)).collect());
        }
        match self.json.get("buildpack") {
            None => None,
            Some(Value::Null) => Some(Vec::new()),
            Some(Value::String(name)) if default(name) => Some(Vec::new()),
            Some(Value::String(name)) => Some(vec![name.clone()]),
            Some(_) => {
                self.problem("Buildpack must be a string");
                None
            }
        }
    }

    fn routes(&mut self) -> Option<Vec<RouteManifest>> {
        let list = match self.json.get("routes") {
            None | Some(Value::Null) => return None,
            Some(Value::Array(list)) => list.clone(),
            Some(_) => {
                self.problem("Routes must be a list of route objects");
                return None;
            }
        };
        let mut routes = Vec::new();
        for item in &list {
            let Some(route) = item.get("route").and_then(Value::as_str) else {
                self.problem("Routes must be a list of objects with the key 'route'");
                continue;
            };
            if let Err(error) = parse(route) {
                self.problem(error.to_string());
            }
            let protocol = match item.get("protocol") {
                None | Some(Value::Null) => None,
                Some(Value::String(name)) if name == "http1" || name == "http2" => {
                    Some(name.clone())
                }
                Some(_) => {
                    self.problem(format!(
                        "Route protocol must be 'http1' or 'http2' (route '{route}')"
                    ));
                    None
                }
            };
            let options = item.get("options").filter(|value| !value.is_null());
            if let Some(Err(problem)) = options.map(|options| merge_options(None, options)) {
                self.problem(format!("Route '{route}': {problem}"));
            }
            routes.push(RouteManifest {
                route: route.to_owned(),
                protocol,
                options: options.cloned(),
            });
        }
        Some(routes)
    }

    fn processes(&mut self) -> Vec<ProcessManifest> {
        let list = match self.json.get("processes") {
            None | Some(Value::Null) => return Vec::new(),
            Some(Value::Array(list)) => list.clone(),
            Some(_) => {
                self.problem("Processes must be a list of process configurations");
                return Vec::new();
            }
        };
        let mut processes: Vec<ProcessManifest> = Vec::new();
        for item in &list {
            let Some(kind) = item
                .get("type")
                .and_then(Value::as_str)
                .filter(|kind| !kind.is_empty())
            else {
                self.problem("All Processes must specify a 'type'");
                continue;
            };
            self.check_length("A process type", kind);
            if processes.iter().any(|process| process.kind == kind) {
                self.problem(format!("Process \"{kind}\" may only be present once"));
                continue;
            }
            let mut reader = Reader {
                json: item,
                problems: Vec::new(),
            };
            processes.push(reader.process(kind));
            self.problems.extend(reader.problems);
        }
        processes
    }

    /// Reads the sidecars of the app, and those under one of its processes, which run beside that process alone.
    fn all_sidecars(&mut self) -> Vec<SidecarManifest> {
        let mut sidecars = self.sidecars(None);
        let processes = self.json.get("processes").and_then(Value::as_array);
        for process in processes.into_iter().flatten() {
            let mut reader = Reader {
                json: process,
                problems: Vec::new(),
            };
            let kind = process.get("type").and_then(Value::as_str);
            sidecars.extend(reader.sidecars(kind));
            self.problems.extend(reader.problems);
        }
        sidecars
    }

    /// Reads a list of sidecars. `beside` is the process type of those that name none.
    fn sidecars(&mut self, beside: Option<&str>) -> Vec<SidecarManifest> {
        let list = match self.json.get("sidecars") {
            None | Some(Value::Null) => return Vec::new(),
            Some(Value::Array(list)) => list,
            Some(_) => {
                self.problem("Sidecars must be a list of sidecar configurations");
                return Vec::new();
            }
        };
        let mut sidecars = Vec::new();
        for item in list {
            let mut reader = Reader {
                json: item,
                problems: Vec::new(),
            };
            sidecars.push(reader.sidecar(beside));
            self.problems.extend(reader.problems);
        }
        sidecars
    }

    fn sidecar(&mut self, beside: Option<&str>) -> SidecarManifest {
        let name = self.text("name").unwrap_or_default();
        let label = format!("Sidecar \"{name}\"");
        if name.is_empty() || name.chars().count() > 255 {
            self.problem(format!("{label}: Name must have 1 to 255 characters"));
        }
        let command = self.text("command").unwrap_or_default();
        if command.is_empty() || command.chars().count() > 4096 {
            self.problem(format!("{label}: Command must have 1 to 4096 characters"));
        }
        let types = match self.json.get("process_types") {
            None | Some(Value::Null) => Some(beside.map(str::to_owned).into_iter().collect()),
            Some(types) => serde_json::from_value::<Vec<String>>(types.clone()).ok(),
        };
        if types.as_ref().is_none_or(Vec::is_empty) {
            self.problem(format!(
                "{label}: Process types must have at least 1 process_type"
            ));
        }
        let memory = self.megabytes(&label, "Memory", "memory");
        SidecarManifest {
            name,
            command,
            process_types: types.unwrap_or_default(),
            memory_in_mb: memory,
        }
    }

    fn process(&mut self, kind: &str) -> ProcessManifest {
        let owner = format!("Process \"{kind}\"");
        ProcessManifest {
            kind: kind.to_owned(),
            instances: self.number(kind, "instances", 0),
            memory_in_mb: self.megabytes(&owner, "Memory", "memory"),
            disk_in_mb: self.megabytes(&owner, "Disk quota", "disk_quota"),
            log_rate_limit: self.log_rate(kind),
            command: self.command(kind),
            user: self.user(kind),
            health_check: self.check(kind, "health-check", true),
            readiness: self.check(kind, "readiness-health-check", false),
        }
    }

    /// Reads the start command. `null`, `default` and an empty text return to the command of the buildpack.
    fn command(&mut self, kind: &str) -> Option<Option<String>> {
        match self.json.get("command")? {
            Value::Null => Some(None),
            Value::String(text) if matches!(text.as_str(), "" | "default" | "null") => Some(None),
            Value::String(text) => Some(Some(text.clone())),
            _ => {
                self.problem(format!("Process \"{kind}\": Command must be a string"));
                None
            }
        }
    }

    fn user(&mut self, kind: &str) -> Option<Option<String>> {
        match self.json.get("user")? {
            Value::Null => Some(None),
            Value::String(text) => Some(Some(text.clone())),
            _ => {
                self.problem(format!("Process \"{kind}\": User must be a string"));
                None
            }
        }
    }

    fn number(&mut self, kind: &str, key: &str, least: i64) -> Option<i64> {
        match self.json.get(key) {
            None | Some(Value::Null) => None,
            Some(value) => match value
                .as_i64()
                .or_else(|| value.as_str()?.parse().ok())
                .filter(|number| *number >= least && *number <= i64::from(i32::MAX))
            {
                Some(number) => Some(number),
                None => {
                    let value = value.clone();
                    let label = title(key);
                    self.problem(format!("Process \"{kind}\": {label} must be greater than or equal to {least} (got {value})"));
                    None
                }
            },
        }
    }

    fn megabytes(&mut self, owner: &str, label: &str, key: &str) -> Option<i64> {
        let text = match self.json.get(key)? {
            Value::Null => return None,
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        match bytes(&text) {
            Some(bytes) if bytes >= 1 << 20 && bytes >> 20 <= i64::from(i32::MAX) => {
                Some(bytes >> 20)
            }
            Some(_) => {
                self.problem(format!(
                    "{owner}: {label} must be greater than 0MB (got '{text}')"
                ));
                None
            }
            None => {
                self.problem(format!("{owner}: {label} must use a supported unit: B, K, KB, M, MB, G, GB, T, or TB (got '{text}')"));
                None
            }
        }
    }

    fn log_rate(&mut self, kind: &str) -> Option<i64> {
        let text = match self.json.get("log-rate-limit-per-second")? {
            Value::Null => return None,
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        match text.as_str() {
            "-1" => Some(-1),
            "0" => Some(0),
            text => bytes(text).or_else(|| {
                self.problem(format!("Process \"{kind}\": Log rate limit must use a supported unit: B, K, KB, M, MB, G, GB, T, or TB, or be -1 (got '{text}')"));
                None
            }),
        }
    }

    fn check(&mut self, kind: &str, prefix: &str, with_timeout: bool) -> Option<Value> {
        let mut data = Map::new();
        if let Some(endpoint) = self
            .json
            .get(format!("{prefix}-http-endpoint"))
            .filter(|value| !value.is_null())
        {
            if !endpoint.as_str().is_some_and(|path| path.starts_with('/')) {
                self.problem(format!(
                    "Process \"{kind}\": {} http endpoint must be a valid URI path (got {endpoint})",
                    title(prefix)
                ));
            }
            data.insert("endpoint".to_owned(), endpoint.clone());
        }
        for (key, name) in [
            ("invocation-timeout", "invocation_timeout"),
            ("interval", "interval"),
        ] {
            if let Some(number) = self.number(kind, &format!("{prefix}-{key}"), 1) {
                data.insert(name.to_owned(), number.into());
            }
        }
        if with_timeout && let Some(number) = self.number(kind, "timeout", 1) {
            data.insert("timeout".to_owned(), number.into());
        }
        let mut check = Map::new();
        if let Some(name) = self
            .json
            .get(format!("{prefix}-type"))
            .filter(|value| !value.is_null())
        {
            let known = ["port", "http", "process", "none"];
            if !name.as_str().is_some_and(|name| known.contains(&name)) {
                self.problem(format!("Process \"{kind}\": {} type must be \"port\", \"process\", or \"http\" (got {name})", title(prefix)));
            }
            check.insert("type".to_owned(), name.clone());
        }
        if !data.is_empty() {
            check.insert("data".to_owned(), Value::Object(data));
        }
        (!check.is_empty()).then_some(Value::Object(check))
    }
}

/// Changes `health-check` to `Health check`.
fn title(key: &str) -> String {
    let mut label = key.replace(['-', '_'], " ");
    label[..1].make_ascii_uppercase();
    label
}

/// Returns `web` with the values that it leaves open taken from `top`.
fn under(top: ProcessManifest, web: ProcessManifest) -> ProcessManifest {
    ProcessManifest {
        kind: web.kind,
        instances: web.instances.or(top.instances),
        memory_in_mb: web.memory_in_mb.or(top.memory_in_mb),
        disk_in_mb: web.disk_in_mb.or(top.disk_in_mb),
        log_rate_limit: web.log_rate_limit.or(top.log_rate_limit),
        command: web.command.or(top.command),
        user: web.user.or(top.user),
        health_check: check_under(top.health_check, web.health_check),
        readiness: check_under(top.readiness, web.readiness),
    }
}

/// Merges a health check whose parts are on both levels. The parts of `web` take precedence.
fn check_under(top: Option<Value>, web: Option<Value>) -> Option<Value> {
    let (mut merged, web) = match (top, web) {
        (Some(top), Some(web)) => (top, web),
        (top, web) => return web.or(top),
    };
    if let Some(kind) = web.get("type") {
        merged["type"] = kind.clone();
    }
    for (key, value) in web
        .get("data")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        merged["data"][key] = value.clone();
    }
    Some(merged)
}
