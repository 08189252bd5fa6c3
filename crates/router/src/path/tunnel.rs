//! Tunnels, after `101 Switching Protocols`: bytes flow in both directions until one side ends. No buffer is held while both
//! sides are silent.
//!
//! When the router stops, each side of a WebSocket receives a close frame at the next boundary between frames.

use crate::observe::record::Record;
use crate::path::finish::finish;
use crate::path::websocket::Frames;
use crate::worker::Worker;
use http_sides::drain::Watch;
use http_sides::{Side, poll_pump};
use http1::{Request, Span};
use route_table::registry::InFlight;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::timeout;

/// The time that the close frames have to be sent.
const FAREWELL: Duration = Duration::from_millis(500);

/// The values that the record of the request needs at the end.
#[derive(Debug)]
pub(crate) struct Closing {
    pub(crate) record: Record,
    pub(crate) host: Span,
    pub(crate) client: String,
    pub(crate) request: Request,
}

#[derive(Debug)]
pub(crate) struct Tunnel {
    worker: Arc<Worker>,
    backend: Side,
    _in_flight: InFlight,
    closing: Closing,
    watch: Watch,
    up: Way,
    down: Way,
}

/// One direction of a tunnel.
#[derive(Debug, Default)]
struct Way {
    ended: bool,
    bytes: u64,
    /// The frame boundaries, if this is a WebSocket.
    frames: Option<Frames>,
}

impl Way {
    fn poll(&mut self, from: &mut Side, to: &mut Side, cx: &mut Context<'_>) -> Result<(), ()> {
        if self.ended {
            return Ok(());
        }
        let Self { bytes, frames, .. } = self;
        let pumped = poll_pump(from, to, cx, |data| {
            *bytes += data.len() as u64;
            if let Some(frames) = frames {
                frames.pass(data);
            }
        });
        match pumped {
            Poll::Pending => Ok(()),
            Poll::Ready(Ok(())) => {
                self.ended = true;
                Ok(())
            }
            Poll::Ready(Err(_)) => Err(()),
        }
    }
}

impl Tunnel {
    pub(crate) fn new(
        worker: Arc<Worker>,
        backend: Side,
        in_flight: InFlight,
        mut closing: Closing,
        websocket: bool,
    ) -> Self {
        closing.request.fields.shrink(0);
        let way = || Way {
            frames: websocket.then(Frames::default),
            ..Way::default()
        };
        Self {
            watch: Watch::new(worker.drain.clone()),
            worker,
            backend,
            _in_flight: in_flight,
            closing,
            up: way(),
            down: way(),
        }
    }

    /// Forwards bytes until both directions have ended, one has failed, or the router stops.
    pub(crate) async fn run(mut self: Box<Self>, mut client: Side) {
        std::future::poll_fn(|cx| self.poll(cx, &mut client)).await;
        if self.worker.drain.is_over() {
            let _ = timeout(FAREWELL, self.send_going_away(&mut client)).await;
        }
        let Closing {
            mut record,
            host,
            client: peer,
            request,
        } = self.closing;
        (record.received, record.sent) = (self.up.bytes, self.down.bytes);
        finish(record, &self.worker, &peer, host, &request);
    }

    fn poll(&mut self, cx: &mut Context<'_>, client: &mut Side) -> Poll<()> {
        self.watch.register(cx);
        let up = self.up.poll(client, &mut self.backend, cx);
        let down = self.down.poll(&mut self.backend, client, cx);
        let ended = self.up.ended && self.down.ended;
        if up.is_err() || down.is_err() || ended || self.worker.drain.is_over() {
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Sends 1001, "going away", to each side that is between two frames. A side in the middle of a frame first receives the rest
    /// of it, if it arrives.
    async fn send_going_away(&mut self, client: &mut Side) {
        let (mut to_client, mut to_backend) = (false, false);
        std::future::poll_fn(|cx| {
            let between = |way: &Way| way.frames.as_ref().is_some_and(Frames::between);
            if !to_client && between(&self.down) {
                client.push(Frames::GOING_AWAY);
                to_client = true;
            }
            if !to_backend && between(&self.up) {
                self.backend.push(Frames::GOING_AWAY_MASKED);
                to_backend = true;
            }
            let one = client.poll_flush(cx);
            let other = self.backend.poll_flush(cx);
            let awaited = |sent: bool, way: &Way| !sent && !way.ended && way.frames.is_some();
            if !awaited(to_client, &self.down) && !awaited(to_backend, &self.up) {
                return match (one, other) {
                    (Poll::Ready(_), Poll::Ready(_)) => Poll::Ready(()),
                    _ => Poll::Pending,
                };
            }
            let up = to_backend || self.up.poll(client, &mut self.backend, cx).is_ok();
            let down = to_client || self.down.poll(&mut self.backend, client, cx).is_ok();
            if !up || !down {
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
    }
}
