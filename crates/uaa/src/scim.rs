//! SCIM 1.0: filter expressions and user documents. The functions are pure.

use crate::db::User;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A filter such as `userName eq "ann" and origin eq "uaa" or id eq "…"`: comparisons, `and` before `or`, no brackets.
#[derive(Debug, PartialEq)]
pub(crate) struct Filter {
    any: Vec<Vec<Comparison>>,
}

#[derive(Debug, PartialEq)]
struct Comparison {
    attribute: String,
    operator: Operator,
    /// The value in lower case.
    value: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Operator {
    Equal,
    Contains,
    StartsWith,
    Present,
}

impl Filter {
    /// Parses a filter of users. The error describes what is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        const ATTRIBUTES: &[&str] = &[
            "id",
            "username",
            "origin",
            "email",
            "emails",
            "emails.value",
            "active",
            "externalid",
            "name.givenname",
            "name.familyname",
        ];
        Self::parse_for(text, ATTRIBUTES)
    }

    /// Parses a filter. `attributes` are those that may be compared, in lower case.
    pub(crate) fn parse_for(text: &str, attributes: &[&str]) -> Result<Self, String> {
        let mut words = tokens(text)?.into_iter();
        let mut any = vec![Vec::new()];
        loop {
            let attribute = words
                .next()
                .ok_or("the filter ends where an attribute is expected")?;
            let operator = match words
                .next()
                .ok_or("the filter ends where an operator is expected")?
                .to_ascii_lowercase()
                .as_str()
            {
                "eq" => Operator::Equal,
                "co" => Operator::Contains,
                "sw" => Operator::StartsWith,
                "pr" => Operator::Present,
                other => {
                    return Err(format!(
                        "operator {other:?} is not supported; use eq, co, sw or pr"
                    ));
                }
            };
            let value = match operator {
                Operator::Present => String::new(),
                _ => words
                    .next()
                    .ok_or("the filter ends where a value is expected")?
                    .to_lowercase(),
            };
            let attribute = attribute.to_ascii_lowercase();
            if !attributes.contains(&attribute.as_str()) {
                return Err(format!("attribute {attribute:?} is not supported"));
            }
            if let Some(all) = any.last_mut() {
                all.push(Comparison {
                    attribute,
                    operator,
                    value,
                });
            }
            match words
                .next()
                .map(|word| word.to_ascii_lowercase())
                .as_deref()
            {
                None => return Ok(Self { any }),
                Some("and") => {}
                Some("or") => any.push(Vec::new()),
                Some(other) => {
                    return Err(format!("expected \"and\" or \"or\", found {other:?}"));
                }
            }
        }
    }

    pub(crate) fn matches(&self, user: &User) -> bool {
        self.holds(|attribute| {
            vec![match attribute {
                "id" => user.id.clone(),
                "username" => user.user_name.clone(),
                "origin" => user.origin.clone(),
                "active" => user.active.to_string(),
                "externalid" => String::new(),
                "name.givenname" => user.given_name.clone(),
                "name.familyname" => user.family_name.clone(),
                _ => user.email.clone(),
            }]
        })
    }

    /// Returns whether the filter matches something with these values. One matching value of an attribute is enough.
    pub(crate) fn holds(&self, values: impl Fn(&str) -> Vec<String>) -> bool {
        let holds = |comparison: &Comparison| {
            let values = values(&comparison.attribute);
            values.iter().any(|value| comparison.holds(value))
        };
        self.any.iter().any(|all| all.iter().all(holds))
    }
}

impl Comparison {
    fn holds(&self, actual: &str) -> bool {
        let actual = actual.to_lowercase();
        match self.operator {
            Operator::Equal => actual == self.value,
            Operator::Contains => actual.contains(&self.value),
            Operator::StartsWith => actual.starts_with(&self.value),
            Operator::Present => !actual.is_empty(),
        }
    }
}

/// Splits the text into words and quoted strings (with `\"` and `\\`).
fn tokens(text: &str) -> Result<Vec<String>, String> {
    let (mut tokens, mut chars) = (Vec::new(), text.chars().peekable());
    while let Some(&c) = chars.peek() {
        let mut token = String::new();
        if c.is_whitespace() {
            chars.next();
            continue;
        } else if c == '"' || c == '\'' {
            chars.next();
            loop {
                match chars
                    .next()
                    .ok_or("the filter has a quote without its end")?
                {
                    '\\' => token.extend(chars.next()),
                    end if end == c => break,
                    other => token.push(other),
                }
            }
        } else {
            while let Some(c) = chars.next_if(|c| !c.is_whitespace()) {
                token.push(c);
            }
        }
        tokens.push(token);
    }
    Ok(tokens)
}

/// Returns a user as a SCIM document.
pub(crate) fn document(user: &User) -> Value {
    let at = |seconds| {
        OffsetDateTime::from_unix_timestamp(seconds)
            .ok()
            .and_then(|t| t.format(&Rfc3339).ok())
            .unwrap_or_default()
    };
    json!({
        "id": user.id,
        "externalId": "",
        "meta": { "version": user.version, "created": at(user.created_at), "lastModified": at(user.updated_at) },
        "userName": user.user_name,
        "name": { "familyName": user.family_name, "givenName": user.given_name },
        "emails": [{ "value": user.email, "primary": true }],
        "groups": user.groups.iter().map(|group| json!({ "value": group, "display": group, "type": "DIRECT" })).collect::<Vec<_>>(),
        "approvals": [],
        "active": user.active,
        "verified": true,
        "origin": user.origin,
        "zoneId": "uaa",
        "passwordLastModified": at(user.password_changed_at),
        "schemas": ["urn:scim:schemas:core:1.0"],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(filter: &str) -> bool {
        let user = User {
            id: "42".into(),
            user_name: "Ann \"A\"".into(),
            origin: "uaa".into(),
            email: "ann@x".into(),
            ..User::default()
        };
        Filter::parse(filter).unwrap().matches(&user)
    }

    #[test]
    fn filters_compare_without_case() {
        assert!(
            matches(r#"userName eq "ann \"a\"""#)
                && matches(r#"username Eq "ANN \"A\"" and origin eq "uaa""#)
        );
        assert!(!matches(r#"userName eq "bob""#) && !matches(r#"id eq "42" and origin eq "ldap""#));
        assert!(
            matches(r#"id eq "1" or id eq "42""#)
                && matches(r#"emails.value co "@""#)
                && matches(r#"id pr"#)
        );
    }

    #[test]
    fn the_error_of_a_wrong_filter_names_the_mistake() {
        for (filter, why) in [
            ("", "attribute"),
            ("id", "operator"),
            ("id eq", "value"),
            ("id eq \"1", "quote"),
            ("id gt 1", "gt"),
            ("x eq 1", "\"x\""),
            ("id eq 1 xor", "xor"),
        ] {
            assert!(Filter::parse(filter).unwrap_err().contains(why), "{filter}");
        }
    }
}
