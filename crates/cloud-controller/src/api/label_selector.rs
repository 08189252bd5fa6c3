//! The parameter `label_selector`: `k`, `!k`, `k=v`, `k!=v`, `k in (a,b)`, `k notin (a,b)`, joined with commas.

use super::lookup::Scope;
use crate::db::label;
use crate::db::sight::Seen;
use crate::error::{ApiError, ApiResult};
use crate::metadata::{check_key, check_label_value};

#[derive(Debug, PartialEq)]
enum Requirement {
    Exists(String),
    Absent(String),
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
}

/// The maximum number of requirements of one selector.
const MOST: usize = 50;

pub(crate) fn apply<R: Seen>(mut select: Scope<R>, selector: &str) -> ApiResult<Scope<R>> {
    let requirements =
        parse(selector).ok_or_else(|| ApiError::bad_query("Invalid label_selector value"))?;
    if requirements.len() > MOST {
        return Err(ApiError::bad_query(format!(
            "Too many label_selector requirements (maximum is {MOST})"
        )));
    }
    for requirement in requirements {
        requirement.check().map_err(ApiError::bad_query)?;
        select = select.that(match requirement {
            Requirement::Exists(key) => label::exists(&key),
            Requirement::Absent(key) => label::is_absent(&key),
            Requirement::In(key, values) => label::is_among(&key, &values),
            Requirement::NotIn(key, values) => label::is_not_among(&key, &values),
        });
    }
    Ok(select)
}

impl Requirement {
    fn check(&self) -> Result<(), String> {
        let (key, values) = match self {
            Self::Exists(key) | Self::Absent(key) => (key, &[][..]),
            Self::In(key, values) | Self::NotIn(key, values) => (key, values.as_slice()),
        };
        check_key(key)?;
        values.iter().try_for_each(|value| check_label_value(value))
    }
}

fn parse(selector: &str) -> Option<Vec<Requirement>> {
    split(selector)
        .into_iter()
        .map(|part| requirement(part.trim()))
        .collect()
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
        assert_eq!(parse("a in b)"), None);
        assert_eq!(parse("a b"), None);
    }
}
