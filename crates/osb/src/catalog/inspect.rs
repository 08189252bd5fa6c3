//! Values in the errors of catalogs, as the original writes them.

use serde_json::Value;

/// The number of characters of a value that an error shows.
const LONGEST: usize = 500;

/// Writes a value as Ruby does.
pub(super) fn inspect(value: &Value) -> String {
    let text = write(value);
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn write(value: &Value) -> String {
    match value {
        Value::Null => "nil".to_owned(),
        Value::Array(list) => {
            let items: Vec<String> = list.iter().map(write).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(map) => {
            let pairs = map
                .iter()
                .map(|(key, value)| format!("{} => {}", Value::from(key.as_str()), write(value)));
            let pairs: Vec<String> = pairs.collect();
            match pairs.is_empty() {
                true => "{}".to_owned(),
                false => format!("{{{}}}", pairs.join(", ")),
            }
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_written_as_ruby_does() {
        for (value, text) in [
            (json!(null), "nil"),
            (json!("a\"b"), r#""a\"b""#),
            (json!([1, true, null]), "[1, true, nil]"),
            (json!({ "a": { "b": 1.5 } }), r#"{"a" => {"b" => 1.5}}"#),
            (json!({}), "{}"),
        ] {
            assert_eq!(inspect(&value), text);
        }
        assert!(inspect(&json!("x".repeat(1000))).chars().count() < 510);
    }
}
