//! Counters, and maps that hold one value for each value of a label.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A map for labels with few values, which are never removed.
#[derive(Debug)]
pub(crate) struct Labelled<K, T>(RwLock<BTreeMap<K, Arc<T>>>);

impl<K, T> Default for Labelled<K, T> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<K: Ord + Clone, T> Labelled<K, T> {
    /// Uses the value that belongs to the label; `new` makes it when the label comes for the first time.
    pub(crate) fn with<Q, R>(
        &self,
        label: &Q,
        new: impl FnOnce() -> T,
        then: impl FnOnce(&T) -> R,
    ) -> R
    where
        K: Borrow<Q>,
        Q: Ord + ToOwned<Owned = K> + ?Sized,
    {
        if let Some(known) = self.read().get(label) {
            return then(known);
        }
        then(&self.own(label, new))
    }

    /// Returns a reference to that value, for a caller that needs it often.
    pub(crate) fn own<Q>(&self, label: &Q, new: impl FnOnce() -> T) -> Arc<T>
    where
        K: Borrow<Q>,
        Q: Ord + ToOwned<Owned = K> + ?Sized,
    {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.entry(label.to_owned())
            .or_insert_with(|| Arc::new(new()))
            .clone()
    }

    /// Returns all values, in the order of their labels.
    pub(crate) fn all(&self) -> Vec<(K, Arc<T>)> {
        let pairs = self.read();
        pairs.iter().map(|(k, t)| (k.clone(), t.clone())).collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<K, Arc<T>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counters of registrations, by the component that sent the message and by the outcome.
pub(crate) type Outcomes = Labelled<(String, &'static str), Counter>;

impl<K: Ord + Clone> Labelled<K, Counter> {
    pub(crate) fn add<Q>(&self, label: &Q)
    where
        K: Borrow<Q>,
        Q: Ord + ToOwned<Owned = K> + ?Sized,
    {
        self.with(label, Counter::default, |counter| counter.add(1));
    }
}
