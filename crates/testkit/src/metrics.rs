//! The metrics that docs/operations.md lists, and pages of metrics as Prometheus reads them.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

/// The limit of a request for a page.
const PATIENCE: Duration = Duration::from_secs(10);

/// A metric that the documentation lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The title of its table, such as "Role `bbs`".
    pub table: String,
    pub name: String,
    /// The type: counter, gauge or histogram.
    pub kind: String,
}

/// Returns the metrics that docs/operations.md lists.
///
/// # Panics
/// It panics if the page cannot be read or lists nothing.
pub fn listed() -> Vec<Listed> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operations.md");
    let text = std::fs::read_to_string(&path).expect("docs/operations.md is readable");
    let listed = parse(&text);
    assert!(!listed.is_empty(), "{} lists no metric", path.display());
    listed
}

fn parse(text: &str) -> Vec<Listed> {
    let section = text
        .lines()
        .skip_while(|line| !line.starts_with("## Metrics"));
    let section = section.skip(1).take_while(|line| !line.starts_with("## "));
    let (mut table, mut listed) = (None, Vec::new());
    for line in section {
        if let Some(title) = line.strip_prefix("### ") {
            table = Some(title.to_owned());
        }
        let row = line.strip_prefix("| `").and_then(|row| row.split_once('`'));
        if let (Some(table), Some((name, rest))) = (&table, row) {
            let kind = rest.split('|').nth(1).unwrap_or_default();
            listed.push(Listed {
                table: table.clone(),
                name: name.split('{').next().unwrap_or_default().to_owned(),
                kind: kind.trim().to_owned(),
            });
        }
    }
    listed
}

/// Returns whether the page has a value of the metric. A histogram's value is its count.
pub fn has_value(page: &str, name: &str) -> bool {
    values(page).any(|(row, _)| row == name || row.strip_suffix("_count") == Some(name))
}

/// Returns the value of a metric, summed over its labels; `None` if it has none.
pub fn value(page: &str, name: &str) -> Option<f64> {
    let found = values(page).filter(|(row, _)| *row == name);
    found.map(|(_, value)| value).reduce(|a, b| a + b)
}

/// Returns the name (without labels) and the value of every row.
fn values(page: &str) -> impl Iterator<Item = (&str, f64)> {
    let rows = page.lines().filter(|line| !line.starts_with('#'));
    rows.filter_map(|row| {
        let (name, value) = row.rsplit_once(' ')?;
        let name = name.split('{').next()?;
        Some((name, value.parse().ok()?))
    })
}

/// Returns the type of every metric of the page, by name.
pub fn kinds(page: &str) -> BTreeMap<&str, &str> {
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.filter_map(|line| line.split_once(' ')).collect()
}

/// Returns the status and the body of a page of a process on this machine.
///
/// # Errors
/// It fails if the process does not answer.
pub fn get(port: u16, path: &str) -> Result<(u16, String), String> {
    let exchange = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = exchange().map_err(|error| format!("GET {path} on port {port}: {error}"))?;
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    let body = answer
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned());
    status
        .zip(body)
        .ok_or_else(|| format!("GET {path} on port {port}: no answer of HTTP: {answer}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_the_tables_are_listed() {
        let text = "## Metrics\n| `/metrics` | x |\n### Role `a`\n| Metric | Type |\n| `a_b{c}` | counter | `B` | b |\n## Other\n### X\n| `d` | gauge |\n";
        let row = Listed {
            table: "Role `a`".into(),
            name: "a_b".into(),
            kind: "counter".into(),
        };
        assert_eq!(parse(text), [row]);
    }

    #[test]
    fn values_are_read() {
        let page = "# TYPE a counter\na{x=\"y z\"} 2\na{x=\"w\"} 3.5\nb_count 0\nab 1\n";
        assert_eq!(value(page, "a"), Some(5.5));
        assert_eq!(value(page, "c"), None);
        assert!(has_value(page, "b") && has_value(page, "ab") && !has_value(page, "x"));
        assert_eq!(kinds(page)["a"], "counter");
    }
}
