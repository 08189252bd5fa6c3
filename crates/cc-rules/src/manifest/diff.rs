//! Computes what a posted manifest would change. This module is pure: it compares the posted entries with those that
//! the Cloud Controller generates for the space's apps.
//!
//! A manifest adds and replaces values, and removes only those that it sets to null; the diff does the same. Sizes are compared
//! and shown in megabytes, whatever their unit.

use super::keys::{canonical, is_setting};
use super::sizes::{bytes, megabytes_text};
use crate::route_rules;
use serde_json::{Map, Value, json};

/// The keys whose values only clients read.
const OF_CLIENTS: &[&str] = &["path"];

/// Returns the entries `{op, path, was?, value?}`. `current` contains the manifests of the space's apps by name.
pub fn diff(posted: &Value, current: &Map<String, Value>) -> Vec<Value> {
    let mut changes = Changes(Vec::new());
    let applications = posted.get("applications").and_then(Value::as_array);
    for (at, wanted) in applications.into_iter().flatten().enumerate() {
        let Some(wanted) = wanted.as_object() else {
            continue;
        };
        let name = wanted.get("name").and_then(Value::as_str);
        let existing = name.and_then(|name| current.get(name));
        changes.app(&format!("/applications/{at}"), wanted, existing);
    }
    changes.0
}

struct Changes(Vec<Value>);

impl Changes {
    fn app(&mut self, path: &str, wanted: &Map<String, Value>, existing: Option<&Value>) {
        let nothing = Value::Null;
        let existing = existing.unwrap_or(&nothing);
        let web = find(&existing["processes"], "type", &json!("web"));
        for (posted_key, value) in wanted {
            let key = canonical(posted_key);
            let path = format!("{path}/{posted_key}");
            if is_setting(key) {
                self.value(&path, &normal(key, value), web.map(|web| &web[key]));
                continue;
            }
            if OF_CLIENTS.contains(&key) {
                continue;
            }
            let was = existing.get(key);
            match (key, value) {
                ("processes", Value::Array(list)) => {
                    self.list(&path, list, was, "type");
                    self.sidecars_of_processes(&path, list, existing);
                }
                ("sidecars", Value::Array(list)) => self.list(&path, list, was, "name"),
                ("routes", Value::Array(list)) => self.list(&path, list, was, "route"),
                ("services", Value::Array(list)) if list.is_empty() => {}
                ("services", Value::Array(list)) if was.is_some() => {
                    self.services(&path, list, was)
                }
                // Names are compared without case, and a manifest renames nothing.
                ("name", _) if existing.is_object() => {}
                ("lifecycle", value) => {
                    let was = existing.is_object().then(|| json!("buildpack"));
                    self.value(&path, value, was.as_ref());
                }
                ("buildpack", value) => {
                    self.value(&path, value, existing.pointer("/buildpacks/0"));
                }
                ("env", Value::Object(map)) if was.is_some() => self.texts(&path, map, was),
                ("metadata", Value::Object(map)) if was.is_some() => {
                    for kind in ["labels", "annotations"] {
                        if let Some(Value::Object(entries)) = map.get(kind) {
                            let was = was.and_then(|was| was.get(kind));
                            self.texts(&format!("{path}/{kind}"), entries, was);
                        }
                    }
                }
                ("features", Value::Object(map)) if was.is_some() => {
                    for (name, value) in map {
                        let was = was.and_then(|was| was.get(name));
                        // The entry of an app names only those of the other features that are on.
                        if was.is_none() && value.as_bool() == Some(false) {
                            continue;
                        }
                        self.value(&format!("{path}/{}", escaped(name)), value, was);
                    }
                }
                ("buildpacks", Value::Array(list)) if was.is_some() => {
                    self.positions(&path, list, was);
                }
                _ => self.value(&path, value, was),
            }
        }
    }

    /// Adds the services to which the app is not bound. A manifest unbinds nothing.
    fn services(&mut self, path: &str, list: &[Value], was: Option<&Value>) {
        let bound = was.and_then(Value::as_array);
        for (at, service) in list.iter().enumerate() {
            let name = service.get("name").unwrap_or(service);
            if !bound.is_some_and(|bound| bound.contains(name)) {
                self.value(&format!("{path}/{at}"), service, None);
            }
        }
    }

    /// Compares the sidecars under a process with the sidecars of the app, because applying the manifest adds them there.
    fn sidecars_of_processes(&mut self, path: &str, processes: &[Value], existing: &Value) {
        if !existing.is_object() {
            return;
        }
        let none = json!([]);
        let was = existing.get("sidecars").unwrap_or(&none);
        for (at, process) in processes.iter().enumerate() {
            if let Some(Value::Array(list)) = process.get("sidecars") {
                self.list(&format!("{path}/{at}/sidecars"), list, Some(was), "name");
            }
        }
    }

    /// Compares a list of objects that one of their keys identifies.
    fn list(&mut self, path: &str, wanted: &[Value], existing: Option<&Value>, identity: &str) {
        let Some(existing) = existing.filter(|list| list.is_array()) else {
            let whole = wanted.iter().map(normalised).collect();
            return self.value(path, &Value::Array(whole), None);
        };
        for (at, item) in wanted.iter().enumerate() {
            let path = format!("{path}/{at}");
            let item = normalised(item);
            match find(existing, identity, &item[identity]) {
                None => self.value(&path, &item, None),
                Some(was) => {
                    let others = item.as_object().into_iter().flatten();
                    let compared = others.filter(|(key, _)| {
                        *key != identity && !(identity == "type" && *key == "sidecars")
                    });
                    for (key, value) in compared {
                        let was = was.get(canonical(key));
                        self.value(&format!("{path}/{key}"), value, was);
                    }
                }
            }
        }
    }

    /// Compares a mapping of names to texts; null removes an entry.
    fn texts(&mut self, path: &str, wanted: &Map<String, Value>, existing: Option<&Value>) {
        for (name, value) in wanted {
            let was = existing.and_then(|existing| existing.get(name));
            let path = format!("{path}/{}", escaped(name));
            match (value, was) {
                (Value::Null, None) => {}
                (Value::Null, Some(was)) => {
                    self.0
                        .push(json!({ "op": "remove", "path": path, "was": was }));
                }
                (Value::String(_), _) => self.value(&path, value, was),
                _ => self.value(&path, &json!(value.to_string()), was),
            }
        }
    }

    /// Compares a list whose order is significant; the posted list replaces the present one.
    fn positions(&mut self, path: &str, wanted: &[Value], existing: Option<&Value>) {
        let none = Vec::new();
        let existing = existing.and_then(Value::as_array).unwrap_or(&none);
        for (at, value) in wanted.iter().enumerate() {
            self.value(&format!("{path}/{at}"), value, existing.get(at));
        }
        for (at, was) in existing.iter().enumerate().skip(wanted.len()) {
            self.0
                .push(json!({ "op": "remove", "path": format!("{path}/{at}"), "was": was }));
        }
    }

    fn value(&mut self, path: &str, value: &Value, was: Option<&Value>) {
        let size = |value: &Value| value.as_str().and_then(bytes);
        match was.filter(|was| !was.is_null()) {
            None if value.is_null() => {}
            None => self
                .0
                .push(json!({ "op": "add", "path": path, "value": value })),
            Some(was) if was == value || plain(was) == plain(value) => {}
            Some(was) if size(was).is_some() && size(was) == size(value) => {}
            Some(was) => {
                self.0
                    .push(json!({ "op": "replace", "path": path, "was": was, "value": value }));
            }
        }
    }
}

/// Returns an item with its sizes in megabytes.
fn normalised(item: &Value) -> Value {
    let Some(map) = item.as_object() else {
        return item.clone();
    };
    map.iter()
        .map(|(key, value)| (key.clone(), normal(canonical(key), value)))
        .collect::<Map<_, _>>()
        .into()
}

fn normal(key: &str, value: &Value) -> Value {
    let text = value.as_str();
    match key {
        "memory" | "disk_quota" => text
            .and_then(bytes)
            .map_or_else(|| value.clone(), |bytes| json!(megabytes_text(bytes >> 20))),
        "log-rate-limit-per-second" if plain(value) == "0" => json!("0B"),
        "health-check-type" if text == Some("none") => json!("process"),
        _ => value.clone(),
    }
}

/// Returns the text of a value, because `1` and `"1"` are equal in a manifest.
fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn find<'a>(list: &'a Value, key: &str, value: &Value) -> Option<&'a Value> {
    let name = |value: &Value| match (key, value.as_str()) {
        ("route", Some(text)) => json!(bare(text)),
        _ => value.clone(),
    };
    list.as_array()?
        .iter()
        .find(|item| item.get(key).map(name) == Some(name(value)))
}

/// Returns a route's text without scheme and in lower case, for comparing routes.
fn bare(route: &str) -> String {
    match route_rules::parse(route) {
        Ok(parsed) => {
            route_rules::url("", &parsed.authority, &parsed.path, parsed.port).to_ascii_lowercase()
        }
        Err(_) => route.to_owned(),
    }
}

/// Escapes a key as RFC 6901 requires.
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn current() -> Map<String, Value> {
        let current = json!({"a": {
            "name": "a",
            "stack": "cflinuxfs4",
            "buildpacks": ["x", "y"],
            "env": {"K": "1", "OLD": "o"},
            "metadata": {"labels": {"team": "red", "example.com/env": "prod"}, "annotations": {"note": "n"}},
            "features": {"ssh": true},
            "routes": [{"route": "a.x", "protocol": "http1"}],
            "sidecars": [{"name": "proxy", "command": "./p", "process_types": ["web"], "memory": "64M"}],
            "processes": [
                {"type": "web", "memory": "1024M", "disk_quota": "64M", "instances": 1, "log-rate-limit-per-second": "1024B"},
                {"type": "worker", "memory": "64M", "instances": 2, "command": "./w"},
            ],
        }});
        current.as_object().unwrap().clone()
    }

    #[track_caller]
    fn check(app: Value, expected: &[&str]) {
        let changes = diff(&json!({"applications": [app]}), &current());
        let mut told: Vec<String> = changes
            .iter()
            .map(|change| {
                let text = |key: &str| {
                    change
                        .get(key)
                        .map_or(String::new(), |value| format!(" {key}={value}"))
                };
                format!(
                    "{} {}{}{}",
                    change["op"].as_str().unwrap(),
                    change["path"]
                        .as_str()
                        .unwrap()
                        .strip_prefix("/applications/0")
                        .unwrap(),
                    text("was"),
                    text("value")
                )
            })
            .collect();
        told.sort();
        assert_eq!(told, expected);
    }

    #[test]
    fn what_is_the_same_is_no_change() {
        let mut same = current()["a"].clone();
        same["memory"] = json!("1G");
        same["disk-quota"] = json!("65536K");
        same["log-rate-limit-per-second"] = json!("1K");
        same["path"] = json!("ignored");
        same["instances"] = json!("1");
        same["routes"] = json!([{"route": "https://A.x/"}]);
        check(same, &[]);
        check(json!({"name": "a"}), &[]);
        check(
            json!({"name": "a", "command": null, "env": {"NEW": null}}),
            &[],
        );
    }

    #[test]
    fn processes_by_type() {
        let processes = json!([
            {"type": "worker", "memory": "0.5G", "instances": 2, "command": "./w2"},
            {"type": "clock", "memory": "1G", "instances": 1},
        ]);
        check(
            json!({"name": "a", "instances": 3, "processes": processes}),
            &[
                r#"add /processes/1 value={"instances":1,"memory":"1024M","type":"clock"}"#,
                r#"replace /instances was=1 value=3"#,
                r#"replace /processes/0/command was="./w" value="./w2""#,
                r#"replace /processes/0/memory was="64M" value="512M""#,
            ],
        );
    }

    #[test]
    fn metadata_environment_and_features() {
        check(
            json!({"name": "a", "env": {"K": 1, "L": true, "OLD": null}, "features": {"ssh": false},
                "metadata": {"labels": {"team": "blue", "example.com/env": "prod", "new": "x"}, "annotations": {"note": null}}}),
            &[
                r#"add /env/L value="true""#,
                r#"add /metadata/labels/new value="x""#,
                r#"remove /env/OLD was="o""#,
                r#"remove /metadata/annotations/note was="n""#,
                r#"replace /features/ssh was=true value=false"#,
                r#"replace /metadata/labels/team was="red" value="blue""#,
            ],
        );
    }

    #[test]
    fn routes_sidecars_services_and_buildpacks() {
        check(
            json!({"name": "a", "buildpacks": ["x", "z", "w"], "services": ["db"], "no-route": true,
                "routes": [{"route": "b.x"}, {"route": "a.x", "protocol": "http2"}],
                "sidecars": [{"name": "proxy", "memory": "128M"}, {"name": "new", "command": "./n", "process_types": ["web"]}]}),
            &[
                r#"add /buildpacks/2 value="w""#,
                r#"add /no-route value=true"#,
                r#"add /routes/0 value={"route":"b.x"}"#,
                r#"add /services value=["db"]"#,
                r#"add /sidecars/1 value={"command":"./n","name":"new","process_types":["web"]}"#,
                r#"replace /buildpacks/1 was="y" value="z""#,
                r#"replace /routes/1/protocol was="http1" value="http2""#,
                r#"replace /sidecars/0/memory was="64M" value="128M""#,
            ],
        );
        check(
            json!({"name": "a", "buildpacks": ["x"]}),
            &[r#"remove /buildpacks/1 was="y""#],
        );
        let sidecars = json!([
            {"name": "proxy", "command": "./p", "memory": "64M"}, {"name": "new", "command": "./n"},
        ]);
        check(
            json!({"name": "a", "lifecycle": "buildpack", "services": [], "buildpack": "z",
                "processes": [{"type": "web", "sidecars": sidecars}]}),
            &[
                r#"add /processes/0/sidecars/1 value={"command":"./n","name":"new"}"#,
                r#"replace /buildpack was="x" value="z""#,
            ],
        );
    }

    #[test]
    fn services_are_compared_by_name() {
        let posted =
            json!({"applications": [{"name": "a", "services": ["db", {"name": "queue"}, "new"]}]});
        let bound = json!({"name": "a", "services": ["queue", "db"]});
        let current = Map::from_iter([("a".to_owned(), bound)]);
        assert_eq!(
            diff(&posted, &current),
            [json!({ "op": "add", "path": "/applications/0/services/2", "value": "new" })]
        );
    }

    #[test]
    fn a_new_app_is_added_key_by_key() {
        check(
            json!({"name": "b", "memory": "1G", "env": {"K": 1}, "processes": [{"type": "web"}], "path": "."}),
            &[
                r#"add /env value={"K":1}"#,
                r#"add /memory value="1024M""#,
                r#"add /name value="b""#,
                r#"add /processes value=[{"type":"web"}]"#,
            ],
        );
    }
}
