//! The programs that run inside containers, or beside them on the cell, in one small static binary.
//!
//! Which one runs is said by the name it was called by, or by the first argument: `init` (PID 1), `shim` (the
//! container's parent on the cell), `builder`, `launcher`, `healthcheck`, `staticfile`.

mod builder;
mod flags;
mod healthcheck;
mod launcher;
mod staticfile;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args: Vec<String> = std::env::args().collect();
    let called_by = args[0].rsplit('/').next().unwrap_or_default().to_owned();
    let program = if called_by == "inside" && args.len() > 1 { args.remove(1) } else { called_by };
    match program.as_str() {
        "builder" => builder::main(&args[1..]),
        "launcher" => launcher::main(&args[1..]),
        "healthcheck" => healthcheck::main(&args[1..]),
        "staticfile" => staticfile::main(&args[1..]),
        other => {
            eprintln!("inside: unknown program {other:?}; want init, shim, builder, launcher, healthcheck or staticfile");
            ExitCode::from(2)
        }
    }
}
