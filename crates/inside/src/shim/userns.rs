//! `userns`: holds a new user namespace open until its stdin ends, for somebody who needs one to map ids with.

use nix::sched::{CloneFlags, unshare};
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
