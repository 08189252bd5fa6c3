//! Event streams: their subscribers, and the events that each subscriber receives. The writer feeds the hub in the order of
//! commits.
//!
//! A subscriber that does not keep up is disconnected: it must read the whole state again anyway. Events are not replayed.

mod frames;

use crate::journal::Publication;
use bytes::Bytes;
use frames::{Frame, render};
use std::sync::{Mutex, PoisonError};
use tokio::sync::mpsc;

/// The number of events that a subscriber may be behind.
const QUEUE: usize = 1024;

/// The kind of events that a subscriber wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    /// Desired LRPs and instances.
    Instances,
    /// Desired LRPs and groups of instances. This is the deprecated stream.
    Groups,
    Tasks,
}

#[derive(Debug, Default)]
pub(crate) struct Hub {
    subscribers: Mutex<Subscribers>,
}

#[derive(Debug, Default)]
struct Subscribers {
    all: Vec<Subscriber>,
    closed: bool,
}

#[derive(Debug)]
struct Subscriber {
    topic: Topic,
    /// The cell whose events the subscriber wants; empty means all cells.
    cell_id: String,
    queue: mpsc::Sender<Bytes>,
}

impl Hub {
    /// Registers a subscriber. Its stream ends when the subscriber falls behind or the hub is closed.
    pub(crate) fn subscribe(&self, topic: Topic, cell_id: String) -> mpsc::Receiver<Bytes> {
        let (queue, receiver) = mpsc::channel(QUEUE);
        let mut subscribers = self.lock();
        if !subscribers.closed {
            subscribers.all.push(Subscriber {
                topic,
                cell_id,
                queue,
            });
        }
        receiver
    }

    pub(crate) fn emit(&self, publication: &Publication, trace: &str) {
        let mut subscribers = self.lock();
        subscribers.all.retain(|s| !s.queue.is_closed());
        if subscribers.all.is_empty() {
            return;
        }
        let wanted = |topic| subscribers.all.iter().any(|s| s.topic == topic);
        let mut frames = Vec::new();
        for topic in [Topic::Instances, Topic::Groups, Topic::Tasks] {
            if wanted(topic) {
                render(publication, topic, trace, &mut frames);
            }
        }
        for frame in &frames {
            subscribers.all.retain(|s| s.send(frame));
        }
    }

    /// Ends all streams permanently.
    pub(crate) fn close(&self) {
        *self.lock() = Subscribers {
            all: Vec::new(),
            closed: true,
        };
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Subscribers> {
        self.subscribers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscriber {
    /// Sends the frame if the subscriber wants it. Returns whether the subscriber keeps up.
    fn send(&self, frame: &Frame) -> bool {
        let for_it = self.topic == frame.topic
            && (self.cell_id.is_empty()
                || frame
                    .cell_id
                    .as_ref()
                    .is_none_or(|cell| *cell == self.cell_id));
        if !for_it || self.queue.try_send(frame.text.clone()).is_ok() {
            return true;
        }
        tracing::warn!(cell_id = self.cell_id, topic = ?self.topic, "event-subscriber-too-slow");
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lrp::{ActualLrpKey, InstanceKey, Moment, Slot};
    use std::sync::Arc;

    #[test]
    fn subscribers_receive_their_cell_and_slow_ones_are_disconnected() {
        let hub = Hub::default();
        let mut mine = hub.subscribe(Topic::Instances, "a".into());
        let mut other = hub.subscribe(Topic::Instances, "b".into());
        let key = ActualLrpKey {
            process_guid: "p".into(),
            index: 0,
            domain: "d".into(),
        };
        let instance = InstanceKey {
            instance_guid: "i".into(),
            cell_id: "a".into(),
        };
        let moment = Moment {
            now: 1,
            epoch: "e".into(),
        };
        let started = Slot::default()
            .start(&key, &instance, &Arc::default(), &moment)
            .unwrap();
        let publication = Publication::Actual(started.changes);
        hub.emit(&publication, "");
        assert!(mine.try_recv().is_ok() && other.try_recv().is_err());
        hub.emit(&Publication::DesiredCreated(Arc::default()), "");
        assert!(
            mine.try_recv().is_ok() && other.try_recv().is_ok(),
            "desired events are for all"
        );
        for _ in 0..=QUEUE {
            hub.emit(&publication, "");
        }
        assert_eq!(
            hub.lock().all.len(),
            1,
            "only the subscriber that received nothing is left"
        );
        hub.close();
        assert!(other.is_closed());
    }
}
