//! `userns` holds a new user namespace open until its stdin ends, for a process that needs one to map ids. `user-limits PID
//! NAME=VALUE…` sets values under /proc/sys/user for the user namespace of a process.

use nix::sched::{CloneFlags, setns, unshare};
use std::fs::File;
use std::io::{Read, Write};
use std::process::ExitCode;

pub(crate) fn main() -> ExitCode {
    if let Err(error) = unshare(CloneFlags::CLONE_NEWUSER) {
        eprintln!(
            "userns: {error}; are user namespaces allowed (sysctl user.max_user_namespaces)?"
        );
        return ExitCode::FAILURE;
    }
    println!("ready");
    let _ = std::io::stdout().flush();
    let _ = std::io::stdin().read(&mut [0]);
    ExitCode::SUCCESS
}

pub(crate) fn limits(args: &[String]) -> ExitCode {
    let Some((pid, settings)) = args.split_first() else {
        eprintln!("usage: user-limits PID NAME=VALUE...");
        return ExitCode::from(2);
    };
    let entered = File::open(format!("/proc/{pid}/ns/user"))
        .and_then(|namespace| Ok(setns(namespace, CloneFlags::CLONE_NEWUSER)?));
    if let Err(error) = entered {
        eprintln!("user-limits: enter the user namespace of process {pid}: {error}");
        return ExitCode::FAILURE;
    }
    for setting in settings {
        let Some((name, value)) = setting.split_once('=') else {
            eprintln!("user-limits: {setting:?}: expected NAME=VALUE");
            return ExitCode::from(2);
        };
        let file = format!("/proc/sys/user/{name}");
        match std::fs::write(&file, value) {
            Ok(()) => {}
            // A kernel without this kind of object cannot run out of it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                eprintln!("user-limits: set {file} to {value}: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
