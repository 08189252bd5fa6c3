//! The bytes that a client of HTTP/2 may send before a backend has read any of them.
//!
//! Each stream has a window of its own. The connection's window grows with the bodies that are on their way, so that bodies which
//! no backend reads do not shut it for the others. The total that all connections of a worker may add is bounded; beyond that
//! bound a connection has its initial window.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The initial window of a stream and of a connection, in bytes.
pub(super) const STREAM: u32 = 128 << 10;
pub(super) const CONNECTION: u32 = 512 << 10;
/// The number of bodies that fit into the initial window, less one so that one more can move.
const FREE: usize = (CONNECTION / STREAM) as usize - 1;
/// The number of bodies, over all of a worker's connections, for which windows may grow: 64 MiB.
const MOST: usize = (64 << 20) / STREAM as usize;

/// The number of bodies by which a worker's connections have enlarged their windows.
#[derive(Debug, Default)]
pub(crate) struct Windows(AtomicUsize);

impl Windows {
    /// Reserves room for one more body, if there is any.
    fn reserve(&self) -> bool {
        let more = |taken| (taken < MOST).then_some(taken + 1);
        let taken = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.is_ok()
    }

    fn release(&self, bodies: usize) {
        self.0.fetch_sub(bodies, Ordering::Relaxed);
    }
}

/// A body on its way, which counts until it is dropped.
#[derive(Debug)]
pub(super) struct Body(Arc<AtomicUsize>);

impl Drop for Body {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The window of one connection.
#[derive(Debug, Default)]
pub(super) struct Window {
    bodies: Arc<AtomicUsize>,
    /// The number of bodies that it has grown by.
    grown: usize,
}

impl Window {
    /// Counts one more body on its way. Returns the new size of the window in bytes, if it changes.
    pub(super) fn begin(&mut self, windows: &Windows) -> (Body, Option<u32>) {
        let others = self.bodies.fetch_add(1, Ordering::Relaxed);
        let before = self.grown;
        if others == 0 {
            self.shrink(windows);
        }
        if others + 1 > FREE + self.grown && windows.reserve() {
            self.grown += 1;
        }
        let size = CONNECTION + STREAM * u32::try_from(self.grown).unwrap_or(0);
        let changed = (self.grown != before).then_some(size);
        (Body(self.bodies.clone()), changed)
    }

    /// Returns the room that it has grown by.
    pub(super) fn shrink(&mut self, windows: &Windows) {
        windows.release(std::mem::take(&mut self.grown));
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
