//! Judges the answers to the requests for a route: whether the change has arrived, and whether an answer is wrong (pure).

use serde::Serialize;

/// The header with which a simulated app names itself.
pub(crate) const MARK: &str = "x-route-timing-app";

/// The app to which a route leads, and how its answers are recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A simulated app names its number in a header.
    Simulated(usize),
    /// A real app answers anything, or a text that contains this one.
    App { expected: Option<String> },
}

/// An answer, as far as it concerns the route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Owner,
    /// The answer of another app, with what it showed.
    OtherApp(String),
    /// The router does not know the route, or it has no endpoint.
    NoRoute(String),
    /// Any other answer of the router, or none.
    Error(String),
}

/// The parts of a response that are read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Response<'a> {
    pub(crate) status: u16,
    /// The header `X-Cf-RouterError`, which only answers of a router have.
    pub(crate) router_error: Option<&'a str>,
    /// The header [`MARK`].
    pub(crate) mark: Option<&'a str>,
    pub(crate) body: &'a [u8],
}

impl Owner {
    /// Reads a response to a request for a route of this owner.
    pub(crate) fn read(&self, response: Response<'_>) -> Answer {
        let Response {
            status,
            router_error,
            mark,
            body,
        } = response;
        match (router_error, self) {
            // A router may answer with 503 for some time after the last endpoint has gone.
            (Some(error @ ("unknown_route" | "no_endpoints")), _) => {
                Answer::NoRoute(format!("{status} by the router ({error})"))
            }
            (Some(error), _) => Answer::Error(format!("{status} by the router ({error})")),
            (None, Self::Simulated(app)) => match mark {
                Some(mark) if *mark == app.to_string() => Answer::Owner,
                Some(mark) => Answer::OtherApp(format!("{status} by simulated app {mark}")),
                None => Answer::OtherApp(format!("{status} by an app that is not simulated")),
            },
            (None, Self::App { expected }) => {
                let text = String::from_utf8_lossy(body);
                match expected {
                    Some(expected) if !text.contains(expected) => {
                        Answer::OtherApp(format!("{status} without {expected:?}"))
                    }
                    _ => Answer::Owner,
                }
            }
        }
    }
}

/// The state that a change leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    Serving,
    Gone,
}

/// The wrong answers of a measurement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Mistakes {
    /// Answers of another app than the route's owner.
    pub other_app: u64,
    /// Answers that there is no route, after the route was served.
    pub lost: u64,
    /// Answers of the owner, after the route was gone.
    pub back: u64,
    /// Other answers of a router (502, 503 and such), and requests without one.
    pub errors: u64,
    /// The first of them, with its host.
    pub first: Option<String>,
}

impl Mistakes {
    pub fn total(&self) -> u64 {
        self.other_app + self.lost + self.back + self.errors
    }

    /// Adds the mistakes of one observation.
    pub(crate) fn add(&mut self, other: Self) {
        self.other_app += other.other_app;
        self.lost += other.lost;
        self.back += other.back;
        self.errors += other.errors;
        self.first = self.first.take().or(other.first);
    }
}

/// Judges the answers of one observation in their order.
#[derive(Debug)]
pub(crate) struct Judge {
    host: String,
    goal: Goal,
    is_reached: bool,
    mistakes: Mistakes,
}

impl Judge {
    pub(crate) fn new(host: &str, goal: Goal) -> Self {
        Self {
            host: host.to_owned(),
            goal,
            is_reached: false,
            mistakes: Mistakes::default(),
        }
    }

    /// Returns whether the goal is reached with this answer or was reached before.
    pub(crate) fn judge(&mut self, answer: &Answer) -> bool {
        let host = &self.host;
        let mut wrong = |what: &str, seen: &str| {
            let first = &mut self.mistakes.first;
            first.get_or_insert_with(|| format!("{host}: {what}: {seen}"));
        };
        match (answer, self.goal) {
            (Answer::Owner, Goal::Serving) | (Answer::NoRoute(_), Goal::Gone) => {
                self.is_reached = true;
            }
            (Answer::NoRoute(seen), Goal::Serving) if self.is_reached => {
                wrong("no route after it was served", seen);
                self.mistakes.lost += 1;
            }
            (Answer::Owner, Goal::Gone) if self.is_reached => {
                wrong("served after it was gone", "the app");
                self.mistakes.back += 1;
            }
            (Answer::NoRoute(_), Goal::Serving) | (Answer::Owner, Goal::Gone) => {}
            (Answer::OtherApp(seen), _) => {
                wrong("another app answered", seen);
                self.mistakes.other_app += 1;
            }
            (Answer::Error(seen), _) => {
                wrong("an error", seen);
                self.mistakes.errors += 1;
            }
        }
        self.is_reached
    }

    pub(crate) fn mistakes(self) -> Mistakes {
        self.mistakes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, router_error: Option<&'static str>) -> Response<'static> {
        Response {
            status,
            router_error,
            mark: None,
            body: b"hello from app",
        }
    }

    #[test]
    fn answers_are_read_by_the_routers_header_and_the_apps_mark() {
        let app = Owner::App { expected: None };
        assert_eq!(app.read(response(500, None)), Answer::Owner);
        assert_eq!(app.read(response(404, None)), Answer::Owner);
        let unknown = app.read(response(404, Some("unknown_route")));
        assert!(matches!(unknown, Answer::NoRoute(_)), "{unknown:?}");
        let empty = app.read(response(503, Some("no_endpoints")));
        assert!(matches!(empty, Answer::NoRoute(_)), "{empty:?}");
        let failed = app.read(response(502, Some("endpoint_failure")));
        assert_eq!(
            failed,
            Answer::Error("502 by the router (endpoint_failure)".into())
        );
        let expecting = |text: &str| Owner::App {
            expected: Some(text.to_owned()),
        };
        assert_eq!(
            expecting("from app").read(response(200, None)),
            Answer::Owner
        );
        let other = expecting("from me").read(response(200, None));
        assert!(matches!(other, Answer::OtherApp(_)), "{other:?}");
        let marked = |mark| Response {
            mark: Some(mark),
            ..response(200, None)
        };
        assert_eq!(Owner::Simulated(7).read(marked("7")), Answer::Owner);
        for other in [marked("8"), response(200, None)] {
            let answer = Owner::Simulated(7).read(other);
            assert!(matches!(answer, Answer::OtherApp(_)), "{answer:?}");
        }
    }

    fn judged(goal: Goal, answers: &[Answer]) -> (Vec<bool>, Mistakes) {
        let mut judge = Judge::new("a.test", goal);
        let reached = answers.iter().map(|answer| judge.judge(answer)).collect();
        (reached, judge.mistakes())
    }

    #[test]
    fn a_route_that_comes_and_stays_has_no_mistake() {
        let none = || Answer::NoRoute("404".into());
        let (reached, mistakes) = judged(
            Goal::Serving,
            &[none(), none(), Answer::Owner, Answer::Owner],
        );
        assert_eq!(reached, [false, false, true, true]);
        assert_eq!(mistakes, Mistakes::default());
        let (reached, mistakes) = judged(Goal::Gone, &[Answer::Owner, none(), none()]);
        assert_eq!(reached, [false, true, true]);
        assert_eq!(mistakes.total(), 0);
    }

    #[test]
    fn what_comes_after_the_goal_counts_as_wrong() {
        let none = || Answer::NoRoute("404".into());
        let (_, mistakes) = judged(Goal::Serving, &[none(), Answer::Owner, none()]);
        assert_eq!((mistakes.lost, mistakes.total()), (1, 1));
        let first = mistakes.first.unwrap();
        assert_eq!(first, "a.test: no route after it was served: 404");
        let (_, mistakes) = judged(Goal::Gone, &[none(), Answer::Owner]);
        assert_eq!((mistakes.back, mistakes.total()), (1, 1));
    }

    #[test]
    fn errors_and_other_apps_are_wrong_at_any_time() {
        let (reached, mut mistakes) = judged(
            Goal::Serving,
            &[
                Answer::Error("502".into()),
                Answer::OtherApp("8".into()),
                Answer::Owner,
            ],
        );
        assert_eq!(reached, [false, false, true]);
        assert_eq!((mistakes.errors, mistakes.other_app), (1, 1));
        assert_eq!(mistakes.first.as_deref(), Some("a.test: an error: 502"));
        let (_, more) = judged(Goal::Gone, &[Answer::Error("none".into())]);
        mistakes.add(more);
        assert_eq!((mistakes.errors, mistakes.total()), (2, 3));
        assert_eq!(mistakes.first.as_deref(), Some("a.test: an error: 502"));
    }
}
