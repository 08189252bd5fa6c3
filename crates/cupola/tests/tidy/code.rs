//! Rules for the code itself: where `unsafe` is allowed, what must not panic, and where transactions are begun.

use crate::report;
use crate::workspace;

/// The keyword. Its quotes keep this line from counting as a use.
const KEYWORD: &str = "unsafe";

#[test]
fn unsafe_stays_in_garden() {
    let mut problems = Vec::new();
    for source in workspace::sources() {
        let uses = source
            .code()
            .any(|line| line.split_whitespace().any(|word| word == KEYWORD));
        if uses && !["garden", "inside"].contains(&&*source.krate) {
            problems.push(format!(
                "{} uses {KEYWORD}: only garden and inside may; use a function of nix or rustix",
                source.path
            ));
        }
    }
    report(&problems);
}

/// Tests that no code uses macros that panic when their output is closed, as for a command that `head` has left or a process
/// whose terminal is gone.
#[test]
fn output_never_panics() {
    let mut problems = Vec::new();
    for source in workspace::sources().iter().filter(|s| !s.is_test()) {
        // The benchmarks are a tool of ours; `inside` writes to the app's own log.
        if ["bench", "inside"].contains(&&*source.krate) {
            continue;
        }
        for name in ["print", "println", "eprint", "eprintln"] {
            let call = format!("{name}!(");
            let calls = source.code().any(|code| {
                code.split(|c: char| !(c.is_ascii_alphanumeric() || "_!(".contains(c)))
                    .any(|word| word.starts_with(&call))
            });
            if calls {
                problems.push(format!(
                    "{} uses {name}!: write to the stream, and handle the error",
                    source.path
                ));
            }
        }
    }
    report(&problems);
}

/// Tests that transactions are begun only in the kit. A transaction that is begun elsewhere leaves its connection in an unknown
/// state when the disk is full.
#[test]
fn transactions_are_the_kit_s() {
    let begins = [
        "begin_with(",
        "pool.begin()",
        "connection.begin()",
        "conn.begin()",
    ];
    let mut problems = Vec::new();
    for source in workspace::sources().iter().filter(|s| !s.is_test()) {
        let found = begins.iter().find(|begin| source.text.contains(**begin));
        if let Some(begin) = found.filter(|_| source.krate != "kit") {
            problems.push(format!(
                "{} calls {begin}: use kit::db::Database::begin",
                source.path
            ));
        }
    }
    report(&problems);
}

/// Tests that the kit's code names no component of Cloud Foundry, and not this program. Comments may name an example.
#[test]
fn the_kit_knows_no_cloud_foundry() {
    const NAMES: &[&str] = &[
        "buildpack",
        "bbs",
        "cupola",
        "diego",
        "droplet",
        "envoy",
        "garden",
        "gorouter",
        "nats",
        "spiffe",
        "uaa",
    ];
    let mut problems = Vec::new();
    let kit = workspace::sources().iter().filter(|s| s.krate == "kit");
    for source in kit.filter(|s| !s.is_test()) {
        for line in source.code() {
            let lower = line.to_lowercase();
            let mut words = lower.split(|c: char| !c.is_ascii_alphanumeric());
            if let Some(name) = words.find(|word| NAMES.contains(word)) {
                problems.push(format!(
                    "{} names {name}: move what knows it to the crate that owns it, and pass a value to the kit",
                    source.path
                ));
            }
        }
    }
    report(&problems);
}

/// Tests that no crate compiles a file of another crate. Such an arrow is in no `Cargo.toml`.
#[test]
fn no_path_leads_over_a_crate_s_wall() {
    let mut problems = Vec::new();
    for source in workspace::sources() {
        for line in source.code().map(str::trim) {
            let Some(path) = line.strip_prefix("#[path = \"") else {
                continue;
            };
            // `crates/a/src/b.rs` has two folders of its crate above it.
            let below = source.path.split('/').count() - 3;
            let up = path.split('/').take_while(|part| *part == "..").count();
            if up > below {
                problems.push(format!(
                    "{} compiles {path}: make it a crate, or a module of testkit",
                    source.path
                ));
            }
        }
    }
    report(&problems);
}
