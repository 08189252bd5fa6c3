//! Conditions on the labels of rows, which are in the JSON of the column `metadata`. A row whose labels cannot be read has none.

use super::{Arg, Condition};

/// The expression for the value of a label; `?` is its path.
const LABEL: &str = "CASE WHEN json_valid(metadata) THEN json_extract(metadata, ?) END";

pub(crate) fn exists(key: &str) -> Condition {
    Condition::new(format!("{LABEL} IS NOT NULL"), [path(key)])
}

pub(crate) fn is_absent(key: &str) -> Condition {
    Condition::new(format!("{LABEL} IS NULL"), [path(key)])
}

pub(crate) fn is_among(key: &str, values: &[String]) -> Condition {
    Condition::new(
        format!("{LABEL} IN LIST(?)"),
        [path(key), Arg::list(values)],
    )
}

/// Selects rows whose label has none of the values, and rows without the label.
pub(crate) fn is_not_among(key: &str, values: &[String]) -> Condition {
    let sql = format!("COALESCE({LABEL}, '') NOT IN LIST(?)");
    Condition::new(sql, [path(key), Arg::list(values)])
}

fn path(key: &str) -> Arg {
    Arg::Text(format!("$.labels.\"{}\"", key.replace('"', "")))
}
