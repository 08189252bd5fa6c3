//! One exchange of a request and a response between a client and a backend: what both need on the way, and the waiting.

use crate::backend::Rest;
use crate::backend::failure::Fault;
use crate::forwarded;
use crate::protocol::{self, patience};
use crate::router::Worker;
use crate::side::drain::Watch;
use crate::side::timer::Timer;
use crate::side::{Answered, Broken, Side, poll_pump};
use http1::{Known, Refusal, Request, Response};
use routing::registry::InFlight;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// A client with its request, and the answer in the making. Used again for each request of a connection.
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
            watch: Watch::new(worker.clone()),
            worker,
            client,
            request: Request::default(),
            response: Response::default(),
            timer: Timer::default(),
        }
    }

    /// Passes the request's body on until the backend's last head is there.
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
        // Before the next part of the body goes out: its end must not hide that the backend has not waited for it.
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
        // What a 1xx has left to say.
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

    /// The backend's heads, as far as they are there; ready with the last one, or when there will be none.
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

    /// Passes the answer's body on to the client, and what is left of the request's body to the backend.
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
            Poll::Ready(Err(Broken::To)) => return Poll::Ready(Relayed::ClientGone),
            Poll::Ready(Err(Broken::From | Broken::Malformed(_))) => {
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

/// How the passing on of an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relayed {
    Whole,
    ClientGone,
    BackendBroke,
    TimedOut,
}

/// The request's body on its way.
#[derive(Debug, Default)]
pub(crate) struct Upload {
    /// All of it has gone to the backend.
    pub(crate) done: bool,
    /// The backend does not take it any more; it may answer all the same.
    failed: bool,
    /// The backend answered before all of it had gone: nobody knows whether it will read the rest, or close.
    early: bool,
    /// The head has gone to the backend.
    sent: bool,
    /// Bytes of the body that have come.
    pub(crate) received: u64,
    progress: Option<(u64, Instant)>,
    /// The client has been told to send its body, or need not be.
    leave_given: bool,
    /// Since when the client waits for that.
    waits_since: Option<Instant>,
}

/// Most bytes of a body that are read though nobody wants them.
pub(crate) const MOST_DISCARDED: u64 = 1 << 30;

/// How long a backend may take to let the client send its body; some never do, and only wait for it.
const LEAVE: Duration = Duration::from_secs(1);

impl Upload {
    /// When the router lets the client send the body that it has asked leave for.
    fn leave_at(&mut self, request: &Request) -> Option<Instant> {
        let waits = !self.leave_given
            && !self.done
            && self.received == 0
            && request.fields.contains(Known::Expect);
        waits.then(|| *self.waits_since.get_or_insert_with(Instant::now) + LEAVE)
    }

    /// Whether the backend may have seen the request.
    pub(crate) fn head_is_out(&self) -> bool {
        self.sent
    }

    /// An error is the client's fault.
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
            Poll::Ready(Err(Broken::To)) => self.failed = true,
            Poll::Ready(Err(Broken::From)) => return Err(Fault::ClientGone),
            Poll::Ready(Err(Broken::Malformed(refusal))) => return Err(Fault::BadBody(refusal)),
            Poll::Pending => {}
        }
        self.sent |= !self.failed && backend.backlog() == 0;
        Ok(())
    }

    /// Reads what the backend does not take any more, and throws it away: a client that sends all of its body before it
    /// reads the answer would otherwise never read it. What goes wrong here shows when the answer is sent.
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

    /// When the client has been silent for too long in the middle of its body.
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

/// Since when somebody has not taken a byte.
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

/// A backend that reads a request's head has most often read so much of its body as well.
const READ_AT_ONCE: u64 = 8 << 10;

/// A backend that has answered.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) backend: Side,
    pub(crate) transport: u128,
    pub(crate) in_flight: InFlight,
    /// For the end of the answer.
    pub(crate) deadline: Instant,
    pub(crate) upload: Upload,
    /// Of the answer.
    pub(crate) status: u16,
    /// Bytes of the answer's body.
    pub(crate) sent: u64,
    /// The backend will take another request.
    pub(crate) keep_alive: bool,
}

impl Delivery {
    /// The answer has come to its end: others may use the connection, if it is clean.
    ///
    /// A backend that answered before it was sent everything may close at any time, and a request that meets the close is
    /// lost: nobody else gets that connection. Whether a backend has read what it was sent, only it knows; when there is
    /// reason for doubt, the connection rests for a while first, in which a close would arrive.
    pub(crate) fn give_back(self, worker: &Worker) {
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
