//! The keys `permitted_addresses` and `denied_addresses`: where a component connects for users.

use kit::reach::{Range, Reach};

/// Reads the two lists of a section.
pub(super) fn check(
    section: &str,
    permitted: &[String],
    denied: &[String],
    problems: &mut Vec<String>,
) -> Reach {
    let mut ranges = |key: &str, texts: &[String]| {
        let mut ranges = Vec::new();
        for text in texts {
            match text.parse::<Range>() {
                Ok(range) => ranges.push(range),
                Err(error) => problems.push(format!("{section}.{key} has {text:?}: {error}")),
            }
        }
        ranges
    };
    Reach {
        allow: ranges("permitted_addresses", permitted),
        deny: ranges("denied_addresses", denied),
    }
}
