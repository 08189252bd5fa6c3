//! `cupola lesson`: shows the pages of `docs/lesson`, runs their commands, checks the state of the foundation, and breaks something
//! on purpose for the exercises.
//!
//! The pages and all comparisons are in the crate `lesson`. [`walk`] leads a person through the pages, [`notebook`] stores how far the
//! person is and the values, [`observe`] reads the foundation, and [`breakage`] breaks and repairs.

mod breakage;
mod notebook;
mod observe;
mod walk;

pub(crate) use breakage::repair_left_over;

use crate::plan::Plan;
use crate::terminal::{print, print_line};
use anyhow::{Context as _, Result};
use clap::Subcommand;
use lesson::{Kind, Page, Part, Place};
use std::path::Path;
use std::str::FromStr;

/// An action besides the walk through the pages.
#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// List all pages
    List,
    /// Walk through the pages from one page on
    From {
        /// The number of a story, or e and the number of an exercise: 4, e1
        page: PageName,
    },
    /// Print a page
    Show {
        /// The number of a story, or e and the number of an exercise: 4, e1
        page: PageName,
    },
    /// Check whether the foundation is in the state that a page begins with
    Check {
        /// The number of a story, or e and the number of an exercise: 4, e1
        page: PageName,
    },
    /// Break something on purpose; it is repaired by `cupola lesson repair`, after half an hour, or when the foundation stops
    Break {
        /// The number of the exercise
        exercise: u8,
    },
    /// Repair what an exercise has broken
    Repair,
    /// Watch over a breakage, and repair it if nobody else does; `break` starts it
    #[command(hide = true)]
    Guard,
}

/// The name of a page on the command line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageName(Kind);

impl FromStr for PageName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, is_exercise) = match text.strip_prefix('e') {
            Some(number) => (number, true),
            None => (text, false),
        };
        let number = number.parse().map_err(|_| {
            format!("{text:?} is no page: write the number of a story (4) or of an exercise (e1)")
        })?;
        Ok(Self(if is_exercise {
            Kind::Exercise(number)
        } else {
            Kind::Story(number)
        }))
    }
}

/// Runs `cupola lesson`.
pub(crate) async fn run(data: &Path, action: Option<Action>) -> Result<()> {
    // Commands of the pages run in another folder.
    let data = &std::path::absolute(data).context("find the data directory")?;
    match action {
        None => walk::walk(data, None).await,
        Some(Action::From { page }) => walk::walk(data, Some(page.0)).await,
        Some(Action::List) => list(&Place::default()),
        Some(Action::Show { page }) => show(&pages(data)?, page.0),
        Some(Action::Check { page }) => check(data, page.0).await,
        Some(Action::Break { exercise }) => breakage::break_on_purpose(data, exercise).await,
        Some(Action::Repair) => breakage::repair(data).await,
        Some(Action::Guard) => breakage::guard(data).await,
    }
}

/// Returns the pages with the names of the foundation in the data directory, or with the default names if there is none yet.
fn pages(data: &Path) -> Result<Vec<Page>> {
    let place = match Plan::exists(data) {
        true => place(data, &Plan::read(data)?),
        false => Place::default(),
    };
    lesson::pages(&place).context("read the pages of the lesson")
}

fn place(data: &Path, plan: &Plan) -> Place {
    Place {
        domain: plan.domain.clone(),
        data: data.display().to_string(),
        http_port: plan.http_port,
        https_port: plan.https_port,
    }
}

fn find(pages: &[Page], kind: Kind) -> Result<&Page> {
    let found = pages.iter().find(|page| page.kind == kind);
    found.with_context(|| {
        format!("the lesson has no page \"{kind}\": `cupola lesson list` lists all pages")
    })
}

fn list(place: &Place) -> Result<()> {
    let pages = lesson::pages(place).context("read the pages of the lesson")?;
    let lines: Vec<String> = pages
        .iter()
        .map(|page| format!("{:<12} {}\n", page.kind.to_string(), page.title))
        .collect();
    print(&lines.concat())
}

fn show(pages: &[Page], kind: Kind) -> Result<()> {
    let page = find(pages, kind)?;
    let mut text = format!("{}: {}\n\n", page.kind, page.title);
    for part in &page.parts {
        match part {
            Part::Text(part) => text.push_str(part),
            Part::Command(command) => {
                text.push_str(&format!(
                    "    $ {}\n",
                    command.text.replace('\n', "\n    > ")
                ));
                for line in &command.output {
                    text.push_str(&format!("    {line}\n"));
                }
            }
        }
        text.push('\n');
    }
    print(&text)
}

async fn check(data: &Path, kind: Kind) -> Result<()> {
    let plan = Plan::read(data)?;
    let pages = pages(data)?;
    let page = find(&pages, kind)?;
    let missing = observe::missing(data, &plan, &page.before).await?;
    anyhow::ensure!(
        missing.is_empty(),
        "{kind} cannot begin yet:\n{}",
        missing.join("\n")
    );
    print_line(&format!(
        "{kind} can begin: the foundation is as it must be."
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_have_short_names() {
        assert_eq!("4".parse::<PageName>().unwrap().0, Kind::Story(4));
        assert_eq!("e1".parse::<PageName>().unwrap().0, Kind::Exercise(1));
        for wrong in ["", "e", "x1", "-1", "300"] {
            assert!(wrong.parse::<PageName>().is_err(), "{wrong}");
        }
    }
}
