//! Records who owns which host, and since when. Every answer is judged by it. It is pure; times are durations since the start.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The time that a change may take to reach the router's requests.
pub(super) const GRACE: Duration = Duration::from_secs(1);
/// The time for which old owners are kept. It is longer than any request is in flight.
const KEPT: Duration = Duration::from_secs(30);

/// The name of an instance; `None` means that the host has no route.
pub(super) type Owner = Option<Arc<str>>;

pub(super) struct Ownership {
    hosts: Vec<History>,
}

/// The owners of a host, the newest at the end. Each holds until the next begins.
struct History(VecDeque<(Duration, Owner)>);

/// The answer that a client received.
#[derive(Debug)]
pub(super) enum Answer {
    /// A well-formed answer from the instance of this name.
    From(String),
    /// A 404 from the router.
    NoRoute,
    /// Any other answer, or none.
    Failed(String),
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::From(name) => write!(f, "answered by {name}"),
            Self::NoRoute => f.write_str("404"),
            Self::Failed(why) => write!(f, "failed: {why}"),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Right,
    /// A failure or a 404 at the time of a change.
    Excused,
    Wrong,
}

impl Ownership {
    pub(super) fn new(hosts: usize) -> Self {
        let unowned = || History([(Duration::ZERO, None)].into());
        Self {
            hosts: (0..hosts).map(|_| unowned()).collect(),
        }
    }

    pub(super) fn owner(&self, host: usize) -> Owner {
        self.hosts[host]
            .0
            .back()
            .and_then(|(_, owner)| owner.clone())
    }

    /// Records a change. Call it before the change is published.
    pub(super) fn change(&mut self, host: usize, now: Duration, owner: Owner) {
        let history = &mut self.hosts[host].0;
        history.push_back((now, owner));
        while history.len() > 1 && history[1].0 + KEPT < now {
            history.pop_front();
        }
    }

    pub(super) fn judge(
        &self,
        host: usize,
        sent: Duration,
        answered: Duration,
        answer: &Answer,
    ) -> Verdict {
        let from = sent.saturating_sub(GRACE);
        let owners = self.hosts[host].between(from, answered);
        let changed = owners.len() > 1;
        match answer {
            Answer::From(name) => {
                if owners.iter().any(|owner| owner.as_deref() == Some(name)) {
                    Verdict::Right
                } else {
                    Verdict::Wrong
                }
            }
            Answer::NoRoute if owners.iter().any(|owner| owner.is_none()) => Verdict::Right,
            _ if changed => Verdict::Excused,
            _ => Verdict::Wrong,
        }
    }
}

impl History {
    /// Returns all who owned the host at some moment of this time.
    fn between(&self, from: Duration, to: Duration) -> Vec<&Owner> {
        let ends = self
            .0
            .iter()
            .skip(1)
            .map(|(start, _)| *start)
            .chain([Duration::MAX]);
        let spans = self.0.iter().zip(ends);
        spans
            .filter(|((start, _), end)| *start <= to && *end >= from)
            .map(|((_, owner), _)| owner)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn answers_are_judged_by_who_owned_the_host() {
        let mut ownership = Ownership::new(1);
        ownership.change(0, seconds(10), Some("a".into()));
        ownership.change(0, seconds(20), Some("b".into()));
        let check = |sent, answered, answer: Answer, want| {
            assert_eq!(
                ownership.judge(0, seconds(sent), seconds(answered), &answer),
                want,
                "{answer:?} at {sent}"
            );
        };
        let from = |name: &str| Answer::From(name.into());
        check(5, 5, Answer::NoRoute, Verdict::Right);
        check(5, 5, from("a"), Verdict::Wrong);
        check(15, 15, from("a"), Verdict::Right);
        check(15, 15, from("b"), Verdict::Wrong);
        check(15, 15, Answer::NoRoute, Verdict::Wrong);
        check(15, 15, Answer::Failed("502".into()), Verdict::Wrong);
        check(19, 20, from("b"), Verdict::Right);
        check(21, 21, from("a"), Verdict::Right);
        check(21, 21, Answer::Failed("502".into()), Verdict::Excused);
        check(23, 23, from("a"), Verdict::Wrong);
    }

    #[test]
    fn old_owners_are_forgotten() {
        let mut ownership = Ownership::new(1);
        for second in 0..200 {
            ownership.change(0, seconds(second), None);
        }
        assert!(ownership.hosts[0].0.len() < 40);
    }
}
