//! Sends envelopes to the metron agent of this machine: one dropsonde envelope in one UDP datagram, as older CF components do.
//!
//! A router calls it for every request if it is configured to. It never blocks a caller and never fails it: a thread of its own
//! sends, and what does not fit into the queue, or into a datagram, is dropped and counted. On the same machine the kernel
//! reports that no process listens. Then no envelopes are made or sent, and every few seconds one envelope tries again.
//!
//! One system call for each datagram would cost more than everything else, so datagrams of one length leave in one call, in which
//! the kernel separates them ([`batch`]). Datagrams may therefore overtake each other within a portion; each has its own time
//! stamp.

mod batch;

use anyhow::{Context as _, Result};
use batch::{Batch, Sent};
use prost::Message as _;
use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use wire::dropsonde::{Envelope, Event, append_tag};

/// The highest number of waiting datagrams, and of their bytes.
const MAX_QUEUED: usize = 16_384;
const MAX_QUEUED_BYTES: usize = 8 << 20;
/// The time for which the thread collects envelopes after one has come. Each waking of the thread may delay a request on a busy
/// core.
const GATHER: Duration = Duration::from_millis(20);
/// The number of waiting bytes at which the thread sends at once. The agent's socket has room for a few times as much.
const PORTION: usize = 64 << 10;
/// The pause before the agent's name is looked up again if it had no address.
const AGAIN: Duration = Duration::from_secs(5);
/// The pause before one envelope tries again whether the agent listens.
const SILENCE: Duration = Duration::from_secs(2);

thread_local! {
    /// The buffer in which a thread encodes each of its envelopes.
    static ENCODED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// An emitter of envelopes with one origin. When it is dropped, its thread ends as soon as the queue is sent.
#[derive(Debug)]
pub struct Emitter {
    origin: String,
    queue: Arc<Queue>,
}

impl Emitter {
    /// Starts the thread that sends to `address`, for example `localhost:3457`. `origin` is the origin of all envelopes. It
    /// returns at once; the thread looks the name up, and repeats that until the name has an address.
    pub fn start(address: &str, origin: &str) -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("open a UDP socket")?;
        let queue = Arc::<Queue>::default();
        let (sender, address) = (queue.clone(), address.to_owned());
        std::thread::Builder::new()
            .name("metron".into())
            .spawn(move || sender.deliver(&socket, &address))
            .context("start the metron thread")?;
        Ok(Self {
            origin: origin.to_owned(),
            queue,
        })
    }

    /// Makes an envelope around the event, with the present time.
    pub fn envelope(&self, event: Event) -> Envelope {
        Envelope::new(&self.origin, nanoseconds(SystemTime::now()), event)
    }

    /// Sets the origin and the present time of an envelope that the caller fills anew for each event, so that its texts keep their
    /// memory.
    pub fn stamp(&self, envelope: &mut Envelope) {
        self.origin.clone_into(&mut envelope.origin);
        envelope.timestamp = Some(nanoseconds(SystemTime::now()));
    }

    /// Sends an event without tags, with the present time.
    pub fn emit(&self, event: Event) {
        self.send(&self.envelope(event));
    }

    pub fn send(&self, envelope: &Envelope) {
        self.send_with_tags(envelope, std::iter::empty());
    }

    /// Sends an envelope with further tags. They need not be copied into its map.
    pub fn send_with_tags<'t>(
        &self,
        envelope: &Envelope,
        tags: impl Iterator<Item = (&'t str, &'t str)>,
    ) {
        ENCODED.with_borrow_mut(|encoded| {
            encoded.clear();
            // Encoding into a growing vector cannot fail for lack of room.
            if envelope.encode(encoded).is_ok() {
                tags.for_each(|(name, value)| append_tag(encoded, name, value));
                self.queue.push(encoded);
            }
        });
    }

    /// Returns `false` while the last datagram found no listener. Callers need not make envelopes then.
    pub fn has_listener(&self) -> bool {
        !self.queue.no_listener.load(Ordering::Relaxed)
    }

    /// Returns the number of envelopes that were not sent.
    pub fn dropped(&self) -> u64 {
        self.queue.dropped.load(Ordering::Relaxed)
    }

    /// Blocks until everything is sent, at most for `limit`.
    pub fn flush(&self, limit: Duration) {
        let waiting = |state: &mut State| state.sending || !state.batch.is_empty();
        let queue = &self.queue;
        let _ = queue
            .changed
            .wait_timeout_while(queue.lock(), limit, waiting);
    }
}

impl Drop for Emitter {
    fn drop(&mut self) {
        self.queue.lock().closed = true;
        self.queue.changed.notify_all();
    }
}

/// Returns the nanoseconds since 1970, which is how envelopes write a time.
pub fn nanoseconds(at: SystemTime) -> i64 {
    at.duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
}

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    dropped: AtomicU64,
    /// Whether the kernel reported that no process listens at the address of the agent.
    no_listener: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    batch: Batch,
    sending: bool,
    closed: bool,
}

impl Queue {
    fn push(&self, datagram: &[u8]) {
        if self.no_listener.load(Ordering::Relaxed) {
            return;
        }
        let awaited = {
            let mut state = self.lock();
            let before = state.batch.bytes;
            let bytes = before + datagram.len();
            if state.batch.datagrams >= MAX_QUEUED || bytes > MAX_QUEUED_BYTES {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                return;
            }
            let was_empty = state.batch.is_empty();
            state.batch.push(datagram);
            was_empty || before < PORTION && bytes >= PORTION
        };
        if awaited {
            self.changed.notify_all();
        }
    }

    /// Sends the queue until the emitter is dropped and the queue is empty.
    fn deliver(&self, socket: &UdpSocket, address: &str) {
        let mut agent = None;
        let mut batch = Batch::default();
        let mut segments = true;
        // The first datagram after a pause is sent alone and at once, to find out whether the agent listens again.
        let mut gather = Duration::ZERO;
        while self.next_batch(&mut batch, gather) {
            if agent.is_none() {
                agent = lookup(address)
                    .and_then(|agent| socket.connect(agent))
                    .inspect_err(|error| tracing::warn!(address, %error, "metron-lookup-failed"))
                    .ok();
            }
            let sent = match agent {
                Some(()) => batch.send(socket, &mut segments),
                None => Sent::Lost(batch.datagrams as u64),
            };
            batch.clear();
            self.no_listener
                .store(sent == Sent::NoListener, Ordering::Relaxed);
            gather = GATHER;
            if let Sent::Lost(lost @ 1..) = sent {
                tracing::debug!(address, lost, "metron-send-failed");
                self.dropped.fetch_add(lost, Ordering::Relaxed);
            }
            {
                let mut state = self.lock();
                state.sending = false;
                if sent == Sent::NoListener {
                    state.batch.clear();
                }
            }
            self.changed.notify_all();
            if agent.is_none() {
                self.pause(AGAIN);
            } else if sent == Sent::NoListener {
                self.pause(SILENCE);
                self.no_listener.store(false, Ordering::Relaxed);
                gather = Duration::ZERO;
            }
        }
    }

    /// Moves the queue into `batch`, once there is something in it. Returns `false` if there will be nothing any more.
    fn next_batch(&self, batch: &mut Batch, gather: Duration) -> bool {
        let mut state = self
            .changed
            .wait_while(self.lock(), |s| s.batch.is_empty() && !s.closed)
            .unwrap_or_else(PoisonError::into_inner);
        if state.batch.is_empty() {
            return false;
        }
        let more = |state: &mut State| state.batch.bytes < PORTION && !state.closed;
        (state, _) = self
            .changed
            .wait_timeout_while(state, gather, more)
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(batch, &mut state.batch);
        state.sending = true;
        true
    }

    fn pause(&self, pause: Duration) {
        let open = |state: &mut State| !state.closed;
        let _ = self.changed.wait_timeout_while(self.lock(), pause, open);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the address of the agent. The agent uses IPv4, as the original's does.
fn lookup(address: &str) -> io::Result<SocketAddr> {
    let mut found = address.to_socket_addrs()?;
    let v4 = found.find(SocketAddr::is_ipv4);
    v4.ok_or_else(|| io::Error::other("its name has no IPv4 address"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::dropsonde::{LARGEST, LogMessage, ValueMetric};

    fn value(name: &str) -> Event {
        Event::ValueMetric(ValueMetric {
            name: name.into(),
            value: 1.5,
            unit: "ms".into(),
        })
    }

    #[test]
    fn an_event_arrives_as_one_datagram() {
        let agent = UdpSocket::bind("127.0.0.1:0").unwrap();
        agent
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let address = agent.local_addr().unwrap().to_string();
        let emitter = Emitter::start(&address, "gorouter").unwrap();
        emitter.emit(value("latency"));
        let mut buffer = [0; 1024];
        let n = agent.recv(&mut buffer).unwrap();
        let envelope = Envelope::decode(&buffer[..n]).unwrap();
        assert_eq!(envelope.origin, "gorouter");
        assert_eq!(envelope.event, Some(value("latency")));
        assert!(envelope.timestamp > Some(0));
    }

    #[test]
    fn what_exceeds_a_limit_is_dropped_and_counted() {
        let agent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = agent.local_addr().unwrap().to_string();
        let emitter = Emitter::start(&address, "gorouter").unwrap();
        emitter.emit(Event::LogMessage(LogMessage {
            message: vec![b'x'; LARGEST],
            ..LogMessage::default()
        }));
        emitter.flush(Duration::from_secs(60));
        assert_eq!(emitter.dropped(), 1);
        let queue = Queue::default();
        for _ in 0..=MAX_QUEUED {
            queue.push(&[0]);
        }
        assert_eq!(queue.dropped.load(Ordering::Relaxed), 1);
        let queue = Queue::default();
        queue.push(&vec![0; MAX_QUEUED_BYTES]);
        queue.push(&[0]);
        assert_eq!(queue.dropped.load(Ordering::Relaxed), 1);
    }

    /// Waits for a condition of another thread.
    fn wait_until(what: &str, is_so: impl Fn() -> bool) {
        let end = std::time::Instant::now() + Duration::from_secs(60);
        while !is_so() {
            assert!(std::time::Instant::now() < end, "{what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn nothing_is_queued_while_no_agent_listens() {
        let address = format!("127.0.0.1:{}", kit::net::free_port().unwrap());
        let emitter = Emitter::start(&address, "gorouter").unwrap();
        assert!(emitter.has_listener());
        let began = std::time::Instant::now();
        emitter.emit(value("latency"));
        wait_until("the kernel's report", || !emitter.has_listener());
        emitter.emit(value("latency"));
        let queued = emitter.queue.lock().batch.datagrams;
        // A machine that stands still may reach the time at which an envelope tries again.
        if began.elapsed() < SILENCE {
            assert_eq!(queued, 0);
            assert_eq!(emitter.dropped(), 0, "nobody has missed it");
        }

        let agent = UdpSocket::bind(&address).unwrap();
        agent
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        wait_until("another attempt", || emitter.has_listener());
        emitter.emit(value("again"));
        let mut buffer = [0; 1024];
        let mut received = || {
            let n = agent.recv(&mut buffer).unwrap();
            Envelope::decode(&buffer[..n]).unwrap().event
        };
        let mut event = received();
        while event == Some(value("latency")) {
            event = received();
        }
        assert_eq!(event, Some(value("again")));
        emitter.flush(Duration::from_secs(60));
        assert!(emitter.has_listener());
    }
}
