//! cfdot shows and changes the state of Diego. It has the commands, flags, environment variables, texts and exit codes of the
//! original cfdot. Each command makes one call to the BBS, to locket or to a rep and prints JSON, one object per line, with the
//! original's field names and order ([`json`]).
//!
//! It is called as `cupola cfdot …`. [`verbs`] is the table of commands. `flags` parses a command line by that table, `target`
//! finds the servers, and `commands` calls them; `help` and `completion` print the table. Only the commands whose names are verbs
//! of change modify the state.

mod commands;
mod completion;
mod failure;
mod flags;
mod help;
pub mod json;
mod line;
mod target;
#[cfg(test)]
mod tests;
mod verbs;

use failure::Failure;
use kit::tls::Identity;
use line::Line;
use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;

/// The servers and the identity to use if neither flags nor the environment name them.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The URL of the BBS, e.g. `https://127.0.0.1:8889`.
    pub bbs_url: Option<String>,
    /// The URL of locket, e.g. `https://127.0.0.1:8891`.
    pub locket_url: Option<String>,
    pub identity: Option<Identity>,
}

/// Runs one command and prints to stdout and stderr. `args` are the words that follow `cfdot`.
///
/// The exit codes are: 0; 3 for a mistake in the command line or the environment; 4 for an error that the BBS, locket or a rep
/// returned; 5 for others, such as a server that cannot be reached; 255 for a command or flag that does not exist.
pub async fn run(args: Vec<String>, options: Options) -> ExitCode {
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let (out, err) = (&mut std::io::stdout(), &mut std::io::stderr());
    ExitCode::from(run_to(args, &environment, options, out, err).await)
}

/// Runs one command with a given environment and streams. Returns the exit code as a number.
pub async fn run_to(
    args: Vec<String>,
    environment: &BTreeMap<String, String>,
    options: Options,
    out: &mut (dyn Write + Send),
    err: &mut (dyn Write + Send),
) -> u8 {
    let (verb, rest) = match line::read(&args) {
        Line::Print(text) => return printed(out, err, &text),
        Line::Refused { message, hint } => {
            let _ = writeln!(err, "Error: {message}\n{hint}");
            return failure::UNREADABLE;
        }
        Line::Verb(verb, rest) => (verb, rest),
    };
    if let Some(instead) = verb.deprecated {
        let _ = writeln!(err, "Command {:?} is deprecated, {instead}", verb.name);
    }
    let done = match line::parse(verb, &rest) {
        Err(failure) => Err(failure),
        Ok(None) => {
            let text = help::command(verb, help::HelpFlag::Shown);
            return printed(out, err, &text);
        }
        Ok(Some(parsed)) => {
            let streams = commands::Streams { out, err };
            Box::pin(commands::run(verb, &parsed, environment, options, streams)).await
        }
    };
    match done {
        Ok(()) => 0,
        Err(failure) => {
            let usage = failure
                .with_usage
                .then(|| help::usage(verb, help::HelpFlag::Shown));
            failed(err, &failure, usage)
        }
    }
}

fn failed(err: &mut (dyn Write + Send), failure: &Failure, usage: Option<String>) -> u8 {
    if !failure.message.is_empty() {
        let _ = writeln!(err, "Error: {}", failure.message);
    }
    if let Some(usage) = usage {
        let _ = writeln!(err, "{usage}");
    }
    failure.code
}

fn printed(out: &mut (dyn Write + Send), err: &mut (dyn Write + Send), text: &str) -> u8 {
    match commands::write(out, text) {
        Ok(()) => 0,
        Err(failure) => failed(err, &failure, None),
    }
}
