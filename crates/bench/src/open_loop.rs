//! The open-loop generator: requests leave on a fixed schedule, whatever the answers do, and each latency counts from
//! the scheduled time. So a server that stalls is charged for every request that had to wait (no coordinated omission).
//!
//! One thread for each connection; its requests are `connections / rate` apart, and the threads are shifted against
//! each other, so that the whole is evenly spaced.

use crate::client::{Client, Target, request};
use anyhow::{Result, ensure};
use nix::sys::prctl;
use std::thread;
use std::time::{Duration, Instant};

const CONNECTIONS: u32 = 64;
/// The first part of a run does not count: connections and pools fill.
const WARM_UP: Duration = Duration::from_secs(1);

/// Sorted latencies in milliseconds of all requests at this rate; every answer must be 200.
pub(crate) fn run(target: &Target, host: &str, rate: f64, duration: Duration) -> Result<Vec<f64>> {
    let period = Duration::from_secs_f64(f64::from(CONNECTIONS) / rate);
    let clients = (0..CONNECTIONS)
        .map(|_| Client::connect(target))
        .collect::<Result<Vec<_>>>()?;
    let start = Instant::now() + Duration::from_millis(100);
    let threads: Vec<_> = (0..CONNECTIONS)
        .zip(clients)
        .map(|(n, client)| {
            let first = start + period * n / CONNECTIONS;
            let host = host.to_owned();
            thread::spawn(move || one(client, &host, first, period, WARM_UP + duration))
        })
        .collect();
    let mut latencies = Vec::new();
    for thread in threads {
        let times = thread
            .join()
            .map_err(|_| anyhow::anyhow!("a generator thread panicked"))??;
        latencies.extend(times);
    }
    latencies.sort_by(f64::total_cmp);
    Ok(latencies)
}

fn one(
    mut client: Client,
    host: &str,
    first: Instant,
    period: Duration,
    duration: Duration,
) -> Result<Vec<f64>> {
    // Wake up when asked to, not up to 50 µs later.
    prctl::set_timerslack(1)?;
    let request = request(host);
    let mut latencies = Vec::new();
    let mut scheduled = first;
    while scheduled < first + duration {
        thread::sleep(scheduled.saturating_duration_since(Instant::now()));
        let status = client.exchange(&request)?;
        ensure!(status == 200, "{host} answered {status}");
        if scheduled >= first + WARM_UP {
            latencies.push(scheduled.elapsed().as_secs_f64() * 1000.0);
        }
        scheduled += period;
    }
    Ok(latencies)
}
