//! The load of a connection of HTTP/2 to a backend, and the share that one stream has in it. A stream reports to its share how
//! far the request's body is; whoever chooses a connection reads the load.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The load of a connection. Only the thread that serves it counts.
#[derive(Debug, Default)]
pub struct Load {
    streams: AtomicUsize,
    /// The streams whose request's body is still to be sent.
    uploads: AtomicUsize,
    /// The streams among these that wait for room in the peer's windows.
    waiting: AtomicUsize,
}

impl Load {
    /// Returns the number of streams.
    pub fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    /// Returns the number of streams whose request's body is still to be sent.
    pub fn uploads(&self) -> usize {
        self.uploads.load(Ordering::Relaxed)
    }

    /// Returns the number of streams whose request's body waits for room in the peer's windows.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

/// The part of a connection's load that one request causes, until it is dropped.
#[derive(Debug)]
pub struct Share {
    load: Arc<Load>,
    upload: bool,
    waits: bool,
}

impl Share {
    /// Counts a request on a connection. `upload`: it has a body.
    pub fn new(load: Arc<Load>, upload: bool) -> Self {
        load.streams.fetch_add(1, Ordering::Relaxed);
        if upload {
            load.uploads.fetch_add(1, Ordering::Relaxed);
        }
        Self {
            load,
            upload,
            waits: false,
        }
    }

    /// Records whether the request's body waits for the peer's windows.
    pub(crate) fn waits(&mut self, waits: bool) {
        if waits && !self.waits {
            self.load.waiting.fetch_add(1, Ordering::Relaxed);
        } else if !waits && self.waits {
            self.load.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        self.waits = waits;
    }

    /// Records that all of the request's body has gone, or that the rest will never go.
    pub(crate) fn uploaded(&mut self) {
        self.waits(false);
        if std::mem::take(&mut self.upload) {
            self.load.uploads.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.uploaded();
        self.load.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_counted_until_it_is_dropped() {
        let load = Arc::new(Load::default());
        let counts = || [load.streams(), load.uploads(), load.waiting()];
        let mut upload = Share::new(load.clone(), true);
        let plain = Share::new(load.clone(), false);
        upload.waits(true);
        upload.waits(true);
        assert_eq!(counts(), [2, 1, 1]);
        upload.waits(false);
        assert_eq!(counts(), [2, 1, 0]);
        upload.waits(true);
        upload.uploaded();
        assert_eq!(counts(), [2, 0, 0]);
        drop((upload, plain));
        assert_eq!(counts(), [0, 0, 0]);
        let mut waiting = Share::new(load.clone(), true);
        waiting.waits(true);
        drop(waiting);
        assert_eq!(counts(), [0, 0, 0]);
    }
}
