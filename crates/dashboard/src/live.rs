//! The picture that the tasks of this process share, and the notice that it changed.

use crate::picture::Picture;
use crate::picture::step::Micros;
use crate::picture::verdict::{self, Route};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// The time for which the list of routes is kept. All readers share it, because it is made from everything.
const FRESH: Duration = Duration::from_millis(500);

/// The handle of the picture; it is cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Live(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    picture: Mutex<Picture>,
    /// The revision of the trains. Streams wait for a higher one.
    news: watch::Sender<u64>,
    routes: Mutex<Option<(Instant, Arc<Vec<Route>>)>>,
    /// The number of pages that follow the picture.
    watchers: AtomicUsize,
}

impl Live {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Shared {
            picture: Mutex::default(),
            news: watch::Sender::new(0),
            routes: Mutex::default(),
            watchers: AtomicUsize::new(0),
        }))
    }

    /// Changes the picture, and wakes those who follow it if a train changed.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Picture) -> T) -> T {
        let mut picture = self.picture();
        let changed = change(&mut picture);
        let revision = picture.trains.revision();
        drop(picture);
        self.0.news.send_if_modified(|last| {
            let is_newer = revision > *last;
            *last = revision.max(*last);
            is_newer
        });
        changed
    }

    /// Reads the picture. The function must be short, because everything waits for it.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Picture) -> T) -> T {
        read(&self.picture())
    }

    /// Records whether a component can be followed.
    pub(crate) fn source(&self, name: &str, problem: Option<String>) {
        let now = now();
        self.change(|picture| picture.model.set_source(name, problem, now));
    }

    /// Returns all routes with their states.
    pub(crate) fn routes(&self) -> Arc<Vec<Route>> {
        let kept = self.0.routes.lock();
        let mut kept = kept.unwrap_or_else(PoisonError::into_inner);
        if let Some((made, routes)) = &*kept
            && made.elapsed() < FRESH
        {
            return routes.clone();
        }
        let routes = Arc::new(self.read(|picture| verdict::routes(&picture.model, now())));
        *kept = Some((Instant::now(), routes.clone()));
        routes
    }

    pub(crate) fn news(&self) -> watch::Receiver<u64> {
        self.0.news.subscribe()
    }

    /// Counts a page that follows the picture, until the guard is dropped.
    pub(crate) fn watch(&self) -> Watcher {
        self.0.watchers.fetch_add(1, Ordering::Relaxed);
        Watcher(self.clone())
    }

    pub(crate) fn watchers(&self) -> usize {
        self.0.watchers.load(Ordering::Relaxed)
    }

    fn picture(&self) -> MutexGuard<'_, Picture> {
        let picture = self.0.picture.lock();
        picture.unwrap_or_else(PoisonError::into_inner)
    }
}

/// A page that follows the picture.
#[derive(Debug)]
pub(crate) struct Watcher(Live);

impl Drop for Watcher {
    fn drop(&mut self) {
        self.0.0.watchers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Returns the time in microseconds since 1970.
pub(crate) fn now() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    })
}
