//! One exchange of a request and a response between a client and a backend: the state that both directions need, and the waiting.

use crate::backend::Rest;
use crate::backend::fault::Fault;
use crate::path::forwarded;
use crate::path::protocol::{self, patience};
use crate::worker::Worker;
use http_sides::drain::Watch;
use http_sides::timer::Timer;
use http_sides::{Answered, Side, Unfinished, poll_pump};
use http1::{Known, Refusal, Request, Response};
use route_table::registry::InFlight;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// A client with its request and the answer in the making. It is used again for each request of a connection.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) worker: Arc<Worker>,
    pub(crate) client: Side,
    pub(crate) request: Request,
    pub(crate) response: Response,
    pub(crate) timer: Timer,
    pub(crate) watch: Watch,
}

impl Exchange {
    pub(crate) fn new(worker: Arc<Worker>, client: Side) -> Self {
        Self {
            watch: Watch::new(worker.drain.clone()),
            worker,
            client,
            request: Request::default(),
            response: Response::default(),
            timer: Timer::default(),
        }
    }

    /// Forwards the request's body until the backend's last head has arrived.
    pub(crate) async fn await_answer(
        &mut self,
        backend: &mut Side,
        upload: &mut Upload,
        deadline: Instant,
    ) -> Result<(), Fault> {
        poll_fn(|cx| self.poll_answer(cx, backend, upload, deadline)).await
    }

    fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        backend: &mut Side,
        upload: &mut Upload,
        deadline: Instant,
    ) -> Poll<Result<(), Fault>> {
        self.watch.register(cx);
        // The heads are read before the next part of the body goes out: otherwise the end of the body would hide that the backend
        // did not wait for it.
        if upload.sent
            && !upload.done
            && let Poll::Ready(answered) = self.poll_heads(cx, backend, upload)
        {
            return Poll::Ready(answered);
        }
        upload.poll(cx, &mut self.client, backend)?;
        if let Poll::Ready(answered) = self.poll_heads(cx, backend, upload) {
            return Poll::Ready(answered);
        }
        // The rest of a 1xx answer is sent here.
        if matches!(self.client.poll_flush(cx), Poll::Ready(Err(_)))
            || upload.done && self.client.poll_gone(cx).is_ready()
            || self.worker.drain.is_over()
        {
            return Poll::Ready(Err(Fault::ClientGone));
        }
        let stalled = upload.stalled_at(&self.client, backend, &self.request, &self.worker);
        let leave = upload.leave_at(&self.request);
        let next = [stalled, leave]
            .into_iter()
            .flatten()
            .fold(deadline, Instant::min);
        match self.timer.poll(cx, next) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) if leave == Some(next) => {
                upload.leave_given = true;
                let mut go_on = Response::default();
                go_on.begin(100, "Continue");
                self.client.send_informational(&go_on, self.request.version);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Ready(()) if next < deadline => Poll::Ready(Err(Fault::BodyTimeout)),
            Poll::Ready(()) => Poll::Ready(Err(Fault::Timeout)),
        }
    }

    /// Reads the backend's heads, as far as they have arrived. It is ready with the last one, or when none will follow.
    fn poll_heads(
        &mut self,
        cx: &mut Context<'_>,
        backend: &mut Side,
        upload: &mut Upload,
    ) -> Poll<Result<(), Fault>> {
        let limits = protocol::response_limits(&self.worker.shared.settings);
        let to_head = self.request.is("HEAD");
        loop {
            let answered = ready!(backend.poll_answer(cx, &mut self.response, &limits, to_head));
            return Poll::Ready(match answered {
                Ok(Answered::Final) => {
                    upload.early = !upload.done;
                    Ok(())
                }
                Ok(Answered::Informational) => {
                    upload.leave_given |= self.response.status == 100;
                    forwarded::apply_to_response(&mut self.response.fields);
                    let version = self.request.version;
                    self.client.send_informational(&self.response, version);
                    continue;
                }
                Ok(Answered::End { .. }) if !upload.sent => Err(Fault::Unsent),
                Ok(Answered::End { clean: true }) => Err(Fault::Ended),
                Ok(Answered::End { clean: false }) => Err(Fault::Other("unexpected EOF".into())),
                Ok(Answered::Refused(Refusal::HeadTooLarge)) => Err(Fault::LargeHead(limits.bytes)),
                Ok(Answered::Refused(refusal)) => Err(Fault::BadResponse(refusal.to_string())),
                Ok(Answered::Failed(error)) => Err(Fault::from_http2(&error)),
                Err(error) => Err(Fault::from_io(&error, upload.sent)),
            });
        }
    }

    /// Forwards the answer's body to the client, and the rest of the request's body to the backend.
    pub(crate) async fn relay(&mut self, delivery: &mut Delivery) -> Relayed {
        let mut stall = Stall::default();
        poll_fn(|cx| self.poll_relay(cx, delivery, &mut stall)).await
    }

    fn poll_relay(
        &mut self,
        cx: &mut Context<'_>,
        delivery: &mut Delivery,
        stall: &mut Stall,
    ) -> Poll<Relayed> {
        self.watch.register(cx);
        let Delivery {
            backend, upload, ..
        } = delivery;
        if upload.poll(cx, &mut self.client, backend).is_err() {
            return Poll::Ready(Relayed::ClientGone);
        }
        upload.discard(cx, &mut self.client);
        let sent = &mut delivery.sent;
        let pumped = poll_pump(backend, &mut self.client, cx, |data| {
            *sent += data.len() as u64;
        });
        match pumped {
            Poll::Ready(Ok(())) => return Poll::Ready(Relayed::Whole),
            Poll::Ready(Err(Unfinished::ReceiverGone)) => return Poll::Ready(Relayed::ClientGone),
            Poll::Ready(Err(Unfinished::SenderGone | Unfinished::Malformed(_))) => {
                return Poll::Ready(Relayed::BackendBroke);
            }
            Poll::Pending => {}
        }
        if delivery.upload.done && self.client.poll_gone(cx).is_ready() {
            return Poll::Ready(Relayed::ClientGone);
        }
        if self.worker.drain.is_over() {
            return Poll::Ready(Relayed::TimedOut);
        }
        let limit = patience(self.worker.shared.settings.body_idle_timeout);
        let stalled = stall.since(self.client.backlog()).map(|at| at + limit);
        let next = stalled.map_or(delivery.deadline, |at| at.min(delivery.deadline));
        match self.timer.poll(cx, next) {
            Poll::Ready(()) => Poll::Ready(Relayed::TimedOut),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// The end of the forwarding of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relayed {
    Whole,
    ClientGone,
    BackendBroke,
    TimedOut,
}

impl Relayed {
    /// Returns why the answer did not reach its end; `None`: it did.
    pub(crate) fn reason(self) -> Option<&'static str> {
        match self {
            Self::Whole => None,
            Self::ClientGone => Some("the client has gone"),
            Self::BackendBroke => Some("the backend broke its answer off"),
            Self::TimedOut => Some("the time for the answer is over"),
        }
    }
}

/// The state of the request's body on its way to the backend.
#[derive(Debug, Default)]
pub(crate) struct Upload {
    /// Whether all of it has gone to the backend.
    pub(crate) done: bool,
    /// Whether the backend has stopped accepting it; the backend may answer all the same.
    failed: bool,
    /// Whether the backend answered before all of it had gone. It is then unknown whether the backend will read the rest or
    /// close.
    early: bool,
    /// Whether the head has gone to the backend.
    sent: bool,
    /// The bytes of the body that have arrived.
    pub(crate) received: u64,
    progress: Option<(u64, Instant)>,
    /// Whether the client has received a `100 Continue`, or needs none.
    leave_given: bool,
    /// The time since when the client waits for a `100 Continue`.
    waits_since: Option<Instant>,
}

/// The largest number of bytes of a body that the router reads although no backend accepts them.
pub(crate) const MOST_DISCARDED: u64 = 1 << 30;

/// The time that a backend may take to send `100 Continue`. Some backends never send it, and only wait for the body.
const LEAVE: Duration = Duration::from_secs(1);

impl Upload {
    /// Returns when the router itself sends `100 Continue` to a client that asked for it.
    fn leave_at(&mut self, request: &Request) -> Option<Instant> {
        let waits = !self.leave_given
            && !self.done
            && self.received == 0
            && request.fields.contains(Known::Expect);
        waits.then(|| *self.waits_since.get_or_insert_with(Instant::now) + LEAVE)
    }

    /// Returns whether the backend may have seen the request.
    pub(crate) fn head_is_out(&self) -> bool {
        self.sent
    }

    /// Forwards what has arrived of the body. An error is a fault that the client caused.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Side,
        backend: &mut Side,
    ) -> Result<(), Fault> {
        if self.done || self.failed {
            return Ok(());
        }
        let received = &mut self.received;
        match poll_pump(client, backend, cx, |data| *received += data.len() as u64) {
            Poll::Ready(Ok(())) => self.done = true,
            Poll::Ready(Err(Unfinished::ReceiverGone)) => self.failed = true,
            Poll::Ready(Err(Unfinished::SenderGone)) => return Err(Fault::ClientGone),
            Poll::Ready(Err(Unfinished::Malformed(refusal))) => {
                return Err(Fault::BadBody(refusal));
            }
            Poll::Pending => {}
        }
        self.sent |= !self.failed && backend.backlog() == 0;
        Ok(())
    }

    /// Reads and discards what the backend does not accept any more: a client that sends all of its body before it reads the
    /// answer would otherwise never read it. An error here shows when the answer is sent.
    fn discard(&mut self, cx: &mut Context<'_>, client: &mut Side) {
        while self.failed && self.received < MOST_DISCARDED && !client.body_ended() {
            let received = &mut self.received;
            if client.skip(|data| *received += data.len() as u64).is_err() {
                return;
            }
            if client.body_ended() || !matches!(client.poll_more(cx), Poll::Ready(Ok(()))) {
                return;
            }
        }
    }

    /// Returns when the client will have been silent for too long in the middle of its body.
    fn stalled_at(
        &mut self,
        client: &Side,
        backend: &Side,
        request: &Request,
        worker: &Worker,
    ) -> Option<Instant> {
        let waits_for_leave = self.received == 0 && request.fields.contains(Known::Expect);
        if self.done
            || self.failed
            || waits_for_leave
            || backend.backlog() > 0
            || client.body_ended()
        {
            self.progress = None;
            return None;
        }
        let since = match self.progress {
            Some((received, since)) if received == self.received => since,
            _ => Instant::now(),
        };
        self.progress = Some((self.received, since));
        Some(since + patience(worker.shared.settings.body_idle_timeout))
    }
}

/// The time since when the receiver has not accepted a byte.
#[derive(Debug, Default)]
struct Stall(Option<(usize, Instant)>);

impl Stall {
    fn since(&mut self, backlog: usize) -> Option<Instant> {
        if backlog == 0 {
            self.0 = None;
            return None;
        }
        let since = match self.0 {
            Some((before, since)) if before == backlog => since,
            _ => Instant::now(),
        };
        self.0 = Some((backlog, since));
        Some(since)
    }
}

/// The part of a body in bytes that a backend has most often read when it has read the head.
const READ_AT_ONCE: u64 = 8 << 10;

/// A backend that has answered.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) backend: Side,
    pub(crate) transport: u128,
    pub(crate) in_flight: InFlight,
    /// The time by which the answer must have ended.
    pub(crate) deadline: Instant,
    pub(crate) upload: Upload,
    /// The status of the answer.
    pub(crate) status: u16,
    /// The bytes of the answer's body that were sent.
    pub(crate) sent: u64,
    /// Whether the backend will accept another request on this connection.
    pub(crate) keep_alive: bool,
}

impl Delivery {
    /// Returns the connection to the idle ones after the end of the answer, if it is clean.
    ///
    /// A backend that answered before it had received the whole request may close at any time, and a request that meets the close
    /// is lost. Such a connection is not used again. Only the backend knows whether it has read everything that it was sent.
    /// Where that is doubtful, the connection first rests for a while, in which a close would arrive.
    pub(crate) fn return_connection(self, worker: &Worker) {
        let Upload {
            done,
            early,
            received,
            ..
        } = self.upload;
        if let Side::Http1(mut side) = self.backend
            && self.keep_alive
            && done
            && !early
            && side.is_done()
        {
            let doubtful = received > 0 && (self.status >= 300 || received > READ_AT_ONCE);
            let rest = if doubtful { Rest::Needed } else { Rest::No };
            worker.connections.put(self.transport, side, rest);
        }
    }
}
