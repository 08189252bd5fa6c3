//! The open-loop generator: requests leave on a fixed schedule, whatever the responses do, and each latency counts from the
//! scheduled time. So a server that stalls is charged for every request that had to wait (no coordinated omission).
//!
//! There are 64 connections, in the thread of the backend ([`crate::ends`]). A request uses the connection that has been idle
//! longest, and waits if there is none. The delay of the generator itself is measured too: where it is not a small part of the
//! latencies, they do not show the speed of the server.

use crate::client::{Client, request};
use crate::ends::Server;
use anyhow::{Result, ensure};
use route_timing::statistics::quantile;
use std::collections::VecDeque;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

pub(crate) const CONNECTIONS: usize = 64;
/// The first part of a run, which does not count, because connections and pools are filled in it.
const WARM_UP: Duration = Duration::from_secs(1);
/// The time after which a server that answers nothing at all has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// The results in milliseconds, sorted.
pub(crate) struct Load {
    /// The latency of each request, from the time for which it was scheduled.
    pub(crate) latencies: Vec<f64>,
    /// The delays with which requests left that found an idle connection. They are the generator's own fault.
    late: Vec<f64>,
}

impl Load {
    /// Returns the delay that one of a hundred requests exceeded, in milliseconds.
    pub(crate) fn late_p99(&self) -> f64 {
        quantile(&self.late, 0.99)
    }
}

/// A generator whose load has not begun.
pub(crate) struct Generator {
    clients: Vec<Client>,
    request: Vec<u8>,
    rate: f64,
    duration: Duration,
    /// The idle connections, the longest idle first.
    idle: VecDeque<usize>,
    /// The time at which the request on each connection should have left.
    scheduled: Vec<Instant>,
    /// The time before which nothing counts.
    count_from: Instant,
    host: String,
    load: Load,
}

impl Generator {
    pub(crate) fn new(clients: Vec<Client>, host: &str, rate: f64, duration: Duration) -> Self {
        let now = Instant::now();
        Self {
            idle: (0..clients.len()).collect(),
            scheduled: vec![now; clients.len()],
            clients,
            request: request(host),
            rate,
            duration,
            count_from: now,
            host: host.to_owned(),
            load: Load {
                latencies: Vec::new(),
                late: Vec::new(),
            },
        }
    }

    pub(crate) fn run(mut self, server: &mut Server) -> Result<Load> {
        for (n, client) in self.clients.iter().enumerate() {
            server.await_input(client.socket().as_fd(), n as u64)?;
        }
        let start = Instant::now() + Duration::from_millis(100);
        self.count_from = start + WARM_UP;
        let (end, rate) = (self.count_from + self.duration, self.rate);
        let at = |n: u64| start + Duration::from_secs_f64(n as f64 / rate);
        let mut waiting = VecDeque::new();
        let (mut sent, mut last_answer) = (0, Instant::now());
        loop {
            while at(sent) < end && at(sent) <= Instant::now() {
                match self.idle.pop_front() {
                    Some(n) => self.send(n, at(sent), true)?,
                    None => waiting.push_back(at(sent)),
                }
                sent += 1;
            }
            let now = Instant::now();
            if at(sent) >= end && waiting.is_empty() && self.idle.len() == self.clients.len() {
                break;
            }
            let due = if at(sent) < end {
                at(sent)
            } else {
                now + PATIENCE
            };
            let ready = server.wait(due.saturating_duration_since(now))?;
            if !ready.is_empty() {
                last_answer = now;
            }
            self.receive(&ready)?;
            ensure!(
                now - last_answer < PATIENCE + Duration::from_millis(200),
                "{} answered nothing for {} s",
                self.host,
                PATIENCE.as_secs()
            );
            while let (Some(scheduled), Some(n)) = (waiting.front(), self.idle.front()) {
                self.send(*n, *scheduled, false)?;
                self.idle.pop_front();
                waiting.pop_front();
            }
        }
        self.load.latencies.sort_by(f64::total_cmp);
        self.load.late.sort_by(f64::total_cmp);
        Ok(self.load)
    }

    /// Sends a request. `at_once` means that there was an idle connection, so that a delay is our own fault.
    fn send(&mut self, n: usize, scheduled: Instant, at_once: bool) -> Result<()> {
        if at_once && scheduled >= self.count_from {
            self.load.late.push(milliseconds_since(scheduled));
        }
        self.scheduled[n] = scheduled;
        self.clients[n].send(&self.request)
    }

    /// Handles the responses that have come on these connections.
    fn receive(&mut self, ready: &[u64]) -> Result<()> {
        for number in ready {
            let n = usize::try_from(*number)?;
            let Some(status) = self.clients[n].receive()? else {
                continue;
            };
            ensure!(
                status == 200,
                "expected status 200, the answer has {status}"
            );
            if self.scheduled[n] >= self.count_from {
                let latency = milliseconds_since(self.scheduled[n]);
                self.load.latencies.push(latency);
            }
            self.idle.push_back(n);
        }
        Ok(())
    }
}

fn milliseconds_since(then: Instant) -> f64 {
    then.elapsed().as_secs_f64() * 1000.0
}
