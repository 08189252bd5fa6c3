//! `procfile_buildpack`, and the Procfile, whose commands override those of every buildpack.

use super::{Buildpack, Compiled};
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

pub(super) struct ProcfileBuildpack;

impl Buildpack for ProcfileBuildpack {
    fn key(&self) -> &'static str {
        "procfile_buildpack"
    }
    fn title(&self) -> &'static str {
        "Procfile"
    }
    fn detect(&self, app: &Path) -> bool {
        app.join("Procfile").is_file()
    }
    fn compile(&self, app: &Path) -> Result<Compiled, String> {
        let commands = read(app)?
            .ok_or("there is no Procfile; write one with a line such as web: ./server")?;
        for (process_type, command) in &commands {
            println!("       {process_type}: {command}");
        }
        Ok(Compiled::default())
    }
}

/// Returns the commands by process type; `None` if there is no Procfile.
pub(super) fn read(app: &Path) -> Result<Option<BTreeMap<String, String>>, String> {
    match fs::read_to_string(app.join("Procfile")) {
        Ok(text) => parse(&text).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("Failed to read command from Procfile: {error}")),
    }
}

fn parse(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut commands = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') || line == "---" {
            continue;
        }
        let wrong = || {
            format!(
                "Failed to read command from Procfile: line {} is {line:?}; expected for example web: ./server",
                number + 1
            )
        };
        let (process_type, command) = line.split_once(':').ok_or_else(wrong)?;
        let command = unquote(command.trim());
        if process_type.is_empty()
            || command.is_empty()
            || !process_type
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
        {
            return Err(wrong());
        }
        commands.insert(process_type.to_owned(), command.to_owned());
    }
    Ok(commands)
}

/// Removes quotes around a whole value, because the original buildpack reads YAML.
fn unquote(value: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(inner) = value
            .strip_prefix(quote)
            .and_then(|value| value.strip_suffix(quote))
            && !inner.contains(quote)
        {
            return inner;
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_by_type() {
        let commands = parse("# comment\n---\nweb: ./server --port=$PORT\r\n\nworker-1:   'python3 w.py'\nclock: \"a\" b \"c\"\n").unwrap();
        assert_eq!(commands["web"], "./server --port=$PORT");
        assert_eq!(commands["worker-1"], "python3 w.py");
        assert_eq!(commands["clock"], "\"a\" b \"c\"");
    }

    #[test]
    fn mistakes_name_the_line() {
        for text in ["web ./server", "web:", ": x", "we b: x"] {
            assert!(parse(text).unwrap_err().contains("line 1"), "{text}");
        }
    }
}
