//! The built-in client: the cf CLI's grammar, output, exit codes and configuration file, called as `cupola cf …`.
//!
//! It uses the Cloud Controller, UAA and log-cache only through their public HTTP APIs and shares no type with the components.
//! [`args`] parses a command by the table of [`commands`], [`session`] holds the configuration and the login, [`api`] sends
//! requests, and [`ui`] writes. `push` is the only long sequence and has a module of its own. [`start`] and [`summary`] have what
//! `start`, `restart`, `restage` and `push` share.

mod args;
mod config;
mod session;
mod ui;
mod units;

mod api;

mod by_curl;
mod help;
mod names;
mod openssh;
mod propagation;
mod saved;
mod start;
mod summary;

mod commands;
mod push;

pub use saved::{Saved, saved};
pub use ui::Environment;

use std::process::ExitCode;

/// Runs one command with the process's environment and standard streams. `args` are the words that follow `cf`.
pub async fn run(args: Vec<String>) -> ExitCode {
    ExitCode::from(run_in(args, Environment::of_process()).await)
}

/// Runs one command in a given environment. Returns the exit code: 0, 1 for a failure, 22 for `curl --fail`.
pub async fn run_in(args: Vec<String>, environment: Environment) -> u8 {
    commands::run(args, environment).await
}
