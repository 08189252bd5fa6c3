//! wrk, the closed-loop generator: 64 connections, each of which sends its next request when the last one is answered.

use anyhow::{Context as _, Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use std::process::Command;
use std::time::{Duration, Instant};

pub(crate) const CONNECTIONS: usize = 64;

pub(crate) struct Load {
    pub(crate) requests: f64,
    pub(crate) elapsed: Duration,
    /// The CPU time of wrk itself.
    pub(crate) cpu: Duration,
}

/// Runs the generator. Errors and statuses other than 2xx make the run fail.
pub(crate) fn run(core: usize, url: &str, host: &str, seconds: u64) -> Result<Load> {
    let before = children_cpu()?;
    let began = Instant::now();
    let output = Command::new("taskset")
        .args(["-c", &core.to_string(), "wrk", "-t1"])
        .args([format!("-c{CONNECTIONS}"), format!("-d{seconds}s")])
        .args(["-H", &format!("Host: {host}"), url])
        .output()
        .context("run wrk: scripts/setup-bench installs it")?;
    let elapsed = began.elapsed();
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && !text.contains("Socket errors") && !text.contains("Non-2xx"),
        "wrk {url}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(Load {
        requests: requests(&text).with_context(|| format!("cannot read wrk's output: {text}"))?,
        elapsed,
        cpu: children_cpu()?.saturating_sub(before),
    })
}

/// Returns the CPU time of the children that have ended.
pub(crate) fn children_cpu() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let micros = (usage.user_time() + usage.system_time()).num_microseconds();
    Ok(Duration::from_micros(micros.try_into()?))
}

/// Reads the line "123456 requests in 5.00s, 140.00MB read".
fn requests(text: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.contains(" requests in "))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_number_of_requests() {
        let text = "Running 2s test\n  58467 requests in 2.10s, 61.1MB read\nRequests/sec: 1\n";
        assert_eq!(super::requests(text), Some(58467.0));
        assert_eq!(super::requests("nothing"), None);
    }
}
