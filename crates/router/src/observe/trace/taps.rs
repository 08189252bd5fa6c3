//! Taps: operators' streams of the next requests to a host. While none is open, a request costs one relaxed load here.
//!
//! Everything is bounded: the number of taps, the requests of each, and the requests that wait for a reader. A reader that is too slow
//! misses requests and learns how many.

use route_table::registry::request_host;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::sync::mpsc;
use wire::router::RequestTrace;

/// The number of taps at a time.
pub(super) const MOST_TAPS: usize = 8;
/// The number of requests of one tap that wait for its reader.
const QUEUED: usize = 256;

/// The open taps of a router.
#[derive(Debug, Default)]
pub(crate) struct Taps {
    /// The number of open taps, for a look without the lock.
    open: AtomicUsize,
    list: RwLock<Vec<Tap>>,
    /// The number of taps that were ever opened.
    opened: AtomicU64,
}

#[derive(Debug)]
struct Tap {
    number: u64,
    /// The host in lower case and without its port.
    host: String,
    /// The number of requests that it still shows.
    left: u64,
    reader: mpsc::Sender<Arc<RequestTrace>>,
    missed: Arc<AtomicU64>,
}

/// The reader's end of a tap. The tap is closed when it is dropped.
#[derive(Debug)]
pub(super) struct Reader {
    taps: Arc<Taps>,
    number: u64,
    requests: mpsc::Receiver<Arc<RequestTrace>>,
    missed: Arc<AtomicU64>,
}

impl Taps {
    /// Opens a tap of the next `limit` requests to a host; `None`: too many are open.
    pub(super) fn open(self: &Arc<Self>, host: &str, limit: u64) -> Option<Reader> {
        let (reader, requests) = mpsc::channel(QUEUED);
        let missed = Arc::<AtomicU64>::default();
        let number = self.opened.fetch_add(1, Ordering::Relaxed);
        let mut list = self.write();
        if list.len() >= MOST_TAPS {
            return None;
        }
        list.push(Tap {
            number,
            host: request_host(host).to_ascii_lowercase(),
            left: limit,
            reader,
            missed: missed.clone(),
        });
        self.open.store(list.len(), Ordering::Relaxed);
        drop(list);
        Some(Reader {
            taps: self.clone(),
            number,
            requests,
            missed,
        })
    }

    /// Returns whether any tap is open.
    pub(super) fn any(&self) -> bool {
        self.open.load(Ordering::Relaxed) > 0
    }

    /// Returns whether a tap shows the requests to this host.
    pub(super) fn want(&self, host: &str) -> bool {
        let host = request_host(host);
        self.read().iter().any(|tap| tap.is_of(host))
    }

    /// Shows a request to the taps of its host.
    pub(super) fn show(&self, host: &str, trace: &Arc<RequestTrace>) {
        let host = request_host(host);
        let mut list = self.write();
        for tap in list.iter_mut().filter(|tap| tap.is_of(host)) {
            match tap.reader.try_send(trace.clone()) {
                Ok(()) => tap.left = tap.left.saturating_sub(1),
                Err(mpsc::error::TrySendError::Full(_)) => {
                    tap.missed.fetch_add(1, Ordering::Relaxed);
                }
                Err(mpsc::error::TrySendError::Closed(_)) => tap.left = 0,
            }
        }
        list.retain(|tap| tap.left > 0);
        self.open.store(list.len(), Ordering::Relaxed);
    }

    fn close(&self, number: u64) {
        let mut list = self.write();
        list.retain(|tap| tap.number != number);
        self.open.store(list.len(), Ordering::Relaxed);
    }

    fn read(&self) -> RwLockReadGuard<'_, Vec<Tap>> {
        self.list.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Vec<Tap>> {
        self.list.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tap {
    fn is_of(&self, host: &str) -> bool {
        self.host.eq_ignore_ascii_case(host)
    }
}

impl Reader {
    /// Returns the next request; `None`: the tap has shown as many as it may.
    pub(super) async fn next(&mut self) -> Option<Arc<RequestTrace>> {
        self.requests.recv().await
    }

    /// Returns the number of requests for which the reader was too slow.
    pub(super) fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.taps.close(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(path: &str) -> Arc<RequestTrace> {
        Arc::new(RequestTrace {
            path: path.into(),
            ..RequestTrace::default()
        })
    }

    #[tokio::test]
    async fn a_tap_shows_its_host_s_next_requests_and_no_others() {
        let taps = Arc::<Taps>::default();
        assert!(!taps.any());
        let mut reader = taps.open("App.test:8080", 2).unwrap();
        assert!(taps.any() && taps.want("app.TEST:80") && !taps.want("other.test"));
        for (host, path) in [
            ("other.test", "/0"),
            ("app.test", "/1"),
            ("app.test:80", "/2"),
            ("app.test", "/3"),
        ] {
            taps.show(host, &trace(path));
        }
        assert!(!taps.any(), "it has shown as many as it may");
        assert_eq!(reader.next().await.unwrap().path, "/1");
        assert_eq!(reader.next().await.unwrap().path, "/2");
        assert!(reader.next().await.is_none());
        assert_eq!(reader.missed(), 0);
    }

    #[tokio::test]
    async fn a_slow_reader_misses_requests_and_learns_how_many() {
        let taps = Arc::<Taps>::default();
        let mut reader = taps.open("app.test", 1000).unwrap();
        for _ in 0..QUEUED + 3 {
            taps.show("app.test", &trace("/"));
        }
        assert_eq!(reader.missed(), 3);
        assert!(reader.next().await.is_some());
        drop(reader);
        assert!(!taps.any() && !taps.want("app.test"));
    }

    #[tokio::test]
    async fn the_number_of_taps_is_bounded() {
        let taps = Arc::<Taps>::default();
        let mut readers: Vec<_> = (0..MOST_TAPS)
            .map(|_| taps.open("app.test", 1).unwrap())
            .collect();
        assert!(taps.open("app.test", 1).is_none());
        readers.pop();
        assert!(taps.open("app.test", 1).is_some());
    }
}
