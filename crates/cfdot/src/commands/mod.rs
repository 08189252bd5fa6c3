//! The commands. Each checks its arguments, makes its call, and prints the response as lines of JSON.

mod bbs;
mod cell;
mod events;
mod locket;

use crate::failure::Failure;
use crate::flags::Parsed;
use crate::target::{self, Target};
use crate::verbs::{self, Call, Server, Verb};
use crate::{Options, help};
use std::collections::BTreeMap;
use std::io::Write;

pub(crate) type Done = Result<(), Failure>;

pub(crate) struct Streams<'a> {
    pub(crate) out: &'a mut (dyn Write + Send),
    pub(crate) err: &'a mut (dyn Write + Send),
}

pub(crate) async fn run(
    verb: &Verb,
    parsed: &Parsed,
    environment: &BTreeMap<String, String>,
    options: Options,
    streams: Streams<'_>,
) -> Done {
    if verb.server == Server::None {
        return show_help(&parsed.args, streams.out);
    }
    let target = Target::new(verb.server, parsed, environment, options)?;
    match verb.call {
        Call::Cell | Call::CellState | Call::CellStates | Call::Cells => {
            cell::run(verb.call, parsed, &target, streams.out).await
        }
        Call::LrpEvents | Call::TaskEvents => {
            events::run(verb.call, parsed, &target, streams).await
        }
        Call::Locks
        | Call::Presences
        | Call::ClaimLock
        | Call::ClaimPresence
        | Call::ReleaseLock => locket::run(verb.call, parsed, &target, streams.out).await,
        call => bbs::run(call, parsed, &target, streams).await,
    }
}

/// Runs `cfdot help [CMD]`.
fn show_help(args: &[String], out: &mut (dyn Write + Send)) -> Done {
    let text = match args.first().map(String::as_str) {
        None | Some("" | "help") => verbs::find("help")
            .map(|verb| help::command(verb, help::HelpFlag::Shown))
            .unwrap_or_default(),
        Some(crate::completion::NAME) => help::completion(),
        Some(name) => match verbs::find(name) {
            Some(verb) => help::command(verb, help::HelpFlag::Hidden),
            None => return Err(Failure::invalid(format!("'{name}' is not a valid command"))),
        },
    };
    write(out, &text)
}

// ── arguments ──

pub(crate) const MISSING: &str = "Missing arguments";
pub(crate) const EXTRA: &str = "Too many arguments specified";
pub(crate) const NO_PROCESS_GUID: &str = "Process guid should be non empty string";
pub(crate) const NO_INDEX: &str = "Index must be a non-negative integer";

/// Returns the arguments, whose number must be the one that the command requires.
pub(crate) fn exactly<const N: usize>(parsed: &Parsed) -> Result<[&str; N], Failure> {
    let args: Vec<&str> = parsed.args.iter().map(String::as_str).collect();
    match args.len() {
        given if given < N => Err(Failure::invalid(MISSING)),
        given if given > N => Err(Failure::invalid(EXTRA)),
        _ => args.try_into().map_err(|_| Failure::invalid(MISSING)),
    }
}

/// Returns the only argument, which must not be empty.
pub(crate) fn one<'a>(parsed: &'a Parsed, when_empty: &str) -> Result<&'a str, Failure> {
    let [only] = exactly(parsed)?;
    if only.is_empty() {
        return Err(Failure::invalid(when_empty));
    }
    Ok(only)
}

pub(crate) fn index(text: &str) -> Result<i32, Failure> {
    let index = go_values::integer::decimal(text, 32).ok();
    index
        .and_then(|index| i32::try_from(index).ok())
        .filter(|index| *index >= 0)
        .ok_or_else(|| Failure::invalid(NO_INDEX))
}

/// Refuses a flag that is given in both of its forms.
pub(crate) fn not_doubled(parsed: &Parsed, pairs: &[(&str, &str)]) -> Done {
    match pairs
        .iter()
        .find(|(short, long)| parsed.is_doubled(short, long))
    {
        Some((short, long)) => Err(Failure::invalid(format!(
            "Only one of {short} and {long} should be passed"
        ))),
        None => Ok(()),
    }
}

/// Returns JSON from the command line, or from the file whose name follows an `@`.
pub(crate) fn spec(text: &str) -> Result<String, Failure> {
    let Some(path) = text.strip_prefix('@') else {
        return Ok(text.to_owned());
    };
    let refused = |verb: &str, error: &std::io::Error| {
        Failure::invalid(format!("{verb} {path}: {}", target::reason(error)))
    };
    std::fs::metadata(path).map_err(|error| refused("stat", &error))?;
    let bytes = std::fs::read(path).map_err(|error| {
        let verb = if error.kind() == std::io::ErrorKind::IsADirectory {
            "read"
        } else {
            "open"
        };
        refused(verb, &error)
    })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

// ── output ──

/// Prints one object on a line of its own. Characters that have a meaning in HTML are escaped, as Go does.
pub(crate) fn line(out: &mut (dyn Write + Send), value: &impl serde::Serialize) -> Done {
    let text = serde_json::to_string(value)
        .map_err(|error| Failure::other(format!("encode JSON: {error}")))?;
    write(out, &format!("{}\n", escaped(&text)))
}

pub(crate) fn lines(
    out: &mut (dyn Write + Send),
    values: impl IntoIterator<Item = impl serde::Serialize>,
) -> Done {
    values.into_iter().try_for_each(|value| line(out, &value))
}

pub(crate) fn write(out: &mut (dyn Write + Send), text: &str) -> Done {
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| match error.kind() {
        std::io::ErrorKind::BrokenPipe => Failure::nobody_reads(),
        _ => Failure::other(format!("write /dev/stdout: {}", target::reason(&error))),
    })
}

fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                text.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_as_go_writes_them() {
        let mut out = Vec::new();
        line(&mut out, &serde_json::json!({"a": "<b> & \u{2028}é"})).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"a\":\"\\u003cb\\u003e \\u0026 \\u2028é\"}\n"
        );
    }
}
