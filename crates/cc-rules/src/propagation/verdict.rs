//! The verdict about a change of a route, and the sentence that says it.

use super::{Change, Wish};
use wire::router::receipts::{AppliedChange, ServedProcess};

/// The state of a change over all routers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Every router that confirms serves the route as it is wanted.
    Live,
    /// No router that confirms serves the route any more, and none should.
    Gone,
    /// A router has not confirmed the change yet.
    Pending,
    /// There are routers, but none of them confirms.
    Unconfirmed,
    /// No router is known.
    Unknown,
}

/// The state of a change at one router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouterState {
    Live,
    Gone,
    Pending,
    /// The router does not confirm, as an original one.
    Unconfirmed,
    /// The router does not answer any more.
    Silent,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Gone => "gone",
            Self::Pending => "pending",
            Self::Unconfirmed => "unconfirmed",
            Self::Unknown => "unknown",
        }
    }

    /// Returns whether waiting longer changes nothing.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Live | Self::Gone | Self::Unconfirmed)
    }
}

impl RouterState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Gone => "gone",
            Self::Pending => "pending",
            Self::Unconfirmed => "unconfirmed",
            Self::Silent => "silent",
        }
    }
}

/// A router's part of a verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterVerdict {
    pub id: String,
    pub hosts: Vec<String>,
    pub state: RouterState,
    pub processes: Vec<ServedProcess>,
    /// The time at which the Cloud Controller received the receipt, in Unix nanoseconds.
    pub confirmed_at_ns: Option<u64>,
    /// The time from the commit of the change to that receipt.
    pub after_ns: Option<u64>,
    /// The last change that the router confirmed by itself.
    pub applied: Option<AppliedChange>,
    /// The things that are missing, one sentence each.
    pub missing: Vec<String>,
}

/// The verdict about the last change of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub state: State,
    /// Whether the route should be served at all.
    pub is_wanted: bool,
    /// The change, if this Cloud Controller made it a short while ago.
    pub change: Option<Change>,
    pub routers: Vec<RouterVerdict>,
}

impl Verdict {
    pub(super) fn new(wish: &Wish, change: Option<Change>, routers: Vec<RouterVerdict>) -> Self {
        let is_wanted = !wish.processes.is_empty();
        let any = |state: RouterState| routers.iter().any(|router| router.state == state);
        let state = if any(RouterState::Pending) {
            State::Pending
        } else if any(RouterState::Live) {
            State::Live
        } else if any(RouterState::Gone) {
            State::Gone
        } else if any(RouterState::Unconfirmed) {
            State::Unconfirmed
        } else {
            State::Unknown
        };
        Self {
            state,
            is_wanted,
            change,
            routers,
        }
    }

    /// Returns the time from the commit to the last router's receipt, if all that confirm have sent theirs.
    pub fn after_ns(&self) -> Option<u64> {
        if !matches!(self.state, State::Live | State::Gone) {
            return None;
        }
        let done =
            |router: &&RouterVerdict| matches!(router.state, RouterState::Live | RouterState::Gone);
        let times = self.routers.iter().filter(done).map(|r| r.after_ns);
        times.collect::<Option<Vec<_>>>()?.into_iter().max()
    }

    /// Returns the verdict as a sentence without a dot: `live on 2/2 routers after 6 ms`.
    pub fn summary(&self) -> String {
        let count = |state: RouterState| self.routers.iter().filter(|r| r.state == state).count();
        let (done, verb) = if self.is_wanted {
            (count(RouterState::Live), "live on")
        } else {
            (count(RouterState::Gone), "gone from")
        };
        let (silent, mute) = (count(RouterState::Silent), count(RouterState::Unconfirmed));
        let confirming = self.routers.len() - mute - silent;
        let mut text = match self.state {
            State::Unknown => "no router is known".to_owned(),
            State::Unconfirmed => format!("sent to {}", routers(mute)),
            _ => format!("{verb} {done}/{}", routers(confirming)),
        };
        if let Some(after) = self.after_ns() {
            text.push_str(&format!(" after {}", milliseconds(after)));
        }
        if mute > 0 {
            let verb = if mute == 1 { "does" } else { "do" };
            text.push_str(&format!("; {} {verb} not confirm", routers(mute)));
        }
        if silent > 0 {
            let verb = if silent == 1 { "does" } else { "do" };
            text.push_str(&format!("; {} {verb} not answer", routers(silent)));
        }
        let waiting = self.routers.iter().find(|r| !r.missing.is_empty());
        if let Some((router, missing)) = waiting.and_then(|r| r.missing.first().map(|m| (r, m))) {
            text.push_str(&format!("; router {}: {missing}", router.id));
        }
        text
    }
}

fn routers(count: usize) -> String {
    match count {
        1 => "1 router".to_owned(),
        count => format!("{count} routers"),
    }
}

/// Formats a time: one digit behind the point below 10 ms, none above.
fn milliseconds(ns: u64) -> String {
    let ms = ns as f64 / 1e6;
    if ms < 10.0 {
        format!("{ms:.1} ms")
    } else {
        format!("{ms:.0} ms")
    }
}
