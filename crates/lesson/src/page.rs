//! Reads a page of the lesson.
//!
//! A page is Markdown. The reader knows these parts of it:
//!
//! - The first line is the title: `# Story 4: Where the app runs` or `# Exercise 1: A rule that points elsewhere`.
//! - A fence `console` holds commands and what they print. A command begins with `$ `; lines that begin with `> ` continue it. All other
//!   lines are its output, in the form that [`crate::output`] compares. With `console again` the command is repeated until its
//!   output is as shown, because the foundation needs a moment.
//! - Other fences (`text`, `sh`) are only shown.
//! - The comments `<!-- before: CONDITION -->` and `<!-- after: CONDITION -->` state what must be true of the foundation.
//!   `<!-- later: … -->` is a note for those who edit the page.
//! - Rows of the table below `## Write down`, whose first cell is `` `NAME` ``, are blanks for values.

use crate::condition::Condition;
use crate::values;
use std::collections::BTreeSet;

/// A story of the lesson, or an exercise in which something is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Story(u8),
    Exercise(u8),
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Story(number) => write!(f, "Story {number}"),
            Self::Exercise(number) => write!(f, "Exercise {number}"),
        }
    }
}

/// One page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub kind: Kind,
    /// The title without the number.
    pub title: String,
    pub parts: Vec<Part>,
    pub before: Vec<Condition>,
    pub after: Vec<Condition>,
    /// The names of the values that a person writes down.
    pub blanks: Vec<String>,
}

/// A part of a page, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Markdown without comments.
    Text(String),
    Command(Command),
}

/// A command with its output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The text for the shell; it may have several lines.
    pub text: String,
    pub output: Vec<String>,
    /// Whether it is repeated until the output is as shown.
    pub again: bool,
}

/// The page does not have the form of a page.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct Invalid {
    pub line: usize,
    pub problem: String,
}

impl Page {
    /// Returns the commands in their order.
    pub fn commands(&self) -> impl Iterator<Item = &Command> {
        self.parts.iter().filter_map(|part| match part {
            Part::Command(command) => Some(command),
            Part::Text(_) => None,
        })
    }

    /// Returns the names of the values that the page's commands use before any output of the page shows them.
    pub fn needs(&self) -> BTreeSet<&str> {
        let (mut needed, mut shown) = (BTreeSet::new(), BTreeSet::new());
        for command in self.commands() {
            needed.extend(values::names(&command.text).filter(|name| !shown.contains(name)));
            shown.extend(command.output.iter().flat_map(|line| values::names(line)));
        }
        needed
    }

    /// Returns the names of the values in the page's output.
    pub fn shows(&self) -> BTreeSet<&str> {
        let lines = self.commands().flat_map(|command| &command.output);
        lines.flat_map(|line| values::names(line)).collect()
    }

    /// Reads a page.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let mut lines = text.lines();
        let (kind, title) = lines.next().and_then(title).ok_or_else(|| Invalid {
            line: 1,
            problem: "the first line is not `# Story N: title` or `# Exercise N: title`".into(),
        })?;
        let mut reader = Reader {
            page: Self {
                kind,
                title,
                parts: Vec::new(),
                before: Vec::new(),
                after: Vec::new(),
                blanks: Vec::new(),
            },
            text: String::new(),
            fence: Fence::None,
        };
        for (index, line) in lines.enumerate() {
            reader.line(line).map_err(|problem| Invalid {
                line: index + 2,
                problem,
            })?;
        }
        reader.end().map_err(|problem| Invalid {
            line: text.lines().count(),
            problem,
        })
    }
}

fn title(line: &str) -> Option<(Kind, String)> {
    let (kind, title) = line.strip_prefix("# ")?.split_once(": ")?;
    let kind = match kind.split_once(' ')? {
        ("Story", number) => Kind::Story(number.parse().ok()?),
        ("Exercise", number) => Kind::Exercise(number.parse().ok()?),
        _ => return None,
    };
    Some((kind, title.to_owned()))
}

/// The fence in which a line is.
enum Fence {
    None,
    /// A fence that is only shown.
    Shown,
    Console {
        again: bool,
        command: Option<Command>,
    },
}

struct Reader {
    page: Page,
    text: String,
    fence: Fence,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), String> {
        match (&mut self.fence, line.strip_prefix("```")) {
            (Fence::Console { command, .. }, Some(_)) => {
                let command = command.take().ok_or("a console fence without a command")?;
                self.page.parts.push(Part::Command(command));
                self.fence = Fence::None;
            }
            (Fence::Console { again, command }, None) => {
                if let Some(finished) = in_console(line, *again, command)? {
                    self.page.parts.push(Part::Command(finished));
                }
            }
            (Fence::Shown, end) => {
                self.push(line);
                if end.is_some() {
                    self.fence = Fence::None;
                }
            }
            (Fence::None, Some(kind @ ("console" | "console again"))) => {
                self.end_text();
                self.fence = Fence::Console {
                    again: kind != "console",
                    command: None,
                };
            }
            (Fence::None, Some("text" | "sh")) => {
                self.push(line);
                self.fence = Fence::Shown;
            }
            (Fence::None, Some(other)) => {
                return Err(format!(
                    "a fence {other:?}: write console, console again, text or sh"
                ));
            }
            (Fence::None, None) => self.outside(line)?,
        }
        Ok(())
    }

    fn outside(&mut self, line: &str) -> Result<(), String> {
        let comment = line
            .strip_prefix("<!--")
            .and_then(|rest| rest.strip_suffix("-->"));
        let Some(comment) = comment else {
            let blank = line
                .strip_prefix("| `")
                .and_then(|rest| rest.split_once('`'));
            if let Some((name, _)) = blank {
                self.page.blanks.push(name.to_owned());
            }
            self.push(line);
            return Ok(());
        };
        let (kind, text) = comment
            .trim()
            .split_once(':')
            .ok_or("a comment without a kind: write before, after or later")?;
        let condition =
            || Condition::parse(text).ok_or_else(|| format!("{:?} is no condition", text.trim()));
        match kind {
            "before" => self.page.before.push(condition()?),
            "after" => self.page.after.push(condition()?),
            "later" => {}
            other => return Err(format!("a comment {other:?}: write before, after or later")),
        }
        Ok(())
    }

    fn push(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn end_text(&mut self) {
        let text = std::mem::take(&mut self.text);
        if !text.trim().is_empty() {
            let text = format!("{}\n", text.trim_matches('\n'));
            self.page.parts.push(Part::Text(text));
        }
    }

    fn end(mut self) -> Result<Page, String> {
        if !matches!(self.fence, Fence::None) {
            return Err("the last fence does not end".to_owned());
        }
        self.end_text();
        Ok(self.page)
    }
}

/// Reads a line of a console fence. Returns the command before it if the line begins another one.
fn in_console(
    line: &str,
    again: bool,
    command: &mut Option<Command>,
) -> Result<Option<Command>, String> {
    if let Some(text) = line.strip_prefix("$ ") {
        let next = Command {
            text: text.to_owned(),
            output: Vec::new(),
            again,
        };
        return Ok(command.replace(next));
    }
    let command = command
        .as_mut()
        .ok_or("a console fence begins with a command: `$ …`")?;
    match line.strip_prefix("> ") {
        Some(more) if command.output.is_empty() => {
            command.text.push('\n');
            command.text.push_str(more);
        }
        _ => command.output.push(line.to_owned()),
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# Story 4: Where\n\n<!-- before: running appA 1 -->\nIntro.\n\n```console\n$ one \\\n> more\nout <A>\n$ two <A> <B>\n```\n<!-- later: use x -->\n<!-- after: stopped appA -->\n```text\n$ shown\n```\n\n## Write down\n\n| Value | Yours |\n|---|---|\n| `A` | |\n\n```console again\n$ three\n…\n```\n";

    #[test]
    fn a_page_has_texts_commands_conditions_and_blanks() {
        let page = Page::parse(PAGE).unwrap();
        assert_eq!((page.kind, page.title.as_str()), (Kind::Story(4), "Where"));
        let texts: Vec<&str> = page.commands().map(|c| c.text.as_str()).collect();
        assert_eq!(texts, ["one \\\nmore", "two <A> <B>", "three"]);
        let outputs: Vec<usize> = page.commands().map(|c| c.output.len()).collect();
        assert_eq!(outputs, [1, 0, 1]);
        let again: Vec<bool> = page.commands().map(|c| c.again).collect();
        assert_eq!(again, [false, false, true]);
        assert_eq!(page.before, [Condition::parse("running appA 1").unwrap()]);
        assert_eq!(page.after, [Condition::parse("stopped appA").unwrap()]);
        assert_eq!(page.blanks, ["A"]);
        assert_eq!(page.needs().into_iter().collect::<Vec<_>>(), ["B"]);
        assert_eq!(page.shows().into_iter().collect::<Vec<_>>(), ["A"]);
        assert_eq!(page.parts[0], Part::Text("Intro.\n".into()));
        let Part::Text(shown) = &page.parts[3] else {
            panic!("{:?}", page.parts[3]);
        };
        assert!(
            shown.starts_with("```text\n$ shown\n```\n\n## Write down"),
            "{shown}"
        );
    }

    #[test]
    fn what_is_no_page_is_refused_with_its_line() {
        for (text, line) in [
            ("", 1),
            ("# Chapter 1: x", 1),
            ("# Story x: x", 1),
            ("# Story 1: x\n```rust\n```", 2),
            ("# Story 1: x\n```console\nout\n```", 3),
            ("# Story 1: x\n```console\n```", 3),
            ("# Story 1: x\n\n```console\n$ a", 4),
            ("# Story 1: x\n<!-- before: nonsense -->", 2),
            ("# Story 1: x\n<!-- hello -->", 2),
            ("# Story 1: x\n<!-- why: x -->", 2),
        ] {
            let error = Page::parse(text).unwrap_err();
            assert_eq!(error.line, line, "{text:?}: {error}");
        }
    }
}
