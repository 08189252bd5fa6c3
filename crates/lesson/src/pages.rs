//! The list of all pages, in the order in which they are read.

use crate::page::{Invalid, Page};
use crate::place::Place;

/// The texts of `docs/lesson`. A story and an exercise each have the number that their position in the list gives them.
const STORIES: &[&str] = &[
    include_str!("../../../docs/lesson/00-a-foundation.md"),
    include_str!("../../../docs/lesson/01-push-two-apps.md"),
    include_str!("../../../docs/lesson/02-one-route-for-two-apps.md"),
    include_str!("../../../docs/lesson/03-what-the-cloud-controller-knows.md"),
    include_str!("../../../docs/lesson/04-where-the-app-runs.md"),
    include_str!("../../../docs/lesson/05-what-should-run.md"),
    include_str!("../../../docs/lesson/06-the-message-bus.md"),
    include_str!("../../../docs/lesson/07-the-routers-table.md"),
    include_str!("../../../docs/lesson/08-nobody-listens.md"),
    include_str!("../../../docs/lesson/09-the-rule-on-the-cell.md"),
    include_str!("../../../docs/lesson/10-the-proxy-in-the-container.md"),
    include_str!("../../../docs/lesson/11-the-access-log.md"),
    include_str!("../../../docs/lesson/12-ask-the-router-directly.md"),
    include_str!("../../../docs/lesson/13-stop-an-app.md"),
    include_str!("../../../docs/lesson/14-the-danger.md"),
    include_str!("../../../docs/lesson/15-route-integrity.md"),
    include_str!("../../../docs/lesson/16-the-certificate.md"),
    include_str!("../../../docs/lesson/17-route-services.md"),
    include_str!("../../../docs/lesson/18-routes-of-other-servers.md"),
];

const EXERCISES: &[&str] = &[
    include_str!("../../../docs/lesson/exercise-1-a-rule-that-points-elsewhere.md"),
    include_str!("../../../docs/lesson/exercise-2-a-lost-message.md"),
    include_str!("../../../docs/lesson/exercise-3-a-closed-port.md"),
    include_str!("../../../docs/lesson/exercise-4-an-expired-certificate.md"),
    include_str!("../../../docs/lesson/exercise-5-a-frozen-envoy.md"),
];

/// Reads all pages, the stories and then the exercises, with the names of a foundation. An error names the line of a page that is
/// not valid.
pub fn pages(place: &Place) -> Result<Vec<Page>, Invalid> {
    texts()
        .map(|text| Page::parse(&place.localise(text)))
        .collect()
}

/// Returns the texts of all pages, as [`pages`] orders them.
pub fn texts() -> impl Iterator<Item = &'static str> {
    STORIES.iter().chain(EXERCISES).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::Kind;
    use std::collections::BTreeSet;

    /// The value that `cupola up` prints, and no command of a page.
    const FROM_UP: &str = "PASSWORD";

    #[test]
    fn every_page_is_valid_and_has_its_number() {
        for text in texts() {
            let first = text.lines().next().unwrap_or_default();
            Page::parse(text).unwrap_or_else(|error| panic!("{first}: {error}"));
        }
        let stories = (0..).map(Kind::Story).take(STORIES.len());
        let exercises = (1..).map(Kind::Exercise).take(EXERCISES.len());
        for (page, kind) in pages(&Place::default())
            .unwrap()
            .iter()
            .zip(stories.chain(exercises))
        {
            assert_eq!(page.kind, kind, "{}", page.title);
        }
    }

    #[test]
    fn every_page_has_a_command_and_shows_output() {
        for page in pages(&Place::default()).unwrap() {
            assert!(page.commands().count() > 0, "{} has no command", page.kind);
            for command in page.commands() {
                let only_any = command.output.iter().all(|line| line.trim() == "…");
                assert!(
                    !only_any || command.output.is_empty(),
                    "{}: the output of `{}` shows nothing that can be compared",
                    page.kind,
                    command.text
                );
            }
        }
    }

    #[test]
    fn a_value_is_written_down_before_it_is_used() {
        let mut known = BTreeSet::from([FROM_UP.to_owned()]);
        for page in pages(&Place::default()).unwrap() {
            for name in page.needs() {
                assert!(
                    known.contains(name),
                    "{} uses <{name}>, which no page shows before",
                    page.kind
                );
            }
            for blank in &page.blanks {
                let is_shown = page.shows().contains(blank.as_str()) || blank == FROM_UP;
                assert!(
                    is_shown,
                    "{} asks to write {blank} down, and shows it nowhere",
                    page.kind
                );
            }
            for name in page.shows() {
                let is_new = known.insert(name.to_owned());
                assert!(
                    !is_new || page.blanks.iter().any(|blank| blank == name),
                    "{} shows <{name}> for the first time: give it a row below `## Write down`",
                    page.kind
                );
            }
        }
    }
}
