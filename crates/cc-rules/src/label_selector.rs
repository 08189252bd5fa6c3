//! The parameter `label_selector`: `k`, `!k`, `k=v`, `k!=v`, `k in (a,b)`, `k notin (a,b)`, joined with commas.

use crate::metadata::{WordError, check_key, check_label_value};

/// One condition on the labels of a row: on the label with the first text as its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requirement {
    Exists(String),
    Absent(String),
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
}

/// The maximum number of requirements of one selector.
const MOST: usize = 50;

/// The reason why a text is not a label selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    #[error("Invalid label_selector value")]
    Malformed,
    #[error("Too many label_selector requirements (maximum is {})", MOST)]
    TooMany,
    #[error(transparent)]
    Word(#[from] WordError),
}

/// Reads a selector. All of its requirements must hold.
pub fn parse(selector: &str) -> Result<Vec<Requirement>, SelectorError> {
    let requirements: Option<Vec<_>> = split(selector)
        .into_iter()
        .map(|part| requirement(part.trim()))
        .collect();
    let requirements = requirements.ok_or(SelectorError::Malformed)?;
    if requirements.len() > MOST {
        return Err(SelectorError::TooMany);
    }
    requirements.iter().try_for_each(Requirement::check)?;
    Ok(requirements)
}

impl Requirement {
    fn check(&self) -> Result<(), WordError> {
        let (key, values) = match self {
            Self::Exists(key) | Self::Absent(key) => (key, &[][..]),
            Self::In(key, values) | Self::NotIn(key, values) => (key, values.as_slice()),
        };
        check_key(key)?;
        values.iter().try_for_each(|value| check_label_value(value))
    }
}

/// Splits a selector at commas outside parentheses.
fn split(selector: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0_i32, 0);
    for (at, c) in selector.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&selector[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&selector[start..]);
    parts
}

fn requirement(part: &str) -> Option<Requirement> {
    let is_key = |key: &str| {
        !key.is_empty()
            && key
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
    };
    let keyed = |key: &str| is_key(key.trim()).then(|| key.trim().to_owned());
    if let Some(list) = part.strip_suffix(')') {
        let (head, values) = list.split_once('(')?;
        let values = values
            .split(',')
            .map(|value| value.trim().to_owned())
            .collect();
        let (key, word) = head.trim().rsplit_once(char::is_whitespace)?;
        return match word {
            "in" => Some(Requirement::In(keyed(key)?, values)),
            "notin" => Some(Requirement::NotIn(keyed(key)?, values)),
            _ => None,
        };
    }
    if let Some((key, value)) = part.split_once("!=") {
        return Some(Requirement::NotIn(
            keyed(key)?,
            vec![value.trim().to_owned()],
        ));
    }
    if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return Some(Requirement::In(keyed(key)?, vec![value.trim().to_owned()]));
    }
    match part.strip_prefix('!') {
        Some(key) => Some(Requirement::Absent(keyed(key)?)),
        None => Some(Requirement::Exists(keyed(part)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_parse() {
        let parsed = parse("a,!b,c=d,e!=f,g in (h,i),j notin (k)").unwrap();
        assert_eq!(parsed.len(), 6);
        assert_eq!(
            parsed[4],
            Requirement::In("g".into(), vec!["h".into(), "i".into()])
        );
        assert_eq!(parse("a in b)"), Err(SelectorError::Malformed));
        assert_eq!(parse("a b"), Err(SelectorError::Malformed));
    }

    #[test]
    fn a_selector_is_bounded_and_its_keys_and_values_are_checked() {
        let text = |selector: &str| parse(selector).unwrap_err().to_string();
        let many = ["a"; MOST + 1].join(",");
        assert_eq!(
            text(&many),
            "Too many label_selector requirements (maximum is 50)"
        );
        assert_eq!(text("a/b/c"), "key has more than one '/'");
        assert_eq!(text("a=b c"), "'b c' contains invalid characters");
    }
}
