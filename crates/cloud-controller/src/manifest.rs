//! The grammar of app manifests: from YAML to what each app wants, with every mistake named. Pure.
//!
//! Unknown keys are ignored, because clients leave their own in (`path`).

use crate::actions::sidecar::Wish;
use crate::limits::Limits;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct AppManifest {
    pub name: String,
    pub buildpacks: Option<Vec<String>>,
    pub stack: Option<String>,
    /// Type `web` first when its keys stand at the top level.
    pub processes: Vec<ProcessManifest>,
    pub env: Map<String, Value>,
    pub routes: Option<Vec<RouteManifest>>,
    pub no_route: bool,
    pub random_route: bool,
    pub default_route: bool,
    pub metadata: Option<Value>,
    pub features: BTreeMap<String, bool>,
    /// Those of the app, then those that stand under a process.
    pub sidecars: Vec<Wish>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RouteManifest {
    pub route: String,
    pub protocol: Option<String>,
    pub options: Option<Value>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ProcessManifest {
    pub kind: String,
    pub instances: Option<i64>,
    pub memory_in_mb: Option<i64>,
    pub disk_in_mb: Option<i64>,
    pub log_rate_limit: Option<i64>,
    /// `Some(None)`: back to the command of the buildpack.
    pub command: Option<Option<String>>,
    /// As the API's `{"type": …, "data": {…}}`.
    pub health_check: Option<Value>,
    pub readiness: Option<Value>,
}

/// All apps of a manifest, or all that is wrong with it.
pub(crate) fn parse(limits: &Limits, yaml: &[u8]) -> Result<Vec<AppManifest>, Vec<String>> {
    let root = read(yaml).map_err(|problem| vec![problem])?;
    limits
        .check_json("", &root)
        .map_err(|problem| vec![problem])?;
    if root
        .get("version")
        .is_some_and(|version| version.as_i64() != Some(1))
    {
        return Err(vec![
            "Unsupported manifest schema version. Currently supported versions: [1].".to_owned(),
        ]);
    }
    let Some(applications) = root
        .get("applications")
        .and_then(Value::as_array)
        .filter(|list| !list.is_empty())
    else {
        return Err(vec![
            "Manifest does not contain any applications; it needs a key 'applications' with a list"
                .to_owned(),
        ]);
    };
    let (mut apps, mut problems) = (Vec::new(), Vec::new());
    check_size(limits, applications)?;
    for (at, json) in applications.iter().enumerate() {
        let mut reader = Reader {
            json,
            problems: Vec::new(),
        };
        let app = reader.app();
        let prefix = if app.name.is_empty() {
            format!("For application at index {at}: ")
        } else {
            format!("For application '{}': ", app.name)
        };
        problems.extend(
            reader
                .problems
                .into_iter()
                .map(|problem| format!("{prefix}{problem}")),
        );
        apps.push(app);
    }
    if problems.is_empty() {
        Ok(apps)
    } else {
        Err(problems)
    }
}

/// Whether the manifest is small enough to be applied in one transaction.
fn check_size(limits: &Limits, applications: &[Value]) -> Result<(), Vec<String>> {
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
        Err(problems)
    }
}

fn read(yaml: &[u8]) -> Result<Value, String> {
    let problem = |error: &dyn std::fmt::Display| format!("Manifest is not valid YAML: {error}");
    let mut value: serde_yaml_ng::Value =
        serde_yaml_ng::from_slice(yaml).map_err(|error| problem(&error))?;
    value.apply_merge().map_err(|error| problem(&error))?;
    let json = serde_json::to_value(value).map_err(|error| problem(&error))?;
    if json.is_object() {
        Ok(json)
    } else {
        Err("Manifest must be a mapping with the key 'applications'".to_owned())
    }
}

struct Reader<'a> {
    json: &'a Value,
    problems: Vec<String>,
}

impl Reader<'_> {
    fn problem(&mut self, text: impl Into<String>) {
        self.problems.push(text.into());
    }

    /// The value of the first of several spellings of a key.
    fn key(&self, names: &[&str]) -> Option<&Value> {
        names.iter().find_map(|name| self.json.get(name))
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
        for (key, why) in [
            (
                "docker",
                "Docker images are not supported yet; push the app's files",
            ),
            (
                "cnb-credentials",
                "Cloud Native Buildpacks are not supported",
            ),
        ] {
            if self.json.get(key).is_some_and(|value| !value.is_null()) {
                self.problem(why);
            }
        }
        if self
            .json
            .get("lifecycle")
            .and_then(Value::as_str)
            .is_some_and(|lifecycle| lifecycle != "buildpack")
        {
            self.problem("Lifecycle must be 'buildpack'; docker and cnb are not supported yet");
        }
        if self
            .json
            .get("services")
            .and_then(Value::as_array)
            .is_some_and(|list| !list.is_empty())
        {
            self.problem("Services are not supported yet; remove the key 'services'");
        }
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
            match (name.as_str(), value.as_bool()) {
                ("revisions", Some(true)) => self.problem(
                    "Feature 'revisions' is not supported yet: no revisions are recorded; remove it or set it to false",
                ),
                ("ssh" | "revisions", Some(flag)) => drop(features.insert(name, flag)),
                ("ssh" | "revisions", None) => {
                    self.problem(format!("Feature '{name}' must be a boolean"))
                }
                _ => self.problem(format!(
                    "Feature '{name}' is not a valid feature; known are 'ssh' and 'revisions'"
                )),
            }
        }
        features
    }

    fn buildpacks(&mut self) -> Option<Vec<String>> {
        let default = |name: &str| name == "default" || name == "null";
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
            if let Err(problem) = crate::route_rules::parse(route) {
                self.problem(problem);
            }
            let protocol = item
                .get("protocol")
                .and_then(Value::as_str)
                .map(str::to_owned);
            if protocol
                .as_deref()
                .is_some_and(|protocol| !["http1", "http2"].contains(&protocol))
            {
                self.problem(format!(
                    "Route protocol must be 'http1' or 'http2' (route '{route}')"
                ));
            }
            routes.push(RouteManifest {
                route: route.to_owned(),
                protocol,
                options: item
                    .get("options")
                    .filter(|value| !value.is_null())
                    .cloned(),
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

    /// Sidecars of the app, and those under one of its processes, which run beside that process alone.
    fn all_sidecars(&mut self) -> Vec<Wish> {
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

    /// `beside`: the process type of those that name none.
    fn sidecars(&mut self, beside: Option<&str>) -> Vec<Wish> {
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

    fn sidecar(&mut self, beside: Option<&str>) -> Wish {
        const KEYS: &[&str] = &["name", "command", "process_types", "memory"];
        let name = self.text("name").unwrap_or_default();
        let label = format!("Sidecar \"{name}\"");
        let keys = self.json.as_object().into_iter().flatten();
        let unknown: Vec<String> = keys
            .filter(|(key, _)| !KEYS.contains(&key.as_str()))
            .map(|(key, _)| format!("{label}: unknown key '{key}'"))
            .collect();
        self.problems.extend(unknown);
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
        let memory = self.megabytes_of(&label, "Memory", &["memory"]);
        Wish {
            name: Some(name),
            command: Some(command),
            process_types: types,
            memory_in_mb: memory.map(Some),
        }
    }

    fn process(&mut self, kind: &str) -> ProcessManifest {
        let command = self.json.get("command").map(|command| match command {
            Value::String(text) if text != "default" && text != "null" && !text.is_empty() => {
                Some(text.clone())
            }
            _ => None,
        });
        ProcessManifest {
            kind: kind.to_owned(),
            instances: self.number(kind, "instances", 0),
            memory_in_mb: self.megabytes(kind, "Memory", &["memory"]),
            disk_in_mb: self.megabytes(kind, "Disk quota", &["disk_quota", "disk-quota"]),
            log_rate_limit: self.log_rate(kind),
            command,
            health_check: self.check(kind, "health-check", true),
            readiness: self.check(kind, "readiness-health-check", false),
        }
    }

    fn number(&mut self, kind: &str, key: &str, least: i64) -> Option<i64> {
        match self.json.get(key) {
            None | Some(Value::Null) => None,
            Some(value) => match value
                .as_i64()
                .filter(|number| *number >= least && *number <= i64::from(i32::MAX))
            {
                Some(number) => Some(number),
                None => {
                    let value = value.clone();
                    let mut label = key.replace(['-', '_'], " ");
                    label[..1].make_ascii_uppercase();
                    self.problem(format!("Process \"{kind}\": {label} must be greater than or equal to {least} (got {value})"));
                    None
                }
            },
        }
    }

    fn megabytes(&mut self, kind: &str, label: &str, keys: &[&str]) -> Option<i64> {
        self.megabytes_of(&format!("Process \"{kind}\""), label, keys)
    }

    fn megabytes_of(&mut self, owner: &str, label: &str, keys: &[&str]) -> Option<i64> {
        let text = match self.key(keys)? {
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
        let text = match self.key(&["log-rate-limit-per-second", "log_rate_limit_per_second"])? {
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
            .and_then(Value::as_str)
        {
            if !["port", "http", "process", "none"].contains(&name) {
                self.problem(format!("Process \"{kind}\": {} type must be \"port\", \"process\", or \"http\" (got '{name}')", prefix.replace('-', " ")));
            }
            check.insert("type".to_owned(), name.into());
        }
        if !data.is_empty() {
            check.insert("data".to_owned(), Value::Object(data));
        }
        (!check.is_empty()).then_some(Value::Object(check))
    }
}

/// `top` with what it leaves open taken from `web`, whose own keys win.
fn under(top: ProcessManifest, web: ProcessManifest) -> ProcessManifest {
    ProcessManifest {
        kind: web.kind,
        instances: web.instances.or(top.instances),
        memory_in_mb: web.memory_in_mb.or(top.memory_in_mb),
        disk_in_mb: web.disk_in_mb.or(top.disk_in_mb),
        log_rate_limit: web.log_rate_limit.or(top.log_rate_limit),
        command: web.command.or(top.command),
        health_check: web.health_check.or(top.health_check),
        readiness: web.readiness.or(top.readiness),
    }
}

/// `256M`, `1GB`, `512 mb`.
pub(crate) fn bytes(text: &str) -> Option<i64> {
    let text = text.trim().to_ascii_uppercase();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(split);
    let shift = match unit.trim() {
        "B" => 0,
        "K" | "KB" => 10,
        "M" | "MB" => 20,
        "G" | "GB" => 30,
        "T" | "TB" => 40,
        _ => return None,
    };
    let number: f64 = number.parse().ok()?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
    (number.is_finite() && (0.0..1e9).contains(&number))
        .then_some((number * (1_i64 << shift) as f64) as i64)
}

/// Sizes as manifests write them.
pub(crate) fn megabytes_text(megabytes: i64) -> String {
    format!("{megabytes}M")
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

    #[test]
    fn every_mistake_is_named() {
        let problems = parse(&Limits::default(), b"applications:\n- name: a\n  memory: 5\n  instances: -1\n  routes: [{route: nodots}]\n- memory: 64M\n").unwrap_err();
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
            .unwrap_err()[0]
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
        let problems = parse(&limits, yaml).unwrap_err();
        assert_eq!(
            problems,
            [
                "Manifest has 3 apps (maximum is 2); split the manifest",
                "Manifest has 4 routes (maximum is 3); split the manifest",
                "Manifest has 2 processes in one app (maximum is 1); split the manifest",
            ]
        );
        let problems = parse(&limits, b"applications: [{name: \"a\\0b\"}]").unwrap_err();
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
