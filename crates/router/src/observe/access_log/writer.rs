//! The access log's writer. Lines are appended to a buffer in memory; a thread of its own writes them to the [`LogFile`], after
//! [`GATHER`] at the latest. A disk that is too slow costs lines, which are counted, and never delays a request.

use super::file::LogFile;
use crate::config::Rotation;
use anyhow::{Context as _, Result};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The largest number of bytes that wait.
const CAPACITY: usize = 8 << 20;
/// The time for which lines are gathered for one write: every wake-up of the writer may delay a request on a busy core.
const GATHER: Duration = Duration::from_millis(50);
/// The number of bytes that are written without waiting for more.
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
    /// Whether the file is to be opened again before the next line is written.
    reopen: bool,
    closed: bool,
}

impl Writer {
    pub(super) fn open(path: &Path, rotation: Option<Rotation>) -> Result<Self> {
        let file = LogFile::open(path, rotation)?;
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

    /// Opens the file again, because it was renamed. The lines that wait are written to the old file or to the new one; none is
    /// lost.
    pub(super) fn reopen(&self) {
        self.0.lock().reopen = true;
        self.0.changed.notify_all();
    }

    pub(super) fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// Waits until everything is written, for a second at most.
    pub(super) fn flush(&self) {
        let _ = self
            .0
            .changed
            .wait_timeout_while(self.0.lock(), Duration::from_secs(1), |state| {
                state.writing || state.reopen || !state.lines.is_empty()
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
    fn drain(&self, mut file: LogFile) {
        let mut lines = Vec::new();
        // A full disk is logged once, not with every portion.
        let mut failed = false;
        loop {
            let nothing =
                |state: &mut State| state.lines.is_empty() && !state.reopen && !state.closed;
            let mut state = self
                .changed
                .wait_while(self.lock(), nothing)
                .unwrap_or_else(PoisonError::into_inner);
            if state.reopen {
                // This happens under the lock, so a caller that waits for it finds the new file.
                if let Err(error) = file.reopen() {
                    tracing::error!(%error, "access-log-reopen-failed: the log continues in the previous file");
                }
                state.reopen = false;
                self.changed.notify_all();
                continue;
            }
            if state.lines.is_empty() {
                return;
            }
            let more =
                |state: &mut State| state.lines.len() < PORTION && !state.closed && !state.reopen;
            (state, _) = self
                .changed
                .wait_timeout_while(state, GATHER, more)
                .unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(&mut lines, &mut state.lines);
            state.writing = true;
            drop(state);
            match file.write(&lines) {
                Ok(()) => {
                    if std::mem::take(&mut failed) {
                        tracing::info!("access-log-writes-again");
                    }
                }
                Err(error) => {
                    let lost = lines.iter().filter(|byte| **byte == b'\n').count();
                    self.dropped.fetch_add(lost as u64, Ordering::Relaxed);
                    if !std::mem::replace(&mut failed, true) {
                        tracing::error!(%error, "access-log-write-failed: lines are lost, and counted, until there is room");
                    }
                }
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

    /// Waits until everything is written, however long that takes.
    fn flush(writer: &Writer) {
        loop {
            let state = writer.0.lock();
            if !state.writing && !state.reopen && state.lines.is_empty() {
                return;
            }
            drop(state);
            writer.flush();
        }
    }

    #[test]
    fn lines_arrive_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let writer = Writer::open(&path, None).unwrap();
        for n in 0..100 {
            writer.write(format!("line {n}").as_bytes());
        }
        flush(&writer);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text.lines().collect::<Vec<_>>(),
            (0..100).map(|n| format!("line {n}")).collect::<Vec<_>>()
        );
    }

    #[test]
    fn no_line_is_lost_when_the_file_is_moved_and_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("log"), folder.path().join("moved"));
        let writer = Writer::open(&path, None).unwrap();
        for n in 0..1000 {
            writer.write(format!("{n}").as_bytes());
            if n == 500 {
                std::fs::rename(&path, &moved).unwrap();
                writer.reopen();
            }
        }
        flush(&writer);
        let read = |path| std::fs::read_to_string(path).unwrap();
        let (before, after) = (read(&moved), read(&path));
        let all: Vec<_> = before
            .lines()
            .chain(after.lines())
            .map(str::to_owned)
            .collect();
        assert_eq!(all, (0..1000).map(|n| n.to_string()).collect::<Vec<_>>());
        assert!(after.lines().count() > 0);
    }

    #[test]
    fn lines_that_no_disk_accepts_are_counted() {
        let writer = Writer::open(Path::new("/dev/full"), None).unwrap();
        for _ in 0..10 {
            writer.write(b"line");
        }
        flush(&writer);
        assert_eq!(writer.dropped(), 10);
    }
}
