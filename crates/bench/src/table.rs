//! Formats Markdown tables and verdicts for docs/benchmarks.md.

use std::fmt::Write as _;

pub(crate) struct Table {
    heads: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(heads: &[&str]) -> Self {
        Self {
            heads: heads.iter().map(ToString::to_string).collect(),
            rows: Vec::new(),
        }
    }

    pub(crate) fn row(&mut self, cells: &[String]) {
        self.rows.push(cells.to_vec());
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = format!("| {} |\n|", self.heads.join(" | "));
        text.push_str(&"---|".repeat(self.heads.len()));
        for row in &self.rows {
            let _ = write!(text, "\n| {} |", row.join(" | "));
        }
        f.write_str(&text)
    }
}

/// Returns "met" or "**not met**", with the number.
pub(crate) fn verdict(met: bool, number: &str) -> String {
    format!("{}: {number}", if met { "met" } else { "**not met**" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown() {
        let mut table = Table::new(&["Peer", "µs"]);
        table.row(&["haproxy".into(), "30".into()]);
        assert_eq!(
            table.to_string(),
            "| Peer | µs |\n|---|---|\n| haproxy | 30 |"
        );
        assert_eq!(verdict(false, "3 ms"), "**not met**: 3 ms");
    }
}
