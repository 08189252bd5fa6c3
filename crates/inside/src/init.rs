//! PID 1 of a container: reaps orphans and forwards TERM. It starts nothing: crun starts processes in the container from outside,
//! and the shim, which is their parent there, receives their exits.

use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::process::ExitCode;

pub(crate) fn main() -> ExitCode {
    let signals = SigSet::all();
    if signals.thread_block().is_err() {
        return ExitCode::FAILURE;
    }
    loop {
        match signals.wait() {
            // This signals all other processes. They end, and init stays until it is killed.
            Ok(Signal::SIGTERM) => drop(kill(Pid::from_raw(-1), Signal::SIGTERM)),
            Ok(_) => reap(),
            Err(_) => {}
        }
    }
}

fn reap() {
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            break;
        }
    }
}
