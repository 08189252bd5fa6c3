//! The sections of `make bench`, in the order in which they run.

mod cpu;
mod databases;
mod envelopes;
mod flame;
mod foundation;
mod http2;
mod latency;
mod logs;
mod memory;
mod propagation;
mod receipts;
mod reregistration;
mod services;
mod websockets;

use crate::Programs;
use crate::peers::Scheme;
use crate::rig::{Effort, Rig};
use anyhow::{Result, bail, ensure};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

/// The results that later sections use from earlier ones of the same run: HAProxy's requests per second at saturation.
pub(crate) type Saturation = HashMap<Scheme, f64>;

enum Section {
    /// A section that measures one router or proxy and returns Markdown.
    Router(fn(&Rig, &mut Saturation) -> Result<String>),
    Foundation(fn(Effort) -> Result<String>),
    /// A section that writes files beside the report. It runs only when it is requested.
    Profile(fn(&Rig, &Path) -> Result<String>),
}

const SECTIONS: &[(&str, Section)] = &[
    ("router-cpu", Section::Router(cpu::run)),
    ("router-envelopes", Section::Router(envelopes::run)),
    ("router-http2", Section::Router(http2::run)),
    ("router-latency", Section::Router(latency::run)),
    ("router-memory", Section::Router(memory::run)),
    ("router-propagation", Section::Router(propagation::run)),
    (
        "router-reregistration",
        Section::Router(reregistration::run),
    ),
    ("router-receipts", Section::Router(receipts::run)),
    ("router-websockets", Section::Router(websockets::run)),
    ("foundation", Section::Foundation(foundation::run)),
    ("logs", Section::Foundation(logs::run)),
    ("databases", Section::Foundation(databases::run)),
    ("services", Section::Foundation(services::run)),
    ("router-flame", Section::Profile(flame::run)),
];

pub(crate) fn run(
    only: &[String],
    effort: Effort,
    programs: &Programs,
    report: &Path,
) -> Result<()> {
    let names: Vec<&str> = SECTIONS.iter().map(|(name, _)| *name).collect();
    for name in only {
        ensure!(
            names.contains(&name.as_str()),
            "there is no section {name:?}; there are: {}",
            names.join(", ")
        );
    }
    let mut text = machine(effort)?;
    println!("{text}");
    let mut saturation = Saturation::new();
    let mut rig = None;
    let mut failed = Vec::new();
    for (name, section) in SECTIONS {
        let wanted = match section {
            Section::Profile(_) => only.iter().any(|o| o == name),
            _ => only.is_empty() || only.iter().any(|o| o == name),
        };
        if !wanted {
            continue;
        }
        progress(&format!("== {name}"));
        let began = Instant::now();
        let result = match section {
            Section::Foundation(run) => run(effort),
            Section::Router(run) => {
                shared(&mut rig, programs, effort).and_then(|rig| run(rig, &mut saturation))
            }
            Section::Profile(run) => {
                let folder = report.parent().unwrap_or(Path::new("."));
                shared(&mut rig, programs, effort).and_then(|rig| run(rig, folder))
            }
        };
        let part = result.unwrap_or_else(|error| {
            failed.push(*name);
            format!("This section failed: {error:#}")
        });
        let part = format!("\n## {name}\n\n{part}\n");
        println!("{part}");
        text.push_str(&part);
        std::fs::write(report, &text)?;
        progress(&format!(
            "== {name} took {:.0} s",
            began.elapsed().as_secs_f64()
        ));
    }
    progress(&format!("== the tables are in {}", report.display()));
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

fn shared<'a>(rig: &'a mut Option<Rig>, programs: &Programs, effort: Effort) -> Result<&'a Rig> {
    Ok(match rig {
        Some(rig) => rig,
        None => rig.insert(Rig::new(programs, effort)?),
    })
}

/// Returns the order of the peers in a round. Each round begins with another peer, and every other round goes backwards: so no peer
/// always follows the same one, whose last work may disturb it.
fn order(round: usize, peers: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..peers).map(|step| (step + round) % peers).collect();
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

pub(crate) fn progress(line: &str) {
    eprintln!("{line}");
}

/// Describes the machine and its load: figures of a busy machine are not results.
fn machine(effort: Effort) -> Result<String> {
    let read = |path: &str| std::fs::read_to_string(path);
    let cpus = read("/proc/cpuinfo")?;
    let model = cpus.lines().find(|line| line.starts_with("model name"));
    let model = model
        .and_then(|line| line.split_once(": "))
        .map_or("?", |(_, name)| name);
    let load = read("/proc/loadavg")?;
    let load: f64 = load.split(' ').next().unwrap_or_default().parse()?;
    let mut text = format!(
        "{} × {model}, Linux {}, load before the run {load:.2}, {} round(s).\n",
        std::thread::available_parallelism()?,
        read("/proc/sys/kernel/osrelease")?.trim(),
        effort.rounds
    );
    if load > 0.5 {
        let _ = write!(
            text,
            "\n**The machine was not quiet: these figures are no results.**\n"
        );
    }
    if effort.rounds == 1 {
        let _ = write!(text, "\n**A quick run: these figures are no results.**\n");
    }
    Ok(text)
}
