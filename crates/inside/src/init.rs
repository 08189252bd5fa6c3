//! PID 1 of a container: reaps orphans and passes TERM on. It starts nothing: crun puts processes into the container
//! from outside, and the shim, their parent there, sees their exits.

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
            // Everybody but ourselves; they end, we stay until the kernel's KILL.
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
