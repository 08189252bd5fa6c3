//! The sizes in manifests.

/// Parses a size such as `256M`, `1GB` or `512 mb`.
pub(super) fn bytes(text: &str) -> Option<i64> {
    let text = text.trim().to_ascii_uppercase();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(split);
    let shift = match unit.trim() {
        "B" => 0,
        "K" | "KB" => 10,
        "M" | "MB" => 20,
        "G" | "GB" => 30,
        "T" | "TB" => 40,
        _ => return None,
    };
    let number: f64 = number.parse().ok()?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
    (number.is_finite() && (0.0..1e9).contains(&number))
        .then_some((number * (1_i64 << shift) as f64) as i64)
}

/// Formats a size as manifests contain it: `256M`.
pub fn megabytes_text(megabytes: i64) -> String {
    format!("{megabytes}M")
}
