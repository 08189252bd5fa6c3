//! A YAML mapping that is read key by key. An error does not stop the reading: it is noted, and all errors are reported together
//! at the end.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;
use yaml_serde::Value;

/// The observations made while reading.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) problems: RefCell<Vec<String>>,
    pub(super) warnings: RefCell<Vec<String>>,
    /// Every key that was read, whether it is present or not.
    pub(super) asked: RefCell<BTreeSet<String>>,
}

/// A mapping. Keys that were not read when it is dropped are unknown: one warning each.
#[derive(Debug)]
pub(super) struct Keys<'n> {
    path: String,
    left: BTreeMap<String, Value>,
    notes: &'n Notes,
}

impl<'n> Keys<'n> {
    pub(super) fn new(path: &str, value: Value, notes: &'n Notes) -> Self {
        let mut left = BTreeMap::new();
        match value {
            Value::Mapping(mapping) => {
                for (key, value) in mapping {
                    left.insert(text(&key).unwrap_or_default(), value);
                }
            }
            Value::Null => {}
            _ => notes
                .problems
                .borrow_mut()
                .push(format!("{path} is not a mapping of keys to values")),
        }
        Self {
            path: path.to_owned(),
            left,
            notes,
        }
    }

    /// Returns the key as an operator finds it: `nats.hosts[0].port`.
    pub(super) fn name(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    pub(super) fn problem(&self, key: &str, what: &str) {
        let problem = format!("{} {what}", self.name(key));
        self.notes.problems.borrow_mut().push(problem);
    }

    pub(super) fn warn(&self, key: &str, what: &str) {
        let warning = format!("{} {what}", self.name(key));
        self.notes.warnings.borrow_mut().push(warning);
    }

    /// Returns whether no values are left.
    pub(super) fn is_empty(&self) -> bool {
        self.left.values().all(Value::is_null)
    }

    /// Removes and returns a value. `null` counts as absent.
    fn take(&mut self, key: &str) -> Option<Value> {
        self.notes.asked.borrow_mut().insert(self.name(key));
        self.left.remove(key).filter(|value| !value.is_null())
    }

    /// Reads a value. `want` ends the sentence "… is not …".
    pub(super) fn read<T>(
        &mut self,
        key: &str,
        want: &str,
        parse: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.take(key)?;
        let parsed = parse(&value);
        if parsed.is_none() {
            self.problem(key, &format!("{} is not {want}", shown(key, &value)));
        }
        parsed
    }

    pub(super) fn flag(&mut self, key: &str, default: bool) -> bool {
        self.read(key, "true or false: write one of them", flag)
            .unwrap_or(default)
    }

    pub(super) fn number<T: TryFrom<i64>>(&mut self, key: &str) -> Option<T> {
        let want = "a whole number in its range, 0 or more";
        self.read(key, want, |value| T::try_from(whole(value)?).ok())
    }

    /// Reads a number that gorouter reads with its sign: one below 0 counts as 0, which means "not set".
    pub(super) fn signed<T: TryFrom<i64>>(&mut self, key: &str) -> Option<T> {
        let given = self.read(key, "a whole number in its range", |value| {
            let number = whole(value)?;
            let counts = T::try_from(number.max(0)).ok()?;
            Some((number, counts))
        });
        let (number, counts) = given?;
        if number < 0 {
            self.warn(key, &format!("is {number}: 0 counts instead"));
        }
        Some(counts)
    }

    pub(super) fn port(&mut self, key: &str) -> Option<u16> {
        let want = "a port: write a number from 1 to 65535";
        self.read(key, want, |value| u16::try_from(whole(value)?).ok())
    }

    /// Reads a duration. One below 0 counts as 0, which switches most things off.
    pub(super) fn duration(&mut self, key: &str) -> Option<Duration> {
        let want = "a duration: write a number and a unit, e.g. 30s, 500ms or 1m30s";
        let nanos = self.read(key, want, |value| {
            go_values::duration::nanoseconds(&text(value)?).ok()
        })?;
        let duration = u64::try_from(nanos).map(Duration::from_nanos);
        if duration.is_err() {
            self.warn(key, "is below 0: 0s counts instead");
        }
        Some(duration.unwrap_or_default())
    }

    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        self.read(key, "a text", text)
    }

    /// Reads a text; an empty one counts as absent.
    pub(super) fn word(&mut self, key: &str) -> Option<String> {
        self.text(key).filter(|text| !text.is_empty())
    }

    /// Reads the path of a file; an empty one counts as absent.
    pub(super) fn path(&mut self, key: &str) -> Option<PathBuf> {
        let path = self.word(key)?;
        if path.contains('\n') {
            self.problem(
                key,
                "is a text of several lines: write the path of a file that holds it",
            );
            return None;
        }
        Some(path.into())
    }

    /// Reads a list of texts; a single text counts as a list of one.
    pub(super) fn texts(&mut self, key: &str) -> Option<Vec<String>> {
        self.read(key, "a list of texts", |value| match value {
            Value::Sequence(items) => items.iter().map(item).collect(),
            Value::String(one) if one.is_empty() => Some(Vec::new()),
            one => Some(vec![text(one)?]),
        })
    }

    /// Reads one of a few names; an empty one counts as absent.
    pub(super) fn choice_or_empty<T: Copy>(&mut self, key: &str, names: &[(&str, T)]) -> Option<T> {
        let mut all: Vec<(&str, Option<T>)> = vec![("", None)];
        all.extend(names.iter().map(|(name, choice)| (*name, Some(*choice))));
        self.choice(key, &all).flatten()
    }

    /// Reads one of a few names.
    pub(super) fn choice<T: Copy>(&mut self, key: &str, names: &[(&str, T)]) -> Option<T> {
        let all = names.iter().map(|(name, _)| *name);
        let all: Vec<&str> = all.filter(|name| !name.is_empty()).collect();
        let want = format!("one of {}", all.join(", "));
        self.read(key, &want, |value| {
            let given = text(value)?;
            let found = names.iter().find(|(name, _)| *name == given);
            found.map(|(_, choice)| *choice)
        })
    }

    pub(super) fn section(&mut self, key: &str) -> Keys<'n> {
        let value = self.take(key).unwrap_or_default();
        Keys::new(&self.name(key), value, self.notes)
    }

    pub(super) fn sections(&mut self, key: &str) -> Vec<Keys<'n>> {
        let list = self.read(key, "a list", |value| value.as_sequence().cloned());
        let name = self.name(key);
        let numbered = list.unwrap_or_default().into_iter().enumerate();
        numbered
            .map(|(n, value)| Keys::new(&format!("{name}[{n}]"), value, self.notes))
            .collect()
    }

    /// Accepts known keys whose subject this router does not have; nothing is lost by that.
    pub(super) fn without_effect(&mut self, keys: &[&str]) {
        for key in keys {
            self.left.remove(*key);
        }
    }

    /// Reads a known key that asks for what this router does not do. If its value asks for that, it warns what to do instead.
    pub(super) fn elsewhere(&mut self, key: &str, instead: &str) {
        if self.take(key).is_some_and(|value| switches_on(&value)) {
            self.warn(key, instead);
        }
    }
}

impl Drop for Keys<'_> {
    fn drop(&mut self) {
        for key in self.left.keys() {
            self.warn(key, "is unknown: ignored");
        }
    }
}

/// Returns whether a value switches something on.
fn switches_on(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Sequence(items) => items.iter().any(switches_on),
        Value::Mapping(mapping) => mapping.iter().any(|(_, value)| switches_on(value)),
        Value::Number(number) => number.as_u64() != Some(0),
        _ => true,
    }
}

/// Reads an item; an empty one is an empty text.
fn item(value: &Value) -> Option<String> {
    if value.is_null() {
        return Some(String::new());
    }
    text(value)
}

/// Reads a flag. Go's YAML also accepts the older words for one.
fn flag(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::String(word) => match word.as_str() {
            "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(true),
            "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// Reads a whole number. Go's YAML accepts `3.0` as one, and cuts the digits after the point.
pub(super) fn whole(value: &Value) -> Option<i64> {
    let fits = |number: &f64| number.abs() < 9e15;
    value
        .as_i64()
        .or_else(|| value.as_f64().filter(fits).map(|number| number as i64))
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// Formats a value for a message: on one line, not too long, and never a secret.
fn shown(key: &str, value: &Value) -> String {
    if ["pass", "secret", "private_key", "client_secret"]
        .iter()
        .any(|secret| key.contains(secret))
    {
        return "(hidden)".into();
    }
    let text = text(value).map_or_else(
        || yaml_serde::to_string(value).unwrap_or_default(),
        |text| format!("{text:?}"),
    );
    let line: String = text.trim().replace('\n', " ");
    if line.chars().count() > 60 {
        line.chars().take(57).chain("...".chars()).collect()
    } else {
        line
    }
}
