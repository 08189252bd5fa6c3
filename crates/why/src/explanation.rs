//! The output of [`crate::explain`]: hops with verdicts, and the hop that is to blame.

use crate::component::Component;
use serde::Serialize;

/// The way of one URL through all components.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    pub url: String,
    /// Whether the route is right: no hop is wrong, unread or waiting.
    pub is_right: bool,
    /// The position in `hops` of the first hop that is wrong. Without a wrong one, it is the first that could not be read, and
    /// without such a one the first that waits.
    pub guilty: Option<usize>,
    /// The hops, in the order in which a route becomes reachable.
    pub hops: Vec<Hop>,
    /// The last failing requests, newest first.
    pub failures: Vec<Failure>,
}

impl Explanation {
    /// Returns the hop that is to blame.
    pub fn guilty_hop(&self) -> Option<&Hop> {
        self.hops.get(self.guilty?)
    }
}

/// One hop.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Hop {
    pub component: Component,
    /// The name of the value within its component, such as `listener` or `table`.
    pub part: &'static str,
    /// The app, instance, cell or router that the hop belongs to; empty if there is only one.
    pub subject: String,
    /// The value that the component shows.
    pub found: String,
    /// The age of that value in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age: Option<f64>,
    /// The number of the last change of the route that the hop has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// The time from the commit of that change until the hop had it, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_ms: Option<f64>,
    #[serde(flatten)]
    pub verdict: Verdict,
}

impl Hop {
    pub(crate) fn new(
        (component, part): (Component, &'static str),
        subject: &str,
        found: impl Into<String>,
        verdict: Verdict,
    ) -> Self {
        Self {
            component,
            part,
            subject: subject.to_owned(),
            found: found.into(),
            age: None,
            generation: None,
            after_ms: None,
            verdict,
        }
    }
}

/// The judgement about a hop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    Right,
    /// The hop shows something that breaks the route.
    Wrong(Advice),
    /// The hop is on its way to what it should show.
    Waits(Advice),
    /// The component could not be read.
    Unread(Advice),
}

/// A sentence for the reason and one for the remedy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Advice {
    pub reason: String,
    pub remedy: String,
}

impl Advice {
    pub(crate) fn new(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            remedy: remedy.into(),
        }
    }
}

impl Verdict {
    pub(crate) fn wrong(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Wrong(Advice::new(reason, remedy))
    }

    pub(crate) fn waits(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Waits(Advice::new(reason, remedy))
    }

    pub(crate) fn unread(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Unread(Advice::new(reason, remedy))
    }

    /// Returns the reason and the remedy, unless the hop is right.
    pub fn advice(&self) -> Option<&Advice> {
        match self {
            Self::Right => None,
            Self::Wrong(advice) | Self::Waits(advice) | Self::Unread(advice) => Some(advice),
        }
    }
}

/// A request that failed, and the reason.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Failure {
    pub router: String,
    /// The age in seconds.
    pub age: f64,
    pub status: u16,
    /// The value of `X-Cf-RouterError`.
    pub error: String,
    pub request_id: String,
    pub path: String,
    pub endpoint: String,
    /// The component that the status and the error point to.
    pub component: Component,
    #[serde(flatten)]
    pub advice: Advice,
}
