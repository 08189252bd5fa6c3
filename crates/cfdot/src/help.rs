//! Help and usage in cobra's format, which people and scripts know from the original cfdot.

use crate::completion::{self, SHELLS};
use crate::flags::{Flag, Kind};
use crate::verbs::{VERBS, Verb};

/// Whether the list of flags contains `--help`. `help CMD` leaves it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HelpFlag {
    Shown,
    Hidden,
}

/// Returns the text of `cfdot --help`.
pub(crate) fn overview() -> String {
    format!(
        "The operator's view of Diego: what should run, what runs, and where\n\n{}",
        usage_of_all()
    )
}

/// Returns the usage that follows an error outside of any command.
pub(crate) fn usage_of_all() -> String {
    let mut commands: Vec<_> = VERBS
        .iter()
        .filter(|verb| verb.deprecated.is_none())
        .map(|verb| (verb.name, verb.about))
        .collect();
    commands.push((completion::NAME, completion::ABOUT));
    commands.sort_unstable();
    group_usage("cfdot", &commands)
}

/// Returns the text of `cfdot completion --help`.
pub(crate) fn completion() -> String {
    let shells = SHELLS.map(|shell| (shell.name, shell.about));
    format!(
        "{}.\nThe help of each sub-command explains how to use the script.\n\n{}",
        completion::ABOUT,
        group_usage("cfdot completion", &shells)
    )
}

fn group_usage(path: &str, commands: &[(&str, &str)]) -> String {
    let width = commands.iter().map(|(name, _)| name.len()).max();
    let width = width.unwrap_or(0).max(11);
    let list: String = commands
        .iter()
        .map(|(name, about)| format!("  {name:<width$} {about}\n"))
        .collect();
    let name = path.split(' ').next_back().unwrap_or(path);
    let flags = flag_lines(&[help_flag()], name);
    format!(
        "Usage:\n  {path} [command]\n\nAvailable Commands:\n{list}\nFlags:\n{flags}\nUse \"{path} [command] --help\" for more information about a command.\n"
    )
}

/// Returns the text of `cfdot COMMAND --help`.
pub(crate) fn command(verb: &Verb, help: HelpFlag) -> String {
    format!("{}\n\n{}", verb.long, usage(verb, help))
}

/// Returns the usage that follows an error in a command line.
pub(crate) fn usage(verb: &Verb, help: HelpFlag) -> String {
    let args = if verb.args.is_empty() {
        String::new()
    } else {
        format!(" {}", verb.args)
    };
    // In cobra, `help CMD` runs before the help flag of CMD exists.
    let usage_flags = match (help, verb.flags().is_empty()) {
        (HelpFlag::Hidden, true) => "",
        _ => " [flags]",
    };
    let mut flags = verb.flags();
    if help == HelpFlag::Shown {
        flags.push(help_flag());
        flags.sort_by_key(|flag| flag.name);
    }
    let lines = match flag_lines(&flags, verb.name) {
        lines if lines.is_empty() => lines,
        lines => format!("\nFlags:\n{lines}"),
    };
    format!("Usage:\n  cfdot {}{args}{usage_flags}\n{lines}", verb.name)
}

pub(crate) const fn help_flag() -> Flag {
    Flag::new("help", Some('h'), Kind::Switch, "")
}

/// Returns the lines of the flags in the order of their names, with aligned texts.
fn flag_lines(flags: &[Flag], command: &str) -> String {
    let left = |flag: &Flag| {
        let short = flag
            .short
            .map_or_else(|| "    ".to_owned(), |short| format!("-{short}, "));
        let value = match flag.kind.name() {
            "" => String::new(),
            name => format!(" {name}"),
        };
        format!("  {short}--{}{value}", flag.name)
    };
    let width = flags.iter().map(|flag| left(flag).len()).max().unwrap_or(0);
    let line = |flag: &Flag| {
        let about = if flag.name == "help" {
            format!("help for {command}")
        } else {
            flag.about.to_owned()
        };
        format!("{:<width$}   {about}\n", left(flag))
    };
    flags.iter().map(line).collect()
}

/// Returns the command names that a user who typed `typed` may have meant, one per line.
pub(crate) fn suggestions(typed: &str) -> String {
    let typed = typed.to_lowercase();
    let mut names: Vec<_> = VERBS
        .iter()
        .filter(|verb| verb.deprecated.is_none())
        .map(|verb| verb.name)
        .chain([completion::NAME])
        .filter(|name| distance(&typed, name) <= 2 || name.starts_with(&typed))
        .collect();
    names.sort_unstable();
    names.iter().map(|name| format!("\t{name}\n")).collect()
}

fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
