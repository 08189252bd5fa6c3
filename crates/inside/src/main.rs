//! The programs that run inside containers, or beside them on the cell, in one small static binary.
//!
//! Which one runs is said by the name it was called by, or by the first argument: `init` (PID 1), `shim` (the
//! container's parent on the cell), `builder`, `launcher`, `healthcheck`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args: Vec<String> = std::env::args().collect();
    let called_by = args[0].rsplit('/').next().unwrap_or_default().to_owned();
    let program = if called_by == "inside" && args.len() > 1 { args.remove(1) } else { called_by };
    match program.as_str() {
        other => {
            eprintln!("inside: unknown program {other:?}; want init, shim, builder, launcher or healthcheck");
            ExitCode::from(2)
        }
    }
}
