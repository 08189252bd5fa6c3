//! Output for people: lines, emphasised text, tables, prompts. All output of all commands goes through [`Ui`].

use anyhow::{Context as _, Result, bail};
use std::collections::BTreeMap;
use std::io::{BufRead, IsTerminal as _, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The environment of a command: variables, folder and streams. Tests pass their own.
pub struct Environment {
    pub vars: BTreeMap<String, String>,
    pub cwd: PathBuf,
    pub stdin: Box<dyn BufRead + Send>,
    pub stdout: Arc<Mutex<dyn Write + Send>>,
    pub stderr: Arc<Mutex<dyn Write + Send>>,
    /// Whether stdin and stdout are terminals. It decides about colour, progress bars and hidden password input.
    pub stdin_is_terminal: bool,
    pub stdout_is_terminal: bool,
    /// The hosts file of this machine: `/etc/hosts`.
    pub hosts_file: PathBuf,
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Environment")
            .field("cwd", &self.cwd)
            .finish_non_exhaustive()
    }
}

impl Environment {
    pub fn of_process() -> Self {
        Self {
            vars: std::env::vars_os()
                .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
                .collect(),
            cwd: std::env::current_dir().unwrap_or_else(|_| PathBuf::from(".")),
            stdin: Box::new(std::io::BufReader::new(std::io::stdin())),
            stdout: Arc::new(Mutex::new(std::io::stdout())),
            stderr: Arc::new(Mutex::new(std::io::stderr())),
            stdin_is_terminal: std::io::stdin().is_terminal(),
            stdout_is_terminal: std::io::stdout().is_terminal(),
            hosts_file: PathBuf::from("/etc/hosts"),
        }
    }

    /// Returns whether the terminal can show colours and redraw a line, which a dumb terminal cannot.
    fn is_capable(&self) -> bool {
        self.stdout_is_terminal && self.vars.get("TERM").is_none_or(|term| term != "dumb")
    }

    /// Returns whether output is coloured. `CF_COLOR` decides, otherwise `NO_COLOR` (no-color.org), otherwise whether stdout is a
    /// terminal.
    fn is_coloured(&self) -> bool {
        let forced = self.vars.get("CF_COLOR").and_then(|v| boolean(v));
        let is_unwanted = self.vars.get("NO_COLOR").is_some_and(|v| !v.is_empty());
        forced.unwrap_or(self.is_capable() && !is_unwanted)
    }
}

/// The exit code of a program that SIGPIPE ends: 128 and the number of the signal.
const SIGPIPE_CODE: u8 = 141;

const RESET: &str = "\x1b[0m";
const BOLD: &str = "\x1b[1m";
const CYAN_BOLD: &str = "\x1b[36;1m";
const GREEN_BOLD: &str = "\x1b[32;1m";
const RED_BOLD: &str = "\x1b[31;1m";
const RED: &str = "\x1b[31m";

/// The output and input that all parts of one command share.
pub(crate) struct Ui {
    out: Arc<Mutex<dyn Write + Send>>,
    err: Arc<Mutex<dyn Write + Send>>,
    input: Mutex<Box<dyn BufRead + Send>>,
    colour: bool,
    pub(crate) terminal: bool,
    hidden_input: bool,
    broken: Mutex<Option<std::io::Error>>,
}

impl std::fmt::Debug for Ui {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ui")
            .field("colour", &self.colour)
            .finish_non_exhaustive()
    }
}

fn locked<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ui {
    pub(crate) fn new(environment: Environment) -> Self {
        let (colour, terminal) = (environment.is_coloured(), environment.is_capable());
        Self {
            out: environment.stdout,
            err: environment.stderr,
            input: Mutex::new(environment.stdin),
            colour,
            terminal,
            hidden_input: environment.stdin_is_terminal,
            broken: Mutex::default(),
        }
    }

    /// Returns whether nobody reads stdout any more (`cf logs app | head`).
    pub(crate) fn is_broken(&self) -> bool {
        locked(&self.broken).is_some()
    }

    /// Returns the exit code of a command that ended with `code`. It differs from `code` if the output could not be written. A
    /// reader that has closed the output is not reported (`cf apps | head -1`): the exit code is then that of a program that
    /// SIGPIPE ends.
    pub(crate) fn exit_code(&self, code: u8) -> u8 {
        let reason = match &*locked(&self.broken) {
            None => return code,
            Some(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return SIGPIPE_CODE,
            Some(error) => error.to_string(),
        };
        self.warn(format!("write stdout: {reason}"));
        code.max(1)
    }

    /// Writes bytes to stdout. After the first failure nothing more is written.
    pub(crate) fn raw(&self, bytes: &[u8]) {
        if self.is_broken() {
            return;
        }
        let mut out = locked(&self.out);
        let written = out.write_all(bytes).and_then(|()| out.flush());
        drop(out);
        if let Err(error) = written {
            *locked(&self.broken) = Some(error);
        }
    }
    pub(crate) fn line(&self, text: impl AsRef<str>) {
        self.raw(format!("{}\n", text.as_ref()).as_bytes());
    }
    pub(crate) fn blank(&self) {
        self.line("");
    }
    /// Writes a line to stderr.
    pub(crate) fn warn(&self, text: impl AsRef<str>) {
        let _ = writeln!(locked(&self.err), "{}", text.as_ref());
    }
    /// Writes `OK` and an empty line.
    pub(crate) fn ok(&self) {
        self.line(self.paint(GREEN_BOLD, "OK"));
        self.blank();
    }
    /// Reports an error: its text on stderr, `FAILED` on stdout.
    pub(crate) fn failed(&self, message: &str) {
        self.warn(message);
        self.line(self.paint(RED_BOLD, "FAILED"));
    }
    /// Writes a line in which each `{}` is replaced by one of the emphasised `names`.
    pub(crate) fn flavor(&self, template: &str, names: &[&str]) {
        let mut names = names.iter();
        let mut text = String::new();
        for (i, part) in template.split("{}").enumerate() {
            if i > 0 {
                text.push_str(&self.paint(CYAN_BOLD, names.next().unwrap_or(&"")));
            }
            text.push_str(part);
        }
        self.line(text);
    }
    pub(crate) fn bold(&self, text: &str) -> String {
        self.paint(BOLD, text)
    }
    pub(crate) fn red(&self, text: &str) -> String {
        self.paint(RED, text)
    }
    pub(crate) fn named(&self, text: &str) -> String {
        self.paint(CYAN_BOLD, text)
    }
    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour && !text.is_empty() {
            format!("{code}{text}{RESET}")
        } else {
            text.to_owned()
        }
    }

    /// Writes `key:   value` lines with aligned values.
    pub(crate) fn key_values(&self, rows: &[(&str, String)]) {
        let rows: Vec<_> = rows
            .iter()
            .map(|(key, value)| vec![format!("{key}:"), value.clone()])
            .collect();
        self.raw(table("", &rows, |_, _, text| text.to_owned()).as_bytes());
    }

    /// Writes a table with a bold header. Columns are three spaces apart.
    pub(crate) fn table(&self, prefix: &str, header: &[&str], rows: Vec<Vec<String>>) {
        let mut all = vec![header.iter().map(|h| (*h).to_owned()).collect()];
        all.extend(rows);
        self.raw(
            table(prefix, &all, |row, column, text| match (row, column) {
                (0, _) => self.bold(text),
                (_, 0) => self.named(text),
                _ => text.to_owned(),
            })
            .as_bytes(),
        );
    }

    /// Returns whether a person can be asked.
    pub(crate) fn is_interactive(&self) -> bool {
        self.hidden_input
    }

    /// Asks a yes/no question. No answer means no.
    pub(crate) fn confirm(&self, question: &str) -> Result<bool> {
        loop {
            self.raw(format!("{question} [yN]: ").as_bytes());
            match self
                .answer()?
                .unwrap_or_default()
                .to_ascii_lowercase()
                .as_str()
            {
                "y" | "yes" => return Ok(true),
                "" | "n" | "no" => return Ok(false),
                other => self.line(format!("invalid input (not y, n, yes, or no): {other:?}")),
            }
        }
    }

    /// Asks for a line. It is an error if stdin has ended.
    pub(crate) fn prompt(&self, label: &str) -> Result<String> {
        self.raw(format!("{label}: ").as_bytes());
        self.answer()?.with_context(|| format!("no answer to the prompt {label:?}: set the value with a flag, or run the command in a terminal"))
    }

    /// Asks for a line that is not shown while it is typed.
    pub(crate) fn password(&self, label: &str) -> Result<String> {
        if !self.hidden_input {
            return self.prompt(label);
        }
        rpassword::prompt_password(format!("{label}: ")).context("read password")
    }

    fn answer(&self) -> Result<Option<String>> {
        let mut line = String::new();
        match locked(&self.input).read_line(&mut line) {
            Ok(0) => {
                // The next output must not be on the line of the question.
                self.blank();
                Ok(None)
            }
            Ok(_) => Ok(Some(line.trim_end_matches(['\r', '\n']).to_owned())),
            Err(error) => bail!("read stdin: {error}"),
        }
    }
}

/// Parses `true`, `1`, `false`, `0` and similar values; `None` for anything else.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "1" => Some(true),
        "false" | "f" | "0" => Some(false),
        _ => None,
    }
}

/// Lays rows out in columns three spaces apart. The last column is not padded. `style` may add codes of no width.
fn table(
    prefix: &str,
    rows: &[Vec<String>],
    style: impl Fn(usize, usize, &str) -> String,
) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns)
        .map(|c| {
            rows.iter()
                .filter_map(|r| r.get(c))
                .map(|t| t.chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for (r, row) in rows.iter().enumerate() {
        text.push_str(prefix);
        for (c, cell) in row.iter().enumerate() {
            text.push_str(&style(r, c, cell));
            if c + 1 < row.len() {
                text.extend(std::iter::repeat_n(
                    ' ',
                    widths[c] + 3 - cell.chars().count(),
                ));
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(cells: &[&[&str]]) -> Vec<Vec<String>> {
        cells
            .iter()
            .map(|row| row.iter().map(|c| (*c).to_owned()).collect())
            .collect()
    }

    #[test]
    fn columns_are_three_spaces_apart_and_the_last_is_not_padded() {
        let text = table(
            "",
            &rows(&[
                &["name", "requested state", "routes"],
                &["größer", "started", "a.b"],
                &["x", "", ""],
            ]),
            |_, _, t| t.to_owned(),
        );
        assert_eq!(
            text,
            "name     requested state   routes\ngrößer   started           a.b\nx                          \n"
        );
    }

    #[test]
    fn styles_do_not_count_as_width() {
        let text = table("  ", &rows(&[&["a", "b"]]), |_, _, t| format!("<{t}>"));
        assert_eq!(text, "  <a>   <b>\n");
    }
}
