//! The keys of a manifest, level by level: each has an effect, belongs to the client, or is refused by name. This module is
//! pure.
//!
//! A key that is in no table is unknown and refused. A dash and an underscore in a key are equivalent.

use serde_json::{Map, Value};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// A key that the reader reads.
    Effect,
    /// A key that clients read and the API ignores.
    Client,
    /// A key that is refused for this reason, unless its value is null.
    Refused(&'static str),
}
use Use::{Client, Effect, Refused};

pub(super) type Table = &'static [(&'static str, Use)];

const USE_ROUTES: &str = "list whole routes under 'routes' instead";

pub(super) const ROOT: Table = &[("version", Effect), ("applications", Effect)];
pub(super) const APP: Table = &[
    ("name", Effect),
    ("path", Client),
    ("lifecycle", Effect),
    ("buildpack", Effect),
    ("buildpacks", Effect),
    ("stack", Effect),
    ("env", Effect),
    ("metadata", Effect),
    ("features", Effect),
    ("routes", Effect),
    ("no-route", Effect),
    ("random-route", Effect),
    ("default-route", Effect),
    ("sidecars", Effect),
    ("processes", Effect),
    ("services", Effect),
    (
        "docker",
        Refused("Docker images are not supported yet; push the app's files"),
    ),
    (
        "cnb-credentials",
        Refused("Cloud Native Buildpacks are not supported"),
    ),
    ("host", Refused(USE_ROUTES)),
    ("hosts", Refused(USE_ROUTES)),
    ("domain", Refused(USE_ROUTES)),
    ("domains", Refused(USE_ROUTES)),
    ("no-hostname", Refused(USE_ROUTES)),
    (
        "inherit",
        Refused("manifests do not inherit; use YAML anchors"),
    ),
    ("health-check-timeout", Refused("use 'timeout'")),
];
/// The keys of a process. Those of `web` may also be at the level of the app.
pub(super) const SETTINGS: Table = &[
    ("instances", Effect),
    ("memory", Effect),
    ("disk_quota", Effect),
    ("log-rate-limit-per-second", Effect),
    ("command", Effect),
    ("user", Effect),
    ("timeout", Effect),
    ("health-check-type", Effect),
    ("health-check-http-endpoint", Effect),
    ("health-check-invocation-timeout", Effect),
    ("health-check-interval", Effect),
    ("readiness-health-check-type", Effect),
    ("readiness-health-check-http-endpoint", Effect),
    ("readiness-health-check-invocation-timeout", Effect),
    ("readiness-health-check-interval", Effect),
];
pub(super) const PROCESS: Table = &[
    ("type", Effect),
    ("sidecars", Effect),
    ("health-check-timeout", Refused("use 'timeout'")),
];
pub(super) const SIDECAR: Table = &[
    ("name", Effect),
    ("command", Effect),
    ("process_types", Effect),
    ("memory", Effect),
];
pub(super) const ROUTE: Table = &[("route", Effect), ("protocol", Effect), ("options", Effect)];

/// Returns whether a key of an app is also a key of its web process.
pub(super) fn is_setting(key: &str) -> bool {
    SETTINGS.iter().any(|(known, _)| *known == key)
}

/// Returns a key of an app or a process in the spelling of the tables. An unknown key stays unchanged.
pub(super) fn canonical(key: &str) -> &str {
    let tables = [APP, SETTINGS, PROCESS];
    let known = tables.iter().flat_map(|table| table.iter());
    known
        .map(|(known, _)| *known)
        .find(|known| alike(known, key))
        .unwrap_or(key)
}

fn alike(known: &str, key: &str) -> bool {
    known.len() == key.len()
        && known
            .bytes()
            .zip(key.bytes())
            .all(|(a, b)| a == b || a == b'-' && b == b'_' || a == b'_' && b == b'-')
}

/// Returns an app's entry with all keys in the spelling of the tables and without the keys of clients. Adds what is wrong to
/// `problems`.
pub(super) fn spelled(app: &Value, problems: &mut Vec<String>) -> Value {
    let Some(map) = app.as_object() else {
        problems.push("An application must be a mapping".to_owned());
        return Value::Null;
    };
    let mut app = level(map, "", &[APP, SETTINGS], problems);
    each(&mut app, "routes", |route| {
        let owner = format!("Route '{}': ", text(route, "route"));
        level(route, &owner, &[ROUTE], problems)
    });
    each(&mut app, "sidecars", |sidecar| {
        spelled_sidecar(sidecar, problems)
    });
    each(&mut app, "processes", |process| {
        let owner = format!("Process \"{}\": ", text(process, "type"));
        let mut process = level(process, &owner, &[PROCESS, SETTINGS], problems);
        each(&mut process, "sidecars", |sidecar| {
            spelled_sidecar(sidecar, problems)
        });
        process
    });
    Value::Object(app)
}

fn spelled_sidecar(sidecar: &Map<String, Value>, problems: &mut Vec<String>) -> Map<String, Value> {
    let owner = format!("Sidecar \"{}\": ", text(sidecar, "name"));
    level(sidecar, &owner, &[SIDECAR], problems)
}

fn text<'a>(map: &'a Map<String, Value>, key: &str) -> &'a str {
    map.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Replaces each mapping of a list. An element that is no mapping stays unchanged, and the reader refuses it.
fn each(
    map: &mut Map<String, Value>,
    key: &str,
    mut change: impl FnMut(&Map<String, Value>) -> Map<String, Value>,
) {
    let list = map.get_mut(key).and_then(Value::as_array_mut);
    for item in list.into_iter().flatten() {
        if let Value::Object(inner) = item {
            *item = Value::Object(change(inner));
        }
    }
}

fn level(
    map: &Map<String, Value>,
    owner: &str,
    tables: &[Table],
    problems: &mut Vec<String>,
) -> Map<String, Value> {
    let mut spelled = Map::new();
    for (key, value) in map {
        let mut known = tables.iter().flat_map(|table| table.iter());
        match known.find(|(known, _)| alike(known, key)) {
            None => problems.push(format!("{owner}unknown key '{key}'")),
            Some((_, Client)) => {}
            Some((_, Refused(_))) if value.is_null() => {}
            Some((_, Refused(why))) => {
                problems.push(format!("{owner}the key '{key}' is not supported: {why}"));
            }
            Some((known, Effect)) => {
                if spelled.insert((*known).to_owned(), value.clone()).is_some() {
                    problems.push(format!("{owner}the key '{known}' is given twice"));
                }
            }
        }
    }
    spelled
}

/// Returns the errors for keys beside `applications` that no YAML alias uses. A key is allowed if an alias names an anchor in
/// its block.
pub(super) fn unknown_at_root(root: &Value, yaml: &str) -> Vec<String> {
    let keys = root.as_object().into_iter().flatten().map(|(key, _)| key);
    keys.filter(|key| !ROOT.iter().any(|(known, _)| known == key))
        .filter(|key| !holds_anchor(yaml, key))
        .map(|key| {
            format!(
                "Unknown key '{key}' beside 'applications'; only what a YAML alias uses may stand there"
            )
        })
        .collect()
}

/// Returns whether the block of a key at the root contains an anchor that an alias names somewhere.
fn holds_anchor(yaml: &str, key: &str) -> bool {
    let begins = |line: &str| {
        let line = line.trim_start_matches(['"', '\'']);
        line.strip_prefix(key)
            .is_some_and(|rest| rest.trim_start_matches(['"', '\'', ' ']).starts_with(':'))
    };
    let ends = |line: &str| line.starts_with(|c: char| !c.is_whitespace() && c != '-' && c != '#');
    let mut lines = yaml.lines().skip_while(|line| !begins(line));
    let first = lines.next().unwrap_or_default();
    let block = lines.take_while(|line| !ends(line));
    let mut names = std::iter::once(first)
        .chain(block)
        .flat_map(|line| names_after(line, '&'));
    let used: Vec<&str> = names_after(yaml, '*').collect();
    names.any(|name| used.contains(&name))
}

/// Returns the words that follow a mark: the names of anchors or of aliases.
fn names_after(text: &str, mark: char) -> impl Iterator<Item = &str> {
    text.split(mark).skip(1).filter_map(|rest| {
        let end = rest.find(|c: char| c.is_whitespace() || ",[]{}".contains(c));
        let name = &rest[..end.unwrap_or(rest.len())];
        (!name.is_empty()).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn problems(app: Value) -> Vec<String> {
        let mut problems = Vec::new();
        spelled(&app, &mut problems);
        problems
    }

    #[test]
    fn dashes_and_underscores_are_the_same() {
        let mut wrong = Vec::new();
        let app = spelled(
            &json!({"name": "a", "disk-quota": "1G", "no_route": true, "path": "x",
                "processes": [{"type": "w", "health_check_type": "process"}]}),
            &mut wrong,
        );
        assert_eq!(wrong, [""; 0]);
        assert_eq!(
            app,
            json!({"name": "a", "disk_quota": "1G", "no-route": true,
                "processes": [{"type": "w", "health-check-type": "process"}]})
        );
        assert_eq!(
            problems(json!({"disk-quota": "1G", "disk_quota": "1G"})),
            ["the key 'disk_quota' is given twice"]
        );
        assert_eq!(
            problems(json!({"sidecars": [{"name": "s", "process-types": ["web"]}]})),
            [""; 0]
        );
    }

    #[test]
    fn what_cannot_be_used_says_why_unless_it_is_null() {
        let said = problems(json!({"docker": {"image": "x"}, "hosts": ["a"], "inherit": null}));
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].starts_with("the key 'docker' is not supported: Docker images"));
        assert!(said[1].contains("'hosts'") && said[1].contains("routes"));
        assert_eq!(problems(json!("a")), ["An application must be a mapping"]);
    }

    #[test]
    fn keys_at_the_root_may_hold_what_anchors_name() {
        let unknown = |yaml: &str| {
            let root: Value = yaml_serde::from_str(yaml).unwrap();
            unknown_at_root(&root, yaml).len()
        };
        for good in [
            "version: 1\napplications: []\n",
            "defaults: &d\n  memory: 1G\napplications:\n- <<: *d\n",
            "\"x y\" : &d {memory: 1G}\napplications: [{<<: *d}]\n",
            "templates:\n  small: &small\n    memory: 64M\n# big\n  big: &big\n    memory: 1G\napplications:\n- <<: *big\n",
        ] {
            assert_eq!(unknown(good), 0, "{good}");
        }
        for bad in [
            "memory: 1G\napplications: []\n",
            "memory: 1G\nx: &d {}\napplications: [{<<: *d}]\n",
            "defaults: &d\n  memory: 1G\napplications: []\n",
            "defaults:\n  memory: 1G\nother: &d {}\napplications: [*d]\n",
        ] {
            assert_eq!(unknown(bad), 1, "{bad}");
        }
    }
}
