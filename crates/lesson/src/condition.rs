//! A condition states what must be true of the foundation before or after a page. It has a sentence for a person if it is not met.

use std::collections::BTreeMap;

/// The part of the foundation's state that conditions read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The number of running instances by the app's name. An app that is stopped or does not exist has no entry.
    pub running: BTreeMap<String, usize>,
    /// The number of endpoints in the router's table by route.
    pub table: BTreeMap<String, usize>,
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The app has so many running instances.
    Running { app: String, instances: usize },
    /// The app has no running instance.
    Stopped { app: String },
    /// The router's table has so many endpoints for the route.
    Routed { route: String, endpoints: usize },
    /// The router's table does not have the route.
    Unrouted { route: String },
}

impl Condition {
    /// Reads a condition as a page writes it: `running appA 1`, `stopped appB`, `routed appa.cupola.test 1`, `unrouted …`.
    pub fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split_whitespace().collect();
        Some(match *words.as_slice() {
            ["running", app, instances] => Self::Running {
                app: app.to_owned(),
                instances: instances.parse().ok()?,
            },
            ["stopped", app] => Self::Stopped {
                app: app.to_owned(),
            },
            ["routed", route, endpoints] => Self::Routed {
                route: route.to_owned(),
                endpoints: endpoints.parse().ok()?,
            },
            ["unrouted", route] => Self::Unrouted {
                route: route.to_owned(),
            },
            _ => return None,
        })
    }

    /// Returns a sentence about what is missing, or nothing if the condition is met.
    pub fn missing(&self, state: &State) -> Option<String> {
        let running = |app: &str| state.running.get(app).copied().unwrap_or_default();
        let endpoints = |route: &str| state.table.get(route).copied().unwrap_or_default();
        match self {
            Self::Running { app, instances } => {
                let now = running(app);
                (now != *instances).then(|| match (now, *instances) {
                    (0, _) => format!(
                        "The app {app} does not run. `cupola cf apps` shows whether it exists: if it does, type `cupola cf start {app}`; if not, go back to story 1, which pushes it."
                    ),
                    (_, wanted) => format!(
                        "The app {app} has {now} running instances and this page needs {wanted}. Type `cupola cf scale {app} -i {wanted}`."
                    ),
                })
            }
            Self::Stopped { app } => (running(app) > 0)
                .then(|| format!("The app {app} still runs. Type `cupola cf stop {app}`.")),
            Self::Routed {
                route,
                endpoints: wanted,
            } => {
                let now = endpoints(route);
                (now != *wanted).then(|| {
                    format!(
                        "The router knows {now} instances for the route {route} and this page needs {wanted}. `cupola routes` prints the router's table, `cupola cf routes` what was mapped."
                    )
                })
            }
            Self::Unrouted { route } => (endpoints(route) > 0).then(|| {
                format!("The router still has the route {route}. `cupola routes` prints its table.")
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(condition: &str) -> Option<String> {
        let state = State {
            running: [("appA".to_owned(), 2)].into(),
            table: [("a.test".to_owned(), 1)].into(),
        };
        Condition::parse(condition).unwrap().missing(&state)
    }

    #[test]
    fn a_condition_that_is_met_has_nothing_to_say() {
        for met in [
            "running appA 2",
            "stopped appB",
            "routed a.test 1",
            "unrouted b.test",
        ] {
            assert_eq!(missing(met), None, "{met}");
        }
    }

    #[test]
    fn a_condition_that_is_not_met_names_the_next_command() {
        for (condition, command) in [
            ("running appA 1", "cf scale appA -i 1"),
            ("running appB 1", "cf start appB"),
            ("stopped appA", "cf stop appA"),
            ("routed a.test 2", "cupola routes"),
            ("unrouted a.test", "cupola routes"),
        ] {
            let text = missing(condition).unwrap();
            assert!(text.contains(command), "{condition}: {text}");
        }
    }

    #[test]
    fn other_texts_are_no_conditions() {
        for text in [
            "",
            "running appA",
            "running appA x",
            "stopped",
            "flying appA 1",
        ] {
            assert_eq!(Condition::parse(text), None, "{text}");
        }
    }
}
