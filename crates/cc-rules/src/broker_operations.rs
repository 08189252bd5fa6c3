//! Operations of service brokers: they decide what follows from each answer of a broker, when a broker that works is asked again, and
//! when something must be removed that a failed request may have left at the broker.
//!
//! ```text
//!            send                      accepted
//!  Unsent ─────────▶ Sent ───────────────────────────▶ Accepted ───▶ succeeded
//!                     │ └─ the answer was lost: again      │ └─ in progress: asked again, ever more rarely
//!                     ▼                                    ▼
//!              succeeded, failed                  failed, or out of time
//! ```
//!
//! A stage is stored before its request is sent. So whoever continues after a crash knows that the broker may have the request
//! already, and repeats it: each request names the guid of its instance or binding, and a broker does nothing twice for the same guid.
//!
//! The jobs of the Cloud Controller send the requests and store what is decided here.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The longest pause that a broker can demand.
const LONGEST_DEMANDED: Duration = Duration::from_secs(24 * 3600);

/// The pause before a request is sent again to a broker that is busy with the first one.
const BUSY_PAUSE: Duration = Duration::from_secs(2);

/// The pause after the first failure to remove what was left at a broker. It is doubled after each further failure.
const FIRST_REMOVAL_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_REMOVAL_PAUSE: Duration = Duration::from_secs(3600);

/// A request that changes something at a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    Provision,
    Update,
    Deprovision,
    Bind,
    Unbind,
}

impl Verb {
    /// Returns the word of the verb in texts.
    pub fn word(self) -> &'static str {
        match self {
            Self::Provision => "provision",
            Self::Update => "update",
            Self::Deprovision => "deprovision",
            Self::Bind => "bind",
            Self::Unbind => "unbind",
        }
    }

    /// Returns whether the request makes something that a failure can leave behind.
    fn makes(self) -> bool {
        matches!(self, Self::Provision | Self::Bind)
    }

    /// Returns whether the request removes something.
    pub fn removes(self) -> bool {
        matches!(self, Self::Deprovision | Self::Unbind)
    }
}

/// The stage of an operation, as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The request was not sent.
    #[default]
    Unsent,
    /// The request was sent, or is about to be sent. Its answer is not known.
    Sent,
    /// The broker works. It may have named the operation.
    Accepted {
        operation: Option<String>,
        polls: u32,
    },
}

/// The answer to the request that begins an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Done,
    Accepted {
        operation: Option<String>,
    },
    /// The broker works on the same instance or binding already.
    Busy {
        text: String,
    },
    /// The broker, or a check before the request was sent, refused the request. Nothing was made.
    Refused {
        text: String,
    },
    /// The answer does not show whether the broker did something: it was late or wrong, or the broker failed.
    Unclear {
        text: String,
    },
}

/// The report of a broker on an operation that it has accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    InProgress,
    Succeeded,
    Failed {
        text: String,
    },
    /// The broker does not know the instance or binding any more.
    Gone,
    /// The broker did not report.
    Silent,
}

/// The step that follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Succeed,
    /// The broker is asked for a report after a pause.
    Poll {
        stage: Stage,
        after: Duration,
    },
    /// The request is sent again after a pause.
    Resend {
        after: Duration,
    },
    Fail {
        text: String,
        /// Whether the broker may have something that must be removed.
        leaves_something: bool,
    },
    /// The operation took too long.
    Expire {
        text: String,
        leaves_something: bool,
    },
}

/// The times between two reports, and the longest time of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Polling {
    /// The pause before the first report. Each further pause is longer by half.
    pub first: Duration,
    pub longest: Duration,
    /// The longest time of an operation since its beginning.
    pub patience: Duration,
}

impl Default for Polling {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(60),
            patience: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

impl Polling {
    /// Returns the times for a plan that limits the time of an operation, in seconds.
    pub fn of_plan(self, maximum: Option<i64>) -> Self {
        let maximum = maximum.and_then(|seconds| u64::try_from(seconds).ok());
        let patience = match maximum.map(Duration::from_secs) {
            Some(maximum) if !maximum.is_zero() => maximum.min(self.patience),
            _ => self.patience,
        };
        Self { patience, ..self }
    }

    /// Returns the pause after so many reports. A broker can demand a longer one.
    fn pause(&self, polls: u32, demanded: Option<Duration>) -> Duration {
        let mut own = self.first.min(self.longest);
        for _ in 0..polls.min(64) {
            own = own.saturating_add(own / 2).min(self.longest);
        }
        own.max(demanded.unwrap_or_default().min(LONGEST_DEMANDED))
    }
}

/// Returns the step that follows from the answer to a request. `stage` is the stage before the request was sent, so that [`Stage::Sent`]
/// means that it was sent at least once before.
pub fn after_answer(verb: Verb, stage: &Stage, answer: Answer, polling: &Polling) -> Step {
    let was_sent = *stage != Stage::Unsent;
    let fail = |text, leaves_something| Step::Fail {
        text,
        leaves_something: leaves_something && verb.makes(),
    };
    match answer {
        Answer::Done => Step::Succeed,
        Answer::Accepted { operation } => Step::Poll {
            stage: Stage::Accepted {
                operation,
                polls: 0,
            },
            after: polling.pause(0, None),
        },
        // The broker is busy with the request that was sent before.
        Answer::Busy { .. } if was_sent => Step::Resend { after: BUSY_PAUSE },
        Answer::Busy { text } => fail(text, false),
        Answer::Refused { text } => fail(text, was_sent),
        Answer::Unclear { text } => fail(text, true),
    }
}

/// Returns the step that follows from a report. `elapsed` is the time since the operation began, and `demanded` the pause that the broker
/// demands.
pub fn after_report(
    verb: Verb,
    stage: &Stage,
    report: Report,
    (elapsed, demanded): (Duration, Option<Duration>),
    polling: &Polling,
) -> Step {
    let (operation, polls) = match stage {
        Stage::Accepted { operation, polls } => (operation.clone(), polls.saturating_add(1)),
        Stage::Unsent | Stage::Sent => (None, 0),
    };
    match report {
        Report::Succeeded => return Step::Succeed,
        Report::Gone if verb.removes() => return Step::Succeed,
        // The instance or binding stays, and its owner removes it with what the broker has of it.
        Report::Failed { text } => {
            return Step::Fail {
                text,
                leaves_something: false,
            };
        }
        Report::InProgress | Report::Gone | Report::Silent => {}
    }
    let after = polling.pause(polls, demanded);
    if elapsed.saturating_add(after) > polling.patience {
        return expired(verb);
    }
    let stage = Stage::Accepted { operation, polls };
    Step::Poll { stage, after }
}

/// Returns the end of an operation that took too long.
pub fn expired(verb: Verb) -> Step {
    Step::Expire {
        text: format!(
            "Service Broker failed to {} within the required time.",
            verb.word()
        ),
        leaves_something: verb.makes(),
    }
}

/// Returns the pause after so many failures to remove what was left at a broker.
pub fn removal_pause(failures: u32) -> Duration {
    let doubled = 1_u32.checked_shl(failures).unwrap_or(u32::MAX);
    let pause = FIRST_REMOVAL_PAUSE.saturating_mul(doubled.max(1));
    pause.min(LONGEST_REMOVAL_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLLING: Polling = Polling {
        first: Duration::from_secs(2),
        longest: Duration::from_secs(9),
        patience: Duration::from_secs(100),
    };

    const VERBS: [Verb; 5] = [
        Verb::Provision,
        Verb::Update,
        Verb::Deprovision,
        Verb::Bind,
        Verb::Unbind,
    ];

    fn text() -> String {
        "no".to_owned()
    }

    fn accepted(polls: u32) -> Stage {
        Stage::Accepted {
            operation: Some("op".to_owned()),
            polls,
        }
    }

    #[test]
    fn only_requests_that_make_something_leave_something() {
        for verb in VERBS {
            let makes = matches!(verb, Verb::Provision | Verb::Bind);
            let leaves = |stage: Stage, answer: Answer| {
                let Step::Fail {
                    leaves_something, ..
                } = after_answer(verb, &stage, answer, &POLLING)
                else {
                    panic!("{verb:?} does not fail");
                };
                leaves_something
            };
            let refused = || Answer::Refused { text: text() };
            let unclear = || Answer::Unclear { text: text() };
            let busy = || Answer::Busy { text: text() };
            assert!(!leaves(Stage::Unsent, refused()), "{verb:?}");
            assert!(!leaves(Stage::Unsent, busy()), "{verb:?}");
            assert_eq!(leaves(Stage::Unsent, unclear()), makes, "{verb:?}");
            // The refusal concerns the second request; the first one may have made something.
            assert_eq!(leaves(Stage::Sent, refused()), makes, "{verb:?}");
            assert_eq!(leaves(Stage::Sent, unclear()), makes, "{verb:?}");
        }
    }

    #[test]
    fn a_broker_that_is_busy_with_the_lost_request_is_asked_again() {
        for verb in VERBS {
            let busy = Answer::Busy { text: text() };
            let step = after_answer(verb, &Stage::Sent, busy, &POLLING);
            assert_eq!(step, Step::Resend { after: BUSY_PAUSE }, "{verb:?}");
        }
    }

    #[test]
    fn an_accepted_operation_is_polled_until_it_ends() {
        let answer = Answer::Accepted {
            operation: Some("op".to_owned()),
        };
        let step = after_answer(Verb::Provision, &Stage::Unsent, answer, &POLLING);
        let after = Duration::from_secs(2);
        let stage = accepted(0);
        assert_eq!(step, Step::Poll { stage, after });
        let report = |verb, report| {
            let times = (Duration::from_secs(10), None);
            after_report(verb, &accepted(0), report, times, &POLLING)
        };
        for verb in VERBS {
            assert_eq!(report(verb, Report::Succeeded), Step::Succeed);
            let failed = report(verb, Report::Failed { text: text() });
            let wanted = Step::Fail {
                text: text(),
                leaves_something: false,
            };
            assert_eq!(failed, wanted);
            for open in [Report::InProgress, Report::Silent] {
                let stage = accepted(1);
                let after = Duration::from_secs(3);
                assert_eq!(report(verb, open), Step::Poll { stage, after });
            }
            let is_over = report(verb, Report::Gone) == Step::Succeed;
            assert_eq!(is_over, verb.removes(), "{verb:?}");
        }
    }

    #[test]
    fn pauses_grow_and_a_broker_can_demand_longer_ones() {
        let seconds = |polls, demanded: u64| {
            let demanded = Some(Duration::from_secs(demanded));
            POLLING.pause(polls, demanded).as_secs_f64()
        };
        let own: Vec<f64> = (0..6).map(|polls| seconds(polls, 0)).collect();
        assert_eq!(own, [2.0, 3.0, 4.5, 6.75, 9.0, 9.0]);
        assert_eq!(seconds(0, 1), 2.0);
        assert_eq!(seconds(0, 50), 50.0);
        assert_eq!(seconds(0, 1_000_000), 86_400.0);
        assert_eq!(seconds(u32::MAX, 0), 9.0);
    }

    #[test]
    fn an_operation_that_takes_too_long_expires() {
        let step = |verb, elapsed| {
            let times = (Duration::from_secs(elapsed), None);
            after_report(verb, &accepted(9), Report::InProgress, times, &POLLING)
        };
        assert!(matches!(step(Verb::Provision, 91), Step::Poll { .. }));
        for verb in VERBS {
            let wanted = Step::Expire {
                text: format!(
                    "Service Broker failed to {} within the required time.",
                    verb.word()
                ),
                leaves_something: matches!(verb, Verb::Provision | Verb::Bind),
            };
            assert_eq!(step(verb, 92), wanted);
        }
        let patience = |maximum| POLLING.of_plan(maximum).patience.as_secs();
        assert_eq!(patience(None), 100);
        assert_eq!(patience(Some(10)), 10);
        assert_eq!(patience(Some(1000)), 100);
        assert_eq!((patience(Some(0)), patience(Some(-1))), (100, 100));
    }

    #[test]
    fn removals_are_repeated_ever_more_rarely() {
        let seconds: Vec<u64> = [0, 1, 2, 10, 11, 40, u32::MAX]
            .into_iter()
            .map(|failures| removal_pause(failures).as_secs())
            .collect();
        assert_eq!(seconds, [2, 4, 8, 2048, 3600, 3600, 3600]);
    }

    #[test]
    fn stages_are_stored_and_read() {
        for stage in [Stage::Unsent, Stage::Sent, accepted(3)] {
            let text = serde_json::to_string(&stage).unwrap();
            assert_eq!(serde_json::from_str::<Stage>(&text).unwrap(), stage);
        }
        assert_eq!(serde_json::to_string(&Verb::Unbind).unwrap(), r#""unbind""#);
    }
}
