//! Leads a person through the pages: prints a page, waits for each command, runs it, compares its output with the page, and explains
//! what is missing.

use super::notebook::Notebook;
use super::{observe, place};
use crate::plan::Plan;
use crate::terminal::{print, print_line};
use anyhow::{Context as _, Result, bail};
use lesson::{Command, Condition, Kind, Page, Part, Values};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// The time limit for one command.
const LIMIT: Duration = Duration::from_secs(300);

/// The person's decision at a prompt.
#[derive(Debug, PartialEq, Eq)]
enum Choice {
    Run(String),
    Skip,
    Stop,
}

/// Walks from a page on; without one, from the page at which the last walk stopped.
pub(super) async fn walk(data: &Path, from: Option<Kind>) -> Result<()> {
    let plan = Plan::read(data)?;
    let pages = lesson::pages(&place(data, &plan)).context("read the pages of the lesson")?;
    let mut notebook = Notebook::read(data)?;
    let first = match from {
        Some(kind) => position(&pages, kind)?,
        None => notebook.next,
    };
    if first >= pages.len() {
        print_line("You have read all pages. `cupola lesson from 0` begins again.");
        return Ok(());
    }
    let mut walker = Walker {
        data,
        plan: &plan,
        values: notebook.values(),
    };
    for (number, page) in pages.iter().enumerate().skip(first) {
        let goes_on = walker.page(page).await?;
        let next = if goes_on { number + 1 } else { number };
        notebook.save(data, next, &walker.values)?;
        if !goes_on || !walker.turns_the_page(&pages, number).await? {
            print_line("`cupola lesson` continues here.");
            return Ok(());
        }
    }
    print_line("This was the last page.");
    Ok(())
}

fn position(pages: &[Page], kind: Kind) -> Result<usize> {
    let found = pages.iter().position(|page| page.kind == kind);
    found.with_context(|| {
        format!("the lesson has no page \"{kind}\": `cupola lesson list` lists all pages")
    })
}

struct Walker<'a> {
    data: &'a Path,
    plan: &'a Plan,
    values: Values,
}

impl Walker<'_> {
    /// Shows one page. Returns false if the person wants to stop.
    async fn page(&mut self, page: &Page) -> Result<bool> {
        print_line(&format!("\n== {}: {}\n", page.kind, page.title));
        self.explain(&page.before, "Before you begin:").await?;
        for part in &page.parts {
            match part {
                Part::Text(text) => print_line(&shown(text)),
                Part::Command(command) => {
                    if !self.command(command).await? {
                        return Ok(false);
                    }
                }
            }
        }
        self.explain(&page.after, "Something is not as this page leaves it:")
            .await?;
        Ok(true)
    }

    async fn explain(&self, conditions: &[Condition], heading: &str) -> Result<()> {
        let missing = observe::missing(self.data, self.plan, conditions).await?;
        if !missing.is_empty() {
            print_line(&format!("! {heading}"));
            for sentence in missing {
                print_line(&format!("! {sentence}"));
            }
            print_line("");
        }
        Ok(())
    }

    /// Asks for one command until its output is as the page shows. Returns false if the person wants to stop.
    async fn command(&mut self, command: &Command) -> Result<bool> {
        if !self.ask_for_values(command).await? {
            return Ok(false);
        }
        let wanted = self.values.fill(&command.text);
        print_line(&format!("    $ {}", wanted.replace('\n', "\n    > ")));
        loop {
            let line =
                read_line("\nType it, or press Enter to run it (s: skip, q: stop) $ ").await?;
            let typed = match choice(line.as_deref(), &wanted) {
                Choice::Run(typed) => typed,
                Choice::Skip => return Ok(true),
                Choice::Stop => return Ok(false),
            };
            let output = run(self.data, &typed).await?;
            print(&output)?;
            match lesson::output::compare(&command.output, &output, &self.values) {
                Ok(found) => {
                    for (name, value) in &found.0 {
                        print_line(&format!("✓ Write down: {name} = {value}"));
                    }
                    self.values.extend(found);
                    print_line("✓ This is what the page shows.\n");
                    return Ok(true);
                }
                Err(difference) => print_line(&advice(command, &difference, &self.values)),
            }
        }
    }

    /// Asks for the values that the command needs and no page has shown. Returns false if the person wants to stop.
    async fn ask_for_values(&mut self, command: &Command) -> Result<bool> {
        let names: Vec<String> = lesson::values::names(&command.text)
            .filter(|name| self.values.get(name).is_none())
            .map(str::to_owned)
            .collect();
        for name in names {
            match read_line(&format!("Your value of {name}: ")).await? {
                Some(value) if !value.is_empty() => self.values.insert(name, value),
                Some(_) => bail!("the command needs a value of {name}; an earlier page shows it"),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    async fn turns_the_page(&self, pages: &[Page], number: usize) -> Result<bool> {
        let Some(next) = pages.get(number + 1) else {
            return Ok(true);
        };
        let question = format!("Press Enter for {}: {} (q: stop) ", next.kind, next.title);
        let line = read_line(&question).await?;
        Ok(line.is_some_and(|line| line != "q"))
    }
}

/// Returns a text of a page without the marks of fences and of bold words.
fn shown(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.starts_with("```"));
    let lines: Vec<&str> = lines.collect();
    lines.join("\n").replace("**", "")
}

fn choice(line: Option<&str>, wanted: &str) -> Choice {
    match line {
        None | Some("q") => Choice::Stop,
        Some("s") => Choice::Skip,
        Some("") => Choice::Run(wanted.to_owned()),
        Some(typed) => Choice::Run(typed.to_owned()),
    }
}

/// Returns the advice for an output that is not the page's.
fn advice(command: &Command, difference: &lesson::output::Difference, values: &Values) -> String {
    let expected = values.fill(&difference.expected);
    let next = if command.again {
        "The foundation may need a moment: press Enter to run it again."
    } else {
        "Compare what you typed with the page. If an earlier page was skipped, `cupola lesson from` its number goes back to it."
    };
    format!(
        "! The page shows a line like this one, which is missing here:\n!     {expected}\n! {next}"
    )
}

/// Reads a line of standard input. Returns nothing at its end.
async fn read_line(prompt: &str) -> Result<Option<String>> {
    print(prompt)?;
    let read = || {
        let mut line = String::new();
        let bytes = std::io::stdin().read_line(&mut line)?;
        anyhow::Ok((bytes > 0).then(|| line.trim().to_owned()))
    };
    tokio::task::spawn_blocking(read).await?
}

/// Runs a command in bash, and returns everything that it prints.
async fn run(data: &Path, text: &str) -> Result<String> {
    let program = std::env::current_exe()?;
    let programs = program.parent().unwrap_or(Path::new("/"));
    let path = std::env::var("PATH").unwrap_or_default();
    let mut bash = tokio::process::Command::new("bash");
    bash.arg("-c")
        .arg(format!("exec 2>&1\n{text}"))
        .env("PATH", format!("{}:{path}", programs.display()))
        .env("CUPOLA_DATA", data)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    if let Some(project) = project(programs) {
        bash.current_dir(project);
    }
    let output = tokio::time::timeout(LIMIT, bash.output())
        .await
        .with_context(|| format!("`{text}` did not end within {} s", LIMIT.as_secs()))?
        .context("start bash")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Returns the project's folder, in which the pages' paths begin, if the program is in its folder `bin`.
fn project(programs: &Path) -> Option<PathBuf> {
    let project = programs.parent()?;
    let has_examples = project.join("examples/proxy").is_dir();
    has_examples.then(|| project.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enter_runs_the_page_s_command() {
        assert_eq!(choice(Some(""), "a"), Choice::Run("a".into()));
        assert_eq!(choice(Some("b"), "a"), Choice::Run("b".into()));
        assert_eq!(choice(Some("s"), "a"), Choice::Skip);
        assert_eq!(choice(Some("q"), "a"), Choice::Stop);
        assert_eq!(choice(None, "a"), Choice::Stop);
    }

    #[test]
    fn fences_are_not_shown() {
        assert_eq!(shown("a **b**\n```text\n$ b\n```\nc\n"), "a b\n$ b\nc");
    }
}
