//! `enter CGROUP_PROCS… -- PROGRAM ARGS…` executes the program within the cgroups. Processes that it starts are in the same
//! cgroups.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

pub(crate) fn main(args: &[String]) -> ExitCode {
    let Some(middle) = args.iter().position(|arg| arg == "--") else {
        eprintln!("usage: enter CGROUP_PROCS... -- PROGRAM ARGS...");
        return ExitCode::from(2);
    };
    for file in &args[..middle] {
        if let Err(error) = std::fs::write(file, "0") {
            eprintln!("enter: join {file}: {error}");
            return ExitCode::FAILURE;
        }
    }
    let Some((program, rest)) = args[middle + 1..].split_first() else {
        eprintln!("enter: no program");
        return ExitCode::from(2);
    };
    let error = Command::new(program).args(rest).exec();
    eprintln!("enter: execute {program}: {error}");
    ExitCode::FAILURE
}
