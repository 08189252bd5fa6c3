//! The values that a person writes down on one page and needs on a later one, such as the address of a container.
//!
//! A page writes such a value as `<NAME>`: capital letters, digits and underscores between angle brackets.

use std::collections::BTreeMap;

/// The values by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values(pub BTreeMap<String, String>);

/// One piece of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    Text(&'a str),
    /// A name, without its brackets.
    Name(&'a str),
}

impl Values {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.insert(name.into(), value.into());
    }

    /// Adds the values of `other`, which replace older ones of the same name.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Replaces every name whose value is known.
    pub fn fill(&self, text: &str) -> String {
        let piece = |piece: Piece<'_>| match piece {
            Piece::Text(text) => text.to_owned(),
            Piece::Name(name) => match self.get(name) {
                Some(value) => value.to_owned(),
                None => format!("<{name}>"),
            },
        };
        pieces(text).into_iter().map(piece).collect()
    }
}

/// Splits a text at its names.
pub fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut found = Vec::new();
    let (mut rest, mut from) = (text, 0);
    while let Some(at) = rest[from..].find('<').map(|at| from + at) {
        match name(&rest[at..]) {
            Some(name) => {
                if at > 0 {
                    found.push(Piece::Text(&rest[..at]));
                }
                found.push(Piece::Name(name));
                rest = &rest[at + name.len() + 2..];
                from = 0;
            }
            None => from = at + 1,
        }
    }
    if !rest.is_empty() {
        found.push(Piece::Text(rest));
    }
    found
}

/// Returns the names in a text.
pub fn names(text: &str) -> impl Iterator<Item = &str> {
    pieces(text).into_iter().filter_map(|piece| match piece {
        Piece::Name(name) => Some(name),
        Piece::Text(_) => None,
    })
}

/// Returns the name at the beginning of a text, which begins with `<`.
fn name(text: &str) -> Option<&str> {
    let (name, _) = text.strip_prefix('<')?.split_once('>')?;
    let is_part = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let begins = name.starts_with(|c: char| c.is_ascii_uppercase());
    (begins && name.chars().all(is_part)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_capitals_between_brackets() {
        let text = "a<CELL_IP>:<PORT_2> <b> 3<>/dev/tcp <<EOF >x <é> <C";
        let found: Vec<&str> = names(text).collect();
        assert_eq!(found, ["CELL_IP", "PORT_2"]);
        let whole: String = pieces(text)
            .into_iter()
            .map(|piece| match piece {
                Piece::Text(text) => text.to_owned(),
                Piece::Name(name) => format!("<{name}>"),
            })
            .collect();
        assert_eq!(whole, text);
    }

    #[test]
    fn known_names_are_filled_in() {
        let mut values = Values::default();
        values.insert("A", "1");
        assert_eq!(values.fill("x <A> <B> <A>"), "x 1 <B> 1");
    }
}
