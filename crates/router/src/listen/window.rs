//! How much a client of HTTP/2 may send before a backend has taken any of it.
//!
//! Each stream has a window of its own. The connection's window grows with the bodies that are on their way, so that those
//! which nobody reads do not shut it for the others. What all connections of a worker may add together is bounded; beyond
//! that bound a connection has the window that it began with.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of one stream, and of a connection to begin with.
pub(super) const STREAM: u32 = 128 << 10;
pub(super) const CONNECTION: u32 = 512 << 10;
/// Bodies that the window has room for to begin with, less one that is to move on.
const FREE: usize = (CONNECTION / STREAM) as usize - 1;
/// Bodies of all of a worker's connections together that may have more: 64 MiB.
const MOST: usize = (64 << 20) / STREAM as usize;

/// What a worker's connections have added to their windows.
#[derive(Debug, Default)]
pub(crate) struct Windows(AtomicUsize);

impl Windows {
    /// Room for one body more.
    fn take(&self) -> bool {
        let more = |taken| (taken < MOST).then_some(taken + 1);
        let taken = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.is_ok()
    }

    fn give(&self, bodies: usize) {
        self.0.fetch_sub(bodies, Ordering::Relaxed);
    }
}

/// A body on its way, until it is dropped.
#[derive(Debug)]
pub(super) struct Body(Arc<AtomicUsize>);

impl Drop for Body {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One connection's window.
#[derive(Debug, Default)]
pub(super) struct Window {
    bodies: Arc<AtomicUsize>,
    /// Bodies that it has grown by.
    grown: usize,
}

impl Window {
    /// One body more is on its way. The size that the window has to have from now on, if it changes.
    pub(super) fn begin(&mut self, windows: &Windows) -> (Body, Option<u32>) {
        let others = self.bodies.fetch_add(1, Ordering::Relaxed);
        let before = self.grown;
        if others == 0 {
            self.shrink(windows);
        }
        if others + 1 > FREE + self.grown && windows.take() {
            self.grown += 1;
        }
        let size = CONNECTION + STREAM * u32::try_from(self.grown).unwrap_or(0);
        let changed = (self.grown != before).then_some(size);
        (Body(self.bodies.clone()), changed)
    }

    /// Gives back what it has grown by.
    pub(super) fn shrink(&mut self, windows: &Windows) {
        windows.give(std::mem::take(&mut self.grown));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_grows_with_its_bodies_and_shrinks_after_them() {
        let (windows, mut window) = (Windows::default(), Window::default());
        let mut kept = Vec::new();
        let mut sizes = Vec::new();
        for _ in 0..FREE + 2 {
            let (body, size) = window.begin(&windows);
            kept.push(body);
            sizes.extend(size);
        }
        assert_eq!(sizes, [CONNECTION + STREAM, CONNECTION + 2 * STREAM]);
        kept.clear();
        assert_eq!(window.begin(&windows).1, Some(CONNECTION));
        assert_eq!(windows.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn all_windows_together_are_bounded() {
        let windows = Windows::default();
        let mut others: Vec<Window> = (0..10).map(|_| Window::default()).collect();
        let bodies = |window: &mut Window| -> Vec<Body> {
            (0..250).map(|_| window.begin(&windows).0).collect()
        };
        let kept: Vec<_> = others.iter_mut().map(bodies).collect();
        assert_eq!(windows.0.load(Ordering::Relaxed), MOST);
        drop(kept);
        for window in &mut others {
            window.shrink(&windows);
        }
        assert_eq!(windows.0.load(Ordering::Relaxed), 0);
    }
}
