//! Event streams: their subscribers, and the events that each subscriber receives. The writer feeds the hub in the order of
//! commits.
//!
//! Every event has an id, `<process>-<number>-<part>`: the random name of this process, the number of the publication, and the
//! number of the event among those that the topic makes of the publication. A subscriber that comes back with the id of its last
//! event receives what it missed, as long as [`past`] has all of it. Otherwise its stream begins now, and it must read the whole
//! state again. A subscriber may also ask for everything that is kept. A subscriber that does not keep up is disconnected.
//!
//! Every event has the time of its commit as well, so that a reader that is slow still knows what happened first.

mod frames;
mod past;

use crate::journal::Publication;
use bytes::Bytes;
use frames::{Frame, render};
use past::{Past, Position};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;
use wire::bbs::OLDEST_EVENT;

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

#[derive(Debug)]
pub(crate) struct Hub {
    /// The random name of this process, with which every id begins. It has no `-`.
    process: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    subscribers: Vec<Subscriber>,
    past: Past,
    closed: bool,
}

#[derive(Debug)]
struct Subscriber {
    topic: Topic,
    /// The cell whose events the subscriber wants; empty means all cells.
    cell_id: String,
    queue: mpsc::Sender<Bytes>,
}

/// A subscriber's stream: first what it missed, then what comes.
#[derive(Debug)]
pub(crate) struct Subscription {
    /// The id after which the stream begins. It equals the subscriber's last id if nothing is missing.
    pub(crate) begins_after: String,
    pub(crate) missed: Vec<Bytes>,
    /// The events to come. It ends when the subscriber falls behind or the hub is closed.
    pub(crate) queue: mpsc::Receiver<Bytes>,
}

impl Default for Hub {
    fn default() -> Self {
        Self {
            process: uuid::Uuid::new_v4().simple().to_string(),
            state: Mutex::default(),
        }
    }
}

impl Hub {
    /// Registers a subscriber. `last` is the id of the last event that it received, if it comes back.
    pub(crate) fn subscribe(
        &self,
        topic: Topic,
        cell_id: String,
        last: Option<&str>,
    ) -> Subscription {
        let (sender, queue) = mpsc::channel(QUEUE);
        let subscriber = Subscriber {
            topic,
            cell_id,
            queue: sender,
        };
        let mut state = self.lock();
        let missed = last.and_then(|id| self.missed(&state.past, &subscriber, id));
        let begins_after = match last {
            Some(id) if missed.is_some() => id.to_owned(),
            _ => self.id(state.past.end()),
        };
        if !state.closed {
            state.subscribers.push(subscriber);
        }
        Subscription {
            begins_after,
            missed: missed.unwrap_or_default(),
            queue,
        }
    }

    /// Returns the events after an id, or `None` if not all of them are known any more.
    fn missed(&self, past: &Past, subscriber: &Subscriber, id: &str) -> Option<Vec<Bytes>> {
        let position = if id == OLDEST_EVENT {
            past.beginning()
        } else {
            let position = id.strip_prefix(&self.process)?.strip_prefix('-')?;
            Position::parse(position)?
        };
        let mut missed = Vec::new();
        for (number, published) in past.since(position)? {
            let frames = render(&published.publication, subscriber.topic, &published.trace);
            for (part, frame) in (1..).zip(&frames) {
                let seen = number == position.number && part <= position.part;
                if !seen && subscriber.wants(frame) {
                    missed.push(self.event(Position { number, part }, frame, published.at));
                }
            }
        }
        Some(missed)
    }

    fn id(&self, position: Position) -> String {
        format!("{}-{position}", self.process)
    }

    /// Returns an event with its time in Unix nanoseconds. The field `time` is our own, and clients skip fields that they do not
    /// know.
    fn event(&self, position: Position, frame: &Frame, at: SystemTime) -> Bytes {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (id, time) = (self.id(position), since.as_nanos());
        Bytes::from(format!("id: {id}\ntime: {time}\n{}", frame.text))
    }

    pub(crate) fn emit(&self, publication: Publication, trace: &str) {
        let mut state = self.lock();
        let now = SystemTime::now();
        let number = state.past.next();
        let subscribers = &mut state.subscribers;
        subscribers.retain(|s| !s.queue.is_closed());
        for topic in [Topic::Instances, Topic::Groups, Topic::Tasks] {
            if !subscribers.iter().any(|s| s.topic == topic) {
                continue;
            }
            for (part, frame) in (1..).zip(&render(&publication, topic, trace)) {
                let event = self.event(Position { number, part }, frame, now);
                subscribers.retain(|s| s.topic != topic || !s.wants(frame) || s.send(&event));
            }
        }
        state.past.push(publication, trace, now);
    }

    /// Ends all streams permanently.
    pub(crate) fn close(&self) {
        *self.lock() = State {
            closed: true,
            ..State::default()
        };
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscriber {
    /// Returns whether the subscriber wants an event of its topic.
    fn wants(&self, frame: &Frame) -> bool {
        let cell_id = frame.cell_id.as_ref();
        self.cell_id.is_empty() || cell_id.is_none_or(|cell| *cell == self.cell_id)
    }

    /// Sends an event. Returns whether the subscriber keeps up.
    fn send(&self, event: &Bytes) -> bool {
        if self.queue.try_send(event.clone()).is_ok() {
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

    /// Returns the start of an instance on the cell `a`.
    fn started() -> Publication {
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
        Publication::Actual(started.changes)
    }

    fn desired() -> Publication {
        Publication::DesiredCreated(Arc::default())
    }

    #[test]
    fn subscribers_receive_their_cell_and_slow_ones_are_disconnected() {
        let hub = Hub::default();
        let subscribe = |cell: &str| hub.subscribe(Topic::Instances, cell.into(), None).queue;
        let (mut mine, mut other) = (subscribe("a"), subscribe("b"));
        hub.emit(started(), "");
        assert!(mine.try_recv().is_ok() && other.try_recv().is_err());
        hub.emit(desired(), "");
        assert!(
            mine.try_recv().is_ok() && other.try_recv().is_ok(),
            "desired events are for all"
        );
        for _ in 0..=QUEUE {
            hub.emit(started(), "");
        }
        assert_eq!(
            hub.lock().subscribers.len(),
            1,
            "only the subscriber that received nothing is left"
        );
        hub.close();
        assert!(other.is_closed());
    }

    fn id_of(event: &Bytes) -> String {
        let text = std::str::from_utf8(event).unwrap();
        let id = text
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("id: "));
        id.unwrap().to_owned()
    }

    #[test]
    fn a_subscriber_that_comes_back_receives_what_it_missed() {
        let hub = Hub::default();
        let mut first = hub.subscribe(Topic::Instances, "a".into(), None);
        assert!(first.missed.is_empty());
        hub.emit(desired(), "r1");
        let seen = id_of(&first.queue.try_recv().unwrap());
        // While these events are published, no subscriber reads the topic of LRPs.
        drop(first);
        let _tasks = hub.subscribe(Topic::Tasks, String::new(), None);
        hub.emit(started(), "r2");
        hub.emit(desired(), "r3");
        let back =
            |cell: &str, last: &str| hub.subscribe(Topic::Instances, cell.into(), Some(last));
        let again = back("a", &seen);
        assert_eq!(
            (again.begins_after.as_str(), again.missed.len()),
            (&*seen, 2)
        );
        assert_eq!(back("b", &seen).missed.len(), 1, "only the desired LRP");
        let between = back("a", &id_of(&again.missed[0]));
        assert_eq!(between.missed, [again.missed[1].clone()]);
        let all = back("a", &id_of(&again.missed[1]));
        assert!(all.missed.is_empty());
        assert_eq!(all.begins_after, id_of(&again.missed[1]));
        // Later events arrive by the queue.
        let mut all = all;
        hub.emit(desired(), "r4");
        assert!(all.queue.try_recv().is_ok());
    }

    #[test]
    fn everything_that_is_kept_can_be_read_and_every_event_has_its_time() {
        let hub = Hub::default();
        let all = |hub: &Hub| hub.subscribe(Topic::Instances, "a".into(), Some(OLDEST_EVENT));
        assert!(all(&hub).missed.is_empty());
        hub.emit(desired(), "r1");
        hub.emit(started(), "r2");
        let mut stream = all(&hub);
        assert_eq!(stream.begins_after, OLDEST_EVENT);
        assert_eq!(stream.missed.len(), 2);
        hub.emit(desired(), "r3");
        let new = stream.queue.try_recv().unwrap();
        let times = stream.missed.iter().chain([&new]).map(|event| {
            let text = std::str::from_utf8(event).unwrap();
            let time = text.lines().find_map(|line| line.strip_prefix("time: "));
            time.unwrap().parse::<u128>().unwrap()
        });
        let times: Vec<u128> = times.collect();
        assert!(times[0] > 0 && times.is_sorted(), "{times:?}");
        let again = all(&hub).missed.pop();
        assert_eq!(again, Some(new), "an event that is sent again is the same");
    }

    #[test]
    fn a_stream_that_brought_no_event_can_be_continued() {
        let hub = Hub::default();
        let opened = hub.subscribe(Topic::Instances, String::new(), None);
        hub.emit(desired(), "");
        let again = hub.subscribe(Topic::Instances, String::new(), Some(&opened.begins_after));
        assert_eq!(again.begins_after, opened.begins_after);
        assert_eq!(again.missed.len(), 1);
    }

    #[test]
    fn ids_that_are_too_old_or_of_another_process_begin_a_new_stream() {
        let (hub, other) = (Hub::default(), Hub::default());
        let begin = hub.subscribe(Topic::Instances, String::new(), None);
        let foreign = other.subscribe(Topic::Instances, String::new(), None);
        for _ in 0..2000 {
            hub.emit(desired(), "");
        }
        for id in [&*begin.begins_after, &*foreign.begins_after, "", "0", "7"] {
            let stream = hub.subscribe(Topic::Instances, String::new(), Some(id));
            assert_ne!(stream.begins_after, id);
            assert!(stream.missed.is_empty());
        }
    }
}
