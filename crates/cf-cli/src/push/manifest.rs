//! App manifests as data: inserts variables, merges the flags of `push`, and writes the text for the API. It does no IO.

use super::diff::scalar;
use crate::args::Usage;
use anyhow::{Context as _, Result, bail, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use yaml_serde::{Mapping, Value};

/// The settings of flags. `None` and empty values leave the manifest unchanged.
#[derive(Clone, Debug, Default)]
pub(super) struct Overrides {
    pub(super) app_name: Option<String>,
    pub(super) path: Option<PathBuf>,
    pub(super) buildpacks: Vec<String>,
    pub(super) command: Option<String>,
    pub(super) instances: Option<u32>,
    pub(super) memory: Option<String>,
    pub(super) disk: Option<String>,
    pub(super) stack: Option<String>,
    pub(super) health_check_type: Option<String>,
    pub(super) health_check_endpoint: Option<String>,
    pub(super) timeout: Option<u32>,
    pub(super) no_route: bool,
    pub(super) random_route: bool,
}

impl Overrides {
    /// Returns whether any flag applies to one app only.
    fn is_for_one_app(&self) -> bool {
        let texts = [
            &self.command,
            &self.memory,
            &self.disk,
            &self.stack,
            &self.health_check_type,
            &self.health_check_endpoint,
        ];
        self.path.is_some()
            || !self.buildpacks.is_empty()
            || self.instances.is_some()
            || self.timeout.is_some()
            || self.no_route
            || self.random_route
            || texts.iter().any(|t| t.is_some())
    }

    /// Returns the keys that belong to a process.
    fn process_keys(&self) -> Vec<(&'static str, Value)> {
        // "default" and "null" reset a setting.
        let text = |t: &String| {
            if matches!(t.as_str(), "default" | "null") {
                Value::Null
            } else {
                t.as_str().into()
            }
        };
        [
            ("command", self.command.as_ref().map(text)),
            ("instances", self.instances.map(Value::from)),
            ("memory", self.memory.as_deref().map(Value::from)),
            ("disk_quota", self.disk.as_deref().map(Value::from)),
            (
                "health-check-type",
                self.health_check_type.as_deref().map(Value::from),
            ),
            (
                "health-check-http-endpoint",
                self.health_check_endpoint.as_deref().map(Value::from),
            ),
            ("timeout", self.timeout.map(Value::from)),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)))
        .collect()
    }
}

/// The values of `((name))`.
#[derive(Clone, Debug, Default)]
pub(super) struct Variables(BTreeMap<String, Value>);

impl Variables {
    pub(super) fn add_file(&mut self, path: &str, text: &str) -> Result<()> {
        let value: Value = yaml_serde::from_str(text)
            .with_context(|| format!("variables file {path} is not YAML"))?;
        let map = match value {
            Value::Null => return Ok(()),
            Value::Mapping(map) => map,
            _ => bail!("variables file {path} must contain `name: value` lines"),
        };
        for (key, value) in map {
            self.0.insert(
                key.as_str()
                    .map_or_else(|| format!("{key:?}"), str::to_owned),
                value,
            );
        }
        Ok(())
    }

    /// Adds `KEY=VALUE`. The value is read as YAML.
    pub(super) fn add_pair(&mut self, pair: &str) -> Result<()> {
        let (key, value) = pair
            .split_once('=')
            .filter(|(k, _)| !k.is_empty())
            .with_context(|| {
                Usage(format!(
                    "invalid argument for flag `--var' (expected KEY=VALUE): {pair:?}"
                ))
            })?;
        self.0.insert(
            key.to_owned(),
            yaml_serde::from_str(value).unwrap_or_else(|_| value.into()),
        );
        Ok(())
    }

    /// Looks up a name; `a.b` looks into mappings.
    fn value(&self, name: &str) -> Option<&Value> {
        self.0.get(name).or_else(|| {
            let (first, rest) = name.split_once('.')?;
            rest.split('.')
                .try_fold(self.0.get(first)?, |value, key| value.get(key))
        })
    }

    fn fill(&self, value: &mut Value, missing: &mut BTreeSet<String>) {
        match value {
            Value::String(text) => {
                if let Some(filled) = self.filled(text, missing) {
                    *value = filled;
                }
            }
            Value::Sequence(items) => items.iter_mut().for_each(|item| self.fill(item, missing)),
            Value::Mapping(map) => {
                let entries = std::mem::take(map);
                for (mut key, mut item) in entries {
                    self.fill(&mut key, missing);
                    self.fill(&mut item, missing);
                    map.insert(key, item);
                }
            }
            _ => {}
        }
    }

    /// Inserts the variables into a text. A text that is exactly one variable becomes that value.
    fn filled(&self, text: &str, missing: &mut BTreeSet<String>) -> Option<Value> {
        let (mut result, mut rest, mut changed) = (String::new(), text, false);
        while let Some(open) = rest.find("((") {
            let Some(close) = rest[open..].find("))").map(|at| open + at) else {
                break;
            };
            let name = rest[open + 2..close].trim();
            match self.value(name.trim_start_matches('!')) {
                None => {
                    missing.insert(name.to_owned());
                    result.push_str(&rest[..close + 2]);
                }
                Some(value) if open == 0 && close + 2 == text.len() => return Some(value.clone()),
                Some(value) => {
                    result.push_str(&rest[..open]);
                    match value {
                        Value::String(text) => result.push_str(text),
                        other => {
                            result.push_str(yaml_serde::to_string(other).unwrap_or_default().trim())
                        }
                    }
                    changed = true;
                }
            }
            rest = &rest[close + 2..];
        }
        result.push_str(rest);
        changed.then(|| result.into())
    }
}

#[derive(Clone, Debug)]
pub(super) struct Manifest {
    pub(super) file: Option<PathBuf>,
    /// The keys `version` and `applications`, a list of mappings. Other keys only hold YAML anchors.
    pub(super) root: Mapping,
    /// The keys beside `applications` that look like settings of an app.
    pub(super) dropped: Vec<String>,
}

pub(super) fn name(app: &Mapping) -> &str {
    app.get("name").and_then(Value::as_str).unwrap_or_default()
}

impl Manifest {
    /// Returns the manifest of a `push NAME` without a manifest file.
    pub(super) fn empty() -> Self {
        let mut root = Mapping::new();
        root.insert(
            "applications".into(),
            Value::Sequence(vec![Mapping::new().into()]),
        );
        Self {
            file: None,
            root,
            dropped: Vec::new(),
        }
    }

    pub(super) fn parse(file: &Path, text: &str, variables: &Variables) -> Result<Self> {
        let invalid = || format!("the manifest {} is not valid YAML", file.display());
        let mut value: Value = yaml_serde::from_str(text).with_context(invalid)?;
        value.apply_merge().with_context(invalid)?;
        let mut missing = BTreeSet::new();
        variables.fill(&mut value, &mut missing);
        ensure!(
            missing.is_empty(),
            "Expected to find variables: {}\nTIP: Set each with --var NAME=VALUE or in a file with --vars-file.",
            missing.into_iter().collect::<Vec<_>>().join(", ")
        );
        let manifest = match value {
            Value::Mapping(mut root) => {
                let dropped = drop_unknown(&mut root);
                Self {
                    file: Some(file.to_owned()),
                    root,
                    dropped,
                }
            }
            _ => bail!(
                "the manifest {} must be a mapping with the key `applications`",
                file.display()
            ),
        };
        let apps = manifest
            .root
            .get("applications")
            .and_then(Value::as_sequence)
            .filter(|apps| !apps.is_empty() && apps.iter().all(Value::is_mapping));
        ensure!(
            apps.is_some(),
            "the manifest {} must list at least one app under `applications`",
            file.display()
        );
        Ok(manifest)
    }

    pub(super) fn apps(&self) -> Vec<&Mapping> {
        self.root
            .get("applications")
            .and_then(Value::as_sequence)
            .map(|apps| apps.iter().filter_map(Value::as_mapping).collect())
            .unwrap_or_default()
    }

    /// Returns the folder or archive that the manifest names for an app, relative to the manifest.
    pub(super) fn path_of(&self, app: &Mapping) -> Option<PathBuf> {
        let folder = self.file.as_deref().and_then(Path::parent)?;
        Some(folder.join(app.get("path").and_then(Value::as_str)?))
    }

    /// Selects the app to push and merges the flags.
    pub(super) fn for_push(mut self, overrides: &Overrides) -> Result<Self> {
        let file = self
            .file
            .as_ref()
            .map(|f| f.display().to_string())
            .unwrap_or_default();
        let Some(Value::Sequence(apps)) = self.root.get_mut("applications") else {
            bail!("manifest without applications")
        };
        match &overrides.app_name {
            Some(wanted) if apps.len() > 1 => {
                apps.retain(|app| app.get("name").and_then(Value::as_str) == Some(wanted));
                ensure!(
                    !apps.is_empty(),
                    "Could not find app named '{wanted}' in manifest {file}"
                );
            }
            Some(wanted) => {
                if let Some(Value::Mapping(app)) = apps.first_mut() {
                    let others = std::mem::take(app);
                    app.insert("name".into(), wanted.as_str().into());
                    app.extend(
                        others
                            .into_iter()
                            .filter(|(key, _)| key.as_str() != Some("name")),
                    );
                }
            }
            None => {}
        }
        if apps.len() > 1 && overrides.is_for_one_app() {
            bail!(Usage("Command line flags (except -f and --no-start) cannot be applied when pushing multiple apps from a manifest file.".into()));
        }
        let mut names = BTreeSet::new();
        for app in apps.iter_mut().filter_map(Value::as_mapping_mut) {
            spell_name(app);
            ensure!(!name(app).is_empty(), Usage("the required argument `APP_NAME` was not provided: name the app, or set `name` in a manifest.yml".into()));
            ensure!(
                names.insert(name(app).to_owned()),
                "The manifest {file} names the app '{}' twice.",
                name(app)
            );
            fold(app, overrides);
        }
        Ok(self)
    }

    pub(super) fn to_yaml(&self) -> Result<String> {
        yaml_serde::to_string(&self.root).context("write manifest")
    }
}

/// Turns a name that YAML reads as a number or a truth value into text.
fn spell_name(app: &mut Mapping) {
    if let Some(name) = app.get_mut("name")
        && (name.is_number() || name.is_bool())
    {
        *name = scalar(name).into();
    }
}

/// Removes top-level keys that the API does not know. Returns the names of those that look like a setting; mappings and lists are
/// left out, because they hold anchors.
fn drop_unknown(root: &mut Mapping) -> Vec<String> {
    let is_known = |key: &Value| matches!(key.as_str(), Some("applications" | "version"));
    let holds_anchors = |value: &Value| value.is_mapping() || value.is_sequence();
    let dropped = root
        .iter()
        .filter(|(key, value)| !is_known(key) && !holds_anchors(value))
        .map(|(key, _)| key.as_str().map_or_else(|| scalar(key), str::to_owned))
        .collect();
    root.retain(|key, _| is_known(key));
    dropped
}

/// Merges the flags into one app's mapping.
fn fold(app: &mut Mapping, overrides: &Overrides) {
    if !overrides.buildpacks.is_empty() {
        app.remove("buildpack");
        let named = overrides
            .buildpacks
            .iter()
            .filter(|b| !matches!(b.as_str(), "default" | "null"));
        app.insert(
            "buildpacks".into(),
            Value::Sequence(named.map(|b| b.as_str().into()).collect()),
        );
    }
    if let Some(stack) = &overrides.stack {
        app.insert("stack".into(), stack.as_str().into());
    }
    // If the manifest has a web process, it gets the flags; otherwise the top level does.
    let keys = overrides.process_keys();
    let is_web = |process: &&mut Value| process.get("type").and_then(Value::as_str) == Some("web");
    let web = app
        .get_mut("processes")
        .and_then(Value::as_sequence_mut)
        .and_then(|all| all.iter_mut().find(is_web))
        .and_then(Value::as_mapping_mut);
    let place = match web {
        Some(web) => web,
        None => &mut *app,
    };
    for (key, value) in keys {
        place.insert(key.into(), value);
    }
    if overrides.no_route {
        for key in ["routes", "random-route", "default-route"] {
            app.remove(key);
        }
        app.insert("no-route".into(), true.into());
    }
    if overrides.random_route {
        app.remove("default-route");
        app.insert("random-route".into(), true.into());
    }
    let is_set = |key: &str| {
        app.get(key)
            .is_some_and(|v| v.as_bool() != Some(false) && !v.is_null())
    };
    if !["no-route", "random-route", "routes", "default-route"]
        .into_iter()
        .any(is_set)
    {
        app.insert("default-route".into(), true.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(text: &str, vars: &[&str]) -> Result<Manifest> {
        let mut variables = Variables::default();
        vars.iter().for_each(|v| variables.add_pair(v).unwrap());
        Manifest::parse(Path::new("/app/manifest.yml"), text, &variables)
    }

    fn pushed(text: &str, overrides: &Overrides) -> String {
        manifest(text, &[])
            .and_then(|m| m.for_push(overrides))
            .map_or_else(|e| format!("{e:#}"), |m| m.to_yaml().unwrap())
    }

    #[test]
    fn variables_keep_their_type_or_become_text() {
        let text = "applications:\n- name: ((name))-x\n  instances: ((n))\n  env: {A: '((n)) of ((deep.key))'}\n";
        let mut variables = Variables::default();
        variables
            .add_file("vars.yml", "name: old\ndeep: {key: 5}\n")
            .unwrap();
        variables.add_pair("name=web").unwrap();
        variables.add_pair("n=2").unwrap();
        let manifest = Manifest::parse(Path::new("m.yml"), text, &variables).unwrap();
        assert_eq!(
            manifest.to_yaml().unwrap(),
            "applications:\n- name: web-x\n  instances: 2\n  env:\n    A: 2 of 5\n"
        );
    }

    #[test]
    fn keys_beside_the_apps_are_not_sent() {
        let text = "version: 1\nmemory: 1G\ndefaults: &d {instances: 2}\napplications:\n- name: 12\n  <<: *d\n  sidecars: [{name: s, process_types: [web], command: ./s}]\n";
        let manifest = manifest(text, &[]).unwrap();
        assert_eq!(manifest.dropped, ["memory"]);
        let yaml = manifest.for_push(&Overrides::default()).unwrap();
        assert_eq!(
            yaml.to_yaml().unwrap(),
            "version: 1\napplications:\n- name: '12'\n  sidecars:\n  - name: s\n    process_types:\n    - web\n    command: ./s\n  instances: 2\n  default-route: true\n"
        );
    }

    #[test]
    fn an_app_may_be_in_a_manifest_only_once() {
        let error = pushed(
            "applications: [{name: a}, {name: a}]",
            &Overrides::default(),
        );
        assert!(error.ends_with("names the app 'a' twice."), "{error}");
    }

    #[test]
    fn missing_variables_are_all_named() {
        let error = manifest("applications: [{name: ((a)), memory: ((b))}]", &[]).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("Expected to find variables: a, b\n")
        );
    }

    #[test]
    fn a_push_without_manifest_requests_a_default_route() {
        let overrides = Overrides {
            app_name: Some("dora".into()),
            buildpacks: vec!["binary_buildpack".into()],
            memory: Some("64M".into()),
            instances: Some(2),
            ..Overrides::default()
        };
        let text = Manifest::empty()
            .for_push(&overrides)
            .unwrap()
            .to_yaml()
            .unwrap();
        assert_eq!(
            text,
            "applications:\n- name: dora\n  buildpacks:\n  - binary_buildpack\n  instances: 2\n  memory: 64M\n  default-route: true\n"
        );
    }

    #[test]
    fn flags_win_over_the_manifest() {
        let text = "applications:\n- name: a\n  command: old\n  routes: [{route: a.b}]\n  processes:\n  - {type: web, memory: 1G}\n";
        let overrides = Overrides {
            command: Some("default".into()),
            memory: Some("64M".into()),
            no_route: true,
            ..Overrides::default()
        };
        let yaml = pushed(text, &overrides);
        assert_eq!(
            yaml,
            "applications:\n- name: a\n  command: old\n  processes:\n  - type: web\n    memory: 64M\n    command: null\n  no-route: true\n"
        );
    }

    #[test]
    fn routes_of_the_manifest_forbid_the_default_route() {
        assert!(
            !pushed(
                "applications: [{name: a, routes: [{route: a.b}]}]",
                &Overrides::default()
            )
            .contains("default-route")
        );
        assert!(
            !pushed(
                "applications: [{name: a, random-route: true}]",
                &Overrides::default()
            )
            .contains("default-route")
        );
    }

    #[test]
    fn one_app_of_many_is_selected_by_name() {
        let two = "applications: [{name: a}, {name: b}]";
        let named = |name: &str| Overrides {
            app_name: Some(name.into()),
            ..Overrides::default()
        };
        assert_eq!(
            pushed(two, &named("b")),
            "applications:\n- name: b\n  default-route: true\n"
        );
        assert_eq!(
            pushed(two, &named("c")),
            "Could not find app named 'c' in manifest /app/manifest.yml"
        );
        assert_eq!(
            pushed("applications: [{name: a}]", &named("c")),
            "applications:\n- name: c\n  default-route: true\n"
        );
        assert!(
            pushed(
                two,
                &Overrides {
                    instances: Some(1),
                    ..Overrides::default()
                }
            )
            .starts_with("Command line flags")
        );
    }

    #[test]
    fn broken_manifests_are_named() {
        for text in ["applications: []", "applications: 3", "- a", "{", "name: a"] {
            assert!(
                manifest(text, &[])
                    .unwrap_err()
                    .to_string()
                    .contains("/app/manifest.yml"),
                "{text}"
            );
        }
        assert!(pushed("applications: [{memory: 1G}]", &Overrides::default()).contains("APP_NAME"));
    }
}
