//! Compares a list that was fetched from another component with what is known here.
//!
//! A list is old when it arrives: things that began or changed while it was fetched are not in it. A [`Listing`] remembers when
//! the fetch began, and [`Listing::covers`] returns whether the list decides about a thing. The caller passes the [`Moment`] at
//! which the thing became what it is now.
//!
//! ```text
//!   made (moment 4) ── fetch begins (5) ── list arrives ── compared     the list must contain it: its absence counts
//!   fetch begins (5) ── made (moment 6) ── list arrives ── compared     the list cannot contain it: leave it alone
//! ```

use std::sync::atomic::{AtomicU64, Ordering};

/// A clock that numbers the changes of one table.
#[derive(Debug, Default)]
pub struct Clock(AtomicU64);

/// A point in the order of changes of one [`Clock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Clock {
    /// Returns the moment of a change that is made now.
    pub fn tick(&self) -> Moment {
        Moment(self.0.fetch_add(1, Ordering::SeqCst) + 1)
    }

    fn now(&self) -> Moment {
        Moment(self.0.load(Ordering::SeqCst))
    }
}

/// A list, with the moment before it was requested.
#[derive(Debug)]
pub struct Listing<T> {
    begun: Moment,
    listed: T,
}

impl<T> Listing<T> {
    /// Fetches the list. It records the moment before it calls `list`.
    pub async fn fetch<E, F: Future<Output = Result<T, E>>>(
        clock: &Clock,
        list: impl FnOnce() -> F,
    ) -> Result<Self, E> {
        let begun = clock.now();
        Ok(Self {
            begun,
            listed: list().await?,
        })
    }

    /// Returns the list itself. Ask [`Self::covers`] before acting on something that is missing in it.
    pub fn listed(&self) -> &T {
        &self.listed
    }

    /// Returns whether a thing that has been unchanged since `since` must appear in the list in its present state.
    pub fn covers(&self, since: Moment) -> bool {
        since <= self.begun
    }

    /// Converts the list to another form.
    pub fn map<U>(self, form: impl FnOnce(T) -> U) -> Listing<U> {
        Listing {
            begun: self.begun,
            listed: form(self.listed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_what_was_before_the_fetch_is_covered() {
        let clock = Clock::default();
        let before = clock.tick();
        let mut during = None;
        let listing = Listing::fetch(&clock, async || {
            during = Some(clock.tick());
            Ok::<_, ()>(vec!["a"])
        })
        .await
        .unwrap();
        let after = clock.tick();
        assert!(listing.covers(before));
        assert!(!listing.covers(during.unwrap()) && !listing.covers(after));
        assert_eq!(listing.map(|list| list.len()).listed(), &1);
    }
}
