//! Command-line flags in the syntax of Go programs: `-name value`, `-name=value`, `--name=value`, bare switches; durations such
//! as `1m30s`. The original programs are called with these flags, so ours are too.

use std::collections::BTreeMap;
use std::time::Duration;

/// The given flags, by name without dashes.
#[derive(Debug, Default)]
pub(crate) struct Flags {
    values: BTreeMap<String, String>,
}

impl Flags {
    /// Parses flags. `known` are the names of flags that have a value, `switches` those that have none.
    pub(crate) fn parse(
        args: &[String],
        known: &[&str],
        switches: &[&str],
    ) -> Result<Self, String> {
        let mut values = BTreeMap::new();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let Some(flag) = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')) else {
                return Err(format!("unexpected argument {arg:?}"));
            };
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            let value = if switches.contains(&name) {
                value.unwrap_or_else(|| "true".to_owned())
            } else if known.contains(&name) {
                value
                    .or_else(|| args.next().cloned())
                    .ok_or_else(|| format!("flag needs an argument: -{name}"))?
            } else {
                let all: Vec<String> = known
                    .iter()
                    .chain(switches)
                    .map(|name| format!("-{name}"))
                    .collect();
                return Err(format!(
                    "flag provided but not defined: -{name}; known are {}",
                    all.join(" ")
                ));
            };
            values.insert(name.to_owned(), value);
        }
        Ok(Self { values })
    }

    pub(crate) fn text<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        self.values.get(name).map_or(default, String::as_str)
    }

    pub(crate) fn switch(&self, name: &str) -> Result<bool, String> {
        let text = self.text(name, "false");
        go_values::boolean(text)
            .ok_or_else(|| format!("invalid boolean value {text:?} for -{name}"))
    }

    pub(crate) fn duration(&self, name: &str, default: Duration) -> Result<Duration, String> {
        match self.values.get(name) {
            None => Ok(default),
            Some(text) => go_values::duration::parse(text).ok_or_else(|| {
                format!(
                    "invalid value {text:?} for flag -{name}: expected a duration such as 1s or 500ms"
                )
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Flags, String> {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        Flags::parse(&args, &["port", "timeout"], &["skip"])
    }

    #[test]
    fn all_spellings() {
        let flags = parse(&["-port", "1", "--timeout=1m30s", "-skip"]).unwrap();
        assert_eq!(
            (flags.text("port", "8080"), flags.switch("skip")),
            ("1", Ok(true))
        );
        assert_eq!(
            flags.duration("timeout", Duration::ZERO),
            Ok(Duration::from_secs(90))
        );
        assert_eq!(parse(&["-skip=false"]).unwrap().switch("skip"), Ok(false));
        assert_eq!(parse(&[]).unwrap().text("port", "8080"), "8080");
    }

    #[test]
    fn mistakes() {
        assert!(
            parse(&["-what=1"])
                .unwrap_err()
                .contains("not defined: -what")
        );
        assert!(parse(&["-port"]).unwrap_err().contains("needs an argument"));
        assert!(parse(&["port"]).unwrap_err().contains("unexpected"));
        assert!(
            parse(&["-timeout=5"])
                .unwrap()
                .duration("timeout", Duration::ZERO)
                .unwrap_err()
                .contains("\"5\"")
        );
    }
}
