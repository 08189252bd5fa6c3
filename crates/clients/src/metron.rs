//! Envelopes to the metron agent of this machine: one dropsonde envelope in one UDP datagram, as originals of that age speak.
//!
//! Called for every request by a router that is told to. Never blocks a caller and never fails it: a thread of its own
//! sends; what does not fit into the queue, or into a datagram, is dropped and counted. Whether anybody listens is not
//! known, as ever with UDP.

use anyhow::{Context as _, Result};
use prost::Message as _;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use wire::dropsonde::{Envelope, Event};

/// Most datagrams waiting, and most of their bytes.
const MAX_QUEUED: usize = 16_384;
const MAX_QUEUED_BYTES: usize = 8 << 20;
/// Envelopes of this long share one waking of the thread, which may hold up a request on a busy core.
const GATHER: Duration = Duration::from_millis(20);
/// So many bytes wait for no others: the agent's socket has room for a few times as much.
const PORTION: usize = 64 << 10;
/// Until an agent's name that had no address is looked up again.
const AGAIN: Duration = Duration::from_secs(5);

/// Ends its thread, once the queue is sent, when it is dropped.
#[derive(Debug)]
pub struct Emitter {
    origin: String,
    queue: Arc<Queue>,
}

impl Emitter {
    /// `address`: `localhost:3457`; `origin`: what all envelopes come from. Returns at once; the name is looked up, and
    /// looked up again until it has an address, by the thread.
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

    /// An envelope around the event, stamped now.
    pub fn envelope(&self, event: Event) -> Envelope {
        Envelope::new(&self.origin, nanoseconds(SystemTime::now()), event)
    }

    /// An event without tags, stamped now.
    pub fn emit(&self, event: Event) {
        self.send(&self.envelope(event));
    }

    pub fn send(&self, envelope: &Envelope) {
        self.queue.push(envelope.encode_to_vec());
    }

    /// Envelopes that were not sent.
    pub fn dropped(&self) -> u64 {
        self.queue.dropped.load(Ordering::Relaxed)
    }

    /// Blocks until everything is sent, for `limit` at most.
    pub fn flush(&self, limit: Duration) {
        let waiting = |state: &mut State| state.sending || !state.datagrams.is_empty();
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

/// As envelopes have it.
pub fn nanoseconds(at: SystemTime) -> i64 {
    at.duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
}

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    datagrams: Vec<Vec<u8>>,
    bytes: usize,
    sending: bool,
    closed: bool,
}

impl Queue {
    fn push(&self, datagram: Vec<u8>) {
        let awaited = {
            let mut state = self.lock();
            let before = state.bytes;
            let bytes = before + datagram.len();
            if state.datagrams.len() >= MAX_QUEUED || bytes > MAX_QUEUED_BYTES {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                return;
            }
            let was_empty = state.datagrams.is_empty();
            state.bytes = bytes;
            state.datagrams.push(datagram);
            was_empty || before < PORTION && bytes >= PORTION
        };
        if awaited {
            self.changed.notify_all();
        }
    }

    /// Until the emitter is gone and the queue is empty.
    fn deliver(&self, socket: &UdpSocket, address: &str) {
        let mut agent = None;
        let mut datagrams = Vec::new();
        while self.take(&mut datagrams) {
            if agent.is_none() {
                agent = lookup(address)
                    .inspect_err(|error| tracing::warn!(address, %error, "metron-lookup-failed"))
                    .ok();
            }
            let mut lost = 0;
            for datagram in datagrams.drain(..) {
                let sent = agent.is_some_and(|agent| socket.send_to(&datagram, agent).is_ok());
                lost += u64::from(!sent);
            }
            if lost > 0 {
                tracing::debug!(address, lost, "metron-send-failed");
                self.dropped.fetch_add(lost, Ordering::Relaxed);
            }
            self.lock().sending = false;
            self.changed.notify_all();
            if agent.is_none() {
                self.pause();
            }
        }
    }

    /// What is queued, once there is something; `false`: there will be nothing any more.
    fn take(&self, datagrams: &mut Vec<Vec<u8>>) -> bool {
        let mut state = self
            .changed
            .wait_while(self.lock(), |s| s.datagrams.is_empty() && !s.closed)
            .unwrap_or_else(PoisonError::into_inner);
        if state.datagrams.is_empty() {
            return false;
        }
        let more = |state: &mut State| state.bytes < PORTION && !state.closed;
        (state, _) = self
            .changed
            .wait_timeout_while(state, GATHER, more)
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(datagrams, &mut state.datagrams);
        state.bytes = 0;
        state.sending = true;
        true
    }

    fn pause(&self) {
        let open = |state: &mut State| !state.closed;
        let _ = self.changed.wait_timeout_while(self.lock(), AGAIN, open);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The agent speaks IPv4, as in the original.
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
            .set_read_timeout(Some(Duration::from_secs(10)))
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
    fn what_fits_nowhere_is_dropped_and_counted() {
        let emitter = Emitter::start("127.0.0.1:9", "gorouter").unwrap();
        emitter.emit(Event::LogMessage(LogMessage {
            message: vec![b'x'; LARGEST],
            ..LogMessage::default()
        }));
        emitter.flush(Duration::from_secs(10));
        assert_eq!(emitter.dropped(), 1);
        let queue = Queue::default();
        for _ in 0..=MAX_QUEUED {
            queue.push(vec![0]);
        }
        assert_eq!(queue.dropped.load(Ordering::Relaxed), 1);
        let queue = Queue::default();
        queue.push(vec![0; MAX_QUEUED_BYTES]);
        queue.push(vec![0]);
        assert_eq!(queue.dropped.load(Ordering::Relaxed), 1);
    }
}
