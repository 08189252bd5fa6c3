//! Attack and conformance suites against the real `cupola router`, from outside: raw bytes, real peers.
//!
//! The suites are the Python programs beside this file, because the independent HTTP/2 and WebSocket implementations against
//! which they compare ours are written in Python. Each prints its cases and counts; this program runs them in turn and reports
//! which failed. `cargo test --test suites -- NAME [arguments of the suite]` runs one.

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Instant;

const SUITES: &[&str] = &[
    "smuggling",
    "http2",
    "floods",
    "slow",
    "websocket",
    "breadth",
    "proxied",
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (only, rest) = match arguments.split_first() {
        Some((name, rest)) if !name.starts_with('-') => (Some(name.as_str()), rest),
        _ => (None, &[][..]),
    };
    let Some(python) = python() else {
        eprintln!("suites: their Python is missing: run scripts/setup-tests through make test");
        return ExitCode::FAILURE;
    };
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/suites");
    let mut failed = Vec::new();
    let mut run = 0;
    for name in SUITES {
        if only.is_some_and(|only| only != *name) {
            continue;
        }
        run += 1;
        println!("\n== suite {name}");
        let started = Instant::now();
        let status = Command::new(&python)
            .arg("-B")
            .arg(folder.join(name).with_extension("py"))
            .args(["--cupola", env!("CARGO_BIN_EXE_cupola")])
            .args(rest)
            .status();
        let passed = status.is_ok_and(|status| status.success());
        println!(
            "== suite {name}: {} in {} s",
            if passed { "passed" } else { "FAILED" },
            started.elapsed().as_secs()
        );
        if !passed {
            failed.push(*name);
        }
    }
    println!(
        "\n{} of {run} suites passed{}",
        run - failed.len(),
        if failed.is_empty() {
            String::new()
        } else {
            format!("; failed: {}", failed.join(", "))
        }
    );
    if run > 0 && failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Returns the interpreter that scripts/setup-tests installed for the suites.
fn python() -> Option<PathBuf> {
    let cache = std::env::var_os("CUPOLA_CACHE").unwrap_or_else(|| "/var/cache/cupola".into());
    let python = PathBuf::from(cache).join("suites-venv/bin/python");
    python.exists().then_some(python)
}
