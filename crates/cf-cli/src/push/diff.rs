//! Shows the manifest as it will be applied, with `+` and `-` where it differs from the present app.

use crate::api::types::Change;
use yaml_serde::{Mapping, Value};

/// Returns the document as YAML lines, marked with the changes that the API reported.
pub(super) fn render(root: &Mapping, changes: &[Change]) -> String {
    let mut page = Page {
        changes,
        text: String::from("  ---\n"),
    };
    page.mapping(root, "", 0, ' ', false);
    page.text
}

struct Page<'a> {
    changes: &'a [Change],
    text: String,
}

impl Page<'_> {
    fn line(&mut self, mark: char, indent: usize, text: &str) {
        self.text
            .push_str(&format!("{mark} {}{text}\n", " ".repeat(indent)));
    }

    fn change(&self, path: &str) -> Option<&Change> {
        self.changes.iter().find(|c| c.path == path)
    }

    /// Writes a mapping. `in_list` means that its first line follows a dash.
    fn mapping(&mut self, map: &Mapping, path: &str, indent: usize, mark: char, in_list: bool) {
        for (i, (key, value)) in map.iter().enumerate() {
            let key = key.as_str().map_or_else(|| scalar(key), str::to_owned);
            let at = format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"));
            let (lead, inner) = match (in_list, i) {
                (true, 0) => (format!("- {key}:"), indent),
                (true, _) => (format!("  {key}:"), indent),
                (false, _) => (format!("{key}:"), indent),
            };
            let depth = indent + if in_list { 2 } else { 0 };
            let mark = self.entry(&lead, value, &at, inner, mark);
            match value {
                Value::Mapping(map) => self.mapping(map, &at, depth + 2, mark, false),
                Value::Sequence(items) => self.sequence(items, &at, depth, mark),
                _ => {}
            }
        }
        let removed: Vec<_> = self
            .removed_under(path, |rest| !map.contains_key(rest))
            .map(|(key, was)| (key, was.clone()))
            .collect();
        for (key, was) in removed {
            let lead = if in_list {
                format!("  {key}:")
            } else {
                format!("{key}:")
            };
            self.json('-', indent, &lead, &was);
        }
    }

    fn sequence(&mut self, items: &[Value], path: &str, indent: usize, mark: char) {
        for (i, value) in items.iter().enumerate() {
            let at = format!("{path}/{i}");
            let mark = if self.change(&at).is_some_and(|c| c.op == "add") {
                '+'
            } else {
                mark
            };
            match value {
                Value::Mapping(map) if !map.is_empty() => {
                    self.mapping(map, &at, indent, mark, true)
                }
                Value::Sequence(items) => self.sequence(items, &at, indent + 2, mark),
                _ => {
                    self.entry("-", value, &at, indent, mark);
                }
            }
        }
        let removed: Vec<_> = self
            .removed_under(path, |rest| {
                rest.parse::<usize>().is_ok_and(|i| i >= items.len())
            })
            .map(|(_, was)| was.clone())
            .collect();
        for was in removed {
            self.json('-', indent, "-", &was);
        }
    }

    /// Writes one line `lead value`, preceded by the old value if it was replaced. Returns the mark for the lines below.
    fn entry(&mut self, lead: &str, value: &Value, path: &str, indent: usize, mark: char) -> char {
        let (mark, was) = match self.change(path) {
            Some(change) if change.op == "add" => ('+', None),
            Some(change) if change.op == "replace" => ('+', Some(change.was.clone())),
            _ => (mark, None),
        };
        if let Some(was) = was {
            self.json('-', indent, lead, &was);
        }
        let line = if is_block(value) {
            lead.to_owned()
        } else {
            format!("{lead} {}", scalar(value))
        };
        self.line(mark, indent, &line);
        mark
    }

    fn json(&mut self, mark: char, indent: usize, lead: &str, value: &serde_json::Value) {
        let text = match value {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        self.line(mark, indent, &format!("{lead} {text}"));
    }

    fn removed_under<'a>(
        &'a self,
        path: &str,
        is_gone: impl Fn(&str) -> bool + 'a,
    ) -> impl Iterator<Item = (String, &'a serde_json::Value)> + 'a {
        let prefix = format!("{path}/");
        self.changes
            .iter()
            .filter(|c| c.op == "remove")
            .filter_map(move |c| {
                let rest = c.path.strip_prefix(&prefix)?;
                (!rest.contains('/') && is_gone(rest)).then(|| (rest.to_owned(), &c.was))
            })
    }
}

fn is_block(value: &Value) -> bool {
    match value {
        Value::Mapping(map) => !map.is_empty(),
        Value::Sequence(items) => !items.is_empty(),
        _ => false,
    }
}

pub(super) fn scalar(value: &Value) -> String {
    yaml_serde::to_string(value)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn changes_are_marked_line_by_line() {
        let root: Mapping = yaml_serde::from_str("applications:\n- name: a\n  memory: 1G\n  env:\n    K: v\n  routes:\n  - route: a.b\n  buildpacks: [x]\n").unwrap();
        let change = |op: &str, path: &str, was: serde_json::Value| Change {
            op: op.into(),
            path: path.into(),
            was,
            value: json!(null),
        };
        let changes = [
            change("replace", "/applications/0/memory", json!("64M")),
            change("add", "/applications/0/env", json!(null)),
            change("remove", "/applications/0/stack", json!("old")),
        ];
        let expected = "  ---
  applications:
  - name: a
-   memory: 64M
+   memory: 1G
+   env:
+     K: v
    routes:
    - route: a.b
    buildpacks:
    - x
-   stack: old
";
        assert_eq!(render(&root, &changes), expected);
    }

    #[test]
    fn a_new_app_is_all_plus() {
        let root: Mapping =
            yaml_serde::from_str("applications: [{name: a, default-route: true}]").unwrap();
        let add = Change {
            op: "add".into(),
            path: "/applications/0".into(),
            ..Change::default()
        };
        assert_eq!(
            render(&root, &[add]),
            "  ---\n  applications:\n+ - name: a\n+   default-route: true\n"
        );
    }
}
