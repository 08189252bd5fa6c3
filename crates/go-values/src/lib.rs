//! Values as Go programs read and print them: durations ([`duration`]), whole numbers ([`integer`]), other numbers ([`number`]), quantities of
//! bytes ([`quantity`]), truth values ([`boolean`]) and quoted text ([`quoted`]).
//!
//! Operators and manifests of Cloud Foundry write these forms, because its programs are written in Go. All our parsers of
//! flags, configuration files and manifests call this crate, so that one text means one thing everywhere.

pub mod duration;
pub mod integer;
pub mod number;
pub mod quantity;

/// Reads a truth value in one of the twelve spellings that Go knows.
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Puts a text between double quotes on one line, as Go's errors show it: printable characters stay as they are.
pub fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{b}' => quoted.push_str("\\v"),
            '\u{c}' => quoted.push_str("\\f"),
            '\0'..'\u{20}' | '\u{7f}' => quoted.push_str(&format!("\\x{:02x}", u32::from(c))),
            '\u{80}'..'\u{a0}' | '\u{ad}' => {
                quoted.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truth_values() {
        for (text, value) in [
            ("1", Some(true)),
            ("T", Some(true)),
            ("True", Some(true)),
            ("0", Some(false)),
            ("FALSE", Some(false)),
            ("yes", None),
            ("tRUE", None),
            ("", None),
        ] {
            assert_eq!(boolean(text), value, "{text:?}");
        }
    }

    #[test]
    fn quotes_keep_a_text_on_one_line() {
        for (text, shown) in [
            ("a b", r#""a b""#),
            ("é", r#""é""#),
            ("a\"\\\n\u{1}", r#""a\"\\\n\x01""#),
            ("", r#""""#),
        ] {
            assert_eq!(quoted(text), shown);
        }
    }
}
