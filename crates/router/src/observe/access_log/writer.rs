//! The access log file: lines are appended to a buffer in memory; a thread of its own writes them out, at the latest
//! after [`GATHER`]. A disk that cannot keep up costs lines, which are counted, and never holds up a request.

use anyhow::{Context as _, Result};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Most bytes waiting.
const CAPACITY: usize = 8 << 20;
/// Lines of this long share one write: every wake-up of the writer may hold up a request on a busy core.
const GATHER: Duration = Duration::from_millis(50);
/// Written without a pause.
const PIECE: usize = 64 << 10;
/// So many bytes wait for no others.
const PORTION: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct Writer(Arc<Queue>);

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<u8>,
    writing: bool,
    closed: bool,
}

impl Writer {
    /// Appends, so that the file may be rotated by copy and truncate.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .with_context(|| {
                format!(
                    "open access log {}: check that its directory exists and is writable",
                    path.display()
                )
            })?;
        let queue = Arc::new(Queue::default());
        let reader = queue.clone();
        std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || reader.drain(file))
            .context("start the access log thread")?;
        Ok(Self(queue))
    }

    pub(super) fn write(&self, line: &[u8]) {
        let awaited = {
            let mut state = self.0.lock();
            let before = state.lines.len();
            if before + line.len() >= CAPACITY {
                self.0.dropped.fetch_add(1, Ordering::Relaxed);
                return;
            }
            state.lines.extend_from_slice(line);
            state.lines.push(b'\n');
            before == 0 || (before < PORTION && state.lines.len() >= PORTION)
        };
        if awaited {
            self.0.changed.notify_all();
        }
    }

    pub(super) fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// Blocks for at most a second.
    pub(super) fn flush(&self) {
        let _ = self
            .0
            .changed
            .wait_timeout_while(self.0.lock(), Duration::from_secs(1), |state| {
                state.writing || !state.lines.is_empty()
            });
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.changed.notify_all();
    }
}

impl Queue {
    fn drain(&self, mut file: File) {
        let mut lines = Vec::new();
        loop {
            let mut state = self
                .changed
                .wait_while(self.lock(), |state| state.lines.is_empty() && !state.closed)
                .unwrap_or_else(PoisonError::into_inner);
            if state.lines.is_empty() {
                return;
            }
            let more = |state: &mut State| state.lines.len() < PORTION && !state.closed;
            (state, _) = self
                .changed
                .wait_timeout_while(state, GATHER, more)
                .unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(&mut lines, &mut state.lines);
            state.writing = true;
            drop(state);
            let written = lines.chunks(PIECE).try_for_each(|piece| {
                file.write_all(piece)?;
                // Requests that wait for this core go first.
                std::thread::yield_now();
                Ok::<_, std::io::Error>(())
            });
            if let Err(error) = written {
                tracing::error!(%error, bytes = lines.len(), "access-log-write-failed");
            }
            lines.clear();
            self.lock().writing = false;
            self.changed.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_arrive_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let writer = Writer::open(&path).unwrap();
        for n in 0..100 {
            writer.write(format!("line {n}").as_bytes());
        }
        writer.flush();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text.lines().collect::<Vec<_>>(),
            (0..100).map(|n| format!("line {n}")).collect::<Vec<_>>()
        );
    }
}
