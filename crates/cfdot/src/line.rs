//! Splits the words of a command line into the command and its own words.

use crate::completion::{self, SHELLS};
use crate::failure::Failure;
use crate::flags::{self, Parsed};
use crate::help;
use crate::verbs::{self, Verb};

#[derive(Debug)]
pub(crate) enum Line {
    /// Help or a script is printed; no command runs.
    Print(String),
    /// No command has this name, or a flag is where only a command can be.
    Refused {
        message: String,
        hint: String,
    },
    Verb(&'static Verb, Vec<String>),
}

/// Finds the command. Its flags may precede its name.
pub(crate) fn read(args: &[String]) -> Line {
    let at = command_at(args);
    let Some(name) = at.map(|at| args[at].as_str()) else {
        return without_command(args);
    };
    let rest = || {
        let mut rest = args.to_vec();
        rest.remove(at.unwrap_or_default());
        rest
    };
    if name == completion::NAME {
        return complete(&rest());
    }
    match verbs::find(name) {
        Some(verb) => Line::Verb(verb, rest()),
        None => Line::Refused {
            message: format!("unknown command {} for \"cfdot\"", go_values::quoted(name)),
            hint: match help::suggestions(name) {
                near if near.is_empty() => "Run 'cfdot --help' for usage.".to_owned(),
                near => format!("\nDid you mean this?\n{near}\nRun 'cfdot --help' for usage."),
            },
        },
    }
}

/// Returns the position of the first word that is neither a flag nor a flag's value. Before the command is known, every flag
/// without `=` is assumed to have a value, as in cobra.
fn command_at(args: &[String]) -> Option<usize> {
    let mut at = 0;
    while let Some(arg) = args.get(at) {
        let takes_next = !arg.contains('=')
            && (arg.starts_with("--") || (arg.starts_with('-') && arg.len() == 2));
        match arg.as_str() {
            "--" => return None,
            _ if takes_next && args.len() <= at + 2 => return None,
            _ if takes_next => at += 2,
            "" => at += 1,
            _ if !arg.starts_with('-') => return Some(at),
            _ => at += 1,
        }
    }
    None
}

fn without_command(args: &[String]) -> Line {
    match flags::parse(args, &[help::help_flag()]) {
        Ok(_) => Line::Print(help::overview()),
        Err(message) => Line::Refused {
            message,
            hint: help::usage_of_all(),
        },
    }
}

fn complete(rest: &[String]) -> Line {
    let wanted = rest.iter().find(|arg| !arg.starts_with('-'));
    let shell = wanted.and_then(|name| SHELLS.iter().find(|shell| shell.name == name));
    let asks_for_help = rest.iter().any(|arg| arg == "-h" || arg == "--help");
    Line::Print(match shell {
        None => help::completion(),
        Some(shell) if asks_for_help => format!("{}\n", shell.long),
        Some(shell) => shell.script(),
    })
}

/// Parses a command's flags and arguments. Returns `None` if its help is requested.
pub(crate) fn parse(verb: &Verb, rest: &[String]) -> Result<Option<Parsed>, Failure> {
    let mut flags = verb.flags();
    flags.push(help::help_flag());
    let parsed = flags::parse(rest, &flags).map_err(Failure::unreadable)?;
    Ok((!parsed.switch("help")).then_some(parsed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_the_first_word_that_is_no_flags_value() {
        for (line, at) in [
            ("cells", Some(0)),
            ("--bbsURL https://b cells", Some(2)),
            ("--bbsURL=https://b cells", Some(1)),
            ("-d x tasks", Some(2)),
            ("-dx tasks", Some(1)),
            ("--skipCertVerify cells", None),
            ("-h cells", None),
            ("-- cells", None),
            ("", None),
        ] {
            let args: Vec<_> = line.split(' ').map(str::to_owned).collect();
            assert_eq!(command_at(&args), at, "{line:?}");
        }
    }
}
