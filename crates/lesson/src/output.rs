//! Compares the output of a command with the lines that a page shows.
//!
//! A page shows `…` for what differs: on a line of its own for any number of lines, within a line for any text. `<NAME>` stands for a
//! value. If the value is known, it must be the same again; if not, the comparison finds it.

use crate::values::{Piece, Values, pieces};

const ANY: char = '…';

/// The comparison failed: no more than the lines before `expected` were found in the output.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the output has no line like: {expected}")]
pub struct Difference {
    pub expected: String,
}

/// One part of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token<'a> {
    Text(&'a str),
    Any,
    Value(&'a str),
}

/// Compares, and returns the values that were not known before. Empty lines at the end of the output do not count.
pub fn compare(expected: &[String], output: &str, known: &Values) -> Result<Values, Difference> {
    let lines: Vec<&str> = output.trim_end().lines().map(str::trim_end).collect();
    let patterns: Vec<(bool, Vec<Token<'_>>)> = expected
        .iter()
        .map(|line| (line.trim() == ANY.to_string(), tokens(line.trim_end())))
        .collect();
    let mut furthest = 0;
    match rows(
        &patterns,
        &lines,
        known,
        &Values::default(),
        0,
        &mut furthest,
    ) {
        Some(found) => Ok(found),
        None => Err(Difference {
            expected: expected
                .get(furthest)
                .cloned()
                .unwrap_or_else(|| "(the end of the output, but there are more lines)".to_owned()),
        }),
    }
}

/// Matches the patterns from number `at` on with the lines. `furthest` becomes the highest number of a pattern that was tried.
fn rows(
    patterns: &[(bool, Vec<Token<'_>>)],
    lines: &[&str],
    known: &Values,
    found: &Values,
    at: usize,
    furthest: &mut usize,
) -> Option<Values> {
    *furthest = at.max(*furthest);
    let Some((is_any, tokens)) = patterns.get(at) else {
        return lines.is_empty().then(|| found.clone());
    };
    if *is_any {
        return (0..=lines.len())
            .find_map(|skipped| rows(patterns, &lines[skipped..], known, found, at + 1, furthest));
    }
    let (first, rest) = lines.split_first()?;
    let mut next = |found: &Values| rows(patterns, rest, known, found, at + 1, furthest);
    line(tokens, first, known, found, &mut next)
}

/// Matches one line, and calls `next` with the values of each way in which it matches until one leads to an end.
fn line(
    tokens: &[Token<'_>],
    text: &str,
    known: &Values,
    found: &Values,
    next: &mut dyn FnMut(&Values) -> Option<Values>,
) -> Option<Values> {
    let Some((token, others)) = tokens.split_first() else {
        return if text.is_empty() { next(found) } else { None };
    };
    match token {
        Token::Text(wanted) => line(others, text.strip_prefix(*wanted)?, known, found, next),
        Token::Any if others.is_empty() => next(found),
        Token::Any => {
            let mut starts = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            starts.find_map(|at| line(others, &text[at..], known, found, next))
        }
        Token::Value(name) => {
            if let Some(value) = known.get(name).or_else(|| found.get(name)) {
                return line(others, text.strip_prefix(value)?, known, found, next);
            }
            let is_part = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            let longest = text.find(|c: char| !is_part(c)).unwrap_or(text.len());
            // The longest value first: a guid has dashes, and a page may show text behind it.
            (1..=longest).rev().find_map(|end| {
                let mut found = found.clone();
                found.insert(*name, &text[..end]);
                line(others, &text[end..], known, &found, next)
            })
        }
    }
}

fn tokens(line: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    for piece in pieces(line) {
        match piece {
            Piece::Name(name) => tokens.push(Token::Value(name)),
            Piece::Text(text) => {
                for (number, part) in text.split(ANY).enumerate() {
                    if number > 0 {
                        tokens.push(Token::Any);
                    }
                    if !part.is_empty() {
                        tokens.push(Token::Text(part));
                    }
                }
            }
        }
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expected: &str, output: &str) -> Result<Vec<(String, String)>, String> {
        let mut known = Values::default();
        known.insert("CELL_IP", "10.255.0.1");
        let expected: Vec<String> = expected.lines().map(str::to_owned).collect();
        compare(&expected, output, &known)
            .map(|found| found.0.into_iter().collect())
            .map_err(|difference| difference.expected)
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn lines_are_equal_but_for_what_differs() {
        assert_eq!(check("a\nb", "a  \nb\n"), Ok(vec![]));
        assert_eq!(check("a …c", "a bbb c"), Ok(vec![]));
        assert_eq!(check("a\n…", "a\nb\nc\n"), Ok(vec![]));
        assert_eq!(check("…\nc", "a\nb\nc\n"), Ok(vec![]));
        assert_eq!(check("…\nb\n…", "a\nb\n"), Ok(vec![]));
        assert_eq!(check("", ""), Ok(vec![]));
        assert_eq!(check("OK", "OK\n\n"), Ok(vec![]));
    }

    #[test]
    fn values_are_found_and_must_return() {
        let found = check("host <CELL_IP>:<PORT>", "host 10.255.0.1:61001");
        assert_eq!(found, Ok(vec![pair("PORT", "61001")]));
        let found = check("<A>/<A>", "x.y-z/x.y-z");
        assert_eq!(found, Ok(vec![pair("A", "x.y-z")]));
        assert!(check("<CELL_IP>", "10.255.0.2").is_err());
        assert!(check("<A> <A>", "x y").is_err());
        assert!(check("\"<A>\"", "\"\"").is_err(), "a value is not empty");
    }

    #[test]
    fn a_value_is_the_one_that_fits_the_later_lines() {
        let found = check("…\n<A> one\n…\n<A> two", "x one\ny one\ny two\n");
        assert_eq!(found, Ok(vec![pair("A", "y")]));
    }

    #[test]
    fn a_difference_names_the_line_that_is_missing() {
        assert_eq!(check("a\nb\nc", "a\nb\nd"), Err("c".to_owned()));
        assert_eq!(check("a\n…\nc", "a\nb\n"), Err("c".to_owned()));
        assert!(check("a", "a\nb").unwrap_err().contains("more lines"));
    }
}
