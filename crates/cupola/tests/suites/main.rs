//! Attack and conformance suites against the real `cupola router`, from outside: raw bytes, real peers.
//!
//! The suites are the Python programs beside this file, because the independent HTTP/2 and WebSocket implementations against
//! which they compare ours are written in Python. Each prints its cases and counts; this program runs them in turn and reports
//! which failed. `cargo test --test suites -- NAME [arguments of the suite]` runs one. The output has libtest's form, because
//! scripts/run-tests reads it.

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
    // scripts/run-tests gives libtest's arguments when it runs a suite again.
    let mut rest: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !["--exact", "--test-threads=1"].contains(&argument.as_str()))
        .collect();
    let named = rest
        .iter()
        .take_while(|name| !name.starts_with('-'))
        .count();
    let only: Vec<String> = rest.drain(..named).collect();
    let Some(python) = python() else {
        eprintln!("suites: their Python is missing: run scripts/setup-tests through make test");
        return ExitCode::FAILURE;
    };
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/suites");
    let mut failed = Vec::new();
    let mut run = 0;
    for name in SUITES {
        if !only.is_empty() && !only.iter().any(|only| only == name) {
            continue;
        }
        run += 1;
        println!("\n== suite {name}");
        let started = Instant::now();
        let status = Command::new(&python)
            .arg("-B")
            .arg(folder.join(name).with_extension("py"))
            .args(["--cupola", env!("CARGO_BIN_EXE_cupola")])
            .args(&rest)
            .status();
        let passed = status.is_ok_and(|status| status.success());
        println!(
            "test {name} ... {} ({} s)",
            if passed { "ok" } else { "FAILED" },
            started.elapsed().as_secs()
        );
        if !passed {
            failed.push(*name);
        }
    }
    if !failed.is_empty() {
        println!("\nfailures:\n    {}", failed.join("\n    "));
    }
    println!(
        "\ntest result: {}. {} of {run} suites passed\n",
        if failed.is_empty() { "ok" } else { "FAILED" },
        run - failed.len(),
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
