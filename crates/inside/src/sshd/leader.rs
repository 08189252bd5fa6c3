//! `ssh-session [terminal] -- PROGRAM ARGS…` makes itself the leader of a new session, takes its standard input as the controlling
//! terminal if it is one, and executes the program.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

pub(crate) fn main(args: &[String]) -> ExitCode {
    let error = match start(args) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    eprintln!("ssh-session: {error}");
    ExitCode::FAILURE
}

fn start(args: &[String]) -> Result<std::convert::Infallible, String> {
    let middle = args.iter().position(|arg| arg == "--");
    let (own, program) = args.split_at(middle.ok_or("no program")?);
    let Some((program, rest)) = program[1..].split_first() else {
        return Err("no program".into());
    };
    nix::unistd::setsid().map_err(|error| format!("begin a session: {error}"))?;
    if own.iter().any(|arg| arg == "terminal") {
        rustix::process::ioctl_tiocsctty(std::io::stdin())
            .map_err(|error| format!("take the terminal: {error}"))?;
    }
    Err(format!(
        "execute {program}: {}",
        Command::new(program).args(rest).exec()
    ))
}
