//! Command-line flags as Go programs take them: `-name value`, `-name=value`, `--name=value`, bare switches; durations
//! such as `1m30s`. The original programs are called that way, so ours are too.

use std::collections::BTreeMap;
use std::time::Duration;

/// The flags given, by name without dashes.
#[derive(Debug, Default)]
pub(crate) struct Flags {
    values: BTreeMap<String, String>,
}

impl Flags {
    /// `known`: names of the flags that have a value; `switches`: those that need none.
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
        match self.text(name, "false") {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            other => Err(format!("invalid boolean value {other:?} for -{name}")),
        }
    }

    pub(crate) fn duration(&self, name: &str, default: Duration) -> Result<Duration, String> {
        match self.values.get(name) {
            None => Ok(default),
            Some(text) => parse_duration(text).ok_or_else(|| {
                format!(
                    "invalid value {text:?} for flag -{name}: want a duration such as 1s or 500ms"
                )
            }),
        }
    }
}

fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut rest, mut seconds) = (text, 0.0);
    while !rest.is_empty() {
        let number_ends = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let unit_ends = rest[number_ends..]
            .find(|c: char| c.is_ascii_digit())
            .map_or(rest.len(), |at| number_ends + at);
        let number: f64 = rest[..number_ends].parse().ok()?;
        let unit = match &rest[number_ends..unit_ends] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += number * unit;
        rest = &rest[unit_ends..];
    }
    (!text.is_empty()).then(|| Duration::try_from_secs_f64(seconds).ok())?
}

/// As Go prints it: `1m0s`, `2.5s`, `500ms`.
pub(crate) fn show_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let fraction = duration.subsec_millis();
    if seconds == 0 && fraction > 0 {
        return format!("{fraction}ms");
    }
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let rest = if fraction == 0 {
        format!("{rest}s")
    } else {
        format!("{}s", format!("{rest}.{fraction:03}").trim_end_matches('0'))
    };
    match (hours, minutes) {
        (0, 0) => rest,
        (0, _) => format!("{minutes}m{rest}"),
        _ => format!("{hours}h{minutes}m{rest}"),
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

    #[test]
    fn durations() {
        for (text, millis) in [
            ("1s", 1000),
            ("1000ms", 1000),
            ("1.5s", 1500),
            ("2m", 120_000),
            ("1h0m1s", 3_601_000),
            ("0", 0),
        ] {
            assert_eq!(
                parse_duration(text),
                Some(Duration::from_millis(millis)),
                "{text}"
            );
        }
        for text in ["", "s", "1", "1x", "-1s"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        for (millis, text) in [
            (60_000, "1m0s"),
            (2500, "2.5s"),
            (500, "500ms"),
            (0, "0s"),
            (3_601_000, "1h0m1s"),
        ] {
            assert_eq!(show_duration(Duration::from_millis(millis)), text);
        }
    }
}
