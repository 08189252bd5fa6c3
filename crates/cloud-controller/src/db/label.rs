//! Conditions on the labels of rows, which are in the JSON of the column `metadata`. A row whose labels cannot be read has none.

use super::{Arg, Condition};

/// Writes a condition on the value of a label for both databases. The value, whose `?` is the key, stands between the two texts.
macro_rules! on_label {
    ($before:literal, $after:literal, $args:expr) => {
        Condition::each(
            concat!(
                $before,
                "CASE WHEN json_valid(metadata) THEN json_extract(metadata, '$.labels.\"' || ? || '\"') END",
                $after
            ),
            concat!($before, "label_of(metadata, ?)", $after),
            $args,
        )
    };
}

pub(crate) fn exists(key: &str) -> Condition {
    on_label!("", " IS NOT NULL", [of(key)])
}

pub(crate) fn is_absent(key: &str) -> Condition {
    on_label!("", " IS NULL", [of(key)])
}

pub(crate) fn is_among(key: &str, values: &[String]) -> Condition {
    on_label!("", " IN LIST(?)", [of(key), values.into()])
}

/// Selects rows whose label has none of the values, and rows without the label.
pub(crate) fn is_not_among(key: &str, values: &[String]) -> Condition {
    on_label!(
        "COALESCE(",
        ", '') NOT IN LIST(?)",
        [of(key), values.into()]
    )
}

/// Returns the key as an argument. A key never has a quotation mark.
fn of(key: &str) -> Arg {
    key.replace('"', "").into()
}
