//! router-flame: shows where our router spends its time. It runs `perf record` on the router under wrk, and writes
//! `flame-http.folded` and `flame-https.folded` (one line for each stack, for any flame-graph program) beside the report.

mod stacks;

use super::progress;
use crate::peers::{Peer, Scheme};
use crate::rig::{HOST, Rig};
use crate::table::Table;
use crate::wrk;
use anyhow::{Context as _, Result, ensure};
use stacks::Profile;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

/// The number of samples per second; a prime, so that they are not in step with timers.
const FREQUENCY: &str = "997";
const TOP: usize = 25;

pub(super) fn run(rig: &Rig, folder: &Path) -> Result<String> {
    let mut text = String::new();
    for (scheme, name) in [(Scheme::Http, "http"), (Scheme::Https, "https")] {
        let profile = record(rig, scheme)?;
        let file = folder.join(format!("flame-{name}.folded"));
        std::fs::write(&file, profile.folded())?;
        progress(&format!(
            "   {} samples, stacks in {}",
            profile.samples(),
            file.display()
        ));
        let _ = write!(
            text,
            "### {name}, {} samples\n\n{}\n\n{}\n\n",
            profile.samples(),
            shares("Layer", &profile.layers(), usize::MAX),
            shares("Function (own time)", &profile.own_time(), TOP),
        );
    }
    Ok(text)
}

fn record(rig: &Rig, scheme: Scheme) -> Result<Profile> {
    let router = Peer::Cupola.start(scheme, rig)?;
    let pid = router
        .process()
        .context("the router does not run")?
        .pid()
        .to_string();
    let url = router.url(scheme);
    wrk::run(rig.load_core, &url, HOST, 1)?;
    let data = rig.path("perf.data");
    let seconds = rig.effort.seconds + 2;
    let core = rig.load_core;
    let load = std::thread::spawn(move || wrk::run(core, &url, HOST, seconds + 2));
    // Without hardware counters (in virtual machines) only the kernel's clock is available.
    let output = Command::new("perf")
        .args([
            "record",
            "-q",
            "-e",
            "cpu-clock",
            "-F",
            FREQUENCY,
            "--call-graph",
            "dwarf,16384",
            "-p",
            &pid,
            "-o",
            &data,
        ])
        .args(["--", "sleep", &seconds.to_string()])
        .output()
        .context("run perf: `scripts/setup-bench router-flame` installs it")?;
    ensure!(
        output.status.success(),
        "perf record (is it permitted on this machine?): {}",
        String::from_utf8_lossy(&output.stderr)
    );
    load.join()
        .map_err(|_| anyhow::anyhow!("the load's thread panicked"))??;
    progress("   reading the samples");
    let output = Command::new("perf")
        .args(["script", "--no-inline", "-F", "ip,sym,dso", "-i", &data])
        .output()?;
    ensure!(
        output.status.success(),
        "perf script: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let profile = Profile::read(&String::from_utf8_lossy(&output.stdout));
    ensure!(profile.samples() > 0, "perf saw no sample");
    Ok(profile)
}

fn shares(what: &str, counts: &[(String, u64)], most: usize) -> Table {
    let total: u64 = counts.iter().map(|(_, count)| count).sum();
    let mut table = Table::new(&[what, "Share"]);
    for (name, count) in counts.iter().take(most) {
        table.row(&[
            format!("`{name}`"),
            format!("{:.1} %", *count as f64 / total as f64 * 100.0),
        ]);
    }
    table
}
