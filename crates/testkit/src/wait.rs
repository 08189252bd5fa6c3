//! Waits for what a test expects. Every wait has the same bound, and its panic says what was awaited.
//!
//! | The test has | It calls |
//! |---|---|
//! | a check that awaits something, such as a request | [`wait_for`] |
//! | a check that awaits nothing, in an async test | [`until`] |
//! | a check in a test without a runtime | [`block_until`] |
//! | a future that ends by itself, such as the next message | [`within`] |
//!
//! A bound that is itself the promise under test (a stop is prompt, nothing arrives before the next sync) is no wait of this kind:
//! such a test names its own bound and the reason.

use std::fmt::Display;
use std::future::Future;
use std::time::{Duration, Instant};

/// The longest wait. Nothing takes that long on purpose, but a busy machine may stand still for seconds.
pub const BOUND: Duration = Duration::from_secs(60);

/// The shortest and the longest pause between two checks.
const PAUSES: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(50));

/// The outcome of a check.
///
/// `true`, `Some` and `Ok` end the wait. The last `Err` becomes a part of the panic's text, so a check returns one when the state that
/// it saw explains the failure.
pub trait Outcome {
    /// The value with which the wait ends.
    type Value;

    /// Returns the value, or what the check saw instead.
    ///
    /// # Errors
    /// It fails while the condition does not hold.
    fn outcome(self) -> Result<Self::Value, Option<String>>;
}

impl Outcome for bool {
    type Value = ();

    fn outcome(self) -> Result<(), Option<String>> {
        self.then_some(()).ok_or(None)
    }
}

impl<T> Outcome for Option<T> {
    type Value = T;

    fn outcome(self) -> Result<T, Option<String>> {
        self.ok_or(None)
    }
}

impl<T, E: Display> Outcome for Result<T, E> {
    type Value = T;

    fn outcome(self) -> Result<T, Option<String>> {
        self.map_err(|seen| Some(format!("{seen:#}")))
    }
}

/// Repeats `check` until it holds, and returns its value. `what` completes the sentence "waited in vain for …".
///
/// # Panics
/// It panics after [`BOUND`], also if one check does not end.
pub async fn wait_for<O: Outcome>(what: &str, check: impl AsyncFnMut() -> O) -> O::Value {
    wait_at_most(BOUND, what, check).await
}

async fn wait_at_most<O: Outcome>(
    bound: Duration,
    what: &str,
    mut check: impl AsyncFnMut() -> O,
) -> O::Value {
    let mut seen = None;
    let checks = async {
        let started = Instant::now();
        loop {
            match check().await.outcome() {
                Ok(value) => return value,
                Err(instead) => seen = instead,
            }
            tokio::time::sleep(pause(started)).await;
        }
    };
    let ended = tokio::time::timeout(bound, checks).await;
    match ended {
        Ok(value) => value,
        Err(_) => in_vain(bound, what, seen),
    }
}

/// Repeats a `check` that awaits nothing until it holds, and returns its value. `what` completes the sentence "waited in vain for
/// …".
///
/// # Panics
/// It panics after [`BOUND`].
pub async fn until<O: Outcome>(what: &str, mut check: impl FnMut() -> O) -> O::Value {
    let started = Instant::now();
    loop {
        match attempt(what, started, &mut check) {
            Ok(value) => return value,
            Err(pause) => tokio::time::sleep(pause).await,
        }
    }
}

/// Repeats `check` on this thread until it holds, and returns its value. `what` completes the sentence "waited in vain for …".
///
/// # Panics
/// It panics after [`BOUND`].
#[track_caller]
pub fn block_until<O: Outcome>(what: &str, mut check: impl FnMut() -> O) -> O::Value {
    let started = Instant::now();
    loop {
        match attempt(what, started, &mut check) {
            Ok(value) => return value,
            Err(pause) => std::thread::sleep(pause),
        }
    }
}

/// Checks once. Returns the value, or the pause before the next check.
#[track_caller]
fn attempt<O: Outcome>(
    what: &str,
    started: Instant,
    check: &mut impl FnMut() -> O,
) -> Result<O::Value, Duration> {
    let seen = match check().outcome() {
        Ok(value) => return Ok(value),
        Err(seen) => seen,
    };
    if started.elapsed() > BOUND {
        in_vain(BOUND, what, seen);
    }
    Err(pause(started))
}

/// Awaits a future that ends by itself. `what` completes the sentence "waited in vain for …".
///
/// # Panics
/// It panics after [`BOUND`].
pub async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(BOUND, future).await {
        Ok(value) => value,
        Err(_) => in_vain(BOUND, what, None),
    }
}

/// Returns the pause before the next check: an eighth of the time that has passed, within [`PAUSES`].
fn pause(started: Instant) -> Duration {
    (started.elapsed() / 8).clamp(PAUSES.0, PAUSES.1)
}

#[track_caller]
fn in_vain(bound: Duration, what: &str, seen: Option<String>) -> ! {
    let seen = seen.map(|seen| format!(": {seen}")).unwrap_or_default();
    panic!("waited in vain for {what} within {bound:?}{seen}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(100);

    #[tokio::test]
    async fn a_check_ends_the_wait_with_its_value() {
        let mut checks = 0;
        let third = wait_for("the third check", async || {
            checks += 1;
            (checks == 3).then_some(checks)
        })
        .await;
        until("the fifth check", || {
            checks += 1;
            checks == 5
        })
        .await;
        assert_eq!((third, checks), (3, 5));
        assert_eq!(block_until("a number", || "7".parse::<u8>()), 7);
        assert_eq!(within("a value", std::future::ready(8)).await, 8);
    }

    #[tokio::test]
    #[should_panic(expected = "waited in vain for a number within 100ms: invalid digit found")]
    async fn the_panic_names_what_was_awaited_and_what_was_seen() {
        wait_at_most(SHORT, "a number", async || "x".parse::<u8>()).await;
    }

    #[tokio::test]
    #[should_panic(expected = "waited in vain for an end within 100ms")]
    async fn a_check_that_does_not_end_is_bounded_too() {
        wait_at_most(SHORT, "an end", async || {
            std::future::pending::<()>().await;
            true
        })
        .await;
    }
}
