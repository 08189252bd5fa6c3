//! The command line's grammar: commands as data, and a parser for one command's arguments.
//!
//! Flags may be anywhere: before, between and after positional arguments. `-x VALUE`, `-x=VALUE`, `-xVALUE`, `--long VALUE`,
//! `--long=VALUE`, `-long VALUE` and bundled switches (`-fr`) are all accepted; `--` ends the flags. The value of a variable and
//! a password may begin with a dash at their positions ([`FREE_TEXT`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// The arguments that may be any text: a word that begins with a dash and is no flag of the command is their value. At other
/// positions such a word counts as a flag, so that a mistyped flag is refused by name.
const FREE_TEXT: [&str; 4] = ["ENV_VAR_NAME", "ENV_VAR_VALUE", "PASSWORD", "[PASSWORD]"];

/// One flag of a command.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flag {
    pub(crate) short: Option<char>,
    /// The long name without dashes; empty if there is only a short form.
    pub(crate) long: &'static str,
    /// The name of the value in the help; `None` for a switch.
    pub(crate) value: Option<&'static str>,
    pub(crate) help: &'static str,
    /// The flags and arguments without which this flag would have no effect: one of them must be given too.
    pub(crate) needs: &'static [&'static str],
    /// The flags and arguments beside which this flag would have no effect: none of them may be given.
    pub(crate) not_with: &'static [&'static str],
    /// Whether several values count. For other flags a second value would replace the first.
    pub(crate) repeats: bool,
}

pub(crate) const fn switch(short: Option<char>, long: &'static str, help: &'static str) -> Flag {
    Flag {
        short,
        long,
        value: None,
        help,
        needs: &[],
        not_with: &[],
        repeats: false,
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
        needs: &[],
        not_with: &[],
        repeats: false,
    }
}

impl Flag {
    pub(crate) const fn needs(mut self, one_of: &'static [&'static str]) -> Self {
        self.needs = one_of;
        self
    }

    pub(crate) const fn not_with(mut self, others: &'static [&'static str]) -> Self {
        self.not_with = others;
        self
    }

    pub(crate) const fn repeats(mut self) -> Self {
        self.repeats = true;
        self
    }

    /// Returns the name under which its values are stored: the long name if there is one.
    pub(crate) fn key(&self) -> String {
        match self.short {
            Some(short) if self.long.is_empty() => short.into(),
            _ => self.long.to_owned(),
        }
    }

    fn matches(&self, key: &str) -> bool {
        self.long == key
            || self
                .short
                .is_some_and(|c| key.len() == c.len_utf8() && key.starts_with(c))
    }

    /// Returns the flag as a person types it: the long form if there is one.
    pub(crate) fn spelled(&self) -> String {
        match self.short {
            Some(short) if self.long.is_empty() => format!("-{short}"),
            _ => format!("--{}", self.long),
        }
    }
}

/// One command, as the parser and the help need it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spec {
    pub(crate) name: &'static str,
    pub(crate) alias: &'static str,
    pub(crate) group: &'static str,
    pub(crate) about: &'static str,
    /// The positional arguments in order; `[NAME]` is optional.
    pub(crate) args: &'static [&'static str],
    pub(crate) flags: &'static [Flag],
    pub(crate) examples: &'static [&'static str],
}

/// The arguments that were typed for one command.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    pub(crate) positional: Vec<String>,
    flags: BTreeMap<String, Vec<String>>,
    pub(crate) help: bool,
    pub(crate) verbose: bool,
    /// The flags that the command has read.
    read: Mutex<BTreeSet<String>>,
}

impl Parsed {
    /// Returns the n-th required argument. The parser has checked that it exists.
    pub(crate) fn arg(&self, index: usize) -> &str {
        self.positional.get(index).map_or("", String::as_str)
    }
    pub(crate) fn opt(&self, index: usize) -> Option<&str> {
        self.positional.get(index).map(String::as_str)
    }
    /// Returns whether a flag was given. `key` is its long name, or the short name if there is no long one.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.mark_read(key);
        self.flags.contains_key(key)
    }
    /// Returns the last value of a flag.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.all(key).last().map(String::as_str)
    }
    pub(crate) fn all(&self, key: &str) -> &[String] {
        self.mark_read(key);
        self.flags.get(key).map_or(&[], Vec::as_slice)
    }

    fn mark_read(&self, key: &str) {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.insert(key.to_owned());
    }

    /// Ends a command that has nothing to do, because the user declined or the thing is as it should be. No flag is reported as
    /// without effect then.
    pub(crate) fn end_early(&self) -> anyhow::Result<()> {
        self.flags.keys().for_each(|key| self.mark_read(key));
        Ok(())
    }

    /// Returns the given flags that the command never read, as a person types them.
    pub(crate) fn without_effect(&self, spec: &Spec) -> Vec<String> {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let unread = self.flags.keys().filter(|key| !read.contains(*key));
        let spelled = |key: &String| {
            let flag = spec.flags.iter().find(|flag| flag.matches(key));
            flag.map_or_else(|| key.clone(), Flag::spelled)
        };
        unread.map(spelled).collect()
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

/// The error of a command line that cannot be parsed. It is shown with the command's help.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// Parses the words that follow the command's name.
pub(crate) fn parse(spec: &Spec, args: &[String]) -> Result<Parsed, Usage> {
    let mut parsed = Parsed::default();
    let mut rest = args.iter().map(String::as_str);
    while let Some(arg) = rest.next() {
        if arg == "--" {
            parsed.positional.extend(rest.by_ref().map(str::to_owned));
        } else if parsed.takes_as_text(spec, arg) {
            parsed.positional.push(arg.to_owned());
        } else if let Some(long) = arg.strip_prefix("--").filter(|l| !l.is_empty()) {
            parsed.flag(spec, long, true, &mut rest)?;
        } else if let Some(name) = arg.strip_prefix('-').filter(|s| !s.is_empty()) {
            parsed.flag(spec, name, false, &mut rest)?;
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
    /// Returns whether `arg` is the value of an argument that may be any text.
    fn takes_as_text(&self, spec: &Spec, arg: &str) -> bool {
        let place = spec.args.get(self.positional.len());
        let name = arg.trim_start_matches('-');
        let name = name.split_once('=').map_or(name, |(name, _)| name);
        let is_flag = matches!(arg, "-h" | "-v" | "--help" | "--verbose")
            || spec.flags.iter().any(|flag| flag.matches(name));
        place.is_some_and(|place| FREE_TEXT.contains(place)) && arg.starts_with('-') && !is_flag
    }

    /// Parses one flag. `text` has no dashes; a flag with two dashes is no bundle of short ones.
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

    /// Parses `-h`, `-v`, bundled switches, and `-xVALUE`.
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
        let values = self.flags.entry(flag.key()).or_default();
        if !flag.repeats && values.last().is_some_and(|last| *last != value) {
            return Err(Usage(format!(
                "flag `{}' was given twice, with different values; it accepts one value",
                flag.spelled()
            )));
        }
        values.push(value);
        Ok(())
    }

    /// Refuses flags that would have no effect beside the other words.
    fn check_effects(&self, spec: &Spec) -> Result<(), Usage> {
        let given = |name: &str| {
            let place = spec.args.iter().position(|arg| *arg == name);
            self.flags.contains_key(name) || place.is_some_and(|n| n < self.positional.len())
        };
        for flag in spec.flags.iter().filter(|flag| given(&flag.key())) {
            if let Some(other) = flag.not_with.iter().find(|other| given(other)) {
                return Err(Usage(format!(
                    "The following arguments cannot be used together: {}, {}",
                    flag.spelled(),
                    spelled(spec, other)
                )));
            }
            if !flag.needs.is_empty() && !flag.needs.iter().any(|other| given(other)) {
                let needed = flag.needs.iter().map(|other| spelled(spec, other));
                return Err(Usage(format!(
                    "flag `{}' has no effect without {}",
                    flag.spelled(),
                    needed.collect::<Vec<_>>().join(" or ")
                )));
            }
        }
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
            None => self.check_effects(spec),
        }
    }
}

/// Returns a flag or an argument as a person types it.
fn spelled(spec: &Spec, name: &str) -> String {
    let flag = spec.flags.iter().find(|flag| flag.key() == name);
    flag.map_or_else(|| name.trim_matches(['[', ']']).to_owned(), Flag::spelled)
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
            value(Some('b'), "buildpack", "B", "").repeats(),
            switch(None, "no-route", ""),
            switch(Some('f'), "", ""),
            switch(Some('r'), "", ""),
            value(None, "var", "KEY=VALUE", "").repeats(),
            switch(None, "quick", "").needs(&["instances", "[APP_NAME]"]),
            switch(None, "slow", "").not_with(&["quick"]),
        ],
        examples: &[],
    };
    const SET_ENV: Spec = Spec {
        name: "set-env",
        alias: "se",
        group: "",
        about: "",
        args: &["APP_NAME", "ENV_VAR_NAME", "ENV_VAR_VALUE"],
        flags: &[],
        examples: &[],
    };

    const CREATE_USER: Spec = Spec {
        name: "create-user",
        alias: "",
        group: "",
        about: "",
        args: &["USERNAME", "[PASSWORD]"],
        flags: &[value(Some('o'), "", "ORIGIN", "")],
        examples: &[],
    };

    fn check(spec: &Spec, line: &str) -> Result<Parsed, String> {
        let args: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        parse(spec, &args).map_err(|u| u.0)
    }

    #[test]
    fn flags_are_accepted_anywhere_in_every_spelling() {
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
                "the required arguments `ENV_VAR_NAME` and `ENV_VAR_VALUE` were not provided",
            ),
            (
                &SET_ENV,
                "app X",
                "the required argument `ENV_VAR_VALUE` was not provided",
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
    fn flags_that_would_do_nothing_are_refused() {
        for (line, message) in [
            (
                "--quick",
                "flag `--quick' has no effect without --instances or APP_NAME",
            ),
            (
                "app --quick --slow",
                "The following arguments cannot be used together: --slow, --quick",
            ),
            (
                "-i 2 --instances 3",
                "flag `--instances' was given twice, with different values; it accepts one value",
            ),
        ] {
            assert_eq!(check(&PUSH, line).unwrap_err(), message, "{line}");
        }
        for line in [
            "app --quick",
            "-i 1 --quick",
            "--slow",
            "-i 2 -i 2",
            "-f -f",
        ] {
            assert!(check(&PUSH, line).is_ok(), "{line}");
        }
    }

    #[test]
    fn a_value_may_begin_with_dashes() {
        let pem = "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----";
        for value in ["-Xmx1g", "-----BEGIN", "--a=b", "-1", "-", pem] {
            let args = ["app", "OPTS", value].map(str::to_owned);
            assert_eq!(parse(&SET_ENV, &args).unwrap().arg(2), value);
        }
        let args = ["-o", "uaa", "jo", "-secret"].map(str::to_owned);
        let parsed = parse(&CREATE_USER, &args).unwrap();
        assert_eq!((parsed.arg(1), parsed.get("o")), ("-secret", Some("uaa")));
        assert_eq!(
            check(&SET_ENV, "-x OPTS v").unwrap_err(),
            "unknown flag `x'"
        );
        assert_eq!(
            check(&CREATE_USER, "jo pw --nope").unwrap_err(),
            "unknown flag `nope'"
        );
    }

    #[test]
    fn an_unread_flag_is_reported() {
        let parsed = check(&PUSH, "-i 2 --no-route -f").unwrap();
        assert!(parsed.has("no-route") && parsed.get("instances").is_some());
        assert_eq!(parsed.without_effect(&PUSH), ["-f"]);
    }

    #[test]
    fn help_and_numbers() {
        assert!(check(&SET_ENV, "app --help").unwrap().help);
        assert!(check(&PUSH, "-h").unwrap().help);
        assert_eq!(check(&PUSH, "-i -1").unwrap().get("instances"), Some("-1"));
    }
}
