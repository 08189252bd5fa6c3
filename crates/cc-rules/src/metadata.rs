//! Labels and annotations, which every resource may have. A key is `name` or `prefix/name`, where the prefix is a domain name.

use crate::limits::Limits;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The maximum number of characters of a key's name and of a label's value.
const LONGEST_NAME: usize = 63;
const LONGEST_PREFIX: usize = 253;
const LONGEST_ANNOTATION: usize = 5000;
/// The prefix that the platform reserves for itself.
const RESERVED_PREFIX: &str = "cloudfoundry.org";

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// The reason why metadata stay as they were.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    #[error("Metadata must be an object")]
    NotAnObject,
    /// The problems of labels and annotations. The list is bounded.
    #[error("{}", .0.join(", "))]
    Problems(Vec<String>),
}

/// The reason why a text cannot be a key, a label's value or an annotation's value. `start` is the beginning of a text that is
/// too long.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WordError {
    #[error("key cannot be empty string")]
    EmptyKey,
    #[error("key has more than one '/'")]
    TwoSlashes,
    #[error("prefix '{start}...' is greater than {} characters", LONGEST_PREFIX)]
    LongPrefix { start: String },
    #[error("prefix '{prefix}' must be in valid dns format")]
    NoDomain { prefix: String },
    #[error("prefix '{}' is reserved", RESERVED_PREFIX)]
    ReservedPrefix,
    #[error("'{}' contains invalid characters", .word.escape_debug())]
    InvalidCharacters { word: String },
    #[error("'{word}' starts or ends with invalid characters")]
    InvalidEnds { word: String },
    #[error("'{start}...' is greater than {} characters", LONGEST_NAME)]
    LongWord { start: String },
    #[error("'{start}...' is greater than {} characters", LONGEST_ANNOTATION)]
    LongAnnotation { start: String },
}

/// The maximum number of problems that one error lists, even if there are thousands of bad keys.
const MOST_PROBLEMS: usize = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Label,
    Annotation,
}

impl Metadata {
    pub fn present(&self) -> Value {
        json!({ "labels": self.labels, "annotations": self.annotations })
    }

    /// Returns the annotations that others than the users of the foundation may see, such as service brokers: those with a prefix.
    pub fn public_annotations(&self) -> BTreeMap<String, String> {
        let is_public = |(key, _): &(&String, &String)| key.contains('/');
        let public = self.annotations.iter().filter(is_public);
        public
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }

    /// Merges `{"labels": {k: v|null}, "annotations": {…}}`; null removes a key. If anything is wrong, nothing changes.
    pub fn merge(&mut self, limits: &Limits, change: &Value) -> Result<(), MetadataError> {
        let change = change.as_object().ok_or(MetadataError::NotAnObject)?;
        let mut merged = self.clone();
        let mut problems = Vec::new();
        for (key, value) in change {
            let (target, kind, most) = match key.as_str() {
                "labels" => (&mut merged.labels, Kind::Label, limits.labels_per_resource),
                "annotations" => (
                    &mut merged.annotations,
                    Kind::Annotation,
                    limits.annotations_per_resource,
                ),
                other => {
                    problems.push(format!("Metadata has unexpected field(s): '{other}'"));
                    continue;
                }
            };
            match value {
                Value::Null => {}
                Value::Object(entries) => {
                    let before = target.len();
                    problems.extend(merge_entries(target, entries, kind));
                    if target.len() > before && target.len() > most as usize {
                        problems.push(format!(
                            "Failed to add {} {key} because it would exceed maximum of {most}",
                            entries.len()
                        ));
                    }
                }
                _ => problems.push(format!("Metadata '{key}' is not an object")),
            }
        }
        if problems.is_empty() {
            *self = merged;
            return Ok(());
        }
        problems.truncate(MOST_PROBLEMS);
        Err(MetadataError::Problems(problems))
    }
}

/// Merges entries and returns what is wrong with them.
fn merge_entries(
    target: &mut BTreeMap<String, String>,
    entries: &Map<String, Value>,
    kind: Kind,
) -> Vec<String> {
    let noun = match kind {
        Kind::Label => "label",
        Kind::Annotation => "annotation",
    };
    let mut problems = Vec::new();
    for (key, value) in entries {
        // An annotation with a bad key, which an older version stored, can still be removed.
        if (kind == Kind::Label || !value.is_null())
            && let Err(problem) = check_key(key)
        {
            problems.push(format!("Metadata {noun} key error: {problem}"));
            continue;
        }
        let text = match value {
            Value::Null => {
                target.remove(key);
                continue;
            }
            Value::String(text) => text.clone(),
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            Value::Array(_) | Value::Object(_) => {
                problems.push(format!(
                    "Metadata {noun} value error: value of '{key}' must be a string"
                ));
                continue;
            }
        };
        let checked = match kind {
            Kind::Label => check_label_value(&text),
            Kind::Annotation => check_annotation_value(&text),
        };
        match checked {
            Ok(()) => drop(target.insert(key.clone(), text)),
            Err(problem) => problems.push(format!("Metadata {noun} value error: {problem}")),
        }
    }
    problems
}

/// Refuses a key that may not be the name of a label or an annotation. Label selectors use it, too.
pub fn check_key(key: &str) -> Result<(), WordError> {
    if key.is_empty() {
        return Err(WordError::EmptyKey);
    }
    let name = match key.split_once('/') {
        None => key,
        Some((_, name)) if name.contains('/') => {
            return Err(WordError::TwoSlashes);
        }
        Some((prefix, name)) => {
            check_prefix(prefix)?;
            name
        }
    };
    if name.is_empty() {
        return Err(WordError::EmptyKey);
    }
    check_word(name)
}

fn check_prefix(prefix: &str) -> Result<(), WordError> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if prefix.len() > LONGEST_PREFIX {
        return Err(WordError::LongPrefix {
            start: start(prefix),
        });
    }
    if !prefix.contains('.') || !prefix.split('.').all(label) {
        return Err(WordError::NoDomain {
            prefix: prefix.to_owned(),
        });
    }
    if prefix.eq_ignore_ascii_case(RESERVED_PREFIX) {
        return Err(WordError::ReservedPrefix);
    }
    Ok(())
}

/// Refuses a value that may not be a label's value. Label selectors use it, too.
pub fn check_label_value(value: &str) -> Result<(), WordError> {
    if value.is_empty() {
        Ok(())
    } else {
        check_word(value)
    }
}

fn check_annotation_value(value: &str) -> Result<(), WordError> {
    if value.chars().count() > LONGEST_ANNOTATION {
        return Err(WordError::LongAnnotation {
            start: start(value),
        });
    }
    Ok(())
}

fn check_word(word: &str) -> Result<(), WordError> {
    let alphanumeric = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    if word
        .chars()
        .any(|c| !(c.is_ascii_alphanumeric() || "-_.".contains(c)))
    {
        return Err(WordError::InvalidCharacters {
            word: word.to_owned(),
        });
    }
    if !alphanumeric(word.chars().next()) || !alphanumeric(word.chars().last()) {
        return Err(WordError::InvalidEnds {
            word: word.to_owned(),
        });
    }
    if word.len() > LONGEST_NAME {
        return Err(WordError::LongWord { start: start(word) });
    }
    Ok(())
}

fn start(text: &str) -> String {
    text.chars().take(8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: Value) -> String {
        let mut metadata = Metadata::default();
        let error = metadata.merge(&Limits::default(), &change).unwrap_err();
        assert_eq!(metadata, Metadata::default(), "nothing is merged");
        error.to_string()
    }

    #[test]
    fn null_removes_a_key() {
        let mut metadata = Metadata::default();
        let mut merge = |change: Value| metadata.merge(&Limits::default(), &change).unwrap();
        merge(
            json!({"labels": {"env": "prod", "example.com/team": "a"}, "annotations": {"note": "any text!"}}),
        );
        merge(json!({"labels": {"example.com/team": null}, "annotations": null}));
        assert_eq!(
            metadata.present(),
            json!({"labels": {"env": "prod"}, "annotations": {"note": "any text!"}})
        );
    }

    #[test]
    fn keys() {
        for (key, why) in [
            ("", "key cannot be empty string"),
            ("a/b/c", "more than one '/'"),
            ("nodots/a", "prefix 'nodots' must be in valid dns format"),
            ("-a.b/c", "valid dns format"),
            ("a..b/c", "valid dns format"),
            (
                "CloudFoundry.org/x",
                "prefix 'cloudfoundry.org' is reserved",
            ),
            ("a.b/", "key cannot be empty string"),
            ("a b", "'a b' contains invalid characters"),
            ("é", "contains invalid characters"),
            ("_a", "starts or ends with invalid characters"),
            ("a-", "starts or ends with invalid characters"),
        ] {
            for kind in ["labels", "annotations"] {
                let text = refused(json!({kind: {key: "x"}}));
                assert!(text.contains(why), "{key}: {text}");
            }
        }
        let long = "a".repeat(64);
        assert!(refused(json!({"labels": {long.as_str(): "x"}})).contains("greater than 63"));
        let prefix = vec!["a".repeat(63); 4].join(".") + ".b/x";
        assert!(refused(json!({"labels": {prefix: "x"}})).contains("greater than 253"));
        assert_eq!(check_key("sub.example.com/A_b.c-1"), Ok(()));
    }

    #[test]
    fn values() {
        assert!(refused(json!({"labels": {"a": "x y"}})).contains("value error: 'x y' contains"));
        assert!(refused(json!({"labels": {"a": "-x"}})).contains("starts or ends"));
        assert!(refused(json!({"labels": {"a": "x".repeat(64)}})).contains("greater than 63"));
        assert!(refused(json!({"labels": {"a": ["x"]}})).contains("must be a string"));
        assert!(refused(json!({"annotations": {"a": "x".repeat(5001)}})).contains("5000"));
        assert!(refused(json!({"tags": {}})).contains("unexpected field(s): 'tags'"));
        assert!(refused(json!({"labels": []})).contains("'labels' is not an object"));
    }

    #[test]
    fn annotations_with_a_prefix_are_public() {
        let mut metadata = Metadata::default();
        let change = json!({"annotations": {"own": "a", "example.com/seen": "b"}, "labels": {"example.com/x": "c"}});
        metadata.merge(&Limits::default(), &change).unwrap();
        let public: Vec<_> = metadata.public_annotations().into_iter().collect();
        assert_eq!(public, [("example.com/seen".to_owned(), "b".to_owned())]);
    }

    #[test]
    fn there_is_a_limit_and_what_was_there_stays() {
        let many = |range: std::ops::Range<u32>| -> Value {
            range
                .map(|n| (format!("k{n}"), json!("v")))
                .collect::<Map<_, _>>()
                .into()
        };
        let text = refused(json!({"labels": many(0..51)}));
        assert_eq!(
            text,
            "Failed to add 51 labels because it would exceed maximum of 50"
        );
        assert!(refused(json!({"annotations": many(0..201)})).contains("maximum of 200"));
        let mut metadata = Metadata::default();
        let generous = Limits {
            labels_per_resource: 100,
            ..Limits::default()
        };
        metadata
            .merge(&generous, &json!({"labels": many(0..60)}))
            .unwrap();
        metadata
            .merge(
                &Limits::default(),
                &json!({"labels": {"k1": "w", "k2": null}}),
            )
            .unwrap();
        assert_eq!(metadata.labels.len(), 59);
        let error = metadata.merge(&Limits::default(), &json!({"labels": {"new": "x"}}));
        assert!(error.is_err());
    }
}
