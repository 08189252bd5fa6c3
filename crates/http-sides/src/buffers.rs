//! The buffers of one serving thread. A connection that waits holds none: a buffer is reserved when bytes have arrived and returned
//! when they are forwarded, so that ten thousand idle connections need no more buffers than one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use crate::stream::Stream;

/// The size of a buffer in bytes, and of a buffer for peers that send more than fits.
const SIZE: usize = 16 << 10;
const LARGE: usize = 64 << 10;
/// The spare buffers of each kind that a thread keeps.
const SPARE: usize = 64;
const SPARE_LARGE: usize = 16;

/// The spare buffers of a serving thread. Only that thread takes the locks, so they are never contended.
#[derive(Debug)]
pub struct Buffers {
    inputs: Mutex<Vec<Box<[u8]>>>,
    large_inputs: Mutex<Vec<Box<[u8]>>>,
    outputs: Mutex<Vec<Vec<u8>>>,
    /// The number of buffers in use, over all threads.
    held: Arc<AtomicU64>,
}

impl Buffers {
    /// Creates an empty store. `held` counts the buffers in use; the stores of several threads may share it.
    pub fn new(held: Arc<AtomicU64>) -> Self {
        Self {
            inputs: Mutex::default(),
            large_inputs: Mutex::default(),
            outputs: Mutex::default(),
            held,
        }
    }

    fn input(&self, large: bool) -> Box<[u8]> {
        self.held.fetch_add(1, Ordering::Relaxed);
        let (spare, size) = if large {
            (&self.large_inputs, LARGE)
        } else {
            (&self.inputs, SIZE)
        };
        let spare = lock(spare).pop();
        spare.unwrap_or_else(|| vec![0; size].into())
    }

    fn give_input(&self, buffer: Box<[u8]>) {
        self.held.fetch_sub(1, Ordering::Relaxed);
        let (spare, most) = match buffer.len() {
            SIZE => (&self.inputs, SPARE),
            LARGE => (&self.large_inputs, SPARE_LARGE),
            _ => return,
        };
        let mut spare = lock(spare);
        if spare.len() < most {
            spare.push(buffer);
        }
    }

    /// Returns an empty buffer, which always has capacity.
    pub(crate) fn output(&self) -> Vec<u8> {
        self.held.fetch_add(1, Ordering::Relaxed);
        let spare = lock(&self.outputs).pop();
        spare.unwrap_or_else(|| Vec::with_capacity(2 << 10))
    }

    pub(crate) fn give_output(&self, mut buffer: Vec<u8>) {
        self.held.fetch_sub(1, Ordering::Relaxed);
        let mut spare = lock(&self.outputs);
        if buffer.capacity() <= 2 * SIZE && spare.len() < SPARE {
            buffer.clear();
            spare.push(buffer);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The bytes that were read and not yet used.
#[derive(Debug, Default)]
pub(crate) struct Input {
    /// The buffer; it is empty when none is held.
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// The place from which used bytes are kept, because they may be needed again.
    mark: Option<usize>,
    /// Whether the last read left nothing to read: see [`Stream::poll_readable`].
    drained: bool,
    /// Whether the last read left no room in the buffer.
    filled: bool,
}

impl Input {
    pub(crate) fn data(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.drained
    }

    pub(crate) fn consume(&mut self, bytes: usize) {
        self.start = (self.start + bytes).min(self.end);
    }

    /// Marks the current place, to which `rewind` returns. The mark is lost when the buffer has no room left behind it.
    pub(crate) fn mark(&mut self) {
        self.mark = Some(self.start);
    }

    pub(crate) fn forget_mark(&mut self) {
        self.mark = None;
    }

    /// Returns to the mark; false if it is lost.
    pub(crate) fn rewind(&mut self) -> bool {
        if let Some(mark) = self.mark {
            self.start = mark;
        }
        self.mark.is_some()
    }

    /// Returns whether the mark is still there.
    pub(crate) fn may_rewind(&self) -> bool {
        self.mark.is_some()
    }

    /// Returns the buffer to the spare ones if nothing in it is needed any more.
    pub(crate) fn release(&mut self, buffers: &Buffers) {
        let wanted = self.mark.is_some_and(|mark| mark < self.end);
        if self.is_empty() && !wanted && !self.buffer.is_empty() {
            buffers.give_input(std::mem::take(&mut self.buffer));
            (self.start, self.end) = (0, 0);
            self.mark = self.mark.map(|_| 0);
        }
    }

    /// Returns the buffer to the spare ones, whatever is in it.
    pub(crate) fn abandon(&mut self, buffers: &Buffers) {
        self.mark = None;
        self.start = self.end;
        self.release(buffers);
    }

    /// Reads the available bytes. A buffer that is full grows up to `most` bytes. Zero: the other side has ended.
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
        buffers: &Buffers,
        most: usize,
    ) -> Poll<std::io::Result<usize>> {
        if self.buffer.is_empty() {
            ready!(stream.poll_readable(cx, self.drained))?;
        }
        self.make_room(buffers, most);
        let room = &mut self.buffer[self.end..];
        let size = room.len();
        match stream.poll_read_into(cx, room) {
            Poll::Ready(Ok(read)) => {
                self.drained = read < size;
                self.filled = read == size;
                self.end += read;
                Poll::Ready(Ok(read))
            }
            Poll::Pending => {
                self.drained = true;
                self.filled = false;
                self.release(buffers);
                Poll::Pending
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        }
    }

    fn make_room(&mut self, buffers: &Buffers, most: usize) {
        if self.buffer.is_empty() {
            // A peer that filled the last buffer probably sends more.
            self.buffer = buffers.input(self.filled);
        }
        if self.is_empty() && self.mark.is_none() {
            (self.start, self.end) = (0, 0);
        }
        if self.end < self.buffer.len() {
            return;
        }
        if self.start > 0 {
            self.mark = None;
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.buffer.len() {
            let size = (2 * self.buffer.len()).min(most.max(self.end + SIZE));
            let mut larger = vec![0; size].into_boxed_slice();
            larger[..self.end].copy_from_slice(&self.buffer);
            self.buffer = larger;
        }
    }
}
