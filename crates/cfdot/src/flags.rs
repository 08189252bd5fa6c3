//! A command's flags in the syntax of Go's pflag: `--name VALUE`, `--name=VALUE`, `-n VALUE`, `-nVALUE`, `-n=VALUE`, bundles of
//! switches, flags before and after arguments, and `--` as their end. A value may begin with a dash.
//!
//! Scripts call cfdot in all these forms and read its exit codes. No parser for Rust supports them all, so this one is our own.

use go_values::{boolean, duration, integer, quoted};
use std::collections::BTreeMap;

/// The type of a flag's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Switch,
    Int,
    Int32,
    Duration,
}

impl Kind {
    /// Returns the type's name in the help.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Switch => "",
            Self::Int => "int",
            Self::Int32 => "int32",
            Self::Duration => "duration",
        }
    }

    fn check(self, text: &str) -> Result<(), String> {
        match self {
            Self::Text => Ok(()),
            Self::Switch => boolean(text).map(drop).ok_or_else(|| {
                format!(
                    "strconv.ParseBool: parsing {}: invalid syntax",
                    quoted(text)
                )
            }),
            Self::Int => integer::any_base(text, 64)
                .map(drop)
                .map_err(|e| e.to_string()),
            Self::Int32 => integer::any_base(text, 32)
                .map(drop)
                .map_err(|e| e.to_string()),
            Self::Duration => duration::nanoseconds(text)
                .map(drop)
                .map_err(|e| e.to_string()),
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Flag {
    pub(crate) name: &'static str,
    pub(crate) short: Option<char>,
    pub(crate) kind: Kind,
    pub(crate) about: &'static str,
}

impl Flag {
    pub(crate) const fn new(
        name: &'static str,
        short: Option<char>,
        kind: Kind,
        about: &'static str,
    ) -> Self {
        Self {
            name,
            short,
            kind,
            about,
        }
    }

    /// Returns the flag as `-t, --ttl`.
    pub(crate) fn spelled(&self) -> String {
        match self.short {
            Some(short) => format!("-{short}, --{}", self.name),
            None => format!("--{}", self.name),
        }
    }
}

/// The flags and arguments of one command line. Every value has been checked against the type of its flag.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    values: BTreeMap<&'static str, String>,
    pub(crate) args: Vec<String>,
    /// The arguments as they were typed.
    typed: Vec<String>,
}

impl Parsed {
    pub(crate) fn given(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }
    /// Returns the value of a flag; empty if the flag was not given.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.given(name).unwrap_or_default()
    }
    pub(crate) fn switch(&self, name: &str) -> bool {
        self.given(name).and_then(boolean).unwrap_or_default()
    }
    pub(crate) fn integer(&self, name: &str) -> Option<i64> {
        integer::any_base(self.given(name)?, 64).ok()
    }
    /// Returns the value in nanoseconds.
    pub(crate) fn duration(&self, name: &str) -> i64 {
        self.given(name)
            .and_then(|text| duration::nanoseconds(text).ok())
            .unwrap_or_default()
    }
    /// Returns whether a flag is given in its short and in its long form, in which case it is unclear which one counts.
    pub(crate) fn is_doubled(&self, short: &str, long: &str) -> bool {
        let stands = |form: &str| self.typed.iter().any(|typed| typed == form);
        stands(short) && stands(long)
    }
}

/// Parses the words that follow a command's name. The error is the message for the user.
pub(crate) fn parse(args: &[String], flags: &[Flag]) -> Result<Parsed, String> {
    let mut parsed = Parsed {
        typed: args.to_vec(),
        ..Parsed::default()
    };
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if arg == "--" {
            parsed.args.extend(rest.by_ref().cloned());
        } else if let Some(long) = arg.strip_prefix("--") {
            parsed.long(arg, long, flags, &mut rest)?;
        } else if let Some(bundle) = arg.strip_prefix('-').filter(|b| !b.is_empty()) {
            parsed.shorts(bundle, flags, &mut rest)?;
        } else {
            parsed.args.push(arg.clone());
        }
    }
    Ok(parsed)
}

type Rest<'a> = std::slice::Iter<'a, String>;

impl Parsed {
    fn long(
        &mut self,
        arg: &str,
        long: &str,
        flags: &[Flag],
        rest: &mut Rest<'_>,
    ) -> Result<(), String> {
        if long.starts_with(['-', '=']) {
            return Err(format!("bad flag syntax: {arg}"));
        }
        let (name, inline) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (long, None),
        };
        let flag = flags
            .iter()
            .find(|flag| flag.name == name)
            .ok_or_else(|| format!("unknown flag: --{name}"))?;
        let value = match inline {
            Some(value) => value.to_owned(),
            None if flag.kind == Kind::Switch => "true".to_owned(),
            None => rest
                .next()
                .cloned()
                .ok_or_else(|| format!("flag needs an argument: {arg}"))?,
        };
        self.set(flag, value)
    }

    fn shorts(&mut self, bundle: &str, flags: &[Flag], rest: &mut Rest<'_>) -> Result<(), String> {
        let mut left = bundle;
        while let Some(c) = left.chars().next() {
            let flag = flags.iter().find(|flag| flag.short == Some(c));
            let flag = flag.ok_or_else(|| format!("unknown shorthand flag: '{c}' in -{left}"))?;
            let tail = &left[c.len_utf8()..];
            if tail.len() > 1 && tail.starts_with('=') {
                return self.set(flag, tail[1..].to_owned());
            }
            if flag.kind == Kind::Switch {
                self.set(flag, "true".to_owned())?;
                left = tail;
                continue;
            }
            let value = if tail.is_empty() {
                rest.next()
                    .cloned()
                    .ok_or_else(|| format!("flag needs an argument: '{c}' in -{left}"))?
            } else {
                tail.to_owned()
            };
            return self.set(flag, value);
        }
        Ok(())
    }

    fn set(&mut self, flag: &Flag, value: String) -> Result<(), String> {
        flag.kind.check(&value).map_err(|reason| {
            format!(
                "invalid argument {} for {} flag: {reason}",
                quoted(&value),
                quoted(&flag.spelled())
            )
        })?;
        self.values.insert(flag.name, value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: &[Flag] = &[
        Flag::new("domain", Some('d'), Kind::Text, ""),
        Flag::new("index", Some('i'), Kind::Int32, ""),
        Flag::new("timeout", None, Kind::Int, ""),
        Flag::new("ttl", Some('t'), Kind::Duration, ""),
        Flag::new("exclude", Some('x'), Kind::Switch, ""),
        Flag::new("yes", Some('y'), Kind::Switch, ""),
    ];

    fn parsed(line: &str) -> Result<Parsed, String> {
        let args: Vec<_> = line.split(' ').map(str::to_owned).collect();
        parse(&args, FLAGS)
    }

    #[test]
    fn every_spelling() {
        for line in [
            "a --domain d -i 3 b",
            "-dd a b --index=3",
            "a -d=d b -i3",
            "--domain=x -d d -i +3 -- a b",
        ] {
            let parsed = parsed(line).unwrap();
            assert_eq!(
                (parsed.text("domain"), parsed.integer("index")),
                ("d", Some(3)),
                "{line}"
            );
            assert_eq!(parsed.args, ["a", "b"], "{line}");
        }
        let both = parsed("-xy").unwrap();
        assert!(both.switch("exclude") && both.switch("yes"));
        assert!(!parsed("--exclude=false").unwrap().switch("exclude"));
        assert_eq!(parsed("-i -5 -").unwrap().args, ["-"]);
        assert_eq!(parsed("--index -5").unwrap().integer("index"), Some(-5));
        assert_eq!(parsed("-t -5s").unwrap().duration("ttl"), -5_000_000_000);
        assert_eq!(parsed("--domain --").unwrap().text("domain"), "--");
        assert_eq!(parsed("--domain=").unwrap().given("domain"), Some(""));
    }

    #[test]
    fn mistakes_are_named_as_in_go() {
        for (line, message) in [
            ("--nope", "unknown flag: --nope"),
            ("--nope=1", "unknown flag: --nope"),
            ("-z", "unknown shorthand flag: 'z' in -z"),
            ("-xz", "unknown shorthand flag: 'z' in -z"),
            ("-1", "unknown shorthand flag: '1' in -1"),
            ("--ttl", "flag needs an argument: --ttl"),
            ("-t", "flag needs an argument: 't' in -t"),
            ("--=x", "bad flag syntax: --=x"),
            ("---x", "bad flag syntax: ---x"),
            (
                "-i x",
                r#"invalid argument "x" for "-i, --index" flag: strconv.ParseInt: parsing "x": invalid syntax"#,
            ),
            (
                "--timeout 1.5",
                r#"invalid argument "1.5" for "--timeout" flag: strconv.ParseInt: parsing "1.5": invalid syntax"#,
            ),
            (
                "-t 5",
                r#"invalid argument "5" for "-t, --ttl" flag: time: missing unit in duration "5""#,
            ),
            (
                "-x=maybe",
                r#"invalid argument "maybe" for "-x, --exclude" flag: strconv.ParseBool: parsing "maybe": invalid syntax"#,
            ),
        ] {
            assert_eq!(parsed(line).unwrap_err(), message, "{line}");
        }
    }
}
