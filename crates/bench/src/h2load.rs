//! h2load, nghttp2's closed-loop generator: 16 connections with 4 streams each, so that as many requests are in flight as with
//! wrk.

use crate::wrk::{Load, children_cpu};
use anyhow::{Context as _, Result, ensure};
use std::process::Command;
use std::time::Instant;

const CONNECTIONS: usize = 16;
const STREAMS: usize = 4;

/// Runs the generator. Errors and statuses other than 2xx make the run fail, and so does another protocol than HTTP/2.
pub(crate) fn run(core: usize, url: &str, host: &str, seconds: u64) -> Result<Load> {
    let before = children_cpu()?;
    let began = Instant::now();
    let output = Command::new("taskset")
        .args(["-c", &core.to_string(), "h2load", "-t1"])
        .args([format!("-c{CONNECTIONS}"), format!("-m{STREAMS}")])
        .args([format!("--duration={seconds}"), "--npn-list=h2".to_owned()])
        .args(["-H", &format!(":authority: {host}"), url])
        .output()
        .context("run h2load: scripts/setup-bench installs it")?;
    let elapsed = began.elapsed();
    let text = String::from_utf8_lossy(&output.stdout);
    let description = || {
        let errors = String::from_utf8_lossy(&output.stderr);
        format!("h2load {url}: {text}{errors}")
    };
    ensure!(
        output.status.success() && text.contains("Application protocol: h2\n"),
        description()
    );
    let answered = Answered::read(&text).with_context(description)?;
    ensure!(
        answered.bad == 0 && answered.good > 0 && answered.right == answered.good,
        description()
    );
    Ok(Load {
        requests: answered.good as f64,
        elapsed,
        cpu: children_cpu()?.saturating_sub(before),
    })
}

#[derive(Debug, PartialEq, Eq)]
struct Answered {
    good: u64,
    /// The number of requests that failed, broke or were late.
    bad: u64,
    /// The number of responses with a status of 2xx.
    right: u64,
}

impl Answered {
    /// Reads the lines "requests: … 61728 succeeded, 0 failed, 0 errored, 0 timeout" and "status codes: 61728 2xx, …".
    fn read(text: &str) -> Option<Self> {
        let line = |start: &str| text.lines().find_map(|line| line.strip_prefix(start));
        let count = |line: &str, what: &str| -> Option<u64> {
            let part = line.split(',').find_map(|part| part.strip_suffix(what))?;
            part.trim().parse().ok()
        };
        let requests = line("requests: ")?;
        let bad = [" failed", " errored", " timeout"];
        let bad: Option<Vec<u64>> = bad.iter().map(|what| count(requests, what)).collect();
        Some(Self {
            good: count(requests, " succeeded")?,
            bad: bad?.iter().sum(),
            right: count(line("status codes: ")?, " 2xx")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts() {
        let text = "Application protocol: h2\n\nfinished in 2.00s, 13 req/s, 1.2MB/s
requests: 30 total, 31 started, 30 done, 27 succeeded, 1 failed, 2 errored, 3 timeout
status codes: 27 2xx, 0 3xx, 1 4xx, 0 5xx\n";
        let expected = Answered {
            good: 27,
            bad: 6,
            right: 27,
        };
        assert_eq!(Answered::read(text), Some(expected));
        assert_eq!(Answered::read("nothing"), None);
    }
}
