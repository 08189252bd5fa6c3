//! The open-loop generator: requests leave on a fixed schedule, whatever the answers do, and each latency counts from
//! the scheduled time. So a server that stalls is charged for every request that had to wait (no coordinated omission).
//!
//! One thread with 64 connections: the generator shares its core with the backend, so it must be cheap. A request takes
//! the connection that has been idle longest, and waits if there is none. How late the generator itself was is measured
//! too: where that is no small part of the latencies, they say nothing about the server.

use crate::client::{Client, Target, request};
use crate::statistics::quantile;
use anyhow::{Result, ensure};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::prctl;
use nix::sys::time::TimeSpec;
use std::collections::VecDeque;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

const CONNECTIONS: usize = 64;
/// The first part of a run does not count: connections and pools fill.
const WARM_UP: Duration = Duration::from_secs(1);
/// Of a server that answers nothing at all.
const PATIENCE: Duration = Duration::from_secs(10);

/// Milliseconds, sorted.
pub(crate) struct Load {
    /// Of each request, from the time for which it was scheduled.
    pub(crate) latencies: Vec<f64>,
    /// How much later than scheduled a request left that found an idle connection: the generator's own fault.
    late: Vec<f64>,
}

impl Load {
    /// How late one of a hundred requests left, in milliseconds.
    pub(crate) fn late_p99(&self) -> f64 {
        quantile(&self.late, 0.99)
    }
}

struct Generator {
    clients: Vec<Client>,
    request: Vec<u8>,
    epoll: Epoll,
    /// Longest idle first.
    idle: VecDeque<usize>,
    /// When the request on each connection should have left.
    scheduled: Vec<Instant>,
    /// Before this, nothing counts.
    count_from: Instant,
    load: Load,
}

/// All requests at this rate; every answer must be 200.
pub(crate) fn run(target: &Target, host: &str, rate: f64, duration: Duration) -> Result<Load> {
    // Wake up when asked to, not up to 50 µs later.
    prctl::set_timerslack(1)?;
    let mut generator = Generator::connect(target, host)?;
    let start = Instant::now() + Duration::from_millis(100);
    generator.count_from = start + WARM_UP;
    let end = generator.count_from + duration;
    let at = |n: u64| start + Duration::from_secs_f64(n as f64 / rate);
    let mut waiting = VecDeque::new();
    let (mut sent, mut heard) = (0, Instant::now());
    loop {
        while at(sent) < end && at(sent) <= Instant::now() {
            match generator.idle.pop_front() {
                Some(n) => generator.send(n, at(sent), true)?,
                None => waiting.push_back(at(sent)),
            }
            sent += 1;
        }
        let now = Instant::now();
        if at(sent) >= end && waiting.is_empty() && generator.idle.len() == CONNECTIONS {
            break;
        }
        let due = if at(sent) < end {
            at(sent)
        } else {
            now + PATIENCE
        };
        if generator.wait(due.saturating_duration_since(now))? {
            heard = now;
        }
        ensure!(
            now - heard < PATIENCE + Duration::from_millis(200),
            "{host} answered nothing for {} s",
            PATIENCE.as_secs()
        );
        while let (Some(scheduled), Some(n)) = (waiting.front(), generator.idle.front()) {
            generator.send(*n, *scheduled, false)?;
            generator.idle.pop_front();
            waiting.pop_front();
        }
    }
    let mut load = generator.load;
    load.latencies.sort_by(f64::total_cmp);
    load.late.sort_by(f64::total_cmp);
    Ok(load)
}

impl Generator {
    fn connect(target: &Target, host: &str) -> Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::empty())?;
        let mut clients = Vec::new();
        for n in 0..CONNECTIONS {
            let mut client = Client::connect(target)?;
            let status = client.get(host)?;
            ensure!(status == 200, "{host} answered {status}");
            let event = EpollEvent::new(EpollFlags::EPOLLIN, n as u64);
            epoll.add(client.unblock()?, event)?;
            clients.push(client);
        }
        let now = Instant::now();
        Ok(Self {
            clients,
            request: request(host),
            epoll,
            idle: (0..CONNECTIONS).collect(),
            scheduled: vec![now; CONNECTIONS],
            count_from: now,
            load: Load {
                latencies: Vec::new(),
                late: Vec::new(),
            },
        })
    }

    /// `at_once`: there was an idle connection, so that lateness is our own.
    fn send(&mut self, n: usize, scheduled: Instant, at_once: bool) -> Result<()> {
        if at_once && scheduled >= self.count_from {
            self.load.late.push(milliseconds_since(scheduled));
        }
        self.scheduled[n] = scheduled;
        self.clients[n].send(&self.request)
    }

    /// Takes the answers that come within this time; false: none did.
    fn wait(&mut self, patience: Duration) -> Result<bool> {
        // epoll itself counts in milliseconds.
        let ready = ppoll(
            &mut [PollFd::new(self.epoll.0.as_fd(), PollFlags::POLLIN)],
            Some(TimeSpec::from_duration(patience)),
            None,
        );
        match ready {
            Ok(0) | Err(Errno::EINTR) => return Ok(false),
            other => other?,
        };
        let mut events = [EpollEvent::empty(); CONNECTIONS];
        let count = self.epoll.wait(&mut events, EpollTimeout::ZERO)?;
        for event in &events[..count] {
            let n = usize::try_from(event.data())?;
            let Some(status) = self.clients[n].receive()? else {
                continue;
            };
            ensure!(status == 200, "an answer was {status}");
            if self.scheduled[n] >= self.count_from {
                let latency = milliseconds_since(self.scheduled[n]);
                self.load.latencies.push(latency);
            }
            self.idle.push_back(n);
        }
        Ok(true)
    }
}

fn milliseconds_since(then: Instant) -> f64 {
    then.elapsed().as_secs_f64() * 1000.0
}
