//! The programs that run inside containers, or beside them on the cell, in one small static binary.
//!
//! The name by which it is called, or the first argument, selects the program: `init` (PID 1), `shim` (the container's parent on
//! the cell) with its small helpers `enter`, `userns` and `user-limits`, `untar` and `tar` (files into and out of a container),
//! `builder`, `launcher`, `healthcheck`, `staticfile`, `diego-sshd` with its helpers `ssh-session`, `sftp-server` and
//! `scp`.

mod builder;
mod flags;
mod healthcheck;
mod init;
mod init_files;
mod launcher;
mod scp;
mod sftp;
mod shim;
mod sshd;
mod staticfile;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args: Vec<String> = std::env::args().collect();
    let called_by = args[0].rsplit('/').next().unwrap_or_default().to_owned();
    let program = if called_by == "inside" && args.len() > 1 {
        args.remove(1)
    } else {
        called_by
    };
    let args = &args[1..];
    match program.as_str() {
        "init" => init::main(),
        "shim" => shim::main(args),
        "enter" => shim::enter::main(args),
        "userns" => shim::userns::main(),
        "user-limits" => shim::userns::limits(args),
        "untar" => init_files::untar(args),
        "tar" => init_files::tar(args),
        "builder" => builder::main(args),
        "launcher" => launcher::main(args),
        "healthcheck" => healthcheck::main(args),
        "staticfile" => staticfile::main(args),
        "diego-sshd" => sshd::main(args),
        "ssh-session" => sshd::leader::main(args),
        "sftp-server" => sftp::main(),
        "scp" => scp::main(args),
        other => {
            eprintln!(
                "inside: unknown program {other:?}; expected init, shim, builder, launcher, healthcheck, staticfile or diego-sshd"
            );
            ExitCode::from(2)
        }
    }
}
