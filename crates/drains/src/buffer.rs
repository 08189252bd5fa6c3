//! The messages of one drain that wait for their peer. The buffer is bounded: a peer that is slow or absent costs its own messages, the
//! oldest first, and no memory and no time of others. The type is pure.

use std::collections::VecDeque;

/// The largest number of messages that wait.
const MOST_MESSAGES: usize = 20_000;

/// The memory of a message beside its bytes.
const MESSAGE_SIZE: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct Buffer {
    messages: VecDeque<Vec<u8>>,
    bytes: usize,
    /// The messages that were dropped and are not reported yet.
    lost: u64,
}

impl Buffer {
    /// Adds a message, and drops the oldest ones beyond the bounds. Returns how many were dropped. A message that is larger than `most`
    /// bytes is dropped itself.
    pub(crate) fn push(&mut self, message: Vec<u8>, most: usize) -> u64 {
        self.bytes += size(&message);
        self.messages.push_back(message);
        let mut dropped = 0;
        while self.messages.len() > MOST_MESSAGES || self.bytes > most {
            let Some(oldest) = self.messages.pop_front() else {
                break;
            };
            self.bytes -= size(&oldest);
            dropped += 1;
        }
        self.lost += dropped;
        dropped
    }

    /// Removes and returns the oldest messages: at most `most`, and no more than `bytes` together unless the first one has more.
    pub(crate) fn take(&mut self, most: usize, bytes: usize) -> VecDeque<Vec<u8>> {
        let (mut taken, mut total) = (VecDeque::new(), 0);
        while taken.len() < most {
            let Some(next) = self.messages.front() else {
                break;
            };
            total += next.len();
            if total > bytes && !taken.is_empty() {
                break;
            }
            if let Some(message) = self.messages.pop_front() {
                self.bytes -= size(&message);
                taken.push_back(message);
            }
        }
        taken
    }

    /// Returns the memory of all messages in bytes. It is 0 if there are none.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Counts messages that were lost after they had left the buffer.
    pub(crate) fn lose(&mut self, messages: u64) {
        self.lost += messages;
    }

    /// Returns the number of lost messages since the last call.
    pub(crate) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }
}

/// Returns the memory of a message in bytes.
fn size(message: &Vec<u8>) -> usize {
    MESSAGE_SIZE + message.capacity()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(messages: &[&str]) -> Buffer {
        let mut buffer = Buffer::default();
        for message in messages {
            assert_eq!(buffer.push(message.as_bytes().to_vec(), 1 << 20), 0);
        }
        buffer
    }

    fn texts(messages: VecDeque<Vec<u8>>) -> Vec<String> {
        let text = |message| String::from_utf8(message).unwrap();
        messages.into_iter().map(text).collect()
    }

    #[test]
    fn messages_leave_in_their_order_and_in_portions() {
        let mut buffer = filled(&["one", "two", "three", "four"]);
        assert_eq!(texts(buffer.take(2, 100)), ["one", "two"]);
        assert_eq!(texts(buffer.take(9, 6)), ["three"]);
        assert_eq!(texts(buffer.take(9, 1)), ["four"]);
        assert!(buffer.take(9, 100).is_empty());
        assert_eq!((buffer.bytes(), buffer.take_lost()), (0, 0));
    }

    #[test]
    fn the_oldest_messages_are_dropped_beyond_the_number() {
        let mut buffer = Buffer::default();
        let mut dropped = 0;
        for n in 0..MOST_MESSAGES + 3 {
            dropped += buffer.push(n.to_string().into_bytes(), usize::MAX);
        }
        assert_eq!(dropped, 3);
        assert_eq!(texts(buffer.take(2, 100)), ["3", "4"]);
        assert_eq!((buffer.take_lost(), buffer.take_lost()), (3, 0));
    }

    #[test]
    fn bytes_are_bounded_and_the_bound_may_shrink() {
        let mut buffer = Buffer::default();
        for _ in 0..100 {
            buffer.push(vec![b'x'; 1000], 20_000);
            assert!(buffer.bytes() <= 20_000);
        }
        let dropped = buffer.push(b"last".to_vec(), 2_000);
        assert!(dropped > 10, "{dropped}");
        assert_eq!(buffer.take(9, 10_000).len(), 2);
        assert_eq!(buffer.push(vec![b'x'; 5000], 2_000), 1);
        assert_eq!(buffer.bytes(), 0);
        buffer.lose(2);
        assert!(buffer.take_lost() > 80);
    }
}
