//! Comparing a list that was fetched elsewhere with what is known here.
//!
//! A list is old when it arrives: what began or changed while it was fetched is not in it. A [`Listing`] remembers when the
//! fetch began, and [`Listing::covers`] says whether it may judge something at all. Whoever compares asks with the
//! [`Moment`] at which the thing became what it is now.
//!
//! ```text
//!   made (moment 4) ── fetch begins (5) ── list answered ── compared     the list must contain it: judge
//!   fetch begins (5) ── made (moment 6) ── list answered ── compared     the list cannot know it: leave it alone
//! ```

use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers the changes of one table.
#[derive(Debug, Default)]
pub struct Clock(AtomicU64);

/// A point in the order of changes of one [`Clock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Clock {
    /// The moment of a change that is made now.
    pub fn tick(&self) -> Moment {
        Moment(self.0.fetch_add(1, Ordering::SeqCst) + 1)
    }

    fn now(&self) -> Moment {
        Moment(self.0.load(Ordering::SeqCst))
    }
}

/// A list, and the moment before it was asked for.
#[derive(Debug)]
pub struct Listing<T> {
    begun: Moment,
    listed: T,
}

impl<T> Listing<T> {
    /// Fetches the list. The moment is taken before `list` is called.
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

    /// The list itself. What is missing in it must be judged by [`Self::covers`].
    pub fn listed(&self) -> &T {
        &self.listed
    }

    /// Whether something that has been as it is since `since` must show in the list as it is.
    pub fn covers(&self, since: Moment) -> bool {
        since <= self.begun
    }

    /// The same listing in another form.
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
