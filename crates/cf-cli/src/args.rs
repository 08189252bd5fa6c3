//! The command line's grammar: commands as data, and a parser for one command's arguments.
//!
//! Flags may stand anywhere, before, between and after positional arguments; `-x VALUE`, `-x=VALUE`, `-xVALUE`,
//! `--long VALUE`, `--long=VALUE`, `-long VALUE` and bundled switches (`-fr`) are all understood; `--` ends the flags.

use std::collections::BTreeMap;

/// One flag of a command.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flag {
    pub(crate) short: Option<char>,
    /// Without dashes; empty when there is only a short form.
    pub(crate) long: &'static str,
    /// The name of the value in help; `None` for a switch.
    pub(crate) value: Option<&'static str>,
    pub(crate) help: &'static str,
}

pub(crate) const fn switch(short: Option<char>, long: &'static str, help: &'static str) -> Flag {
    Flag {
        short,
        long,
        value: None,
        help,
    }
}

pub(crate) const fn value(
    short: Option<char>,
    long: &'static str,
    value: &'static str,
    help: &'static str,
) -> Flag {
    Flag {
        short,
        long,
        value: Some(value),
        help,
    }
}

impl Flag {
    fn matches(&self, key: &str) -> bool {
        self.long == key
            || self
                .short
                .is_some_and(|c| key.len() == c.len_utf8() && key.starts_with(c))
    }

    /// As a person types it: the long form if there is one.
    pub(crate) fn spelled(&self) -> String {
        match self.short {
            Some(short) if self.long.is_empty() => format!("-{short}"),
            _ => format!("--{}", self.long),
        }
    }
}

/// One command: what the parser and the help need to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spec {
    pub(crate) name: &'static str,
    pub(crate) alias: &'static str,
    pub(crate) group: &'static str,
    pub(crate) about: &'static str,
    /// Positional arguments in order; `[NAME]` is optional.
    pub(crate) args: &'static [&'static str],
    pub(crate) flags: &'static [Flag],
    pub(crate) examples: &'static [&'static str],
}

/// What was typed for one command.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Parsed {
    pub(crate) positional: Vec<String>,
    flags: BTreeMap<String, Vec<String>>,
    pub(crate) help: bool,
    pub(crate) verbose: bool,
}

impl Parsed {
    /// The n-th required argument (the parser has seen that it is there).
    pub(crate) fn arg(&self, index: usize) -> &str {
        self.positional.get(index).map_or("", String::as_str)
    }
    pub(crate) fn opt(&self, index: usize) -> Option<&str> {
        self.positional.get(index).map(String::as_str)
    }
    /// Whether a flag was given; `key` is its long name, or its short one when there is no long one.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.flags.contains_key(key)
    }
    /// The last value given for a flag.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.flags
            .get(key)
            .and_then(|v| v.last())
            .map(String::as_str)
    }
    pub(crate) fn all(&self, key: &str) -> &[String] {
        self.flags.get(key).map_or(&[], Vec::as_slice)
    }
    pub(crate) fn number<T: std::str::FromStr>(
        &self,
        spec: &Spec,
        key: &str,
    ) -> Result<Option<T>, Usage> {
        let Some(text) = self.get(key) else {
            return Ok(None);
        };
        let flag = spec
            .flags
            .iter()
            .find(|f| f.matches(key))
            .map_or_else(|| key.to_owned(), Flag::spelled);
        text.parse().map(Some).map_err(|_| {
            Usage(format!(
                "invalid argument for flag `{flag}' (expected a whole number): {text:?}"
            ))
        })
    }
}

/// The command line cannot be understood: shown with the command's help.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// Parses what follows the command's name.
pub(crate) fn parse(spec: &Spec, args: &[String]) -> Result<Parsed, Usage> {
    let mut parsed = Parsed::default();
    let mut rest = args.iter().map(String::as_str);
    while let Some(arg) = rest.next() {
        if arg == "--" {
            parsed.positional.extend(rest.by_ref().map(str::to_owned));
        } else if let Some(long) = arg.strip_prefix("--").filter(|l| !l.is_empty()) {
            parsed.flag(spec, long, true, &mut rest)?;
        } else if let Some(name) = arg.strip_prefix('-').filter(|s| !s.is_empty()) {
            if spec.flags.is_empty()
                && !matches!(name, "h" | "v" | "help" | "verbose")
                && parsed.positional.len() < spec.args.len()
                && !parsed.positional.is_empty()
            {
                // `set-env APP NAME -Xmx1g`: a command without flags takes such a value as it is
                parsed.positional.push(arg.to_owned());
            } else {
                parsed.flag(spec, name, false, &mut rest)?;
            }
        } else {
            parsed.positional.push(arg.to_owned());
        }
    }
    if !parsed.help {
        parsed.check(spec)?;
    }
    Ok(parsed)
}

fn unknown(flag: &str) -> Usage {
    Usage(format!("unknown flag `{flag}'"))
}

impl Parsed {
    /// One flag, `text` without its dashes; with two dashes it is no bundle of short ones.
    fn flag<'a>(
        &mut self,
        spec: &Spec,
        text: &str,
        is_long: bool,
        rest: &mut impl Iterator<Item = &'a str>,
    ) -> Result<(), Usage> {
        let (key, inline) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (text, None),
        };
        match key {
            "help" => self.help = true,
            "verbose" if !spec.flags.iter().any(|f| f.matches(key)) => self.verbose = true,
            _ => match spec.flags.iter().find(|f| f.matches(key)) {
                Some(flag) => self.store(flag, inline, rest)?,
                None if is_long => return Err(unknown(key)),
                None => self.short(spec, text, rest)?,
            },
        }
        Ok(())
    }

    /// `-h`, `-v`, bundled switches, and `-xVALUE`.
    fn short<'a>(
        &mut self,
        spec: &Spec,
        text: &str,
        rest: &mut impl Iterator<Item = &'a str>,
    ) -> Result<(), Usage> {
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match spec.flags.iter().find(|f| f.short == Some(c)) {
                Some(flag) if flag.value.is_some() => {
                    let tail = chars.as_str();
                    let inline = (!tail.is_empty()).then(|| tail.strip_prefix('=').unwrap_or(tail));
                    return self.store(flag, inline, rest);
                }
                Some(flag) => self.store(flag, None, rest)?,
                None if text == "h" => self.help = true,
                None if text == "v" => self.verbose = true,
                None => return Err(unknown(text.split('=').next().unwrap_or(text))),
            }
        }
        Ok(())
    }

    fn store<'a>(
        &mut self,
        flag: &Flag,
        inline: Option<&str>,
        rest: &mut impl Iterator<Item = &'a str>,
    ) -> Result<(), Usage> {
        let key = if flag.long.is_empty() {
            flag.short.map(String::from).unwrap_or_default()
        } else {
            flag.long.to_owned()
        };
        let value = match (flag.value, inline) {
            (None, None) => String::new(),
            (None, Some(value)) => {
                return Err(Usage(format!(
                    "bool flag `{}' cannot have an argument ({value:?})",
                    flag.spelled()
                )));
            }
            (Some(_), Some(value)) => value.to_owned(),
            (Some(_), None) => match rest.next() {
                None => {
                    return Err(Usage(format!(
                        "expected argument for flag `{}'",
                        flag.spelled()
                    )));
                }
                Some(next)
                    if next.len() > 1
                        && next.starts_with('-')
                        && next[1..].parse::<f64>().is_err() =>
                {
                    return Err(Usage(format!(
                        "expected argument for flag `{}', but got option `{next}'",
                        flag.spelled()
                    )));
                }
                Some(next) => next.to_owned(),
            },
        };
        self.flags.entry(key).or_default().push(value);
        Ok(())
    }

    fn check(&self, spec: &Spec) -> Result<(), Usage> {
        let missing: Vec<_> = spec
            .args
            .iter()
            .skip(self.positional.len())
            .filter(|a| !a.starts_with('['))
            .map(|a| format!("`{a}`"))
            .collect();
        match missing.split_last() {
            None => {}
            Some((only, [])) => {
                return Err(Usage(format!(
                    "the required argument {only} was not provided"
                )));
            }
            Some((last, others)) => {
                return Err(Usage(format!(
                    "the required arguments {} and {last} were not provided",
                    others.join(", ")
                )));
            }
        }
        match self.positional.get(spec.args.len()) {
            Some(extra) => Err(Usage(format!("unexpected argument {extra:?}"))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUSH: Spec = Spec {
        name: "push",
        alias: "p",
        group: "",
        about: "",
        args: &["[APP_NAME]"],
        flags: &[
            value(Some('i'), "instances", "N", ""),
            value(Some('b'), "buildpack", "B", ""),
            switch(None, "no-route", ""),
            switch(Some('f'), "", ""),
            switch(Some('r'), "", ""),
            value(None, "var", "KEY=VALUE", ""),
        ],
        examples: &[],
    };
    const SET_ENV: Spec = Spec {
        name: "set-env",
        alias: "se",
        group: "",
        about: "",
        args: &["APP_NAME", "NAME", "VALUE"],
        flags: &[],
        examples: &[],
    };

    fn check(spec: &Spec, line: &str) -> Result<Parsed, String> {
        let args: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        parse(spec, &args).map_err(|u| u.0)
    }

    #[test]
    fn flags_stand_anywhere_in_every_spelling() {
        for line in [
            "-i 2 app --no-route",
            "app -i=2 -no-route",
            "--instances 2 --no-route app",
            "-i2 --no-route -- app",
            "--instances=2 app --no-route",
        ] {
            let parsed = check(&PUSH, line).unwrap();
            assert_eq!(
                (
                    parsed.arg(0),
                    parsed.get("instances"),
                    parsed.has("no-route")
                ),
                ("app", Some("2"), true),
                "{line}"
            );
        }
    }

    #[test]
    fn switches_bundle_and_values_repeat() {
        let parsed = check(&PUSH, "-fr --var a=b --var c=d=e -b x -b y").unwrap();
        assert!(parsed.has("f") && parsed.has("r"));
        assert_eq!(parsed.all("var"), ["a=b", "c=d=e"]);
        assert_eq!(parsed.all("buildpack"), ["x", "y"]);
    }

    #[test]
    fn mistakes_are_named() {
        for (spec, line, message) in [
            (&PUSH, "--nope", "unknown flag `nope'"),
            (&PUSH, "-x", "unknown flag `x'"),
            (&PUSH, "--bogus", "unknown flag `bogus'"),
            (&PUSH, "--instancse=3", "unknown flag `instancse'"),
            (&PUSH, "-i", "expected argument for flag `--instances'"),
            (
                &PUSH,
                "-b -i 2",
                "expected argument for flag `--buildpack', but got option `-i'",
            ),
            (&PUSH, "a b", "unexpected argument \"b\""),
            (
                &PUSH,
                "--no-route=yes",
                "bool flag `--no-route' cannot have an argument (\"yes\")",
            ),
            (
                &SET_ENV,
                "app",
                "the required arguments `NAME` and `VALUE` were not provided",
            ),
            (
                &SET_ENV,
                "app X",
                "the required argument `VALUE` was not provided",
            ),
        ] {
            assert_eq!(check(spec, line).unwrap_err(), message, "{line}");
        }
        let parsed = check(&PUSH, "-i two").unwrap();
        assert!(
            parsed
                .number::<u32>(&PUSH, "instances")
                .unwrap_err()
                .0
                .contains("\"two\"")
        );
    }

    #[test]
    fn a_value_with_a_dash_needs_no_quoting_where_there_are_no_flags() {
        assert_eq!(check(&SET_ENV, "app OPTS -Xmx1g").unwrap().arg(2), "-Xmx1g");
        assert!(check(&SET_ENV, "app --help").unwrap().help);
        assert!(check(&PUSH, "-h").unwrap().help);
        assert_eq!(check(&PUSH, "-i -1").unwrap().get("instances"), Some("-1"));
    }
}
